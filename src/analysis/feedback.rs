//! Chooses the feedback on a video: facts about the figures, and one piece of advice. The [remarks](super::remark)
//! describe the recording and never judge the person.

use super::remark::{Advice, Finding, FindingSpan, Reason, Remark, Shown};
use super::scores::tense_arousal;
use super::speech::EASY_PACE;
use super::tally::Tally;
use super::{Certainty, Emotion, FaceSummary, PartName, Parts, Relative, Speech, rounding};

/// With faces seen for less than this, in seconds, the feedback says that there was little input.
const LITTLE_S: f64 = 5.0;
/// With fewer samples than this, the feedback says that there was little input.
const FEW_SAMPLES: u32 = 5;
/// If the best and the worst part differ by less than this, in points, all parts count as even.
const EVEN: f64 = 3.0;
/// A part with at least this value needs no advice.
const GOOD: f64 = 80.0;
/// Minimum share of the second emotion that is named, in percent.
const WORTH_NAMING: f64 = 20.0;
/// From this usual probability on, an emotion may be the look of a face at rest.
const AT_REST: f64 = 0.5;
/// Minimum difference between a span and the whole, in points.
const MIN_DIFFERENCE: f64 = 10.0;
/// Shortest span in seconds.
const LEAST_SPAN_S: f64 = 1.0;
/// Longest span as a share of the whole.
const MOST_SPAN: f64 = 0.8;
/// A time without a face that is longer than this, in seconds, ends a span.
const GAP_S: f64 = 10.0;

/// The input for the remarks about one person.
pub(super) struct FeedbackInput<'a> {
    pub face: &'a FaceSummary,
    /// The parts of the scores: those of the person, or of the whole video if nobody else was seen.
    pub parts: Option<&'a Parts>,
    pub speech: Option<&'a Speech>,
    /// For each sample with the face: from and to in seconds, and the sums.
    pub moments: &'a [(f64, f64, Tally)],
    /// Whether eye contact was judged by the eyes.
    pub by_eyes: bool,
}

/// Returns the remarks about the only person, in order.
pub(super) fn remarks_on_one(input: &FeedbackInput<'_>) -> Vec<Remark> {
    let Some(parts) = input.parts else { return Vec::new() };
    let mut remarks = Vec::new();
    let samples = input.face.frames;
    let seen_s: f64 = input.moments.iter().map(|(from, to, _)| to - from).sum();
    if samples < FEW_SAMPLES || seen_s < LITTLE_S {
        remarks.push(Remark::LittleMaterial { samples, seen_s });
    }
    remarks.push(Remark::Showed { shown: shown(input.face) });
    remarks.extend(may_be_at_rest(input.face).map(|emotion| Remark::MayBeAtRest { emotion }));

    let clarity = parts.overall_score.iter().filter(|part| part.part == PartName::SpeechClarity);
    let measured: Vec<(PartName, f64)> =
        parts.presence.iter().chain(clarity).map(|part| (part.part, part.value)).collect();
    let Some((first, rest)) = measured.split_first() else { return remarks };
    let strongest = rest.iter().fold(first, |best, part| if part.1 > best.1 { part } else { best });
    let weakest = rest.iter().fold(first, |worst, part| if part.1 < worst.1 { part } else { worst });
    let (high, low) = (input.finding(*strongest, true), input.finding(*weakest, false));
    let advice = low.advice();
    if rest.is_empty() {
        remarks.push(Remark::Only(low));
    } else if high.value - low.value < EVEN {
        #[expect(clippy::cast_precision_loss, reason = "at most five")]
        let value = measured.iter().map(|(_, value)| value).sum::<f64>() / measured.len() as f64;
        remarks.push(Remark::Even { parts: measured.iter().map(|(part, _)| *part).collect(), value });
    } else {
        let apart = |a: &Finding, b: &Finding| match (a.interval, b.interval) {
            (Some(a), Some(b)) => a.low > b.high,
            _ => true,
        };
        let overlap = !apart(&high, &low);
        let limit_certainty = |finding: Finding| Finding {
            certainty: if overlap { finding.certainty.max(Certainty::Likely) } else { finding.certainty },
            ..finding
        };
        remarks.push(Remark::Strongest(limit_certainty(high)));
        remarks.push(Remark::Weakest(limit_certainty(low)));
    }
    remarks.push(Remark::Try { advice });
    remarks
}

