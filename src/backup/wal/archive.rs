//! The archive of one cluster: what is in it, and whether a stretch of it is whole.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{SegmentName, SegmentSize, TimelineHistory, WalFile, read_header};
use crate::{
    backup::{
        BackupError,
        files::{self, BUFFER, Hashing, Store, is_there},
    },
    config::RepositoryConfig,
    units::{Exit, Failure, Hint, IfThere, Lsn},
};

/// Archiving must keep up with the server on a busy machine; level 1 already shrinks an idle segment to nothing.
const WAL_ZSTD_LEVEL: i32 = 1;
/// A cluster made with `initdb --allow-group-access` lets the group read its data folder.
const GROUP_READS: u32 = 0o040;

/// One archived file: a line of `index.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexLine {
    /// The file's name as PostgreSQL knows it.
    pub seg: String,
    /// Its size.
    pub size_raw: u64,
    /// The size of the stored file.
    pub size: u64,
    /// The checksum of its content.
    pub sha256_raw: String,
    /// The checksum of the stored file.
    pub sha256: String,
    /// The first LSN of a segment.
    pub first_lsn: Option<Lsn>,
    /// When it was archived, RFC 3339.
    pub archived_at: String,
}

/// A hole in the archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "WAL archive of system {system_id} on timeline {timeline} has a gap: {missing_from} up to {missing_to} is missing (first missing segment {segment}; needed {from} to {to})"
)]
pub struct WalGap {
    /// The cluster.
    pub system_id: u64,
    /// The timeline that was followed.
    pub timeline: u32,
    /// The first missing byte.
    pub missing_from: Lsn,
    /// The end of the first missing stretch.
    pub missing_to: Lsn,
    /// The first missing segment.
    pub segment: String,
    /// Where the needed stretch begins.
    pub from: Lsn,
    /// Where the needed stretch ends.
    pub to: Lsn,
}

impl Failure for WalGap {
    fn exit(&self) -> Exit {
        Exit::WalGap
    }

    fn hints(&self) -> Vec<Hint> {
        vec!["look for the segment in the old server's pg_wal, or choose an earlier target".into()]
    }

    /// The segment may yet be archived.
    fn is_transient(&self) -> bool {
        true
    }
}

/// Whether a salvaged segment is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// The server had finished it: it goes into the archive under its own name.
    Complete,
    /// The last one, which the server was still writing: it is kept as `<name>.partial`, which recovery does not ask for.
    Partial,
}

/// The archived WAL of one cluster.
#[derive(Clone, Debug)]
pub struct Archive {
    store: Store,
    system_id: u64,
    folder: Utf8PathBuf,
}

/// What happened to a file offered to the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    New,
    AlreadyThere,
}

impl Archive {
    pub(crate) fn new(store: &Store, system_id: u64) -> Archive {
        let folder = store.root().join("wal").join(system_id.to_string());
        Archive { store: store.clone(), system_id, folder }
    }

    /// The cluster.
    pub fn system_id(&self) -> u64 {
        self.system_id
    }

