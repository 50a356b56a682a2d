//! Looks at what is there, and carries out what was planned.

use super::{PartOutcome, PartRequest, PipelinePart, connectors, groups, point, registry, topics};
use crate::{
    backup::{
        Activity, BackupError, Lock, Origin, Point, Repository, SavedConnector, TopicState, parts::registry::Dump,
    },
    recovery::{
        Playbook, RecoveryError, Request,
        engine::known,
        locks::Locks,
        memory::{Place, refuse_unfinished},
    },
};
use cdc_model::moment;
use cdc_pipeline::{
    attach,
    config::{Config, Permission},
};

/// A restore that nothing speaks against. Nothing was touched.
#[derive(Debug)]
pub struct PartPlan {
    outcome: PartOutcome,
    act: Act,
    _held: Held,
}

/// What keeps recoveries and backups away, or lets them be.
#[derive(Debug)]
enum Held {
    /// Something will be changed.
    Recovery { _locks: Box<Locks> },
    /// The point is only read.
    Reading { _lock: Box<Lock> },
    /// The caller holds the lock of its own activity.
    ByCaller,
}

#[derive(Debug)]
enum Act {
    Connectors(Box<connectors::Plan>),
    Topics(Box<topics::Plan>),
    Groups(Box<groups::Plan>),
    Registry(Box<registry::Plan>),
}

/// Looks at everything that a restore of a part depends on, and touches nothing. Refuses (40) what cannot be done, and (41) what would lose
/// something that nobody agreed to lose, or is not permitted; beside a recovery that is at work (34) or unfinished (41) nothing is
/// restored.
pub async fn plan_part(config: &Config, request: &PartRequest) -> Result<PartPlan, RecoveryError> {
    refuse_unfinished(config)?;
    attach::permit(config, Permission::Recover).await?;
    let config = &known(config, &Request::new(Playbook::Schema)).await?;
    let place = Place::of(config)?;
    let owner = format!("restore {}", request.part.word());
    let held = match request.dry_run {
        true => Held::Reading { _lock: Box::new(place.repository().lock(Activity::Restore, &owner)?) },
        false => Held::Recovery { _locks: Box::new(Locks::take(&place, &config.postgres.pgdata, &owner, None)?) },
    };
    let origin = Origin::of_answering(config).await;
    let repository = place.repository();
    let (outcome, act) = match request.part {
        PipelinePart::Groups => {
            let (mut outcome, saved) = chosen(repository, request, &origin, groups::Saved::of)?;
            let plan = groups::plan(config, request, saved).await?;
            outcome.extend(&plan.changes, &plan.unchanged, &plan.notes);
            (outcome, Act::Groups(Box::new(plan)))
        }
        PipelinePart::Topics => {
            let (mut outcome, saved) = chosen(repository, request, &origin, Point::topics)?;
            let plan = topics::plan(config, request, saved).await?;
            outcome.extend(&plan.changes, &plan.unchanged, &plan.notes);
            (outcome, Act::Topics(Box::new(plan)))
        }
        PipelinePart::Connectors => {
            let (mut outcome, saved) = chosen(repository, request, &origin, connectors::Saved::of)?;
            let plan = connectors::plan(config, request, saved).await?;
            outcome.extend(&plan.changes, &plan.unchanged, &plan.notes);
            (outcome, Act::Connectors(Box::new(plan)))
        }
        PipelinePart::Registry => {
            let (mut outcome, saved) = chosen(repository, request, &origin, Point::dump)?;
            let plan = registry::plan(config, request, saved).await?;
            outcome.extend(&plan.changes, &plan.unchanged, &plan.notes);
            (outcome, Act::Registry(Box::new(plan)))
        }
    };
    Ok(PartPlan { outcome, act, _held: held })
}

