//! What is compared: a take, or a group of takes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::figures::FIGURES;
use super::take::Take;
use crate::analysis::Estimate;
use crate::cli::Failure;

/// A take, or a group of takes.
pub struct Subject {
    pub name: String,
    /// File, number of the person and number of people of each take.
    pub takes: Vec<(String, u32, usize)>,
    /// In the order of [`FIGURES`].
    pub figures: Vec<Option<Estimate>>,
    pub metrics_versions: BTreeSet<u32>,
}

/// Parses the value of `--group`.
pub fn group(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, pattern)) if !name.is_empty() && !pattern.is_empty() => Ok((name.to_owned(), pattern.to_owned())),
        _ => Err("give a name, = and a pattern of files in quotes, such as 'before=results/*-a-*.json'".to_owned()),
    }
}

impl Subject {
    pub fn of_take(take: Take) -> Self {
        Self::new(take.file.clone(), &[take])
    }

    /// Reads the results whose paths match the pattern.
    pub fn of_pattern(name: &str, pattern: &str, person: Option<u32>) -> Result<Self, Failure> {
        let wrong = |reason: String| Failure::Settings(format!("--group {name}={pattern}: {reason}"));
        let paths = glob::glob(pattern).map_err(|error| wrong(error.to_string()))?;
        let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))?;
        if paths.is_empty() {
            return Err(wrong("no file has such a name".to_owned()));
        }
        let takes = paths.iter().map(|path| Take::read(path, person)).collect::<Result<Vec<Take>, Failure>>()?;
        Ok(Self::new(name.to_owned(), &takes))
    }

    fn new(name: String, takes: &[Take]) -> Self {
        let figures = FIGURES.iter().enumerate().map(|(at, figure)| {
            let values: Vec<_> = takes.iter().filter_map(|take| take.figures[at]).collect();
            Estimate::mean(&values, figure.range)
        });
        Self {
            name,
            figures: figures.collect(),
            takes: takes.iter().map(|take| (take.file.clone(), take.person, take.people)).collect(),
            metrics_versions: takes.iter().map(|take| take.metrics_version).collect(),
        }
    }
}
