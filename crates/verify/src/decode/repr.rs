//! How Connect expresses a column, and the way from there to PostgreSQL's text.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::pg_type::{Kind, PgType};
use crate::text::{
    array,
    interval::Interval,
    number,
    time::{self, Unit},
};

/// How values of a column are expressed: Connect's type and the name of its schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Repr {
    /// By the value's own kind: booleans, integers, floating point, text, bytes.
    Plain,
    /// A floating-point number, also where the column is a `numeric` or `money`.
    Double,
    /// Raw bytes; base64 in JSON.
    Bytes,
    /// Unscaled bytes and a scale in the schema.
    Decimal(i32),
    /// A struct of scale and unscaled bytes.
    VariableDecimal,
    /// Days.
    Date,
    /// Milliseconds of a day, of a column that has no more.
    TimeMillis,
    /// Milliseconds of a day, whatever the column has: Connect's own type.
    ConnectTime,
    /// Microseconds of a day.
    TimeMicros,
    /// Nanoseconds of a day.
    TimeNanos,
    /// Milliseconds since 1970, of a column that has no more.
    TimestampMillis,
    /// Milliseconds since 1970, whatever the column has: Connect's own type.
    ConnectTimestamp,
    /// Microseconds since 1970.
    TimestampMicros,
    /// Nanoseconds since 1970.
    TimestampNanos,
    /// ISO 8601 with an offset.
    ZonedTimestamp,
    /// ISO 8601 with an offset.
    ZonedTime,
    /// ISO 8601.
    IsoDate,
    /// ISO 8601.
    IsoTime,
    /// ISO 8601.
    IsoTimestamp,
    /// Microseconds; a month counts 30.4375 days.
    MicroDuration,
    /// Nanoseconds; likewise.
    NanoDuration,
    /// ISO 8601.
    IsoInterval,
    /// Little-endian bits.
    Bits,
    /// A struct of x and y.
    Point,
    /// A list of numbers, printed in square brackets.
    Vector,
    /// An array.
    Array(Box<Repr>),
    /// A struct whose name this tool does not know.
    Opaque(String),
}

impl Repr {
    /// Whether it is more than the shape of a value: Connect's or Avro's name of a type was there.
    pub(crate) fn is_logical(&self) -> bool {
        !matches!(self, Repr::Plain | Repr::Double | Repr::Bytes | Repr::Array(_) | Repr::Opaque(_))
    }

    /// By the schema's name; `scale` is the parameter of a decimal.
    pub fn named(name: &str, scale: Option<i32>, is_struct: bool) -> Repr {
        match name {
            "org.apache.kafka.connect.data.Decimal" => Repr::Decimal(scale.unwrap_or(0)),
            "io.debezium.data.VariableScaleDecimal" => Repr::VariableDecimal,
            "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Repr::Date,
            "io.debezium.time.Time" => Repr::TimeMillis,
            "org.apache.kafka.connect.data.Time" => Repr::ConnectTime,
            "io.debezium.time.MicroTime" => Repr::TimeMicros,
            "io.debezium.time.NanoTime" => Repr::TimeNanos,
            "io.debezium.time.Timestamp" => Repr::TimestampMillis,
            "org.apache.kafka.connect.data.Timestamp" => Repr::ConnectTimestamp,
            "io.debezium.time.MicroTimestamp" => Repr::TimestampMicros,
            "io.debezium.time.NanoTimestamp" => Repr::TimestampNanos,
            "io.debezium.time.ZonedTimestamp" => Repr::ZonedTimestamp,
            "io.debezium.time.ZonedTime" => Repr::ZonedTime,
            "io.debezium.time.IsoDate" => Repr::IsoDate,
            "io.debezium.time.IsoTime" => Repr::IsoTime,
            "io.debezium.time.IsoTimestamp" => Repr::IsoTimestamp,
            "io.debezium.time.MicroDuration" => Repr::MicroDuration,
            "io.debezium.time.NanoDuration" => Repr::NanoDuration,
            "io.debezium.time.Interval" => Repr::IsoInterval,
            "io.debezium.data.Bits" => Repr::Bits,
            "io.debezium.data.geometry.Point" => Repr::Point,
            "io.debezium.data.DoubleVector" | "io.debezium.data.FloatVector" => Repr::Vector,
            _ if is_struct => Repr::Opaque(name.to_owned()),
            _ => Repr::Plain,
        }
    }
}

