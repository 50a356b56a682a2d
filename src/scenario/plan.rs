//! A checked scenario becomes drills, each with everything resolved: the run engine asks the file nothing any more.

use std::{collections::BTreeMap, time::Duration};

use camino::Utf8PathBuf;

use super::{
    model::{
        CheckId, Compatibility, Control, DowntimeObjective, Naive, Pgbench, PipelinePart, Recover, Red,
        RegistryStorageKind, Scenario, Sql, StackPart, Step, Variant, WorkloadPart,
    },
    template::Template,
    validate::{Fixture, Fixtures},
    words::{HumanDuration, Level, TableRef},
};
use crate::{
    debezium::Lists,
    event::{ControlPlan, FindingKind},
    units::{DrillId, TableName},
};

/// All drills of some scenarios.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which they are reported: each variant, then its controls.
    pub drills: Vec<DrillPlan>,
}

/// One drill, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct DrillPlan {
    /// `<scenario>/<variant>`, with `+<control>` for a control.
    pub id: DrillId,
    /// The scenario's id.
    pub scenario: String,
    /// The variant's id.
    pub variant: String,
    /// What it is about, in a sentence.
    pub title: String,
    /// The folder of the scenario's file, for commands that stand beside it; empty where the scenario is no file's.
    pub folder: Utf8PathBuf,
    /// Present when this drill is a control.
    pub control: Option<ControlRun>,
    /// The seed of every random choice. A control has its variant's seed: it differs in the recovery alone.
    pub seed: u64,
    /// The servers.
    pub stack: StackPlan,
    /// What runs on them.
    pub pipeline: PipelinePlan,
    /// What writes.
    pub workload: WorkloadPlan,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// What must hold, in the order of the file.
    pub checks: Vec<CheckId>,
    /// What the recovery must keep to.
    pub objectives: ObjectivesPlan,
}

/// The servers, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackPlan {
    /// Where the registry keeps its schemas.
    pub registry: RegistryStorageKind,
    /// The size of a WAL segment.
    pub wal_segment_mib: u32,
    /// How much WAL a slot may hold back; none: without limit.
    pub max_slot_wal_keep_mib: Option<u32>,
    /// Further server settings.
    pub postgres_settings: BTreeMap<String, String>,
    /// Folders of the scenario's own plugins, found; a drill with some has a Connect worker of its own.
    pub plugins: Vec<Utf8PathBuf>,
}

/// What runs on the servers, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelinePlan {
    /// The SQL that makes the tables; with pgbench, what runs after its own initialization, if anything.
    pub schema: Option<Fixture>,
    /// The source connectors; at least one.
    pub connectors: Vec<ConnectorPlan>,
    /// The captured tables of all of them, where the scenario or the connectors name them one by one.
    pub tables: Vec<TableName>,
    /// Partitions of each data topic.
    pub partitions: u32,
    /// Settings that each data topic must have.
    pub topic_settings: BTreeMap<String, String>,
    /// The registry's global level.
    pub level: Level,
    /// Levels of single subjects, with the scenario's prefix: see [`PipelinePlan::subject_levels`].
    pub levels: BTreeMap<String, Level>,
    /// Subjects of other people, registered first.
    pub foreign_subjects: u32,
}

/// One source connector, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorPlan {
    /// Its name within the drill; none where it is the only one, which has the drill's.
    pub name: Option<String>,
    /// Its file as it is, for messages.
    pub file: Utf8PathBuf,
    /// Its configuration, the scenario's settings laid over the file's.
    pub settings: BTreeMap<String, String>,
    /// The tables that it captures, as far as they are named one by one.
    pub tables: Vec<TableName>,
}

impl PipelinePlan {
    /// The levels of single subjects, with the table's `topic` in the place of whatever the scenario wrote there.
    pub fn subject_levels(&self, topic: impl Fn(&TableName) -> String) -> BTreeMap<String, Level> {
        let renamed = |subject: &String| match subject_of(subject, &self.tables) {
            Some((table, side)) => format!("{}-{side}", topic(table)),
            None => subject.clone(),
        };
        self.levels.iter().map(|(subject, level)| (renamed(subject), *level)).collect()
    }
}

