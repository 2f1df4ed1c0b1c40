//! The shares of the seven expressions of a person or of a video, as figures and as bars.

use std::collections::BTreeMap;

use super::words::Words;
use super::{chart, colour};
use crate::analysis::{Emotion, FaceSummary, percentages};

/// The share of one of the seven expressions.
pub struct Share {
    pub emotion: Emotion,
    pub name: String,
    pub colour: &'static str,
    /// The percentage with its sign.
    pub value: String,
    /// 0 to 100.
    pub percent: f64,
    /// The number of samples in which it was the strongest, and the number of all samples.
    pub samples: String,
    /// The mean confidence of the model in those samples.
    pub sure: String,
}

/// Returns the shares of the seven expressions, largest first.
pub fn shares(words: Words, emotions: &BTreeMap<Emotion, f64>, faces: &[FaceSummary]) -> Vec<Share> {
    // Rounds like the JSON, so that report and JSON show the same figures.
    let emotions = percentages(emotions);
    let mut shares: Vec<Share> = Emotion::ALL
        .into_iter()
        .map(|emotion| {
            let percent = emotions.get(&emotion).copied().unwrap_or_default();
            let counts = faces.iter().map(|face| face.emotion_counts.get(&emotion).copied().unwrap_or_default());
            let (n, all) = (counts.sum::<u32>(), faces.iter().map(|face| face.frames).sum::<u32>());
            let samples = words.fill("samples_of", &[("n", &n.to_string()), ("all", &all.to_string())]);
            // Shown for one person only; with several people it is in the table of each.
            let sure = match faces {
                [face] => face.average_confidence.get(&emotion).copied(),
                _ => None,
            };
            Share {
                emotion,
                name: words.label(emotion),
                colour: colour::of_emotion(emotion),
                value: words.percent(percent),
                percent,
                samples,
                sure: sure.map_or_else(|| "–".to_owned(), |sure| words.share(sure)),
            }
        })
        .collect();
    shares.sort_by(|a, b| b.percent.total_cmp(&a.percent));
    shares
}

/// Draws the bars of a person or of a video.
pub fn bars(words: Words, shares: &[Share]) -> String {
    let told: Vec<String> = shares.iter().map(|share| format!("{} {}", share.name, share.value)).collect();
    let bars: Vec<chart::Bar<'_>> = shares
        .iter()
        .map(|share| chart::Bar {
            label: &share.name,
            value: &share.value,
            percent: share.percent,
            colour: share.colour,
        })
        .collect();
    chart::bars(&bars, &words.fill("shares", &[("list", &told.join(", "))]))
}
