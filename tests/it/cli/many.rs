//! `visage analyze --out`: many inputs in one process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::clips::{Clips, Models, models, shared};

/// Returns the command that analyzes with these models, every 40th frame.
fn command(models: &Path, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visage"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("VISAGE_MODELS__FOLDER", models)
        .env("VISAGE_ENGINE__DEVICE", "cpu")
        .env("VISAGE_LOG__FILTER", "error")
        .args(["analyze", "--sample-every", "40"])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder of inputs and a folder of results.
struct Study {
    models: Models,
    clips: Clips,
}

impl Study {
    fn new() -> Self {
        let study = Self { models: models(), clips: Clips::new() };
        std::fs::create_dir(study.input("")).unwrap();
        study
    }

    /// Returns the path of an input.
    fn input(&self, name: impl AsRef<Path>) -> PathBuf {
        self.clips.path("study").join(name)
    }

    /// Copies a clip to an input. Makes its folder.
    fn add(&self, clip: &str, name: impl AsRef<Path>) -> PathBuf {
        let path = self.input(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(shared(clip), &path).unwrap();
        path
    }

    fn out(&self) -> PathBuf {
        self.clips.path("out")
    }

    fn table(&self) -> PathBuf {
        self.clips.path("table.csv")
    }

    /// Returns the command that analyzes all inputs and makes a table.
    fn command(&self, more: &[&str]) -> Command {
        let (study, out, table) = (self.input(""), self.out(), self.table());
        let arguments = [study.as_os_str(), "--out".as_ref(), out.as_ref(), "--table".as_ref(), table.as_ref()];
        let more = more.iter().map(OsStr::new);
        command(self.models.path(), &arguments.into_iter().chain(more).collect::<Vec<_>>())
    }

    fn run(&self, more: &[&str]) -> Output {
        let output = self.command(more).output().unwrap();
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        output
    }

    fn succeed(&self, more: &[&str]) -> String {
        let output = self.run(more);
        assert!(output.status.success(), "{}", words(&output));
        words(&output)
    }

    /// Returns the files of the results and the times of their last changes.
    fn files(&self) -> BTreeMap<OsString, SystemTime> {
        let entries = std::fs::read_dir(self.out()).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name(), entry.metadata().unwrap().modified().unwrap())
        });
        entries.collect()
    }

    /// Returns the rows of the table as maps from the names of the columns.
    fn rows(&self) -> Vec<BTreeMap<String, String>> {
        let mut table = csv::Reader::from_path(self.table()).unwrap();
        table.deserialize().map(Result::unwrap).collect()
    }

    /// Returns the result in a row of the table as JSON.
    fn json(&self, row: &BTreeMap<String, String>) -> Value {
        let path = self.out().join(format!("{}.json", row["result"]));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }
}

/// Returns the values of a column.
fn column<'a>(rows: &'a [BTreeMap<String, String>], name: &str) -> Vec<&'a str> {
    rows.iter().map(|row| &*row[name]).collect()
}

