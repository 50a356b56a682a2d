//! Of each step of the coordinated playbook it is declared what notices its absence; a control of that variant must try it.

use cdc_engine::recovery::{StepInfo, declared};
use cdc_harness::{
    run::controls,
    scenario::{Absence, Expect, Library, Recover, SlotRecovery, steps_of},
};
use cdc_model::vocabulary::TopicsRepair;

#[test]
fn every_coordinated_step_has_the_control_that_it_declares() {
    let library = Library::new(env!("CARGO_MANIFEST_DIR"));
    let drills: Vec<_> = library.load(&[]).unwrap().iter().flat_map(|l| l.plan(None).drills).collect();
    let mut missing = Vec::new();
    let steps: Vec<&str> = controls::COORDINATED.iter().map(|noticed| noticed.step).collect();
    assert_eq!(steps, declared::COORDINATED.map(|step| step.id));
    for noticed in controls::COORDINATED {
        let tried = drills.iter().any(|drill| {
            let Some(control) = &drill.control else { return false };
            let variant = format!("{}/{}", drill.scenario, drill.variant);
            let check = match control.expect {
                Expect::Red(red) => red.check.word() == noticed.check,
                Expect::Refusal(11) => noticed.check == "refused",
                Expect::Refusal(_) => false,
            };
            variant == noticed.variant
                && control.change.without() == Some(&Absence::Step(noticed.step.to_owned()))
                && check
        });
        if !tried {
            missing.push(format!("{} ({}, {})", noticed.step, noticed.variant, noticed.check));
        }
    }
    assert!(missing.is_empty(), "no control leaves these out as they declare:\n{}", missing.join("\n"));
}

#[test]
fn a_control_can_leave_out_just_the_steps_that_there_are() {
    let ids = |steps: &[StepInfo]| steps.iter().map(|step| step.id).collect::<Vec<_>>();
    let slot = |topics| Recover::Slot(SlotRecovery { topics, ..SlotRecovery::default() });
    let coordinated = serde_json::from_str(r#"{ "coordinated": { "target": "latest" } }"#).unwrap();
    assert_eq!(steps_of(&coordinated), ids(&declared::COORDINATED));
    assert_eq!(steps_of(&slot(TopicsRepair::Purge)), ids(&declared::slot(TopicsRepair::Purge)));
    assert_eq!(steps_of(&slot(TopicsRepair::Compensate)), ids(&declared::slot(TopicsRepair::Compensate)));
}
