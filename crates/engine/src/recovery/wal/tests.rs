//! What is read of WAL, and what is not.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Scanned, TransactionEnd, WalView,
    view::{page_beyond, restore},
};
use crate::backup::{Repository, fixture::segment_bytes, wal::SegmentState};
use cdc_model::units::{IfThere, Lsn, SystemId, Timeline};
use cdc_pipeline::config::Tools;
use cdc_postgres::wal::{PAGE, SegmentName, SegmentSize, WalFile};

fn page(address: u64) -> Vec<u8> {
    let mut page = vec![0u8; PAGE];
    page[0..2].copy_from_slice(&0xD118u16.to_le_bytes());
    page[4..8].copy_from_slice(&1u32.to_le_bytes());
    page[8..16].copy_from_slice(&address.to_le_bytes());
    page
}

#[test]
fn a_segment_that_cannot_be_read_is_not_left_out() {
    let home = tempfile::tempdir().unwrap();
    let home = Utf8Path::from_path(home.path()).unwrap();
    let archive = Repository::init(&home.join("repository")).unwrap().archive(SystemId(7));
    let pg_wal = home.join("pg_wal");
    fs_err::create_dir(&pg_wal).unwrap();
    let size = SegmentSize::new(1 << 20).unwrap();
    let open = || WalView::open(archive.clone(), size, &Tools::here("/bin".into()), std::slice::from_ref(&pg_wal));
    fs_err::write(pg_wal.join("000000010000000000000001"), "no header").unwrap();
    assert!(open().unwrap().loose().is_empty());
    let looped = pg_wal.join("000000010000000000000002");
    std::os::unix::fs::symlink(&looped, &looped).unwrap();
    let error = open().unwrap_err().to_string();
    assert!(error.contains(looped.as_str()), "{error}");
}

#[test]
fn a_segment_that_a_recovery_has_left_is_none_of_the_new_timeline() {
    let home = tempfile::tempdir().unwrap();
    let home = Utf8Path::from_path(home.path()).unwrap();
    let archive = Repository::init(&home.join("repository")).unwrap().archive(SystemId(7));
    let pg_wal = home.join("pg_wal");
    fs_err::create_dir(&pg_wal).unwrap();
    let size = SegmentSize::new(1 << 20).unwrap();
    let put = |timeline: u32, named: u32, number: u64| {
        let name = SegmentName::new(Timeline::literal(timeline), number, size);
        let bytes = segment_bytes(SystemId(7), size, name, 1);
        let name = SegmentName::new(Timeline::literal(named), number, size);
        fs_err::write(pg_wal.join(name.to_string()), bytes).unwrap();
        name
    };
    // Timeline 2 leaves timeline 1 within segment 5, which begins with the pages of timeline 1. Segment 6 of timeline 1 was there
    // already, and the server has renamed it to use it again.
    fs_err::write(pg_wal.join("00000002.history"), "1\t0/500650\tno recovery target\n").unwrap();
    let (fork, _recycled) = (put(1, 2, 5), put(1, 2, 6));
    let own = put(2, 2, 7);
    let view = WalView::open(archive, size, &Tools::here("/bin".into()), std::slice::from_ref(&pg_wal)).unwrap();
    assert_eq!(view.loose().keys().collect::<Vec<_>>(), [&fork, &own]);
}

#[test]
fn an_archived_segment_that_is_gone_meanwhile_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let home = Utf8Path::from_path(home.path()).unwrap();
    let archive = Repository::init(&home.join("repository")).unwrap().archive(SystemId(7));
    let name = SegmentName::new(Timeline::FIRST, 3, SegmentSize::new(1 << 20).unwrap());
    let error = restore(&archive, &WalFile::Segment(name), &home.join("to")).unwrap_err();
    assert!(error.to_string().contains(&name.to_string()), "{error}");
}

#[test]
fn wal_beyond_the_end_is_seen_and_old_pages_are_not() {
    let start = 0x500_0000u64;
    let mut bytes: Vec<u8> = Vec::new();
    for i in 0..128 {
        // The second half was written for an earlier segment.
        let base = if i < 64 { start } else { start - 0x300_0000 };
        bytes.extend(page(base + i * PAGE as u64));
    }
    let beyond = |timeline, pages: u64| {
        page_beyond(&bytes, Timeline::literal(timeline), Lsn(start), Lsn(start + pages * PAGE as u64 + 40))
    };
    assert_eq!(beyond(1, 63), None);
    assert_eq!(beyond(1, 10), Some(Lsn(start + 12 * PAGE as u64)));
    assert_eq!(beyond(2, 10), None, "they were written on a timeline that a recovery has left");
}

