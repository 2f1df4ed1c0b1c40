//! Words for figures and labels, in the language of the reader. Page, mails and charts all use these, so that they show
//! the same.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::analysis::{
    CERTAIN_UP_TO, Certainty, Emotion, FACING_PITCH_DEG, FACING_YAW_DEG, GAZE_CONE_DEG, Interval, Language, PAUSE_S,
    Story,
};
use crate::locale;

/// The texts of a report in one language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words(pub Language);

/// The explanation of a figure.
#[derive(Debug, Clone)]
pub struct Meaning {
    pub term: String,
    pub text: String,
}

impl Words {
    /// Returns the text of a key below `report.`.
    pub fn say(self, key: &str) -> String {
        locale::text(self.0, &format!("report.{key}")).into_owned()
    }

    /// Returns the text of a key below `report.` with its placeholders replaced by `values`.
    pub fn fill(self, key: &str, values: &[(&str, &str)]) -> String {
        locale::fill(self.0, &format!("report.{key}"), values)
    }

    /// Returns the label of an emotion, such as "Happy".
    pub fn label(self, emotion: Emotion) -> String {
        locale::text(self.0, &format!("emotion.{emotion}")).into_owned()
    }

    /// Returns the label of an emotion for use within a sentence, such as "happy".
    pub fn adjective(self, emotion: Emotion) -> String {
        self.label(emotion).to_lowercase()
    }

    /// Returns the headline. If the interval of the strongest expression is wide, the headline says that it is
    /// uncertain. A headline about the order of two expressions is always certain, since the order was seen.
    pub fn story(self, story: Story, interval: Option<Interval>) -> String {
        match story {
            Story::InTurn { first, then } => {
                self.fill("in_turn", &[("first", &self.adjective(first)), ("then", &self.adjective(then))])
            }
            Story::Mostly { emotion } => {
                self.headline(&self.fill("mostly", &[("emotion", &self.adjective(emotion))]), interval)
            }
            Story::Mixed { emotion } => {
                self.headline(&self.fill("mixed", &[("emotion", &self.adjective(emotion))]), interval)
            }
        }
    }

    /// Returns a number with the decimal separator of the language.
    pub fn number(self, value: f64, decimals: usize) -> String {
        format!("{value:.decimals$}").replace('.', &locale::text(self.0, "format.decimal"))
    }

    /// Formats the percentage of an expression, 0 to 100, with one decimal. All other figures are whole numbers.
    pub fn percent(self, value: f64) -> String {
        self.with_sign(&self.number(value, 1))
    }

    /// Formats a share of 0 to 1 as a whole percentage.
    pub fn share(self, value: f64) -> String {
        self.with_sign(&self.number(value * 100.0, 0))
    }

    fn with_sign(self, number: &str) -> String {
        locale::fill(self.0, "format.percent", &[("n", number)])
    }

    /// Formats a score of 0 to 100, such as "58 of 100".
    pub fn of_100(self, value: f64) -> String {
        self.fill("of100", &[("value", &self.number(value, 0))])
    }

    /// Formats a figure of 0 to 100. The wider its interval, the less exact the text ([`Interval::certainty`]). Without
    /// an interval the figure is exact.
    pub fn figure(self, value: f64, interval: Option<Interval>, unit: Unit) -> String {
        let whole = |value: f64| match unit {
            Unit::Of100 => self.of_100(value),
            // Not `share`: dividing and multiplying by 100 can move a tie.
            Unit::Percent => self.with_sign(&self.number(value, 0)),
        };
        match (certainty(interval), interval) {
            (Certainty::Open, _) => self.say("certainty.open"),
            (Certainty::Rough, Some(Interval { low, high })) => {
                self.fill("interval", &[("low", &self.number(low, 0)), ("high", &whole(high))])
            }
            (Certainty::Likely, _) => self.about(value, unit),
            _ => whole(value),
        }
    }

    /// Formats a figure of 0 to 100 as an approximate one.
    pub fn about(self, value: f64, unit: Unit) -> String {
        self.fill("certainty.about", &[("value", &self.figure(value, None, unit))])
    }

