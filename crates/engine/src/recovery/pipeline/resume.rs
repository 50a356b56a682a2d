//! From stopped to whole: the slot's place cleared, a full snapshot forced, connectors resumed, settings put back.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

use super::{Pipeline, Source};
use crate::recovery::{self, RecoveryError};
use cdc_model::{
    moment::{self, HALF_WAY},
    units::{Lsn, SlotName, counted, is_secret_setting},
};
use cdc_pipeline::client::{
    connect::{AtRest, ConnectorStatus, StoredOffset, snapshot_complete},
    limits,
    postgres::{Postgres, Slot},
    wait,
    wait::Poll,
};
use cdc_postgres::sql::literal;

/// With no stored offset these take a full snapshot and then stream; others do only one of the two.
const MODES_THAT_SNAPSHOT: [&str; 3] = ["initial", "always", "when_needed"];
/// The mode for one run where the saved one would not snapshot.
const FORCED_MODE: &str = "initial";

impl Pipeline {
    /// What will be overridden, and what becomes of the slots: for the plan.
    pub(crate) fn force_destroys(&self) -> Vec<String> {
        self.sources.iter().map(|s| format!("slot {} of database {}, if it is there", s.slot, s.database)).collect()
    }

    /// Drops what is left of the connectors' slots, and overrides a snapshot mode that would not take a full snapshot. The
    /// slot is then made by the connector, so that its snapshot is the slot's own: nothing twice, nothing missing.
    pub async fn force_snapshot(&self) -> Result<(), RecoveryError> {
        for source in &self.sources {
            let server = self.session(source).await?;
            drop_slot(&server, &source.slot).await?;
            if !MODES_THAT_SNAPSHOT.contains(&source.snapshot_mode()) {
                let mut config = source.config.clone();
                config.insert("snapshot.mode".into(), FORCED_MODE.into());
                self.connect.put_config(&source.name, &config).await?;
            }
            moment::pass(HALF_WAY).await?;
        }
        Ok(())
    }

    /// Requires that each connector will take a full snapshot into a slot of its own making.
    pub(crate) async fn snapshot_forced(&self, step: &str) -> Result<String, RecoveryError> {
        let mut overridden = Vec::new();
        for source in &self.sources {
            let slots = self.session(source).await?.slots().await?;
            let slot = slots.iter().find(|s| s.name == source.slot);
            if slot.is_some() {
                return Err(RecoveryError::unmet(step, format!("no slot {}", source.slot), "it is there"));
            }
            let config = self.connect.config(&source.name).await?;
            let mode = config.get("snapshot.mode").map_or("initial", String::as_str);
            if !MODES_THAT_SNAPSHOT.contains(&mode) {
                let wanted = format!("snapshot.mode {FORCED_MODE} of connector {}", source.name);
                return Err(RecoveryError::unmet(step, wanted, mode));
            }
            if mode != source.snapshot_mode() {
                overridden.push(format!("{}: {mode} instead of {}", source.name, source.snapshot_mode()));
            }
        }
        Ok(match overridden.is_empty() {
            true => "no slot there; the saved modes snapshot".into(),
            false => format!("no slot there; snapshot.mode of {}", overridden.join(", ")),
        })
    }

    /// Resumes the sources, waits until their snapshots are complete, and then resumes the sinks.
    pub async fn resume(&self, expect_snapshot: bool) -> Result<(), RecoveryError> {
        for source in self.sources.iter().chain(&self.others) {
            self.connect.resume(&source.name).await?;
            moment::pass(HALF_WAY).await?;
        }
        let rebuilt = self.sources.iter().map(|s| self.streaming(s, expect_snapshot));
        futures::future::try_join_all(rebuilt).await?;
        moment::pass("streaming").await?;
        let released = self.release_sinks().await;
        // The topics of these were left alone: no sink waits for them.
        let others = self.others.iter().map(|s| self.streaming(s, false));
        futures::future::try_join_all(others).await?;
        released
    }

