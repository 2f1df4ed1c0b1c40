//! Remarks in English. The only place where [`Remark`]s become words: another language is another of these.

use super::{Advice, Certainty, Emotion, Finding, PartName, Reason, Remark, Shown};

/// One sentence or two a remark; `duration_s` says how moments are written.
pub fn sentences(remarks: &[Remark], duration_s: f64) -> Vec<String> {
    remarks.iter().map(|remark| sentence(remark, duration_s)).collect()
}

fn sentence(remark: &Remark, duration_s: f64) -> String {
    match remark {
        Remark::LittleMaterial { samples, seen_s } => {
            let samples = if *samples == 1 { "one sample".to_owned() } else { format!("{samples} samples") };
            format!("There was little to see ({samples} in {seen_s:.1} s): take what follows as a first impression.")
        }
        Remark::SeveralPeople { people } => {
            format!("{people} people are in the picture: what follows is about all of them together.")
        }
        Remark::Showed { shown } => showed(shown, duration_s),
        Remark::Strongest(finding) => part("Strongest", finding, duration_s),
        Remark::Weakest(finding) => part("Weakest", finding, duration_s),
        Remark::Even { parts, value } => {
            let names: Vec<&str> = parts.iter().map(|part| name(*part)).collect();
            format!("Nothing stands out: {} are all near {value:.0} of 100.", list(&names))
        }
        Remark::Only(finding) => {
            let (name, value) = (name(finding.part), finding.value);
            match finding.certainty {
                Certainty::Clear => format!("Only {name} could be measured: {value:.0} of 100."),
                Certainty::Likely => format!("Only {name} could be measured: about {value:.0} of 100."),
                Certainty::Rough => {
                    format!("Only {name} could be measured: roughly {value:.0} of 100{}.", range(finding))
                }
                Certainty::Open => format!(
                    "Only {name} could be measured, and there is too little material to say how much of it there was{}.",
                    range(finding)
                ),
            }
        }
        Remark::Try { advice } => tip(*advice).to_owned(),
    }
}

fn showed(shown: &[Shown], duration_s: f64) -> String {
    let run = |shown: &Shown| {
        shown.longest_s.map_or_else(String::new, |[from, to]| {
            format!(", longest from {} to {}", moment(from, duration_s), moment(to, duration_s))
        })
    };
    let Some((first, rest)) = shown.split_first() else { return String::new() };
    let mut text = format!("The face looked {} most ({:.0}%{})", looks(first.emotion), first.percent, run(first));
    for next in rest {
        text.push_str(&format!("; next came {} ({:.0}%{})", looks(next.emotion), next.percent, run(next)));
    }
    text.push('.');
    text
}

fn part(rank: &str, finding: &Finding, duration_s: f64) -> String {
    let Finding { part, value, certainty, stretch, reason, .. } = finding;
    let name = name(*part);
    let mut text = match certainty {
        Certainty::Clear => format!("{rank} was {name} with {value:.0} of 100"),
        Certainty::Likely => format!("{rank} was probably {name} with about {value:.0} of 100"),
        Certainty::Rough => format!("{rank} may have been {name}, with roughly {value:.0} of 100{}", range(finding)),
        Certainty::Open => {
            format!("{rank} may have been {name}, but there is too little material to say{}", range(finding))
        }
    };
    if let Some(stretch) = stretch {
        let (from, to) = (moment(stretch.start_s, duration_s), moment(stretch.end_s, duration_s));
        let best = if rank == "Strongest" { "best" } else { "least" };
        text.push_str(&format!("; {best} from {from} to {to} ({:.0})", stretch.value));
    }
    if let Some(reason) = reason {
        text.push_str(if stretch.is_some() { ", where " } else { ": " });
        text.push_str(&why(*reason));
    }
    text.push('.');
    text
}

/// From where to where a finding may lie.
fn range(finding: &Finding) -> String {
    finding.interval.map_or_else(String::new, |range| {
        format!(" (anything from {:.0} to {:.0} fits what was seen)", range.low, range.high)
    })
}

fn why(reason: Reason) -> String {
    match reason {
        Reason::EyesShut => "the eyes were mostly shut or cast down".to_owned(),
        Reason::LookedAway => "the eyes mostly went past the camera".to_owned(),
        Reason::HeadTurned => "the head was turned away from the camera".to_owned(),
        Reason::Expression { emotion } => format!("the face looked {}, which counts as stir", looks(emotion)),
        Reason::Pauses { pauses, longest_s } => format!("{pauses} pauses, the longest {longest_s:.1} s"),
        Reason::SlowPace { syllables_per_s } => format!("{syllables_per_s:.1} syllables a second is slow"),
        Reason::FastPace { syllables_per_s } => format!("{syllables_per_s:.1} syllables a second is fast"),
        Reason::Recording { ovr } => format!("the recording sounds like {ovr:.1} of 5"),
    }
}

const fn tip(advice: Advice) -> &'static str {
    match advice {
        Advice::LookIntoTheLens => {
            "One thing to try: look into the lens, with notes or the other person's picture close beside it."
        }
        Advice::KeepEyesUp => "One thing to try: raise the eyes to the lens at the end of each sentence.",
        Advice::FaceTheCamera => {
            "One thing to try: put the camera where you turn to anyway, so that the head faces it."
        }
        Advice::QuieterFace => {
            "One thing to try: a take with a quieter face, in which the liveliest moments are chosen ones."
        }
        Advice::RelaxTheFace => "One thing to try: a take after a slow breath, with brow and jaw relaxed.",
        Advice::HoldTheHeadStill => {
            "One thing to try: both feet on the floor, and a moment's stillness before each thought."
        }
        Advice::ShortenPauses => {
            "One thing to try: know the next sentence before this one ends, so that pauses get shorter."
        }
        Advice::SpeakFaster => "One thing to try: a livelier pace.",
        Advice::SpeakSlower => "One thing to try: a slower pace, with a short stop after each thought.",
        Advice::BetterSound => "One thing to try: a microphone closer to the mouth, or a quieter room.",
        Advice::KeepItUp => "One thing to try: keep all of it as it is, in a longer take.",
    }
}

/// A part as a thing.
const fn name(part: PartName) -> &'static str {
    match part {
        PartName::EyeContact => "eye contact",
        PartName::Calmness => "calmness",
        PartName::Steadiness => "steadiness of the head",
        PartName::Fluency => "fluency",
        PartName::Presence => "presence",
        PartName::SpeechClarity => "clarity of speech",
        PartName::Arousal => "visible arousal",
        PartName::Displeasure => "visible displeasure",
    }
}

const fn looks(emotion: Emotion) -> &'static str {
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

fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// A moment of the video: `4.5 s`, `1:07`, `1:02:07`, by the length of the video.
fn moment(time_s: f64, duration_s: f64) -> String {
    if duration_s < 60.0 {
        return format!("{time_s:.1} s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a video, not below 0")]
    let seconds = time_s.max(0.0).round() as u64;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if duration_s >= 3600.0 { format!("{h}:{m:02}:{s:02}") } else { format!("{}:{s:02}", h * 60 + m) }
}
