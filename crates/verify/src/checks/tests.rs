//! Plants every mistake that the checks name: each mutant must be caught by the check that names it, with the kind of
//! finding that it is, and the healthy pipeline must pass all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rstest::{Context, rstest};
use serde_json::{Value, json};

use super::*;
use crate::{
    decode::{
        names::field_adjustment,
        pg_type::PgType,
        record::{Decoder, Schemas},
        row::{Cell, Reservations, cells, push},
        settings::{Adjust, ConnectorSettings},
        table::{Column, Columns, Definition},
    },
    fold::{PartitionFold, Place, TopicFold, Use},
    observation::*,
};
use cdc_model::{
    event::{About, CheckReport, Evidence, FindingKey, FindingKind},
    units::{Epoch, Lsn, Offset, RowKey, SchemaId, SlotName, TableName, Timeline, TopicPartition, Verdict},
    vocabulary::CheckId,
};
use cdc_pipeline::{
    client::{
        connect::{ConnectorConfig, ConnectorStatus, StateOf, StoredOffset, TaskState},
        group::Consumed,
        kafka::TopicSpec,
        postgres::Slot,
    },
    debezium::{Connector, Coverage, Inheritance, Member, Operation, Operations, Publication, Relation, RelationKind},
};
use cdc_workload::{
    Row,
    ledger::{Change, Commit, Entry, Ledger, Op, Outcome, TableState, Tables},
};

const PARTITIONS: i32 = 2;
/// With one more, in which a record stands only where a test puts it there.
const READ: i32 = PARTITIONS + 1;
const ORDERS: &str = "orders";
const LINES: &str = "lines";
const PLACEHOLDER: &str = "__debezium_unavailable_value";

type Cells = Vec<(&'static str, Option<&'static str>)>;

/// One record of a topic.
#[derive(Clone, Debug)]
struct Planted {
    table: &'static str,
    partition: i32,
    key: Option<Value>,
    value: Option<Value>,
}

