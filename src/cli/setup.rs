//! `setup`: fetches the programs and prepares fast starts.

use super::{CliError, output::Terminal, print_json};
use crate::{stack::Programs, units::Exit};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print where everything is, as JSON
    #[arg(long)]
    json: bool,
}

/// Fetches what is missing; does nothing the second time.
pub async fn run(args: Args) -> Result<Exit, CliError> {
    let progress = Terminal::new();
    let programs = tokio::task::block_in_place(|| Programs::ensure(&progress))?;
    programs.ensure_aot_caches(&progress).await?;
    if args.json {
        let view = serde_json::json!({ "programs": programs.root, "postgres_bin": programs.postgres_bin(), "java": programs.java() });
        print_json(&view)?;
    }
    Ok(Exit::Passed)
}
