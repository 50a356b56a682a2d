//! The bytes of a record: which converter wrote them, and JSON.

use serde_json::Value;

use super::event::{Unreadable, unreadable};
use crate::decode::{repr::Raw, settings::Converter};
use cdc_model::units::{SchemaId, counted};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Avro,
    Json,
}

pub(super) fn wire(converter: Converter, bytes: &[u8]) -> Result<Wire, Unreadable> {
    match (converter, bytes.first()) {
        (Converter::Avro { .. } | Converter::Worker, Some(0)) => Ok(Wire::Avro),
        (Converter::Avro { .. }, first) => Err(Unreadable {
            schema: None,
            wrong_schema: true,
            expected: "magic byte 0 and four bytes of schema id".into(),
            found: first.map_or("no bytes".into(), |b| format!("first byte {b}")),
        }),
        _ => Ok(Wire::Json),
    }
}

pub(super) fn split(bytes: &[u8]) -> Result<(SchemaId, &[u8]), Unreadable> {
    match bytes {
        [0, a, b, c, d, datum @ ..] => Ok((SchemaId(u32::from_be_bytes([*a, *b, *c, *d])), datum)),
        _ => Err(Unreadable {
            schema: None,
            wrong_schema: true,
            expected: "magic byte 0 and four bytes of schema id".into(),
            found: counted(bytes.len(), "byte"),
        }),
    }
}

pub(super) fn json(bytes: &[u8]) -> Result<Value, Unreadable> {
    serde_json::from_slice(bytes).map_err(|e| unreadable("JSON", e.to_string()))
}

pub(super) fn raw_of(value: &Value) -> Raw<'_> {
    match value {
        Value::Null => Raw::Null,
        Value::Bool(truth) => Raw::Bool(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(int) => Raw::Int(int),
            None => Raw::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Raw::Str(text),
        Value::Array(values) => Raw::Array(values.iter().map(raw_of).collect()),
        Value::Object(fields) => Raw::Struct(fields.iter().map(|(n, v)| (n.as_str(), raw_of(v))).collect()),
    }
}
