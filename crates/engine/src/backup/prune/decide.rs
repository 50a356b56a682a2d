//! What is kept and what goes: a pure function of what a repository holds.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    keep::Keep,
    room::Room,
    stock::{PointStock, Stock, WalStock},
};
use crate::backup::{Kind, pruned::PruneReason};
use cdc_model::units::SystemId;

/// What goes, and what that leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// The points that go, by their place in the stock, and why.
    pub(super) going: BTreeMap<usize, PruneReason>,
    /// By cluster the number of the first segment that a kept point needs; none for a cluster without such a point, of which
    /// all WAL stays.
    pub(super) floors: BTreeMap<SystemId, u64>,
    /// The room when it is done.
    pub(super) room: Room,
}

impl Decision {
    /// Whether an archived file goes. Histories of timelines stay: they are the map, and a few bytes each.
    pub(super) fn takes(&self, system_id: SystemId, file: &WalStock) -> bool {
        match (self.floors.get(&system_id), file.number) {
            (Some(floor), Some(number)) => number < *floor,
            _ => false,
        }
    }

    /// Whether the room that is needed is not there, not even with this.
    pub(super) fn is_short(&self) -> bool {
        self.room.expected.max(1) > self.room.left()
    }
}

/// Decides. Points that retention does not keep go in any case; then the oldest go until there is room for WAL; then further ones for
/// the point that is expected, where that suffices: nothing is given up in vain.
pub(super) fn decide(stock: &Stock, keep: Keep, room: Room, now: Timestamp) -> Decision {
    let mut going: BTreeMap<usize, PruneReason> = BTreeMap::new();
    let mut protected: BTreeSet<usize> = BTreeSet::new();
    for pipeline in pipelines(stock) {
        let newest = with_below(stock, protected_of(stock, &pipeline));
        let outdated = outdated(stock, &pipeline, keep, now).into_iter().filter(|at| !newest.contains(at));
        going.extend(outdated.map(|at| (at, PruneReason::Retention)));
        protected.extend(newest);
    }
    let staying: BTreeSet<usize> = (0..stock.points.len()).filter(|at| !going.contains_key(at)).collect();
    let needed = with_below(stock, staying);
    going.retain(|at, _| !needed.contains(at));
    let room = room.with_wal(wal_since_newest(stock));
    let after = |going: &BTreeMap<usize, PruneReason>| room.without(freed(stock, going));
    let mut candidates = (0..stock.points.len()).filter(|at| !protected.contains(at));
    let mut next = |going: &BTreeMap<usize, PruneReason>| candidates.find(|at| !going.contains_key(at));
    let has_room_for_wal = |room: Room| room.used.saturating_add(room.for_wal) <= room.limit();
    while !has_room_for_wal(after(&going))
        && let Some(oldest) = next(&going)
    {
        give_up(stock, oldest, &mut going);
    }
    let mut more = going.clone();
    while after(&more).left() < room.expected
        && let Some(oldest) = next(&more)
    {
        give_up(stock, oldest, &mut more);
    }
    if after(&more).left() >= room.expected {
        going = more;
    }
    Decision { floors: floors(stock, &going), room: after(&going), going }
}

/// Points, and those whose base backups they need.
fn with_below(stock: &Stock, points: BTreeSet<usize>) -> BTreeSet<usize> {
    let below: Vec<usize> = points.iter().flat_map(|at| stock.below(*at)).collect();
    points.into_iter().chain(below).collect()
}

/// A point goes to make room, and with it those that cannot be restored without it.
fn give_up(stock: &Stock, at: usize, going: &mut BTreeMap<usize, PruneReason>) {
    for at in stock.above(at).into_iter().chain([at]) {
        going.entry(at).or_insert(PruneReason::Budget);
    }
}

/// The points of each pipeline, oldest first. What is not known of a pipeline makes it another one: then more is kept.
fn pipelines(stock: &Stock) -> Vec<Vec<usize>> {
    let mut by_pipeline: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, point) in stock.points.iter().enumerate() {
        by_pipeline.entry(&point.pipeline).or_default().push(at);
    }
    by_pipeline.into_values().collect()
}

