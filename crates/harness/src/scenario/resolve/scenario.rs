//! A scenario becomes drills, in one pass that finds every mistake on its way.

use camino::Utf8PathBuf;

use super::{
    checks, controls,
    fixture::Fixtures,
    objectives, pipeline,
    problems::{Problems, Resolved, all},
    stack, steps,
    surroundings::Surroundings,
    workload,
};
use crate::scenario::{
    error::Problem,
    model::{Scenario, StackPart, Variant},
    plan::{ControlRun, DrillPlan, Plan},
};
use cdc_model::units::DrillId;

/// The version of the language that this program reads.
const VERSION: u32 = 1;
/// The seed of a scenario that names none: some number, always the same.
const SEED_DEFAULT: u64 = 1;

/// Resolves a scenario to its drills: each variant, and then its controls. There is a plan or there are problems: whatever does not resolve
/// has reported why.
pub fn resolve(scenario: &Scenario, fixtures: &Fixtures<'_>) -> Result<Plan, Vec<Problem>> {
    let mut problems = Problems::default();
    match drills(scenario, fixtures, &mut problems) {
        Ok(drills) if problems.is_empty() => Ok(Plan { drills }),
        Ok(_) | Err(_) => Err(problems.into_found()),
    }
}

fn drills(scenario: &Scenario, fixtures: &Fixtures<'_>, problems: &mut Problems) -> Resolved<Vec<DrillPlan>> {
    let version = problems.at("version", |p| {
        let message = format!("version {} of the scenario language", scenario.version);
        p.require(scenario.version == VERSION, message, format!("this program reads version {VERSION}"))
    });
    let id = problems.at("id", |p| p.name("scenario", &scenario.id));
    let title = problems.at("title", |p| {
        let hint = "say in a sentence what the scenario is about";
        p.require(!scenario.title.trim().is_empty(), "an empty title", hint)
    });
    let drills = problems.at("variants", |p| {
        let hint = "a scenario without a variant runs nothing; add one with steps and checks";
        let some = p.require(!scenario.variants.is_empty(), "no variants", hint);
        let drills = all(scenario
            .variants
            .iter()
            .map(|(id, variant)| p.at(id, |p| variant_drills(scenario, id, variant, fixtures, p))));
        some.and(drills)
    });
    version.and(id).and(title)?;
    Ok(drills?.into_iter().flatten().collect())
}

/// The drill of a variant, and those of its controls.
fn variant_drills(
    scenario: &Scenario,
    id: &str,
    variant: &Variant,
    fixtures: &Fixtures<'_>,
    problems: &mut Problems,
) -> Resolved<Vec<DrillPlan>> {
    let named = problems.name("variant", id);
    let stack_part = stack::overlaid(&scenario.stack, &variant.stack);
    let stack = stack::resolve(&stack_part, variant.stack != StackPart::default(), problems);
    let workload_part = workload::overlaid(&scenario.workload, &variant.workload);
    let kind = workload::kind(&workload_part);
    let workload = workload::resolve(&scenario.workload, &variant.workload, &workload_part, fixtures, problems);
    let pipeline_part = pipeline::overlaid(&scenario.pipeline, &variant.pipeline);
    let several = !pipeline_part.connectors.is_empty();
    let (pipeline, tables) = pipeline::resolve(scenario, variant, &pipeline_part, kind, fixtures, problems);
    let around = Surroundings {
        tables,
        several,
        workload: kind,
        registry: stack::registry(&stack_part),
        limits_slots: stack_part.postgres.max_slot_wal_keep_mib.is_some(),
    };
    let (steps, situation) = problems.at("steps", |p| steps::resolve(&variant.steps, &around, p));
    let checks = problems.at("checks", |p| checks::resolve(&variant.checks, &situation, p));
    let objectives = problems.at("objectives", |p| objectives::resolve(variant, kind, p));
    let controls = problems.at("controls", |p| controls::resolve(variant, p));
    named?;
    let main = DrillPlan {
        id: DrillId(format!("{}/{id}", scenario.id)),
        scenario: scenario.id.clone(),
        variant: id.to_owned(),
        title: variant.title.clone().unwrap_or_else(|| scenario.title.clone()),
        folder: Utf8PathBuf::new(),
        control: None,
        seed: workload_part.seed.unwrap_or(SEED_DEFAULT),
        stack: stack?,
        pipeline: pipeline?,
        workload: workload?,
        steps: steps?,
        checks: checks?,
        objectives: objectives?,
    };
    let controls: Vec<DrillPlan> = controls?.into_iter().map(|run| control_drill(&main, run)).collect();
    Ok(std::iter::once(main).chain(controls).collect())
}

fn control_drill(main: &DrillPlan, run: ControlRun) -> DrillPlan {
    DrillPlan { id: DrillId(format!("{}+{}", main.id, run.id)), control: Some(run), ..main.clone() }
}
