//! Computes the figures of speech ([`Speech`]) from the spans in which somebody speaks.

use super::{Span, Speech, SpeechQuality};

/// Shortest pause in seconds. Shorter silences belong to articulation (de Jong & Bosker 2013, "Choosing a threshold
/// for silent pauses to measure second language fluency").
pub const PAUSE_S: f64 = 0.25;
/// Maximum number of spans in a result: enough for a chart of any width.
pub const MOST_SPANS: usize = 240;
/// Minimum speech in seconds from which a syllable rate is computed.
const MIN_RATE_S: f64 = 3.0;
/// Range of syllables a second of speech, without pauses, that is easy to follow. Ordinary speech has 3 to 6.
pub(super) const EASY_PACE: (f64, f64) = (2.5, 6.5);
/// Loss of the pace factor for each syllable a second outside that range.
const LOSS_PER_SYLLABLE: f64 = 0.2;
/// Smallest pace factor.
const MIN_PACE_FACTOR: f64 = 0.5;
/// Longest pause in seconds that does not lower fluency: breath and emphasis.
const EASY_PAUSE_S: f64 = 1.0;
/// The part of a pause beyond this, in seconds, does not lower fluency further: the speaker listens.
const LISTENING_S: f64 = 4.0;

/// Sums over spans of speech, added in order of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpeechTally {
    voiced_s: f64,
    pauses: u32,
    longest_pause_s: f64,
    /// Seconds of pauses that lower fluency.
    halting_s: f64,
    spans: Vec<Span>,
}

impl SpeechTally {
    /// Adds the next span, in seconds.
    pub fn add_span(&mut self, from_s: f64, to_s: f64) {
        self.voiced_s += (to_s - from_s).max(0.0);
        let silence_s = self.spans.last().map_or(0.0, |last| from_s - last.end_s);
        if silence_s >= PAUSE_S {
            self.pauses += 1;
            self.longest_pause_s = self.longest_pause_s.max(silence_s);
            self.halting_s += (silence_s.min(LISTENING_S) - EASY_PAUSE_S).max(0.0);
        }
        self.spans.push(Span { start_s: from_s, end_s: to_s });
        if self.spans.len() > MOST_SPANS {
            self.join_nearest();
        }
    }

    /// Joins the two spans with the shortest silence between them. This is done whenever there is one span too many,
    /// so the longest silences of the track remain.
    fn join_nearest(&mut self) {
        let silence_s = |pair: &[Span]| pair[1].start_s - pair[0].end_s;
        let gaps = self.spans.windows(2).map(silence_s).enumerate();
        if let Some((at, _)) = gaps.min_by(|a, b| a.1.total_cmp(&b.1)) {
            self.spans[at].end_s = self.spans[at + 1].end_s;
            self.spans.remove(at + 1);
        }
    }

    /// Returns the figures of a sound track with this duration.
    pub fn speech(&self, track_s: f64, syllables: u64, quality: Option<SpeechQuality>) -> Speech {
        #[expect(clippy::cast_precision_loss, reason = "syllables of a video")]
        let rate = (self.voiced_s >= MIN_RATE_S).then(|| syllables as f64 / self.voiced_s);
        Speech {
            ratio: if track_s > 0.0 { (self.voiced_s / track_s).min(1.0) } else { 0.0 },
            clarity: quality.as_ref().map(|quality| clarity(quality.ovr, rate)),
            quality_mos: quality,
            syllables_per_s: rate,
            fluency: rate.map(|rate| fluency(self.voiced_s, self.halting_s, rate)),
            pauses: self.pauses,
            longest_pause_s: self.longest_pause_s,
            spans: self.spans.clone(),
        }
    }
}

/// Returns how easy speech is to follow, 0 to 100: the overall opinion score (1 to 5) mapped to 0 to 100, times the
/// pace factor. An unknown pace has the factor 1.
pub fn clarity(ovr: f64, syllables_per_s: Option<f64>) -> f64 {
    100.0 * ((ovr - 1.0) / 4.0).clamp(0.0, 1.0) * syllables_per_s.map_or(1.0, pace)
}

/// Returns how evenly speech flows, 0 to 100: speech divided by speech and halting silence, times the pace factor.
/// The halting silence of a pause is its part beyond 1 second, at most 3 seconds, because longer silences are
/// listening.
fn fluency(voiced_s: f64, halting_s: f64, syllables_per_s: f64) -> f64 {
    100.0 * voiced_s / (voiced_s + halting_s) * pace(syllables_per_s)
}

