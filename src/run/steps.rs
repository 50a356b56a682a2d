//! The steps of a drill, one function each.

use std::{collections::BTreeSet, time::Instant};

use super::{
    RunError,
    drill::{Drill, EpochEnd, Mark, Passed},
    exec,
    pipeline::Source,
};
use crate::{
    backup::{self, CreateOptions, PartKind, PointSelector},
    client::{connect::stored_position, group::OffsetReset, limits},
    config::Means,
    event::{Signal, StepReport, What},
    fault::{self, ColumnChange, Fault, Target as FaultTarget},
    recovery::{self, Naive, Options, Playbook, RecoveryError, Request},
    scenario::{
        self, Absence, BackupPart, GroupReset, Load, Recover, Step, SubjectSide, Target, TargetBy, WhileRecovering,
    },
    units::{Epoch, Lsn, SlotName, Subject, TopicPartition, Verdict},
    verify::observe::{self, Systems},
    workload,
};

/// Transactions that run beside a backup: a recovery point is always taken under load.
const LOAD_DURING_BACKUP: u64 = 80;

/// Takes one step and says what it did.
pub(super) async fn take(drill: &mut Drill<'_>, step: &Step) -> Result<((), String), RunError> {
    let did = match step {
        Step::Load(load) => drill.writers.load(drill.plan, &drill.pipeline.config, load).await?,
        Step::Backup(wanted) => backup(drill, wanted).await?,
        Step::Mark(name) => mark(drill, name).await?,
        Step::Fault(fault) => inject(drill, fault).await?,
        Step::Prove(prove) => self::prove(drill, prove).await?,
        Step::Signals => signals(drill).await,
        Step::Recover(recover) => self::recover(drill, recover).await?,
        Step::Sql(sql) => {
            let first = &drill.pipeline.sources[0].name;
            let sql = sql.replace("{publication}", first).replace("{slot}", first);
            drill.pipeline.sql().await?.run(&sql).await?;
            sql
        }
        Step::Quiesce => super::assess::quiesce(drill).await?,
        Step::StopConnector => {
            for name in drill.pipeline.connectors() {
                drill.pipeline.connect().stopped(&name, limits::connectors::STOPPED).await?;
            }
            "STOPPED, no tasks".to_owned()
        }
        Step::StartConnector => {
            for name in drill.pipeline.connectors() {
                drill.pipeline.connect().resume(&name).await?;
            }
            drill.settled().await?
        }
        Step::RestartConnector => {
            for name in drill.pipeline.connectors() {
                drill.pipeline.connect().restart(&name).await?;
            }
            drill.settled().await?
        }
        Step::ConsumerGroup(group) => consumer_group(drill, group).await?,
        Step::DeleteSchemaVersion(wanted) => {
            let subject = subject(drill, &wanted.table.0, SubjectSide::Value);
            let version = crate::units::SubjectVersion(wanted.version);
            drill.pipeline.registry().delete_version(&subject, version, true).await?;
            let left = drill.pipeline.registry().versions(&subject, true).await?;
            format!("versions left: {left:?}")
        }
    };
    Ok(((), did))
}

/// What runs beside a backup.
pub(super) fn load_during_backup() -> Load {
    Load { transactions: LOAD_DURING_BACKUP, must: Vec::new(), tables: None }
}

async fn backup(drill: &mut Drill<'_>, wanted: &scenario::Backup) -> Result<String, RunError> {
    if let Some(command) = &wanted.exec {
        return exec::backup(drill, command).await;
    }
    let only: Vec<PartKind> = wanted
        .only
        .iter()
        .map(|part| match part {
            BackupPart::Postgres => PartKind::Postgres,
            BackupPart::Connect => PartKind::Connect,
            BackupPart::Registry => PartKind::Registry,
            BackupPart::Topics => PartKind::Topics,
        })
        .collect();
    let options = CreateOptions { only };
    let config = drill.pipeline.config.clone();
    let load = load_during_backup();
    let silent = |_| {};
    let (created, loaded) = tokio::join!(
        backup::create(&config, &options, &silent),
        drill.writers.load(drill.plan, &drill.pipeline.config, &load)
    );
    let created = created?;
    let loaded = loaded?;
    drill.points.insert(wanted.name().to_owned(), created.point().clone());
    drill.looked = None;
    Ok(format!("recovery point {} of {} bytes; meanwhile {loaded}", created.point(), created.manifest.bytes))
}

