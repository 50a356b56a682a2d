//! What was seen, in numbers: a pure function. A number that is not known is absent, and what an alert must not miss for that has a
//! metric that is always there.

use std::collections::BTreeMap;

use cdc_model::units::Verdict;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    judge::{Obstacle, Recoverable, Severity},
    seen::{Holdings, LastRto, Seen, ServerSeen},
};
use crate::backup::{Task, TaskRecord};

/// A metric. All are gauges, and have the label `pipeline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Its labels, besides `pipeline`.
    pub labels: &'static [&'static str],
}

const fn metric(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, help, labels }
}

const WRITTEN: Metric =
    metric("cdc_drill_status_timestamp_seconds", &[], "When these metrics were written. Always there.");
const RECOVERABLE: Metric = metric(
    "cdc_drill_recoverable",
    &["answer"],
    "Whether a recovery would bring the pipeline back now: 1 for the one answer that holds of yes, no and unknown. Always there.",
);
const OBSTACLES: Metric = metric(
    "cdc_drill_obstacles",
    &["severity"],
    "How many things stand in the way that block a recovery, are unknown, or are a risk. Always there.",
);
const OBSTACLE: Metric = metric("cdc_drill_obstacle", &["id", "severity"], "1 for each thing that stands in the way.");
const UP: Metric = metric("cdc_drill_system_up", &["system"], "Whether a system answers. Always there.");
const UNFINISHED: Metric =
    metric("cdc_drill_recovery_unfinished", &[], "Whether a recovery of the pipeline has begun and has not ended.");
const WINDOW_START: Metric = metric(
    "cdc_drill_window_start_timestamp_seconds",
    &[],
    "The earliest time that the pipeline can go back to, and from there to every later one.",
);
const WINDOW_END: Metric = metric(
    "cdc_drill_window_end_timestamp_seconds",
    &[],
    "The time of the last archived commit. It stands still while nobody commits.",
);
const POINTS: Metric = metric(
    "cdc_drill_points",
    &["state"],
    "Recovery points by state: usable, inconsistent, unusable, or partial where they have some of the parts.",
);
const POINT_SIZE: Metric =
    metric("cdc_drill_point_size_bytes", &["kind"], "The size of the newest recovery point, archived WAL not counted.");
const POINT_COMPLETE: Metric =
    metric("cdc_drill_point_complete", &[], "Whether the newest recovery point has all files of its manifest.");
const POINT_CONSISTENT: Metric = metric(
    "cdc_drill_point_consistent",
    &[],
    "Whether every consistency check held when the newest recovery point was taken.",
);
const LAST_ATTEMPT: Metric = metric("cdc_drill_last_attempt_timestamp_seconds", &["task"], "When a task last began.");
const LAST_PASSED: Metric = metric(
    "cdc_drill_last_attempt_passed",
    &["task"],
    "Whether the last attempt of a task passed: 0 also for one that was killed; absent while it is at work.",
);
const LAST_EXIT: Metric =
    metric("cdc_drill_last_attempt_exit_code", &["task"], "The exit code of the last attempt of a task that ended.");
const LAST_SUCCESS: Metric = metric(
    "cdc_drill_last_success_timestamp_seconds",
    &["task"],
    "When a task last passed: a backup by the newest usable recovery point, a deep check by the points that passed one, a proof by its record.",
);
const PROOF_PASSED: Metric = metric(
    "cdc_drill_last_proof_passed",
    &[],
    "Whether the last proof of a recovery point passed: 0 also where it could not verify the point.",
);
const RTO: Metric = metric("cdc_drill_rto_seconds", &["source"], "How long the last measured recovery took.");
const USED: Metric = metric("cdc_drill_repository_used_bytes", &[], "What the repository takes.");
const BUDGET: Metric = metric("cdc_drill_repository_budget_bytes", &[], "What the repository may take.");
const FREE: Metric = metric(
    "cdc_drill_repository_free_bytes",
    &[],
    "What is free on the repository's file system; absent for a bucket.",
);
const WAL_GAPS: Metric = metric(
    "cdc_drill_wal_gaps",
    &[],
    "How many times archived WAL is missing that recovery points need, with WAL behind it.",
);
const WAL_LOST: Metric =
    metric("cdc_drill_wal_lost_files", &[], "WAL files that the server gave away and that the archive does not have.");
