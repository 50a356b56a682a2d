//! What happened, when, to what: the only contract between running and reporting.
//!
//! A run writes one [`Event`] a line to `reports/<run>/events.jsonl`. Every report can be made again from that file with
//! no stack alive. The format is versioned by [`FORMAT`]; files of older versions are read as well.

mod load;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use serde::{Deserialize, Serialize};

pub use load::{Loaded, StepOutcome, WriterCounts};

use crate::units::{DrillId, Hint, Lsn, Offset, RowKey, RunId, SchemaId, Speed, TableName, Verdict};

/// The version of the event format, written into [`What::RunStarted`]. In version 1 what was loaded stands in the words of a step's
/// `detail`, and hints in those of a drill's `reason`.
pub const FORMAT: u32 = 2;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since the Unix epoch, by the harness's clock.
    pub at_ms: i64,
    /// The drill it belongs to; absent for what concerns the whole run.
    pub drill: Option<DrillId>,
    /// What happened.
    pub what: What,
}

/// The kinds of things that happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The run began.
    RunStarted {
        /// [`FORMAT`].
        format: u32,
        /// The run.
        run: RunId,
        /// The seed every random choice comes from.
        seed: u64,
        /// The command line that replays this run.
        replay: String,
        /// The machine: cores, memory, kernel.
        machine: String,
        /// Every drill and control that the run is to carry out, in the order of the scenarios: one that never began is
        /// not forgotten.
        #[serde(default)]
        drills: Vec<DrillId>,
    },
    /// How fast the machine was measured to be at the start, and what follows from it.
    Speed {
        /// The measurement.
        speed: Speed,
        /// How many drills run at the same time.
        jobs: usize,
        /// Why not more; empty where nothing is in the way.
        #[serde(default)]
        limited_by: String,
    },
    /// The shared servers answer, with the seconds each needed and the seconds until all were ready.
    StackReady {
        /// Seconds until all were ready.
        seconds: f64,
        /// Name and seconds of each.
        servers: Vec<(String, f64)>,
    },
    /// A drill began.
    DrillStarted {
        /// The scenario's id.
        scenario: String,
        /// The variant's id.
        variant: String,
        /// What the drill is about, in a sentence.
        title: String,
        /// Present when this drill is a control.
        control: Option<ControlPlan>,
    },
    /// What the drill's recovery must keep to.
    Objectives {
        /// The longest a recovery may take, in seconds.
        rto_seconds: Option<f64>,
        /// How long it may take on the reference machine, in seconds: what this one takes is held against it, scaled, and
        /// fails nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rto_reference_seconds: Option<f64>,
        /// The longest that what clients use may be down.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        downtime: Option<Downtime>,
        /// The same on the reference machine, held against it like `rto_reference_seconds`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        downtime_reference: Option<Downtime>,
        /// Acknowledged transactions before the target that may be missing.
        rpo_transactions: Option<u64>,
    },
    /// A step of the drill (prepare, load, backup, mark, fault, recover, verify) began.
    StepStarted {
        /// The step in a few words.
        step: String,
    },
    /// A step of the drill ended.
    StepFinished {
        /// The step in a few words, as in its start.
        step: String,
        /// How long it took.
        seconds: f64,
        /// What it did, apart from what was loaded, or why it failed; in words.
        detail: String,
        /// The load that was the step, or that ran beside it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loaded: Option<Loaded>,
    },
    /// How far a step has come. For a person who watches; not written to the events file.
    Progress {
        /// The step, as in its start.
        step: String,
        /// Rows or records so far.
        rows: u64,
        /// Bytes of WAL that have not reached the topics, where known.
        lag_bytes: Option<u64>,
    },
    /// What a person should know of the run or drill: a folder that was kept, a server that did not start.
    Note {
        /// In a sentence.
        text: String,
    },
    /// A fault was injected and looked for.
    Fault(FaultReport),
    /// What the systems' own status said while the pipeline was broken.
    Signal(Signal),
    /// A step of the recovery ended.
    RecoveryStep(StepReport),
    /// The recovery ended.
    RecoveryFinished {
        /// `coordinated`, `slot` or `schema`.
        playbook: String,
        /// Seconds from the start of the recovery until the pipeline is whole again.
        rto_seconds: f64,
        /// How long what clients use was down; none where that was not measured: the recovery failed or was a command, or the
        /// event is of an earlier release.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        downtime: Option<Downtime>,
        /// Whether every step reached its postcondition.
        verdict: Verdict,
        /// Why not, or what a person should know.
        detail: String,
        /// What a person can do where it failed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hints: Vec<Hint>,
    },
    /// What the recovery lost and what its target gave up.
    Rpo(Rpo),
    /// A check looked at the recovered pipeline.
    Check(CheckReport),
    /// A control was judged.
    Control(ControlReport),
    /// A drill ended.
    DrillFinished {
        /// Its verdict.
        verdict: Verdict,
        /// Its share in the exit code.
        exit_code: u8,
        /// Why it is not green, in a sentence; empty when it is.
        reason: String,
        /// What a person can do about that.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hints: Vec<Hint>,
    },
    /// Peak memory of the harness and everything it started, proportional set size.
    Memory {
        /// The peak, in bytes.
        peak_pss_bytes: u64,
        /// The slowest that a core was seen to be in the run, with all that ran beside: a multiple of the reference
        /// machine's time for a unit of work.
        #[serde(default)]
        slowest: Option<f64>,
    },
    /// The run ended.
    RunFinished {
        /// The combined verdict.
        verdict: Verdict,
        /// The combined exit code.
        exit_code: u8,
    },
}

