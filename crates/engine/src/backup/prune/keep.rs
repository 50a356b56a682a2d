//! How long is kept.

use serde::{Deserialize, Serialize};

/// How long recovery points are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The points of the last days before the newest one, and one before them, so that each moment of these days can be reached.
    Days(u32),
    /// So many of the newest points that hold all parts, and what is newer than the oldest of them.
    Count(u32),
}
