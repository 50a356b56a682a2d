//! What a connector's configuration says about the form of its records, and refusal by name of what is not understood.

use super::repr::Binary;
use crate::error::VerifyError;
use cdc_model::units::{SlotName, near_or};
use cdc_pipeline::{
    client::connect::ConnectorConfig,
    debezium::{CLASS, Connector, NAMING_STRATEGY, Operation, is_debezium},
};

/// How keys or values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Converter {
    /// Confluent's wire format: 0, four bytes of schema id, an Avro datum.
    Avro {
        /// Whether schemas carry Connect's names, which say how a value is expressed (`connect.meta.data`).
        named: bool,
    },
    /// JSON with `schema` and `payload`.
    JsonWithSchema,
    /// JSON alone.
    JsonBare,
    /// The worker's default, which its interface does not tell: each record shows what it is.
    Worker,
}

impl Converter {
    /// Whether it writes Avro.
    pub(crate) fn is_avro(self) -> bool {
        matches!(self, Converter::Avro { .. })
    }
}

/// `decimal.handling.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMode {
    /// Bytes.
    Precise,
    /// Text.
    Text,
    /// Floating point.
    Double,
}

/// `time.precision.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeMode {
    /// By the column's precision.
    Adaptive,
    /// Times in microseconds, timestamps by precision.
    AdaptiveMicros,
    /// Connect's own types.
    Connect,
    /// ISO 8601.
    Iso,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// `field.name.adjustment.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjust {
    /// Names as they are.
    None,
    /// What Avro does not allow becomes `_`.
    Avro,
    /// What Avro does not allow becomes `_uXXXX`.
    AvroUnicode,
}

/// `ExtractNewRecordState`: the row alone, with fields of the envelope added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwrap {
    /// The field that carries `op`.
    pub op: Option<String>,
    /// The field that carries `source.lsn`.
    pub lsn: Option<String>,
    /// The field that carries `source.txId`.
    pub tx: Option<String>,
    /// The field that carries `source.snapshot`.
    pub snapshot: Option<String>,
    /// The field that says `"true"` of a deleted row: only where deletes are rewritten.
    pub deleted: Option<String>,
    /// The fields of `add.fields`.
    pub added: Vec<String>,
    /// Deletes are dropped: the topic cannot show them.
    pub drops_deletes: bool,
}

impl Unwrap {
    /// Whether the transform adds a field of this name.
    pub fn adds(&self, field: &str) -> bool {
        self.deleted.as_deref() == Some(field) || self.added.iter().any(|added| added == field)
    }
}

/// A Debezium PostgreSQL connector, as far as its records and positions go.
#[derive(Clone, Debug)]
pub struct ConnectorSettings {
    /// The connector's name.
    pub name: String,
    /// `database.dbname`.
    pub database: String,
    /// `topic.prefix`.
    pub prefix: String,
    /// `slot.name`.
    pub slot: SlotName,
    /// `publication.name`.
    pub publication: String,
    /// Keys.
    pub key: Converter,
    /// Values.
    pub value: Converter,
    /// The transform, where there is one.
    pub unwrap: Option<Unwrap>,
    /// `decimal.handling.mode`.
    pub decimal: DecimalMode,
    /// `time.precision.mode`.
    pub time: TimeMode,
    /// `binary.handling.mode`.
    pub binary: Binary,
    /// `hstore.handling.mode` is `map`.
    pub hstore_map: bool,
    /// `interval.handling.mode` is `string`.
    pub interval_text: bool,
    /// `money.fraction.digits`.
    pub money_digits: i32,
    /// `unavailable.value.placeholder`.
    pub placeholder: Vec<u8>,
    /// `field.name.adjustment.mode`.
    pub adjust: Adjust,
    /// What it captures, and its topics' names.
    pub capture: Connector,
    /// Settings that change values, as they are, for notes.
    pub masks: Vec<String>,
    /// `column.include.list` or `column.exclude.list`.
    pub column_filter: Option<String>,
    /// Settings that leave rows out of snapshots.
    pub row_filter: Option<String>,
    /// `snapshot.mode`.
    pub snapshot_mode: String,
}

