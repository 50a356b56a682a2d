//! How long this program waits for what: every fixed time of `client`, `stack`, `fault`, `recovery`, `backup`, `verify` and `run`,
//! once, with its reason.
//!
//! A [`Limit`] is a safety net, not a deadline that anything is expected to come near: it is far above what the reference
//! machine needs ([`cdc_model::units::REFERENCE_MACHINE`]) and is stretched by how much slower this machine is at the moment. Waits
//! end by a state, or when nothing moves any more; where they end by a limit, something hangs. What is not stretched stands in
//! [`pacing`] and [`facts`].

use std::{fmt, time::Duration};

use super::pace;

/// A safety net.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    seconds: u64,
    reason: &'static str,
}

impl Limit {
    const fn new(seconds: u64, reason: &'static str) -> Limit {
        Limit { seconds, reason }
    }

    /// The limit here and now: [`Limit::nominal`] times [`pace::scale`].
    pub fn now(self) -> Duration {
        self.nominal().mul_f64(pace::scale())
    }

    /// The limit on the reference machine.
    pub const fn nominal(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Why it is as long as it is.
    pub fn reason(self) -> &'static str {
        self.reason
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.seconds)
    }
}

/// When a wait ends at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// At a safety net, which stretches while the wait goes on.
    Net(Limit),
    /// After a time that somebody asked for, which does not.
    Given(Duration),
}

impl Bound {
    /// The time here and now.
    pub fn now(self) -> Duration {
        match self {
            Bound::Net(limit) => limit.now(),
            Bound::Given(time) => time,
        }
    }
}

impl From<Limit> for Bound {
    fn from(limit: Limit) -> Bound {
        Bound::Net(limit)
    }
}

impl From<Duration> for Bound {
    fn from(time: Duration) -> Bound {
        Bound::Given(time)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Given(time) => write!(f, "{:.1} s, as asked for", time.as_secs_f64()),
            Bound::Net(limit) => match pace::scale() {
                1.0 => write!(f, "{} s", limit.seconds),
                scale => {
                    write!(f, "{} s times {scale:.1}, as this machine is slower than the reference", limit.seconds)
                }
            },
        }
    }
}

/// Asking and being answered.
pub mod asking {
    use super::Limit;

    /// A system that was reached before, or was to be, and refuses or resets every request.
    pub(crate) const OUTAGE: Limit =
        Limit::new(120, "a worker that restarts is back within seconds, a broker within half a minute");
    /// The rest of an answer whose beginning has come, and the beginning itself.
    pub(crate) const ANSWER: Limit =
        Limit::new(60, "a worker that rebalances, or the export of a large registry, takes seconds");
    /// Silence that is worth a word to whoever waits.
    pub(crate) const NOTABLE_SILENCE: Limit =
        Limit::new(5, "a worker answers within milliseconds, and within two seconds while it rebalances");
    /// The answer to a question that means the same when it is asked twice.
    pub(crate) const USUAL_ANSWER: Limit = Limit::new(
        3,
        "a registry was seen to send the head of an answer and never its body: it is asked again on another connection, \
         and the first answer counts",
    );
    /// TCP to PostgreSQL.
    pub(crate) const POSTGRES_CONNECT: Limit =
        Limit::new(10, "the kernel answers for the server; a dead host does not");
    /// The state of a system that may be down.
    pub const STATE: Limit = Limit::new(10, "one that is up answers at once; asked when something has failed already");
    /// A session behind that.
    pub const POSTGRES_SESSION: Limit = Limit::new(
        15,
        "a server that hangs, or whose processes are stopped, still takes connections in: its kernel does",
    );
    /// The slots of a server that is none of the recovery's, connected, opened and asked.
    pub const NEIGHBOUR: Limit = Limit::new(
        5,
        "a dozen round trips to the far side of the world take three seconds; nothing is decided by the answer of one that is slower",
    );
    /// Any request to a broker.
    pub(crate) const BROKER: Limit = Limit::new(20, "metadata takes milliseconds");
    /// The same request to each further broker of a cluster.
    pub(crate) const FURTHER_BROKER: Limit = Limit::new(5, "others have answered already");
    /// Records that are known to be there.
    pub(crate) const RECORDS: Limit = Limit::new(20, "a fetch that finds records returns at once");
    /// A consumer's first assignment.
    pub(crate) const GROUP_JOIN: Limit =
        Limit::new(60, "a group whose last member died without leaving is joined when its session of 45 s is over");
    /// The end of a partition behind its last record.
    pub(crate) const PARTITION_END: Limit = Limit::new(20, "it follows the last record at once");
    /// Topics gone from all brokers.
    pub(crate) const TOPICS_GONE: Limit = Limit::new(30, "deletion is asynchronous and usually takes 0.1 s");
    /// A worker that answers 409 while it rebalances, or 500 when it notices on the way.
    pub(crate) const REBALANCE: Limit = Limit::new(60, "a rebalance of a small cluster takes about a second");
    /// A connector that was just created.
    pub(crate) const DESCRIBED: Limit = Limit::new(30, "it has no state until a worker has started it");
}

