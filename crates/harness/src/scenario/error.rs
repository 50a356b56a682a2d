//! Mistakes in scenarios, each shown where it stands.

use std::fmt;

use camino::Utf8PathBuf;

use cdc_model::units::{Exit, Failure, Hint};

/// One step on the way to a value: `variants`, `logical-disaster`, `steps`, `3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seg {
    /// Into a mapping, by key.
    Key(String),
    /// Into a list, from 0.
    Index(usize),
}

impl From<&str> for Seg {
    fn from(key: &str) -> Self {
        Seg::Key(key.to_owned())
    }
}

impl From<usize> for Seg {
    fn from(index: usize) -> Self {
        Seg::Index(index)
    }
}

/// A mistake in a scenario that reads well: where in the scenario, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The way to the value; where it is absent in the file, the nearest value around it is shown.
    pub path: Vec<Seg>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// A mistake with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1; 0 when the scenario did not come from text.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The line's text.
    pub text: String,
    /// The way to the value, for scenarios that did not come from text.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// A scenario that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("read scenario {path}: {cause}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Neither a file nor a known id.
    #[error("scenario `{wanted}`: neither a file nor the id of a scenario")]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// The ids that are there.
        known: String,
    },
    /// A folder with a plugin that is not there.
    #[error("{file}: plugin folder `{path}` is nowhere")]
    NoPlugin {
        /// The scenario's file.
        file: Utf8PathBuf,
        /// The folder as it is named there.
        path: Utf8PathBuf,
    },
    /// Nothing to run.
    #[error("no scenario in {place}: expected *.yaml files")]
    Nothing {
        /// Where was looked.
        place: Utf8PathBuf,
    },
    /// The file has mistakes; all of them.
    #[error("{}", show(.file, .mistakes))]
    Invalid {
        /// The file, or the id of a scenario that did not come from a file.
        file: Utf8PathBuf,
        /// Every mistake, in the file's order.
        mistakes: Vec<Mistake>,
    },
}

impl Failure for ScenarioError {
    fn exit(&self) -> Exit {
        match self {
            ScenarioError::Read { .. }
            | ScenarioError::Unknown { .. }
            | ScenarioError::Nothing { .. }
            | ScenarioError::NoPlugin { .. }
            | ScenarioError::Invalid { .. } => Exit::Invalid,
        }
    }

    /// The hint at a mistake stands where the mistake is shown.
    fn hints(&self) -> Vec<Hint> {
        match self {
            ScenarioError::Read { .. } => vec!["`cdc-drill scenario list` shows the scenarios that are there".into()],
            ScenarioError::Unknown { known, .. } => vec![format!("known ids: {known}").into()],
            ScenarioError::NoPlugin { .. } => {
                vec!["folders are looked up beside the scenario file, and in the folders above it".into()]
            }
            ScenarioError::Nothing { .. } => vec!["name a file, or run where scenarios/recovery/ is".into()],
            ScenarioError::Invalid { .. } => Vec::new(),
        }
    }

    fn is_transient(&self) -> bool {
        false
    }
}

/// The file, then each mistake with its line and a caret under the column.
fn show(file: &Utf8PathBuf, mistakes: &[Mistake]) -> String {
    let shown: Vec<String> = mistakes.iter().map(|m| m.show(file.as_str())).collect();
    shown.join("\n\n")
}

impl Mistake {
    fn show(&self, file: &str) -> String {
        let mut out = match self.line {
            0 => format!("{file}: {}: {}", self.path, self.message),
            line => format!("{file}:{line}:{}: {}", self.column, self.message),
        };
        if self.line > 0 && !self.text.trim().is_empty() {
            let gutter = self.line.to_string();
            let pad = " ".repeat(gutter.len());
            let caret = " ".repeat(self.column.saturating_sub(1));
            out.push_str(&format!("\n  {gutter} | {}\n  {pad} | {caret}^", self.text.trim_end()));
        }
        if !self.hint.is_empty() {
            out.push_str(&format!("\n  hint: {}", self.hint));
        }
        out
    }
}

/// The way to a value as one text: `variants.logical-disaster.steps[3]`.
pub(super) fn dotted(path: &[Seg]) -> String {
    let mut out = String::new();
    for seg in path {
        match seg {
            Seg::Key(key) if out.is_empty() => out.push_str(key),
            Seg::Key(key) => out.push_str(&format!(".{key}")),
            Seg::Index(index) => out.push_str(&format!("[{index}]")),
        }
    }
    out
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (hint: {})", dotted(&self.path), self.message, self.hint)
    }
}
