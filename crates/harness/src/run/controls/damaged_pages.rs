//! What people do about damaged pages who do not restore.

use cdc_engine::recovery::{
    RecoveryError, StepInfo,
    compose::{
        DROP_SLOT, Done, Inside, Repair, Step, captured_tables, delete_offsets, delete_topics, force_snapshot,
        group_offsets, nothing, recreate_topics, restore_config, resume, stop_connectors,
    },
};
use cdc_model::units::counted;

/// The rows that can still be read, and a new snapshot of them.
pub(super) const STEPS: [Step<Repair>; 10] = [
    stop_connectors(),
    REWRITE_TABLES,
    DROP_SLOT,
    delete_topics(),
    recreate_topics(),
    group_offsets(),
    delete_offsets(),
    force_snapshot(),
    resume(),
    restore_config(),
];

const REWRITE_TABLES: Step<Repair> = Step {
    info: StepInfo {
        id: "zero-damaged-pages",
        does: "reads damaged pages as empty and rewrites the tables without them",
        precondition: "the server answers",
        postcondition: "the tables can be read",
    },
    destroys: nothing,
    before: |_| Box::pin(async { Ok("the server answers".to_owned()) }),
    inside: Inside::Atomic,
    act: |s| Box::pin(rewrite(s)),
    after: |s| Box::pin(readable(s)),
};

async fn rewrite(s: &Repair) -> Result<Done, RecoveryError> {
    for source in &s.pipeline.sources {
        let server = s.pipeline.session(source).await?;
        server.run("set zero_damaged_pages = on").await?;
        for table in captured_tables(&server, &source.capture).await? {
            server.run(&format!("vacuum full {}", table.quoted())).await?;
        }
    }
    Ok(Done::Acted)
}

async fn readable(s: &Repair) -> Result<String, RecoveryError> {
    let mut rows = 0;
    for source in &s.pipeline.sources {
        let server = s.pipeline.session(source).await?;
        for table in captured_tables(&server, &source.capture).await? {
            rows += server.value::<u64>(&format!("select count(*) from {}", table.quoted())).await?;
        }
    }
    Ok(format!("{rows} left", rows = counted(rows, "row")))
}
