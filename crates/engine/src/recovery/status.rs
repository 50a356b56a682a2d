//! How far the recovery of a cluster is that did not end, by its record, and what is up and what is down. Nothing is changed.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use futures::FutureExt;
use serde::Serialize;

use super::{
    Playbook, Progress, RecoveryError, Request,
    chosen::{StepTaken, declared_for},
    engine::STEPS_TAKEN,
    leftovers::set_aside_there,
    locks,
    memory::{Asked, Memory, Place, the_unfinished, unfinished_of},
    pipeline::Found,
    way_back::way_on,
};
use crate::backup::{BackupError, ClusterName};
use cdc_model::{units::counted, vocabulary::Loss};
use cdc_pipeline::{
    client::{ClientError, connect::Connect, kafka::Kafka, limits::asking, postgres::Postgres, registry::Registry},
    config::Config,
};

/// A recovery that did not end.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its id.
    pub id: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// The folder of its record.
    pub record: Utf8PathBuf,
    /// What it was asked for.
    asked: Asked,
    /// Who is at work on it, or on another recovery from the repository: the command, its process and its machine. Absent where nobody is.
    pub at_work: Option<String>,
    /// What the step that began last and did not end has told of its progress.
    pub progress: Option<ProgressStatus>,
    /// The steps that began, in their order.
    pub steps: Vec<StepStatus>,
    /// The steps that did not begin, in their order, with what they do: what they change was not touched.
    pub not_begun: Vec<String>,
    /// Which commands come next.
    pub next: &'static str,
    /// What is set aside, and where.
    pub set_aside: Vec<Utf8PathBuf>,
    /// What is up and what is down.
    pub systems: Vec<SystemStatus>,
}

/// A recovery of a cluster that did not end, by its record and the locks alone: no system is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenRecovery {
    /// Its id; null where its record is not the configuration's: `what` then names it.
    pub id: Option<String>,
    /// Which recovery it is, and what became of it, in a sentence.
    pub what: String,
    /// Who is at work on it, or on another recovery from the repository: the command, its process and its machine. Null where nobody is.
    pub at_work: Option<String>,
    /// Which commands come next.
    pub next: String,
}

/// How far a step is.
#[derive(Clone, Debug, Serialize)]
pub struct StepStatus {
    /// The step.
    pub name: String,
    /// Whether its postcondition was read back by the last run that began it.
    pub ended: bool,
}

/// What a step told last of its progress.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProgressStatus {
    /// In numbers.
    #[serde(flatten)]
    pub progress: Progress,
    /// In words.
    pub text: String,
    /// How many seconds ago, by the clock that stamps files in the record's folder.
    pub age_seconds: u64,
}

/// The state of a system, or of a connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemStatus {
    /// `postgres`, `kafka`, `registry`, `connector <name>`.
    pub system: String,
    /// Whether it answers.
    pub answers: bool,
    /// What it says, or why it says nothing.
    pub state: String,
}

impl Status {
    /// What it was asked for, in words.
    pub fn request(&self) -> String {
        self.asked.in_words()
    }
}

/// The recovery of this cluster that did not end, if there is one. One of its data folder from another repository is an error that
/// names it.
pub async fn status(config: &Config) -> Result<Option<Status>, RecoveryError> {
    let Some(memory) = unfinished_of(config)? else {
        locks::refuse_others(&Place::of(config)?, &config.postgres.pgdata, None)?;
        return Ok(None);
    };
    let systems = systems(config, &memory).await?;
    let at_work = memory.repository()?.recoverer()?;
    Ok(Some(by_record(&memory, at_work, systems)?))
}

