//! Analyzes real clips with the pipeline.

mod continued;
mod facts;
mod geometry;
mod media;
mod parts;
mod people;
mod pieces;
mod refusals;
mod remote;
mod sampling;
mod times;
mod variations;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use visage::analysis::{Emotion, FailureReason, Findings, Language, Options, TimelineRow};
use visage::fault::{Fault, Part};
use visage::media::Source;
use visage::pipeline::{Cancel, Pipeline, PipelineError, Progress};

use crate::support::clips::{Clips, Models, models, shared, with_matrix};
use crate::support::decoders;

fn pipeline() -> (Pipeline, Models) {
    let models = models();
    let pipeline = Pipeline::load(&models.settings(), &decoders(&models.settings())).unwrap();
    (pipeline, models)
}

const EVERY_20TH: Options = Options::new(20, 10);

fn analyze(pipeline: &Pipeline, path: &Path, options: Options) -> Result<Findings, PipelineError> {
    let mut findings = pipeline.analyze(&Source::File(path.to_owned()), options, &|_| {}, &Cancel::default())?;
    visage::report::tell(&mut findings.analysis, Language::EN);
    Ok(findings)
}

/// Mean probability of an emotion over some rows.
fn mean(rows: &[&TimelineRow], emotion: Emotion) -> f32 {
    rows.iter().map(|row| row.emotions.of(emotion)).sum::<f32>() / rows.len() as f32
}

/// Share of rows in which the emotion has the highest probability.
fn share(rows: &[&TimelineRow], emotion: Emotion) -> f64 {
    rows.iter().filter(|row| row.emotions.top().0 == emotion).count() as f64 / rows.len() as f64
}

#[test]
fn a_woman_who_cries_and_then_laughs_is_one_person_with_both_emotions() {
    let (pipeline, _models) = pipeline();
    let clip = shared("sad_then_happy.mp4");
    for every in [20, 5] {
        let found = analyze(&pipeline, &clip, Options { sample_every: every, ..EVERY_20TH }).unwrap();
        let analysis = &found.analysis;
        assert_eq!(analysis.faces.len(), 1, "every {every}th: {:#?}", analysis.faces);
        let face = &analysis.faces[0];
        assert!(face.first_s < 2.0 && face.last_s > 18.0, "{face:?}");
        assert_eq!(analysis.video.frames_total, 472);
        assert_eq!(analysis.video.frames_analyzed, 472_u64.div_ceil(every.into()));
        let during = |from: f64, to: f64| -> Vec<&TimelineRow> {
            found.timeline.rows.iter().filter(|row| row.time_s >= from && row.time_s < to).collect()
        };
        let (early, late) = (during(0.0, 7.0), during(11.0, 19.0));
        assert!(share(&early, Emotion::Sad) > 0.5, "{early:#?}");
        assert!(mean(&early, Emotion::Sad) > 2.0 * mean(&early, Emotion::Happy), "{early:#?}");
        assert!(share(&late, Emotion::Happy) > 0.5, "{late:#?}");
        assert!(mean(&late, Emotion::Happy) > 0.5, "{late:#?}");
    }
}

#[test]
fn a_man_who_smiles_is_happy() {
    let (pipeline, _models) = pipeline();
    let clip = shared("single_face.mp4");
    let found = analyze(&pipeline, &clip, EVERY_20TH).unwrap();
    assert_eq!(found.analysis.faces.len(), 1);
    assert_eq!(found.analysis.summary.dominant_emotion, Some(Emotion::Happy));
    assert!(found.analysis.summary.eye_contact.unwrap() > 80.0, "{:?}", found.analysis.summary);
    assert_eq!(found.analysis.speech, None);
    assert!(found.analysis.warnings.iter().any(|warning| warning.contains("speech")));
    let closer = analyze(&pipeline, &clip, Options { sample_every: 3, ..EVERY_20TH }).unwrap();
    let first = closer.timeline.rows.first().unwrap();
    assert_eq!(first.emotions.top().0, Emotion::Neutral, "in the first sample: {first:?}");
    assert_eq!(closer.analysis.faces[0].dominant_emotion, Emotion::Happy);
}

