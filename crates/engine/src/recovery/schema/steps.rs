//! The schema playbook's steps.

use super::{
    conflict,
    in_place::repairable_in_place,
    merge::{Merged, differences, merge},
    records::described,
    store,
};
use crate::{
    backup::parts::registry::{Dump, VersionLine, capture},
    recovery::{
        RecoveryError,
        repair::{Repair, Table},
        step::{Done, OF_SEVERAL, Step, StepInfo, acted, nothing},
        steps::{
            delete_offsets, delete_topics, force_snapshot, group_offsets, publication, recreate_topics, restore_config,
            resume, stop_connectors,
        },
    },
};
use cdc_model::moment::{self, HALF_WAY, Inside};
use cdc_model::units::counted;
use cdc_pipeline::client::registry::Registry;

const DUMP_BROKEN: Step<Repair> = Step {
    info: StepInfo {
        id: "dump-broken",
        does: "saves the registry as it is",
        precondition: "the registry answers",
        postcondition: "the dump is on disk",
    },
    destroys: nothing,
    before: |s| Box::pin(s.pipeline.stand_still("dump-broken")),
    inside: Inside::Between(&["written"]),
    act: |s| Box::pin(dump_broken(s)),
    after: |s| Box::pin(async { Ok(s.registry_note.clone()) }),
};

const REPAIR_REGISTRY: Step<Repair> = Step {
    info: StepInfo {
        id: "repair-registry",
        does: "puts levels and subjects back in place; where ids or versions would differ, sets the store aside and fills it anew",
        precondition: "every connector STOPPED, no tasks",
        postcondition: "subjects, versions, ids, states, levels and modes read back as they shall be",
    },
    destroys: registry_destroys,
    before: |s| Box::pin(s.pipeline.stand_still("repair-registry")),
    inside: Inside::Between(&[HALF_WAY, "stopped", "set-aside", "import", "imported"]),
    act: |s| Box::pin(repair_registry(s)),
    after: |s| Box::pin(registry_right(s)),
};

const FIND_RECORDS: Step<Repair> = Step {
    info: StepInfo {
        id: "find-records",
        does: "finds records whose schema id does not mean what it meant when they were written",
        precondition: "every connector STOPPED, no tasks",
        postcondition: "the topics to rebuild are known",
    },
    destroys: nothing,
    before: |s| Box::pin(s.pipeline.stand_still("find-records")),
    inside: Inside::Atomic,
    act: |s| Box::pin(find_records(s)),
    after: |s| Box::pin(async { Ok(found_records(s)) }),
};

const UNDO_CHANGE: Step<Repair> = Step {
    info: StepInfo {
        id: "undo-change",
        does: "takes the refused change back at the source",
        precondition: "every connector STOPPED, no tasks",
        postcondition: "columns as registered",
    },
    destroys: |s| {
        s.schema.iter().flat_map(|p| &p.undo).map(|u| format!("the change of table {}: {}", u.table, u.what)).collect()
    },
    before: |s| Box::pin(s.pipeline.stand_still("undo-change")),
    inside: OF_SEVERAL,
    act: |s| Box::pin(conflict::undo(s)),
    after: |s| Box::pin(conflict::undone(s)),
};

const REGISTRY_EQUALS: Step<Repair> = Step {
    info: StepInfo {
        id: "registry-equals",
        does: "compares the registry with what it was",
        precondition: "the connectors run",
        postcondition: "nothing was registered and no level changed",
    },
    destroys: nothing,
    before: |_| Box::pin(async { Ok("the connectors run".to_owned()) }),
    inside: Inside::Atomic,
    act: |_| Box::pin(async { Ok(Done::Nothing("only looked")) }),
    after: |s| Box::pin(conflict::registry_unchanged(s)),
};

const ACCEPT_CHANGE: Step<Repair> = Step {
    info: StepInfo {
        id: "accept-change",
        does: "lowers the level of the refusing subject only, until its new version is registered, and puts it back",
        precondition: "the subject is known",
        postcondition: "exactly one new version; levels as before",
    },
    destroys: nothing,
    before: |s| Box::pin(async { Ok(format!("refusing: {}", refusing(s).join(", "))) }),
    inside: Inside::Between(&["noted", "lowered", "registered", "put-back"]),
    act: |s| Box::pin(conflict::let_through(s)),
    after: |s| Box::pin(conflict::let_in(s)),
};