async fn mark(drill: &mut Drill<'_>, name: &str) -> Result<String, RunError> {
    let db = drill.pipeline.sql().await?;
    let restore_point = format!("{}_{name}", drill.pipeline.name);
    let lsn = db.value(&format!("select pg_create_restore_point('{restore_point}')")).await?;
    let time: jiff::Timestamp =
        db.value("select to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").await?;
    let mut beyond = drill.writers.beyond_ledger(&drill.pipeline.tables);
    // Marker rows go on being placed when the target is reached.
    beyond.retain(|table| drill.pipeline.sources.iter().all(|source| source.markers != *table));
    let tables = match beyond.is_empty() {
        true => None,
        false => Some(workload::capture(&drill.pipeline.config.postgres.url, &beyond).await?),
    };
    drill
        .marks
        .insert(name.to_owned(), Mark { restore_point: restore_point.clone(), lsn, time, epoch: drill.epoch, tables });
    Ok(format!("restore point {restore_point} at {lsn}"))
}

/// The subject of a captured table.
fn subject(drill: &Drill<'_>, table: &crate::units::TableName, side: SubjectSide) -> Subject {
    let side = match side {
        SubjectSide::Key => "key",
        SubjectSide::Value => "value",
    };
    Subject::new(format!("{}-{side}", drill.pipeline.topic(table)))
}

/// What a fault needs to know that is aimed at a connector.
fn target(drill: &Drill<'_>, source: &Source) -> FaultTarget {
    let name = source.name.clone();
    FaultTarget {
        config: drill.pipeline.config.clone(),
        connector: name.clone(),
        prefix: name.clone(),
        slot: SlotName::new(name),
        tables: source.tables.clone(),
    }
}

/// Of a fault that names a table, the connector that captures it; of any other, the first.
fn aimed_at<'d>(drill: &'d Drill<'_>, fault: &scenario::Fault) -> &'d Source {
    let table = match fault {
        scenario::Fault::DeleteAll(f) => Some(&f.table),
        scenario::Fault::FlipHeapBytes(f) => Some(&f.table),
        scenario::Fault::AlterColumn(f) => Some(&f.table),
        scenario::Fault::RegistryDeleteSubject(f) => Some(&f.table),
        scenario::Fault::RegistrySetLevel(f) => f.table.as_ref(),
        scenario::Fault::KillPostgres
        | scenario::Fault::PausePostgres
        | scenario::Fault::DisconnectPostgres
        | scenario::Fault::StarvePostgres(_)
        | scenario::Fault::DropSlot
        | scenario::Fault::InvalidateSlot
        | scenario::Fault::RegistryLoseStorage(_) => None,
    };
    match table {
        Some(table) => drill.pipeline.source_of(&table.0),
        None => &drill.pipeline.sources[0],
    }
}

async fn inject(drill: &mut Drill<'_>, wanted: &scenario::Fault) -> Result<String, RunError> {
    let fault = match wanted {
        scenario::Fault::DeleteAll(f) => Fault::DeleteAll { table: f.table.0.clone() },
        scenario::Fault::FlipHeapBytes(f) => {
            Fault::FlipHeapBytes { table: f.table.0.clone(), pages: f.pages, seed: drill.plan.seed }
        }
        scenario::Fault::KillPostgres => Fault::KillPostgres,
        scenario::Fault::PausePostgres => Fault::DisturbPostgres { means: Means::Pause },
        scenario::Fault::DisconnectPostgres => Fault::DisturbPostgres { means: Means::Disconnect },
        scenario::Fault::StarvePostgres(f) => Fault::DisturbPostgres { means: Means::Memory(f.mib) },
        scenario::Fault::DropSlot => Fault::DropSlot,
        scenario::Fault::InvalidateSlot => Fault::InvalidateSlot,
        scenario::Fault::AlterColumn(f) => Fault::AlterColumn {
            table: f.table.0.clone(),
            column: f.column.clone(),
            change: match f.change {
                scenario::ColumnChange::IntToText => ColumnChange::IntToText,
                scenario::ColumnChange::SetNotNull => ColumnChange::SetNotNull,
                scenario::ColumnChange::AddNotNull => ColumnChange::AddNotNull,
            },
        },
        scenario::Fault::RegistryDeleteSubject(f) => {
            Fault::RegistryDeleteSubject { subject: subject(drill, &f.table.0, f.side) }
        }
        scenario::Fault::RegistrySetLevel(f) => Fault::RegistrySetLevel {
            subject: f.table.as_ref().map(|t| subject(drill, &t.0, SubjectSide::Value)),
            level: f.level.word().to_owned(),
        },
        scenario::Fault::RegistryLoseStorage(f) => Fault::RegistryLoseStorage { refill: f.refill },
    };
    let systems = Systems::new(&drill.pipeline.config)?;
    drill.registry_before_faults.push(observe::registry(&systems, &drill.pipeline.subject_prefix()).await?);
    let source = aimed_at(drill, wanted);
    let name = source.name.clone();
    let guard = fault.inject(&target(drill, source)).await?;
    let seen = guard.landed().await;
    drill.guards.push(guard);
    drill.faults.push((name, fault));
    let evidence = seen.evidence.clone();
    drill.fault_seen(seen)?;
    Ok(evidence)
}

