//! The manifests of `deploy/kubernetes`: held against the published schemas, against what they promise (memory, rights, Pod Security), and against
//! a real API server where one has been built.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use cdc_pipeline::config::Config;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NAMESPACE: &str = "data-ingestion";
/// What all that may run at once may take.
const ROOM: u64 = 6 << 30;

fn folder() -> PathBuf {
    Path::new(ROOT).join("deploy/kubernetes")
}

/// Every resource, with its file; kustomizations are none.
fn resources() -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    for part in ["base", "jobs", "sandbox"] {
        for entry in fs::read_dir(folder().join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "yaml") || path.ends_with("kustomization.yaml") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for document in text.split("\n---\n") {
                let value: Value =
                    serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                found.push((path.clone(), value));
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

fn of_kind(kind: &str) -> Vec<Value> {
    resources().into_iter().map(|(_, r)| r).filter(|r| r["kind"] == kind).collect()
}

fn named(kind: &str, name: &str) -> Value {
    of_kind(kind).into_iter().find(|r| r["metadata"]["name"] == name).unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The pods that come of these resources, by name; `StatefulSet`, `Job` and `CronJob`.
fn pods() -> BTreeMap<String, (String, Value)> {
    let of = |resource: &Value| {
        let template = match resource["kind"].as_str().unwrap() {
            "StatefulSet" | "Job" => &resource["spec"]["template"],
            "CronJob" => &resource["spec"]["jobTemplate"]["spec"]["template"],
            _ => return None,
        };
        let name = resource["metadata"]["name"].as_str().unwrap().to_owned();
        Some((name, (resource["kind"].as_str().unwrap().to_owned(), template.clone())))
    };
    let pods: BTreeMap<_, _> = resources().iter().filter_map(|(_, r)| of(r)).collect();
    assert!(pods.len() >= 13, "{:?}", pods.keys());
    pods
}

fn containers(pod: &Value) -> Vec<&Value> {
    ["initContainers", "containers"].iter().filter_map(|key| pod["spec"][key].as_array()).flatten().collect()
}

fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap_or_else(|| panic!("{quantity}: expected memory such as 256Mi"));
    let (number, unit) = text.split_at(text.len() - 2);
    let factor = match unit {
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => panic!("{text}: expected Mi or Gi"),
    };
    number.parse::<u64>().unwrap() * factor
}

/// What the scheduler counts for a pod: its containers together, or the largest that runs before them.
fn memory(pod: &Value) -> u64 {
    let of = |key: &str| -> Vec<u64> {
        let all = pod["spec"][key].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().map(|c| bytes(&c["resources"]["limits"]["memory"])).collect()
    };
    of("containers").iter().sum::<u64>().max(of("initContainers").into_iter().max().unwrap_or(0))
}

#[test]
fn everything_is_in_one_namespace_under_its_promised_name() {
    for (file, resource) in resources() {
        if resource["kind"] != "Namespace" {
            assert_eq!(resource["metadata"]["namespace"], NAMESPACE, "{}: {resource}", file.display());
        }
    }
    let namespace = named("Namespace", NAMESPACE);
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let claim = named("PersistentVolumeClaim", "backup-storage-pvc");
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "2Gi");
    let night = named("CronJob", "automated-backup-job");
    assert_eq!(night["spec"]["schedule"], "0 2 * * *");
    assert_eq!(night["spec"]["timeZone"], "Etc/UTC");
    for job in of_kind("CronJob") {
        let spec = &job["spec"];
        assert_eq!(spec["concurrencyPolicy"], "Forbid", "{job}");
        for key in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
            assert!(spec[key].as_u64().is_some_and(|n| n > 0), "{key} of {job}");
        }
    }
    named("Job", "backup-recovery-validation");
}

#[test]
fn every_pod_is_restricted_and_has_its_limits() {
    for (name, (kind, pod)) in pods() {
        let spec = &pod["spec"];
        let security = &spec["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert!(security["runAsUser"].as_u64().is_some_and(|u| u > 0), "{name}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for key in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
            assert!(spec[key].is_null(), "{name}: {key}");
        }
        for volume in spec["volumes"].as_array().unwrap_or(&Vec::new()) {
            let kinds = ["persistentVolumeClaim", "configMap", "secret", "emptyDir"];
            assert!(kinds.iter().any(|k| !volume[k].is_null()), "{name}: {volume}");
        }
        for container in containers(&pod) {
            let what = format!("{name}: {}", container["name"]);
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{what}");
            assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]), "{what}");
            let ours = container["image"].as_str().unwrap().contains("/cdc-drill");
            assert!(!ours || security["readOnlyRootFilesystem"] == true, "{what}");
            let resources = &container["resources"];
            assert!(bytes(&resources["requests"]["memory"]) <= bytes(&resources["limits"]["memory"]), "{what}");
            assert!(resources["requests"]["cpu"].is_string(), "{what}");
        }
        if kind != "StatefulSet" {
            let account = named("ServiceAccount", spec["serviceAccountName"].as_str().unwrap());
            assert_eq!(account["automountServiceAccountToken"], false);
            let token = spec["automountServiceAccountToken"].as_bool().unwrap();
            let asks = pod["metadata"]["labels"]["cdc-drill/reaches"] == "pipeline-and-api";
            assert_eq!(token, asks, "{name}: a token is for hooks that ask the API server");
        }
    }
}

