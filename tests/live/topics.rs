//! Topics' records are backed up, verified and replayed: every record as it was, what was lost as recorded gaps, and nothing into a topic
//! with other content.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use camino::{Utf8Path, Utf8PathBuf};
use cdc_engine::backup::topics::{self, BACKUP_MOMENTS, REPLAY_MOMENTS};
use cdc_harness::stack::{Programs, Silent};
use cdc_model::units::{Exit, Offset, TopicPartition};
use cdc_pipeline::client::{
    ClientError,
    connect::Connect,
    kafka::{Kafka, Record, TopicSpec},
    wait::{self, Poll},
};
use rand::{RngExt as _, SeedableRng as _};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    PROGRAM,
    sandbox::{DEADLINE, Said, Stack, cdc_drill, cdc_drill_with, expect},
};

const MIXED: &str = "play.mixed";
const COMPACT: &str = "play.compact";
const GROUP: &str = "app";

struct Scene {
    stack: Stack,
    kafka: Kafka,
    // Removed when the stack is down.
    _folder: tempfile::TempDir,
}

/// Without what a replay may change: the offset.
fn content(records: Vec<Record>) -> Vec<Record> {
    let mut records: Vec<Record> = records;
    records.sort_by_key(|record| (record.partition, record.offset));
    records.into_iter().map(|record| Record { offset: Offset(0), ..record }).collect()
}

/// The last value of each key.
fn folded(records: &[Record]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut last = BTreeMap::new();
    for record in records {
        let key = record.key.clone().unwrap();
        match &record.value {
            Some(value) => last.insert(key, value.clone()),
            None => last.remove(&key),
        };
    }
    last
}

impl Scene {
    fn up() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let stack = Stack::beside_lent(Utf8PathBuf::from_path_buf(folder.path().join("stack")).unwrap());
        let kafka = Kafka::of(&stack.config().kafka).unwrap();
        Scene { stack, kafka, _folder: folder }
    }

    async fn make(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let spec = TopicSpec { name: name.into(), partitions, replication: 1, settings };
        self.kafka.create_topics(&[spec]).await.unwrap();
    }

    fn client(&self) -> ClientConfig {
        ClientConfig::new().set("bootstrap.servers", self.kafka.bootstrap()).clone()
    }

    async fn records(&self, topic: &str) -> Vec<Record> {
        content(self.kafka.read_all(topic).await.unwrap())
    }

    /// Committed and aborted transactions, nulls, empty contents, and headers that repeat.
    fn mixed(&self, transactions: std::ops::Range<i64>) {
        let mut config = self.client();
        config.set("transactional.id", "play");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
        let limit = DEADLINE;
        producer.init_transactions(limit).unwrap();
        for number in transactions {
            producer.begin_transaction().unwrap();
            for partition in [0, 1] {
                let value = format!("{number}");
                for variant in 0..4 {
                    let mut record: BaseRecord<'_, [u8], [u8]> =
                        BaseRecord::to(MIXED).partition(partition).timestamp(1_700_000_000_000 + number);
                    if variant != 1 {
                        record = record.key(if variant == 2 { b"" } else { b"key" });
                    }
                    if variant != 2 {
                        record = record.payload(if variant == 3 { b"" } else { value.as_bytes() });
                    }
                    let headers = OwnedHeaders::new()
                        .insert(Header { key: "h", value: Some("1") })
                        .insert(Header { key: "a", value: Some("") })
                        .insert(Header { key: "h", value: None::<&str> });
                    producer.send(record.headers(headers)).map_err(|(e, _)| e).unwrap();
                }
            }
            // An abort would drop what the broker does not have yet.
            producer.flush(limit).unwrap();
            match number % 3 {
                0 => producer.abort_transaction(limit).unwrap(),
                _ => producer.commit_transaction(limit).unwrap(),
            }
        }
    }

    /// Many values of few keys, and a wait until the broker has compacted some away.
    async fn compacted(&self) {
        let settings = [
            ("cleanup.policy", "compact"),
            ("segment.ms", "100"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("max.compaction.lag.ms", "1000"),
        ];
        self.make(COMPACT, 1, &settings).await;
        let written = 300;
        for number in 0..written {
            let (key, value) = (format!("k{}", number % 7), format!("v{number}"));
            let value = (number % 50 != 49).then_some(value.as_bytes());
            self.kafka.produce(COMPACT, Some(0), Some(key.as_bytes()), value).await.unwrap();
        }
        wait::until("a compacted topic", DEADLINE, || async {
            // A segment is closed by the record after it.
            self.kafka.produce(COMPACT, Some(0), Some(b"last"), Some(b"x")).await?;
            let left = self.kafka.read_all(COMPACT).await?.len();
            Ok::<_, ClientError>(match left < written {
                true => Poll::Ready(()),
                false => Poll::NotYet(format!("{left} records")),
            })
        })
        .await
        .unwrap();
    }

    async fn remove_before(&self, topic: &str, offset: i64) {
        let first = TopicPartition { topic: topic.into(), partition: 0 };
        self.kafka.delete_records(&[(first, Offset(offset))]).await.unwrap();
    }

    fn interrupted(&self, line: &str, moment: &str, how: &str) -> Said {
        let line = format!("topic {line} --config {}", self.stack.file());
        cdc_drill_with(&line, &[("CDC_DRILL_INTERRUPT", &format!("{moment}:{how}"))])
    }

    fn drill(&self, exit: i32, line: &str, part: &str) -> Value {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let said = expect(exit, &format!("topic {verb} --config {} --json {rest}", self.stack.file()), part);
        serde_json::from_str(&said.out).unwrap_or_default()
    }
}

