//! Reads FlatBuffers, the format of TensorFlow Lite files (<https://flatbuffers.dev/internals/>), with every offset
//! checked.
//!
//! The crate `flatbuffers` needs code that is generated from a schema: for TensorFlow Lite some 20,000 lines, of which
//! the converter needs a few dozen fields. This module reads these fields by their numbers. Invalid bytes are an error.
//! A length in the file is checked against the size of the file before memory is allocated for it.

use super::ConvertError;

/// A table. Its fields are numbered as in the schema, and each may be absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    /// Position of the table in the file.
    at: usize,
    /// The vtable: two bytes for each field, with the field's offset from `at` (0: absent).
    offsets: &'a [u8],
}

fn broken() -> ConvertError {
    ConvertError::Malformed("an offset or a length points outside the file".to_owned())
}

/// Returns `count` bytes from position `at`.
fn slice(bytes: &[u8], at: usize, count: usize) -> Result<&[u8], ConvertError> {
    at.checked_add(count).and_then(|end| bytes.get(at..end)).ok_or_else(broken)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ConvertError> {
    slice(bytes, at, N)?.try_into().map_err(|_| broken())
}

/// Resolves the offset that is stored at `at`. It is relative to `at`.
fn follow(bytes: &[u8], at: usize) -> Result<usize, ConvertError> {
    let offset = u32::from_le_bytes(array(bytes, at)?);
    usize::try_from(offset).ok().and_then(|offset| at.checked_add(offset)).ok_or_else(broken)
}

impl<'a> Table<'a> {
    /// Returns the root table of a file, and checks the file's identifier.
    pub(super) fn root(bytes: &'a [u8], identifier: &[u8; 4]) -> Result<Self, ConvertError> {
        if bytes.get(4..8) != Some(identifier) {
            return Err(ConvertError::Malformed(format!(
                "it does not have the file identifier {:?}",
                String::from_utf8_lossy(identifier)
            )));
        }
        Self::at(bytes, follow(bytes, 0)?)
    }

    fn at(bytes: &'a [u8], at: usize) -> Result<Self, ConvertError> {
        let back = i64::from(i32::from_le_bytes(array(bytes, at)?));
        let vtable = i64::try_from(at).ok().and_then(|at| usize::try_from(at - back).ok()).ok_or_else(broken)?;
        let size = usize::from(u16::from_le_bytes(array(bytes, vtable)?));
        // The vtable begins with two sizes, of two bytes each.
        let offsets = slice(bytes, vtable, size)?.get(4..).ok_or_else(broken)?;
        Ok(Self { bytes, at, offsets })
    }

    /// Returns the position of a field, or `None` if it is absent.
    fn field(&self, number: usize) -> Result<Option<usize>, ConvertError> {
        let Some(offset) = self.offsets.get(2 * number..2 * number + 2) else { return Ok(None) };
        match u16::from_le_bytes(array(offset, 0)?) {
            0 => Ok(None),
            offset => self.at.checked_add(usize::from(offset)).map(Some).ok_or_else(broken),
        }
    }

    pub(super) fn i8(&self, number: usize) -> Result<Option<i8>, ConvertError> {
        self.field(number)?.map(|at| Ok(i8::from_le_bytes(array(self.bytes, at)?))).transpose()
    }

    pub(super) fn u8(&self, number: usize) -> Result<Option<u8>, ConvertError> {
        self.field(number)?.map(|at| Ok(u8::from_le_bytes(array(self.bytes, at)?))).transpose()
    }

    pub(super) fn i32(&self, number: usize) -> Result<Option<i32>, ConvertError> {
        self.field(number)?.map(|at| Ok(i32::from_le_bytes(array(self.bytes, at)?))).transpose()
    }

    pub(super) fn u32(&self, number: usize) -> Result<Option<u32>, ConvertError> {
        self.field(number)?.map(|at| Ok(u32::from_le_bytes(array(self.bytes, at)?))).transpose()
    }

    pub(super) fn table(&self, number: usize) -> Result<Option<Self>, ConvertError> {
        self.field(number)?.map(|at| Self::at(self.bytes, follow(self.bytes, at)?)).transpose()
    }

    /// Returns the position and the bytes of a vector whose elements have `size` bytes each. An absent vector is empty.
    fn vector(&self, number: usize, size: usize) -> Result<(usize, &'a [u8]), ConvertError> {
        let Some(at) = self.field(number)? else { return Ok((0, &[])) };
        let start = follow(self.bytes, at)?;
        let length = u32::from_le_bytes(array(self.bytes, start)?);
        let count = usize::try_from(length).ok().and_then(|length| length.checked_mul(size)).ok_or_else(broken)?;
        // This cannot overflow: the four bytes of the length lie inside the file.
        Ok((start + 4, slice(self.bytes, start + 4, count)?))
    }

    pub(super) fn bytes(&self, number: usize) -> Result<&'a [u8], ConvertError> {
        Ok(self.vector(number, 1)?.1)
    }

    pub(super) fn text(&self, number: usize) -> Result<String, ConvertError> {
        // Many tables may share one text, and each of them would copy it. The limit bounds the memory.
        const MAX_LENGTH: usize = 2000;
        let text = self.bytes(number)?;
        if text.len() > MAX_LENGTH {
            return Err(ConvertError::Malformed(format!("a name of {} bytes", text.len())));
        }
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Returns a vector of at most `max` numbers.
    pub(super) fn numbers(&self, number: usize, max: usize) -> Result<Vec<i32>, ConvertError> {
        let (_, bytes) = self.vector(number, 4)?;
        let (values, _) = bytes.as_chunks::<4>();
        if values.len() > max {
            return Err(ConvertError::Malformed(format!("{} numbers where at most {max} are allowed", values.len())));
        }
        Ok(values.iter().map(|value| i32::from_le_bytes(*value)).collect())
    }

    /// Returns a vector of at most `max` tables.
    pub(super) fn tables(
        &self,
        number: usize,
        max: usize,
    ) -> Result<impl Iterator<Item = Result<Self, ConvertError>>, ConvertError> {
        let (start, offsets) = self.vector(number, 4)?;
        let (bytes, count) = (self.bytes, offsets.len() / 4);
        if count > max {
            return Err(ConvertError::Malformed(format!("{count} tables where at most {max} are allowed")));
        }
        Ok((0..count).map(move |n| Self::at(bytes, follow(bytes, start + 4 * n)?)))
    }
}

#[cfg(test)]
mod tests {
    use flatbuffers::{FlatBufferBuilder, WIPOffset};

    use super::*;

    /// Writes a table with a number, a text, a vector of numbers and a vector of two empty tables.
    fn file() -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let text = builder.create_string("ab");
        let numbers = builder.create_vector(&[-1i32, 7]);
        let start = builder.start_table();
        let empty = builder.end_table(start);
        let tables = builder.create_vector(&[empty, empty]);
        let start = builder.start_table();
        builder.push_slot_always(4, -5i32);
        builder.push_slot_always(8, text);
        builder.push_slot_always(10, numbers);
        builder.push_slot_always(12, tables);
        builder.push_slot_always(14, WIPOffset::<()>::new(empty.value()));
        let root = builder.end_table(start);
        builder.finish(root, Some("TEST"));
        builder.finished_data().to_vec()
    }

    fn read(bytes: &[u8]) -> Result<(Option<i32>, String, Vec<i32>, usize), ConvertError> {
        let root = Table::root(bytes, b"TEST")?;
        let tables = root.tables(4, 2)?.collect::<Result<Vec<_>, _>>()?;
        root.table(5)?;
        root.u8(0)?;
        Ok((root.i32(0)?, root.text(2)?, root.numbers(3, 2)?, tables.len()))
    }

    #[test]
    fn fields_are_read_by_their_number_and_absent_ones_are_none() {
        let file = file();
        assert_eq!(read(&file).unwrap(), (Some(-5), "ab".to_owned(), vec![-1, 7], 2));
        let root = Table::root(&file, b"TEST").unwrap();
        assert_eq!((root.i32(1).unwrap(), root.u32(99).unwrap(), root.i8(1).unwrap()), (None, None, None));
        assert_eq!((root.bytes(1).unwrap(), root.numbers(99, 1).unwrap()), (&[][..], vec![]));
        assert!(root.table(1).unwrap().is_none());
        assert!(root.numbers(3, 1).is_err() && root.tables(4, 1).is_err());
        assert!(Table::root(&file, b"TFL3").is_err());
    }

    #[test]
    fn invalid_bytes_never_panic() {
        let whole = file();
        for length in 0..whole.len() {
            let _ = read(&whole[..length]);
        }
        for place in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[place] = value;
                let _ = read(&broken);
            }
        }
        assert!(read(&whole[..whole.len() / 2]).is_err() && read(&[]).is_err());
    }
}
