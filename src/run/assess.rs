//! Looks at what a drill left, once the writers rest, and gives the checks what they need.

use std::collections::{BTreeMap, BTreeSet};

use futures::future;
use tokio::sync::OnceCell;

use super::{
    RunError,
    confirm::{self, Inquiry},
    drill::{Drill, EpochEnd},
    pipeline::Source,
    steps,
    writers::Writers,
};
use camino::Utf8PathBuf;

use crate::{
    backup::{PointSelector, Repository},
    client::{
        group::{Consumed, OffsetReset},
        kafka::TopicSpec,
        limits,
    },
    config::Tools,
    event::{CheckReport, ControlPlan, Finding, Rpo},
    scenario::{CheckId, Fault, Level, Recover, Step},
    units::{Epoch, Lsn, Offset, SchemaId, Subject, TableName, TopicPartition},
    verify::{
        Expectation, Observation, PointView, RegistryView, checks,
        observation::{Captured, ConnectorView, Cut, NewerVersions, Probe, Quiet},
        observe::{self, LookOptions, Marker, Systems},
    },
    workload::{
        self, WalRange,
        ledger::{CommitOrder, Ledger},
    },
};

/// The column that holds the workload's token.
const TOKEN_COLUMN: &str = "drill_token";

/// What was seen and judged.
#[derive(Debug)]
pub(super) struct Assessed {
    /// The checks that the scenario asks for, in its order.
    pub checks: Vec<CheckReport>,
    /// What is lost; unknown without a ledger.
    pub rpo: Option<Rpo>,
    /// What connector and task said while the checks looked.
    pub status: String,
    /// Whether that was RUNNING throughout.
    pub running: bool,
    /// The registry at the recovery point.
    point: Option<RegistryView>,
}

/// Waits until everything committed so far is in its topic.
pub(super) async fn quiesce(drill: &Drill<'_>) -> Result<String, RunError> {
    let systems = Systems::new(&drill.pipeline.config)?;
    let (views, _) = observe::connectors(&systems, &drill.pipeline.connectors()).await?;
    let mut passed = Vec::new();
    for quiet in quieted(drill, &systems, &views, "quiesce").await? {
        match quiet.reached {
            Ok(()) => passed.push(quiet.lsn.to_string()),
            Err(interrupted) => return Err(RunError::NotQuiet { seen: interrupted.seen }),
        }
    }
    Ok(match passed.is_empty() {
        true => "no connector".into(),
        false => format!("marker read, stored offset past {}", passed.join(", ")),
    })
}

/// Places a marker for each connector and waits until each has delivered its own, and is past it: a connector tells by
/// nothing but its own tables how far it has come.
async fn quieted(
    drill: &Drill<'_>,
    systems: &Systems,
    views: &[ConnectorView],
    note: &str,
) -> Result<Vec<Quiet>, RunError> {
    let mut markers = Vec::new();
    for source in &drill.pipeline.sources {
        let marker = place(drill, source, systems, note).await?;
        markers.extend(views.iter().find(|v| v.settings.name == source.name).map(|view| (view, marker)));
    }
    let waits = markers
        .iter()
        .map(|(view, m)| observe::quiesce(systems, &view.settings, m, limits::connectors::MARKER_STALLED));
    Ok(future::join_all(waits).await)
}

/// Commits a marker row for a connector; where things stood is noted first.
async fn place(drill: &Drill<'_>, source: &Source, systems: &Systems, note: &str) -> Result<Marker, RunError> {
    let table = source.markers.clone();
    let topic = source.topic(&table);
    let token = format!("{}-{}-{note}-{}", drill.context.run, source.name, jiff::Timestamp::now().as_nanosecond());
    let marker = Marker::prepare(systems, table.clone(), topic, token.clone()).await?;
    workload::place_marker(&drill.pipeline.sql().await?, &table, note, &token).await?;
    Ok(marker)
}

