//! What a target means on each of several timelines, and which transactions a choice gives up.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::recovery::{
    RecoveryError,
    wal::{Commit, Scanned, WalView},
};
use cdc_model::units::{Lsn, Timeline};
use cdc_postgres::wal::TimelineHistory;

/// Where a target lies, seen from one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The timeline.
    pub(crate) timeline: Timeline,
    /// It, or the ancestor of it that owns the position.
    pub(crate) owner: Timeline,
    /// Where replay stops.
    pub(crate) at: Lsn,
}

/// What a target means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// It lies on no timeline.
    Nothing,
    /// One position.
    One(Candidate),
    /// Different positions; a timeline for each.
    Several(Vec<Timeline>),
}

/// What the candidates mean together. Timelines that share a position mean the same; then the one that the server is on is taken, or
/// the position's own.
pub(crate) fn meant(candidates: &[Candidate], current: Timeline) -> Meant {
    let mut positions: BTreeMap<(Timeline, Lsn), Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        positions.entry((candidate.owner, candidate.at)).or_default().push(*candidate);
    }
    let chosen = positions.values().filter_map(|same| {
        let is = |timeline: Timeline| same.iter().find(|c| c.timeline == timeline);
        is(current).or_else(|| same.iter().find(|c| c.timeline == c.owner)).or(same.first()).copied()
    });
    match chosen.collect::<Vec<_>>().as_slice() {
        [] => Meant::Nothing,
        [one] => Meant::One(*one),
        several => Meant::Several(several.iter().map(|c| c.timeline).collect()),
    }
}

/// Stretches of a timeline's path, oldest first: the timeline that owns it, where it begins and where the path leaves it.
fn path(history: &TimelineHistory) -> Vec<(Timeline, Lsn, Option<Lsn>)> {
    let left = |of: Timeline| history.ancestors.iter().find(|a| a.timeline == of).map(|a| a.end);
    history.newest_first().into_iter().rev().map(|(of, begin)| (of, begin, left(of))).collect()
}

/// The search for a moment on several timelines, which share their ancestors.
pub(crate) struct Search<'v> {
    view: &'v WalView,
    moment: jiff::Timestamp,
    /// Commits of that very moment lie after it.
    exclusive: bool,
    /// What was found on a timeline's own stretch, by where looking began and where a path leaves it.
    seen: BTreeMap<(Timeline, Lsn, Option<Lsn>), Seen>,
}

/// What was found on a stretch.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The first commit after the moment.
    after: Option<Commit>,
    /// The last commit before that one.
    before: Option<Commit>,
    /// Why reading ended early.
    unread: Option<String>,
}

/// The two commits between which a moment lies, in the order of the WAL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    /// The first one after the moment, and the first that replay leaves out.
    pub(crate) after: Commit,
    /// The one before it; none where nothing was committed since looking began.
    pub(crate) before: Option<Commit>,
}

