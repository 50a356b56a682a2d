//! Which image each server runs from.

use serde::{Deserialize, Serialize};

/// A server that has an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// The source database.
    Postgres,
    /// The broker.
    Kafka,
    /// The Connect worker with Debezium.
    Connect,
    /// The schema registry.
    Registry,
}

impl Server {
    pub(super) const ALL: [Server; 4] = [Server::Postgres, Server::Kafka, Server::Connect, Server::Registry];

    /// Its name in messages.
    pub(super) fn word(self) -> &'static str {
        match self {
            Server::Postgres => "postgres",
            Server::Kafka => "kafka",
            Server::Connect => "connect",
            Server::Registry => "registry",
        }
    }

    /// The environment variable that names another image.
    pub(super) fn variable(self) -> &'static str {
        match self {
            Server::Postgres => "CDC_DRILL_IMAGE_POSTGRES",
            Server::Kafka => "CDC_DRILL_IMAGE_KAFKA",
            Server::Connect => "CDC_DRILL_IMAGE_CONNECT",
            Server::Registry => "CDC_DRILL_IMAGE_REGISTRY",
        }
    }
}

/// The images, each as `name:tag`. By default the official ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// PostgreSQL.
    pub postgres: String,
    /// Apache Kafka.
    pub kafka: String,
    /// Debezium Connect.
    pub connect: String,
    /// Apicurio Registry.
    pub registry: String,
}

impl Default for Images {
    fn default() -> Self {
        Images {
            postgres: "postgres:18".to_owned(),
            kafka: "apache/kafka:4.3.1".to_owned(),
            connect: "quay.io/debezium/connect:3.6".to_owned(),
            registry: "quay.io/apicurio/apicurio-registry:3.3.3".to_owned(),
        }
    }
}

impl Images {
    /// The defaults, with what `CDC_DRILL_IMAGE_POSTGRES`, `_KAFKA`, `_CONNECT` and `_REGISTRY` name instead.
    pub(crate) fn from_environment() -> Images {
        Images::named(|variable| std::env::var(variable).ok())
    }

    fn named(value: impl Fn(&str) -> Option<String>) -> Images {
        let mut images = Images::default();
        for server in Server::ALL {
            if let Some(named) = value(server.variable()).filter(|v| !v.is_empty()) {
                *images.named_mut(server) = named;
            }
        }
        images
    }

    pub(super) fn of(&self, server: Server) -> &str {
        match server {
            Server::Postgres => &self.postgres,
            Server::Kafka => &self.kafka,
            Server::Connect => &self.connect,
            Server::Registry => &self.registry,
        }
    }

    fn named_mut(&mut self, server: Server) -> &mut String {
        match server {
            Server::Postgres => &mut self.postgres,
            Server::Kafka => &mut self.kafka,
            Server::Connect => &mut self.connect,
            Server::Registry => &mut self.registry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_the_environment_and_the_others_stay() {
        let images = Images::named(|v| (v == "CDC_DRILL_IMAGE_POSTGRES").then(|| "mirror:5000/postgres:15".to_owned()));
        assert_eq!(images, Images { postgres: "mirror:5000/postgres:15".to_owned(), ..Images::default() });
        assert_eq!(Images::named(|_| Some(String::new())), Images::default());
    }
}
