//! Holds for random values of each type, in each way in which the connector can express it: a value equals the text that
//! PostgreSQL prints for it, and no other value does, unless the expression itself has no room for the difference. Then
//! the two go together only as far as that.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    compare::{Match, compare},
    pg_type::PgType,
    record::{Decoder, Schemas},
    repr::{Loss, Side, canonical, cut},
    row::{Cell, cells},
    settings::ConnectorSettings,
    table::{Column, Columns},
};
use crate::text::interval::Interval;
use cdc_pipeline::client::connect::ConnectorConfig;

const PLACEHOLDER: &str = "__debezium_unavailable_value";

fn ty(display: &str, base: &str, typmod: i32) -> PgType {
    PgType::new(display, base, "b", typmod, None)
}

fn array_of(element: PgType, base: &str) -> PgType {
    PgType::new(&format!("{}[]", element.name), &format!("_{base}"), "b", element.typmod, Some(element))
}

fn numeric(precision: i32, scale: i32) -> PgType {
    ty(&format!("numeric({precision},{scale})"), "numeric", ((precision << 16) | (scale & 0x7ff)) + 4)
}

/// A column of a table, captured as JSON.
struct Case {
    settings: Arc<ConnectorSettings>,
    ty: PgType,
    /// The column's schema, where records have one.
    schema: Option<Value>,
}

impl Case {
    /// Without schemas in records.
    fn bare(ty: PgType, setting: (&str, &str)) -> Case {
        Case { settings: settings("false", setting), ty, schema: None }
    }

    /// With this schema of the column.
    fn with_schema(ty: PgType, schema: Value) -> Case {
        Case { settings: settings("true", ("", "")), ty, schema: Some(schema) }
    }

    fn decoder(&self) -> Decoder {
        let column = |ty: &PgType| Column { name: "v".into(), ty: ty.clone(), generated: false, unpublished: false };
        let columns = Columns::new(vec![column(&self.ty)], self.settings.adjust);
        Decoder::new(self.settings.clone(), Arc::new(columns), Arc::new(Schemas::new(|_| Ok(None))), "public", "t")
    }

