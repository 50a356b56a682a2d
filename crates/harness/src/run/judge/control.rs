//! Judges a control: red, for the named reason, on something that an independent query confirms.

use std::collections::BTreeSet;

use cdc_model::{
    event::{CheckReport, Confirmation, ControlPlan, ControlReport, Finding, FindingKey},
    units::{Verdict, counted},
};

/// What a control's drill showed.
#[derive(Clone, Debug)]
pub(crate) struct Shown<'a> {
    /// Why the drill did not get as far as its checks, if it did not: a fault that did not land, a step before the omitted
    /// one without its postcondition, a time-out.
    pub cut_short: Option<String>,
    /// The exit code with which the recovery refused, if it did.
    pub refusal: Option<u8>,
    /// What the checks reported.
    pub checks: &'a [CheckReport],
    /// What connector and task said while the checks looked: `connector RUNNING, task 0 RUNNING`.
    pub status: String,
    /// Whether that was RUNNING throughout.
    pub running: bool,
    /// What an independent query said about one finding of the named kind: confirmed, or not.
    pub confirmed: Option<Confirmation>,
}

/// The findings that make a control red; those that name a row or a transaction, which can be asked for, come first.
pub(crate) fn named_findings<'a>(plan: &ControlPlan, checks: &'a [CheckReport]) -> Vec<&'a Finding> {
    let named = checks.iter().filter(|c| c.id == plan.check);
    let mut named: Vec<&Finding> = named.flat_map(|c| &c.findings).filter(|f| f.kind == plan.kind).collect();
    named.sort_by_key(|f| !matches!(f.key, Some(FindingKey::Columns(_))) && f.token.is_none());
    named
}

/// Judges a control that must come out red on a check.
pub(crate) fn red(plan: &ControlPlan, shown: &Shown<'_>) -> ControlReport {
    let findings = named_findings(plan, shown.checks);
    let total = shown.checks.iter().find(|c| c.id == plan.check).map_or(0, |c| c.findings_total);
    let report = |verdict, red, reason: String| ControlReport {
        plan: plan.clone(),
        verdict,
        red,
        findings_total: if findings.is_empty() { 0 } else { total },
        confirmation: shown.confirmed.clone(),
        reason,
    };
    if let Some(why) = &shown.cut_short {
        return report(Verdict::Inconclusive, false, format!("the drill did not get to its checks: {why}"));
    }
    if let Some(code) = shown.refusal {
        return report(
            Verdict::Inconclusive,
            false,
            format!("the recovery refused with {code} before the check could look"),
        );
    }
    let Some(check) = shown.checks.iter().find(|c| c.id == plan.check) else {
        return report(Verdict::Inconclusive, false, format!("the check {} did not run", plan.check));
    };
    if check.verdict == Verdict::Inconclusive {
        return report(Verdict::Inconclusive, false, format!("{} {}", plan.check, check.why_inconclusive()));
    }
    if findings.is_empty() {
        return without_the_kind(plan, shown, check, &report);
    }
    match &shown.confirmed {
        Some(Confirmation::Confirmed(_)) => {}
        Some(other) => {
            return report(Verdict::Inconclusive, true, format!("an independent query does not confirm it: {other}"));
        }
        None => return report(Verdict::Inconclusive, true, "no independent query confirmed it".into()),
    }
    if plan.silent && !shown.running {
        return report(Verdict::Inconclusive, true, format!("it is not silent: {}", shown.status));
    }
    report(Verdict::Passed, true, format!("{} is red with {}; {}", plan.check, counted(total, "finding"), shown.status))
}

