//! Interrupting a recovery on purpose: what a power cut or an error would do at a given moment, for tests and drills of the engine.

use super::RecoveryError;

/// `<step>:<moment>:<kill|fail|wait>`. Moments are `before` and `after` of every step, and names inside of some.
const VARIABLE: &str = "CDC_DRILL_INTERRUPT";

/// Ends this process, or the step, or waits for a signal, if this is the moment that was asked for.
pub(super) async fn pass(step: &str, moment: &str) -> Result<(), RecoveryError> {
    let Ok(wanted) = std::env::var(VARIABLE) else { return Ok(()) };
    match wanted.strip_prefix(&format!("{step}:{moment}:")) {
        Some("kill") => {
            // As the kernel ends a process that nobody asked: no destructor runs.
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
            Ok(())
        }
        Some("wait") => std::future::pending().await,
        Some(_) => Err(RecoveryError::unmet(step, "no interruption", format!("{VARIABLE}={wanted}"))),
        None => Ok(()),
    }
}
