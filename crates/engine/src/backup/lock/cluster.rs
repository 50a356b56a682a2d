//! Which cluster a recovery is of, as its record and its lock name it.

use std::net::{SocketAddr, ToSocketAddrs};

use cdc_model::units::SystemId;

use serde::{Deserialize, Serialize};

/// Which cluster a recovery is of. Two are one if they have the same data folder or the same address, unless their system
/// identifiers say otherwise: hosts that share a repository may all call their own cluster by one path and one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterName {
    /// The data folder, by the one path that all others are resolved to; empty where the configuration names none.
    pub pgdata: String,
    /// `host:port`; empty where the address cannot be understood.
    pub address: String,
    /// The system identifier by the data folder's control file; none where that cannot be read.
    #[serde(default)]
    pub system_id: Option<SystemId>,
}

impl ClusterName {
    /// Whether both name one cluster.
    pub(crate) fn is_that_of(&self, other: &ClusterName) -> bool {
        let differ = self.system_id.zip(other.system_id).is_some_and(|(a, b)| a != b);
        let same_folder = !self.pgdata.is_empty() && self.pgdata == other.pgdata;
        !differ && (same_folder || is_same_address(&self.address, &other.address))
    }
}

/// A server has many names: `localhost`, its own, its addresses.
fn is_same_address(one: &str, other: &str) -> bool {
    let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
    let resolved =
        |address: &str| address.to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>).unwrap_or_default();
    match one.is_empty() || other.is_empty() || port(one) != port(other) {
        true => false,
        false if one == other => true,
        false => {
            let theirs = resolved(other);
            resolved(one).iter().any(|address| theirs.contains(address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pgdata: &str, address: &str) -> ClusterName {
        ClusterName { pgdata: pgdata.into(), address: address.into(), system_id: None }
    }

    #[test]
    fn a_cluster_is_told_by_its_folder_or_its_address() {
        assert!(name("/a", "h:1").is_that_of(&name("/a", "h:2")) && name("", "h:1").is_that_of(&name("/a", "h:1")));
        assert!(!name("", "").is_that_of(&name("", "")) && !name("/a", "h:1").is_that_of(&name("/b", "h:2")));
        let of = |id| ClusterName { system_id: Some(SystemId(id)), ..name("/a", "localhost:5432") };
        assert!(of(1).is_that_of(&of(1)) && of(1).is_that_of(&name("/a", "")) && !of(1).is_that_of(&of(2)));
    }

    #[test]
    fn an_address_has_other_names() {
        let at = |address| name("", address);
        assert!(at("localhost:5432").is_that_of(&at("127.0.0.1:5432")));
        assert!(!at("localhost:5432").is_that_of(&at("127.0.0.1:5433")));
        assert!(!at("10.0.0.1:5432").is_that_of(&at("10.0.0.2:5432")));
        assert!(at("/run/postgresql:5432").is_that_of(&at("/run/postgresql:5432")));
    }
}
