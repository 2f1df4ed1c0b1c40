//! `visage compare`: compares one person in several results, or groups of results, and marks the differences beyond
//! chance.

mod figures;
mod subject;
mod take;
mod words;

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use self::figures::FIGURES;
use self::subject::Subject;
use self::take::Take;
use super::Failure;
use crate::analysis::{Difference, Interval, rounding};

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
    #[arg(long = "group", value_name = "NAME=PATTERN", value_parser = subject::group)]
    groups: Vec<(String, String)>,

    /// Compare the person with this number in each result [default: the one seen in most samples].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    person: Option<u32>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The differences of a subject from the first one, in the order of [`FIGURES`].
struct Compared<'a> {
    from: &'a Subject,
    to: &'a Subject,
    /// `None` if one of the two has no such figure, or if its definition differs between them.
    differences: Vec<Option<Difference>>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let of_file = |file: &PathBuf| Take::read(file, args.person).map(Subject::of_take);
    let of_group = |(name, pattern): &(String, String)| Subject::of_pattern(name, pattern, args.person);
    let files = args.files.iter().map(of_file);
    let subjects: Vec<Subject> = files.chain(args.groups.iter().map(of_group)).collect::<Result<_, Failure>>()?;
    let [first, others @ ..] = &subjects[..] else { return Err(too_few()) };
    if others.is_empty() {
        return Err(too_few());
    }
    let compared: Vec<Compared<'_>> = others.iter().map(|other| compare(first, other)).collect();
    if !args.json {
        return super::print(&words::table(&subjects, &compared));
    }
    let text = serde_json::to_string_pretty(&as_json(&subjects, &compared));
    super::print(&format!("{}\n", text.map_err(|error| Failure::Run(error.to_string()))?))
}

fn too_few() -> Failure {
    Failure::Settings("give at least two results, or two groups of results".to_owned())
}

fn compare<'a>(from: &'a Subject, to: &'a Subject) -> Compared<'a> {
    let is_same = from.metrics_versions == to.metrics_versions && from.metrics_versions.len() == 1;
    let differences = FIGURES.iter().zip(from.figures.iter().zip(&to.figures)).map(|(figure, (from, to))| {
        let is_comparable = is_same || !figure.depends_on_version;
        from.as_ref().zip(to.as_ref()).filter(|_| is_comparable).map(|(from, to)| to.minus(from))
    });
    Compared { from, to, differences: differences.collect() }
}

fn as_json(subjects: &[Subject], compared: &[Compared<'_>]) -> Value {
    fn figures<T>(all: &[Option<T>], json: impl Fn(&T) -> Value) -> Map<String, Value> {
        let named = FIGURES.iter().zip(all);
        named.map(|(figure, one)| (figure.name.to_owned(), one.as_ref().map_or(Value::Null, &json))).collect()
    }
    let round = |value: f64| rounding::to(value, 3);
    let interval = |Interval { low, high }: Interval| [round(low), round(high)];
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|subject| {
            let takes: Vec<Value> = subject
                .takes
                .iter()
                .map(|(file, person, people)| json!({"file": file, "person": person, "people": people}))
                .collect();
            let figures = figures(&subject.figures, |figure| {
                let (value, interval) = (round(figure.value), interval(figure.interval));
                json!({"value": value, "interval": interval, "takes": figure.takes})
            });
            json!({"name": subject.name, "takes": takes, "figures": figures})
        })
        .collect();
    let differences: Vec<Value> = compared
        .iter()
        .map(|Compared { from, to, differences }| {
            let figures = figures(differences, |difference| {
                let (value, interval) = (round(difference.value), interval(difference.interval));
                json!({"value": value, "interval": interval, "beyond_chance": difference.beyond_chance})
            });
            json!({"from": from.name, "to": to.name, "figures": figures})
        })
        .collect();
    json!({"subjects": subjects, "differences": differences})
}
