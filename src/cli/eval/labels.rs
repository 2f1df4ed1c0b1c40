//! Reads the list of pictures and their labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Failure;
use super::votes::{Rule, VoteColumns};

/// A picture of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// File name in the list.
    pub name: String,
    /// Path of the file.
    pub path: PathBuf,
    /// Index of its label among the known labels.
    pub class: usize,
    /// Its group in each of the columns of groups.
    pub groups: Vec<String>,
}

/// What is read from the list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Columns<'a> {
    /// The labels of the classifier.
    pub known: &'a [&'a str],
    /// For votes. `None` is [`Rule::Most`], and admits labels.
    pub rule: Option<Rule>,
    /// Columns whose values divide the pictures into groups.
    pub groups: &'a [String],
}

/// The pictures of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    pub pictures: Vec<Picture>,
    /// Number of pictures that have votes, but no class by the rule.
    pub without_class: usize,
}

/// Reads a CSV file with the column `file` (or `Image name`), and either the column `label` or a column of votes for each
/// class. Each file must be in the folder. Columns that are not asked for are ignored.
///
/// # Errors
/// [`Failure::Input`] with the line of the error: an unknown label, a missing group, or a file that is missing, outside
/// the folder or listed twice.
pub fn read(list: &Path, folder: &Path, columns: &Columns<'_>) -> Result<Listed, Failure> {
    let known = columns.known;
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::Input(format!("{} cannot be read: {error}", path.display()))
    };
    let root = folder.canonicalize().map_err(|error| unreadable(folder, &error))?;
    if !root.is_dir() {
        return Err(Failure::Input(format!("{} is no folder", folder.display())));
    }
    let text = std::fs::read_to_string(list).map_err(|error| unreadable(list, &error))?;
    let rows = rows(&text, columns).map_err(|reason| Failure::Input(format!("{}: {reason}", list.display())))?;

    let unknown: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| if let Class::Unknown(label) = &row.class { Some(&**label) } else { None })
        .collect();
    if !unknown.is_empty() {
        let unknown: Vec<_> = unknown.into_iter().map(|label| format!("{label:?}")).collect();
        return Err(Failure::Input(format!(
            "{}: the classifier does not know {}; its labels are {}",
            list.display(),
            unknown.join(", "),
            known.join(", ")
        )));
    }
    let (mut lines, mut listed) = (BTreeMap::new(), Listed::default());
    for row in rows {
        let Class::Known(class) = row.class else {
            listed.without_class += 1;
            continue;
        };
        let at =
            |reason: String| Failure::Input(format!("{}, line {}: {} {reason}", list.display(), row.line, row.file));
        let path = root.join(&row.file).canonicalize();
        let path = path.map_err(|error| at(format!("cannot be read in {}: {error}", folder.display())))?;
        if !path.starts_with(&root) || !path.is_file() {
            return Err(at(format!("is no file in {}", folder.display())));
        }
        if let Some(line) = lines.insert(path.clone(), row.line) {
            return Err(at(format!("is listed on line {line} already")));
        }
        listed.pictures.push(Picture { name: row.file, path, class, groups: row.groups });
    }
    Ok(listed)
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    file: String,
    class: Class,
    groups: Vec<String>,
    line: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Class {
    Known(usize),
    /// The label is none of the classifier's.
    Unknown(String),
    /// The votes give no class.
    None,
}

