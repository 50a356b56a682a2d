//! Which of two events was first, where no offset says it.

/// Where an event stands; zero for a position in the WAL or a time that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) lsn: u64,
    pub(super) made_ns: i64,
}

/// Orders events of a topic across its partitions, as the connector made them.
///
/// Times decide as far as the connector's clock was steady and precise enough; positions in the WAL decide within one
/// history of the server. Where both are known they must agree: after a recovery to an earlier point positions begin again,
/// and on another worker the clock may be another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// The furthest that times have stepped back from one record of a partition to a later one.
    pub(super) back_ns: i64,
}

impl Clock {
    /// Whether `a` was made after `b`; `None` where nothing decides.
    pub(super) fn after(self, a: Position, b: Position) -> Option<bool> {
        if a.partition == b.partition {
            return Some(a.offset > b.offset);
        }
        let by_lsn = (a.lsn > 0 && b.lsn > 0 && a.lsn != b.lsn).then_some(a.lsn > b.lsn);
        match (self.by_time(a.made_ns, b.made_ns), by_lsn) {
            (Some(time), Some(lsn)) if time != lsn => None,
            (time, lsn) => time.or(lsn),
        }
    }

    pub(super) fn by_time(self, a: i64, b: i64) -> Option<bool> {
        let apart = a.abs_diff(b);
        let known = a > 0 && b > 0 && apart > self.back_ns.unsigned_abs() && apart >= resolution(a).max(resolution(b));
        known.then_some(a > b)
    }
}

/// How precise a time is, in nanoseconds: connectors before 2.6 write milliseconds, and so do brokers.
pub(super) fn resolution(time_ns: i64) -> u64 {
    match time_ns {
        ms if ms % 1_000_000 == 0 => 1_000_000,
        us if us % 1000 == 0 => 1000,
        _ => 1,
    }
}

/// Whether any TRUNCATE came after the event; `None` where that cannot be decided.
pub(super) fn cut(clock: Clock, event: Position, truncates: impl Iterator<Item = Position>) -> Option<bool> {
    let mut after = Some(false);
    for truncate in truncates {
        match clock.after(truncate, event) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => after = None,
        }
    }
    after
}
