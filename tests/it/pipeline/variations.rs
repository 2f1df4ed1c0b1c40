//! The same clips mirrored, smaller, tilted and darker. These changes must not change the figures of the person.

use visage::analysis::{BBox, Covered, Emotion, Findings, Options};

use super::{EVERY_20TH, analyze, pipeline};
use crate::support::clips::{Clips, shared};

/// The name of each variation, and the FFmpeg filter that makes it.
const VARIATIONS: [(&str, &str); 11] = [
    ("mirrored", "hflip"),
    ("half", "scale=iw/2:-2"),
    ("left5", "rotate=-5*PI/180"),
    ("right5", "rotate=5*PI/180"),
    ("left10", "rotate=-10*PI/180"),
    ("right10", "rotate=10*PI/180"),
    ("mirrored-left10", "hflip,rotate=-10*PI/180"),
    ("mirrored-half", "hflip,scale=iw/2:-2"),
    ("dark", "eq=brightness=-0.25"),
    ("dim", "eq=gamma=0.5"),
    ("mirrored-dim", "hflip,eq=gamma=0.5"),
];

/// Analyzes a clip and its variations, all with the same encoder settings.
fn varied(clip: &str, every: u32, names: &[&str]) -> Vec<(&'static str, Findings)> {
    let (pipeline, _models) = pipeline();
    let original = shared(clip);
    let clips = Clips::new();
    std::fs::copy(original, clips.path("original.mp4")).unwrap();
    let options = Options { sample_every: every, speech: false, ..EVERY_20TH };
    let look = |(name, filter): (&'static str, &str)| {
        let coded = "-an -c:v libx264 -preset ultrafast -crf 16 -pix_fmt yuv420p";
        let clip = clips.make(&format!("{name}.mp4"), &format!("-i $original.mp4 -vf {filter} {coded}"));
        (name, analyze(&pipeline, &clip, options).unwrap())
    };
    let wanted = VARIATIONS.into_iter().filter(|(name, _)| names.contains(name));
    let all: Vec<_> = std::iter::once(("plain", "null")).chain(wanted).map(look).collect();
    assert!(all[0].1.analysis.sees_eyes());
    all
}

fn find<'a>(all: &'a [(&str, Findings)], name: &str) -> &'a Findings {
    &all.iter().find(|(other, _)| *other == name).unwrap().1
}

/// Angles of two clips at the same times, where both could be measured.
fn pairs(a: &Findings, b: &Findings, angle: impl Fn(&visage::analysis::TimelineRow) -> Option<f32>) -> Vec<(f32, f32)> {
    let rows = a.timeline.rows.iter();
    let same = rows.filter_map(|row| {
        let other = b.timeline.rows.iter().find(|other| (other.time_s - row.time_s).abs() < 0.01)?;
        Some((angle(row)?, angle(other)?))
    });
    same.collect()
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let values: Vec<f32> = values.collect();
    values.iter().sum::<f32>() / values.len() as f32
}

#[test]
fn eye_contact_is_found_in_mirrored_small_tilted_and_dark_variations() {
    let all = varied("single_face.mp4", 5, &VARIATIONS.map(|(name, _)| name));
    for (name, found) in &all {
        let summary = &found.analysis.summary;
        println!("{name}: {:?} {:?}", summary.eye_contact, summary.dominant_emotion);
        assert_eq!(found.analysis.faces.len(), 1, "{name}: {:#?}", found.analysis.faces);
        assert!(summary.eye_contact.unwrap() >= 80.0, "{name}: {summary:?}");
        assert_eq!(summary.dominant_emotion, Some(Emotion::Happy), "{name}: {summary:?}");
    }
    let plain = find(&all, "plain");
    for (name, tilt) in [("left5", -5.0), ("right5", 5.0), ("left10", -10.0), ("right10", 10.0)] {
        let rolls = pairs(plain, find(&all, name), |row| row.pose.map(|pose| pose.roll));
        let by = mean(rolls.iter().map(|(before, after)| after - before));
        assert!((by - tilt).abs() < 1.5, "{name}: tilted by {by}");
    }
    let widths = pairs(plain, find(&all, "half"), |row| Some(row.bbox.width));
    assert!(mean(widths.iter().map(|(whole, half)| whole / half)) > 1.8, "{widths:?}");
}

#[test]
fn averted_gaze_is_found_in_mirrored_small_tilted_and_dark_variations() {
    let names = ["mirrored", "half", "left10", "right10", "dim"];
    let all = varied("sad_then_happy.mp4", 10, &names);
    for (name, found) in &all {
        let summary = &found.analysis.summary;
        println!("{name}: {:?} {:?}", summary.eye_contact, summary.eye_contact_coverage);
        assert_eq!(found.analysis.faces.len(), 1, "{name}: {:#?}", found.analysis.faces);
        assert!(summary.eye_contact.unwrap() < 45.0, "{name}: {summary:?}");
        assert!(summary.eye_contact_coverage.unwrap() > 0.7, "{name}: {summary:?}");
    }
    let (plain, mirrored) = (find(&all, "plain"), find(&all, "mirrored"));
    let heads = pairs(plain, mirrored, |row| row.pose.map(|pose| pose.yaw));
    let gazes = pairs(plain, mirrored, |row| row.gaze.map(|gaze| gaze.yaw));
    assert!(heads.len() > 40 && gazes.len() > 20, "{} {}", heads.len(), gazes.len());
    let off = |pairs: &[(f32, f32)]| mean(pairs.iter().map(|(here, there)| (here + there).abs()));
    println!("a mirror differs by {:.1} degrees of the head and {:.1} of the gaze", off(&heads), off(&gazes));
    assert!(off(&heads) < 2.0 && off(&gazes) < 8.0, "{heads:?} {gazes:?}");
    // A gaze far to one side is mirrored to the other side.
    assert!(gazes.iter().filter(|(here, _)| here.abs() > 15.0).all(|(here, there)| here * there < 0.0), "{gazes:?}");
}

