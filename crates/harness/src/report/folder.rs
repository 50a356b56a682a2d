//! A run's folder: events as they come, reports at the end.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    error::ReportError,
    fold::{Fold, fold},
    html::html,
    junit::junit,
    model::RunReport,
};
use cdc_model::event::{Event, FORMAT, What};

/// The events' file name.
const EVENTS: &str = "events.jsonl";

/// The folder of a run that is under way. Every event is on disk before [`Folder::add`] returns to its caller, so that a
/// killed run can still be told.
#[derive(Debug)]
pub struct Folder {
    dir: Utf8PathBuf,
    events: File,
    fold: Fold,
}

impl Folder {
    /// Makes the folder, which must not hold a run already.
    pub fn create(dir: impl Into<Utf8PathBuf>) -> Result<Folder, ReportError> {
        let dir = dir.into();
        let path = dir.join(EVENTS);
        let write = |cause| ReportError::Write { path: path.clone(), cause };
        std::fs::create_dir_all(dir.join("logs")).map_err(write)?;
        let events = OpenOptions::new().append(true).create_new(true).open(&path).map_err(write)?;
        Ok(Folder { dir, events, fold: Fold::default() })
    }

    /// The folder.
    pub fn dir(&self) -> &Utf8Path {
        &self.dir
    }

    /// Where servers' logs go.
    pub fn logs(&self) -> Utf8PathBuf {
        self.dir.join("logs")
    }

    /// Takes an event. Progress is for those who watch and is not kept.
    pub fn add(&mut self, event: &Event) -> Result<(), ReportError> {
        if matches!(event.what, What::Progress { .. }) {
            return Ok(());
        }
        self.fold.add(event);
        let mut line =
            serde_json::to_vec(event).map_err(|e| ReportError::Format { what: EVENTS, message: e.to_string() })?;
        line.push(b'\n');
        // One write a line: a reader, or a kill in between, sees whole lines.
        let written = self.events.write_all(&line).and_then(|()| self.events.flush());
        written.map_err(|cause| ReportError::Write { path: self.dir.join(EVENTS), cause })
    }

    /// The report so far.
    pub fn report(&self) -> RunReport {
        self.fold.report()
    }

    /// Writes the reports.
    pub fn finish(&self) -> Result<RunReport, ReportError> {
        let report = self.report();
        write_reports(&self.dir, &report)?;
        Ok(report)
    }
}

/// Reads a run's events. A last line that was cut off by a kill is left out; what it leaves is then not complete.
pub fn read_events(dir: &Utf8Path) -> Result<Vec<Event>, ReportError> {
    let path = dir.join(EVENTS);
    let read = |cause| ReportError::Read { path: path.clone(), cause };
    let mut reader = BufReader::new(File::open(&path).map_err(read)?);
    let mut events = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(read)? == 0 {
            break;
        }
        let event = match serde_json::from_slice::<Event>(&line) {
            Ok(event) => event,
            Err(_) if !line.ends_with(b"\n") => break,
            Err(error) => {
                let found = newer_format(&line);
                return Err(match found {
                    Some(found) => ReportError::TooNew { path, known: FORMAT, found },
                    None => ReportError::Event { path, line: number, format: FORMAT, message: error.to_string() },
                });
            }
        };
        if let What::RunStarted { format, .. } = event.what
            && format > FORMAT
        {
            return Err(ReportError::TooNew { path, known: FORMAT, found: format });
        }
        events.push(event);
    }
    Ok(events)
}

/// The format that a line names, when it is newer than ours.
fn newer_format(line: &[u8]) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let format = value.get("what")?.get("run-started")?.get("format")?.as_u64()?;
    u32::try_from(format).ok().filter(|f| *f > FORMAT)
}

/// Writes `report.json`, `junit.xml` and `report.html` into a folder, which it makes where it is not there.
pub fn write_reports(dir: &Utf8Path, report: &RunReport) -> Result<(), ReportError> {
    std::fs::create_dir_all(dir).map_err(|cause| ReportError::Write { path: dir.to_owned(), cause })?;
    let json = serde_json::to_string_pretty(report)
        .map_err(|e| ReportError::Format { what: "report.json", message: e.to_string() })?;
    put(dir, "report.json", &(json + "\n"))?;
    put(dir, "junit.xml", &junit(report)?)?;
    put(dir, "report.html", &html(report)?)
}

/// Writes a picture of a drill, or annotations.
pub fn write_text(file: &Utf8Path, text: &str) -> Result<(), ReportError> {
    replace(file.to_owned(), text)
}

fn put(dir: &Utf8Path, name: &str, text: &str) -> Result<(), ReportError> {
    replace(dir.join(name), text)
}

/// Under another name first: a reader never sees half a report.
fn replace(path: Utf8PathBuf, text: &str) -> Result<(), ReportError> {
    let partial = Utf8PathBuf::from(format!("{path}.partial"));
    let done = std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, &path));
    done.map_err(|cause| ReportError::Write { path, cause })
}

/// The report of a run's folder, from its events.
impl TryFrom<&Utf8Path> for RunReport {
    type Error = ReportError;
    fn try_from(dir: &Utf8Path) -> Result<Self, ReportError> {
        Ok(fold(&read_events(dir)?))
    }
}
