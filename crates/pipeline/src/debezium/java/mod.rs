//! Java's regular expressions as Debezium uses them in lists: an expression must match the whole name, and letters of ASCII
//! match in either case. Each construct is translated to one with exactly the same meaning, or the expression is not used at all.

mod character;
mod class;
mod expression;
mod parser;

pub use expression::Expression;