#[test]
fn covered_eyes_and_mouths_are_reported_and_covered_eyes_have_no_gaze() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    std::fs::copy(shared("single_face.mp4"), clips.path("original.mp4")).unwrap();
    let options = Options { sample_every: 5, speech: false, ..EVERY_20TH };
    let bare = analyze(&pipeline, &clips.path("original.mp4"), options).unwrap();
    let seen = bare.analysis.summary;
    assert_eq!((seen.eyes_covered, seen.mouth_covered), (Some(0.0), Some(0.0)));
    assert_eq!(seen.emotions_coverage, Some(1.0));
    let usual_width = bare.analysis.faces[0].intervals.as_ref().unwrap().emotions[&Emotion::Happy].width();
    let boxes = || bare.timeline.rows.iter().map(|row| row.bbox);
    let edge = |of: fn(&BBox) -> f32, pick: fn(f32, f32) -> f32| boxes().map(|bbox| of(&bbox)).reduce(pick).unwrap();
    let (left, right) = (edge(|b| b.x, f32::min), edge(|b| b.x + b.width, f32::max));
    let (top, bottom) = (edge(|b| b.y, f32::min), edge(|b| b.y + b.height, f32::max));
    // A band across the face. Its edges are shares of the height of the face.
    let band = |from: f32, to: f32, colour: &str| {
        let (width, height) = (right - left, bottom - top);
        let (y, high) = (top + from * height, (to - from) * height);
        format!("drawbox=x={left:.0}:y={y:.0}:w={width:.0}:h={high:.0}:color={colour}:t=fill")
    };
    let under = |name: &str, filter: String| {
        let coded = "-an -c:v libx264 -preset ultrafast -crf 16 -pix_fmt yuv420p";
        let clip = clips.make(&format!("{name}.mp4"), &format!("-i $original.mp4 -vf {filter} {coded}"));
        analyze(&pipeline, &clip, options).unwrap()
    };
    for colour in ["black", "black@0.88", "white", "gray@0.9"] {
        let found = under("bar", band(0.25, 0.55, colour));
        let summary = &found.analysis.summary;
        println!("{colour}: {:?} {:?} {:?}", summary.eyes_covered, summary.mouth_covered, summary.eye_contact);
        assert!(summary.eyes_covered > Some(0.9), "{colour}: {summary:?}");
        assert_eq!(summary.mouth_covered, Some(0.0), "{colour}");
        assert!(summary.eye_contact_coverage < Some(0.1), "{colour}: {summary:?}");
        assert!(summary.emotions_coverage < Some(0.1), "{colour}: {summary:?}");
        let hidden = found.timeline.rows.iter().filter(|row| row.covered.is_some_and(|covered| covered.eyes));
        for row in hidden {
            assert_eq!((row.gaze, row.eye_contact, row.eyes_shut), (None, None, None), "{colour}: {row:?}");
        }
        let told = |warning: &String| warning.starts_with("The eyes were covered in");
        assert!(found.analysis.warnings.iter().any(told), "{colour}: {:?}", found.analysis.warnings);
    }
    for colour in ["white", "0x6090c0@0.95"] {
        let found = under("mask", band(0.6, 1.05, colour));
        let summary = &found.analysis.summary;
        println!("{colour}: {:?} {:?} {:?}", summary.eyes_covered, summary.mouth_covered, summary.eye_contact);
        assert!(summary.mouth_covered > Some(0.9), "{colour}: {summary:?}");
        assert_eq!(summary.eyes_covered, Some(0.0), "{colour}");
        assert!(summary.eye_contact >= Some(80.0), "{colour}: {summary:?}");
        let told = |warning: &String| warning.starts_with("The mouth was covered in");
        assert!(found.analysis.warnings.iter().any(told), "{colour}: {:?}", found.analysis.warnings);
        // Nothing is claimed about the expression: neither calm neutrality nor anything else.
        assert!(summary.emotions_coverage < Some(0.1), "{colour}: {summary:?}");
        assert!(found.timeline.rows.iter().all(|row| row.quality <= 0.1), "{colour}");
        let width = found.analysis.faces[0].intervals.as_ref().unwrap().emotions[&Emotion::Happy].width();
        println!("{colour}: {width} points wide instead of {usual_width}");
        assert!(width > 70.0 && width > usual_width, "{colour}: {width}");
    }
    // A mask in half of the time: the other half decides.
    let masked = band(0.6, 1.05, "white");
    let half = under("half", format!("{masked}:enable='gte(t,1.2)'"));
    let summary = &half.analysis.summary;
    let coverage = summary.emotions_coverage.unwrap();
    assert!((0.35..0.65).contains(&coverage), "{summary:?}");
    let rows =
        |is_bare: bool| half.timeline.rows.iter().filter(move |row| row.covered.is_some_and(Covered::any) != is_bare);
    let mean = |is_bare| {
        rows(is_bare).map(|row| f64::from(row.emotions.of(Emotion::Happy))).sum::<f64>() * 100.0
            / rows(is_bare).count() as f64
    };
    let happy = summary.emotions.as_ref().unwrap()[&Emotion::Happy];
    println!("happy: {happy} in all, {} without and {} with the mask", mean(true), mean(false));
    assert!((happy - mean(true)).abs() < (happy - mean(false)).abs(), "{happy}, {}, {}", mean(true), mean(false));
}
