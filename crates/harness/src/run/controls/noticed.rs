//! Which control comes out red where a step of the coordinated playbook is left out.

/// The drill and the check that come out red without a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticedBy {
    /// The step's name.
    pub step: &'static str,
    /// `<scenario>/<variant>`.
    pub variant: &'static str,
    /// The check's id, or `refused` where the recovery itself goes no further (exit 11 or 40).
    pub check: &'static str,
}

const fn noticed(step: &'static str, variant: &'static str, check: &'static str) -> NoticedBy {
    NoticedBy { step, variant, check }
}

/// Of each step of the coordinated playbook, in its order.
pub const COORDINATED: [NoticedBy; 16] = [
    noticed("prepare", "database-corruption/logical-disaster", "refused"),
    noticed("stop-connectors", "database-corruption/logical-disaster", "refused"),
    noticed("fence", "database-corruption/writers-continue", "restored-to-target"),
    noticed("salvage", "database-corruption/heap-pages-killed", "restored-to-target"),
    noticed("pin-timeline", "database-corruption/second-recovery", "refused"),
    noticed("restore", "database-corruption/logical-disaster", "restored-to-target"),
    noticed("open", "database-corruption/logical-disaster", "refused"),
    noticed("delete-topics", "database-corruption/logical-disaster", "ghosts"),
    noticed("recreate-topics", "database-corruption/logical-disaster", "positions"),
    noticed("group-offsets", "database-corruption/logical-disaster", "positions"),
    noticed("delete-offsets", "database-corruption/logical-disaster", "loss"),
    noticed("clear-schema-history", "database-corruption/schema-history", "positions"),
    noticed("publication", "database-corruption/publication-gap", "positions"),
    noticed("force-snapshot", "database-corruption/no-data-connector", "state"),
    noticed("resume", "database-corruption/logical-disaster", "liveness"),
    noticed("restore-config", "database-corruption/no-data-connector", "leaks"),
];

/// Of each step of a replay of topic archives, in its order.
pub const REPLAY: [NoticedBy; 4] = [
    noticed("stop-connectors", "topics-lost/deleted", "refused"),
    noticed("replay", "topics-lost/deleted", "refused"),
    noticed("group-offsets", "topics-lost/truncated", "positions"),
    noticed("resume", "topics-lost/deleted", "liveness"),
];
