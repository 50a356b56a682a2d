//! One drill: the command interrupted at a moment, the same command again, and what must hold then.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Instant};

use camino::Utf8PathBuf;
use cdc_engine::recovery::declared::changes_nothing;
use cdc_pipeline::client::{connect::Connect, wait};
use futures::FutureExt;
use nix::libc::SIGKILL;
use serde_json::Value;

use super::{
    plan::{Drill, Kind},
    play::{Ended, Play},
    state::{State, unequal},
};
use crate::sandbox::DEADLINE;

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Result {
    /// It was interrupted at its moment, and everything holds.
    Green,
    /// What must hold and does not.
    Red(Vec<String>),
    /// It was not interrupted at its moment, or could not be prepared: nothing is known.
    Inconclusive(String),
}

impl Result {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Result::Green => "green",
            Result::Red(_) => "red",
            Result::Inconclusive(_) => "inconclusive",
        }
    }

    pub(super) fn why(&self) -> String {
        match self {
            Result::Green => String::new(),
            Result::Red(found) => found.join("; "),
            Result::Inconclusive(why) => why.clone(),
        }
    }
}

/// A drill with its result.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) drill: Drill,
    pub(super) result: Result,
    pub(super) seconds: f64,
}

/// Runs a drill. The pipeline can be used again if it is green.
pub(super) async fn run(play: &mut Play, drill: &Drill) -> Outcome {
    let began = Instant::now();
    let result = async {
        match drill.scenario.table.as_str() {
            "backup" => backup(play, drill).await,
            _ => recovery(play, drill).await,
        }
    };
    // A system that does not answer where it must is no reason to leave the other drills out.
    let result = AssertUnwindSafe(result).catch_unwind().await.unwrap_or_else(|_| Err("it panicked; see above".into()));
    let result = result.unwrap_or_else(Result::Inconclusive);
    Outcome { drill: drill.clone(), result, seconds: began.elapsed().as_secs_f64() }
}

/// The command of the drill, interrupted. An error if it ended otherwise, or elsewhere.
fn interrupted(play: &Play, drill: &Drill, line: &str, failed: i32) -> std::result::Result<Ended, String> {
    let at = format!("{}:{}", drill.step, drill.moment);
    let trace = play.trace();
    let wanted = format!("{at}:{}", drill.kind.word());
    let ended = play.run(line, &[("CDC_DRILL_INTERRUPT", &wanted), ("CDC_DRILL_TRACE_MOMENTS", trace.as_str())]);
    let passed = std::fs::read_to_string(&trace).unwrap_or_default();
    let came = passed.lines().last() == Some(&at) || drill.kind == Kind::Fail && passed.lines().any(|line| line == at);
    let as_wanted = match drill.kind {
        Kind::Kill => ended.signal == Some(SIGKILL),
        Kind::Fail => ended.exit == Some(failed) && ended.err.contains("no interruption"),
    };
    match (came, as_wanted) {
        (true, true) => Ok(ended),
        (false, _) => {
            let last = passed.lines().last().unwrap_or("none").to_owned();
            Err(format!("moment {at} never came (the last one was {last}); {}", ended.how()))
        }
        (true, false) => Err(format!("the command was not interrupted: {}", ended.how())),
    }
}

