//! `verify` on a pipeline that lives: one snapshot of the tables, events judged by whether their transactions are visible
//! in it, taken anew until tables and topics are equal or the deadline has passed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    PointView, VerifyError, checks,
    look::{LookOptions, Observer, Systems},
    observation::{Expectation, NewerVersions},
};
use cdc_model::{
    event::{About, CheckReport, Finding, FindingKind},
    units::{Lsn, Verdict, counted},
    vocabulary::CheckId,
};
use cdc_pipeline::{
    client::{
        ClientError,
        limits::{self, Bound},
        wait,
    },
    config::Config,
};

/// A difference that stands in so many snapshots, each with the connector past it, will not go away.
const SETTLED_LOOKS: u32 = 2;

/// What to verify.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The connectors; empty for every Debezium PostgreSQL connector on the configured server.
    pub connectors: Vec<String>,
    /// How long to go on looking while tables and topics differ. Behind it, differences count as they are if the
    /// connectors stand still, and as unknown while they are on their way.
    pub deadline: Bound,
    /// The recovery point to compare with.
    pub point: Option<PointView>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        VerifyOptions { connectors: Vec::new(), deadline: limits::verify::LOOKS.into(), point: None }
    }
}

/// Looks at a pipeline until tables and topics are equal or the deadline has passed, and judges it.
pub async fn verify(config: &Config, options: &VerifyOptions) -> Result<Vec<CheckReport>, VerifyError> {
    match look_and_judge(config, options).await {
        // A system of the pipeline that should answer and does not is a finding.
        Err(VerifyError::Client(error)) => Ok(vec![unanswered(&error)]),
        other => other,
    }
}

fn unanswered(error: &ClientError) -> CheckReport {
    let (subject, found) = match error {
        ClientError::Unreachable { system, address, detail } => ((*system).to_owned(), format!("{address}: {detail}")),
        ClientError::Answer { system, what, found, .. } => ((*system).to_owned(), format!("{what}: {found}")),
        other => ("pipeline".to_owned(), other.to_string()),
    };
    let finding = Finding {
        subject: Some(About::System(subject)),
        expected: Some("a system that answers".into()),
        found: Some(found),
        ..Finding::new(FindingKind::Dead)
    };
    CheckId::Positions.report(0, vec!["nothing else could be looked at".into()], vec![finding])
}

async fn look_and_judge(config: &Config, options: &VerifyOptions) -> Result<Vec<CheckReport>, VerifyError> {
    let systems = Systems::new(config)?;
    systems.kafka.takes_connections().await?;
    let mut looking = Looking::new(&systems, options).await?;
    let reports = loop {
        let red = looking.look().await?;
        if !red || looking.over() {
            break looking.judge(options).await;
        }
        looking.pause().await;
    };
    Ok(reports)
}

/// What makes two findings of different looks the same difference.
fn identity(finding: &Finding) -> String {
    let Finding { kind, table, key, expected, found, .. } = finding;
    format!("{kind:?} {table:?} {key:?} {expected:?} {found:?}")
}

/// Differences that nobody knows to stay: no connector was seen past the snapshot that they are of, and something still moves.
fn on_its_way(state: CheckReport, lag: &str) -> CheckReport {
    // What is undecided stays so when the connectors have come further.
    if state.verdict != Verdict::Failed {
        return state;
    }
    let total = state.findings_total;
    let why = format!(
        "{total} so far, and the connectors are still on their way: {lag}; verify with a longer --deadline",
        total = counted(total, "difference")
    );
    CheckReport { compared: state.compared, ..CheckId::State.inconclusive(why) }
}

/// Everything that goes on from one look to the next.
struct Looking<'s> {
    observer: Observer<'s>,
    end_of_wal: Option<Lsn>,
    fresh: bool,
    read_before: i64,
    settled_looks: u32,
    /// Whether records came since the look before.
    growing: bool,
    /// The differences of the last two looks with the connectors past their snapshots.
    differences: [BTreeSet<String>; 2],
    looks: u32,
    began: Instant,
    deadline: Bound,
    last_look: Duration,
    dead: bool,
    motion: Motion,
    /// When something moved last.
    moved: Instant,
}