const STREAMING: Step<Repair> = Step {
    info: StepInfo {
        id: "streaming",
        does: "waits until the connectors stream",
        precondition: "the schema is registered",
        postcondition: "tasks RUNNING, slots active",
    },
    destroys: nothing,
    before: |_| Box::pin(async { Ok("the schema is registered".to_owned()) }),
    inside: OF_SEVERAL,
    act: |s| Box::pin(streaming(s)),
    after: |s| Box::pin(s.pipeline.streams("streaming", false)),
};

/// Registry damage.
pub(crate) static DAMAGE: Table = Table {
    name: "damage",
    steps: &[
        stop_connectors(),
        DUMP_BROKEN,
        REPAIR_REGISTRY,
        FIND_RECORDS,
        delete_topics(),
        recreate_topics(),
        group_offsets(),
        delete_offsets(),
        publication(),
        force_snapshot(),
        resume(),
        restore_config(),
    ],
};

/// An incompatible change, undone.
pub(crate) static REJECT: Table = Table {
    name: "reject",
    steps: &[
        stop_connectors(),
        UNDO_CHANGE,
        delete_topics(),
        recreate_topics(),
        group_offsets(),
        delete_offsets(),
        publication(),
        force_snapshot(),
        resume(),
        restore_config(),
        REGISTRY_EQUALS,
    ],
};

/// An incompatible change, let through.
pub(crate) static ACCEPT: Table = Table { name: "accept", steps: &[ACCEPT_CHANGE, STREAMING] };

/// Nothing is wrong.
pub(crate) static SOUND: Table = Table { name: "sound", steps: &[REGISTRY_EQUALS] };

fn refusing(s: &Repair) -> Vec<String> {
    s.schema.iter().flat_map(|p| &p.refused).map(ToString::to_string).collect()
}

fn registry_destroys(s: &Repair) -> Vec<String> {
    let Some(schema) = &*s.schema else { return Vec::new() };
    let damage = differences(&schema.wanted, &schema.found);
    if repairable_in_place(schema, &damage) {
        return vec!["levels, modes and missing subjects of the registry as it is now; its store, if that is not enough (set aside)".into()];
    }
    vec!["the registry's store (set aside)".into()]
}

async fn dump_broken(s: &mut Repair) -> Result<Done, RecoveryError> {
    let memory = s.memory("dump-broken")?;
    let registry = Registry::of(&s.pipeline.config.registry);
    // Again, now that no connector writes: what was registered since the plan counts too.
    let found = capture(&registry).await?;
    let text = serde_json::json!({
        "subjects": found.subjects, "versions": found.versions, "global_compat": found.global_compat,
        "global_mode": found.global_mode,
    });
    let path = memory.write("registry.json", text.to_string().as_bytes())?;
    moment::pass("written").await?;
    let native = memory.write("registry.zip", &registry.export().await?)?;
    let (subjects, versions) = (found.subjects.len(), found.versions.len());
    s.registry_note = format!(
        "{subjects} and {versions} in {path} and {native}",
        subjects = counted(subjects, "subject"),
        versions = counted(versions, "version")
    );
    if let (Some(_), Some(point)) = (&*s.schema, &s.point) {
        let Merged { wanted, kept, dropped } = merge(&point.dump()?, &found);
        for said in kept.into_iter().chain(dropped).map(|said| format!("registry: {said}")) {
            if !s.findings.contains(&said) {
                s.findings.push(said);
            }
        }
        s.schema.change(|plan| {
            if let Some(plan) = plan {
                (plan.wanted, plan.found) = (wanted, found);
            }
        })?;
    }
    Ok(Done::Acted)
}

