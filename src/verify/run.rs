//! `verify` on a pipeline that lives: one snapshot of the tables, events judged by whether their transactions are visible
//! in it, taken anew until tables and topics are equal or the deadline has passed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    PointView, VerifyError, checks,
    decode::{record::Schemas, table::Columns},
    fold::TopicFold,
    observation::{Expectation, NewerVersions, Observation, TableView},
    observe::{self, Systems},
    read::{self, Stretch, TopicPlan, Visibility},
};
use crate::{
    client::{
        ClientError,
        limits::{self, Bound},
        wait,
    },
    config::Config,
    event::{About, CheckReport, Finding, FindingKind},
    units::{Lsn, Offset, TopicPartition, Verdict},
    vocabulary::CheckId,
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
        "{total} differences so far, and the connectors are still on their way: {lag}; verify with a longer --deadline"
    );
    CheckReport { compared: state.compared, ..CheckId::State.inconclusive(why) }
}

/// First and next offsets of partitions.
type Ends = BTreeMap<TopicPartition, (Offset, Offset)>;

/// Everything that goes on from one look to the next.
struct Looking<'s> {
    systems: &'s Systems,
    seen: Observation,
    schemas: Arc<Schemas>,
    folds: BTreeMap<String, TopicFold>,
    columns: BTreeMap<String, Arc<Columns>>,
    /// What the tables' snapshot sees, and the ends of topics before it was taken.
    snapshots: BTreeMap<String, (Option<Visibility>, Ends)>,
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
        let (connectors, unidentified) = observe::connectors(systems, &options.connectors).await?;
        Ok(Looking {
            systems,
            seen: Observation { connectors, unidentified, ..Observation::default() },
            schemas: systems.schemas(),
            folds: BTreeMap::new(),
            columns: BTreeMap::new(),
            snapshots: BTreeMap::new(),
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
        for view in &mut self.seen.connectors {
            observe::status(self.systems, view).await;
        }
        let caught_up = self.caught_up().await;
        if self.fresh {
            self.snapshot().await?;
        }
        self.read().await?;
        let state = checks::state(&self.seen, &Expectation::default());
        let positions = checks::positions(&self.seen, &Expectation::default());
        // What is not known now will not be known later.
        let red = [&state, &positions].iter().any(|r| r.verdict == Verdict::Failed);
        self.dead = checks::positions::dead(&self.seen);
        let read: i64 = self.seen.topics.values().flat_map(|t| &t.partitions).map(|p| p.next).sum();
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
        let positions = self.seen.connectors.iter().map(|connector| {
            let slot = self.seen.slots.iter().find(|s| s.name == connector.settings.slot);
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
        let lag = self.seen.connectors.iter().zip(self.positions()).map(|(connector, (confirmed, stored))| {
            let name = &connector.settings.name;
            format!("connector {name} has confirmed {} and stored {}", shown(confirmed), shown(stored))
        });
        let end = shown(self.end_of_wal);
        on_its_way(state, &format!("{}, the snapshot ends at {end}", lag.collect::<Vec<_>>().join(", ")))
    }

    fn any_unplaced(&self) -> bool {
        self.seen.tables.iter().any(|table| self.is_unplaced(table))
    }

    /// Whether records that came since the table's snapshot do not all say which transaction they are of: those of an
    /// incremental snapshot, and of a transform that leaves the row only, whose tombstones never do.
    fn is_unplaced(&self, table: &TableView) -> bool {
        let connector = self.seen.connectors.iter().find(|c| c.settings.name == table.connector);
        let before = self.snapshots.get(&table.connector).map(|(_, before)| before);
        let settled = |partition: i32| {
            let partition = TopicPartition { topic: table.topic.clone(), partition };
            before.and_then(|ends| ends.get(&partition)).map_or(0, |(_, high)| high.0)
        };
        let folds = self.seen.topics.get(&table.topic).into_iter().flat_map(|fold| &fold.partitions);
        connector.is_some_and(|c| c.settings.unwrap.is_some())
            || folds.into_iter().any(|p| p.unplaced.is_some_and(|offset| offset >= settled(p.partition)))
    }

    /// Without the differences of such records that came and went while somebody wrote.
    fn steady(&self, state: CheckReport) -> CheckReport {
        let unplaced = |finding: &Finding| {
            let table = self.seen.tables.iter().find(|t| Some(&t.name) == finding.table.as_ref());
            table.is_some_and(|t| self.is_unplaced(t))
        };
        let passing =
            |finding: &Finding| unplaced(finding) && !self.differences.iter().all(|d| d.contains(&identity(finding)));
        if !self.growing || state.verdict != Verdict::Failed || !state.findings.iter().all(passing) {
            return state;
        }
        let total = state.findings_total;
        let why = format!(
            "{total} differences, none of which stood: somebody writes, and records of ExtractNewRecordState or of an incremental \
             snapshot do not all say which transaction they are of; verify with the writers at rest"
        );
        CheckReport { compared: state.compared, ..CheckId::State.inconclusive(why) }
    }

    /// Whether every connector is past the end of WAL that the snapshot was followed by.
    async fn caught_up(&mut self) -> bool {
        let (server, slots) = observe::server(self.systems).await;
        self.seen.server = Some(server);
        self.seen.slots = slots;
        let Some(end) = self.end_of_wal else { return false };
        self.seen.connectors.iter().all(|connector| {
            let slot = self.seen.slots.iter().find(|s| s.name == connector.settings.slot);
            let confirmed = slot.and_then(|s| s.confirmed_flush_lsn);
            confirmed.is_some_and(|lsn| lsn >= end) || connector.stored_lsn().is_some_and(|lsn| lsn >= end)
        })
    }

    /// Takes the tables of all connectors, each database in one snapshot.
    async fn snapshot(&mut self) -> Result<(), VerifyError> {
        self.snapshots.clear();
        let mut tables: Vec<TableView> = Vec::new();
        for index in 0..self.seen.connectors.len() {
            let settings = self.seen.connectors[index].settings.clone();
            let start = settings.capture.topics.start();
            let topics = self.systems.kafka.topics().await?;
            let own: BTreeSet<String> = topics.into_keys().filter(|t| t.starts_with(&start)).collect();
            // Before the snapshot: what stands in a topic now is of transactions that the snapshot sees.
            let before = observe::ends(self.systems, &own).await?;
            let look = match observe::tables(self.systems, &settings).await {
                Ok(look) => look,
                Err(error) => {
                    self.seen.server = Some(Err(error.to_string()));
                    continue;
                }
            };
            let (visible, read) = look.describe(&mut self.seen.connectors[index]);
            self.snapshots.insert(settings.name.clone(), (visible, before));
            tables.extend(read);
        }
        self.seen.tables = tables;
        if !matches!(self.seen.server, Some(Err(_))) {
            observe::orphans(self.systems, &mut self.seen.connectors, &self.seen.tables).await?;
        }
        if let Some(Ok(server)) = observe::server(self.systems).await.0.into() {
            self.end_of_wal = Some(server.lsn);
        }
        Ok(())
    }

    /// Reads on to the ends of all topics.
    async fn read(&mut self) -> Result<(), VerifyError> {
        let topics: BTreeSet<String> = self.seen.tables.iter().map(|t| t.topic.clone()).collect();
        let ends = observe::ends(self.systems, &topics).await?;
        self.folds = std::mem::take(&mut self.seen.topics);
        let shapes: Vec<_> = self.seen.tables.iter().map(|t| (t.topic.clone(), t.columns.clone())).collect();
        for (topic, columns) in shapes {
            self.forget_what_changed(&topic, columns, &ends);
        }
        let mut plans = Vec::new();
        let mut stretches = Vec::new();
        let shared = self.seen.shared_topics();
        for table in self.seen.tables.iter().filter(|t| !shared.contains_key(t.topic.as_str())) {
            let Some(connector) = self.seen.connectors.iter().find(|c| c.settings.name == table.connector) else {
                continue;
            };
            let (visible, before) = self.snapshots.get(&table.connector).cloned().unwrap_or_default();
            plans.push(TopicPlan {
                topic: table.topic.clone(),
                settings: connector.settings.clone(),
                name: table.name.clone(),
                columns: table.columns.clone(),
                log: false,
                token_column: None,
                visible,
            });
            for (partition, (low, high)) in ends.iter().filter(|(tp, _)| tp.topic == table.topic) {
                let fold = self
                    .folds
                    .get(&table.topic)
                    .and_then(|f| f.partitions.iter().find(|p| p.partition == partition.partition));
                let from = fold.map_or(*low, |f| Offset(f.next.max(low.0)));
                let settled = before.get(partition).map_or(Offset(0), |(_, high)| *high);
                stretches.push(Stretch { partition: partition.clone(), from, to: Offset(high.0.max(from.0)), settled });
            }
        }
        self.seen.ends = ends;
        self.seen.topics = self.fold(plans, stretches).await?;
        Ok(())
    }

    /// A table with other columns, or a topic that was made anew, is folded from its beginning.
    fn forget_what_changed(&mut self, topic: &str, columns: Arc<Columns>, ends: &Ends) {
        let same = self.columns.get(topic).is_some_and(|c| c.list == columns.list);
        let anew = self.folds.get(topic).is_some_and(|fold| {
            fold.partitions.iter().any(|p| {
                let partition = TopicPartition { topic: topic.to_owned(), partition: p.partition };
                ends.get(&partition).is_none_or(|(_, high)| high.0 < p.next)
            })
        });
        if !same || anew {
            self.folds.remove(topic);
            self.columns.insert(topic.to_owned(), columns);
        }
    }

    async fn fold(
        &mut self,
        plans: Vec<TopicPlan>,
        stretches: Vec<Stretch>,
    ) -> Result<BTreeMap<String, TopicFold>, VerifyError> {
        let (kafka, schemas) = (self.systems.kafka.clone(), self.schemas.clone());
        let mut folds = std::mem::take(&mut self.folds);
        let began = Instant::now();
        let records: i64 = stretches.iter().map(|s| s.to.0 - s.from.0).sum();
        let work = tokio::task::spawn_blocking(move || {
            read::read(&kafka, &schemas, &plans, &stretches, &mut folds).map(|()| folds)
        });
        let folded = work.await.map_err(|e| VerifyError::Thread(e.to_string()))?;
        tracing::debug!(records, seconds = began.elapsed().as_secs_f64(), "folded");
        folded
    }

    async fn judge(&mut self, options: &VerifyOptions) -> Vec<CheckReport> {
        if observe::uses_registry(&self.seen) {
            let registry = observe::registry_behind(self.systems, "", &self.seen).await;
            self.seen.registry = Some(registry.map_err(|e| e.to_string()));
        }
        let topics: Vec<String> = self.seen.tables.iter().map(|t| t.topic.clone()).collect();
        match self.systems.kafka.topic_specs(&topics).await {
            Ok(specs) => self.seen.specs = specs.into_iter().map(|s| (s.name.clone(), s)).collect(),
            Err(error) => self.seen.notes.push(format!("topic settings cannot be read: {error}")),
        }
        let mut expected = Expectation { newer_versions: NewerVersions::Any, ..Expectation::default() };
        if let Some(point) = &options.point {
            expected.registry = point.registry.clone();
            // Only the data topics of these connectors: others are not this pipeline's.
            let own = |name: &&String| topics.contains(name);
            expected.specs = point.specs.iter().filter(|(n, _)| own(n)).map(|(n, s)| (n.clone(), s.clone())).collect();
        }
        let mut state = self.settled(self.steady(checks::state(&self.seen, &expected)));
        if expected.registry.is_some() && self.seen.registry.is_none() {
            state.notes.push("these connectors use no registry: the recovery point's is not compared".to_owned());
        }
        state.notes.push(format!("{} looks in {:.1} s", self.looks, self.began.elapsed().as_secs_f64()));
        let mut reports = vec![state];
        if self.seen.registry.is_some() {
            reports.push(checks::schema_ids(&self.seen, &expected));
        }
        reports.push(checks::positions(&self.seen, &expected));
        // Without a schema of theirs in it, the registry is not these connectors', and was not asked.
        if expected.registry.is_some() && self.seen.registry.is_some() {
            reports.push(checks::compatibility(&self.seen, &expected));
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