/// A pipeline of two tables, before it is looked at.
#[derive(Clone)]
struct World {
    /// What the topic of orders holds that lost its records.
    held: Vec<HeldRecord>,
    rows: BTreeMap<&'static str, Result<Vec<Row>, String>>,
    counts: BTreeMap<&'static str, u64>,
    records: Vec<Planted>,
    ledger: Option<Ledger>,
    base: Tables,
    config: ConnectorConfig,
    status: Result<ConnectorStatus, String>,
    stored: u64,
    server: Result<ServerView, String>,
    slots: Vec<Slot>,
    publication: bool,
    unpublished: Vec<TableName>,
    orphans: Vec<Orphan>,
    coverage: Coverage,
    /// Rows of `orders` that snapshots alone write.
    unstreamed: Vec<Row>,
    specs: BTreeMap<String, TopicSpec>,
    groups: BTreeMap<String, BTreeMap<TopicPartition, Offset>>,
    /// The partition and how many of its first records the group's consumer misses.
    skipped: Option<(&'static str, i32, usize)>,
    registry: Result<RegistryView, String>,
    probes: Vec<Probe>,
    canaries: Vec<Canary>,
    quiet: Option<Quiet>,
    leftovers: Vec<String>,
    /// What is expected.
    redelivery: Vec<(Lsn, Lsn)>,
    newer: NewerVersions,
    captured: Option<Captured>,
    cut_lsn: Option<Lsn>,
    /// The type of `lines.a`, and what the catalogue knows of its definition.
    lines_a: (PgType, Definition),
}

/// Tables as captured at the target, and found just so by the recovery.
fn twice(tables: Tables) -> Captured {
    Captured { restored: Ok(tables.clone()), at_target: tables }
}

fn table(name: &str) -> TableName {
    TableName::new("public", name)
}

fn orphan(kind: OrphanKind) -> Orphan {
    Orphan { topic: topic("gone"), records: 3, kind }
}

fn topic(name: &str) -> String {
    format!("shop.public.{name}")
}

fn row(cells: &[(&str, Option<&str>)]) -> Row {
    cells.iter().copied().collect()
}

fn order(id: &'static str, name: &'static str, amount: &'static str, token: &'static str) -> Cells {
    vec![
        ("id", Some(id)),
        ("name", Some(name)),
        ("amount", Some(amount)),
        ("g", Some("7")),
        ("drill_token", Some(token)),
    ]
}

fn line(a: &'static str, token: &'static str) -> Cells {
    vec![("a", Some(a)), ("drill_token", Some(token))]
}

/// A row as records carry it: integers as numbers, decimals as text, generated columns not at all.
fn image(cells: &Cells) -> Value {
    let mut object = serde_json::Map::new();
    for (name, value) in cells.iter().filter(|(n, _)| *n != "g") {
        let value = match (*name, value) {
            ("id" | "a", Some(v)) => json!(v.parse::<i64>().unwrap()),
            (_, Some(v)) => json!(v),
            (_, None) => Value::Null,
        };
        object.insert((*name).to_owned(), value);
    }
    Value::Object(object)
}

fn event(table: &'static str, op: &str, before: Option<&Cells>, after: Option<&Cells>, lsn: u64, tx: u64) -> Planted {
    let key_of = |cells: &Cells| (table == ORDERS).then(|| json!({ "id": image(cells)["id"] }));
    let key = after.or(before).and_then(key_of);
    let number = key.as_ref().and_then(|k| k["id"].as_i64()).unwrap_or(0);
    let snapshot = if op == "r" { "true" } else { "false" };
    Planted {
        table,
        partition: (number % i64::from(PARTITIONS)) as i32,
        key,
        value: Some(json!({
            "before": before.map(image), "after": after.map(image), "op": op, "ts_ms": lsn,
            "source": { "lsn": lsn, "txId": tx, "snapshot": snapshot, "sequence": format!("[\"1\",\"{lsn}\"]") },
        })),
    }
}

/// A read of an incremental snapshot without what connectors say of where they are: it is made at this millisecond.
fn unplaced_read(table: &'static str, row: &Cells, made_ms: u64) -> Planted {
    let mut read = event(table, "r", None, Some(row), made_ms, 0);
    read.value.as_mut().unwrap()["source"] = json!({ "lsn": null, "txId": null, "snapshot": "incremental" });
    read
}

/// As an incremental snapshot writes a read: with no position of its own, by a connector that has come to this one.
fn read_at(table: &'static str, row: &Cells, made_ms: u64, lsn: u64) -> Planted {
    let mut read = unplaced_read(table, row, made_ms);
    read.value.as_mut().unwrap()["source"]["sequence"] = json!(format!("[\"{lsn}\",\"{lsn}\"]"));
    read
}

/// A TRUNCATE has no key: it stands in any partition.
fn truncate(table: &'static str, partition: i32, lsn: u64) -> Planted {
    Planted { partition, key: None, ..event(table, "t", None, None, lsn, 108) }
}

/// Orders 2 and 5, which is all that the table has, as an incremental snapshot reads them.
fn read_incrementally(w: &mut World, made_ms: u64) {
    w.records.push(unplaced_read(ORDERS, &order("2", "bob", "2.50", "t4"), made_ms));
    w.records.push(unplaced_read(ORDERS, &order("5", "ada", "1.10", "t5"), made_ms));
}

fn change(name: &str, op: Op, key: Option<&str>, before: Option<&Cells>, after: Option<&Cells>) -> Change {
    Change {
        table: table(name),
        op,
        key: key.map(|id| RowKey::new([("id", Some(id))])),
        key_before: None,
        before: before.map(|c| row(c)),
        after: after.map(|c| row(c)),
    }
}

fn entry(token: &str, epoch: u32, xid: u64, outcome: Outcome, changes: Vec<Change>) -> Entry {
    Entry {
        token: token.into(),
        writer: 0,
        sequence: xid,
        epoch: Epoch(epoch),
        xid: Some(xid),
        began_ms: xid as i64 * 1000,
        ended_ms: xid as i64 * 1000 + 500,
        outcome,
        changes,
    }
}

/// The story: order 1 was there; t1 inserted order 2; a recovery went back to before t2, which had inserted order 3 and
/// changed order 1. Topics were made anew, with a snapshot of orders 1 and 2. Then t3 inserted order 4 and a line (under
/// the xid that t2 had), t4 changed order 2, t5 moved order 1 to 5, t6 deleted order 4, and t8 was rolled back.
fn ledger() -> Ledger {
    let o1 = order("1", "ada", "1.10", "b1");
    let moved = Change {
        key_before: Some(RowKey::new([("id", Some("1"))])),
        ..change(ORDERS, Op::KeyChange, Some("5"), Some(&o1), Some(&order("5", "ada", "1.10", "t5")))
    };
    let acknowledged = Outcome::Acknowledged;
    let entries = vec![
        entry(
            "t1",
            0,
            100,
            acknowledged,
            vec![change(ORDERS, Op::Insert, Some("2"), None, Some(&order("2", "bob", "2.00", "t1")))],
        ),
        entry(
            "t2",
            0,
            101,
            acknowledged,
            vec![
                change(ORDERS, Op::Insert, Some("3"), None, Some(&order("3", "eve", "3.00", "t2"))),
                change(ORDERS, Op::Update, Some("1"), Some(&o1), Some(&order("1", "eve", "9.00", "t2"))),
            ],
        ),
        entry(
            "t3",
            1,
            101,
            acknowledged,
            vec![
                change(ORDERS, Op::Insert, Some("4"), None, Some(&order("4", "cat", "4.00", "t3"))),
                change(LINES, Op::Insert, None, None, Some(&line("1", "t3"))),
            ],
        ),
        entry(
            "t4",
            1,
            102,
            acknowledged,
            vec![
                change(
                    ORDERS,
                    Op::Update,
                    Some("2"),
                    Some(&order("2", "bob", "2.00", "t1")),
                    Some(&order("2", "bob", "2.50", "t4")),
                ),
                change(LINES, Op::Insert, None, None, Some(&line("2", "t4"))),
            ],
        ),
        entry("t5", 1, 103, acknowledged, vec![moved]),
        entry(
            "t6",
            1,
            104,
            acknowledged,
            vec![change(ORDERS, Op::Delete, Some("4"), Some(&order("4", "cat", "4.00", "t3")), None)],
        ),
        entry("t7", 1, 105, Outcome::Unknown, vec![change(LINES, Op::Insert, None, None, Some(&line("3", "t7")))]),
        entry(
            "t8",
            1,
            106,
            Outcome::Failed,
            vec![change(ORDERS, Op::Insert, Some("9"), None, Some(&order("9", "no", "9.00", "t8")))],
        ),
    ];
    let mut ledger = Ledger { entries, ..Ledger::default() };
    let mut commit = |epoch: u32, timeline: u32, xid: u32, lsn: u64| {
        ledger
            .order
            .entry(Epoch(epoch))
            .or_default()
            .insert(xid, Commit { timeline: Timeline::literal(timeline), lsn: Lsn(lsn), xid });
    };
    commit(0, 1, 100, 1000);
    commit(0, 1, 101, 2000);
    for (xid, lsn) in [(101, 1700), (102, 1800), (103, 1900), (104, 2000), (105, 2100)] {
        commit(1, 2, xid, lsn);
    }
    ledger.settled.insert("t7".into());
    ledger
}

fn records() -> Vec<Planted> {
    let (o1, o2) = (order("1", "ada", "1.10", "b1"), order("2", "bob", "2.00", "t1"));
    let (o4, o5) = (order("4", "cat", "4.00", "t3"), order("5", "ada", "1.10", "t5"));
    let mut records = vec![
        event(ORDERS, "r", None, Some(&o1), 1600, 90),
        event(ORDERS, "r", None, Some(&o2), 1600, 90),
        event(ORDERS, "c", None, Some(&o4), 1690, 101),
        event(LINES, "c", None, Some(&line("1", "t3")), 1695, 101),
        event(ORDERS, "u", None, Some(&order("2", "bob", "2.50", "t4")), 1790, 102),
        event(LINES, "c", None, Some(&line("2", "t4")), 1795, 102),
        event(ORDERS, "d", Some(&o1), None, 1890, 103),
        event(ORDERS, "c", None, Some(&o5), 1891, 103),
        event(ORDERS, "d", Some(&o4), None, 1990, 104),
        event(LINES, "c", None, Some(&line("3", "t7")), 2090, 105),
    ];
    let tombstone = Planted { value: None, ..records[6].clone() };
    records.insert(7, tombstone);
    records
}

fn config() -> ConnectorConfig {
    [
        ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
        ("plugin.name", "pgoutput"),
        ("database.dbname", "shop"),
        ("topic.prefix", "shop"),
        ("slot.name", "shop_slot"),
        ("snapshot.mode", "initial"),
        ("decimal.handling.mode", "string"),
        ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("key.converter.schemas.enable", "false"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter.schemas.enable", "false"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

fn slot() -> Slot {
    Slot {
        name: SlotName::new("shop_slot"),
        slot_type: "logical".into(),
        plugin: Some("pgoutput".into()),
        database: Some("shop".into()),
        active: true,
        active_pid: Some(1),
        restart_lsn: Some(Lsn(2000)),
        confirmed_flush_lsn: Some(Lsn(2200)),
        wal_status: Some("reserved".into()),
        invalidation_reason: None,
    }
}

fn spec(name: &str) -> TopicSpec {
    TopicSpec {
        name: topic(name),
        partitions: PARTITIONS,
        replication: 1,
        settings: [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
    }
}

const ORDERS_V1: &str = r#"{"type":"record","name":"Envelope","namespace":"shop.public.orders","fields":[]}"#;
const ORDERS_V3: &str = r#"{"type":"record","name":"Envelope","namespace":"shop.public.orders","fields":[],"doc":"3"}"#;

fn registry() -> RegistryView {
    let version = |id, schema: &str| VersionView { id: SchemaId(id), schema: schema.to_owned(), deleted: false };
    RegistryView {
        global_level: Some("BACKWARD".into()),
        global_mode: Some("READWRITE".into()),
        subjects: [
            (
                "shop.public.orders-value".to_owned(),
                SubjectView {
                    level: Some("FULL".into()),
                    mode: None,
                    versions: [(1, version(7, ORDERS_V1)), (3, version(9, ORDERS_V3))].into(),
                },
            ),
            (
                "shop.public.lines-value".to_owned(),
                SubjectView { level: None, mode: None, versions: [(1, version(11, "\"string\""))].into() },
            ),
        ]
        .into(),
        elsewhere: BTreeMap::new(),
    }
}

/// What the topic of orders held before it lost its records.
fn held() -> Vec<HeldRecord> {
    let record = |offset: i64| HeldRecord {
        partition: 0,
        offset: Offset(offset),
        timestamp_ms: Some(1_000),
        key: Some("k".to_owned()),
        value: Some(format!("v{offset}")),
        headers: Vec::new(),
    };
    (4..7).map(record).collect()
}

fn healthy() -> World {
    let base: Tables = [(
        table(ORDERS),
        TableState {
            keyed: [(RowKey::new([("id", Some("1"))]), row(&order("1", "ada", "1.10", "b1")))].into(),
            ..TableState::default()
        },
    )]
    .into();
    let rows: BTreeMap<&'static str, Result<Vec<Row>, String>> = [
        (ORDERS, Ok(vec![row(&order("2", "bob", "2.50", "t4")), row(&order("5", "ada", "1.10", "t5"))])),
        (LINES, Ok(vec![row(&line("1", "t3")), row(&line("2", "t4")), row(&line("3", "t7"))])),
    ]
    .into();
    let running = |id| TaskState { id, state: "RUNNING".into(), trace: None };
    let partition = |p| TopicPartition { topic: topic(ORDERS), partition: p };
    World {
        held: held(),
        counts: [(ORDERS, 2), (LINES, 3)].into(),
        rows,
        records: records(),
        ledger: Some(ledger()),
        base,
        config: config(),
        status: Ok(ConnectorStatus {
            name: "shop".into(),
            connector: StateOf { state: "RUNNING".into(), trace: None },
            tasks: vec![running(0)],
            kind: "source".into(),
        }),
        stored: 2090,
        server: Ok(ServerView { lsn: Lsn(2300), timeline: Timeline::literal(2) }),
        slots: vec![slot()],
        publication: true,
        unpublished: vec![],
        orphans: vec![],
        coverage: Coverage::default(),
        unstreamed: vec![],
        specs: [(topic(ORDERS), spec(ORDERS)), (topic(LINES), spec(LINES))].into(),
        groups: [("probe".to_owned(), [(partition(0), Offset(0)), (partition(1), Offset(0))].into())].into(),
        skipped: None,
        registry: Ok(registry()),
        probes: vec![
            Probe { subject: "shop.public.orders-value".into(), compatible: false, accepted: Ok(false) },
            Probe { subject: "shop.public.orders-value".into(), compatible: true, accepted: Ok(true) },
        ],
        canaries: vec![Canary { table: table(ORDERS), topic: topic(ORDERS), token: "c1".into(), arrived_ms: Ok(400) }],
        quiet: Some(Quiet {
            topic: topic(ORDERS),
            table: table(ORDERS),
            token: "m1".into(),
            lsn: Lsn(2090),
            reached: Ok(()),
        }),
        leftovers: vec![],
        redelivery: vec![],
        newer: NewerVersions::None,
        captured: None,
        cut_lsn: Some(Lsn(1500)),
        lines_a: (PgType::new("int4", "int4", "b", -1, None), Definition { xid: 80, original: true, rewritten: false }),
    }
}

fn columns(name: &str, settings: &ConnectorSettings, (lines_a, definition): &(PgType, Definition)) -> Columns {
    let column = |name: &str, ty: &str, typmod: i32, generated: bool| Column {
        name: name.into(),
        ty: PgType::new(ty, ty, "b", typmod, None),
        generated,
        unpublished: false,
    };
    let list = if name == ORDERS {
        vec![
            column("id", "int4", -1, false),
            column("name", "text", -1, false),
            column("amount", "numeric", ((10 << 16) | 2) + 4, false),
            column("g", "int4", -1, true),
            column("drill_token", "text", -1, false),
        ]
    } else {
        let a = Column { ty: lines_a.clone(), ..column("a", "int4", -1, false) };
        vec![a, column("drill_token", "text", -1, false)]
    };
    let columns = Columns::new(list, field_adjustment(settings));
    if name == LINES { columns.defined(vec![*definition; 2]) } else { columns }
}

impl World {
    fn observe(&self) -> Observation {
        let settings = Arc::new(ConnectorSettings::parse("shop", &self.config).unwrap());
        let mut seen = Observation {
            server: Some(self.server.clone()),
            slots: self.slots.clone(),
            registry: Some(self.registry.clone()),
            specs: self.specs.clone(),
            groups: self.groups.clone(),
            consumed: [("probe".to_owned(), self.consumed())].into(),
            quiet: self.quiet.iter().cloned().collect(),
            canaries: self.canaries.clone(),
            probes: self.probes.clone(),
            leftovers: self.leftovers.clone(),
            held: [(topic(ORDERS), self.held.clone())].into(),
            ..Observation::default()
        };
        for name in [ORDERS, LINES] {
            let columns = Arc::new(columns(name, &settings, &self.lines_a));
            seen.topics.insert(topic(name), self.fold(name, &settings, &columns));
            seen.tables.push(self.table(name, &columns));
        }
        let position = json!({ "lsn": self.stored, "txId": 105 });
        seen.connectors.push(ConnectorView {
            settings,
            config: self.config.clone(),
            status: self.status.clone(),
            offsets: vec![StoredOffset { partition: serde_json::Map::new(), offset: position.as_object().cloned() }],
            offsets_unread: None,
            publication: self.publication,
            coverage: self.coverage.clone(),
            unpublished: self.unpublished.clone(),
            uncaptured: vec![table("beside")],
            orphans: self.orphans.clone(),
            notes: vec![],
        });
        seen
    }

    /// What a consumer is given that reads on from the first record that it does not miss.
    fn consumed(&self) -> BTreeMap<TopicPartition, Consumed> {
        let mut given = BTreeMap::new();
        for name in [ORDERS, LINES] {
            for partition in 0..PARTITIONS {
                let here = self.records.iter().filter(|r| r.table == name && r.partition == partition).count();
                let from = self.skipped.filter(|s| (s.0, s.1) == (name, partition)).map_or(0, |s| s.2);
                let records = here.saturating_sub(from) as u64;
                let first = (records > 0).then_some(Offset(from as i64));
                given.insert(TopicPartition { topic: topic(name), partition }, Consumed { first, records });
            }
        }
        given
    }

    fn table(&self, name: &'static str, columns: &Arc<Columns>) -> TableView {
        let packed = |all: &[Row]| {
            let mut rows = Rows::default();
            for row in all {
                let cell = |c: &Column| row.text(&c.name).map_or(Cell::Null, |t| Cell::Text(t.as_bytes()));
                rows.add(columns.list.iter().map(cell));
            }
            rows
        };
        let rows = self.rows[name].as_ref().map(|all| packed(all)).map_err(Clone::clone);
        TableView {
            name: table(name),
            database: "shop".into(),
            connector: "shop".into(),
            topic: topic(name),
            columns: columns.clone(),
            primary_key: if name == ORDERS { vec![0] } else { vec![] },
            replica_identity: if name == ORDERS { 'd' } else { 'f' },
            rows,
            unstreamed: packed(if name == ORDERS { &self.unstreamed } else { &[] }),
            count: Ok(self.counts[name]),
        }
    }

    fn fold(&self, name: &'static str, settings: &Arc<ConnectorSettings>, columns: &Arc<Columns>) -> TopicFold {
        let schemas = Arc::new(Schemas::new(|_| Ok(None)));
        let mut decoder = Decoder::new(settings.clone(), columns.clone(), schemas, "public", name);
        let token = columns.of_name("drill_token");
        let mut partitions: Vec<PartitionFold> = (0..READ).map(|p| PartitionFold::new(p, true, token)).collect();
        let mut offsets = [0i64; READ as usize];
        for record in self.records.iter().filter(|r| r.table == name) {
            let bytes = |v: &Option<Value>| v.as_ref().map(|v| serde_json::to_vec(v).unwrap());
            let (key, value) = (bytes(&record.key), bytes(&record.value));
            let index = record.partition as usize;
            match decoder.decode(key.as_deref(), value.as_deref()) {
                Ok(event) => partitions[index].apply(&event, offsets[index]),
                Err(why) => partitions[index].problem(offsets[index], why),
            }
            offsets[index] += 1;
        }
        let mut fold = TopicFold { partitions, ..TopicFold::default() };
        fold.learn(&decoder);
        fold
    }

    fn expect(&self) -> Expectation<'_> {
        let good = healthy_registry_and_specs();
        Expectation {
            ledger: self.ledger.as_ref(),
            base: self.base.clone(),
            cuts: vec![Cut { epoch: Epoch(0), lsn: self.cut_lsn, inclusive: false }],
            captured: self.captured.clone(),
            token_column: "drill_token".into(),
            redelivery: self.redelivery.clone(),
            registry: Some(good.0),
            newer_versions: self.newer.clone(),
            specs: good.1,
            groups: good.2,
            configs: [("shop".to_owned(), config())].into(),
            held: [(topic(ORDERS), held())].into(),
            ..Expectation::default()
        }
    }

    fn value(&mut self, index: usize) -> &mut Value {
        self.records[index].value.as_mut().unwrap()
    }

    fn rows_mut(&mut self, name: &str) -> &mut Vec<Row> {
        self.rows.get_mut(name).unwrap().as_mut().unwrap()
    }

    /// Sets a cell of the table's row and of its last event.
    fn set_row(&mut self, name: &'static str, row: usize, column: &str, value: &str) {
        let row = &mut self.rows_mut(name)[row];
        *row = row.with(column, Some(value));
    }
}

type Good = (RegistryView, BTreeMap<String, TopicSpec>, BTreeMap<String, BTreeMap<TopicPartition, Offset>>);

fn healthy_registry_and_specs() -> Good {
    let world = healthy();
    (registry(), world.specs, world.groups)
}

/// Holds a report to the kept one: a verdict is worth what its findings, counts and notes tell a person. `folder` is one of
/// `snapshots/`.
fn as_kept(folder: &str, case: &Context, report: &CheckReport) {
    let mut report = report.clone();
    // Rows without a key have no order.
    report.findings.sort_by_cached_key(|finding| serde_json::to_string(finding).unwrap());
    let name = case.description.unwrap();
    insta::with_settings!({ snapshot_path => format!("snapshots/{folder}"), prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_json_snapshot!(name, report);
    });
}

fn check(id: &str, seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    judge(id.parse().unwrap(), seen, expected)
}

#[test]
fn a_healthy_pipeline_passes_every_check() {
    let world = healthy();
    let (seen, expected) = (world.observe(), world.expect());
    for id in CheckId::ALL {
        let report = judge(id, &seen, &expected);
        assert_eq!(report.id, id.word());
        assert_eq!(report.verdict, Verdict::Passed, "{id}: {:#?}", report.findings);
        assert!(report.compared > 0, "{id} compared nothing");
    }
}

/// The findings of the planted mistakes, by check, as they are kept.
fn planted() -> BTreeMap<CheckId, BTreeSet<FindingKind>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/checks/snapshots/planted");
    let mut found: BTreeMap<CheckId, BTreeSet<FindingKind>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let report = text.splitn(3, "---\n").nth(2).unwrap();
        let report: CheckReport = serde_json::from_str(report).unwrap();
        let kinds = report.findings.iter().map(|finding| finding.kind);
        found.entry(report.id.parse().unwrap()).or_default().extend(kinds);
    }
    found
}

/// A control may ask for just these: one more, and it could ask for what never comes; one less, and it could not ask for what does.
#[test]
fn the_kinds_of_a_check_are_those_of_its_planted_mistakes() {
    let planted = planted();
    for check in CheckId::ALL {
        let mut named: BTreeSet<FindingKind> = check.kinds().iter().copied().collect();
        assert_eq!(named.len(), check.kinds().len(), "{check} names a kind twice");
        let mut found = planted[&check].clone();
        // What compares nothing is vacuous in each check, by `CheckReport::new`.
        named.remove(&FindingKind::Vacuous);
        found.remove(&FindingKind::Vacuous);
        assert_eq!(named, found, "{check}: what is named, and what is planted");
    }
}

/// Makes the amounts of records such as may have been written under another scale.
fn without_scales(seen: &mut Observation) {
    let partitions = seen.topics.get_mut(&topic(ORDERS)).unwrap().partitions.iter_mut();
    for entry in partitions.flat_map(|p| p.keyed.values_mut()).filter(|e| e.live()) {
        let mut packed = Vec::new();
        for (index, cell) in cells(&entry.row).enumerate() {
            match cell.text().filter(|_| index == 2) {
                Some(amount) => push(
                    &mut packed,
                    Cell::Reserved(
                        Reservations { redefined: true, ..Reservations::default() },
                        amount.replace('.', "").as_bytes(),
                    ),
                ),
                None => push(&mut packed, cell),
            }
        }
        entry.row = packed.into();
    }
}

#[test]
fn what_may_be_equal_or_not_is_neither_green_nor_red() {
    let world = healthy();
    let mut seen = world.observe();
    without_scales(&mut seen);
    let report = state(&seen, &world.expect());
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:#?}");
    assert_eq!(report.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [FindingKind::NotComparable]);
    assert!(report.findings[0].found.as_ref().unwrap().starts_with("2 values may be others"), "{report:#?}");
    // A difference elsewhere is one all the same.
    let mut world = healthy();
    world.set_row(ORDERS, 0, "name", "rob");
    let mut seen = world.observe();
    without_scales(&mut seen);
    let report = state(&seen, &world.expect());
    assert_eq!(report.verdict, Verdict::Failed);
    assert!(report.findings.iter().any(|f| matches!(f.kind, FindingKind::Different | FindingKind::Stale)));
}

#[test]
fn what_an_expression_leaves_out_is_noted() {
    let mut world = healthy();
    world.config.insert("decimal.handling.mode".into(), "double".into());
    for index in [0, 1, 2, 4, 6, 8, 9, 10] {
        for part in ["before", "after"] {
            let Some(Some(row)) = world.records[index].value.as_mut().map(|v| v[part].as_object_mut()) else {
                continue;
            };
            if let Some(amount) = row.get("amount").and_then(Value::as_str).map(str::to_owned) {
                row.insert("amount".into(), json!(amount.parse::<f64>().unwrap()));
            }
        }
    }
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Passed, "{:#?}", report.findings);
    let note = "public.orders.amount (numeric): 2 values compared as double precision";
    assert!(report.notes.iter().any(|n| n.starts_with(note)), "{:#?}", report.notes);
}

