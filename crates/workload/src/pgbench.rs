//! `pgbench`, which ships with PostgreSQL: real input nobody here wrote.
//!
//! It keeps no ledger; what its tables must hold is captured at marks.

use std::process::Stdio;

use super::WorkloadError;
use cdc_model::units::{Secret, TableName};
use cdc_pipeline::{
    client::postgres::{Postgres, ProgramSettings, program_options},
    config::Tools,
};

/// The tables of pgbench. The history has no key.
pub const TABLES: [&str; 4] = ["pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"];

/// The tables of pgbench in schema `public`.
pub fn tables() -> Vec<TableName> {
    TABLES.iter().map(|name| TableName::new("public", *name)).collect()
}

/// What a load did, as pgbench counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgbenchSummary {
    /// Transactions asked for.
    pub attempted: u64,
    /// Transactions processed.
    pub processed: u64,
    /// Transactions failed.
    pub failed: u64,
}

/// Fills the database: `-i` at the scale, then `fixtures/sql/pgbench.sql`. Before any connector: it truncates.
pub async fn init(tools: &Tools, url: &Secret, scale: u32) -> Result<(), WorkloadError> {
    run(tools, url, &["-i", "-q", "-s", &scale.to_string()]).await?;
    let pg = Postgres::connect(url, "cdc-drill pgbench").await?;
    pg.run(include_str!("../../../fixtures/sql/pgbench.sql")).await?;
    Ok(())
}

/// Runs pgbench's built-in script: `transactions` in all, over `clients` connections. `-n`, because vacuuming would
/// truncate the history.
pub async fn load(
    tools: &Tools,
    url: &Secret,
    clients: u32,
    transactions: u64,
    seed: u64,
) -> Result<PgbenchSummary, WorkloadError> {
    // pgbench counts by client; the rest is done by one more client alone, so that the total is exact.
    let each = transactions / u64::from(clients.max(1));
    let rest = transactions - each * u64::from(clients);
    let mut summary = PgbenchSummary { attempted: transactions, processed: 0, failed: 0 };
    for (clients, each) in [(clients, each), (1, rest)] {
        if each == 0 {
            continue;
        }
        let args = ["-n", "-M", "prepared", "-c", &clients.to_string(), "-t", &each.to_string()];
        let seed = format!("--random-seed={seed}");
        let said = run(tools, url, &[&args[..], &[seed.as_str()]].concat()).await?;
        let (processed, failed) = counts(&said).ok_or_else(|| WorkloadError::Program {
            program: "pgbench",
            what: format!("-c {clients} -t {each}"),
            expected: "a count of transactions processed".into(),
            found: said.clone(),
        })?;
        summary.processed += processed;
        summary.failed += failed;
    }
    if summary.processed == 0 {
        let why = format!("expected pgbench to process some, found none, and {} that failed", summary.failed);
        return Err(WorkloadError::Plan { transactions, why });
    }
    Ok(summary)
}

/// Runs the program. The password goes by environment: arguments are seen by everybody.
async fn run(tools: &Tools, url: &Secret, args: &[&str]) -> Result<String, WorkloadError> {
    let (given, options) = (ProgramSettings::of(url)?, program_options());
    let settings = [given.pairs(), vec![("PGOPTIONS", options.as_str())]].concat();
    let mut command = tokio::process::Command::from(tools.command("pgbench", &settings));
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(password) = &given.password {
        command.env("PGPASSWORD", password.expose());
    }
    let output = command.output().await.map_err(WorkloadError::file("run", tools.name("pgbench")))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(WorkloadError::Program {
            program: "pgbench",
            what: args.join(" "),
            expected: "success".into(),
            found: said.trim().to_owned(),
        });
    }
    Ok(said)
}

/// Transactions processed and failed, as pgbench reports them: `400/400` with `-t`.
fn counts(said: &str) -> Option<(u64, u64)> {
    let number = |name: &str| {
        let line = said.lines().find(|l| l.starts_with(name))?;
        let text = line.split_once(':')?.1.trim();
        text.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let processed = number("number of transactions actually processed")?;
    Some((processed, number("number of failed transactions").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_counts_of_a_report() {
        let said = "transaction type: <builtin: TPC-B (sort of)>\nnumber of transactions actually processed: 396/400\nnumber of failed transactions: 4 (1.000%)\n";
        assert_eq!(counts(said), Some((396, 4)));
        assert_eq!(counts("number of transactions actually processed: 12\n"), Some((12, 0)));
        assert_eq!(counts("pgbench: error"), None);
    }
}
