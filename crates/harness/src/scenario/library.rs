//! Where scenarios and what they name come from: files first, then what the program carries.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    builtin,
    error::ScenarioError,
    model::Scenario,
    parse::parse,
    plan::{Fixture, Plan},
};

/// A place to look for scenarios and their files: a folder with `scenarios/` and `fixtures/`, which may have neither.
#[derive(Clone, Debug)]
pub struct Library {
    root: Utf8PathBuf,
}

/// A scenario that was read and found good.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Where it came from: a file, or a path within the program.
    pub file: Utf8PathBuf,
    /// The scenario as the file has it.
    pub scenario: Scenario,
    /// Its drills, resolved when it was read.
    pub(super) plan: Plan,
}

/// The scenarios that `run` takes when none is named.
const DEFAULT_FOLDER: &str = "scenarios/recovery";

impl Library {
    /// Looks in a folder first.
    pub fn new(root: impl Into<Utf8PathBuf>) -> Library {
        Library { root: root.into() }
    }

    /// Looks in the working folder first.
    pub fn here() -> Library {
        Library::new(".")
    }

    /// Reads the scenarios that are asked for, each by file or by id; all recovery drills when none is. Ends at the first
    /// file that cannot be used.
    pub fn load(&self, wanted: &[String]) -> Result<Vec<Loaded>, ScenarioError> {
        if wanted.is_empty() {
            return self.sources(DEFAULT_FOLDER)?.into_iter().map(|(file, text)| self.parsed(file, &text)).collect();
        }
        wanted.iter().map(|w| self.one(w)).collect()
    }

    /// Reads all scenarios that are there.
    pub fn all(&self) -> Result<Vec<Loaded>, ScenarioError> {
        self.sources("scenarios")?.into_iter().map(|(file, text)| self.parsed(file, &text)).collect()
    }

    /// Reads one scenario, by file or by id.
    pub fn one(&self, wanted: &str) -> Result<Loaded, ScenarioError> {
        let path = Utf8Path::new(wanted);
        if path.is_file() || wanted.contains('/') || wanted.ends_with(".yaml") || wanted.ends_with(".yml") {
            let text = match std::fs::read_to_string(path) {
                Ok(text) => text,
                Err(cause) => match builtin::SCENARIOS.iter().find(|(p, _)| *p == wanted) {
                    Some((_, text)) => (*text).to_owned(),
                    None => return Err(ScenarioError::Read { path: path.to_owned(), cause }),
                },
            };
            return self.parsed(path.to_owned(), &text);
        }
        let all = self.sources("scenarios")?;
        let id_of = |file: &Utf8Path| file.file_stem().unwrap_or_default().to_owned();
        if let Some((file, text)) = all.iter().find(|(file, _)| id_of(file) == wanted) {
            return self.parsed(file.clone(), text);
        }
        // A file may be named otherwise than its scenario.
        for (file, text) in &all {
            if let Ok(loaded) = self.parsed(file.clone(), text)
                && loaded.scenario.id == wanted
            {
                return Ok(loaded);
            }
        }
        let known: Vec<String> = all.iter().map(|(file, _)| id_of(file)).collect();
        Err(ScenarioError::Unknown { wanted: wanted.to_owned(), known: known.join(", ") })
    }

    /// Reads a scenario from text; `file` is where it came from, for messages and for what it names.
    pub fn parsed(&self, file: Utf8PathBuf, text: &str) -> Result<Loaded, ScenarioError> {
        let (scenario, mut plan) = parse(&file, text, &|path| self.fixture(&file, path))?;
        let plugins = self.plugins(&file, &scenario)?;
        let folder = file.parent().unwrap_or(Utf8Path::new(""));
        let folder = folder.canonicalize_utf8().unwrap_or_else(|_| folder.to_owned());
        for drill in &mut plan.drills {
            drill.folder.clone_from(&folder);
            for plugin in &mut drill.stack.plugins {
                plugin.clone_from(&plugins[plugin.as_path()]);
            }
        }
        Ok(Loaded { file, scenario, plan })
    }

