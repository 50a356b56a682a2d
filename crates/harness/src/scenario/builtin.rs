//! The scenarios and fixtures that the program carries with it, so that they run where no checkout is.

/// Path from the repository's root, and text.
type File = (&'static str, &'static str);

macro_rules! carried {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../", $path)))),*]
    };
}

/// The scenarios, in the order in which they run.
pub(super) const SCENARIOS: &[File] = carried![
    "scenarios/recovery/database-corruption.yaml",
    "scenarios/recovery/slot-loss.yaml",
    "scenarios/recovery/schema-conflict.yaml",
    "scenarios/recovery/topics-lost.yaml",
];

/// What they name.
pub(super) const FIXTURES: &[File] = carried![
    "fixtures/sql/shop.sql",
    "fixtures/sql/pgbench.sql",
    "fixtures/connectors/shop.json",
    "fixtures/connectors/pgbench.json",
];
