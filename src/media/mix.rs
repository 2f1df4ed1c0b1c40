//! Several channels to one, without losing a voice.
//!
//! The mean of all channels cancels a voice that two of them carry in opposite phase, and makes one quiet that a single
//! channel carries. So the mean is taken only where it keeps enough of the loudest channel's energy, and the loudest
//! channel elsewhere. Weights move at a limited rate, so that a change makes no click.

/// Samples that are judged together at most: 20 ms.
const BLOCK: usize = 320;
/// Share of its memory that the mixer keeps over a whole block.
const KEPT: f64 = 0.7;
/// The mean is given up if it has less than this share of the energy of the loudest channel, and taken again from the
/// second one on. Two voices that have nothing in common leave a half, one voice in one of two channels a quarter.
const TOO_LITTLE: f64 = 0.3;
const ENOUGH: f64 = 0.42;
/// Another channel has to have this many times the energy of the one in use.
const LOUDER: f64 = 1.5;
/// A weight changes by 1 in 10 ms.
const SLEW: f32 = 1.0 / 160.0;

/// Mixes interleaved samples of one layout. Holds no samples.
pub(super) struct Mixer {
    weights: Vec<f32>,
    /// The channel in use; `None`: the mean.
    chosen: Option<usize>,
    /// Recent energy of each channel, and of the mean.
    energies: Vec<f64>,
    of_mean: f64,
    has_begun: bool,
}

impl Mixer {
    pub fn new(channels: usize) -> Self {
        let channels = channels.max(1);
        Self {
            weights: Self::even(channels),
            chosen: None,
            energies: vec![0.0; channels],
            of_mean: 0.0,
            has_begun: false,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "channels are few")]
    fn even(channels: usize) -> Vec<f32> {
        vec![1.0 / channels as f32; channels]
    }

    pub fn channels(&self) -> usize {
        self.weights.len()
    }

    /// Mixes whole frames of samples. A value that is not finite counts as 0.
    pub fn mix(&mut self, samples: &mut [f32], to: &mut Vec<f32>) {
        for sample in samples.iter_mut().filter(|sample| !sample.is_finite()) {
            *sample = 0.0;
        }
        if self.channels() == 1 {
            to.extend_from_slice(samples);
            return;
        }
        for block in samples.chunks(BLOCK * self.channels()) {
            self.choose(block);
            let goal = self.goal();
            if !std::mem::replace(&mut self.has_begun, true) {
                self.weights.clone_from(&goal);
            }
            for frame in block.chunks_exact(self.channels()) {
                for (weight, goal) in self.weights.iter_mut().zip(&goal) {
                    *weight += (goal - *weight).clamp(-SLEW, SLEW);
                }
                to.push(frame.iter().zip(&self.weights).map(|(sample, weight)| sample * weight).sum());
            }
        }
    }

    /// The weights to move to.
    fn goal(&self) -> Vec<f32> {
        match self.chosen {
            None => Self::even(self.channels()),
            Some(chosen) => (0..self.channels()).map(|channel| f32::from(u8::from(channel == chosen))).collect(),
        }
    }

    /// Judges one block.
    #[expect(clippy::cast_precision_loss, reason = "channels and samples are few")]
    fn choose(&mut self, block: &[f32]) {
        let channels = self.channels();
        let kept = KEPT.powf((block.len() / channels) as f64 / BLOCK as f64);
        self.of_mean *= kept;
        self.energies.iter_mut().for_each(|energy| *energy *= kept);
        for frame in block.chunks_exact(channels) {
            let mut sum = 0.0;
            for (energy, sample) in self.energies.iter_mut().zip(frame) {
                let sample = f64::from(*sample);
                *energy += sample * sample;
                sum += sample;
            }
            self.of_mean += (sum / channels as f64).powi(2);
        }
        let Some((loudest, most)) = self.energies.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)) else {
            return;
        };
        if most <= 0.0 {
            return;
        }
        self.chosen = match self.chosen {
            None if self.of_mean >= TOO_LITTLE * most => None,
            Some(_) if self.of_mean >= ENOUGH * most => None,
            Some(chosen) if self.energies[chosen] * LOUDER >= most => Some(chosen),
            _ => Some(loudest),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(at: usize) -> f32 {
        0.5 * (at as f32 * 0.17).sin()
    }

    /// One second, given in pieces of odd sizes.
    fn mixed(channels: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let mut samples: Vec<f32> =
            (0..16_000).flat_map(|at| (0..channels).map(move |c| (at, c))).map(|(at, c)| value(at, c)).collect();
        let (mut mixer, mut to) = (Mixer::new(channels), Vec::new());
        samples.chunks_mut(371 * channels).for_each(|piece| mixer.mix(piece, &mut to));
        assert_eq!(to.len(), 16_000);
        to
    }

    fn level(samples: &[f32]) -> f32 {
        (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32).sqrt()
    }

    fn steepest(samples: &[f32]) -> f32 {
        samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_voice_keeps_its_level_wherever_it_is() {
        let alone = level(&(0..16_000).map(tone).collect::<Vec<_>>());
        let near = |found: &[f32]| (0.95..1.05).contains(&(level(found) / alone));
        assert!(near(&mixed(2, |at, _| tone(at))), "dual mono");
        assert!(near(&mixed(2, |at, c| if c == 0 { tone(at) } else { -tone(at) })), "opposite phase");
        for voice in 0..2 {
            assert!(near(&mixed(2, |at, c| if c == voice { tone(at) } else { 0.0 })), "channel {voice} alone");
        }
        for channels in [6, 8] {
            assert!(near(&mixed(channels, |at, c| if c == 2 { tone(at) } else { 0.0 })), "centre of {channels}");
        }
    }

    #[test]
    fn a_change_in_mid_file_is_followed_without_a_click() {
        let later = mixed(2, |at, c| if c == 1 && at >= 8_000 { -tone(at) } else { tone(at) });
        let (before, after) = (level(&later[..7_000]), level(&later[9_000..]));
        assert!((after / before - 1.0).abs() < 0.05, "{before} {after}");
        let plain = steepest(&(0..16_000).map(tone).collect::<Vec<_>>());
        let moved = mixed(2, |at, c| if (c == 0) == (at < 8_000) { tone(at) } else { 0.0 });
        // The input itself jumps at 8000; its own step is that of the tone there.
        assert!(steepest(&moved) < plain + tone(8_000).abs() + 0.01, "{}", steepest(&moved));
        assert!((level(&moved[9_000..]) / level(&moved[..7_000]) - 1.0).abs() < 0.05);
    }

    #[test]
    fn two_voices_at_once_are_both_heard() {
        let other = |at: usize| 0.5 * (at as f32 * 0.4).sin();
        let both = mixed(2, |at, c| if c == 0 { tone(at) } else { other(at) });
        let part = |voice: &dyn Fn(usize) -> f32| {
            (0..16_000).map(|at| both[at] * voice(at)).sum::<f32>()
                / (0..16_000).map(|at| voice(at).powi(2)).sum::<f32>()
        };
        assert!(
            (part(&tone) - 0.5).abs() < 0.1 && (part(&other) - 0.5).abs() < 0.1,
            "{} {}",
            part(&tone),
            part(&other)
        );
    }

    #[test]
    fn values_that_are_no_numbers_spoil_nothing() {
        let found = mixed(2, |at, c| if c == 1 { f32::NAN } else { tone(at) });
        assert!(found.iter().all(|sample| sample.is_finite()));
        assert!(level(&found) > 0.3);
    }
}
