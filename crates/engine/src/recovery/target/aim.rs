//! From what a person asked for to a position on a timeline, and the recovery point to start from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    reach::{ended_at, is_on_the_way, missed, names},
    timelines::{self, Around, Candidate, Meant, Search},
};
use crate::{
    backup::{BackupError, Origin, Point, PointSelector, Repository},
    recovery::{
        RecoveryError, Request, Target,
        shortlist::Shortlist,
        wal::{Commit, Scanned, TransactionEnd, WalView},
    },
};
use cdc_model::units::{Lsn, PointId, Timeline};
use cdc_postgres::wal::TimelineHistory;

/// How a server says that it did not replay the record which it stopped at.
const BEFORE: &str = "stopping before ";
/// The server's setting for a position.
const POSITION: &str = "recovery_target_lsn";

/// A target that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Aim {
    /// The timeline on which it lies.
    pub(crate) timeline: Timeline,
    /// That timeline's history.
    pub(crate) history: TimelineHistory,
    /// Where replay stops; `None` for the end of the WAL.
    pub(crate) at: Option<Lsn>,
    /// The first position whose record is not replayed; `None` for the end of the WAL.
    #[serde(default)]
    pub(crate) cut: Option<Lsn>,
    /// The server's setting for it.
    pub(crate) setting: Option<(String, String)>,
    /// What a person should know of the target and of the recovery points.
    pub(crate) notes: Vec<String>,
}

impl Aim {
    /// The timeline that replay follows to the target: the one that owns the position. A server that follows a later one and stops before
    /// that has branched off writes a history in which the later one ends before it began.
    pub(crate) fn followed(&self) -> TimelineHistory {
        let Some(at) = self.at else { return self.history.clone() };
        let timeline = self.history.owner(at);
        let ancestors = self.history.ancestors.iter().take_while(|ancestor| ancestor.timeline != timeline);
        TimelineHistory { timeline, ancestors: ancestors.copied().collect() }
    }

    /// Requires that replay ended where the target was found: everything before it, and nothing behind it. By the server's word: whether
    /// it stopped before a record, and where the last one starts that it read, which is that record then, and else the last one that was
    /// replayed. What was expected and found otherwise.
    pub(crate) fn holds(&self, stopping: &str, read: Option<Lsn>) -> Result<(), (String, String)> {
        let Some(cut) = self.cut else { return Ok(()) };
        let setting = self.setting.as_ref().map_or("", |(name, _)| name);
        // Inclusive: the record at the position or the first one behind it is replayed, and then the position itself is before the cut.
        let at = self.at.filter(|at| *at < cut && setting == POSITION);
        let (fits, expected) = match (stopping.contains(BEFORE), at) {
            (true, None) if setting == POSITION => {
                (read >= Some(cut), format!("the first record that is left out at {cut} or after it"))
            }
            (true, None) => (read == Some(cut), format!("the first record that is left out at {cut}")),
            (false, Some(at)) => (
                read.is_some_and(|read| at <= read && read < cut),
                format!("the last replayed record at {at} or after it, and before {cut}"),
            ),
            // A server sees that it is consistent behind the record that makes it so, or before the one after that.
            (false, None) => (read.is_some_and(|read| read <= cut), format!("the last record at {cut} or before it")),
            (true, Some(at)) => (false, format!("the record at {at} or the first one after it replayed")),
        };
        match fits {
            true => Ok(()),
            false => {
                let read = read.map_or_else(|| "none".to_owned(), |read| read.to_string());
                Err((expected, format!("`{stopping}`, and {read} as the last record")))
            }
        }
    }
}

