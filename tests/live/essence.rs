//! What two healthy runs of the same seed have in common: a drill's part of the report without what differs each time.
//! CONTRIBUTING.md says which counts are left out and why.

use cdc_harness::report::redact_json;
use cdc_model::event::Loaded;
use serde::Deserialize;
use serde_json::{Value, json};

/// Writers race with the recovery: how much they get done meanwhile, and all that comes after it, is up to the machine. So is how much a
/// connector delivers again whose topic was gone, by when it had stored its position.
const RACING_DRILLS: [&str; 2] = ["writers-continue", "deleted"];
/// What these find depends on the race above, on the rows that happen to lie in the damaged pages, on how many of the
/// transactions beside a backup were committed before its end, on how much WAL the server wrote beside them, or on which keys of
/// abandoned rows are given to others after the recovery.
const RACING_CONTROLS: [(&str, &str); 5] = [
    ("writers-continue", "without-fence"),
    ("heap-pages", "naive-zero-damaged-pages"),
    ("heap-pages-killed", "without-salvage"),
    ("server-killed", "naive-runbook"),
    ("both-back", "without-delete-topics"),
];
/// The drill's verdicts and counts, for a snapshot.
pub(crate) fn essence(drill: &Value) -> String {
    let variant = drill["variant"].as_str().unwrap_or_default();
    let racing = RACING_DRILLS.contains(&variant);
    let recoveries: Vec<Value> = list(&drill["earlier_recoveries"]).chain([&drill["recovery"]]).map(recovery).collect();
    let amount = |of: &str| pick(&drill["rpo"][of], &["transactions", "rows"]);
    let picked = json!({
        "scenario": drill["scenario"],
        "variant": variant,
        "title": drill["title"],
        "verdict": drill["verdict"],
        "exit_code": drill["exit_code"],
        "faults": list(&drill["faults"]).map(|f| pick(f, &["fault", "landed"])).collect::<Vec<_>>(),
        "recoveries": recoveries,
        "lost": amount("lost"),
        "given_up": amount("given_up"),
        "steps": steps(drill, racing),
        "checks": list(&drill["checks"]).map(|c| check(c, racing)).collect::<Vec<_>>(),
        "controls": list(&drill["controls"]).map(|c| control(c, variant)).collect::<Vec<_>>(),
        "notes": drill["notes"],
    });
    serde_json::to_string_pretty(&redact_json(&picked)).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn pick(value: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| ((*field).to_owned(), value[*field].clone())).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A count, or that it varies.
fn count(value: &Value, varies: bool) -> Value {
    if varies && value.is_u64() { json!("[varies]") } else { value.clone() }
}

fn recovery(recovery: &Value) -> Value {
    let steps: Vec<String> =
        list(&recovery["steps"]).map(|s| format!("{}: {}", text(&s["name"]), text(&s["result"]))).collect();
    json!({ "playbook": recovery["playbook"], "verdict": recovery["verdict"], "steps": steps })
}

fn steps(drill: &Value, racing: bool) -> Vec<String> {
    let mut recovered = false;
    let mut lines = Vec::new();
    for step in list(&drill["steps"]) {
        let name = text(&step["step"]);
        recovered |= name == "recover";
        let loaded = Option::<Loaded>::deserialize(&step["loaded"]).unwrap();
        // What else a step says are sizes, positions and addresses.
        let meanwhile = if name == "load" { "" } else { "meanwhile " };
        lines.push(match loaded.filter(|_| !(racing && recovered)) {
            Some(loaded) => format!("{name}: {meanwhile}{}", amounts(loaded)),
            None => name.to_owned(),
        });
    }
    lines
}

fn amounts(loaded: Loaded) -> String {
    match loaded {
        Loaded::Pgbench { processed, failed } => format!("{processed} transactions processed, {failed} failed"),
        Loaded::Command { asked, committed } => format!("{asked} transactions: {committed} committed"),
        Loaded::Writers(n) => {
            assert_eq!((n.failed, n.unknown, n.refused), (0, 0, 0), "{n:?}");
            let kept = format!("{} acknowledged ({} rows)", n.acknowledged, n.rows);
            format!("{} transactions: {kept}, {} rolled back", n.attempted, n.rolled_back)
        }
    }
}

fn check(check: &Value, racing: bool) -> Value {
    let mut picked = pick(check, &["id", "verdict", "findings_total"]);
    picked["compared"] = count(&check["compared"], racing);
    if !racing {
        picked["notes"] = check["notes"].clone();
    }
    picked
}

fn control(control: &Value, variant: &str) -> Value {
    let mut picked = pick(control, &["id", "without", "check", "kind", "red", "silent", "verdict"]);
    let varies = RACING_CONTROLS.contains(&(variant, text(&control["id"])));
    picked["findings_total"] = count(&control["findings_total"], varies);
    let named = list(&control["checks"]).find(|c| c["id"] == control["check"]);
    picked["compared"] = count(named.map_or(&Value::Null, |c| &c["compared"]), varies);
    picked
}
