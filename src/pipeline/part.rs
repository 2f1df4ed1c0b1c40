//! Parts of an analysis. They let another run continue an analysis that was broken off.
//!
//! A part has the faces of consecutive samples, and the state of every stage after the last of them. A run that
//! continues gives the same result as one from the beginning.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Pipeline;
use crate::analysis::{ModelUsed, Options, Sampling, Sighting, Tracker};
use crate::media::Position;
use crate::vision::{TiledDetector, TurnVotes, WindowDetector};

/// A part with this many faces is kept even if it is not time yet. It takes a few megabytes.
const MOST_FACES: usize = 10_000;

/// A part of an analysis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalysisPart {
    /// The number of the part, from 0. It replaces the part of this number and all later ones.
    pub number: u32,
    made_with: MadeWith,
    /// Clockwise quarter turns of the pictures.
    turns: u8,
    samples: Vec<ReadSample>,
    /// Where the next part begins.
    next: Place,
}

impl AnalysisPart {
    /// The number of samples of this part and all earlier ones.
    pub(super) const fn samples_so_far(&self) -> u32 {
        self.next.position.samples()
    }
}

/// The conditions of a part. Parts with different conditions do not fit together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MadeWith {
    version: String,
    options: Options,
    /// The models that every analysis uses.
    models: Vec<ModelUsed>,
    /// Length of the pieces of a video in seconds.
    #[serde(default)]
    piece_s: u32,
}

impl MadeWith {
    /// Adds further models.
    pub fn and(mut self, models: Vec<ModelUsed>) -> Self {
        self.models.extend(models);
        self
    }
}

/// One sample and its faces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ReadSample {
    pub time_s: f64,
    pub faces: Vec<Sighting>,
}

/// A place in an analysis, with the state of the stages before the tracker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    pub position: Position,
    pub detectors: Detectors,
    /// `None` if it was decided to turn the pictures.
    pub votes: Option<TurnVotes>,
}

/// The detectors of one analysis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Detectors {
    /// Searches around the faces of the previous frame, for `fast` sampling.
    pub windows: Option<WindowDetector>,
    pub tiles: TiledDetector,
    /// The piece of the video in which they are.
    pub piece: u32,
}

/// The state of all stages where an analysis begins or continues.
pub(super) struct Beginning {
    pub place: Place,
    pub turns: u8,
    pub tracker: Tracker,
    /// Times of the samples so far.
    pub times: Vec<f64>,
}

/// The parts that earlier runs of an analysis have kept, and how this run keeps its own.
pub struct AnalysisParts<'a> {
    /// In order of their numbers.
    pub earlier: Vec<AnalysisPart>,
    /// Time between two parts.
    pub every: Duration,
    /// Receives the parts of this run, on any thread. `None`: it keeps none.
    pub keep: Option<&'a (dyn Fn(AnalysisPart) + Sync)>,
}

impl AnalysisParts<'_> {
    /// An analysis from the beginning that keeps no parts.
    pub const fn none() -> Self {
        Self { earlier: Vec::new(), every: Duration::MAX, keep: None }
    }
}

impl Beginning {
    /// The state before the first sample, with pictures turned by so many quarter turns.
    pub fn first(options: Options, turns: u8) -> Self {
        let windows = (options.sampling == Sampling::Fast).then(WindowDetector::default);
        let detectors = Detectors { windows, tiles: TiledDetector::default(), piece: 0 };
        let votes = (turns == 0).then(TurnVotes::default);
        let place = Place { position: Position::default(), detectors, votes };
        Self { place, turns, tracker: Tracker::default(), times: Vec::new() }
    }

    /// The state after these parts.
    pub fn after(parts: Vec<AnalysisPart>, options: Options) -> Self {
        let mut beginning = Self::first(options, 0);
        for part in parts {
            for ReadSample { time_s, faces } in part.samples {
                beginning.times.push(time_s);
                beginning.tracker.push(faces);
            }
            (beginning.place, beginning.turns) = (part.next, part.turns);
        }
        beginning
    }
}

impl Pipeline {
    pub(super) fn made_with(&self, options: Options) -> MadeWith {
        MadeWith {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            options,
            models: self.vision.models(),
            piece_s: self.decoders.limits().piece_s,
        }
    }

    /// Returns the parts that can be continued: the first ones without a gap, if they were made with this version, these
    /// options and the same models.
    pub(super) fn usable(&self, parts: Vec<AnalysisPart>, options: Options) -> Vec<AnalysisPart> {
        let (made_with, turns) = (self.made_with(options), parts.first().map(|part| part.turns));
        let fits = |(number, part): &(u32, AnalysisPart)| {
            part.number == *number && part.made_with == made_with && Some(part.turns) == turns
        };
        (0..).zip(parts).take_while(fits).map(|(_, part)| part).collect()
    }

    /// Returns what keeps the parts of an analysis that continues after this many.
    pub(super) fn keeper<'a>(
        &self,
        parts: &AnalysisParts<'a>,
        options: Options,
        earlier: u32,
        turns: u8,
    ) -> Option<Keeper<'a>> {
        let keep = parts.keep?;
        let rest = Mutex::new(Rest::new(earlier, turns));
        Some(Keeper { keep, every: parts.every, made_with: self.made_with(options), rest })
    }
}

/// Collects the samples of an analysis and keeps them in parts.
pub(super) struct Keeper<'a> {
    keep: &'a (dyn Fn(AnalysisPart) + Sync),
    every: Duration,
    made_with: MadeWith,
    rest: Mutex<Rest>,
}

/// The samples that are in no part yet.
struct Rest {
    /// The number of the next part.
    number: u32,
    turns: u8,
    samples: Vec<ReadSample>,
    faces: usize,
    /// The last place where the analysis can continue, and the number of these samples before it.
    last: Option<(Place, usize)>,
    since: Instant,
}

impl Rest {
    fn new(number: u32, turns: u8) -> Self {
        Self { number, turns, samples: Vec::new(), faces: 0, last: None, since: Instant::now() }
    }
}

impl Keeper<'_> {
    /// Adds the next sample. `place` is the place after it, if the analysis can continue there.
    pub fn push(&self, sample: ReadSample, place: Option<Place>) {
        let mut rest = self.rest.lock();
        rest.faces += sample.faces.len();
        rest.samples.push(sample);
        let Some(place) = place else { return };
        rest.last = Some((place, rest.samples.len()));
        if rest.since.elapsed() >= self.every || rest.faces >= MOST_FACES {
            self.keep(&mut rest);
        }
    }

    /// Keeps the samples that are in no part yet.
    pub fn keep_rest(&self) {
        self.keep(&mut self.rest.lock());
    }

    /// Begins again with turned pictures.
    pub fn turn(&self, turns: u8) {
        *self.rest.lock() = Rest::new(0, turns);
    }

    fn keep(&self, rest: &mut Rest) {
        let Some((next, samples)) = rest.last.take() else { return };
        let samples = rest.samples.drain(..samples).collect();
        rest.faces = rest.samples.iter().map(|sample| sample.faces.len()).sum();
        let (number, turns, made_with) = (rest.number, rest.turns, self.made_with.clone());
        (rest.number, rest.since) = (number + 1, Instant::now());
        (self.keep)(AnalysisPart { number, made_with, turns, samples, next });
    }
}
