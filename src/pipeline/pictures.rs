//! Reads the faces of a single picture.

use opencv::core::MatTraitConst;

use super::analysis::{DetailTimes, DetectedFaces, FaceReader, Stop};
use super::{Pipeline, PipelineError};
use crate::analysis::{ModelUsed, Probabilities, Sighting, Warning};
use crate::media::{self, Placement, ProbeError, Sample};
use crate::vision::{Crop, FaceDetails, PictureFileError, TiledDetector, VisionError, decode_picture};

/// What is read from a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureOptions {
    /// Largest number of faces to read. The largest faces are read first.
    pub max_faces: u32,
    /// Read landmarks, and eye contact from the eyes.
    pub gaze: bool,
    /// Read movements of the face, which needs `gaze`.
    pub expressions: bool,
    pub whole: WholePicture,
    /// Maximum width times height.
    pub max_pixels: u64,
}

/// Whether the classifier reads the whole picture as if it were a face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WholePicture {
    Never,
    /// If no face is found.
    WithoutFace,
    /// No face is searched.
    Always,
}

/// What was read from a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadPicture {
    /// In pixels, upright.
    pub width: u32,
    pub height: u32,
    /// The largest face first.
    pub faces: Vec<Sighting>,
    /// The emotions of the whole picture, if it was read as a face.
    pub whole: Option<Probabilities>,
    /// Whether eye contact is judged by the eyes.
    pub by_eyes: bool,
    pub models: Vec<ModelUsed>,
    pub warnings: Vec<Warning>,
}

/// Why a picture was not read.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error("the file has no bytes")]
    Empty,
    #[error("the picture is {format}, which is not read")]
    OtherFormat { format: String },
    #[error("the file is a video")]
    Video,
    #[error("the file is neither JPEG nor PNG nor WebP")]
    NotAPicture,
    #[error("the picture has {width} x {height} pixels; the limit is {limit} pixels")]
    TooLarge { width: u32, height: u32, limit: u64 },
    #[error("the picture is damaged: {reason}")]
    Damaged { reason: String },
    /// The service failed. Other pictures fail as well.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

impl From<PictureFileError> for PictureError {
    fn from(error: PictureFileError) -> Self {
        match error {
            PictureFileError::UnknownFormat => Self::NotAPicture,
            PictureFileError::TooLarge { width, height, limit } => Self::TooLarge { width, height, limit },
            PictureFileError::Damaged { reason } => Self::Damaged { reason },
        }
    }
}

impl From<VisionError> for PictureError {
    fn from(error: VisionError) -> Self {
        Self::Pipeline(error.into())
    }
}

impl Pipeline {
    /// Reads the faces in a JPEG, PNG or WebP file. Blocks.
    pub fn read_picture(&self, file: &[u8], options: PictureOptions) -> Result<ReadPicture, PictureError> {
        let picture = decode_picture(file, options.max_pixels).map_err(|error| self.picture_error(error, file))?;
        let max_faces = options.max_faces as usize;
        let mut faces = Vec::new();
        if options.whole != WholePicture::Always {
            faces = self.vision.detect(&[&picture], max_faces)?.pop().unwrap_or_default();
            if faces.is_empty() {
                faces = TiledDetector::default().detect(&self.vision, &picture, max_faces)?;
            }
        }
        let is_whole = match options.whole {
            WholePicture::Never => false,
            WholePicture::WithoutFace => faces.is_empty(),
            WholePicture::Always => true,
        };
        let whole = match is_whole {
            true => self.vision.classify(&[self.vision.whole(&picture)?])?.pop(),
            false => None,
        };
        let wanted = FaceDetails { landmarks: options.gaze, expressions: options.expressions };
        let details = self.vision.detail_reader(wanted);
        let (width, height) = (picture.cols().unsigned_abs(), picture.rows().unsigned_abs());
        let placement = Placement::new((width, height), 0, (width, height));
        let sample = Sample { index: 0, time_s: 0.0, picture, placement, piece: 0 };
        let detected = DetectedFaces { samples: vec![sample], faces: vec![faces] };
        let reader = FaceReader { vision: &self.vision, details: &details };
        let read = reader.read(detected, None, &mut DetailTimes::default()).map_err(|stop| match stop {
            Stop::Failed(error) => error,
            Stop::Turn(_) => PipelineError::Decoder("a picture was turned without a vote".to_owned()),
        })?;
        let mut sightings = Vec::new();
        for frame in &read {
            let crops: Vec<&Crop> = frame.faces.iter().map(|face| &face.crop).collect();
            let emotions = if crops.is_empty() { Vec::new() } else { self.vision.classify(&crops)? };
            let of = |(face, emotions)| frame.sighting(face, emotions);
            sightings.extend(frame.faces.iter().zip(emotions).map(of));
        }
        let mut warnings = details.warnings.clone();
        if !details.has_landmarks() && sightings.iter().any(|sighting| sighting.seen.pose.is_some()) {
            warnings.push(Warning::EyeContactByHead);
        }
        Ok(ReadPicture {
            width,
            height,
            faces: sightings,
            whole,
            by_eyes: details.has_landmarks(),
            models: self.vision.models().into_iter().chain(details.models()).collect(),
            warnings,
        })
    }

    /// Converts an error of decoding this file.
    pub(super) fn picture_error(&self, error: PictureFileError, file: &[u8]) -> PictureError {
        match error {
            PictureFileError::UnknownFormat => self.other_format(file),
            error => error.into(),
        }
    }

    /// Returns the reason why a file is not read that is neither JPEG nor PNG nor WebP.
    fn other_format(&self, file: &[u8]) -> PictureError {
        if file.is_empty() {
            return PictureError::Empty;
        }
        match media::sniff(&file[..file.len().min(media::HEAD)], self.decoders.limits()) {
            Err(ProbeError::Picture { format }) => PictureError::OtherFormat { format: format.to_string() },
            Ok(()) if file.starts_with(b"GIF8") => PictureError::OtherFormat { format: "GIF".to_owned() },
            Ok(()) => PictureError::Video,
            Err(_) => PictureError::NotAPicture,
        }
    }
}
