//! A recovery point is proved where its source is no more: the servers are stopped and their folders removed. Then one fault is planted in
//! each part, and everything that would give it away made to fit; the proof must be red by the check that it is for.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use cdc_pipeline::client::{
    ClientError,
    wait::{self, Poll},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    prepared::folder,
    processes_with,
    sandbox::{DEADLINE, Said, Stack, expect},
};

const TOPIC: &str = "shop.public.orders";

fn shell(line: &str) {
    let done = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A repository, and the only recovery point in it.
struct Repository {
    root: Utf8PathBuf,
    point: Utf8PathBuf,
}

impl Repository {
    fn at(root: Utf8PathBuf) -> Repository {
        let points = root.join("points");
        let mut found = points.read_dir_utf8().unwrap().flatten().filter(|entry| entry.file_type().unwrap().is_dir());
        let point = found.next().unwrap().into_path();
        assert!(found.next().is_none(), "one point");
        Repository { root, point }
    }

    fn copy(&self, name: &str) -> Repository {
        let to = self.root.with_file_name(name);
        shell(&format!("cp -a {} {to}", self.root));
        Repository::at(to)
    }

    fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.point.join(path)).unwrap()
    }

    /// Changes a file of the point, and makes the manifest and the list of checksums fit.
    fn change(&self, changed: &[(&str, Vec<u8>)], facts: impl FnOnce(&mut Value)) {
        let is_manifest = |name: &str| name.starts_with("manifest-");
        let old = self.point.read_dir_utf8().unwrap().flatten().find(|entry| is_manifest(entry.file_name())).unwrap();
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(old.path()).unwrap()).unwrap();
        facts(&mut manifest);
        for (path, bytes) in changed {
            std::fs::write(self.point.join(path), bytes).unwrap();
            self.fit(&mut manifest, path, bytes);
        }
        let files = manifest["files"].as_array().unwrap().iter();
        let line = |file: &Value| format!("{}  {}\n", file["sha256"].as_str().unwrap(), file["path"].as_str().unwrap());
        let sums: String = files.filter(|file| file["path"] != "SHA256SUMS").map(line).collect();
        std::fs::write(self.point.join("SHA256SUMS"), &sums).unwrap();
        self.fit(&mut manifest, "SHA256SUMS", sums.as_bytes());
        let bytes = serde_json::to_vec_pretty(&manifest).unwrap();
        std::fs::remove_file(old.path()).unwrap();
        std::fs::write(self.point.join(format!("manifest-{}.json", &sha256(&bytes)[..32])), &bytes).unwrap();
    }

    fn fit(&self, manifest: &mut Value, path: &str, bytes: &[u8]) {
        let files = manifest["files"].as_array_mut().unwrap();
        let entry = files.iter_mut().find(|file| file["path"] == path).unwrap();
        (entry["size"], entry["sha256"]) = (bytes.len().into(), sha256(bytes).into());
        if path.ends_with(".zst") {
            let raw = zstd::decode_all(bytes).unwrap();
            (entry["raw_size"], entry["raw_sha256"]) = (raw.len().into(), sha256(&raw).into());
        }
    }

    /// Proves it; what the evidence says.
    fn proved(&self, exit: i32, verdict: &str) -> (Value, Said) {
        let scratch = Utf8PathBuf::from(format!("{}-scratch", self.root));
        let said = expect(exit, &format!("prove --repository {} --json --dir {scratch}", self.root), "evidence: ");
        assert!(!scratch.exists(), "nothing is left of the scratch stack");
        let evidence: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(evidence["verdict"], verdict, "{}", said.err);
        (evidence, said)
    }

    /// Proves it: only this check may be red, and what it found has this in it.
    fn red(&self, check: &str, found: &str) {
        let (evidence, said) = self.proved(10, "failed");
        let checks = evidence["checks"].as_array().unwrap();
        let failed: Vec<&Value> = checks.iter().filter(|report| report["verdict"] != "passed").collect();
        assert_eq!(failed.len(), 1, "{check}: {}", said.err);
        assert_eq!(failed[0]["id"], check, "{}", said.err);
        assert!(failed[0]["findings"].to_string().contains(found), "{check}: no `{found}` in {}", failed[0]);
        assert_ne!(evidence["reason"], "");
        assert!(evidence["rto_seconds"].is_null(), "it did not come to its end");
        let left = |what: &str| evidence["not_compared"].as_array().unwrap().iter().any(|left| left["what"] == what);
        assert!(left("state"), "what was not reached is named: {}", evidence["not_compared"]);
    }
}