    /// Returns the note of a figure. The wider the interval, the less certain the text. It includes the interval if
    /// [`Words::figure`] does not.
    pub fn remark(self, note: &Note, interval: Option<Interval>) -> String {
        let (Note::Grade(text) | Note::Made(text)) = note;
        let Some(Interval { low, high }) = interval else { return text.clone() };
        let ends = [("text", &**text), ("low", &*self.number(low, 0)), ("high", &*self.number(high, 0))];
        let key = match (certainty(interval), note) {
            (Certainty::Clear, _) | (Certainty::Likely, Note::Made(_)) => "clear",
            (Certainty::Likely, Note::Grade(_)) => "likely",
            (Certainty::Rough, Note::Made(_)) => return text.clone(),
            (Certainty::Rough, Note::Grade(_)) => "rough",
            (Certainty::Open, _) => "fits",
        };
        self.fill(&format!("certainty.{key}"), &ends)
    }

    /// Adds to a headline how certain it is.
    fn headline(self, text: &str, interval: Option<Interval>) -> String {
        let key = match certainty(interval) {
            Certainty::Clear => return text.to_owned(),
            Certainty::Likely | Certainty::Rough => "seems",
            Certainty::Open => "first",
        };
        self.fill(&format!("certainty.{key}"), &[("text", text)])
    }

    /// Grades a calmness of 0 to 100.
    pub fn calm(self, value: f64) -> String {
        self.grade("calm", value, 50.0, 80.0)
    }

    /// Grades an eye contact of 0 to 100.
    pub fn facing(self, value: f64) -> String {
        self.grade("facing", value, 35.0, 70.0)
    }

    /// Grades a mean confidence of 0 to 1.
    pub fn sure(self, value: f64) -> String {
        self.grade("sure", value, 0.6, 0.8)
    }

    /// Grades a clarity of speech of 0 to 100.
    pub fn clear(self, value: f64) -> String {
        self.grade("clear", value, 35.0, 60.0)
    }

    /// Grades a rate in syllables per second. Ordinary speech has about 3 to 6.
    pub fn pace(self, value: f64) -> String {
        self.grade("pace", value, 2.5, 6.5_f64.next_up())
    }

    fn grade(self, key: &str, value: f64, middle: f64, high: f64) -> String {
        let grade = if value >= high {
            "high"
        } else if value >= middle {
            "middle"
        } else {
            "low"
        };
        self.say(&format!("{key}.{grade}"))
    }

    /// Returns the singular text for one, or the plural text with the number.
    pub fn count(self, key: &str, n: u64, values: &[(&str, &str)]) -> String {
        locale::count(self.0, &format!("report.{key}"), n, values)
    }

    /// Formats a time in the video as `4.5 s`, `1:07` or `1:02:07`, depending on the length of the video.
    pub fn moment(self, time_s: f64, duration_s: f64) -> String {
        if duration_s < 60.0 { format!("{} s", self.number(time_s, 1)) } else { clock(time_s, duration_s) }
    }

    /// Formats the label of a tick, with as many decimals as the step needs.
    pub fn tick(self, time_s: f64, step_s: f64, duration_s: f64) -> String {
        if duration_s >= 60.0 && step_s >= 1.0 {
            return clock(time_s, duration_s);
        }
        let decimals = if step_s >= 1.0 {
            0
        } else if step_s >= 0.1 {
            1
        } else {
            2
        };
        format!("{} s", self.number(time_s, decimals))
    }

    /// Formats a duration as `19.7 seconds`, `1 min 7 s` or `1 h 2 min`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a video, not below 0")]
    pub fn length(self, duration_s: f64) -> String {
        if duration_s < 60.0 {
            return self.fill("seconds", &[("n", &self.number(duration_s, 1))]);
        }
        let seconds = duration_s.round() as u64;
        if seconds < 3600 {
            format!("{} min {} s", seconds / 60, seconds % 60)
        } else {
            format!("{} h {} min", seconds / 3600, seconds / 60 % 60)
        }
    }

    /// Formats a date and time, in UTC.
    pub fn date(self, time: Timestamp) -> String {
        let format = locale::text(self.0, "format.date");
        time.to_zoned(TimeZone::UTC).strftime(format.as_bytes()).to_string()
    }

