//! The archive of one cluster: what is in it, whatever the format that holds it.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use camino::{Utf8Path, Utf8PathBuf};

use super::{head::Head, held::Held, index::Index, indexed::Indexed, objects::Objects};
use crate::backup::{
    BackupError,
    files::{self, Store},
    format::Format,
    storage, version,
};
use cdc_model::units::{SystemId, Timeline};
use cdc_postgres::wal::{SegmentName, SegmentSize, TimelineHistory, WalFile, timeline_of};

/// The archived WAL of one cluster.
#[derive(Clone, Debug)]
pub struct Archive {
    pub(super) store: Store,
    pub(super) system_id: SystemId,
    folder: Utf8PathBuf,
    pub(super) shelves: Shelves,
}

/// How the files are kept.
#[derive(Clone, Debug)]
pub(super) enum Shelves {
    Indexed(Indexed),
    Objects(Objects),
}

impl Archive {
    pub(crate) fn new(store: &Store, format: Format, system_id: SystemId) -> Archive {
        let folder = store.root().join("wal").join(system_id.to_string());
        let shelves = match format {
            Format::One => Shelves::Indexed(Indexed::new(store, &folder)),
            Format::Two => Shelves::Objects(Objects::new(store, &folder)),
        };
        Archive { store: store.clone(), system_id, folder, shelves }
    }

    /// The cluster.
    pub fn system_id(&self) -> SystemId {
        self.system_id
    }

    /// The folder of the repository.
    pub(super) fn repository(&self) -> &Utf8Path {
        self.store.root()
    }

    /// The archive's folder.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// The format that the repository has now: an upgrade may have changed it since it was opened.
    pub(super) fn format_now(&self) -> Result<Format, BackupError> {
        version::read(self.store.root())
    }

    /// Where a file is, or would be: in format 2 its folder and name without the hash.
    pub(crate) fn place(&self, file: &WalFile) -> Utf8PathBuf {
        match &self.shelves {
            Shelves::Indexed(indexed) => indexed.path(file),
            Shelves::Objects(objects) => objects.place(file).join(file.to_string()),
        }
    }

    /// A file, where the archive has it.
    pub(crate) fn find(&self, file: &WalFile) -> Result<Option<Held>, BackupError> {
        match &self.shelves {
            Shelves::Indexed(indexed) => indexed.find(file),
            Shelves::Objects(objects) => objects.find(file),
        }
    }

