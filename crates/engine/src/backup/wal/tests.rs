//! An archive in a folder, without any server.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{head::Head, *};
use crate::backup::{
    BackupError, Format, Repository,
    fixture::{self, SYSTEM},
};
use cdc_model::units::{Exit, Failure, Lsn, SystemId, Timeline};
use cdc_postgres::wal::{SegmentName, TimelineHistory};
use rstest::rstest;

struct Cluster {
    _folder: tempfile::TempDir,
    root: Utf8PathBuf,
    repository: Repository,
}

fn cluster(format: Format) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let repository = Repository::init_as(&root.join("repository"), format).unwrap();
    fs::create_dir_all(root.join("data/pg_wal")).unwrap();
    fs::create_dir_all(root.join("data/global")).unwrap();
    fs::write(root.join("data/global/pg_control"), SYSTEM.0.to_le_bytes()).unwrap();
    Cluster { _folder: folder, root, repository }
}

impl Cluster {
    fn write(&self, name: &str, bytes: &[u8]) -> Utf8PathBuf {
        let path = Utf8PathBuf::from("pg_wal").join(name);
        fs::write(self.root.join("data").join(&path), bytes).unwrap();
        path
    }

    fn segment(&self, timeline: u32, number: u64, fill: u8) -> (Utf8PathBuf, Vec<u8>) {
        let name = SegmentName::new(Timeline::literal(timeline), number, fixture::size());
        let bytes = fixture::segment_bytes(SYSTEM, fixture::size(), name, fill);
        (self.write(&name.to_string(), &bytes), bytes)
    }

    fn push(&self, path: &Utf8Path) -> Result<Pushed, BackupError> {
        push(&self.repository, &self.root.join("data"), path, default_workers())
    }

    fn fetch(&self, name: &str) -> Result<(Fetched, Option<Vec<u8>>), BackupError> {
        let to = self.root.join("data/pg_wal/RECOVERYXLOG");
        let _ = fs::remove_file(&to);
        let fetched = fetch(&self.repository, SYSTEM, name, &to, None)?;
        Ok((fetched, fs::read(&to).ok()))
    }

    fn archive(&self) -> Archive {
        self.repository.archive(SYSTEM)
    }

    /// Where a file of this name is archived.
    fn held(&self, name: &str) -> Utf8PathBuf {
        self.archive().find(&name.parse().unwrap()).unwrap().unwrap().path
    }
}

#[rstest]
fn what_is_pushed_is_fetched_byte_for_byte(#[values(Format::One, Format::Two)] format: Format) {
    let c = cluster(format);
    let (path, bytes) = c.segment(1, 7, 9);
    assert_eq!(c.push(&path).unwrap(), Pushed::Stored);
    assert_eq!(c.push(&path).unwrap(), Pushed::AlreadyThere);
    assert_eq!(c.fetch(path.file_name().unwrap()).unwrap(), (Fetched::Placed, Some(bytes)));
    let left = fixture::tree(c.archive().folder());
    match format {
        Format::One => {
            let lines = fs::read_to_string(c.archive().folder().join("00000001/index.jsonl")).unwrap();
            assert_eq!(lines.lines().count(), 1, "the same file again adds no line");
            assert_eq!(left, ["00000001/000000010000000000000007.zst", "00000001/index.jsonl"], "no temporary files");
        }
        Format::Two => {
            assert_eq!(left.len(), 2, "no temporary files: {left:?}");
            assert!(left[0].starts_with("00000001/00000000/000000010000000000000007-"), "{left:?}");
            assert_eq!(left[1], "head.json");
        }
    }
}

#[rstest]
fn other_content_under_a_known_name_is_refused_and_nothing_overwritten(
    #[values(Format::One, Format::Two)] format: Format,
) {
    let c = cluster(format);
    let (path, bytes) = c.segment(1, 7, 9);
    c.push(&path).unwrap();
    c.segment(1, 7, 10);
    let error = c.push(&path).unwrap_err();
    assert!(matches!(error, BackupError::WalConflict { .. }), "{error}");
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(c.fetch(path.file_name().unwrap()).unwrap().1, Some(bytes));
}

