//! From a record's bytes to an event: what was done, where, and the rows before and after in packed form.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use serde_json::Value;

use super::{
    avro::Reader,
    names::{field_adjustment, field_name, schema_name},
    pg_type::PgType,
    repr::{Loss, Raw, Renderer, Repr, Side, Tag, canonical, cut},
    row::{Cell, Reservations, Scratch, cells, literal, push},
    schema::{Record, Shape, Typed, compile_avro, compile_json},
    settings::{Adjust, ConnectorSettings, Converter, Unwrap},
    table::{Columns, bare_repr, expected_repr},
};
use cdc_model::units::{SchemaId, TableName, counted};
use cdc_pipeline::client::ClientError;

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Op {
    /// A snapshot's read.
    Read,
    /// A new row.
    Create,
    /// A changed row.
    Update,
    /// A deleted row.
    Delete,
    /// TRUNCATE.
    Truncate,
    /// A row whose operation the record does not tell: it is there now.
    Upsert,
    /// A tombstone: null.
    Tombstone,
    /// Anything else, a logical decoding message for instance.
    Other,
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it did.
    pub op: Op,
    /// `source.lsn`.
    pub lsn: Option<u64>,
    /// `source.txId`.
    pub tx: Option<u64>,
    /// The end of the transaction that was the last to be committed when this event was made.
    pub commit: Option<u64>,
    /// Where the connector was in the WAL when it made this event. Reads of an incremental snapshot say it too, which have no
    /// position of their own.
    pub reached: Option<u64>,
    /// Whether it is from a snapshot.
    pub snapshot: bool,
    /// Nanoseconds since 1970 when the connector made it.
    pub made_ns: i64,
    /// The schema id of the key.
    pub key_schema: Option<SchemaId>,
    /// The schema id of the value.
    pub value_schema: Option<SchemaId>,
}

impl Meta {
    /// Of an event of which nothing is known.
    pub(crate) const NONE: Meta = Meta {
        op: Op::Other,
        lsn: None,
        tx: None,
        commit: None,
        reached: None,
        snapshot: false,
        made_ns: 0,
        key_schema: None,
        value_schema: None,
    };
}

/// An event, in the decoder's buffers.
#[derive(Clone, Copy, Debug)]
pub struct Event<'d> {
    /// Where it comes from.
    pub meta: Meta,
    /// The packed key; the columns are [`Decoder::key_columns`].
    pub key: Option<&'d [u8]>,
    /// The packed row before.
    pub before: Option<&'d [u8]>,
    /// The packed row after.
    pub after: Option<&'d [u8]>,
    /// Whether a cell of the row after is a placeholder.
    pub unavailable: bool,
}

/// Why a record is no event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// The schema id, where the record names one.
    pub schema: Option<SchemaId>,
    /// Whether the schema is at fault: its id does not resolve, or it does not describe the bytes.
    pub wrong_schema: bool,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// Schema texts by id, fetched once and compiled once, shared by all decoders.
pub struct Schemas {
    resolve: Box<Resolve>,
    known: Mutex<HashMap<SchemaId, Result<Arc<Typed>, Unreadable>>>,
    unanswered: Mutex<Option<ClientError>>,
}

type Resolve = dyn Fn(SchemaId) -> Result<Option<String>, ClientError> + Send + Sync;

impl std::fmt::Debug for Schemas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schemas").finish_non_exhaustive()
    }
}

impl Schemas {
    /// `resolve` gives the text of an id, `None` when it does not exist, or why the registry could not be asked.
    pub fn new(resolve: impl Fn(SchemaId) -> Result<Option<String>, ClientError> + Send + Sync + 'static) -> Schemas {
        Schemas { resolve: Box::new(resolve), known: Mutex::new(HashMap::new()), unanswered: Mutex::new(None) }
    }

