//! Decodes the sound of a video, a block at a time.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::decoder;
use ffmpeg_next::format::sample::{Sample as Format, Type};
use ffmpeg_next::software::resampling;
use ffmpeg_next::{ChannelLayout, Dictionary, ffi as sys, frame};
use serde::{Deserialize, Serialize};

use super::budget::SoundBudget;
use super::clock::stamp_s;
use super::container::{self, ReadDeadline};
use super::discontinuity::DiscontinuityCorrector;
use super::ffi::{self, OpenInput};
use super::mix::Mixer;
use super::opened::discard_others;
use super::{ProbeError, Source, codecs, streams};
use crate::config::Video;
use crate::fault::Fault;

/// The sample rate of [`SoundFormat::Speech`], in hertz.
pub const SOUND_RATE: u32 = 16_000;
/// The maximum number of samples of all channels in a block. It is a multiple of the channels of each format.
const BLOCK: usize = 16_384;
/// A gap in the time stamps is filled with silence if it is longer than this, in seconds. A shorter one is a rounding
/// error.
const GAP_S: f64 = 0.04;
/// The maximum duration of sound before the start of the video, in seconds. If there is more, the time stamps are
/// wrong.
const MAX_EARLY_S: f64 = 10.0;
/// A stream is silent if all its samples are below this amplitude. It is -80 dB, the noise that a lossy codec may add.
const SILENCE_THRESHOLD: f32 = 1e-4;
/// The maximum size of a sound packet. A larger one is damaged or malicious.
const MAX_PACKET_BYTES: usize = 16 << 20;

/// The form of decoded samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SoundFormat {
    /// One channel at [`SOUND_RATE`], mixed so that no voice is lost. For models.
    Speech,
    /// Two channels at 48 kHz, interleaved and mixed as in players. For listeners.
    Playback,
}

impl SoundFormat {
    /// Samples a second of each channel.
    pub const fn rate(self) -> u32 {
        match self {
            Self::Speech => SOUND_RATE,
            Self::Playback => 48_000,
        }
    }

    pub const fn channels(self) -> usize {
        match self {
            Self::Speech => 1,
            Self::Playback => 2,
        }
    }
}

/// Why the sound cannot be read.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub enum SoundError {
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Source(#[from] ProbeError),
    #[error("the sound track ({codec}) cannot be decoded: {reason}")]
    Undecodable { codec: String, reason: String },
    #[error("the codec of the sound track ({codec}) is not allowed")]
    CodecNotAllowed { codec: String },
    #[error("the sound track is encrypted")]
    Encrypted,
}

impl SoundError {
    /// Whether the client, the video or the storage caused the error.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Cancelled => Fault::Client,
            Self::Source(error) => error.fault(),
            Self::Encrypted | Self::Undecodable { .. } | Self::CodecNotAllowed { .. } => Fault::Video,
        }
    }
}

/// Reads the samples of a sound stream, from -1 to 1. Gaps in the time stamps, and the time before the first sample, are
/// filled with silence, so the index of a sample gives its time. The samples end at the limit on the duration of a
/// video. One block is in memory at a time.
///
/// Numbers of samples are those of one channel.
pub struct Sound {
    input: OpenInput,
    format: SoundFormat,
    stream: usize,
    codec: String,
    /// In seconds.
    time_base: f64,
    /// The time stamp at which the video starts, in seconds.
    start_s: f64,
    /// `None` if the container cannot have discontinuities.
    corrector: Option<DiscontinuityCorrector>,
    decoder: decoder::Audio,
    resampler: Option<Resampler>,
    /// A read that takes longer is interrupted.
    deadline: ReadDeadline,
    budget: SoundBudget,
    /// Samples of the last packet, of all channels.
    buffer: Vec<f32>,
    /// The number of values in `buffer` that were returned.
    returned: usize,
    /// The number of silent samples to return before `buffer`.
    silence: u64,
    /// The number of samples to drop, which are before the start of the video.
    early: u64,
    /// The number of samples so far, with silence.
    total: u64,
    max_total: u64,
    packets: u64,
    has_encrypted_packets: bool,
    /// At least one frame was decoded.
    is_decoded: bool,
    at_end: bool,
    /// The largest amplitude so far.
    peak: f32,
}