/// The table whose subject it is, and the side: `public.orders` and `value`.
pub(super) fn subject_of<'t>(subject: &str, tables: &'t [TableName]) -> Option<(&'t TableName, &'static str)> {
    let own = tables.iter().flat_map(|t| [(t, "key"), (t, "value")]);
    let is_of = |table: &TableName, side: &str| {
        let prefix = subject.strip_suffix(&format!("{table}-{side}"));
        prefix.is_some_and(|p| p.len() > 1 && p.ends_with('.'))
    };
    own.into_iter().find(|(table, side)| is_of(table, side))
}

/// What writes, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadPlan {
    /// The seeded workload.
    Shop {
        /// Rows before the first recovery point.
        rows: u64,
        /// Connections that write at the same time.
        writers: u32,
    },
    /// pgbench.
    Pgbench {
        /// Its scale.
        scale: u32,
        /// Connections that write at the same time.
        clients: u32,
    },
    /// The scenario's own transactions.
    Sql {
        /// The SQL that runs once, before the connector.
        seed: Option<Fixture>,
        /// The transactions to draw from; at least one.
        transactions: Vec<TransactionPlan>,
        /// Connections that write at the same time.
        writers: u32,
    },
    /// A command of the scenario's own.
    Command {
        /// The SQL that runs once, before the connector.
        seed: Option<Fixture>,
        /// For `sh -c`.
        command: String,
        /// How long one load may take.
        timeout: Duration,
        /// Connections that the command is asked to write by.
        writers: u32,
    },
}

impl WorkloadPlan {
    /// Whether its transactions are known by rows in tables of the drill's own, and nothing else of them is.
    pub fn is_bracketed(&self) -> bool {
        matches!(self, WorkloadPlan::Sql { .. } | WorkloadPlan::Command { .. })
    }
}

/// One kind of transaction of a scenario's own, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionPlan {
    /// Its name.
    pub name: String,
    /// How often it is drawn, against the weights of the others; at least 1.
    pub weight: u32,
    /// Its statements, in order.
    pub statements: Vec<Template>,
}

/// What the recovery must keep to, resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectivesPlan {
    /// The longest a recovery may take; none: no objective.
    pub rto: Option<Duration>,
    /// The longest that a recovery may take on the reference machine; none: nothing was measured.
    pub reference_rto: Option<Duration>,
    /// The longest that what clients use may be down; none: no objective.
    pub downtime: Option<DowntimeObjective>,
    /// The same on the reference machine; none: nothing was measured.
    pub reference_downtime: Option<DowntimeObjective>,
    /// Acknowledged transactions before the target that may be missing; none: no objective.
    pub rpo_transactions: Option<u64>,
}

/// A control, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRun {
    /// Unique within the variant.
    pub id: String,
    /// What is left out, where something is.
    pub without: Option<Absence>,
    /// What is done instead, where something is.
    pub naive: Option<Naive>,
    /// What must be seen.
    pub expect: Expect,
    /// Whether connector and task must say RUNNING while the check is red.
    pub silent: bool,
}

impl ControlRun {
    /// What is left out or done instead, in the language's words: `recovery`, `delete-offsets`, `slot-by-hand`.
    pub fn word(&self) -> String {
        match (&self.without, &self.naive) {
            (Some(Absence::Recovery), _) => "recovery".into(),
            (Some(Absence::Step(step)), _) => step.clone(),
            (None, Some(naive)) => naive.word().into(),
            (None, None) => String::new(),
        }
    }
}

impl ControlRun {
    /// The control as reports tell it.
    pub fn told(&self) -> ControlPlan {
        let (check, kind) = match self.expect {
            Expect::Red(red) => (red.check.word(), red.kind),
            Expect::Refusal(_) => ("recovery", FindingKind::RecoveryRefused),
        };
        ControlPlan { id: self.id.clone(), without: self.word(), check: check.to_owned(), kind, silent: self.silent }
    }
}

