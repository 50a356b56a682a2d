//! A server's container: what it is made of, and how it is started.

use nix::unistd::getpid;
use testcontainers_modules::testcontainers::{
    ContainerAsync, GenericImage, ImageExt, TestcontainersError,
    core::{IntoContainerPort, Mount, WaitFor, wait::ExitWaitStrategy},
    runners::AsyncRunner,
};

use super::{engine, label};
use crate::stack::{
    Process, StackError,
    plan::{ContainerPlan, LABEL, ServerPlan},
};
use cdc_pipeline::{client::limits, config::Means};

impl ContainerPlan {
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
            .with_label(label::SUPERVISOR, label::text(me))
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

/// Does something to the running container.
pub(in crate::stack) async fn disturb(container: &ContainerPlan, means: Means) -> Result<(), StackError> {
    match means {
        Means::Pause => engine::pause(&container.name).await,
        Means::Disconnect => engine::disconnect(&container.name, &container.network).await,
        Means::Memory(mib) => engine::limit_memory(&container.name, Some(u64::from(mib) << 20)).await,
    }
}

/// Takes back what was done to it.
pub(in crate::stack) async fn settle(container: &ContainerPlan) -> Result<(), StackError> {
    engine::unpause(&container.name).await?;
    engine::connect(&container.name, &container.network).await?;
    engine::limit_memory(&container.name, None).await
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
