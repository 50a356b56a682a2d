//! Whether a recovery would succeed, and what stands in the way: a pure function over what was seen.

use bytesize::ByteSize;
use cdc_model::{
    event::{Objective, ObjectiveReport},
    units::{Exit, Verdict, counted},
};
use cdc_pipeline::config::Span;
use jiff::Timestamp;
use serde::Serialize;

use super::seen::{Holdings, Known, LastRto, PointSeen, RtoSource, Seen, ServerSeen};
use crate::backup::{Kind, Task, TaskRecord, seconds_of_changes};

/// Whether a recovery would bring a pipeline back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recoverable {
    /// As far as can be told without one.
    Yes,
    /// Something is known that is in its way.
    No,
    /// Something could not be asked that decides it.
    Unknown,
}

impl Recoverable {
    /// Each.
    pub const ALL: [Recoverable; 3] = [Recoverable::Yes, Recoverable::No, Recoverable::Unknown];

    /// The word in reports and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Recoverable::Yes => "yes",
            Recoverable::No => "no",
            Recoverable::Unknown => "unknown",
        }
    }
}

/// How much an obstacle matters, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// No recovery up to the newest position would succeed now.
    Blocks,
    /// Whether one would is not known.
    Unknown,
    /// One would, and something is going the wrong way, or was not proved lately.
    Risk,
}

impl Severity {
    /// Each.
    pub const ALL: [Severity; 3] = [Severity::Blocks, Severity::Unknown, Severity::Risk];

    /// The word in reports and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Blocks => "blocks",
            Severity::Unknown => "unknown",
            Severity::Risk => "risk",
        }
    }
}

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// Its name: `wal-gap`.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was seen.
    pub what: String,
    /// What a person can do.
    pub hint: Option<String>,
    /// What it ends the command with, where it is the worst.
    #[serde(skip)]
    exit: Exit,
}

/// What was decided.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) recoverable: Recoverable,
    pub(super) exit: Exit,
    pub(super) obstacles: Vec<Obstacle>,
    pub(super) rto: Option<LastRto>,
    pub(super) rpo_seconds: Option<f64>,
    pub(super) objectives: Vec<ObjectiveReport>,
}

/// Decides.
pub(super) fn judge(seen: &Seen) -> Judgement {
    let mut found = Found { obstacles: Vec::new() };
    recovery(seen, &mut found);
    match &seen.holdings {
        Known::Unknown(why) => found.unknown("repository", format!("the repository cannot be read: {why}"), None),
        Known::Known(None) => found.blocks(
            "no-repository",
            Exit::BackupIncomplete,
            "there is no repository: nothing was ever backed up",
            "`cdc-drill backup init` makes one",
        ),
        Known::Known(Some(holdings)) => repository(seen, holdings, &mut found),
    }
    match &seen.server {
        Known::Unknown(why) => found.unknown(
            "server",
            format!("whether WAL was lost behind the end of the archive is not known: {why}"),
            None,
        ),
        Known::Known(server) => archiving(seen, server, &mut found),
    }
    for system in &seen.systems {
        if let Some(why) = &system.silent {
            let name = system.system;
            found.unknown(name, format!("{name} does not answer, and a recovery needs it: {why}"), None);
        }
    }
    tasks(seen, &mut found);
    let (rto, rpo) = (rto(seen), lost_at_most(seen));
    let objectives = objectives(seen, rto.as_ref(), &rpo);
    for objective in &objectives {
        found.objective(objective);
    }
    let mut obstacles = found.obstacles;
    obstacles.sort_by_key(|obstacle| obstacle.severity);
    let worst = obstacles.first().map(|worst| worst.severity);
    let recoverable = match worst {
        Some(Severity::Blocks) => Recoverable::No,
        Some(Severity::Unknown) => Recoverable::Unknown,
        Some(Severity::Risk) | None => Recoverable::Yes,
    };
    let exit = exit(&obstacles);
    Judgement { recoverable, exit, rto, rpo_seconds: rpo.ok(), objectives, obstacles }
}

/// What the command ends with: the first of the worst says it. Among risks a promise that is not kept goes before all, and one of which
/// nothing was measured before the rest.
fn exit(obstacles: &[Obstacle]) -> Exit {
    let Some(worst) = obstacles.first() else { return Exit::Passed };
    if worst.severity != Severity::Risk {
        return worst.exit;
    }
    let of = |exit: Exit| obstacles.iter().any(|obstacle| obstacle.exit == exit).then_some(exit);
    of(Exit::ObjectiveMissed).or(of(Exit::Inconclusive)).unwrap_or(worst.exit)
}