impl Sound {
    /// Opens the sound stream that a player would choose, as [`SoundFormat::Speech`]. Returns `None` if the video has no
    /// sound. Blocks. `stop` is called during every wait for the source, as long as the stream is open.
    pub fn open(
        source: &Source,
        limits: &Video,
        stop: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Option<Self>, SoundError> {
        Self::open_choice(source, limits, 0, SoundFormat::Speech, stop)
    }

    /// Opens the n-th choice of the sound streams. Choice 0 is the stream of [`Sound::open`]; the others are those that
    /// may replace it, the best first. Commentaries and streams for the hearing or visually impaired are excluded.
    /// Returns `None` if there are fewer streams.
    pub fn open_choice(
        source: &Source,
        limits: &Video,
        choice: usize,
        format: SoundFormat,
        stop: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Option<Self>, SoundError> {
        // A slow server must not block the analysis: each packet has to arrive within the deadline.
        let deadline = ReadDeadline::start();
        let reading = deadline.clone();
        let mut input = container::open(source, limits, move || stop() || reading.is_over())?;
        let Some(stream) = streams::sound_choice(&input, choice, limits) else { return Ok(None) };
        if streams::is_encrypted_stream(&stream) {
            return Err(SoundError::Encrypted);
        }
        let (index, parameters, time_base) = (stream.index(), stream.parameters(), stream.time_base());
        let codec = streams::codec_name(&stream);
        let undecodable =
            |error: ffmpeg::Error| SoundError::Undecodable { codec: codec.clone(), reason: error.to_string() };
        if matches!(streams::check(&stream, limits), Err(ProbeError::CodecNotAllowed { .. })) {
            return Err(SoundError::CodecNotAllowed { codec });
        }
        let mut context = ffmpeg::codec::Context::from_parameters(parameters).map_err(undecodable)?;
        codecs::restrict(&mut context, limits).map_err(undecodable)?;
        let mut decoder = context.decoder().audio().map_err(undecodable)?;
        decoder.set_packet_time_base(time_base);
        let (start_s, duration_s) = (streams::start_s(&input), streams::duration_s(&input));
        let corrector = DiscontinuityCorrector::new(&input, duration_s);
        let reads_all = corrector.is_some();
        discard_others(&mut input, |other| other.index() == index || reads_all && streams::is_timed(other));
        Ok(Some(Self {
            input,
            format,
            stream: index,
            codec,
            time_base: f64::from(time_base),
            start_s,
            corrector,
            decoder,
            resampler: None,
            deadline,
            budget: SoundBudget::new(limits),
            buffer: Vec::new(),
            returned: 0,
            silence: 0,
            early: 0,
            total: 0,
            max_total: limits.max_duration_s.saturating_mul(format.rate().into()),
            packets: 0,
            has_encrypted_packets: false,
            is_decoded: false,
            at_end: false,
            peak: 0.0,
        }))
    }

    /// Whether all samples so far are silent.
    pub fn is_silent(&self) -> bool {
        self.peak < SILENCE_THRESHOLD
    }

    /// The index of the stream in the file.
    pub const fn stream(&self) -> usize {
        self.stream
    }

    /// Returns the next samples, about one second at most, or `None` at the end. Channels are interleaved. Damaged packets are skipped, as in
    /// players.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Vec<f32>>, SoundError> {
        loop {
            if stop() {
                return Err(SoundError::Cancelled);
            }
            if let Some(block) = self.block() {
                return Ok(Some(block));
            }
            if self.at_end || self.total >= self.max_total {
                return Ok(None);
            }
            let budget = self.budget.clone();
            budget.charge(|| self.decode(stop))??;
        }
    }

    /// Returns the next block, if there are samples.
    fn block(&mut self) -> Option<Vec<f32>> {
        if self.silence > 0 {
            let channels = self.format.channels();
            let count = self.silence.min((BLOCK / channels) as u64);
            self.silence -= count;
            return Some(vec![0.0; usize::try_from(count).unwrap_or(BLOCK / channels) * channels]);
        }
        let left = self.buffer.get(self.returned..).filter(|left| !left.is_empty())?;
        let block = left[..left.len().min(BLOCK)].to_vec();
        self.returned += block.len();
        Some(block)
    }

    /// Decodes and resamples one packet, or flushes the decoder at the end of the file.
    fn decode(&mut self, stop: &dyn Fn() -> bool) -> Result<(), SoundError> {
        (self.buffer, self.returned) = (Vec::new(), 0);
        self.deadline.restart();
        // A new packet each time: reading into one that holds data would leak that data.
        let mut packet = ffmpeg::Packet::empty();
        let read = packet.read(&mut self.input);
        if let (Ok(()), Some(corrector)) = (&read, &mut self.corrector) {
            corrector.correct(&mut packet);
        }
        match read {
            Ok(()) if packet.stream() != self.stream || packet.size() > MAX_PACKET_BYTES => return Ok(()),
            Ok(()) if ffi::is_encrypted(&packet) => {
                self.has_encrypted_packets = true;
                return Ok(());
            }
            Ok(()) => {
                self.packets += 1;
                let _ = self.decoder.send_packet(&packet);
            }
            Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => return Ok(()),
            Err(_) if stop() => return Err(SoundError::Cancelled),
            // The end of the file, or damage at which the demuxer stops.
            Err(error) => {
                container::check_source(&self.input, error)?;
                self.at_end = true;
                let _ = self.decoder.send_eof();
            }
        }
        let mut frame = frame::Audio::empty();
        while self.decoder.receive_frame(&mut frame).is_ok() {
            self.resample(&frame).map_err(|error| self.undecodable(&error.to_string()))?;
        }
        if self.at_end {
            if self.has_encrypted_packets && !self.is_decoded {
                return Err(SoundError::Encrypted);
            }
            if self.packets > 0 && !self.is_decoded {
                return Err(self.undecodable("no packet of it could be read"));
            }
            if let Some(resampler) = &mut self.resampler {
                let before = self.buffer.len();
                resampler.flush(&mut self.buffer).map_err(|error| self.undecodable(&error.to_string()))?;
                self.count(before);
            }
        }
        Ok(())
    }

    /// Adds the samples of a decoded frame to the buffer, and silence before it.
    fn resample(&mut self, frame: &frame::Audio) -> Result<(), ffmpeg::Error> {
        if frame.samples() == 0 || frame.rate() == 0 || frame.channels() == 0 {
            return Ok(());
        }
        let is_first = !std::mem::replace(&mut self.is_decoded, true);
        #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
        let now_s = self.total as f64 / f64::from(self.format.rate());
        let gap_s = stamp_s(frame.timestamp(), self.time_base).map_or(0.0, |stamp_s| stamp_s - self.start_s - now_s);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and at most `MAX_EARLY_S`"
        )]
        if is_first && (-MAX_EARLY_S..0.0).contains(&gap_s) {
            self.early = (-gap_s * f64::from(self.format.rate())).round() as u64;
        }
        // Silence is returned before the buffer, so it is added only while the buffer is empty.
        if (gap_s > GAP_S || is_first && gap_s > 0.0) && self.buffer.is_empty() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive, and limited by `max_total`"
            )]
            let gap = (gap_s * f64::from(self.format.rate())) as u64;
            self.silence = gap.min(self.max_total.saturating_sub(self.total));
            self.total += self.silence;
        }
        let is_same_format = self.resampler.as_ref().is_some_and(|resampler| resampler.accepts(frame));
        let before = self.buffer.len();
        if !is_same_format {
            if let Some(old) = &mut self.resampler {
                old.flush(&mut self.buffer)?;
            }
            self.resampler = Some(Resampler::new(frame, self.format)?);
        }
        if let Some(resampler) = &mut self.resampler {
            resampler.convert(frame, &mut self.buffer)?;
        }
        self.count(before);
        Ok(())
    }

    /// Finishes the samples of the buffer from `before` on: drops those before the start of the video and after the
    /// limit, clamps the others, and counts them. NaN and infinity, which a damaged stream may contain, become 0.
    fn count(&mut self, before: usize) {
        let channels = self.format.channels();
        let early = usize::try_from(self.early).unwrap_or(usize::MAX).min((self.buffer.len() - before) / channels);
        self.buffer.drain(before..before + early * channels);
        self.early -= early as u64;
        let left = usize::try_from(self.max_total.saturating_sub(self.total)).unwrap_or(usize::MAX);
        self.buffer.truncate(before.saturating_add(left.saturating_mul(channels)));
        for sample in &mut self.buffer[before..] {
            *sample = if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
            self.peak = self.peak.max(sample.abs());
        }
        self.total += ((self.buffer.len() - before) / channels) as u64;
    }

    fn undecodable(&self, reason: &str) -> SoundError {
        SoundError::Undecodable { codec: self.codec.clone(), reason: reason.to_owned() }
    }
}

