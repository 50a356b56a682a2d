//! The recovery's own record: `<repository>/journal/<recovery-id>.jsonl`, one line a transition, on disk before the
//! recovery goes on. It is what a later run reads to know how far this one came.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err::{File, OpenOptions};
use serde::Serialize;
use serde_json::{Value, json};

use super::RecoveryError;
use crate::event::StepReport;

/// An open journal; clones write to the same file.
#[derive(Clone, Debug)]
pub struct Journal {
    file: Arc<Mutex<File>>,
    path: Utf8PathBuf,
    id: String,
}

impl Journal {
    /// Begins the journal of a new recovery.
    pub fn create(repository: &Utf8Path) -> Result<Journal, RecoveryError> {
        let folder = repository.join("journal");
        std::fs::create_dir_all(&folder).map_err(|e| RecoveryError::io("make folder", &folder, e))?;
        let now = jiff::Timestamp::now();
        let id = format!("{}-{:04x}", now.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u16>());
        let path = folder.join(format!("{id}.jsonl"));
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let file = file.map_err(|e| RecoveryError::io("begin journal", &path, e))?;
        // The name must survive a crash as well as the lines.
        let parent = File::open(&folder).and_then(|f| f.sync_all());
        parent.map_err(|e| RecoveryError::io("sync folder", &folder, e))?;
        Ok(Journal { file: Arc::new(Mutex::new(file)), path, id })
    }

    /// Goes on in the journal of a recovery that did not end.
    pub(super) fn again(path: &Utf8Path) -> Result<Journal, RecoveryError> {
        let file = OpenOptions::new().append(true).open(path).and_then(|mut file| {
            // Its last line may be half a line.
            file.write_all(b"\n")?;
            Ok(file)
        });
        let file = file.map_err(|e| RecoveryError::io("go on in journal", path, e))?;
        let id = path.file_stem().unwrap_or_default().to_owned();
        Ok(Journal { file: Arc::new(Mutex::new(file)), path: path.to_owned(), id })
    }

    /// The recovery's id, sortable by its beginning.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The journal's file.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Notes something a later run must know: a setting's former value, a folder set aside.
    pub fn note(&self, what: &str, value: &impl Serialize) -> Result<(), RecoveryError> {
        self.line(&json!({ "note": what, "value": value }))
    }

    pub(super) fn begun(&self, step: &str, destroys: &[String]) -> Result<(), RecoveryError> {
        self.line(&json!({ "step": step, "transition": "begun", "destroys": destroys }))
    }

    pub(super) fn ended(&self, report: &StepReport) -> Result<(), RecoveryError> {
        self.line(&json!({ "step": report.name, "transition": report.result, "seconds": report.seconds, "detail": report.detail, "hooks": report.hooks }))
    }

    fn line(&self, value: &Value) -> Result<(), RecoveryError> {
        let mut value = value.clone();
        value["at_ms"] = json!(jiff::Timestamp::now().as_millisecond());
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.write_all(format!("{value}\n").as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|e| RecoveryError::io("write journal", &self.path, e))
    }
}
