//! Which source connectors read from one PostgreSQL cluster. A connector names its server as its worker sees it: by another
//! name than ours, by another address, or by a secret that only the worker can read.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ClientError,
    connect::{ConnectorConfig, encode},
    limits::asking,
    postgres::{Postgres, Slot},
    server_address::ServerAddress,
};
use crate::debezium::{DEFAULT_DATABASE, DEFAULT_PORT, DEFAULT_SLOT};
use cdc_model::units::{Secret, SlotName, SystemId};

/// A cluster as far as it is known; a dead one has no slots but those of a recovery point.
#[derive(Debug)]
pub struct Cluster {
    address: ServerAddress,
    system_id: Option<SystemId>,
    slots: Vec<Slot>,
    directory: Option<Directory>,
}

/// What a connector must find on its server.
#[derive(Debug)]
struct Directory {
    databases: BTreeSet<String>,
    roles: BTreeSet<String>,
}

/// Which connectors read from the cluster, as far as that is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// The connectors that read from the cluster.
    pub names: BTreeSet<String>,
    /// Slots of the cluster that several connectors name, where the server of none is known, and those connectors.
    pub contested: BTreeMap<SlotName, Vec<String>>,
    /// Connectors that may read from the cluster, whose slot may be what is lost, and why their server is not known.
    pub unknown: BTreeMap<String, String>,
    /// Connectors whose server is not known either, and by what they cannot read from the cluster.
    pub excluded: BTreeMap<String, String>,
}

/// Whether a connector's server is the cluster, by its own answer.
#[derive(Clone, Debug)]
enum Identity {
    Same,
    Other,
    Unknown(String),
}

impl Identity {
    /// Why it is not known.
    fn unknown(&self) -> Option<&String> {
        match self {
            Identity::Unknown(why) => Some(why),
            Identity::Same | Identity::Other => None,
        }
    }
}

/// A connector that does not name the cluster's address.
struct Far<'c> {
    name: &'c str,
    config: &'c ConnectorConfig,
    /// Host and port as the configuration has them, which may be references to secrets.
    server: Option<(&'c str, &'c str)>,
    identity: Identity,
}

impl<'c> Far<'c> {
    fn new(name: &'c str, config: &'c ConnectorConfig, identity: Identity) -> Far<'c> {
        let host = config.get("database.hostname").map(|host| host.trim()).filter(|host| !host.is_empty());
        let port = config.get("database.port").map_or(DEFAULT_PORT, |port| port.trim());
        Far { name, config, server: host.map(|host| (host, port)), identity }
    }
}

