//! What the steps before the present one have left: which recovery points and marks there are, whether the server is up, whether the
//! connector runs. A pure state machine; the resolvers of steps ask it.

use std::collections::BTreeSet;

use crate::scenario::{
    model::{Backup, Fault, Recover, Step},
    words::TableRef,
};
use cdc_model::vocabulary::BackupPart;

/// The drill at one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Situation {
    backups: Vec<Taken>,
    marks: Vec<Mark>,
    server_down: bool,
    connector_stopped: bool,
    slot_dropped: bool,
    /// The tables of whose topics the records were backed up.
    archived: BTreeSet<TableRef>,
    /// The tables whose topics lost their records, as long as nothing has recovered.
    lost: BTreeSet<TableRef>,
    /// Whether any topic ever lost its records.
    has_lost: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    name: String,
    by: Taker,
}

/// Who took a backup, and so who can start from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taker {
    /// This program; only this part, or all of it.
    Engine(Option<BackupPart>),
    /// A command of the scenario.
    Command,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    name: String,
    /// Whether a recovery can go forward to it from a whole recovery point.
    reachable: bool,
}

impl Situation {
    /// What the step leaves.
    pub(super) fn advance(&mut self, step: &Step) {
        match step {
            Step::Backup(backup) => self.backups.push(Taken::from(backup)),
            Step::Mark(name) => {
                let reachable = self.has_whole_point();
                self.marks.push(Mark { name: name.clone(), reachable });
            }
            Step::Fault(
                Fault::KillPostgres | Fault::PausePostgres | Fault::DisconnectPostgres | Fault::StarvePostgres(_),
            ) => self.server_down = true,
            Step::BackUpRecords(table) => {
                self.archived.insert(table.clone());
            }
            Step::Fault(Fault::LoseRecords(lost)) => {
                self.lost.insert(lost.table.clone());
                self.has_lost = true;
            }
            Step::Fault(Fault::DropSlot) => self.slot_dropped = true,
            Step::Recover(recover) => {
                // What the slot and the schema playbook need is a server; only these two bring one back.
                self.server_down &= !matches!(recover, Recover::Coordinated(_) | Recover::Exec(_));
                self.connector_stopped = false;
                self.lost.clear();
            }
            Step::StopConnector => self.connector_stopped = true,
            Step::StartConnector | Step::RestartConnector => self.connector_stopped = false,
            Step::Load(_)
            | Step::Fault(_)
            | Step::Prove(_)
            | Step::Signals
            | Step::Sql(_)
            | Step::Quiesce
            | Step::ConsumerGroup(_)
            | Step::DeleteSchemaVersion(_) => {}
        }
    }

    /// Whether a fault took the server away and no recovery has brought it back.
    pub(super) fn is_server_down(&self) -> bool {
        self.server_down
    }

    /// Whether a fault dropped a slot. That it is missed is for a proof to find.
    pub(super) fn is_slot_dropped(&self) -> bool {
        self.slot_dropped
    }

    /// Whether the connector was stopped and not started again.
    pub(super) fn is_connector_stopped(&self) -> bool {
        self.connector_stopped
    }

    /// The tables whose topics lost their records and were not recovered since.
    pub(super) fn lost(&self) -> impl Iterator<Item = &TableRef> {
        self.lost.iter()
    }

    /// Whether the records of a table's topic were backed up.
    pub(super) fn has_archive(&self, table: &TableRef) -> bool {
        self.archived.contains(table)
    }

    /// Whether a topic lost its records.
    pub(super) fn has_lost_records(&self) -> bool {
        self.has_lost
    }

    /// Whether there is a backup of this name, whoever took it.
    pub(super) fn has_backup(&self, name: &str) -> bool {
        self.backups.iter().any(|taken| taken.name == name)
    }

    /// Whether there is a backup that holds the registry, or may do so.
    pub(super) fn may_have_registry(&self) -> bool {
        self.has_registry_point() || self.backups.iter().any(|taken| taken.by == Taker::Command)
    }

    /// Whether there is a recovery point of everything.
    pub(super) fn has_whole_point(&self) -> bool {
        self.backups.iter().any(|taken| taken.by == Taker::Engine(None))
    }

    /// Whether there is a recovery point with the registry.
    pub(super) fn has_registry_point(&self) -> bool {
        let holds = |by: Taker| matches!(by, Taker::Engine(None | Some(BackupPart::Registry)));
        self.backups.iter().any(|taken| holds(taken.by))
    }

