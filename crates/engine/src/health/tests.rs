//! A healthy pipeline with one mistake planted in each: what it is judged to be, what is named, and what the metrics say.

use std::collections::BTreeMap;

use cdc_model::units::{Exit, Lsn, PointId, SystemId, Timeline, Verdict};
use cdc_pipeline::config::{MonitorConfig, ObjectivesConfig, Span};
use jiff::{SignedDuration, Timestamp};

use super::{
    ArchiverSeen, Health, Holdings, Known, METRICS, PointSeen, ProofSeen, Recoverable, RtoSource, Seen, ServerSeen,
    Severity, SlotSeen, SystemSeen, WalHole, Window,
};
use crate::{
    backup::{Attempt, Ended, Kind, Lost, Reach, Task, TaskRecord},
    recovery::OpenRecovery,
};

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn hours_ago(hours: i64) -> Timestamp {
    now() - SignedDuration::from_hours(hours)
}

fn point(id: &str, hours: i64) -> PointSeen {
    PointSeen {
        point: PointId::new(id),
        kind: Some(Kind::Full),
        begin: Some(hours_ago(hours)),
        end: Some(hours_ago(hours)),
        bytes: 1 << 20,
        defect: None,
        failed_checks: Vec::new(),
        checked: None,
        manifest: Some("ab".into()),
        reachable: vec![Reach {
            point: PointId::new(id),
            timeline: Timeline::FIRST,
            from: Lsn(100),
            to: Lsn(200),
            hole: None,
        }],
    }
}

fn task(task: Task, hours: i64, exit: Option<u8>) -> TaskRecord {
    let attempt = |exit: Option<u8>| Attempt {
        task,
        began: hours_ago(hours).to_string(),
        host: "h".into(),
        ended: exit.map(|exit_code| Ended {
            at: hours_ago(hours).to_string(),
            exit_code,
            verdict: if exit_code == 0 { Verdict::Passed } else { Verdict::Failed },
            reason: (exit_code != 0).then(|| "no room".to_owned()),
            point: None,
            rto_seconds: (task == Task::Drill).then_some(40.0),
        }),
    };
    TaskRecord {
        cluster: None,
        passed: (exit == Some(0)).then(|| attempt(exit)),
        last: attempt(exit),
        at_work: Some(false),
    }
}

fn healthy() -> Seen {
    let old = PointSeen { checked: Some(hours_ago(20)), ..point("a", 30) };
    let holdings = Holdings {
        repository: "/r".into(),
        points: vec![old, point("b", 6)],
        window: Some(Window {
            system_id: SystemId(7),
            timeline: Timeline::FIRST,
            from: Lsn(100),
            to: Lsn(200),
            from_time: Some(hours_ago(30)),
            to_time: Some(hours_ago(1)),
        }),
        holes: Vec::new(),
        used: 3 << 20,
        budget: 2 << 30,
        free: Some(1 << 40),
        notes: Vec::new(),
    };
    let archiver = ArchiverSeen {
        mode: "on".into(),
        failing: false,
        failures: 0,
        last_failed: None,
        last_archived: None,
        late: 0,
        oldest_waiting_seconds: None,
        lost: Vec::new(),
    };
    let slot = SlotSeen {
        name: "orders".into(),
        active: true,
        wal_status: Some("reserved".into()),
        invalidated: None,
        retained_bytes: Some(64),
    };
    Seen {
        pipeline: "orders".into(),
        at: now(),
        limits: MonitorConfig::default(),
        objectives: ObjectivesConfig::default(),
        holdings: Known::Known(Some(holdings)),
        server: Known::Known(ServerSeen {
            position: Some(Lsn(260)),
            archiver: Known::Known(archiver),
            slots: vec![slot],
        }),
        systems: ["kafka", "connect", "registry"].map(|system| SystemSeen { system, silent: None }).into(),
        open_recovery: Known::Known(None),
        tasks: Known::Known(vec![task(Task::Backup, 6, Some(0)), task(Task::Drill, 400, Some(0))]),
        proof: Known::Known(Some(proof(Verdict::Passed))),
    }
}

fn proof(verdict: Verdict) -> ProofSeen {
    ProofSeen {
        point: PointId::new("b"),
        manifest: "ab".into(),
        at: Some(hours_ago(2)),
        verdict,
        exit_code: verdict.exit().code(),
        reason: "registry: one schema is missing".into(),
        rto_seconds: (verdict == Verdict::Passed).then_some(12.5),
        passed_at: (verdict == Verdict::Passed).then(|| hours_ago(2)),
    }
}

