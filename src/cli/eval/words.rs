//! Formats the results as text for people and as CSV for spreadsheets.

use std::fmt::Write;
use std::path::Path;

use super::Report;
use super::labels::Picture;
use crate::analysis::{GroupFigures, GroupShare, Interval, Judged};

/// Maximum number of pictures without a face that are listed by name.
const NAMED: usize = 10;

/// Formats the report as text.
pub fn report(report: &Report<'_>) -> String {
    let (figures, intervals) = (&report.figures, &report.intervals);
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let share = |share: f64| format!("{share:.4}");
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "{:18} {:>9}   95 % interval", "pictures", figures.count);
    for (name, value, Interval { low, high }, format) in [
        ("accuracy", figures.accuracy, intervals.accuracy, &percent as &dyn Fn(f64) -> String),
        ("balanced accuracy", figures.balanced_accuracy, intervals.balanced_accuracy, &percent),
        ("macro F1", figures.macro_f1, intervals.macro_f1, &share),
        ("calibration error", figures.ece, intervals.ece, &share),
    ] {
        let _ = writeln!(text, "{name:18} {:>9}   {} to {}", format(value), format(low), format(high));
    }
    let _ = writeln!(text, "{:18} {:>9.0}", "faces a second", report.faces_per_second);
    let width = report.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(8);
    let _ = writeln!(text, "\n{:width$}  precision     recall         F1  pictures", "class");
    for (label, class) in report.labels.iter().zip(&figures.per_class) {
        let (precision, recall, f1) = (percent(class.precision), percent(class.recall), percent(class.f1));
        let _ = writeln!(text, "{label:width$}  {precision:>9}  {recall:>9}  {f1:>9}  {:>8}", class.support);
    }
    let _ = writeln!(text, "\nfrom true classes (down) to those named (across), pictures");
    let across: String = report.labels.iter().map(|label| format!("  {label:>width$}")).collect();
    let _ = writeln!(text, "{:width$}{across}", "");
    for (label, row) in report.labels.iter().zip(&figures.confusion) {
        let cells: String = row.iter().map(|count| format!("  {count:>width$}")).collect();
        let _ = writeln!(text, "{label:width$}{cells}");
    }
    for (column, groups) in &report.groups {
        text.push_str(&by_group(column, groups, &report.labels));
    }
    if report.without_class > 0 {
        let _ = writeln!(
            text,
            "\n{} more pictures have no class by their votes, and no figure counts them",
            report.without_class
        );
    }
    if !report.without_face.is_empty() {
        let some = &report.without_face[..report.without_face.len().min(NAMED)];
        let rest = if some.len() < report.without_face.len() { ", ..." } else { "" };
        let (count, names) = (report.without_face.len(), some.join(", "));
        let _ = writeln!(text, "\nno face was found in {count} more pictures, which no figure counts: {names}{rest}");
    }
    text
}

/// Formats the figures of the groups of a column.
fn by_group(column: &str, groups: &[GroupFigures], labels: &[&str]) -> String {
    let width = groups.iter().map(|group| group.name.chars().count()).max().unwrap_or(0).max(column.chars().count());
    let of = labels.iter().map(|label| label.chars().count() + "recall of ".len()).max().unwrap_or(0);
    let mut text = format!(
        "\n{column:width$}  {:of$}  pictures      share   95 % interval      more than all others, points\n",
        "figure"
    );
    let mut line = |name: &str, figure: &str, it: &GroupShare| {
        let Interval { low, high } = it.share.interval;
        let interval = format!("{:.1} to {:.1} %", 100.0 * low, 100.0 * high);
        let difference = it.more_than_others.map_or_else(
            || "there are no others".to_owned(),
            |it| {
                let Interval { low, high } = it.interval;
                let told = if it.beyond_chance { "beyond chance" } else { "no difference shown" };
                let (value, low, high) = (100.0 * it.value, 100.0 * low, 100.0 * high);
                format!("{value:+.1} ({low:+.1} to {high:+.1}): {told}")
            },
        );
        let (pictures, share) = (it.share.takes, 100.0 * it.share.value);
        let _ =
            writeln!(text, "{name:width$}  {figure:of$}  {pictures:>8}  {share:>7.1} %   {interval:16}   {difference}");
    };
    for group in groups {
        line(&group.name, "accuracy", &group.accuracy);
        for (label, recall) in labels.iter().zip(&group.recall) {
            if let Some(recall) = recall {
                line("", &format!("recall of {label}"), recall);
            }
        }
    }
    text.push_str("A difference that is not shown may still be there, as large as its interval allows.\n");
    text
}

/// Writes a row for each classified picture: its file, its label, the predicted label and the probability of each
/// class.
pub fn predictions(
    path: &Path,
    labels: &[&str],
    listed: &[Picture],
    judged: &[(usize, Judged)],
) -> Result<(), csv::Error> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(["file", "label", "named"].iter().chain(labels))?;
    for (at, judged) in judged {
        let (picture, named) = (&listed[*at], judged.named().0);
        let probabilities = judged.probabilities.iter().map(|p| format!("{p:.6}"));
        let front = [&picture.name, labels[picture.class], labels[named]].map(str::to_owned);
        writer.write_record(front.into_iter().chain(probabilities))?;
    }
    Ok(writer.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{EvaluationIntervals, evaluate};

    fn judged() -> Vec<Judged> {
        [(0, [0.75, 0.25]), (0, [0.25, 0.75]), (1, [0.25, 0.75])]
            .map(|(truth, probabilities)| Judged { truth, probabilities: probabilities.to_vec() })
            .to_vec()
    }

    #[test]
    fn the_report_reads_well() {
        let all = judged();
        let shown = Report {
            labels: vec!["happy", "contempt"],
            figures: evaluate(2, &judged()),
            intervals: EvaluationIntervals::of(2, &judged()),
            groups: vec![("age", GroupFigures::of(2, &[("old", &all[0]), ("young", &all[1]), ("young", &all[2])]))],
            without_class: 4,
            without_face: vec!["wall.png"],
            faces_per_second: 1234.56,
        };
        insta::assert_snapshot!(report(&shown));
        insta::assert_json_snapshot!(shown.json());
    }

    #[test]
    fn predictions_list_each_picture_with_its_probabilities() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let picture = |name: &str, class| Picture { name: name.to_owned(), path: name.into(), class, groups: vec![] };
        let listed = [picture("a.png", 0), picture("wall.png", 0), picture("b, c.png", 1)];
        let all = judged();
        predictions(&path, &["happy", "sad"], &listed, &[(0, all[1].clone()), (2, all[2].clone())]).unwrap();
        let wanted =
            "file,label,named,happy,sad\na.png,happy,sad,0.250000,0.750000\n\"b, c.png\",sad,sad,0.250000,0.750000\n";
        assert_eq!(std::fs::read_to_string(path).unwrap(), wanted);
    }
}
