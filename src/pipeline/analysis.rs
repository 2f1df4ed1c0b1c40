//! The stages of one analysis.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use opencv::core::{Mat, MatTraitConst};
use tracing::Span;

use super::part::{AnalysisPart, Beginning, Detectors, Place, ReadSample};
use super::sound::SoundResult;
use super::{AnalysisParts, Analyzed, Cancel, Pipeline, PipelineError, Progress, StageTimes, sound, stages};
use crate::analysis::{
    Appearance, Clarity, Detail, Expressions, Face, Findings, Observation, Options, Probabilities, Sighting,
    StreamOrientation, Tracker, VideoFacts, Warning, quality, summarise,
};
use crate::engine::ActiveDevice;
use crate::isolation::{Frames, VideoFile};
use crate::media::{End, Every, Orientation, Placement, Position, Probe, Sample};
use crate::telemetry::{step, trace};
use crate::vision::{
    Crop, DetailReader, FaceDetails, HeadAndEyes, Mesh, TiledDetector, TurnVotes, Vision, VisionError, WindowDetector,
    head_and_eyes, head_pose,
};

/// Maximum number of frames in one call of the detector. On a CPU it is 1, because larger batches are no faster there.
const FRAMES_TOGETHER_ON_A_GPU: usize = 4;
/// Maximum size in bytes of the frames in one call of the detector. A single frame may be larger. The same amount may
/// wait before the detector and between it and the next stage, and both stages hold as much.
const FRAME_BYTES: usize = 32 << 20;
/// A call of the classifier waits until it has this many faces, because each call has to load the weights into the
/// cache again.
const FACES_WORTH_A_CALL: usize = 4;
/// A call of the classifier takes no more samples once it has this many faces or this many samples.
const FACES_TOGETHER: usize = 16;
/// Samples whose faces may wait for the classifier. It can be large, because crops are small.
const ROOM_FOR_FACES: usize = 16;
/// Time between calls of `progress`.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Some samples, and the faces that the detector found in each.
pub(super) struct DetectedFaces {
    pub samples: Vec<Sample>,
    pub faces: Vec<Vec<Face>>,
}

/// The place after some samples, and the detectors there.
type DetectedTo = (Position, Detectors);

/// The faces of one sample, cut out.
pub(super) struct FacesInFrame {
    sample: u32,
    time_s: f64,
    placement: Placement,
    /// Size of the picture.
    width: i32,
    height: i32,
    pub faces: Vec<FaceInFrame>,
}

/// One face of a sample, with everything but its emotion.
pub(super) struct FaceInFrame {
    face: Face,
    pub crop: Crop,
    appearance: Appearance,
    /// `None` if the landmarks could not be read.
    head: Option<HeadAndEyes>,
    /// `None` without the landmark model.
    clarity: Option<Clarity>,
    /// `None` if they were not asked for, or the landmarks could not be read.
    expressions: Option<Expressions>,
}

/// What the stages return. `E` is what is known after the last frame.
pub(super) struct Ended<E> {
    /// `None` if a later stage failed. Then its error is returned.
    pub end: Option<E>,
    pub details: DetailReader,
    /// Without the times of the sound.
    times: StageTimes,
}

/// What the stages of an analysis need.
pub(super) struct Stages<'a> {
    pub vision: &'a Vision,
    pub options: Options,
    pub probe: &'a Probe,
    pub progress: &'a (dyn Fn(Progress) + Sync),
    pub cancel: &'a Cancel,
}

/// An analysis whose video is opened and being decoded. [`Pipeline::finish`] does the rest. Decoding pauses when the
/// channel for its pictures is full.
pub struct PendingAnalysis {
    video: VideoFile,
    frames: Frames,
    options: Options,
    /// The options before they were adapted to the frame rate of the video.
    requested: Options,
    beginning: Beginning,
    /// The number of parts before the beginning.
    earlier: u32,
    started: Instant,
}

impl PendingAnalysis {
    /// Opens a video and begins to decode it, which needs no models. Blocks until the video is opened.
    ///
    /// # Errors
    /// The same as for [`VideoFile::open`].
    pub fn new(video: VideoFile, options: Options) -> Result<Self, PipelineError> {
        Self::after(Vec::new(), video, options)
    }

