//! Sink connectors on the topics that a recovery empties: each ends in the state in which the first run found it, whatever the runs
//! between left half done; its configuration stays, and what it reads afterwards is everything that the tables hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_harness::stack::file_sink_config;
use cdc_model::units::TopicPartition;
use cdc_pipeline::client::{
    ClientError,
    connect::{Connect, ConnectorConfig},
    kafka::Kafka,
    wait::{self, Poll},
};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{
    PROGRAM,
    interrupted::killed,
    sandbox::{DEADLINE, Stack, cdc_drill, expect},
};

const TOPIC: &str = "shop.public.orders";
/// By the state in which they are found.
const SINKS: [&str; 4] = ["failed", "paused", "running", "stopped"];

/// A pipeline with a source that runs, one that is paused, and a sink in each state.
struct Scene {
    stack: Stack,
    sinks: Utf8PathBuf,
    // Removed when the stack is down.
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn up() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let open = |path: &Utf8Path, mode: u32| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open(&root, 0o755);
        let sinks = root.join("sinks");
        for path in [sinks.clone(), sinks.join("gone")] {
            std::fs::create_dir(&path).unwrap();
            // The worker runs as another account.
            open(&path, 0o777);
        }
        let stack = Stack::beside_lent(root.join("stack"));
        let scene = Scene { stack, sinks, _folder: folder };
        scene.stack.pipeline("shop").await;
        scene.stack.pipeline("extra").await;
        let connect = scene.connect();
        connect.paused("extra", DEADLINE).await.unwrap();
        for name in SINKS {
            let config = file_sink_config(scene.stack.config(), &[TOPIC.to_owned()], &scene.file(name)).unwrap();
            connect.put_config(name, &config).await.unwrap();
            scene.reads(name, 0, &scene.ids().await).await;
        }
        scene.fails("failed").await;
        connect.paused("paused", DEADLINE).await.unwrap();
        connect.stopped("stopped", DEADLINE).await.unwrap();
        scene
    }

    fn connect(&self) -> Connect {
        Connect::of(&self.stack.config().connect)
    }

    fn kafka(&self) -> Kafka {
        Kafka::of(&self.stack.config().kafka).unwrap()
    }

    fn file(&self, sink: &str) -> Utf8PathBuf {
        match sink {
            "failed" => self.sinks.join("gone/failed.txt"),
            name => self.sinks.join(format!("{name}.txt")),
        }
    }

    /// The lines of a sink's file; none where there is no file.
    fn lines(&self, sink: &str) -> Vec<String> {
        std::fs::read_to_string(self.file(sink)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Takes a sink's folder away, and waits until it has failed for that.
    async fn fails(&self, sink: &str) {
        std::fs::remove_dir_all(self.file(sink).parent().unwrap()).unwrap();
        self.connect().restart(sink).await.unwrap();
        self.has_failed(sink).await;
    }

    async fn has_failed(&self, connector: &str) {
        let connect = self.connect();
        wait::until(&format!("connector {connector} FAILED"), DEADLINE, || async {
            let status = connect.status(connector).await?;
            Ok::<_, ClientError>(match status.failure() {
                Some(_) => Poll::Ready(()),
                None => Poll::NotYet(status.summary()),
            })
        })
        .await
        .unwrap();
    }

    /// The ids in the table.
    async fn ids(&self) -> BTreeSet<i64> {
        let rows = self.stack.sql("shop").await.texts("select id::text from orders").await.unwrap();
        rows.into_iter().flatten().flatten().map(|id| id.parse().unwrap()).collect()
    }

    async fn insert(&self, from: u32) {
        let rows = format!("insert into orders select g, 'new' from generate_series({from}, {from} + 9) g");
        self.stack.sql("shop").await.run(&rows).await.unwrap();
    }

    /// Waits until the lines of a sink's file behind the first `skip` have each of these rows.
    async fn reads(&self, sink: &str, skip: usize, rows: &BTreeSet<i64>) {
        wait::until(&format!("sink {sink} to have written {} rows", rows.len()), DEADLINE, || async {
            let there: BTreeSet<i64> = self.lines(sink).iter().skip(skip).filter_map(|line| row(line)).collect();
            Ok::<_, ClientError>(match rows.difference(&there).count() {
                0 => Poll::Ready(()),
                lacking => Poll::NotYet(format!("{lacking} are missing")),
            })
        })
        .await
        .unwrap();
    }

    /// The state of every connector: its own, and whether a task has failed.
    async fn states(&self) -> BTreeMap<String, (String, bool)> {
        let connect = self.connect();
        let mut states = BTreeMap::new();
        for name in connect.connectors().await.unwrap() {
            let status = connect.status(&name).await.unwrap();
            states.insert(name, (status.connector.state.clone(), status.failure().is_some()));
        }
        states
    }

    async fn configs(&self) -> BTreeMap<String, ConnectorConfig> {
        let connect = self.connect();
        let mut configs = BTreeMap::new();
        for name in connect.connectors().await.unwrap() {
            configs.insert(name.clone(), connect.config(&name).await.unwrap());
        }
        configs
    }

    /// What a sink's group has committed, by partition.
    async fn committed(&self, sink: &str) -> Vec<i64> {
        let kafka = self.kafka();
        let partitions = kafka.topic_specs(&[TOPIC.to_owned()]).await.unwrap()[0].partitions;
        let all: Vec<_> = (0..partitions).map(|partition| TopicPartition { topic: TOPIC.into(), partition }).collect();
        let found = kafka.group_offsets(&format!("connect-{sink}"), &all).await.unwrap();
        assert_eq!(found.len(), all.len(), "{sink}: {found:?}");
        found.into_iter().map(|(_, at)| at.0).collect()
    }

    /// Requires what a recovery leaves, after the same command was interrupted at each of these moments.
    async fn recovered(&self, run: &str, moments: &[&str]) {
        let (mut states, configs) = (self.states().await, self.configs().await);
        // What made it fail is what the recovery repairs.
        states.insert("shop".into(), ("RUNNING".into(), false));
        let expected = |name: &str, state: &str, failed: bool| {
            assert_eq!(states[name], (state.to_owned(), failed), "connector {name} before the recovery");
        };
        expected("failed", "RUNNING", true);
        expected("paused", "PAUSED", false);
        expected("extra", "PAUSED", false);
        expected("stopped", "STOPPED", false);
        expected("running", "RUNNING", false);
        let lines: BTreeMap<&str, usize> = SINKS.iter().map(|name| (*name, self.lines(name).len())).collect();
        for moment in moments {
            killed(run, moment);
        }
        let said = expect(0, run, "the topics hold what the tables hold");
        assert_eq!(self.states().await, states, "{}", said.err);
        assert_eq!(self.configs().await, configs);
        let failure = "connector failed has failed again, as it was found";
        assert!(said.err.contains(failure), "no `{failure}` in\n{}", said.err);
        assert!(!said.err.contains("stolen"), "a paused source holds its own slot\n{}", said.err);
        // Those that are at rest begin at the beginning when somebody resumes them; the topics are others than they have read.
        for sink in ["failed", "paused", "stopped"] {
            assert!(self.committed(sink).await.iter().all(|at| *at == 0), "{sink}");
            assert_eq!(self.lines(sink).len(), lines[sink], "sink {sink} read while it was at rest");
        }
        self.insert(10_000 + u32::try_from(lines["running"]).unwrap()).await;
        let rows = self.ids().await;
        self.reads("running", lines["running"], &rows).await;
        let connect = self.connect();
        connect.resume("paused").await.unwrap();
        connect.resume("stopped").await.unwrap();
        for sink in ["paused", "stopped"] {
            self.reads(sink, lines[sink], &rows).await;
        }
        connect.paused("paused", DEADLINE).await.unwrap();
        connect.stopped("stopped", DEADLINE).await.unwrap();
    }
}

/// The id of the row that a line shows.
fn row(line: &str) -> Option<i64> {
    line.split_once("after=Struct{id=")?.1.split_once(',')?.0.parse().ok()
}

/// A consumer of another program, in a group of its choice.
struct Stranger {
    left: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stranger {
    async fn joins(scene: &Scene, group: &str, members: usize) -> Stranger {
        let consumer: BaseConsumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", &scene.stack.config().kafka.bootstrap)
            .set("group.id", group)
            .set("client.id", "stranger")
            .create()
            .unwrap();
        consumer.subscribe(&[TOPIC]).unwrap();
        let left = Arc::new(AtomicBool::new(false));
        let leave = left.clone();
        let thread = std::thread::spawn(move || {
            while !leave.load(Ordering::Relaxed) {
                let _ = consumer.poll(std::time::Duration::from_millis(50));
            }
        });
        let kafka = scene.kafka();
        wait::until(&format!("{members} members of group {group}"), DEADLINE, || async {
            let groups = kafka.groups().await?;
            let there = groups.iter().find(|g| g.name == group).map(|g| (g.members.len(), g.state.clone()));
            Ok::<_, ClientError>(match there {
                Some((count, state)) if count == members && state == "Stable" => Poll::Ready(()),
                other => Poll::NotYet(format!("{other:?}")),
            })
        })
        .await
        .unwrap();
        Stranger { left, thread: Some(thread) }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_end_as_the_first_run_found_them() {
    let scene = Scene::up().await;
    let file = scene.stack.file();
    let connect = scene.connect();

    // The slot is lost, and rows are deleted that nobody was told of.
    connect.stopped("shop", DEADLINE).await.unwrap();
    let sql = scene.stack.sql("shop").await;
    wait::until("slot shop without a reader", DEADLINE, || async {
        let held = sql.slots().await?.into_iter().any(|slot| slot.name.as_str() == "shop" && slot.active);
        Ok::<_, ClientError>(if held { Poll::NotYet("active".into()) } else { Poll::Ready(()) })
    })
    .await
    .unwrap();
    sql.run("select pg_drop_replication_slot('shop'); delete from orders where id <= 50").await.unwrap();
    connect.resume("shop").await.unwrap();
    scene.has_failed("shop").await;
    let run = format!("recover run slot --config {file} --yes");
    scene
        .recovered(&run, &["stop-connectors:half-way", "group-offsets:after", "resume:streaming", "resume:after"])
        .await;

    // A recovery that is taken back.
    expect(0, &format!("backup create --config {file}"), "recovery point");
    let states = scene.states().await;
    let run = format!("recover run coordinated --config {file} --yes");
    killed(&run, "fence:after");
    assert!(scene.states().await.values().all(|(state, _)| state == "STOPPED"));
    expect(0, &format!("recover abort --config {file}"), "the old server runs");
    wait::until("the connectors as they were found", DEADLINE, || async {
        let now = scene.states().await;
        Ok::<_, ClientError>(if now == states { Poll::Ready(()) } else { Poll::NotYet(format!("{now:?}")) })
    })
    .await
    .unwrap();

    // The database goes back.
    let sql = scene.stack.sql("shop").await;
    sql.run("select pg_create_restore_point('before'); delete from orders where id <= 150").await.unwrap();
    let run = format!("recover run coordinated --config {file} --target name:before --yes");
    scene.recovered(&run, &["open:after", "delete-topics:after", "resume:streaming", "restore-config:half-way"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_a_sink_s_group_is_named_before_anything_is_touched() {
    let scene = Scene::up().await;
    let file = scene.stack.file();
    let run = format!("recover run slot --connector shop --config {file} --yes");
    let id = scene.stack.topic_id("shop").await;
    for (group, members) in
        [("connect-stopped", 1), ("connect-running", 2), ("connect-failed", 1), ("connect-paused", 2)]
    {
        let _stranger = Stranger::joins(&scene, group, members).await;
        for line in [run.clone(), run.replace("run slot", "plan slot").replace(" --yes", "")] {
            expect(40, &line, &format!("consumer group {group}"));
        }
        assert_eq!(scene.stack.topic_id("shop").await, id);
    }

    // One that comes later keeps the sink's group from being empty: the recovery waits for it to leave.
    killed(&run, "stop-connectors:before");
    let stranger = Stranger::joins(&scene, "connect-stopped", 1).await;
    let mut child = Command::new(PROGRAM)
        .args(run.split(' '))
        .env("CDC_DRILL_BIN", PROGRAM)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let connect = scene.connect();
    wait::until("the running sink STOPPED", DEADLINE, || async {
        let status = connect.status("running").await?;
        Ok::<_, ClientError>(if status.stands_still() { Poll::Ready(()) } else { Poll::NotYet(status.summary()) })
    })
    .await
    .unwrap();
    let begun = "  stop-connectors: begun, and not ended";
    for _ in 0..3 {
        let status = cdc_drill(&format!("recover status --config {file}"));
        assert!(status.err.contains(begun), "{}", status.err);
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    assert_eq!(scene.stack.topic_id("shop").await, id);
    drop(stranger);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_ne!(scene.stack.topic_id("shop").await, id);
}
