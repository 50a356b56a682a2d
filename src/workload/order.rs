//! Commit order, read from the WAL by `pg_waldump` of the server's own version.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    process::Stdio,
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{WorkloadError, ledger::Commit};
use crate::{
    config::Tools,
    units::{Lsn, WAL_PAGE},
};

/// What stretch of WAL to read, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalRange {
    /// Folders with segments, plain as in `pg_wal` or with `.zst` appended as in the archive. The first folder that has a
    /// segment wins: name the archive first, as a server renames its old segments for use again.
    pub folders: Vec<Utf8PathBuf>,
    /// The timeline.
    pub timeline: u32,
    /// Where to begin; by default where the timeline begins, or the first segment there is.
    pub from: Option<Lsn>,
    /// Where to end; by default at the last valid record.
    pub to: Option<Lsn>,
}

/// What the WAL said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalScan {
    /// Commit records by the low 32 bits of the transaction's id; a committed subtransaction stands there too.
    pub commits: BTreeMap<u32, Commit>,
    /// Where the last valid record begins, when the scan went to the end of the WAL.
    pub last_record: Option<Lsn>,
    /// What ended the scan, in `pg_waldump`'s words; empty when it came to `to`.
    pub ended: String,
}

/// Reads the commit records of one timeline.
pub async fn commit_order(tools: &Tools, range: WalRange) -> Result<WalScan, WorkloadError> {
    let tools = tools.clone();
    tokio::task::spawn_blocking(move || scan(&tools, &range)).await.map_err(|e| WorkloadError::Task(e.to_string()))?
}

fn scan(tools: &Tools, range: &WalRange) -> Result<WalScan, WorkloadError> {
    let WalRange { folders, timeline, .. } = range;
    let scratch = tools.scratch();
    let work = tools.temporary("cdc-drill-order-", None).map_err(WorkloadError::file("create folder in", &scratch))?;
    let work_path = work.path().to_owned();
    let segments = gather(folders, *timeline)?;
    let what = format!("timeline {timeline} in {}", names(folders));
    let Some((first, first_path)) = segments.iter().next() else {
        return Err(wal_error(&what, "WAL segments of that timeline", "none"));
    };
    let segment_size = segment_size(&read_segment(first_path, PAGE_HEADER)?)
        .ok_or_else(|| wal_error(&format!("segment {first_path}"), "a WAL page header", "something else"))?;
    let begin = match range.from {
        Some(lsn) => lsn,
        None => switch_lsn(folders, *timeline)?.unwrap_or_else(|| segment_start(first, segment_size)),
    };
    let begin_segment = segment_name(*timeline, begin, segment_size);
    for (name, path) in segments.range(begin_segment..) {
        lay_out(path, &work_path.join(name))?;
    }
    let mut command = tools.command("pg_waldump", &[]);
    command.args(["--rmgr=Transaction", "--path", work_path.as_str(), "--timeline", &timeline.to_string()]);
    command.args(["--start", &begin.to_string()]);
    if let Some(to) = range.to {
        command.args(["--end", &to.to_string()]);
    }
    let output = command.stdin(Stdio::null()).output().map_err(WorkloadError::file("run", tools.name("pg_waldump")))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let last_record = error_record(&said);
    let at_end = segments.keys().next_back().is_some_and(|last| beyond(&said, last));
    if !output.status.success() && last_record.is_none() && !at_end {
        return Err(wal_error(&format!("from {begin}, {what}"), "records", &said));
    }
    let mut commits = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        read_commit(line, *timeline, &mut commits);
    }
    Ok(WalScan { commits, last_record, ended: said })
}

/// Where a timeline left its parent, by the newest line of its history file; `None` for a timeline without one.
pub fn switch_lsn(folders: &[Utf8PathBuf], timeline: u32) -> Result<Option<Lsn>, WorkloadError> {
    let name = format!("{timeline:08X}.history");
    for folder in folders {
        let path = folder.join(&name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(WorkloadError::file("read timeline history", path)(e)),
        };
        let newest = text.lines().rfind(|l| !l.trim().is_empty() && !l.starts_with('#'));
        let lsn = newest.and_then(|l| l.split_whitespace().nth(1)).and_then(|l| l.parse().ok());
        return match lsn {
            Some(lsn) => Ok(Some(lsn)),
            None => Err(wal_error(&format!("history {path}"), "a line with a switch position", &text)),
        };
    }
    Ok(None)
}

/// Enough of a segment to read its long page header.
const PAGE_HEADER: usize = 40;
/// Where `xlp_seg_size` stands in the long page header (PostgreSQL 11 and later).
const SEGMENT_SIZE_AT: usize = 32;

/// The segment size that a segment's first page names.
fn segment_size(head: &[u8]) -> Option<u64> {
    let bytes: [u8; 4] = head.get(SEGMENT_SIZE_AT..SEGMENT_SIZE_AT + 4)?.try_into().ok()?;
    let size = u32::from_le_bytes(bytes);
    (size.is_power_of_two() && size >= 1 << 20).then_some(u64::from(size))
}

