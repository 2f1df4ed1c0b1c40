//! `visage eval`: how well the classifier of the settings does on pictures whose labels are known.

mod labels;
mod words;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use self::labels::Picture;
use super::Failure;
use crate::analysis::{Evaluation, Judged, evaluate};
use crate::config::Settings;
use crate::vision::{Pictures, VisionError, decode};

/// Pictures read from disk and classified at a time.
const BATCH: usize = 64;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Measure the emotion classifier: accuracy, precision, recall and F1 of each class, what is taken for what, calibration,
    /// speed.
    Emotion(EmotionArgs),
}

/// What `visage eval emotion --help` says at its end.
const EXAMPLES: &str = "\
Examples:
  visage eval emotion --images pictures --labels labels.csv
  visage eval emotion --images faces --labels faces.csv --cropped --json | jq .accuracy
  VISAGE_VISION__EMOTION__PRIOR=0 visage eval emotion --images faces --labels faces.csv --cropped

labels.csv begins with the line file,label. A file is named as it lies under the folder of --images. Labels are those of
vision.emotion.labels; happiness, sadness and anger are taken for happy, sad and angry.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct EmotionArgs {
    /// Folder of the pictures.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,

    /// CSV with the columns file and label.
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,

    /// Each picture is a face already. Otherwise the largest face is looked for in it.
    #[arg(long)]
    cropped: bool,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// Write the probabilities for each picture here too, as CSV.
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
}

pub fn run(args: Args, settings: Settings) -> Result<(), Failure> {
    let Command::Emotion(args) = args.command;
    emotion(&args, &settings)
}

fn emotion(args: &EmotionArgs, settings: &Settings) -> Result<(), Failure> {
    if let Some(path) = &args.predictions {
        super::writable(path)?;
    }
    // What is wrong with the labels shows before the models are loaded.
    let known = settings.vision.emotion.labels.iter().map(String::as_str).filter(|label| *label != "-");
    let known: Vec<&str> = known.collect();
    let listed = labels::read(&args.labels, &args.images, &known)?;
    let pictures = Pictures::load(settings, args.cropped).map_err(failure)?;
    let found = judge(&pictures, &listed)?;
    if found.judged.is_empty() {
        return Err(Failure::Input(format!(
            "no face was found in any of the {} pictures; if they show nothing but a face, give --cropped",
            listed.len()
        )));
    }
    if let Some(path) = &args.predictions {
        let written = words::predictions(path, &known, &listed, &found.judged);
        written.map_err(|error| Failure::Run(format!("{} was not written: {error}", path.display())))?;
    }
    let judged: Vec<Judged> = found.judged.iter().map(|(_, judged)| judged.clone()).collect();
    let report = Report {
        figures: evaluate(known.len(), &judged),
        labels: known,
        without_face: found.without_face.iter().map(|&at| listed[at].name.as_str()).collect(),
        faces_per_second: judged.len() as f64 / found.took.as_secs_f64().max(f64::EPSILON),
    };
    let text = if args.json { format!("{:#}\n", report.json()) } else { words::report(&report) };
    super::print(&text)
}

/// What came of the pictures; each by its position in the list.
struct Found {
    judged: Vec<(usize, Judged)>,
    without_face: Vec<usize>,
    /// Finding, cutting and classifying, without reading files.
    took: Duration,
}

fn judge(pictures: &Pictures, listed: &[Picture]) -> Result<Found, Failure> {
    let mut found = Found { judged: Vec::new(), without_face: Vec::new(), took: Duration::ZERO };
    let positions: Vec<usize> = (0..listed.len()).collect();
    for batch in positions.chunks(BATCH) {
        let frames = batch.iter().map(|&at| open(&listed[at])).collect::<Result<Vec<_>, _>>()?;
        let start = Instant::now();
        let (mut crops, mut cropped) = (Vec::new(), Vec::new());
        for (&at, frame) in batch.iter().zip(&frames) {
            match pictures.crop(frame).map_err(failure)? {
                Some(crop) => {
                    crops.push(crop);
                    cropped.push(at);
                }
                None => found.without_face.push(at),
            }
        }
        let read = pictures.classify(&crops).map_err(failure)?;
        found.took += start.elapsed();
        let judged = cropped.into_iter().zip(read);
        found.judged.extend(judged.map(|(at, probabilities)| (at, Judged { truth: listed[at].class, probabilities })));
    }
    Ok(found)
}

fn open(picture: &Picture) -> Result<opencv::core::Mat, Failure> {
    let refused = |reason: &str| Failure::Input(format!("{} {reason}", picture.path.display()));
    let bytes = std::fs::read(&picture.path).map_err(|error| refused(&format!("cannot be read: {error}")))?;
    decode(&bytes).ok_or_else(|| refused("is no picture that can be read: give PNG, JPEG or WebP"))
}

/// What is printed.
struct Report<'a> {
    labels: Vec<&'a str>,
    figures: Evaluation,
    /// Names of the pictures in which no face was found; no figure counts them.
    without_face: Vec<&'a str>,
    faces_per_second: f64,
}

impl Report<'_> {
    fn json(&self) -> Value {
        let round = |value: f64| (value * 1e6).round() / 1e6;
        let figures = &self.figures;
        let classes = self.labels.iter().zip(&figures.per_class).map(|(label, class)| {
            let each = json!({
                "precision": round(class.precision),
                "recall": round(class.recall),
                "f1": round(class.f1),
                "support": class.support,
            });
            ((*label).to_owned(), each)
        });
        json!({
            "count": figures.count,
            "accuracy": round(figures.accuracy),
            "balanced_accuracy": round(figures.balanced_accuracy),
            "macro_f1": round(figures.macro_f1),
            "ece": round(figures.ece),
            "faces_per_second": (self.faces_per_second * 10.0).round() / 10.0,
            "labels": self.labels,
            "per_class": classes.collect::<Map<_, _>>(),
            "confusion": figures.confusion,
            "without_face": self.without_face,
        })
    }
}

fn failure(error: VisionError) -> Failure {
    match error {
        VisionError::Setting { .. } => Failure::Settings(error.to_string()),
        _ if error.is_missing() => Failure::Missing(format!("{error}; `visage doctor` tells more")),
        _ => Failure::Run(error.to_string()),
    }
}
