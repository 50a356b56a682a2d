//! How a server's archiving stands beside what the archive has: what is late and what is lost. Pure.
//!
//! **Late** is what the server still has, in `pg_wal` or in the repository's spool. **Lost** is what the server says that it has archived,
//! or has removed, and what is in neither. A server is asked before the archive is looked at, and the archive only grows: what the
//! server had given away by then is there now.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use cdc_model::units::{SystemId, counted};
use cdc_postgres::wal::{SegmentName, SegmentSize, WalFile};

/// What a server says of its archiving: `pg_stat_archiver`, and the folders of its WAL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerArchiving {
    /// The cluster.
    pub system_id: SystemId,
    /// `archive_mode`: `on`, `off` or `always`.
    pub mode: String,
    /// The segment that is being written; null on a server in recovery.
    pub current: Option<String>,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// How many files were archived since the statistics were reset.
    pub archived: u64,
    /// The last of them.
    pub last_archived: Option<ArchiverEvent>,
    /// How many attempts failed since then.
    pub failed: u64,
    /// The last of them.
    pub last_failed: Option<ArchiverEvent>,
    /// When the statistics were reset.
    pub since: Option<String>,
    /// The files that wait (`.ready`).
    pub ready: BTreeSet<String>,
    /// How long the one that has waited longest does, in seconds.
    pub oldest_ready_seconds: Option<u64>,
    /// The files that the server notes as archived (`.done`).
    pub done: BTreeSet<String>,
    /// The files in `pg_wal`.
    pub in_pg_wal: BTreeSet<String>,
}

/// A file that the archiver was at last, and when, by the server's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiverEvent {
    /// The file.
    pub file: String,
    /// When, as the server prints it in UTC.
    pub at: String,
    /// The same in microseconds since 1970.
    pub micros: i64,
}

/// How archiving stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiverStanding {
    /// What the server says; null where it was not asked.
    pub server: Option<ServerArchiving>,
    /// Why it was not asked.
    pub not_asked: Option<String>,
    /// Whether the last attempt failed.
    pub failing: bool,
    /// Finished files that are not in the archive: in the server's `pg_wal` or in the spool.
    pub late: Vec<String>,
    /// Files that are in neither, nor in the archive.
    pub lost: Vec<Lost>,
}

/// A file that was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The file.
    pub file: String,
    /// What says that there was such a file.
    pub why: String,
    /// Whether the server still has a copy, which can be archived.
    pub in_pg_wal: bool,
}

/// What the repository says of the same cluster.
pub(super) trait Holds {
    /// The error of asking.
    type Error;
    /// Whether the archive has a file, or had it until it was pruned.
    fn has(&self, file: &WalFile) -> Result<bool, Self::Error>;
    /// Whether a file waits in the spool.
    fn spools(&self, file: &WalFile) -> bool;
    /// The first and the last archived segment of a segment's timeline.
    fn ends(&self, of: SegmentName) -> Option<(SegmentName, SegmentName)>;
    /// When the repository was made, in microseconds since 1970, where that is known.
    fn made(&self) -> Option<i64>;
}

impl ArchiverStanding {
    /// Of a server that could not be asked.
    pub(super) fn unknown(why: &str) -> ArchiverStanding {
        let not_asked = Some(why.to_owned());
        ArchiverStanding { server: None, not_asked, failing: false, late: Vec::new(), lost: Vec::new() }
    }

    /// Compares what a server says with what the repository has.
    pub(super) fn judge<H: Holds>(server: &ServerArchiving, holds: &H) -> Result<ArchiverStanding, H::Error> {
        let (mut late, mut lost) = (BTreeSet::new(), Vec::new());
        let mut gone = |file: &WalFile, why: String| -> Result<(), H::Error> {
            let name = file.to_string();
            if holds.has(file)? || lost.iter().any(|lost: &Lost| lost.file == name) {
                return Ok(());
            }
            match holds.spools(file) {
                true => {
                    late.insert(name);
                }
                false => lost.push(Lost { in_pg_wal: server.in_pg_wal.contains(&name), file: name, why }),
            }
            Ok(())
        };
        let current = server.current.as_ref().and_then(|name| segment(name));
        if let Some(last) = &server.last_archived
            && let Ok(file) = last.file.parse::<WalFile>()
            && holds.made().is_none_or(|made| last.micros >= made)
        {
            gone(&file, format!("the server has archived it at {}", last.at))?;
        }
        // A server in recovery notes what it restored or was sent as archived.
        if let Some(current) = current {
            let ends = holds.ends(current);
            for file in server.done.iter().filter_map(|name| name.parse::<WalFile>().ok()) {
                // What was archived before this repository was there is not its own.
                let is_judged = match file {
                    WalFile::Segment(name) => {
                        name.timeline == current.timeline && ends.is_some_and(|(first, _)| name >= first)
                    }
                    WalFile::Partial(_) | WalFile::History(_) | WalFile::BackupLabel(..) => false,
                };
                if is_judged {
                    gone(&file, "the server notes it as archived".into())?;
                }
            }
            if let (Some((_, last)), Some(size)) = (ends, SegmentSize::new(server.segment_bytes))
                && let (Some(last), Some(end)) = (last.number(size), current.number(size))
            {
                for number in last + 1..end {
                    let name = SegmentName::new(current.timeline, number, size);
                    if !server.in_pg_wal.contains(&name.to_string()) {
                        gone(&WalFile::Segment(name), "the server has written and removed it".into())?;
                    }
                }
            }
        }
        for name in &server.ready {
            if let Ok(file) = name.parse::<WalFile>()
                && !holds.has(&file)?
            {
                late.insert(name.clone());
            }
        }
        lost.retain(|lost| !late.contains(&lost.file));
        Ok(ArchiverStanding {
            server: Some(server.clone()),
            not_asked: None,
            failing: server.is_failing(),
            late: late.into_iter().collect(),
            lost,
        })
    }

