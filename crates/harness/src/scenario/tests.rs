//! The language as a whole: every mistake is shown where it stands, and the scenarios that are carried along are good.

use camino::Utf8Path;
use indoc::indoc;

use super::{
    DrillPlan, Fixture, Needs, Plan, Scenario, StepNeed, Template, TransactionPlan, WorkloadPlan, builtin, catalogue,
    library::Library, parse, resolve, schema_text,
};
use cdc_model::units::{Failure, Piece};

const CONNECTOR: &str = r#"{"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "topic.prefix": "shop",
    "table.include.list": "public.orders,public.order_lines"}"#;

fn fixtures(path: &Utf8Path) -> Option<Fixture> {
    let text = match path.as_str() {
        "shop.sql" => "create table orders (id int primary key);",
        "shop.json" => CONNECTOR,
        "empty.json" => r#"{"connector.class": "x", "table.include.list": ""}"#,
        "broken.json" => "{",
        "all.json" => r#"{"connector.class": "x"}"#,
        "visits.sql" => "insert into visits select generate_series(1, 10);",
        _ => return None,
    };
    Some(Fixture { path: path.to_owned(), text: text.to_owned() })
}

/// A scenario with the given steps, checks and controls in its one variant.
fn scenario(variant: &str) -> String {
    let indented: String = variant.lines().map(|l| format!("    {l}\n")).collect();
    format!(
        "version: 1\nid: some\ntitle: Something\npipeline: {{ schema: shop.sql, connector: shop.json }}\nworkload: {{ rows: 10 }}\nvariants:\n  one:\n{indented}"
    )
}

fn mistakes(text: &str) -> String {
    match parse(Utf8Path::new("some.yaml"), text, &fixtures) {
        Ok(_) => "no mistake".into(),
        Err(error) => {
            assert_eq!(error.exit().code(), 3);
            error.to_string()
        }
    }
}

fn resolved(text: &str) -> (Scenario, Plan) {
    parse(Utf8Path::new("some.yaml"), text, &fixtures).unwrap_or_else(|e| panic!("{e}"))
}

fn drills(text: &str) -> Vec<DrillPlan> {
    resolved(text).1.drills
}