    /// Does the same as [`Self::new`], and continues after these parts.
    pub(super) fn after(parts: Vec<AnalysisPart>, video: VideoFile, requested: Options) -> Result<Self, PipelineError> {
        let started = Instant::now();
        let opened = step!("open video").in_scope(|| video.open())?;
        let options = requested.for_frame_rate(opened.probe().fps);
        let earlier = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        if let Some(samples) = parts.last().map(AnalysisPart::samples_so_far) {
            tracing::info!(samples, "the analysis continues after these samples of an earlier run");
        }
        let beginning = Beginning::after(parts, options);
        let frames = opened.start_at(beginning.place.position.into(), every(options), beginning.turns)?;
        Ok(Self { video, frames, options, requested, beginning, earlier, started })
    }
}

/// Reason why the stages end early.
pub(super) enum Stop {
    Failed(PipelineError),
    /// The faces show that the pictures have to be turned clockwise by this many quarter turns.
    Turn(u8),
}

impl From<PipelineError> for Stop {
    fn from(error: PipelineError) -> Self {
        Self::Failed(error)
    }
}

impl From<VisionError> for Stop {
    fn from(error: VisionError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<stages::StageFailed> for Stop {
    fn from(broken: stages::StageFailed) -> Self {
        Self::Failed(broken.into())
    }
}

pub(super) fn run(
    pipeline: &Pipeline,
    begun: PendingAnalysis,
    parts: &AnalysisParts<'_>,
    progress: &(dyn Fn(Progress) + Sync),
    cancel: &Cancel,
) -> Result<Analyzed, PipelineError> {
    let PendingAnalysis { video, frames, options, requested, beginning, earlier, started } = begun;
    let keeper = pipeline.keeper(parts, requested, earlier, beginning.turns);
    let keeper = keeper.as_ref();
    let every = every(options);
    let Pipeline { vision, speech_models, .. } = pipeline;
    let probe = frames.probe().clone();
    // If the pictures have to be turned, decoding starts again. The reported progress must not go back.
    let most = AtomicU64::new(0);
    let progress = &|now: Progress| {
        let before = most.fetch_max(now.frames_done, Ordering::Relaxed);
        progress(Progress { frames_done: now.frames_done.max(before), ..now });
    };
    progress(Progress { frames_done: frames.passed(), frames_total: probe.frames_total });

    let stages = Stages { vision, options, probe: &probe, progress, cancel };
    let once = |frames: Frames, beginning: Beginning| {
        let Beginning { place, turns, mut tracker, mut times } = beginning;
        let mut take = |sample: ReadSample, place| {
            times.push(sample.time_s);
            if let Some(keeper) = keeper {
                keeper.push(sample.clone(), place);
            }
            tracker.push(sample.faces);
        };
        let stop = cancel.clone();
        let finish = |frames: Frames| Ok(frames.end(move || stop.is_cancelled())?);
        let ended = stages.run(frames, place, &mut take, finish)?;
        Ok((ended, tracker, times, turns))
    };
    let pictures = || match once(frames, beginning) {
        Ok(seen) => Ok(seen),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::Turn(turns)) => {
            if let Some(keeper) = keeper {
                keeper.turn(turns);
            }
            match once(video.open()?.start(every, turns)?, Beginning::first(options, turns)) {
                Ok(seen) => Ok(seen),
                Err(Stop::Failed(error)) => Err(error),
                Err(Stop::Turn(_)) => Err(PipelineError::Decoder("the pictures were turned twice".to_owned())),
            }
        }
    };
    let has_sound = probe.has_audio.then_some(options.speech);
    let (seen, sound) = sound::run_beside(speech_models, &video, has_sound, cancel, pictures);
    if let Some(keeper) = keeper.filter(|_| seen.is_err() || sound.error.is_some() || cancel.is_cancelled()) {
        keeper.keep_rest();
    }
    let (Ended { end, details, times }, tracker, samples, turns) = seen?;
    let Some(end) = end.filter(|_| !cancel.is_cancelled()) else { return Err(PipelineError::Cancelled) };
    if let Some(error) = sound.error {
        return Err(error.into());
    }
    let times = StageTimes { speech: sound.busy, ..times };
    let findings = stages.summarise(&end, &samples, tracker, turns, &details, &sound);
    let times = StageTimes { whole: started.elapsed(), ..times };
    Ok(Analyzed { findings, samples, times })
}

impl Stages<'_> {
    /// Runs the stages from a place on. `take` gets every sample, and the place after it if the analysis can continue
    /// there. `finish` is called after the last frame.
    pub fn run<E: Send>(
        &self,
        frames: Frames,
        place: Place,
        take: &mut (dyn FnMut(ReadSample, Option<Place>) + Send),
        finish: impl FnOnce(Frames) -> Result<E, PipelineError> + Send,
    ) -> Result<Ended<E>, Stop> {
        let Self { vision, options, probe, progress, cancel } = *self;
        let together = frames_together(probe, vision.engine().device() == Some(ActiveDevice::Cuda));
        let Place { detectors, mut votes, .. } = place;
        let ((end, decode), detect, (DetailTimes { crops, landmarks, expressions }, details), read) = stages::run(
            (together, 1, ROOM_FOR_FACES),
            |to| {
                let decode = || decode(frames, probe, progress, cancel, &to, finish);
                Ok(traced(step!("decode"), decode, |(_, busy)| *busy)?)
            },
            |from, to| {
                let detect = || detect(vision, options.max_faces as usize, together, detectors, cancel, &from, &to);
                Ok(traced(step!("detect faces"), detect, |busy| *busy)?)
            },
            |from, to| {
                // Models that no analysis has used yet are loaded while the first frames are decoded.
                let details = step!("load models").in_scope(|| vision.detail_reader(wanted(options)));
                let reader = FaceReader { vision, details: &details };
                let read = || read_details(&reader, votes.as_mut(), cancel, &from, &to);
                let busy = traced(step!("read details"), read, DetailTimes::sum)?;
                Ok::<_, Stop>((busy, details))
            },
            |from| {
                let read = || read_emotions(vision, take, cancel, &from);
                Ok(traced(step!("read emotions"), read, |busy| *busy)?)
            },
        )?;
        let detect = detect + crops;
        let times = StageTimes { decode, detect, landmarks, expressions, read, ..StageTimes::default() };
        Ok(Ended { end, details, times })
    }

