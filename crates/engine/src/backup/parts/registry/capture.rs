//! Reading a registry's content.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::{
    Archive, ArchivedVersion, Dump, SubjectState, VersionLine, VersionState, confluent, export::references_of, read_zip,
};
use crate::backup::{BackupError, RegistryFacts, format::layout, hash::sha256, writer::PointWriter};
use cdc_model::units::{SchemaId, Subject, SubjectVersion, counted};
use cdc_pipeline::{
    client::{
        ClientError,
        registry::{Reference, Registry},
    },
    config::{Config, RegistryFlavour},
};

/// Apicurio answers at most 500 of anything in one page.
const PAGE: usize = 500;
/// Questions that are asked at the same time: a registry of a thousand subjects is asked four thousand.
const AT_ONCE: usize = 8;
/// Schemas registered while the registry is read make dump and export differ: those subjects are read again. A registry
/// that changes all the time is captured as it was, and the point says that the two differ.
const ATTEMPTS: usize = 3;

/// Where the texts of schemas come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    /// One question for each, so that dump and export are two witnesses.
    Asked,
    /// From the export, as far as it has them: half of all questions less.
    Exported,
}

/// Captures the registry into a point: the dump, and Apicurio's own export beside it. Returns the facts and whether the
/// two hold the same.
pub(crate) async fn capture_into(config: &Config, writer: &mut PointWriter) -> Result<Captured, BackupError> {
    let registry = Registry::of(&config.registry);
    if registry.flavour() == RegistryFlavour::Confluent {
        let dump = confluent::capture(&registry, |_| true).await?;
        let agreement = confluent::agreement(&registry, &dump).await?;
        writer.json(layout::REGISTRY, &dump.head())?;
        writer.json_lines(layout::VERSIONS, &dump.versions)?;
        return Ok(Captured::of(&dump, agreement));
    }
    let mut dump = head(&registry).await?;
    let mut export = read(&registry, &mut dump, Texts::Asked, |_| true).await?;
    let mut differing = differences(&dump, &export.archive);
    for _ in 1..ATTEMPTS {
        if differing.is_empty() {
            break;
        }
        export = read(&registry, &mut dump, Texts::Asked, |subject| differing.contains_key(subject)).await?;
        differing = differences(&dump, &export.archive);
    }
    dump.caps_hit.clone_from(&export.archive.caps);
    let agreement = match differing.into_values().next() {
        None => Ok(format!("{} in both", counted(dump.versions.len(), "version"))),
        Some(difference) => Err(difference),
    };
    writer.json(layout::REGISTRY, &dump.head())?;
    writer.json_lines(layout::VERSIONS, &dump.versions)?;
    writer.bytes(layout::EXPORT, &export.zip)?;
    Ok(Captured::of(&dump, agreement))
}

/// What was captured of a registry.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) facts: RegistryFacts,
    /// Whether the registry's own export holds the same; what was compared, or a difference.
    pub(crate) agreement: Result<String, String>,
    /// The ids as they stand in records.
    pub(crate) ids: BTreeSet<SchemaId>,
}

impl Captured {
    fn of(dump: &Dump, agreement: Result<String, String>) -> Captured {
        Captured { facts: facts(dump), agreement, ids: dump.ids().into_keys().collect() }
    }
}

fn facts(dump: &Dump) -> RegistryFacts {
    RegistryFacts {
        flavour: dump.flavour.clone(),
        version: dump.product_version.clone(),
        id_kind: dump.id_kind.clone(),
        subjects: dump.versions.iter().map(|v| &v.subject).collect::<BTreeSet<_>>().len() as u64,
        versions: dump.versions.len() as u64,
        soft_deleted: dump.versions.iter().filter(|v| v.state == VersionState::SoftDeleted).count() as u64,
        max_id: dump.versions.iter().map(|v| dump.record_id(v).0).max(),
        birth: dump.birth(),
        global_compat: dump.global_compat.clone(),
        global_mode: dump.global_mode.clone(),
        caps_hit: dump.caps_hit.clone(),
    }
}

/// The subjects of which the export archive does not hold the versions of the dump, each with one difference in words.
fn differences(dump: &Dump, archive: &Archive) -> BTreeMap<Subject, String> {
    let archived: BTreeSet<ArchivedVersion> = archive.versions.iter().cloned().collect();
    let dumped: BTreeSet<ArchivedVersion> = dump.versions.iter().map(ArchivedVersion::from).collect();
    let told = |v: &ArchivedVersion, here: &str, lacking: &str| {
        (v.subject.clone(), format!("{} v{} is in the {here} and not in the {lacking}", v.subject, v.version))
    };
    let first = dumped.difference(&archived).map(|v| told(v, "dump", "export"));
    first.chain(archived.difference(&dumped).map(|v| told(v, "export", "dump"))).collect()
}

