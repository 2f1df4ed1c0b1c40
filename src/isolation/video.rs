//! A video that is opened and decoded in a child or in this process.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Decoders;
use super::cores::Share;
use super::remote::{Decoding, RemoteFrames, RemoteSound, RemoteVideo};
use crate::analysis::Sampling;
use crate::media::{
    self, End, Every, FramesError, Position, Probe, ProbeError, Sample, Selection, SoundError, SoundFormat, Source,
    Stretch,
};

/// The file of a video. All clones are decoded in the same child, which ends with the last of them.
#[derive(Clone)]
pub struct VideoFile {
    decoders: Decoders,
    source: Source,
    decoding: Arc<Mutex<Option<Decoding>>>,
}

impl VideoFile {
    pub(super) fn new(decoders: Decoders, source: Source) -> Self {
        Self { decoders, source, decoding: Arc::default() }
    }

    /// The child that decodes the video; `None` if this process does.
    fn decoding(&self) -> Result<Option<Decoding>, ProbeError> {
        let Some(children) = self.decoders.children()? else { return Ok(None) };
        let mut decoding = self.decoding.lock();
        if decoding.is_none() {
            let child = children.take();
            let child = child.map_err(|error| ProbeError::Unreadable(format!("a decoder process: {error}")))?;
            *decoding = Some(Decoding::new(child, &self.source, self.decoders.limits().clone())?);
        }
        Ok(decoding.clone())
    }

    /// The process that decodes the video, if one does.
    pub fn process_id(&self) -> Option<u32> {
        self.decoding.lock().as_ref().map(Decoding::process_id)
    }

    /// Reads the properties of the video, and decodes its first frame to check that it can be decoded. Blocks.
    ///
    /// # Errors
    /// Those of [`media::probe`], and [`ProbeError::DecoderEnded`].
    pub fn probe(&self) -> Result<Probe, ProbeError> {
        match self.decoding()? {
            Some(decoding) => decoding.probe(),
            None => media::probe(&self.source, self.decoders.limits()),
        }
    }

    /// Counts the frames of the video from its packets, without decoding. Blocks.
    pub fn count_frames(&self, stop: &dyn Fn() -> bool) -> Result<u64, FramesError> {
        match self.decoding()? {
            Some(decoding) => decoding.count_frames(stop),
            None => media::count_frames(&self.source, self.decoders.limits(), stop),
        }
    }

    /// Opens the video and checks it against the limits. Blocks.
    pub fn open(&self) -> Result<OpenVideo, ProbeError> {
        let decoders = self.decoders.clone();
        let opened = match self.decoding()? {
            Some(decoding) => Opened::Child(Box::new(decoding.open()?)),
            None => Opened::Here(Box::new(media::Opened::open(&self.source, decoders.limits())?)),
        };
        Ok(OpenVideo { decoders, opened })
    }