/// What a control leaves out and what must then be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlan {
    /// Unique within the variant: `without-delete-offsets`, `naive-slot-by-hand`.
    pub id: String,
    /// The step left out, or the naive procedure done instead.
    pub without: String,
    /// The check that must be red.
    pub check: String,
    /// The kind of finding it must report.
    pub kind: FindingKind,
    /// Whether connector and task must say RUNNING while the check is red.
    pub silent: bool,
}

/// How a control came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlReport {
    /// The control as planned.
    pub plan: ControlPlan,
    /// Passed: red as named, and confirmed. Failed: green. Inconclusive: red for another reason.
    pub verdict: Verdict,
    /// Whether the named check reported the named kind.
    pub red: bool,
    /// All findings of the named check; none when it has none of the named kind.
    pub findings_total: u64,
    /// What an independent query said about one finding.
    pub confirmed: String,
    /// Why the verdict, in a sentence.
    pub reason: String,
}

/// A fault and the proof that it landed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    /// The fault's name in the scenario language.
    pub fault: String,
    /// Whether the effect was seen.
    pub landed: Landed,
    /// What was looked at and what it said.
    pub evidence: String,
    /// The control hooks that breaking and looking called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookCall>,
}

/// Whether a fault landed, judged by an effect and never by the injector's own result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Landed {
    /// The effect was seen.
    Confirmed,
    /// Something else was seen.
    Mismatch,
    /// It could not be looked at.
    Inconclusive,
}

/// A status that a system gave of itself while the pipeline was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Who said it: `connector shop`, `task shop/0`, `slot shop`, `registry`.
    pub source: String,
    /// What it said: `RUNNING`, `active`, `200`.
    pub said: String,
    /// Whether that was a lie, that is: it said healthy while it was not.
    pub lied: bool,
}

/// How long what clients use was down, over all runs of a recovery; or may be at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Downtime {
    /// Seconds from the stop of the old server to the restored one that takes sessions; none where no server is stopped. A server that
    /// was down already was so for longer.
    pub database_seconds: Option<f64>,
    /// Seconds from the stop of the connectors to their new streams, behind complete snapshots.
    pub connectors_seconds: Option<f64>,
}

impl Downtime {
    /// Each part with its name, where it is known.
    pub fn parts(self) -> impl Iterator<Item = (&'static str, f64)> {
        let parts = [("database", self.database_seconds), ("connectors", self.connectors_seconds)];
        parts.into_iter().filter_map(|(name, seconds)| Some((name, seconds?)))
    }

    /// The parts that are limited by `limits` and longer, with the limit; a part that is not known is none of them.
    pub fn longer_than(self, limits: Downtime) -> impl Iterator<Item = (&'static str, f64, f64)> {
        let limit = move |part: &str| limits.parts().find(|(name, _)| *name == part).map(|(_, seconds)| seconds);
        self.parts()
            .filter_map(move |(name, seconds)| limit(name).map(|limit| (name, seconds, limit)))
            .filter(|(_, seconds, limit)| seconds > limit)
    }

