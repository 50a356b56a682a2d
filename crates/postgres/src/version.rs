//! What differs between versions of PostgreSQL.

use serde::{Deserialize, Serialize};

/// A version as `server_version_num` has it: 180001 is 18.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u32);

impl Version {
    /// The statement that asks a server for it.
    pub const SQL: &'static str = "show server_version_num";

    /// The first version of a major one.
    pub const fn of_major(major: u32) -> Version {
        Version(major * 10_000)
    }

    /// The major version: 18.
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }

    /// Whether `pg_replication_slots` has `invalidation_reason`.
    pub fn has_invalidation_reason(self) -> bool {
        self.major() >= 17
    }

    /// Whether MAINTAIN is a privilege, and one that locks a table.
    pub fn has_maintain(self) -> bool {
        self.major() >= 17
    }

    /// Whether `pg_buffercache_evict` removes a page from the cache.
    pub fn evicts_pages(self) -> bool {
        self.major() >= 17
    }

    /// Whether triggers can fire when a session begins, which `event_triggers` switches off.
    pub fn has_login_triggers(self) -> bool {
        self.major() >= 17
    }

    /// Whether a base backup can hold what has changed since another one.
    pub fn has_incremental_backups(self) -> bool {
        self.major() >= 17
    }

    /// Whether `pg_combinebackup` can link files instead of copying them.
    pub fn combines_by_links(self) -> bool {
        self.major() >= 18
    }

    /// Whether `postgres -C` reports settings that the server computes from a data folder and its preloaded libraries.
    pub fn computes_settings(self) -> bool {
        self.major() >= 15
    }

    /// Whether `archive_library` can take the place of `archive_command`.
    pub fn archives_by_library(self) -> bool {
        self.major() >= 15
    }
}

impl std::str::FromStr for Version {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Version, Self::Err> {
        text.parse().map(Version)
    }
}

/// The major version in what a program prints for `--version`: `postgres (PostgreSQL) 18.1 (Debian 18.1-1)`.
pub fn major_in(said: &str) -> Option<u32> {
    let number = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn a_version_is_a_number_in_every_form() {
        let version: Version = "150012".parse().unwrap();
        assert_eq!(
            (version.major(), version.computes_settings() && version.archives_by_library(), version.has_maintain()),
            (15, true, false)
        );
        assert!(Version::of_major(17).evicts_pages() && !Version(160_010).has_invalidation_reason());
        assert_eq!(serde_json::to_string(&version).unwrap(), "150012");
        assert_eq!(serde_json::from_str::<Version>("180001").unwrap().major(), 18);
    }

    #[rstest]
    #[case("postgres (PostgreSQL) 18.1", Some(18))]
    #[case("pg_waldump (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)", Some(15))]
    #[case("postgres (PostgreSQL) 19beta1", Some(19))]
    #[case("no version", None)]
    fn the_major_version_is_read(#[case] said: &str, #[case] major: Option<u32>) {
        assert_eq!(major_in(said), major);
    }
}