fn rows(text: &str, columns: &Columns<'_>) -> Result<Vec<Row>, String> {
    let Columns { known, rule, groups } = *columns;
    // Spreadsheet programs write a byte order mark at the start of the file.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
    let missing = |name: &str| format!("the first line must name the columns file and label, and has no {name}");
    let file = column("file").or_else(|| column("image name")).ok_or_else(|| missing("file"))?;
    let label = column("label");
    let groups = groups.iter().map(|name| {
        let at = column(name).ok_or_else(|| format!("the first line names no column {name}"))?;
        Ok((at, name.as_str()))
    });
    let groups = groups.collect::<Result<Vec<_>, String>>()?;
    let class = |label: &str| known.iter().position(|known| *known == normalized(label));
    let votes = if label.is_none() { VoteColumns::of(header.iter(), class) } else { None };
    if rule.is_some() && votes.is_none() {
        return Err("--majority needs votes: a column for each class instead of the column label".to_owned());
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: usize, name: &str| match record.get(column) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("line {line} has no {name}")),
        };
        let class = match (label, &votes) {
            (Some(label), _) => {
                let label = cell(label, "label")?;
                class(&label).map_or(Class::Unknown(label), Class::Known)
            }
            (None, Some(votes)) => {
                let class = votes.class(&record, rule.unwrap_or(Rule::Most)).map_err(|column| {
                    let name = header.get(column).unwrap_or_default();
                    format!("line {line}: the number of votes for {name} is missing")
                })?;
                class.map_or(Class::None, Class::Known)
            }
            (None, None) => return Err(missing("label")),
        };
        // FER+ has no file names for pictures that show no face.
        let (file, groups) = if class == Class::None {
            (String::new(), Vec::new())
        } else {
            let groups = groups.iter().map(|(at, name)| cell(*at, name));
            (cell(file, "file")?, groups.collect::<Result<_, _>>()?)
        };
        rows.push(Row { file, class, groups, line });
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

    fn list(text: &str) -> Result<Listed, String> {
        list_by(text, None)
    }

    fn list_by(text: &str, rule: Option<Rule>) -> Result<Listed, String> {
        list_columns(text, &Columns { known: &KNOWN, rule, groups: &[] })
    }

    fn list_columns(text: &str, columns: &Columns<'_>) -> Result<Listed, String> {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        std::fs::create_dir_all(images.join("more")).unwrap();
        for file in ["a.png", "b, c.png", "more/d.png"] {
            std::fs::write(images.join(file), "").unwrap();
        }
        std::fs::write(folder.path().join("outside.png"), "").unwrap();
        let csv = folder.path().join("labels.csv");
        std::fs::write(&csv, text).unwrap();
        let read = read(&csv, &images, columns);
        read.map_err(|failure| failure.message().to_owned())
    }

    fn classes(text: &str) -> Vec<(String, usize)> {
        list(text).unwrap().pictures.into_iter().map(|picture| (picture.name, picture.class)).collect()
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
    fn votes_take_the_place_of_labels() {
        // As in FER+: a picture without a face has no name. Votes for a class that the classifier lacks do not count.
        let text = "Usage,Image name,happiness,sadness,fear,unknown,NF\n\
                    Test,a.png,6,0,0,2,0\nTest,\"b, c.png\",4,4,0,2,0\nTest,,0,0,0,0,10\n";
        assert_eq!(classes(text), [("a.png".to_owned(), 0), ("b, c.png".to_owned(), 0)]);
        assert_eq!(list(text).unwrap().without_class, 1);
        let majority = list_by(text, Some(Rule::Majority)).unwrap();
        assert_eq!((majority.pictures.len(), majority.without_class), (1, 2));
        let message = list_by("file,label\na.png,happy\n", Some(Rule::Majority)).unwrap_err();
        assert!(message.contains("--majority needs votes"), "{message}");
        let message = list("file,happy,sad\na.png,6,x\n").unwrap_err();
        assert!(message.contains("line 2: the number of votes for sad"), "{message}");
    }

    #[test]
    fn pictures_have_the_groups_of_the_columns_that_were_asked_for() {
        let asked = ["Age".to_owned(), "light".to_owned()];
        let columns = Columns { known: &KNOWN, rule: None, groups: &asked };
        let text = "file,light,label,age,more\na.png,dim,sad,old,x\n\"b, c.png\",bright,happy,young,\n";
        let listed = list_columns(text, &columns).unwrap();
        let groups: Vec<_> = listed.pictures.into_iter().map(|picture| picture.groups).collect();
        assert_eq!(groups, [["old", "dim"], ["young", "bright"]]);
        let message = list_columns("file,label,age\na.png,sad,old\n", &columns).unwrap_err();
        assert!(message.contains("names no column light"), "{message}");
        let message = list_columns("file,label,age,light\na.png,sad,,dim\n", &columns).unwrap_err();
        assert!(message.contains("line 2 has no Age"), "{message}");
        // A row without a class needs no group.
        let votes = "file,happiness,sadness,age,light\n,1,1,,\na.png,6,0,old,dim\n";
        let listed = list_columns(votes, &columns).unwrap();
        assert_eq!((listed.pictures.len(), listed.without_class), (1, 1));
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
        let columns = Columns::default();
        let failure = read(&missing, folder.path(), &columns).unwrap_err();
        assert!(matches!(&failure, Failure::Input(text) if text.contains("nosuch")), "{failure:?}");
        let failure = read(folder.path(), &missing, &columns).unwrap_err();
        assert!(matches!(&failure, Failure::Input(text) if text.contains("nosuch")), "{failure:?}");
    }
}