    /// Summarises what was seen and heard in the whole video.
    pub fn summarise(
        &self,
        end: &End,
        samples: &[f64],
        tracker: Tracker,
        turns: u8,
        details: &DetailReader,
        sound: &SoundResult,
    ) -> Findings {
        let Self { vision, probe, progress, .. } = *self;
        let tracks = tracker.finish();
        let frames_done = end.frames_total;
        progress(Progress { frames_done, frames_total: frames_done });
        let facts = VideoFacts { turned: 90 * u16::from(turns), ..facts(probe, end, samples.len()) };
        let turned = (turns > 0).then_some(Warning::VideoTurned { degrees: facts.turned });
        let too_small = tracks.is_empty().then(|| too_small(vision, &facts));
        let warnings = end
            .warnings
            .iter()
            .cloned()
            .chain(turned)
            .chain(too_small)
            .chain(details.warnings.iter().cloned())
            .chain(sound.warnings.iter().cloned())
            .collect();
        let models = vision.models().into_iter().chain(details.models()).chain(sound.models.iter().cloned()).collect();
        let summary = || summarise(facts, samples, &tracks, sound.speech.clone(), models, warnings);
        step!("summarise").in_scope(summary)
    }
}

/// Runs a stage in its span, which gets the time that the stage worked. The stages run side by side and wait for each
/// other, so the length of the span says less.
fn traced<T, E>(span: Span, stage: impl FnOnce() -> Result<T, E>, busy: impl FnOnce(&T) -> Duration) -> Result<T, E> {
    let result = span.in_scope(stage)?;
    let busy_ms = i64::try_from(busy(&result).as_millis()).unwrap_or(i64::MAX);
    trace::attribute(&span, "visage.busy_ms", busy_ms);
    Ok(result)
}

