//! Values as Debezium 3.6 wrote them, beside PostgreSQL's own text; and records that their schemas do not describe.

use std::{collections::BTreeMap, sync::Arc};

use rstest::rstest;

use super::{
    pg_type::PgType,
    record::{Decoder, Op, Schemas, Unreadable},
    repr::{Binary, Raw, Renderer, Repr, Side, Tag, form},
    row::{Cell, cells},
    settings::{Adjust, ConnectorSettings, field_name},
    table::{Column, Columns},
};
use crate::{client::connect::ConnectorConfig, units::SchemaId, verify::VerifyError};

fn ty(display: &str, base: &str, typmod: i32) -> PgType {
    PgType::new(display, base, "b", typmod, None)
}

fn array_of(display: &str, base: &str, typmod: i32) -> PgType {
    PgType::new(display, &format!("_{base}"), "b", typmod, Some(ty(display, base, typmod)))
}

/// Whether the two texts are of one value, and the event's text.
fn compare(raw: &Raw<'_>, repr: &Repr, ty: &PgType, binary: Binary, table: &str) -> (bool, String) {
    let renderer = Renderer { binary, placeholder: b"__debezium_unavailable_value".to_vec() };
    let mut out = Vec::new();
    assert_eq!(renderer.render(&mut out, raw, repr, ty), Tag::Text, "{raw:?}");
    let text = String::from_utf8(out).unwrap();
    let event = form(&text, Side::Event, repr, ty).into_owned();
    (form(table, Side::Table, repr, ty) == event, event)
}

const BITS: &[u8] = &[0xa1];
const NUMERIC: i32 = ((10 << 16) | 2) + 4;