/// Returns the pace factor of clarity and fluency, 0.5 to 1.
fn pace(syllables_per_s: f64) -> f64 {
    let (slow, fast) = EASY_PACE;
    let outside = (slow - syllables_per_s).max(syllables_per_s - fast).max(0.0);
    (1.0 - LOSS_PER_SYLLABLE * outside).max(MIN_PACE_FACTOR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mos(ovr: f64) -> SpeechQuality {
        SpeechQuality { sig: 3.0, bak: 3.0, ovr }
    }

    #[test]
    fn pauses_are_the_silences_between_spans() {
        let mut tally = SpeechTally::default();
        for (from, to) in [(1.0, 4.0), (4.2, 5.0), (5.25, 6.0), (8.0, 9.0)] {
            tally.add_span(from, to);
        }
        let speech = tally.speech(20.0, 22, Some(mos(3.0)));
        assert_eq!((speech.pauses, speech.longest_pause_s), (2, 2.0));
        assert!((speech.ratio - 5.55 / 20.0).abs() < 1e-9, "{speech:?}");
        assert!((speech.syllables_per_s.unwrap() - 22.0 / 5.55).abs() < 1e-9, "{speech:?}");
        assert_eq!(speech.clarity, Some(50.0));
        // One of the two seconds between 6 and 8 is halting.
        assert!((speech.fluency.unwrap() - 100.0 * 5.55 / 6.55).abs() < 1e-9, "{speech:?}");
    }

    #[test]
    fn spans_are_listed_and_the_nearest_are_joined_if_there_are_too_many() {
        let mut tally = SpeechTally::default();
        tally.add_span(1.0, 4.0);
        tally.add_span(4.2, 5.0);
        assert_eq!(
            tally.speech(9.0, 0, None).spans,
            [Span { start_s: 1.0, end_s: 4.0 }, Span { start_s: 4.2, end_s: 5.0 }]
        );
        // Two hours of words, with a long silence after every hundredth.
        let (mut tally, mut now, mut long) = (SpeechTally::default(), 0.0, Vec::new());
        for n in 0..7200 {
            tally.add_span(now, now + 0.5);
            now += if n % 100 == 99 { 9.0 } else { 0.8 + f64::from(n % 7) / 20.0 };
            if n % 100 == 99 {
                long.push(now);
            }
        }
        let speech = tally.speech(now, 0, None);
        assert_eq!(speech.spans.len(), MOST_SPANS);
        assert_eq!(
            (speech.pauses, (speech.ratio * now).round()),
            (7199, 3600.0),
            "joining spans does not change figures"
        );
        let begins = |at: f64| speech.spans.iter().any(|span| span.start_s == at);
        assert!(long[..71].iter().all(|at| begins(*at)), "a long silence was lost");
        assert!(speech.spans.windows(2).all(|pair| pair[0].end_s < pair[1].start_s));
    }

    #[test]
    fn long_silences_and_a_slow_pace_lower_fluency_up_to_a_limit() {
        assert_eq!(fluency(10.0, 0.0, 4.0), 100.0);
        assert!((fluency(10.0, 0.0, 1.5) - 80.0).abs() < 1e-9);
        let mut tally = SpeechTally::default();
        tally.add_span(0.0, 10.0);
        tally.add_span(70.0, 80.0);
        assert!((tally.speech(80.0, 80, None).fluency.unwrap() - 100.0 * 20.0 / 23.0).abs() < 1e-9);
    }

    #[test]
    fn a_track_without_speech_has_no_figures() {
        for track_s in [0.0, 10.0] {
            let speech = SpeechTally::default().speech(track_s, 0, None);
            assert_eq!((speech.ratio, speech.pauses, speech.longest_pause_s), (0.0, 0, 0.0));
            assert_eq!((speech.clarity, speech.quality_mos, speech.syllables_per_s), (None, None, None));
            assert_eq!(speech.fluency, None);
        }
    }

    #[test]
    fn a_fast_or_slow_pace_lowers_clarity() {
        assert_eq!(clarity(5.0, Some(4.0)), 100.0);
        assert_eq!(clarity(1.0, Some(4.0)), 0.0);
        assert!((clarity(5.0, Some(7.5)) - 80.0).abs() < 1e-9);
        assert!((clarity(5.0, Some(1.5)) - 80.0).abs() < 1e-9);
        assert_eq!(clarity(5.0, Some(20.0)), 50.0);
    }

    proptest! {
        #[test]
        fn figures_are_in_range_and_better_sound_is_never_less_clear(
            gaps in prop::collection::vec((0.0_f64..3.0, 0.25_f64..9.0), 0..40),
            syllables in 0_u64..500,
            (worse, more) in (0.0_f64..6.0, 0.0_f64..4.0),
        ) {
            let (mut tally, mut now) = (SpeechTally::default(), 0.0);
            for (silence, speech) in &gaps {
                tally.add_span(now + silence, now + silence + speech);
                now += silence + speech;
            }
            let [low, high] = [worse, worse + more].map(|ovr| tally.speech(now, syllables, Some(mos(ovr))));
            prop_assert!((0.0..=1.0).contains(&low.ratio));
            prop_assert!(low.pauses as usize <= gaps.len().saturating_sub(1));
            prop_assert!(low.longest_pause_s == 0.0 || (PAUSE_S..=3.0 + 1e-6).contains(&low.longest_pause_s));
            prop_assert!((0.0..=100.0).contains(&low.clarity.unwrap()));
            prop_assert!(low.clarity <= high.clarity);
        }
    }
}