    /// Why the registry could not be asked for an id since the last call. What was decoded meanwhile has records of which
    /// nothing is known, and is worth nothing; the same ids are asked for again.
    pub(crate) fn take_unanswered(&self) -> Option<ClientError> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn get(&self, id: SchemaId) -> Result<Arc<Typed>, Unreadable> {
        let wrong = |expected: &str, found: String| Unreadable {
            schema: Some(id),
            wrong_schema: true,
            expected: expected.to_owned(),
            found,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = known.get(&id) {
            return made.clone();
        }
        let mut unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        if unanswered.is_some() {
            return Err(wrong("a registry that answers", "it did not answer for an id before".into()));
        }
        let made = match (self.resolve)(id) {
            Ok(Some(text)) => compile_avro(&text).map(Arc::new).map_err(|e| wrong("a schema that can be read", e)),
            Ok(None) => Err(wrong("a schema id that resolves", format!("the registry does not know id {id}"))),
            // No answer is not kept: the registry may be back at the next look.
            Err(why) => {
                let found = why.to_string();
                *unanswered = Some(why);
                return Err(wrong("a registry that answers", found));
            }
        };
        known.insert(id, made.clone());
        made
    }
}

/// The order in which a row record's fields go into columns, and how they are expressed.
#[derive(Debug)]
struct RowPlan {
    columns: Vec<Option<usize>>,
    /// Whether the schema says how values are expressed. Where it does not, the connector's settings and the columns' types do.
    named: bool,
}

/// What the fields of an envelope are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Before,
    After,
    Source,
    Op,
    MadeMs,
    MadeUs,
    MadeNs,
    Skip,
}

/// Fields of `source` that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourcePart {
    Lsn,
    Tx,
    Snapshot,
    Sequence,
    Skip,
}

#[derive(Debug)]
struct EnvelopePlan {
    parts: Vec<Part>,
    source: Vec<SourcePart>,
    row: RowPlan,
}

#[derive(Debug)]
enum Plan {
    Envelope(EnvelopePlan),
    Unwrapped(RowPlan),
    Key(RowPlan),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Half {
    Key,
    Value,
}

/// Decodes the records of one topic. One a thread.
#[derive(Debug)]
pub struct Decoder {
    settings: Arc<ConnectorSettings>,
    columns: Arc<Columns>,
    schemas: Arc<Schemas>,
    renderer: Renderer,
    expected: Vec<Repr>,
    name_starts: [String; 3],
    plans: HashMap<(SchemaId, Half), (Arc<Typed>, Arc<Plan>)>,
    json: HashMap<Half, (Value, Arc<Typed>)>,
    reprs: Vec<Vec<Repr>>,
    key_columns: Option<Vec<usize>>,
    key_changed: bool,
    /// Columns and values of a key without a schema.
    bare_key: Vec<(usize, Value)>,
    key_redefined: bool,
    not_understood: BTreeSet<usize>,
    key_not_understood: bool,
    extra_fields: BTreeSet<String>,
    scratch: Scratch,
    before: Vec<u8>,
    after: Vec<u8>,
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
    fn column_of(&self, field: &str) -> Option<usize> {
        let column = self.columns.of_field(field)?;
        let exact = || field_name(field_adjustment(&self.settings), &self.columns.list[column].name) == field;
        (!self.adds(field) || exact()).then_some(column)
    }

    /// Whether the transform adds a field of this name.
    fn adds(&self, field: &str) -> bool {
        self.settings.unwrap.as_ref().is_some_and(|unwrap| unwrap.adds(field))
    }

    fn note_repr(&mut self, column: usize, repr: &Repr) {
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

    fn avro_envelope<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        record: &'a Record,
        plan: &EnvelopePlan,
        meta: &mut Meta,
    ) -> Result<(bool, bool), super::avro::AvroError> {
        let (mut has_before, mut has_after) = (false, false);
        for ((_, typed), part) in record.fields.iter().zip(&plan.parts) {
            match part {
                Part::Before | Part::After => {
                    let branch = reader.branch(typed)?;
                    let Shape::Record(row) = &branch.shape else { continue };
                    self.avro_row(reader, row, &plan.row)?;
                    if *part == Part::Before {
                        self.scratch.pack(&mut self.before);
                        has_before = true;
                    } else {
                        self.scratch.pack(&mut self.after);
                        has_after = true;
                    }
                }
                Part::Source => {
                    let branch = reader.branch(typed)?;
                    let Shape::Record(source) = &branch.shape else { continue };
                    for ((_, typed), part) in source.fields.iter().zip(&plan.source) {
                        match part {
                            SourcePart::Skip => reader.skip(typed)?,
                            part => set_source(meta, *part, &reader.read(typed)?),
                        }
                    }
                }
                Part::Op => {
                    if let Raw::Str(op) = reader.read(typed)? {
                        meta.op = op_of(op);
                    }
                }
                Part::Skip => reader.skip(typed)?,
                made => {
                    if let Raw::Int(time) = reader.read(typed)? {
                        set_made(meta, *made, time);
                    }
                }
            }
        }
        Ok((has_before, has_after))
    }

