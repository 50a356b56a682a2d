//! An incompatible change, found by comparing a table's columns with the schema that is registered for it, and the
//! statements that take it back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    blocked::traces,
    found::{SchemaPlan, Undo},
};
use crate::{
    backup::parts::registry::{Dump, VersionLine, VersionState},
    recovery::{RecoveryError, pipeline::captured_tables, repair::Repair},
};
use cdc_model::units::{Subject, TableName};
use cdc_pipeline::{
    client::{connect::ConnectorConfig, postgres::Postgres},
    debezium::TopicNames,
};
use cdc_postgres::sql::{identifier, literal};

/// Transforms that unwrap, drop or route whole records.
const LEAVE_COLUMNS_ALONE: [&str; 4] =
    [".ExtractNewRecordState", ".ByLogicalTableRouter", ".RegexRouter", ".TimestampRouter"];

/// A column as it is.
struct Column {
    name: String,
    kind: String,
    not_null: bool,
    default: Option<String>,
}

/// A field as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    nullable: bool,
    /// The column type that Debezium writes like this, where there is one.
    kind: Option<&'static str>,
}

/// What a connector's configuration does to columns before they are registered, so that a difference proves no change.
#[derive(Clone, Copy, Debug, Default)]
struct Rewriting {
    /// `bytea` is written as text.
    binary_as_text: bool,
    /// Columns are left out or renamed: one without a field need not be new.
    fields_differ: bool,
    /// Converters or transforms write columns in forms of their own.
    kinds_differ: bool,
}

impl Rewriting {
    fn of(config: &ConnectorConfig) -> Rewriting {
        let set = |key: &str| config.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
        let mut transforms = set("transforms").unwrap_or_default().split(',').map(str::trim).filter(|t| !t.is_empty());
        let reshapes = |name: &str| {
            let class = set(&format!("transforms.{name}.type")).unwrap_or_default();
            !LEAVE_COLUMNS_ALONE.iter().any(|known| class.ends_with(known))
        };
        let reshaped = transforms.any(reshapes);
        Rewriting {
            binary_as_text: set("binary.handling.mode").is_some_and(|mode| !mode.eq_ignore_ascii_case("bytes")),
            fields_differ: reshaped || set("column.include.list").or(set("column.exclude.list")).is_some(),
            kinds_differ: reshaped || set("converters").is_some(),
        }
    }
}

/// Compares the tables that the blocked connectors' failures name with their registered schemas; where a failure names
/// none, every captured table.
pub(super) async fn derive(repair: &Repair, registry: &Dump) -> Result<Vec<Undo>, RecoveryError> {
    let mut found = Vec::new();
    for source in &repair.pipeline.sources {
        let server = repair.pipeline.session(source).await?;
        let rewriting = Rewriting::of(&source.config);
        let captured = captured_tables(&server, &source.capture).await?;
        let traces: Vec<&str> = traces(source).collect();
        let names = &source.capture.topics;
        for table in refused_tables(names, captured, &traces) {
            let subject = Subject::new(format!("{}-value", names.topic(&table)));
            let versions = registry.versions_of(&subject);
            let Some(latest) = versions.iter().rfind(|v| v.state != VersionState::SoftDeleted) else { continue };
            let Some(fields) = fields_of(latest) else { continue };
            for column in columns(&server, &table, &source.publication).await? {
                if let Some((what, sql)) = difference(&table, &column, fields.get(&column.name), rewriting) {
                    let (database, subject) = (source.database.clone(), subject.clone());
                    found.push(Undo { database, table: table.clone(), subject, what, sql });
                }
            }
        }
    }
    Ok(found)
}

/// The tables whose subjects these failures name; all where they name none.
fn refused_tables(topics: &TopicNames, captured: BTreeSet<TableName>, traces: &[&str]) -> BTreeSet<TableName> {
    let refused = |table: &TableName| {
        let subjects = ["key", "value"].map(|side| format!("{}-{side}", topics.topic(table)));
        traces.iter().any(|trace| subjects.iter().any(|subject| names(trace, subject)))
    };
    let (named, others): (BTreeSet<_>, BTreeSet<_>) = captured.into_iter().partition(refused);
    if named.is_empty() { others } else { named }
}

/// Whether a trace names this subject, and not one that it is a part of.
fn names(trace: &str, subject: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    trace.match_indices(subject).any(|(at, _)| {
        let before = trace[..at].chars().next_back();
        let after = trace[at + subject.len()..].chars().next();
        !before.is_some_and(|c| goes_on(c) || c == '.') && !after.is_some_and(goes_on)
    })
}

