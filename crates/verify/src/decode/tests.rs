//! Values as Debezium 3.6 wrote them, beside PostgreSQL's own text; and records that their schemas do not describe.

use std::{collections::BTreeMap, sync::Arc};

use rstest::rstest;
use serde_json::{Value, json};

use super::{
    compare::{Match, compare as compared},
    names::field_adjustment,
    pg_type::PgType,
    record::{Decoder, Event, Op, Schemas, Unreadable},
    repr::{Binary, Loss, Raw, Renderer, Repr, Side, Tag, canonical, cut},
    row::{Cell, Reservations, cells},
    settings::ConnectorSettings,
    table::{Column, Columns, Definition, expected_repr},
};
use crate::{VerifyError, fold::PartitionFold};
use cdc_model::units::{Failure, SchemaId};
use cdc_pipeline::client::{ClientError, connect::ConnectorConfig};

fn ty(display: &str, base: &str, typmod: i32) -> PgType {
    PgType::new(display, base, "b", typmod, None)
}

fn array_of(display: &str, base: &str, typmod: i32) -> PgType {
    let element = ty(display.trim_end_matches("[]"), base, typmod);
    PgType::new(display, &format!("_{base}"), "b", typmod, Some(element))
}

/// How the two go together, and the event's text.
pub(super) fn compare(raw: &Raw<'_>, repr: &Repr, ty: &PgType, binary: Binary, table: &str) -> (Match, String) {
    let mut out = Vec::new();
    assert_eq!(Renderer::new(binary, HOLD.into()).render(&mut out, raw, repr, ty), Tag::Text, "{raw:?}");
    let text = String::from_utf8(out).unwrap();
    let full = canonical(&text, Side::Event, ty);
    let loss = Loss::of(repr, ty);
    let event = loss.map_or(full.clone(), |loss| cut(&full, loss, ty)).into_owned();
    let cell = Cell::Reserved(Reservations { loss, ..Reservations::default() }, event.as_bytes());
    let found = compared(Cell::Text(table.as_bytes()), cell, std::slice::from_ref(repr), ty, HOLD.as_bytes());
    (found, event)
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
#[case::real_on_the_edge_of_its_digits(Raw::Double(67108896.0), Repr::Double, ty("real", "float4", -1), "6.7108896e+07", "6.71089e+08")]
#[case::real_of_more_digits(Raw::Float(0.1), Repr::Double, ty("real", "float4", -1), "0.100000001", "0.10000001")]
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
#[case::money_double(
    Raw::Double(1234567890123456.0),
    Repr::Double,
    ty("money", "money", -1),
    "$1,234,567,890,123,456.00",
    "$1,234,567,890,123,457.00"
)]
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
#[case::time_connect(Raw::Int(45296123), Repr::ConnectTime, ty("time", "time", -1), "12:34:56.123456", "12:34:56.124")]
#[case::time_millis(Raw::Int(45296123), Repr::TimeMillis, ty("time", "time", -1), "12:34:56.123", "12:34:56.123456")]
#[case::time_end(Raw::Int(86400000000), Repr::TimeMicros, ty("time", "time", -1), "24:00:00", "00:00:00")]
#[case::time_nanos(Raw::Int(45296123456000), Repr::TimeNanos, ty("time", "time", -1), "12:34:56.123456", "12:34:56")]
#[case::time_iso(Raw::Str("00:00:00Z"), Repr::IsoTime, ty("time", "time", -1), "24:00:00", "00:00:01")]
#[case::timetz(Raw::Str("18:29:59.5Z"), Repr::ZonedTime, ty("timetz", "timetz", -1), "23:59:59.5+05:30", "18:29:59.5+01")]
#[case::timestamp(Raw::Int(1709210096123456), Repr::TimestampMicros, ty("timestamp", "timestamp", -1), "2024-02-29 12:34:56.123456", "2024-02-29 12:34:56.123457")]
#[case::timestamp_connect(Raw::Int(-1), Repr::ConnectTimestamp, ty("timestamp", "timestamp", -1), "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00")]
#[case::timestamp_millis(Raw::Int(-1), Repr::TimestampMillis, ty("timestamp", "timestamp", -1), "1969-12-31 23:59:59.999", "1969-12-31 23:59:59.999999")]
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
#[case::vector_of_whole_numbers(Raw::Array(vec![Raw::Int(1), Raw::Int(-2)]), Repr::Vector, ty("vector(2)", "vector", 2), "[1,-2]", "[1,2]")]
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
    let (found, text) = compare(&raw, &repr, &ty, Binary::Bytes, same);
    assert!(matches!(found, Match::Equal | Match::Within(_)), "{text:?} is not {same:?}");
    let (found, text) = compare(&raw, &repr, &ty, Binary::Bytes, other);
    assert_eq!(found, Match::Different, "{text:?} passes for {other:?}");
}

/// PostgreSQL prints an exponent from 1e6 on in a `real` and from 1e15 on in a `double precision`.
#[rstest]
#[case::real("real", "float4", "1.234567e+06")]
#[case::double("double precision", "float8", "1234567")]
fn a_json_number_is_printed_with_the_precision_of_its_column(
    #[case] display: &str,
    #[case] base: &str,
    #[case] printed: &str,
) {
    let mut out = Vec::new();
    let renderer = Renderer::new(Binary::Bytes, HOLD.into());
    assert_eq!(renderer.render(&mut out, &Raw::Double(1234567.0), &Repr::Double, &ty(display, base, -1)), Tag::Text);
    assert_eq!(String::from_utf8(out).unwrap(), printed);
}