    /// How a value, as the converter writes it into JSON, goes together with a table's text.
    fn matched(&self, value: &str, table: &str) -> Match {
        let payload =
            format!(r#"{{"before":null,"after":{{"v":{value}}},"source":{{"lsn":9,"txId":7}},"op":"c","ts_ms":1}}"#);
        let row = |name: &str| {
            let fields = self.schema.iter().map(|schema| {
                let mut field = schema.clone();
                field["field"] = json!("v");
                field
            });
            json!({ "type": "struct", "field": name, "fields": fields.collect::<Vec<_>>() })
        };
        let record = match &self.schema {
            None => payload,
            Some(_) => {
                let schema = json!({ "type": "struct", "fields": [row("before"), row("after")] });
                format!(r#"{{"schema":{schema},"payload":{payload}}}"#)
            }
        };
        let mut decoder = self.decoder();
        let event = decoder.decode(None, Some(record.as_bytes())).unwrap();
        let after = event.after.unwrap().to_vec();
        let cell = cells(&after).next().unwrap();
        compare(Cell::Text(table.as_bytes()), cell, &decoder.reprs()[0], &self.ty, PLACEHOLDER.as_bytes())
    }

    /// Whether a record's key finds the row of a table: both are packed alike.
    fn finds(&self, value: &str, table: &str) -> bool {
        let mut key = format!(r#"{{"v":{value}}}"#);
        if let Some(schema) = &self.schema {
            let mut field = schema.clone();
            field["field"] = json!("v");
            key = format!(r#"{{"schema":{},"payload":{key}}}"#, json!({ "type": "struct", "fields": [field] }));
        }
        let mut decoder = self.decoder();
        let key = decoder.decode(Some(key.as_bytes()), None).unwrap().key.unwrap().to_vec();
        let full = canonical(table, Side::Table, &self.ty);
        let wanted = match decoder.reprs()[0].last().and_then(|repr| Loss::of(repr, &self.ty)) {
            Some(loss) => cut(&full, loss, &self.ty).into_owned(),
            None => full.into_owned(),
        };
        cells(&key).next() == Some(Cell::Text(wanted.as_bytes()))
    }

    /// Holds a value to its own text and to another value's. `told` is what the expression leaves out of every value,
    /// `alike` whether it leaves out what makes the two different.
    fn hold(&self, value: &str, own: &str, other: &str, told: Option<Loss>, alike: bool) -> Result<(), TestCaseError> {
        let equal = told.map_or(Match::Equal, Match::Within);
        prop_assert_eq!(self.matched(value, own), equal, "{} is not {:?}", value, own);
        prop_assert!(self.finds(value, own), "key {} does not find {:?}", value, own);
        let wanted = if alike { equal } else { Match::Different };
        prop_assert_eq!(self.matched(value, other), wanted, "{} beside {:?}", value, other);
        prop_assert_eq!(self.finds(value, other), alike, "key {} beside {:?}", value, other);
        Ok(())
    }
}

fn settings(schemas: &str, setting: (&str, &str)) -> Arc<ConnectorSettings> {
    let json = "org.apache.kafka.connect.json.JsonConverter";
    let mut config: ConnectorConfig = [
        ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
        ("plugin.name", "pgoutput"),
        ("topic.prefix", "shop"),
        ("key.converter", json),
        ("key.converter.schemas.enable", schemas),
        ("value.converter", json),
        ("value.converter.schemas.enable", schemas),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    if !setting.0.is_empty() {
        config.insert(setting.0.to_owned(), setting.1.to_owned());
    }
    Arc::new(ConnectorSettings::parse("shop", &config).unwrap())
}

/// A floating-point number as the converter writes it: what JSON lacks is text.
fn float_json(text: String, finite: bool) -> String {
    if finite { text } else { format!("\"{}\"", text.replace("inf", "Infinity")) }
}

/// Big-endian two's complement with as few bytes as will do, as `BigInteger.toByteArray` gives it.
fn unscaled(value: i128) -> String {
    let bytes = value.to_be_bytes();
    let redundant = |pair: &[u8]| pair[0] == ((pair[1] as i8) >> 7) as u8;
    let skip = bytes.windows(2).take_while(|pair| redundant(pair)).count();
    STANDARD.encode(&bytes[skip..])
}

fn plain(unscaled: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// Microseconds since 1970 as PostgreSQL prints a timestamp, by a calendar that is not this crate's.
fn timestamp_text(micros: i64) -> String {
    let at = jiff::Timestamp::from_microsecond(micros).unwrap().to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let (year, era) = if at.year() > 0 { (at.year(), "") } else { (1 - at.year(), " BC") };
    format!("{year:04}-{:02}-{:02} {}{era}", at.month(), at.day(), time_text(micros.rem_euclid(86_400_000_000)))
}

fn time_text(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match micros % 1_000_000 {
        0 => clock,
        part => format!("{clock}.{}", format!("{part:06}").trim_end_matches('0')),
    }
}

/// Two numbers that are different, often by little.
fn pair<T: Arbitrary + Clone + PartialEq + 'static>(near: fn(&T) -> T) -> impl Strategy<Value = (T, T)> {
    let close = any::<T>().prop_map(move |value| (value.clone(), near(&value)));
    prop_oneof![any::<(T, T)>(), close].prop_filter("two values", |(a, b)| a != b)
}

fn micros() -> impl Strategy<Value = (i64, i64)> {
    // The years -4712 to 9999, those of the calendar that writes the texts.
    let range = -210_866_760_000_000_000i64..253_402_000_000_000_000;
    let any_two = (range.clone(), range.clone());
    let close = (range, prop_oneof![1i64..2000, Just(86_400_000_000)]).prop_map(|(a, by)| (a, a + by));
    prop_oneof![any_two, close].prop_filter("two values", |(a, b)| a != b)
}

proptest! {
    #[test]
    fn double_precision((a, b) in pair::<u64>(|bits| bits ^ 1)) {
        let (a, b) = (f64::from_bits(a), f64::from_bits(b));
        prop_assume!(!(a.is_nan() && b.is_nan()));
        let double = || ty("double precision", "float8", -1);
        let value = float_json(format!("{a:?}"), a.is_finite());
        for case in [Case::bare(double(), ("", "")), Case::with_schema(double(), json!({ "type": "double" }))] {
            // PostgreSQL prints the shortest text; any text that reads as the number is the number.
            for (own, other) in [(format!("{a:e}"), format!("{b:e}")), (format!("{a:.17e}"), format!("{b:.17e}"))] {
                case.hold(&value, &own.replace("inf", "Infinity"), &other.replace("inf", "Infinity"), None, false)?;
            }
        }
    }

    #[test]
    fn real((a, b) in pair::<u32>(|bits| bits ^ 1)) {
        let (a, b) = (f32::from_bits(a), f32::from_bits(b));
        prop_assume!(!(a.is_nan() && b.is_nan()));
        let real = || ty("real", "float4", -1);
        let value = float_json(format!("{a:?}"), a.is_finite());
        for case in [Case::bare(real(), ("", "")), Case::with_schema(real(), json!({ "type": "float" }))] {
            for (own, other) in [(format!("{a:e}"), format!("{b:e}")), (format!("{a:.9e}"), format!("{b:.9e}"))] {
                case.hold(&value, &own.replace("inf", "Infinity"), &other.replace("inf", "Infinity"), None, false)?;
            }
        }
    }

    #[test]
    fn floating_point_within_other_values(x in any::<f64>(), y in any::<f64>(), near in any::<bool>()) {
        prop_assume!(x.is_finite() && y.is_finite());
        let other = if near { f64::from_bits(x.to_bits() ^ 1) } else { y };
        prop_assume!(other.is_finite() && other != x);
        let point = Case::bare(ty("point", "point", -1), ("", ""));
        let value = format!(r#"{{"x":{x:?},"y":{y:?},"wkb":"AQ==","srid":null}}"#);
        point.hold(&value, &format!("({x:e},{y:e})"), &format!("({other:e},{y:e})"), None, false)?;
        let list = Case::bare(array_of(ty("double precision", "float8", -1), "float8"), ("", ""));
        list.hold(&format!("[{x:?},null]"), &format!("{{{x:e},NULL}}"), &format!("{{{other:e},NULL}}"), None, false)?;
    }

    #[test]
    fn numeric_with_a_scale(a in any::<i64>(), b in any::<i64>(), scale in 0usize..12, near in any::<bool>()) {
        let (a, b) = (i128::from(a), if near { i128::from(a) + 1 } else { i128::from(b) });
        prop_assume!(a != b);
        let (own, other) = (plain(a, scale), plain(b, scale));
        let ty = || numeric(20, scale as i32);
        let bytes = format!("\"{}\"", unscaled(a));
        Case::bare(ty(), ("decimal.handling.mode", "precise")).hold(&bytes, &own, &other, None, false)?;
        let schema = json!({ "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal",
            "parameters": { "scale": scale.to_string() } });
        Case::with_schema(ty(), schema).hold(&bytes, &own, &other, None, false)?;
        let text = format!("\"{own}\"");
        Case::bare(ty(), ("decimal.handling.mode", "string")).hold(&text, &own, &other, None, false)?;
        let double = |text: &str| text.parse::<f64>().unwrap();
        let alike = double(&own) == double(&other);
        let value = format!("{:?}", double(&own));
        Case::bare(ty(), ("decimal.handling.mode", "double")).hold(&value, &own, &other, Some(Loss::Double), alike)?;
        let schema = json!({ "type": "double" });
        Case::with_schema(ty(), schema).hold(&value, &own, &other, Some(Loss::Double), alike)?;
    }

    #[test]
    fn numeric_without_a_scale((a, b) in pair::<i128>(|v| v ^ 1), scale in 0usize..40, zeros in 0usize..5) {
        let (a, b) = (a / 100_000, b / 100_000);
        prop_assume!(a != b);
        let (own, other) = (plain(a, scale), plain(b, scale));
        let padded = if scale == 0 { own.clone() } else { format!("{own}{}", "0".repeat(zeros)) };
        let any = || ty("numeric", "numeric", -1);
        let value = format!(r#"{{"scale":{scale},"value":"{}"}}"#, unscaled(a));
        Case::bare(any(), ("", "")).hold(&value, &padded, &other, None, false)?;
        let schema = json!({ "type": "struct", "name": "io.debezium.data.VariableScaleDecimal", "fields": [] });
        Case::with_schema(any(), schema).hold(&value, &padded, &other, None, false)?;
        let text = format!("\"{own}\"");
        Case::bare(any(), ("decimal.handling.mode", "string")).hold(&text, &padded, &other, None, false)?;
    }

    #[test]
    fn timestamp((a, b) in micros(), digits in 0i32..=6) {
        let step = 10i64.pow(6 - digits as u32);
        let (a, b) = (a.div_euclid(step) * step, b.div_euclid(step) * step);
        prop_assume!(a != b);
        let (own, other) = (timestamp_text(a), timestamp_text(b));
        let column = || ty(&format!("timestamp({digits}) without time zone"), "timestamp", digits);
        let count = if digits <= 3 { a / 1000 } else { a }.to_string();
        let iso = format!("\"{}Z\"", jiff::Timestamp::from_microsecond(a).unwrap().to_zoned(jiff::tz::TimeZone::UTC).datetime());
        let millis = a.div_euclid(1000);
        let lost = (digits > 3).then_some(Loss::Millis);
        let alike = millis == b.div_euclid(1000);
        for (mode, value, told, alike) in [
            ("adaptive", count.clone(), None, false),
            ("adaptive_time_microseconds", count, None, false),
            ("microseconds", a.to_string(), None, false),
            ("isostring", iso, None, false),
            ("connect", millis.to_string(), lost, alike),
        ] {
            Case::bare(column(), ("time.precision.mode", mode)).hold(&value, &own, &other, told, alike)?;
        }
        if let Some(nanos) = a.checked_mul(1000) {
            Case::bare(column(), ("time.precision.mode", "nanoseconds"))
                .hold(&nanos.to_string(), &own, &other, None, false)?;
        }
        for (name, value, told, alike) in [
            ("io.debezium.time.MicroTimestamp", a, None, false),
            ("org.apache.kafka.connect.data.Timestamp", millis, lost, alike),
        ] {
            let schema = json!({ "type": "int64", "name": name });
            Case::with_schema(column(), schema).hold(&value.to_string(), &own, &other, told, alike)?;
        }
        // What a column of three digits wrote is exact, whatever the column has now.
        if digits > 3 {
            let schema = json!({ "type": "int64", "name": "io.debezium.time.Timestamp" });
            let exact = timestamp_text(millis * 1000);
            Case::with_schema(column(), schema).hold(&millis.to_string(), &exact, &timestamp_text(millis * 1000 + 1), None, false)?;
        }
    }

    #[test]
    fn timestamp_with_a_zone((a, b) in micros()) {
        let (own, other) = (timestamp_text(a), timestamp_text(b));
        let zoned = |text: &str| match text.strip_suffix(" BC") {
            Some(text) => format!("{text}+00 BC"),
            None => format!("{text}+00"),
        };
        let value = format!("\"{}\"", jiff::Timestamp::from_microsecond(a).unwrap());
        Case::bare(ty("timestamp with time zone", "timestamptz", -1), ("", ""))
            .hold(&value, &zoned(&own), &zoned(&other), None, false)?;
    }

    #[test]
    fn time(a in 0i64..86_400_000_000, by in prop_oneof![1i64..2000, 1i64..86_400_000_000], digits in 0i32..=6) {
        let step = 10i64.pow(6 - digits as u32);
        let (a, b) = (a / step * step, (a + by) % 86_400_000_000 / step * step);
        prop_assume!(a != b);
        let (own, other) = (time_text(a), time_text(b));
        let column = || ty(&format!("time({digits}) without time zone"), "time", digits);
        let lost = (digits > 3).then_some(Loss::Millis);
        let alike = a / 1000 == b / 1000;
        let midnight = (a == 0).then_some(Loss::Midnight);
        for (mode, value, told, alike) in [
            ("adaptive", if digits <= 3 { a / 1000 } else { a }.to_string(), None, false),
            ("adaptive_time_microseconds", a.to_string(), None, false),
            ("microseconds", a.to_string(), None, false),
            ("nanoseconds", (a * 1000).to_string(), None, false),
            ("isostring", format!("\"{own}Z\""), midnight, false),
            ("connect", (a / 1000).to_string(), lost, alike),
        ] {
            Case::bare(column(), ("time.precision.mode", mode)).hold(&value, &own, &other, told, alike)?;
        }
    }

    #[test]
    fn time_with_a_zone(a in 0i64..86_400_000_000, b in 0i64..86_400_000_000, hours in -15i64..=15) {
        prop_assume!(a != b);
        let shown = |micros: i64| {
            let local = (micros + hours * 3_600_000_000).rem_euclid(86_400_000_000);
            format!("{}{}{:02}", time_text(local), if hours < 0 { '-' } else { '+' }, hours.abs())
        };
        Case::bare(ty("time with time zone", "timetz", -1), ("", ""))
            .hold(&format!("\"{}Z\"", time_text(a)), &shown(a), &shown(b), Some(Loss::Zone), false)?;
    }

    #[test]
    fn interval(
        months in -120_000i64..120_000, days in -100_000i64..100_000, micros in -1_000_000_000_000i64..1_000_000_000_000,
        other in (-120_000i64..120_000, -100_000i64..100_000, -1_000_000_000_000i64..1_000_000_000_000),
        near in 0..4,
    ) {
        let a = Interval { months, days, micros };
        let b = match near {
            0 => Interval { micros: micros + 1, ..a },
            // The same in microseconds.
            1 => Interval { days: days + 1, micros: micros - 86_400_000_000, ..a },
            2 => Interval { months: months + 1, ..a },
            _ => Interval { months: other.0, days: other.1, micros: other.2 },
        };
        prop_assume!(a != b);
        let (own, other) = (a.to_postgres(), b.to_postgres());
        let column = || ty("interval", "interval", -1);
        let seconds = format!("{}{}.{:06}", if micros < 0 { "-" } else { "" }, micros.abs() / 1_000_000, micros.abs() % 1_000_000);
        let iso = format!("\"P{}Y{}M{}DT0H0M{seconds}S\"", months / 12, months % 12, days);
        Case::bare(column(), ("interval.handling.mode", "string")).hold(&iso, &own, &other, None, false)?;
        let alike = a.total_micros() == b.total_micros();
        Case::bare(column(), ("interval.handling.mode", "numeric"))
            .hold(&a.total_micros().to_string(), &own, &other, Some(Loss::Duration), alike)?;
    }

    #[test]
    fn bytea((a, b) in pair::<Vec<u8>>(|bytes| bytes.iter().copied().chain([0]).collect())) {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let url = base64::engine::general_purpose::URL_SAFE.encode(&a);
        for (mode, text) in [
            ("bytes", STANDARD.encode(&a)),
            ("base64", STANDARD.encode(&a)),
            ("base64-url-safe", url),
            ("hex", hex(&a)),
        ] {
            let case = Case::bare(ty("bytea", "bytea", -1), ("binary.handling.mode", mode));
            case.hold(&json!(text).to_string(), &format!("\\x{}", hex(&a)), &format!("\\x{}", hex(&b)), None, false)?;
        }
    }

    #[test]
    fn text_and_arrays_of_it(
        (a, b) in pair::<Vec<Option<String>>>(|v| v.iter().cloned().chain([None]).collect()),
    ) {
        let quoted = |values: &[Option<String>]| {
            let shown = values.iter().map(|value| match value {
                Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
                None => "NULL".to_owned(),
            });
            format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
        };
        let list = Case::bare(array_of(ty("text", "text", -1), "text"), ("", ""));
        // PostgreSQL quotes an element only where it must; the form compared is of its elements, however they were quoted.
        let quoted_as_needed = |values: &[Option<String>]| {
            let mut out = vec![b'{'];
            for (i, value) in values.iter().enumerate() {
                crate::text::array::element(&mut out, i == 0, value.as_deref().map(str::as_bytes));
            }
            out.push(b'}');
            String::from_utf8(out).unwrap()
        };
        let value = serde_json::to_string(&a).unwrap();
        list.hold(&value, &quoted_as_needed(&a), &quoted_as_needed(&b), None, false)?;
        prop_assert_eq!(crate::text::array::elements(&quoted(&a)), Some(a.clone()));
        if let [Some(one), ..] = a.as_slice() {
            let text = Case::bare(ty("text", "text", -1), ("", ""));
            text.hold(&json!(one).to_string(), one, &format!("{one}x"), None, false)?;
        }
    }

    #[test]
    fn integers((a, b) in pair::<i64>(|v| v ^ 1)) {
        let case = Case::bare(ty("bigint", "int8", -1), ("", ""));
        case.hold(&a.to_string(), &a.to_string(), &b.to_string(), None, false)?;
    }

    #[test]
    fn numeric_arrays(a in any::<i32>(), b in any::<i32>(), scale in 0usize..6) {
        prop_assume!(a != b);
        let case = Case::bare(array_of(numeric(12, scale as i32), "numeric"), ("", ""));
        let value = format!("[\"{}\",null]", unscaled(a.into()));
        let shown = |v: i32| format!("{{{},NULL}}", plain(v.into(), scale));
        case.hold(&value, &shown(a), &shown(b), None, false)?;
    }

    #[test]
    fn bits(a in prop::collection::vec(any::<bool>(), 2..70), flip in any::<prop::sample::Index>()) {
        let mut b = a.clone();
        let at = flip.index(b.len());
        b[at] = !b[at];
        let text = |bits: &[bool]| bits.iter().map(|bit| if *bit { '1' } else { '0' }).collect::<String>();
        let mut bytes = vec![0u8; a.len().div_ceil(8)];
        a.iter().rev().enumerate().filter(|(_, bit)| **bit).for_each(|(i, _)| bytes[i / 8] |= 1 << (i % 8));
        let value = json!(STANDARD.encode(&bytes)).to_string();
        let fixed = Case::bare(ty(&format!("bit({})", a.len()), "bit", a.len() as i32), ("", ""));
        fixed.hold(&value, &text(&a), &text(&b), None, false)?;
        let varying = Case::bare(ty(&format!("bit varying({})", a.len()), "varbit", a.len() as i32), ("", ""));
        varying.hold(&value, &text(&a), &text(&b), Some(Loss::Length), false)?;
        varying.hold(&value, &text(&a), &format!("0{}", text(&a)), Some(Loss::Length), true)?;
    }
}
