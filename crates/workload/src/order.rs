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
use cdc_model::units::{Lsn, Timeline};
use cdc_pipeline::config::Tools;
use cdc_postgres::{
    programs::{Dump, Extent, PLAIN},
    wal::{PAGE, Record, SegmentHeader, SegmentName, TimelineHistory, WalFile, missing_file, record_in_error},
};

/// What stretch of WAL to read, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalRange {
    /// Where its files are. The first place that has a segment wins: name the archive first, as a server renames its old segments
    /// for use again.
    pub places: Vec<WalPlace>,
    /// The timeline.
    pub timeline: Timeline,
    /// Where to begin; by default where the timeline begins, or the first segment there is.
    pub from: Option<Lsn>,
    /// Where to end; by default at the last valid record.
    pub to: Option<Lsn>,
}

/// A place with segments and timeline histories. A path that ends with `.zst` is compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalPlace {
    /// A folder whose files have their own names: `pg_wal`. One that is missing has none.
    Folder(Utf8PathBuf),
    /// Files of an archive, which may have other names.
    Archive {
        /// The archive, for messages.
        folder: Utf8PathBuf,
        /// What is in it, and where.
        files: Vec<(WalFile, Utf8PathBuf)>,
    },
}

impl WalPlace {
    fn folder(&self) -> &Utf8Path {
        match self {
            WalPlace::Folder(folder) | WalPlace::Archive { folder, .. } => folder,
        }
    }

    fn files(&self) -> Result<Vec<(WalFile, Utf8PathBuf)>, WorkloadError> {
        let folder = match self {
            WalPlace::Archive { files, .. } => return Ok(files.clone()),
            WalPlace::Folder(folder) => folder,
        };
        let failed = || WorkloadError::file("read WAL folder", folder.as_path());
        let listing = match folder.read_dir_utf8() {
            Ok(listing) => listing,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed()(e)),
        };
        let mut files = Vec::new();
        for entry in listing {
            let entry = entry.map_err(failed())?;
            if let Ok(file) = entry.file_name().parse() {
                files.push((file, entry.into_path()));
            }
        }
        Ok(files)
    }
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
    let WalRange { places, timeline, .. } = range;
    let scratch = tools.scratch();
    let work = tools.temporary("cdc-drill-order-", None).map_err(WorkloadError::file("create folder in", &scratch))?;
    let work_path = work.path().to_owned();
    let segments = gather(places, *timeline)?;
    let what = format!("timeline {timeline} in {}", names(places));
    let Some((first, first_path)) = segments.iter().next() else {
        return Err(wal_error(&what, "WAL segments of that timeline", "none"));
    };
    let not_wal = |found: &str| wal_error(&format!("segment {first_path}"), "a WAL page header", found);
    let size = header(first_path)?.map_err(|why| not_wal(&why))?.size;
    let begin = match range.from {
        Some(lsn) => lsn,
        None => match switch_lsn(places, *timeline)? {
            Some(lsn) => lsn,
            None => first.start(size).ok_or_else(|| not_wal("one of another segment size"))?,
        },
    };
    for (name, path) in segments.range(SegmentName::of(*timeline, begin, size)..) {
        lay_out(path, &work_path.join(name.to_string()))?;
    }
    let extent = Extent::Timeline(*timeline, range.to);
    let dump = Dump { folder: &work_path, from: begin, manager: Some("Transaction"), extent };
    let mut command = tools.command("pg_waldump", &PLAIN);
    command.args(dump.arguments());
    let output = command.stdin(Stdio::null()).output().map_err(WorkloadError::file("run", tools.name("pg_waldump")))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let last_record = record_in_error(&said);
    let at_end = segments.keys().next_back().is_some_and(|last| is_beyond(&said, *last));
    if !output.status.success() && last_record.is_none() && !at_end {
        return Err(wal_error(&format!("from {begin}, {what}"), "records", &said));
    }
    let mut commits = BTreeMap::new();
    for record in String::from_utf8_lossy(&output.stdout).lines().filter_map(Record::parse) {
        let commit = |xid| (xid, Commit { timeline: *timeline, lsn: record.at, xid });
        commits.extend(record.committed().into_iter().map(commit));
    }
    Ok(WalScan { commits, last_record, ended: said })
}

/// Where a timeline left its parent, by the newest line of its history file; `None` for a timeline without one.
pub fn switch_lsn(places: &[WalPlace], timeline: Timeline) -> Result<Option<Lsn>, WorkloadError> {
    for place in places {
        let mut files = place.files()?.into_iter();
        let Some((_, path)) = files.find(|(file, _)| *file == WalFile::History(timeline)) else { continue };
        let text = std::fs::read_to_string(&path).map_err(WorkloadError::file("read timeline history", &path))?;
        let history = TimelineHistory::parse(timeline, &text);
        return match history.as_ref().map(|history| history.ancestors.last()) {
            Ok(Some(parent)) => Ok(Some(parent.end)),
            Ok(None) => Err(wal_error(&format!("history {path}"), "a line with a switch position", &text)),
            Err(why) => Err(wal_error(&format!("history {path}"), "a timeline history", why)),
        };
    }
    Ok(None)
}

