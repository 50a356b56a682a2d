//! `backup`: take, list, show and check recovery points.

use std::io::IsTerminal;

use camino::Utf8PathBuf;
use clap::Subcommand;
use serde_json::{Value, json};

use cdc_engine::backup::{
    self, BackupError, CheckOptions, CheckReport, CreateOptions, Format, PointSelector, PointSummary, Progress, Reach,
    Repository, VerifyReport,
};
use cdc_model::{
    units::{Exit, PointId, counted},
    vocabulary::BackupPart,
};
use cdc_pipeline::{
    attach,
    config::{Config, Permission, Tools},
};

use super::{
    interrupt::unless_interrupted,
    output::{CliError, DryRun, print_json, say},
};

/// Take, list, show and check recovery points.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Make a repository in an empty folder, for archive_command to write to.
    Init {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Take a recovery point of all parts, or of some.
    Create {
        /// The pipeline's configuration file.
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
        /// Only this part (may be given several times): postgres, connect, registry or topics.
        #[arg(long, value_name = "PART")]
        only: Vec<BackupPart>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        dry: DryRun,
    },
    /// List the recovery points, oldest first; unfinished, damaged and inconsistent ones with what is wrong with them.
    List {
        #[command(flatten)]
        place: Place,
        /// Print the list as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a recovery point's manifest.
    Show {
        #[command(flatten)]
        place: Place,
        /// The point's id, or `latest`.
        point: PointSelector,
    },
    /// Check the whole repository: every file that is there, and every file that should be. Exits 0, 30 (something is missing or
    /// too much), 31 (checksum) or 32 (WAL gap).
    Check {
        #[command(flatten)]
        place: Place,
        /// Read every byte, decompress everything, and prove that the WAL is of the server that each point was taken of. A point
        /// that passes is good.
        #[arg(long)]
        deep: bool,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Turn a repository of format 1 into one of format 2, in place; WAL may be archived meanwhile.
    Upgrade {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Check every byte of a recovery point and of the WAL it needs: exits 0, 30 (incomplete), 31 (checksum) or 32 (WAL gap).
    Verify {
        #[command(flatten)]
        place: Place,
        /// The point's id, or `latest`.
        point: PointSelector,
        /// Also decompress everything and compare the base backup with the server's own list.
        #[arg(long)]
        deep: bool,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Which repository.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The pipeline's configuration file, which names the repository.
    #[arg(long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,
    /// The repository's folder.
    #[arg(long, value_name = "DIR")]
    repository: Option<Utf8PathBuf>,
}

impl Place {
    /// The repository's folder, and how to call the cluster's programs where a configuration says so.
    async fn resolve(&self) -> Result<(Utf8PathBuf, Option<Tools>), CliError> {
        match (&self.repository, &self.config) {
            (Some(folder), _) => Ok((folder.clone(), None)),
            (None, Some(file)) => {
                let config = Config::load(file)?;
                let mut tools = Tools::of(&config);
                if tools.elsewhere() {
                    tools = Tools::of(&config.settled().await?);
                }
                Ok((config.repository.path, Some(tools)))
            }
            // Ruled out by the argument group.
            (None, None) => Ok((Utf8PathBuf::from("."), None)),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    match args.command {
        BackupCommand::Init { place, dry } => {
            let folder = place.resolve().await?.0;
            if dry.told(format!("make {folder} a backup repository")) {
                return Ok(Exit::Passed);
            }
            let repository = Repository::init(&folder)?;
            say(format!("{} is a backup repository", repository.path()));
            Ok(Exit::Passed)
        }
        BackupCommand::Create { config, only, json, dry } => {
            let config = Config::load(&config)?;
            if dry.is_on() {
                attach::permit(&config, Permission::Backup).await?;
                let parts: Vec<&str> = BackupPart::ALL
                    .into_iter()
                    .filter(|p| only.is_empty() || only.contains(p))
                    .map(BackupPart::word)
                    .collect();
                dry.told(format!("take a recovery point of {} into {}", parts.join(", "), config.repository.path));
                return Ok(Exit::Passed);
            }
            create(&config, only, json).await
        }
        BackupCommand::List { place, json } => {
            let points = Repository::open(&place.resolve().await?.0)?.points()?;
            if json {
                print_json(&points)?
            } else {
                list(&points)
            }
            Ok(Exit::Passed)
        }
        BackupCommand::Show { place, point } => {
            let point = Repository::open(&place.resolve().await?.0)?.point(&point)?;
            print_json(&point.manifest)?;
            Ok(Exit::Passed)
        }
        BackupCommand::Check { place, deep, json } => {
            let (folder, tools) = place.resolve().await?;
            let repository = Repository::open(&folder)?;
            let options = CheckOptions { deep, tools };
            let report = blocking(move || backup::check(&repository, &options)).await?;
            checked(&report, json)
        }
        BackupCommand::Upgrade { place, dry } => {
            let folder = place.resolve().await?.0;
            let format = Repository::open(&folder)?.format();
            if dry.told(format!(
                "turn {folder} from format {} into format {}",
                format.number(),
                Format::NEWEST.number()
            )) {
                return Ok(Exit::Passed);
            }
            let bar = bar();
            let progress = bar.clone();
            let root = folder.clone();
            let done = blocking(move || {
                backup::upgrade(&root, &|at| {
                    progress.set_length(at.total);
                    progress.set_position(at.done);
                })
            });
            let done = unless_interrupted(done).await;
            bar.finish_and_clear();
            let done = done??;
            say(format!(
                "{folder} has format {}: {} and {} carried over",
                Format::NEWEST.number(),
                counted(done.points, "recovery point"),
                counted(done.wal_files, "archived file")
            ));
            Ok(Exit::Passed)
        }
        BackupCommand::Verify { place, point, deep, json } => {
            let (folder, tools) = place.resolve().await?;
            let repository = Repository::open(&folder)?;
            let id = match point {
                PointSelector::Id(id) => id,
                PointSelector::Latest => latest(&repository)?,
            };
            let options = CheckOptions { deep, tools };
            let report = blocking(move || backup::verify(&repository, &id, &options)).await?;
            told(&report, json)
        }
    }
}

/// What a check of `latest` is about: the newest finished point, also where it is damaged and a recovery would pass it over.
fn latest(repository: &Repository) -> Result<PointId, BackupError> {
    let newest = repository.newest()?;
    let damaged = newest.passed_over.into_iter().next().map(|passed| passed.point);
    Ok(damaged.unwrap_or_else(|| newest.point.id().clone()))
}

/// Hashing a large repository must not hold up the runtime: Ctrl-C has to be heard.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, CliError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(join) => Err(CliError::new(Exit::Internal, format!("a blocking task ended: {join}"))),
    }
}

async fn create(config: &Config, only: Vec<BackupPart>, json: bool) -> Result<Exit, CliError> {
    let bar = bar();
    let told = |progress: Progress| {
        if let Some(total) = progress.total {
            bar.set_length(total.max(progress.bytes));
        }
        bar.set_position(progress.bytes);
        bar.set_message(progress.part.word());
        bar.tick();
    };
    let created = unless_interrupted(backup::create(config, &CreateOptions { only }, &told)).await;
    bar.finish_and_clear();
    let created = created??;
    if json {
        print_json(&created.to_json())?;
    } else {
        let m = &created.manifest;
        say(format!("recovery point {}: {} in {}", m.point, counted(m.bytes, "byte"), counted(m.files.len(), "file")));
        for check in m.consistency.failed() {
            say(format!("  note: {check}"));
        }
        if m.consistency.failed().next().is_some() {
            say(format!("  note: `recover` starts from it only with --point {} --accept-inconsistent-point", m.point));
        }
    }
    Ok(match created.manifest.consistency.failed().next() {
        None => Exit::Passed,
        Some(_) => Exit::CheckFailed,
    })
}

fn bar() -> indicatif::ProgressBar {
    if !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template("{msg:>9} {bar:30} {bytes}/{total_bytes} {elapsed}");
    let bar = indicatif::ProgressBar::new(0);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

fn list(points: &[PointSummary]) {
    if points.is_empty() {
        say("no recovery points");
    }
    for p in points {
        let state = match (p.complete, p.failed_checks.is_empty()) {
            (false, _) => "unusable",
            (true, false) => "inconsistent",
            (true, true) => "complete",
        };
        say(format!("{}  {state:<12}  {:>12} bytes  {}", p.point, p.bytes, p.begin));
        for line in p.defect.iter().flat_map(|defect| defect.lines()) {
            say(format!("    {line}"));
        }
        for check in &p.failed_checks {
            say(format!("    {check}"));
        }
    }
}

fn checked(report: &CheckReport, json: bool) -> Result<Exit, CliError> {
    let exit = report.exit();
    if json {
        let mut value: Value = json!(report);
        value["exit_code"] = json!(exit.code());
        print_json(&value)?;
    }
    for point in &report.points {
        let state = match (point.usable, &point.passed) {
            (false, _) => "cannot be used".to_owned(),
            (true, Some(passed)) => format!("good: passed a deep check on {}", passed.at),
            (true, None) => "not checked deeply yet: `cdc-drill backup check --deep`".to_owned(),
        };
        say(format!("{}  {state}", point.point));
    }
    for reach in &report.reachable {
        let hole = reach.hole.as_ref().map(|hole| format!("; {hole} is missing, and WAL follows")).unwrap_or_default();
        let Reach { point, timeline, from, to, .. } = reach;
        say(format!("reachable from {point} on timeline {timeline}: {from} up to {to}{hole}"));
    }
    for note in &report.notes {
        say(format!("note: {note}"));
    }
    for defect in &report.defects {
        say(defect.to_string());
    }
    let verdict = match report.defects.len() {
        0 => "whole".to_owned(),
        n => counted(n, "defect"),
    };
    let looked = if report.deep { "every byte of" } else { "names and sizes of" };
    say(format!(
        "{}: {verdict} ({looked} {}, {})",
        report.repository,
        counted(report.files, "file"),
        counted(report.bytes, "byte")
    ));
    Ok(exit)
}

fn told(report: &VerifyReport, json: bool) -> Result<Exit, CliError> {
    let exit = report.exit();
    if json {
        let mut value: Value = json!(report);
        value["exit_code"] = json!(exit.code());
        print_json(&value)?;
    }
    for defect in &report.defects {
        say(defect.to_string());
    }
    let verdict = if exit == Exit::Passed { "whole".to_owned() } else { counted(report.defects.len(), "defect") };
    let seen = format!(
        "{}, {}, {}",
        counted(report.files, "file"),
        counted(report.wal_segments, "WAL segment"),
        counted(report.bytes, "byte")
    );
    say(format!("{}: {verdict} ({seen})", report.point));
    Ok(exit)
}
