//! The table of all inputs: one row for each person in each input, as CSV or Parquet. docs/BATCH.md describes the columns.

mod columnar;
mod columns;
mod comma_separated;
mod row;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use self::columns::columns;
pub use self::row::Entry;
use crate::cli::analyze::part::Part;
use crate::cli::{self, Failure};

/// The file of the table.
pub struct Table {
    path: PathBuf,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Parquet,
}

impl Format {
    /// Chooses the format by the end of the name.
    fn of(path: &Path) -> Result<Self, &'static str> {
        let ending = path.extension().map(OsStr::to_ascii_lowercase);
        match ending.as_deref().and_then(OsStr::to_str) {
            Some("csv") => Ok(Self::Csv),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err("give a name that ends in .csv or .parquet"),
        }
    }
}

impl Table {
    /// Checks before the work whether the table can be written.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let format = Format::of(path);
        let format = format.map_err(|reason| Failure::Settings(format!("--table {}: {reason}", path.display())))?;
        cli::writable(path)?;
        Ok(Self { path: path.to_owned(), format })
    }

    /// Writes the table, in the place of an older one.
    pub fn write<'a>(&self, entries: impl Iterator<Item = Entry<'a>>) -> Result<(), Failure> {
        let columns = columns();
        let mut rows = entries.flat_map(|entry| entry.rows(&columns));
        let part = Part::create(&self.path, |file| match self.format {
            Format::Csv => comma_separated::write(file, &columns, &mut rows),
            Format::Parquet => columnar::write(file, &columns, &mut rows),
        });
        let failed = |error| Failure::Run(format!("{} was not written: {error}", self.path.display()));
        part.and_then(Part::finish).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_name_chooses_the_format() {
        assert_eq!(Format::of(Path::new("a.csv")), Ok(Format::Csv));
        assert_eq!(Format::of(Path::new("dir.x/a.CSV")), Ok(Format::Csv));
        assert_eq!(Format::of(Path::new("a.parquet")), Ok(Format::Parquet));
        for other in ["a", "a.tsv", ".csv", "a.xlsx"] {
            assert!(Format::of(Path::new(other)).unwrap_err().contains(".parquet"), "{other}");
        }
    }
}
