//! Holds the import arrows of ARCHITECTURE.md: a module names only the modules it may know.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::house::{in_rooms, sources};

/// What each top-level module may import, besides itself, `units` and `event`.
fn arrows() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        ("units", vec![]),
        ("event", vec![]),
        ("config", vec![]),
        ("debezium", vec![]),
        ("moment", vec![]),
        ("postgres", vec![]),
        ("vocabulary", vec![]),
        ("scenario", vec!["debezium", "vocabulary"]),
        ("client", vec!["config", "postgres", "debezium"]),
        ("attach", vec!["client", "postgres", "config"]),
        ("stack", vec!["client", "config", "postgres", "vocabulary"]),
        ("workload", vec!["client", "config", "postgres", "vocabulary"]),
        ("fault", vec!["attach", "client", "config", "postgres", "vocabulary"]),
        ("backup", vec!["attach", "client", "config", "debezium", "moment", "postgres", "vocabulary"]),
        ("recovery", vec!["attach", "backup", "client", "config", "debezium", "moment", "postgres", "vocabulary"]),
        ("health", vec!["backup", "recovery", "client", "config", "postgres"]),
        ("verify", vec!["client", "config", "debezium", "workload", "backup", "postgres", "vocabulary"]),
        (
            "run",
            vec![
                "attach",
                "client",
                "config",
                "debezium",
                "postgres",
                "scenario",
                "stack",
                "workload",
                "fault",
                "backup",
                "recovery",
                "verify",
                "report",
                "vocabulary",
            ],
        ),
        (
            "prove",
            vec![
                "backup",
                "client",
                "config",
                "debezium",
                "recovery",
                "report",
                "run",
                "stack",
                "verify",
                "vocabulary",
            ],
        ),
        ("report", vec![]),
    ])
}

/// `units` knows nothing; `event` is built of units alone; every other module may use both.
fn allowed(module: &str) -> BTreeSet<String> {
    let base: &[&str] = match module {
        "units" => &[],
        "event" => &["units"],
        _ => &["units", "event"],
    };
    let listed = arrows().get(module).cloned().unwrap_or_default();
    base.iter().chain(&listed).map(|s| (*s).to_owned()).chain([module.to_owned()]).collect()
}

