//! Taking a recovery point.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Activity, BackupError, Consistency, ConsistencyCheck, Kind, Lock, Manifest, Origin, Part, Point, PostgresFacts,
    Repository, Tool, Window, check, clocks, dated_id,
    format::{DatabasePublications, Format, SCHEMA_IDS, SavedConnector, layout},
    parts, prune,
    writer::{PointWriter, Sealed},
};
use cdc_model::{
    moment,
    units::{Lsn, PointId, SchemaId, counted},
    vocabulary::BackupPart,
};
use cdc_pipeline::{
    attach,
    client::{
        cluster::{Cluster, Readers, is_postgres},
        connect::{Connect, ConnectorConfig},
        kafka::Kafka,
        registry::Registry,
    },
    config::{Config, Permission, TopicsBackup},
    debezium::Connector,
};

/// The step of which the moments of a backup are.
const STEP: &str = "backup";
/// The moments of step `backup`, in their order: what has just been done. It can be interrupted at each of them.
pub const MOMENTS: [&str; 11] = [
    "begun",
    "connect",
    "topics",
    "base-streaming",
    "base",
    "wal-switched",
    "postgres",
    "registry",
    "sealed",
    "read-back",
    "published",
];

/// What to take.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Only these parts; empty is all.
    pub only: Vec<BackupPart>,
}

impl CreateOptions {
    fn takes(&self, part: BackupPart) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// How far a backup has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The part at work.
    pub part: BackupPart,
    /// The bytes read so far; only the cluster is large enough to tell.
    pub bytes: u64,
    /// About how many there are.
    pub total: Option<u64>,
}

/// A recovery point that was taken.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its manifest.
    pub manifest: Manifest,
    /// What was pruned for it and after it, and what was in the way of that.
    pub notes: Vec<String>,
}

impl Created {
    /// The point.
    pub fn point(&self) -> &PointId {
        &self.manifest.point
    }

    /// What `backup create --json` prints.
    pub fn to_json(&self) -> Value {
        let m = &self.manifest;
        json!({
            "point": m.point, "complete": true, "bytes": m.bytes,
            "parts": {"postgres": m.pg, "connect": m.connect, "registry": m.registry, "topics": m.kafka},
            "notes": self.notes,
        })
    }
}