fn holdings(seen: &mut Seen) -> &mut Holdings {
    match &mut seen.holdings {
        Known::Known(Some(holdings)) => holdings,
        other => panic!("{other:?}"),
    }
}

fn server(seen: &mut Seen) -> &mut ServerSeen {
    match &mut seen.server {
        Known::Known(server) => server,
        other => panic!("{other:?}"),
    }
}

fn archiver(seen: &mut Seen) -> &mut ArchiverSeen {
    match &mut server(seen).archiver {
        Known::Known(archiver) => archiver,
        other => panic!("{other:?}"),
    }
}

fn tasks(seen: &mut Seen, records: Vec<TaskRecord>) {
    seen.tasks = Known::Known(records);
}

fn unknown<T>() -> Known<T> {
    Known::Unknown("no route".to_owned())
}

fn open() -> OpenRecovery {
    OpenRecovery { id: Some("r1".into()), what: "recovery r1 did not end".into(), at_work: None, next: "resume".into() }
}

fn hole(is_behind_newest: bool) -> WalHole {
    WalHole { timeline: Timeline::FIRST, segment: "000000010000000000000007".into(), is_behind_newest }
}

fn lost() -> Lost {
    Lost { file: "000000010000000000000009".into(), why: "the server notes it as archived".into(), in_pg_wal: false }
}

#[test]
fn a_healthy_pipeline_has_nothing_in_its_way() {
    let health = Health::of(healthy());
    assert_eq!(health.obstacles, []);
    assert_eq!((health.recoverable, health.exit()), (Recoverable::Yes, Exit::Passed));
    let rto = health.rto.unwrap();
    assert_eq!((rto.seconds, rto.source), (12.5, RtoSource::Proof), "the newest measurement");
}

/// A mistake that is planted.
type Plant = fn(&mut Seen);