async fn recovery(play: &mut Play, drill: &Drill) -> std::result::Result<Result, String> {
    let (mark, healthy) = play.prepare(drill.scenario.fault).await?;
    let before = play.state().await;
    let line = drill.scenario.command.replace("{mark}", &mark);
    let goes_back = drill.scenario.table == "coordinated";
    interrupted(play, drill, &line, 11)?;
    let mut found = Vec::new();
    let status = play.run("recover status", &[]);
    if status.exit != Some(if closes_itself(drill) { 0 } else { 11 }) {
        found.push(format!("status of the interrupted recovery: {}", status.how()));
    }
    if drill.amnesia {
        for record in records(play) {
            if !before.has(&record) {
                std::fs::remove_dir_all(&record).map_err(|e| format!("{record}: {e}"))?;
            }
        }
    }
    play.meanwhile(&before, goes_back).await?;
    let again = play.run(&line, &[]);
    if again.exit != Some(0) {
        found.push(format!("the same command again: {}", again.how()));
        // What it cost, as far as it can be read.
        match AssertUnwindSafe(play.state()).catch_unwind().await {
            Ok(after) => found.extend(after.differences(&before, &play.rows)),
            Err(_) => found.push("the state of the pipeline cannot be read".into()),
        }
        return Ok(Result::Red(found));
    }
    settled(play, &before).await;
    let after = play.state().await;
    found.extend(after.differences(&before, &play.rows));
    let lacks = play.sink_lacks(after.is_anew(&before, "shop.public.orders")).await;
    if lacks > 0 {
        found.push(format!("rows: sink files was not given {lacks} rows of shop.orders"));
    }
    found.extend(after.missing(&healthy));
    registry(drill, &healthy, &after, &mut found);
    let timeline = before.timeline + u32::from(goes_back);
    if after.timeline != timeline {
        found.push(format!("timeline: {timeline} expected, {} found", after.timeline));
    }
    found.extend(finished(play, drill, &before, &after).await);
    Ok(if found.is_empty() { Result::Green } else { Result::Red(found) })
}

/// A connector whose configuration was put back last may still restart its task.
async fn settled(play: &Play, before: &State) {
    let connect = Connect::of(&play.config().connect);
    for name in before.connectors_that_run() {
        // What does not come is found when the states are compared.
        let _ = wait::until(&format!("connector {name}"), DEADLINE, || async {
            let status = connect.status(name).await?;
            Ok::<_, cdc_pipeline::client::ClientError>(match (status.all_running(), status.failure()) {
                (true, _) => wait::Poll::Ready(()),
                (_, Some(failure)) => wait::Poll::Hopeless(failure),
                (false, None) => wait::Poll::NotYet(status.summary()),
            })
        })
        .await;
    }
}

/// Levels and ids are those from before the fault; only an accepted change adds a version.
fn registry(drill: &Drill, healthy: &State, after: &State, found: &mut Vec<String>) {
    unequal("level of subject", &healthy.levels, &after.levels, found);
    let mut versions = after.versions.clone();
    if drill.scenario.table == "accept" {
        let added: Vec<_> = versions.keys().filter(|key| !healthy.versions.contains_key(*key)).cloned().collect();
        if added.len() != 1 || added[0].0 != "shop.public.orders-value" {
            found.push(format!("versions: one of shop.public.orders-value expected, {added:?} found"));
        }
        versions.retain(|key, _| !added.contains(key));
    }
    unequal("version", &healthy.versions, &versions, found);
}

fn records(play: &Play) -> Vec<Utf8PathBuf> {
    let folder = play.places.repository.join("recoveries");
    folder.read_dir_utf8().map(|entries| entries.map(|e| e.unwrap().into_path()).collect()).unwrap_or_default()
}

/// Whether the interrupted recovery is none to go on with: what fails before anything was stopped clears away what it made.
fn closes_itself(drill: &Drill) -> bool {
    drill.kind == Kind::Fail && drill.scenario.table == "coordinated" && changes_nothing(&drill.step)
}

