//! Times of a recovery point: by the clock of the server, which its commits carry.

use std::time::Instant;

use crate::backup::{BackupError, ClockOf};
use cdc_pipeline::{
    client::{ClientError, postgres::Postgres},
    config::Config,
};

/// A clock that was set by another one, and goes on from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetClock {
    set_to: jiff::Timestamp,
    since: Instant,
    /// Whose clock it was set by.
    pub(crate) by: ClockOf,
}

impl SetClock {
    /// By the server's, or by this machine's where the server does not answer.
    pub(crate) async fn of(config: &Config) -> SetClock {
        let asked = async { shown(&Postgres::connect(&config.postgres.url, "cdc-drill backup").await?).await };
        let (set_to, by) = match asked.await {
            Ok(shown) => (shown, ClockOf::Server),
            Err(error) => {
                tracing::debug!(%error, "times are this machine's");
                (jiff::Timestamp::now(), ClockOf::Program)
            }
        };
        SetClock { set_to, since: Instant::now(), by }
    }

    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.set_to.checked_add(self.since.elapsed()).unwrap_or(self.set_to)
    }
}

/// What a server's clock shows.
pub(super) async fn shown(pg: &Postgres) -> Result<jiff::Timestamp, BackupError> {
    let micros: i64 = pg.value("select (extract(epoch from clock_timestamp()) * 1000000)::bigint").await?;
    Ok(jiff::Timestamp::from_microsecond(micros).map_err(|e| {
        ClientError::answer("postgres", pg.address(), "its clock", "a time of these millennia", e.to_string())
    })?)
}
