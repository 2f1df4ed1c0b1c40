//! A video that was opened and found to be one.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Packet, ffi};

use super::container::{self, DEADLINE};
use super::probe::{describe, sniff};
use super::{Probe, ProbeError, Source};
use crate::config::Video;

/// Packets of the picture track that are tried for the first picture.
const PACKETS_TRIED: usize = 1000;

/// An open video of which no picture was decoded yet.
pub struct Opened {
    source: Source,
    limits: Video,
    probe: Probe,
    packets: Packets,
}

/// The packets of the pictures of an open video.
pub(super) struct Packets {
    input: Input,
    stream: usize,
    /// When the source was last asked for something: one that trickles must not hold the analysis for ever.
    asked_at: Arc<Mutex<Instant>>,
    given_up: Arc<AtomicBool>,
}

/// What is in a video file: opens it, decodes one picture and closes it again. Blocks.
///
/// # Errors
/// Those of [`Opened::open`], and [`ProbeError::NotAVideo`] where no picture comes out.
pub fn probe(source: &Source, limits: &Video) -> Result<Probe, ProbeError> {
    let mut opened = Opened::open(source, limits)?;
    opened.packets.decode_one(limits)?;
    Ok(opened.probe)
}

impl Opened {
    /// Opens the container and checks it against the limits. Blocks.
    ///
    /// # Errors
    /// [`ProbeError::Unreadable`] where the source is at fault, the others where the video is.
    pub fn open(source: &Source, limits: &Video) -> Result<Self, ProbeError> {
        if let Source::File(path) = source {
            let mut head = Vec::with_capacity(64);
            let unreadable = |error: std::io::Error| ProbeError::Unreadable(error.kind().to_string());
            File::open(path).map_err(unreadable)?.take(64).read_to_end(&mut head).map_err(unreadable)?;
            if !sniff(&head) {
                return Err(ProbeError::NotAVideo);
            }
        }
        let (asked_at, given_up) = (Arc::new(Mutex::new(Instant::now())), Arc::<AtomicBool>::default());
        let (since, stop) = (asked_at.clone(), given_up.clone());
        let stop = move || stop.load(Ordering::Relaxed) || lock(&since).elapsed() > DEADLINE;
        let mut input = container::open(source, limits, stop)?;
        let (stream, probe) = describe(&input, limits)?;
        discard_others(&mut input, stream);
        let packets = Packets { input, stream, asked_at, given_up };
        Ok(Self { source: source.clone(), limits: limits.clone(), probe, packets })
    }

    pub const fn probe(&self) -> &Probe {
        &self.probe
    }

    pub(super) fn into_parts(self) -> (Source, Video, Probe, Packets) {
        (self.source, self.limits, self.probe, self.packets)
    }
}

/// The demuxer may leave out the packets of all other streams.
fn discard_others(input: &mut Input, stream: usize) {
    // SAFETY: the container is open and has so many streams.
    unsafe {
        let context = input.as_mut_ptr();
        for other in (0..(*context).nb_streams as usize).filter(|other| *other != stream) {
            (**(*context).streams.add(other)).discard = ffi::AVDiscard::AVDISCARD_ALL;
        }
    }
}

impl Packets {
    /// Decodes the first picture, and no more. As long as that takes, the source has one deadline.
    fn decode_one(&mut self, limits: &Video) -> Result<(), ProbeError> {
        let parameters = self.stream()?.parameters();
        let mut context = ffmpeg::codec::Context::from_parameters(parameters).map_err(|_| ProbeError::NotAVideo)?;
        // SAFETY: the context is ours and not open yet. FFmpeg refuses larger pictures before it makes room for them.
        unsafe {
            (*context.as_mut_ptr()).max_pixels = container::decoder_limit(limits);
        }
        let mut decoder = context.decoder().video().map_err(|_| ProbeError::NotAVideo)?;
        let mut frame = ffmpeg::frame::Video::empty();
        for _ in 0..PACKETS_TRIED {
            let Some(packet) = self.read()? else { break };
            // A damaged packet is skipped, as players do.
            let _ = decoder.send_packet(&packet);
            if decoder.receive_frame(&mut frame).is_ok() {
                return Ok(());
            }
        }
        // Codecs that reorder pictures give a short clip's frames only when told that no more will come.
        let _ = decoder.send_eof();
        decoder.receive_frame(&mut frame).map_err(|_| ProbeError::NotAVideo)
    }

    /// The next packet of the pictures; `None` at the end, or where damage lets the demuxer go no further.
    pub fn next(&mut self) -> Result<Option<Packet>, ProbeError> {
        *lock(&self.asked_at) = Instant::now();
        self.read()
    }

    fn read(&mut self) -> Result<Option<Packet>, ProbeError> {
        loop {
            // A fresh one each time: reading into one that holds data would leak it.
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) if packet.stream() != self.stream => {}
                Ok(()) => return Ok(Some(packet)),
                Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => {}
                Err(error) if container::is_source_failure(error) => return Err(container::refusal(error)),
                Err(_) => return Ok(None),
            }
        }
    }

    /// The stream of the pictures.
    pub fn stream(&self) -> Result<ffmpeg::Stream<'_>, ProbeError> {
        self.input.stream(self.stream).ok_or(ProbeError::NotAVideo)
    }

    /// FFmpeg's name of the container.
    pub fn container(&self) -> String {
        self.input.format().name().to_owned()
    }

    /// Set once nobody wants any more: stops what waits for the source.
    pub const fn given_up(&self) -> &Arc<AtomicBool> {
        &self.given_up
    }
}

fn lock(instant: &Mutex<Instant>) -> MutexGuard<'_, Instant> {
    instant.lock().unwrap_or_else(PoisonError::into_inner)
}
