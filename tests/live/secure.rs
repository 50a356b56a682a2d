//! TLS and SASL against real servers: who has no credentials, or does not trust the authority, does not get in. Certificates are
//! made by `openssl` when a test begins.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use camino::Utf8Path;
use cdc_harness::stack::{Account, LocalStack, Native, Part, Programs, Silent, StackSpec};
use cdc_pipeline::{
    client::{kafka::Kafka, postgres::Postgres, wait},
    config::{Config, ConnectConfig, RegistryConfig, RegistryFlavour},
};

use super::prepared::folder;

fn openssl(folder: &Utf8Path, line: &str) {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `ca.pem`, `stranger.pem` (an authority that signed nothing), and `server.key`, `server.pem` for 127.0.0.1.
fn certificates(folder: &Utf8Path) {
    for name in ["ca", "stranger"] {
        openssl(
            folder,
            &format!("req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"),
        );
    }
    openssl(folder, "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server");
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem",
    );
}

/// A configuration in a file, as a person writes it; what it does not name is nobody.
fn config(folder: &Utf8Path, postgres: &str, kafka: &str) -> Config {
    let file = folder.join("cdc-drill.toml");
    let text = format!(
        "[postgres]\n{postgres}\n[kafka]\n{kafka}\n[connect]\nurl = 'http://127.0.0.1:1'\n[registry]\n\
         url = 'http://127.0.0.1:1'\nflavour = 'apicurio'\n[repository]\npath = 'repository'\n"
    );
    std::fs::write(&file, text).unwrap();
    Config::load(&file).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_lets_in_who_has_credentials_and_trusts_its_authority() {
    let (_folder, path) = folder();
    certificates(&path);
    let store = path.join("store.pem");
    let both = ["server.key", "server.pem"].map(|f| std::fs::read_to_string(path.join(f)).unwrap()).concat();
    std::fs::write(&store, both).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required user_drill=\"hunter2\";";
    let settings = [
        ("listeners", format!("@listeners@,SECURE://127.0.0.1:{port}")),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:@port@,SECURE://127.0.0.1:{port}")),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL".into()),
        ("listener.name.secure.sasl.enabled.mechanisms", "PLAIN".into()),
        ("listener.name.secure.plain.sasl.jaas.config", jaas.into()),
        ("listener.name.secure.ssl.keystore.type", "PEM".into()),
        ("listener.name.secure.ssl.keystore.location", store.to_string()),
    ];
    let nobody = "http://127.0.0.1:1";
    let spec = StackSpec {
        kafka: Part::Local(()),
        connect: Part::External(ConnectConfig::plain(nobody, "connect-offsets")),
        registry: Part::External(RegistryConfig::plain(nobody, RegistryFlavour::Apicurio, None)),
        kafka_settings: settings.map(|(key, value)| (key.to_owned(), value)).into(),
        ..StackSpec::default()
    };
    let mut stack =
        LocalStack::create(&path.join("stack"), spec, &Native::new(Programs::ensure(&Silent).await.unwrap())).unwrap();
    let _owner = stack.own().unwrap();
    stack.start_all(&Silent).await.unwrap();

    std::fs::write(path.join("good"), "hunter2\n").unwrap();
    std::fs::write(path.join("bad"), "hunter3\n").unwrap();
    let kafka = |authority: &str, password: &str| {
        let text = format!(
            "bootstrap = '127.0.0.1:{port}'\nsecurity_protocol = 'sasl_ssl'\nssl_ca = '{authority}'\nsasl_mechanism = 'PLAIN'\n\
             sasl_username = 'drill'\nsasl_password_file = '{password}'"
        );
        Kafka::of(&config(&path, "url = 'postgres://127.0.0.1:1'", &text).kafka).unwrap()
    };
    let let_in = kafka("ca.pem", "good");
    assert!(!format!("{let_in:?}").contains("hunter2"));
    let spec = cdc_pipeline::client::kafka::TopicSpec {
        name: "t".into(),
        partitions: 1,
        replication: 1,
        settings: Default::default(),
    };
    let_in.create_topics(std::slice::from_ref(&spec)).await.unwrap();
    let_in.produce("t", Some(0), None, Some(b"over SASL_SSL")).await.unwrap();
    assert_eq!(let_in.read_all("t").await.unwrap()[0].value.as_deref(), Some(&b"over SASL_SSL"[..]));
    let first = let_in.topic_ids(&["t".to_owned(), "nowhere".to_owned()]).await.unwrap();
    assert_eq!(first.len(), 1);
    let_in.delete_topics(&["t".to_owned()]).await.unwrap();
    let_in.create_topics(&[spec]).await.unwrap();
    assert_ne!(let_in.topic_ids(&["t".to_owned()]).await.unwrap(), first, "a topic that was made again is another one");

    let wrong_password = kafka("ca.pem", "bad");
    let wrong_authority = kafka("stranger.pem", "good");
    let (one, two) = tokio::join!(wrong_password.topics(), wrong_authority.topics());
    assert!(one.is_err() && two.is_err(), "{one:?} {two:?}");
    stack.stop_all().await.unwrap();
}

/// Ends the server.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// PostgreSQL's programs with TLS compiled in: those of the pinned stack have none, Debian's do.
fn tls_programs() -> Option<TlsPrograms> {
    let root = Path::new("/usr/lib/postgresql");
    let mut versions: Vec<_> = std::fs::read_dir(root).ok()?.flatten().map(|e| e.path().join("bin")).collect();
    versions.sort();
    let bin = versions.into_iter().rev().find(|bin| bin.join("initdb").exists())?;
    Some(TlsPrograms { initdb: bin.join("initdb"), postgres: bin.join("postgres") })
}

struct TlsPrograms {
    initdb: std::path::PathBuf,
    postgres: std::path::PathBuf,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_as_far_as_its_certificate_goes() {
    let programs = tls_programs().expect("a PostgreSQL with TLS in /usr/lib/postgresql: Debian's package postgresql");
    let (_folder, path) = folder();
    certificates(&path);
    let account = Account::choose().unwrap();
    let home = path.join("home");
    account.folder(&home).unwrap();
    std::fs::write(home.join("password"), "hunter2").unwrap();
    for file in ["server.key", "server.pem"] {
        std::fs::copy(path.join(file), home.join(file)).unwrap();
    }
    std::fs::set_permissions(home.join("server.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    ["password", "server.key", "server.pem"].iter().for_each(|f| account.give(&home.join(f)).unwrap());
    let run = |program: &Path, line: &str| {
        let mut command = Command::new(program);
        command.args(line.split(' ')).current_dir(&home).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        account.run_as(&mut command);
        command.spawn().unwrap()
    };
    let made = run(&programs.initdb, "-D data -U drill -A scram-sha-256 --pwfile=password --no-sync").wait().unwrap();
    assert!(made.success());
    std::fs::write(home.join("data/pg_hba.conf"), "hostssl all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!(
        "-D data -c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c ssl=on \
         -c ssl_cert_file={home}/server.pem -c ssl_key_file={home}/server.key -c fsync=off"
    );
    let _server = Server(run(&programs.postgres, &settings));

    let passfile = path.join("pgpass");
    std::fs::write(&passfile, format!("127.0.0.1:{port}:*:drill:hunter2\n")).unwrap();
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).unwrap();
    let connect = |host: &str, tls: &str| {
        let text = format!("url = 'postgres://drill@{host}:{port}/postgres'\npassfile = 'pgpass'\n{tls}");
        let config = config(&path, &text, "bootstrap = '127.0.0.1:1'");
        assert!(!format!("{config:?}").contains("hunter2"));
        async move { Postgres::connect(&config.postgres.url, "test").await }
    };
    let full = "sslmode = 'verify-full'\nsslrootcert = 'ca.pem'";
    let session = wait::until("the server", super::sandbox::DEADLINE, || async {
        connect("127.0.0.1", full).await.map(wait::Poll::Ready)
    });
    let session = session.await.unwrap();
    let sql = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(session.text(sql).await.unwrap().as_deref(), Some("true"));
    assert!(connect("127.0.0.1", "sslmode = 'require'").await.is_ok());
    let by_ca = "sslmode = 'verify-ca'\nsslrootcert = 'stranger.pem'";
    assert!(connect("127.0.0.1", by_ca).await.unwrap_err().to_string().contains("certificate"), "another authority");
    let refused = connect("127.0.0.1", "sslmode = 'disable'").await.unwrap_err().to_string();
    assert!(refused.contains("no encryption") && !refused.contains("hunter2"), "{refused}");

    // The certificate names an address; by a name it is another's.
    std::fs::write(&passfile, format!("localhost:{port}:*:drill:hunter2\n")).unwrap();
    assert!(connect("localhost", full).await.is_err());
    assert!(connect("localhost", "sslmode = 'verify-ca'\nsslrootcert = 'ca.pem'").await.is_ok());
}