/// The obstacle that is named, how much it matters, the exit code, and the mistake.
const PLANTED: &[(&str, Severity, u8, Plant)] = &[
    // Nothing can be recovered.
    ("no-repository", Severity::Blocks, 30, |s| s.holdings = Known::Known(None)),
    ("no-point", Severity::Blocks, 30, |s| holdings(s).points.clear()),
    ("no-point", Severity::Blocks, 30, |s| {
        holdings(s).points.iter_mut().for_each(|point| point.kind = Some(Kind::Selected));
    }),
    ("no-point", Severity::Blocks, 30, |s| {
        holdings(s).points.iter_mut().for_each(|point| point.defect = Some("gone".into()));
    }),
    ("no-point", Severity::Blocks, 30, |s| {
        holdings(s).points.iter_mut().for_each(|point| point.failed_checks = vec!["publications".into()]);
    }),
    ("wal-missing", Severity::Blocks, 32, |s| {
        holdings(s).window = None;
        holdings(s).points[1].reachable.clear();
    }),
    ("wal-missing", Severity::Blocks, 32, |s| holdings(s).points[1].reachable[0].to = Lsn(100)),
    ("wal-gap", Severity::Blocks, 32, |s| holdings(s).holes.push(hole(true))),
    ("wal-lost", Severity::Blocks, 32, |s| archiver(s).lost.push(lost())),
    ("unfinished-recovery", Severity::Blocks, 34, |s| s.open_recovery = Known::Known(Some(open()))),
    ("proof-failed", Severity::Blocks, 10, |s| s.proof = Known::Known(Some(proof(Verdict::Failed)))),
    // Whether it can is not known.
    ("repository", Severity::Unknown, 13, |s| s.holdings = unknown()),
    ("server", Severity::Unknown, 13, |s| s.server = unknown()),
    ("cluster", Severity::Unknown, 13, |s| holdings(s).window = None),
    ("archiver", Severity::Unknown, 13, |s| server(s).archiver = unknown()),
    ("kafka", Severity::Unknown, 13, |s| s.systems[0].silent = Some("no route".into())),
    ("connect", Severity::Unknown, 13, |s| s.systems[1].silent = Some("no route".into())),
    ("registry", Severity::Unknown, 13, |s| s.systems[2].silent = Some("no route".into())),
    ("unfinished-recovery", Severity::Unknown, 13, |s| s.open_recovery = unknown()),
    ("check-failed", Severity::Unknown, 13, |s| tasks(s, vec![task(Task::Check, 1, Some(31))])),
    ("check-failed", Severity::Unknown, 13, |s| {
        tasks(s, vec![task(Task::DeepCheck, 3, Some(30)), task(Task::Check, 1, Some(0))]);
    }),
    // It can, and something goes the wrong way.
    ("newest-point", Severity::Risk, 37, |s| holdings(s).points[1].defect = Some("gone".into())),
    ("newest-point", Severity::Risk, 37, |s| {
        holdings(s).points[1].failed_checks = vec!["publications".into()];
    }),
    ("wal-gap-earlier", Severity::Risk, 37, |s| holdings(s).holes.push(hole(false))),
    ("backup-old", Severity::Risk, 37, |s| holdings(s).points[1].end = Some(hours_ago(27))),
    ("backup-old", Severity::Risk, 37, |s| {
        (holdings(s).points[1].end, holdings(s).points[1].begin) = (None, None);
    }),
    ("not-verified", Severity::Risk, 37, |s| {
        s.proof = Known::Known(None);
        holdings(s).points[0].checked = None;
    }),
    ("not-verified", Severity::Risk, 37, |s| {
        s.proof = Known::Known(None);
        holdings(s).points[0].checked = Some(hours_ago(8 * 24 + 1));
    }),
    ("proof-inconclusive", Severity::Risk, 37, |s| {
        s.proof = Known::Known(Some(proof(Verdict::Inconclusive)));
    }),
    ("proof", Severity::Risk, 37, |s| s.proof = unknown()),
    ("over-budget", Severity::Risk, 37, |s| holdings(s).used = (2 << 30) + 1),
    ("archiver-failing", Severity::Risk, 37, |s| archiver(s).failing = true),
    ("archiver-off", Severity::Risk, 37, |s| archiver(s).mode = "off".into()),
    ("archiver-late", Severity::Risk, 37, |s| archiver(s).oldest_waiting_seconds = Some(901)),
    ("slot-lost", Severity::Risk, 37, |s| server(s).slots[0].invalidated = Some("wal_removed".into())),
    ("slot-unreserved", Severity::Risk, 37, |s| {
        server(s).slots[0].wal_status = Some("unreserved".into());
    }),
    ("slot-wal", Severity::Risk, 37, |s| server(s).slots[0].retained_bytes = Some((10 << 30) + 1)),
    ("backup-failed", Severity::Risk, 37, |s| tasks(s, vec![task(Task::Backup, 1, Some(35))])),
    ("backup-failed", Severity::Risk, 37, |s| tasks(s, vec![task(Task::Backup, 1, None)])),
    ("prune-failed", Severity::Risk, 37, |s| tasks(s, vec![task(Task::Prune, 1, Some(35))])),
    ("check-failed", Severity::Risk, 37, |s| tasks(s, vec![task(Task::Check, 1, Some(34))])),
    ("tasks", Severity::Risk, 37, |s| s.tasks = unknown()),
    ("drill-old", Severity::Risk, 37, |s| {
        s.limits.drill_age = "35d".to_owned().try_into().ok();
        tasks(s, Vec::new());
    }),
    ("drill-old", Severity::Risk, 37, |s| s.limits.drill_age = "399h".to_owned().try_into().ok()),
    // It can, and not as was promised.
    ("proof-missed", Severity::Risk, 12, |s| {
        s.proof = Known::Known(Some(ProofSeen { exit_code: 12, ..proof(Verdict::Failed) }));
    }),
    ("rto-missed", Severity::Risk, 12, |s| s.objectives.rto = span("12s")),
    ("rpo-missed", Severity::Risk, 12, |s| s.objectives.rpo = span("59m")),
    ("rpo-missed", Severity::Risk, 12, |s| {
        s.objectives.rpo = span("5h");
        holdings(s).window.as_mut().unwrap().to_time = None;
    }),
    ("rpo-missed", Severity::Risk, 12, |s| {
        s.objectives.rpo = span("59m");
        archiver(s).failing = true;
    }),
    ("rto-unmeasured", Severity::Risk, 13, |s| {
        s.objectives.rto = span("1d");
        s.proof = Known::Known(None);
        tasks(s, Vec::new());
    }),
    ("rto-unmeasured", Severity::Risk, 13, |s| {
        s.objectives.rto = span("1d");
        (s.proof, s.tasks) = (unknown(), unknown());
    }),
    ("rpo-unmeasured", Severity::Risk, 13, |s| {
        s.objectives.rpo = span("1d");
        let holdings = holdings(s);
        holdings.window.as_mut().unwrap().to_time = None;
        holdings.points.iter_mut().for_each(|point| point.begin = None);
    }),
    ("rpo-unmeasured", Severity::Risk, 13, |s| {
        s.objectives.rpo = span("1d");
        holdings(s).window.as_mut().unwrap().to_time = Some(hours_ago(-1));
    }),
];

