//! What PostgreSQL's programs take, and what they print where this program reads it.

use camino::Utf8Path;

use super::wal::SegmentName;
use cdc_model::units::{Lsn, Timeline};

/// What makes a program print what this one can read, on any machine.
pub const PLAIN: [(&str, &str); 2] = [("TZ", "UTC"), ("LC_ALL", "C")];

/// The WAL that `pg_waldump` reads from a folder.
#[derive(Clone, Copy, Debug)]
pub struct Dump<'a> {
    /// The folder with the segments.
    pub folder: &'a Utf8Path,
    /// Where reading begins.
    pub from: Lsn,
    /// The resource manager (`XLOG`, `Transaction`) whose records are shown; all where there is none.
    pub manager: Option<&'a str>,
    /// How far reading goes.
    pub extent: Extent,
}

/// How far `pg_waldump` reads.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// From the segment that holds the beginning to another one.
    Segments(SegmentName, SegmentName),
    /// On a timeline, to a position or to the end of what there is.
    Timeline(Timeline, Option<Lsn>),
}

impl Dump<'_> {
    /// The arguments.
    pub fn arguments(&self) -> Vec<String> {
        let mut words = vec!["-p".to_owned(), self.folder.to_string(), "-s".to_owned(), self.from.to_string()];
        words.extend(self.manager.map(|name| format!("--rmgr={name}")));
        match self.extent {
            Extent::Segments(first, last) => words.extend([first.to_string(), last.to_string()]),
            Extent::Timeline(timeline, to) => {
                words.push(format!("--timeline={timeline}"));
                words.extend(to.map(|to| format!("--end={to}")));
            }
        }
        words
    }
}

/// The arguments with which `pg_basebackup` writes a backup as one tar stream. WAL is not in it; a damaged page ends the program
/// with an error. With the manifest of an earlier backup it holds what has changed since that one.
pub fn base_backup(label: &str, since: Option<&Utf8Path>) -> Vec<String> {
    let words = [
        "--pgdata=-",
        "--format=tar",
        "--wal-method=none",
        "--checkpoint=fast",
        "--manifest-checksums=SHA256",
        "--no-password",
        "--label",
        label,
    ];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.extend(since.map(|manifest| format!("--incremental={manifest}")));
    words
}

/// The arguments with which `pg_combinebackup` makes a data folder of a full backup and those that add to it, oldest first. Nothing is
/// synced; with `links` the result shares files with its sources.
pub fn combine_backups(sources: &[&Utf8Path], into: &Utf8Path, links: bool) -> Vec<String> {
    let mut words = vec!["--no-sync".to_owned(), "--manifest-checksums=SHA256".to_owned()];
    if links {
        words.push("--link".to_owned());
    }
    words.push(format!("--output={into}"));
    words.extend(sources.iter().map(ToString::to_string));
    words
}

/// Whether `pg_basebackup` ended because the server met a damaged page: its first message, with how many there were.
pub fn damaged_page(said: &str) -> Option<String> {
    if !said.contains("checksum error occurred") {
        return None;
    }
    let pages: Vec<&str> = said.lines().filter(|l| l.contains("checksum verification failed")).collect();
    Some(match pages.first() {
        Some(first) => format!("{} ({} such messages)", first.trim(), pages.len()),
        None => last_line(said).to_owned(),
    })
}

/// The last line that a program printed.
pub fn last_line(said: &str) -> &str {
    said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing").trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::SegmentSize;

    #[test]
    fn a_dump_ends_at_a_segment_or_on_a_timeline() {
        let name = |number| SegmentName::new(Timeline::FIRST, number, SegmentSize::new(16 << 20).unwrap());
        let dump = |manager, extent| {
            Dump { folder: Utf8Path::new("/w"), from: Lsn(0x300_0028), manager, extent }.arguments().join(" ")
        };
        let segments = dump(None, Extent::Segments(name(3), name(4)));
        assert_eq!(segments, "-p /w -s 0/3000028 000000010000000000000003 000000010000000000000004");
        let manager = Some("Transaction");
        assert_eq!(
            dump(manager, Extent::Timeline(Timeline::literal(2), None)),
            "-p /w -s 0/3000028 --rmgr=Transaction --timeline=2"
        );
        assert!(
            dump(manager, Extent::Timeline(Timeline::literal(2), Some(Lsn(0x500_0000))))
                .ends_with(" --timeline=2 --end=0/5000000")
        );
    }

    #[test]
    fn a_damaged_page_is_told_apart_from_other_failures() {
        let said = "WARNING:  checksum verification failed in file \"./base/5/16384\", block 5: calculated E5F5 but expected 1B2C\n\
                    pg_basebackup: error: checksum error occurred\n";
        assert!(damaged_page(said).unwrap().contains("base/5/16384"));
        assert_eq!(damaged_page("pg_basebackup: error: connection to server failed"), None);
    }
}