/// Returns the warning of a video without faces: how small faces are that could have been missed.
pub(super) fn too_small(vision: &Vision, facts: &VideoFacts) -> Warning {
    match vision.smallest_faces(facts.width, facts.height) {
        (rarely, Some(pixels)) => Warning::SmallFacesRarelySought { pixels, rarely },
        (pixels, None) => Warning::SmallFaces { pixels },
    }
}

/// Returns which frames are sampled.
pub(super) const fn every(options: Options) -> Every {
    Every { frames: options.sample_every, sampling: options.sampling }
}

/// Returns the details of faces that the options ask for.
pub(super) fn wanted(options: Options) -> FaceDetails {
    FaceDetails { landmarks: options.gaze, expressions: options.detail == Some(Detail::Expressions) }
}

/// Returns the number of frames of this size in one call of the detector.
fn frames_together(probe: &Probe, on_gpu: bool) -> usize {
    let bytes = (probe.width as usize).saturating_mul(probe.height as usize).saturating_mul(3).max(1);
    if on_gpu { (FRAME_BYTES / bytes).clamp(1, FRAMES_TOGETHER_ON_A_GPU) } else { 1 }
}

/// The first stage: decodes the frames to their end. Returns what is known at the end, and the time that decoding took.
fn decode<E>(
    mut frames: Frames,
    probe: &Probe,
    progress: &(dyn Fn(Progress) + Sync),
    cancel: &Cancel,
    to: &SyncSender<(Sample, Position)>,
    finish: impl FnOnce(Frames) -> Result<E, PipelineError>,
) -> Result<(Option<E>, Duration), PipelineError> {
    let mut busy = Duration::ZERO;
    let mut last_progress = Instant::now();
    loop {
        let since = Instant::now();
        let sample = frames.next(&|| cancel.is_cancelled())?;
        busy += since.elapsed();
        let Some(sample) = sample else { break };
        if to.send((sample, frames.position())).is_err() {
            // The next stage has failed and reports its error.
            return Ok((None, busy));
        }
        if last_progress.elapsed() >= PROGRESS_EVERY {
            last_progress = Instant::now();
            let frames_done = frames.passed();
            // A total that is too low counts as unknown.
            let frames_total = if frames_done < probe.frames_total { probe.frames_total } else { 0 };
            progress(Progress { frames_done, frames_total });
        }
    }
    Ok((Some(finish(frames)?), busy))
}

/// The second stage: finds the faces of each frame. Returns the time that detection took.
fn detect(
    vision: &Vision,
    max_faces: usize,
    together: usize,
    mut detectors: Detectors,
    cancel: &Cancel,
    from: &Receiver<(Sample, Position)>,
    to: &SyncSender<(DetectedFaces, DetectedTo)>,
) -> Result<Duration, PipelineError> {
    let mut busy = Duration::ZERO;
    while let Ok(first) = from.recv() {
        if cancel.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        // Takes the frames that are waiting already, without waiting for more.
        let (samples, positions): (Vec<Sample>, Vec<Position>) =
            std::iter::once(first).chain(from.try_iter().take(together - 1)).unzip();
        let since = Instant::now();
        let faces = detectors.detect(vision, &samples, max_faces)?;
        busy += since.elapsed();
        let position = positions.last().copied().unwrap_or_default();
        if to.send((DetectedFaces { samples, faces }, (position, detectors.clone()))).is_err() {
            break;
        }
    }
    Ok(busy)
}

impl Detectors {
    /// Detects the faces of the next samples. The detectors begin anew with each piece of the video, so that a piece
    /// that is analyzed alone has the same faces.
    fn detect(
        &mut self,
        vision: &Vision,
        samples: &[Sample],
        max_faces: usize,
    ) -> Result<Vec<Vec<Face>>, PipelineError> {
        let mut found = Vec::with_capacity(samples.len());
        for of_piece in samples.chunk_by(|a, b| a.piece == b.piece) {
            if std::mem::replace(&mut self.piece, of_piece[0].piece) != self.piece {
                self.windows = self.windows.as_ref().map(|_| WindowDetector::default());
                self.tiles = TiledDetector::default();
            }
            let pictures: Vec<_> = of_piece.iter().map(|sample| &sample.picture).collect();
            let mut faces: Vec<Vec<Face>> = match &mut self.windows {
                Some(windows) => pictures
                    .iter()
                    .map(|picture| windows.detect(vision, picture, max_faces))
                    .collect::<Result<_, _>>()?,
                None => vision.detect(&pictures, max_faces)?,
            };
            for (picture, faces) in pictures.iter().zip(&mut faces).filter(|(_, faces)| faces.is_empty()) {
                *faces = self.tiles.detect(vision, picture, max_faces)?;
            }
            found.extend(faces);
        }
        Ok(found)
    }
}

