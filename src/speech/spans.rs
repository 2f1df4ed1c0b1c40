//! From the probability of speech in each window to spans of speech, and the samples that belong to them.
//!
//! The rules and figures are those of Silero VAD's own `get_speech_timestamps`: a span begins above one threshold, ends
//! when it has been below a lower one and not back for a while, and has to last. Where the probability lingers between
//! the two, the original waits without end; here the while is enough, so that no more than it need be held.

use super::vad::WINDOW;

/// Speech begins at this probability ...
const START: f32 = 0.5;
/// ... and ends below this one,
const END: f32 = 0.35;
/// if for this many samples (100 ms).
const MIN_SILENCE: u64 = 1600;
/// Shorter spans (250 ms, in samples) are no speech.
const MIN_SPEECH: u64 = 4000;
/// Sound around a span that is given with it (30 ms, in samples).
const PAD: usize = 480;

/// First sample of a span and the one after its last.
pub(super) type Span = (u64, u64);

/// Follows a track. Holds back at most the sound of the shortest span and silence.
#[derive(Default)]
pub(super) struct Spans {
    /// Samples taken.
    position: u64,
    open: Option<Open>,
    /// The last samples taken, which are not given yet.
    held: Vec<f32>,
}

struct Open {
    start: u64,
    /// Where it went quiet.
    quiet: Option<u64>,
}

impl Spans {
    /// The next window of the track and its probability. Gives samples of speech to `to`, in order, as soon as it is
    /// clear that they are, and returns a span that has ended.
    pub fn push(&mut self, window: &[f32], probability: f32, to: &mut dyn FnMut(&[f32])) -> Option<Span> {
        let here = self.position;
        self.position += window.len() as u64;
        self.held.extend_from_slice(window);
        let Some(open) = &mut self.open else {
            if probability >= START {
                self.open = Some(Open { start: here, quiet: None });
            }
            self.keep(if probability >= START { PAD + WINDOW } else { PAD });
            return None;
        };
        if probability >= START {
            open.quiet = None;
        } else {
            if probability < END {
                open.quiet.get_or_insert(here);
            }
            if let Some(quiet) = open.quiet.filter(|quiet| here - quiet >= MIN_SILENCE) {
                return self.close(quiet, to);
            }
        }
        if open.quiet.is_none() && self.position - open.start > MIN_SPEECH {
            to(&self.held);
            self.held.clear();
        }
        None
    }

    /// The track is over: the last span ends with it.
    pub fn finish(&mut self, to: &mut dyn FnMut(&[f32])) -> Option<Span> {
        let end = self.open.as_ref()?.quiet.unwrap_or(self.position);
        self.close(end, to)
    }

    fn close(&mut self, end: u64, to: &mut dyn FnMut(&[f32])) -> Option<Span> {
        let Open { start, .. } = self.open.take()?;
        let span = (end - start > MIN_SPEECH).then_some((start, end));
        if span.is_some() {
            let after = usize::try_from(self.position - end).unwrap_or(usize::MAX).saturating_sub(PAD);
            let (given, _) = self.held.split_at(self.held.len().saturating_sub(after));
            to(given);
        }
        self.keep(PAD);
        span
    }

    /// Forgets all but the last samples.
    fn keep(&mut self, samples: usize) {
        self.held.drain(..self.held.len().saturating_sub(samples));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What windows of these probabilities give; each sample is its own number.
    fn run(probabilities: &[f32]) -> (Vec<Span>, Vec<f32>) {
        let (mut spans, mut found, mut given) = (Spans::default(), Vec::new(), Vec::new());
        for (window, probability) in probabilities.iter().enumerate() {
            let samples: Vec<f32> = (window * WINDOW..(window + 1) * WINDOW).map(|n| n as f32).collect();
            found.extend(spans.push(&samples, *probability, &mut |part| given.extend_from_slice(part)));
            assert!(spans.held.len() <= PAD + (MIN_SPEECH + MIN_SILENCE) as usize + 2 * WINDOW);
        }
        found.extend(spans.finish(&mut |part| given.extend_from_slice(part)));
        (found, given)
    }

    /// Some windows of each of some probabilities.
    fn windows(parts: &[(usize, f32)]) -> Vec<f32> {
        parts.iter().flat_map(|(count, p)| std::iter::repeat_n(*p, *count)).collect()
    }

    #[test]
    fn a_span_lasts_from_the_upper_threshold_to_below_the_lower_one() {
        // 0.4 neither begins a span nor ends one.
        let (spans, given) = run(&windows(&[(5, 0.4), (10, 0.9), (10, 0.4), (20, 0.1)]));
        assert_eq!(spans, [(5 * 512, 25 * 512)]);
        let expected: Vec<f32> = (5 * 512 - PAD..25 * 512 + PAD).map(|n| n as f32).collect();
        assert_eq!(given, expected);
    }

    #[test]
    fn short_silences_do_not_divide_and_short_noises_do_not_count() {
        let (spans, given) = run(&windows(&[(10, 0.9), (3, 0.1), (10, 0.9), (20, 0.1), (5, 0.9), (20, 0.1)]));
        assert_eq!(spans, [(0, 23 * 512)]);
        assert_eq!(given.len(), 23 * 512 + PAD);
    }

    #[test]
    fn speech_at_the_very_end_ends_with_the_track() {
        assert_eq!(run(&windows(&[(4, 0.0), (12, 1.0)])).0, [(4 * 512, 16 * 512)]);
        assert_eq!(run(&[]).0, []);
    }

    proptest! {
        #[test]
        fn samples_are_given_once_in_order_and_those_of_every_span(
            probabilities in prop::collection::vec(prop_oneof![0.0_f32..0.35, 0.35_f32..0.5, 0.5_f32..=1.0], 0..200),
        ) {
            let (spans, given) = run(&probabilities);
            prop_assert!(given.windows(2).all(|pair| pair[0] < pair[1]));
            for (from, to) in &spans {
                prop_assert!(to - from > MIN_SPEECH);
                let inside = given.iter().filter(|n| (*from as f32..*to as f32).contains(n)).count();
                prop_assert_eq!(inside as u64, to - from);
            }
            for pair in spans.windows(2) {
                prop_assert!(pair[1].0 - pair[0].1 >= MIN_SILENCE);
            }
        }
    }
}