/// Reads everything a registry holds.
pub async fn capture(registry: &Registry) -> Result<Dump, BackupError> {
    if registry.flavour() == RegistryFlavour::Confluent {
        return confluent::capture(registry, |_| true).await;
    }
    let mut dump = head(registry).await?;
    let export = read(registry, &mut dump, Texts::Exported, |_| true).await?;
    (dump.beyond, dump.caps_hit) = (export.archive.beyond, export.archive.caps);
    Ok(dump)
}

/// Reads what a registry holds of the wanted subjects, and what it says of itself. A registry of thousands of subjects
/// takes seconds to read.
pub async fn capture_where(registry: &Registry, wanted: impl Fn(&Subject) -> bool) -> Result<Dump, BackupError> {
    if registry.flavour() == RegistryFlavour::Confluent {
        return confluent::capture(registry, wanted).await;
    }
    let mut dump = head(registry).await?;
    read(registry, &mut dump, Texts::Exported, &wanted).await?;
    Ok(dump)
}

/// What a registry says of itself.
async fn head(registry: &Registry) -> Result<Dump, BackupError> {
    let info = registry.info().await?;
    Ok(Dump {
        flavour: "apicurio".into(),
        product_version: info["version"].as_str().unwrap_or("unknown").to_owned(),
        id_kind: id_kind(registry).await?,
        global_compat: registry.global_level().await?,
        global_mode: Some(registry.global_mode().await?),
        subjects: Vec::new(),
        versions: Vec::new(),
        caps_hit: Vec::new(),
        beyond: Vec::new(),
    })
}

/// The registry's own export.
struct Export {
    zip: Vec<u8>,
    archive: Archive,
}

impl Export {
    async fn of(registry: &Registry) -> Result<Export, BackupError> {
        let zip = registry.export().await?;
        let archive = read_zip(&zip)
            .map_err(|e| ClientError::answer("registry", registry.url(), "native export", "a zip archive", e))?;
        Ok(Export { zip, archive })
    }
}

/// Reads these subjects into the dump, in the place of what it holds of them. Versions are asked for; levels and references
/// are taken from the export, as asking costs two requests a subject, and a level set for a subject that does not exist
/// shows nowhere else.
async fn read(
    registry: &Registry,
    dump: &mut Dump,
    from: Texts,
    wanted: impl Fn(&Subject) -> bool,
) -> Result<Export, BackupError> {
    dump.subjects.retain(|s| !wanted(&s.subject));
    dump.versions.retain(|v| !wanted(&v.subject));
    let global_mode = dump.global_mode.clone().unwrap_or_default();
    let there = subjects(registry).await?;
    let listed = pages(registry, "/search/versions?groupId=default&orderby=globalId&", "versions").await?;
    let looks = there.into_iter().filter(|s| wanted(s)).map(|subject| {
        let global_mode = &global_mode;
        async move {
            let mode = subject_mode(registry, &subject, global_mode).await?;
            Ok::<_, BackupError>((subject.clone(), SubjectState { subject, compat: None, mode }))
        }
    });
    let mut states: BTreeMap<Subject, SubjectState> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
    let export = Export::of(registry).await?;
    for (subject, level) in export.archive.levels.iter().filter(|(subject, _)| wanted(subject)) {
        let state = SubjectState { subject: subject.clone(), compat: None, mode: None };
        states.entry(subject.clone()).or_insert(state).compat = Some(level.clone());
    }
    for value in &listed {
        let subject = value["artifactId"].as_str().map(Subject::new);
        let Some(state) = subject.and_then(|subject| states.get(&subject)) else { continue };
        // One that is no number is beyond what a subject can have: the export has it.
        dump.versions.extend(version(state, value));
    }
    dump.subjects.extend(states.into_values());
    texts(registry, dump, from, &export.archive).await?;
    dump.subjects.sort_by(|a, b| a.subject.cmp(&b.subject));
    dump.versions.sort_by_key(|v| v.global_id);
    for (order, version) in (1..).zip(&mut dump.versions) {
        version.order = order;
    }
    Ok(export)
}

/// Every subject, soft-deleted ones included. Confluent's list is capped without saying so; Apicurio's is paged.
async fn subjects(registry: &Registry) -> Result<BTreeSet<Subject>, BackupError> {
    let artifacts = pages(registry, "/groups/default/artifacts?", "artifacts").await?;
    let mut subjects: BTreeSet<Subject> =
        artifacts.iter().filter_map(|a| a["artifactId"].as_str()).map(Subject::new).collect();
    subjects.extend(registry.subjects(true).await?);
    Ok(subjects)
}

/// Reads a paged list to its end. `path` ends where the page is said.
async fn pages(registry: &Registry, path: &str, key: &str) -> Result<Vec<Value>, BackupError> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let page = format!("{path}limit={PAGE}&offset={}", all.len());
        let answer = registry.native(reqwest::Method::GET, &page, None).await?;
        let items = answer[key].as_array().cloned().unwrap_or_default();
        let done = items.len() < PAGE;
        all.extend(items);
        if done {
            return Ok(all);
        }
    }
}

