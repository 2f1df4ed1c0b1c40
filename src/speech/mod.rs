//! Analyzes speech with models that run on the engine: when somebody speaks, the quality of the recording, and the
//! syllable rate. It takes samples of sound and returns [`crate::analysis`] types. It reads no files.
//!
//! [`SpeechModels`] holds the models and loads them for the first sound track. A [`SpeechAnalyzer`] takes one track
//! from start to end. Voice activity detection ([`vad`]) decides which samples are speech ([`spans`]). Quality
//! ([`quality`]) and syllable rate ([`syllables`]) are measured on those samples. The memory in use does not grow with
//! the track.

mod quality;
mod spans;
mod syllables;
mod unrolled;
mod vad;

use std::path::PathBuf;
use std::sync::Arc;

use crate::analysis::{ModelUsed, Speech, SpeechTally, Warning};
use crate::config::Settings;
use crate::engine::{Engine, EngineError};

use parking_lot::Mutex;
use quality::{Quality, Rating};
use spans::Spans;
use syllables::Syllables;
use unrolled::WINDOW;
use vad::Vad;

pub use vad::NAME as VAD_MODEL;

/// Sample rate in samples a second.
pub const RATE: u32 = 16_000;
/// Samples in one call of voice activity detection: 32 windows, about one second.
const BATCH: usize = 32 * WINDOW;

/// The models that analyze speech, loaded at their first use. Cheap to clone.
#[derive(Clone)]
pub struct SpeechModels(Arc<Inner>);

struct Inner {
    engine: Engine,
    folder: PathBuf,
    is_enabled: bool,
    models: Mutex<Models>,
}

/// The models that are loaded.
#[derive(Default)]
struct Models {
    vad: Option<Arc<Vad>>,
    quality: Option<Quality>,
}

/// Result of the analysis of one sound track.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechResult {
    pub speech: Speech,
    pub models: Vec<ModelUsed>,
    pub warnings: Vec<Warning>,
}

impl SpeechModels {
    /// Keeps the engine and the settings. Loads no model yet.
    pub fn new(engine: &Engine, settings: &Settings) -> Self {
        Self(Arc::new(Inner {
            engine: engine.clone(),
            folder: settings.models.folder.clone(),
            is_enabled: settings.speech.enabled,
            models: Mutex::default(),
        }))
    }

    /// Whether the settings allow the analysis of sound.
    pub fn is_enabled(&self) -> bool {
        self.0.is_enabled
    }

    /// Returns an analyzer for one track, and loads the models first if needed. Without the model for quality, the
    /// result has no quality and a warning.
    ///
    /// # Errors
    /// The model for voice activity detection could not be loaded.
    pub fn analyzer(&self) -> Result<SpeechAnalyzer, EngineError> {
        let Inner { engine, folder, models, .. } = &*self.0;
        let mut models = models.lock();
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
                    tracing::warn!(%error, "no quality model: speech quality is left out");
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
        Ok(SpeechAnalyzer {
            state: vad::State::default(),
            vad,
            waiting: Vec::with_capacity(2 * BATCH),
            samples: 0,
            spans: Spans::default(),
            tally: SpeechTally::default(),
            syllables: Syllables::default(),
            rating: quality.map(Rating::new),
            models: used.into_iter().flatten().collect(),
            warnings,
        })
    }
}

/// Analyzes one sound track.
pub struct SpeechAnalyzer {
    vad: Arc<Vad>,
    state: vad::State,
    /// Samples for the next call of voice activity detection.
    waiting: Vec<f32>,
    /// Samples pushed so far.
    samples: u64,
    spans: Spans,
    tally: SpeechTally,
    syllables: Syllables,
    rating: Option<Rating>,
    models: Vec<ModelUsed>,
    warnings: Vec<Warning>,
}

impl SpeechAnalyzer {
    /// Takes the next samples of the track: mono, 16 kHz, from -1 to 1. Blocks.
    pub fn push(&mut self, samples: &[f32]) -> Result<(), EngineError> {
        self.samples += samples.len() as u64;
        for part in samples.chunks(BATCH) {
            self.waiting.extend_from_slice(part);
            if self.waiting.len() >= BATCH {
                let rest = self.waiting.split_off(BATCH);
                let windows = std::mem::replace(&mut self.waiting, rest);
                self.process(&windows)?;
            }
        }
        Ok(())
    }

    /// Ends the track and returns its result.
    pub fn finish(mut self) -> Result<SpeechResult, EngineError> {
        // The last window is padded with silence, which ends no span and is not counted.
        let mut windows = std::mem::take(&mut self.waiting);
        windows.resize(windows.len().next_multiple_of(WINDOW), 0.0);
        self.process(&windows)?;
        let track_s = seconds(self.samples);
        let mut result = Ok(());
        let (syllables, rating) = (&mut self.syllables, &mut self.rating);
        let last = self.spans.finish(&mut |samples| measure(syllables, rating.as_mut(), samples, &mut result));
        result?;
        if let Some((from, to)) = last {
            self.syllables.pause();
            self.tally.add_span(seconds(from), seconds(to).min(track_s));
        }
        let quality = self.rating.map(Rating::finish).transpose()?.flatten();
        let speech = self.tally.speech(track_s, self.syllables.count(), quality);
        if speech.ratio == 0.0 {
            self.warnings.push(Warning::NoSpeech);
        } else if speech.quality_mos.is_none() && self.warnings.is_empty() {
            self.warnings.push(Warning::LittleSpeech);
        }
        Ok(SpeechResult { speech, models: self.models, warnings: self.warnings })
    }

    /// Processes samples of whole windows.
    fn process(&mut self, windows: &[f32]) -> Result<(), EngineError> {
        let probabilities = self.vad.probabilities(&mut self.state, windows)?;
        let mut result = Ok(());
        for (window, probability) in windows.chunks_exact(WINDOW).zip(probabilities) {
            let (syllables, rating) = (&mut self.syllables, &mut self.rating);
            let ended = self
                .spans
                .push(window, probability, &mut |samples| measure(syllables, rating.as_mut(), samples, &mut result));
            if let Some((from, to)) = ended {
                self.syllables.pause();
                self.tally.add_span(seconds(from), seconds(to));
            }
        }
        result
    }
}

/// Passes samples of speech to syllable rate and quality. After an error in `result`, quality takes no more samples.
fn measure(
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

/// Converts a number of samples to seconds.
fn seconds(samples: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    {
        samples as f64 / f64::from(RATE)
    }
}
