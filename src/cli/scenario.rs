//! `cdc-drill scenario list | check | schema`.

use std::io::Write;

use camino::Utf8PathBuf;
use cdc_drill::{
    scenario::{Library, Needs, ScenarioError, catalogue, schema_text},
    units::Exit,
};

/// Shows, checks and describes scenarios.
#[derive(Debug, clap::Args)]
pub struct Args {
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
pub async fn run(args: Args, needs: Vec<Needs>) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout().lock();
    match args.command {
        Command::Schema => out.write_all(schema_text().as_bytes())?,
        Command::Check { files } => return check(&files),
        Command::List { json } => {
            let library = Library::here();
            let loaded = match library.all() {
                Ok(loaded) => loaded,
                Err(error) => return Ok(told(&error)),
            };
            let catalogue = catalogue(&loaded, needs);
            match json {
                true => writeln!(out, "{}", serde_json::to_string_pretty(&catalogue)?)?,
                false => out.write_all(catalogue.text().as_bytes())?,
            }
        }
    }
    Ok(Exit::Passed)
}

/// Every file is checked, also after a bad one.
fn check(files: &[Utf8PathBuf]) -> anyhow::Result<Exit> {
    let library = Library::here();
    let mut exit = Exit::Passed;
    for file in files {
        match library.one(file.as_str()) {
            Ok(loaded) => {
                let drills = loaded.plan(None).drills;
                let controls = drills.iter().filter(|d| !d.is_main()).count();
                writeln!(std::io::stderr(), "{}: good: {} drills, {controls} controls", loaded.file, drills.len() - controls)?;
            }
            Err(error) => exit = exit.worst(told(&error)),
        }
    }
    Ok(exit)
}

fn told(error: &ScenarioError) -> Exit {
    let _ = writeln!(std::io::stderr(), "{error}");
    error.exit()
}
