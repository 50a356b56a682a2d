//! Which targets can be reached: from the end of a recovery point to the end of the WAL behind it.

use std::fmt;

use crate::{
    backup::{Manifest, Point, PointSelector, PostgresFacts},
    recovery::{
        RecoveryError, Request, Target,
        wal::{Commit, WalView},
    },
};
use cdc_model::units::{Lsn, Timeline};
use cdc_postgres::wal::TimelineHistory;

/// How many restore points an error names; those that were set last.
const NAMES: usize = 10;

/// An end of what can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edge {
    at: Lsn,
    /// By the server's clock.
    time: Option<jiff::Timestamp>,
    /// What it is: `the end of recovery point P`.
    what: String,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time {
            Some(time) => write!(f, "{time} ({}, {})", self.at, self.what),
            None => write!(f, "{} ({}, of unknown time)", self.at, self.what),
        }
    }
}

/// What can be reached on a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reach {
    timeline: Timeline,
    first: Edge,
    last: Edge,
    /// Where the last record starts, which is later than the last commit; or why that is not known.
    end: Result<Lsn, String>,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reach { timeline, first, last, end } = self;
        write!(f, "timeline {timeline} from {first} to {last}")?;
        match end {
            Ok(end) => write!(f, ", its last record at {end}"),
            Err(why) => write!(f, ", the end of its WAL is not known: {why}"),
        }
    }
}

/// Whether a timeline goes through the place where a point's backup ended.
pub(crate) fn is_on_the_way(history: &TimelineHistory, facts: &PostgresFacts) -> bool {
    history.owner(facts.stop_lsn) == facts.timeline
        || history.ancestors.iter().any(|a| a.timeline == facts.timeline && facts.stop_lsn <= a.end)
}

/// When a point's backup had ended by the server's own clock, by which commits are timed; with a note where nothing says how
/// that clock differs from the one that was read.
pub(crate) fn ended_at(manifest: &Manifest) -> Option<(jiff::Timestamp, Option<String>)> {
    let own = manifest.pg.get().and_then(|facts| facts.clock.as_ref());
    if let Some(stop) = own.and_then(|clock| clock.stop.parse().ok()) {
        return Some((stop, None));
    }
    let end: jiff::Timestamp = manifest.window.end.parse().ok()?;
    match manifest.clock_skew_ms.get("pg") {
        Some(ahead) => {
            let theirs = end.as_microsecond() + ahead * 1000;
            Some((jiff::Timestamp::from_microsecond(theirs).ok()?, None))
        }
        None => {
            let note = format!(
                "recovery point {} does not say what the server's clock showed: the target is compared with the clock of the \
                 machine that took it",
                manifest.point
            );
            Some((end, Some(note)))
        }
    }
}

fn end_of(point: &Point, facts: &PostgresFacts) -> Edge {
    let time = ended_at(&point.manifest).map(|(time, _)| time);
    Edge { at: facts.stop_lsn, time, what: format!("the end of recovery point {}", point.id()) }
}

/// A target that nothing leads to. `timelines` are those on which it was looked for, `current` is the one that the server is on.
pub(crate) async fn missed(
    request: &Request,
    found: &str,
    view: &WalView,
    points: &[Point],
    timelines: &[Timeline],
    current: Timeline,
) -> RecoveryError {
    let mut reaches = Vec::new();
    for timeline in timelines {
        match reach(view, points, *timeline).await {
            Ok(reach) => reaches.extend(reach),
            Err(error) => tracing::warn!("what can be reached on timeline {timeline} is not known: {error}"),
        }
    }
    of_reaches(request, found, &reaches, current)
}

fn of_reaches(request: &Request, found: &str, reaches: &[Reach], current: Timeline) -> RecoveryError {
    let each: Vec<String> = reaches.iter().map(ToString::to_string).collect();
    let found = match each.is_empty() {
        true => found.to_owned(),
        false => format!("{found}; what can be reached: {}", each.join("; ")),
    };
    RecoveryError::impossible(
        format!("target {}", request.target),
        "a position between a recovery point's end and the end of the WAL",
        found,
        hint(request, reaches, current),
    )
}

/// What can be asked for instead.
fn hint(request: &Request, reaches: &[Reach], current: Timeline) -> String {
    let (Some(earliest), Some(newest)) = (
        reaches.iter().min_by_key(|reach| (reach.first.time, reach.first.at)),
        reaches.iter().max_by_key(|reach| (reach.timeline == current, reach.last.time, reach.last.at)),
    ) else {
        return "`backup list` shows the recovery points".into();
    };
    let on = if reaches.len() > 1 { format!(" --timeline {}", earliest.timeline) } else { String::new() };
    let words = match (&request.target, earliest.first.time) {
        (Target::Time(_), Some(time)) => format!("time:{time}"),
        _ => format!("lsn:{}", earliest.first.at),
    };
    let from = match &request.point {
        PointSelector::Latest => "this repository".to_owned(),
        PointSelector::Id(id) => format!("recovery point {id}"),
    };
    // The end of a timeline is that of the server's, unless another one is named.
    let last = match newest.timeline == current {
        true => String::new(),
        false => format!(" --timeline {}", newest.timeline),
    };
    format!("the earliest target that {from} can reach is --target {words}{on}; the newest is --target latest{last}")
}

