//! The server's data folder as this machine sees it. The slot playbook needs none: it says more where it can look into one, and
//! one that is another server's would make it say what is not so.

use std::{io::Read, os::unix::fs::MetadataExt};

use camino::{Utf8Path, Utf8PathBuf};

use crate::{client::postgres::Postgres, config::Config, recovery::RecoveryError};

/// The data folder that the configuration names, or that its hook prints; why there is none that can be looked into. One that is
/// certainly not the live server's is an error.
pub(crate) async fn data_folder(
    config: &Config,
    server: &Postgres,
) -> Result<Result<Utf8PathBuf, String>, RecoveryError> {
    let folder = match config.settled().await {
        Ok(config) => config.postgres.pgdata,
        Err(error) => return Ok(Err(error.to_string().lines().next().unwrap_or_default().to_owned())),
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
    match running.other(&folder, &found) {
        None => Ok(Ok(folder)),
        Some((expected, found)) => Err(RecoveryError::impossible(
            format!("data folder {folder}"),
            expected,
            found,
            "name the running server's in [postgres] pgdata or [control.postgres] pgdata, or none: this playbook can do without",
        )),
    }
}

/// What the server says of itself.
struct Running {
    system_id: String,
    /// Its data folder, as its own machine sees it.
    folder: Option<Utf8PathBuf>,
}

impl Running {
    /// Why a folder with this system identifier cannot be the server's: what was expected and what was found. A server on
    /// another machine, or in a container, may call the same folder by another name.
    fn other(&self, folder: &Utf8Path, found: &str) -> Option<(String, String)> {
        if found != self.system_id {
            let expected = format!("that of the server, with system identifier {}", self.system_id);
            return Some((expected, format!("one with system identifier {found}")));
        }
        if !folder.join("postmaster.pid").exists() {
            return Some((
                "that of the running server".into(),
                "one without postmaster.pid: nothing runs on it".into(),
            ));
        }
        let own = self.folder.as_deref().filter(|own| control_file_id(own).as_deref() == Ok(found))?;
        (!is_same(own, folder)).then(|| (format!("that of the server, {own}"), "another of the same cluster".into()))
    }
}

fn is_same(one: &Utf8Path, other: &Utf8Path) -> bool {
    let place = |path: &Utf8Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    place(one).is_some() && place(one) == place(other)
}

/// The system identifier in a data folder: the first eight bytes of its control file.
fn control_file_id(folder: &Utf8Path) -> Result<String, String> {
    let file = folder.join("global/pg_control");
    let mut bytes = [0u8; 8];
    let read = std::fs::File::open(&file).and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(|e| format!("{file}: {e}"))?;
    Ok(u64::from_le_bytes(bytes).to_string())
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
    fn a_folder_that_is_not_the_running_servers_is_known() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let own = folder(home, "own", 7, true);
        let stranger = folder(home, "stranger", 8, true);
        let aside = folder(home, "aside", 7, false);
        let copy = folder(home, "copy", 7, true);
        let alias = home.join("alias");
        std::os::unix::fs::symlink(&own, &alias).unwrap();
        let running = Running { system_id: "7".into(), folder: Some(own.clone()) };
        let other = |folder: &Utf8Path| running.other(folder, &control_file_id(folder).unwrap());
        assert_eq!(other(&own), None);
        assert_eq!(other(&alias), None, "the same folder by another name");
        assert!(other(&stranger).unwrap().1.contains("identifier 8"));
        assert!(other(&aside).unwrap().1.contains("postmaster.pid"));
        assert!(other(&copy).unwrap().0.contains(own.as_str()));
        // Of a container, or hidden: what the server calls its folder is no folder of this machine.
        for folder in [Some("/nowhere/data".into()), None] {
            let running = Running { system_id: "7".into(), folder };
            assert_eq!(running.other(&copy, "7"), None);
            assert!(running.other(&aside, "7").is_some());
        }
        assert!(control_file_id(&home.join("none")).unwrap_err().contains("none/global/pg_control"));
    }
}