/// Looks and judges.
pub(super) async fn assess(drill: &mut Drill<'_>) -> Result<Assessed, RunError> {
    let systems = Systems::new(&drill.pipeline.config)?;
    let seen = look(drill, &systems).await?;
    let ledger = ledger(drill).await?;
    let point = point(drill)?;
    let expected = expectation(drill, point.as_ref());
    let case = Case { checks: drill.plan.checks.clone(), seen, ledger, expected };
    // Pure computation, which must not keep the other drills' tasks from running.
    let judged = tokio::task::spawn_blocking(|| case.judged()).await;
    let Judged { checks, rpo, seen, point } =
        judged.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let said = |connector: &ConnectorView| match &connector.status {
        Ok(status) => (status.summary(), status.all_running()),
        Err(why) => (why.clone(), false),
    };
    let (said, running): (Vec<String>, Vec<bool>) = seen.connectors.iter().map(said).unzip();
    let status = if said.is_empty() { "no connector".into() } else { said.join("; ") };
    let running = !running.is_empty() && running.iter().all(|running| *running);
    Ok(Assessed { checks, rpo, status, running, point })
}

/// Everything that the checks are given.
struct Case {
    checks: Vec<CheckId>,
    seen: Observation,
    ledger: Option<Ledger>,
    /// Without the ledger.
    expected: Expectation<'static>,
}

/// What the checks say of a case.
struct Judged {
    checks: Vec<CheckReport>,
    rpo: Option<Rpo>,
    seen: Observation,
    /// The registry at the recovery point.
    point: Option<RegistryView>,
}

impl Case {
    fn judged(self) -> Judged {
        let Case { checks, seen, ledger, expected } = self;
        let expected = Expectation { ledger: ledger.as_ref(), ..expected };
        let checks = checks.into_iter().map(|id| timed(id, &seen, &expected)).collect();
        let rpo = ledger.as_ref().map(|_| checks::rpo(&seen, &expected));
        Judged { checks, rpo, point: expected.registry, seen }
    }
}

fn timed(id: CheckId, seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let began = std::time::Instant::now();
    let report = judge(id, seen, expected);
    tracing::debug!(check = id.word(), seconds = began.elapsed().as_secs_f64(), "judged");
    report
}

fn judge(id: CheckId, seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    match id {
        CheckId::RestoredToTarget => checks::restored_to_target(seen, expected),
        CheckId::State => checks::state(seen, expected),
        CheckId::Loss => checks::loss(seen, expected),
        CheckId::Ghosts => checks::ghosts(seen, expected),
        CheckId::Duplicates => checks::duplicates(seen, expected),
        CheckId::Order => checks::order(seen, expected),
        CheckId::Atomicity => checks::atomicity(seen, expected),
        CheckId::SchemaIds => checks::schema_ids(seen, expected),
        CheckId::Compatibility => checks::compatibility(seen, expected),
        CheckId::Positions => checks::positions(seen, expected),
        CheckId::Liveness => checks::liveness(seen, expected),
        CheckId::Leaks => checks::leaks(seen, expected),
    }
}

/// Marker, wait, everything once; then a canary and the registry's probes.
async fn look(drill: &Drill<'_>, systems: &Systems) -> Result<Observation, RunError> {
    let own = drill.pipeline.connectors();
    let (views, _) = observe::connectors(systems, &own).await?;
    let quiet = quieted(drill, systems, &views, "end").await?;
    let options = LookOptions {
        connectors: own,
        token_column: TOKEN_COLUMN.to_owned(),
        groups: groups(drill).into_keys().collect(),
        subject_prefix: drill.pipeline.subject_prefix(),
    };
    let mut seen = observe::pipeline(systems, &options).await?;
    seen.quiet = quiet;
    seen.consumed = consumed(drill, systems, &seen).await?;
    // Where the marker did not arrive a canary will not either: waiting for it again would only cost time.
    let works = |source: &&Source| {
        let quiet = seen.quiet.iter().find(|q| q.table == source.markers);
        quiet.is_some_and(|q| q.reached.is_ok())
    };
    for source in drill.pipeline.sources.iter().filter(works) {
        let Some(view) = views.iter().find(|v| v.settings.name == source.name) else { continue };
        let canary = place(drill, source, systems, "canary").await?;
        let standstill = limits::connectors::CANARY_STALLED;
        seen.canaries.push(observe::arrival(systems, &view.settings, &canary, standstill).await);
    }
    for topic in drill.pipeline.schema_histories() {
        seen.histories.extend(history(drill, &topic).await?.map(|records| (topic.clone(), records)));
    }
    seen.probes = probes(drill, &seen).await;
    seen.leftovers = leftovers(drill).await?;
    Ok(seen)
}

