//! The archive of one cluster: where its files are, and what is in it.

use std::{collections::BTreeMap, fs};

use camino::{Utf8Path, Utf8PathBuf};

use super::IndexLine;
use crate::backup::{
    BackupError,
    files::{Store, is_there},
};
use cdc_model::units::{IfThere, SystemId, Timeline};
use cdc_postgres::wal::{SegmentName, SegmentSize, TimelineHistory, WalFile, timeline_digits, timeline_of};

/// The archived WAL of one cluster.
#[derive(Clone, Debug)]
pub struct Archive {
    pub(super) store: Store,
    pub(super) system_id: SystemId,
    folder: Utf8PathBuf,
}

impl Archive {
    pub(crate) fn new(store: &Store, system_id: SystemId) -> Archive {
        let folder = store.root().join("wal").join(system_id.to_string());
        Archive { store: store.clone(), system_id, folder }
    }

    /// The cluster.
    pub fn system_id(&self) -> SystemId {
        self.system_id
    }

    /// The archive's folder.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Where the files of a timeline are kept.
    pub fn timeline_folder(&self, timeline: Timeline) -> Utf8PathBuf {
        self.folder.join(timeline_digits(timeline))
    }

    /// Where a file is kept.
    pub fn path(&self, file: &WalFile) -> Utf8PathBuf {
        let folder = self.timeline_folder(file.timeline());
        if file.is_wal() { folder.join(format!("{file}.zst")) } else { folder.join(file.to_string()) }
    }

    pub(super) fn index_path(&self, timeline: Timeline) -> Utf8PathBuf {
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
    pub fn index(&self, timeline: Timeline) -> Result<BTreeMap<String, IndexLine>, BackupError> {
        let path = self.index_path(timeline);
        let text = fs::read(&path).if_there().map_err(BackupError::io("read", &path))?;
        let Some(text) = text else { return Ok(BTreeMap::new()) };
        let lines = text.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice::<IndexLine>(l).ok());
        Ok(lines.map(|l| (l.seg.clone(), l)).collect())
    }

    /// The whole segments of a timeline that are there, by name.
    pub fn segments(&self, timeline: Timeline) -> Result<Vec<(SegmentName, IndexLine)>, BackupError> {
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
    pub fn timelines(&self) -> Result<Vec<Timeline>, BackupError> {
        let entries = fs::read_dir(&self.folder).if_there().map_err(BackupError::io("list", &self.folder))?;
        let Some(entries) = entries else { return Ok(Vec::new()) };
        let mut timelines = Vec::new();
        for entry in entries {
            let entry = entry.map_err(BackupError::io("list", &self.folder))?;
            if let Some(timeline) = entry.file_name().to_str().and_then(timeline_of) {
                timelines.push(timeline);
            }
        }
        timelines.sort_unstable();
        Ok(timelines)
    }

    /// The history of a timeline; timeline 1 has none and needs none.
    pub fn history(&self, timeline: Timeline) -> Result<TimelineHistory, BackupError> {
        if timeline == Timeline::FIRST {
            return Ok(TimelineHistory::first());
        }
        let path = self.path(&WalFile::History(timeline));
        let text = fs::read_to_string(&path).map_err(BackupError::io("read timeline history", &path))?;
        TimelineHistory::parse(timeline, &text).map_err(|e| BackupError::malformed(&path, e))
    }

    /// Every history file in the archive, by timeline.
    pub(crate) fn history_files(&self) -> Result<BTreeMap<Timeline, Utf8PathBuf>, BackupError> {
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
}