async fn prove(drill: &mut Drill<'_>, prove: &scenario::Prove) -> Result<String, RunError> {
    let seen = match prove {
        scenario::Prove::DeliveredBeyond(mark) => return delivered_beyond(drill, prove, mark).await,
        scenario::Prove::WalBeyond(mark) => return wal_beyond(drill, mark).await,
        scenario::Prove::SlotMissing => return slot_missing(drill, prove).await,
        scenario::Prove::SchemaRefused(table) => {
            let target = target(drill, drill.pipeline.source_of(&table.0));
            fault::schema_refused(&target, &table.0).await?
        }
        scenario::Prove::RecordsUnderOtherIds(count) => {
            let target = target(drill, &drill.pipeline.sources[0]);
            let before = drill.guards.iter().find_map(|g| g.registry_before());
            let before = before.ok_or_else(|| RunError::Scenario {
                scenario: drill.plan.id.to_string(),
                what: "prove: records-under-other-ids".into(),
                expected: "a registry-lose-storage fault before it".into(),
                found: "none".into(),
                hint: "put the fault before the proof".into(),
            })?;
            fault::records_under_other_ids(&target, before, *count).await?
        }
    };
    let evidence = seen.evidence.clone();
    drill.fault_seen(seen)?;
    Ok(evidence)
}

fn marked<'d>(drill: &'d Drill<'_>, mark: &str) -> Result<&'d Mark, RunError> {
    drill.marks.get(mark).ok_or_else(|| unknown(drill, "mark", mark))
}

/// Waits until everything committed is delivered, and looks at each connector's stored position.
async fn delivered_beyond(drill: &Drill<'_>, prove: &scenario::Prove, mark: &str) -> Result<String, RunError> {
    let beyond = marked(drill, mark)?.lsn;
    let unmet = |seen: String| RunError::Condition { condition: format!("{} {mark}", prove.word()), seen };
    super::assess::quiesce(drill).await.map_err(|error| match error {
        RunError::NotQuiet { seen } => unmet(seen),
        other => other,
    })?;
    let mut stored = Vec::new();
    for name in drill.pipeline.connectors() {
        let offsets = drill.pipeline.connect().offsets(&name).await?;
        let at = offsets.iter().filter_map(|o| o.offset.as_ref().and_then(stored_position)).max();
        match at {
            Some(lsn) if lsn > beyond => stored.push(format!("{name} stored {lsn}")),
            other => {
                let at = other.map_or("nothing".to_owned(), |lsn| lsn.to_string());
                return Err(unmet(format!("connector {name} has stored {at}, the mark is at {beyond}")));
            }
        }
    }
    Ok(format!("everything is delivered; {}, beyond {mark} at {beyond}", stored.join(", ")))
}

