//! `visage analyze`: analyzes a video or a picture on disk and prints the result.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use uuid::Uuid;

use super::{Failure, PROGRAM, picture};
use crate::analysis::{Detail, Findings, Language, Options, Sampling, Timeline, TimelineRow};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::isolation::Decoders;
use crate::media::{ProbeError, Source};
use crate::pipeline::{Cancel, PendingAnalysis, Pipeline, PipelineError, Progress, StageTimes};
use crate::report::{self, Context, Reporter};

/// The end of the help text of `visage analyze`.
const EXAMPLES: &str = "\
Examples:
  visage analyze clip.mp4
  visage analyze clip.mp4 --html report.html --csv rows.csv
  visage analyze clip.mp4 --csv rows.csv --detail expressions
  visage analyze clip.mp4 --gaze off --speech off
  visage analyze clip.mp4 --sample-every 5 | jq .summary.dominant_emotion
  visage analyze picture.jpg | jq '.faces[].dominant_emotion'

Formats: MP4, MOV, MKV, WebM, AVI, MPEG-TS, MPEG-PS, FLV and animated GIF; pictures: JPEG, PNG and WebP. On a terminal,
a progress bar is shown.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The video, or a picture. Of the options, --max-faces, --gaze and --detail apply to pictures.
    file: PathBuf,

    /// Also write the report to this file, as one self-contained HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Also write a CSV file with one row for each face in each sample.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

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

    /// Add more columns to the rows of --csv, or more members to the faces of a picture.
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
    if args.file == Path::new("-") {
        return Err(Failure::Settings(
            "a video cannot be read from standard input, because its index may be at its end: give a file".to_owned(),
        ));
    }
    let options = Options {
        samples_per_second: args.samples_per_second,
        sample_every: args.sample_every.unwrap_or(settings.video.sample_every),
        sampling: args.sampling.unwrap_or(settings.video.sampling),
        max_faces: args.max_faces.unwrap_or(settings.video.max_faces),
        gaze: args.gaze != Some(Switch::Off),
        speech: args.speech != Some(Switch::Off),
        detail: args.detail.map(|More::Expressions| Detail::Expressions),
        language: Some(args.language),
    };
    if options.is_contradiction() {
        return Err(Failure::Settings(
            "--detail expressions needs the landmarks that --gaze off switches off: use only one of the two".to_owned(),
        ));
    }
    let is_picture = picture::is_picture(&args.file, &settings);
    if is_picture && (args.html.is_some() || args.csv.is_some()) {
        return Err(Failure::Settings("a picture has no report and no rows: leave out --html and --csv".to_owned()));
    }
    if is_picture {
        return picture::run(&args.file, options, &settings);
    }
    if args.detail.is_some() && args.csv.is_none() {
        return Err(Failure::Settings("--detail adds columns to the rows of --csv: give --csv, too".to_owned()));
    }
    for file in [&args.html, &args.csv].into_iter().flatten() {
        super::writable(file)?;
    }
    let decoders = Decoders::new(&settings.video, PROGRAM.into(), false);
    let decoders = decoders.map_err(|error| Failure::Missing(error.to_string()))?;
    // Load the models and decode the first pictures at the same time.
    let source = Source::File(args.file.clone());
    let (pending, pipeline) = std::thread::scope(|scope| {
        let loading = scope.spawn(|| Pipeline::load_for(&settings, &decoders, options));
        let checked = decoders.check();
        let pending = PendingAnalysis::new(decoders.video(&source), options);
        let loaded = loading.join().unwrap_or(Err(PipelineError::StageFailed("load")));
        checked.map(|_| (pending, loaded))
    })
    .map_err(|error| Failure::Missing(error.to_string()))?;
    let pending = pending.map_err(|error| failure(&args.file, error))?;
    let pipeline = pipeline.map_err(|error| failure(&args.file, error))?;
    let reporter = args.html.is_some().then(|| Reporter::new(&settings)).transpose();
    let reporter = reporter.map_err(|error| Failure::Settings(error.to_string()))?;

    let bar = bar();
    let show = |progress: Progress| {
        bar.set_length(progress.frames_total);
        bar.set_position(progress.frames_done);
    };
    let outcome = pipeline.finish(pending, &show, &Cancel::default());
    bar.finish_and_clear();
    let (mut findings, times) = outcome.map_err(|error| failure(&args.file, error))?;
    report::tell(&mut findings.analysis, Language::EN);

    if let (Some(path), Some(reporter)) = (&args.html, reporter) {
        let context = Context {
            token: Uuid::nil(),
            created_at: SystemClock.now(),
            language: args.language,
            file_name: args.file.file_name().map(|name| name.to_string_lossy().into_owned()),
            result_url: None,
            withdraw_url: None,
            notice: None,
        };
        let page = reporter.html(&findings, &context).map_err(|error| Failure::Run(error.to_string()))?;
        std::fs::write(path, page).map_err(|error| unwritten(path, &error))?;
    }
    if let Some(path) = &args.csv {
        write_csv(path, &findings.timeline).map_err(|error| unwritten(path, &error))?;
    }
    if args.stage_times {
        eprintln!("{}", in_seconds(&times));
    }
    print(&findings)?;
    crate::media::exit_now()
}

fn language(text: &str) -> Result<Language, String> {
    Language::from_tag(text).ok_or_else(|| format!("give {}", Language::choice()))
}

fn sampling(name: &str) -> Result<Sampling, &'static str> {
    Sampling::from_name(name).ok_or("give exact or fast")
}

/// Prints the result on standard output.
fn print(findings: &Findings) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&findings.analysis).map_err(|error| Failure::Run(error.to_string()))?;
    super::print(&format!("{text}\n"))
}

fn write_csv(path: &Path, timeline: &Timeline) -> std::io::Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let expressions = timeline.has_expressions();
    writeln!(file, "{}", TimelineRow::csv_header(expressions))?;
    for row in &timeline.rows {
        writeln!(file, "{}", row.csv(expressions))?;
    }
    file.flush()
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Run(format!("{} was not written: {error}", path.display()))
}

/// Creates a progress bar on standard error. It is hidden if standard error is not a terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} % of {len} frames, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn in_seconds(times: &StageTimes) -> serde_json::Value {
    let seconds = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
    serde_json::json!({
        "decode_s": seconds(times.decode),
        "detect_s": seconds(times.detect),
        "landmarks_s": seconds(times.landmarks),
        "expressions_s": seconds(times.expressions),
        "read_s": seconds(times.read),
        "speech_s": seconds(times.speech),
        "whole_s": seconds(times.whole),
    })
}

fn failure(file: &Path, error: PipelineError) -> Failure {
    let file = file.display();
    match error {
        // The reason may contain details of this machine. Here it may be shown, unlike in the answer to an upload.
        PipelineError::Video(ProbeError::Unreadable(reason)) => {
            Failure::Input(format!("{file} cannot be read: {reason}"))
        }
        PipelineError::Video(_) => {
            Failure::Input(format!("{file}: {}", report::failure(&error.reason(), Language::EN)))
        }
        PipelineError::Missing(_) => Failure::Missing(format!("{error}; run `visage doctor` for details")),
        _ => Failure::Run(error.to_string()),
    }
}