/// Servers of a stack.
pub mod servers {
    use super::Limit;

    /// A server's first answer.
    pub const START: Limit =
        Limit::new(90, "the slowest start seen with both cores busy and no Java AOT cache took 25 s");
    /// A clean stop.
    pub const STOP: Limit = Limit::new(30, "it writes a checkpoint and sends what walsenders still wait for");
    /// A killed process with much memory.
    pub const KILLED: Limit = Limit::new(10, "the kernel needs a moment to take it apart");
    /// A clean stop that a supervisor was asked for.
    pub const SUPERVISED_STOP: Limit =
        Limit::new(120, "as a clean stop; not stretched, since a supervisor measures nothing");
    /// A server that outlives its owner.
    pub const ORPHANED: Limit = Limit::new(5, "nobody waits for its data any more; not stretched");
    /// A server that writes its Java AOT cache when it ends.
    pub const AOT_RECORDED: Limit = Limit::new(180, "the cache is assembled when the server ends, in 10 to 20 s");
    /// An exercise of the servers before their caches are recorded.
    pub const EXERCISE: Limit = Limit::new(60, "a connector of two tables snapshots and streams in 5 s");
    /// A whole stack that is taken down by hand.
    pub const ALL_GONE: Limit = Limit::new(30, "all servers stop side by side");
    /// A container's start.
    pub const CONTAINER: Limit = Limit::new(60, "an image that is there starts in a second");
    /// A container's network without members.
    pub const NETWORK_FREE: Limit = Limit::new(10, "the engine takes members out when their containers are gone");
    /// The last lines of a container that ended.
    pub const LAST_LINES: Limit = Limit::new(2, "they lie in a pipe already");
}

/// Faults that are on their way.
pub mod faults {
    use super::Limit;

    /// From the refused write to the FAILED task.
    pub const REFUSED: Limit = Limit::new(60, "the connector polls, the registry compares, the task fails");
    /// A killed server's processes.
    pub const PROCESSES_GONE: Limit = Limit::new(10, "a killed process is gone as soon as its parent has noticed");
    /// A dropped slot.
    pub const SLOT_DROPPED: Limit = Limit::new(
        20,
        "a walsender ends within milliseconds; a connector that retries takes the slot back again and again",
    );
    /// An invalidated slot.
    pub const SLOT_INVALIDATED: Limit = Limit::new(60, "each round writes a segment and a checkpoint");
    /// A page out of the cache.
    pub const PAGE_EVICTED: Limit = Limit::new(20, "writers pin a page for milliseconds");
    /// A session with a server that hangs.
    pub const SILENCE: Limit = Limit::new(3, "a healthy server opens a session within a tenth of a second");
    /// The kernel's last resort.
    pub const STARVED: Limit = Limit::new(60, "it needs a moment to run out of what it may take back");
    /// A connector that was restarted on purpose.
    pub const RESTARTED: Limit = Limit::new(60, "it runs again within seconds");
}

/// Connectors.
pub mod connectors {
    use super::Limit;

