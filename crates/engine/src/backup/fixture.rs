//! A small repository made without any server, for tests: one whole recovery point with everything in it.

use std::io::Write;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::{
    BackupError, ClockOf, ConnectFacts, Consistency, ConsistencyCheck, FileEntry, Format, KafkaFacts, Kind, Link,
    Manifest, Origin, Part, PointSelector, PostgresFacts, RegistryFacts, Repository, SchemaHistory, Tool, TopicRecords,
    Window, check,
    files::{self, Store},
    format::layout::{MANIFEST, MANIFEST_SUM, manifest_name},
    hash::sha256,
    parts::registry::{Dump, SubjectState, VersionLine, VersionState, import_zip},
    place,
    seal::name_identity,
    storage::IN_MEMORY,
    wal::{self, SegmentState},
    writer::{PointWriter, Sealed},
};
use cdc_model::units::{Lsn, PointId, SchemaId, Subject, SubjectVersion, SystemId, Timeline};
use cdc_pipeline::config::Tools;
use cdc_postgres::{
    version::Version,
    wal::{SegmentHeader, SegmentName, SegmentSize},
};

/// The cluster of the fixture.
pub(crate) const SYSTEM: SystemId = SystemId(7711099509720704369);
pub(crate) const POINT: &str = "20261122T020000Z-7f3a";
/// The segments the point needs; one more before and after are archived too.
pub(crate) const NEEDED: std::ops::RangeInclusive<u64> = 3..=5;

/// Where the record of the restore point ends.
const RESTORE_POINT_LSN: Lsn = Lsn(0x50_0090);

pub(crate) fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// The name of a segment of timeline 1.
pub(crate) fn segment(number: u64) -> SegmentName {
    SegmentName::new(Timeline::FIRST, number, size())
}

/// A segment with a valid header and `fill` in the rest.
pub(crate) fn segment_bytes(system_id: SystemId, size: SegmentSize, name: SegmentName, fill: u8) -> Vec<u8> {
    let header = SegmentHeader { system_id, size, address: name.start(size).unwrap(), timeline: name.timeline };
    let mut bytes = vec![fill; size.bytes() as usize];
    bytes[..SegmentHeader::LENGTH].copy_from_slice(&header.to_bytes());
    bytes
}

/// A segment with a commit, whose pages are filled with its number behind that; one has the record of the restore point too.
fn content(name: SegmentName, number: u64) -> Vec<u8> {
    let mut bytes = segment_bytes(SYSTEM, size(), name, number as u8);
    let begin = name.start(size()).unwrap().0;
    let mut records: Vec<(u8, u8, u32, Vec<u8>)> = Vec::new();
    let time = 790_000_000_000_000 + number as i64;
    if name == segment(5) {
        let mut restore_point = time.to_le_bytes().to_vec();
        restore_point.extend(format!("cdc_{POINT}").bytes());
        restore_point.resize(8 + 64, 0);
        records.push((0, 0x70, 0, restore_point));
    }
    records.push((1, 0x00, 700 + number as u32, time.to_le_bytes().to_vec()));
    // The rest of the segment is not used.
    records.push((0, 0x40, 0, Vec::new()));
    let (mut at, mut before) = (SegmentHeader::LENGTH, 0);
    for (manager, info, xid, data) in records {
        let record = wal_record(manager, info, xid, before, &data);
        bytes[at..at + record.len()].copy_from_slice(&record);
        before = begin + at as u64;
        at = (at + record.len()).next_multiple_of(8);
        if info == 0x70 {
            assert_eq!(begin + at as u64, RESTORE_POINT_LSN.0);
        }
    }
    bytes
}

/// A record of WAL (`XLogRecord` of PostgreSQL, `access/xlogrecord.h`).
fn wal_record(manager: u8, info: u8, xid: u32, before: u64, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    if !data.is_empty() {
        body.extend([255, data.len() as u8]);
        body.extend(data);
    }
    let mut record = (24 + body.len() as u32).to_le_bytes().to_vec();
    record.extend(xid.to_le_bytes());
    record.extend(before.to_le_bytes());
    record.extend([info, manager, 0, 0]);
    let sum = crc32c::crc32c_append(crc32c::crc32c(&body), &record);
    record.extend(sum.to_le_bytes());
    record.extend(body);
    record
}

