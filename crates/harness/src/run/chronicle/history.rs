//! The chronicle of a drill, and the questions it answers.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::{Fact, FailedLoad, GroupMade, Layout, Mark, Means, Recovery, Terms};
use crate::scenario::Fault;
use cdc_model::{
    event::{Downtime, KindCounts},
    units::{Epoch, Exit, PointId, Timeline},
};
use cdc_verify::{PointView, RegistryView, observation::HeldRecord};

/// Everything that is known of a drill, without asking any system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chronicle {
    /// What it is judged by.
    pub terms: Terms,
    /// What its pipeline is called and captures.
    pub layout: Layout,
    /// The timeline that the first epoch was on.
    pub timeline: Timeline,
    /// What its steps brought about, in order.
    facts: Vec<Fact>,
}

/// The backup that the drill's last recovery was based on, or would be.
#[derive(Clone, Debug, PartialEq)]
pub enum Basis<'c> {
    /// A recovery point of the repository.
    Point(&'c PointId),
    /// A command's backup: the pipeline as the harness saw it then.
    Seen(&'c PointView),
}

/// Where WAL of an epoch may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WalSource<'c> {
    /// What was kept of a server that a command restored over, below `pg_wal`.
    Kept(&'c Utf8Path),
    /// The archive.
    Archive,
    /// A data folder that was set aside.
    Aside(&'c Utf8Path),
    /// The server's own folder.
    Server,
}

impl Chronicle {
    /// A drill that begins, on this timeline.
    pub fn new(terms: Terms, layout: Layout, timeline: Timeline) -> Chronicle {
        Chronicle { terms, layout, timeline, facts: Vec::new() }
    }

    /// Adds what a step brought about.
    pub fn extend(&mut self, facts: impl IntoIterator<Item = Fact>) {
        self.facts.extend(facts);
    }

    /// The facts, in order.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter()
    }

    /// The epoch that is running: one for each recovery behind it.
    pub fn epoch(&self) -> Epoch {
        self.recoveries().last().map_or(Epoch(0), |last| Epoch(last.epoch.0 + 1))
    }

    /// The recoveries, in order.
    pub fn recoveries(&self) -> impl DoubleEndedIterator<Item = &Recovery> {
        self.facts.iter().filter_map(|fact| match fact {
            Fact::Recovered(recovery) => Some(recovery),
            _ => None,
        })
    }

    /// Seconds that the slowest recovery took; zero without one.
    pub(crate) fn slowest_seconds(&self) -> f64 {
        self.recoveries().map(|r| r.seconds).fold(0.0, f64::max)
    }

    /// The longest downtime of each part, over all recoveries.
    pub(crate) fn longest_downtime(&self) -> Downtime {
        self.recoveries().filter_map(|r| r.downtime).fold(Downtime::default(), Downtime::max)
    }

    /// The mark of this name; where there are several, the last.
    pub fn mark(&self, name: &str) -> Option<&Mark> {
        self.facts.iter().rev().find_map(|fact| match fact {
            Fact::Marked(mark) if mark.name == name => Some(mark),
            _ => None,
        })
    }

    /// The id of the recovery point of this name; where there are several, of the last.
    pub fn point(&self, name: &str) -> Option<&PointId> {
        self.facts.iter().rev().find_map(|fact| match fact {
            Fact::PointTaken { name: taken, point } if taken == name => Some(point),
            _ => None,
        })
    }

    /// The last backup that a command of the scenario's own took.
    pub(crate) fn command_backup(&self) -> Option<&str> {
        self.facts.iter().rev().find_map(|fact| match fact {
            Fact::CommandBackup { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// The faults that landed, each with the connector that it was aimed at.
    pub fn faults(&self) -> impl Iterator<Item = (&str, &Fault)> {
        self.facts.iter().filter_map(|fact| match fact {
            Fact::FaultInjected { connector, fault } => Some((connector.as_str(), fault)),
            _ => None,
        })
    }

    /// The first load of which transactions failed.
    pub(crate) fn failed_load(&self) -> Option<&FailedLoad> {
        self.facts.iter().find_map(|fact| match fact {
            Fact::LoadFailed(load) => Some(load),
            _ => None,
        })
    }

    /// What became of each kind of transaction that the scenario names, in all loads together.
    pub(crate) fn kinds(&self) -> Vec<KindCounts> {
        KindCounts::together(self.facts.iter().filter_map(|fact| match fact {
            Fact::KindsTried(kinds) => Some(kinds.as_slice()),
            _ => None,
        }))
    }

    /// The registry as it was before each fault.
    pub(crate) fn registries_before_faults(&self) -> impl Iterator<Item = &RegistryView> {
        self.facts.iter().filter_map(|fact| match fact {
            Fact::RegistryBeforeFault(view) => Some(view),
            _ => None,
        })
    }

    /// The consumer groups; where one was made again, as it was made last.
    pub fn groups(&self) -> BTreeMap<&str, &GroupMade> {
        let made = self.facts.iter().filter_map(|fact| match fact {
            Fact::GroupMade(made) => Some((made.group.as_str(), made)),
            _ => None,
        });
        made.collect()
    }

    /// What each topic held when it last lost its records.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&str, &[HeldRecord])> {
        let held = self.facts.iter().filter_map(|fact| match fact {
            Fact::RecordsHeld { topic, records, .. } => Some((topic.as_str(), records.as_slice())),
            _ => None,
        });
        held.collect::<BTreeMap<_, _>>().into_iter()
    }

    /// What stood in each schema-history topic when the last coordinated recovery began.
    pub fn histories(&self) -> BTreeMap<String, Vec<String>> {
        let before = self.facts.iter().filter_map(|fact| match fact {
            Fact::HistoryBefore { topic, records } => Some((topic.clone(), records.clone())),
            _ => None,
        });
        before.collect()
    }

    /// The exit code and the error of a recovery that refused or failed.
    pub fn refusal(&self) -> Option<(Exit, &str)> {
        self.facts.iter().find_map(|fact| match fact {
            Fact::Refused { exit, why } => Some((*exit, why.as_str())),
            _ => None,
        })
    }

    /// The timeline of each epoch.
    pub fn timelines(&self) -> BTreeMap<Epoch, Timeline> {
        let later = self.recoveries().map(|r| (Epoch(r.epoch.0 + 1), r.timeline));
        std::iter::once((Epoch(0), self.timeline)).chain(later).collect()
    }

    /// The backup that the last recovery which had one was based on; without such a recovery, the last one taken. A command
    /// restores from the backup that a command took, where there is one.
    pub fn basis(&self) -> Option<Basis<'_>> {
        let (mut taken, mut by_command, mut used) = (None, None, None);
        for fact in &self.facts {
            match fact {
                Fact::PointTaken { point, .. } => taken = Some(Basis::Point(point)),
                Fact::CommandBackup { seen, .. } => {
                    by_command = Some(Basis::Seen(seen));
                    taken = Some(Basis::Seen(seen));
                }
                Fact::Recovered(recovery) => match &recovery.means {
                    Means::Playbook { point: Some(point), .. } => used = Some(Basis::Point(point)),
                    Means::Command { .. } => used = by_command.clone().or_else(|| taken.clone()).or(used),
                    Means::Playbook { point: None, .. } | Means::LeftOut => {}
                },
                _ => {}
            }
        }
        used.or(taken)
    }

    /// What the drill's basis holds; none where there is none, and where it is a recovery point that was not read.
    pub(crate) fn basis_view(&self) -> Option<&PointView> {
        match self.basis()? {
            Basis::Seen(view) => Some(view),
            Basis::Point(id) => self.facts.iter().rev().find_map(|fact| match fact {
                Fact::PointRead { point, view } if point == id => Some(view),
                _ => None,
            }),
        }
    }

    /// Where the WAL of an epoch may be found, the surest first.
    pub(crate) fn wal_of(&self, epoch: Epoch) -> Vec<WalSource<'_>> {
        let kept = self.recoveries().filter(|r| r.epoch >= epoch).filter_map(|r| match &r.means {
            Means::Command { wal, .. } => Some(WalSource::Kept(wal)),
            _ => None,
        });
        let mut sources: Vec<WalSource<'_>> = kept.collect();
        if !self.shares_its_timeline(epoch) {
            sources.push(WalSource::Archive);
            sources.extend(self.recoveries().filter_map(|r| match &r.means {
                Means::Playbook { aside: Some(aside), .. } => Some(WalSource::Aside(aside)),
                _ => None,
            }));
        }
        sources.push(WalSource::Server);
        sources
    }

    /// Whether an earlier epoch ran on a timeline of the same number that was another: a command put an older data folder in
    /// the place of the server's between the two, and what the archive has under that number is the earlier one's.
    fn shares_its_timeline(&self, epoch: Epoch) -> bool {
        let replaced = |r: &&Recovery| matches!(r.means, Means::Command { replaced: true, .. }) && r.epoch < epoch;
        let Some(last) = self.recoveries().filter(replaced).map(|r| r.epoch).max() else { return false };
        let timelines = self.timelines();
        timelines.range(..=last).any(|(_, earlier)| timelines.get(&epoch) == Some(earlier))
    }
}
