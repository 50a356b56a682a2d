//! Which source connectors read from one PostgreSQL cluster. A connector names its server as its worker sees it: by another
//! name than ours, by another address, or by a secret that only the worker can read.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ClientError,
    connect::{ConnectorConfig, encode},
    postgres::{Postgres, Slot},
    server_address::ServerAddress,
};
use crate::{
    debezium::{DEFAULT_DATABASE, DEFAULT_PORT, DEFAULT_SLOT},
    units::{Secret, SlotName},
};

/// A cluster as far as it is known; a dead one has no slots but those of a recovery point.
#[derive(Debug)]
pub struct Cluster {
    address: ServerAddress,
    system_id: Option<String>,
    slots: Vec<Slot>,
}

/// What became of the search.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// The connectors that read from the cluster.
    pub names: BTreeSet<String>,
    /// A slot of the cluster that several connectors name, none of whose servers can be told.
    pub contested: Option<(SlotName, Vec<String>)>,
    /// Connectors whose servers could not be told, and why. They are looked for only where no connector reads from the cluster.
    pub unknown: BTreeMap<String, String>,
}

/// Whether a connector's server is the cluster, by its own answer.
enum Identity {
    Same,
    Other,
    Untold(String),
}

impl Cluster {
    /// The cluster at an address. `slots` are those it has, or had.
    pub fn new(url: &Secret, system_id: Option<String>, slots: Vec<Slot>) -> Result<Cluster, ClientError> {
        Ok(Cluster { address: ServerAddress::of(url)?, system_id, slots })
    }

    /// Whether a PostgreSQL connector names the cluster's address.
    pub fn is_named_by(&self, connector: &ConnectorConfig) -> bool {
        let host = connector.get("database.hostname").map(String::as_str).unwrap_or_default();
        self.address.is(host, connector.get("database.port").map_or(DEFAULT_PORT, String::as_str))
    }

    /// Searches these PostgreSQL connectors. One reads from the cluster if it names its address; or if its slot is one of the
    /// cluster's that no such connector names, and its own server, where it answers, is no other. One that somebody `asked` for
    /// by name needs no slot, which may be what is lost.
    pub async fn readers<'c>(
        &self,
        connectors: impl IntoIterator<Item = (&'c str, &'c ConnectorConfig)>,
        asked: &[String],
    ) -> Readers {
        let (near, far): (Vec<_>, Vec<_>) = connectors.into_iter().partition(|(_, config)| self.is_named_by(config));
        let taken: BTreeSet<&SlotName> = near.iter().filter_map(|(_, config)| self.slot(config)).collect();
        let mut found =
            Readers { names: near.iter().map(|(name, _)| (*name).to_owned()).collect(), ..Readers::default() };
        let mut of_slot: BTreeMap<&SlotName, Vec<(&str, Identity)>> = BTreeMap::new();
        for (name, config) in &far {
            let slot = self.slot(config).filter(|slot| !taken.contains(slot));
            if slot.is_none() && !asked.iter().any(|a| a == name) {
                continue;
            }
            match (self.identity(config).await, slot) {
                (Identity::Other, _) => {}
                (identity, Some(slot)) => of_slot.entry(slot).or_default().push((name, identity)),
                (_, None) => drop(found.names.insert((*name).to_owned())),
            }
        }
        for (slot, rivals) in of_slot {
            let sure = rivals.iter().filter(|(_, identity)| matches!(identity, Identity::Same)).count();
            let owners = rivals.iter().filter(|(_, identity)| sure == 0 || matches!(identity, Identity::Same));
            let owners: Vec<String> = owners.map(|(name, _)| (*name).to_owned()).collect();
            // Several that read from the cluster for certain are a mistake of their configuration, and all of them its readers.
            match owners.len() > 1 && sure == 0 {
                true => found.contested = Some((slot.clone(), owners)),
                false => found.names.extend(owners),
            }
        }
        if found.names.is_empty() && found.contested.is_none() {
            for (name, config) in &far {
                match self.identity(config).await {
                    Identity::Same => drop(found.names.insert((*name).to_owned())),
                    Identity::Other => {}
                    Identity::Untold(why) => drop(found.unknown.insert((*name).to_owned(), why)),
                }
            }
        }
        found
    }

    /// The cluster's slot that a connector names.
    fn slot(&self, connector: &ConnectorConfig) -> Option<&SlotName> {
        let name = connector.get("slot.name").map_or(DEFAULT_SLOT, String::as_str);
        let database = connector.get("database.dbname").map_or(DEFAULT_DATABASE, String::as_str);
        let own = |s: &&Slot| s.name.as_str() == name && s.database.as_deref() == Some(database);
        self.slots.iter().find(own).map(|slot| &slot.name)
    }

    async fn identity(&self, connector: &ConnectorConfig) -> Identity {
        let Some(own) = &self.system_id else {
            return Identity::Untold("this cluster's identifier is not known".into());
        };
        let theirs = match connector_session(connector).await {
            Ok(session) => session.system_id().await.map_err(|e| e.to_string()),
            Err(why) => Err(why),
        };
        match theirs {
            Ok(theirs) if theirs == *own => Identity::Same,
            Ok(_) => Identity::Other,
            Err(why) => Identity::Untold(why),
        }
    }
}

