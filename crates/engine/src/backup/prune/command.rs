//! `backup prune`, and what `backup create` does of it.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    act::act,
    carry_out::{acts, wal_going},
    decide::{Decision, decide},
    keep::Keep,
    room::Room,
    stock::{PointStock, Stock},
    topics::{PrunedTopicBackup, TopicsDecision},
};
use crate::backup::{
    Activity, BackupError, Format, Kind, Repository, file_system::file_system, pruned::PruneReason,
    storage::is_in_a_bucket,
};
use cdc_model::units::{Exit, PointId, SystemId};
use cdc_pipeline::{
    client::postgres::Postgres,
    config::{BackupConfig, Config},
};

/// Days that are kept where nothing else is said.
const DAYS: u32 = 7;
/// What a cluster shrinks to where no point says how far: see `BASE_ZSTD_LEVEL`.
const SHRINKS_TO: u64 = 3;
/// The share of the cluster's size by which an estimate may be wrong: one in so many.
const DOUBT: u64 = 10;

/// What is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneOptions {
    /// How long.
    pub keep: Keep,
    /// How much, in bytes.
    pub budget: u64,
    /// Only says what would go.
    pub dry_run: bool,
}

impl PruneOptions {
    /// What a configuration says.
    pub fn of(config: &BackupConfig) -> PruneOptions {
        let keep = match (config.keep, config.keep_days) {
            (Some(count), _) => Keep::Count(count.get()),
            (None, days) => Keep::Days(days.map_or(DAYS, |days| days.get())),
        };
        PruneOptions { keep, budget: config.budget.as_u64(), dry_run: false }
    }
}

/// A recovery point, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunedPoint {
    /// The point.
    pub point: PointId,
    /// When its capture began.
    pub begin: String,
    /// Which parts it holds.
    pub kind: Kind,
    /// The bytes that it takes.
    pub bytes: u64,
    /// Whether it has passed a deep check.
    pub good: bool,
    /// Why it goes; null for one that stays.
    pub goes: Option<PruneReason>,
}

/// What was pruned, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneReport {
    /// The repository.
    pub repository: Utf8PathBuf,
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// Every point that can be used, oldest first.
    pub points: Vec<PrunedPoint>,
    /// Every backup of topics' records in an archive that can be read, oldest first within a topic.
    pub topics: Vec<PrunedTopicBackup>,
    /// How many archived files go.
    pub wal_files: u64,
    /// Their bytes.
    pub wal_bytes: u64,
    /// Everything that goes, in bytes.
    pub bytes: u64,
    /// The room afterwards.
    pub room: Room,
    /// What was not touched, and why.
    pub notes: Vec<String>,
}

impl PruneReport {
    /// 0, or 35 where the repository takes more than it may although everything went that may go.
    pub fn exit(&self) -> Exit {
        if self.room.used > self.room.budget { Exit::BudgetExceeded } else { Exit::Passed }
    }

    fn of(
        repository: &Repository,
        options: &PruneOptions,
        stock: &Stock,
        decision: &Decision,
        topics: &TopicsDecision,
    ) -> PruneReport {
        let points = stock.points.iter().enumerate().map(|(at, point)| PrunedPoint {
            point: point.id.clone(),
            begin: point.begin_text.clone(),
            kind: point.kind,
            bytes: point.bytes,
            good: point.is_good,
            goes: decision.going.get(&at).copied(),
        });
        let wal = wal_going(stock, decision);
        PruneReport {
            repository: repository.path().to_owned(),
            dry_run: options.dry_run,
            points: points.collect(),
            topics: stock.topics.report(topics),
            wal_files: wal.len() as u64,
            wal_bytes: wal.iter().map(|(_, file)| file.bytes).sum(),
            bytes: stock.bytes.saturating_sub(decision.room.used),
            room: decision.room,
            notes: stock.notes.clone(),
        }
    }
}

/// Removes what need not be kept. The same command goes on after a kill. Refused (34) while a recovery runs or is unfinished, and
/// while a recovery point is created.
pub fn prune(repository: &Repository, options: &PruneOptions) -> Result<PruneReport, BackupError> {
    let pruned = pruned(repository, options, &|_| 0).map_err(BackupError::with_file_system);
    pruned.map(|(report, _)| report)
}

