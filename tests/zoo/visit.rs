//! The tests: a sample of connectors, or all of them.

use std::{os::unix::fs::PermissionsExt, time::Instant};

use camino::Utf8PathBuf;

use crate::sandbox::Stack;
use crate::{
    outcome::Outcomes,
    packs::Keeper,
    pipeline::Pipeline,
    tables::{CREATED, READ, Table},
};

/// A database has ten slots.
const AT_ONCE: usize = 6;

async fn visit(stack: &Stack, database: &str, keepers: &[Keeper], outcomes: &mut Outcomes) {
    let began = Instant::now();
    let tell = |what: &str| eprintln!("{:7.1} s  {database}: {what}", began.elapsed().as_secs_f64());
    tell(&format!("connectors {}", keepers.iter().map(|k| k.name()).collect::<Vec<_>>().join(", ")));
    let pipeline = Pipeline::start(stack, database, keepers.to_vec()).await;
    tell("tables are written and read");
    for keeper in keepers {
        outcomes.healthy(*keeper, &pipeline.verify(*keeper, "60s"));
    }
    tell("compared");
    let mut planted: Vec<Vec<(usize, crate::pipeline::Said)>> = keepers.iter().map(|_| Vec::new()).collect();
    for group in [READ, CREATED] {
        pipeline.unpublished(|t| t.plant(group)).await;
        for (keeper, said) in keepers.iter().zip(&mut planted) {
            let found = pipeline.verify(*keeper, "60s");
            tell(&format!("{}: {} with {} findings of changes", keeper.name(), found.verdict, found.total));
            said.push((group, found));
        }
        pipeline.run(|t| t.restore(group)).await;
        tell("changes planted, looked for and taken back");
    }
    for (keeper, said) in keepers.iter().zip(&planted) {
        outcomes.planted(*keeper, &pipeline.tables, said);
        outcomes.healthy(*keeper, &pipeline.verify(*keeper, "60s"));
    }
    pipeline.unpublished(Table::plant_singles).await;
    for keeper in keepers {
        outcomes.singles(*keeper, &pipeline.tables, &pipeline.verify(*keeper, "60s"));
    }
    tell("changes of one column planted and looked for");
    pipeline.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_compared_or_said_not_to_be() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let choice = std::env::var("CDC_DRILL_ZOO").ok();
    let stack = Stack::up(root.join("zoo"), "");
    let mut outcomes = Outcomes::default();
    for (n, keepers) in Keeper::chosen(choice.as_deref()).chunks(AT_ONCE).enumerate() {
        let before = outcomes.wrong.len();
        visit(&stack, &format!("zoo_{n}"), keepers, &mut outcomes).await;
        // A later visit may not end.
        outcomes.wrong[before..].iter().for_each(|wrong| eprintln!("{wrong}"));
    }
    if choice.as_deref() == Some("all") {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/zoo/types.md"), outcomes.document()).unwrap();
    }
    assert!(outcomes.wrong.is_empty(), "{}", outcomes.wrong.join("\n"));
}
