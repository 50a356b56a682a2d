//! What backups, archived WAL, salvaged WAL and recoveries leave: nobody but its owner can read it, and a recovery point with something
//! wrong is named and not started from.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_model::units::Subject;
use cdc_pipeline::client::registry::Registry;
use nix::sys::stat::{Mode, umask};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::attach::{Stack, expect};

/// Everything below a folder, with its mode, that has another than that of private files and folders.
fn open_to_others(folder: &Utf8Path) -> Vec<String> {
    let mut open = Vec::new();
    for entry in folder.read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let (mode, private) = (meta.mode() & 0o777, if meta.is_dir() { 0o700 } else { 0o600 });
        if mode != private {
            open.push(format!("{} {mode:o}", entry.path()));
        }
        if meta.is_dir() {
            open.extend(open_to_others(entry.path()));
        }
    }
    open
}

fn names(folder: &Utf8Path) -> Vec<String> {
    folder.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_private_and_what_is_wrong_with_a_point_is_told() {
    // That of most machines; a strict one would hide what this is about.
    umask(Mode::from_bits_truncate(0o022));
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let stack = Stack::beside_lent(path.join("stack"));
    stack.pipeline("shop").await;
    let file = stack.file();
    expect(0, &format!("backup create --config {file}"), "");
    // Damage for the schema playbook to repair; and WAL that only a salvage brings into the recovery.
    let registry = Registry::of(&stack.config().registry);
    registry.set_subject_level(&Subject::new("shop.public.orders-value"), "NONE").await.unwrap();
    expect(0, &format!("recover run schema --config {file} --yes"), "");
    stack.sql("shop").await.run("insert into orders values (201, 'late')").await.unwrap();
    expect(0, &format!("recover run coordinated --config {file} --yes"), "the topics hold what the tables hold");

    let repository = stack.dir.join("repository");
    for kept in ["points", "wal", "salvage", "recoveries"] {
        assert!(!names(&repository.join(kept)).is_empty(), "{kept}");
    }
    let records = repository.join("recoveries");
    let record: Vec<String> = names(&records).iter().flat_map(|id| names(&records.join(id))).collect();
    for file in ["found.json", "steps.jsonl", "closed.json", "postgres.log", "registry.json", "registry.zip"] {
        assert!(record.iter().any(|name| name == file), "{file}: {record:?}");
    }
    let open = open_to_others(&repository);
    assert!(open.is_empty(), "{open:#?}");

    let beside = stack.config().postgres.pgdata.parent().unwrap().to_owned();
    let left = names(&beside);
    assert!(left.iter().any(|name| name.starts_with("data.aside-")), "{left:?}");
    for name in left.iter().filter(|name| name.starts_with("data") || name.starts_with('.')) {
        let mode = beside.join(name).metadata().unwrap().mode() & 0o777;
        assert_eq!(mode, 0o700, "{name}");
    }
    wrong_points(&stack, &repository).await;
}

/// One inconsistent point is refused until it is named and agreed to; with an older one beside it, that one is taken.
async fn wrong_points(stack: &Stack, repository: &Utf8Path) {
    let file = stack.file();
    let points = || -> Value {
        serde_json::from_str(&expect(0, &format!("backup list --config {file} --json"), "").out).unwrap()
    };
    let first = points()[0]["point"].as_str().unwrap().to_owned();
    fail_a_check(&repository.join("points").join(&first));
    assert_eq!(points()[0]["failed_checks"][0]["ok"], false);
    for verb in ["plan coordinated", "run coordinated --yes", "plan slot"] {
        expect(
            40,
            &format!("recover {verb} --config {file}"),
            &format!("recovery point {first}: expected consistency"),
        );
        expect(40, &format!("recover {verb} --config {file} --point {first}"), "--accept-inconsistent-point");
    }
    let agreed = format!("--config {file} --point {first} --accept-inconsistent-point");
    expect(0, &format!("recover plan coordinated {agreed}"), "note: recovery point");
    expect(0, &format!("recover plan slot {agreed}"), "is inconsistent");

    expect(0, &format!("backup create --config {file}"), "");
    let second = points()[1]["point"].as_str().unwrap().to_owned();
    expect(0, &format!("recover plan coordinated --config {file}"), "");
    expect(0, &format!("backup create --config {file}"), "");
    let third = points()[2]["point"].as_str().unwrap().to_owned();
    std::fs::write(manifest(&repository.join("points").join(&third)), "{}").unwrap();
    let passed = format!("recovery point {third} is passed over");
    expect(0, &format!("recover plan coordinated --config {file}"), &passed);
    let said = expect(0, &format!("recover plan slot --config {file} --json"), "");
    let plan: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(plan["point"], second.as_str());
    let findings: Vec<&str> = plan["findings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(findings.iter().any(|finding| finding.starts_with(&passed)), "{findings:?}");
    expect(31, &format!("backup verify --config {file} latest"), &third);

    // Of a point whose manifest is as it was, another file may not be.
    expect(0, &format!("backup create --config {file}"), "");
    let fourth = points()[3]["point"].as_str().unwrap().to_owned();
    std::fs::write(repository.join("points").join(&fourth).join("kafka/topics.json"), "[]").unwrap();
    for playbook in ["coordinated", "slot"] {
        let plan = format!("recover plan {playbook} --config {file}");
        expect(0, &plan, &format!("recovery point {fourth} is passed over"));
        expect(
            31,
            &format!("{plan} --point {fourth}"),
            &format!("--point {second} starts from another recovery point"),
        );
    }
}

/// The file of a point's manifest.
fn manifest(point: &Utf8Path) -> Utf8PathBuf {
    let files = point.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path());
    files.into_iter().find(|path| path.file_name().unwrap().starts_with("manifest-")).unwrap()
}

fn fail_a_check(point: &Utf8Path) {
    let path = manifest(point);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"ok\": true"), "{text}");
    let text = text.replacen("\"ok\": true", "\"ok\": false", 1);
    let sum: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::remove_file(path).unwrap();
    std::fs::write(point.join(format!("manifest-{}.json", &sum[..32])), text).unwrap();
}
