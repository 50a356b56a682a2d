//! `topic backup` on a disk that is full at every write: no backup is half valid, nothing that was there is lost, and the next run goes on.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use cdc_model::units::Exit;
use cdc_pipeline::client::kafka::{Kafka, TopicSpec};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use super::{
    prepared::{Mount, folder},
    sandbox::{Said, Stack, cdc_drill, expect},
};

const TOPIC: &str = "play.full";
/// Room that is certainly enough.
const LARGE_KIB: u64 = 64 << 10;
/// `tmpfs` gives room by the page.
const STEP_KIB: u64 = 4;

/// Records that do not compress: so many of each partition, of two kilobytes.
async fn produce(kafka: &Kafka, count: usize, seed: u64) {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..count {
        for partition in [0, 1] {
            let value: Vec<u8> = (0..2048).map(|_| random.random()).collect();
            kafka.produce(TOPIC, Some(partition), None, Some(&value[..])).await.unwrap();
        }
    }
}

fn remount(at: &Utf8Path, kib: u64) {
    let status = Command::new("mount").args(["-o", &format!("remount,size={kib}k"), at.as_str()]).status().unwrap();
    assert!(status.success(), "{at}: {kib} KiB");
}

fn used_kib(at: &Utf8Path) -> u64 {
    let output = Command::new("df").args(["-k", "--output=used", at.as_str()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap()
}

struct Scene {
    stack: Stack,
    repository: Utf8PathBuf,
}

impl Scene {
    fn topic(&self, verb: &str) -> Said {
        cdc_drill(&format!("topic {verb} --config {} --json", self.stack.file()))
    }

    /// The backups that there are. Each is whole, by its manifest and by every byte.
    fn backups(&self, what: &str) -> usize {
        let listed = self.topic("list");
        let listed: Value = serde_json::from_str(&listed.out).unwrap_or_else(|_| panic!("{what}: {}", listed.err));
        let all = listed.as_array().unwrap();
        assert!(all.iter().all(|backup| backup["defect"].is_null()), "{what}: {listed}");
        let verified = self.topic("verify");
        assert_eq!(verified.exit, 0, "{what}: {}{}", verified.err, verified.out);
        let check = cdc_drill(&format!("backup check --deep --repository {}", self.repository));
        assert_eq!(check.exit, 0, "{what}: {}{}", check.err, check.out);
        all.len()
    }
}

fn records(backups: &Said) -> u64 {
    let backups: Value = serde_json::from_str(&backups.out).unwrap();
    let partitions = backups[0]["partitions"].as_array().unwrap().iter();
    let segments = partitions.flat_map(|partition| partition["segments"].as_array().unwrap());
    segments.map(|segment| segment["records"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topics_backup_on_a_full_disk_goes_on_when_there_is_room() {
    let (_folder, root) = folder();
    let mut scene = Scene { stack: Stack::beside_lent(root.join("stack")), repository: root.join("disk") };
    let kafka = Kafka::of(&scene.stack.config().kafka).unwrap();
    let spec = TopicSpec { name: TOPIC.into(), partitions: 2, replication: 1, settings: Default::default() };
    kafka.create_topics(&[spec]).await.unwrap();
    std::fs::create_dir(&scene.repository).unwrap();
    let text = std::fs::read_to_string(scene.stack.file()).unwrap();
    let own = scene.stack.config().repository.path.clone();
    std::fs::write(scene.stack.file(), text.replace(own.as_str(), scene.repository.as_str())).unwrap();
    scene.stack.config = cdc_pipeline::config::Config::load(&scene.stack.file()).unwrap();

    // What is there before the disk is full: a backup of the first records.
    let kept = root.join("kept");
    expect(0, &format!("backup init --repository {}", scene.repository), "");
    produce(&kafka, 2, 1).await;
    assert_eq!(scene.topic("backup play.full").exit, 0);
    assert!(Command::new("cp").args(["-a", scene.repository.as_str(), kept.as_str()]).status().unwrap().success());
    produce(&kafka, 8, 2).await;

    let (mut full, mut half, mut room) = (0, 0, 0);
    loop {
        let disk = Mount::new(&format!("-t tmpfs -o size={LARGE_KIB}k tmpfs"), &scene.repository);
        let copied = Command::new("cp").args(["-a", &format!("{kept}/."), scene.repository.as_str()]).status();
        assert!(copied.unwrap().success());
        let before = used_kib(&scene.repository);
        remount(&scene.repository, before + room);
        let said = scene.topic("backup play.full");
        remount(&scene.repository, LARGE_KIB);
        let what = format!("{room} KiB: {}", said.err);
        let there = scene.backups(&what);
        let done = said.exit == 0;
        if !done {
            assert_eq!(said.exit, i32::from(Exit::BudgetExceeded.code()), "{what}");
            full += 1;
            half += u64::from(used_kib(&scene.repository) > before);
        }
        // The one before it is as it was; what was published a moment before the end is whole.
        assert!(there == 2 || there == 1 && !done, "{what}");
        let again = scene.topic("backup play.full");
        assert_eq!(again.exit, 0, "{what}: {}", again.err);
        assert_eq!(records(&again), 20, "{what}");
        let backups: Value = serde_json::from_str(&again.out).unwrap();
        assert_eq!(backups[0]["notes"], serde_json::json!([]), "nothing is read anew: {what}");
        scene.backups(&what);
        let verified = scene.topic("verify").out;
        assert!(!verified.contains("no backup names"), "what was left half is removed: {verified}");
        drop(disk);
        if done {
            break;
        }
        room += STEP_KIB;
    }
    eprintln!("the disk was full {full} times, and {half} of them something was written");
    assert!(full > 8 && half > 2, "{full}, {half}");
}
