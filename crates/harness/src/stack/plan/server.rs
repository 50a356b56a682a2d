//! How one server is run, wherever that is.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::container::ContainerPlan;
use crate::stack::{Account, StackError};

/// How one server is run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerPlan {
    /// `postgres`, `kafka`, `connect` or `registry`.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working folder.
    pub cwd: Utf8PathBuf,
    /// Where its output goes.
    pub log: Utf8PathBuf,
    /// How clients reach it, without secrets.
    pub endpoint: String,
    /// Where it listens.
    pub ports: Vec<u16>,
    /// The signal that stops it cleanly.
    pub stop_signal: String,
    /// The signal that ends it at once when its owner has died.
    pub end_signal: String,
    /// Who it runs as.
    pub account: Account,
    /// The container that it runs in; none for a process of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerPlan>,
}

impl ServerPlan {
    /// The address that its ports belong to.
    pub(in crate::stack) fn host(&self) -> &str {
        self.container.as_ref().map_or("127.0.0.1", |container| container.network.gateway.as_str())
    }
}

/// A signal by its name.
pub(in crate::stack) fn parse_signal(name: &str) -> Result<Signal, StackError> {
    name.parse().map_err(|_| StackError::Setting {
        what: "signal".to_owned(),
        expected: "a name such as SIGTERM".to_owned(),
        found: name.to_owned(),
    })
}
