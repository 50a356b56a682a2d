//! The examples in `deploy/` are what the program reads and a shell takes, as far as that can be told without running them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use cdc_pipeline::config::Config;

fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == ending) => found.push(path),
                false => {}
            }
        }
    }
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
    assert_eq!(all.len(), 4);
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
        if file.parent().is_some_and(|folder| folder.ends_with("sandbox")) {
            assert!(config.attach.is_none(), "{}: a sandbox is one by having no [attach]", file.display());
            continue;
        }
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
            // Alert rules and their tests, which `monitoring.rs` looks at.
            let alerts = value["groups"].is_array() || value["rule_files"].is_array();
            let manifest = value["kind"].is_string() && value["apiVersion"].is_string();
            assert!(compose || alerts || manifest && value["metadata"]["name"].is_string(), "{}", file.display());
        }
    }
}

/// Runs a `running` hook's script where this program answers for the one it asks; its exit status.
fn running(script: &str, arguments: &[&str], program: &str, answers: &str) -> i32 {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join(program);
    fs::write(&fake, format!("#!/bin/sh\n{answers}\n")).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(script);
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let mut command = Command::new("sh");
    command.arg(&script).args(arguments).env("PATH", path);
    command.output().unwrap().status.code().unwrap()
}

#[test]
fn a_unit_is_down_only_when_systemd_says_so() {
    let of = |answers: &str| running("systemd/running.sh", &["postgresql@18-main"], "systemctl", answers);
    let states = |load: &str, active: &str| of(&format!("echo LoadState={load}; echo ActiveState={active}"));
    assert_eq!(["inactive", "failed"].map(|state| states("loaded", state)), [1, 1]);
    assert_eq!(states("masked", "inactive"), 1);
    for active in ["active", "activating", "deactivating", "reloading"] {
        assert_eq!(states("loaded", active), 0, "{active}");
    }
    assert_eq!(states("not-found", "inactive"), 2, "a mistyped name is no server that is down");
    assert_eq!(of("echo Failed to connect to bus >&2; exit 1"), 2);
    assert_eq!(of("exit 0"), 2);
}

#[test]
fn a_service_is_down_only_when_its_container_is() {
    let of = |ps: &str, inspect: &str| {
        let answers = format!("case $1 in compose) {ps};; inspect) {inspect};; esac");
        running("compose/running.sh", &["shop", "/srv/compose.yaml", "postgres"], "docker", &answers)
    };
    for (state, exit) in
        [("exited", 1), ("created", 1), ("dead", 1), ("running", 0), ("paused", 0), ("restarting", 0), ("odd", 2)]
    {
        assert_eq!(of("echo 4f5e", &format!("echo {state}")), exit, "{state}");
    }
    assert_eq!(of("echo Cannot connect to the Docker daemon >&2; exit 1", "true"), 2);
    assert_eq!(of("true", "true"), 2, "no container: another project's name");
    assert_eq!(of("echo 4f5e", "exit 1"), 2);
}

#[test]
fn a_stateful_set_is_down_only_when_it_wants_no_pod_and_has_none() {
    let of = |replicas: &str, pod: &str| {
        let answers = format!("case \"$*\" in *statefulset/*) {replicas};; *) {pod};; esac");
        running("kubernetes/base/hooks.sh", &["running", "shop", "postgres"], "kubectl", &answers)
    };
    let pod = "echo pod/postgres-0";
    assert_eq!(of("printf 0", "true"), 1);
    assert_eq!(
        (of("printf 0", pod), of("printf 1", "true"), of("printf 1", pod)),
        (0, 0, 0),
        "ending, beginning, there"
    );
    assert_eq!(of("echo not found >&2; exit 1", "true"), 2);
    assert_eq!(of("printf 0", "echo no route >&2; exit 1"), 2);
    assert_eq!(of("true", "true"), 2);
}

#[test]
fn no_example_turns_every_failure_into_a_server_that_is_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts = files("toml").into_iter().chain([root.join("README.md")]);
    for file in texts {
        let text = fs::read_to_string(&file).unwrap();
        let hooks = text.lines().filter(|line| line.trim_start().starts_with("running"));
        for hook in hooks {
            assert!(hook.contains(".sh "), "{}: `{hook}`: its script tells down from unknown", file.display());
        }
    }
}