/// The checksum that PostgreSQL keeps in a page (`storage/checksum_impl.h`).
fn page_checksum(page: &[u8], block: u32) -> u16 {
    const PRIME: u32 = 16_777_619;
    const BASES: [u32; 32] = [
        0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C, 0xF8D4474F,
        0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB, 0xE58F764B, 0x187636BC,
        0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4, 0x783125BB, 0x6CA8EAA2, 0xE407EAC6,
        0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
    ];
    let mut sums = BASES;
    let round = |sum: &mut u32, value: u32| {
        let mixed = *sum ^ value;
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    };
    let mut page = page.to_vec();
    page[8..10].fill(0);
    for row in page.chunks_exact(128) {
        for (sum, word) in sums.iter_mut().zip(row.chunks_exact(4)) {
            round(sum, u32::from_le_bytes(word.try_into().unwrap()));
        }
    }
    for _ in 0..2 {
        sums.iter_mut().for_each(|sum| round(sum, 0));
    }
    let all = sums.into_iter().fold(0, |all, sum| all ^ sum) ^ block;
    (all % 65535 + 1) as u16
}

/// Where the content of a file begins in a tar archive, and how long it is.
fn in_archive(tar: &[u8], wanted: &str) -> (usize, usize) {
    let mut at = 0;
    while at + 512 <= tar.len() {
        let header = &tar[at..at + 512];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_matches(['\0', ' ']).to_owned();
        let (name, size) = (text(&header[..100]), usize::from_str_radix(&text(&header[124..136]), 8).unwrap_or(0));
        if name.trim_start_matches("./") == wanted {
            return (at + 512, size);
        }
        at += 512 + size.div_ceil(512) * 512;
    }
    panic!("{wanted} is not in the archive");
}

/// Takes the first row out of a table's first page, and makes the page, the server's list of files and the point fit.
fn without_the_first_row(of: &Repository, table: &str) {
    let mut tar = zstd::decode_all(&of.read("pg/base.tar.zst")[..]).unwrap();
    let (at, size) = in_archive(&tar, table);
    let before = sha256(&tar[at..at + size]);
    let page = &mut tar[at..at + 8192];
    assert_eq!(u16::from_le_bytes([page[8], page[9]]), page_checksum(page, 0), "that is how pages are summed up");
    assert_ne!(page[24..28], [0; 4], "a row");
    page[24..28].fill(0);
    let sum = page_checksum(page, 0);
    page[8..10].copy_from_slice(&sum.to_le_bytes());
    let after = sha256(&tar[at..at + size]);
    let list = String::from_utf8(of.read("pg/backup_manifest")).unwrap();
    assert!(list.contains(&before), "its checksums are SHA-256");
    let list = list.replace(&before, &after);
    let end = list.rfind("\"Manifest-Checksum\"").unwrap();
    let list = format!("{}\"Manifest-Checksum\": \"{}\"}}\n", &list[..end], sha256(&list.as_bytes()[..end]));
    let base = zstd::encode_all(&tar[..], 3).unwrap();
    of.change(&[("pg/base.tar.zst", base), ("pg/backup_manifest", list.into_bytes())], |_| {});
}

/// The only file below a folder whose path has this in it.
fn file_below(root: &Utf8Path, part: &str) -> Utf8PathBuf {
    let listed =
        Command::new("find").args([root.as_str(), "-type", "f", "-path", &format!("*{part}*")]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let first = listed.lines().min().unwrap_or_else(|| panic!("no {part} below {root}"));
    Utf8PathBuf::from(first)
}

/// A pipeline with a point and rows behind it, of which nothing is left but the repository. The table's file too.
async fn repository_without_a_source(root: &Utf8Path) -> (Repository, String) {
    let stack = Stack::beside_lent(root.join("stack"));
    let file = stack.file();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[backup]\ntopics = \"data\"\n")).unwrap();
    stack.pipeline("shop").await;
    let sql = stack.sql("shop").await;
    let table = sql.text("select pg_relation_filepath('orders')").await.unwrap().unwrap();
    expect(0, &format!("backup create --config {file}"), "recovery point");
    sql.run("insert into orders select g, 'later' from generate_series(201, 210) g").await.unwrap();
    let needed = sql.text("select pg_walfile_name(pg_current_wal_insert_lsn())").await.unwrap().unwrap();
    sql.run("select pg_switch_wal()").await.unwrap();
    wait::until("the rows to be archived", DEADLINE, || async {
        let last = sql.text("select last_archived_wal from pg_stat_archiver").await?.unwrap_or_default();
        Ok::<_, ClientError>(if last >= needed { Poll::Ready(()) } else { Poll::NotYet(last) })
    })
    .await
    .unwrap();
    drop(sql);
    let dir = stack.dir.clone();
    drop(stack);
    let to = root.join("repository");
    shell(&format!("cp -a {dir}/repository {to} && rm -rf {dir}"));
    (Repository::at(to), table)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_is_proved_without_its_source_and_each_planted_fault_is_told_by_name() {
    let (_folder, root) = folder();
    let (healthy, table) = repository_without_a_source(&root).await;

    // Each before the healthy one: nothing of theirs may be left that another one meets.
    let lacks_schema = healthy.copy("lacks-schema");
    let dump = String::from_utf8(lacks_schema.read("registry/dump.jsonl")).unwrap();
    let subject = format!("{TOPIC}-value");
    let rest: String =
        dump.lines().filter(|line| !line.contains(&format!("\"{subject}\""))).map(|line| format!("{line}\n")).collect();
    assert_eq!(rest.lines().count() + 1, dump.lines().count());
    lacks_schema.change(&[("registry/dump.jsonl", rest.into_bytes())], |manifest| {
        for (fact, less) in [("versions", 1), ("subjects", 1)] {
            manifest["registry"][fact] = (manifest["registry"][fact].as_u64().unwrap() - less).into();
        }
    });
    lacks_schema.red("registry", &subject);

    let lacks_connector = healthy.copy("lacks-connector");
    lacks_connector.change(&[("connect/connectors.json", b"[]\n".to_vec())], |manifest| {
        manifest["connect"]["connectors"] = 0.into();
    });
    lacks_connector.red("connectors", "shop");

    let lacks_wal = healthy.copy("lacks-wal");
    let manifest = file_below(&lacks_wal.point, "/manifest-");
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    let segment = manifest["pg"]["wal_required"][0].as_str().unwrap();
    std::fs::remove_file(file_below(&lacks_wal.root.join("wal"), &segment[16..])).unwrap();
    lacks_wal.red("wal", segment);

    let damaged_records = healthy.copy("damaged-records");
    let stored = file_below(&damaged_records.root.join("topics"), &format!("{TOPIC}/objects/"));
    let mut bytes = std::fs::read(&stored).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&stored, bytes).unwrap();
    damaged_records.red("topic-records", TOPIC);

    let lacks_row = healthy.copy("lacks-row");
    without_the_first_row(&lacks_row, &table);
    lacks_row.red("fingerprints", "199 rows");

    proved_and_signed(&healthy, &root);
    assert_eq!(processes_with(root.as_str()), Vec::<String>::new(), "no server is left");
}

