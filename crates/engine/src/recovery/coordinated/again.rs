//! A recovery that did not end, as it was found and decided then, and how far it came by now.

use super::{
    Coordinated,
    exchange::{Exchange, standing},
    record::{Goal, LEARNED, Learned, PREPARED},
    state::Horizon,
};
use crate::{
    backup::{PointSelector, Repository, is_there},
    recovery::{
        RecoveryError, Request,
        memory::{Kept, Memory, Place},
        pipeline::{Found, Pipeline},
        replay::program,
        server::{Control, Owner},
    },
};
use cdc_pipeline::config::{Config, Tools};
use cdc_postgres::wal::SegmentSize;

impl Coordinated {
    /// The state of a recovery that did not end: what was found and decided then, and how far it came by now. Nothing is
    /// resolved anew: a target may mean something else since, and the point was chosen for it.
    pub(crate) async fn again(
        config: &Config,
        request: &Request,
        memory: &Memory,
    ) -> Result<Coordinated, RecoveryError> {
        let goal: Goal = memory.decided()?;
        let Goal { point, aim, system_id, segment_bytes, pgdata, layout, control_data, old_timeline, .. } = goal;
        let (was_running, given_up) = (goal.was_running, goal.given_up);
        let segment_size = SegmentSize::new(segment_bytes).ok_or_else(|| {
            RecoveryError::impossible(
                memory.folder().as_str(),
                "a WAL segment size",
                segment_bytes.to_string(),
                "the record is damaged",
            )
        })?;
        let repository = Repository::of(&config.repository)?;
        repository.unlock()?;
        let learned: Kept<Learned> = Kept::of(LEARNED, Some(memory))?;
        let exchange = learned.restored.as_ref().map(|restored| Exchange::of(&pgdata, restored)).transpose()?;
        let mut config = config.clone();
        config.postgres.pgdata.clone_from(&pgdata);
        let point = repository.point(&PointSelector::Id(point))?;
        let (standing, mut tools) = (standing(memory)?, Tools::of(&config));
        let owner = match is_there(&standing)? {
            true => Owner::of(&standing)?,
            false => Owner::of_lost(&standing, point.postgres()?.folder)?.0,
        };
        if !is_there(&pgdata)? {
            tools = tools.owned_by(owner.numbers());
        }
        Ok(Coordinated {
            pipeline: Pipeline::of(&config, memory.found::<Found>()?)?,
            request: request.clone(),
            point,
            aim,
            system_id,
            segment_size,
            owner,
            tools,
            control: Control::of(&config, "postgres")?,
            control_data,
            archiver: program()?,
            salvaged: Place::of(&config)?.salvaged(system_id),
            old_timeline,
            repository,
            pgdata,
            layout,
            was_running,
            given_up,
            memory: Some(memory.clone()),
            learned,
            prepared: Kept::of(PREPARED, Some(memory))?,
            notes: Vec::new(),
            differs: Vec::new(),
            horizon: Horizon {
                set_aside: exchange == Some(Exchange::Half),
                exchanged: exchange == Some(Exchange::After),
                resumed: false,
            },
        })
    }

    /// Looks whether an earlier run came as far as connectors that stream. A server that does not answer has not resumed.
    pub(crate) async fn look_how_far(&mut self, memory: &Memory) {
        if self.horizon.exchanged && memory.began_step("resume") {
            let rested = memory.began_step("restore-config");
            let resumed = self.pipeline.has_resumed(self.pipeline.course.takes_snapshots(), rested).await;
            self.horizon.resumed = resumed.unwrap_or(false);
        }
    }
}