/// How far topics and connectors have come: what was read of the topics, and each connector's confirmed and stored position.
#[derive(Debug, Default, PartialEq, Eq)]
struct Motion {
    read: i64,
    positions: Vec<(Option<Lsn>, Option<Lsn>)>,
}

impl<'s> Looking<'s> {
    async fn new(systems: &'s Systems, options: &VerifyOptions) -> Result<Looking<'s>, VerifyError> {
        let wanted = LookOptions { connectors: options.connectors.clone(), ..LookOptions::default() };
        Ok(Looking {
            observer: Observer::new(systems, wanted).await?,
            end_of_wal: None,
            fresh: true,
            read_before: 0,
            settled_looks: 0,
            growing: false,
            differences: [BTreeSet::new(), BTreeSet::new()],
            looks: 0,
            began: Instant::now(),
            deadline: options.deadline,
            last_look: Duration::ZERO,
            dead: false,
            motion: Motion::default(),
            moved: Instant::now(),
        })
    }

    fn over(&self) -> bool {
        self.dead || self.settled_looks >= SETTLED_LOOKS || self.began.elapsed() >= self.deadline.now()
    }

    async fn pause(&self) {
        // Comparing a large table again and again must not take the machine from the connector.
        let left = self.deadline.now().saturating_sub(self.began.elapsed());
        wait::pause_for(limits::pacing::VERIFY_LOOK.max(self.last_look).min(left.max(limits::pacing::VERIFY_LOOK)))
            .await;
    }

    /// One look; whether tables and topics differ.
    async fn look(&mut self) -> Result<bool, VerifyError> {
        let began = Instant::now();
        self.looks += 1;
        self.observer.positions().await;
        let caught_up = self.caught_up();
        if self.fresh {
            self.observer.tables().await?;
            self.end_of_wal = self.observer.end_of_wal().await.or(self.end_of_wal);
        }
        self.observer.topics().await?;
        let seen = self.observer.seen();
        let state = checks::state(seen, &Expectation::default());
        let positions = checks::positions(seen, &Expectation::default());
        // What is not known now will not be known later.
        let red = [&state, &positions].iter().any(|r| r.verdict == Verdict::Failed);
        self.dead = checks::positions::dead(seen);
        let read: i64 = seen.topics.values().flat_map(|t| &t.partitions).map(|p| p.next).sum();
        let stalled = read == self.read_before;
        self.growing = !stalled;
        self.read_before = read;
        let motion = Motion { read, positions: self.positions() };
        if motion != self.motion {
            (self.motion, self.moved) = (motion, Instant::now());
        }
        // Whether the connector was past the snapshot's end of WAL is asked before its topics are read to their ends.
        if red && !self.fresh && caught_up {
            // What came since the snapshot cannot be told from it where records do not say which transaction they are of.
            if stalled || !self.any_unplaced() {
                self.settled_looks += 1;
            }
            self.differences.swap(0, 1);
            self.differences[1] = state.findings.iter().map(identity).collect();
            self.fresh = true;
        } else {
            // A topic may be ahead of the snapshot: a commit reaches a connector before it becomes visible.
            self.fresh = red && stalled && !self.fresh;
        }
        self.last_look = began.elapsed();
        tracing::debug!(look = self.looks, red, findings = state.findings_total, caught_up, "looked");
        Ok(red)
    }

    /// Each connector's confirmed and stored position.
    fn positions(&self) -> Vec<(Option<Lsn>, Option<Lsn>)> {
        let positions = self.observer.seen().connectors.iter().map(|connector| {
            let slot = self.observer.seen().slots.iter().find(|s| s.name == connector.settings.slot);
            (slot.and_then(|s| s.confirmed_flush_lsn), connector.stored_lsn())
        });
        positions.collect()
    }

    /// What differs, and whether anybody knows that it stays.
    fn settled(&self, state: CheckReport) -> CheckReport {
        let standstill = limits::connectors::MARKER_STALLED.now().max(2 * self.last_look);
        if self.dead || self.settled_looks > 0 || self.moved.elapsed() > standstill {
            return state;
        }
        let shown = |position: Option<Lsn>| position.map_or("none".to_owned(), |lsn| lsn.to_string());
        let lag =
            self.observer.seen().connectors.iter().zip(self.positions()).map(|(connector, (confirmed, stored))| {
                let name = &connector.settings.name;
                format!("connector {name} has confirmed {} and stored {}", shown(confirmed), shown(stored))
            });
        let end = shown(self.end_of_wal);
        on_its_way(state, &format!("{}, the snapshot ends at {end}", lag.collect::<Vec<_>>().join(", ")))
    }

    fn any_unplaced(&self) -> bool {
        self.observer.seen().tables.iter().any(|table| self.observer.is_unplaced(table))
    }

    /// Without the differences of such records that came and went while somebody wrote.
    fn steady(&self, state: CheckReport) -> CheckReport {
        let unplaced = |finding: &Finding| {
            let table = self.observer.seen().tables.iter().find(|t| Some(&t.name) == finding.table.as_ref());
            table.is_some_and(|t| self.observer.is_unplaced(t))
        };
        let passing =
            |finding: &Finding| unplaced(finding) && !self.differences.iter().all(|d| d.contains(&identity(finding)));
        if !self.growing || state.verdict != Verdict::Failed || !state.findings.iter().all(passing) {
            return state;
        }
        let total = state.findings_total;
        let why = format!(
            "{total}, none of which stood: somebody writes, and records of ExtractNewRecordState or of an incremental \
             snapshot do not all say which transaction they are of; verify with the writers at rest",
            total = counted(total, "difference")
        );
        CheckReport { compared: state.compared, ..CheckId::State.inconclusive(why) }
    }

    /// Whether every connector is past the end of WAL that the snapshot was followed by.
    fn caught_up(&self) -> bool {
        let Some(end) = self.end_of_wal else { return false };
        let past = |(confirmed, stored): &(Option<Lsn>, Option<Lsn>)| *confirmed >= Some(end) || *stored >= Some(end);
        self.positions().iter().all(past)
    }

    async fn judge(&mut self, options: &VerifyOptions) -> Vec<CheckReport> {
        if let Err(error) = self.observer.surroundings().await {
            self.observer.note(format!("topic settings cannot be read: {error}"));
        }
        let seen = self.observer.seen();
        let mut expected = Expectation { newer_versions: NewerVersions::Any, ..Expectation::default() };
        if let Some(point) = &options.point {
            expected.registry = point.registry.clone();
            // Only the data topics of these connectors: others are not this pipeline's.
            let own = |name: &&String| seen.tables.iter().any(|table| table.topic == **name);
            expected.specs = point.specs.iter().filter(|(n, _)| own(n)).map(|(n, s)| (n.clone(), s.clone())).collect();
        }
        let mut state = self.settled(self.steady(checks::state(seen, &expected)));
        if expected.registry.is_some() && seen.registry.is_none() {
            state.notes.push("these connectors use no registry: the recovery point's is not compared".to_owned());
        }
        state.notes.push(format!("{} in {:.1} s", counted(self.looks, "look"), self.began.elapsed().as_secs_f64()));
        let mut reports = vec![state];
        if seen.registry.is_some() {
            reports.push(checks::schema_ids(seen, &expected));
        }
        reports.push(checks::positions(seen, &expected));
        // Without a schema of theirs in it, the registry is not these connectors', and was not asked.
        if expected.registry.is_some() && seen.registry.is_some() {
            reports.push(checks::compatibility(seen, &expected));
        }
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_behind_a_connector_on_its_way_are_not_called_lost() {
        let lost = CheckId::State.report(7, Vec::new(), vec![Finding::new(FindingKind::Lost)]);
        let late = on_its_way(lost, "connector shop has confirmed 0/10 and stored 0/8");
        assert_eq!(late.verdict, Verdict::Inconclusive);
        assert!(late.notes[0].contains("confirmed 0/10"), "{:?}", late.notes);
        let equal = CheckId::State.report(7, Vec::new(), Vec::new());
        assert_eq!(on_its_way(equal, "").verdict, Verdict::Passed);
        let undecided = CheckReport {
            verdict: Verdict::Inconclusive,
            ..CheckId::State.report(7, Vec::new(), vec![Finding::new(FindingKind::Different)])
        };
        assert_eq!(on_its_way(undecided.clone(), ""), undecided, "its findings are undecided whoever is on the way");
    }
}
