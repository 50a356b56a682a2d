//! Reading a stretch of WAL: by what was noted of its segments, and by a window of a few of them that are laid out.

use std::collections::BTreeSet;

use super::{
    Commit, TransactionEnd,
    dump::{self, Ended},
    view::WalView,
};
use crate::recovery::RecoveryError;
use cdc_model::units::{Lsn, Timeline};
use cdc_postgres::wal::{CommitPlace, Record, SegmentFacts, SegmentName, TimelineHistory};

impl WalView {
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
