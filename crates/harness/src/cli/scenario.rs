//! `cdc-drill scenario list | check | schema`.

use std::{collections::BTreeSet, io::Write};

use camino::Utf8PathBuf;

use super::{CliError, output::say, print_json};
use crate::{
    run::{RunError, readable},
    scenario::{ConnectorPlan, Library, Needs, catalogue, schema_text},
};
use cdc_model::units::{Exit, Failure, counted};

/// Shows, checks and describes scenarios.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists scenarios, variants and controls, and for each recovery step the variant and check that notice its absence
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Checks scenario files and shows every mistake where it stands
    Check {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<Utf8PathBuf>,
    },
    /// Prints the JSON schema of scenario files, for editors
    Schema,
}

/// Runs the command. `needs` tells which variant and check notice the absence of each recovery step; it comes from the
/// recovery engine, which owns the steps.
pub(crate) fn run(args: Args, needs: Vec<Needs>) -> Result<Exit, CliError> {
    match args.command {
        Command::Schema => print(&schema_text()),
        Command::Check { files } => return Ok(check(&files)),
        Command::List { json } => {
            let catalogue = catalogue(&Library::here().all()?, needs);
            match json {
                true => print_json(&catalogue)?,
                false => say(catalogue.text().trim_end()),
            }
        }
    }
    Ok(Exit::Passed)
}

/// A reader that has gone away is no error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Every file is checked, also after a bad one.
fn check(files: &[Utf8PathBuf]) -> Exit {
    let library = Library::here();
    let mut exit = Exit::Passed;
    for file in files {
        let checked = library.one(file.as_str()).map_err(RunError::from).and_then(|loaded| {
            let plan = loaded.plan(None);
            readable(&plan).map(|()| (loaded, plan.drills))
        });
        match checked {
            Ok((loaded, drills)) => {
                let controls = drills.iter().filter(|d| !d.is_main()).count();
                say(format!(
                    "{}: good: {}, {}",
                    loaded.file,
                    counted(drills.len() - controls, "drill"),
                    counted(controls, "control")
                ));
                let connectors = drills.iter().flat_map(|drill| &drill.pipeline.connectors);
                let notes: BTreeSet<String> = connectors.flat_map(ConnectorPlan::notes).collect();
                notes.iter().for_each(|note| say(format!("{}: note: {note}", loaded.file)));
            }
            Err(error) => {
                say(error.in_full());
                exit = exit.worst(error.exit());
            }
        }
    }
    exit
}
