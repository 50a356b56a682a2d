//! The examples in `deploy/` are what the program reads and a shell takes, as far as that can be told without running them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cdc_drill::config::Config;

fn files(ending: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let folders = fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir());
    let all = folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|e| e.unwrap().path());
    let found: Vec<PathBuf> = all.filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    assert!(!found.is_empty(), "no .{ending} in deploy/");
    found
}

fn shell_takes(what: &str, text: &str) {
    let output = Command::new("sh").args(["-n", "-c", text]).output().unwrap();
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn configurations_are_understood_and_permit_no_faults() {
    let all = files("toml");
    assert_eq!(all.len(), 3);
    for file in all {
        let text = fs::read_to_string(&file).unwrap();
        let config: Config = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let hook = &config.control["postgres"];
        let commands = [Some(&hook.start), Some(&hook.stop), Some(&hook.running), hook.pgdata.as_ref()];
        commands.into_iter().flatten().for_each(|command| shell_takes(&file.display().to_string(), command));
        if let Some(tool) = &hook.tool {
            shell_takes("tool", &format!("exec {tool} \"$@\""));
        }
        assert!(hook.pgdata.is_some() || !config.postgres.pgdata.as_str().is_empty(), "{}", file.display());
        let attach = config.attach.expect("an example of somebody's pipeline");
        assert!(attach.marker.is_some() && !attach.namespaces.is_empty());
        assert!(attach.allow.iter().all(|p| p.word() != "inject"), "an example permits faults");
    }
}

#[test]
fn scripts_are_shell() {
    for file in files("sh") {
        shell_takes(&file.display().to_string(), &fs::read_to_string(&file).unwrap());
    }
}

#[test]
fn manifests_are_yaml_of_known_kinds() {
    for file in files("yaml") {
        let text = fs::read_to_string(&file).unwrap();
        for document in text.split("\n---\n") {
            let value: serde_json::Value =
                serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let compose = value["services"]["postgres"]["image"].is_string();
            let manifest = value["kind"].is_string() && value["apiVersion"].is_string();
            assert!(compose || manifest && value["metadata"]["name"].is_string(), "{}", file.display());
        }
    }
}
