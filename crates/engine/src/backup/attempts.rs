//! `attempts.json`: how each task on a repository ended last, whether it succeeded or not, and when it last succeeded. What succeeds
//! leaves something else behind; what fails leaves this alone.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    Activity, BackupError, ClusterName, Lock, Repository,
    files::{Store, read_if_there},
    format::checked,
    lock::host,
};
use cdc_model::units::{PointId, Verdict};

/// Something that is done every night, every month, or on the bad day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// `backup create`.
    Backup,
    /// `backup check`.
    Check,
    /// `backup check --deep`.
    DeepCheck,
    /// `backup prune`.
    Prune,
    /// `recover run` and `recover resume`.
    Recovery,
    /// `run --record`.
    Drill,
    /// `prove`.
    Proof,
}

impl Task {
    /// Each.
    pub const ALL: [Task; 7] =
        [Task::Backup, Task::Check, Task::DeepCheck, Task::Prune, Task::Recovery, Task::Drill, Task::Proof];

    /// The word in records, events and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Task::Backup => "backup",
            Task::Check => "check",
            Task::DeepCheck => "deep-check",
            Task::Prune => "prune",
            Task::Recovery => "recovery",
            Task::Drill => "drill",
            Task::Proof => "proof",
        }
    }

    /// Whether it is about a repository as a whole, and not about one of its pipelines.
    fn is_of_all(self) -> bool {
        matches!(self, Task::Check | Task::DeepCheck | Task::Prune)
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// When, RFC 3339.
    pub at: String,
    /// What the command exited with.
    pub exit_code: u8,
    /// The same as a verdict: 0 is passed, 13 is inconclusive, and everything else is failed.
    pub verdict: Verdict,
    /// Why it did not pass, without secrets; null where it did.
    pub reason: Option<String>,
    /// The recovery point that was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointId>,
    /// How long the pipeline was not whole: of a recovery, or the longest of a drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_seconds: Option<f64>,
}

/// A task that began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which.
    pub task: Task,
    /// When it began, RFC 3339.
    pub began: String,
    /// The machine.
    pub host: String,
    /// How it ended; null while it has not, and for ever where it was killed.
    pub ended: Option<Ended>,
}

impl Attempt {
    /// One that begins now, on this machine.
    pub fn begin(task: Task) -> Attempt {
        Attempt { task, began: jiff::Timestamp::now().to_string(), host: host(), ended: None }
    }

    fn passed(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| ended.verdict == Verdict::Passed)
    }
}

/// What is remembered of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The cluster of the pipeline; null for what is about the repository.
    pub cluster: Option<ClusterName>,
    /// The last attempt.
    pub last: Attempt,
    /// The last one that passed.
    pub passed: Option<Attempt>,
    /// Whether somebody is at work on it now, where it has not ended; null where that is not known.
    #[serde(skip_deserializing, default)]
    pub at_work: Option<bool>,
}

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Attempts {
    tasks: Vec<TaskRecord>,
}

/// Its name in the repository's folder.
pub(super) const NAME: &str = "attempts.json";

fn path_in(root: &Utf8Path) -> Utf8PathBuf {
    root.join(NAME)
}

/// The file as it will be: what is damaged begins anew, as it says nothing any more.
fn read(path: &Utf8Path, bytes: Option<Vec<u8>>) -> Attempts {
    let Some(bytes) = bytes else { return Attempts::default() };
    checked::from_bytes(path, &bytes).unwrap_or_else(|error: BackupError| {
        tracing::warn!(%error, "what tasks ended with is noted anew");
        Attempts::default()
    })
}

impl Attempts {
    fn take(&mut self, cluster: Option<&ClusterName>, attempt: Attempt) {
        match self.tasks.iter_mut().find(|known| known.last.task == attempt.task && known.is_of(cluster)) {
            Some(known) => known.take(attempt),
            None => self.tasks.push(TaskRecord::new(cluster.cloned(), attempt)),
        }
    }
}

impl TaskRecord {
    /// That of a task of which nothing was known.
    pub(crate) fn new(cluster: Option<ClusterName>, attempt: Attempt) -> TaskRecord {
        let passed = attempt.passed().then(|| attempt.clone());
        TaskRecord { cluster, passed, last: attempt, at_work: None }
    }

    /// Takes in a newer attempt.
    pub(crate) fn take(&mut self, attempt: Attempt) {
        if attempt.passed() {
            self.passed = Some(attempt.clone());
        }
        self.last = attempt;
    }

