//! Format 2: one object for each file, with the hash of its bytes in its name. Who archives needs no lock: the same content is
//! the same object, and other content under a name that is known is another object, which is seen.
//!
//! A segment is `<timeline>/<log>/<segment>-<hash>-<size>.zst`, any other file `<timeline>/<file>-<hash>-<size>`. `head.json` notes what was
//! archived last, so that the loss of the newest files is noticed as well as that of those before them.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    frame::{Frame, facts_of},
    head::Head,
    held::{Held, Sum, copy},
    name::Named,
    offered::{Offered, Stored, pack},
};
use crate::backup::{
    BackupError,
    files::{self, Store},
    format::stamp::Stamp,
    hash::{Hashing, sha256_file},
    storage::{self, Draft},
};
use cdc_model::{moment, units::Timeline};
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

    /// What the name of an object says; none for one that the repository does not keep like this, encrypted or not.
    fn parse_name(&self, name: &str) -> Option<Named> {
        Named::parse(name).filter(|named| named.content.is_some() == self.store.seal().is_on())
    }

    /// The objects in a folder that hold what is wanted, and the folders of logs. A folder that is missing has none.
    fn list(
        &self,
        folder: &Utf8Path,
        wanted: impl Fn(&WalFile) -> bool,
    ) -> Result<(Vec<Held>, Vec<Utf8PathBuf>), BackupError> {
        let (mut held, mut folders) = (Vec::new(), Vec::new());
        for entry in storage::entries(folder)?.into_iter().flatten() {
            if let Some(Named { file, content, stored }) = self.parse_name(entry.name()) {
                if !wanted(&file) {
                    continue;
                }
                let sum = Sum::Name { content, stored };
                // One that was replaced meanwhile is not there any more.
                let Some(size) = entry.size()? else { continue };
                held.push(Held { file, path: entry.path, size, sum, seal: self.store.seal().clone() });
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
        self.publish(vec![self.prepare(offered)?])
    }

    /// Whether a path is that of an object, by its name and its folder.
    pub(super) fn is_place_of_one(&self, path: &Utf8Path) -> bool {
        let file = path.file_name().and_then(|name| self.parse_name(name)).map(|named| named.file);
        file.is_some_and(|file| path.parent() == Some(&self.place(&file)))
    }

    /// Whether an object claims to be this file.
    pub(super) fn is_claimed(&self, file: &WalFile) -> Result<bool, BackupError> {
        Ok(!self.copies(file)?.is_empty())
    }

    /// Writes the object of a file durably, without its name. Where there is one already, it has to be whole and of the same content.
    pub(super) fn prepare(&self, offered: &Offered) -> Result<Prepared, BackupError> {
        let copies = self.copies(&offered.file)?;
        // Where there is nothing to compare it with the content is read once, when it is written.
        let content = if copies.is_empty() { String::new() } else { sha256_file(&offered.path)?.0 };
        let mut damaged = Vec::new();
        for held in copies {
            if held.check_stored().is_err() {
                // Nothing can be restored from it, whatever it was.
                damaged.push(held);
                continue;
            }
            if !held.is_content(&content)? {
                return Err(offered.conflict(&held, held.content()?, content));
            }
            let (offered, target) = (offered.clone(), held.path);
            return Ok(Prepared { offered, content, target, draft: None, is_new: false, damaged: Vec::new() });
        }
        let folder = self.place(&offered.file);
        self.store.folder(&folder)?;
        let (draft, content, named) = self.write(offered, &folder)?;
        moment::pass_blocking(PUSH, "written")?;
        let target = folder.join(named.to_string());
        Ok(Prepared { offered: offered.clone(), content, target, draft: Some(draft), is_new: true, damaged })
    }

    /// Names what is prepared, in this order, and makes the names durable; what became of the first. Of the others none has a name
    /// whose predecessor has none.
    pub(super) fn publish(&self, mut prepared: Vec<Prepared>) -> Result<Stored, BackupError> {
        let stored = match prepared.first().is_some_and(|first| first.is_new) {
            true => Stored::New,
            false => Stored::AlreadyThere,
        };
        // Before there is an object: one that is archived by a process that is killed then is not missed in a note that is not there yet.
        let head = Head::path(&self.folder);
        self.store.change(&head, |bytes| bytes.is_none().then(|| Head::default().to_bytes(&head)).transpose())?;
        let mut named = 0;
        for one in &mut prepared {
            if let Some(draft) = one.draft.take()
                && let Err(error) = draft.publish(&one.target)
            {
                if named == 0 {
                    return Err(error);
                }
                tracing::warn!(%error, "not archived before the server asks for it");
                break;
            }
            named += 1;
            moment::pass_blocking(PUSH, "named")?;
        }
        prepared.truncate(named);
        // Of an object that is there already, too: whoever gave it its name may have been killed before this.
        let folders: BTreeSet<&Utf8Path> = prepared.iter().filter_map(|one| one.target.parent()).collect();
        for folder in folders {
            self.store.sync(folder)?;
        }
        moment::pass_blocking(PUSH, "synced")?;
        let mut refused = None;
        let mut kept = Vec::new();
        for (number, one) in prepared.iter().enumerate() {
            match self.alone(one) {
                Ok(()) => kept.push(one),
                Err(error) if number == 0 => refused = Some(error),
                Err(error) => tracing::warn!(%error, "the server will be told when it asks for this one"),
            }
        }
        self.note(&kept)?;
        moment::pass_blocking(PUSH, "noted")?;
        refused.map_or(Ok(stored), Err)
    }

    /// Another archiver may have been as fast, with other content. Whoever sees that takes its own away.
    fn alone(&self, one: &Prepared) -> Result<(), BackupError> {
        for held in one.damaged.iter().filter(|held| held.path != one.target) {
            tracing::warn!(path = %held.path, "a damaged copy is replaced by the original");
            files::remove(&held.path)?;
        }
        if !one.is_new {
            return self.drop_twins(&one.offered.file);
        }
        for held in self.copies(&one.offered.file)?.into_iter().filter(|held| held.path != one.target) {
            if !held.is_content(&one.content)? {
                files::remove(&one.target)?;
                return Err(one.offered.conflict(&held, held.content()?, one.content.clone()));
            }
        }
        self.drop_twins(&one.offered.file)
    }

    /// What is encrypted twice is two objects. Whoever sees several that are whole and of one content leaves the first by name, so that one
    /// stays whoever else does the same.
    fn drop_twins(&self, file: &WalFile) -> Result<(), BackupError> {
        let copies = if self.store.seal().is_on() { self.copies(file)? } else { Vec::new() };
        if copies.len() < 2 {
            return Ok(());
        }
        let whole: Vec<Held> = copies.into_iter().filter(|held| held.check_stored().is_ok()).collect();
        let Some((first, others)) = whole.split_first() else { return Ok(()) };
        for twin in others {
            if twin.content()? == first.content()? {
                files::remove(&twin.path)?;
            }
        }
        Ok(())
    }

    /// Writes the object, durably and without a name: with it the hash of the content, and the name that it is to have.
    fn write(&self, offered: &Offered, folder: &Utf8Path) -> Result<(Draft, String, Named), BackupError> {
        let seal = self.store.seal();
        let (mut packed, (sha256_raw, size_raw)) = pack(offered, self.store.root(), seal.is_on())?;
        let draft = Draft::begin(&self.store, folder, &offered.file.to_string())?;
        let temporary = draft.path().to_owned();
        let mut stored = seal.writer(&temporary, Hashing::new(draft))?;
        if let Some(first_lsn) = offered.first_lsn {
            let facts = facts_of(&offered.file, &offered.path)?;
            let seg = offered.file.to_string();
            let frame = Frame { seg, size_raw, sha256_raw: sha256_raw.clone(), first_lsn, facts };
            let frame = frame.to_bytes(&temporary)?;
            std::io::Write::write_all(&mut stored, &frame).map_err(BackupError::io("write", &temporary))?;
        }
        copy(&mut packed, &mut stored, &temporary, false)?;
        let stored = stored.finish().map_err(BackupError::io("write", &temporary))?;
        let (draft, hash, size) = stored.into_parts();
        draft.sync()?;
        let file = offered.file;
        let content = seal.tag(&file.to_string(), &sha256_raw).map(|tag| Stamp { digits: tag, size: size_raw });
        Ok((draft, sha256_raw, Named { file, content, stored: Stamp::of(&hash, size) }))
    }

    /// Notes what was archived last.
    fn note(&self, archived: &[&Prepared]) -> Result<(), BackupError> {
        let path = Head::path(&self.folder);
        self.store.change(&path, |bytes| {
            let there = match bytes.map(|bytes| Head::from_bytes(&path, &bytes)).transpose() {
                Ok(head) => head.unwrap_or_default(),
                Err(error) if error.is_damage() => {
                    tracing::warn!(%error, "what was archived last is noted anew");
                    Head::default()
                }
                Err(error) => return Err(error),
            };
            let mut head = there.clone();
            for one in archived {
                let name = one.target.file_name().unwrap_or_default();
                head = head.with(&one.offered.file, name).unwrap_or(head);
            }
            (head != there).then(|| head.to_bytes(&path)).transpose()
        })
    }
}

/// The step of which the moments of archiving are.
const PUSH: &str = "push";
/// The moments of step `push`, in their order: what has just been done. It can be interrupted at each of them.
pub const PUSH_MOMENTS: [&str; 4] = ["written", "named", "synced", "noted"];

/// The object of a file, durable and without its name, or one that is there already.
#[derive(Debug)]
pub(super) struct Prepared {
    offered: Offered,
    /// The hash of the content.
    content: String,
    target: Utf8PathBuf,
    /// What is to get the target's name; none where an object has it already.
    draft: Option<Draft>,
    is_new: bool,
    /// Objects of the same file from which nothing can be restored.
    damaged: Vec<Held>,
}

fn log_of(name: SegmentName) -> String {
    name.to_string()[LOG_DIGITS].to_owned()
}

fn is_log(name: &str) -> bool {
    name.len() == LOG_DIGITS.len() && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
}
