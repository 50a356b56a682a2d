//! The connectors of the zoo: each converter with each pack of handling modes. The modes of a pack concern different types, so a
//! few packs hold every mode of each.

use std::collections::BTreeMap;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Converter {
    /// Avro, as `stack connector` prints it.
    Avro,
    /// JSON with schemas.
    Json,
    /// JSON alone.
    Bare,
}

/// All of them.
pub const CONVERTERS: [Converter; 3] = [Converter::Avro, Converter::Json, Converter::Bare];

impl Converter {
    /// As connectors and columns are named.
    pub fn name(self) -> &'static str {
        match self {
            Converter::Avro => "avro",
            Converter::Json => "json",
            Converter::Bare => "bare",
        }
    }
}

/// Handling modes: decimal, time precision, binary, hstore, interval, unknown types.
pub struct Pack(pub [&'static str; 6]);

/// All packs; a connector's name ends with a pack's number, from 1.
pub const PACKS: [Pack; 6] = [
    Pack(["precise", "adaptive", "bytes", "json", "numeric", "false"]),
    Pack(["double", "adaptive_time_microseconds", "base64", "map", "string", "true"]),
    Pack(["string", "connect", "base64-url-safe", "json", "numeric", "true"]),
    Pack(["precise", "isostring", "hex", "map", "string", "true"]),
    Pack(["string", "microseconds", "bytes", "json", "string", "true"]),
    Pack(["precise", "nanoseconds", "bytes", "map", "numeric", "true"]),
];

/// The settings that the modes of a pack stand for, in their order.
pub const SETTINGS: [&str; 6] = [
    "decimal.handling.mode",
    "time.precision.mode",
    "binary.handling.mode",
    "hstore.handling.mode",
    "interval.handling.mode",
    "include.unknown.datatypes",
];

/// A connector of the zoo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keeper {
    /// Its converter.
    pub converter: Converter,
    /// The index of its pack.
    pub pack: usize,
}

impl Keeper {
    /// `all`, those of the packs with these numbers (`1,6`), or a sample in which each converter and three packs are.
    pub fn chosen(choice: Option<&str>) -> Vec<Keeper> {
        let all = (0..PACKS.len()).flat_map(|pack| CONVERTERS.map(|converter| Keeper { converter, pack }));
        let taken = |keeper: &Keeper| match choice {
            None => keeper.pack == [0, 2, 1][keeper.converter as usize],
            Some("all") => true,
            Some(packs) => packs.split(',').any(|pack| pack == (keeper.pack + 1).to_string()),
        };
        all.filter(taken).collect()
    }

    /// Whether it counts times in nanoseconds.
    pub fn counts_nanoseconds(self) -> bool {
        PACKS[self.pack].0.contains(&"nanoseconds")
    }

    /// Its name, which is also its topic prefix, slot and publication.
    pub fn name(self) -> String {
        format!("{}_{}", self.converter.name(), self.pack + 1)
    }

    /// What is laid over the configuration that `stack connector` prints.
    pub fn settings(self) -> BTreeMap<String, String> {
        let modes =
            SETTINGS.iter().zip(PACKS[self.pack].0).map(|(setting, mode)| ((*setting).to_owned(), mode.to_owned()));
        let mut settings: BTreeMap<String, String> = modes.collect();
        settings.insert("topic.creation.default.partitions".into(), "1".into());
        // A value that the connector cannot read is fatal at once and not after an hour.
        settings.insert("errors.max.retries".into(), "0".into());
        if self.converter != Converter::Avro {
            for side in ["key", "value"] {
                settings.insert(format!("{side}.converter"), "org.apache.kafka.connect.json.JsonConverter".into());
                let with = (self.converter == Converter::Json).to_string();
                settings.insert(format!("{side}.converter.schemas.enable"), with);
            }
        }
        settings
    }
}
