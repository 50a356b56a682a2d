//! Controls: the same drill with something left out or done the naive way, and what must be seen then.

use std::collections::BTreeSet;

use super::{
    command,
    problems::{Problems, Resolved, all},
};
use crate::scenario::{
    model::{Control, Fault, NaiveCommand, Red, Step, Variant},
    plan::{Absence, Change, ControlRun, Expect},
    playbook::steps_of,
};
use cdc_model::{
    event::FindingKind,
    units::{Exit, near_or},
    vocabulary::{CheckId, Instead},
};

/// Resolves the controls of a variant.
pub(super) fn resolve(variant: &Variant, problems: &mut Problems) -> Resolved<Vec<ControlRun>> {
    let mut ids = BTreeSet::new();
    all(variant
        .controls
        .iter()
        .enumerate()
        .map(|(index, control)| problems.at(index, |p| one(variant, control, &mut ids, p))))
}

fn one(
    variant: &Variant,
    control: &Control,
    ids: &mut BTreeSet<String>,
    problems: &mut Problems,
) -> Resolved<ControlRun> {
    let valid = match &control.id {
        Some(id) => problems.at("id", |p| p.name("control", id)),
        None => Ok(()),
    };
    let change = change(control, problems);
    let recovers = variant.recoveries().next().is_some();
    let hint = "add a `recover` step";
    let of_recovery = problems.require(recovers, "a control of a variant that recovers nothing", hint);
    let expect = expect(variant, control, problems);
    let omission = match control.without.as_deref() {
        None => Ok(()),
        Some(without) => problems.at("without", |p| omission(variant, without, control.naive.as_ref(), p)),
    };
    let procedure = match &control.naive {
        None => Ok(()),
        Some(naive) => problems.at("naive", |p| procedure(variant, naive, recovers, p)),
    };
    let change = change?;
    let id = control.id.clone().unwrap_or_else(|| change.id());
    let first = ids.insert(id.clone());
    let unique = problems.require(first, format!("a second control `{id}`"), "give it an `id` of its own");
    valid.and(of_recovery).and(omission).and(procedure).and(unique)?;
    Ok(ControlRun { id, change, expect: expect?, silent: control.silent })
}

/// What is left out, done instead, or both.
fn change(control: &Control, problems: &mut Problems) -> Resolved<Change> {
    let absence = control.without.as_deref().map(|without| match without {
        RECOVERY => Absence::Recovery,
        step => Absence::Step(step.to_owned()),
    });
    match (absence, control.naive.clone()) {
        (Some(absence), None) => Ok(Change::Without(absence)),
        (None, Some(instead)) => Ok(Change::Instead(instead)),
        (Some(absence), Some(instead)) => Ok(Change::Both(absence, instead)),
        (None, None) => Err(problems.report(
            "a control that leaves nothing out",
            "give `without: recovery`, `without: <step>` or `naive: <procedure>`",
        )),
    }
}

/// Stands in `without` for all of the recovery.
const RECOVERY: &str = "recovery";

fn expect(variant: &Variant, control: &Control, problems: &mut Problems) -> Resolved<Expect> {
    match (control.red, control.refuses) {
        (None, None) => {
            let hint = "give `red: { check: ..., kind: ... }`, or `refuses: 11`";
            Err(problems.report("a control that expects nothing", hint))
        }
        (Some(_), Some(_)) => {
            let hint = "a recovery that refuses leaves nothing to check; keep one";
            Err(problems.report("a control with both `red` and `refuses`", hint))
        }
        (Some(red), None) => problems.at("red", |p| finding(variant, red, p)).map(Expect::Red),
        (None, Some(code)) => refusal(code, control.silent, problems).map(Expect::Refusal),
    }
}

