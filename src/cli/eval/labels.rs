//! Reads the list of pictures and their labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Failure;

/// A picture of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// File name in the list.
    pub name: String,
    /// Path of the file.
    pub path: PathBuf,
    /// Index of its label among the known labels.
    pub class: usize,
}

/// Reads a CSV file with the columns `file` and `label`. Each file must be in the folder. Other columns are ignored.
///
/// # Errors
/// [`Failure::Input`] with the line of the error: an unknown label, or a file that is missing, outside the folder or
/// listed twice.
pub fn read(list: &Path, folder: &Path, known: &[&str]) -> Result<Vec<Picture>, Failure> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::Input(format!("{} cannot be read: {error}", path.display()))
    };
    let root = folder.canonicalize().map_err(|error| unreadable(folder, &error))?;
    if !root.is_dir() {
        return Err(Failure::Input(format!("{} is no folder", folder.display())));
    }
    let text = std::fs::read_to_string(list).map_err(|error| unreadable(list, &error))?;
    let rows = rows(&text).map_err(|reason| Failure::Input(format!("{}: {reason}", list.display())))?;

    let class = |label: &str| known.iter().position(|known| *known == normalized(label));
    let unknown: BTreeSet<&str> =
        rows.iter().filter(|row| class(&row.label).is_none()).map(|row| &*row.label).collect();
    if !unknown.is_empty() {
        let unknown: Vec<_> = unknown.into_iter().map(|label| format!("{label:?}")).collect();
        return Err(Failure::Input(format!(
            "{}: the classifier does not know {}; its labels are {}",
            list.display(),
            unknown.join(", "),
            known.join(", ")
        )));
    }
    let mut lines = BTreeMap::new();
    rows.into_iter()
        .map(|row| {
            let at = |reason: String| {
                Failure::Input(format!("{}, line {}: {} {reason}", list.display(), row.line, row.file))
            };
            let path = root.join(&row.file).canonicalize();
            let path = path.map_err(|error| at(format!("cannot be read in {}: {error}", folder.display())))?;
            if !path.starts_with(&root) || !path.is_file() {
                return Err(at(format!("is no file in {}", folder.display())));
            }
            if let Some(line) = lines.insert(path.clone(), row.line) {
                return Err(at(format!("is listed on line {line} already")));
            }
            // Unknown labels are refused above.
            let class = class(&row.label).ok_or_else(|| at(format!("has the unknown label {:?}", row.label)))?;
            Ok(Picture { name: row.file.clone(), path, class })
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    file: String,
    label: String,
    line: u64,
}

fn rows(text: &str) -> Result<Vec<Row>, String> {
    // Spreadsheet programs write a byte order mark at the start of the file.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| {
        let found = header.iter().position(|column| column.eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("the first line must name the columns file and label, and has no {name}"))
    };
    let (file, label) = (column("file")?, column("label")?);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: usize, name: &str| match record.get(column) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("line {line} has no {name}")),
        };
        rows.push(Row { file: cell(file, "file")?, label: cell(label, "label")?, line });
    }
    if rows.is_empty() {
        return Err("it lists no picture".to_owned());
    }
    Ok(rows)
}

/// Converts a label to the spelling of the settings: lower case, and adjectives for the nouns of FER+ and AffectNet.
fn normalized(label: &str) -> String {
    let label = label.to_lowercase();
    match label.as_str() {
        "happiness" => "happy".to_owned(),
        "sadness" => "sad".to_owned(),
        "anger" => "angry".to_owned(),
        _ => label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["happy", "sad", "contempt"];

    fn list(text: &str) -> Result<Vec<Picture>, String> {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        std::fs::create_dir_all(images.join("more")).unwrap();
        for file in ["a.png", "b, c.png", "more/d.png"] {
            std::fs::write(images.join(file), "").unwrap();
        }
        std::fs::write(folder.path().join("outside.png"), "").unwrap();
        let csv = folder.path().join("labels.csv");
        std::fs::write(&csv, text).unwrap();
        let read = read(&csv, &images, &KNOWN);
        read.map_err(|failure| failure.message().to_owned())
    }

    fn classes(text: &str) -> Vec<(String, usize)> {
        list(text).unwrap().into_iter().map(|picture| (picture.name, picture.class)).collect()
    }

    #[test]
    fn files_and_labels_are_found_by_the_names_of_their_columns() {
        let wanted = [("a.png".to_owned(), 0), ("b, c.png".to_owned(), 1), ("more/d.png".to_owned(), 2)];
        assert_eq!(classes("file,label\na.png,happy\n\"b, c.png\",sad\nmore/d.png,contempt\n"), wanted);
        // A file as written by spreadsheet programs, with other columns, capital letters and the nouns of other data
        // sets.
        let text =
            "\u{feff}Label,note,File\r\nHappiness,x,a.png\r\n sadness ,,\"b, c.png\"\r\ncontempt,,more/d.png\r\n";
        assert_eq!(classes(text), wanted);
    }

    #[test]
    fn labels_that_the_classifier_lacks_are_an_error_that_names_them() {
        let message = list("file,label\na.png,joy\n\"b, c.png\",sad\nmore/d.png,fear\n").unwrap_err();
        assert!(message.contains("\"fear\", \"joy\"") && message.contains("happy, sad, contempt"), "{message}");
        assert!(!message.contains("\"sad\""), "{message}");
    }

    #[test]
    fn an_invalid_list_is_an_error_with_its_line() {
        for (text, wanted) in [
            ("", "no file"),
            ("name,label\na.png,sad\n", "no file"),
            ("file\na.png\n", "no label"),
            ("file,label\n", "no picture"),
            ("file,label\na.png,\n", "line 2"),
            ("file,label\na.png,sad,more\n", "line: 2"),
            ("file,label\nnosuch.png,sad\n", "line 2: nosuch.png"),
            ("file,label\na.png,sad\n../outside.png,sad\n", "line 3: ../outside.png is no file in"),
            ("file,label\nmore,sad\n", "is no file in"),
            ("file,label\na.png,sad\nmore/../a.png,sad\n", "is listed on line 2 already"),
        ] {
            let message = list(text).unwrap_err();
            assert!(message.contains(wanted) && message.contains("labels.csv"), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_missing_folder_or_list_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("nosuch");
        let failure = read(&missing, folder.path(), &KNOWN).unwrap_err();
        assert!(matches!(&failure, Failure::Input(text) if text.contains("nosuch")), "{failure:?}");
        let failure = read(folder.path(), &missing, &KNOWN).unwrap_err();
        assert!(matches!(&failure, Failure::Input(text) if text.contains("nosuch")), "{failure:?}");
    }
}
