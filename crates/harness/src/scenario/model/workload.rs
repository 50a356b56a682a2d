//! What writes to the source database.

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::words::HumanDuration;

/// What writes to the source database: the seeded shop workload, pgbench, a scenario's own SQL or command. A variant's own part
/// wins field by field; a variant that names another kind of workload drops what only the former kind has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WorkloadPart {
    /// The seed of every random choice; `run --seed` wins.
    pub seed: Option<u64>,
    /// Rows before the first recovery point.
    #[schemars(range(min = 1))]
    pub rows: Option<u64>,
    /// Connections that write at the same time.
    #[schemars(range(min = 1, max = 64))]
    pub writers: Option<u32>,
    /// pgbench, which ships with PostgreSQL, instead of the shop workload.
    pub pgbench: Option<Pgbench>,
    /// Transactions of the scenario's own, for any schema, instead of the shop workload.
    pub sql: Option<Sql>,
    /// A command of the scenario's own that writes, for any schema, instead of the shop workload.
    pub command: Option<WorkloadCommand>,
}

/// pgbench as the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pgbench {
    /// Its scale: 100,000 accounts each.
    #[schemars(range(min = 1, max = 1000))]
    pub scale: u32,
    /// Connections that write at the same time.
    #[schemars(range(min = 1, max = 64))]
    pub clients: u32,
}

/// SQL as the workload. Each transaction also leaves rows in `public.drill_transactions`, which the drill makes, captures
/// and publishes itself as it does with `public.markers`: they tell which transactions are there, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sql {
    /// An SQL file that runs once, after the schema and before the connector: the rows that are there first.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub seed_file: Option<Utf8PathBuf>,
    /// The kinds of transactions. The first load of a drill begins with one of each; the seed draws all others, by weight. A drill in which
    /// one of them never commits, or touches no row in all its commits, is inconclusive: nothing is proved of what it exercises.
    #[schemars(length(min = 1))]
    pub transactions: Vec<SqlTransaction>,
}

/// A command as the workload. It runs once a load and is told what to do by its environment: see docs/own-schema.md. Each of its
/// transactions must write two rows into `public.drill_transactions`, as those of `sql` do; by these the drill knows which
/// transactions committed, whole, and in which order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WorkloadCommand {
    /// An SQL file that runs once, after the schema and before the connector: the rows that are there first.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub seed_file: Option<Utf8PathBuf>,
    /// Run by `sh -c`, in an empty folder of its own.
    #[schemars(length(min = 1))]
    pub command: String,
    /// How long one load may take; 2 minutes unless said otherwise.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

/// One kind of transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SqlTransaction {
    /// Names it: in errors, and in its row of `public.drill_transactions`.
    pub name: String,
    /// How often it is drawn, against the weights of the others; 1 unless said otherwise.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub weight: u32,
    /// Its statements, in order, between a BEGIN and a COMMIT that are not written here. Placeholders: `{token}`, unique
    /// over runs and timelines; `{n}`, a number from 1 that no other transaction of the drill has; `{random:A..B}`, a
    /// number drawn from the seed, both ends included; `{writer}`, the writer's number from 0. A brace before anything but
    /// a letter is a brace; before a letter it is written `{{`.
    #[schemars(length(min = 1))]
    pub statements: Vec<String>,
}

fn one() -> u32 {
    1
}