/// The segments of a timeline by name; of several places the first that has it.
fn gather(places: &[WalPlace], timeline: Timeline) -> Result<BTreeMap<SegmentName, Utf8PathBuf>, WorkloadError> {
    let mut segments = BTreeMap::new();
    for place in places {
        for (file, path) in place.files()? {
            if let WalFile::Segment(name) = file
                && name.timeline == timeline
            {
                segments.entry(name).or_insert(path);
            }
        }
    }
    Ok(segments)
}

/// The header of a segment, or why it has none.
fn header(path: &Utf8Path) -> Result<Result<SegmentHeader, String>, WorkloadError> {
    let fail = || WorkloadError::file("read WAL segment", path);
    let mut file = File::open(path).map_err(fail())?;
    let mut bytes = [0u8; SegmentHeader::LENGTH];
    let read = match path.extension() {
        Some("zst") => zstd::Decoder::new(file).and_then(|mut decoder| decoder.read_exact(&mut bytes)),
        _ => file.read_exact(&mut bytes),
    };
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err("too few bytes".to_owned())),
        read => read.map_err(fail()).map(|()| SegmentHeader::parse(&bytes)),
    }
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
    let mut page = Vec::with_capacity(PAGE);
    let mut at = 0;
    loop {
        page.clear();
        from.by_ref().take(PAGE as u64).read_to_end(&mut page)?;
        if page.is_empty() {
            return to.set_len(at);
        }
        if page.iter().any(|byte| *byte != 0) {
            to.write_all_at(&page, at)?;
        }
        at += page.len() as u64;
    }
}

/// Whether the segment that was not found lies beyond the last there is: the WAL ends at a segment's end, and the next one
/// is made when something is written into it.
fn is_beyond(said: &str, last: SegmentName) -> bool {
    matches!(missing_file(said).map(str::parse), Some(Ok(WalFile::Segment(missing))) if missing > last)
}

fn names(places: &[WalPlace]) -> String {
    places.iter().map(|place| place.folder().as_str()).collect::<Vec<_>>().join(", ")
}

fn wal_error(what: &str, expected: &str, found: &str) -> WorkloadError {
    WorkloadError::Program { program: "pg_waldump", what: what.into(), expected: expected.into(), found: found.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::SystemId;
    use cdc_postgres::wal::{SegmentHeader, SegmentSize};
    use rstest::rstest;

    /// A program of PostgreSQL prints its messages in the language of its environment.
    #[test]
    fn the_messages_that_are_read_are_asked_for_in_english() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(dir.path()).unwrap();
        let (script, calls) = (folder.join("note.sh"), folder.join("calls"));
        std::fs::write(&script, format!("echo \"$@\" >> {calls}\n")).unwrap();
        let tools = Tools::here("/pg/bin".into()).behind(format!("sh {script}"), folder.to_owned());
        let (timeline, size) = (Timeline::literal(3), SegmentSize::new(1 << 20).unwrap());
        let name = SegmentName::new(timeline, 5, size);
        let wal = folder.join("wal");
        std::fs::create_dir(&wal).unwrap();
        let header = SegmentHeader { system_id: SystemId(7), size, address: name.start(size).unwrap(), timeline };
        let mut bytes = header.to_bytes().to_vec();
        bytes.resize(1 << 20, 0);
        std::fs::write(wal.join(name.to_string()), bytes).unwrap();
        let range = WalRange {
            places: vec![WalPlace::Folder(wal)],
            timeline: Timeline::literal(3),
            from: None,
            to: Some(Lsn(0x50_0100)),
        };
        assert!(scan(&tools, &range).unwrap().commits.is_empty());
        let call = std::fs::read_to_string(&calls).unwrap();
        assert!(call.starts_with("env TZ=UTC LC_ALL=C /pg/bin/pg_waldump -p "), "{call}");
        assert!(call.ends_with(" -s 0/500000 --rmgr=Transaction --timeline=3 --end=0/500100\n"), "{call}");
    }

    #[test]
    fn only_a_segment_behind_the_last_one_is_beyond_the_end() {
        let last = SegmentName::new(Timeline::literal(1), 4, SegmentSize::new(16 << 20).unwrap());
        let said = |name: &str| format!("pg_waldump: error: could not find file \"{name}\": No such file or directory");
        assert!(is_beyond(&said("000000010000000000000005"), last));
        assert!(!is_beyond(&said("000000010000000000000003"), last), "a hole");
        assert!(!is_beyond("pg_waldump: error: could not open directory", last));
    }

    #[rstest]
    #[case::pages_and_zeros(&[1, 0, 0, 2, 0], 0)]
    #[case::nothing_but_zeros(&[0, 0], 0)]
    #[case::cut_within_a_page(&[0, 7], 100)]
    fn a_segment_is_laid_out_with_all_its_bytes(#[case] pages: &[u8], #[case] cut: usize) {
        let mut bytes: Vec<u8> = pages.iter().flat_map(|fill| vec![*fill; PAGE]).collect();
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
        let places = [WalPlace::Folder(folder.join("nowhere")), WalPlace::Folder(folder)];
        assert_eq!(switch_lsn(&places, Timeline::literal(3)).unwrap(), Some(Lsn(0x500_0100)));
        assert_eq!(switch_lsn(&places, Timeline::literal(2)).unwrap(), None);
    }
}