/// Finds the target and chooses the recovery point. `current` is the timeline that the old server was on.
pub(crate) async fn resolve(
    request: &Request,
    repository: &Repository,
    origin: &Origin,
    view: &WalView,
    current: Timeline,
) -> Result<(Aim, Point), RecoveryError> {
    let mut shortlist = points_of(repository, origin, request)?;
    let mut damaged: Option<BackupError> = None;
    let chosen = loop {
        match found(request, &shortlist.points, view, current).await {
            Ok((aim, point)) => {
                let fits = |other: &Point| reaches(other, &aim).unwrap_or(false);
                match shortlist.pass_over_damaged(repository, request, origin, &point, fits)? {
                    None => break Ok((aim, point)),
                    // What is wrong with the newest one counts, where no other reaches the target.
                    Some(why) => _ = damaged.get_or_insert(why),
                }
            }
            Err(error) => break Err(damaged.map_or(error, RecoveryError::from)),
        }
    };
    match chosen {
        Ok((mut aim, point)) => {
            aim.notes.splice(..0, shortlist.notes(point.id()));
            Ok((aim, point))
        }
        Err(error) => {
            // One of those that were passed over might have reached the target.
            for passed in shortlist.all_passed_over() {
                tracing::warn!("{passed}");
            }
            Err(error)
        }
    }
}

async fn found(
    request: &Request,
    points: &[Point],
    view: &WalView,
    current: Timeline,
) -> Result<(Aim, Point), RecoveryError> {
    let aim = match &request.target {
        Target::Latest => ending(view, request.timeline.unwrap_or(current), current).await?,
        Target::Lsn(at) => positioned(request, *at, view, points, current).await?,
        Target::Name(name) => named(request, name, view, points, current).await?,
        Target::Time(moment) => timed(request, *moment, view, points, current).await?,
        Target::Xid(xid) => committed(request, *xid, view, points, current).await?,
        Target::Immediate => return consistent(request, view, points, current),
    };
    match choose(points, &aim)? {
        Some(point) => Ok((aim, point.clone())),
        None => {
            let first = points.first().and_then(|p| p.postgres().ok()).map(|p| p.stop_lsn);
            let found = first.map_or("no recovery point".into(), |at| format!("the first recovery point ends at {at}"));
            let found = format!("{found}, and none lies before the target on timeline {}", aim.timeline);
            Err(missed(request, &found, view, points, &asked(request, view), current).await)
        }
    }
}

/// The timelines on which the target may lie.
fn asked(request: &Request, view: &WalView) -> Vec<Timeline> {
    request.timeline.map_or_else(|| view.timelines(), |timeline| vec![timeline])
}

/// The end of a timeline. That of one which the server has left is known and is a position like any other.
async fn ending(view: &WalView, timeline: Timeline, current: Timeline) -> Result<Aim, RecoveryError> {
    let history = view.history(timeline)?.clone();
    if timeline == current {
        return Ok(Aim { timeline, history, at: None, cut: None, setting: None, notes: Vec::new() });
    }
    let last = view.tail(timeline).await?.last;
    Ok(Aim { cut: Some(Lsn(last.0 + 1)), ..at_position(timeline, history, last) })
}

/// By position and not by name: the position is found before anything is touched, and is the right one even if the name is used
/// again later.
fn at_position(timeline: Timeline, history: TimelineHistory, at: Lsn) -> Aim {
    let setting = Some((POSITION.to_owned(), at.to_string()));
    Aim { timeline, history, at: Some(at), cut: Some(at), setting, notes: Vec::new() }
}

/// What replay to a position leaves out: everything from the record that starts there on or, inclusively, everything after it.
async fn cut_behind(request: &Request, view: &WalView, aim: Aim) -> Result<Aim, RecoveryError> {
    let Some(at) = aim.at.filter(|_| !request.exclusive) else { return Ok(aim) };
    // The record that ends replay is the first one at or after the position.
    let last = view.record_from(aim.history.owner(at), at).await?.unwrap_or(at);
    Ok(Aim { cut: Some(Lsn(last.0 + 1)), ..aim })
}

