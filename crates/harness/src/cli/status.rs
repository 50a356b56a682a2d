//! `status`: is this pipeline recoverable now, to when, how fast, and what stands in the way.

use bytesize::ByteSize;
use camino::Utf8PathBuf;
use jiff::Timestamp;

use super::{
    objectives::MaxTimes,
    output::{CliError, print_json, say},
    words::age,
};
use cdc_engine::{
    backup::{Task, TaskRecord},
    health::{self, ArchiverSeen, Health, Holdings, Known, ProofSeen, Recoverable, Seen, ServerSeen},
};
use cdc_model::units::{Exit, Verdict, counted};
use cdc_pipeline::config::Config;

/// Says how a pipeline stands.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline's configuration file
    #[arg(long, value_name = "FILE")]
    config: Utf8PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Also write metrics into this file, in Prometheus's text format
    #[arg(long, value_name = "FILE")]
    metrics: Option<Utf8PathBuf>,
    #[command(flatten)]
    max: MaxTimes,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    let mut config = Config::load(&args.config)?;
    config.objectives = args.max.or(config.objectives);
    let health = health::look(&config, None).await;
    if args.json {
        print_json(&health)?;
    } else {
        lines(&health).into_iter().for_each(say);
    }
    if let Some(file) = &args.metrics {
        health::write_metrics(file, &health.metrics)?;
    }
    Ok(health.exit())
}

/// One screen.
fn lines(health: &Health) -> Vec<String> {
    let seen = &health.seen;
    let mut all = vec![format!("{}: {}", seen.pipeline, recoverable(health))];
    let mut row = |name: &str, text: String| all.push(format!("  {name:<11} {text}"));
    row("back to", back_to(health));
    row("how fast", how_fast(health));
    row("could lose", could_lose(health));
    match &seen.holdings {
        Known::Unknown(why) => row("backups", format!("unknown: {why}")),
        Known::Known(None) => row("backups", "no repository".to_owned()),
        Known::Known(Some(holdings)) => {
            row("backups", backups(seen, holdings));
            row("repository", used(holdings));
        }
    }
    row("last backup", last(seen, Task::Backup));
    row("verified", verified(seen));
    row("last drill", last(seen, Task::Drill));
    match &seen.server {
        Known::Unknown(why) => {
            row("archiving", format!("unknown: {why}"));
            row("slots", "unknown".to_owned());
        }
        Known::Known(server) => {
            row("archiving", archiving(health, server));
            row("slots", slots(server));
        }
    }
    row("systems", systems(seen));
    for note in seen.holdings.get().into_iter().flatten().flat_map(|holdings| &holdings.notes) {
        row("note", note.clone());
    }
    match health.obstacles.is_empty() {
        true => all.push("nothing stands in the way".to_owned()),
        false => all.push("in the way:".to_owned()),
    }
    for obstacle in &health.obstacles {
        all.push(format!("  {:<7} {}: {}", obstacle.severity.word(), obstacle.id, obstacle.what));
        all.extend(obstacle.hint.iter().map(|hint| format!("          {hint}")));
    }
    all
}

fn recoverable(health: &Health) -> String {
    let at_risk = health.recoverable == Recoverable::Yes && !health.obstacles.is_empty();
    let more = if at_risk { ", at risk" } else { "" };
    format!("recoverable: {}{more} (exit code {})", health.recoverable.word(), health.exit_code)
}

