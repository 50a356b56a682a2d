//! What `backup check` says of a server's archiving: late, failing, lost, or not known.

use serde_json::Value;

use super::{
    archiving::{archive_with, comes, finish},
    prepared::folder,
    sandbox::{Stack, cdc_drill},
};

fn check(file: &camino::Utf8Path) -> (i32, Value, String) {
    let said = cdc_drill(&format!("backup check --config {file} --json"));
    (said.exit, serde_json::from_str(&said.out).unwrap_or_default(), said.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn archiving_is_late_or_failing_or_lost_or_not_known() {
    let (_folder, path) = folder();
    let stack = Stack::beside_lent(path.join("stack"));
    let file = stack.file();
    let sql = stack.sql("postgres").await;
    let ours = sql.text("show archive_command").await.unwrap().unwrap();
    let archived = |name: &str| format!("select last_archived_wal >= '{name}' from pg_stat_archiver");

    let first = finish(&sql).await;
    comes(&sql, "the first segment in the archive", &archived(&first)).await;
    let (exit, report, said) = check(&file);
    assert_eq!(
        (exit, &report["archiver"]["lost"], &report["archiver"]["failing"]),
        (0, &serde_json::json!([]), &false.into()),
        "{said}"
    );
    assert!(!said.contains("not archived yet"), "{said}");

    archive_with(&sql, "false").await;
    let late = finish(&sql).await;
    comes(&sql, "a failure", &format!("select last_failed_wal = '{late}' from pg_stat_archiver")).await;
    let (exit, report, said) = check(&file);
    assert_eq!(
        (exit, &report["archiver"]["failing"], &report["archiver"]["late"][0]),
        (0, &true.into(), &late.as_str().into()),
        "{said}"
    );
    assert!(said.contains("archiving fails") && said.contains("late, not lost"), "{said}");

    // The server is told that it is archived, and it is nowhere.
    archive_with(&sql, "true").await;
    comes(&sql, "the segment given away", &archived(&late)).await;
    let (exit, report, said) = check(&file);
    assert_eq!((exit, &report["archiver"]["lost"][0]["file"]), (32, &late.as_str().into()), "{said}");
    assert!(said.contains("the server has archived it at") && said.contains("the server still has it"), "{said}");

    // What still lies in pg_wal can be taken, and what follows goes on.
    archive_with(&sql, &ours).await;
    let last = finish(&sql).await;
    comes(&sql, "the last segment in the archive", &archived(&last)).await;
    let (exit, _, said) = check(&file);
    assert_eq!(exit, 32, "a hole now: {said}");
    let taken = cdc_drill(&format!(
        "wal push --repository {0}/repository --pgdata {1} pg_wal/{late}",
        stack.dir,
        stack.config().postgres.pgdata
    ));
    assert_eq!(taken.exit, 0, "{}", taken.err);
    let (exit, report, said) = check(&file);
    assert_eq!((exit, &report["archiver"]["lost"]), (0, &serde_json::json!([])), "{said}");

    drop(sql);
    assert_eq!(cdc_drill(&format!("stack stop --dir {} postgres", stack.dir)).exit, 0);
    let (exit, report, said) = check(&file);
    assert_eq!((exit, &report["archiver"]["server"]), (0, &Value::Null), "{said}");
    assert!(said.contains("whether archiving keeps up is not known"), "{said}");
}
