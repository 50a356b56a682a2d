//! What is to be seen.

use std::collections::{BTreeMap, BTreeSet};

use super::{HeldRecord, RegistryView};
use cdc_model::units::{Epoch, Lsn, Offset, SchemaId, TopicPartition};
use cdc_pipeline::client::{connect::ConnectorConfig, kafka::TopicSpec};
use cdc_workload::ledger::{Ledger, Tables};

/// What is to be seen.
#[derive(Debug, Default)]
pub struct Expectation<'a> {
    /// What the workload did.
    pub ledger: Option<&'a Ledger>,
    /// Rows that were there before the ledger began.
    pub base: Tables,
    /// Where each recovery cut the history.
    pub cuts: Vec<Cut>,
    /// Tables whose rows no ledger knows, captured at the target.
    pub captured: Option<Captured>,
    /// The column with the token.
    pub token_column: String,
    /// The first offsets of the current epoch, by partition: what stands before was there before the recovery and was
    /// kept on purpose. Partitions not named begin at zero.
    pub epoch_offsets: BTreeMap<TopicPartition, Offset>,
    /// Positions in the WAL that the connector may have delivered twice: from a stored offset that was lower than what
    /// had been sent, up to the end of what had been sent.
    pub redelivery: Vec<(Lsn, Lsn)>,
    /// The registry as the recovery point has it.
    pub registry: Option<RegistryView>,
    /// Versions that were registered after the recovery point and are kept.
    pub newer_versions: NewerVersions,
    /// The text of each schema id when records were written under it.
    pub written: BTreeMap<SchemaId, String>,
    /// Settings of the data topics as the recovery point has them.
    pub specs: BTreeMap<String, TopicSpec>,
    /// Settings that each data topic must have that is there and not in `specs`: what was asked for, where no recovery point has it.
    pub topic_settings: BTreeMap<String, String>,
    /// The offsets that consumer groups must have.
    pub groups: BTreeMap<String, BTreeMap<TopicPartition, Offset>>,
    /// Schema-history topics that must be there and hold nothing from before the recovery: what stood in each then.
    pub cleared_histories: BTreeMap<String, Vec<String>>,
    /// What topics held that lost their records: it must be there again, before anything else.
    pub held: BTreeMap<String, Vec<HeldRecord>>,
    /// Slots that may be there besides the connectors'.
    pub slots: BTreeSet<String>,
    /// Connector configurations as they must be again.
    pub configs: BTreeMap<String, ConnectorConfig>,
}

/// Tables captured twice: at the target, and when the recovery had ended, before anybody wrote to them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// As the recovery must leave them.
    pub at_target: Tables,
    /// As it left them, or why they could not be read.
    pub restored: Result<Tables, String>,
}

/// Which versions may be there that the recovery point does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NewerVersions {
    /// None.
    #[default]
    None,
    /// These, by subject and version.
    These(BTreeSet<(String, u32)>),
    /// Any that is newer than all of the subject's versions in the point, and subjects the point does not have: for a
    /// pipeline that lives on.
    Any,
}

/// Where a recovery cut the history: transactions of this epoch and earlier ones that committed behind it are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The last epoch before the recovery.
    pub epoch: Epoch,
    /// The target's position; `None` when the target was the end of WAL, which gives nothing up.
    pub lsn: Option<Lsn>,
    /// Whether a commit at the very position is kept.
    pub inclusive: bool,
}

/// What became of a committed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is part of the surviving history.
    Kept,
    /// A recovery's target gave it up.
    GivenUp,
    /// No commit record was found for it, so it cannot be told.
    Undecided,
}

impl Expectation<'_> {
    /// What became of a committed transaction of the ledger.
    pub fn fate(&self, ledger: &Ledger, entry: &cdc_workload::ledger::Entry) -> Fate {
        for cut in self.cuts.iter().filter(|c| entry.epoch <= c.epoch) {
            let Some(lsn) = cut.lsn else { continue };
            match ledger.commit(entry) {
                // Cuts of later epochs are on other timelines; only the epoch's own cut compares with its positions.
                Some(_) if entry.epoch < cut.epoch && self.cuts.iter().any(|c| c.epoch == entry.epoch) => {}
                Some(commit) if commit.lsn < lsn || (cut.inclusive && commit.lsn == lsn) => {}
                Some(_) => return Fate::GivenUp,
                None => return Fate::Undecided,
            }
        }
        Fate::Kept
    }
}