    /// Waits until a source streams: tasks RUNNING, its slot active, and, where one is expected, the snapshot behind it.
    pub(crate) async fn streaming(&self, source: &Source, expect_snapshot: bool) -> Result<(), RecoveryError> {
        let server = self.session(source).await?;
        let progress = Progress::new();
        let held = Held::default();
        let what = format!("connector {} to stream from slot {}", source.name, source.slot);
        wait::until(&what, limits::connectors::SNAPSHOT, || async {
            let status = self.connect.status(&source.name).await?;
            if let Some(failure) = status.failure() {
                return Ok(Poll::Hopeless(failure));
            }
            let seen = if !status.all_running() {
                status.summary()
            } else {
                match self.not_streaming(source, &server, expect_snapshot).await? {
                    None if expect_snapshot || held.steadily(&server, &source.slot).await? => {
                        return Ok(Poll::Ready(()));
                    }
                    None => "the slot has been active for a moment only".to_owned(),
                    Some(why) => why,
                }
            };
            Ok::<_, RecoveryError>(match progress.look(self, source, &server).await {
                Pace::Stalled(still) => {
                    Poll::Hopeless(format!("{seen}; nothing has moved for {:.0} s", still.as_secs_f64()))
                }
                Pace::Moves => Poll::NotYet(seen),
                Pace::Waits(blockers) => Poll::NotYet(format!("{seen}; {blockers}")),
            })
        })
        .await?;
        Ok(())
    }

    /// Why a source with running tasks does not stream yet; `None` when it does.
    async fn not_streaming(
        &self,
        source: &Source,
        server: &Postgres,
        expect_snapshot: bool,
    ) -> Result<Option<String>, RecoveryError> {
        let slots = server.slots().await?;
        match slots.iter().find(|s| s.name == source.slot) {
            None => return Ok(Some(format!("slot {} is not there", source.slot))),
            Some(slot) if !slot.active => return Ok(Some(format!("slot {} is not active", source.slot))),
            Some(_) => {}
        }
        if !expect_snapshot {
            return Ok(None);
        }
        let stored = self.connect.offsets(&source.name).await?;
        let offsets: Vec<&Map<String, Value>> =
            stored.iter().filter_map(|o: &StoredOffset| o.offset.as_ref()).collect();
        if offsets.is_empty() {
            // A snapshot of nothing stores nothing.
            return Ok(match self.any_row(source, server).await? {
                true => Some("no offset is stored yet".into()),
                false => None,
            });
        }
        Ok(match offsets.iter().all(|o| snapshot_complete(o)) {
            true => None,
            false => Some("the snapshot is not complete".into()),
        })
    }

