//! Reads the results that are compared.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::analysis::{Analysis, NoTake, Subject, Take};
use crate::cli::Failure;

/// Parses the value of `--group`.
pub fn group(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, pattern)) if !name.is_empty() && !pattern.is_empty() => Ok((name.to_owned(), pattern.to_owned())),
        _ => Err("give a name, = and a pattern of files in quotes, such as 'before=results/*-a-*.json'".to_owned()),
    }
}

/// Reads the results whose paths match the pattern.
pub fn of_pattern(name: &str, pattern: &str, person: Option<u32>) -> Result<Subject, Failure> {
    let wrong = |reason: String| Failure::Settings(format!("--group {name}={pattern}: {reason}"));
    let paths = glob::glob(pattern).map_err(|error| wrong(error.to_string()))?;
    let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))?;
    if paths.is_empty() {
        return Err(wrong("no file has such a name".to_owned()));
    }
    let takes = paths.iter().map(|path| take(path, person)).collect::<Result<_, Failure>>()?;
    Ok(Subject::of_group(name.to_owned(), takes))
}

/// Reads a result. Takes the person with this number, or the one that was seen in most samples.
pub fn take(file: &Path, person: Option<u32>) -> Result<Take, Failure> {
    let shown = file.display().to_string();
    let refused = |reason: &str| Failure::Input(format!("{shown} {reason}"));
    let bytes = std::fs::read(file).map_err(|error| refused(&format!("cannot be read: {error}")))?;
    let not_a_result = |_| refused("is no result of visage analyze in JSON");
    let mut json: Value = serde_json::from_slice(&bytes).map_err(not_a_result)?;
    // The service puts the result into the member `analysis`.
    if let Some(analysis) = json.get_mut("analysis") {
        json = analysis.take();
    }
    if json.get("video").is_none() && json.get("width").is_some() {
        return Err(refused("is the result of a picture, whose figures have no intervals"));
    }
    let analysis: Analysis = serde_json::from_value(json).map_err(not_a_result)?;
    Take::new(shown.clone(), &analysis, person).map_err(|reason| match reason {
        NoTake::NoFace => refused("has no person: no face was found"),
        NoTake::NoSuchPerson(person) => refused(&format!("has no person {person}")),
        NoTake::NoIntervals => refused("has no intervals: it was made by an older version, so analyze the video again"),
    })
}
