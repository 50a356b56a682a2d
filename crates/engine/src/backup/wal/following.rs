//! Segments that wait behind the one that `archive_command` is called with: taken with it, several at a time.
//!
//! PostgreSQL asks for one segment at a time. One that waits is finished: the server makes its `.ready` file once the segment is closed
//! and synced. It is acknowledged when the server asks for it, by comparing its content with that of the object that is there by then, as
//! for any file that is offered again. Nothing else acknowledges: a segment that was written anew meanwhile, by a server that was reset to
//! an earlier state, has other content and is refused.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use camino::Utf8Path;

use super::{
    Archive,
    archive::Shelves,
    held::size_if_there,
    objects::{Objects, Prepared},
    offered::{Offered, Stored},
};
use crate::backup::BackupError;
use cdc_model::units::IfThere;
use cdc_postgres::wal::WalFile;

/// Where the server says which files wait, below the folder of its WAL.
const STATUS: &str = "archive_status";
/// What the name of a file is followed by there.
const READY: &str = ".ready";
/// Segments for each worker: enough that none waits for another, and few enough that the first is not held up for long.
const EACH: usize = 4;
/// The bytes of segments that are taken at a time, at most; one for each worker always is.
const BYTES: u64 = 256 << 20;
/// More workers than that wait for the disk.
const WORKERS: usize = 4;

/// How many segments are compressed at a time, where nothing else is asked for: one for each processor, up to four.
pub fn default_workers() -> NonZeroUsize {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(processors.min(WORKERS)).unwrap_or(NonZeroUsize::MIN)
}

impl Archive {
    /// Takes in a file, and where it is a segment those that wait behind it. Fails only where the file itself cannot be taken.
    pub(super) fn add_with_following(
        &self,
        file: &WalFile,
        path: &Utf8Path,
        workers: NonZeroUsize,
    ) -> Result<Stored, BackupError> {
        let Shelves::Objects(objects) = &self.shelves else { return self.add(file, path) };
        let called = self.offered(file, path)?;
        // What is there already is acknowledged at once: more is taken with the first that is not.
        let following = match objects.is_claimed(file)? {
            true => Vec::new(),
            false => self.following(&called, workers),
        };
        if following.is_empty() {
            return objects.put(&called);
        }
        match prepare_all(objects, &called, &following, workers) {
            Ok(prepared) => objects.publish(prepared),
            // What was written of the others may have been what it had no room for, and is gone by now.
            Err(error) => {
                tracing::warn!(%error, "{file} is archived without those that wait behind it");
                objects.put(&called)
            }
        }
    }

    /// The segments of the same timeline that wait behind one, ascending; those that are no such segments end the list. The server asks
    /// for each of them later: what is wrong with them is said then.
    fn following(&self, called: &Offered, workers: NonZeroUsize) -> Vec<Offered> {
        let WalFile::Segment(name) = called.file else { return Vec::new() };
        let folder = called.path.parent().unwrap_or(Utf8Path::new("."));
        let waiting = match ready(&folder.join(STATUS)) {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(%error, "which segments wait to be archived is not known");
                return Vec::new();
            }
        };
        let bytes = size_if_there(&called.path).ok().flatten().map_or(BYTES, |bytes| bytes.max(1));
        let most = (workers.get() * EACH).min((BYTES / bytes) as usize).max(workers.get());
        let behind = waiting.into_iter().filter(|file| match file {
            WalFile::Segment(other) => other.timeline == name.timeline && *other > name,
            WalFile::Partial(_) | WalFile::History(_) | WalFile::BackupLabel(..) => false,
        });
        let offered = behind.map_while(|file| self.offered(&file, &folder.join(file.to_string())).ok());
        offered.take(most.saturating_sub(1)).collect()
    }
}

/// The files that the server wants archived, ascending.
pub(crate) fn ready(status: &Utf8Path) -> Result<Vec<WalFile>, BackupError> {
    let entries = status.read_dir_utf8().if_there().map_err(BackupError::io("list", status))?;
    let mut files = Vec::new();
    for entry in entries.into_iter().flatten() {
        let entry = entry.map_err(BackupError::io("list", status))?;
        let name = entry.file_name().strip_suffix(READY);
        files.extend(name.and_then(|name| name.parse::<WalFile>().ok()));
    }
    files.sort();
    Ok(files)
}

/// Prepares a file and those behind it, several at a time; an error is that of the file itself. One of the others that fails ends the
/// list: no segment is archived before one that the server finished earlier.
fn prepare_all(
    objects: &Objects,
    called: &Offered,
    following: &[Offered],
    workers: NonZeroUsize,
) -> Result<Vec<Prepared>, BackupError> {
    let all: Vec<&Offered> = std::iter::once(called).chain(following).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done: Vec<Mutex<Option<Result<Prepared, BackupError>>>> = all.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..workers.get().min(all.len()) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed)
                    && let number = next.fetch_add(1, Ordering::Relaxed)
                    && let (Some(offered), Some(done)) = (all.get(number), done.get(number))
                {
                    let prepared = objects.prepare(offered);
                    failed.fetch_or(prepared.is_err(), Ordering::Relaxed);
                    if let Ok(mut done) = done.lock() {
                        *done = Some(prepared);
                    }
                }
            });
        }
    });
    let mut prepared = Vec::new();
    for (number, done) in done.into_iter().enumerate() {
        match done.into_inner().ok().flatten() {
            Some(Ok(one)) => prepared.push(one),
            Some(Err(error)) if number == 0 => return Err(error),
            Some(Err(error)) => {
                tracing::warn!(%error, "not archived before the server asks for it");
                break;
            }
            None => break,
        }
    }
    Ok(prepared)
}