#[rstest]
fn the_other_kinds_of_files_are_kept_beside(#[values(Format::One, Format::Two)] format: Format) {
    let c = cluster(format);
    let history = c.write("00000002.history", b"1\t0/300000\tno recovery target specified\n");
    let label = c.write("000000010000000000000007.00000028.backup", b"START WAL LOCATION: 0/700028\n");
    for path in [&history, &label] {
        assert_eq!(c.push(path).unwrap(), Pushed::Stored);
        assert_eq!(c.push(path).unwrap(), Pushed::AlreadyThere);
        assert_eq!(c.fetch(path.file_name().unwrap()).unwrap().0, Fetched::Placed);
    }
    assert_eq!(c.archive().history(Timeline::literal(2)).unwrap().begin(), Lsn(0x300000));
    assert_eq!(c.archive().history_files().unwrap().into_keys().collect::<Vec<_>>(), [Timeline::literal(2)]);
}

#[rstest]
fn a_partial_segment_answers_only_to_its_own_name(#[values(Format::One, Format::Two)] format: Format) {
    let c = cluster(format);
    let name = SegmentName::new(Timeline::literal(1), 7, fixture::size());
    let path = c.write(&format!("{name}.partial"), &fixture::segment_bytes(SYSTEM, fixture::size(), name, 1));
    c.push(&path).unwrap();
    assert_eq!(c.fetch(&name.to_string()).unwrap().0, Fetched::NotThere);
    assert_eq!(c.fetch(&format!("{name}.partial")).unwrap().0, Fetched::Placed);
    assert_eq!(c.archive().segments(Timeline::literal(1)).unwrap(), BTreeSet::new());
}

#[rstest]
fn files_that_are_not_this_clusters_are_refused(#[values(Format::One, Format::Two)] format: Format) {
    let c = cluster(format);
    let name = SegmentName::new(Timeline::literal(1), 7, fixture::size());
    let stranger =
        c.write(&name.to_string(), &fixture::segment_bytes(SystemId(SYSTEM.0 + 1), fixture::size(), name, 1));
    assert!(c.archive().add_segment(&c.root.join("data").join(stranger), SegmentState::Complete).is_err());
    let recycled = c.write("000000010000000000000009", &fixture::segment_bytes(SYSTEM, fixture::size(), name, 1));
    assert!(c.push(&recycled).unwrap_err().to_string().contains("its name"), "a recycled segment holds old WAL");
    assert!(c.push(&c.write("passwd", b"")).is_err());
    assert!(c.fetch("../../../FORMAT").is_err());
}

#[rstest]
fn missing_is_an_answer_and_damage_an_error(#[values(Format::One, Format::Two)] format: Format) {
    let c = cluster(format);
    assert_eq!(c.fetch("000000010000000000000001").unwrap(), (Fetched::NotThere, None));
    let (path, _) = c.segment(1, 7, 9);
    c.push(&path).unwrap();
    let name = path.file_name().unwrap();
    fixture::flip(&c.held(name));
    assert_eq!(c.fetch(name).unwrap_err().exit(), Exit::ChecksumMismatch);
    assert_eq!(fixture::tree(&c.root.join("data/pg_wal")), [name], "nothing half-written is left");
    let other = c.segment(1, 7, 10).0;
    if format == Format::One {
        assert_eq!(c.push(&other).unwrap_err().exit(), Exit::ChecksumMismatch, "a damaged copy gives way to no other");
    }
    let (path, bytes) = c.segment(1, 7, 9);
    assert_eq!(c.push(&path).unwrap(), Pushed::Stored, "it gives way to the original");
    assert_eq!(c.fetch(path.file_name().unwrap()).unwrap().1, Some(bytes));
}

/// Links that lead to themselves cannot be followed, by root neither: what is behind them is not known.
fn make_unreadable(path: &Utf8Path) {
    if path.is_dir() {
        fs::rename(path, path.with_extension("away")).unwrap();
    } else {
        let _ = fs::remove_file(path);
    }
    std::os::unix::fs::symlink(path, path).unwrap();
}

