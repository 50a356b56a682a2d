//! What runs on the servers: the schema, the connectors and what they capture, topics, compatibility levels.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    fixture::{self, Fixtures},
    problems::{Problems, Resolved, all},
    tables::KnownTables,
    workload::WorkloadKind,
};
use crate::scenario::{
    model::{Compatibility, ConnectorPart, PipelinePart, Scenario, Variant},
    plan::{ConnectorPlan, Fixture, PipelinePlan, subject_of},
    words::{Level, TableRef},
};
use cdc_model::{
    units::{TableName, near_or},
    vocabulary::Placeholder,
};
use cdc_pipeline::debezium::Lists;

/// Enough for records of one key to meet records of others, few enough that empty ones are read in no time.
const PARTITIONS_DEFAULT: u32 = 3;
/// The setting by which a connector names its tables.
const TABLES: &str = "table.include.list";

/// The scenario's pipeline with the variant's laid over it.
pub(super) fn overlaid(base: &PipelinePart, over: &PipelinePart) -> PipelinePart {
    let mut settings = base.connector_settings.clone();
    settings.extend(over.connector_settings.clone());
    let mut topic_settings = base.topic_settings.clone();
    topic_settings.extend(over.topic_settings.clone());
    // One connector or several: naming one kind drops the other, with its tables.
    let (one, several) = (over.connector.is_some(), !over.connectors.is_empty());
    PipelinePart {
        topic_settings,
        schema: over.schema.clone().or_else(|| base.schema.clone()),
        connector: over.connector.clone().or_else(|| base.connector.clone().filter(|_| !several)),
        connectors: if one || several { over.connectors.clone() } else { base.connectors.clone() },
        connector_settings: settings,
        tables: over.tables.clone().or_else(|| base.tables.clone().filter(|_| !several)),
        partitions: over.partitions.or(base.partitions),
        compatibility: over.compatibility.clone().or_else(|| base.compatibility.clone()),
        foreign_subjects: over.foreign_subjects.or(base.foreign_subjects),
    }
}

/// The schema's file. A variant that brings pgbench does not inherit the tables of the scenario's workload.
fn schema_path(scenario: &Scenario, variant: &Variant) -> Option<Utf8PathBuf> {
    let own = variant.pipeline.schema.clone();
    match variant.workload.pgbench {
        Some(_) => own,
        None => own.or_else(|| scenario.pipeline.schema.clone()),
    }
}

/// Resolves the pipeline of a variant: its overlaid `part`, beside a workload of this kind.
pub(super) fn resolve(
    scenario: &Scenario,
    variant: &Variant,
    part: &PipelinePart,
    workload: WorkloadKind,
    fixtures: &Fixtures<'_>,
    problems: &mut Problems,
) -> (Resolved<PipelinePlan>, KnownTables) {
    let own = &variant.pipeline;
    let schema = problems.part("pipeline", own.schema.is_some(), |p| match schema_path(scenario, variant) {
        None if workload == WorkloadKind::Pgbench => Ok(None),
        None => Err(p.report("no `schema`", "name the SQL file that makes the tables: fixtures/sql/shop.sql")),
        Some(path) => p.at("schema", |p| fixture::resolve("schema", &path, fixtures, p)).map(Some),
    });
    let partitions = partitions(part, own, problems);
    let topic_settings = topic_settings(part, own, problems);
    let laid_over = problems.part("pipeline", !own.connector_settings.is_empty(), |p| {
        p.at("connector-settings", |p| filled("", &part.connector_settings, p))
    });
    let listed = table_list(part, own, problems);
    let (connectors, tables) = connectors(part, own, workload, fixtures, problems);
    let compatibility = compatibility(part, own, &tables.0, problems);
    (plan(part, schema, connectors, listed.and(topic_settings).and(laid_over).and(partitions), compatibility), tables)
}

fn plan(
    part: &PipelinePart,
    schema: Resolved<Option<Fixture>>,
    connectors: Resolved<Vec<ConnectorPlan>>,
    partitions: Resolved<u32>,
    compatibility: Resolved<Compatibility>,
) -> Resolved<PipelinePlan> {
    let connectors = connectors?;
    let Compatibility { global, subjects } = compatibility?;
    Ok(PipelinePlan {
        schema: schema?,
        tables: connectors.iter().flat_map(|c| c.tables.clone()).collect(),
        connectors,
        partitions: partitions?,
        topic_settings: part.topic_settings.clone(),
        level: global,
        levels: subjects,
        foreign_subjects: part.foreign_subjects.unwrap_or(0),
    })
}

