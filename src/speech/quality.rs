//! The quality of recorded speech: DNSMOS P.835, which guesses what listeners would say, from 1 (bad) to 5 (excellent)
//! (Reddy, Gopal & Cutler 2022, "DNSMOS P.835: A non-intrusive perceptual objective speech quality metric"). It rates the
//! recording, not the speaker.

use std::collections::VecDeque;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};

use super::RATE;
use crate::analysis::{ModelUsed, SpeechQuality};
use crate::engine::{Engine, EngineError, Model};

pub(super) const NAME: &str = "dnsmos";
const FILE: &str = "dnsmos_sig_bak_ovr.onnx";
/// Samples that are rated together: 9.01 s.
const WINDOW: usize = 144_160;
/// New samples of speech from the end of one window to that of the next, at first. The published script goes on by one second
/// at a time, for eighteen times the work, and this model takes more work than all the rest of listening (some 200 ms a
/// window). With every other 9 seconds rated, half a minute of speech is rated with a standard deviation of 0.1 about what
/// all windows give; with every 9 seconds, of 0.06.
const HOP: usize = 2 * WINDOW;
/// Windows after which the hop is longer: about a minute of speech.
const CLOSE: u32 = 3;
/// The hop from then on: recordings seldom change, and the more windows there are, the less each one matters.
const FAR_HOP: usize = 5 * WINDOW;
/// Less speech than this, in samples, is not rated.
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
            _ => Err(failed(format!("three ratings were expected, not {values:?}"))),
        }
    }
}

/// The published polynomials from the network's outputs to listeners' ratings.
fn calibrated(sig: f64, bak: f64, ovr: f64) -> SpeechQuality {
    let opinion = |[a, b, c]: [f64; 3], x: f64| (a * x * x + b * x + c).clamp(1.0, 5.0);
    SpeechQuality {
        sig: opinion([-0.083_972_78, 1.220_839_53, 0.005_243_9], sig),
        bak: opinion([-0.131_668_88, 1.609_155_14, -0.396_045_46], bak),
        ovr: opinion([-0.067_662_83, 1.115_464_68, 0.046_025_35], ovr),
    }
}

/// The mean rating of the speech of a track.
pub(super) struct Rating {
    quality: Quality,
    /// The last samples of speech, at most a window.
    window: VecDeque<f32>,
    /// Samples of speech since the last rating.
    fresh: usize,
    /// Ratings, each times the samples that it stands for.
    sum: [f64; 3],
    weight: f64,
    windows: u32,
}

impl Rating {
    pub fn new(quality: Quality) -> Self {
        Self { quality, window: VecDeque::new(), fresh: 0, sum: [0.0; 3], weight: 0.0, windows: 0 }
    }

    pub fn push(&mut self, mut samples: &[f32]) -> Result<(), EngineError> {
        while !samples.is_empty() {
            let hop = if self.windows < CLOSE { HOP } else { FAR_HOP };
            // To the next window's end and no further.
            let (part, rest) = samples.split_at(samples.len().min(hop - self.fresh));
            samples = rest;
            self.window.extend(part);
            self.window.drain(..self.window.len().saturating_sub(WINDOW));
            self.fresh += part.len();
            if self.fresh == hop {
                self.rate()?;
            }
        }
        Ok(())
    }

    /// The mean; `None` where there was too little speech. What is left after the last window is rated with the speech
    /// before it; speech that fills no window is repeated until it does, as in the published script.
    pub fn finish(mut self) -> Result<Option<SpeechQuality>, EngineError> {
        if self.windows == 0 && self.window.len() >= MIN {
            let said: Vec<f32> = self.window.iter().copied().collect();
            self.window = said.into_iter().cycle().take(WINDOW).collect();
            self.rate()?;
        } else if self.windows > 0 && self.fresh >= WINDOW / 2 {
            self.rate()?;
        }
        let [sig, bak, ovr] = self.sum.map(|sum| sum / self.weight);
        Ok((self.windows > 0).then_some(SpeechQuality { sig, bak, ovr }))
    }

    fn rate(&mut self) -> Result<(), EngineError> {
        let SpeechQuality { sig, bak, ovr } = self.quality.rate(self.window.iter().copied().collect())?;
        #[expect(clippy::cast_precision_loss, reason = "a minute of samples")]
        let weight = self.fresh as f64;
        for (sum, value) in self.sum.iter_mut().zip([sig, bak, ovr]) {
            *sum += weight * value;
        }
        self.weight += weight;
        self.windows += 1;
        self.fresh = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::calibrated;

    #[test]
    fn ratings_are_calibrated_as_published_and_stay_on_the_scale() {
        let mos = calibrated(3.0, 3.0, 3.0);
        for (value, expected) in [(mos.sig, 2.912_007), (mos.bak, 3.246_400), (mos.ovr, 2.783_454)] {
            assert!((value - expected).abs() < 1e-5, "{mos:?}");
        }
        let mos = calibrated(-9.0, 0.0, 0.0);
        assert_eq!((mos.sig, mos.bak, mos.ovr), (1.0, 1.0, 1.0));
    }
}
