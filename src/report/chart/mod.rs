//! Charts of [`Findings`](crate::analysis::Findings), drawn as SVG. Pages contain the SVG.
//! Text and lines have the colour of the surrounding text (`currentColor`), so that a page can be light or dark.

mod bars;
mod bins;
mod ribbon;
mod timeline;

use crate::analysis::Emotion;

pub use bars::{Bar, bars};
pub use bins::stretches;
pub use ribbon::ribbon;
pub use timeline::timeline;

/// The size of a chart, in units of the SVG.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub width: f64,
    /// Height of the plot, without legend and axis.
    pub plot: f64,
    /// Font size.
    pub font: f64,
    /// Largest number of time steps.
    pub steps: usize,
}

impl Size {
    /// For large screens and paper.
    pub const WIDE: Self = Self { width: 760.0, plot: 190.0, font: 13.0, steps: 240 };
    /// For phones.
    pub const NARROW: Self = Self { width: 360.0, plot: 150.0, font: 12.0, steps: 120 };
}

/// The order of the stacked emotions, from the bottom: pleasant ones first, unpleasant ones last.
const STACK: [Emotion; 7] = [
    Emotion::Happy,
    Emotion::Surprise,
    Emotion::Neutral,
    Emotion::Fear,
    Emotion::Sad,
    Emotion::Disgust,
    Emotion::Angry,
];

/// Escapes a text for use between tags and in attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // XML does not allow most other control characters.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// Formats a coordinate with one decimal, or without decimals if that is 0.
fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// Returns the opening tag of a chart, with a text alternative.
fn open(width: f64, height: f64, font: f64, label: &str) -> String {
    let (width, height, label) = (at(width), at(height), escape(label));
    let picture = format!(r#"viewBox="0 0 {width} {height}" role="img" aria-label="{label}""#);
    let style = format!(r##"font-size="{font}" color="#1c2430" fill="currentColor""##);
    format!(r#"<svg xmlns="http://www.w3.org/2000/svg" {picture} {style}>"#)
}
