//! The Docker engine's own requests, as far as containers of a stack need them.

use std::collections::HashMap;

use futures::StreamExt;
use nix::sys::signal::Signal;
use testcontainers_modules::testcontainers::{
    bollard::{
        Docker,
        errors::Error,
        models::{ContainerState, ContainerUpdateBody, NetworkConnectRequest, NetworkDisconnectRequest},
        query_parameters::{
            CreateImageOptions, InspectContainerOptions, KillContainerOptions, LogsOptions, RemoveContainerOptions,
            WaitContainerOptions,
        },
    },
    core::client::docker_client_instance,
};
use tokio::io::AsyncWriteExt;

use crate::stack::{Process, Progress, StackError, plan::Network};

/// The engine, if it answers.
pub(super) async fn engine() -> Result<Docker, StackError> {
    let docker = docker_client_instance().await.map_err(|e| StackError::NoDocker { detail: e.to_string() })?;
    docker.ping().await.map_err(|e| StackError::NoDocker { detail: e.to_string() })?;
    Ok(docker)
}

pub(super) fn refused<'a>(what: &'a str, name: &'a str) -> impl Fn(Error) -> StackError + 'a {
    move |error| StackError::Engine { what: format!("{what} {name}"), detail: error.to_string() }
}

/// Not there (404), or there and not running (409).
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404 | 409, .. })
}

/// Requires an image, which is pulled when it is not there. `server` and `variable` are for the error.
pub(super) async fn require_image(
    docker: &Docker,
    image: &str,
    server: &str,
    variable: &str,
    progress: &dyn Progress,
) -> Result<(), StackError> {
    match docker.inspect_image(image).await {
        Ok(_) => return Ok(()),
        Err(error) if is_gone(&error) => {}
        Err(error) => return Err(refused("look at image", image)(error)),
    }
    progress.line(&format!("pulling image {image}"));
    let options = CreateImageOptions { from_image: Some(image.to_owned()), ..CreateImageOptions::default() };
    let mut pulling = docker.create_image(Some(options), None, None);
    while let Some(step) = pulling.next().await {
        step.map_err(|error| StackError::Image {
            image: image.to_owned(),
            server: server.to_owned(),
            variable: variable.to_owned(),
            detail: error.to_string(),
        })?;
    }
    Ok(())
}

/// Sends a signal to a container's main process; a container that is gone does not mind.
pub(in crate::stack) async fn signal(container: &str, signal: Signal) -> Result<(), StackError> {
    let options = KillContainerOptions { signal: signal.as_str().to_owned() };
    match engine().await?.kill_container(container, Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(refused("signal container", container)(error)),
    }
}

/// Freezes every process of a container: its connections stay open, and nothing answers.
pub(super) async fn pause(container: &str) -> Result<(), StackError> {
    engine().await?.pause_container(container).await.map_err(refused("pause container", container))
}

/// Lets a paused container go on.
pub(super) async fn unpause(container: &str) -> Result<(), StackError> {
    let docker = engine().await?;
    if state_of(&docker, container).await?.paused != Some(true) {
        return Ok(());
    }
    docker.unpause_container(container).await.map_err(refused("unpause container", container))
}

/// Takes a container off its network: nobody reaches it, and it reaches nobody.
pub(super) async fn disconnect(container: &str, network: &Network) -> Result<(), StackError> {
    let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(false) };
    let asked = engine().await?.disconnect_network(&network.name, request).await;
    asked.map_err(refused("disconnect container", container))
}

/// Puts a container back on its network, if it is off it.
pub(super) async fn connect(container: &str, network: &Network) -> Result<(), StackError> {
    let docker = engine().await?;
    let found = docker.inspect_container(container, None::<InspectContainerOptions>).await;
    let found = found.map_err(refused("look at container", container))?;
    let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    if networks.contains_key(&network.name) {
        return Ok(());
    }
    let request = NetworkConnectRequest { container: container.to_owned(), endpoint_config: None };
    let asked = docker.connect_network(&network.name, request).await;
    asked.map_err(refused("connect container", container))
}

/// Sets the most memory that a container may use, in bytes, swap included; none for no limit.
pub(super) async fn limit_memory(container: &str, bytes: Option<u64>) -> Result<(), StackError> {
    let limit = bytes.map_or(-1, |bytes| bytes as i64);
    let request = ContainerUpdateBody { memory: Some(limit.max(0)), memory_swap: Some(limit), ..Default::default() };
    let asked = engine().await?.update_container(container, request).await;
    asked.map(drop).map_err(refused("limit the memory of container", container))
}

/// The container's main process, by its number on this machine.
pub(super) async fn process_of(docker: &Docker, container: &str) -> Result<Process, StackError> {
    let state = state_of(docker, container).await?;
    if state.running != Some(true) {
        let code = state.exit_code.unwrap_or_default();
        let detail = format!("it ended at once with exit status {code}; its log says why");
        return Err(StackError::Engine { what: format!("start container {container}"), detail });
    }
    let pid = state.pid.filter(|pid| *pid > 0);
    let process = pid.and_then(|pid| Process::of(pid as i32));
    process.ok_or_else(|| StackError::Engine {
        what: format!("find the process of container {container}"),
        detail: "the engine's containers are not among this machine's processes; it must run on this machine"
            .to_owned(),
    })
}

async fn state_of(docker: &Docker, container: &str) -> Result<ContainerState, StackError> {
    let found = docker.inspect_container(container, None::<InspectContainerOptions>).await;
    Ok(found.map_err(refused("look at container", container))?.state.unwrap_or_default())
}

/// Returns when the container's main process has ended.
pub(super) async fn ended(docker: &Docker, container: &str) {
    let mut waiting = docker.wait_container(container, None::<WaitContainerOptions>);
    while let Some(Ok(_)) = waiting.next().await {}
}

/// Appends everything that the container writes to a file, until it ends.
pub(super) async fn follow_log(docker: Docker, container: String, file: std::fs::File) {
    let options = LogsOptions { follow: true, stdout: true, stderr: true, ..LogsOptions::default() };
    let mut lines = docker.logs(&container, Some(options));
    let mut file = tokio::fs::File::from_std(file);
    while let Some(Ok(line)) = lines.next().await {
        let _ = file.write_all(&line.into_bytes()).await;
        let _ = file.flush().await;
    }
}

/// Ends and removes a container with its anonymous volumes; one that is gone does not mind.
pub(super) async fn remove(docker: &Docker, container: &str) -> Result<(), StackError> {
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    match docker.remove_container(container, Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(refused("remove container", container)(error)),
    }
}

/// What filters a listing by a label.
pub(super) fn labelled(label: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![label.to_owned()])])
}