    fn avro_unwrapped<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        record: &'a Record,
        plan: &RowPlan,
        meta: &mut Meta,
    ) -> Result<(bool, bool), super::avro::AvroError> {
        let settings = self.settings.clone();
        let unwrap = settings.unwrap.as_ref();
        self.scratch.begin(self.columns.list.len());
        for ((name, typed), column) in record.fields.iter().zip(&plan.columns) {
            match (column, unwrap) {
                (Some(column), _) => self.avro_cell(reader, typed, *column, plan.named)?,
                (None, Some(unwrap)) => set_added(unwrap, name, &reader.read(typed)?, meta),
                (None, None) => reader.skip(typed)?,
            }
        }
        Ok(self.unwrapped_row(meta))
    }

    /// A deleted row stands where the row before would.
    fn unwrapped_row(&mut self, meta: &mut Meta) -> (bool, bool) {
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

    fn avro_row<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        record: &'a Record,
        plan: &RowPlan,
    ) -> Result<(), super::avro::AvroError> {
        self.scratch.begin(self.columns.list.len());
        for ((_, typed), column) in record.fields.iter().zip(&plan.columns) {
            match column {
                Some(column) => self.avro_cell(reader, typed, *column, plan.named)?,
                None => reader.skip(typed)?,
            }
        }
        Ok(())
    }