#[test]
fn shut_eyes_and_eyes_that_look_past_the_camera_are_not_eye_contact() {
    let (pipeline, models) = pipeline();
    let sad = shared("sad_then_happy.mp4");
    let man = shared("single_face.mp4");
    let found = analyze(&pipeline, &sad, EVERY_20TH).unwrap();
    assert!(found.analysis.sees_eyes());
    let (summary, face) = (&found.analysis.summary, &found.analysis.faces[0]);
    assert!(summary.eye_contact.unwrap() < 50.0, "{summary:?}");
    assert_eq!((summary.eye_contact, summary.eye_contact_coverage), (face.eye_contact, face.eye_contact_coverage));
    assert!(summary.eye_contact_coverage.unwrap() > 0.7, "{summary:?}");
    // At first the eyes are shut or cast down. Later they look far to the left and to the right.
    let early: Vec<_> = found.timeline.rows.iter().filter(|row| (1.0..4.5).contains(&row.time_s)).collect();
    assert!(early.iter().all(|row| row.eye_contact != Some(true)), "{early:#?}");
    assert!(early.iter().filter(|row| row.eyes_shut == Some(true)).count() * 2 > early.len(), "{early:#?}");
    let looks = |from: f64, to: f64| {
        let gazes = found.timeline.rows.iter().filter(|row| row.time_s >= from && row.time_s < to);
        let yaws: Vec<f32> = gazes.filter_map(|row| row.gaze.map(|gaze| gaze.yaw)).collect();
        yaws.iter().sum::<f32>() / yaws.len() as f32
    };
    assert!(looks(6.0, 7.3) < -15.0 && looks(9.1, 10.2) > 15.0, "{} {}", looks(6.0, 7.3), looks(9.1, 10.2));

    let closer = Options { sample_every: 5, ..EVERY_20TH };
    let met = analyze(&pipeline, &man, closer).unwrap().analysis.summary;
    assert!(met.eye_contact.unwrap() >= 80.0, "{met:?}");

    // Without the model, or with `gaze=off`, only the head pose is used, and a warning says so.
    let mut settings = models.settings();
    settings.vision.gaze = false;
    let blind = Pipeline::load(&settings, &decoders(&settings)).unwrap();
    let found = analyze(&blind, &man, EVERY_20TH).unwrap();
    assert!(!found.analysis.sees_eyes() && found.analysis.summary.eye_contact.unwrap() > 80.0);
    assert!(found.analysis.warnings.iter().any(|warning| warning.contains("the direction of the head only")));
    assert!(found.timeline.rows.iter().all(|row| row.gaze.is_none() && row.eyes_shut.is_none()));
}

#[test]
fn a_video_without_a_face_has_an_empty_result() {
    let (pipeline, _models) = pipeline();
    let clip = shared("no_face.mp4");
    let found = analyze(&pipeline, &clip, EVERY_20TH).unwrap();
    let json = serde_json::to_value(&found.analysis).unwrap();
    assert_eq!(json["faces"], serde_json::json!([]));
    let summary = json["summary"].as_object().unwrap();
    let says_nothing = |value: &serde_json::Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    assert!(!summary.is_empty() && summary.values().all(says_nothing), "{summary:?}");
    assert!(found.timeline.rows.is_empty());
    assert_eq!(found.analysis.video.frames_analyzed, 5);
}

#[test]
fn a_face_that_leaves_the_picture_has_no_later_observations() {
    let (pipeline, _models) = pipeline();
    let clip = shared("face_then_none.mov");
    for every in [20, 4] {
        let found = analyze(&pipeline, &clip, Options { sample_every: every, ..EVERY_20TH }).unwrap();
        assert_eq!(found.analysis.faces.len(), 1, "{:#?}", found.analysis.faces);
        let face = &found.analysis.faces[0];
        assert!(face.first_s < 0.1 && (1.3..2.6).contains(&face.last_s), "{face:?}");
        assert_eq!(found.analysis.video.codec, "hevc");
    }
}

