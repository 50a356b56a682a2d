//! What writes to a drill's source database.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    run::{
        RunError,
        chronicle::FailedLoad,
        command::{Command, libpq},
    },
    scenario::{DrillPlan, Load, TableRef, TransactionPlan, WorkloadPlan},
};
use cdc_model::{
    event::{Loaded, WriterCounts},
    units::{Epoch, Exit, TableName, counted},
    vocabulary::Must,
};
use cdc_pipeline::{
    client::{postgres::Postgres, watch::doing},
    config::{Config, Tools},
};
use cdc_workload as workload;
use cdc_workload::{
    LoadSpec, LoadSummary, Workload, WorkloadSpec,
    ledger::{CommitOrder, Ledger},
    sql::{self, SqlLoad, SqlSpec, SqlWorkload},
};

/// The workload of one drill.
#[derive(Debug)]
pub(crate) enum Writers {
    /// The seeded shop, which keeps a ledger.
    Shop(Box<Workload>),
    /// pgbench, which keeps none.
    Pgbench {
        /// Connections.
        clients: u32,
        /// The seed; each load adds one.
        seed: u64,
    },
    /// The scenario's own SQL, with a ledger of transactions, not of rows.
    Sql(Box<SqlWorkload>),
    /// A command of the scenario's own, whose transactions are known by rows in a table of the drill's.
    Command(Box<Foreign>),
}

impl Writers {
    /// Connects the workload. `token_prefix` must be unique over runs and drills.
    pub(crate) async fn start(
        plan: &DrillPlan,
        config: &Config,
        token_prefix: &str,
        ledger: &Utf8Path,
    ) -> Result<Writers, RunError> {
        Ok(match &plan.workload {
            WorkloadPlan::Shop { writers, .. } => {
                let spec = WorkloadSpec {
                    seed: plan.seed,
                    writers: *writers,
                    token_prefix: token_prefix.to_owned(),
                    ledger_dir: ledger.to_owned(),
                };
                Writers::Shop(Box::new(Workload::start(&config.postgres.url, spec, Epoch(0)).await?))
            }
            WorkloadPlan::Pgbench { clients, .. } => Writers::Pgbench { clients: *clients, seed: plan.seed },
            WorkloadPlan::Sql { transactions, writers, .. } => {
                let spec = SqlSpec {
                    seed: plan.seed,
                    writers: *writers,
                    token_prefix: token_prefix.to_owned(),
                    ledger_dir: ledger.to_owned(),
                    transactions: transactions.iter().map(transaction).collect(),
                };
                Writers::Sql(Box::new(SqlWorkload::start(&config.postgres.url, spec, Epoch(0)).await?))
            }
            WorkloadPlan::Command { .. } => {
                let home = ledger.parent().unwrap_or(ledger).to_owned();
                Writers::Command(Box::new(Foreign::new(home, token_prefix)))
            }
        })
    }

    /// Fills the tables. pgbench has filled its own when the schema was laid.
    pub(crate) async fn fill(&mut self, plan: &DrillPlan, config: &Config) -> Result<String, RunError> {
        match (self, &plan.workload) {
            (Writers::Shop(shop), WorkloadPlan::Shop { rows, .. }) => {
                let summary =
                    doing(format!("writing {rows}", rows = counted(*rows, "row")), shop.seed_rows(*rows)).await?;
                Ok(format!("{} in {}", counted(summary.rows, "row"), counted(summary.acknowledged, "transaction")))
            }
            (_, WorkloadPlan::Sql { seed: Some(seed), .. } | WorkloadPlan::Command { seed: Some(seed), .. }) => {
                let db = Postgres::connect_as_application(&config.postgres.url, "cdc-drill seed").await?;
                doing(format!("running {}", seed.path), db.run_file(&seed.path, &seed.text)).await?;
                Ok(format!("{} has run", seed.path))
            }
            (_, WorkloadPlan::Sql { seed: None, .. } | WorkloadPlan::Command { seed: None, .. }) => {
                Ok("no rows before the connector".to_owned())
            }
            _ => Ok("pgbench filled its tables".to_owned()),
        }
    }

