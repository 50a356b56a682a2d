//! Ctrl-C and SIGTERM where something must end in order.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::{CliError, say};
use cdc_model::units::Exit;

/// Does work until a person, or whoever manages this process, asks for its end. The work is then dropped where it waits, so that what it
/// started is stopped and what it half wrote is removed. A second request ends the process at once.
pub(super) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    let mut requests = Requests::new()?;
    let interrupted = tokio::select! {
        done = work => return Ok(done),
        name = requests.next() => name,
    };
    say(format!("{interrupted}: ending in order; once more ends at once"));
    tokio::spawn(async move {
        requests.next().await;
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    });
    Err(CliError::new(Exit::Interrupted, format!("interrupted by {interrupted}")))
}

struct Requests {
    interrupt: Signal,
    terminate: Signal,
}

impl Requests {
    fn new() -> Result<Requests, CliError> {
        let of = |kind| signal(kind).map_err(|e| CliError::new(Exit::Internal, format!("signals: {e}")));
        Ok(Requests { interrupt: of(SignalKind::interrupt())?, terminate: of(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
