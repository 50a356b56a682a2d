//! `postgres restore`: a data folder from a recovery point and archived WAL, with no server and no pipeline about.

use camino::Utf8PathBuf;
use clap::Subcommand;

use super::{
    interrupt::unless_interrupted,
    output::{CliError, DryRun, print_json, say},
    recover::shown,
};
use cdc_engine::{
    backup::PointSelector,
    recovery::{RestoreOutcome, RestoreRequest, Target, Watch, plan_restore},
};
use cdc_model::units::{Exit, SystemId, Timeline};
use cdc_pipeline::config::Config;

/// The command's arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Restore into an empty folder, to a target, without a pipeline: nothing is archived, no recovery setting is left, and no
    /// server runs in the end
    Restore(Box<Restore>),
}

#[derive(Debug, clap::Args)]
#[group(id = "source", required = true, multiple = false, args = ["repository", "config"])]
struct Restore {
    /// The data folder: empty, or not there
    #[arg(long, value_name = "DIR")]
    pgdata: Utf8PathBuf,
    /// The repository's folder
    #[arg(long, value_name = "DIR")]
    repository: Option<Utf8PathBuf>,
    /// The pipeline's configuration file, which names repository, programs and account; its pipeline is left alone
    #[arg(long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,
    /// The folder of PostgreSQL's programs; those in PATH when absent
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    bin: Option<Utf8PathBuf>,
    /// A superuser of the cluster, as which the restored server is read back
    #[arg(long, value_name = "NAME", default_value = "postgres", conflicts_with = "config")]
    user: String,
    /// The recovery point: `latest` (the newest before the target) or an id of `backup list`
    #[arg(long, default_value = "latest", value_name = "POINT")]
    point: PointSelector,
    /// Where it stops: latest, immediate, time:RFC3339, lsn:X/Y, xid:N, name:RESTORE_POINT
    #[arg(long, default_value = "latest")]
    target: Target,
    /// The timeline on which the target lies, where several can mean it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    timeline: Option<u32>,
    /// Stop just before the target instead of just after it
    #[arg(long)]
    exclusive: bool,
    /// The cluster's system identifier, where the repository has several
    #[arg(long, value_name = "N")]
    system_id: Option<u64>,
    /// Start from the recovery point that --point names although consistency checks failed when it was taken
    #[arg(long)]
    accept_inconsistent_point: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    dry: DryRun,
}

impl Restore {
    fn request(&self) -> Result<RestoreRequest, CliError> {
        super::recover::refuse_unfit(&self.point, &self.target, self.exclusive, self.accept_inconsistent_point)?;
        let pgdata = self.pgdata.clone();
        let from = match (&self.config, &self.repository) {
            (Some(config), _) => RestoreRequest::of_config(pgdata, &Config::load(config)?),
            (None, Some(repository)) => {
                RestoreRequest::of_repository(pgdata, repository.clone(), self.bin.clone(), &self.user)
            }
            (None, None) => return Err(CliError::new(Exit::Usage, "expected --repository or --config, found neither")),
        };
        Ok(RestoreRequest {
            point: self.point.clone(),
            target: self.target.clone(),
            timeline: self.timeline.and_then(Timeline::new),
            exclusive: self.exclusive,
            system_id: self.system_id.map(SystemId),
            accept_inconsistent_point: self.accept_inconsistent_point,
            ..from
        })
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    let Verb::Restore(restore) = args.verb;
    let plan = plan_restore(&restore.request()?).await?;
    let planned = plan.outcome();
    if restore.dry.is_on() {
        show(&planned, restore.json)?;
        restore.dry.told(format!("restore recovery point {} into {}", planned.point, planned.pgdata));
        return Ok(Exit::Passed);
    }
    let restored = unless_interrupted(plan.run(&Watch::new(shown()))).await??;
    show(&restored, restore.json)?;
    Ok(Exit::Passed)
}

fn show(outcome: &RestoreOutcome, json: bool) -> Result<(), CliError> {
    if json {
        return print_json(outcome);
    }
    say(format!("recovery point: {}", outcome.point));
    say(format!("target: {}", outcome.target));
    outcome.notes.iter().for_each(|note| say(format!("note: {note}")));
    let last = outcome.last_commit.as_deref().unwrap_or("none since the recovery point");
    say(format!("last transaction: {last}"));
    if let (Some(timeline), Some(at)) = (outcome.timeline, outcome.ended_at) {
        say(format!("restored into {}: ended at {at} of timeline {}", outcome.pgdata, outcome.replayed));
        say(format!("the cluster is shut down, on timeline {timeline}"));
    }
    Ok(())
}