async fn repair_registry(s: &mut Repair) -> Result<Done, RecoveryError> {
    let memory = s.memory("repair-registry")?;
    let config = s.pipeline.config.clone();
    let registry = Registry::of(&config.registry);
    let Some(schema) = &*s.schema else { return Ok(Done::Nothing("no plan for the registry")) };
    let damage = differences(&schema.wanted, &schema.found);
    if damage.is_empty() {
        return Ok(Done::Nothing("the registry is as it shall be"));
    }
    // An earlier run may have been cut after the registry was whole again.
    let there = s.began_before("repair-registry").then(|| capture(&registry));
    if let Some(there) = there
        && there.await.is_ok_and(|found| differences(&schema.wanted, &found).is_empty())
    {
        s.registry_note = "the registry is as it shall be".to_owned();
        return Ok(Done::Nothing("an earlier run repaired it"));
    }
    let mut note = None;
    if repairable_in_place(schema, &damage) {
        in_place(&registry, &schema.wanted, &schema.found).await?;
        // A status proves nothing here: only what is read back does.
        if differences(&schema.wanted, &capture(&registry).await?).is_empty() {
            note = Some("repaired in place".to_owned());
        }
    }
    s.registry_note = match note {
        Some(note) => note,
        None => store::rebuild(&config, &schema.wanted, &memory).await?,
    };
    acted(Ok(()))
}

/// Registers missing subjects again, in the order of their versions, and puts levels and modes back.
async fn in_place(registry: &Registry, wanted: &Dump, found: &Dump) -> Result<(), RecoveryError> {
    let mut missing: Vec<&VersionLine> =
        wanted.versions.iter().filter(|v| found.versions_of(&v.subject).is_empty()).collect();
    missing.sort_by_key(|v| v.order);
    for version in missing {
        match registry.register(&version.subject, &version.schema, &version.references).await {
            Ok(id) if id == version.id => moment::pass(HALF_WAY).await?,
            // Another id, or a refusal: in place it cannot be made right.
            Ok(_) => return Ok(()),
            Err(e) if e.status().is_some() => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
    super::levels::put(registry, wanted).await
}

async fn registry_right(s: &mut Repair) -> Result<String, RecoveryError> {
    let Some(schema) = &*s.schema else { return Ok("no plan for the registry".into()) };
    let registry = Registry::of(&s.pipeline.config.registry);
    let left = differences(&schema.wanted, &capture(&registry).await?);
    match left.first() {
        None => Ok(format!("{}; {} read back", s.registry_note, counted(schema.wanted.versions.len(), "version"))),
        Some(first) => Err(RecoveryError::unmet(
            "repair-registry",
            "subjects, versions, ids, states, levels and modes as they shall be",
            format!("{}, first: {first}", counted(left.len(), "difference")),
        )),
    }
}

async fn find_records(s: &mut Repair) -> Result<Done, RecoveryError> {
    let Some((wanted, found)) = s.schema.as_ref().map(|p| (p.wanted.clone(), p.found.clone())) else {
        return Ok(Done::Nothing("no plan for the registry"));
    };
    let wrong = s.wrong_records(&wanted, &found).await?;
    s.schema.change(|plan| {
        if let Some(plan) = plan {
            plan.wrong = wrong;
        }
    })?;
    s.choose_affected();
    s.pipeline.refuse_active()?;
    Ok(match s.pipeline.sources.is_empty() {
        true => Done::Nothing("every id in every record means what it meant"),
        false => Done::Acted,
    })
}

fn found_records(s: &Repair) -> String {
    let lines = s.schema.as_ref().map(|p| described(&p.wrong)).unwrap_or_default();
    let connectors: Vec<&str> = s.pipeline.sources.iter().map(|c| c.name.as_str()).collect();
    match lines.is_empty() {
        true => "no topic is rebuilt".into(),
        false => format!("{}; rebuilt: connectors {}", lines.join("; "), connectors.join(", ")),
    }
}

async fn streaming(s: &mut Repair) -> Result<Done, RecoveryError> {
    for source in &s.pipeline.sources {
        s.pipeline.streaming(source, false).await?;
        moment::pass(HALF_WAY).await?;
    }
    Ok(Done::Acted)
}
