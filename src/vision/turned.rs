//! Tells a video that was filmed sideways or upside down by the faces in it.
//!
//! A detector finds turned faces as well, but reads their points as if they stood upright: of one hundred faces of two people,
//! each turned in quarters, it was surest of the upright one every time (YuNet, 0.91 to 0.96 against 0.92 at most).

use opencv::core::{
    Mat, MatTraitConst, ROTATE_90_CLOCKWISE, ROTATE_90_COUNTERCLOCKWISE, ROTATE_180, Rect, Size, rotate,
};

use super::watch::{SIDE, is_in_the_middle, window};
use super::{CloseUp, Mesh, Vision, VisionError, is_frame, scale};
use crate::analysis::Face;

/// A face with this score and with landmarks stands upright: nothing has to be tried.
const SURE_SCORE: f32 = 0.93;
/// By this much the detector must be surer of a face once it is turned ...
const MARGIN: f32 = 0.02;
/// ... which must then show landmarks with this probability.
const PRESENCE: f32 = 0.9;

/// From this many faces on, the video is judged ...
const FEWEST: usize = 6;
/// ... and after so many it is taken to stand as it should.
const MOST: usize = 24;
/// This share of the faces has to agree on a turn.
const AGREE: f64 = 0.75;
/// With this share of faces that stand upright, the video does.
const UPRIGHT: f64 = 0.5;

impl Vision {
    /// Quarter turns clockwise that bring a face upright; 0 where it stands so, or where nobody can tell. `mesh` are its
    /// landmarks as it was found. Blocks.
    pub fn turns(&self, close_up: &CloseUp, frame: &Mat, face: &Face, mesh: Option<&Mesh>) -> Result<u8, VisionError> {
        is_frame(frame)?;
        let is_whole = mesh.is_some_and(|mesh| mesh.clarity.presence >= PRESENCE) || !close_up.has_landmarks();
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
        if close_up.has_landmarks() {
            let mesh = close_up.landmarks(&[(picture, face)])?.pop().flatten();
            if mesh.is_none_or(|mesh| mesh.clarity.presence < PRESENCE) {
                return Ok(0);
            }
        }
        Ok(turns)
    }
}

/// The faces of one video say how it was filmed.
#[derive(Debug, Clone, Default)]
pub struct TurnVotes {
    /// Faces by the quarter turns that bring them upright.
    faces: [usize; 4],
    is_settled: bool,
}

impl TurnVotes {
    /// Whether more faces are of interest.
    pub const fn is_open(&self) -> bool {
        !self.is_settled
    }

    /// Counts a face that is brought upright by so many quarter turns.
    pub fn add(&mut self, turns: u8) {
        self.faces[usize::from(turns % 4)] += 1;
    }

    /// Counts a face; gives the quarter turns for the whole video once they are certain.
    pub fn count(&mut self, turns: u8) -> Option<u8> {
        self.add(turns);
        let all: usize = self.faces.iter().sum();
        if all < FEWEST {
            return None;
        }
        let turns = self.agreed();
        self.is_settled = turns.is_some() || share(self.faces[0], all) >= UPRIGHT || all >= MOST;
        turns
    }

    /// The quarter turns for the whole video once its end has come, however few faces there were.
    pub fn at_the_end(&self) -> Option<u8> {
        if self.is_settled { None } else { self.agreed() }
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

    /// What comes of these faces: the turn and after how many it was certain, or the turn at the end.
    fn judged(faces: &[u8]) -> (Option<u8>, usize) {
        let mut votes = TurnVotes::default();
        for (n, turns) in faces.iter().enumerate() {
            if let Some(turns) = votes.count(*turns) {
                return (Some(turns), n + 1);
            }
            if !votes.is_open() {
                return (None, n + 1);
            }
        }
        (votes.at_the_end(), faces.len())
    }

    #[test]
    fn three_quarters_of_the_faces_turn_a_video() {
        assert_eq!(judged(&[2; 30]), (Some(2), 6));
        assert_eq!(judged(&[0, 1, 1, 1, 1, 1, 1]), (Some(1), 6));
        assert_eq!(judged(&[0, 0, 1, 1, 1, 1, 1, 1, 1]), (Some(1), 8));
        assert_eq!(judged(&[3]), (Some(3), 1), "of a short clip, one face is all there is");
        assert_eq!(judged(&[3, 3, 3, 0]), (Some(3), 4));
    }

    #[test]
    fn faces_that_stand_or_disagree_leave_a_video_as_it_is() {
        assert_eq!(judged(&[0; 30]), (None, 6), "nothing more is tried then");
        assert_eq!(judged(&[0, 0, 0, 2, 2, 2]), (None, 6));
        assert_eq!(judged(&[1, 3, 1, 3, 2, 1, 3].repeat(4)), (None, 24));
        assert_eq!(judged(&[]), (None, 0));
        assert_eq!(judged(&[1, 0]), (None, 2));
    }
}