/// What a server answers to one connector holds for all that name it, and not for one that somebody asked for by name.
fn share_answers(far: &mut [Far<'_>], asked: &[String]) {
    let answered = far.iter().filter(|f| !matches!(f.identity, Identity::Unknown(_)));
    let answers: BTreeMap<(&str, &str), Identity> =
        answered.filter_map(|f| Some((f.server?, f.identity.clone()))).collect();
    let asks = |f: &Far<'_>| f.identity.unknown().is_some() && !asked.iter().any(|name| name == f.name);
    for one in far.iter_mut().filter(|f| asks(f)) {
        if let Some(answer) = one.server.and_then(|server| answers.get(&server)) {
            one.identity = answer.clone();
        }
    }
}

impl Cluster {
    /// The cluster at an address. `slots` are those it has, or had.
    pub fn new(url: &Secret, system_id: Option<SystemId>, slots: Vec<Slot>) -> Result<Cluster, ClientError> {
        Ok(Cluster { address: ServerAddress::of(url)?, system_id, slots, directory: None })
    }

    /// Excludes connectors whose database or user the cluster does not have, where nothing else tells. Not for one that lost
    /// databases or roles.
    #[must_use]
    pub fn with_directory(self, databases: BTreeSet<String>, roles: BTreeSet<String>) -> Cluster {
        Cluster { directory: Some(Directory { databases, roles }), ..self }
    }

    /// Whether a PostgreSQL connector names the cluster's address.
    pub fn is_named_by(&self, connector: &ConnectorConfig) -> bool {
        let host = connector.get("database.hostname").map(String::as_str).unwrap_or_default();
        self.address.is(host, connector.get("database.port").map_or(DEFAULT_PORT, String::as_str))
    }

    /// Searches these PostgreSQL connectors. One reads from the cluster if it names its address; if its server answers as the
    /// cluster; if its slot is one of the cluster's that no such connector names, and its server does not answer as another; or if
    /// it names the same server as one of these. One that somebody `asked` for by name needs no slot, which may be what is lost.
    pub async fn readers<'c>(
        &self,
        connectors: impl IntoIterator<Item = (&'c str, &'c ConnectorConfig)>,
        asked: &[String],
    ) -> Readers {
        let (near, far): (Vec<_>, Vec<_>) = connectors.into_iter().partition(|(_, config)| self.is_named_by(config));
        let far = far.into_iter().map(async |(name, config)| Far::new(name, config, self.identity(config).await));
        let mut far = futures::future::join_all(far).await;
        share_answers(&mut far, asked);
        self.divide(&near, &far, asked)
    }

    fn divide(&self, near: &[(&str, &ConnectorConfig)], far: &[Far<'_>], asked: &[String]) -> Readers {
        let same = far.iter().filter(|f| matches!(f.identity, Identity::Same)).map(|f| (f.name, f.config));
        let sure: Vec<(&str, &ConnectorConfig)> = near.iter().copied().chain(same).collect();
        let mut found =
            Readers { names: sure.iter().map(|(name, _)| (*name).to_owned()).collect(), ..Readers::default() };
        let mut holders: BTreeMap<&SlotName, &str> = BTreeMap::new();
        for (name, config) in sure {
            // Several are a mistake of their configuration, and all of them readers.
            if let Some(slot) = self.slot(config) {
                holders.entry(slot).or_insert(name);
            }
        }
        let unsure: Vec<(&Far<'_>, &String)> = far.iter().filter_map(|f| Some((f, f.identity.unknown()?))).collect();
        let mut claims: BTreeMap<&SlotName, Vec<&Far<'_>>> = BTreeMap::new();
        for (one, _) in &unsure {
            if let Some(slot) = self.slot(one.config).filter(|slot| !holders.contains_key(slot)) {
                claims.entry(slot).or_default().push(one);
            }
        }
        let mut servers: BTreeSet<(&str, &str)> = BTreeSet::new();
        for (slot, rivals) in claims {
            if let [only] = rivals.as_slice() {
                found.names.insert(only.name.to_owned());
                holders.insert(slot, only.name);
                servers.extend(only.server);
            } else {
                found.contested.insert(slot.clone(), rivals.iter().map(|f| f.name.to_owned()).collect());
            }
        }
        let contested: BTreeSet<String> = found.contested.values().flatten().cloned().collect();
        for (one, why) in unsure {
            if found.names.contains(one.name) || contested.contains(one.name) {
                continue;
            }
            let name = one.name.to_owned();
            if one.server.is_some_and(|server| servers.contains(&server)) || asked.contains(&name) {
                found.names.insert(name);
            } else if let Some(reason) = self.exclusion(one.config, &holders) {
                found.excluded.insert(name, format!("{why}, and {reason}"));
            } else {
                found.unknown.insert(name, why.clone());
            }
        }
        found
    }

    /// Why a connector cannot read from the cluster, whatever its server is.
    fn exclusion(&self, connector: &ConnectorConfig, holders: &BTreeMap<&SlotName, &str>) -> Option<String> {
        if let Some((slot, holder)) = self.slot(connector).and_then(|slot| holders.get_key_value(slot)) {
            return Some(format!("slot {slot} of this cluster is connector {holder}'s"));
        }
        let Directory { databases, roles } = self.directory.as_ref()?;
        let missing = |key: &str, default: Option<&str>, there: &BTreeSet<String>| {
            let name = connector.get(key).map(|name| name.trim()).or(default)?;
            (!name.contains("${") && !there.contains(name)).then(|| name.to_owned())
        };
        let database = missing("database.dbname", Some(DEFAULT_DATABASE), databases);
        let role = || missing("database.user", None, roles);
        database
            .map(|name| format!("this cluster has no database {name}"))
            .or_else(|| role().map(|name| format!("this cluster has no user {name}")))
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
            return Identity::Unknown("this cluster's identifier is not known".into());
        };
        // All are asked at once, and one limit holds for the session and the answer together.
        let limit = asking::POSTGRES_SESSION.now();
        let answer = async { connector_session(connector).await?.system_id().await.map_err(|e| e.to_string()) };
        let theirs = tokio::time::timeout(limit, answer).await;
        let theirs = theirs.unwrap_or_else(|_| Err(format!("its server says nothing within {} s", limit.as_secs())));
        match theirs {
            Ok(theirs) if theirs == *own => Identity::Same,
            Ok(_) => Identity::Other,
            Err(why) => Identity::Unknown(why),
        }
    }
}

/// Whether a connector is one of PostgreSQL's, of whatever class.
pub fn is_postgres(connector: &ConnectorConfig) -> bool {
    connector.get("connector.class").is_some_and(|class| class.to_lowercase().contains("postgres"))
}

/// A session on a PostgreSQL connector's server with its own credentials, where its configuration has them in the open.
async fn connector_session(connector: &ConnectorConfig) -> Result<Postgres, String> {
    Postgres::connect(&connector_url(connector)?, "cdc-drill look").await.map_err(|e| e.to_string())
}

/// The address of a PostgreSQL connector's server with its own credentials, or why the configuration does not say it.
pub fn connector_url(connector: &ConnectorConfig) -> Result<Secret, String> {
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
    // The authorities that it trusts are files of its worker's.
    let tls = match get("database.sslmode", "prefer") {
        "verify-ca" | "verify-full" => "require",
        other => other,
    };
    Ok(Secret::new(format!("postgres://{user}:{password}@{host}:{port}/{database}?sslmode={}", encode(tls))))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

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
        Cluster::new(&url, Some(SystemId(1)), slots.collect()).unwrap()
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
    async fn servers_that_say_nothing_are_asked_side_by_side() {
        let mut listeners = Vec::new();
        for _ in 0..3 {
            listeners.push(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let ports: Vec<String> = listeners.iter().map(|l| l.local_addr().unwrap().port().to_string()).collect();
        let connectors: Vec<_> = ports.iter().map(|port| (port.as_str(), connector("127.0.0.1", port, "b"))).collect();
        let asked = readers(&[], &connectors, &[]);
        let accepted = futures::future::join_all(listeners.iter().map(async |l| l.accept().await.unwrap().0));
        let open = async |sockets: Vec<tokio::net::TcpStream>| {
            for mut socket in sockets {
                // What a client says first; an end is one that has given up.
                assert!(socket.read(&mut [0; 64]).await.unwrap() > 0);
                assert!(!matches!(socket.try_read(&mut [0; 64]), Ok(0)));
            }
        };
        tokio::select! {
            () = async { open(accepted.await).await } => {}
            found = asked => panic!("the last one was not asked while the first one was: {found:?}"),
        }
    }

    #[tokio::test]
    async fn who_cannot_be_told_is_said() {
        let far = |name, slot| (name, connector("127.0.0.1", CLOSED, slot));
        let found = readers(&[("b", "shop")], &[far("x", "b"), far("y", "b")], &[]).await;
        assert_eq!(found.contested, [(SlotName::new("b"), vec!["x".to_owned(), "y".to_owned()])].into());
        assert!(found.unknown.is_empty() && found.excluded.is_empty(), "{found:?}");
        let two = [far("v", "a"), far("w", "a"), far("x", "b"), far("y", "b")];
        assert_eq!(readers(&[("a", "shop"), ("b", "shop")], &two, &[]).await.contested.len(), 2);
        let found = readers(&[], &[far("x", "b")], &[]).await;
        assert!(found.names.is_empty() && found.unknown.contains_key("x"));
        let found = readers(&[], &[far("x", "b")], &["x"]).await;
        assert_eq!((names(&found), found.unknown.len()), (vec!["x"], 0), "the person says so");
        let config = connector("10.9.8.8", "5432", "b");
        let mut far = vec![Far::new("x", &config, Identity::Other), Far::new("y", &config, silent())];
        share_answers(&mut far, &["y".to_owned()]);
        assert_eq!(
            names(&cluster(&[]).divide(&[], &far, &["y".to_owned()])),
            ["y"],
            "what others answer does not outdo it"
        );
    }

    #[tokio::test]
    async fn one_whose_slot_is_lost_is_not_passed_over() {
        let near = || ("near", connector("localhost", "7", "a"));
        let found = readers(&[("a", "shop")], &[near(), ("far", connector("127.0.0.1", CLOSED, "gone"))], &[]).await;
        assert_eq!(names(&found), ["near"]);
        assert!(found.unknown.contains_key("far"), "{found:?}");
    }

    #[tokio::test]
    async fn connectors_with_one_address_read_from_one_server() {
        let connectors = [
            ("near", connector("localhost", "7", "a")),
            ("by_slot", connector("127.0.0.1", CLOSED, "b")),
            ("lost", connector("127.0.0.1", CLOSED, "gone")),
            ("second", connector("127.0.0.1", CLOSED, "a")),
            ("elsewhere", connector("127.0.0.1", "2", "gone")),
        ];
        let found = readers(&[("a", "shop"), ("b", "shop")], &connectors, &[]).await;
        assert_eq!(names(&found), ["by_slot", "lost", "near", "second"]);
        assert_eq!(found.unknown.keys().collect::<Vec<_>>(), ["elsewhere"]);
    }

    /// What is decided of connectors that answered like this, with a near one on slot `a`.
    fn divided(far: &[(&str, ConnectorConfig, Identity)], directory: Option<(&str, &str)>) -> Readers {
        let near = connector("localhost", "7", "a");
        let mut cluster = cluster(&[("a", "shop"), ("b", "shop")]);
        if let Some((database, role)) = directory {
            cluster = cluster.with_directory([database.to_owned()].into(), [role.to_owned()].into());
        }
        let mut far: Vec<Far<'_>> =
            far.iter().map(|(name, config, identity)| Far::new(name, config, identity.clone())).collect();
        share_answers(&mut far, &[]);
        cluster.divide(&[("near", &near)], &far, &[])
    }

    fn silent() -> Identity {
        Identity::Unknown("no answer".into())
    }

    #[test]
    fn what_a_server_answers_to_one_connector_holds_for_all_that_name_it() {
        let found = divided(
            &[
                ("ours", connector("10.9.8.7", "5432", "lost"), Identity::Same),
                ("ours_too", connector("10.9.8.7", "5432", "lost"), silent()),
                ("other", connector("10.9.8.8", "5432", "lost"), Identity::Other),
                ("other_too", connector("10.9.8.8", "5432", "b"), silent()),
                ("other_port", connector("10.9.8.7", "5433", "lost"), silent()),
                ("no_host", connector("", "5432", "lost"), silent()),
            ],
            None,
        );
        assert_eq!(names(&found), ["near", "ours", "ours_too"]);
        assert_eq!(found.unknown.keys().collect::<Vec<_>>(), ["no_host", "other_port"]);
        assert!(found.excluded.is_empty() && found.contested.is_empty(), "{found:?}");
    }

    #[test]
    fn a_slot_has_one_reader_and_one_that_answers_goes_before_one_that_does_not() {
        let on = |host, slot| connector(host, "5432", slot);
        let found = divided(
            &[
                ("rival", on("10.0.0.1", "a"), silent()),
                ("sure", on("10.0.0.2", "b"), Identity::Same),
                ("unsure", on("10.0.0.3", "b"), silent()),
            ],
            None,
        );
        assert_eq!(names(&found), ["near", "sure"]);
        assert_eq!(found.excluded.keys().collect::<Vec<_>>(), ["rival", "unsure"]);
        assert!(found.excluded["rival"].contains("no answer") && found.excluded["rival"].contains("near"));
        let twice = divided(&[("rival", on("10.0.0.1", "a"), Identity::Same)], None);
        assert_eq!(names(&twice), ["near", "rival"], "two connectors on one slot are both its readers");
    }

    #[test]
    fn what_the_cluster_does_not_have_is_elsewhere() {
        let lost = || connector("10.0.0.1", "5432", "lost");
        let of = |config: ConnectorConfig, directory| {
            let found = divided(&[("far", config, silent())], Some(directory));
            (found.unknown.contains_key("far"), found.excluded.get("far").cloned().unwrap_or_default())
        };
        assert_eq!(of(lost(), ("shop", "u")), (true, String::new()));
        assert!(of(lost(), ("billing", "u")).1.contains("no database shop"));
        assert!(of(lost(), ("shop", "v")).1.contains("no user u"));
        let secret = ConnectorConfig::from([("database.user".to_owned(), "${file:/x:user}".to_owned())]);
        assert!(of(lost().into_iter().chain(secret).collect(), ("shop", "v")).0, "a secret excludes nothing");
    }
}