/// Shows the records that stand as lines in its segments, as far as they end in the last one, and notes how many files there are.
const WALDUMP: &str = r#"#!/bin/sh
folder=$2
from=$4
eval "last=\$$#"
eval "first=\$$(($# - 1))"
ls "$folder" | wc -l >> "$0.files"
cd "$folder" && ls | LC_ALL=C awk -v first="$first" -v last="$last" '$0 >= first && $0 <= last' | xargs cat | tr -d '\000' |
LC_ALL=C awk -v last="$last" -v from="$from" '
    /^needs/ {
        if (!seen++ && from ~ /1$/) { split($0, part, "lsn: "); sub(/,.*/, "", part[2]); print "first record is after " from ", at " part[2] ", skipping over 1 byte" }
        if ($2 > last) exit
        $1 = ""; $2 = ""; print
    }'
"#;

/// Shows the lines of `records.txt` that lie in its segments (of 1 MiB, in the first 4 GiB), and notes which segments these are.
const OF_RECORDS: &str = r#"#!/bin/sh
eval "last=\$$#"
eval "first=\$$(($# - 1))"
from=$(printf '%08X' "0x${4#0/}")
echo "$first $last" >> "$0.read"
case "$*" in *--rmgr=XLOG*) manager="rmgr: XLOG";; *) manager="rmgr: Transaction";; esac
grep "$manager" "$0.records" | awk -v first="${first#000000010000000000000}" -v last="${last#000000010000000000000}" -v from="$from" '
{ split($0, part, "lsn: 0/"); at = substr(part[2], 1, 3) }
at >= first && at <= last && substr(part[2], 1, 8) >= from { print }'
"#;

#[tokio::test]
async fn what_was_noted_of_segments_chooses_those_that_are_read() {
    let home = tempfile::tempdir().unwrap();
    let home = Utf8Path::from_path(home.path()).unwrap();
    let fixtures = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wal/18");
    let program = home.join("pg_waldump");
    fs_err::write(&program, OF_RECORDS).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs_err::copy(fixtures.join("records.txt"), format!("{program}.records")).unwrap();
    let repository = Repository::init(&home.join("repository")).unwrap();
    let mut archive = None;
    for number in 7..12u64 {
        let size = SegmentSize::new(1 << 20).unwrap();
        let file = home.join(SegmentName::new(Timeline::FIRST, number, size).to_string());
        let stored = fs_err::File::open(fixtures.join(format!("{}.zst", file.file_name().unwrap()))).unwrap();
        let bytes = zstd::decode_all(stored).unwrap();
        let header = cdc_postgres::wal::SegmentHeader::parse(bytes.first_chunk().unwrap()).unwrap();
        fs_err::write(&file, bytes).unwrap();
        let to = archive.get_or_insert_with(|| repository.archive(header.system_id));
        to.add_segment(&file, SegmentState::Complete).unwrap();
    }
    let size = SegmentSize::new(1 << 20).unwrap();
    let mut view = WalView::open(archive.unwrap(), size, &Tools::here(home), &[]).unwrap();
    let read = || {
        let path = Utf8PathBuf::from(format!("{program}.read"));
        let read = std::fs::read_to_string(&path).if_there().unwrap().unwrap_or_default();
        std::fs::remove_file(&path).if_there().unwrap();
        read.replace("000000010000000000000", "").lines().map(str::to_owned).collect::<Vec<_>>()
    };

    let (ends, scanned) = view.ends(Timeline::FIRST, Lsn(0), 764).await.unwrap();
    assert!(matches!(ends.as_slice(), [TransactionEnd::Committed(at)] if at.at == Lsn(0x87_2F30)), "{ends:?}");
    assert_eq!((scanned, read()), (Scanned::All, vec!["008 008".to_owned()]));
    let (ends, _) = view.ends(Timeline::FIRST, Lsn(0), 758).await.unwrap();
    assert_eq!(ends, [TransactionEnd::RolledBack(Lsn(0x83_BDC0))], "a subtransaction of one that is kept");
    read();
    let (marks, _) = view.marks(Timeline::FIRST, Lsn(0)).await.unwrap();
    let names: Vec<&str> = marks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, read()), (vec!["before: it", "zwei", "third"], vec!["008 008".into(), "00A 00A".into()]));
    assert!(view.ends(Timeline::FIRST, Lsn(0), 5000).await.unwrap().0.is_empty());
    assert_eq!(read(), [""; 0], "nothing is read for what is nowhere");

    // All are noted, but those of the segment in which the stretch begins or ends.
    let count = async |from, to| view.count_commits(Timeline::FIRST, Lsn(from), to).await.unwrap().0;
    let all = count(0, None).await;
    let ends = all.ends.map(|(first, last)| (first.xid, last.xid, last.at));
    assert_eq!((all.count, ends), (21, Some((Some(744), Some(770), Lsn(0xB0_00A8)))));
    assert_eq!(read(), [""; 0]);
    let some = count(0x87_2F30, Some(Lsn(0xA9_ED50))).await;
    assert_eq!(some.count, 2 + 1, "764, 766 and 767");
    assert_eq!(read(), ["008 008", "00A 00A"]);
    let time = "2026-11-27T12:38:16.437379Z".parse().unwrap();
    let mut around = Vec::new();
    let scanned = view.commits_around(Timeline::FIRST, Lsn(0), time, |commit| {
        around.push(commit.xid.unwrap());
        commit.time <= time
    });
    assert_eq!(scanned.await.unwrap(), Scanned::Stopped);
    assert_eq!(
        (around.last(), around.contains(&768), read()),
        (Some(&769), true, vec!["008 008".into(), "00A 00B".into()])
    );

    // Of one that two archivers stored, or an older release, nothing is known: it is read.
    view.held.clear();
    assert_eq!(view.count_commits(Timeline::FIRST, Lsn(0), None).await.unwrap().0, all);
    assert!(!read().is_empty());
}

