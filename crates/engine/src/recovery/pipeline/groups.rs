//! What must hold of consumer groups before topics and offsets are touched.

use super::{
    Pipeline,
    active::{ActiveGroup, groups_on, readers},
};
use crate::recovery::RecoveryError;
use cdc_model::units::counted;

impl Pipeline {
    /// Requires that nobody but the sinks, which will be stopped, reads the topics that are deleted: a consumer keeps its
    /// position and would skip that many records of the new topic. Groups of which nobody can tell are named.
    pub(crate) fn refuse_active(&self) -> Result<(), RecoveryError> {
        let (reader, untold) = readers(&self.active, &self.topics);
        if !untold.is_empty() {
            tracing::warn!(
                "whether these groups read the data topics cannot be told; stop what does: {}",
                untold.join(", ")
            );
        }
        match reader {
            None => Ok(()),
            Some(group) => Err(RecoveryError::impossible(
                format!("consumer group {}", group.name),
                "no active member on the data topics: its position would skip records of the new topics",
                group.seen(),
                "stop these consumers; they resume from the beginning of the new topics",
            )),
        }
    }

    /// Requires, besides connectors that stand still, the same of now: between the plan and the topics' end lies the
    /// restore, which may take hours.
    pub(crate) async fn unread(&self, step: &str) -> Result<String, RecoveryError> {
        self.refuse_shared()?;
        let still = self.stand_still(step).await?;
        let active = self.active_now().await?;
        match readers(&active, &self.topics) {
            (None, untold) if untold.is_empty() => Ok(format!("{still}; no group reads the data topics")),
            (None, untold) => {
                Ok(format!("{still}; no group is seen to read the data topics; not told of: {}", untold.join(", ")))
            }
            (Some(group), _) => Err(group.in_the_way(step)),
        }
    }

    /// Requires that the groups whose offsets are set have no members: a broker takes offsets for such a group only from
    /// them. One that came to the new topics otherwise is no obstacle any more.
    pub(crate) async fn groups_at_rest(&self, step: &str) -> Result<String, RecoveryError> {
        let still = self.stand_still(step).await?;
        let active = self.active_now().await?;
        let ours = |g: &&ActiveGroup| g.untold.is_none() && self.groups.iter().any(|o| o.name == g.name);
        match active.iter().find(ours) {
            None => Ok(format!("{still}; {} without an active member", counted(self.groups.len(), "group"))),
            Some(group) => Err(group.in_the_way(step)),
        }
    }

    async fn active_now(&self) -> Result<Vec<ActiveGroup>, RecoveryError> {
        let there = self.kafka.topics().await?;
        Ok(groups_on(&self.kafka, &self.topics, &there, &self.sinks, true).await?.1)
    }
}