    /// The longer one of each part.
    #[must_use]
    pub fn max(self, other: Downtime) -> Downtime {
        let longer = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        Downtime {
            database_seconds: longer(self.database_seconds, other.database_seconds),
            connectors_seconds: longer(self.connectors_seconds, other.connectors_seconds),
        }
    }
}

impl fmt::Display for Downtime {
    /// `the database for 2.1 s, the connectors for 6.0 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.parts().map(|(name, seconds)| format!("the {name} for {seconds:.1} s")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// One step of a recovery, done or planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step's name: `delete-offsets`.
    pub name: String,
    /// What it destroys, by name; empty when nothing.
    pub destroys: Vec<String>,
    /// What must hold before, as read back.
    pub precondition: String,
    /// Seconds since the recovery's start when the step began; zero in a plan.
    pub started_seconds: f64,
    /// How long it took; zero in a plan.
    pub seconds: f64,
    /// `planned`, `done`, `skipped`, `failed` or `omitted`.
    pub result: StepResult,
    /// The postcondition as read back, or the error.
    pub detail: String,
    /// The control hooks that it called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookCall>,
}

/// One call of a control hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookCall {
    /// `[control.postgres] stop`.
    pub hook: String,
    /// How long it took.
    pub seconds: f64,
    /// Its exit status; none when a signal or its deadline ended it.
    pub status: Option<i32>,
    /// The last lines it wrote.
    pub said: Vec<String>,
}

/// How a recovery step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepResult {
    /// Not run: a plan.
    Planned,
    /// Its postcondition was read back.
    Done,
    /// There was nothing for it to do, which was read back too.
    Skipped,
    /// Its postcondition was not reached.
    Failed,
    /// Left out on purpose by a control.
    Omitted,
}

/// Recovery point objective, measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rpo {
    /// Acknowledged before the target and missing.
    pub lost: Amount,
    /// Acknowledged after the target, and so given up by choosing it.
    pub given_up: Amount,
}

/// An amount of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Amount {
    /// Transactions.
    pub transactions: u64,
    /// Row changes in them.
    pub rows: u64,
    /// From the first of them to the last.
    pub seconds: f64,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The check's id, as in the scenario language: `state`.
    pub id: String,
    /// Failed when there is a finding, or when nothing was compared.
    pub verdict: Verdict,
    /// How many rows, transactions, records or settings were compared.
    pub compared: u64,
    /// What `compared` counts, and what was left out and why.
    pub notes: Vec<String>,
    /// All findings, also those beyond the cap.
    pub findings_total: u64,
    /// The first findings, at most [`FINDINGS_MAX`] of each kind.
    pub findings: Vec<Finding>,
}

/// How many findings of one kind a report carries; the rest are counted.
pub const FINDINGS_MAX: usize = 20;

impl CheckReport {
    /// Folds findings into a report: red when there is one, or when nothing was compared.
    pub fn new(id: &str, compared: u64, notes: Vec<String>, all: Vec<Finding>) -> Self {
        let mut all = all;
        if compared == 0 && all.is_empty() {
            all.push(Finding {
                expected: Some("something to compare".into()),
                found: Some("nothing was compared".into()),
                ..Finding::new(FindingKind::Vacuous)
            });
        }
        let findings_total = all.len() as u64;
        let verdict = if findings_total == 0 { Verdict::Passed } else { Verdict::Failed };
        CheckReport { id: id.to_owned(), verdict, compared, notes, findings_total, findings: first_of_each(all) }
    }

    /// The same report with findings that are counted and not shown.
    #[must_use]
    pub fn with_more(self, uncounted: u64) -> Self {
        CheckReport { findings_total: self.findings_total + uncounted, ..self }
    }

    /// Why an inconclusive check has no verdict, to stand behind its id: it could not look, what it compared is not all there is,
    /// or what it found may be no fault.
    pub fn why_inconclusive(&self) -> String {
        let notes = self.notes.join("; ");
        match (self.compared, self.findings_total) {
            (0, 0) => format!("could not look: {notes}"),
            (compared, 0) => format!("is undecided, with {compared} compared: {notes}"),
            (compared, 1) => format!("leaves 1 finding among {compared} compared undecided: {notes}"),
            (compared, total) => format!("leaves {total} findings among {compared} compared undecided: {notes}"),
        }
    }

