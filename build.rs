//! Builds the migrations into the program. Compiling again when one is new, or a text of `locales`, is part of it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=locales");
    let target = Path::new(&std::env::var("OUT_DIR")?).join("migrations.rs");
    std::fs::write(target, migrations(&std::env::current_dir()?.join("migrations"))?)?;
    Ok(())
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