const UNWRAP: &str = "io.debezium.transforms.ExtractNewRecordState";
const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
const AVRO_APICURIO: &str = "io.apicurio.registry.utils.converter.AvroConverter";
const AVRO_CONFLUENT: &str = "io.confluent.connect.avro.AvroConverter";
const READABLE: &str =
    "verify reads Avro in Confluent's wire format and Connect JSON, with the envelope or ExtractNewRecordState";

impl ConnectorSettings {
    /// Whether a TRUNCATE arrives in topics. The transform drops what has neither a row before nor one after.
    pub(crate) fn writes_truncates(&self) -> bool {
        self.capture.operations.has(Operation::Truncate) && self.unwrap.is_none()
    }

    /// Whether this is a connector of the kind that verify reads.
    pub(crate) fn is_debezium_postgres(config: &ConnectorConfig) -> bool {
        config.get("connector.class").is_some_and(|c| is_debezium(c))
    }

    /// Understands a configuration or refuses it, naming the setting.
    pub fn parse(name: &str, config: &ConnectorConfig) -> Result<ConnectorSettings, VerifyError> {
        let source = Source { name, config };
        if !Self::is_debezium_postgres(config) {
            return Err(source.refuse("connector.class", CLASS));
        }
        if !source.text("converters", "").is_empty() {
            return Err(source.refuse("converters", "unset"));
        }
        if source.text("topic.naming.strategy", NAMING_STRATEGY) != NAMING_STRATEGY {
            return Err(source.refuse("topic.naming.strategy", NAMING_STRATEGY));
        }
        source.one_of("plugin.name", "decoderbufs", &["pgoutput"])?;
        let capture = Connector::of(config);
        let placeholder =
            config.get("unavailable.value.placeholder").map_or("__debezium_unavailable_value", String::as_str);
        Ok(ConnectorSettings {
            name: name.to_owned(),
            database: capture.database.clone().unwrap_or_default(),
            prefix: capture.topics.prefix.clone(),
            slot: capture.slot.clone(),
            publication: capture.publication.clone(),
            key: source.converter("key")?,
            value: source.converter("value")?,
            decimal: source.decimal()?,
            time: source.time()?,
            binary: source.binary()?,
            hstore_map: source.one_of("hstore.handling.mode", "json", &["json", "map"])? == "map",
            interval_text: source.one_of("interval.handling.mode", "numeric", &["numeric", "string"])? == "string",
            money_digits: source.text("money.fraction.digits", "2").parse().unwrap_or(2),
            placeholder: placeholder_bytes(placeholder),
            adjust: source.adjust()?,
            unwrap: source.transforms()?,
            capture,
            masks: source.starting_with(&["column.mask.", "column.truncate."]),
            column_filter: source.first_set(&["column.include.list", "column.exclude.list"]),
            row_filter: source.first_set(&["snapshot.select.statement.overrides"]),
            snapshot_mode: source.text("snapshot.mode", "initial"),
        })
    }
}

fn placeholder_bytes(text: &str) -> Vec<u8> {
    match text.strip_prefix("hex:") {
        Some(hex) => {
            let pairs = hex.as_bytes().chunks(2).filter_map(|p| std::str::from_utf8(p).ok());
            pairs.filter_map(|p| u8::from_str_radix(p, 16).ok()).collect()
        }
        None => text.as_bytes().to_vec(),
    }
}

/// The hint at a value that is none of those a setting is read with.
fn known_value(value: &str, default: &str, known: &[&str]) -> String {
    near_or(value, known.iter().copied(), || match known.contains(&default) {
        true => format!("leave the setting out for `{default}`"),
        false => format!("set it to `{}`", known.join("` or `")),
    })
}