/// What `finish` names is all that is left, and it removes that.
async fn finished(play: &Play, drill: &Drill, before: &State, after: &State) -> Vec<String> {
    let mut found = Vec::new();
    let named = play.run("recover finish --json", &[]);
    let list: Value = serde_json::from_str(&named.out).unwrap_or_default();
    let named: BTreeSet<Utf8PathBuf> =
        list.as_array().into_iter().flatten().filter_map(|l| l["path"].as_str().map(Utf8PathBuf::from)).collect();
    let mut kept = BTreeSet::new();
    for path in after.new_entries(before) {
        if !named.contains(&path) && !is_kept(play, &path, &mut kept) {
            found.push(format!("left behind and not named by `finish`: {path}"));
        }
    }
    let removed = play.run("recover finish --yes", &[]);
    if removed.exit != Some(0) {
        found.push(format!("recover finish --yes: {}", removed.how()));
    }
    for path in play.state().await.new_entries(before) {
        if !is_kept(play, &path, &mut kept) && named.contains(&path) {
            found.push(format!("not removed by `finish`: {path}"));
        }
    }
    // The server that replays, and what it fetches its WAL with, end with the recovery.
    let restoring = format!("{}.restoring-", play.places.pgdata);
    found.extend(crate::processes_with(&restoring).into_iter().map(|line| format!("still running: {line}")));
    let expected = 1 + usize::from(closes_itself(drill));
    if kept.len() != expected {
        found.push(format!("records: {expected} expected, {} found", kept.len()));
    }
    let status = play.run("recover status", &[]);
    if status.exit != Some(0) {
        found.push(format!("status of the ended recovery: {}", status.how()));
    }
    found
}

/// Whether something stays on purpose: the record of the recovery, the count of recoveries, the WAL that was salvaged.
fn is_kept(play: &Play, path: &Utf8PathBuf, records: &mut BTreeSet<Utf8PathBuf>) -> bool {
    let repository = &play.places.repository;
    if path.parent() == Some(&repository.join("recoveries")) {
        records.insert(path.clone());
        return true;
    }
    let beside = play.places.pgdata.parent().unwrap();
    let name = play.places.pgdata.file_name().unwrap();
    let known = [
        repository.join("recoveries"),
        repository.join("salvage"),
        repository.join("locks/recoveries"),
        beside.join(".cdc-drill"),
        beside.join(".cdc-drill/.guard"),
        beside.join(format!(".cdc-drill/{name}.recoveries")),
    ];
    known.contains(path)
}

async fn backup(play: &mut Play, drill: &Drill) -> std::result::Result<Result, String> {
    let (_, before) = play.prepare(drill.scenario.fault).await?;
    let points = || -> std::result::Result<Vec<Value>, String> {
        let listed = play.run("backup list --json", &[]);
        let list: Value =
            serde_json::from_str(&listed.out).map_err(|e| format!("backup list: {e}: {}", listed.how()))?;
        Ok(list.as_array().cloned().unwrap_or_default())
    };
    let there = points()?;
    interrupted(play, drill, &drill.scenario.command, 130)?;
    let mut found = Vec::new();
    // What a point is that was interrupted: there as a whole, or not usable, and said so.
    let whole = |point: &Value| point["complete"] == true && point["defect"].is_null();
    let published = drill.moment == "published";
    let between = points()?;
    if between.iter().filter(|p| whole(p)).count() != there.len() + usize::from(published) {
        found.push(format!("points after the interruption: {between:?}"));
    }
    let again = play.run(&drill.scenario.command, &[]);
    if again.exit != Some(0) {
        found.push(format!("the same command again: {}", again.how()));
        return Ok(Result::Red(found));
    }
    let now = points()?;
    if now.len() != there.len() + 1 + usize::from(published) || !now.iter().all(whole) {
        found.push(format!("points: {now:?}"));
    }
    let verified = play.run("backup verify latest", &[]);
    if verified.exit != Some(0) {
        found.push(format!("backup verify latest: {}", verified.how()));
    }
    let after = play.state().await;
    found.extend(after.differences(&before, &play.rows));
    found.extend(after.missing(&before));
    unequal("level of subject", &before.levels, &after.levels, &mut found);
    unequal("version", &before.versions, &after.versions, &mut found);
    let names: BTreeSet<&str> = now.iter().filter_map(|point| point["point"].as_str()).collect();
    for path in after.new_entries(&before) {
        let is_point = path.parent() == Some(&play.places.repository.join("points"))
            && path.file_name().is_some_and(|name| names.contains(name));
        if !is_point {
            found.push(format!("left behind: {path}"));
        }
    }
    Ok(if found.is_empty() { Result::Green } else { Result::Red(found) })
}
