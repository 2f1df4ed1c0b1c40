//! Decodes files of single pictures, and runs the classifier on them to measure its accuracy (`visage eval`).
//!
//! The crate `image` decodes, which is written in Rust: FFmpeg is not used, and the pictures need no child process.

use std::io::Cursor;
use std::sync::Arc;

use image::error::ImageError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use opencv::core::{CV_8UC3, Mat, MatTraitManual, Vec3b};

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

/// Memory in bytes that a decoder may allocate for a pixel: four channels of 16 bits, and as much for its own use.
const BYTES_PER_PIXEL: u64 = 16;
/// Memory in bytes that a decoder may allocate for a picture of any size.
const LEAST_MEMORY: u64 = 16 << 20;

/// Why a file is not analyzed as a picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureFileError {
    #[error("the file is neither JPEG nor PNG nor WebP")]
    UnknownFormat,
    #[error("the picture has {width} x {height} pixels; the limit is {limit} pixels")]
    TooLarge { width: u32, height: u32, limit: u64 },
    #[error("the picture is damaged: {reason}")]
    Damaged { reason: String },
}

/// Decodes a JPEG, PNG or WebP file to an upright BGR picture. Of an animation, decodes the first picture. Applies the
/// orientation in the EXIF data. Blocks.
pub fn decode_picture(file: &[u8], max_pixels: u64) -> Result<Mat, PictureFileError> {
    let format = image::guess_format(file).map_err(|_| PictureFileError::UnknownFormat)?;
    if !matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP) {
        return Err(PictureFileError::UnknownFormat);
    }
    let damaged = |error: ImageError| PictureFileError::Damaged { reason: error.to_string() };
    // The decoder fills the missing part of a JPEG file with grey and reports no error.
    if format == ImageFormat::Jpeg && !has_end(file) {
        return Err(PictureFileError::Damaged { reason: "the file ends before the end of the picture".to_owned() });
    }
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_pixels.saturating_mul(BYTES_PER_PIXEL).max(LEAST_MEMORY));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(PictureFileError::TooLarge { width, height, limit: max_pixels });
    }
    // Broken EXIF data does not make a picture unusable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    bgr(picture).ok_or_else(|| PictureFileError::Damaged { reason: "it has no pixels".to_owned() })
}

/// Whether a JPEG file has an end-of-image marker after the beginning of its first scan (ITU-T T.81, section B). In the
/// data of a scan, the byte FF is followed by 0 or a restart marker. Segments before the scan may have pictures of their
/// own, and any bytes may follow the end.
fn has_end(jpeg: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xFF, marker, rest @ ..]) = jpeg.get(at..) {
        match (marker, rest) {
            (0xDA, scan) => return scan.windows(2).any(|pair| pair == [0xFF, 0xD9]),
            // A byte FF may be repeated before a marker.
            (0xFF, _) => at += 1,
            (_, [high, low, ..]) => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => return false,
        }
    }
    false
}

/// Decodes a picture file (PNG, JPEG, WebP, ...) to an upright BGR picture. Returns `None` if it cannot be read.
pub fn decode(file: &[u8]) -> Option<Mat> {
    let mut decoder = ImageReader::new(Cursor::new(file)).with_guessed_format().ok()?.into_decoder().ok()?;
    let orientation = decoder.orientation().ok()?;
    let mut picture = DynamicImage::from_decoder(decoder).ok()?;
    picture.apply_orientation(orientation);
    bgr(picture)
}

/// Converts a picture. Returns `None` for a picture without pixels.
fn bgr(picture: DynamicImage) -> Option<Mat> {
    let picture = picture.into_rgb8();
    let (width, height) = (i32::try_from(picture.width()).ok()?, i32::try_from(picture.height()).ok()?);
    if width == 0 || height == 0 {
        return None;
    }
    let mut converted = Mat::new_rows_cols_with_default(height, width, CV_8UC3, 0.into()).ok()?;
    for (row, line) in (0..height).zip(picture.chunks_exact(3 * picture.width() as usize)) {
        let pixels = line.chunks_exact(3).map(|pixel| Vec3b::from([pixel[2], pixel[1], pixel[0]]));
        converted.at_row_mut::<Vec3b>(row).ok()?.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = pixel);
    }
    Some(converted)
}

