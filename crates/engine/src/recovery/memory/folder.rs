//! One recovery's folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek, SeekFrom, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    asked::Asked,
    guard::Guard,
    place::{Place, UNFINISHED_WRITE},
};
use crate::{
    backup::{
        BackupError, ClusterName, Repository, dated_id,
        files::{self, Store, is_there},
        is_in_a_bucket,
    },
    recovery::RecoveryError,
};
use cdc_model::{event::StepReport, units::IfThere};

/// The version of the folder's content.
const FORMAT: u32 = 1;
const RECOVERY: &str = "recovery.json";
const FOUND: &str = "found.json";
const DECIDED: &str = "decided.json";
const STEPS: &str = "steps.jsonl";
const CLOSED: &str = "closed.json";
/// How far the step is that is at work. Only for those who watch: it need not survive anything.
const PROGRESS: &str = "progress.json";

/// What `recovery.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    id: String,
    began: String,
    version: String,
    asked: Asked,
    cluster: ClusterName,
    /// What it restores from.
    repository: Utf8PathBuf,
}

/// What is known before the first change.
#[derive(Debug)]
pub(crate) struct Beginning<'a, F, D> {
    pub(crate) asked: Asked,
    pub(crate) cluster: ClusterName,
    /// Everything that has to be put back.
    pub(crate) found: &'a F,
    /// What was decided by looking.
    pub(crate) decided: &'a D,
}

/// How a recovery was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ending {
    /// Every step ended, and what the topics hold was verified.
    Verified,
    /// It was taken back.
    Aborted,
    /// It was given up as it stood.
    GivenUp,
    /// Something that is looked at before the first change was wrong.
    Refused,
}

/// What earlier runs wrote into `steps.jsonl`.
#[derive(Debug, Default)]
struct Past {
    /// In the order in which they first began.
    begun: Vec<String>,
    ended: BTreeSet<String>,
    /// When a step first began, and when it last ended, in milliseconds since 1970.
    times: BTreeMap<String, (i64, Option<i64>)>,
    notes: BTreeMap<String, Value>,
}

/// The repository that a record names. One that was moved with the records in it is where they are.
fn repository_of(head: &Head, folder: &Utf8Path) -> Result<Utf8PathBuf, RecoveryError> {
    if is_in_a_bucket(&head.repository) || is_there(&head.repository)? {
        return Ok(head.repository.clone());
    }
    let around = folder.parent().and_then(Utf8Path::parent).filter(|root| Repository::open(root).is_ok());
    Ok(around.unwrap_or(&head.repository).to_owned())
}

/// The open `steps.jsonl`.
#[derive(Debug)]
struct Lines {
    file: std::fs::File,
    /// Whether it is known to end with a complete line.
    complete: bool,
}

impl Lines {
    /// Half a last line, of a run that was killed while it wrote, is cut off before the next one is written, and not before: to whoever
    /// only looks, a line that another process is writing may be half there.
    fn append(&mut self, line: &str) -> std::io::Result<()> {
        if !self.complete {
            let mut text = Vec::new();
            self.file.seek(SeekFrom::Start(0))?;
            self.file.read_to_end(&mut text)?;
            let complete = complete(&text).len();
            if complete < text.len() {
                self.file.set_len(complete as u64)?;
            }
            self.complete = true;
        }
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()
    }
}

/// The complete lines of a text.
fn complete(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    &text[..end]
}

/// A recovery's record; clones write to the same file.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    head: Arc<Head>,
    folder: Utf8PathBuf,
    repository: Utf8PathBuf,
    store: Store,
    lines: Arc<Mutex<Lines>>,
    past: Arc<Past>,
    /// What must still be held when something is written: nothing is changed before it is written down.
    locks: Option<Arc<dyn Guard>>,
}

impl Memory {
    /// Writes everything that is known before the first change. Complete on disk, its name included, or not there.
    pub(crate) fn begin<F: Serialize, D: Serialize>(
        place: &Place,
        beginning: &Beginning<'_, F, D>,
    ) -> Result<Memory, RecoveryError> {
        let store = place.store()?;
        let now = jiff::Timestamp::now();
        let id = dated_id(now);
        let (folder, new) = (place.folder().join(&id), place.folder().join(format!("{id}{UNFINISHED_WRITE}")));
        let head = Head {
            format: FORMAT,
            id,
            began: now.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            asked: beginning.asked.clone(),
            cluster: beginning.cluster.clone(),
            repository: place.repository().path().to_owned(),
        };
        store.folder(&new)?;
        write_json(&store, &new.join(RECOVERY), &head)?;
        write_json(&store, &new.join(FOUND), beginning.found)?;
        write_json(&store, &new.join(DECIDED), beginning.decided)?;
        store.write(&new.join(STEPS), b"")?;
        files::publish(&new, &folder)?;
        Memory::open(&folder)
    }