const WAL_LATE: Metric = metric("cdc_drill_wal_waiting_files", &[], "Finished WAL files that are not archived yet.");
const WAL_LATE_SECONDS: Metric = metric(
    "cdc_drill_wal_oldest_waiting_seconds",
    &[],
    "How long the oldest finished WAL file waits to be archived; 0 where none does.",
);
const WAL_LAG: Metric = metric(
    "cdc_drill_wal_lag_bytes",
    &[],
    "What the server has written behind the end of the archive, the segment that is being written included.",
);
const ARCHIVER_FAILING: Metric =
    metric("cdc_drill_archiver_failing", &[], "Whether the server's last attempt to archive failed.");
const ARCHIVER_FAILURES: Metric = metric(
    "cdc_drill_archiver_failures",
    &[],
    "How many attempts to archive failed since the server's statistics were reset.",
);
const SLOT_WAL: Metric =
    metric("cdc_drill_slot_retained_wal_bytes", &["slot"], "The WAL that a replication slot holds back.");
const SLOT_ACTIVE: Metric =
    metric("cdc_drill_slot_active", &["slot"], "Whether somebody streams from a replication slot.");
const SLOT_LOST: Metric = metric("cdc_drill_slot_lost", &["slot"], "Whether a replication slot is invalidated.");

/// Every metric.
pub const METRICS: [Metric; 31] = [
    WRITTEN,
    RECOVERABLE,
    OBSTACLES,
    OBSTACLE,
    UP,
    UNFINISHED,
    WINDOW_START,
    WINDOW_END,
    POINTS,
    POINT_SIZE,
    POINT_COMPLETE,
    POINT_CONSISTENT,
    LAST_ATTEMPT,
    LAST_PASSED,
    LAST_EXIT,
    LAST_SUCCESS,
    PROOF_PASSED,
    RTO,
    USED,
    BUDGET,
    FREE,
    WAL_GAPS,
    WAL_LOST,
    WAL_LATE,
    WAL_LATE_SECONDS,
    WAL_LAG,
    ARCHIVER_FAILING,
    ARCHIVER_FAILURES,
    SLOT_WAL,
    SLOT_ACTIVE,
    SLOT_LOST,
];

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The metric.
    #[serde(rename = "name", serialize_with = "name_of")]
    pub metric: Metric,
    /// Its labels with their values.
    pub labels: BTreeMap<&'static str, String>,
    /// The number.
    pub value: f64,
}

fn name_of<S: serde::Serializer>(metric: &Metric, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(metric.name)
}

/// Everything in numbers.
pub(super) fn samples(
    seen: &Seen,
    recoverable: Recoverable,
    obstacles: &[Obstacle],
    rto: Option<&LastRto>,
) -> Vec<Sample> {
    let mut all = Samples { pipeline: &seen.pipeline, samples: Vec::new() };
    all.add(WRITTEN, &[], Some(seconds(seen.at)));
    for answer in Recoverable::ALL {
        all.add(RECOVERABLE, &[answer.word()], Some(flag(answer == recoverable)));
    }
    for severity in Severity::ALL {
        let count = obstacles.iter().filter(|obstacle| obstacle.severity == severity).count();
        all.add(OBSTACLES, &[severity.word()], Some(count as f64));
    }
    let mut named: Vec<(&str, &str)> = obstacles.iter().map(|o| (o.id, o.severity.word())).collect();
    named.sort_unstable();
    named.dedup();
    for (id, severity) in named {
        all.add(OBSTACLE, &[id, severity], Some(1.0));
    }
    all.add(UP, &["postgres"], Some(flag(seen.server.get().is_some())));
    for system in &seen.systems {
        all.add(UP, &[system.system], Some(flag(system.silent.is_none())));
    }
    all.add(UNFINISHED, &[], seen.open_recovery.get().map(|open| flag(open.is_some())));
    all.add(RTO, &[rto.map_or("", |rto| rto.source.word())], rto.map(|rto| rto.seconds));
    if let Some(holdings) = seen.holdings.get().and_then(Option::as_ref) {
        of_repository(holdings, &mut all);
    }
    if let Some(server) = seen.server.get() {
        of_server(seen, server, &mut all);
    }
    for known in seen.tasks.get().into_iter().flatten() {
        of_task(known, &mut all);
    }
    if let Some(proof) = seen.proof.get().and_then(Option::as_ref) {
        all.add(PROOF_PASSED, &[], Some(flag(proof.verdict == Verdict::Passed)));
        all.add(LAST_SUCCESS, &["proof"], proof.passed_at.map(seconds));
    }
    all.samples
}

