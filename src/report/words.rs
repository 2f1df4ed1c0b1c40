//! Figures and labels in words. Page, mail and charts all take theirs from here, so that they say the same.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::analysis::{Emotion, FACING_PITCH_DEG, FACING_YAW_DEG, GAZE_CONE_DEG, PAUSE_S};

/// What a face shows, as a thing: "happiness".
pub const fn noun(emotion: Emotion) -> &'static str {
    match emotion {
        Emotion::Angry => "anger",
        Emotion::Disgust => "disgust",
        Emotion::Fear => "fear",
        Emotion::Happy => "happiness",
        Emotion::Sad => "sadness",
        Emotion::Surprise => "surprise",
        Emotion::Neutral => "neutral",
    }
}

/// How a face looks: "happy".
pub const fn adjective(emotion: Emotion) -> &'static str {
    match emotion {
        Emotion::Angry => "angry",
        Emotion::Disgust => "disgusted",
        Emotion::Fear => "fearful",
        Emotion::Happy => "happy",
        Emotion::Sad => "sad",
        Emotion::Surprise => "surprised",
        Emotion::Neutral => "neutral",
    }
}

/// The dominant emotion with as much certainty as its share (0 to 100) allows.
pub fn mostly(emotion: Emotion, share: f64) -> String {
    if share >= 50.0 {
        format!("Mostly {}", adjective(emotion))
    } else {
        format!("Mixed, {} most often", adjective(emotion))
    }
}

/// 0 to 100 with one decimal and a percent sign.
pub fn percent(value: f64) -> String {
    format!("{value:.1}%")
}

/// 0 to 1 as a whole percentage.
pub fn share(value: f64) -> String {
    format!("{:.0}%", value * 100.0)
}

/// A calmness of 0 to 100 in a word.
pub const fn calm(value: f64) -> &'static str {
    if value >= 70.0 {
        "calm on the whole"
    } else if value >= 40.0 {
        "neither calm nor stirred"
    } else {
        "stirred rather than calm"
    }
}

/// An eye contact of 0 to 100 in words.
pub const fn facing(value: f64) -> &'static str {
    if value >= 70.0 {
        "most of the time"
    } else if value >= 35.0 {
        "some of the time"
    } else {
        "little of the time"
    }
}

/// A mean top probability of 0 to 1 in words.
pub const fn sure(value: f64) -> &'static str {
    if value >= 0.8 {
        "sure of most samples"
    } else if value >= 0.6 {
        "fairly sure"
    } else {
        "often unsure: read with care"
    }
}

/// A clarity of speech of 0 to 100 in words.
pub const fn clear(value: f64) -> &'static str {
    if value >= 60.0 {
        "easy to follow"
    } else if value >= 35.0 {
        "takes some effort to follow"
    } else {
        "hard to follow"
    }
}

/// Syllables a second in words. Ordinary speech has about 3 to 6.
pub const fn pace(value: f64) -> &'static str {
    if value < 2.5 {
        "slow"
    } else if value <= 6.5 {
        "an ordinary pace"
    } else {
        "fast"
    }
}

