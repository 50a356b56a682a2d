//! Sink connectors on the data topics: who is in their groups besides themselves, and how they come back to the states in which they
//! were found.

use super::{Pipeline, found::Sink};
use crate::recovery::RecoveryError;
use cdc_pipeline::client::{
    connect::{AtRest, ConnectorStatus},
    kafka::Group,
    limits, wait,
    wait::Poll,
};

impl Sink {
    /// Whether it had failed when it was found. What fails a sink lies where it writes to: it may fail again, and that is its state
    /// as found.
    fn had_failed(&self) -> bool {
        self.status.at_rest().is_none() && self.status.failure().is_some()
    }

    /// Whether a task of its own had positions when it was found, which it commits at the latest when it is stopped.
    pub(super) fn has_read(&self) -> bool {
        self.status.has_live_task()
    }

    /// How its state differs from the one in which it was found. One that had failed may run as well.
    fn difference(&self, now: &ConnectorStatus) -> Option<Difference> {
        let as_found = match self.status.at_rest() {
            Some(AtRest::Stopped) => now.stands_still(),
            Some(rest) => now.at_rest() == Some(rest),
            None => now.all_running() || (self.had_failed() && now.at_rest().is_none() && now.failure().is_some()),
        };
        match (as_found, self.status.at_rest(), now.failure()) {
            (true, _, _) => None,
            // Of one that is to be at rest only the rest counts.
            (false, None, Some(failure)) => Some(Difference::Lasting(failure)),
            (false, _, _) => Some(Difference::Passing(now.summary())),
        }
    }

    /// The members of its group that are none of its tasks'; `stopped` says whether it has no tasks any more.
    pub(super) fn strangers(&self, group: &Group, stopped: bool) -> Vec<String> {
        if stopped || self.status.at_rest() == Some(AtRest::Stopped) {
            return group.members.clone();
        }
        let default = format!("connector-consumer-{}-", self.name);
        let own = |member: &&String| match self.config.get("consumer.override.client.id") {
            Some(id) => member.starts_with(id.as_str()),
            None => member.starts_with(&default),
        };
        let (own, others): (Vec<&String>, Vec<&String>) = group.members.iter().partition(own);
        // A worker may name all of its consumers otherwise: then the number of tasks is what tells.
        let mut tasks = self.status.tasks.iter().filter(|task| task.state == "RUNNING").count();
        tasks = tasks.saturating_sub(own.len());
        others.into_iter().skip(tasks).cloned().collect()
    }
}

/// How a sink's state differs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Difference {
    /// It may still come.
    Passing(String),
    /// It failed.
    Lasting(String),
}

impl Pipeline {
    /// Waits until nobody is in the groups of the sinks, which are stopped: a broker takes offsets of a group only while it is empty. A
    /// task that died without leaving stays in its group until its session is over.
    pub(super) async fn sinks_have_left(&self) -> Result<(), RecoveryError> {
        if self.sinks.is_empty() {
            return Ok(());
        }
        wait::until("the groups of the stopped sinks without members", limits::connectors::LEFT_GROUP, || async {
            let groups = self.kafka.groups().await?;
            let in_group = groups.iter().find_map(|group| {
                let sink = self.sinks.iter().find(|sink| sink.group == group.name)?;
                let members = sink.strangers(group, true).join(", ");
                (!members.is_empty()).then(|| {
                    format!("{members} in consumer group {} of stopped sink connector {}", group.name, sink.name)
                })
            });
            Ok::<_, RecoveryError>(in_group.map_or(Poll::Ready(()), Poll::NotYet))
        })
        .await?;
        Ok(())
    }

    /// Brings every sink into the state in which it was found. One that fails keeps none of the others from theirs.
    pub(super) async fn release_sinks(&self) -> Result<(), RecoveryError> {
        let told = futures::future::join_all(self.sinks.iter().map(|sink| async {
            match sink.status.at_rest() {
                None => self.connect.resume(&sink.name).await,
                Some(AtRest::Paused) => self.connect.pause(&sink.name).await,
                Some(AtRest::Stopped) => Ok(()),
            }
        }))
        .await;
        let came = futures::future::join_all(self.sinks.iter().map(|sink| self.comes_back(sink))).await;
        told.into_iter().collect::<Result<Vec<()>, _>>()?;
        came.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(())
    }

    /// Waits until a sink is in the state in which it was found; hands back that state.
    async fn comes_back(&self, sink: &Sink) -> Result<ConnectorStatus, RecoveryError> {
        let state = sink.status.at_rest().map_or("RUNNING", AtRest::word);
        let status = wait::until(
            &format!("sink connector {} {state}, as found", sink.name),
            limits::connectors::RUNNING,
            || async {
                let status = self.connect.status(&sink.name).await?;
                Ok::<_, RecoveryError>(match sink.difference(&status) {
                    None => Poll::Ready(status),
                    Some(Difference::Passing(seen)) => Poll::NotYet(seen),
                    Some(Difference::Lasting(failure)) => Poll::Hopeless(failure),
                })
            },
        )
        .await?;
        Ok(status)
    }