#[rstest]
fn a_file_that_cannot_be_looked_at_is_not_taken_for_the_end_of_the_wal(
    #[values(Format::One, Format::Two)] format: Format,
) {
    let c = cluster(format);
    let (path, _) = c.segment(1, 7, 9);
    c.push(&path).unwrap();
    c.push(&c.write("00000002.history", b"1\t0/300000\tno recovery target specified\n")).unwrap();
    let name = path.file_name().unwrap();
    make_unreadable(&c.held(name));
    assert!(c.fetch(name).unwrap_err().to_string().contains("look at"));
    assert!(c.archive().segments(Timeline::literal(1)).is_err() && c.archive().segment_size().is_err());
    assert!(c.push(&path).unwrap_err().to_string().contains("look at"));
    make_unreadable(&c.held("00000002.history"));
    assert!(c.archive().history_files().is_err());
    make_unreadable(&c.archive().folder().join("00000001"));
    assert!(c.fetch("000000010000000000000099").is_err(), "of a timeline's folder that cannot be entered, too");
    assert!(c.archive().files(Timeline::literal(1)).is_err() && c.archive().find(&name.parse().unwrap()).is_err());
    make_unreadable(&c.root.join("repository/spool"));
    assert!(c.archive().drain().is_err());
}

#[rstest]
fn a_restored_file_is_as_private_as_its_folder(#[values(Format::One, Format::Two)] format: Format) {
    let c = cluster(format);
    let (path, _) = c.segment(1, 7, 9);
    c.push(&path).unwrap();
    let folder = c.root.join("data/pg_wal");
    let mode_in = |of_folder: u32| {
        fs::set_permissions(&folder, fs::Permissions::from_mode(of_folder)).unwrap();
        c.fetch(path.file_name().unwrap()).unwrap();
        fs::metadata(folder.join("RECOVERYXLOG")).unwrap().mode() & 0o777
    };
    assert_eq!([mode_in(0o700), mode_in(0o750), mode_in(0o711)], [0o600, 0o640, 0o600]);
}

#[test]
fn a_crash_between_file_and_index_is_healed_by_the_next_offer() {
    let c = cluster(Format::One);
    let (path, bytes) = c.segment(1, 7, 9);
    c.push(&path).unwrap();
    let index = c.archive().folder().join("00000001/index.jsonl");
    let line = fs::read(&index).unwrap();
    fs::write(&index, &line[..line.len() / 2]).unwrap();
    let name = path.file_name().unwrap();
    assert_eq!(c.fetch(name).unwrap_err().exit(), Exit::ChecksumMismatch, "not known is not missing");
    assert_eq!(c.push(&path).unwrap(), Pushed::AlreadyThere);
    assert_eq!(c.fetch(name).unwrap().1, Some(bytes));
    assert_eq!(c.archive().files(Timeline::literal(1)).unwrap().len(), 1, "the torn line does not swallow the next");
}

#[rstest]
fn many_archivers_at_once_make_one_file_and_one_line_each(#[values(Format::One, Format::Two)] format: Format) {
    let c = cluster(format);
    let paths: Vec<Utf8PathBuf> = (10..16).map(|n| c.segment(1, n, n as u8).0).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            for path in &paths {
                scope.spawn(|| c.push(path).unwrap());
            }
        }
    });
    assert_eq!(c.archive().segments(Timeline::literal(1)).unwrap().len(), paths.len());
}

fn gap(result: Result<(), BackupError>) -> WalGap {
    match result {
        Err(BackupError::WalGap(gap)) => gap,
        other => panic!("{other:?}"),
    }
}

#[rstest]
fn a_gap_is_named_from_its_first_to_its_last_byte(#[values(Format::One, Format::Two)] format: Format) {
    let c = cluster(format);
    let first = TimelineHistory::first();
    let mib = |n: u64| Lsn(n << 20);
    assert_eq!(gap(c.archive().continuity(&first, mib(3), mib(4))).missing_from, mib(3), "an empty archive");
    for number in [3, 4, 7, 8] {
        c.push(&c.segment(1, number, 1).0).unwrap();
    }
    let archive = c.archive();
    archive.continuity(&first, Lsn(mib(3).0 + 40), mib(5)).unwrap();
    let found = gap(archive.continuity(&first, Lsn(mib(3).0 + 40), Lsn(mib(8).0 + 5)));
    assert_eq!((found.missing_from, found.missing_to), (mib(5), mib(7)));
    assert_eq!(found.segment, "000000010000000000000005");
    let found = gap(archive.continuity(&first, mib(7), Lsn(mib(9).0 + 5)));
    assert_eq!((found.missing_from, found.missing_to), (mib(9), Lsn(mib(9).0 + 5)));
    // A record that ends exactly at a boundary needs nothing of the next segment.
    archive.continuity(&first, mib(7), mib(9)).unwrap();
}