/// A count and its thing.
pub fn count(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// A moment of the video: `4.5 s`, `1:07`, `1:02:07`, by the length of the video.
pub fn moment(time_s: f64, duration_s: f64) -> String {
    if duration_s < 60.0 { format!("{time_s:.1} s") } else { clock(time_s, duration_s) }
}

/// The label of a tick: no more decimals than its step needs.
pub fn tick(time_s: f64, step_s: f64, duration_s: f64) -> String {
    if duration_s >= 60.0 && step_s >= 1.0 {
        clock(time_s, duration_s)
    } else if step_s >= 1.0 {
        format!("{time_s:.0} s")
    } else if step_s >= 0.1 {
        format!("{time_s:.1} s")
    } else {
        format!("{time_s:.2} s")
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a video, not below 0")]
fn clock(time_s: f64, duration_s: f64) -> String {
    let seconds = time_s.max(0.0).round() as u64;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if duration_s >= 3600.0 { format!("{h}:{m:02}:{s:02}") } else { format!("{}:{s:02}", h * 60 + m) }
}

/// A length of time: `19.7 seconds`, `1 min 7 s`, `1 h 2 min`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a video, not below 0")]
pub fn length(duration_s: f64) -> String {
    if duration_s < 60.0 {
        return format!("{duration_s:.1} seconds");
    }
    let seconds = duration_s.round() as u64;
    if seconds < 3600 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {} min", seconds / 3600, seconds / 60 % 60)
    }
}

/// A day and time for people, in UTC.
pub fn date(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%-d %B %Y, %H:%M UTC").to_string()
}

/// Breaks text into lines of at most `width` characters where words allow it; every line but the first is indented.
pub fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
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

/// What a figure means and what it does not.
#[derive(Debug, Clone)]
pub struct Meaning {
    pub term: &'static str,
    pub text: String,
}

/// What eye contact is where only the head is seen.
fn head_contact() -> String {
    format!(
        "The share of samples in which the head points at the camera, within {FACING_YAW_DEG:.0} degrees to either side \
         and {FACING_PITCH_DEG:.0} up or down. It follows the head, not the eyes, and a head angle read from a picture \
         is itself off by some degrees: take it as a rough share."
    )
}

/// Meant for every reader of a report; `by_eyes`: what eye contact was judged by.
pub fn meanings(by_eyes: bool) -> Vec<Meaning> {
    let say = |term, text: &str| Meaning { term, text: text.to_owned() };
    vec![
        say(
            "Expressions",
            "A classifier looks at each sampled face and spreads 100% over seven expressions. The shares are the mean \
             over the samples. They describe what a face looks like, not what the person feels: people smile when \
             nervous and frown when they think.",
        ),
        say(
            "How sure",
            "The mean of the highest share in each sample. A sure model can still be wrong: poor light, glasses, \
             masks, beards, profile views and faces unlike those it learned from mislead it.",
        ),
        say(
            "Pleasantness and calmness",
            "Both are worked out from the expressions, by published ratings of how pleasant and how stirring each \
             emotion word is (Russell and Mehrabian, 1977). Calmness from 0 to 100 is a proxy: 100 means no visible \
             sign of stir or displeasure. Pulse, breath and voice play no part.",
        ),
        Meaning {
            term: "Eye contact",
            text: if by_eyes {
                format!(
                    "The share of the time in which the eyes are open and look at the camera, within \
                     {GAZE_CONE_DEG:.0} degrees, worked out from the turn of the head and the place of the irises. \
                     Each person's usual gaze at the camera is taken into account. Glasses, small faces and poor light \
                     mislead it: take it as a rough share."
                )
            } else {
                head_contact()
            },
        },
        Meaning {
            term: "Speech",
            text: format!(
                "Worked out from the sound, not from words. Quality is what listeners would say of the recording, from \
                 1 (bad) to 5 (excellent), guessed by a network (DNSMOS P.835): microphone, room and noise count, not \
                 what is said or who says it. Clarity puts that on 0 to 100 and lowers it where syllables come very \
                 slowly or very fast; they are counted by their loudness, which is rough. Silences of {PAUSE_S} s or \
                 more between speech are pauses. Several voices are not told apart."
            ),
        },
        say(
            "Persons",
            "Faces are followed from sample to sample by where they are. Somebody who leaves the picture and comes \
             back may count as a new person. Nobody is recognised or identified.",
        ),
        say(
            "Not for",
            "Hiring or judging people, diagnosis, lie detection, or any decision about a person. In the European \
             Union, inferring emotions at work and in education is forbidden, save for medical or safety reasons (AI \
             Act, Article 5(1)(f)).",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_the_video_is_long() {
        assert_eq!(moment(4.53, 19.7), "4.5 s");
        assert_eq!(moment(67.0, 92.0), "1:07");
        assert_eq!(moment(67.0, 4000.0), "0:01:07");
        assert_eq!(
            (length(19.69), length(67.2), length(3725.0)),
            ("19.7 seconds".into(), "1 min 7 s".into(), "1 h 2 min".into())
        );
        assert_eq!(tick(0.3, 0.1, 0.6), "0.3 s");
        assert_eq!(tick(15.0, 15.0, 92.0), "0:15");
        assert_eq!(date("2026-11-21T09:05:00Z".parse().unwrap()), "21 November 2026, 09:05 UTC");
    }

    #[test]
    fn words_promise_no_more_than_the_share() {
        assert_eq!(mostly(Emotion::Happy, 50.0), "Mostly happy");
        assert_eq!(mostly(Emotion::Sad, 49.9), "Mixed, sad most often");
    }

    #[test]
    fn eye_contact_says_whether_the_eyes_were_seen() {
        let of = |by_eyes| meanings(by_eyes).into_iter().find(|meaning| meaning.term == "Eye contact").unwrap().text;
        assert!(of(true).contains("irises") && !of(true).contains("not the eyes"));
        assert!(of(false).contains("not the eyes"));
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        assert_eq!(wrap("one two  three\nfour", 9, "  "), "one two\n  three\n  four");
        assert_eq!(wrap("unbreakable", 3, ""), "unbreakable");
    }
}
