//! `report.json`: every field is always there; what is not known is `null` or empty.

use serde::{Deserialize, Serialize};

use super::words::outcome;
use cdc_model::{
    event::{
        Amount, CheckReport, Confirmation, Downtime, FaultReport, FindingKind, KindCounts, Landed, Loaded,
        ObjectiveReport, StepReport,
    },
    units::{Hint, Speed, Verdict},
};

/// The version of `report.json`.
pub(crate) const FORMAT: u32 = 2;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The version of this form.
    pub format: u32,
    /// The run.
    pub run: String,
    /// The seed every random choice came from.
    pub seed: u64,
    /// The verdict on all drills together.
    pub verdict: Verdict,
    /// What the command exited with.
    pub exit_code: u8,
    /// Why it is not green, in a sentence; empty when it is.
    pub reason: String,
    /// The command line that replays the run.
    pub replay: String,
    /// The machine: cores, memory, kernel.
    pub machine: String,
    /// How fast it was measured to be; null in a run of an older version.
    #[serde(default)]
    pub speed: Option<SpeedReport>,
    /// When it began, in UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// Whether the run was seen to its end.
    pub complete: bool,
    /// Peak memory of everything together, proportional set size.
    pub peak_pss_bytes: Option<u64>,
    /// The shared servers.
    pub stack: StackReport,
    /// What a person should know beside the drills.
    pub notes: Vec<String>,
    /// The drills, in the order in which they began.
    pub drills: Vec<DrillReport>,
}

/// How fast the machine was, and what followed from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedReport {
    /// What was measured at the start.
    #[serde(flatten)]
    pub measured: Speed,
    /// The factor by which safety nets and reference times were stretched for it.
    pub scale: f64,
    /// The machine that has factor 1.
    pub reference: String,
    /// The slowest that a core was seen to be in the run, with all that ran beside.
    pub slowest: Option<f64>,
    /// How many drills ran at the same time.
    pub jobs: usize,
    /// Why not more; empty where nothing was in the way.
    pub limited_by: String,
}

/// The shared servers' start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StackReport {
    /// Seconds until all were ready; null when they never were, or were not shared.
    pub ready_seconds: Option<f64>,
    /// Each server.
    pub servers: Vec<ServerStart>,
}

/// One server's start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStart {
    /// The server.
    pub name: String,
    /// Seconds until it was ready.
    pub seconds: f64,
}

/// One variant of a scenario with its controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillReport {
    /// The scenario's id.
    pub scenario: String,
    /// The variant's id.
    pub variant: String,
    /// What it is about.
    pub title: String,
    /// The verdict on the drill and its controls.
    pub verdict: Verdict,
    /// Its share in the run's exit code.
    pub exit_code: u8,
    /// Why it is not green, in a sentence; empty when it is.
    pub reason: String,
    /// What a person can do about that.
    #[serde(default)]
    pub hints: Vec<Hint>,
    /// How long it took, without its controls.
    pub seconds: f64,
    /// The faults together.
    pub fault: FaultSummary,
    /// Each fault.
    pub faults: Vec<FaultReport>,
    /// Signals that said healthy while the pipeline was broken.
    pub lied: Vec<SignalReport>,
    /// All signals that were recorded meanwhile.
    pub signals: Vec<SignalReport>,
    /// The last recovery.
    pub recovery: RecoveryReport,
    /// Recoveries before it.
    pub earlier_recoveries: Vec<RecoveryReport>,
    /// What was lost and what was given up.
    pub rpo: RpoReport,
    /// What became of each kind of transaction that the scenario names, in all loads together; empty where it names none, and in a run of
    /// an earlier release.
    #[serde(default)]
    pub kinds: Vec<KindCounts>,
    /// What was measured of objectives of time; empty where there are none, and in a run of an earlier release.
    #[serde(default)]
    pub objectives: Vec<ObjectiveReport>,
    /// The checks.
    pub checks: Vec<CheckReport>,
    /// The controls.
    pub controls: Vec<ControlResult>,
    /// The drill's steps.
    pub steps: Vec<StepTime>,
    /// What a person should know beside that.
    pub notes: Vec<String>,
}

