//! What the schema playbook found: the registry as it is and as it shall be, and what depends on the difference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backup::parts::registry::Dump;
use cdc_model::units::{SchemaId, Subject, TableName};

/// What the schema playbook found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SchemaPlan {
    /// The registry as it was found.
    pub(crate) found: Dump,
    /// The registry as it shall be.
    pub(crate) wanted: Dump,
    /// Topics with records under wrong ids.
    pub(crate) wrong: Wrong,
    /// Changes of the source that the registry refuses.
    pub(crate) undo: Vec<Undo>,
    /// Subjects that refuse a change.
    pub(crate) refused: Vec<Subject>,
}

/// How many records of a topic are concerned, by schema id.
pub(crate) type Wrong = BTreeMap<String, BTreeMap<SchemaId, u64>>;

/// A change and the statements that take it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undo {
    pub(crate) database: String,
    pub(crate) table: TableName,
    pub(crate) subject: Subject,
    pub(crate) what: String,
    pub(crate) sql: String,
}
