//! Rows of JSON, with and without schemas.

use std::sync::Arc;

use serde_json::Value;

use super::{
    decoder::Decoder,
    event::{Meta, Unreadable, op_of, unreadable},
    plan::{Half, Part, SourcePart, set_added, set_made, set_source},
    wire::raw_of,
};
use crate::decode::{
    schema::{Record, Typed, compile_json},
    settings::Converter,
};

impl Decoder {
    pub(super) fn json_parts<'v>(
        &mut self,
        value: &'v Value,
        converter: Converter,
        side: Half,
    ) -> Result<(&'v Value, Option<Arc<Typed>>), Unreadable> {
        let shaped =
            value.as_object().is_some_and(|o| o.len() == 2 && o.contains_key("schema") && o.contains_key("payload"));
        match converter {
            Converter::JsonBare => return Ok((value, None)),
            Converter::Worker if !shaped => return Ok((value, None)),
            _ if !shaped => return Err(unreadable("JSON with schema and payload", "JSON without them".into())),
            _ => {}
        }
        let schema = &value["schema"];
        if schema.is_null() {
            return Ok((&value["payload"], None));
        }
        if let Some((known, typed)) = self.json.get(&side)
            && known == schema
        {
            return Ok((&value["payload"], Some(typed.clone())));
        }
        let typed = compile_json(schema).map_err(|e| unreadable("a Connect schema", e))?;
        let typed = Arc::new(typed);
        self.json.insert(side, (schema.clone(), typed.clone()));
        Ok((&value["payload"], Some(typed)))
    }

    /// Renders an object's fields into the scratch row; the columns of its fields, in its order. `tx` is the record's
    /// transaction, where it names one.
    pub(super) fn json_row(
        &mut self,
        object: &serde_json::Map<String, Value>,
        record: Option<&Record>,
        tx: Option<u64>,
    ) -> Vec<Option<usize>> {
        self.scratch.begin(self.columns.list.len());
        let mut columns = Vec::with_capacity(object.len());
        for (name, value) in object {
            let column = self.column_of(name);
            columns.push(column);
            let Some(column) = column else {
                if !self.adds(name) {
                    self.extra_fields.insert(name.clone());
                }
                continue;
            };
            let raw = raw_of(value);
            let own = record.and_then(|r| r.fields.iter().find(|(n, _)| n == name)).map(|(_, t)| t.repr.clone());
            let (repr, redefined) = match own {
                Some(own) => (own, false),
                None => self.bare(column, &raw, tx),
            };
            self.note_repr(column, &repr);
            self.cell(column, &raw, &repr, redefined);
        }
        columns
    }

    pub(super) fn json_unwrapped(
        &mut self,
        object: &serde_json::Map<String, Value>,
        record: Option<&Record>,
        meta: &mut Meta,
    ) -> (bool, bool) {
        let settings = self.settings.clone();
        if let Some(unwrap) = &settings.unwrap {
            for (name, value) in object.iter().filter(|(name, _)| self.column_of(name).is_none()) {
                set_added(unwrap, name, &raw_of(value), meta);
            }
        }
        self.json_row(object, record, meta.tx);
        self.unwrapped_row(meta)
    }

    pub(super) fn json_envelope(
        &mut self,
        object: &serde_json::Map<String, Value>,
        record: Option<&Record>,
        meta: &mut Meta,
    ) -> Result<(bool, bool), Unreadable> {
        let (Some(op), Some(source)) =
            (object.get("op").and_then(Value::as_str), object.get("source").and_then(Value::as_object))
        else {
            return Err(unreadable("an envelope with op and source", "an object without them".into()));
        };
        meta.op = op_of(op);
        for (name, part) in [
            ("lsn", SourcePart::Lsn),
            ("txId", SourcePart::Tx),
            ("snapshot", SourcePart::Snapshot),
            ("sequence", SourcePart::Sequence),
        ] {
            if let Some(value) = source.get(name) {
                set_source(meta, part, &raw_of(value));
            }
        }
        for (name, part) in [("ts_ms", Part::MadeMs), ("ts_us", Part::MadeUs), ("ts_ns", Part::MadeNs)] {
            if let Some(time) = object.get(name).and_then(Value::as_i64) {
                set_made(meta, part, time);
            }
        }
        let row_record = |name: &str| {
            record.and_then(|r| r.fields.iter().find(|(n, _)| n == name)).and_then(|(_, t)| t.record()).cloned()
        };
        let mut there = [false, false];
        for (i, name) in ["before", "after"].into_iter().enumerate() {
            if let Some(row) = object.get(name).and_then(Value::as_object) {
                self.json_row(row, row_record(name).as_deref(), meta.tx);
                self.scratch.pack(if i == 0 { &mut self.before } else { &mut self.after });
                there[i] = true;
            }
        }
        Ok((there[0], there[1]))
    }
}
