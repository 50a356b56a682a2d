//! A stack's network.

use std::collections::HashMap;

use testcontainers_modules::testcontainers::bollard::{
    Docker,
    models::{Ipam, IpamConfig, NetworkCreateRequest},
    query_parameters::InspectNetworkOptions,
};

use super::engine::refused;
use crate::stack::{
    StackError,
    plan::{LABEL, Network},
};
use cdc_pipeline::client::{
    limits,
    wait::{Poll, until},
};

impl Network {
    /// Makes a network, with addresses that the engine chooses.
    pub(super) async fn make(docker: &Docker, name: &str) -> Result<Network, StackError> {
        if let Some(there) = Network::find(docker, name).await? {
            return Ok(there);
        }
        docker.create_network(request(name, None)).await.map_err(refused("make network", name))?;
        Network::find(docker, name).await?.ok_or_else(|| StackError::Engine {
            what: format!("make network {name}"),
            detail: "it is not there afterwards, or has no IPv4 addresses".to_owned(),
        })
    }

    /// Makes this network again, with the same addresses, if it is not there.
    pub(super) async fn ensure(&self, docker: &Docker) -> Result<(), StackError> {
        if Network::find(docker, &self.name).await?.is_some() {
            return Ok(());
        }
        let addresses = IpamConfig {
            subnet: Some(self.subnet.clone()),
            gateway: Some(self.gateway.clone()),
            ..IpamConfig::default()
        };
        let made = docker.create_network(request(&self.name, Some(addresses))).await;
        // Servers are started at the same time, and each may find the network missing: its addresses can be had once.
        if made.is_err() && Network::find(docker, &self.name).await?.is_some() {
            return Ok(());
        }
        made.map(drop).map_err(refused("make network", &self.name))
    }

    /// Removes it if nothing uses it any more. After the owner's death a program in a container of its own may end a little
    /// later than the servers, and nobody comes to clean up after it: then it is waited for.
    pub(super) async fn leave(&self, docker: &Docker, orphaned: bool) {
        // In use, or gone already: both are well.
        if !orphaned {
            let _ = docker.remove_network(&self.name).await;
            return;
        }
        let _ = until("the network to be free", limits::servers::NETWORK_FREE, || async {
            Ok::<_, StackError>(match docker.remove_network(&self.name).await {
                Err(error) if !super::engine::is_gone(&error) => Poll::NotYet(error.to_string()),
                _ => Poll::Ready(()),
            })
        })
        .await;
    }

    async fn find(docker: &Docker, name: &str) -> Result<Option<Network>, StackError> {
        let found = match docker.inspect_network(name, None::<InspectNetworkOptions>).await {
            Ok(found) => found,
            Err(error) if super::engine::is_gone(&error) => return Ok(None),
            Err(error) => return Err(refused("look at network", name)(error)),
        };
        let configs = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let plain = configs.into_iter().find_map(|c| Some((c.subnet?, c.gateway?)));
        Ok(plain.map(|(subnet, gateway)| Network { name: name.to_owned(), subnet, gateway }))
    }
}

fn request(name: &str, addresses: Option<IpamConfig>) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: name.to_owned(),
        labels: Some(HashMap::from([(LABEL.to_owned(), name.to_owned())])),
        ipam: addresses.map(|a| Ipam { config: Some(vec![a]), ..Ipam::default() }),
        ..NetworkCreateRequest::default()
    }
}
