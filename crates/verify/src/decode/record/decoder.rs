//! The decoder of a topic: what its records have in common, and one record after the other.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::Value;

use super::{
    event::{Event, Meta, Op, Unreadable, misread, not_a, unreadable},
    plan::{EnvelopePlan, Half, Part, Plan, RowPlan, SourcePart},
    schemas::Schemas,
    wire::{Wire, json, raw_of, split, wire},
};
use crate::decode::{
    avro::Reader,
    names::{field_adjustment, field_name, schema_name},
    pg_type::PgType,
    repr::{Loss, Raw, Renderer, Repr, Side, Tag, canonical, cut},
    row::{Cell, Reservations, Scratch, cells, literal, push},
    schema::{Record, Typed},
    settings::{Adjust, ConnectorSettings, Converter},
    table::{Columns, bare_repr, expected_repr},
};
use cdc_model::units::{SchemaId, TableName, counted};

/// Decodes the records of one topic. One a thread.
#[derive(Debug)]
pub struct Decoder {
    pub(super) settings: Arc<ConnectorSettings>,
    pub(super) columns: Arc<Columns>,
    schemas: Arc<Schemas>,
    renderer: Renderer,
    expected: Vec<Repr>,
    name_starts: [String; 3],
    plans: HashMap<(SchemaId, Half), (Arc<Typed>, Arc<Plan>)>,
    pub(super) json: HashMap<Half, (Value, Arc<Typed>)>,
    reprs: Vec<Vec<Repr>>,
    key_columns: Option<Vec<usize>>,
    key_changed: bool,
    /// Columns and values of a key without a schema.
    bare_key: Vec<(usize, Value)>,
    key_redefined: bool,
    not_understood: BTreeSet<usize>,
    key_not_understood: bool,
    pub(super) extra_fields: BTreeSet<String>,
    pub(super) scratch: Scratch,
    pub(super) before: Vec<u8>,
    pub(super) after: Vec<u8>,
    key: Vec<u8>,
    formed: String,
}

impl Decoder {
    /// A decoder for the records of a table's topic. `schema` and `table` name the table.
    pub fn new(
        settings: Arc<ConnectorSettings>,
        columns: Arc<Columns>,
        schemas: Arc<Schemas>,
        schema: &str,
        table: &str,
    ) -> Decoder {
        let renderer = Renderer::new(settings.binary, settings.placeholder.clone());
        let expected: Vec<Repr> = columns.list.iter().map(|c| expected_repr(&c.ty, &settings)).collect();
        // Schemas are named after the topic. How names are adjusted may have been another when a record was written.
        let proposed = format!("{}.", settings.capture.topics.topic(&TableName::new(schema, table)));
        let name_starts = [Adjust::None, Adjust::Avro, Adjust::AvroUnicode].map(|a| flat(&schema_name(a, &proposed)));
        Decoder {
            reprs: vec![Vec::new(); columns.list.len()],
            settings,
            columns,
            schemas,
            renderer,
            expected,
            name_starts,
            plans: HashMap::new(),
            json: HashMap::new(),
            key_columns: None,
            key_changed: false,
            bare_key: Vec::new(),
            key_redefined: false,
            not_understood: BTreeSet::new(),
            key_not_understood: false,
            extra_fields: BTreeSet::new(),
            scratch: Scratch::default(),
            before: Vec::new(),
            after: Vec::new(),
            key: Vec::new(),
            formed: String::new(),
        }
    }

    /// How each column has been expressed in the records so far.
    pub(crate) fn reprs(&self) -> &[Vec<Repr>] {
        &self.reprs
    }

    /// The columns of the key, in its order, once a keyed record was seen.
    pub fn key_columns(&self) -> Option<&[usize]> {
        self.key_columns.as_deref()
    }

    /// Whether records of this topic have keys of different columns.
    pub(crate) fn key_changed(&self) -> bool {
        self.key_changed
    }

    /// Whether there are keys without a schema that may have been written under another definition of their columns.
    pub(crate) fn key_redefined(&self) -> bool {
        self.key_redefined
    }

    /// The columns of which a row had a value whose expression is not understood.
    pub fn not_understood(&self) -> &BTreeSet<usize> {
        &self.not_understood
    }

