//! What a repair knows.

use crate::{
    backup::{BackupError, Point, PointSelector, Repository},
    client::{ClientError, postgres::Postgres},
    config::Config,
    recovery::{
        Options, RecoveryError, Request,
        journal::Journal,
        pipeline::Pipeline,
        schema::{SchemaPlan, differences},
    },
    units::{Offset, Subject, TopicPartition},
};

/// The state of the slot and schema playbooks.
pub(crate) struct Repair {
    pub(crate) pipeline: Pipeline,
    pub(crate) request: Request,
    /// The recovery point, where there is one.
    pub(crate) point: Option<Point>,
    /// What was diagnosed, for a person.
    pub(crate) findings: Vec<String>,
    /// What the diagnosis could not answer, and why.
    pub(crate) not_looked_at: Vec<String>,
    pub(crate) journal: Option<Journal>,
    /// Where the topics ended when the connectors were resumed.
    pub(crate) cut: Vec<(TopicPartition, Offset)>,
    /// What a registry step did.
    pub(crate) registry_note: String,
    /// Keys that were deleted from the topics.
    pub(crate) compensated: u64,
    /// What the schema playbook is about.
    pub(crate) schema: Option<SchemaPlan>,
}

impl Repair {
    /// Looks at the pipeline of a live server.
    pub(crate) async fn look(config: &Config, request: &Request, options: &Options) -> Result<Repair, RecoveryError> {
        let repository = Repository::open(&config.repository.path)?;
        let point = match repository.point(&request.point) {
            Ok(point) => Some(point),
            Err(BackupError::NoSuchPoint { .. }) if request.point == PointSelector::Latest => None,
            Err(error) => return Err(error.into()),
        };
        let server = Postgres::connect(&config.postgres.url, "cdc-drill-recovery").await.map_err(|e| match e {
            refused @ ClientError::Answer { .. } => RecoveryError::from(refused),
            silent => RecoveryError::impossible(
                "the source server",
                "a server that answers",
                silent.to_string(),
                "a dead or damaged server needs `recover run coordinated`",
            ),
        })?;
        let mut pipeline = Pipeline::discover(config, request, options, Some(&server), point.as_ref()).await?;
        if !request.connectors.is_empty() {
            pipeline.narrow(&request.connectors.iter().cloned().collect(), false);
        }
        Ok(Repair {
            pipeline,
            request: request.clone(),
            point,
            findings: Vec::new(),
            not_looked_at: Vec::new(),
            journal: None,
            cut: Vec::new(),
            registry_note: String::new(),
            compensated: 0,
            schema: None,
        })
    }

    /// The subjects that the repair may change. A registry with damage may have to be filled anew as a whole.
    pub(crate) fn touched_subjects(&self) -> Vec<Subject> {
        let Some(schema) = &self.schema else { return Vec::new() };
        let mut subjects = schema.refused.clone();
        if !differences(&schema.wanted, &schema.found).is_empty() {
            let all = schema.wanted.subjects.iter().chain(&schema.found.subjects);
            subjects.extend(all.map(|s| s.subject.clone()));
        }
        subjects
    }

    /// The journal; a plan has none and runs no step.
    pub(crate) fn journal(&self, step: &str) -> Result<Journal, RecoveryError> {
        self.journal.clone().ok_or_else(|| RecoveryError::unmet(step, "a journal", "none"))
    }
}
