//! What is asked of the engine.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use crate::backup::PointSelector;
use cdc_model::{
    units::{Lsn, SystemId, Timeline},
    vocabulary::{Loss, OnConflict, TopicsRepair},
};

/// An ordered recovery procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Playbook {
    /// Stop, restore, wipe, reset, re-snapshot.
    Coordinated,
    /// Diagnose and replace the replication slot, repair the topics.
    Slot,
    /// Diagnose and repair the registry, or decide on an incompatible change.
    Schema,
}

impl Playbook {
    /// The playbook's name.
    pub fn word(self) -> &'static str {
        match self {
            Playbook::Coordinated => "coordinated",
            Playbook::Slot => "slot",
            Playbook::Schema => "schema",
        }
    }
}

impl fmt::Display for Playbook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Where point-in-time recovery stops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// After the last valid record of the WAL.
    #[default]
    Latest,
    /// After the last transaction committed at or before this time.
    Time(jiff::Timestamp),
    /// After the first record that starts at or after this position.
    Lsn(Lsn),
    /// At the restore point of this name (`pg_create_restore_point`).
    Name(String),
    /// After the commit of this transaction, or of the one that it was a subtransaction of.
    Xid(u32),
    /// Where the base backup is consistent: without anything that was written after it.
    Immediate,
}

/// Text that is not a target.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` is not a target: {why} (expected latest, immediate, time:2026-11-22T20:00:00Z, lsn:0/3000060, xid:743 or name:before-the-accident)"
)]
pub struct TargetError {
    text: String,
    why: String,
}

/// The first id that a server gives to a transaction of its own (`FirstNormalTransactionId`).
const FIRST_XID: u32 = 3;
/// PostgreSQL's own limit.
const RESTORE_POINT_NAME_MAX: usize = 63;

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(s: &str) -> Result<Self, TargetError> {
        let bad = |why: String| TargetError { text: s.to_owned(), why };
        match s.split_once(':') {
            None if s == "latest" => Ok(Target::Latest),
            None if s == "immediate" => Ok(Target::Immediate),
            Some(("time", at)) => at.parse().map(Target::Time).map_err(|e: jiff::Error| bad(e.to_string())),
            Some(("lsn", at)) => {
                at.parse().map(Target::Lsn).map_err(|e: cdc_model::units::LsnError| bad(e.to_string()))
            }
            Some(("name", name)) if !name.is_empty() && name.len() <= RESTORE_POINT_NAME_MAX => {
                Ok(Target::Name(name.to_owned()))
            }
            Some(("xid", id)) => xid(id).map(Target::Xid).map_err(bad),
            Some(("name", _)) => Err(bad(format!("a restore point's name has 1 to {RESTORE_POINT_NAME_MAX} bytes"))),
            _ => Err(bad("unknown kind".into())),
        }
    }
}

/// The id of a transaction as the WAL has it. What `pg_current_xact_id` shows counts on where those begin anew.
fn xid(text: &str) -> Result<u32, String> {
    let id: u64 = text.parse().map_err(|_| format!("`{text}` is no transaction id"))?;
    match u32::try_from(id) {
        Ok(id) if id >= FIRST_XID => Ok(id),
        Ok(id) => Err(format!("transaction ids begin with {FIRST_XID}, and {id} is reserved")),
        Err(_) => Err(format!("a transaction id in the WAL has 32 bits: that of {id} is {}", id & u64::from(u32::MAX))),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Latest => f.write_str("latest"),
            Target::Immediate => f.write_str("immediate"),
            Target::Xid(xid) => write!(f, "xid:{xid}"),
            Target::Time(at) => write!(f, "time:{at}"),
            Target::Lsn(at) => write!(f, "lsn:{at}"),
            Target::Name(name) => write!(f, "name:{name}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Everything a person decides about a recovery.
#[derive(Clone, Debug)]
pub struct Request {
    /// The procedure.
    pub playbook: Playbook,
    /// Where to start from.
    pub point: PointSelector,
    /// Where to stop.
    pub target: Target,
    /// The timeline on which the target lies; found from the target when absent.
    pub timeline: Option<Timeline>,
    /// The cluster's system identifier, where its server and its control file are gone and cannot say it.
    pub system_id: Option<SystemId>,
    /// Stop just before the target instead of just after it. A time, an LSN, a name and a transaction are inclusive by default.
    pub exclusive: bool,
    /// The connectors to recover. Empty: all that read from the cluster. Leaving one out is refused.
    pub connectors: Vec<String>,
    /// How topics are made right (slot playbook).
    pub topics: TopicsRepair,
    /// What becomes of an incompatible change (schema playbook).
    pub on_conflict: OnConflict,
    /// Statements that undo an incompatible change; derived from the recovery point when empty.
    pub undo: Vec<String>,
    /// What may be lost.
    pub accept_loss: BTreeSet<Loss>,
    /// Start from a recovery point whose consistency checks failed when it was taken. Otherwise such a point is passed over, and
    /// refused where it is the one that was named, or where there is no other.
    pub accept_inconsistent_point: bool,
    /// Make the connectors again that the recovery point has and the worker has not, and recover them too.
    pub restore_connectors: bool,
    /// Look at the connectors of others before and after. Drills that run side by side are one another's others and change
    /// meanwhile.
    pub neighbours: bool,
}

impl Request {
    /// The defaults of the command line.
    pub fn new(playbook: Playbook) -> Self {
        Request {
            playbook,
            point: PointSelector::Latest,
            target: Target::Latest,
            timeline: None,
            system_id: None,
            exclusive: false,
            connectors: Vec::new(),
            topics: TopicsRepair::Purge,
            on_conflict: OnConflict::Reject,
            undo: Vec::new(),
            accept_loss: BTreeSet::new(),
            accept_inconsistent_point: false,
            restore_connectors: false,
            neighbours: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("latest")]
    #[case("time:2026-11-22T20:00:00Z")]
    #[case("lsn:0/3000060")]
    #[case("name:before: the accident")]
    #[case("xid:743")]
    #[case("immediate")]
    fn a_target_is_written_as_it_is_read(#[case] text: &str) {
        assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case("", "unknown kind")]
    #[case("newest", "unknown kind")]
    #[case("lsn:5", "not an LSN")]
    #[case("time:2026-11-22 20:00", "")]
    #[case("name:", "1 to 63")]
    #[case("xid:", "no transaction id")]
    #[case("xid:-1", "no transaction id")]
    #[case("xid:2", "begin with 3")]
    #[case("xid:4294968039", "32 bits: that of 4294968039 is 743")]
    #[case("immediate:now", "unknown kind")]
    fn a_wrong_target_says_what_is_wrong(#[case] text: &str, #[case] part: &str) {
        let error = text.parse::<Target>().unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("expected latest"), "{error}");
    }
}