/// Returns the remarks about one of several people: what the face showed, the weakest part unless it is good, and one
/// thing to try.
pub(super) fn remarks_on_one_of_several(input: &FeedbackInput<'_>) -> Remark {
    let mut remarks = remarks_on_one(input);
    let is_good = |finding: &Finding| finding.value >= GOOD;
    remarks.retain(|remark| match remark {
        Remark::Showed { .. } | Remark::MayBeAtRest { .. } => true,
        Remark::Weakest(finding) | Remark::Only(finding) => !is_good(finding),
        Remark::Try { advice } => *advice != Advice::KeepItUp,
        _ => false,
    });
    Remark::Person { face: input.face.id, remarks }
}

/// Returns the emotion shown most, and the next one if its share is large enough.
fn shown(face: &FaceSummary) -> Vec<Shown> {
    // The shares that JSON and report give.
    let emotions = rounding::percentages(&face.emotions);
    let top = face.dominant_emotion;
    let longest = |emotion: Emotion| {
        let runs = face.segments.iter().filter(|run| run.emotion == emotion);
        let longest = runs.max_by(|a, b| (a.end_s - a.start_s).total_cmp(&(b.end_s - b.start_s)))?;
        Some([rounding::to(longest.start_s, 1), rounding::to(longest.end_s, 1)])
    };
    let shown = |emotion: Emotion, percent: f64| Shown { emotion, percent, longest_s: longest(emotion) };
    let next = emotions.iter().filter(|(emotion, _)| **emotion != top).max_by(|a, b| a.1.total_cmp(b.1));
    let next = next.filter(|(_, percent)| **percent >= WORTH_NAMING);
    let first = shown(top, emotions.get(&top).copied().unwrap_or_default());
    std::iter::once(first).chain(next.map(|(emotion, percent)| shown(*emotion, *percent))).collect()
}

/// Returns the most frequent emotion if it may be the look of the face at rest.
fn may_be_at_rest(face: &FaceSummary) -> Option<Emotion> {
    let Some(Relative::Compared { usual, rises }) = &face.relative else { return None };
    let emotion = face.dominant_emotion;
    let is_unpleasant = emotion.valence_arousal().0 < 0.0;
    let is_usual = usual.get(&emotion).is_some_and(|usual| *usual >= AT_REST);
    let rose = rises.iter().any(|rise| rise.emotion == emotion);
    (is_unpleasant && is_usual && !rose).then_some(emotion)
}