    /// A check that could not look: a failure of the harness, not of the pipeline.
    pub fn inconclusive(id: &str, why: String) -> Self {
        CheckReport {
            id: id.to_owned(),
            verdict: Verdict::Inconclusive,
            compared: 0,
            notes: vec![why],
            findings_total: 0,
            findings: Vec::new(),
        }
    }
}

/// At most [`FINDINGS_MAX`] findings of each kind, in their order. Tables take turns: the many findings of one table do not
/// hide that another has some.
fn first_of_each(all: Vec<Finding>) -> Vec<Finding> {
    let mut of_table: HashMap<(FindingKind, Option<TableName>), usize> = HashMap::new();
    let mut turns: Vec<(usize, usize)> = Vec::with_capacity(all.len());
    for (place, finding) in all.iter().enumerate() {
        let earlier = of_table.entry((finding.kind, finding.table.clone())).or_default();
        turns.push((*earlier, place));
        *earlier += 1;
    }
    turns.sort_unstable();
    let mut of_kind: HashMap<FindingKind, usize> = HashMap::new();
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for (_, place) in turns {
        let count = of_kind.entry(all[place].kind).or_default();
        if *count < FINDINGS_MAX {
            *count += 1;
            kept.insert(place);
        }
    }
    all.into_iter().enumerate().filter(|(place, _)| kept.contains(place)).map(|(_, finding)| finding).collect()
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// It was acknowledged, or it is in the table, and it is not there.
    Lost,
    /// It is there and must not be: a row that no longer exists, a transaction of an abandoned timeline.
    Ghost,
    /// An older state of the row than the current one.
    Stale,
    /// Neither the current nor any earlier state of the row.
    Different,
    /// A record whose schema id resolves to another schema than the one it was written with, or to none.
    WrongSchema,
    /// An incompatible schema would be accepted.
    NotRefused,
    /// A compatible schema would be refused.
    Refused,
    /// A table, topic or record that cannot be read.
    Unreadable,
    /// A table or column that cannot be judged.
    NotComparable,
    /// A transaction of which only a part is visible.
    Half,
    /// More deliveries than at-least-once explains.
    Duplicate,
    /// An event behind one that it precedes.
    OutOfOrder,
    /// A connector, task, slot or server that does not work.
    Dead,
    /// A position (offset, slot, group) that is wrong.
    Position,
    /// A setting, level, mode, version or id that differs from the recovery point's.
    Setting,
    /// Something the drill left behind.
    Leak,
    /// Nothing was compared.
    Vacuous,
    /// The recovery itself refused to go on; only what a control expects, never a check's finding.
    RecoveryRefused,
}

impl FindingKind {
    /// The kind's word in scenarios and reports.
    pub fn word(self) -> &'static str {
        match self {
            FindingKind::Lost => "lost",
            FindingKind::Ghost => "ghost",
            FindingKind::Stale => "stale",
            FindingKind::Different => "different",
            FindingKind::WrongSchema => "wrong-schema",
            FindingKind::NotRefused => "not-refused",
            FindingKind::Refused => "refused",
            FindingKind::Unreadable => "unreadable",
            FindingKind::NotComparable => "not-comparable",
            FindingKind::Half => "half",
            FindingKind::Duplicate => "duplicate",
            FindingKind::OutOfOrder => "out-of-order",
            FindingKind::Dead => "dead",
            FindingKind::Position => "position",
            FindingKind::Setting => "setting",
            FindingKind::Leak => "leak",
            FindingKind::Vacuous => "vacuous",
            FindingKind::RecoveryRefused => "recovery-refused",
        }
    }
}

