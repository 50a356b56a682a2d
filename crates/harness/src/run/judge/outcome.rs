//! How a drill ends: its exit code, why, and what a control showed.

use serde::{Deserialize, Serialize};

use super::{Checked, control};
use crate::run::chronicle::{Chronicle, ControlTerms, FailedLoad, Terms};
use cdc_model::{
    event::{Confirmation, ControlReport, Downtime, KindCounts, ObjectiveReport, Rpo},
    units::{Exit, Verdict, counted},
};

/// How far a drill got.
#[derive(Clone, Debug)]
pub(crate) enum Ending<'e> {
    /// An error ended it.
    CutShort {
        /// The error's exit code.
        exit: Exit,
        /// The error.
        why: &'e str,
    },
    /// A recovery refused, or failed.
    Refused {
        /// Its exit code.
        exit: Exit,
        /// Its error.
        why: &'e str,
    },
    /// The checks looked.
    Checked {
        /// What they say.
        checked: &'e Checked,
        /// Seconds that the slowest recovery took.
        slowest: f64,
        /// How long the recoveries' longest downtimes were, of each part.
        downtime: Downtime,
        /// What an independent query said of a control's finding: confirmed, or not.
        confirmed: Option<Confirmation>,
    },
}

impl<'e> Ending<'e> {
    /// The ending of a drill whose checks looked, with the durations of its recoveries.
    pub(crate) fn checked(chronicle: &Chronicle, checked: &'e Checked, confirmed: Option<Confirmation>) -> Ending<'e> {
        let (slowest, downtime) = (chronicle.slowest_seconds(), chronicle.longest_downtime());
        Ending::Checked { checked, slowest, downtime, confirmed }
    }
}

/// How a drill ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its share in the run's exit code.
    pub exit: Exit,
    /// Why it is not green; empty when it is.
    pub reason: String,
    /// What a control showed.
    pub control: Option<ControlReport>,
    /// What came of its objectives of time. A control has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<ObjectiveReport>,
}

/// Judges a drill by how far it got, and by what its chronicle knows of why.
pub(crate) fn outcome_of(chronicle: &Chronicle, ending: &Ending<'_>) -> Outcome {
    let outcome = outcome(&chronicle.terms, ending);
    let whole = matches!(ending, Ending::Checked { .. }) && chronicle.terms.control.is_none();
    let kinds = if whole { chronicle.kinds() } else { Vec::new() };
    let not_exercised: Vec<String> = kinds.iter().filter_map(KindCounts::not_exercised).collect();
    match chronicle.failed_load() {
        _ if !not_exercised.is_empty() => outcome.without(not_exercised),
        Some(load) if outcome.exit != Exit::Passed => outcome.beside(load),
        _ => outcome,
    }
}

impl Outcome {
    /// A kind of transaction that the scenario names and no load exercised: whatever the checks found, they found it without the kind. It
    /// leaves a drill that failed a failed one. A control differs from its drill in the recovery alone, and its drill is judged by this.
    fn without(mut self, not_exercised: Vec<String>) -> Outcome {
        if verdict_of(self.exit) != Verdict::Failed {
            self.exit = self.exit.worst(Exit::Invalid);
        }
        let reasons = Some(self.reason).filter(|reason| !reason.is_empty()).into_iter().chain(not_exercised);
        self.reason = reasons.collect::<Vec<_>>().join("; ");
        self
    }

    /// What is not green may be a consequence of a load that failed: its first error stands beside the reason.
    fn beside(mut self, load: &FailedLoad) -> Outcome {
        let both = |reason: &str| format!("{reason}; {load}");
        self.reason = both(&self.reason);
        if let Some(control) = self.control.as_mut().filter(|control| control.verdict != Verdict::Passed) {
            control.reason = both(&control.reason);
        }
        self
    }
}

/// Judges a drill by how far it got.
pub(crate) fn outcome(terms: &Terms, ending: &Ending<'_>) -> Outcome {
    match &terms.control {
        Some(control) => of_control(control, ending),
        None => {
            let objectives = times(terms, ending);
            let (exit, reason) = match ending {
                Ending::CutShort { exit, why } => (*exit, (*why).to_owned()),
                Ending::Refused { exit, why } => (exit.worst(Exit::RecoveryFailed), (*why).to_owned()),
                Ending::Checked { checked, downtime, .. } => of_checks(terms, checked, &objectives, *downtime),
            };
            Outcome { exit, reason, control: None, objectives }
        }
    }
}

