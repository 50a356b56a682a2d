//! The worker's own client of the registry: a kept-alive connection that is closed under a request must not fail a task.

use std::{
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use camino::Utf8PathBuf;
use cdc_harness::stack::{ConnectorRequest, debezium_config};
use cdc_model::units::TableName;
use cdc_pipeline::client::{ClientError, connect::Connect, kafka::Kafka, wait};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::sandbox::{DEADLINE, Stack};

/// Answers one request of a connection; whatever comes next on it is cut off, as by a server that has just ended. Counts the POST
/// requests that it cut.
async fn closing_proxy(to: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cut = Arc::new(AtomicUsize::new(0));
    let counted = cut.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(one_request(client, to.clone(), counted.clone()));
        }
    });
    (address, cut)
}

async fn one_request(mut client: TcpStream, to: String, cut: Arc<AtomicUsize>) {
    let mut server = TcpStream::connect(&to).await.unwrap();
    let (mut asked, mut answered, mut answering) = (vec![0; 65536], vec![0; 65536], false);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(n) if n > 0 && !answering => server.write_all(&asked[..n]).await.unwrap(),
                Ok(n) => {
                    cut.fetch_add(usize::from(asked[..n].starts_with(b"POST")), Ordering::Relaxed);
                    return;
                }
                Err(_) => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(n) if n > 0 => {
                    answering = true;
                    client.write_all(&answered[..n]).await.unwrap();
                }
                _ => return,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_registry_closes_fails_no_task() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().join("stack")).unwrap();
    let stack = Stack::up(path, "");
    let rows = "create table orders (id int primary key, note text); create table lines (line int primary key, note text); \
                insert into orders select g, 'x' || g from generate_series(1, 200) g; insert into lines select 1, 'y'";
    stack.sql("postgres").await.run("create database shop").await.unwrap();
    stack.sql("shop").await.run(rows).await.unwrap();
    let registry = stack.config().registry.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let (proxy, cut) = closing_proxy(registry).await;
    let tables = vec![TableName::new("public", "lines"), TableName::new("public", "orders")];
    let request = ConnectorRequest { name: "shop".into(), database: "shop".into(), tables };
    let mut connector = debezium_config(stack.config(), &request).unwrap();
    for side in ["key", "value"] {
        let url = format!("http://{proxy}/apis/registry/v2");
        connector.insert(format!("{side}.converter.apicurio.registry.url"), url);
    }
    let connect = Connect::of(&stack.config().connect);
    connect.put_config("shop", &connector).await.unwrap();
    let kafka = Kafka::of(&stack.config().kafka).unwrap();
    wait::until("both tables in their topics", DEADLINE, || async {
        let status = connect.status("shop").await?;
        let seen = format!("{} POSTs were cut; {}", cut.load(Ordering::Relaxed), status.summary());
        assert_eq!(status.failure(), None, "{seen}");
        let ends = kafka.watermarks("shop.public.orders").await?;
        Ok::<_, ClientError>(match ends.iter().map(|(_, end)| end.0).sum::<i64>() {
            200.. => wait::Poll::Ready(()),
            _ => wait::Poll::NotYet(seen),
        })
    })
    .await
    .unwrap();
    assert!(cut.load(Ordering::Relaxed) > 0, "no POST was cut: nothing was shown");
}
