//! What a repair knows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    backup::{Origin, Point, PointSelector, Repository},
    recovery::{
        RecoveryError, Request,
        memory::{Kept, Memory},
        pipeline::{Found, Pipeline},
        schema::{SchemaPlan, differences, is_put_back},
        shortlist::Shortlist,
        step::GoesOn,
        steps::OverPipeline,
    },
};
use cdc_model::units::{Offset, PointId, Subject, TopicPartition};
use cdc_pipeline::{
    client::{ClientError, kafka::Kafka, postgres::Postgres},
    config::Config,
};

/// Under which name the record has the epoch's cut.
const EPOCH_CUT: &str = "epoch-cut";
/// The same of what the schema playbook is about.
const SCHEMA: &str = "schema";

/// The state of the slot and schema playbooks.
pub struct Repair {
    /// What is repaired, as it was found.
    pub pipeline: Pipeline,
    pub(crate) request: Request,
    /// The recovery point, where there is one.
    pub point: Option<Point>,
    /// What was diagnosed, for a person.
    pub(crate) findings: Vec<String>,
    /// What the diagnosis could not answer, and why.
    pub(crate) not_looked_at: Vec<String>,
    /// The recovery's record; a plan has none.
    memory: Option<Memory>,
    /// Where the topics ended when the connectors were resumed.
    pub(crate) cut: Kept<Vec<(TopicPartition, Offset)>>,
    /// Whether an earlier run came as far as connectors that stream from complete snapshots.
    resumed: bool,
    /// Whether an earlier run has put the registry's store back: it was in use since, and is looked at anew.
    put_back: bool,
    /// What a registry step did.
    pub registry_note: String,
    /// Keys that were deleted from the topics.
    pub(crate) compensated: u64,
    /// What the schema playbook is about.
    pub(crate) schema: Kept<Option<SchemaPlan>>,
}

impl Repair {
    /// Looks at the pipeline of a live server; at what is not in the record, where a recovery goes on.
    pub(crate) async fn look(
        config: &Config,
        request: &Request,
        record: Option<&Memory>,
    ) -> Result<Repair, RecoveryError> {
        let repository = Repository::of(&config.repository)?;
        repository.unlock()?;
        let server = Postgres::connect(&config.postgres.url, "cdc-drill-recovery").await.map_err(|e| match e {
            refused @ ClientError::Answer { .. } => RecoveryError::from(refused),
            silent => RecoveryError::impossible(
                "the source server",
                "a server that answers",
                silent.to_string(),
                "a dead or damaged server needs `recover run coordinated`",
            ),
        })?;
        let (point, notes) = match record {
            // The one that was chosen then, and agreed to.
            Some(memory) => (recorded_point(&repository, memory)?, Vec::new()),
            None => {
                let kafka = Kafka::of(&config.kafka)?.own_cluster_id().await?;
                let origin = Origin { system_id: Some(server.system_id().await?), kafka: Some(kafka), registry: None };
                let mut shortlist = Shortlist::of(&repository, request, &origin)?;
                let point = shortlist.newest_intact(&repository, request, &origin)?;
                let notes = match &point {
                    Some(point) => shortlist.notes(point.id()),
                    None => shortlist.others(),
                };
                (point, notes)
            }
        };
        let mut pipeline = match record {
            Some(memory) => Pipeline::of(config, memory.found::<Found>()?)?,
            None => Pipeline::discover(config, request, Some(&server), point.as_ref()).await?,
        };
        if !request.connectors.is_empty() {
            pipeline.narrow(&request.connectors.iter().cloned().collect(), false);
        }
        Ok(Repair {
            pipeline,
            request: request.clone(),
            point,
            findings: notes,
            not_looked_at: Vec::new(),
            memory: record.cloned(),
            cut: Kept::of(EPOCH_CUT, record)?,
            resumed: false,
            put_back: false,
            registry_note: String::new(),
            compensated: 0,
            schema: Kept::of(SCHEMA, record)?,
        })
    }

    /// The subjects that the repair may change. A registry with damage may have to be filled anew as a whole.
    pub(crate) fn touched_subjects(&self) -> Vec<Subject> {
        let Some(schema) = &*self.schema else { return Vec::new() };
        let mut subjects = schema.refused.clone();
        if !differences(&schema.wanted, &schema.found).is_empty() {
            let all = schema.wanted.subjects.iter().chain(&schema.found.subjects);
            subjects.extend(all.map(|s| s.subject.clone()));
        }
        subjects
    }

    /// The record; a plan has none and runs no step.
    pub(crate) fn memory(&self, step: &str) -> Result<Memory, RecoveryError> {
        self.memory.clone().ok_or_else(|| RecoveryError::unmet(step, "a record of the recovery", "none"))
    }

    /// From here on what is learned is written down.
    pub(crate) fn keep_in(&mut self, memory: &Memory) -> Result<(), RecoveryError> {
        self.cut.keep_in(memory);
        self.schema.keep_in(memory);
        self.memory = Some(memory.clone());
        // What was planned for the registry is a part of what was decided.
        self.schema.change(|_| {})
    }

    /// Whether an earlier run of this recovery began the step.
    pub(crate) fn began_before(&self, step: &str) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.began_step(step))
    }

    /// Looks how far an earlier run came. Behind a complete snapshot topics are filled, groups have moved on and slots are there:
    /// what came before must not be done again.
    pub(crate) async fn look_how_far(&mut self, memory: &Memory) -> Result<(), RecoveryError> {
        let rested = memory.began_step("restore-config");
        self.put_back = is_put_back(memory)?;
        self.resumed = memory.began_step("resume") && self.pipeline.has_resumed(true, rested).await?;
        Ok(())
    }
}

/// What was chosen for a repair, as it is written down.
#[derive(Serialize, Deserialize)]
pub(crate) struct Decided {
    /// The name of its steps.
    pub(crate) table: String,
    /// The recovery point, where there is one.
    pub(crate) point: Option<PointId>,
    /// The connectors whose topics are rebuilt.
    pub(crate) sources: BTreeSet<String>,
    /// Whether the others are stopped meanwhile.
    pub(crate) hold: bool,
    pub(crate) findings: Vec<String>,
    pub(crate) not_looked_at: Vec<String>,
}

fn recorded_point(repository: &Repository, memory: &Memory) -> Result<Option<Point>, RecoveryError> {
    let decided: Decided = memory.decided()?;
    decided.point.map(|id| Ok(repository.point(&PointSelector::Id(id))?)).transpose()
}

/// Whether a record is of a repair: what was decided names a list of steps, whatever playbook was asked for.
pub(crate) fn is_of_repair(memory: &Memory) -> Result<bool, RecoveryError> {
    Ok(memory.decided::<serde_json::Value>()?.get("table").is_some())
}

impl OverPipeline for Repair {
    fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    fn point(&self) -> Option<&Point> {
        self.point.as_ref()
    }

    fn keep_cut(&mut self, ends: Vec<(TopicPartition, Offset)>) -> Result<(), RecoveryError> {
        self.cut.change(|cut| *cut = ends)
    }
}

impl GoesOn for Repair {
    fn is_done(&self, step: &str) -> Option<&'static str> {
        // The registry is half repaired since: what it was is in the record.
        if step == "dump-broken" && self.began_before("repair-registry") && !self.put_back {
            return Some("the registry as it was is in the record");
        }
        if step == "find-records" && self.began_before("delete-topics") {
            return Some("the topics to rebuild are in the record");
        }
        let before = !matches!(step, "resume" | "compensate" | "restore-config" | "registry-equals" | "streaming");
        (self.resumed && before).then_some("the connectors stream from complete snapshots")
    }
}