/// The recovery of the configuration's cluster that did not end, if there is one, wherever its record is. Where there is no repository,
/// none began.
pub fn open_recovery(config: &Config) -> Result<Option<OpenRecovery>, RecoveryError> {
    match Place::of(config) {
        Ok(place) => open_in(&place, &ClusterName::of(config), &config.postgres.pgdata),
        Err(RecoveryError::Backup(BackupError::NotARepository { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_in(place: &Place, cluster: &ClusterName, pgdata: &Utf8Path) -> Result<Option<OpenRecovery>, RecoveryError> {
    let found = place.unfinished(cluster).and_then(|memory| {
        if memory.is_none() {
            locks::refuse_others(place, pgdata, None)?;
        }
        Ok(memory)
    });
    let memory = match found {
        Ok(Some(memory)) => memory,
        Ok(None) => return Ok(None),
        // One that is recorded elsewhere: what refuses a recovery names it, and what to do.
        Err(RecoveryError::Refused { what, hint }) => {
            return Ok(Some(OpenRecovery { id: None, what, at_work: None, next: hint }));
        }
        Err(error) => return Err(error),
    };
    let at_work = memory.repository()?.recoverer()?;
    let (id, began, asked) = (memory.id(), memory.began(), memory.asked().in_words());
    let (became, next) = match &at_work {
        Some(by) => (format!("has not ended; at work: {by}"), "`recover status` says how far it is"),
        None => ("did not end".to_owned(), way_on(&memory)),
    };
    let what = format!("recovery {id} of this pipeline ({asked}), begun {began}, {became}");
    Ok(Some(OpenRecovery { id: Some(id.to_owned()), what, at_work, next: next.to_owned() }))
}

/// What the record says, beside what the systems do.
fn by_record(memory: &Memory, at_work: Option<String>, systems: Vec<SystemStatus>) -> Result<Status, RecoveryError> {
    let steps = memory.steps_begun().map(|name| StepStatus { name: name.to_owned(), ended: memory.ended_step(name) });
    let taken = match memory.learned::<Vec<StepTaken>>(STEPS_TAKEN)? {
        Some(taken) => taken,
        None => declared_for(memory)?,
    };
    let to_come = taken.iter().filter(|step| !memory.began_step(&step.name));
    let progress = memory.progress::<Progress>()?.map(|(progress, age)| ProgressStatus {
        text: progress.to_string(),
        progress,
        age_seconds: age.as_secs(),
    });
    Ok(Status {
        at_work,
        progress,
        id: memory.id().to_owned(),
        began: memory.began().to_owned(),
        record: memory.folder().to_owned(),
        asked: memory.asked().clone(),
        steps: steps.collect(),
        not_begun: to_come.map(|step| format!("{} ({})", step.name, step.does)).collect(),
        next: way_on(memory),
        set_aside: set_aside_there(memory)?,
        systems,
    })
}

/// What the recovery that did not end was asked for: the request to go on with.
pub fn unfinished_request(config: &Config, accept_loss: BTreeSet<Loss>) -> Result<Request, RecoveryError> {
    the_unfinished(config)?.asked().request(accept_loss)
}

/// Asks each system that the recovery is concerned with; who does not answer within seconds is down.
async fn systems(config: &Config, memory: &Memory) -> Result<Vec<SystemStatus>, RecoveryError> {
    let found: Found = memory.found()?;
    let topics: Vec<&str> = found.topics.iter().map(|topic| topic.name.as_str()).collect();
    let (postgres, kafka, registry) = tokio::join!(
        asked("postgres", postgres(config)),
        asked("kafka", kafka(config, &topics)),
        asked("registry", registry(config)),
    );
    let mut all = vec![postgres, kafka];
    if memory.asked().playbook == Playbook::Schema || !found.sources.is_empty() {
        all.push(registry);
    }
    let connect = Connect::of(&config.connect);
    let names = found.sinks.iter().map(|s| &s.name).chain(found.sources.iter().map(|s| &s.name));
    let connectors = names.map(|name| {
        let connect = &connect;
        async move { asked(&format!("connector {name}"), connect.status(name).map(|s| s.map(|s| s.summary()))).await }
    });
    all.extend(futures::future::join_all(connectors).await);
    Ok(all)
}

async fn asked(system: &str, answer: impl Future<Output = Result<String, ClientError>>) -> SystemStatus {
    let limit = asking::STATE.now();
    let answer = match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("says nothing within {} s", limit.as_secs())),
    };
    let answers = answer.is_ok();
    let (Ok(state) | Err(state)) = answer;
    SystemStatus { system: system.to_owned(), answers, state }
}

async fn postgres(config: &Config) -> Result<String, ClientError> {
    let session = Postgres::connect(&config.postgres.url, "cdc-drill-recovery").await?;
    let timeline = session.timeline().await?;
    Ok(format!("{} answers on timeline {timeline}", session.address()))
}

async fn kafka(config: &Config, topics: &[&str]) -> Result<String, ClientError> {
    let there = Kafka::of(&config.kafka)?.topics().await?;
    let missing: Vec<&str> = topics.iter().copied().filter(|name| !there.contains_key(*name)).collect();
    Ok(match missing.is_empty() {
        true => format!("answers; it has the {}", counted(topics.len(), "data topic")),
        false => {
            format!("answers; of {} these are not there: {}", counted(topics.len(), "data topic"), missing.join(", "))
        }
    })
}

async fn registry(config: &Config) -> Result<String, ClientError> {
    let subjects = Registry::of(&config.registry).subjects(true).await?;
    Ok(format!("answers; {}", counted(subjects.len(), "subject")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::recovery::{
        coordinated,
        locks::Locks,
        memory::{
            Beginning, Ending, Variation,
            tests::{begin, cluster, place, report},
        },
    };

    #[test]
    fn a_recovery_that_did_not_end_is_open_until_it_is_closed() {
        let (_folder, place) = place();
        let none = Utf8Path::new("");
        assert_eq!(open_in(&place, &cluster(), none).unwrap(), None);
        let memory = begin(&place);
        assert_eq!(open_in(&place, &cluster(), none).unwrap(), None, "it has changed nothing");
        memory.begun("stop-connectors", &[]).unwrap();
        let open = open_in(&place, &cluster(), none).unwrap().unwrap();
        assert_eq!((open.id.as_deref(), open.at_work), (Some(memory.id()), None));
        assert!(open.what.contains(memory.id()) && open.what.ends_with("did not end"), "{}", open.what);
        assert_eq!(open.next, "`recover resume` goes on with it, `recover abort` takes it back");
        let other = ClusterName { pgdata: "/other".into(), address: "h:2".into(), system_id: None };
        assert_eq!(open_in(&place, &other, none).unwrap(), None, "of another cluster");
        memory.begun("open", &[]).unwrap();
        assert_eq!(open_in(&place, &cluster(), none).unwrap().unwrap().next, crate::recovery::way_back::NO_WAY_BACK);
        let held = Locks::take(&place, none, "recover run coordinated", Some(&memory)).unwrap();
        let open = open_in(&place, &cluster(), none).unwrap().unwrap();
        assert!(open.at_work.is_some_and(|by| by.contains("recover run coordinated")), "{}", open.what);
        drop(held);
        memory.close(Ending::Verified).unwrap();
        assert_eq!(open_in(&place, &cluster(), none).unwrap(), None);
    }

    #[test]
    fn a_recovery_that_is_recorded_elsewhere_is_open_too() {
        let ((_folder, here), (_other, there)) = (place(), place());
        let pgdata = tempfile::tempdir().unwrap();
        let pgdata = Utf8Path::from_path(pgdata.path()).unwrap().join("data");
        std::fs::create_dir(&pgdata).unwrap();
        let memory = begin(&there);
        memory.begun("stop-connectors", &[]).unwrap();
        Locks::take(&there, &pgdata, "recover run", None).unwrap().leave(&memory).unwrap();
        let open = open_in(&here, &cluster(), &pgdata).unwrap().unwrap();
        assert_eq!(open.id, None);
        assert!(open.what.contains(memory.id()) && open.next.contains("recover resume"), "{open:?}");
    }

    #[test]
    fn the_json_has_these_keys_and_each_step_once() {
        let (_folder, place) = place();
        let request = Request { target: "name:before".parse().unwrap(), ..Request::new(Playbook::Coordinated) };
        let variation = Variation { without: ["pin-timeline".to_owned()].into(), procedure: None };
        let asked = Asked::of(&request, variation);
        let memory = Memory::begin(&place, &Beginning { asked, cluster: cluster(), found: &0, decided: &0 }).unwrap();
        memory.begun("prepare", &[]).unwrap();
        memory.ended(&report("prepare")).unwrap();
        memory.begun("stop-connectors", &[]).unwrap();
        let memory = Memory::open(memory.folder()).unwrap();
        let down = SystemStatus { system: "postgres".into(), answers: false, state: "refused".into() };
        let progress = Progress::Bytes { what: "base backup".into(), done: 1 << 20, total: 4 << 20 };
        memory.set_progress(&progress).unwrap();
        let by = Some("recover run coordinated (pid 7 on h, since then)".to_owned());
        let mut status = serde_json::to_value(by_record(&memory, by, vec![down]).unwrap()).unwrap();
        assert!(status["progress"]["age_seconds"].take().is_u64());
        let not_begun = status["not_begun"].take();
        let asked = status["asked"].take();
        let expected = json!({
            "id": memory.id(),
            "began": memory.began(),
            "record": memory.folder(),
            "asked": null,
            "at_work": "recover run coordinated (pid 7 on h, since then)",
            "progress": {
                "kind": "bytes", "what": "base backup", "done": 1 << 20, "total": 4 << 20,
                "text": "base backup: 1 of 4 MB (25 %)", "age_seconds": null,
            },
            "steps": [{"name": "prepare", "ended": true}, {"name": "stop-connectors", "ended": false}],
            "not_begun": null,
            "next": "`recover resume` goes on with it, `recover abort` takes it back",
            "set_aside": [],
            "systems": [{"system": "postgres", "answers": false, "state": "refused"}],
        });
        assert_eq!(status, expected);
        assert_eq!((&asked["playbook"], &asked["target"]), (&json!("coordinated"), &json!("name:before")));
        let names = not_begun.as_array().unwrap().iter().map(|step| step.as_str().unwrap().split_once(" (").unwrap().0);
        let begun = ["prepare", "stop-connectors", "pin-timeline"];
        let to_come = coordinated::STEPS.into_iter().map(|step| step.id).filter(|id| !begun.contains(id));
        assert_eq!(names.collect::<Vec<_>>(), to_come.collect::<Vec<_>>());
        assert_eq!(not_begun[0], json!("fence (stops the old server)"));
        // Since the steps are in the record, they count.
        let steps =
            [StepTaken { name: "prepare".into(), does: "x".into() }, StepTaken { name: "y".into(), does: "z".into() }];
        memory.note(STEPS_TAKEN, &steps).unwrap();
        let memory = Memory::open(memory.folder()).unwrap();
        assert_eq!(by_record(&memory, None, vec![]).unwrap().not_begun, ["y (z)"]);
        memory.ended(&report("stop-connectors")).unwrap();
        memory.begun("open", &[]).unwrap();
        let memory = Memory::open(memory.folder()).unwrap();
        assert_eq!(by_record(&memory, None, vec![]).unwrap().next, crate::recovery::way_back::NO_WAY_BACK);
        assert!(asked["connectors"].is_array() && asked["timeline"] == Value::Null, "{asked}");
    }
}
