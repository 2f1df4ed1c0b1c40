//! The CSV file with one row for each face in each sample.

use std::io::{self, Write};

use crate::analysis::TimelineRow;

/// Writes the rows. `expressions`: with a column for each movement of the face.
pub fn write(to: &mut impl Write, rows: &[TimelineRow], expressions: bool) -> io::Result<()> {
    writeln!(to, "{}", TimelineRow::csv_header(expressions))?;
    for row in rows {
        writeln!(to, "{}", row.csv(expressions))?;
    }
    Ok(())
}