/// What was promised, and what was measured of it.
fn objectives(seen: &Seen, rto: Option<&LastRto>, rpo: &Result<f64, String>) -> Vec<ObjectiveReport> {
    let rto =
        rto.map(|rto| rto.seconds).ok_or_else(|| "neither a proof nor a drill nor a recovery is on record".into());
    let limit = |span: Option<Span>| span.map(Span::as_secs_f64);
    ObjectiveReport::of_both((limit(seen.objectives.rto), rto), (limit(seen.objectives.rpo), rpo.clone()))
}

/// Seconds of changes that would be lost at most, were the source gone now: since the last archived commit, or since the newest point was
/// begun, in which everything is that had committed then. Nobody committing since looks the same as commits that are not archived, but
/// where the archive goes as far as the server has written.
fn lost_at_most(seen: &Seen) -> Result<f64, String> {
    let holdings = match &seen.holdings {
        Known::Unknown(why) => return Err(format!("the repository cannot be read: {why}")),
        Known::Known(holdings) => holdings.as_ref().ok_or("there is no repository")?,
    };
    let window = holdings.window.as_ref().ok_or("nothing can be gone back to")?;
    if seen.server.get().and_then(|server| server.position).is_some_and(|position| position <= window.to) {
        return Ok(0.0);
    }
    let newest = holdings.points.iter().rev().find(|point| point.is_usable()).and_then(|point| point.begin);
    let held = window.to_time.into_iter().chain(newest).max();
    seconds_of_changes(held.ok_or("no time is known of what can be gone back to")?, seen.at)
}

struct Found {
    obstacles: Vec<Obstacle>,
}

impl Found {
    fn push(&mut self, id: &'static str, severity: Severity, exit: Exit, what: String, hint: Option<&str>) {
        self.obstacles.push(Obstacle { id, severity, what, hint: hint.map(str::to_owned), exit });
    }

    fn blocks(&mut self, id: &'static str, exit: Exit, what: impl Into<String>, hint: &str) {
        self.push(id, Severity::Blocks, exit, what.into(), Some(hint));
    }

    fn unknown(&mut self, id: &'static str, what: String, hint: Option<&str>) {
        self.push(id, Severity::Unknown, Exit::Inconclusive, what, hint);
    }

    /// A promise that is not kept is no obstacle to a recovery, only to its being what was promised.
    fn objective(&mut self, of: &ObjectiveReport) {
        let (id, hint) = match (of.objective, of.verdict) {
            (_, Verdict::Passed) => return,
            (Objective::Rto, Verdict::Failed) => {
                ("rto-missed", "`cdc-drill prove history` names the step that takes long")
            }
            (Objective::Rpo, Verdict::Failed) => ("rpo-missed", "`archive_timeout` bounds it while somebody writes"),
            (Objective::Rto, Verdict::Inconclusive) => ("rto-unmeasured", "`cdc-drill prove` measures it"),
            (Objective::Rpo, Verdict::Inconclusive) => ("rpo-unmeasured", "it needs a recovery point and its WAL"),
        };
        self.push(id, Severity::Risk, of.exit(), of.to_string(), Some(hint));
    }

    fn risk(&mut self, id: &'static str, what: impl Into<String>, hint: Option<&str>) {
        self.push(id, Severity::Risk, Exit::AtRisk, what.into(), hint);
    }
}

fn recovery(seen: &Seen, found: &mut Found) {
    match &seen.open_recovery {
        Known::Known(None) => {}
        Known::Known(Some(open)) => {
            found.blocks("unfinished-recovery", Exit::LockHeld, open.what.clone(), &open.next);
        }
        Known::Unknown(why) => found.unknown(
            "unfinished-recovery",
            format!("whether a recovery of this pipeline is unfinished is not known: {why}"),
            None,
        ),
    }
}

