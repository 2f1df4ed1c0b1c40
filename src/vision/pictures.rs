//! Runs the classifier on single pictures, to measure its accuracy (`visage eval`).

use std::io::Cursor;
use std::sync::Arc;

use image::{DynamicImage, ImageDecoder, ImageReader};
use opencv::core::{Mat, MatTraitConst, Vec3b};

use super::detector::Detector;
use super::detectors;
use super::emotion::Classifier;
use super::{Crop, VisionError};
use crate::config::Settings;
use crate::engine::Engine;

/// Classifies single pictures. It returns all classes of the classifier, including those that analyses leave out.
pub struct PictureClassifier {
    classifier: Classifier,
    /// `None` if each picture is a cropped face.
    detector: Option<Arc<dyn Detector>>,
}

impl PictureClassifier {
    /// Loads the classifier of the settings. Loads the detector too, unless the pictures are `cropped` faces.
    ///
    /// # Errors
    /// The same as for [`super::Vision::load`].
    pub fn load(settings: &Settings, cropped: bool) -> Result<Self, VisionError> {
        let engine = Engine::start(&settings.engine)?;
        let detector = if cropped { None } else { Some(detectors::load(&engine, settings)?) };
        let classifier = Classifier::load(&engine, &settings.models.folder, &settings.vision.emotion)?;
        Ok(Self { classifier, detector })
    }

    /// Returns the labels of the classes, in the order of [`PictureClassifier::classify`].
    pub fn labels(&self) -> Vec<&str> {
        self.classifier.classes()
    }

    /// Prepares the face of a BGR picture for the classifier: the whole picture if it is a cropped face, otherwise its
    /// largest face. Returns `None` if no face is found.
    pub fn crop(&self, picture: &Mat) -> Result<Option<Crop>, VisionError> {
        super::is_frame(picture)?;
        let Some(detector) = &self.detector else { return self.classifier.whole(picture).map(Some) };
        let found = detector.detect(&[picture])?;
        let largest = found.iter().flatten().max_by(|a, b| a.bbox.area().total_cmp(&b.bbox.area()));
        largest.map(|face| self.classifier.crop(picture, face, detector.framing())).transpose()
    }

    /// Returns the probability of each class for each crop.
    pub fn classify(&self, crops: &[Crop]) -> Result<Vec<Vec<f32>>, VisionError> {
        self.classifier.shares(crops)
    }
}

/// Decodes a picture file (PNG, JPEG, WebP, ...) to an upright BGR picture. Returns `None` if it cannot be read.
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