/// The modules named after `crate::` in a source text, in paths and in braces.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let word = |s: &str| s.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => {
                names.insert(word(rest));
            }
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && depth == 0 && !c.is_whitespace() => {
                            names.insert(word(&group[i..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names.remove("");
    names
}

#[test]
fn imports_follow_the_arrows() {
    let mut wrong = Vec::new();
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    let mut seen = 0;
    for file in sources().into_iter().filter(|file| file.room() != "cli") {
        let room = file.room();
        assert!(arrows().contains_key(room), "{room} has no place in ARCHITECTURE.md and in this table");
        seen += 1;
        let may = allowed(room);
        for name in named(&file.text) {
            if arrows().contains_key(name.as_str()) && !may.contains(&name) {
                wrong.push(format!("{} imports {name}", file.name));
            }
            used.insert((room.to_owned(), name));
        }
    }
    assert!(seen > 20, "only {seen} files were looked at");
    assert!(wrong.is_empty(), "imports against the arrows:\n{}", wrong.join("\n"));
    let pairs =
        arrows().into_iter().flat_map(|(from, all)| all.into_iter().map(move |to| (from.to_owned(), to.to_owned())));
    let unused: Vec<String> =
        pairs.filter(|pair| !used.contains(pair)).map(|(from, to)| format!("{from} -> {to}")).collect();
    assert!(unused.is_empty(), "arrows that nobody needs, here and in ARCHITECTURE.md:\n{}", unused.join("\n"));
}

/// The engine takes steps as data: that one of them is left out on purpose, and what people do who have no recovery, is composed in
/// `run/controls` alone. Records have fields whose names are older than that.
#[test]
fn the_engine_knows_no_control() {
    let of_tests = Regex::new(r"(?i)naive|omit|\bcontrols\b|noticed").unwrap();
    let field = Regex::new(r#"#\[serde\(rename = "\w+"\)\]"#).unwrap();
    let mut wrong = Vec::new();
    for file in in_rooms(&["recovery"]) {
        let product = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in product.lines().enumerate().filter(|(_, line)| !field.is_match(line)) {
            if of_tests.is_match(line) {
                wrong.push(format!("{}:{}: {}", file.name, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "the engine names what drills leave out:\n{}", wrong.join("\n"));
}

/// A runtime of one thread, where a plain `#[tokio::test]` runs, cannot do it and panics.
#[test]
fn nothing_blocks_in_place() {
    let calls = sources().into_iter().filter(|file| file.text.contains("block_in_place("));
    let wrong: Vec<String> = calls.map(|file| file.name).collect();
    assert!(wrong.is_empty(), "spawn_blocking works on every runtime: {wrong:?}");
}

#[test]
fn mod_files_only_declare_and_re_export() {
    let mut wrong = Vec::new();
    // The command line's own entry stands beside the table of its subcommands.
    for file in sources().into_iter().filter(|f| f.name.ends_with("/mod.rs") && f.name != "cli/mod.rs") {
        let defines = ["fn ", "pub fn ", "struct ", "pub struct ", "enum ", "impl "];
        if file.text.lines().any(|line| defines.iter().any(|word| line.starts_with(word))) {
            wrong.push(file.name);
        }
    }
    assert!(wrong.is_empty(), "these hold more than declarations:\n{}", wrong.join("\n"));
}

/// A client that is made of an address alone has no credentials: product code makes them of a configuration's section.
#[test]
fn clients_are_made_of_configurations() {
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(|f| f.room() != "client" && f.name != "stack/folder/ready.rs") {
        if ["Kafka::connect(", "Connect::new(", "Registry::new("].iter().any(|call| file.text.contains(call)) {
            wrong.push(file.name);
        }
    }
    assert!(wrong.is_empty(), "these leave credentials out:\n{}", wrong.join("\n"));
}

/// A fixed time that decides something is a limit: listed once, with its reason, and stretched on a slow machine.
#[test]
fn fixed_times_are_listed_once() {
    // How the machine is measured, and the list itself.
    let listed = ["client/limits.rs", "client/pace.rs"];
    let rooms = ["attach", "backup", "client", "fault", "health", "recovery", "run", "stack", "verify", "workload"];
    let mut wrong = Vec::new();
    for file in in_rooms(&rooms).into_iter().filter(|file| !listed.contains(&file.name.as_str())) {
        for (number, line) in file.product().lines().enumerate() {
            if ["Duration::from_secs(", "Duration::from_millis(", "Duration::from_mins("]
                .iter()
                .any(|c| line.contains(c))
            {
                wrong.push(format!("{}:{}: {}", file.name, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "these belong into client/limits.rs:\n{}", wrong.join("\n"));
}

/// The lines of these rooms' files, but for their tests, with the file's name and the line's number.
fn product_lines(rooms: &[&str]) -> Vec<(String, usize, String)> {
    let tests = Regex::new(r"#\[cfg\(test\)\]\n(?:pub\([a-z: ]+\) )?mod tests").unwrap();
    let is_for_tests = |name: &str| ["/fixture.rs", "tests.rs"].iter().any(|end| name.ends_with(end));
    let mut lines = Vec::new();
    for file in in_rooms(rooms).into_iter().filter(|file| !is_for_tests(&file.name)) {
        let product = tests.splitn(&file.text, 2).next().unwrap_or_default();
        let code = product.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        lines.extend(code.map(|(number, line)| (file.name.clone(), number + 1, line.trim().to_owned())));
    }
    assert!(lines.len() > 5_000, "only {} lines were looked at", lines.len());
    lines
}

/// Holds that only the named files have such lines, and that each of them has one: an exception that nobody needs would hide the
/// next mistake.
fn only_in(exceptions: &[&str], rooms: &[&str], what: &str, is_such: impl Fn(&str) -> bool) {
    let (mut wrong, mut met) = (Vec::new(), BTreeSet::new());
    for (file, number, line) in product_lines(rooms).into_iter().filter(|(.., line)| is_such(line)) {
        match exceptions.contains(&file.as_str()) {
            true => {
                met.insert(file);
            }
            false => wrong.push(format!("{file}:{number}: {line}")),
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    let stale: Vec<&&str> = exceptions.iter().filter(|e| !met.contains(**e)).collect();
    assert!(stale.is_empty(), "exceptions that nobody needs: {stale:?}");
}

/// What can hold rows or secrets is made by `backup::files::Store`, for its owner alone, or in a temporary folder of
/// `config::Tools`.
#[test]
fn files_with_rows_or_secrets_are_made_in_one_way() {
    let exceptions = [
        // The ways themselves.
        "backup/files.rs",
        "config/temporary.rs",
        // Man pages.
        "cli/completions.rs",
        // Metrics are for others to read, and nothing in them is secret.
        "health/exposition.rs",
        // A data folder: its files have the modes that the backup has for them.
        "backup/parts/postgres/extract.rs",
        // Gives a second name to a file that the store has made.
        "backup/wal/indexed.rs",
    ];
    let ways = [
        "fs::write(",
        "fs_err::write(",
        "File::create",
        "File::options(",
        "OpenOptions",
        "DirBuilder",
        "create_dir",
        "hard_link(",
        "fs::copy(",
        "fs_err::copy(",
        "tempdir(",
        "tempdir_in(",
        "tempfile::Builder",
        "NamedTempFile",
    ];
    let is_such = |line: &str| !line.starts_with("use ") && ways.iter().any(|way| line.contains(way));
    let what = "make these by `Store`, so that nobody else can read them";
    only_in(&exceptions, &["attach", "backup", "cli", "config", "health", "recovery"], what, is_such);
}

/// To the file system the address of an object in a bucket is a file that is not there: who reads or writes what may be in a repository asks
/// `backup::files` or `backup::storage`.
#[test]
fn objects_of_a_repository_are_asked_for_by_their_addresses() {
    let exceptions = [
        // The ways themselves.
        "backup/files.rs",
        "backup/storage/draft.rs",
        "backup/storage/listing.rs",
        "backup/storage/reader.rs",
        // What is local by nature: data folders, the spool, files that are offered or restored, locks in folders, processes.
        "backup/file_system.rs",
        "backup/lock/file.rs",
        "backup/lock/held.rs",
        "backup/lock/holder.rs",
        "backup/parts/postgres/capture.rs",
        "backup/parts/postgres/extract.rs",
        "backup/repository.rs",
        "backup/seal/identity.rs",
        "backup/wal/following.rs",
        "backup/wal/frame.rs",
        "backup/wal/header.rs",
        "backup/wal/held.rs",
        "backup/wal/intake.rs",
        "backup/wal/offered.rs",
        "backup/wal/prefetch.rs",
        // Format 1, which a bucket cannot have.
        "backup/upgrade.rs",
        "backup/wal/indexed.rs",
    ];
    let ways = Regex::new(r"\bfs::|File::open|read_dir|canonicalize").unwrap();
    let imports = Regex::new(r"^(?:use .*|fs::(?:File|\{.*\}),)$").unwrap();
    let is_such = |line: &str| !imports.is_match(line) && ways.is_match(line);
    only_in(&exceptions, &["backup"], "ask `backup::files` or `backup::storage`", is_such);
}

/// `Path::exists` and its like take a file that cannot be looked at for one that is not there.
#[test]
fn an_error_is_not_taken_for_absence() {
    // What /proc does not say of a process is not known, and then the heartbeat decides.
    let exceptions = ["backup/lock/holder.rs"];
    let of_a_look = ["meta", "kind", "file_type()", "entry_type()", "?"];
    let asks = Regex::new(r"^(.*)\.(?:exists|is_dir|is_file|is_symlink)\(\)").unwrap();
    let reads = ["fs::read", "read_dir", "metadata(", "File::open(", "read_to_string("];
    let swallowed = [".ok()", ".is_ok()", "is_ok_and(", "unwrap_or_default()", "map_or(", "let Ok("];
    let is_such = |line: &str| {
        let path = asks.captures(line).is_some_and(|found| !of_a_look.iter().any(|look| found[1].ends_with(look)));
        path || (reads.iter().any(|read| line.contains(read)) && swallowed.iter().any(|way| line.contains(way)))
    };
    let what = "use `units::IfThere` or `backup::is_there`, so that an error stays one";
    only_in(&exceptions, &["attach", "backup", "cli", "config", "health", "recovery"], what, is_such);
}

/// What a server reads is quoted by `postgres::sql`, which knows what a backslash means there.
#[test]
fn quotes_are_doubled_in_one_place() {
    let doubled =
        Regex::new(r#"replace\(\s*(?:'\\''|'"'|"'"|"\\""|"`"|'`')\s*,\s*(?:"''"|r?"\\"\\""|"``")\s*\)"#).unwrap();
    assert!(doubled.is_match(r##"name.replace('\'', "''")"##) && doubled.is_match(r##"name.replace('"', "\"\"")"##));
    let doubling = sources().into_iter().filter(|file| doubled.is_match(&file.text));
    let wrong: Vec<String> = doubling.map(|file| file.name).collect();
    assert!(wrong.is_empty(), "use postgres::sql, or units::quoted for a notation of our own: {wrong:?}");
}

/// How PostgreSQL names its files and what they begin with is known to `postgres` alone.
#[test]
fn postgresql_formats_are_read_in_one_room() {
    let rooms =
        ["attach", "backup", "cli", "client", "config", "fault", "recovery", "run", "stack", "verify", "workload"];
    let formats = [":08X}", "\"global/pg_control\"", ".history\"", "0xD1", "--rmgr", "170_000"];
    let is_such = |line: &str| formats.iter().any(|format| line.contains(format));
    only_in(&[], &rooms, "`postgres` knows this", is_such);
}

/// A hint is data (`units::Hint`), which whoever prints an error puts behind its message. In the message it would be in the middle of every
/// text that quotes the error.
#[test]
fn no_message_holds_a_hint() {
    // Prints hints; shows the hint of a mistake in a scenario below its line.
    let exceptions = ["units/failure.rs", "scenario/error.rs"];
    let in_text = Regex::new(r#"(?:"|\\n)\s*(?:\\\n\s*)?hint: "#).unwrap();
    let mut met = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(|file| !file.name.ends_with("tests.rs")) {
        let product = file.product();
        match in_text.find(product) {
            Some(_) if exceptions.contains(&file.name.as_str()) => _ = met.insert(file.name),
            Some(found) => wrong.push(format!("{}:{}", file.name, product[..found.start()].lines().count())),
            None => {}
        }
    }
    assert!(wrong.is_empty(), "give these by `Failure::hints`:\n{}", wrong.join("\n"));
    assert_eq!(met.len(), exceptions.len(), "exceptions that nobody needs: only {met:?}");
}

/// The message of an error is complete, so what prints an error and then its sources says nothing twice: only an error that passes on
/// another one's message has a source.
#[test]
fn no_error_says_its_cause_twice() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in sources() {
        for error in file.text.split("#[error(").skip(1).filter(|error| !error.starts_with("transparent)]")) {
            seen += 1;
            let variant = error.split("\n    ///").take_while(|part| !part.contains("#[error(")).collect::<String>();
            let fields = variant.split("\n}\n").next().unwrap_or_default();
            if ["#[from]", "#[source]", " source:", "{source}"].iter().any(|way| fields.contains(way)) {
                wrong.push(format!(
                    "{}: {}",
                    file.name,
                    fields.lines().find(|l| l.contains('"')).unwrap_or_default().trim()
                ));
            }
        }
    }
    assert!(seen > 100, "only {seen} errors were looked at");
    assert!(wrong.is_empty(), "name the field `cause`:\n{}", wrong.join("\n"));
}

#[test]
fn a_group_import_names_each_of_its_modules() {
    let text = "use crate::{client::{kafka, wait}, units::Lsn};\nlet x = crate::event::What;";
    let expected: BTreeSet<String> = ["client", "units", "event"].map(str::to_owned).into();
    assert_eq!(named(text), expected);
}