#[rstest]
#[case::int(Raw::Int(-32768), Repr::Plain, ty("smallint", "int2", -1), "-32768", "-32767")]
#[case::bigint(Raw::Int(i64::MIN), Repr::Plain, ty("bigint", "int8", -1), "-9223372036854775808", "-9223372036854775807")]
#[case::oid(Raw::Int(4294967295), Repr::Plain, ty("oid", "oid", -1), "4294967295", "4294967294")]
#[case::truth(Raw::Bool(true), Repr::Plain, ty("boolean", "bool", -1), "t", "f")]
#[case::real(Raw::Float(1.1), Repr::Double, ty("real", "float4", -1), "1.1", "1.1000001")]
#[case::real_in_json(Raw::Double(1.1), Repr::Double, ty("real", "float4", -1), "1.1", "1.2")]
#[case::double(Raw::Double(0.1 + 0.2), Repr::Double, ty("double precision", "float8", -1), "0.30000000000000004", "0.3")]
#[case::double_infinity_in_json(Raw::Str("Infinity"), Repr::Double, ty("double precision", "float8", -1), "Infinity", "-Infinity")]
#[case::nan(Raw::Str("NaN"), Repr::Double, ty("real", "float4", -1), "NaN", "0")]
#[case::decimal(Raw::Bytes(&[0x6e]), Repr::Decimal(2), ty("numeric(10,2)", "numeric", NUMERIC), "1.10", "1.11")]
#[case::decimal_in_json(
    Raw::Str("AlQL4/8="),
    Repr::Decimal(2),
    ty("numeric(10,2)", "numeric", NUMERIC),
    "99999999.99",
    "99999999.98"
)]
#[case::decimal_text(Raw::Str("NAN"), Repr::Plain, ty("numeric", "numeric", -1), "NaN", "0")]
#[case::decimal_double(Raw::Double(1.2345678901234567e19), Repr::Double, ty("numeric", "numeric", -1), "12345678901234567890.12345678900", "12345678901234599999")]
#[case::money(Raw::Bytes(&[0x01, 0xe2, 0x40]), Repr::Decimal(2), ty("money", "money", -1), "$1,234.56", "$1,234.57")]
#[case::char(Raw::Str("ab        "), Repr::Plain, ty("character(10)", "bpchar", 14), "ab        ", "ab")]
#[case::text(Raw::Str("ünï \"q\" \\ ,{}"), Repr::Plain, ty("text", "text", -1), "ünï \"q\" \\ ,{}", "uni")]
#[case::empty(Raw::Str(""), Repr::Plain, ty("text", "text", -1), "", " ")]
#[case::bit(Raw::Bool(true), Repr::Plain, ty("bit(1)", "bit", 1), "1", "0")]
#[case::bits(Raw::Bytes(BITS), Repr::Bits, ty("bit(8)", "bit", 8), "10100001", "10100000")]
#[case::no_bits(Raw::Bytes(&[]), Repr::Bits, ty("bit(8)", "bit", 8), "00000000", "00000001")]
#[case::many_bits(
    Raw::Str("qqqqqqqqqqoq"),
    Repr::Bits,
    ty("bit(70)", "bit", 70),
    "1010101010101010101010101010101010101010101010101010101010101010101010",
    "0010101010101010101010101010101010101010101010101010101010101010101010"
)]
#[case::date(Raw::Int(19782), Repr::Date, ty("date", "date", -1), "2024-02-29", "2024-03-01")]
#[case::date_infinite(Raw::Int(-2147472692), Repr::Date, ty("date", "date", -1), "infinity", "-infinity")]
#[case::date_iso(Raw::Str("+10000-01-01Z"), Repr::IsoDate, ty("date", "date", -1), "10000-01-01", "1000-01-01")]
#[case::time(Raw::Int(45296123456), Repr::TimeMicros, ty("time", "time", -1), "12:34:56.123456", "12:34:56.123457")]
#[case::time_millis(Raw::Int(45296123), Repr::TimeMillis, ty("time", "time", -1), "12:34:56.123456", "12:34:56.124")]
#[case::time_end(Raw::Int(86400000000), Repr::TimeMicros, ty("time", "time", -1), "24:00:00", "00:00:00")]
#[case::time_nanos(Raw::Int(45296123456000), Repr::TimeNanos, ty("time", "time", -1), "12:34:56.123456", "12:34:56")]
#[case::time_iso(Raw::Str("00:00:00Z"), Repr::IsoTime, ty("time", "time", -1), "24:00:00", "00:00:01")]
#[case::timetz(Raw::Str("18:29:59.5Z"), Repr::ZonedTime, ty("timetz", "timetz", -1), "23:59:59.5+05:30", "18:29:59.5+01")]
#[case::timestamp(Raw::Int(1709210096123456), Repr::TimestampMicros, ty("timestamp", "timestamp", -1), "2024-02-29 12:34:56.123456", "2024-02-29 12:34:56.123457")]
#[case::timestamp_millis(Raw::Int(-1), Repr::TimestampMillis, ty("timestamp", "timestamp", -1), "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00")]
#[case::timestamp_nanos(Raw::Int(-1000), Repr::TimestampNanos, ty("timestamp", "timestamp", -1), "1969-12-31 23:59:59.999999", "1969-12-31 23:59:59.999998")]
#[case::timestamp_infinite(Raw::Int(9223372036825200000), Repr::TimestampMicros, ty("timestamp", "timestamp", -1), "infinity", "-infinity")]
#[case::timestamp_infinite_millis(Raw::Int(9223372036825200), Repr::TimestampMillis, ty("timestamp", "timestamp", -1), "infinity", "-infinity")]
#[case::timestamp_iso(Raw::Str("-1899-01-01T00:00:00Z"), Repr::IsoTimestamp, ty("timestamp", "timestamp", -1), "1900-01-01 00:00:00 BC", "1900-01-01 00:00:00")]
#[case::timestamptz(Raw::Str("2024-02-29T10:34:56.123456Z"), Repr::ZonedTimestamp, ty("timestamptz", "timestamptz", -1), "2024-02-29 10:34:56.123456+00", "2024-02-29 10:34:56.123457+00")]
#[case::timestamptz_bc(Raw::Str("-0043-03-15T12:00:00.000000Z"), Repr::ZonedTimestamp, ty("timestamptz", "timestamptz", -1), "0044-03-15 12:00:00+00 BC", "0043-03-15 12:00:00+00 BC")]
#[case::interval(Raw::Int(36572706789000), Repr::MicroDuration, ty("interval", "interval", -1), "1 year 2 mons -3 days +04:05:06.789", "1 year 2 mons -3 days +04:05:06.788")]
#[case::interval_iso(Raw::Str("P0Y-1M2DT0H0M-0.000001S"), Repr::IsoInterval, ty("interval", "interval", -1), "-1 mons +2 days -00:00:00.000001", "-1 mons +2 days")]
#[case::bytea(Raw::Bytes(&[0, 255, 16, 171]), Repr::Bytes, ty("bytea", "bytea", -1), "\\x00ff10ab", "\\x00ff10ac")]
#[case::bytea_in_json(Raw::Str("AP8Qqw=="), Repr::Bytes, ty("bytea", "bytea", -1), "\\x00ff10ab", "\\x")]
#[case::point(Raw::Struct(vec![("x", Raw::Double(1.5)), ("y", Raw::Double(2.0)), ("wkb", Raw::Null)]), Repr::Point, ty("point", "point", -1), "(1.5,2)", "(1.5,2.5)")]
#[case::circle(Raw::Bytes(b"<(1.0,2.0),3.0>"), Repr::Bytes, ty("circle", "circle", -1), "<(1,2),3>", "<(1,2),4>")]
#[case::composite(Raw::Bytes(b"(1,\"a b\")"), Repr::Bytes, ty("comp", "comp", -1), "(1,\"a b\")", "(2,\"a b\")")]
#[case::hstore(Raw::Str(r#"{"c d":"x\"y","b":null,"a":"1"}"#), Repr::Plain, ty("hstore", "hstore", -1), r#""a"=>"1", "b"=>NULL, "c d"=>"x\"y""#, r#""a"=>"2""#)]
#[case::hstore_map(Raw::Struct(vec![("b", Raw::Null), ("a", Raw::Str("1"))]), Repr::Plain, ty("hstore", "hstore", -1), r#""a"=>"1", "b"=>NULL"#, "")]
#[case::vector(Raw::Array(vec![Raw::Double(1.0), Raw::Double(2.5)]), Repr::Vector, ty("vector(2)", "vector", 2), "[1,2.5]", "[1,2]")]
#[case::ints(Raw::Array(vec![Raw::Int(1), Raw::Null, Raw::Int(3)]), Repr::Array(Box::new(Repr::Plain)), array_of("integer[]", "int4", -1), "{1,NULL,3}", "{1,2,3}")]
#[case::texts(Raw::Array(vec![Raw::Str("a"), Raw::Null, Raw::Str("b c"), Raw::Str("NULL"), Raw::Str("q\"q")]), Repr::Array(Box::new(Repr::Plain)), array_of("text[]", "text", -1), r#"{a,NULL,"b c","NULL","q\"q"}"#, "{a}")]
#[case::decimals(Raw::Array(vec![Raw::Bytes(&[0x6e]), Raw::Null]), Repr::Array(Box::new(Repr::Decimal(2))), array_of("numeric(6,2)[]", "numeric", NUMERIC), "{1.10,NULL}", "{1.11,NULL}")]
#[case::byteas(Raw::Array(vec![Raw::Bytes(&[0, 255])]), Repr::Array(Box::new(Repr::Bytes)), array_of("bytea[]", "bytea", -1), r#"{"\\x00ff"}"#, r#"{"\\x00fe"}"#)]
#[case::timestamps(Raw::Array(vec![Raw::Int(1704070923500)]), Repr::Array(Box::new(Repr::TimestampMillis)), array_of("timestamp[]", "timestamp", -1), r#"{"2024-01-01 01:02:03.5"}"#, r#"{"2024-01-01 01:02:03.6"}"#)]
fn a_value_equals_its_own_text_and_no_other(
    #[case] raw: Raw<'static>,
    #[case] repr: Repr,
    #[case] ty: PgType,
    #[case] same: &str,
    #[case] other: &str,
) {
    let (equal, text) = compare(&raw, &repr, &ty, Binary::Bytes, same);
    assert!(equal, "{text:?} is not {same:?}");
    let (equal, text) = compare(&raw, &repr, &ty, Binary::Bytes, other);
    assert!(!equal, "{text:?} passes for {other:?}");
}

