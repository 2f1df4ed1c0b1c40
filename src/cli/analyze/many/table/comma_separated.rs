//! The table as CSV (RFC 4180), in UTF-8.

use std::io::{self, Write};

use super::columns::Column;
use super::row::Cell;

pub fn write(to: impl Write, columns: &[Column], rows: &mut dyn Iterator<Item = Vec<Cell>>) -> io::Result<()> {
    let mut lines = csv::Writer::from_writer(to);
    lines.write_record(columns.iter().map(|column| &*column.name))?;
    for row in rows {
        lines.write_record(row.into_iter().map(|cell| match cell {
            Cell::Empty => String::new(),
            Cell::Text(text) => text,
            Cell::Integer(number) => number.to_string(),
            Cell::Number(number) => number.to_string(),
        }))?;
    }
    lines.flush()
}

#[cfg(test)]
mod tests {
    use super::super::columns::{Kind, Place};
    use super::*;

    #[test]
    fn values_that_need_quotes_get_them_and_missing_ones_are_empty() {
        let column = |name: &str| Column { name: name.to_owned(), kind: Kind::Text, place: Place::File };
        let row = vec![Cell::Text("a, \"b\"".to_owned()), Cell::Empty, Cell::Number(2.0), Cell::Integer(-3)];
        let mut written = Vec::new();
        write(&mut written, &["p", "q", "r", "s"].map(column), &mut std::iter::once(row)).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "p,q,r,s\n\"a, \"\"b\"\"\",,2,-3\n");
    }
}