#[test]
fn a_bad_file_fails_alone_and_the_table_has_a_row_for_each_person() {
    let study = Study::new();
    study.add("single_face.mp4", "p1/take.mp4");
    study.add("single_face.mp4", "p2/take.mp4");
    study.add("no_face.mp4", "p3/nobody.mp4");
    study.add("multi_face.jpg", "p4/group.jpg");
    std::fs::write(study.input("p2/bad.mp4"), "no video").unwrap();
    std::fs::write(study.input("p2/notes.txt"), "no input").unwrap();
    std::os::unix::fs::symlink(study.input(""), study.input("p3/loop")).unwrap();
    let output = study.run(&[]);
    assert_eq!(output.status.code(), Some(5), "{}", words(&output));
    let said = words(&output);
    assert!(said.contains("p2/bad.mp4: ") && said.contains("not a video"), "{said}");
    assert!(said.contains("4 of 5 inputs have a result") && said.contains("1 failed"), "{said}");

    let rows = study.rows();
    let names: Vec<&str> = rows.iter().map(|row| row["file"].split_once("study/").unwrap().1).collect();
    let group = ["p4/group.jpg"; 5];
    assert_eq!(names[..4], ["p1/take.mp4", "p2/bad.mp4", "p2/take.mp4", "p3/nobody.mp4"]);
    assert_eq!(names[4..], group);
    assert_eq!(column(&rows[..5], "status"), ["done", "failed", "done", "done", "done"]);
    assert_eq!(column(&rows[..5], "error_code"), ["", "not_a_video", "", "", ""]);
    assert_eq!(column(&rows[..5], "people"), ["1", "", "1", "0", "5"]);
    assert_eq!(column(&rows[4..], "person"), ["1", "2", "3", "4", "5"]);
    assert_eq!(column(&rows[..5], "media"), ["video", "", "video", "video", "picture"]);
    assert_eq!(column(&rows[..5], "frames_analyzed"), ["2", "", "2", rows[3]["frames_analyzed"].as_str(), "1"]);

    // The same video in two folders has two results, which are those of a single analysis.
    let (first, second) = (&rows[0], &rows[2]);
    assert_ne!(first["result"], second["result"]);
    assert!(first["result"].starts_with("take.mp4-"), "{first:?}");
    let single = command(study.models.path(), &[study.input("p1/take.mp4").as_ref()]).output().unwrap();
    let single: Value = serde_json::from_slice(&single.stdout).unwrap();
    for row in [first, second] {
        let mut json = study.json(row);
        let input = json.as_object_mut().unwrap().remove("input").unwrap();
        assert_eq!(input["bytes"], std::fs::metadata(&row["file"]).unwrap().len());
        assert_eq!(json, single);
        let face = &single["faces"][0];
        assert_eq!(row["happy"].parse::<f64>().unwrap(), face["emotions"]["happy"].as_f64().unwrap());
        assert_eq!(row["calmness_high"].parse::<f64>().unwrap(), face["intervals"]["calmness"][1].as_f64().unwrap());
        assert_eq!(row["dominant_emotion"], "happy");
    }
    let lines = |row: &BTreeMap<String, String>| {
        std::fs::read_to_string(study.out().join(format!("{}.csv", row["result"]))).unwrap().lines().count()
    };
    assert_eq!((lines(first), lines(&rows[3]), lines(&rows[4])), (3, 1, 6));
    assert_eq!(study.json(&rows[4])["faces"].as_array().unwrap().len(), 5);
    assert_eq!(study.files().len(), 8);
}

#[test]
fn a_second_run_analyzes_only_what_changed() {
    let study = Study::new();
    let changed = study.add("single_face.mp4", "a.mp4");
    study.add("no_face.mp4", "b.mp4");
    std::fs::write(study.input("bad.mp4"), "no video").unwrap();
    assert_eq!(study.run(&[]).status.code(), Some(5));
    let (files, table) = (study.files(), std::fs::read(study.table()).unwrap());
    assert_eq!(files.len(), 4);

    // The bad file is tried again, the others are passed over.
    let output = study.run(&[]);
    assert_eq!(output.status.code(), Some(5));
    assert!(words(&output).contains("2 of 3 inputs had a result before"), "{}", words(&output));
    assert_eq!(study.files(), files);
    assert_eq!(std::fs::read(study.table()).unwrap(), table);

    // If nothing is left to do, no models are loaded.
    std::fs::remove_file(study.input("bad.mp4")).unwrap();
    let output = study.command(&[]).env("VISAGE_ENGINE__LIBRARY", "/nowhere/libonnxruntime.so").output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert!(words(&output).contains("2 of 2 inputs have a result (2 had it before)"), "{}", words(&output));
    assert_eq!(study.files(), files);

    // A changed file is analyzed again, and the other one is not.
    std::fs::copy(shared("no_face.mp4"), &changed).unwrap();
    let said = study.succeed(&[]);
    assert!(said.contains("a.mp4 (") && !said.contains("b.mp4"), "{said}");
    let again = study.files();
    let renewed: Vec<bool> = files.iter().map(|(name, time)| again[name] != *time).collect();
    assert_eq!(renewed, [true, true, false, false], "{again:?}");

    // Other options are for all files.
    let said = study.succeed(&["--max-faces", "1"]);
    assert!(said.contains("a.mp4 (") && said.contains("b.mp4 ("), "{said}");
    assert!(study.succeed(&["--max-faces", "1"]).contains("(2 had it before)"));
    let said = study.succeed(&["--max-faces", "1", "--language", "de"]);
    assert!(said.contains("(2 had it before)"), "results have no language: {said}");
}

/// Waits until a finished result is there, while the process runs.
fn wait_for_a_result(study: &Study, child: &mut std::process::Child) {
    let until = Instant::now() + Duration::from_secs(120);
    while !study.out().is_dir() || !study.files().keys().any(|name| name.as_bytes().ends_with(b".json")) {
        assert!(child.try_wait().unwrap().is_none(), "it ended without a result");
        assert!(Instant::now() < until, "no result");
        std::thread::yield_now();
    }
}

