//! Reads one emotion of a clip from 15 frames spread over it, for the Journaling thumbnails API.

use super::{Cancel, Pipeline, PipelineError};
use crate::analysis::{Clarity, Face, Probabilities, Verdict, quality};
use crate::isolation::Frames;
use crate::media::{Every, Sample, Source, is_in_spread};
use crate::vision::{CLIP_FRAMES, Crop, FaceDetails, Mesh, TiledDetector, TurnVotes, head_and_eyes, head_pose};

/// Reason why a clip has no emotion.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    #[error("the clip has {frames} frames, fewer than {CLIP_FRAMES}")]
    TooShort { frames: u64 },
    #[error("no face in the clip")]
    NoFace,
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

impl Pipeline {
    /// Reads the emotion of the largest face in 15 frames of a clip, evenly spread. Blocks.
    pub fn verdict(&self, source: &Source, cancel: &Cancel) -> Result<Verdict, ClipError> {
        // The packets are counted, because the number in the header may be wrong.
        let stop = || cancel.is_cancelled();
        let video = self.decoders.video(source);
        let of = video.count_frames(&stop).map_err(PipelineError::from)?;
        if (1..CLIP_FRAMES as u64).contains(&of) {
            return Err(ClipError::TooShort { frames: of });
        }
        let open = || video.open().map_err(PipelineError::from);
        let spread = |turns| open()?.spread(CLIP_FRAMES as u64, of, turns).map_err(PipelineError::from);
        let mut seen = self.read_frames(spread(0)?, |_| true, cancel)?;
        if seen.frames.len() == CLIP_FRAMES {
            if let Some(turns) = seen.votes.decide_at_end() {
                seen = self.read_frames(spread(turns)?, |_| true, cancel)?;
            }
        } else {
            // Some of the frames could not be decoded. Counts the frames that can be decoded, and spreads 15 over
            // those.
            let all = |turns| open()?.start(Every::exact(1), turns).map_err(PipelineError::from);
            let (mut frames, mut decodable) = (all(0)?, 0);
            while frames.next(&stop).map_err(PipelineError::from)?.is_some() {
                decodable += 1;
            }
            let is_chosen = |number: u32| is_in_spread(CLIP_FRAMES as u64, decodable, number.into());
            seen = self.read_frames(all(0)?, is_chosen, cancel)?;
            if let Some(turns) = seen.votes.decide_at_end() {
                seen = self.read_frames(all(turns)?, is_chosen, cancel)?;
            }
            if seen.frames.len() < CLIP_FRAMES {
                return Err(ClipError::TooShort { frames: decodable });
            }
        }
        if self.vision.has_clip_classifier() {
            let meshes: Vec<_> = seen.frames.iter().map(|frame| frame.mesh.clone()).collect();
            if meshes.iter().all(Option::is_none) {
                return Err(ClipError::NoFace);
            }
            let shares = self.vision.classify_clip(&meshes).map_err(PipelineError::from)?;
            return shares.and_then(Verdict::of_shares).ok_or(ClipError::NoFace);
        }
        let (crops, weights): (Vec<Crop>, Vec<f32>) = seen.frames.into_iter().filter_map(|frame| frame.face).unzip();
        if crops.is_empty() {
            return Err(ClipError::NoFace);
        }
        let emotions = self.vision.classify(&crops).map_err(PipelineError::from)?;
        let read: Vec<(Probabilities, f32)> = emotions.into_iter().zip(weights).collect();
        Verdict::of_frames(&read).ok_or(ClipError::NoFace)
    }

    /// Reads the largest face of each frame that `choose` accepts by its index, until there are 15 frames.
    fn read_frames(
        &self,
        mut frames: Frames,
        choose: impl Fn(u32) -> bool,
        cancel: &Cancel,
    ) -> Result<ClipFrames, PipelineError> {
        let mut tiles = TiledDetector::default();
        let mut seen = ClipFrames { frames: Vec::with_capacity(CLIP_FRAMES), votes: TurnVotes::default() };
        while seen.frames.len() < CLIP_FRAMES
            && let Some(sample) = frames.next(&|| cancel.is_cancelled())?
        {
            if choose(sample.index) {
                seen.frames.push(self.read(&sample, &mut tiles, &mut seen.votes)?);
            }
        }
        Ok(seen)
    }

    fn read(
        &self,
        sample: &Sample,
        tiles: &mut TiledDetector,
        votes: &mut TurnVotes,
    ) -> Result<ClipFrame, PipelineError> {
        let picture = &sample.picture;
        let mut faces = self.vision.detect(&[picture], 1)?.remove(0);
        if faces.is_empty() {
            faces = tiles.detect(&self.vision, picture, 1)?;
        }
        let Some(face) = faces.first() else { return Ok(ClipFrame { mesh: None, face: None }) };
        let details = self.vision.detail_reader(FaceDetails::LANDMARKS);
        let mesh = details.landmarks(&[(picture, face)])?.into_iter().next().flatten();
        votes.add(self.vision.turns(&details, picture, face, mesh.as_ref())?);
        let crop = self.vision.crop(picture, face)?;
        let (width, height) = size(sample);
        let refused = details.has_landmarks().then_some(Clarity::REFUSED);
        let weight = weight(face, mesh.as_ref(), refused, (width, height));
        Ok(ClipFrame { mesh: mesh.map(|mesh| (mesh, width, height)), face: Some((crop, weight)) })
    }
}

/// The frames of one pass through a clip.
struct ClipFrames {
    frames: Vec<ClipFrame>,
    votes: TurnVotes,
}

/// The largest face of one frame.
struct ClipFrame {
    /// Its points, and width and height of the frame.
    mesh: Option<(Mesh, i32, i32)>,
    /// The face cut out, and its weight.
    face: Option<(Crop, f32)>,
}

fn size(sample: &Sample) -> (i32, i32) {
    use opencv::core::MatTraitConst;
    (sample.picture.cols(), sample.picture.rows())
}

/// Returns the weight of a face. `refused`: what holds if its landmarks could not be read.
fn weight(face: &Face, mesh: Option<&Mesh>, refused: Option<Clarity>, (width, height): (i32, i32)) -> f32 {
    let head = mesh.and_then(|mesh| head_and_eyes(mesh, width, height));
    let pose = head.as_ref().map(|head| head.pose).or_else(|| head_pose(face, width, height));
    let clarity = head.as_ref().map(|head| head.clarity).or(refused);
    quality(face, pose.as_ref(), clarity.as_ref(), head.map(|head| head.covered))
}
