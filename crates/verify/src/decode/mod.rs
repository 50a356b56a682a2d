//! From records to events: wire formats, schemas, and values as PostgreSQL's own text. Pure.

pub mod avro;
pub mod compare;
pub mod limits;
pub mod masked;
pub mod names;
pub mod pg_type;
pub mod record;
pub mod repr;
pub mod row;
pub mod schema;
pub mod settings;
pub mod table;

#[cfg(test)]
mod neighbours;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