fn partitions(part: &PipelinePart, own: &PipelinePart, problems: &mut Problems) -> Resolved<u32> {
    let wanted = part.partitions.unwrap_or(PARTITIONS_DEFAULT);
    problems.part("pipeline", own.partitions.is_some(), |p| {
        p.at("partitions", |p| p.require(wanted > 0, "no partitions", "give at least 1")).map(|()| wanted)
    })
}

fn topic_settings(part: &PipelinePart, own: &PipelinePart, problems: &mut Problems) -> Resolved<()> {
    let of_variant = !own.topic_settings.is_empty();
    let looked_at = part.topic_settings.keys().map(|name| {
        let hint = match name.as_str() {
            "partitions" => "write `partitions` in `pipeline` itself",
            "replication.factor" => "the connector's file says so: `topic.creation.default.replication.factor`",
            long if long.starts_with("topic.creation.") => "write the broker's own name: `retention.ms`",
            _ => return Ok(()),
        };
        problems.part("pipeline", of_variant, |p| {
            p.at("topic-settings", |p| {
                p.at(name.as_str(), |p| Err(p.report(format!("`{name}` is no setting of a topic"), hint)))
            })
        })
    });
    all(looked_at).map(drop)
}

fn table_list(part: &PipelinePart, own: &PipelinePart, problems: &mut Problems) -> Resolved<()> {
    let Some(tables) = &part.tables else { return Ok(()) };
    problems.part("pipeline", own.tables.is_some(), |p| {
        p.at("tables", |p| {
            let beside = "`tables` beside `connectors`";
            let alone = p.require(part.connectors.is_empty(), beside, "write `tables` at each connector");
            alone.and(some_tables(tables, p))
        })
    })
}

fn some_tables(tables: &[TableRef], problems: &mut Problems) -> Resolved<()> {
    let hint = "name at least one table, or leave `tables` out to take the connector's";
    problems.require(!tables.is_empty(), "an empty table list", hint)
}

fn connectors(
    part: &PipelinePart,
    own: &PipelinePart,
    workload: WorkloadKind,
    fixtures: &Fixtures<'_>,
    problems: &mut Problems,
) -> (Resolved<Vec<ConnectorPlan>>, KnownTables) {
    let of_variant = own.connector.is_some() || !own.connectors.is_empty();
    match (&part.connector, part.connectors.is_empty()) {
        (Some(path), true) => only_connector(part, own, path, workload, fixtures, problems),
        (None, true) => {
            let hint = "name the JSON file with the source connector's configuration";
            let reported = problems.part("pipeline", of_variant, |p| p.report("no `connector`", hint));
            (Err(reported), KnownTables::default())
        }
        (file, false) => problems.part("pipeline", of_variant, |p| {
            p.at("connectors", |p| {
                let hint = "name one file in `connector`, or all of them in `connectors`";
                let alone = p.require(file.is_none(), "`connectors` beside `connector`", hint);
                let (several, tables) = several_connectors(part, fixtures, p);
                (alone.and(several), tables)
            })
        }),
    }
}

fn only_connector(
    part: &PipelinePart,
    own: &PipelinePart,
    path: &Utf8Path,
    workload: WorkloadKind,
    fixtures: &Fixtures<'_>,
    problems: &mut Problems,
) -> (Resolved<Vec<ConnectorPlan>>, KnownTables) {
    let file = problems.part("pipeline", own.connector.is_some() || !own.connectors.is_empty(), |p| {
        p.at("connector", |p| connector_file(path, fixtures, p))
    });
    let file = match file {
        Ok(file) => file,
        Err(reported) => return (Err(reported), KnownTables::default()),
    };
    let settings = laid_over(part, &BTreeMap::new(), file);
    let empty_list = part.tables.is_none() && settings.get(TABLES).is_some_and(|list| list.trim().is_empty());
    let some_listed = problems.part("pipeline", own.connector.is_some(), |p| {
        let message = "an empty `table.include.list`";
        p.at("connector", |p| p.require(!empty_list, message, "name at least one table to capture"))
    });
    let connector = connector_plan(part, None, path, part.tables.as_deref(), settings);
    let by_name = !matches!(workload, WorkloadKind::Sql | WorkloadKind::Command) || !connector.tables.is_empty();
    let known = problems.part("pipeline", own.tables.is_some() || own.connector.is_some(), |p| {
        let hint = "name the tables in `tables`, or one by one in the connector's `table.include.list`";
        p.require(by_name, "no captured table is known by name", hint)
    });
    let tables = KnownTables(connector.tables.clone());
    (some_listed.and(known).map(|()| vec![connector]), tables)
}