#[test]
fn what_an_expression_leaves_out_of_rows_without_a_key_is_noted() {
    let numeric = PgType::new("numeric(10,2)", "numeric", "b", ((10 << 16) | 2) + 4, None);
    let mut world = healthy();
    world.config.insert("decimal.handling.mode".into(), "double".into());
    world.lines_a = (numeric, world.lines_a.1);
    world.records.retain(|r| r.table == LINES);
    world.rows_mut(ORDERS).clear();
    world.counts.insert(ORDERS, 0);
    for (index, (record, value)) in [(1.25, "1.25"), (2.5, "2.50"), (3.0, "3.00")].into_iter().enumerate() {
        world.value(index)["after"]["a"] = json!(record);
        world.set_row(LINES, index, "a", value);
    }
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Passed, "{:#?}", report.findings);
    let note = "public.lines.a (numeric(10,2)): 3 values compared as double precision";
    assert!(report.notes.iter().any(|n| n.starts_with(note)), "{:#?}", report.notes);
}

#[rstest]
#[case::row_missing_in_topic("state", FindingKind::Lost, |w: &mut World| { w.records.remove(8); })]
#[case::row_ghost_in_topic("state", FindingKind::Ghost, |w: &mut World| { w.records.remove(9); })]
#[case::row_stale_in_topic("state", FindingKind::Stale, |w: &mut World| { w.records.remove(4); })]
#[case::row_different("state", FindingKind::Different, |w: &mut World| w.value(4)["after"]["name"] = json!("rob"))]
#[case::integer_off_by_one("state", FindingKind::Lost, |w: &mut World| { w.value(5)["after"]["a"] = json!(3); })]
#[case::decimal_off_by_one("state", FindingKind::Different, |w: &mut World| w.value(4)["after"]["amount"] = json!("2.51"))]
#[case::null_for_text("state", FindingKind::Different, |w: &mut World| w.value(4)["after"]["name"] = Value::Null)]
#[case::unkeyed_row_missing("state", FindingKind::Lost, |w: &mut World| { w.records.remove(5); })]
#[case::unkeyed_row_ghost("state", FindingKind::Ghost, |w: &mut World| { w.rows_mut(LINES).remove(0); w.counts.insert(LINES, 2); })]
#[case::unkeyed_row_twice_in_table("state", FindingKind::Lost, |w: &mut World| {
    let again = w.rows_mut(LINES)[0].clone();
    w.rows_mut(LINES).push(again);
    w.counts.insert(LINES, 4);
})]
#[case::unkeyed_value_again_at_another_position("state", FindingKind::Ghost, |w: &mut World| {
    w.records.push(event(LINES, "c", None, Some(&line("1", "t3")), 2095, 101));
})]
#[case::placeholder_without_earlier_value("state", FindingKind::Lost, |w: &mut World| {
    w.value(8)["after"]["name"] = json!(PLACEHOLDER);
    w.value(8)["op"] = json!("u");
})]
#[case::table_unreadable("state", FindingKind::Unreadable, |w: &mut World| { w.rows.insert(ORDERS, Err("invalid page in block 5".into())); })]
#[case::count_differs("state", FindingKind::Unreadable, |w: &mut World| { w.counts.insert(ORDERS, 3); })]
#[case::field_missing_from_a_late_record("state", FindingKind::Different, |w: &mut World| {
    let late = w.records.len();
    let mut again = w.records[8].clone();
    again.value.as_mut().unwrap()["after"].as_object_mut().unwrap().remove("name");
    w.records.insert(late, again);
})]
#[case::table_dropped("state", FindingKind::Ghost, |w: &mut World| w.orphans.push(orphan(OrphanKind::Gone { table: table("gone"), named: true })))]
#[case::record_unreadable("state", FindingKind::Unreadable, |w: &mut World| { w.records[4].value = Some(json!("torn")); })]
#[case::truncated_and_not_captured("state", FindingKind::Ghost, |w: &mut World| { w.rows_mut(ORDERS).clear(); w.counts.insert(ORDERS, 0); })]
#[case::generated_value_wrong_where_present("state", FindingKind::Different, |w: &mut World| w.value(8)["after"]["g"] = json!(8))]
#[case::key_twice_in_table("state", FindingKind::NotComparable, |w: &mut World| {
    for record in w.records.iter_mut().filter(|r| r.table == LINES) {
        record.key = Some(json!({ "drill_token": "one" }));
    }
    w.rows_mut(LINES).iter_mut().for_each(|r| *r = r.with("drill_token", Some("one")));
})]
#[case::rows_read_incrementally_and_then_deleted_unpublished("state", FindingKind::Ghost, |w: &mut World| {
    w.records.push(truncate(ORDERS, 0, 2200));
    read_incrementally(w, 2300);
    w.rows_mut(ORDERS).clear();
    w.counts.insert(ORDERS, 0);
})]
#[case::rows_missing_behind_a_truncate("state", FindingKind::Lost, |w: &mut World| w.records.push(truncate(ORDERS, 1, 2200)))]
#[case::truncate_and_reads_of_the_same_moment("state", FindingKind::NotComparable, |w: &mut World| {
    w.records.push(truncate(ORDERS, 0, 2200));
    read_incrementally(w, 2200);
})]
#[case::truncate_that_times_and_positions_place_differently("state", FindingKind::NotComparable, |w: &mut World| {
    let mut cut = truncate(ORDERS, 0, 1850);
    cut.value.as_mut().unwrap()["ts_ms"] = json!(2500);
    w.records.push(cut);
})]
#[case::clock_that_stepped_back("state", FindingKind::NotComparable, |w: &mut World| {
    w.records.push(truncate(ORDERS, 0, 2200));
    read_incrementally(w, 2300);
    // In partition 0, and 500 ms before the record that it stands behind.
    w.records.push(Planted { partition: 0, ..unplaced_read(ORDERS, &order("2", "bob", "2.50", "t4"), 1800) });
})]
#[case::key_in_two_partitions_that_nothing_orders("state", FindingKind::NotComparable, |w: &mut World| {
    w.value(4)["after"]["name"] = json!("eve");
    let read = unplaced_read(ORDERS, &order("2", "bob", "2.50", "t4"), 1790);
    w.records.push(Planted { partition: 1, ..read });
})]
#[case::another_value_than_the_earlier_one_in_another_partition("state", FindingKind::Different, |w: &mut World| {
    w.value(1)["after"]["name"] = json!("as long as what is stored out of line");
    w.value(4)["after"]["name"] = json!(PLACEHOLDER);
    w.records[4].partition = 1;
    w.set_row(ORDERS, 0, "name", "another as long as what is stored out of line");
})]
#[case::earlier_value_in_another_partition_that_a_delete_took_away("state", FindingKind::Lost, |w: &mut World| {
    w.value(1)["after"]["name"] = json!("as long as what is stored out of line");
    w.records.insert(2, event(ORDERS, "d", Some(&order("2", "bob", "2.00", "t1")), None, 1650, 99));
    w.value(5)["after"]["name"] = json!(PLACEHOLDER);
    w.records[5].partition = 1;
    w.set_row(ORDERS, 0, "name", "as long as what is stored out of line");
})]
#[case::earlier_values_in_two_partitions_that_nothing_orders("state", FindingKind::NotComparable, |w: &mut World| {
    w.value(1)["after"]["name"] = json!("as long as what is stored out of line");
    w.value(4)["after"]["name"] = json!(PLACEHOLDER);
    w.records[4].partition = 1;
    let again = order("2", "just as long as what is stored out of line", "2.00", "t1");
    w.records.insert(2, Planted { partition: 2, ..event(ORDERS, "r", None, Some(&again), 1600, 90) });
    w.set_row(ORDERS, 0, "name", "as long as what is stored out of line");
})]
#[case::unkeyed_row_of_a_second_snapshot_that_is_gone("state", FindingKind::Ghost, |w: &mut World| {
    for row in [line("1", "t3"), line("2", "t4"), line("3", "t7")] {
        w.records.push(event(LINES, "r", None, Some(&row), 2300, 111));
    }
    w.rows_mut(LINES).remove(0);
    w.counts.insert(LINES, 2);
})]
#[case::unkeyed_row_of_a_second_snapshot_that_is_missing("state", FindingKind::Lost, |w: &mut World| {
    w.records.retain(|r| r.table != LINES);
    for row in [line("1", "t3"), line("2", "t4")] {
        w.records.push(event(LINES, "r", None, Some(&row), 2300, 111));
    }
})]
#[case::unkeyed_rows_in_two_incremental_snapshots("state", FindingKind::NotComparable, |w: &mut World| {
    for made_ms in [2300, 2400] {
        w.records.push(unplaced_read(LINES, &line("1", "t3"), made_ms));
    }
})]
#[case::unkeyed_truncate_that_nothing_orders("state", FindingKind::NotComparable, |w: &mut World| {
    w.records.push(truncate(LINES, 1, 2300));
    w.records.push(unplaced_read(LINES, &line("1", "t3"), 2300));
})]
#[case::nothing_compared("state", FindingKind::Vacuous, |w: &mut World| {
    w.rows.insert(ORDERS, Ok(vec![]));
    w.rows.insert(LINES, Ok(vec![]));
    w.counts = [(ORDERS, 0), (LINES, 0)].into();
    w.records.clear();
})]
#[case::acknowledged_row_missing("restored-to-target", FindingKind::Lost, |w: &mut World| { w.rows_mut(ORDERS).remove(0); w.counts.insert(ORDERS, 1); })]
#[case::given_up_row_there("restored-to-target", FindingKind::Ghost, |w: &mut World| {
    w.rows_mut(ORDERS).push(row(&order("3", "eve", "3.00", "t2")));
    w.counts.insert(ORDERS, 3);
})]
#[case::given_up_state_of_a_row("restored-to-target", FindingKind::Ghost, |w: &mut World| w.set_row(ORDERS, 1, "drill_token", "t2"))]
#[case::older_state_of_a_row("restored-to-target", FindingKind::Stale, |w: &mut World| w.rows_mut(ORDERS)[0] = row(&order("2", "bob", "2.00", "t1")))]
#[case::another_value("restored-to-target", FindingKind::Different, |w: &mut World| w.set_row(ORDERS, 0, "amount", "2.51"))]
#[case::unkeyed_image_missing("restored-to-target", FindingKind::Lost, |w: &mut World| { w.rows_mut(LINES).pop(); w.counts.insert(LINES, 2); })]
#[case::restored_but_unreadable("restored-to-target", FindingKind::Unreadable, |w: &mut World| { w.rows.insert(ORDERS, Err("invalid page".into())); })]
#[case::recovered_to_another_target("restored-to-target", FindingKind::Lost, |w: &mut World| w.cut_lsn = None)]
#[case::captured_tables_differ("restored-to-target", FindingKind::Different, |w: &mut World| {
    let mut captured = twice(w.base.clone());
    let restored = captured.restored.as_mut().unwrap().get_mut(&table(ORDERS)).unwrap();
    restored.keyed.values_mut().for_each(|row| *row = row.with("amount", Some("9.99")));
    w.captured = Some(captured);
    w.ledger = None;
})]
#[case::captured_row_gone("restored-to-target", FindingKind::Lost, |w: &mut World| {
    let mut captured = twice(w.base.clone());
    captured.restored.as_mut().unwrap().get_mut(&table(ORDERS)).unwrap().keyed.pop_first();
    w.captured = Some(captured);
})]
#[case::captured_row_too_many("restored-to-target", FindingKind::Ghost, |w: &mut World| {
    let mut captured = twice(w.base.clone());
    captured.at_target.get_mut(&table(ORDERS)).unwrap().keyed.pop_first();
    w.captured = Some(captured);
})]
#[case::captured_and_then_unreadable("restored-to-target", FindingKind::Unreadable, |w: &mut World| {
    w.captured = Some(Captured { restored: Err("invalid page".into()), ..twice(w.base.clone()) });
})]
#[case::ledger_beside_captured("restored-to-target", FindingKind::Lost, |w: &mut World| {
    w.captured = Some(twice(Tables::from([(table(ORDERS), w.base[&table(ORDERS)].clone())])));
    w.rows_mut(LINES).pop();
    w.counts.insert(LINES, 2);
})]
#[case::nothing_expected("restored-to-target", FindingKind::Vacuous, |w: &mut World| {
    w.captured = Some(twice(Tables::new()));
    w.ledger = None;
})]
#[case::event_dropped("loss", FindingKind::Lost, |w: &mut World| { w.records.remove(4); })]
#[case::unkeyed_event_dropped("loss", FindingKind::Lost, |w: &mut World| { w.records.remove(3); })]
#[case::settled_transaction_dropped("loss", FindingKind::Lost, |w: &mut World| { w.records.pop(); })]
#[case::delete_dropped("loss", FindingKind::Lost, |w: &mut World| { w.records.remove(9); })]
#[case::key_change_without_its_delete("loss", FindingKind::Lost, |w: &mut World| { w.records.drain(6..8); })]
#[case::key_change_without_its_create("loss", FindingKind::Lost, |w: &mut World| { w.records.remove(8); })]
#[case::no_event_at_all("loss", FindingKind::Lost, |w: &mut World| w.records.truncate(2))]
#[case::given_up_event("ghosts", FindingKind::Ghost, |w: &mut World| {
    let gone = order("1", "eve", "9.00", "t2");
    w.records.insert(0, event(ORDERS, "u", None, Some(&gone), 1400, 101));
})]
#[case::given_up_row_before("ghosts", FindingKind::Ghost, |w: &mut World| w.value(6)["before"]["drill_token"] = json!("t2"))]
#[case::rolled_back_event("ghosts", FindingKind::Ghost, |w: &mut World| {
    let never = order("9", "no", "9.00", "t8");
    w.records.push(event(ORDERS, "c", None, Some(&never), 2095, 106));
    w.records.push(event(ORDERS, "d", Some(&order("9", "no", "9.00", "x")), None, 2096, 107));
})]
#[case::ghost_by_row_alone("ghosts", FindingKind::Ghost, |w: &mut World| {
    w.ledger = None;
    w.records.push(event(ORDERS, "c", None, Some(&order("9", "no", "9.00", "pgbench")), 2095, 106));
})]
#[case::event_twice("duplicates", FindingKind::Duplicate, |w: &mut World| { let again = w.records[4].clone(); w.records.push(again); })]
#[case::unkeyed_event_twice("duplicates", FindingKind::Duplicate, |w: &mut World| {
    let mut again = w.records[3].clone();
    again.value.as_mut().unwrap()["ts_ms"] = json!(5000);
    w.records.push(again);
})]
#[case::outside_of_the_window("duplicates", FindingKind::Duplicate, |w: &mut World| {
    let again = w.records[4].clone();
    w.records.push(again);
    w.redelivery = vec![(Lsn(1791), Lsn(1999))];
})]
#[case::order_swapped("order", FindingKind::OutOfOrder, |w: &mut World| {
    w.records.push(event(ORDERS, "u", None, Some(&order("2", "bob", "2.40", "t4")), 1700, 102));
})]
#[case::half_a_transaction("atomicity", FindingKind::Half, |w: &mut World| { w.records.remove(4); })]
#[case::other_half_of_a_transaction("atomicity", FindingKind::Half, |w: &mut World| { w.records.remove(5); })]
#[case::registry_dead("schema-ids", FindingKind::Dead, |w: &mut World| w.registry = Err("connection refused".into()))]
#[case::record_torn("schema-ids", FindingKind::Unreadable, |w: &mut World| { w.records[4].value = Some(json!([1])); })]
#[case::global_level_changed("compatibility", FindingKind::Setting, |w: &mut World| w.registry.as_mut().unwrap().global_level = Some("NONE".into()))]
#[case::level_none_is_not_unset("compatibility", FindingKind::Setting, |w: &mut World| subject(w, "lines").level = Some("NONE".into()))]
#[case::level_unset("compatibility", FindingKind::Setting, |w: &mut World| subject(w, "orders").level = None)]
#[case::mode_left_at_import("compatibility", FindingKind::Setting, |w: &mut World| w.registry.as_mut().unwrap().global_mode = Some("IMPORT".into()))]
#[case::subject_mode_changed("compatibility", FindingKind::Setting, |w: &mut World| subject(w, "orders").mode = Some("READONLY".into()))]
#[case::subject_gone("compatibility", FindingKind::Setting, |w: &mut World| { w.registry.as_mut().unwrap().subjects.remove("shop.public.lines-value"); })]
#[case::id_changed("compatibility", FindingKind::Setting, |w: &mut World| subject(w, "orders").versions.get_mut(&3).unwrap().id = SchemaId(8))]
#[case::version_gap_closed("compatibility", FindingKind::Setting, |w: &mut World| {
    let third = subject(w, "orders").versions.remove(&3).unwrap();
    subject(w, "orders").versions.insert(2, third);
})]
#[case::text_changed("compatibility", FindingKind::WrongSchema, |w: &mut World| subject(w, "orders").versions.get_mut(&3).unwrap().schema = ORDERS_V1.into())]
#[case::soft_deleted("compatibility", FindingKind::Setting, |w: &mut World| subject(w, "orders").versions.get_mut(&1).unwrap().deleted = true)]
#[case::version_too_many("compatibility", FindingKind::Setting, |w: &mut World| {
    subject(w, "orders").versions.insert(4, VersionView { id: SchemaId(20), schema: "\"int\"".into(), deleted: false });
})]
#[case::incompatible_accepted("compatibility", FindingKind::NotRefused, |w: &mut World| w.probes[0].accepted = Ok(true))]
#[case::compatible_refused("compatibility", FindingKind::Refused, |w: &mut World| w.probes[1].accepted = Ok(false))]
#[case::registry_unreachable("compatibility", FindingKind::Dead, |w: &mut World| w.registry = Err("connection refused".into()))]
#[case::offset_ahead_of_server("positions", FindingKind::Position, |w: &mut World| w.stored = 9000)]
#[case::slot_ahead_of_server("positions", FindingKind::Position, |w: &mut World| w.slots[0].confirmed_flush_lsn = Some(Lsn(9000)))]
#[case::slot_missing("positions", FindingKind::Dead, |w: &mut World| w.slots.clear())]
#[case::slot_lost("positions", FindingKind::Dead, |w: &mut World| {
    w.slots[0].wal_status = Some("lost".into());
    w.slots[0].invalidation_reason = Some("wal_removed".into());
})]
#[case::slot_unreserved("positions", FindingKind::Position, |w: &mut World| w.slots[0].wal_status = Some("unreserved".into()))]
#[case::slot_inactive("positions", FindingKind::Dead, |w: &mut World| w.slots[0].active = false)]
#[case::slot_of_another_database("positions", FindingKind::Position, |w: &mut World| w.slots[0].database = Some("other".into()))]
#[case::task_failed("positions", FindingKind::Dead, |w: &mut World| {
    let task = &mut w.status.as_mut().unwrap().tasks[0];
    task.state = "FAILED".into();
    task.trace = Some("org.apache.kafka.connect.errors.ConnectException: no".into());
})]
#[case::connector_without_tasks("positions", FindingKind::Dead, |w: &mut World| w.status.as_mut().unwrap().tasks.clear())]
#[case::worker_dead("positions", FindingKind::Dead, |w: &mut World| w.status = Err("connection refused".into()))]
#[case::server_dead("positions", FindingKind::Dead, |w: &mut World| w.server = Err("connection refused".into()))]
#[case::publication_missing("positions", FindingKind::Dead, |w: &mut World| w.publication = false)]
#[case::table_not_published("positions", FindingKind::Position, |w: &mut World| w.unpublished.push(table("new")))]
#[case::group_offset_wrong("positions", FindingKind::Position, |w: &mut World| {
    let partition = TopicPartition { topic: topic(ORDERS), partition: 1 };
    w.groups.get_mut("probe").unwrap().insert(partition, Offset(40));
})]
#[case::group_offset_missing("positions", FindingKind::Position, |w: &mut World| w.groups.clear())]
#[case::consumer_begins_at_the_end("positions", FindingKind::Position, |w: &mut World| w.skipped = Some((ORDERS, 0, usize::MAX)))]
#[case::consumer_begins_behind_the_first("positions", FindingKind::Position, |w: &mut World| w.skipped = Some((LINES, 0, 1)))]
#[case::topic_setting_changed("positions", FindingKind::Setting, |w: &mut World| {
    w.specs.get_mut(&topic(ORDERS)).unwrap().settings.insert("cleanup.policy".into(), "delete".into());
})]
#[case::topic_setting_lost("positions", FindingKind::Setting, |w: &mut World| w.specs.get_mut(&topic(ORDERS)).unwrap().settings.clear())]
#[case::partitions_changed("positions", FindingKind::Setting, |w: &mut World| w.specs.get_mut(&topic(LINES)).unwrap().partitions = 1)]
#[case::topic_missing("positions", FindingKind::Setting, |w: &mut World| { w.specs.remove(&topic(LINES)); })]
#[case::canary_never_arrives("liveness", FindingKind::Dead, |w: &mut World| w.canaries[0].arrived_ms = Err("not in its topic".into()))]
#[case::marker_never_arrives("liveness", FindingKind::Lost, |w: &mut World| {
    w.quiet.as_mut().unwrap().reached = Err(Interrupted { dead: false, seen: "not read".into() });
})]
#[case::task_dead_while_waiting("liveness", FindingKind::Dead, |w: &mut World| {
    w.quiet.as_mut().unwrap().reached = Err(Interrupted { dead: true, seen: "task 0 FAILED".into() });
})]
#[case::no_canary("liveness", FindingKind::Vacuous, |w: &mut World| { w.canaries.clear(); w.quiet = None; })]
#[case::history_lost("history", FindingKind::Lost, |w: &mut World| w.held.clear())]
#[case::history_out_of_order("history", FindingKind::Different, |w: &mut World| w.held.swap(0, 1))]
#[case::history_stamped_anew("history", FindingKind::Different, |w: &mut World| w.held[1].timestamp_ms = Some(2_000))]
#[case::slot_left_behind("leaks", FindingKind::Leak, |w: &mut World| w.slots.push(Slot { name: SlotName::new("aside"), ..slot() }))]
#[case::snapshot_mode_left("leaks", FindingKind::Leak, |w: &mut World| { w.config.insert("snapshot.mode".into(), "always".into()); })]
#[case::registry_mode_left("leaks", FindingKind::Leak, |w: &mut World| w.registry.as_mut().unwrap().global_mode = Some("IMPORT".into()))]
#[case::process_left("leaks", FindingKind::Leak, |w: &mut World| w.leftovers.push("process 4711".into()))]
fn a_mutant_is_caught_by_the_check_that_names_it(
    #[context] case: Context,
    #[case] id: &str,
    #[case] kind: FindingKind,
    #[case] plant: impl FnOnce(&mut World),
) {
    let mut world = healthy();
    plant(&mut world);
    let report = check(id, &world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Failed, "{id} did not notice");
    as_kept("planted", &case, &report);
    assert!(
        report.findings.iter().any(|f| f.kind == kind),
        "{id} found {:?} instead of {kind:?}: {:#?}",
        report.findings.iter().map(|f| f.kind).collect::<BTreeSet<_>>(),
        report.findings
    );
}

