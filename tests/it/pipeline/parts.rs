//! Optional parts of an analysis.

use visage::analysis::{Detail, Findings, Options};
use visage::pipeline::Pipeline;

use super::{EVERY_20TH, analyze};
use crate::support::clips::{Models, models, shared};
use crate::support::decoders;

const EXPRESSIONS: Options = Options { detail: Some(Detail::Expressions), ..EVERY_20TH };

fn with_movements() -> (Pipeline, Models) {
    let models = models().with("face_blendshapes.onnx");
    let pipeline = Pipeline::load(&models.settings(), &decoders(&models.settings())).unwrap();
    (pipeline, models)
}

/// The mean of a movement over the samples of an interval.
fn mean(found: &Findings, names: [&str; 2], from: f64, to: f64) -> f64 {
    let rows = found.timeline.rows.iter().filter(|row| row.time_s >= from && row.time_s < to);
    let values: Vec<f64> =
        rows.filter_map(|row| row.expressions).flat_map(|seen| names.map(|name| seen.get(name).unwrap())).collect();
    assert!(!values.is_empty(), "{from} to {to}");
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn movements_show_smiles_and_shut_eyes() {
    let (pipeline, _models) = with_movements();
    let man = shared("single_face.mp4");
    let woman = shared("sad_then_happy.mp4");
    let smile = ["mouthSmileLeft", "mouthSmileRight"];
    let found = analyze(&pipeline, &man, Options { sample_every: 5, ..EXPRESSIONS }).unwrap();
    let (before, during) = (mean(&found, smile, 0.0, 0.1), mean(&found, smile, 1.0, 2.4));
    println!("smile before {before:.2}, during {during:.2}");
    assert!(before < 0.3 && during > 0.6, "{before} {during}");
    assert!(found.timeline.rows.iter().all(|row| row.expressions.is_some()));
    assert!(found.analysis.models.iter().any(|model| model.name == "face_blendshapes"));

    let found = analyze(&pipeline, &woman, Options { sample_every: 5, ..EXPRESSIONS }).unwrap();
    let blink = ["eyeBlinkLeft", "eyeBlinkRight"];
    let (shut, open) = (mean(&found, blink, 1.0, 4.5), mean(&found, blink, 11.0, 17.0));
    let (weeps, laughs) = (mean(&found, smile, 1.0, 7.0), mean(&found, smile, 12.0, 17.0));
    println!("blink with eyes shut {shut:.2}, else {open:.2}; smile {weeps:.2} and {laughs:.2}");
    assert!(shut > 0.5 && shut > open + 0.2, "{shut} {open}");
    // Weeping widens the mouth too.
    assert!(laughs > 0.6 && laughs > weeps + 0.2, "{weeps} {laughs}");
}

#[test]
fn movements_are_omitted_unless_requested() {
    let (pipeline, models) = with_movements();
    let man = shared("single_face.mp4");
    // An invalid model file is not loaded if movements are not requested.
    let path = models.path().join("face_blendshapes.onnx");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"not a model").unwrap();
    let found = analyze(&pipeline, &man, EVERY_20TH).unwrap();
    assert!(
        !found.timeline.has_expressions() && found.analysis.warnings.iter().all(|said| !said.contains("movements"))
    );
    // If movements are requested, the rest of the result is complete, and a warning states the missing part.
    let found = analyze(&pipeline, &man, EXPRESSIONS).unwrap();
    let said = found.analysis.warnings.iter().any(|said| said.contains("face_blendshapes is not installed"));
    assert!(!found.timeline.has_expressions() && said, "{:?}", found.analysis.warnings);
    let mut settings = models.settings();
    settings.vision.gaze = false;
    let found = analyze(&Pipeline::load(&settings, &decoders(&settings)).unwrap(), &man, EXPRESSIONS).unwrap();
    let said = found.analysis.warnings.iter().any(|said| said.contains("landmarks switched off"));
    assert!(said, "{:?}", found.analysis.warnings);
}

#[test]
fn models_of_omitted_parts_are_not_loaded() {
    let talk = shared("speech_and_face.mp4");
    let models = models().with("silero_vad.onnx").with("dnsmos_sig_bak_ovr.onnx");
    // Invalid model files cause an error if they are loaded.
    for file in ["face_landmarks.onnx", "silero_vad.onnx", "dnsmos_sig_bak_ovr.onnx"] {
        let path = models.path().join(file);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"not a model").unwrap();
    }
    let pipeline = Pipeline::load(&models.settings(), &decoders(&models.settings())).unwrap();
    let sparse = Options { sample_every: 200, ..EVERY_20TH };
    let plain = analyze(&pipeline, &talk, Options { gaze: false, speech: false, ..sparse }).unwrap().analysis;
    let names: Vec<&str> = plain.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["yunet", "emotion"]);
    assert!(plain.speech.is_none() && !plain.sees_eyes() && plain.summary.eye_contact.is_some());
    let said = |words: &str| plain.warnings.iter().any(|said| said.contains(words));
    assert!(said("the request switched that off") && said("the direction of the head only"), "{:?}", plain.warnings);
    // If the parts are requested, those that cannot be loaded are omitted with a warning.
    let all = analyze(&pipeline, &talk, sparse).unwrap().analysis;
    let said = |words: &str| all.warnings.iter().any(|said| said.contains(words));
    assert!(
        said("silero_vad, which finds speech, is not installed") && said("the direction of the head only"),
        "{:?}",
        all.warnings
    );
}