fn files(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir_utf8().unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(entry.path())),
            false => found.push(entry.path().to_owned()),
        }
    }
    found
}

/// A compiled program of `tests/live`, which has Kafka's own classes.
struct Java {
    programs: Programs,
    classes: tempfile::TempDir,
}

impl Java {
    async fn of(source: &str) -> Java {
        let programs = Programs::ensure(&Silent).await.unwrap();
        let classes = tempfile::tempdir().unwrap();
        let jars = format!("{}/*", programs.kafka_jars());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live").join(source);
        let compiled = Command::new("javac")
            .args(["--release", "17", "-nowarn", "-proc:none", "-cp", &jars, "-d"])
            .arg(classes.path())
            .arg(source)
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Java { programs, classes }
    }

    /// What it prints.
    fn run<'a>(&self, class: &str, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let class_path = format!("{}:{}/*", self.classes.path().display(), self.programs.kafka_jars());
        let mut command = Command::new(self.programs.java().as_std_path());
        let ran = command.args(["-Xmx512m", "-cp", &class_path, class]).args(arguments).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }
}

/// As `SegmentRecords` prints a record.
fn line(record: &Record) -> String {
    let text = |bytes: &Option<Vec<u8>>| match bytes {
        None => "-".to_owned(),
        Some(bytes) => format!("\"{}\"", BASE64.encode(bytes)),
    };
    let headers: String = record.headers.iter().map(|(name, value)| format!(" {name}={}", text(value))).collect();
    let time = record.timestamp_ms.unwrap();
    format!("{} {time} CreateTime {} {}{headers}", record.offset, text(&record.key), text(&record.value))
}

/// The segments are log files as brokers write them: Kafka's own classes read of them what the topic holds, offsets included.
async fn read_by_kafka(scene: &Scene, topic: &str) {
    let java = Java::of("SegmentRecords.java").await;
    let folder = tempfile::tempdir().unwrap();
    let mut held = scene.kafka.read_all(topic).await.unwrap();
    held.sort_by_key(|record| (record.partition, record.offset));
    assert!(held.iter().any(|r| r.value.is_none()) && held.iter().any(|r| r.value == Some(Vec::new())));
    for partition in [0, 1] {
        let of_partition = format!("{topic}/objects/{partition}/");
        let mut segments = files(&scene.stack.dir.join("repository/topics"));
        segments.retain(|segment| segment.as_str().contains(&of_partition));
        segments.sort();
        let logs = segments.iter().map(|segment| {
            let log = folder.path().join(format!("{partition}-{}.log", segment.file_stem().unwrap()));
            std::fs::write(&log, zstd::decode_all(std::fs::File::open(segment).unwrap()).unwrap()).unwrap();
            log.into_os_string().into_string().unwrap()
        });
        let logs: Vec<String> = logs.collect();
        let printed = java.run("SegmentRecords", logs.iter().map(String::as_str));
        let expected: Vec<String> = held.iter().filter(|record| record.partition == partition).map(line).collect();
        assert!(!expected.is_empty());
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    }
}

