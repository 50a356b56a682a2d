//! A connector, and the topics that begin like its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::{decode::settings::ConnectorSettings, error::VerifyError};
use cdc_model::units::{Lsn, TableName};
use cdc_pipeline::{
    client::connect::{ConnectorConfig, ConnectorStatus, StoredOffset},
    debezium::Coverage,
};

/// A connector.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "SavedConnectorView")]
pub struct ConnectorView {
    /// Its configuration, understood. In JSON its name alone: the configuration says the rest.
    #[serde(rename = "name", serialize_with = "name_of")]
    pub settings: Arc<ConnectorSettings>,
    /// Its configuration as the worker has it.
    pub config: ConnectorConfig,
    /// Its state; why not, where the worker did not answer.
    pub status: Result<ConnectorStatus, String>,
    /// Its stored offsets.
    pub offsets: Vec<StoredOffset>,
    /// Why they could not be read; then there are none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets_unread: Option<String>,
    /// Whether its publication exists.
    pub publication: bool,
    /// What it captures, by its lists, the catalogue and its publication.
    pub coverage: Coverage,
    /// Tables that its lists choose and its publication lacks, where it has a list of tables or their topics have records: their
    /// changes should arrive, and never do.
    pub unpublished: Vec<TableName>,
    /// The other tables that its lists choose and its publication lacks: left out of it on purpose, or new.
    pub uncaptured: Vec<TableName>,
    /// Topics of its tables that are compared with none.
    pub orphans: Vec<Orphan>,
    /// What a person should know about it.
    pub notes: Vec<String>,
}

/// A connector as JSON has it.
#[derive(Deserialize)]
struct SavedConnectorView {
    name: String,
    config: ConnectorConfig,
    status: Result<ConnectorStatus, String>,
    offsets: Vec<StoredOffset>,
    #[serde(default)]
    offsets_unread: Option<String>,
    publication: bool,
    coverage: Coverage,
    unpublished: Vec<TableName>,
    uncaptured: Vec<TableName>,
    orphans: Vec<Orphan>,
    notes: Vec<String>,
}

impl TryFrom<SavedConnectorView> for ConnectorView {
    type Error = VerifyError;

    fn try_from(saved: SavedConnectorView) -> Result<ConnectorView, VerifyError> {
        let SavedConnectorView { name, config, status, offsets, offsets_unread, publication, .. } = saved;
        let SavedConnectorView { coverage, unpublished, uncaptured, orphans, notes, .. } = saved;
        let settings = Arc::new(ConnectorSettings::parse(&name, &config)?);
        Ok(ConnectorView {
            settings,
            config,
            status,
            offsets,
            offsets_unread,
            publication,
            coverage,
            unpublished,
            uncaptured,
            orphans,
            notes,
        })
    }
}

fn name_of<S: Serializer>(settings: &Arc<ConnectorSettings>, serializer: S) -> Result<S::Ok, S::Error> {
    settings.name.serialize(serializer)
}

impl ConnectorView {
    /// A number of the stored offset.
    pub(crate) fn offset_number(&self, field: &str) -> Option<u64> {
        self.offsets.iter().filter_map(|o| o.offset.as_ref()?.get(field)?.as_u64()).max()
    }

    /// The stored position.
    pub(crate) fn stored_lsn(&self) -> Option<Lsn> {
        self.offset_number("lsn").or_else(|| self.offset_number("lsn_proc")).map(Lsn)
    }
}

/// A connector to PostgreSQL that was not looked at: it is not known from which server it reads, or how its records are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unidentified {
    /// Its name.
    pub connector: String,
    /// Why that is not known, and what excludes it.
    pub why: String,
    /// Whether something does: it names what the server does not have, or what another connector has, or is of a class that is not
    /// read.
    pub excluded: bool,
}

/// A topic with records that is compared with no table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The topic.
    pub topic: String,
    /// Why.
    pub kind: OrphanKind,
    /// How many records.
    pub records: u64,
}

/// Why a topic with records is compared with no table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrphanKind {
    /// The changes of its table, a partitioned table or a partition, go to other topics.
    Elsewhere(TableName),
    /// The connector's lists leave its table out.
    LeftOut(TableName),
    /// There is no such table.
    Gone {
        /// The table, by the topic's name.
        table: TableName,
        /// Whether the connector's list of tables has it by its name, and not by a pattern that a table of long ago may match
        /// too.
        named: bool,
    },
    /// It begins as the topics of the connector's tables do, and which table it is of does not follow from its name.
    Unexplained,
}