impl DrillReport {
    /// The drill as people name it: `database-corruption/heap-pages`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.scenario, self.variant)
    }
}

/// Whether the faults of a drill landed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSummary {
    /// Confirmed when each was; inconclusive when there was none.
    pub landed: Landed,
    /// What was looked at and what it said.
    pub evidence: String,
}

/// What a system said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalReport {
    /// Who said it.
    pub source: String,
    /// What it said.
    pub said: String,
}

/// A recovery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// `coordinated`, `slot` or `schema`; null when there was no recovery.
    pub playbook: Option<String>,
    /// Seconds until the pipeline was whole again; null when it never was.
    pub rto_seconds: Option<f64>,
    /// How many seconds it may take.
    pub rto_objective_seconds: Option<f64>,
    /// How many it may take on the reference machine; longer than this scaled is reported and fails nothing.
    #[serde(default)]
    pub rto_reference_seconds: Option<f64>,
    /// How long what clients use was down; null where that was not measured.
    #[serde(default)]
    pub downtime: Option<Downtime>,
    /// How long it may be down.
    #[serde(default)]
    pub downtime_objective: Option<Downtime>,
    /// How long it may be down on the reference machine; longer than this scaled is reported and fails nothing.
    #[serde(default)]
    pub downtime_reference: Option<Downtime>,
    /// Whether every step reached its postcondition.
    pub verdict: Option<Verdict>,
    /// Why not, or what a person should know.
    pub detail: String,
    /// What a person can do where it failed.
    #[serde(default)]
    pub hints: Vec<Hint>,
    /// The steps.
    pub steps: Vec<StepReport>,
}

/// What was lost and what was given up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RpoReport {
    /// Acknowledged before the target and missing.
    pub lost: Amount,
    /// Acknowledged after the target.
    pub given_up: Amount,
    /// How many transactions may be lost.
    pub objective_transactions: Option<u64>,
    /// Whether it was measured at all.
    pub measured: bool,
}

impl RpoReport {
    /// How many transactions were lost; `None` where that was not measured.
    pub(super) fn measured_loss(&self) -> Option<u64> {
        self.measured.then_some(self.lost.transactions)
    }
}

/// A control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlResult {
    /// Unique within the variant.
    pub id: String,
    /// What was left out; where nothing was, the naive procedure done instead.
    pub without: String,
    /// The naive procedure done instead, where one was.
    #[serde(default)]
    pub instead: Option<String>,
    /// Whether the named check reported the named kind.
    pub red: bool,
    /// The check that must be red; `recovery` where the recovery itself must refuse.
    pub check: String,
    /// The kind of finding it must report.
    pub kind: FindingKind,
    /// Passed: red as named, and confirmed.
    pub verdict: Verdict,
    /// Whether connector and task had to say RUNNING meanwhile.
    pub silent: bool,
    /// All findings of the named check; none when it has none of the named kind.
    pub findings_total: u64,
    /// What an independent query said about one of them; none where none was asked about.
    pub confirmation: Option<Confirmation>,
    /// Why the verdict.
    pub reason: String,
    /// How long the control's drill took.
    pub seconds: f64,
    /// Signals that said healthy while the pipeline was broken.
    pub lied: Vec<SignalReport>,
    /// What the checks of the control's drill said.
    pub checks: Vec<CheckReport>,
}

/// A step of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTime {
    /// The step in a few words.
    pub step: String,
    /// How long it took; null when it was not seen to end.
    pub seconds: Option<f64>,
    /// What it did, apart from what was loaded.
    pub detail: String,
    /// The load that was the step, or that ran beside it; null where there was none, or in a run of version 1.
    #[serde(default)]
    pub loaded: Option<Loaded>,
}

impl StepTime {
    /// What it did, in words.
    pub(super) fn words(&self) -> String {
        outcome(&self.detail, self.loaded.as_ref())
    }
}