#[rstest]
fn a_stretch_over_two_timelines_takes_each_segment_from_its_owner(#[values(Format::One, Format::Two)] format: Format) {
    let c = cluster(format);
    let mib = |n: u64| Lsn(n << 20);
    let switch = Lsn(mib(5).0 + 0x8000);
    for number in [3, 4, 5, 6] {
        c.push(&c.segment(1, number, 1).0).unwrap();
    }
    c.push(&c.segment(2, 6, 2).0).unwrap();
    c.push(&c.write("00000002.history", format!("1\t{switch}\tno\n").as_bytes())).unwrap();
    let archive = c.archive();
    let history = archive.history(Timeline::literal(2)).unwrap();
    // Up to the switch the old timeline's copy will do; beyond it the new one's is needed.
    archive.continuity(&history, mib(3), switch).unwrap();
    let found = gap(archive.continuity(&history, mib(3), mib(7)));
    assert_eq!(found.missing_from, mib(5));
    c.push(&c.segment(2, 5, 2).0).unwrap();
    archive.continuity(&history, mib(3), mib(7)).unwrap();
    let names: Vec<Timeline> = archive
        .required(&history, fixture::size(), mib(3), mib(7))
        .unwrap()
        .into_iter()
        .map(|(_, name)| name.unwrap().timeline)
        .collect();
    assert_eq!(names, [1, 1, 2, 2].map(Timeline::literal));
    // The abandoned end of the old timeline does not stand in for the new one.
    fs::remove_file(c.held("000000020000000000000006")).unwrap();
    assert_eq!(gap(archive.continuity(&history, mib(3), mib(7))).segment, "000000020000000000000006");
}

#[rstest]
fn a_salvaged_segment_is_archived_and_a_partial_one_set_apart(#[values(Format::One, Format::Two)] format: Format) {
    let c = cluster(format);
    let (path, _) = c.segment(1, 7, 9);
    let path = c.root.join("data").join(path);
    let archive = c.archive();
    let held = archive.add_segment(&path, SegmentState::Partial).unwrap();
    assert_eq!(held.file.to_string(), "000000010000000000000007.partial");
    assert_eq!(archive.segments(Timeline::literal(1)).unwrap(), BTreeSet::new());
    let held = archive.add_segment(&path, SegmentState::Complete).unwrap();
    assert_eq!(held.file.to_string(), "000000010000000000000007");
    assert_eq!(archive.segment_size().unwrap(), Some(fixture::size()));
}

#[rstest]
fn the_spool_is_drained_and_what_contradicts_the_archive_stays_in_it(
    #[values(Format::One, Format::Two)] format: Format,
) {
    let c = cluster(format);
    let archive = c.repository.archive(SYSTEM);
    assert_eq!(archive.drain().unwrap(), 0, "there is no spool");
    let spool = c.root.join("repository/spool");
    fs::create_dir(&spool).unwrap();
    let spooled = |number: u64, fill: u8| {
        let (path, bytes) = c.segment(1, number, fill);
        let to = spool.join(path.file_name().unwrap());
        fs::write(&to, bytes).unwrap();
        to
    };
    let (first, second) = (spooled(1, 7), spooled(2, 8));
    fs::write(spool.join(".000000010000000000000003"), "half of it").unwrap();
    assert_eq!(archive.drain().unwrap(), 2);
    assert!(!first.exists() && !second.exists());
    assert_eq!(archive.segments(Timeline::literal(1)).unwrap().len(), 2);
    // Offered again after a crash of the server: the same content is taken, other content is not.
    spooled(1, 7);
    let other = spooled(2, 9);
    assert_eq!(archive.drain().unwrap(), 1);
    assert!(!first.exists() && other.exists());
    let (_, kept) = c.fetch("000000010000000000000002").unwrap();
    assert_eq!(kept.unwrap(), c.segment(1, 2, 8).1);
}

