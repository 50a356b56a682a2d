//! An incompatible change, found by comparing a table's columns with the schema that is registered for it, and the
//! statements that take it back.

use std::collections::BTreeMap;

use serde_json::Value;

use super::plan::{SchemaPlan, traces};
use crate::{
    backup::parts::registry::{Dump, VersionLine, VersionState},
    client::postgres::Postgres,
    recovery::{
        RecoveryError,
        pipeline::{captured_tables, literal},
        repair::Repair,
    },
    units::{Subject, TableName},
};

/// A change and the statements that take it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undo {
    pub(crate) database: String,
    pub(crate) table: TableName,
    pub(crate) subject: Subject,
    pub(crate) what: String,
    pub(crate) sql: String,
}

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

/// Compares every captured table of the blocked connectors with its registered schema.
pub(super) async fn derive(repair: &Repair, registry: &Dump) -> Result<Vec<Undo>, RecoveryError> {
    let mut found = Vec::new();
    for source in &repair.pipeline.sources {
        let server = repair.pipeline.session(source).await?;
        for table in captured_tables(&server, &source.selection).await? {
            let subject = Subject::new(format!("{}.{table}-value", source.prefix));
            let versions = registry.versions_of(&subject);
            let Some(latest) = versions.iter().rfind(|v| v.state != VersionState::SoftDeleted) else { continue };
            let Some(fields) = fields_of(latest) else { continue };
            for column in columns(&server, &table).await? {
                if let Some((what, sql)) = difference(&table, &column, fields.get(&column.name)) {
                    let (database, subject) = (source.database.clone(), subject.clone());
                    found.push(Undo { database, table: table.clone(), subject, what, sql });
                }
            }
        }
    }
    Ok(found)
}

/// The subjects that refuse: those of the changed tables, or those that the traces name.
pub(super) fn subjects(repair: &Repair, schema: &SchemaPlan) -> Result<Vec<Subject>, RecoveryError> {
    let mut subjects: Vec<Subject> = schema.undo.iter().map(|u| u.subject.clone()).collect();
    if subjects.is_empty() {
        let traces: Vec<&str> = repair.pipeline.sources.iter().flat_map(traces).collect();
        let named = schema.found.subjects.iter().map(|s| &s.subject);
        subjects = named.filter(|s| traces.iter().any(|t| t.contains(s.as_str()))).cloned().collect();
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

async fn columns(server: &Postgres, table: &TableName) -> Result<Vec<Column>, RecoveryError> {
    let sql = format!(
        "select a.attname, coalesce(nullif(bt.typname, ''), t.typname), a.attnotnull, pg_get_expr(d.adbin, d.adrelid) \
         from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_type bt on bt.oid = nullif(t.typbasetype, 0) \
         left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
         where a.attrelid = {}::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = '' \
         order by a.attnum",
        literal(&table.quoted())
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
fn difference(table: &TableName, column: &Column, field: Option<&Field>) -> Option<(String, String)> {
    let (quoted, name) = (table.quoted(), format!("\"{}\"", column.name.replace('"', "\"\"")));
    let Some(field) = field else {
        // A nullable column, or one with a default, is compatible: it is registered with the table's next change.
        return (column.not_null && column.default.is_none()).then(|| {
            (
                format!("column {} was added NOT NULL without default", column.name),
                format!("alter table {quoted} drop column {name}"),
            )
        });
    };
    if let Some(before) = field.kind.filter(|kind| !writes_like(kind, &column.kind)) {
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

/// Whether a column of type `now` (as `pg_type` names it) is written in the same form as one of type `before`.
fn writes_like(before: &str, now: &str) -> bool {
    match before {
        "boolean" => matches!(now, "bool" | "bit"),
        "smallint" => now == "int2",
        // A column that was narrowed still fits.
        "integer" => matches!(now, "int4" | "int2"),
        // An int column that was widened is registered as long only after its first change.
        "bigint" => matches!(now, "int8" | "oid" | "int4" | "int2"),
        "real" => now == "float4",
        "double precision" => matches!(now, "float8" | "float4" | "numeric" | "money"),
        "uuid" => now == "uuid",
        "jsonb" => matches!(now, "jsonb" | "json"),
        "timestamptz" => now == "timestamptz",
        "date" => now == "date",
        "timestamp" => now == "timestamp",
        // Many types are written as text; only those that certainly are not count.
        _ => !matches!(now, "bool" | "int2" | "int4" | "int8" | "float4" | "float8" | "bytea"),
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
        let field = registered.map(|r| field_of(&r));
        difference(&TableName::new("public", "t"), column, field.as_ref()).map(|(_, sql)| sql)
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
}