    fn is_of(&self, cluster: Option<&ClusterName>) -> bool {
        match (&self.cluster, cluster) {
            (None, None) => true,
            (Some(own), Some(cluster)) => own.is_that_of(cluster),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

impl Repository {
    /// Notes a task that begins or has ended. `cluster` is that of the pipeline, where the task has one.
    pub fn note_attempt(&self, cluster: Option<&ClusterName>, attempt: &Attempt) -> Result<(), BackupError> {
        note(self.store(), cluster, attempt)
    }

    /// What is remembered of the tasks of a cluster, and of those on the whole repository. Damage is an error.
    pub fn attempts(&self, cluster: &ClusterName) -> Result<Vec<TaskRecord>, BackupError> {
        let path = path_in(self.path());
        let Some(bytes) = read_if_there(&path)? else { return Ok(Vec::new()) };
        let all: Attempts = checked::from_bytes(&path, &bytes)?;
        let own = all.tasks.into_iter().filter(|known| known.cluster.is_none() || known.is_of(Some(cluster)));
        own.map(|known| self.with_worker(known)).collect()
    }

    /// Of what has not ended, whether it may still end.
    fn with_worker(&self, known: TaskRecord) -> Result<TaskRecord, BackupError> {
        let at_work = match (&known.last.ended, known.last.task) {
            (Some(_), _) => Some(false),
            (None, Task::Backup) => Some(Lock::is_held_in(self.store(), Activity::Create)?),
            (None, Task::Prune) => Some(Lock::is_held_in(self.store(), Activity::Maintain)?),
            (None, Task::Recovery) => Some(Lock::is_held_in(self.store(), Activity::Recover)?),
            (None, Task::Proof) => Some(Lock::is_held_in(self.store(), Activity::Prove)?),
            // They have no lock.
            (None, Task::Check | Task::DeepCheck | Task::Drill) => None,
        };
        Ok(TaskRecord { at_work, ..known })
    }
}

fn note(store: &Store, cluster: Option<&ClusterName>, attempt: &Attempt) -> Result<(), BackupError> {
    let cluster = cluster.filter(|_| !attempt.task.is_of_all());
    let path = path_in(store.root());
    let mut attempt = attempt.clone();
    // Reasons name objects and values, and this file stays readable.
    if let Some(ended) = attempt.ended.as_mut().filter(|_| store.seal().is_on()) {
        ended.reason = None;
    }
    store.change(&path, |bytes| {
        let mut all = read(&path, bytes);
        all.take(cluster, attempt.clone());
        checked::to_bytes(&path, &all).map(Some)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fixture;

    fn cluster(port: u16) -> ClusterName {
        ClusterName { pgdata: String::new(), address: format!("h:{port}"), system_id: None }
    }

    fn attempt(task: Task, began: &str, exit_code: Option<u8>) -> Attempt {
        let ended = exit_code.map(|exit_code| Ended {
            at: format!("{began} later"),
            exit_code,
            verdict: if exit_code == 0 { Verdict::Passed } else { Verdict::Failed },
            reason: (exit_code != 0).then(|| "no room".to_owned()),
            point: None,
            rto_seconds: None,
        });
        Attempt { task, began: began.into(), host: "h".into(), ended }
    }

    #[test]
    fn the_last_attempt_and_the_last_success_are_kept_by_task_and_cluster() {
        let (_folder, own) = fixture::repository();
        for repository in [own, Repository::init(&fixture::bucket()).unwrap()] {
            assert_eq!(repository.attempts(&cluster(1)).unwrap(), []);
            let note = |of: u16, attempt: Attempt| repository.note_attempt(Some(&cluster(of)), &attempt).unwrap();
            note(1, attempt(Task::Backup, "1", Some(0)));
            note(1, attempt(Task::Backup, "2", Some(35)));
            note(2, attempt(Task::Backup, "3", Some(0)));
            note(2, attempt(Task::DeepCheck, "4", Some(0)));
            let known = repository.attempts(&cluster(1)).unwrap();
            assert_eq!(known.iter().map(|known| known.last.task).collect::<Vec<_>>(), [Task::Backup, Task::DeepCheck]);
            assert_eq!(known[0].last.ended.as_ref().unwrap().exit_code, 35);
            assert_eq!(known[0].passed.as_ref().unwrap().began, "1", "the success before it is not forgotten");
            // A check of the whole repository is everybody's, and one by another pipeline takes its place.
            note(1, attempt(Task::DeepCheck, "5", Some(31)));
            assert_eq!(repository.attempts(&cluster(2)).unwrap()[1].last.began, "5");
        }
    }

    #[test]
    fn one_that_was_killed_does_not_end_and_is_not_at_work() {
        let (_folder, repository) = fixture::repository();
        repository.note_attempt(Some(&cluster(1)), &attempt(Task::Backup, "1", None)).unwrap();
        let look = || repository.attempts(&cluster(1)).unwrap().remove(0).at_work;
        assert_eq!(look(), Some(false));
        let lock = repository.lock(Activity::Create, "backup create").unwrap();
        assert_eq!(look(), Some(true));
        drop(lock);
        repository.note_attempt(Some(&cluster(1)), &attempt(Task::Check, "1", None)).unwrap();
        assert_eq!(repository.attempts(&cluster(1)).unwrap()[1].at_work, None, "nothing tells");
    }

    #[test]
    fn damage_is_named_and_ends_with_the_next_note() {
        let (_folder, repository) = fixture::repository();
        repository.note_attempt(Some(&cluster(1)), &attempt(Task::Backup, "1", Some(0))).unwrap();
        fixture::flip(&path_in(repository.path()));
        assert!(repository.attempts(&cluster(1)).unwrap_err().is_damage());
        repository.note_attempt(Some(&cluster(1)), &attempt(Task::Backup, "2", Some(0))).unwrap();
        assert_eq!(repository.attempts(&cluster(1)).unwrap().len(), 1);
    }
}
