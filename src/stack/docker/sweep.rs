//! Removes what supervisors left behind that were killed themselves, and networks that nobody uses any more.

use std::os::unix::fs::MetadataExt;

use testcontainers_modules::testcontainers::bollard::{
    Docker,
    query_parameters::{ListContainersOptions, ListNetworksOptions},
};

use super::{
    container::{LABEL, SUPERVISOR},
    engine::{labelled, refused, remove},
};
use crate::{
    client::limits,
    stack::{Process, StackError},
};

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

/// The label's text for a process: its number, its start time, by which a number that is used again is known, and the PID namespace in
/// which it has that number.
pub(super) fn text(process: Process) -> String {
    let namespace = namespace().map(|inode| format!(".{inode}")).unwrap_or_default();
    format!("{}.{}{namespace}", process.pid, process.start)
}

/// The PID namespace of this process.
fn namespace() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/pid").ok().map(|meta| meta.ino())
}

/// Whether the process of a label has ended. Of one in another PID namespace nobody here can tell: another run may be at work there.
fn has_ended(text: &str) -> bool {
    let mut parts = text.split('.');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (Some(pid), Some(start)) = (number().and_then(|pid| pid.try_into().ok()), number()) else { return false };
    let elsewhere = number().is_some_and(|theirs| Some(theirs) != namespace());
    !elsewhere && !Process { pid, start }.alive()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_known_by_its_start_time_and_its_namespace() {
        let this = Process::of(std::process::id().try_into().unwrap()).unwrap();
        assert!(!has_ended(&text(this)));
        assert!(has_ended(&text(Process { start: this.start + 1, ..this })), "the number is another process's now");
        let elsewhere = format!("{}.{}.1", this.pid, this.start + 1);
        assert!(!has_ended(&elsewhere), "the process of that number is not the one that is meant");
        assert!(has_ended(&format!("{}.{}", this.pid, this.start + 1)), "a label of an earlier release");
        assert!(!has_ended("seven"));
    }

    #[test]
    fn a_network_of_a_run_that_begins_is_left_alone() {
        let now = jiff::Timestamp::now().as_second();
        assert!(is_old(now - 3600) && !is_old(now - 3));
    }
}
