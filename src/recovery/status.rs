//! How far the recovery of a cluster is that did not end, by its record alone: nothing is asked, nothing is changed.

use camino::Utf8PathBuf;
use serde::Serialize;

use super::{
    RecoveryError, Request,
    leftovers::set_aside,
    memory::{Asked, the_unfinished, unfinished_of},
};
use crate::config::Config;

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
    let Some(memory) = unfinished_of(config)? else { return Ok(None) };
    let steps = memory.steps_begun().map(|name| StepStatus { name: name.to_owned(), ended: memory.ended_step(name) });
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
    the_unfinished(config)?.asked().request(accept_loss)
}
