//! The threads that read and decode a video.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::FramesError;
use super::budget::Budget;
use super::clock::StreamClock;
use super::cost;
use super::decode::{DecoderConfig, GopDecoder};
use super::hardware::{self, HwDevice};
use super::opened::Packets;
use super::pieces::Stretch;
use super::reader::{Reader, ReaderEvent};
use super::selection::Selection;
use crate::analysis::Sampling;
use crate::config::Video;

/// The size limit for the decoded frames of a GOP that are buffered, in bytes. At least one frame is buffered.
const MAX_BUFFERED_BYTES: u64 = 4 << 20;
/// The maximum number of decoded frames of a GOP that are buffered.
const MAX_BUFFERED_FRAMES: u64 = 16;

/// The increment of nice(2) for decoder threads. They yield to the threads that analyze frames: a finished analysis
/// frees a place in the buffer, and a late one delays the end of the video.
const NICE_INCREMENT: i32 = 10;

/// The reader thread and the decoder threads of a video. They are stopped and joined on drop.
pub(super) struct Threads {
    /// `None` after the last event.
    pub events: Option<Receiver<ReaderEvent>>,
    /// Whether frames are numbered before they are decoded.
    pub numbers_frames: bool,
    cancelled: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
    is_stopped: bool,
}

impl Threads {
    /// Starts the threads. Returns them, and the GPU that they decode on, if any. `cores` is the number of CPU cores
    /// that the video may use, and `frame_size` the size of a decoded frame in bytes. Only the stretch is decoded.
    pub fn start(
        packets: Packets,
        selection: (Selection, Sampling),
        stretch: Stretch,
        clock: StreamClock,
        limits: &Video,
        (cores, frame_size): (usize, u64),
    ) -> Result<(Self, Option<&'static HwDevice>), FramesError> {
        let cancelled = packets.cancelled().clone();
        let reader = Reader::new(packets, stretch)?;
        let numbers_frames = reader.parses_packets();
        let (parameters, time_base) = (reader.parameters(), reader.time_base());
        let device = hardware::device(limits.hwaccel)?.filter(|device| numbers_frames && device.supports(&parameters));

        let max_decoders = if device.is_some() { hardware::MAX_DECODERS } else { usize::MAX };
        let decoders = cost::decoders(&parameters, cores.clamp(1, max_decoders), limits);
        let (events_sender, events) = sync_channel(decoders);
        let mut threads =
            Self { events: Some(events), numbers_frames, cancelled, handles: Vec::new(), is_stopped: false };

        let frame_capacity = (MAX_BUFFERED_BYTES / frame_size.max(1)).clamp(1, MAX_BUFFERED_FRAMES);
        let frame_capacity = usize::try_from(frame_capacity).unwrap_or(1);
        let (limits, budget) = (limits.clone(), Budget::new(limits));
        let config = DecoderConfig { parameters, time_base, limits: limits.clone(), threads: decoders, device, budget };
        let (jobs_sender, jobs) = sync_channel(0);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..decoders {
            let (config, jobs) = (config.clone(), jobs.clone());
            threads.spawn("decoder", move || {
                // On Linux, nice(2) changes the calling thread only. If it fails, the thread keeps its priority.
                let _ = rustix::process::nice(NICE_INCREMENT);
                let mut decoder = GopDecoder::new(config);
                loop {
                    let job = jobs.lock().recv();
                    let Ok(job) = job else { return };
                    decoder.run(job);
                }
            })?;
        }
        threads.spawn("packets", move || {
            reader.run(selection, clock, &limits, frame_capacity, &jobs_sender, &events_sender);
        })?;
        Ok((threads, device))
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), FramesError> {
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(|error| FramesError::Decoder(format!("a thread did not start: {error}")))?;
        self.handles.push(handle);
        Ok(())
    }

    /// Stops the threads and waits for their end. Further calls do nothing.
    pub fn stop(&mut self) {
        if std::mem::replace(&mut self.is_stopped, true) {
            return;
        }
        self.cancelled.store(true, Ordering::Relaxed);
        // A thread that waits to send an event fails once the receiver is dropped.
        self.events = None;
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}