/// What a control leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The whole recovery.
    Recovery,
    /// One step of the playbook, by name, in each recovery of the drill.
    Step(String),
}

/// What a control must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A finding of this kind by this check.
    Red(Red),
    /// The recovery refuses to go on, with this exit code.
    Refusal(u8),
}

impl DrillPlan {
    /// Whether its faults damage the registry, so that it needs one of its own.
    pub fn damages_registry(&self) -> bool {
        let by_fault = self.steps.iter().any(|s| matches!(s, Step::Fault(f) if f.damages_registry()));
        let by_hand = matches!(
            self.control.as_ref().and_then(|c| c.naive.as_ref()),
            Some(Naive::LowerLevelGlobally | Naive::ReRegister)
        );
        by_fault || by_hand || self.steps.iter().any(|s| matches!(s, Step::DeleteSchemaVersion(_)))
    }

    /// The commands of the scenario's own that it runs, each with the longest that it may take.
    pub fn commands(&self) -> Vec<(&str, Duration)> {
        let naive = self.control.as_ref().and_then(|c| match &c.naive {
            Some(Naive::Exec(naive)) => Some((naive.command.as_str(), naive.timeout)),
            _ => None,
        });
        let mut commands = Vec::new();
        for step in &self.steps {
            let own = match step {
                Step::Backup(backup) => backup.exec.as_ref().map(|e| (e.command.as_str(), e.timeout)),
                Step::Recover(_) if naive.is_some() => naive,
                Step::Recover(Recover::Exec(runbook)) => Some((runbook.command.as_str(), runbook.timeout)),
                _ => None,
            };
            commands.extend(own.map(|(command, timeout)| (command, timeout_of(timeout))));
        }
        commands
    }

    /// How much longer than a drill usually may it take: what the scenario grants its commands.
    pub fn granted(&self) -> Duration {
        let loads = match &self.workload {
            WorkloadPlan::Command { timeout, .. } => {
                let loads = self.steps.iter().filter(|s| matches!(s, Step::Load(_) | Step::Backup(_)));
                *timeout * loads.count() as u32
            }
            _ => Duration::ZERO,
        };
        loads + self.commands().iter().map(|(_, timeout)| *timeout).sum::<Duration>()
    }

    /// Whether this drill is the variant itself and not a control.
    pub fn is_main(&self) -> bool {
        self.control.is_none()
    }
}

/// Resolves a checked scenario. Missing fixtures are the validator's to report; here such a drill is left out.
pub fn plan(scenario: &Scenario, seed: Option<u64>, fixtures: &Fixtures<'_>) -> Plan {
    let drills =
        scenario.variants.iter().flat_map(|(id, variant)| variant_drills(scenario, id, variant, seed, fixtures));
    Plan { drills: drills.collect() }
}

fn variant_drills(
    scenario: &Scenario,
    id: &str,
    variant: &Variant,
    seed: Option<u64>,
    fixtures: &Fixtures<'_>,
) -> Vec<DrillPlan> {
    let workload = workload_of(&scenario.workload, &variant.workload);
    let Some(pipeline) = pipeline_plan(scenario, variant, &workload, fixtures) else { return Vec::new() };
    let Some(workload_plan) = workload_plan(&workload, fixtures) else { return Vec::new() };
    let main = DrillPlan {
        id: DrillId(format!("{}/{id}", scenario.id)),
        scenario: scenario.id.clone(),
        variant: id.to_owned(),
        title: variant.title.clone().unwrap_or_else(|| scenario.title.clone()),
        folder: Utf8PathBuf::new(),
        control: None,
        seed: seed.or(workload.seed).unwrap_or(SEED_DEFAULT),
        stack: stack_plan(&stack_of(&scenario.stack, &variant.stack)),
        pipeline,
        workload: workload_plan,
        steps: variant.steps.clone(),
        checks: variant.checks.clone(),
        objectives: ObjectivesPlan {
            rto: variant.objectives.rto.map(|d| d.0),
            reference_rto: variant.objectives.reference_rto.map(|d| d.0),
            downtime: variant.objectives.downtime,
            reference_downtime: variant.objectives.reference_downtime,
            rpo_transactions: variant.objectives.rpo.as_ref().map(|r| r.transactions),
        },
    };
    let controls: Vec<DrillPlan> = variant.controls.iter().filter_map(|c| control_drill(&main, c)).collect();
    std::iter::once(main).chain(controls).collect()
}

