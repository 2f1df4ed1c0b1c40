//! Facts of each test clip, as people see them. Other tests check emotions, eye contact and the sound quality.

use visage::analysis::{Emotion, Options, TimelineRow};

use super::{EVERY_20TH, analyze, mean, pipeline, share};
use crate::support::clips::{Clips, shared};

#[test]
fn size_frame_rate_duration_codec_and_sound_of_each_clip_are_reported() {
    let (pipeline, _models) = pipeline();
    for (name, size, fps, duration_s, codec, people) in [
        ("sad_then_happy.mp4", (640, 360), 23.98, 19.7, "h264", 1),
        ("single_face.mp4", (640, 360), 30.0, 2.4, "h264", 1),
        ("face_then_none.mov", (960, 540), 26.4, 6.4, "hevc", 1),
        ("no_face.mp4", (960, 540), 23.67, 3.9, "h264", 0),
        ("speech_and_face.mp4", (640, 360), 23.98, 40.0, "h264", 1),
        ("noisy_speech_and_face.mp4", (640, 360), 23.98, 40.0, "h264", 1),
    ] {
        let clip = shared(name);
        let found = analyze(&pipeline, &clip, Options { speech: false, ..EVERY_20TH }).unwrap().analysis;
        let video = &found.video;
        assert_eq!(((video.width, video.height), video.codec.as_str()), (size, codec), "{name}");
        assert!((video.fps - fps).abs() < 0.05, "{name}: {video:?}");
        assert!((video.duration_s - duration_s).abs() < 0.05, "{name}: {video:?}");
        assert!(video.has_audio, "{name}");
        assert_eq!(found.faces.len(), people, "{name}: {:#?}", found.faces);
    }
}

#[test]
fn face_partly_covered_by_a_hand_is_found() {
    let (pipeline, _models) = pipeline();
    let clip = shared("sad_then_happy.mp4");
    let found = analyze(&pipeline, &clip, Options { sample_every: 10, ..EVERY_20TH }).unwrap();
    let rows = &found.timeline.rows;
    let right = rows.iter().filter(|row| row.bbox.centre().x > 320.0).count();
    assert!(right * 2 > rows.len(), "{right} of {}", rows.len());
    // From 3 to 10 s a hand covers part of her face. She is found in each second, as the same person.
    for second in 3..10 {
        let during = |row: &&TimelineRow| (f64::from(second)..f64::from(second + 1)).contains(&row.time_s);
        assert!(rows.iter().filter(during).any(|row| row.face == 1), "second {second}: {rows:#?}");
    }
    assert!(found.analysis.sees_eyes());
    // At the end she laughs with her head bowed.
    let end: Vec<_> = rows.iter().filter(|row| (18.0..19.0).contains(&row.time_s)).collect();
    let shut = end.iter().filter(|row| row.eyes_shut == Some(true)).count();
    assert!(!end.is_empty() && shut * 2 >= end.len(), "{end:#?}");
    assert!(end.iter().all(|row| row.eye_contact != Some(true)), "{end:#?}");
}

#[test]
fn smile_is_found_from_half_a_second_on() {
    let (pipeline, _models) = pipeline();
    let clip = shared("single_face.mp4");
    let found = analyze(&pipeline, &clip, Options { sample_every: 3, ..EVERY_20TH }).unwrap();
    let rows: Vec<&TimelineRow> = found.timeline.rows.iter().collect();
    let (before, after): (Vec<_>, Vec<_>) = rows.iter().copied().partition(|row| row.time_s < 0.5);
    assert_eq!(before[0].emotions.top().0, Emotion::Neutral, "{before:#?}");
    assert!(mean(&before, Emotion::Happy) < 0.5 * mean(&after, Emotion::Happy), "{before:#?} {after:#?}");
    assert!(share(&after, Emotion::Happy) > 0.85 && mean(&after, Emotion::Happy) > 0.8, "{after:#?}");
}

#[test]
fn no_face_is_found_in_the_sky_after_the_cut() {
    let (pipeline, _models) = pipeline();
    let clip = shared("face_then_none.mov");
    let found = analyze(&pipeline, &clip, Options { sample_every: 2, ..EVERY_20TH }).unwrap();
    let times: Vec<f64> = found.timeline.rows.iter().map(|row| row.time_s).collect();
    // The cut is after frame 72.
    assert!(times.iter().all(|time| *time < 2.4), "{times:?}");
    assert!(times.len() >= 34 && found.timeline.rows.iter().all(|row| row.face == 1), "{times:?}");
}

#[test]
fn noise_in_the_sound_does_not_change_the_figures_of_the_video() {
    let (pipeline, _models) = pipeline();
    let clean = shared("speech_and_face.mp4");
    let noisy = shared("noisy_speech_and_face.mp4");
    let [clean, noisy] = [clean, noisy].map(|clip| analyze(&pipeline, &clip, EVERY_20TH).unwrap());
    // The video streams are encodings of the same frames, so the figures differ only slightly.
    let (clean, noisy) = (clean.analysis.summary, noisy.analysis.summary);
    assert_eq!(clean.dominant_emotion, noisy.dominant_emotion);
    let (a, b) = (clean.emotions.as_ref().unwrap(), noisy.emotions.as_ref().unwrap());
    assert!(a.iter().all(|(emotion, share)| (share - b[emotion]).abs() < 3.0), "{a:?} {b:?}");
    assert!((clean.calmness.unwrap() - noisy.calmness.unwrap()).abs() < 3.0, "{clean:?} {noisy:?}");
    assert!((clean.eye_contact.unwrap() - noisy.eye_contact.unwrap()).abs() < 5.0, "{clean:?} {noisy:?}");
}

#[test]
fn blinks_are_counted_if_samples_are_close_enough() {
    let (pipeline, _models) = pipeline();
    let clip = shared("single_face.mp4");
    let clips = Clips::new();
    std::fs::copy(clip, clips.path("man.mp4")).unwrap();
    // He blinks once, from 0.87 to 0.97 s. The clip repeats that six times, in loops of 2.4 s.
    let clip = clips
        .make("blinks.mp4", "-stream_loop 5 -i $man.mp4 -an -c:v libx264 -preset ultrafast -crf 16 -pix_fmt yuv420p");
    for (every, counted) in [(3, true), (4, false)] {
        let options = Options { sample_every: every, speech: false, ..EVERY_20TH };
        let found = analyze(&pipeline, &clip, options).unwrap();
        assert!(found.analysis.sees_eyes());
        let face = &found.analysis.faces[0];
        assert_eq!(found.analysis.summary.blinks_per_minute, face.blinks_per_minute);
        assert_eq!(face.blinks_per_minute.is_some(), counted, "every {every}th: {face:#?}");
        let Some(rate) = face.blinks_per_minute else { continue };
        let blinks = rate * (face.last_s - face.first_s) / 60.0;
        assert!((blinks - 6.0).abs() < 0.1, "every {every}th: {blinks} blinks");
        let shut = |row: &&TimelineRow| row.eyes_shut == Some(true);
        for row in found.timeline.rows.iter().filter(shut) {
            let within = row.time_s % (72.0 / 30.0);
            assert!((0.8..1.0).contains(&within), "shut at {}", row.time_s);
        }
    }
}