    /// Where the plugin folders that a scenario names are.
    fn plugins(
        &self,
        file: &Utf8Path,
        scenario: &Scenario,
    ) -> Result<BTreeMap<Utf8PathBuf, Utf8PathBuf>, ScenarioError> {
        let stacks = scenario.variants.iter().map(|(_, variant)| &variant.stack).chain([&scenario.stack]);
        let found = stacks.flat_map(|stack| &stack.connect.plugins).map(|path| match self.folder(file, path) {
            Some(found) => Ok((path.clone(), found)),
            None => Err(ScenarioError::NoPlugin { file: file.to_owned(), path: path.clone() }),
        });
        found.collect()
    }

    /// The scenario files below a folder, or the built-in ones when there is no such folder; sorted, with their text.
    fn sources(&self, folder: &str) -> Result<Vec<(Utf8PathBuf, String)>, ScenarioError> {
        let dir = self.root.join(folder);
        if !dir.is_dir() {
            return Ok(builtin::SCENARIOS.iter().map(|(p, t)| (Utf8PathBuf::from(*p), (*t).to_owned())).collect());
        }
        let mut files = Vec::new();
        yaml_files(&dir, &mut files)?;
        if files.is_empty() {
            return Err(ScenarioError::Nothing { place: dir });
        }
        // The built-in order, which is the order of the drills in every report; files of a person's own come after.
        let rank = |file: &Utf8PathBuf| {
            let own = builtin::SCENARIOS.iter().position(|(p, _)| file.ends_with(p));
            own.unwrap_or(builtin::SCENARIOS.len())
        };
        files.sort_by(|a, b| (rank(a), a).cmp(&(rank(b), b)));
        let read = |path: Utf8PathBuf| match std::fs::read_to_string(&path) {
            Ok(text) => Ok((path.strip_prefix("./").map(Utf8Path::to_owned).unwrap_or(path), text)),
            Err(cause) => Err(ScenarioError::Read { path, cause }),
        };
        files.into_iter().map(read).collect()
    }

    /// A folder that a scenario names: beside its file, then in each folder above it, then from the root.
    fn folder(&self, scenario: &Utf8Path, path: &Utf8Path) -> Option<Utf8PathBuf> {
        let above = scenario.ancestors().skip(1).map(|folder| folder.join(path));
        let mut places = above.chain([self.root.join(path)]);
        places.find(|p| p.is_dir()).and_then(|p| p.canonicalize_utf8().ok())
    }

    /// What a scenario names: beside its file, then in each folder above it, then from the root, then built in.
    pub fn fixture(&self, scenario: &Utf8Path, path: &Utf8Path) -> Option<Fixture> {
        let above = scenario.ancestors().skip(1).map(|folder| folder.join(path));
        let places = above.chain([self.root.join(path)]);
        let on_disk = places.into_iter().find_map(|p| std::fs::read_to_string(p).ok());
        let text = on_disk.or_else(|| {
            let carried = builtin::FIXTURES.iter().find(|(p, _)| Utf8Path::new(p) == path);
            carried.map(|(_, text)| (*text).to_owned())
        })?;
        Some(Fixture { path: path.to_owned(), text })
    }
}

impl Loaded {
    /// The scenario's drills; `seed` wins over the scenario's own.
    pub fn plan(&self, seed: Option<u64>) -> Plan {
        self.plan.clone().seeded(seed)
    }
}

/// How deep scenario folders nest; a loop of links ends here.
const DEPTH_MAX: usize = 4;

fn yaml_files(dir: &Utf8Path, into: &mut Vec<Utf8PathBuf>) -> Result<(), ScenarioError> {
    let mut folders = vec![(dir.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let failed = |cause| ScenarioError::Read { path: folder.clone(), cause };
        for entry in folder.read_dir_utf8().map_err(failed)? {
            let path = entry.map_err(failed)?.into_path();
            if path.is_dir() && depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if matches!(path.extension(), Some("yaml" | "yml")) {
                into.push(path);
            }
        }
    }
    Ok(())
}