fn json_files(study: &Study) -> BTreeMap<OsString, SystemTime> {
    study.files().into_iter().filter(|(name, _)| name.as_bytes().ends_with(b".json")).collect()
}

#[test]
fn a_run_that_was_killed_leaves_no_half_result_and_goes_on() {
    let study = Study::new();
    for number in 0..6 {
        study.add("sad_then_happy.mp4", format!("{number}.mp4"));
    }
    let mut child = study.command(&["--jobs", "1"]).stderr(Stdio::null()).spawn().unwrap();
    wait_for_a_result(&study, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = json_files(&study);
    assert!(!before.is_empty() && before.len() < 6, "{before:?}");
    for name in before.keys() {
        let json: Value = serde_json::from_slice(&std::fs::read(study.out().join(name)).unwrap()).unwrap();
        assert!(json["summary"].is_object());
    }
    // What a process leaves that is killed while it writes.
    std::fs::write(study.out().join(".5.mp4-0.json.visage-part"), "{").unwrap();

    let said = study.succeed(&["--jobs", "2"]);
    assert!(said.contains(&format!("6 of 6 inputs have a result ({} had it before)", before.len())), "{said}");
    let after = json_files(&study);
    assert_eq!(after.len(), 6);
    for (name, time) in &before {
        assert_eq!(after[name], *time);
    }
    assert_eq!(study.files().len(), 12, "{:?}", study.files());
    assert_eq!(study.rows().len(), 6);
}

#[test]
fn an_interrupted_run_ends_soon_and_keeps_what_is_finished() {
    let study = Study::new();
    for number in 0..6 {
        study.add("sad_then_happy.mp4", format!("{number}.mp4"));
    }
    let mut child = study.command(&["--jobs", "1"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_a_result(&study, &mut child);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(130), None), "{}", words(&output));
    let said = words(&output);
    assert!(said.contains("stopping") && said.contains("goes on from here"), "{said}");
    let results = json_files(&study).len();
    assert!((1..6).contains(&results), "{results}");
    assert_eq!(study.files().len(), 2 * results);
    assert_eq!(column(&study.rows(), "status"), vec!["done"; results]);
}

#[test]
fn two_jobs_give_the_results_of_one() {
    let study = Study::new();
    study.add("single_face.mp4", "a.mp4");
    study.add("sad_then_happy.mp4", "b.mp4");
    study.add("multi_face.jpg", "c.jpg");
    study.add("face_then_none.mov", "d.mov");
    study.succeed(&["--jobs", "1"]);
    let results = |study: &Study| -> Vec<Vec<u8>> {
        let names = study.files().into_keys();
        names.map(|name| std::fs::read(study.out().join(name)).unwrap()).collect()
    };
    let (one, table) = (results(&study), std::fs::read(study.table()).unwrap());
    assert_eq!(one.len(), 8);
    std::fs::remove_dir_all(study.out()).unwrap();
    study.succeed(&["--jobs", "3"]);
    assert!(results(&study) == one, "the results differ");
    assert!(std::fs::read(study.table()).unwrap() == table, "the tables differ");
}

#[test]
fn names_that_are_not_text_have_results_of_their_own() {
    let study = Study::new();
    for name in [b"caf\xe9.mp4", b"caf\xe8.mp4"] {
        study.add("no_face.mp4", OsStr::from_bytes(name));
    }
    study.succeed(&[]);
    let names: Vec<String> = study.files().into_keys().map(|name| name.into_string().unwrap()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("caf_.mp4-")), "{names:?}");
    assert_eq!(column(&study.rows(), "status"), ["done", "done"]);
    assert!(study.succeed(&[]).contains("(2 had it before)"));
}

#[test]
fn a_result_folder_is_written_by_one_process_at_a_time() {
    let study = Study::new();
    study.add("no_face.mp4", "a.mp4");
    std::fs::create_dir(study.out()).unwrap();
    let locked = std::fs::File::open(study.out()).unwrap();
    locked.lock().unwrap();
    let output = study.run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("another process"), "{}", words(&output));
    drop(locked);
    study.succeed(&[]);
}

