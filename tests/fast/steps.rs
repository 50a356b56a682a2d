//! Of each step of the coordinated playbook, and of a replay of topic archives, it is declared what notices its absence; a control of that variant must try it.

use cdc_engine::recovery::{StepInfo, declared};
use cdc_harness::{
    run::controls::{self, NoticedBy},
    scenario::{Absence, Expect, Library, Recover, ReplayRecovery, SlotRecovery, steps_of},
};
use cdc_model::vocabulary::TopicsRepair;

#[test]
fn every_coordinated_step_has_the_control_that_it_declares() {
    let steps: Vec<&str> = controls::COORDINATED.iter().map(|noticed| noticed.step).collect();
    assert_eq!(steps, declared::COORDINATED.map(|step| step.id));
    each_is_tried(&controls::COORDINATED);
}

#[test]
fn every_step_of_a_replay_has_the_control_that_it_declares() {
    let steps: Vec<&str> = controls::REPLAY.iter().map(|noticed| noticed.step).collect();
    assert_eq!(steps, steps_of(&Recover::Replay(ReplayRecovery::default())));
    each_is_tried(&controls::REPLAY);
}

fn each_is_tried(declared: &[NoticedBy]) {
    let library = Library::new(env!("CARGO_MANIFEST_DIR"));
    let drills: Vec<_> = library.load(&[]).unwrap().iter().flat_map(|l| l.plan(None).drills).collect();
    let mut missing = Vec::new();
    for noticed in declared {
        let tried = drills.iter().any(|drill| {
            let Some(control) = &drill.control else { return false };
            let variant = format!("{}/{}", drill.scenario, drill.variant);
            let check = match control.expect {
                Expect::Red(red) => red.check.word() == noticed.check,
                Expect::Refusal(11 | 40) => noticed.check == "refused",
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
