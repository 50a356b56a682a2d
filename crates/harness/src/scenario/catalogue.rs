//! What `scenario list` shows: scenarios, variants, controls, and which variant and check notice the absence of each
//! step of the coordinated playbook.

use serde::Serialize;

use super::{
    library::Loaded,
    model::{Red, Step},
    plan::{ControlRun, DrillPlan, Expect},
};

/// A step of a playbook with the variant and the check that notice its absence, as the recovery engine declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepNeed {
    /// The step.
    pub step: String,
    /// `<scenario>/<variant>`.
    pub variant: String,
    /// The check's id, or `refused` where the recovery itself refuses to go on.
    pub check: String,
}

/// The steps of a playbook and what notices their absence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// The playbook.
    pub playbook: String,
    /// Its steps, in order.
    pub steps: Vec<StepNeed>,
}

/// Stands for a check where the recovery itself goes no further.
const REFUSED: &str = "refused";

/// Everything that `scenario list --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Catalogue {
    /// The scenarios.
    pub scenarios: Vec<Entry>,
    /// The playbooks' steps.
    pub playbooks: Vec<Needs>,
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Where it comes from.
    pub file: String,
    /// Its variants.
    pub variants: Vec<VariantEntry>,
}

/// One variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VariantEntry {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// The faults, in order.
    pub faults: Vec<String>,
    /// The playbooks, in order.
    pub recoveries: Vec<String>,
    /// The checks.
    pub checks: Vec<String>,
    /// The controls.
    pub controls: Vec<ControlEntry>,
}

/// One control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControlEntry {
    /// Its id.
    pub id: String,
    /// What is left out, if anything.
    pub without: Option<String>,
    /// What is done instead, if anything.
    pub naive: Option<String>,
    /// The finding that must be there, if one must.
    pub red: Option<Red>,
    /// The exit code with which the recovery must refuse, if it must.
    pub refuses: Option<u8>,
    /// Whether connector and task must say RUNNING meanwhile.
    pub silent: bool,
}

/// Lists scenarios. `needs` comes from the recovery engine, which owns the steps.
pub fn catalogue(loaded: &[Loaded], needs: Vec<Needs>) -> Catalogue {
    Catalogue { scenarios: loaded.iter().map(entry).collect(), playbooks: needs }
}

fn entry(loaded: &Loaded) -> Entry {
    let mut variants: Vec<VariantEntry> = Vec::new();
    // A variant is followed by its controls.
    for drill in &loaded.plan.drills {
        match (&drill.control, variants.last_mut()) {
            (Some(control), Some(variant)) => variant.controls.push(control_entry(control)),
            (Some(_), None) | (None, _) => variants.push(variant_entry(drill)),
        }
    }
    Entry {
        id: loaded.scenario.id.clone(),
        title: loaded.scenario.title.clone(),
        file: loaded.file.to_string(),
        variants,
    }
}

fn variant_entry(drill: &DrillPlan) -> VariantEntry {
    let faults =
        drill.steps.iter().filter_map(|s| if let Step::Fault(f) = s { Some(f.word().to_owned()) } else { None });
    let recoveries =
        drill.steps.iter().filter_map(|s| if let Step::Recover(r) = s { Some(r.playbook().to_owned()) } else { None });
    VariantEntry {
        id: drill.variant.clone(),
        title: drill.title.clone(),
        faults: faults.collect(),
        recoveries: recoveries.collect(),
        checks: drill.checks.iter().map(|c| c.word().to_owned()).collect(),
        controls: Vec::new(),
    }
}

fn control_entry(control: &ControlRun) -> ControlEntry {
    let (red, refuses) = match control.expect {
        Expect::Red(red) => (Some(red), None),
        Expect::Refusal(code) => (None, Some(code)),
    };
    ControlEntry {
        id: control.id.clone(),
        without: control.change.without().map(|absence| absence.word().to_owned()),
        naive: control.change.instead().map(|instead| instead.word().to_owned()),
        red,
        refuses,
        silent: control.silent,
    }
}

impl Catalogue {
    /// The declared needs that no control shows: each step's absence must be run, and must be red on the declared check.
    pub fn unmet(&self) -> Vec<String> {
        let steps = self.playbooks.iter().flat_map(|p| &p.steps);
        let unmet = steps.filter(|need| !self.shows(need));
        unmet
            .map(|need| {
                format!("no control of {} leaves out {} and is noticed by {}", need.variant, need.step, need.check)
            })
            .collect()
    }

    fn shows(&self, need: &StepNeed) -> bool {
        let variants =
            self.scenarios.iter().flat_map(|s| s.variants.iter().map(move |v| (format!("{}/{}", s.id, v.id), v)));
        let mut controls = variants.filter(|(id, _)| *id == need.variant).flat_map(|(_, v)| &v.controls);
        controls.any(|c| {
            let noticed = match c.red {
                Some(red) => red.check.word() == need.check,
                None => c.refuses.is_some() && need.check == REFUSED,
            };
            c.without.as_deref() == Some(need.step.as_str()) && noticed
        })
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for s in &self.scenarios {
            out.push_str(&format!("{}  {}\n", s.id, s.title));
            for v in &s.variants {
                out.push_str(&format!("  {}/{}  {}\n", s.id, v.id, v.title));
                for c in &v.controls {
                    let red = match (&c.red, c.refuses) {
                        (Some(r), _) => format!("{} must find {}", r.check, r.kind.word()),
                        (None, Some(code)) => format!("the recovery must refuse ({code})"),
                        (None, None) => String::new(),
                    };
                    let silent = if c.silent { ", while all say RUNNING" } else { "" };
                    out.push_str(&format!("    + {}  {red}{silent}\n", c.id));
                }
            }
        }
        for p in &self.playbooks {
            out.push_str(&format!("steps of the {} playbook, and what notices their absence\n", p.playbook));
            for s in &p.steps {
                out.push_str(&format!("  {:<22} {}  {}\n", s.step, s.variant, s.check));
            }
        }
        out
    }
}
