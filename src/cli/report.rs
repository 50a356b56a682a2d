//! `cdc-drill report RUN`: makes the reports of a run again from its events.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    CliError,
    output::{DryRun, say},
    print_json,
};
use crate::{
    report::{ReportError, RunReport, verdict_text, write_reports},
    units::{Exit, IfThere},
};

impl From<ReportError> for CliError {
    fn from(error: ReportError) -> CliError {
        CliError::new(error.exit(), error.to_string())
    }
}

/// Makes the reports of a run again from its events.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run's folder, or its id below the report folder
    #[arg(value_name = "RUN")]
    run: Utf8PathBuf,
    /// Where runs are looked for by id
    #[arg(long, value_name = "DIR", default_value = "reports")]
    report_dir: Utf8PathBuf,
    /// Print report.json as well
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    dry: DryRun,
}

/// Runs the command. It ends as it could do its work, not as the run ended: a red run's report is a good report.
pub fn run(args: Args) -> Result<Exit, CliError> {
    let dir = folder(&args.run, &args.report_dir)?;
    let report = RunReport::try_from(dir.as_path())?;
    if args.dry.told(format!("write report.json, junit.xml and report.html into {dir}")) {
        return Ok(Exit::Passed);
    }
    write_reports(&dir, &report)?;
    say(format!("{}  report: {dir}/report.html", verdict_text(&report)));
    if args.json {
        print_json(&report)?;
    }
    Ok(Exit::Passed)
}

fn folder(run: &Utf8Path, report_dir: &Utf8Path) -> Result<Utf8PathBuf, CliError> {
    let meta = run.metadata().if_there();
    let meta = meta.map_err(|e| CliError::new(Exit::Inconclusive, format!("look at {run}: {e}")))?;
    Ok(match meta {
        Some(meta) if meta.is_dir() => run.to_owned(),
        _ => report_dir.join(run),
    })
}