    /// Tries exactly so many transactions. One that had to occur and did not is an error: the drill would prove nothing.
    pub(crate) async fn load(&mut self, plan: &DrillPlan, config: &Config, load: &Load) -> Result<Loaded, RunError> {
        let what = format!("loading {}", counted(load.transactions, "transaction"));
        doing(what, self.loaded(plan, config, load)).await
    }

    async fn loaded(&mut self, plan: &DrillPlan, config: &Config, load: &Load) -> Result<Loaded, RunError> {
        match self {
            Writers::Shop(shop) => {
                let spec = LoadSpec {
                    transactions: load.transactions,
                    must: load.must.clone(),
                    tables: load.tables.as_ref().map(|all| all.iter().map(|TableRef(t)| t.clone()).collect()),
                };
                complete(plan, load, shop.load(spec).await?)
            }
            Writers::Sql(own) => {
                let spec =
                    SqlLoad { transactions: load.transactions, must_roll_back: load.must.contains(&Must::RollBack) };
                complete(plan, load, own.load(spec).await?)
            }
            Writers::Command(foreign) => foreign.load(plan, config, load).await,
            Writers::Pgbench { clients, seed } => {
                let tools = Tools::of(config);
                *seed += 1;
                let done =
                    workload::pgbench::load(&tools, &config.postgres.url, *clients, load.transactions, *seed).await?;
                Ok(Loaded::Pgbench { processed: done.processed, failed: done.failed })
            }
        }
    }

    /// Lets the writers keep trying whatever the server does; pgbench and commands would give up, and stay away.
    pub(crate) fn hammer(&mut self) -> Result<(), RunError> {
        match self {
            Writers::Shop(shop) => Ok(shop.hammer()?),
            Writers::Sql(own) => Ok(own.hammer()?),
            Writers::Pgbench { .. } | Writers::Command(_) => Ok(()),
        }
    }

    /// Stops them again; what they did, where there are any.
    pub(crate) async fn stop_hammer(&mut self) -> Result<Option<Loaded>, RunError> {
        match self {
            Writers::Shop(shop) => Ok(Some(counts(shop.stop_hammer().await?))),
            Writers::Sql(own) => Ok(Some(counts(own.stop_hammer().await?))),
            Writers::Pgbench { .. } | Writers::Command(_) => Ok(None),
        }
    }

    /// A recovery ended, or would have: what is tried from now on belongs to this epoch.
    pub(crate) async fn set_epoch(&mut self, epoch: Epoch) {
        match self {
            Writers::Shop(shop) => shop.set_epoch(epoch).await,
            Writers::Sql(own) => own.set_epoch(epoch).await,
            Writers::Command(foreign) => foreign.epoch = epoch,
            Writers::Pgbench { .. } => {}
        }
    }

    /// The ledger with its commit order, unknown outcomes settled by what the database holds; none for pgbench.
    pub(crate) async fn ledger(&self, db: &Postgres, order: CommitOrder) -> Result<Option<Ledger>, RunError> {
        let (mut ledger, present): (Ledger, BTreeSet<String>) = match self {
            Writers::Shop(shop) => (shop.ledger()?, workload::present_tokens(db).await?),
            Writers::Sql(own) => (own.ledger()?, sql::present_tokens(db).await?),
            Writers::Command(foreign) => (foreign.ledger.clone(), sql::present_tokens(db).await?),
            Writers::Pgbench { .. } => return Ok(None),
        };
        ledger.order = order;
        ledger.settle(&present);
        Ok(Some(ledger))
    }

    /// The tables of these whose rows the ledger does not know, and which are therefore captured at marks. Markers are the
    /// drill's own and go on being written.
    pub(crate) fn beyond_ledger(&self, captured: &[TableName]) -> Vec<TableName> {
        let own = sql::tables();
        match self {
            Writers::Shop(_) => Vec::new(),
            Writers::Pgbench { .. } | Writers::Sql(_) | Writers::Command(_) => {
                captured.iter().filter(|table| !own.contains(table)).cloned().collect()
            }
        }
    }
}

/// A command that writes, and what it is known to have written.
#[derive(Debug)]
pub(crate) struct Foreign {
    home: Utf8PathBuf,
    token_prefix: String,
    epoch: Epoch,
    loads: u64,
    ledger: Ledger,
}

impl Foreign {
    fn new(home: Utf8PathBuf, token_prefix: &str) -> Foreign {
        let ledger = Ledger::default();
        Foreign { home, token_prefix: token_prefix.to_owned(), epoch: Epoch(0), loads: 0, ledger }
    }

