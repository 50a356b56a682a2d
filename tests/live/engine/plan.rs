//! Which drills there are: every moment of every step of every table, killed and failed. The files of `scenarios/engine` say how
//! each table comes about; the steps and moments come from the engine itself, so that none can be forgotten.

use std::{collections::BTreeMap, fmt};

use camino::Utf8Path;
use cdc_engine::{backup, recovery::declared};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// What is broken before the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Broken {
    /// Nothing.
    Nothing,
    /// Rows of both tables are deleted behind the mark `{mark}`.
    RowsDeleted,
    /// The slot is dropped, and rows are deleted and added that it never saw.
    SlotDropped,
    /// The registry's store is lost, and the connector registers its schemas again.
    RegistryLost,
    /// The levels of two subjects are changed.
    LevelsChanged,
    /// An integer column becomes text.
    IntToText,
    /// A column NOT NULL without default is added.
    AddNotNull,
}

/// Where the registry of a pipeline keeps its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Storage {
    /// In a file.
    #[default]
    H2,
    /// In topics.
    Kafkasql,
}

impl Storage {
    pub(super) fn word(self) -> &'static str {
        match self {
            Storage::H2 => "h2",
            Storage::Kafkasql => "kafkasql",
        }
    }
}

/// A file of `scenarios/engine`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// The file's name without its extension.
    #[serde(skip)]
    pub(super) id: String,
    /// What happens, in a sentence.
    #[serde(rename = "title")]
    _title: String,
    /// The table of steps that the command chooses, or `backup`.
    pub(super) table: String,
    /// The command, without `--config`; `{mark}` is a restore point before the fault.
    pub(super) command: String,
    /// What is broken.
    pub(super) fault: Broken,
    /// Where the registry keeps its content.
    #[serde(default)]
    pub(super) registry: Storage,
    /// The only steps that are drilled; all of them where none is named.
    #[serde(default)]
    steps: Vec<String>,
    /// Moments by step that a recovery from this fault does not pass.
    #[serde(default)]
    unreachable: BTreeMap<String, Vec<String>>,
}

/// How the command is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As by `kill -9`.
    Kill,
    /// An error comes up.
    Fail,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Fail => "fail",
        }
    }
}

/// One drill.
#[derive(Clone, Debug)]
pub(super) struct Drill {
    pub(super) scenario: Scenario,
    pub(super) step: String,
    pub(super) moment: String,
    pub(super) kind: Kind,
    /// Whether what the first run remembered is removed: such a drill must come out red, or the comparison is blind.
    pub(super) amnesia: bool,
}

impl fmt::Display for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}:{}", self.scenario.id, self.step, self.moment, self.kind.word())?;
        if self.amnesia { f.write_str(" (record removed)") } else { Ok(()) }
    }
}

/// The scenarios of a folder, by name.
pub(super) fn scenarios() -> Vec<Scenario> {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/engine");
    let mut files: Vec<_> = folder.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
    files.sort();
    files.iter().map(|file| parse(file)).collect()
}

fn parse(file: &Utf8Path) -> Scenario {
    let text = std::fs::read_to_string(file).unwrap();
    let mut scenario: Scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    scenario.id = file.file_stem().unwrap().to_owned();
    let steps = steps_of(&scenario.table);
    assert!(!steps.is_empty(), "{file}: there is no table `{}`", scenario.table);
    for step in scenario.steps.iter().chain(scenario.unreachable.keys()) {
        assert!(
            steps.iter().any(|(known, _)| known == step),
            "{file}: table `{}` has no step `{step}`",
            scenario.table
        );
    }
    for (step, moments) in &scenario.unreachable {
        let (_, known) = steps.iter().find(|(known, _)| known == step).unwrap();
        let strange = moments.iter().find(|moment| !known.contains(moment));
        assert!(strange.is_none(), "{file}: step `{step}` has no moment {strange:?}");
    }
    scenario
}

/// The steps of a table, each with its moments.
fn steps_of(table: &str) -> Vec<(String, Vec<String>)> {
    let owned = |moments: &[&str]| moments.iter().map(|m| (*m).to_owned()).collect();
    if table == "backup" {
        return vec![("backup".to_owned(), owned(&backup::MOMENTS))];
    }
    let tables = declared::tables();
    let steps = tables.iter().find(|(name, _)| *name == table).map(|(_, steps)| steps.as_slice()).unwrap_or_default();
    steps.iter().map(|step| (step.step.to_owned(), owned(&step.moments))).collect()
}

impl Scenario {
    /// Its drills, in the order of the steps.
    pub(super) fn drills(&self) -> Vec<Drill> {
        let mut drills = Vec::new();
        for (step, moments) in steps_of(&self.table) {
            if !self.steps.is_empty() && !self.steps.contains(&step) {
                continue;
            }
            let unreachable = self.unreachable.get(&step).cloned().unwrap_or_default();
            for moment in moments.into_iter().filter(|moment| !unreachable.contains(moment)) {
                for kind in [Kind::Kill, Kind::Fail] {
                    let (scenario, step, moment) = (self.clone(), step.clone(), moment.clone());
                    drills.push(Drill { scenario, step, moment, kind, amnesia: false });
                }
            }
        }
        drills
    }
}

