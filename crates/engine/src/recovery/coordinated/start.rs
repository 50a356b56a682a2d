//! Starts the server in its own place.

use super::Coordinated;
use crate::recovery::RecoveryError;
use cdc_model::moment;
use cdc_pipeline::client::{
    limits,
    postgres::Postgres,
    wait::{self, Poll},
};

/// Starts the server unless it runs, and waits for sessions; says whether it started it.
pub(super) async fn start(s: &Coordinated) -> Result<bool, RecoveryError> {
    let runs = s.control.running().await?;
    if !runs {
        s.control.start().await?;
        moment::pass("started").await?;
    }
    let config = &s.pipeline.config;
    wait::until("the server to accept sessions", limits::postgres::OPEN, || async {
        Postgres::connect(&config.postgres.url, "cdc-drill-recovery").await.map(|_| Poll::Ready(()))
    })
    .await?;
    Ok(!runs)
}