fn segment_name(timeline: u32, lsn: Lsn, size: u64) -> String {
    let segment = lsn.0 / size;
    let per_id = (1u64 << 32) / size;
    format!("{timeline:08X}{:08X}{:08X}", segment / per_id, segment % per_id)
}

fn segment_start(name: &str, size: u64) -> Lsn {
    let half =
        |range: std::ops::Range<usize>| name.get(range).and_then(|h| u64::from_str_radix(h, 16).ok()).unwrap_or(0);
    Lsn((half(8..16) << 32) + half(16..24) * size)
}

/// The segments of a timeline by name; of several folders the first that has it.
fn gather(folders: &[Utf8PathBuf], timeline: u32) -> Result<BTreeMap<String, Utf8PathBuf>, WorkloadError> {
    let prefix = format!("{timeline:08X}");
    let mut segments = BTreeMap::new();
    for folder in folders {
        let listing = match folder.read_dir_utf8() {
            Ok(listing) => listing,
            // A timeline that nothing was archived on yet has no folder.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(WorkloadError::file("read WAL folder", folder.as_path())(e)),
        };
        for entry in listing {
            let entry = entry.map_err(WorkloadError::file("read WAL folder", folder.as_path()))?;
            let name = entry.file_name().trim_end_matches(".zst");
            if name.len() == 24 && name.starts_with(&prefix) && name.bytes().all(|b| b.is_ascii_hexdigit()) {
                segments.entry(name.to_owned()).or_insert_with(|| entry.path().to_owned());
            }
        }
    }
    Ok(segments)
}

fn read_segment(path: &Utf8Path, limit: usize) -> Result<Vec<u8>, WorkloadError> {
    let fail = || WorkloadError::file("read WAL segment", path);
    let file = File::open(path).map_err(fail())?;
    let mut bytes = Vec::new();
    let limit = limit as u64;
    if path.extension() == Some("zst") {
        let decoder = zstd::Decoder::new(file).map_err(fail())?;
        decoder.take(limit).read_to_end(&mut bytes).map_err(fail())?;
    } else {
        file.take(limit).read_to_end(&mut bytes).map_err(fail())?;
    }
    Ok(bytes)
}

/// Puts a segment where `pg_waldump` looks for it.
fn lay_out(from: &Utf8Path, to: &Utf8Path) -> Result<(), WorkloadError> {
    if from.extension() == Some("zst") {
        let file = File::open(from).map_err(WorkloadError::file("read WAL segment", from))?;
        let decoder = zstd::Decoder::new(file).map_err(WorkloadError::file("read WAL segment", from))?;
        let out = File::create(to).map_err(WorkloadError::file("write WAL segment", to))?;
        return without_zeros(decoder, &out).map_err(WorkloadError::file("decode WAL segment", from));
    }
    let from = from.canonicalize_utf8().map_err(WorkloadError::file("read WAL segment", from))?;
    std::os::unix::fs::symlink(&from, to).map_err(WorkloadError::file("link WAL segment", to))
}

/// Copies all bytes and leaves a hole where a page is nothing but zeros: most of a segment that was switched early.
fn without_zeros(mut from: impl Read, to: &File) -> io::Result<()> {
    let mut page = Vec::with_capacity(WAL_PAGE);
    let mut at = 0;
    loop {
        page.clear();
        from.by_ref().take(WAL_PAGE as u64).read_to_end(&mut page)?;
        if page.is_empty() {
            return to.set_len(at);
        }
        if page.iter().any(|byte| *byte != 0) {
            to.write_all_at(&page, at)?;
        }
        at += page.len() as u64;
    }
}

/// The record named in "error in WAL record at X": the last valid one, after which there is nothing to read.
fn error_record(said: &str) -> Option<Lsn> {
    let (_, rest) = said.split_once("error in WAL record at ")?;
    rest.split(':').next()?.parse().ok()
}

/// Whether the segment that was not found lies beyond the last there is: the WAL ends at a segment's end, and the next one
/// is made when something is written into it.
fn beyond(said: &str, last: &str) -> bool {
    let missing = said.split_once("could not find file \"").and_then(|(_, rest)| rest.split('"').next());
    missing.is_some_and(|name| name.len() == last.len() && name > last)
}

