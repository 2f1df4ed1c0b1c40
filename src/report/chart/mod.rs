//! Charts of [`Findings`](crate::analysis::Findings), drawn as SVG: the same drawing stands in the page and, as PNG, in
//! mails. Text and lines take the colour of their surroundings (`currentColor`), so that a page can be light or dark.

mod bars;
mod bins;
mod raster;
mod ribbon;
mod timeline;

use crate::analysis::Emotion;

pub use bars::{Bar, bars};
pub use bins::stretches;
pub use raster::{RasterError, png, svg_to_png};
pub use ribbon::ribbon;
pub use timeline::timeline;

/// How large a chart is drawn, in its own units.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub width: f64,
    /// Height of the plot itself, without legend and axis.
    pub plot: f64,
    /// Height of the letters.
    pub font: f64,
    /// Most steps of time.
    pub steps: usize,
}

impl Size {
    /// On the page of a large screen or a sheet of paper.
    pub const WIDE: Self = Self { width: 760.0, plot: 190.0, font: 13.0, steps: 240 };
    /// On a phone.
    pub const NARROW: Self = Self { width: 360.0, plot: 150.0, font: 12.0, steps: 120 };
    /// In a mail 600 pixels wide, with letters that a phone can shrink.
    pub const MAIL: Self = Self { width: 480.0, plot: 150.0, font: 15.0, steps: 160 };
}

/// Emotions as they lie upon one another, from the bottom: pleasant ones below, unpleasant ones on top.
const STACK: [Emotion; 7] = [
    Emotion::Happy,
    Emotion::Surprise,
    Emotion::Neutral,
    Emotion::Fear,
    Emotion::Sad,
    Emotion::Disgust,
    Emotion::Angry,
];

/// Text made safe between tags and in attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // XML has no place for the other control characters.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// A coordinate with one decimal, and none where it is whole.
fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// The opening tag of a chart, with the text that stands for it where it cannot be seen.
fn open(width: f64, height: f64, font: f64, label: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-label="{}" font-size="{font}" color="#1c2430" fill="currentColor">"##,
        at(width),
        at(height),
        escape(label),
    )
}
