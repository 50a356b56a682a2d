//! Just enough of the record formats to write a delete: Avro in Confluent's wire format, and JSON with or without schema.

use std::collections::HashMap;

use apache_avro::{
    AvroResult, Schema, reader::datum::GenericDatumReader, types::Value as Avro, writer::datum::GenericDatumWriter,
};
use serde_json::Value as Json;

use crate::recovery::RecoveryError;
use cdc_model::units::SchemaId;
use cdc_pipeline::client::registry::Registry;

/// The layout of a key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A zero byte, the schema id in four bytes, Avro.
    Avro(SchemaId),
    /// Text.
    Json,
}

impl Shape {
    /// Tells the layouts apart: JSON text never begins with a zero byte.
    pub(crate) fn of(bytes: &[u8]) -> Shape {
        match bytes {
            [0, a, b, c, d, ..] => Shape::Avro(SchemaId(u32::from_be_bytes([*a, *b, *c, *d]))),
            _ => Shape::Json,
        }
    }

    /// The bytes without the schema id.
    pub(crate) fn payload(bytes: &[u8]) -> &[u8] {
        match Shape::of(bytes) {
            Shape::Avro(_) => &bytes[5..],
            Shape::Json => bytes,
        }
    }
}

/// Reads and writes records; keeps the schemas it has seen.
pub(crate) struct Codec {
    registry: Registry,
    schemas: HashMap<SchemaId, Schema>,
}

impl Codec {
    pub(crate) fn new(registry: Registry) -> Codec {
        Codec { registry, schemas: HashMap::new() }
    }

    /// The key's columns, by name, as text.
    pub(crate) async fn key_columns(&mut self, key: &[u8], names: &[&str]) -> Result<Vec<String>, RecoveryError> {
        let missing = |name: &str| unreadable(format!("key column {name}"), "a value", "none");
        match Shape::of(key) {
            Shape::Avro(id) => {
                let Avro::Record(fields) = self.decode(id, key).await? else {
                    return Err(unreadable(format!("key of schema {id}"), "a record", "another type"));
                };
                let find = |name: &&str| fields.iter().find(|(n, _)| n == name).and_then(|(_, v)| text_of(v));
                names.iter().map(|name| find(name).ok_or_else(|| missing(name))).collect()
            }
            Shape::Json => {
                let json = parse(key)?;
                let fields = content(&json);
                let find = |name: &&str| match fields.get(*name)? {
                    Json::String(s) => Some(s.clone()),
                    Json::Null => None,
                    other => Some(other.to_string()),
                };
                names.iter().map(|name| find(name).ok_or_else(|| missing(name))).collect()
            }
        }
    }

    /// Whether a value is Debezium's delete event.
    pub(crate) async fn is_delete(&mut self, value: &[u8]) -> Result<bool, RecoveryError> {
        match Shape::of(value) {
            Shape::Avro(id) => {
                let Avro::Record(fields) = self.decode(id, value).await? else { return Ok(false) };
                Ok(fields.iter().any(|(n, v)| n == "op" && text_of(v).as_deref() == Some("d")))
            }
            Shape::Json => {
                let json = parse(value)?;
                Ok(content(&json)["op"] == "d")
            }
        }
    }

    /// A delete event for the row that a value shows, under the same schema; `None` where values are bare rows and the
    /// tombstone says it all.
    pub(crate) async fn delete_event(&mut self, value: &[u8]) -> Result<Option<Vec<u8>>, RecoveryError> {
        match Shape::of(value) {
            Shape::Avro(id) => {
                let decoded = self.decode(id, value).await?;
                let Some(deleted) = deleted(decoded) else { return Ok(None) };
                let schema = self.schema(id).await?;
                let datum = write(schema, deleted)
                    .map_err(|e| unreadable(format!("delete event of schema {id}"), "Avro", e.to_string()))?;
                Ok(Some([&value[..5], &datum].concat()))
            }
            Shape::Json => {
                let mut json = parse(value)?;
                let envelope = match has_schema(&json) {
                    true => &mut json["payload"],
                    false => &mut json,
                };
                if envelope.get("op").is_none() {
                    return Ok(None);
                }
                envelope["before"] = envelope["after"].take();
                envelope["op"] = Json::from("d");
                Ok(Some(json.to_string().into_bytes()))
            }
        }
    }

    async fn decode(&mut self, id: SchemaId, bytes: &[u8]) -> Result<Avro, RecoveryError> {
        let schema = self.schema(id).await?;
        read(schema, &bytes[5..])
            .map_err(|e| unreadable(format!("record of schema {id}"), "Avro of that schema", e.to_string()))
    }

    async fn schema(&mut self, id: SchemaId) -> Result<&Schema, RecoveryError> {
        if !self.schemas.contains_key(&id) {
            let text = self.registry.schema(id).await?;
            let text = text.ok_or_else(|| unreadable(format!("schema {id}"), "a schema in the registry", "none"))?;
            let schema = Schema::parse_str(&text)
                .map_err(|e| unreadable(format!("schema {id}"), "an Avro schema", e.to_string()))?;
            self.schemas.insert(id, schema);
        }
        self.schemas.get(&id).ok_or_else(|| unreadable(format!("schema {id}"), "a schema", "none"))
    }
}

