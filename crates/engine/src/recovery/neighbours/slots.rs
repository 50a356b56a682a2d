//! The slots of connectors on whatever servers, asked with their own credentials where their configurations have them in the open.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cdc_pipeline::{
    client::{
        ClientError,
        cluster::{connector_url, is_postgres},
        connect::ConnectorConfig,
        postgres::{Postgres, Slot},
    },
    debezium::{Connector, DEFAULT_PORT},
};

/// What is known of a connector's slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SlotSeen {
    /// As its server shows it.
    There(Slot),
    /// Its server answered, and has none of that name.
    Absent,
    /// Nobody could look, and why.
    Unseen(String),
}

/// The slots of these connectors, in their order. Each server is asked once, at the same time as the others, and has `limit` for it:
/// what it answers to one connector holds for all that name it.
pub(super) async fn of(connectors: &[&ConnectorConfig], limit: Duration) -> Vec<SlotSeen> {
    let mut servers: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (index, config) in connectors.iter().enumerate() {
        if let Some(server) = server_of(config) {
            servers.entry(server).or_default().push(index);
        }
    }
    let asked = servers.into_values().map(async |indices| {
        let slots = tokio::time::timeout(limit, ask(indices.iter().map(|index| connectors[*index]))).await;
        (indices, slots.unwrap_or_else(|_| Err(format!("its server says nothing within {} s", limit.as_secs()))))
    });
    let mut seen = vec![SlotSeen::Unseen("it reads from no PostgreSQL".to_owned()); connectors.len()];
    for (indices, slots) in futures::future::join_all(asked).await {
        for index in indices {
            seen[index] = find(connectors[index], &slots);
        }
    }
    seen
}

/// Host and port of a PostgreSQL connector's server.
fn server_of(config: &ConnectorConfig) -> Option<(&str, &str)> {
    let host = config.get("database.hostname").map(|host| host.trim()).filter(|host| !host.is_empty());
    let port = config.get("database.port").map_or(DEFAULT_PORT, |port| port.trim());
    host.filter(|_| is_postgres(config)).map(|host| (host, port))
}

fn find(config: &ConnectorConfig, slots: &Result<Vec<Slot>, String>) -> SlotSeen {
    let wanted = Connector::of(config).slot;
    match slots {
        Ok(slots) => slots.iter().find(|slot| slot.name == wanted).cloned().map_or(SlotSeen::Absent, SlotSeen::There),
        Err(why) => SlotSeen::Unseen(why.clone()),
    }
}

/// The slots of the one server that these connectors name, by the first of them that it lets in. A server that is not reached is not
/// asked again, and no credentials are tried twice.
async fn ask(connectors: impl Iterator<Item = &ConnectorConfig>) -> Result<Vec<Slot>, String> {
    let (mut tried, mut refused) = (BTreeSet::new(), "its server was not asked".to_owned());
    for config in connectors {
        let url = match connector_url(config) {
            Ok(url) if !tried.insert(url.expose().to_owned()) => continue,
            Ok(url) => url,
            Err(why) => {
                refused = why;
                continue;
            }
        };
        let slots = match Postgres::connect(&url, "cdc-drill look").await {
            Ok(session) => session.slots().await,
            Err(error) => Err(error),
        };
        match slots {
            Ok(slots) => return Ok(slots),
            Err(error @ ClientError::Answer { .. }) => refused = error.to_string(),
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::Barrier,
    };

    use super::*;

    fn connector(port: u16, user: &str) -> ConnectorConfig {
        let pairs = [
            ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
            ("database.hostname", "127.0.0.1"),
            ("database.port", &port.to_string()),
            ("database.dbname", "shop"),
            ("database.user", user),
            ("database.sslmode", "disable"),
        ];
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// A server that counts its clients and answers them with `answer` once all of `together` have been met.
    async fn server(answer: &'static [u8], together: Arc<Barrier>) -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, met) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&met);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut message = [0; 512];
                let _ = stream.read(&mut message).await;
                together.wait().await;
                let _ = stream.write_all(answer).await;
            }
        });
        (port, met)
    }

    const REFUSED: &[u8] = b"E\0\0\0\x17SFATAL\0C28P01\0Mno\0\0";
    /// Long enough that nothing here ends by it.
    const LONG: Duration = Duration::from_secs(600);

    fn unseen(seen: &SlotSeen) -> &str {
        match seen {
            SlotSeen::Unseen(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn servers_are_asked_side_by_side_and_each_credential_once() {
        // Neither answers before both were asked.
        let together = Arc::new(Barrier::new(2));
        let (one, met_by_one) = server(REFUSED, Arc::clone(&together)).await;
        let (two, met_by_two) = server(REFUSED, together).await;
        let configs = [connector(one, "a"), connector(two, "a"), connector(one, "a"), connector(two, "a")];
        let seen = of(&configs.iter().collect::<Vec<_>>(), LONG).await;
        assert!(seen.iter().all(|seen| unseen(seen).contains("28P01")), "{seen:?}");
        assert_eq!((met_by_one.load(Ordering::SeqCst), met_by_two.load(Ordering::SeqCst)), (1, 1));
    }

    #[tokio::test]
    async fn one_that_is_not_let_in_does_not_keep_another_from_looking() {
        let (port, met) = server(REFUSED, Arc::new(Barrier::new(1))).await;
        let configs = [connector(port, "${file:/secret:user}"), connector(port, "a"), connector(port, "b")];
        let seen = of(&configs.iter().collect::<Vec<_>>(), LONG).await;
        assert!(seen.iter().all(|seen| unseen(seen).contains("28P01")), "{seen:?}");
        assert_eq!(met.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_server_that_hangs_is_asked_once_for_all_of_its_connectors() {
        let (port, met) = server(REFUSED, Arc::new(Barrier::new(usize::MAX))).await;
        let configs: Vec<ConnectorConfig> = (0..20).map(|n| connector(port, &format!("user{n}"))).collect();
        let seen = of(&configs.iter().collect::<Vec<_>>(), Duration::from_secs(1)).await;
        assert!(seen.iter().all(|seen| unseen(seen) == "its server says nothing within 1 s"), "{seen:?}");
        assert!(met.load(Ordering::SeqCst) <= 1, "{met:?}");
    }

    #[tokio::test]
    async fn what_reads_from_no_postgresql_is_not_asked() {
        let other = ConnectorConfig::from([("connector.class".to_owned(), "io.debezium.connector.mysql".to_owned())]);
        assert_eq!(unseen(&of(&[&other], LONG).await[0]), "it reads from no PostgreSQL");
    }

    #[test]
    fn a_slot_that_is_not_there_is_not_one_that_was_not_seen() {
        let config = connector(1, "a");
        assert_eq!(find(&config, &Ok(Vec::new())), SlotSeen::Absent);
        assert_eq!(find(&config, &Err("silent".to_owned())), SlotSeen::Unseen("silent".to_owned()));
    }
}