/// What was measured of the objectives of time. A drill that did not come to its checks measured nothing.
fn times(terms: &Terms, ending: &Ending<'_>) -> Vec<ObjectiveReport> {
    let (rto, rpo) = match ending {
        Ending::CutShort { why, .. } | Ending::Refused { why, .. } => (Err((*why).to_owned()), Err((*why).to_owned())),
        Ending::Checked { checked, slowest, .. } => (
            if *slowest > 0.0 { Ok(*slowest) } else { Err("nothing recovered".to_owned()) },
            checked.rpo.map(|rpo| lost_seconds(&rpo)).ok_or_else(|| NO_LEDGER.to_owned()),
        ),
    };
    ObjectiveReport::of_both((terms.objectives.rto_seconds, rto), (terms.objectives.rpo_seconds, rpo))
}

/// Why lost transactions were not counted.
const NO_LEDGER: &str = "the lost transactions were not counted: the workload keeps no ledger of what was acknowledged";

/// The time of changes that were lost. A single transaction has no extent, and an objective of nothing is not kept by losing it.
fn lost_seconds(rpo: &Rpo) -> f64 {
    let least = if rpo.lost.transactions > 0 { 0.001 } else { 0.0 };
    rpo.lost.seconds.max(least)
}

fn of_checks(terms: &Terms, checked: &Checked, objectives: &[ObjectiveReport], downtime: Downtime) -> (Exit, String) {
    let mut exit = Exit::Passed;
    let mut reasons = Vec::new();
    for check in &checked.checks {
        match check.verdict {
            Verdict::Passed => {}
            Verdict::Failed => {
                exit = exit.worst(Exit::CheckFailed);
                reasons.push(format!("{} has {}", check.id, counted(check.findings_total, "finding")));
            }
            Verdict::Inconclusive => {
                exit = exit.worst(Exit::Inconclusive);
                reasons.push(format!("{} {}", check.id, check.why_inconclusive()));
            }
        }
    }
    for objective in objectives.iter().filter(|objective| objective.verdict != Verdict::Passed) {
        exit = exit.worst(objective.exit());
        reasons.push(objective.to_string());
    }
    if let Some(limits) = terms.objectives.downtime {
        let (missed, told) = downtime_missed(limits, downtime);
        exit = exit.worst(missed);
        reasons.extend(told);
    }
    if let Some(limit) = terms.objectives.rpo_transactions
        && let Some((missed, reason)) = rpo_missed(limit, checked.rpo)
    {
        exit = exit.worst(missed);
        reasons.push(reason);
    }
    (exit, reasons.join("; "))
}

/// An error makes a control inconclusive, whatever it expects.
fn of_control(terms: &ControlTerms, ending: &Ending<'_>) -> Outcome {
    let nothing = control::Shown {
        cut_short: None,
        refusal: None,
        checks: &[],
        status: String::new(),
        running: false,
        confirmed: None,
    };
    let shown = match ending {
        Ending::CutShort { exit, why } => {
            let shown = control::Shown { cut_short: Some((*why).to_owned()), ..nothing };
            let report = control::red(&terms.plan, &shown);
            let reason = report.reason.clone();
            let exit = Exit::Inconclusive.worst(*exit);
            return Outcome { exit, reason, control: Some(report), objectives: Vec::new() };
        }
        Ending::Refused { exit, .. } => control::Shown { refusal: Some(exit.code()), ..nothing },
        Ending::Checked { checked, confirmed, .. } => control::Shown {
            checks: &checked.checks,
            status: checked.status.clone(),
            running: checked.running,
            confirmed: confirmed.clone(),
            ..nothing
        },
    };
    let report = match terms.refuses {
        None => control::red(&terms.plan, &shown),
        Some(code) => control::refusal(&terms.plan, code, &shown),
    };
    let exit = report.verdict.exit();
    let reason = if exit == Exit::Passed { String::new() } else { report.reason.clone() };
    Outcome { exit, reason, control: Some(report), objectives: Vec::new() }
}

