//! How fast records of `pgbench_accounts` fold, without a broker: decoding, keys, and the map of the last event of each.

use std::sync::Arc;

use cdc_pipeline::client::connect::ConnectorConfig;
use cdc_verify::{
    decode::{
        pg_type::PgType,
        record::{Decoder, Schemas},
        settings::ConnectorSettings,
        table::{Column, Columns},
    },
    fold::PartitionFold,
};

const EVENTS: i64 = 100_000;
const KEYS: i64 = 50_000;

const KEY: &str =
    r#"{"type":"record","name":"Key","namespace":"b.public.pgbench_accounts","fields":[{"name":"aid","type":"int"}]}"#;
const VALUE: &str = r#"{"type":"record","name":"Envelope","namespace":"b.public.pgbench_accounts","fields":[
 {"name":"before","type":["null",{"type":"record","name":"Value","fields":[{"name":"aid","type":"int"},
   {"name":"bid","type":["null","int"]},{"name":"abalance","type":["null","int"]},{"name":"filler","type":["null","string"]}]}]},
 {"name":"after","type":["null","Value"]},
 {"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium","fields":[
   {"name":"version","type":"string"},{"name":"connector","type":"string"},{"name":"name","type":"string"},{"name":"ts_ms","type":"long"},
   {"name":"snapshot","type":["null","string"]},{"name":"db","type":"string"},{"name":"sequence","type":["null","string"]},
   {"name":"schema","type":"string"},{"name":"table","type":"string"},{"name":"txId","type":["null","long"]},{"name":"lsn","type":["null","long"]}]}},
 {"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"]}]}"#;

fn main() {
    divan::main();
}

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

/// Key and value of the event at this place.
fn record(place: i64) -> (Vec<u8>, Vec<u8>) {
    let aid = place * 7919 % KEYS;
    let mut key = vec![0, 0, 0, 0, 1];
    int(&mut key, aid);
    let mut value = vec![0, 0, 0, 0, 2];
    int(&mut value, 0);
    int(&mut value, 1);
    int(&mut value, aid);
    for number in [1, place] {
        int(&mut value, 1);
        int(&mut value, number);
    }
    int(&mut value, 1);
    text(&mut value, &" ".repeat(84));
    for constant in ["3.6.3.Final", "postgresql", "b"] {
        text(&mut value, constant);
    }
    int(&mut value, 1_795_380_191_210);
    int(&mut value, 1);
    text(&mut value, "false");
    text(&mut value, "bench");
    int(&mut value, 1);
    text(&mut value, "[\"31730096\",\"31730320\"]");
    text(&mut value, "public");
    text(&mut value, "pgbench_accounts");
    for number in [place, 31_730_320 + place] {
        int(&mut value, 1);
        int(&mut value, number);
    }
    text(&mut value, "u");
    int(&mut value, 1);
    int(&mut value, 1_795_380_192_433);
    (key, value)
}

fn decoder() -> Decoder {
    let avro = "io.confluent.connect.avro.AvroConverter";
    let config: ConnectorConfig = [
        ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
        ("plugin.name", "pgoutput"),
        ("topic.prefix", "b"),
        ("key.converter", avro),
        ("value.converter", avro),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    let settings = ConnectorSettings::parse("b", &config).unwrap_or_else(|e| panic!("{e}"));
    let column = |name: &str, base: &str| Column {
        name: name.into(),
        ty: PgType::new(base, base, "b", -1, None),
        generated: false,
        unpublished: false,
    };
    let list =
        vec![column("aid", "int4"), column("bid", "int4"), column("abalance", "int4"), column("filler", "bpchar")];
    let columns = Columns::new(list, settings.adjust);
    let schemas = Schemas::new(|id| Ok(Some(if id.0 == 1 { KEY } else { VALUE }.to_owned())));
    Decoder::new(Arc::new(settings), Arc::new(columns), Arc::new(schemas), "public", "pgbench_accounts")
}

#[divan::bench]
fn pgbench_accounts(bencher: divan::Bencher<'_, '_>) {
    let records: Vec<_> = (0..EVENTS).map(record).collect();
    bencher.counter(divan::counter::ItemsCount::new(records.len())).bench_local(|| {
        let (mut decoder, mut fold) = (decoder(), PartitionFold::new(0, false, None));
        for (offset, (key, value)) in (0..).zip(&records) {
            match decoder.decode(Some(key), Some(value)) {
                Ok(event) => fold.apply(&event, offset),
                Err(why) => panic!("{why:?}"),
            }
        }
        assert_eq!(fold.keyed.len() as i64, KEYS);
        fold
    });
}
