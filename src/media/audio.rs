//! The sound of a video: its best sound track as mono samples, a block at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::decoder;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::sample::{Sample as Format, Type};
use ffmpeg_next::software::resampling;
use ffmpeg_next::{ChannelLayout, Dictionary, ffi, frame};

use super::clock::Joiner;
use super::container::{self, DEADLINE};
use super::mix::Mixer;
use super::opened::discard_others;
use super::{ProbeError, Source, streams};
use crate::config::Video;
use crate::fault::Fault;

/// Samples a second of what [`Sound`] gives.
pub const SOUND_RATE: u32 = 16_000;
/// Most samples in one block.
const BLOCK: usize = 16_384;
/// Jumps in the time stamps from here on are filled with silence, in seconds; below, they are rounding.
const GAP_S: f64 = 0.04;
/// Sound that begins further before the start of the video is no lead-in, and its time stamps are wrong; in seconds.
const MOST_EARLY_S: f64 = 10.0;
/// A track whose samples all stay below this is silent: -80 dB, which lossy codecs make of nothing at most.
const SILENT: f32 = 1e-4;
/// No codec makes packets of sound this large: one is damage, or bait.
const MAX_PACKET_BYTES: usize = 16 << 20;

/// Why there is no (more) sound.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Source(#[from] ProbeError),
    #[error("the sound track ({codec}) cannot be decoded: {reason}")]
    Undecodable { codec: String, reason: String },
    #[error("the sound track is encrypted")]
    Encrypted,
}

impl SoundError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Cancelled => Fault::Client,
            Self::Source(error) => error.fault(),
            Self::Encrypted | Self::Undecodable { .. } => Fault::Video,
        }
    }
}

/// The samples of a sound track: mono, 16 kHz, -1 to 1. Where the track pauses (its time stamps jump, or it begins after
/// the pictures) there is silence, so that a sample's place tells its time. It ends at the limit on a video's length,
/// whatever the file holds. One block is held at a time.
pub struct Sound {
    input: Input,
    stream: usize,
    codec: String,
    /// Of the stream's time stamps, in seconds.
    time_base: f64,
    /// Where the video begins on the clock of the time stamps.
    start_s: f64,
    /// Where time stamps can begin anew.
    joiner: Option<Joiner>,
    decoder: decoder::Audio,
    resampler: Option<Resampler>,
    packet_at: Arc<Mutex<Instant>>,
    /// Samples to give, and how many of them have been given.
    ready: Vec<f32>,
    given: usize,
    /// Silent samples to give before those.
    silence: u64,
    /// Samples to leave out, which come before the start of the video.
    early: u64,
    /// Samples made, silence included, and the most there may be.
    made: u64,
    most: u64,
    packets: u64,
    is_locked: bool,
    is_decoded: bool,
    at_end: bool,
    /// The largest sample so far.
    peak: f32,
    /// Tracks that may be heard instead.
    others: Vec<usize>,
}

