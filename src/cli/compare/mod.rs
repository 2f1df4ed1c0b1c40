//! `visage compare`: compares one person in several results, or groups of results, and marks the differences beyond
//! chance.

mod files;
mod words;

use std::path::PathBuf;

use super::Failure;
use crate::analysis::{Comparison, Subject};

/// The end of the help text of `visage compare`.
const EXAMPLES: &str = "\
Examples:
  visage compare monday.json friday.json
  visage compare results/take-*.json --json | jq '.differences[].figures'
  visage compare --group 'before=results/p*-a.mp4-*.json' --group 'after=results/p*-b.mp4-*.json'

The files are results of `visage analyze`. Every other file or group is compared with the first one. A * marks a
difference beyond chance: its 95 % interval does not hold 0. About one in twenty differences without a cause gets a mark,
so with many figures expect a few. docs/METRICS.md has the formulas.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Results in JSON, one take each.
    #[arg(value_name = "FILE", required_unless_present = "groups", conflicts_with = "groups")]
    files: Vec<PathBuf>,

    /// Compare groups of results: a name and a pattern of files, in which * and ? stand for any characters. Give it for
    /// each group.
    #[arg(long = "group", value_name = "NAME=PATTERN", value_parser = files::group)]
    groups: Vec<(String, String)>,

    /// Compare the person with this number in each result [default: the one seen in most samples].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    person: Option<u32>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let of_file = |file: &PathBuf| files::take(file, args.person).map(Subject::of_take);
    let of_group = |(name, pattern): &(String, String)| files::of_pattern(name, pattern, args.person);
    let files = args.files.iter().map(of_file);
    let subjects: Vec<Subject> = files.chain(args.groups.iter().map(of_group)).collect::<Result<_, Failure>>()?;
    if subjects.len() < 2 {
        return Err(Failure::Settings("give at least two results, or two groups of results".to_owned()));
    }
    let comparison = Comparison::new(subjects);
    if !args.json {
        return super::print(&words::table(&comparison));
    }
    let text = serde_json::to_string_pretty(&comparison);
    super::print(&format!("{}\n", text.map_err(|error| Failure::Run(error.to_string()))?))
}