fn finding(variant: &Variant, red: Red, problems: &mut Problems) -> Resolved<Red> {
    let checked = problems.at("check", |p| {
        let listed: Vec<&str> = variant.checks.iter().map(|check: &CheckId| check.word()).collect();
        p.require(
            variant.checks.contains(&red.check),
            format!("check `{}` is not among the variant's checks", red.check),
            format!("the variant checks {}", listed.join(", ")),
        )
    });
    let reported = problems.at("kind", |p| match red.kind {
        FindingKind::RecoveryRefused => {
            Err(p.report("no check reports `recovery-refused`", "write `refuses: 11` instead of `red`"))
        }
        kind if red.check.kinds().contains(&kind) => Ok(()),
        kind => {
            let kinds: Vec<&str> = red.check.kinds().iter().map(|kind| kind.word()).collect();
            let message = format!("check `{}` never reports `{}`", red.check, kind.word());
            Err(p.report(message, format!("it reports {}", kinds.join(", "))))
        }
    });
    checked.and(reported).map(|()| red)
}

fn refusal(code: u8, silent: bool, problems: &mut Problems) -> Resolved<u8> {
    let known = [Exit::RecoveryFailed, Exit::ChecksumMismatch, Exit::PlanImpossible, Exit::Refused].map(Exit::code);
    let refuses = problems.at("refuses", |p| {
        let message = format!("no recovery refuses with exit code {code}");
        p.require(known.contains(&code), message, "expected 11, 31, 40 or 41")
    });
    let loud = problems.at("silent", |p| p.require(!silent, "a refusal is not silent", "leave `silent` out"));
    refuses.and(loud).map(|()| code)
}

fn omission(
    variant: &Variant,
    without: &str,
    naive: Option<&Instead<NaiveCommand>>,
    problems: &mut Problems,
) -> Resolved<()> {
    let steps = variant.recoveries().flat_map(|recover| steps_of(recover).iter().copied());
    let known: Vec<&str> = steps.chain([RECOVERY]).collect();
    let there = match known.contains(&without) {
        true => Ok(()),
        false => {
            let hint = near_or(without, known.iter().copied(), || format!("known: {}", known.join(", ")));
            Err(problems.report(format!("no step `{without}` in this variant's recovery"), hint))
        }
    };
    let hint = "the command stands in for the whole recovery; leave it out";
    let alone = !matches!(naive, Some(Instead::Exec(_)));
    there.and(problems.require(alone, "`without` beside a command", hint))
}