#[rstest]
#[case(Binary::Base64, "AP8Qqw==")]
#[case(Binary::Base64UrlSafe, "AP8Qqw==")]
#[case(Binary::Hex, "00ff10ab")]
fn bytea_as_text(#[case] mode: Binary, #[case] text: &'static str) {
    let (equal, _) = compare(&Raw::Str(text), &Repr::Plain, &ty("bytea", "bytea", -1), mode, "\\x00ff10ab");
    assert!(equal);
}

#[rstest]
#[case::text(Raw::Str(HOLD), ty("text", "text", -1))]
#[case::bytes(Raw::Bytes(HOLD.as_bytes()), ty("bytea", "bytea", -1))]
#[case::base64(Raw::Str("X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="), ty("bytea", "bytea", -1))]
#[case::texts(Raw::Array(vec![Raw::Str(HOLD)]), array_of("text[]", "text", -1))]
#[case::ints(Raw::Array(HOLD.bytes().map(|b| Raw::Int(b.into())).collect()), array_of("integer[]", "int4", -1))]
#[case::map(Raw::Struct(vec![(HOLD, Raw::Str(HOLD))]), ty("hstore", "hstore", -1))]
#[case::json(Raw::Str(r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#), ty("hstore", "hstore", -1))]
fn every_form_of_the_placeholder_is_known(#[case] raw: Raw<'static>, #[case] ty: PgType) {
    let renderer = Renderer { binary: Binary::Bytes, placeholder: HOLD.into() };
    assert_eq!(renderer.render(&mut Vec::new(), &raw, &Repr::Plain, &ty), Tag::Unavailable);
}

