//! Recognises from the faces that a video was filmed sideways or upside down.
//!
//! A detector also finds turned faces, but places their points as if they were upright, and with a lower score. With
//! one hundred faces of two people, each in all four quarter turns, the upright one always had the highest score
//! (YuNet, 0.91 to 0.96 against at most 0.92).

use opencv::core::{
    Mat, MatTraitConst, ROTATE_90_CLOCKWISE, ROTATE_90_COUNTERCLOCKWISE, ROTATE_180, Rect, Size, rotate,
};
use serde::{Deserialize, Serialize};

use super::windows::{SIDE, is_in_the_middle, window};
use super::{DetailReader, Mesh, Vision, VisionError, is_frame, scale};
use crate::analysis::Face;

/// A face with at least this score and with landmarks is upright. Turning it is not tried.
const SURE_SCORE: f32 = 0.93;
/// The score of a face must rise by at least this much when it is turned.
const MARGIN: f32 = 0.02;
/// Minimum presence that the landmarks of the turned face must have.
const PRESENCE: f32 = 0.9;

/// Minimum number of faces that decide whether the video is turned.
const FEWEST: usize = 6;
/// After this many faces without a decision, the video counts as upright.
const MOST: usize = 24;
/// Share of the faces that must agree on a turn.
const AGREE: f64 = 0.75;
/// Share of upright faces from which on the video counts as upright.
const UPRIGHT: f64 = 0.5;

impl Vision {
    /// Returns the quarter turns clockwise that bring a face upright: 0 if it is upright, or if this cannot be decided.
    /// `mesh` are the landmarks of the face before turning. Blocks.
    pub fn turns(
        &self,
        details: &DetailReader,
        frame: &Mat,
        face: &Face,
        mesh: Option<&Mesh>,
    ) -> Result<u8, VisionError> {
        is_frame(frame)?;
        let is_whole = mesh.is_some_and(|mesh| mesh.clarity.presence >= PRESENCE) || !details.has_landmarks();
        if face.score >= SURE_SCORE && is_whole {
            return Ok(0);
        }
        let around = window(&face.bbox, frame.cols(), frame.rows());
        let longer = around.width.max(around.height).max(1);
        let shrunk = |side: i32| if longer > SIDE { (side * SIDE / longer).max(1) } else { side };
        let size = Size::new(shrunk(around.width), shrunk(around.height));
        let mut pictures = vec![scale::scaled(frame, around, size)?];
        for turn in [ROTATE_90_CLOCKWISE, ROTATE_180, ROTATE_90_COUNTERCLOCKWISE] {
            let mut turned = Mat::default();
            rotate(&pictures[0], &mut turned, turn)?;
            pictures.push(turned);
        }
        let found = self.detect(&pictures.iter().collect::<Vec<_>>(), usize::MAX)?;
        let best: Vec<Option<Face>> = pictures
            .iter()
            .zip(found)
            .map(|(picture, faces)| {
                let whole = Rect::new(0, 0, picture.cols(), picture.rows());
                let inside = faces.into_iter().filter(|face| is_in_the_middle(&face.bbox, &whole));
                inside.max_by(|a, b| a.score.total_cmp(&b.score))
            })
            .collect();
        let as_it_stands = best[0].as_ref().map_or(0.0, |face| face.score);
        let surest = (1_u8..).zip(&pictures[1..]).zip(&best[1..]);
        let surest = surest.filter_map(|((turns, picture), face)| Some((turns, picture, face.as_ref()?)));
        let surest = surest.max_by(|(.., a), (.., b)| a.score.total_cmp(&b.score));
        let Some((turns, picture, face)) = surest.filter(|(.., face)| face.score >= as_it_stands + MARGIN) else {
            return Ok(0);
        };
        if details.has_landmarks() {
            let mesh = details.landmarks(&[(picture, face)])?.pop().flatten();
            if mesh.is_none_or(|mesh| mesh.clarity.presence < PRESENCE) {
                return Ok(0);
            }
        }
        Ok(turns)
    }
}

/// Decides from the faces of one video by how many quarter turns it has to be turned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TurnVotes {
    /// Number of faces for each number of quarter turns that brings them upright.
    faces: [usize; 4],
    is_settled: bool,
    /// The votes in order, if others decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<Vec<u8>>,
}

impl TurnVotes {
    /// Records the votes and decides nothing. The faces may be those of a later part of the video, so as many are
    /// recorded as a decision can take.
    pub fn recording() -> Self {
        Self { recorded: Some(Vec::new()), ..Self::default() }
    }

    /// The recorded votes.
    pub fn into_recorded(self) -> Vec<u8> {
        self.recorded.unwrap_or_default()
    }

    /// Whether the decision is still open.
    pub const fn is_open(&self) -> bool {
        !self.is_settled
    }

    /// Counts a face that this many quarter turns bring upright.
    pub fn add(&mut self, turns: u8) {
        self.faces[usize::from(turns % 4)] += 1;
    }

    /// Counts a face. Returns the quarter turns for the whole video once they are decided.
    pub fn add_and_decide(&mut self, turns: u8) -> Option<u8> {
        self.add(turns);
        if let Some(recorded) = &mut self.recorded {
            recorded.push(turns);
            self.is_settled = recorded.len() >= MOST;
            return None;
        }
        let all: usize = self.faces.iter().sum();
        if all < FEWEST {
            return None;
        }
        let turns = self.agreed();
        self.is_settled = turns.is_some() || share(self.faces[0], all) >= UPRIGHT || all >= MOST;
        turns
    }

    /// Decides at the end of the video, with any number of faces. Returns `None` if the video needs no turn or the
    /// decision was made before.
    pub fn decide_at_end(&self) -> Option<u8> {
        if self.is_settled || self.recorded.is_some() { None } else { self.agreed() }
    }

    fn agreed(&self) -> Option<u8> {
        let all: usize = self.faces.iter().sum();
        (1..4_u8).find(|turns| all > 0 && share(self.faces[usize::from(*turns)], all) >= AGREE)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few faces")]
fn share(some: usize, all: usize) -> f64 {
    some as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts these faces. Returns the decision and the number of faces that it took.
    fn judged(faces: &[u8]) -> (Option<u8>, usize) {
        let mut votes = TurnVotes::default();
        for (n, turns) in faces.iter().enumerate() {
            if let Some(turns) = votes.add_and_decide(*turns) {
                return (Some(turns), n + 1);
            }
            if !votes.is_open() {
                return (None, n + 1);
            }
        }
        (votes.decide_at_end(), faces.len())
    }

    #[test]
    fn a_video_is_turned_if_three_quarters_of_its_faces_agree() {
        assert_eq!(judged(&[2; 30]), (Some(2), 6));
        assert_eq!(judged(&[0, 1, 1, 1, 1, 1, 1]), (Some(1), 6));
        assert_eq!(judged(&[0, 0, 1, 1, 1, 1, 1, 1, 1]), (Some(1), 8));
        assert_eq!(judged(&[3]), (Some(3), 1), "one face decides for a short clip");
        assert_eq!(judged(&[3, 3, 3, 0]), (Some(3), 4));
    }

    #[test]
    fn a_video_is_not_turned_if_its_faces_are_upright_or_disagree() {
        assert_eq!(judged(&[0; 30]), (None, 6), "the decision needs no more faces");
        assert_eq!(judged(&[0, 0, 0, 2, 2, 2]), (None, 6));
        assert_eq!(judged(&[1, 3, 1, 3, 2, 1, 3].repeat(4)), (None, 24));
        assert_eq!(judged(&[]), (None, 0));
        assert_eq!(judged(&[1, 0]), (None, 2));
    }
}