fn procedure(
    variant: &Variant,
    naive: &Instead<NaiveCommand>,
    recovers: bool,
    problems: &mut Problems,
) -> Resolved<()> {
    let has = |playbook: &str| variant.recoveries().any(|recover| recover.playbook() == playbook);
    let flips = || variant.steps.iter().any(|s| matches!(s, Step::Fault(Fault::FlipHeapBytes(_))));
    let (fits, needs) = match naive {
        Instead::SlotByHand | Instead::ResnapshotWithoutPurge => {
            (has("slot") || has("coordinated"), "a slot or coordinated recovery")
        }
        Instead::ZeroDamagedPages => (flips(), "a `flip-heap-bytes` fault"),
        Instead::ReRegister | Instead::LowerLevelGlobally => (has("schema"), "a schema recovery"),
        Instead::DamagedArchive => (has("replay"), "a replay of archives"),
        Instead::RestartOnly => (true, ""),
        Instead::Exec(own) => return problems.at("exec", |p| command::resolve(&own.command, own.timeout, p)),
    };
    // That there is no recovery at all is a problem of its own.
    problems.require(
        fits || !recovers,
        format!("`{}` instead of what?", naive.word()),
        format!("it stands in for {needs}, which this variant has not"),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::parse::as_json;

    fn variant(recover: &str, control: &str) -> Variant {
        let text = format!(
            "steps: [ {{ backup: {{ name: a }} }}, {recover} ]\nchecks: [state, compatibility]\ncontrols: [ {control} ]\n"
        );
        serde_json::from_value(as_json(&text)).unwrap()
    }

    const SLOT: &str = "{ recover: { slot: {} } }";
    const SCHEMA: &str = "{ recover: { schema: {} } }";
    const NONE: &str = "signals";

    #[rstest]
    #[case::without(
        "{ without: recovery, red: { check: state, kind: lost } }",
        "without-recovery",
        Change::Without(Absence::Recovery)
    )]
    #[case::step("{ without: resume, red: { check: state, kind: lost } }", "without-resume", Change::Without(Absence::Step("resume".into())))]
    #[case::naive(
        "{ naive: restart-only, red: { check: state, kind: lost } }",
        "naive-restart-only",
        Change::Instead(Instead::RestartOnly)
    )]
    #[case::both(
        "{ without: drop-slot, naive: slot-by-hand, red: { check: state, kind: lost } }",
        "without-drop-slot",
        Change::Both(Absence::Step("drop-slot".into()), Instead::SlotByHand)
    )]
    #[case::named("{ id: mine, without: recovery, refuses: 11 }", "mine", Change::Without(Absence::Recovery))]
    fn a_control_changes_something_and_is_named_after_it(
        #[case] control: &str,
        #[case] id: &str,
        #[case] change: Change,
    ) {
        let mut problems = Problems::default();
        let runs = resolve(&variant(SLOT, control), &mut problems).unwrap();
        assert_eq!((runs[0].id.as_str(), &runs[0].change), (id, &change));
        assert!(problems.is_empty());
    }

    #[rstest]
    #[case::changes_nothing(SLOT, "{ red: { check: state, kind: lost } }", "a control that leaves nothing out")]
    #[case::expects_nothing(SLOT, "{ without: recovery }", "a control that expects nothing")]
    #[case::expects_two(
        SLOT,
        "{ without: recovery, red: { check: state, kind: lost }, refuses: 11 }",
        "both `red` and `refuses`"
    )]
    #[case::nothing_recovers(NONE, "{ without: recovery, refuses: 11 }", "a variant that recovers nothing")]
    #[case::another_check(SLOT, "{ without: recovery, red: { check: loss, kind: lost } }", "check `loss` is not among")]
    #[case::another_code(SLOT, "{ without: recovery, refuses: 3 }", "refuses with exit code 3")]
    #[case::silent(SLOT, "{ without: recovery, refuses: 11, silent: true }", "a refusal is not silent")]
    #[case::no_such_step(SLOT, "{ without: open, refuses: 11 }", "no step `open` in this variant's recovery")]
    #[case::another_playbook(SCHEMA, "{ naive: slot-by-hand, refuses: 11 }", "`slot-by-hand` instead of what?")]
    #[case::no_pages(SLOT, "{ naive: zero-damaged-pages, refuses: 11 }", "`zero-damaged-pages` instead of what?")]
    #[case::beside_a_command(
        SLOT,
        "{ without: resume, naive: { exec: { command: x } }, refuses: 11 }",
        "`without` beside a command"
    )]
    #[case::twice(
        SLOT,
        "{ without: resume, refuses: 11 }, { without: resume, refuses: 40 }",
        "a second control `without-resume`"
    )]
    #[case::no_finding(
        SLOT,
        "{ without: resume, red: { check: state, kind: recovery-refused } }",
        "no check reports `recovery-refused`"
    )]
    #[case::no_finding_of_that_check(
        SLOT,
        "{ without: resume, red: { check: compatibility, kind: lost } }",
        "check `compatibility` never reports `lost`"
    )]
    fn a_control_that_shows_nothing_is_reported(#[case] recover: &str, #[case] controls: &str, #[case] message: &str) {
        let mut problems = Problems::default();
        assert!(resolve(&variant(recover, controls), &mut problems).is_err());
        let found: Vec<String> = problems.into_found().into_iter().map(|problem| problem.message).collect();
        assert!(found.len() == 1 && found[0].contains(message), "{found:?}");
    }
}
