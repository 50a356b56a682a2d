//! The last event of each key.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use serde::{Deserialize, Serialize};

use super::order::Position;
use cdc_model::units::packed;

/// Hashes packed keys, eight bytes at a time. Keys come from the user's own tables: no defence against crafted ones.
#[derive(Clone, Copy, Default)]
pub struct Fast(u64);

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

/// A map by packed key.
pub type KeyMap<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<Fast>>;

/// A [`KeyMap`] in JSON: an object from each key, in base64, in order.
pub(super) mod by_key {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Entry, KeyMap, packed};

    #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Key(#[serde(with = "packed")] Box<[u8]>);

    pub(in crate::fold) fn serialize<S: Serializer>(map: &KeyMap<Entry>, serializer: S) -> Result<S::Ok, S::Error> {
        let sorted: BTreeMap<Key, &Entry> = map.iter().map(|(key, entry)| (Key(key.clone()), entry)).collect();
        sorted.serialize(serializer)
    }

    pub(in crate::fold) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyMap<Entry>, D::Error> {
        let sorted = BTreeMap::<Key, Entry>::deserialize(deserializer)?;
        Ok(sorted.into_iter().map(|(key, entry)| (key.0, entry)).collect())
    }
}

/// The last event of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The packed row; empty when the key's last event took it away.
    #[serde(with = "packed")]
    pub row: Box<[u8]>,
    /// Its offset.
    pub offset: i64,
    /// `source.lsn`; for reads of incremental snapshots, which have none, where the connector was; zero where unknown.
    pub lsn: u64,
    /// When the connector made it, in nanoseconds since 1970; zero where unknown.
    pub made_ns: i64,
}

impl Entry {
    /// Whether there is a row.
    pub fn live(&self) -> bool {
        !self.row.is_empty()
    }

    pub(super) fn at(&self, partition: i32) -> Position {
        Position { partition, offset: self.offset, lsn: self.lsn, made_ns: self.made_ns }
    }
}
