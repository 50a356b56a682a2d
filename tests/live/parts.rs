//! Each part of a recovery point is restored alone, and what comes of it is asked of the systems: a connector streams again and the topics
//! hold what the tables hold, the next consumer of a group gets the record that it would have got, the registry exports the same. What is
//! not safe is refused, and nothing is touched then.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
};

use camino::Utf8PathBuf;
use cdc_model::units::{Offset, Subject, TopicPartition};
use cdc_pipeline::client::{
    ClientError,
    connect::Connect,
    group::OffsetReset,
    kafka::{Kafka, TopicSpec},
    registry::Registry,
    wait::{self, Poll},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::sandbox::{DEADLINE, Said, Stack, cdc_drill, expect};

const ORDERS: &str = "shop.public.orders";

struct Scene {
    stack: Stack,
    kafka: Kafka,
    connect: Connect,
    // Removed when the stack is down.
    _folder: tempfile::TempDir,
}

impl Scene {
    fn up(stack: impl FnOnce(Utf8PathBuf) -> Stack) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let stack = stack(Utf8PathBuf::from_path_buf(folder.path().join("stack")).unwrap());
        let (kafka, connect) = (Kafka::of(&stack.config().kafka).unwrap(), Connect::of(&stack.config().connect));
        Scene { stack, kafka, connect, _folder: folder }
    }

    fn restore(&self, exit: i32, line: &str, part: &str) -> Said {
        expect(exit, &format!("restore {line} --config {}", self.stack.file()), part)
    }

    fn back_up(&self) -> String {
        let said = expect(0, &format!("backup create --json --config {}", self.stack.file()), "");
        serde_json::from_str::<Value>(&said.out).unwrap()["point"].as_str().unwrap().to_owned()
    }

    fn verified(&self) {
        expect(0, &format!("verify --config {}", self.stack.file()), "passed");
    }

    async fn insert(&self, from: i64, to: i64) {
        let rows = format!("insert into orders select g, 'x' || g from generate_series({from}, {to}) g");
        self.stack.sql("shop").await.run(&rows).await.unwrap();
    }

    async fn committed(&self, group: &str, topic: &str) -> Option<i64> {
        let at = TopicPartition { topic: topic.into(), partition: 0 };
        let found = self.kafka.group_offsets(group, std::slice::from_ref(&at)).await.unwrap();
        found.first().map(|(_, offset)| offset.0)
    }

    async fn commit(&self, group: &str, topic: &str, offset: i64) {
        let at = TopicPartition { topic: topic.into(), partition: 0 };
        self.kafka.commit_group_offsets(group, &[(at, Offset(offset))]).await.unwrap();
    }

    async fn make(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let spec = TopicSpec { name: name.into(), partitions, replication: 1, settings };
        self.kafka.create_topics(&[spec]).await.unwrap();
    }

    /// What the connector's slot has confirmed stands still, so that stored offsets and slot belong together.
    async fn stopped(&self) {
        self.connect.stopped("shop", DEADLINE).await.unwrap();
        let server = self.stack.sql("shop").await;
        wait::until("the slot to be free", DEADLINE, || async {
            let free = server.slots().await?.iter().all(|slot| !slot.active);
            Ok::<_, ClientError>(if free { Poll::Ready(()) } else { Poll::NotYet("active".into()) })
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_topics_are_restored_one_by_one() {
    let scene = Scene::up(Stack::beside_lent);
    scene.make("play.a", 1, &[("retention.ms", "-1")]).await;
    scene.make("play.b", 2, &[]).await;
    scene.make("connect-play", 1, &[("cleanup.policy", "compact")]).await;
    for number in 0..10 {
        scene.kafka.produce("play.a", Some(0), None, Some(format!("{number}").as_bytes())).await.unwrap();
    }
    scene.commit("app", "play.a", 4).await;
    scene.commit("other", "play.a", 2).await;
    scene.back_up();
    scene.restore(0, "groups", "nothing differs");

    // A position that was moved, and a group that was deleted and had never been there by another name.
    scene.commit("app", "play.a", 9).await;
    scene.commit("other", "play.a", 9).await;
    scene.restore(40, "groups nobody --yes", "groups nobody: expected names that the recovery point has");
    scene.restore(0, "groups app --dry-run", "from 9 back to 4: 5 offsets are read again");
    scene.restore(41, "groups app", "run again with --yes");
    assert_eq!(scene.committed("app", "play.a").await, Some(9), "nothing was touched");
    let said = scene.restore(0, "groups app --yes --json", "1 position read back");
    let done: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(done["changes"][0]["name"], "app", "{done}");
    let read = scene.kafka.consume_as("app", OffsetReset::Latest, &["play.a".to_owned()]).await.unwrap();
    let first: BTreeMap<_, _> = read.into_iter().map(|(at, consumed)| (at.partition, consumed.first)).collect();
    assert_eq!(first, BTreeMap::from([(0, Some(Offset(4)))]), "the next consumer begins where it was");
    assert_eq!(scene.committed("other", "play.a").await, Some(9), "it was not named");

    // A group that reads keeps its positions.
    let mut client = rdkafka::ClientConfig::new();
    client
        .set("bootstrap.servers", scene.kafka.bootstrap())
        .set("group.id", "other")
        .set("enable.auto.commit", "false");
    let member: rdkafka::consumer::BaseConsumer = client.create().unwrap();
    rdkafka::consumer::Consumer::subscribe(&member, &["play.a"]).unwrap();
    wait::until("a member of the group", DEADLINE, || async {
        let _ = member.poll(std::time::Duration::from_millis(50));
        let groups = scene.kafka.groups().await?;
        let there = groups.iter().any(|g| g.name == "other" && !g.members.is_empty());
        Ok::<_, ClientError>(if there { Poll::Ready(()) } else { Poll::NotYet("none".into()) })
    })
    .await
    .unwrap();
    scene.restore(40, "groups other --yes", "group other: expected no members");
    drop(member);

    // Settings and partitions, of data and of servers' topics.
    scene.restore(0, "topics", "restored only where they are named");
    scene.kafka.set_topic_settings("play.a", &BTreeMap::from([("retention.ms".into(), "60000".into())])).await.unwrap();
    scene.kafka.set_topic_settings("connect-play", &BTreeMap::new()).await.unwrap();
    scene.kafka.delete_topics(&["play.b".to_owned()]).await.unwrap();
    scene.restore(0, "topics --dry-run", "sets retention.ms from 60000 to -1");
    scene.restore(0, "topics play.b connect-play --yes", "sets cleanup.policy from unset to compact");
    let names = ["play.a", "play.b", "connect-play"].map(str::to_owned);
    let specs = scene.kafka.topic_specs(&names).await.unwrap();
    let of = |name: &str| specs.iter().find(|s| s.name == name).unwrap();
    assert_eq!((of("play.b").partitions, of("connect-play").settings["cleanup.policy"].as_str()), (2, "compact"));
    assert_eq!(of("play.a").settings["retention.ms"], "60000", "it was not named");
    scene.restore(0, "topics --yes", "topic play.a: 1 partition and 1 setting read back");
    scene.restore(0, "topics", "nothing differs");
    // Partitions are added, and never taken away.
    scene.kafka.delete_topics(&["play.b".to_owned()]).await.unwrap();
    scene.make("play.b", 1, &[]).await;
    scene.restore(0, "topics play.b --yes", "topic play.b: 2 partitions");
    scene.kafka.add_partitions("play.b", 3).await.unwrap();
    scene.restore(40, "topics play.b play.a --yes", "topic play.b has 3 partitions and had 2 partitions");

    // Another topic of the same name, with fewer records: what the positions meant is gone.
    scene.kafka.delete_topics(&["play.a".to_owned()]).await.unwrap();
    scene.restore(41, "groups app --yes", "topic play.a is not there");
    scene.make("play.a", 1, &[]).await;
    scene.kafka.produce("play.a", Some(0), None, Some(b"first")).await.unwrap();
    scene.restore(41, "groups app --yes", "topic play.a is another one than that of the point");
    scene.restore(41, "groups app --yes --accept-topic play.b", "--accept-topic play.a");
    scene.restore(0, "groups app --yes --accept-topic play.a", "is set to 0 instead of 4");
    let read = scene.kafka.consume_as("app", OffsetReset::Latest, &["play.a".to_owned()]).await.unwrap();
    assert_eq!(read.values().map(|c| c.records).sum::<u64>(), 1, "no record is passed over");
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_are_restored_with_offsets_that_are_safe_and_no_others() {
    let scene = Scene::up(Stack::beside_lent);
    scene.stack.pipeline("shop").await;
    let before = scene.back_up();
    scene.restore(0, "connectors", "nothing differs");

    // It was deleted; its offsets are still on the worker.
    scene.connect.delete("shop").await.unwrap();
    scene.insert(201, 210).await;
    scene.restore(0, "connectors --dry-run", "makes it, STOPPED, with its configuration");
    assert!(!scene.connect.exists("shop").await.unwrap(), "nothing was touched");
    scene.restore(0, "connectors shop --yes", "state RUNNING read back");
    scene.stack.records("shop", 210).await;
    scene.verified();

    // It was changed.
    let config = scene.connect.config("shop").await.unwrap();
    let mut changed = config.clone();
    changed.insert("max.batch.size".into(), "17".into());
    scene.connect.put_config("shop", &changed).await.unwrap();
    scene.restore(0, "connectors --yes", "sets max.batch.size from 17 to 1024");
    assert_eq!(scene.connect.config("shop").await.unwrap(), config);
    scene.insert(211, 220).await;
    scene.stack.records("shop", 220).await;
    scene.verified();

    // The worker lost its offsets, and the slot stands where the point's are.
    scene.stopped().await;
    let stopped = scene.back_up();
    scene.connect.delete_offsets("shop").await.unwrap();
    scene.connect.delete("shop").await.unwrap();
    scene.insert(221, 230).await;
    scene.restore(0, "connectors --yes", "sets the point's stored offsets");
    assert_eq!(scene.connect.status("shop").await.unwrap().connector.state, "STOPPED", "as the point has it");
    scene.connect.resume("shop").await.unwrap();
    scene.stack.records("shop", 230).await;
    scene.verified();
    let ends: i64 = scene.kafka.watermarks(ORDERS).await.unwrap().iter().map(|(_, end)| end.0).sum();
    assert_eq!(ends, 230, "each change once, and no new snapshot");

    // Its slot has gone on since: what is between would not be given again.
    scene.stopped().await;
    scene.connect.delete_offsets("shop").await.unwrap();
    scene.restore(41, &format!("connectors --yes --point {stopped}"), "slot shop is ahead");
    scene.restore(41, &format!("connectors --yes --point {before}"), "slot shop is ahead");
    assert!(scene.connect.offsets("shop").await.unwrap().is_empty(), "nothing was touched");

    // The slot is gone.
    scene.stack.sql("shop").await.run("select pg_drop_replication_slot('shop')").await.unwrap();
    scene.restore(41, &format!("connectors --yes --point {before}"), "its slot is missing");
    let line = format!("connectors --yes --point {before} --accept-loss offsets");
    scene.restore(0, &line, "it begins anew (snapshot.mode=initial)");
    scene.stack.records("shop", 460).await;
    scene.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_timeline_that_was_left_are_not_restored() {
    let scene = Scene::up(Stack::beside_lent);
    scene.stack.pipeline("shop").await;
    scene.back_up();
    let server = scene.stack.sql("shop").await;
    let target = server.text("select pg_create_restore_point('before')").await.unwrap();
    assert!(target.is_some());
    scene.insert(201, 260).await;
    scene.stack.records("shop", 260).await;
    let later = scene.back_up();
    let file = scene.stack.file();
    let with_more = std::fs::read_to_string(&file).unwrap() + "\n[recovery]\npoint = \"take\"\n";
    std::fs::write(&file, with_more).unwrap();
    let run = format!("recover run coordinated --target name:before --yes --json --config {file}");
    let said = expect(0, &run, "of timeline 2 was taken");
    assert!(!said.err.contains("take a recovery point of timeline"), "it is not suggested as well: {}", said.err);
    let outcome: Value = serde_json::from_str(&said.out).unwrap();
    let taken = outcome["new_point"]["point"].as_str().unwrap();
    assert_eq!(outcome["new_point"]["verdict"], "passed", "{outcome}");
    expect(0, &format!("backup verify {taken} --deep --config {file}"), "");
    let plan = format!("recover plan coordinated --target latest --json --config {file}");
    assert_eq!(
        serde_json::from_str::<Value>(&expect(0, &plan, "").out).unwrap()["point"],
        taken,
        "it is the next one's"
    );
    scene.verified();
    // The point's offset lies behind the fork; that of the worker is of the new timeline.
    scene.connect.delete("shop").await.unwrap();
    let line = format!("connectors --point {later}");
    scene.restore(0, &format!("{line} --yes"), "keeps the stored offsets that the worker has");
    scene.verified();
    scene.stopped().await;
    scene.connect.delete_offsets("shop").await.unwrap();
    let said = scene.restore(41, &format!("{line} --yes"), "which the server left at");
    assert!(said.err.contains("is another one than that of the point"), "its topics are others too: {}", said.err);
}

/// Entities without the ids of versions and comments, which no record and no reader has.
fn content_of(entities: BTreeSet<String>) -> BTreeSet<String> {
    let without_ids = |entity: String| {
        let (kind, text) = entity.split_once(' ').unwrap();
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(mut fields)) => {
                fields.retain(|key, _| !["globalId", "commentId"].contains(&key.as_str()));
                format!("{kind} {}", Value::Object(fields))
            }
            _ => entity,
        }
    };
    entities.into_iter().map(without_ids).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_lost_comes_back_under_its_ids() {
    let scene = Scene::up(|dir| Stack::up(dir, ""));
    scene.stack.pipeline("shop").await;
    let registry = Registry::of(&scene.stack.config().registry);
    super::registry_store::filled(&registry).await;
    let everything = async || content_of(super::registry_store::everything(&registry).await);
    let before = everything().await;
    scene.back_up();
    scene.restore(0, "registry", "nothing differs");
    let native =
        async |method: Method, path: &str, body: Option<Value>| registry.native(method, path, body).await.unwrap();

    // Alone, by name: everything else stays away.
    native(Method::DELETE, "/groups/apps/artifacts/invoice", None).await;
    native(Method::DELETE, "/groups/default/artifacts/thing-value", None).await;
    native(Method::DELETE, "/groups/default/artifacts/shop.public.orders-key", None).await;
    scene.restore(40, "registry nobody --yes", "registry nobody: expected subjects");
    scene.restore(0, "registry thing-value --dry-run", "registers version 1 again");
    scene.restore(0, "registry thing-value --yes", "read back");
    assert!(
        registry
            .version(&Subject::new(format!("{ORDERS}-key")), cdc_model::units::SubjectVersion(1), true)
            .await
            .unwrap()
            .is_none()
    );
    scene.restore(0, "registry apps --yes", "ArtifactVersion apps/invoice/1.0.0");
    scene.restore(0, "registry --yes", "registers the subject again");
    assert_eq!(everything().await, before, "records are read as before");

    // In place: rules, levels, states, descriptions.
    native(Method::DELETE, "/admin/rules/INTEGRITY", None).await;
    native(Method::DELETE, "/groups/apps/rules/COMPATIBILITY", None).await;
    let disabled = json!({"state": "DISABLED"});
    native(Method::PUT, "/groups/default/artifacts/thing-value/versions/1/state", Some(disabled)).await;
    registry.set_subject_level(&Subject::new(format!("{ORDERS}-value")), "NONE").await.unwrap();
    scene.restore(0, "registry --yes", "sets version 1 from DISABLED to ENABLED");
    assert_eq!(everything().await, before);
    scene.insert(201, 210).await;
    scene.stack.records("shop", 210).await;
    scene.verified();

    // Its id means something else now.
    native(Method::DELETE, "/groups/default/artifacts/thing-value", None).await;
    let other = r#"{"type":"record","name":"Other","fields":[]}"#;
    registry.register(&Subject::new("thing-value"), other, &[]).await.unwrap();
    scene.restore(40, "registry thing-value --yes", "recover run schema");
    let said = cdc_drill(&format!("restore registry --yes --config {}", scene.stack.file()));
    assert_eq!(said.exit, 40, "{}", said.err);
}

/// Apicurio serves Confluent's API as well: by it the registry is read, and levels are set.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_read_and_restored_by_confluents_api() {
    let scene = Scene::up(|dir| Stack::up(dir, ""));
    let native = Registry::of(&scene.stack.config().registry);
    let file = scene.stack.file();
    let text = std::fs::read_to_string(&file).unwrap();
    let url = &scene.stack.config().registry.url;
    let text = text.replace("flavour = \"apicurio\"", "flavour = \"confluent\"");
    let text = text.replace(&format!("url = \"{url}\""), &format!("url = \"{url}/apis/ccompat/v7\""));
    std::fs::write(&file, text).unwrap();
    let registry = Registry::of(&cdc_pipeline::config::Config::load(&file).unwrap().registry);
    let (one, two) = (Subject::new("one-value"), Subject::new("two/value"));
    let schema = |name: &str| format!(r#"{{"type":"record","name":"{name}","fields":[]}}"#);
    registry.set_global_level("NONE").await.unwrap();
    let gap = Subject::new("gap-value");
    for (subject, name) in [(&one, "One"), (&one, "Other"), (&two, "Two"), (&gap, "Gap"), (&gap, "Behind")] {
        registry.register(subject, &schema(name), &[]).await.unwrap();
    }
    registry.delete_version(&gap, cdc_model::units::SubjectVersion(1), true).await.unwrap();
    registry.delete_version(&one, cdc_model::units::SubjectVersion(1), false).await.unwrap();
    registry.set_subject_level(&two, "FULL").await.unwrap();
    expect(0, &format!("backup create --only registry --config {file}"), "");
    scene.restore(0, "registry", "nothing differs");
    expect(0, &format!("backup check --deep --config {file}"), "");
    registry.set_subject_level(&two, "NONE").await.unwrap();
    registry.delete_version(&one, cdc_model::units::SubjectVersion(2), false).await.unwrap();
    assert_eq!(native.subject_level(&two).await.unwrap().as_deref(), Some("NONE"));
    scene.restore(0, "registry two/value --yes", "sets the compatibility level from NONE to FULL");
    assert_eq!(native.subject_level(&two).await.unwrap().as_deref(), Some("FULL"));

    // It takes mode IMPORT and ignores what is asked for in it. A text that it still has keeps its id by that alone; a number behind a gap
    // does not come back, and nothing is left of the attempt.
    registry.delete_subject(&two, true).await.unwrap();
    scene.restore(0, "registry two/value --yes", "read back");
    registry.delete_subject(&gap, true).await.unwrap();
    scene.restore(40, "registry gap-value --yes", "ignores ids and numbers");
    assert!(!registry.subjects(true).await.unwrap().contains(&gap), "it was taken away again");
    let mode = native.subject_mode(&gap).await.unwrap();
    assert_eq!(mode.as_deref().unwrap_or("READWRITE"), "READWRITE");
}
