//! The steps of a control's recovery.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use super::{damaged_pages, left_out::LeftOut, registry, restart, slot_by_hand};
use crate::{run::Known, scenario::Absence};
use cdc_engine::recovery::{
    StepInfo,
    compose::{Composer, Coordinated, OverPipeline, Repair, Step, Variation},
};
use cdc_model::{
    event::StepReport,
    vocabulary::{Instead, Naive},
};

/// A control's steps: those of the playbook without the one that it leaves out, or those of a naive procedure.
#[derive(Debug, Default)]
pub(in crate::run) struct Composition {
    without: BTreeSet<String>,
    naive: Option<Naive>,
    /// The steps that there were to choose from, once they were composed.
    all: Mutex<Vec<StepInfo>>,
}

impl Composition {
    /// What a drill's recoveries are made of: everything, where it is no control.
    pub(in crate::run) fn of(known: Known<'_>) -> Composition {
        let step = match known.absence() {
            Some(Absence::Step(step)) => Some(step.as_str()),
            Some(Absence::Recovery) | None => None,
        };
        Composition::new(step, known.plan.instead().and_then(Instead::procedure))
    }

    fn new(step: Option<&str>, naive: Option<Naive>) -> Composition {
        let by_procedure: &[&str] = match naive {
            Some(Naive::SlotByHand) => &["delete-offsets"],
            Some(Naive::ResnapshotWithoutPurge) => &["delete-topics", "recreate-topics", "group-offsets"],
            _ => &[],
        };
        let without = step.into_iter().chain(by_procedure.iter().copied()).map(str::to_owned).collect();
        Composition { without, naive, all: Mutex::default() }
    }

    /// The reports of steps, with one of each step that is left out, in its place.
    pub(in crate::run) fn reporting<'a>(&'a self, on: &'a mut (dyn FnMut(StepReport) + Send)) -> LeftOut<'a> {
        LeftOut::new(on, move || {
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().map(|info| (*info, self.without.contains(info.id))).collect()
        })
    }

    fn taken<S: OverPipeline>(&self, steps: &[Step<S>]) -> Vec<Step<S>> {
        *self.all.lock().unwrap_or_else(PoisonError::into_inner) = steps.iter().map(|step| step.info).collect();
        steps.iter().filter(|step| !self.without.contains(step.info.id)).copied().collect()
    }

    fn is_by_hand(&self) -> bool {
        self.naive == Some(Naive::SlotByHand)
    }
}

/// With another step in the place of that of its name.
fn replaced<S: OverPipeline>(mut steps: Vec<Step<S>>, other: Step<S>) -> Vec<Step<S>> {
    steps.iter_mut().filter(|step| step.info.id == other.info.id).for_each(|step| *step = other);
    steps
}

impl Composer for Composition {
    fn variation(&self) -> Variation {
        Variation { without: self.without.clone(), procedure: self.naive.map(|naive| naive.word().to_owned()) }
    }

    fn instead(&self) -> Option<Vec<Step<Repair>>> {
        let steps: &[Step<Repair>] = match self.naive? {
            Naive::ZeroDamagedPages => &damaged_pages::STEPS,
            Naive::ReRegister => &registry::RE_REGISTER,
            Naive::LowerLevelGlobally => &registry::LOWER_LEVELS,
            Naive::RestartOnly => &restart::STEPS,
            Naive::SlotByHand | Naive::ResnapshotWithoutPurge | Naive::DamagedArchive => return None,
        };
        Some(self.taken(steps))
    }

    fn coordinated(&self, steps: &[Step<Coordinated>]) -> Vec<Step<Coordinated>> {
        let taken = self.taken(steps);
        match self.is_by_hand() {
            true => replaced(replaced(taken, slot_by_hand::make_slots()), slot_by_hand::RESTORE_UNREAD),
            false => taken,
        }
    }

    fn repair(&self, steps: &[Step<Repair>]) -> Vec<Step<Repair>> {
        let taken = self.taken(steps);
        match self.is_by_hand() {
            true => replaced(taken, slot_by_hand::make_slots()),
            false => taken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_engine::recovery::{compose, declared};

    fn names(steps: &[Step<Coordinated>]) -> Vec<&'static str> {
        steps.iter().map(|step| step.info.id).collect()
    }

    #[test]
    fn what_is_left_out_is_missing_and_everything_else_is_the_playbook_s() {
        let declared = declared::COORDINATED.map(|step| step.id);
        let of = |step, naive| names(&Composition::new(step, naive).coordinated(&compose::COORDINATED));
        assert_eq!(of(None, None), declared);
        let without = |left_out: &[&str]| declared.into_iter().filter(|id| !left_out.contains(id)).collect::<Vec<_>>();
        assert_eq!(of(Some("fence"), None), without(&["fence"]));
        assert_eq!(of(Some("resume"), Some(Naive::SlotByHand)), without(&["resume", "delete-offsets"]));
        let purged = ["delete-topics", "recreate-topics", "group-offsets"];
        assert_eq!(of(None, Some(Naive::ResnapshotWithoutPurge)), without(&purged));
    }

    #[test]
    fn a_slot_that_is_made_by_hand_is_not_the_connector_s() {
        let steps = Composition::new(None, Some(Naive::SlotByHand)).coordinated(&compose::COORDINATED);
        let differing = compose::COORDINATED.iter().filter_map(|own| {
            let step = steps.iter().find(|step| step.info.id == own.info.id)?;
            (!std::ptr::fn_addr_eq(step.act, own.act)).then_some(own.info.id)
        });
        assert_eq!(differing.collect::<Vec<_>>(), ["restore", "force-snapshot"]);
    }

    #[test]
    fn each_procedure_of_its_own_has_steps_and_the_record_says_what_is_followed() {
        for naive in Naive::ALL {
            let composition = Composition::new(None, Some(naive));
            let is_own = !matches!(naive, Naive::SlotByHand | Naive::ResnapshotWithoutPurge | Naive::DamagedArchive);
            assert_eq!(composition.instead().is_some_and(|steps| !steps.is_empty()), is_own, "{naive}");
            assert_eq!(composition.variation().procedure.as_deref(), Some(naive.word()));
        }
        assert_eq!(Composition::default().variation(), Variation::default(), "no control, nothing to say");
    }
}
