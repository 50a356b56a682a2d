//! An encrypted repository on a real stack: who holds the recipients alone writes it, nobody reads a word of it without the identity,
//! and what is damaged or another's is named.

use std::{
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
};

use age::secrecy::ExposeSecret;
use camino::{Utf8Path, Utf8PathBuf};
use cdc_pipeline::{client::connect::Connect, config::Config};
use serde_json::Value;

use super::{
    object_server::ObjectServer,
    prepared::folder,
    sandbox::{Said, Stack, cdc_drill_with, expect},
};

/// In a row, so also in WAL, in the base backup and in a record of the topic.
const ROW: &str = "Zebrafink-Quarz-7731";
/// In a connector's configuration.
const SECRET: &str = "Mistral-Opal-4402";
/// In the schemas of a topic's records, and in the registry's dump of them.
const SCHEMA: &str = "shop.public.orders.Envelope";

/// A new identity in a file that an account reads alone, and its recipient.
fn identity(file: &Utf8Path, like: &Utf8Path) -> String {
    let identity = age::x25519::Identity::generate();
    std::fs::write(file, format!("# made by a test\n{}\n", identity.to_string().expose_secret())).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = std::fs::metadata(like).unwrap();
    chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    identity.to_public().to_string()
}

/// A stack, its configurations, and the identity.
struct Encrypted {
    stack: Stack,
    root: Utf8PathBuf,
    repository: Utf8PathBuf,
    /// Names recipients and identity.
    file: Utf8PathBuf,
    /// Names recipients alone.
    source: Utf8PathBuf,
    identity: Utf8PathBuf,
    recipient: String,
    _folder: tempfile::TempDir,
}