/// One piece of evidence. Every field is always present in JSON; `null` where it does not apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FindingJson", into = "FindingJson")]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The table.
    pub table: Option<TableName>,
    /// The row's key. In JSON it is there twice: as words in `key` and as data in `row_key`.
    pub key: Option<FindingKey>,
    /// The transaction's token in the workload's ledger.
    pub token: Option<String>,
    /// The topic.
    pub topic: Option<String>,
    /// The partition.
    pub partition: Option<i32>,
    /// The record's offset.
    pub offset: Option<Offset>,
    /// The position in the WAL.
    pub lsn: Option<Lsn>,
    /// The schema id concerned.
    pub schema_id: Option<SchemaId>,
    /// The connector, slot, group, setting or schema subject concerned.
    pub subject: Option<About>,
    /// What should be there, in words.
    pub expected: Option<String>,
    /// What is there, in words.
    pub found: Option<String>,
    /// What `expected` and `found` say, as data. No secret is ever in it.
    pub evidence: Option<Evidence>,
}

/// The key of a finding's row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FindingKey {
    /// The key as the table prints it: the row can be asked for.
    Columns(RowKey),
    /// Words for people. Either the value is known only as a record expresses it, which need not be how the table prints it,
    /// or the report was written by an earlier version.
    Words(String),
}

impl fmt::Display for FindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FindingKey::Columns(key) => key.fmt(f),
            FindingKey::Words(words) => f.write_str(words),
        }
    }
}

/// Values of some columns of a row, as PostgreSQL prints them and never shortened; `None` for NULL.
pub type Cells = BTreeMap<String, Option<String>>;

/// What a finding's words say, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// A row, or the columns in which two states of it differ. A column for which a side has no value is not in its cells.
    Row {
        /// As it should be; null where there should be no such row.
        expected: Option<Cells>,
        /// As it is; null where there is no such row.
        found: Option<Cells>,
    },
    /// A setting of a topic, or the topic itself.
    Setting {
        /// Its value as it should be; null where it should be unset.
        expected: Option<String>,
        /// Its value; null where it is unset, or where there is no such topic.
        found: Option<String>,
    },
    /// The offset that a consumer group has committed.
    Committed {
        /// What it should be.
        expected: Offset,
        /// What it is; null where nothing is committed.
        found: Option<Offset>,
    },
    /// A schema history that should have been cleared.
    History {
        /// How many of its records are from before the recovery; null where there is no such topic.
        left: Option<u64>,
    },
}

/// A finding in JSON: words for people beside the data that they are made of.
#[derive(Serialize, Deserialize)]
struct FindingJson {
    kind: FindingKind,
    table: Option<TableName>,
    key: Option<String>,
    token: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<Offset>,
    lsn: Option<Lsn>,
    schema_id: Option<SchemaId>,
    subject: Option<About>,
    expected: Option<String>,
    found: Option<String>,
    // Reports of earlier versions have neither.
    #[serde(default)]
    row_key: Option<RowKey>,
    #[serde(default)]
    evidence: Option<Evidence>,
}

impl From<FindingJson> for Finding {
    fn from(json: FindingJson) -> Finding {
        Finding {
            kind: json.kind,
            table: json.table,
            key: json.row_key.map(FindingKey::Columns).or(json.key.map(FindingKey::Words)),
            token: json.token,
            topic: json.topic,
            partition: json.partition,
            offset: json.offset,
            lsn: json.lsn,
            schema_id: json.schema_id,
            subject: json.subject,
            expected: json.expected,
            found: json.found,
            evidence: json.evidence,
        }
    }
}

impl From<Finding> for FindingJson {
    fn from(finding: Finding) -> FindingJson {
        FindingJson {
            kind: finding.kind,
            table: finding.table,
            key: finding.key.as_ref().map(ToString::to_string),
            token: finding.token,
            topic: finding.topic,
            partition: finding.partition,
            offset: finding.offset,
            lsn: finding.lsn,
            schema_id: finding.schema_id,
            subject: finding.subject,
            expected: finding.expected,
            found: finding.found,
            row_key: finding.key.and_then(|key| match key {
                FindingKey::Columns(key) => Some(key),
                FindingKey::Words(_) => None,
            }),
            evidence: finding.evidence,
        }
    }
}

