//! What sound says, on the engine: where somebody speaks, how well it is recorded, how fast the syllables come. Samples
//! in, [`crate::analysis`] types out; knows no files and no pictures.
//!
//! [`Hearing`] holds the models and loads them when the first sound track comes. A [`Listener`] takes one track from
//! start to end: voice activity ([`vad`]) decides which samples are speech ([`spans`]), and those go on to the
//! measures of quality ([`quality`]) and rate ([`syllables`]). What it holds does not grow with the track.

mod quality;
mod spans;
mod syllables;
mod unrolled;
mod vad;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::analysis::{ModelUsed, Speech, Talk, Warning};
use crate::config::Settings;
use crate::engine::{Engine, EngineError};

use quality::{Quality, Rating};
use spans::Spans;
use syllables::Syllables;
use vad::{Vad, WINDOW};

pub use vad::NAME as VAD_MODEL;

/// Samples a second that everything here takes.
pub const RATE: u32 = 16_000;
/// Windows that voice activity takes in one call: a second.
const TOGETHER: usize = 32 * WINDOW;

/// The models that listen. Cheap to clone.
#[derive(Clone)]
pub struct Hearing(Arc<Inner>);

struct Inner {
    engine: Engine,
    folder: PathBuf,
    is_enabled: bool,
    models: Mutex<Models>,
}

/// Those that are loaded.
#[derive(Default)]
struct Models {
    vad: Option<Arc<Vad>>,
    quality: Option<Quality>,
}

/// What a track gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    pub speech: Speech,
    pub models: Vec<ModelUsed>,
    pub warnings: Vec<Warning>,
}

impl Hearing {
    /// Loads nothing yet.
    pub fn new(engine: &Engine, settings: &Settings) -> Self {
        Self(Arc::new(Inner {
            engine: engine.clone(),
            folder: settings.models.folder.clone(),
            is_enabled: settings.speech.enabled,
            models: Mutex::default(),
        }))
    }

    /// Whether the settings want sound to be analyzed.
    pub fn is_enabled(&self) -> bool {
        self.0.is_enabled
    }

    /// Begins a track; loads the models where this is the first one. Without the model for quality, that part is left
    /// out and a warning says so.
    ///
    /// # Errors
    /// Where voice activity has no model: nothing can be said without it.
    pub fn listen(&self) -> Result<Listener, EngineError> {
        let Inner { engine, folder, models, .. } = &*self.0;
        let mut models = models.lock().unwrap_or_else(PoisonError::into_inner);
        let vad = match &models.vad {
            Some(vad) => vad.clone(),
            None => models.vad.insert(Arc::new(Vad::load(engine, folder)?)).clone(),
        };
        let mut warnings = Vec::new();
        let quality = match &models.quality {
            Some(quality) => Some(quality.clone()),
            None => match Quality::load(engine, folder) {
                Ok(quality) => Some(models.quality.insert(quality).clone()),
                Err(error) => {
                    tracing::warn!(%error, "speech quality is left out");
                    let model = quality::NAME.to_owned();
                    warnings.push(if error.is_missing() {
                        Warning::SpeechQualityMissing { model }
                    } else {
                        Warning::SpeechQualityUnusable { model }
                    });
                    None
                }
            },
        };
        let used = [Some(vad.used()), quality.as_ref().map(Quality::used)];
        Ok(Listener {
            state: vad::State::default(),
            vad,
            waiting: Vec::with_capacity(2 * TOGETHER),
            samples: 0,
            spans: Spans::default(),
            talk: Talk::default(),
            syllables: Syllables::default(),
            rating: quality.map(Rating::new),
            models: used.into_iter().flatten().collect(),
            warnings,
        })
    }
}

/// One sound track being listened to.
pub struct Listener {
    vad: Arc<Vad>,
    state: vad::State,
    /// Samples that wait for the next turn.
    waiting: Vec<f32>,
    /// Samples taken so far.
    samples: u64,
    spans: Spans,
    talk: Talk,
    syllables: Syllables,
    rating: Option<Rating>,
    models: Vec<ModelUsed>,
    warnings: Vec<Warning>,
}

impl Listener {
    /// The next samples of the track: mono, 16 kHz, -1 to 1. Blocks.
    pub fn push(&mut self, samples: &[f32]) -> Result<(), EngineError> {
        self.samples += samples.len() as u64;
        for part in samples.chunks(TOGETHER) {
            self.waiting.extend_from_slice(part);
            if self.waiting.len() >= TOGETHER {
                let rest = self.waiting.split_off(TOGETHER);
                let windows = std::mem::replace(&mut self.waiting, rest);
                self.hear(&windows)?;
            }
        }
        Ok(())
    }

    /// The track is over.
    pub fn finish(mut self) -> Result<Heard, EngineError> {
        // The last window is filled up with silence, which ends no span and counts nowhere.
        let mut windows = std::mem::take(&mut self.waiting);
        windows.resize(windows.len().next_multiple_of(WINDOW), 0.0);
        self.hear(&windows)?;
        let track_s = seconds(self.samples);
        let mut result = Ok(());
        let (syllables, rating) = (&mut self.syllables, &mut self.rating);
        let last = self.spans.finish(&mut |samples| speech(syllables, rating.as_mut(), samples, &mut result));
        result?;
        if let Some((from, to)) = last {
            self.syllables.pause();
            self.talk.span(seconds(from), seconds(to).min(track_s));
        }
        let quality = self.rating.map(Rating::finish).transpose()?.flatten();
        let speech = self.talk.speech(track_s, self.syllables.count(), quality);
        if speech.ratio == 0.0 {
            self.warnings.push(Warning::NoSpeech);
        } else if speech.quality_mos.is_none() && self.warnings.is_empty() {
            self.warnings.push(Warning::LittleSpeech);
        }
        Ok(Heard { speech, models: self.models, warnings: self.warnings })
    }

    /// Whole windows.
    fn hear(&mut self, windows: &[f32]) -> Result<(), EngineError> {
        let probabilities = self.vad.probabilities(&mut self.state, windows)?;
        let mut result = Ok(());
        for (window, probability) in windows.chunks_exact(WINDOW).zip(probabilities) {
            let (syllables, rating) = (&mut self.syllables, &mut self.rating);
            let ended = self
                .spans
                .push(window, probability, &mut |samples| speech(syllables, rating.as_mut(), samples, &mut result));
            if let Some((from, to)) = ended {
                self.syllables.pause();
                self.talk.span(seconds(from), seconds(to));
            }
        }
        result
    }
}

/// Samples that are speech go to the measures.
fn speech(
    syllables: &mut Syllables,
    rating: Option<&mut Rating>,
    samples: &[f32],
    result: &mut Result<(), EngineError>,
) {
    syllables.push(samples);
    if let (Some(rating), Ok(())) = (rating, &result) {
        *result = rating.push(samples);
    }
}

/// Samples as seconds.
fn seconds(samples: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    {
        samples as f64 / f64::from(RATE)
    }
}