    /// Requires that each sink is in the state in which it was found; says which of them have failed again.
    pub(super) async fn sinks_as_found(&self) -> Result<String, RecoveryError> {
        let mut said = String::new();
        for sink in &self.sinks {
            let status = self.comes_back(sink).await?;
            if let (true, Some(failure)) = (sink.had_failed(), status.failure()) {
                said += &format!("; sink connector {} has failed again, as it was found: {failure}", sink.name);
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;
    use cdc_pipeline::client::connect::{ConnectorConfig, StateOf, TaskState};

    fn status(connector: &str, tasks: &[&str]) -> ConnectorStatus {
        let task = |(id, state): (usize, &&str)| TaskState { id: id as u32, state: (*state).into(), trace: None };
        ConnectorStatus {
            name: "files".into(),
            connector: StateOf { state: connector.into(), trace: None },
            tasks: tasks.iter().enumerate().map(task).collect(),
            kind: "sink".into(),
        }
    }

    fn sink(status: ConnectorStatus, config: &[(&str, &str)]) -> Sink {
        let config: ConnectorConfig = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Sink { name: status.name.clone(), config, status, group: "connect-files".into(), topics: Vec::new() }
    }

    #[rstest]
    #[case::runs("RUNNING", &["RUNNING"], "RUNNING", &["RUNNING"], "as found")]
    #[case::not_yet("RUNNING", &["RUNNING"], "RUNNING", &[], "passing")]
    #[case::stays_stopped("RUNNING", &["RUNNING"], "STOPPED", &[], "passing")]
    #[case::fails("RUNNING", &["RUNNING"], "RUNNING", &["FAILED"], "lasting")]
    #[case::one_of_two_fails("RUNNING", &["RUNNING", "RUNNING"], "RUNNING", &["RUNNING", "FAILED"], "lasting")]
    #[case::fails_again("RUNNING", &["FAILED"], "RUNNING", &["FAILED"], "as found")]
    #[case::had_failed_and_runs("RUNNING", &["FAILED"], "RUNNING", &["RUNNING"], "as found")]
    #[case::had_failed_and_stays_stopped("RUNNING", &["FAILED"], "STOPPED", &[], "passing")]
    #[case::paused("PAUSED", &["PAUSED"], "PAUSED", &["PAUSED"], "as found")]
    #[case::paused_with_a_failed_task("PAUSED", &["FAILED"], "PAUSED", &["PAUSED"], "as found")]
    #[case::paused_is_started("PAUSED", &["PAUSED"], "RUNNING", &["RUNNING"], "passing")]
    #[case::paused_is_started_and_fails("PAUSED", &["PAUSED"], "RUNNING", &["FAILED"], "passing")]
    #[case::stopped("STOPPED", &[], "STOPPED", &[], "as found")]
    #[case::stopped_is_started("STOPPED", &[], "RUNNING", &["RUNNING"], "passing")]
    fn a_sink_comes_back_to_its_state_as_found(
        #[case] found: &str,
        #[case] found_tasks: &[&str],
        #[case] now: &str,
        #[case] now_tasks: &[&str],
        #[case] expected: &str,
    ) {
        let word = match sink(status(found, found_tasks), &[]).difference(&status(now, now_tasks)) {
            None => "as found",
            Some(Difference::Passing(_)) => "passing",
            Some(Difference::Lasting(_)) => "lasting",
        };
        assert_eq!(word, expected);
    }

    #[rstest]
    #[case::its_task("RUNNING", &["RUNNING"], &[], &["connector-consumer-files-0@/h"], &[])]
    #[case::a_person("RUNNING", &["RUNNING"], &[], &["connector-consumer-files-0@/h", "kcat@/h"], &["kcat@/h"])]
    #[case::beside_a_failed_task("RUNNING", &["FAILED"], &[], &["kcat@/h"], &["kcat@/h"])]
    #[case::beside_a_paused_one("PAUSED", &["PAUSED"], &[], &["connector-consumer-files-0@/h", "kcat@/h"], &["kcat@/h"])]
    #[case::stopped("STOPPED", &[], &[], &["connector-consumer-files-0@/h"], &["connector-consumer-files-0@/h"])]
    #[case::named_by_the_worker("RUNNING", &["RUNNING"], &[], &["worker-7@/h"], &[])]
    #[case::named_by_the_connector("RUNNING", &["RUNNING"], &[("consumer.override.client.id", "mine")], &["mine@/h"], &[])]
    fn members_of_a_sink_s_group_are_its_tasks_or_strangers(
        #[case] state: &str,
        #[case] tasks: &[&str],
        #[case] config: &[(&str, &str)],
        #[case] members: &[&str],
        #[case] strangers: &[&str],
    ) {
        let group = Group {
            name: "connect-files".into(),
            state: "Stable".into(),
            members: members.iter().map(|m| (*m).to_owned()).collect(),
            topics: BTreeSet::new(),
            untold: None,
        };
        let sink = sink(status(state, tasks), config);
        assert_eq!(sink.strangers(&group, false), strangers);
        assert_eq!(sink.strangers(&group, true), members, "it has no tasks any more");
    }
}