/// How long a command of the scenario's own may take.
pub fn timeout_of(asked: Option<HumanDuration>) -> Duration {
    asked.map_or(COMMAND_TIMEOUT_DEFAULT, |d| d.0)
}

/// A base backup, its WAL and a snapshot of some thousand rows take ten seconds; a runbook that waits for a person hangs.
const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);
/// The seed of a scenario that names none: some number, always the same.
const SEED_DEFAULT: u64 = 1;
/// Enough for records of one key to meet records of others, few enough that empty ones are read in no time.
const PARTITIONS_DEFAULT: u32 = 3;
/// PostgreSQL's own.
const WAL_SEGMENT_MIB_DEFAULT: u32 = 16;
/// Enough for transactions to interleave on a machine with two cores.
const WRITERS_DEFAULT: u32 = 4;
/// What a drill begins with when the file names no size: seconds to snapshot.
const ROWS_DEFAULT: u64 = 1000;

fn control_drill(main: &DrillPlan, control: &Control) -> Option<DrillPlan> {
    let expect = match (control.red, control.refuses) {
        (Some(red), _) => Expect::Red(red),
        (None, Some(code)) => Expect::Refusal(code),
        (None, None) => return None,
    };
    let run = ControlRun {
        id: control_id(control),
        without: control.without.as_deref().map(|w| match w {
            "recovery" => Absence::Recovery,
            step => Absence::Step(step.to_owned()),
        }),
        naive: control.naive.clone(),
        expect,
        silent: control.silent,
    };
    Some(DrillPlan { id: DrillId(format!("{}+{}", main.id, run.id)), control: Some(run), ..main.clone() })
}

/// A control's id: its own, or made of what it leaves out or does instead.
pub(super) fn control_id(control: &Control) -> String {
    match (&control.id, &control.without, &control.naive) {
        (Some(id), _, _) => id.clone(),
        (None, Some(without), _) => format!("without-{without}"),
        (None, None, Some(naive)) => format!("naive-{}", naive.word()),
        (None, None, None) => String::new(),
    }
}

/// The scenario's stack with the variant's laid over it.
pub(super) fn stack_of(base: &StackPart, over: &StackPart) -> StackPart {
    let mut all = base.clone();
    all.registry.storage = over.registry.storage.or(all.registry.storage);
    all.postgres.wal_segment_mib = over.postgres.wal_segment_mib.or(all.postgres.wal_segment_mib);
    all.postgres.max_slot_wal_keep_mib = over.postgres.max_slot_wal_keep_mib.or(all.postgres.max_slot_wal_keep_mib);
    all.postgres.settings.extend(over.postgres.settings.clone());
    if !over.connect.plugins.is_empty() {
        all.connect.plugins.clone_from(&over.connect.plugins);
    }
    all
}

fn stack_plan(part: &StackPart) -> StackPlan {
    StackPlan {
        registry: part.registry.storage.unwrap_or(RegistryStorageKind::H2),
        wal_segment_mib: part.postgres.wal_segment_mib.unwrap_or(WAL_SEGMENT_MIB_DEFAULT),
        max_slot_wal_keep_mib: part.postgres.max_slot_wal_keep_mib,
        postgres_settings: part.postgres.settings.clone(),
        plugins: part.connect.plugins.clone(),
    }
}

