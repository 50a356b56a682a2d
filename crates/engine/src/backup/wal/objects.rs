//! Format 2: one object for each file, with the hash of its bytes in its name. Who archives needs no lock: the same content is
//! the same object, and other content under a name that is known is another object, which is seen.
//!
//! A segment is `<timeline>/<log>/<segment>-<hash>-<size>.zst`, any other file `<timeline>/<file>-<hash>-<size>`. `head.json` notes what was
//! archived last, so that the loss of the newest files is noticed as well as that of those before them.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    frame::{Frame, facts_of},
    head::Head,
    held::{Held, Sum},
    name::{name_of, parse_name},
    offered::{Offered, Stored, compress},
};
use crate::backup::{
    BackupError,
    files::{self, Store},
    format::stamp::Stamp,
    hash::{Hashing, sha256_file},
    storage::{self, Draft},
};
use cdc_model::units::Timeline;
use cdc_postgres::wal::{SegmentName, WalFile, timeline_digits};

/// The digits of a segment's name before those of its number within the log.
const LOG_DIGITS: std::ops::Range<usize> = 8..16;

/// The archive of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    store: Store,
    folder: Utf8PathBuf,
}

impl Objects {
    pub(super) fn new(store: &Store, folder: &Utf8Path) -> Objects {
        Objects { store: store.clone(), folder: folder.to_owned() }
    }

    /// The folder of a file's object.
    pub(super) fn place(&self, file: &WalFile) -> Utf8PathBuf {
        let timeline = self.folder.join(timeline_digits(file.timeline()));
        match file {
            WalFile::Segment(name) | WalFile::Partial(name) => timeline.join(log_of(*name)),
            WalFile::History(_) | WalFile::BackupLabel(..) => timeline,
        }
    }

    /// The objects in a folder that hold what is wanted, and the folders of logs. A folder that is missing has none.
    fn list(
        &self,
        folder: &Utf8Path,
        wanted: impl Fn(&WalFile) -> bool,
    ) -> Result<(Vec<Held>, Vec<Utf8PathBuf>), BackupError> {
        let (mut held, mut folders) = (Vec::new(), Vec::new());
        for entry in storage::entries(folder)?.into_iter().flatten() {
            if let Some((file, named)) = parse_name(entry.name()) {
                if !wanted(&file) {
                    continue;
                }
                let sum = Sum::Name(named);
                // One that was replaced meanwhile is not there any more.
                let Some(size) = entry.size()? else { continue };
                held.push(Held { file, path: entry.path, size, sum });
            } else if is_log(entry.name()) {
                folders.push(entry.path);
            }
        }
        Ok((held, folders))
    }

    /// Every object that claims to be this file; more than one only where two archivers disagreed.
    pub(super) fn copies(&self, file: &WalFile) -> Result<Vec<Held>, BackupError> {
        let (mut held, _) = self.list(&self.place(file), |held| held == file)?;
        held.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(held)
    }

    /// The object that holds a file. Of several the one that is not damaged; fails where two have different content.
    pub(super) fn find(&self, file: &WalFile) -> Result<Option<Held>, BackupError> {
        let mut copies = self.copies(file)?;
        if copies.len() < 2 {
            return Ok(copies.pop());
        }
        let (intact, mut damaged): (Vec<Held>, Vec<Held>) =
            copies.into_iter().partition(|held| held.check_stored().is_ok());
        let mut intact = intact.into_iter();
        let Some(first) = intact.next() else { return Ok(damaged.pop()) };
        for other in intact {
            let (one, two) = (first.content()?, other.content()?);
            if one != two {
                return Err(BackupError::WalConflict {
                    name: file.to_string(),
                    path: first.path,
                    archived: one,
                    offered: two,
                });
            }
        }
        Ok(Some(first))
    }

