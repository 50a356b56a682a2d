//! The schema ids that stand in records, and whether a registry knows them as what they meant.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    batch::Record,
    manifest::{SchemaMeaning, Schemas},
};
use crate::backup::hash::sha256;
use cdc_model::units::{SchemaId, counted};
use cdc_pipeline::client::{ClientError, registry::Registry};

/// More distinct ids than a registry has: the bytes are something else.
const IDS_MAX: usize = 10_000;

/// The schema id that a key or value begins with: a zero byte and four more.
pub(crate) fn id_in(bytes: &[u8]) -> Option<SchemaId> {
    match bytes {
        [0, a, b, c, d, ..] => Some(SchemaId(u32::from_be_bytes([*a, *b, *c, *d]))),
        _ => None,
    }
}

/// Headers in which serialisers name a schema instead.
fn names_a_schema(header: &str) -> bool {
    matches!(header, "__key_schema_id" | "__value_schema_id")
        || header.strip_prefix("apicurio.").is_some_and(|rest| rest.starts_with("key.") || rest.starts_with("value."))
}

/// What is met while records pass.
#[derive(Debug, Default)]
pub(crate) struct Met {
    pub(crate) ids: BTreeSet<SchemaId>,
    pub(crate) beyond: bool,
    pub(crate) headers: BTreeSet<String>,
}

impl Met {
    pub(crate) fn see(&mut self, record: &Record) {
        for id in [&record.key, &record.value].into_iter().flatten().filter_map(|bytes| id_in(bytes)) {
            match self.ids.len() < IDS_MAX || self.ids.contains(&id) {
                true => drop(self.ids.insert(id)),
                false => self.beyond = true,
            }
        }
        for (header, _) in record.headers.iter().filter(|(header, _)| names_a_schema(header)) {
            if !self.headers.contains(header) {
                self.headers.insert(header.clone());
            }
        }
    }

    /// Asks the registry what the ids mean that are not known from `earlier`. One that does not answer is noted.
    pub(crate) async fn with_meaning(self, earlier: Schemas, registry: &Registry, notes: &mut Vec<String>) -> Schemas {
        let mut ids = earlier.ids;
        let beyond = earlier.beyond || self.beyond;
        let mut silent = None;
        for id in self.ids {
            if matches!(ids.get(&id), Some(SchemaMeaning::Schema(_))) {
                continue;
            }
            let meaning = match (&silent, beyond) {
                (Some(_), _) | (_, true) => SchemaMeaning::NotAsked,
                (None, false) => meaning_of(registry, id).await.unwrap_or_else(|error| {
                    silent = Some(error);
                    SchemaMeaning::NotAsked
                }),
            };
            ids.insert(id, meaning);
        }
        if let Some(error) = silent {
            notes.push(format!("what schema ids mean is not known: {error}"));
        }
        let headers: BTreeSet<String> = earlier.headers.into_iter().chain(self.headers).collect();
        Schemas { ids, beyond, headers: headers.into_iter().collect() }
    }
}

async fn meaning_of(registry: &Registry, id: SchemaId) -> Result<SchemaMeaning, ClientError> {
    Ok(registry.schema(id).await?.map_or(SchemaMeaning::Unknown, |text| SchemaMeaning::Schema(checksum(&text))))
}

/// The checksum of a schema, whatever the order of keys and the white space of its JSON.
fn checksum(schema: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(schema) {
        Ok(mut value) => {
            value.sort_all_objects();
            sha256(value.to_string().as_bytes())
        }
        Err(_) => sha256(schema.trim().as_bytes()),
    }
}

/// What a registry says to the ids in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Ids that mean nothing or something else there, each with what was expected and found.
    pub(crate) wrong: Vec<String>,
    /// What was not compared.
    pub(crate) notes: Vec<String>,
}