const HOLD: &str = "__debezium_unavailable_value";

#[test]
fn a_struct_of_another_name_is_not_comparable() {
    let renderer = Renderer { binary: Binary::Bytes, placeholder: HOLD.into() };
    let raw = Raw::Struct(vec![("wkb", Raw::Bytes(&[1])), ("srid", Raw::Null)]);
    let repr = Repr::named("io.debezium.data.geometry.Geometry", None, true);
    let geometry = ty("geometry", "geometry", -1);
    assert_eq!(renderer.render(&mut Vec::new(), &raw, &repr, &geometry), Tag::Opaque);
}

#[rstest]
#[case(Adjust::Avro, "Id Col", "Id_Col")]
#[case(Adjust::Avro, "1st", "_1st")]
#[case(Adjust::Avro, "ünï", "_n_")]
#[case(Adjust::AvroUnicode, "second-key", "second_u002dkey")]
#[case(Adjust::AvroUnicode, "1st", "_u0031st")]
#[case(Adjust::AvroUnicode, "ünï", "_u00fcn_u00ef")]
#[case(Adjust::None, "Id Col", "Id Col")]
fn names_are_adjusted_as_debezium_does(#[case] mode: Adjust, #[case] column: &str, #[case] field: &str) {
    assert_eq!(field_name(mode, column), field);
}

