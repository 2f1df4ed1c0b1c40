//! The table as Parquet, without compression. Every column is optional.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::columns::{Column, Kind};
use super::row::Cell;

/// Rows of a group, which is held in memory.
const GROUP: usize = 10_000;

pub fn write(to: impl Write + Send, columns: &[Column], rows: &mut dyn Iterator<Item = Vec<Cell>>) -> io::Result<()> {
    write_groups(to, columns, rows).map_err(io::Error::other)
}

fn write_groups(
    to: impl Write + Send,
    columns: &[Column],
    rows: &mut dyn Iterator<Item = Vec<Cell>>,
) -> Result<(), ParquetError> {
    let fields = columns.iter().map(field).collect::<Result<Vec<TypePtr>, _>>()?;
    let schema = Type::group_type_builder("table").with_fields(fields).build()?;
    let made_by = concat!("visage version ", env!("CARGO_PKG_VERSION"));
    let properties = WriterProperties::builder().set_created_by(made_by.to_owned()).build();
    let mut file = SerializedFileWriter::new(to, Arc::new(schema), Arc::new(properties))?;
    loop {
        let group: Vec<Vec<Cell>> = Iterator::take(&mut *rows, GROUP).collect();
        if group.is_empty() {
            break;
        }
        let mut writer = file.next_row_group()?;
        for (at, column) in columns.iter().enumerate() {
            write_column(&mut writer, column.kind, group.iter().map(|row| &row[at]))?;
        }
        writer.close()?;
    }
    file.close()?;
    Ok(())
}

fn field(column: &Column) -> Result<TypePtr, ParquetError> {
    let (physical, logical) = match column.kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Integer => (Physical::INT64, None),
        Kind::Number => (Physical::DOUBLE, None),
    };
    let builder = Type::primitive_type_builder(&column.name, physical).with_logical_type(logical);
    Ok(Arc::new(builder.with_repetition(Repetition::OPTIONAL).build()?))
}

/// Writes the values of the next column of a group. A definition level says for each row whether there is a value.
fn write_column<'a, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    kind: Kind,
    cells: impl Iterator<Item = &'a Cell> + Clone,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("the table has more columns than its schema".to_owned()));
    };
    let levels: Vec<i16> = cells.clone().map(|cell| i16::from(*cell != Cell::Empty)).collect();
    match (column.untyped(), kind) {
        (ColumnWriter::ByteArrayColumnWriter(to), Kind::Text) => {
            let text =
                |cell: &Cell| if let Cell::Text(text) = cell { Some(ByteArray::from(text.as_str())) } else { None };
            to.write_batch(&cells.filter_map(text).collect::<Vec<_>>(), Some(&levels), None)?;
        }
        (ColumnWriter::Int64ColumnWriter(to), Kind::Integer) => {
            let integer = |cell: &Cell| if let Cell::Integer(number) = cell { Some(*number) } else { None };
            to.write_batch(&cells.filter_map(integer).collect::<Vec<_>>(), Some(&levels), None)?;
        }
        (ColumnWriter::DoubleColumnWriter(to), Kind::Number) => {
            let number = |cell: &Cell| if let Cell::Number(number) = cell { Some(*number) } else { None };
            to.write_batch(&cells.filter_map(number).collect::<Vec<_>>(), Some(&levels), None)?;
        }
        _ => return Err(ParquetError::General("a column has another type than its schema".to_owned())),
    }
    column.close()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::super::columns::Place;
    use super::*;

    #[test]
    fn a_reader_gets_the_values_and_their_types_back() {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind, place: Place::File };
        let columns = [column("file", Kind::Text), column("person", Kind::Integer), column("happy", Kind::Number)];
        // More than one group.
        let rows = (0..GROUP + 3).map(|n| match n % 3 {
            0 => vec![Cell::Text(format!("Jörg {n}")), Cell::Integer(n as i64), Cell::Number(n as f64 / 8.0)],
            1 => vec![Cell::Text(String::new()), Cell::Empty, Cell::Empty],
            _ => vec![Cell::Empty, Cell::Integer(-1), Cell::Number(-0.5)],
        });
        let mut written = Vec::new();
        write(&mut written, &columns, &mut rows.clone()).unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(written)).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let mut read = reader.get_row_iter(None).unwrap();
        for row in rows {
            let found: Vec<Field> = read.next().unwrap().unwrap().into_columns().into_iter().map(|(_, f)| f).collect();
            let wanted: Vec<Field> = row
                .into_iter()
                .map(|cell| match cell {
                    Cell::Empty => Field::Null,
                    Cell::Text(text) => Field::Str(text),
                    Cell::Integer(number) => Field::Long(number),
                    Cell::Number(number) => Field::Double(number),
                })
                .collect();
            assert_eq!(found, wanted);
        }
        assert!(read.next().is_none());
    }

    #[test]
    fn a_table_without_rows_has_its_columns() {
        let columns = [Column { name: "file".to_owned(), kind: Kind::Text, place: Place::File }];
        let mut written = Vec::new();
        write(&mut written, &columns, &mut std::iter::empty()).unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(written)).unwrap();
        assert_eq!(reader.metadata().file_metadata().schema_descr().column(0).name(), "file");
    }
}
