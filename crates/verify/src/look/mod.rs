//! Looks at a living pipeline. Drills and the command look through the same [`Observer`]: what the one sees the other sees.

mod catalogue;
mod connectors;
mod held;
mod marker;
mod observer;
mod orphans;
mod registry;
mod rows;
mod server;
mod systems;
mod tables;
mod topics;

pub use connectors::connectors;
pub use held::held;
pub use marker::{Marker, arrival, quiesce};
pub use observer::{LookOptions, Observer};
pub use registry::registry;
pub use systems::Systems;