/// What stands in a schema-history topic; none when there is no such topic.
pub(super) async fn history(drill: &Drill<'_>, topic: &str) -> Result<Option<Vec<String>>, RunError> {
    let kafka = drill.pipeline.kafka()?;
    if !kafka.topics().await?.contains_key(topic) {
        return Ok(None);
    }
    let records = kafka.read_all(topic).await?.into_iter();
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
    Ok(Some(records.filter_map(|r| r.value.map(text)).collect()))
}

/// Groups that the drill's steps made, with where each begins that has committed nothing.
fn groups(drill: &Drill<'_>) -> BTreeMap<String, OffsetReset> {
    let named = drill.plan.steps.iter().filter_map(|step| match step {
        Step::ConsumerGroup(group) => Some((steps::group_name(drill, &group.name), steps::offset_reset(group.reset))),
        _ => None,
    });
    named.collect()
}

/// What a consumer of each group is given that is started now, with everything at rest.
async fn consumed(
    drill: &Drill<'_>,
    systems: &Systems,
    seen: &Observation,
) -> Result<BTreeMap<String, BTreeMap<TopicPartition, Consumed>>, RunError> {
    let topics: Vec<String> = seen.specs.keys().cloned().collect();
    let mut consumed = BTreeMap::new();
    for (group, reset) in groups(drill).into_iter().filter(|_| !topics.is_empty()) {
        let given = systems.kafka.consume_as(&group, reset, &topics).await?;
        consumed.insert(group, given);
    }
    Ok(consumed)
}