/// Archives a segment whose pages are filled with its number.
pub(crate) fn archive(repository: &Repository, scratch: &Utf8Path, timeline: Timeline, number: u64) {
    let name = SegmentName::new(timeline, number, size());
    let path = scratch.join(name.to_string());
    std::fs::write(&path, content(name, number)).unwrap();
    repository.archive(SYSTEM).add_segment(&path, SegmentState::Complete).unwrap();
    std::fs::remove_file(path).unwrap();
}

/// Offers a segment of timeline 1 as an `archive_command` does.
pub(crate) fn offer(repository: &Repository, scratch: &Utf8Path, number: u64) {
    try_offer(repository, scratch, number).unwrap();
}

/// The same where the repository may refuse it.
pub(crate) fn try_offer(repository: &Repository, scratch: &Utf8Path, number: u64) -> Result<(), BackupError> {
    let path = scratch.join(segment(number).to_string());
    std::fs::write(&path, content(segment(number), number)).unwrap();
    wal::push(repository, scratch, &path, wal::default_workers()).map(drop)
}

/// A repository in a temporary folder with the archived WAL and the point.
pub(crate) fn repository() -> (tempfile::TempDir, Repository) {
    repository_of(Format::NEWEST)
}

/// The same in one of the formats.
pub(crate) fn repository_of(format: Format) -> (tempfile::TempDir, Repository) {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let repository = write(&root.join("repository"), &root, format);
    (folder, repository)
}

/// The same with content that is encrypted, and the file of the identity that reads it.
pub(crate) fn encrypted() -> (tempfile::TempDir, Repository, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let (file, recipient) = identity(&root, "identity");
    name_identity(&root.join("repository"), &file);
    let repository = Repository::init_for(&root.join("repository"), &[recipient]).unwrap();
    (folder, fill(repository, &root), file)
}

/// The file of a new identity, and its recipient.
pub(crate) fn identity(folder: &Utf8Path, name: &str) -> (Utf8PathBuf, String) {
    let identity = age::x25519::Identity::generate();
    let file = folder.join(name);
    let text = format!("# a test's\n{}\n", age::secrecy::ExposeSecret::expose_secret(&identity.to_string()));
    Store::new(folder).unwrap().write(&file, text.as_bytes()).unwrap();
    (file, identity.to_public().to_string())
}

pub(crate) fn write(root: &Utf8Path, scratch: &Utf8Path, format: Format) -> Repository {
    fill(Repository::init_as(root, format).unwrap(), scratch)
}

fn fill(repository: Repository, scratch: &Utf8Path) -> Repository {
    for number in NEEDED.start() - 1..=NEEDED.end() + 1 {
        archive(&repository, scratch, Timeline::FIRST, number);
    }
    let id = PointId::new(POINT);
    let sealed = sealed(&repository, &id);
    let read_back = check::read_back(&repository, sealed.point()).unwrap();
    repository.note_latest(&sealed.publish(read_back).unwrap()).unwrap();
    repository
}

/// A whole point that is written and does not have its name yet.
pub(crate) fn sealed(repository: &Repository, id: &PointId) -> Sealed {
    try_sealed(repository, id).unwrap()
}

/// The same where there may be no room for it.
pub(crate) fn try_sealed(repository: &Repository, id: &PointId) -> Result<Sealed, BackupError> {
    let mut writer = PointWriter::begin(repository, id.clone())?;
    parts(&mut writer)?;
    let (format, chain) = (writer.format(), writer.chain().cloned());
    writer.seal(|files| Manifest { format: format.number(), chain, ..manifest(id, files) })
}

/// A point of which one file is written.
pub(crate) fn unfinished(repository: &Repository, id: &PointId) -> PointWriter {
    let mut writer = PointWriter::begin(repository, id.clone()).unwrap();
    writer.bytes("pg/x", b"half").unwrap();
    writer
}

