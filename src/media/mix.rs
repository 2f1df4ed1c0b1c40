//! Mixes several channels to one without losing a voice.
//!
//! The mean of all channels cancels a voice that two channels carry in opposite phase, and attenuates a voice in a
//! single channel. So the mean is used only while it keeps enough of the energy of the loudest channel. Otherwise the
//! loudest channel is used. The weights change at a limited rate, so that a switch does not click. The low-frequency
//! channel carries no voice and is left out.

/// The weights are chosen once per block of this many samples (20 ms).
const BLOCK: usize = 320;
/// The energies decay by this factor per block.
const DECAY: f64 = 0.7;
/// The mixer leaves the mean if the mean has less than this share of the energy of the loudest channel. For comparison:
/// the mean of two independent voices has a share of 0.5, and that of a voice in one of two channels a share of 0.25.
const LEAVE_MEAN: f64 = 0.3;
/// The mixer returns to the mean from this share on.
const RETURN_TO_MEAN: f64 = 0.42;
/// The mixer changes to another channel if that has this many times the energy of the current one.
const SWITCH_RATIO: f64 = 1.5;
/// The maximum change of a weight per sample: 1 in 10 ms.
const SLEW_RATE: f32 = 1.0 / 160.0;

/// Mixes interleaved samples of one channel layout.
pub(super) struct Mixer {
    weights: Vec<f32>,
    /// The index of the low-frequency channel.
    low_frequency: Option<usize>,
    /// The channel in use; `None` for the mean.
    channel: Option<usize>,
    /// The recent energy of each channel.
    energies: Vec<f64>,
    /// The recent energy of the mean.
    mean_energy: f64,
    is_started: bool,
}

impl Mixer {
    pub fn new(channels: usize, low_frequency: Option<usize>) -> Self {
        let channels = channels.max(1);
        Self {
            low_frequency: low_frequency.filter(|index| *index < channels && channels > 1),
            weights: Self::mean_weights(channels),
            channel: None,
            energies: vec![0.0; channels],
            mean_energy: 0.0,
            is_started: false,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "channels are few")]
    fn mean_weights(channels: usize) -> Vec<f32> {
        vec![1.0 / channels as f32; channels]
    }

    pub fn channels(&self) -> usize {
        self.weights.len()
    }

    /// Mixes complete frames of samples. NaN and infinity count as 0.
    pub fn mix(&mut self, samples: &mut [f32], to: &mut Vec<f32>) {
        for sample in samples.iter_mut().filter(|sample| !sample.is_finite()) {
            *sample = 0.0;
        }
        if let Some(index) = self.low_frequency {
            samples.iter_mut().skip(index).step_by(self.channels()).for_each(|sample| *sample = 0.0);
        }
        if self.channels() == 1 {
            to.extend_from_slice(samples);
            return;
        }
        for block in samples.chunks(BLOCK * self.channels()) {
            self.choose_channel(block);
            let target = self.target_weights();
            if !std::mem::replace(&mut self.is_started, true) {
                self.weights.clone_from(&target);
            }
            for frame in block.chunks_exact(self.channels()) {
                for (weight, target) in self.weights.iter_mut().zip(&target) {
                    *weight += (target - *weight).clamp(-SLEW_RATE, SLEW_RATE);
                }
                to.push(frame.iter().zip(&self.weights).map(|(sample, weight)| sample * weight).sum());
            }
        }
    }

    /// The weights for the channel in use.
    fn target_weights(&self) -> Vec<f32> {
        match self.channel {
            None => Self::mean_weights(self.channels()),
            Some(chosen) => (0..self.channels()).map(|channel| f32::from(u8::from(channel == chosen))).collect(),
        }
    }

    /// Chooses the channel by the energies, after those of a block are added.
    #[expect(clippy::cast_precision_loss, reason = "channels and samples are few")]
    fn choose_channel(&mut self, block: &[f32]) {
        let channels = self.channels();
        let decay = DECAY.powf((block.len() / channels) as f64 / BLOCK as f64);
        self.mean_energy *= decay;
        self.energies.iter_mut().for_each(|energy| *energy *= decay);
        for frame in block.chunks_exact(channels) {
            let mut sum = 0.0;
            for (energy, sample) in self.energies.iter_mut().zip(frame) {
                let sample = f64::from(*sample);
                *energy += sample * sample;
                sum += sample;
            }
            self.mean_energy += (sum / channels as f64).powi(2);
        }
        let Some((loudest, energy)) = self.energies.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))
        else {
            return;
        };
        if energy <= 0.0 {
            return;
        }
        self.channel = match self.channel {
            None if self.mean_energy >= LEAVE_MEAN * energy => None,
            Some(_) if self.mean_energy >= RETURN_TO_MEAN * energy => None,
            Some(chosen) if self.energies[chosen] * SWITCH_RATIO >= energy => Some(chosen),
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

    /// Mixes one second of sound, in pieces whose size is no multiple of the block size.
    fn mixed(channels: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let mut samples: Vec<f32> =
            (0..16_000).flat_map(|at| (0..channels).map(move |c| (at, c))).map(|(at, c)| value(at, c)).collect();
        let (mut mixer, mut to) = (Mixer::new(channels, None), Vec::new());
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
    fn voice_keeps_its_level_in_every_channel_and_phase() {
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
    fn rumble_of_the_low_frequency_channel_is_left_out() {
        let rumble = |at: usize| (at as f32 * 0.02).sin();
        let mut samples: Vec<f32> = (0..16_000).flat_map(|at| [0.0, 0.0, tone(at), rumble(at), 0.0, 0.0]).collect();
        let (mut mixer, mut to) = (Mixer::new(6, Some(3)), Vec::new());
        mixer.mix(&mut samples, &mut to);
        let alone = (0..16_000).map(tone);
        assert!(to.iter().zip(alone).skip(2000).all(|(given, voice)| (given - voice).abs() < 1e-3));
        // One channel is heard, whatever it is called.
        let (mut mixer, mut to) = (Mixer::new(1, Some(0)), Vec::new());
        mixer.mix(&mut [0.5, 0.25], &mut to);
        assert_eq!(to, [0.5, 0.25]);
    }

    #[test]
    fn channel_switch_does_not_click() {
        let later = mixed(2, |at, c| if c == 1 && at >= 8_000 { -tone(at) } else { tone(at) });
        let (before, after) = (level(&later[..7_000]), level(&later[9_000..]));
        assert!((after / before - 1.0).abs() < 0.05, "{before} {after}");
        let plain = steepest(&(0..16_000).map(tone).collect::<Vec<_>>());
        let moved = mixed(2, |at, c| if (c == 0) == (at < 8_000) { tone(at) } else { 0.0 });
        // The input itself has a step at 8000, of the height of the tone there.
        assert!(steepest(&moved) < plain + tone(8_000).abs() + 0.01, "{}", steepest(&moved));
        assert!((level(&moved[9_000..]) / level(&moved[..7_000]) - 1.0).abs() < 0.05);
    }

    #[test]
    fn two_voices_in_two_channels_are_both_kept() {
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
    fn nan_samples_count_as_silence() {
        let found = mixed(2, |at, c| if c == 1 { f32::NAN } else { tone(at) });
        assert!(found.iter().all(|sample| sample.is_finite()));
        assert!(level(&found) > 0.3);
    }
}