/// A value as the converter wrote it.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw<'a> {
    /// NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// Any integer.
    Int(i64),
    /// A `float`.
    Float(f32),
    /// A `double`.
    Double(f64),
    /// Text.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A list.
    Array(Vec<Raw<'a>>),
    /// A struct or a map.
    Struct(Vec<(&'a str, Raw<'a>)>),
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// The event does not have the column.
    Absent,
    /// NULL.
    Null,
    /// The placeholder for an unchanged TOASTed value.
    Unavailable,
    /// A value that cannot be compared.
    Opaque,
    /// Text.
    Text,
}

/// `binary.handling.mode`: how `bytea` is written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// Not as text.
    Bytes,
    /// Base64 with `+` and `/`.
    Base64,
    /// Base64 with `-` and `_`.
    Base64UrlSafe,
    /// Hexadecimal.
    Hex,
}

impl Binary {
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        use base64::{Engine as _, engine::general_purpose as engines};
        match self {
            Binary::Bytes | Binary::Base64 => engines::STANDARD.decode(text).ok(),
            Binary::Base64UrlSafe => {
                engines::URL_SAFE.decode(text).or_else(|_| engines::URL_SAFE_NO_PAD.decode(text)).ok()
            }
            Binary::Hex => hex(text),
        }
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

/// Writes values as PostgreSQL's text.
#[derive(Clone, Debug)]
pub struct Renderer {
    binary: Binary,
    placeholder: Vec<u8>,
    placeholder_uuid: String,
}

impl Renderer {
    /// By `binary.handling.mode` and `unavailable.value.placeholder`.
    pub fn new(binary: Binary, placeholder: Vec<u8>) -> Renderer {
        Renderer { binary, placeholder_uuid: uuid_of(&placeholder), placeholder }
    }

    /// Appends the text of a value to `out` and says what it is; of a placeholder the text that it has where it is a
    /// value after all. Otherwise nothing is appended.
    pub fn render(&self, out: &mut Vec<u8>, raw: &Raw<'_>, repr: &Repr, ty: &PgType) -> Tag {
        match self.value(out, raw, repr, ty) {
            Tag::Null => Tag::Null,
            _ if self.is_placeholder(raw, ty) => Tag::Unavailable,
            tag => tag,
        }
    }

    /// The same of what is no placeholder, an array's element for instance.
    fn value(&self, out: &mut Vec<u8>, raw: &Raw<'_>, repr: &Repr, ty: &PgType) -> Tag {
        let start = out.len();
        let tag = self.value_into(out, raw, repr, ty);
        if tag != Tag::Text {
            out.truncate(start);
        }
        tag
    }

    fn value_into(&self, out: &mut Vec<u8>, raw: &Raw<'_>, repr: &Repr, ty: &PgType) -> Tag {
        if matches!(raw, Raw::Null) {
            return Tag::Null;
        }
        match (repr, raw) {
            (Repr::Plain | Repr::Double, _) => self.plain(out, raw, ty),
            (Repr::Bytes, Raw::Bytes(bytes)) => binary(out, bytes, ty),
            (Repr::Bytes, Raw::Str(text)) => match Binary::Base64.decode(text) {
                Some(bytes) => binary(out, &bytes, ty),
                None => Tag::Opaque,
            },
            (Repr::Decimal(scale), _) => match bytes_of(raw) {
                Some(bytes) => {
                    number::decimal(out, &bytes, *scale);
                    Tag::Text
                }
                None => Tag::Opaque,
            },
            (Repr::VariableDecimal | Repr::Point, Raw::Struct(fields)) => structure(out, repr, fields),
            (Repr::Bits, _) => match bytes_of(raw) {
                Some(bytes) => {
                    bits(out, &bytes, ty);
                    Tag::Text
                }
                None => Tag::Opaque,
            },
            (Repr::Array(element), Raw::Array(values)) => self.array(out, values, element, ty),
            (Repr::Vector, Raw::Array(values)) => vector(out, values),
            (_, Raw::Int(value)) => counted(out, *value, repr),
            (_, Raw::Str(text)) => spelled(out, text, repr),
            _ => Tag::Opaque,
        }
    }

