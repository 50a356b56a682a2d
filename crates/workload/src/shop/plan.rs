//! What the next transaction will do: decided by the seed alone, given the rows the writer owns.

use std::collections::BTreeSet;

use rand::{Rng, RngExt};

use super::{kind::Kind, pool::Pool};

use cdc_model::vocabulary::Must;

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Commit,
    /// ROLLBACK.
    Rollback,
    /// The second half is undone by ROLLBACK TO SAVEPOINT, the rest commits.
    PartialRollback,
    /// The second half is a savepoint that is released: a committed subtransaction.
    Release,
}

/// One transaction as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) first: Vec<Kind>,
    /// Within a savepoint, where the ending has one.
    pub(super) second: Vec<Kind>,
    pub(super) ending: Ending,
}

/// Which tables may be written; all when there is no restriction.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed(pub(super) Option<BTreeSet<String>>);

impl Allowed {
    pub(super) fn permits(&self, kind: Kind) -> bool {
        match &self.0 {
            None => true,
            Some(tables) => kind.tables().iter().all(|t| tables.contains(*t)),
        }
    }
}

/// Percent of transactions that end otherwise than by a plain COMMIT.
const ROLLBACK: u32 = 7;
const PARTIAL: u32 = 7;
const RELEASE: u32 = 4;

impl Plan {
    /// Plans a transaction; with `must`, one that contains it if the writer's rows permit.
    pub(super) fn draw(rng: &mut impl Rng, pool: &Pool, allowed: &Allowed, must: Option<Must>) -> Plan {
        let forced = must
            .and_then(|m| Kind::that_do(m).iter().copied().find(|kind| allowed.permits(*kind) && pool.can(*kind)))
            .into_iter();
        let mut first: Vec<Kind> = forced.collect();
        let many = rng.random_range(0..3) == 0;
        if first.is_empty() {
            first.extend(Self::kind(rng, pool, allowed));
        }
        if many {
            first.extend(Self::kind(rng, pool, allowed));
        }
        let roll = rng.random_range(0..100);
        let ending = match must {
            Some(Must::RollBack) => Ending::Rollback,
            Some(Must::Savepoint) => Ending::PartialRollback,
            Some(_) => Ending::Commit,
            None if roll < ROLLBACK => Ending::Rollback,
            None if roll < ROLLBACK + PARTIAL => Ending::PartialRollback,
            None if roll < ROLLBACK + PARTIAL + RELEASE => Ending::Release,
            None => Ending::Commit,
        };
        let second = match ending {
            Ending::PartialRollback | Ending::Release => Self::kind(rng, pool, allowed).into_iter().collect(),
            Ending::Commit | Ending::Rollback => Vec::new(),
        };
        Plan { first, second, ending }
    }

    /// One thing that can be done with the writer's rows; none when nothing can.
    fn kind(rng: &mut impl Rng, pool: &Pool, allowed: &Allowed) -> Option<Kind> {
        let possible: Vec<(Kind, u32)> =
            Kind::WEIGHTS.iter().copied().filter(|(kind, _)| allowed.permits(*kind) && pool.can(*kind)).collect();
        let total: u32 = possible.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut left = rng.random_range(0..total);
        for (kind, weight) in possible {
            if left < weight {
                return Some(kind);
            }
            left -= weight;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn plans(seed: u64, allowed: &Allowed) -> Vec<Plan> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let pool = Pool::sample();
        (0..300).map(|_| Plan::draw(&mut rng, &pool, allowed, None)).collect()
    }

    #[test]
    fn the_same_seed_plans_the_same_and_another_seed_does_not() {
        assert_eq!(plans(7, &Allowed::default()), plans(7, &Allowed::default()));
        assert_ne!(plans(7, &Allowed::default()), plans(8, &Allowed::default()));
    }

    #[test]
    fn a_restriction_holds_for_all_that_is_planned() {
        let allowed = Allowed(Some(BTreeSet::from(["order_lines".to_owned()])));
        for plan in plans(7, &allowed) {
            for kind in plan.first.iter().chain(&plan.second) {
                assert_eq!(kind.tables(), ["order_lines"], "{kind:?}");
            }
        }
    }

    #[test]
    fn each_must_is_planned_where_the_rows_permit() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let pool = Pool::sample();
        for must in [Must::InsertNewKeys, Must::Update, Must::Delete, Must::ChangeKey, Must::MultiTable] {
            let plan = Plan::draw(&mut rng, &pool, &Allowed::default(), Some(must));
            assert!(Kind::that_do(must).contains(&plan.first[0]), "{must:?} {plan:?}");
            assert_eq!(plan.ending, Ending::Commit);
        }
        let plan = Plan::draw(&mut rng, &pool, &Allowed::default(), Some(Must::RollBack));
        assert_eq!(plan.ending, Ending::Rollback);
        let plan = Plan::draw(&mut rng, &pool, &Allowed::default(), Some(Must::Savepoint));
        assert_eq!((plan.ending, plan.second.len()), (Ending::PartialRollback, 1));
    }
}
