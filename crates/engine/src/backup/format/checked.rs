//! Small JSON files that carry their own checksum: of such a file every changed byte is noticed.

use camino::Utf8Path;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::backup::{BackupError, files, hash::sha256};

/// The key of the checksum: that of the canonical JSON without it.
const CHECK: &str = "check";

/// A JSON object's canonical bytes, with a checksum of them. `value` must serialise to an object without key `check`.
pub(crate) fn to_bytes<T: Serialize>(path: &Utf8Path, value: &T) -> Result<Vec<u8>, BackupError> {
    let value = serde_json::to_value(value).map_err(|e| BackupError::malformed(path, e))?;
    let check = sha256(&files::canonical_json(path, &value)?);
    let Value::Object(mut object) = value else { return Err(BackupError::malformed(path, "it is no JSON object")) };
    object.insert(CHECK.to_owned(), Value::String(check));
    files::canonical_json(path, &object)
}

/// Reads what [`to_bytes`] made; fails with [`BackupError::Checksum`] where a byte of it is another.
pub(crate) fn from_bytes<T: DeserializeOwned>(path: &Utf8Path, bytes: &[u8]) -> Result<T, BackupError> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| BackupError::malformed(path, e))?;
    let check = value.as_object_mut().and_then(|object| object.remove(CHECK));
    let expected = check.as_ref().and_then(Value::as_str).unwrap_or("a checksum").to_owned();
    let again = to_bytes(path, &value)?;
    if again != bytes {
        return Err(BackupError::checksum(path, expected, sha256(&files::canonical_json(path, &value)?)));
    }
    serde_json::from_value(value).map_err(|e| BackupError::malformed(path, e))
}

/// Reads a file; `None` where there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Utf8Path) -> Result<Option<T>, BackupError> {
    files::read_if_there(path)?.map(|bytes| from_bytes(path, &bytes)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_changed_byte_is_noticed() {
        let path = Utf8Path::new("head.json");
        let value = json!({"number": 7, "point": "20261122T020000Z-7f3a", "more": {"z": [1.5, null], "a": "ä"}});
        let bytes = to_bytes(path, &value).unwrap();
        assert_eq!(from_bytes::<Value>(path, &bytes).unwrap(), value);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(from_bytes::<Value>(path, &flipped).is_err(), "byte {at}, bit {bit}");
            }
            assert!(from_bytes::<Value>(path, &bytes[..at]).is_err());
        }
        for other in ["[]", "7", "", "{}", "null"] {
            assert!(from_bytes::<Value>(path, other.as_bytes()).is_err(), "{other}");
        }
    }
}