/// Whether a connector is one of PostgreSQL's, of whatever class.
pub fn is_postgres(connector: &ConnectorConfig) -> bool {
    connector.get("connector.class").is_some_and(|class| class.to_lowercase().contains("postgres"))
}

/// A session on a PostgreSQL connector's server with its own credentials, where its configuration has them in the open.
pub async fn connector_session(connector: &ConnectorConfig) -> Result<Postgres, String> {
    let get = |key: &str, default| connector.get(key).map_or(default, String::as_str);
    if get("database.hostname", "").is_empty() {
        return Err("its configuration names no server".to_owned());
    }
    let parts = [
        get("database.user", ""),
        get("database.password", ""),
        get("database.hostname", ""),
        get("database.port", DEFAULT_PORT),
        get("database.dbname", DEFAULT_DATABASE),
    ];
    if parts.iter().any(|part| part.contains("${")) {
        return Err("its server's address or password is kept in a secret of the worker's".to_owned());
    }
    let [user, password, host, port, database] = parts.map(encode);
    let url = Secret::new(format!("postgres://{user}:{password}@{host}:{port}/{database}"));
    Postgres::connect(&url, "cdc-drill look").await.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A closed port of this machine: nobody answers, and at once.
    const CLOSED: &str = "1";

    fn cluster(slots: &[(&str, &str)]) -> Cluster {
        let slots = slots.iter().map(|(name, database)| Slot {
            name: SlotName::new(*name),
            slot_type: "logical".into(),
            plugin: Some("pgoutput".into()),
            database: Some((*database).into()),
            active: false,
            active_pid: None,
            restart_lsn: None,
            confirmed_flush_lsn: None,
            wal_status: None,
            invalidation_reason: None,
        });
        let url = Secret::new("postgres://u@127.0.0.1:7/shop");
        Cluster::new(&url, Some("1".into()), slots.collect()).unwrap()
    }

    fn connector(host: &str, port: &str, slot: &str) -> ConnectorConfig {
        let pairs = [
            ("database.hostname", host),
            ("database.port", port),
            ("database.dbname", "shop"),
            ("database.user", "u"),
            ("slot.name", slot),
        ];
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    async fn readers(slots: &[(&str, &str)], connectors: &[(&str, ConnectorConfig)], asked: &[&str]) -> Readers {
        let asked: Vec<String> = asked.iter().map(|a| (*a).to_owned()).collect();
        cluster(slots).readers(connectors.iter().map(|(name, config)| (*name, config)), &asked).await
    }

    fn names(readers: &Readers) -> Vec<&str> {
        readers.names.iter().map(String::as_str).collect()
    }

    #[tokio::test]
    async fn a_slot_tells_where_the_address_does_not() {
        let near = || ("near", connector("localhost", "7", "a"));
        let far = |slot| ("far", connector("127.0.0.1", CLOSED, slot));
        let secret = |slot| ("secret", connector("${file:/x:host}", "7", slot));
        let slots = [("a", "shop"), ("b", "shop"), ("c", "other")];
        let of = async |connectors: &[_]| readers(&slots, connectors, &[]).await;
        assert_eq!(names(&of(&[near(), far("b")]).await), ["far", "near"]);
        assert_eq!(names(&of(&[near(), secret("b")]).await), ["near", "secret"]);
        assert_eq!(names(&of(&[near(), far("a")]).await), ["near"], "the slot is another connector's");
        assert_eq!(names(&of(&[near(), far("c")]).await), ["near"], "a slot of the same name on another database");
        assert_eq!(names(&of(&[near(), far("d"), secret("d")]).await), ["near"], "no slot of the cluster's");
    }

    #[tokio::test]
    async fn who_cannot_be_told_is_said() {
        let far = |name, slot| (name, connector("127.0.0.1", CLOSED, slot));
        let found = readers(&[("b", "shop")], &[far("x", "b"), far("y", "b")], &[]).await;
        assert_eq!(found.contested, Some((SlotName::new("b"), vec!["x".to_owned(), "y".to_owned()])));
        let found = readers(&[], &[far("x", "b")], &[]).await;
        assert!(found.names.is_empty() && found.unknown.contains_key("x"));
        let found = readers(&[], &[far("x", "b")], &["x"]).await;
        assert_eq!((names(&found), found.unknown.len()), (vec!["x"], 0), "the person says so");
    }
}