/// A later recovery point: a copy of the first one, or of the newest where that has gone, with another id and a changed manifest. It stands
/// alone, and names no records of topics. Its folder.
pub(crate) fn later(repository: &Repository, id: &str, change: impl FnOnce(&mut Manifest)) -> Utf8PathBuf {
    let first = repository.point(&PointSelector::Id(PointId::new(POINT)));
    let mut first = first.unwrap_or_else(|_| repository.newest().unwrap().point);
    if let (Part::Present(pg), Part::Present(kafka)) = (&mut first.manifest.pg, &mut first.manifest.kafka) {
        pg.adds_to = None;
        kafka.records.clear();
    }
    let chain = repository.next_in_chain().unwrap();
    let to = repository.points_folder().join(id);
    for entry in &first.manifest.files {
        let place = to.join(&entry.path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(first.folder.join(&entry.path), place).unwrap();
    }
    let mut manifest = first.manifest;
    manifest.point = PointId::new(id);
    manifest.chain = (repository.format() == Format::Two).then_some(chain);
    change(&mut manifest);
    put_manifest(repository, &to, &manifest);
    to
}

/// Lets a point's replay begin at segment 5.
pub(crate) fn from_segment_5(manifest: &mut Manifest) {
    let Part::Present(pg) = &mut manifest.pg else { return };
    pg.start_lsn = Lsn(0x50_0028);
    pg.start_wal = segment(5).to_string();
    (pg.stop_lsn, pg.stop_wal) = (Lsn(0x50_0080), segment(5).to_string());
    pg.wal_required = vec![segment(5).to_string()];
}

/// Lets a point's base backup add to that of another one.
pub(crate) fn add_to(manifest: &mut Manifest, other: Link) {
    let Part::Present(pg) = &mut manifest.pg else { return };
    pg.adds_to = Some(other);
}

/// Lets a point have taken this backup of a topic's records.
pub(crate) fn with_records(manifest: &mut Manifest, topic: &str, backup: &str) {
    let Part::Present(kafka) = &mut manifest.kafka else { return };
    kafka.data = "archived".into();
    kafka.records.push(TopicRecords { topic: topic.into(), backup: backup.into() });
}

/// Gives a point's folder this manifest.
pub(crate) fn put_manifest(repository: &Repository, folder: &Utf8Path, manifest: &Manifest) {
    let bytes = files::canonical_json(&folder.join(MANIFEST), manifest).unwrap();
    let hash = sha256(&bytes);
    match repository.format() {
        Format::One => {
            std::fs::write(folder.join(MANIFEST), &bytes).unwrap();
            std::fs::write(folder.join(MANIFEST_SUM), format!("{hash}  {MANIFEST}\n")).unwrap();
        }
        Format::Two => {
            for (old, _) in place::manifests(folder).unwrap() {
                std::fs::remove_file(old).unwrap();
            }
            std::fs::write(folder.join(manifest_name(&hash)), &bytes).unwrap();
        }
    }
}

/// The file of a point's manifest.
pub(crate) fn manifest_of(repository: &Repository, folder: &Utf8Path) -> Utf8PathBuf {
    match repository.format() {
        Format::One => folder.join(MANIFEST),
        Format::Two => place::manifests(folder).unwrap().remove(0).0,
    }
}

/// Lets a manifest say that a consistency check failed.
pub(crate) fn fail_a_check(manifest: &mut Manifest) {
    manifest.consistency.checks[0].ok = false;
}

fn parts(writer: &mut PointWriter) -> Result<(), BackupError> {
    base(writer)?;
    writer.json("pg/slots.json", &json!([]))?;
    writer
        .json("pg/publications.json", &json!([{"database": "shop", "publications": [{"name": "dbz", "all_tables": false,
            "insert": true, "update": true, "delete": true, "truncate": true, "via_root": false, "tables": ["public.t"]}]}]))
        ?;
    writer.json("pg/sequences.json", &json!([]))?;
    writer.json("pg/settings.json", &json!([]))?;
    let connector = json!([{"name": "shop", "type": "source", "state": "RUNNING", "tasks": [{"id": 0, "state": "RUNNING"}],
        "config": {"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "database.password": "hunter2"},
        "topics": ["shop.public.t"], "offsets": [{"partition": {"server": "shop"}, "offset": {"lsn": 3146000}}]}]);
    writer.json("connect/connectors.json", &connector)?;
    let record = json!({"topic": "connect-offsets", "kpart": 3, "koffset": 0, "ts": 1795312800000i64,
        "raw_key_b64": "WyJzaG9wIix7InNlcnZlciI6InNob3AifV0=", "raw_value_b64": null});
    writer.json_lines("connect/offsets.jsonl", &[record])?;
    let topic = json!([{"spec": {"name": "shop.public.t", "partitions": 1, "replication": 1,
        "settings": {"cleanup.policy": "compact"}}, "watermarks": [{"partition": 0, "low": 0, "high": 12}]}]);
    writer.json("kafka/topics.json", &topic)?;
    let group = json!([{"name": "sink", "state": "Empty", "members": [],
        "offsets": [{"topic": "shop.public.t", "partition": 0, "offset": 12}]}]);
    writer.json("kafka/groups.json", &group)?;
    let dump = dump();
    writer.json("registry/registry.json", &dump.head())?;
    writer.json_lines("registry/dump.jsonl", &dump.versions)?;
    writer.bytes("registry/native.zip", &import_zip(&dump).unwrap())?;
    Ok(())
}

fn dump() -> Dump {
    let schema = r#"{"type":"record","name":"T","fields":[{"name":"id","type":"int"}]}"#;
    let version = VersionLine {
        subject: Subject::new("shop.public.t-value"),
        version: SubjectVersion(2),
        id: SchemaId(4711),
        global_id: 9000,
        schema_type: "AVRO".into(),
        schema_sha256: sha256(schema.as_bytes()),
        schema: schema.into(),
        references: vec![],
        state: VersionState::Active,
        metadata: None,
        rule_set: None,
        subject_compat: Some("FULL".into()),
        subject_mode: None,
        order: 1,
        created_ms: Some(1_795_312_800_000),
    };
    Dump {
        flavour: "apicurio".into(),
        product_version: "3.3.3".into(),
        id_kind: "contentId".into(),
        global_compat: Some("BACKWARD".into()),
        global_mode: Some("READWRITE".into()),
        subjects: vec![SubjectState { subject: version.subject.clone(), compat: Some("FULL".into()), mode: None }],
        versions: vec![version],
        caps_hit: vec![],
        beyond: vec![],
    }
}

/// The files of the base backup, by name.
pub(crate) const BASE_FILES: [(&str, &[u8]); 3] =
    [("PG_VERSION", b"18\n"), ("base/1/1255", &[7; 8192]), ("backup_label", b"START WAL LOCATION: 0/300028\n")];

fn base(writer: &mut PointWriter) -> Result<(), BackupError> {
    let listed: Vec<serde_json::Value> = BASE_FILES
        .iter()
        .map(|(path, bytes)| {
            json!({"Path": path, "Size": bytes.len(), "Checksum-Algorithm": "SHA256", "Checksum": sha256(bytes)})
        })
        .collect();
    let ranges = json!([{"Timeline": 1, "Start-LSN": "0/300028", "End-LSN": "0/400120"}]);
    let manifest = json!({"PostgreSQL-Backup-Manifest-Version": 2, "Files": listed, "WAL-Ranges": ranges}).to_string();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o700);
    header.set_size(0);
    tar.append_data(&mut header.clone(), "base/1", std::io::empty()).unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    for (path, bytes) in BASE_FILES.into_iter().chain([("backup_manifest", manifest.as_bytes())]) {
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header.clone(), path, bytes).unwrap();
    }
    let raw = tar.into_inner().unwrap();
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&raw).unwrap();
    let stored = encoder.finish().unwrap();
    let path = "pg/base.tar.zst";
    let place = writer.place(path)?;
    let is_encrypted = writer.store().seal().is_on();
    let stored = writer.store().write_content(&place, &stored)?.into_owned();
    writer.note(FileEntry {
        path: path.into(),
        size: stored.len() as u64,
        sha256: sha256(&stored),
        raw_size: Some(raw.len() as u64),
        raw_sha256: (!is_encrypted).then(|| sha256(&raw)),
    });
    writer.bytes("pg/backup_manifest", manifest.as_bytes())
}