#[test]
fn unknown_words_are_pointed_at() {
    insta::assert_snapshot!(
        "unknown-step",
        mistakes(&scenario(indoc! {"
        steps:
          - loud: { transactions: 5 }
        checks: [state]
    "}))
    );
    insta::assert_snapshot!(
        "unknown-field-of-a-step",
        mistakes(&scenario(indoc! {"
        steps:
          - load: { transaktions: 5 }
        checks: [state]
    "}))
    );
    insta::assert_snapshot!(
        "unknown-fault",
        mistakes(&scenario(indoc! {"
        steps:
          - fault: { flip-bytes: { table: orders, pages: 1 } }
        checks: [state]
    "}))
    );
    insta::assert_snapshot!(
        "unknown-check",
        mistakes(&scenario(indoc! {"
        steps:
          - load: { transactions: 5 }
        checks: [state, lose]
    "}))
    );
    insta::assert_snapshot!(
        "unknown-field-of-a-variant",
        mistakes(&scenario(indoc! {"
        stepps: []
        checks: [state]
    "}))
    );
}

#[test]
fn bad_values_are_pointed_at() {
    insta::assert_snapshot!(
        "a-word-for-a-number",
        mistakes(&scenario(indoc! {"
        steps:
          - load: { transactions: many }
        checks: [state]
    "}))
    );
    insta::assert_snapshot!(
        "a-number-for-a-duration",
        mistakes(&scenario(indoc! {"
        steps:
          - load: { transactions: 5 }
        checks: [state]
        objectives: { rto: 60 }
    "}))
    );
    insta::assert_snapshot!(
        "a-variant-twice",
        mistakes(
            "version: 1\nid: x\ntitle: X\nvariants:\n  one: { steps: [], checks: [] }\n  one: { steps: [], checks: [] }\n"
        )
    );
    insta::assert_snapshot!("bad-indentation", mistakes("version: 1\nid: x\n  title: X\n"));
    insta::assert_snapshot!("a-missing-field", mistakes("version: 1\nid: x\ntitle: X\n"));
}

#[test]
fn all_mistakes_of_meaning_are_told_at_once() {
    insta::assert_snapshot!(
        "all-mistakes-of-meaning",
        mistakes(indoc! {"
        version: 2
        id: Bad Id
        title: ''
        pipeline: { schema: nowhere.sql, connector: empty.json, partitions: 0 }
        stack: { postgres: { wal-segment-mib: 3 } }
        workload: { rows: 0 }
        variants:
          one:
            pipeline: { tables: [] }
            steps:
              - recover: { coordinated: { target: before-fault } }
              - mark: early
              - backup: { name: nightly }
              - backup: { name: nightly, only: registry }
              - mark: before
              - mark: before
              - fault: invalidate-slot
              - fault: kill-postgres
              - load: { transactions: 0 }
              - recover: { coordinated: { target: early, point: nigtly } }
              - recover: { coordinated: { target: befor } }
            checks: [state, state]
            controls:
              - { without: recovery, red: { check: loss, kind: lost } }
              - { without: delete-offset, red: { check: state, kind: lost } }
              - { without: fence }
              - { red: { check: state, kind: lost } }
              - { without: recovery, red: { check: state, kind: lost }, refuses: 11 }
              - { without: open, refuses: 7, silent: true }
              - { naive: re-register, red: { check: state, kind: lost } }
          two:
            steps: []
            checks: []
            objectives: { rto: 1s }
    "})
    );
}

#[test]
fn names_of_tables_and_subjects_are_checked_against_the_connector() {
    insta::assert_snapshot!(
        "names-of-tables-and-subjects",
        mistakes(indoc! {"
        version: 1
        id: some
        title: Something
        pipeline:
          schema: shop.sql
          connector: shop.json
          compatibility: { global: BACKWARD, subjects: { shop.public.order-value: FULL } }
        variants:
          one:
            steps:
              - load: { transactions: 5, tables: [orders, order_line] }
              - fault: { delete-all: { table: clients } }
            checks: [state]
          two:
            pipeline: { connector: broken.json }
            workload: { pgbench: { scale: 0, clients: 1 }, rows: 4 }
            steps:
              - load: { transactions: 5, tables: [] }
              - fault: { registry-lose-storage: { refill: true } }
            stack: { registry: { storage: kafkasql } }
            checks: [compatibility]
    "})
    );
}

#[test]
fn a_workload_of_sql_is_checked_to_its_last_placeholder() {
    insta::assert_snapshot!(
        "a-workload-of-sql",
        mistakes(indoc! {"
        version: 1
        id: some
        title: Something
        pipeline: { schema: shop.sql, connector: shop.json }
        workload:
          writers: 0
          sql:
            seed-file: nowhere.sql
            transactions:
              - { name: Book It, weight: 0, statements: [\"insert into visits values ('{tokn}', {random:9..1})\"] }
              - { name: cancel, statements: [] }
              - { name: cancel, statements: ['', 'delete from visits; commit', 'select {n'] }
        variants:
          one:
            steps:
              - load: { transactions: 5, must: [roll-back, update], tables: [orders] }
            checks: [state]
          two:
            workload: { rows: 3, sql: { transactions: [] } }
            pipeline: { connector: all.json }
            steps:
              - load: { transactions: 5 }
            checks: [state]
    "})
    );
}

#[test]
fn commands_of_a_scenarios_own_are_checked() {
    insta::assert_snapshot!(
        "commands-of-its-own",
        mistakes(&scenario(indoc! {"
        steps:
          - load: { transactions: 5 }
          - backup: {}
          - backup: { name: a, exec: { name: b, command: tar } }
          - backup: { exec: { name: nightly, command: ' ', timeout: 2h } }
          - backup: { exec: { name: nightly, command: tar }, only: registry }
          - mark: before
          - fault: kill-postgres
          - recover: { exec: { command: '' } }
          - recover: { exec: { command: sh restore.sh, target: befor } }
          - recover: { coordinated: { target: latest, point: nightly } }
        checks: [state, compatibility]
        controls:
          - { naive: { exec: { command: '' } }, red: { check: state, kind: lost } }
          - { id: two, without: fence, naive: { exec: { command: sh x.sh } }, red: { check: state, kind: lost } }
          - { without: stop-connector, red: { check: state, kind: lost } }
    "}))
    );
    insta::assert_snapshot!(
        "a-command-without-a-command",
        mistakes(&scenario(indoc! {"
        steps:
          - recover: { exec: { target: latest } }
        checks: [state]
    "}))
    );
}

#[test]
fn topic_settings_and_a_workload_of_a_command_are_checked() {
    insta::assert_snapshot!(
        "topic-settings-and-a-command",
        mistakes(indoc! {"
        version: 1
        id: some
        title: Something
        pipeline:
          schema: shop.sql
          connector: shop.json
          topic-settings: { partitions: '4', topic.creation.default.retention.ms: '5', retention.ms: '5' }
        workload: { command: { seed-file: nowhere.sql, command: ' ', timeout: 3h } }
        variants:
          one:
            steps:
              - load: { transactions: 5, must: [roll-back], tables: [orders] }
              - recover: { slot: { writers: continue } }
            checks: [state]
          two:
            workload: { command: { command: write }, sql: { transactions: [ { name: book, statements: ['select 1'] } ] } }
            steps:
              - load: { transactions: 5 }
            checks: [state]
    "})
    );
}

#[test]
fn several_connectors_are_told_apart() {
    insta::assert_snapshot!(
        "several-connectors",
        mistakes(indoc! {"
        version: 1
        id: some
        title: Something
        pipeline:
          schema: shop.sql
          connector-settings: { snapshot.mode: initial }
          compatibility: { global: BACKWARD, subjects: { shop.public.order-value: FULL } }
          connectors:
            - { name: sales, file: shop.json, tables: [orders, customers] }
            - { name: sales, file: shop.json, tables: [parts, orders] }
            - { name: Old Parts, file: nowhere.json, tables: [old_parts, old_parts] }
            - { name: whole, file: shop.json }
            - { name: pattern, file: all.json }
            - { name: nothing, file: shop.json, tables: [] }
        variants:
          one:
            steps:
              - load: { transactions: 5, tables: [orders, invoices] }
              - backup: { name: nightly }
              - fault: { delete-all: { table: visits } }
              - fault: { registry-lose-storage: { refill: true } }
              - recover: { schema: { point: nightly } }
            checks: [state]
          two:
            pipeline: { connector: shop.json, connectors: [ { name: a, file: shop.json } ], tables: [orders] }
            steps:
              - load: { transactions: 5 }
            checks: [state]
          three:
            pipeline: { connectors: [ { name: a, file: shop.json } ], tables: [orders] }
            steps:
              - load: { transactions: 5 }
            checks: [state]
    "})
    );
    insta::assert_snapshot!(
        "a-connector-without-a-name",
        mistakes(indoc! {"
        version: 1
        id: some
        title: Something
        pipeline: { schema: shop.sql, connectors: [ { file: shop.json } ] }
        variants: {}
    "})
    );
}

#[test]
fn several_connectors_have_settings_and_tables_of_their_own() {
    let text = indoc! {"
        version: 1
        id: some
        title: Something
        pipeline:
          schema: shop.sql
          connector-settings: { snapshot.mode: initial, poll.interval.ms: '50' }
          connectors:
            - { name: sales, file: shop.json, settings: { snapshot.mode: when_needed } }
            - { name: parts, file: all.json, tables: [parts] }
        variants:
          both:
            steps: [ { load: { transactions: 5, tables: [orders, parts] } } ]
            checks: [state]
          one:
            pipeline: { connector: shop.json }
            steps: [ { load: { transactions: 5 } } ]
            checks: [state]
    "};
    let drills = drills(text);
    let both = &drills[0].pipeline;
    let names: Vec<_> = both.connectors.iter().map(|c| c.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["sales", "parts"]);
    let setting = |at: usize, key: &str| both.connectors[at].settings.get(key).map(String::as_str);
    assert_eq!(setting(0, "snapshot.mode"), Some("when_needed"));
    assert_eq!(setting(1, "snapshot.mode"), Some("initial"));
    assert_eq!(setting(0, "poll.interval.ms"), Some("50"));
    assert_eq!(setting(0, "table.include.list"), Some("public.orders,public.order_lines"));
    assert_eq!(setting(1, "table.include.list"), Some("public.parts"));
    assert_eq!(both.tables.len(), 3);
    let one = &drills[1].pipeline;
    assert_eq!((one.connectors.len(), one.connectors[0].name.as_deref()), (1, None));
}

#[test]
fn topic_settings_reach_the_connector() {
    let text = scenario(indoc! {"
        pipeline: { topic-settings: { retention.ms: '86400000' } }
        steps:
          - load: { transactions: 5 }
        checks: [state]
    "});
    let pipeline = drills(&text).remove(0).pipeline;
    assert_eq!(pipeline.connectors[0].settings["topic.creation.default.retention.ms"], "86400000");
    assert_eq!(pipeline.topic_settings["retention.ms"], "86400000");
}

#[test]
fn a_drill_knows_its_commands_and_a_control_runs_its_own() {
    let text = scenario(indoc! {"
        steps:
          - backup: { exec: { name: nightly, command: dump } }
          - recover: { exec: { command: restore, timeout: 5s } }
        checks: [state]
        controls:
          - { naive: { exec: { command: pray } }, red: { check: state, kind: lost } }
          - { without: recovery, red: { check: state, kind: lost } }
    "});
    let drills = drills(&text);
    let commands = |at: usize| drills[at].commands().into_iter().map(|(c, t)| (c.to_owned(), t.as_secs())).collect();
    let expected = |commands: &[(&str, u64)]| -> Vec<(String, u64)> {
        commands.iter().map(|(c, t)| ((*c).to_owned(), *t)).collect()
    };
    let all: [Vec<(String, u64)>; 3] = [commands(0), commands(1), commands(2)];
    assert_eq!(all[0], expected(&[("dump", 120), ("restore", 5)]));
    assert_eq!(all[1], expected(&[("dump", 120), ("pray", 120)]));
    assert_eq!(all[0], all[2]);
    assert_eq!(drills[1].control.as_ref().unwrap().id, "naive-exec");
}

/// Scenarios in the tree that `run` does not take by itself.
#[test]
fn the_scenarios_of_the_tree_are_good_and_fit_the_schema() {
    let library = Library::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let schema: serde_json::Value = serde_json::from_str(&schema_text()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let all = library.all().unwrap_or_else(|e| panic!("{e}"));
    assert!(all.len() > builtin::SCENARIOS.len());
    for loaded in all {
        let expected: usize = loaded.scenario.variants.iter().map(|(_, v)| 1 + v.controls.len()).sum();
        assert_eq!(loaded.plan(None).drills.len(), expected, "{}", loaded.file);
        let value = super::parse::as_json(&std::fs::read_to_string(&loaded.file).unwrap());
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{} at {}", e, e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", loaded.file);
    }
}

#[test]
fn naming_one_kind_of_workload_drops_the_others() {
    let text = indoc! {"
        version: 1
        id: some
        title: Something
        pipeline: { schema: shop.sql, connector: shop.json }
        workload:
          writers: 3
          sql: { seed-file: visits.sql, transactions: [ { name: book, statements: ['select {n}'] } ] }
        variants:
          own: { steps: &steps [ { load: { transactions: 5, must: [roll-back] } } ], checks: &checks [state] }
          more: { workload: { writers: 5 }, steps: *steps, checks: *checks }
          shop: { workload: { rows: 7 }, steps: *steps, checks: *checks }
          bench: { workload: { pgbench: { scale: 1, clients: 2 } }, steps: &plain [ { load: { transactions: 5 } } ], checks: *checks }
          program: { workload: { command: { command: write, timeout: 7s } }, steps: *plain, checks: *checks }
    "};
    let workloads: Vec<WorkloadPlan> = drills(text).into_iter().map(|d| d.workload).collect();
    let book = TransactionPlan {
        name: "book".into(),
        weight: 1,
        statements: vec![Template(vec![Piece::Text("select ".into()), Piece::Number])],
    };
    let seed = fixtures(Utf8Path::new("visits.sql"));
    let own = |writers| WorkloadPlan::Sql { seed: seed.clone(), transactions: vec![book.clone()], writers };
    let shop = WorkloadPlan::Shop { rows: 7, writers: 3 };
    let program = WorkloadPlan::Command {
        seed: None,
        command: "write".into(),
        timeout: std::time::Duration::from_secs(7),
        writers: 3,
    };
    assert_eq!(workloads, [own(3), own(5), shop, WorkloadPlan::Pgbench { scale: 1, clients: 2 }, program]);
}

#[test]
fn a_loss_that_nobody_counts_has_no_objective() {
    let told = mistakes(&scenario(indoc! {"
        workload: { pgbench: { scale: 1, clients: 2 } }
        steps:
          - load: { transactions: 5 }
          - backup: { name: nightly }
          - recover: { coordinated: { target: latest } }
        checks: [state]
        objectives: { rto: 60s, rpo: { transactions: 0 } }
    "}));
    assert!(told.contains("an `rpo` for pgbench, which keeps no ledger"), "{told}");
    assert!(told.contains("some.yaml:14:29:"), "{told}");
}

#[test]
fn a_downtime_that_nobody_measures_has_no_objective() {
    let told = |recovery: &str, objectives: &str| {
        mistakes(&scenario(&format!(
            "steps:\n  - load: {{ transactions: 5 }}\n  - backup: {{ name: nightly }}\n  - recover: {recovery}\nchecks: [state]\nobjectives: {objectives}\n"
        )))
    };
    let (slot, command) = ("{ slot: {} }", "{ exec: { command: sh restore.sh, target: latest } }");
    let text = told(slot, "{ downtime: { database: 5s } }");
    assert!(text.contains("a downtime of the database, which no recovery stops"), "{text}");
    let text = told(command, "{ reference-downtime: { connectors: 5s } }");
    assert!(text.contains("a downtime of the connectors, which is not known of a command"), "{text}");
    let text = told(slot, "{ downtime: {} }");
    assert!(text.contains("a downtime of nothing"), "{text}");
    let text = mistakes(&scenario(
        "steps:\n  - load: { transactions: 5 }\nchecks: [state]\nobjectives: { downtime: { connectors: 5s } }\n",
    ));
    assert!(text.contains("objectives without a recovery"), "{text}");
}

#[test]
fn a_plan_has_each_variant_and_then_its_controls() {
    let text = scenario(indoc! {"
        title: One thing
        workload: { seed: 7 }
        pipeline: { connector-settings: { snapshot.mode: no_data }, compatibility: { global: FULL, subjects: { shop.public.orders-value: NONE } } }
        steps:
          - load: { transactions: 5, must: [update] }
          - backup: { name: nightly }
          - recover: { coordinated: { target: latest, writers: continue } }
        checks: [state, loss]
        objectives: { rto: 1m 5s, downtime: { database: 5s }, reference-downtime: { connectors: 1m }, rpo: { transactions: 2 } }
        controls:
          - { without: recovery, red: { check: state, kind: lost } }
          - { without: delete-offsets, naive: slot-by-hand, red: { check: loss, kind: lost }, silent: true }
          - { without: stop-connectors, refuses: 11 }
    "});
    let drills = drills(&text);
    let ids: Vec<&str> = drills.iter().map(|d| d.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "some/one",
            "some/one+without-recovery",
            "some/one+without-delete-offsets",
            "some/one+without-stop-connectors"
        ]
    );
    assert!(drills.iter().all(|d| d.seed == 7 && d.title == "One thing"));
    assert_eq!(drills[0].pipeline.connectors[0].settings["snapshot.mode"], "no_data");
    assert_eq!(
        drills[0].pipeline.subject_levels(|t| format!("d7.{t}")).keys().next().unwrap(),
        "d7.public.orders-value"
    );
    assert_eq!(drills[0].objectives.rto.unwrap().as_secs(), 65);
    let limits = drills[0].objectives.downtime.unwrap().limits();
    assert_eq!((limits.database_seconds, limits.connectors_seconds), (Some(5.0), None));
    let reference = drills[0].objectives.reference_downtime.unwrap().limits();
    assert_eq!((reference.database_seconds, reference.connectors_seconds), (None, Some(60.0)));
    assert_eq!(drills[2].control.as_ref().unwrap().change.word(), "delete-offsets");
    assert_eq!(resolved(&text).1.seeded(Some(9)).drills[0].seed, 9);
}

#[test]
fn the_carried_scenarios_are_good_and_reach_a_plan() {
    let library = Library::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    for (path, text) in builtin::SCENARIOS {
        let loaded = library.parsed(path.into(), text).unwrap_or_else(|e| panic!("{e}"));
        let drills = loaded.plan(None).drills;
        let expected: usize = loaded.scenario.variants.iter().map(|(_, v)| 1 + v.controls.len()).sum();
        assert_eq!(drills.len(), expected, "{path}");
        assert_eq!(loaded.file.file_stem(), Some(loaded.scenario.id.as_str()), "the file is named like its scenario");
    }
}

#[test]
fn a_declared_need_must_be_shown_by_a_control() {
    let library = Library::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let all = library.all().unwrap_or_else(|e| panic!("{e}"));
    let need = |step: &str, variant: &str, check: &str| StepNeed {
        step: step.into(),
        variant: variant.into(),
        check: check.into(),
    };
    let steps = vec![
        need("stop-connectors", "database-corruption/logical-disaster", "refused"),
        need("delete-offsets", "database-corruption/logical-disaster", "loss"),
        need("delete-offsets", "database-corruption/logical-disaster", "state"),
        need("fence", "database-corruption/logical-disaster", "restored-to-target"),
    ];
    let unmet = catalogue(&all, vec![Needs { playbook: "coordinated".into(), steps }]).unmet();
    assert_eq!(unmet.len(), 2, "{unmet:?}");
}

#[test]
fn at_least_three_controls_are_silent() {
    let library = Library::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let all = library.load(&[]).unwrap_or_else(|e| panic!("{e}"));
    let silent = all.iter().flat_map(|l| l.plan(None).drills).filter(|d| d.control.as_ref().is_some_and(|c| c.silent));
    assert!(silent.count() >= 3);
}

#[test]
fn the_schema_in_the_tree_is_the_models() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, schema_text()).unwrap();
    }
    let in_tree = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        in_tree == schema_text(),
        "scenarios/schema.json is old: `cdc-drill scenario schema > scenarios/schema.json`"
    );
}

#[test]
fn the_carried_scenarios_fit_the_schema() {
    let schema: serde_json::Value = serde_json::from_str(&schema_text()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (path, text) in builtin::SCENARIOS {
        let value: serde_json::Value = super::parse::as_json(text);
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{} at {}", e, e.instance_path())).collect();
        assert!(errors.is_empty(), "{path}: {errors:?}");
    }
}

/// A file is read once: what was found good cannot leave the plan later, unnoticed.
#[test]
fn a_drill_whose_file_goes_away_after_it_was_read_stays_in_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(folder.path()).unwrap();
    for name in ["shop.sql", "shop.json"] {
        std::fs::write(root.join(name), fixtures(name.into()).unwrap().text).unwrap();
    }
    let file = root.join("some.yaml");
    let text = scenario("steps: [ { load: { transactions: 5 } } ]\nchecks: [state]\n");
    let loaded = Library::new(root).parsed(file, &text).unwrap_or_else(|e| panic!("{e}"));
    std::fs::remove_file(root.join("shop.json")).unwrap();
    assert_eq!(loaded.plan(None).drills.len(), 1);
}

/// Whatever a drill needs and does not find is a mistake, for each scenario of the tree and each file that it names.
#[test]
fn a_file_that_is_missing_is_a_mistake_and_no_smaller_plan() {
    let library = Library::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut missed = 0;
    for loaded in library.all().unwrap_or_else(|e| panic!("{e}")) {
        let named = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let there = |path: &Utf8Path| {
            named.borrow_mut().insert(path.to_owned());
            library.fixture(&loaded.file, path)
        };
        resolve(&loaded.scenario, &there).unwrap_or_else(|problems| panic!("{}: {problems:?}", loaded.file));
        for gone in named.take() {
            let fixtures = |path: &Utf8Path| if path == gone { None } else { library.fixture(&loaded.file, path) };
            let problems = resolve(&loaded.scenario, &fixtures).unwrap_err();
            assert!(problems.iter().any(|p| p.message.contains(gone.as_str())), "{}: {problems:?}", loaded.file);
            missed += 1;
        }
    }
    assert!(missed > 6, "only {missed} files were missed");
}
