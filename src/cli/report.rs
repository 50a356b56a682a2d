//! `cdc-drill report RUN`: makes the reports of a run again from its events.

use std::io::Write;

use camino::{Utf8Path, Utf8PathBuf};
use cdc_drill::{
    report::{ReportError, RunReport, verdict_text, write_reports},
    units::Exit,
};

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
}

/// Runs the command. It ends as it could do its work, not as the run ended: a red run's report is a good report.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let dir = folder(&args.run, &args.report_dir);
    let made = RunReport::try_from(dir.as_path()).and_then(|report| write_reports(&dir, &report).map(|()| report));
    match made {
        Ok(report) => {
            writeln!(std::io::stderr(), "{}\n  reports: {dir}/report.html", verdict_text(&report))?;
            if args.json {
                writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
            }
            Ok(Exit::Passed)
        }
        Err(error) => Ok(told(&error)),
    }
}

fn folder(run: &Utf8Path, report_dir: &Utf8Path) -> Utf8PathBuf {
    match run.is_dir() {
        true => run.to_owned(),
        false => report_dir.join(run),
    }
}

fn told(error: &ReportError) -> Exit {
    let _ = writeln!(std::io::stderr(), "{error}");
    error.exit()
}
