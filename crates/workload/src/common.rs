//! What the writers of every workload with a ledger have in common: epochs, deadlines, and how a COMMIT can end.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::RwLock;

use cdc_model::units::{Epoch, Secret, Timeline};
use cdc_pipeline::client::{ClientError, limits::writers, postgres::Postgres};

/// What all writers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) url: Secret,
    pub(super) token_prefix: String,
    /// Held for reading by each transaction from the choice of its token to its outcome, so that no transaction straddles
    /// two epochs.
    pub(super) epoch: RwLock<EpochNow>,
}

impl Shared {
    pub(super) fn new(url: &Secret, token_prefix: &str, epoch: Epoch) -> Shared {
        let epoch = RwLock::new(EpochNow { epoch, ..EpochNow::default() });
        Shared { url: url.clone(), token_prefix: token_prefix.to_owned(), epoch }
    }

    /// A writer met a server on this timeline.
    pub(super) async fn notice(&self, timeline: Timeline) {
        if self.epoch.read().await.timeline < Some(timeline) {
            self.epoch.write().await.notice(timeline);
        }
    }
}

/// The epoch, and the timeline that the server was last seen on, if it was.
#[derive(Debug, Default)]
pub(super) struct EpochNow {
    epoch: Epoch,
    timeline: Option<Timeline>,
    /// Whether a COMMIT was sent in this epoch. Set by writers, which hold the epoch for reading only.
    used: AtomicBool,
}

impl EpochNow {
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A COMMIT is about to be sent.
    pub(super) fn commits(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Begins an epoch on request.
    pub(super) fn begin(&mut self, epoch: Epoch) {
        if epoch > self.epoch {
            *self = EpochNow { epoch, timeline: self.timeline, used: AtomicBool::new(false) };
        }
    }

    /// A higher timeline than any before is a restored server. No epoch may hold commits of two timelines, so one that
    /// does begins the next, and one that nothing was committed in yet goes on.
    fn notice(&mut self, timeline: Timeline) {
        if Some(timeline) > self.timeline {
            self.timeline = Some(timeline);
            if self.used.load(Ordering::Relaxed) {
                self.begin(Epoch(self.epoch.0 + 1));
            }
        }
    }
}

/// A stream of random numbers for one writer in one load.
pub(super) fn stream(seed: u64, load: u64, writer: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(load << 32 | writer);
    rng
}

/// Whether the server refused the commit, so that the transaction is rolled back. A server that ends the session (class
/// 57) may have committed before.
pub(super) fn refused(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| !db.code().code().starts_with("57"))
}

pub(super) fn no_answer(pg: &Postgres, what: &str) -> ClientError {
    let waited = format!("{what}: no answer within {} s", writers::TRANSACTION.now().as_secs());
    ClientError::unreachable("postgres", pg.address(), waited)
}

pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_epoch_holds_commits_of_two_timelines() {
        let mut now = EpochNow::default();
        now.notice(Timeline::literal(1));
        assert_eq!(now.epoch(), Epoch(0), "the first server is no restored one");
        now.commits();
        now.notice(Timeline::literal(2));
        assert_eq!(now.epoch(), Epoch(1), "writers met a restored server by themselves");
        now.begin(Epoch(1));
        assert_eq!(now.epoch(), Epoch(1), "they were told afterwards");
        now.commits();
        now.begin(Epoch(2));
        now.notice(Timeline::literal(3));
        assert_eq!(now.epoch(), Epoch(2), "they were told before");
        now.begin(Epoch(1));
        now.notice(Timeline::literal(2));
        assert_eq!(now.epoch(), Epoch(2), "nothing goes back");
    }
}