async fn id_kind(registry: &Registry) -> Result<String, BackupError> {
    let path = "/admin/config/properties/apicurio.ccompat.legacy-id-mode.enabled";
    let legacy = match registry.native(reqwest::Method::GET, path, None).await {
        Ok(value) => value["value"] == "true",
        // Servers before 3.0 and servers with closed administration do not say; content ids are the default.
        Err(e) if e.status().is_some() => false,
        Err(e) => return Err(e.into()),
    };
    Ok(if legacy { "globalId" } else { "contentId" }.to_owned())
}

/// The API answers the global mode for a subject that has none: only a different one can be told.
async fn subject_mode(registry: &Registry, subject: &Subject, global: &str) -> Result<Option<String>, BackupError> {
    let mode = registry.subject_mode(subject).await?;
    Ok(mode.filter(|mode| mode != global))
}

/// A version as it is listed; none where Confluent's API could not name it.
fn version(state: &SubjectState, value: &Value) -> Option<VersionLine> {
    let version = value["version"].as_str().and_then(|version| version.parse().ok())?;
    Some(VersionLine {
        subject: state.subject.clone(),
        version: SubjectVersion(version),
        id: SchemaId(value["contentId"].as_u64().unwrap_or_default() as u32),
        global_id: value["globalId"].as_u64().unwrap_or_default(),
        schema_type: value["artifactType"].as_str().unwrap_or("AVRO").to_owned(),
        schema_sha256: String::new(),
        schema: String::new(),
        references: Vec::new(),
        state: match value["state"].as_str() {
            Some("DISABLED") => VersionState::SoftDeleted,
            Some("DEPRECATED") => VersionState::Deprecated,
            Some("DRAFT") => VersionState::Draft,
            _ => VersionState::Active,
        },
        metadata: None,
        rule_set: None,
        subject_compat: state.compat.clone(),
        subject_mode: state.mode.clone(),
        order: 0,
        created_ms: value["createdOn"]
            .as_str()
            .and_then(|t| t.parse::<jiff::Timestamp>().ok())
            .map(|t| t.as_millisecond()),
    })
}

/// Fills in the texts and references, each content once: many versions may share one.
async fn texts(registry: &Registry, dump: &mut Dump, from: Texts, archive: &Archive) -> Result<(), BackupError> {
    let ids: BTreeSet<SchemaId> = dump.versions.iter().filter(|v| v.schema.is_empty()).map(|v| v.id).collect();
    let contents = ids.into_iter().map(|id| async move {
        let exported = archive.texts.get(&id).filter(|_| from == Texts::Exported);
        let text = match exported {
            Some(text) => Some(text.clone()),
            // The content of a draft is not given out by its id; the export has it.
            None => registry.content(u64::from(id.0)).await?.or_else(|| archive.texts.get(&id).cloned()),
        };
        let Some(text) = text else { return Ok::<_, BackupError>((id, None)) };
        let references = match archive.references.get(&id) {
            Some(archived) => Some(archived.clone()),
            // Another replica of the registry may have made the export, and lag behind.
            None => references(registry, id).await?,
        };
        Ok((id, references.map(|references| (text, references))))
    });
    let contents: BTreeMap<SchemaId, Option<(String, Vec<Reference>)>> =
        stream::iter(contents).buffered(AT_ONCE).try_collect().await?;
    forget_deleted(registry, dump, |id| contents.get(&id).is_some_and(Option::is_none)).await?;
    for version in &mut dump.versions {
        if let Some(Some((text, references))) = contents.get(&version.id) {
            version.schema_sha256 = sha256(text.as_bytes());
            version.schema.clone_from(text);
            version.references.clone_from(references);
        }
    }
    Ok(())
}

/// What a content refers to; none when there is no such content.
async fn references(registry: &Registry, id: SchemaId) -> Result<Option<Vec<Reference>>, BackupError> {
    match registry.native(reqwest::Method::GET, &format!("/ids/contentIds/{id}/references"), None).await {
        Ok(list) => Ok(Some(references_of(&list))),
        Err(e) if e.status() == Some(404) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Versions deleted for good since they were listed have no content any more, and leave the dump; one that is still there
/// and has none is an error.
async fn forget_deleted(
    registry: &Registry,
    dump: &mut Dump,
    without_content: impl Fn(SchemaId) -> bool,
) -> Result<(), BackupError> {
    for at in (0..dump.versions.len()).rev() {
        let line = &dump.versions[at];
        if !without_content(line.id) {
            continue;
        }
        if registry.version(&line.subject, line.version, true).await?.is_some() {
            let what = format!("content {} of {} version {}", line.id, line.subject, line.version);
            return Err(ClientError::answer("registry", registry.url(), what, "a schema", "not found").into());
        }
        let subject = dump.versions.remove(at).subject;
        if !dump.versions.iter().any(|v| v.subject == subject) {
            dump.subjects.retain(|s| s.subject != subject);
        }
    }
    Ok(())
}
