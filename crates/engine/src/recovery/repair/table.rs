//! The steps of a repair, under the name that its record has of them.

use super::Repair;
use crate::recovery::step::Step;

/// A list of steps over a repair.
pub(crate) struct Table {
    /// Its name in records.
    pub(crate) name: &'static str,
    /// The steps in their order.
    pub(crate) steps: &'static [Step<Repair>],
}
