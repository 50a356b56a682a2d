//! `cdc-drill report RUN`: makes the reports of a run again from its events.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    CliError,
    annotations::Annotations,
    output::{DryRun, say},
    print_json,
};
use crate::report::{DrillReport, RunReport, picture, verdict_text, write_reports, write_text};
use cdc_model::units::{Exit, IfThere};

/// Makes the reports of a run again from its events.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run's folder, or its id below the report folder
    #[arg(value_name = "RUN")]
    run: Utf8PathBuf,
    /// Where runs are looked for by id
    #[arg(long, value_name = "DIR", default_value = "reports")]
    report_dir: Utf8PathBuf,
    /// Also draw a drill into this file, as an SVG that stands alone
    #[arg(long, value_name = "FILE")]
    picture: Option<Utf8PathBuf>,
    /// The drill that is drawn; the first of the run unless given
    #[arg(long, value_name = "SCENARIO/VARIANT", requires = "picture")]
    drill: Option<String>,
    /// End with the exit code that the run ended with
    #[arg(long)]
    as_it_ended: bool,
    /// Print report.json as well
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    annotations: Annotations,
    #[command(flatten)]
    dry: DryRun,
}

/// Runs the command. Unless asked otherwise it ends as it could do its work, not as the run ended: a red run's report is a good report.
pub(crate) fn run(args: Args) -> Result<Exit, CliError> {
    args.annotations.beside_json(args.json)?;
    let dir = folder(&args.run, &args.report_dir)?;
    let report = RunReport::try_from(dir.as_path())?;
    let drawn = args.picture.as_ref().map(|file| drawn(&report, args.drill.as_deref(), file)).transpose()?;
    let also = args.picture.as_ref().map_or(String::new(), |file| format!(", and draw {file}"));
    if args.dry.told(format!("write report.json, junit.xml and report.html into {dir}{also}")) {
        return Ok(Exit::Passed);
    }
    write_reports(&dir, &report)?;
    if let (Some(file), Some(picture)) = (&args.picture, drawn) {
        write_text(file, &picture)?;
    }
    args.annotations.write(&report)?;
    say(format!("{}  report: {dir}/report.html", verdict_text(&report)));
    if args.json {
        print_json(&report)?;
    }
    Ok(match args.as_it_ended {
        true => Exit::from_code(report.exit_code).unwrap_or(Exit::Internal),
        false => Exit::Passed,
    })
}

/// The picture, before anything is written: a drill that is not there must not cost a report.
fn drawn(report: &RunReport, drill: Option<&str>, file: &Utf8Path) -> Result<String, CliError> {
    picture(report, drill).ok_or_else(|| {
        let all: Vec<String> = report.drills.iter().map(DrillReport::name).collect();
        let wanted = drill.map_or("a drill".into(), |name| format!("the drill `{name}`"));
        let there = if all.is_empty() { "none".into() } else { all.join(", ") };
        CliError::new(Exit::Usage, format!("draw {file}: the run {} lacks {wanted}; it has: {there}", report.run))
    })
}

fn folder(run: &Utf8Path, report_dir: &Utf8Path) -> Result<Utf8PathBuf, CliError> {
    let meta = run.metadata().if_there();
    let meta = meta.map_err(|e| CliError::new(Exit::Inconclusive, format!("look at {run}: {e}")))?;
    Ok(match meta {
        Some(meta) if meta.is_dir() => run.to_owned(),
        _ => report_dir.join(run),
    })
}