fn config(extra: &[(&str, &str)]) -> ConnectorConfig {
    let mut config: ConnectorConfig = [
        ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
        ("plugin.name", "pgoutput"),
        ("topic.prefix", "shop"),
        ("key.converter", "io.apicurio.registry.utils.converter.AvroConverter"),
        ("key.converter.apicurio.registry.as-confluent", "true"),
        ("key.converter.apicurio.registry.headers.enabled", "false"),
        ("value.converter", "io.apicurio.registry.utils.converter.AvroConverter"),
        ("value.converter.apicurio.registry.as-confluent", "true"),
        ("value.converter.apicurio.registry.headers.enabled", "false"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    config.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    config
}

#[rstest]
#[case("value.converter", "org.apache.kafka.connect.storage.StringConverter")]
#[case("key.converter", "io.debezium.converters.CloudEventsConverter")]
#[case("value.converter.apicurio.registry.headers.enabled", "true")]
#[case("transforms.r.type", "org.apache.kafka.connect.transforms.RegexRouter")]
#[case("predicates", "p")]
#[case("plugin.name", "decoderbufs")]
#[case("topic.naming.strategy", "com.example.Mine")]
#[case("decimal.handling.mode", "new")]
#[case("converters", "mine")]
#[case("connector.class", "io.debezium.connector.mysql.MySqlConnector")]
fn what_is_not_understood_is_refused_by_name(#[case] setting: &str, #[case] value: &str) {
    let config = config(&[("transforms", if setting.starts_with("transforms") { "r" } else { "" }), (setting, value)]);
    match ConnectorSettings::parse("shop", &config) {
        Err(error @ VerifyError::Refused { .. }) => {
            let text = error.to_string();
            assert!(text.contains(setting) && text.contains(value), "{text}");
            assert_eq!(error.exit().code(), 3);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_option_of_the_transform_that_changes_records_is_refused() {
    let unwrap = "io.debezium.transforms.ExtractNewRecordState";
    let with = |extra: &[(&str, &str)]| {
        let mut all = vec![("transforms", "u"), ("transforms.u.type", unwrap)];
        all.extend(extra);
        ConnectorSettings::parse("shop", &config(&all))
    };
    let added = with(&[("transforms.u.add.fields", "op,source.txId:tx")]).unwrap().unwrap.unwrap();
    assert_eq!((added.op.as_deref(), added.tx.as_deref()), (Some("__op"), Some("__tx")));
    assert!(with(&[("transforms.u.route.by.field", "name")]).is_err());
    assert!(with(&[("transforms.u.predicate", "p")]).is_err());
}

const KEY: &str = r#"{"type":"record","name":"Key","namespace":"shop.public.t","fields":[{"name":"id","type":"int"}]}"#;
const VALUE: &str = r#"{"type":"record","name":"Envelope","namespace":"shop.public.t","fields":[
 {"name":"before","type":["null",{"type":"record","name":"Value","fields":[
   {"name":"id","type":"int"},
   {"name":"d","type":["null",{"type":"int","connect.version":1,"connect.name":"io.debezium.time.Date"}],"default":null},
   {"name":"n","type":["null","string"],"default":null}]}],"default":null},
 {"name":"after","type":["null","Value"],"default":null},
 {"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":[
   {"name":"version","type":"string"},{"name":"snapshot","type":["null","string"]},{"name":"sequence","type":["null","string"]},
   {"name":"txId","type":["null","long"]},{"name":"lsn","type":["null","long"]}]}},
 {"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"]}]}"#;

fn int(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn text(out: &mut Vec<u8>, value: &str) {
    int(out, value.len() as i64);
    out.extend_from_slice(value.as_bytes());
}

fn framed(id: u32) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&id.to_be_bytes());
    out
}

fn key_record(id: u32) -> Vec<u8> {
    let mut out = framed(id);
    int(&mut out, 42);
    out
}

