//! The servers that drills share: broker, Connect worker, and a registry that no drill may damage. They are the run's own, or
//! those of a pipeline that exists.

use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};

use super::Census;
use crate::{
    run::{Emitter, RunError},
    stack::{Backend, LocalStack, OwnerLock, Part, Progress, RegistrySpec, StackSpec},
};
use cdc_model::{event::What, vocabulary::RegistryStorageKind};
use cdc_pipeline::{
    attach::{self, AttachError},
    config::{Config, ConnectConfig, KafkaConfig, Permission, RegistryConfig},
};

/// Broker, worker and registry. When it is dropped, they end.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The broker.
    pub kafka: KafkaConfig,
    /// The Connect worker.
    pub connect: ConnectConfig,
    /// The registry.
    pub registry: RegistryConfig,
    own: Option<(LocalStack, OwnerLock)>,
}

impl Servers {
    /// Starts them in `dir` and returns when all answer.
    pub(crate) async fn start(
        dir: &Utf8Path,
        backend: &dyn Backend,
        progress: &dyn Progress,
        emit: &Emitter,
        census: &Census,
    ) -> Result<Servers, RunError> {
        let spec = StackSpec {
            kafka: Part::Local(()),
            connect: Part::Local(()),
            registry: Part::Local(RegistrySpec::new(RegistryStorageKind::H2)),
            ..StackSpec::default()
        };
        let began = Instant::now();
        let mut stack = LocalStack::create(dir, spec, backend)?;
        let owner = stack.own()?;
        census.add(stack.folder());
        let servers = stack.start_all(progress).await?;
        emit.emit(What::StackReady { seconds: began.elapsed().as_secs_f64(), servers });
        Ok(Servers {
            kafka: stack.kafka_config()?,
            connect: stack.connect_config()?,
            registry: stack.registry_config()?,
            own: Some((stack, owner)),
        })
    }

    /// Those of a pipeline that exists, where its configuration permits faults and it carries its marker. Drills leave its
    /// PostgreSQL alone: each brings a cluster of its own.
    pub(crate) async fn attached(config: &Config, emit: &Emitter) -> Result<Servers, RunError> {
        may_drill(config).await?;
        emit.emit(What::StackReady { seconds: 0.0, servers: Vec::new() });
        let (kafka, connect, registry) = (config.kafka.clone(), config.connect.clone(), config.registry.clone());
        Ok(Servers { kafka, connect, registry, own: None })
    }

    /// Whether they are somebody's: then nothing may be changed on them that does not have a drill's name.
    pub(crate) fn are_attached(&self) -> bool {
        self.own.is_none()
    }

    /// Where their logs are, when they are the run's own.
    pub(crate) fn logs(&self) -> Option<Utf8PathBuf> {
        self.own.as_ref().map(|(stack, _)| stack.dir().join("logs"))
    }

    /// Stops them cleanly, when they are the run's own.
    pub(crate) async fn stop(&self) -> Result<(), RunError> {
        match &self.own {
            Some((stack, _)) => Ok(stack.stop_all().await?),
            None => Ok(()),
        }
    }
}

/// Requires a configuration that permits drills on what it names, and that it names what carries the marker.
pub async fn may_drill(config: &Config) -> Result<(), AttachError> {
    if config.attach.is_none() {
        return Err(AttachError::Refused {
            what: "configuration".into(),
            expected: "a section [attach] that permits `inject`".into(),
            found: "none: it is not one of a pipeline to attach to".into(),
            hint: "docs/attach.md says what belongs into it".into(),
        });
    }
    attach::permit(config, Permission::Inject).await
}
