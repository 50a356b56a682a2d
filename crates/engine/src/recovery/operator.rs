//! The bracket around a recovery that keeps an operator from undoing it.

use super::{
    Recovered, RecoveryError,
    memory::{Memory, Place},
    pipeline::Pipeline,
};
use crate::backup::ClusterName;
use cdc_model::units::Verdict;
use cdc_pipeline::config::{Concerned, Config, OperatorConfig};

/// The hooks, and whom they concern.
pub(super) struct Operator {
    hooks: Option<OperatorConfig>,
    concerned: Concerned,
}

impl Operator {
    pub(super) fn of(config: &Config, pipeline: &Pipeline) -> Operator {
        let sources = pipeline.sources.iter().chain(&pipeline.others).map(|s| s.name.clone());
        let connectors = sources.chain(pipeline.sinks.iter().map(|s| s.name.clone())).collect();
        let topics = pipeline.topics.iter().map(|t| t.name.clone()).collect();
        Operator { hooks: config.recovery.operator.clone(), concerned: Concerned { connectors, topics } }
    }

    /// Keeps it away. Where that fails it is let back: nothing is begun.
    pub(super) async fn hold(&self) -> Result<(), RecoveryError> {
        let Some(hooks) = &self.hooks else { return Ok(()) };
        if let Err(error) = hooks.hold(&self.concerned).await {
            self.release_or_say().await;
            return Err(error.into());
        }
        Ok(())
    }

    /// Lets it back. Says what was done, where there are hooks.
    pub(super) async fn release(&self) -> Result<Option<String>, RecoveryError> {
        let Some(hooks) = &self.hooks else { return Ok(None) };
        hooks.release(&self.concerned).await?;
        Ok(Some("the operator is let back: [recovery.operator] release".to_owned()))
    }

    async fn release_or_say(&self) {
        if let Err(error) = self.release().await {
            tracing::warn!("the operator may still be kept away: {error}");
        }
    }

    /// What a run becomes. The operator stays away from a recovery that is unfinished, and comes back otherwise; where it does not, a person has to
    /// see to that.
    pub(super) async fn after(
        &self,
        ran: Result<Recovered, RecoveryError>,
        place: &Place,
        cluster: &ClusterName,
    ) -> Result<Recovered, RecoveryError> {
        match ran {
            Ok(mut recovered) => {
                if let Err(error) = self.release().await {
                    let outcome = &mut recovered.outcome;
                    outcome.verdict = outcome.verdict.and(Verdict::Inconclusive);
                    outcome
                        .findings
                        .push(format!("every step ended, and the operator may still be kept away: {error}"));
                }
                Ok(recovered)
            }
            Err(error) => {
                if is_over(place.unfinished(cluster)) {
                    self.release_or_say().await;
                }
                Err(error)
            }
        }
    }
}

/// Where that cannot be told, somebody else may be at work.
fn is_over(unfinished: Result<Option<Memory>, RecoveryError>) -> bool {
    matches!(unfinished, Ok(None))
}