#[rstest]
#[case("org.apache.kafka.connect.data.Decimal", Repr::Decimal(3))]
#[case("io.debezium.data.VariableScaleDecimal", Repr::VariableDecimal)]
#[case("io.debezium.time.Date", Repr::Date)]
#[case("org.apache.kafka.connect.data.Date", Repr::Date)]
#[case("io.debezium.time.Time", Repr::TimeMillis)]
#[case("org.apache.kafka.connect.data.Time", Repr::ConnectTime)]
#[case("io.debezium.time.MicroTime", Repr::TimeMicros)]
#[case("io.debezium.time.NanoTime", Repr::TimeNanos)]
#[case("io.debezium.time.Timestamp", Repr::TimestampMillis)]
#[case("org.apache.kafka.connect.data.Timestamp", Repr::ConnectTimestamp)]
#[case("io.debezium.time.MicroTimestamp", Repr::TimestampMicros)]
#[case("io.debezium.time.NanoTimestamp", Repr::TimestampNanos)]
#[case("io.debezium.time.ZonedTimestamp", Repr::ZonedTimestamp)]
#[case("io.debezium.time.ZonedTime", Repr::ZonedTime)]
#[case("io.debezium.time.IsoDate", Repr::IsoDate)]
#[case("io.debezium.time.IsoTime", Repr::IsoTime)]
#[case("io.debezium.time.IsoTimestamp", Repr::IsoTimestamp)]
#[case("io.debezium.time.MicroDuration", Repr::MicroDuration)]
#[case("io.debezium.time.NanoDuration", Repr::NanoDuration)]
#[case("io.debezium.time.Interval", Repr::IsoInterval)]
#[case("io.debezium.data.Bits", Repr::Bits)]
#[case("io.debezium.data.geometry.Point", Repr::Point)]
#[case("io.debezium.data.DoubleVector", Repr::Vector)]
#[case("io.debezium.data.FloatVector", Repr::Vector)]
#[case("io.debezium.data.Json", Repr::Plain)]
fn the_name_of_a_schema_says_how_its_values_are_expressed(#[case] name: &str, #[case] repr: Repr) {
    assert_eq!(Repr::named(name, Some(3), false), repr);
}

#[rstest]
#[case(Binary::Base64, "AP8Qqw==")]
#[case(Binary::Base64UrlSafe, "AP8Qqw==")]
#[case(Binary::Hex, "00ff10ab")]
fn bytea_as_text(#[case] mode: Binary, #[case] text: &'static str) {
    let (found, _) = compare(&Raw::Str(text), &Repr::Plain, &ty("bytea", "bytea", -1), mode, "\\x00ff10ab");
    assert_eq!(found, Match::Equal);
}

#[rstest]
#[case::text(Raw::Str(HOLD), ty("text", "text", -1))]
#[case::bytes(Raw::Bytes(HOLD.as_bytes()), ty("bytea", "bytea", -1))]
#[case::base64(Raw::Str("X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="), ty("bytea", "bytea", -1))]
#[case::unknown_in_json(Raw::Str("X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="), ty("comp", "comp", -1))]
#[case::geometric_in_json(Raw::Str("X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="), ty("polygon", "polygon", -1))]
#[case::texts(Raw::Array(vec![Raw::Str(HOLD)]), array_of("text[]", "text", -1))]
#[case::ints(Raw::Array(HOLD.bytes().map(|b| Raw::Int(b.into())).collect()), array_of("integer[]", "int4", -1))]
#[case::byteas(Raw::Array(vec![Raw::Bytes(HOLD.as_bytes())]), array_of("bytea[]", "bytea", -1))]
#[case::byteas_in_json(Raw::Array(vec![Raw::Str("X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==")]), array_of("bytea[]", "bytea", -1))]
#[case::dates(Raw::Array(HOLD.bytes().map(|b| Raw::Int(b.into())).collect()), array_of("date[]", "date", -1))]
#[case::uuids(Raw::Array(vec![Raw::Str("b68a35a7-17ad-35b3-af2a-ae46edb4545a")]), array_of("uuid[]", "uuid", -1))]
#[case::map(Raw::Struct(vec![(HOLD, Raw::Str(HOLD))]), ty("hstore", "hstore", -1))]
#[case::json(Raw::Str(r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#), ty("hstore", "hstore", -1))]
fn every_form_of_the_placeholder_is_known(#[case] raw: Raw<'static>, #[case] ty: PgType) {
    let renderer = Renderer::new(Binary::Bytes, HOLD.into());
    assert_eq!(renderer.render(&mut Vec::new(), &raw, &Repr::Plain, &ty), Tag::Unavailable);
}

const HOLD: &str = "__debezium_unavailable_value";

