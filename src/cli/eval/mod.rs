//! `visage eval`: measures the configured classifier on labelled pictures.

mod labels;
mod votes;
mod words;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use self::labels::{Columns, Picture};
use self::votes::Rule;
use super::Failure;
use crate::analysis::{
    Difference, Evaluation, EvaluationIntervals, GroupFigures, GroupShare, Interval, Judged, evaluate,
};
use crate::config::Settings;
use crate::vision::{PictureClassifier, VisionError, decode};

/// Number of pictures that are read and classified together.
const BATCH: usize = 64;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Measure the emotion classifier: accuracy; precision, recall and F1 of each class; confusion matrix; calibration;
    /// speed.
    Emotion(EmotionArgs),
}

/// The end of the help text of `visage eval emotion`.
const EXAMPLES: &str = "\
Examples:
  visage eval emotion --images pictures --labels labels.csv
  visage eval emotion --images faces --labels faces.csv --cropped --json | jq .accuracy
  visage eval emotion --images pictures --labels labels.csv --by age --by skin
  VISAGE_VISION__EMOTION__PRIOR=0 visage eval emotion --images faces --labels faces.csv --cropped

labels.csv begins with the line file,label. File names are relative to the folder of --images. Labels are those of the
setting vision.emotion.labels; happiness, sadness and anger stand for happy, sad and angry.

Instead of the column label there may be a column for each class with the number of votes, and the columns unknown and NF
(not a face), as in fer2013new.csv of FER+. A class with a single vote gets none. A picture without a class is left out.

--by COLUMN divides the pictures into groups by the values of a column, and compares each group with all others.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct EmotionArgs {
    /// Folder of the pictures.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,

    /// CSV with the columns file and label, or file and votes.
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,

    /// Of pictures with votes, only use those of which one class has more than half.
    #[arg(long)]
    majority: bool,

    /// Also give the figures of each group of pictures with the same value in this column of the list. Can be given
    /// several times.
    #[arg(long, value_name = "COLUMN")]
    by: Vec<String>,

    /// Use each picture as a face. By default, the largest face in each picture is detected and cut out.
    #[arg(long)]
    cropped: bool,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// Also write the probabilities for each picture to this CSV file.
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
    // Check the labels before loading the models, which takes longer.
    let known = settings.vision.emotion.labels.iter().map(String::as_str).filter(|label| *label != "-");
    let known: Vec<&str> = known.collect();
    let rule = args.majority.then_some(Rule::Majority);
    let columns = Columns { known: &known, rule, groups: &args.by };
    let labels::Listed { pictures: listed, without_class } = labels::read(&args.labels, &args.images, &columns)?;
    if listed.is_empty() {
        return Err(Failure::Input(format!("{}: no picture has a class by its votes", args.labels.display())));
    }
    let pictures = PictureClassifier::load(settings, args.cropped).map_err(failure)?;
    let found = judge(&pictures, &listed)?;
    if found.judged.is_empty() {
        return Err(Failure::Input(format!(
            "no face was found in any of the {} pictures; if each picture is a cropped face, use --cropped",
            listed.len()
        )));
    }
    if let Some(path) = &args.predictions {
        let written = words::predictions(path, &known, &listed, &found.judged);
        written.map_err(|error| Failure::Run(format!("{} was not written: {error}", path.display())))?;
    }
    let judged: Vec<Judged> = found.judged.iter().map(|(_, judged)| judged.clone()).collect();
    let groups = args.by.iter().enumerate().map(|(column, name)| {
        let pictures: Vec<(&str, &Judged)> =
            found.judged.iter().map(|(at, judged)| (listed[*at].groups[column].as_str(), judged)).collect();
        (name.as_str(), GroupFigures::of(known.len(), &pictures))
    });
    let groups = groups.collect();
    let report = Report {
        figures: evaluate(known.len(), &judged),
        intervals: EvaluationIntervals::of(known.len(), &judged),
        groups,
        without_class,
        labels: known,
        without_face: found.without_face.iter().map(|&at| listed[at].name.as_str()).collect(),
        faces_per_second: judged.len() as f64 / found.took.as_secs_f64().max(f64::EPSILON),
    };
    let text = if args.json { format!("{:#}\n", report.json()) } else { words::report(&report) };
    super::print(&text)
}

/// The results. Pictures are given by their index in the list.
struct Found {
    judged: Vec<(usize, Judged)>,
    without_face: Vec<usize>,
    /// Time for detecting, cropping and classifying, without reading files.
    took: Duration,
}

fn judge(pictures: &PictureClassifier, listed: &[Picture]) -> Result<Found, Failure> {
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

/// The printed results.
struct Report<'a> {
    labels: Vec<&'a str>,
    figures: Evaluation,
    intervals: EvaluationIntervals,
    /// For each column of groups, the figures of its groups.
    groups: Vec<(&'a str, Vec<GroupFigures>)>,
    /// Number of pictures whose votes give no class. They are not part of any figure.
    without_class: usize,
    /// Names of the pictures without a detected face. They are not part of any figure.
    without_face: Vec<&'a str>,
    faces_per_second: f64,
}

impl Report<'_> {
    fn json(&self) -> Value {
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
            "intervals": {
                "accuracy": interval(self.intervals.accuracy),
                "balanced_accuracy": interval(self.intervals.balanced_accuracy),
                "macro_f1": interval(self.intervals.macro_f1),
                "ece": interval(self.intervals.ece),
            },
            "faces_per_second": (self.faces_per_second * 10.0).round() / 10.0,
            "labels": self.labels,
            "per_class": classes.collect::<Map<_, _>>(),
            "confusion": figures.confusion,
            "groups": self.groups.iter().map(|(column, groups)| ((*column).to_owned(), self.groups_json(groups)))
                .collect::<Map<_, _>>(),
            "without_class": self.without_class,
            "without_face": self.without_face,
        })
    }

    fn groups_json(&self, groups: &[GroupFigures]) -> Value {
        let difference = |it: Difference| {
            json!({
                "value": round(it.value),
                "interval": interval(it.interval),
                "beyond_chance": it.beyond_chance,
            })
        };
        let share = |it: &GroupShare| {
            json!({
                "value": round(it.share.value),
                "interval": interval(it.share.interval),
                "pictures": it.share.takes,
                "more_than_others": it.more_than_others.map(difference),
            })
        };
        let group = |group: &GroupFigures| {
            let recall = self.labels.iter().zip(&group.recall);
            let recall = recall.filter_map(|(label, it)| Some(((*label).to_owned(), share(it.as_ref()?))));
            let figures = json!({ "accuracy": share(&group.accuracy), "recall": recall.collect::<Map<_, _>>() });
            (group.name.clone(), figures)
        };
        Value::Object(groups.iter().map(group).collect())
    }
}

fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn interval(Interval { low, high }: Interval) -> Value {
    json!([round(low), round(high)])
}

fn failure(error: VisionError) -> Failure {
    match error {
        VisionError::Setting { .. } => Failure::Settings(error.to_string()),
        _ if error.is_missing() => Failure::Missing(format!("{error}; run `visage doctor` for details")),
        _ => Failure::Run(error.to_string()),
    }
}
