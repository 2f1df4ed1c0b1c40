//! The parent's side of the operations that a child runs.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opencv::core::{CV_8UC3, Mat, MatTraitConstManual, MatTraitManual, Scalar};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::de::DeserializeOwned;

use super::bytes;
use super::cores::Share;
use super::link::{Link, Received};
use super::message::{Answer, Block, Handed, Operation, PictureInSlot, Request};
use super::process::{Child, Watch};
use super::slots::{SLOTS, slot_bytes};
use crate::analysis::Sampling;
use crate::config::Video;
use crate::media::{
    End, FramesError, Position, Probe, ProbeError, Sample, Selection, SoundError, SoundFormat, Source, Stretch,
};
use crate::telemetry::metrics;

/// How often a wait is interrupted to check for cancellation.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A wait for an answer that ended without one.
enum NoAnswer {
    Cancelled,
    Ended(ProbeError),
}

impl From<NoAnswer> for FramesError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Cancelled => Self::Cancelled,
            NoAnswer::Ended(error) => Self::Video(error),
        }
    }
}

impl From<NoAnswer> for SoundError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Cancelled => Self::Cancelled,
            NoAnswer::Ended(error) => Self::Source(error),
        }
    }
}

impl From<NoAnswer> for ProbeError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Cancelled => Self::Unreadable("cancelled".to_owned()),
            NoAnswer::Ended(error) => error,
        }
    }
}

/// A child with the video that it decodes. Cheap to clone.
#[derive(Clone)]
pub struct Decoding {
    child: Arc<Child>,
    video: Arc<HandedVideo>,
    limits: Video,
}

/// The video as it is handed to a child.
enum HandedVideo {
    File {
        file: File,
        size: Option<u64>,
    },
    /// Served by a thread of this process for each operation.
    Remote(Source),
}

impl Decoding {
    pub fn new(child: Child, source: &Source, limits: Video) -> Result<Self, ProbeError> {
        let video = match source {
            Source::File(path) => {
                let unreadable = |error: std::io::Error| ProbeError::Unreadable(error.to_string());
                let file = File::open(path).map_err(unreadable)?;
                let size = file.metadata().map_err(unreadable)?.len();
                HandedVideo::File { file, size: Some(size) }
            }
            Source::Url(_) | Source::Opened(_) => HandedVideo::Remote(source.clone()),
        };
        Ok(Self { child: Arc::new(child), video: Arc::new(video), limits })
    }

    fn run(&self, operation: Operation, pictures: Option<&File>) -> Result<Link, ProbeError> {
        let pictures = pictures.map(AsFd::as_fd);
        match self.video.as_ref() {
            HandedVideo::File { file, size } => {
                self.child.run(operation, Handed::File { size: *size }, file.as_fd(), pictures)
            }
            HandedVideo::Remote(source) => {
                let unavailable = |error: std::io::Error| ProbeError::Unreadable(error.to_string());
                let (ours, theirs) = Link::pair().map_err(unavailable)?;
                let source = source.clone();
                std::thread::Builder::new()
                    .name("video bytes".to_owned())
                    .spawn(move || bytes::serve(&source, ours))
                    .map_err(unavailable)?;
                self.child.run(operation, Handed::Socket, theirs.as_fd(), pictures)
            }
        }
    }

    /// Waits for a message of an operation.
    fn receive<T>(
        &self,
        stop: &dyn Fn() -> bool,
        receive: impl Fn(Duration) -> std::io::Result<Received<T>>,
    ) -> Result<T, NoAnswer> {
        let mut watch = Watch::start();
        loop {
            if stop() {
                return Err(NoAnswer::Cancelled);
            }
            match receive(POLL_INTERVAL) {
                Ok(Received::Message(message, _)) => return Ok(message),
                Ok(Received::TimedOut) => watch.check(&self.child).map_err(NoAnswer::Ended)?,
                Ok(Received::Closed) | Err(_) => return Err(NoAnswer::Ended(self.child.ended())),
            }
        }
    }

