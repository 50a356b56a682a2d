//! Maps whose keys are no text, in JSON: a list of pairs. For `#[serde(with = "pairs")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes a map as a list of pairs, in the map's order.
pub fn serialize<'m, M, K, V, S>(map: &'m M, serializer: S) -> Result<S::Ok, S::Error>
where
    &'m M: IntoIterator<Item = (&'m K, &'m V)>,
    K: Serialize + 'm,
    V: Serialize + 'm,
    S: Serializer,
{
    serializer.collect_seq(map)
}

/// Reads it. Where a key stands twice, the last counts.
pub fn deserialize<'de, M, K, V, D>(deserializer: D) -> Result<M, D::Error>
where
    M: FromIterator<(K, V)>,
    K: Deserialize<'de>,
    V: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
}

/// Maps of such maps, by a text. For `#[serde(with = "pairs::each")]`.
pub mod each {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes each as a list of pairs.
    pub fn serialize<K, V, S>(maps: &BTreeMap<String, BTreeMap<K, V>>, serializer: S) -> Result<S::Ok, S::Error>
    where
        K: Serialize,
        V: Serialize,
        S: Serializer,
    {
        serializer.collect_map(maps.iter().map(|(name, map)| (name, map.iter().collect::<Vec<_>>())))
    }

    /// Reads them.
    pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<String, BTreeMap<K, V>>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let maps = BTreeMap::<String, Vec<(K, V)>>::deserialize(deserializer)?;
        Ok(maps.into_iter().map(|(name, pairs)| (name, pairs.into_iter().collect())).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    #[test]
    fn a_map_with_keys_that_are_no_text_comes_back() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Held(#[serde(with = "super")] BTreeMap<(u8, u8), String>);
        let held = Held([((1, 2), "a".to_owned()), ((1, 3), "b".to_owned())].into());
        let json = serde_json::to_string(&held).unwrap();
        assert_eq!(json, r#"[[[1,2],"a"],[[1,3],"b"]]"#);
        assert_eq!(serde_json::from_str::<Held>(&json).unwrap(), held);
    }
}
