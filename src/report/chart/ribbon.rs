//! Draws a person's expressions over time as a ribbon: one rectangle for each phase.

use std::fmt::Write;

use super::{at, escape};
use crate::analysis::Emotion;

/// Draws the phases. Each has an emotion, a start and a length, both in percent of the length of the video. The CSS
/// classes `e-happy` and so on give the colours. `label` is the text alternative.
pub fn ribbon(phases: &[(Emotion, f64, f64)], label: &str) -> String {
    let mut svg = format!(
        r#"<svg class="course" viewBox="0 0 1000 40" preserveAspectRatio="none" role="img" aria-label="{}">"#,
        escape(label)
    );
    for (emotion, from, length) in phases {
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
    fn the_width_of_a_phase_is_proportional_to_its_length() {
        let svg = ribbon(&[(Emotion::Sad, 0.0, 40.0), (Emotion::Happy, 40.0, 60.0)], "<b>");
        assert!(
            svg.contains(r#"class="e-sad" x="0" width="398""#)
                && svg.contains(r#"class="e-happy" x="400" width="598""#)
        );
        assert!(svg.contains("&lt;b&gt;"));
    }
}
