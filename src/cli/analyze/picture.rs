//! A single picture: whether a file is one, its faces, and the words for its errors.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;

use crate::analysis::{
    Detail, FailureReason, Language, ModelUsed, Options, People, PictureFace, TimelineRow, Warning, picture_rows,
};
use crate::cli::Failure;
use crate::config::Settings;
use crate::media::{self, ProbeError};
use crate::pipeline::{PictureError, PictureOptions, Pipeline, PipelineError, WholePicture};
use crate::report;

/// The size of a file in bytes for each pixel of the largest picture. No format needs as many.
const MOST_BYTES_PER_PIXEL: u64 = 16;

/// What was read from a picture.
pub struct Picture {
    pub printed: Printed,
    /// One row for each face, as for a sample of a video.
    pub rows: Vec<TimelineRow>,
}

/// The result as JSON.
#[derive(Serialize)]
pub struct Printed {
    /// In pixels, upright.
    width: u32,
    height: u32,
    faces: Vec<PictureFace>,
    models: Vec<ModelUsed>,
    warning_codes: Vec<Warning>,
}

/// Whether a file is a picture in a format that is read. A file that cannot be read is none. A pipe is none either,
/// because its first bytes can be read only once.
pub fn is_picture(file: &Path, settings: &Settings) -> bool {
    let mut head = Vec::new();
    let is_file = std::fs::metadata(file).is_ok_and(|about| about.is_file());
    let mut read = || File::open(file)?.take(media::HEAD as u64).read_to_end(&mut head);
    if !is_file || read().is_err() {
        return false;
    }
    match media::sniff(&head, &settings.video) {
        Err(ProbeError::Picture { format }) => matches!(&*format, "JPEG" | "PNG" | "WebP"),
        _ => false,
    }
}

/// Reads the file of a picture into memory. Refuses a file that is larger than any picture within the limit of pixels.
pub fn bytes(file: &Path, settings: &Settings) -> io::Result<Vec<u8>> {
    let most = settings.pictures.max_pixels.saturating_mul(MOST_BYTES_PER_PIXEL);
    let mut bytes = Vec::new();
    File::open(file)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("the file has more than {most} bytes")));
    }
    Ok(bytes)
}

impl Picture {
    /// Reads the faces of a picture. Of the options, only those about faces have an effect.
    pub fn read(
        pipeline: &Pipeline,
        bytes: &[u8],
        options: Options,
        settings: &Settings,
    ) -> Result<Self, PictureError> {
        let wanted = PictureOptions {
            max_faces: options.max_faces,
            gaze: options.gaze,
            expressions: options.detail == Some(Detail::Expressions),
            whole: WholePicture::Never,
            max_pixels: settings.pictures.max_pixels,
        };
        let read = pipeline.read_picture(bytes, wanted)?;
        let faces = PictureFace::of_picture(&mut People::default(), &read.faces, read.by_eyes);
        let rows = picture_rows(&mut People::default(), &read.faces, read.by_eyes);
        let (models, warning_codes) = (read.models, read.warnings);
        Ok(Self { printed: Printed { width: read.width, height: read.height, faces, models, warning_codes }, rows })
    }
}

/// The sentence for a picture that was not read.
pub fn words(error: &PictureError) -> String {
    match error {
        PictureError::TooLarge { width, height, limit } => {
            let reason = FailureReason::PictureTooLarge { width: *width, height: *height, limit: *limit };
            report::failure(&reason, Language::EN)
        }
        error => error.to_string(),
    }
}

/// The failure for an error that is not the picture's.
pub fn failure(error: &PipelineError) -> Failure {
    if error.is_missing() {
        return Failure::Missing(format!("{error}; run `visage doctor` for details"));
    }
    Failure::Run(error.to_string())
}
