//! The ledger on disk.
//!
//! A writer appends two lines for each transaction: the transaction with outcome `unknown`, durable before COMMIT is sent,
//! and its outcome, durable before the writer's next transaction. Killed between the two, the writer leaves an unknown
//! outcome, never a commit that nobody wrote down.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Write},
    sync::Arc,
};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    WorkloadError,
    ledger::{Entry, Ledger, Outcome},
};

/// One line of a ledger file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// A transaction, before its COMMIT.
    Tried(Entry),
    /// What became of it.
    Ended { token: String, outcome: Outcome, ended_ms: i64 },
}

/// One writer's file.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    file: Arc<File>,
    path: Utf8PathBuf,
}

impl LedgerFile {
    /// Opens the file of a writer for appending.
    pub(crate) fn open(dir: &Utf8Path, writer: u32) -> Result<Self, WorkloadError> {
        std::fs::create_dir_all(dir).map_err(WorkloadError::file("create ledger folder", dir))?;
        let path = dir.join(format!("writer-{writer:03}.jsonl"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(WorkloadError::file("open ledger", path.as_path()))?;
        Ok(LedgerFile { file: Arc::new(file), path })
    }

    /// Writes down a transaction: with outcome `unknown` before its COMMIT is sent, or with `failed` when none will be.
    pub(crate) async fn tried(&self, entry: &Entry) -> Result<(), WorkloadError> {
        self.append(&Line::Tried(entry.clone())).await
    }

    /// Writes down what became of the transaction.
    pub(crate) async fn ended(&self, entry: &Entry) -> Result<(), WorkloadError> {
        let Entry { token, outcome, ended_ms, .. } = entry;
        self.append(&Line::Ended { token: token.clone(), outcome: *outcome, ended_ms: *ended_ms }).await
    }

    async fn append(&self, line: &Line) -> Result<(), WorkloadError> {
        let fail = |e| WorkloadError::file("write ledger", self.path.as_path())(e);
        let mut text = serde_json::to_vec(line).map_err(|e| fail(e.into()))?;
        text.push(b'\n');
        let file = Arc::clone(&self.file);
        // One write a line, so that a kill leaves at most one torn line, at the end.
        let durable = move || (&*file).write_all(&text).and_then(|()| file.sync_data());
        tokio::task::spawn_blocking(durable).await.map_err(|e| WorkloadError::Task(e.to_string()))?.map_err(fail)
    }
}

impl Ledger {
    /// Reads the transactions of all writers. A torn last line is a transaction whose COMMIT was never sent, and is left
    /// out; anything else that is not a line of a ledger is an error. Order and settled outcomes are the caller's to fill in.
    pub fn load(dir: &Utf8Path) -> Result<Ledger, WorkloadError> {
        let mut paths: Vec<Utf8PathBuf> = Vec::new();
        for found in dir.read_dir_utf8().map_err(WorkloadError::file("read ledger folder", dir))? {
            let found = found.map_err(WorkloadError::file("read ledger folder", dir))?;
            if found.path().extension() == Some("jsonl") {
                paths.push(found.into_path());
            }
        }
        paths.sort();
        let mut ledger = Ledger::default();
        for path in paths {
            read_file(&path, &mut ledger.entries)?;
        }
        Ok(ledger)
    }
}

fn read_file(path: &Utf8Path, entries: &mut Vec<Entry>) -> Result<(), WorkloadError> {
    let fail = || WorkloadError::file("read ledger", path);
    let mut reader = BufReader::new(File::open(path).map_err(fail())?);
    let mut at: HashMap<String, usize> = HashMap::new();
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if reader.read_until(b'\n', &mut text).map_err(fail())? == 0 || text.last() != Some(&b'\n') {
            break;
        }
        let wrong = |message: String| WorkloadError::Line { path: path.to_owned(), line, message };
        match serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))? {
            Line::Tried(entry) => {
                if at.insert(entry.token.clone(), entries.len()).is_some() {
                    return Err(wrong(format!("token {} stands there twice", entry.token)));
                }
                entries.push(entry);
            }
            Line::Ended { token, outcome, ended_ms } => {
                let index = at.get(&token).ok_or_else(|| wrong(format!("token {token} ended and was never tried")))?;
                entries[*index].outcome = outcome;
                entries[*index].ended_ms = ended_ms;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Epoch;

    fn entry(token: &str) -> Entry {
        Entry {
            token: token.into(),
            writer: 1,
            sequence: 1,
            epoch: Epoch(0),
            xid: Some(700),
            began_ms: 1,
            ended_ms: 1,
            outcome: Outcome::Unknown,
            changes: Vec::new(),
        }
    }

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    #[tokio::test]
    async fn a_transaction_without_an_outcome_is_unknown_and_a_torn_line_never_happened() {
        let (_keep, dir) = folder();
        let file = LedgerFile::open(&dir, 1).unwrap();
        let mut first = entry("a");
        file.tried(&first).await.unwrap();
        first.outcome = Outcome::Acknowledged;
        first.ended_ms = 9;
        file.ended(&first).await.unwrap();
        file.tried(&entry("b")).await.unwrap();
        let path = dir.join("writer-001.jsonl");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(br#"{"tried":{"token":"c","wr"#);
        std::fs::write(&path, bytes).unwrap();

        let ledger = Ledger::load(&dir).unwrap();
        let seen: Vec<(&str, Outcome)> = ledger.entries.iter().map(|e| (e.token.as_str(), e.outcome)).collect();
        assert_eq!(seen, [("a", Outcome::Acknowledged), ("b", Outcome::Unknown)]);
        assert_eq!(ledger.entries[0], first);
    }

    #[test]
    fn a_line_that_is_not_one_is_an_error_with_its_place() {
        let (_keep, dir) = folder();
        std::fs::write(dir.join("writer-001.jsonl"), "{}\n").unwrap();
        let error = Ledger::load(&dir).unwrap_err().to_string();
        assert!(error.contains("writer-001.jsonl, line 1"), "{error}");
    }

    #[tokio::test]
    async fn an_outcome_without_a_transaction_is_an_error() {
        let (_keep, dir) = folder();
        LedgerFile::open(&dir, 1).unwrap().ended(&entry("z")).await.unwrap();
        assert!(Ledger::load(&dir).unwrap_err().to_string().contains("never tried"));
    }
}
