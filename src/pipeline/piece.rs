//! Analyzes a long video in pieces, which different workers can do at the same time. The result is the same as in one
//! piece. A state that passes from one piece to the next is guessed before the piece is analyzed, and compared when the
//! pieces are joined (the size of the first frame, the orientation), or computed when they are joined (the people, the
//! votes on turning the video).

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::analysis::{Stages, Stop, every, wanted};
use super::part::{Beginning, MadeWith, Place, ReadSample};
use super::sound::{self, SoundResult};
use super::{Cancel, Pipeline, PipelineError, Progress};
use crate::analysis::{Findings, Options, Tracker};
use crate::isolation::Frames;
use crate::media::{Pieces, Position, Source, Stretch};
use crate::vision::TurnVotes;

/// A video is not cut into more pieces than this. The last one has the rest.
const MOST_PIECES: u32 = 1000;

/// A piece of a video to analyze, and the state before it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    pieces: Pieces,
    /// Clockwise quarter turns of the pictures.
    turns: u8,
    start: Position,
    /// Number of frames in the whole video; 0 if unknown.
    frames_total: u64,
}

impl Piece {
    /// Number of frames in the whole video; 0 if unknown.
    pub const fn frames_total(&self) -> u64 {
        self.frames_total
    }
}

/// A piece of a video that was analyzed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalyzedPiece {
    piece: Piece,
    made_with: MadeWith,
    samples: Vec<ReadSample>,
    /// The turns that bring the first faces upright, unless it was decided already whether to turn the video.
    votes: Vec<u8>,
    /// The place after the piece, as if the video began with it.
    after: Position,
}

/// What was read of a piece before its analysis was broken off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BegunPiece {
    piece: Piece,
    made_with: MadeWith,
    samples: Vec<ReadSample>,
    /// Where it continues.
    next: Place,
}

/// What an earlier run has read of a piece, and how this run keeps what it reads.
pub struct PieceProgress<'a> {
    pub begun: Option<BegunPiece>,
    /// Time between two calls of `keep`.
    pub every: Duration,
    /// Receives all that was read so far, on any thread. `None`: nothing is kept.
    pub keep: Option<&'a (dyn Fn(BegunPiece) + Sync)>,
}

impl PieceProgress<'_> {
    /// A piece from its beginning, of which nothing is kept.
    pub const fn none() -> Self {
        Self { begun: None, every: Duration::MAX, keep: None }
    }
}

/// What became of joining the pieces of a video.
#[derive(Debug)]
pub enum Joined {
    Findings(Box<Findings>),
    Again(Again),
}

/// Pieces that have to be analyzed again.
#[derive(Debug)]
pub struct Again {
    /// Their numbers, and the pieces with the state that they have to be given.
    pub pieces: Vec<(usize, Piece)>,
    /// Whether other processes may do them.
    pub is_shared: bool,
}

