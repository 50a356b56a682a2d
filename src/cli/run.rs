//! `cdc-drill run`: the drills.

use std::sync::{Arc, Mutex};

use camino::Utf8PathBuf;

use super::{CliError, output::Terminal as CommandLine, print_json};
use crate::{
    event::Event,
    report::{Folder, Terminal},
    run::{self, Emitter, JOBS_DEFAULT, Options, RunError},
    scenario::{Library, Plan},
    units::{Exit, RunId},
};

/// Runs drills.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The seed of every random choice; each scenario's own unless given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the run's report folder is made
    #[arg(long, value_name = "DIR", default_value = "reports")]
    report_dir: Utf8PathBuf,
    /// Keep the servers' data folders even when everything is green
    #[arg(long)]
    keep: bool,
    /// Give each drill servers of its own, one drill at a time
    #[arg(long)]
    isolated: bool,
    /// How many drills run at the same time
    #[arg(long, value_name = "N", default_value_t = JOBS_DEFAULT)]
    jobs: usize,
    /// Only variants (and their controls) whose id contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Leave the controls out: the run then says nothing about whether its checks can fail
    #[arg(long)]
    without_controls: bool,
    /// Print report.json to standard output
    #[arg(long)]
    json: bool,
    /// Scenarios by id or file; all of scenarios/recovery/ unless given
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, CliError> {
    let plan = plan(&args)?;
    let run = new_run_id();
    let dir = args.report_dir.join(run.as_str());
    let folder = Arc::new(Mutex::new(Folder::create(&dir)?));
    let terminal = Arc::new(Mutex::new(Terminal::stderr()));
    let emit = {
        let (folder, terminal) = (folder.clone(), terminal.clone());
        Emitter::new(move |event: &Event| {
            if let Ok(mut folder) = folder.lock()
                && let Err(error) = folder.add(event)
            {
                tracing::error!(%error, "writing an event");
            }
            if let Ok(mut terminal) = terminal.lock() {
                terminal.add(event);
            }
        })
    };
    let options = Options {
        work: work_folder(&run)?,
        report: dir.clone(),
        keep: args.keep,
        isolated: args.isolated,
        jobs: args.jobs,
        replay: replay(&args),
        run,
    };
    let progress = CommandLine::new();
    let outcome = tokio::select! {
        outcome = run::run(&plan, &options, &emit, &progress) => outcome,
        _ = tokio::signal::ctrl_c() => Err(RunError::Interrupted),
    };
    let exit = match &outcome {
        Ok(exit) => *exit,
        Err(error) => error.exit(),
    };
    let report = folder.lock().map_err(|_| CliError::new(Exit::Internal, "the report folder is lost"))?.finish()?;
    if let Ok(mut terminal) = terminal.lock() {
        terminal.finish(&report);
    }
    super::output::say(format!("reports: {dir}/report.html"));
    if args.json {
        print_json(&report)?;
    }
    outcome.map_err(|error| CliError::new(exit, error.to_string()))
}

fn plan(args: &Args) -> Result<Plan, CliError> {
    let library = Library::here();
    let mut plan = Plan::default();
    for loaded in library.load(&args.scenarios)? {
        plan.drills.extend(loaded.plan(args.seed).drills);
    }
    plan.drills.retain(|d| {
        args.only.as_ref().is_none_or(|text| d.id.as_str().contains(text.as_str()))
            && (d.is_main() || !args.without_controls)
    });
    if plan.drills.is_empty() {
        let hint = "hint: `cdc-drill scenario list` shows what there is";
        return Err(CliError::new(Exit::Invalid, format!("no drill is left to run\n{hint}")));
    }
    Ok(plan)
}

/// `YYYYMMDDThhmmssZ-xxxx`: sortable, and unique enough for two runs begun in the same second.
fn new_run_id() -> RunId {
    let now = jiff::Timestamp::now();
    let mark: u16 = rand::random();
    RunId::new(format!("{}-{mark:04x}", now.strftime("%Y%m%dT%H%M%SZ")))
}

/// Server data goes where temporary files go: reports stay small, and a crashed run's data goes away by itself.
fn work_folder(run: &RunId) -> Result<Utf8PathBuf, CliError> {
    let tmp = Utf8PathBuf::from_path_buf(std::env::temp_dir()).map_err(|path| {
        CliError::new(Exit::Invalid, format!("temporary folder {}: its path is not UTF-8", path.display()))
    })?;
    Ok(tmp.join(format!("cdc-drill-{run}")))
}

fn replay(args: &Args) -> String {
    let mut words = vec!["cdc-drill run".to_owned()];
    if let Some(seed) = args.seed {
        words.push(format!("--seed {seed}"));
    }
    if args.isolated {
        words.push("--isolated".to_owned());
    }
    if let Some(only) = &args.only {
        words.push(format!("--only {only}"));
    }
    words.extend(args.scenarios.iter().cloned());
    words.join(" ")
}
