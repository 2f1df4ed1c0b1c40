//! Rates the quality of recorded speech with DNSMOS P.835 (Reddy, Gopal & Cutler 2022, "DNSMOS P.835: A non-intrusive
//! perceptual objective speech quality metric"). The model predicts the ratings of listeners, from 1 (bad) to 5
//! (excellent). They apply to the recording and not to the speaker.

use std::path::Path;

use ndarray::{ArrayD, IxDyn};

use super::RATE;
use crate::analysis::{ModelUsed, SpeechQuality};
use crate::engine::{Engine, EngineError, Model};

pub(super) const NAME: &str = "dnsmos";
const FILE: &str = "dnsmos_sig_bak_ovr.onnx";
/// Samples in the input of the model: 9.01 s.
const WINDOW: usize = 144_160;
/// A window consists of this many pieces, spread over the speech that it represents. The published script rates a
/// window for each second. That would take more work than all the rest of the analysis of sound (200 to 400 ms a window
/// on one core), so few windows are rated. Pieces of 3 s spread over the speech are closer to the mean of all windows
/// than 9 s in one piece (standard deviations of 0.1 and 0.19 in half a minute of speech).
const PIECES: usize = 3;
/// Maximum number of samples of speech that one window represents: 90 s.
const SPAN: usize = 10 * WINDOW;
/// Minimum number of samples of speech that are rated: 1 s.
const MIN: usize = RATE as usize;

#[derive(Clone)]
pub(super) struct Quality(Model);

impl Quality {
    pub fn load(engine: &Engine, folder: &Path) -> Result<Self, EngineError> {
        let model = engine.load(NAME, &folder.join(FILE))?;
        let expected = [None, Some(WINDOW)];
        if model.input().shape != expected {
            let reason = format!("its input is {:?}, not {expected:?}", model.input().shape);
            return Err(EngineError::ModelRefused { name: NAME.to_owned(), reason });
        }
        Ok(Self(model))
    }

    pub fn used(&self) -> ModelUsed {
        ModelUsed { name: NAME.to_owned(), sha256: self.0.sha256().to_owned() }
    }

    /// Rates one window.
    fn rate(&self, samples: Vec<f32>) -> Result<SpeechQuality, EngineError> {
        let failed = |reason: String| EngineError::Run { model: NAME.to_owned(), reason };
        let row = ArrayD::from_shape_vec(IxDyn(&[1, WINDOW]), samples).map_err(|error| failed(error.to_string()))?;
        let outputs = self.0.run(row)?;
        let values: Vec<f64> = outputs.iter().flatten().map(|value| f64::from(*value)).collect();
        match values[..] {
            [sig, bak, ovr] if values.iter().all(|value| value.is_finite()) => Ok(calibrated(sig, bak, ovr)),
            _ => Err(failed(format!("expected three finite ratings, got {values:?}"))),
        }
    }
}

/// Converts the outputs of the model to ratings of listeners with the published polynomials.
fn calibrated(sig: f64, bak: f64, ovr: f64) -> SpeechQuality {
    let opinion = |[a, b, c]: [f64; 3], x: f64| (a * x * x + b * x + c).clamp(1.0, 5.0);
    SpeechQuality {
        sig: opinion([-0.083_972_78, 1.220_839_53, 0.005_243_9], sig),
        bak: opinion([-0.131_668_88, 1.609_155_14, -0.396_045_46], bak),
        ovr: opinion([-0.067_662_83, 1.115_464_68, 0.046_025_35], ovr),
    }
}

/// Returns the window that represents some speech. Short speech is repeated until it fills the window, as in the
/// published script. Long speech is represented by pieces spread from its beginning to its end.
fn excerpt(speech: &[f32]) -> Vec<f32> {
    if speech.len() <= WINDOW {
        return speech.iter().copied().cycle().take(WINDOW).collect();
    }
    let ends = (1..=PIECES).map(|piece| piece * WINDOW / PIECES);
    let starts = (0..PIECES).map(|piece| piece * WINDOW / PIECES);
    let gap = (speech.len() - WINDOW) / (PIECES - 1);
    let pieces = starts.zip(ends).enumerate().flat_map(|(n, (start, end))| &speech[start + n * gap..end + n * gap]);
    pieces.copied().collect()
}

