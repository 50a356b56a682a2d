//! Stopping connectors, and making sure that they stay stopped.

use super::Pipeline;
use crate::recovery::RecoveryError;
use cdc_model::moment::{self, HALF_WAY};
use cdc_model::units::counted;
use cdc_pipeline::client::{
    connect::{AtRest, ConnectorStatus},
    limits,
};

impl Pipeline {
    /// What was found, in a line.
    pub fn found(&self) -> String {
        let sinks = self.sinks.iter().map(|s| (&s.name, &s.status));
        let all = sinks.chain(self.sources.iter().chain(&self.others).map(|s| (&s.name, &s.status)));
        let state = |name: &String, status: &ConnectorStatus| match self.found.restored.contains_key(name) {
            true => format!("{name}: not on the worker, and made again"),
            false => format!("{name}: {}", status.summary()),
        };
        let states: Vec<String> = all.map(|(name, status)| state(name, status)).collect();
        if states.is_empty() { "no connector reads from this cluster".into() } else { states.join("; ") }
    }

    /// Stops sinks first, so that they apply nothing of what is about to be abandoned, then sources. STOPPED, not PAUSED:
    /// a paused task lives, and owns its slot.
    /// Those that were not on the worker are made first, STOPPED.
    pub async fn stop_connectors(&self) -> Result<(), RecoveryError> {
        for (name, config) in &self.found.restored {
            if !self.connect.exists(name).await? {
                self.connect.create(name, config, AtRest::Stopped.word()).await?;
            }
            // It has no state until a worker has taken it up.
            self.connect.described(name).await?;
        }
        let workers = self.connect.workers().await?;
        futures::future::try_join_all(self.sinks.iter().map(|s| self.stop_one(&s.name))).await?;
        let sources = self.sources.iter().chain(&self.others);
        futures::future::try_join_all(sources.map(|s| self.stop_one(&s.name))).await?;
        if workers > 1 {
            self.connect.settled(self.names(), limits::connectors::STOPPED).await?;
        }
        self.sinks_have_left().await
    }

    async fn stop_one(&self, name: &str) -> Result<(), RecoveryError> {
        self.connect.stopped(name, limits::connectors::STOPPED).await?;
        Ok(moment::pass(HALF_WAY).await?)
    }

    /// Brings every connector into the state in which it was found. `made` says whether those may have been made again that were not on
    /// the worker.
    pub(crate) async fn states_as_found(&self, made: bool) -> Result<Vec<String>, RecoveryError> {
        let sources = self.sources.iter().chain(&self.others).map(|s| (&s.name, &s.status));
        let mut said = Vec::new();
        for (name, found) in sources.chain(self.sinks.iter().map(|s| (&s.name, &s.status))) {
            if self.found.restored.contains_key(name) {
                if !made {
                    continue;
                }
                if self.connect.exists(name).await? {
                    self.connect.delete(name).await?;
                }
                said.push(format!("connector {name} was not on the worker, and is deleted again"));
                continue;
            }
            match found.at_rest() {
                Some(AtRest::Stopped) => {}
                Some(AtRest::Paused) => self.connect.pause(name).await?,
                None => self.connect.resume(name).await?,
            }
            said.push(format!("connector {name} was {} and is told to be so again", found.connector.state));
        }
        Ok(said)
    }

    /// Every source of the cluster, and those of them that were found at rest and are: also of those that the recovery leaves alone.
    pub(crate) async fn resting(&self) -> Result<(Vec<String>, Vec<String>), RecoveryError> {
        let (mut all, mut resting) = (Vec::new(), Vec::new());
        for source in self.all_sources() {
            all.push(source.name.clone());
            if source.status.at_rest().is_some() && self.connect.status(&source.name).await?.at_rest().is_some() {
                resting.push(source.name.clone());
            }
        }
        Ok((all, resting))
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.sinks.iter().map(|s| &s.name).chain(self.sources.iter().chain(&self.others).map(|s| &s.name))
    }

    /// Requires that every connector is STOPPED and has no tasks, of the step that stopped them.
    pub(crate) async fn stopped(&self, step: &str) -> Result<String, RecoveryError> {
        self.at_rest_or(|expected, found| RecoveryError::unmet(step, expected, found)).await
    }

    /// Requires that they still are, of a later step: somebody may have restarted one meanwhile.
    pub(crate) async fn stand_still(&self, step: &str) -> Result<String, RecoveryError> {
        self.at_rest_or(|expected, found| RecoveryError::undone(step, expected, found)).await
    }

    async fn at_rest_or(&self, failed: impl Fn(String, String) -> RecoveryError) -> Result<String, RecoveryError> {
        for status in futures::future::try_join_all(self.names().map(|name| self.connect.status(name))).await? {
            if !status.stands_still() {
                return Err(failed(format!("connector {} STOPPED without tasks", status.name), status.summary()));
            }
        }
        Ok(format!(
            "{} STOPPED without tasks",
            counted(self.sinks.len() + self.sources.len() + self.others.len(), "connector")
        ))
    }
}