/// Resamples and mixes frames of one format.
struct Resampler {
    context: resampling::Context,
    /// The input format.
    input: (Format, ChannelLayout, u32),
    mix: Mix,
    /// Interleaved samples of all channels. The allocation is used again.
    interleaved: Vec<f32>,
}

/// What is done with resampled channels.
enum Mix {
    /// All channels of the frame are mixed to one.
    Voice(Mixer),
    /// A single channel is played on both sides.
    Double,
    /// The resampler mixed the channels to two.
    Stereo,
}

impl Mix {
    /// The channels that the resampler returns.
    fn channels(&self) -> usize {
        match self {
            Self::Voice(mixer) => mixer.channels(),
            Self::Double => 1,
            Self::Stereo => 2,
        }
    }
}

impl Resampler {
    fn new(frame: &frame::Audio, output: SoundFormat) -> Result<Self, ffmpeg::Error> {
        let input = Self::format(frame);
        let (format, layout, rate) = input;
        let mut options = Dictionary::new();
        let (mix, to) = match output {
            SoundFormat::Speech => (Mix::Voice(Mixer::new(frame.channels().into(), low_frequency(layout))), layout),
            SoundFormat::Playback if frame.channels() == 1 => (Mix::Double, layout),
            SoundFormat::Playback => {
                // Makes the mix quieter instead of clipping it.
                options.set("rematrix_maxval", "1.0");
                (Mix::Stereo, ChannelLayout::STEREO)
            }
        };
        let floats = Format::F32(Type::Packed);
        let context = resampling::Context::get_with(format, layout, rate, floats, to, output.rate(), options)?;
        Ok(Self { context, input, mix, interleaved: Vec::new() })
    }

