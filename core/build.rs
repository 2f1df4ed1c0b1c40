//! Generates the list of languages and the table of texts. Cargo runs it again when a
//! file in `locales` changes.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../locales");
    let (here, out) = (std::env::current_dir()?, std::env::var("OUT_DIR")?);
    let languages = languages(&here.join("../locales"))?;
    let tags: Vec<&String> = languages.keys().collect();
    let tags = format!("const TAGS: [&str; {}] = {tags:?};", tags.len());
    std::fs::write(Path::new(&out).join("languages.rs"), tags)?;
    std::fs::write(Path::new(&out).join("texts.rs"), texts(&languages)?)?;
    Ok(())
}

/// Returns the texts of each language by key. `locales/de.toml` has the tag "de". The text `drop` of the section
/// `[start]` has the key "start.drop".
fn languages(folder: &Path) -> Result<BTreeMap<String, BTreeMap<String, String>>, Box<dyn Error>> {
    let mut languages = BTreeMap::new();
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        let tag = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let table: toml::Table =
            std::fs::read_to_string(&path)?.parse().map_err(|error| format!("{}: {error}", path.display()))?;
        let mut texts = BTreeMap::new();
        flatten(&table, "", &mut texts).map_err(|key| format!("{}: {key} is not a text", path.display()))?;
        languages.insert(tag, texts);
    }
    Ok(languages)
}

/// Collects the texts of a section and of the sections in it. The error is the key of a value that is not a text.
fn flatten(table: &toml::Table, prefix: &str, texts: &mut BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            toml::Value::String(text) => {
                texts.insert(key, text.clone());
            }
            toml::Value::Table(section) => flatten(section, &format!("{key}."), texts)?,
            _ => return Err(key),
        }
    }
    Ok(())
}

/// Returns the texts as Rust code: for each language its tag and its texts by key, in alphabetical order.
fn texts(languages: &BTreeMap<String, BTreeMap<String, String>>) -> Result<String, std::fmt::Error> {
    let mut code = "static TEXTS: &[(&str, &[(&str, &str)])] = &[".to_owned();
    for (tag, texts) in languages {
        write!(code, "({tag:?}, &[")?;
        for (key, text) in texts {
            writeln!(code, "({key:?}, {text:?}),")?;
        }
        writeln!(code, "]),")?;
    }
    Ok(code + "];")
}