fn subject<'w>(world: &'w mut World, name: &str) -> &'w mut SubjectView {
    world.registry.as_mut().unwrap().subjects.get_mut(&format!("shop.public.{name}-value")).unwrap()
}

#[rstest]
#[case::redelivered_inside_the_window("duplicates", |w: &mut World| {
    let again = w.records[4].clone();
    w.records.push(again);
    w.redelivery = vec![(Lsn(1700), Lsn(1999))];
})]
#[case::unkeyed_redelivery_is_left_out_by_position("state", |w: &mut World| {
    let mut again = w.records[3].clone();
    again.value.as_mut().unwrap()["ts_ms"] = json!(5000);
    w.records.push(again);
})]
#[case::redelivery_is_not_out_of_order("order", |w: &mut World| {
    let again = w.records[2].clone();
    w.records.push(again);
})]
#[case::two_equal_rows_of_one_change_record("state", |w: &mut World| {
    // COPY writes many rows in one WAL record: their events share one position.
    let twin = w.records[3].clone();
    w.records.insert(4, twin);
    let row = w.rows_mut(LINES)[0].clone();
    w.rows_mut(LINES).push(row);
    w.counts.insert(LINES, 4);
})]
#[case::placeholder_takes_the_earlier_value("state", |w: &mut World| {
    w.value(1)["after"]["name"] = json!("as long as what is stored out of line");
    w.value(4)["after"]["name"] = json!(PLACEHOLDER);
    w.set_row(ORDERS, 0, "name", "as long as what is stored out of line");
})]
#[case::placeholder_takes_the_earlier_value_from_another_partition("state", |w: &mut World| {
    w.value(1)["after"]["name"] = json!("as long as what is stored out of line");
    w.value(4)["after"]["name"] = json!(PLACEHOLDER);
    w.records[4].partition = 1;
    w.set_row(ORDERS, 0, "name", "as long as what is stored out of line");
})]
#[case::field_missing_from_a_record_that_was_delivered_again("state", |w: &mut World| {
    w.value(8)["after"].as_object_mut().unwrap().remove("name");
    *w.rows_mut(ORDERS) = w.rows_mut(ORDERS).iter().map(|r| if r.text("id") == Some("5") { r.with("name", None) } else { r.clone() }).collect();
    w.records.push(event(ORDERS, "c", None, Some(&order("7", "gus", "7.00", "t7")), 2150, 110));
    w.rows_mut(ORDERS).push(row(&order("7", "gus", "7.00", "t7")));
    w.counts.insert(ORDERS, 3);
    w.records.retain(|r| r.table == LINES || r.partition == 0 || r.key.as_ref().is_some_and(|k| k["id"] != 1));
    for index in [5, 8] {
        let again = again(w, index);
        w.records.push(again);
    }
})]
#[case::generated_right_where_present("state", |w: &mut World| w.value(8)["after"]["g"] = json!(7))]
#[case::truncate_is_folded("state", |w: &mut World| {
    w.config.insert("skipped.operations".into(), "none".into());
    w.records.push(Planted { key: None, ..event(ORDERS, "t", None, None, 2200, 108) });
    w.rows_mut(ORDERS).clear();
    w.counts.insert(ORDERS, 0);
})]
#[case::incremental_snapshot_after_a_truncate("state", |w: &mut World| {
    w.records.push(truncate(ORDERS, 0, 2200));
    read_incrementally(w, 2300);
})]
#[case::reads_of_the_moment_of_a_truncate_by_where_the_connector_was("state", |w: &mut World| {
    w.records.push(truncate(ORDERS, 0, 2200));
    for row in [order("2", "bob", "2.50", "t4"), order("5", "ada", "1.10", "t5")] {
        w.records.push(read_at(ORDERS, &row, 2200, 2250));
    }
})]
#[case::incremental_snapshot_in_other_partitions_than_before("state", |w: &mut World| {
    // The number of partitions grew behind the first two records; nothing of the table is as it was then.
    for record in w.records.iter_mut().filter(|r| r.table == ORDERS) {
        record.partition = 1 - record.partition;
    }
    w.value(4)["after"]["name"] = json!("eve");
    w.value(8)["after"]["name"] = json!("eve");
    read_incrementally(w, 2300);
})]
#[case::positions_begin_again_behind_a_truncate("state", |w: &mut World| {
    w.records.push(truncate(ORDERS, 0, 9000));
    for row in [order("2", "bob", "2.50", "t4"), order("5", "ada", "1.10", "t5")] {
        let mut created = event(ORDERS, "c", None, Some(&row), 2250, 110);
        created.value.as_mut().unwrap()["ts_ms"] = json!(9100);
        // Both in the partition of the TRUNCATE: there the offset alone counts.
        w.records.push(Planted { partition: 0, ..created });
    }
    w.records.retain(|r| r.partition == 0 || r.table == LINES);
})]
#[case::records_that_tell_no_time_are_ordered_by_their_positions("state", |w: &mut World| {
    w.records.push(truncate(ORDERS, 0, 2200));
    for (row, lsn) in [(order("2", "bob", "2.50", "t4"), 2250), (order("5", "ada", "1.10", "t5"), 2260)] {
        w.records.push(event(ORDERS, "c", None, Some(&row), lsn, 110));
    }
    for record in w.records.iter_mut().filter(|r| r.table == ORDERS) {
        record.value.iter_mut().for_each(|v| { v.as_object_mut().unwrap().remove("ts_ms"); });
    }
})]
#[case::unkeyed_rows_that_an_incremental_snapshot_reads_again("state", |w: &mut World| {
    for row in [line("1", "t3"), line("2", "t4"), line("3", "t7")] {
        w.records.push(unplaced_read(LINES, &row, 2300));
    }
})]
#[case::unkeyed_rows_in_two_incremental_snapshots_that_say_where_they_are("state", |w: &mut World| {
    for lsn in [2300, 2400] {
        w.records.push(read_at(LINES, &line("1", "t3"), lsn, lsn));
    }
})]
#[case::unkeyed_rows_that_a_second_snapshot_reads_again("state", |w: &mut World| {
    for row in [line("1", "t3"), line("2", "t4"), line("3", "t7")] {
        w.records.push(event(LINES, "r", None, Some(&row), 2300, 111));
    }
})]
#[case::equal_unkeyed_rows_that_a_second_snapshot_reads_again("state", |w: &mut World| {
    w.records.push(event(LINES, "c", None, Some(&line("3", "t7")), 2095, 106));
    for row in [line("3", "t7"), line("1", "t3"), line("2", "t4"), line("3", "t7")] {
        w.records.push(event(LINES, "r", None, Some(&row), 2300, 111));
    }
    let twin = w.rows_mut(LINES)[2].clone();
    w.rows_mut(LINES).push(twin);
    w.counts.insert(LINES, 4);
})]
#[case::unkeyed_rows_read_incrementally_after_a_truncate("state", |w: &mut World| {
    w.records.push(truncate(LINES, 1, 2200));
    for row in [line("1", "t3"), line("2", "t4"), line("3", "t7")] {
        w.records.push(unplaced_read(LINES, &row, 2300));
    }
})]
#[case::unkeyed_rows_behind_a_truncate_that_was_delivered_again("state", |w: &mut World| {
    let lines = [line("1", "t3"), line("2", "t4"), line("3", "t7")];
    for (again, made_ms) in [(false, 2200), (true, 5000)] {
        let mut cut = truncate(LINES, 1, 2200);
        cut.value.as_mut().unwrap()["ts_ms"] = json!(made_ms);
        w.records.push(cut);
        for (row, lsn) in lines.iter().zip(2210..) {
            let mut created = event(LINES, "c", None, Some(row), lsn, 109);
            created.value.as_mut().unwrap()["ts_ms"] = json!(if again { made_ms + 1 } else { lsn });
            w.records.push(created);
        }
    }
})]
#[case::trailing_zeros_are_no_difference("state", |w: &mut World| w.value(4)["after"]["amount"] = json!("2.5"))]
#[case::snapshot_instead_of_events("loss", |w: &mut World| {
    w.records = vec![
        event(ORDERS, "r", None, Some(&order("2", "bob", "2.50", "t4")), 2150, 110),
        event(ORDERS, "r", None, Some(&order("5", "ada", "1.10", "t5")), 2150, 110),
        event(LINES, "r", None, Some(&line("1", "t3")), 2150, 110),
        event(LINES, "r", None, Some(&line("2", "t4")), 2150, 110),
        event(LINES, "r", None, Some(&line("3", "t7")), 2150, 110),
    ];
})]
#[case::nothing_of_a_transaction_is_not_half("atomicity", |w: &mut World| { w.records.drain(4..6); })]
#[case::version_registered_later("compatibility", |w: &mut World| {
    subject(w, "orders").versions.insert(4, VersionView { id: SchemaId(20), schema: "\"int\"".into(), deleted: false });
    w.newer = NewerVersions::These([("shop.public.orders-value".to_owned(), 4)].into());
})]
#[case::any_later_version("compatibility", |w: &mut World| {
    subject(w, "orders").versions.insert(4, VersionView { id: SchemaId(20), schema: "\"int\"".into(), deleted: false });
    w.newer = NewerVersions::Any;
})]
fn what_is_right_is_not_found_wrong(
    #[context] case: Context,
    #[case] id: &str,
    #[case] change: impl FnOnce(&mut World),
) {
    let mut world = healthy();
    change(&mut world);
    let report = check(id, &world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Passed, "{id}: {:#?}", report.findings);
    as_kept("right", &case, &report);
}

