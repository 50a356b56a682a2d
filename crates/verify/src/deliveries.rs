//! Which events of a topic without keys are changes, and which of them are changes that were delivered again.
//!
//! A connector that was killed before it had stored how far it was begins again further back. What it then delivers has the
//! positions that it had before. One change record in the WAL holds one row, or, where COPY wrote it, several that share its
//! position. So the events of one position that follow each other, a run, are one delivery or several of them; and each
//! delivery is the complete one or a part of it from its beginning, where the connector was killed again.

use std::collections::{HashMap, HashSet};

use super::decode::record::Op;

/// An event, as far as it tells changes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Change<'e> {
    /// `source.txId`, zero where unknown.
    pub tx: u64,
    /// `source.lsn`, zero where unknown.
    pub lsn: u64,
    /// What it did.
    pub op: Op,
    /// The packed row before.
    pub before: Option<&'e [u8]>,
    /// The packed row after.
    pub after: Option<&'e [u8]>,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The first complete delivery of a change.
    First,
    /// Another delivery of a change.
    Again,
    /// A change, or another delivery of an equal one.
    Either,
}

/// Events of one position that follow each other.
#[derive(Default)]
struct Run {
    /// Where they stand.
    places: Vec<usize>,
    /// Whether an event of a later position follows: then the last delivery was complete.
    complete: bool,
}

/// How much work is spent on the deliveries of one position, in compared events.
const WORK_MAX: usize = 1 << 16;