/// Prunes with room for a point that takes as much as `expected` makes of what there is. With whether that room is there.
fn pruned(
    repository: &Repository,
    options: &PruneOptions,
    expected: &dyn Fn(&[PointStock]) -> u64,
) -> Result<(PruneReport, bool), BackupError> {
    if repository.format() == Format::One {
        return Err(BackupError::OldFormat { path: repository.path().to_owned(), wanted: "backup prune" });
    }
    let lock = repository.lock(Activity::Maintain, "backup prune")?;
    let now = Timestamp::now();
    let stock = Stock::of(repository)?;
    let free = match is_in_a_bucket(repository.path()) {
        true => Room::NO_LIMIT,
        false => file_system(repository.path()).map_err(BackupError::io("look at", repository.path()))?.1,
    };
    let expected = expected(&stock.points);
    let room = Room { used: stock.bytes, budget: options.budget, free, for_wal: 0, expected };
    // What retention removes of topics' archives in any case makes room before a recovery point is given up for it.
    let named = |decision: &Decision| -> BTreeSet<String> {
        let stay = stock.points.iter().enumerate().filter(|(at, _)| !decision.going.contains_key(at));
        stay.flat_map(|(_, point)| point.records.iter().cloned()).collect()
    };
    let of_topics = stock.topics.decide(&named(&Decision::default()), options.keep, now, 0);
    let mut decision = decide(&stock, options.keep, room.without(of_topics.freed), now);
    let topics_for = |room: Room| {
        let short = room.short().saturating_add(of_topics.freed);
        let decided = stock.topics.decide(&named(&decision), options.keep, now, short);
        (decided.freed >= short, decided)
    };
    let topics = match topics_for(decision.room) {
        (true, decided) => decided,
        // Nothing is given up in vain for a point that finds no room all the same.
        (false, _) => topics_for(Room { expected: 0, ..decision.room }).1,
    };
    decision.room = decision.room.without(topics.freed.saturating_sub(of_topics.freed));
    if !options.dry_run {
        let of_points = acts(&stock, &decision, now)?;
        for step in of_points.into_iter().chain(stock.topics.acts(&topics, now)?) {
            act(repository, &lock, &step)?;
        }
    }
    Ok((PruneReport::of(repository, options, &stock, &decision, &topics), !decision.is_short()))
}

/// Makes room for a recovery point before it is taken: the bytes that it may take, none for as many as it likes, and what is worth
/// knowing. Refused with [`BackupError::BudgetExceeded`] where there is no room.
pub(in crate::backup) async fn room_for_backup(
    repository: &Repository,
    config: &Config,
    with_database: bool,
) -> Result<(Option<u64>, Vec<String>), BackupError> {
    let options = PruneOptions::of(&config.backup);
    let cluster = if with_database { cluster(config).await } else { None };
    let result = pruned(repository, &options, &|points| estimate(points, with_database, cluster));
    match result {
        Ok((report, true)) => Ok((Some(report.room.left()), said(&report))),
        Ok((report, false)) => {
            Err(BackupError::BudgetExceeded { repository: repository.path().to_owned(), room: report.room })
        }
        Err(error) => Ok((None, vec![tolerated(error)?])),
    }
}

/// Prunes once a recovery point was taken. Whatever is in the way, the point is there: it is only noted.
pub(in crate::backup) fn prune_after_backup(repository: &Repository, config: &Config) -> Vec<String> {
    if repository.format() == Format::One {
        return Vec::new();
    }
    match prune(repository, &PruneOptions::of(&config.backup)) {
        Ok(report) => {
            let mut notes = said(&report);
            if report.exit() != Exit::Passed {
                notes.push(format!("the repository is over its budget: {}", report.room));
            }
            notes
        }
        Err(error) => vec![format!("not pruned: {error}")],
    }
}

/// What is in the way of pruning and not of a recovery point. A lock that is in the way of both refuses the recovery point next.
fn tolerated(error: BackupError) -> Result<String, BackupError> {
    match error {
        BackupError::LockHeld { .. } => Ok(format!("neither pruned nor held to a budget: {error}")),
        BackupError::OldFormat { path, .. } => Ok(format!(
            "neither pruned nor held to a budget: {path} has format 1; `cdc-drill backup upgrade --repository {path}` changes that"
        )),
        error if error.is_damage() || matches!(error, BackupError::FormatTooNew { .. }) => {
            Ok(format!("neither pruned nor held to a budget: {error}"))
        }
        error => Err(error),
    }
}

fn said(report: &PruneReport) -> Vec<String> {
    let going = report.points.iter().filter_map(|point| Some((&point.point, point.goes?)));
    going.map(|(point, why)| format!("recovery point {point} was pruned: {why}")).collect()
}

/// The cluster, and the bytes that its databases take now; none while it does not answer.
async fn cluster(config: &Config) -> Option<(SystemId, u64)> {
    let pg = Postgres::connect(&config.postgres.url, "cdc-drill backup").await.ok()?;
    let bytes = pg.value::<u64>("select sum(pg_database_size(oid))::bigint from pg_database").await.ok()?;
    Some((pg.system_id().await.ok()?, bytes))
}

/// About how many bytes a point will take, by the last one and by the cluster's size.
pub(super) fn estimate(points: &[PointStock], with_database: bool, cluster: Option<(SystemId, u64)>) -> u64 {
    let of_cluster = |point: &&PointStock| cluster.is_none_or(|(id, _)| point.pipeline.0 == Some(id));
    // By the last full one: whether the next one can add to it is decided by the server.
    let fits = |point: &&PointStock| match with_database {
        true => point.base.is_some(),
        false => point.start.is_none(),
    };
    let newest = points.iter().rev().filter(of_cluster).find(fits);
    match (newest, cluster) {
        (Some(PointStock { bytes, base: Some((raw, stored)), .. }), Some((_, now))) => {
            let grown = (now.saturating_sub(*raw) as u128 * u128::from(*stored) / u128::from((*raw).max(1))) as u64;
            bytes.saturating_add(grown).saturating_add(bytes / DOUBT)
        }
        (Some(point), _) => point.bytes.saturating_add(point.bytes / DOUBT),
        (None, Some((_, now))) => now / SHRINKS_TO,
        (None, None) => 0,
    }
}