#[test]
fn a_finding_carries_key_and_values_as_data_and_unshortened() {
    let mut world = healthy();
    let value = format!("a,b=c{}", "x".repeat(500));
    world.set_row(ORDERS, 0, "name", &value);
    let report = state(&world.observe(), &world.expect());
    // The topic has a state that the row had before.
    let finding = report.findings.iter().find(|f| f.kind == FindingKind::Stale).unwrap();
    assert_eq!(finding.key, Some(FindingKey::Columns(RowKey::new([("id", Some("2"))]))));
    let Some(Evidence::Row { expected: Some(table), found: Some(topic) }) = &finding.evidence else {
        panic!("{finding:?}");
    };
    assert_eq!(table.get("name"), Some(&Some(value)));
    assert_eq!((table.len(), topic.get("name")), (1, Some(&Some("bob".to_owned()))));
    let words = finding.expected.as_deref().unwrap();
    assert!(words.starts_with("name='a,b=c") && words.contains("505 bytes"), "{words}");
}

#[test]
fn a_key_that_records_may_express_otherwise_is_words_unless_the_table_printed_it() {
    let world = healthy();
    let seen = world.observe();
    let orders = seen.tables.iter().find(|t| t.name == table(ORDERS)).unwrap();
    let amount = orders.columns.of_name("amount").unwrap();
    assert!(orders.columns.list[amount].ty.needs_form());
    let mut packed = Vec::new();
    crate::decode::row::push(&mut packed, Cell::Text(b"1.50"));
    let keys = super::rows::Keys::new(orders, &[amount]);
    assert_eq!(keys.of_record(&packed), FindingKey::Words("amount=1.50".into()));
    assert_eq!(keys.of_row(&packed), FindingKey::Columns(RowKey::new([("amount", Some("1.50"))])));
}

#[test]
fn truncation_that_is_not_captured_is_said() {
    let mut world = healthy();
    world.rows_mut(ORDERS).clear();
    world.counts.insert(ORDERS, 0);
    let report = state(&world.observe(), &world.expect());
    assert!(report.notes.iter().any(|n| n.contains("TRUNCATE is not captured")), "{:?}", report.notes);
}

#[test]
fn a_signalling_table_is_read_by_no_snapshot() {
    let mut world = healthy();
    let gone = |r: &Planted| r.key.as_ref().is_some_and(|k| k["id"] == 5);
    world.records.retain(|r| !gone(r));
    assert_eq!(state(&world.observe(), &world.expect()).verdict, Verdict::Failed);
    world.config.insert("signal.data.collection".into(), "public.orders".into());
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Passed, "{:#?}", report.findings);
    assert!(report.notes.iter().any(|n| n.contains("signalling table")), "{:?}", report.notes);
    world.records.push(event(ORDERS, "d", Some(&order("2", "bob", "2.50", "t4")), None, 2200, 110));
    assert_eq!(state(&world.observe(), &world.expect()).verdict, Verdict::Failed, "a signal that was there is gone");
}

#[test]
fn no_column_is_left_out_without_a_line() {
    let report = state(&healthy().observe(), &healthy().expect());
    assert!(
        report.notes.iter().any(|n| n.contains("public.orders.g") && n.contains("generated")),
        "{:?}",
        report.notes
    );
}

#[rstest]
#[case::chosen_by_a_pattern(OrphanKind::Gone { table: table("gone"), named: false }, "there is no table public.gone")]
#[case::partitioned(OrphanKind::Elsewhere(table("gone")), "changes of public.gone go to other topics")]
#[case::taken_out_of_the_lists(OrphanKind::LeftOut(table("gone")), "the connector's lists leave public.gone out")]
#[case::of_no_known_table(OrphanKind::Unexplained, "its name does not tell of which table")]
fn a_topic_that_is_compared_with_no_table_is_named_and_no_ghost(#[case] kind: OrphanKind, #[case] why: &str) {
    let world = World { orphans: vec![orphan(kind)], ..healthy() };
    let report = state(&world.observe(), &world.expect());
    let named = report.notes.iter().any(|n| n.contains(&topic("gone")) && n.contains(why));
    assert!(named, "{:?}", report.notes);
    assert_eq!(report.verdict, Verdict::Passed);
}

/// What the connector captures with this list, where the database has `orders`, its child `rush`, `beside` and `log`, which is
/// partitioned and has no partitions, and the publication has `orders` where a condition holds, `log`, and inserts alone.
fn coverage(list: &str) -> Coverage {
    let relation =
        |name, inheritance| Relation { name: table(name), kind: RelationKind::Table, partition_of: None, inheritance };
    let relations = [
        relation(ORDERS, Inheritance::Parent),
        relation("rush", Inheritance::None),
        relation("beside", Inheritance::None),
        Relation { kind: RelationKind::Partitioned, ..relation("log", Inheritance::None) },
    ];
    let member = Member { filter: Some("(id > 1)".into()), columns: vec![] };
    let publication = Publication {
        operations: Operations::all_where(|o| o == Operation::Insert),
        members: [(table(ORDERS), member)].into(),
        partitioned: [table("log")].into(),
        ..Publication::default()
    };
    let config = [("table.include.list".to_owned(), list.to_owned())].into();
    Coverage::of(&Connector::of(&config), &relations, Some(&publication))
}

#[test]
fn what_the_publication_does_not_send_is_named() {
    let world = World { coverage: coverage("public.orders,public.log,public.custmers"), ..healthy() };
    let report = state(&world.observe(), &world.expect());
    for note in [
        "does not publish update, delete",
        "published where (id > 1)",
        "other tables inherit from public.orders",
        "public.log is partitioned and has no partitions",
        "table.include.list: `public.custmers` matches no table",
    ] {
        assert!(report.notes.iter().any(|n| n.contains(note)), "{note}: {:?}", report.notes);
    }
    assert_eq!(report.verdict, Verdict::Passed);
}

#[test]
fn an_expression_that_nobody_understands_lets_nothing_pass() {
    let list = r"public\.orders,public\.\p{L}+";
    let world = World { coverage: coverage(list), ..healthy() };
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Inconclusive);
    let told = report.notes.first().unwrap();
    assert!(told.contains(r"`public\.\p{L}+`") && told.contains("public.beside"), "{told}");

    let mut lossy = world.clone();
    lossy.records.remove(8);
    assert_eq!(state(&lossy.observe(), &lossy.expect()).verdict, Verdict::Failed, "a finding stays a finding");

    let mut seen = world.observe();
    seen.tables.clear();
    let report = state(&seen, &world.expect());
    assert_eq!(
        (report.verdict, report.findings_total),
        (Verdict::Inconclusive, 0),
        "nothing else is chosen: {report:?}"
    );
    let world = World { coverage: coverage("public.orders"), ..healthy() };
    let mut captures_nothing = world.observe();
    for seen in [&mut seen, &mut captures_nothing] {
        seen.tables.clear();
        seen.topics.clear();
    }
    let report = schema_ids(&seen, &world.expect());
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:?}");
    assert!(report.notes[0].contains("it is not known which tables"), "{:?}", report.notes);
    assert_eq!(schema_ids(&captures_nothing, &world.expect()).verdict, Verdict::Failed, "nothing is left to decide");
    seen.registry = Some(Err("refused".into()));
    assert_eq!(schema_ids(&seen, &world.expect()).verdict, Verdict::Failed, "a finding stays a finding");
}

/// Moves a row of `orders` to where snapshots alone write: a table that inherits from it, or outside of the row filter.
fn unstreamed(world: &mut World) {
    let row = world.rows_mut(ORDERS).remove(0);
    world.counts.insert(ORDERS, world.rows[ORDERS].as_ref().unwrap().len() as u64);
    world.unstreamed.push(row);
}

#[test]
fn a_row_that_snapshots_alone_write_is_no_ghost_and_may_be_missing() {
    let mut world = healthy();
    unstreamed(&mut world);
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Passed, "{:?}", report.findings);
    assert!(report.notes.iter().any(|n| n.contains("a snapshot brought 1 row")), "{:?}", report.notes);

    let mut never = world.clone();
    never.unstreamed[0] = never.unstreamed[0].with("id", Some("77"));
    let report = state(&never.observe(), &never.expect());
    let kinds: Vec<FindingKind> = report.findings.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [FindingKind::Ghost], "the topic's row is nobody's; the row that no snapshot wrote is not lost");

    let mut changed = world;
    changed.unstreamed[0] = changed.unstreamed[0].with("name", Some("somebody else"));
    let report = state(&changed.observe(), &changed.expect());
    let kinds: Vec<FindingKind> = report.findings.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [FindingKind::Stale], "the topic keeps what the snapshot wrote");
}

#[test]
fn rpo_tells_lost_from_given_up() {
    let world = healthy();
    let whole = rpo(&world.observe(), &world.expect());
    assert_eq!((whole.lost.transactions, whole.lost.rows), (0, 0));
    assert_eq!((whole.given_up.transactions, whole.given_up.rows), (1, 2), "t2");

    let mut world = healthy();
    world.rows_mut(ORDERS)[0] = row(&order("2", "bob", "2.00", "t1"));
    world.rows_mut(LINES).retain(|r| r.text("a") != Some("1"));
    let lost = rpo(&world.observe(), &world.expect()).lost;
    assert_eq!((lost.transactions, lost.rows), (2, 2), "t4's update, and t3's line");
    assert_eq!(lost.seconds, 1.0);
}