fn without_the_kind(
    plan: &ControlPlan,
    shown: &Shown<'_>,
    check: &CheckReport,
    report: &dyn Fn(Verdict, bool, String) -> ControlReport,
) -> ControlReport {
    let others: Vec<String> = shown
        .checks
        .iter()
        .filter(|c| c.verdict != Verdict::Passed)
        .map(|c| format!("{} {} with {}", c.id, c.verdict, counted(c.findings_total, "finding")))
        .collect();
    if check.verdict == Verdict::Passed && others.is_empty() {
        return report(
            Verdict::Failed,
            false,
            format!("everything is green {}: the recovery needs no more, or nothing notices", plan.difference()),
        );
    }
    if check.verdict == Verdict::Passed {
        return report(Verdict::Inconclusive, false, format!("{} is green; red is: {}", plan.check, others.join(", ")));
    }
    let kinds: BTreeSet<&str> = check.findings.iter().map(|finding| finding.kind.word()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    report(Verdict::Inconclusive, false, format!("{} is red for another reason: {}", plan.check, kinds.join(", ")))
}

/// Judges a control in which the recovery itself must refuse to go on.
pub(crate) fn refusal(plan: &ControlPlan, expected: u8, shown: &Shown<'_>) -> ControlReport {
    let (verdict, reason) = match (shown.refusal, &shown.cut_short) {
        (Some(code), _) if code == expected => {
            (Verdict::Passed, format!("the recovery refused with {code}, as it must"))
        }
        (Some(code), _) => (Verdict::Inconclusive, format!("the recovery refused with {code}, not with {expected}")),
        (None, Some(why)) => (Verdict::Inconclusive, format!("the drill did not get to the recovery: {why}")),
        (None, None) => (Verdict::Failed, format!("the recovery did not refuse {}", plan.difference())),
    };
    ControlReport {
        plan: plan.clone(),
        verdict,
        red: verdict == Verdict::Passed,
        findings_total: 0,
        confirmation: None,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::event::FindingKind;

    fn plan(silent: bool) -> ControlPlan {
        ControlPlan {
            id: "without-delete-offsets".into(),
            without: "delete-offsets".into(),
            instead: None,
            check: "loss".into(),
            kind: FindingKind::Lost,
            silent,
        }
    }

    fn check(kind: Option<FindingKind>) -> CheckReport {
        CheckReport::new("loss", 10, Vec::new(), kind.map(Finding::new).into_iter().collect())
    }

    fn shown(checks: &[CheckReport]) -> Shown<'_> {
        Shown {
            cut_short: None,
            refusal: None,
            checks,
            status: "connector RUNNING, task 0 RUNNING".into(),
            running: true,
            confirmed: Some(Confirmation::Confirmed("confirmed".into())),
        }
    }

    #[test]
    fn red_as_named_and_confirmed_passes() {
        let report = red(&plan(true), &shown(&[check(Some(FindingKind::Lost))]));
        assert_eq!((report.verdict, report.red, report.findings_total), (Verdict::Passed, true, 1));
    }

    #[test]
    fn green_fails() {
        assert_eq!(red(&plan(false), &shown(&[check(None)])).verdict, Verdict::Failed);
    }

    #[test]
    fn red_for_another_reason_is_inconclusive() {
        let judged = |checks: &[CheckReport]| {
            let report = red(&plan(false), &shown(checks));
            (report.verdict, report.reason)
        };
        let inconclusive = |reason: &str| (Verdict::Inconclusive, reason.to_owned());
        let dead = check(Some(FindingKind::Dead));
        assert_eq!(judged(&[dead]), inconclusive("loss is red for another reason: dead"));
        let other = CheckReport::new("state", 1, Vec::new(), vec![Finding::new(FindingKind::Lost)]);
        let green = "loss is green; red is: state failed with 1 finding";
        assert_eq!(judged(&[check(None), other]), inconclusive(green));
        assert_eq!(red(&plan(false), &shown(&[])).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn a_drill_that_was_cut_short_is_inconclusive_even_when_the_check_is_red() {
        let checks = [check(Some(FindingKind::Lost))];
        let cut = Shown { cut_short: Some("timed out".into()), ..shown(&checks) };
        assert_eq!(red(&plan(false), &cut).verdict, Verdict::Inconclusive);
        let refused = Shown { refusal: Some(11), ..shown(&checks) };
        assert_eq!(red(&plan(false), &refused).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn red_without_confirmation_is_inconclusive() {
        let checks = [check(Some(FindingKind::Lost))];
        for confirmed in [None, Some(Confirmation::Refuted("the row is there".to_owned()))] {
            assert_eq!(red(&plan(false), &Shown { confirmed, ..shown(&checks) }).verdict, Verdict::Inconclusive);
        }
    }

    #[test]
    fn a_silent_control_must_be_silent() {
        let checks = [check(Some(FindingKind::Lost))];
        let loud = Shown { running: false, ..shown(&checks) };
        assert_eq!(red(&plan(true), &loud).verdict, Verdict::Inconclusive);
        assert_eq!(red(&plan(false), &loud).verdict, Verdict::Passed);
    }

    #[test]
    fn a_refusal_is_judged_by_its_code() {
        for (code, verdict, is_red) in [
            (Some(11), Verdict::Passed, true),
            (Some(40), Verdict::Inconclusive, false),
            (None, Verdict::Failed, false),
        ] {
            let report = refusal(&plan(false), 11, &Shown { refusal: code, ..shown(&[]) });
            assert_eq!((report.verdict, report.red), (verdict, is_red), "{code:?}");
        }
    }
}