    /// A stop.
    pub const STOPPED: Limit =
        Limit::new(180, "a stop under load took 4.6 s; a task that sleeps delays it by its grace period");
    /// The last member of a stopped sink's group.
    pub const LEFT_GROUP: Limit =
        Limit::new(60, "one that died without leaving is dropped when its session of 45 s is over");
    /// Tasks RUNNING.
    pub const RUNNING: Limit = Limit::new(120, "workers rebalance within a minute");
    /// A recovery's snapshot.
    pub const SNAPSHOT: Limit =
        Limit::new(12 * 3_600, "a large table takes as long as it takes: what ends the wait is a standstill");
    /// A snapshot, or a start, in which nothing moves: no record, no position, no session of the slot.
    pub const STALLED: Limit = Limit::new(
        180,
        "reading begins within seconds once the slot is made, and offsets are flushed at least once a minute",
    );
    /// The same in a drill, whose worker flushes offsets every second.
    pub const DRILL_STALLED: Limit = Limit::new(90, "the longest pause seen in a drill's snapshot was 12 s");
    /// A drill's connector that neither streams nor moves and whose registry may have left it without an answer.
    pub const UNANSWERED: Limit = Limit::new(30, "the longest pause seen in a drill's snapshot was 12 s");
    /// A marker under way while nothing moves: no record in its topic, no position of the slot, no stored offset.
    pub const MARKER_STALLED: Limit =
        Limit::new(15, "a marker arrives within 2 s at rest, and offsets are flushed every second");
    /// A row that is to arrive at rest, while nothing moves.
    pub const CANARY_STALLED: Limit = Limit::new(15, "a row arrives within a second at rest");
    /// A connector that is to stream or to fail.
    pub const SETTLED: Limit =
        Limit::new(15, "Debezium tries a slot that it cannot use again for ten seconds before its task fails");
}

/// PostgreSQL.
pub mod postgres {
    use super::Limit;

    /// A restored server's clean stop, and its end when it must not go on.
    pub const STOP: Limit = Limit::new(60, "it writes a checkpoint");
    /// Sessions on a server that is up.
    pub const OPEN: Limit = Limit::new(120, "a start after a crash replays WAL");
    /// An archived segment.
    pub const ARCHIVED: Limit = Limit::new(150, "the archiver tries a failed command again after a minute");
    /// The end of the transactions that run when fingerprints are taken.
    pub const RUNNING_TRANSACTIONS: Limit =
        Limit::new(60, "a transaction takes milliseconds; one that was forgotten must not hold up a backup");
    /// A base backup from which no data comes.
    pub const BASE_STALLED: Limit =
        Limit::new(150, "it begins with a checkpoint and ends when the last segment is archived");
    /// A server that a command was to start or to stop.
    pub const BY_COMMAND: Limit = Limit::new(30, "the command has returned: it says that it is done");
    /// A slot without its reader.
    pub const LET_GO: Limit = Limit::new(30, "a walsender ends within a second when its client is gone");
    /// Partitions with a leader.
    pub const LEADERS: Limit = Limit::new(30, "leaders of new topics are elected at once");
}

/// Registries.
pub mod registries {
    use super::Limit;

    /// A registry's first answer.
    pub const START: Limit = Limit::new(180, "one on the broker's topics reads them all: 6 to 25 s");
    /// A connector that was restarted without any repair.
    pub const SETTLED: Limit = Limit::new(20, "it streams again within 5 s or not at all");
    /// A refused schema that is let through.
    pub const REGISTERED: Limit = Limit::new(90, "the task is restarted and writes again");
}

/// `verify` on a pipeline that lives.
pub mod verify {
    use super::Limit;

    /// Looks while tables and topics differ.
    pub const LOOKS: Limit =
        Limit::new(30, "a connector delivers several times a second, and a difference that stays is judged before");
    /// The same behind a recovery.
    pub const AFTER_RECOVERY: Limit = Limit::new(60, "writers may be back already; the topics follow within seconds");
}

/// Writers.
pub mod writers {
    use super::Limit;

    /// A transaction.
    pub const TRANSACTION: Limit = Limit::new(60, "it takes milliseconds; behind this its outcome is unknown");
    /// A session anew.
    pub const RECONNECT: Limit = Limit::new(10, "a server that is up takes it at once");
}

/// Drills.
pub mod drills {
    use super::Limit;

    /// A command of a scenario that names no time-out.
    pub const COMMAND: Limit = Limit::new(
        120,
        "a base backup, its WAL and a snapshot of some thousand rows take ten seconds; one that waits for a person hangs",
    );
    /// A drill as a whole, beside what its commands may take.
    pub const WHOLE: Limit =
        Limit::new(1_800, "every wait within has its own end: this one is for what hangs without waiting");
}

/// How often something is looked at, and for how long at a time. Not stretched: nothing is decided by these.
pub mod pacing {
    use std::time::Duration;