/// What each of these events is. They stand in the order in which the connector made them.
pub(crate) fn deliveries(events: &[Change<'_>]) -> Vec<Delivery> {
    let mut found = vec![Delivery::Again; events.len()];
    let mut positions: HashMap<(u64, u64), Vec<Run>> = HashMap::new();
    let mut unpositioned: HashSet<&Change<'_>> = HashSet::new();
    let mut previous: Option<(u64, u64)> = None;
    for (place, event) in events.iter().enumerate() {
        let position = (event.tx, event.lsn);
        if previous != Some(position) {
            let last = previous.and_then(|previous| positions.get_mut(&previous)).and_then(|runs| runs.last_mut());
            if let (Some(last), Some((_, lsn))) = (last, previous) {
                last.complete = lsn > 0 && event.lsn > lsn;
            }
        }
        if position == (0, 0) {
            found[place] = if unpositioned.insert(event) { Delivery::First } else { Delivery::Either };
        } else {
            let runs = positions.entry(position).or_default();
            if previous != Some(position) {
                runs.push(Run::default());
            }
            if let Some(run) = runs.last_mut() {
                run.places.push(place);
            }
        }
        previous = Some(position);
    }
    for ((_, lsn), mut runs) in positions {
        runs.retain(|run| {
            // A snapshot reads all tables at one position, and its events come in pieces.
            let read = run.places.first().is_some_and(|place| events[*place].op == Op::Read);
            if read {
                run.places.iter().for_each(|place| found[*place] = Delivery::First);
            }
            !read
        });
        let single = |run: &Run| run.places.iter().all(|place| matches!(events[*place].op, Op::Update | Op::Delete));
        match runs.as_slice() {
            [] => {}
            // The WAL has a record for each updated or deleted row.
            runs if lsn > 0 && runs.iter().all(single) => found[runs[0].places[0]] = Delivery::First,
            [run] if run.places.len() == 1 => found[run.places[0]] = Delivery::First,
            runs => of_position(events, runs, &mut found),
        }
    }
    found
}

/// The deliveries of one position.
fn of_position(events: &[Change<'_>], runs: &[Run], found: &mut [Delivery]) {
    let mut ids: HashMap<&Change<'_>, usize> = HashMap::new();
    let mut id = |place: &usize| {
        let next = ids.len();
        *ids.entry(&events[*place]).or_insert(next)
    };
    let mut numbered =
        |run: &Run| Deliveries { events: run.places.iter().map(&mut id).collect(), complete: run.complete };
    let numbered: Vec<Deliveries> = runs.iter().map(&mut numbered).collect();
    let counts = counts(&numbered, ids.len());
    let mut seen = vec![0; ids.len()];
    for (place, id) in runs.iter().zip(&numbered).flat_map(|(run, numbered)| run.places.iter().zip(&numbered.events)) {
        seen[*id] += 1;
        let (least, most) = counts[*id];
        found[*place] = match seen[*id] {
            count if count <= least => Delivery::First,
            count if count <= most => Delivery::Either,
            _ => Delivery::Again,
        };
    }
}

/// How often each event is in the complete delivery, at least and at most.
fn counts(runs: &[Deliveries], ids: usize) -> Vec<(usize, usize)> {
    let count = |events: &[usize]| {
        let mut counts = vec![0; ids];
        events.iter().for_each(|id| counts[*id] += 1);
        counts
    };
    if let Some(all) = complete(runs).filter(|all| !all.is_empty()) {
        let mut range = vec![(usize::MAX, 0); ids];
        for count in all.into_iter().map(count) {
            range.iter_mut().zip(count).for_each(|(r, count)| *r = (r.0.min(count), r.1.max(count)));
        }
        return range;
    }
    // Too many ways, or none, as times do not tell the order of records in different partitions. Where one run has all events,
    // the others are deliveries of these. Where none has, runs may be parts of one delivery, or deliveries that were written in
    // different ways.
    let per_run: Vec<Vec<usize>> = runs.iter().map(|run| count(&run.events)).collect();
    let longest = per_run.iter().max_by_key(|counts| counts.iter().sum::<usize>()).cloned().unwrap_or_default();
    let has = |counts: &Vec<usize>| counts.iter().zip(&longest).all(|(some, all)| some <= all);
    if per_run.iter().all(has) {
        return longest.into_iter().map(|most| (1, most)).collect();
    }
    (0..ids).map(|id| (0, per_run.iter().map(|counts| counts[id]).sum())).collect()
}

/// The parts of the runs that may be the complete delivery, of which all runs consist. `None` where it is too much work to find
/// them all.
fn complete(runs: &[Deliveries]) -> Option<Vec<&[usize]>> {
    let mut work = 0;
    let mut found = Vec::new();
    for run in runs {
        for (from, to) in run.parts()? {
            let part = &run.events[from..to];
            let all =
                run.consist_of(part, Some(from), &mut work) && runs.iter().all(|r| r.consist_of(part, None, &mut work));
            if work > WORK_MAX {
                return None;
            }
            found.extend(all.then_some(part));
        }
    }
    Some(found)
}

/// A run, its events by number: equal ones have the same.
struct Deliveries {
    events: Vec<usize>,
    complete: bool,
}

impl Deliveries {
    /// The parts that may be a complete delivery: each begins where the run may begin anew. `None` where there are too many.
    fn parts(&self) -> Option<Vec<(usize, usize)>> {
        let (length, first) = (self.events.len(), self.events.first()?);
        let starts: Vec<usize> = (0..length).filter(|place| self.events[*place] == *first).collect();
        let ends = if self.complete { &[] } else { starts.as_slice() };
        if starts.len() * (ends.len() + 1) > WORK_MAX / length {
            return None;
        }
        let ends = || ends.iter().copied().chain([length]);
        let parts = starts.iter().flat_map(|from| ends().filter(|to| to > from).map(|to| (*from, to)));
        Some(parts.collect())
    }

    /// Whether these events are deliveries of `all`, each from its beginning; the last is complete where that is known, and so
    /// is one that begins at `at`.
    fn consist_of(&self, all: &[usize], at: Option<usize>, work: &mut usize) -> bool {
        let length = self.events.len();
        let at = match (at, self.complete) {
            (None, true) => match length.checked_sub(all.len()) {
                Some(last) => Some(last),
                None => return false,
            },
            (at, _) => at,
        };
        match at {
            None => self.reaches(0, length, all, work),
            Some(at) => {
                self.events[at..].starts_with(all)
                    && self.reaches(0, at, all, work)
                    && self.reaches(at + all.len(), length, all, work)
            }
        }
    }

    /// Whether the events from one place to another are parts of `all` from its beginning.
    fn reaches(&self, from: usize, to: usize, all: &[usize], work: &mut usize) -> bool {
        let mut furthest = from;
        for place in from..to {
            if place > furthest {
                return false;
            }
            let same = self.events[place..to].iter().zip(all).take_while(|(a, b)| a == b).count();
            *work += same + 1;
            furthest = furthest.max(place + same);
        }
        furthest >= to
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// Events of these positions with these rows after.
    fn events<'e>(described: &'e [(u64, &'e str)]) -> Vec<Change<'e>> {
        let change = |(lsn, row): &(u64, &'e str)| Change {
            tx: *lsn,
            lsn: *lsn,
            op: Op::Create,
            before: None,
            after: Some(row.as_bytes()),
        };
        described.iter().map(change).collect()
    }

    fn shown(found: &[Delivery]) -> String {
        let letter = |delivery: &Delivery| match delivery {
            Delivery::First => '1',
            Delivery::Again => '-',
            Delivery::Either => '?',
        };
        found.iter().map(letter).collect()
    }

    #[rstest]
    #[case::of_its_own("1a 2a 3b", "111")]
    #[case::again_behind_others("1a 2b 1a 2b", "11--")]
    #[case::in_parts("1a 1b 0z 1a 1b 1c", "111--1")]
    #[case::directly_again("1a 1a", "1?")]
    #[case::directly_again_in_parts("1a 1b 1a 1b 1c 2d", "11??11")]
    #[case::no_beginning_again("1a 1b 1b", "111")]
    #[case::an_end_that_is_no_delivery("1a 1b 1a 2c", "1111")]
    #[case::an_end_that_may_be_one("1a 1b 1a", "11?")]
    #[case::known_by_a_later_delivery("1a 1a 2b 1a 2b", "1-1--")]
    #[case::without_a_position("0a 0b 0a", "11?")]
    #[case::in_another_order("1a 1b 2c 1b 1a 2c", "111---")]
    #[case::apart("1a 2c 1b 2d", "????")]
    fn a_delivery_is_known_by_what_it_can_be(#[case] described: &str, #[case] expected: &str) {
        let described: Vec<(u64, &str)> =
            described.split(' ').map(|event| (event[..1].parse().unwrap(), &event[1..])).collect();
        assert_eq!(shown(&deliveries(&events(&described))), expected);
    }

    #[test]
    fn a_changed_or_deleted_row_has_a_position_of_its_own() {
        for op in [Op::Update, Op::Delete] {
            let mut all = events(&[(1, "a"), (1, "a"), (0, "a"), (0, "a")]);
            all.iter_mut().for_each(|change| change.op = op);
            assert_eq!(shown(&deliveries(&all)), "1-1?");
            all.iter_mut().for_each(|change| (change.tx, change.lsn) = (7, 0));
            assert_eq!(shown(&deliveries(&all)), "1???", "a transaction is no position");
        }
    }

    #[test]
    fn many_equal_rows_are_decided_in_time() {
        let described = vec![(1, "a"); 20_000];
        let found = deliveries(&events(&described));
        assert_eq!(found.iter().filter(|delivery| **delivery == Delivery::First).count(), 1);
        assert!(!found.contains(&Delivery::Again));
    }

    #[test]
    fn all_complete_deliveries_are_looked_for_up_to_a_limit_and_at_it() {
        let run = |length| Deliveries { events: (0..length).collect(), complete: false };
        // Each of different events is compared once as part of the delivery, and once as a beginning of another one.
        let long = WORK_MAX / 2;
        assert_eq!(complete(&[run(long)]), Some(vec![run(long).events.as_slice()]));
        assert_eq!(complete(&[run(long), run(1)]), None, "one event more is too much");
    }

    proptest! {
        #[test]
        fn the_rows_that_there_were_are_within_what_is_found(
            rows in prop::collection::vec(0usize..3, 1..5),
            before in prop::collection::vec((1usize..5, 0u64..3), 0..4),
            after in prop::collection::vec((1usize..5, 0u64..3), 0..4),
        ) {
            let letters = ["a", "b", "c"];
            let mut described = Vec::new();
            let all = [(rows.len(), 2)];
            for (length, next) in before.iter().chain(&all).chain(&after) {
                let length = *length.min(&rows.len());
                described.extend(rows[..length].iter().map(|row| (5, letters[*row])));
                match next {
                    0 => {}
                    // The connector goes on where a delivery was complete, and further back where it was not.
                    2 if length == rows.len() => described.push((6, "z")),
                    _ => described.push((4, "z")),
                }
            }
            let found = deliveries(&events(&described));
            for (row, letter) in letters.iter().enumerate() {
                let there = rows.iter().filter(|r| **r == row).count();
                let count = |delivery: Delivery| {
                    let of = |(event, found): &(&(u64, &str), &Delivery)| event.0 == 5 && event.1 == *letter && **found == delivery;
                    described.iter().zip(&found).filter(of).count()
                };
                let (least, most) = (count(Delivery::First), count(Delivery::First) + count(Delivery::Either));
                prop_assert!((least..=most).contains(&there), "{letter}: {there} in {described:?}: {}", shown(&found));
            }
        }
    }
}
