//! SQL with placeholders, taken apart: what a scenario writes and a workload fills.

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Goes to the server as it is.
    Text(String),
    /// `{token}`: the transaction's token, unique over runs and timelines; letters, digits, `_` and `-`, without quotes.
    Token,
    /// `{n}`: a number from 1, the same wherever it stands in one transaction and in no other transaction of the drill.
    Number,
    /// `{writer}`: the writer's number, from 0.
    Writer,
    /// `{random:A..B}`: a number from A to B, both included, drawn anew at each place.
    Random(i64, i64),
}
