//! Breaks analyses off and continues them. The result is the same as in one run.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use opencv::prelude::*;
use visage::analysis::{Findings, Options, Sampling};
use visage::config::{DetectorKind, Settings, Video};
use visage::media::{End, Every, Frames, Opened, Position, Source, Stretch};
use visage::pipeline::{AnalysisPart, AnalysisParts, Cancel, Pipeline, PipelineError, Progress};

use super::{EVERY_20TH, pipeline};
use crate::support::clips::{Clips, models, shared};
use crate::support::decoders;

/// A sample: its index, its time and its picture.
pub(super) type Picture = (u32, f64, Vec<u8>);

/// Length of the pieces of a video.
pub(super) const PIECE_S: u32 = 2;

/// Reads the samples of a stretch of a video, at most `most`. Also returns the place after them, and the facts at
/// the end.
pub(super) fn read(
    path: &Path,
    every: Every,
    stretch: impl Into<Stretch>,
    most: usize,
) -> (Vec<Picture>, Position, Option<End>) {
    let limits = Video { piece_s: PIECE_S, ..Settings::defaults().unwrap().video };
    let video = Opened::open(&Source::File(path.to_owned()), &limits).unwrap();
    let mut frames = Frames::select(video, every.selection(), every.sampling, stretch.into(), 2).unwrap();
    let mut pictures = Vec::new();
    while pictures.len() < most {
        let Some(sample) = frames.next(&|| false).unwrap() else {
            let position = frames.position();
            return (pictures, position, Some(frames.end(|| false).unwrap()));
        };
        let picture = sample.picture.try_clone().unwrap().data_bytes().unwrap().to_vec();
        pictures.push((sample.index, sample.time_s, picture));
    }
    (pictures, frames.position(), None)
}

/// The clips whose frames are numbered and decoded in different ways.
pub(super) fn clips(clips: &Clips) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = [
        ("closed.mp4", "-c:v libx264 -g 25 -bf 3 -pix_fmt yuv420p"),
        ("open.mp4", "-c:v libx264 -g 25 -bf 3 -x264-params open-gop=1 -pix_fmt yuv420p"),
        ("one_gop.mp4", "-c:v libx264 -g 9999 -pix_fmt yuv420p"),
        ("dense.mp4", "-c:v libx264 -g 5 -pix_fmt yuv420p"),
        ("hevc.mp4", "-c:v libx265 -x265-params log-level=none:keyint=30 -pix_fmt yuv420p"),
        ("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 40"),
        ("asp.avi", "-c:v mpeg4 -bf 2"),
        ("counted.mkv", "-c:v mpeg2video -bf 2"),
    ]
    .map(|(name, codec)| clips.moving(name, 14.0, codec))
    .into();
    let mut damaged = std::fs::read(&paths[0]).unwrap();
    let third = damaged.len() / 3;
    for at in (third..2 * third).step_by(third / 20) {
        damaged[at..at + 40].fill(0x55);
    }
    paths.push(clips.write("damaged.mp4", &damaged));
    paths
}

/// A clip of a man, filmed sideways.
pub(super) fn sideways(made: &Clips) -> std::path::PathBuf {
    let filter = "-vf transpose=1 -an -g 12 -c:v libx264 -preset ultrafast -crf 18";
    made.make("sideways.mp4", &format!("-i {} {filter}", shared("single_face.mp4").display()))
}

#[test]
fn frames_continue_after_any_sample() {
    let made = Clips::new();
    for path in clips(&made) {
        for every in [Every::exact(7), Every::exact(1), Every { frames: 10, sampling: Sampling::Fast }] {
            let (all, _, end) = read(&path, every, Position::default(), usize::MAX);
            assert!(all.len() > 10, "{} samples of {}", all.len(), path.display());
            for broken_off in [1, 2, all.len() / 2, all.len() - 1, all.len()] {
                let (first, place, _) = read(&path, every, Position::default(), broken_off);
                let place: Position = serde_json::from_str(&serde_json::to_string(&place).unwrap()).unwrap();
                let (rest, _, continued_end) = read(&path, every, place, usize::MAX);
                let whole: Vec<_> = first.into_iter().chain(rest).collect();
                assert!(whole == all, "{} {every:?} after {broken_off}", path.display());
                assert_eq!(continued_end, end, "{} {every:?} after {broken_off}", path.display());
            }
        }
    }
}

/// Analyzes a clip after some parts, and keeps a part for every sample.
fn analyze_after(
    pipeline: &Pipeline,
    path: &Path,
    options: Options,
    earlier: &[AnalysisPart],
) -> (Findings, Vec<AnalysisPart>) {
    let kept = Mutex::new(Vec::new());
    let keep = |part: AnalysisPart| kept.lock().unwrap().push(part);
    let parts = AnalysisParts { earlier: earlier.to_vec(), every: Duration::ZERO, keep: Some(&keep) };
    let source = Source::File(path.to_owned());
    let findings = pipeline.analyze_in_parts(&source, options, parts, &|_| {}, &Cancel::default()).unwrap();
    (findings, kept.into_inner().unwrap())
}

