//! Writer schemas, Avro and Connect JSON, as one compiled form that keeps the Connect names that say what a value means.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use super::repr::Repr;

/// A compiled schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    /// The layout on the wire.
    pub shape: Shape,
    /// What the value means.
    pub repr: Repr,
}

/// The layout of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Nothing.
    Null,
    /// One byte.
    Bool,
    /// A variable-length integer, 32 or 64 bits.
    Int,
    /// Four bytes.
    Float,
    /// Eight bytes.
    Double,
    /// A length and bytes.
    Bytes,
    /// A length and UTF-8.
    Str,
    /// Bytes of this length.
    Fixed(usize),
    /// An index into these symbols.
    Enum(Arc<Vec<String>>),
    /// Blocks of elements.
    Array(Box<Typed>),
    /// Blocks of pairs.
    Map(Box<Typed>),
    /// An index of a branch, then it.
    Union(Vec<Typed>),
    /// Fields in order.
    Record(Arc<Record>),
}

/// A struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its full name.
    pub name: String,
    /// Its fields.
    pub fields: Vec<(String, Typed)>,
}

impl Shape {
    /// What it is, for findings.
    pub fn words(&self) -> String {
        match self {
            Shape::Null => "null".into(),
            Shape::Bool => "a boolean".into(),
            Shape::Int => "an integer".into(),
            Shape::Float => "a float".into(),
            Shape::Double => "a double".into(),
            Shape::Bytes | Shape::Fixed(_) => "bytes".into(),
            Shape::Str => "a string".into(),
            Shape::Enum(_) => "an enum".into(),
            Shape::Array(_) => "an array".into(),
            Shape::Map(_) => "a map".into(),
            Shape::Union(branches) => {
                let branches: Vec<String> = branches.iter().map(|branch| branch.shape.words()).collect();
                format!("one of {}", branches.join(", "))
            }
            Shape::Record(record) => format!("a struct named {}", record.name),
        }
    }
}

impl Typed {
    /// The record itself, or the one behind an optional.
    pub fn record(&self) -> Option<&Arc<Record>> {
        match &self.shape {
            Shape::Record(record) => Some(record),
            Shape::Union(branches) => branches.iter().find_map(Typed::record),
            _ => None,
        }
    }
}

/// Compiles the text of an Avro schema. Apache's own parser judges whether it is one; it drops the attributes that name
/// Connect's types, so the tree is walked here.
///
/// That parser holds every part of a name to `[A-Za-z_][A-Za-z0-9_]*`. Java's takes any letters and digits in a name, and
/// anything in a namespace; the connector's schemas are named after topics, and so live in namespaces such as
/// `b-1.public.2024`. So the parser is shown the schema with every name spelled in what it allows.
pub(crate) fn compile_avro(text: &str) -> Result<Typed, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("not an Avro schema: not JSON: {e}"))?;
    apache_avro::Schema::parse(&spelled(&value)).map_err(|e| format!("not an Avro schema: {e}"))?;
    Avro::default().typed(&value, "")
}

/// A schema whose names are spelled with letters, digits and underscores, different ones differently. Defaults, which may
/// hold names too, are left out: who reads by the writer's schema needs none.
fn spelled(schema: &Value) -> Value {
    match schema {
        Value::String(name) => Value::String(if is_built_in(name) { name.clone() } else { spelled_name(name) }),
        Value::Array(branches) => branches.iter().map(spelled).collect(),
        Value::Object(object) => {
            let named = |name: &Value| name.as_str().map_or_else(|| name.clone(), |n| spelled_name(n).into());
            let listed = |list: &Value, each: &dyn Fn(&Value) -> Value| match list.as_array() {
                Some(items) => items.iter().map(each).collect(),
                None => list.clone(),
            };
            let attributes = object.iter().filter(|(key, _)| !matches!(key.as_str(), "default" | "aliases"));
            let attributes = attributes.map(|(key, value)| {
                let value = match key.as_str() {
                    "type" | "items" | "values" => spelled(value),
                    "name" | "namespace" => named(value),
                    "fields" => listed(value, &spelled),
                    "symbols" => listed(value, &named),
                    _ => value.clone(),
                };
                (key.clone(), value)
            });
            Value::Object(attributes.collect())
        }
        other => other.clone(),
    }
}

fn is_built_in(name: &str) -> bool {
    let complex = ["record", "error", "enum", "array", "map", "fixed"];
    complex.contains(&name) || PRIMITIVES.iter().any(|(primitive, _)| *primitive == name)
}

