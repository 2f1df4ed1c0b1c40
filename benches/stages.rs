//! Measures the time of each step of an analysis for one frame, one face or some seconds of sound, with a clip of
//! `make bench`:
//!
//! ```sh
//! benches/clip.sh target/bench/720p30-60s.mp4 1280 720 5M 60 h264 250 1
//! cargo bench --bench stages
//! ```
//!
//! The time of a step includes its model calls. One call runs on one core.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark may panic on an error")]

use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use visage::analysis::{Observation, Sighting, Track, Tracker, VideoFacts, quality, summarise};
use visage::config::Settings;
use visage::media::{Every, Frames, Opened, Sample, Source, prepare, probe};
use visage::speech::{RATE, SpeechModels};
use visage::vision::{FaceDetails, Vision, head_and_eyes, head_pose};

/// Sampling interval in frames; the default of the settings.
const EVERY: u32 = 20;

fn clip() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench/720p30-60s.mp4");
    assert!(path.is_file(), "{} is missing: see the top of benches/stages.rs", path.display());
    path
}

fn samples(settings: &Settings, some: usize) -> Vec<Sample> {
    let video = Opened::open(&Source::File(clip()), &settings.video).unwrap();
    let mut frames = Frames::start(video, Every::exact(EVERY), 2).unwrap();
    std::iter::from_fn(|| frames.next(&|| false).unwrap()).take(some).collect()
}

fn media(bench: &mut Criterion) {
    prepare();
    let settings = Settings::defaults().unwrap();
    bench.bench_function("probe a file", |bench| {
        bench.iter(|| probe(&Source::File(clip()), &settings.video).unwrap());
    });
    bench.bench_function("open, decode and convert the first 2 s (3 frames of 60)", |bench| {
        bench.iter(|| samples(&settings, 3));
    });
}

fn vision(bench: &mut Criterion) {
    let settings = Settings::defaults().unwrap();
    let vision = Vision::load(&settings).unwrap();
    let sample = samples(&settings, 2).pop().unwrap();
    let frame = &sample.picture;
    let face = vision.detect(&[frame], 1).unwrap().remove(0).remove(0);
    let details = vision.detail_reader(FaceDetails { landmarks: true, expressions: true });
    let meshes = details.landmarks(&[(frame, &face)]).unwrap();
    let (width, height) = (1280, 720);
    let crop = vision.crop(frame, &face).unwrap();

    bench.bench_function("detect faces in a frame", |bench| bench.iter(|| vision.detect(&[frame], 1).unwrap()));
    bench.bench_function("cut out a face", |bench| bench.iter(|| vision.crop(frame, &face).unwrap()));
    bench.bench_function("colours of a person", |bench| bench.iter(|| vision.appearance(frame, &face).unwrap()));
    bench.bench_function("landmarks of a face", |bench| {
        bench.iter(|| details.landmarks(&[(frame, &face)]).unwrap());
    });
    bench.bench_function("head pose and gaze", |bench| {
        bench.iter(|| head_and_eyes(meshes[0].as_ref().unwrap(), width, height).unwrap());
    });
    bench.bench_function("movements of a face", |bench| bench.iter(|| details.expressions(&meshes).unwrap()));
    let crops = vec![crop; 8];
    bench.bench_function("emotions of one face", |bench| bench.iter(|| vision.classify(&crops[..1]).unwrap()));
    bench.bench_function("emotions of eight faces", |bench| bench.iter(|| vision.classify(&crops).unwrap()));
}

/// Returns the sample times and the tracks of a minute with one face.
fn tracks(settings: &Settings) -> (Vec<f64>, Vec<Track>) {
    let vision = Vision::load(settings).unwrap();
    let sample = samples(settings, 1).pop().unwrap();
    let face = vision.detect(&[&sample.picture], 1).unwrap().remove(0).remove(0);
    let emotions = vision.classify(&[vision.crop(&sample.picture, &face).unwrap()]).unwrap().remove(0);
    let pose = head_pose(&face, 1280, 720);
    let quality = quality(&face, pose.as_ref(), None, None);
    let mut tracker = Tracker::default();
    let times: Vec<f64> = (0..90).map(|sample| f64::from(sample) * 2.0 / 3.0).collect();
    for (sample, time_s) in times.iter().enumerate() {
        let seen = Observation {
            sample: sample as u32,
            time_s: *time_s,
            face,
            emotions,
            pose,
            eyes: None,
            covered: None,
            expressions: None,
            quality,
        };
        tracker.push(vec![Sighting { seen, appearance: None }]);
    }
    (times, tracker.finish())
}

fn analysis(bench: &mut Criterion) {
    let settings = Settings::defaults().unwrap();
    let (times, tracks) = tracks(&settings);
    let facts = VideoFacts {
        duration_s: 60.0,
        fps: 30.0,
        width: 1280,
        height: 720,
        codec: "h264".to_owned(),
        frames_total: 1800,
        frames_analyzed: 90,
        has_audio: false,
        start_s: 0.0,
        turned: 0,
        stream_orientation: None,
    };
    bench.bench_function("summarise a minute of one face", |bench| {
        bench.iter(|| summarise(facts.clone(), &times, &tracks, None, Vec::new(), Vec::new()));
    });
}

fn speech(bench: &mut Criterion) {
    let settings = Settings::defaults().unwrap();
    let vision = Vision::load(&settings).unwrap();
    let speech_models = SpeechModels::new(vision.engine(), &settings);
    // A sawtooth whose loudness rises and falls four times a second, which the voice activity detector takes for a
    // voice.
    let sound: Vec<f32> = (0..10 * RATE)
        .map(|at| {
            let time = at as f32 / RATE as f32;
            (time * 140.0).fract() * 0.4 * (time * std::f32::consts::TAU * 2.0).sin().abs() - 0.1
        })
        .collect();
    bench.bench_function("listen to 10 s of sound", |bench| {
        bench.iter(|| {
            let mut analyzer = speech_models.analyzer().unwrap();
            analyzer.push(&sound).unwrap();
            analyzer.finish().unwrap()
        });
    });
}

criterion_group!(stages, media, vision, analysis, speech);
criterion_main!(stages);
