//! What one person showed, at a glance: a field for every run of one expression.

use std::fmt::Write;

use super::{at, escape};
use crate::analysis::Emotion;

/// Runs with where they begin and how long they are, in percent of the video's length. Coloured by the page's classes
/// `e-happy` and so on. `label` stands for the drawing where it cannot be seen.
pub fn ribbon(runs: &[(Emotion, f64, f64)], label: &str) -> String {
    let mut svg = format!(
        r#"<svg class="course" viewBox="0 0 1000 40" preserveAspectRatio="none" role="img" aria-label="{}">"#,
        escape(label)
    );
    for (emotion, from, length) in runs {
        let width = (10.0 * length - 2.0).max(1.0);
        let _ = write!(svg, r#"<rect class="e-{emotion}" x="{}" width="{}" height="40"/>"#, at(10.0 * from), at(width));
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_as_long_as_its_share() {
        let svg = ribbon(&[(Emotion::Sad, 0.0, 40.0), (Emotion::Happy, 40.0, 60.0)], "<b>");
        assert!(
            svg.contains(r#"class="e-sad" x="0" width="398""#)
                && svg.contains(r#"class="e-happy" x="400" width="598""#)
        );
        assert!(svg.contains("&lt;b&gt;"));
    }
}
