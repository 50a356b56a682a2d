//! Capturing the cluster.

use std::{
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicBool, Ordering},
};

use camino::Utf8Path;

use super::{
    base::{self, Base},
    facts, fingerprints,
    increment::{self, Choice, Server},
    outside, time,
};
use crate::backup::{
    BackupError, Clock, DataFolder, Link, PostgresFacts, Repository, files,
    format::layout,
    wal::{Archive, SegmentState},
    writer::PointWriter,
};
use cdc_model::{
    moment,
    units::{Hint, IfThere, Lsn, SystemId, Timeline},
};
use cdc_pipeline::{
    client::{
        ClientError, limits,
        postgres::Postgres,
        wait::{self, Poll},
    },
    config::Config,
};
use cdc_postgres::{
    version::Version,
    wal::{SegmentName, SegmentSize, TimelineHistory, WalFile},
};

/// The cluster's facts and by how many milliseconds its clock is ahead.
pub(crate) async fn capture(
    config: &Config,
    repository: &Repository,
    writer: &mut PointWriter,
    progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
) -> Result<(PostgresFacts, i64), BackupError> {
    let pg = Postgres::connect(&config.postgres.url, "cdc-drill backup").await?;
    refuse_unsupported(&pg).await?;
    let skew = clock_skew(&pg).await?;
    let start_clock = clock(&pg).await?;
    let total = pg.value::<u64>("select sum(pg_database_size(oid))::bigint from pg_database").await.ok();
    let (base, adds_to) = take(config, &pg, repository, writer, &|bytes| progress(bytes, total)).await?;
    let clock = Clock { start: start_clock, stop: clock(&pg).await? };
    moment::pass("base").await?;
    let databases = facts::databases(&pg).await?;
    if config.backup.fingerprints {
        // Behind the base backup and before the restore point: the position can be restored to, by WAL that the point needs anyway.
        let slot =
            format!("cdc_{}", writer.id().as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_lowercase());
        let taken = fingerprints::capture(&config.postgres, &databases, &slot).await;
        tracing::debug!("fingerprints of {}", taken.describe());
        writer.json(layout::FINGERPRINTS, &taken)?;
    }
    let restore_point = format!("cdc_{}", writer.id());
    let restore_point_lsn: Lsn = pg.value(&format!("select pg_create_restore_point('{restore_point}')")).await?;
    // Its segment would otherwise reach the archive only when it is full.
    pg.run("select pg_switch_wal()").await?;
    moment::pass("wal-switched").await?;
    let (publications, sequences) = facts::per_database(&config.postgres, &databases).await?;
    let slots = pg.slots().await?;
    writer.json(layout::SLOTS, &slots)?;
    writer.json(layout::PUBLICATIONS, &publications)?;
    writer.json(layout::SEQUENCES, &sequences)?;
    writer.json(layout::SETTINGS, &facts::settings(&pg).await?)?;
    outside::capture(&pg, writer).await?;
    writer.bytes(layout::BACKUP_MANIFEST, &base.backup_manifest)?;

    let (system_id, size) = identity(&pg).await?;
    let archive = repository.archive(system_id);
    let (history, history_sha256) = history(config, &archive, base.range.timeline)?;
    let (start, stop, timeline) = (base.range.start, base.range.end, base.range.timeline);
    await_archived(&pg, &archive, &history, start, restore_point_lsn).await?;
    let required = archive.required(&history, size, start, restore_point_lsn)?;
    let (base_files, base_raw_bytes) = (base.files, base.entry.raw_size.unwrap_or_default());
    writer.note(base.entry);
    let facts = PostgresFacts {
        system_id,
        version: pg.value(Version::SQL).await?,
        timeline,
        history_sha256,
        start_lsn: start,
        stop_lsn: stop,
        start_wal: SegmentName::of(history.owner(start), start, size).to_string(),
        stop_wal: SegmentName::new(timeline, size.segment_before(stop), size).to_string(),
        wal_required: required.into_iter().filter_map(|(_, name)| name.map(|n| n.to_string())).collect(),
        segment_bytes: size.bytes(),
        restore_point,
        restore_point_lsn,
        data_checksums: pg.text("show data_checksums").await?.as_deref() == Some("on"),
        adds_to,
        base_files,
        base_raw_bytes,
        databases,
        slots,
        clock: Some(clock),
        folder: data_folder(&config.postgres.pgdata),
        config_file: pg.configuration_outside().await?.map(Into::into),
    };
    Ok((facts, skew))
}

