//! The servers that drills share: broker, Connect worker, and a registry that no drill may damage.

use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Emitter, RunError, engine::Census};
use crate::{
    config::{ConnectConfig, KafkaConfig, RegistryConfig},
    event::What,
    stack::{
        Programs, Progress,
        local::{LocalStack, OwnerLock, Part, RegistrySpec, RegistryStorageKind as StorageKind, StackSpec},
    },
};

/// Broker, worker and registry. When it is dropped, they end.
#[derive(Debug)]
pub struct Servers {
    /// The broker.
    pub kafka: KafkaConfig,
    /// The Connect worker.
    pub connect: ConnectConfig,
    /// The registry.
    pub registry: RegistryConfig,
    stack: LocalStack,
    _owner: OwnerLock,
}

impl Servers {
    /// Starts them in `dir` and returns when all answer.
    pub async fn start(
        dir: &Utf8Path,
        programs: &Programs,
        progress: &dyn Progress,
        emit: &Emitter,
        census: &Census,
    ) -> Result<Servers, RunError> {
        let spec = StackSpec {
            kafka: Part::Local(()),
            connect: Part::Local(()),
            registry: Part::Local(RegistrySpec::new(StorageKind::H2)),
            ..StackSpec::default()
        };
        let began = Instant::now();
        let mut stack = LocalStack::create(dir, spec, programs)?;
        let owner = stack.own()?;
        census.add(stack.folder());
        let servers = stack.start_all(progress).await?;
        emit.emit(What::StackReady { seconds: began.elapsed().as_secs_f64(), servers });
        Ok(Servers {
            kafka: stack.kafka_config()?,
            connect: stack.connect_config()?,
            registry: stack.registry_config()?,
            stack,
            _owner: owner,
        })
    }

    /// Where their logs are.
    pub fn logs(&self) -> Utf8PathBuf {
        self.stack.dir().join("logs")
    }

    /// Stops them cleanly.
    pub async fn stop(&self) -> Result<(), RunError> {
        Ok(self.stack.stop_all().await?)
    }
}
