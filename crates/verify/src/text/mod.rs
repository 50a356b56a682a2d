//! PostgreSQL's own text output, made from what Connect carries: numbers, times, arrays, intervals. Pure.

pub mod array;
pub mod interval;
pub mod number;
pub mod time;
