//! `cdc-drill run`: the drills.

use std::sync::{Arc, Mutex};

use camino::Utf8PathBuf;
use tokio_util::sync::CancellationToken;

use super::{
    CliError,
    annotations::Annotations,
    attend::{Attended, Done},
    objectives::MaxTimes,
    output::{DryRun, Terminal as CommandLine, say},
    print_json,
};
use crate::{
    report::Terminal,
    run::{Session, may_drill},
    stack::BackendChoice,
};
use cdc_engine::backup::Task;
use cdc_model::{event::Event, units::Exit};
use cdc_pipeline::config::{Config, Span};

/// Where drills run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    /// Native processes of this machine
    Local,
    /// Containers of this machine's Docker engine; `CDC_DRILL_IMAGE_POSTGRES`, `_KAFKA`, `_CONNECT` and `_REGISTRY` name other images
    Docker,
    /// Broker, Connect workers and registry of a pipeline that exists; each drill brings its own PostgreSQL cluster
    Attach,
}

/// Runs drills.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
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
    /// How many drills run at the same time; five unless the machine is measured to have room for fewer
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Only variants (and their controls) whose id contains this; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Leave the controls out: the run then says nothing about whether its checks can fail
    #[arg(long)]
    without_controls: bool,
    /// Print report.json to standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    annotations: Annotations,
    #[command(flatten)]
    max: MaxTimes,
    #[command(flatten)]
    dry: DryRun,
    /// Where the drills run
    #[arg(long, value_enum, default_value_t = Backend::Local)]
    backend: Backend,
    /// The configuration of the pipeline to attach to; it must permit `inject`
    #[arg(long, value_name = "FILE", required_if_eq("backend", "attach"))]
    config: Option<Utf8PathBuf>,
    /// The configuration of the pipeline that this is the drill of: how it ended and its RTO are noted in that pipeline's repository, its
    /// `[notify]` command hears of it, and `status` shows it
    #[arg(long, value_name = "FILE")]
    record: Option<Utf8PathBuf>,
    /// With --record: also write the pipeline's metrics into this file, as `status --metrics` does
    #[arg(long, value_name = "FILE", requires = "record")]
    metrics: Option<Utf8PathBuf>,
    /// Scenarios by id or file; all of scenarios/recovery/ unless given
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    let record = args.record.as_deref().map(Config::load).transpose()?;
    match record.filter(|_| !args.dry.is_on()) {
        None => Ok(drills(args).await?.exit),
        Some(config) => {
            let (repository, metrics) = (&config.repository.path, args.metrics.clone());
            let around = Attended { task: Task::Drill, config: Some(&config), repository, metrics: metrics.as_deref() };
            around.run(drills(args)).await
        }
    }
}

async fn drills(args: Args) -> Result<Done, CliError> {
    args.annotations.beside_json(args.json)?;
    let replay = replay(&args);
    let backend = match (args.backend, &args.config) {
        (Backend::Attach, Some(file)) => {
            let config = Config::load(file)?;
            may_drill(&config).await?;
            BackendChoice::Attach(Box::new(config))
        }
        (Backend::Docker, _) => BackendChoice::Docker,
        _ => BackendChoice::Local,
    };
    let interrupt = CancellationToken::new();
    let session = Session::new(args.report_dir.clone())
        .seed(args.seed)
        .options(|options| {
            options.keep = args.keep;
            options.isolated = args.isolated;
            options.backend = backend;
            options.jobs = args.jobs;
            options.replay = replay;
            options.interrupt = interrupt.clone();
        })
        .scenarios(&args.scenarios)?
        .retain(|drill| {
            (args.only.is_empty() || args.only.iter().any(|text| drill.id.as_str().contains(text.as_str())))
                && (drill.is_main() || !args.without_controls)
        });
    if session.is_empty() {
        let hint = "`cdc-drill scenario list` shows what there is";
        return Err(CliError::new(Exit::Invalid, "no drill is left to run").hint(hint));
    }
    let session = session.within(args.max.max_rto.map(Span::duration), args.max.max_rpo.map(Span::duration))?;
    if args.dry.is_on() {
        for id in session.drills() {
            args.dry.told(format!("run {id}"));
        }
        return Ok(Done::new(Exit::Passed, None));
    }
    let terminal = Arc::new(Mutex::new(Terminal::stderr()));
    let shown = terminal.clone();
    let watch = move |event: &Event| {
        if let Ok(mut terminal) = shown.lock() {
            terminal.add(event);
        }
    };
    tokio::spawn(async move {
        // Without a handler the signal's default ends this program, and the servers' supervisors notice.
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.cancel();
        }
    });
    let finished = session.run_watched(watch, &CommandLine::new()).await?;
    if let Ok(mut terminal) = terminal.lock() {
        terminal.finish(&finished.report);
    }
    say(format!("reports: {}/report.html", finished.folder));
    args.annotations.write(&finished.report)?;
    if args.json {
        print_json(&finished.report)?;
    }
    let measured = finished.report.drills.iter().filter_map(|drill| drill.recovery.rto_seconds);
    let rto_seconds = measured.max_by(f64::total_cmp);
    Ok(Done { rto_seconds, ..Done::new(finished.exit, Some(finished.report.reason)) })
}

/// The command line that runs the same again.
fn replay(args: &Args) -> String {
    let mut words = vec!["cdc-drill run".to_owned()];
    words.extend(args.seed.map(|seed| format!("--seed {seed}")));
    match (args.backend, &args.config) {
        (Backend::Attach, Some(file)) => words.push(format!("--backend attach --config {file}")),
        (Backend::Docker, _) => words.push("--backend docker".to_owned()),
        _ => {}
    }
    words.extend(args.isolated.then(|| "--isolated".to_owned()));
    words.extend(args.max.max_rto.map(|max| format!("--max-rto {}", compact(max))));
    words.extend(args.max.max_rpo.map(|max| format!("--max-rpo {}", compact(max))));
    words.extend(args.only.iter().map(|only| format!("--only {only}")));
    words.extend(args.scenarios.iter().cloned());
    words.join(" ")
}

/// A span without blanks, which the command line reads again: `1h2m`.
fn compact(span: Span) -> String {
    span.to_string().replace(' ', "")
}