async fn positioned(
    request: &Request,
    at: Lsn,
    view: &WalView,
    points: &[Point],
    current: Timeline,
) -> Result<Aim, RecoveryError> {
    let (mut candidates, mut ends, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for timeline in asked(request, view) {
        let history = view.history(timeline)?;
        // A timeline without a record of its own ends where it began.
        let end = match view.has_wal(timeline) {
            true => view.tail(timeline).await.map(|tail| tail.last),
            false => Ok(history.begin()),
        };
        match end {
            Ok(end) if at <= end => candidates.push(Candidate { timeline, owner: history.owner(at), at }),
            Ok(end) => ends.push(format!("the last record of timeline {timeline} starts at {end}")),
            Err(error) if request.timeline.is_none() => {
                unread.push(format!("the end of timeline {timeline} is not known: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    let meant = match timelines::meant(&candidates, current) {
        Meant::Nothing => {
            ends.extend(unread);
            return Err(missed(request, &ends.join("; "), view, points, &asked(request, view), current).await);
        }
        Meant::One(meant) => meant,
        Meant::Several(each) => return Err(ambiguous(request, view, points, &each).await?),
    };
    let history = view.history(meant.timeline)?.clone();
    let aim = Aim { notes: unread, ..at_position(meant.timeline, history, at) };
    cut_behind(request, view, aim).await
}

/// The recovery points of this cluster that it may start from.
fn points_of(repository: &Repository, origin: &Origin, request: &Request) -> Result<Shortlist, RecoveryError> {
    let shortlist = Shortlist::of(repository, request, origin)?;
    if shortlist.points.is_empty() {
        let (own, others) =
            (origin.system_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string()), shortlist.others());
        return Err(RecoveryError::impossible(
            format!("repository {}", repository.path()),
            format!("a complete recovery point of the cluster with system identifier {own}"),
            if others.is_empty() { "none".into() } else { others.join("; ") },
            "there is nothing to recover from; `backup create` makes a recovery point",
        ));
    }
    Ok(shortlist)
}

/// Whether replay from a point reaches the target.
pub(crate) fn reaches(point: &Point, aim: &Aim) -> Result<bool, RecoveryError> {
    let facts = point.postgres()?;
    Ok(is_on_the_way(&aim.history, facts) && aim.at.is_none_or(|at| facts.stop_lsn <= at))
}

/// The newest point from which replay reaches the target, if there is one.
fn choose<'p>(points: &'p [Point], aim: &Aim) -> Result<Option<&'p Point>, RecoveryError> {
    let mut best: Option<&Point> = None;
    for point in points {
        if reaches(point, aim)? {
            best = Some(point);
        }
    }
    Ok(best)
}

async fn named(
    request: &Request,
    name: &str,
    view: &WalView,
    points: &[Point],
    current: Timeline,
) -> Result<Aim, RecoveryError> {
    let (mut there, mut unread) = (Vec::new(), Vec::new());
    for timeline in view.timelines() {
        let (marks, scanned) = view.marks(timeline, begin_on(points, view.history(timeline)?)).await?;
        unread.extend(not_read(timeline, scanned));
        there.extend(marks.into_iter().map(|(name, at)| (name, timeline, at)));
    }
    if let Some(timeline) = request.timeline {
        let history = view.history(timeline)?;
        there.retain(|(_, owner, at)| history.owner(*at) == *owner);
    }
    let found: Vec<(Timeline, Lsn)> =
        there.iter().filter(|(mark, ..)| mark == name).map(|(_, owner, at)| (*owner, *at)).collect();
    match found.as_slice() {
        [(owner, at)] => {
            let timeline = request.timeline.unwrap_or(*owner);
            let aim = at_position(timeline, view.history(timeline)?.clone(), *at);
            cut_behind(request, view, Aim { notes: unread, ..aim }).await
        }
        [] => {
            let found = format!("no such restore point in the WAL since the first recovery point: {}", names(&there));
            let found = [found].into_iter().chain(unread).collect::<Vec<_>>().join("; ");
            Err(missed(request, &found, view, points, &asked(request, view), current).await)
        }
        several => {
            let places: Vec<String> = several.iter().map(|(t, at)| format!("{at} on timeline {t}")).collect();
            Err(RecoveryError::impossible(
                format!("target {}", request.target),
                "one restore point of this name",
                places.join(", "),
                "choose a timeline with --timeline N, or one of them with --target lsn:X/Y",
            ))
        }
    }
}

/// What of a timeline could not be looked through.
fn not_read(timeline: Timeline, scanned: Scanned) -> Option<String> {
    match scanned {
        Scanned::Unread(why) => Some(format!("WAL of timeline {timeline} cannot be read to its end: {why}")),
        Scanned::All | Scanned::Stopped => None,
    }
}

/// The commit of a transaction: its position, like a name's, because the server would take the first of its id. Ids are used
/// again after a recovery, and in the order of their commits nothing else is.
async fn committed(
    request: &Request,
    xid: u32,
    view: &WalView,
    points: &[Point],
    current: Timeline,
) -> Result<Aim, RecoveryError> {
    let (mut commits, mut rolled_back, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for owner in view.timelines() {
        let (ends, scanned) = view.ends(owner, begin_on(points, view.history(owner)?), xid).await?;
        unread.extend(not_read(owner, scanned));
        for end in ends {
            match end {
                TransactionEnd::Committed(commit) => commits.push((owner, commit)),
                TransactionEnd::RolledBack(at) => rolled_back.push((owner, at)),
            }
        }
    }
    let histories = asked(request, view).into_iter().map(|timeline| view.history(timeline));
    let histories = histories.collect::<Result<Vec<_>, _>>()?;
    let mut candidates = Vec::new();
    for (owner, commit) in &commits {
        let through = histories.iter().filter(|history| history.owner(commit.at) == *owner);
        candidates.extend(through.map(|h| Candidate { timeline: h.timeline, owner: *owner, at: commit.at }));
    }
    let meant = match timelines::meant(&candidates, current) {
        Meant::One(meant) => meant,
        Meant::Several(_) => return Err(of_several_commits(request, &commits, &candidates)),
        Meant::Nothing => {
            let none = "no commit of it in the WAL since the first recovery point".to_owned();
            let back = rolled_back.iter().map(|(on, at)| format!("it was rolled back at {at} on timeline {on}"));
            let elsewhere = commits.iter().map(|(on, commit)| format!("on timeline {on} it is {commit}"));
            let found: Vec<String> = [none].into_iter().chain(back).chain(elsewhere).chain(unread).collect();
            return Err(missed(request, &found.join("; "), view, points, &asked(request, view), current).await);
        }
    };
    let commit = commits.iter().find(|(owner, commit)| (*owner, commit.at) == (meant.owner, meant.at));
    let within = |commit: &Commit| match commit.xid {
        Some(top) if top != xid => format!(", of which {xid} is a subtransaction"),
        _ => String::new(),
    };
    let which = commit.map(|(owner, commit)| {
        let last =
            if request.exclusive { "the first transaction that is left out" } else { "kept: the last transaction" };
        format!("{last} is {commit}, on timeline {owner}{}", within(commit))
    });
    let notes = which.into_iter().chain(unread).collect();
    let history = view.history(meant.timeline)?.clone();
    // Replay ends behind the record of the commit itself.
    let cut = if request.exclusive { meant.at } else { Lsn(meant.at.0 + 1) };
    Ok(Aim { notes, cut: Some(cut), ..at_position(meant.timeline, history, meant.at) })
}

/// A transaction id that several commits have.
fn of_several_commits(request: &Request, commits: &[(Timeline, Commit)], candidates: &[Candidate]) -> RecoveryError {
    let is_meant = |owner: Timeline, at: Lsn| candidates.iter().any(|c| (c.owner, c.at) == (owner, at));
    let meant: Vec<_> = commits.iter().filter(|(owner, commit)| is_meant(*owner, commit.at)).collect();
    let each: Vec<String> = meant.iter().map(|(owner, commit)| format!("{commit} on timeline {owner}")).collect();
    let ways: Vec<String> = meant
        .iter()
        .map(|(owner, commit)| match meant.iter().filter(|(other, _)| other == owner).count() {
            1 => format!("--timeline {owner}"),
            // An id of 32 bits comes again on one timeline, too.
            _ => format!("--timeline {owner} --target lsn:{}", commit.at),
        })
        .collect();
    RecoveryError::impossible(
        format!("target {}", request.target),
        "one transaction of this id",
        each.join("; "),
        format!("say which is meant: {}", ways.join(" or ")),
    )
}

/// The end of a base backup, where it is consistent: that of the newest recovery point on the timeline that is asked for or that the
/// server is on, or of the one that is named.
fn consistent(
    request: &Request,
    view: &WalView,
    points: &[Point],
    current: Timeline,
) -> Result<(Aim, Point), RecoveryError> {
    let timeline = request.timeline.unwrap_or(current);
    let history = view.history(timeline)?;
    let mut chosen = None;
    for point in points {
        if is_on_the_way(history, point.postgres()?) {
            chosen = Some((history, point));
        }
    }
    if let (None, None, PointSelector::Id(_), Some(named)) = (&chosen, request.timeline, &request.point, points.last())
    {
        chosen = Some((view.history(named.postgres()?.timeline)?, named));
    }
    let Some((history, point)) = chosen else {
        let each = points.iter().filter_map(|point| Some((point.id(), point.postgres().ok()?.timeline)));
        let each: Vec<String> = each.map(|(id, timeline)| format!("{id} on timeline {timeline}")).collect();
        return Err(RecoveryError::impossible(
            format!("target {}", request.target),
            format!("a recovery point on the way of timeline {timeline}"),
            each.join(", "),
            "name the recovery point with --point, or its timeline with --timeline",
        ));
    };
    let at = point.postgres()?.stop_lsn;
    let setting = Some(("recovery_target".to_owned(), "immediate".to_owned()));
    let notes =
        vec![format!("recovery point {} is consistent at {at}: nothing written after that is kept", point.id())];
    let aim = Aim { timeline: history.timeline, history: history.clone(), at: Some(at), cut: Some(at), setting, notes };
    Ok((aim, point.clone()))
}

async fn timed(
    request: &Request,
    moment: jiff::Timestamp,
    view: &WalView,
    points: &[Point],
    current: Timeline,
) -> Result<Aim, RecoveryError> {
    let mut search = Search::new(view, moment, request.exclusive);
    let (mut candidates, mut reasons, mut notes) = (Vec::new(), Vec::new(), BTreeMap::<Timeline, Vec<String>>::new());
    let mut started = false;
    for timeline in asked(request, view) {
        let history = view.history(timeline)?.clone();
        let fits = |point: &&Point| {
            let on_the_way = point.postgres().is_ok_and(|facts| is_on_the_way(&history, facts));
            on_the_way && ended_at(&point.manifest).is_some_and(|(end, _)| end <= moment)
        };
        let Some(point) = points.iter().rev().find(fits) else { continue };
        started = true;
        let notes = notes.entry(timeline).or_default();
        notes.extend(ended_at(&point.manifest).and_then(|(_, note)| note));
        let from = point.postgres()?.stop_lsn;
        // The server itself treats a time that no commit lies after as not reached.
        match search.first_after(&history, from).await? {
            Ok(Some(Around { after, before })) => {
                candidates.push(Candidate { timeline, owner: history.owner(after.at), at: after.at });
                notes.push(kept(before, point.id(), from));
            }
            Ok(None) => {}
            Err(why) => reasons.push(format!("WAL of timeline {timeline} cannot be read to its end: {why}")),
        }
    }
    let meant = match timelines::meant(&candidates, current) {
        Meant::One(meant) => meant,
        Meant::Several(each) => return Err(ambiguous(request, view, points, &each).await?),
        Meant::Nothing => {
            let none = "no transaction committed after it: for everything there is, the target is latest";
            let found = match (started, reasons.is_empty()) {
                (false, _) => "every recovery point ended after it".to_owned(),
                (true, true) => none.to_owned(),
                (true, false) => reasons.join("; "),
            };
            return Err(missed(request, &found, view, points, &asked(request, view), current).await);
        }
    };
    if request.timeline.is_none() {
        let ended = search.ended_before(&meant, &candidates).await?;
        if !ended.is_empty() {
            let each: Vec<Timeline> = std::iter::once(meant.timeline).chain(ended).collect();
            return Err(ambiguous(request, view, points, &each).await?);
        }
    }
    let setting = Some(("recovery_target_time".to_owned(), moment.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string()));
    let history = view.history(meant.timeline)?.clone();
    let notes = notes.remove(&meant.timeline).into_iter().flatten().chain(reasons).collect();
    Ok(Aim { timeline: meant.timeline, history, at: Some(meant.at), cut: Some(meant.at), setting, notes })
}

/// Up to where transactions are kept: whether the one that has to go is on the right side of a time is to be seen.
fn kept(last: Option<Commit>, point: &PointId, from: Lsn) -> String {
    match last {
        Some(last) => format!("kept: the last transaction before the target is {last}"),
        None => {
            format!("kept: no transaction committed between the end of recovery point {point} ({from}) and the target")
        }
    }
}

/// A target that timelines can mean differently.
async fn ambiguous(
    request: &Request,
    view: &WalView,
    points: &[Point],
    timelines: &[Timeline],
) -> Result<RecoveryError, RecoveryError> {
    let mut each = Vec::new();
    for timeline in timelines {
        each.push(timelines::described(view, *timeline, begin_on(points, view.history(*timeline)?)).await?);
    }
    let flags: Vec<String> = timelines.iter().map(|timeline| format!("--timeline {timeline}")).collect();
    Ok(RecoveryError::impossible(
        format!("target {}", request.target),
        "a position on one timeline",
        format!("different ones on {}", each.join("; ")),
        format!("say which is meant: {}; the end of a timeline is --target latest", flags.join(" or ")),
    ))
}

/// Where the recovery points that lead to a timeline begin, also those of its ancestors; nothing before can be a target.
fn begin_on(points: &[Point], history: &TimelineHistory) -> Lsn {
    let facts = points.iter().filter_map(|p| p.postgres().ok());
    facts.filter(|facts| is_on_the_way(history, facts)).map(|p| p.stop_lsn).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_follows_the_timeline_that_owns_the_target() {
        let history = TimelineHistory::parse(Timeline::literal(3), "1\t0/500\tx\n2\t0/900\tx\n").unwrap();
        let followed = |at: Option<u64>| {
            let aim = at_position(Timeline::literal(3), history.clone(), Lsn(at.unwrap_or_default()));
            let TimelineHistory { timeline, ancestors } = Aim { at: at.map(Lsn), ..aim }.followed();
            (timeline.get(), ancestors.len())
        };
        assert_eq!([0x4F8, 0x500, 0x8F8, 0x900].map(|at| followed(Some(at))), [(1, 0), (2, 1), (2, 1), (3, 2)]);
        assert_eq!(followed(None), (3, 2));
    }

    #[test]
    fn replay_that_ended_elsewhere_does_not_hold_the_target() {
        let history = TimelineHistory::first();
        let (before, after) = ("recovery stopping before WAL location", "recovery stopping after WAL location");
        let inclusive = Aim { cut: Some(Lsn(0x501)), ..at_position(Timeline::FIRST, history.clone(), Lsn(0x500)) };
        assert_eq!(inclusive.holds(after, Some(Lsn(0x500))), Ok(()));
        for wrong in [Some(Lsn(0x4F8)), Some(Lsn(0x508)), None] {
            inclusive.holds(after, wrong).unwrap_err();
        }
        inclusive.holds(before, Some(Lsn(0x500))).unwrap_err();
        let exclusive = at_position(Timeline::FIRST, history.clone(), Lsn(0x500));
        assert_eq!(exclusive.holds(before, Some(Lsn(0x508))), Ok(()), "no record starts at the position");
        exclusive.holds(before, Some(Lsn(0x4F8))).unwrap_err();
        let of = |name: &str| Aim {
            setting: Some((name.to_owned(), String::new())),
            ..at_position(Timeline::FIRST, history.clone(), Lsn(0x500))
        };
        let timed = of("recovery_target_time");
        let commit = "recovery stopping before commit of transaction 743, time 2026-11-22 20:00:00+00";
        assert_eq!(timed.holds(commit, Some(Lsn(0x500))), Ok(()));
        for wrong in [Some(Lsn(0x4F8)), Some(Lsn(0x508)), None] {
            timed.holds(commit, wrong).unwrap_err();
        }
        let consistent = of("recovery_target");
        for stopped in [0x4F8, 0x500] {
            assert_eq!(consistent.holds("recovery stopping after reaching consistency", Some(Lsn(stopped))), Ok(()));
        }
        consistent.holds("recovery stopping after reaching consistency", Some(Lsn(0x508))).unwrap_err();
    }
}