#[test]
fn rpo_counts_rows_that_are_gone_and_none_that_moved_to_another_key() {
    let mut world = healthy();
    let insert = change(ORDERS, Op::Insert, Some("1"), None, Some(&order("1", "ada", "1.10", "t0")));
    let ledger = world.ledger.as_mut().unwrap();
    ledger.entries.push(entry("t0", 0, 99, Outcome::Acknowledged, vec![insert]));
    ledger
        .order
        .get_mut(&Epoch(0))
        .unwrap()
        .insert(99, Commit { timeline: Timeline::literal(1), lsn: Lsn(900), xid: 99 });
    assert_eq!(rpo(&world.observe(), &world.expect()).lost.rows, 0, "t5 moved order 1 to 5");

    world.rows_mut(ORDERS).remove(0);
    let lost = rpo(&world.observe(), &world.expect()).lost;
    assert_eq!((lost.transactions, lost.rows), (2, 2), "t1's insert of order 2, and t4's update");
}

#[rstest]
#[case::at_the_first_offset(0, Verdict::Failed)]
#[case::before_the_first_offset(1, Verdict::Passed)]
fn an_event_of_a_given_up_transaction_is_a_ghost_from_the_first_offset_of_the_epoch_on(
    #[case] first: i64,
    #[case] expected: Verdict,
) {
    let mut world = healthy();
    let gone = order("1", "eve", "9.00", "t2");
    world.records.insert(0, event(ORDERS, "u", None, Some(&gone), 1400, 101));
    let partition = TopicPartition { topic: topic(ORDERS), partition: world.records[0].partition };
    let kept = Expectation { epoch_offsets: [(partition, Offset(first))].into(), ..world.expect() };
    let report = ghosts(&world.observe(), &kept);
    assert_eq!(report.verdict, expected, "{report:#?}");
}

/// A snapshot of the lines that were left, read from this position.
fn snapshot_without_line_1(world: &mut World, position: u64) {
    for row in [line("2", "t4"), line("3", "t7")] {
        world.records.push(event(LINES, "r", None, Some(&row), position, 111));
    }
}

/// Line 1 was deleted by a transaction that committed at 2150.
#[rstest]
#[case::its_event(true, |w: &mut World| w.records.push(event(LINES, "d", Some(&line("1", "t3")), None, 2140, 107)))]
#[case::snapshot_behind_it(true, |w: &mut World| snapshot_without_line_1(w, 2151))]
#[case::row_that_never_shows(true, |w: &mut World| w.records.retain(|r| r.table != LINES))]
#[case::snapshot_at_its_position(false, |w: &mut World| snapshot_without_line_1(w, 2150))]
#[case::snapshot_before_it(false, |w: &mut World| snapshot_without_line_1(w, 2110))]
#[case::nothing_behind_the_row(false, |_: &mut World| {})]
fn a_delete_without_a_key_is_shown_by(#[case] shown: bool, #[case] change_records: impl FnOnce(&mut World)) {
    let mut world = healthy();
    let delete = change(LINES, Op::Delete, None, Some(&line("1", "t3")), None);
    let ledger = world.ledger.as_mut().unwrap();
    ledger.entries.push(entry("t9", 1, 107, Outcome::Acknowledged, vec![delete]));
    ledger
        .order
        .get_mut(&Epoch(1))
        .unwrap()
        .insert(107, Commit { timeline: Timeline::literal(2), lsn: Lsn(2150), xid: 107 });
    change_records(&mut world);
    let report = loss(&world.observe(), &world.expect());
    let lost = report.findings.iter().filter(|f| f.token.as_deref() == Some("t9")).count();
    assert_eq!(lost, usize::from(!shown), "{report:#?}");
}

#[test]
fn a_value_that_is_not_understood_is_no_part_of_a_row_without_a_key() {
    let mut world = healthy();
    for record in world.records.iter_mut().filter(|r| r.table == LINES) {
        let a = &mut record.value.as_mut().unwrap()["after"]["a"];
        *a = json!({ "tens": 0, "ones": a.clone() });
    }
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:#?}");
    let found: Vec<&str> = report.findings.iter().filter_map(|f| f.found.as_deref()).collect();
    assert_eq!(found, ["others, in 3 rows that may be other ones"]);
    let said = "public.lines.a (int4): 3 values not comparable: its expression in the records is not understood";
    assert!(report.notes.iter().any(|n| n == said), "{:#?}", report.notes);
}

/// Sets a column of a table in all of its records.
fn rewrite(world: &mut World, name: &str, column: &str, value: impl Fn(&Value) -> Value) {
    for record in world.records.iter_mut().filter(|r| r.table == name) {
        for part in ["before", "after"] {
            let row = record.value.as_mut().and_then(|v| v[part].as_object_mut());
            if let Some(cell) = row.and_then(|row| row.get_mut(column)) {
                *cell = value(cell);
            }
        }
    }
}

#[rstest]
#[case::asterisks("column.mask.with.5.chars", "public.orders.name", ORDERS, "name")]
#[case::hashed("column.mask.hash.SHA-256.with.salt.CzQMA0cB5K", r"other\.x, public\.o.*\.name", ORDERS, "name")]
#[case::hashed_otherwise("column.mask.hash.v2.SHA-256.with.salt.a.b", "PUBLIC.orders.name", ORDERS, "name")]
#[case::without_a_key("column.mask.with.5.chars", "public.lines.drill_token", LINES, "drill_token")]
#[case::cut_to_nothing("column.truncate.to.0.chars", "public.lines.drill_token", LINES, "drill_token")]
fn a_masked_column_is_left_out_and_nothing_else(
    #[case] setting: &str,
    #[case] list: &str,
    #[case] table: &'static str,
    #[case] column: &str,
) {
    let mut world = healthy();
    world.config.insert(setting.into(), list.into());
    let masked = if setting.contains("truncate") { "" } else { "*****" };
    rewrite(&mut world, table, column, |_| json!(masked));
    let report = state(&world.observe(), &world.expect());
    assert_eq!((report.verdict, &report.findings[..]), (Verdict::Passed, &[][..]), "{report:#?}");
    let note = format!("public.{table}.{column} (text): ");
    let noted = |n: &String| n.starts_with(&note) && n.contains("values not comparable: the connector");
    assert!(report.notes.iter().any(noted), "{:#?}", report.notes);

    world.config.remove(setting);
    assert_eq!(state(&world.observe(), &world.expect()).verdict, Verdict::Failed);
    world.config.insert(setting.into(), list.into());
    let (other, value) = if table == ORDERS { ("amount", json!("7.77")) } else { ("a", json!(9)) };
    rewrite(&mut world, table, other, |_| value.clone());
    assert_eq!(state(&world.observe(), &world.expect()).verdict, Verdict::Failed, "{other}");
}

#[test]
fn a_mask_that_is_not_understood_leaves_open_what_is_not_equal() {
    let mut world = healthy();
    world.config.insert("column.mask.with.5.chars".into(), r"public\.\p{L}+\.drill_token".into());
    assert_eq!(state(&world.observe(), &world.expect()).verdict, Verdict::Passed, "they are equal all the same");
    rewrite(&mut world, LINES, "drill_token", |_| json!("*****"));
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:#?}");
    assert!(report.findings[0].found.as_deref().unwrap().contains("a, drill_token"), "{report:#?}");

    rewrite(&mut world, ORDERS, "name", |_| json!("*****"));
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:#?}");
    assert!(report.findings.iter().any(|f| f.found.as_deref().unwrap().starts_with("2 values may be others")));
}

#[rstest]
#[case::another_column("column.mask.with.5.chars", "public.orders.drill_token", "name")]
#[case::no_text("column.mask.with.5.chars", "public.orders.amount", "amount")]
#[case::no_such_setting("column.mask.with.five.chars", "public.orders.name", "name")]
fn a_mask_that_is_not_put_on_hides_nothing(#[case] setting: &str, #[case] list: &str, #[case] column: &str) {
    let mut world = healthy();
    world.config.insert(setting.into(), list.into());
    assert_eq!(state(&world.observe(), &world.expect()).verdict, Verdict::Passed);
    rewrite(&mut world, ORDERS, column, |_| json!("7.77"));
    assert_eq!(state(&world.observe(), &world.expect()).verdict, Verdict::Failed);
}

#[rstest]
#[case::beginning("rob\u{10437}ert", "rob\u{10437}", Verdict::Passed)]
#[case::another_beginning("robert", "rubin", Verdict::Failed)]
#[case::less_than_the_beginning("robert", "robe", Verdict::Failed)]
#[case::short("rob", "rob", Verdict::Passed)]
#[case::short_and_another("rob", "bob", Verdict::Failed)]
#[case::placeholder("robert", "__deb", Verdict::Passed)]
#[case::within_a_character("robe\u{10437}t", "robe?", Verdict::Passed)]
fn of_a_truncated_value_the_beginning_is_compared(
    #[case] table: &str,
    #[case] record: &str,
    #[case] expected: Verdict,
) {
    let mut world = healthy();
    world.config.insert("column.truncate.to.5.chars".into(), "public.orders.name".into());
    world.set_row(ORDERS, 0, "name", table);
    world.value(4)["after"]["name"] = json!(record);
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, expected, "{report:#?}");
    let noted = report.notes.iter().any(|n| n.contains("public.orders.name (text): 1 value not comparable"));
    assert_eq!(noted, expected == Verdict::Passed && table != record, "{:#?}", report.notes);
}

#[test]
fn short_values_of_a_truncated_column_are_part_of_rows_without_a_key() {
    let mut world = healthy();
    world.config.insert("column.truncate.to.40.chars".into(), "public.lines.drill_token".into());
    assert_eq!(state(&world.observe(), &world.expect()).verdict, Verdict::Passed);
    world.value(3)["after"]["drill_token"] = json!("other");
    assert_eq!(state(&world.observe(), &world.expect()).verdict, Verdict::Failed);
    let long = "x".repeat(41);
    world.set_row(LINES, 0, "drill_token", &long);
    world.value(3)["after"]["drill_token"] = json!(long[..40]);
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Passed, "{report:#?}");
    assert!(report.notes.iter().any(|n| n.contains("public.lines.drill_token (text): 3 values not comparable")));
}

/// The record of this index once more, as a worker writes it that was killed before it had stored how far it was.
fn again(world: &World, index: usize) -> Planted {
    let mut again = world.records[index].clone();
    again.value.as_mut().unwrap()["ts_ms"] = json!(5000);
    again
}

/// Rows of `lines` that one COPY wrote at this position, without the lines that there were.
fn copied(rows: &[Cells], position: u64) -> World {
    let mut world = healthy();
    world.records.retain(|r| r.table != LINES);
    world.records.extend(rows.iter().map(|row| event(LINES, "c", None, Some(row), position, 106)));
    *world.rows_mut(LINES) = vec![];
    world
}

/// What `state` finds wrong where the table has these lines.
fn found_beside(world: &World, lines: &[Cells]) -> (Verdict, BTreeSet<FindingKind>) {
    let mut world = world.clone();
    *world.rows_mut(LINES) = lines.iter().map(|l| row(l)).collect();
    world.counts.insert(LINES, lines.len() as u64);
    let report = state(&world.observe(), &world.expect());
    (report.verdict, report.findings.iter().map(|f| f.kind).collect())
}

#[test]
fn an_insert_without_a_key_that_directly_follows_itself_is_one_row_or_two() {
    let mut world = healthy();
    world.records.push(again(&world, 10));
    let [one, two, three] = [line("1", "t3"), line("2", "t4"), line("3", "t7")];
    let beside = |lines: &[&Cells]| found_beside(&world, &lines.iter().map(|l| (*l).clone()).collect::<Vec<_>>());
    let open = (Verdict::Inconclusive, [FindingKind::NotComparable].into());
    assert_eq!(beside(&[&one, &two, &three]), open);
    assert_eq!(beside(&[&one, &two, &three, &three]), (Verdict::Passed, [].into()), "as one COPY writes them");
    assert_eq!(beside(&[&one, &two]), (Verdict::Failed, [FindingKind::Ghost, FindingKind::NotComparable].into()));
    assert_eq!(beside(&[&one, &two, &three, &three, &three]), (Verdict::Failed, [FindingKind::Lost].into()));
    assert_eq!(beside(&[&two, &three]).0, Verdict::Failed);
}

#[test]
fn a_copy_without_a_key_that_was_interrupted_directly_precedes_itself() {
    let [a, b, c] = [line("1", "t3"), line("2", "t4"), line("3", "t7")];
    let rows = [&a, &b, &a, &b, &c].map(Clone::clone);
    let mut world = copied(&rows, 2100);
    // Behind a record of a later position, the last delivery was complete.
    world.records.push(event(LINES, "c", None, Some(&line("9", "t9")), 2200, 107));
    let beside = |lines: &[&Cells]| {
        let lines = lines.iter().map(|l| (*l).clone()).chain([line("9", "t9")]);
        found_beside(&world, &lines.collect::<Vec<_>>())
    };
    let open = (Verdict::Inconclusive, [FindingKind::NotComparable].into());
    assert_eq!(beside(&[&a, &b, &c]), open);
    assert_eq!(beside(&[&a, &b, &a, &b, &c]), (Verdict::Passed, [].into()));
    assert_eq!(beside(&[&a, &b]).0, Verdict::Failed);
    assert_eq!(beside(&[&a, &c]).0, Verdict::Failed);
    assert_eq!(beside(&[&a, &a, &a, &b, &c]).0, Verdict::Failed);
}

#[test]
fn rows_of_one_copy_that_cannot_be_a_redelivery_are_counted() {
    let [a, b] = [line("1", "t3"), line("2", "t4")];
    let rows = [&a, &b, &a].map(Clone::clone);
    let mut world = copied(&rows, 2100);
    world.records.push(event(LINES, "c", None, Some(&line("9", "t9")), 2200, 107));
    let beside = |lines: &[&Cells]| {
        let lines = lines.iter().map(|l| (*l).clone()).chain([line("9", "t9")]);
        found_beside(&world, &lines.collect::<Vec<_>>())
    };
    assert_eq!(beside(&[&a, &b, &a]), (Verdict::Passed, [].into()));
    assert_eq!(beside(&[&a, &b]), (Verdict::Failed, [FindingKind::Ghost].into()));
}

