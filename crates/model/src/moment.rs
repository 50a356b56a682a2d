//! Moments at which a procedure can be interrupted on purpose: what a power cut or an error would do there, for tests and for the
//! engine's own drills.
//!
//! `CDC_DRILL_INTERRUPT=<step>:<moment>:<kill|fail|wait>` interrupts at the first pass of that moment, and `meet=<pipe>` in their place lets
//! somebody do something there: it goes on when a writer of that named pipe has come and gone;
//! `CDC_DRILL_TRACE_MOMENTS=<file>` appends `<step>:<moment>` for every moment that is passed. Without them a pass does nothing.

use std::io::Write;

use crate::units::{Exit, Failure, Hint};

/// Names the moment at which to interrupt, and how.
const INTERRUPT: &str = "CDC_DRILL_INTERRUPT";
/// Names the file that gets a line for each moment.
const TRACE: &str = "CDC_DRILL_TRACE_MOMENTS";

/// The moment before a step looks at anything.
pub const BEFORE: &str = "before";
/// The moment after a step was read back.
pub const AFTER: &str = "after";
/// The moment inside of an act of one change: it was made, and is not read back.
pub const INSIDE: &str = "inside";
/// The moment inside of an act on several objects: at least one of them was changed, and not all.
pub const HALF_WAY: &str = "half-way";

/// Where an act can be interrupted between its first change and its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// The act is one change: the moment is between it and its reading back.
    Atomic,
    /// The act is several changes: the moments between them by name, which the act passes itself. Never empty.
    Between(&'static [&'static str]),
}

impl Inside {
    /// The moments by name.
    pub fn moments(self) -> &'static [&'static str] {
        match self {
            Inside::Atomic => &[INSIDE],
            Inside::Between(named) => named,
        }
    }
}

/// A procedure that was interrupted on purpose.
#[derive(Debug, thiserror::Error)]
#[error("step {step}: expected no interruption, found {INTERRUPT} at its moment `{moment}`")]
pub struct Interrupted {
    /// The step.
    pub step: String,
    /// Its moment.
    pub moment: String,
}

impl Failure for Interrupted {
    fn exit(&self) -> Exit {
        Exit::Interrupted
    }

    fn hints(&self) -> Vec<Hint> {
        Vec::new()
    }

    fn is_transient(&self) -> bool {
        false
    }
}

tokio::task_local! {
    static STEP: &'static str;
}

/// Runs a step: moments that are passed within belong to it.
pub async fn of_step<F: Future>(step: &'static str, work: F) -> F::Output {
    STEP.scope(step, work).await
}

/// Passes a moment of the step that runs. Outside of [`of_step`] nothing can be interrupted.
pub async fn pass(moment: &str) -> Result<(), Interrupted> {
    match STEP.try_with(|step| *step) {
        Ok(step) => at(step, moment).await,
        Err(_) => Ok(()),
    }
}

/// Passes a moment of a procedure that has no async runtime.
pub fn pass_blocking(step: &str, moment: &str) -> Result<(), Interrupted> {
    match wanted_at(step, moment) {
        None => Ok(()),
        Some(How::Fail) => Err(Interrupted { step: step.to_owned(), moment: moment.to_owned() }),
        Some(How::Wait) => loop {
            std::thread::park();
        },
    }
}

async fn at(step: &str, moment: &str) -> Result<(), Interrupted> {
    match wanted_at(step, moment) {
        None => Ok(()),
        Some(How::Fail) => Err(Interrupted { step: step.to_owned(), moment: moment.to_owned() }),
        Some(How::Wait) => std::future::pending().await,
    }
}

/// How a process that lives on is interrupted.
enum How {
    Fail,
    Wait,
}

/// Waits until somebody has opened the pipe for writing, and closed it.
fn meet(pipe: &str) {
    if let Err(error) = std::fs::read(pipe) {
        tracing::warn!(%error, pipe, "{INTERRUPT}");
    }
}

/// Traces a moment, and ends this process or meets somebody where that is wanted.
fn wanted_at(step: &str, moment: &str) -> Option<How> {
    if let Some(path) = std::env::var_os(TRACE) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        // A trace that cannot be written proves nothing, which is for its reader to say.
        if let Err(error) = file.and_then(|mut file| file.write_all(format!("{step}:{moment}\n").as_bytes())) {
            tracing::warn!(%error, "{TRACE}");
        }
    }
    let wanted = std::env::var(INTERRUPT).ok()?;
    match wanted.strip_prefix(&format!("{step}:{moment}:"))? {
        "kill" => {
            // As the kernel ends a process that nobody asked: no destructor runs.
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
            Some(How::Wait)
        }
        "wait" => Some(How::Wait),
        how => match how.strip_prefix("meet=") {
            Some(pipe) => {
                meet(pipe);
                None
            }
            None => Some(How::Fail),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_moment_outside_of_every_step_is_passed() {
        assert!(pass(INSIDE).await.is_ok());
        assert!(of_step("restore", pass(INSIDE)).await.is_ok());
    }

    #[test]
    fn every_act_has_a_moment_inside() {
        assert_eq!(Inside::Atomic.moments(), [INSIDE]);
        assert_eq!(Inside::Between(&["set-aside", "exchanged"]).moments(), ["set-aside", "exchanged"]);
    }
}