    fn answer<T: DeserializeOwned>(&self, link: &Link, stop: &dyn Fn() -> bool) -> Result<T, NoAnswer> {
        self.receive(stop, |timeout| link.receive(Some(timeout)))
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the error for an answer that the protocol does not allow here.
    fn broke_protocol(&self) -> ProbeError {
        self.child.ended()
    }

    /// Checks an error that a child claims. An exploited child must not cause endless attempts at a job, or a
    /// job that counts as cancelled.
    fn claimed(&self, error: ProbeError) -> ProbeError {
        match error {
            ProbeError::DecoderEnded(_) | ProbeError::DecoderKilled(_) => self.broke_protocol(),
            ProbeError::Unreadable(reason) => match self.video.as_ref() {
                HandedVideo::File { file, .. } if is_readable(file) => {
                    ProbeError::DecoderEnded(format!("it could not read the file: {reason}"))
                }
                _ => ProbeError::Unreadable(reason),
            },
            error => error,
        }
    }

    fn claimed_of_frames(&self, error: FramesError) -> FramesError {
        match error {
            FramesError::Video(error) => self.claimed(error).into(),
            FramesError::Decoder(reason) => FramesError::Decoder(reason),
            FramesError::Cancelled | FramesError::NoHwaccel(_) => self.broke_protocol().into(),
        }
    }

    fn claimed_of_sound(&self, error: SoundError) -> SoundError {
        match error {
            SoundError::Source(error) => self.claimed(error).into(),
            SoundError::Cancelled => self.broke_protocol().into(),
            error => error,
        }
    }

    pub fn probe(&self) -> Result<Probe, ProbeError> {
        let link = self.run(Operation::Probe, None)?;
        match self.answer(&link, &|| false)? {
            Answer::Opened(probe) => probe.map_err(|error| self.claimed(error)),
            _ => Err(self.broke_protocol()),
        }
    }

    pub fn count_frames(&self, stop: &dyn Fn() -> bool) -> Result<u64, FramesError> {
        let link = self.run(Operation::Count, None)?;
        match self.answer(&link, stop)? {
            Answer::Count(count) => count.map_err(|error| self.claimed_of_frames(error)),
            _ => Err(self.broke_protocol().into()),
        }
    }

    pub fn open(&self) -> Result<RemoteVideo, ProbeError> {
        let pictures = memfd_create("pictures", MemfdFlags::CLOEXEC);
        let pictures = File::from(pictures.map_err(|error| ProbeError::Unreadable(format!("memory: {error}")))?);
        let link = self.run(Operation::Frames, Some(&pictures))?;
        match self.answer(&link, &|| false)? {
            Answer::Opened(Ok(probe)) => Ok(RemoteVideo { decoding: self.clone(), link, pictures, probe }),
            Answer::Opened(Err(error)) => Err(self.claimed(error)),
            _ => Err(self.broke_protocol()),
        }
    }

    pub fn sound(
        &self,
        choice: usize,
        format: SoundFormat,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<RemoteSound>, SoundError> {
        let link = self.run(Operation::Sound { choice, format }, None)?;
        match self.answer(&link, stop)? {
            Answer::Sound(Ok(None)) => Ok(None),
            Answer::Sound(Ok(Some(stream))) => {
                Ok(Some(RemoteSound { decoding: self.clone(), link, format, stream, end: OnceLock::new() }))
            }
            Answer::Sound(Err(error)) => Err(self.claimed_of_sound(error)),
            _ => Err(self.broke_protocol().into()),
        }
    }
}

/// Whether a file can be read to its end.
fn is_readable(file: &File) -> bool {
    let (mut buffer, mut at) = (vec![0; 1 << 16], 0);
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return true,
            Ok(read) => at += read as u64,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// An open video in a child.
pub struct RemoteVideo {
    decoding: Decoding,
    link: Link,
    pictures: File,
    pub probe: Probe,
}

impl RemoteVideo {
    /// Starts to decode.
    pub fn start(
        self,
        selection: Selection,
        sampling: Sampling,
        turns: u8,
        stretch: Stretch,
        share: Share,
    ) -> Result<RemoteFrames, FramesError> {
        let Self { decoding, link, pictures, probe } = self;
        let select = Request::Select { selection, sampling, turns, stretch, cores: share.cores };
        if link.send(&select, &[]).is_err() {
            return Err(decoding.child.ended().into());
        }
        let (passed, position) = (stretch.start.passed(), stretch.start);
        Ok(RemoteFrames {
            decoding,
            link,
            pictures,
            probe,
            passed,
            position,
            last: None,
            is_over: false,
            _share: share,
        })
    }
}

/// The sampled frames of a video in a child.
pub struct RemoteFrames {
    decoding: Decoding,
    link: Link,
    pictures: File,
    pub probe: Probe,
    pub passed: u64,
    pub position: Position,
    /// Index and time of the last sample.
    last: Option<(u32, f64)>,
    is_over: bool,
    _share: Share,
}

impl RemoteFrames {
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Sample>, FramesError> {
        if self.is_over {
            return Ok(None);
        }
        match self.decoding.answer(&self.link, stop)? {
            Answer::Sample(sample) => {
                let follows = self.last.is_none_or(|(index, time_s)| sample.index > index && sample.time_s > time_s);
                let picture = if follows { self.picture(&sample) } else { None };
                let Some(picture) = picture else { return Err(self.decoding.broke_protocol().into()) };
                let PictureInSlot { slot, index, time_s, placement, piece, passed, position, .. } = sample;
                metrics().decoded("cpu");
                // Ignores the error of a child that ended: the next call returns it.
                let _ = self.link.send(&Request::FreeSlot { slot }, &[]);
                (self.last, self.passed, self.position) = (Some((index, time_s)), passed, position);
                Ok(Some(Sample { index, time_s, picture, placement, piece }))
            }
            Answer::Last { passed, position } => {
                (self.is_over, self.passed, self.position) = (true, passed, position);
                Ok(None)
            }
            Answer::Failed(error) => Err(self.decoding.claimed_of_frames(error)),
            _ => Err(self.decoding.broke_protocol().into()),
        }
    }

    /// Copies a picture from its slot. Returns `None` if it cannot be there.
    fn picture(&self, sample: &PictureInSlot) -> Option<Mat> {
        let PictureInSlot { slot, rows, columns, .. } = *sample;
        let limit = slot_bytes(&self.decoding.limits);
        let size = u64::try_from(rows).ok()?.checked_mul(u64::try_from(columns).ok()?)?.checked_mul(3)?;
        if slot >= SLOTS || size == 0 || size > limit {
            return None;
        }
        let mut picture = Mat::new_rows_cols_with_default(rows, columns, CV_8UC3, Scalar::default()).ok()?;
        self.pictures.read_exact_at(picture.data_bytes_mut().ok()?, slot as u64 * limit).ok()?;
        debug_assert_eq!(picture.data_bytes().map_or(0, <[u8]>::len) as u64, size);
        Some(picture)
    }

    pub fn end(self, stop: &dyn Fn() -> bool) -> Result<End, FramesError> {
        if self.link.send(&Request::End, &[]).is_err() {
            return Err(self.decoding.child.ended().into());
        }
        match self.decoding.answer(&self.link, stop)? {
            Answer::End(end) => end.map_err(|error| self.decoding.claimed_of_frames(error)),
            _ => Err(self.decoding.broke_protocol().into()),
        }
    }
}

/// A sound track in a child.
pub struct RemoteSound {
    decoding: Decoding,
    link: Link,
    format: SoundFormat,
    pub stream: usize,
    /// Whether the track was silent, once its end was reached.
    end: OnceLock<bool>,
}

impl RemoteSound {
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Vec<f32>>, SoundError> {
        if self.end.get().is_some() {
            return Ok(None);
        }
        let bytes = self.decoding.receive(stop, |timeout| self.link.receive_bytes(Some(timeout)))?;
        let is_valid = |samples: &[f32]| {
            samples.len().is_multiple_of(self.format.channels()) && samples.iter().all(|sample| sample.abs() <= 1.0)
        };
        match Block::from_bytes(&bytes) {
            Some(Block::Samples(samples)) if is_valid(&samples) => Ok(Some(samples)),
            Some(Block::End { is_silent }) => {
                let _ = self.end.set(is_silent);
                Ok(None)
            }
            Some(Block::Failed(error)) => Err(self.decoding.claimed_of_sound(error)),
            _ => Err(self.decoding.broke_protocol().into()),
        }
    }

    pub fn is_silent(&self) -> bool {
        self.end.get().copied().unwrap_or(false)
    }
}