impl FeedbackInput<'_> {
    fn finding(&self, (part, value): (PartName, f64), strong: bool) -> Finding {
        let intervals = self.face.intervals.as_ref();
        let interval = intervals.and_then(|all| match part {
            PartName::EyeContact => all.eye_contact,
            PartName::Calmness => Some(all.calmness),
            PartName::Steadiness => all.steadiness,
            _ => None,
        });
        let certainty = interval.map_or(Certainty::Clear, |interval| interval.certainty());
        let (span, tally) = self.span(part, strong).unzip();
        let reason = if strong { None } else { self.reason(part, tally) };
        Finding { part, value, certainty, interval, span, reason }
    }

    /// Finds the span in which a part was better (`strong`) or worse than its mean: the one with the largest sum of
    /// differences times duration. Also returns its sums.
    fn span(&self, part: PartName, strong: bool) -> Option<(FindingSpan, Tally)> {
        let value = |tally: &Tally| {
            let figures = tally.figures()?;
            match part {
                PartName::EyeContact => figures.eye_contact,
                PartName::Calmness => Some(figures.calmness),
                PartName::Steadiness => figures.steadiness,
                _ => None,
            }
        };
        let mean = value(&total(self.moments))?;
        let sign = if strong { 1.0 } else { -1.0 };
        let (mut largest_sum, mut largest) = (0.0, 0..0);
        let (mut sum, mut start) = (0.0, 0);
        for (at, (from_s, to_s, tally)) in self.moments.iter().enumerate() {
            let after_gap = at > 0 && from_s - self.moments[at - 1].1 > GAP_S;
            if sum <= 0.0 || after_gap {
                (sum, start) = (0.0, at);
            }
            sum += value(tally).map_or(0.0, |value| sign * (value - mean) * (to_s - from_s));
            if sum > largest_sum {
                (largest_sum, largest) = (sum, start..at + 1);
            }
        }
        let moments = self.moments.get(largest).filter(|moments| moments.len() > 1)?;
        let (start_s, end_s) = (moments.first()?.0, moments.last()?.1);
        let whole_s = self.moments.last()?.1 - self.moments.first()?.0;
        let tally = total(moments);
        let found = value(&tally)?;
        let is_notable =
            (found - mean).abs() >= MIN_DIFFERENCE && (LEAST_SPAN_S..=MOST_SPAN * whole_s).contains(&(end_s - start_s));
        is_notable.then_some((FindingSpan { start_s, end_s, value: found }, tally))
    }

    /// Finds the reason for a low value of a part, from the sums of the span in which it was lowest. Without such a
    /// span, the sums of the whole video are used.
    fn reason(&self, part: PartName, span: Option<Tally>) -> Option<Reason> {
        let tally = span.unwrap_or_else(|| total(self.moments));
        match part {
            PartName::EyeContact if !self.by_eyes => Some(Reason::HeadTurned),
            PartName::EyeContact if 2.0 * tally.shut_s() > tally.missed_s() => Some(Reason::EyesShut),
            PartName::EyeContact => Some(Reason::LookedAway),
            PartName::Calmness => {
                let figures = tally.figures()?;
                let tension =
                    |emotion: &Emotion| figures.emotions[emotion.index()] * tense_arousal(emotion.valence_arousal());
                let tense = Emotion::ALL.into_iter().filter(|emotion| tension(emotion) > 0.0);
                let emotion = tense.max_by(|a, b| tension(a).total_cmp(&tension(b)))?;
                Some(Reason::Expression { emotion })
            }
            PartName::Fluency => {
                let speech = self.speech?;
                pace(speech).or(Some(Reason::Pauses { pauses: speech.pauses, longest_s: speech.longest_pause_s }))
            }
            PartName::SpeechClarity => {
                let speech = self.speech?;
                let ovr = speech.quality_mos.as_ref()?.ovr;
                // The pace is the reason only if the recording is not bad.
                pace(speech).filter(|_| ovr >= 3.0).or(Some(Reason::Recording { ovr }))
            }
            _ => None,
        }
    }
}

/// Returns the sums of all moments.
fn total(moments: &[(f64, f64, Tally)]) -> Tally {
    let mut total = Tally::default();
    for (_, _, tally) in moments {
        total.add(tally, 1.0);
    }
    total
}

/// Returns the pace as a reason if it is not easy to follow.
fn pace(speech: &Speech) -> Option<Reason> {
    let syllables_per_s = speech.syllables_per_s?;
    if syllables_per_s < EASY_PACE.0 {
        Some(Reason::SlowPace { syllables_per_s })
    } else if syllables_per_s > EASY_PACE.1 {
        Some(Reason::FastPace { syllables_per_s })
    } else {
        None
    }
}