#[test]
fn five_people_are_found_and_max_faces_keeps_the_largest() {
    let (pipeline, _models) = pipeline();
    let picture = shared("multi_face.jpg");
    let clips = Clips::new();
    std::fs::copy(picture, clips.path("five.jpg")).unwrap();
    let clip = clips.make(
        "five.mp4",
        "-loop 1 -framerate 25 -i $five.jpg -t 4 -vf scale=1280:-2 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let found = analyze(&pipeline, &clip, EVERY_20TH).unwrap();
    assert_eq!(found.analysis.faces.iter().map(|face| face.frames).collect::<Vec<_>>(), [5; 5]);
    let two = analyze(&pipeline, &clip, Options { max_faces: 2, ..EVERY_20TH }).unwrap();
    assert_eq!(two.analysis.faces.len(), 2);
}

#[test]
fn two_people_who_cross_keep_their_identities() {
    let (pipeline, _models) = pipeline();
    let man = shared("single_face.mp4");
    let woman = shared("sad_then_happy.mp4");
    let clips = Clips::new();
    std::fs::copy(man, clips.path("man.mp4")).unwrap();
    std::fs::copy(woman, clips.path("woman.mp4")).unwrap();
    // The man smiles and moves from left to right. The woman cries and moves from right to left, behind him in the
    // middle.
    let clip = clips.make(
        "cross.mp4",
        "-stream_loop 3 -i $man.mp4 -i $woman.mp4 -filter_complex \
         [0:v]fps=25,crop=200:260:190:50[man];[1:v]fps=25,crop=260:360:320:0,scale=190:-2[woman];\
         color=gray:s=1280x480:r=25:d=6[room];[room][woman]overlay=x=1000-150*t:y=60[one];\
         [one][man]overlay=x=50+150*t:y=140 -t 6 -an -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let found = analyze(&pipeline, &clip, Options { sample_every: 10, ..EVERY_20TH }).unwrap();
    assert_eq!(found.analysis.faces.len(), 2, "{:#?}", found.analysis.faces);
    for face in &found.analysis.faces {
        let rows: Vec<_> = found.timeline.rows.iter().filter(|row| row.face == face.id).collect();
        let (from, to) = (rows[0].bbox.centre().x, rows[rows.len() - 1].bbox.centre().x);
        let (walks_right, expected) = if from < 640.0 { (true, Emotion::Happy) } else { (false, Emotion::Sad) };
        assert_eq!((to > 640.0, face.dominant_emotion), (walks_right, expected), "from {from} to {to}: {face:#?}");
        assert!(face.last_s > 5.0, "{face:#?}");
    }
}

#[test]
fn another_person_after_a_cut_gets_another_identity() {
    let (pipeline, _models) = pipeline();
    let man = shared("single_face.mp4");
    let woman = shared("sad_then_happy.mp4");
    let clips = Clips::new();
    std::fs::copy(man, clips.path("man.mp4")).unwrap();
    std::fs::copy(woman, clips.path("woman.mp4")).unwrap();
    let clip = clips.make(
        "cut.mp4",
        "-i $man.mp4 -i $woman.mp4 -filter_complex \
         [0:v]fps=25,trim=0:2,setpts=PTS-STARTPTS,pad=1280:360:0:0:gray[man];\
         [1:v]fps=25,trim=0:4,setpts=PTS-STARTPTS,pad=1280:360:640:0:gray[woman];\
         [man][woman]concat=n=2:v=1 -an -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let faces = analyze(&pipeline, &clip, Options { sample_every: 10, ..EVERY_20TH }).unwrap().analysis.faces;
    let people: Vec<_> = faces.iter().map(|face| (face.id, face.dominant_emotion)).collect();
    assert_eq!(people, [(1, Emotion::Happy), (2, Emotion::Sad)], "{faces:#?}");
    assert!(faces[0].last_s < 2.0 && faces[1].first_s >= 2.0, "{faces:#?}");
}

#[test]
fn a_rotated_phone_video_gives_the_result_of_the_upright_one() {
    let (pipeline, _models) = pipeline();
    let clip = shared("single_face.mp4");
    let clips = Clips::new();
    std::fs::copy(clip, clips.path("plain.mp4")).unwrap();
    let sideways = "-i $plain.mp4 -an -vf transpose=clock -c:v libx264 -preset ultrafast -crf 12";
    clips.make("sideways.mp4", sideways);
    // One of the two rotations makes the head upright again.
    let found = [[0, 1, -1, 0], [0, -1, 1, 0]].map(|matrix| {
        let turned = with_matrix(&clips.path("sideways.mp4"), matrix);
        analyze(&pipeline, &clips.write("turned.mp4", &turned), EVERY_20TH).unwrap()
    });
    let upright = found.iter().filter(|found| {
        (found.analysis.video.width, found.analysis.video.height) == (640, 360)
            && found.analysis.summary.dominant_emotion == Some(Emotion::Happy)
            && found.timeline.rows.iter().all(|row| row.pose.is_none_or(|pose| pose.roll.abs() < 30.0))
    });
    assert!(upright.count() >= 1, "{found:#?}");
}

#[test]
fn the_same_video_gives_the_same_findings_every_time() {
    let (pipeline, _models) = pipeline();
    let clip = shared("single_face.mp4");
    let text = || serde_json::to_string(&analyze(&pipeline, &clip, EVERY_20TH).unwrap().analysis).unwrap();
    let first = text();
    // Run it beside another analysis, so that frames and faces of both are in the same batches.
    std::thread::scope(|scope| {
        let other = scope.spawn(text);
        assert_eq!(text(), first);
        assert_eq!(other.join().unwrap(), first);
    });
}

#[test]
fn progress_rises_to_the_end() {
    let (pipeline, _models) = pipeline();
    let clip = shared("sad_then_happy.mp4");
    let reports = Mutex::new(Vec::new());
    let report = |progress: Progress| reports.lock().unwrap().push(progress);
    pipeline.analyze(&Source::File(clip), EVERY_20TH, &report, &Cancel::default()).unwrap();
    let reports = reports.into_inner().unwrap();
    assert!(reports.is_sorted_by_key(|progress| progress.frames_done), "{reports:?}");
    assert_eq!(reports.first(), Some(&Progress { frames_done: 0, frames_total: 472 }));
    assert_eq!(reports.last(), Some(&Progress { frames_done: 472, frames_total: 472 }));
}

#[test]
fn progress_of_a_video_of_unknown_length_is_not_complete_before_the_end() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    let recorded = clips.moving("recorded.webm", 60.0, "-c:v libvpx -deadline realtime -live 1");
    let mut bytes = std::fs::read(clips.moving("plain.webm", 60.0, "-c:v libvpx -deadline realtime")).unwrap();
    let at = bytes.windows(3).position(|found| found == [0x44, 0x89, 0x88]).unwrap() + 3;
    bytes[at..at + 8].copy_from_slice(&3000.0_f64.to_be_bytes());
    for path in [recorded, clips.write("lying.webm", &bytes)] {
        let reports = Mutex::new(Vec::new());
        let report = |progress: Progress| reports.lock().unwrap().push(progress);
        pipeline.analyze(&Source::File(path), EVERY_20TH, &report, &Cancel::default()).unwrap();
        let reports = reports.into_inner().unwrap();
        let (last, before) = reports.split_last().unwrap();
        assert_eq!(*last, Progress { frames_done: 1500, frames_total: 1500 });
        assert!(
            before.iter().all(|report| report.frames_total == 0 || report.frames_done < report.frames_total),
            "{reports:?}"
        );
    }
}

#[test]
fn a_cancelled_analysis_stops_early() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    let clip = clips.moving("long.mp4", 120.0, "-c:v mpeg4");
    let (cancel, most) = (Cancel::default(), AtomicU64::new(0));
    // The first progress report after the start cancels the analysis.
    let report = |progress: Progress| {
        most.fetch_max(progress.frames_done, Ordering::SeqCst);
        if progress.frames_done > 0 {
            cancel.cancel();
        }
    };
    let outcome = pipeline.analyze(&Source::File(clip.clone()), EVERY_20TH, &report, &cancel);
    assert!(matches!(outcome, Err(PipelineError::Cancelled)), "{outcome:?}");
    assert!((1..3000).contains(&most.load(Ordering::SeqCst)), "{most:?} of 3000 frames");
    let outcome = pipeline.analyze(&Source::File(clip), EVERY_20TH, &|_| {}, &cancel);
    assert!(matches!(outcome, Err(PipelineError::Cancelled)), "{outcome:?}");
}

#[test]
fn a_damaged_file_gives_the_figures_of_its_intact_part() {
    let (pipeline, _models) = pipeline();
    let clip = shared("sad_then_happy.mp4");
    let clips = Clips::new();
    std::fs::copy(clip, clips.path("whole.mp4")).unwrap();
    let front = clips.make("front.mp4", "-i $whole.mp4 -c copy -movflags +faststart");
    let whole = std::fs::read(front).unwrap();
    let cut = clips.write("cut.mp4", &whole[..whole.len() / 3]);
    let found = analyze(&pipeline, &cut, EVERY_20TH).unwrap();
    assert_eq!(found.analysis.summary.dominant_emotion, Some(Emotion::Sad));
    assert!(found.analysis.video.duration_s < 12.0, "{:?}", found.analysis.video);
    assert!(found.analysis.warnings[0].contains("damaged or cut off"), "{:?}", found.analysis.warnings);
}

#[test]
fn unreadable_inputs_are_refused_with_a_reason() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    let text = clips.write("text.mp4", b"no video");
    let refused = analyze(&pipeline, &text, EVERY_20TH).unwrap_err();
    assert_eq!((refused.reason().code(), refused.fault()), ("not_a_video", Fault::Video));
    let missing = analyze(&pipeline, Path::new("/nowhere/clip.mp4"), EVERY_20TH).unwrap_err();
    assert_eq!((missing.reason().code(), missing.fault()), ("source_unreadable", Fault::Ours(Part::Storage)));
    assert!(!visage::report::failure(&missing.reason(), Language::EN).contains("nowhere"));
}

