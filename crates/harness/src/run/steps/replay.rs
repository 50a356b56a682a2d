//! Backing up the records of a topic, and recovering topics that lost theirs: stop, replay, position the groups, resume.

use std::time::Instant;

use super::Done;
use crate::{
    run::{Known, RunError, controls::damage, rig::Rig},
    scenario::{Absence, TableRef},
};
use cdc_engine::{
    backup::{
        BackupError,
        topics::{ReplayOptions, Replayed, back_up_topics, plan_replay},
    },
    recovery::{RecoveryError, StepInfo},
};
use cdc_model::{
    event::{StepReport, StepResult, What},
    units::counted,
    vocabulary::Naive,
};
use cdc_pipeline::client::limits;

/// Backs up the records of a table's topic.
pub(super) async fn back_up(rig: &Rig, known: Known<'_>, table: &TableRef) -> Result<Done, RunError> {
    let topic = known.layout().topic(&table.0);
    let backups = back_up_topics(&rig.pipeline.config, &[topic], &|_| {}).await?;
    let said = backups
        .iter()
        .map(|backup| format!("{} with {} of {}", backup.backup, counted(backup.records(), "record"), backup.topic));
    Ok(Done::nothing(said.collect::<Vec<_>>().join(", ")))
}

/// The steps. Groups are positioned by themselves, when every record is there.
const STEPS: [StepInfo; 4] = [
    StepInfo {
        id: "stop-connectors",
        does: "stops the source connectors",
        precondition: "the worker answers",
        postcondition: "every connector STOPPED, no tasks",
    },
    StepInfo {
        id: "replay",
        does: "writes the archived records of each topic that lost them",
        precondition: "the archive is sound; the topic is missing or empty, and nobody writes to it",
        postcondition: "every record read back and equal",
    },
    StepInfo {
        id: "group-offsets",
        does: "commits for each group the position of the record that it would have read next",
        precondition: "every archived record is in its topic, and the groups have no member",
        postcondition: "offsets read back",
    },
    StepInfo {
        id: "resume",
        does: "resumes the source connectors",
        precondition: "the worker answers",
        postcondition: "tasks RUNNING",
    },
];

/// Goes through the steps, without the one that a control leaves out; hands back how many there were, and what a person should know.
pub(super) async fn recover(rig: &Rig, known: Known<'_>) -> Result<(usize, Vec<String>), RecoveryError> {
    let topics: Vec<String> = known.chronicle.held().map(|(topic, _)| topic.to_owned()).collect();
    let mut replaying = Replaying { rig, known, topics, notes: Vec::new() };
    let began = Instant::now();
    for info in STEPS {
        let started_seconds = began.elapsed().as_secs_f64();
        let mut report = StepReport {
            name: info.id.to_owned(),
            destroys: Vec::new(),
            precondition: info.precondition.to_owned(),
            started_seconds,
            seconds: 0.0,
            result: StepResult::Omitted,
            detail: "left out on purpose".to_owned(),
            hooks: Vec::new(),
        };
        let is_left_out = matches!(known.absence(), Some(Absence::Step(step)) if step == info.id);
        let outcome = match is_left_out {
            true => Ok(None),
            false => replaying.take(info.id).await.map(Some),
        };
        report.seconds = began.elapsed().as_secs_f64() - started_seconds;
        match &outcome {
            Ok(None) => {}
            Ok(Some(seen)) => (report.result, report.detail) = (StepResult::Done, seen.clone()),
            Err(error) => (report.result, report.detail) = (StepResult::Failed, error.to_string()),
        }
        rig.emit.emit(What::RecoveryStep(report));
        outcome?;
    }
    Ok((STEPS.len(), replaying.notes))
}

struct Replaying<'r> {
    rig: &'r Rig,
    known: Known<'r>,
    topics: Vec<String>,
    notes: Vec<String>,
}

impl Replaying<'_> {
    async fn take(&mut self, step: &str) -> Result<String, RecoveryError> {
        let (connect, connectors) = (self.rig.pipeline.connect(), self.known.layout().connectors());
        match step {
            "stop-connectors" => {
                for name in &connectors {
                    connect.stopped(name, limits::connectors::STOPPED).await?;
                }
                Ok("STOPPED, no tasks".to_owned())
            }
            "replay" => self.replay().await,
            "group-offsets" => self.position_groups().await,
            _ => {
                for name in &connectors {
                    connect.resume(name).await?;
                    connect.running(name, limits::connectors::RUNNING).await?;
                }
                Ok("tasks RUNNING".to_owned())
            }
        }
    }

    async fn replay(&mut self) -> Result<String, RecoveryError> {
        let config = &self.rig.pipeline.config;
        let mut said = Vec::new();
        for topic in self.topics.clone() {
            let naive = self.known.plan.instead().and_then(|instead| instead.procedure());
            if naive == Some(Naive::DamagedArchive) {
                let repository = &config.repository.path;
                let damaged = damage(repository, &topic);
                damaged.map_err(|cause| BackupError::Io { what: "damage", path: repository.clone(), cause })?;
            }
            let options = ReplayOptions { topic, ..ReplayOptions::default() };
            let Replayed { target, records, found, compared, notes, .. } =
                plan_replay(config, &options).await?.run(&|_, _| {}).await?;
            said.push(format!("{target}: {}, {found} found, {compared} compared", counted(records, "record")));
            self.notes.extend(notes);
        }
        Ok(said.join("; "))
    }

    async fn position_groups(&mut self) -> Result<String, RecoveryError> {
        let config = &self.rig.pipeline.config;
        let mut moved = 0;
        for topic in self.topics.clone() {
            let options = ReplayOptions { topic, groups: true, ..ReplayOptions::default() };
            let planned = plan_replay(config, &options).await?;
            if !planned.is_complete() {
                let expected = format!("topic {} with every record of its archive", planned.target());
                return Err(RecoveryError::unmet("group-offsets", expected, format!("to do: {}", planned.describe())));
            }
            moved += planned.run(&|_, _| {}).await?.groups.len();
        }
        Ok(format!("{} committed", counted(moved, "offset")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Recover, ReplayRecovery, steps_of};

    #[test]
    fn a_control_can_leave_out_each_step() {
        let ids: Vec<&str> = STEPS.iter().map(|step| step.id).collect();
        assert_eq!(steps_of(&Recover::Replay(ReplayRecovery::default())), ids);
    }
}