#[test]
fn a_struct_of_another_name_is_not_comparable() {
    let renderer = Renderer::new(Binary::Bytes, HOLD.into());
    let raw = Raw::Struct(vec![("wkb", Raw::Bytes(&[1])), ("srid", Raw::Null)]);
    let repr = Repr::named("io.debezium.data.geometry.Geometry", None, true);
    let geometry = ty("geometry", "geometry", -1);
    assert_eq!(renderer.render(&mut Vec::new(), &raw, &repr, &geometry), Tag::Opaque);
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
        // It changes what the worker's CPU does for a record and not the record.
        ("value.converter.apicurio.registry.schema-resolver", "cdc.drill.CachingSchemaResolver"),
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
#[case("topic.naming.strategy", "com.example.SchemaTopicNamingStrategy")]
#[case("topic.naming.strategy", "io.debezium.schema.DefaultTopicNamingStrategy")]
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

#[rstest]
#[case("decimal.handling.mode", "doubles", "did you mean `double`?")]
#[case("decimal.handling.mode", "bigdecimal", "leave the setting out for `precise`")]
#[case("time.precision.mode", "adaptive_time_microsecond", "did you mean `adaptive_time_microseconds`?")]
#[case("plugin.name", "wal2json", "set it to `pgoutput`")]
fn the_hint_at_a_value_is_about_the_setting(#[case] setting: &str, #[case] value: &str, #[case] hint: &str) {
    let error = ConnectorSettings::parse("shop", &config(&[(setting, value)])).unwrap_err();
    assert_eq!(error.hints().into_iter().map(|hint| hint.to_string()).collect::<Vec<_>>(), [hint]);
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

fn json_settings(extra: &[(&str, &str)]) -> Arc<ConnectorSettings> {
    let json = "org.apache.kafka.connect.json.JsonConverter";
    let mut all = vec![
        ("key.converter", json),
        ("key.converter.schemas.enable", "false"),
        ("value.converter", json),
        ("value.converter.schemas.enable", "false"),
    ];
    all.extend(extra);
    Arc::new(ConnectorSettings::parse("shop", &config(&all)).unwrap())
}

fn json_decoder(settings: &Arc<ConnectorSettings>, list: &[(&str, PgType)], definition: Option<Definition>) -> Decoder {
    let column = |(name, ty): &(&str, PgType)| Column {
        name: (*name).into(),
        ty: ty.clone(),
        generated: false,
        unpublished: false,
    };
    let columns = Columns::new(list.iter().map(column).collect(), settings.adjust);
    let columns = columns.defined(definition.into_iter().cycle().take(list.len()).collect());
    Decoder::new(settings.clone(), Arc::new(columns), Arc::new(Schemas::new(|_| Ok(None))), "public", "t")
}

#[rstest]
#[case::boolean(ty("boolean", "bool", -1), ("", ""), Repr::Plain)]
#[case::real(ty("real", "float4", -1), ("", ""), Repr::Double)]
#[case::numeric(ty("numeric(10,2)", "numeric", NUMERIC), ("", ""), Repr::Decimal(2))]
#[case::numeric_without_a_scale(ty("numeric", "numeric", -1), ("", ""), Repr::VariableDecimal)]
#[case::numeric_as_text(ty("numeric(10,2)", "numeric", NUMERIC), ("decimal.handling.mode", "string"), Repr::Plain)]
#[case::numeric_as_double(ty("numeric(10,2)", "numeric", NUMERIC), ("decimal.handling.mode", "double"), Repr::Double)]
#[case::money(ty("money", "money", -1), ("", ""), Repr::Decimal(2))]
#[case::money_of_three_digits(ty("money", "money", -1), ("money.fraction.digits", "3"), Repr::Decimal(3))]
#[case::money_as_text(ty("money", "money", -1), ("decimal.handling.mode", "string"), Repr::Plain)]
#[case::money_as_double(ty("money", "money", -1), ("decimal.handling.mode", "double"), Repr::Double)]
#[case::bytea(ty("bytea", "bytea", -1), ("", ""), Repr::Bytes)]
#[case::bytea_as_text(ty("bytea", "bytea", -1), ("binary.handling.mode", "hex"), Repr::Plain)]
#[case::one_bit(ty("bit(1)", "bit", 1), ("", ""), Repr::Plain)]
#[case::bits(ty("bit(8)", "bit", 8), ("", ""), Repr::Bits)]
#[case::date(ty("date", "date", -1), ("", ""), Repr::Date)]
#[case::date_as_text(ty("date", "date", -1), ("time.precision.mode", "isostring"), Repr::IsoDate)]
#[case::time_of_three_digits(ty("time(3)", "time", 3), ("", ""), Repr::TimeMillis)]
#[case::time_of_four_digits(ty("time(4)", "time", 4), ("", ""), Repr::TimeMicros)]
#[case::timestamp_of_three_digits(ty("timestamp(3)", "timestamp", 3), ("", ""), Repr::TimestampMillis)]
#[case::timestamp_of_four_digits(ty("timestamp(4)", "timestamp", 4), ("", ""), Repr::TimestampMicros)]
#[case::timetz(ty("timetz", "timetz", -1), ("", ""), Repr::ZonedTime)]
#[case::timestamptz(ty("timestamptz", "timestamptz", -1), ("", ""), Repr::ZonedTimestamp)]
#[case::interval(ty("interval", "interval", -1), ("", ""), Repr::MicroDuration)]
#[case::interval_as_text(ty("interval", "interval", -1), ("interval.handling.mode", "string"), Repr::IsoInterval)]
#[case::point(ty("point", "point", -1), ("", ""), Repr::Point)]
#[case::vector(ty("vector(2)", "vector", 2), ("", ""), Repr::Vector)]
#[case::array(array_of("date[]", "date", -1), ("", ""), Repr::Array(Box::new(Repr::Date)))]
fn without_a_schema_the_settings_say_how_a_column_is_expressed(
    #[case] ty: PgType,
    #[case] setting: (&str, &str),
    #[case] repr: Repr,
) {
    let extra = if setting.0.is_empty() { vec![] } else { vec![setting] };
    assert_eq!(expected_repr(&ty, &json_settings(&extra)), repr);
}

/// What the transform's settings make of a record, and the last column's cell.
fn unwrapped(extra: &[(&str, &str)], column: &str, field: &str, record: &str) -> (Op, bool, String) {
    let mut all = vec![("transforms", "u"), ("transforms.u.type", "io.debezium.transforms.ExtractNewRecordState")];
    all.extend(extra);
    let settings = json_settings(&all);
    let list = [("id", ty("integer", "int4", -1)), (column, ty("boolean", "bool", -1))];
    let mut decoder = json_decoder(&settings, &list, None);
    let event = decoder.decode(Some(br#"{"id":1}"#), Some(record.as_bytes())).unwrap();
    let (op, row) = (event.meta.op, event.after.or(event.before).unwrap().to_vec());
    let cell = cells(&row).nth(1).unwrap().shown();
    assert!(!decoder.extra_fields().contains(field), "{field} is the transform's or a column");
    (op, cells(&row).next() == Some(Cell::Text(b"1")), cell)
}

const REWRITE: (&str, &str) = ("transforms.u.delete.tombstone.handling.mode", "rewrite");
const ADD_OP: (&str, &str) = ("transforms.u.add.fields", "op");
const PREFIX: (&str, &str) = ("transforms.u.add.fields.prefix", "is_");

#[rstest]
#[case::a_column_that_says_deleted(&[], "is_deleted", r#"{"id":1,"is_deleted":true}"#, Op::Upsert, "t")]
#[case::with_an_operation(&[ADD_OP], "is_deleted", r#"{"id":1,"is_deleted":true,"__op":"u"}"#, Op::Update, "t")]
#[case::of_the_transforms_name(&[], "__deleted", r#"{"id":1,"__deleted":true}"#, Op::Upsert, "t")]
#[case::of_the_transforms_name_and_value(&[], "__deleted", r#"{"id":1,"__deleted":"true"}"#, Op::Upsert, "true")]
#[case::with_a_prefix_that_makes_it_one(&[ADD_OP, PREFIX], "is_deleted", r#"{"id":1,"is_deleted":true,"is_op":"c"}"#, Op::Create, "t")]
#[case::beside_the_transforms_own(&[REWRITE], "is_deleted", r#"{"id":1,"is_deleted":true,"__deleted":"false"}"#, Op::Upsert, "t")]
#[case::rewritten_beside_a_column_of_a_like_name(&[REWRITE], "--deleted", r#"{"id":1,"--deleted":false,"__deleted":"true"}"#, Op::Delete, "f")]
#[case::rewritten(&[REWRITE], "is_deleted", r#"{"id":1,"is_deleted":false,"__deleted":"true"}"#, Op::Delete, "f")]
#[case::rewritten_with_a_prefix(&[REWRITE, ADD_OP, PREFIX], "done", r#"{"id":1,"done":false,"__deleted":"true","is_op":"d"}"#, Op::Delete, "f")]
#[case::rewritten_with_a_tombstone(
    &[("transforms.u.delete.tombstone.handling.mode", "rewrite-with-tombstone")], "done",
    r#"{"id":1,"done":false,"__deleted":"true"}"#, Op::Delete, "f"
)]
#[case::by_the_older_setting(&[("transforms.u.delete.handling.mode", "rewrite")], "done", r#"{"id":1,"done":true,"__deleted":"true"}"#, Op::Delete, "t")]
#[case::the_newer_setting_counts(
    &[("transforms.u.delete.handling.mode", "rewrite"), ("transforms.u.delete.tombstone.handling.mode", "tombstone")],
    "__deleted", r#"{"id":1,"__deleted":true}"#, Op::Upsert, "t"
)]
fn what_a_record_did_is_read_from_the_transforms_fields_alone(
    #[case] settings: &[(&str, &str)],
    #[case] column: &str,
    #[case] record: &str,
    #[case] op: Op,
    #[case] value: &str,
) {
    assert_eq!(unwrapped(settings, column, "__deleted", record), (op, true, value.to_owned()));
}

