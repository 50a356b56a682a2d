//! Segments that recovery asks for next, decompressed while it replays the one before: `.cdc-drill-prefetch` in the folder of its WAL.
//!
//! What lies there is a copy, and is trusted as little as any: it is handed out only where the archive has the segment now, and only after
//! all of its bytes were hashed and found to be those of the archive's object. Whatever else is there, torn by a crash, changed, or of
//! another archive, costs its decompression once more. Nothing in it is needed, so it is removed whenever recovery asks for what ends it.

use std::{
    fs,
    io::ErrorKind,
    process::{Command, Stdio},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{Archive, held::Held};
use crate::backup::{
    BackupError, Repository,
    files::{self, Store, is_there},
    hash::sha256_file,
};
use cdc_model::units::{IfThere, SystemId};
use cdc_pipeline::config::free_bytes;
use cdc_postgres::wal::{SegmentName, SegmentSize, WalFile};

const FOLDER: &str = ".cdc-drill-prefetch";
/// Held by the process that fills the folder.
const LOCK: &str = ".lock";
/// The names under which recovery wants what it restores. Whoever else fetches a file asks for that one alone.
const OF_RECOVERY: [&str; 2] = ["RECOVERYXLOG", "RECOVERYHISTORY"];
/// The segments that are kept ready, at most, and their bytes.
const AHEAD: u64 = 8;
const BYTES: u64 = 128 << 20;
/// Room that is left to the server: with less than that on the file system nothing is fetched beforehand.
const ROOM: u64 = 4 * BYTES;
/// A folder that is filled while it is removed is removed again; whoever fills it makes no more files than that.
const ATTEMPTS: u64 = 4 * AHEAD;

/// The folder beside what recovery restores.
#[derive(Clone, Debug)]
pub(super) struct Prefetched {
    folder: Utf8PathBuf,
}

impl Prefetched {
    /// The folder for a recovery that wants a file at `to`; none where no recovery asks.
    pub(super) fn beside(to: &Utf8Path) -> Option<Prefetched> {
        let parent = to.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        OF_RECOVERY.contains(&to.file_name()?).then(|| Prefetched { folder: parent.join(FOLDER) })
    }

    /// Places a segment that was fetched beforehand, if it is there and what the archive holds.
    pub(super) fn hand_out(&self, held: &Held, to: &Utf8Path) -> Result<bool, BackupError> {
        let own = files::temporary_beside(to);
        // From here on nobody else has a name for it: what is hashed is what is placed.
        let taken = fs::rename(self.folder.join(held.file.to_string()), &own).if_there();
        if taken.map_err(BackupError::io("take", &self.folder))?.is_none() {
            return Ok(false);
        }
        let (found, _) = sha256_file(&own)?;
        if !held.is_content(&found)? {
            tracing::warn!(file = %held.file, "what was fetched beforehand is not what the archive holds: it is fetched again");
            files::remove(&own)?;
            return Ok(false);
        }
        Held::share_like_folder(&own, to)?;
        fs::rename(&own, to).map_err(BackupError::io("rename into place", to))?;
        Ok(true)
    }

    /// Starts a process that fetches what comes after a segment, unless enough of it is there or the archive has no more. It ends by
    /// itself, and with the server's session. Failing to is no error: the next segment is then fetched when it is asked for.
    pub(super) fn fetch_behind(&self, archive: &Archive, name: SegmentName, program: &Utf8Path) {
        let begun = self.wanted(archive, name).and_then(|wanted| {
            let mut missing = 0;
            for (path, _) in &wanted {
                missing += usize::from(!is_there(path)?);
            }
            if missing == 0 || missing * 2 < wanted.len() {
                return Ok(());
            }
            if let Some(above) = self.folder.parent() {
                Store::new(above)?.folder(&self.folder)?;
            }
            let mut command = Command::new(program);
            command.args(["wal", "prefetch", "--repository", archive.repository().as_str()]);
            command.args(["--system-id", &archive.system_id().to_string()]);
            command.args([&name.to_string(), self.folder.as_str()]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().map(drop).map_err(BackupError::io("start", program))
        });
        if let Err(error) = begun {
            tracing::debug!(%error, "nothing is fetched beforehand");
        }
    }

    /// What comes after a segment in the archive, without a gap: where it is put, and what it is.
    fn wanted(&self, archive: &Archive, name: SegmentName) -> Result<Vec<(Utf8PathBuf, Held)>, BackupError> {
        let mut wanted = Vec::new();
        let Some(size) = archive.find(&WalFile::Segment(name))?.map(|held| held.content_size()).transpose()? else {
            return Ok(wanted);
        };
        let Some((size, number)) = SegmentSize::new(size).and_then(|size| Some((size, name.number(size)?))) else {
            return Ok(wanted);
        };
        for number in number + 1..=number + AHEAD.min((BYTES / size.bytes()).max(1)) {
            let file = WalFile::Segment(SegmentName::new(name.timeline, number, size));
            let Some(held) = archive.find(&file)? else { break };
            wanted.push((self.folder.join(file.to_string()), held));
        }
        Ok(wanted)
    }

    /// Removes everything.
    pub(super) fn clear(&self) -> Result<(), BackupError> {
        let mut attempt = 0;
        loop {
            match fs::remove_dir_all(&self.folder).if_there() {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty && attempt < ATTEMPTS => attempt += 1,
                Err(e) => return Err(BackupError::io("remove", &self.folder)(e)),
            }
        }
    }
}

/// Removes what was fetched beforehand for a recovery in a data folder: nobody fetches anything into it any more.
pub fn clear_prefetched(pgdata: &Utf8Path) -> Result<(), BackupError> {
    Prefetched { folder: pgdata.join("pg_wal").join(FOLDER) }.clear()
}

/// Fetches the segments after `name` into a folder that is there, and removes what else lies in it. How many were fetched; none where
/// another process is at it, and fewer where the folder is removed meanwhile or room becomes scarce.
pub fn prefetch(
    repository: &Repository,
    system_id: SystemId,
    name: &str,
    folder: &Utf8Path,
) -> Result<usize, BackupError> {
    let not_wal = |why: String| BackupError::NotWal { path: name.into(), why };
    let file = name.parse::<WalFile>().map_err(|e| not_wal(e.to_string()))?;
    let WalFile::Segment(name) = file else { return Err(not_wal("only segments have successors".into())) };
    let lock = Store::new(folder)?.append(&folder.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(0),
        Err(fs::TryLockError::Error(e)) => return Err(BackupError::io("lock", folder)(e)),
    }
    let prefetched = Prefetched { folder: folder.to_owned() };
    let wanted = prefetched.wanted(&repository.archive(system_id), name)?;
    for entry in folder.read_dir_utf8().map_err(BackupError::io("list", folder))? {
        let path = entry.map_err(BackupError::io("list", folder))?.into_path();
        if path.file_name() != Some(LOCK) && wanted.iter().all(|(wanted, _)| *wanted != path) {
            files::remove(&path)?;
        }
    }
    let mut fetched = 0;
    for (path, held) in wanted {
        if is_there(&path)? {
            continue;
        }
        if free_bytes(folder).map_err(BackupError::io("look at the room of", folder))? < ROOM {
            break;
        }
        // Under its own name at once where it is complete; not synced, as its hash is compared when it is handed out.
        let temporary = files::temporary_beside(&path);
        let placed = held
            .decode_to(&temporary)
            .and_then(|()| fs::rename(&temporary, &path).map_err(BackupError::io("rename into place", &path)));
        if let Err(error) = placed {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        fetched += 1;
    }
    Ok(fetched)
}