/// Reads the details of faces.
pub(super) struct FaceReader<'a> {
    pub vision: &'a Vision,
    pub details: &'a DetailReader,
}

/// Time spent in the parts of the third stage.
#[derive(Default)]
pub(super) struct DetailTimes {
    crops: Duration,
    landmarks: Duration,
    expressions: Duration,
}

impl DetailTimes {
    fn sum(&self) -> Duration {
        self.crops + self.landmarks + self.expressions
    }
}

/// The third stage: cuts faces out and reads their details. While `votes` are open, the largest face of each sample
/// votes on whether the video has to be turned.
fn read_details(
    reader: &FaceReader<'_>,
    mut votes: Option<&mut TurnVotes>,
    cancel: &Cancel,
    from: &Receiver<(DetectedFaces, DetectedTo)>,
    to: &SyncSender<(FacesInFrame, Option<Place>)>,
) -> Result<DetailTimes, Stop> {
    let mut times = DetailTimes::default();
    while let Ok((detected, (position, detectors))) = from.recv() {
        if cancel.is_cancelled() {
            return Err(PipelineError::Cancelled.into());
        }
        let frames = reader.read(detected, votes.as_deref_mut(), &mut times)?;
        // The analysis can continue after the last of them.
        let mut place = Some(Place { position, detectors, votes: votes.as_deref().cloned() });
        let last = frames.len().saturating_sub(1);
        for (n, faces) in frames.into_iter().enumerate() {
            if to.send((faces, place.take_if(|_| n == last))).is_err() {
                return Ok(times);
            }
        }
    }
    match votes.and_then(|votes| votes.decide_at_end()) {
        Some(turns) if !cancel.is_cancelled() => Err(Stop::Turn(turns)),
        _ => Ok(times),
    }
}

impl FaceReader<'_> {
    pub fn read(
        &self,
        DetectedFaces { samples, faces: detected }: DetectedFaces,
        votes: Option<&mut TurnVotes>,
        times: &mut DetailTimes,
    ) -> Result<Vec<FacesInFrame>, Stop> {
        let Self { vision, details } = *self;
        let since = Instant::now();
        let pictures = samples.iter().map(|sample| &sample.picture);
        let faces: Vec<(&Mat, &Face)> =
            pictures.zip(&detected).flat_map(|(frame, faces)| faces.iter().map(move |face| (frame, face))).collect();
        let cut = |(frame, face): &(&Mat, &Face)| Ok((vision.crop(frame, face)?, vision.appearance(frame, face)?));
        let cut = faces.iter().map(cut).collect::<Result<Vec<(Crop, Appearance)>, VisionError>>()?;
        times.crops += since.elapsed();

        let since = Instant::now();
        let meshes = details.landmarks(&faces)?;
        if let Some(votes) = votes {
            self.vote(votes, &detected, &faces, &meshes)?;
        }
        let head = |((frame, _), mesh): (&(&Mat, &Face), &Option<Mesh>)| {
            head_and_eyes(mesh.as_ref()?, frame.cols(), frame.rows())
        };
        let heads: Vec<Option<HeadAndEyes>> = faces.iter().zip(&meshes).map(head).collect();
        times.landmarks += since.elapsed();

        let since = Instant::now();
        let expressions = details.expressions(&meshes)?;
        times.expressions += since.elapsed();

        let mut read = cut.into_iter().zip(heads).zip(expressions);
        let frames = samples.iter().zip(detected).map(|(sample, faces)| FacesInFrame {
            sample: sample.index,
            time_s: sample.time_s,
            placement: sample.placement,
            width: sample.picture.cols(),
            height: sample.picture.rows(),
            faces: faces
                .into_iter()
                .zip(read.by_ref())
                .map(|(face, (((crop, appearance), head), expressions))| {
                    let covered = head.map(|head| head.covered).unwrap_or_default();
                    let expressions = expressions.map(|seen| seen.without(covered));
                    let refused = details.has_landmarks().then_some(Clarity::REFUSED);
                    let clarity = head.map(|head| head.clarity).or(refused);
                    FaceInFrame { face, crop, appearance, head, clarity, expressions }
                })
                .collect(),
        });
        Ok(frames.collect())
    }

    /// Lets the largest face of each sample vote on whether the video has to be turned, until that is decided.
    fn vote(
        &self,
        votes: &mut TurnVotes,
        detected: &[Vec<Face>],
        faces: &[(&Mat, &Face)],
        meshes: &[Option<Mesh>],
    ) -> Result<(), Stop> {
        let mut largest = 0;
        for faces_of_sample in detected {
            if votes.is_open()
                && !faces_of_sample.is_empty()
                && let (Some((frame, face)), Some(mesh)) = (faces.get(largest), meshes.get(largest))
                && let Some(turns) =
                    votes.add_and_decide(self.vision.turns(self.details, frame, face, mesh.as_ref())?)
            {
                return Err(Stop::Turn(turns));
            }
            largest += faces_of_sample.len();
        }
        Ok(())
    }
}