fn back_to(health: &Health) -> String {
    let Some(window) = &health.window else {
        return match health.seen.holdings {
            Known::Unknown(_) => "unknown".to_owned(),
            Known::Known(_) => "nothing".to_owned(),
        };
    };
    let time = |time: Option<Timestamp>| time.map_or_else(|| "a time that is not known".to_owned(), moment);
    format!(
        "any moment from {} ({}) to {} ({}) on timeline {}",
        time(window.from_time),
        window.from,
        time(window.to_time),
        window.to,
        window.timeline
    )
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn ago(seen: &Seen, at: Timestamp) -> String {
    let seconds = u64::try_from(seen.at.duration_since(at).as_secs()).unwrap_or_default();
    format!("{} ago", age(seconds))
}

fn how_fast(health: &Health) -> String {
    match &health.rto {
        None => "not measured: neither a proof nor a drill nor a recovery is on record".to_owned(),
        Some(rto) => {
            format!("{:.1} s, measured by a {} {}", rto.seconds, rto.source.word(), ago(&health.seen, rto.at))
        }
    }
}

fn could_lose(health: &Health) -> String {
    match health.rpo_seconds {
        None => "not known".to_owned(),
        Some(seconds) => format!("the changes of {} at most", age(seconds as u64)),
    }
}

fn backups(seen: &Seen, holdings: &Holdings) -> String {
    let usable = holdings.points.iter().filter(|point| point.is_usable()).count();
    let all = format!("{usable} usable of {}", counted(holdings.points.len(), "recovery point"));
    match holdings.points.iter().rev().find(|point| point.is_usable()) {
        None => all,
        Some(newest) => {
            let age = newest.end.map_or_else(|| "of unknown age".to_owned(), |end| ago(seen, end));
            format!("{all}; the newest {}, {}, {age}", newest.point, ByteSize(newest.bytes))
        }
    }
}

fn used(holdings: &Holdings) -> String {
    let free = holdings.free.map_or_else(String::new, |free| format!(", {} free on the file system", ByteSize(free)));
    format!("{} of {}{free}", ByteSize(holdings.used), ByteSize(holdings.budget))
}

fn last(seen: &Seen, task: Task) -> String {
    let all = match &seen.tasks {
        Known::Unknown(why) => return format!("unknown: {why}"),
        Known::Known(all) => all,
    };
    let Some(TaskRecord { last, at_work, .. }) = all.iter().find(|known| known.last.task == task) else {
        return "none on record".to_owned();
    };
    let when = last.began.parse().map_or_else(|_| last.began.clone(), |at| ago(seen, at));
    match (&last.ended, at_work) {
        (Some(ended), _) if ended.verdict == Verdict::Passed => format!("passed, begun {when}"),
        (Some(ended), _) => format!("{} with exit code {}, begun {when}", ended.verdict, ended.exit_code),
        (None, Some(true)) => format!("at work on {}, begun {when}", last.host),
        (None, Some(false)) => format!("did not end, begun {when} on {}", last.host),
        (None, None) => format!("has not ended, begun {when} on {}", last.host),
    }
}

fn verified(seen: &Seen) -> String {
    let checked = match seen.holdings.get() {
        None => "deep check unknown".to_owned(),
        Some(holdings) => {
            let points = holdings.iter().flat_map(|holdings| &holdings.points);
            match points.filter_map(|point| point.checked).max() {
                None => "no deep check".to_owned(),
                Some(at) => format!("deep check {}", ago(seen, at)),
            }
        }
    };
    let proof = match &seen.proof {
        Known::Unknown(why) => format!("proof unknown: {why}"),
        Known::Known(None) => "no proof".to_owned(),
        Known::Known(Some(ProofSeen { point, verdict, at, .. })) => {
            let when = at.map_or_else(String::new, |at| format!(" {}", ago(seen, at)));
            format!("proof of {point} {verdict}{when}")
        }
    };
    format!("{checked}; {proof}")
}

fn archiving(health: &Health, server: &ServerSeen) -> String {
    let ArchiverSeen { mode, failing, late, lost, last_archived, .. } = match &server.archiver {
        Known::Unknown(why) => return format!("unknown: {why}"),
        Known::Known(archiver) => archiver,
    };
    let state = match (mode.as_str(), failing) {
        ("off", _) => "off",
        (_, true) => "failing",
        (_, false) => "working",
    };
    let last = last_archived.as_ref().map_or_else(|| "nothing archived yet".to_owned(), |e| format!("last {}", e.file));
    let behind = health.window.as_ref().zip(server.position).map_or_else(String::new, |(window, position)| {
        format!(", {} behind the server", ByteSize(position.0.saturating_sub(window.to.0)))
    });
    format!("{state}, {last}, {} waiting, {} lost{behind}", counted(*late, "file"), counted(lost.len(), "file"))
}

fn slots(server: &ServerSeen) -> String {
    let each = server.slots.iter().map(|slot| {
        let kept = slot.retained_bytes.map_or_else(|| "nothing".to_owned(), |bytes| ByteSize(bytes).to_string());
        let state = match (&slot.invalidated, slot.active) {
            (Some(why), _) => format!("invalidated ({why})"),
            (None, true) => "active".to_owned(),
            (None, false) => "not active".to_owned(),
        };
        format!("{} {state}, holds back {kept}", slot.name)
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "none".to_owned() } else { each.join("; ") }
}

fn systems(seen: &Seen) -> String {
    let state = |name: &str, up: bool| format!("{name} {}", if up { "up" } else { "unknown" });
    let others = seen.systems.iter().map(|system| state(system.system, system.silent.is_none()));
    std::iter::once(state("postgres", seen.server.get().is_some())).chain(others).collect::<Vec<_>>().join(", ")
}