/// What a finding is about, besides tables, rows and records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// A connector.
    Connector(String),
    /// A setting of a connector.
    ConnectorSetting {
        /// The connector.
        connector: String,
        /// The setting.
        setting: String,
    },
    /// A replication slot.
    Slot(String),
    /// A publication.
    Publication(String),
    /// A consumer group.
    Group(String),
    /// A property of the finding's topic: `partitions`, `replication`, or a setting by the broker's name.
    TopicSetting(String),
    /// A system as a whole: `postgres`, `connect`, `kafka`, `registry`, `pipeline`.
    System(String),
    /// A subject of the registry.
    Subject(String),
    /// A version of a subject.
    Version {
        /// The subject.
        subject: String,
        /// Its number.
        version: u32,
    },
    /// A compatibility level: a subject's own, or the global one.
    Level(Option<String>),
    /// A mode: a subject's own, or the global one.
    Mode(Option<String>),
    /// Something that a drill should have taken away.
    Leftover(String),
}

impl About {
    /// The subject of the registry, where it is about one.
    pub fn registry_subject(&self) -> Option<&str> {
        match self {
            About::Subject(name) | About::Version { subject: name, .. } => Some(name),
            About::Level(name) | About::Mode(name) => name.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            About::Connector(name) => write!(f, "connector {name}"),
            About::ConnectorSetting { connector, setting } => write!(f, "connector {connector}: {setting}"),
            About::Slot(name) => write!(f, "slot {name}"),
            About::Publication(name) => write!(f, "publication {name}"),
            About::Group(name) => write!(f, "group {name}"),
            About::TopicSetting(name) | About::System(name) | About::Subject(name) | About::Leftover(name) => {
                f.write_str(name)
            }
            About::Version { subject, version } => write!(f, "{subject} version {version}"),
            About::Level(Some(subject)) => write!(f, "level of {subject}"),
            About::Level(None) => f.write_str("global level"),
            About::Mode(Some(subject)) => write!(f, "mode of {subject}"),
            About::Mode(None) => f.write_str("global mode"),
        }
    }
}

impl Finding {
    /// A finding of this kind with no evidence yet; fill in what applies with struct update syntax.
    pub fn new(kind: FindingKind) -> Self {
        Finding {
            kind,
            table: None,
            key: None,
            token: None,
            topic: None,
            partition: None,
            offset: None,
            lsn: None,
            schema_id: None,
            subject: None,
            expected: None,
            found: None,
            evidence: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_comes_back_from_json_with_its_data_and_one_of_an_earlier_version_with_its_words() {
        let key = RowKey::new([("name", Some("a,b=c")), ("part", None)]);
        let finding = Finding {
            key: Some(FindingKey::Columns(key)),
            evidence: Some(Evidence::Committed { expected: Offset(0), found: None }),
            ..Finding::new(FindingKind::Lost)
        };
        let mut json = serde_json::to_value(&finding).unwrap();
        assert_eq!(json["key"], "name='a,b=c',part=NULL");
        assert_eq!(json["row_key"], serde_json::json!({"name": "a,b=c", "part": null}));
        assert_eq!(serde_json::from_value::<Finding>(json.clone()).unwrap(), finding);
        let fields = json.as_object_mut().unwrap();
        fields.remove("row_key");
        fields.remove("evidence");
        let old: Finding = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(old.key, Some(FindingKey::Words("name='a,b=c',part=NULL".into())));
        assert_eq!(serde_json::to_value(&old).unwrap()["key"], json["key"]);
    }

    #[test]
    fn a_table_with_many_findings_does_not_hide_another() {
        let finding =
            |kind, table: &str| Finding { table: Some(TableName::new("public", table)), ..Finding::new(kind) };
        let mut all: Vec<Finding> = (0..500).map(|_| finding(FindingKind::Ghost, "payments")).collect();
        all.push(finding(FindingKind::Lost, "payments"));
        all.extend((0..3).map(|_| finding(FindingKind::Ghost, "visits")));
        let report = CheckReport::new("state", 1, Vec::new(), all);
        let tables: Vec<(FindingKind, &str)> =
            report.findings.iter().map(|f| (f.kind, f.table.as_ref().map_or("", |t| t.name.as_str()))).collect();
        let count = |wanted| tables.iter().filter(|found| **found == wanted).count();
        assert_eq!(report.findings_total, 504);
        assert_eq!(count((FindingKind::Ghost, "payments")), FINDINGS_MAX - 3);
        assert_eq!(count((FindingKind::Ghost, "visits")), 3);
        assert_eq!(count((FindingKind::Lost, "payments")), 1);
        assert_eq!(tables.last(), Some(&(FindingKind::Ghost, "visits")), "in their order");
    }
}
