//! Topics' records are backed up, verified and replayed: every record as it was, what was lost as recorded gaps, and nothing into a topic
//! with other content.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_model::units::{Offset, TopicPartition};
use cdc_pipeline::client::{
    ClientError,
    kafka::{Kafka, Record, TopicSpec},
    wait::{self, Poll},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
    topic_partition_list::{Offset as RdOffset, TopicPartitionList},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::sandbox::{DEADLINE, Stack, cdc_drill, expect};

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
        let stack = Stack::up(Utf8PathBuf::from_path_buf(folder.path().join("stack")).unwrap(), "");
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
        let limit = Duration::from_secs(60);
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
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, RdOffset::Offset(offset)).unwrap();
        admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
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