    fn plain(&self, out: &mut Vec<u8>, raw: &Raw<'_>, ty: &PgType) -> Tag {
        match raw {
            Raw::Bool(value) if ty.kind == Kind::Bit => out.push(if *value { b'1' } else { b'0' }),
            Raw::Bool(value) => out.push(if *value { b't' } else { b'f' }),
            Raw::Int(value) => match ty.kind {
                Kind::Float4 | Kind::Float8 => number::double(out, *value as f64),
                _ => number::integer(out, *value),
            },
            Raw::Float(value) => number::real(out, *value),
            Raw::Double(value) if ty.kind == Kind::Float4 => number::real(out, number::narrowed(*value)),
            Raw::Double(value) => number::double(out, *value),
            Raw::Str(text) => return self.text(out, text, ty),
            Raw::Bytes(bytes) => return binary(out, bytes, ty),
            Raw::Struct(pairs) if ty.kind == Kind::Hstore => {
                let text = |v: &Raw<'_>| if let Raw::Str(s) = v { Some((*s).to_owned()) } else { None };
                let mut pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), text(v))).collect();
                out.extend_from_slice(array::hstore(&mut pairs).as_bytes());
            }
            _ => return Tag::Opaque,
        }
        Tag::Text
    }

    fn text(&self, out: &mut Vec<u8>, text: &str, ty: &PgType) -> Tag {
        match &ty.kind {
            Kind::Bytea | Kind::Unknown | Kind::Geometric => match self.binary.decode(text) {
                Some(bytes) => return binary(out, &bytes, ty),
                None => out.extend_from_slice(text.as_bytes()),
            },
            Kind::Hstore => match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
                Ok(map) => {
                    let mut pairs: Vec<_> = map.into_iter().map(|(k, v)| (k, v.as_str().map(str::to_owned))).collect();
                    out.extend_from_slice(array::hstore(&mut pairs).as_bytes());
                }
                Err(_) => return Tag::Opaque,
            },
            // In JSON the numbers that JSON lacks are text.
            Kind::Float4 | Kind::Float8 => match text.parse::<f64>() {
                Ok(value) => number::double(out, value),
                Err(_) => out.extend_from_slice(text.as_bytes()),
            },
            _ => out.extend_from_slice(text.as_bytes()),
        }
        Tag::Text
    }

    fn array(&self, out: &mut Vec<u8>, values: &[Raw<'_>], element: &Repr, ty: &PgType) -> Tag {
        let Kind::Array(element_type) = &ty.kind else { return Tag::Opaque };
        let mut text = Vec::new();
        out.push(b'{');
        for (i, value) in values.iter().enumerate() {
            text.clear();
            match self.value(&mut text, value, element, element_type) {
                Tag::Text => array::element(out, i == 0, Some(&text)),
                Tag::Null => array::element(out, i == 0, None),
                other => return other,
            }
        }
        out.push(b'}');
        Tag::Text
    }

    /// The placeholder comes as text, as bytes, as text of bytes, as the only element of an array of texts, bytes or
    /// UUIDs, as a map, and as its bytes one by one in an array of numbers.
    fn is_placeholder(&self, raw: &Raw<'_>, ty: &PgType) -> bool {
        if !ty.kind.can_be_toasted() {
            return false;
        }
        let wanted = self.placeholder.as_slice();
        match (raw, &ty.kind) {
            (Raw::Str(text), Kind::Hstore) => {
                let map = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).unwrap_or_default();
                let is = |text: &str| text.as_bytes() == wanted;
                map.len() == 1 && map.iter().all(|(k, v)| is(k) && v.as_str().is_some_and(is))
            }
            (Raw::Array(values), Kind::Array(element)) => match values.as_slice() {
                [Raw::Str(only)] if element.name == "uuid" => *only == self.placeholder_uuid,
                [only @ (Raw::Str(_) | Raw::Bytes(_))] => self.is_wanted(only, &element.kind),
                values => {
                    let is = |value: &Raw<'_>, byte: u8| matches!(value, Raw::Int(i) if *i == i64::from(byte as i8));
                    let counted = matches!(element.kind, Kind::Int | Kind::Date);
                    counted && values.len() == wanted.len() && values.iter().zip(wanted).all(|(v, b)| is(v, *b))
                }
            },
            (Raw::Struct(pairs), _) => matches!(
                pairs.as_slice(),
                [(key, Raw::Str(value))] if key.as_bytes() == wanted && value.as_bytes() == wanted
            ),
            _ => self.is_wanted(raw, &ty.kind),
        }
    }

    fn is_wanted(&self, raw: &Raw<'_>, kind: &Kind) -> bool {
        let wanted = self.placeholder.as_slice();
        match raw {
            Raw::Bytes(bytes) => *bytes == wanted,
            Raw::Str(text) if text.as_bytes() == wanted => true,
            Raw::Str(text) if matches!(kind, Kind::Bytea | Kind::Unknown | Kind::Geometric) => {
                [Binary::Base64, self.binary].iter().any(|way| way.decode(text).is_some_and(|b| b == wanted))
            }
            _ => false,
        }
    }
}

