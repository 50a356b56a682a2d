//! What a recovery was asked for, and whether another request is the same.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    net::{SocketAddr, ToSocketAddrs},
};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio_postgres::config::Host;

use crate::{
    backup::{Repository, files},
    client::postgres,
    config::Config,
    recovery::{Options, Playbook, RecoveryError, Request, Target},
    vocabulary::{Naive, OnConflict, TopicsRepair},
};

/// A request as it is written down. Agreements to a loss are no part of it: they may be added on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) playbook: Playbook,
    pub(crate) point: String,
    pub(crate) target: String,
    pub(crate) timeline: Option<u32>,
    #[serde(default)]
    pub(crate) system_id: Option<u64>,
    pub(crate) exclusive: bool,
    pub(crate) connectors: BTreeSet<String>,
    pub(crate) topics: TopicsRepair,
    pub(crate) on_conflict: OnConflict,
    pub(crate) undo: Vec<String>,
    /// Whether the point may be one whose checks failed.
    pub(crate) accept_inconsistent_point: bool,
    /// Whether connectors that the worker has not are made again.
    #[serde(default)]
    pub(crate) restore_connectors: bool,
    /// Whether others' connectors are looked at.
    pub(crate) neighbours: bool,
    /// What a control leaves out or does instead.
    pub(crate) omit: BTreeSet<String>,
    pub(crate) naive: Option<Naive>,
}

impl Asked {
    pub(crate) fn of(request: &Request, options: &Options) -> Asked {
        Asked {
            playbook: request.playbook,
            point: request.point.to_string(),
            target: request.target.to_string(),
            timeline: request.timeline,
            system_id: request.system_id,
            exclusive: request.exclusive,
            connectors: request.connectors.iter().cloned().collect(),
            topics: request.topics,
            on_conflict: request.on_conflict,
            undo: request.undo.clone(),
            accept_inconsistent_point: request.accept_inconsistent_point,
            restore_connectors: request.restore_connectors,
            neighbours: request.neighbours,
            omit: options.omit.clone(),
            naive: options.naive,
        }
    }

    /// The request again, with what may be agreed to now.
    pub(crate) fn request(&self, accept_loss: bool) -> Result<Request, RecoveryError> {
        let target = self.target.parse::<Target>().map_err(|why| {
            RecoveryError::impossible("the recorded request", "a target", format!("{why}"), "the record is damaged")
        })?;
        let point = self.point.parse().unwrap_or(crate::backup::PointSelector::Latest);
        Ok(Request {
            playbook: self.playbook,
            point,
            target,
            timeline: self.timeline,
            system_id: self.system_id,
            exclusive: self.exclusive,
            connectors: self.connectors.iter().cloned().collect(),
            topics: self.topics,
            on_conflict: self.on_conflict,
            undo: self.undo.clone(),
            accept_loss,
            accept_inconsistent_point: self.accept_inconsistent_point,
            restore_connectors: self.restore_connectors,
            neighbours: self.neighbours,
        })
    }

    /// As the command line says it.
    pub(crate) fn in_words(&self) -> String {
        let mut words = format!("recover run {}", self.playbook);
        let mut add = |set: bool, text: String| {
            if set {
                words += &text
            }
        };
        add(self.point != "latest", format!(" --point {}", self.point));
        add(self.target != "latest", format!(" --target {}", self.target));
        add(true, self.timeline.map(|timeline| format!(" --timeline {timeline}")).unwrap_or_default());
        add(self.exclusive, " --exclusive".to_owned());
        add(true, self.system_id.map(|id| format!(" --system-id {id}")).unwrap_or_default());
        self.connectors.iter().for_each(|name| add(true, format!(" --connector {name}")));
        add(self.accept_inconsistent_point, " --accept-inconsistent-point".to_owned());
        add(self.restore_connectors, " --restore-connectors".to_owned());
        add(self.topics == TopicsRepair::Compensate, " --topics compensate".to_owned());
        add(self.on_conflict == OnConflict::Accept, " --on-conflict accept".to_owned());
        words
    }

    /// The first thing in which another request is different: `target: time:T then, latest now`.
    pub(crate) fn differs(&self, now: &Asked) -> Option<String> {
        let (Ok(then), Ok(now)) = (serde_json::to_value(self), serde_json::to_value(now)) else { return None };
        let (then, now) = (then.as_object()?, now.as_object()?);
        let shown = |value: Option<&serde_json::Value>| match value {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "unset".to_owned(),
        };
        let other = then.iter().find(|(name, value)| now.get(*name) != Some(value));
        other.map(|(name, value)| format!("{name}: {} then, {} now", shown(Some(value)), shown(now.get(name))))
    }
}

/// Which cluster a recovery is of. Two are one if they have the same data folder or the same address, unless their system
/// identifiers say otherwise: hosts that share a repository may all call their own cluster by one path and one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterName {
    /// The data folder, by the one path that all others are resolved to; empty where the configuration names none.
    pub(crate) pgdata: String,
    /// `host:port`; empty where the address cannot be understood.
    pub(crate) address: String,
    /// The system identifier by the data folder's control file; none where that cannot be read.
    #[serde(default)]
    pub(crate) system_id: Option<u64>,
}