    /// Every object of a timeline, by what it holds.
    pub(super) fn files(&self, timeline: Timeline) -> Result<Vec<Held>, BackupError> {
        let wanted = |file: &WalFile| file.timeline() == timeline;
        let (mut held, folders) = self.list(&self.folder.join(timeline_digits(timeline)), wanted)?;
        for folder in folders {
            held.extend(self.list(&folder, wanted)?.0);
        }
        held.sort_by(|a, b| (&a.file, &a.path).cmp(&(&b.file, &b.path)));
        Ok(held)
    }

    pub(super) fn put(&self, offered: &Offered) -> Result<Stored, BackupError> {
        let content = sha256_file(&offered.path)?;
        let mut damaged = Vec::new();
        for held in self.copies(&offered.file)? {
            if held.check_stored().is_err() {
                // Nothing can be restored from it, whatever it was.
                damaged.push(held);
                continue;
            }
            let archived = held.content()?;
            if !content.0.starts_with(&archived) {
                return Err(offered.conflict(&held, archived, content.0));
            }
            self.note(&held.path, offered)?;
            return Ok(Stored::AlreadyThere);
        }
        let folder = self.place(&offered.file);
        self.store.folder(&folder)?;
        let (draft, (hash, size)) = self.write(offered, content.clone(), &folder)?;
        let target = folder.join(name_of(&offered.file, &Stamp::of(&hash, size)));
        draft.publish(&target)?;
        for held in damaged.iter().filter(|held| held.path != target) {
            tracing::warn!(path = %held.path, "a damaged copy is replaced by the original");
            files::remove(&held.path)?;
        }
        // Another archiver may have been as fast, with other content. Whoever sees that takes its own away.
        for held in self.copies(&offered.file)?.into_iter().filter(|held| held.path != target) {
            let archived = held.content()?;
            if !content.0.starts_with(&archived) {
                files::remove(&target)?;
                return Err(offered.conflict(&held, archived, content.0));
            }
        }
        self.note(&target, offered)?;
        Ok(Stored::New)
    }

    /// Writes the object, which has no name yet; the hash of its bytes, and how many they are.
    fn write(
        &self,
        offered: &Offered,
        (sha256_raw, size_raw): (String, u64),
        folder: &Utf8Path,
    ) -> Result<(Draft, (String, u64)), BackupError> {
        let draft = Draft::begin(&self.store, folder, &offered.file.to_string())?;
        let temporary = draft.path().to_owned();
        let mut stored = Hashing::new(draft);
        if let Some(first_lsn) = offered.first_lsn {
            let facts = facts_of(&offered.file, &offered.path)?;
            let seg = offered.file.to_string();
            let frame = Frame { seg, size_raw, sha256_raw: sha256_raw.clone(), first_lsn, facts };
            let frame = frame.to_bytes(&temporary)?;
            std::io::Write::write_all(&mut stored, &frame).map_err(BackupError::io("write", &temporary))?;
        }
        let read = compress(offered, &mut stored, &temporary)?;
        if read != (sha256_raw.clone(), size_raw) {
            return Err(BackupError::checksum(&offered.path, sha256_raw, format!("{}: it changes", read.0)));
        }
        let (draft, hash, size) = stored.into_parts();
        Ok((draft, (hash, size)))
    }

    /// Notes what was archived last.
    fn note(&self, object: &Utf8Path, offered: &Offered) -> Result<(), BackupError> {
        let path = Head::path(&self.folder);
        let name = object.file_name().unwrap_or_default();
        self.store.change(&path, |bytes| {
            let there = match bytes.map(|bytes| Head::from_bytes(&path, &bytes)).transpose() {
                Ok(head) => head.unwrap_or_default(),
                Err(error) if error.is_damage() => {
                    tracing::warn!(%error, "what was archived last is noted anew");
                    Head::default()
                }
                Err(error) => return Err(error),
            };
            there.with(&offered.file, name).map(|head| head.to_bytes(&path)).transpose()
        })
    }
}

fn log_of(name: SegmentName) -> String {
    name.to_string()[LOG_DIGITS].to_owned()
}

fn is_log(name: &str) -> bool {
    name.len() == LOG_DIGITS.len() && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
}