/// Computes the mean rating of the speech of a track.
pub(super) struct Rating {
    quality: Quality,
    /// Speech that is not rated yet, less than [`SPAN`] samples.
    speech: Vec<f32>,
    /// Sums of the ratings, each multiplied by the samples that it represents.
    sum: [f64; 3],
    weight: f64,
    windows: u32,
}

impl Rating {
    pub fn new(quality: Quality) -> Self {
        Self { quality, speech: Vec::new(), sum: [0.0; 3], weight: 0.0, windows: 0 }
    }

    pub fn push(&mut self, mut samples: &[f32]) -> Result<(), EngineError> {
        while !samples.is_empty() {
            let (part, rest) = samples.split_at(samples.len().min(SPAN - self.speech.len()));
            samples = rest;
            self.speech.extend(part);
            if self.speech.len() == SPAN {
                self.rate()?;
            }
        }
        Ok(())
    }

    /// Returns the mean rating, or `None` if there was too little speech. The speech after the last window is rated if
    /// it has at least half of [`SPAN`].
    pub fn finish(mut self) -> Result<Option<SpeechQuality>, EngineError> {
        let least = if self.windows == 0 { MIN } else { SPAN / 2 };
        if self.speech.len() >= least {
            self.rate()?;
        }
        let [sig, bak, ovr] = self.sum.map(|sum| sum / self.weight);
        Ok((self.windows > 0).then_some(SpeechQuality { sig, bak, ovr }))
    }

    fn rate(&mut self) -> Result<(), EngineError> {
        let SpeechQuality { sig, bak, ovr } = self.quality.rate(excerpt(&self.speech))?;
        #[expect(clippy::cast_precision_loss, reason = "a minute and a half of samples")]
        let weight = self.speech.len() as f64;
        for (sum, value) in self.sum.iter_mut().zip([sig, bak, ovr]) {
            *sum += weight * value;
        }
        self.weight += weight;
        self.windows += 1;
        self.speech.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{WINDOW, calibrated, excerpt};

    #[test]
    fn short_speech_is_repeated_and_long_speech_is_represented_by_pieces() {
        let speech = |samples: usize| (0..samples).map(|at| at as f32).collect::<Vec<_>>();
        let short = excerpt(&speech(WINDOW - 10));
        assert_eq!((short.len(), short[WINDOW - 11], short[WINDOW - 10]), (WINDOW, (WINDOW - 11) as f32, 0.0));
        assert_eq!(excerpt(&speech(WINDOW)), speech(WINDOW));
        for samples in [WINDOW + 1, 2 * WINDOW, 3 * WINDOW + 7, 5 * WINDOW] {
            let window = excerpt(&speech(samples));
            assert_eq!((window.len(), window[0]), (WINDOW, 0.0));
            assert!(samples as f32 - window[WINDOW - 1] <= 2.0, "{samples}: ends at {}", window[WINDOW - 1]);
            assert!(window.is_sorted(), "a sample is used twice");
            let jumps = window.windows(2).filter(|pair| pair[1] - pair[0] > 1.5).count();
            assert!(jumps <= 2, "{samples}: {jumps}");
        }
    }

    #[test]
    fn ratings_are_calibrated_as_published_and_clamped_to_the_scale() {
        let mos = calibrated(3.0, 3.0, 3.0);
        for (value, expected) in [(mos.sig, 2.912_007), (mos.bak, 3.246_400), (mos.ovr, 2.783_454)] {
            assert!((value - expected).abs() < 1e-5, "{mos:?}");
        }
        let mos = calibrated(-9.0, 0.0, 0.0);
        assert_eq!((mos.sig, mos.bak, mos.ovr), (1.0, 1.0, 1.0));
    }
}
