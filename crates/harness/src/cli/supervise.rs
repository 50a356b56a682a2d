//! `supervise`: the process above each server; hidden, for the local stack's own use.

use camino::Utf8PathBuf;

use super::CliError;
use crate::stack;
use cdc_model::units::Exit;

/// Which server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack's folder
    #[arg(long)]
    dir: Utf8PathBuf,
    /// The server
    #[arg(long)]
    name: String,
}

/// Runs the server until it ends. An error goes to standard output, where the launcher reads one line.
pub(crate) fn run(args: Args) -> Result<Exit, CliError> {
    match stack::supervise(&args.dir, &args.name) {
        Ok(()) => Ok(Exit::Passed),
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stdout(), "{}", error.to_string().replace('\n', "; "));
            Err(error.into())
        }
    }
}
