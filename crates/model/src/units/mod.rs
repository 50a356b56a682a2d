//! Names for the things every part of the tool talks about. Pure: no I/O, no clock, no randomness.

mod address;
mod counted;
mod exit;
mod failure;
mod hex;
mod ids;
mod lsn;
mod nearest;
pub mod packed;
pub mod pairs;
mod piece;
mod presence;
mod quoted;
mod row_key;
mod secret;
mod shell;
mod speed;
mod system_id;
mod timeline;
mod verdict;

pub use address::{WithoutTls, decode, encode, without_tls};
pub use counted::counted;
pub use exit::Exit;
pub use failure::{Failure, Hint, chain, with_hints};
pub use hex::hex;
pub use ids::{
    DrillId, Epoch, NameError, Offset, PointId, RunId, SchemaId, SlotName, Subject, SubjectVersion, TableName,
    TopicPartition,
};
pub use lsn::{Lsn, LsnError};
pub use nearest::{near_or, nearest};
pub use piece::Piece;
pub use presence::IfThere;
pub use quoted::quoted;
pub use row_key::readable;
pub use row_key::{KeyColumns, RowKey};
pub use secret::{Secret, is_secret_setting, redact_url};
pub use shell::shell_word;
pub use speed::{REFERENCE_MACHINE, Speed};
pub use system_id::{SystemId, system_id_text};
pub use timeline::{Timeline, TimelineError};
pub use verdict::Verdict;