#[test]
fn a_truncate_does_not_pass_the_unwrapping_transform() {
    let unwrap = [("transforms", "u"), ("transforms.u.type", "io.debezium.transforms.ExtractNewRecordState")];
    let both = [unwrap[0], unwrap[1], ("skipped.operations", "none")];
    assert!(json_settings(&[("skipped.operations", "none")]).writes_truncates());
    assert!(!json_settings(&both).writes_truncates());
}

#[rstest]
#[case::envelope(&[], r#"{"before":null,"after":{"v":1,"gone":2},"source":{},"op":"c"}"#)]
#[case::unwrapped(&UNWRAPPED, r#"{"v":1,"gone":2}"#)]
#[case::unwrapped_with_fields_of_the_transform(
    &[UNWRAPPED[0], UNWRAPPED[1], ("transforms.u.add.fields", "op")], r#"{"v":1,"__op":"c","gone":2}"#
)]
fn a_field_that_is_no_column_is_noted(#[case] extra: &[(&str, &str)], #[case] record: &str) {
    let mut decoder = json_decoder(&json_settings(extra), &[("v", ty("integer", "int4", -1))], None);
    decoder.decode(None, Some(record.as_bytes())).unwrap();
    assert_eq!(decoder.extra_fields().iter().collect::<Vec<_>>(), ["gone"]);
}

const UNWRAPPED: [(&str, &str); 2] =
    [("transforms", "u"), ("transforms.u.type", "io.debezium.transforms.ExtractNewRecordState")];

