//! What `pg_waldump` prints, with `TZ=UTC` and `LC_ALL=C`: a line for each record, and why it ended.

use cdc_model::units::Lsn;

/// A line that shows a record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where the record starts.
    pub at: Lsn,
    line: &'a str,
}

impl<'a> Record<'a> {
    /// Reads a line; `None` for one that shows no record.
    pub fn parse(line: &'a str) -> Option<Record<'a>> {
        Some(Record { at: field(line, "lsn: ")?.parse().ok()?, line })
    }

    /// The name of the restore point that it is, if it is one.
    pub fn restore_point(&self) -> Option<&'a str> {
        Some(self.line.split_once("desc: RESTORE_POINT ")?.1)
    }

    /// When the transaction was committed, by the server's clock, if it is the record of a commit:
    /// `desc: COMMIT 2026-11-22 20:50:11.123456 UTC; ...`, with `COMMIT_PREPARED` alike.
    pub fn commit_time(&self) -> Option<jiff::Timestamp> {
        let words: Vec<&str> = self.commit()?.split_whitespace().filter(|w| !w.starts_with('_')).collect();
        let date = words.iter().position(|w| w.len() == 10 && w.as_bytes()[4] == b'-')?;
        format!("{}T{}Z", words[date], words.get(date + 1)?).parse().ok()
    }

    /// The ids of the transactions that a commit makes visible, its subtransactions among them; none for another record.
    pub fn committed(&self) -> Vec<u32> {
        self.commit().map_or_else(Vec::new, |commit| self.transactions(commit))
    }

    /// The ids of the transactions that a rollback ends, its subtransactions among them; none for another record.
    pub fn rolled_back(&self) -> Vec<u32> {
        let abort = self.line.split_once("desc: ABORT").map(|(_, rest)| rest);
        abort.map_or_else(Vec::new, |abort| self.transactions(abort))
    }

    /// The transaction's id and those of its subtransactions, by what follows on the word for its end.
    fn transactions(&self, end: &str) -> Vec<u32> {
        let prepared = end.strip_prefix("_PREPARED ").and_then(|d| d.split(':').next()?.trim().parse::<u32>().ok());
        // The record of a prepared transaction is written by another session: its own id stands in the description.
        let xid = prepared.or_else(|| field(self.line, "tx: ")?.parse().ok());
        let listed = end.split_once("subxacts: ").map(|(_, rest)| rest.split(';').next().unwrap_or_default());
        let subtransactions = listed.into_iter().flat_map(|s| s.split_whitespace().filter_map(|x| x.parse().ok()));
        xid.into_iter().chain(subtransactions).filter(|xid| *xid != 0).collect()
    }

    /// What follows on the word of a commit.
    fn commit(&self) -> Option<&'a str> {
        Some(self.line.split_once("desc: COMMIT")?.1)
    }
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    Some(line.split_once(name)?.1.split(',').next()?.trim())
}

/// Where the first record starts, of a line `first record is after 0/3000001, at 0/3000028, skipping over 39 bytes`; before it the
/// program's name may stand, as with PostgreSQL 18.
pub fn skipped_to(line: &str) -> Option<Lsn> {
    let line = line.strip_prefix("pg_waldump: ").unwrap_or(line);
    line.strip_prefix("first record is after ")?.split(", at ").nth(1)?.split(',').next()?.parse().ok()
}

/// The record named in `error in WAL record at X`: the last valid one, after which there is nothing to read.
pub fn record_in_error(said: &str) -> Option<Lsn> {
    let (_, rest) = said.split_once("error in WAL record at ")?;
    rest.split(':').next()?.parse().ok()
}

