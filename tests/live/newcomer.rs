//! The way of somebody who has nothing yet: a stack, a connector, the nightly backup by the line that `deploy/` ships, a proof, and then a
//! fault in the recovery point. `status` says how things stand at each step, with objectives that are held against what was measured.

use std::{fs, process::Command};

use camino::Utf8Path;
use serde_json::Value;

use super::{
    PROGRAM,
    prepared::folder,
    sandbox::{Stack, cdc_drill, expect},
};

/// The command of the nightly unit, with the files of this checkout in the place of those that a person installs.
fn nightly(config: &Utf8Path) -> String {
    let shipped = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    let unit = fs::read_to_string(shipped.join("cdc-drill-backup.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let (script, installed) = ("/etc/cdc-drill/tasks.sh", "/etc/cdc-drill/cdc-drill.toml");
    assert!(line.contains(script) && line.contains(installed), "{line}");
    line.replace(script, shipped.join("tasks.sh").as_str()).replace(installed, config.as_str())
}

/// `status` by its exit code and the names of what is in the way.
fn status(config: &Utf8Path, more: &str, exit: i32) -> (Value, Vec<String>) {
    let said = cdc_drill(&format!("status --config {config} --json {more}"));
    assert_eq!(said.exit, exit, "{}{}", said.err, said.out);
    let health: Value = serde_json::from_str(&said.out).unwrap();
    let ids = health["obstacles"].as_array().unwrap().iter().map(|o| o["id"].as_str().unwrap().to_owned()).collect();
    (health, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_a_proof_that_is_green_and_one_that_is_red_for_a_planted_fault() {
    let (_folder, root) = folder();
    let stack = Stack::beside_lent(root.join("stack"));
    stack.pipeline("shop").await;
    let config = stack.file();
    let own = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{own}\n[objectives]\nrto = \"1h\"\nrpo = \"12h\"\n")).unwrap();
    // Nothing was measured: no promise is kept by that.
    let (_, ids) = status(&config, "", 30);
    assert!(ids.contains(&"no-point".to_owned()) && ids.contains(&"rto-unmeasured".to_owned()), "{ids:?}");

    let bin = root.join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(PROGRAM, bin.join("cdc-drill")).unwrap();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let night = Command::new("sh").args(["-c", &nightly(&config)]).env("PATH", path).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&night.stdout), String::from_utf8_lossy(&night.stderr));
    assert!(night.status.success(), "{said}");
    for task in ["backup create", "backup prune", "backup check"] {
        assert!(said.contains(&format!("== cdc-drill {task} --config {config}\n")), "{said}");
    }
    let (_, ids) = status(&config, "", 13);
    assert_eq!(ids, ["not-verified", "rto-unmeasured"], "a point that nobody proved");

    // What the damage takes is in the point.
    stack.sql("shop").await.run("delete from orders").await.unwrap();
    let (reports, scratch) = (root.join("reports"), root.join("scratch"));
    let prove = format!("prove --config {config} --json --dir {scratch} --report-dir {reports}");
    let annotations = root.join("annotations");
    let said = expect(0, &format!("{prove} --annotations github={annotations}"), "passed: ");
    let evidence: Value = serde_json::from_str(&said.out).unwrap();
    let objectives = evidence["objectives"].as_array().unwrap();
    assert_eq!(objectives.len(), 2, "{}", said.err);
    assert_eq!(objectives[0]["measured_seconds"], evidence["rto_seconds"]);
    assert_eq!(objectives[1]["measured_seconds"], evidence["rpo_seconds"]);
    assert!(objectives.iter().all(|objective| objective["verdict"] == "passed"), "{}", said.err);
    let junit = |evidence: &Value| {
        fs::read_to_string(reports.join(evidence["proof"].as_str().unwrap()).join("junit.xml")).unwrap()
    };
    assert!(junit(&evidence).contains("objective:rto"));
    assert_eq!(fs::read_to_string(&annotations).unwrap(), "", "green has nothing to annotate");
    let (health, ids) = status(&config, "", 0);
    assert_eq!((&health["rto"]["source"], ids.len()), (&"proof".into(), 0), "{ids:?}");
    assert!(health["rpo_seconds"].is_number());
    let (_, ids) = status(&config, "--max-rto 1ms", 12);
    assert_eq!(ids, ["rto-missed"]);

    // One byte of the registry's part.
    let point = stack.dir.join("repository/points").join(evidence["point"].as_str().unwrap());
    let dump = point.join("registry/dump.jsonl");
    let mut bytes = fs::read(&dump).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&dump, bytes).unwrap();
    let said = expect(10, &format!("{prove} --annotations github={annotations}"), "failed: ");
    let evidence: Value = serde_json::from_str(&said.out).unwrap();
    assert!(evidence["reason"].as_str().unwrap().starts_with("files found 1 difference"), "{}", evidence["reason"]);
    let red: Vec<&Value> = evidence["checks"].as_array().unwrap().iter().filter(|c| c["verdict"] != "passed").collect();
    assert_eq!((red.len(), &red[0]["id"]), (1, &"files".into()), "{}", said.err);
    assert!(red[0]["findings"].to_string().contains("registry/dump.jsonl"), "{}", red[0]);
    assert!(evidence["objectives"].as_array().unwrap().iter().all(|o| o["verdict"] == "inconclusive"), "{}", said.err);
    assert!(junit(&evidence).contains("<failure"), "red in CI too");
    let annotated = fs::read_to_string(&annotations).unwrap();
    assert!(annotated.starts_with("::error title=prove/") && annotated.contains("registry/dump.jsonl"), "{annotated}");
    let (_, ids) = status(&config, "", 10);
    assert!(ids.contains(&"proof-failed".to_owned()), "{ids:?}");
}