/// Where the worker's converter is used, the records themselves show whether they carry schemas.
#[rstest]
#[case::payload(r#"{"id":1,"payload":"a"}"#, [Cell::Text(b"1"), Cell::Absent, Cell::Text(b"a")])]
#[case::schema(r#"{"id":1,"schema":"a"}"#, [Cell::Text(b"1"), Cell::Text(b"a"), Cell::Absent])]
#[case::both(r#"{"id":1,"schema":"a","payload":"b"}"#, [Cell::Text(b"1"), Cell::Text(b"a"), Cell::Text(b"b")])]
#[case::with_a_schema(r#"{"schema":null,"payload":{"id":1,"payload":"a"}}"#, [Cell::Text(b"1"), Cell::Absent, Cell::Text(b"a")])]
fn columns_named_schema_and_payload_make_no_record_with_a_schema(#[case] record: &str, #[case] row: [Cell<'_>; 3]) {
    let settings = json_settings(&[UNWRAPPED[0], UNWRAPPED[1], ("key.converter", ""), ("value.converter", "")]);
    let text = |name| (name, ty("text", "text", -1));
    let list = [("id", ty("integer", "int4", -1)), text("schema"), text("payload")];
    let mut decoder = json_decoder(&settings, &list, None);
    let event = decoder.decode(None, Some(record.as_bytes())).unwrap();
    assert_eq!(cells(event.after.unwrap()).collect::<Vec<_>>(), row);
}