/// Goes on to new segments until the WAL is longer than the mark's position.
async fn wal_beyond(drill: &Drill<'_>, mark: &str) -> Result<String, RunError> {
    let beyond = marked(drill, mark)?.lsn;
    let db = drill.pipeline.sql().await?;
    let mut switched = 0;
    loop {
        let end: Lsn = db.value("select pg_current_wal_insert_lsn()").await?;
        if end > beyond {
            return Ok(format!("the WAL ends at {end}, beyond {mark} at {beyond}; {switched} segments switched"));
        }
        // A segment without a record is not switched: the record makes that each turn is a step forward.
        db.run("select pg_logical_emit_message(false, 'cdc-drill', 'on to the next segment')").await?;
        db.run("select pg_switch_wal()").await?;
        switched += 1;
    }
}

async fn slot_missing(drill: &Drill<'_>, prove: &scenario::Prove) -> Result<String, RunError> {
    let slots = drill.pipeline.sql().await?.slots().await?;
    let dropped = drill.faults.iter().filter(|(_, fault)| matches!(fault, Fault::DropSlot));
    let names: Vec<&String> = dropped.map(|(connector, _)| connector).collect();
    match slots.iter().find(|slot| names.iter().any(|name| slot.name.as_str() == *name)) {
        None => Ok("no slot is there".to_owned()),
        Some(slot) => Err(RunError::Condition {
            condition: prove.word().to_owned(),
            seen: format!("slot {} is there: a connector made it again", slot.name),
        }),
    }
}

async fn signals(drill: &Drill<'_>) -> String {
    let mut said: Vec<Signal> = Vec::new();
    for source in &drill.pipeline.sources {
        // What only another connector suffers from is no lie of this one's.
        let concerns = |(aim, fault): &&(String, Fault)| *aim == source.name || !fault.is_of_one_connector();
        let faults: Vec<Fault> = drill.faults.iter().filter(concerns).map(|(_, fault)| fault.clone()).collect();
        for signal in fault::signals(&target(drill, source), &faults).await {
            // Server and registry are asked for each connector.
            match said.iter_mut().find(|known| known.source == signal.source) {
                Some(known) => known.lied |= signal.lied,
                None => said.push(signal),
            }
        }
    }
    let words: Vec<String> = said.iter().map(|s| format!("{}: {}", s.source, s.said)).collect();
    for signal in said {
        drill.emit.emit(What::Signal(signal));
    }
    words.join("; ")
}

/// Makes a group with committed offsets and no member, as a consumer that is down leaves it. What one that is started again
/// is given, [`super::assess`] sees at the end.
async fn consumer_group(drill: &Drill<'_>, wanted: &scenario::ConsumerGroup) -> Result<String, RunError> {
    let kafka = drill.pipeline.kafka()?;
    let group = group_name(drill, &wanted.name);
    let mut offsets = Vec::new();
    for topic in drill.pipeline.topics() {
        for (partition, (low, high)) in kafka.watermarks(&topic).await?.into_iter().enumerate() {
            let at = match wanted.reset {
                GroupReset::Latest => high,
                GroupReset::Earliest => low,
            };
            offsets.push((TopicPartition { topic: topic.clone(), partition: partition as i32 }, at));
        }
    }
    kafka.commit_group_offsets(&group, &offsets).await?;
    let records: i64 = offsets.iter().map(|(_, offset)| offset.0).sum();
    Ok(format!("group {group} committed {} partitions, {records} records in", offsets.len()))
}

/// The language's word in the client's.
pub(super) fn offset_reset(reset: GroupReset) -> OffsetReset {
    match reset {
        GroupReset::Latest => OffsetReset::Latest,
        GroupReset::Earliest => OffsetReset::Earliest,
    }
}

/// The group's name on the shared broker.
pub(super) fn group_name(drill: &Drill<'_>, name: &str) -> String {
    format!("{}-{name}", drill.pipeline.name)
}

