//! How far the recovery of a cluster is that did not end, by its record alone: nothing is asked, nothing is changed.

use camino::Utf8PathBuf;
use serde::Serialize;

use super::{
    RecoveryError, Request,
    coordinated::STEPS,
    leftovers::set_aside,
    memory::{self, Asked, ClusterName},
};
use crate::{backup::Repository, config::Config};

/// A recovery that did not end.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its id.
    pub id: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// The folder of its record.
    pub record: Utf8PathBuf,
    /// What it was asked for.
    asked: Asked,
    /// The steps that began, in their order.
    pub steps: Vec<StepStatus>,
    /// What is set aside, and where.
    pub set_aside: Vec<Utf8PathBuf>,
}

/// How far a step is.
#[derive(Clone, Debug, Serialize)]
pub struct StepStatus {
    /// The step.
    pub name: String,
    /// Whether its postcondition was read back by the last run that began it.
    pub ended: bool,
}

impl Status {
    /// What it was asked for, in words.
    pub fn request(&self) -> String {
        self.asked.in_words()
    }
}

/// The recovery of this cluster that did not end, if there is one.
pub fn status(config: &Config) -> Result<Option<Status>, RecoveryError> {
    let repository = Repository::open(&config.repository.path)?;
    let Some(memory) = memory::unfinished(&repository, &ClusterName::of(config))? else { return Ok(None) };
    let place = |name: &str| STEPS.iter().position(|step| step.id == name).unwrap_or(STEPS.len());
    let mut begun: Vec<&str> = memory.steps_begun().collect();
    begun.sort_by_key(|name| place(name));
    let steps = begun.into_iter().map(|name| StepStatus { name: name.to_owned(), ended: memory.ended_step(name) });
    Ok(Some(Status {
        id: memory.id().to_owned(),
        began: memory.began().to_owned(),
        record: memory.folder().to_owned(),
        asked: memory.asked().clone(),
        steps: steps.collect(),
        set_aside: set_aside(&memory)?.into_iter().map(|(_, path)| path).collect(),
    }))
}

/// What the recovery that did not end was asked for: the request to go on with.
pub fn unfinished_request(config: &Config, accept_loss: bool) -> Result<Request, RecoveryError> {
    let repository = Repository::open(&config.repository.path)?;
    match memory::unfinished(&repository, &ClusterName::of(config))? {
        Some(memory) => memory.asked().request(accept_loss),
        None => Err(RecoveryError::impossible(
            format!("repository {}", repository.path()),
            "a recovery of this cluster that did not end",
            "none",
            "`recover run` begins one",
        )),
    }
}
