//! Locks of a repository and of a data folder: which activities exclude one another, and who is at work.

mod cluster;
mod file;
mod heartbeat;
mod held;
mod holder;
mod matrix;
mod object;
mod place;
mod taken;

pub use cluster::ClusterName;
pub use file::Left;
pub use holder::host;
pub use matrix::Activity;
pub use taken::Lock;