fn span(text: &str) -> Option<Span> {
    Some(text.parse().unwrap())
}

#[test]
fn an_objective_that_is_kept_is_measured_and_stands_in_nobodys_way() {
    let mut seen = healthy();
    (seen.objectives.rto, seen.objectives.rpo) = (span("13s"), span("1h"));
    let health = Health::of(seen.clone());
    assert_eq!((health.obstacles.len(), health.exit()), (0, Exit::Passed));
    assert_eq!(health.rpo_seconds, Some(3_600.0), "since the last archived commit");
    assert_eq!(health.objectives.len(), 2);
    // The last commit lies before the newest point.
    holdings(&mut seen).window.as_mut().unwrap().to_time = Some(hours_ago(9));
    assert_eq!(Health::of(seen.clone()).rpo_seconds, Some(6.0 * 3_600.0), "since the point was begun");
    // Everything is archived.
    server(&mut seen).position = Some(Lsn(200));
    assert_eq!(Health::of(seen.clone()).rpo_seconds, Some(0.0));
    // What blocks a recovery says more.
    seen.objectives.rto = span("1s");
    holdings(&mut seen).holes.push(hole(true));
    assert_eq!(Health::of(seen).exit(), Exit::WalGap);
}

#[test]
fn a_planted_mistake_is_named() {
    for (number, (id, severity, exit, plant)) in PLANTED.iter().enumerate() {
        let mut seen = healthy();
        plant(&mut seen);
        let health = Health::of(seen);
        let told = format!("number {number}, {id}: {:#?}", health.obstacles);
        let named = health.obstacles.iter().find(|obstacle| obstacle.id == *id);
        assert_eq!(named.map(|obstacle| obstacle.severity), Some(*severity), "{told}");
        assert_eq!((health.exit_code, health.exit().code()), (*exit, *exit), "{told}");
        let expected = match severity {
            Severity::Blocks => Recoverable::No,
            Severity::Unknown => Recoverable::Unknown,
            Severity::Risk => Recoverable::Yes,
        };
        assert_eq!(health.recoverable, expected, "{told}");
        let numbers = numbers(&health);
        assert_eq!(numbers[&format!("cdc_drill_recoverable answer={}", expected.word())], 1.0);
        assert_eq!(numbers[&format!("cdc_drill_obstacle id={id} severity={}", severity.word())], 1.0);
        assert!(numbers[&format!("cdc_drill_obstacles severity={}", severity.word())] >= 1.0);
    }
}

#[test]
fn what_is_allowed_is_not_named() {
    let at_limit: [Plant; 6] = [
        |s| holdings(s).points[1].end = Some(hours_ago(26)),
        |s| archiver(s).oldest_waiting_seconds = Some(900),
        |s| server(s).slots[0].retained_bytes = Some(10 << 30),
        |s| holdings(s).used = 2 << 30,
        // One that is at work, and a check of which nobody knows.
        |s| tasks(s, vec![TaskRecord { at_work: Some(true), ..task(Task::Backup, 1, None) }]),
        |s| tasks(s, vec![TaskRecord { at_work: None, ..task(Task::Check, 1, None) }]),
    ];
    for (number, plant) in at_limit.into_iter().enumerate() {
        let mut seen = healthy();
        plant(&mut seen);
        assert_eq!(Health::of(seen).obstacles, [], "number {number}");
    }
    // A shallow check that named damage is outdated by a deep one that began later and passed.
    let mut seen = healthy();
    tasks(&mut seen, vec![task(Task::Check, 3, Some(31)), task(Task::DeepCheck, 1, Some(0))]);
    assert_eq!(Health::of(seen).obstacles, []);
}

