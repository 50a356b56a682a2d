//! The server's data folder as this machine sees it. The slot playbook needs none: it says more where it can look into one, and
//! one that is another server's would make it say what is not so.

use std::{io, os::unix::fs::MetadataExt};

use camino::{Utf8Path, Utf8PathBuf};

use crate::recovery::RecoveryError;
use cdc_model::{units::IfThere, units::SystemId};
use cdc_pipeline::{client::postgres::Postgres, config::Config};
use cdc_postgres::control;

/// The data folder that the configuration names, or that its hook prints; why there is none that can be looked into. One that is
/// certainly not the live server's is an error.
pub(crate) async fn data_folder(
    config: &Config,
    server: &Postgres,
) -> Result<Result<Utf8PathBuf, String>, RecoveryError> {
    let folder = match config.settled().await {
        Ok(config) => config.postgres.pgdata,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let found = match control_file_id(&folder) {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let running = Running {
        system_id: server.system_id().await?,
        // Hidden from a role that may not read all settings.
        folder: server
            .text("select current_setting('data_directory', true)")
            .await
            .ok()
            .flatten()
            .map(Utf8PathBuf::from),
    };
    match running.other(&folder, found) {
        Err(untold) => Ok(Err(untold)),
        Ok(None) => Ok(Ok(folder)),
        Ok(Some((expected, found))) => Err(RecoveryError::impossible(
            format!("data folder {folder}"),
            expected,
            found,
            "name the running server's in [postgres] pgdata or [control.postgres] pgdata, or none: this playbook can do without",
        )),
    }
}

/// The data folder that a live server names itself, where it is a folder of this machine: beside it a recovery from another repository
/// says that it did not end. Needs no configuration; why it is not known else.
pub(crate) async fn folder_beside_which_it_is_locked(server: &Postgres) -> Result<Utf8PathBuf, String> {
    let hidden = "the server hides its data_directory from this role (grant pg_read_all_settings)";
    let asked = server.text("select current_setting('data_directory', true)").await.map_err(|e| e.to_string())?;
    let folder = Utf8PathBuf::from(asked.filter(|folder| !folder.is_empty()).ok_or(hidden)?);
    let id = server.system_id().await.map_err(|e| e.to_string())?;
    let port = server.text("select current_setting('port')").await.map_err(|e| e.to_string())?.unwrap_or_default();
    runs_on(&folder, id, &port)?;
    Ok(folder)
}

/// Whether a folder of this machine is that of the server with this system identifier and port; why not. The server may be on another
/// machine, which has a folder of the same name.
fn runs_on(folder: &Utf8Path, id: SystemId, port: &str) -> Result<(), String> {
    let found = control_file_id(folder)?;
    if found != id {
        return Err(format!("data folder {folder} is that of a cluster with system identifier {found}, and not {id}"));
    }
    let pid_file = folder.join("postmaster.pid");
    let Some(text) = looked_at(&pid_file, |path| std::fs::read_to_string(path))? else {
        return Err(format!("data folder {folder} has no postmaster.pid: nothing runs on it"));
    };
    // The process, the folder, when it began, the port.
    match text.lines().nth(3).map(str::trim) {
        Some(there) if there == port => Ok(()),
        there => Err(format!("{pid_file} is that of a server on port {}, and not {port}", there.unwrap_or("unknown"))),
    }
}

/// What the server says of itself.
struct Running {
    system_id: SystemId,
    /// Its data folder, as its own machine sees it.
    folder: Option<Utf8PathBuf>,
}

impl Running {
    /// Why a folder with this system identifier cannot be the server's: what was expected and what was found. A server on
    /// another machine, or in a container, may call the same folder by another name. An error is why it cannot be told.
    fn other(&self, folder: &Utf8Path, found: SystemId) -> Result<Option<(String, String)>, String> {
        if found != self.system_id {
            let expected = format!("that of the server, with system identifier {}", self.system_id);
            return Ok(Some((expected, format!("one with system identifier {found}"))));
        }
        if looked_at(&folder.join("postmaster.pid"), |path| path.metadata())?.is_none() {
            let found = "one without postmaster.pid: nothing runs on it";
            return Ok(Some(("that of the running server".into(), found.into())));
        }
        let Some(own) = &self.folder else { return Ok(None) };
        if looked_at(own, control::system_id)? != Some(found) || is_same(own, folder)? {
            return Ok(None);
        }
        Ok(Some((format!("that of the server, {own}"), "another of the same cluster".into())))
    }
}

fn is_same(one: &Utf8Path, other: &Utf8Path) -> Result<bool, String> {
    let place = |path: &Utf8Path| looked_at(path, |path| path.metadata().map(|meta| (meta.dev(), meta.ino())));
    let (one, other) = (place(one)?, place(other)?);
    Ok(one.is_some() && one == other)
}

/// The system identifier in a data folder; why there is none that can be read.
fn control_file_id(folder: &Utf8Path) -> Result<SystemId, String> {
    control::system_id(folder).map_err(|e| format!("{}: {e}", control::file(folder)))
}

/// What a look gives; `None` where there is no such file, and in words why it gives nothing else.
fn looked_at<T>(path: &Utf8Path, look: impl FnOnce(&Utf8Path) -> io::Result<T>) -> Result<Option<T>, String> {
    look(path).if_there().map_err(|e| format!("look at {path}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data folder of a cluster, with a server on it or without.
    fn folder(within: &Utf8Path, name: &str, id: u64, runs: bool) -> Utf8PathBuf {
        let folder = within.join(name);
        std::fs::create_dir_all(folder.join("global")).unwrap();
        std::fs::write(folder.join("global/pg_control"), id.to_le_bytes()).unwrap();
        if runs {
            std::fs::write(folder.join("postmaster.pid"), "1\n").unwrap();
        }
        folder
    }

    #[test]
    fn the_folder_that_a_server_names_is_looked_beside_only_where_that_server_runs_on_it() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let own = folder(home, "own", 7, true);
        std::fs::write(own.join("postmaster.pid"), "71\n/data\n1795773600\n5432\n/tmp\n\n 1 2\nready\n").unwrap();
        assert_eq!(runs_on(&own, SystemId(7), "5432"), Ok(()));
        let why = |folder: &Utf8Path, id, port| runs_on(folder, SystemId(id), port).unwrap_err();
        assert!(why(&own, 8, "5432").contains("identifier 7, and not 8"), "another cluster under the same path");
        assert!(why(&own, 7, "5433").contains("port 5432"), "a standby here, and the server elsewhere");
        assert!(why(&folder(home, "down", 7, false), 7, "5432").contains("nothing runs on it"));
        assert!(why(&home.join("none"), 7, "5432").contains("none/global/pg_control"));
    }

    #[test]
    fn a_folder_that_is_not_the_running_servers_is_known() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let own = folder(home, "own", 7, true);
        let stranger = folder(home, "stranger", 8, true);
        let aside = folder(home, "aside", 7, false);
        let copy = folder(home, "copy", 7, true);
        let alias = home.join("alias");
        std::os::unix::fs::symlink(&own, &alias).unwrap();
        let running = Running { system_id: SystemId(7), folder: Some(own.clone()) };
        let other = |folder: &Utf8Path| running.other(folder, control_file_id(folder).unwrap()).unwrap();
        assert_eq!(other(&own), None);
        assert_eq!(other(&alias), None, "the same folder by another name");
        assert!(other(&stranger).unwrap().1.contains("identifier 8"));
        assert!(other(&aside).unwrap().1.contains("postmaster.pid"));
        assert!(other(&copy).unwrap().0.contains(own.as_str()));
        // Of a container, or hidden: what the server calls its folder is no folder of this machine.
        for folder in [Some("/nowhere/data".into()), None] {
            let running = Running { system_id: SystemId(7), folder };
            assert_eq!(running.other(&copy, SystemId(7)), Ok(None));
            assert!(running.other(&aside, SystemId(7)).unwrap().is_some());
        }
        // Neither "nothing runs on it" nor "it is the server's": that is not known.
        let looped = aside.join("postmaster.pid");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        assert!(running.other(&aside, SystemId(7)).unwrap_err().contains("postmaster.pid"));
        let hidden = Running { system_id: SystemId(7), folder: Some(looped.clone()) };
        assert!(hidden.other(&copy, SystemId(7)).unwrap_err().contains(looped.as_str()));
        assert!(control_file_id(&home.join("none")).unwrap_err().contains("none/global/pg_control"));
    }
}
