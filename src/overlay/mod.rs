//! Writes a video again with the boxes and labels of its analysis: every frame, upright, at its time, with the sound.
//!
//! Pictures and sound are decoded by [`crate::isolation`] a second time, because the labels are known only at the end of
//! the analysis. This process draws ([`draw`]) and encodes. A few pictures at most are in memory.

mod colours;
mod draw;
mod labels;

use std::fs::File;

use opencv::core::{Mat, MatTraitConst, Size};

use self::draw::Pen;
use crate::analysis::{Boxes, VideoFacts};
use crate::isolation::{Sound, VideoFile};
use crate::media::{self, Every, FramesError, ProbeError, SoundError, SoundFormat, VideoForm, VideoWriter, WriteError};

/// The sound is written until it is this far ahead of the pictures, in seconds.
const SOUND_AHEAD_S: f64 = 0.5;

/// Why an overlay was not written.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    #[error(transparent)]
    Frames(#[from] FramesError),
    #[error("drawing: {0}")]
    Draw(#[from] opencv::Error),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<ProbeError> for OverlayError {
    fn from(error: ProbeError) -> Self {
        Self::Frames(error.into())
    }
}

/// What is drawn into a video.
pub struct Overlay<'a> {
    pub video: &'a VideoFacts,
    pub boxes: &'a Boxes,
    /// Number of CPU cores that encoding may use.
    pub cores: usize,
}

impl Overlay<'_> {
    /// Writes the video to an empty file, as MP4. Blocks. `progress` is called with the number of frames after each.
    /// Returns why the video has no sound or ends before it, if the original has sound that could not be read.
    pub fn write(
        &self,
        video: &VideoFile,
        to: &File,
        progress: &dyn Fn(u64),
        stop: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Option<SoundError>, OverlayError> {
        let facts = self.video;
        let mut frames = video.open()?.start(Every::exact(1), 0)?;
        let mut sound = SoundTrack::default();
        if facts.has_audio {
            sound.open(video, &stop)?;
        }
        let size = (facts.width, facts.height);
        let form = VideoForm { size, fps: facts.fps, has_sound: sound.next.is_some(), cores: self.cores };
        let mut writer = VideoWriter::create(to, form)?;
        let mut pen = Pen::new(size);
        while let Some(sample) = frames.next(&stop)? {
            let mut picture = placed(sample.picture, size)?;
            pen.draw(&mut picture, &self.boxes.at(sample.time_s))?;
            sound.write(&mut writer, sample.time_s + SOUND_AHEAD_S, &stop)?;
            writer.picture(&picture, sample.time_s)?;
            progress(frames.passed());
        }
        sound.write(&mut writer, f64::INFINITY, &stop)?;
        writer.finish()?;
        Ok(sound.error)
    }
}

/// Puts a picture into the first one's size, which the boxes refer to.
fn placed(picture: Mat, (width, height): (u32, u32)) -> Result<Mat, opencv::Error> {
    let size = Size::new(i32::try_from(width).unwrap_or(0), i32::try_from(height).unwrap_or(0));
    if picture.size()? == size { Ok(picture) } else { media::fit(&picture, size) }
}

/// The sound of the video.
#[derive(Default)]
struct SoundTrack {
    sound: Option<Sound>,
    /// The next samples; `None` at the end.
    next: Option<Vec<f32>>,
    /// The error at which the sound ends.
    error: Option<SoundError>,
}

impl SoundTrack {
    /// Opens the sound stream that a player would choose, or another one if that cannot be decoded, as the analysis
    /// does.
    fn open(
        &mut self,
        video: &VideoFile,
        stop: &(impl Fn() -> bool + Clone + Send + 'static),
    ) -> Result<(), OverlayError> {
        for choice in 0.. {
            match video.sound_in(SoundFormat::Playback, choice, stop.clone()) {
                Ok(Some(sound)) => self.sound = Some(sound),
                Ok(None) => return Ok(()),
                Err(error) => self.fail(error)?,
            }
            self.read(stop)?;
            if self.next.is_some() {
                self.error = None;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Ends the sound at an error of its stream. Any other error ends the overlay.
    fn fail(&mut self, error: SoundError) -> Result<(), OverlayError> {
        self.sound = None;
        match error {
            SoundError::Cancelled => return Err(FramesError::Cancelled.into()),
            SoundError::Source(error) => return Err(error.into()),
            error => self.error.get_or_insert(error),
        };
        Ok(())
    }

    fn read(&mut self, stop: &dyn Fn() -> bool) -> Result<(), OverlayError> {
        let Some(sound) = &mut self.sound else {
            self.next = None;
            return Ok(());
        };
        match sound.next(stop) {
            Ok(next) => self.next = next,
            Err(error) => {
                self.next = None;
                self.fail(error)?;
            }
        }
        Ok(())
    }

    /// Writes the samples up to this time in seconds.
    fn write(&mut self, writer: &mut VideoWriter, until_s: f64, stop: &dyn Fn() -> bool) -> Result<(), OverlayError> {
        while writer.sound_s() < until_s {
            let Some(samples) = self.next.take() else { return Ok(()) };
            writer.sound(&samples)?;
            self.read(stop)?;
        }
        Ok(())
    }
}