impl ClusterName {
    pub(crate) fn of(config: &Config) -> ClusterName {
        let pgdata = &config.postgres.pgdata;
        let place = match pgdata.as_str().is_empty() {
            true => Utf8PathBuf::new(),
            false => files::place_of(pgdata).unwrap_or_else(|_| pgdata.clone()),
        };
        let address = postgres::address(&config.postgres.url).map(|address| {
            let host = address.get_hosts().first().map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(folder) => folder.display().to_string(),
            });
            format!("{}:{}", host.unwrap_or_default(), address.get_ports().first().copied().unwrap_or(5432))
        });
        ClusterName {
            system_id: system_id(&place, &config.repository.path),
            pgdata: place.into_string(),
            address: address.unwrap_or_default(),
        }
    }

    pub(crate) fn is_that_of(&self, other: &ClusterName) -> bool {
        let differ = self.system_id.zip(other.system_id).is_some_and(|(a, b)| a != b);
        let same_folder = !self.pgdata.is_empty() && self.pgdata == other.pgdata;
        !differ && (same_folder || is_same_address(&self.address, &other.address))
    }
}

/// The identifier that begins a control file. One that the repository has no WAL of is none: the file may be damaged.
fn system_id(pgdata: &Utf8Path, repository: &Utf8Path) -> Option<u64> {
    let mut bytes = [0; 8];
    File::open(pgdata.join("global/pg_control")).and_then(|mut file| file.read_exact(&mut bytes)).ok()?;
    let id = u64::from_ne_bytes(bytes);
    let archived = Repository::open(repository).and_then(|repository| repository.archived_clusters());
    archived.is_ok_and(|known| known.contains(&id)).then_some(id)
}

/// A server has many names: `localhost`, its own, its addresses.
fn is_same_address(one: &str, other: &str) -> bool {
    let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
    let resolved =
        |address: &str| address.to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>).unwrap_or_default();
    match one.is_empty() || other.is_empty() || port(one) != port(other) {
        true => false,
        false => one == other || resolved(one).iter().any(|address| resolved(other).contains(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_request_is_the_same_and_another_one_is_named() {
        let request = Request::new(Playbook::Coordinated);
        let asked = Asked::of(&request, &Options::default());
        let agreed = Request { accept_loss: true, ..request.clone() };
        assert_eq!(asked.differs(&Asked::of(&agreed, &Options::default())), None, "an agreement may be added");
        let other = Request { target: Target::Name("before".into()), ..request.clone() };
        let why = asked.differs(&Asked::of(&other, &Options::default())).unwrap();
        assert_eq!(why, "target: latest then, name:before now");
        let omit = Options { omit: BTreeSet::from(["fence".to_owned()]), ..Options::default() };
        assert!(asked.differs(&Asked::of(&request, &omit)).unwrap().starts_with("omit"));
    }

    #[test]
    fn a_request_comes_back_from_its_record() {
        let request = Request {
            target: "time:2026-11-22T20:00:00Z".parse().unwrap(),
            timeline: Some(2),
            system_id: Some(7412),
            connectors: vec!["b".into(), "a".into()],
            ..Request::new(Playbook::Slot)
        };
        let asked = Asked::of(&request, &Options::default());
        let text = serde_json::to_string(&asked).unwrap();
        let read: Asked = serde_json::from_str(&text).unwrap();
        assert_eq!(Asked::of(&read.request(true).unwrap(), &Options::default()), asked);
        let words = "recover run slot --target time:2026-11-22T20:00:00Z --timeline 2 --system-id 7412 --connector a --connector b";
        assert_eq!(asked.in_words(), words);
    }

    fn name(pgdata: &str, address: &str) -> ClusterName {
        ClusterName { pgdata: pgdata.into(), address: address.into(), system_id: None }
    }

    #[test]
    fn a_cluster_is_told_by_its_folder_or_its_address() {
        assert!(name("/a", "h:1").is_that_of(&name("/a", "h:2")) && name("", "h:1").is_that_of(&name("/a", "h:1")));
        assert!(!name("", "").is_that_of(&name("", "")) && !name("/a", "h:1").is_that_of(&name("/b", "h:2")));
        let of = |id| ClusterName { system_id: Some(id), ..name("/a", "localhost:5432") };
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

    #[test]
    fn a_data_folder_is_one_by_every_path_and_says_who_it_is() {
        let (folder, repository) = crate::recovery::memory::tests::repository();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let data = root.join("data");
        std::fs::create_dir_all(data.join("global")).unwrap();
        std::fs::create_dir_all(repository.path().join("wal/7412")).unwrap();
        std::os::unix::fs::symlink("data", root.join("link")).unwrap();
        let named = |pgdata: Utf8PathBuf, port: u16| {
            let text = format!(
                "[postgres]\nurl = \"postgres://u@h:{port}/d\"\npgdata = \"{pgdata}\"\n[kafka]\nbootstrap = \"k:1\"\n\
                 [connect]\nurl = \"http://c\"\n[registry]\nurl = \"http://r\"\nflavour = \"apicurio\"\n[repository]\npath = \"{}\"\n",
                repository.path()
            );
            let file = root.join("cdc-drill.toml");
            std::fs::write(&file, text).unwrap();
            ClusterName::of(&Config::load(&file).unwrap())
        };
        let first = named(data.clone(), 1);
        assert_eq!((&*first.address, first.system_id), ("h:1", None), "there is no control file");
        for path in ["link", "data/", "./data", "data/../data"] {
            assert!(first.is_that_of(&named(root.join(path), 2)), "{path}");
        }
        let identify = |id: u64| std::fs::write(data.join("global/pg_control"), id.to_ne_bytes()).unwrap();
        identify(7412);
        assert_eq!(named(data.clone(), 1).system_id, Some(7412));
        identify(7413);
        assert_eq!(named(data.clone(), 1).system_id, None, "the repository has no WAL of it");
    }
}