/// Several connectors: each has a name, a file, and tables that no other captures.
fn several_connectors(
    part: &PipelinePart,
    fixtures: &Fixtures<'_>,
    problems: &mut Problems,
) -> (Resolved<Vec<ConnectorPlan>>, KnownTables) {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut captors: BTreeMap<TableName, &str> = BTreeMap::new();
    let resolved = all(part.connectors.iter().enumerate().map(|(index, written)| {
        problems.at(index, |p| {
            let name = written.name.as_str();
            let first = names.insert(name);
            let named = p.at("name", |p| {
                let valid = p.name("connector", name);
                let twice = format!("another connector is named `{name}`");
                valid.and(p.require(first, twice, "slots and topics are named after it"))
            });
            let connector = one_of_several(part, written, fixtures, p)?;
            let disjoint = disjoint(written, &connector.tables, &captors, p);
            captors.extend(connector.tables.iter().map(|table| (table.clone(), name)));
            let some = p.at("file", |p| {
                p.require(
                    !connector.tables.is_empty(),
                    format!("no table that connector `{name}` captures is known by name"),
                    "name them in its `tables`, or one by one in its `table.include.list`",
                )
            });
            named.and(disjoint).and(some).map(|()| connector)
        })
    }));
    (resolved, KnownTables(captors.into_keys().collect()))
}

fn one_of_several(
    part: &PipelinePart,
    written: &ConnectorPart,
    fixtures: &Fixtures<'_>,
    problems: &mut Problems,
) -> Resolved<ConnectorPlan> {
    if let Some(tables) = &written.tables {
        problems.at("tables", |p| some_tables(tables, p))?;
    }
    problems.at("settings", |p| filled("", &written.settings, p))?;
    let file = problems.at("file", |p| connector_file(&written.file, fixtures, p))?;
    let settings = laid_over(part, &written.settings, file);
    Ok(connector_plan(part, Some(written.name.clone()), &written.file, written.tables.as_deref(), settings))
}

/// Each event has one topic: whoever reads two of a table takes each change twice.
fn disjoint(
    written: &ConnectorPart,
    tables: &[TableName],
    captors: &BTreeMap<TableName, &str>,
    problems: &mut Problems,
) -> Resolved<()> {
    let name = written.name.as_str();
    let looked_at = tables.iter().enumerate().map(|(index, table)| {
        let Some(other) = captors.get(table) else { return Ok(()) };
        let message = match *other == name {
            true => format!("connector `{name}` captures table `{table}` twice"),
            false => format!("connectors `{other}` and `{name}` both capture table `{table}`"),
        };
        let hint = "leave the table to one of them";
        Err(match written.tables {
            Some(_) => problems.at("tables", |p| p.at(index, |p| p.report(message, hint))),
            None => problems.at("file", |p| p.report(message, hint)),
        })
    });
    all(looked_at).map(drop)
}

/// What a topic cannot be made without, and a connector's file often lacks, because brokers in production make topics by themselves: a
/// drill's do not. Without these settings Connect makes none either, and the connector waits for its topics without end. `-1` is the
/// broker's own default.
fn topic_creation(part: &PipelinePart) -> BTreeMap<String, String> {
    let partitions = part.partitions.unwrap_or(PARTITIONS_DEFAULT).to_string();
    [("partitions", partitions), ("replication.factor", "-1".to_owned())]
        .map(|(name, value)| (format!("topic.creation.default.{name}"), value))
        .into()
}

