//! The messages between a process and its decoder processes.

use serde::{Deserialize, Serialize};

use super::confine::Confinement;
use crate::analysis::Sampling;
use crate::config::Video;
use crate::media::{
    End, FramesError, Placement, Position, Probe, ProbeError, Selection, SoundError, SoundFormat, Stretch,
};

/// The first message to a child.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {
    pub limits: Video,
}

/// The answer of a child to [`Setup`]. From then on it accepts operations.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    pub confinement: Confinement,
}

/// Starts an operation on the video. The message carries the socket for this operation, the video (see [`Handed`]), and
/// for [`Operation::Frames`] the file for pictures.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    pub operation: Operation,
    pub handed: Handed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Answers with [`Answer::Opened`]. Decodes the first frame.
    Probe,
    /// Answers with [`Answer::Count`].
    Count,
    /// Answers with [`Answer::Opened`], waits for [`Request::Select`], and sends the samples.
    Frames,
    /// Answers with [`Answer::Sound`], and sends the samples of the n-th choice among the sound streams.
    Sound { choice: usize, format: SoundFormat },
}

/// How a child gets the bytes of the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handed {
    /// An open file of this size.
    File { size: Option<u64> },
    /// A socket. The child sends [`ReadRequest`]s.
    Socket,
}

/// A request for the size or for bytes of the video. The answer is a status of 8 bytes, followed by the bytes. The
/// status is the size, the number of bytes, or FFmpeg's number of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadRequest {
    Size,
    Bytes { at: u64, length: usize },
}

/// A message to a child during an operation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Request {
    Select {
        selection: Selection,
        sampling: Sampling,
        /// Further quarter turns of the pictures, clockwise.
        turns: u8,
        stretch: Stretch,
        /// The CPU cores that the video may use.
        cores: usize,
    },
    /// The parent has copied the picture in this slot, so the slot is free.
    FreeSlot { slot: usize },
    /// Asks for [`Answer::End`].
    End,
}

/// A message of a child during an operation. Blocks of sound are sent as bytes, see [`Block`].
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Opened(Result<Probe, ProbeError>),
    Count(Result<u64, FramesError>),
    Sample(PictureInSlot),
    /// All samples were sent.
    Last {
        passed: u64,
        position: Position,
    },
    Failed(FramesError),
    End(Result<End, FramesError>),
    /// The index of the opened stream in the file; `None` if there is no such choice.
    Sound(Result<Option<usize>, SoundError>),
}

/// A sample whose picture is in a slot of the shared file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PictureInSlot {
    pub slot: usize,
    pub rows: i32,
    pub columns: i32,
    pub index: u32,
    pub time_s: f64,
    pub placement: Placement,
    /// Frames passed so far.
    pub passed: u64,
    /// The piece of the video to which it belongs.
    pub piece: u32,
    /// Where decoding can continue after this sample.
    pub position: Position,
}

/// A message of a child that decodes sound. One byte gives its kind, and 32-bit numbers or JSON follow.
#[derive(Debug)]
pub enum Block {
    Samples(Vec<f32>),
    End { is_silent: bool },
    Failed(SoundError),
}

impl Block {
    const SAMPLES: u8 = 1;
    const END: u8 = 2;
    const FAILED: u8 = 3;

    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Samples(samples) => {
                let mut bytes = Vec::with_capacity(1 + 4 * samples.len());
                bytes.push(Self::SAMPLES);
                bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
                bytes
            }
            Self::End { is_silent } => vec![Self::END, u8::from(*is_silent)],
            Self::Failed(error) => {
                let mut bytes = vec![Self::FAILED];
                bytes.extend(serde_json::to_vec(error).unwrap_or_default());
                bytes
            }
        }
    }

    /// Returns `None` if the bytes are none of these messages.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        Some(match *kind {
            Self::SAMPLES if rest.len().is_multiple_of(4) => {
                let samples = rest.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
                Self::Samples(samples.collect())
            }
            Self::END => Self::End { is_silent: rest == [1] },
            Self::FAILED => Self::Failed(serde_json::from_slice(rest).ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_sound_arrive_as_they_were_sent() {
        let Some(Block::Samples(samples)) = Block::from_bytes(&Block::Samples(vec![0.1, -1.0]).to_bytes()) else {
            panic!("no samples")
        };
        assert_eq!(samples, [0.1, -1.0]);
        for is_silent in [true, false] {
            let end = Block::from_bytes(&Block::End { is_silent }.to_bytes());
            assert!(matches!(end, Some(Block::End { is_silent: read }) if read == is_silent));
        }
        let failed = Block::from_bytes(&Block::Failed(SoundError::Encrypted).to_bytes());
        assert!(matches!(failed, Some(Block::Failed(SoundError::Encrypted))));
        for bad in [&[][..], &[0], &[9, 1], &[Block::SAMPLES, 1, 2, 3], &[Block::FAILED, b'{']] {
            assert!(Block::from_bytes(bad).is_none(), "{bad:?}");
        }
    }
}
