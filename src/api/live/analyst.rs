//! The threads of a live session. One reads pictures. If several wait, it takes the newest, and the others are skipped.
//! The other one takes sound.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use axum::body::Bytes;
use axum::http::StatusCode;
use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::api::Problem;
use crate::api::problem::detail;
use crate::pipeline::{LiveAnalysis, LivePicture, LiveSound, LiveSoundTrack, PictureError, SoundOverlap};

/// Blocks of sound that may wait.
const WAITING_BLOCKS: usize = 8;

/// A picture of the client.
#[derive(Debug)]
pub struct Picture {
    /// From 1.
    pub number: u64,
    /// Seconds since the beginning of the session.
    pub time_s: f64,
    pub file: Bytes,
    pub arrived: Instant,
}

/// What a thread has to say.
pub enum Report {
    Read { picture: Picture, result: Result<LivePicture, PictureError> },
    Overlap(SoundOverlap),
}

/// The thread that reads pictures. Dropping it ends the thread.
pub struct PictureReader {
    waiting: Arc<Waiting>,
    /// The analysis, when the thread has ended; `Err` if it panicked.
    ended: oneshot::Receiver<Result<LiveAnalysis, ()>>,
}

#[derive(Default)]
struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    newest: Option<Picture>,
    is_closed: bool,
}

impl Waiting {
    /// Waits for the next picture. Returns `None` if there is none and there will be none.
    fn next(&self) -> Option<Picture> {
        let mut state = self.state.lock();
        loop {
            if let Some(picture) = state.newest.take() {
                return Some(picture);
            }
            if state.is_closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }
}

impl PictureReader {
    /// Starts the thread, which reports each picture that it has read.
    pub fn start(mut analysis: LiveAnalysis, reports: UnboundedSender<Report>) -> std::io::Result<Self> {
        let waiting = Arc::<Waiting>::default();
        let (end, ended) = oneshot::channel();
        let (pictures, span) = (waiting.clone(), tracing::Span::current());
        let run = move || {
            let _in_session = span.entered();
            let run = AssertUnwindSafe(|| {
                while let Some(picture) = pictures.next() {
                    let result = analysis.push(&picture.file, picture.time_s);
                    // Fails if the session has ended: then nothing needs the answer.
                    let _ = reports.send(Report::Read { picture, result });
                }
                analysis
            });
            let _ = end.send(catch_unwind(run).map_err(|_| ()));
        };
        std::thread::Builder::new().name("live".to_owned()).spawn(run)?;
        Ok(Self { waiting, ended })
    }

    /// Hands over a picture. Returns the one that waited until now, which will not be read.
    pub fn offer(&self, picture: Picture) -> Option<Picture> {
        let skipped = self.waiting.state.lock().newest.replace(picture);
        self.waiting.changed.notify_all();
        skipped
    }

    /// Completes when the thread has ended, which it does by itself only if it panics.
    pub async fn has_ended(&mut self) -> Option<LiveAnalysis> {
        (&mut self.ended).await.ok().and_then(Result::ok)
    }

    /// Lets the thread read the waiting picture and end.
    pub fn close(&self) {
        self.waiting.close();
    }
}

impl Drop for PictureReader {
    fn drop(&mut self) {
        self.waiting.state.lock().newest = None;
        self.waiting.close();
    }
}

/// The thread that takes sound. Dropping it ends the thread.
pub struct SoundReader {
    blocks: SyncSender<(f64, Vec<f32>)>,
    ended: oneshot::Receiver<LiveSound>,
}

impl SoundReader {
    pub fn start(mut track: LiveSoundTrack, reports: UnboundedSender<Report>) -> std::io::Result<Self> {
        let (blocks, arriving) = sync_channel::<(f64, Vec<f32>)>(WAITING_BLOCKS);
        let (end, ended) = oneshot::channel();
        let span = tracing::Span::current();
        let run = move || {
            let _in_session = span.entered();
            for (at_s, samples) in arriving {
                if let Err(overlap) = track.push(at_s, &samples) {
                    let _ = reports.send(Report::Overlap(overlap));
                }
            }
            let _ = end.send(track.finish());
        };
        std::thread::Builder::new().name("live sound".to_owned()).spawn(run)?;
        Ok(Self { blocks, ended })
    }

    /// Hands over a block of sound that begins at this time of the session.
    pub fn offer(&self, at_s: f64, samples: Vec<f32>) -> Result<(), Problem> {
        self.blocks.try_send((at_s, samples)).map_err(|error| match error {
            TrySendError::Full(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail::live_sound_busy()),
            TrySendError::Disconnected(_) => Problem::internal(),
        })
    }

    /// Ends the sound. `None` if the thread panicked.
    pub async fn finish(self) -> Option<LiveSound> {
        drop(self.blocks);
        self.ended.await.ok()
    }
}