#[test]
fn a_missing_model_file_is_reported_as_missing() {
    let models = models();
    let mut settings = models.settings();
    settings.vision.emotion.file = "elsewhere.onnx".into();
    let outcome = Pipeline::load(&settings, &decoders(&settings)).map(|_| ());
    assert!(
        matches!(&outcome, Err(error) if error.is_missing() && error.reason() == FailureReason::NotReady),
        "{outcome:?}"
    );
}

#[test]
fn two_people_side_by_side_have_the_same_figures_as_alone() {
    let (pipeline, _models) = pipeline();
    let man = shared("single_face.mp4");
    let woman = shared("sad_then_happy.mp4");
    let clips = Clips::new();
    std::fs::copy(man, clips.path("man.mp4")).unwrap();
    std::fs::copy(woman, clips.path("woman.mp4")).unwrap();
    // The clip of the man is repeated to the length of that of the woman. All three clips have the same encoding.
    let coded = "-t 19 -an -c:v libx264 -preset ultrafast -crf 16 -pix_fmt yuv420p";
    let alone = [
        clips.make("left.mp4", &format!("-stream_loop 8 -i $man.mp4 -vf fps=24 {coded}")),
        clips.make("right.mp4", &format!("-i $woman.mp4 -vf fps=24 {coded}")),
    ];
    let both = clips.make(
        "both.mp4",
        &format!(
            "-stream_loop 8 -i $man.mp4 -i $woman.mp4 -filter_complex [0:v]fps=24[l];[1:v]fps=24[r];[l][r]hstack \
                  {coded}"
        ),
    );
    let options = Options { sample_every: 12, ..EVERY_20TH };
    let together = analyze(&pipeline, &both, options).unwrap();
    assert_eq!(together.analysis.faces.len(), 2, "{:#?}", together.analysis.faces);
    for (n, clip) in alone.iter().enumerate() {
        let found = analyze(&pipeline, clip, options).unwrap();
        let [own] = found.analysis.faces.as_slice() else { panic!("{:#?}", found.analysis.faces) };
        let is_left = |id: u32| together.timeline.rows.iter().any(|row| row.face == id && row.bbox.centre().x < 640.0);
        let beside = together.analysis.faces.iter().find(|face| is_left(face.id) == (n == 0)).unwrap();
        let (sure, also_sure) = (own.intervals.as_ref().unwrap(), beside.intervals.as_ref().unwrap());
        assert_eq!(own.dominant_emotion, beside.dominant_emotion);
        for (emotion, percent) in &beside.emotions {
            assert!(sure.emotions[emotion].holds(*percent), "{emotion} {percent} in {sure:?}");
            assert!(also_sure.emotions[emotion].holds(own.emotions[emotion]), "{emotion} in {also_sure:?}");
        }
        assert!(sure.calmness.holds(beside.calmness), "{} in {sure:?}", beside.calmness);
        assert!(sure.valence.holds(beside.valence) && sure.arousal.holds(beside.arousal), "{beside:?}");
        assert!(sure.eye_contact.unwrap().holds(beside.eye_contact.unwrap()), "{:?} in {sure:?}", beside.eye_contact);
        assert!(sure.presence.unwrap().holds(beside.presence.unwrap()), "{:?} in {sure:?}", beside.presence);
    }
}