fn repository(seen: &Seen, holdings: &Holdings, found: &mut Found) {
    let full: Vec<&PointSeen> =
        holdings.points.iter().filter(|point| matches!(point.kind, Some(Kind::Full) | None)).collect();
    let usable: Vec<&&PointSeen> = full.iter().filter(|point| point.is_usable()).collect();
    let Some(newest) = usable.last() else {
        let what = match full.last() {
            None => "there is no recovery point of this pipeline that has all parts".to_owned(),
            Some(point) => format!("no recovery point can be used; of the newest, {}: {}", point.point, wrong(point)),
        };
        found.blocks("no-point", Exit::BackupIncomplete, what, "`cdc-drill backup create` takes one");
        return;
    };
    for point in full.iter().rev().take_while(|point| !point.is_usable()) {
        let what =
            format!("recovery point {} cannot be used, and {} is older: {}", point.point, newest.point, wrong(point));
        found.risk("newest-point", what, Some("`cdc-drill backup check` names what is wrong"));
    }
    window(holdings, newest, found);
    let age = newest.end.or(newest.begin).map(|end| age(seen, end));
    match age {
        Some(age) if age > seen.limits.backup_age.seconds() => found.risk(
            "backup-old",
            format!(
                "the newest recovery point is {} old; [monitor] backup_age is {}",
                words(age),
                seen.limits.backup_age
            ),
            Some("did the nightly `cdc-drill backup create` run?"),
        ),
        Some(_) => {}
        None => found.risk("backup-old", format!("the age of recovery point {} is not known", newest.point), None),
    }
    proved(seen, newest, found);
    if holdings.used > holdings.budget {
        let (used, budget) = (ByteSize(holdings.used), ByteSize(holdings.budget));
        found.risk(
            "over-budget",
            format!("the repository takes {used} of a budget of {budget}: the next backup may be refused"),
            Some("`cdc-drill backup prune --dry-run` prints what may go"),
        );
    }
}

fn wrong(point: &PointSeen) -> String {
    match &point.defect {
        Some(defect) => defect.clone(),
        None => point.failed_checks.join("; "),
    }
}

fn window(holdings: &Holdings, newest: &PointSeen, found: &mut Found) {
    let Some(window) = &holdings.window else {
        if !newest.reachable.is_empty() {
            let what = "which of the repository's clusters is this pipeline's is not known".to_owned();
            found.unknown("cluster", what, Some("name [postgres] pgdata, or wait until the server answers"));
            return;
        }
        found.blocks(
            "wal-missing",
            Exit::WalGap,
            format!("the archive has no WAL that recovery point {} can be replayed with", newest.point),
            "`cdc-drill backup check` names what is missing",
        );
        return;
    };
    if newest.reachable.iter().any(|reach| reach.timeline == window.timeline && reach.to <= reach.from) {
        found.blocks(
            "wal-missing",
            Exit::WalGap,
            format!("the archive lacks WAL that recovery point {} needs to be consistent", newest.point),
            "`cdc-drill backup check` names what is missing",
        );
    }
    for hole in &holdings.holes {
        let what = format!("{} is missing on timeline {}, and WAL follows", hole.segment, hole.timeline);
        match hole.is_behind_newest {
            true => found.blocks(
                "wal-gap",
                Exit::WalGap,
                format!("{what}: nothing behind it can be reached"),
                "take a recovery point now; where the server still has the segment, `cdc-drill wal push` can take it",
            ),
            false => {
                found.risk("wal-gap-earlier", format!("{what}: what is before it cannot be replayed through"), None)
            }
        }
    }
}

