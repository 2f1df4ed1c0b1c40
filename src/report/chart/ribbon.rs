//! Draws a person's expressions over time as a ribbon: one path for each expression.

use std::fmt::Write;

use super::{at, escape};
use crate::analysis::Emotion;

/// Draws the phases. Each has an emotion, a start and a length, both in percent of the length of the video. Times
/// without a phase stay empty. The CSS classes `e-happy` and so on give the colours. `label` is the text alternative.
pub fn ribbon(phases: &[(Emotion, f64, f64)], label: &str) -> String {
    let mut svg = format!(
        r#"<svg class="course" viewBox="0 0 1000 40" preserveAspectRatio="none" role="img" aria-label="{}">"#,
        escape(label)
    );
    for emotion in Emotion::ALL {
        let mut path = String::new();
        for (_, from, length) in phases.iter().filter(|(of, ..)| *of == emotion) {
            let width = 10.0 * length;
            // A narrow gap separates phases that are long enough.
            let width = if width > 8.0 { width - 2.0 } else { width.max(0.5) };
            let _ = write!(path, "M{} 0h{}v40h-{}z", at(10.0 * from), at(width), at(width));
        }
        if !path.is_empty() {
            let _ = write!(svg, r#"<path class="e-{emotion}" d="{path}"/>"#);
        }
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_of_a_phase_is_proportional_to_its_length_and_gaps_stay_empty() {
        let svg = ribbon(&[(Emotion::Sad, 0.0, 40.0), (Emotion::Happy, 50.0, 50.0), (Emotion::Sad, 40.0, 0.4)], "<b>");
        assert!(svg.contains(r#"class="e-sad" d="M0 0h398v40h-398zM400 0h4v40h-4z""#), "{svg}");
        assert!(svg.contains(r#"class="e-happy" d="M500 0h498v40h-498z""#), "{svg}");
        assert!(svg.contains("&lt;b&gt;"));
    }
}
