//! `verify`: do the topics hold what the tables hold, and will they tomorrow?

use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;

use super::{CliError, output::say, print_json};
use cdc_engine::{
    backup::{Origin, PointSelector, Repository},
    recovery::{OpenRecovery, RecoveryError, open_recovery},
};
use cdc_model::{
    event::{CheckReport, Finding},
    units::{Exit, Verdict, counted},
};
use cdc_pipeline::{
    client::limits::{self, Bound},
    config::Config,
};
use cdc_verify::{PointView, VerifyOptions, verify};

/// What to verify.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline's configuration
    #[arg(long)]
    config: Utf8PathBuf,
    /// A connector; may be given several times. Default: every Debezium PostgreSQL connector on the configured server
    #[arg(long = "connector", value_name = "NAME")]
    connectors: Vec<String>,
    /// A recovery point (an id, or `latest`) whose registry and topic settings must still be there
    #[arg(long, value_name = "ID")]
    point: Option<PointSelector>,
    /// How long to go on looking while tables and topics differ. Default: 30s, longer on a machine that is measured to be
    /// slower
    #[arg(long, value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    verdict: Verdict,
    /// What a person should know before anything else, as it is printed first.
    notes: Vec<String>,
    /// A recovery of the pipeline that did not end; null where none is known.
    unfinished_recovery: Option<OpenRecovery>,
    checks: Vec<CheckReport>,
}

/// Looks, judges, and says so. What is equal in the midst of a recovery need not be when it goes on, and the recovery may have left
/// temporary settings: then nothing is passed.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    let config = Config::load(&args.config)?;
    let unfinished = open_recovery(&config);
    let notes: Vec<String> = note(&unfinished).into_iter().collect();
    notes.iter().for_each(say);
    let point = match &args.point {
        Some(selector) => Some(point(&config, selector).await?),
        None => None,
    };
    let deadline = args.deadline.map_or(limits::verify::LOOKS.into(), Bound::Given);
    let options = VerifyOptions { connectors: args.connectors, deadline, point };
    let checks = verify(&config, &options).await?;
    let compared = checks.iter().fold(Verdict::Passed, |all, check| all.and(check.verdict));
    let verdict = beside(compared, &unfinished);
    if args.json {
        print_json(&Answer { verdict, notes, unfinished_recovery: unfinished.ok().flatten(), checks })?;
    } else {
        match verdict == compared {
            true => tell(verdict, &checks),
            false => {
                checks.iter().for_each(show);
                say("inconclusive: the topics hold what the tables hold, but for what the first line says");
            }
        }
    }
    Ok(verdict.exit())
}

/// What a person should know before anything else; none where no recovery is unfinished.
fn note(unfinished: &Result<Option<OpenRecovery>, RecoveryError>) -> Option<String> {
    match unfinished {
        Ok(None) => None,
        Ok(Some(OpenRecovery { what, next, .. })) => Some(format!("{what}: {next}")),
        Err(error) => Some(format!("whether a recovery of this pipeline is unfinished is not known: {error}")),
    }
}

/// The verdict on what was compared, beside what is known of recoveries that did not end.
fn beside(compared: Verdict, unfinished: &Result<Option<OpenRecovery>, RecoveryError>) -> Verdict {
    match unfinished {
        Ok(None) => compared,
        Ok(Some(_)) | Err(_) => compared.and(Verdict::Inconclusive),
    }
}

/// The point that was named, or the newest one of this pipeline: a repository may have those of others.
async fn point(config: &Config, selector: &PointSelector) -> Result<PointView, CliError> {
    let repository = Repository::of(&config.repository)?;
    let point = match selector {
        PointSelector::Id(_) => repository.point(selector)?,
        PointSelector::Latest => {
            let origin = Origin::of_pipeline(config).await?;
            let newest = repository.newest_of(&origin)?;
            newest.passed_over.iter().for_each(|passed| tracing::warn!("{passed}"));
            newest.point
        }
    };
    Ok(PointView::load(&point)?)
}

/// One check, with its notes and findings.
pub(super) fn show(check: &CheckReport) {
    say(format!(
        "{:<14} {:<12} {} compared, {}",
        check.id,
        check.verdict,
        check.compared,
        counted(check.findings_total, "finding")
    ));
    for note in &check.notes {
        say(format!("    {note}"));
    }
    for finding in &check.findings {
        say(format!("  - {}", line(finding)));
    }
    let more = check.findings_total - check.findings.len() as u64;
    if more > 0 {
        say(format!("  - and {more} more"));
    }
}

pub(super) fn tell(verdict: Verdict, checks: &[CheckReport]) {
    checks.iter().for_each(show);
    say(match verdict {
        Verdict::Passed => "passed: the topics hold what the tables hold",
        Verdict::Failed => "failed: see the findings above",
        Verdict::Inconclusive => "inconclusive: see the notes above",
    });
}

/// `lost public.orders id=42 (shop.public.orders-0 @17): expected a=1, found a=2`.
fn line(finding: &Finding) -> String {
    let kind = serde_json::to_value(finding.kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    let mut parts = vec![kind];
    parts.extend(finding.table.as_ref().map(ToString::to_string));
    parts.extend(finding.key.as_ref().map(ToString::to_string));
    parts.extend(finding.subject.as_ref().map(ToString::to_string));
    parts.extend(finding.schema_id.map(|id| format!("schema id {id}")));
    if let Some(topic) = &finding.topic {
        let partition = finding.partition.map(|p| format!("-{p}")).unwrap_or_default();
        let offset = finding.offset.map(|o| format!(" @{o}")).unwrap_or_default();
        parts.push(format!("({topic}{partition}{offset})"));
    }
    let nothing = String::new();
    format!(
        "{}: expected {}, found {}",
        parts.join(" "),
        finding.expected.as_ref().unwrap_or(&nothing),
        finding.found.as_ref().unwrap_or(&nothing)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_passed_in_the_midst_of_a_recovery_and_no_failure_is_hidden() {
        use Verdict::{Failed, Inconclusive, Passed};
        let open = || OpenRecovery {
            id: Some("r1".into()),
            what: "recovery r1 did not end".into(),
            at_work: None,
            next: "`recover resume` goes on with it".into(),
        };
        let unknown = || RecoveryError::unmet("records", "a folder that can be read", "permission denied");
        assert_eq!(beside(Passed, &Ok(None)), Passed);
        assert_eq!(note(&Ok(None)), None);
        for unfinished in [Ok(Some(open())), Err(unknown())] {
            assert_eq!(
                [Passed, Failed, Inconclusive].map(|v| beside(v, &unfinished)),
                [Inconclusive, Failed, Inconclusive]
            );
        }
        assert_eq!(note(&Ok(Some(open()))).unwrap(), "recovery r1 did not end: `recover resume` goes on with it");
        assert!(note(&Err(unknown())).unwrap().contains("permission denied"));
    }
}
