//! Analyzes the sound of a live session. Sound that does not arrive is silence.

use super::Pipeline;
use super::live::LiveSound;
use crate::analysis::Warning;
use crate::engine::EngineError;
use crate::speech::{self, SpeechAnalyzer};

/// Samples a second of the sound of live sessions.
pub const LIVE_SOUND_RATE: u32 = speech::RATE;
/// Sound may begin this many seconds earlier or later than the previous block ended. Clocks of cameras and microphones
/// differ by as much.
const TOLERANCE_S: f64 = 0.1;
/// Samples of silence in one call of the analyzer.
const SILENCE: usize = speech::RATE as usize;

/// The sound of a live session. Its calls block, and belong on another thread than the pictures.
pub struct LiveSoundTrack {
    /// `None` if the sound is not analyzed.
    analyzer: Option<SpeechAnalyzer>,
    /// Samples so far, with the silence in between.
    samples: u64,
    warnings: Vec<Warning>,
}

/// A block of sound that begins before the end of the previous one.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the sound begins at {at_s} s, before the end of the sound so far at {end_s} s")]
pub struct SoundOverlap {
    pub at_s: f64,
    pub end_s: f64,
}

impl Pipeline {
    /// Begins to analyze the sound of a live session. Blocks while models are loaded for the first time. If they cannot
    /// be loaded, the result has a warning.
    pub fn live_sound(&self) -> LiveSoundTrack {
        let off = |warning| LiveSoundTrack { analyzer: None, samples: 0, warnings: vec![warning] };
        if !self.speech_models.is_enabled() {
            return off(Warning::SpeechDisabled);
        }
        match self.speech_models.analyzer() {
            Ok(analyzer) => LiveSoundTrack { analyzer: Some(analyzer), samples: 0, warnings: Vec::new() },
            Err(error) => {
                tracing::warn!(%error, "the sound of a live session is not analyzed");
                off(if error.is_missing() {
                    Warning::SpeechModelMissing { model: speech::VAD_MODEL.to_owned() }
                } else {
                    Warning::SpeechModelFailed
                })
            }
        }
    }
}

impl LiveSoundTrack {
    /// Takes samples (mono, 16 kHz, from -1 to 1) that begin at this time in seconds of the session. Blocks.
    pub fn push(&mut self, at_s: f64, samples: &[f32]) -> Result<(), SoundOverlap> {
        let end_s = seconds(self.samples);
        if at_s < end_s - TOLERANCE_S {
            return Err(SoundOverlap { at_s, end_s });
        }
        if at_s > end_s + TOLERANCE_S {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive")]
            let mut missing = ((at_s - end_s) * f64::from(speech::RATE)) as usize;
            let silence = [0.0; SILENCE];
            while missing > 0 {
                let part = missing.min(SILENCE);
                self.take(&silence[..part]);
                missing -= part;
            }
        }
        self.take(samples);
        Ok(())
    }

    fn take(&mut self, samples: &[f32]) {
        self.samples += samples.len() as u64;
        let failed = self.analyzer.as_mut().and_then(|analyzer| analyzer.push(samples).err());
        if let Some(error) = failed {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &EngineError) {
        tracing::warn!(%error, "the sound of a live session is no longer analyzed");
        self.analyzer = None;
        self.warnings.push(Warning::SpeechModelFailed);
    }

    /// Ends the sound. Blocks.
    pub fn finish(mut self) -> LiveSound {
        let end_s = seconds(self.samples);
        // A session without sound has no warnings about it.
        if self.samples == 0 {
            return LiveSound::default();
        }
        match self.analyzer.take().map(SpeechAnalyzer::finish) {
            Some(Ok(found)) => LiveSound {
                speech: Some(found.speech),
                models: found.models,
                warnings: self.warnings.into_iter().chain(found.warnings).collect(),
                has_audio: true,
                end_s,
            },
            Some(Err(error)) => {
                self.fail(&error);
                LiveSound { warnings: self.warnings, has_audio: true, end_s, ..LiveSound::default() }
            }
            None => LiveSound { warnings: self.warnings, has_audio: true, end_s, ..LiveSound::default() },
        }
    }
}

/// Converts a number of samples to seconds.
fn seconds(samples: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    {
        samples as f64 / f64::from(speech::RATE)
    }
}