/// Whether JSON has its schema beside it: an object of these two members alone, the schema with a type or null. A row may have
/// columns of these names.
fn has_schema(json: &Json) -> bool {
    let Some(members) = json.as_object().filter(|members| members.len() == 2) else { return false };
    let schema = members.get("schema").is_some_and(|schema| schema.is_null() || schema.get("type").is_some());
    schema && members.contains_key("payload")
}

/// What a record's JSON says, without its schema.
fn content(json: &Json) -> &Json {
    if has_schema(json) { &json["payload"] } else { json }
}

fn read(schema: &Schema, mut datum: &[u8]) -> AvroResult<Avro> {
    GenericDatumReader::builder(schema).build()?.read_value(&mut datum)
}

fn write(schema: &Schema, value: Avro) -> AvroResult<Vec<u8>> {
    GenericDatumWriter::builder(schema).build()?.write_value_to_vec(value)
}

/// Debezium's envelope turned into a delete of the row it shows.
fn deleted(value: Avro) -> Option<Avro> {
    let Avro::Record(mut fields) = value else { return None };
    let place = |fields: &[(String, Avro)], name: &str| fields.iter().position(|(n, _)| n == name);
    let (before, after, op) = (place(&fields, "before")?, place(&fields, "after")?, place(&fields, "op")?);
    let row = std::mem::replace(&mut fields[after].1, Avro::Union(0, Box::new(Avro::Null)));
    fields[before].1 = row;
    fields[op].1 = Avro::String("d".into());
    Some(Avro::Record(fields))
}

fn text_of(value: &Avro) -> Option<String> {
    match value {
        Avro::Union(_, inner) => text_of(inner),
        Avro::Int(i) => Some(i.to_string()),
        Avro::Long(i) => Some(i.to_string()),
        Avro::Boolean(b) => Some(b.to_string()),
        Avro::String(s) | Avro::Enum(_, s) => Some(s.clone()),
        Avro::Uuid(u) => Some(u.to_string()),
        _ => None,
    }
}

fn parse(bytes: &[u8]) -> Result<Json, RecoveryError> {
    serde_json::from_slice(bytes)
        .map_err(|e| unreadable("record", "Avro in Confluent's wire format, or JSON", e.to_string()))
}

fn unreadable(what: impl Into<String>, expected: &str, found: impl Into<String>) -> RecoveryError {
    RecoveryError::impossible(what, expected, found, "the topic can only be made right by --topics purge")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_pipeline::config::{RegistryConfig, RegistryFlavour};

    const ENVELOPE: &str = r#"{"type":"record","name":"Envelope","namespace":"shop.t","fields":[
        {"name":"before","type":["null",{"type":"record","name":"Value","fields":[{"name":"id","type":"int"},{"name":"note","type":["null","string"],"default":null}]}],"default":null},
        {"name":"after","type":["null","Value"],"default":null},
        {"name":"op","type":"string"}]}"#;

    #[test]
    fn a_delete_event_decodes_with_the_schema_of_the_row_it_deletes() {
        let schema = Schema::parse_str(ENVELOPE).unwrap();
        let row = Avro::Record(vec![
            ("id".into(), Avro::Int(7)),
            ("note".into(), Avro::Union(1, Box::new(Avro::String("x".into())))),
        ]);
        let snapshot = Avro::Record(vec![
            ("before".into(), Avro::Union(0, Box::new(Avro::Null))),
            ("after".into(), Avro::Union(1, Box::new(row.clone()))),
            ("op".into(), Avro::String("r".into())),
        ]);
        let bytes = write(&schema, deleted(snapshot).unwrap()).unwrap();
        let Avro::Record(fields) = read(&schema, &bytes).unwrap() else { panic!() };
        assert_eq!(fields[0].1, Avro::Union(1, Box::new(row)));
        assert_eq!(fields[1].1, Avro::Union(0, Box::new(Avro::Null)));
        assert_eq!(fields[2].1, Avro::String("d".into()));
    }

    #[tokio::test]
    async fn columns_may_have_the_names_of_a_schemas_members() {
        let mut codec =
            Codec::new(Registry::of(&RegistryConfig::plain("http://127.0.0.1:1", RegistryFlavour::Apicurio, None)));
        let bare = br#"{"payload":7,"note":"x"}"#;
        assert_eq!(codec.key_columns(bare, &["payload", "note"]).await.unwrap(), ["7", "x"]);
        assert_eq!(codec.key_columns(br#"{"payload":7}"#, &["payload"]).await.unwrap(), ["7"]);
        let both = br#"{"schema":"s","payload":7}"#;
        assert_eq!(codec.key_columns(both, &["schema", "payload"]).await.unwrap(), ["s", "7"]);
        let with_schema = br#"{"schema":{"type":"struct"},"payload":{"id":7}}"#;
        assert_eq!(codec.key_columns(with_schema, &["id"]).await.unwrap(), ["7"]);
    }

    #[test]
    fn layouts_are_told_apart() {
        assert_eq!(Shape::of(&[0, 0, 0, 1, 2, 9]), Shape::Avro(SchemaId(258)));
        assert_eq!(Shape::payload(&[0, 0, 0, 1, 2, 9]), [9]);
        assert_eq!(Shape::of(b"{\"id\":1}"), Shape::Json);
    }
}
