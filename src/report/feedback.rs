//! Feedback on a performance, as sentences in the language of the reader.

use super::words::{Unit, Words, capital};
use crate::analysis::{Analysis, Certainty, Emotion, Finding, PartName, Reason, Remark, Shown};

/// Returns the text of each remark, a sentence or two.
pub fn sentences(words: Words, analysis: &Analysis) -> Vec<String> {
    let feedback = FeedbackText { words, duration_s: analysis.video.duration_s };
    analysis.summary.remarks.iter().map(|remark| feedback.sentence(remark)).collect()
}

/// Returns the texts for a mail: the weakest part and the thing to try, or what there is to try for each person.
pub fn advice(words: Words, analysis: &Analysis) -> Vec<String> {
    let feedback = FeedbackText { words, duration_s: analysis.video.duration_s };
    let is_advice = |remark: &&Remark| !matches!(remark, Remark::Showed { .. } | Remark::Strongest(_));
    let told = |remark: &Remark| match remark {
        Remark::Person { face, remarks } => {
            let remarks: Vec<Remark> = remarks.iter().filter(is_advice).cloned().collect();
            (!remarks.is_empty()).then(|| feedback.person(*face, &remarks))
        }
        remark => Some(feedback.sentence(remark)).filter(|_| is_advice(&remark)),
    };
    analysis.summary.remarks.iter().filter_map(told).collect()
}

#[derive(Clone, Copy)]
struct FeedbackText {
    words: Words,
    duration_s: f64,
}

impl FeedbackText {
    fn say(self, key: &str) -> String {
        self.words.say(&format!("feedback.{key}"))
    }

    fn fill(self, key: &str, values: &[(&str, &str)]) -> String {
        self.words.fill(&format!("feedback.{key}"), values)
    }

    fn whole(self, value: f64) -> String {
        self.words.number(value, 0)
    }

    fn person(self, face: u32, remarks: &[Remark]) -> String {
        let told: Vec<String> = remarks.iter().map(|remark| self.sentence(remark)).collect();
        let name = self.words.fill("person", &[("n", &face.to_string())]);
        self.fill("person", &[("person", &name), ("text", &told.join(" "))])
    }

    fn moment(self, time_s: f64) -> String {
        self.words.moment(time_s, self.duration_s)
    }

    fn part(self, part: PartName) -> String {
        self.say(&format!("part.{}", name(&part)))
    }

    fn sentence(self, remark: &Remark) -> String {
        match remark {
            Remark::LittleMaterial { samples, seen_s } => {
                let time = self.words.number(*seen_s, 1);
                self.words.count("feedback.little", u64::from(*samples), &[("time", &time)])
            }
            Remark::SeveralPeople { people } => self.fill("several", &[("n", &people.to_string())]),
            Remark::Person { face, remarks } => self.person(*face, remarks),
            Remark::Showed { shown } => self.showed(shown),
            Remark::MayBeAtRest { emotion } => self.fill("at_rest", &[("emotion", &self.words.adjective(*emotion))]),
            Remark::Strongest(finding) => self.finding("highest", finding),
            Remark::Weakest(finding) | Remark::Only(finding) => self.finding("lowest", finding),
            Remark::Even { parts, value } => {
                let names: Vec<String> = parts.iter().map(|part| self.part(*part)).collect();
                self.fill("even", &[("list", &self.list(&names)), ("value", &self.whole(*value))])
            }
            Remark::Try { advice } => self.say(&format!("tip.{}", name(advice))),
        }
    }

    fn showed(self, shown: &[Shown]) -> String {
        let mut text = String::new();
        for (at, shown) in shown.iter().enumerate() {
            let run = shown.longest_s.map_or_else(String::new, |[from, to]| {
                self.fill("run", &[("from", &self.moment(from)), ("to", &self.moment(to))])
            });
            let (emotion, share) = (self.words.adjective(shown.emotion), self.words.percent(shown.percent));
            let key = if at == 0 { "showed" } else { "showed_next" };
            text.push_str(&self.fill(key, &[("emotion", &emotion), ("share", &share), ("run", &run)]));
        }
        text.push('.');
        text
    }

