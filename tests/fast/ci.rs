//! What `deploy/ci` runs in somebody's CI, run here: the action's step and the template's script as the shell lines that they are, on a run
//! that is red and on a command that makes no report.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cdc-drill");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/ci")
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

/// Runs of a project: one that is red, below `kept`.
fn project() -> tempfile::TempDir {
    let project = tempfile::tempdir().unwrap();
    let run = project.path().join("kept");
    fs::create_dir(&run).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(root.join("fixtures/reports/events.jsonl"), run.join("events.jsonl")).unwrap();
    project
}

/// Runs lines in a shell as a runner does: in the project, with these variables, the program not on the path but named.
fn shell(lines: &str, project: &Path, variables: &BTreeMap<String, String>) -> Output {
    let mut command = Command::new("sh");
    command.args(["-e", "-c", lines]).current_dir(project).env_clear().env("PATH", "/usr/bin:/bin");
    command.envs(variables).output().unwrap()
}

/// The action's own step with these inputs, as GitHub's runner carries it out; what it put out.
fn github(project: &Path, inputs: &[(&str, &str)]) -> (Output, BTreeMap<String, String>, String) {
    let action = yaml("action.yml");
    let step = &action["runs"]["steps"][0];
    let value = |expression: &Value| {
        let text = expression.as_str().unwrap();
        let name = text.strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}"));
        let name = name.unwrap_or_else(|| panic!("{text}: expected one input and nothing else"));
        let default = action["inputs"][name]["default"].as_str().unwrap_or_else(|| panic!("no input {name}"));
        inputs.iter().find(|(given, _)| *given == name).map_or(default, |(_, value)| *value).to_owned()
    };
    let (output, summary) = (project.join("output"), project.join("summary"));
    let mut variables: BTreeMap<String, String> =
        step["env"].as_object().unwrap().iter().map(|(name, from)| (name.clone(), value(from))).collect();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    variables.extend([
        ("GITHUB_ACTIONS".to_owned(), "true".to_owned()),
        ("GITHUB_ACTION_PATH".to_owned(), path(&folder())),
        ("GITHUB_OUTPUT".to_owned(), path(&output)),
        ("GITHUB_STEP_SUMMARY".to_owned(), path(&summary)),
    ]);
    let done = shell(step["run"].as_str().unwrap(), project, &variables);
    let text = fs::read_to_string(&output).unwrap_or_default();
    let pairs = text.lines().map(|line| line.split_once('=').unwrap());
    let outputs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (done, outputs, fs::read_to_string(&summary).unwrap_or_default())
}

#[test]
fn the_action_is_as_red_as_the_run_and_says_why() {
    let project = project();
    let words = "report kept --as-it-ended";
    let (done, outputs, summary) = github(project.path(), &[("words", words), ("program", PROGRAM), ("folder", "out")]);
    let log = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(10), "{log}{}", String::from_utf8_lossy(&done.stderr));
    assert!(log.lines().filter(|line| line.starts_with("::error title=slot-loss/")).count() > 1, "{log}");
    assert!(log.contains("objective%3Arto%3A failed::rto: 5.2 s, the objective is 3 s"), "{log}");
    assert_eq!((outputs["exit-code"].as_str(), outputs["verdict"].as_str()), ("10", "failed"));
    assert!(summary.contains("failed"), "{summary}");
    // What the action declares is what its step sets.
    let declared = yaml("action.yml")["outputs"].as_object().unwrap().clone();
    assert_eq!(declared.len(), outputs.len());
    for (name, output) in declared {
        assert_eq!(output["value"], format!("${{{{ steps.drill.outputs.{name} }}}}"));
        assert!(outputs.contains_key(&name), "{name}");
    }
    let junit = fs::read_to_string(project.path().join(&outputs["junit"])).unwrap();
    assert!(junit.contains("<failure") && junit.contains("objective:rto"), "{junit}");
    assert!(project.path().join(&outputs["report"]).exists(), "{outputs:?}");
}

#[test]
fn what_makes_no_report_is_neither_green_nor_silent() {
    let project = project();
    let inputs = [("words", "run --only no-such-drill"), ("program", PROGRAM), ("folder", "out")];
    let (done, outputs, _) = github(project.path(), &inputs);
    assert_eq!(done.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&done.stdout).contains("::error title=cdc-drill::"), "{done:?}");
    assert_eq!((outputs["verdict"].as_str(), outputs["junit"].as_str()), ("inconclusive", ""));
    // Neither is a program that is not there, nor a shell's words in an input.
    let (done, outputs, _) = github(project.path(), &[("program", "no-such-program"), ("folder", "out")]);
    assert_eq!((done.status.code(), outputs["verdict"].as_str()), (Some(127), "inconclusive"));
    let words = [("words", "report kept; touch $(echo gone) *"), ("program", PROGRAM), ("folder", "out")];
    assert_eq!(github(project.path(), &words).0.status.code(), Some(2));
    assert!(!project.path().join("gone").exists());
    assert_eq!(github(project.path(), &[("words", "stack up"), ("folder", "out")]).0.status.code(), Some(2));
}

#[test]
fn the_template_is_as_red_as_the_run_and_leaves_what_it_names() {
    let project = project();
    let job = yaml("cdc-drill.gitlab-ci.yml")[".cdc-drill"].clone();
    let defaults = job["variables"].as_object().unwrap().iter();
    let mut variables: BTreeMap<String, String> =
        defaults.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    for (name, value) in [
        ("CDC_DRILL_WORDS", "report kept --as-it-ended"),
        ("CDC_DRILL_CI", folder().to_str().unwrap()),
        ("CDC_DRILL", PROGRAM),
        ("GITLAB_CI", "true"),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    let script: Vec<&str> = job["script"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let done = shell(&script.join("\n"), project.path(), &variables);
    assert_eq!(done.status.code(), Some(10), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!String::from_utf8_lossy(&done.stdout).contains("::error"), "that is GitHub's");
    assert_eq!((&job["allow_failure"], &job["artifacts"]["when"]), (&false.into(), &"always".into()));
    let named = |path: &Value| {
        let path = path.as_str().unwrap().replace("$CDC_DRILL_FOLDER", &variables["CDC_DRILL_FOLDER"]);
        fs::read_to_string(project.path().join(path)).unwrap()
    };
    let reports = &job["artifacts"]["reports"];
    assert!(named(&reports["junit"]).contains("<testsuites"));
    let issues: Vec<Value> = serde_json::from_str(&named(&reports["codequality"])).unwrap();
    assert!(!issues.is_empty());
    for field in ["description", "check_name", "fingerprint", "severity", "location"] {
        assert!(issues.iter().all(|issue| !issue[field].is_null()), "{field}");
    }
}
