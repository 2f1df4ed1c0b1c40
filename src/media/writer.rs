//! Writes an MP4 file: pictures as H.264 with a time each, and sound as AAC beside them.
//!
//! A few pictures at most are in memory: those that the encoder looks ahead.

use std::fs::File;
use std::os::fd::AsRawFd;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::sample::{Sample as SampleFormat, Type};
use ffmpeg_next::format::{Pixel, context::Output};
use ffmpeg_next::software::scaling;
use ffmpeg_next::{ChannelLayout, Dictionary, Packet, Rational, codec, encoder, frame, picture};
use opencv::core::{BORDER_REPLICATE, Mat, MatTraitConst, copy_make_border_def};

use super::ffi;
use super::fit::fill;
use super::{SoundFormat, prepare};

/// FFmpeg's name of the encoder of pictures.
const H264: &str = "libx264";
/// FFmpeg's name of the encoder of sound.
pub(super) const AAC: &str = "aac";
/// Units of time in a second. The durations of frames at all usual rates are whole numbers of it, such as 5005 at 24000
/// frames in 1001 seconds.
const TIME_UNITS: i32 = 120_000;
/// The bit rate of two channels, at which AAC is transparent to most listeners.
const SOUND_BIT_RATE: usize = 160_000;
/// The frame rate if it is unknown.
const FALLBACK_FPS: f64 = 25.0;
/// The time between key frames in seconds. Players can seek to these quickly.
const KEY_FRAME_S: f64 = 2.0;
/// Frames that the encoder looks ahead. With this, frames of 3840 x 2160 take 520 instead of 800 MB, and files are no
/// larger.
const LOOKAHEAD: &str = "rc-lookahead=3:sync-lookahead=0";
/// The maximum number of threads of the encoder. Each holds a few frames.
const MAX_THREADS: usize = 4;

/// Why a video could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("this FFmpeg has no encoder {0}")]
    NoEncoder(&'static str),
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] std::io::Error),
    #[error("encoding: {0}")]
    Encoder(String),
}

impl WriteError {
    /// For an error of FFmpeg's muxer.
    fn of_muxer(error: ffmpeg::Error) -> Self {
        match error {
            ffmpeg::Error::Other { errno } => Self::File(std::io::Error::from_raw_os_error(errno)),
            error => Self::Encoder(error.to_string()),
        }
    }
}

impl From<ffmpeg::Error> for WriteError {
    fn from(error: ffmpeg::Error) -> Self {
        Self::Encoder(error.to_string())
    }
}

impl From<opencv::Error> for WriteError {
    fn from(error: opencv::Error) -> Self {
        Self::Encoder(error.to_string())
    }
}

/// The form of a written video.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoForm {
    /// Width and height of all pictures. If a side is odd, the video has one pixel more there, because H.264 players
    /// need even sides. The pixel repeats the edge of the picture.
    pub size: (u32, u32),
    /// Mean frames a second; 0 if unknown. The last frame lasts for one of these.
    pub fps: f64,
    pub has_sound: bool,
    /// Number of CPU cores that encoding may use.
    pub cores: usize,
}

/// Checks that FFmpeg has the encoders of written videos.
pub fn check_encoders() -> Result<(), WriteError> {
    prepare();
    let missing = [H264, AAC].into_iter().find(|name| encoder::find_by_name(name).is_none());
    missing.map_or(Ok(()), |name| Err(WriteError::NoEncoder(name)))
}

/// A video that is being written.
pub struct VideoWriter {
    output: Output,
    pictures: Pictures,
    sound: Option<SoundEncoder>,
}

struct Pictures {
    encoder: encoder::video::Encoder,
    size: (u32, u32),
    scaler: scaling::Context,
    /// The duration of a frame in units of time.
    duration: i64,
    /// The time of the last picture.
    last: Option<i64>,
}

struct SoundEncoder {
    encoder: encoder::audio::Encoder,
    /// Interleaved samples that do not fill a frame of the encoder yet.
    waiting: Vec<f32>,
    /// Number of samples of each channel that were given to the encoder.
    encoded: i64,
}

impl VideoWriter {
    /// Begins to write to an empty file.
    pub fn create(file: &File, form: VideoForm) -> Result<Self, WriteError> {
        check_encoders()?;
        // FFmpeg opens the file by its path in /proc, and again at the end, when it moves the index to the front. So any
        // name of the file will do.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut output = ffmpeg::format::output_as(&path, "mp4").map_err(WriteError::of_muxer)?;
        let pictures = Pictures::new(form)?;
        add_stream(&mut output, &pictures.encoder, time_base())?;
        let sound = if form.has_sound { Some(SoundEncoder::new()?) } else { None };
        if let Some(sound) = &sound {
            add_stream(&mut output, &sound.encoder, sound_time_base())?;
        }
        let options = [("movflags", "+faststart")].into_iter().collect();
        output.write_header_with(options).map_err(WriteError::of_muxer)?;
        Ok(Self { output, pictures, sound })
    }

