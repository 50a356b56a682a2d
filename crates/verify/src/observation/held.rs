//! What a topic holds, record by record, in digests.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use cdc_model::units::Offset;
use cdc_pipeline::client::kafka::Record;

/// A record of a topic, with digests in the place of its bytes. Null and empty are not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: Offset,
    /// Milliseconds since the Unix epoch, as stored.
    pub timestamp_ms: Option<i64>,
    /// A digest of its key; none where that is null.
    pub key: Option<String>,
    /// A digest of its value; none where that is null.
    pub value: Option<String>,
    /// Its headers in order, each with a digest of its value.
    pub headers: Vec<(String, Option<String>)>,
}

impl From<&Record> for HeldRecord {
    fn from(record: &Record) -> HeldRecord {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(digest);
        HeldRecord {
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: of(&record.key),
            value: of(&record.value),
            headers: record.headers.iter().map(|(name, value)| (name.clone(), of(value))).collect(),
        }
    }
}

impl HeldRecord {
    /// What differs between two records, but for their offsets.
    pub(crate) fn difference(&self, other: &HeldRecord) -> Option<&'static str> {
        if self.key != other.key {
            Some("another key")
        } else if self.value != other.value {
            Some("another value")
        } else if self.headers != other.headers {
            Some("other headers")
        } else if self.timestamp_ms != other.timestamp_ms {
            Some("another timestamp")
        } else {
            None
        }
    }
}

/// The first 32 hexadecimal digits of the bytes' SHA-256.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
