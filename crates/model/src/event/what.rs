//! The kinds of things that happen.

use serde::{Deserialize, Serialize};

use super::{
    CheckReport, ControlPlan, ControlReport, Downtime, FaultReport, Loaded, ObjectiveReport, Rpo, Signal, StepReport,
};
use crate::units::{DrillId, Hint, RunId, Speed, Verdict};

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
    /// What was measured of an objective of time. Of those in [`What::Objectives`], and of what the command line demands.
    Objective(ObjectiveReport),
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
    /// What a step that is under way waits for. For a person who watches; not written to the events file.
    Progress {
        /// The step, as in its start.
        step: String,
        /// How long it has been under way.
        seconds: f64,
        /// What it waits for and what was seen last, in words.
        waiting: String,
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
