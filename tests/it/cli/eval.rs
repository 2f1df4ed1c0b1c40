//! `visage eval emotion` on a folder of labelled pictures.

use std::path::Path;
use std::process::{Command, Output};

use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Rect, Scalar, Vec3b};
use serde_json::Value;
use visage::vision::{Vision, decode};

use crate::support::clips::{Models, models, shared};

/// Returns the command that measures the folder's pictures by its labels.
fn command(models: &Path, folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visage"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("VISAGE_MODELS__FOLDER", models)
        .env("VISAGE_ENGINE__DEVICE", "cpu")
        .env("VISAGE_LOG__FILTER", "error")
        .args(["eval", "emotion", "--images"])
        .arg(folder.join("pictures"))
        .arg("--labels")
        .arg(folder.join("labels.csv"))
        .args(more);
    command
}

fn visage(models: &Path, folder: &Path, more: &[&str]) -> Output {
    command(models, folder, more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns a folder with a photograph of five people, a cropped picture of each face, and a picture of a wall. It has
/// no labels yet.
fn folder(photograph: &Path, vision: &Vision) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    let save = |name: &str, picture: &Mat| {
        let rgb = picture.data_typed::<Vec3b>().unwrap().iter().flat_map(|bgr| [bgr[2], bgr[1], bgr[0]]).collect();
        let saved = image::RgbImage::from_raw(picture.cols() as u32, picture.rows() as u32, rgb).unwrap();
        saved.save(pictures.join(name)).unwrap();
    };
    let people = decode(&std::fs::read(photograph).unwrap()).unwrap();
    save("people.jpg", &people);
    save("wall.png", &Mat::new_rows_cols_with_default(240, 320, opencv::core::CV_8UC3, Scalar::all(90.0)).unwrap());
    let faces = vision.detect(&[&people], 5).unwrap().remove(0);
    let whole = Rect::new(0, 0, people.cols(), people.rows());
    let names = faces.iter().enumerate().map(|(n, face)| {
        let b = face.bbox;
        let side = b.height as i32;
        let square = Rect::new((b.centre().x - b.height / 2.0) as i32, b.y as i32, side, side) & whole;
        let name = format!("face {n}.png");
        save(&name, &people.roi(square).unwrap().try_clone().unwrap());
        name
    });
    let names = names.collect();
    (folder, names)
}

fn label(folder: &Path, rows: &[(&str, &str)]) {
    let rows: String = rows.iter().map(|(file, label)| format!("{file},{label}\n")).collect();
    std::fs::write(folder.join("labels.csv"), format!("file,label\n{rows}")).unwrap();
}

fn ready() -> (Models, tempfile::TempDir, Vec<String>) {
    let (models, photograph) = (models(), shared("multi_face.jpg"));
    let (folder, faces) = folder(&photograph, &Vision::load(&models.settings()).unwrap());
    assert_eq!(faces.len(), 5);
    (models, folder, faces)
}

#[test]
fn cropped_faces_give_figures_as_json_and_text_and_a_row_each() {
    let (models, folder, faces) = ready();
    let rows: Vec<_> = faces.iter().map(|face| (face.as_str(), "happiness")).collect();
    label(folder.path(), &rows);
    let each = folder.path().join("each.csv");
    let more = ["--cropped", "--json", "--predictions", each.to_str().unwrap()];
    let found = json(&visage(models.path(), folder.path(), &more));
    assert_eq!(found["count"], 5);
    assert_eq!(found["labels"].as_array().unwrap().len(), 8, "{found}");
    assert_eq!(found["per_class"]["happy"]["support"], 5);
    // Most of the five people smile at the camera.
    assert!(found["accuracy"].as_f64().unwrap() >= 0.6, "{found}");
    assert_eq!(found["accuracy"], found["per_class"]["happy"]["recall"]);
    assert_eq!(found["accuracy"], found["balanced_accuracy"]);
    let confused: u64 = found["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(confused, 5);
    for key in ["macro_f1", "ece", "faces_per_second"] {
        assert!(found[key].as_f64().unwrap() >= 0.0, "{key}: {found}");
    }

    let each = std::fs::read_to_string(each).unwrap();
    assert_eq!(each.lines().count(), 6, "{each}");
    for line in each.lines().skip(1) {
        let cells: Vec<_> = line.split(',').collect();
        assert_eq!(cells[1], "happy");
        let sum: f64 = cells[3..].iter().map(|cell| cell.parse::<f64>().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{line}");
    }

    let told = visage(models.path(), folder.path(), &["--cropped"]);
    assert!(told.status.success());
    let told = text(&told.stdout);
    assert!(told.contains("accuracy") && told.contains("contempt") && told.contains("faces a second"), "{told}");
}

#[test]
fn votes_give_the_classes_and_a_majority_can_be_asked_for() {
    let (models, folder, faces) = ready();
    let votes = ["9,1", "5,5", "6,4", "1,9", "1,1"];
    let rows: String = faces.iter().zip(votes).map(|(face, votes)| format!("{face},{votes},0\n")).collect();
    std::fs::write(folder.path().join("labels.csv"), format!("Image name,happiness,sadness,unknown\n{rows}")).unwrap();
    let all = json(&visage(models.path(), folder.path(), &["--cropped", "--json"]));
    assert_eq!((&all["count"], &all["without_class"]), (&4.into(), &1.into()), "{all}");
    assert_eq!((&all["per_class"]["happy"]["support"], &all["per_class"]["sad"]["support"]), (&3.into(), &1.into()));
    let interval = &all["intervals"]["accuracy"];
    assert!(
        interval[0].as_f64() <= all["accuracy"].as_f64() && all["accuracy"].as_f64() <= interval[1].as_f64(),
        "{all}"
    );
    let majority = json(&visage(models.path(), folder.path(), &["--cropped", "--json", "--majority"]));
    assert_eq!((&majority["count"], &majority["without_class"]), (&3.into(), &2.into()), "{majority}");

    label(folder.path(), &[(&faces[0], "happy")]);
    let refused = visage(models.path(), folder.path(), &["--cropped", "--majority"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("--majority needs votes"), "{}", text(&refused.stderr));
}

#[test]
fn groups_of_pictures_are_compared_with_all_others() {
    let (models, folder, faces) = ready();
    // The labels of the second group are wrong on purpose.
    let rows = faces.iter().zip(["happy,a", "happy,a", "happy,a", "fear,b", "fear,b"]);
    let rows: String = rows.map(|(face, rest)| format!("{face},{rest}\n")).collect();
    std::fs::write(folder.path().join("labels.csv"), format!("file,label,Light\n{rows}")).unwrap();
    let found = json(&visage(models.path(), folder.path(), &["--cropped", "--json", "--by", "light"]));
    let groups = &found["groups"]["light"];
    let right = groups["a"]["accuracy"]["value"].as_f64().unwrap();
    assert!(right >= 0.6, "{groups}");
    let worse = &groups["b"]["accuracy"];
    assert_eq!((&worse["value"], &worse["pictures"]), (&0.0.into(), &2.into()), "{groups}");
    assert_eq!(worse["more_than_others"]["value"].as_f64(), Some(-right));
    assert!(worse["interval"][1].as_f64() > Some(0.6), "two pictures say little: {worse}");
    assert!(groups["a"]["recall"]["fear"].is_null() && groups["b"]["recall"]["fear"]["pictures"] == 2, "{groups}");
    assert!(groups["b"]["recall"]["fear"]["more_than_others"].is_null(), "no other picture shows fear: {groups}");

    let refused = visage(models.path(), folder.path(), &["--cropped", "--by", "age"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("names no column age"), "{}", text(&refused.stderr));
}

#[test]
fn uncropped_pictures_go_through_the_face_detector() {
    let (models, folder, _) = ready();
    label(folder.path(), &[("people.jpg", "happy"), ("wall.png", "neutral")]);
    let found = json(&visage(models.path(), folder.path(), &["--json"]));
    assert_eq!(found["count"], 1, "{found}");
    assert_eq!(found["without_face"], serde_json::json!(["wall.png"]));

    label(folder.path(), &[("wall.png", "neutral")]);
    let none = visage(models.path(), folder.path(), &[]);
    assert_eq!(none.status.code(), Some(3));
    assert!(text(&none.stderr).contains("no face was found"), "{}", text(&none.stderr));
}

#[test]
fn a_classifier_of_seven_classes_has_figures_of_seven_classes() {
    let (models, folder, faces) = ready();
    let seven = ("VISAGE_VISION__EMOTION__LABELS", "neutral,happy,surprise,sad,angry,disgust,fear,-");
    let run = |rows: &[(&str, &str)]| {
        label(folder.path(), rows);
        command(models.path(), folder.path(), &["--cropped", "--json"]).env(seven.0, seven.1).output().unwrap()
    };
    let found = json(&run(&[(&faces[0], "happy")]));
    assert_eq!(found["confusion"].as_array().unwrap().len(), 7, "{found}");
    let refused = run(&[(&faces[0], "contempt")]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("\"contempt\""), "{}", text(&refused.stderr));
}

#[test]
fn errors_in_labels_and_pictures_name_the_cause() {
    let (models, folder, faces) = ready();
    std::fs::write(folder.path().join("pictures/notes.png"), "no picture").unwrap();
    std::fs::write(folder.path().join("pictures/empty.png"), "").unwrap();
    for (file, said) in [
        ("notes.png,sad", "notes.png is no picture"),
        ("empty.png,sad", "empty.png is no picture"),
        ("nosuch.png,sad", "nosuch.png"),
        ("../labels.csv,sad", "is no file in"),
        ("people.jpg,glad", "\"glad\""),
    ] {
        std::fs::write(folder.path().join("labels.csv"), format!("file,label\n{},happy\n{file}\n", faces[0])).unwrap();
        let refused = visage(models.path(), folder.path(), &["--cropped"]);
        assert_eq!(refused.status.code(), Some(3), "{file}: {}", text(&refused.stdout));
        assert!(text(&refused.stderr).contains(said), "{file}: {}", text(&refused.stderr));
        assert!(refused.stdout.is_empty(), "{file}");
    }
    // An output file that cannot be written is reported before the pictures are read.
    let refused = visage(models.path(), folder.path(), &["--cropped", "--predictions", "nosuch/each.csv"]);
    assert_eq!(refused.status.code(), Some(2));
}
