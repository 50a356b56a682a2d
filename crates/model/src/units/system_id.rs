//! Identities of PostgreSQL clusters.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

/// A cluster's system identifier, which `initdb` makes and every copy of the cluster keeps. A number in JSON; where a format has it
/// in decimal as text, [`system_id_text`] is its `serde(with)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemId(pub u64);

impl FromStr for SystemId {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<SystemId, ParseIntError> {
        // SQL has no unsigned numbers: `pg_control_system()` shows one with its highest bit set, as those made from 2038 on have it, as
        // negative.
        let negative = |error| text.parse::<i64>().map_or(Err(error), |id| Ok(id.cast_unsigned()));
        text.parse().or_else(negative).map(SystemId)
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A system identifier in decimal, as text.
pub mod system_id_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::SystemId;

    /// Writes it as text.
    pub fn serialize<S: Serializer>(id: &SystemId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    /// Reads it from text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not a system identifier")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both {
        number: SystemId,
        #[serde(with = "system_id_text")]
        text: SystemId,
    }

    #[test]
    fn each_format_keeps_its_form() {
        let id = SystemId(7711099509720704369);
        let json = r#"{"number":7711099509720704369,"text":"7711099509720704369"}"#;
        assert_eq!(serde_json::to_string(&Both { number: id, text: id }).unwrap(), json);
        assert_eq!(serde_json::from_str::<Both>(json).unwrap(), Both { number: id, text: id });
        assert!(serde_json::from_str::<Both>(r#"{"number":1,"text":"x"}"#).is_err());
    }

    #[test]
    fn an_identifier_that_sql_shows_as_negative_is_the_same_one() {
        let id = SystemId(u64::MAX - 1);
        assert_eq!("-2".parse(), Ok(id));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("-".parse::<SystemId>().is_err() && "".parse::<SystemId>().is_err());
    }
}
