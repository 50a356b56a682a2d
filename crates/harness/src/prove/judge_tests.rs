//! Planted mistakes for each judgement, and healthy observations.

use super::*;
use cdc_engine::backup::{
    SchemaHistory, Watermark,
    parts::registry::{VersionLine, VersionState},
};
use cdc_model::units::{Lsn, Offset, SchemaId, SlotName, Subject, Verdict};
use cdc_pipeline::client::kafka::TopicSpec;

fn kinds(report: &CheckReport) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

fn about(report: &CheckReport) -> String {
    report
        .findings
        .iter()
        .filter_map(|finding| finding.subject.as_ref())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn defect(kind: DefectKind, path: &str) -> Defect {
    Defect { kind, path: path.into(), expected: "something".into(), found: "nothing".into() }
}

#[test]
fn damage_is_told_by_part_and_path() {
    let (files, wal) = stored(9, 3, &[]);
    assert_eq!((files.verdict, wal.unwrap().verdict), (Verdict::Passed, Verdict::Passed));
    let gap = defect(DefectKind::WalGap, "/r/wal/7/00000001/00/000000010000000000000004");
    let (files, wal) = stored(9, 2, std::slice::from_ref(&gap));
    let wal = wal.unwrap();
    assert_eq!((files.verdict, wal.verdict, kinds(&wal)), (Verdict::Passed, Verdict::Failed, vec![FindingKind::Lost]));
    assert!(about(&wal).contains("000000010000000000000004"));
    let (files, wal) = stored(9, 3, &[defect(DefectKind::Checksum, "registry/dump.jsonl")]);
    assert_eq!((kinds(&files), wal.unwrap().verdict), (vec![FindingKind::Different], Verdict::Passed));
    let (_, wal) = stored(9, 2, &[defect(DefectKind::Checksum, "/r/wal/7/x")]);
    assert_eq!(wal.unwrap().verdict, Verdict::Failed, "damage of a segment is not that of a file of the point");
    assert!(stored(9, 0, &[]).1.is_none(), "a point without a database");
    assert_eq!(stored(0, 0, &[]).0.verdict, Verdict::Failed, "nothing was compared");
}

#[test]
fn damaged_records_are_told_by_topic() {
    assert_eq!(records(1, 10, &[]).verdict, Verdict::Passed);
    let damaged = records(1, 3, &[defect(DefectKind::Checksum, "topics/k/shop.public.orders/objects/0/x")]);
    assert_eq!((damaged.verdict, about(&damaged).contains("shop.public.orders")), (Verdict::Failed, true));
    assert_eq!(records(0, 0, &[]).verdict, Verdict::Failed, "nothing was compared");
}

fn connector(name: &str, slot: &str) -> SavedConnector {
    let config = [
        ("slot.name", slot),
        ("topic.prefix", name),
        ("key.converter.apicurio.registry.url", "http://r"),
        ("value.converter.apicurio.registry.url", "http://r"),
    ];
    SavedConnector {
        name: name.into(),
        kind: "source".into(),
        state: "RUNNING".into(),
        tasks: Vec::new(),
        config: config.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        topics: vec![format!("{name}.public.orders"), format!("{name}.transaction")],
        offsets: Vec::new(),
        unread: None,
    }
}

fn slot(name: &str, active: bool) -> Slot {
    Slot {
        name: SlotName::new(name),
        slot_type: "logical".into(),
        plugin: Some("pgoutput".into()),
        database: Some("shop".into()),
        active,
        active_pid: None,
        restart_lsn: None,
        confirmed_flush_lsn: None,
        wal_status: None,
        invalidation_reason: None,
    }
}

fn connect_facts(connectors: u64) -> ConnectFacts {
    ConnectFacts {
        cluster_id: None,
        version: None,
        connectors,
        offset_records: None,
        offset_records_absent: None,
        offsets_max_lsn: None,
        schema_history: SchemaHistory { present: false, reason: None, topics: Vec::new() },
    }
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_connector_that_is_missing_is_told_by_name() {
    let (shop, books) = (connector("shop", "shop"), connector("books", "books"));
    let both = [shop.clone(), books];
    let slots = [slot("shop", true), slot("books", true)];
    let whole = connectors(&connect_facts(2), &both, &names(&["shop", "books"]), &slots);
    assert_eq!((whole.verdict, whole.compared), (Verdict::Passed, 2));
    let one = std::slice::from_ref(&shop);
    let lost = connectors(&connect_facts(2), one, &names(&["shop", "books"]), &slots);
    assert!(kinds(&lost).contains(&FindingKind::Lost) && about(&lost).contains("connector books"), "{lost:?}");
    // The manifest was made to fit: the one that streamed is missed all the same.
    let fitted = connectors(&connect_facts(1), one, &names(&["shop", "books"]), &slots);
    assert!(fitted.verdict == Verdict::Failed && about(&fitted) == "connector books", "{fitted:?}");
    // One that was deleted before the point was taken leaves offsets, and no slot that is streamed from.
    let deleted =
        connectors(&connect_facts(1), one, &names(&["shop", "books"]), &[slot("shop", true), slot("books", false)]);
    assert!(deleted.verdict == Verdict::Passed && deleted.notes[0].contains("books"), "{deleted:?}");
    // Another subscriber of the server.
    let other = connectors(&connect_facts(1), one, &names(&["shop"]), &[slot("shop", true), slot("replica", true)]);
    assert!(other.verdict == Verdict::Passed && other.notes[0].contains("replica"), "{other:?}");
    let more = connectors(&connect_facts(1), &both, &names(&[]), &[]);
    assert_eq!(kinds(&more), [FindingKind::Ghost]);
    assert_eq!(connectors(&connect_facts(0), &[], &names(&[]), &[]).verdict, Verdict::Failed, "nothing was compared");
}

fn version(subject: &str, number: u32, id: u32) -> VersionLine {
    VersionLine {
        subject: Subject::new(subject),
        version: SubjectVersion(number),
        id: SchemaId(id),
        global_id: u64::from(id),
        schema_type: "AVRO".into(),
        schema_sha256: format!("{id}"),
        schema: "{}".into(),
        references: Vec::new(),
        state: VersionState::Active,
        metadata: None,
        rule_set: None,
        subject_compat: None,
        subject_mode: None,
        order: u64::from(id),
        created_ms: None,
    }
}

fn dump(versions: &[VersionLine]) -> Dump {
    Dump {
        flavour: "apicurio".into(),
        product_version: "3".into(),
        id_kind: "contentId".into(),
        global_compat: None,
        global_mode: None,
        subjects: Vec::new(),
        versions: versions.to_vec(),
        caps_hit: Vec::new(),
        beyond: Vec::new(),
    }
}

fn registry_facts(subjects: u64, versions: u64) -> RegistryFacts {
    RegistryFacts {
        flavour: "apicurio".into(),
        version: "3".into(),
        id_kind: "contentId".into(),
        subjects,
        versions,
        soft_deleted: 0,
        max_id: None,
        birth: None,
        global_compat: None,
        global_mode: None,
        caps_hit: Vec::new(),
    }
}

fn export(versions: &[VersionLine]) -> Archive {
    Archive { versions: versions.iter().map(ArchivedVersion::from).collect(), ..Archive::default() }
}

const TOPIC: &str = "shop.public.orders";

fn orders() -> [VersionLine; 2] {
    [version("shop.public.orders-key", 1, 1), version("shop.public.orders-value", 1, 2)]
}

#[test]
fn a_schema_that_is_missing_is_told_by_subject_whatever_was_made_to_fit() {
    let all = orders();
    let written = names(&[TOPIC]);
    let whole = registry(&registry_facts(2, 2), &dump(&all), Some(&export(&all)), &written);
    assert_eq!((whole.verdict, whole.compared), (Verdict::Passed, 2), "{whole:?}");
    let short = dump(&all[..1]);
    let subject = "shop.public.orders-value";
    for (facts, export) in [
        (registry_facts(2, 2), Some(export(&all))),
        (registry_facts(1, 1), Some(export(&all))),
        (registry_facts(1, 1), Some(export(&all[..1]))),
        (registry_facts(1, 1), None),
    ] {
        let found = registry(&facts, &short, export.as_ref(), &written);
        assert!(kinds(&found).contains(&FindingKind::Lost) && about(&found).contains(subject), "{found:?}");
    }
    // The count alone tells where no topic of a connector needs it.
    let counted = registry(&registry_facts(2, 2), &short, None, &names(&[]));
    assert!(counted.findings[0].expected.as_deref().unwrap().contains("2 versions"), "{counted:?}");
    let more = registry(&registry_facts(1, 1), &dump(&all), Some(&export(&all[..1])), &names(&[]));
    assert!(kinds(&more).contains(&FindingKind::Ghost), "{more:?}");
    assert_eq!(
        registry(&registry_facts(0, 0), &dump(&[]), None, &names(&[])).verdict,
        Verdict::Passed,
        "an empty registry"
    );
}

#[test]
fn only_topics_with_records_and_names_of_the_default_strategy_need_a_subject() {
    let topic = |name: &str, high: i64| TopicState {
        spec: TopicSpec { name: name.into(), partitions: 1, replication: 1, settings: BTreeMap::new() },
        watermarks: vec![Watermark { partition: 0, low: Offset(0), high: Offset(high) }],
        id: None,
    };
    let topics = [topic(TOPIC, 5), topic("shop.transaction", 5)];
    let shop = connector("shop", "shop");
    assert_eq!(written_with_schemas(std::slice::from_ref(&shop), &topics), names(&[TOPIC]));
    assert!(written_with_schemas(std::slice::from_ref(&shop), &[topic(TOPIC, 0)]).is_empty(), "no records");
    let with = |key: &str| {
        let mut other = shop.clone();
        other.config.insert(key.to_owned(), "x".to_owned());
        written_with_schemas(&[other], &topics)
    };
    assert!(with("value.converter.value.subject.name.strategy").is_empty());
    assert!(with("transforms").is_empty(), "a transform may route to other topics");
    let mut json = shop.clone();
    json.config.remove("key.converter.apicurio.registry.url");
    assert!(written_with_schemas(&[json], &topics).is_empty(), "its keys have no schema in a registry");
}

#[test]
fn what_the_connector_registers_anew_was_missing() {
    let [key, value] = orders();
    let before = CheckReport::new(REGISTRY, 1, Vec::new(), Vec::new());
    let of =
        |subject: &str, versions: &[u32]| (subject.to_owned(), versions.iter().map(|v| SubjectVersion(*v)).collect());
    let after: BTreeMap<String, Vec<SubjectVersion>> =
        [of("shop.public.orders-key", &[1]), of("shop.public.orders-value", &[1])].into();
    let judged = |dump: &Dump, after, topics: &[&str]| registered(before.clone(), dump, after, &names(topics));
    assert_eq!(judged(&dump(&[key.clone(), value]), &after, &[TOPIC]).verdict, Verdict::Passed);
    let lacking = judged(&dump(std::slice::from_ref(&key)), &after, &[TOPIC]);
    assert_eq!((lacking.verdict, about(&lacking)), (Verdict::Failed, "shop.public.orders-value version 1".into()));
    let empty = judged(&dump(&[key]), &after, &[]);
    assert!(empty.verdict == Verdict::Passed && empty.notes[0].contains("no records"), "{empty:?}");
    let newer: BTreeMap<String, Vec<SubjectVersion>> = [of("shop.public.orders-value", &[1, 2])].into();
    let changed = judged(&dump(&orders()), &newer, &[TOPIC]);
    assert!(changed.verdict == Verdict::Passed && changed.notes[0].contains("version 2"), "{changed:?}");
}

fn fingerprint(rows: u64, digest: &str) -> TableFingerprint {
    TableFingerprint { table: TableName::new("public", "orders"), rows, digest: digest.into() }
}

#[test]
fn rows_that_a_base_backup_lacks_are_told_by_table() {
    let expected = [DatabaseFingerprints {
        database: "shop".into(),
        lsn: Some(Lsn(77)),
        tables: vec![fingerprint(200, "1.2")],
        left_out: Vec::new(),
    }];
    let with = |found: Option<TableFingerprint>| {
        let all = [(("shop".to_owned(), TableName::new("public", "orders")), found)].into();
        fingerprints(&expected, &all)
    };
    let same = with(Some(fingerprint(200, "1.2")));
    assert_eq!((same.verdict, same.compared), (Verdict::Passed, 1));
    for (found, kind) in [
        (Some(fingerprint(199, "1.1")), FindingKind::Lost),
        (Some(fingerprint(201, "1.3")), FindingKind::Ghost),
        (Some(fingerprint(200, "9.9")), FindingKind::Different),
        (None, FindingKind::Lost),
    ] {
        let report = with(found);
        assert_eq!(kinds(&report), [kind]);
        assert_eq!(report.findings[0].table, Some(TableName::new("public", "orders")));
        assert_eq!(report.findings[0].lsn, Some(Lsn(77)));
    }
    assert_eq!(fingerprints(&expected, &BTreeMap::new()).verdict, Verdict::Failed, "it was not read");
    assert_eq!(fingerprints(&[], &BTreeMap::new()).verdict, Verdict::Failed, "nothing was compared");
}