/// The subjects that refuse: those of the changed tables, or those that the traces name.
pub(super) fn subjects(repair: &Repair, schema: &SchemaPlan) -> Result<Vec<Subject>, RecoveryError> {
    let mut subjects: Vec<Subject> = schema.undo.iter().map(|u| u.subject.clone()).collect();
    if subjects.is_empty() {
        let traces: Vec<&str> = repair.pipeline.sources.iter().flat_map(traces).collect();
        let named = schema.found.subjects.iter().map(|s| &s.subject);
        subjects = named.filter(|s| traces.iter().any(|t| names(t, s.as_str()))).cloned().collect();
    }
    subjects.sort();
    subjects.dedup();
    match subjects.is_empty() && repair.request.undo.is_empty() {
        false => Ok(subjects),
        true => Err(RecoveryError::impossible(
            "the refused change",
            "a column that differs from its registered schema, or a subject named in the failure",
            "neither",
            "undo the change at the source by hand, and run the slot playbook",
        )),
    }
}

/// The columns that are published, each with the type that its domains end in: the connector writes a domain as that type.
async fn columns(server: &Postgres, table: &TableName, publication: &str) -> Result<Vec<Column>, RecoveryError> {
    let sql = format!(
        "select a.attname, base.typname, a.attnotnull, pg_get_expr(d.adbin, d.adrelid) \
         from pg_attribute a cross join lateral (\
           with recursive b(oid, depth) as (select a.atttypid, 0 union all \
             select t.typbasetype, b.depth + 1 from b join pg_type t on t.oid = b.oid and t.typtype = 'd') \
           select t.typname from b join pg_type t on t.oid = b.oid order by b.depth desc limit 1) base \
         left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
         where a.attrelid = {}::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = '' \
         and not exists (select from pg_publication_tables p where p.pubname = {} and p.schemaname = {} and p.tablename = {} \
           and a.attname <> all (p.attnames)) \
         order by a.attnum",
        literal(&table.quoted()),
        literal(publication),
        literal(&table.schema),
        literal(&table.name)
    );
    let column = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter();
        Some(Column {
            name: cells.next()??,
            kind: cells.next()??,
            not_null: cells.next()??.as_str() == "t",
            default: cells.next()?,
        })
    };
    Ok(server.texts(&sql).await?.into_iter().filter_map(column).collect())
}

/// What makes a column's next schema one that readers of the registered schema's successor could not read, and the way back.
fn difference(
    table: &TableName,
    column: &Column,
    field: Option<&Field>,
    rewriting: Rewriting,
) -> Option<(String, String)> {
    let (quoted, name) = (table.quoted(), identifier(&column.name));
    let Some(field) = field else {
        // A nullable column, or one with a default, is compatible: it is registered with the table's next change. One whose
        // name Avro does not allow is registered under another.
        let added = !rewriting.fields_differ && is_avro_name(&column.name);
        return (added && column.not_null && column.default.is_none()).then(|| {
            (
                format!("column {} was added NOT NULL without default", column.name),
                format!("alter table {quoted} drop column {name}"),
            )
        });
    };
    if let Some(before) = field.kind.filter(|kind| !writes_like(kind, &column.kind, rewriting)) {
        let default = column
            .default
            .as_ref()
            .map(|d| format!("; alter table {quoted} alter column {name} set default ({d})::{before}"));
        return Some((
            format!("column {} became {} where {before} is registered", column.name, column.kind),
            format!(
                "alter table {quoted} alter column {name} drop default; alter table {quoted} alter column {name} type {before} using {name}::{before}{}",
                default.unwrap_or_default()
            ),
        ));
    }
    (field.nullable && column.not_null).then(|| {
        (
            format!("column {} became NOT NULL where null is registered", column.name),
            format!("alter table {quoted} alter column {name} drop not null"),
        )
    })
}

/// The row's fields in a registered value schema: within Debezium's envelope, or bare.
fn fields_of(version: &VersionLine) -> Option<BTreeMap<String, Field>> {
    let schema: Value = serde_json::from_str(&version.schema).ok()?;
    let top = schema["fields"].as_array()?;
    let row = top.iter().filter(|f| f["name"] == "before" || f["name"] == "after").find_map(|f| {
        let types = f["type"].as_array()?;
        types.iter().find(|t| t["type"] == "record")
    });
    let fields = row.map_or(Some(top), |r| r["fields"].as_array())?;
    Some(fields.iter().filter_map(|f| Some((f["name"].as_str()?.to_owned(), field_of(&f["type"])))).collect())
}