/// Reads one line of `pg_waldump`; anything but a commit is passed over.
fn read_commit(line: &str, timeline: u32, commits: &mut BTreeMap<u32, Commit>) {
    let Some((head, desc)) = line.split_once("desc: COMMIT") else { return };
    let Some(lsn) = field(head, "lsn: ").and_then(|l| l.parse::<Lsn>().ok()) else { return };
    let prepared = desc.strip_prefix("_PREPARED ").and_then(|d| d.split(':').next()?.trim().parse::<u32>().ok());
    // The record of a prepared transaction is written by another session: its own id stands in the description.
    let xid = prepared.or_else(|| field(head, "tx: ").and_then(|x| x.parse().ok()));
    let subtransactions = desc.split_once("subxacts: ").map(|(_, rest)| rest.split(';').next().unwrap_or_default());
    let subtransactions = subtransactions.into_iter().flat_map(|s| s.split_whitespace().filter_map(|x| x.parse().ok()));
    for xid in xid.into_iter().chain(subtransactions).filter(|x| *x != 0) {
        commits.insert(xid, Commit { timeline, lsn, xid });
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    Some(head.split_once(name)?.1.split(',').next()?.trim())
}

fn names(folders: &[Utf8PathBuf]) -> String {
    folders.iter().map(|f| f.as_str()).collect::<Vec<_>>().join(", ")
}

fn wal_error(what: &str, expected: &str, found: &str) -> WorkloadError {
    WorkloadError::Program { program: "pg_waldump", what: what.into(), expected: expected.into(), found: found.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain(
        "rmgr: Transaction len (rec/tot):     34/    34, tx:        740, lsn: 0/0174D0B8, prev 0/0174D080, desc: COMMIT 2026-11-22 20:10:00.000000 UTC",
        &[740]
    )]
    #[case::subtransactions(
        "rmgr: Transaction len (rec/tot):     60/    60, tx:        750, lsn: 0/0174D0B8, prev 0/0174D080, desc: COMMIT 2026-11-22 20:10:00.000000 UTC; subxacts: 751 752; inval msgs: catcache 7",
        &[750, 751, 752]
    )]
    #[case::prepared(
        "rmgr: Transaction len (rec/tot):     60/    60, tx:          0, lsn: 0/0174D0B8, prev 0/0174D080, desc: COMMIT_PREPARED 760: 2026-11-22 20:10:00.000000 UTC",
        &[760]
    )]
    #[case::abort(
        "rmgr: Transaction len (rec/tot):     34/    34, tx:        740, lsn: 0/0174D0B8, prev 0/0174D080, desc: ABORT 2026-11-22 20:10:00.000000 UTC",
        &[]
    )]
    fn reads_commit_records(#[case] line: &str, #[case] xids: &[u32]) {
        let mut commits = BTreeMap::new();
        read_commit(line, 3, &mut commits);
        assert_eq!(commits.keys().copied().collect::<Vec<_>>(), xids);
        assert!(commits.values().all(|c| c.lsn == Lsn(0x174_D0B8) && c.timeline == 3));
    }

    #[rstest]
    #[case(0x0300_0650, 16 << 20, "000000020000000000000003")]
    #[case(0x1_0010_0000, 1 << 20, "000000020000000100000001")]
    #[case(0x1_4000_0000, 1 << 30, "000000020000000100000001")]
    fn names_segments_of_any_size(#[case] lsn: u64, #[case] size: u64, #[case] name: &str) {
        assert_eq!(segment_name(2, Lsn(lsn), size), name);
        assert_eq!(segment_start(name, size), Lsn(lsn - lsn % size));
    }

    #[test]
    fn the_last_valid_record_is_the_one_before_the_error() {
        let said = "pg_waldump: error: error in WAL record at 0/3000650: invalid record length at 0/3000688: expected at least 24, got 0";
        assert_eq!(error_record(said), Some(Lsn(0x300_0650)));
        assert_eq!(error_record("pg_waldump: error: could not find file"), None);
    }

    #[rstest]
    #[case::pages_and_zeros(&[1, 0, 0, 2, 0], 0)]
    #[case::nothing_but_zeros(&[0, 0], 0)]
    #[case::cut_within_a_page(&[0, 7], 100)]
    fn a_segment_is_laid_out_with_all_its_bytes(#[case] pages: &[u8], #[case] cut: usize) {
        let mut bytes: Vec<u8> = pages.iter().flat_map(|fill| vec![*fill; WAL_PAGE]).collect();
        bytes.truncate(bytes.len() - cut);
        let dir = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        let (from, to) = (folder.join("segment.zst"), folder.join("segment"));
        std::fs::write(&from, zstd::encode_all(bytes.as_slice(), 3).unwrap()).unwrap();
        lay_out(&from, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), bytes);
    }

    #[test]
    fn the_newest_line_of_the_history_is_the_switch() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        std::fs::write(
            folder.join("00000003.history"),
            "1\t0/3000650\tat restore point \"a\"\n\n2\t0/5000100\tno recovery target specified\n",
        )
        .unwrap();
        assert_eq!(switch_lsn(std::slice::from_ref(&folder), 3).unwrap(), Some(Lsn(0x500_0100)));
        assert_eq!(switch_lsn(&[folder], 2).unwrap(), None);
    }
}