/// Every drill, those of one kind of pipeline together.
pub(super) fn all() -> Vec<Drill> {
    let mut scenarios = scenarios();
    scenarios.sort_by_key(|scenario| scenario.registry);
    scenarios.iter().flat_map(Scenario::drills).collect()
}

/// Drills that must come out red, as their second run knows nothing of the first.
pub(super) fn controls() -> Vec<Drill> {
    let forgotten = |drill: &Drill| {
        let at = (drill.scenario.id.as_str(), drill.step.as_str(), drill.moment.as_str());
        drill.kind == Kind::Kill
            && [
                ("coordinated", "open", "after"),
                ("coordinated", "delete-topics", "half-way"),
                ("slot-purge", "group-offsets", "before"),
                ("slot-purge", "force-snapshot", "after"),
            ]
            .contains(&at)
    };
    let controls: Vec<Drill> = all().into_iter().filter(forgotten).map(|d| Drill { amnesia: true, ..d }).collect();
    assert_eq!(controls.len(), 4, "a control names a moment that is not there");
    controls
}

/// As many drills, chosen by a seed: one of each scenario first, and at least one of each kind.
pub(super) fn sample(count: usize, seed: u64) -> Vec<Drill> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for (index, scenario) in scenarios().iter().enumerate() {
        let mut drills = scenario.drills();
        drills.shuffle(&mut chance);
        // In turns, so that both kinds are there.
        let kind = [Kind::Kill, Kind::Fail][index % 2];
        let chosen = drills.iter().position(|drill| drill.kind == kind).unwrap();
        first.push(drills.remove(chosen));
        others.extend(drills);
    }
    others.shuffle(&mut chance);
    first.extend(others.into_iter().take(count.saturating_sub(first.len())));
    // Together what shares a pipeline's state.
    first.sort_by(|a, b| (a.scenario.registry, &a.scenario.id).cmp(&(b.scenario.registry, &b.scenario.id)));
    first
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_moment_of_every_step_is_drilled_both_ways() {
        let drilled: BTreeSet<(String, String, String, &str)> = all()
            .into_iter()
            .map(|drill| (drill.scenario.table, drill.step, drill.moment, drill.kind.word()))
            .collect();
        let tables = declared::tables();
        let names: Vec<String> =
            tables.iter().map(|(name, _)| (*name).to_owned()).chain(["backup".to_owned()]).collect();
        let mut missing = Vec::new();
        for table in names {
            for (step, moments) in steps_of(&table) {
                assert!(!moments.is_empty(), "{table}: {step} has no moment");
                for moment in moments {
                    for kind in ["kill", "fail"] {
                        let wanted = (table.clone(), step.clone(), moment.clone(), kind);
                        if !drilled.contains(&wanted) {
                            missing.push(wanted);
                        }
                    }
                }
            }
        }
        assert!(missing.is_empty(), "no file of scenarios/engine drills these: {missing:?}");
    }

    #[test]
    fn every_step_of_a_table_has_a_moment_inside() {
        for (table, steps) in declared::tables() {
            for step in steps {
                let inside = &step.moments[1..step.moments.len() - 1];
                assert!(!inside.is_empty(), "{table}: {} cannot be interrupted half done", step.step);
                let names: BTreeSet<_> = step.moments.iter().collect();
                assert_eq!(names.len(), step.moments.len(), "{table}: {}", step.step);
            }
        }
    }

    #[test]
    fn a_sample_has_every_scenario_and_both_kinds_and_is_the_same_again() {
        for seed in 0..20 {
            let chosen = sample(12, seed);
            let names: Vec<String> = chosen.iter().map(Drill::to_string).collect();
            assert_eq!(names.len(), 12);
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 12, "none twice");
            assert!(scenarios().iter().all(|s| chosen.iter().any(|drill| drill.scenario.id == s.id)));
            assert!([Kind::Kill, Kind::Fail].iter().all(|kind| chosen.iter().any(|drill| drill.kind == *kind)));
            assert_eq!(names, sample(12, seed).iter().map(Drill::to_string).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_file_with_an_unknown_key_step_or_moment_is_refused() {
        let good = "title = 't'\ntable = 'sound'\ncommand = 'c'\nfault = 'nothing'\n";
        for (more, part) in [
            ("compare = []\n", "compare"),
            ("steps = ['fence']\n", "no step `fence`"),
            ("[unreachable]\nregistry-equals = ['half-way']\n", "no moment"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = Utf8Path::from_path(folder.path()).unwrap().join("x.toml");
            std::fs::write(&file, format!("{good}{more}")).unwrap();
            let refused = std::panic::catch_unwind(|| parse(&file)).unwrap_err();
            let text = refused.downcast_ref::<String>().unwrap();
            assert!(text.contains(part), "{text}");
        }
    }
}
