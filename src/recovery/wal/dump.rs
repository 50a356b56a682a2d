//! `pg_waldump` over a folder of segments: where the WAL ends, where a name or a time lies.

use std::process::Stdio;

use camino::Utf8Path;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::{backup::wal::SegmentName, config::Tools, recovery::RecoveryError, units::Lsn};

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

/// A record that a person or the clock can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Where it starts.
    pub(crate) at: Lsn,
}

/// Finds the last valid record that can be read from `from` on.
pub(crate) async fn tail(stretch: &Stretch<'_>) -> Result<Tail, RecoveryError> {
    let mut last = None;
    let ended = dump(stretch, &[], |line| {
        last = lsn_of(line).or(last);
        true
    })
    .await?;
    match last {
        Some(last) => Ok(Tail { last, ended }),
        None => Err(RecoveryError::Program {
            program: "pg_waldump".into(),
            detail: format!("no valid record in segments {} to {}: {ended}", stretch.first, stretch.last),
        }),
    }
}

/// Every restore point of this name.
pub(crate) async fn find_marks(stretch: &Stretch<'_>, name: &str) -> Result<Vec<Mark>, RecoveryError> {
    let wanted = format!("desc: RESTORE_POINT {name}");
    let mut found = Vec::new();
    dump(stretch, &["--rmgr=XLOG"], |line| {
        if line.ends_with(&wanted) {
            found.extend(lsn_of(line).map(|at| Mark { at }));
        }
        true
    })
    .await?;
    Ok(found)
}

/// The first commit later than a moment.
pub(crate) async fn find_commit_after(
    stretch: &Stretch<'_>,
    moment: jiff::Timestamp,
) -> Result<Option<Mark>, RecoveryError> {
    let mut found = None;
    dump(stretch, &["--rmgr=Transaction"], |line| {
        if commit_time(line).is_some_and(|at| at > moment) {
            found = lsn_of(line).map(|at| Mark { at });
        }
        found.is_none()
    })
    .await?;
    Ok(found)
}

/// Runs `pg_waldump` and hands each line to `see` until it returns false. The answer is why reading
/// ended.
async fn dump(
    stretch: &Stretch<'_>,
    more: &[&str],
    mut see: impl FnMut(&str) -> bool,
) -> Result<String, RecoveryError> {
    let program = stretch.tools.name("pg_waldump");
    let wrong = |detail: String| RecoveryError::Program { program: program.clone(), detail };
    let settings = [("TZ", "UTC"), ("LC_ALL", "C")];
    let mut command = tokio::process::Command::from(stretch.tools.command("pg_waldump", &settings));
    command
        .args(["-p", stretch.folder.as_str(), "-s", &stretch.from.to_string()])
        .args(more)
        .args([stretch.first.to_string(), stretch.last.to_string()])
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
            return Ok("stopped looking".into());
        }
    }
    let text = complaint.await.map_err(|e| wrong(e.to_string()))?.map_err(|e| wrong(e.to_string()))?;
    Ok(match text.trim().trim_start_matches("pg_waldump: error: ") {
        "" => "there is no further segment".to_owned(),
        why => why.to_owned(),
    })
}

fn lsn_of(line: &str) -> Option<Lsn> {
    line.split("lsn: ").nth(1)?.split(',').next()?.parse().ok()
}

/// `desc: COMMIT 2026-11-22 20:50:11.123456 UTC; ...`, with `COMMIT_PREPARED` alike.
fn commit_time(line: &str) -> Option<jiff::Timestamp> {
    let desc = line.split("desc: COMMIT").nth(1)?;
    let words: Vec<&str> = desc.split_whitespace().filter(|w| !w.starts_with('_')).collect();
    let date = words.iter().position(|w| w.len() == 10 && w.as_bytes()[4] == b'-')?;
    format!("{}T{}Z", words[date], words.get(date + 1)?).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "rmgr: Transaction len (rec/tot):     46/    46, tx:        760, lsn: 0/0307D9F8, prev 0/0307D9B8, desc: COMMIT 2026-11-22 20:50:11.123456 UTC; inval msgs: catcache 55";
    const MARK: &str = "rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/0307DA28, prev 0/0307D9F8, desc: RESTORE_POINT before: it";

    #[tokio::test]
    async fn the_prefix_of_tools_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let tools = Tools::noting(folder);
        let size = crate::backup::wal::SegmentSize::new(16 << 20).unwrap();
        let name = SegmentName::new(1, 3, size);
        let stretch = Stretch { tools: &tools, folder, first: name, last: name, from: Lsn(0x300_0028) };
        assert!(find_marks(&stretch, "x").await.unwrap().is_empty());
        let expected =
            format!("env TZ=UTC LC_ALL=C /pg/bin/pg_waldump -p {folder} -s 0/3000028 --rmgr=XLOG {name} {name}");
        assert_eq!(tools.calls(), [expected]);
    }

    #[test]
    fn records_are_read_as_pg_waldump_prints_them() {
        assert_eq!(lsn_of(COMMIT), Some("0/307D9F8".parse().unwrap()));
        assert_eq!(commit_time(COMMIT), Some("2026-11-22T20:50:11.123456Z".parse().unwrap()));
        assert_eq!(commit_time(MARK), None);
        assert!(MARK.ends_with("desc: RESTORE_POINT before: it"));
    }
}