    fn avro_cell<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        typed: &'a Typed,
        column: usize,
        named: bool,
    ) -> Result<(), super::avro::AvroError> {
        let branch = reader.branch(typed)?;
        let raw = reader.read(branch)?;
        if named || branch.repr.is_logical() {
            self.cell(column, &raw, &branch.repr, false);
            return Ok(());
        }
        // Which transaction made the record stands behind its rows.
        let (repr, redefined) = self.bare(column, &raw, None);
        self.note_repr(column, &repr);
        self.cell(column, &raw, &repr, redefined);
        Ok(())
    }

    /// Renders a value into the scratch row, in the form in which it is compared. `redefined` is a reservation.
    fn cell(&mut self, column: usize, raw: &Raw<'_>, repr: &Repr, redefined: bool) {
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

    fn json_parts<'v>(
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
    fn json_row(
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

    fn bare(&self, column: usize, raw: &Raw<'_>, tx: Option<u64>) -> (Repr, bool) {
        let (Some(expected), Some(info)) = (self.expected.get(column), self.columns.list.get(column)) else {
            return (Repr::Plain, false);
        };
        bare_repr(expected, raw, &info.ty, self.columns.definition(column), tx)
    }

    fn json_unwrapped(
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

    fn json_envelope(
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

/// Takes a field that the unwrapping transform adds by its settings. What a record did is read from these alone.
fn set_added(unwrap: &Unwrap, name: &str, raw: &Raw<'_>, meta: &mut Meta) {
    let is = |field: &Option<String>| field.as_deref() == Some(name);
    match raw {
        Raw::Str("true") if is(&unwrap.deleted) => meta.op = Op::Delete,
        Raw::Str(text) if is(&unwrap.op) && meta.op != Op::Delete => meta.op = op_of(text),
        Raw::Int(_) if is(&unwrap.lsn) => set_source(meta, SourcePart::Lsn, raw),
        Raw::Int(_) if is(&unwrap.tx) => set_source(meta, SourcePart::Tx, raw),
        Raw::Str(_) if is(&unwrap.snapshot) => set_source(meta, SourcePart::Snapshot, raw),
        _ => {}
    }
    if meta.op == Op::Read {
        meta.snapshot = true;
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

fn op_of(op: &str) -> Op {
    match op {
        "r" => Op::Read,
        "c" => Op::Create,
        "u" => Op::Update,
        "d" => Op::Delete,
        "t" => Op::Truncate,
        _ => Op::Other,
    }
}

fn set_source(meta: &mut Meta, part: SourcePart, raw: &Raw<'_>) {
    match (part, raw) {
        (SourcePart::Lsn, Raw::Int(lsn)) => meta.lsn = Some(*lsn as u64),
        (SourcePart::Tx, Raw::Int(tx)) => meta.tx = Some(*tx as u64),
        (SourcePart::Snapshot, Raw::Str(text)) => meta.snapshot = !matches!(*text, "false" | ""),
        (SourcePart::Snapshot, Raw::Bool(truth)) => meta.snapshot = *truth,
        (SourcePart::Sequence, Raw::Str(text)) => {
            // `["31665016","31665088"]`: the end of the last commit, and the event's own position; either may be null.
            let mut numbers = text.split(',').map(|number| number.trim_matches(['[', ']', '"', ' ']).parse().ok());
            meta.commit = numbers.next().flatten();
            meta.reached = numbers.next().flatten();
        }
        _ => {}
    }
}

fn set_made(meta: &mut Meta, part: Part, time: i64) {
    let factor = match part {
        Part::MadeMs => 1_000_000,
        Part::MadeUs => 1000,
        _ => 1,
    };
    let made = time.saturating_mul(factor);
    // The finest of the three is the largest.
    meta.made_ns = meta.made_ns.max(made);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Avro,
    Json,
}

fn wire(converter: Converter, bytes: &[u8]) -> Result<Wire, Unreadable> {
    match (converter, bytes.first()) {
        (Converter::Avro { .. } | Converter::Worker, Some(0)) => Ok(Wire::Avro),
        (Converter::Avro { .. }, first) => Err(Unreadable {
            schema: None,
            wrong_schema: true,
            expected: "magic byte 0 and four bytes of schema id".into(),
            found: first.map_or("no bytes".into(), |b| format!("first byte {b}")),
        }),
        _ => Ok(Wire::Json),
    }
}

fn split(bytes: &[u8]) -> Result<(SchemaId, &[u8]), Unreadable> {
    match bytes {
        [0, a, b, c, d, datum @ ..] => Ok((SchemaId(u32::from_be_bytes([*a, *b, *c, *d])), datum)),
        _ => Err(Unreadable {
            schema: None,
            wrong_schema: true,
            expected: "magic byte 0 and four bytes of schema id".into(),
            found: counted(bytes.len(), "byte"),
        }),
    }
}

fn json(bytes: &[u8]) -> Result<Value, Unreadable> {
    serde_json::from_slice(bytes).map_err(|e| unreadable("JSON", e.to_string()))
}

fn raw_of(value: &Value) -> Raw<'_> {
    match value {
        Value::Null => Raw::Null,
        Value::Bool(truth) => Raw::Bool(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(int) => Raw::Int(int),
            None => Raw::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Raw::Str(text),
        Value::Array(values) => Raw::Array(values.iter().map(raw_of).collect()),
        Value::Object(fields) => Raw::Struct(fields.iter().map(|(n, v)| (n.as_str(), raw_of(v))).collect()),
    }
}

/// Names are compared without what adjustment may have changed.
fn flat(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect()
}

fn unreadable(expected: &str, found: String) -> Unreadable {
    Unreadable { schema: None, wrong_schema: false, expected: expected.to_owned(), found }
}

fn misread(id: SchemaId, found: String) -> Unreadable {
    Unreadable {
        schema: Some(id),
        wrong_schema: true,
        expected: format!("schema {id} to describe every byte of the record"),
        found,
    }
}

fn not_a(what: &str, typed: &Typed, id: SchemaId) -> Unreadable {
    Unreadable {
        schema: Some(id),
        wrong_schema: true,
        expected: format!("a {what}"),
        found: format!("schema {id} is {}", typed.shape.words()),
    }
}