impl Pipeline {
    /// Returns the pieces of a video of at least `from_s` seconds. `None`: it has to be analyzed as a whole, because it
    /// is shorter or its length is unknown, or because its pieces cannot be decoded alone. Blocks.
    pub fn pieces(
        &self,
        source: &Source,
        options: Options,
        from_s: u64,
        cancel: &Cancel,
    ) -> Result<Option<Vec<Piece>>, PipelineError> {
        let opened = self.decoders.video(source).open()?;
        let (duration_s, frames_total) = (opened.probe().duration_s, opened.probe().frames_total);
        let piece_s = f64::from(self.decoders.limits().piece_s.max(1));
        #[expect(clippy::cast_precision_loss, reason = "seconds of a video")]
        let is_long = duration_s >= from_s as f64 && duration_s > piece_s;
        if !is_long {
            return Ok(None);
        }
        let options = options.for_frame_rate(opened.probe().fps);
        let mut frames = opened.start(every(options), 0)?;
        let has_sample = frames.next(&|| cancel.is_cancelled())?.is_some();
        let first = frames.position();
        if !has_sample || !first.allows_pieces() {
            return Ok(None);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
        let count = ((duration_s / piece_s).ceil() as u32).min(MOST_PIECES);
        let piece = |number: u32| Piece {
            pieces: Pieces { from: number, until: (number + 1 < count).then_some(number + 1) },
            turns: 0,
            start: if number == 0 { Position::default() } else { first.at_piece() },
            frames_total,
        };
        Ok(Some((0..count).map(piece).collect()))
    }

    /// Analyzes one piece of a video, without its sound. Continues what an earlier run has begun. Keeps what it has read,
    /// also if it fails or is cancelled. Blocks.
    pub fn analyze_piece(
        &self,
        source: &Source,
        requested: Options,
        piece: Piece,
        PieceProgress { begun, every: keep_every, keep }: PieceProgress<'_>,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<AnalyzedPiece, PipelineError> {
        let opened = self.decoders.video(source).open()?;
        let options = requested.for_frame_rate(opened.probe().fps);
        let made_with = self.made_with(requested).and(self.vision.detail_reader(wanted(options)).models());
        let Piece { pieces, turns, start, .. } = piece;
        let begun = begun.filter(|begun| begun.piece == piece && begun.made_with == made_with);
        let (mut samples, place) = match begun {
            Some(BegunPiece { samples, next, .. }) => {
                tracing::info!(samples = samples.len(), "the piece continues after these samples of an earlier run");
                (samples, next)
            }
            None => {
                let votes = (turns == 0).then(TurnVotes::recording);
                (Vec::new(), Place { position: start, votes, ..Beginning::first(options, turns).place })
            }
        };
        let frames = opened.start_at(Stretch { start: place.position, pieces }, every(options), turns)?;
        let probe = frames.probe().clone();
        // Progress is counted from the first frame of the piece.
        let first = OnceLock::new();
        let progress = &|now: Progress| {
            let frames_done = now.frames_done - first.get_or_init(|| now.frames_done).min(&now.frames_done);
            progress(Progress { frames_done, ..now });
        };
        let mut last = (place.clone(), samples.len());
        let mut kept = Instant::now();
        let begun = |samples: &[ReadSample], (next, count): &(Place, usize)| BegunPiece {
            piece,
            made_with: made_with.clone(),
            samples: samples[..*count].to_vec(),
            next: next.clone(),
        };
        let mut take = |sample, place: Option<Place>| {
            samples.push(sample);
            let Some(place) = place else { return };
            last = (place, samples.len());
            if let Some(keep) = keep.filter(|_| kept.elapsed() >= keep_every) {
                keep(begun(&samples, &last));
                kept = Instant::now();
            }
        };
        let stages = Stages { vision: &self.vision, options, probe: &probe, progress, cancel };
        let ended = stages.run(frames, place, &mut take, |frames: Frames| Ok(frames.position()));
        if let Some(keep) = keep.filter(|_| ended.is_err() || cancel.is_cancelled()) {
            keep(begun(&samples, &last));
        }
        let ended = ended.map_err(|stop| match stop {
            Stop::Failed(error) => error,
            Stop::Turn(_) => PipelineError::Decoder("a piece was turned alone".to_owned()),
        })?;
        let Some(after) = ended.end.filter(|_| !cancel.is_cancelled()) else { return Err(PipelineError::Cancelled) };
        let votes = last.0.votes.map(TurnVotes::into_recorded).unwrap_or_default();
        Ok(AnalyzedPiece { piece, made_with, samples, votes, after })
    }

    /// Analyzes the sound of a video. Blocks.
    pub fn hear(&self, source: &Source, options: Options, cancel: &Cancel) -> Result<SoundResult, PipelineError> {
        let video = self.decoders.video(source);
        let has_sound = video.open()?.probe().has_audio.then_some(options.speech);
        let pictures = || Ok::<(), PipelineError>(());
        let (_, heard) = sound::run_beside(&self.speech_models, &video, has_sound, cancel, pictures);
        match heard.error {
            _ if cancel.is_cancelled() => Err(PipelineError::Cancelled),
            Some(error) => Err(error.into()),
            None => Ok(heard),
        }
    }

    /// Joins all pieces of a video and its sound. Blocks, because it reads the packets of the video to the end, without
    /// decoding them.
    pub fn join(
        &self,
        source: &Source,
        requested: Options,
        pieces: &[AnalyzedPiece],
        sound: &SoundResult,
        cancel: &Cancel,
    ) -> Result<Joined, PipelineError> {
        let opened = self.decoders.video(source).open()?;
        let options = requested.for_frame_rate(opened.probe().fps);
        let details = self.vision.detail_reader(wanted(options));
        if let Some(again) = unfit(pieces, &self.made_with(requested).and(details.models())) {
            return Ok(Joined::Again(again));
        }
        let turns = pieces.first().map_or(0, |first| first.piece.turns);
        let (place, tracker, times) = replay(pieces);
        if place.samples() == 0 {
            // The analysis of the whole video says why.
            drop(opened);
            return self.analyze(source, requested, &|_| {}, cancel).map(|found| Joined::Findings(Box::new(found)));
        }
        let stretch = Stretch { start: place, pieces: Pieces::NONE };
        let mut frames = opened.start_at(stretch, every(options), turns)?;
        let probe = frames.probe().clone();
        while frames.next(&|| cancel.is_cancelled())?.is_some() {}
        let stop = cancel.clone();
        let end = frames.end(move || stop.is_cancelled())?;
        let stages = Stages { vision: &self.vision, options, probe: &probe, progress: &|_| {}, cancel };
        let findings = stages.summarise(&end, &times, tracker, turns, &details, sound);
        Ok(Joined::Findings(Box::new(findings)))
    }
}

/// Returns the pieces that have to be analyzed again: those that were made in another way than this process does, and
/// those that were given another state than the pieces before them have.
fn unfit(pieces: &[AnalyzedPiece], made_with: &MadeWith) -> Option<Again> {
    let numbered = || pieces.iter().enumerate();
    let other = numbered().filter(|(_, piece)| piece.made_with != *made_with);
    let other: Vec<_> = other.map(|(number, analyzed)| (number, analyzed.piece)).collect();
    if !other.is_empty() {
        return Some(Again { pieces: other, is_shared: false });
    }
    if let Some(turns) = turns(pieces) {
        // The size of the first frame is that before the turn, so what the pieces were given holds.
        let pieces = numbered().map(|(number, analyzed)| (number, Piece { turns, ..analyzed.piece })).collect();
        return Some(Again { pieces, is_shared: true });
    }
    let mut place = Position::default();
    for (number, analyzed) in numbered() {
        let start = place.at_piece();
        if analyzed.piece.start != start {
            let pieces = vec![(number, Piece { start, ..analyzed.piece })];
            return Some(Again { pieces, is_shared: true });
        }
        place.pass_piece(&analyzed.after);
    }
    None
}

/// Decides by how many quarter turns the video has to be turned, as if the pieces had voted one after the other.
fn turns(pieces: &[AnalyzedPiece]) -> Option<u8> {
    let mut votes = TurnVotes::default();
    for vote in pieces.iter().flat_map(|analyzed| &analyzed.votes) {
        if !votes.is_open() {
            return None;
        }
        if let Some(turns) = votes.add_and_decide(*vote) {
            return Some(turns);
        }
    }
    votes.decide_at_end()
}

/// Follows the faces through all pieces. Returns the place after them, the people, and the times of all samples.
fn replay(pieces: &[AnalyzedPiece]) -> (Position, Tracker, Vec<f64>) {
    let (mut place, mut tracker, mut times) = (Position::default(), Tracker::default(), Vec::new());
    for analyzed in pieces {
        for sample in &analyzed.samples {
            times.push(sample.time_s);
            let mut faces = sample.faces.clone();
            for face in &mut faces {
                face.seen.sample += place.samples();
            }
            tracker.push(faces);
        }
        place.pass_piece(&analyzed.after);
    }
    (place, tracker, times)
}