#[test]
fn a_later_delivery_tells_how_many_rows_there_were() {
    let a = line("1", "t3");
    let mut world = copied(&[a.clone(), a.clone()], 2100);
    for _ in 0..2 {
        world.records.push(event(LINES, "c", None, Some(&line("9", "t9")), 2200, 107));
        world.records.push(event(LINES, "c", None, Some(&a), 2100, 106));
    }
    world.records.push(event(LINES, "c", None, Some(&line("9", "t9")), 2200, 107));
    for (record, ms) in world.records.iter_mut().filter(|r| r.table == LINES).zip(5000..) {
        record.value.as_mut().unwrap()["ts_ms"] = json!(ms);
    }
    assert_eq!(found_beside(&world, &[a.clone(), line("9", "t9")]), (Verdict::Passed, [].into()));
    assert_eq!(found_beside(&world, &[a.clone(), a, line("9", "t9")]).0, Verdict::Failed);
}

#[test]
fn rows_of_one_copy_in_two_partitions_are_no_redelivery_of_each_other() {
    let [a, b] = [line("1", "t3"), line("2", "t4")];
    let mut world = copied(&[a.clone(), b.clone()], 2100);
    let [c, d] = [line("3", "t7"), line("4", "t8")];
    world.records.extend([&c, &d].map(|row| event(LINES, "c", None, Some(row), 2200, 107)));
    // Each COPY wrote a row to either partition, all in one millisecond.
    for (record, partition) in world.records.iter_mut().filter(|r| r.table == LINES).zip([0, 1, 0, 1]) {
        record.partition = partition;
        record.value.as_mut().unwrap()["ts_ms"] = json!(2300);
    }
    let all = [a, b, c, d];
    assert_eq!(found_beside(&world, &all), (Verdict::Passed, [].into()));
    assert_eq!(found_beside(&world, &all[1..]), (Verdict::Failed, [FindingKind::Ghost].into()));
    for record in world.records.iter_mut().filter(|r| r.table == LINES) {
        record.value.as_mut().unwrap()["after"]["a"] = json!(1);
        record.value.as_mut().unwrap()["after"]["drill_token"] = json!("t3");
    }
    assert_eq!(found_beside(&world, &vec![line("1", "t3"); 4]), (Verdict::Passed, [].into()));
    assert_eq!(found_beside(&world, &vec![line("1", "t3"); 5]).0, Verdict::Failed);
}

#[rstest]
#[case::update(event(LINES, "u", Some(&line("3", "t7")), Some(&line("4", "t8")), 2100, 106), &[("4", "t8")])]
#[case::delete(event(LINES, "d", Some(&line("3", "t7")), None, 2100, 106), &[])]
fn an_update_or_delete_without_a_key_that_directly_follows_itself_is_one(
    #[case] change: Planted,
    #[case] last: &[(&'static str, &'static str)],
) {
    let mut world = healthy();
    world.records.push(change);
    world.records.push(again(&world, 11));
    let lines: Vec<Cells> = [("1", "t3"), ("2", "t4")].iter().chain(last).map(|(a, token)| line(a, token)).collect();
    assert_eq!(found_beside(&world, &lines), (Verdict::Passed, [].into()));
    assert_eq!(found_beside(&world, &lines[1..]).0, Verdict::Failed);
    let report = duplicates(&world.observe(), &world.expect());
    assert_eq!(report.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [FindingKind::Duplicate]);
}

#[test]
fn a_delete_that_may_have_been_delivered_again_explains_one_row_more_and_no_second() {
    let mut world = healthy();
    let row = line("3", "t7");
    // Two more equal rows, which changes of their own made.
    world.records.extend([2091, 2092].map(|lsn| event(LINES, "c", None, Some(&row), lsn, 105)));
    let mut delete = event(LINES, "d", Some(&row), None, 2100, 106);
    delete.value.as_mut().unwrap()["source"]["lsn"] = Value::Null;
    world.records.extend([delete.clone(), delete]);
    let beside = |equal: usize| {
        let lines = [line("1", "t3"), line("2", "t4")].into_iter().chain(vec![row.clone(); equal]);
        found_beside(&world, &lines.collect::<Vec<_>>())
    };
    assert_eq!(beside(1), (Verdict::Passed, [].into()));
    assert_eq!(beside(2), (Verdict::Inconclusive, [FindingKind::NotComparable].into()));
    assert_eq!(beside(3), (Verdict::Failed, [FindingKind::Lost, FindingKind::NotComparable].into()));
}

/// Turns envelopes to what `ExtractNewRecordState` leaves of them: the row, with or without the operation.
fn leave_rows_only(world: &mut World, with_operation: bool) {
    let settings = [("transforms", "u"), ("transforms.u.type", "io.debezium.transforms.ExtractNewRecordState")];
    let added = with_operation.then_some(("transforms.u.add.fields", "op"));
    world.config.extend(settings.into_iter().chain(added).map(|(k, v)| (k.to_owned(), v.to_owned())));
    for record in &mut world.records {
        record.value = record.value.take().and_then(|envelope| {
            let mut row = envelope["after"].as_object()?.clone();
            if with_operation {
                row.insert("__op".into(), envelope["op"].clone());
            }
            Some(Value::Object(row))
        });
    }
}

#[test]
fn events_without_a_key_and_a_position_may_have_been_delivered_again() {
    let mut world = healthy();
    leave_rows_only(&mut world, true);
    let lines = [line("1", "t3"), line("2", "t4"), line("3", "t7")];
    assert_eq!(found_beside(&world, &lines), (Verdict::Passed, [].into()));
    assert_eq!(found_beside(&world, &lines[1..]), (Verdict::Failed, [FindingKind::Ghost].into()));
    let again = world.records[5].clone();
    world.records.push(again);
    assert_eq!(found_beside(&world, &lines), (Verdict::Inconclusive, [FindingKind::NotComparable].into()));
    assert_eq!(found_beside(&world, &lines[1..]).0, Verdict::Failed);
}

#[rstest]
#[case::row_before(|w: &mut World| w.records.push(event(LINES, "u", None, Some(&line("4", "t8")), 2095, 106)))]
#[case::operation(|w: &mut World| leave_rows_only(w, false))]
fn what_events_without_a_key_do_not_tell_is_noted(#[case] plant: impl FnOnce(&mut World)) {
    let mut world = healthy();
    plant(&mut world);
    let report = state(&world.observe(), &world.expect());
    let note = "public.lines: its events do not tell rows before or operations";
    assert!(report.notes.iter().any(|n| n == note), "{:#?}", report.notes);
}

/// Makes `lines.drill_token` a column that was added behind the first two lines, whose rows have this value of it.
fn added_column(default: Option<&str>) -> World {
    let mut world = healthy();
    for (place, index) in [(3, 0), (5, 1)] {
        world.value(place)["after"].as_object_mut().unwrap().remove("drill_token");
        let row = &mut world.rows_mut(LINES)[index];
        *row = row.with("drill_token", default);
    }
    world
}

#[rstest]
#[case::null(None)]
#[case::default(Some("7"))]
fn rows_without_a_key_pass_that_were_written_before_a_column_was_added(#[case] default: Option<&str>) {
    let world = added_column(default);
    let report = state(&world.observe(), &world.expect());
    assert_eq!((report.verdict, &report.findings[..]), (Verdict::Passed, &[][..]), "{report:#?}");
    let note =
        "public.lines.drill_token (text): 2 values not compared: absent from records written before it was added";
    assert!(report.notes.iter().any(|n| n == note), "{:#?}", report.notes);
}

#[rstest]
#[case::value_where_it_is("t9", |_: &mut World| {}, &[FindingKind::Ghost, FindingKind::Lost])]
#[case::older_row_missing("t7", |w: &mut World| { w.records.remove(3); }, &[FindingKind::Lost])]
#[case::older_row_twice("t7", |w: &mut World| {
    let again = w.records[3].clone();
    w.records.insert(4, again);
    w.value(4)["source"]["lsn"] = json!(1696);
}, &[FindingKind::Ghost])]
#[case::older_row_with_another_value("t7", |w: &mut World| w.value(3)["after"]["a"] = json!(9), &[
    FindingKind::Ghost,
    FindingKind::Lost,
])]
#[case::field_missing_from_a_late_record("t7", |w: &mut World| {
    w.value(3)["after"]["drill_token"] = Value::Null;
}, &[FindingKind::Ghost, FindingKind::Lost])]
fn a_column_that_was_added_hides_nothing_of_rows_without_a_key(
    #[case] last: &str,
    #[case] plant: impl FnOnce(&mut World),
    #[case] expected: &[FindingKind],
) {
    let mut world = added_column(None);
    world.set_row(LINES, 2, "drill_token", last);
    plant(&mut world);
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Failed, "{report:#?}");
    let found: BTreeSet<FindingKind> = report.findings.iter().map(|f| f.kind).collect();
    assert_eq!(found, expected.iter().copied().collect(), "{:#?}", report.findings);
}

#[test]
fn a_row_without_a_key_is_deleted_with_a_column_that_was_added_after_it() {
    let mut world = added_column(None);
    let before = vec![("a", Some("1")), ("drill_token", None)];
    world.records.push(event(LINES, "d", Some(&before), None, 2095, 106));
    world.rows_mut(LINES).remove(0);
    world.counts.insert(LINES, 2);
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Passed, "{report:#?}");
}

#[test]
fn a_snapshot_may_read_rows_without_a_key_again_with_a_column_that_was_added() {
    let mut world = added_column(None);
    for row in [vec![("a", Some("1")), ("drill_token", None)], vec![("a", Some("2")), ("drill_token", None)]] {
        world.records.push(event(LINES, "r", None, Some(&row), 2300, 111));
    }
    let verdict = |world: &World| state(&world.observe(), &world.expect()).verdict;
    assert_eq!(verdict(&world), Verdict::Inconclusive);
    world.value(3)["after"]["a"] = json!(9);
    assert_eq!(verdict(&world), Verdict::Failed, "of no row that was read again");
}

/// Makes `lines.a` a column of this type that was redefined behind the first two lines, with these values in records and the
/// table.
fn redefined_lines(ty: PgType, rewritten: bool, values: [(Value, &str); 3]) -> World {
    let mut world = healthy();
    world.lines_a = (ty, Definition { xid: 103, original: false, rewritten });
    for (index, ((record, value), place)) in values.into_iter().zip([3, 5, 10]).enumerate() {
        world.value(place)["after"]["a"] = record;
        world.set_row(LINES, index, "a", value);
    }
    world
}

#[test]
fn equal_times_without_a_key_are_equal_whenever_their_column_was_redefined() {
    let timestamp = || PgType::new("timestamp", "timestamp", "b", -1, None);
    let times = |first: &'static str| {
        [
            (json!(1_000_000), first),
            (json!(2_500_000), "1970-01-01 00:00:02.5"),
            (json!(3_000_000), "1970-01-01 00:00:03"),
        ]
    };
    let verdict = |world: &World| state(&world.observe(), &world.expect());
    let equal = redefined_lines(timestamp(), false, times("1970-01-01 00:00:01"));
    let report = verdict(&equal);
    assert_eq!((report.verdict, &report.findings[..]), (Verdict::Passed, &[][..]), "{report:#?}");

    let mut deleted = equal.clone();
    let before = deleted.value(3)["after"].clone();
    let mut delete = event(LINES, "d", Some(&line("1", "t3")), None, 2095, 106);
    delete.value.as_mut().unwrap()["before"] = before;
    deleted.records.push(delete);
    deleted.rows_mut(LINES).remove(0);
    deleted.counts.insert(LINES, 2);
    let report = verdict(&deleted);
    assert_eq!(report.verdict, Verdict::Passed, "a row of before and its delete of now: {report:#?}");

    let other = redefined_lines(timestamp(), false, times("1970-01-01 00:16:40"));
    assert_eq!(verdict(&other).verdict, Verdict::Inconclusive, "in milliseconds it is the table's");

    let mut lost = equal;
    lost.records.pop();
    assert_eq!(verdict(&lost).verdict, Verdict::Failed);
}

#[test]
fn equal_decimals_without_a_key_are_open_where_their_scale_may_have_been_another() {
    let numeric = PgType::new("numeric(10,2)", "numeric", "b", ((10 << 16) | 2) + 4, None);
    let values = [(json!("ZA=="), "1.00"), (json!("AA=="), "0.00"), (json!("AMg="), "2.00")];
    let mut world = redefined_lines(numeric, true, values);
    world.config.insert("decimal.handling.mode".into(), "precise".into());
    world.records.retain(|r| r.table == LINES);
    world.rows_mut(ORDERS).clear();
    world.counts.insert(ORDERS, 0);
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:#?}");
    let found = report.findings[0].found.as_deref().unwrap();
    assert!(found.starts_with("1 row in "), "zero is zero under any scale: {found}");
}

/// A decimal that was text when it was written, of a connector that writes bytes now, may be stale and may not.
#[test]
fn a_value_of_a_known_type_that_is_not_understood_is_not_passed_over() {
    let mut world = healthy();
    world.value(4)["after"]["name"] = json!({ "first": "bob" });
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:#?}");
    let found: Vec<&str> = report.findings.iter().filter_map(|f| f.found.as_deref()).collect();
    assert_eq!(found, ["1 value may be others: its expression in the records is not understood"]);
}

#[test]
fn keys_that_are_not_understood_find_no_row() {
    let mut world = healthy();
    for record in world.records.iter_mut().filter(|r| r.table == ORDERS) {
        let id = &mut record.key.as_mut().unwrap()["id"];
        *id = json!({ "tens": 0, "ones": id.clone() });
    }
    let report = state(&world.observe(), &world.expect());
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:#?}");
    let found: Vec<&str> = report.findings.iter().filter_map(|f| f.found.as_deref()).collect();
    assert_eq!(found, ["keys whose id is expressed in a way that is not understood"]);
}