#[rstest]
#[case::millis(r#""ts_ms":5"#, 5_000_000)]
#[case::micros(r#""ts_us":5"#, 5_000)]
#[case::nanos(r#""ts_ns":5"#, 5)]
#[case::the_finest_of_all(r#""ts_ms":1,"ts_us":1234,"ts_ns":1234567"#, 1_234_567)]
#[case::none(r#""ts":5"#, 0)]
fn when_an_event_was_made_is_in_nanoseconds(#[case] fields: &str, #[case] nanos: i64) {
    let mut decoder = json_decoder(&json_settings(&[]), &[("v", ty("integer", "int4", -1))], None);
    let record = format!(r#"{{"before":null,"after":{{"v":1}},"source":{{}},"op":"c",{fields}}}"#);
    assert_eq!(decoder.decode(None, Some(record.as_bytes())).unwrap().meta.made_ns, nanos);
}

/// Folds records of one key, as JSON values of the column `v` with their operations, and compares the row with the table's.
fn folded(setting: &str, ty: &PgType, records: &[(&str, &str)], table: &str) -> Match {
    let settings = json_settings(&[("unavailable.value.placeholder", setting)]);
    let mut decoder = json_decoder(&settings, &[("v", ty.clone())], None);
    let mut fold = PartitionFold::new(0, false, None);
    for (offset, (op, value)) in records.iter().enumerate() {
        let record = format!(r#"{{"before":null,"after":{{"v":{value}}},"source":{{"lsn":{offset}}},"op":"{op}"}}"#);
        // The key is the value's place: a constant column is not needed for it.
        let event = decoder.decode(None, Some(record.as_bytes())).unwrap();
        fold.apply(&Event { key: Some(b"\x06k"), ..event }, offset as i64);
    }
    let entry = fold.keyed.values().next().unwrap();
    let event = cells(&entry.row).next().unwrap();
    compared(Cell::Text(table.as_bytes()), event, &decoder.reprs()[0], ty, setting.as_bytes())
}

#[rstest]
#[case::created_as_the_placeholder(HOLD, &[("c", json!(HOLD))], HOLD, true)]
#[case::read_as_the_placeholder(HOLD, &[("r", json!(HOLD))], HOLD, true)]
#[case::created_so_and_then_left_alone(HOLD, &[("c", json!(HOLD)), ("u", json!(HOLD))], HOLD, true)]
#[case::changed_to_it_from_what_is_never_out_of_line(HOLD, &[("c", json!("short")), ("u", json!(HOLD))], HOLD, true)]
#[case::an_unchanged_value(HOLD, &[("c", json!("x".repeat(9000))), ("u", json!(HOLD))], "x", false)]
#[case::a_short_value_is_never_unchanged(HOLD, &[("c", json!("short")), ("u", json!(HOLD))], "short", false)]
#[case::no_placeholder_and_empty(NOTHING, &[("c", json!(""))], "", true)]
#[case::emptied_without_a_placeholder(NOTHING, &[("c", json!("short")), ("u", json!(""))], "", true)]
#[case::emptied_and_not(NOTHING, &[("c", json!("short")), ("u", json!(""))], "short", false)]
#[case::without_an_earlier_value(HOLD, &[("u", json!(HOLD))], "long", false)]
fn a_text_that_looks_like_the_placeholder(
    #[case] setting: &str,
    #[case] records: &[(&str, Value)],
    #[case] table: &str,
    #[case] equal: bool,
) {
    let records: Vec<(&str, String)> = records.iter().map(|(op, v)| (*op, v.to_string())).collect();
    let records: Vec<(&str, &str)> = records.iter().map(|(op, v)| (*op, v.as_str())).collect();
    let found = folded(setting, &ty("text", "text", -1), &records, table);
    assert_eq!(found, if equal { Match::Equal } else { Match::Different });
}

const NOTHING: &str = "";

#[test]
fn an_unchanged_value_is_the_earlier_one_or_cannot_be_told_from_the_placeholder() {
    let long = "x".repeat(9000);
    let records = [("c", json!(long).to_string()), ("u", json!(HOLD).to_string())];
    let records: Vec<(&str, &str)> = records.iter().map(|(op, v)| (*op, v.as_str())).collect();
    let text = ty("text", "text", -1);
    assert_eq!(folded(HOLD, &text, &records, &long), Match::Equal);
    assert!(
        matches!(folded(HOLD, &text, &records, HOLD), Match::Undecided(_)),
        "changed to the very text, or left alone"
    );
}

#[test]
fn an_array_is_its_elements_and_not_a_placeholder() {
    let list = array_of("text[]", "text", -1);
    let texts = json!(["a", HOLD]).to_string();
    assert_eq!(folded(HOLD, &list, &[("u", &texts)], &format!("{{a,{HOLD}}}")), Match::Equal);
    let ints = array_of("integer[]", "int4", -1);
    assert_eq!(folded(NOTHING, &ints, &[("c", "[]"), ("u", "[]")], "{}"), Match::Equal);
    let uuid = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";
    let uuids = array_of("uuid[]", "uuid", -1);
    let (before, hold) = (json!(["00000000-0000-0000-0000-000000000001"]).to_string(), json!([uuid]).to_string());
    let records = [("c", before.as_str()), ("u", hold.as_str())];
    assert_eq!(folded(HOLD, &uuids, &records, "{00000000-0000-0000-0000-000000000001}"), Match::Equal);
}

const CREATED: u32 = 100;
const ALTERED: Definition = Definition { xid: 200, original: false, rewritten: true };

/// A record without a schema of the transaction, under the definition of the column.
fn bare(ty: &PgType, definition: Definition, tx: Option<u64>, value: &str, table: &str) -> Match {
    let settings = json_settings(&[]);
    let mut decoder = json_decoder(&settings, &[("v", ty.clone())], Some(definition));
    let tx = tx.map_or("null".to_owned(), |tx| tx.to_string());
    let record =
        format!(r#"{{"before":null,"after":{{"v":{value}}},"source":{{"lsn":1,"txId":{tx}}},"op":"c","ts_ms":1}}"#);
    let event = decoder.decode(None, Some(record.as_bytes())).unwrap();
    let after = event.after.unwrap().to_vec();
    compared(Cell::Text(table.as_bytes()), cells(&after).next().unwrap(), &decoder.reprs()[0], ty, HOLD.as_bytes())
}

/// What is known: 0 that they differ, 1 that they are equal, 2 neither.
fn known_of(found: &Match) -> u8 {
    match found {
        Match::Different => 0,
        Match::Equal => 1,
        Match::Undecided(_) => 2,
        other => panic!("{other:?}"),
    }
}

/// `numeric(12,4)`; the record has the unscaled number 150.
#[rstest]
#[case::before_the_change_as_today(ALTERED, Some(150), "0.0150", 2)]
#[case::before_the_change_as_then(ALTERED, Some(150), "1.5000", 2)]
#[case::before_the_change_and_another(ALTERED, Some(150), "2.5000", 0)]
#[case::before_the_change_and_negative(ALTERED, Some(150), "-1.5000", 0)]
#[case::after_the_change(ALTERED, Some(250), "0.0150", 1)]
#[case::after_the_change_and_another(ALTERED, Some(250), "1.5000", 0)]
#[case::by_the_change_itself(ALTERED, Some(200), "0.0150", 1)]
#[case::of_no_transaction(ALTERED, None, "0.0150", 2)]
#[case::of_no_transaction_and_never_changed(Definition { xid: CREATED, original: true, rewritten: true }, None, "0.0150", 1)]
#[case::never_written_anew(Definition { rewritten: false, ..ALTERED }, Some(150), "0.0150", 1)]
#[case::never_written_anew_and_another(Definition { rewritten: false, ..ALTERED }, Some(150), "1.5000", 0)]
#[case::in_the_next_epoch(ALTERED, Some((1 << 32) + 250), "0.0150", 1)]
#[case::before_the_wrap(ALTERED, Some((1 << 32) - 50), "0.0150", 2)]
fn a_decimal_without_a_schema(
    #[case] definition: Definition,
    #[case] tx: Option<u64>,
    #[case] table: &str,
    #[case] known: u8,
) {
    let column = ty("numeric(12,4)", "numeric", ((12 << 16) | 4) + 4);
    let found = bare(&column, definition, tx, "\"AJY=\"", table);
    assert_eq!(known_of(&found), known, "{found:?}");
}

#[test]
fn what_every_definition_agrees_on_is_known() {
    let column = ty("numeric(12,4)", "numeric", ((12 << 16) | 4) + 4);
    assert_eq!(bare(&column, ALTERED, Some(150), "\"AA==\"", "0.0000"), Match::Equal);
    assert_eq!(bare(&column, ALTERED, Some(150), "\"AA==\"", "0.0001"), Match::Different);
    // The scale stands in the value of a column that had none.
    assert_eq!(bare(&column, ALTERED, Some(150), r#"{"scale":2,"value":"AJY="}"#, "1.5000"), Match::Equal);
    assert_eq!(bare(&column, ALTERED, Some(150), r#"{"scale":2,"value":"AJY="}"#, "0.0150"), Match::Different);
    // And of one that has none any more it is not known at all.
    let free = ty("numeric", "numeric", -1);
    let widened = Definition { rewritten: false, ..ALTERED };
    assert!(matches!(bare(&free, widened, Some(150), "\"AJY=\"", "1.50"), Match::Undecided(_)));
    assert_eq!(bare(&free, widened, Some(150), "\"AJY=\"", "2.50"), Match::Different);
}

#[rstest]
#[case::then(150, "2024-02-29 12:34:56.123", 2)]
#[case::after(250, "2024-02-29 12:34:56.123", 0)]
#[case::today(150, "1970-01-20 18:46:50.096123", 1)]
#[case::neither(150, "2024-02-29 12:34:56.124", 0)]
fn a_time_without_a_schema(#[case] tx: u64, #[case] table: &str, #[case] known: u8) {
    let widened = Definition { rewritten: false, ..ALTERED };
    let column = ty("timestamp(6) without time zone", "timestamp", 6);
    let found = bare(&column, widened, Some(tx), "1709210096123", table);
    assert_eq!(known_of(&found), known, "{found:?}");
}

#[test]
fn a_key_without_a_schema_may_be_of_another_definition() {
    let column = ty("numeric(12,4)", "numeric", ((12 << 16) | 4) + 4);
    let settings = json_settings(&[]);
    for (tx, doubtful) in [(150, true), (250, false)] {
        let mut decoder = json_decoder(&settings, &[("v", column.clone())], Some(ALTERED));
        let record = format!(r#"{{"before":null,"after":{{"v":"AJY="}},"source":{{"txId":{tx}}},"op":"c","ts_ms":1}}"#);
        decoder.decode(Some(br#"{"v":"AJY="}"#), Some(record.as_bytes())).unwrap();
        decoder.decode(Some(br#"{"v":"AJY="}"#), None).unwrap();
        assert_eq!(decoder.key_redefined(), doubtful);
    }
}

/// Without a scale of the column's the value says its own; one that says none is of a column that had one.
#[rstest]
#[case::says_it(r#"{"scale":2,"value":"AJY="}"#, false)]
#[case::says_none("\"AJY=\"", true)]
fn a_key_of_a_numeric_without_a_scale(#[case] value: &str, #[case] doubtful: bool) {
    let settings = json_settings(&[]);
    let definition = Definition { rewritten: false, ..ALTERED };
    let mut decoder = json_decoder(&settings, &[("v", ty("numeric", "numeric", -1))], Some(definition));
    let record = format!(r#"{{"before":null,"after":{{"v":{value}}},"source":{{"txId":250}},"op":"c","ts_ms":1}}"#);
    decoder.decode(Some(format!(r#"{{"v":{value}}}"#).as_bytes()), Some(record.as_bytes())).unwrap();
    assert_eq!(decoder.key_redefined(), doubtful);
}

#[test]
fn an_isbn_is_text_whatever_becomes_of_types_that_are_not_known() {
    let isbn = ty("isbn", "isbn", -1);
    assert_eq!(bare(&isbn, ALTERED, Some(250), "\"0-393-04002-X\"", "0-393-04002-X"), Match::Equal);
    assert_eq!(bare(&isbn, ALTERED, Some(250), "\"0-393-04002-X\"", "3-16-148410-X"), Match::Different);
}

/// Two expressions in one topic, as after a change of `time.precision.mode`: each record is compared as it was expressed.
#[test]
fn each_record_is_compared_as_it_was_expressed() {
    let column = ty("timestamp without time zone", "timestamp", -1);
    let reprs = [Repr::ConnectTimestamp, Repr::TimestampMicros];
    let (table, cut) = ("2024-02-29 12:34:56.123456", "2024-02-29 12:34:56.123");
    let reserved = Reservations { loss: Some(Loss::Millis), ..Reservations::default() };
    let of = |cell| compared(Cell::Text(table.as_bytes()), cell, &reprs, &column, HOLD.as_bytes());
    assert_eq!(of(Cell::Reserved(reserved, cut.as_bytes())), Match::Within(Loss::Millis));
    assert_eq!(of(Cell::Text(cut.as_bytes())), Match::Different, "microseconds that are not the table's");
}

/// The test's own dependencies turn exact numbers on in every build of tests: the program's must too.
#[test]
fn the_program_reads_json_numbers_exactly() {
    let manifest: toml::Table = include_str!("../../../../Cargo.toml").parse().unwrap();
    let features = manifest["workspace"]["dependencies"]["serde_json"]["features"].as_array().unwrap();
    assert!(features.iter().any(|feature| feature.as_str() == Some("float_roundtrip")), "{features:?}");
    assert_eq!(serde_json::from_str::<f64>("0.9999999999999999").unwrap(), 0.9999999999999999);
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
    value_record_of(id, "false")
}

fn value_record_of(id: u32, snapshot: &str) -> Vec<u8> {
    let mut out = framed(id);
    int(&mut out, 0);
    int(&mut out, 1);
    int(&mut out, 42);
    int(&mut out, 1);
    int(&mut out, 19782);
    int(&mut out, 0);
    text(&mut out, "3.6.3.Final");
    int(&mut out, 1);
    text(&mut out, snapshot);
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

/// Of a table with `id`, `n` and `d`.
fn decoder_with(settings: &[(&str, &str)], schemas: Arc<Schemas>) -> Decoder {
    let settings = Arc::new(ConnectorSettings::parse("shop", &config(settings)).unwrap());
    let column = |name: &str, base: &str| Column {
        name: name.into(),
        ty: ty(base, base, -1),
        generated: false,
        unpublished: false,
    };
    let list = vec![column("id", "int4"), column("n", "text"), column("d", "date")];
    let columns = Arc::new(Columns::new(list, field_adjustment(&settings)));
    Decoder::new(settings, columns, schemas, "public", "t")
}

fn decoder() -> Decoder {
    let other = KEY.replace("shop.public.t", "shop.public.other");
    let wider = KEY.replace("\"int\"}]", "\"int\"},{\"name\":\"b\",\"type\":[\"null\",\"int\"]}]");
    let texts: BTreeMap<u32, String> = [
        (1, KEY.to_owned()),
        (2, VALUE.to_owned()),
        (3, other),
        (4, wider),
        (5, "{".to_owned()),
        (6, "[\"null\",\"string\"]".to_owned()),
    ]
    .into();
    decoder_with(&[], Arc::new(Schemas::new(move |id: SchemaId| Ok(texts.get(&id.0).cloned()))))
}

/// `connect.meta.data=false`: the schema of a date is that of any other number.
#[test]
fn schemas_without_names_leave_the_column_to_say_what_its_values_are() {
    let nameless = VALUE.replace(r#","connect.version":1,"connect.name":"io.debezium.time.Date""#, "");
    let schemas =
        Arc::new(Schemas::new(move |id: SchemaId| Ok(Some(if id.0 == 1 { KEY.to_owned() } else { nameless.clone() }))));
    let mut decoder = decoder_with(&[("value.converter.connect.meta.data", "false")], schemas);
    let (key, value) = (key_record(1), value_record(2));
    let event = decoder.decode(Some(&key), Some(&value)).unwrap();
    let row: Vec<Cell<'_>> = cells(event.after.unwrap()).collect();
    assert_eq!(row, [Cell::Text(b"42"), Cell::Null, Cell::Text(b"2024-02-29")]);
    assert_eq!(decoder.reprs()[2], [Repr::Date]);
}

#[test]
fn a_registry_that_did_not_answer_is_asked_again() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let schemas = Arc::new(Schemas::new(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Err(ClientError::Unreachable { system: "registry", address: "r".into(), detail: "refused".into() }),
        _ => Ok(Some(KEY.to_owned())),
    }));
    let mut decoder = decoder_with(&[], schemas.clone());
    for _ in 0..2 {
        assert!(decoder.decode(Some(&key_record(1)), None).is_err());
    }
    assert!(schemas.take_unanswered().is_some());
    assert!(decoder.decode(Some(&key_record(1)), None).is_ok());
    assert!(schemas.take_unanswered().is_none());
}

#[test]
fn an_avro_envelope_becomes_an_event() {
    let mut decoder = decoder();
    let (key, value) = (key_record(1), value_record(2));
    let event = decoder.decode(Some(&key), Some(&value)).unwrap();
    assert_eq!(event.meta.op, Op::Update);
    assert_eq!((event.meta.lsn, event.meta.tx, event.meta.commit), (Some(1000), Some(77), Some(900)));
    assert_eq!(event.meta.made_ns, 5_000_000);
    assert!(!event.meta.snapshot && event.before.is_none());
    let row: Vec<Cell<'_>> = cells(event.after.unwrap()).collect();
    assert_eq!(row, [Cell::Text(b"42"), Cell::Null, Cell::Text(b"2024-02-29")], "in the table's order");
    assert_eq!(cells(event.key.unwrap()).collect::<Vec<_>>(), [Cell::Text(b"42")]);
    assert_eq!(decoder.key_columns(), Some(&[0][..]));
}

#[rstest]
#[case("false", false)]
#[case("true", true)]
#[case("first", true)]
#[case("last", true)]
#[case("incremental", true)]
fn an_avro_envelope_says_whether_it_is_of_a_snapshot(#[case] snapshot: &str, #[case] is: bool) {
    let mut decoder = decoder();
    let event = decoder.decode(Some(&key_record(1)), Some(&value_record_of(2, snapshot))).unwrap();
    assert_eq!(event.meta.snapshot, is);
}

/// A decoder is shown in debug output; the schemas of a topic are long, and no part of it.
#[test]
fn schemas_are_shown_without_their_texts() {
    let schemas = Schemas::new(|_| Ok(Some(KEY.to_owned())));
    assert_eq!(format!("{schemas:?}"), "Schemas { .. }");
}

fn refusal(key: &[u8], value: &[u8]) -> Unreadable {
    decoder().decode(Some(key), Some(value)).map(|_| ()).unwrap_err()
}

#[rstest]
#[case::unknown_id(key_record(99), value_record(2), "does not know id 99")]
#[case::id_of_another_table(key_record(3), value_record(2), "is of shop.public.other.Key")]
#[case::id_of_a_wider_schema(key_record(4), value_record(2), "ends too early")]
#[case::id_of_the_key(key_record(1), value_record(1), "without them")]
#[case::key_that_is_no_struct(key_record(6), value_record(2), "schema 6 is one of null, a string")]
#[case::not_a_schema(key_record(5), value_record(2), "not an Avro schema")]
#[case::trailing_byte(key_record(1), [value_record(2), vec![0]].concat(), "1 byte left over")]
#[case::trailing_byte_of_the_key([key_record(1), vec![0]].concat(), value_record(2), "1 byte left over")]
#[case::cut(key_record(1), value_record(2)[..30].to_vec(), "ends too early")]
#[case::no_magic_byte(key_record(1), b"{}".to_vec(), "first byte 123")]
#[case::no_id(key_record(1), vec![0, 0], "2 bytes")]
fn a_wrong_schema_is_told(#[case] key: Vec<u8>, #[case] value: Vec<u8>, #[case] found: &str) {
    let why = refusal(&key, &value);
    assert!(why.wrong_schema, "{why:?}");
    assert!(why.found.contains(found), "{why:?}");
}