/// The segment named in `could not find file "X"`.
pub fn missing_file(said: &str) -> Option<&str> {
    said.split_once("could not find file \"")?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const COMMIT: &str = "rmgr: Transaction len (rec/tot):     46/    46, tx:        760, lsn: 0/0307D9F8, prev 0/0307D9B8, desc: COMMIT 2026-11-22 20:50:11.123456 UTC; inval msgs: catcache 55";
    const MARK: &str = "rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/0307DA28, prev 0/0307D9F8, desc: RESTORE_POINT before: it";

    #[test]
    fn records_are_read_as_pg_waldump_prints_them() {
        let commit = Record::parse(COMMIT).unwrap();
        assert_eq!(commit.at, "0/307D9F8".parse().unwrap());
        assert_eq!(commit.commit_time(), Some("2026-11-22T20:50:11.123456Z".parse().unwrap()));
        let mark = Record::parse(MARK).unwrap();
        assert_eq!((mark.restore_point(), commit.restore_point()), (Some("before: it"), None));
        assert_eq!((mark.commit_time(), mark.committed()), (None, vec![]));
    }

    #[test]
    fn the_place_of_the_first_record_is_no_record() {
        let skipped = "first record is after 0/3000001, at 0/03000028, skipping over 39 bytes";
        assert_eq!((skipped_to(skipped), skipped_to(COMMIT)), (Some(Lsn(0x300_0028)), None));
        assert!(Record::parse(skipped).is_none());
        assert_eq!(skipped_to(&format!("pg_waldump: {skipped}")), Some(Lsn(0x300_0028)));
    }

    #[rstest]
    #[case::plain(
        "rmgr: Transaction len (rec/tot):     34/    34, tx:        740, lsn: 0/0174D0B8, prev 0/0174D080, desc: COMMIT 2026-11-22 20:10:00.000000 UTC",
        &[740]
    )]
    #[case::subtransactions(
        "rmgr: Transaction len (rec/tot):     60/    60, tx:        750, lsn: 0/0174D0B8, prev 0/0174D080, desc: COMMIT 2026-11-22 20:10:00.000000 UTC; subxacts: 751 752; inval msgs: catcache 7",
        &[750, 751, 752]
    )]
    #[case::prepared(
        "rmgr: Transaction len (rec/tot):     60/    60, tx:          0, lsn: 0/0174D0B8, prev 0/0174D080, desc: COMMIT_PREPARED 760: 2026-11-22 20:10:00.000000 UTC",
        &[760]
    )]
    #[case::abort(
        "rmgr: Transaction len (rec/tot):     34/    34, tx:        740, lsn: 0/0174D0B8, prev 0/0174D080, desc: ABORT 2026-11-22 20:10:00.000000 UTC",
        &[]
    )]
    fn a_commit_names_its_transactions(#[case] line: &str, #[case] xids: &[u32]) {
        let record = Record::parse(line).unwrap();
        assert_eq!((record.at, record.committed().as_slice()), (Lsn(0x174_D0B8), xids));
    }

    #[rstest]
    #[case("tx:        740, lsn: 0/0174D0B8, prev 0/0174D080, desc: ABORT 2026-11-22 20:10:00.000000 UTC; subxacts: 741", &[740, 741])]
    #[case("tx:          0, lsn: 0/0174D0B8, prev 0/0174D080, desc: ABORT_PREPARED 760: 2026-11-22 20:10:00.000000 UTC", &[760])]
    #[case("tx:        740, lsn: 0/0174D0B8, prev 0/0174D080, desc: COMMIT 2026-11-22 20:10:00.000000 UTC", &[])]
    fn a_rollback_names_its_transactions(#[case] line: &str, #[case] xids: &[u32]) {
        assert_eq!(Record::parse(line).unwrap().rolled_back(), xids);
    }

    #[test]
    fn the_last_valid_record_is_the_one_before_the_error() {
        let said = "pg_waldump: error: error in WAL record at 0/3000650: invalid record length at 0/3000688: expected at least 24, got 0";
        assert_eq!(record_in_error(said), Some(Lsn(0x300_0650)));
        let said = "pg_waldump: error: could not find file \"000000010000000000000004\": No such file or directory";
        assert_eq!((record_in_error(said), missing_file(said)), (None, Some("000000010000000000000004")));
    }
}