fn manifest(point: &PointId, files: Vec<FileEntry>) -> Manifest {
    let schema_history = SchemaHistory { present: false, reason: Some("none named".into()), topics: vec![] };
    Manifest {
        format: Format::NEWEST.number(),
        point: point.clone(),
        chain: None,
        pipeline: Origin::default(),
        kind: Kind::Full,
        status: "complete".into(),
        tool: Tool { name: "cdc-drill".into(), version: "0.1.0".into() },
        window: Window {
            begin: "2026-11-22T02:00:00.012Z".into(),
            end: "2026-11-22T02:00:01.4Z".into(),
            clock: ClockOf::Server,
        },
        clock_skew_ms: [("pg".to_owned(), 3)].into(),
        pg: Part::Present(postgres()),
        connect: Part::Present(ConnectFacts {
            cluster_id: Some("abc".into()),
            version: Some("4.3.1".into()),
            connectors: 1,
            offset_records: Some(1),
            offset_records_absent: None,
            offsets_max_lsn: Some(Lsn(3_146_000)),
            schema_history,
        }),
        registry: Part::Present(RegistryFacts {
            flavour: "apicurio".into(),
            version: "3.3.3".into(),
            id_kind: "contentId".into(),
            subjects: 1,
            versions: 1,
            soft_deleted: 0,
            max_id: Some(4711),
            birth: None,
            global_compat: Some("BACKWARD".into()),
            global_mode: Some("READWRITE".into()),
            caps_hit: vec![],
        }),
        kafka: Part::Present(KafkaFacts {
            cluster_id: Some("abc".into()),
            data: "none".into(),
            records: Vec::new(),
            topics: 1,
            groups: 1,
            gaps: vec![],
        }),
        consistency: Consistency {
            checks: vec![ConsistencyCheck {
                id: "offset_lsn<=stop_lsn".into(),
                ok: true,
                detail: "shop at 0/300130, backup consistent from 0/400120".into(),
            }],
        },
        bytes: files.iter().map(|f| f.size).sum(),
        files,
    }
}