async fn recover(drill: &mut Drill<'_>, wanted: &Recover) -> Result<String, RunError> {
    let continues = wanted.writers() == WhileRecovering::Continue;
    let end = epoch_end(drill, wanted)?;
    let captured = match &end {
        EpochEnd::Mark(Mark { tables: Some(tables), .. }) if !continues => tables.keys().cloned().collect(),
        _ => Vec::new(),
    };
    if matches!(wanted, Recover::Coordinated(_)) {
        for topic in drill.pipeline.schema_histories() {
            let records = super::assess::history(drill, &topic).await?.unwrap_or_default();
            drill.histories.insert(topic, records);
        }
    }
    if continues {
        drill.writers.hammer()?;
    }
    let began = Instant::now();
    let did = recovered(drill, wanted, &end).await?;
    let seconds = began.elapsed().as_secs_f64();
    let meanwhile =
        if continues { format!("; meanwhile {}", drill.writers.stop_hammer().await?) } else { String::new() };
    let mut passed = Passed {
        end,
        epoch: drill.epoch,
        restored: None,
        recovered: None,
        seconds,
        point: None,
        by_command: false,
        replaced: false,
    };
    let did = match did {
        Did::Nothing => "left out on purpose".to_owned(),
        Did::Playbook(recovered) => {
            finished(drill, wanted, seconds, Verdict::Passed, recovered.outcome.findings.join("; "));
            let did = format!("{} steps, {seconds:.1} s{meanwhile}", recovered.outcome.steps.len());
            passed.point.clone_from(&recovered.outcome.point);
            drill.aside.extend(recovered.aside.clone());
            passed.recovered = Some(*recovered);
            did
        }
        Did::Command(left) => {
            finished(drill, wanted, seconds, Verdict::Passed, String::new());
            (passed.by_command, passed.replaced) = (true, left.replaced);
            drill.kept_wal.insert(drill.epoch, left.wal);
            format!("a command, {seconds:.1} s{meanwhile}")
        }
        Did::Failed(error) => {
            finished(drill, wanted, seconds, Verdict::Failed, error.to_string());
            let did = format!("refused: {error}");
            drill.refusal = Some(*error);
            return Ok(did);
        }
    };
    // Now, because later loads change these tables and nobody writes down how.
    passed.restored = match captured.is_empty() {
        true => None,
        false => {
            let tables = workload::capture(&drill.pipeline.config.postgres.url, &captured).await;
            Some(tables.map_err(|error| error.to_string()))
        }
    };
    drill.recoveries.push(passed);
    drill.epoch = Epoch(drill.epoch.0 + 1);
    drill.writers.set_epoch(drill.epoch).await;
    let timeline = drill.pipeline.sql().await?.timeline().await?;
    drill.timelines.insert(drill.epoch, timeline);
    Ok(did)
}

/// What was done as the recovery.
enum Did {
    /// It was left out.
    Nothing,
    /// A playbook, to its end.
    Playbook(Box<recovery::Recovered>),
    /// A command of the scenario's own, to its end.
    Command(exec::Left),
    /// It went no further.
    Failed(Box<RecoveryError>),
}

/// Does the recovery, or what a control does instead.
async fn recovered(drill: &Drill<'_>, wanted: &Recover, end: &EpochEnd) -> Result<Did, RunError> {
    if let Some(Absence::Recovery) = drill.omission() {
        return Ok(Did::Nothing);
    }
    if let Some(command) = exec::command_of(drill.plan, wanted) {
        let mark = match end {
            EpochEnd::Mark(mark) => Some(mark),
            EpochEnd::Kept => None,
        };
        return Ok(match exec::recover(drill, wanted, command, mark).await? {
            Ok(left) => Did::Command(left),
            Err(error) => Did::Failed(Box::new(error)),
        });
    }
    let request = request(drill, wanted)?;
    Ok(match run_playbook(drill, &request).await {
        Ok(recovered) => Did::Playbook(Box::new(recovered)),
        Err(error) => Did::Failed(Box::new(error)),
    })
}

fn finished(drill: &Drill<'_>, wanted: &Recover, rto_seconds: f64, verdict: Verdict, detail: String) {
    let playbook = match exec::command_of(drill.plan, wanted) {
        Some(_) => "exec".to_owned(),
        None => wanted.playbook().to_owned(),
    };
    drill.emit.emit(What::RecoveryFinished { playbook, rto_seconds, verdict, detail });
}

