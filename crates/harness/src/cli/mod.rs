//! The command line: one file a subcommand.

mod annotations;
mod attend;
mod backup;
mod completions;
mod doctor;
mod interrupt;
mod objectives;
mod output;
mod postgres;
mod protected;
mod prove;
mod recover;
mod report;
mod restore;
mod run;
mod scenario;
mod setup;
mod stack;
mod status;
mod supervise;
mod topic;
mod topic_archive;
mod verify;
mod wal;
mod words;

use clap::{CommandFactory, Parser, Subcommand};

pub use output::{CliError, print_json};

use crate::{
    run::controls,
    scenario::{Needs, StepNeed},
};
use cdc_engine::recovery::Playbook;
use cdc_model::units::Exit;

const ABOUT: &str = "Fire drills for change-data-capture pipelines: break a real PostgreSQL, Debezium, Kafka and schema registry stack, recover it, and prove the recovery from rows and records.";

/// Fire drills for change-data-capture pipelines.
#[derive(Debug, Parser)]
#[command(name = "cdc-drill", version, about = ABOUT, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One line a subcommand.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the drills
    Run(Box<run::Args>),
    /// Show, check and describe scenarios
    Scenario(scenario::Args),
    /// Fetch the programs of the local stack and prepare fast starts
    Setup(setup::Args),
    /// Say what this machine has and lacks
    Doctor(doctor::Args),
    /// A stack to play with
    Stack(stack::Args),
    /// Recovery points
    Backup(backup::Args),
    /// Go back to a whole pipeline
    Recover(recover::Args),
    /// Bring back one part of a recovery point: connectors, topics, groups or the registry
    Restore(restore::Args),
    /// Restore a PostgreSQL data folder alone
    Postgres(postgres::Args),
    /// Say whether the pipeline is recoverable now, to when, how fast, and what stands in the way; change nothing. Exits 0, 37 (recoverable, at risk), 13
    /// (not known), or with what is in the way of a recovery: 10, 30, 32 or 34
    Status(status::Args),
    /// Compare tables with topics
    Verify(verify::Args),
    /// Restore a recovery point into a scratch stack and prove it there; the pipeline is not needed and not touched
    Prove(Box<prove::Args>),
    /// Make the reports of a run again from its events
    Report(report::Args),
    /// Back up topics' records and replay them; empty topics
    Topic(topic::Args),
    /// PostgreSQL's archive_command and restore_command
    Wal(wal::Args),
    /// Print completions for a shell: `source <(cdc-drill completions bash)`
    Completions(completions::Completions),
    /// Write a man page for each command into a folder
    Man(completions::Man),
    #[command(hide = true)]
    Supervise(supervise::Args),
}

impl Command {
    async fn run(self) -> Result<Exit, CliError> {
        match self {
            Command::Run(args) => run::run(*args).await,
            Command::Scenario(args) => scenario::run(args, recovery_needs()),
            Command::Setup(args) => setup::run(args).await,
            Command::Doctor(args) => doctor::run(args).await,
            Command::Stack(args) => stack::run(args).await,
            Command::Backup(args) => backup::run(args).await,
            Command::Recover(args) => recover::run(args).await,
            Command::Restore(args) => restore::run(args).await,
            Command::Postgres(args) => postgres::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Verify(args) => verify::run(args).await,
            Command::Prove(args) => prove::run(*args).await,
            Command::Report(args) => report::run(args),
            Command::Topic(args) => topic::run(args).await,
            Command::Wal(args) => Ok(wal::run_now(args)?),
            Command::Completions(args) => completions::completions(args, command()),
            Command::Man(args) => completions::man(args, command()),
            Command::Supervise(args) => supervise::run(args),
        }
    }
}

/// What each step of the coordinated playbook is needed for: the control that is red without it.
fn recovery_needs() -> Vec<Needs> {
    let steps = controls::COORDINATED.iter().map(|noticed| StepNeed {
        step: noticed.step.to_owned(),
        variant: noticed.variant.to_owned(),
        check: noticed.check.to_owned(),
    });
    vec![Needs { playbook: Playbook::Coordinated.word().to_owned(), steps: steps.collect() }]
}

/// Every command with its arguments and subcommands, as the program has them.
pub fn command() -> clap::Command {
    Cli::command()
}

/// How large a stack a command has: futures of an unoptimized build are, and a main thread's is what the shell allows.
const STACK_BYTES: usize = 64 << 20;

fn on_a_large_stack(work: impl FnOnce() -> Result<Exit, CliError> + Send) -> Result<Exit, CliError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("command".into()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, work) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(CliError::new(Exit::Internal, format!("start a thread: {error}"))),
        }
    })
}

/// Reads the command line, does what it says, and returns the process's exit code.
pub fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Passed };
            return exit.code().into();
        }
    };
    let result = match cli.command {
        // Before any thread is there: the supervisor's main thread must be the process's only one when it spawns.
        Command::Supervise(args) => supervise::run(args),
        // PostgreSQL calls this for each segment and waits: no runtime for it.
        Command::Wal(args) => wal::run_now(args).map_err(CliError::from),
        command => {
            output::start_tracing();
            match tokio::runtime::Runtime::new() {
                Ok(runtime) => on_a_large_stack(|| runtime.block_on(command.run())),
                Err(error) => Err(CliError::new(Exit::Internal, format!("start the runtime: {error}"))),
            }
        }
    };
    match result {
        Ok(exit) => exit.code().into(),
        Err(error) => {
            output::complain(&error);
            error.exit.code().into()
        }
    }
}
