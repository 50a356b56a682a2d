//! Which cluster a configuration names.

use camino::{Utf8Path, Utf8PathBuf};
use tokio_postgres::config::Host;

use super::{ClusterName, Repository, files};
use cdc_model::{units::IfThere, units::SystemId};
use cdc_pipeline::{client::postgres, config::Config};
use cdc_postgres::control;

impl ClusterName {
    /// The cluster that a configuration names.
    pub fn of(config: &Config) -> ClusterName {
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
}

/// The identifier that begins a control file. One that the repository has no WAL of is none: the file may be damaged. Without an
/// identifier folder and address decide, and then a cluster is rather taken for the same than for another one.
fn system_id(pgdata: &Utf8Path, repository: &Utf8Path) -> Option<SystemId> {
    let id = match control::system_id(pgdata).if_there() {
        Ok(there) => there?,
        Err(error) => {
            tracing::debug!(path = %control::file(pgdata), %error, "the control file does not say which cluster this is");
            return None;
        }
    };
    let archived = Repository::open(repository).and_then(|repository| repository.archived_clusters());
    archived.is_ok_and(|known| known.contains(&id)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_is_one_by_every_path_and_says_who_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let repository = Repository::init(&root.join("repository")).unwrap();
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
        assert_eq!(named(data.clone(), 1).system_id, Some(SystemId(7412)));
        identify(7413);
        assert_eq!(named(data.clone(), 1).system_id, None, "the repository has no WAL of it");
    }
}
