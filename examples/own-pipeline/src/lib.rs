//! Your application. Its drills are in `tests/drills.rs`; schema, connector and scenario lie beside it.
