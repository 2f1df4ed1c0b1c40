//! Keeps parts of running analyses in the database, so that another run can continue after a shutdown or the end of a
//! process.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Worker;
use super::heartbeat::SharedProgress;
use crate::config::Queue;
use crate::pipeline::{AnalysisPart, BegunPiece, Cancel};
use crate::store::{Claim, ClaimState};

/// What a run shares with the thread of its analysis. Cheap to clone.
#[derive(Clone)]
pub(super) struct Run {
    pub cancel: Cancel,
    pub progress: Arc<SharedProgress>,
    /// The time between two parts, and where they go; `None` if no parts are kept.
    keep: Option<(Duration, UnboundedSender<KeptPart>)>,
    has_parts: Arc<AtomicBool>,
}

/// A part in the form in which it is stored.
#[derive(Debug, PartialEq)]
pub(super) struct KeptPart {
    number: u32,
    pub content: String,
}

/// The parts of a run that have to be stored. A part stays here until it is stored, so that none is lost if the task
/// that stores it is dropped.
pub(super) struct KeptParts {
    receiver: UnboundedReceiver<KeptPart>,
    current: Option<KeptPart>,
}

impl KeptParts {
    /// Waits for the next part. `None`: there will be no more.
    pub async fn next(&mut self) -> Option<&KeptPart> {
        if self.current.is_none() {
            self.current = self.receiver.recv().await;
        }
        self.current.as_ref()
    }

    /// Returns the next part if there is one.
    pub fn rest(&mut self) -> Option<&KeptPart> {
        if self.current.is_none() {
            self.current = self.receiver.try_recv().ok();
        }
        self.current.as_ref()
    }

    /// Moves on to the next part, after this one was stored.
    pub fn stored(&mut self) {
        self.current = None;
    }
}

impl Run {
    /// Prepares the run of a job, and returns its parts.
    pub fn new(claim: &Claim, queue: &Queue) -> (Self, KeptParts) {
        let (run, parts) = Self::of_piece(Cancel::default(), queue);
        run.has_parts.store(claim.parts > 0, Ordering::Relaxed);
        (run, parts)
    }

    /// Prepares to analyze one piece of a video, until this is cancelled. Also returns what is kept of it.
    pub fn of_piece(cancel: Cancel, queue: &Queue) -> (Self, KeptParts) {
        let (sender, receiver) = unbounded_channel();
        let keep = (queue.keep_progress_s > 0).then(|| (Duration::from_secs(queue.keep_progress_s), sender));
        let parts = KeptParts { receiver, current: None };
        (Self { cancel, progress: Arc::default(), keep, has_parts: Arc::default() }, parts)
    }

    /// The time between two parts; `None` if no parts are kept.
    pub fn keep_every(&self) -> Option<Duration> {
        self.keep.as_ref().map(|(every, _)| *every)
    }

    /// Passes a part on to the task that stores it.
    pub fn keep(&self, part: &AnalysisPart) {
        self.has_parts.store(true, Ordering::Relaxed);
        self.pass_on(part.number, part);
    }

    /// Passes what was read of a piece on to the task that stores it.
    pub fn keep_begun(&self, begun: &BegunPiece) {
        self.pass_on(0, begun);
    }

    fn pass_on(&self, number: u32, value: &impl Serialize) {
        let Some((_, keep)) = &self.keep else { return };
        match pack(value) {
            // Ignores a closed channel: then the run has ended.
            Ok(content) => drop(keep.send(KeptPart { number, content })),
            Err(error) => tracing::warn!(%error, "cannot keep a part of an analysis"),
        }
    }
}

impl Worker {
    /// Reads the parts that earlier runs of a job have kept. If they cannot be read, the analysis begins anew.
    pub(super) async fn earlier_parts(&self, claim: &Claim, run: &Run) -> Vec<AnalysisPart> {
        if !run.has_parts.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let stored = self.store.parts(claim.token).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the kept parts of an analysis; it begins anew");
            Vec::new()
        });
        let mut earlier = Vec::with_capacity(stored.len());
        for content in stored {
            match unpack(&content) {
                Ok(part) => earlier.push(part),
                Err(error) => {
                    tracing::warn!(%error, "cannot read a kept part of an analysis; it begins there");
                    break;
                }
            }
        }
        earlier
    }

    /// Stores the parts of a running analysis. Does not return.
    pub(super) async fn keep_parts(&self, claim: &Claim, parts: &mut KeptParts) {
        while let Some(part) = parts.next().await {
            self.keep_part(claim, part).await;
            parts.stored();
        }
        std::future::pending::<()>().await;
    }

    /// Stores the parts of an analysis that has stopped.
    pub(super) async fn keep_last_parts(&self, claim: &Claim, parts: &mut KeptParts) {
        while let Some(part) = parts.rest() {
            self.keep_part(claim, part).await;
            parts.stored();
        }
    }

    /// Stores a part. If that fails, a later run analyzes its samples again.
    async fn keep_part(&self, claim: &Claim, KeptPart { number, content }: &KeptPart) {
        match self.store.keep_part(claim, *number, content).await {
            Ok(ClaimState::Held) => tracing::debug!(number, bytes = content.len(), "kept a part of an analysis"),
            Ok(ClaimState::Lost) => {}
            Err(error) => tracing::warn!(%error, "cannot keep a part of an analysis"),
        }
    }
}

/// Writes a value in the form in which it is stored.
pub(super) fn pack(value: &impl Serialize) -> std::io::Result<String> {
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(&mut zip, value)?;
    Ok(BASE64_STANDARD.encode(zip.finish()?))
}

pub(super) fn unpack<T: DeserializeOwned>(content: &str) -> std::io::Result<T> {
    let zip = BASE64_STANDARD.decode(content).map_err(std::io::Error::other)?;
    let mut json = Vec::new();
    GzDecoder::new(zip.as_slice()).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_stays_until_it_is_stored() {
        let (sender, receiver) = unbounded_channel();
        let mut parts = KeptParts { receiver, current: None };
        for number in 0..2 {
            sender.send(KeptPart { number, content: String::new() }).unwrap();
        }
        assert_eq!(parts.next().await.unwrap().number, 0);
        // The task that stores it is dropped.
        assert_eq!(parts.rest().unwrap().number, 0);
        parts.stored();
        assert_eq!(parts.rest().unwrap().number, 1);
        assert_eq!(parts.next().await.unwrap().number, 1);
        parts.stored();
        assert_eq!(parts.rest(), None);
        drop(sender);
        assert_eq!(parts.next().await, None);
    }
}