/// A registry that has nothing.
async fn empty_registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.read(&mut [0; 65536]).await;
            let body = r#"{"error_code":40403,"message":"Schema not found"}"#;
            let head = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_comes_back_and_what_is_lost_is_recorded() {
    let scene = Scene::up();
    scene.make(MIXED, 2, &[("retention.ms", "-1")]).await;
    scene.mixed(0..9);
    scene.compacted().await;
    let name = |partition| TopicPartition { topic: MIXED.into(), partition };
    // Behind the first aborted transaction; and in the middle of a committed one.
    scene.kafka.commit_group_offsets(GROUP, &[(name(0), Offset(4)), (name(1), Offset(7))]).await.unwrap();

    // From backup to backup, with a gap that was made between.
    scene.drill(0, &format!("backup {MIXED} {COMPACT}"), "");
    read_by_kafka(&scene, MIXED).await;
    let first_end = scene.kafka.watermarks(MIXED).await.unwrap()[0].1;
    let before = scene.records(MIXED).await;
    scene.mixed(9..12);
    scene.remove_before(MIXED, first_end.0 + 6).await;
    let backups = scene.drill(0, &format!("backup {MIXED} {COMPACT}"), "1 recorded gap");
    let mixed = backups.as_array().unwrap().iter().find(|b| b["topic"] == MIXED).unwrap();
    let gap = &mixed["partitions"][0]["gaps"][0];
    assert_eq!((gap["from"].as_i64(), gap["to"].as_i64()), (Some(first_end.0), Some(first_end.0 + 6)), "{mixed}");
    assert_eq!(gap["why"], "removed");
    assert_eq!(mixed["partitions"][1]["gaps"].as_array().unwrap().len(), 0, "{mixed}");
    let repository = scene.stack.dir.join("repository");
    let segments = || files(&repository.join("topics")).iter().filter(|f| f.extension() == Some("zst")).count();
    assert_eq!(segments(), 5, "the second backup adds to the first: two partitions, twice, and a compacted one");
    let compact = backups.as_array().unwrap().iter().find(|b| b["topic"] == COMPACT).unwrap();
    let segment = &compact["partitions"][0]["segments"][0];
    let (held, offsets) = (segment["records"].as_i64().unwrap(), segment["to"].as_i64().unwrap());
    assert!(0 < held && held < offsets, "records were compacted away: {compact}");
    scene.drill(0, "verify", "no defect");
    scene.drill(0, "list", "");

    // What was in the first backup, and what the topic still has.
    let now = scene.records(MIXED).await;
    let of = |records: &[Record], partition| -> Vec<Record> {
        records.iter().filter(|r| r.partition == partition).cloned().collect()
    };
    let mut expected = of(&before, 0);
    let known = expected.len();
    // Partition 0 lost everything of the first backup; what is left of it came later.
    expected.extend(of(&now, 0));
    expected.extend(of(&now, 1));
    assert!(known > 0 && of(&now, 0).len() < of(&now, 1).len());
    let compact = folded(&scene.records(COMPACT).await);
    let specs = scene.kafka.topic_specs(&[MIXED.into(), COMPACT.into()]).await.unwrap();

    // Nothing is written beside other content, and nothing is touched there.
    scene.make("play.other", 2, &[]).await;
    scene.kafka.produce("play.other", Some(1), None, Some(b"strange")).await.unwrap();
    scene.drill(40, &format!("replay --topic {MIXED} --as play.other --yes"), "other content");
    assert_eq!(scene.kafka.read_all("play.other").await.unwrap().len(), 1);
    scene.make("play.narrow", 1, &[]).await;
    scene.drill(40, &format!("replay --topic {MIXED} --as play.narrow --yes"), "expected 2 partitions, found 1");

    scene.kafka.delete_topics(&[MIXED.into(), COMPACT.into()]).await.unwrap();
    scene.drill(41, &format!("replay --topic {MIXED}"), "give --yes");
    assert!(!scene.kafka.topics().await.unwrap().contains_key(MIXED));
    let replayed = scene.drill(0, &format!("replay --topic {MIXED} --groups --yes"), "read back and compared");
    let compacted = scene.drill(0, &format!("replay --topic {COMPACT} --yes"), "read back and compared");
    assert_eq!(scene.records(MIXED).await, expected);
    assert_eq!(compacted["compared"].as_i64(), Some(held));
    // The broker may have compacted it again.
    assert_eq!(folded(&scene.records(COMPACT).await), compact);
    assert_eq!(scene.kafka.topic_specs(&[MIXED.into(), COMPACT.into()]).await.unwrap(), specs, "with their settings");

    // The first transaction was aborted: what follows offset 4 is now at the beginning. Offset 7 was in the second one.
    let committed = scene.kafka.group_offsets(GROUP, &[name(0), name(1)]).await.unwrap();
    let committed: BTreeMap<i32, i64> = committed.into_iter().map(|(tp, offset)| (tp.partition, offset.0)).collect();
    assert_eq!(committed, BTreeMap::from([(0, 0), (1, 2)]), "{replayed}");
    let mapping = std::fs::read_to_string(replayed["mapping"].as_str().unwrap()).unwrap();
    let runs: Vec<Value> = mapping.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = |partition: i64| runs.iter().find(|run| run["partition"] == partition).unwrap();
    assert_eq!((first(1)["from"].as_i64(), first(1)["at"].as_i64()), (Some(5), Some(0)), "{mapping}");

    // A replay goes on with what another one has begun, and changes nothing when it is complete.
    scene.drill(0, &format!("replay --topic {MIXED} --as play.again --until 1:12,0:12 --yes"), "");
    let part = scene.kafka.read_all("play.again").await.unwrap().len();
    assert!(part > 0 && part < expected.len());
    let on = scene.drill(0, &format!("replay --topic {MIXED} --as play.again --yes"), "read back and compared");
    assert_eq!(on["found"].as_u64(), Some(part as u64));
    assert_eq!(scene.records("play.again").await, expected);
    let complete = scene.drill(0, &format!("replay --topic {MIXED} --as play.again --yes"), "");
    assert_eq!(complete["found"], complete["records"]);

    // Damage is found before anything is written.
    let victim =
        files(&repository.join("topics")).into_iter().find(|f| f.as_str().contains("play.mixed/objects/1")).unwrap();
    let mut bytes = std::fs::read(&victim).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    scene.drill(31, "verify", "block of offsets");
    scene.drill(31, &format!("replay --topic {MIXED} --as play.never --yes"), "checksum");
    assert!(!scene.kafka.topics().await.unwrap().contains_key("play.never"));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_not_replayed_before_their_schemas_are_there() {
    let scene = Scene::up();
    scene.stack.pipeline("shop").await;
    // Those of the connectors.
    let backups = scene.drill(0, "backup", "shop.public.orders");
    let ids = &backups[0]["schemas"]["ids"];
    assert!(ids.as_object().is_some_and(|ids| ids.values().all(|meaning| meaning.get("schema").is_some())), "{ids}");
    let replay = "replay --topic shop.public.orders --as copy --yes";
    scene.drill(0, &format!("{replay} --dry-run"), "would write 200 records");
    let with_schemas = std::fs::read_to_string(scene.stack.file()).unwrap();
    let registry = &scene.stack.config().registry.url;
    let empty = empty_registry().await;
    std::fs::write(scene.stack.file(), with_schemas.replace(registry.as_str(), &empty)).unwrap();
    scene.drill(40, replay, "the registry does not know it");
    assert!(!scene.kafka.topics().await.unwrap().contains_key("copy"));
    scene.drill(0, &format!("{replay} --accept-unknown-schemas"), "the registry does not know it");
    assert_eq!(scene.records("copy").await, scene.records("shop.public.orders").await);

    // Not beside a connector that writes to it, whether the topic is there or not.
    let own = "replay --topic shop.public.orders --yes";
    std::fs::write(scene.stack.file(), &with_schemas).unwrap();
    scene.drill(40, own, "expected that no connector writes to it, found shop (");
    let connect = Connect::of(&scene.stack.config().connect);
    connect.stopped("shop", DEADLINE).await.unwrap();
    let before = scene.records("shop.public.orders").await;
    scene.kafka.delete_topics(&["shop.public.orders".into()]).await.unwrap();
    scene.drill(0, own, "read back and compared");
    connect.resume("shop").await.unwrap();
    connect.running("shop", DEADLINE).await.unwrap();
    scene.stack.sql("shop").await.run("insert into orders values (1000, 'new')").await.unwrap();
    scene.stack.records("shop", 201).await;
    let mut now = scene.records("shop.public.orders").await;
    assert_eq!((before.len(), now.len()), (200, 201));
    now.retain(|record| before.contains(record));
    assert!(now == before, "what was replayed is no longer as it was");

    // As a part of a recovery point.
    let file = scene.stack.file();
    std::fs::write(&file, format!("{with_schemas}\n[backup]\ntopics = \"data\"\n")).unwrap();
    let said = cdc_drill(&format!("backup create --config {file} --only topics --json"));
    let point: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.err));
    let records = &point["parts"]["topics"]["records"];
    assert_eq!(records[0]["topic"], "shop.public.orders", "{point}");
    let only = format!("verify --backup {}", records[0]["backup"].as_str().unwrap());
    assert_eq!(scene.drill(0, &only, "no defect")["backups"], 1);
    expect(0, &format!("backup check --config {file}"), "cdc-drill topic verify");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_or_a_replay_that_is_interrupted_goes_on() {
    let scene = Scene::up();
    scene.make(MIXED, 2, &[("retention.ms", "-1"), ("segment.bytes", "1048576")]).await;
    let partition = |topic: &str, partition| TopicPartition { topic: topic.into(), partition };
    scene.mixed(0..3);
    scene.kafka.commit_group_offsets(GROUP, &[(partition(MIXED, 0), Offset(7))]).await.unwrap();
    let mut next = 3;
    for moment in BACKUP_MOMENTS {
        for how in ["kill", "fail"] {
            let listed = |said: Value| said.as_array().unwrap().len();
            let before = listed(scene.drill(0, "list", ""));
            scene.mixed(next..next + 2);
            next += 2;
            let said = scene.interrupted(&format!("backup {MIXED}"), &format!("topic-backup:{moment}"), how);
            ended(&said, moment, how);
            // What it has left is no backup, or a whole one.
            let after = listed(scene.drill(0, "list", ""));
            assert_eq!(after, before + usize::from(["published", "removed"].contains(&moment)), "{moment} {how}");
            if after > 0 {
                scene.drill(0, "verify", "no defect");
            }
            let again = scene.drill(0, &format!("backup {MIXED}"), "");
            let held: u64 = again[0]["partitions"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|p| p["segments"].as_array().unwrap())
                .map(|segment| segment["records"].as_u64().unwrap())
                .sum();
            assert_eq!(held as usize, scene.records(MIXED).await.len(), "{moment} {how}");
            assert_eq!(again[0]["notes"], serde_json::json!([]), "nothing was read anew: {moment} {how}");
            let clean = scene.drill(0, "verify", "no defect");
            assert!(!clean["notes"].to_string().contains("no backup names"), "{clean}");
        }
    }
    let expected = scene.records(MIXED).await;
    let specs = scene.kafka.topic_specs(&[MIXED.into()]).await.unwrap();
    for (nth, moment) in REPLAY_MOMENTS.into_iter().enumerate() {
        for how in ["kill", "fail"] {
            let target = format!("play.{how}-{nth}");
            let replay = format!("replay --topic {MIXED} --as {target} --groups --yes");
            let said = scene.interrupted(&replay, &format!("topic-replay:{moment}"), how);
            ended(&said, moment, how);
            assert_eq!(scene.kafka.topics().await.unwrap().contains_key(&target), moment != "begun", "{moment}");
            scene.drill(0, &replay, "read back and compared");
            assert_eq!(scene.records(&target).await, expected, "{moment} {how}");
            let made = scene.kafka.topic_specs(std::slice::from_ref(&target)).await.unwrap();
            assert_eq!(made[0].settings, specs[0].settings, "{moment} {how}");
            let committed = scene.kafka.group_offsets(GROUP, &[partition(&target, 0)]).await.unwrap();
            // The first transaction was aborted: its four records and its marker have no place in the copy.
            assert_eq!(committed, [(partition(&target, 0), Offset(2))], "{moment} {how}");
        }
    }
    let left = files(&scene.stack.dir.join("repository/topics"));
    assert!(left.iter().all(|file| !file.file_name().unwrap().starts_with('.')), "{left:?}");
}