#[test]
fn what_may_run_at_once_takes_six_gibibytes() {
    let quota = named("ResourceQuota", "memory");
    assert_eq!(bytes(&quota["spec"]["hard"]["limits.memory"]), ROOM);
    let pods = pods();
    let of = |name: &str| memory(&pods[name].1);
    let servers: u64 = pods.values().filter(|(kind, _)| kind == "StatefulSet").map(|(_, pod)| memory(pod)).sum();
    assert!(servers > 0);
    let recovery = ["coordinated-recovery", "cdc-slot-recovery", "schema-conflict-recovery"].map(of);
    let recovery = recovery.into_iter().max().unwrap();
    let all = servers + of("automated-backup-job") + of("backup-recovery-validation") + recovery;
    assert!(all <= ROOM, "{} MiB", all >> 20);
    for (name, (kind, pod)) in &pods {
        assert!(kind == "StatefulSet" || servers + memory(pod) <= ROOM, "{name} does not fit beside the pipeline");
    }
}

/// What `kubectl` asks the API server for when it is given these words: (group, resource, verbs).
fn asked(line: &str) -> Vec<(&'static str, &'static str, &'static [&'static str])> {
    const READ: &[&str] = &["get"];
    const CHANGE: &[&str] = &["get", "patch"];
    const FOLLOW: &[&str] = &["get", "list", "watch"];
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|w| w.ends_with("kubectl")).unwrap();
    // kubectl -n NAMESPACE VERB OBJECT
    match (words[at + 3], words[at + 4..].join(" ")) {
        ("scale", object) if object.contains("statefulset/") => {
            vec![("apps", "statefulsets/scale", CHANGE), ("apps", "statefulsets", READ)]
        }
        ("rollout", object) if object.starts_with("status") => {
            vec![("apps", "statefulsets", FOLLOW)]
        }
        ("wait", object) if object.contains("pod/") => vec![("", "pods", FOLLOW)],
        ("get", object) if object.contains("statefulset/") => vec![("apps", "statefulsets", READ)],
        ("get", object) if object.contains("pod ") => vec![("", "pods", READ)],
        (verb, object) => panic!("what does `kubectl {verb} {object}` need?"),
    }
}

#[test]
fn the_hooks_may_do_what_they_do_and_nothing_else() {
    let hooks = fs::read_to_string(folder().join("base/hooks.sh")).unwrap();
    let mut needed: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    let lines: Vec<&str> = hooks.lines().filter(|line| line.contains("kubectl -n")).collect();
    assert!(lines.len() >= 6, "{lines:?}");
    for line in lines {
        for (group, resource, verbs) in asked(line) {
            needed.entry((group, resource)).or_default().extend(verbs);
        }
    }
    let role = named("Role", "cdc-drill-recovery");
    let mut granted: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    let words = |value: &'static Value| value.as_array().unwrap().iter().map(|w| w.as_str().unwrap());
    let role: &'static Value = Box::leak(Box::new(role));
    for rule in role["rules"].as_array().unwrap() {
        assert_eq!(rule["resourceNames"].as_array().map(Vec::len), Some(1), "{rule}: one object, by its name");
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                granted.entry((group, resource)).or_default().extend(words(&rule["verbs"]));
            }
        }
    }
    assert_eq!(granted, needed, "granted and needed");
    assert!(of_kind("ClusterRole").is_empty() && of_kind("Role").len() == 1);
    assert!(!serde_json::to_string(role).unwrap().contains('*'));
}

