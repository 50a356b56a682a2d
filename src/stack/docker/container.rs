//! A server's container: what it is made of, and how it is started.

use camino::Utf8PathBuf;
use nix::unistd::getpid;
use serde::{Deserialize, Serialize};
use testcontainers_modules::testcontainers::{
    ContainerAsync, GenericImage, ImageExt, TestcontainersError,
    core::{IntoContainerPort, Mount, WaitFor, wait::ExitWaitStrategy},
    runners::AsyncRunner,
};

use super::{Network, engine, sweep};
use crate::{
    client::limits,
    config::Means,
    stack::{
        Process, StackError,
        local::{ServerPlan, shell_word},
    },
};

/// On every container and network: which network they belong to.
pub(super) const LABEL: &str = "cdc-drill.stack";
/// On every server's container: the process that removes it.
pub(super) const SUPERVISOR: &str = "cdc-drill.supervisor";

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

    /// Does something to the running container.
    pub(in crate::stack) async fn disturb(&self, means: Means) -> Result<(), StackError> {
        match means {
            Means::Pause => engine::pause(&self.name).await,
            Means::Disconnect => engine::disconnect(&self.name, &self.network).await,
            Means::Memory(mib) => engine::limit_memory(&self.name, Some(u64::from(mib) << 20)).await,
        }
    }

    /// Takes back what was done to it.
    pub(in crate::stack) async fn settle(&self) -> Result<(), StackError> {
        engine::unpause(&self.name).await?;
        engine::connect(&self.name, &self.network).await?;
        engine::limit_memory(&self.name, None).await
    }

    /// Lets this process's account remove what the image's own account wrote; root needs no leave.
    pub(super) async fn open_folders(&self) -> Result<(), StackError> {
        // One that runs as this process's account writes files of this process's account.
        if self.user.is_some() || self.folders.is_empty() {
            return Ok(());
        }
        let (image, tag) = split(&self.image);
        let opening = GenericImage::new(image, tag)
            .with_entrypoint("chmod")
            .with_wait_for(WaitFor::exit(ExitWaitStrategy::default().with_exit_code(0)));
        let inside = self.folders.iter().map(|(_, inside)| inside.as_str());
        let mut request = opening.with_cmd(["-R", "a+rwX"].into_iter().chain(inside)).with_user("0:0");
        for (outside, inside) in &self.folders {
            request = request.with_mount(Mount::bind_mount(outside.as_str(), inside.as_str()));
        }
        let failed = |error: TestcontainersError| StackError::Container {
            server: "chmod".to_owned(),
            image: self.image.clone(),
            detail: error.to_string(),
        };
        let opened = request.with_label(LABEL, &self.network.name).start().await.map_err(failed)?;
        opened.rm().await.map_err(failed)
    }

    /// Starts the container.
    pub(super) async fn start(&self, plan: &ServerPlan) -> Result<ContainerAsync<GenericImage>, StackError> {
        let (image, tag) = split(&self.image);
        let gateway = self.network.gateway.clone();
        let me = getpid().as_raw();
        let me = Process::of(me).unwrap_or(Process { pid: me, start: 0 });
        let mut request = GenericImage::new(image, tag)
            .with_container_name(&self.name)
            .with_network(&self.network.name)
            .with_label(LABEL, &self.network.name)
            .with_label(SUPERVISOR, sweep::text(me))
            .with_startup_timeout(limits::servers::CONTAINER.now())
            // Where only this machine and the stack's containers are.
            .with_host_config_modifier(move |host| {
                for bindings in host.port_bindings.iter_mut().flat_map(|all| all.values_mut()).flatten() {
                    bindings.iter_mut().for_each(|binding| binding.host_ip = Some(gateway.clone()));
                }
            });
        for (outside, inside) in &self.ports {
            request = request.with_mapped_port(*outside, inside.tcp());
        }
        for (outside, inside) in &self.folders {
            request = request.with_mount(Mount::bind_mount(outside.as_str(), inside.as_str()));
        }
        for (name, value) in &plan.env {
            request = request.with_env_var(name, value);
        }
        if !plan.argv.is_empty() {
            request = request.with_cmd(&plan.argv);
        }
        if let Some(user) = &self.user {
            request = request.with_user(user);
        }
        request.start().await.map_err(|error| StackError::Container {
            server: plan.name.clone(),
            image: self.image.clone(),
            detail: error.to_string(),
        })
    }
}

/// A registry's port also comes after a colon: the tag is what follows the last one, unless a path follows.
fn split(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_name_and_a_tag() {
        assert_eq!(split("postgres:18"), ("postgres", "18"));
        assert_eq!(split("mirror:5000/postgres"), ("mirror:5000/postgres", "latest"));
        assert_eq!(split("mirror:5000/postgres:15-alpine"), ("mirror:5000/postgres", "15-alpine"));
    }
}
