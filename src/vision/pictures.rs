//! The classifier alone, on single pictures: what measuring it takes.

use std::io::Cursor;
use std::sync::Arc;

use image::{DynamicImage, ImageDecoder, ImageReader};
use opencv::core::{Mat, MatTraitConst, Vec3b};

use super::detector::{self, Detector};
use super::emotion::Classifier;
use super::{Crop, VisionError};
use crate::config::Settings;
use crate::engine::Engine;

/// Reads the expression in single pictures, with every class that the classifier knows, also one that analyses leave out.
pub struct Pictures {
    classifier: Classifier,
    /// `None` where pictures are faces already.
    detector: Option<Arc<dyn Detector>>,
}

impl Pictures {
    /// Loads the classifier of the settings and, unless the pictures are faces `cropped` already, the detector.
    ///
    /// # Errors
    /// As [`super::Vision::load`].
    pub fn load(settings: &Settings, cropped: bool) -> Result<Self, VisionError> {
        let engine = Engine::start(&settings.engine)?;
        let detector = if cropped { None } else { Some(detector::load(&engine, settings)?) };
        let classifier = Classifier::load(&engine, &settings.models.folder, &settings.vision.emotion)?;
        Ok(Self { classifier, detector })
    }

    /// The classes, in the order of [`Pictures::classify`].
    pub fn labels(&self) -> Vec<&str> {
        self.classifier.classes()
    }

    /// The face of a BGR picture as the classifier wants it: the whole picture where it is a face already, else its largest
    /// face; `None` where no face is found.
    pub fn crop(&self, picture: &Mat) -> Result<Option<Crop>, VisionError> {
        super::is_frame(picture)?;
        let Some(detector) = &self.detector else { return self.classifier.whole(picture).map(Some) };
        let found = detector.detect(&[picture])?;
        let largest = found.iter().flatten().max_by(|a, b| a.bbox.area().total_cmp(&b.bbox.area()));
        largest.map(|face| self.classifier.crop(picture, face, detector.framing())).transpose()
    }

    /// A probability for each class, for each crop.
    pub fn classify(&self, crops: &[Crop]) -> Result<Vec<Vec<f32>>, VisionError> {
        self.classifier.shares(crops)
    }
}

/// A picture from the bytes of its file (PNG, JPEG, WebP, ...), upright, in BGR; `None` where it cannot be read.
pub fn decode(file: &[u8]) -> Option<Mat> {
    let mut decoder = ImageReader::new(Cursor::new(file)).with_guessed_format().ok()?.into_decoder().ok()?;
    let orientation = decoder.orientation().ok()?;
    let mut picture = DynamicImage::from_decoder(decoder).ok()?;
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    let pixels: Vec<Vec3b> = picture.pixels().map(|pixel| Vec3b::from([pixel[2], pixel[1], pixel[0]])).collect();
    let rows: Vec<&[Vec3b]> = pixels.chunks_exact(picture.width().max(1) as usize).collect();
    Mat::from_slice_2d(&rows).ok().filter(|picture| picture.cols() > 0 && picture.rows() > 0)
}