#[cfg(test)]
mod tests {
    use image::{ImageEncoder, Rgb, RgbImage};
    use opencv::core::MatTraitConst;

    use super::*;

    /// A picture of 4 by 2 pixels: red at the top left, blue elsewhere.
    fn small() -> RgbImage {
        RgbImage::from_fn(4, 2, |x, y| if (x, y) == (0, 0) { Rgb([250, 10, 0]) } else { Rgb([0, 20, 240]) })
    }

    fn png(exif: Option<&[u8]>) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut file);
        if let Some(exif) = exif {
            encoder.set_exif_metadata(exif.to_vec()).unwrap();
        }
        encoder.write_image(&small(), 4, 2, image::ExtendedColorType::Rgb8).unwrap();
        file
    }

    /// EXIF data with only an orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[orientation, 0, 0, 0, 0, 0, 0, 0]].concat()
    }

    fn at(picture: &Mat, row: i32, column: i32) -> [u8; 3] {
        picture.at_2d::<Vec3b>(row, column).unwrap().0
    }

    #[test]
    fn a_picture_is_decoded_to_bgr_and_turned_by_its_exif_data() {
        let plain = decode_picture(&png(None), 8).unwrap();
        assert_eq!(
            (plain.cols(), plain.rows(), at(&plain, 0, 0), at(&plain, 1, 3)),
            (4, 2, [0, 10, 250], [240, 20, 0])
        );
        let turned = decode_picture(&png(Some(&exif(6))), 8).unwrap();
        assert_eq!((turned.cols(), turned.rows(), at(&turned, 0, 1)), (2, 4, [0, 10, 250]));
        let broken = decode_picture(&png(Some(b"II*\0\xFF\xFF\xFF\xFF")), 8).unwrap();
        assert_eq!((broken.cols(), at(&broken, 0, 0)), (4, [0, 10, 250]));
    }

    #[test]
    fn other_formats_large_pictures_and_damaged_ones_are_refused() {
        let mut bmp = Cursor::new(Vec::new());
        small().write_to(&mut bmp, ImageFormat::Bmp).unwrap();
        for other in [&b""[..], b"GIF89a\x01\0\x01\0", bmp.get_ref(), b"some text", b"\0\0\0\x18ftypavif"] {
            assert_eq!(decode_picture(other, 8).unwrap_err(), PictureFileError::UnknownFormat);
        }
        let file = png(None);
        let too_large = PictureFileError::TooLarge { width: 4, height: 2, limit: 7 };
        assert_eq!(decode_picture(&file, 7).unwrap_err(), too_large);
        for end in [8, 20, 40, file.len() - 20] {
            assert!(matches!(decode_picture(&file[..end], 8), Err(PictureFileError::Damaged { .. })), "{end}");
        }
    }

    #[test]
    fn a_jpeg_file_that_is_cut_off_anywhere_is_refused() {
        let noise = RgbImage::from_fn(64, 64, |x, y| Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (x ^ y) as u8]));
        let mut file = Cursor::new(Vec::new());
        noise.write_to(&mut file, ImageFormat::Jpeg).unwrap();
        let file = file.into_inner();
        assert!(decode_picture(&file, 4096).is_ok());
        for end in (4..file.len()).step_by(7).chain([file.len() - 1]) {
            let cut = decode_picture(&file[..end], 4096);
            assert!(matches!(cut, Err(PictureFileError::Damaged { .. })), "{end} of {}: {cut:?}", file.len());
        }
        // Some cameras append a video, and the preview in the EXIF data has an end of its own.
        let preview = [&[0xFF, 0xD8, 0xFF, 0xE1, 0, 8, 0xFF, 0xD8, 0xFF, 0xDA, 0xFF, 0xD9], &file[2..]].concat();
        assert!(decode_picture(&[&preview[..], b"\0\0\0\x18ftyp"].concat(), 4096).is_ok());
        assert!(decode_picture(&preview[..preview.len() - 9], 4096).is_err());
    }

    #[test]
    fn a_header_that_announces_a_huge_picture_is_refused_without_decoding() {
        let mut file = png(None);
        file[16..24].copy_from_slice(&[0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF]);
        assert!(decode_picture(&file, 30_000_000).is_err());
    }
}
