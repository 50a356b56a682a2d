//! Every WAL segment that can be found: the archive's, those salvaged earlier, and those of the old server's `pg_wal` that
//! never reached the archive. Few are laid out as plain files at a time.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Tail,
    dump::{self, Stretch},
};
use crate::{
    backup::{
        BackupError, is_there,
        wal::{Archive, Held, read_header},
    },
    recovery::RecoveryError,
};
use cdc_model::units::{IfThere, Lsn, Timeline};
use cdc_pipeline::config::{Temporary, Tools};
use cdc_postgres::wal::{PAGE, SegmentFacts, SegmentName, SegmentSize, TimelineHistory, WalFile, page_place};

/// How much WAL is laid out at a time while a stretch of any length is read.
const WINDOW_BYTES: u64 = 64 << 20;
/// A window begins with the last segment of the one before it, so that a record which begins there is read to its end.
const WINDOW_SEGMENTS: u64 = 3;

/// Everything of a cluster's WAL that can be read.
#[derive(Debug)]
pub(crate) struct WalView {
    archive: Archive,
    pub(super) size: SegmentSize,
    tools: Tools,
    /// Segments that are whole in the archive, by timeline and name.
    pub(super) archived: BTreeSet<SegmentName>,
    /// The objects that hold them, where there is one of each.
    pub(super) held: BTreeMap<SegmentName, Held>,
    /// Segments outside the archive and where they are.
    pub(super) loose: BTreeMap<SegmentName, Utf8PathBuf>,
    /// Timeline histories found anywhere.
    histories: BTreeMap<Timeline, TimelineHistory>,
    /// Segments as plain files, for `pg_waldump`.
    pub(super) scratch: Temporary,
    /// How many of them are laid out at a time.
    pub(super) width: usize,
}

/// How the folders begin that WAL is laid out in.
pub(crate) const WINDOW: &str = ".wal-window-";

impl WalView {
    /// Looks into the archive and into `loose` folders; where two hold a segment, the earlier folder is taken.
    pub(crate) fn open(
        archive: Archive,
        size: SegmentSize,
        tools: &Tools,
        loose: &[Utf8PathBuf],
    ) -> Result<WalView, RecoveryError> {
        archive.drain()?;
        let bytes = WINDOW_BYTES.max(size.bytes() * WINDOW_SEGMENTS);
        let scratch = tools
            .large_temporary(WINDOW, bytes)
            .map_err(|e| RecoveryError::io("make folder in", &tools.scratch(), e))?;
        let mut view = WalView {
            size,
            tools: tools.clone(),
            archived: BTreeSet::new(),
            held: BTreeMap::new(),
            loose: BTreeMap::new(),
            histories: BTreeMap::from([(Timeline::FIRST, TimelineHistory::first())]),
            scratch,
            width: usize::try_from(bytes / size.bytes()).unwrap_or(usize::MAX),
            archive,
        };
        for timeline in view.archive.timelines()? {
            let mut several = BTreeSet::new();
            for held in view.archive.files(timeline)? {
                let WalFile::Segment(name) = held.file else { continue };
                view.archived.insert(name);
                if view.held.insert(name, held).is_some() {
                    several.insert(name);
                }
            }
            view.held.retain(|name, _| !several.contains(name));
        }
        for timeline in view.archive.history_files()?.into_keys() {
            view.histories.insert(timeline, view.archive.history(timeline)?);
        }
        for folder in loose {
            view.add_loose(folder)?;
        }
        Ok(view)
    }