    /// Adds a picture, BGR and of the size of the video, that is shown from this time on. Times in seconds increase.
    pub fn picture(&mut self, picture: &Mat, time_s: f64) -> Result<(), WriteError> {
        self.pictures.send(picture, time_s)?;
        self.write_pictures()
    }

    /// Adds samples in the form of [`SoundFormat::Playback`]. The first one is at time 0.
    pub fn sound(&mut self, samples: &[f32]) -> Result<(), WriteError> {
        let Some(sound) = &mut self.sound else { return Ok(()) };
        sound.waiting.extend_from_slice(samples);
        let values = sound.frame_values();
        let whole = sound.waiting.len() / values * values;
        let waiting = sound.waiting.split_off(whole);
        for samples in std::mem::replace(&mut sound.waiting, waiting).chunks_exact(values) {
            sound.send(samples)?;
            write_all(&mut sound.encoder, &mut self.output, 1, sound_time_base(), None)?;
        }
        Ok(())
    }

    /// The duration of the sound so far, in seconds.
    pub fn sound_s(&self) -> f64 {
        let Some(sound) = &self.sound else { return 0.0 };
        let waiting = sound.waiting.len() / SoundFormat::Playback.channels();
        #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
        let samples = sound.encoded as f64 + waiting as f64;
        samples / f64::from(SoundFormat::Playback.rate())
    }

    /// Writes the rest and the index.
    pub fn finish(mut self) -> Result<(), WriteError> {
        if let Some(sound) = &mut self.sound {
            let rest = std::mem::take(&mut sound.waiting);
            if !rest.is_empty() {
                sound.send(&rest)?;
            }
            sound.encoder.send_eof()?;
            write_all(&mut sound.encoder, &mut self.output, 1, sound_time_base(), None)?;
        }
        self.pictures.encoder.send_eof()?;
        self.write_pictures()?;
        self.output.write_trailer().map_err(WriteError::of_muxer)
    }

    fn write_pictures(&mut self) -> Result<(), WriteError> {
        let Pictures { encoder, duration, .. } = &mut self.pictures;
        // Without a duration, players omit the last frame.
        write_all(encoder, &mut self.output, 0, time_base(), Some(*duration))
    }
}

