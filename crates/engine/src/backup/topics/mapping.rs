//! Which offset a record of an archived topic has where it was replayed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use cdc_model::units::Offset;

/// Records that follow one another without a hole, and where they are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) partition: i32,
    /// The offset of the first one in the archived topic.
    pub(crate) from: i64,
    /// The offset after the last one.
    pub(crate) to: i64,
    /// The first one's offset where it was replayed.
    pub(crate) at: i64,
}

/// Joins the records of one partition, in order, to runs.
#[derive(Debug, Default)]
pub(crate) struct Runs(Option<Run>);

impl Runs {
    /// A record, and its new offset; returns the run that ends before it.
    pub(crate) fn push(&mut self, partition: i32, old: i64, new: i64) -> Option<Run> {
        match &mut self.0 {
            Some(run) if run.partition == partition && run.to == old && run.at + (old - run.from) == new => {
                run.to = old + 1;
                None
            }
            open => open.replace(Run { partition, from: old, to: old + 1, at: new }),
        }
    }

    /// The last run.
    pub(crate) fn finish(self) -> Option<Run> {
        self.0
    }
}

/// Finds the positions that committed offsets of one partition have now: each is that of the first record at or behind it.
#[derive(Debug)]
pub(crate) struct Positions {
    /// What is looked for and not found yet.
    open: std::iter::Peekable<std::vec::IntoIter<i64>>,
    found: BTreeMap<i64, i64>,
}

impl Positions {
    pub(crate) fn new(wanted: impl IntoIterator<Item = Offset>) -> Positions {
        let mut wanted: Vec<i64> = wanted.into_iter().map(|offset| offset.0).collect();
        wanted.sort_unstable();
        wanted.dedup();
        Positions { open: wanted.into_iter().peekable(), found: BTreeMap::new() }
    }

    /// A record, in the order of offsets.
    pub(crate) fn see(&mut self, old: i64, new: i64) {
        while let Some(wanted) = self.open.next_if(|wanted| *wanted <= old) {
            self.found.insert(wanted, new);
        }
    }

    /// The new position of each, where those behind the last record are at the end.
    pub(crate) fn finish(mut self, end: i64) -> BTreeMap<i64, i64> {
        self.found.extend(self.open.map(|wanted| (wanted, end)));
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(pairs: &[(i64, i64)]) -> Vec<Run> {
        let mut runs = Runs::default();
        let mut all: Vec<Run> = pairs.iter().filter_map(|(old, new)| runs.push(0, *old, *new)).collect();
        all.extend(runs.finish());
        all
    }

    #[test]
    fn records_without_holes_are_one_run() {
        let run = |from, to, at| Run { partition: 0, from, to, at };
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[(5, 0), (6, 1), (7, 2)]), [run(5, 8, 0)]);
        assert_eq!(runs(&[(5, 0), (7, 1), (8, 2)]), [run(5, 6, 0), run(7, 9, 1)]);
        let mut two = Runs::default();
        assert_eq!(two.push(0, 0, 0), None);
        assert_eq!(two.push(1, 1, 1), Some(run(0, 1, 0)), "another partition");
    }

    #[test]
    fn a_committed_offset_is_at_the_first_record_at_or_behind_it() {
        // Records at 3, 4 and 9; what was before 3 is lost, 5 to 8 are holes.
        let mut positions = Positions::new([0, 3, 4, 5, 8, 9, 10, 12].map(Offset));
        for (old, new) in [(3, 100), (4, 101), (9, 102)] {
            positions.see(old, new);
        }
        let expected = [(0, 100), (3, 100), (4, 101), (5, 102), (8, 102), (9, 102), (10, 103), (12, 103)];
        assert_eq!(positions.finish(103), BTreeMap::from(expected));
    }

    proptest! {
        #[test]
        fn runs_and_positions_agree_with_the_records(
            steps in proptest::collection::vec(1..4_i64, 0..60), base in 0..50_i64,
            wanted in proptest::collection::vec(0..200_i64, 0..20)
        ) {
            let mut old = -1;
            let pairs: Vec<(i64, i64)> = steps.iter().enumerate().map(|(at, step)| {
                old += step;
                (old, base + at as i64)
            }).collect();
            let of_runs: Vec<(i64, i64)> =
                runs(&pairs).iter().flat_map(|run| (run.from..run.to).map(|old| (old, run.at + old - run.from))).collect();
            prop_assert_eq!(&of_runs, &pairs);
            let mut positions = Positions::new(wanted.iter().copied().map(Offset));
            for (old, new) in &pairs {
                positions.see(*old, *new);
            }
            let end = base + pairs.len() as i64;
            let found = positions.finish(end);
            for wanted in wanted {
                let expected = pairs.iter().find(|(old, _)| *old >= wanted).map_or(end, |(_, new)| *new);
                prop_assert_eq!(found[&wanted], expected);
            }
        }
    }
}