/// Where a part's restore can be interrupted, in order, and under which name.
fn procedure_of(part: PipelinePart) -> (&'static str, &'static [&'static str]) {
    match part {
        PipelinePart::Connectors => ("restore-connectors", &connectors::MOMENTS),
        PipelinePart::Topics => ("restore-topics", &topics::MOMENTS),
        PipelinePart::Groups => ("restore-groups", &groups::MOMENTS),
        PipelinePart::Registry => ("restore-registry", &registry::MOMENTS),
    }
}

/// The same of all parts.
pub(in crate::recovery) fn procedures() -> Vec<(&'static str, &'static [&'static str])> {
    let parts = [PipelinePart::Connectors, PipelinePart::Topics, PipelinePart::Groups, PipelinePart::Registry];
    parts.map(procedure_of).to_vec()
}

/// What a scratch stack gets of a point: its content, with what has to be another one there.
#[derive(Debug)]
pub enum ScratchPart {
    /// The registry.
    Registry(Box<Dump>),
    /// Topics, without their records.
    Topics(Vec<TopicState>),
    /// Connectors, without stored offsets where those of the point are not safe.
    Connectors(Vec<SavedConnector>),
}

/// The same as [`plan_part`] into a scratch stack that nobody else knows, for a caller who keeps the point from being pruned: nothing
/// is locked, and what is restored need not be exactly what the point has. Refuses a configuration that is of somebody's pipeline.
pub async fn plan_scratch_part(config: &Config, point: &Point, part: ScratchPart) -> Result<PartPlan, RecoveryError> {
    if config.attach.is_some() {
        return Err(RecoveryError::Refused {
            what: "a scratch stack: expected a sandbox, found a pipeline with [attach]".into(),
            hint: "`restore` changes a pipeline".into(),
        });
    }
    let kind = match &part {
        ScratchPart::Registry(_) => PipelinePart::Registry,
        ScratchPart::Topics(_) => PipelinePart::Topics,
        ScratchPart::Connectors(_) => PipelinePart::Connectors,
    };
    let request = PartRequest { accept_lost_offsets: true, ..PartRequest::new(kind) };
    let mut outcome = PartOutcome {
        part: kind,
        point: point.id().clone(),
        changes: Vec::new(),
        unchanged: Vec::new(),
        notes: Vec::new(),
        read_back: Vec::new(),
    };
    let act = match part {
        ScratchPart::Registry(dump) => {
            let plan = registry::plan(config, &request, *dump).await?;
            outcome.extend(&plan.changes, &plan.unchanged, &plan.notes);
            Act::Registry(Box::new(plan))
        }
        ScratchPart::Topics(topics) => {
            let plan = topics::plan(config, &request, topics).await?;
            outcome.extend(&plan.changes, &plan.unchanged, &plan.notes);
            Act::Topics(Box::new(plan))
        }
        ScratchPart::Connectors(connectors) => {
            let saved = connectors::Saved::of(point)?.with(connectors);
            let plan = connectors::plan(config, &request, saved).await?;
            outcome.extend(&plan.changes, &plan.unchanged, &plan.notes);
            Act::Connectors(Box::new(plan))
        }
    };
    Ok(PartPlan { outcome, act, _held: Held::ByCaller })
}

fn chosen<T>(
    repository: &Repository,
    request: &PartRequest,
    origin: &Origin,
    read: impl Fn(&Point) -> Result<T, BackupError>,
) -> Result<(PartOutcome, T), RecoveryError> {
    let point::Chosen { point, part, notes } = point::choose(repository, request, origin, read)?;
    let outcome = PartOutcome {
        part: request.part,
        point: point.id().clone(),
        changes: Vec::new(),
        unchanged: Vec::new(),
        notes,
        read_back: Vec::new(),
    };
    Ok((outcome, part))
}

impl PartPlan {
    /// What it does, and what a person should know before.
    pub fn outcome(&self) -> &PartOutcome {
        &self.outcome
    }

    /// Carries it out, and reads back what it changed. A run that was cut is repeated by the same command, which looks anew.
    pub async fn run(self) -> Result<PartOutcome, RecoveryError> {
        let run = async {
            moment::pass(moment::BEFORE).await?;
            match &self.act {
                Act::Connectors(plan) => plan.run().await,
                Act::Topics(plan) => plan.run().await,
                Act::Groups(plan) => plan.run().await,
                Act::Registry(plan) => plan.run().await,
            }
        };
        let (procedure, _) = procedure_of(self.outcome.part);
        let read_back = moment::of_step(procedure, run).await;
        let read_back = read_back.map_err(|error| error.within(&format!("restore {}", self.outcome.part.word())))?;
        Ok(PartOutcome { read_back, ..self.outcome })
    }
}
