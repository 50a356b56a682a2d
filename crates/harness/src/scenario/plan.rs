//! Drills with everything resolved: the run engine asks the file nothing any more. [`resolve`](super::resolve()) makes them.

use std::{collections::BTreeMap, time::Duration};

use camino::Utf8PathBuf;

use super::{
    model::{BackupCommand, DowntimeObjective, NaiveCommand, Recover, Red, Step},
    template::Template,
    words::{HumanDuration, Level},
};
use cdc_model::{
    event::{ControlPlan, FindingKind},
    units::{DrillId, TableName},
    vocabulary::{BackupPart, CheckId, Instead, RegistryStorageKind},
};

/// A file that a scenario names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixture {
    /// As the scenario names it.
    pub path: Utf8PathBuf,
    /// Its text.
    pub text: String,
}

/// All drills of some scenarios.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which they are reported: each variant, then its controls.
    pub drills: Vec<DrillPlan>,
}

impl Plan {
    /// The same drills; `seed` wins over each scenario's own.
    #[must_use]
    pub fn seeded(mut self, seed: Option<u64>) -> Plan {
        for drill in &mut self.drills {
            drill.seed = seed.unwrap_or(drill.seed);
        }
        self
    }
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
    pub steps: Vec<StepPlan>,
    /// What must hold, in the order of the file.
    pub checks: Vec<CheckId>,
    /// What the recovery must keep to.
    pub objectives: ObjectivesPlan,
}

/// A step, resolved.
pub type StepPlan = Step<BackupPlan>;

/// A backup, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPlan {
    /// This program takes it.
    Engine {
        /// The name by which later steps refer to it.
        name: String,
        /// Only this part; none: all of it.
        only: Option<BackupPart>,
    },
    /// A command of the scenario takes it.
    Command(BackupCommand),
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
    /// Those of them that neither the file nor the scenario has: topics are not made without.
    pub filled_in: BTreeMap<String, String>,
    /// The tables that it captures, as far as they are named one by one.
    pub tables: Vec<TableName>,
}

impl ConnectorPlan {
    /// What a person should know of the plan: each setting that was filled in.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.filled_in
            .iter()
            .map(|(name, value)| format!("connector {} does not set {name}: it is set to {value}", self.file))
    }
}

impl PipelinePlan {
    /// The levels of single subjects, with the table's `topic` in the place of whatever the scenario wrote there.
    pub(crate) fn subject_levels(&self, topic: impl Fn(&TableName) -> String) -> BTreeMap<String, Level> {
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
    pub(crate) fn is_bracketed(&self) -> bool {
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
    /// The time of acknowledged changes before the target that may be missing; none: no objective.
    pub rpo: Option<Duration>,
}

impl ObjectivesPlan {
    /// Keeps to these as well: the stricter of two counts.
    pub fn tighten(&mut self, rto: Option<Duration>, rpo: Option<Duration>) {
        let stricter = |own: Option<Duration>, other: Option<Duration>| own.into_iter().chain(other).min();
        self.rto = stricter(self.rto, rto);
        self.rpo = stricter(self.rpo, rpo);
    }
}

/// A control, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRun {
    /// Unique within the variant.
    pub id: String,
    /// What differs from the variant.
    pub change: Change,
    /// What must be seen.
    pub expect: Expect,
    /// Whether connector and task must say RUNNING while the check is red.
    pub silent: bool,
}

impl ControlRun {
    /// The control as reports show it.
    pub fn told(&self) -> ControlPlan {
        let (check, kind) = match self.expect {
            Expect::Red(red) => (red.check.word(), red.kind),
            Expect::Refusal(_) => ("recovery", FindingKind::RecoveryRefused),
        };
        let without = self.change.word().to_owned();
        let instead = self.change.instead().map(|instead| instead.word().to_owned());
        ControlPlan { id: self.id.clone(), without, instead, check: check.to_owned(), kind, silent: self.silent }
    }
}

/// How a control differs from its variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something is left out.
    Without(Absence),
    /// Something is done instead of the recovery.
    Instead(Instead<NaiveCommand>),
    /// Something is left out, and something else done in its place.
    Both(Absence, Instead<NaiveCommand>),
}

