//! Findings and their evidence.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::units::{Lsn, Offset, RowKey, SchemaId, TableName};

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// It was acknowledged, or it is in the table, and it is not there.
    Lost,
    /// It is there and must not be: a row that no longer exists, a transaction of an abandoned timeline.
    Ghost,
    /// An older state of the row than the current one.
    Stale,
    /// Neither the current nor any earlier state of the row.
    Different,
    /// A record whose schema id resolves to another schema than the one it was written with, or to none.
    WrongSchema,
    /// An incompatible schema would be accepted.
    NotRefused,
    /// A compatible schema would be refused.
    Refused,
    /// A table, topic or record that cannot be read.
    Unreadable,
    /// A table or column that cannot be judged.
    NotComparable,
    /// A transaction of which only a part is visible.
    Half,
    /// More deliveries than at-least-once explains.
    Duplicate,
    /// An event behind one that it precedes.
    OutOfOrder,
    /// A connector, task, slot or server that does not work.
    Dead,
    /// A position (offset, slot, group) that is wrong.
    Position,
    /// A setting, level, mode, version or id that differs from the recovery point's.
    Setting,
    /// Something the drill left behind.
    Leak,
    /// Nothing was compared.
    Vacuous,
    /// The recovery itself refused to go on; only what a control expects, never a check's finding.
    RecoveryRefused,
}

impl FindingKind {
    /// The kind's word in scenarios and reports.
    pub fn word(self) -> &'static str {
        match self {
            FindingKind::Lost => "lost",
            FindingKind::Ghost => "ghost",
            FindingKind::Stale => "stale",
            FindingKind::Different => "different",
            FindingKind::WrongSchema => "wrong-schema",
            FindingKind::NotRefused => "not-refused",
            FindingKind::Refused => "refused",
            FindingKind::Unreadable => "unreadable",
            FindingKind::NotComparable => "not-comparable",
            FindingKind::Half => "half",
            FindingKind::Duplicate => "duplicate",
            FindingKind::OutOfOrder => "out-of-order",
            FindingKind::Dead => "dead",
            FindingKind::Position => "position",
            FindingKind::Setting => "setting",
            FindingKind::Leak => "leak",
            FindingKind::Vacuous => "vacuous",
            FindingKind::RecoveryRefused => "recovery-refused",
        }
    }
}

/// One piece of evidence. Every field is always present in JSON; `null` where it does not apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FindingJson", into = "FindingJson")]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The table.
    pub table: Option<TableName>,
    /// The row's key. In JSON it is there twice: as words in `key` and as data in `row_key`.
    pub key: Option<FindingKey>,
    /// The transaction's token in the workload's ledger.
    pub token: Option<String>,
    /// The topic.
    pub topic: Option<String>,
    /// The partition.
    pub partition: Option<i32>,
    /// The record's offset.
    pub offset: Option<Offset>,
    /// The position in the WAL.
    pub lsn: Option<Lsn>,
    /// The schema id concerned.
    pub schema_id: Option<SchemaId>,
    /// The connector, slot, group, setting or schema subject concerned.
    pub subject: Option<About>,
    /// What should be there, in words.
    pub expected: Option<String>,
    /// What is there, in words.
    pub found: Option<String>,
    /// What `expected` and `found` say, as data. No secret is ever in it.
    pub evidence: Option<Evidence>,
}

/// The key of a finding's row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FindingKey {
    /// The key as the table prints it: the row can be asked for.
    Columns(RowKey),
    /// Words for people. Either the value is known only as a record expresses it, which need not be how the table prints it,
    /// or the report was written by an earlier version.
    Words(String),
}

impl fmt::Display for FindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FindingKey::Columns(key) => key.fmt(f),
            FindingKey::Words(words) => f.write_str(words),
        }
    }
}

/// Values of some columns of a row, as PostgreSQL prints them and never shortened; `None` for NULL.
pub type Cells = BTreeMap<String, Option<String>>;

/// What a finding's words say, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// A row, or the columns in which two states of it differ. A column for which a side has no value is not in its cells.
    Row {
        /// As it should be; null where there should be no such row.
        expected: Option<Cells>,
        /// As it is; null where there is no such row.
        found: Option<Cells>,
    },
    /// A setting of a topic, or the topic itself.
    Setting {
        /// Its value as it should be; null where it should be unset.
        expected: Option<String>,
        /// Its value; null where it is unset, or where there is no such topic.
        found: Option<String>,
    },
    /// The offset that a consumer group has committed.
    Committed {
        /// What it should be.
        expected: Offset,
        /// What it is; null where nothing is committed.
        found: Option<Offset>,
    },
    /// A record that a topic held before it lost its records: digests of its key and its value.
    Record {
        /// Of its key; null where that is null.
        key: Option<String>,
        /// Of its value; null where that is null.
        value: Option<String>,
    },
    /// A schema history that should have been cleared.
    History {
        /// How many of its records are from before the recovery; null where there is no such topic.
        left: Option<u64>,
    },
}