fn value_record(id: u32) -> Vec<u8> {
    let mut out = framed(id);
    int(&mut out, 0);
    int(&mut out, 1);
    int(&mut out, 42);
    int(&mut out, 1);
    int(&mut out, 19782);
    int(&mut out, 0);
    text(&mut out, "3.6.3.Final");
    int(&mut out, 1);
    text(&mut out, "false");
    int(&mut out, 1);
    text(&mut out, "[\"900\",\"1000\"]");
    int(&mut out, 1);
    int(&mut out, 77);
    int(&mut out, 1);
    int(&mut out, 1000);
    text(&mut out, "u");
    int(&mut out, 1);
    int(&mut out, 5);
    out
}

fn decoder() -> Decoder {
    let settings = Arc::new(ConnectorSettings::parse("shop", &config(&[])).unwrap());
    let column = |name: &str, base: &str| Column {
        name: name.into(),
        ty: ty(base, base, -1),
        generated: false,
        unpublished: false,
    };
    let list = vec![column("id", "int4"), column("n", "text"), column("d", "date")];
    let columns = Arc::new(Columns::new(list, settings.adjust));
    let other = KEY.replace("shop.public.t", "shop.public.other");
    let wider = KEY.replace("\"int\"}]", "\"int\"},{\"name\":\"b\",\"type\":[\"null\",\"int\"]}]");
    let texts: BTreeMap<u32, String> =
        [(1, KEY.to_owned()), (2, VALUE.to_owned()), (3, other), (4, wider), (5, "{".to_owned())].into();
    let schemas = Schemas::new(move |id: SchemaId| Ok(texts.get(&id.0).cloned()));
    Decoder::new(settings, columns, Arc::new(schemas), "public", "t")
}

#[test]
fn an_avro_envelope_becomes_an_event() {
    let mut decoder = decoder();
    let (key, value) = (key_record(1), value_record(2));
    let event = decoder.decode(Some(&key), Some(&value)).unwrap();
    assert_eq!(event.meta.op, Op::Update);
    assert_eq!((event.meta.lsn, event.meta.tx, event.meta.commit), (Some(1000), Some(77), Some(900)));
    assert!(!event.meta.snapshot && event.before.is_none());
    let row: Vec<Cell<'_>> = cells(event.after.unwrap()).collect();
    assert_eq!(row, [Cell::Text(b"42"), Cell::Null, Cell::Text(b"2024-02-29")], "in the table's order");
    assert_eq!(cells(event.key.unwrap()).collect::<Vec<_>>(), [Cell::Text(b"42")]);
    assert_eq!(decoder.key_columns(), Some(&[0][..]));
}

fn refusal(key: &[u8], value: &[u8]) -> Unreadable {
    decoder().decode(Some(key), Some(value)).map(|_| ()).unwrap_err()
}

#[rstest]
#[case::unknown_id(key_record(99), value_record(2), "does not know id 99")]
#[case::id_of_another_table(key_record(3), value_record(2), "is of shop.public.other.Key")]
#[case::id_of_a_wider_schema(key_record(4), value_record(2), "ends too early")]
#[case::id_of_the_key(key_record(1), value_record(1), "without them")]
#[case::not_a_schema(key_record(5), value_record(2), "not an Avro schema")]
#[case::trailing_byte(key_record(1), [value_record(2), vec![0]].concat(), "1 bytes are left over")]
#[case::trailing_byte_of_the_key([key_record(1), vec![0]].concat(), value_record(2), "1 bytes are left over")]
#[case::cut(key_record(1), value_record(2)[..30].to_vec(), "ends too early")]
#[case::no_magic_byte(key_record(1), b"{}".to_vec(), "first byte 123")]
#[case::no_id(key_record(1), vec![0, 0], "2 bytes")]
fn a_wrong_schema_is_told(#[case] key: Vec<u8>, #[case] value: Vec<u8>, #[case] found: &str) {
    let why = refusal(&key, &value);
    assert!(why.wrong_schema, "{why:?}");
    assert!(why.found.contains(found), "{why:?}");
}