    async fn any_row(&self, source: &Source, server: &Postgres) -> Result<bool, RecoveryError> {
        for table in super::captured_tables(server, &source.capture).await? {
            let sql = format!("select exists (select 1 from {})", table.quoted());
            if server.text(&sql).await?.as_deref() == Some("t") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Requires that everything streams; says how much the snapshots wrote.
    pub(crate) async fn streams(&self, step: &str, expect_snapshot: bool) -> Result<String, RecoveryError> {
        let rebuilt = self.sources.iter().map(|s| (s, expect_snapshot));
        for (source, snapshot) in rebuilt.chain(self.others.iter().map(|s| (s, false))) {
            let status = self.connect.status(&source.name).await?;
            if let Some(why) = self.why_not(source, &status, snapshot).await? {
                return Err(RecoveryError::unmet(step, format!("connector {} streaming", source.name), why));
            }
        }
        let records: i64 = self.ends().await?.iter().map(|(_, high)| high.0).sum();
        let connectors = self.sources.len() + self.others.len();
        Ok(format!(
            "{} RUNNING, slots active; {} in the rebuilt topics",
            counted(connectors, "connector"),
            counted(records, "record")
        ))
    }

    /// Why a source of this status does not stream; `None` when it does.
    async fn why_not(
        &self,
        source: &Source,
        status: &ConnectorStatus,
        snapshot: bool,
    ) -> Result<Option<String>, RecoveryError> {
        match status.all_running() {
            true => self.not_streaming(source, &self.session(source).await?, snapshot).await,
            false => Ok(Some(status.summary())),
        }
    }

    /// Whether an earlier run came as far as sources that stream from complete snapshots, or, where it came on to `rested`, that
    /// are at rest again as they were found.
    pub(crate) async fn has_resumed(&self, expect_snapshot: bool, rested: bool) -> Result<bool, RecoveryError> {
        let rebuilt = self.sources.iter().map(|s| (s, expect_snapshot));
        for (source, snapshot) in rebuilt.chain(self.others.iter().map(|s| (s, false))) {
            let status = self.connect.status(&source.name).await?;
            if rested && status.at_rest().is_some() && status.at_rest() == source.status.at_rest() {
                continue;
            }
            if self.why_not(source, &status, snapshot).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Requires that everything streams that was to be resumed.
    pub(crate) async fn resumed(&self, step: &str) -> Result<String, RecoveryError> {
        match self.course.resumes() {
            true => self.streams(step, false).await,
            false => Ok("the connectors were not resumed".into()),
        }
    }

    /// Puts back the settings that were overridden, and brings the sources to rest that were found at rest. Changing settings
    /// restarts the task, which goes on from its stored offset: the snapshot is complete by then.
    pub async fn restore_config(&self) -> Result<usize, RecoveryError> {
        let mut restored = 0;
        for source in &self.sources {
            if self.connect.config(&source.name).await? == source.config {
                continue;
            }
            self.connect.put_config(&source.name, &source.config).await?;
            if self.course.resumes() {
                self.streaming(source, false).await?;
            }
            restored += 1;
            moment::pass(HALF_WAY).await?;
        }
        if self.course.resumes() {
            restored += self.rest_as_found().await?;
        }
        Ok(restored)
    }

    /// Brings sources to rest that were found at rest: they ran for their snapshots alone.
    async fn rest_as_found(&self) -> Result<usize, RecoveryError> {
        let mut rested = 0;
        for source in self.sources.iter().chain(&self.others) {
            match source.status.at_rest() {
                None => continue,
                Some(AtRest::Paused) => self.connect.paused(&source.name, limits::connectors::STOPPED).await?,
                Some(AtRest::Stopped) => self.connect.stopped(&source.name, limits::connectors::STOPPED).await?,
            }
            rested += 1;
            moment::pass(HALF_WAY).await?;
        }
        Ok(rested)
    }

    /// Requires that every source has the configuration it was found with, and streams, and that every connector is in the state in
    /// which it was found.
    pub(crate) async fn config_as_before(&self, step: &str) -> Result<String, RecoveryError> {
        for source in &self.sources {
            let now = self.connect.config(&source.name).await?;
            if let Some((key, value)) = source.config.iter().find(|(k, v)| now.get(*k) != Some(v)) {
                let shown = |value: &String| if is_secret_setting(key) { "***".to_owned() } else { value.clone() };
                let found = now.get(key).map_or("unset".to_owned(), shown);
                let expected = format!("{key} = {} of connector {}", shown(value), source.name);
                return Err(RecoveryError::unmet(step, expected, found));
            }
            if let Some(key) = now.keys().find(|k| !source.config.contains_key(*k)) {
                return Err(RecoveryError::unmet(step, format!("no {key} of connector {}", source.name), "it is set"));
            }
            if !self.course.resumes() {
                continue;
            }
            match source.status.at_rest() {
                None => self.connect.running(&source.name, limits::connectors::RUNNING).await?,
                Some(wanted) => {
                    let status = self.connect.status(&source.name).await?;
                    if status.at_rest() != Some(wanted) {
                        let expected = format!("connector {} {}, as found", source.name, wanted.word());
                        return Err(RecoveryError::unmet(step, expected, status.summary()));
                    }
                }
            }
        }
        let failed = match self.course.resumes() {
            true => self.sinks_as_found().await?,
            false => String::new(),
        };
        Ok(format!("configurations and states as found{failed}"))
    }
}

/// Drops a slot of a connector that is stopped. A session that still has it is a stranger's, or what is left of the connector's
/// own: one that waits for older transactions does not notice that its client has gone. It is ended.
pub async fn drop_slot(server: &Postgres, name: &SlotName) -> Result<bool, RecoveryError> {
    let slot = async || Ok::<_, RecoveryError>(server.slots().await?.into_iter().find(|slot| &slot.name == name));
    let Some(there) = slot().await? else { return Ok(false) };
    if let Some(pid) = there.active_pid {
        server.text(&format!("select pg_terminate_backend({pid})")).await?;
        let what = format!("process {pid} to let go of slot {name}");
        wait::until(&what, limits::postgres::LET_GO, || async {
            Ok::<_, RecoveryError>(match slot().await?.and_then(|slot| slot.active_pid) {
                None => Poll::Ready(()),
                Some(pid) => Poll::NotYet(format!("process {pid} streams from it")),
            })
        })
        .await?;
    }
    // One that was being made has gone with its session.
    if slot().await?.is_some() {
        server.text(&format!("select pg_drop_replication_slot({})", literal(name.as_str()))).await?;
    }
    Ok(true)
}

/// Which session holds the slot, and since when.
#[derive(Default)]
struct Held(Mutex<Option<(i32, Instant)>>);

impl Held {
    async fn steadily(&self, server: &Postgres, slot: &SlotName) -> Result<bool, RecoveryError> {
        let pid = server.slots().await?.into_iter().find(|s| &s.name == slot).and_then(|s| s.active_pid);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = match (pid, *held) {
            (Some(pid), Some((same, since))) if pid == same => Some((pid, since)),
            (Some(pid), _) => Some((pid, Instant::now())),
            (None, _) => None,
        };
        Ok(held.is_some_and(|(_, since)| since.elapsed() >= limits::facts::HOLDS_SLOT))
    }
}

/// Whether there is still something to wait for.
#[derive(Debug, PartialEq, Eq)]
enum Pace {
    /// Something happened lately.
    Moves,
    /// The slot's making waits for what is named; it is no fault of the connector's.
    Waits(String),
    /// Nothing has happened for so long.
    Stalled(Duration),
}

/// Whether the data topics still grow, or why they cannot yet.
struct Progress(Mutex<Growth>);

#[derive(Clone, Debug)]
struct Growth {
    records: i64,
    confirmed: Option<Lsn>,
    blockers: Option<String>,
    told: Option<String>,
    moved: Instant,
    looked: Instant,
}

impl Progress {
    fn new() -> Progress {
        let now = Instant::now();
        Progress(Mutex::new(Growth {
            records: 0,
            confirmed: None,
            blockers: None,
            told: None,
            moved: now,
            looked: now,
        }))
    }

    async fn look(&self, pipeline: &Pipeline, source: &Source, server: &Postgres) -> Pace {
        let mut growth = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if growth.looked.elapsed() > limits::pacing::GROWTH_LOOK {
            // What cannot be asked now has not moved.
            let ends = pipeline.ends().await.ok();
            let records = ends.map_or(growth.records, |e| e.iter().map(|(_, high)| high.0).sum());
            let slots = server.slots().await.unwrap_or_default();
            let slot = slots.iter().find(|s| s.name == source.slot);
            let confirmed = slot.and_then(|s| s.confirmed_flush_lsn).or(growth.confirmed);
            let blockers = match slot {
                Some(slot) if being_made(slot) => older_transactions(server, slot).await.unwrap_or_default(),
                _ => None,
            };
            // Once for each: a connector that makes its slot anew after a while waits for the same ones again.
            if blockers.is_some() && blockers != growth.told {
                tracing::warn!("connector {}: {}", source.name, blockers.as_deref().unwrap_or_default());
                growth.told = blockers.clone();
            }
            growth.see(records, confirmed, blockers, Instant::now());
            let at = server.value::<Lsn>("select pg_current_wal_lsn()").await.ok();
            pipeline.watch.tell(growth.told_of(&source.name, at));
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = growth.clone();
        }
        growth.pace(Instant::now(), limits::connectors::STALLED.now())
    }
}

impl Growth {
    /// Records, a confirmed position, and older transactions in the way of a slot are all progress. There is no limit of its
    /// own to the last: the slot is made as soon as they end, the topics are purged already, and to give up would not bring
    /// anything back. A person who would rather end such a transaction is told which, and may also end the recovery; and the
    /// connector, which asks for its slot anew every minute and a half, may lose patience, which fails its task.
    fn see(&mut self, records: i64, confirmed: Option<Lsn>, blockers: Option<String>, now: Instant) {
        if records != self.records || confirmed != self.confirmed || blockers.is_some() {
            self.moved = now;
        }
        (self.records, self.confirmed, self.blockers, self.looked) = (records, confirmed, blockers, now);
    }

    /// For those who watch, with the server's position.
    fn told_of(&self, connector: &str, server: Option<Lsn>) -> recovery::Progress {
        recovery::Progress::Snapshot {
            connector: connector.to_owned(),
            records: self.records.try_into().unwrap_or_default(),
            lag_bytes: server.zip(self.confirmed).map(|(server, confirmed)| server.0.saturating_sub(confirmed.0)),
            waits_for: self.blockers.clone(),
            still_seconds: self.looked.duration_since(self.moved).as_secs(),
        }
    }

    fn pace(&self, now: Instant, standstill: Duration) -> Pace {
        let still = now.duration_since(self.moved);
        match &self.blockers {
            Some(blockers) => Pace::Waits(blockers.clone()),
            None if still > standstill => Pace::Stalled(still),
            None => Pace::Moves,
        }
    }
}

/// A slot has no confirmed position until every transaction that ran when its making began has ended.
fn being_made(slot: &Slot) -> bool {
    slot.active && slot.confirmed_flush_lsn.is_none()
}

/// The transactions that the making of a slot waits for; none when it waits for nothing. The walsender waits for their locks,
/// so those that hold one up are known, prepared transactions too, which have no process.
async fn older_transactions(server: &Postgres, slot: &Slot) -> Result<Option<String>, RecoveryError> {
    let Some(pid) = slot.active_pid else { return Ok(None) };
    let sql = format!(
        "select b.pid, coalesce(a.backend_xid::text, p.transaction::text, '?'), coalesce(a.application_name, ''), \
         coalesce(a.xact_start, p.prepared)::timestamptz(0)::text, p.gid \
         from (select distinct unnest(pg_blocking_pids({pid})) as pid) b \
         left join pg_stat_activity a on a.pid = b.pid and b.pid <> 0 \
         left join pg_prepared_xacts p on b.pid = 0 and p.transaction in \
         (select transactionid from pg_locks where pid = {pid} and locktype = 'transactionid' and not granted)"
    );
    let rows = server.texts(&sql).await?;
    let named: Vec<String> = rows.iter().map(|row| transaction(row)).collect();
    Ok((!named.is_empty())
        .then(|| format!("slot {} can be made when older transactions end: {}", slot.name, named.join(", "))))
}

fn transaction(row: &[Option<String>]) -> String {
    let cell = |at: usize| row.get(at).and_then(Option::as_deref).filter(|c| !c.is_empty());
    let since = cell(3).map(|s| format!(" since {s}")).unwrap_or_default();
    let number = cell(1).unwrap_or("?");
    match (cell(4), cell(2)) {
        (Some(gid), _) => format!("prepared transaction {gid} ({number}{since})"),
        (None, Some(name)) => format!("pid {} of {name} (transaction {number}{since})", cell(0).unwrap_or("?")),
        (None, None) => format!("pid {} (transaction {number}{since})", cell(0).unwrap_or("?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const STALL: Duration = limits::connectors::STALLED.nominal();

    fn growth(at: Instant) -> Growth {
        Growth { records: 0, confirmed: None, blockers: None, told: None, moved: at, looked: at }
    }

    #[test]
    fn a_slot_that_waits_for_older_transactions_is_not_hopeless() {
        let began = Instant::now();
        let mut growth = growth(began);
        let late = began + STALL * 5;
        growth.see(0, None, Some("pid 7".into()), late);
        assert_eq!(growth.pace(late, STALL), Pace::Waits("pid 7".into()));
        // The transaction has ended: from here on the snapshot has its time.
        growth.see(0, None, None, late + SECOND);
        assert_eq!(growth.pace(late + STALL, STALL), Pace::Moves);
        assert_eq!(growth.pace(late + STALL + SECOND, STALL), Pace::Stalled(STALL + SECOND));
    }

    #[test]
    fn records_and_a_confirmed_position_are_progress_and_standing_is_not() {
        let began = Instant::now();
        let mut growth = growth(began);
        growth.see(10, None, None, began + STALL);
        growth.see(10, Some(Lsn(5)), None, began + STALL * 2);
        assert_eq!(growth.pace(began + STALL * 3, STALL), Pace::Moves);
        let told = growth.told_of("shop", Some(Lsn(25))).to_string();
        assert_eq!(told, "snapshot of connector shop: 10 records in the topics, 20 bytes of WAL behind");
        growth.see(10, Some(Lsn(5)), None, began + STALL * 3 + SECOND);
        assert_eq!(growth.pace(began + STALL * 3 + SECOND, STALL), Pace::Stalled(STALL + SECOND));
    }

    #[test]
    fn a_transaction_is_named_by_its_process_or_by_its_prepared_name() {
        let row = |cells: [Option<&str>; 5]| cells.map(|c| c.map(str::to_owned));
        let named = transaction(&row([Some("42"), Some("767"), Some("pg_dump"), Some("2026-01-01 00:00:00+00"), None]));
        assert_eq!(named, "pid 42 of pg_dump (transaction 767 since 2026-01-01 00:00:00+00)");
        let prepared = transaction(&row([Some("0"), Some("767"), Some(""), None, Some("two-phase")]));
        assert_eq!(prepared, "prepared transaction two-phase (767)");
        assert_eq!(transaction(&row([Some("42"), None, None, None, None])), "pid 42 (transaction ?)");
    }
}
