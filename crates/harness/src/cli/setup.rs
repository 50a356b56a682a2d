//! `setup`: fetches the programs and prepares fast starts.

use super::{
    CliError,
    output::{DryRun, Terminal},
    print_json,
};
use crate::stack::Programs;
use cdc_model::units::Exit;

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print where everything is, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    dry: DryRun,
}

/// Fetches what is missing; does nothing the second time.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    if args.dry.told("fetch the pinned programs that the cache lacks, and prepare fast starts") {
        return Ok(Exit::Passed);
    }
    let progress = Terminal::new();
    let programs = Programs::ensure(&progress).await?;
    programs.ensure_aot_caches(&progress).await?;
    if args.json {
        let view = serde_json::json!({
            "programs": programs.root,
            "postgres_bin": programs.postgres_bin(),
            "java": programs.java(),
            "aot_caches": programs.aot_caches()?,
        });
        print_json(&view)?;
    }
    Ok(Exit::Passed)
}
