//! `recover plan`, `run`, and what there is for a recovery that did not end: `status`, `resume`, `abort`.

use std::{
    io::{IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use camino::Utf8PathBuf;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::{
    attend::{Attended, Done, MetricsFile},
    interrupt::unless_interrupted,
    output::{CliError, DryRun, print_json, say},
    words,
};
use cdc_engine::{
    backup::{PointSelector, Task},
    recovery::{self, Leftover, Outcome, Playbook, Progress, Recovered, Request, Status, SystemStatus, Target, Watch},
};
use cdc_model::{
    event::{CheckReport, StepReport, StepResult},
    units::{Exit, Failure, Hint, SystemId, Timeline, Verdict, counted},
    vocabulary::{Loss, OnConflict, TopicsRepair},
};
use cdc_pipeline::{client::limits, config::Config};
use cdc_verify::{VerifyError, VerifyOptions, verify};

/// The command's arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
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
        metrics: MetricsFile,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Say how far a recovery is that did not end; change nothing
    Status {
        /// The pipeline's configuration file
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Go on with the recovery that did not end, and verify the result
    Resume {
        /// The pipeline's configuration file
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
        /// Agree to a loss that the plan names; may be given several times
        #[arg(long, value_parser = words::loss(), value_name = "LOSS")]
        accept_loss: Vec<Loss>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        metrics: MetricsFile,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Take back the recovery that did not end: the old server and the connectors run again as they were
    Abort {
        /// The pipeline's configuration file
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
        /// Give it up instead, and leave everything as it is
        #[arg(long)]
        leave: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Name what recoveries that ended have set aside, with sizes, and remove it
    Finish {
        /// The pipeline's configuration file
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
        /// Agree to the removal of what is named
        #[arg(long)]
        yes: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
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
    /// Where the database's recovery stops: latest, immediate, time:RFC3339, lsn:X/Y, xid:N, name:RESTORE_POINT
    #[arg(long, default_value = "latest")]
    target: Target,
    /// The timeline on which the target lies, where several can mean it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    timeline: Option<u32>,
    /// Stop just before the target instead of just after it
    #[arg(long)]
    exclusive: bool,
    /// The cluster's system identifier, where its data folder is lost and cannot say it
    #[arg(long, value_name = "N")]
    system_id: Option<u64>,
    /// How topics are made right after a hole
    #[arg(long, value_parser = words::topics_repair(), default_value_t)]
    topics: TopicsRepair,
    /// What becomes of an incompatible schema change
    #[arg(long, value_parser = words::on_conflict(), default_value_t)]
    on_conflict: OnConflict,
    /// Agree to a loss that the plan names; may be given several times
    #[arg(long, value_parser = words::loss(), value_name = "LOSS")]
    accept_loss: Vec<Loss>,
    /// Start from the recovery point that --point names although consistency checks failed when it was taken
    #[arg(long)]
    accept_inconsistent_point: bool,
    /// Make the connectors again, STOPPED, that the recovery point has and the worker has not, and recover them too
    #[arg(long)]
    restore_connectors: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The result of a recovery that failed, as JSON.
#[derive(Serialize)]
struct Failed {
    #[serde(flatten)]
    outcome: Outcome,
    /// What a person can do about it.
    hints: Vec<Hint>,
}

/// Something that was set aside, and what became of it.
#[derive(Serialize)]
struct SetAside<'a> {
    #[serde(flatten)]
    leftover: &'a Leftover,
    /// Whether this command has removed it.
    removed: bool,
}

/// What to do about a refusal for lack of `--yes`.
const UNCHANGED: &str = "nothing was changed; run again with --yes to go ahead";

impl What {
    /// An option that the playbook does not know is a misunderstanding: who gives the slot playbook a target believes that the database
    /// goes back.
    fn refuse_unused(&self) -> Result<(), CliError> {
        let stop = [
            ("--target", self.target != Target::Latest),
            ("--timeline", self.timeline.is_some()),
            ("--system-id", self.system_id.is_some()),
        ];
        let topics = ("--topics", self.topics != TopicsRepair::default());
        let on_conflict = ("--on-conflict", self.on_conflict != OnConflict::default());
        let (playbook, unused) = match self.playbook {
            PlaybookName::Coordinated => (Playbook::Coordinated, vec![topics, on_conflict]),
            PlaybookName::Slot => (Playbook::Slot, [&stop[..], &[on_conflict]].concat()),
            PlaybookName::Schema => (Playbook::Schema, [&stop[..], &[topics]].concat()),
        };
        match unused.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(CliError::new(
                Exit::Usage,
                format!("{option}: expected an option of the playbook {playbook}, found one of another"),
            )
            .hint(match self.playbook {
                PlaybookName::Coordinated => "the coordinated playbook empties and fills the topics, whatever broke",
                PlaybookName::Slot | PlaybookName::Schema => {
                    "only the coordinated playbook takes the database back: `recover plan coordinated`"
                }
            })),
        }
    }

    fn request(&self) -> Result<Request, CliError> {
        refuse_unfit(&self.point, &self.target, self.exclusive, self.accept_inconsistent_point)?;
        self.refuse_unused()?;
        Ok(Request {
            point: self.point.clone(),
            target: self.target.clone(),
            timeline: self.timeline.and_then(Timeline::new),
            system_id: self.system_id.map(SystemId),
            exclusive: self.exclusive,
            connectors: self.connectors.clone(),
            topics: self.topics,
            on_conflict: self.on_conflict,
            accept_loss: self.accept_loss.iter().copied().collect(),
            accept_inconsistent_point: self.accept_inconsistent_point,
            restore_connectors: self.restore_connectors,
            ..Request::new(match self.playbook {
                PlaybookName::Coordinated => Playbook::Coordinated,
                PlaybookName::Slot => Playbook::Slot,
                PlaybookName::Schema => Playbook::Schema,
            })
        })
    }
}

/// Refuses options that contradict one another.
pub(super) fn refuse_unfit(
    point: &PointSelector,
    target: &Target,
    exclusive: bool,
    accept_inconsistent_point: bool,
) -> Result<(), CliError> {
    if accept_inconsistent_point && *point == PointSelector::Latest {
        return Err(CliError::new(
            Exit::Usage,
            "--accept-inconsistent-point: expected the id of the recovery point (--point ID), found `latest`",
        )
        .hint("`backup list` shows the points and which of their checks failed"));
    }
    if exclusive && matches!(target, Target::Latest | Target::Immediate) {
        return Err(CliError::new(
            Exit::Usage,
            format!(
                "--exclusive: expected a target to stop before (--target time:, lsn:, xid: or name:), found `{target}`"
            ),
        ));
    }
    Ok(())
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    match args.verb {
        Verb::Plan(what) => {
            let request = what.request()?;
            let config = Config::load(&what.config)?;
            let plan = recovery::plan(&config, &request).await?;
            show(&plan, what.json)?;
            Ok(Exit::Passed)
        }
        Verb::Run { what, yes, dry, .. } if !yes || dry.is_on() => {
            let request = what.request()?;
            let config = Config::load(&what.config)?;
            recovery::permit(&config, &request).await?;
            let plan = recovery::plan(&config, &request).await?;
            show(&plan, what.json)?;
            if dry.told("do these steps") {
                return Ok(Exit::Passed);
            }
            let destroyed: usize = plan.steps.iter().map(|s| s.destroys.len()).sum();
            let message = format!(
                "refused: this would destroy the {destroyed} named above",
                destroyed = counted(destroyed, "thing")
            );
            Err(CliError::new(Exit::Refused, message).hint(UNCHANGED))
        }
        Verb::Run { what, metrics, .. } => {
            let request = what.request()?;
            attended(&Config::load(&what.config)?, &request, what.json, &metrics).await
        }
        Verb::Status { config, json } => status(&Config::load(&config)?, json).await,
        Verb::Resume { config, accept_loss, json, metrics, dry } => {
            let config = Config::load(&config)?;
            let request = recovery::unfinished_request(&config, accept_loss.into_iter().collect())?;
            if !dry.is_on() {
                return attended(&config, &request, json, &metrics).await;
            }
            recovery::permit(&config, &request).await?;
            show(&recovery::plan(&config, &request).await?, json)?;
            dry.told("do these steps");
            Ok(Exit::Passed)
        }
        Verb::Abort { config, leave, json, dry } => {
            let config = Config::load(&config)?;
            if dry.is_on() {
                let request = recovery::unfinished_request(&config, Default::default())?;
                recovery::permit(&config, &request).await?;
                dry.told(format!("{} {}", if leave { "give up" } else { "take back" }, request.playbook));
                return Ok(Exit::Passed);
            }
            let abandoned = match leave {
                true => recovery::give_up(&config)?,
                false => recovery::abort(&config).await?,
            };
            abandoned.lines().into_iter().for_each(say);
            if json {
                print_json(&abandoned)?;
            }
            Ok(Exit::Passed)
        }
        Verb::Finish { config, yes, json, dry } => finish(&Config::load(&config)?, yes, json, dry).await,
    }
}

async fn finish(config: &Config, yes: bool, json: bool, dry: DryRun) -> Result<Exit, CliError> {
    let leftovers = recovery::leftovers(config)?;
    let mut removed = 0;
    let outcome = removal(config, &leftovers, yes, dry, &mut removed).await;
    if json {
        let set_aside = leftovers.iter().enumerate();
        print_json(&set_aside.map(|(at, leftover)| SetAside { leftover, removed: at < removed }).collect::<Vec<_>>())?;
    }
    outcome
}

/// Names what is set aside, and removes it where that was agreed to; counts what is gone.
async fn removal(
    config: &Config,
    leftovers: &[Leftover],
    yes: bool,
    dry: DryRun,
    removed: &mut usize,
) -> Result<Exit, CliError> {
    let line = |Leftover { recovery, what, path, bytes }: &Leftover| {
        format!("{what} of recovery {recovery}: {path} ({} MB)", bytes >> 20)
    };
    leftovers.iter().map(line).for_each(say);
    if leftovers.is_empty() {
        say("nothing is set aside");
        return Ok(Exit::Passed);
    }
    if dry.told("remove these") {
        return Ok(Exit::Passed);
    }
    if !yes {
        return Err(CliError::new(Exit::Refused, "refused: this would remove what is named above").hint(UNCHANGED));
    }
    recovery::remove_leftovers(config, leftovers, |leftover| {
        *removed += 1;
        say(format!("removed: {}", line(leftover)));
    })
    .await?;
    let bytes: u64 = leftovers.iter().map(|leftover| leftover.bytes).sum();
    say(format!("{} removed, {} MB", counted(leftovers.len(), "item"), bytes >> 20));
    Ok(Exit::Passed)
}

async fn status(config: &Config, json: bool) -> Result<Exit, CliError> {
    let status = recovery::status(config).await?;
    if json {
        print_json(&status)?;
    }
    let Some(status) = status else {
        say("no recovery of this cluster is unfinished");
        return Ok(Exit::Passed);
    };
    unfinished(&status);
    Ok(Exit::RecoveryFailed)
}

async fn attended(config: &Config, request: &Request, json: bool, metrics: &MetricsFile) -> Result<Exit, CliError> {
    let repository = &config.repository.path;
    let around = Attended { task: Task::Recovery, config: Some(config), repository, metrics: metrics.path() };
    around.run(recover(config, request, json)).await
}

async fn recover(config: &Config, request: &Request, json: bool) -> Result<Done, CliError> {
    let mut done: Vec<StepReport> = Vec::new();
    let mut told = |step: StepReport| {
        say(line(&step));
        done.push(step);
    };
    let watch = Watch::new(shown());
    let outcome = match unless_interrupted(recovery::run(config, request, &mut told, &watch)).await {
        Ok(outcome) => outcome,
        Err(interrupted) => {
            how_far(config).await;
            return Err(interrupted);
        }
    };
    match outcome {
        Ok(mut recovered) => {
            // What was diagnosed before the first step may be repaired now.
            notes("before the recovery", &recovered.outcome);
            say(format!("recovered in {:.1} s; record: {}", recovered.seconds, recovered.record));
            if let Some(downtime) = recovered.outcome.downtime {
                say(format!("down: {downtime}"));
            }
            let looks = [&recovered.outcome.neighbours, &recovered.outcome.archiving];
            let mut looks: Vec<CheckReport> = looks.into_iter().flatten().cloned().collect();
            looks.iter().for_each(super::verify::show);
            let verified = verified(config, request, &recovered).await;
            let (verdict, ends) = verified.as_ref().map_or((Verdict::Inconclusive, false), |v| (v.verdict, v.ends));
            recovered.outcome.verdict = recovered.outcome.verdict.and(verdict);
            match ends {
                true => {
                    recovery::conclude(&recovered)?;
                    if let Some(taken) = recovery::point_after(config, recovered.timeline).await {
                        super::verify::show(&taken.check);
                        looks.push(taken.check.clone());
                        recovered.outcome.new_point = Some(taken);
                    }
                }
                false => say(format!("recovery {} stays unfinished: the same command looks again", recovered.id)),
            }
            if json {
                print_json(&recovered.outcome)?;
            }
            let exit = with_looks(verified?.verdict, &looks);
            let reason =
                "what the topics hold, the neighbours or the archiving did not pass: see its output".to_owned();
            Ok(Done { rto_seconds: Some(recovered.seconds), ..Done::new(exit, Some(reason)) })
        }
        Err(error) => {
            if json {
                let outcome = Outcome {
                    playbook: request.playbook,
                    point: None,
                    target: Some(request.target.clone()),
                    steps: done,
                    verdict: Verdict::Failed,
                    findings: vec![error.to_string()],
                    not_looked_at: Vec::new(),
                    neighbours: None,
                    archiving: None,
                    new_point: None,
                    downtime: None,
                };
                print_json(&Failed { outcome, hints: error.hints() })?;
            }
            how_far(config).await;
            Err(error.into())
        }
    }
}

/// The exit code of a recovery that was verified, with what was looked at besides, its neighbours and the archive: what could not be
/// looked at is no fault.
fn with_looks(verified: Verdict, looks: &[CheckReport]) -> Exit {
    looks.iter().fold(verified.exit(), |exit, check| check.verdict.exit().worst(exit))
}

/// Shows how far a step is that takes long: on one line of its own where there is a terminal, by a line now and then elsewhere.
pub(super) fn shown() -> impl Fn(Progress) + Send + Sync + 'static {
    let (began, last) = (Instant::now(), Mutex::new(Duration::ZERO));
    let terminal = std::io::stderr().is_terminal();
    let pause = if terminal { limits::pacing::PROGRESS_BAR } else { limits::pacing::PROGRESS_LINE };
    move |progress| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if began.elapsed() < *last + pause {
            return;
        }
        *last = began.elapsed();
        let text = progress.to_string();
        match terminal {
            // Overwritten by the next one, and by the step's own line.
            true => {
                let _ = write!(std::io::stderr().lock(), "\r\x1b[K{text}\r");
            }
            false => say(text),
        }
    }
}

/// What began is on disk; an error alone does not say how far a recovery came.
async fn how_far(config: &Config) {
    if let Ok(Some(status)) = recovery::status(config).await {
        unfinished(&status);
    }
}

fn unfinished(status: &Status) {
    let ended = if status.at_work.is_some() { "has not ended" } else { "did not end" };
    say(format!("recovery {} ({}), begun {}, {ended}", status.id, status.request(), status.began));
    for step in &status.steps {
        say(format!("  {}: {}", step.name, if step.ended { "ended" } else { "begun, and not ended" }));
    }
    if let Some(by) = &status.at_work {
        say(format!("at work: {by}"));
    }
    if let Some(progress) = &status.progress {
        say(format!("{} ({} s ago)", progress.text, progress.age_seconds));
    }
    for step in &status.not_begun {
        say(format!("  {step}: not begun, nothing of it was touched"));
    }
    for SystemStatus { system, answers, state } in &status.systems {
        say(format!("{} {system}: {state}", if *answers { "up  " } else { "down" }));
    }
    for path in &status.set_aside {
        say(format!("set aside or prepared: {path}"));
    }
    say(format!("record: {}", status.record));
    if status.at_work.is_none() {
        say(format!("next: {}", status.next));
    }
}

/// What the closing look gave.
struct Verified {
    /// Of the recovery: what was not compared is not passed.
    verdict: Verdict,
    /// Whether the recovery ends with it: everything that can be compared was, and is right.
    ends: bool,
}

impl Verified {
    /// `compared` is the verdict on the connectors that were compared, `unread` whether `verify` does not read others: looking again
    /// would not change that.
    fn of(compared: Option<Verdict>, unread: bool) -> Verified {
        let verdict = match unread {
            true => compared.unwrap_or(Verdict::Passed).and(Verdict::Inconclusive),
            false => compared.unwrap_or(Verdict::Inconclusive),
        };
        let ends = compared.map_or(unread, |compared| compared == Verdict::Passed);
        Verified { verdict, ends }
    }
}

/// What the topics hold decides, not the steps' own words.
async fn verified(config: &Config, request: &Request, recovered: &Recovered) -> Result<Verified, CliError> {
    let asked_for = |name: &&String| request.connectors.is_empty() || request.connectors.contains(name);
    let resting: Vec<&String> = recovered.resting.iter().filter(asked_for).collect();
    for name in &resting {
        say(format!("connector {name} is at rest, as it was found, and is not verified"));
    }
    let running = recovered.sources.iter().filter(asked_for).filter(|name| !resting.contains(name));
    let mut connectors: Vec<String> = running.cloned().collect();
    if connectors.is_empty() && !resting.is_empty() {
        say("no connector runs: resume one, and the same command verifies it");
        return Ok(Verified::of(None, false));
    }
    let mut unread = false;
    loop {
        // Without a name `verify` looks at all of the server's, or says that there is none.
        let named = if resting.is_empty() && !unread { request.connectors.clone() } else { connectors.clone() };
        let options = VerifyOptions { connectors: named, deadline: limits::verify::AFTER_RECOVERY.into(), point: None };
        let refused = match verify(config, &options).await {
            Ok(checks) => {
                let verdict = checks.iter().fold(Verdict::Passed, |all, check| all.and(check.verdict));
                super::verify::tell(verdict, &checks);
                return Ok(Verified::of(Some(verdict), unread));
            }
            Err(VerifyError::Refused { connector, setting, found, .. }) if connectors.contains(&connector) => {
                say(format!(
                    "connector {connector} is recovered, and `verify` does not read it ({setting}={found}): compare its topics yourself"
                ));
                connector
            }
            Err(error) => return Err(error.into()),
        };
        unread = true;
        connectors.retain(|name| *name != refused);
        if connectors.is_empty() {
            return Ok(Verified::of(None, resting.is_empty()));
        }
    }
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
    if let Some(point) = &plan.point {
        say(format!("recovery point: {point}"));
    }
    if let Some(target) = &plan.target {
        say(format!("target: {target}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_cannot_be_looked_at_again_are_no_failed_check() {
        let check = |verdict| CheckReport { verdict, ..CheckReport::inconclusive("neighbours", String::new()) };
        let exit = |verified, neighbours| with_looks(verified, &[check(neighbours)]);
        assert_eq!(with_looks(Verdict::Passed, &[]), Exit::Passed);
        assert_eq!(exit(Verdict::Passed, Verdict::Passed), Exit::Passed);
        assert_eq!(exit(Verdict::Passed, Verdict::Inconclusive), Exit::Inconclusive);
        assert_eq!(exit(Verdict::Failed, Verdict::Inconclusive), Exit::CheckFailed);
        assert_eq!(exit(Verdict::Passed, Verdict::Failed), Exit::CheckFailed);
    }

    #[test]
    fn a_recovery_ends_when_all_that_can_be_compared_was() {
        use Verdict::{Failed, Inconclusive, Passed};
        let cases = [
            ((Some(Passed), false), (Passed, true)),
            ((Some(Failed), false), (Failed, false)),
            ((Some(Inconclusive), false), (Inconclusive, false)),
            ((Some(Passed), true), (Inconclusive, true)),
            ((Some(Failed), true), (Failed, false)),
            ((Some(Inconclusive), true), (Inconclusive, false)),
            // Nothing but connectors that are not read, and nothing but connectors at rest.
            ((None, true), (Inconclusive, true)),
            ((None, false), (Inconclusive, false)),
        ];
        for ((compared, unread), expected) in cases {
            let Verified { verdict, ends } = Verified::of(compared, unread);
            assert_eq!((verdict, ends), expected, "{compared:?}, unread: {unread}");
        }
    }
}
