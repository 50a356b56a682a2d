//! A database goes back to before a role's password was changed: its connector could never fill a topic again.

use std::os::unix::fs::PermissionsExt;

use camino::Utf8PathBuf;
use cdc_pipeline::client::connect::Connect;

use super::{
    attach::{Stack, expect},
    sandbox::DEADLINE,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_could_not_log_in_keeps_its_topics_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let stack = Stack::beside_lent(Utf8PathBuf::from_path_buf(folder.path().join("stack")).unwrap());
    stack.pipeline("shop").await;
    let connect = Connect::of(&stack.config().connect);
    let sql = stack.sql("shop").await;
    sql.run("create role reader superuser login password 'first'").await.unwrap();
    let become_reader = async |password: &str| {
        let mut config = connect.config("shop").await.unwrap();
        config.insert("database.user".into(), "reader".into());
        config.insert("database.password".into(), password.into());
        connect.put_config("shop", &config).await.unwrap();
        connect.running("shop", DEADLINE).await.unwrap();
    };
    become_reader("first").await;
    let file = stack.file();
    expect(0, &format!("backup create --config {file}"), "");
    sql.run("select pg_create_restore_point('before')").await.unwrap();
    sql.run("alter role reader password 'second'; insert into orders values (201, 'given up')").await.unwrap();
    become_reader("second").await;

    let topic = stack.topic_id("shop").await;
    let run = format!("recover run coordinated --target name:before --yes --config {file}");
    let said = expect(11, &run, "able to log in to database shop as reader");
    assert!(said.err.contains("password authentication failed"), "{}", said.err);
    assert!(said.err.contains("delete-topics: begun, and not ended"), "{}", said.err);
    assert!(said.err.contains("recreate-topics (creates the data topics): not begun"), "{}", said.err);
    assert!(said.err.contains("up   connector shop: connector STOPPED"), "{}", said.err);
    assert_eq!(stack.topic_id("shop").await, topic, "nothing was emptied that nothing would fill again");
    expect(11, &format!("recover status --config {file}"), "answers on timeline 2");

    // On the restored server, which the same command leaves as it is.
    let restored = stack.sql("shop").await;
    restored.run("alter role reader password 'second'; insert into orders values (202, 'after open')").await.unwrap();
    expect(0, &run, "the topics hold what the tables hold");
    let rows = stack.sql("shop").await.text("select string_agg(id::text, ',') from orders where id > 200").await;
    assert_eq!(rows.unwrap().as_deref(), Some("202"));

    // Where the database stays, it is refused before anything is touched.
    stack.sql("shop").await.run("alter role reader nologin").await.unwrap();
    expect(40, &format!("recover run slot --yes --config {file}"), "NOLOGIN");
    assert!(connect.status("shop").await.unwrap().all_running());
}
