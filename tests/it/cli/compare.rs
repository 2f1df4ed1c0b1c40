//! `visage compare`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::clips::{Clips, models, shared};

fn visage(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visage"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("VISAGE_LOG__FILTER", "error").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn compare(arguments: &[&str]) -> String {
    let output = visage(&[&["compare"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = visage(&[&["compare"], arguments].concat());
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    (output.status.code(), text(&output.stderr))
}

/// Writes a result in which the person has this share of happiness, within 10 points.
fn write(clips: &Clips, name: &str, result: &Value, happy: f64) -> PathBuf {
    let mut result = result.clone();
    let face = &mut result["faces"][0];
    face["emotions"]["happy"] = json!(happy);
    face["intervals"]["emotions"]["happy"] = json!([happy - 10.0, happy + 10.0]);
    clips.write(name, &serde_json::to_vec(&result).unwrap())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn takes_and_groups_are_compared_and_differences_beyond_chance_are_marked() {
    let (models, clips) = (models(), Clips::new());
    let clip = shared("single_face.mp4");
    let output = Command::new(env!("CARGO_BIN_EXE_visage"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("VISAGE_MODELS__FOLDER", models.path())
        .env("VISAGE_ENGINE__DEVICE", "cpu")
        .args(["analyze", path(&clip), "--sample-every", "20"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();

    // A result compared with itself differs in nothing.
    let own = clips.write("own.json", &output.stdout);
    let same = compare(&[path(&own), path(&own)]);
    assert!(same.contains("calmness") && same.contains("person 1 of 1"), "{same}");
    assert_eq!(same.matches('*').count(), 1, "the footnote only: {same}");

    let takes: Vec<PathBuf> = [20.0, 25.0, 30.0, 70.0, 75.0, 80.0]
        .iter()
        .enumerate()
        .map(|(at, happy)| {
            write(&clips, &format!("{}-{at}.json", if at < 3 { "before" } else { "after" }), &result, *happy)
        })
        .collect();
    let (low, high) = (path(&takes[0]), path(&takes[5]));
    let told = compare(&[low, high]);
    let happy = told.lines().find(|line| line.starts_with("happy")).unwrap();
    assert!(happy.contains("20.0 (10.0 to 30.0)") && happy.contains("80.0 (70.0 to 90.0)"), "{happy}");
    assert!(happy.ends_with("+60.0 (45.9 to 74.1) *"), "{happy}");
    let close = compare(&[low, path(&takes[1])]);
    let happy = close.lines().find(|line| line.starts_with("happy")).unwrap();
    assert!(happy.ends_with("+5.0 (-9.1 to 19.1)"), "{happy}");

    // Three results: the others are compared with the first.
    let json: Value = serde_json::from_str(&compare(&[low, path(&takes[1]), high, "--json"])).unwrap();
    let differences = json["differences"].as_array().unwrap();
    assert_eq!((differences.len(), &differences[1]["from"], &differences[1]["to"]), (2, &json!(low), &json!(high)));
    assert_eq!(
        differences[1]["figures"]["happy"],
        json!({"value": 60.0, "interval": [45.858, 74.142], "beyond_chance": true})
    );
    assert_eq!(differences[0]["figures"]["happy"]["beyond_chance"], false);
    assert_eq!(json["subjects"][0]["takes"], json!([{"result": low, "person": 1, "people": 1}]));

    let pattern = |name: &str| format!("{name}={}", path(&clips.path(&format!("{name}-?.json"))));
    let (before, after) = (pattern("before"), pattern("after"));
    let groups: Value = serde_json::from_str(&compare(&["--group", &before, "--group", &after, "--json"])).unwrap();
    let happy = |at: usize| &groups["subjects"][at]["figures"]["happy"];
    assert_eq!((&happy(0)["value"], &happy(1)["value"], &happy(0)["takes"]), (&json!(25.0), &json!(75.0), &json!(3)));
    // Three takes 5 points apart: 4.303 x 5 / sqrt(3) on both sides.
    assert_eq!(happy(0)["interval"], json!([12.578, 37.422]));
    assert_eq!(groups["differences"][0]["figures"]["happy"]["beyond_chance"], true);
    let told = compare(&["--group", &before, "--group", &after]);
    assert!(told.contains("before: 3 results") && told.contains("+50.0"), "{told}");

    // Figures of other definitions are not compared.
    let mut older = result.clone();
    older["metrics_version"] = json!(1);
    let older = clips.write("older.json", &serde_json::to_vec(&older).unwrap());
    let told = compare(&[path(&own), path(&older)]);
    let line = |name: &str| told.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("calmness").ends_with("not comparable: other metrics_version"), "{told}");
    assert!(line("valence").ends_with(')'), "{told}");

    let picture = clips.write("picture.json", br#"{"width": 1, "height": 1, "faces": []}"#);
    let mut nobody = result.clone();
    nobody["faces"] = json!([]);
    let nobody = clips.write("nobody.json", &serde_json::to_vec(&nobody).unwrap());
    let wrong = clips.write("wrong.json", b"{\"video\": 1}");
    let own = path(&own);
    for (arguments, code, says) in [
        (vec![own], 2, "at least two"),
        (vec![], 2, "Usage"),
        (vec!["--group", &before], 2, "at least two"),
        (vec!["--group", "before", "--group", &after], 2, "pattern"),
        (vec!["--group", "a=/nowhere/*.json", "--group", &after], 2, "no file"),
        (vec!["--group", "a=[", "--group", &after], 2, "--group a=["),
        (vec![own, "--group", &after], 2, "--group"),
        (vec![own, "/nowhere.json"], 3, "cannot be read"),
        (vec![own, path(&wrong)], 3, "no result"),
        (vec![own, path(&clip)], 3, "no result"),
        (vec![own, path(&picture)], 3, "picture"),
        (vec![own, path(&nobody)], 3, "no face was found"),
        (vec![own, own, "--person", "2"], 3, "no person 2"),
    ] {
        let (found, said) = refused(&arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}