/// A connector's settings: its file's, and what the scenario lays over them.
fn laid_over(
    part: &PipelinePart,
    own: &BTreeMap<String, String>,
    file: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let of_topics = part.topic_settings.iter().map(|(name, v)| (format!("topic.creation.default.{name}"), v.clone()));
    file.into_iter().chain(part.connector_settings.clone()).chain(own.clone()).chain(of_topics).collect()
}

/// A connector with its tables as far as they are named one by one; a pattern names none.
fn connector_plan(
    part: &PipelinePart,
    name: Option<String>,
    file: &Utf8Path,
    tables: Option<&[TableRef]>,
    mut settings: BTreeMap<String, String>,
) -> ConnectorPlan {
    let tables = match tables {
        None => Lists::of(&settings).named(),
        Some(listed) => {
            let tables: Vec<TableName> = listed.iter().map(|TableRef(table)| table.clone()).collect();
            let list: Vec<String> = tables.iter().map(TableName::to_string).collect();
            settings.insert(TABLES.into(), list.join(","));
            tables
        }
    };
    let mut filled_in = topic_creation(part);
    filled_in.retain(|name, _| !settings.contains_key(name));
    settings.extend(filled_in.clone());
    ConnectorPlan { name, file: file.to_owned(), settings, filled_in, tables }
}

fn connector_file(
    path: &Utf8Path,
    fixtures: &Fixtures<'_>,
    problems: &mut Problems,
) -> Resolved<BTreeMap<String, String>> {
    let file = fixture::resolve("connector", path, fixtures, problems)?;
    match connector_settings(&file.text) {
        Ok(settings) if settings.contains_key("connector.class") => {
            filled(&format!("connector file `{path}`: "), &settings, problems).map(|()| settings)
        }
        Ok(_) => Err(problems.report(
            format!("connector file `{path}` names no `connector.class`"),
            "expected the configuration of a source connector",
        )),
        Err(why) => {
            Err(problems.report(format!("connector file `{path}`: {why}"), "expected one JSON object of settings"))
        }
    }
}

/// Whether a drill can fill in all that the settings leave open.
fn filled(of: &str, settings: &BTreeMap<String, String>, problems: &mut Problems) -> Resolved<()> {
    let words = settings.iter().flat_map(|(name, value)| Placeholder::unknown_in(value).map(move |word| (name, word)));
    let looked_at = words.map(|(name, word)| -> Resolved<()> {
        let hint = match Placeholder::meant(word, name) {
            Some(meant) => format!("did you mean `{}`?", meant.braced()),
            None => format!("known: {}", Placeholder::ALL.map(Placeholder::braced).join(", ")),
        };
        Err(problems.report(format!("{of}setting `{name}`: no placeholder `{{{word}}}`"), hint))
    });
    all(looked_at).map(drop)
}

/// A connector's file as settings: the configuration itself, or `{"name": ..., "config": {...}}`.
fn connector_settings(text: &str) -> Result<BTreeMap<String, String>, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
    let object = match value.get("config") {
        Some(inner) if inner.is_object() => inner,
        _ => &value,
    };
    let object = object.as_object().ok_or("expected an object of settings")?;
    let setting = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::String(text) => Ok((name.clone(), text.clone())),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => Ok((name.clone(), value.to_string())),
        _ => Err(format!("setting `{name}`: expected text, a number, true or false")),
    };
    object.iter().map(setting).collect()
}

