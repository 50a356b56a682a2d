//! Which cluster a recovery is of.

use serde::{Deserialize, Serialize};

use crate::{client::postgres, config::Config};

/// Which cluster a recovery is of: two recoveries are of one if they have the same data folder or the same address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterName {
    /// The data folder; empty where the configuration names none.
    pub pgdata: String,
    /// `host:port`; empty where the address cannot be understood.
    pub address: String,
}

impl ClusterName {
    /// The cluster that a configuration names.
    pub fn of(config: &Config) -> ClusterName {
        let address = postgres::address(&config.postgres.url).map(|address| {
            let host = address.get_hosts().first().map(|host| format!("{host:?}")).unwrap_or_default();
            format!("{host}:{}", address.get_ports().first().copied().unwrap_or(5432))
        });
        ClusterName { pgdata: config.postgres.pgdata.to_string(), address: address.unwrap_or_default() }
    }

    /// Whether both name one cluster.
    pub fn is_that_of(&self, other: &ClusterName) -> bool {
        let same = |a: &str, b: &str| !a.is_empty() && a == b;
        same(&self.pgdata, &other.pgdata) || same(&self.address, &other.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_told_by_its_folder_or_its_address() {
        let name = |pgdata: &str, address: &str| ClusterName { pgdata: pgdata.into(), address: address.into() };
        assert!(name("/a", "h:1").is_that_of(&name("/a", "h:2")) && name("", "h:1").is_that_of(&name("/a", "h:1")));
        assert!(!name("", "").is_that_of(&name("", "")) && !name("/a", "h:1").is_that_of(&name("/b", "h:2")));
    }
}