/// None for a timeline that no recovery point is on the way to.
async fn reach(view: &WalView, points: &[Point], timeline: Timeline) -> Result<Option<Reach>, RecoveryError> {
    let history = view.history(timeline)?;
    let mut ends = Vec::new();
    for point in points {
        let facts = point.postgres()?;
        if is_on_the_way(history, facts) {
            ends.push(end_of(point, facts));
        }
    }
    let (Some(first), Some(newest)) =
        (ends.iter().min_by_key(|edge| edge.at).cloned(), ends.iter().max_by_key(|edge| edge.at).cloned())
    else {
        return Ok(None);
    };
    // The newest point is as far as it has to be read back for the last commit.
    let last = view.last_commit(history, newest.at, view.end_of(timeline)?).await?;
    let last = match last {
        Some(Commit { at, time, .. }) => Edge { at, time: Some(time), what: "the last commit".into() },
        None => newest,
    };
    // A timeline without a record of its own ends where it began.
    let end = match view.has_wal(timeline) {
        true => view.tail(timeline).await.map(|tail| tail.last).map_err(|e| e.to_string()),
        false => Ok(history.begin()),
    };
    Ok(Some(Reach { timeline, first, last, end }))
}

/// The restore points that are there, for an error about one that is not: those that were set last.
pub(crate) fn names(there: &[(String, Timeline, Lsn)]) -> String {
    let shown = |(name, timeline, at): &(String, Timeline, Lsn)| format!("`{name}` at {at} on timeline {timeline}");
    let last: Vec<String> = there.iter().skip(there.len().saturating_sub(NAMES)).map(shown).collect();
    match there.len() {
        0 => "there is none".into(),
        all if all > NAMES => format!("the last of {all} are {}", last.join(", ")),
        _ => format!("there are {}", last.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::{Clock, fixture},
        recovery::Playbook,
    };
    use cdc_model::units::Failure;

    #[test]
    fn the_servers_clock_says_when_a_backup_ended() {
        let (_folder, repository) = fixture::repository();
        let point = repository.point(&PointSelector::Latest).unwrap();
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let with = |skew: Option<i64>, clock: Option<&str>| {
            let mut manifest = point.manifest.clone();
            manifest.window.end = "2026-11-22T10:00:00Z".into();
            manifest.clock_skew_ms = skew.map(|ms| ("pg".to_owned(), ms)).into_iter().collect();
            if let crate::backup::Part::Present(facts) = &mut manifest.pg {
                facts.clock = clock.map(|stop| Clock { start: stop.into(), stop: stop.into() });
            }
            ended_at(&manifest).unwrap()
        };
        assert_eq!(with(Some(600_000), None), (at("2026-11-22T10:10:00Z"), None), "the server is ahead");
        assert_eq!(with(Some(-600_000), None), (at("2026-11-22T09:50:00Z"), None), "the server is behind");
        assert_eq!(
            with(Some(7), Some("2026-11-22T09:00:00Z")),
            (at("2026-11-22T09:00:00Z"), None),
            "its own word counts"
        );
        let (end, note) = with(None, None);
        assert_eq!(end, at("2026-11-22T10:00:00Z"));
        assert!(note.unwrap().contains(point.id().as_str()));
    }

    fn edge(at: u64, time: &str, what: &str) -> Edge {
        Edge { at: Lsn(at), time: Some(time.parse().unwrap()), what: what.into() }
    }

    fn reach_of(timeline: u32, first: u64, time: &str) -> Reach {
        Reach {
            timeline: Timeline::literal(timeline),
            first: edge(first, time, "the end of recovery point P"),
            last: edge(0x900, "2026-11-22T12:00:00Z", "the last commit"),
            end: Ok(Lsn(0xA00)),
        }
    }

    fn said(target: &str, reaches: &[Reach]) -> String {
        let request = Request { target: target.parse().unwrap(), ..Request::new(Playbook::Coordinated) };
        of_reaches(&request, "nothing there", reaches, Timeline::FIRST).in_full()
    }

    #[test]
    fn a_target_that_is_missed_names_the_earliest_and_the_newest_that_can_be_reached() {
        let one = reach_of(1, 0x300, "2026-11-22T10:00:00.5Z");
        let time = said("time:2026-11-22T09:00:00Z", std::slice::from_ref(&one));
        for part in [
            "timeline 1 from 2026-11-22T10:00:00.5Z (0/300, the end of recovery point P)",
            "to 2026-11-22T12:00:00Z (0/900, the last commit), its last record at 0/A00",
            "earliest target that this repository can reach is --target time:2026-11-22T10:00:00.5Z; ",
        ] {
            assert!(time.contains(part), "no `{part}` in {time}");
        }
        let lsn = said("lsn:0/100", std::slice::from_ref(&one));
        assert!(lsn.contains("can reach is --target lsn:0/300; the newest is --target latest"), "{lsn}");
        let both = said("time:2026-11-22T09:00:00Z", &[one, reach_of(2, 0x200, "2026-11-22T09:30:00Z")]);
        assert!(
            both.ends_with("--target time:2026-11-22T09:30:00Z --timeline 2; the newest is --target latest"),
            "{both}"
        );
        let left = said("latest", &[reach_of(2, 0x200, "2026-11-22T09:30:00Z")]);
        assert!(left.ends_with("is --target lsn:0/200; the newest is --target latest --timeline 2"), "{left}");
        assert!(said("lsn:0/100", &[]).contains("`backup list`"));
    }

    #[test]
    fn restore_points_that_are_there_are_named() {
        assert_eq!(names(&[]), "there is none");
        let all: Vec<_> = (0..12).map(|n| (format!("p{n}"), Timeline::FIRST, Lsn(n))).collect();
        assert_eq!(names(&all[..2]), "there are `p0` at 0/0 on timeline 1, `p1` at 0/1 on timeline 1");
        let last = names(&all);
        assert!(
            last.starts_with("the last of 12 are `p2` at 0/2") && last.ends_with("`p11` at 0/B on timeline 1"),
            "{last}"
        );
    }
}