    /// The archive's folder.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    fn timeline_folder(&self, timeline: u32) -> Utf8PathBuf {
        self.folder.join(format!("{timeline:08X}"))
    }

    /// Where a file is kept.
    pub fn path(&self, file: &WalFile) -> Utf8PathBuf {
        let folder = self.timeline_folder(file.timeline());
        if file.is_wal() { folder.join(format!("{file}.zst")) } else { folder.join(file.to_string()) }
    }

    fn index_path(&self, timeline: u32) -> Utf8PathBuf {
        self.timeline_folder(timeline).join("index.jsonl")
    }

    /// The index line of a file: the last one that names it. Reads the index from its end, as recovery and archiving ask
    /// for what was written last.
    pub fn entry(&self, file: &WalFile) -> Result<Option<IndexLine>, BackupError> {
        let path = self.index_path(file.timeline());
        let text = fs::read_to_string(&path).if_there().map_err(BackupError::io("read", &path))?;
        let Some(text) = text else { return Ok(None) };
        let name = file.to_string();
        let needle = format!("\"{name}\"");
        let lines = text.lines().rev().filter(|l| l.contains(&needle));
        Ok(lines.filter_map(|l| serde_json::from_str::<IndexLine>(l).ok()).find(|l| l.seg == name))
    }

    /// Everything the index of a timeline names, by name. A line torn by a crash is not counted: its file was not
    /// acknowledged to the server, which offers it again.
    pub fn index(&self, timeline: u32) -> Result<BTreeMap<String, IndexLine>, BackupError> {
        let path = self.index_path(timeline);
        let text = fs::read(&path).if_there().map_err(BackupError::io("read", &path))?;
        let Some(text) = text else { return Ok(BTreeMap::new()) };
        let lines = text.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice::<IndexLine>(l).ok());
        Ok(lines.map(|l| (l.seg.clone(), l)).collect())
    }

    /// The whole segments of a timeline that are there, by name.
    pub fn segments(&self, timeline: u32) -> Result<Vec<(SegmentName, IndexLine)>, BackupError> {
        let mut segments = Vec::new();
        for (name, line) in self.index(timeline)? {
            if let Ok(file @ WalFile::Segment(segment)) = name.parse::<WalFile>()
                && is_there(&self.path(&file))?
            {
                segments.push((segment, line));
            }
        }
        segments.sort_by_key(|(s, _)| *s);
        Ok(segments)
    }

    /// The timelines that have a folder here, ascending.
    pub fn timelines(&self) -> Result<Vec<u32>, BackupError> {
        let entries = fs::read_dir(&self.folder).if_there().map_err(BackupError::io("list", &self.folder))?;
        let Some(entries) = entries else { return Ok(Vec::new()) };
        let mut timelines = Vec::new();
        for entry in entries {
            let entry = entry.map_err(BackupError::io("list", &self.folder))?;
            if let Some(timeline) = entry.file_name().to_str().and_then(|n| u32::from_str_radix(n, 16).ok()) {
                timelines.push(timeline);
            }
        }
        timelines.sort_unstable();
        Ok(timelines)
    }

    /// The history of a timeline; timeline 1 has none and needs none.
    pub fn history(&self, timeline: u32) -> Result<TimelineHistory, BackupError> {
        if timeline == 1 {
            return Ok(TimelineHistory::first());
        }
        let path = self.path(&WalFile::History(timeline));
        let text = fs::read_to_string(&path).map_err(BackupError::io("read timeline history", &path))?;
        TimelineHistory::parse(timeline, &text).map_err(|e| BackupError::malformed(&path, e))
    }

    /// Every history file in the archive, by timeline.
    pub fn history_files(&self) -> Result<BTreeMap<u32, Utf8PathBuf>, BackupError> {
        let mut files = BTreeMap::new();
        for timeline in self.timelines()? {
            let path = self.path(&WalFile::History(timeline));
            if is_there(&path)? {
                files.insert(timeline, path);
            }
        }
        Ok(files)
    }

    /// The size of the cluster's segments, as the archived ones have it; `None` while there is none.
    pub fn segment_size(&self) -> Result<Option<SegmentSize>, BackupError> {
        for timeline in self.timelines()? {
            if let Some((_, line)) = self.segments(timeline)?.first() {
                return Ok(SegmentSize::new(line.size_raw));
            }
        }
        Ok(None)
    }

    /// The segments that replay from `from` to `to` reads on this timeline, with the stretch of WAL each is needed for;
    /// each names the file to use: that of the newest timeline that has one, as PostgreSQL chooses.
    pub fn required(
        &self,
        history: &TimelineHistory,
        size: SegmentSize,
        from: Lsn,
        to: Lsn,
    ) -> Result<Vec<(u64, Option<SegmentName>)>, BackupError> {
        let mut there: BTreeMap<u32, Vec<SegmentName>> = BTreeMap::new();
        let line = history.newest_first();
        for (timeline, _) in &line {
            there.insert(*timeline, self.segments(*timeline)?.into_iter().map(|(s, _)| s).collect());
        }
        let mut segments = Vec::new();
        for number in size.segment_of(from)..=size.segment_before(to).max(size.segment_of(from)) {
            // The timeline of the last byte that is needed of this segment; an older timeline's copy ends before it.
            let last = Lsn((size.start(number).0 + size.bytes()).min(to.0.max(from.0 + 1)) - 1);
            let oldest = history.owner(last);
            let fitting = line.iter().filter(|(t, begin)| *t >= oldest && size.segment_of(*begin) <= number);
            let found = fitting
                .map(|(t, _)| SegmentName::new(*t, number, size))
                .find(|name| there.get(&name.timeline).is_some_and(|s| s.binary_search(name).is_ok()));
            segments.push((number, found));
        }
        Ok(segments)
    }

    /// Whether everything that replay from `from` to `to` reads on this timeline is in the archive; otherwise the first
    /// missing stretch. Names and presence only; see [`Archive::check`] for the bytes.
    pub fn continuity(&self, history: &TimelineHistory, from: Lsn, to: Lsn) -> Result<(), BackupError> {
        let gap = |segment: String, missing_from: Lsn, missing_to: Lsn| WalGap {
            system_id: self.system_id,
            timeline: history.timeline,
            missing_from,
            missing_to,
            segment,
            from,
            to,
        };
        let Some(size) = self.segment_size()? else {
            return Err(gap("any".into(), from, to).into());
        };
        let segments = self.required(history, size, from, to)?;
        let Some(first) = segments.iter().position(|(_, found)| found.is_none()) else { return Ok(()) };
        let run = segments[first..].iter().take_while(|(_, found)| found.is_none()).count();
        let (begin, end) = (segments[first].0, segments[first].0 + run as u64);
        let name = SegmentName::new(history.owner(size.start(begin).max(from)), begin, size);
        Err(gap(name.to_string(), size.start(begin).max(from), size.start(end).min(to)).into())
    }

    /// Checks the stored bytes of a file against the index, and its decoded content too when `decode` is set.
    pub fn check(&self, file: &WalFile, decode: bool) -> Result<(), BackupError> {
        let path = self.path(file);
        let line = self.entry(file)?;
        self.check_stored(file, line.as_ref())?;
        if let Some(line) = line.filter(|_| decode) {
            let (found, _) = self.decode_into(file, &path, &mut io::sink())?;
            if found != line.sha256_raw {
                return Err(BackupError::checksum(format!("{path} (decoded)"), &line.sha256_raw, found));
            }
        }
        Ok(())
    }

    /// The same of the stored bytes alone, for a caller who has read the index; `line` is the file's in it.
    pub(crate) fn check_stored(&self, file: &WalFile, line: Option<&IndexLine>) -> Result<(), BackupError> {
        let path = self.path(file);
        let Some(line) = line else {
            return Err(BackupError::checksum(&path, "a line in index.jsonl", "none"));
        };
        let (found, _) = files::sha256_file(&path)?;
        match found == line.sha256 {
            true => Ok(()),
            false => Err(BackupError::checksum(&path, &line.sha256, found)),
        }
    }

    /// Puts the content of an archived file at `to`, its checksum verified; `false` when the archive has no such file, which is
    /// not said of one that cannot be looked at. The new file belongs to whom its folder belongs, and is for the owner alone; the
    /// group may read it where it may read the folder.
    pub fn restore(&self, file: &WalFile, to: &Utf8Path) -> Result<bool, BackupError> {
        let path = self.path(file);
        if !is_there(&path)? {
            return Ok(false);
        }
        // Without its line nothing says what the bytes should be. "Not there" would let recovery end here, silently.
        let Some(line) = self.entry(file)? else {
            return Err(BackupError::checksum(&path, "a line in index.jsonl", "none"));
        };
        let temporary = files::temporary_beside(to);
        let written = self.decode_to_file(file, &path, &temporary).and_then(|found| {
            if found == line.sha256_raw { Ok(()) } else { Err(BackupError::checksum(&path, &line.sha256_raw, found)) }
        });
        // Not synced: PostgreSQL syncs what it restores, and after a crash asks for it again.
        let placed =
            written.and_then(|()| fs::rename(&temporary, to).map_err(BackupError::io("rename into place", to)));
        if placed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        placed.map(|()| true)
    }

    fn decode_to_file(&self, file: &WalFile, path: &Utf8Path, to: &Utf8Path) -> Result<String, BackupError> {
        let folder = to.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        let mut out = Store::new(folder)?.create(to)?;
        let group = fs::metadata(folder).map_err(BackupError::io("look at", folder))?.mode() & GROUP_READS;
        if group != 0 {
            let mode = fs::Permissions::from_mode(0o600 | group);
            out.set_permissions(mode).map_err(BackupError::io("set the mode of", to))?;
        }
        self.decode_into(file, path, &mut out).map(|(hash, _)| hash)
    }

    fn decode_into(&self, file: &WalFile, path: &Utf8Path, out: &mut impl Write) -> Result<(String, u64), BackupError> {
        let stored = BufReader::with_capacity(BUFFER, File::open(path).map_err(BackupError::io("open", path))?);
        let mut out = Hashing::new(out);
        if file.is_wal() {
            let mut decoder = zstd::Decoder::with_buffer(stored).map_err(BackupError::io("decode", path))?;
            copy(&mut decoder, &mut out, path, true)?;
        } else {
            copy(&mut { stored }, &mut out, path, false)?;
        }
        Ok(out.finish())
    }

    /// Takes in what an `archive_command` that cannot run this program left in the repository's spool, and says how many files
    /// that were. A file leaves the spool when it is durable here, so there is no moment at which it is in neither. One that
    /// contradicts what is here stays, as a refused one stays in `pg_wal`; so does another cluster's.
    pub fn drain(&self) -> Result<usize, BackupError> {
        let spool = RepositoryConfig { path: self.store.root().to_owned() }.spool();
        let entries = spool.read_dir_utf8().if_there().map_err(BackupError::io("list", &spool))?;
        let Some(entries) = entries else { return Ok(0) };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(BackupError::io("list", &spool))?.into_path();
            // What is still being copied has another name.
            if let Ok(file) = path.file_name().unwrap_or_default().parse::<WalFile>() {
                files.push((file, path));
            }
        }
        if files.is_empty() {
            return Ok(0);
        }
        // Two that drain at once would see one another's files vanish.
        let lock = self.store.root().join("locks").join(".spool");
        let held = self.store.append(&lock)?;
        held.lock().map_err(BackupError::io("lock", &lock))?;
        let mut taken = 0;
        files.sort_by(|a, b| a.1.cmp(&b.1));
        for (file, path) in files {
            if !is_there(&path)? {
                continue;
            }
            match self.add(&file, &path) {
                Ok(_) => fs::remove_file(&path).map_err(BackupError::io("remove", &path))?,
                Err(error @ (BackupError::NotWal { .. } | BackupError::WalConflict { .. })) => {
                    tracing::warn!(%path, %error, "left in the spool");
                    continue;
                }
                Err(error) => return Err(error),
            }
            taken += 1;
        }
        Ok(taken)
    }

    /// Takes a segment (from an old server's `pg_wal`) or a history file into the archive. The name is the file's own; a
    /// segment's header must agree with it. What is there already with the same content is left alone.
    pub fn add_segment(&self, path: &Utf8Path, state: SegmentState) -> Result<IndexLine, BackupError> {
        let name = path.file_name().unwrap_or_default();
        let file: WalFile = name.parse().map_err(|e: super::segment::WalNameError| BackupError::NotWal {
            path: path.to_owned(),
            why: e.to_string(),
        })?;
        let file = match (file, state) {
            (WalFile::Segment(segment), SegmentState::Partial) => WalFile::Partial(segment),
            (file, _) => file,
        };
        self.add(&file, path)?;
        self.entry(&file)?.ok_or_else(|| BackupError::checksum(self.path(&file), "a line in index.jsonl", "none"))
    }

    /// Stores a file: decides by content what to do with one that is there already.
    pub(super) fn add(&self, file: &WalFile, path: &Utf8Path) -> Result<Stored, BackupError> {
        let first_lsn = match file {
            WalFile::Segment(name) | WalFile::Partial(name) => {
                let header = read_header(path, *name)?;
                if header.system_id != self.system_id {
                    let why = format!("it is of system {}, not of {}", header.system_id, self.system_id);
                    return Err(BackupError::NotWal { path: path.to_owned(), why });
                }
                Some(header.address)
            }
            WalFile::History(_) | WalFile::BackupLabel(..) => None,
        };
        let target = self.path(file);
        if is_there(&target)? {
            return self.add_again(file, path, &target, first_lsn);
        }
        self.store.folder(&self.timeline_folder(file.timeline()))?;
        let temporary = files::temporary_beside(&target);
        let line = self.encode(file, path, &temporary, first_lsn);
        let stored = line.and_then(|line| {
            // A link, unlike a rename, fails when another archiver was faster; its content is then compared with ours.
            match fs::hard_link(&temporary, &target) {
                Ok(()) => Ok(Some(line)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
                Err(e) => Err(BackupError::io("link into place", &target)(e)),
            }
        });
        let _ = fs::remove_file(&temporary);
        match stored? {
            Some(line) => {
                files::sync_folder(&self.timeline_folder(file.timeline()))?;
                self.append(file.timeline(), &line)?;
                Ok(Stored::New)
            }
            None => self.add_again(file, path, &target, first_lsn),
        }
    }

    /// The file is there already: the server offers it again after a crash between its archiving and its note of it.
    fn add_again(
        &self,
        file: &WalFile,
        path: &Utf8Path,
        target: &Utf8Path,
        first_lsn: Option<Lsn>,
    ) -> Result<Stored, BackupError> {
        let (offered, size_raw) = files::sha256_file(path)?;
        let (archived, _) = self.decode_into(file, target, &mut io::sink())?;
        if offered != archived {
            return Err(BackupError::WalConflict {
                name: file.to_string(),
                path: target.to_owned(),
                archived,
                offered,
            });
        }
        if self.entry(file)?.is_none() {
            let (sha256, size) = files::sha256_file(target)?;
            let line = line_of(file, size_raw, size, offered, sha256, first_lsn);
            self.append(file.timeline(), &line)?;
        }
        Ok(Stored::AlreadyThere)
    }

    fn encode(
        &self,
        file: &WalFile,
        path: &Utf8Path,
        temporary: &Utf8Path,
        first_lsn: Option<Lsn>,
    ) -> Result<IndexLine, BackupError> {
        let mut source = Hashing::new(File::open(path).map_err(BackupError::io("open", path))?);
        let mut stored = Hashing::new(self.store.create(temporary)?);
        if file.is_wal() {
            let mut encoder =
                zstd::Encoder::new(&mut stored, WAL_ZSTD_LEVEL).map_err(BackupError::io("compress", path))?;
            encoder.include_checksum(true).map_err(BackupError::io("compress", path))?;
            copy(&mut source, &mut encoder, temporary, false)?;
            encoder.finish().map_err(BackupError::io("write", temporary))?;
        } else {
            copy(&mut source, &mut stored, temporary, false)?;
        }
        stored.get_ref().sync_all().map_err(BackupError::io("sync", temporary))?;
        let ((sha256_raw, size_raw), (sha256, size)) = (source.finish(), stored.finish());
        Ok(line_of(file, size_raw, size, sha256_raw, sha256, first_lsn))
    }

    /// Adds a line to the index, durably; the lock is the kernel's and ends with this process.
    fn append(&self, timeline: u32, line: &IndexLine) -> Result<(), BackupError> {
        let path = self.index_path(timeline);
        let mut text = serde_json::to_vec(line).map_err(|e| BackupError::malformed(&path, e))?;
        text.push(b'\n');
        let mut file = self.store.append(&path)?;
        file.lock().map_err(BackupError::io("lock", &path))?;
        let result = complete_last_line(&mut file).and_then(|()| file.write_all(&text)).and_then(|()| file.sync_all());
        result.map_err(BackupError::io("append to", &path))
    }
}

