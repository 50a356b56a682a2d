//! A server that archives with another command, and a segment of it that is finished.

use cdc_pipeline::client::{ClientError, postgres::Postgres, wait};

use super::sandbox::DEADLINE;

/// Has a server archive by this command from now on.
pub(super) async fn archive_with(sql: &Postgres, command: &str) {
    sql.run(&format!("alter system set archive_command = '{}'", command.replace('\'', "''"))).await.unwrap();
    sql.run("select pg_reload_conf()").await.unwrap();
}

/// Finishes a segment with something in it; its name.
pub(super) async fn finish(sql: &Postgres) -> String {
    sql.run("create table if not exists filled (t text); insert into filled select repeat('x', 900) from generate_series(1, 100)")
        .await
        .unwrap();
    sql.text("select pg_walfile_name(pg_switch_wal())").await.unwrap().unwrap()
}

/// Waits until a query says `true`.
pub(super) async fn comes(sql: &Postgres, what: &str, query: &str) {
    wait::until(what, DEADLINE, || async {
        Ok::<_, ClientError>(match sql.text(query).await?.as_deref() {
            Some("t") => wait::Poll::Ready(()),
            other => wait::Poll::NotYet(format!("{other:?}")),
        })
    })
    .await
    .unwrap();
}