impl Change {
    /// What is left out, where something is.
    pub fn without(&self) -> Option<&Absence> {
        match self {
            Change::Without(absence) | Change::Both(absence, _) => Some(absence),
            Change::Instead(_) => None,
        }
    }

    /// What is done instead, where something is.
    pub fn instead(&self) -> Option<&Instead<NaiveCommand>> {
        match self {
            Change::Instead(instead) | Change::Both(_, instead) => Some(instead),
            Change::Without(_) => None,
        }
    }

    /// What is left out or done instead, in the language's words: `recovery`, `delete-offsets`, `slot-by-hand`.
    pub fn word(&self) -> &str {
        match self {
            Change::Without(absence) | Change::Both(absence, _) => absence.word(),
            Change::Instead(instead) => instead.word(),
        }
    }

    /// The id of a control that has none of its own: `without-recovery`, `naive-slot-by-hand`.
    pub fn id(&self) -> String {
        match self {
            Change::Without(_) | Change::Both(..) => format!("without-{}", self.word()),
            Change::Instead(_) => format!("naive-{}", self.word()),
        }
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

impl Absence {
    /// The language's word: `recovery`, or the step's name.
    pub fn word(&self) -> &str {
        match self {
            Absence::Recovery => "recovery",
            Absence::Step(step) => step,
        }
    }
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
    pub(crate) fn damages_registry(&self) -> bool {
        let by_fault = self.steps.iter().any(|s| matches!(s, Step::Fault(f) if f.damages_registry()));
        let by_hand = matches!(self.instead(), Some(Instead::LowerLevelGlobally | Instead::ReRegister));
        by_fault || by_hand || self.steps.iter().any(|s| matches!(s, Step::DeleteSchemaVersion(_)))
    }

    /// What the control does instead of the recovery, where this is one that does something.
    pub fn instead(&self) -> Option<&Instead<NaiveCommand>> {
        self.control.as_ref().and_then(|control| control.change.instead())
    }

    /// What the control leaves out, where this is one that leaves something out.
    pub fn without(&self) -> Option<&Absence> {
        self.control.as_ref().and_then(|control| control.change.without())
    }

    /// The command that does this recovery, where one does, with the time that the scenario gives it: the one that a control runs
    /// in the recovery's place, else the scenario's runbook.
    pub(crate) fn recovery_command<'p>(&'p self, wanted: &'p Recover) -> Option<(&'p str, Option<HumanDuration>)> {
        match (self.instead(), wanted) {
            (Some(Instead::Exec(naive)), _) => Some((&naive.command, naive.timeout)),
            (None, Recover::Exec(runbook)) => Some((&runbook.command, runbook.timeout)),
            _ => None,
        }
    }

    /// The commands of the scenario's own that it runs, each with the longest that it may take.
    pub fn commands(&self) -> Vec<(&str, Duration)> {
        let command = |step| match step {
            &Step::Backup(BackupPlan::Command(ref backup)) => Some((backup.command.as_str(), backup.timeout)),
            Step::Recover(wanted) => self.recovery_command(wanted),
            _ => None,
        };
        self.steps.iter().filter_map(command).map(|(command, timeout)| (command, timeout_of(timeout))).collect()
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
    pub(crate) fn is_main(&self) -> bool {
        self.control.is_none()
    }
}

/// How long a command of the scenario's own may take.
pub(super) fn timeout_of(asked: Option<HumanDuration>) -> Duration {
    asked.map_or(COMMAND_TIMEOUT_DEFAULT, |d| d.0)
}

/// A base backup, its WAL and a snapshot of some thousand rows take ten seconds; a runbook that waits for a person hangs.
const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);