/// Checks that an analysis gives the same findings after any of its parts.
fn assert_continues(pipeline: &Pipeline, path: &Path, options: Options) -> Vec<AnalysisPart> {
    let (whole, parts) = analyze_after(pipeline, path, options, &[]);
    let text = serde_json::to_string(&parts).unwrap();
    let stored: Vec<AnalysisPart> = serde_json::from_str(&text).unwrap();
    assert_eq!(stored, parts);
    // A turned video begins again with part 0.
    let first = stored.iter().rposition(|part| part.number == 0).unwrap();
    let stored = &stored[first..];
    assert!(stored.iter().zip(0..).all(|(part, number)| part.number == number));
    for earlier in [1, stored.len() / 2, stored.len()] {
        let (continued, rest) = analyze_after(pipeline, path, options, &stored[..earlier]);
        assert_eq!(continued, whole, "{options:?} after {earlier} of {}", stored.len());
        assert_eq!(rest.len(), stored.len() - earlier, "only the rest is analyzed");
    }
    stored.to_vec()
}

#[test]
fn findings_are_the_same_after_any_part() {
    let (pipeline, _models) = pipeline();
    let clip = shared("sad_then_happy.mp4");
    for sampling in [Sampling::Exact, Sampling::Fast] {
        assert_continues(&pipeline, &clip, Options { sampling, ..EVERY_20TH });
    }
    let made = Clips::new();
    let (woman, man) = (clip.display(), shared("single_face.mp4").display().to_string());
    let two = format!(
        "-i {woman} -i {man} -filter_complex [0:v]fps=25,scale=640:360[a];[1:v]fps=25,scale=640:360[b];[a][b]hstack -an -t 8 -preset ultrafast"
    );
    assert_continues(&pipeline, &made.make("two.mp4", &two), EVERY_20TH);
    let options = Options { sample_every: 5, ..EVERY_20TH };
    let turned = sideways(&made);
    assert_continues(&pipeline, &turned, options);
    assert_eq!(analyze_after(&pipeline, &turned, options, &[]).0.analysis.video.turned, 270);
}

#[test]
fn parts_that_do_not_fit_are_not_continued() {
    let models = models().with("blazeface.onnx");
    let pipeline = Pipeline::load(&models.settings(), &decoders(&models.settings())).unwrap();
    let clip = shared("single_face.mp4");
    let (whole, parts) = analyze_after(&pipeline, &clip, EVERY_20TH, &[]);
    // Other options, a gap, and another detector.
    let every_10th = Options { sample_every: 10, ..EVERY_20TH };
    assert_eq!(analyze_after(&pipeline, &clip, every_10th, &parts).1[0].number, 0);
    let (findings, rest) = analyze_after(&pipeline, &clip, EVERY_20TH, &[parts[0].clone(), parts[2].clone()]);
    assert_eq!((findings, rest[0].number), (whole, 1));
    let mut settings = models.settings();
    settings.vision.detector = DetectorKind::Blazeface;
    let other = Pipeline::load(&settings, &decoders(&settings)).unwrap();
    assert_eq!(analyze_after(&other, &clip, EVERY_20TH, &parts).1[0].number, 0);
}

#[test]
fn a_cancelled_analysis_keeps_what_it_has_read() {
    let (pipeline, _models) = pipeline();
    let clip = shared("sad_then_happy.mp4");
    let options = Options { sample_every: 2, ..EVERY_20TH };
    let (cancel, kept) = (Cancel::default(), Mutex::new(Vec::new()));
    let keep = |part: AnalysisPart| kept.lock().unwrap().push(part);
    let cancel_halfway = |progress: Progress| {
        if progress.frames_done > 200 {
            cancel.cancel();
        }
    };
    let source = Source::File(clip.clone());
    let parts = AnalysisParts { earlier: Vec::new(), every: Duration::MAX, keep: Some(&keep) };
    let outcome = pipeline.analyze_in_parts(&source, options, parts, &cancel_halfway, &cancel);
    assert!(matches!(outcome, Err(PipelineError::Cancelled)), "{outcome:?}");
    let kept = kept.into_inner().unwrap();
    assert_eq!(kept.len(), 1);
    let whole = pipeline.analyze(&source, options, &|_| {}, &Cancel::default()).unwrap();
    let first_progress = Mutex::new(None);
    let note = |progress: Progress| {
        first_progress.lock().unwrap().get_or_insert(progress);
    };
    let parts = AnalysisParts { earlier: kept, ..AnalysisParts::none() };
    let continued = pipeline.analyze_in_parts(&source, options, parts, &note, &Cancel::default()).unwrap();
    assert_eq!(continued, whole);
    let first = first_progress.into_inner().unwrap().unwrap();
    assert!(first.frames_done > 100, "{first:?} of 472");
}