/// Where `pg_waldump` says where the first record starts: on standard output up to PostgreSQL 15, as 18 does later.
const SKIPPED: (&str, &str) = ("print \"first", "print \"pg_waldump: first");
const BYTE: (&str, &str) = ("1 byte\" }", "1 byte\" > \"/dev/stderr\" }");

#[rstest::rstest]
#[case::as_postgresql_15_prints_it(WALDUMP.to_owned())]
#[case::as_postgresql_18_prints_it(WALDUMP.replace(SKIPPED.0, SKIPPED.1).replace(BYTE.0, BYTE.1))]
#[tokio::test]
async fn a_stretch_of_any_length_is_read_by_a_window_of_segments(#[case] waldump: String) {
    let home = tempfile::tempdir().unwrap();
    let home = Utf8Path::from_path(home.path()).unwrap();
    let size = SegmentSize::new(1 << 20).unwrap();
    let archive = Repository::init(&home.join("repository")).unwrap().archive(SystemId(7));
    let program = home.join("pg_waldump");
    fs_err::write(&program, waldump).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut expected = Vec::new();
    // A record, and where it ends. One that begins in 5 goes on to 8, and nothing begins between; 12 is lost.
    let records = [(3, 3), (4, 4), (5, 5), (5, 8), (8, 9), (9, 9), (10, 10), (11, 11), (13, 13), (14, 14)];
    for number in (3..15).filter(|number| *number != 12) {
        let name = SegmentName::new(Timeline::FIRST, number, size);
        let mut bytes = segment_bytes(SystemId(7), size, name, 0);
        let mut at = 64;
        for (offset, (_, end)) in records.iter().enumerate().filter(|(_, (begin, _))| *begin == number) {
            let lsn = Lsn(size.start(number).0 + 0x100 * (1 + offset as u64));
            let needs = SegmentName::new(Timeline::FIRST, *end, size);
            let line = format!(
                "\nneeds {needs} rmgr: Transaction len: 46, tx: 7, lsn: {lsn}, desc: COMMIT 2026-11-22 20:{number:02}:00.000000 UTC\n"
            );
            bytes[at..at + line.len()].copy_from_slice(line.as_bytes());
            at += line.len();
            expected.push(lsn);
        }
        let file = home.join(name.to_string());
        fs_err::write(&file, bytes).unwrap();
        archive.add_segment(&file, SegmentState::Complete).unwrap();
    }
    let mut view = WalView::open(archive, size, &Tools::here(home), &[]).unwrap();
    view.width = 3;
    let mut seen = Vec::new();
    let scanned = view.commits(Timeline::FIRST, Lsn(0), |commit| {
        seen.push(commit.at);
        true
    });
    let Scanned::Unread(why) = scanned.await.unwrap() else { panic!("a segment is missing") };
    assert!(why.contains("00000001000000000000000C is missing"), "{why}");
    assert_eq!(seen, expected[..8], "each once, in their order");
    let files = fs_err::read_to_string(format!("{program}.files")).unwrap();
    let most = files.lines().map(|line| line.trim().parse::<usize>().unwrap()).max();
    assert_eq!(most, Some(6), "three at a time, and six for the record that needs more: {files}");
    let mut after = Vec::new();
    let scanned = view.commits(Timeline::FIRST, size.start(13), |commit| {
        after.push(commit.at);
        after.len() < 2
    });
    assert_eq!((scanned.await.unwrap(), after.as_slice()), (Scanned::Stopped, &expected[8..]));
    // A position between two records is nothing that cannot be read.
    let scanned = view.commits(Timeline::FIRST, Lsn(size.start(13).0 + 1), |_| true);
    assert_eq!(scanned.await.unwrap(), Scanned::All);
}