impl Finding {
    fn advice(&self) -> Advice {
        if self.value >= GOOD {
            return Advice::KeepItUp;
        }
        match (self.part, self.reason) {
            (PartName::EyeContact, Some(Reason::EyesShut)) => Advice::KeepEyesUp,
            (PartName::EyeContact, Some(Reason::HeadTurned)) => Advice::FaceTheCamera,
            (PartName::EyeContact, _) => Advice::LookIntoTheLens,
            (PartName::Calmness, _) => Advice::RelaxTheFace,
            (_, Some(Reason::SlowPace { .. })) => Advice::SpeakFaster,
            (_, Some(Reason::FastPace { .. })) => Advice::SpeakSlower,
            (PartName::Fluency, _) => Advice::ShortenPauses,
            (PartName::SpeechClarity, _) => Advice::BetterSound,
            _ => Advice::HoldTheHeadStill,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::testing::{all, facts, seen, track};
    use crate::analysis::{
        Analysis, Eyes, Gaze, LANDMARK_MODEL, ModelUsed, Observation, Pose, Probabilities, SpeechQuality, Track,
        summarise,
    };

    fn analysis(people: &[Track], count: u32, speech: Option<Speech>) -> Analysis {
        let times: Vec<f64> = (0..count).map(f64::from).collect();
        let models = vec![ModelUsed { name: LANDMARK_MODEL.to_owned(), sha256: String::new() }];
        summarise(facts(f64::from(count), speech.is_some()), &times, people, speech, models, vec![]).analysis
    }

    /// Returns a person who is happy in the first third and then neutral. In the middle third the person looks away
    /// from the camera, with open or with shut eyes.
    fn talker(count: u32, shut: bool) -> Track {
        let observations = (0..count).map(|n| {
            let away = (count / 3..2 * count / 3).contains(&n);
            let openness = if away && shut { 0.05 } else { 0.3 };
            let gaze = Gaze { yaw: if away { 30.0 } else { 1.0 }, pitch: 0.0 };
            Observation {
                emotions: all(if n < count / 3 { Emotion::Happy } else { Emotion::Neutral }),
                eyes: Some(Eyes { openness, gaze }),
                pose: Some(Pose::default()),
                ..seen(n, f64::from(n), (100.0, 100.0), 80.0)
            }
        });
        Track { id: 1, observations: observations.collect() }
    }

    fn speech(fluency: f64, rate: f64, ovr: f64, clarity: f64) -> Speech {
        Speech {
            ratio: 0.7,
            clarity: Some(clarity),
            quality_mos: Some(SpeechQuality { sig: 3.0, bak: 3.0, ovr }),
            syllables_per_s: Some(rate),
            fluency: Some(fluency),
            pauses: 9,
            longest_pause_s: 3.2,
            spans: Vec::new(),
        }
    }

    fn weakest(analysis: &Analysis) -> Finding {
        let find = |remark: &Remark| match remark {
            Remark::Weakest(finding) => Some(finding.clone()),
            _ => None,
        };
        analysis.summary.remarks.iter().find_map(find).unwrap()
    }

    fn advice(analysis: &Analysis) -> Advice {
        let find = |remark: &Remark| match remark {
            Remark::Try { advice } => Some(*advice),
            _ => None,
        };
        analysis.summary.remarks.iter().find_map(find).unwrap()
    }

    #[test]
    fn the_weakest_part_has_a_value_a_span_and_a_reason() {
        let away = analysis(&[talker(300, false)], 300, None);
        let found = weakest(&away);
        assert_eq!((found.part, found.reason), (PartName::EyeContact, Some(Reason::LookedAway)));
        let FindingSpan { start_s, end_s, value } = found.span.unwrap();
        assert!((start_s - 99.5).abs() < 1.1 && (end_s - 199.5).abs() < 1.1 && value < 5.0, "{found:?}");
        assert_eq!(advice(&away), Advice::LookIntoTheLens);
        assert!((found.value - 66.7).abs() < 0.5, "{found:?}");
        let strongest = away.summary.remarks.iter().any(|remark| match remark {
            Remark::Strongest(Finding { part, value, .. }) => *part == PartName::Calmness && value.round() == 100.0,
            _ => false,
        });
        assert!(strongest, "{:?}", away.summary.remarks);
        let showed = |remark: &Remark| matches!(remark, Remark::Showed { shown } if shown[1].emotion == Emotion::Happy);
        assert!(away.summary.remarks.iter().any(showed), "{:?}", away.summary.remarks);
        let shut = analysis(&[talker(300, true)], 300, None);
        assert_eq!((weakest(&shut).reason, advice(&shut)), (Some(Reason::EyesShut), Advice::KeepEyesUp));
    }

    #[test]
    fn findings_of_short_videos_are_uncertain() {
        let short = analysis(&[talker(3, false)], 3, None);
        assert!(matches!(short.summary.remarks[0], Remark::LittleMaterial { samples: 3, .. }));
        assert!(weakest(&short).certainty >= Certainty::Rough, "{:?}", short.summary.remarks);
        let long = analysis(&[talker(3000, false)], 3000, None);
        assert_eq!(weakest(&long).certainty, Certainty::Clear);
    }

    #[test]
    fn advice_depends_on_the_reason_of_the_weakest_part() {
        let with = |speech| analysis(&[talker(300, false)], 300, Some(speech));
        for (heard, expected) in [
            (speech(30.0, 4.0, 3.5, 60.0), Advice::ShortenPauses),
            (speech(30.0, 1.5, 3.5, 60.0), Advice::SpeakFaster),
            (speech(30.0, 8.0, 3.5, 60.0), Advice::SpeakSlower),
            (speech(90.0, 4.0, 1.7, 17.0), Advice::BetterSound),
        ] {
            assert_eq!(advice(&with(heard)), expected);
        }
        let count = 120;
        let times: Vec<f64> = (0..count).map(f64::from).collect();
        // A smile is calm, and nobody is asked to smile less.
        let laughing = analysis(&[track(1, &times, &vec![all(Emotion::Happy); times.len()])], count, None);
        assert_eq!((laughing.summary.calmness, laughing.faces[0].calmness), (Some(100.0), 100.0));
        assert_eq!(laughing.summary.intervals.as_ref().unwrap().calmness.high, 100.0);
        assert_eq!(advice(&laughing), Advice::KeepItUp);
        let afraid = track(1, &times, &vec![all(Emotion::Fear); times.len()]);
        assert_eq!(advice(&analysis(&[afraid], count, None)), Advice::RelaxTheFace);
        let mut calm = talker(count, false);
        calm.observations.retain(|seen| seen.sample >= 2 * count / 3);
        assert_eq!(advice(&analysis(&[calm], count, None)), Advice::KeepItUp);
    }

    #[test]
    fn a_face_that_always_looks_sad_may_look_so_at_rest() {
        let times: Vec<f64> = (0..60).map(f64::from).collect();
        let at_rest = |shown: &[Probabilities]| {
            let found = analysis(&[track(1, &times[..shown.len()], shown)], shown.len() as u32, None);
            let find = |remark: &Remark| match remark {
                Remark::MayBeAtRest { emotion } => Some(*emotion),
                _ => None,
            };
            found.summary.remarks.iter().find_map(find)
        };
        let sad = |p: f32| Probabilities([0.0, 0.0, 0.0, 0.0, p, 0.0, 1.0 - p]);
        let mut shown = vec![sad(0.7); 60];
        assert_eq!(at_rest(&shown), Some(Emotion::Sad));
        assert_eq!(at_rest(&shown[..29]), None, "too brief to know what is usual");
        shown[40..44].fill(sad(0.98));
        assert_eq!(at_rest(&shown), None, "sadder than usual");
        assert_eq!(at_rest(&[all(Emotion::Happy); 60]), None);
        assert_eq!(at_rest(&[all(Emotion::Neutral); 60]), None);
    }

    #[test]
    fn a_smile_is_never_the_reason_for_low_calmness() {
        let count = 60;
        let times: Vec<f64> = (0..count).map(f64::from).collect();
        let mut shown = vec![Probabilities([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]); 40];
        shown.extend([Probabilities([0.1, 0.0, 0.8, 0.1, 0.0, 0.0, 0.0]); 20]);
        let found = analysis(&[track(1, &times, &shown)], count, Some(speech(95.0, 4.0, 4.5, 90.0)));
        let weakest = weakest(&found);
        assert_eq!(
            (weakest.part, weakest.reason),
            (PartName::Calmness, Some(Reason::Expression { emotion: Emotion::Fear }))
        );
        assert_eq!(advice(&found), Advice::RelaxTheFace);
    }

    #[test]
    fn feedback_on_several_people_is_about_each_of_them() {
        let mut other = talker(60, false);
        other.id = 2;
        other.observations.truncate(20);
        let found = analysis(&[talker(60, false), other], 60, None);
        let [Remark::Person { face: 1, remarks: first }, Remark::Person { face: 2, remarks: second }] =
            found.summary.remarks.as_slice()
        else {
            panic!("{:?}", found.summary.remarks)
        };
        // Each person has figures of their own, and nothing is said about both together.
        let shown = |emotion: Emotion, percent: f64, remarks: &[Remark]| {
            let Remark::Showed { shown } = &remarks[0] else { panic!("{remarks:?}") };
            shown[0].emotion == emotion && (shown[0].percent - percent).abs() < 1.0
        };
        assert!(shown(Emotion::Neutral, 66.7, first) && shown(Emotion::Happy, 100.0, second), "{first:?} {second:?}");
        assert_eq!((first.len(), second.len()), (3, 1), "{first:?} {second:?}");
    }

    #[test]
    fn without_a_face_there_is_no_feedback() {
        assert!(analysis(&[], 5, None).summary.remarks.is_empty());
    }
}