    /// Files that are there, all of them. Each timeline is listed once.
    pub(crate) fn find_all(&self, files: impl Iterator<Item = WalFile>) -> Result<Vec<Held>, BackupError> {
        let mut listed: BTreeMap<Timeline, BTreeMap<WalFile, Vec<Held>>> = BTreeMap::new();
        let mut found = Vec::new();
        for file in files {
            let timeline = file.timeline();
            let by_file = match listed.entry(timeline) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let mut by_file: BTreeMap<WalFile, Vec<Held>> = BTreeMap::new();
                    for held in self.files(timeline)? {
                        by_file.entry(held.file).or_default().push(held);
                    }
                    entry.insert(by_file)
                }
            };
            let held = match by_file.get(&file).map(Vec::as_slice) {
                Some([only]) => Some(only.clone()),
                // None, or several of which one has to be chosen.
                _ => self.find(&file)?,
            };
            let missing = || BackupError::checksum(self.place(&file), "the archived file that was listed", "nothing");
            found.push(held.ok_or_else(missing)?);
        }
        Ok(found)
    }

    /// Everything that claims to be a file, damaged or not.
    pub(crate) fn stored_copies(&self, file: &WalFile) -> Result<Vec<Held>, BackupError> {
        match &self.shelves {
            Shelves::Indexed(indexed) => Ok(indexed.find(file)?.into_iter().collect()),
            Shelves::Objects(objects) => objects.copies(file),
        }
    }

    /// Whether a path is that of an object, by its name and its folder; in format 1 the index says what belongs there.
    pub(crate) fn is_place_of_one(&self, path: &Utf8Path) -> bool {
        match &self.shelves {
            Shelves::Indexed(_) => false,
            Shelves::Objects(objects) => objects.is_place_of_one(path),
        }
    }

    /// Whether the archive has a file.
    pub(crate) fn has(&self, file: &WalFile) -> Result<bool, BackupError> {
        Ok(self.find(file)?.is_some())
    }

    /// The files of a timeline that are there and have a checksum.
    pub fn files(&self, timeline: Timeline) -> Result<Vec<Held>, BackupError> {
        match &self.shelves {
            Shelves::Indexed(indexed) => indexed.files(timeline),
            Shelves::Objects(objects) => objects.files(timeline),
        }
    }

    /// The same of all timelines.
    pub(crate) fn all_files(&self) -> Result<Vec<Held>, BackupError> {
        let mut files = Vec::new();
        for timeline in self.timelines()? {
            files.extend(self.files(timeline)?);
        }
        Ok(files)
    }

    /// The whole segments of a timeline that are there, ascending.
    pub fn segments(&self, timeline: Timeline) -> Result<BTreeSet<SegmentName>, BackupError> {
        let files = self.files(timeline)?.into_iter();
        let names = files.filter_map(|held| match held.file {
            WalFile::Segment(name) => Some(name),
            WalFile::Partial(_) | WalFile::History(_) | WalFile::BackupLabel(..) => None,
        });
        Ok(names.collect())
    }

    /// The timelines that have a folder here, ascending.
    pub fn timelines(&self) -> Result<Vec<Timeline>, BackupError> {
        let entries = storage::entries(&self.folder)?.unwrap_or_default();
        let mut timelines: Vec<Timeline> = entries.iter().filter_map(|entry| timeline_of(entry.name())).collect();
        timelines.sort_unstable();
        Ok(timelines)
    }

    /// The history of a timeline; timeline 1 has none and needs none.
    pub fn history(&self, timeline: Timeline) -> Result<TimelineHistory, BackupError> {
        if timeline == Timeline::FIRST {
            return Ok(TimelineHistory::first());
        }
        let file = WalFile::History(timeline);
        let held = self.find(&file)?;
        let path = held.as_ref().map_or_else(|| self.place(&file), |held| held.path.clone());
        let bytes = match held.filter(|held| held.is_encrypted()) {
            Some(held) => held.range(0, u64::MAX)?,
            None => files::read(&path)?,
        };
        let text = String::from_utf8(bytes).map_err(|e| BackupError::malformed(&path, e))?;
        TimelineHistory::parse(timeline, &text).map_err(|e| BackupError::malformed(&path, e))
    }

    /// Whether what is in the archive can be read: an encrypted one with an identity alone. Refused (36) where one is named that is not
    /// its own.
    pub(crate) fn can_be_read(&self) -> Result<bool, BackupError> {
        self.store.seal().unlock_if_named()
    }

    /// Every history file in the archive, by timeline.
    pub(crate) fn history_files(&self) -> Result<BTreeMap<Timeline, Held>, BackupError> {
        let mut files = BTreeMap::new();
        for timeline in self.timelines()? {
            if let Some(held) = self.find(&WalFile::History(timeline))? {
                files.insert(timeline, held);
            }
        }
        Ok(files)
    }

    /// The size of the cluster's segments, as the archived ones have it; `None` while there is none.
    pub fn segment_size(&self) -> Result<Option<SegmentSize>, BackupError> {
        let mut damaged = None;
        for timeline in self.timelines()? {
            match Archive::size_of(self.files(timeline)?.iter()) {
                Ok(None) => {}
                Ok(size) => return Ok(size),
                Err(error) => damaged = damaged.or(Some(error)),
            }
        }
        damaged.map_or(Ok(None), Err)
    }

    /// The same as these files have it. Fails where segments are among them and none says.
    pub(crate) fn size_of<'h>(files: impl Iterator<Item = &'h Held>) -> Result<Option<SegmentSize>, BackupError> {
        let mut damaged = None;
        for held in files.filter(|held| matches!(held.file, WalFile::Segment(_))) {
            match held.content_size() {
                Ok(bytes) => return Ok(SegmentSize::new(bytes)),
                Err(error) => damaged = damaged.or(Some(error)),
            }
        }
        damaged.map_or(Ok(None), Err)
    }

    /// Puts the content of an archived file at `to`, its checksum verified; `false` when the archive has no such file, which is
    /// not said of one that cannot be looked at.
    pub fn restore(&self, file: &WalFile, to: &Utf8Path) -> Result<bool, BackupError> {
        match self.find(file)? {
            None => Ok(false),
            Some(held) => held.restore(to).map(|()| true),
        }
    }

    /// The index of a timeline in format 1.
    pub(crate) fn index_in_format_1(&self, timeline: Timeline) -> Utf8PathBuf {
        Indexed::new(&self.store, &self.folder).index_path(timeline)
    }

    /// How its files are kept.
    pub(crate) fn format(&self) -> Format {
        match &self.shelves {
            Shelves::Indexed(_) => Format::One,
            Shelves::Objects(_) => Format::Two,
        }
    }

    /// Everything of a timeline that is where an archived file belongs.
    pub(crate) fn stored(&self, timeline: Timeline) -> Result<Vec<Held>, BackupError> {
        match &self.shelves {
            Shelves::Indexed(indexed) => indexed.stored(timeline),
            Shelves::Objects(objects) => objects.files(timeline),
        }
    }

    /// The files that are the archive's own: its notes of what it holds.
    pub(crate) fn own_files(&self) -> Result<Vec<Utf8PathBuf>, BackupError> {
        match &self.shelves {
            Shelves::Indexed(indexed) => Ok(self.timelines()?.into_iter().map(|t| indexed.index_path(t)).collect()),
            Shelves::Objects(_) => Ok(vec![self.head_path()]),
        }
    }

    /// What was archived first and last, in format 2.
    pub(crate) fn head(&self) -> Result<Option<Head>, BackupError> {
        Head::read(&self.folder)
    }

    /// Where that is noted.
    pub(crate) fn head_path(&self) -> Utf8PathBuf {
        Head::path(&self.folder)
    }

    /// The index of a timeline, in format 1.
    pub(crate) fn read_index(&self, timeline: Timeline) -> Result<Index, BackupError> {
        Index::read(&Indexed::new(&self.store, &self.folder).index_path(timeline))
    }
}
