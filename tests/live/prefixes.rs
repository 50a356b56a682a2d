//! Recovery after recovery on one repository, with targets of every kind, and restores of the same repository into empty folders: each
//! has exactly the transactions that a client had committed up to the target, by what the client itself wrote down.
//!
//! `cargo test` makes a few recoveries in a row on a folder, `CDC_DRILL_RECOVERIES=10` that many, and `CDC_DRILL_RECOVERIES_IN=bucket` makes
//! them on a bucket (`just recoveries`).

use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::{Command, Stdio},
};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::{
    object_server::{ObjectServer, stack_with},
    sandbox::{Said, Stack, cdc_drill_with},
};

/// How many recoveries `cargo test` makes.
const SAMPLE: usize = 4;
/// How many transactions a client commits between two recoveries.
const BETWEEN: u32 = 6;

/// A committed transaction, as its client knows it: nothing here is read from the WAL.
#[derive(Clone, Debug)]
struct Transaction {
    id: u32,
    xid: u32,
    /// What the server's clock showed after it, and where its WAL was.
    time: String,
    lsn: String,
    /// A restore point that was set after it, unless a recovery gave it up: it is behind the commit.
    name: Option<String>,
}

/// A pipeline whose repository is in a folder, or in a bucket of a server.
struct Scene {
    stack: Stack,
    server: Option<ObjectServer>,
}

impl Scene {
    async fn up(root: &Utf8Path) -> Scene {
        match std::env::var("CDC_DRILL_RECOVERIES_IN").as_deref() {
            Ok("bucket") => {
                let server = ObjectServer::up("prefixes").await;
                let stack = stack_with(&server, root, &server.address("prefixes")).await;
                Scene { stack, server: Some(server) }
            }
            Ok("folder") | Err(_) => Scene { stack: Stack::beside_lent(root.join("stack")), server: None },
            Ok(other) => panic!("CDC_DRILL_RECOVERIES_IN: expected folder or bucket, found `{other}`"),
        }
    }

    fn expect(&self, exit: i32, line: &str, part: &str) -> Said {
        let environment: Vec<(&str, &str)> = self.server.iter().flat_map(ObjectServer::environment).collect();
        let said = cdc_drill_with(line, &environment);
        assert_eq!(said.exit, exit, "{line}\n{}{}", said.err, said.out);
        assert!(said.err.contains(part), "{line}: no `{part}` in\n{}", said.err);
        said
    }

    fn repository(&self) -> &Utf8Path {
        &self.stack.config.repository.path
    }

    /// Every archived file with its size; of a bucket, how many there are and what they take.
    fn archived(&self) -> Vec<(Utf8PathBuf, u64)> {
        let repository = self.repository();
        if self.server.is_none() {
            return files(&repository.join("wal"));
        }
        let report = self.expect(0, &format!("backup check --repository {repository} --json"), "");
        let report: Value = serde_json::from_str(&report.out).unwrap();
        let number = |name: &str| report[name].as_u64().unwrap();
        vec![(number("files").to_string().into(), number("bytes"))]
    }
}

/// What a client did: the transactions that the server has, and those of every timeline that there was.
#[derive(Default)]
struct Ledger {
    kept: Vec<Transaction>,
    /// The timelines on which a transaction id was committed.
    seen: BTreeMap<u32, Vec<u32>>,
    /// How many transactions there were when each recovery point was taken that is still on the way.
    points: Vec<usize>,
    last_id: u32,
}

impl Ledger {
    async fn commit(&mut self, stack: &Stack, count: u32, timeline: u32) {
        let sql = stack.sql("shop").await;
        for _ in 0..count {
            self.last_id += 1;
            let (id, name) = (self.last_id + 1000, format!("after-{}", self.last_id));
            sql.run(&format!("insert into orders values ({id}, 'new')")).await.unwrap();
            let xid = sql.value(&format!("select xmin::text::bigint from orders where id = {id}")).await.unwrap();
            let shown = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
            let time = sql.text(shown).await.unwrap().unwrap();
            let lsn = sql.text("select pg_current_wal_insert_lsn()").await.unwrap().unwrap();
            sql.run(&format!("select pg_create_restore_point('{name}')")).await.unwrap();
            self.kept.push(Transaction { id, xid, time, lsn, name: Some(name) });
            self.seen.entry(xid).or_default().push(timeline);
        }
    }