/// The scenario's pipeline with the variant's laid over it.
pub(super) fn pipeline_of(base: &PipelinePart, over: &PipelinePart) -> PipelinePart {
    let mut settings = base.connector_settings.clone();
    settings.extend(over.connector_settings.clone());
    let mut topic_settings = base.topic_settings.clone();
    topic_settings.extend(over.topic_settings.clone());
    // One connector or several: naming one kind drops the other, with its tables.
    let (one, several) = (over.connector.is_some(), !over.connectors.is_empty());
    PipelinePart {
        topic_settings,
        schema: over.schema.clone().or_else(|| base.schema.clone()),
        connector: over.connector.clone().or_else(|| base.connector.clone().filter(|_| !several)),
        connectors: if one || several { over.connectors.clone() } else { base.connectors.clone() },
        connector_settings: settings,
        tables: over.tables.clone().or_else(|| base.tables.clone().filter(|_| !several)),
        partitions: over.partitions.or(base.partitions),
        compatibility: over.compatibility.clone().or_else(|| base.compatibility.clone()),
        foreign_subjects: over.foreign_subjects.or(base.foreign_subjects),
    }
}

/// The schema's file. A variant that brings pgbench does not inherit the tables of the scenario's own workload.
pub(super) fn schema_of(scenario: &Scenario, variant: &Variant) -> Option<Utf8PathBuf> {
    let own = variant.pipeline.schema.clone();
    match variant.workload.pgbench {
        Some(_) => own,
        None => own.or_else(|| scenario.pipeline.schema.clone()),
    }
}

/// The scenario's workload with the variant's laid over it: naming one kind drops the others. `writers` alone names the shop
/// where the scenario has pgbench, and is just a number where it has SQL.
pub(super) fn workload_of(base: &WorkloadPart, over: &WorkloadPart) -> WorkloadPart {
    let own = over.sql.is_some() || over.command.is_some();
    let no_pgbench = over.rows.is_some() || over.writers.is_some() || own;
    let pgbench = over.pgbench.clone().or_else(|| base.pgbench.clone().filter(|_| !no_pgbench));
    let inherits = over.rows.is_none() && over.pgbench.is_none() && !own;
    let sql = over.sql.clone().or_else(|| base.sql.clone().filter(|_| inherits));
    let command = over.command.clone().or_else(|| base.command.clone().filter(|_| inherits));
    let bare = pgbench.is_none() && sql.is_none() && command.is_none();
    WorkloadPart {
        seed: over.seed.or(base.seed),
        rows: over.rows.or(base.rows).filter(|_| bare),
        writers: over.writers.or(base.writers).filter(|_| pgbench.is_none()),
        pgbench,
        sql,
        command,
    }
}

/// None when a file that the workload names is nowhere, or a statement cannot be read.
fn workload_plan(part: &WorkloadPart, fixtures: &Fixtures<'_>) -> Option<WorkloadPlan> {
    let writers = part.writers.unwrap_or(WRITERS_DEFAULT);
    Some(match (&part.pgbench, &part.sql, &part.command) {
        (Some(Pgbench { scale, clients }), ..) => WorkloadPlan::Pgbench { scale: *scale, clients: *clients },
        (None, Some(sql), _) => sql_plan(sql, writers, fixtures)?,
        (None, None, Some(command)) => WorkloadPlan::Command {
            seed: match &command.seed_file {
                Some(path) => Some(fixtures(path)?),
                None => None,
            },
            command: command.command.clone(),
            timeout: timeout_of(command.timeout),
            writers,
        },
        (None, None, None) => WorkloadPlan::Shop { rows: part.rows.unwrap_or(ROWS_DEFAULT), writers },
    })
}

fn sql_plan(sql: &Sql, writers: u32, fixtures: &Fixtures<'_>) -> Option<WorkloadPlan> {
    let seed = match &sql.seed_file {
        Some(path) => Some(fixtures(path)?),
        None => None,
    };
    let transactions = sql.transactions.iter().map(|t| {
        let statements = t.statements.iter().map(|s| Template::parse(s).ok()).collect::<Option<Vec<_>>>()?;
        Some(TransactionPlan { name: t.name.clone(), weight: t.weight, statements })
    });
    Some(WorkloadPlan::Sql { seed, transactions: transactions.collect::<Option<Vec<_>>>()?, writers })
}

