//! Rows of Avro datums, straight into the decoder's buffers.

use super::{
    decoder::Decoder,
    event::{Meta, op_of},
    plan::{EnvelopePlan, Part, RowPlan, SourcePart, set_added, set_made, set_source},
};
use crate::decode::{
    avro::{AvroError, Reader},
    repr::Raw,
    schema::{Record, Shape, Typed},
};

impl Decoder {
    pub(super) fn avro_envelope<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        record: &'a Record,
        plan: &EnvelopePlan,
        meta: &mut Meta,
    ) -> Result<(bool, bool), AvroError> {
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

    pub(super) fn avro_unwrapped<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        record: &'a Record,
        plan: &RowPlan,
        meta: &mut Meta,
    ) -> Result<(bool, bool), AvroError> {
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

    pub(super) fn avro_row<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        record: &'a Record,
        plan: &RowPlan,
    ) -> Result<(), AvroError> {
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
    ) -> Result<(), AvroError> {
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
}
