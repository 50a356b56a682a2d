//! A drill and the command look at the same things: with writers at rest, what the one sees the other sees.

use std::os::unix::fs::PermissionsExt;

use camino::Utf8PathBuf;
use cdc_verify::look::{LookOptions, Observer, Systems};
use serde_json::Value;

use super::sandbox::Stack;

/// What is seen with all writers at rest, as a drill looks, or beside writers, as the command does; without what goes on by itself.
async fn seen(systems: &Systems, at_rest: bool) -> Value {
    let options = LookOptions { at_rest, ..LookOptions::default() };
    let mut observer = Observer::new(systems, options).await.unwrap();
    observer.look().await.unwrap();
    let mut seen: Value = serde_json::from_str(&serde_json::to_string(&observer.into_seen()).unwrap()).unwrap();
    // The server's own work moves the end of WAL, and the positions of whoever reads it.
    assert!(seen["server"]["Ok"].is_object(), "{}", seen["server"]);
    assert_eq!(seen["slots"].as_array().map(Vec::len), Some(1), "{}", seen["slots"]);
    seen["server"].take();
    seen["slots"].take();
    for connector in seen["connectors"].as_array_mut().unwrap() {
        assert!(connector["status"]["Ok"].is_object(), "{}", connector["status"]);
        connector["offsets"].take();
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_and_the_command_see_the_same() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let stack = Stack::beside_lent(root.join("stack"));
    stack.pipeline("looked").await;
    let systems = Systems::new(stack.config()).unwrap();

    let drill = seen(&systems, true).await;
    assert_eq!(drill, seen(&systems, false).await);
    assert_eq!(drill["tables"].as_array().map(Vec::len), Some(1));
    assert_eq!(drill["topics"].as_object().map(serde_json::Map::len), Some(1));
    assert!(drill["registry"]["Ok"]["subjects"].as_object().is_some_and(|subjects| subjects.len() == 2));
    assert_eq!(drill["specs"].as_object().map(serde_json::Map::len), Some(1));

    // Records of a table that is gone.
    stack.sql("looked").await.run("drop table orders").await.unwrap();
    let drill = seen(&systems, true).await;
    assert_eq!(drill, seen(&systems, false).await);
    assert_eq!(drill["connectors"][0]["orphans"][0]["topic"], "looked.public.orders");
}