/// The fourth stage: reads the emotions of all faces. Returns the time that this and `take` took.
fn read_emotions(
    vision: &Vision,
    take: &mut (dyn FnMut(ReadSample, Option<Place>) + Send),
    cancel: &Cancel,
    from: &Receiver<(FacesInFrame, Option<Place>)>,
) -> Result<Duration, PipelineError> {
    let mut busy = Duration::ZERO;
    while let Ok(first) = from.recv() {
        if cancel.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        let mut faces = first.0.faces.len();
        let mut frames = vec![first];
        while faces.max(frames.len()) < FACES_TOGETHER {
            let more = if faces < FACES_WORTH_A_CALL { from.recv().ok() } else { from.try_recv().ok() };
            let Some(more) = more else { break };
            faces += more.0.faces.len();
            frames.push(more);
        }
        let since = Instant::now();
        let crops: Vec<&Crop> = frames.iter().flat_map(|(frame, _)| &frame.faces).map(|face| &face.crop).collect();
        let emotions = if crops.is_empty() { Vec::new() } else { vision.classify(&crops)? };
        let mut emotions = emotions.into_iter();
        for (frame, place) in frames {
            let sightings = frame.faces.iter().zip(emotions.by_ref());
            let faces = sightings.map(|(face, emotions)| frame.sighting(face, emotions)).collect();
            take(ReadSample { time_s: frame.time_s, faces }, place);
        }
        busy += since.elapsed();
    }
    Ok(busy)
}

impl FacesInFrame {
    pub fn sighting(&self, read: &FaceInFrame, emotions: Probabilities) -> Sighting {
        let FaceInFrame { face, appearance, head, clarity, expressions, .. } = read;
        let pose = head.map(|head| head.pose).or_else(|| head_pose(face, self.width, self.height));
        let covered = head.map(|head| head.covered);
        let quality = quality(face, pose.as_ref(), clarity.as_ref(), covered);
        let seen = Observation {
            sample: self.sample,
            time_s: self.time_s,
            face: self.placement.face(face),
            emotions,
            pose,
            eyes: head.and_then(|head| head.eyes),
            covered,
            expressions: *expressions,
            quality,
        };
        Sighting { seen, appearance: Some(appearance.clone()) }
    }
}

fn facts(probe: &Probe, end: &End, samples: usize) -> VideoFacts {
    VideoFacts {
        duration_s: end.duration_s,
        // Browsers move time stamps before 0 to 0.
        start_s: probe.start_s.max(0.0),
        fps: end.fps,
        width: end.size.0,
        height: end.size.1,
        codec: probe.codec.clone(),
        frames_total: end.frames_total,
        frames_analyzed: samples as u64,
        has_audio: probe.has_audio,
        turned: 0,
        stream_orientation: end.stream_orientation.map(|Orientation { mirrored, quarter_turns }| StreamOrientation {
            mirrored,
            degrees: 90 * u16::from(quarter_turns),
        }),
    }
}
