//! Builds the migrations and the list of languages into the program. Compiling again when one of them, or a text of `locales`, is
//! new is part of it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=locales");
    let (here, out) = (std::env::current_dir()?, std::env::var("OUT_DIR")?);
    std::fs::write(Path::new(&out).join("migrations.rs"), migrations(&here.join("migrations"))?)?;
    std::fs::write(Path::new(&out).join("languages.rs"), languages(&here.join("locales"))?)?;
    Ok(())
}

/// The tags of all languages, as Rust: `locales/de.toml` is "de".
fn languages(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut tags = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        tags.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    tags.sort();
    Ok(format!("const TAGS: [&str; {}] = {tags:?};", tags.len()))
}

/// A list of version, description and SQL, as Rust: `0003_outbox.sql` is version 3, "outbox". `sqlx::migrate!` does the same,
/// but compiles both databases' drivers a second time, for the compiler.
fn migrations(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|file| file.map(|file| file.path())).collect::<Result<_, _>>()?;
    files.sort();
    let mut list = "[".to_owned();
    for file in files {
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let (version, description) =
            name.split_once('_').ok_or_else(|| format!("{name} is not VERSION_DESCRIPTION"))?;
        let version: i64 = version.parse().map_err(|_| format!("{name} does not begin with a number"))?;
        let description = description.replace('_', " ");
        writeln!(list, "({version}, {description:?}, include_str!({file:?})),")?;
    }
    Ok(list + "]")
}
