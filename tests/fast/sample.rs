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