    fn add_loose(&mut self, folder: &Utf8Path) -> Result<(), RecoveryError> {
        let files = wal_files(folder)?;
        // They say what a segment may hold.
        for (path, file) in &files {
            if let WalFile::History(timeline) = file
                && !self.histories.contains_key(timeline)
            {
                self.histories.insert(*timeline, history_in(path, *timeline)?);
            }
        }
        for (path, file) in files {
            match file {
                WalFile::Segment(name)
                    if !self.archived.contains(&name)
                        && !self.loose.contains_key(&name)
                        && self.is_of_cluster(&path, name)? =>
                {
                    self.loose.insert(name, path);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a file is the segment of its name, of this cluster. A recycled segment, renamed for later use, still carries the
    /// address it was written for, or, after a recovery, that address on a timeline that had ended before it; one that a live server
    /// removes meanwhile is none.
    fn is_of_cluster(&self, path: &Utf8Path, name: SegmentName) -> Result<bool, RecoveryError> {
        match read_header(path, name) {
            Ok(header) => {
                let owner = self.histories.get(&name.timeline).map(|history| history.owner(header.address));
                Ok(header.system_id == self.archive.system_id()
                    && Some(header.address) == name.start(self.size)
                    && owner.is_none_or(|owner| owner == header.timeline))
            }
            Err(BackupError::NotWal { .. }) => Ok(false),
            Err(BackupError::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The segments outside the archive and where they are.
    pub(crate) fn loose(&self) -> &BTreeMap<SegmentName, Utf8PathBuf> {
        &self.loose
    }

    /// The archive.
    pub(crate) fn archive(&self) -> &Archive {
        &self.archive
    }

    /// A timeline's history.
    pub(crate) fn history(&self, timeline: Timeline) -> Result<&TimelineHistory, RecoveryError> {
        self.histories.get(&timeline).ok_or_else(|| {
            let known: Vec<String> = self.histories.keys().map(Timeline::to_string).collect();
            RecoveryError::impossible(
                format!("timeline {timeline}"),
                "its history file in the archive",
                format!("histories of timelines {}", known.join(", ")),
                "choose a timeline that the archive knows",
            )
        })
    }

    /// All timelines that are known, ascending.
    pub(crate) fn timelines(&self) -> Vec<Timeline> {
        self.histories.keys().copied().collect()
    }

    /// The newest timeline of which there is a history or a segment.
    pub(crate) fn newest_timeline(&self) -> Timeline {
        let segments = self.archived.iter().chain(self.loose.keys()).map(|s| s.timeline);
        segments.chain(self.histories.keys().copied()).max().unwrap_or(Timeline::FIRST)
    }

    /// Whether there is any segment of a timeline's own.
    pub(crate) fn has_wal(&self, timeline: Timeline) -> bool {
        self.archived.iter().chain(self.loose.keys()).any(|segment| segment.timeline == timeline)
    }

    fn has(&self, name: SegmentName) -> bool {
        self.archived.contains(&name) || self.loose.contains_key(&name)
    }

    /// Requires that everything which replay from `from` to `to` along a timeline reads is there.
    pub(crate) fn continuous(&self, history: &TimelineHistory, from: Lsn, to: Lsn) -> Result<(), RecoveryError> {
        let missing: Vec<SegmentName> = (self.size.segment_of(from)..=self.size.segment_of(to))
            .map(|number| {
                // A segment that holds a switch exists on the newer timeline too; either will do up to the switch.
                let last = Lsn((self.size.start(number + 1).0 - 1).min(to.0));
                (SegmentName::new(history.owner(last), number, self.size), number)
            })
            .filter(|(name, number)| {
                let newer = history.newest_first();
                let newer =
                    newer.iter().filter(|(t, begin)| *t > name.timeline && self.size.segment_of(*begin) <= *number);
                !self.has(*name) && !newer.into_iter().any(|(t, _)| self.has(SegmentName::new(*t, *number, self.size)))
            })
            .map(|(name, _)| name)
            .collect();
        let (Some(first), Some(last)) = (missing.first(), missing.last()) else { return Ok(()) };
        Err(RecoveryError::WalGap {
            timeline: history.timeline,
            missing: if first == last { first.to_string() } else { format!("{first} to {last}") },
            count: missing.len() as u64,
        })
    }

    /// The last segment of a timeline that follows, without a hole, on what is archived; `None` when there is none.
    fn last_of(&self, timeline: Timeline) -> Option<SegmentName> {
        let last_archived = self.archived.iter().rfind(|s| s.timeline == timeline).copied();
        let loose: Vec<SegmentName> = self.loose.keys().filter(|s| s.timeline == timeline).copied().collect();
        let mut last = match last_archived {
            Some(last) => last,
            None => *loose.first()?,
        };
        while let Some(next) = last.number(self.size).map(|n| SegmentName::new(timeline, n + 1, self.size)) {
            if !self.has(next) {
                break;
            }
            last = next;
        }
        Some(last)
    }

    /// Behind the last segment of a timeline that follows on what is archived; where it begins when there is none.
    pub(crate) fn end_of(&self, timeline: Timeline) -> Result<Lsn, RecoveryError> {
        let begin = self.history(timeline)?.begin();
        let last = self.last_of(timeline).map(|last| self.size.start(self.number(last) + 1));
        Ok(last.map_or(begin, |end| end.max(begin)))
    }

    /// The last valid record on a timeline. Reads from its last archived segment on: what is archived has a checksum.
    pub(crate) async fn tail(&self, timeline: Timeline) -> Result<Tail, RecoveryError> {
        let history = self.history(timeline)?;
        let last = self.last_of(timeline).ok_or_else(|| self.nothing(timeline))?;
        let archived = self.archived.iter().rfind(|s| s.timeline == timeline);
        let first = archived.or_else(|| self.loose.keys().find(|s| s.timeline == timeline));
        let first = first.copied().unwrap_or(last);
        let (from, to) = (self.number(first), self.number(last));
        for number in from..=to {
            self.place(SegmentName::new(timeline, number, self.size))?;
        }
        let mut start = self.size.start(from).max(history.begin());
        let found = loop {
            let begin = SegmentName::new(timeline, self.size.segment_of(start), self.size);
            match dump::tail(&self.reading(begin, last, start)).await {
                Ok(tail) => break tail,
                // A segment may hold nothing but the rest of a record that began in the one before it.
                Err(_) if self.number(first) > 0 && start > history.begin() => {
                    let before = self.size.segment_of(start).saturating_sub(1);
                    let name = SegmentName::new(timeline, before, self.size);
                    if !self.has(name) {
                        return Err(self.nothing(timeline));
                    }
                    self.place(name)?;
                    start = self.size.start(before).max(history.begin());
                }
                Err(error) => return Err(error),
            }
        };
        Ok(found)
    }

    /// WAL that was written after `tail` and cannot be reached, because something before it is damaged.
    pub(crate) fn beyond(&self, timeline: Timeline, tail: &Tail) -> Result<Option<Lsn>, RecoveryError> {
        let at = self.size.segment_of(tail.last);
        let later = self.loose.keys().filter(|s| s.timeline == timeline);
        // One segment further may begin with the rest of a torn record; two further is a hole.
        if let Some(name) = later.filter(|s| self.number(**s) > at + 1).min() {
            return Ok(name.start(self.size));
        }
        let Some(path) = self.loose.get(&SegmentName::new(timeline, at, self.size)) else { return Ok(None) };
        let bytes = fs_err::read(path).map_err(|e| RecoveryError::io("read", path, e))?;
        Ok(page_beyond(&bytes, timeline, self.size.start(at), tail.last))
    }

    /// What was noted of a segment when it was archived. One whose note cannot be read is read itself, which tells what is wrong.
    pub(super) fn facts(&self, name: SegmentName) -> Option<SegmentFacts> {
        self.held.get(&name)?.facts().ok().flatten()
    }

    pub(super) fn reading(&self, first: SegmentName, last: SegmentName, from: Lsn) -> Stretch<'_> {
        Stretch { tools: &self.tools, folder: self.scratch.path(), first, last, from }
    }

    pub(super) fn number(&self, name: SegmentName) -> u64 {
        name.number(self.size).unwrap_or_default()
    }

    /// Puts a segment into the folder for `pg_waldump`.
    pub(super) fn place(&self, name: SegmentName) -> Result<(), RecoveryError> {
        let to = self.scratch.path().join(name.to_string());
        if to.symlink_metadata().if_there().map_err(|e| RecoveryError::io("look at", &to, e))?.is_some() {
            return Ok(());
        }
        // A server that runs archives a segment and uses its file again.
        if let Some(path) = self.loose.get(&name)
            && is_there(path)?
        {
            return std::os::unix::fs::symlink(path, &to).map_err(|e| RecoveryError::io("link", &to, e));
        }
        restore(&self.archive, &WalFile::Segment(name), &to)
    }

    fn nothing(&self, timeline: Timeline) -> RecoveryError {
        RecoveryError::impossible(
            format!("wal of timeline {timeline} of system {}", self.archive.system_id()),
            "at least one readable segment",
            "none",
            "is this the repository that the cluster archives to?",
        )
    }
}

/// Puts an archived file that is known to be there at `to`.
pub(crate) fn restore(archive: &Archive, file: &WalFile, to: &Utf8Path) -> Result<(), RecoveryError> {
    if archive.restore(file, to)? {
        return Ok(());
    }
    Err(RecoveryError::impossible(
        archive.place(file).as_str(),
        "the archived file that was there before",
        "none",
        "something removes files of the archive meanwhile",
    ))
}

/// Reads a history file.
pub(crate) fn history_in(path: &Utf8Path, timeline: Timeline) -> Result<TimelineHistory, RecoveryError> {
    let text = fs_err::read_to_string(path).map_err(|e| RecoveryError::io("read", path, e))?;
    TimelineHistory::parse(timeline, &text).map_err(|why| {
        RecoveryError::impossible(path.as_str(), "a timeline history", why, "restore the file from the archive")
    })
}

/// The WAL files in a folder; a folder that is missing has none.
fn wal_files(folder: &Utf8Path) -> Result<Vec<(Utf8PathBuf, WalFile)>, RecoveryError> {
    let entries = folder.read_dir_utf8().if_there().map_err(|e| RecoveryError::io("list", folder, e))?;
    let Some(entries) = entries else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| RecoveryError::io("list", folder, e))?;
        if let Ok(file) = entry.file_name().parse::<WalFile>() {
            files.push((entry.path().to_owned(), file));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

/// The first page well after `end` that belongs where it stands in this segment of a timeline: WAL was written beyond `end`.
pub(super) fn page_beyond(bytes: &[u8], timeline: Timeline, start: Lsn, end: Lsn) -> Option<Lsn> {
    // The page that holds the end is there in any case, and so may be the next: a torn record reaches into it.
    let page = PAGE as u64;
    let first = (end.bytes_since(start) / page + 2) * page;
    (first..bytes.len() as u64).step_by(PAGE).find_map(|at| {
        let (written_on, address) = page_place(&bytes[at as usize..])?;
        (written_on == timeline && address.0 == start.0 + at).then_some(address)
    })
}
