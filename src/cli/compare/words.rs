//! The comparison as a text for people: a table for each difference.

use std::fmt::Write;

use crate::analysis::{Comparison, FIGURES, Interval, Subject, Take};

/// Longest name in the heading of a column.
const LONGEST: usize = 28;

pub fn table(comparison: &Comparison) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for subject in &comparison.subjects {
        let _ = writeln!(text, "{}", about(subject));
    }
    let [from, others @ ..] = &comparison.subjects[..] else { return text };
    for (to, differences) in others.iter().zip(&comparison.differences) {
        let _ = writeln!(text, "\n{:16}  {:28}  {:28}  difference", "", short(&from.name), short(&to.name));
        for (at, figure) in FIGURES.iter().enumerate() {
            let shown = |value: f64, interval: Interval| {
                let decimals = figure.decimals;
                format!("{value:.decimals$} ({:.decimals$} to {:.decimals$})", interval.low, interval.high)
            };
            let side = |subject: &Subject| match &subject.figures.0[at] {
                Some(figure) => shown(figure.value, figure.interval),
                None => "not measured".to_owned(),
            };
            let difference = match &differences.figures.0[at] {
                Some(difference) => {
                    let sign = if difference.value >= 0.0 { "+" } else { "" };
                    let mark = if difference.beyond_chance { " *" } else { "" };
                    format!("{sign}{}{mark}", shown(difference.value, difference.interval))
                }
                None if from.figures.0[at].is_some() && to.figures.0[at].is_some() => {
                    "not comparable: other metrics_version".to_owned()
                }
                None => String::new(),
            };
            let line = format!("{:16}  {:28}  {:28}  {difference}", figure.name, side(from), side(to));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text.push_str("\n* beyond chance: the 95 % interval of the difference does not hold 0\n");
    text
}

/// Says of which files and people a subject consists.
fn about(subject: &Subject) -> String {
    match &subject.takes[..] {
        [Take { result, person, people, .. }] => format!("{result}: person {person} of {people}"),
        takes => format!("{}: {} results", subject.name, takes.len()),
    }
}

/// Shortens a name at its beginning, because ends of paths differ.
fn short(name: &str) -> String {
    let count = name.chars().count();
    if count <= LONGEST {
        return name.to_owned();
    }
    format!("...{}", name.chars().skip(count + 3 - LONGEST).collect::<String>())
}