/// The verdict that belongs to an exit code.
pub(crate) fn verdict_of(exit: Exit) -> Verdict {
    match exit {
        Exit::Passed => Verdict::Passed,
        Exit::CheckFailed | Exit::RecoveryFailed | Exit::ObjectiveMissed => Verdict::Failed,
        _ => Verdict::Inconclusive,
    }
}

/// What several drills come to: the worst verdict and the worst exit code. A drill that could not be carried out has a code that may
/// be worse than that of a failure, and its verdict is not.
pub(crate) fn combined(exits: impl IntoIterator<Item = Exit>) -> (Verdict, Exit) {
    let worse = |(verdict, worst): (Verdict, Exit), exit| (verdict.and(verdict_of(exit)), worst.worst(exit));
    exits.into_iter().fold((Verdict::Passed, Exit::Passed), worse)
}

/// Limits of the downtime that were exceeded, or that nobody measured.
fn downtime_missed(limits: Downtime, measured: Downtime) -> (Exit, Vec<String>) {
    let mut exit = Exit::Passed;
    let mut reasons = Vec::new();
    for (part, seconds, limit) in measured.longer_than(limits) {
        exit = exit.worst(Exit::ObjectiveMissed);
        reasons.push(format!("{part}: down for {seconds:.1} s, the objective is {limit:.0} s"));
    }
    for (part, limit) in limits.parts().filter(|(part, _)| measured.parts().all(|(known, _)| known != *part)) {
        exit = exit.worst(Exit::Inconclusive);
        reasons.push(format!("{part}: how long it was down is not known, the objective is {limit:.0} s"));
    }
    (exit, reasons)
}

