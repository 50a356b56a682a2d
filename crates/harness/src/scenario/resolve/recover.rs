//! Recoveries: by a playbook, or by a runbook.

use super::{
    command, faults,
    problems::{Problems, Resolved},
    situation::Situation,
    surroundings::Surroundings,
    workload::WorkloadKind,
};
use crate::scenario::{
    model::{Recover, WhileRecovering},
    words::Target,
};
use cdc_model::units::near_or;

/// Whether the recovery can begin where the drill stands.
pub(super) fn resolve(
    recover: &Recover,
    around: &Surroundings,
    situation: &Situation,
    problems: &mut Problems,
) -> Resolved<()> {
    let continues = recover.writers() == WhileRecovering::Continue;
    let in_loads_only = match around.workload {
        WorkloadKind::Command => Some("command"),
        WorkloadKind::Pgbench => Some("pgbench"),
        WorkloadKind::Shop | WorkloadKind::Sql => None,
    };
    let writers = problems.at("writers", |p| match in_loads_only.filter(|_| continues) {
        None => Ok(()),
        Some(kind) => {
            let hint = format!("a workload of `{kind}` writes in loads only; leave `writers` out");
            Err(p.report("writers that continue", hint))
        }
    });
    let several = match recover {
        Recover::Schema(_) if around.several => Err(faults::one_connector("the schema playbook", problems)),
        _ => Ok(()),
    };
    let begins = begins(recover, situation, problems);
    let point = point(recover, situation, problems);
    let target = match recover {
        Recover::Coordinated(own) => {
            let target = problems.at("target", |p| reachable(&own.target, situation, p));
            let hint = "timelines count from 1";
            target.and(problems.at("timeline", |p| p.require(own.timeline != Some(0), "timeline 0", hint)))
        }
        Recover::Exec(own) => {
            let target = problems.at("target", |p| known(&own.target, situation, p));
            target.and(command::resolve(&own.command, own.timeout, problems))
        }
        Recover::Replay(_) => archived(situation, problems).and(running(situation, problems)),
        Recover::Slot(_) | Recover::Schema(_) => running(situation, problems),
    };
    writers.and(several).and(begins).and(point).and(target)
}

/// Whether there is a server.
fn running(situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    problems.require(
        !situation.is_server_down(),
        "the server was killed by an earlier step",
        "only the coordinated playbook brings a server back",
    )
}

/// Whether the records that a replay brings back were backed up.
fn archived(situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    let lost = problems.require(
        situation.lost().next().is_some(),
        "a replay of topics that lost nothing",
        "put `fault: { lose-records: ... }` before it",
    );
    let bare: Vec<String> =
        situation.lost().filter(|table| !situation.has_archive(table)).map(|t| format!("`{}`", t.0)).collect();
    let hint = "put `back-up-records` before the fault";
    lost.and(problems.require(bare.is_empty(), format!("no records to replay of {}", bare.join(", ")), hint))
}

/// Whether there is a recovery point of the kind that the playbook starts from.
fn begins(recover: &Recover, situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    let (there, what) = match recover {
        Recover::Coordinated(_) => (situation.has_whole_point(), "a whole recovery point"),
        Recover::Schema(_) => (situation.has_registry_point(), "a recovery point with the registry"),
        // What a runbook starts from is its own business.
        Recover::Slot(_) | Recover::Replay(_) | Recover::Exec(_) => return Ok(()),
    };
    problems.require(
        there,
        format!("recovery before the first backup: the {} playbook needs {what}", recover.playbook()),
        "put a `backup` step before it",
    )
}

/// Whether the recovery point that is named was taken.
fn point(recover: &Recover, situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    let Some(point) = recover.point() else { return Ok(()) };
    if situation.points().any(|taken| taken == point) {
        return Ok(());
    }
    let hint = near_or(point, situation.points(), || "a backup must be taken by an earlier step".into());
    problems.at("point", |p| Err(p.report(format!("no backup `{point}` before this step"), hint)))
}

/// Whether an earlier step sets the target's mark, if it has one.
fn known(target: &Target, situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    match target {
        Target::Latest => Ok(()),
        Target::Mark { mark, .. } => marked(mark, situation, problems),
    }
}

/// Whether an earlier step sets the mark.
pub(super) fn marked(mark: &str, situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    if situation.marks().any(|known| known == mark) {
        return Ok(());
    }
    let hint = near_or(mark, situation.marks().chain(["latest"]), || format!("put `mark: {mark}` before this step"));
    Err(problems.report(format!("no mark `{mark}` before this step"), hint))
}