    /// Returns a sentence about a part. `extreme` is `lowest` or `highest`, for its span.
    fn finding(self, extreme: &str, finding: &Finding) -> String {
        if finding.certainty == Certainty::Open {
            return self.fill("open", &[("part", &self.part(finding.part))]);
        }
        let part = capital(&self.part(finding.part));
        let level = match finding.value {
            ..40.0 => "low",
            40.0..70.0 => "middle",
            _ => "high",
        };
        let key = if finding.certainty == Certainty::Rough { "probably" } else { "was" };
        let level = self.say(&format!("level.{level}"));
        let values = [("part", &*part), ("level", &*level), ("value", &*self.value(finding))];
        let mut text = self.fill(key, &values);
        if let Some(span) = finding.span {
            let (from, to) = (self.moment(span.start_s), self.moment(span.end_s));
            text.push_str(&self.fill(extreme, &[("from", &from), ("to", &to)]));
        }
        if let Some(reason) = finding.reason.filter(|reason| !is_smile(*reason)) {
            text.push_str(&if finding.span.is_some() { self.say("where") } else { self.say("because") });
            text.push_str(&self.why(reason));
        }
        text.push('.');
        text
    }

    /// Returns the figure of a finding as a tile shows it: eye contact in percent, all others of 100.
    fn value(self, finding: &Finding) -> String {
        let unit = if finding.part == PartName::EyeContact { Unit::Percent } else { Unit::Of100 };
        match (finding.certainty, finding.interval) {
            (Certainty::Clear, _) => self.words.figure(finding.value, None, unit),
            (Certainty::Likely, _) => self.words.about(finding.value, unit),
            (_, interval) => self.words.figure(finding.value, interval, unit),
        }
    }

    fn why(self, reason: Reason) -> String {
        let rate = |key: &str, rate: f64| self.fill(key, &[("rate", &self.words.number(rate, 1))]);
        match reason {
            Reason::EyesShut => self.say("why.eyes_shut"),
            Reason::LookedAway => self.say("why.looked_away"),
            Reason::HeadTurned => self.say("why.head_turned"),
            Reason::Expression { emotion } => {
                self.fill("why.expression", &[("emotion", &self.words.adjective(emotion))])
            }
            Reason::Pauses { pauses, longest_s } => {
                let longest = self.words.number(longest_s, 1);
                self.words.count("feedback.why.pauses", u64::from(pauses), &[("longest", &longest)])
            }
            Reason::SlowPace { syllables_per_s } => rate("why.slow", syllables_per_s),
            Reason::FastPace { syllables_per_s } => rate("why.fast", syllables_per_s),
            Reason::Recording { ovr } => rate("why.recording", ovr),
        }
    }

    fn list(self, names: &[String]) -> String {
        match names {
            [] => String::new(),
            [one] => one.clone(),
            [most @ .., last] => self.fill("and", &[("most", &most.join(", ")), ("last", last)]),
        }
    }
}

/// Whether the reason is a smile. Results of `metrics_version` 1 name it as a reason for low calmness.
const fn is_smile(reason: Reason) -> bool {
    matches!(reason, Reason::Expression { emotion: Emotion::Happy })
}