/// The placeholder of a UUID, which the connector derives from its bytes: RFC 9562, version 3, without a namespace.
fn uuid_of(bytes: &[u8]) -> String {
    use md5::Digest as _;
    let mut hash = md5::Md5::digest(bytes);
    hash[6] = hash[6] & 0x0f | 0x30;
    hash[8] = hash[8] & 0x3f | 0x80;
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Bytes of `bytea` print as hex; those of an unknown type are its text.
fn binary(out: &mut Vec<u8>, bytes: &[u8], ty: &PgType) -> Tag {
    if ty.kind == Kind::Bytea {
        out.extend_from_slice(b"\\x");
        for byte in bytes {
            for half in [byte >> 4, byte & 15] {
                out.push(if half < 10 { b'0' + half } else { b'a' + half - 10 });
            }
        }
        return Tag::Text;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if ty.kind == Kind::Geometric => {
            out.extend_from_slice(number::plain_numbers(text, number::double).as_bytes())
        }
        Ok(text) => out.extend_from_slice(text.as_bytes()),
        Err(_) => return Tag::Opaque,
    }
    Tag::Text
}

fn bytes_of<'a>(raw: &Raw<'a>) -> Option<Cow<'a, [u8]>> {
    match raw {
        Raw::Bytes(bytes) => Some(Cow::Borrowed(*bytes)),
        Raw::Str(text) => Binary::Base64.decode(text).map(Cow::Owned),
        _ => None,
    }
}

fn structure(out: &mut Vec<u8>, repr: &Repr, fields: &[(&str, Raw<'_>)]) -> Tag {
    let field = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|(_, v)| v);
    if *repr == Repr::VariableDecimal {
        let (Some(Raw::Int(scale)), Some(bytes)) = (field("scale"), field("value").and_then(bytes_of)) else {
            return Tag::Opaque;
        };
        number::decimal(out, &bytes, *scale as i32);
        return Tag::Text;
    }
    let coordinate = |name: &str| match field(name) {
        Some(Raw::Double(value)) => Some(*value),
        Some(Raw::Int(value)) => Some(*value as f64),
        Some(Raw::Str(text)) => text.parse().ok(),
        _ => None,
    };
    let (Some(x), Some(y)) = (coordinate("x"), coordinate("y")) else { return Tag::Opaque };
    out.push(b'(');
    number::double(out, x);
    out.push(b',');
    number::double(out, y);
    out.push(b')');
    Tag::Text
}

fn bits(out: &mut Vec<u8>, bytes: &[u8], ty: &PgType) {
    let length = if ty.is_varying() { 0 } else { ty.typmod.max(0) as usize };
    let used = (0..bytes.len() * 8).rev().find(|i| bytes[i / 8] >> (i % 8) & 1 == 1).map_or(0, |i| i + 1);
    for i in (0..length.max(used)).rev() {
        let set = bytes.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1);
        out.push(if set { b'1' } else { b'0' });
    }
}