async fn run_playbook(drill: &Drill<'_>, request: &Request) -> Result<recovery::Recovered, RecoveryError> {
    let mut omit = BTreeSet::new();
    if let Some(Absence::Step(step)) = drill.omission() {
        omit.insert(step.clone());
    }
    let naive = drill.plan.control.as_ref().and_then(|c| c.naive.as_ref()).and_then(|naive| match naive {
        scenario::Naive::SlotByHand => Some(Naive::SlotByHand),
        scenario::Naive::ZeroDamagedPages => Some(Naive::ZeroDamagedPages),
        scenario::Naive::ResnapshotWithoutPurge => Some(Naive::ResnapshotWithoutPurge),
        scenario::Naive::ReRegister => Some(Naive::ReRegister),
        scenario::Naive::LowerLevelGlobally => Some(Naive::LowerLevelGlobally),
        scenario::Naive::RestartOnly => Some(Naive::RestartOnly),
        scenario::Naive::Exec(_) => None,
    });
    let options = Options { omit, naive };
    let emit = drill.emit.clone();
    let mut told = |step: StepReport| emit.emit(What::RecoveryStep(step));
    let recovered =
        recovery::run(&drill.pipeline.config, request, &options, &mut told, &recovery::Watch::default()).await?;
    // The drill's own checks say what it was worth.
    recovery::conclude(&recovered)?;
    Ok(recovered)
}

/// What the scenario asks for, as the command line would ask for it.
fn request(drill: &Drill<'_>, wanted: &Recover) -> Result<Request, RunError> {
    let playbook = match wanted {
        Recover::Coordinated(_) => Playbook::Coordinated,
        Recover::Slot(_) => Playbook::Slot,
        Recover::Schema(_) => Playbook::Schema,
        Recover::Exec(_) => return Err(unknown(drill, "playbook", wanted.playbook())),
    };
    let mut connectors = drill.pipeline.connectors();
    // A database goes back with all its connectors; a slot is one connector's, and what the others deliver stays.
    let hit = |name: &String| drill.faults.iter().any(|(aim, _)| aim == name);
    if matches!(playbook, Playbook::Slot) && connectors.iter().any(hit) {
        connectors.retain(hit);
    }
    // Other drills' connectors come and go on the same worker while the point is taken, which one of its checks counts as a
    // change. What the point is worth, the drill's own checks say.
    let accept_inconsistent_point = true;
    let mut request = Request { connectors, neighbours: false, accept_inconsistent_point, ..Request::new(playbook) };
    if let Some(name) = wanted.point() {
        let id = drill.points.get(name).ok_or_else(|| unknown(drill, "recovery point", name))?;
        request.point = PointSelector::Id(id.clone());
    }
    match wanted {
        Recover::Coordinated(r) => {
            request.timeline = r.timeline;
            request.target = match &r.target {
                Target::Latest => recovery::Target::Latest,
                Target::Mark { mark, by } => {
                    let mark = drill.marks.get(mark).ok_or_else(|| unknown(drill, "mark", mark))?;
                    match by {
                        TargetBy::Name => recovery::Target::Name(mark.restore_point.clone()),
                        TargetBy::Lsn => recovery::Target::Lsn(mark.lsn),
                        TargetBy::Time => recovery::Target::Time(mark.time),
                    }
                }
            };
        }
        Recover::Slot(r) => {
            request.topics = match r.topics {
                scenario::TopicsRepair::Purge => recovery::TopicsRepair::Purge,
                scenario::TopicsRepair::Compensate => recovery::TopicsRepair::Compensate,
            };
        }
        Recover::Schema(r) => {
            request.on_conflict = match r.on_conflict {
                scenario::AcceptOrReject::Reject => recovery::OnConflict::Reject,
                scenario::AcceptOrReject::Accept => recovery::OnConflict::Accept,
            };
        }
        Recover::Exec(_) => {}
    }
    Ok(request)
}

/// What the recovery is to keep of the epoch that it ends.
fn epoch_end(drill: &Drill<'_>, wanted: &Recover) -> Result<EpochEnd, RunError> {
    Ok(match wanted.target() {
        Target::Latest => EpochEnd::Kept,
        Target::Mark { mark, .. } => {
            EpochEnd::Mark(drill.marks.get(mark).ok_or_else(|| unknown(drill, "mark", mark))?.clone())
        }
    })
}

fn unknown(drill: &Drill<'_>, kind: &str, name: &str) -> RunError {
    RunError::Scenario {
        scenario: drill.plan.id.to_string(),
        what: format!("{kind} {name}"),
        expected: format!("a {kind} of that name taken earlier in the drill"),
        found: "none".into(),
        hint: format!("put the step that makes the {kind} before the one that uses it"),
    }
}
