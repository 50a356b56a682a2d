//! Every WAL segment that can be found: the archive's, those salvaged earlier, and those of the old server's `pg_wal` that
//! never reached the archive. They are read by a window of a few segments, which alone are laid out as plain files.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Commit, Tail, TransactionEnd,
    dump::{self, Ended},
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
use cdc_postgres::wal::{
    CommitPlace, PAGE, Record, SegmentFacts, SegmentName, SegmentSize, TimelineHistory, WalFile, page_place,
};

/// How much WAL is laid out at a time while a stretch of any length is read.
const WINDOW_BYTES: u64 = 64 << 20;
/// A window begins with the last segment of the one before it, so that a record which begins there is read to its end.
const WINDOW_SEGMENTS: u64 = 3;

/// Everything of a cluster's WAL that can be read.
#[derive(Debug)]
pub(crate) struct WalView {
    archive: Archive,
    size: SegmentSize,
    tools: Tools,
    /// Segments that are whole in the archive, by timeline and name.
    archived: BTreeSet<SegmentName>,
    /// The objects that hold them, where there is one of each.
    held: BTreeMap<SegmentName, Held>,
    /// Segments outside the archive and where they are.
    loose: BTreeMap<SegmentName, Utf8PathBuf>,
    /// Timeline histories found anywhere.
    histories: BTreeMap<Timeline, TimelineHistory>,
    /// Segments as plain files, for `pg_waldump`.
    scratch: Temporary,
    /// How many of them are laid out at a time.
    width: usize,
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

    /// The restore points on a timeline's own stretch by name, looking from `from` on, and where each lies.
    pub(crate) async fn marks(
        &self,
        timeline: Timeline,
        from: Lsn,
    ) -> Result<(Vec<(String, Lsn)>, Scanned), RecoveryError> {
        let mut with_one = each(|facts| !facts.restore_points.is_empty());
        self.collect(timeline, from, "XLOG", &mut with_one, |record| {
            record.restore_point().map(|name| (name.to_owned(), record.at))
        })
        .await
    }

    /// The ends of a transaction on a timeline's own stretch, looking from `from` on: more than one only where its id was used again.
    pub(crate) async fn ends(
        &self,
        timeline: Timeline,
        from: Lsn,
        xid: u32,
    ) -> Result<(Vec<TransactionEnd>, Scanned), RecoveryError> {
        let mut with_it = each(|facts| facts.xids.is_some_and(|(low, high)| (low..=high).contains(&xid)));
        self.collect(timeline, from, "Transaction", &mut with_it, |record| dump::end_of(record, xid)).await
    }