#[test]
fn wrong_usage_is_refused_before_anything_is_analyzed() {
    let clips = Clips::new();
    let clip = clips.write("clip.mp4", b"no video");
    let file = clips.write("file", b"");
    let empty = clips.path("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(empty.join("notes.txt"), "text").unwrap();
    let (clip, file) = (clip.to_str().unwrap(), file.to_str().unwrap());
    let out = clips.path("out");
    let (out, empty) = (out.to_str().unwrap(), empty.to_str().unwrap());
    for (arguments, code, says) in [
        (vec![clip, clip], 2, "--out"),
        (vec![empty], 2, "--out"),
        (vec![empty, "--out", out], 3, "no video and no picture"),
        (vec![clip, "--table", "table.csv"], 2, "--out"),
        (vec![clip, "--jobs", "2"], 2, "--out"),
        (vec![clip, "--out", out, "--jobs", "0"], 2, "--jobs"),
        (vec![clip, "--out", out, "--html", "report.html"], 2, "--html"),
        (vec![clip, "--out", out, "--csv", "rows.csv"], 2, "--csv"),
        (vec![clip, "--out", out, "--table", "table.xlsx"], 2, ".parquet"),
        (vec![clip, "--out", out, "--table", "/nowhere/table.csv"], 2, "cannot be written"),
        (vec![clip, "--out", file], 2, "--out"),
        (vec!["-", "--out", out], 2, "standard input"),
        (vec![clip, "--out", out, "--gaze", "off", "--detail", "expressions"], 2, "landmarks"),
        // There are no models.
        (vec![clip, "--out", out], 4, "visage doctor"),
    ] {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        let output = command(Path::new("/nowhere"), &arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", words(&output));
        assert!(words(&output).contains(says), "{arguments:?}: {}", words(&output));
        assert!(output.stdout.is_empty());
    }
    // An input that is missing needs no models to fail.
    let output = command(Path::new("/nowhere"), &["/nowhere/a.mp4".as_ref(), "--out".as_ref(), out.as_ref()]);
    let output = { output }.output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", words(&output));
    assert!(words(&output).contains("cannot be read"), "{}", words(&output));
}

/// Analyzes standard input.
fn pipe(models: &Path, bytes: &[u8], limit: &str) -> Output {
    let mut child = command(models, &["-".as_ref()])
        .env("VISAGE_HTTP__MAX_UPLOAD", limit)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The process stops to read at the limit.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

#[test]
fn standard_input_gives_the_result_of_the_file() {
    let models = models();
    // The index of the first one is at its end.
    let clips = Clips::new();
    let face = shared("single_face.mp4");
    std::os::unix::fs::symlink(&face, clips.path("face.mp4")).unwrap();
    let late = clips.make("late.mp4", "-i $face.mp4 -c copy");
    let bytes = std::fs::read(&late).unwrap();
    let place = |name: &[u8]| bytes.windows(4).position(|four| four == name).unwrap();
    assert!(place(b"moov") > place(b"mdat"));
    for file in [&late, &shared("multi_face.jpg")] {
        let piped = pipe(models.path(), &std::fs::read(file).unwrap(), "2 GiB");
        assert!(piped.status.success(), "{}", words(&piped));
        let direct = command(models.path(), &[file.as_ref()]).output().unwrap();
        assert_eq!(piped.stdout, direct.stdout);
    }
    for (bytes, limit, says) in [
        (&bytes[..], "1 kB", "larger than 1 kB"),
        (&bytes[..100], "2 GiB", "standard input"),
        (b"", "2 GiB", "standard input"),
        (b"no video", "2 GiB", "not a video"),
    ] {
        let output = pipe(models.path(), bytes, limit);
        assert_eq!(output.status.code(), Some(3), "{}", words(&output));
        assert!(words(&output).contains(says), "{}", words(&output));
    }
}

#[test]
fn a_parquet_table_has_the_rows_of_the_csv_table() {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    let study = Study::new();
    study.add("single_face.mp4", "a.mp4");
    std::fs::write(study.input("bad.mp4"), "no video").unwrap();
    study.run(&[]);
    let table = study.clips.path("table.parquet");
    let output = study.command(&[]).arg("--table").arg(&table).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "one table a run: {}", words(&output));
    let (input, out) = (study.input(""), study.out());
    let arguments = [input.as_ref(), "--out".as_ref(), out.as_ref(), "--table".as_ref(), table.as_os_str()];
    let output = command(study.models.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", words(&output));
    let reader = SerializedFileReader::new(std::fs::File::open(&table).unwrap()).unwrap();
    let parquet: Vec<BTreeMap<String, String>> = reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| {
            let fields = row.unwrap().into_columns().into_iter();
            let text = |field: parquet::record::Field| match field {
                parquet::record::Field::Null => String::new(),
                parquet::record::Field::Str(text) => text,
                parquet::record::Field::Double(number) => number.to_string(),
                other => other.to_string(),
            };
            fields.map(|(name, field)| (name, text(field))).collect()
        })
        .collect();
    assert_eq!(parquet, study.rows());
    assert_eq!(parquet[0]["status"], "done");
}
