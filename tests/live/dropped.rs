//! A database that somebody has dropped while its server goes on.

use cdc_model::units::{Secret, SlotName};
use cdc_pipeline::client::connect::Connect;

use super::{
    prepared::folder,
    sandbox::{DEADLINE, Stack, expect},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_database_comes_back_with_a_target_before_that() {
    let (_folder, path) = folder();
    let stack = Stack::beside_lent(path.join("stack"));
    stack.pipeline("shop").await;
    // As a person writes it: the address of the pipeline's own database.
    let url = stack.config().postgres.url.expose().to_owned();
    let own = Secret::new(format!("{}/shop", url.strip_suffix("/postgres").unwrap()));
    let text = std::fs::read_to_string(stack.file()).unwrap().replace(&url, own.expose());
    let file = stack.dir.join("shop.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();

    expect(0, &format!("backup create --config {file}"), "recovery point");
    stack.sql("shop").await.run("insert into orders values (201, 'late')").await.unwrap();
    let session = stack.sql("postgres").await;
    session.run("select pg_create_restore_point('before')").await.unwrap();
    let connect = Connect::of(&stack.config().connect);
    connect.stopped("shop", DEADLINE).await.unwrap();
    let slot = SlotName::new("shop");
    let active = format!("select from pg_replication_slots where slot_name = '{slot}' and active");
    session
        .run(&format!("do $$ begin while exists ({active}) loop perform pg_sleep(0.1); end loop; end $$"))
        .await
        .unwrap();
    session.run(&format!("select pg_drop_replication_slot('{slot}')")).await.unwrap();
    session.run("drop database shop with (force)").await.unwrap();
    connect.resume("shop").await.unwrap();

    let missing = "the server has no database shop, which [postgres] url names";
    expect(0, &format!("recover plan coordinated --config {file} --target name:before"), missing);
    expect(10, &format!("verify --config {file} --deadline 5s"), "database \"shop\" does not exist");
    let run = format!("recover run coordinated --config {file} --target name:before --yes");
    expect(0, &run, "the topics hold what the tables hold");
    let rows = stack.sql("shop").await.value::<u64>("select count(*) from orders").await.unwrap();
    assert_eq!(rows, 201, "everything as it was before");
    assert!(connect.status("shop").await.unwrap().all_running());
    expect(0, &format!("recover status --config {file}"), "no recovery of this cluster is unfinished");
    expect(0, &format!("backup create --config {file}"), "recovery point");
}