/// Takes what has changed since the newest point's base backup where the server notes that, and everything where it does not or where
/// that fails: the server knows best what it cannot do.
async fn take(
    config: &Config,
    pg: &Postgres,
    repository: &Repository,
    writer: &PointWriter,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(Base, Option<Link>), BackupError> {
    let why = match increment::choose(repository, &Server::of(pg).await?)? {
        Choice::Full(why) => why,
        Choice::Since(newest) => {
            let manifest = newest.file(layout::BACKUP_MANIFEST)?;
            match base::take(config, writer, Some(&manifest), progress).await {
                Ok(base) => return Ok((base, Some(newest.link()))),
                Err(BackupError::Tool { detail, .. }) => {
                    files::remove(&writer.place(layout::BASE)?)?;
                    Some(detail)
                }
                Err(other) => return Err(other),
            }
        }
    };
    if let Some(why) = why {
        tracing::info!("a full base backup is taken: {why}");
    }
    Ok((base::take(config, writer, None, progress).await?, None))
}

/// Whose the data folder is, where it can be looked at from here: a backup needs no more than the server's answers.
fn data_folder(pgdata: &Utf8Path) -> Option<DataFolder> {
    let meta = match std::fs::metadata(pgdata).if_there() {
        Ok(meta) => meta?,
        Err(error) => {
            tracing::debug!(%pgdata, %error, "not looked at");
            return None;
        }
    };
    Some(DataFolder { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o777 })
}

async fn identity(pg: &Postgres) -> Result<(SystemId, SegmentSize), BackupError> {
    let system_id = pg.system_id().await?;
    let bytes: u64 = pg.value("select setting from pg_settings where name = 'wal_segment_size'").await?;
    let size = SegmentSize::new(bytes).ok_or_else(|| {
        ClientError::answer("postgres", pg.address(), "wal_segment_size", "1 MiB to 1 GiB", bytes.to_string())
    })?;
    Ok((system_id, size))
}

/// What would give a backup that cannot be restored is refused before anything is read.
async fn refuse_unsupported(pg: &Postgres) -> Result<(), BackupError> {
    let refuse = |why: String, hint: Option<&'static str>| BackupError::Unsupported {
        cluster: pg.address().to_owned(),
        why,
        hint: hint.map(Hint::from),
    };
    let spaces = "select spcname || ' at ' || pg_tablespace_location(oid) from pg_tablespace where pg_tablespace_location(oid) <> ''";
    if let Some(outside) = pg.text(spaces).await? {
        let hint = "move its tables to pg_default and drop it";
        return Err(refuse(format!("tablespace {outside} is outside the data folder"), Some(hint)));
    }
    if pg.text("show archive_mode").await?.as_deref() == Some("off") {
        let hint = "set archive_mode=on and archive_command='cdc-drill wal push --repository DIR --pgdata PGDATA %p'";
        return Err(refuse("archive_mode is off: the backup could not be made consistent".into(), Some(hint)));
    }
    if pg.text("select pg_is_in_recovery()").await?.as_deref() == Some("t") {
        return Err(refuse("it is in recovery: a standby, or a restore that has not been promoted".into(), None));
    }
    Ok(())
}

/// What the server's clock shows.
async fn clock(pg: &Postgres) -> Result<String, BackupError> {
    Ok(time::shown(pg).await?.to_string())
}