fn field_of(kind: &Value) -> Field {
    if let Some(union) = kind.as_array() {
        let inner = union.iter().find(|t| *t != "null");
        return Field { nullable: union.iter().any(|t| t == "null"), kind: inner.and_then(column_kind) };
    }
    Field { nullable: false, kind: column_kind(kind) }
}

/// The column type that has this Avro form; `None` where several have and nothing can be told.
fn column_kind(kind: &Value) -> Option<&'static str> {
    let (plain, logical) = match kind {
        Value::String(plain) => (plain.as_str(), ""),
        other => (other["type"].as_str()?, other["connect.name"].as_str().unwrap_or_default()),
    };
    match (plain, logical) {
        ("boolean", "") => Some("boolean"),
        ("int", "") if kind["connect.type"] == "int16" => Some("smallint"),
        ("int", "") => Some("integer"),
        ("long", "") => Some("bigint"),
        ("float", "") => Some("real"),
        ("double", "") => Some("double precision"),
        ("string", "") => Some("text"),
        ("string", "io.debezium.data.Uuid") => Some("uuid"),
        ("string", "io.debezium.data.Json") => Some("jsonb"),
        ("string", "io.debezium.time.ZonedTimestamp") => Some("timestamptz"),
        ("int", "io.debezium.time.Date") => Some("date"),
        ("long", "io.debezium.time.MicroTimestamp" | "io.debezium.time.Timestamp") => Some("timestamp"),
        _ => None,
    }
}

fn is_avro_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| inner(c) && !c.is_ascii_digit()) && name.chars().all(inner)
}