    /// Reads a recovery's record. Changes nothing.
    pub(crate) fn open(folder: &Utf8Path) -> Result<Memory, RecoveryError> {
        let path = folder.join(RECOVERY);
        let head: Head = files::read_json(&path)?;
        if head.format != FORMAT {
            return Err(BackupError::FormatTooNew { path, found: head.format, known: FORMAT }.into());
        }
        let store = Store::new(folder)?;
        let path = folder.join(STEPS);
        let mut file = store.append(&path)?;
        let io = |e| RecoveryError::io("read", &path, e);
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut text)).map_err(io)?;
        let mut past = Past::default();
        for line in complete(&text).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_slice(line).map_err(|e| BackupError::malformed(&path, e))?;
            past.take(&line);
        }
        let lines = Arc::new(Mutex::new(Lines { file, complete: false }));
        Ok(Memory {
            repository: repository_of(&head, folder)?,
            head: Arc::new(head),
            folder: folder.to_owned(),
            store,
            lines,
            past: Arc::new(past),
            locks: None,
        })
    }

    /// From here on nothing is written, and so nothing changed, by a process that has lost its locks.
    pub(crate) fn guard(&mut self, locks: Arc<dyn Guard>) {
        self.locks = Some(locks);
    }

    /// Says that nothing is unfinished any more, once the recovery is closed.
    pub(crate) fn let_go(&self) -> Result<(), RecoveryError> {
        self.locks.as_ref().map_or(Ok(()), |locks| locks.clear(self.id()))
    }

    /// The folder of the repository that it restores from.
    pub(crate) fn repository_path(&self) -> &Utf8Path {
        &self.repository
    }

    /// The repository that it restores from.
    pub(crate) fn repository(&self) -> Result<Repository, RecoveryError> {
        Ok(Repository::open(&self.repository)?)
    }

    /// Whether a recovery has ended.
    pub(crate) fn is_closed(folder: &Utf8Path) -> Result<bool, RecoveryError> {
        Ok(is_there(&folder.join(CLOSED))?)
    }

    /// How a recovery was closed; `None` for one that was not, or that nobody remembers.
    pub(crate) fn ending(folder: &Utf8Path) -> Result<Option<Ending>, RecoveryError> {
        #[derive(Deserialize)]
        struct Closed {
            how: Ending,
        }
        let path = folder.join(CLOSED);
        match is_there(&path)? {
            true => Ok(Some(files::read_json::<Closed>(&path)?.how)),
            false => Ok(None),
        }
    }

    /// The recovery's id, sortable by its beginning.
    pub(crate) fn id(&self) -> &str {
        &self.head.id
    }

    /// When it began, RFC 3339.
    pub(crate) fn began(&self) -> &str {
        &self.head.began
    }

    /// What it was asked for.
    pub(crate) fn asked(&self) -> &Asked {
        &self.head.asked
    }

    /// The cluster it is of.
    pub(crate) fn cluster(&self) -> &ClusterName {
        &self.head.cluster
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// What was found before the first change.
    pub(crate) fn found<F: DeserializeOwned>(&self) -> Result<F, RecoveryError> {
        Ok(files::read_json(&self.folder.join(FOUND))?)
    }

    /// What was decided before the first change.
    pub(crate) fn decided<D: DeserializeOwned>(&self) -> Result<D, RecoveryError> {
        Ok(files::read_json(&self.folder.join(DECIDED))?)
    }

    /// Whether an earlier run began a step: before, nothing was changed.
    pub(crate) fn has_begun(&self) -> bool {
        !self.past.begun.is_empty()
    }

    /// The steps that earlier runs began, in their order.
    pub(crate) fn steps_begun(&self) -> impl Iterator<Item = &str> {
        self.past.begun.iter().map(String::as_str)
    }

    /// Whether an earlier run began this step.
    pub(crate) fn began_step(&self, step: &str) -> bool {
        self.past.begun.iter().any(|begun| begun == step)
    }

    /// Whether an earlier run ended this step.
    pub(crate) fn ended_step(&self, step: &str) -> bool {
        self.past.ended.contains(step)
    }

    /// Seconds between the first beginning of a step and the last end of another one, in whatever runs those were.
    pub(crate) fn seconds_between(&self, began: &str, ended: &str) -> Option<f64> {
        let (from, to) = (self.past.times.get(began)?.0, self.past.times.get(ended)?.1?);
        Some((to - from).max(0) as f64 / 1_000.0)
    }

    /// What earlier runs learned last under this name.
    pub(crate) fn learned<T: DeserializeOwned>(&self, what: &str) -> Result<Option<T>, RecoveryError> {
        let path = self.folder.join(STEPS);
        let value = self.past.notes.get(what).cloned().map(serde_json::from_value).transpose();
        Ok(value.map_err(|e| BackupError::malformed(&path, e))?)
    }

    /// Writes a fact that a later run must know: a level that is about to be lowered, a folder that is set aside.
    pub(crate) fn note(&self, what: &str, value: &impl Serialize) -> Result<(), RecoveryError> {
        self.line(&json!({ "note": what, "value": value }))
    }

    pub(crate) fn begun(&self, step: &str, destroys: &[String]) -> Result<(), RecoveryError> {
        self.forget_progress()?;
        self.line(&json!({ "step": step, "transition": "begun", "destroys": destroys }))
    }

    pub(crate) fn ended(&self, report: &StepReport) -> Result<(), RecoveryError> {
        self.forget_progress()?;
        self.line(&json!({
            "step": report.name, "transition": report.result, "seconds": report.seconds, "detail": report.detail,
            "hooks": report.hooks,
        }))
    }

    /// Tells other processes how far the step is.
    pub(crate) fn set_progress(&self, progress: &impl Serialize) -> Result<(), RecoveryError> {
        let path = self.folder.join(PROGRESS);
        Ok(self.store.replace(&path, &files::canonical_json(&path, progress)?)?)
    }

    /// What the step that is at work, or was at work when its process was killed, told last, and how long ago.
    pub(crate) fn progress<P: DeserializeOwned>(&self) -> Result<Option<(P, Duration)>, RecoveryError> {
        let path = self.folder.join(PROGRESS);
        let io = |e| RecoveryError::io("read", &path, e);
        let Some(mut file) = std::fs::File::open(&path).if_there().map_err(io)? else { return Ok(None) };
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(io)?;
        let progress = serde_json::from_slice(&text).map_err(|e| BackupError::malformed(&path, e))?;
        Ok(Some((progress, files::age(&file, &self.folder)?)))
    }

    fn forget_progress(&self) -> Result<(), RecoveryError> {
        let path = self.folder.join(PROGRESS);
        let removed = std::fs::remove_file(&path).if_there();
        removed.map(drop).map_err(|e| RecoveryError::io("remove", &path, e))
    }

    fn line(&self, value: &Value) -> Result<(), RecoveryError> {
        if let Some(locks) = &self.locks {
            locks.still_ours()?;
        }
        let mut value = value.clone();
        value["at_ms"] = json!(jiff::Timestamp::now().as_millisecond());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.append(&format!("{value}\n")).map_err(|e| RecoveryError::io("write", &self.folder.join(STEPS), e))
    }

    /// A file of the recovery's own: a server's log, a dump.
    pub(crate) fn file(&self, name: &str) -> Utf8PathBuf {
        self.folder.join(name)
    }

    /// Writes such a file so that it is there completely or not at all.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<Utf8PathBuf, RecoveryError> {
        let path = self.file(name);
        self.store.write(&path, bytes)?;
        Ok(path)
    }

    /// Ends the recovery.
    pub(crate) fn close(&self, how: Ending) -> Result<(), RecoveryError> {
        let at = jiff::Timestamp::now().to_string();
        write_json(&self.store, &self.folder.join(CLOSED), &json!({ "how": how, "at": at }))
    }

    #[cfg(test)]
    pub(super) fn break_for_tests(&self) {
        let file = std::fs::File::open("/dev/null").unwrap();
        *self.lines.lock().unwrap() = Lines { file, complete: true };
    }
}