#[test]
fn pods_reach_what_their_label_says_by_a_policy_that_is_there() {
    let known: BTreeSet<&str> = BTreeSet::from(["nothing", "pipeline", "pipeline-and-api"]);
    for (name, (kind, pod)) in pods() {
        let labels = &pod["metadata"]["labels"];
        if kind != "StatefulSet" {
            assert_eq!(labels["app.kubernetes.io/name"], "cdc-drill", "{name}");
            assert!(labels["cdc-drill/reaches"].as_str().is_some_and(|r| known.contains(r)), "{name}");
        }
    }
    let isolated = named("NetworkPolicy", "cdc-drill-isolated");
    assert_eq!(isolated["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
    assert!(isolated["spec"]["egress"].is_null() && isolated["spec"]["ingress"].is_null());
    let policies = serde_json::to_string(&of_kind("NetworkPolicy")).unwrap();
    for label in known.iter().filter(|label| **label != "nothing") {
        assert!(policies.contains(&format!("\"{label}\"")), "{label}");
    }
}

#[test]
fn jobs_run_commands_that_there_are_on_the_configuration_that_they_mount() {
    for part in ["base", "sandbox"] {
        let text = fs::read_to_string(folder().join(part).join("cdc-drill.toml")).unwrap();
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!(config.postgres.bin, "/usr/lib/postgresql/18/bin");
    }
    for (name, (kind, pod)) in pods() {
        if kind == "StatefulSet" {
            continue;
        }
        let container = &pod["spec"]["containers"][0];
        let words = |key: &str| -> Vec<String> {
            container[key].as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_owned()).collect()
        };
        let command: Vec<String> = words("command").into_iter().chain(words("args")).collect();
        if command[0] == "cdc-drill" {
            let taken = cdc_harness::cli::command().try_get_matches_from(&command);
            assert!(taken.is_ok(), "{name}: {command:?}: {}", taken.unwrap_err());
        } else {
            let script = command[1].strip_prefix("/etc/cdc-drill/").unwrap();
            assert!(folder().join("base").join(script).is_file(), "{name}: {script}");
            let listed = fs::read_to_string(folder().join("base/kustomization.yaml")).unwrap();
            assert!(listed.contains(script), "{name}: {script} is in no ConfigMap");
        }
        assert!(command.contains(&"/etc/cdc-drill/cdc-drill.toml".to_owned()), "{name}: {command:?}");
    }
}

#[test]
fn the_tasks_of_a_night_are_the_same_without_pods() {
    let without = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/tasks.sh");
    let [pods, unit] = [folder().join("base/tasks.sh"), without].map(|path| fs::canonicalize(path).unwrap());
    assert_eq!(pods, unit, "kustomize takes no file from outside its folder: the units take its");
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Says loudly that something was not looked at; fails where it has to be.
fn left_out(what: &str, variable: &str) {
    assert!(std::env::var_os(variable).is_none(), "{what}, and {variable} is set");
    eprintln!("LEFT OUT: {what}");
}

const VALIDATOR: &str = "kubernetes-validate==1.37.0";
const VALIDATE: &str = r#"
import sys, yaml, kubernetes_validate
wrong = 0
for name in sys.argv[1:]:
    with open(name) as file:
        for resource in yaml.safe_load_all(file):
            try:
                kubernetes_validate.validate(resource, "1.34", strict=True)
            except Exception as error:
                wrong += 1
                print(f"{name}: {resource.get('kind')}: {error}")
sys.exit(1 if wrong else 0)
"#;

#[test]
fn every_manifest_is_of_the_published_schema() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(VALIDATOR.replace("==", "-"));
    if !place.join("kubernetes_validate").is_dir() {
        let part = place.with_extension("part");
        let pip = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"])
            .args(["--target", part.to_str().unwrap(), "--upgrade", VALIDATOR])
            .output();
        let Some(()) = pip.ok().filter(|output| output.status.success()).and_then(|_| fs::rename(&part, &place).ok())
        else {
            return left_out(
                "pip does not get kubernetes-validate: manifests are not held against the published schemas",
                "CDC_DRILL_REQUIRE_KUBERNETES_SCHEMAS",
            );
        };
    }
    let check = |files: &[PathBuf]| {
        let python = Command::new("python3").args(["-c", VALIDATE]).args(files).env("PYTHONPATH", &place).output();
        python.unwrap()
    };
    let files: BTreeSet<PathBuf> = resources().into_iter().map(|(file, _)| file).collect();
    let output = check(&files.into_iter().collect::<Vec<_>>());
    assert!(output.status.success(), "{}", said(&output));

    // One that cannot fail is no check.
    let wrong = tempfile::tempdir().unwrap();
    let misspelt = fs::read_to_string(folder().join("base/nightly.yaml")).unwrap();
    let misspelt = misspelt.replace("concurrencyPolicy", "concurencyPolicy");
    fs::write(wrong.path().join("nightly.yaml"), misspelt).unwrap();
    let output = check(&[wrong.path().join("nightly.yaml")]);
    assert!(!output.status.success() && said(&output).contains("concurencyPolicy"), "{}", said(&output));
}

/// A control plane of this test's own; ended with it.
struct ControlPlane {
    state: tempfile::TempDir,
    port: u16,
}

impl ControlPlane {
    fn script(&self, verb: &str) -> Output {
        Command::new("bash")
            .arg(Path::new(ROOT).join("fixtures/kubernetes/cluster.sh"))
            .arg(verb)
            .env("CDC_DRILL_KUBERNETES_STATE", self.state.path())
            .env("CDC_DRILL_KUBERNETES_PORT", self.port.to_string())
            .output()
            .unwrap()
    }

    fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.state.path().join("admin.kubeconfig")).args(arguments);
        command.env("HOME", self.state.path()).output().unwrap()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.script("down");
    }
}