fn vector(out: &mut Vec<u8>, values: &[Raw<'_>]) -> Tag {
    out.push(b'[');
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        match value {
            // A vector's elements are single precision whatever carries them.
            Raw::Double(value) => number::real(out, number::narrowed(*value)),
            Raw::Float(value) => number::real(out, *value),
            Raw::Int(value) => number::real(out, *value as f32),
            _ => return Tag::Opaque,
        }
    }
    out.push(b']');
    Tag::Text
}

fn counted(out: &mut Vec<u8>, value: i64, repr: &Repr) -> Tag {
    match repr {
        Repr::Date => time::date(out, value),
        Repr::TimeMillis | Repr::ConnectTime => time::time(out, value.saturating_mul(1000)),
        Repr::TimeMicros => time::time(out, value),
        Repr::TimeNanos => time::time(out, value.div_euclid(1000)),
        Repr::TimestampMillis | Repr::ConnectTimestamp => time::timestamp(out, value, Unit::Millis),
        Repr::TimestampMicros => time::timestamp(out, value, Unit::Micros),
        Repr::TimestampNanos => time::timestamp(out, value, Unit::Nanos),
        Repr::MicroDuration => number::integer(out, value),
        Repr::NanoDuration => number::integer(out, value.div_euclid(1000)),
        _ => return Tag::Opaque,
    }
    Tag::Text
}

fn spelled(out: &mut Vec<u8>, text: &str, repr: &Repr) -> Tag {
    let made = match repr {
        Repr::ZonedTimestamp => time::zoned_timestamp(text),
        Repr::ZonedTime => time::utc_time(text),
        Repr::IsoDate => time::iso_date(text),
        Repr::IsoTime => time::iso_time(text),
        Repr::IsoTimestamp => time::iso_timestamp(text),
        Repr::IsoInterval => Interval::from_iso(text).map(Interval::to_postgres),
        _ => None,
    };
    match made {
        Some(made) => {
            out.extend_from_slice(made.as_bytes());
            Tag::Text
        }
        None => Tag::Opaque,
    }
}

/// Which side of a comparison a text is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// PostgreSQL's own output.
    Table,
    /// Rendered from an event.
    Event,
}

/// What an expression has no room for, so that different values of a column look the same in its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Loss {
    /// Everything below a millisecond.
    Millis,
    /// The digits of a decimal that a double does not have.
    Double,
    /// Which part of an interval is months, days and microseconds.
    Duration,
    /// That 24:00:00 is not 00:00:00.
    Midnight,
    /// The zone of a `timetz`.
    Zone,
    /// Leading zeros of a `bit varying`.
    Length,
    /// What a snapshot leaves out of times in arrays, and a stream does not: everything below a millisecond, and 24:00:00.
    Elements,
    /// Everything below a second, and the zone: elements of arrays of `timetz` have neither.
    ZonedElements,
}

impl Loss {
    /// All of them.
    pub const ALL: [Loss; 8] = [
        Loss::Millis,
        Loss::Double,
        Loss::Duration,
        Loss::Midnight,
        Loss::Zone,
        Loss::Length,
        Loss::Elements,
        Loss::ZonedElements,
    ];

    /// What expressing a column so leaves out of its values.
    pub fn of(repr: &Repr, ty: &PgType) -> Option<Loss> {
        match (&ty.kind, repr) {
            (Kind::Array(element), Repr::Array(_)) if element.kind == Kind::Time => Some(Loss::Elements),
            (Kind::Array(element), Repr::Array(_)) if element.kind == Kind::TimeTz => Some(Loss::ZonedElements),
            (Kind::Array(element), Repr::Array(inner)) => Loss::of(inner, element),
            (Kind::Numeric | Kind::Money, Repr::Double) => Some(Loss::Double),
            (Kind::Time, Repr::ConnectTime) | (Kind::Timestamp, Repr::ConnectTimestamp) if ty.time_digits() > 3 => {
                Some(Loss::Millis)
            }
            (Kind::Time, Repr::IsoTime) => Some(Loss::Midnight),
            (Kind::TimeTz, _) => Some(Loss::Zone),
            (Kind::Bit, _) if ty.is_varying() => Some(Loss::Length),
            (Kind::Interval, Repr::MicroDuration | Repr::NanoDuration) => Some(Loss::Duration),
            _ => None,
        }
    }

