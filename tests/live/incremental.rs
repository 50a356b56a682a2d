//! Base backups that hold what has changed since another one: taken by themselves where the server notes which blocks change, restored
//! with what they add to, and of no use without it.

use serde_json::Value;

use super::{
    prepared::folder,
    sandbox::{Stack, expect},
};

/// The points, oldest first: each with the one that its base backup adds to, and its size.
fn points(stack: &Stack) -> Vec<(String, Option<String>, u64)> {
    let said = expect(0, &format!("backup list --config {} --json", stack.file()), "");
    let listed: Value = serde_json::from_str(&said.out).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let points = listed.as_array().unwrap().iter();
    points.map(|p| (text(&p["point"]).unwrap(), text(&p["adds_to"]), p["bytes"].as_u64().unwrap())).collect()
}

/// What everything in the database adds up to.
async fn content(stack: &Stack) -> String {
    let sum = "select md5(string_agg(t::text, '' order by id)) from orders t union all \
               select md5(string_agg(t::text, '' order by id)) from ballast t";
    let rows = stack.sql("shop").await.texts(sum).await.unwrap();
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_restored_with_what_it_adds_to() {
    let (_folder, root) = folder();
    let stack = Stack::beside_lent(root.join("stack"));
    stack.pipeline("shop").await;
    let (file, sql) = (stack.file(), stack.sql("shop").await);
    let create = format!("backup create --config {file}");
    // Compresses badly, so that sizes say what is in a backup.
    let ballast = "create table ballast as select g as id, md5(random()::text) || md5(random()::text) as x from generate_series(1, 30000) g";
    sql.run(ballast).await.unwrap();
    expect(0, &create, "recovery point");
    assert_eq!(points(&stack)[0].1, None, "the server does not note changes");

    sql.run("alter system set summarize_wal = on").await.unwrap();
    sql.run("select pg_reload_conf()").await.unwrap();
    expect(0, &create, "recovery point");
    assert_eq!(points(&stack)[1].1.as_deref(), Some(points(&stack)[0].0.as_str()));
    let mut before = String::new();
    for id in [1001, 1002] {
        sql.run(&format!("insert into orders values ({id}, 'new')")).await.unwrap();
        sql.run(&format!("update ballast set x = 'changed' where id = {id}")).await.unwrap();
        sql.run(&format!("create table later_{id} as select 1 as id")).await.unwrap();
        let is_last = id == 1002;
        if is_last {
            before = content(&stack).await;
        }
        expect(0, &create, "recovery point");
    }
    sql.run("delete from ballast where id > 15000").await.unwrap();
    expect(0, &create, "recovery point");
    let taken = points(&stack);
    let adds_to: Vec<Option<&str>> = taken.iter().map(|point| point.1.as_deref()).collect();
    let ids: Vec<&str> = taken.iter().map(|point| point.0.as_str()).collect();
    assert_eq!(adds_to, [None, Some(ids[0]), Some(ids[1]), Some(ids[2]), Some(ids[3])]);
    assert!(taken[3].2 < taken[0].2 / 4, "{taken:?}");
    let deep = expect(0, &format!("backup check --deep --config {file} --json"), "");
    let deep: Value = serde_json::from_str(&deep.out).unwrap();
    assert!(deep["points"].as_array().unwrap().iter().all(|point| point["passed"].is_object()), "{deep}");
    expect(0, &format!("backup verify --config {file} {}", ids[4]), "");

    let pgdata = stack.config.postgres.pgdata.clone();
    let relation = sql.text("select pg_relation_filepath('ballast')").await.unwrap().unwrap();
    sql.run("checkpoint").await.unwrap();
    drop(sql);
    std::fs::write(pgdata.join(relation), [0xff; 8192]).unwrap();
    let run = format!("recover run coordinated --yes --config {file} --target name:cdc_{}", ids[3]);
    let plan = format!("recover plan coordinated --json --config {file} --target name:cdc_{}", ids[3]);
    let planned = expect(0, &plan, "").out;
    assert!(planned.contains(ids[3]) && !planned.contains(ids[4]), "{planned}");
    expect(0, &run, "the topics hold what the tables hold");
    assert_eq!(content(&stack).await, before);
    for entry in pgdata.parent().unwrap().read_dir_utf8().unwrap() {
        let name = entry.unwrap().file_name().to_owned();
        assert!(!name.contains("-sources-"), "{name} was left");
    }
    // The newest point is of the branch that was given up: the server refuses to add to it, and a full one is taken.
    expect(0, &create, "recovery point");
    expect(0, &create, "recovery point");
    let after = points(&stack);
    assert_eq!((after[5].1.as_deref(), after[6].1.as_deref()), (None, Some(after[5].0.as_str())), "{after:?}");

    // What stands on a damaged one is of no use, and the damage is named once.
    let base = stack.config.repository.path.join("points").join(ids[2]).join("pg/base.tar.zst");
    let sound = std::fs::read(&base).unwrap();
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&base, damaged).unwrap();
    let found = expect(31, &format!("backup check --deep --config {file} --json"), "");
    let found: Value = serde_json::from_str(&found.out).unwrap();
    let named: Vec<&str> = found["defects"].as_array().unwrap().iter().map(|d| d["path"].as_str().unwrap()).collect();
    assert_eq!(named, [format!("points/{}/pg/base.tar.zst", ids[2])]);
    let usable: Vec<bool> =
        found["points"].as_array().unwrap().iter().map(|p| p["usable"].as_bool().unwrap()).collect();
    assert_eq!(usable, [true, true, false, false, false, true, true]);
    std::fs::write(&base, sound).unwrap();
    expect(0, &format!("backup check --config {file}"), "");
    // One that is gone is named, and what stood on it is passed over.
    std::fs::rename(base.parent().unwrap().parent().unwrap(), root.join("elsewhere")).unwrap();
    expect(30, &format!("backup check --config {file}"), ids[2]);
    let plan = format!("recover plan coordinated --json --config {file} --target name:cdc_{} --timeline 1", ids[3]);
    let plan = expect(0, &plan, "");
    assert!(plan.out.contains(ids[1]), "{}", plan.out);
}
