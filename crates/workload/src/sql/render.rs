//! Transactions as a seed draws them: which one, and with what in the places of its placeholders.

use rand::{Rng, RngExt};

use cdc_model::units::Piece;

/// One kind of transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Names it in errors and in its row.
    pub name: String,
    /// How often it is drawn, against the weights of the others.
    pub weight: u32,
    /// Its statements, in order.
    pub statements: Vec<Vec<Piece>>,
}

/// The statements that say how many rows they touched.
const COUNTED: [&str; 7] = ["insert", "update", "delete", "merge", "select", "values", "with"];

impl Transaction {
    /// Whether every statement says how many rows it touched. What `do`, `call`, `truncate` and DDL do is in no count.
    pub(super) fn counts_rows(&self) -> bool {
        self.statements.iter().all(|pieces| {
            let Some(Piece::Text(text)) = pieces.first() else { return false };
            let word: String = text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
            COUNTED.contains(&word.to_ascii_lowercase().as_str())
        })
    }
}

/// What differs between two transactions of one kind, besides the random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) token: String,
    pub(super) number: u64,
    pub(super) writer: u32,
}

/// A transaction that is to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Draw<'t> {
    pub(super) transaction: &'t Transaction,
    /// Whether it ends with ROLLBACK.
    pub(super) rolls_back: bool,
}

/// Percent of transactions that are rolled back on purpose: their tokens must then be nowhere.
const ROLLBACK: u32 = 5;

impl<'t> Draw<'t> {
    /// Draws one of the transactions by weight; none when there is none with a weight.
    pub(super) fn by_weight(rng: &mut impl Rng, from: &'t [Transaction]) -> Option<Draw<'t>> {
        let total: u64 = from.iter().map(|t| u64::from(t.weight)).sum();
        if total == 0 {
            return None;
        }
        let mut left = rng.random_range(0..total);
        let rolls_back = rng.random_range(0..100) < ROLLBACK;
        for transaction in from {
            let weight = u64::from(transaction.weight);
            if left < weight {
                return Some(Draw { transaction, rolls_back });
            }
            left -= weight;
        }
        None
    }

    /// Its statements with everything filled in.
    pub(super) fn statements(&self, rng: &mut impl Rng, values: &Values) -> Vec<String> {
        self.transaction.statements.iter().map(|pieces| render(pieces, rng, values)).collect()
    }
}

fn render(pieces: &[Piece], rng: &mut impl Rng, values: &Values) -> String {
    let mut sql = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => sql.push_str(text),
            Piece::Token => sql.push_str(&values.token),
            Piece::Number => sql.push_str(&values.number.to_string()),
            Piece::Writer => sql.push_str(&values.writer.to_string()),
            Piece::Random(low, high) => sql.push_str(&rng.random_range(*low..=*high).to_string()),
        }
    }
    sql
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::common::stream;

    fn transactions() -> Vec<Transaction> {
        let text = |t: &str| Piece::Text(t.into());
        vec![
            Transaction {
                name: "book".into(),
                weight: 3,
                statements: vec![
                    vec![text("insert into visits values ("), Piece::Number, text(", '"), Piece::Token, text("')")],
                    vec![text("update rooms set used = "), Piece::Random(-2, 2), text(" where id = "), Piece::Writer],
                ],
            },
            Transaction { name: "cancel".into(), weight: 1, statements: vec![vec![text("delete from visits")]] },
        ]
    }

    fn drawn(rng: &mut ChaCha8Rng, count: u64) -> Vec<(String, bool, Vec<String>)> {
        let all = transactions();
        let values = |number| Values { token: format!("t-{number}"), number, writer: 7 };
        let one = |number| {
            let draw = Draw::by_weight(rng, &all).unwrap();
            (draw.transaction.name.clone(), draw.rolls_back, draw.statements(rng, &values(number)))
        };
        (1..=count).map(one).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_statements_and_another_does_not() {
        let of = |seed, load, writer| drawn(&mut stream(seed, load, writer), 200);
        assert_eq!(of(7, 1, 0), of(7, 1, 0));
        assert_ne!(of(7, 1, 0), of(8, 1, 0), "another seed");
        assert_ne!(of(7, 1, 0), of(7, 2, 0), "another load");
        assert_ne!(of(7, 1, 0), of(7, 1, 1), "another writer");
    }

    #[test]
    fn every_placeholder_is_filled() {
        let all = drawn(&mut stream(3, 1, 0), 40);
        let (at, (_, _, statements)) = all.iter().enumerate().find(|(_, (name, _, _))| name == "book").unwrap();
        assert_eq!(statements[0], format!("insert into visits values ({0}, 't-{0}')", at + 1));
        let used = statements[1].strip_prefix("update rooms set used = ").unwrap();
        let (number, rest) = used.split_once(' ').unwrap();
        assert!((-2..=2).contains(&number.parse::<i64>().unwrap()), "{number}");
        assert_eq!(rest, "where id = 7");
    }

    #[test]
    fn weights_and_rollbacks_are_about_as_frequent_as_they_say() {
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        let mut rolled_back = 0;
        for (name, rolls_back, _) in drawn(&mut stream(11, 1, 0), 4_000) {
            *names.entry(name).or_default() += 1;
            rolled_back += u32::from(rolls_back);
        }
        assert!((2_800..3_200).contains(&names["book"]), "{names:?}");
        assert!((120..280).contains(&rolled_back), "{rolled_back}");
    }

    #[test]
    fn rows_are_counted_where_every_statement_says_how_many() {
        let of = |statements: &[&str]| {
            let statements = statements.iter().map(|text| vec![Piece::Text((*text).into())]).collect();
            Transaction { name: "a".into(), weight: 1, statements }.counts_rows()
        };
        assert!(of(&["  UPDATE a set b = 1", "with x as (select 1) delete from a", "(select 1)"][..2]));
        for uncounted in
            ["truncate a", "do $$ begin end $$", "call p()", "alter table a add b int", "-- why\nupdate a", ""]
        {
            assert!(!of(&["insert into a values (1)", uncounted]), "{uncounted}");
        }
    }

    #[test]
    fn both_ends_of_a_range_are_drawn() {
        let mut rng = stream(5, 1, 0);
        let values = Values { token: String::new(), number: 1, writer: 0 };
        let seen: std::collections::BTreeSet<String> =
            (0..200).map(|_| render(&[Piece::Random(1, 3)], &mut rng, &values)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["1", "2", "3"]);
    }
}