/// Returns the name of a variant in JSON. The keys of the texts use these names.
pub(super) fn name(variant: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(variant).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Advice, FindingSpan, Interval, Language};

    /// Returns at least one remark of each kind.
    fn every_remark() -> Vec<Remark> {
        let shown = |emotion, percent, longest_s| Shown { emotion, percent, longest_s };
        let mut said = vec![
            Remark::LittleMaterial { samples: 1, seen_s: 0.8 },
            Remark::LittleMaterial { samples: 4, seen_s: 3.26 },
            Remark::SeveralPeople { people: 3 },
            Remark::Person {
                face: 2,
                remarks: vec![
                    Remark::Showed { shown: vec![shown(Emotion::Sad, 51.4, None)] },
                    Remark::Try { advice: Advice::KeepEyesUp },
                ],
            },
            Remark::Showed { shown: vec![shown(Emotion::Sad, 51.4, None)] },
            Remark::Showed {
                shown: vec![
                    shown(Emotion::Happy, 49.6, Some([9.8, 19.7])),
                    shown(Emotion::Sad, 41.0, Some([0.0, 8.4])),
                ],
            },
            Remark::MayBeAtRest { emotion: Emotion::Sad },
            Remark::Even { parts: vec![PartName::EyeContact, PartName::Calmness, PartName::Fluency], value: 61.0 },
        ];
        let reasons = [
            None,
            Some(Reason::EyesShut),
            Some(Reason::LookedAway),
            Some(Reason::HeadTurned),
            Some(Reason::Expression { emotion: Emotion::Happy }),
            Some(Reason::Pauses { pauses: 9, longest_s: 2.5 }),
            Some(Reason::SlowPace { syllables_per_s: 1.9 }),
            Some(Reason::FastPace { syllables_per_s: 7.2 }),
            Some(Reason::Recording { ovr: 1.7 }),
        ];
        let span = Some(FindingSpan { start_s: 1.2, end_s: 7.9, value: 12.0 });
        for reason in reasons {
            for (certainty, span) in
                [(Certainty::Clear, span), (Certainty::Likely, None), (Certainty::Rough, span), (Certainty::Open, None)]
            {
                let interval = Some(Interval { low: 8.0, high: 55.0 });
                let part = PartName::SpeechClarity;
                let finding = Finding { part, value: 22.4, certainty, interval, span, reason };
                said.extend([
                    Remark::Strongest(finding.clone()),
                    Remark::Weakest(finding.clone()),
                    Remark::Only(finding),
                ]);
            }
        }
        let advice = [
            Advice::LookIntoTheLens,
            Advice::KeepEyesUp,
            Advice::FaceTheCamera,
            Advice::RelaxTheFace,
            Advice::HoldTheHeadStill,
            Advice::ShortenPauses,
            Advice::SpeakFaster,
            Advice::SpeakSlower,
            Advice::BetterSound,
            Advice::KeepItUp,
        ];
        said.extend(advice.map(|advice| Remark::Try { advice }));
        said
    }

    #[test]
    fn everything_can_be_said_in_english() {
        let feedback = FeedbackText { words: Words(Language::EN), duration_s: 19.7 };
        let said: Vec<String> = every_remark().iter().map(|remark| feedback.sentence(remark)).collect();
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn a_smile_is_not_named_as_a_reason_for_low_calmness() {
        let feedback = FeedbackText { words: Words(Language::EN), duration_s: 19.7 };
        let told = |reason| {
            feedback.sentence(&Remark::Weakest(Finding {
                part: PartName::Calmness,
                value: 42.0,
                certainty: Certainty::Clear,
                interval: None,
                span: None,
                reason,
            }))
        };
        assert_eq!(told(Some(Reason::Expression { emotion: Emotion::Happy })), told(None));
    }

    #[test]
    fn every_remark_has_a_text_in_every_language() {
        for language in Language::all() {
            let feedback = FeedbackText { words: Words(language), duration_s: 19.7 };
            for remark in every_remark() {
                let text = feedback.sentence(&remark);
                assert!(!text.contains("%{") && !text.contains("feedback.") && text.ends_with('.'), "{text}");
            }
        }
        let strongest = Remark::Strongest(Finding {
            part: PartName::Calmness,
            value: 62.0,
            certainty: Certainty::Clear,
            interval: None,
            span: Some(FindingSpan { start_s: 2.1, end_s: 9.0, value: 74.0 }),
            reason: None,
        });
        let german = FeedbackText { words: Words(Language::from_tag("de").unwrap()), duration_s: 19.7 };
        assert_eq!(german.sentence(&strongest), "Die Ruhe war mittel (62 von 100), am höchsten von 2,1 s bis 9,0 s.");
    }
}