/// A crash may have left half a line; what follows must not be glued to it.
fn complete_last_line(file: &mut File) -> io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0u8];
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

fn line_of(
    file: &WalFile,
    size_raw: u64,
    size: u64,
    sha256_raw: String,
    sha256: String,
    first_lsn: Option<Lsn>,
) -> IndexLine {
    let archived_at = jiff::Timestamp::now().to_string();
    IndexLine { seg: file.to_string(), size_raw, size, sha256_raw, sha256, first_lsn, archived_at }
}

/// Copies in large pieces. When decoding, an error of the reader means damaged content unless it came from the disk.
fn copy(from: &mut impl Read, to: &mut impl Write, path: &Utf8Path, decoding: bool) -> Result<(), BackupError> {
    let mut buffer = vec![0u8; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n]).map_err(BackupError::io("write what is read from", path))?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if decoding && e.raw_os_error().is_none() => {
                return Err(BackupError::checksum(path, "zstd data", e));
            }
            Err(e) => return Err(BackupError::io("read", path)(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::{
            Repository,
            fixture::{self, SYSTEM},
            wal::{self, Fetched, Pushed, segment_bytes},
        },
        units::Exit,
    };

    struct Cluster {
        _folder: tempfile::TempDir,
        root: Utf8PathBuf,
        repository: Repository,
    }

    fn cluster() -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let repository = Repository::init(&root.join("repository")).unwrap();
        fs::create_dir_all(root.join("data/pg_wal")).unwrap();
        fs::create_dir_all(root.join("data/global")).unwrap();
        fs::write(root.join("data/global/pg_control"), SYSTEM.to_le_bytes()).unwrap();
        Cluster { _folder: folder, root, repository }
    }

    impl Cluster {
        fn write(&self, name: &str, bytes: &[u8]) -> Utf8PathBuf {
            let path = Utf8PathBuf::from("pg_wal").join(name);
            fs::write(self.root.join("data").join(&path), bytes).unwrap();
            path
        }

        fn segment(&self, timeline: u32, number: u64, fill: u8) -> (Utf8PathBuf, Vec<u8>) {
            let name = SegmentName::new(timeline, number, fixture::size());
            let bytes = segment_bytes(SYSTEM, fixture::size(), name, fill);
            (self.write(&name.to_string(), &bytes), bytes)
        }

        fn push(&self, path: &Utf8Path) -> Result<Pushed, BackupError> {
            wal::push(&self.repository, &self.root.join("data"), path)
        }

        fn fetch(&self, name: &str) -> Result<(Fetched, Option<Vec<u8>>), BackupError> {
            let to = self.root.join("data/pg_wal/RECOVERYXLOG");
            let _ = fs::remove_file(&to);
            let fetched = wal::fetch(&self.repository, SYSTEM, name, &to)?;
            Ok((fetched, fs::read(&to).ok()))
        }

        fn archive(&self) -> Archive {
            self.repository.archive(SYSTEM)
        }
    }

    #[test]
    fn what_is_pushed_is_fetched_byte_for_byte() {
        let c = cluster();
        let (path, bytes) = c.segment(1, 7, 9);
        assert_eq!(c.push(&path).unwrap(), Pushed::Stored);
        assert_eq!(c.push(&path).unwrap(), Pushed::AlreadyThere);
        assert_eq!(c.fetch(path.file_name().unwrap()).unwrap(), (Fetched::Placed, Some(bytes)));
        let lines = fs::read_to_string(c.archive().index_path(1)).unwrap();
        assert_eq!(lines.lines().count(), 1, "the same file again adds no line");
        let left: Vec<String> = fixture::tree(c.archive().folder());
        assert_eq!(left, ["00000001/000000010000000000000007.zst", "00000001/index.jsonl"], "no temporary files");
    }

    #[test]
    fn other_content_under_a_known_name_is_refused_and_nothing_overwritten() {
        let c = cluster();
        let (path, bytes) = c.segment(1, 7, 9);
        c.push(&path).unwrap();
        c.segment(1, 7, 10);
        let error = c.push(&path).unwrap_err();
        assert!(matches!(error, BackupError::WalConflict { .. }), "{error}");
        assert_eq!(error.exit(), Exit::Refused);
        assert_eq!(c.fetch(path.file_name().unwrap()).unwrap().1, Some(bytes));
    }

    #[test]
    fn the_other_kinds_of_files_are_kept_beside() {
        let c = cluster();
        let history = c.write("00000002.history", b"1\t0/300000\tno recovery target specified\n");
        let label = c.write("000000010000000000000007.00000028.backup", b"START WAL LOCATION: 0/700028\n");
        for path in [&history, &label] {
            assert_eq!(c.push(path).unwrap(), Pushed::Stored);
            assert_eq!(c.push(path).unwrap(), Pushed::AlreadyThere);
            assert_eq!(c.fetch(path.file_name().unwrap()).unwrap().0, Fetched::Placed);
        }
        assert_eq!(c.archive().history(2).unwrap().begin(), Lsn(0x300000));
        assert_eq!(c.archive().history_files().unwrap().into_keys().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_partial_segment_answers_only_to_its_own_name() {
        let c = cluster();
        let name = SegmentName::new(1, 7, fixture::size());
        let path = c.write(&format!("{name}.partial"), &segment_bytes(SYSTEM, fixture::size(), name, 1));
        c.push(&path).unwrap();
        assert_eq!(c.fetch(&name.to_string()).unwrap().0, Fetched::NotThere);
        assert_eq!(c.fetch(&format!("{name}.partial")).unwrap().0, Fetched::Placed);
        assert_eq!(c.archive().segments(1).unwrap(), []);
    }

    #[test]
    fn files_that_are_not_this_clusters_are_refused() {
        let c = cluster();
        let name = SegmentName::new(1, 7, fixture::size());
        let stranger = c.write(&name.to_string(), &segment_bytes(SYSTEM + 1, fixture::size(), name, 1));
        assert!(c.archive().add_segment(&c.root.join("data").join(stranger), SegmentState::Complete).is_err());
        let recycled = c.write("000000010000000000000009", &segment_bytes(SYSTEM, fixture::size(), name, 1));
        assert!(c.push(&recycled).unwrap_err().to_string().contains("its name"), "a recycled segment holds old WAL");
        assert!(c.push(&c.write("passwd", b"")).is_err());
        assert!(c.fetch("../../../FORMAT").is_err());
    }

    #[test]
    fn missing_is_an_answer_and_damage_an_error() {
        let c = cluster();
        assert_eq!(c.fetch("000000010000000000000001").unwrap(), (Fetched::NotThere, None));
        let (path, _) = c.segment(1, 7, 9);
        c.push(&path).unwrap();
        let name = path.file_name().unwrap();
        fixture::flip(&c.archive().path(&name.parse().unwrap()));
        assert_eq!(c.fetch(name).unwrap_err().exit(), Exit::ChecksumMismatch);
        assert_eq!(fixture::tree(&c.root.join("data/pg_wal")), [name], "nothing half-written is left");
        assert_eq!(
            c.push(&path).unwrap_err().exit(),
            Exit::ChecksumMismatch,
            "a damaged copy is not taken for the file"
        );
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

    #[test]
    fn a_file_that_cannot_be_looked_at_is_not_taken_for_the_end_of_the_wal() {
        let c = cluster();
        let (path, _) = c.segment(1, 7, 9);
        c.push(&path).unwrap();
        c.push(&c.write("00000002.history", b"1\t0/300000\tno recovery target specified\n")).unwrap();
        let name = path.file_name().unwrap();
        make_unreadable(&c.archive().path(&name.parse().unwrap()));
        assert!(c.fetch(name).unwrap_err().to_string().contains("look at"));
        assert!(c.archive().segments(1).is_err() && c.archive().segment_size().is_err());
        assert!(c.push(&path).unwrap_err().to_string().contains("look at"));
        make_unreadable(&c.archive().path(&WalFile::History(2)));
        assert!(c.archive().history_files().is_err());
        make_unreadable(&c.archive().timeline_folder(1));
        assert!(c.fetch("000000010000000000000099").is_err(), "of a timeline's folder that cannot be entered, too");
        assert!(c.archive().index(1).is_err() && c.archive().entry(&name.parse().unwrap()).is_err());
        make_unreadable(&c.root.join("repository/spool"));
        assert!(c.archive().drain().is_err());
    }

    #[test]
    fn a_restored_file_is_as_private_as_its_folder() {
        let c = cluster();
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
        let c = cluster();
        let (path, bytes) = c.segment(1, 7, 9);
        c.push(&path).unwrap();
        let index = c.archive().index_path(1);
        let line = fs::read(&index).unwrap();
        fs::write(&index, &line[..line.len() / 2]).unwrap();
        let name = path.file_name().unwrap();
        assert_eq!(c.fetch(name).unwrap_err().exit(), Exit::ChecksumMismatch, "not known is not missing");
        assert_eq!(c.push(&path).unwrap(), Pushed::AlreadyThere);
        assert_eq!(c.fetch(name).unwrap().1, Some(bytes));
        assert_eq!(c.archive().index(1).unwrap().len(), 1, "the torn line does not swallow the next");
    }

    #[test]
    fn many_archivers_at_once_make_one_file_and_one_line_each() {
        let c = cluster();
        let paths: Vec<Utf8PathBuf> = (10..16).map(|n| c.segment(1, n, n as u8).0).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                for path in &paths {
                    scope.spawn(|| c.push(path).unwrap());
                }
            }
        });
        assert_eq!(c.archive().segments(1).unwrap().len(), paths.len());
    }

    fn gap(result: Result<(), BackupError>) -> WalGap {
        match result {
            Err(BackupError::WalGap(gap)) => gap,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_gap_is_named_from_its_first_to_its_last_byte() {
        let c = cluster();
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

    #[test]
    fn a_stretch_over_two_timelines_takes_each_segment_from_its_owner() {
        let c = cluster();
        let mib = |n: u64| Lsn(n << 20);
        let switch = Lsn(mib(5).0 + 0x8000);
        for number in [3, 4, 5, 6] {
            c.push(&c.segment(1, number, 1).0).unwrap();
        }
        c.push(&c.segment(2, 6, 2).0).unwrap();
        c.push(&c.write("00000002.history", format!("1\t{switch}\tno\n").as_bytes())).unwrap();
        let archive = c.archive();
        let history = archive.history(2).unwrap();
        // Up to the switch the old timeline's copy will do; beyond it the new one's is needed.
        archive.continuity(&history, mib(3), switch).unwrap();
        let found = gap(archive.continuity(&history, mib(3), mib(7)));
        assert_eq!(found.missing_from, mib(5));
        c.push(&c.segment(2, 5, 2).0).unwrap();
        archive.continuity(&history, mib(3), mib(7)).unwrap();
        let names: Vec<u32> = archive
            .required(&history, fixture::size(), mib(3), mib(7))
            .unwrap()
            .into_iter()
            .map(|(_, name)| name.unwrap().timeline)
            .collect();
        assert_eq!(names, [1, 1, 2, 2]);
        // The abandoned end of the old timeline does not stand in for the new one.
        fs::remove_file(archive.path(&WalFile::Segment(SegmentName::new(2, 6, fixture::size())))).unwrap();
        assert_eq!(gap(archive.continuity(&history, mib(3), mib(7))).segment, "000000020000000000000006");
    }

    #[test]
    fn a_salvaged_segment_is_archived_and_a_partial_one_set_apart() {
        let c = cluster();
        let (path, _) = c.segment(1, 7, 9);
        let path = c.root.join("data").join(path);
        let archive = c.archive();
        let line = archive.add_segment(&path, SegmentState::Partial).unwrap();
        assert_eq!(line.seg, "000000010000000000000007.partial");
        assert_eq!(archive.segments(1).unwrap(), []);
        let line = archive.add_segment(&path, SegmentState::Complete).unwrap();
        assert_eq!((line.seg.as_str(), line.first_lsn), ("000000010000000000000007", Some(Lsn(7 << 20))));
        assert_eq!(archive.segment_size().unwrap(), Some(fixture::size()));
    }

    #[test]
    fn the_spool_is_drained_and_what_contradicts_the_archive_stays_in_it() {
        let c = cluster();
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
        assert_eq!(archive.segments(1).unwrap().len(), 2);
        // Offered again after a crash of the server: the same content is taken, other content is not.
        spooled(1, 7);
        let other = spooled(2, 9);
        assert_eq!(archive.drain().unwrap(), 1);
        assert!(!first.exists() && other.exists());
        let (_, kept) = c.fetch("000000010000000000000002").unwrap();
        assert_eq!(kept.unwrap(), c.segment(1, 2, 8).1);
    }
}