fn pipeline_plan(
    scenario: &Scenario,
    variant: &Variant,
    workload: &WorkloadPart,
    fixtures: &Fixtures<'_>,
) -> Option<PipelinePlan> {
    let part = pipeline_of(&scenario.pipeline, &variant.pipeline);
    let schema = match schema_of(scenario, variant) {
        None if workload.pgbench.is_some() => None,
        path => Some(fixtures(&path?)?),
    };
    let connectors = connectors_of(&part).into_iter().map(|own| connector_plan(&part, own, fixtures));
    let connectors = connectors.collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())?;
    let tables = connectors.iter().flat_map(|c| c.tables.clone()).collect();
    let Compatibility { global, subjects } =
        part.compatibility.unwrap_or(Compatibility { global: Level::Backward, subjects: BTreeMap::new() });
    Some(PipelinePlan {
        schema,
        connectors,
        tables,
        partitions: part.partitions.unwrap_or(PARTITIONS_DEFAULT),
        topic_settings: part.topic_settings,
        level: global,
        levels: subjects,
        foreign_subjects: part.foreign_subjects.unwrap_or(0),
    })
}

/// A connector as the scenario describes it, be it the only one or one of several.
pub(super) struct Described {
    name: Option<String>,
    pub(super) file: Utf8PathBuf,
    pub(super) tables: Option<Vec<TableRef>>,
    settings: BTreeMap<String, String>,
}

/// The connectors of a pipeline.
pub(super) fn connectors_of(part: &PipelinePart) -> Vec<Described> {
    let one = part.connector.iter().map(|file| Described {
        name: None,
        file: file.clone(),
        tables: part.tables.clone(),
        settings: BTreeMap::new(),
    });
    let several = part.connectors.iter().map(|c| Described {
        name: Some(c.name.clone()),
        file: c.file.clone(),
        tables: c.tables.clone(),
        settings: c.settings.clone(),
    });
    one.chain(several).collect()
}

impl Described {
    /// Its settings: the file's, and what the scenario lays over them.
    pub(super) fn resolved(&self, part: &PipelinePart, file: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let of_topics =
            part.topic_settings.iter().map(|(name, v)| (format!("topic.creation.default.{name}"), v.clone()));
        file.into_iter().chain(part.connector_settings.clone()).chain(self.settings.clone()).chain(of_topics).collect()
    }
}

fn connector_plan(part: &PipelinePart, own: Described, fixtures: &Fixtures<'_>) -> Option<ConnectorPlan> {
    let file = fixtures(&own.file)?;
    let mut settings = own.resolved(part, connector_config(&file.text).ok()?);
    let tables = captured(own.tables.as_deref(), &settings);
    if own.tables.is_some() {
        let list: Vec<String> = tables.iter().map(TableName::to_string).collect();
        settings.insert("table.include.list".into(), list.join(","));
    }
    Some(ConnectorPlan { name: own.name, file: file.path, settings, tables })
}

/// A connector's file as settings: the configuration itself, or `{"name": ..., "config": {...}}`.
pub(super) fn connector_config(text: &str) -> Result<BTreeMap<String, String>, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
    let object = match value.get("config") {
        Some(inner) if inner.is_object() => inner,
        _ => &value,
    };
    let object = object.as_object().ok_or("expected an object of settings")?;
    let setting = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::String(text) => Ok((name.clone(), text.clone())),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => Ok((name.clone(), value.to_string())),
        _ => Err(format!("setting `{name}`: expected text, a number, true or false")),
    };
    object.iter().map(setting).collect()
}

/// The captured tables as far as they are named one by one; a pattern names none.
pub(super) fn captured(tables: Option<&[TableRef]>, connector: &BTreeMap<String, String>) -> Vec<TableName> {
    if let Some(tables) = tables {
        return tables.iter().map(|TableRef(t)| t.clone()).collect();
    }
    Lists::of(connector).named()
}
