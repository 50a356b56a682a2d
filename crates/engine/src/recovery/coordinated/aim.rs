//! From what a person asked for to a position on a timeline, and the recovery point to start from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    reach::{ended_at, is_on_the_way, missed, names},
    timelines::{self, Around, Candidate, Meant, Search},
};
use crate::{
    backup::{BackupError, Origin, Point, Repository},
    recovery::{
        RecoveryError, Request, Target,
        shortlist::Shortlist,
        wal::{Commit, WalView},
    },
};
use cdc_model::units::{Lsn, PointId, Timeline};
use cdc_postgres::wal::TimelineHistory;

/// A target that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Aim {
    /// The timeline on which it lies.
    pub(super) timeline: Timeline,
    /// That timeline's history.
    pub(super) history: TimelineHistory,
    /// Where replay stops; `None` for the end of the WAL.
    pub(super) at: Option<Lsn>,
    /// The first position whose record is not replayed; `None` for the end of the WAL.
    #[serde(default)]
    pub(super) cut: Option<Lsn>,
    /// The server's setting for it.
    pub(super) setting: Option<(String, String)>,
    /// What a person should know of the target and of the recovery points.
    pub(super) notes: Vec<String>,
}

/// Finds the target and chooses the recovery point. `current` is the timeline that the old server was on.
pub(super) async fn resolve(
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
            if aim.timeline != current {
                let left = "which the server has left".to_owned();
                aim.notes
                    .push(format!("the target lies on timeline {}, {left}: it is on timeline {current}", aim.timeline));
            }
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
    let setting = Some(("recovery_target_lsn".to_owned(), at.to_string()));
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
pub(super) fn reaches(point: &Point, aim: &Aim) -> Result<bool, RecoveryError> {
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
    let mut there = Vec::new();
    for timeline in view.timelines() {
        let marks = view.marks(timeline, begin_on(points, timeline)).await?;
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
            cut_behind(request, view, at_position(timeline, view.history(timeline)?.clone(), *at)).await
        }
        [] => {
            let found = format!("no such restore point in the WAL since the first recovery point: {}", names(&there));
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
        each.push(timelines::described(view, *timeline, begin_on(points, *timeline)).await?);
    }
    let flags: Vec<String> = timelines.iter().map(|timeline| format!("--timeline {timeline}")).collect();
    Ok(RecoveryError::impossible(
        format!("target {}", request.target),
        "a position on one timeline",
        format!("different ones on {}", each.join("; ")),
        format!("say which is meant: {}; the end of a timeline is --target latest", flags.join(" or ")),
    ))
}

/// Where the recovery points of a timeline begin; nothing before can be a target.
fn begin_on(points: &[Point], timeline: Timeline) -> Lsn {
    let facts = points.iter().filter_map(|p| p.postgres().ok());
    facts.filter(|p| p.timeline == timeline).map(|p| p.stop_lsn).min().unwrap_or_default()
}
