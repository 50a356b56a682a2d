//! From what a person asked for to a position on a timeline, and the recovery point to start from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    backup::{Kind, Point, PointSelector, Repository, wal::TimelineHistory},
    recovery::{RecoveryError, Request, Target, shortlist::Shortlist, wal::WalView},
    units::Lsn,
};

/// A target that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Aim {
    /// The timeline on which it lies.
    pub(super) timeline: u32,
    /// That timeline's history.
    pub(super) history: TimelineHistory,
    /// Where replay stops; `None` for the end of the WAL.
    pub(super) at: Option<Lsn>,
    /// The server's setting for it.
    pub(super) setting: Option<(String, String)>,
    /// What is wrong with recovery points, for a person.
    pub(super) notes: Vec<String>,
}

/// Finds the target and chooses the recovery point. `current` is the timeline that the old server was on.
pub(super) async fn resolve(
    request: &Request,
    repository: &Repository,
    system_id: u64,
    view: &WalView,
    current: u32,
) -> Result<(Aim, Point), RecoveryError> {
    let shortlist = points_of(repository, system_id, request)?;
    match found(request, &shortlist.points, view, current).await {
        Ok((aim, point)) => Ok((Aim { notes: shortlist.notes(point.id()), ..aim }, point)),
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
    current: u32,
) -> Result<(Aim, Point), RecoveryError> {
    let asked = request.timeline.unwrap_or(current);
    let aim = match &request.target {
        Target::Latest => {
            Aim { timeline: asked, history: view.history(asked)?.clone(), at: None, setting: None, notes: Vec::new() }
        }
        Target::Lsn(at) => {
            let history = view.history(asked)?.clone();
            let end = view.tail(asked).await?.last;
            if *at > end {
                return Err(missed(request, &format!("the last record of timeline {asked} starts at {end}")));
            }
            let setting = Some(("recovery_target_lsn".to_owned(), at.to_string()));
            Aim { timeline: asked, history, at: Some(*at), setting, notes: Vec::new() }
        }
        Target::Name(name) => named(request, name, view, points).await?,
        Target::Time(moment) => timed(request, *moment, view, points, asked).await?,
    };
    let point = choose(request, points, &aim)?.clone();
    Ok((aim, point))
}

/// The recovery points of this cluster that it may start from.
fn points_of(repository: &Repository, system_id: u64, request: &Request) -> Result<Shortlist, RecoveryError> {
    let system_id = system_id.to_string();
    let mut others = BTreeMap::new();
    let shortlist = Shortlist::of(repository, request, |point| {
        let of = point.manifest.pg.get().map(|pg| pg.system_id.as_str());
        let ours = of == Some(system_id.as_str()) && point.manifest.kind == Kind::Full;
        if let (false, Some(of)) = (ours, of) {
            *others.entry(of.to_owned()).or_insert(0) += 1;
        }
        ours
    })?;
    if let (PointSelector::Id(_), Some(point)) = (&request.point, shortlist.points.first()) {
        let of = &point.postgres()?.system_id;
        if *of != system_id {
            return Err(RecoveryError::impossible(
                format!("recovery point {}", point.id()),
                format!("a point of the cluster with system identifier {system_id}"),
                format!("system identifier {of}"),
                "it is the backup of another cluster; `backup list` shows what there is",
            ));
        }
    }
    if shortlist.points.is_empty() {
        let others: Vec<String> = others.iter().map(|(id, n)| format!("{n} of cluster {id}")).collect();
        return Err(RecoveryError::impossible(
            format!("repository {}", repository.path()),
            format!("a complete recovery point of the cluster with system identifier {system_id}"),
            if others.is_empty() { "none".into() } else { others.join(", ") },
            "there is nothing to recover from; `backup create` makes a recovery point",
        ));
    }
    Ok(shortlist)
}

/// The newest point from which replay reaches the target.
fn choose<'p>(request: &Request, points: &'p [Point], aim: &Aim) -> Result<&'p Point, RecoveryError> {
    let first = points.first().and_then(|p| p.postgres().ok()).map(|p| p.stop_lsn);
    let mut best: Option<&Point> = None;
    for point in points {
        let facts = point.postgres()?;
        let on_the_way = aim.history.owner(facts.stop_lsn) == facts.timeline
            || aim.history.ancestors.iter().any(|a| a.timeline == facts.timeline && facts.stop_lsn <= a.end);
        if on_the_way && aim.at.is_none_or(|at| facts.stop_lsn <= at) {
            best = Some(point);
        }
    }
    best.ok_or_else(|| {
        let found = first.map_or("no recovery point".into(), |at| format!("the first recovery point ends at {at}"));
        missed(request, &format!("{found}, and none lies before the target on timeline {}", aim.timeline))
    })
}

async fn named(request: &Request, name: &str, view: &WalView, points: &[Point]) -> Result<Aim, RecoveryError> {
    let timelines = request.timeline.map_or_else(|| view.timelines(), |t| vec![t]);
    let mut found = Vec::new();
    for timeline in timelines {
        let from = begin_on(points, timeline);
        found.extend(view.marks(timeline, from, name).await?.into_iter().map(|m| (timeline, m.at)));
    }
    match found.as_slice() {
        // By position and not by name: the position is found before anything is touched, and is the right one even if
        // the name is used again later.
        [(timeline, at)] => Ok(Aim {
            timeline: *timeline,
            history: view.history(*timeline)?.clone(),
            at: Some(*at),
            setting: Some(("recovery_target_lsn".to_owned(), at.to_string())),
            notes: Vec::new(),
        }),
        [] => Err(missed(request, "no such restore point in the WAL since the first recovery point")),
        several => {
            let places: Vec<String> = several.iter().map(|(t, at)| format!("{at} on timeline {t}")).collect();
            Err(RecoveryError::impossible(
                format!("target {}", request.target),
                "one restore point of this name",
                places.join(", "),
                "choose one with --target lsn:X/Y",
            ))
        }
    }
}

async fn timed(
    request: &Request,
    moment: jiff::Timestamp,
    view: &WalView,
    points: &[Point],
    timeline: u32,
) -> Result<Aim, RecoveryError> {
    let history = view.history(timeline)?.clone();
    let before = |p: &&Point| p.manifest.window.end.parse::<jiff::Timestamp>().is_ok_and(|end| end <= moment);
    let last_before = points.iter().rev().find(before).and_then(|p| p.postgres().ok());
    let from = last_before.map(|p| p.stop_lsn).ok_or_else(|| missed(request, "every recovery point ended after it"))?;
    // The server itself treats a time that no commit lies after as not reached.
    match view.commit_after(timeline, from, moment).await? {
        Some(mark) => Ok(Aim {
            timeline,
            history,
            at: Some(mark.at),
            setting: Some(("recovery_target_time".to_owned(), moment.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string())),
            notes: Vec::new(),
        }),
        None => {
            Err(missed(request, "no transaction committed after it: for everything there is, the target is latest"))
        }
    }
}

/// Where the recovery points of a timeline begin; nothing before can be a target.
fn begin_on(points: &[Point], timeline: u32) -> Lsn {
    let facts = points.iter().filter_map(|p| p.postgres().ok());
    facts.filter(|p| p.timeline == timeline).map(|p| p.stop_lsn).min().unwrap_or_default()
}

fn missed(request: &Request, found: &str) -> RecoveryError {
    RecoveryError::impossible(
        format!("target {}", request.target),
        "a position between a recovery point's end and the end of the WAL",
        found,
        "`backup list` shows the recovery points; --target latest takes everything there is",
    )
}