    fn ids(&self) -> Vec<u32> {
        self.kept.iter().map(|transaction| transaction.id).collect()
    }

    fn point(&mut self, scene: &Scene) {
        scene.expect(0, &format!("backup create --config {}", scene.stack.file()), "recovery point");
        self.points.push(self.kept.len());
    }

    /// Gives up everything but the first so many transactions, and what followed on the last of them.
    fn cut(&mut self, kind: &str, to: usize) {
        self.kept.truncate(to);
        if let Some(last) = self.kept.last_mut().filter(|_| !matches!(kind, "name" | "latest")) {
            last.name = None;
        }
        self.points.retain(|point| *point <= to);
    }

    /// A target of a kind, with how many transactions it keeps. Of those that lie behind a recovery point, another one each time.
    fn target(&self, kind: &str, round: usize) -> (String, usize) {
        let first = self.points[0];
        // A time is reached when something was committed after it.
        let mut at = first + (round * 5 + 2) % (self.kept.len() - 1 - first);
        while kind == "name" && self.kept[at].name.is_none() {
            at += 1;
        }
        let transaction = &self.kept[at];
        match kind {
            "xid" => (format!("xid:{}", transaction.xid), at + 1),
            "time" => (format!("time:{}", transaction.time), at + 1),
            "lsn" => (format!("lsn:{}", transaction.lsn), at + 1),
            "name" => (format!("name:{}", transaction.name.as_ref().unwrap()), at + 1),
            "immediate" => ("immediate".into(), *self.points.last().unwrap()),
            _ => ("latest".into(), self.kept.len()),
        }
    }
}

/// The ids that a client inserted and the server has.
async fn there(stack: &Stack) -> Vec<u32> {
    let rows = stack.sql("shop").await.texts("select id from orders where id > 1000 order by id").await.unwrap();
    rows.into_iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect()
}

/// The same of a data folder that no server works in, by a server without any address.
pub(super) fn in_folder(stack: &Stack, data: &Utf8Path) -> Vec<u32> {
    let meta = data.metadata().unwrap();
    let mut command = Command::new(stack.config.postgres.bin.join("postgres"));
    command.args(["--single", "-D", data.as_str(), "-c", "archive_mode=off", "shop"]);
    if nix::unistd::geteuid().is_root() {
        command.uid(meta.uid()).gid(meta.gid());
    }
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let asked = "select id from orders where id > 1000 order by id\n";
    server.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
    let output = server.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let ids = said.lines().filter_map(|line| line.split("id = \"").nth(1)?.split('"').next()?.parse().ok());
    ids.collect()
}

