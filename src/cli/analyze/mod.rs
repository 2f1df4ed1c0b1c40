//! `visage analyze`: analyzes videos and pictures on disk. The result of a single one is printed; the results of many
//! are written to a folder.

mod interrupt;
mod many;
mod overlay;
mod part;
mod picture;
mod rows;
mod single;
mod standard_input;

use std::path::PathBuf;

use self::many::Batch;
use self::single::Input;
use super::Failure;
use crate::analysis::{Detail, Language, Options, Sampling};
use crate::config::Settings;

/// The end of the help text of `visage analyze`.
const EXAMPLES: &str = "\
Examples:
  visage analyze clip.mp4
  visage analyze clip.mp4 --html report.html --csv rows.csv
  visage analyze clip.mp4 --csv rows.csv --detail expressions
  visage analyze clip.mp4 --overlay boxes.mp4
  visage analyze clip.mp4 --gaze off --speech off
  visage analyze clip.mp4 --sample-every 5 | jq .summary.dominant_emotion
  visage analyze picture.jpg | jq '.faces[].dominant_emotion'
  curl -s https://example.org/clip.mp4 | visage analyze -
  visage analyze study/ more/*.mp4 --out results --table results.csv

Formats: MP4, MOV, MKV, WebM, AVI, MPEG-TS, MPEG-PS, FLV and animated GIF; pictures: JPEG, PNG and WebP. On a terminal,
a progress bar is shown.

With --out, each input gets a JSON and a CSV file. A command that was stopped goes on where it was: inputs whose result
is there are passed over, unless the input, the options, the models or visage changed. An input that cannot be analyzed
fails alone; the exit code is then 5. docs/BATCH.md describes files and table.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The video, or a picture; - reads it from standard input. With --out, any number of videos, pictures and folders.
    /// Of the options, --max-faces, --gaze and --detail apply to pictures.
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,

    /// Also write the report to this file, as one self-contained HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Also write a CSV file with one row for each face in each sample.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Also write the video with boxes and labels to this file, which is an MP4 file.
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,

    /// Write the results to this folder instead of standard output: a JSON and a CSV file for each input.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["html", "csv", "stage_times"])]
    out: Option<PathBuf>,

    /// Also write a table with one row for each person in each input: CSV, or Parquet if the name ends in .parquet.
    #[arg(long, value_name = "FILE", requires = "out")]
    table: Option<PathBuf>,

    /// Also write each video with boxes and labels to the folder, as an MP4 file.
    #[arg(long, requires = "out")]
    overlays: bool,

    /// Analyze N inputs at the same time [default: the setting queue.concurrency].
    #[arg(long, value_name = "N", requires = "out", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,

    /// Analyze every N-th frame [default: the setting video.sample_every].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sample_every: Option<u32>,

    /// Analyze about N frames a second, instead of every N-th.
    #[arg(long, value_name = "N", conflicts_with = "sample_every")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=60))]
    samples_per_second: Option<u32>,

    /// Analyze exactly every N-th frame ("exact"), or frames near these that are faster to decode ("fast") [default:
    /// the setting video.sampling].
    #[arg(long, value_name = "HOW", value_parser = sampling)]
    sampling: Option<Sampling>,

    /// Analyze at most N faces per frame, the largest first [default: the setting video.max_faces].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_faces: Option<u32>,

    /// Language of the HTML page.
    #[arg(long, value_name = "TAG", default_value = "en", value_parser = language)]
    language: Language,

    /// Judge eye contact by the eyes, not by the head alone [default: on, if the setting vision.gaze is].
    #[arg(long, value_enum, value_name = "WHETHER")]
    gaze: Option<Switch>,

    /// Analyze the sound track [default: on, if the setting speech.enabled is].
    #[arg(long, value_enum, value_name = "WHETHER")]
    speech: Option<Switch>,

    /// Add more columns to the rows of the CSV file, or more members to the faces of a picture.
    #[arg(long, value_enum, value_name = "WHAT")]
    detail: Option<More>,

    /// Print how many seconds each stage worked, as a line of JSON on standard error.
    #[arg(long)]
    stage_times: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum More {
    /// The strengths of 52 facial movements, each from 0 to 1.
    Expressions,
}

pub fn run(args: Args, settings: Settings) -> Result<(), Failure> {
    let options = args.options(&settings);
    if options.is_contradiction() {
        return Err(Failure::Settings(
            "--detail expressions needs the landmarks that --gaze off switches off: use only one of the two".to_owned(),
        ));
    }
    if args.out.is_some() && args.overlay.is_some() {
        return Err(Failure::Settings(
            "with --out, give --overlays instead of --overlay FILE: it writes one for each video".to_owned(),
        ));
    }
    if let Some(out) = args.out {
        let jobs = args.jobs.map_or_else(|| settings.queue.concurrency(), usize::from);
        let batch = Batch { inputs: args.inputs, out, table: args.table, overlays: args.overlays, jobs, options };
        return many::run(&batch, &settings);
    }
    let [file] = &args.inputs[..] else {
        return Err(Failure::Settings("several inputs need a folder for their results: give --out DIR".to_owned()));
    };
    if file.is_dir() {
        let text = format!("{} is a folder: give --out DIR, a folder for the results of its files", file.display());
        return Err(Failure::Settings(text));
    }
    let input = Input::open(file, &settings)?;
    let is_picture = picture::is_picture(&input.path, &settings);
    if is_picture && (args.html.is_some() || args.csv.is_some() || args.overlay.is_some()) {
        return Err(Failure::Settings(
            "a picture has no report, no rows and no overlay: leave out --html, --csv and --overlay".to_owned(),
        ));
    }
    if is_picture {
        return single::print_picture(&input, options, &settings);
    }
    if args.detail.is_some() && args.csv.is_none() {
        return Err(Failure::Settings("--detail adds columns to the rows of --csv: give --csv, too".to_owned()));
    }
    single::print_video(&input, &args, options, &settings)
}

impl Args {
    fn options(&self, settings: &Settings) -> Options {
        Options {
            samples_per_second: self.samples_per_second,
            sample_every: self.sample_every.unwrap_or(settings.video.sample_every),
            sampling: self.sampling.unwrap_or(settings.video.sampling),
            max_faces: self.max_faces.unwrap_or(settings.video.max_faces),
            gaze: self.gaze != Some(Switch::Off),
            speech: self.speech != Some(Switch::Off),
            detail: self.detail.map(|More::Expressions| Detail::Expressions),
            language: Some(self.language),
        }
    }
}

fn language(text: &str) -> Result<Language, String> {
    Language::from_tag(text).ok_or_else(|| format!("give {}", Language::choice()))
}

fn sampling(name: &str) -> Result<Sampling, &'static str> {
    Sampling::from_name(name).ok_or("give exact or fast")
}