/// Whether somebody has shown lately that the newest point is what it should be.
fn proved(seen: &Seen, newest: &PointSeen, found: &mut Found) {
    let proof = match &seen.proof {
        Known::Known(proof) => proof.as_ref(),
        Known::Unknown(why) => {
            found.risk("proof", format!("whether a point was proved is not known: {why}"), None);
            None
        }
    };
    let hint = Some("`cdc-drill backup check --deep` reads every byte");
    match proof.map(|proof| (proof, proof.verdict)) {
        // It came back and nothing differed; only not as was promised.
        Some((proof, Verdict::Failed)) if proof.exit_code == Exit::ObjectiveMissed.code() => found.push(
            "proof-missed",
            Severity::Risk,
            Exit::ObjectiveMissed,
            format!("the last proof, of recovery point {}, missed an objective: {}", proof.point, proof.reason),
            None,
        ),
        // Of the newest point, or of one before it, which does not make the newest any better.
        Some((proof, Verdict::Failed)) => found.blocks(
            "proof-failed",
            Exit::CheckFailed,
            format!("the last proof, of recovery point {}, failed: {}", proof.point, proof.reason),
            "its evidence names the part; a point that passes a proof ends this",
        ),
        Some((proof, Verdict::Inconclusive)) => found.risk(
            "proof-inconclusive",
            format!("the last proof, of recovery point {}, could not verify it: {}", proof.point, proof.reason),
            None,
        ),
        Some((_, Verdict::Passed)) | None => {}
    }
    let checked = seen.holdings.get().into_iter().flatten().flat_map(|h| &h.points).filter_map(|point| point.checked);
    let verified = checked.chain(proof.and_then(|proof| proof.passed_at)).max();
    let allowed = seen.limits.verified_age;
    match verified.map(|at| age(seen, at)) {
        None => found.risk("not-verified", "no recovery point was ever checked deeply or proved", hint),
        Some(age) if age > allowed.seconds() => found.risk(
            "not-verified",
            format!(
                "the last deep check or proof that passed is {} old; [monitor] verified_age is {allowed}, and the newest point is {}",
                words(age),
                newest.point
            ),
            hint,
        ),
        Some(_) => {}
    }
}

fn archiving(seen: &Seen, server: &ServerSeen, found: &mut Found) {
    match &server.archiver {
        Known::Unknown(why) => {
            found.unknown("archiver", format!("whether WAL was lost is not known: {why}"), None);
        }
        Known::Known(archiver) => {
            if !archiver.lost.is_empty() {
                let first =
                    archiver.lost.first().map(|lost| format!("{}: {}", lost.file, lost.why)).unwrap_or_default();
                let there = archiver.lost.iter().all(|lost| lost.in_pg_wal);
                found.blocks(
                    "wal-lost",
                    Exit::WalGap,
                    format!("{} lost: {first}", counted(archiver.lost.len(), "WAL file")),
                    match there {
                        true => "the server still has them: `cdc-drill wal push` can take them",
                        false => "take a recovery point now: it needs nothing that was lost before it",
                    },
                );
            }
            if archiver.mode == "off" {
                found.risk("archiver-off", "the server does not archive: archive_mode is off", None);
            }
            if archiver.failing {
                let file = archiver.last_failed.as_ref().map(|event| format!("{} at {}", event.file, event.at));
                found.risk(
                    "archiver-failing",
                    format!(
                        "archiving fails: {}; {} so far",
                        file.unwrap_or_default(),
                        counted(archiver.failures, "failure")
                    ),
                    Some("the server's log has what archive_command wrote"),
                );
            }
            let waits = archiver.oldest_waiting_seconds.unwrap_or_default();
            if waits > seen.limits.archive_delay.seconds() {
                found.risk(
                    "archiver-late",
                    format!("{} not archived yet, the oldest for {}", counted(archiver.late, "WAL file"), words(waits)),
                    None,
                );
            }
        }
    }
    for slot in &server.slots {
        let kept = slot.retained_bytes.unwrap_or_default();
        let limit = seen.limits.slot_wal.as_u64();
        if let Some(why) = &slot.invalidated {
            found.risk(
                "slot-lost",
                format!("replication slot {} is invalidated ({why}): its consumer gets no changes", slot.name),
                Some("`cdc-drill recover plan slot` diagnoses it"),
            );
        } else if slot.wal_status.as_deref() == Some("unreserved") {
            found.risk(
                "slot-unreserved",
                format!("replication slot {} will be without its WAL after the next checkpoint", slot.name),
                None,
            );
        } else if kept > limit {
            let who = if slot.active { "somebody streams from it" } else { "nobody streams from it" };
            found.risk(
                "slot-wal",
                format!(
                    "replication slot {} holds back {} of WAL, and {who}; [monitor] slot_wal is {}",
                    slot.name,
                    ByteSize(kept),
                    ByteSize(limit)
                ),
                None,
            );
        }
    }
}

