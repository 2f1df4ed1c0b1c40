//! The checks of model files.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::Finding;
use crate::config::{DetectorKind, Settings};
use crate::engine::manifest;
use crate::isolation::Decoders;
use crate::pipeline::Pipeline;

/// How to fix a missing model.
const CURE: &str = "visage models pull";

/// Checks the models that the settings need. A detector and a classifier are required. Without one of the others, a
/// part of each result is missing.
pub fn all(settings: &Settings) -> Vec<Finding> {
    required(settings).into_iter().chain(optional(settings)).chain(clip(settings)).collect()
}

/// Loads the operator's own model for `POST /predict` and checks it against its description. Returns `None` if the
/// settings name none.
fn clip(settings: &Settings) -> Option<Finding> {
    let described = &settings.thumbnails.model;
    if described.file.as_os_str().is_empty() {
        return None;
    }
    let path = settings.models.folder.join(&described.file);
    Some(match Pipeline::load(settings, &Decoders::in_this_process(&settings.video)) {
        _ if !path.is_file() => Finding::missing(
            "clip model",
            format!("{} is not there", path.display()),
            "put the file there, or leave thumbnails.model.file empty",
        ),
        Ok(_) => Finding::ok("clip model", format!("{}, a model of your own, at {}", described.name, path.display())),
        Err(error) => Finding::missing("clip model", error.to_string(), "correct [thumbnails.model] or the file"),
    })
}

/// Checks the models without which a part of each result is missing.
fn optional(settings: &Settings) -> Vec<Finding> {
    let (gaze, speech) = (settings.vision.gaze, settings.speech.enabled);
    let parts = [
        ("landmarks", "face_landmarks", gaze, "vision.gaze = false"),
        ("expressions", "face_blendshapes", gaze, "vision.gaze = false"),
        ("speech", "silero_vad", speech, "speech.enabled = false"),
        ("sound quality", "dnsmos", speech, "speech.enabled = false"),
    ];
    let finding = |(name, model, is_wanted, switch): (_, &str, bool, &str)| match listed(model, &settings.models.folder)
    {
        _ if !is_wanted => Finding::ok(name, format!("switched off by {switch}")),
        Ok(()) => Finding::ok(name, format!("{model}, loaded when it is first needed")),
        Err(reason) => {
            let without = manifest::entry(model).ok().and_then(|entry| entry.without.as_deref());
            Finding::warn(name, format!("{reason}; without it {}", without.unwrap_or("a part is left out")), CURE)
        }
    };
    parts.into_iter().map(finding).collect()
}

/// Checks the face detector and the emotion classifier of the settings.
fn required(settings: &Settings) -> Vec<Finding> {
    let folder = &settings.models.folder;
    let names: &[&str] = match settings.vision.detector {
        DetectorKind::Yunet => &["yunet"],
        DetectorKind::Blazeface => &["blazeface"],
        DetectorKind::Auto => &["yunet", "blazeface"],
    };
    let states: Vec<(&str, Result<(), String>)> = names.iter().map(|name| (*name, listed(name, folder))).collect();
    let detector = match states.iter().find(|(_, state)| state.is_ok()) {
        Some((name, _)) => Finding::ok("detector", *name),
        None => {
            let reasons: Vec<String> = states.into_iter().filter_map(|(_, state)| state.err()).collect();
            Finding::missing("detector", reasons.join("; "), CURE)
        }
    };

    let emotion = &settings.vision.emotion;
    let path = folder.join(&emotion.file);
    let is_listed = manifest::entry(&emotion.name).is_ok_and(|entry| entry.is(&emotion.name, &path));
    let classifier = if is_listed {
        match listed(&emotion.name, folder) {
            Ok(()) => Finding::ok("classifier", &emotion.name),
            Err(reason) => Finding::missing("classifier", reason, CURE),
        }
    } else if path.is_file() {
        Finding::ok("classifier", format!("{}, a model of your own, at {}", emotion.name, path.display()))
    } else {
        let found = format!("{} is not there", path.display());
        Finding::missing("classifier", found, "put the file there, or set vision.emotion.file to another")
    };
    vec![detector, classifier]
}

/// Checks whether the file of a listed model exists and has the checksum of the manifest.
fn listed(name: &str, folder: &Path) -> Result<(), String> {
    let entry = manifest::entry(name).map_err(|error| error.to_string())?;
    let path = folder.join(&entry.file);
    if !path.is_file() {
        return Err(format!("{} is not there", path.display()));
    }
    let bytes = std::fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let found = hex::encode(Sha256::digest(&bytes));
    if found == entry.sha256 {
        return Ok(());
    }
    Err(format!("{} is not the {name} of this version: its sha256 is {found}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;

    fn settings() -> Settings {
        Settings::defaults().unwrap()
    }

    #[test]
    fn a_missing_or_changed_model_is_reported_with_the_command_that_downloads_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings();
        settings.models.folder = folder.path().to_owned();
        settings.vision.detector = DetectorKind::Yunet;
        std::fs::write(folder.path().join(&settings.vision.emotion.file), "no model").unwrap();
        for finding in required(&settings) {
            assert_eq!((finding.state, finding.cure.as_deref()), (State::Missing, Some("visage models pull")));
        }
    }

    #[test]
    fn a_classifier_of_ones_own_only_has_to_exist() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings();
        settings.models.folder = folder.path().to_owned();
        settings.vision.emotion.name = "mine".to_owned();
        settings.vision.emotion.file = "mine.onnx".into();
        assert_eq!(required(&settings)[1].state, State::Missing);
        std::fs::write(folder.path().join("mine.onnx"), "").unwrap();
        assert_eq!(required(&settings)[1].state, State::Ok);
    }

    #[test]
    fn a_clip_model_is_checked_only_if_the_settings_name_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings();
        settings.models.folder = folder.path().to_owned();
        assert_eq!(clip(&settings), None);
        settings.thumbnails.model.file = "mine.onnx".into();
        let finding = clip(&settings).unwrap();
        assert!(finding.state == State::Missing && finding.found.contains("mine.onnx"), "{finding:?}");
    }

    #[test]
    fn a_missing_optional_model_is_a_warning_unless_it_is_switched_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings();
        settings.models.folder = folder.path().to_owned();
        for finding in optional(&settings) {
            assert_eq!((finding.state, finding.cure.as_deref()), (State::Warn, Some(CURE)), "{finding:?}");
            assert!(finding.found.contains("is not there; without it"), "{finding:?}");
        }
        (settings.vision.gaze, settings.speech.enabled) = (false, false);
        assert!(optional(&settings).iter().all(|finding| finding.state == State::Ok));
    }
}