/// The points that nothing removes: the newest of each rank, from a good one that a recovery starts from unasked to any. Of a pipeline
/// without a good point that is the newest that can be used.
fn protected_of(stock: &Stock, pipeline: &[usize]) -> BTreeSet<usize> {
    let ranks: [fn(&PointStock) -> bool; 6] = [
        |point| point.is_good && point.kind == Kind::Full && point.is_consistent,
        |point| point.is_good && point.kind == Kind::Full,
        |point| point.is_good,
        |point| point.kind == Kind::Full && point.is_consistent,
        |point| point.kind == Kind::Full,
        |_| true,
    ];
    let newest = |rank: &fn(&PointStock) -> bool| {
        pipeline.iter().rev().copied().find(|at| stock.points[*at].is_usable && rank(&stock.points[*at]))
    };
    ranks.iter().filter_map(newest).collect()
}

/// The points of a pipeline that retention does not keep.
fn outdated(stock: &Stock, pipeline: &[usize], keep: Keep, now: Timestamp) -> Vec<usize> {
    let point = |at: &usize| &stock.points[*at];
    let is_start = |at: &&usize| point(at).is_usable && point(at).kind == Kind::Full && point(at).is_consistent;
    match keep {
        Keep::Count(count) => {
            let usable = |at: &&usize| point(at).is_usable;
            let full = |at: &&usize| point(at).is_usable && point(at).kind == Kind::Full;
            let counted: Vec<&usize> = match pipeline.iter().any(|at| full(&at)) {
                true => pipeline.iter().filter(full).collect(),
                false => pipeline.iter().filter(usable).collect(),
            };
            let Some(oldest) = counted.iter().rev().nth(count.saturating_sub(1) as usize) else { return Vec::new() };
            pipeline.iter().copied().filter(|at| at < oldest).collect()
        }
        Keep::Days(days) => {
            // Days count back from the newest point, not from today: the history of a pipeline whose backups stopped does not fade
            // away, and a clock that runs ahead removes nothing.
            let Some(newest) = pipeline.iter().filter_map(|at| point(at).begin).max() else { return Vec::new() };
            let cutoff = newest.min(now) - SignedDuration::from_hours(24 * i64::from(days));
            let is_old = |at: &&usize| point(at).begin.is_some_and(|begin| begin < cutoff);
            let anchor = pipeline.iter().rev().filter(is_old).find(is_start);
            pipeline.iter().filter(is_old).filter(|at| Some(*at) != anchor).copied().collect()
        }
    }
}

/// By cluster the first segment that a point which stays needs. Every segment from there on stays, on all timelines: those that lead to
/// the point and those that lead on from it are among them. WAL goes with points: of a cluster of which no point goes, or has gone, all
/// stays, as what was archived before the first point says what happened until then.
fn floors(stock: &Stock, going: &BTreeMap<usize, PruneReason>) -> BTreeMap<SystemId, u64> {
    let mut floors: BTreeMap<SystemId, u64> = BTreeMap::new();
    let staying = stock.points.iter().enumerate().filter(|(at, _)| !going.contains_key(at));
    for (system_id, number) in staying.filter_map(|(_, point)| point.start) {
        floors.entry(system_id).and_modify(|floor| *floor = number.min(*floor)).or_insert(number);
    }
    let going: BTreeSet<SystemId> = going.keys().filter_map(|at| Some(stock.points[*at].start?.0)).collect();
    floors.retain(|system_id, _| going.contains(system_id) || stock.pruned.has_wal_of(*system_id));
    floors
}

fn freed(stock: &Stock, going: &BTreeMap<usize, PruneReason>) -> u64 {
    let decision = Decision { floors: floors(stock, going), ..Decision::default() };
    let points: u64 = going.keys().map(|at| stock.points[*at].bytes).sum();
    let wal = stock.wal.iter().flat_map(|(id, files)| files.iter().filter(|file| decision.takes(*id, file)));
    points + wal.map(|file| file.bytes).sum::<u64>() + stock.unremoved
}

/// The archived WAL since each cluster's newest point began: about what comes until the next one.
fn wal_since_newest(stock: &Stock) -> u64 {
    let newest: BTreeMap<SystemId, u64> = stock.points.iter().filter_map(|point| point.start).collect();
    let files = stock.wal.iter().flat_map(|(id, files)| files.iter().map(move |file| (id, file)));
    let since =
        files.filter(|(id, file)| !file.is_salvaged && newest.get(id).is_some_and(|start| file.number >= Some(*start)));
    since.map(|(_, file)| file.bytes).sum()
}