fn of_repository(holdings: &Holdings, all: &mut Samples<'_>) {
    let window = holdings.window.as_ref();
    all.add(WINDOW_START, &[], window.and_then(|window| window.from_time).map(seconds));
    all.add(WINDOW_END, &[], window.and_then(|window| window.to_time).map(seconds));
    let state = |state: &str| {
        let is = |point: &&super::seen::PointSeen| match (point.kind, &point.defect, point.failed_checks.is_empty()) {
            (_, Some(_), _) | (None, _, _) => state == "unusable",
            (Some(_), None, false) => state == "inconsistent",
            (Some(_), None, true) => state == if point.is_usable() { "usable" } else { "partial" },
        };
        holdings.points.iter().filter(is).count() as f64
    };
    for word in ["usable", "inconsistent", "unusable", "partial"] {
        all.add(POINTS, &[word], Some(state(word)));
    }
    if let Some(newest) = holdings.points.last() {
        let kind = serde_json::to_value(newest.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
        all.add(POINT_SIZE, &[kind.as_deref().unwrap_or("unknown")], Some(newest.bytes as f64));
        all.add(POINT_COMPLETE, &[], Some(flag(newest.defect.is_none() && newest.kind.is_some())));
        all.add(POINT_CONSISTENT, &[], newest.kind.map(|_| flag(newest.failed_checks.is_empty())));
    }
    let newest = holdings.points.iter().filter(|point| point.is_usable()).filter_map(|point| point.end).max();
    all.add(LAST_SUCCESS, &[Task::Backup.word()], newest.map(seconds));
    let checked = holdings.points.iter().filter_map(|point| point.checked).max();
    all.add(LAST_SUCCESS, &[Task::DeepCheck.word()], checked.map(seconds));
    all.add(USED, &[], Some(holdings.used as f64));
    all.add(BUDGET, &[], Some(holdings.budget as f64));
    all.add(FREE, &[], holdings.free.map(|free| free as f64));
    all.add(WAL_GAPS, &[], Some(holdings.holes.len() as f64));
}

fn of_server(seen: &Seen, server: &ServerSeen, all: &mut Samples<'_>) {
    if let Some(archiver) = server.archiver.get() {
        all.add(WAL_LOST, &[], Some(archiver.lost.len() as f64));
        all.add(WAL_LATE, &[], Some(archiver.late as f64));
        all.add(WAL_LATE_SECONDS, &[], Some(archiver.oldest_waiting_seconds.unwrap_or_default() as f64));
        all.add(ARCHIVER_FAILING, &[], Some(flag(archiver.failing)));
        all.add(ARCHIVER_FAILURES, &[], Some(archiver.failures as f64));
    }
    let window = seen.holdings.get().and_then(Option::as_ref).and_then(|holdings| holdings.window.as_ref());
    let lag = window.zip(server.position).map(|(window, position)| position.0.saturating_sub(window.to.0));
    all.add(WAL_LAG, &[], lag.map(|lag| lag as f64));
    for slot in &server.slots {
        all.add(SLOT_WAL, &[&slot.name], slot.retained_bytes.map(|bytes| bytes as f64));
        all.add(SLOT_ACTIVE, &[&slot.name], Some(flag(slot.active)));
        all.add(SLOT_LOST, &[&slot.name], Some(flag(slot.invalidated.is_some())));
    }
}

fn of_task(known: &TaskRecord, all: &mut Samples<'_>) {
    let time = |text: &str| text.parse::<Timestamp>().ok().map(seconds);
    let (last, task) = (&known.last, known.last.task.word());
    all.add(LAST_ATTEMPT, &[task], time(&last.began));
    let passed = match &last.ended {
        Some(ended) => Some(ended.verdict == Verdict::Passed),
        None => (known.at_work == Some(false)).then_some(false),
    };
    all.add(LAST_PASSED, &[task], passed.map(flag));
    all.add(LAST_EXIT, &[task], last.ended.as_ref().map(|ended| f64::from(ended.exit_code)));
    // What leaves something behind is told by that.
    if !matches!(known.last.task, Task::Backup | Task::DeepCheck) {
        let ended = known.passed.as_ref().and_then(|passed| passed.ended.as_ref());
        all.add(LAST_SUCCESS, &[task], ended.and_then(|ended| time(&ended.at)));
    }
}

struct Samples<'a> {
    pipeline: &'a str,
    samples: Vec<Sample>,
}

impl Samples<'_> {
    /// A number with the values of the metric's labels; none is absent.
    fn add(&mut self, metric: Metric, values: &[&str], value: Option<f64>) {
        let Some(value) = value else { return };
        let own = metric.labels.iter().zip(values).map(|(label, value)| (*label, (*value).to_owned()));
        let labels = own.chain([("pipeline", self.pipeline.to_owned())]).collect();
        self.samples.push(Sample { metric, labels, value });
    }
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1_000.0
}
