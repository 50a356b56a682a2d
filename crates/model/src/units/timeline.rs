//! Timelines of a PostgreSQL cluster.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

/// A timeline, counted from 1: a cluster begins a new one whenever it is promoted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(NonZeroU32);

/// Text that is not a timeline.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a timeline (expected a number from 1)")]
pub struct TimelineError(pub String);

impl Timeline {
    /// The timeline that `initdb` makes. It has no history.
    pub const FIRST: Timeline = Timeline(NonZeroU32::MIN);

    /// The timeline of this number; none for 0.
    pub const fn new(number: u32) -> Option<Timeline> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Timeline(number)),
            None => None,
        }
    }

    /// The timeline of a number that is known not to be 0.
    ///
    /// # Panics
    ///
    /// On 0: in a constant, when it is compiled.
    pub const fn literal(number: u32) -> Timeline {
        match Timeline::new(number) {
            Some(timeline) => timeline,
            None => panic!("timelines are counted from 1"),
        }
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl FromStr for Timeline {
    type Err = TimelineError;
    fn from_str(text: &str) -> Result<Timeline, TimelineError> {
        text.parse().map(Timeline).map_err(|_| TimelineError(text.to_owned()))
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_is_a_number_from_one() {
        let two: Timeline = "2".parse().unwrap();
        assert_eq!((two.get(), two.to_string(), format!("{two:?}")), (2, "2".to_owned(), "2".to_owned()));
        assert_eq!(serde_json::to_string(&two).unwrap(), "2");
        assert_eq!(serde_json::from_str::<Timeline>("2").unwrap(), two);
        assert!(Timeline::FIRST < two && Timeline::new(1) == Some(Timeline::FIRST));
        assert_eq!("0".parse::<Timeline>(), Err(TimelineError("0".into())));
        assert!(Timeline::new(0).is_none() && serde_json::from_str::<Timeline>("0").is_err());
    }
}