impl Past {
    fn take(&mut self, line: &Value) {
        if let Some(what) = line["note"].as_str() {
            self.notes.insert(what.to_owned(), line["value"].clone());
        }
        match (line["step"].as_str(), line["transition"].as_str()) {
            (Some(step), Some("begun")) => {
                self.times.entry(step.to_owned()).or_insert((line["at_ms"].as_i64().unwrap_or_default(), None));
                if self.begun.iter().all(|begun| begun != step) {
                    self.begun.push(step.to_owned());
                }
                // A run that went on did it again.
                self.ended.remove(step);
            }
            (Some(step), Some("done" | "skipped")) => {
                if let Some((_, ended)) = self.times.get_mut(step) {
                    *ended = line["at_ms"].as_i64();
                }
                self.ended.insert(step.to_owned());
            }
            _ => {}
        }
    }
}

fn write_json(store: &Store, path: &Utf8Path, value: &impl Serialize) -> Result<(), RecoveryError> {
    Ok(store.write(path, &files::canonical_json(path, value)?)?)
}

#[cfg(test)]
pub(in crate::recovery) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::recovery::{
        Playbook, Request,
        memory::{Variation, unfinished},
    };
    use cdc_model::units::Failure;

    pub(in crate::recovery) fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let place = unfinished::tests::place(&folder, "repository", "repository/recoveries");
        (folder, place)
    }

    pub(in crate::recovery) fn cluster() -> ClusterName {
        ClusterName { pgdata: "/data".into(), address: "h:1".into(), system_id: None }
    }

    pub(in crate::recovery) fn begin(place: &Place) -> Memory {
        let asked = Asked::of(&Request::new(Playbook::Schema), Variation::default());
        Memory::begin(place, &Beginning { asked, cluster: cluster(), found: &7, decided: &"plan" }).unwrap()
    }

    pub(in crate::recovery) fn begun() -> (tempfile::TempDir, Memory) {
        let (folder, place) = place();
        let memory = begin(&place);
        (folder, memory)
    }

    pub(in crate::recovery) fn report(name: &str) -> StepReport {
        StepReport {
            name: name.into(),
            destroys: Vec::new(),
            precondition: String::new(),
            started_seconds: 0.0,
            seconds: 0.0,
            result: cdc_model::event::StepResult::Done,
            detail: String::new(),
            hooks: Vec::new(),
        }
    }

    #[test]
    fn a_recovery_is_remembered_with_what_it_found_learned_and_did() {
        let (_folder, memory) = begun();
        memory.begun("fence", &[]).unwrap();
        memory.ended(&report("fence")).unwrap();
        memory.begun("restore", &[]).unwrap();
        memory.note("end", &"0/1").unwrap();
        memory.note("end", &"0/2").unwrap();
        let again = Memory::open(memory.folder()).unwrap();
        assert_eq!((again.found::<u8>().unwrap(), again.decided::<String>().unwrap().as_str()), (7, "plan"));
        assert!(again.ended_step("fence") && again.began_step("restore") && !again.ended_step("restore"));
        assert_eq!(again.learned::<String>("end").unwrap().as_deref(), Some("0/2"));
        assert_eq!((again.id(), again.asked()), (memory.id(), memory.asked()));
        let between = again.seconds_between("fence", "fence");
        assert!(between.is_some_and(|seconds| (0.0..600.0).contains(&seconds)), "{between:?}");
        assert_eq!(again.seconds_between("fence", "restore"), None, "it did not end");
        again.begun("fence", &[]).unwrap();
        assert!(!Memory::open(memory.folder()).unwrap().ended_step("fence"), "it was begun once more");
    }

    #[test]
    fn half_a_line_is_cut_off_and_the_next_one_is_read() {
        let (_folder, memory) = begun();
        memory.note("kept", &1).unwrap();
        let path = memory.file(STEPS);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"note\": \"lost");
        std::fs::write(&path, &text).unwrap();
        let again = Memory::open(memory.folder()).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            text,
            "who only looks may see a line that is being written"
        );
        again.note("more", &2).unwrap();
        let third = Memory::open(memory.folder()).unwrap();
        assert_eq!(third.learned::<u8>("kept").unwrap(), Some(1));
        assert_eq!((third.learned::<u8>("more").unwrap(), third.learned::<u8>("lost").unwrap()), (Some(2), None));
    }

    #[test]
    fn only_a_recovery_that_began_a_step_and_was_not_closed_is_unfinished() {
        let (_folder, place) = place();
        let cluster = ClusterName { pgdata: "/data".into(), address: "elsewhere:1".into(), system_id: None };
        let found = || place.unfinished(&cluster).unwrap().map(|memory| memory.id().to_owned());
        assert_eq!(found(), None, "no recovery has been here");
        let memory = begin(&place);
        assert_eq!(found(), None, "nothing was changed");
        memory.begun("stop-connectors", &[]).unwrap();
        assert_eq!(found().as_deref(), Some(memory.id()));
        let stranger = ClusterName { pgdata: "/other".into(), address: "h:2".into(), system_id: None };
        assert!(place.unfinished(&stranger).unwrap().is_none());
        memory.close(Ending::Verified).unwrap();
        assert_eq!(found(), None);
    }

    #[test]
    fn only_the_owner_can_read_what_was_found() {
        let (_folder, memory) = begun();
        let mode = |path: &Utf8Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(memory.folder()), 0o700);
        for entry in memory.folder().read_dir_utf8().unwrap().flatten() {
            assert_eq!(mode(entry.path()), 0o600, "{}", entry.path());
        }
    }

    #[test]
    fn a_record_of_a_later_format_is_refused() {
        let (_folder, memory) = begun();
        let path = memory.file(RECOVERY);
        let text = std::fs::read_to_string(&path).unwrap().replace("\"format\": 1", "\"format\": 2");
        std::fs::write(&path, text).unwrap();
        assert_eq!(Memory::open(memory.folder()).unwrap_err().exit(), cdc_model::units::Exit::FormatTooNew);
    }
}
