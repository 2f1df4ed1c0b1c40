//! `visage analyze` for a single picture: prints its faces.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;

use super::Failure;
use crate::analysis::{Detail, FailureReason, Language, ModelUsed, Options, People, PictureFace, Warning};
use crate::config::Settings;
use crate::isolation::Decoders;
use crate::media::{self, ProbeError};
use crate::pipeline::{PictureError, PictureOptions, Pipeline, PipelineError, WholePicture};
use crate::report;

/// The printed result.
#[derive(Serialize)]
struct Printed {
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

/// Reads the faces of a picture and prints them. Of the options, only those about faces have an effect.
pub fn run(file: &Path, options: Options, settings: &Settings) -> Result<(), Failure> {
    let input = |reason: String| Failure::Input(format!("{}: {reason}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| input(error.to_string()))?;
    let decoders = Decoders::in_this_process(&settings.video);
    let options = Options { speech: false, ..options };
    let pipeline = Pipeline::load_for(settings, &decoders, options).map_err(|error| failure(&error))?;
    let read = pipeline.read_picture(
        &bytes,
        PictureOptions {
            max_faces: options.max_faces,
            gaze: options.gaze,
            expressions: options.detail == Some(Detail::Expressions),
            whole: WholePicture::Never,
            max_pixels: settings.pictures.max_pixels,
        },
    );
    let read = read.map_err(|error| match error {
        PictureError::Pipeline(error) => failure(&error),
        PictureError::TooLarge { width, height, limit } => {
            let reason = FailureReason::PictureTooLarge { width, height, limit };
            input(report::failure(&reason, Language::EN))
        }
        error => input(error.to_string()),
    })?;
    let printed = Printed {
        width: read.width,
        height: read.height,
        faces: PictureFace::of_picture(&mut People::default(), &read.faces, read.by_eyes),
        models: read.models,
        warning_codes: read.warnings,
    };
    let text = serde_json::to_string_pretty(&printed).map_err(|error| Failure::Run(error.to_string()))?;
    super::print(&format!("{text}\n"))?;
    media::exit_now()
}

fn failure(error: &PipelineError) -> Failure {
    if error.is_missing() {
        return Failure::Missing(format!("{error}; run `visage doctor` for details"));
    }
    Failure::Run(error.to_string())
}