/// The server's clock minus ours, the way there and back shared evenly.
async fn clock_skew(pg: &Postgres) -> Result<i64, BackupError> {
    let before = jiff::Timestamp::now().as_millisecond();
    let theirs: i64 = pg.value("select (extract(epoch from clock_timestamp()) * 1000)::bigint").await?;
    let after = jiff::Timestamp::now().as_millisecond();
    Ok(theirs - (before + after) / 2)
}

/// The timeline's history. A cluster that was promoted before it archived here has it only in its own `pg_wal`.
fn history(
    config: &Config,
    archive: &Archive,
    timeline: Timeline,
) -> Result<(TimelineHistory, Option<String>), BackupError> {
    if timeline == Timeline::FIRST {
        return Ok((TimelineHistory::first(), None));
    }
    let file = WalFile::History(timeline);
    let held = match archive.find(&file)? {
        Some(held) => held,
        None => archive
            .add_segment(&config.postgres.pgdata.join("pg_wal").join(file.to_string()), SegmentState::Complete)?,
    };
    let local = config.postgres.pgdata.join("pg_wal").join(file.to_string());
    let history = match archive.can_be_read()? {
        true => archive.history(timeline)?,
        // Whoever has no identity has the server's own file: it has to be the archived one.
        false => held.as_history(timeline, &local)?,
    };
    Ok((history, Some(held.fingerprint()?)))
}

/// Whether the server says that it has archived all WAL up to a position, on its timeline.
async fn has_archived(pg: &Postgres, to: Lsn) -> Result<bool, BackupError> {
    let needed = format!("pg_walfile_name('{to}')");
    let says = format!("left(last_archived_wal, 8) = left({needed}, 8) and last_archived_wal >= {needed}");
    let says = pg.text(&format!("select coalesce({says}, false) from pg_stat_archiver")).await?;
    Ok(says.as_deref() == Some("t"))
}

/// Looked at again: it may have come between the first look and the server's answer.
fn is_missing(archive: &Archive, history: &TimelineHistory, (from, to): (Lsn, Lsn)) -> Result<bool, BackupError> {
    archive.drain()?;
    match archive.continuity(history, from, to) {
        Err(BackupError::WalGap(_)) => Ok(true),
        Ok(()) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Waits until the archive has everything of a timeline's path from one position to another.
pub(crate) async fn await_archived(
    pg: &Postgres,
    archive: &Archive,
    history: &TimelineHistory,
    from: Lsn,
    to: Lsn,
) -> Result<(), BackupError> {
    let what = format!("WAL {from} to {to} in the archive {}", archive.folder());
    let named = AtomicBool::new(false);
    let result = wait::until(&what, limits::postgres::ARCHIVED, || async {
        archive.drain()?;
        match archive.continuity(history, from, to) {
            Ok(()) => Ok::<_, BackupError>(Poll::Ready(())),
            Err(BackupError::WalGap(gap)) => {
                // Something may still bring it here from where the command puts it; a person should know long before the limit.
                let is_elsewhere = !named.load(Ordering::Relaxed)
                    && has_archived(pg, to).await?
                    && is_missing(archive, history, (from, to))?;
                if is_elsewhere {
                    named.store(true, Ordering::Relaxed);
                    tracing::warn!(
                        "the server has archived its WAL up to {to}, and it is not in {}: is this the repository that archive_command writes to?",
                        archive.folder()
                    );
                }
                Ok(Poll::NotYet(format!("{} is missing", gap.segment)))
            }
            Err(other) => Ok(Poll::Hopeless(other.to_string())),
        }
    });
    match result.await {
        Ok(()) => Ok(()),
        Err(ClientError::TimedOut { what, seconds, bound, last, mut hints }) => {
            let archiver = "select 'archiver: last failure ' || coalesce(last_failed_wal || ' at ' || last_failed_time, 'never') from pg_stat_archiver";
            let archiver = pg.text(archiver).await.ok().flatten().unwrap_or_default();
            let last = format!("{last}; {archiver}");
            hints.insert(0, "is this the repository that archive_command writes to?".into());
            Err(ClientError::TimedOut { what, seconds, bound, last, hints }.into())
        }
        Err(other) => Err(other.into()),
    }
}