    /// How values are compared all the same, for notes.
    pub fn words(self) -> &'static str {
        match self {
            Loss::Millis => "to the millisecond: Connect's own time types have no more",
            Loss::Double => "as double precision, which has no more than 17 digits",
            Loss::Duration => "as a number of microseconds, in which a month counts 30.4375 days",
            Loss::Midnight => "as times that have no 24:00:00",
            Loss::Zone => "as times in UTC: records have no zone",
            Loss::Length => "without leading zeros, which records do not have",
            Loss::Elements => "to the millisecond and with 24:00:00 as 00:00:00: a snapshot reads times in arrays so",
            Loss::ZonedElements => "to the second and as times in UTC: elements of arrays have no more",
        }
    }
}

/// Brings a text to the form in which equal values of this type are equal texts, however they were expressed.
pub fn canonical<'a>(text: &'a str, side: Side, ty: &PgType) -> Cow<'a, str> {
    match &ty.kind {
        Kind::Float4 => written(text, |out| text.parse::<f32>().map(|value| number::real(out, value)).is_ok()),
        Kind::Float8 => written(text, |out| text.parse::<f64>().map(|value| number::double(out, value)).is_ok()),
        Kind::Numeric => Cow::Owned(number::plain_numeric(text)),
        Kind::Money if side == Side::Table => Cow::Owned(number::plain_money(text)),
        Kind::Money => Cow::Owned(number::plain_numeric(text)),
        Kind::Bit => Cow::Borrowed(text.trim_start_matches('0')),
        Kind::Point | Kind::Geometric => Cow::Owned(number::plain_numbers(text, number::double)),
        Kind::Vector => {
            Cow::Owned(number::plain_numbers(text, |out, value| number::real(out, number::narrowed(value))))
        }
        Kind::Array(element) if element.needs_form() => {
            each(text, |value| canonical(value, side, element).into_owned())
        }
        _ => Cow::Borrowed(text),
    }
}

/// Cuts from a canonical text, of a table or an event, what the expression has no room for.
pub fn cut<'a>(text: &'a str, loss: Loss, ty: &PgType) -> Cow<'a, str> {
    let made = match (&ty.kind, loss) {
        (Kind::Array(element), _) => return each(text, |value| cut(value, loss, element).into_owned()),
        (Kind::Time, Loss::Millis) => time::cut_time(text, 3, false),
        (Kind::Time, Loss::Midnight) => time::cut_time(text, 6, true),
        (Kind::Time, Loss::Elements) => time::cut_time(text, 3, true),
        (Kind::TimeTz, Loss::ZonedElements) => time::utc_time(text).and_then(|utc| time::cut_time(&utc, 0, true)),
        (Kind::Timestamp, Loss::Millis) => time::cut_timestamp(text, 3),
        (Kind::TimeTz, Loss::Zone) => time::utc_time(text),
        (Kind::Interval, Loss::Duration) => Interval::from_postgres(text).map(|i| i.total_micros().to_string()),
        (_, Loss::Double) => text.parse::<f64>().ok().map(|value| {
            let mut out = Vec::new();
            number::double(&mut out, value);
            String::from_utf8_lossy(&out).into_owned()
        }),
        _ => None,
    };
    made.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// What `write` appends, or the text itself where it cannot.
fn written<'a>(text: &'a str, write: impl FnOnce(&mut Vec<u8>) -> bool) -> Cow<'a, str> {
    let mut out = Vec::new();
    match write(&mut out).then(|| String::from_utf8(out)) {
        Some(Ok(made)) => Cow::Owned(made),
        _ => Cow::Borrowed(text),
    }
}

/// Rewrites each element of an array's text.
fn each<'a>(text: &'a str, form: impl Fn(&str) -> String) -> Cow<'a, str> {
    let Some(values) = array::elements(text) else { return Cow::Borrowed(text) };
    let mut out = vec![b'{'];
    for (i, value) in values.iter().enumerate() {
        let value = value.as_deref().map(&form);
        array::element(&mut out, i == 0, value.as_deref().map(str::as_bytes));
    }
    out.push(b'}');
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}
