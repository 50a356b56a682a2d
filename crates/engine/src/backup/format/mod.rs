//! The repository's format: what a recovery point's files are called, and the types that stand in them. What captures a part
//! writes these, [`Point`](super::Point) reads them; nothing here asks a system or knows a folder.

pub(crate) mod checked;
pub(crate) mod frame;
pub(crate) mod layout;
mod manifest;
mod names;
mod saved;
pub(crate) mod stamp;
mod version;

pub(crate) use manifest::SCHEMA_IDS;
pub use manifest::{
    Chain, Clock, ClockOf, ConnectFacts, Consistency, ConsistencyCheck, DataFolder, FileEntry, KafkaFacts, Kind, Link,
    Manifest, Origin, Part, PostgresFacts, RegistryFacts, SchemaHistory, SchemaHistoryTopic, Tool, TopicRecords,
    Window,
};
pub(crate) use names::is_safe_relative;
pub use names::{decode_name, encode_name};
pub use saved::{
    DatabasePublications, DatabaseSequences, GroupOffset, GroupState, NamedMembers, Publication, PublishedTable,
    RawRecord, SavedConnector, SavedTask, SequenceState, Setting, TopicState, Watermark,
};
pub use version::Format;