/// What speaks against an objective for lost transactions: more of them, or that nobody counted.
fn rpo_missed(limit: u64, measured: Option<Rpo>) -> Option<(Exit, String)> {
    let Some(rpo) = measured else {
        return Some((Exit::Inconclusive, format!("{NO_LEDGER}; the objective is {limit}")));
    };
    let lost = rpo.lost.transactions;
    let reason = || format!("{lost} lost, the objective is {limit}", lost = counted(lost, "acknowledged transaction"));
    (lost > limit).then(|| (Exit::ObjectiveMissed, reason()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::chronicle::{Fact, Layout};
    use cdc_model::event::{Amount, CheckReport, ControlPlan, Finding, FindingKind, KindError};

    #[test]
    fn a_downtime_that_is_longer_than_its_objective_or_was_not_measured_is_named() {
        let of = |database, connectors| Downtime { database_seconds: database, connectors_seconds: connectors };
        let limits = of(Some(2.0), Some(5.0));
        assert_eq!(downtime_missed(limits, of(Some(2.0), Some(5.0))), (Exit::Passed, Vec::new()));
        let (exit, reasons) = downtime_missed(limits, of(Some(2.1), Some(4.0)));
        assert_eq!(exit, Exit::ObjectiveMissed);
        assert_eq!(reasons, ["database: down for 2.1 s, the objective is 2 s"]);
        let (exit, reasons) = downtime_missed(limits, of(None, Some(4.0)));
        assert_eq!(exit, Exit::Inconclusive);
        assert_eq!(reasons, ["database: how long it was down is not known, the objective is 2 s"]);
        assert_eq!(downtime_missed(limits, of(Some(9.0), None)).0, Exit::ObjectiveMissed, "the worst one");
        assert_eq!(downtime_missed(of(None, Some(5.0)), of(Some(9.0), Some(1.0))).0, Exit::Passed, "no objective");

        // And it counts.
        let checked = Checked { checks: Vec::new(), rpo: None, status: String::new(), running: true };
        let mut terms = Terms::default();
        let ending =
            Ending::Checked { checked: &checked, slowest: 1.0, downtime: of(Some(3.0), Some(4.0)), confirmed: None };
        assert_eq!(outcome(&terms, &ending).exit, Exit::Passed);
        terms.objectives.downtime = Some(limits);
        assert_eq!(outcome(&terms, &ending).exit, Exit::ObjectiveMissed);
    }

    #[test]
    fn a_recovery_may_take_as_long_as_its_objective_and_no_longer() {
        let checked = Checked { checks: Vec::new(), rpo: None, status: String::new(), running: true };
        let mut terms = Terms::default();
        terms.objectives.rto_seconds = Some(5.0);
        let exit = |slowest| {
            let ending = Ending::Checked { checked: &checked, slowest, downtime: Downtime::default(), confirmed: None };
            outcome(&terms, &ending).exit
        };
        assert_eq!([4.9, 5.0, 5.1].map(exit), [Exit::Passed, Exit::Passed, Exit::ObjectiveMissed]);
        assert_eq!(exit(0.0), Exit::Inconclusive, "nothing recovered is no fast recovery");
    }

    #[test]
    fn the_time_that_was_lost_is_held_against_its_objective_and_only_where_somebody_counted() {
        let mut terms = Terms::default();
        let judged = |terms: &Terms, rpo: Option<(u64, f64)>| {
            let rpo = rpo.map(|(transactions, seconds)| Rpo {
                lost: Amount { transactions, rows: transactions, seconds },
                ..Rpo::default()
            });
            let checked = Checked { checks: Vec::new(), rpo, status: String::new(), running: true };
            let downtime = Downtime::default();
            outcome(terms, &Ending::Checked { checked: &checked, slowest: 1.0, downtime, confirmed: None })
        };
        assert_eq!(judged(&terms, None).objectives, [], "nothing was promised");
        for (limit, rpo, exit) in [
            (5.0, Some((0, 0.0)), Exit::Passed),
            (5.0, Some((9, 5.0)), Exit::Passed),
            (5.0, Some((9, 5.5)), Exit::ObjectiveMissed),
            (0.0, Some((0, 0.0)), Exit::Passed),
            (0.0, Some((1, 0.0)), Exit::ObjectiveMissed),
            (5.0, None, Exit::Inconclusive),
        ] {
            terms.objectives.rpo_seconds = Some(limit);
            let Outcome { exit: found, reason, objectives, .. } = judged(&terms, rpo);
            assert_eq!(found, exit, "{rpo:?} of {limit}: {reason}");
            assert_eq!((objectives.len(), reason.is_empty()), (1, exit == Exit::Passed));
        }
        let cut = Ending::CutShort { exit: Exit::TimedOut, why: "a wait ended" };
        let Outcome { exit, objectives, .. } = outcome(&terms, &cut);
        assert_eq!((exit, objectives[0].verdict), (Exit::TimedOut, Verdict::Inconclusive));
    }

    #[test]
    fn a_drill_that_could_not_be_carried_out_hides_no_failure() {
        assert_eq!(combined([]), (Verdict::Passed, Exit::Passed));
        assert_eq!(combined([Exit::Passed, Exit::Invalid]), (Verdict::Inconclusive, Exit::Invalid));
        for exits in [[Exit::CheckFailed, Exit::Invalid], [Exit::BackupIncomplete, Exit::ObjectiveMissed]] {
            assert_eq!(combined(exits).0, Verdict::Failed, "{exits:?}");
        }
        assert_eq!(combined([Exit::CheckFailed, Exit::Invalid]).1, Exit::Invalid);
        assert_eq!(combined([Exit::Inconclusive, Exit::CheckFailed]).1, Exit::CheckFailed);
    }

    #[test]
    fn the_first_error_of_a_load_stands_beside_what_came_of_it() {
        let load = |failed, error: &str| {
            Fact::LoadFailed(FailedLoad { attempted: 60, failed, first_error: Some(error.to_owned()) })
        };
        let layout = Layout { name: "d".into(), sources: Vec::new(), own_registry: false };
        let mut chronicle = Chronicle::new(Terms::default(), layout, cdc_model::units::Timeline::FIRST);
        let cut = Ending::CutShort { exit: Exit::Inconclusive, why: "fault delete-all did not land" };
        assert_eq!(outcome_of(&chronicle, &cut).reason, "fault delete-all did not land");
        chronicle.extend([load(60, "relation \"calls\" does not exist"), load(3, "deadlock detected")]);
        let words = "60 of 60 transactions of a load failed, the first: relation \"calls\" does not exist";
        assert_eq!(outcome_of(&chronicle, &cut).reason, format!("fault delete-all did not land; {words}"));
        let green = Checked { checks: Vec::new(), rpo: None, status: String::new(), running: true };
        assert_eq!(outcome_of(&chronicle, &Ending::checked(&chronicle, &green, None)).reason, "");
    }

    /// A kind, with how many transactions of each of two loads were tried and committed, and how many rows they touched.
    type Tried = (&'static str, [(u64, u64, u64); 2]);

    fn tried(kinds: [Tried; 2]) -> Chronicle {
        let layout = Layout { name: "d".into(), sources: Vec::new(), own_registry: false };
        let mut chronicle = Chronicle::new(Terms::default(), layout, cdc_model::units::Timeline::FIRST);
        for load in 0..2 {
            let counts = kinds.map(|(name, loads)| {
                let (attempted, acknowledged, rows) = loads[load];
                let failed = attempted - acknowledged;
                let message = format!("column \"x{load}\" does not exist");
                let last_error = (failed > 0).then_some(KindError { refused: true, message });
                KindCounts { attempted, acknowledged, failed, rows: Some(rows), last_error, ..KindCounts::of(name) }
            });
            chronicle.extend([Fact::KindsTried(counts.into())]);
        }
        chronicle
    }

    #[test]
    fn a_drill_whose_loads_never_exercised_a_kind_is_not_green() {
        let found = |findings: u64| {
            let findings = (0..findings).map(|_| Finding::new(FindingKind::Lost)).collect();
            let checks = vec![CheckReport::new("state", 5, Vec::new(), findings)];
            Checked { checks, rpo: None, status: String::new(), running: true }
        };
        let judged = |chronicle: &Chronicle, findings| {
            let Outcome { exit, reason, .. } =
                outcome_of(chronicle, &Ending::checked(chronicle, &found(findings), None));
            (exit, reason)
        };
        let book = ("book", [(5, 4, 9), (5, 5, 9)]);
        // A load in which a kind fails, or is not drawn, is no matter: all loads count together.
        for some in [[(3, 0, 0), (2, 1, 1)], [(0, 0, 0), (1, 1, 2)], [(2, 2, 0), (4, 4, 1)]] {
            assert_eq!(judged(&tried([book, ("refer", some)]), 0), (Exit::Passed, String::new()), "{some:?}");
        }
        let never = "kind refer never committed: 7 transactions tried; last error: column \"x1\" does not exist";
        let refer = ("refer", [(3, 0, 0), (4, 0, 0)]);
        assert_eq!(judged(&tried([book, refer]), 0), (Exit::Invalid, never.to_owned()));
        assert_eq!(verdict_of(Exit::Invalid), Verdict::Inconclusive);
        let (exit, reason) = judged(&tried([book, ("refer", [(0, 0, 0); 2])]), 0);
        assert!(exit == Exit::Invalid && reason.starts_with("kind refer was never tried"), "{reason}");
        let (exit, reason) = judged(&tried([book, ("refer", [(2, 2, 0), (1, 1, 0)])]), 0);
        assert_eq!((exit, reason.as_str()), (Exit::Invalid, "kind refer: 3 transactions committed and touched no row"));
        // It hides no failure, and is told beside one.
        let failed = (Exit::CheckFailed, format!("state has 1 finding; {never}"));
        assert_eq!(judged(&tried([book, refer]), 1), failed);
        // A control is red or not for its own reason.
        let mut control = tried([book, refer]);
        control.terms.control = Some(ControlTerms {
            plan: ControlPlan {
                id: "without-recovery".into(),
                without: "recovery".into(),
                instead: None,
                check: "state".into(),
                kind: FindingKind::Lost,
                silent: false,
            },
            refuses: None,
        });
        let confirmed = Some(Confirmation::Confirmed("no such row".into()));
        assert_eq!(outcome_of(&control, &Ending::checked(&control, &found(1), confirmed)).exit, Exit::Passed);
    }

    #[test]
    fn an_objective_that_nobody_measured_is_not_met() {
        let lost = |transactions| {
            let mut rpo = Rpo::default();
            rpo.lost.transactions = transactions;
            Some(rpo)
        };
        let exit = |measured| rpo_missed(2, measured).map(|(exit, _)| exit);
        assert_eq!(exit(lost(2)), None);
        assert_eq!(exit(lost(3)), Some(Exit::ObjectiveMissed));
        let (exit, reason) = rpo_missed(0, None).unwrap();
        assert_eq!(exit, Exit::Inconclusive);
        assert!(reason.contains("keeps no ledger"), "{reason}");
    }
}