/// Takes a recovery point of the configured pipeline into its repository. Nothing of it exists unless it is complete
/// and was read back: on an error what was written is removed, and what a killed backup leaves is no point. It is
/// refused while a recovery runs or is unfinished, and discarded if one begins meanwhile.
///
/// The order makes the parts agree: positions are read before the cluster's backup ends, so that the restored cluster
/// is not behind them; schemas are read last, so that none that a record of that time uses is missing.
pub async fn create(
    config: &Config,
    options: &CreateOptions,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Created, BackupError> {
    let captured = moment::of_step(STEP, captured(config, options, progress)).await;
    let mut created = captured.map_err(BackupError::with_file_system)?;
    let repository = Repository::of(&config.repository)?;
    created.notes.extend(prune::prune_after_backup(&repository, config));
    Ok(created)
}

async fn captured(
    config: &Config,
    options: &CreateOptions,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Created, BackupError> {
    let settled = if options.takes(BackupPart::Postgres) { Some(config.settled().await?) } else { None };
    let config = settled.as_ref().unwrap_or(config);
    attach::permit(config, Permission::Backup).await?;
    let repository = Repository::of(&config.repository)?;
    // Who takes points need not be able to read them; one that says so is taken at its word.
    repository.seal().unlock_if_named()?;
    let (room, notes) = prune::room_for_backup(&repository, config, options.takes(BackupPart::Postgres)).await?;
    let mut lock = repository.lock(Activity::Create, "backup create")?;
    lock.watch_beside(&config.postgres.pgdata)?;
    repository.remove_leftovers()?;
    let clock = parts::postgres::SetClock::of(config).await;
    let begin = clock.now();
    let mut writer = PointWriter::begin(&repository, point_id(begin))?.within(room);
    moment::pass("begun").await?;
    let wanted = |part: BackupPart| options.takes(part);
    let announce = |part: BackupPart| progress(Progress { part, bytes: 0, total: None });
    let absent = || "not asked for (--only)".to_owned();

    if wanted(BackupPart::Connect) || wanted(BackupPart::Topics) {
        Kafka::of(&config.kafka)?.takes_connections().await?;
    }
    if wanted(BackupPart::Registry) {
        // It is read last, after what may take hours.
        Registry::of(&config.registry).info().await?;
    }
    let mut connect = Part::Absent { reason: absent() };
    if wanted(BackupPart::Connect) {
        announce(BackupPart::Connect);
        connect = Part::Present(parts::connect::capture(config, &mut writer).await?);
        moment::pass("connect").await?;
    }
    let (mut kafka, mut resolved) = (Part::Absent { reason: absent() }, BTreeSet::new());
    if wanted(BackupPart::Topics) {
        announce(BackupPart::Topics);
        let (facts, used) = parts::topics::capture(config, &repository, &mut writer).await?;
        (kafka, resolved) = (Part::Present(facts), used);
        moment::pass("topics").await?;
    }
    let (mut pg, mut clock_skew_ms) = (Part::Absent { reason: absent() }, BTreeMap::new());
    if wanted(BackupPart::Postgres) {
        announce(BackupPart::Postgres);
        let part = BackupPart::Postgres;
        let told = |bytes, total| progress(Progress { part, bytes, total });
        let (facts, skew) = parts::postgres::capture(config, &repository, &mut writer, &told).await?;
        clock_skew_ms.insert("pg".to_owned(), skew);
        pg = Part::Present(facts);
        moment::pass("postgres").await?;
    }
    let (mut registry, mut agreement, mut dumped) = (Part::Absent { reason: absent() }, None, None);
    if wanted(BackupPart::Registry) {
        announce(BackupPart::Registry);
        let found = parts::registry::capture_into(config, &mut writer).await?;
        registry = Part::Present(found.facts);
        (agreement, dumped) = (Some(found.agreement), Some(found.ids));
        moment::pass("registry").await?;
    }
    let mut consistency = consistency(config, &writer, &pg, &connect, agreement).await?;
    let dumped = dumped.filter(|_| config.backup.topics == TopicsBackup::Data);
    consistency.checks.extend(dumped.map(|dumped| ids_held(&resolved, &dumped)));
    consistency.checks.extend(clock_skew_ms.get("pg").map(|skew| clocks(*skew)));
    refuse_torn(writer.id(), &consistency)?;
    let pipeline = pipeline(config, &registry, writer.format()).await;
    let (point, format, chain) = (writer.id().clone(), writer.format(), writer.chain().cloned());
    let sealed = writer.seal(|files| Manifest {
        format: format.number(),
        point,
        chain,
        pipeline,
        kind: kind(&options.only),
        status: "complete".into(),
        tool: Tool { name: "cdc-drill".into(), version: env!("CARGO_PKG_VERSION").into() },
        window: Window { begin: begin.to_string(), end: clock.now().to_string(), clock: clock.by },
        clock_skew_ms,
        pg,
        connect,
        registry,
        kafka,
        consistency,
        bytes: files.iter().map(|f| f.size).sum(),
        files,
    })?;
    moment::pass("sealed").await?;
    let point = publish(&repository, sealed, &lock).await?;
    moment::pass("published").await?;
    repository.note_latest(&point)?;
    Ok(Created { manifest: point.manifest, notes })
}

/// Lets the point exist, once its files were read back and if no recovery has begun since `lock` was taken: all of it
/// was captured by then, so a recovery that begins later has changed nothing of what it holds.
async fn publish(repository: &Repository, sealed: Sealed, lock: &Lock) -> Result<Point, BackupError> {
    let read_back = check::read_back(repository, sealed.point())?;
    moment::pass("read-back").await?;
    lock.undisturbed()?;
    sealed.publish(read_back)
}

/// The pipeline that the point is of, whichever parts it holds. What does not answer is not known, unless it was captured.
async fn pipeline(config: &Config, registry: &Part<super::RegistryFacts>, format: Format) -> Origin {
    match format {
        Format::One => Origin::default(),
        Format::Two => {
            let registry = registry.get().and_then(|facts| facts.birth.clone());
            Origin { registry, ..Origin::of_answering(config).await }
        }
    }
}

fn point_id(begin: jiff::Timestamp) -> PointId {
    PointId::new(dated_id(begin))
}

fn kind(only: &[BackupPart]) -> Kind {
    let has = |part| only.is_empty() || only.contains(&part);
    match (has(BackupPart::Postgres), BackupPart::ALL.into_iter().skip(1).all(has)) {
        (true, true) => Kind::Full,
        (false, true) => Kind::StateOnly,
        _ => Kind::Selected,
    }
}

/// Looks at claims that hold between parts.
async fn consistency(
    config: &Config,
    writer: &PointWriter,
    pg: &Part<super::PostgresFacts>,
    connect: &Part<super::ConnectFacts>,
    agreement: Option<Result<String, String>>,
) -> Result<Consistency, BackupError> {
    let mut checks = Vec::new();
    let mut note = |id: &str, ok: bool, detail: String| checks.push(ConsistencyCheck { id: id.to_owned(), ok, detail });
    if let Some(agreement) = agreement {
        let (ok, detail) = match agreement {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        note("registry_dump=native_export", ok, detail);
    }
    if let (Part::Present(pg), Part::Present(_)) = (pg, connect) {
        let connectors: Vec<SavedConnector> = writer.kept(layout::CONNECTORS)?;
        let publications: Vec<DatabasePublications> = writer.kept(layout::PUBLICATIONS)?;
        // Connectors that read from other clusters have positions that mean nothing here.
        let found = readers(config, pg, &connectors).await?;
        let ours: Vec<&SavedConnector> = connectors.iter().filter(|c| found.names.contains(&c.name)).collect();
        let others = not_looked_at(&found);
        let (ok, detail) = offsets_before(&ours, pg.stop_lsn);
        note("offset_lsn<=stop_lsn", ok, format!("{detail}{}{others}", not_read(&ours)));
        let (ok, detail) = publications_exist(&ours, &publications);
        note("publications_exist", ok, format!("{detail}{others}"));
        let (ok, detail) = unchanged(&ours, &configured_now(config, pg).await?);
        note("connectors_unchanged", ok, detail);
    }
    Ok(Consistency { checks })
}

/// The connectors that read from the captured cluster.
async fn readers(config: &Config, pg: &PostgresFacts, connectors: &[SavedConnector]) -> Result<Readers, BackupError> {
    let postgres = connectors.iter().filter(|c| c.kind == "source" && is_postgres(&c.config));
    readers_of(config, pg, postgres.map(|c| (c.name.as_str(), &c.config))).await
}

async fn readers_of<'c>(
    config: &Config,
    pg: &PostgresFacts,
    connectors: impl Iterator<Item = (&'c str, &'c ConnectorConfig)>,
) -> Result<Readers, BackupError> {
    let cluster = Cluster::new(&config.postgres.url, Some(pg.system_id), pg.slots.clone())?;
    Ok(cluster.readers(connectors, &[]).await)
}

/// The connectors that read from the captured cluster now, and their configurations. Others on the same worker come and go as they
/// like.
async fn configured_now(config: &Config, pg: &PostgresFacts) -> Result<BTreeMap<String, ConnectorConfig>, BackupError> {
    let connect = Connect::of(&config.connect);
    let mut all = BTreeMap::new();
    for name in connect.connectors().await? {
        if let Some((config, _)) = connect.described(&name).await?.filter(|(config, _)| is_postgres(config)) {
            all.insert(name, config);
        }
    }
    let found = readers_of(config, pg, all.iter().map(|(name, config)| (name.as_str(), config))).await?;
    all.retain(|name, _| found.names.contains(name));
    Ok(all)
}

/// Whether the connectors are those that were captured first, configured as they were.
fn unchanged(captured: &[&SavedConnector], now: &BTreeMap<String, ConnectorConfig>) -> (bool, String) {
    let was = |name: &str| captured.iter().find(|connector| connector.name == name);
    let gone = captured.iter().filter(|c| !now.contains_key(&c.name)).map(|c| format!("{} is gone", c.name));
    let other = now.iter().filter_map(|(name, config)| match was(name) {
        None => Some(format!("{name} is new")),
        Some(connector) if connector.config != *config => Some(format!("{name} is configured otherwise")),
        Some(_) => None,
    });
    let changes: Vec<String> = gone.chain(other).collect();
    match changes.is_empty() {
        true => (true, counted(captured.len(), "connector")),
        false => (false, changes.join(", ")),
    }
}

/// The connectors that may read from the captured cluster, to stand behind what was looked at.
fn not_looked_at(found: &Readers) -> String {
    let names: BTreeSet<&str> =
        found.contested.values().flatten().chain(found.unknown.keys()).map(String::as_str).collect();
    match names.is_empty() {
        true => String::new(),
        false => {
            let names: Vec<&str> = names.into_iter().collect();
            format!("; not looked at, as their servers are not known: {}", names.join(", "))
        }
    }
}

/// The connectors whose positions could not be read, to stand behind what was looked at.
fn not_read(connectors: &[&SavedConnector]) -> String {
    let names: Vec<&str> = connectors.iter().filter(|c| c.unread.is_some()).map(|c| c.name.as_str()).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!("; not read: {}", names.join(", ")),
    }
}

/// Parts of different times make no point: what is restored from it would contradict itself.
fn refuse_torn(point: &PointId, consistency: &Consistency) -> Result<(), BackupError> {
    let torn: Vec<String> = consistency.torn().map(ToString::to_string).collect();
    match torn.is_empty() {
        true => Ok(()),
        false => Err(BackupError::Torn { point: point.clone(), what: torn.join("; ") }),
    }
}

/// Whether the registry's dump has the schemas of all records that were archived just before: it is read later, and one that is gone by
/// then leaves records that nobody can decode.
fn ids_held(resolved: &BTreeSet<SchemaId>, dumped: &BTreeSet<SchemaId>) -> ConsistencyCheck {
    let missing: Vec<String> = resolved.difference(dumped).map(ToString::to_string).collect();
    let detail = match missing.is_empty() {
        true => counted(resolved.len(), "new schema id in records"),
        false => format!("the dump lacks schema {}, which records have", missing.join(", ")),
    };
    ConsistencyCheck { id: SCHEMA_IDS.into(), ok: missing.is_empty(), detail }
}

/// A target is a time by the server's clock, and people read it off another one.
fn clocks(skew_ms: i64) -> ConsistencyCheck {
    let detail = format!("the server's clock is {skew_ms} ms ahead of this machine's");
    ConsistencyCheck { id: "clocks_agree".into(), ok: skew_ms.unsigned_abs() <= clocks::APART_MS, detail }
}

fn offsets_before(connectors: &[&SavedConnector], stop: Lsn) -> (bool, String) {
    let latest = connectors.iter().flat_map(|c| c.stored_lsns().into_iter().map(|l| (l, &c.name))).max();
    match latest {
        None => (true, "no stored positions".to_owned()),
        Some((lsn, name)) => (lsn <= stop, format!("{name} at {lsn}, backup consistent from {stop}")),
    }
}

fn publications_exist(connectors: &[&SavedConnector], there: &[DatabasePublications]) -> (bool, String) {
    let mut missing = Vec::new();
    for connector in connectors {
        let capture = Connector::of(&connector.config);
        let (name, database) = (&capture.publication, capture.database.as_deref().unwrap_or_default());
        let found = there.iter().filter(|d| d.database == database).flat_map(|d| &d.publications);
        if !found.into_iter().any(|p| p.name == *name) {
            missing.push(format!("{name} of {}", connector.name));
        }
    }
    let detail = if missing.is_empty() { counted(connectors.len(), "connector") } else { missing.join(", ") };
    (missing.is_empty(), detail)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::backup::{ClusterName, Left, PointSelector, fixture};
    use cdc_model::units::{Exit, Failure, SlotName};
    use cdc_pipeline::client::connect::StoredOffset;

    #[test]
    fn point_ids_sort_by_time_and_fit_a_restore_point_name() {
        let at = |s: &str| point_id(s.parse().unwrap());
        let (a, b) = (at("2026-11-22T02:00:00Z"), at("2026-11-22T02:00:01Z"));
        assert!(a < b && a.as_str().starts_with("20261122T020000Z-"), "{a} {b}");
        assert!(format!("cdc_{a}").len() <= 63);
    }

    #[test]
    fn a_schema_that_went_between_records_and_dump_is_missed() {
        let ids = |ids: &[u32]| ids.iter().map(|id| SchemaId(*id)).collect::<BTreeSet<SchemaId>>();
        assert!(ids_held(&ids(&[1, 3]), &ids(&[1, 2, 3])).ok);
        assert!(ids_held(&ids(&[]), &ids(&[])).ok);
        let missing = ids_held(&ids(&[1, 3, 4]), &ids(&[1]));
        assert_eq!((missing.ok, missing.detail.as_str()), (false, "the dump lacks schema 3, 4, which records have"));
    }

    #[test]
    fn parts_of_different_times_make_no_point() {
        let id = PointId::new("20261123T020000Z-0001");
        let check = |id: &str, ok| ConsistencyCheck { id: id.into(), ok, detail: "what was seen".into() };
        let refused = |checks: &[ConsistencyCheck]| refuse_torn(&id, &Consistency { checks: checks.to_vec() });
        for torn in ["offset_lsn<=stop_lsn", "connectors_unchanged", SCHEMA_IDS] {
            let error = refused(&[check("publications_exist", true), check(torn, false)]).unwrap_err();
            assert_eq!(error.exit(), Exit::BackupIncomplete);
            assert!(error.to_string().contains(torn) && error.to_string().contains("what was seen"), "{error}");
            refused(&[check(torn, true)]).unwrap();
        }
        refused(&[check("publications_exist", false), check("registry_dump=native_export", false), clocks(-90_000)])
            .unwrap();
        assert!(clocks(59_000).ok && !clocks(-61_000).ok);
    }

    #[test]
    fn connectors_that_changed_while_they_were_captured_are_named() {
        let connector = |name: &str, slot: &str| SavedConnector {
            name: name.into(),
            kind: "source".into(),
            state: "RUNNING".into(),
            tasks: Vec::new(),
            config: [("slot.name".to_owned(), slot.to_owned())].into(),
            topics: Vec::new(),
            offsets: Vec::new(),
            unread: None,
        };
        let (shop, books) = (connector("shop", "a"), connector("books", "b"));
        let now = |all: &[&SavedConnector]| all.iter().map(|c| (c.name.clone(), c.config.clone())).collect();
        let of = |captured: &[&SavedConnector], all: &[&SavedConnector]| unchanged(captured, &now(all));
        assert_eq!(of(&[&shop, &books], &[&books, &shop]), (true, "2 connectors".into()));
        assert_eq!(of(&[&shop, &books], &[&shop]), (false, "books is gone".into()));
        assert_eq!(of(&[&shop], &[&shop, &books]), (false, "books is new".into()));
        assert_eq!(of(&[&shop], &[&connector("shop", "c")]), (false, "shop is configured otherwise".into()));
    }

    #[test]
    fn connectors_of_unknown_servers_are_named() {
        let mut found = Readers { names: ["shop".to_owned()].into(), ..Readers::default() };
        assert_eq!(not_looked_at(&found), "");
        found.unknown.insert("far".into(), "no route".into());
        found.contested.insert(SlotName::new("s"), vec!["y".into(), "x".into()]);
        assert_eq!(not_looked_at(&found), "; not looked at, as their servers are not known: far, x, y");
    }

    fn names(repository: &Repository) -> Vec<String> {
        fixture::tree(&repository.points_folder()).iter().map(|f| f.split('/').next().unwrap().to_owned()).collect()
    }

    /// What keeps `publish` from letting a whole point exist; it must leave nothing of it.
    fn refused(meanwhile: impl FnOnce(&Repository, &Sealed)) -> BackupError {
        let (_folder, repository) = fixture::repository();
        let lock = repository.lock(Activity::Create, "backup create").unwrap();
        let before = names(&repository);
        let sealed = fixture::sealed(&repository, &PointId::new("20261123T020000Z-0001"));
        assert_ne!(names(&repository), before);
        meanwhile(&repository, &sealed);
        let error = block_on(publish(&repository, sealed, &lock)).unwrap_err();
        assert_eq!(names(&repository), before, "nothing of it is left");
        error
    }

    #[test]
    fn a_point_exists_when_it_was_read_back_and_nothing_was_in_its_way() {
        let (_folder, repository) = fixture::repository();
        let lock = repository.lock(Activity::Create, "backup create").unwrap();
        let id = PointId::new("20261123T020000Z-0001");
        let manifest = block_on(publish(&repository, fixture::sealed(&repository, &id), &lock)).unwrap();
        assert_eq!(manifest.id(), &id);
        assert_eq!(repository.point(&PointSelector::Latest).unwrap().id(), &id);
    }

    #[test]
    fn a_point_that_cannot_be_read_back_never_exists() {
        let error = refused(|_, sealed| fixture::flip(&sealed.point().folder.join("kafka/topics.json")));
        assert_eq!(error.exit(), Exit::ChecksumMismatch);
    }

    #[test]
    fn a_point_is_discarded_when_a_recovery_has_begun_meanwhile() {
        let recover = |repository: &Repository| repository.lock(Activity::Recover, "recover run slot").unwrap();
        let mut at_work = Vec::new();
        let disturbed = [
            refused(|repository, _| at_work.push(recover(repository))),
            refused(|repository, _| drop(recover(repository))),
            refused(|repository, _| {
                let left = Left {
                    recovery: "20261123T020000Z-1a2b".into(),
                    folder: "/repository/recoveries/20261123T020000Z-1a2b".into(),
                    repository: "/repository".into(),
                    asked: "recover run slot".into(),
                    cluster: ClusterName { pgdata: "/data".into(), address: "h:1".into(), system_id: None },
                };
                recover(repository).leave(left).unwrap();
            }),
        ];
        for error in disturbed {
            assert!(matches!(error, BackupError::Disturbed { .. }), "{error}");
            assert_eq!(error.exit(), Exit::LockHeld);
        }
    }

    #[test]
    fn a_point_is_discarded_when_its_backup_has_lost_its_lock() {
        let error = refused(|repository, _| {
            std::fs::remove_file(repository.path().join("locks/backup.lock")).unwrap();
        });
        assert!(matches!(error, BackupError::LockLost { .. }), "{error}");
        assert_eq!(error.exit(), Exit::LockHeld);
    }

    #[test]
    fn kinds_follow_from_the_parts() {
        use BackupPart::*;
        assert_eq!(kind(&[]), Kind::Full);
        assert_eq!(kind(&[Topics, Registry, Connect]), Kind::StateOnly);
        assert_eq!(kind(&[Postgres]), Kind::Selected);
        assert_eq!(kind(&[Connect]), Kind::Selected);
    }

    fn connector(lsn: u64, publication: &str) -> SavedConnector {
        let offset = json!({ "lsn": lsn }).as_object().cloned();
        SavedConnector {
            name: "shop".into(),
            kind: "source".into(),
            state: "RUNNING".into(),
            tasks: vec![],
            config: [("publication.name", publication), ("database.dbname", "shop")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            topics: vec![],
            offsets: vec![StoredOffset { partition: Default::default(), offset }],
            unread: None,
        }
    }

    #[test]
    fn a_position_behind_the_backup_is_fine_and_one_ahead_is_told() {
        let c = connector(100, "p");
        assert!(offsets_before(&[&c], Lsn(100)).0);
        let (ok, detail) = offsets_before(&[&c], Lsn(99));
        assert!(!ok && detail.contains("shop at 0/64"), "{detail}");
        let unread = SavedConnector { name: "odd/one".into(), unread: Some("400".into()), ..c.clone() };
        assert_eq!(not_read(&[&c]), "");
        assert_eq!(not_read(&[&c, &unread]), "; not read: odd/one");
    }

    #[test]
    fn a_publication_must_be_in_the_connectors_database() {
        let there = |database: &str| {
            let publication = json!({"name": "p", "all_tables": false, "insert": true, "update": true, "delete": true,
                "truncate": true, "via_root": false, "tables": ["public.a"]});
            vec![DatabasePublications {
                database: database.into(),
                publications: vec![serde_json::from_value(publication).unwrap()],
            }]
        };
        assert!(publications_exist(&[&connector(1, "p")], &there("shop")).0);
        assert!(!publications_exist(&[&connector(1, "p")], &there("other")).0);
        assert!(!publications_exist(&[&connector(1, "q")], &there("shop")).0);
    }
}
