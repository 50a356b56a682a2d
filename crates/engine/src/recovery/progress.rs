//! How far a step is that takes as long as it takes.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use super::memory::Memory;
use cdc_model::units::{Lsn, counted};
use cdc_pipeline::client::limits::pacing;

/// How far a step is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Progress {
    /// Bytes that were written or read.
    Bytes {
        /// Of what.
        what: Cow<'static, str>,
        /// How many so far.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// WAL that was replayed.
    Replay {
        /// Where replay is; absent before its first record.
        at: Option<Lsn>,
        /// Where it began.
        from: Lsn,
        /// Where it ends; absent where nobody knows.
        to: Option<Lsn>,
        /// The file of WAL that the server has asked for and was not given yet.
        asked_for: Option<String>,
        /// For how many seconds the server's log has not grown.
        still_seconds: u64,
    },
    /// Snapshots that connectors write into topics.
    Snapshot {
        /// The connector that is waited for.
        connector: String,
        /// Records in the rebuilt topics so far.
        records: u64,
        /// Bytes of WAL between the server's position and what the connector has confirmed; absent before it has.
        lag_bytes: Option<u64>,
        /// What the connector's slot waits for.
        waits_for: Option<String>,
        /// For how many seconds neither records nor the confirmed position have changed.
        still_seconds: u64,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |done: u64, total: u64| done.min(total) * 100 / total.max(1);
        match self {
            Progress::Bytes { what, done, total } => {
                let (mb, of) = (done >> 20, total.div_ceil(1 << 20));
                write!(f, "{what}: {mb} of {of} MB ({} %)", percent(*done, *total))
            }
            Progress::Replay { at, from, to, asked_for, still_seconds } => {
                match (at, to) {
                    (None, _) => f.write_str("replay: not begun")?,
                    (Some(at), None) => write!(f, "replay: at {at}")?,
                    (Some(at), Some(to)) => {
                        let (done, total) = (at.0.saturating_sub(from.0), to.0.saturating_sub(from.0));
                        write!(f, "replay: at {at} of {to} ({} %)", percent(done, total))?;
                    }
                }
                if is_worth_telling(*still_seconds) {
                    match asked_for {
                        Some(file) => write!(f, "; waits for {file}, which restore_command was asked for")?,
                        None => f.write_str("; the server's log is silent")?,
                    }
                    write!(f, "; nothing has moved for {still_seconds} s")?;
                }
                Ok(())
            }
            Progress::Snapshot { connector, records, lag_bytes, waits_for, still_seconds } => {
                write!(
                    f,
                    "snapshot of connector {connector}: {records} in the topics",
                    records = counted(*records, "record")
                )?;
                if let Some(lag) = lag_bytes {
                    write!(f, ", {lag} of WAL behind", lag = counted(*lag, "byte"))?;
                }
                match waits_for {
                    Some(waits_for) => write!(f, "; {waits_for}"),
                    None if is_worth_telling(*still_seconds) => write!(f, "; nothing has moved for {still_seconds} s"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Whether a standstill is longer than pauses between two steps of what is observed.
fn is_worth_telling(seconds: u64) -> bool {
    seconds >= pacing::GROWTH_LOOK.as_secs()
}

/// Takes what steps tell of their progress, from whatever thread they are on. Called often.
#[derive(Clone)]
pub struct Watch(Arc<dyn Fn(Progress) + Send + Sync>);

impl Watch {
    /// One that calls this.
    pub fn new(hear: impl Fn(Progress) + Send + Sync + 'static) -> Watch {
        Watch(Arc::new(hear))
    }

    /// One that also writes it into the recovery's folder, where other processes read it.
    pub(super) fn kept_in(&self, memory: &Memory) -> Watch {
        let (memory, first, written) = (memory.clone(), self.clone(), Mutex::new(None::<Instant>));
        Watch::new(move |progress| {
            {
                let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
                if written.is_none_or(|at| at.elapsed() >= pacing::PROGRESS_BAR) {
                    *written = Some(Instant::now());
                    // What cannot be shown to others is no reason to end a recovery.
                    if let Err(error) = memory.set_progress(&progress) {
                        tracing::debug!(%error, "progress not written down");
                    }
                }
            }
            first.tell(progress);
        })
    }

    pub(super) fn tell(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl Default for Watch {
    fn default() -> Watch {
        Watch::new(|_| {})
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::recovery::memory::tests::begun;

    fn replay(at: Option<u64>, to: Option<u64>) -> Progress {
        let (at, to) = (at.map(Lsn), to.map(Lsn));
        Progress::Replay { at, from: Lsn(0x100_0000), to, asked_for: None, still_seconds: 0 }
    }

    #[test]
    fn progress_is_told_in_numbers() {
        let bytes = Progress::Bytes { what: "base backup".into(), done: 30 << 20, total: 40 << 20 };
        assert_eq!(bytes.to_string(), "base backup: 30 of 40 MB (75 %)");
        let told = |at, to| replay(at, to).to_string();
        assert_eq!(told(Some(0x200_0000), Some(0x500_0000)), "replay: at 0/2000000 of 0/5000000 (25 %)");
        assert_eq!(told(Some(0x200_0000), None), "replay: at 0/2000000");
        assert_eq!(told(None, None), "replay: not begun");
        // A position before the beginning, and one that nothing is left behind of.
        assert_eq!(told(Some(0), Some(0x100_0000)), "replay: at 0/0 of 0/1000000 (0 %)");
    }

    #[test]
    fn what_stands_still_is_told_with_what_it_waits_for() {
        let Progress::Replay { at, from, to, .. } = replay(Some(0x200_0000), None) else { unreachable!() };
        let waits = |asked_for: Option<&str>, still_seconds| {
            Progress::Replay { at, from, to, asked_for: asked_for.map(str::to_owned), still_seconds }.to_string()
        };
        let segment = "000000010000000000000003";
        assert_eq!(waits(Some(segment), 0), "replay: at 0/2000000");
        let expected = "replay: at 0/2000000; waits for 000000010000000000000003, which restore_command was asked for; \
                        nothing has moved for 42 s";
        assert_eq!(waits(Some(segment), 42), expected);
        assert!(waits(None, 42).ends_with("the server's log is silent; nothing has moved for 42 s"));
        let snapshot = |waits_for: Option<&str>, still_seconds| {
            let waits_for = waits_for.map(str::to_owned);
            let (connector, lag_bytes) = ("shop".to_owned(), Some(4096));
            Progress::Snapshot { connector, records: 120, lag_bytes, waits_for, still_seconds }.to_string()
        };
        let begin = "snapshot of connector shop: 120 records in the topics, 4096 bytes of WAL behind";
        assert_eq!(snapshot(None, 0), begin);
        assert_eq!(snapshot(Some("pid 7"), 90), format!("{begin}; pid 7"));
        assert_eq!(snapshot(None, 90), format!("{begin}; nothing has moved for 90 s"));
    }

    #[test]
    fn another_process_reads_what_was_told_last() {
        let (_folder, memory) = begun();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        let watch = Watch::new(move |progress| all.lock().unwrap().push(progress)).kept_in(&memory);
        assert!(memory.progress::<Progress>().unwrap().is_none());
        watch.tell(replay(None, None));
        watch.tell(replay(Some(7), None));
        let (read, age) = memory.progress::<Progress>().unwrap().unwrap();
        assert_eq!(read, replay(None, None), "the second one came too soon after the first one");
        assert!(age < Duration::from_secs(600), "{age:?}");
        assert_eq!(*heard.lock().unwrap(), [replay(None, None), replay(Some(7), None)]);
        memory.begun("resume", &[]).unwrap();
        assert!(memory.progress::<Progress>().unwrap().is_none(), "that of another step");
    }
}