impl Sound {
    /// Opens the sound track that a player would choose; `None` where the video has none. Blocks; `stop` is asked during
    /// every wait for the source, for as long as the track is open.
    pub fn open(
        source: &Source,
        limits: &Video,
        stop: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Option<Self>, SoundError> {
        Self::open_track(source, limits, None, stop)
    }

    /// Opens the given track, which is one of [`Sound::others`]; without one, the track of [`Sound::open`].
    pub fn open_track(
        source: &Source,
        limits: &Video,
        track: Option<usize>,
        stop: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Option<Self>, SoundError> {
        // A server that trickles must not hold the analysis for ever: each packet has to come within the deadline.
        let packet_at = Arc::new(Mutex::new(Instant::now()));
        let since = packet_at.clone();
        let mut input = container::open(source, limits, move || stop() || lock(&since).elapsed() > DEADLINE)?;
        let chosen = track.map_or_else(|| streams::sound(&input), |track| input.stream(track));
        let Some(stream) = chosen else { return Ok(None) };
        let others = if track.is_none() { streams::other_sounds(&input, &stream) } else { Vec::new() };
        if streams::is_encrypted(&stream) {
            return Err(SoundError::Encrypted);
        }
        let (index, parameters, time_base) = (stream.index(), stream.parameters(), stream.time_base());
        let codec = streams::codec_name(&stream);
        let undecodable =
            |error: ffmpeg::Error| SoundError::Undecodable { codec: codec.clone(), reason: error.to_string() };
        let mut decoder = ffmpeg::codec::Context::from_parameters(parameters)
            .and_then(|context| context.decoder().audio())
            .map_err(undecodable)?;
        decoder.set_packet_time_base(time_base);
        let (start_s, duration_s) = (streams::zero_s(&input), streams::duration_s(&input));
        let joiner = Joiner::new(&input, duration_s);
        let kept = joiner.is_some();
        discard_others(&mut input, |other| other.index() == index || kept && streams::is_timed(other));
        Ok(Some(Self {
            input,
            stream: index,
            codec,
            time_base: f64::from(time_base),
            start_s,
            joiner,
            decoder,
            resampler: None,
            packet_at,
            ready: Vec::new(),
            given: 0,
            silence: 0,
            early: 0,
            made: 0,
            most: limits.max_duration_s.saturating_mul(SOUND_RATE.into()),
            packets: 0,
            is_locked: false,
            is_decoded: false,
            at_end: false,
            peak: 0.0,
            others,
        }))
    }

    /// Whether all that was given so far is digital silence.
    pub fn is_silent(&self) -> bool {
        self.peak < SILENT
    }

    /// Tracks to listen to if this one is silent from beginning to end, the best first. Commentaries and tracks for the
    /// hearing or visually impaired are none.
    pub fn others(&self) -> &[usize] {
        &self.others
    }

    /// The next samples, at most about a second of them; `None` at the end. Damaged packets are skipped, as players do.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Vec<f32>>, SoundError> {
        loop {
            if stop() {
                return Err(SoundError::Cancelled);
            }
            if let Some(block) = self.block() {
                return Ok(Some(block));
            }
            if self.at_end || self.made >= self.most {
                return Ok(None);
            }
            self.decode(stop)?;
        }
    }

    /// What is there to give.
    fn block(&mut self) -> Option<Vec<f32>> {
        if self.silence > 0 {
            let count = self.silence.min(BLOCK as u64);
            self.silence -= count;
            return Some(vec![0.0; usize::try_from(count).unwrap_or(BLOCK)]);
        }
        let left = self.ready.get(self.given..).filter(|left| !left.is_empty())?;
        let block = left[..left.len().min(BLOCK)].to_vec();
        self.given += block.len();
        Some(block)
    }

    /// Takes one more packet, or the end, through decoder and resampler.
    fn decode(&mut self, stop: &dyn Fn() -> bool) -> Result<(), SoundError> {
        (self.ready, self.given) = (Vec::new(), 0);
        *lock(&self.packet_at) = Instant::now();
        // A fresh one each time: reading into one that holds data would leak it.
        let mut packet = ffmpeg::Packet::empty();
        let read = packet.read(&mut self.input);
        if let (Ok(()), Some(joiner)) = (&read, &mut self.joiner) {
            joiner.pass(&mut packet);
        }
        match read {
            Ok(()) if packet.stream() != self.stream || packet.size() > MAX_PACKET_BYTES => return Ok(()),
            Ok(()) if streams::is_locked(&packet) => {
                self.is_locked = true;
                return Ok(());
            }
            Ok(()) => {
                self.packets += 1;
                let _ = self.decoder.send_packet(&packet);
            }
            Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => return Ok(()),
            Err(_) if stop() => return Err(SoundError::Cancelled),
            Err(error) if container::is_source_failure(error) => return Err(container::refusal(error).into()),
            // The end, or damage that the demuxer cannot get past, unless the source broke off.
            Err(_) => {
                container::check_source(&self.input)?;
                self.at_end = true;
                let _ = self.decoder.send_eof();
            }
        }
        let mut frame = frame::Audio::empty();
        while self.decoder.receive_frame(&mut frame).is_ok() {
            self.take(&frame).map_err(|error| self.undecodable(&error.to_string()))?;
        }
        if self.at_end {
            if self.is_locked && !self.is_decoded {
                return Err(SoundError::Encrypted);
            }
            if self.packets > 0 && !self.is_decoded {
                return Err(self.undecodable("no packet of it could be read"));
            }
            if let Some(resampler) = &mut self.resampler {
                let before = self.ready.len();
                resampler.flush(&mut self.ready).map_err(|error| self.undecodable(&error.to_string()))?;
                self.count(before);
            }
        }
        Ok(())
    }

    /// One decoded frame.
    fn take(&mut self, frame: &frame::Audio) -> Result<(), ffmpeg::Error> {
        if frame.samples() == 0 || frame.rate() == 0 || frame.channels() == 0 {
            return Ok(());
        }
        let is_first = !std::mem::replace(&mut self.is_decoded, true);
        #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
        let now_s = self.made as f64 / f64::from(SOUND_RATE);
        let stamp_s = seconds(frame.timestamp().unwrap_or(ffi::AV_NOPTS_VALUE), self.time_base);
        let gap_s = stamp_s.map_or(0.0, |stamp_s| stamp_s - self.start_s - now_s);
        // Between blocks only: what is ready comes before the gap.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and less than a minute's"
        )]
        if is_first && (-MOST_EARLY_S..0.0).contains(&gap_s) {
            self.early = (-gap_s * f64::from(SOUND_RATE)).round() as u64;
        }
        if (gap_s > GAP_S || is_first && gap_s > 0.0) && self.ready.is_empty() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and held to `most`")]
            let gap = (gap_s * f64::from(SOUND_RATE)) as u64;
            self.silence = gap.min(self.most.saturating_sub(self.made));
            self.made += self.silence;
        }
        let fits = self.resampler.as_ref().is_some_and(|resampler| resampler.takes(frame));
        let before = self.ready.len();
        if !fits {
            if let Some(old) = &mut self.resampler {
                old.flush(&mut self.ready)?;
            }
            self.resampler = Some(Resampler::new(frame)?);
        }
        if let Some(resampler) = &mut self.resampler {
            resampler.convert(frame, &mut self.ready)?;
        }
        self.count(before);
        Ok(())
    }

    /// Counts what was made since, and cuts it at the limit. What a damaged float track holds beside numbers is silence.
    fn count(&mut self, before: usize) {
        let early = usize::try_from(self.early).unwrap_or(usize::MAX).min(self.ready.len() - before);
        self.ready.drain(before..before + early);
        self.early -= early as u64;
        let room = usize::try_from(self.most.saturating_sub(self.made)).unwrap_or(usize::MAX);
        self.ready.truncate(before.saturating_add(room));
        for sample in &mut self.ready[before..] {
            *sample = if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
            self.peak = self.peak.max(sample.abs());
        }
        self.made += (self.ready.len() - before) as u64;
    }

    fn undecodable(&self, reason: &str) -> SoundError {
        SoundError::Undecodable { codec: self.codec.clone(), reason: reason.to_owned() }
    }
}