    fn format(frame: &frame::Audio) -> (Format, ChannelLayout, u32) {
        let layout = frame.channel_layout();
        let is_valid = !layout.is_empty() && layout.channels() == i32::from(frame.channels());
        let layout = if is_valid { layout } else { ChannelLayout::default(frame.channels().into()) };
        (frame.format(), layout, frame.rate())
    }

    fn accepts(&self, frame: &frame::Audio) -> bool {
        Self::format(frame) == self.input
    }

    fn convert(&mut self, frame: &frame::Audio, to: &mut Vec<f32>) -> Result<(), ffmpeg::Error> {
        self.run(Some(frame), to)
    }

    /// Returns the samples that are left in the filter.
    fn flush(&mut self, to: &mut Vec<f32>) -> Result<(), ffmpeg::Error> {
        self.run(None, to)
    }

    fn run(&mut self, frame: Option<&frame::Audio>, to: &mut Vec<f32>) -> Result<(), ffmpeg::Error> {
        let channels = self.mix.channels();
        let samples = ffi::resample(&mut self.context, frame, channels, &mut self.interleaved)?;
        let resampled = &mut self.interleaved[..samples * channels];
        match &mut self.mix {
            Mix::Voice(mixer) => mixer.mix(resampled, to),
            Mix::Double => to.extend(resampled.iter().flat_map(|sample| [*sample; 2])),
            Mix::Stereo => to.extend_from_slice(resampled),
        }
        Ok(())
    }
}

/// The index of the low-frequency channel of a layout. Channels are in the order of their bits.
fn low_frequency(layout: ChannelLayout) -> Option<usize> {
    let (mask, bit) = (layout.bits(), 1_u64 << sys::AVChannel::AV_CHAN_LOW_FREQUENCY as u64);
    (mask & bit != 0).then(|| (mask & (bit - 1)).count_ones() as usize)
}
