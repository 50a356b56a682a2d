//! `pg_waldump` over a folder of segments: the records in them, and where the WAL ends.

use std::{fmt, process::Stdio};

use camino::Utf8Path;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::recovery::RecoveryError;
use cdc_model::units::Lsn;
use cdc_pipeline::config::Tools;
use cdc_postgres::{
    programs::{Dump, Extent, PLAIN},
    wal::{Record, SegmentName, skipped_to},
};

/// What to read: segments of one timeline in a folder, from a position in the first one on. Naming the last segment matters:
/// without it `pg_waldump` waits five seconds for the one after it to appear.
pub(crate) struct Stretch<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) folder: &'a Utf8Path,
    pub(crate) first: SegmentName,
    pub(crate) last: SegmentName,
    pub(crate) from: Lsn,
}

/// The end of a readable stretch of WAL.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Tail {
    /// Where the last valid record starts.
    pub(crate) last: Lsn,
    /// Why reading ended there.
    pub(crate) ended: String,
}

/// A transaction that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Where its record starts.
    pub(crate) at: Lsn,
    /// When, by the server's clock.
    pub(crate) time: jiff::Timestamp,
    /// Its transaction's id.
    pub(crate) xid: Option<u32>,
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(xid) = self.xid {
            write!(f, "{xid}, ")?;
        }
        write!(f, "committed at {} ({})", self.time, self.at)
    }
}

/// Finds the last valid record that can be read from `from` on.
pub(crate) async fn tail(stretch: &Stretch<'_>) -> Result<Tail, RecoveryError> {
    let mut last = None;
    let reading = read(stretch, None, |record| {
        last = Some(record.at);
        true
    })
    .await?;
    let ended = match reading.ended {
        Ended::Broken(why) => why,
        Ended::Whole | Ended::Stopped => "there is no further segment".to_owned(),
    };
    match last {
        Some(last) => Ok(Tail { last, ended }),
        None => Err(RecoveryError::Program {
            program: "pg_waldump".into(),
            detail: format!("no valid record in segments {} to {}: {ended}", stretch.first, stretch.last),
        }),
    }
}

/// The commit that a record shows, if it is one.
pub(crate) fn commit(record: Record<'_>) -> Option<Commit> {
    let time = record.commit_time()?;
    Some(Commit { at: record.at, time, xid: record.committed().first().copied() })
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionEnd {
    /// By its own commit, or as a subtransaction by that of the transaction around it.
    Committed(Commit),
    /// By its rollback, whose record starts here.
    RolledBack(Lsn),
}

/// The end of a transaction that a record shows, if it is that.
pub(crate) fn end_of(record: Record<'_>, xid: u32) -> Option<TransactionEnd> {
    if record.committed().contains(&xid) {
        return commit(record).map(TransactionEnd::Committed);
    }
    record.rolled_back().contains(&xid).then_some(TransactionEnd::RolledBack(record.at))
}

/// How reading a stretch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Whoever looked has seen enough.
    Stopped,
    /// With the last segment.
    Whole,
    /// Before it: what `pg_waldump` says is wrong there.
    Broken(String),
}

/// What one run of `pg_waldump` found besides the records.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) ended: Ended,
    /// Where the first record starts, when reading began between two records.
    pub(crate) first: Option<Lsn>,
}

/// Shows each record of one resource manager (`XLOG`, `Transaction`), or of all, to `see` until it returns false.
pub(crate) async fn read(
    stretch: &Stretch<'_>,
    manager: Option<&str>,
    mut see: impl FnMut(Record<'_>) -> bool,
) -> Result<Reading, RecoveryError> {
    let mut first = None;
    let (ended, skipped) = dump(stretch, manager, |line| match Record::parse(line) {
        Some(record) => see(record),
        None => {
            first = skipped_to(line).or(first);
            true
        }
    })
    .await?;
    Ok(Reading { ended, first: first.or(skipped) })
}

/// Runs `pg_waldump` and hands each line to `see` until it returns false. Also where the first record starts, when it says so on standard
/// error, where PostgreSQL 18 does (15: on standard output). That is nothing wrong.
async fn dump(
    stretch: &Stretch<'_>,
    manager: Option<&str>,
    mut see: impl FnMut(&str) -> bool,
) -> Result<(Ended, Option<Lsn>), RecoveryError> {
    let program = stretch.tools.name("pg_waldump");
    let wrong = |detail: String| RecoveryError::Program { program: program.clone(), detail };
    let extent = Extent::Segments(stretch.first, stretch.last);
    let dump = Dump { folder: stretch.folder, from: stretch.from, manager, extent };
    let mut command = tokio::process::Command::from(stretch.tools.command("pg_waldump", &PLAIN));
    command
        .args(dump.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| wrong(e.to_string()))?;
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(wrong("no output".into()));
    };
    let complaint = tokio::spawn(async move {
        let mut text = String::new();
        stderr.read_to_string(&mut text).await.map(|_| text)
    });
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.map_err(|e| wrong(e.to_string()))? {
        if !see(&line) {
            return Ok((Ended::Stopped, None));
        }
    }
    let text = complaint.await.map_err(|e| wrong(e.to_string()))?.map_err(|e| wrong(e.to_string()))?;
    let (skips, wrong): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| skipped_to(line).is_some());
    let ended = match wrong.join("\n").trim().trim_start_matches("pg_waldump: error: ") {
        "" => Ended::Whole,
        why => Ended::Broken(why.to_owned()),
    };
    Ok((ended, skips.into_iter().find_map(skipped_to)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Timeline;

    #[tokio::test]
    async fn the_prefix_of_tools_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let tools = crate::backup::fixture::noting(folder);
        let size = cdc_postgres::wal::SegmentSize::new(16 << 20).unwrap();
        let name = SegmentName::new(Timeline::literal(1), 3, size);
        let stretch = Stretch { tools: &tools, folder, first: name, last: name, from: Lsn(0x300_0028) };
        assert_eq!(read(&stretch, Some("XLOG"), |_| true).await.unwrap().ended, Ended::Whole);
        let expected =
            format!("env TZ=UTC LC_ALL=C /pg/bin/pg_waldump -p {folder} -s 0/3000028 --rmgr=XLOG {name} {name}");
        assert_eq!(crate::backup::fixture::calls(folder), [expected]);
    }
}
