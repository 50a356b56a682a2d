//! The small values of the scenario language, each read from the text a person writes.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
    ser::SerializeMap,
};

use cdc_model::units::TableName;

/// A mapping whose order is the file's: drills run and reports list in the order a person wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(Vec::new())
    }
}

impl<T> Named<T> {
    /// The value with this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Names and values in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what `other` has; where both have a name, `other` wins.
    pub fn overlay(&mut self, other: &Named<T>)
    where
        T: Clone,
    {
        for (name, value) in &other.0 {
            match self.0.iter_mut().find(|(n, _)| n == name) {
                Some((_, slot)) => *slot = value.clone(),
                None => self.0.push((name.clone(), value.clone())),
            }
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct InOrder<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Named<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry::<String, T>()? {
                    all.push(entry);
                }
                Ok(Named(all))
            }
        }
        d.deserialize_map(InOrder(std::marker::PhantomData))
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": item })
    }
}

macro_rules! from_text {
    ($name:ident, $what:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $what })
            }
        }
    };
}

/// A span of time as a person writes it: `60s`, `1m 30s`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

impl FromStr for HumanDuration {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: String| {
            format!("`{text}` is not a duration: {why}; write a number and a unit, such as 60s, 1m 30s or 250ms")
        };
        let time = humantime::parse_duration(text).map_err(|e| bad(e.to_string()))?;
        if time.is_zero() { Err(bad("it is zero".into())) } else { Ok(HumanDuration(time)) }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

from_text!(HumanDuration, "A duration: a number and a unit, such as 60s, 1m 30s or 250ms.", "^[0-9].*$");

/// A table, by name (then in schema `public`) or by `schema.name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableRef(pub TableName);

impl FromStr for TableRef {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a table: write its name, or schema.name");
        if text.trim() != text || text.is_empty() {
            return Err(bad());
        }
        match text.contains('.') {
            true => text.parse().map(TableRef).map_err(|_| bad()),
            false => Ok(TableRef(TableName::new("public", text))),
        }
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.schema == "public" {
            true => f.write_str(&self.0.name),
            false => self.0.fmt(f),
        }
    }
}

from_text!(TableRef, "A table: its name (in schema public), or schema.name.", "^[^ .]+([.][^ ]+)?$");

/// Where point-in-time recovery stops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// The last record ever written.
    #[default]
    Latest,
    /// A mark set earlier in the same variant.
    Mark {
        /// The mark's name.
        mark: String,
        /// Which of the mark's coordinates is handed to the server.
        by: TargetBy,
    },
}

/// The three ways to name the place of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetBy {
    /// The named restore point.
    Name,
    /// The LSN recorded with it.
    Lsn,
    /// The time recorded with it.
    Time,
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mark = |by, mark: &str| match is_word(mark) {
            true => Ok(Target::Mark { mark: mark.to_owned(), by }),
            false => Err(format!(
                "`{text}` is not a target: write latest, or a mark's name, or lsn: or time: and a mark's name"
            )),
        };
        match text.split_once(':') {
            None if text == "latest" => Ok(Target::Latest),
            None => mark(TargetBy::Name, text),
            Some(("name", rest)) => mark(TargetBy::Name, rest),
            Some(("lsn", rest)) => mark(TargetBy::Lsn, rest),
            Some(("time", rest)) => mark(TargetBy::Time, rest),
            Some((other, _)) => {
                Err(format!("`{other}:` is not a kind of target: expected name:, lsn: or time: before a mark's name"))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Latest => f.write_str("latest"),
            Target::Mark { mark, by: TargetBy::Name } => f.write_str(mark),
            Target::Mark { mark, by: TargetBy::Lsn } => write!(f, "lsn:{mark}"),
            Target::Mark { mark, by: TargetBy::Time } => write!(f, "time:{mark}"),
        }
    }
}

from_text!(
    Target,
    "Where recovery stops: `latest`, or the name of a mark set earlier (`before-fault`), reached by its restore point, or by the LSN or time recorded with it (`lsn:before-fault`, `time:before-fault`).",
    "^((name|lsn|time):)?[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
);

/// A compatibility level of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the registry's own words")]
pub enum Level {
    None,
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

impl Level {
    /// The registry's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Level::None => "NONE",
            Level::Backward => "BACKWARD",
            Level::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Level::Forward => "FORWARD",
            Level::ForwardTransitive => "FORWARD_TRANSITIVE",
            Level::Full => "FULL",
            Level::FullTransitive => "FULL_TRANSITIVE",
        }
    }
}

/// Whether a name can stand in file names, subjects, slots and restore points: lower case, digits and inner hyphens.
pub(super) fn is_word(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= WORD_MAX
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Names end up in replication slots and restore points, which PostgreSQL cuts at 63 bytes, beside a run's own mark.
pub(super) const WORD_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("latest", Target::Latest)]
    #[case("before-fault", Target::Mark { mark: "before-fault".into(), by: TargetBy::Name })]
    #[case("lsn:second", Target::Mark { mark: "second".into(), by: TargetBy::Lsn })]
    #[case("time:second", Target::Mark { mark: "second".into(), by: TargetBy::Time })]
    fn a_target_reads_and_writes(#[case] text: &str, #[case] target: Target) {
        assert_eq!(text.parse::<Target>().unwrap(), target);
        assert_eq!(target.to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("Before")]
    #[case("xid:7")]
    #[case("lsn:")]
    fn a_bad_target_is_refused(#[case] text: &str) {
        text.parse::<Target>().unwrap_err();
    }

    #[test]
    fn a_table_without_schema_is_public() {
        assert_eq!("orders".parse::<TableRef>().unwrap().0, TableName::new("public", "orders"));
        assert_eq!("s.orders".parse::<TableRef>().unwrap().to_string(), "s.orders");
        ".x".parse::<TableRef>().unwrap_err();
    }

    #[test]
    fn a_bad_duration_says_how_to_write_one() {
        let error = "6o s".parse::<HumanDuration>().unwrap_err();
        assert!(error.contains("such as 60s"), "{error}");
        "0s".parse::<HumanDuration>().unwrap_err();
    }
}
