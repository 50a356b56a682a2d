//! How soon the first change arrives after a cold start, and how long a coordinated recovery of a million rows takes beside
//! what no recovery can do without: the copy of the data folder and the snapshot of the connector. Runs the program as a
//! person does, on a stack of its own; everything is measured in the same run. Arguments: the scale of pgbench (10).
//! Of the first snapshots it also measures what a row costs the Connect worker's and the broker's processors, which other
//! work on the machine changes far less than seconds.
#![allow(clippy::print_stdout, reason = "what it measures is its output")]

use std::{
    collections::BTreeMap,
    error::Error,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_harness::run::machine;
use cdc_pipeline::{
    client::{
        ClientError,
        connect::Connect,
        kafka::Kafka,
        postgres::Postgres,
        wait::{self, Poll},
    },
    config::{Config, Tools},
};
use cdc_workload::pgbench;
use serde_json::Value;

type Outcome<T> = Result<T, Box<dyn Error>>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cdc-drill");
/// The median of three leaves one disturbed start out.
const STARTS: usize = 3;
const ROWS_OF_SCALE: u64 = 100_000;
const DEADLINE: Duration = Duration::from_secs(600);
/// The unit of `/proc/PID/stat`, on every Linux for x86-64.
const TICKS_A_SECOND: f64 = 100.0;
const ACCOUNTS: &str = "public.pgbench_accounts";

fn main() -> Outcome<()> {
    let scale = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(10);
    let runtime = tokio::runtime::Runtime::new()?;
    println!("{}", machine());
    for registry in ["h2", "kafkasql"] {
        let mut seconds = Vec::new();
        for _ in 0..STARTS {
            seconds.push(runtime.block_on(first_event(registry))?);
        }
        seconds.sort_by(f64::total_cmp);
        println!("first captured event on {registry}: {:.1} s, median of {seconds:.1?}", seconds[STARTS / 2]);
    }
    runtime.block_on(cost_of_a_row(scale))?;
    runtime.block_on(recovery(scale))
}

/// A stack that ends with its value.
struct Stack {
    dir: Utf8PathBuf,
    config: Config,
    _folder: tempfile::TempDir,
}

impl Stack {
    fn up(registry: &str) -> Outcome<Stack> {
        let folder = tempfile::Builder::new().prefix("cdc-drill-bench-").tempdir()?;
        // The servers run as another account, which must be able to pass through.
        Command::new("chmod").arg("755").arg(folder.path()).status()?;
        let dir = Utf8Path::from_path(folder.path()).ok_or("a temporary folder with a name in UTF-8")?.join("stack");
        program(&["stack", "up", "--dir", dir.as_str(), "--registry", registry])?;
        let config = Config::load(&dir.join("cdc-drill.toml"))?;
        Ok(Stack { dir, config, _folder: folder })
    }

    async fn sql(&self) -> Outcome<Postgres> {
        Ok(Postgres::connect(&self.config.postgres.url, "cdc-drill bench").await?)
    }

    /// Creates a connector on these tables, as the program prints it.
    async fn connector(&self, name: &str, tables: &str) -> Outcome<()> {
        let words = ["stack", "connector", "--dir", self.dir.as_str(), "--name", name];
        let printed = program(&[&words[..], &["--database", "postgres", "--tables", tables]].concat())?;
        let printed: Value = serde_json::from_str(&printed)?;
        let config: BTreeMap<String, String> =
            serde_json::from_value(printed.get("config").cloned().unwrap_or(printed))?;
        Connect::of(&self.config.connect).put_config(name, &config).await?;
        Ok(())
    }

    /// Seconds of processor time that worker and broker have used, all threads together.
    fn processor_times(&self) -> Outcome<[(&'static str, f64); 2]> {
        let used = |server: &str| -> Outcome<f64> {
            let path = self.dir.join("pids").join(format!("{server}.json"));
            let pids: Value = serde_json::from_str(&fs_err::read_to_string(&path)?)?;
            let pid = pids["server"]["pid"].as_u64().ok_or_else(|| format!("{path} names no process"))?;
            let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
            // The command's name, in parentheses, may hold spaces; user and system time are the 12th and 13th behind it.
            let fields =
                stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).ok_or("a process without a name")?;
            let ticks: u64 = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
            Ok(ticks as f64 / TICKS_A_SECOND)
        };
        Ok([("connect", used("connect")?), ("kafka", used("kafka")?)])
    }

    /// Waits until a topic holds so many records.
    async fn records(&self, topic: &str, wanted: u64) -> Outcome<()> {
        let kafka = Kafka::of(&self.config.kafka)?;
        wait::until(&format!("{wanted} records in {topic}"), DEADLINE, || async {
            if !kafka.topics().await?.contains_key(topic) {
                return Ok::<_, ClientError>(Poll::NotYet("no topic".into()));
            }
            let there: i64 = kafka.watermarks(topic).await?.iter().map(|(low, high)| high.0 - low.0).sum();
            Ok(if there as u64 >= wanted { Poll::Ready(()) } else { Poll::NotYet(format!("{there}")) })
        })
        .await?;
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = program(&["stack", "down", "--dir", self.dir.as_str()]) {
            eprintln!("{error}");
        }
    }
}

/// Runs the program; what it printed to standard output.
fn program(words: &[&str]) -> Outcome<String> {
    let out = Command::new(PROGRAM).args(words).stdin(Stdio::null()).output()?;
    if !out.status.success() {
        return Err(
            format!("cdc-drill {}: {}: {}", words.join(" "), out.status, String::from_utf8_lossy(&out.stderr)).into()
        );
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// Seconds from nothing to the first row's record in its topic.
async fn first_event(registry: &str) -> Outcome<f64> {
    let began = Instant::now();
    let stack = Stack::up(registry)?;
    stack.sql().await?.run("create table first (id int primary key); insert into first values (1)").await?;
    stack.connector("bench", "public.first").await?;
    stack.records("bench.public.first", 1).await?;
    Ok(began.elapsed().as_secs_f64())
}

/// What a snapshot costs in a worker that has just started, as a drill's has, and in the same one again.
async fn cost_of_a_row(scale: u32) -> Outcome<()> {
    let stack = Stack::up("h2")?;
    let rows = u64::from(scale) * ROWS_OF_SCALE;
    pgbench::init(&Tools::here(&stack.config.postgres.bin), &stack.config.postgres.url, scale).await?;
    let connect = Connect::of(&stack.config.connect);
    for name in ["cold", "warm"] {
        let before = stack.processor_times()?;
        stack.connector(name, ACCOUNTS).await?;
        stack.records(&format!("{name}.{ACCOUNTS}"), rows).await?;
        for ((server, before), (_, after)) in before.iter().zip(stack.processor_times()?) {
            println!("{name} snapshot: {:.1} us of {server}'s CPU a row", (after - before) * 1e6 / rows as f64);
        }
        connect.stopped(name, DEADLINE).await?;
        connect.delete(name).await?;
    }
    Ok(())
}

async fn recovery(scale: u32) -> Outcome<()> {
    let stack = Stack::up("h2")?;
    let rows = u64::from(scale) * ROWS_OF_SCALE;
    let postgres = &stack.config.postgres;
    pgbench::init(&Tools::here(&postgres.bin), &postgres.url, scale).await?;
    let began = Instant::now();
    stack.connector("bench", &format!("{ACCOUNTS},public.pgbench_branches,public.pgbench_tellers")).await?;
    stack.records(&format!("bench.{ACCOUNTS}"), rows).await?;
    let snapshot = began.elapsed().as_secs_f64();
    let config = stack.dir.join("cdc-drill.toml");
    let began = Instant::now();
    program(&["backup", "create", "--config", config.as_str()])?;
    let backup = began.elapsed().as_secs_f64();
    pgbench::load(&Tools::here(&postgres.bin), &postgres.url, 4, 2000, 42).await?;
    let copy = lone_copy(&postgres.pgdata)?;
    stack.sql().await?.run("delete from pgbench_tellers").await?;
    let words = ["recover", "run", "coordinated", "--config", config.as_str(), "--yes", "--json"];
    let began = Instant::now();
    let outcome: Value = serde_json::from_str(&program(&words)?)?;
    let whole = began.elapsed().as_secs_f64();
    println!("{rows} rows: backup {backup:.1} s; recovery and verify {whole:.1} s, verdict {}", outcome["verdict"]);
    let mut rto = 0.0;
    for step in outcome["steps"].as_array().into_iter().flatten() {
        let seconds = step["seconds"].as_f64().unwrap_or_default();
        println!("{:>20} {:>7.2} s {}", step["name"].as_str().unwrap_or_default(), seconds, bar(rto, seconds));
        rto += seconds;
    }
    println!("{:>20} {rto:>7.2} s", "RTO");
    println!("{:>20} {copy:>7.2} s (a lone copy of the data folder)", "unavoidable");
    println!("{:>20} {snapshot:>7.2} s (a lone first snapshot of the connector)", "unavoidable");
    println!("{:>20} {:>7.2} of the unavoidable", "RTO", rto / (copy + snapshot));
    Ok(())
}

/// One character a second, from where the step began.
fn bar(from: f64, seconds: f64) -> String {
    format!("{}{}", " ".repeat(from as usize), "=".repeat((seconds.ceil() as usize).max(1)))
}

/// Seconds that a plain copy of the folder takes, written through to the disk.
fn lone_copy(from: &Utf8Path) -> Outcome<f64> {
    let to = tempfile::tempdir()?;
    let began = Instant::now();
    let copied = Command::new("cp").arg("-r").arg(from).arg(to.path()).status()?;
    let synced = Command::new("sync").arg("-f").arg(to.path()).status()?;
    if !(copied.success() && synced.success()) {
        return Err(format!("copying {from}: {copied}, {synced}").into());
    }
    Ok(began.elapsed().as_secs_f64())
}
