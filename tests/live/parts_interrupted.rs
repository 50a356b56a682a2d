//! Restores of a part, and of a data folder, interrupted at each of their moments: nothing is unfinished then, and the same command ends as if
//! nothing had happened. The moments come from the engine itself (`declared::procedures`), so that none can be forgotten.
//!
//! `cargo test` takes a moment of each, `CDC_DRILL_PARTS=all` takes all (`just part-moments`), another text those whose names contain it;
//! `CDC_DRILL_PARTS_SEED` chooses another sample.

use std::{collections::BTreeMap, time::Instant};

use camino::Utf8PathBuf;
use cdc_engine::recovery::declared;
use cdc_model::units::{Offset, SchemaId, Subject, SubjectVersion, TopicPartition};
use cdc_pipeline::client::{
    ClientError,
    connect::{Connect, ConnectorConfig, StoredOffset},
    kafka::{Kafka, TopicSpec},
    registry::Registry,
    wait::{self, Poll},
};
use rand::{SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::{
    prefixes::in_folder,
    prepared::folder,
    processes_with,
    sandbox::{DEADLINE, Said, Stack, cdc_drill_with, expect},
};

/// What is interrupted, at which moment, and how: `kill` or `fail`.
type Drill = (&'static str, &'static str, &'static str);

fn all() -> Vec<Drill> {
    let procedures = declared::procedures().into_iter();
    let moments = procedures.flat_map(|(procedure, moments)| moments.iter().map(move |moment| (procedure, *moment)));
    moments.flat_map(|(procedure, moment)| ["kill", "fail"].map(|how| (procedure, moment, how))).collect()
}

/// One of each, both kinds in turns.
fn sample(seed: u64) -> Vec<Drill> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut how = ["kill", "fail"].into_iter().cycle().skip((seed % 2) as usize);
    let one = |(procedure, moments): (&'static str, &'static [&'static str])| {
        (procedure, *moments.choose(&mut chance).unwrap(), how.next().unwrap())
    };
    declared::procedures().into_iter().map(one).collect()
}

fn chosen() -> Vec<Drill> {
    match std::env::var("CDC_DRILL_PARTS").as_deref() {
        Ok("all") => all(),
        Ok(text) => all().into_iter().filter(|(of, at, how)| format!("{of}:{at}:{how}").contains(text)).collect(),
        Err(_) => {
            let seed =
                std::env::var("CDC_DRILL_PARTS_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
            eprintln!("a sample: CDC_DRILL_PARTS_SEED={seed}");
            sample(seed)
        }
    }
}

const TOPICS: [(&str, i32); 3] = [("play.a", 1), ("play.b", 2), ("play.c", 1)];
const GROUPS: [&str; 2] = ["app", "other"];

/// What each restore has to bring back.
#[derive(Debug, PartialEq)]
struct Wanted {
    configs: Vec<ConnectorConfig>,
    states: Vec<String>,
    offsets: Vec<Vec<StoredOffset>>,
    topics: Vec<TopicSpec>,
    groups: Vec<Vec<(TopicPartition, Offset)>>,
    ids: Vec<Option<SchemaId>>,
    levels: Vec<Option<String>>,
}

struct Scene {
    stack: Stack,
    root: Utf8PathBuf,
    connect: Connect,
    kafka: Kafka,
    registry: Registry,
    drills: usize,
    // Removed when the stack is down.
    _folder: tempfile::TempDir,
}

fn subject(name: &str) -> Subject {
    Subject::new(format!("{name}-value"))
}

impl Scene {
    /// Two connectors, one of which is stopped: its slot stands where its offsets are. Topics, groups and subjects beside them.
    async fn up() -> Scene {
        let (folder, root) = folder();
        let stack = Stack::beside_lent(root.join("stack"));
        let scene = Scene {
            connect: Connect::of(&stack.config().connect),
            kafka: Kafka::of(&stack.config().kafka).unwrap(),
            registry: Registry::of(&stack.config().registry),
            stack,
            root,
            drills: 0,
            _folder: folder,
        };
        for name in ["shop", "extra"] {
            scene.stack.pipeline(name).await;
        }
        let rows = "insert into orders select g, 'new' from generate_series(1001, 1010) g";
        scene.stack.sql("shop").await.run(rows).await.unwrap();
        scene.stack.records("shop", 210).await;
        for (topic, partitions) in TOPICS {
            scene.make(topic, partitions).await;
        }
        for number in 0..10 {
            scene.kafka.produce("play.a", Some(0), None, Some(format!("{number}").as_bytes())).await.unwrap();
        }
        scene.commit(3).await;
        for name in ["one", "two"] {
            let schema = format!(r#"{{"type":"record","name":"{name}","fields":[]}}"#);
            scene.registry.register(&subject(name), &schema, &[]).await.unwrap();
        }
        scene.registry.set_subject_level(&subject("two"), "FULL").await.unwrap();
        scene.connect.stopped("shop", DEADLINE).await.unwrap();
        let server = scene.stack.sql("shop").await;
        wait::until("the slot to be free", DEADLINE, || async {
            let held = server.slots().await?.iter().any(|slot| slot.name.as_str() == "shop" && slot.active);
            Ok::<_, ClientError>(if held { Poll::NotYet("active".into()) } else { Poll::Ready(()) })
        })
        .await
        .unwrap();
        expect(0, &format!("backup create --config {}", scene.stack.file()), "recovery point");
        scene
    }

    async fn make(&self, topic: &str, partitions: i32) {
        let settings = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
        self.kafka
            .create_topics(&[TopicSpec { name: topic.into(), partitions, replication: 1, settings }])
            .await
            .unwrap();
    }

    async fn commit(&self, offset: i64) {
        for group in GROUPS {
            let at = TopicPartition { topic: "play.a".into(), partition: 0 };
            self.kafka.commit_group_offsets(group, &[(at, Offset(offset))]).await.unwrap();
        }
    }

    async fn look(&self) -> Wanted {
        let at = TopicPartition { topic: "play.a".into(), partition: 0 };
        let mut found = Wanted {
            configs: Vec::new(),
            states: Vec::new(),
            offsets: vec![self.connect.offsets("shop").await.unwrap()],
            topics: self.kafka.topic_specs(&TOPICS.map(|(name, _)| name.to_owned())).await.unwrap(),
            groups: Vec::new(),
            ids: Vec::new(),
            levels: Vec::new(),
        };
        found.topics.sort_by(|a, b| a.name.cmp(&b.name));
        for name in ["shop", "extra"] {
            found.configs.push(self.connect.config(name).await.unwrap());
            found.states.push(self.connect.status(name).await.unwrap().connector.state);
        }
        for group in GROUPS {
            found.groups.push(self.kafka.group_offsets(group, std::slice::from_ref(&at)).await.unwrap());
        }
        for name in ["one", "two"] {
            let version = self.registry.version(&subject(name), SubjectVersion(1), true).await.unwrap();
            found.ids.push(version.map(|version| version.id));
            found.levels.push(self.registry.subject_level(&subject(name)).await.unwrap());
        }
        found
    }

    /// Takes away or changes what the part has, so that the restore passes each of its moments.
    async fn break_it(&self, procedure: &str) {
        match procedure {
            "restore-connectors" => {
                self.connect.delete_offsets("shop").await.unwrap();
                self.connect.delete("shop").await.unwrap();
                let mut config = self.connect.config("extra").await.unwrap();
                config.insert("max.batch.size".into(), "17".into());
                self.connect.put_config("extra", &config).await.unwrap();
            }
            "restore-topics" => {
                let other = BTreeMap::from([("retention.ms".to_owned(), "60000000".to_owned())]);
                self.kafka.set_topic_settings("play.a", &other).await.unwrap();
                self.kafka.delete_topics(&["play.b".to_owned(), "play.c".to_owned()]).await.unwrap();
                self.make("play.b", 1).await;
            }
            "restore-groups" => self.commit(9).await,
            "restore-registry" => {
                let path = format!("/groups/default/artifacts/{}", subject("one"));
                self.registry.native(reqwest::Method::DELETE, &path, None).await.unwrap();
                self.registry.set_subject_level(&subject("two"), "NONE").await.unwrap();
            }
            "postgres-restore" => {}
            other => panic!("nobody breaks anything for {other}"),
        }
    }

    fn line(&self, procedure: &str) -> String {
        match procedure.strip_prefix("restore-") {
            Some(part) => format!("restore {part} --yes --config {}", self.stack.file()),
            None => format!(
                "postgres restore --repository {} --bin {} --pgdata {}/data-{} --json",
                self.stack.config().repository.path,
                self.stack.config().postgres.bin,
                self.root,
                self.drills
            ),
        }
    }

    /// What holds when the same command has ended.
    async fn whole(&self, procedure: &str, said: &Said, wanted: &Wanted, what: &str) {
        if let Some(part) = procedure.strip_prefix("restore-") {
            expect(0, &format!("restore {part} --config {}", self.stack.file()), "nothing differs");
            self.connect.running("extra", DEADLINE).await.unwrap();
            assert_eq!(&self.look().await, wanted, "{what}");
            return;
        }
        let outcome: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(outcome["timeline"], 2, "{what}: {outcome}");
        let data = self.root.join(format!("data-{}", self.drills));
        assert_eq!(processes_with(data.as_str()), Vec::<String>::new(), "{what}");
        for gone in [".cdc-drill-restore", "recovery.signal", "backup_label", "postmaster.pid", "postmaster.opts"] {
            assert!(!data.join(gone).exists(), "{what}: {gone}");
        }
        assert_eq!(in_folder(&self.stack, &data), (1001..=1010).collect::<Vec<u32>>(), "{what}");
        std::fs::remove_dir_all(data).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_interrupted_is_repeated_as_if_it_had_not_been() {
    let drills = chosen();
    assert!(!drills.is_empty(), "CDC_DRILL_PARTS is in the name of nothing");
    let mut scene = Scene::up().await;
    let (wanted, file) = (scene.look().await, scene.stack.file());
    for (procedure, moment, how) in &drills {
        let (what, began) = (format!("{procedure}:{moment}:{how}"), Instant::now());
        scene.drills += 1;
        scene.break_it(procedure).await;
        let line = scene.line(procedure);
        let cut = cdc_drill_with(&line, &[("CDC_DRILL_INTERRUPT", &what)]);
        match *how {
            "kill" => assert_eq!(cut.exit, -1, "{what}: {}", cut.err),
            _ => assert!(cut.exit > 0 && cut.err.contains("no interruption"), "{what}: {} {}", cut.exit, cut.err),
        }
        // Nothing else is kept from its work.
        expect(0, &format!("recover status --config {file}"), "no recovery of this cluster is unfinished");
        let again = expect(0, &line, "");
        scene.whole(procedure, &again, &wanted, &what).await;
        eprintln!("{:>6.1} s  {what}", began.elapsed().as_secs_f64());
    }
    eprintln!("{} drills", drills.len());
    scene.connect.resume("shop").await.unwrap();
    scene.stack.sql("shop").await.run("insert into orders values (2000, 'last')").await.unwrap();
    scene.stack.records("shop", 211).await;
    expect(0, &format!("verify --config {file}"), "passed");
    expect(0, &format!("backup create --config {file}"), "recovery point");
}
