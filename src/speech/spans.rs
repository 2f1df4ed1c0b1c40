//! Turns the probabilities of speech of the windows into spans of speech, and selects the samples that belong to them.
//!
//! Rules and figures are those of `get_speech_timestamps` in Silero VAD. A span begins at a window that reaches the
//! upper threshold. It ends at a window below the lower threshold, if no window reaches the upper threshold for
//! [`MIN_SILENCE`] samples. Short spans are dropped. One rule differs: if the probability stays between the thresholds,
//! the original waits without a limit. Here the span ends after [`MIN_SILENCE`], so that only a limited number of
//! samples is buffered.

use super::unrolled::WINDOW;

/// Upper threshold: a span begins at this probability.
const START: f32 = 0.5;
/// Lower threshold: a silence begins below this probability.
const END: f32 = 0.35;
/// Samples after which a silence ends a span: 100 ms.
const MIN_SILENCE: u64 = 1600;
/// Spans of at most this many samples (250 ms) are dropped.
const MIN_SPEECH: u64 = 4000;
/// Samples before and after a span that are passed on with it: 30 ms.
const PAD: usize = 480;

/// First sample of a span, and the one after its last.
pub(super) type SampleRange = (u64, u64);

/// Finds the spans of one track. Buffers at most the samples of the shortest span, the shortest silence and the
/// padding.
#[derive(Default)]
pub(super) struct Spans {
    /// Samples taken so far.
    position: u64,
    open: Option<OpenSpan>,
    /// The last samples, which are not passed on yet.
    pending: Vec<f32>,
}

/// A span that has not ended.
struct OpenSpan {
    start: u64,
    /// First sample of the silence that may end the span.
    silent_from: Option<u64>,
}

impl Spans {
    /// Takes the next window of the track and its probability of speech. Passes samples to `to`, in order, once they
    /// are known to be speech. Returns a span if one has ended.
    pub fn push(&mut self, window: &[f32], probability: f32, to: &mut dyn FnMut(&[f32])) -> Option<SampleRange> {
        let here = self.position;
        self.position += window.len() as u64;
        self.pending.extend_from_slice(window);
        let Some(open) = &mut self.open else {
            if probability >= START {
                self.open = Some(OpenSpan { start: here, silent_from: None });
            }
            self.keep(if probability >= START { PAD + WINDOW } else { PAD });
            return None;
        };
        if probability >= START {
            open.silent_from = None;
        } else {
            if probability < END {
                open.silent_from.get_or_insert(here);
            }
            if let Some(end) = open.silent_from.filter(|from| here - from >= MIN_SILENCE) {
                return self.close(end, to);
            }
        }
        if open.silent_from.is_none() && self.position - open.start > MIN_SPEECH {
            to(&self.pending);
            self.pending.clear();
        }
        None
    }

    /// Ends the track. Returns the last span if it has not ended before.
    pub fn finish(&mut self, to: &mut dyn FnMut(&[f32])) -> Option<SampleRange> {
        let end = self.open.as_ref()?.silent_from.unwrap_or(self.position);
        self.close(end, to)
    }

    fn close(&mut self, end: u64, to: &mut dyn FnMut(&[f32])) -> Option<SampleRange> {
        let OpenSpan { start, .. } = self.open.take()?;
        let span = (end - start > MIN_SPEECH).then_some((start, end));
        if span.is_some() {
            let after = usize::try_from(self.position - end).unwrap_or(usize::MAX).saturating_sub(PAD);
            let (given, _) = self.pending.split_at(self.pending.len().saturating_sub(after));
            to(given);
        }
        self.keep(PAD);
        span
    }

    /// Drops all pending samples but the last ones.
    fn keep(&mut self, samples: usize) {
        self.pending.drain(..self.pending.len().saturating_sub(samples));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the spans and the samples of speech of windows with these probabilities. Each sample has its index as
    /// value.
    fn run(probabilities: &[f32]) -> (Vec<SampleRange>, Vec<f32>) {
        let (mut spans, mut found, mut given) = (Spans::default(), Vec::new(), Vec::new());
        for (window, probability) in probabilities.iter().enumerate() {
            let samples: Vec<f32> = (window * WINDOW..(window + 1) * WINDOW).map(|n| n as f32).collect();
            found.extend(spans.push(&samples, *probability, &mut |part| given.extend_from_slice(part)));
            assert!(spans.pending.len() <= PAD + (MIN_SPEECH + MIN_SILENCE) as usize + 2 * WINDOW);
        }
        found.extend(spans.finish(&mut |part| given.extend_from_slice(part)));
        (found, given)
    }

    /// Returns the probabilities of windows, given as counts and probabilities.
    fn windows(parts: &[(usize, f32)]) -> Vec<f32> {
        parts.iter().flat_map(|(count, p)| std::iter::repeat_n(*p, *count)).collect()
    }

    #[test]
    fn a_span_begins_at_the_upper_threshold_and_ends_below_the_lower_one() {
        // 0.4 neither begins a span nor ends one.
        let (spans, given) = run(&windows(&[(5, 0.4), (10, 0.9), (10, 0.4), (20, 0.1)]));
        assert_eq!(spans, [(5 * 512, 25 * 512)]);
        let expected: Vec<f32> = (5 * 512 - PAD..25 * 512 + PAD).map(|n| n as f32).collect();
        assert_eq!(given, expected);
    }

    #[test]
    fn short_silences_do_not_end_a_span_and_short_spans_are_dropped() {
        let (spans, given) = run(&windows(&[(10, 0.9), (3, 0.1), (10, 0.9), (20, 0.1), (5, 0.9), (20, 0.1)]));
        assert_eq!(spans, [(0, 23 * 512)]);
        assert_eq!(given.len(), 23 * 512 + PAD);
    }

    #[test]
    fn a_span_ends_at_the_end_of_the_track() {
        assert_eq!(run(&windows(&[(4, 0.0), (12, 1.0)])).0, [(4 * 512, 16 * 512)]);
        assert_eq!(run(&[]).0, []);
    }

    proptest! {
        #[test]
        fn samples_of_every_span_are_passed_on_once_and_in_order(
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