/// Compares what ids meant with what they mean.
pub(crate) fn judge(archived: &Schemas, now: &BTreeMap<SchemaId, SchemaMeaning>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut never_known = 0_u64;
    for (id, then) in &archived.ids {
        match (then, now.get(id).unwrap_or(&SchemaMeaning::NotAsked)) {
            // Bytes that look like an id, or one that was lost before: the replay makes nothing worse.
            (SchemaMeaning::Unknown, _) => never_known += 1,
            (_, SchemaMeaning::Unknown) => verdict.wrong.push(format!("schema id {id}: the registry does not know it")),
            (SchemaMeaning::Schema(then), SchemaMeaning::Schema(now)) if then != now => {
                verdict.wrong.push(format!("schema id {id}: another schema now"));
            }
            _ => {}
        }
    }
    if never_known > 0 {
        let ids = counted(never_known, "possible schema id");
        verdict
            .notes
            .push(format!("{ids} in the records, unknown to the registry when the backup was made: not compared"));
    }
    if archived.beyond {
        verdict.notes.push("more possible schema ids in the records than any registry has: not compared".to_owned());
    }
    if !archived.headers.is_empty() {
        let headers = archived.headers.join(", ");
        verdict.notes.push(format!("schemas that headers name ({headers}) were not compared with the registry"));
    }
    verdict
}

/// Asks a registry what the ids in an archive mean there.
pub(crate) async fn compare(archived: &Schemas, registry: &Registry) -> Result<Verdict, ClientError> {
    let mut now = BTreeMap::new();
    if !archived.beyond {
        for (id, _) in archived.ids.iter().filter(|(_, then)| **then != SchemaMeaning::Unknown) {
            now.insert(*id, meaning_of(registry, *id).await?);
        }
    }
    Ok(judge(archived, &now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::topics::segment::tests::record;

    #[test]
    fn ids_are_met_in_keys_and_values_and_headers_are_named() {
        let mut met = Met::default();
        let mut with = record(0, "plain");
        with.key = Some(vec![0, 0, 0, 1, 2, 9]);
        with.value = Some(vec![0, 0, 0, 0, 7]);
        with.headers = vec![("apicurio.value.globalId".into(), None), ("other".into(), None)];
        met.see(&with);
        met.see(&record(1, "plain"));
        assert_eq!(met.ids, [SchemaId(7), SchemaId(258)].into());
        assert_eq!(met.headers, ["apicurio.value.globalId".to_owned()].into());
        assert_eq!(id_in(&[0, 0, 0, 1]), None);
    }

    #[test]
    fn an_id_must_mean_what_it_meant() {
        use SchemaMeaning::*;
        let schema = |text: &str| Schema(checksum(text));
        let ids = |all: &[(u32, SchemaMeaning)]| all.iter().map(|(id, m)| (SchemaId(*id), m.clone())).collect();
        let then = Schemas {
            ids: ids(&[
                (1, schema(r#"{"a":1,"b":2}"#)),
                (2, schema("{}")),
                (3, schema("[]")),
                (4, Unknown),
                (5, NotAsked),
            ]),
            ..Schemas::default()
        };
        let now =
            ids(&[(1, schema(r#"{"b": 2, "a": 1}"#)), (2, schema("[]")), (3, Unknown), (4, Unknown), (5, Unknown)]);
        let verdict = judge(&then, &now);
        let wrong = "schema id 2: another schema now; schema id 3: the registry does not know it; schema id 5: the registry \
                     does not know it";
        assert_eq!(verdict.wrong.join("; "), wrong);
        assert_eq!(verdict.notes.len(), 1, "id 4 is told: {:?}", verdict.notes);
    }

    #[test]
    fn what_is_no_schema_id_is_not_asked_for() {
        let mut met = Met::default();
        for number in 0..=IDS_MAX as u32 {
            let mut with = record(i64::from(number), "x");
            with.key = Some([&[0], number.to_be_bytes().as_slice()].concat());
            met.see(&with);
        }
        assert!(met.beyond);
        let notes = judge(&Schemas { beyond: true, ..Schemas::default() }, &BTreeMap::new()).notes;
        assert_eq!(notes.len(), 1);
    }
}