#[test]
fn without_a_ledger_transactions_are_not_judged() {
    let world = World { ledger: None, ..healthy() };
    let (seen, expected) = (world.observe(), world.expect());
    for id in ["restored-to-target", "loss", "atomicity"] {
        assert_eq!(check(id, &seen, &expected).verdict, Verdict::Inconclusive, "{id}");
    }
}

#[test]
fn a_commit_that_is_not_in_the_order_leaves_the_target_undecided() {
    let mut world = healthy();
    world.ledger.as_mut().unwrap().order.remove(&Epoch(0));
    assert_eq!(restored_to_target(&world.observe(), &world.expect()).verdict, Verdict::Inconclusive);
}

#[test]
fn columns_whose_names_are_adjusted_to_one_field_are_reported() {
    let world = healthy();
    let mut seen = world.observe();
    let mut list = seen.tables[0].columns.list.clone();
    list[1].name = "x-".into();
    list[2].name = "x+".into();
    seen.tables[0].columns = Arc::new(Columns::new(list, Adjust::Avro));
    seen.topics.get_mut(&topic(ORDERS)).unwrap().extra_fields.insert("x_".into());
    let report = state(&seen, &world.expect());
    let shared = report.findings.iter().find(|f| f.kind == FindingKind::NotComparable).unwrap();
    assert!(shared.found.as_ref().unwrap().contains("x-, x+"), "{shared:?}");
}

#[test]
fn tables_that_share_a_topic_do_not_pass_and_are_not_blamed() {
    let world = healthy();
    let mut seen = world.observe();
    let mut twin = seen.tables[1].clone();
    twin.name = table("li nes");
    twin.rows = Ok(Rows::default());
    twin.count = Ok(0);
    seen.tables.push(twin);
    let report = state(&seen, &world.expect());
    let found: Vec<_> = report.findings.iter().map(|f| (f.kind, f.table.clone().unwrap().name)).collect();
    assert_eq!(found, [(FindingKind::NotComparable, "lines".into()), (FindingKind::NotComparable, "li nes".into())]);
    let found = report.findings[0].found.as_ref().unwrap();
    assert!(found.contains("public.li nes and public.lines"), "{found}");
}

#[test]
fn two_connectors_that_write_one_table_share_no_topic() {
    let mut seen = healthy().observe();
    let twin = seen.tables[0].clone();
    seen.tables.push(TableView { connector: "other".into(), ..twin });
    assert_eq!(seen.shared_topics(), BTreeMap::new());
}

#[rstest]
#[case::id_of_a_key_resolves_to_nothing(Place::Key, "shop.public.orders-key")]
#[case::id_of_a_value_resolves_to_nothing(Place::Value, "shop.public.orders-value")]
fn an_id_that_resolves_to_nothing_is_named_with_the_subject_it_must_be_in(
    #[context] case: Context,
    #[case] place: Place,
    #[case] name: &str,
) {
    let world = healthy();
    let mut seen = world.observe();
    let used = Use { records: 1, first: (1, 4) };
    seen.topics.get_mut(&topic(ORDERS)).unwrap().partitions[0].ids.insert((place, SchemaId(40)), used);
    let report = schema_ids(&seen, &world.expect());
    as_kept("planted", &case, &report);
    let named: Vec<_> =
        report.findings.iter().map(|f| (f.subject.clone(), f.schema_id, f.partition, f.offset)).collect();
    let subject = About::Subject(name.to_owned());
    assert_eq!(named, [(Some(subject), Some(SchemaId(40)), Some(1), Some(Offset(4)))]);
}

#[test]
fn an_id_of_another_group_is_an_id() {
    let world = healthy();
    let mut seen = world.observe();
    let id = SchemaId(40);
    let used = Use { records: 1, first: (0, 0) };
    seen.topics.get_mut(&topic(ORDERS)).unwrap().partitions[0].ids.insert((Place::Value, id), used);
    let report = schema_ids(&seen, &world.expect());
    assert_eq!(
        report.findings.first().map(|f| f.kind),
        Some(FindingKind::WrongSchema),
        "no subject and no group has it"
    );

    let schema = ORDERS_V1.to_owned();
    let found = GroupVersion { group: "other".into(), artifact: "o".into(), version: "1".into(), schema };
    seen.registry.as_mut().unwrap().as_mut().unwrap().elsewhere.insert(id, found);
    let report = schema_ids(&seen, &world.expect());
    assert_eq!(report.verdict, Verdict::Passed, "{:#?}", report.findings);
    assert!(report.notes.iter().any(|n| n.contains("another group")), "{:?}", report.notes);
    let expected = Expectation { written: [(id, "\"int\"".to_owned())].into(), ..world.expect() };
    assert_eq!(schema_ids(&seen, &expected).findings.first().map(|f| f.kind), Some(FindingKind::WrongSchema));
}

#[test]
fn a_registry_that_nobody_asked_is_not_dead() {
    let world = healthy();
    let seen = Observation { registry: None, ..world.observe() };
    assert_eq!(compatibility(&seen, &world.expect()).verdict, Verdict::Inconclusive);
}

#[test]
fn a_connector_whose_server_is_not_known_leaves_positions_open() {
    let one = |excluded| Unidentified { connector: "far".into(), why: "no route to 10.9.8.7".into(), excluded };
    let judged = |world: &World, excluded| {
        let mut seen = world.observe();
        seen.unidentified.push(one(excluded));
        let report = positions(&seen, &world.expect());
        assert!(report.notes.iter().any(|n| n.contains("connector far") && n.contains("10.9.8.7")), "{report:?}");
        report.verdict
    };
    assert_eq!(judged(&healthy(), false), Verdict::Inconclusive);
    assert_eq!(judged(&healthy(), true), Verdict::Passed);
    let world = World { slots: vec![], ..healthy() };
    assert_eq!(judged(&world, false), Verdict::Failed, "what is known to be wrong stays so");
}

#[test]
fn offsets_that_cannot_be_read_leave_positions_open() {
    let judged = |world: &World| {
        let mut seen = world.observe();
        seen.connectors[0].offsets.clear();
        seen.connectors[0].offsets_unread = Some("a name that no address takes".into());
        let report = positions(&seen, &world.expect());
        assert!(report.notes.iter().any(|n| n.contains("cannot be read: a name that no address takes")), "{report:?}");
        assert!(report.notes.iter().all(|n| !n.contains("has stored no offset")), "{report:?}");
        report.verdict
    };
    assert_eq!(judged(&healthy()), Verdict::Inconclusive);
    assert_eq!(judged(&World { slots: vec![], ..healthy() }), Verdict::Failed, "what is known to be wrong stays so");
}

/// A group whose topics keep their records goes on behind what it has committed; where it has to begin at the first, it must be given all.
#[test]
fn a_group_that_reads_on_is_not_given_what_lies_behind_it() {
    let partition = TopicPartition { topic: topic(ORDERS), partition: 0 };
    let mut world = healthy();
    world.skipped = Some((ORDERS, 0, 1));
    world.groups.get_mut("probe").unwrap().insert(partition.clone(), Offset(1));
    let judged = |begins: i64| {
        let mut expected = world.expect();
        expected.groups.get_mut("probe").unwrap().insert(partition.clone(), Offset(begins));
        positions(&world.observe(), &expected).verdict
    };
    assert_eq!(judged(1), Verdict::Passed);
    assert_eq!(judged(0), Verdict::Failed);
}

/// A report shows the first findings of a kind and counts them all, also those that another check has found or a fold has left out.
#[test]
fn findings_beyond_the_cap_are_counted() {
    let names: Vec<&'static str> = (100..125).map(|id: i32| &*id.to_string().leak()).collect();
    let mut world = healthy();
    for (at, id) in names.iter().enumerate() {
        world.records.push(event(ORDERS, "c", None, Some(&order(id, "gone", "1.00", "t1")), 1800 + at as u64, 200));
    }
    let total = |check: fn(&Observation, &Expectation<'_>) -> CheckReport, world: &World| {
        check(&world.observe(), &world.expect()).findings_total
    };
    assert_eq!(total(state, &world), 25);
    assert_eq!(total(ghosts, &world), 25);

    let mut world = healthy();
    for _ in 0..70 {
        world.records.push(Planted { table: LINES, partition: 0, key: None, value: Some(json!([1])) });
    }
    assert_eq!(total(schema_ids, &world), 70);
    assert_eq!(total(state, &world), 70);
}

const CALLS_STREAMED: &str = r#"{"type":"record","name":"Envelope","namespace":"shop.public.orders","fields":[{"name":"before","type":["null",{"type":"record","name":"Value","fields":[{"name":"id","type":"int"}]}],"default":null},{"name":"after","type":["null","Value"],"default":null},{"name":"op","type":"string"}]}"#;
const CALLS_READ: &str = r#"{"type":"record","name":"Envelope","namespace":"shop.public.orders","fields":[{"name":"before","type":["null",{"type":"record","name":"Value","fields":[{"name":"id","type":"int"},{"name":"g","type":["null","int"],"default":null}]}],"default":null},{"name":"after","type":["null","Value"],"default":null},{"name":"op","type":"string"}]}"#;

/// A version that is newer than the recovery point's, of `orders`, whose column `g` is generated; `used` by a record.
fn registered_later(point: &[&str], later: &str, used: bool) -> (Observation, Expectation<'static>) {
    let version = |id: u32, schema: &str| VersionView { id: SchemaId(id), schema: schema.to_owned(), deleted: false };
    let view = |schemas: &[&str]| {
        let versions = schemas.iter().zip(1..).map(|(schema, number)| (number, version(40 + number, schema))).collect();
        let subject = SubjectView { versions, ..SubjectView::default() };
        let subjects = (!schemas.is_empty()).then(|| ("shop.public.orders-value".to_owned(), subject));
        RegistryView { subjects: subjects.into_iter().collect(), ..RegistryView::default() }
    };
    let mut seen = healthy().observe();
    seen.probes.clear();
    seen.registry = Some(Ok(view(&[point, &[later]].concat())));
    if used {
        let id = SchemaId(41 + point.len() as u32);
        let partition = &mut seen.topics.get_mut("shop.public.orders").unwrap().partitions[0];
        partition.ids.insert((Place::Value, id), Use { records: 1, first: (0, 0) });
    }
    (seen, Expectation { registry: Some(view(point)), ..Expectation::default() })
}

#[rstest]
#[case::whose_table_had_no_record_then(&[LINES], true, Verdict::Passed)]
// The point has its records, and not the schema that they were written with.
#[case::whose_topic_was_there(&[LINES, ORDERS], true, Verdict::Failed)]
#[case::that_no_record_has(&[LINES], false, Verdict::Failed)]
#[case::of_a_point_without_topics(&[], true, Verdict::Failed)]
fn a_subject_that_is_newer_than_the_point(#[case] topics: &[&str], #[case] used: bool, #[case] expected: Verdict) {
    let (seen, wanted) = registered_later(&[], CALLS_STREAMED, used);
    let all = healthy().specs;
    let specs = topics.iter().map(|table| (topic(table), all[&topic(table)].clone())).collect();
    let report = compatibility(&seen, &Expectation { specs, ..wanted });
    assert_eq!(report.verdict, expected, "{:#?}", report.findings);
    let kept = report.notes.iter().any(|note| note.contains("kept: shop.public.orders-value version 1"));
    assert_eq!(kept, expected == Verdict::Passed, "what is kept is named: {:?}", report.notes);
}

#[rstest]
#[case::a_snapshot_behind_a_streamed_change(&[CALLS_STREAMED], CALLS_READ, true, Verdict::Passed)]
#[case::a_streamed_change_behind_a_snapshot(&[CALLS_READ], CALLS_STREAMED, true, Verdict::Passed)]
#[case::a_subject_that_the_point_does_not_have(&[], CALLS_STREAMED, true, Verdict::Failed)]
#[case::a_version_that_no_record_has(&[CALLS_STREAMED], CALLS_READ, false, Verdict::Failed)]
#[case::another_column(&[CALLS_STREAMED], &CALLS_READ.replace(r#""g""#, r#""h""#), true, Verdict::Failed)]
#[case::another_type(&[CALLS_READ], &CALLS_STREAMED.replace(r#""int""#, r#""long""#), true, Verdict::Failed)]
#[case::outside_of_the_row(&[CALLS_STREAMED], &CALLS_STREAMED.replace(r#"{"name":"op""#, r#"{"name":"g","type":"int"},{"name":"op""#), true, Verdict::Failed)]
#[case::the_same_again(&[CALLS_STREAMED], CALLS_STREAMED, true, Verdict::Failed)]
fn a_version_that_a_connector_registers_on_its_own_is_not_found_wrong(
    #[case] point: &[&str],
    #[case] later: &str,
    #[case] used: bool,
    #[case] expected: Verdict,
) {
    let (seen, wanted) = registered_later(point, later, used);
    let report = compatibility(&seen, &wanted);
    assert_eq!(report.verdict, expected, "{:#?}", report.findings);
    let orphan = Observation { tables: Vec::new(), ..seen };
    assert_eq!(compatibility(&orphan, &wanted).verdict, Verdict::Failed, "of a table that is not captured");
}

#[test]
fn settings_that_were_asked_for_are_compared_where_no_point_has_the_topic() {
    let world = healthy();
    let judged = |asked: &str, in_point: bool| {
        let mut expected = world.expect();
        expected.topic_settings = [("retention.ms".to_owned(), asked.to_owned())].into();
        if !in_point {
            expected.specs.clear();
        }
        let report = check("positions", &world.observe(), &expected);
        let subjects = report.findings.iter().map(|f| (f.kind, f.topic.clone().unwrap())).collect::<Vec<_>>();
        (report.compared, subjects)
    };
    let (with_point, findings) = judged("5", true);
    assert!(findings.is_empty(), "the point is what a topic of it is held to: {findings:?}");
    let (without, findings) = judged("5", false);
    assert_eq!(findings, [(FindingKind::Setting, topic(LINES)), (FindingKind::Setting, topic(ORDERS))]);
    assert_eq!(without, with_point, "one setting of each topic, in the place of the topic");
}