/// Whether a recovery can go forward from a backup to the target.
fn reachable(target: &Target, situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    known(target, situation, problems)?;
    match target {
        Target::Mark { mark, .. } if situation.is_before_every_point(mark) => Err(problems.report(
            format!("mark `{mark}` lies before the first backup"),
            "recovery can only go forward from a backup; set the mark after one",
        )),
        Target::Mark { .. } | Target::Latest => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::{model::Step, parse::as_json, resolve::tables::KnownTables};
    use cdc_model::vocabulary::RegistryStorageKind;

    /// What is found of the last step, a recovery, behind those before it.
    fn found(steps: &str, workload: WorkloadKind, several: bool) -> Vec<String> {
        let steps: Vec<Step> = serde_json::from_value(as_json(steps)).unwrap();
        let (last, before) = steps.split_last().unwrap();
        let mut situation = Situation::default();
        before.iter().for_each(|step| situation.advance(step));
        let (registry, tables) = (RegistryStorageKind::H2, KnownTables::default());
        let around = Surroundings { tables, several, workload, registry, limits_slots: false };
        let Step::Recover(recover) = last else { panic!("{last:?} is no recovery") };
        let mut problems = Problems::default();
        let resolved = resolve(recover, &around, &situation, &mut problems);
        assert_eq!(resolved.is_ok(), problems.is_empty());
        problems.into_found().iter().map(ToString::to_string).collect()
    }

    #[rstest]
    #[case::coordinated(
        "[ { backup: { name: a } }, { mark: m }, { recover: { coordinated: { target: m, point: a } } } ]"
    )]
    #[case::slot("[ { recover: { slot: {} } } ]")]
    #[case::schema("[ { backup: { name: a, only: registry } }, { recover: { schema: { point: a } } } ]")]
    #[case::exec("[ { fault: kill-postgres }, { recover: { exec: { command: sh x.sh } } } ]")]
    #[case::restored(
        "[ { backup: { name: a } }, { fault: kill-postgres }, { recover: { coordinated: { target: latest } } } ]"
    )]
    fn a_recovery_that_can_begin_is_no_problem(#[case] steps: &str) {
        assert_eq!(found(steps, WorkloadKind::Shop, false), Vec::<String>::new());
    }

    #[rstest]
    #[case::no_backup("[ { recover: { coordinated: { target: latest } } } ]", "recovery before the first backup")]
    #[case::only_topics(
        "[ { backup: { name: a, only: topics } }, { recover: { schema: {} } } ]",
        "the schema playbook needs a recovery point with the registry"
    )]
    #[case::of_a_command(
        "[ { backup: { exec: { name: a, command: tar } } }, { recover: { coordinated: { target: latest } } } ]",
        "the coordinated playbook needs a whole recovery point"
    )]
    #[case::another_point(
        "[ { backup: { name: nightly } }, { recover: { coordinated: { target: latest, point: nigtly } } } ]",
        "point: no backup `nigtly` before this step (hint: did you mean `nightly`?)"
    )]
    #[case::no_mark(
        "[ { backup: { name: a } }, { recover: { coordinated: { target: m } } } ]",
        "target: no mark `m` before this step (hint: put `mark: m` before this step)"
    )]
    #[case::early_mark(
        "[ { mark: m }, { backup: { name: a } }, { recover: { coordinated: { target: m } } } ]",
        "target: mark `m` lies before the first backup"
    )]
    #[case::timeline(
        "[ { backup: { name: a } }, { recover: { coordinated: { target: latest, timeline: 0 } } } ]",
        "timeline: timeline 0"
    )]
    #[case::dead(
        "[ { fault: kill-postgres }, { recover: { slot: {} } } ]",
        "only the coordinated playbook brings a server back"
    )]
    #[case::no_command("[ { recover: { exec: { command: '' } } } ]", "command: an empty command")]
    fn a_recovery_that_cannot_begin_is_reported(#[case] steps: &str, #[case] expected: &str) {
        let found = found(steps, WorkloadKind::Shop, false);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }

    #[test]
    fn workload_and_connectors_decide_what_a_recovery_can_do() {
        let slot = "[ { recover: { slot: { writers: continue } } } ]";
        assert!(found(slot, WorkloadKind::Sql, true).is_empty());
        for kind in [WorkloadKind::Command, WorkloadKind::Pgbench] {
            assert!(found(slot, kind, false)[0].starts_with("writers: writers that continue"), "{kind:?}");
        }
        let schema = "[ { backup: { name: a } }, { recover: { schema: {} } } ]";
        assert!(found(schema, WorkloadKind::Shop, true)[0].contains("the schema playbook with several `connectors`"));
    }
}