/// A finding in JSON: words for people beside the data that they are made of.
#[derive(Serialize, Deserialize)]
struct FindingJson {
    kind: FindingKind,
    table: Option<TableName>,
    key: Option<String>,
    token: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<Offset>,
    lsn: Option<Lsn>,
    schema_id: Option<SchemaId>,
    subject: Option<About>,
    expected: Option<String>,
    found: Option<String>,
    // Reports of earlier versions have neither.
    #[serde(default)]
    row_key: Option<RowKey>,
    #[serde(default)]
    evidence: Option<Evidence>,
}

impl From<FindingJson> for Finding {
    fn from(json: FindingJson) -> Finding {
        Finding {
            kind: json.kind,
            table: json.table,
            key: json.row_key.map(FindingKey::Columns).or(json.key.map(FindingKey::Words)),
            token: json.token,
            topic: json.topic,
            partition: json.partition,
            offset: json.offset,
            lsn: json.lsn,
            schema_id: json.schema_id,
            subject: json.subject,
            expected: json.expected,
            found: json.found,
            evidence: json.evidence,
        }
    }
}

impl From<Finding> for FindingJson {
    fn from(finding: Finding) -> FindingJson {
        FindingJson {
            kind: finding.kind,
            table: finding.table,
            key: finding.key.as_ref().map(ToString::to_string),
            token: finding.token,
            topic: finding.topic,
            partition: finding.partition,
            offset: finding.offset,
            lsn: finding.lsn,
            schema_id: finding.schema_id,
            subject: finding.subject,
            expected: finding.expected,
            found: finding.found,
            row_key: finding.key.and_then(|key| match key {
                FindingKey::Columns(key) => Some(key),
                FindingKey::Words(_) => None,
            }),
            evidence: finding.evidence,
        }
    }
}

/// What a finding is about, besides tables, rows and records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// A connector.
    Connector(String),
    /// A setting of a connector.
    ConnectorSetting {
        /// The connector.
        connector: String,
        /// The setting.
        setting: String,
    },
    /// A replication slot.
    Slot(String),
    /// A publication.
    Publication(String),
    /// A consumer group.
    Group(String),
    /// A property of the finding's topic: `partitions`, `replication`, or a setting by the broker's name.
    TopicSetting(String),
    /// A system as a whole: `postgres`, `connect`, `kafka`, `registry`, `pipeline`.
    System(String),
    /// A subject of the registry.
    Subject(String),
    /// A version of a subject.
    Version {
        /// The subject.
        subject: String,
        /// Its number.
        version: u32,
    },
    /// A compatibility level: a subject's own, or the global one.
    Level(Option<String>),
    /// A mode: a subject's own, or the global one.
    Mode(Option<String>),
    /// Something that a drill should have taken away.
    Leftover(String),
}

impl About {
    /// The subject of the registry, where it is about one.
    pub fn registry_subject(&self) -> Option<&str> {
        match self {
            About::Subject(name) | About::Version { subject: name, .. } => Some(name),
            About::Level(name) | About::Mode(name) => name.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            About::Connector(name) => write!(f, "connector {name}"),
            About::ConnectorSetting { connector, setting } => write!(f, "connector {connector}: {setting}"),
            About::Slot(name) => write!(f, "slot {name}"),
            About::Publication(name) => write!(f, "publication {name}"),
            About::Group(name) => write!(f, "group {name}"),
            About::TopicSetting(name) | About::System(name) | About::Subject(name) | About::Leftover(name) => {
                f.write_str(name)
            }
            About::Version { subject, version } => write!(f, "{subject} version {version}"),
            About::Level(Some(subject)) => write!(f, "level of {subject}"),
            About::Level(None) => f.write_str("global level"),
            About::Mode(Some(subject)) => write!(f, "mode of {subject}"),
            About::Mode(None) => f.write_str("global mode"),
        }
    }
}

impl Finding {
    /// A finding of this kind with no evidence yet; fill in what applies with struct update syntax.
    pub fn new(kind: FindingKind) -> Self {
        Finding {
            kind,
            table: None,
            key: None,
            token: None,
            topic: None,
            partition: None,
            offset: None,
            lsn: None,
            schema_id: None,
            subject: None,
            expected: None,
            found: None,
            evidence: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_comes_back_from_json_with_its_data_and_one_of_an_earlier_version_with_its_words() {
        let key = RowKey::new([("name", Some("a,b=c")), ("part", None)]);
        let finding = Finding {
            key: Some(FindingKey::Columns(key)),
            evidence: Some(Evidence::Committed { expected: Offset(0), found: None }),
            ..Finding::new(FindingKind::Lost)
        };
        let mut json = serde_json::to_value(&finding).unwrap();
        assert_eq!(json["key"], "name='a,b=c',part=NULL");
        assert_eq!(json["row_key"], serde_json::json!({"name": "a,b=c", "part": null}));
        assert_eq!(serde_json::from_value::<Finding>(json.clone()).unwrap(), finding);
        let fields = json.as_object_mut().unwrap();
        fields.remove("row_key");
        fields.remove("evidence");
        let old: Finding = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(old.key, Some(FindingKey::Words("name='a,b=c',part=NULL".into())));
        assert_eq!(serde_json::to_value(&old).unwrap()["key"], json["key"]);
    }
}
