//! The engine's own drills: every step of every playbook, and `backup create`, is killed and failed before, inside and after, and the
//! same command must then end as if nothing had happened.
//!
//! `CDC_DRILL_ENGINE=all` runs all of them instead of a sample, another text those whose names contain it; `CDC_DRILL_ENGINE_SEED`
//! chooses another sample, and `CDC_DRILL_ENGINE_STACKS` says how many stacks run them side by side.

mod drill;
mod plan;
mod play;
mod state;
mod table;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use drill::{Outcome, Result};
use plan::Drill;
use play::Play;
use table::Table;

/// Drills in a sample.
const SAMPLE: usize = 4;

fn variable<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` cannot be read")),
        Err(_) => default,
    }
}

/// Runs the drills on several stacks, each with a thread of its own.
fn run(name: &str, drills: Vec<Drill>) -> (Vec<Outcome>, String) {
    // Every test has as many stacks as the machine has room for.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let stacks = variable("CDC_DRILL_ENGINE_STACKS", 2).clamp(1, drills.len().max(1));
    let table = Mutex::new(Table::new(name));
    let queue = Mutex::new(VecDeque::from(drills));
    std::thread::scope(|scope| {
        for _ in 0..stacks {
            // Futures of an unoptimized build are large.
            let thread = std::thread::Builder::new().stack_size(32 << 20);
            let run = || {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
                runtime.block_on(work(&queue, &table));
            };
            thread.spawn_scoped(scope, run).unwrap();
        }
    });
    table.into_inner().unwrap_or_else(PoisonError::into_inner).close()
}

async fn work(queue: &Mutex<VecDeque<Drill>>, table: &Mutex<Table>) {
    let mut play = None;
    loop {
        let next = queue.lock().unwrap().pop_front();
        let Some(drill) = next else { return };
        let registry = drill.scenario.registry;
        let mut on = match play.take().filter(|play: &Play| play.registry == registry) {
            Some(play) => play,
            None => Play::up(registry).await,
        };
        let outcome = drill::run(&mut on, &drill).await;
        // What is left of another result is no pipeline for the next drill.
        if outcome.result == Result::Green {
            play = Some(on);
        }
        table.lock().unwrap().add(outcome);
    }
}

#[test]
fn an_interrupted_procedure_ends_as_if_it_had_not_been() {
    let chosen = std::env::var("CDC_DRILL_ENGINE").ok();
    let (name, drills) = match chosen.as_deref() {
        Some("all") => ("all", plan::all()),
        Some(text) => ("chosen", plan::all().into_iter().filter(|drill| drill.to_string().contains(text)).collect()),
        None => {
            let seed = variable("CDC_DRILL_ENGINE_SEED", rand::random::<u64>());
            eprintln!("a sample of {SAMPLE} drills: CDC_DRILL_ENGINE_SEED={seed}");
            ("sample", plan::sample(SAMPLE, seed))
        }
    };
    assert!(!drills.is_empty(), "CDC_DRILL_ENGINE={chosen:?} is in the name of no drill");
    let count = drills.len();
    let (outcomes, text) = run(name, drills);
    eprintln!("{text}");
    assert_eq!(outcomes.len(), count, "a drill has no result");
    let bad: Vec<String> = outcomes
        .iter()
        .filter(|outcome| outcome.result != Result::Green)
        .map(|outcome| format!("{}: {} {}", outcome.drill, outcome.result.word(), outcome.result.why()))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// The comparison is not blind: where the second run cannot know what the first one found, something is not as it was.
#[test]
fn an_engine_without_memory_is_found_out() {
    let mut controls = plan::controls();
    if std::env::var("CDC_DRILL_ENGINE").as_deref() != Ok("all") {
        controls.truncate(1);
    }
    let (outcomes, _) = run("controls", controls);
    // Red for what was forgotten, not for an exit code alone.
    let forgotten = ["rows: ", "topic ", "state of connector ", "configuration: ", "offset: "];
    let names_it = |found: &String| forgotten.iter().any(|what| found.starts_with(what));
    let blind: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !matches!(&outcome.result, Result::Red(found) if found.iter().any(names_it)))
        .map(|outcome| format!("{}: {} {}", outcome.drill, outcome.result.word(), outcome.result.why()))
        .collect();
    assert!(blind.is_empty() && !outcomes.is_empty(), "{}", blind.join("\n"));
}
