//! The connection to the brokers, how they are asked, and what their errors mean.

use std::sync::Arc;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};
use tokio::net::TcpStream;

use crate::{
    client::{ClientError, limits::asking},
    config::KafkaConfig,
};

/// A connection to a broker.
#[derive(Clone)]
pub struct Kafka {
    pub(super) bootstrap: String,
    pub(super) base: ClientConfig,
    pub(super) admin: Arc<AdminClient<DefaultClientContext>>,
    pub(super) inquirer: Arc<BaseConsumer>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

impl Kafka {
    /// Speaks, without TLS or credentials, to the brokers at `bootstrap` (`host:port[,host:port]`). Nothing is asked yet.
    pub fn connect(bootstrap: &str) -> Result<Kafka, ClientError> {
        Kafka::of(&KafkaConfig::plain(bootstrap))
    }

    /// Speaks to the brokers of a configuration. Nothing is asked yet.
    pub fn of(config: &KafkaConfig) -> Result<Kafka, ClientError> {
        let bootstrap = config.bootstrap.clone();
        let base = base(config);
        let wrong = |e: rdkafka::error::KafkaError| ClientError::unreachable("kafka", &bootstrap, e);
        let admin = base.create::<AdminClient<_>>().map_err(wrong)?;
        // Without a group: it is never assigned anything, and leaving a group takes a tenth of a second.
        let inquirer = base.create::<BaseConsumer>().map_err(wrong)?;
        Ok(Kafka { base, admin: Arc::new(admin), inquirer: Arc::new(inquirer), bootstrap })
    }

    /// The bootstrap address.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What a client of its own begins with.
    pub(in crate::client) fn settings(&self) -> ClientConfig {
        self.base.clone()
    }

    /// The cluster's id.
    pub async fn cluster_id(&self) -> Result<Option<String>, ClientError> {
        self.ask("cluster id", |c| Ok(c.client().fetch_cluster_id(asking::BROKER.now()))).await
    }

    /// Whether any of the addresses takes a connection: an answer within a moment, where a request would be repeated until its limit,
    /// and a worker that lost its brokers answers late and names other reasons.
    pub async fn takes_connections(&self) -> Result<(), ClientError> {
        let mut refusals = Vec::new();
        let (limit, addresses) = (asking::STATE.now(), addresses(&self.bootstrap));
        for address in &addresses {
            match tokio::time::timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => refusals.push(error.to_string()),
                Err(_) => refusals.push(format!("no connection within {} s", limit.as_secs())),
            }
        }
        if let [refusal] = refusals.as_slice() {
            return Err(ClientError::unreachable("kafka", &self.bootstrap, refusal));
        }
        let each = addresses.iter().zip(&refusals).map(|(address, refusal)| format!("{address}: {refusal}"));
        Err(ClientError::unreachable("kafka", &self.bootstrap, each.collect::<Vec<_>>().join("; ")))
    }

    /// The cluster's id, of brokers that must say it.
    pub async fn own_cluster_id(&self) -> Result<String, ClientError> {
        self.takes_connections().await?;
        let id = self.cluster_id().await?;
        id.ok_or_else(|| {
            ClientError::unreachable("kafka", &self.bootstrap, "the brokers did not say their cluster's id")
        })
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        what: impl Into<String>,
        question: impl FnOnce(&BaseConsumer) -> Result<T, rdkafka::error::KafkaError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let (consumer, bootstrap, what) = (self.inquirer.clone(), self.bootstrap.clone(), what.into());
        blocking(move || {
            question(&consumer).map_err(|e| match is_refusal(&e) {
                true => ClientError::answer("kafka", &bootstrap, what, "an answer", e.to_string()).for_good(),
                false => ClientError::unreachable("kafka", &bootstrap, format!("{what}: {e}")),
            })
        })
        .await
    }

    pub(super) fn error(&self, what: &str, error: rdkafka::error::KafkaError) -> ClientError {
        let answer = ClientError::answer("kafka", &self.bootstrap, what, "success", error.to_string());
        if is_refusal(&error) { answer.for_good() } else { answer }
    }

    pub(super) fn refused(&self, what: String, code: rdkafka::types::RDKafkaErrorCode) -> ClientError {
        ClientError::answer("kafka", &self.bootstrap, what, "success", code.to_string())
    }
}

/// The addresses of a bootstrap list, which may name a protocol and leave out the port, as librdkafka reads them.
fn addresses(bootstrap: &str) -> Vec<String> {
    let all = bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty());
    let plain = all.map(|address| address.split_once("://").map_or(address, |(_, address)| address));
    let with_port = |address: &str| match address.rsplit_once(':') {
        Some((_, port)) if port.chars().all(|c| c.is_ascii_digit()) => address.to_owned(),
        _ => format!("{address}:9092"),
    };
    plain.map(with_port).collect()
}

fn base(settings: &KafkaConfig) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.bootstrap).set("client.id", "cdc-drill");
    config.set("log.connection.close", "false");
    if let Some(protocol) = settings.security_protocol {
        config.set("security.protocol", protocol.word());
    }
    if let Some(authority) = &settings.ssl_ca {
        config.set("ssl.ca.location", authority.as_str());
    }
    if let Some(mechanism) = &settings.sasl_mechanism {
        config.set("sasl.mechanism", mechanism);
    }
    if let Some(name) = &settings.sasl_username {
        config.set("sasl.username", name);
    }
    if let Some(password) = &settings.sasl_password {
        config.set("sasl.password", password.expose());
    }
    config
}

pub(super) fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(asking::BROKER.now())).operation_timeout(Some(asking::BROKER.now()))
}

/// The client reconnects by itself; a broker that stays away is caught by the stall limit.
pub(in crate::client) fn is_transient(error: &rdkafka::error::KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
        )
    )
}

/// Whether a partition has no leader just now.
pub(super) fn is_without_leader(error: &rdkafka::error::KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(error.rdkafka_error_code(), Some(Code::LeaderNotAvailable | Code::NotLeaderForPartition))
}

/// Whether the broker knows who asks, or does not want to, and says no.
fn is_refusal(error: &rdkafka::error::KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::UnsupportedSASLMechanism
                | Code::Authentication
        )
    )
}

/// librdkafka's questions block: they run on the blocking pool.
pub(in crate::client) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => {
            Err(ClientError::Hopeless { what: "a blocking task".into(), why: join.to_string(), hints: Vec::new() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_library_reads_them() {
        let of = |bootstrap: &str| addresses(bootstrap).join(" ");
        assert_eq!(of("a:1, SASL_SSL://b:2,c,"), "a:1 b:2 c:9092");
        assert_eq!(of("[::1]:9092,[::1]"), "[::1]:9092 [::1]:9092");
    }
}
