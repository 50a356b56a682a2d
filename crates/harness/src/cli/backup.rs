//! `backup`: take, list, show, check and prune recovery points.

use std::{io::IsTerminal, num::NonZeroU32};

use bytesize::ByteSize;
use camino::Utf8PathBuf;
use clap::Subcommand;
use serde_json::{Value, json};

use cdc_engine::backup::{
    self, BackupError, CheckOptions, CheckReport, CreateOptions, Format, Keep, Kind, ListedPoint, Listing,
    PointSelector, Progress, PruneOptions, PruneReport, PrunedTopicBackup, Reach, Repository, ServerArchiving, Task,
    VerifyReport,
};
use cdc_model::{
    units::{Exit, PointId, counted},
    vocabulary::BackupPart,
};
use cdc_pipeline::{
    attach,
    config::{BackupConfig, Config, Permission, Tools},
};

use super::{
    attend::{Attended, Done, MetricsFile},
    interrupt::unless_interrupted,
    output::{CliError, DryRun, print_json, say},
    words::age,
};

/// Take, list, show, check and prune recovery points.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Make a repository in an empty folder, for archive_command to write to. With recipients its content is encrypted from the beginning:
    /// whoever writes needs nothing but the repository, whoever reads needs an identity.
    Init {
        #[command(flatten)]
        place: Place,
        /// For whom the content is encrypted, `age1…` (may be given several times) [default: `[repository] recipients`, else nobody].
        #[arg(long, value_name = "RECIPIENT")]
        recipient: Vec<String>,
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
        metrics: MetricsFile,
        #[command(flatten)]
        dry: DryRun,
    },
    /// List the recovery points, oldest first: age, size, parts, last deep check, and what can be reached by replay; unfinished,
    /// damaged and inconsistent ones with what is wrong with them.
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
    /// Check the whole repository: every file that is there, and every file that should be. With --config the server is asked how it
    /// archives: WAL that it gave away and that is not here is lost; what waits, and a server that does not answer, is a note. Exits 0, 30
    /// (something is missing or too much), 31 (checksum) or 32 (WAL that is missing or lost).
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
        #[command(flatten)]
        metrics: MetricsFile,
    },
    /// Remove recovery points that need not be kept, and the archived WAL that no kept point needs; `backup create` does the same.
    /// Exits 0, 34 (a recovery or a backup is at work, or a recovery is unfinished) or 35 (still over the budget).
    Prune {
        #[command(flatten)]
        place: Place,
        /// Keep the points of the last N days before the newest one, and one before them [default: `[backup] keep_days`, else 7].
        #[arg(long, value_name = "N", conflicts_with = "keep")]
        keep_days: Option<NonZeroU32>,
        /// Keep the N newest points that hold all parts, and what is newer than the oldest of them [default: `[backup] keep`].
        #[arg(long, value_name = "N")]
        keep: Option<NonZeroU32>,
        /// What the repository may take on disk, such as `500 MiB` [default: `[backup] budget`, else 2 GiB].
        #[arg(long, value_name = "SIZE")]
        budget: Option<ByteSize>,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        metrics: MetricsFile,
        #[command(flatten)]
        dry: DryRun,
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
    /// The repository's folder, or its address in a bucket: s3://BUCKET/PREFIX.
    #[arg(long, value_name = "DIR")]
    repository: Option<Utf8PathBuf>,
}

impl Place {
    /// What the configuration says about keeping points; the defaults without one.
    fn backup(&self) -> Result<BackupConfig, CliError> {
        match &self.config {
            Some(file) => Ok(Config::load(file)?.backup),
            None => Ok(BackupConfig::default()),
        }
    }

    /// The configuration, where one is named: metrics are a pipeline's.
    fn with_metrics(&self, metrics: &MetricsFile) -> Result<Option<Config>, CliError> {
        match (&self.config, metrics.path()) {
            (Some(file), _) => Ok(Some(Config::load(file)?)),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(CliError::new(
                Exit::Usage,
                "--metrics: expected --config FILE, which names the pipeline, found --repository alone",
            )),
        }
    }

    /// What the server says of its archiving, or why it could not be asked; none where no configuration names one.
    async fn archiving(&self) -> Result<Option<Result<ServerArchiving, String>>, CliError> {
        let Some(file) = &self.config else { return Ok(None) };
        let asked = ServerArchiving::ask(&Config::load(file)?).await;
        Ok(Some(asked.map_err(|error| error.to_string())))
    }