    /// The recovery points that a playbook can start from, by name.
    pub(super) fn points(&self) -> impl Iterator<Item = &str> {
        let ours = self.backups.iter().filter(|taken| matches!(taken.by, Taker::Engine(_)));
        ours.map(|taken| taken.name.as_str())
    }

    /// The marks, by name.
    pub(super) fn marks(&self) -> impl Iterator<Item = &str> {
        self.marks.iter().map(|mark| mark.name.as_str())
    }

    /// Whether the mark is there and lies before the first whole recovery point.
    pub(super) fn is_before_every_point(&self, mark: &str) -> bool {
        self.marks.iter().any(|m| m.name == mark && !m.reachable)
    }
}

impl From<&Backup> for Taken {
    fn from(backup: &Backup) -> Taken {
        let by = match backup.exec {
            Some(_) => Taker::Command,
            None => Taker::Engine(backup.only),
        };
        Taken { name: backup.name().to_owned(), by }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The situation after steps as a file has them.
    fn after(steps: &str) -> Situation {
        let steps: Vec<Step> = serde_json::from_value(crate::scenario::parse::as_json(steps)).unwrap();
        let mut situation = Situation::default();
        steps.iter().for_each(|step| situation.advance(step));
        situation
    }

    #[rstest]
    #[case::nothing("[]", false)]
    #[case::killed("[ { fault: kill-postgres } ]", true)]
    #[case::paused("[ { fault: pause-postgres } ]", true)]
    #[case::disconnected("[ { fault: disconnect-postgres } ]", true)]
    #[case::starved("[ { fault: { starve-postgres: { mib: 6 } } } ]", true)]
    #[case::another_fault("[ { fault: drop-slot } ]", false)]
    #[case::another_fault_behind("[ { fault: kill-postgres }, { fault: drop-slot } ]", true)]
    #[case::restored("[ { fault: kill-postgres }, { recover: { coordinated: { target: latest } } } ]", false)]
    #[case::by_a_runbook("[ { fault: kill-postgres }, { recover: { exec: { command: sh x.sh } } } ]", false)]
    #[case::a_slot_is_no_server("[ { fault: kill-postgres }, { recover: { slot: {} } } ]", true)]
    #[case::a_schema_is_no_server("[ { fault: kill-postgres }, { recover: { schema: {} } } ]", true)]
    fn the_server_is_down_until_a_recovery_brings_it_back(#[case] steps: &str, #[case] down: bool) {
        assert_eq!(after(steps).is_server_down(), down);
    }

    #[rstest]
    #[case("[ stop-connector ]", true)]
    #[case("[ stop-connector, start-connector ]", false)]
    #[case("[ stop-connector, restart-connector ]", false)]
    #[case("[ stop-connector, { recover: { slot: {} } } ]", false)]
    #[case("[ stop-connector, { load: { transactions: 1 } } ]", true)]
    fn the_connector_is_stopped_until_it_is_started(#[case] steps: &str, #[case] stopped: bool) {
        assert_eq!(after(steps).is_connector_stopped(), stopped);
    }

    #[rstest]
    #[case::whole("[ { backup: { name: a } } ]", [true, true, true, true])]
    #[case::registry("[ { backup: { name: a, only: registry } } ]", [false, true, true, true])]
    #[case::topics("[ { backup: { name: a, only: topics } } ]", [false, false, false, true])]
    #[case::by_a_command("[ { backup: { exec: { name: a, command: tar } } } ]", [false, false, true, false])]
    fn what_can_start_from_a_backup(#[case] steps: &str, #[case] expected: [bool; 4]) {
        let s = after(steps);
        let is_point = s.points().any(|name| name == "a");
        assert_eq!([s.has_whole_point(), s.has_registry_point(), s.may_have_registry(), is_point], expected);
        assert!(s.has_backup("a") && !s.has_backup("b"));
    }

    #[test]
    fn a_mark_is_reachable_from_a_whole_backup_before_it() {
        let s = after(
            "[ { backup: { name: a, only: registry } }, { mark: early }, { backup: { name: b } }, { mark: late } ]",
        );
        assert_eq!(s.marks().collect::<Vec<_>>(), ["early", "late"]);
        assert!(s.is_before_every_point("early") && !s.is_before_every_point("late"));
    }
}