fn postgres() -> PostgresFacts {
    PostgresFacts {
        system_id: SYSTEM,
        version: Version(180_006),
        timeline: Timeline::FIRST,
        history_sha256: None,
        start_lsn: Lsn(0x30_0028),
        stop_lsn: Lsn(0x40_0120),
        start_wal: segment(3).to_string(),
        stop_wal: segment(4).to_string(),
        wal_required: NEEDED.map(|n| segment(n).to_string()).collect(),
        segment_bytes: size().bytes(),
        restore_point: format!("cdc_{POINT}"),
        restore_point_lsn: RESTORE_POINT_LSN,
        data_checksums: true,
        adds_to: None,
        base_files: BASE_FILES.len() as u64 + 1,
        base_raw_bytes: 12_800,
        databases: vec!["shop".into()],
        slots: vec![],
        clock: None,
        folder: None,
        config_file: None,
    }
}

/// An address in a bucket of its own, in memory.
pub(crate) fn bucket() -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{IN_MEMORY}{:032x}/repository", rand::random::<u128>()))
}

/// A copy in a bucket of a repository in a folder.
pub(crate) fn in_a_bucket(folder: &Utf8Path) -> Utf8PathBuf {
    let root = bucket();
    let store = files::Store::new(&root).unwrap();
    // Which a bucket has no use for.
    for name in tree(folder).into_iter().filter(|name| name != "locks/.guard") {
        store.write(&root.join(&name), &files::read(&folder.join(&name)).unwrap()).unwrap();
    }
    root
}

/// A version of a subject, as a registry's dump has it; the text stands for its checksum as well.
pub(crate) fn version_line(subject: &str, version: u32, id: u32, text: &str) -> VersionLine {
    VersionLine {
        subject: Subject::new(subject),
        version: SubjectVersion(version),
        id: SchemaId(id),
        global_id: u64::from(id) * 10 + u64::from(version),
        schema_type: "AVRO".into(),
        schema_sha256: text.into(),
        schema: text.into(),
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

/// Every file below a folder, relative to it.
pub(crate) fn tree(folder: &Utf8Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in folder.read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_owned();
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(entry.path()).into_iter().map(|f| format!("{name}/{f}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

/// Changes one bit in the middle of a file.
pub(crate) fn flip(path: &Utf8Path) {
    let mut bytes = files::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Programs behind a prefix that only notes in this folder what it was asked to run: see [`calls`].
pub(crate) fn noting(folder: &Utf8Path) -> Tools {
    let script = folder.join("note.sh");
    std::fs::write(&script, format!("echo \"$@\" >> {folder}/calls\n")).unwrap();
    Tools::here("/pg/bin".into()).behind(format!("sh {script}"), folder.to_owned())
}

/// What was run behind the prefix of [`noting`], a line each.
pub(crate) fn calls(folder: &Utf8Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