    /// The first pause between two looks of a wait; each pause is half as long again as the one before.
    pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(10);
    /// The longest: short enough to add little to a measured recovery time.
    pub const PAUSE_MAX: Duration = Duration::from_millis(150);
    /// One look for a record.
    pub(crate) const RECORD_LOOK: Duration = Duration::from_millis(50);
    /// A reader of many partitions that finds none looks after which of them are still open.
    pub(crate) const RECORD_QUIET: Duration = Duration::from_millis(300);
    /// Whether topics grow behind a recovery: asking costs the broker something.
    pub const GROWTH_LOOK: Duration = Duration::from_secs(5);
    /// The same in a drill.
    pub const COUNT_LOOK: Duration = Duration::from_secs(3);
    /// Whether a command of a scenario has ended.
    pub const COMMAND_LOOK: Duration = Duration::from_millis(100);
    /// A look at memory walks the page tables of every process, some hundred: rarely enough to cost a hundredth of a core.
    /// What grows in a drill is the Java servers' heaps and the harness's own memory, and what they take they keep for longer.
    pub const MEMORY_LOOK: Duration = Duration::from_secs(5);
    /// Between two looks of `verify`; a connector delivers several times a second.
    pub const VERIFY_LOOK: Duration = Duration::from_millis(200);
    /// How large a base backup has become.
    pub const BASE_LOOK: Duration = Duration::from_millis(50);
    /// Work that is not over by then says what it waits for.
    pub const FIRST_LINE: Duration = Duration::from_secs(5);
    /// Between two lines on how far a step is, where there is no terminal.
    pub const PROGRESS_LINE: Duration = Duration::from_secs(15);
    /// The same on a terminal, in place.
    pub const PROGRESS_BAR: Duration = Duration::from_millis(200);
    /// How far a download has come.
    pub const FETCH_LOOK: Duration = Duration::from_millis(500);
    /// A writer's next try: short against any recovery, long enough not to burden a server that is starting.
    pub const WRITER_RETRY: Duration = Duration::from_millis(50);
    /// Between two transactions of a writer that keeps trying: a recovery is not measured against writers that take the
    /// machine.
    pub const WRITER_THINK: Duration = Duration::from_millis(40);
}

/// What other programs do in a time of their own.
pub mod facts {
    use std::time::Duration;

    /// Stopped while workers rebalance, a connector may come alive again: the worker that is given its task by that rebalance
    /// starts it without having read of the stop, and the task takes its slot, or makes one, until the next rebalance ends it.
    /// Seen in 4 of 20 stops of two connectors at once on two workers, and in 3 of 24 stops of one after the other: 0.05 to
    /// 0.08 s after STOPPED without tasks, for three seconds.
    pub(crate) const STANDS_STILL: Duration = Duration::from_secs(2);
    /// A connector that goes on from a stored offset opens its slot twice: once to find its place in the WAL, which is over in
    /// a tenth of a second on a short stretch, then to stream. Only a session that stays is streaming.
    pub const HOLDS_SLOT: Duration = Duration::from_millis(700);
    /// A container without a supervisor may be one whose supervisor is about to start.
    pub const CONTAINER_YOUNG: Duration = Duration::from_secs(5 * 60);
    /// Caches that no version of this program has asked for since.
    pub const CACHE_OLD: Duration = Duration::from_secs(30 * 24 * 3_600);
    /// A server of objects that has not taken a connection by then is asked again.
    pub const BUCKET_CONNECT: Duration = Duration::from_secs(10);
    /// The same of a request that was not answered; a part of a large object is 16 MiB.
    pub const BUCKET_REQUEST: Duration = Duration::from_secs(120);
    /// A request that fails for reasons that pass is repeated no longer than this.
    pub const BUCKET_RETRIES: Duration = Duration::from_secs(60);
    /// What a repository's writer leaves behind when it dies; no writer needs so long for one file.
    pub const TEMPORARY_OLD: Duration = Duration::from_secs(3_600);
    /// How often the holder of a lock touches its file, for machines that cannot see its process.
    pub const HEARTBEAT: Duration = Duration::from_secs(10);
    /// The heartbeat of a holder that no longer lives. A machine so slow that eleven in a row are late was not seen; a process
    /// that was suspended for so long notices that its lock is another's before its next step.
    pub const HEARTBEAT_OLD: Duration = Duration::from_secs(120);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{asking, pace};

    /// librdkafka refuses a longer one, and with it the request.
    #[test]
    fn a_brokers_limit_stays_within_what_its_client_takes() {
        assert!(asking::BROKER.nominal().mul_f64(pace::SCALE_MAX) < Duration::from_secs(3_600));
    }
}