impl Pictures {
    fn new(form: VideoForm) -> Result<Self, WriteError> {
        let codec = encoder::find_by_name(H264).ok_or(WriteError::NoEncoder(H264))?;
        let fps = if form.fps.is_finite() && form.fps > 0.0 { form.fps } else { FALLBACK_FPS };
        let (width, height) = (form.size.0.next_multiple_of(2), form.size.1.next_multiple_of(2));
        let mut setup = codec::context::Context::new_with_codec(codec).encoder().video()?;
        setup.set_width(width);
        setup.set_height(height);
        setup.set_format(Pixel::YUV420P);
        setup.set_time_base(time_base());
        setup.set_aspect_ratio(Rational(1, 1));
        #[expect(clippy::cast_possible_truncation, reason = "at most a few hundred frames a second")]
        let rate = Rational::new((fps * 1000.0).round().clamp(1.0, 1e6) as i32, 1000);
        setup.set_frame_rate(Some(rate));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        setup.set_gop((fps * KEY_FRAME_S).round().clamp(1.0, 250.0) as u32);
        setup.set_flags(codec::Flags::GLOBAL_HEADER);
        let threads = form.cores.clamp(1, MAX_THREADS).to_string();
        let options = [
            ("preset", "veryfast"),
            ("crf", "20"),
            ("threads", &threads),
            ("x264-params", LOOKAHEAD),
            ("colorspace", "bt709"),
            ("color_primaries", "bt709"),
            ("color_trc", "bt709"),
            ("color_range", "tv"),
        ];
        let encoder = setup.open_as_with(codec, options.into_iter().collect::<Dictionary<'_>>())?;
        let (bgr, yuv, flags) = (Pixel::BGR24, Pixel::YUV420P, scaling::Flags::BILINEAR);
        let mut scaler = scaling::Context::get(bgr, width, height, yuv, width, height, flags)?;
        ffi::set_output_colour_space(&mut scaler);
        #[expect(clippy::cast_possible_truncation, reason = "a duration")]
        let duration = ((f64::from(TIME_UNITS) / fps).round() as i64).max(1);
        Ok(Self { encoder, size: form.size, scaler, duration, last: None })
    }

    fn send(&mut self, picture: &Mat, time_s: f64) -> Result<(), WriteError> {
        let scaler = &mut self.scaler;
        let (width, height) = (scaler.input().width, scaler.input().height);
        let mut colours = frame::Video::new(Pixel::BGR24, width, height);
        if self.size == (width, height) {
            fill(&mut colours, picture)?;
        } else {
            let [below, right] = [(height, picture.rows()), (width, picture.cols())]
                .map(|(side, of_picture)| i32::try_from(side).unwrap_or(0).saturating_sub(of_picture).clamp(0, 1));
            let mut padded = Mat::default();
            copy_make_border_def(picture, &mut padded, 0, below, 0, right, BORDER_REPLICATE)?;
            fill(&mut colours, &padded)?;
        }
        let mut planes = ffi::scale(scaler, &colours)?;
        #[expect(clippy::cast_possible_truncation, reason = "the limit on durations is far below")]
        let time = (time_s * f64::from(TIME_UNITS)).round() as i64;
        let time = self.last.map_or(time, |last| time.max(last + 1));
        self.last = Some(time);
        planes.set_pts(Some(time));
        planes.set_kind(picture::Type::None);
        Ok(self.encoder.send_frame(&planes)?)
    }
}

impl SoundEncoder {
    fn new() -> Result<Self, WriteError> {
        let codec = encoder::find_by_name(AAC).ok_or(WriteError::NoEncoder(AAC))?;
        let mut setup = codec::context::Context::new_with_codec(codec).encoder().audio()?;
        setup.set_rate(sound_time_base().denominator());
        setup.set_channel_layout(ChannelLayout::STEREO);
        setup.set_format(SampleFormat::F32(Type::Planar));
        setup.set_bit_rate(SOUND_BIT_RATE);
        setup.set_time_base(sound_time_base());
        setup.set_flags(codec::Flags::GLOBAL_HEADER);
        let encoder = setup.open_as(codec)?;
        Ok(Self { encoder, waiting: Vec::new(), encoded: 0 })
    }

    /// The number of values in a frame of the encoder.
    fn frame_values(&self) -> usize {
        (self.encoder.frame_size() as usize).max(1) * SoundFormat::Playback.channels()
    }

    /// Encodes the samples of one frame. Only the last frame may be shorter.
    fn send(&mut self, samples: &[f32]) -> Result<(), WriteError> {
        let channels = SoundFormat::Playback.channels();
        let count = samples.len() / channels;
        let mut frame = frame::Audio::new(SampleFormat::F32(Type::Planar), count, ChannelLayout::STEREO);
        frame.set_rate(SoundFormat::Playback.rate());
        for channel in 0..channels {
            let of_channel = samples.iter().skip(channel).step_by(channels);
            frame.plane_mut::<f32>(channel).iter_mut().zip(of_channel).for_each(|(to, from)| *to = *from);
        }
        frame.set_pts(Some(self.encoded));
        self.encoded += i64::try_from(count).unwrap_or(0);
        Ok(self.encoder.send_frame(&frame)?)
    }
}

const fn time_base() -> Rational {
    Rational(1, TIME_UNITS)
}

const fn sound_time_base() -> Rational {
    Rational(1, SoundFormat::Playback.rate() as i32)
}

fn add_stream(
    output: &mut Output,
    encoder: &impl AsRef<codec::context::Context>,
    time_base: Rational,
) -> Result<(), WriteError> {
    let mut stream = output.add_stream_with(encoder.as_ref()).map_err(WriteError::of_muxer)?;
    stream.set_time_base(time_base);
    Ok(())
}

/// Writes all packets that an encoder has ready.
fn write_all(
    encoder: &mut encoder::Encoder,
    output: &mut Output,
    stream: usize,
    time_base: Rational,
    duration: Option<i64>,
) -> Result<(), WriteError> {
    let of_stream = output.stream(stream).map_or(time_base, |stream| stream.time_base());
    let mut packet = Packet::empty();
    loop {
        match encoder.receive_packet(&mut packet) {
            Ok(()) => {}
            Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        packet.set_stream(stream);
        if let Some(duration) = duration {
            packet.set_duration(duration);
        }
        packet.rescale_ts(time_base, of_stream);
        packet.write_interleaved(output).map_err(WriteError::of_muxer)?;
    }
}