fn spelled_name(name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    let part = |part: &str| {
        let mut spelling = String::from("n");
        for c in part.chars() {
            match c.is_ascii_alphanumeric() {
                true => spelling.push(c),
                false => spelling.push_str(&format!("_{:x}_", u32::from(c))),
            }
        }
        spelling
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

const PRIMITIVES: [(&str, Shape); 8] = [
    ("null", Shape::Null),
    ("boolean", Shape::Bool),
    ("int", Shape::Int),
    ("long", Shape::Int),
    ("float", Shape::Float),
    ("double", Shape::Double),
    ("bytes", Shape::Bytes),
    ("string", Shape::Str),
];

#[derive(Default)]
struct Avro {
    named: HashMap<String, Typed>,
}

impl Avro {
    fn typed(&mut self, value: &Value, namespace: &str) -> Result<Typed, String> {
        match value {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let branches: Vec<Typed> =
                    branches.iter().map(|b| self.typed(b, namespace)).collect::<Result<_, _>>()?;
                let repr = branches.iter().find(|b| b.shape != Shape::Null).map_or(Repr::Plain, |b| b.repr.clone());
                Ok(Typed { shape: Shape::Union(branches), repr })
            }
            Value::Object(object) => match &object["type"] {
                Value::String(kind) => self.object(value, kind, namespace),
                nested => self.typed(nested, namespace),
            },
            other => Err(format!("unexpected {other} in a schema")),
        }
    }

    fn by_name(&self, name: &str, namespace: &str) -> Result<Typed, String> {
        let Some((_, shape)) = PRIMITIVES.into_iter().find(|(primitive, _)| *primitive == name) else {
            let found = self.named.get(&full_name(name, namespace)).or_else(|| self.named.get(name));
            return found.cloned().ok_or_else(|| format!("type {name} is not defined before its use"));
        };
        Ok(Typed { repr: plain_repr(&shape), shape })
    }

    fn object(&mut self, value: &Value, kind: &str, namespace: &str) -> Result<Typed, String> {
        let own_name = value["name"].as_str().unwrap_or_default();
        let inner_namespace = match (value["namespace"].as_str(), own_name.rsplit_once('.')) {
            (_, Some((space, _))) => space.to_owned(),
            (Some(space), None) => space.to_owned(),
            (None, None) => namespace.to_owned(),
        };
        let full = full_name(own_name, &inner_namespace);
        let shape = match kind {
            "record" | "error" => {
                let mut fields = Vec::new();
                for field in value["fields"].as_array().into_iter().flatten() {
                    let name = field["name"].as_str().ok_or("a field has no name")?;
                    fields.push((name.to_owned(), self.typed(&field["type"], &inner_namespace)?));
                }
                Shape::Record(Arc::new(Record { name: full.clone(), fields }))
            }
            "enum" => {
                let symbols = value["symbols"].as_array().into_iter().flatten();
                Shape::Enum(Arc::new(symbols.filter_map(|s| s.as_str().map(str::to_owned)).collect()))
            }
            "fixed" => Shape::Fixed(value["size"].as_u64().ok_or("a fixed type has no size")? as usize),
            "array" => Shape::Array(Box::new(self.typed(&value["items"], namespace)?)),
            "map" => Shape::Map(Box::new(self.typed(&value["values"], namespace)?)),
            primitive => self.by_name(primitive, namespace)?.shape,
        };
        let repr = avro_repr(value, &shape);
        let typed = Typed { shape, repr };
        if matches!(kind, "record" | "error" | "enum" | "fixed") {
            self.named.insert(full, typed.clone());
        }
        Ok(typed)
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn plain_repr(shape: &Shape) -> Repr {
    match shape {
        Shape::Bytes | Shape::Fixed(_) => Repr::Bytes,
        Shape::Float | Shape::Double => Repr::Double,
        Shape::Array(element) => Repr::Array(Box::new(element.repr.clone())),
        Shape::Record(record) => Repr::Opaque(record.name.clone()),
        _ => Repr::Plain,
    }
}

fn avro_repr(value: &Value, shape: &Shape) -> Repr {
    let scale = || {
        let parameter = value["connect.parameters"]["scale"].as_str().and_then(|s| s.parse().ok());
        parameter.or_else(|| value["scale"].as_i64().map(|s| s as i32))
    };
    let is_struct = matches!(shape, Shape::Record(_));
    match (value["connect.name"].as_str(), value["logicalType"].as_str()) {
        (Some(name), _) => match Repr::named(name, scale(), is_struct) {
            Repr::Plain => plain_repr(shape),
            repr => repr,
        },
        // A converter that writes no Connect names (Confluent's with `connect.meta.data=false`) leaves Avro's own.
        (None, Some("decimal")) => Repr::Decimal(scale().unwrap_or(0)),
        (None, Some("date")) => Repr::Date,
        (None, Some("time-millis")) => Repr::ConnectTime,
        (None, Some("timestamp-millis")) => Repr::ConnectTimestamp,
        (None, Some("time-micros")) => Repr::TimeMicros,
        (None, Some("timestamp-micros")) => Repr::TimestampMicros,
        _ => plain_repr(shape),
    }
}

/// Compiles the `schema` of a Connect JSON envelope.
pub(crate) fn compile_json(value: &Value) -> Result<Typed, String> {
    let kind = value["type"].as_str().ok_or("a schema has no type")?;
    let shape = match kind {
        "boolean" => Shape::Bool,
        "int8" | "int16" | "int32" | "int64" => Shape::Int,
        "float" => Shape::Float,
        "double" => Shape::Double,
        "bytes" => Shape::Bytes,
        "string" => Shape::Str,
        "array" => Shape::Array(Box::new(compile_json(&value["items"])?)),
        "map" => Shape::Map(Box::new(compile_json(&value["values"])?)),
        "struct" => {
            let mut fields = Vec::new();
            for field in value["fields"].as_array().into_iter().flatten() {
                let name = field["field"].as_str().ok_or("a field has no name")?;
                fields.push((name.to_owned(), compile_json(field)?));
            }
            Shape::Record(Arc::new(Record { name: value["name"].as_str().unwrap_or_default().to_owned(), fields }))
        }
        other => return Err(format!("unknown type {other} in a schema")),
    };
    let scale = value["parameters"]["scale"].as_str().and_then(|s| s.parse().ok());
    let repr = match value["name"].as_str() {
        Some(name) => match Repr::named(name, scale, kind == "struct") {
            Repr::Plain => plain_repr(&shape),
            repr => repr,
        },
        None => plain_repr(&shape),
    };
    Ok(Typed { shape, repr })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn record(namespace: &str, name: &str, field: &str) -> String {
        serde_json::json!({
            "type": "record", "name": "Envelope", "namespace": namespace,
            "fields": [
                { "name": "before", "default": null, "type": ["null", {
                    "type": "record", "name": name, "fields": [{ "name": field, "type": "int", "default": 0 }],
                }] },
                { "name": "after", "type": ["null", name], "default": null },
                { "name": "full", "type": format!("{namespace}.{name}") },
            ],
        })
        .to_string()
    }

    #[rstest]
    #[case::hyphen_in_the_prefix("b05-hyphen.public.t", "Value", "id")]
    #[case::digit_first("shop.public.2024_t", "Value", "id")]
    #[case::digit_first_in_the_prefix("5prefix.public.t", "Value", "id")]
    #[case::letters_of_other_scripts("shop.public.tä", "Wért", "größe")]
    #[case::escaped("shop.public.t_u00e4_u002dx", "Value", "a_u002db")]
    #[case::hyphen_in_a_table("shop.public.t_-x", "Value", "id")]
    #[case::a_word_of_avro("shop.public.string", "Value", "record")]
    fn names_that_java_takes_are_taken(#[case] namespace: &str, #[case] name: &str, #[case] field: &str) {
        let compiled = compile_avro(&record(namespace, name, field)).unwrap();
        let envelope = compiled.record().unwrap();
        assert_eq!(envelope.name, format!("{namespace}.Envelope"));
        for (_, typed) in &envelope.fields {
            let row = typed.record().unwrap();
            assert_eq!((row.name.as_str(), row.fields[0].0.as_str()), (&*format!("{namespace}.{name}"), field));
        }
    }

    #[rstest]
    #[case::no_schema("7")]
    #[case::no_json("{")]
    #[case::type_unknown(r#"{"type":"record","name":"a","fields":[{"name":"f","type":"b"}]}"#)]
    #[case::no_name(r#"{"type":"record","fields":[]}"#)]
    #[case::no_fields(r#"{"type":"record","name":"a"}"#)]
    #[case::field_twice(
        r#"{"type":"record","name":"a","fields":[{"name":"f","type":"int"},{"name":"f","type":"int"}]}"#
    )]
    #[case::branch_twice(r#"["null","null"]"#)]
    #[case::no_size(r#"{"type":"fixed","name":"a"}"#)]
    fn what_is_no_schema_is_refused(#[case] text: &str) {
        assert!(compile_avro(text).is_err(), "{text}");
    }

    proptest! {
        #[test]
        fn different_names_are_spelled_differently(a in ".{1,12}", b in ".{1,12}") {
            prop_assert_eq!(spelled_name(&a) == spelled_name(&b), a == b);
        }

        #[test]
        fn any_namespace_is_taken(namespace in "[a-zA-Z0-9_ä😀-]{1,8}(\\.[a-zA-Z0-9_ä😀-]{1,8}){0,3}") {
            prop_assert!(compile_avro(&record(&namespace, "Value", "id")).is_ok());
        }
    }
}
