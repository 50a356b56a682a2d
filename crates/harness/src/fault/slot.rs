//! The replication slot, dropped or invalidated.

use super::{FaultError, Target};
use cdc_model::{event::Landed, units::Lsn};
use cdc_pipeline::client::{
    ClientError, limits,
    postgres::{Postgres, Slot},
    wait::{self, Poll},
};
use cdc_postgres::sql;

const DROP: &str = "drop-slot";
const INVALIDATE: &str = "invalidate-slot";
/// How much the slot may hold back meanwhile: the smallest that is a limit at all.
const KEEP: &str = "1MB";

/// A slot that was dropped.
#[derive(Debug)]
pub(super) struct Dropped {
    slot: Slot,
    /// The end of the WAL when the slot was gone.
    at: Lsn,
}

impl Dropped {
    pub(super) async fn inject(target: &Target) -> Result<Dropped, FaultError> {
        let db = target.sql().await.map_err(FaultError::client(DROP))?;
        let slot = find(&db, target).await.map_err(FaultError::client(DROP))?.ok_or_else(|| no_slot(DROP, target))?;
        let name = &target.slot;
        let literal = sql::literal(name.as_str());
        // One statement on the server's side: between the walsender's end and the drop nobody else gets a turn.
        let sql = format!(
            "do $$ declare pid int; begin \
             select active_pid into pid from pg_replication_slots where slot_name = {literal}; \
             if pid is not null then perform pg_terminate_backend(pid, 2000); end if; \
             perform pg_drop_replication_slot({literal}); end $$"
        );
        let dropped = wait::until(&format!("slot {name} dropped"), limits::faults::SLOT_DROPPED, || async {
            if find(&db, target).await?.is_none() {
                return Ok(Poll::Ready(()));
            }
            db.run(&sql).await.map(|()| Poll::Ready(()))
        })
        .await;
        dropped.map_err(FaultError::client(DROP))?;
        let at = db.value("select pg_current_wal_insert_lsn()").await.map_err(FaultError::client(DROP))?;
        Ok(Dropped { slot, at })
    }

    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        let db = target.sql().await.map_err(FaultError::client(DROP))?;
        let now = find(&db, target).await.map_err(FaultError::client(DROP))?;
        let (landed, seen) = match now {
            None => (Landed::Confirmed, "gone".to_owned()),
            // Some connectors make a new one at once: what the old one held is lost all the same.
            Some(slot) if slot.restart_lsn >= Some(self.at) => {
                (Landed::Confirmed, format!("another one, from {} on", position(slot.restart_lsn)))
            }
            Some(slot) => (Landed::Mismatch, format!("there, from {} on", position(slot.restart_lsn))),
        };
        let status = connector_state(target).await;
        let evidence = format!(
            "slot {} confirmed {} and was dropped at {}; now it is {seen}; {status}",
            target.slot,
            position(self.slot.confirmed_flush_lsn),
            self.at
        );
        Ok((landed, evidence))
    }
}

/// A slot that was invalidated.
#[derive(Debug)]
pub(super) struct Invalidated {
    /// The setting in `postgresql.auto.conf` before; `None` when it did not stand there.
    setting: Option<String>,
}

impl Invalidated {
    pub(super) async fn inject(target: &Target) -> Result<Invalidated, FaultError> {
        let db = target.sql().await.map_err(FaultError::client(INVALIDATE))?;
        let slot = find(&db, target).await.map_err(FaultError::client(INVALIDATE))?;
        let slot = slot.ok_or_else(|| no_slot(INVALIDATE, target))?;
        if slot.active {
            let hint = "a slot in use follows the WAL; stop the connector first";
            return Err(FaultError::unfit(INVALIDATE, format!("slot {}", target.slot), "inactive", "active", hint));
        }
        let sql = "select setting from pg_file_settings where name = 'max_slot_wal_keep_size' \
                   and sourcefile like '%postgresql.auto.conf' order by seqno desc limit 1";
        let setting = db.text(sql).await.map_err(FaultError::client(INVALIDATE))?;
        let trace = Invalidated { setting };
        let outwritten = outwrite(&db, target).await;
        let healed = trace.heal(target).await;
        outwritten.map_err(FaultError::client(INVALIDATE))?;
        healed.map(|()| trace)
    }

    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        let db = target.sql().await.map_err(FaultError::client(INVALIDATE))?;
        let slot = find(&db, target).await.map_err(FaultError::client(INVALIDATE))?;
        let Some(slot) = slot else {
            return Ok((Landed::Mismatch, format!("slot {} is not there", target.slot)));
        };
        let evidence = format!(
            "slot {}: wal_status {}, invalidation_reason {}; {}",
            target.slot,
            slot.wal_status.as_deref().unwrap_or("none"),
            slot.invalidation_reason.as_deref().unwrap_or("none"),
            connector_state(target).await
        );
        let lost = slot.wal_status.as_deref() == Some("lost");
        Ok((if lost { Landed::Confirmed } else { Landed::Mismatch }, evidence))
    }

    /// Puts the setting back.
    pub(super) async fn heal(&self, target: &Target) -> Result<(), FaultError> {
        let Ok(db) = target.sql().await else { return Ok(()) };
        let sql = match &self.setting {
            Some(value) => format!("alter system set max_slot_wal_keep_size = {}", sql::literal(value)),
            None => "alter system reset max_slot_wal_keep_size".to_owned(),
        };
        db.run(&sql).await.map_err(FaultError::client(INVALIDATE))?;
        db.run("select pg_reload_conf()").await.map_err(FaultError::client(INVALIDATE))
    }
}

async fn outwrite(db: &Postgres, target: &Target) -> Result<(), ClientError> {
    db.run(&format!("alter system set max_slot_wal_keep_size = '{KEEP}'")).await?;
    db.run("select pg_reload_conf()").await?;
    wait::until(&format!("slot {} lost", target.slot), limits::faults::SLOT_INVALIDATED, || async {
        // WAL that changes no table: messages nobody decodes, and a new segment.
        db.run("select pg_logical_emit_message(false, 'cdc-drill', repeat('x', 500000)) from generate_series(1, 3)")
            .await?;
        db.run("select pg_switch_wal()").await?;
        db.run("checkpoint").await?;
        let status = find(db, target).await?.and_then(|slot| slot.wal_status);
        Ok::<_, ClientError>(match status.as_deref() {
            Some("lost") => Poll::Ready(()),
            other => Poll::NotYet(format!("wal_status {}", other.unwrap_or("none"))),
        })
    })
    .await
}

pub(super) async fn find(db: &Postgres, target: &Target) -> Result<Option<Slot>, ClientError> {
    Ok(db.slots().await?.into_iter().find(|slot| slot.name == target.slot))
}

fn no_slot(fault: &'static str, target: &Target) -> FaultError {
    let hint = "the connector makes its slot when it starts";
    FaultError::unfit(fault, format!("slot {}", target.slot), "a slot", "none", hint)
}

fn position(lsn: Option<Lsn>) -> String {
    lsn.map_or_else(|| "nothing".to_owned(), |lsn| lsn.to_string())
}

async fn connector_state(target: &Target) -> String {
    match target.connect().status(&target.connector).await {
        Ok(status) => status.summary(),
        Err(error) => error.to_string(),
    }
}
