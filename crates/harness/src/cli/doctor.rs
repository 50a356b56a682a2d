//! `doctor`: says what this machine has and lacks.

use super::{CliError, output::say, print_json};
use crate::stack::diagnose;
use cdc_model::units::Exit;

/// How to print.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Exits 0 when everything that a run needs is there, else 20.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    let found = diagnose();
    let ok = found.iter().all(|d| d.ok);
    if args.json {
        print_json(&serde_json::json!({ "ok": ok, "checks": found }))?;
    } else {
        for d in &found {
            say(format!("{:<4} {:<12} {}", if d.ok { "ok" } else { "NO" }, d.what, d.detail));
        }
    }
    Ok(if ok { Exit::Passed } else { Exit::StackDidNotStart })
}
