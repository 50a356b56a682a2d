//! The commands' contract: help, exit codes, what goes to which stream, and the shapes of the JSON. The built program is
//! run with no server alive, and what it says is compared with the files in `snapshots/`.

use std::{collections::BTreeSet, fmt::Write, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use indoc::indoc;
use rstest::rstest;
use serde_json::Value;
use sha2::{Digest, Sha256};

use cdc_harness::report::redact;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cdc-drill");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Nobody listens on port 1, so that every look fails at once.
pub(super) const DEAD: &str = indoc! {r#"
    [postgres]
    url = "postgres://postgres:a-secret@127.0.0.1:1/postgres"
    pgdata = "pgdata"
    bin = "bin"

    [kafka]
    bootstrap = "127.0.0.1:1"

    [connect]
    url = "http://127.0.0.1:1"

    [registry]
    url = "http://127.0.0.1:1"
    flavour = "apicurio"

    [repository]
    path = "repository"
"#};

/// The bad day: everything is down, and the engine is told how to start it.
const CONTROL: &str = indoc! {r#"

    [control.postgres]
    start = "false"
    stop = "true"
    running = "false"
"#};

const SCENARIO: &str = indoc! {"
    version: 1
    id: mine
    title: A table is emptied
    pipeline:
      schema: shop.sql
      connector: shop.json
    variants:
      emptied:
        title: A DELETE without WHERE
        steps:
          - load: { transactions: 10 }
          - backup: { name: nightly }
          - fault: { delete-all: { table: orders } }
          - recover: { coordinated: { target: latest } }
        checks: [state]
        objectives: { rto: 60s }
"};

/// A folder with everything that the bad commands name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // Some hold a password: only their owner may read them.
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        fs::set_permissions(folder.path().join(name), PermissionsExt::from_mode(0o600)).unwrap();
    };
    write("dead.toml", DEAD);
    write("controlled.toml", &format!("{DEAD}{CONTROL}"));
    write("unknown-field.toml", &DEAD.replace("bootstrap =", "bootstraps ="));
    write("elsewhere.toml", &DEAD.replace(r#"path = "repository""#, r#"path = "empty""#));
    write("wrong-type.toml", &DEAD.replace(r#"path = "repository""#, "path = 7"));
    write("no-toml.toml", "[postgres\n");
    write("secret.toml", &DEAD.replace(r#"flavour ="#, "auth = { token = \"a-secret\" }\nflavour ="));
    let attached = DEAD.replace("postgres:a-secret@", "postgres@");
    write("attached.toml", &format!("{attached}{CONTROL}[attach]\nallow = [\"backup\"]\n"));
    write("attached-secret.toml", &format!("{DEAD}[attach]\n"));
    for table in ["shop.sql", "shop.json"] {
        let kind = if table == "shop.sql" { "sql" } else { "connectors" };
        fs::copy(Path::new(ROOT).join("fixtures").join(kind).join(table), folder.path().join(table)).unwrap();
    }
    write("empty.json", r#"{"connector.class": "x", "topic.prefix": "{prefix}", "table.include.list": ""}"#);
    write("good.yaml", SCENARIO);
    write("field.yaml", &SCENARIO.replace("transactions: 10", "transactionz: 10"));
    write("fault.yaml", &SCENARIO.replace("delete-all", "set-on-fire"));
    write("check.yaml", &SCENARIO.replace("[state]", "[vibes]"));
    write("type.yaml", &SCENARIO.replace("transactions: 10", "transactions: many"));
    write("tables.yaml", &SCENARIO.replace("shop.json", "empty.json"));
    write("schema.yaml", &SCENARIO.replace("shop.sql", "nowhere.sql"));
    write("plugin.yaml", &SCENARIO.replace("variants:", "stack: { connect: { plugins: [plugins/mine] } }\nvariants:"));
    let coordinated = "coordinated: { target: latest }";
    write("runbook.yaml", &SCENARIO.replace(coordinated, "exec: { command: '', target: yesterday }"));
    write("newer.yaml", &SCENARIO.replace("version: 1", "version: 99"));
    copy(&Path::new(ROOT).join("fixtures/backups/format-1"), &folder.path().join("repository"));
    copy(&Path::new(ROOT).join("fixtures/backups/format-2"), &folder.path().join("format-2"));
    several(&folder.path().join("several"));
    copy(&Path::new(ROOT).join("fixtures/reports"), &folder.path().join("run"));
    fs::create_dir(folder.path().join("empty")).unwrap();
    folder
}

/// A repository with a whole recovery point, one whose manifest is damaged, and one whose consistency checks failed.
fn several(repository: &Path) {
    let golden = Path::new(ROOT).join("fixtures/backups/format-1");
    copy(&golden, repository);
    let first = "20261122T020000Z-7f3a";
    let later = |id: &str, change: &dyn Fn(String) -> String| {
        let point = repository.join("points").join(id);
        copy(&golden.join("points").join(first), &point);
        let text = fs::read_to_string(point.join("manifest.json")).unwrap();
        let text = change(text.replace(first, id));
        let sum = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        fs::write(point.join("manifest.json"), text).unwrap();
        fs::write(point.join("manifest.sha256"), format!("{sum}  manifest.json\n")).unwrap();
        point
    };
    later("20261123T020000Z-0001", &|text| text.replace(r#""ok": true"#, r#""ok": false"#));
    let damaged = later("20261124T020000Z-0002", &|text| text);
    fs::write(damaged.join("manifest.json"), "{}").unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a command did.
struct Said {
    exit: Option<i32>,
    stdout: String,
    stderr: String,
}

fn said(folder: &Path, line: &str) -> Said {
    let output = Command::new(PROGRAM)
        .args(line.split(' '))
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .env_remove("RUST_BACKTRACE")
        .env_remove("CDC_DRILL_POSTGRES_URL")
        .env("COLUMNS", "100")
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { exit: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// One text of both streams and the exit code.
fn transcript(folder: &Path, line: &str) -> String {
    let said = said(folder, line);
    let mut text = format!("$ cdc-drill {line}\nexit {}\n", said.exit.unwrap());
    let ages = regex::Regex::new(r"\d+ (second|minute|hour|day)s? old").unwrap();
    for (name, stream) in [("stdout", said.stdout), ("stderr", said.stderr)] {
        if !stream.is_empty() {
            let here = folder.to_str().unwrap();
            let stream = redact(&stream.replace(here, "[folder]"));
            let stream = ages.replace_all(&stream, "[age] old");
            write!(text, "--- {name}\n{}\n", stream.trim_end()).unwrap();
        }
    }
    text
}

/// The words of every command that people see, the program itself first.
fn commands(command: &clap::Command, words: &str) -> Vec<String> {
    let mut all = vec![words.to_owned()];
    for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        all.extend(commands(below, format!("{words} {}", below.get_name()).trim_start()));
    }
    all
}

#[test]
fn help_of_every_command() {
    let mut names = BTreeSet::new();
    for words in commands(&cdc_harness::cli::command(), "") {
        let name = format!("help {words}").trim_end().replace(' ', "-");
        insta::assert_snapshot!(name.as_str(), transcript(Path::new(ROOT), format!("{words} --help").trim_start()));
        names.insert(format!("fast__contract__{name}.snap"));
    }
    let kept = fs::read_dir(Path::new(ROOT).join("tests/fast/snapshots")).unwrap();
    let kept = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
    let stale: Vec<String> = kept.filter(|n| n.starts_with("fast__contract__help") && !names.contains(n)).collect();
    assert!(stale.is_empty(), "of commands that are no more: {stale:?}");
}

#[rstest]
#[case::unknown_command("unknown-command", "frobnicate")]
#[case::unknown_flag("unknown-flag", "run --frobnicate")]
#[case::wrong_seed("wrong-seed", "run --seed many")]
#[case::unknown_scenario("unknown-scenario", "run nowhere.yaml")]
#[case::nothing_chosen("nothing-chosen", "run --only no-such-variant good.yaml")]
#[case::config_missing("config-missing", "verify --config nowhere.toml")]
#[case::config_unknown_field("config-unknown-field", "verify --config unknown-field.toml")]
#[case::config_wrong_type("config-wrong-type", "backup list --config wrong-type.toml")]
#[case::config_no_toml("config-no-toml", "recover plan slot --config no-toml.toml")]
#[case::config_secret("config-secret", "verify --config secret.toml")]
#[case::attached_secret("attached-secret", "verify --config attached-secret.toml")]
#[case::attached_recover("attached-recover", "recover run coordinated --yes --config attached.toml")]
#[case::attached_backup("attached-backup", "backup create --config attached.toml")]
#[case::attached_run("attached-run", "run --backend attach --config attached.toml good.yaml")]
#[case::attached_run_of_the_sandbox("attached-run-sandbox", "run --backend attach --config dead.toml good.yaml")]
#[case::scenario_missing("scenario-missing", "scenario check nowhere.yaml")]
#[case::scenario_unknown_field("scenario-unknown-field", "scenario check field.yaml")]
#[case::scenario_unknown_fault("scenario-unknown-fault", "scenario check fault.yaml")]
#[case::scenario_unknown_check("scenario-unknown-check", "scenario check check.yaml")]
#[case::scenario_wrong_type("scenario-wrong-type", "scenario check type.yaml")]
#[case::scenario_no_tables("scenario-no-tables", "scenario check tables.yaml")]
#[case::scenario_no_schema("scenario-no-schema", "scenario check schema.yaml")]
#[case::scenario_newer("scenario-newer", "scenario check newer.yaml")]
#[case::scenario_good_and_bad("scenario-good-and-bad", "scenario check good.yaml type.yaml")]
#[case::report_of_nothing("report-of-nothing", "report nowhere")]
#[case::report_without_events("report-without-events", "report empty")]
#[case::backup_list_elsewhere("backup-list-elsewhere", "backup list --repository empty")]
#[case::backup_verify_elsewhere("backup-verify-elsewhere", "backup verify --repository empty latest")]
#[case::backup_unknown_point("backup-unknown-point", "backup show --repository repository no-such-point")]
#[case::backup_two_places("backup-two-places", "backup list --repository repository --config dead.toml")]
#[case::backup_of_the_dead("backup-of-the-dead", "backup create --config dead.toml")]
#[case::recover_without_yes("recover-without-yes", "recover run coordinated --config controlled.toml")]
#[case::recover_without_control("recover-without-control", "recover run coordinated --config dead.toml")]
#[case::recover_slot_of_the_dead("recover-slot-of-the-dead", "recover run slot --config dead.toml")]
#[case::recover_wrong_target("recover-wrong-target", "recover plan coordinated --config dead.toml --target yesterday")]
#[case::recover_slot_to_a_target(
    "recover-slot-to-a-target",
    "recover plan slot --config dead.toml --target time:2026-11-27T02:14:00Z"
)]
#[case::recover_coordinated_with_topics(
    "recover-coordinated-with-topics",
    "recover plan coordinated --config dead.toml --topics compensate"
)]
#[case::topic_without_names("topic-without-names", "topic rebuild --config dead.toml --yes")]
#[case::recover_unnamed_point(
    "recover-unnamed-point",
    "recover plan coordinated --config dead.toml --accept-inconsistent-point"
)]
#[case::recover_unnamed_loss("recover-unnamed-loss", "recover run coordinated --config dead.toml --yes --accept-loss")]
#[case::attached_restore("attached-restore", "restore groups --yes --config attached.toml")]
#[case::restore_of_the_dead("restore-of-the-dead", "restore groups --config dead.toml")]
#[case::restore_unnamed_point("restore-unnamed-point", "restore topics --config dead.toml --accept-inconsistent-point")]
#[case::restore_unknown_loss("restore-unknown-loss", "restore connectors --config dead.toml --accept-loss everything")]
#[case::topic_of_a_server("topic-of-a-server", "topic rebuild --config dead.toml --yes connect-offsets")]
#[case::topic_of_a_registry("topic-of-a-registry", "topic rebuild --config dead.toml --yes shop.public.a _schemas")]
#[case::topic_like_a_workers("topic-like-a-workers", "topic rebuild --config dead.toml --yes connect-configs")]
#[case::backup_check_damaged("backup-check-damaged", "backup check --repository several")]
#[case::backup_verify_damaged("backup-verify-damaged", "backup verify --repository several latest")]
#[case::backup_prune_format_1("backup-prune-format-1", "backup prune --repository repository")]
#[case::backup_prune_both("backup-prune-both", "backup prune --repository format-2 --keep 1 --keep-days 2")]
#[case::status_of_nothing("status-of-nothing", "status --config elsewhere.toml")]
#[case::metrics_of_no_pipeline("metrics-of-no-pipeline", "backup check --repository repository --metrics m.prom")]
#[case::metrics_of_no_drill("metrics-of-no-drill", "run --metrics m.prom good.yaml")]
#[case::no_such_plugin("no-such-plugin", "scenario check plugin.yaml")]
#[case::runbook_without_command("runbook-without-command", "scenario check runbook.yaml")]
#[case::verify_of_the_dead("verify-of-the-dead", "verify --config dead.toml --deadline 1s")]
#[case::stack_nowhere("stack-nowhere", "stack status --dir empty")]
#[case::stack_down_nowhere("stack-down-nowhere", "stack down --dir nowhere")]
#[case::wrong_port("stack-wrong-port", "stack up --dir new --port kafka=none")]
#[case::no_such_wal("no-such-wal", "wal fetch --repository repository --system-id 7 000000010000000000000099 out")]
#[case::wal_unreadable("wal-unreadable", "wal fetch --repository empty --system-id 7 000000010000000000000099 out")]
#[case::connector_without_tables(
    "connector-without-tables",
    "stack connector --name n --database d --config dead.toml"
)]
#[case::sink_without_topics("sink-without-topics", "stack sink --file out.txt --config dead.toml")]
#[case::objective_unmeasured("objective-unmeasured", "run database-corruption --only pgbench --max-rpo 1s --dry-run")]
#[case::objective_no_span("objective-no-span", "run --max-rto fast good.yaml")]
#[case::objective_of_nothing("objective-of-nothing", "status --config elsewhere.toml --max-rto 1s")]
#[case::annotations_unknown("annotations-unknown", "report run --annotations bitbucket")]
#[case::annotations_beside_json("annotations-beside-json", "report run --annotations github --json")]
#[case::report_as_it_ended("report-as-it-ended", "report run --as-it-ended")]
fn bad_input(#[case] name: &str, #[case] line: &str) {
    let folder = folder();
    insta::assert_snapshot!(format!("bad-{name}"), transcript(folder.path(), line));
}

#[rstest]
#[case::scenario_list("scenario-list", "scenario list")]
#[case::scenario_list_json("scenario-list-json", "scenario list --json")]
#[case::scenario_check("scenario-check", "scenario check good.yaml")]
#[case::backup_list("backup-list", "backup list --repository repository")]
#[case::backup_list_several("backup-list-several", "backup list --repository several")]
#[case::backup_verify("backup-verify", "backup verify --repository repository latest --deep --json")]
#[case::backup_check("backup-check", "backup check --repository repository")]
#[case::backup_prune("backup-prune", "backup prune --repository format-2 --keep 1 --dry-run")]
#[case::backup_upgrade("backup-upgrade", "backup upgrade --repository repository --dry-run")]
#[case::report("report", "report run")]
#[case::dry_report("dry-report", "report run --dry-run")]
#[case::dry_run("dry-run", "run --dry-run good.yaml")]
#[case::dry_run_objectives("dry-run-objectives", "run --dry-run --max-rto 5m --max-rpo 0s good.yaml")]
#[case::annotations("annotations", "report run --annotations github")]
#[case::dry_setup("dry-setup", "setup --dry-run")]
#[case::dry_stack_up("dry-stack-up", "stack up --dir new --dry-run")]
#[case::dry_backup_init("dry-backup-init", "backup init --repository new --dry-run")]
#[case::dry_backup_create("dry-backup-create", "backup create --config dead.toml --dry-run")]
#[case::dry_wal_push("dry-wal-push", "wal push --repository repository --pgdata data --dry-run pg_wal/0")]
fn good_input(#[case] name: &str, #[case] line: &str) {
    let folder = folder();
    insta::assert_snapshot!(format!("good-{name}"), transcript(folder.path(), line));
}

/// Keys and types: a script that reads the JSON depends on these, not on the values.
#[rstest]
#[case::report("report", "report run --json")]
#[case::backup_list("backup-list", "backup list --repository repository --json")]
#[case::backup_list_several("backup-list-several", "backup list --repository several --json")]
#[case::backup_show("backup-show", "backup show --repository repository latest")]
#[case::backup_prune("backup-prune", "backup prune --repository format-2 --keep 1 --json")]
fn json_shape(#[case] name: &str, #[case] line: &str) {
    let folder = folder();
    let said = said(folder.path(), line);
    assert_eq!(said.exit, Some(0), "{}", said.stderr);
    let value: Value = serde_json::from_str(&said.stdout).expect("nothing but JSON on standard output");
    insta::assert_snapshot!(format!("shape-{name}"), serde_json::to_string_pretty(&shape(&value)).unwrap());
}

fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(items) => {
            let mut shapes: Vec<Value> = Vec::new();
            for item in items.iter().map(shape) {
                match shapes.iter().position(|s| s.is_object() && item.is_object()) {
                    Some(at) => shapes[at] = both(&shapes[at], &item),
                    None if !shapes.contains(&item) => shapes.push(item),
                    None => {}
                }
            }
            Value::Array(shapes)
        }
        Value::String(_) => "string".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Null => "null".into(),
    }
}

/// What fits two shapes: lists are told by their items, and a value by its types.
fn both(one: &Value, other: &Value) -> Value {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut fields = one.clone();
            for (name, value) in other {
                let met = fields.get(name).map_or_else(|| value.clone(), |known| both(known, value));
                fields.insert(name.clone(), met);
            }
            Value::Object(fields)
        }
        (Value::Array(one), Value::Array(other)) if one.is_empty() || other.is_empty() => {
            Value::Array(one.iter().chain(other).cloned().collect())
        }
        (Value::Array(one), Value::Array(other)) if one.len() == 1 && other.len() == 1 => {
            Value::Array(vec![both(&one[0], &other[0])])
        }
        (Value::String(one), Value::String(other)) => {
            let mut types: Vec<&str> = one.split(" or ").chain(other.split(" or ")).collect();
            types.sort_unstable();
            types.dedup();
            types.join(" or ").into()
        }
        (Value::String(null), known) | (known, Value::String(null)) if null == "null" => known.clone(),
        _ if one == other => one.clone(),
        _ => Value::String(format!("{one} or {other}")),
    }
}