    /// What is worth knowing and no defect.
    pub(super) fn notes(&self) -> Vec<String> {
        if let Some(why) = &self.not_asked {
            return vec![format!("whether archiving keeps up is not known: {why}")];
        }
        let Some(server) = &self.server else { return Vec::new() };
        let mut notes = Vec::new();
        if server.mode == "off" {
            notes.push("the server does not archive: archive_mode is off".to_owned());
        }
        if let (true, Some(failed)) = (self.failing, &server.last_failed) {
            let since = match &server.last_archived {
                Some(last) => format!("the last that succeeded was that of {} at {}", last.file, last.at),
                None => "none has succeeded".to_owned(),
            };
            notes.push(format!(
                "archiving fails: {} at {}; {since}; {} since {}",
                failed.file,
                failed.at,
                counted(server.failed, "failure"),
                server.since.as_deref().unwrap_or("the server was made")
            ));
        }
        if !self.late.is_empty() {
            let age = server.oldest_ready_seconds.map_or_else(String::new, |age| format!(", the oldest for {age} s"));
            notes.push(format!(
                "{} not archived yet, still with the server or in the spool{age}: late, not lost",
                counted(self.late.len(), "WAL file")
            ));
        }
        if server.current.is_none() {
            notes
                .push("the server is in recovery: only what it archived last was compared with the archive".to_owned());
        }
        notes
    }
}

impl ServerArchiving {
    /// Whether the last attempt to archive failed.
    fn is_failing(&self) -> bool {
        let at = |event: &Option<ArchiverEvent>| event.as_ref().map(|event| event.micros);
        at(&self.last_failed) > at(&self.last_archived)
    }
}

