//! Avro's binary encoding, read against a compiled schema without copying.

use super::{
    repr::Raw,
    schema::{Shape, Typed},
};

/// A datum that its schema does not describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct AvroError {
    /// What is wrong.
    pub what: &'static str,
    /// Where, counted from the start of the datum.
    pub at: usize,
}

/// Reads one datum.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins at the first byte of a datum.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn wrong<T>(&self, what: &'static str) -> Result<T, AvroError> {
        Err(AvroError { what, at: self.at })
    }

    fn byte(&mut self) -> Result<u8, AvroError> {
        match self.bytes.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            None => self.wrong("the datum ends too early"),
        }
    }

    /// A zigzag integer.
    pub fn int(&mut self) -> Result<i64, AvroError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        self.wrong("an integer is longer than ten bytes")
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], AvroError> {
        if length > self.left() {
            return self.wrong("the datum ends too early");
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    fn sized(&mut self) -> Result<&'a [u8], AvroError> {
        match usize::try_from(self.int()?) {
            Ok(length) => self.take(length),
            Err(_) => self.wrong("a length is negative"),
        }
    }

    fn text(&mut self) -> Result<&'a str, AvroError> {
        let bytes = self.sized()?;
        std::str::from_utf8(bytes).or_else(|_| self.wrong("a text is not UTF-8"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AvroError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The branch of a union, or the type itself.
    pub fn branch<'s>(&mut self, typed: &'s Typed) -> Result<&'s Typed, AvroError> {
        let Shape::Union(branches) = &typed.shape else { return Ok(typed) };
        let index = self.int()?;
        match usize::try_from(index).ok().and_then(|i| branches.get(i)) {
            Some(branch) => Ok(branch),
            None => self.wrong("a union has no such branch"),
        }
    }

    /// The next block's number of items; a negative count is followed by the block's size.
    fn block(&mut self) -> Result<usize, AvroError> {
        let count = self.int()?;
        if count < 0 {
            self.int()?;
        }
        // Every item but null has at least a byte, and Debezium writes no lists of nulls alone.
        match usize::try_from(count.unsigned_abs()) {
            Ok(count) if count <= self.bytes.len().saturating_mul(8) => Ok(count),
            _ => self.wrong("a list is longer than the datum"),
        }
    }

    /// Reads a value.
    pub fn read<'s>(&mut self, typed: &'s Typed) -> Result<Raw<'a>, AvroError>
    where
        's: 'a,
    {
        Ok(match &typed.shape {
            Shape::Null => Raw::Null,
            Shape::Bool => match self.byte()? {
                0 => Raw::Bool(false),
                1 => Raw::Bool(true),
                _ => return self.wrong("a boolean is neither 0 nor 1"),
            },
            Shape::Int => Raw::Int(self.int()?),
            Shape::Float => Raw::Float(f32::from_le_bytes(self.array()?)),
            Shape::Double => Raw::Double(f64::from_le_bytes(self.array()?)),
            Shape::Bytes => Raw::Bytes(self.sized()?),
            Shape::Str => Raw::Str(self.text()?),
            Shape::Fixed(size) => Raw::Bytes(self.take(*size)?),
            Shape::Enum(symbols) => {
                let index = self.int()?;
                match usize::try_from(index).ok().and_then(|i| symbols.get(i)) {
                    Some(symbol) => Raw::Str(symbol),
                    None => return self.wrong("an enum has no such symbol"),
                }
            }
            Shape::Array(element) => {
                let mut values = Vec::new();
                loop {
                    let count = self.block()?;
                    if count == 0 {
                        break Raw::Array(values);
                    }
                    for _ in 0..count {
                        values.push(self.read(element)?);
                    }
                }
            }
            Shape::Map(element) => {
                let mut pairs = Vec::new();
                loop {
                    let count = self.block()?;
                    if count == 0 {
                        break Raw::Struct(pairs);
                    }
                    for _ in 0..count {
                        let key = self.text()?;
                        pairs.push((key, self.read(element)?));
                    }
                }
            }
            Shape::Union(_) => {
                let branch = self.branch(typed)?;
                self.read(branch)?
            }
            Shape::Record(record) => {
                let mut fields = Vec::with_capacity(record.fields.len());
                for (name, field) in &record.fields {
                    fields.push((name.as_str(), self.read(field)?));
                }
                Raw::Struct(fields)
            }
        })
    }

    /// Passes over a value, checking it as reading would, texts excepted.
    pub fn skip(&mut self, typed: &Typed) -> Result<(), AvroError> {
        match &typed.shape {
            Shape::Null => {}
            Shape::Bool => drop(self.byte()?),
            Shape::Int | Shape::Enum(_) => drop(self.int()?),
            Shape::Float => drop(self.take(4)?),
            Shape::Double => drop(self.take(8)?),
            Shape::Bytes | Shape::Str => drop(self.sized()?),
            Shape::Fixed(size) => drop(self.take(*size)?),
            Shape::Array(element) => loop {
                let count = self.block()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    self.skip(element)?;
                }
            },
            Shape::Map(element) => loop {
                let count = self.block()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    self.sized()?;
                    self.skip(element)?;
                }
            },
            Shape::Union(_) => {
                let branch = self.branch(typed)?;
                self.skip(branch)?;
            }
            Shape::Record(record) => {
                for (_, field) in &record.fields {
                    self.skip(field)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::decode::schema::compile_avro;

    const INTS: &str = r#"{"type":"array","items":"int"}"#;
    const NULLABLE_INTS: &str = r#"{"type":"array","items":["null","int"]}"#;
    const MAP: &str = r#"{"type":"map","values":"int"}"#;

    fn ints(values: &[i64]) -> Raw<'static> {
        Raw::Array(values.iter().map(|value| Raw::Int(*value)).collect())
    }

    /// Numbers are zigzag: 2 is 1, 1 is -1.
    #[rstest]
    #[case::empty(INTS, &[0], ints(&[]))]
    #[case::one_block(INTS, &[6, 2, 1, 4, 0], ints(&[1, -1, 2]))]
    #[case::two_blocks(INTS, &[2, 2, 4, 4, 6, 0], ints(&[1, 2, 3]))]
    #[case::with_its_size(INTS, &[3, 4, 2, 4, 2, 6, 0], ints(&[1, 2, 3]))]
    #[case::with_null(NULLABLE_INTS, &[4, 0, 2, 2, 0], Raw::Array(vec![Raw::Null, Raw::Int(1)]))]
    #[case::empty_map(MAP, &[0], Raw::Struct(vec![]))]
    #[case::map(MAP, &[4, 2, b'a', 2, 2, b'b', 4, 0], Raw::Struct(vec![("a", Raw::Int(1)), ("b", Raw::Int(2))]))]
    #[case::map_with_its_size(MAP, &[1, 6, 2, b'a', 2, 0], Raw::Struct(vec![("a", Raw::Int(1))]))]
    fn lists_and_maps_are_read_and_passed_over_block_by_block(
        #[case] schema: &str,
        #[case] datum: &[u8],
        #[case] value: Raw<'_>,
    ) {
        let typed = compile_avro(schema).unwrap();
        let datum = [datum, b"rest"].concat();
        let (mut reading, mut skipping) = (Reader::new(&datum), Reader::new(&datum));
        assert_eq!(reading.read(&typed), Ok(value));
        assert_eq!(skipping.skip(&typed), Ok(()));
        assert_eq!((reading.left(), skipping.left()), (4, 4));
    }

    /// Where the schema is another's, a count may be any number: nothing is set aside for it.
    #[rstest]
    #[case::too_many(INTS, &[0xfe, 0xff, 0xff, 0xff, 0x0f, 2])]
    #[case::too_many_with_a_size(INTS, &[0xff, 0xff, 0xff, 0xff, 0x0f, 2, 2])]
    #[case::map(MAP, &[0xfe, 0xff, 0xff, 0xff, 0x0f, 2, b'a', 2])]
    fn a_list_longer_than_its_datum_is_refused(#[case] schema: &str, #[case] datum: &[u8]) {
        let typed = compile_avro(schema).unwrap();
        let what = "a list is longer than the datum";
        assert_eq!(Reader::new(datum).read(&typed).unwrap_err().what, what);
        assert_eq!(Reader::new(datum).skip(&typed).unwrap_err().what, what);
    }
}