/// Whether the command ended by the moment and by nothing else.
fn ended(said: &Said, moment: &str, how: &str) {
    match how {
        "kill" => assert_eq!(said.exit, -1, "{moment}: {}", said.err),
        _ => {
            assert_eq!(said.exit, i32::from(Exit::Interrupted.code()), "{moment}: {}", said.err);
            assert!(said.err.contains(&format!("moment `{moment}`")), "{}", said.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_under_a_backup_is_noticed() {
    let scene = Scene::up();
    scene.make(MIXED, 2, &[]).await;
    scene.mixed(0..6);
    let backup = format!("backup {MIXED}");
    let notes = |backups: &Value| backups[0]["notes"].to_string();

    // A transaction that is open: the backup ends before it, and the next one has it.
    let producer: ThreadedProducer<DefaultProducerContext> =
        scene.client().set("transactional.id", "open").create().unwrap();
    let limit = DEADLINE;
    producer.init_transactions(limit).unwrap();
    producer.begin_transaction().unwrap();
    let open: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(MIXED).partition(0).payload(b"open");
    producer.send(open).map_err(|(e, _)| e).unwrap();
    producer.flush(limit).unwrap();
    let before = scene.drill(0, &backup, "before the first open transaction");
    let first = &before[0]["partitions"][0];
    assert!(first["end"].as_i64() < first["high_watermark"].as_i64(), "{before}");
    producer.commit_transaction(limit).unwrap();
    let after = scene.drill(0, &backup, "");
    assert_eq!(notes(&after), "[]");
    let records = |backups: &Value| -> u64 {
        let partitions = backups[0]["partitions"].as_array().unwrap().iter();
        let segments = partitions.flat_map(|partition| partition["segments"].as_array().unwrap());
        segments.map(|segment| segment["records"].as_u64().unwrap()).sum()
    };
    assert_eq!(records(&after), records(&before) + 1);
    let held = scene.records(MIXED).await;
    let kept = after[0]["backup"].as_str().unwrap().to_owned();

    // Retention that removes records between the look at the partitions and the reading of the second one.
    let (config, kafka) = (scene.stack.config().clone(), scene.kafka.clone());
    scene.mixed(6..8);
    let end = kafka.watermarks(MIXED).await.unwrap()[1].1;
    scene.mixed(8..9);
    let done = std::sync::Once::new();
    let removed = topics::back_up_topics(&config, &[MIXED.into()], &|at: topics::TopicProgress| {
        if at.partition.partition == 0 {
            done.call_once(|| {
                let (kafka, of) = (kafka.clone(), TopicPartition { topic: MIXED.into(), partition: 1 });
                let removing = std::thread::spawn(move || {
                    let runtime = tokio::runtime::Runtime::new().unwrap();
                    runtime.block_on(kafka.delete_records(&[(of, end)])).unwrap();
                });
                removing.join().unwrap();
            });
        }
    })
    .await
    .unwrap();
    let gaps = &removed[0].partitions[1].gaps;
    let last = &after[0]["partitions"][1]["end"];
    assert_eq!((gaps.len(), gaps[0].from, gaps[0].to), (1, last.as_i64().unwrap(), end.0), "{gaps:?}");
    assert_eq!(removed[0].partitions[0].gaps, []);
    scene.drill(0, "verify", "no defect");

    // A group with a member keeps its offsets.
    let settings = [("group.id", GROUP), ("session.timeout.ms", "10000"), ("auto.offset.reset", "earliest")];
    let mut member = scene.client();
    for (name, value) in settings {
        member.set(name, value);
    }
    let member: BaseConsumer = member.create().unwrap();
    member.subscribe(&[MIXED]).unwrap();
    let mut read = 0;
    while member.assignment().unwrap().count() < 2 || read == 0 {
        if let Some(message) = member.poll(Duration::from_millis(100)) {
            message.unwrap();
            read += 1;
        }
    }
    member.commit_consumer_state(rdkafka::consumer::CommitMode::Sync).unwrap();
    scene.drill(0, &backup, "");
    scene.drill(40, &format!("replay --topic {MIXED} --as play.copy --groups --yes"), "cannot be set: members");
    assert!(!scene.kafka.topics().await.unwrap().contains_key("play.copy"));
    drop(member);

    // Deleted and made again: another topic. What the archive has of the one before stays, and can be replayed.
    scene.kafka.delete_topics(&[MIXED.into()]).await.unwrap();
    scene.make(MIXED, 2, &[]).await;
    scene.kafka.produce(MIXED, Some(0), None, Some(b"another")).await.unwrap();
    let anew = scene.drill(0, &backup, "deleted and made again");
    assert_eq!(records(&anew), 1);
    scene.drill(0, "verify", "no defect");
    scene.drill(40, &format!("replay --topic {MIXED} --backup {kept} --yes"), "other content");
    scene.drill(0, &format!("replay --topic {MIXED} --backup {kept} --as play.old --yes"), "read back and compared");
    assert_eq!(scene.records("play.old").await, held);
}

/// How many records the large topic has: a sample, or as `just topics` says.
fn large() -> u64 {
    std::env::var("CDC_DRILL_TOPIC_RECORDS").ok().map_or(50_000, |count| count.parse().unwrap())
}

/// More than any part of the program needs, and far less than the topic of `just topics`.
const MEMORY_MIB: u64 = 256;

/// The largest amount of memory that a command had, in MiB, and how long it took.
async fn measured(line: &str) -> (u64, Duration) {
    let began = Instant::now();
    let mut child = tokio::process::Command::new(PROGRAM)
        .args(line.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let (mut peak, mut often) = (0, tokio::time::interval(Duration::from_millis(5)));
    let exit = loop {
        tokio::select! {
            exit = child.wait() => break exit.unwrap(),
            _ = often.tick() => {
                // The high-water mark only rises; a process that has ended has none.
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
                peak = mark.and_then(|mark| mark.parse().ok()).unwrap_or(0).max(peak);
            }
        }
    };
    assert!(exit.success(), "{line}: {exit}");
    (peak / 1024, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_topic_needs_little_memory() {
    const LARGE: &str = "play.large";
    let scene = Scene::up();
    scene.make(LARGE, 3, &[("retention.ms", "-1"), ("retention.bytes", "-1")]).await;
    let count = large();
    let mut config = scene.client();
    config.set("linger.ms", "20").set("queue.buffering.max.messages", "100000");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let noise: Vec<u8> = (0..1 << 20).map(|_| random.random()).collect();
    for number in 0..count {
        // 400 bytes, of which half are noise.
        let at = random.random_range(0..noise.len() - 200);
        let value = [&noise[at..at + 200], &[b' '; 200]].concat();
        let key = number.to_be_bytes();
        let headers = OwnedHeaders::new().insert(Header { key: "number", value: Some(&key[..]) });
        let partition = (number % 3) as i32;
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(LARGE)
            .partition(partition)
            .timestamp(1_700_000_000_000 + number as i64)
            .key(&key[..])
            .payload(&value[..])
            .headers(headers);
        while let Err((error, back)) = producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
            record = back;
            producer.flush(Duration::from_secs(600)).unwrap();
        }
    }
    producer.flush(Duration::from_secs(600)).unwrap();
    let file = scene.stack.file();
    let (backup, backup_took) = measured(&format!("topic backup --config {file} {LARGE}")).await;
    let replay = format!("topic replay --config {file} --topic {LARGE} --as play.copy --yes");
    let (replayed, replay_took) = measured(&replay).await;
    let java = Java::of("TopicsEqual.java").await;
    let equal = java.run("TopicsEqual", [scene.kafka.bootstrap(), LARGE, "play.copy"]);
    let stored: u64 =
        files(&scene.stack.dir.join("repository/topics")).iter().map(|f| f.metadata().unwrap().len()).sum();
    eprintln!(
        "{count} records, {} MiB in the archive: topic backup {backup} MiB in {:.0} s, topic replay {replayed} MiB in {:.0} s, {} equal",
        stored >> 20,
        backup_took.as_secs_f64(),
        replay_took.as_secs_f64(),
        equal.trim()
    );
    assert_eq!(equal.trim(), count.to_string());
    assert!(backup > 0 && backup < MEMORY_MIB, "topic backup had {backup} MiB");
    assert!(replayed > 0 && replayed < MEMORY_MIB, "topic replay had {replayed} MiB");
}
