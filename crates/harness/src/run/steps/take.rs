//! From a step of the scenario to the function that takes it.

use super::{Done, backup, connectors, fault, group, load::loaded, mark, prove, recover, replay, signals, sql};
use crate::{
    run::{
        Known, RunError,
        rig::{Rig, quiesce},
    },
    scenario::{Step, StepPlan},
};
use cdc_model::units::SubjectVersion;

/// Takes one step.
pub(crate) async fn take(rig: &mut Rig, known: Known<'_>, step: &StepPlan) -> Result<Done, RunError> {
    Ok(match step {
        Step::Load(load) => loaded(rig.writers.load(known.plan, &rig.pipeline.config, load).await?),
        Step::Backup(wanted) => backup::take(rig, known, wanted).await?,
        Step::BackUpRecords(table) => replay::back_up(rig, known, table).await?,
        Step::Mark(name) => mark::take(rig, known, name).await?,
        Step::Fault(wanted) => fault::take(rig, known, wanted).await?,
        Step::Prove(wanted) => Done::nothing(prove::take(rig, known, wanted).await?),
        Step::Signals => Done::nothing(signals::take(rig, known).await),
        Step::Recover(wanted) => recover::take(rig, known, wanted).await?,
        Step::Sql(statement) => sql::take(rig, known, statement).await?,
        Step::Quiesce => Done::nothing(quiesce(&rig.pipeline, &rig.run).await?),
        Step::StopConnector => Done::nothing(connectors::stop(&rig.pipeline).await?),
        Step::StartConnector => Done::nothing(connectors::start(&rig.pipeline).await?),
        Step::RestartConnector => Done::nothing(connectors::restart(&rig.pipeline).await?),
        Step::ConsumerGroup(wanted) => group::take(rig, known, wanted).await?,
        Step::DeleteSchemaVersion(wanted) => {
            let subject = known.layout().subject(&wanted.table.0, crate::scenario::SubjectSide::Value);
            let registry = rig.pipeline.registry();
            registry.delete_version(&subject, SubjectVersion(wanted.version), true).await?;
            let left = registry.versions(&subject, true).await?;
            Done::nothing(format!("versions left: {left:?}"))
        }
    })
}