/// FFmpeg's resampler, for frames of one kind.
struct Resampler {
    context: resampling::Context,
    from: (Format, ChannelLayout, u32),
    mixer: Mixer,
    /// Interleaved samples of all channels; kept for its memory.
    channels: Vec<f32>,
}

impl Resampler {
    fn new(frame: &frame::Audio) -> Result<Self, ffmpeg::Error> {
        let from = Self::kind(frame);
        let to = Format::F32(Type::Packed);
        let context = resampling::Context::get_with(from.0, from.1, from.2, to, from.1, SOUND_RATE, Dictionary::new())?;
        Ok(Self { context, from, mixer: Mixer::new(frame.channels().into()), channels: Vec::new() })
    }

    fn kind(frame: &frame::Audio) -> (Format, ChannelLayout, u32) {
        let told = frame.channel_layout();
        let is_whole = !told.is_empty() && told.channels() == i32::from(frame.channels());
        let layout = if is_whole { told } else { ChannelLayout::default(frame.channels().into()) };
        (frame.format(), layout, frame.rate())
    }

    fn takes(&self, frame: &frame::Audio) -> bool {
        Self::kind(frame) == self.from
    }

    fn convert(&mut self, frame: &frame::Audio, to: &mut Vec<f32>) -> Result<(), ffmpeg::Error> {
        let samples = i32::try_from(frame.samples()).map_err(|_| ffmpeg::Error::InvalidData)?;
        // SAFETY: the frame is of the kind that the resampler was made for, and holds so many samples in each of its
        // planes, which `extended_data` lists.
        unsafe { self.call((*frame.as_ptr()).extended_data, samples, to) }
    }

    /// What is left in the filter.
    fn flush(&mut self, to: &mut Vec<f32>) -> Result<(), ffmpeg::Error> {
        // SAFETY: no input.
        unsafe { self.call(std::ptr::null_mut(), 0, to) }
    }

    /// # Safety
    /// `planes` is null, or lists planes of the input's kind with `samples` samples each.
    unsafe fn call(&mut self, planes: *mut *mut u8, samples: i32, to: &mut Vec<f32>) -> Result<(), ffmpeg::Error> {
        let count = self.mixer.channels();
        // SAFETY: the context is initialised; it writes at most `room` floats a channel, for which there is room.
        let made = unsafe {
            let context = self.context.as_mut_ptr();
            let room = ffi::swr_get_out_samples(context, samples).max(0);
            self.channels.resize(room as usize * count, 0.0);
            let mut out = self.channels.as_mut_ptr().cast::<u8>();
            ffi::swr_convert(context, &raw mut out, room, planes.cast(), samples)
        };
        let made = usize::try_from(made).map_err(|_| ffmpeg::Error::from(made))?;
        self.mixer.mix(&mut self.channels[..made * count], to);
        Ok(())
    }
}

/// A time stamp in seconds; `None` where there is none.
fn seconds(ticks: i64, base: f64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    let seconds = ticks as f64 * base;
    (ticks != ffi::AV_NOPTS_VALUE && seconds.is_finite()).then_some(seconds)
}

fn lock(instant: &Mutex<Instant>) -> MutexGuard<'_, Instant> {
    instant.lock().unwrap_or_else(PoisonError::into_inner)
}
