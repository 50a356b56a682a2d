//! Asking a server how it archives.

use std::collections::BTreeSet;

use super::archiver::{ArchiverEvent, ServerArchiving};
use crate::backup::BackupError;
use cdc_pipeline::{client::postgres::Postgres, config::Config};

const STATISTICS: &str = "select archived_count, last_archived_wal, last_archived_time at time zone 'UTC', \
     (extract(epoch from last_archived_time) * 1000000)::bigint, failed_count, last_failed_wal, \
     last_failed_time at time zone 'UTC', (extract(epoch from last_failed_time) * 1000000)::bigint, \
     stats_reset at time zone 'UTC' from pg_stat_archiver";
/// Before anything else, so that what is older was finished when the folders are listed.
const CURRENT: &str = "select case when not pg_is_in_recovery() then pg_walfile_name(pg_current_wal_lsn()) end";
const STATUS: &str =
    "select name, greatest(0, extract(epoch from now() - modification))::bigint from pg_ls_archive_statusdir()";

impl ServerArchiving {
    /// What the server of a configuration says of its archiving.
    pub async fn ask(config: &Config) -> Result<ServerArchiving, BackupError> {
        let pg = Postgres::connect(&config.postgres.url, "backup check").await?;
        let current = pg.text(CURRENT).await?;
        let row = pg.texts(STATISTICS).await?.into_iter().next().unwrap_or_default();
        let text = |column: usize| row.get(column).cloned().flatten();
        let number = |column: usize| text(column).and_then(|text| text.parse::<i64>().ok());
        let event = |file: usize| {
            Some(ArchiverEvent { file: text(file)?, at: format!("{}Z", text(file + 1)?), micros: number(file + 2)? })
        };
        let (mut ready, mut done, mut oldest) = (BTreeSet::new(), BTreeSet::new(), None);
        for row in pg.texts(STATUS).await? {
            let mut row = row.into_iter().flatten();
            let (Some(name), age) = (row.next(), row.next().and_then(|age| age.parse::<u64>().ok())) else { continue };
            if let Some(name) = name.strip_suffix(".ready") {
                ready.insert(name.to_owned());
                oldest = oldest.max(age);
            } else if let Some(name) = name.strip_suffix(".done") {
                done.insert(name.to_owned());
            }
        }
        let in_pg_wal = pg.texts("select name from pg_ls_waldir()").await?;
        Ok(ServerArchiving {
            system_id: pg.system_id().await?,
            mode: pg.text("show archive_mode").await?.unwrap_or_default(),
            segment_bytes: pg.value("select setting from pg_settings where name = 'wal_segment_size'").await?,
            archived: number(0).and_then(|count| count.try_into().ok()).unwrap_or_default(),
            last_archived: event(1),
            failed: number(4).and_then(|count| count.try_into().ok()).unwrap_or_default(),
            last_failed: event(5),
            since: text(8).map(|at| format!("{at}Z")),
            current,
            ready,
            oldest_ready_seconds: oldest,
            done,
            in_pg_wal: in_pg_wal.into_iter().flatten().flatten().collect(),
        })
    }
}
