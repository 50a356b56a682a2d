//! The container that a server runs in, and its network: what they are, as data.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use cdc_model::units::shell_word;

/// On every container and network: which network they belong to.
pub(in crate::stack) const LABEL: &str = "cdc-drill.stack";

/// What a container has beside the command and environment of its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// Its name, which is also its host name on the network.
    pub name: String,
    /// `name:tag`.
    pub image: String,
    /// The network it joins.
    pub network: Network,
    /// Ports at the network's gateway, each with the container's port behind it.
    pub ports: Vec<(u16, u16)>,
    /// Folders of this machine, each with its path inside.
    pub folders: Vec<(Utf8PathBuf, Utf8PathBuf)>,
    /// `uid:gid` where it is not the image's own.
    pub user: Option<String>,
}

/// A network and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name, which also begins those of its containers.
    pub name: String,
    /// Its addresses: `172.18.0.0/16`.
    pub subnet: String,
    /// This machine's address on it, where the servers' ports are published.
    pub gateway: String,
}

impl ContainerPlan {
    /// The words that run a program of the image beside the server's files: see `config::Tools`.
    pub(in crate::stack) fn tool(&self) -> String {
        let user = self.user.as_deref().unwrap_or("0:0");
        let folders: String = ["CDC_DRILL_DATA", "CDC_DRILL_REPOSITORY", "CDC_DRILL_SCRATCH"]
            .map(|name| format!(" --volume \"${name}:${name}\""))
            .concat();
        let network = &self.network.name;
        format!(
            "docker run --rm --interactive --network {network} --label {LABEL}={network} --user {user} --env PGPASSWORD{folders} --entrypoint '' {}",
            shell_word(&self.image)
        )
    }
}
