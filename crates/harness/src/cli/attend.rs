//! What is done around a task of the night, the month or the bad day: how it ended is noted in the repository, the `[notify]` command
//! hears of it, and metrics are written. None of these changes what the task ended with.

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::Serialize;

use super::output::{CliError, say};
use cdc_engine::{
    backup::{Attempt, ClusterName, Ended, Repository, Task},
    health,
};
use cdc_model::units::{Exit, Hint, PointId, Verdict};
use cdc_pipeline::config::{Config, NotifyConfig};

/// The version of the events.
const FORMAT: u32 = 1;

/// How a task ended that came to its end.
#[derive(Debug)]
pub(super) struct Done {
    /// The exit code.
    pub(super) exit: Exit,
    /// Why it is not 0.
    pub(super) reason: Option<String>,
    /// The recovery point that was taken.
    pub(super) point: Option<PointId>,
    /// How long the pipeline was not whole.
    pub(super) rto_seconds: Option<f64>,
}

impl Done {
    /// One that has nothing more to say.
    pub(super) fn new(exit: Exit, reason: Option<String>) -> Done {
        Done { exit, reason: reason.filter(|_| exit != Exit::Passed), point: None, rto_seconds: None }
    }
}

/// A task, and whom it concerns.
#[derive(Debug)]
pub(super) struct Attended<'a> {
    /// Which.
    pub(super) task: Task,
    /// The pipeline's configuration; none where only a repository is named.
    pub(super) config: Option<&'a Config>,
    /// The repository.
    pub(super) repository: &'a Utf8Path,
    /// Where metrics go.
    pub(super) metrics: Option<&'a Utf8Path>,
}

/// What the `[notify]` command reads.
#[derive(Debug, Serialize)]
struct Event<'a> {
    format: u32,
    event: &'a str,
    pipeline: String,
    repository: String,
    host: &'a str,
    began: &'a str,
    ended: &'a str,
    verdict: Verdict,
    exit_code: u8,
    reason: Option<&'a str>,
    hints: Vec<String>,
    point: Option<&'a PointId>,
    rto_seconds: Option<f64>,
}

impl Attended<'_> {
    /// Does a task, and everything around it.
    pub(super) async fn run(self, work: impl Future<Output = Result<Done, CliError>>) -> Result<Exit, CliError> {
        let mut attempt = Attempt::begin(self.task);
        // Before anything else: one that is killed leaves this behind. What is in the way of it is said in the end.
        let _ = self.note(&attempt);
        let result = work.await;
        let hints = result.as_ref().err().map(|error| error.hints.clone()).unwrap_or_default();
        attempt.ended = Some(self.ended(&result));
        if let Err(error) = self.note(&attempt) {
            say(format!("note: how this ended is not in the repository: {}", error.message));
        }
        self.tell(&attempt, &hints).await;
        if let (Some(config), Some(file)) = (self.config, self.metrics) {
            let health = health::look(config, Some(&attempt)).await;
            if let Err(error) = health::write_metrics(file, &health.metrics) {
                say(format!("note: {error}"));
            }
        }
        result.map(|done| done.exit)
    }

    fn mask(&self, text: &str) -> String {
        self.config.map_or_else(|| text.to_owned(), |config| config.mask(text))
    }

    fn ended(&self, result: &Result<Done, CliError>) -> Ended {
        let (exit, reason, point, rto_seconds) = match result {
            Ok(done) => (done.exit, done.reason.clone(), done.point.clone(), done.rto_seconds),
            Err(error) => (error.exit, Some(error.message.clone()), None, None),
        };
        Ended {
            at: Timestamp::now().to_string(),
            exit_code: exit.code(),
            verdict: verdict(exit),
            reason: reason.map(|reason| self.mask(&reason)),
            point,
            rto_seconds,
        }
    }

    fn note(&self, attempt: &Attempt) -> Result<(), CliError> {
        let repository = Repository::open(self.repository)?;
        repository.note_attempt(self.config.map(ClusterName::of).as_ref(), attempt)?;
        Ok(())
    }

    async fn tell(&self, attempt: &Attempt, hints: &[Hint]) {
        let (Some(config), Some(ended)) = (self.config, &attempt.ended) else { return };
        let Some(notify) = config.notify.as_ref().filter(|notify| notify.hears(ended.verdict != Verdict::Passed))
        else {
            return;
        };
        let event = Event {
            format: FORMAT,
            event: attempt.task.word(),
            pipeline: health::name_of(config),
            repository: self.mask(self.repository.as_str()),
            host: &attempt.host,
            began: &attempt.began,
            ended: &ended.at,
            verdict: ended.verdict,
            exit_code: ended.exit_code,
            reason: ended.reason.as_deref(),
            hints: hints.iter().map(|hint| self.mask(&hint.to_string())).collect(),
            point: ended.point.as_ref(),
            rto_seconds: ended.rto_seconds,
        };
        if let Err(error) = call(notify, &event).await {
            say(format!("note: nobody was notified: {}", self.mask(&error)));
        }
    }
}

async fn call(notify: &NotifyConfig, event: &Event<'_>) -> Result<(), String> {
    let mut bytes = serde_json::to_vec(event).map_err(|error| error.to_string())?;
    bytes.push(b'\n');
    notify.call(&bytes).await.map(drop).map_err(|error| error.to_string())
}

/// An exit code as a verdict: what could not be looked at is no failure, and not green.
fn verdict(exit: Exit) -> Verdict {
    match exit {
        Exit::Passed => Verdict::Passed,
        Exit::Inconclusive => Verdict::Inconclusive,
        _ => Verdict::Failed,
    }
}

/// The option of every command that can write metrics.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct MetricsFile {
    /// Also write the pipeline's metrics into this file, as `status --metrics` does.
    #[arg(long, value_name = "FILE")]
    metrics: Option<Utf8PathBuf>,
}

impl MetricsFile {
    pub(super) fn path(&self) -> Option<&Utf8Path> {
        self.metrics.as_deref()
    }
}