impl<'v> Search<'v> {
    pub(crate) fn new(view: &'v WalView, moment: jiff::Timestamp, exclusive: bool) -> Search<'v> {
        Search { view, moment, exclusive, seen: BTreeMap::new() }
    }

    /// The first commit after the moment on a timeline, ancestors included, looking from `from` on, and the one before; or why nobody
    /// knows.
    pub(crate) async fn first_after(
        &mut self,
        history: &TimelineHistory,
        from: Lsn,
    ) -> Result<Result<Option<Around>, String>, RecoveryError> {
        let mut last = None;
        for (of, begin, left) in path(history) {
            if left.is_some_and(|left| left <= from) {
                continue;
            }
            let Seen { after, before, unread } = self.on(of, begin.max(from), left).await?;
            last = before.or(last);
            if let Some(after) = after {
                return Ok(Ok(Some(Around { after, before: last })));
            }
            if let Some(why) = unread {
                return Ok(Err(why));
            }
        }
        Ok(Ok(None))
    }

    async fn on(&mut self, timeline: Timeline, from: Lsn, left: Option<Lsn>) -> Result<Seen, RecoveryError> {
        if let Some(known) = self.seen.get(&(timeline, from, left)) {
            return Ok(known.clone());
        }
        let (moment, exclusive) = (self.moment, self.exclusive);
        let mut seen = Seen::default();
        let scanned = self.view.commits_around(timeline, from, moment, |commit| {
            if left.is_some_and(|left| left <= commit.at) {
                return false;
            }
            match commit.time > moment || exclusive && commit.time == moment {
                true => seen.after = Some(commit),
                false => seen.before = Some(commit),
            }
            seen.after.is_none()
        });
        seen.unread = match scanned.await? {
            Scanned::Unread(why) => Some(why),
            Scanned::All | Scanned::Stopped => None,
        };
        self.seen.insert((timeline, from, left), seen.clone());
        Ok(seen)
    }

    /// Timelines that ended before the moment and hold transactions which the position that was found does not: it follows directly
    /// on the place where its timeline branched off, and they went on from there.
    pub(crate) async fn ended_before(
        &self,
        found: &Candidate,
        candidates: &[Candidate],
    ) -> Result<Vec<Timeline>, RecoveryError> {
        let begin = self.view.history(found.owner)?.begin();
        let Some(parent) = self.view.history(found.owner)?.ancestors.last().map(|a| a.timeline) else {
            return Ok(Vec::new());
        };
        if self.commits_between(found.owner, begin, Some(found.at)).await? {
            return Ok(Vec::new());
        }
        let mut ended = Vec::new();
        for timeline in self.view.timelines() {
            let history = self.view.history(timeline)?;
            let is_candidate = candidates.iter().any(|c| c.timeline == timeline);
            // The path shares the parent's stretch beyond the place, or is a descendant of what does.
            let stretches = path(history);
            let Some(at) = stretches.iter().position(|(of, ..)| *of == parent) else { continue };
            if is_candidate || stretches[at].2.is_some_and(|left| left < begin) {
                continue;
            }
            for (of, from, left) in &stretches[at..] {
                if self.commits_between(*of, (*from).max(begin), *left).await? {
                    ended.push(timeline);
                    break;
                }
            }
        }
        Ok(ended)
    }

    /// Whether anything was committed on a timeline's own stretch in `[from, to)`.
    async fn commits_between(&self, timeline: Timeline, from: Lsn, to: Option<Lsn>) -> Result<bool, RecoveryError> {
        let mut found = false;
        self.view
            .commits(timeline, from, |commit| {
                found = to.is_none_or(|to| commit.at < to);
                false
            })
            .await?;
        Ok(found)
    }
}

/// A timeline for a person who has to choose one: its stretch, and when transactions were committed on it. `from` is where the first
/// recovery point lies on it.
pub(crate) async fn described(view: &WalView, timeline: Timeline, from: Lsn) -> Result<String, RecoveryError> {
    let begin = view.history(timeline)?.begin().max(from);
    let end = view.tail(timeline).await.map_or_else(|_| "an unknown end".to_owned(), |tail| tail.last.to_string());
    let (counted, _) = view.count_commits(timeline, begin, None).await?;
    let commits = match counted.ends {
        Some((first, last)) => format!("commits from {} to {}", first.time, last.time),
        None => "no commit".to_owned(),
    };
    Ok(format!("timeline {timeline} ({begin} to {end}, {commits})"))
}

/// Transactions on one timeline that the result of a recovery does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenUp {
    timeline: Timeline,
    /// Those that were counted.
    transactions: u64,
    /// Where they begin.
    from: Lsn,
    /// The first of them: `743, committed at 2026-11-22T20:50:11Z (0/307D9F8)`.
    #[serde(default)]
    first: Option<String>,
    /// When the last of them was committed.
    last: Option<String>,
    /// Whether the server had left that timeline before.
    left_before: bool,
    /// Why there may be more.
    unread: Option<String>,
}

impl std::fmt::Display for GivenUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let GivenUp { timeline, transactions, from, first, last, left_before, unread } = self;
        let least = if unread.is_some() { "at least " } else { "" };
        let s = if *transactions == 1 { "" } else { "s" };
        write!(
            f,
            "given up: {least}{transactions} transaction{s} on timeline {timeline} after the target, from {from} on"
        )?;
        if let Some(first) = first {
            write!(f, ", the first one {first}")?;
        }
        if let Some(last) = last {
            write!(f, ", the last one committed at {last}")?;
        }
        if *left_before {
            f.write_str(" (an earlier recovery had left that timeline)")?;
        }
        match unread {
            Some(why) => write!(f, "; the rest of its WAL cannot be read: {why}"),
            None => Ok(()),
        }
    }
}

/// A stretch `[from, to)` of a timeline's own WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    timeline: Timeline,
    from: Lsn,
    to: Option<Lsn>,
    /// Whether the server was not on this timeline any more.
    left_before: bool,
}

