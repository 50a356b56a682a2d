//! Runs the configuration's control commands.

use std::process::Stdio;

use super::{FaultError, Target};
use crate::client::limits;

/// What a server is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Start,
    Stop,
}

pub(super) async fn tell(
    fault: &'static str,
    target: &Target,
    server: &'static str,
    order: Order,
) -> Result<(), FaultError> {
    let unfit = |expected: &str, found: String| {
        FaultError::unfit(
            fault,
            format!("server {server}"),
            expected,
            found,
            "see [control.<server>] in the configuration",
        )
    };
    let hook = target.config.control.get(server).ok_or_else(|| unfit("a control command", "none".into()))?;
    let text = match order {
        Order::Start => &hook.start,
        Order::Stop => &hook.stop,
    };
    // What a command starts may keep its output open for good, so its words go to a file and not to a pipe.
    let words = tempfile::NamedTempFile::new().map_err(FaultError::file(fault, "create", "temporary file"))?;
    let file = words.reopen().map_err(FaultError::file(fault, "open", "temporary file"))?;
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", text]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let mut child = command.spawn().map_err(FaultError::file(fault, "run", "sh"))?;
    let ended = tokio::time::timeout(limits::faults::HOOK_ENDS.now(), child.wait()).await;
    let said = std::fs::read_to_string(words.path()).unwrap_or_default();
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(unfit("success of its command", format!("{status}: {}", said.trim()))),
        Ok(Err(error)) => Err(FaultError::file(fault, "run", "sh")(error)),
        Err(_) => {
            Err(unfit("an end of its command", format!("none within {} s", limits::faults::HOOK_ENDS.now().as_secs())))
        }
    }
}