    /// Runs the command once, and reads what it left before anybody can take it away.
    async fn load(&mut self, plan: &DrillPlan, config: &Config, load: &Load) -> Result<Loaded, RunError> {
        let WorkloadPlan::Command { command, timeout, writers, .. } = &plan.workload else {
            return Ok(Loaded::Command { asked: 0, committed: 0 });
        };
        self.loads += 1;
        let prefix = format!("{}-e{}-l{}", self.token_prefix, self.epoch.0, self.loads);
        let mut environment = libpq(config);
        let secret = environment.get("PGPASSWORD").cloned().unwrap_or_default();
        environment.extend([
            ("CDC_DRILL_DATABASE_URL", config.postgres.url.expose().to_owned()),
            ("CDC_DRILL_SCENARIO_DIR", plan.folder.to_string()),
            ("CDC_DRILL_TRANSACTIONS", load.transactions.to_string()),
            ("CDC_DRILL_WRITERS", writers.to_string()),
            ("CDC_DRILL_LOAD", self.loads.to_string()),
            // Each load its own, below what any language takes for an integer.
            ("CDC_DRILL_SEED", (plan.seed.wrapping_mul(SEED_STEP).wrapping_add(self.loads) % SEED_MAX).to_string()),
            ("CDC_DRILL_TOKEN", prefix.clone()),
        ]);
        let command = Command {
            text: command,
            folder: self.home.join("exec").join(format!("load-{}", self.loads)),
            environment,
            timeout: *timeout,
            log: self.home.join("logs").join(format!("exec-load-{}.log", self.loads)),
            secret,
        };
        let began_ms = jiff::Timestamp::now().as_millisecond();
        let ended = command.run(|| {}).await?;
        let failed = |found: String, hint: &str| RunError::Command {
            what: format!("load of {}", counted(load.transactions, "transaction")),
            found,
            hint: hint.to_owned(),
            exit: Exit::Inconclusive,
        };
        if !ended.well() {
            return Err(failed(ended.told(), ended.hint()));
        }
        let db = Postgres::connect(&config.postgres.url, "cdc-drill load").await?;
        let committed = sql::committed(&db, &prefix, self.epoch, began_ms).await?;
        let count = committed.len() as u64;
        if count == 0 || count > load.transactions {
            let found = format!(
                "{count} with tokens that begin with {prefix}- in public.drill_transactions",
                count = counted(count, "transaction")
            );
            return Err(failed(
                found,
                "write at least one and at most as many as asked for; docs/own-schema.md has the contract",
            ));
        }
        self.ledger.entries.extend(committed);
        Ok(Loaded::Command { asked: load.transactions, committed: count })
    }
}

/// Neighbouring seeds and loads shall not meet.
const SEED_STEP: u64 = 1009;
const SEED_MAX: u64 = 1 << 31;

/// What a load did, unless something that had to occur did not.
fn complete(plan: &DrillPlan, load: &Load, summary: LoadSummary) -> Result<Loaded, RunError> {
    let missing = summary.missing.clone();
    let loaded = counts(summary);
    if missing.is_empty() {
        return Ok(loaded);
    }
    let because = FailedLoad::of(&loaded).map(|load| format!("; {load}")).unwrap_or_default();
    Err(RunError::Scenario {
        scenario: plan.id.to_string(),
        what: format!("load of {}", counted(load.transactions, "transaction")),
        expected: format!("at least one each of {:?}", load.must),
        found: format!("none of {missing:?}{because}"),
        hint: "load more transactions, or more rows before".into(),
    })
}

fn counts(summary: LoadSummary) -> Loaded {
    Loaded::Writers(WriterCounts {
        attempted: summary.attempted,
        acknowledged: summary.acknowledged,
        rows: summary.rows,
        rolled_back: summary.rolled_back,
        failed: summary.failed,
        unknown: summary.unknown,
        refused: summary.refused,
        first_error: summary.first_error,
        kinds: summary.kinds,
    })
}

fn transaction(plan: &TransactionPlan) -> sql::Transaction {
    let statements = plan.statements.iter().map(|s| s.0.clone());
    sql::Transaction { name: plan.name.clone(), weight: plan.weight, statements: statements.collect() }
}