/// The healthy point: green, its evidence complete and signed, and part of the repository from then on.
fn proved_and_signed(healthy: &Repository, root: &Utf8Path) {
    let (key, signers, config) = (root.join("key"), root.join("signers"), root.join("prove.toml"));
    shell(&format!(
        "ssh-keygen -q -t ed25519 -N '' -C auditor -f {key} && (printf 'auditor '; cat {key}.pub) > {signers}"
    ));
    let sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", key.as_str(), "-n", "cdc-drill", "{file}"];
    let settings = format!("[repository]\npath = \"{}\"\n[prove]\nsign = {:?}\n", healthy.root, sign);
    std::fs::write(&config, settings).unwrap();
    let wal = healthy.root.join("wal");
    let archived = || Command::new("find").args([wal.as_str(), "-type", "f"]).output().unwrap().stdout;
    let before = archived();
    let said = expect(0, &format!("prove --config {config} --json --dir {root}/scratch"), "passed");
    let evidence: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&evidence["verdict"], &evidence["reason"]), (&"passed".into(), &"".into()));
    let ids: Vec<&str> =
        evidence["checks"].as_array().unwrap().iter().map(|check| check["id"].as_str().unwrap()).collect();
    for id in [
        "files",
        "wal",
        "topic-records",
        "connectors",
        "registry",
        "fingerprints",
        "state",
        "schema-ids",
        "positions",
        "compatibility",
    ] {
        assert!(ids.contains(&id), "{id} in {ids:?}");
    }
    assert_eq!(evidence["size"]["rows"], 210, "the rows behind the point are there too: {}", said.err);
    assert!(evidence["rto_seconds"].as_f64().unwrap() > 0.0);
    assert!(evidence["files"].as_array().unwrap().iter().all(|file| file["sha256"].is_string()));
    assert_eq!(archived(), before, "nothing was archived");

    let repository = &healthy.root;
    expect(0, &format!("backup check --deep --repository {repository}"), "");
    let verify = format!("prove verify-evidence --repository {repository}");
    expect(0, &verify, "signature: not looked at");
    let signed = format!("--allowed-signers {signers} --identity");
    expect(0, &format!("{verify} {signed} auditor"), "signature: good");
    expect(10, &format!("{verify} {signed} somebody"), "signature: bad");
    let history = expect(0, &format!("prove history --repository {repository} --json"), "");
    let history: Value = serde_json::from_str(&history.out).unwrap();
    assert_eq!(history["proofs"].as_array().unwrap().len(), 1);
    assert_eq!(history["rto"]["last"], evidence["rto_seconds"]);

    let touched = healthy.copy("touched");
    let mut groups = touched.read("kafka/groups.json");
    groups.push(b' ');
    std::fs::write(touched.point.join("kafka/groups.json"), groups).unwrap();
    expect(31, &format!("prove verify-evidence --repository {}", touched.root), "kafka/groups.json");
}