    /// Whether a key had such a value.
    pub(crate) fn key_not_understood(&self) -> bool {
        self.key_not_understood
    }

    /// Fields that are no columns of the table (any more).
    pub(crate) fn extra_fields(&self) -> &BTreeSet<String> {
        &self.extra_fields
    }

    /// Decodes one record.
    pub fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Event<'_>, Unreadable> {
        let mut meta = Meta::NONE;
        let (mut has_before, mut has_after, mut unavailable) = (false, false, false);
        let has_key = match key {
            Some(bytes) => self.decode_key(bytes, &mut meta)?,
            None => false,
        };
        match value {
            None => {
                meta.op = Op::Tombstone;
                // It names no transaction, and stands behind a delete that does.
                self.bare_key.clear();
            }
            Some(bytes) => {
                (has_before, has_after) = self.decode_value(bytes, &mut meta)?;
                self.note_key_definitions(meta.tx);
                let mut held = |packed: &[u8]| {
                    let mut held = false;
                    for (column, cell) in cells(packed).enumerate() {
                        match cell {
                            Cell::Unavailable(_) => held = true,
                            Cell::Opaque => drop(self.not_understood.insert(column)),
                            _ => {}
                        }
                    }
                    held
                };
                let (before_held, after_held) = (has_before && held(&self.before), has_after && held(&self.after));
                // The row before and a new row are whole: what looks like a placeholder there is a value.
                if before_held {
                    literal(&mut self.before);
                }
                if after_held {
                    unavailable = !matches!(meta.op, Op::Create | Op::Read);
                    if !unavailable {
                        literal(&mut self.after);
                    }
                }
            }
        }
        Ok(Event {
            meta,
            key: has_key.then_some(self.key.as_slice()),
            before: has_before.then_some(self.before.as_slice()),
            after: has_after.then_some(self.after.as_slice()),
            unavailable,
        })
    }

    fn decode_key(&mut self, bytes: &[u8], meta: &mut Meta) -> Result<bool, Unreadable> {
        if wire(self.settings.key, bytes)? == Wire::Avro {
            let (id, datum) = split(bytes)?;
            meta.key_schema = Some(id);
            let (typed, plan) = self.plan(id, Half::Key)?;
            let (Plan::Key(plan), Some(record)) = (&*plan, typed.record()) else {
                return Err(not_a("key that is a struct", &typed, id));
            };
            let mut reader = Reader::new(datum);
            let read = reader.branch(&typed).and_then(|_| self.avro_row(&mut reader, record, plan));
            read.map_err(|e| misread(id, e.to_string()))?;
            if reader.left() > 0 {
                return Err(misread(id, format!("{} left over", counted(reader.left(), "byte"))));
            }
            self.take_key(&plan.columns.clone(), record.fields.iter().map(|(n, _)| n.as_str()))?;
            return Ok(true);
        }
        let value = json(bytes)?;
        let (payload, typed) = self.json_parts(&value, self.settings.key, Half::Key)?;
        let Some(object) = payload.as_object() else { return Ok(false) };
        let record = typed.as_deref().and_then(Typed::record).map(|r| &**r);
        let columns = self.json_row(object, record, None);
        self.take_key(&columns, object.keys().map(String::as_str))?;
        if record.is_none() {
            let values = columns.iter().zip(object.values());
            self.bare_key = values.filter_map(|(column, value)| Some(((*column)?, value.clone()))).collect();
        }
        Ok(true)
    }

    /// Whether the key may have been written under another definition of its columns, now that the transaction is known.
    fn note_key_definitions(&mut self, tx: Option<u64>) {
        for (column, value) in std::mem::take(&mut self.bare_key) {
            self.key_redefined |= self.bare(column, &raw_of(&value), tx).1;
        }
    }

    /// Packs the key from the scratch row and remembers its columns.
    fn take_key<'n>(
        &mut self,
        columns: &[Option<usize>],
        names: impl Iterator<Item = &'n str>,
    ) -> Result<(), Unreadable> {
        self.key.clear();
        let mut known = Vec::with_capacity(columns.len());
        for (column, name) in columns.iter().zip(names) {
            let Some(column) = column else {
                return Err(Unreadable {
                    schema: None,
                    wrong_schema: false,
                    expected: "a key made of the table's columns".into(),
                    found: format!("key field {name}, which is no column of the table"),
                });
            };
            let cell = self.scratch.key_cell(*column);
            self.key_not_understood |= cell == Cell::Opaque;
            push(&mut self.key, cell);
            known.push(*column);
        }
        match &self.key_columns {
            Some(before) if *before != known => {
                self.key_changed = true;
                self.key_columns = Some(known);
            }
            Some(_) => {}
            None => self.key_columns = Some(known),
        }
        Ok(())
    }

    fn decode_value(&mut self, bytes: &[u8], meta: &mut Meta) -> Result<(bool, bool), Unreadable> {
        if wire(self.settings.value, bytes)? == Wire::Avro {
            let (id, datum) = split(bytes)?;
            meta.value_schema = Some(id);
            let (typed, plan) = self.plan(id, Half::Value)?;
            let Some(record) = typed.record() else { return Err(not_a("value that is a struct", &typed, id)) };
            let mut reader = Reader::new(datum);
            let read = match &*plan {
                Plan::Envelope(plan) => {
                    reader.branch(&typed).and_then(|_| self.avro_envelope(&mut reader, record, plan, meta))
                }
                Plan::Unwrapped(plan) => {
                    reader.branch(&typed).and_then(|_| self.avro_unwrapped(&mut reader, record, plan, meta))
                }
                Plan::Key(_) => return Err(not_a("value", &typed, id)),
            };
            let read = read.map_err(|e| misread(id, e.to_string()))?;
            if reader.left() > 0 {
                return Err(misread(id, format!("{} left over", counted(reader.left(), "byte"))));
            }
            return Ok(read);
        }
        let value = json(bytes)?;
        let (payload, typed) = self.json_parts(&value, self.settings.value, Half::Value)?;
        let Some(object) = payload.as_object() else {
            return if payload.is_null() {
                meta.op = Op::Tombstone;
                Ok((false, false))
            } else {
                Err(unreadable("a JSON object", payload.to_string()))
            };
        };
        let record = typed.as_deref().and_then(Typed::record).cloned();
        match self.settings.unwrap {
            Some(_) => Ok(self.json_unwrapped(object, record.as_deref(), meta)),
            None => self.json_envelope(object, record.as_deref(), meta),
        }
    }

    fn plan(&mut self, id: SchemaId, side: Half) -> Result<(Arc<Typed>, Arc<Plan>), Unreadable> {
        if let Some((typed, plan)) = self.plans.get(&(id, side)) {
            return Ok((typed.clone(), plan.clone()));
        }
        let typed = self.schemas.get(id)?;
        let Some(record) = typed.record().cloned() else { return Err(not_a("struct", &typed, id)) };
        let name = flat(&record.name);
        if !self.name_starts.iter().any(|start| name.starts_with(start.as_str())) {
            return Err(Unreadable {
                schema: Some(id),
                wrong_schema: true,
                expected: format!("a schema named {}*", self.name_starts[0]),
                found: format!("schema {id} is of {}", record.name),
            });
        }
        let plan = match (side, &self.settings.unwrap) {
            (Half::Key, _) => Plan::Key(self.row_plan(&record, self.settings.key)),
            (Half::Value, Some(_)) => Plan::Unwrapped(self.row_plan(&record, self.settings.value)),
            (Half::Value, None) => self.envelope_plan(&record, id)?,
        };
        let plan = Arc::new(plan);
        self.plans.insert((id, side), (typed.clone(), plan.clone()));
        Ok((typed, plan))
    }

    fn row_plan(&mut self, record: &Record, converter: Converter) -> RowPlan {
        let named = converter != Converter::Avro { named: false };
        let mut columns = Vec::new();
        for (name, typed) in &record.fields {
            let column = self.column_of(name);
            match column {
                Some(column) if named => self.note_repr(column, &typed.repr),
                Some(_) => {}
                None if self.adds(name) => {}
                None => drop(self.extra_fields.insert(name.clone())),
            }
            columns.push(column);
        }
        RowPlan { columns, named }
    }

    /// The column of a field. One that the connector itself names like a field of the transform is meant by it, since Connect
    /// refuses a struct that has a field twice; one that a converter might name so is not.
    pub(super) fn column_of(&self, field: &str) -> Option<usize> {
        let column = self.columns.of_field(field)?;
        let exact = || field_name(field_adjustment(&self.settings), &self.columns.list[column].name) == field;
        (!self.adds(field) || exact()).then_some(column)
    }

    /// Whether the transform adds a field of this name.
    pub(super) fn adds(&self, field: &str) -> bool {
        self.settings.unwrap.as_ref().is_some_and(|unwrap| unwrap.adds(field))
    }

    pub(super) fn note_repr(&mut self, column: usize, repr: &Repr) {
        if let Some(known) = self.reprs.get_mut(column)
            && !known.contains(repr)
        {
            known.push(repr.clone());
        }
    }

    fn envelope_plan(&mut self, record: &Record, id: SchemaId) -> Result<Plan, Unreadable> {
        let part = |name: &str| match name {
            "before" => Part::Before,
            "after" => Part::After,
            "source" => Part::Source,
            "op" => Part::Op,
            "ts_ms" => Part::MadeMs,
            "ts_us" => Part::MadeUs,
            "ts_ns" => Part::MadeNs,
            _ => Part::Skip,
        };
        let parts: Vec<Part> = record.fields.iter().map(|(n, _)| part(n)).collect();
        let inner = |wanted: Part| {
            record.fields.iter().zip(&parts).find(|(_, p)| **p == wanted).and_then(|((_, t), _)| t.record()).cloned()
        };
        let (Some(row), Some(source)) = (inner(Part::After), inner(Part::Source)) else {
            return Err(Unreadable {
                schema: Some(id),
                wrong_schema: true,
                expected: "an envelope with after and source".into(),
                found: format!("schema {id} is {} without them", record.name),
            });
        };
        let source = source.fields.iter().map(|(n, _)| match n.as_str() {
            "lsn" => SourcePart::Lsn,
            "txId" => SourcePart::Tx,
            "snapshot" => SourcePart::Snapshot,
            "sequence" => SourcePart::Sequence,
            _ => SourcePart::Skip,
        });
        let source = source.collect();
        Ok(Plan::Envelope(EnvelopePlan { parts, source, row: self.row_plan(&row, self.settings.value) }))
    }

    /// A deleted row stands where the row before would.
    pub(super) fn unwrapped_row(&mut self, meta: &mut Meta) -> (bool, bool) {
        if meta.op == Op::Delete {
            self.scratch.pack(&mut self.before);
            return (true, false);
        }
        if meta.op == Op::Other {
            meta.op = Op::Upsert;
        }
        self.scratch.pack(&mut self.after);
        (false, true)
    }

    /// Renders a value into the scratch row, in the form in which it is compared. `redefined` is a reservation.
    pub(super) fn cell(&mut self, column: usize, raw: &Raw<'_>, repr: &Repr, redefined: bool) {
        let Some(info) = self.columns.list.get(column) else { return };
        let start = self.scratch.text.len();
        let tag = self.renderer.render(&mut self.scratch.text, raw, repr, &info.ty);
        let mut reservations = Reservations::default();
        if matches!(tag, Tag::Text | Tag::Unavailable) && info.ty.needs_form() {
            reservations = Reservations { loss: Loss::of(repr, &info.ty), redefined, restored: false };
            formed(&mut self.scratch.text, start, reservations.loss, &info.ty, &mut self.formed);
        }
        self.scratch.set(column, tag, reservations, info.ty.inline_max(), start);
    }

    pub(super) fn bare(&self, column: usize, raw: &Raw<'_>, tx: Option<u64>) -> (Repr, bool) {
        let (Some(expected), Some(info)) = (self.expected.get(column), self.columns.list.get(column)) else {
            return (Repr::Plain, false);
        };
        bare_repr(expected, raw, &info.ty, self.columns.definition(column), tx)
    }
}

fn formed(text: &mut Vec<u8>, start: usize, loss: Option<Loss>, ty: &PgType, buffer: &mut String) {
    let Ok(made) = std::str::from_utf8(&text[start..]) else { return };
    let full = canonical(made, Side::Event, ty);
    buffer.clear();
    match loss {
        Some(loss) => buffer.push_str(&cut(&full, loss, ty)),
        None => buffer.push_str(&full),
    }
    text.truncate(start);
    text.extend_from_slice(buffer.as_bytes());
}

/// Names are compared without what adjustment may have changed.
fn flat(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect()
}
