//! The sources of all crates, as ARCHITECTURE.md speaks of them: by rooms, wherever the crate is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// The crates with their rooms. A crate of one room has its name, and `lib.rs` is what `mod.rs` is elsewhere.
const CRATES: [(&str, &[&str]); 7] = [
    ("model", &["event", "moment", "units", "vocabulary"]),
    ("postgres", &["postgres"]),
    ("pipeline", &["attach", "client", "config", "debezium"]),
    ("engine", &["backup", "health", "recovery"]),
    ("workload", &["workload"]),
    ("verify", &["verify"]),
    ("harness", &["cli", "fault", "prove", "report", "run", "scenario", "stack"]),
];

/// A file of a crate.
pub(crate) struct SourceFile {
    /// Its room and its path in it: `verify/fold.rs`.
    pub(crate) name: String,
    /// Its text, in which every room's path begins with `crate::`, as if all rooms were in one crate.
    pub(crate) text: String,
}

impl SourceFile {
    /// The room.
    pub(crate) fn room(&self) -> &str {
        self.name.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// The text without the tests at its end.
    pub(crate) fn product(&self) -> &str {
        self.text.split("#[cfg(test)]").next().unwrap_or_default()
    }
}

/// All source files, in order.
pub(crate) fn sources() -> Vec<SourceFile> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let there = fs::read_dir(&crates).unwrap().count();
    assert_eq!(there, CRATES.len(), "crates in {} and in this table", crates.display());
    let found: Vec<SourceFile> = CRATES.into_iter().flat_map(|(name, rooms)| of_crate(&crates, name, rooms)).collect();
    assert!(found.len() > 300, "only {} files were found", found.len());
    found
}

/// The files of rooms, or of folders in rooms: `run/judge`.
pub(crate) fn in_rooms(rooms: &[&str]) -> Vec<SourceFile> {
    let is_in = |file: &SourceFile, room: &str| {
        file.name.strip_prefix(room).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    };
    let all = sources();
    for room in rooms {
        assert!(all.iter().any(|file| is_in(file, room)), "no file in {room}");
    }
    all.into_iter().filter(|file| rooms.iter().any(|room| is_in(file, room))).collect()
}

fn of_crate(crates: &Path, name: &str, rooms: &[&str]) -> Vec<SourceFile> {
    let src = crates.join(name).join("src");
    let one_room = rooms == [name];
    let mut found = Vec::new();
    for path in below(&src) {
        let inside = path.strip_prefix(&src).unwrap().to_str().unwrap();
        let file = match (one_room, inside) {
            (true, "lib.rs") => format!("{name}/mod.rs"),
            (true, inside) => format!("{name}/{inside}"),
            // It declares the rooms.
            (false, "lib.rs") => continue,
            (false, inside) => inside.to_owned(),
        };
        let file = SourceFile { name: file, text: in_one_crate(&fs::read_to_string(&path).unwrap(), name, one_room) };
        assert!(rooms.contains(&file.room()), "{}: no room of crate {name}", file.name);
        found.push(file);
    }
    found
}

fn in_one_crate(text: &str, own: &str, one_room: bool) -> String {
    let own_paths = Regex::new(r"(^|[^$\w])crate::").unwrap();
    let mut text = match one_room {
        true => own_paths.replace_all(text, format!("${{1}}crate::{own}::")).into_owned(),
        false => text.to_owned(),
    };
    for (name, rooms) in CRATES {
        let path = Regex::new(&format!(r"\bcdc_{name}\b")).unwrap();
        let here = if rooms == [name] { format!("crate::{name}") } else { "crate".to_owned() };
        text = path.replace_all(&text, here).into_owned();
    }
    text
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect();
    found.sort();
    found
}

#[test]
fn paths_are_those_of_one_crate() {
    let text =
        "use cdc_model::{event::What, units::Lsn};\nuse crate::{fold::Fold, look};\nuse cdc_workload as workload;";
    let expected = "use crate::{event::What, units::Lsn};\nuse crate::verify::{fold::Fold, look};\nuse crate::workload as workload;";
    assert_eq!(in_one_crate(text, "verify", true), expected);
    assert_eq!(in_one_crate("pub(in crate::stack) fn f();", "harness", false), "pub(in crate::stack) fn f();");
}
