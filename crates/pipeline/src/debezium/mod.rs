//! What a Debezium PostgreSQL connector captures: its lists, its topics' names, and what its publication sends it. Pure: it
//! knows a connector's settings, the catalogue and the publication as values, and asks no system.

mod capture;
mod connector;
mod java;
mod lists;
mod masks;
mod membership;
mod operations;
mod topics;

pub use capture::{Captured, Coverage, Inheritance, Member, Publication, Relation, RelationKind, Stream};
pub use connector::{CLASS, Connector, DEFAULT_DATABASE, DEFAULT_PORT, DEFAULT_PUBLICATION, DEFAULT_SLOT, is_debezium};
pub use java::Expression;
pub use lists::{Choice, Lists, Unknown, Unmatched};
pub use masks::{Masking, Masks};
pub use membership::Membership;
pub use operations::{Operation, Operations};
pub use topics::{NAMING_STRATEGY, TopicNames};
