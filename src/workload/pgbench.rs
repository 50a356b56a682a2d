//! `pgbench`, which ships with PostgreSQL: real input nobody here wrote.
//!
//! It keeps no ledger; what its tables must hold is captured at marks, and its own invariants tell whether a state can be
//! one that it left: each transaction adds one delta to an account, a teller and a branch and writes it into the history.

use std::process::Stdio;

use super::WorkloadError;
use crate::{
    client::postgres::{Postgres, ProgramSettings, program_options},
    config::Tools,
    units::{Secret, TableName},
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

/// The sums that are equal in every state between two transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Invariants {
    /// Sum of all accounts.
    pub accounts: i64,
    /// Sum of all tellers.
    pub tellers: i64,
    /// Sum of all branches.
    pub branches: i64,
    /// Sum of all deltas in the history.
    pub deltas: i64,
    /// Rows of the history: committed transactions.
    pub history: u64,
}

impl Invariants {
    /// Whether all four sums agree.
    pub fn hold(&self) -> bool {
        self.accounts == self.tellers && self.tellers == self.branches && self.branches == self.deltas
    }
}

/// Fills the database: `-i` at the scale, then `fixtures/sql/pgbench.sql`. Before any connector: it truncates.
pub async fn init(tools: &Tools, url: &Secret, scale: u32) -> Result<(), WorkloadError> {
    run(tools, url, &["-i", "-q", "-s", &scale.to_string()]).await?;
    let pg = Postgres::connect(url, "cdc-drill pgbench").await?;
    pg.run(include_str!("../../fixtures/sql/pgbench.sql")).await?;
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
    Ok(summary)
}

/// Reads the sums.
pub async fn invariants(pg: &Postgres) -> Result<Invariants, WorkloadError> {
    let row = pg
        .query_one(
            "select (select coalesce(sum(abalance), 0)::bigint from public.pgbench_accounts), \
             (select coalesce(sum(tbalance), 0)::bigint from public.pgbench_tellers), \
             (select coalesce(sum(bbalance), 0)::bigint from public.pgbench_branches), \
             (select coalesce(sum(delta), 0)::bigint from public.pgbench_history), \
             (select count(*) from public.pgbench_history)",
            &[],
        )
        .await
        .map_err(|e| pg.error("sums of pgbench", &e))?;
    let history: i64 = row.get(4);
    Ok(Invariants {
        accounts: row.get(0),
        tellers: row.get(1),
        branches: row.get(2),
        deltas: row.get(3),
        history: history.unsigned_abs(),
    })
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

    #[test]
    fn sums_that_differ_do_not_hold() {
        let good = Invariants { accounts: 7, tellers: 7, branches: 7, deltas: 7, history: 2 };
        assert!(good.hold());
        assert!(!Invariants { deltas: 6, ..good }.hold());
    }
}