/// How the nightly commands ended.
fn tasks(seen: &Seen, found: &mut Found) {
    let all = match &seen.tasks {
        Known::Known(all) => all,
        Known::Unknown(why) => {
            found.risk("tasks", format!("how the last backup ended is not known: {why}"), None);
            return;
        }
    };
    let of = |task: Task| all.iter().find(|known| known.last.task == task);
    if let Some(what) = of(Task::Backup).and_then(|known| failed(known, "backup")) {
        found.risk("backup-failed", what, None);
    }
    if let Some(what) = of(Task::Prune).and_then(|known| failed(known, "backup prune")) {
        found.risk("prune-failed", what, None);
    }
    // What a check named may be the point that a recovery would start from.
    for task in [Task::Check, Task::DeepCheck] {
        let known = of(task);
        let exit = known.and_then(|known| known.last.ended.as_ref()).map(|ended| ended.exit_code);
        let is_damage =
            exit.is_some_and(|code| (Exit::BackupIncomplete.code()..=Exit::FormatTooNew.code()).contains(&code));
        // A later check of the other sort looked at the same files.
        let later = all.iter().filter(|k| matches!(k.last.task, Task::Check | Task::DeepCheck) && k.last.task != task);
        let outdated = task == Task::Check && later.clone().any(|k| known.is_some_and(|own| passed_since(k, own)));
        match known.and_then(|known| failed(known, "backup check")) {
            Some(what) if is_damage && !outdated => {
                found.unknown("check-failed", what, Some("`cdc-drill backup check` names what is wrong"));
            }
            Some(what) if !outdated => found.risk("check-failed", what, None),
            Some(_) | None => {}
        }
    }
    let Some(allowed) = seen.limits.drill_age else { return };
    drill(seen, of(Task::Drill), allowed, found);
}

fn passed_since(of: &TaskRecord, own: &TaskRecord) -> bool {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    of.passed.as_ref().and_then(|passed| time(&passed.began)) > time(&own.last.began)
}

fn drill(seen: &Seen, known: Option<&TaskRecord>, allowed: Span, found: &mut Found) {
    let passed = known.and_then(|known| known.passed.as_ref()).and_then(|a| a.ended.as_ref()?.at.parse().ok());
    match passed.map(|at: Timestamp| age(seen, at)) {
        None => found.risk("drill-old", "no drill has passed yet", Some("`cdc-drill run --record FILE`")),
        Some(age) if age > allowed.seconds() => found.risk(
            "drill-old",
            format!("the last drill that passed is {} old; [monitor] drill_age is {allowed}", words(age)),
            None,
        ),
        Some(_) => {}
    }
    if let Some(what) = known.and_then(|known| failed(known, "drill")) {
        found.risk("drill-failed", what, None);
    }
}

/// Why a task's last attempt did not pass; none where it did, or may still.
fn failed(known: &TaskRecord, name: &str) -> Option<String> {
    let last = &known.last;
    match (&last.ended, known.at_work) {
        (Some(ended), _) if ended.verdict == Verdict::Passed => None,
        (Some(ended), _) => {
            let why = ended.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            Some(format!("the last {name}, begun {}, ended with exit code {}{why}", last.began, ended.exit_code))
        }
        (None, Some(false)) => Some(format!("the last {name}, begun {} on {}, did not end", last.began, last.host)),
        (None, Some(true) | None) => None,
    }
}

/// The newest measurement.
fn rto(seen: &Seen) -> Option<LastRto> {
    let proof = seen.proof.get().and_then(Option::as_ref);
    let proof = proof.and_then(|p| Some(LastRto { seconds: p.rto_seconds?, source: RtoSource::Proof, at: p.at? }));
    let tasks = seen.tasks.get().into_iter().flatten().filter_map(|known| {
        let source = match known.last.task {
            Task::Drill => RtoSource::Drill,
            Task::Recovery => RtoSource::Recovery,
            Task::Backup | Task::Check | Task::DeepCheck | Task::Prune | Task::Proof => return None,
        };
        let ended = known.passed.as_ref()?.ended.as_ref()?;
        Some(LastRto { seconds: ended.rto_seconds?, source, at: ended.at.parse().ok()? })
    });
    proof.into_iter().chain(tasks).max_by_key(|rto| rto.at)
}

/// How many seconds ago something was; zero where that lies ahead of this machine's clock.
pub(super) fn age(seen: &Seen, at: Timestamp) -> u64 {
    u64::try_from(seen.at.duration_since(at).as_secs()).unwrap_or_default()
}

/// A number of seconds in its largest unit.
fn words(seconds: u64) -> String {
    match seconds {
        0..120 => counted(seconds, "second"),
        120..7_200 => counted(seconds / 60, "minute"),
        7_200..172_800 => counted(seconds / 3_600, "hour"),
        _ => counted(seconds / 86_400, "day"),
    }
}