fn segment(name: &str) -> Option<SegmentName> {
    match name.parse() {
        Ok(WalFile::Segment(name)) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fixture::{SYSTEM, segment, size};
    use std::convert::Infallible;

    const MADE: i64 = 1_000_000;

    struct Repository {
        archived: Vec<u64>,
        pruned_below: u64,
        spooled: Vec<u64>,
    }

    impl Repository {
        fn of(archived: impl IntoIterator<Item = u64>) -> Repository {
            Repository { archived: archived.into_iter().collect(), pruned_below: 0, spooled: Vec::new() }
        }
    }

    impl Holds for Repository {
        type Error = Infallible;

        fn has(&self, file: &WalFile) -> Result<bool, Infallible> {
            let WalFile::Segment(name) = file else { return Ok(true) };
            let number = name.number(size()).unwrap();
            Ok(number < self.pruned_below || self.archived.iter().any(|archived| segment(*archived) == *name))
        }

        fn spools(&self, file: &WalFile) -> bool {
            self.spooled.iter().any(|number| WalFile::Segment(segment(*number)) == *file)
        }

        fn ends(&self, of: SegmentName) -> Option<(SegmentName, SegmentName)> {
            let on = self.archived.iter().map(|number| segment(*number)).filter(|name| name.timeline == of.timeline);
            Some((on.clone().min()?, on.max()?))
        }

        fn made(&self) -> Option<i64> {
            Some(MADE)
        }
    }

    fn names(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<String> {
        numbers.into_iter().map(|number| segment(number).to_string()).collect()
    }

    fn event(number: u64, micros: i64) -> Option<ArchiverEvent> {
        Some(ArchiverEvent { file: segment(number).to_string(), at: format!("{micros}"), micros })
    }

    /// A server that writes segment 10 and has archived everything up to 9.
    fn server() -> ServerArchiving {
        ServerArchiving {
            system_id: SYSTEM,
            mode: "on".into(),
            current: Some(segment(10).to_string()),
            segment_bytes: size().bytes(),
            archived: 5,
            last_archived: event(9, MADE + 5),
            failed: 0,
            last_failed: None,
            since: None,
            ready: BTreeSet::new(),
            oldest_ready_seconds: None,
            done: names(7..=9),
            in_pg_wal: names(7..=12),
        }
    }

    fn judged(server: &ServerArchiving, repository: &Repository) -> ArchiverStanding {
        ArchiverStanding::judge(server, repository).unwrap()
    }

    fn lost(standing: &ArchiverStanding) -> Vec<(&str, bool)> {
        standing.lost.iter().map(|lost| (lost.file.as_str(), lost.in_pg_wal)).collect()
    }

    #[test]
    fn a_server_whose_archiving_keeps_up_has_nothing_to_say() {
        let standing = judged(&server(), &Repository::of(3..=9));
        assert!(standing.lost.is_empty() && standing.late.is_empty() && !standing.failing, "{standing:?}");
        assert!(standing.notes().is_empty(), "{:?}", standing.notes());
    }

    #[test]
    fn what_waits_is_late_and_what_was_taken_beforehand_is_not() {
        let waits = ServerArchiving {
            ready: names([7, 8, 9]),
            oldest_ready_seconds: Some(40),
            done: BTreeSet::new(),
            last_archived: event(6, MADE + 5),
            last_failed: event(7, MADE + 9),
            failed: 12,
            ..server()
        };
        let standing = judged(&waits, &Repository::of(3..=7));
        assert_eq!(standing.late, Vec::from_iter(names([8, 9])));
        assert!(standing.failing && standing.lost.is_empty());
        let notes = standing.notes().join("\n");
        for part in ["archiving fails", "12 failures", "2 WAL files not archived yet", "for 40 s", "late, not lost"] {
            assert!(notes.contains(part), "no `{part}` in {notes}");
        }
        let recovered = ServerArchiving { last_archived: event(6, MADE + 10), ..waits };
        assert!(!judged(&recovered, &Repository::of(3..=7)).failing, "it succeeded since");
    }

    #[test]
    fn what_the_server_gave_away_and_nobody_has_is_lost() {
        let standing = judged(&server(), &Repository::of(3..=8));
        assert_eq!(lost(&standing), [(segment(9).to_string().as_str(), true)], "it can still be taken");
        // Removed: by whatever the command did instead of archiving.
        let removed = ServerArchiving { done: names([9]), in_pg_wal: names(9..=12), ..server() };
        let standing = judged(&removed, &Repository::of([3, 4, 9]));
        assert!(lost(&standing).is_empty(), "a hole in the archive is found by its names: {standing:?}");
        let standing = judged(&removed, &Repository::of([3, 4, 5]));
        let expected =
            [(9, true), (6, false), (7, false), (8, false)].map(|(n, there)| (segment(n).to_string(), there));
        assert_eq!(lost(&standing), expected.each_ref().map(|(name, there)| (name.as_str(), *there)));
        // The command left it in the spool, or it was archived and pruned.
        let spooled = Repository { spooled: vec![9], ..Repository::of(3..=8) };
        let standing = judged(&server(), &spooled);
        assert_eq!((lost(&standing).len(), standing.late.len()), (0, 1));
        let pruned = Repository { pruned_below: 10, ..Repository::of([]) };
        assert!(judged(&server(), &pruned).lost.is_empty());
    }

    #[test]
    fn nothing_is_lost_that_was_never_this_repositorys() {
        let elsewhere = ServerArchiving { last_archived: event(9, MADE - 1), ..server() };
        assert!(judged(&elsewhere, &Repository::of([])).lost.is_empty(), "archived before the repository was made");
        assert_eq!(judged(&server(), &Repository::of([])).lost.len(), 1, "archived since, to some other place");
        let first = ServerArchiving { last_archived: event(9, MADE + 5), ..server() };
        assert!(judged(&first, &Repository::of([9])).lost.is_empty(), "7 and 8 were archived elsewhere");
    }

    #[test]
    fn what_is_not_known_is_a_note() {
        let standby = ServerArchiving { current: None, last_archived: None, ..server() };
        let standing = judged(&standby, &Repository::of([3]));
        assert!(standing.lost.is_empty() && standing.notes()[0].contains("in recovery"), "{standing:?}");
        let off = ServerArchiving { mode: "off".into(), last_archived: None, done: BTreeSet::new(), ..server() };
        let standing = judged(&off, &Repository::of([]));
        assert!(standing.lost.is_empty() && standing.notes()[0].contains("archive_mode is off"), "{standing:?}");
        let silent = ArchiverStanding::unknown("postgres at h:1 does not answer");
        assert_eq!(silent.notes(), ["whether archiving keeps up is not known: postgres at h:1 does not answer"]);
    }
}