fn files(folder: &Utf8Path) -> Vec<(Utf8PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in folder.read_dir_utf8().unwrap() {
        let path = entry.unwrap().into_path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), path.metadata().unwrap().len())),
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_after_recovery_ends_at_the_ledgers_prefix() {
    let count = std::env::var("CDC_DRILL_RECOVERIES").map_or(SAMPLE, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let scene = Scene::up(&root).await;
    let stack = &scene.stack;
    stack.pipeline("shop").await;
    let (file, mut ledger, mut timeline) = (stack.file(), Ledger::default(), 1);
    ledger.commit(stack, 2, timeline).await;
    ledger.point(&scene);
    let (mut used_again, mut seconds) = (0, Vec::new());
    let kinds = ["xid", "immediate", "time", "xid", "lsn", "name", "latest", "xid", "time", "immediate"];
    for (round, kind) in kinds.iter().cycle().take(count).enumerate() {
        ledger.commit(stack, BETWEEN, timeline).await;
        if round == 5 {
            ledger.point(&scene);
            ledger.commit(stack, BETWEEN, timeline).await;
        }
        let (target, keeps) = ledger.target(kind, round);
        if let Some(xid) = target.strip_prefix("xid:") {
            let on = &ledger.seen[&xid.parse::<u32>().unwrap()];
            if on.len() > 1 {
                used_again += 1;
                let plan = format!("recover plan coordinated --config {file} --target {target}");
                let refused = scene.expect(40, &plan, "expected one transaction of this id");
                for timeline in on {
                    assert!(refused.err.contains(&format!("--timeline {timeline}")), "{}", refused.err);
                }
            }
        }
        let on =
            if matches!(*kind, "latest" | "immediate") { String::new() } else { format!(" --timeline {timeline}") };
        let run = format!("recover run coordinated --yes --json --config {file} --target {target}{on}");
        let began = std::time::Instant::now();
        let said = scene.expect(0, &run, "the topics hold what the tables hold");
        seconds.push(format!("{kind} {:.1}", began.elapsed().as_secs_f64()));
        ledger.cut(kind, keeps);
        assert_eq!(there(stack).await, ledger.ids(), "recovery {round}, {target}{on}\n{}", said.err);
        let outcome: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(outcome["archiving"]["verdict"], "passed", "{}", said.out);
        timeline = stack.sql("shop").await.timeline().await.unwrap().get();
        assert_eq!(timeline as usize, round + 2);
    }
    eprintln!("{count} recoveries: {}; ids used again: {used_again}", seconds.join(", "));
    assert!(count < SAMPLE || used_again > 0, "an id that was used again is asked for");
    restored(&scene, &root, &mut ledger, timeline).await;
}

/// The same repository, with no server about.
async fn restored(scene: &Scene, root: &Utf8Path, ledger: &mut Ledger, timeline: u32) {
    let stack = &scene.stack;
    ledger.commit(stack, BETWEEN, timeline).await;
    stack.sql("shop").await.run("select pg_switch_wal()").await.unwrap();
    let (pgdata, repository) = (&stack.config.postgres.pgdata, scene.repository());
    let line = format!("postgres restore --repository {repository} --bin {}", stack.config.postgres.bin);
    scene.expect(41, &format!("{line} --pgdata {pgdata}"), "expected no server, found one at work in it");
    scene.expect(0, &format!("stack stop --dir {} postgres", stack.dir), "");
    scene.expect(41, &format!("{line} --pgdata {pgdata}"), "expected an empty folder");
    scene.expect(2, &format!("postgres restore --pgdata {root}/x"), "--repository");
    scene.expect(2, &format!("{line} --pgdata {root}/x --exclusive"), "--exclusive");
    let archived = scene.archived();
    for kind in ["xid", "time", "lsn", "name", "immediate", "latest"] {
        let (data, (target, keeps)) = (root.join(kind), ledger.target(kind, 3));
        let restore = format!("{line} --pgdata {data} --target {target} --timeline {timeline} --json");
        let dry = scene.expect(0, &format!("{restore} --dry-run"), "dry run");
        assert!(!data.exists(), "{}", dry.err);
        let said = scene.expect(0, &restore, "");
        let outcome: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(outcome["timeline"], timeline + 1, "{}", said.out);
        let last = outcome["last_commit"].as_str().map(|last| last.split(',').next().unwrap().to_owned());
        if keeps > ledger.points.last().copied().unwrap_or_default() {
            assert_eq!(last, Some(ledger.kept[keeps - 1].xid.to_string()), "{}", said.out);
        }
        let settings = std::fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
        assert!(!settings.contains("recovery") && !settings.contains("restore_command"), "{settings}");
        for gone in ["recovery.signal", "standby.signal", "backup_label", "postmaster.pid", "postmaster.opts"] {
            assert!(!data.join(gone).exists(), "{gone}");
        }
        let control = Command::new(stack.config.postgres.bin.join("pg_controldata")).arg(&data).output().unwrap();
        let control = String::from_utf8(control.stdout).unwrap();
        assert!(
            control.lines().any(|l| l.starts_with("Database cluster state:") && l.ends_with("shut down")),
            "{control}"
        );
        let ids: Vec<u32> = ledger.kept[..keeps].iter().map(|transaction| transaction.id).collect();
        assert_eq!(in_folder(stack, &data), ids, "{target}");
        scene.expect(41, &restore, "expected an empty folder");
    }
    assert_eq!(scene.archived(), archived, "nothing is archived by a restore");
}