struct Source<'a> {
    name: &'a str,
    config: &'a ConnectorConfig,
}

impl Source<'_> {
    fn text(&self, setting: &str, default: &str) -> String {
        self.config.get(setting).map_or(default, String::as_str).trim().to_owned()
    }

    fn refuse(&self, setting: &str, expected: &str) -> VerifyError {
        self.refuse_with(setting, expected, READABLE.to_owned())
    }

    fn refuse_with(&self, setting: &str, expected: &str, hint: String) -> VerifyError {
        VerifyError::Refused {
            connector: self.name.to_owned(),
            setting: setting.to_owned(),
            expected: expected.to_owned(),
            found: self.config.get(setting).cloned().unwrap_or_else(|| "unset".into()),
            hint,
        }
    }

    fn one_of(&self, setting: &str, default: &str, known: &[&str]) -> Result<String, VerifyError> {
        let value = self.text(setting, default).to_lowercase();
        match known.contains(&value.as_str()) {
            true => Ok(value),
            false => Err(self.refuse_with(setting, &known.join(" or "), known_value(&value, default, known))),
        }
    }

    fn truth(&self, setting: &str, default: bool) -> bool {
        self.config.get(setting).map_or(default, |v| v.trim().eq_ignore_ascii_case("true"))
    }

    fn first_set(&self, settings: &[&str]) -> Option<String> {
        settings.iter().find(|s| !self.text(s, "").is_empty()).map(|s| format!("{s}={}", self.text(s, "")))
    }

    fn starting_with(&self, prefixes: &[&str]) -> Vec<String> {
        let of = |k: &&String| prefixes.iter().any(|p| k.starts_with(p));
        self.config.keys().filter(of).map(|k| format!("{k}={}", self.text(k, ""))).collect()
    }

    fn converter(&self, side: &str) -> Result<Converter, VerifyError> {
        let setting = format!("{side}.converter");
        let of = |rest: &str| format!("{setting}.{rest}");
        match self.text(&setting, "").as_str() {
            "" => Ok(Converter::Worker),
            JSON => {
                if self.text(&of("decimal.format"), "BASE64").eq_ignore_ascii_case("NUMERIC") {
                    return Err(self.refuse(&of("decimal.format"), "BASE64"));
                }
                let with = self.truth(&of("schemas.enable"), true);
                Ok(if with { Converter::JsonWithSchema } else { Converter::JsonBare })
            }
            AVRO_CONFLUENT => Ok(Converter::Avro { named: self.truth(&of("connect.meta.data"), true) }),
            AVRO_APICURIO => {
                if !self.truth(&of("apicurio.registry.as-confluent"), false) {
                    return Err(self.refuse(&of("apicurio.registry.as-confluent"), "true"));
                }
                if self.truth(&of("apicurio.registry.headers.enabled"), true) {
                    return Err(self.refuse(&of("apicurio.registry.headers.enabled"), "false"));
                }
                if self.text(&of("apicurio.registry.use-id"), "contentId") != "contentId" {
                    return Err(self.refuse(&of("apicurio.registry.use-id"), "contentId"));
                }
                Ok(Converter::Avro { named: self.truth(&of("connect.meta.data"), true) })
            }
            _ => Err(self.refuse(&setting, &format!("{AVRO_APICURIO}, {AVRO_CONFLUENT} or {JSON}"))),
        }
    }

    fn transforms(&self) -> Result<Option<Unwrap>, VerifyError> {
        if !self.text("predicates", "").is_empty() {
            return Err(self.refuse("predicates", "unset"));
        }
        let mut unwrap = None;
        for alias in self.text("transforms", "").split(',').map(str::trim).filter(|a| !a.is_empty()) {
            let of = |rest: &str| format!("transforms.{alias}.{rest}");
            if self.text(&of("type"), "") != UNWRAP || unwrap.is_some() {
                return Err(self.refuse(&of("type"), UNWRAP));
            }
            let known = [
                "type",
                "drop.tombstones",
                "delete.handling.mode",
                "delete.tombstone.handling.mode",
                "add.fields",
                "add.fields.prefix",
                "add.headers",
                "add.headers.prefix",
            ];
            let start = format!("transforms.{alias}.");
            if let Some(other) =
                self.config.keys().find(|k| k.strip_prefix(&start).is_some_and(|r| !known.contains(&r)))
            {
                return Err(self.refuse(other, "unset"));
            }
            unwrap = Some(self.unwrap(alias));
        }
        Ok(unwrap)
    }

    fn unwrap(&self, alias: &str) -> Unwrap {
        let of = |rest: &str| format!("transforms.{alias}.{rest}");
        let prefix = self.config.get(&of("add.fields.prefix")).map_or("__", String::as_str);
        let mut unwrap = Unwrap::default();
        for field in self.text(&of("add.fields"), "").split(',').map(str::trim).filter(|f| !f.is_empty()) {
            let (path, name) = match field.split_once(':') {
                Some((path, name)) => (path, name.to_owned()),
                None => (field, field.replace('.', "_")),
            };
            let name = format!("{prefix}{name}");
            match path.strip_prefix("source.").unwrap_or(path) {
                "op" => unwrap.op = Some(name.clone()),
                "lsn" => unwrap.lsn = Some(name.clone()),
                "txId" => unwrap.tx = Some(name.clone()),
                "snapshot" => unwrap.snapshot = Some(name.clone()),
                _ => {}
            }
            unwrap.added.push(name);
        }
        // The older setting counts where the newer one is unset. Connectors from 3.2 on do not know it and add no field.
        let old = self.text(&of("delete.handling.mode"), "").to_lowercase();
        let new = self.text(&of("delete.tombstone.handling.mode"), "").to_lowercase();
        let mode = if new.is_empty() { old.as_str() } else { new.as_str() };
        // Neither `add.fields.prefix` nor anything else changes this name.
        unwrap.deleted = matches!(mode, "rewrite" | "rewrite-with-tombstone").then(|| "__deleted".to_owned());
        unwrap.drops_deletes =
            new == "drop" || (new.is_empty() && old == "drop" && self.truth(&of("drop.tombstones"), true));
        unwrap
    }

    fn decimal(&self) -> Result<DecimalMode, VerifyError> {
        Ok(match self.one_of("decimal.handling.mode", "precise", &["precise", "string", "double"])?.as_str() {
            "string" => DecimalMode::Text,
            "double" => DecimalMode::Double,
            _ => DecimalMode::Precise,
        })
    }

    fn time(&self) -> Result<TimeMode, VerifyError> {
        let known = ["adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds"];
        Ok(match self.one_of("time.precision.mode", "adaptive", &known)?.as_str() {
            "adaptive_time_microseconds" => TimeMode::AdaptiveMicros,
            "connect" => TimeMode::Connect,
            "isostring" => TimeMode::Iso,
            "microseconds" => TimeMode::Micros,
            "nanoseconds" => TimeMode::Nanos,
            _ => TimeMode::Adaptive,
        })
    }

    fn binary(&self) -> Result<Binary, VerifyError> {
        let known = ["bytes", "base64", "base64-url-safe", "hex"];
        Ok(match self.one_of("binary.handling.mode", "bytes", &known)?.as_str() {
            "base64" => Binary::Base64,
            "base64-url-safe" => Binary::Base64UrlSafe,
            "hex" => Binary::Hex,
            _ => Binary::Bytes,
        })
    }

    fn adjust(&self) -> Result<Adjust, VerifyError> {
        Ok(match self.one_of("field.name.adjustment.mode", "none", &["none", "avro", "avro_unicode"])?.as_str() {
            "avro" => Adjust::Avro,
            "avro_unicode" => Adjust::AvroUnicode,
            _ => Adjust::None,
        })
    }
}
