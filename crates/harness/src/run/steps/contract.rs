//! What a backup or a runbook of a scenario's own is given. The contract is in docs/own-runbook.md.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    run::{
        RunError,
        chronicle::Mark,
        command::{Command, libpq},
        rig::Pipeline,
    },
    scenario::{DrillPlan, Target},
    stack::{Account, CONFIG_FILE, find_binary},
};
use cdc_model::units::TableName;

/// A command in an empty folder of its own.
pub(super) fn prepared<'c>(
    pipeline: &Pipeline,
    text: &'c str,
    timeout: Duration,
    environment: BTreeMap<&'static str, String>,
    kind: &str,
) -> Result<Command<'c>, RunError> {
    let home = &pipeline.dir;
    // Numbered by what is there: a drill may run several.
    let name = (1..).map(|n| format!("{kind}-{n}")).find(|name| !home.join("exec").join(name).exists());
    let name = name.unwrap_or_else(|| kind.to_owned());
    let secret = environment.get("PGPASSWORD").cloned().unwrap_or_default();
    let log = home.join("logs").join(format!("exec-{name}.log"));
    Ok(Command { text, folder: home.join("exec").join(name), environment, timeout, log, secret })
}

/// The contract, as the README has it.
pub(super) fn environment(
    plan: &DrillPlan,
    pipeline: &Pipeline,
    backup: Option<&str>,
    target: Option<(&Target, Option<&Mark>)>,
) -> Result<BTreeMap<&'static str, String>, RunError> {
    let config = &pipeline.config;
    let account = Account::choose()?;
    let backups = pipeline.dir.join("exec/backups");
    // The server archives there, as its own account.
    std::fs::create_dir_all(pipeline.dir.join("exec")).map_err(RunError::file("create", &backups))?;
    account.folder(&backups)?;
    let tables: Vec<String> = pipeline.layout.tables().map(TableName::to_string).collect();
    // Connector, prefix, slot and publication have one name.
    let connectors = pipeline.layout.connectors().join(" ");
    let mut all = BTreeMap::from([
        ("CDC_DRILL_BIN", find_binary(None)?.into_string()),
        ("CDC_DRILL_CONFIG", pipeline.dir.join(CONFIG_FILE).into_string()),
        ("CDC_DRILL_SCENARIO_DIR", plan.folder.to_string()),
        ("CDC_DRILL_BACKUPS", backups.into_string()),
        ("CDC_DRILL_REPOSITORY", config.repository.path.to_string()),
        ("CDC_DRILL_CONNECT_URL", config.connect.url.clone()),
        ("CDC_DRILL_REGISTRY_URL", config.registry.url.clone()),
        ("CDC_DRILL_KAFKA", config.kafka.bootstrap.clone()),
        ("CDC_DRILL_CONNECTOR", connectors.clone()),
        ("CDC_DRILL_SLOT", connectors.clone()),
        ("CDC_DRILL_PUBLICATION", connectors.clone()),
        ("CDC_DRILL_TOPIC_PREFIX", connectors),
        ("CDC_DRILL_TOPICS", pipeline.layout.topics().join(" ")),
        ("CDC_DRILL_TABLES", tables.join(" ")),
        ("CDC_DRILL_PG_ACCOUNT", account.name),
        ("CDC_DRILL_PG_BIN", config.postgres.bin.to_string()),
        ("PGDATA", config.postgres.pgdata.to_string()),
    ]);
    if let Some(hook) = config.control.get("postgres") {
        all.insert("CDC_DRILL_PG_START", hook.start.clone());
        all.insert("CDC_DRILL_PG_STOP", hook.stop.clone());
        all.insert("CDC_DRILL_PG_RUNNING", hook.running.clone());
    }
    if let Some(name) = backup {
        all.insert("CDC_DRILL_BACKUP", name.to_owned());
    }
    if let Some((target, mark)) = target {
        all.insert("CDC_DRILL_TARGET", if mark.is_some() { "mark".into() } else { "latest".into() });
        if let (Target::Mark { .. }, Some(mark)) = (target, mark) {
            all.insert("CDC_DRILL_TARGET_NAME", mark.restore_point.clone());
            all.insert("CDC_DRILL_TARGET_LSN", mark.lsn.to_string());
            all.insert("CDC_DRILL_TARGET_TIME", mark.time.to_string());
        }
    }
    all.extend(libpq(config));
    Ok(all)
}