    /// What `pick` takes of the records of those segments that are chosen by what was noted of them.
    async fn collect<T>(
        &self,
        timeline: Timeline,
        from: Lsn,
        manager: &str,
        choose: &mut Choice<'_>,
        pick: impl Fn(Record<'_>) -> Option<T>,
    ) -> Result<(Vec<T>, Scanned), RecoveryError> {
        let mut found = Vec::new();
        let scanned = self.scan_where(timeline, from, Some(manager), choose, |record| {
            found.extend(pick(record));
            true
        });
        let scanned = scanned.await?;
        Ok((found, scanned))
    }

    /// Shows the commits on a timeline's own stretch from `from` on to `see` until it returns false.
    pub(crate) async fn commits(
        &self,
        timeline: Timeline,
        from: Lsn,
        mut see: impl FnMut(Commit) -> bool,
    ) -> Result<Scanned, RecoveryError> {
        self.scan(timeline, from, Some("Transaction"), |record| dump::commit(record).is_none_or(&mut see)).await
    }

    /// The same from the last commit on that was noted before the first one of a time or later: those around that time are shown.
    pub(crate) async fn commits_around(
        &self,
        timeline: Timeline,
        from: Lsn,
        time: jiff::Timestamp,
        mut see: impl FnMut(Commit) -> bool,
    ) -> Result<Scanned, RecoveryError> {
        let mut behind = |names: &[SegmentName], notes: &dyn Fn(SegmentName) -> Option<SegmentFacts>| {
            let (mut first, mut before) = (names.len(), None);
            for (at, name) in names.iter().enumerate() {
                match notes(*name).filter(|facts| !facts.open) {
                    Some(SegmentFacts { commits: None, .. }) => {}
                    Some(SegmentFacts { commits: Some(commits), .. }) if commits.latest < time => before = Some(at),
                    _ => {
                        first = at;
                        break;
                    }
                }
            }
            (0..names.len()).map(|at| at >= first || before == Some(at)).collect()
        };
        let see = |record: Record<'_>| dump::commit(record).is_none_or(&mut see);
        self.scan_where(timeline, from, Some("Transaction"), &mut behind, see).await
    }

    /// Counts the commits on a timeline's own stretch in `[from, to)`: those of segments of which it was noted, without reading them.
    pub(crate) async fn count_commits(
        &self,
        timeline: Timeline,
        from: Lsn,
        to: Option<Lsn>,
    ) -> Result<(Counted, Scanned), RecoveryError> {
        let begin = self.history(timeline)?.begin().max(from);
        let mut noted = Vec::new();
        let mut unknown = |names: &[SegmentName], notes: &dyn Fn(SegmentName) -> Option<SegmentFacts>| {
            let mut wanted = Vec::new();
            for name in names {
                let start = self.size.start(self.number(*name));
                let within = begin <= start && to.is_none_or(|to| start.0 + self.size.bytes() <= to.0);
                let beyond = to.is_some_and(|to| to <= start);
                match notes(*name).filter(|facts| within && !facts.open) {
                    _ if beyond => wanted.push(false),
                    Some(facts) => {
                        noted.extend(facts.commits);
                        wanted.push(false);
                    }
                    None => wanted.push(true),
                }
            }
            wanted
        };
        let mut counted = Counted::default();
        let scanned = self.scan_where(timeline, from, Some("Transaction"), &mut unknown, |record| {
            let Some(commit) = dump::commit(record) else { return true };
            let within = to.is_none_or(|to| commit.at < to);
            if within {
                counted.add(1, commit, commit);
            }
            within
        });
        // Enough was seen of a stretch that ends within the WAL.
        let scanned = scanned.await?;
        let as_commit = |place: &CommitPlace| Commit { at: place.at, time: place.time, xid: Some(place.xid) };
        for commits in noted {
            counted.add(commits.count, as_commit(&commits.first), as_commit(&commits.last));
        }
        Ok((counted, scanned))
    }

    /// The last commit before `to` along a timeline's path, looking back as far as `from`.
    pub(crate) async fn last_commit(
        &self,
        history: &TimelineHistory,
        from: Lsn,
        to: Lsn,
    ) -> Result<Option<Commit>, RecoveryError> {
        let mut end = to;
        for (timeline, begin) in history.newest_first() {
            let first = begin.max(from);
            // Segment by segment: the last one that is looked at has a commit, as a rule.
            while first < end {
                let start = self.size.start(self.size.segment_before(end)).max(first);
                let mut last = None;
                self.commits(timeline, start, |commit| {
                    let within = commit.at < end;
                    if within {
                        last = Some(commit);
                    }
                    within
                })
                .await?;
                if last.is_some() {
                    return Ok(last);
                }
                end = start;
            }
            end = end.min(begin);
        }
        Ok(None)
    }

    /// The first record that starts at or after a position of a timeline's own stretch.
    pub(crate) async fn record_from(&self, timeline: Timeline, from: Lsn) -> Result<Option<Lsn>, RecoveryError> {
        let mut found = None;
        self.scan(timeline, from, None, |record| {
            found = Some(record.at);
            false
        })
        .await?;
        Ok(found)
    }

    /// Shows the records on a timeline's own stretch from `from` on to `see`, in their order, until it returns false.
    async fn scan(
        &self,
        timeline: Timeline,
        from: Lsn,
        manager: Option<&str>,
        see: impl FnMut(Record<'_>) -> bool,
    ) -> Result<Scanned, RecoveryError> {
        self.scan_where(timeline, from, manager, &mut |names, _| vec![true; names.len()], see).await
    }

    /// The same of those segments alone that are chosen by what was noted of them.
    async fn scan_where(
        &self,
        timeline: Timeline,
        from: Lsn,
        manager: Option<&str>,
        choose: &mut Choice<'_>,
        mut see: impl FnMut(Record<'_>) -> bool,
    ) -> Result<Scanned, RecoveryError> {
        let begin = self.history(timeline)?.begin().max(from);
        let (names, gap) = self.run_of(timeline, self.size.segment_of(begin));
        let mut wanted = choose(&names, &|name| self.facts(name));
        // The last record of one may go on in the next: that is wanted too, unless it is known that the record is none that matters.
        for at in (1..names.len()).rev() {
            wanted[at] = wanted[at] || wanted[at - 1] && self.facts(names[at - 1]).is_none_or(|facts| facts.open);
        }
        for run in (0..names.len()).collect::<Vec<_>>().chunk_by(|a, b| wanted[*a] == wanted[*b]) {
            if !wanted[run[0]] {
                continue;
            }
            let is_last = run.last().is_some_and(|at| at + 1 == names.len());
            let run = &names[run[0]..=run[run.len() - 1]];
            match self.scan_run(run, begin, manager, &mut see).await? {
                Scanned::All => {}
                // What it lacks is in a segment that is not wanted.
                Scanned::Unread(why) if !is_last => return Ok(Scanned::Unread(why)),
                other => return Ok(other),
            }
        }
        Ok(gap.map_or(Scanned::All, Scanned::Unread))
    }

    /// What was noted of a segment when it was archived. One whose note cannot be read is read itself, which tells what is wrong.
    fn facts(&self, name: SegmentName) -> Option<SegmentFacts> {
        self.held.get(&name)?.facts().ok().flatten()
    }

    /// The same of segments that follow on one another.
    async fn scan_run(
        &self,
        names: &[SegmentName],
        begin: Lsn,
        manager: Option<&str>,
        see: &mut impl FnMut(Record<'_>) -> bool,
    ) -> Result<Scanned, RecoveryError> {
        let Some(first) = names.first() else { return Ok(Scanned::All) };
        let start = begin.max(self.size.start(self.number(*first)));
        let mut window = Window { at: 0, width: self.width, before: 0 };
        let mut last_seen = None;
        loop {
            let end = (window.at + window.width).min(names.len());
            let placed = &names[window.at..end];
            self.lay_out(placed)?;
            // Just behind the segment's beginning: `pg_waldump` then says where the first record starts.
            let start = if window.at == 0 { start } else { Lsn(self.size.start(self.number(placed[0])).0 + 1) };
            let reading = dump::read(&self.reading(placed[0], placed[placed.len() - 1], start), manager, |record| {
                // What lies in the segment that two windows share is shown once.
                if last_seen.is_some_and(|seen| record.at <= seen) {
                    return true;
                }
                last_seen = Some(record.at);
                see(record)
            })
            .await?;
            if reading.ended == Ended::Stopped {
                return Ok(Scanned::Stopped);
            }
            let shared = self.size.start(self.number(placed[0]) + 1);
            if window.at > 0 && placed.len() > 1 && reading.first.is_none_or(|at| at >= shared) {
                // A record began in the window before and goes on beyond the shared segment: a wider one reads it.
                window.widen();
                continue;
            }
            match reading.ended {
                Ended::Broken(why) if end < names.len() => return Ok(Scanned::Unread(why)),
                _ if end < names.len() => window.slide(end),
                _ => return Ok(Scanned::All),
            }
        }
    }

    /// A timeline's own segments from a number on that follow on one another, and what is missing where there are more.
    fn run_of(&self, timeline: Timeline, from: u64) -> (Vec<SegmentName>, Option<String>) {
        let own = self.archived.iter().chain(self.loose.keys()).filter(|s| s.timeline == timeline);
        let all: BTreeSet<SegmentName> = own.copied().filter(|s| self.number(*s) >= from).collect();
        let mut names: Vec<SegmentName> = Vec::new();
        for name in all {
            if let Some(last) = names.last().map(|last| self.number(*last))
                && self.number(name) != last + 1
            {
                let missing = SegmentName::new(timeline, last + 1, self.size);
                return (names, Some(format!("segment {missing} is missing, and there are later ones")));
            }
            names.push(name);
        }
        (names, None)
    }

    /// Has these segments laid out, and no others.
    fn lay_out(&self, names: &[SegmentName]) -> Result<(), RecoveryError> {
        let wanted: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        let folder = self.scratch.path();
        let unlisted = |e| RecoveryError::io("list", folder, e);
        for entry in folder.read_dir_utf8().map_err(unlisted)? {
            let entry = entry.map_err(unlisted)?;
            if !wanted.contains(entry.file_name()) {
                std::fs::remove_file(entry.path()).map_err(|e| RecoveryError::io("remove", entry.path(), e))?;
            }
        }
        names.iter().try_for_each(|name| self.place(*name))
    }

    fn reading(&self, first: SegmentName, last: SegmentName, from: Lsn) -> dump::Stretch<'_> {
        dump::Stretch { tools: &self.tools, folder: self.scratch.path(), first, last, from }
    }

    fn number(&self, name: SegmentName) -> u64 {
        name.number(self.size).unwrap_or_default()
    }

    /// Puts a segment into the folder for `pg_waldump`.
    fn place(&self, name: SegmentName) -> Result<(), RecoveryError> {
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

/// Which of a run of segments are read, by what was noted of each.
type Choice<'a> = dyn FnMut(&[SegmentName], &dyn Fn(SegmentName) -> Option<SegmentFacts>) -> Vec<bool> + Send + 'a;

/// Chooses each segment by itself: where something was noted that is asked for, and where nothing is known.
fn each(
    has: impl Fn(&SegmentFacts) -> bool + Send,
) -> impl FnMut(&[SegmentName], &dyn Fn(SegmentName) -> Option<SegmentFacts>) -> Vec<bool> + Send {
    move |names, notes| names.iter().map(|name| notes(*name).is_none_or(|facts| facts.open || has(&facts))).collect()
}

/// Commits that were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) count: u64,
    /// The first and the last of them in the order of the WAL.
    pub(crate) ends: Option<(Commit, Commit)>,
}

impl Counted {
    fn add(&mut self, count: u64, first: Commit, last: Commit) {
        self.count += count;
        self.ends = Some(match self.ends {
            None => (first, last),
            Some((from, to)) => {
                (if first.at < from.at { first } else { from }, if last.at > to.at { last } else { to })
            }
        });
    }
}

/// How far a scan came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// Whoever looked has seen enough.
    Stopped,
    /// To the end of what there is.
    All,
    /// Not to its end: why what lies behind cannot be read.
    Unread(String),
}

/// Which segments of a run are laid out.
struct Window {
    /// The first, by its place in the run.
    at: usize,
    width: usize,
    /// The first of the window before.
    before: usize,
}

impl Window {
    /// Goes on from the last segment that was read.
    fn slide(&mut self, end: usize) {
        (self.before, self.at) = (self.at, end - 1);
    }

    /// Goes back, for more at a time.
    fn widen(&mut self) {
        (self.at, self.width) = (self.before, self.width * 2);
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
fn page_beyond(bytes: &[u8], timeline: Timeline, start: Lsn, end: Lsn) -> Option<Lsn> {
    // The page that holds the end is there in any case, and so may be the next: a torn record reaches into it.
    let page = PAGE as u64;
    let first = (end.bytes_since(start) / page + 2) * page;
    (first..bytes.len() as u64).step_by(PAGE).find_map(|at| {
        let (written_on, address) = page_place(&bytes[at as usize..])?;
        (written_on == timeline && address.0 == start.0 + at).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{Repository, fixture::segment_bytes, wal::SegmentState};
    use cdc_model::units::SystemId;

    fn page(address: u64) -> Vec<u8> {
        let mut page = vec![0u8; PAGE];
        page[0..2].copy_from_slice(&0xD118u16.to_le_bytes());
        page[4..8].copy_from_slice(&1u32.to_le_bytes());
        page[8..16].copy_from_slice(&address.to_le_bytes());
        page
    }

    #[test]
    fn a_segment_that_cannot_be_read_is_not_left_out() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let archive = Repository::init(&home.join("repository")).unwrap().archive(SystemId(7));
        let pg_wal = home.join("pg_wal");
        fs_err::create_dir(&pg_wal).unwrap();
        let size = SegmentSize::new(1 << 20).unwrap();
        let open = || WalView::open(archive.clone(), size, &Tools::here("/bin".into()), std::slice::from_ref(&pg_wal));
        fs_err::write(pg_wal.join("000000010000000000000001"), "no header").unwrap();
        assert!(open().unwrap().loose().is_empty());
        let looped = pg_wal.join("000000010000000000000002");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        let error = open().unwrap_err().to_string();
        assert!(error.contains(looped.as_str()), "{error}");
    }

    #[test]
    fn a_segment_that_a_recovery_has_left_is_none_of_the_new_timeline() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let archive = Repository::init(&home.join("repository")).unwrap().archive(SystemId(7));
        let pg_wal = home.join("pg_wal");
        fs_err::create_dir(&pg_wal).unwrap();
        let size = SegmentSize::new(1 << 20).unwrap();
        let put = |timeline: u32, named: u32, number: u64| {
            let name = SegmentName::new(Timeline::literal(timeline), number, size);
            let bytes = segment_bytes(SystemId(7), size, name, 1);
            let name = SegmentName::new(Timeline::literal(named), number, size);
            fs_err::write(pg_wal.join(name.to_string()), bytes).unwrap();
            name
        };
        // Timeline 2 leaves timeline 1 within segment 5, which begins with the pages of timeline 1. Segment 6 of timeline 1 was there
        // already, and the server has renamed it to use it again.
        fs_err::write(pg_wal.join("00000002.history"), "1\t0/500650\tno recovery target\n").unwrap();
        let (fork, _recycled) = (put(1, 2, 5), put(1, 2, 6));
        let own = put(2, 2, 7);
        let view = WalView::open(archive, size, &Tools::here("/bin".into()), std::slice::from_ref(&pg_wal)).unwrap();
        assert_eq!(view.loose().keys().collect::<Vec<_>>(), [&fork, &own]);
    }

    #[test]
    fn an_archived_segment_that_is_gone_meanwhile_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let archive = Repository::init(&home.join("repository")).unwrap().archive(SystemId(7));
        let name = SegmentName::new(Timeline::FIRST, 3, SegmentSize::new(1 << 20).unwrap());
        let error = restore(&archive, &WalFile::Segment(name), &home.join("to")).unwrap_err();
        assert!(error.to_string().contains(&name.to_string()), "{error}");
    }

    #[test]
    fn wal_beyond_the_end_is_seen_and_old_pages_are_not() {
        let start = 0x500_0000u64;
        let mut bytes: Vec<u8> = Vec::new();
        for i in 0..128 {
            // The second half was written for an earlier segment.
            let base = if i < 64 { start } else { start - 0x300_0000 };
            bytes.extend(page(base + i * PAGE as u64));
        }
        let beyond = |timeline, pages: u64| {
            page_beyond(&bytes, Timeline::literal(timeline), Lsn(start), Lsn(start + pages * PAGE as u64 + 40))
        };
        assert_eq!(beyond(1, 63), None);
        assert_eq!(beyond(1, 10), Some(Lsn(start + 12 * PAGE as u64)));
        assert_eq!(beyond(2, 10), None, "they were written on a timeline that a recovery has left");
    }

    /// Shows the records that stand as lines in its segments, as far as they end in the last one, and notes how many files there are.
    const WALDUMP: &str = r#"#!/bin/sh
folder=$2
from=$4
eval "last=\$$#"
eval "first=\$$(($# - 1))"
ls "$folder" | wc -l >> "$0.files"
cd "$folder" && ls | LC_ALL=C awk -v first="$first" -v last="$last" '$0 >= first && $0 <= last' | xargs cat | tr -d '\000' |
    LC_ALL=C awk -v last="$last" -v from="$from" '
        /^needs/ {
            if (!seen++ && from ~ /1$/) { split($0, part, "lsn: "); sub(/,.*/, "", part[2]); print "first record is after " from ", at " part[2] ", skipping over 1 byte" }
            if ($2 > last) exit
            $1 = ""; $2 = ""; print
        }'
"#;

    /// Shows the lines of `records.txt` that lie in its segments (of 1 MiB, in the first 4 GiB), and notes which segments these are.
    const OF_RECORDS: &str = r#"#!/bin/sh
eval "last=\$$#"
eval "first=\$$(($# - 1))"
from=$(printf '%08X' "0x${4#0/}")
echo "$first $last" >> "$0.read"
case "$*" in *--rmgr=XLOG*) manager="rmgr: XLOG";; *) manager="rmgr: Transaction";; esac
grep "$manager" "$0.records" | awk -v first="${first#000000010000000000000}" -v last="${last#000000010000000000000}" -v from="$from" '
    { split($0, part, "lsn: 0/"); at = substr(part[2], 1, 3) }
    at >= first && at <= last && substr(part[2], 1, 8) >= from { print }'
"#;

    #[tokio::test]
    async fn what_was_noted_of_segments_chooses_those_that_are_read() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let fixtures = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wal/18");
        let program = home.join("pg_waldump");
        fs_err::write(&program, OF_RECORDS).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs_err::copy(fixtures.join("records.txt"), format!("{program}.records")).unwrap();
        let repository = Repository::init(&home.join("repository")).unwrap();
        let mut archive = None;
        for number in 7..12u64 {
            let size = SegmentSize::new(1 << 20).unwrap();
            let file = home.join(SegmentName::new(Timeline::FIRST, number, size).to_string());
            let stored = fs_err::File::open(fixtures.join(format!("{}.zst", file.file_name().unwrap()))).unwrap();
            let bytes = zstd::decode_all(stored).unwrap();
            let header = cdc_postgres::wal::SegmentHeader::parse(bytes.first_chunk().unwrap()).unwrap();
            fs_err::write(&file, bytes).unwrap();
            let to = archive.get_or_insert_with(|| repository.archive(header.system_id));
            to.add_segment(&file, SegmentState::Complete).unwrap();
        }
        let size = SegmentSize::new(1 << 20).unwrap();
        let mut view = WalView::open(archive.unwrap(), size, &Tools::here(home), &[]).unwrap();
        let read = || {
            let path = Utf8PathBuf::from(format!("{program}.read"));
            let read = std::fs::read_to_string(&path).if_there().unwrap().unwrap_or_default();
            std::fs::remove_file(&path).if_there().unwrap();
            read.replace("000000010000000000000", "").lines().map(str::to_owned).collect::<Vec<_>>()
        };

        let (ends, scanned) = view.ends(Timeline::FIRST, Lsn(0), 764).await.unwrap();
        assert!(matches!(ends.as_slice(), [TransactionEnd::Committed(at)] if at.at == Lsn(0x87_2F30)), "{ends:?}");
        assert_eq!((scanned, read()), (Scanned::All, vec!["008 008".to_owned()]));
        let (ends, _) = view.ends(Timeline::FIRST, Lsn(0), 758).await.unwrap();
        assert_eq!(ends, [TransactionEnd::RolledBack(Lsn(0x83_BDC0))], "a subtransaction of one that is kept");
        read();
        let (marks, _) = view.marks(Timeline::FIRST, Lsn(0)).await.unwrap();
        let names: Vec<&str> = marks.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, read()), (vec!["before: it", "zwei", "third"], vec!["008 008".into(), "00A 00A".into()]));
        assert!(view.ends(Timeline::FIRST, Lsn(0), 5000).await.unwrap().0.is_empty());
        assert_eq!(read(), [""; 0], "nothing is read for what is nowhere");

