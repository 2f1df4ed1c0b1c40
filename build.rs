//! Generates the embedded list of migrations. Cargo runs it again when a file in `migrations` changes.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=migrations");
    let (here, out) = (std::env::current_dir()?, std::env::var("OUT_DIR")?);
    std::fs::write(Path::new(&out).join("migrations.rs"), migrations(&here.join("migrations"))?)?;
    Ok(())
}

/// Returns the list of versions, descriptions and SQL texts as Rust code. `0003_outbox.sql` has version 3 and the
/// description "outbox". The macro `sqlx::migrate!` would do the same, but compiles both database drivers a second time
/// for the host.
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