#[test]
fn the_worst_decides_and_comes_first() {
    let mut seen = healthy();
    archiver(&mut seen).failing = true;
    seen.systems[0].silent = Some("no route".into());
    holdings(&mut seen).holes.push(hole(true));
    let health = Health::of(seen);
    let order: Vec<Severity> = health.obstacles.iter().map(|obstacle| obstacle.severity).collect();
    assert_eq!(order, [Severity::Blocks, Severity::Unknown, Severity::Risk]);
    assert_eq!((health.recoverable, health.exit()), (Recoverable::No, Exit::WalGap));
}

/// Each number by its metric and labels but for the pipeline.
fn numbers(health: &Health) -> BTreeMap<String, f64> {
    let each = health.metrics.iter().map(|sample| {
        assert_eq!(sample.labels["pipeline"], "orders");
        let labels = sample.labels.iter().filter(|(label, _)| **label != "pipeline");
        let labels: String = labels.map(|(label, value)| format!(" {label}={value}")).collect();
        (format!("{}{labels}", sample.metric.name), sample.value)
    });
    each.collect()
}

#[test]
fn numbers_say_what_was_seen() {
    let health = Health::of(healthy());
    let numbers = numbers(&health);
    let expected = [
        ("cdc_drill_archiver_failing", 0.0),
        ("cdc_drill_last_attempt_exit_code task=backup", 0.0),
        ("cdc_drill_last_attempt_passed task=backup", 1.0),
        ("cdc_drill_last_proof_passed", 1.0),
        ("cdc_drill_last_success_timestamp_seconds task=backup", hours_ago(6).as_second() as f64),
        ("cdc_drill_last_success_timestamp_seconds task=deep-check", hours_ago(20).as_second() as f64),
        ("cdc_drill_last_success_timestamp_seconds task=drill", hours_ago(400).as_second() as f64),
        ("cdc_drill_last_success_timestamp_seconds task=proof", hours_ago(2).as_second() as f64),
        ("cdc_drill_obstacles severity=blocks", 0.0),
        ("cdc_drill_point_complete", 1.0),
        ("cdc_drill_point_size_bytes kind=full", f64::from(1 << 20)),
        ("cdc_drill_points state=usable", 2.0),
        ("cdc_drill_recoverable answer=no", 0.0),
        ("cdc_drill_recoverable answer=yes", 1.0),
        ("cdc_drill_recovery_unfinished", 0.0),
        ("cdc_drill_repository_budget_bytes", 2_147_483_648.0),
        ("cdc_drill_rto_seconds source=proof", 12.5),
        ("cdc_drill_slot_retained_wal_bytes slot=orders", 64.0),
        ("cdc_drill_status_timestamp_seconds", now().as_second() as f64),
        ("cdc_drill_system_up system=kafka", 1.0),
        ("cdc_drill_wal_gaps", 0.0),
        ("cdc_drill_wal_lag_bytes", 60.0),
        ("cdc_drill_window_end_timestamp_seconds", hours_ago(1).as_second() as f64),
    ];
    for (name, value) in expected {
        assert_eq!(numbers.get(name), Some(&value), "{name}");
    }
}

#[test]
fn what_is_not_known_is_absent_and_not_zero() {
    let mut seen = healthy();
    seen.holdings = unknown();
    seen.server = unknown();
    seen.tasks = unknown();
    seen.proof = unknown();
    seen.open_recovery = unknown();
    let health = Health::of(seen);
    let names: Vec<String> = numbers(&health).into_keys().collect();
    let always = ["obstacle", "recoverable", "status_timestamp", "system_up"];
    let others =
        names.iter().filter(|name| always.iter().all(|there| !name.starts_with(&format!("cdc_drill_{there}"))));
    assert_eq!(others.collect::<Vec<_>>(), [] as [&String; 0]);
}

#[test]
fn every_metric_is_written_by_something() {
    let mut seen = healthy();
    archiver(&mut seen).failing = true;
    let health = Health::of(seen);
    for metric in METRICS {
        assert!(health.metrics.iter().any(|sample| sample.metric == metric), "{} is never written", metric.name);
        assert!(metric.name.starts_with("cdc_drill_") && metric.help.ends_with('.'), "{}", metric.name);
    }
    assert!(health.metrics.iter().all(|sample| METRICS.contains(&sample.metric)), "a metric is not in the list");
}