    /// Opens the n-th choice of the sound streams as [`SoundFormat::Speech`], see [`media::Sound::open_choice`]. Blocks.
    pub fn sound(
        &self,
        choice: usize,
        stop: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Option<Sound>, SoundError> {
        self.sound_in(SoundFormat::Speech, choice, stop)
    }

    /// Like [`Self::sound`], in any format.
    pub fn sound_in(
        &self,
        format: SoundFormat,
        choice: usize,
        stop: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Option<Sound>, SoundError> {
        Ok(match self.decoding()? {
            Some(decoding) => decoding.sound(choice, format, &stop)?.map(|sound| Sound(SoundPlace::Child(sound))),
            None => media::Sound::open_choice(&self.source, self.decoders.limits(), choice, format, stop)?
                .map(|sound| Sound(SoundPlace::Here(Box::new(sound)))),
        })
    }
}

/// An open video of which no frame was decoded yet.
pub struct OpenVideo {
    decoders: Decoders,
    opened: Opened,
}

enum Opened {
    Here(Box<media::Opened>),
    Child(Box<RemoteVideo>),
}

impl OpenVideo {
    pub const fn probe(&self) -> &Probe {
        match &self.opened {
            Opened::Here(opened) => opened.probe(),
            Opened::Child(opened) => &opened.probe,
        }
    }

    /// Starts to decode. Pictures are turned clockwise by this many quarter turns, in addition to the orientation of
    /// the video. Their placements undo the turn.
    pub fn start(self, every: Every, turns: u8) -> Result<Frames, FramesError> {
        self.start_at(Stretch::default(), every, turns)
    }

    /// Does the same as [`Self::start`] for a stretch of the video.
    pub fn start_at(self, stretch: Stretch, every: Every, turns: u8) -> Result<Frames, FramesError> {
        self.select(every.selection(), every.sampling, turns, stretch)
    }

    /// Like [`Self::start`], for `count` frames that are spread evenly over the first `of` frames of the video.
    pub fn spread(self, count: u64, of: u64, turns: u8) -> Result<Frames, FramesError> {
        self.select(Selection::Spread { count, of }, Sampling::Exact, turns, Stretch::default())
    }

    fn select(
        self,
        selection: Selection,
        sampling: Sampling,
        turns: u8,
        stretch: Stretch,
    ) -> Result<Frames, FramesError> {
        let share = self.decoders.0.cores.take();
        Ok(Frames(match self.opened {
            Opened::Here(opened) => {
                let mut frames = media::Frames::select(*opened, selection, sampling, stretch, share.cores)?;
                frames.turn(turns);
                FramesPlace::Here(Box::new((frames, share)))
            }
            Opened::Child(opened) => {
                FramesPlace::Child(Box::new(opened.start(selection, sampling, turns, stretch, share)?))
            }
        }))
    }
}

/// The sampled frames of a video in presentation order.
pub struct Frames(FramesPlace);

enum FramesPlace {
    Here(Box<(media::Frames, Share)>),
    Child(Box<RemoteFrames>),
}

impl Frames {
    pub fn probe(&self) -> &Probe {
        match &self.0 {
            FramesPlace::Here(here) => here.0.probe(),
            FramesPlace::Child(frames) => &frames.probe,
        }
    }

    /// The number of frames passed so far, whether or not they were decoded.
    pub fn passed(&self) -> u64 {
        match &self.0 {
            FramesPlace::Here(here) => here.0.passed(),
            FramesPlace::Child(frames) => frames.passed,
        }
    }

    /// Where decoding can continue, after the last sample that was returned.
    pub fn position(&self) -> Position {
        match &self.0 {
            FramesPlace::Here(here) => here.0.position(),
            FramesPlace::Child(frames) => frames.position,
        }
    }

    /// Returns the next sampled frame, or `None` at the end. A video without a single sample is an error. `stop` is
    /// called from time to time.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Sample>, FramesError> {
        match &mut self.0 {
            FramesPlace::Here(here) => here.0.next(stop),
            FramesPlace::Child(frames) => frames.next(stop),
        }
    }

    /// Returns the facts that are known after the last frame, see [`media::Frames::end`].
    pub fn end(self, stop: impl Fn() -> bool + Clone + Send + 'static) -> Result<End, FramesError> {
        match self.0 {
            FramesPlace::Here(here) => here.0.end(stop),
            FramesPlace::Child(frames) => frames.end(&stop),
        }
    }
}

/// Reads the samples of a sound stream, see [`media::Sound`].
pub struct Sound(SoundPlace);

enum SoundPlace {
    Here(Box<media::Sound>),
    Child(RemoteSound),
}

impl Sound {
    /// Returns the next samples, about one second at most, or `None` at the end.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Vec<f32>>, SoundError> {
        match &mut self.0 {
            SoundPlace::Here(sound) => sound.next(stop),
            SoundPlace::Child(sound) => sound.next(stop),
        }
    }

    /// The index of the stream in the file.
    pub const fn stream(&self) -> usize {
        match &self.0 {
            SoundPlace::Here(sound) => sound.stream(),
            SoundPlace::Child(sound) => sound.stream,
        }
    }

    /// Whether all samples of the stream were silent. Call it after the last one.
    pub fn is_silent(&self) -> bool {
        match &self.0 {
            SoundPlace::Here(sound) => sound.is_silent(),
            SoundPlace::Child(sound) => sound.is_silent(),
        }
    }
}
