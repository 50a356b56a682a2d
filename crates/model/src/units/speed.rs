//! How fast a machine is.

/// The machine on which the reference times of the shipped drills were taken, in words.
pub const REFERENCE_MACHINE: &str = "2 cores, 24 GiB, quiet";

/// What a machine was measured to do, against [`REFERENCE_MACHINE`].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Speed {
    /// Cores that the process may use, by affinity and cgroup quota.
    pub cores: usize,
    /// How many times longer a unit of work takes on one core than on the reference machine; below 1 where it is faster.
    pub slowness: f64,
    /// Work that all cores do in a time, as a share of what those of the reference machine do.
    pub capacity: f64,
}

impl Speed {
    /// The factor by which times of the reference machine are stretched here: never below 1.
    pub fn scale(&self) -> f64 {
        self.slowness.max(1.0 / self.capacity).max(1.0)
    }
}