    /// The repository, as the configuration says that it is where one names it.
    fn open(&self) -> Result<Repository, CliError> {
        Ok(match (&self.repository, &self.config) {
            (Some(folder), _) => Repository::open(folder)?,
            (None, Some(file)) => Repository::of(&Config::load(file)?.repository)?,
            // Ruled out by the argument group.
            (None, None) => Repository::open(".".into())?,
        })
    }

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
        BackupCommand::Init { place, mut recipient, dry } => {
            let folder = place.resolve().await?.0;
            if let (true, Some(file)) = (recipient.is_empty(), &place.config) {
                recipient = Config::load(file)?.repository.recipients;
            }
            if dry.told(format!("make {folder} a backup repository")) {
                return Ok(Exit::Passed);
            }
            let repository = Repository::init_for(&folder, &recipient)?;
            let encrypted = if repository.is_encrypted() { ", encrypted" } else { "" };
            say(format!("{} is a backup repository{encrypted}", repository.path()));
            Ok(Exit::Passed)
        }
        BackupCommand::Create { config, only, json, metrics, dry } => {
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
            let repository = &config.repository.path;
            let around = Attended { task: Task::Backup, config: Some(&config), repository, metrics: metrics.path() };
            around.run(create(&config, only, json)).await
        }
        BackupCommand::List { place, json } => {
            let listing = backup::list(&place.open()?)?;
            if json {
                print_json(&listing.points)?
            } else {
                list(&listing)
            }
            Ok(Exit::Passed)
        }
        BackupCommand::Show { place, point } => {
            let point = place.open()?.point(&point)?;
            print_json(&point.manifest)?;
            Ok(Exit::Passed)
        }
        BackupCommand::Check { place, deep, json, metrics } => {
            let (folder, tools) = place.resolve().await?;
            let repository = place.open()?;
            let config = place.with_metrics(&metrics)?;
            let task = if deep { Task::DeepCheck } else { Task::Check };
            let around = Attended { task, config: config.as_ref(), repository: &folder, metrics: metrics.path() };
            let work = async {
                // Before the repository is looked at: what the server has given away by now is there then.
                let archiving = place.archiving().await?;
                let options = CheckOptions { deep, tools, archiving };
                let report = blocking(move || backup::check(&repository, &options)).await?;
                let reason = report.defects.first().map(ToString::to_string);
                Ok(Done::new(checked(&report, json)?, reason))
            };
            around.run(work).await
        }
        BackupCommand::Prune { place, keep_days, keep, budget, json, metrics, dry } => {
            let mut options = PruneOptions::of(&place.backup()?);
            match (keep_days, keep) {
                (Some(days), _) => options.keep = Keep::Days(days.get()),
                (None, Some(count)) => options.keep = Keep::Count(count.get()),
                (None, None) => {}
            }
            options.budget = budget.map_or(options.budget, |budget| budget.as_u64());
            options.dry_run = dry.is_on();
            let folder = place.resolve().await?.0;
            let repository = place.open()?;
            let config = place.with_metrics(&metrics)?;
            let work = async {
                let report = unless_interrupted(blocking(move || backup::prune(&repository, &options))).await??;
                let over = format!("{} of a budget of {}", ByteSize(report.room.used), ByteSize(report.room.budget));
                Ok(Done::new(pruned(&report, json)?, Some(over)))
            };
            if dry.is_on() {
                return Ok(work.await?.exit);
            }
            let around =
                Attended { task: Task::Prune, config: config.as_ref(), repository: &folder, metrics: metrics.path() };
            around.run(work).await
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
            let tools = place.resolve().await?.1;
            let repository = place.open()?;
            let id = match point {
                PointSelector::Id(id) => id,
                PointSelector::Latest => latest(&repository)?,
            };
            let options = CheckOptions { deep, tools, archiving: None };
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

async fn create(config: &Config, only: Vec<BackupPart>, json: bool) -> Result<Done, CliError> {
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
        for note in &created.notes {
            say(format!("  note: {note}"));
        }
        for check in m.consistency.failed() {
            say(format!("  note: {check}"));
        }
        if m.consistency.failed().next().is_some() {
            say(format!("  note: `recover` starts from it only with --point {} --accept-inconsistent-point", m.point));
        }
    }
    let failed = created.manifest.consistency.failed().next().map(ToString::to_string);
    let exit = if failed.is_none() { Exit::Passed } else { Exit::CheckFailed };
    Ok(Done { point: Some(created.manifest.point.clone()), ..Done::new(exit, failed) })
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

fn list(listing: &Listing) {
    if listing.points.is_empty() {
        say("no recovery points");
    }
    for listed in &listing.points {
        let ListedPoint { summary, kind, adds_to, age_seconds, passed, reachable, .. } = listed;
        let state = match (summary.complete, summary.failed_checks.is_empty()) {
            (false, _) => "unusable",
            (true, false) => "inconsistent",
            (true, true) => "complete",
        };
        let kind = kind.map_or("-", word);
        let age = age_seconds.map_or_else(|| "age not known".to_owned(), |seconds| format!("{} old", age(seconds)));
        let size = ByteSize(summary.bytes).to_string();
        say(format!("{}  {state:<12}  {kind:<10}  {size:>10}  {age}  {}", summary.point, summary.begin).trim_end());
        for line in summary.defect.iter().flat_map(|defect| defect.lines()) {
            say(format!("    {line}"));
        }
        for check in &summary.failed_checks {
            say(format!("    {check}"));
        }
        if let Some(point) = adds_to {
            say(format!("    its base backup adds to that of {point}"));
        }
        match passed {
            Some(passed) => say(format!("    good: passed a deep check on {}", passed.at)),
            None if summary.complete => say("    not checked deeply yet: `cdc-drill backup check --deep`"),
            None => {}
        }
        for reach in reachable {
            let Reach { timeline, from, to, .. } = reach;
            say(format!("    reachable on timeline {timeline}: {from} up to {to}{}", gap(reach)));
        }
    }
    for cluster in &listing.wal {
        let (files, bytes) = (counted(cluster.files, "file"), ByteSize(cluster.bytes));
        say(format!("archived WAL of cluster {}: {files}, {bytes}", cluster.system_id));
    }
    for note in &listing.notes {
        say(format!("note: {note}"));
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Full => "full",
        Kind::StateOnly => "state-only",
        Kind::Selected => "selected",
    }
}

/// Where a stretch that can be reached ends before what is archived does.
fn gap(reach: &Reach) -> String {
    reach.hole.as_ref().map(|hole| format!("; {hole} is missing, and WAL follows")).unwrap_or_default()
}

fn pruned(report: &PruneReport, json: bool) -> Result<Exit, CliError> {
    let exit = report.exit();
    if json {
        let mut value: Value = json!(report);
        value["exit_code"] = json!(exit.code());
        print_json(&value)?;
    }
    let goes = if report.dry_run { "would go" } else { "removed" };
    for point in &report.points {
        let becomes = match (point.goes, point.good) {
            (Some(why), _) => format!("{goes}: {why}"),
            (None, true) => "stays, good".to_owned(),
            (None, false) => "stays".to_owned(),
        };
        say(format!("{}  {:<10}  {:>10}  {becomes}", point.point, word(point.kind), ByteSize(point.bytes).to_string()));
    }
    for backup in report.topics.iter().filter_map(|backup| Some((backup, backup.goes?))) {
        let (PrunedTopicBackup { topic, backup, .. }, why) = backup;
        say(format!("{backup}  records of {topic}  {goes}: {why}"));
    }
    say(format!("archived WAL: {} {goes}, {}", counted(report.wal_files, "file"), ByteSize(report.wal_bytes)));
    for note in &report.notes {
        say(format!("note: {note}"));
    }
    say(format!(
        "{}: {} {goes}; {} of {} used",
        report.repository,
        ByteSize(report.bytes),
        ByteSize(report.room.used),
        ByteSize(report.room.budget)
    ));
    if exit == Exit::BudgetExceeded {
        say(
            "the repository is over its budget, and nothing else may go: the newest points, the last good one and their WAL stay",
        );
        say("raise [backup] budget, or let a newer point become good: `cdc-drill backup check --deep`");
    }
    Ok(exit)
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
        let Reach { point, timeline, from, to, .. } = reach;
        say(format!("reachable from {point} on timeline {timeline}: {from} up to {to}{}", gap(reach)));
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