#[test]
fn a_crash_between_object_and_head_is_healed_by_the_next_offer() {
    let c = cluster(Format::Two);
    let (path, _) = c.segment(1, 7, 9);
    c.push(&path).unwrap();
    c.push(&c.segment(1, 8, 9).0).unwrap();
    let read = || Head::read(c.archive().folder());
    let whole = read().unwrap().unwrap();
    let ends = &whole.segments["00000001"];
    assert!(ends.first.starts_with("000000010000000000000007-") && ends.last.starts_with("000000010000000000000008-"));
    fs::remove_file(c.archive().folder().join("head.json")).unwrap();
    for number in [7, 8] {
        assert_eq!(c.push(&c.segment(1, number, 9).0).unwrap(), Pushed::AlreadyThere);
    }
    assert_eq!(read().unwrap().unwrap(), whole);
    fixture::flip(&c.archive().folder().join("head.json"));
    assert!(read().is_err());
    assert_eq!(c.push(&c.segment(1, 8, 9).0).unwrap(), Pushed::AlreadyThere, "archiving goes on");
    assert_eq!(read().unwrap().unwrap().segments["00000001"].last, whole.segments["00000001"].last);
}

#[test]
fn of_two_copies_the_one_that_is_whole_is_taken_and_two_whole_ones_that_differ_are_refused() {
    let c = cluster(Format::Two);
    let (path, bytes) = c.segment(1, 7, 9);
    c.push(&path).unwrap();
    let name = path.file_name().unwrap();
    let first = c.held(name);
    let other = cluster(Format::Two);
    let (differing, _) = other.segment(1, 7, 10);
    other.push(&differing).unwrap();
    let theirs = other.held(name);
    let stray = first.with_file_name(theirs.file_name().unwrap());
    fs::copy(&theirs, &stray).unwrap();
    assert!(matches!(c.fetch(name), Err(BackupError::WalConflict { .. })), "nobody knows which is right");
    assert!(matches!(c.push(&path), Err(BackupError::WalConflict { .. })) || c.push(&path).is_ok());
    fixture::flip(&stray);
    assert_eq!(c.fetch(name).unwrap().1, Some(bytes));
}

#[test]
fn an_idle_segment_is_a_kilobyte() {
    let c = cluster(Format::Two);
    let size = cdc_postgres::wal::SegmentSize::new(16 << 20).unwrap();
    let name = SegmentName::new(Timeline::literal(1), 7, size);
    let path = c.write(&name.to_string(), &fixture::segment_bytes(SYSTEM, size, name, 0));
    c.push(&path).unwrap();
    let bytes = fs::metadata(c.held(&name.to_string())).unwrap().len();
    assert!(bytes < 1024, "{bytes} bytes");
}

impl Cluster {
    /// A finished segment of timeline 1 that waits to be archived.
    fn waiting(&self, number: u64, fill: u8) -> Utf8PathBuf {
        let (path, _) = self.segment(1, number, fill);
        let status = self.root.join("data/pg_wal/archive_status");
        fs::create_dir_all(&status).unwrap();
        fs::write(status.join(format!("{}.ready", path.file_name().unwrap())), "").unwrap();
        path
    }

    fn archived(&self) -> Vec<u64> {
        let segments = self.archive().segments(Timeline::literal(1)).unwrap().into_iter();
        segments.map(|name| name.number(fixture::size()).unwrap()).collect()
    }

    /// No file but objects and the note of what came last.
    fn temporaries(&self) -> Vec<String> {
        fixture::tree(self.archive().folder()).into_iter().filter(|name| name.contains(".tmp")).collect()
    }
}

