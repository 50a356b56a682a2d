//! Stopping connectors, and making sure that they stay stopped.

use super::Pipeline;
use crate::{client::limits, recovery::RecoveryError};

impl Pipeline {
    /// What was found, in a line.
    pub(crate) fn found(&self) -> String {
        let sinks = self.sinks.iter().map(|s| (&s.name, &s.status));
        let all = sinks.chain(self.sources.iter().chain(&self.others).map(|s| (&s.name, &s.status)));
        let states: Vec<String> = all.map(|(name, status)| format!("{name}: {}", status.summary())).collect();
        if states.is_empty() { "no connector reads from this cluster".into() } else { states.join("; ") }
    }

    /// Stops sinks first, so that they apply nothing of what is about to be abandoned, then sources. STOPPED, not PAUSED:
    /// a paused task lives, and owns its slot.
    pub(crate) async fn stop_connectors(&self) -> Result<(), RecoveryError> {
        let workers = self.connect.workers().await?;
        let sinks = self.sinks.iter().map(|s| self.connect.stopped(&s.name, limits::connectors::STOPPED));
        futures::future::try_join_all(sinks).await?;
        let sources =
            self.sources.iter().chain(&self.others).map(|s| self.connect.stopped(&s.name, limits::connectors::STOPPED));
        futures::future::try_join_all(sources).await?;
        if workers > 1 {
            self.connect.settled(self.names(), limits::connectors::STOPPED).await?;
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.sinks.iter().map(|s| &s.name).chain(self.sources.iter().chain(&self.others).map(|s| &s.name))
    }

    /// Requires that every connector is STOPPED and has no tasks; somebody may have restarted one meanwhile.
    pub(crate) async fn stand_still(&self, step: &str) -> Result<String, RecoveryError> {
        for status in futures::future::try_join_all(self.names().map(|name| self.connect.status(name))).await? {
            if !status.stands_still() {
                return Err(RecoveryError::unmet(
                    step,
                    format!("connector {} STOPPED without tasks", status.name),
                    status.summary(),
                ));
            }
        }
        Ok(format!("{} connectors STOPPED without tasks", self.sinks.len() + self.sources.len() + self.others.len()))
    }
}