fn compatibility(
    part: &PipelinePart,
    own: &PipelinePart,
    tables: &[TableName],
    problems: &mut Problems,
) -> Resolved<Compatibility> {
    let written = part.compatibility.clone();
    let levels = written.unwrap_or(Compatibility { global: Level::Backward, subjects: BTreeMap::new() });
    let unknown = levels.subjects.keys().filter(|s| !tables.is_empty() && subject_of(s, tables).is_none());
    let looked_at = unknown.map(|subject| -> Resolved<()> {
        let prefix = subject.split('.').next().unwrap_or_default();
        let known: Vec<String> = tables.iter().map(|t| format!("{prefix}.{t}-value")).collect();
        let form = || "subjects are `<prefix>.<schema>.<table>-key` and `-value`".to_owned();
        let hint = near_or(subject, known.iter().map(String::as_str), form);
        let message = format!("`{subject}` is no subject of a captured table");
        problems.part("pipeline", own.compatibility.is_some(), |p| {
            p.at("compatibility", |p| p.at("subjects", |p| p.at(subject.as_str(), |p| Err(p.report(message, hint)))))
        })
    });
    all(looked_at).map(|_| levels.clone())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::parse::as_json;

    fn file(path: &Utf8Path) -> Option<Fixture> {
        let text = match path.as_str() {
            "a.sql" => "",
            "two.json" => r#"{"config": {"connector.class": "x", "table.include.list": "public.a,public.b", "n": 1}}"#,
            "all.json" => r#"{"connector.class": "x"}"#,
            "no-class.json" => "{}",
            "list.json" => "[]",
            "open.json" => r#"{"connector.class": "x", "slot.name": "{slt}", "table.include.list": "public.a"}"#,
            "nested.json" => r#"{"connector.class": {}}"#,
            "empty.json" => r#"{"connector.class": "x", "table.include.list": " "}"#,
            _ => return None,
        };
        Some(Fixture { path: path.to_owned(), text: text.into() })
    }

    fn looked_at(
        base: &str,
        over: &str,
        workload: WorkloadKind,
    ) -> (Option<PipelinePlan>, Vec<TableName>, Vec<String>) {
        let text = format!(
            "version: 1\nid: some\ntitle: S\npipeline: {base}\nvariants: {{ one: {{ pipeline: {over}, steps: [], checks: [] }} }}"
        );
        let scenario: Scenario = serde_json::from_value(as_json(&text)).unwrap();
        let variant = scenario.variants.get("one").unwrap();
        let part = overlaid(&scenario.pipeline, &variant.pipeline);
        let mut problems = Problems::default();
        let (plan, tables) = resolve(&scenario, variant, &part, workload, &file, &mut problems);
        assert_eq!(plan.is_ok(), problems.is_empty());
        (plan.ok(), tables.0, problems.into_found().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn settings_are_laid_over_the_file_and_listed_tables_win() {
        let base = "{ schema: a.sql, connector: two.json, tables: [c], connector-settings: { n: '2' }, topic-settings: { retention.ms: '7' } }";
        let (plan, tables, found) = looked_at(base, "{ connector-settings: { m: '3' } }", WorkloadKind::Shop);
        let plan = plan.unwrap_or_else(|| panic!("{found:?}"));
        let settings = &plan.connectors[0].settings;
        let shown: Vec<&str> =
            ["n", "m", TABLES, "topic.creation.default.retention.ms"].map(|k| settings[k].as_str()).into();
        assert_eq!(shown, ["2", "3", "public.c", "7"]);
        assert_eq!((&plan.tables, plan.partitions, plan.level), (&tables, 3, Level::Backward));
    }

    #[test]
    fn what_topics_are_made_with_is_filled_in_where_nobody_says_it() {
        let planned = |base: &str| looked_at(base, "{}", WorkloadKind::Shop).0.unwrap().connectors.remove(0);
        let (partitions, replication) =
            ("topic.creation.default.partitions", "topic.creation.default.replication.factor");
        let connector = planned("{ schema: a.sql, connector: two.json }");
        assert_eq!((connector.settings[partitions].as_str(), connector.settings[replication].as_str()), ("3", "-1"));
        assert_eq!(
            connector.notes().collect::<Vec<_>>(),
            [
                "connector two.json does not set topic.creation.default.partitions: it is set to 3",
                "connector two.json does not set topic.creation.default.replication.factor: it is set to -1",
            ]
        );
        let both = format!("{{ {partitions}: '7', {replication}: '3' }}");
        let connector = planned(&format!("{{ schema: a.sql, connector: two.json, connector-settings: {both} }}"));
        assert_eq!((connector.settings[partitions].as_str(), connector.settings[replication].as_str()), ("7", "3"));
        assert_eq!(connector.notes().count(), 0);
    }

    #[test]
    fn every_placeholder_in_a_hint_is_one() {
        for wrong in ["dbname", "hostname", "slt", "topic.prefix", "zzz", "database.user", "broker"] {
            let base =
                format!("{{ schema: a.sql, connector: two.json, connector-settings: {{ a.b: 'x {{{wrong}}}' }} }}");
            let (_, _, found) = looked_at(&base, "{}", WorkloadKind::Shop);
            let hint = found[0].split_once("(hint: ").unwrap().1;
            assert!(hint.contains('{') && Placeholder::unknown_in(hint).next().is_none(), "{wrong}: {hint}");
        }
    }

    #[rstest]
    #[case::no_schema("{ connector: two.json }", "pipeline: no `schema`")]
    #[case::no_connector("{ schema: a.sql }", "pipeline: no `connector`")]
    #[case::no_file(
        "{ schema: a.sql, connector: nowhere.json }",
        "pipeline.connector: connector file `nowhere.json` is"
    )]
    #[case::no_class(
        "{ schema: a.sql, connector: no-class.json }",
        "pipeline.connector: connector file `no-class.json` names no"
    )]
    #[case::no_object(
        "{ schema: a.sql, connector: list.json }",
        "pipeline.connector: connector file `list.json`: expected an object"
    )]
    #[case::nested(
        "{ schema: a.sql, connector: nested.json }",
        "pipeline.connector: connector file `nested.json`: setting"
    )]
    #[case::placeholder(
        "{ schema: a.sql, connector: open.json }",
        "pipeline.connector: connector file `open.json`: setting `slot.name`: no placeholder `{slt}`"
    )]
    #[case::placeholder_laid_over(
        "{ schema: a.sql, connector: two.json, connector-settings: { slot.name: '{name}_{databse}' } }",
        "pipeline.connector-settings: setting `slot.name`: no placeholder `{databse}`"
    )]
    #[case::empty_list("{ schema: a.sql, connector: empty.json }", "pipeline.connector: an empty `table.include.list`")]
    #[case::empty_tables("{ schema: a.sql, connector: two.json, tables: [] }", "pipeline.tables: an empty table list")]
    #[case::partitions("{ schema: a.sql, connector: two.json, partitions: 0 }", "pipeline.partitions: no partitions")]
    #[case::topic_setting(
        "{ schema: a.sql, connector: two.json, topic-settings: { replication.factor: '1' } }",
        "pipeline.topic-settings.replication.factor: `replication.factor` is no setting of a topic"
    )]
    #[case::subject(
        "{ schema: a.sql, connector: two.json, compatibility: { global: FULL, subjects: { x.public.c-value: NONE } } }",
        "pipeline.compatibility.subjects.x.public.c-value: `x.public.c-value` is no subject"
    )]
    #[case::both_kinds(
        "{ schema: a.sql, connector: two.json, connectors: [ { name: a, file: two.json } ] }",
        "pipeline.connectors: `connectors` beside `connector`"
    )]
    #[case::no_known_table(
        "{ schema: a.sql, connectors: [ { name: a, file: all.json } ] }",
        "pipeline.connectors[0].file: no table that connector `a` captures"
    )]
    fn a_mistake_is_reported_where_it_stands(#[case] base: &str, #[case] expected: &str) {
        let (plan, _, found) = looked_at(base, "{}", WorkloadKind::Shop);
        assert!(plan.is_none() && found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    }

    #[test]
    fn a_workload_that_is_not_known_needs_tables_by_name() {
        let base = "{ schema: a.sql, connector: all.json }";
        assert!(looked_at(base, "{}", WorkloadKind::Shop).0.is_some());
        let (plan, _, found) = looked_at(base, "{}", WorkloadKind::Sql);
        assert!(plan.is_none() && found[0].contains("no captured table is known by name"), "{found:?}");
    }

    #[test]
    fn pgbench_makes_its_own_tables() {
        assert_eq!(looked_at("{ connector: all.json }", "{}", WorkloadKind::Pgbench).0.unwrap().schema, None);
    }

    #[test]
    fn a_table_has_one_connector() {
        let twice = "{ schema: a.sql, connectors: [ { name: a, file: two.json }, { name: b, file: two.json, tables: [b, c] } ] }";
        let (plan, tables, found) = looked_at(twice, "{}", WorkloadKind::Shop);
        assert!(plan.is_none() && found.len() == 1, "{found:?}");
        assert!(found[0].starts_with("pipeline.connectors[1].tables[0]: connectors `a` and `b` both"), "{found:?}");
        assert_eq!(tables.len(), 3, "steps are checked against what is known all the same");
    }
}
