//! Removes what supervisors left behind that were killed themselves, and networks that nobody uses any more.

use testcontainers_modules::testcontainers::bollard::{
    Docker,
    query_parameters::{ListContainersOptions, ListNetworksOptions},
};

use super::{
    engine::{labelled, refused, remove},
    label::{SUPERVISOR, has_ended},
};
use crate::stack::{StackError, plan::LABEL};
use cdc_pipeline::client::limits;

/// Looks at every container with this program's label; those whose supervisor has ended are removed. Then networks with the
/// label that have no container are.
pub(super) async fn sweep(docker: &Docker) -> Result<(), StackError> {
    let options = ListContainersOptions { all: true, filters: Some(labelled(LABEL)), ..Default::default() };
    let containers = docker.list_containers(Some(options)).await.map_err(refused("list", "containers"))?;
    for container in containers {
        let supervisor = container.labels.as_ref().and_then(|labels| labels.get(SUPERVISOR));
        let orphan = supervisor.is_some_and(|text| has_ended(text));
        if let (true, Some(id)) = (orphan, &container.id) {
            tracing::warn!(container = ?container.names, "its supervisor has ended; removing it");
            remove(docker, id).await?;
        }
    }
    let options = ListNetworksOptions { filters: Some(labelled(LABEL)) };
    let networks = docker.list_networks(Some(options)).await.map_err(refused("list", "networks"))?;
    let old = networks.into_iter().filter(|network| network.created.is_none_or(|made| is_old(made.unix_timestamp())));
    for name in old.filter_map(|network| network.name) {
        // One in use is refused.
        let _ = docker.remove_network(&name).await;
    }
    Ok(())
}

/// Whether something was made long ago, in seconds since 1970.
fn is_old(made: i64) -> bool {
    jiff::Timestamp::now().as_second() - made > limits::facts::CONTAINER_YOUNG.as_secs() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_a_run_that_begins_is_left_alone() {
        let now = jiff::Timestamp::now().as_second();
        assert!(is_old(now - 3600) && !is_old(now - 3));
    }
}
