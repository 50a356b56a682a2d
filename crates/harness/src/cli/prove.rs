//! `prove`: is last night's recovery point good for anything?

use camino::Utf8PathBuf;
use clap::Subcommand;

use super::{
    annotations::Annotations,
    attend::{Attended, Done, MetricsFile},
    interrupt::unless_interrupted,
    objectives::MaxTimes,
    output::{CliError, DryRun, Terminal, print_json, say},
    verify,
};
use crate::prove::{
    Evidence, EvidenceReport, History, ProveRequest, SignatureBy, StepTrend, VerifyRequest, history, prove, report_of,
    verify_evidence,
};
use crate::report::write_reports;
use cdc_engine::backup::{PointSelector, Repository, Task};
use cdc_model::units::{Exit, Secret, counted};
use cdc_pipeline::config::{Config, ObjectivesConfig, ProveConfig, ProveSettings, Temporary, Tools};

/// The command's arguments.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    point: ProvePoint,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The proofs so far, with the trend of the time that a recovery takes and of size
    History(Place),
    /// Hash the files of a point again and compare them with the evidence of a proof, and look at its signature
    VerifyEvidence(VerifyArgs),
}

/// Which repository.
#[derive(Debug, clap::Args)]
struct Place {
    /// The pipeline's configuration file; of it the repository, PostgreSQL's programs and the signature are read
    #[arg(long, value_name = "FILE", conflicts_with = "repository")]
    config: Option<Utf8PathBuf>,
    /// The repository's folder, or its address in a bucket: s3://BUCKET/PREFIX
    #[arg(long, value_name = "DIR")]
    repository: Option<Utf8PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ProvePoint {
    #[command(flatten)]
    place: Place,
    /// The recovery point: `latest` (the newest that holds all parts) or an id of `backup list`
    #[arg(long, default_value = "latest", value_name = "POINT")]
    point: PointSelector,
    /// The folder of PostgreSQL's programs of the point's version; those of the configuration, else those of the stack, when absent
    #[arg(long, value_name = "DIR")]
    bin: Option<Utf8PathBuf>,
    /// A superuser of the captured cluster, as which the restored server is read back
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The scratch stack's folder, which must not be there; in the folder for temporary files when absent
    #[arg(long, value_name = "DIR")]
    dir: Option<Utf8PathBuf>,
    /// Also write report.json, report.html and junit.xml into a folder of this one, named after the proof
    #[arg(long, value_name = "DIR")]
    report_dir: Option<Utf8PathBuf>,
    /// Keep the scratch stack's folder, its servers stopped; it holds rows of the point
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    metrics: MetricsFile,
    #[command(flatten)]
    annotations: Annotations,
    #[command(flatten)]
    max: MaxTimes,
    #[command(flatten)]
    dry: DryRun,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// The recovery point: `latest` or an id of `backup list`
    #[arg(long, default_value = "latest", value_name = "POINT")]
    point: PointSelector,
    /// The proof; the newest of the point when absent
    #[arg(long, value_name = "ID")]
    proof: Option<String>,
    /// A file of allowed signers, by which `ssh-keygen -Y verify` looks at the signature
    #[arg(long, value_name = "FILE", requires = "identity")]
    allowed_signers: Option<Utf8PathBuf>,
    /// Who must have signed, as the file of allowed signers has it
    #[arg(long, value_name = "NAME", requires = "allowed_signers")]
    identity: Option<String>,
}

/// What a configuration says, where there is one.
struct Settings {
    repository: Utf8PathBuf,
    bin: Utf8PathBuf,
    url: Option<Secret>,
    prove: ProveConfig,
    objectives: ObjectivesConfig,
    notifies: bool,
}

impl Place {
    fn settings(&self) -> Result<Settings, CliError> {
        match (&self.repository, &self.config) {
            (Some(repository), _) => Ok(Settings {
                repository: repository.clone(),
                bin: Utf8PathBuf::new(),
                url: None,
                prove: ProveConfig::default(),
                objectives: ObjectivesConfig::default(),
                notifies: false,
            }),
            (None, Some(file)) => {
                let ProveSettings { repository, bin, url, prove, objectives, notifies } = ProveSettings::load(file)?;
                // Names the identity, and refuses other keys than the repository's, before anything is done.
                Repository::of(&repository)?;
                Ok(Settings { repository: repository.path, bin, url, prove, objectives, notifies })
            }
            (None, None) => Err(CliError::new(Exit::Usage, "expected --repository or --config, found neither")),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    match args.verb {
        None => prove_point(args.point).await,
        Some(Verb::History(place)) => shown_history(&place),
        Some(Verb::VerifyEvidence(args)) => verified(args).await,
    }
}

async fn prove_point(args: ProvePoint) -> Result<Exit, CliError> {
    args.annotations.beside_json(args.place.json)?;
    let settings = args.place.settings()?;
    let named = args.user.as_ref().map(|user| Secret::new(format!("postgres://{user}@localhost/template1")));
    let url = named.or(settings.url).unwrap_or_else(|| Secret::new("postgres://postgres@localhost/template1"));
    if args.dry.told(format!("prove recovery point {} of {}", args.point, settings.repository)) {
        return Ok(Exit::Passed);
    }
    // The pipeline may be gone, and its secrets with it: then nobody is notified.
    let pipeline = match &args.place.config {
        Some(file) if settings.notifies || args.metrics.path().is_some() => match Config::load(file) {
            Ok(config) => Some(config),
            Err(error) => {
                say(format!("note: nobody is notified and no metrics are written: {error}"));
                None
            }
        },
        _ => None,
    };
    let repository = settings.repository.clone();
    let request = ProveRequest {
        repository: settings.repository,
        point: args.point,
        bin: args.bin.unwrap_or(settings.bin),
        url,
        sign: settings.prove.sign,
        dir: args.dir,
        keep: args.keep,
        objectives: args.max.or(settings.objectives),
    };
    let work = async {
        let progress = Terminal::new();
        let proved = unless_interrupted(prove(&request, &progress)).await??;
        let evidence = &proved.evidence;
        if args.place.json {
            print_json(evidence)?;
        } else {
            tell(evidence);
        }
        let report = report_of(evidence)?;
        if let Some(dir) = args.report_dir.as_ref().map(|dir| dir.join(&evidence.proof)) {
            write_reports(&dir, &report)?;
        }
        args.annotations.write(&report)?;
        say(format!("evidence: {}", proved.folder));
        let exit = Exit::from_code(evidence.exit_code).unwrap_or(Exit::Internal);
        let done = Done::new(exit, Some(evidence.reason.clone()));
        Ok(Done { point: Some(evidence.point.clone()), rto_seconds: evidence.rto_seconds, ..done })
    };
    let (config, metrics) = (pipeline.as_ref(), args.metrics.path());
    Attended { task: Task::Proof, config, repository: &repository, metrics }.run(work).await
}

fn tell(evidence: &Evidence) {
    evidence.checks.iter().for_each(verify::show);
    for left in &evidence.not_compared {
        say(format!("not compared: {}: {}", left.what, left.why));
    }
    if let Some(seconds) = evidence.rto_seconds {
        say(format!("a recovery takes {seconds:.1} s"));
    }
    if let Some(seconds) = evidence.rpo_seconds {
        say(format!("the last transaction that came back, or the point, is {seconds:.0} s older than this proof"));
    }
    evidence.objectives.iter().for_each(|objective| say(format!("objective {}: {objective}", objective.verdict)));
    say(match evidence.reason.as_str() {
        "" => format!("{}: recovery point {} was restored and compared", evidence.verdict, evidence.point),
        reason => format!("{}: recovery point {}: {reason}", evidence.verdict, evidence.point),
    });
}

fn shown_history(place: &Place) -> Result<Exit, CliError> {
    let history = history(Repository::open(&place.settings()?.repository)?.proofs()?);
    if place.json {
        print_json(&history)?;
        return Ok(Exit::Passed);
    }
    told(&history);
    Ok(Exit::Passed)
}

fn told(history: &History) {
    for proof in &history.proofs {
        let rto = proof.rto_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1} s"));
        let size = bytesize::ByteSize(proof.size.point_bytes);
        say(format!("{}  {}  {:<12} {rto:>9}  {size}  {}", proof.started, proof.point, proof.verdict, proof.reason));
    }
    if history.proofs.is_empty() {
        say("no recovery point was proved yet");
    }
    let seconds = |value: f64| format!("{value:.1} s");
    let bytes = |value: f64| bytesize::ByteSize(value as u64).to_string();
    for trend in history.rto.iter().chain(&history.steps) {
        say(line(trend, &seconds));
    }
    for trend in history.point_bytes.iter().chain(&history.database_bytes) {
        say(line(trend, &bytes));
    }
}

/// `rto: 12.1 s, 1.2 times the middle of the 5 proofs before (10.1 s)`.
fn line(trend: &StepTrend, shown: &dyn Fn(f64) -> String) -> String {
    let last = shown(trend.last);
    match (trend.before, trend.ratio) {
        (Some(before), Some(ratio)) => {
            let proofs = counted(trend.proofs, "proof");
            format!("{}: {last}, {ratio:.2} times the middle of {proofs} before ({})", trend.name, shown(before))
        }
        _ => format!("{}: {last}", trend.name),
    }
}

async fn verified(args: VerifyArgs) -> Result<Exit, CliError> {
    let settings = args.place.settings()?;
    let signature = match (args.allowed_signers, args.identity) {
        (Some(allowed_signers), Some(identity)) => SignatureBy::Ssh { allowed_signers, identity },
        _ if !settings.prove.verify.is_empty() => SignatureBy::Command(settings.prove.verify),
        _ => SignatureBy::Nobody,
    };
    let request = VerifyRequest { repository: settings.repository, point: args.point, proof: args.proof, signature };
    let looked = tokio::task::spawn_blocking(move || {
        let temporary: Temporary = Tools::here(&Utf8PathBuf::new())
            .temporary(".evidence-", None)
            .map_err(|e| CliError::new(Exit::Inconclusive, format!("make a temporary folder: {e}")))?;
        Ok::<EvidenceReport, CliError>(verify_evidence(&request, temporary.path())?)
    });
    let report = looked.await.map_err(|e| CliError::new(Exit::Internal, format!("look at the evidence: {e}")))??;
    if args.place.json {
        print_json(&report)?;
    }
    report.differences.iter().for_each(say);
    if let Some(text) = report.signature_said.as_ref().filter(|text| !text.is_empty()) {
        say(text);
    }
    say(format!(
        "proof {} of {}: {} compared, {}; signature: {}; its verdict is {}",
        report.proof,
        report.point,
        counted(report.files, "file"),
        match report.differences.len() {
            0 => "as the evidence has them".to_owned(),
            n => counted(n, "difference"),
        },
        report.signature,
        report.verdict
    ));
    Ok(Exit::from_code(report.exit_code).unwrap_or(Exit::Internal))
}
