//! A scenario that names what no load exercises: everything that is compared agrees, and the drill is not green.

use std::path::Path;

use indoc::indoc;
use serde_json::json;

use super::{drill, started};

const SCENARIO: &str = indoc! {r#"
    version: 1
    id: unexercised
    title: Transactions that never do what they are for
    pipeline: { schema: ROOT/sql/clinic.sql, connector: ROOT/connector.json }
    workload:
      seed: 7
      writers: 2
      sql:
        seed-file: ROOT/sql/seed.sql
        transactions:
          - { name: open, weight: 900, statements: ["update clinic.rooms set bookings = bookings + 1 where code = 'room-{random:1..8}'"] }
          - { name: refer, statements: ["update clinic.rooms set bookins = 0"] }
          - { name: close, statements: ["update clinic.rooms set bookings = 0 where code = 'rom-1'"] }
    variants:
      loaded: { steps: [ { load: { transactions: 20 } }, quiesce ], checks: [state, loss] }
"#};

#[test]
fn a_kind_that_never_commits_or_touches_no_row_leaves_no_green_drill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unexercised.yaml");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/own-pipeline");
    std::fs::write(&file, SCENARIO.replace("ROOT", example.to_str().unwrap())).unwrap();
    let run = started(&[file.to_str().unwrap()], &[]);
    assert_eq!(run.exit, Some(3), "{}", run.said);
    let drill = drill(&run, "unexercised", "loaded");
    assert_eq!((&drill["verdict"], &drill["exit_code"]), (&json!("inconclusive"), &json!(3)));
    for check in drill["checks"].as_array().unwrap() {
        assert_eq!(check["verdict"], "passed", "{check}");
    }
    let reason = drill["reason"].as_str().unwrap();
    for said in ["kind refer never committed", r#"column "bookins" of relation "rooms" does not exist"#, "kind close: "]
    {
        assert!(reason.contains(said), "{reason}");
    }
    assert!(!reason.contains("kind open"), "{reason}");
    // Each was tried, whatever its weight.
    let kinds = drill["kinds"].as_array().unwrap();
    assert_eq!(kinds.iter().map(|kind| &kind["name"]).collect::<Vec<_>>(), ["open", "refer", "close"]);
    assert!(kinds.iter().all(|kind| kind["attempted"].as_u64() > Some(0)), "{kinds:?}");
}
