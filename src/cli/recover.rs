//! `recover plan` and `recover run`.

use camino::Utf8PathBuf;
use clap::{Subcommand, ValueEnum};

use super::output::{CliError, DryRun, print_json, say};
use crate::{
    attach,
    backup::PointSelector,
    client::limits,
    config::{Config, Permission},
    event::{StepReport, StepResult},
    recovery::{self, OnConflict, Options, Outcome, Playbook, RecoveryError, Request, Target, TopicsRepair},
    units::{Exit, Verdict},
    verify::{VerifyOptions, verify},
};

/// The command's arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say what a recovery would do and destroy; change nothing
    Plan(What),
    /// Recover, and verify the result
    Run {
        #[command(flatten)]
        what: What,
        /// Agree to what the plan destroys
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        dry: DryRun,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PlaybookName {
    /// Stop, restore the database to the target, rebuild the topics from it
    Coordinated,
    /// Diagnose and replace a replication slot, repair the topics
    Slot,
    /// Diagnose and repair the registry, or decide on an incompatible change
    Schema,
}

#[derive(Debug, clap::Args)]
struct What {
    /// The procedure
    playbook: PlaybookName,
    /// The pipeline's configuration file
    #[arg(long, value_name = "FILE")]
    config: Utf8PathBuf,
    /// The recovery point: `latest` (the newest before the target) or an id of `backup list`
    #[arg(long, default_value = "latest", value_name = "POINT")]
    point: PointSelector,
    /// A connector of the cluster; all of them when none is named
    #[arg(long = "connector", value_name = "NAME")]
    connectors: Vec<String>,
    /// Where the database's recovery stops: latest, time:RFC3339, lsn:X/Y, name:RESTORE_POINT
    #[arg(long, default_value = "latest")]
    target: Target,
    /// Stop just before the target instead of just after it
    #[arg(long)]
    exclusive: bool,
    /// How topics are made right after a hole
    #[arg(long, value_enum, default_value_t)]
    topics: TopicsRepair,
    /// What becomes of an incompatible schema change
    #[arg(long, value_enum, default_value_t)]
    on_conflict: OnConflict,
    /// Go on although WAL is unreadable and acknowledged transactions are lost
    #[arg(long)]
    accept_loss: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl From<RecoveryError> for CliError {
    fn from(error: RecoveryError) -> CliError {
        CliError::new(error.exit(), error.to_string())
    }
}

impl What {
    fn request(&self) -> Request {
        Request {
            point: self.point.clone(),
            target: self.target.clone(),
            exclusive: self.exclusive,
            connectors: self.connectors.clone(),
            topics: self.topics,
            on_conflict: self.on_conflict,
            accept_loss: self.accept_loss,
            ..Request::new(match self.playbook {
                PlaybookName::Coordinated => Playbook::Coordinated,
                PlaybookName::Slot => Playbook::Slot,
                PlaybookName::Schema => Playbook::Schema,
            })
        }
    }
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, CliError> {
    match args.verb {
        Verb::Plan(what) => {
            let config = Config::load(&what.config)?;
            let plan = recovery::plan(&config, &what.request(), &Options::default()).await?;
            show(&plan, what.json)?;
            Ok(Exit::Passed)
        }
        Verb::Run { what, yes, dry } if !yes || dry.is_on() => {
            let config = Config::load(&what.config)?;
            attach::permit(&config, Permission::Recover).await?;
            let plan = recovery::plan(&config, &what.request(), &Options::default()).await?;
            show(&plan, what.json)?;
            if dry.told("do these steps") {
                return Ok(Exit::Passed);
            }
            let destroyed: usize = plan.steps.iter().map(|s| s.destroys.len()).sum();
            let hint = "hint: nothing was changed; run again with --yes to go ahead";
            Err(CliError::new(
                Exit::Refused,
                format!("refused: this would destroy the {destroyed} things named above\n{hint}"),
            ))
        }
        Verb::Run { what, .. } => recover(&what).await,
    }
}

async fn recover(what: &What) -> Result<Exit, CliError> {
    let config = Config::load(&what.config)?;
    let request = what.request();
    let mut done: Vec<StepReport> = Vec::new();
    let outcome = recovery::run(&config, &request, &Options::default(), &mut |step| {
        say(line(&step));
        done.push(step);
    })
    .await;
    match outcome {
        Ok(mut recovered) => {
            // What was diagnosed before the first step may be repaired now.
            notes("before the recovery", &recovered.outcome);
            say(format!("recovered in {:.1} s; journal: {}", recovered.seconds, recovered.journal));
            let neighbours = recovered.outcome.neighbours.iter().inspect(|check| super::verify::show(check));
            let touched = neighbours.filter(|check| check.verdict != Verdict::Passed).count();
            let verified = verified(&config, &request).await;
            let verdict = verified.as_ref().map_or(Verdict::Inconclusive, |verdict| *verdict);
            recovered.outcome.verdict = recovered.outcome.verdict.and(verdict);
            if what.json {
                print_json(&recovered.outcome)?;
            }
            let exit = verified?.exit();
            Ok(if touched > 0 { exit.worst(Exit::CheckFailed) } else { exit })
        }
        Err(error) => {
            if what.json {
                print_json(&Outcome {
                    playbook: request.playbook,
                    point: None,
                    target: Some(request.target.clone()),
                    steps: done,
                    verdict: Verdict::Failed,
                    findings: vec![error.to_string()],
                    not_looked_at: Vec::new(),
                    neighbours: None,
                })?;
            }
            Err(error.into())
        }
    }
}

/// What the topics hold decides, not the steps' own words.
async fn verified(config: &Config, request: &Request) -> Result<Verdict, CliError> {
    let options = VerifyOptions {
        connectors: request.connectors.clone(),
        deadline: limits::verify::AFTER_RECOVERY.into(),
        point: None,
    };
    let checks = verify(config, &options).await?;
    let verdict = checks.iter().fold(Verdict::Passed, |all, check| all.and(check.verdict));
    super::verify::tell(verdict, &checks);
    Ok(verdict)
}

fn notes(label: &str, outcome: &Outcome) {
    for finding in outcome.findings.iter().chain(&outcome.not_looked_at) {
        say(format!("{label}: {finding}"));
    }
}

fn show(plan: &Outcome, json: bool) -> Result<(), CliError> {
    if json {
        return print_json(plan);
    }
    notes("note", plan);
    for step in &plan.steps {
        say(line(step));
        for name in &step.destroys {
            say(format!("    destroys {name}"));
        }
    }
    Ok(())
}

fn line(step: &StepReport) -> String {
    let word = match step.result {
        StepResult::Planned => return format!("{}: {}", step.name, step.detail),
        StepResult::Done => "done",
        StepResult::Skipped => "nothing to do",
        StepResult::Failed => "FAILED",
        StepResult::Omitted => "left out",
    };
    format!("{:>6.2} s  {}: {word}: {}", step.seconds, step.name, step.detail)
}