#[test]
fn segments_that_wait_are_taken_with_the_first_and_acknowledged_by_their_content() {
    let c = cluster(Format::Two);
    let paths: Vec<Utf8PathBuf> = (7..=10).map(|number| c.waiting(number, number as u8)).collect();
    let (unready, _) = c.segment(1, 11, 11);
    assert_eq!(c.push(&paths[0]).unwrap(), Pushed::Stored);
    assert_eq!(c.archived(), [7, 8, 9, 10], "and no segment that the server still writes: {unready}");
    assert_eq!(c.temporaries(), Vec::<String>::new());
    for path in &paths {
        assert_eq!(c.push(path).unwrap(), Pushed::AlreadyThere);
    }
    let head = c.archive().head().unwrap().unwrap().segments["00000001"].clone();
    assert!(head.first.starts_with("000000010000000000000007-") && head.last.starts_with("00000001000000000000000A-"));
    // A server that was reset to an earlier state writes a segment of this name anew.
    let anew = c.waiting(9, 99);
    assert!(matches!(c.push(&anew), Err(BackupError::WalConflict { .. })), "it was never acknowledged");
    fixture::flip(&c.held("000000010000000000000008"));
    assert_eq!(c.push(&paths[1]).unwrap(), Pushed::Stored, "what is damaged meanwhile is not acknowledged either");
}

#[test]
fn format_1_takes_one_at_a_time() {
    let c = cluster(Format::One);
    let first = c.waiting(7, 7);
    c.waiting(8, 8);
    c.push(&first).unwrap();
    assert_eq!(c.archived(), [7]);
}

#[test]
fn one_that_cannot_be_taken_ends_what_is_taken_beforehand() {
    let c = cluster(Format::Two);
    let first = c.waiting(7, 7);
    c.waiting(8, 8);
    let wrong = c.waiting(9, 9);
    c.waiting(10, 10);
    let stranger = fixture::segment_bytes(SystemId(5), fixture::size(), fixture::segment(9), 9);
    fs::write(c.root.join("data").join(&wrong), stranger).unwrap();
    assert_eq!(c.push(&first).unwrap(), Pushed::Stored);
    assert_eq!(c.archived(), [7, 8], "no segment is archived before its predecessor");
    let other = c.archive().folder().join("00000001/00000000");
    // Another archiver had it, with other content.
    let theirs = cluster(Format::Two);
    let path = theirs.waiting(9, 1);
    theirs.push(&path).unwrap();
    let theirs = theirs.held("000000010000000000000009");
    fs::copy(&theirs, other.join(theirs.file_name().unwrap())).unwrap();
    c.waiting(9, 9);
    assert_eq!(c.push(&c.waiting(6, 6)).unwrap(), Pushed::Stored);
    assert_eq!(c.archived(), [6, 7, 8, 9]);
    assert!(matches!(c.push(&wrong), Err(BackupError::WalConflict { .. })));
    assert_eq!(c.temporaries(), Vec::<String>::new());
}

#[test]
fn a_file_that_is_called_for_fails_by_itself() {
    let c = cluster(Format::Two);
    let first = c.waiting(7, 7);
    c.waiting(8, 8);
    fs::write(c.root.join("data").join(&first), "torn").unwrap();
    assert!(matches!(c.push(&first), Err(BackupError::NotWal { .. })));
    assert_eq!(c.archived(), Vec::<u64>::new());
    // What waits may not be listed, or not be there: the file itself is taken all the same.
    let first = c.waiting(7, 7);
    fs::remove_file(c.root.join("data/pg_wal/000000010000000000000008")).unwrap();
    assert_eq!(c.push(&first).unwrap(), Pushed::Stored);
    make_unreadable(&c.root.join("data/pg_wal/archive_status"));
    assert_eq!(c.push(&c.segment(1, 8, 8).0).unwrap(), Pushed::Stored);
}

#[test]
fn an_object_is_acknowledged_only_after_its_name_is_durable() {
    let c = cluster(Format::Two);
    let (path, _) = c.segment(1, 7, 7);
    c.push(&path).unwrap();
    // As if whoever gave it the name had been killed before the folder was synced.
    let synced = crate::backup::files::synced(|| assert_eq!(c.push(&path).unwrap(), Pushed::AlreadyThere));
    for part in ["00000001/00000000", "00000001", ""] {
        let folder = c.archive().folder().join(part);
        assert!(
            synced.iter().any(|path| path.as_str().trim_end_matches('/') == folder.as_str().trim_end_matches('/')),
            "{folder}: {synced:?}"
        );
    }
}