/// What neither the path of the server nor that of the target keeps, when replay leaves out everything from `cut` on.
fn beyond(current: &TimelineHistory, target: &TimelineHistory, cut: Lsn) -> Vec<Stretch> {
    let (theirs, ours) = (path(current), path(target));
    let all: BTreeSet<Timeline> = theirs.iter().chain(&ours).map(|(of, ..)| *of).collect();
    let mut found = Vec::new();
    for timeline in all {
        let on = |path: &[(Timeline, Lsn, Option<Lsn>)]| path.iter().find(|(of, ..)| *of == timeline).copied();
        let (server, kept) = (on(&theirs), on(&ours));
        let begin = server.or(kept).map_or(Lsn(0), |(_, begin, _)| begin);
        let from = kept.map_or(begin, |(_, begin, left)| left.map_or(cut, |left| left.min(cut)).max(begin));
        let ends = |path: Option<(Timeline, Lsn, Option<Lsn>)>| path.map(|(.., left)| left);
        let (server, kept) = (ends(server), ends(kept));
        if let Some(to) = server
            && to.is_none_or(|to| from < to)
        {
            found.push(Stretch { timeline, from, to, left_before: false });
        }
        // What the server had left already lies behind its own part.
        let from = match server {
            None => from,
            Some(None) => continue,
            Some(Some(left)) => from.max(left),
        };
        if let Some(to) = kept
            && to.is_none_or(|to| from < to)
        {
            found.push(Stretch { timeline, from, to, left_before: true });
        }
    }
    found
}

/// Counts what a recovery gives up: on the timelines that the server was on, and on that of the target.
pub(crate) async fn given_up(
    view: &WalView,
    current: Timeline,
    target: &TimelineHistory,
    cut: Option<Lsn>,
) -> Result<Vec<GivenUp>, RecoveryError> {
    let Some(cut) = cut else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for Stretch { timeline, from, to, left_before } in beyond(view.history(current)?, target, cut) {
        let (counted, scanned) = view.count_commits(timeline, from, to).await?;
        let (transactions, first) = (counted.count, counted.ends.map(|(first, _)| first.to_string()));
        let last = counted.ends.map(|(_, last)| last.time.to_string());
        let unread = match scanned {
            Scanned::Unread(why) => Some(why),
            Scanned::All | Scanned::Stopped => None,
        };
        if transactions > 0 || unread.is_some() {
            found.push(GivenUp { timeline, transactions, from, first, last, left_before, unread });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(timeline: u32, owner: u32, at: u64) -> Candidate {
        Candidate { timeline: Timeline::literal(timeline), owner: Timeline::literal(owner), at: Lsn(at) }
    }

    fn history(timeline: u32, ancestors: &[(u32, u64)]) -> TimelineHistory {
        let text: String = ancestors.iter().map(|(of, end)| format!("{of}\t{}\tx\n", Lsn(*end))).collect();
        TimelineHistory::parse(Timeline::literal(timeline), &text).unwrap()
    }

    #[test]
    fn timelines_that_share_a_position_mean_the_same() {
        assert_eq!(meant(&[], Timeline::literal(1)), Meant::Nothing);
        let (one, two, three) = (candidate(1, 1, 500), candidate(2, 1, 500), candidate(3, 1, 500));
        assert_eq!(meant(&[one, two, three], Timeline::literal(2)), Meant::One(two), "the server's own");
        assert_eq!(meant(&[three, one], Timeline::literal(2)), Meant::One(one), "the position's own");
        assert_eq!(meant(&[candidate(2, 2, 700)], Timeline::literal(1)), Meant::One(candidate(2, 2, 700)));
    }

    #[test]
    fn different_positions_are_named_by_timeline() {
        let found = [candidate(1, 1, 700), candidate(2, 2, 700), candidate(3, 2, 700)];
        assert_eq!(
            meant(&found, Timeline::literal(3)),
            Meant::Several(vec![Timeline::literal(1), Timeline::literal(3)]),
            "one position, and two histories of it"
        );
    }

    #[test]
    fn what_is_given_up_lies_beyond_both_paths() {
        let (first, second) = (history(1, &[]), history(2, &[(1, 1000)]));
        let stretch = |timeline: u32, from, to: Option<u64>, left_before| Stretch {
            timeline: Timeline::literal(timeline),
            from: Lsn(from),
            to: to.map(Lsn),
            left_before,
        };
        assert_eq!(beyond(&first, &first, Lsn(600)), [stretch(1, 600, None, false)]);
        // The server is on 2, the target before the place where it branched off.
        assert_eq!(
            beyond(&second, &second, Lsn(600)),
            [stretch(1, 600, Some(1000), false), stretch(2, 1000, None, false)]
        );
        // Second thoughts: the target is on 1, behind that place.
        let again = beyond(&second, &first, Lsn(1500));
        assert_eq!(again, [stretch(1, 1500, None, true), stretch(2, 1000, None, false)]);
        let before = beyond(&second, &first, Lsn(600));
        assert_eq!(
            before,
            [stretch(1, 600, Some(1000), false), stretch(1, 1000, None, true), stretch(2, 1000, None, false)]
        );
        // Timeline 3 left 1 as well; the target is on 2, which the server never was on.
        let third = history(3, &[(1, 1200)]);
        let other = beyond(&third, &second, Lsn(1100));
        assert_eq!(
            other,
            [stretch(1, 1000, Some(1200), false), stretch(2, 1100, None, true), stretch(3, 1200, None, false)]
        );
    }
}
