//! The run that is kept in `reports/sample`: its reports are what its events say, and name no machine's folders.

use std::{fs, path::Path, process::Command};

#[test]
fn the_sample_reports_are_made_of_its_events() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/sample");
    let made = tempfile::tempdir().unwrap();
    fs::copy(sample.join("events.jsonl"), made.path().join("events.jsonl")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cdc-drill")).arg("report").arg(made.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for file in ["report.json", "junit.xml", "report.html"] {
        let read = |folder: &Path| fs::read_to_string(folder.join(file)).unwrap();
        assert!(
            read(made.path()) == read(&sample),
            "{file} is another now: look at it, and run `cdc-drill report reports/sample`"
        );
    }
}

#[test]
fn the_sample_names_no_folder_of_a_machine() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/sample");
    for entry in fs::read_dir(&sample).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for folder in ["/tmp/", "/home/", "/root/", "/var/"] {
            assert!(!text.contains(folder), "{} names {folder}", path.display());
        }
    }
}

/// Every kind of event, and every field that one has, stands in the documentation of the format. `fixtures/reports` has every kind.
#[test]
fn the_format_is_documented_field_by_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_to_string(root.join("docs/reports.md")).unwrap();
    let mut wrong = Vec::new();
    let mut kinds = std::collections::BTreeSet::new();
    for folder in ["fixtures/reports", "reports/sample"] {
        for line in fs::read_to_string(root.join(folder).join("events.jsonl")).unwrap().lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let (kind, fields) = event["what"].as_object().unwrap().iter().next().unwrap();
            kinds.insert(kind.clone());
            let row = docs.lines().find(|row| row.starts_with(&format!("| `{kind}` |"))).unwrap_or_default();
            let fields = fields.as_object().unwrap().keys().filter(|field| !row.contains(&format!("`{field}`")));
            wrong.extend(fields.map(|field| format!("{kind}: {field}")));
            if let Some((by, counts)) = event["what"][kind]["loaded"].as_object().and_then(|of| of.iter().next()) {
                let mut names = Vec::from([by.clone()]);
                names_in(counts, &mut names);
                wrong.extend(names.into_iter().filter(|name| !docs.contains(&format!("`{name}`"))));
            }
        }
    }
    assert!(kinds.len() >= 17, "only {kinds:?}");
    assert!(wrong.is_empty(), "not in docs/reports.md: {wrong:?}");
}

/// The names of all fields of an object, and of the objects in it.
fn names_in(value: &serde_json::Value, names: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            names.push(name.clone());
            names_in(value, names);
        }),
        serde_json::Value::Array(values) => values.iter().for_each(|value| names_in(value, names)),
        _ => {}
    }
}
