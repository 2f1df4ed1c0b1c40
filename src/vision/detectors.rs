//! Chooses and loads the face detector.

use std::path::Path;
use std::sync::Arc;

use super::VisionError;
use super::blazeface::BlazeFace;
use super::detector::Detector;
use super::yunet::YuNet;
use crate::config::{DetectorKind, Settings};
use crate::engine::{Engine, manifest};

/// Returns the names in the manifest of the models that serve as a detector of this kind, the better one first.
pub fn detectors(kind: DetectorKind) -> &'static [&'static str] {
    match kind {
        DetectorKind::Auto => &["yunet", "blazeface"],
        DetectorKind::Yunet => &["yunet"],
        DetectorKind::Blazeface => &["blazeface"],
    }
}

/// Whether a model of the manifest is a face detector.
pub fn is_detector(name: &str) -> bool {
    detectors(DetectorKind::Auto).contains(&name)
}

/// Loads the detector that the settings name, or for `auto` the first one whose file is there.
pub(super) fn load(engine: &Engine, settings: &Settings) -> Result<Arc<dyn Detector>, VisionError> {
    let (folder, vision) = (&settings.models.folder, &settings.vision);
    for name in detectors(vision.detector) {
        let path = folder.join(&manifest::entry(name)?.file);
        if vision.detector == DetectorKind::Auto && !path.is_file() {
            tracing::debug!(detector = name, "the model file of this detector is missing");
            continue;
        }
        let model = engine.load(name, &path)?;
        tracing::info!(detector = name, asked = ?vision.detector, "face detector loaded");
        return Ok(match *name {
            "blazeface" => Arc::new(BlazeFace::new(model, vision)?),
            _ => Arc::new(YuNet::new(model, vision)?),
        });
    }
    Err(VisionError::NoDetector { folder: shown(folder) })
}

fn shown(folder: &Path) -> String {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).display().to_string()
}