/// Eight ports in a row that nobody listens on now.
fn free_ports() -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap();
    (start..).step_by(8).find(|first| (0..8).all(|n| free(first + n))).unwrap()
}

#[test]
fn a_real_api_server_takes_them_and_grants_no_more_than_they_say() {
    let built = Command::new(Path::new(ROOT).join("fixtures/kubernetes/build.sh")).arg("--path").output().unwrap();
    if !built.status.success() {
        return left_out(
            &format!("no API server: manifests are not applied to one. {}", said(&built).trim()),
            "CDC_DRILL_REQUIRE_KUBERNETES",
        );
    }
    if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        return left_out("kubectl is not on this machine: manifests are not applied", "CDC_DRILL_REQUIRE_KUBERNETES");
    }
    let cluster = ControlPlane { state: tempfile::tempdir().unwrap(), port: free_ports() };
    let up = cluster.script("control");
    assert!(up.status.success(), "{}", said(&up));
    let applied = |arguments: &[&str]| {
        let output = cluster.kubectl(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        // Pod Security says what a pod would be refused for.
        assert!(!said(&output).contains("Warning"), "{arguments:?}: {}", said(&output));
        output
    };
    let sandbox = folder().join("sandbox");
    applied(&["apply", "--validate=strict", "-k", sandbox.to_str().unwrap()]);
    let jobs = folder().join("jobs");
    applied(&["apply", "--validate=strict", "-f", jobs.to_str().unwrap()]);
    let claim = applied(&["get", "pvc", "backup-storage-pvc", "-n", NAMESPACE]);
    assert!(said(&claim).contains("backup-storage-pvc"));
    applied(&["get", "cronjob", "automated-backup-job", "-n", NAMESPACE]);
    let by_hand = ["create", "job", "--from=cronjob/automated-backup-job", "manual-backup-1", "-n", NAMESPACE];
    applied(&by_hand);

    let may = |account: &str, question: &[&str]| {
        let whom = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
        let output = cluster.kubectl(&[&["auth", "can-i"][..], question, &["-n", NAMESPACE, &whom][..]].concat());
        match String::from_utf8_lossy(&output.stdout).trim() {
            "yes" => true,
            "no" => false,
            other => panic!("{question:?}: {other}: {}", said(&output)),
        }
    };
    let granted: [&[&str]; 4] = [
        &["get", "statefulsets.apps/postgres"],
        &["patch", "statefulsets.apps/postgres", "--subresource=scale"],
        &["watch", "statefulsets.apps/postgres"],
        &["get", "pods/postgres-0"],
    ];
    let refused: [&[&str]; 8] = [
        &["patch", "statefulsets.apps/kafka", "--subresource=scale"],
        &["patch", "statefulsets.apps/postgres"],
        &["delete", "statefulsets.apps/postgres"],
        &["get", "pods/kafka-0"],
        &["delete", "pods/postgres-0"],
        &["create", "pods"],
        &["create", "pods/postgres-0", "--subresource=exec"],
        &["get", "secrets/cdc-drill"],
    ];
    for question in granted {
        assert!(may("cdc-drill-recovery", question), "{question:?}");
    }
    for question in refused {
        assert!(!may("cdc-drill-recovery", question), "{question:?}");
    }
    for account in ["cdc-drill-backup", "cdc-drill-validation"] {
        for question in granted.iter().chain(&refused) {
            assert!(!may(account, question), "{account}: {question:?}");
        }
    }

    // What a look at types lets pass, the server refuses.
    let wrong = tempfile::tempdir().unwrap();
    let night = fs::read_to_string(folder().join("base/nightly.yaml")).unwrap();
    for (right, mistake, told) in [
        ("concurrencyPolicy", "concurencyPolicy", "unknown field"),
        ("0 2 * * *", "0 25 * * *", "end of range"),
        ("Etc/UTC", "Etc/UCT2", "unknown time zone"),
    ] {
        let file = wrong.path().join("wrong.yaml");
        fs::write(&file, night.replacen(right, mistake, 1)).unwrap();
        let output = cluster.kubectl(&["apply", "--validate=strict", "--dry-run=server", "-f", file.to_str().unwrap()]);
        assert!(!output.status.success() && said(&output).contains(told), "{mistake}: {}", said(&output));
    }
}