        // All are noted, but those of the segment in which the stretch begins or ends.
        let count = async |from, to| view.count_commits(Timeline::FIRST, Lsn(from), to).await.unwrap().0;
        let all = count(0, None).await;
        let ends = all.ends.map(|(first, last)| (first.xid, last.xid, last.at));
        assert_eq!((all.count, ends), (21, Some((Some(744), Some(770), Lsn(0xB0_00A8)))));
        assert_eq!(read(), [""; 0]);
        let some = count(0x87_2F30, Some(Lsn(0xA9_ED50))).await;
        assert_eq!(some.count, 2 + 1, "764, 766 and 767");
        assert_eq!(read(), ["008 008", "00A 00A"]);
        let time = "2026-11-27T12:38:16.437379Z".parse().unwrap();
        let mut around = Vec::new();
        let scanned = view.commits_around(Timeline::FIRST, Lsn(0), time, |commit| {
            around.push(commit.xid.unwrap());
            commit.time <= time
        });
        assert_eq!(scanned.await.unwrap(), Scanned::Stopped);
        assert_eq!(
            (around.last(), around.contains(&768), read()),
            (Some(&769), true, vec!["008 008".into(), "00A 00B".into()])
        );

        // Of one that two archivers stored, or an older release, nothing is known: it is read.
        view.held.clear();
        assert_eq!(view.count_commits(Timeline::FIRST, Lsn(0), None).await.unwrap().0, all);
        assert!(!read().is_empty());
    }

    /// Where `pg_waldump` says where the first record starts: on standard output up to PostgreSQL 15, as 18 does later.
    const SKIPPED: (&str, &str) = ("print \"first", "print \"pg_waldump: first");
    const BYTE: (&str, &str) = ("1 byte\" }", "1 byte\" > \"/dev/stderr\" }");

    #[rstest::rstest]
    #[case::as_postgresql_15_prints_it(WALDUMP.to_owned())]
    #[case::as_postgresql_18_prints_it(WALDUMP.replace(SKIPPED.0, SKIPPED.1).replace(BYTE.0, BYTE.1))]
    #[tokio::test]
    async fn a_stretch_of_any_length_is_read_by_a_window_of_segments(#[case] waldump: String) {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let size = SegmentSize::new(1 << 20).unwrap();
        let archive = Repository::init(&home.join("repository")).unwrap().archive(SystemId(7));
        let program = home.join("pg_waldump");
        fs_err::write(&program, waldump).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut expected = Vec::new();
        // A record, and where it ends. One that begins in 5 goes on to 8, and nothing begins between; 12 is lost.
        let records = [(3, 3), (4, 4), (5, 5), (5, 8), (8, 9), (9, 9), (10, 10), (11, 11), (13, 13), (14, 14)];
        for number in (3..15).filter(|number| *number != 12) {
            let name = SegmentName::new(Timeline::FIRST, number, size);
            let mut bytes = segment_bytes(SystemId(7), size, name, 0);
            let mut at = 64;
            for (offset, (_, end)) in records.iter().enumerate().filter(|(_, (begin, _))| *begin == number) {
                let lsn = Lsn(size.start(number).0 + 0x100 * (1 + offset as u64));
                let needs = SegmentName::new(Timeline::FIRST, *end, size);
                let line = format!(
                    "\nneeds {needs} rmgr: Transaction len: 46, tx: 7, lsn: {lsn}, desc: COMMIT 2026-11-22 20:{number:02}:00.000000 UTC\n"
                );
                bytes[at..at + line.len()].copy_from_slice(line.as_bytes());
                at += line.len();
                expected.push(lsn);
            }
            let file = home.join(name.to_string());
            fs_err::write(&file, bytes).unwrap();
            archive.add_segment(&file, SegmentState::Complete).unwrap();
        }
        let mut view = WalView::open(archive, size, &Tools::here(home), &[]).unwrap();
        view.width = 3;
        let mut seen = Vec::new();
        let scanned = view.commits(Timeline::FIRST, Lsn(0), |commit| {
            seen.push(commit.at);
            true
        });
        let Scanned::Unread(why) = scanned.await.unwrap() else { panic!("a segment is missing") };
        assert!(why.contains("00000001000000000000000C is missing"), "{why}");
        assert_eq!(seen, expected[..8], "each once, in their order");
        let files = fs_err::read_to_string(format!("{program}.files")).unwrap();
        let most = files.lines().map(|line| line.trim().parse::<usize>().unwrap()).max();
        assert_eq!(most, Some(6), "three at a time, and six for the record that needs more: {files}");
        let mut after = Vec::new();
        let scanned = view.commits(Timeline::FIRST, size.start(13), |commit| {
            after.push(commit.at);
            after.len() < 2
        });
        assert_eq!((scanned.await.unwrap(), after.as_slice()), (Scanned::Stopped, &expected[8..]));
        // A position between two records is nothing that cannot be read.
        let scanned = view.commits(Timeline::FIRST, Lsn(size.start(13).0 + 1), |_| true);
        assert_eq!(scanned.await.unwrap(), Scanned::All);
    }
}