/// Offers the registry one schema that the level forbids and one that it allows, for the subject whose own level is the
/// strictest.
async fn probes(drill: &Drill<'_>, seen: &Observation) -> Vec<Probe> {
    let Some(Ok(view)) = &seen.registry else { return Vec::new() };
    let registry = drill.pipeline.registry();
    let levels = drill.plan.pipeline.subject_levels(|table| drill.pipeline.topic(table));
    let mut probes = Vec::new();
    for table in probed(drill) {
        let subject = format!("{}-value", drill.pipeline.topic(table));
        let latest = view.subjects.get(&subject).and_then(|s| s.versions.values().next_back());
        let Some(latest) = latest else { continue };
        // BACKWARD forbids a new field without a default; only FULL also forbids to take such a field away.
        let full = levels.get(&subject) == Some(&Level::Full);
        let forbidden = match full {
            true => without_field(&latest.schema, "op"),
            false => with_field(&latest.schema, r#"{"name":"drill_probe","type":"string"}"#),
        };
        let allowed = with_field(&latest.schema, r#"{"name":"drill_probe","type":["null","string"],"default":null}"#);
        for (compatible, schema) in [(false, forbidden), (true, allowed)] {
            let Some(schema) = schema else { continue };
            let accepted =
                registry.compatible(&Subject::new(subject.clone()), &schema).await.map_err(|e| e.to_string());
            probes.push(Probe { subject: subject.clone(), compatible, accepted });
        }
    }
    probes
}

/// The tables whose value subjects are probed: of the shop one under FULL and one under the global level, of any other
/// schema the first, and each that has a level of its own.
fn probed<'d>(drill: &'d Drill<'_>) -> Vec<&'d TableName> {
    let tables = drill.pipeline.tables.iter();
    if matches!(drill.writers, Writers::Shop(_)) {
        return tables.filter(|t| t.name == "orders" || t.name == "customers").collect();
    }
    let levels = drill.plan.pipeline.subject_levels(|table| drill.pipeline.topic(table));
    let own = |table: &TableName| levels.contains_key(&format!("{}-value", drill.pipeline.topic(table)));
    tables.enumerate().filter(|(at, table)| *at == 0 || own(table)).map(|(_, table)| table).collect()
}

/// The schema with one more field in its outermost record.
fn with_field(schema: &str, field: &str) -> Option<String> {
    let mut value: serde_json::Value = serde_json::from_str(schema).ok()?;
    let field: serde_json::Value = serde_json::from_str(field).ok()?;
    value.get_mut("fields")?.as_array_mut()?.push(field);
    Some(value.to_string())
}

/// The schema without one of the fields of its outermost record; none when it has no such field.
fn without_field(schema: &str, name: &str) -> Option<String> {
    let mut value: serde_json::Value = serde_json::from_str(schema).ok()?;
    let fields = value.get_mut("fields")?.as_array_mut()?;
    let before = fields.len();
    fields.retain(|f| f["name"] != name);
    (fields.len() < before).then(|| value.to_string())
}

/// What must not be there any more once the drill's recovery is over.
async fn leftovers(drill: &Drill<'_>) -> Result<Vec<String>, RunError> {
    let mut left = Vec::new();
    let db = drill.pipeline.sql().await?;
    let setting = "select name || ' = ' || setting from pg_settings where name like 'recovery_target%' and setting <> '' \
                   and name not in ('recovery_target_action', 'recovery_target_inclusive', 'recovery_target_timeline')";
    for row in db.texts(setting).await? {
        left.extend(row.into_iter().flatten());
    }
    if db.text("show zero_damaged_pages").await?.as_deref() == Some("on") {
        left.push("zero_damaged_pages = on".into());
    }
    Ok(left)
}

/// The ledger with commit order from the WAL of every timeline that the drill was on, unknown outcomes settled.
async fn ledger(drill: &Drill<'_>) -> Result<Option<Ledger>, RunError> {
    let config = &drill.pipeline.config;
    let db = drill.pipeline.sql().await?;
    let system: u64 = db.value("select system_identifier from pg_control_system()").await?;
    let archive = Repository::open(&config.repository.path)?.archive(system);
    archive.drain()?;
    let mut order = CommitOrder::new();
    let replaced: Vec<Epoch> = drill.recoveries.iter().filter(|r| r.replaced).map(|r| r.epoch).collect();
    for (epoch, timeline) in &drill.timelines {
        let kept = drill.kept_wal.range(*epoch..).map(|(_, folder)| folder.join("pg_wal"));
        let mut folders: Vec<Utf8PathBuf> = kept.collect();
        if !shares_its_timeline(&replaced, &drill.timelines, *epoch) {
            folders.push(archive.folder().join(format!("{timeline:08X}")));
            folders.push(archive.folder().to_owned());
            folders.extend(drill.aside.iter().map(|aside| aside.join("pg_wal")));
        }
        folders.push(config.postgres.pgdata.join("pg_wal"));
        folders.retain(|f| f.is_dir());
        let range = WalRange { folders, timeline: *timeline, from: None, to: None };
        order.insert(*epoch, workload::commit_order(&Tools::of(config), range).await?.commits);
    }
    let Some(mut ledger) = drill.writers.ledger(&db, order).await? else { return Ok(None) };
    // What the drill does not capture is not looked at, so nothing can be claimed about it.
    for entry in &mut ledger.entries {
        entry.changes.retain(|change| drill.pipeline.tables.contains(&change.table));
    }
    Ok(Some(ledger))
}

/// Whether an earlier epoch ran on a timeline of the same number that was another: a command put an older data folder in
/// the place of the server's when one of the epochs `replaced` ended, and what the archive has under that number is the
/// earlier one's.
fn shares_its_timeline(replaced: &[Epoch], timelines: &BTreeMap<Epoch, u32>, epoch: Epoch) -> bool {
    let Some(last) = replaced.iter().filter(|ended| **ended < epoch).max() else { return false };
    timelines.range(..=*last).any(|(_, earlier)| timelines.get(&epoch) == Some(earlier))
}

/// The recovery point that the last recovery was based on; without a recovery, the last one taken. Where the last backup
/// was a command's: what the harness saw then.
fn point(drill: &Drill<'_>) -> Result<Option<PointView>, RunError> {
    let used = drill.recoveries.iter().rev().find_map(|r| r.point.clone());
    if let (None, Some(looked)) = (&used, &drill.looked) {
        return Ok(Some(looked.clone()));
    }
    let taken = drill.points.values().max().cloned();
    let Some(id) = used.or(taken) else { return Ok(None) };
    let repository = Repository::open(&drill.pipeline.config.repository.path)?;
    Ok(Some(PointView::load(&repository.point(&PointSelector::Id(id))?)?))
}

/// What is to be seen, as far as the drill and its recovery point say; the ledger is the caller's to add.
fn expectation(drill: &Drill<'_>, point: Option<&PointView>) -> Expectation<'static> {
    let mut registry = point.and_then(|p| p.registry.clone());
    if let Some(view) = &mut registry {
        let prefix = drill.pipeline.subject_prefix();
        view.subjects.retain(|name, _| name.starts_with(&prefix));
    }
    let topics: BTreeSet<String> = drill.pipeline.topics().into_iter().collect();
    let specs = point.map(|p| p.specs.clone()).unwrap_or_default();
    let mut written: BTreeMap<SchemaId, String> = BTreeMap::new();
    for view in registry.iter().chain(&drill.registry_before_faults) {
        for version in view.subjects.values().flat_map(|s| s.versions.values()) {
            written.entry(version.id).or_insert_with(|| version.schema.clone());
        }
    }
    let mut specs: BTreeMap<String, TopicSpec> = specs.into_iter().filter(|(name, _)| topics.contains(name)).collect();
    // What the scenario asks for counts, also where the recovery point was taken of something else.
    for spec in specs.values_mut() {
        spec.settings.extend(drill.plan.pipeline.topic_settings.clone());
    }
    Expectation {
        cuts: cuts(drill),
        captured: last_captured(drill),
        token_column: TOKEN_COLUMN.to_owned(),
        epoch_offsets: epoch_offsets(drill),
        newer_versions: newer_versions(drill, registry.as_ref()),
        registry,
        written,
        specs,
        groups: group_offsets(drill),
        cleared_histories: drill.histories.clone(),
        configs: drill.pipeline.sources.iter().map(|s| (s.name.clone(), s.config.clone())).collect(),
        ..Expectation::default()
    }
}

/// Of the last recovery to a mark: the tables as captured at the mark, and as it left them.
fn last_captured(drill: &Drill<'_>) -> Option<Captured> {
    let last = drill.recoveries.iter().rev().find_map(|r| match &r.end {
        EpochEnd::Mark(mark) => Some((mark, r)),
        EpochEnd::Kept => None,
    });
    let (mark, passed) = last?;
    Some(Captured { at_target: mark.tables.clone()?, restored: passed.restored.clone()? })
}

/// What each recovery's target gave up: of the epoch that its mark was set in, everything behind the mark; of the epochs
/// between, everything. A later recovery decides anew about the epochs that it reaches back over.
fn cuts(drill: &Drill<'_>) -> Vec<Cut> {
    let mut kept: BTreeMap<Epoch, Option<Lsn>> = BTreeMap::new();
    for passed in &drill.recoveries {
        match &passed.end {
            EpochEnd::Kept => {
                kept.entry(passed.epoch).or_insert(None);
            }
            EpochEnd::Mark(mark) => {
                kept.insert(mark.epoch, Some(mark.lsn));
                for epoch in mark.epoch.0 + 1..=passed.epoch.0 {
                    kept.insert(Epoch(epoch), Some(Lsn(0)));
                }
            }
        }
    }
    kept.into_iter().map(|(epoch, lsn)| Cut { epoch, lsn, inclusive: false }).collect()
}

fn epoch_offsets(drill: &Drill<'_>) -> BTreeMap<TopicPartition, Offset> {
    // A command says nothing of where its events begin; what an earlier recovery said is over with it.
    let since = drill.recoveries.iter().rev().take_while(|r| !r.by_command);
    let last = since.filter_map(|r| r.recovered.as_ref()).next();
    last.map(|r| r.epoch_cut.iter().cloned().collect()).unwrap_or_default()
}

/// A purge begins every partition anew: a group that had offsets must begin there too, or it would skip the snapshot.
fn group_offsets(drill: &Drill<'_>) -> BTreeMap<String, BTreeMap<TopicPartition, Offset>> {
    let partitions = drill.plan.pipeline.partitions as i32;
    let every = drill.pipeline.topics().into_iter().flat_map(|topic| {
        (0..partitions).map(move |partition| (TopicPartition { topic: topic.clone(), partition }, Offset(0)))
    });
    let every: BTreeMap<TopicPartition, Offset> = every.collect();
    groups(drill).into_keys().map(|group| (group, every.clone())).collect()
}

/// Versions that may be there although the point does not have them: those that the registry had before it was broken,
/// and, where an incompatible change was accepted, exactly one more of that subject.
fn newer_versions(drill: &Drill<'_>, point: Option<&RegistryView>) -> NewerVersions {
    let mut these = BTreeSet::new();
    for view in &drill.registry_before_faults {
        for (name, subject) in &view.subjects {
            let known = point.and_then(|p| p.subjects.get(name));
            let new = subject.versions.keys().filter(|v| known.is_none_or(|k| !k.versions.contains_key(v)));
            these.extend(new.map(|v| (name.clone(), *v)));
        }
    }
    let accepts = drill.plan.steps.iter().any(|step| {
        matches!(step, Step::Recover(Recover::Schema(r)) if r.on_conflict == crate::scenario::AcceptOrReject::Accept)
    });
    if accepts {
        for step in &drill.plan.steps {
            let Step::Fault(Fault::AlterColumn(fault)) = step else { continue };
            let subject = format!("{}-value", drill.pipeline.topic(&fault.table.0));
            let last =
                point.and_then(|p| p.subjects.get(&subject)).and_then(|s| s.versions.keys().next_back().copied());
            these.insert((subject, last.unwrap_or(0) + 1));
        }
    }
    if these.is_empty() { NewerVersions::None } else { NewerVersions::These(these) }
}

/// Asks an independent way about a control's findings until one is confirmed. The answer is the first that confirms, else
/// the last that does not; none where there is nothing to ask about.
pub(super) async fn confirmed(
    drill: &Drill<'_>,
    plan: &ControlPlan,
    findings: &[&Finding],
    assessed: &Assessed,
) -> Option<Result<String, String>> {
    let mut schemas = BTreeMap::new();
    let mut levels = BTreeMap::new();
    if let Some(view) = &assessed.point {
        levels.insert(Subject::new(""), view.global_level.clone());
        for (name, subject) in &view.subjects {
            levels.insert(Subject::new(name.clone()), subject.level.clone());
            schemas.extend(subject.versions.values().map(|v| (v.id, v.schema.clone())));
        }
    }
    let topics = drill.pipeline.topics();
    let connectors = drill.pipeline.connectors();
    let configs = drill.pipeline.sources.iter().map(|s| (s.name.clone(), s.config.clone())).collect();
    let inquiry = Inquiry {
        config: &drill.pipeline.config,
        connectors: &connectors,
        configs: &configs,
        topics: &topics,
        tables: &drill.pipeline.tables,
        schemas: &schemas,
        levels: &levels,
        histories: &drill.histories,
        values: OnceCell::new(),
    };
    // Rows of one transaction share its token, and a later event shows the token of the row it changed: where one finding
    // of a transaction cannot be confirmed, the others of it cannot either.
    let mut asked = BTreeSet::new();
    let mut answer = None;
    for finding in findings.iter().filter(|f| f.token.is_none() || asked.insert(f.token.clone())) {
        answer = Some(confirm::confirm(&inquiry, &plan.check, finding).await);
        if matches!(answer, Some(Ok(_))) {
            break;
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_of_the_same_number_is_another_only_behind_an_older_data_folder() {
        let timelines = BTreeMap::from([(Epoch(0), 1), (Epoch(1), 1), (Epoch(2), 2)]);
        let shares = |replaced: &[Epoch], epoch| shares_its_timeline(replaced, &timelines, Epoch(epoch));
        assert!(!shares(&[], 1), "a slot was replaced, the WAL goes on");
        assert!(shares(&[Epoch(0)], 1), "a base backup went on as if nothing had been");
        assert!(!shares(&[Epoch(0)], 0), "the archive has the first");
        assert!(!shares(&[Epoch(1)], 2), "a restored server chose a number of its own");
    }
}