#[test]
fn crying_and_laughing_are_separate_segments_and_both_are_in_the_feedback() {
    let (pipeline, _models) = pipeline();
    let clip = shared("sad_then_happy.mp4");
    for every in [20, 5] {
        let found = analyze(&pipeline, &clip, Options { sample_every: every, ..EVERY_20TH }).unwrap();
        let runs = &found.analysis.faces[0].segments;
        let longest = |emotion: Emotion| {
            let runs = runs.iter().filter(|run| run.emotion == emotion);
            runs.max_by(|a, b| (a.end_s - a.start_s).total_cmp(&(b.end_s - b.start_s))).unwrap()
        };
        let (sad, happy) = (longest(Emotion::Sad), longest(Emotion::Happy));
        assert!(sad.end_s <= happy.start_s && sad.start_s < 5.0 && happy.end_s > 15.0, "every {every}th: {runs:#?}");
        assert!(runs.len() < 12, "every {every}th: {runs:#?}");
        let summary = &found.analysis.summary;
        let text = summary.feedback.join(" ");
        assert!(text.contains("happy") && text.contains("sad") && text.contains("One thing to try"), "{text}");
        let intervals = summary.intervals.as_ref().unwrap();
        assert!(intervals.calmness.holds(summary.calmness.unwrap()), "{intervals:?}");
        assert!(intervals.presence.unwrap().holds(summary.presence.unwrap()), "{intervals:?}");
    }
}

#[test]
fn looking_at_the_camera_gives_more_presence_and_a_short_clip_a_wider_interval() {
    let (pipeline, _models) = pipeline();
    let man = shared("single_face.mp4");
    let woman = shared("sad_then_happy.mp4");
    let options = Options { sample_every: 5, ..EVERY_20TH };
    let (he, she) = (analyze(&pipeline, &man, options).unwrap(), analyze(&pipeline, &woman, options).unwrap());
    assert!(he.analysis.sees_eyes());
    let (he, she) = (he.analysis.summary, she.analysis.summary);
    assert!(he.presence.unwrap() > she.presence.unwrap() + 20.0, "{he:?} {she:?}");
    let width = |summary: &visage::analysis::Summary| summary.intervals.as_ref().unwrap().calmness.width();
    assert!(width(&he) > width(&she), "2.4 s against 19.7 s: {he:?} {she:?}");
    assert!(he.feedback[0].contains("only a first impression"), "{:?}", he.feedback);
}