    /// Returns the explanations of the figures in a report.
    pub fn meanings(self, contents: ReportContents) -> Vec<Meaning> {
        let numbers = [
            ("cone", self.number(f64::from(GAZE_CONE_DEG), 0)),
            ("yaw", self.number(f64::from(FACING_YAW_DEG), 0)),
            ("pitch", self.number(f64::from(FACING_PITCH_DEG), 0)),
            ("pause", self.number(PAUSE_S, 2)),
            ("clear", self.number(CERTAIN_UP_TO[0], 0)),
            ("likely", self.number(CERTAIN_UP_TO[1], 0)),
            ("rough", self.number(CERTAIN_UP_TO[2], 0)),
        ];
        let numbers = numbers.each_ref().map(|(name, number)| (*name, number.as_str()));
        let meaning = |term: &str, text: &str| Meaning {
            term: self.say(&format!("meaning.{term}")),
            text: self.fill(&format!("meaning.{text}_text"), &numbers),
        };
        let plain = |name: &'static str, is_shown: bool| is_shown.then(|| meaning(name, name));
        [
            plain("expressions", true),
            plain("relative", contents.relative),
            plain("sure", true),
            Some(meaning("calm", if contents.metrics_version == 1 { "calm_1" } else { "calm" })),
            Some(meaning("gaze", if contents.by_eyes { "gaze" } else { "head" })),
            plain("scores", contents.scores),
            plain("interval", contents.intervals),
            plain("speech", true),
            plain("persons", true),
            plain("not_for", true),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The unit of a figure of 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Of100,
    Percent,
}

/// The note beside a figure.
#[derive(Debug, Clone)]
pub enum Note {
    /// A grade of the figure.
    Grade(String),
    /// The parts of the figure.
    Made(String),
}

/// Returns the certainty of an interval. A figure without an interval is shown as exact.
fn certainty(interval: Option<Interval>) -> Certainty {
    interval.map_or(Certainty::Clear, |interval| interval.certainty())
}

/// The kinds of figures in a report, which need explanations.
#[derive(Debug, Clone, Copy)]
pub struct ReportContents {
    /// Whether eye contact was measured by the eyes, and not by the head alone.
    pub by_eyes: bool,
    /// Whether expressions were compared with the usual ones of a person.
    pub relative: bool,
    pub scores: bool,
    pub intervals: bool,
    /// The version of the definitions of the figures.
    pub metrics_version: u32,
}

/// Returns the text with a capital at its beginning.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a video, not below 0")]
/// Formats a time as `m:ss`, or as `h:mm:ss` if the video is an hour or longer.
fn clock(time_s: f64, duration_s: f64) -> String {
    let seconds = time_s.max(0.0).round() as u64;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if duration_s >= 3600.0 { format!("{h}:{m:02}:{s:02}") } else { format!("{}:{s:02}", h * 60 + m) }
}

/// Wraps text into lines of at most `width` characters. A longer word gets a line of its own. Every line but the first
/// is indented.
pub fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split_ascii_whitespace() {
        let letters = word.chars().count();
        if length > 0 && length + 1 + letters > width {
            lines.push('\n');
            lines.push_str(indent);
            length = indent.chars().count();
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += letters;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const EN: Words = Words(Language::EN);

    fn de() -> Words {
        Words(Language::from_tag("de").unwrap())
    }

    /// `tests/assets/words.test.js` has the same cases.
    #[test]
    fn numbers_are_rounded_as_on_the_page() {
        let cases = [
            (42.5, 0, "42"),
            (43.5, 0, "44"),
            (0.5, 0, "0"),
            (1.5, 0, "2"),
            (14.9, 0, "15"),
            (54.49, 0, "54"),
            (-42.5, 0, "-42"),
            (3.55, 1, "3.5"),
            (3.65, 1, "3.6"),
            (0.25, 1, "0.2"),
            (0.75, 1, "0.8"),
            (1.005, 2, "1.00"),
            (2.675, 2, "2.67"),
            (0.125, 2, "0.12"),
            (99.95, 1, "100.0"),
        ];
        for (value, decimals, wanted) in cases {
            assert_eq!(EN.number(value, decimals), wanted, "{value}");
        }
    }

    #[test]
    fn the_format_of_times_depends_on_the_length_of_the_video() {
        assert_eq!(EN.moment(4.53, 19.7), "4.5 s");
        assert_eq!(de().moment(4.53, 19.7), "4,5 s");
        assert_eq!(EN.moment(67.0, 92.0), "1:07");
        assert_eq!(EN.moment(67.0, 4000.0), "0:01:07");
        assert_eq!(
            (EN.length(19.69), de().length(19.69), EN.length(67.2), EN.length(3725.0)),
            ("19.7 seconds".into(), "19,7 Sekunden".into(), "1 min 7 s".into(), "1 h 2 min".into())
        );
        assert_eq!(EN.tick(0.3, 0.1, 0.6), "0.3 s");
        assert_eq!(EN.tick(15.0, 15.0, 92.0), "0:15");
        let time = "2026-11-21T09:05:00Z".parse().unwrap();
        assert_eq!(
            (EN.date(time).as_str(), de().date(time).as_str()),
            ("21 November 2026, 09:05 UTC", "21.11.2026, 09:05 UTC")
        );
    }

    #[test]
    fn texts_are_less_certain_for_wider_intervals() {
        let span = |low, high| Some(Interval { low, high });
        let said = |words: Words, interval| {
            let figure = words.figure(58.3, interval, Unit::Percent);
            (figure, words.remark(&Note::Grade(words.facing(58.3)), interval), words.headline("X", interval))
        };
        let all = |words| {
            [None, span(50.0, 70.0), span(45.0, 72.0), span(28.0, 90.0), span(3.0, 97.0)].map(|at| said(words, at))
        };
        let told =
            |figure: &str, remark: &str, headline: &str| (figure.to_owned(), remark.to_owned(), headline.to_owned());
        assert_eq!(
            all(EN),
            [
                told("58%", "some of the time", "X"),
                told("58%", "50 to 70; some of the time", "X"),
                told("about 58%", "45 to 72; probably some of the time", "X (likely)"),
                told("28 to 90%", "perhaps some of the time", "X (likely)"),
                told("too little data", "anything from 3 to 97 is possible", "X (little data)"),
            ]
        );
        let german = all(de());
        assert_eq!((german[2].0.as_str(), german[3].0.as_str()), ("etwa 58\u{a0}%", "28 bis 90\u{a0}%"));
        assert!(
            german
                .iter()
                .all(|(a, b, c)| ![a, b, c].iter().any(|text| text.contains("certainty") || text.contains("%{")))
        );
        assert_eq!(EN.figure(58.3, span(45.0, 72.0), Unit::Of100), "about 58 of 100");
    }

    #[test]
    fn headlines_follow_the_story() {
        let (sad, happy, wide) = (Emotion::Sad, Emotion::Happy, Some(Interval { low: 10.0, high: 60.0 }));
        assert_eq!(EN.story(Story::Mostly { emotion: happy }, None), "Mostly happy");
        assert_eq!(EN.story(Story::Mixed { emotion: sad }, wide), "Mixed, most often sad (likely)");
        assert_eq!(de().story(Story::Mixed { emotion: sad }, None), "Gemischt, am häufigsten traurig");
        assert_eq!(de().story(Story::InTurn { first: sad, then: happy }, wide), "Erst traurig, dann fröhlich");
    }

    #[test]
    fn grades_change_at_their_limits() {
        assert_eq!((EN.calm(80.0), EN.calm(79.9)), ("calm".into(), "somewhat tense".into()));
        assert_eq!(
            (EN.pace(6.5), EN.pace(6.6), EN.pace(2.4)),
            ("an ordinary pace".into(), "fast".into(), "slow".into())
        );
    }

    #[test]
    fn the_explanation_of_eye_contact_depends_on_whether_the_eyes_were_seen() {
        for words in [EN, de()] {
            let of = |by_eyes| {
                let meanings = words.meanings(ReportContents {
                    by_eyes,
                    relative: true,
                    scores: true,
                    intervals: true,
                    metrics_version: 2,
                });
                meanings.into_iter().find(|meaning| meaning.term == words.say("meaning.gaze")).unwrap().text
            };
            assert!(of(true).contains("12") && of(true).to_lowercase().contains("iris"), "{}", of(true));
            assert!(of(false).contains("15") || of(false).contains("20"), "{}", of(false));
            assert_ne!(of(true), of(false));
        }
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        assert_eq!(wrap("one two  three\nfour", 9, "  "), "one two\n  three\n  four");
        assert_eq!(wrap("unbreakable", 3, ""), "unbreakable");
    }
}