/// Whether a column of type `now` (as `pg_type` names it) is written in the same form as one of type `before`, or may be.
fn writes_like(before: &str, now: &str, rewriting: Rewriting) -> bool {
    match before {
        _ if rewriting.kinds_differ => true,
        "boolean" => matches!(now, "bool" | "bit"),
        "smallint" => now == "int2",
        // A column that was narrowed still fits.
        "integer" => matches!(now, "int4" | "int2"),
        // An int column that was widened is registered as long only after its first change.
        "bigint" => matches!(now, "int8" | "oid" | "int4" | "int2"),
        "real" => now == "float4",
        "double precision" => matches!(now, "float8" | "float4" | "numeric" | "money"),
        "uuid" => now == "uuid",
        // With `hstore.handling.mode` json, the default, an hstore is written as JSON.
        "jsonb" => matches!(now, "jsonb" | "json" | "hstore"),
        "timestamptz" => now == "timestamptz",
        "date" => now == "date",
        "timestamp" => now == "timestamp",
        // Many types are written as text; only those that certainly are not count.
        _ if now == "bytea" => rewriting.binary_as_text,
        _ => !matches!(now, "bool" | "int2" | "int4" | "int8" | "float4" | "float8"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn column(kind: &str, not_null: bool, default: Option<&str>) -> Column {
        Column { name: "score".into(), kind: kind.into(), not_null, default: default.map(str::to_owned) }
    }

    fn way_back(column: &Column, registered: Option<Value>) -> Option<String> {
        way_back_under(&[], column, registered)
    }

    fn way_back_under(settings: &[(&str, &str)], column: &Column, registered: Option<Value>) -> Option<String> {
        let config = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let field = registered.map(|r| field_of(&r));
        difference(&TableName::new("public", "t"), column, field.as_ref(), Rewriting::of(&config)).map(|(_, sql)| sql)
    }

    #[test]
    fn the_three_refused_changes_have_a_way_back() {
        let text = way_back(&column("text", false, None), Some(json!(["null", "int"]))).unwrap();
        assert!(text.contains("type integer using \"score\"::integer"), "{text}");
        let not_null = way_back(&column("int4", true, None), Some(json!(["null", "int"]))).unwrap();
        assert!(not_null.ends_with("alter column \"score\" drop not null"), "{not_null}");
        let added = way_back(&column("int4", true, None), None).unwrap();
        assert!(added.ends_with("drop column \"score\""), "{added}");
    }

    #[test]
    fn compatible_changes_are_left_alone() {
        assert_eq!(way_back(&column("int4", false, None), None), None);
        assert_eq!(way_back(&column("int4", true, Some("0")), None), None);
        assert_eq!(way_back(&column("int4", true, None), Some(json!("int"))), None);
        assert_eq!(way_back(&column("varchar", false, None), Some(json!(["null", "string"]))), None);
        let uuid = json!(["null", {"type": "string", "connect.name": "io.debezium.data.Uuid"}]);
        assert_eq!(way_back(&column("uuid", false, None), Some(uuid)), None);
    }

    #[test]
    fn a_default_survives_the_way_back() {
        let sql = way_back(&column("text", false, Some("'7'::text")), Some(json!("int"))).unwrap();
        assert!(sql.ends_with("set default ('7'::text)::integer"), "{sql}");
    }

    #[test]
    fn binary_that_is_written_as_text_is_no_change() {
        let bytea = column("bytea", false, None);
        for mode in ["base64", "base64-url-safe", "hex"] {
            assert_eq!(
                way_back_under(&[("binary.handling.mode", mode)], &bytea, Some(json!("string"))),
                None,
                "{mode}"
            );
        }
        for settings in [&[][..], &[("binary.handling.mode", "bytes")]] {
            let sql = way_back_under(settings, &bytea, Some(json!("string"))).unwrap();
            assert!(sql.contains("type text"), "{sql}");
        }
        let number = column("int4", false, None);
        let sql = way_back_under(&[("binary.handling.mode", "hex")], &number, Some(json!("string"))).unwrap();
        assert!(sql.contains("type text"), "{sql}");
    }

    #[test]
    fn what_other_modes_write_is_no_change() {
        let named = |plain: &str, name: &str| json!(["null", {"type": plain, "connect.name": name}]);
        for (kind, registered) in [
            ("numeric", json!("string")),
            ("numeric", json!("double")),
            ("money", json!("string")),
            ("money", json!("double")),
            ("numeric", json!({"type": "bytes", "connect.name": "org.apache.kafka.connect.data.Decimal"})),
            ("hstore", named("string", "io.debezium.data.Json")),
            ("hstore", json!({"type": "map", "values": ["null", "string"]})),
            ("interval", named("string", "io.debezium.time.Interval")),
            ("interval", named("long", "io.debezium.time.MicroDuration")),
            ("date", named("string", "io.debezium.time.IsoDate")),
            ("date", named("int", "org.apache.kafka.connect.data.Date")),
            ("time", named("int", "io.debezium.time.Time")),
            ("timestamp", named("string", "io.debezium.time.IsoTimestamp")),
            ("timestamp", named("long", "io.debezium.time.NanoTimestamp")),
            ("timestamp", named("long", "org.apache.kafka.connect.data.Timestamp")),
            ("timestamptz", named("string", "io.debezium.time.ZonedTimestamp")),
        ] {
            assert_eq!(way_back(&column(kind, false, None), Some(registered.clone())), None, "{kind} {registered}");
        }
    }

    #[test]
    fn what_the_connector_leaves_out_or_rewrites_is_no_change() {
        let added = column("int4", true, None);
        let text = column("text", false, None);
        for (key, list) in [("column.exclude.list", "public.t.score"), ("column.include.list", "public.t.id")] {
            assert_eq!(way_back_under(&[(key, list)], &added, None), None, "{key}");
            assert!(way_back_under(&[(key, list)], &text, Some(json!("int"))).is_some(), "{key}");
        }
        let dashed = Column { name: "the-score".into(), ..column("int4", true, None) };
        assert_eq!(way_back(&dashed, None), None, "registered as the_score");
        assert_eq!(way_back_under(&[("converters", "isbn")], &text, Some(json!("int"))), None);
        let cast = [
            ("transforms", "unwrap, cast"),
            ("transforms.cast.type", "org.apache.kafka.connect.transforms.Cast$Value"),
        ];
        assert_eq!(way_back_under(&cast, &text, Some(json!("int"))), None);
        assert_eq!(way_back_under(&cast, &added, None), None);
        let unwrap =
            [("transforms", "unwrap"), ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState")];
        assert!(way_back_under(&unwrap, &text, Some(json!("int"))).is_some());
    }

    #[test]
    fn only_tables_that_a_failure_names_are_compared() {
        let names = TopicNames { prefix: "shop".into(), delimiter: ".".into() };
        let all = || ["customers", "orders", "line-orders"].map(|name| TableName::new("public", name)).into();
        let refused = |trace: &str| {
            let tables = refused_tables(&names, all(), &[trace]);
            tables.into_iter().map(|table| table.name).collect::<Vec<_>>()
        };
        assert_eq!(refused("Incompatible artifact: shop.public.orders-value [AVRO], num of"), ["orders"]);
        assert_eq!(refused("earlier schema for subject \"shop.public.orders-key\""), ["orders"]);
        assert_eq!(refused("another: web.shop.public.orders-value"), ["customers", "line-orders", "orders"]);
        assert_eq!(refused("shop.public.orders-values"), ["customers", "line-orders", "orders"]);
        assert_eq!(refused("409 Conflict"), ["customers", "line-orders", "orders"]);
    }
}