impl Encrypted {
    async fn up() -> Encrypted {
        let (folder, root) = folder();
        let stack = Stack::beside_lent(root.join("stack"));
        stack.pipeline("shop").await;
        let connect = Connect::of(&stack.config.connect);
        let (mut connector, _) = connect.described("shop").await.unwrap().unwrap();
        connector.insert("drill.secret".into(), SECRET.into());
        connect.put_config("shop", &connector).await.unwrap();
        let sql = stack.sql("shop").await;
        sql.run(&format!("insert into orders values (1000, '{ROW}')")).await.unwrap();
        stack.records("shop", 201).await;

        let repository = stack.config.repository.path.clone();
        let identity_file = root.join("identity");
        let recipient = identity(&identity_file, &stack.config.postgres.pgdata);
        let text = std::fs::read_to_string(stack.file()).unwrap();
        let path = format!("path = \"{repository}\"");
        assert!(text.contains(&path), "{text}");
        let with = |more: &str| {
            let text = text.replace(&path, &format!("{path}\nrecipients = [\"{recipient}\"]\n{more}"));
            format!("{text}\n[recovery]\nfolder = \"{root}/recoveries\"\n[backup]\ntopics = \"data\"\n")
        };
        assert!(!text.contains("[backup]") && !text.contains("[recovery]"), "{text}");
        let (file, source) = (stack.dir.join("reader.toml"), stack.dir.join("source.toml"));
        for (file, more) in [(&file, format!("identity_file = \"{identity_file}\"")), (&source, String::new())] {
            std::fs::write(file, with(&more)).unwrap();
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Encrypted { stack, root, repository, file, source, identity: identity_file, recipient, _folder: folder }
    }

    /// Puts an encrypted repository into the place of the plain one, to which the server goes on archiving.
    async fn born(&self) {
        let sql = self.stack.sql("postgres").await;
        sql.run("alter system set archive_command = '/bin/false'").await.unwrap();
        sql.run("select pg_reload_conf()").await.unwrap();
        let mut said = String::new();
        // Of an archiver that was at work a file may be left.
        for _ in 0..20 {
            for entry in self.repository.read_dir_utf8().unwrap() {
                let path = entry.unwrap().into_path();
                let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            }
            let init = cdc_drill_with(&format!("backup init --config {}", self.source), &[]);
            said.clone_from(&init.err);
            if init.exit == 0 {
                assert!(init.err.contains("is a backup repository, encrypted"), "{}", init.err);
                sql.run("alter system reset archive_command").await.unwrap();
                sql.run("select pg_reload_conf()").await.unwrap();
                return;
            }
        }
        panic!("{said}");
    }

    fn check(&self, exit: i32) -> Said {
        expect(exit, &format!("backup check --repository {}", self.repository), "")
    }

    fn deep(&self, exit: i32) -> Said {
        expect(exit, &format!("backup check --deep --config {}", self.file), "")
    }

    fn files(&self) -> Vec<Utf8PathBuf> {
        let mut found = Vec::new();
        walk(&self.repository, &mut found);
        found
    }

    fn some(&self, part: &str, end: &str) -> Vec<Utf8PathBuf> {
        let found: Vec<Utf8PathBuf> = self
            .files()
            .into_iter()
            .filter(|path| path.as_str().contains(part) && path.as_str().ends_with(end))
            .collect();
        assert!(!found.is_empty(), "no {part}…{end} in {:#?}", self.files());
        found
    }
}

fn walk(folder: &Utf8Path, found: &mut Vec<Utf8PathBuf>) {
    for entry in folder.read_dir_utf8().unwrap() {
        let path = entry.unwrap().into_path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
    found.sort();
}

/// Everything that a file's bytes say, decompressed where they are compressed.
fn said_by(path: &Utf8Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let mut all = Vec::new();
    if let Ok(mut decoder) = zstd::Decoder::new(bytes.as_slice()) {
        let mut content = Vec::new();
        // As much as can be decompressed.
        let _ = decoder.read_to_end(&mut content);
        all.push(content);
    }
    all.push(bytes);
    all
}

/// How many of these files say a word.
fn telling(files: &[Utf8PathBuf], word: &str) -> Vec<Utf8PathBuf> {
    let tells = |bytes: &Vec<u8>| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    files.iter().filter(|path| said_by(path).iter().any(tells)).cloned().collect()
}

/// What a check names.
fn named(said: &Said) -> Vec<String> {
    said.err.lines().filter(|line| line.contains(": expected ")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_repository_says_nothing_and_restores_everything() {
    let it = Encrypted::up().await;
    let (stack, file, source, repository) = (&it.stack, &it.file, &it.source, &it.repository);

    // A plain one tells all of it, so the search finds what is there.
    let plain = std::fs::read_to_string(stack.file()).unwrap() + "\n[backup]\ntopics = \"data\"\n";
    let plain_file = stack.dir.join("plain.toml");
    std::fs::write(&plain_file, plain).unwrap();
    std::fs::set_permissions(&plain_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    expect(0, &format!("backup create --config {plain_file}"), "recovery point");
    for word in [ROW, SECRET, SCHEMA] {
        assert!(!telling(&it.files(), word).is_empty(), "{word}");
    }
    assert!(telling(&it.some("/topics/", ".zst"), ROW).len() == 1, "a record of the topic");
    // It is not what the configuration says.
    let before = it.files();
    let refused = expect(36, &format!("backup create --config {source}"), "expected an encrypted repository");
    assert!(refused.err.contains("hint: "), "{}", refused.err);
    expect(36, &format!("backup list --config {file}"), "found one that is not");
    expect(36, &format!("backup init --config {file}"), "found one that is not");
    expect(36, &format!("recover plan coordinated --config {file}"), "found one that is not");
    assert_eq!(it.files(), before, "nothing was touched");

    it.born().await;
    expect(0, &format!("backup init --config {source}"), "is a backup repository, encrypted");
    let (other_identity, malformed) = (it.root.join("other"), it.root.join("malformed"));
    let other = identity(&other_identity, &stack.config.postgres.pgdata);
    expect(36, &format!("backup init --repository {repository} --recipient {other}"), "expected the recipients");
    expect(36, &format!("backup init --repository {malformed} --recipient age1xyz"), "expected a recipient");
    assert!(!malformed.exists());
    expect(36, &format!("backup create --config {plain_file}"), "names neither recipients nor an identity");

    // Whoever has the recipients alone archives and takes points.
    let sql = stack.sql("shop").await;
    sql.run("alter system set summarize_wal = on").await.unwrap();
    sql.run("select pg_reload_conf()").await.unwrap();
    let create = format!("backup create --config {source}");
    expect(0, &create, "recovery point");
    expect(0, &create, "recovery point");
    let points = |with: &Utf8Path| -> Vec<(String, Option<String>)> {
        let listed = expect(0, &format!("backup list --config {with} --json"), "").out;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        listed.as_array().unwrap().iter().map(|p| (text(&p["point"]).unwrap(), text(&p["adds_to"]))).collect()
    };
    assert!(points(source).iter().all(|(_, adds_to)| adds_to.is_none()), "what is there cannot be read");
    it.check(0);
    let no_identity = expect(36, &format!("backup check --deep --config {source}"), "no identity is named");
    assert!(no_identity.err.contains("hint: ") && no_identity.err.contains("identity_file"), "{}", no_identity.err);
    for line in ["recover plan coordinated", "topic verify", "postgres restore --pgdata /nowhere/data"] {
        expect(36, &format!("{line} --config {source}"), "no identity is named");
    }
    // What adds to others is taken by whoever can read them.
    sql.run("insert into orders values (1001, 'later')").await.unwrap();
    stack.records("shop", 202).await;
    expect(0, &format!("backup create --config {file}"), "recovery point");
    let taken = points(file);
    assert_eq!(taken[2].1.as_deref(), Some(taken[1].0.as_str()), "{taken:?}");
    let listed = expect(0, &format!("topic list --config {file} --json"), "").out;
    let records = |listed: &str| -> Vec<u64> {
        let listed: Value = serde_json::from_str(listed).unwrap();
        listed.as_array().unwrap().iter().map(|backup| backup["records"].as_u64().unwrap()).collect()
    };
    assert_eq!(records(&listed), [201, 201, 202]);
    expect(0, &format!("topic verify --config {file}"), "");

    // Not a word of it.
    let words = [ROW, SECRET, SCHEMA];
    for word in words {
        assert_eq!(telling(&it.files(), word), Vec::<Utf8PathBuf>::new(), "{word}");
    }

    // Keys that do not fit are refused before anything is looked at.
    let with = |identity: &Utf8Path, line: &str| {
        let said = cdc_drill_with(line, &[("CDC_DRILL_IDENTITY", identity.as_str())]);
        let text = std::fs::read_to_string(identity).unwrap_or_default();
        let secret = text.lines().find(|line| line.starts_with("AGE-SECRET")).unwrap_or("no secret");
        assert!(!said.err.contains(secret) && !said.out.contains(secret), "a secret in\n{}", said.err);
        said
    };
    let deep = format!("backup check --deep --repository {repository}");
    let refused = |identity: &Utf8Path, part: &str| {
        let said = with(identity, &deep);
        assert_eq!(said.exit, 36, "{}", said.err);
        assert!(said.err.contains(part) && said.err.contains("hint: "), "{}", said.err);
    };
    assert_eq!(with(&it.identity, &deep).exit, 0);
    refused(&other_identity, &format!("expected an identity for {}", it.recipient));
    refused(&it.root.join("none"), "identity file");
    let readable = it.root.join("readable");
    std::fs::copy(&it.identity, &readable).unwrap();
    std::fs::set_permissions(&readable, std::fs::Permissions::from_mode(0o640)).unwrap();
    refused(&readable, "0640");
    std::fs::set_permissions(&readable, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&readable, "AGE-SECRET-KEY-1NONSENSE\n").unwrap();
    refused(&readable, "in line 1");

    faults(&it);

    // Back to a moment before a mistake.
    let sql = stack.sql("shop").await;
    sql.run("insert into orders select g, 'after the backup' from generate_series(2001, 2100) g").await.unwrap();
    stack.records("shop", 302).await;
    sql.run("select pg_create_restore_point('before')").await.unwrap();
    sql.run("delete from orders").await.unwrap();
    sql.run("select pg_switch_wal()").await.unwrap();
    drop(sql);
    let records_in_it = cdc_drill_with(
        &format!("recover plan coordinated --config {file} --target name:before"),
        &[("CDC_DRILL_IDENTITY", "/nowhere")],
    );
    assert_eq!(records_in_it.exit, 0, "the configuration names the identity\n{}", records_in_it.err);
    let run = format!("recover run coordinated --yes --config {file} --target name:before");
    expect(0, &run, "the topics hold what the tables hold");
    let content = "select count(*) || ' ' || max(note) filter (where id = 1000) from orders";
    assert_eq!(stack.sql("shop").await.text(content).await.unwrap().unwrap(), format!("302 {ROW}"));
    // On the new timeline, by whoever cannot read its history in the archive.
    expect(0, &create, "recovery point");
    it.check(0);
    expect(0, &format!("backup prune --config {source}"), "");
    it.deep(0);
    for word in words {
        assert_eq!(telling(&it.files(), word), Vec::<Utf8PathBuf>::new(), "{word}");
    }

    // And with no pipeline about.
    let data = it.root.join("restored");
    std::fs::create_dir(&data).unwrap();
    let owner = std::fs::metadata(&stack.config.postgres.pgdata).unwrap();
    chown(&data, Some(owner.uid()), Some(owner.gid())).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    expect(0, &format!("postgres restore --pgdata {data} --config {file} --target name:before"), "");
    assert!(data.join("PG_VERSION").exists());
}

/// Plants faults one by one, and takes each back: what is stored is compared without an identity, what it means with one.
fn faults(it: &Encrypted) {
    let root = &it.repository;
    let below = |path: &Utf8Path| path.strip_prefix(root).unwrap().to_string();
    let kinds: [(&str, &str); 6] = [
        ("/wal/", ".zst.age"),
        ("/pg/", "base.tar.zst"),
        ("/connect/", "connectors.json"),
        ("/registry/", "dump.jsonl"),
        ("/topics/", ".zst.age"),
        ("/points/", "slots.json"),
    ];
    for (part, end) in kinds {
        let path = it.some(part, end).remove(0);
        let sound = std::fs::read(&path).unwrap();
        let names_it = |said: &Said, what: &str| {
            // A lost object of WAL is named without the hashes that nobody knows any more.
            let known = below(&path);
            let known = if part == "/wal/" { &known[..known.find("-").unwrap()] } else { &known };
            let named = named(said);
            assert!(named.iter().any(|line| line.contains(known)), "{what} {known}: {}", said.err);
            assert_eq!(named.len(), 1, "{what} {known}: {}", said.err);
        };
        let mut flipped = sound.clone();
        flipped[sound.len() / 2] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        names_it(&it.check(31), "flipped");
        std::fs::write(&path, &sound[..sound.len() - 1]).unwrap();
        names_it(&it.check(31), "cut");
        std::fs::rename(&path, it.root.join("away")).unwrap();
        let gone = cdc_drill_with(&format!("backup check --repository {root}"), &[]);
        assert!([30, 32].contains(&gone.exit), "{}", gone.err);
        names_it(&gone, "deleted");
        std::fs::rename(it.root.join("away"), &path).unwrap();
        std::fs::write(&path, &sound).unwrap();
    }
    // Two of a kind, each of them sound.
    for (part, end) in [("/wal/", ".zst.age"), ("/connect/", "connectors.json"), ("/pg/", "base.tar.zst")] {
        let [one, two] = [0, 1].map(|at| it.some(part, end)[at].clone());
        let (of_one, of_two) = (std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        std::fs::write(&one, &of_two).unwrap();
        std::fs::write(&two, &of_one).unwrap();
        let said = it.check(31);
        for path in [&one, &two] {
            assert!(named(&said).iter().any(|line| line.contains(&below(path))), "{path}: {}", said.err);
        }
        assert_eq!(named(&said).len(), 2, "{}", said.err);
        std::fs::write(&one, &of_one).unwrap();
        std::fs::write(&two, &of_two).unwrap();
    }
    // One in the place of another, under a name that fits its bytes: only who reads it knows.
    let objects = it.some("/wal/", ".zst.age");
    let (one, two) = (&objects[0], &objects[1]);
    let split = |path: &Utf8Path| path.file_name().unwrap().rsplitn(3, '-').map(str::to_owned).collect::<Vec<_>>();
    let (of_one, of_two) = (split(one), split(two));
    let forged = two.with_file_name(format!("{}-{}-{}", of_two[2], of_one[1], of_one[0]));
    std::fs::rename(two, it.root.join("away")).unwrap();
    std::fs::copy(one, &forged).unwrap();
    it.check(0);
    let said = it.deep(31);
    assert!(named(&said).iter().any(|line| line.contains(&below(&forged))), "{}", said.err);
    std::fs::remove_file(&forged).unwrap();
    std::fs::rename(it.root.join("away"), two).unwrap();
    it.check(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_bucket_is_recovered_from() {
    let server = ObjectServer::up("sealed").await;
    let (_folder, root) = folder();
    let address = server.address("sealed");
    let mut stack = Stack::beside_lent(root.join("stack"));
    stack.pipeline("shop").await;
    let identity_file = root.join("identity");
    let recipient = identity(&identity_file, &stack.config.postgres.pgdata);
    server.expect(0, &format!("backup init --repository {address} --recipient {recipient}"), "encrypted");
    let text = std::fs::read_to_string(stack.file()).unwrap();
    let folder = stack.config.repository.path.clone();
    let keys = format!("recipients = [\"{recipient}\"]\nidentity_file = \"{identity_file}\"");
    let text = text.replace(&format!("path = \"{folder}\""), &format!("path = \"{address}\"\n{keys}"));
    std::fs::write(stack.file(), format!("{text}\n[recovery]\nfolder = \"{root}/recoveries\"\n")).unwrap();
    stack.config = Config::load(&stack.file()).unwrap();
    let secrets = root.join("object-server.env");
    let lines = server.environment().map(|(name, value)| format!("export {name}={value}\n")).concat();
    std::fs::write(&secrets, lines).unwrap();
    let owner = std::fs::metadata(&stack.config.postgres.pgdata).unwrap();
    chown(&secrets, Some(owner.uid()), Some(owner.gid())).unwrap();
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    let sql = stack.sql("shop").await;
    let command = sql.text("show archive_command").await.unwrap().unwrap();
    let command = command.replace(folder.as_str(), address.as_str()).replace('\'', "''");
    sql.run(&format!("alter system set archive_command = '. {secrets}; {command}'")).await.unwrap();
    sql.run("select pg_reload_conf()").await.unwrap();
    let file = stack.file();
    server.expect(0, &format!("backup create --config {file}"), "recovery point");
    server.expect(0, &format!("backup check --repository {address}"), "");
    server.expect(36, &format!("backup check --deep --repository {address}"), "no identity is named");
    sql.run("insert into orders select g, 'after the backup' from generate_series(201, 300) g").await.unwrap();
    stack.records("shop", 300).await;
    sql.run("select pg_create_restore_point('before')").await.unwrap();
    sql.run("delete from orders").await.unwrap();
    drop(sql);
    let run = format!("recover run coordinated --yes --config {file} --target name:before");
    server.expect(0, &run, "the topics hold what the tables hold");
    let found: u64 = stack.sql("shop").await.value("select count(*) from orders").await.unwrap();
    assert_eq!(found, 300);
    server.expect(0, &format!("topic backup shop.public.orders --config {file}"), "");
    server.expect(0, &format!("topic verify --config {file}"), "");
    server.expect(0, &format!("topic replay --topic shop.public.orders --as again --yes --config {file}"), "");
    server.expect(0, &format!("backup check --deep --config {file}"), "");
}