/// What recovery does: asks for a segment under the name that it uses.
fn replayed(c: &Cluster, number: u64) -> Vec<u8> {
    c.fetch(&fixture::segment(number).to_string()).unwrap().1.unwrap()
}

fn prefetched(c: &Cluster) -> Utf8PathBuf {
    c.root.join("data/pg_wal/.cdc-drill-prefetch")
}

fn ahead(c: &Cluster, after: u64) -> usize {
    fs::create_dir_all(prefetched(c)).unwrap();
    prefetch(&c.repository, SYSTEM, &fixture::segment(after).to_string(), &prefetched(c)).unwrap()
}

#[rstest]
fn segments_are_fetched_beforehand_within_bounds_and_removed_in_the_end(
    #[values(Format::One, Format::Two)] format: Format,
) {
    let c = cluster(format);
    let bytes: Vec<Vec<u8>> = (3..=20)
        .map(|number| {
            let (path, bytes) = c.segment(1, number, number as u8);
            c.push(&path).unwrap();
            bytes
        })
        .collect();
    assert_eq!(ahead(&c, 3), 8, "no more than that");
    assert_eq!(ahead(&c, 3), 0, "they are there");
    let taken = prefetched(&c).join(fixture::segment(4).to_string());
    let inode = fs::metadata(&taken).unwrap().ino();
    assert_eq!(replayed(&c, 4), bytes[1]);
    assert_eq!(fs::metadata(c.root.join("data/pg_wal/RECOVERYXLOG")).unwrap().ino(), inode, "it was moved");
    assert!(!taken.exists());
    // What is torn, changed or of another name is dropped, and the archive's handed out.
    fs::write(prefetched(&c).join(fixture::segment(5).to_string()), &bytes[2][..4096]).unwrap();
    fixture::flip(&prefetched(&c).join(fixture::segment(6).to_string()));
    fs::copy(
        prefetched(&c).join(fixture::segment(8).to_string()),
        prefetched(&c).join(fixture::segment(7).to_string()),
    )
    .unwrap();
    for number in 5..=8 {
        assert_eq!(replayed(&c, number), bytes[number as usize - 3], "{number}");
    }
    fs::write(prefetched(&c).join(".00000001.1-00000000.tmp"), "half").unwrap();
    assert_eq!(ahead(&c, 15), 5, "up to the end of the archive");
    let left = fixture::tree(&prefetched(&c));
    assert_eq!(left.len(), 6, "with the lock, and nothing that was there before: {left:?}");
    // Nothing is handed out that the archive lacks.
    fs::remove_file(c.held(&fixture::segment(16).to_string())).unwrap();
    assert_eq!(c.fetch(&fixture::segment(16).to_string()).unwrap(), (Fetched::NotThere, None));
    assert!(!prefetched(&c).exists(), "recovery asked for what is not there: it ends");
    ahead(&c, 3);
    c.fetch("00000002.history").unwrap();
    assert!(!prefetched(&c).exists());
    assert!(prefetch(&c.repository, SYSTEM, &fixture::segment(3).to_string(), &prefetched(&c)).is_err());
    assert!(!prefetched(&c).exists(), "who fetches beforehand makes no folder");
    clear_prefetched(&c.root.join("data")).unwrap();
}

#[test]
fn only_one_process_fetches_beforehand_and_only_for_a_recovery() {
    let c = cluster(Format::Two);
    for number in 3..=6 {
        c.push(&c.segment(1, number, 1).0).unwrap();
    }
    fs::create_dir_all(prefetched(&c)).unwrap();
    let lock = fs::File::create(prefetched(&c).join(".lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(ahead(&c, 3), 0);
    drop(lock);
    assert_eq!(ahead(&c, 3), 3);
    // A person who fetches a file gets that file, and what lies there stays.
    let to = c.root.join("data/pg_wal/mine");
    fetch(&c.repository, SYSTEM, &fixture::segment(4).to_string(), &to, None).unwrap();
    fetch(&c.repository, SYSTEM, "00000009.history", &to, None).unwrap();
    assert_eq!(fixture::tree(&prefetched(&c)).len(), 4);
}
