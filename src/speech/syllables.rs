//! Counts syllables without recognising words, after de Jong & Wempe 2009, "Praat script to detect syllable nuclei and
//! measure speech rate automatically". A syllable nucleus is a voiced peak of loudness, at least 2 dB above the dips on
//! both sides and at most 25 dB below the loudest speech.

/// Samples over which loudness is measured: 64 ms.
const WINDOW: usize = 1024;
/// Samples between two measurements of loudness: 16 ms.
const STEP: usize = 256;
/// Minimum depth of the dips on both sides of a peak, in dB.
const DIP_DB: f64 = 2.0;
/// Peaks further below the loudest speech (the 99th percentile) are not counted, in dB.
const RANGE_DB: f64 = 25.0;
/// Loudness of the lowest level. Levels are 1 dB apart.
const FLOOR_DB: f64 = -120.0;
const LEVELS: usize = 130;
/// Periods of a voice of 75 to 300 Hz, in samples at half the sample rate.
const PERIODS: std::ops::RangeInclusive<usize> = 26..=106;
/// Autocorrelation above which sound is voiced.
const VOICED: f32 = 0.45;

/// Counts syllables. The memory in use does not grow with the speech.
pub(super) struct Syllables {
    samples: Vec<f32>,
    /// Lowest loudness since the last peak, in dB.
    low: f64,
    /// Highest loudness since that dip.
    peak: Option<Peak>,
    /// Measurements at each level of loudness.
    measures: [u64; LEVELS],
    /// Voiced peaks at each level of loudness.
    peaks: [u64; LEVELS],
}

/// A peak of loudness and the sound of its window.
struct Peak {
    db: f64,
    sound: Vec<f32>,
}

impl Default for Syllables {
    fn default() -> Self {
        let none = [0; LEVELS];
        Self { samples: Vec::new(), low: FLOOR_DB, peak: None, measures: none, peaks: none }
    }
}

impl Syllables {
    /// Takes the next samples of speech.
    pub fn push(&mut self, samples: &[f32]) {
        self.samples.extend_from_slice(samples);
        let mut from = 0;
        while let Some(sound) = self.samples.get(from..from + WINDOW) {
            let db = loudness(sound);
            self.measures[level(db)] += 1;
            match &mut self.peak {
                Some(peak) if db < peak.db - DIP_DB => {
                    if is_voiced(&peak.sound) {
                        self.peaks[level(peak.db)] += 1;
                    }
                    (self.low, self.peak) = (db, None);
                }
                Some(peak) if db <= peak.db => {}
                _ if db >= self.low + DIP_DB => self.peak = Some(Peak { db, sound: sound.to_vec() }),
                _ => self.low = self.low.min(db),
            }
            from += STEP;
        }
        self.samples.drain(..from);
    }

    /// Ends a span of speech. The silence after it counts as a dip.
    pub fn pause(&mut self) {
        if let Some(peak) = self.peak.take()
            && is_voiced(&peak.sound)
        {
            self.peaks[level(peak.db)] += 1;
        }
        self.low = FLOOR_DB;
        self.samples.clear();
    }

    /// Returns the number of syllables so far.
    pub fn count(&self) -> u64 {
        let all: u64 = self.measures.iter().sum();
        let mut louder = 0;
        let top = (0..LEVELS).rev().find(|level| {
            louder += self.measures[*level];
            louder * 100 > all
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a level")]
        let quietest = top.unwrap_or(0).saturating_sub(RANGE_DB as usize);
        self.peaks[quietest..].iter().sum()
    }
}

/// Returns the mean power of a window of sound, weighted by a raised cosine, in dB relative to full scale.
fn loudness(sound: &[f32]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a thousand samples")]
    let turn = std::f32::consts::TAU / sound.len() as f32;
    let (mut power, mut weights, mut angle) = (0.0_f32, 0.0_f32, 0.5 * turn);
    for sample in sound {
        let weight = 1.0 - angle.cos();
        power += weight * sample * sample;
        weights += weight;
        angle += turn;
    }
    (10.0 * f64::from(power / weights).log10()).max(FLOOR_DB)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn level(db: f64) -> usize {
    (db - FLOOR_DB).clamp(0.0, (LEVELS - 1) as f64) as usize
}

/// Whether sound is periodic with the period of a voice, by its normalised autocorrelation.
fn is_voiced(sound: &[f32]) -> bool {
    // Half the sample rate is enough for the pitch of a voice.
    let half: Vec<f32> = sound.chunks_exact(2).map(|pair| f32::midpoint(pair[0], pair[1])).collect();
    let Some(length) = half.len().checked_sub(*PERIODS.end()) else { return false };
    let now = &half[..length];
    let power: f32 = now.iter().map(|x| x * x).sum();
    PERIODS.into_iter().any(|period| {
        let then = &half[period..period + length];
        let product: f32 = now.iter().zip(then).map(|(a, b)| a * b).sum();
        let other: f32 = then.iter().map(|x| x * x).sum();
        product > VOICED * (power * other).sqrt() && product > f32::MIN_POSITIVE
    })
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    /// Makes a hum of 120 Hz with overtones, or noise, whose loudness rises and falls `rate` times a second.
    fn swells(rate: f32, seconds: f32, hum: bool) -> Vec<f32> {
        let mut noise = 1_u32;
        (0..(seconds * 16_000.0) as usize)
            .map(|n| {
                let t = n as f32 / 16_000.0;
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let carrier = if hum {
                    (1..6).map(|k| (TAU * 120.0 * k as f32 * t).sin() / k as f32).sum::<f32>() / 3.0
                } else {
                    (noise >> 8) as f32 / (1 << 23) as f32 - 1.0
                };
                0.3 * carrier * (0.55 - 0.45 * (TAU * rate * t).cos())
            })
            .collect()
    }

    fn count(sound: &[f32]) -> u64 {
        let mut syllables = Syllables::default();
        // Speech arrives in pieces.
        sound.chunks(777).for_each(|part| syllables.push(part));
        syllables.pause();
        syllables.count()
    }

    #[test]
    fn each_peak_of_a_voice_is_a_syllable() {
        for rate in [2.0, 4.0, 6.0] {
            let counted = count(&swells(rate, 10.0, true));
            assert!(counted.abs_diff((10.0 * rate) as u64) <= 1, "{rate} a second: {counted} in 10 s");
        }
    }

    #[test]
    fn noise_and_steady_sound_have_no_syllables() {
        assert_eq!(count(&swells(4.0, 10.0, false)), 0);
        assert!(count(&swells(0.0, 10.0, true)) <= 1);
        assert_eq!(count(&[0.0; 48_000]), 0);
        assert_eq!(count(&[]), 0);
    }

    #[test]
    fn peaks_far_below_the_loudest_speech_are_not_counted() {
        let mut sound = swells(4.0, 10.0, true);
        sound.extend(swells(4.0, 5.0, true).iter().map(|sample| sample * 0.01));
        assert!(count(&sound).abs_diff(40) <= 1, "{}", count(&sound));
    }
}
