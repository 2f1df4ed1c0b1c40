//! `visage analyze` for a single input: prints its result.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use uuid::Uuid;

use super::overlay::OverlayFile;
use super::picture::{self, Picture};
use super::{Args, interrupt, overlay, rows, standard_input};
use crate::analysis::{Language, Options, Timeline};
use crate::cli::{self, Failure, PROGRAM};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::isolation::Decoders;
use crate::media::{self, ProbeError, Source, WriteError};
use crate::overlay::OverlayError;
use crate::pipeline::{Cancel, PendingAnalysis, PictureError, Pipeline, PipelineError, Progress, StageTimes};
use crate::report::{self, Context, Reporter};

/// The input, as it is read and as it is named.
pub struct Input {
    pub path: PathBuf,
    /// The name in messages.
    shown: String,
    /// The name in the report.
    name: Option<String>,
    /// Keeps the temporary file that `path` refers to.
    _copy: Option<File>,
}

impl Input {
    /// Names a file. Copies standard input to a temporary file if `file` is `-`.
    pub fn open(file: &Path, settings: &Settings) -> Result<Self, Failure> {
        if file == Path::new("-") {
            let copy = standard_input::copy(settings.http.max_upload)?;
            // Linux gives such a path to open files.
            let path = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
            return Ok(Self { path, shown: "standard input".to_owned(), name: None, _copy: Some(copy) });
        }
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self { path: file.to_owned(), shown: file.display().to_string(), name, _copy: None })
    }
}

/// Prints the faces of a picture.
pub fn print_picture(input: &Input, options: Options, settings: &Settings) -> Result<(), Failure> {
    let refused = |reason: String| Failure::Input(format!("{}: {reason}", input.shown));
    let bytes = picture::bytes(&input.path, settings).map_err(|error| refused(error.to_string()))?;
    let decoders = Decoders::in_this_process(&settings.video);
    let wanted = Options { speech: false, ..options };
    let pipeline = Pipeline::load_for(settings, &decoders, wanted).map_err(|error| picture::failure(&error))?;
    let found = Picture::read(&pipeline, &bytes, options, settings).map_err(|error| match error {
        PictureError::Pipeline(error) => picture::failure(&error),
        error => refused(picture::words(&error)),
    })?;
    print(&found.printed)
}

/// Analyzes a video, prints the result and writes the files that `args` ask for.
pub fn print_video(input: &Input, args: &Args, options: Options, settings: &Settings) -> Result<(), Failure> {
    for file in [&args.html, &args.csv].into_iter().flatten() {
        cli::writable(file)?;
    }
    let wanted = args.overlay.as_ref().map(|path| OverlayFile::create(path, &input.path)).transpose()?;
    // An overlay has a temporary file, which has to be removed.
    let cancel = if wanted.is_some() { interrupt::cancel_on_signals()? } else { Cancel::default() };
    let decoders = Decoders::new(&settings.video, PROGRAM.into(), false);
    let decoders = decoders.map_err(|error| Failure::Missing(error.to_string()))?;
    // Load the models and decode the first pictures at the same time.
    let video = decoders.video(&Source::File(input.path.clone()));
    let (pending, pipeline) = std::thread::scope(|scope| {
        let loading = scope.spawn(|| Pipeline::load_for(settings, &decoders, options));
        let checked = decoders.check();
        let pending = PendingAnalysis::new(video.clone(), options);
        let loaded = loading.join().unwrap_or(Err(PipelineError::StageFailed("load")));
        checked.map(|_| (pending, loaded))
    })
    .map_err(|error| Failure::Missing(error.to_string()))?;
    let pending = pending.map_err(|error| failure(&input.shown, error))?;
    let pipeline = pipeline.map_err(|error| failure(&input.shown, error))?;
    let reporter = args.html.is_some().then(|| Reporter::new(settings)).transpose();
    let reporter = reporter.map_err(|error| Failure::Settings(error.to_string()))?;

    let bar = bar();
    let show = |progress: Progress| {
        bar.set_length(progress.frames_total);
        bar.set_position(progress.frames_done);
    };
    let outcome = pipeline.finish(pending, &show, &cancel);
    bar.finish_and_clear();
    let mut analyzed = outcome.map_err(|error| failure(&input.shown, error))?;
    report::tell(&mut analyzed.findings.analysis, Language::EN);
    let findings = &analyzed.findings;

    if let (Some(path), Some(reporter)) = (&args.html, reporter) {
        let context = Context {
            token: Uuid::nil(),
            created_at: SystemClock.now(),
            language: args.language,
            file_name: input.name.clone(),
            result_url: None,
            withdraw_url: None,
            notice: None,
        };
        let page = reporter.html(findings, &context).map_err(|error| Failure::Run(error.to_string()))?;
        std::fs::write(path, page).map_err(|error| unwritten(path, &error))?;
    }
    if let Some(path) = &args.csv {
        write_csv(path, &findings.timeline).map_err(|error| unwritten(path, &error))?;
    }
    if let Some(file) = wanted {
        bar.reset();
        show(Progress { frames_done: 0, frames_total: findings.analysis.video.frames_total });
        let written = overlay::write(&analyzed, &video, file.file(), 1, &|done| bar.set_position(done), &cancel);
        bar.finish_and_clear();
        if let Some(error) = written.map_err(|error| overlay_failure(&input.shown, file.path(), error))? {
            eprintln!("visage: {}", overlay::without_sound(&error));
        }
        file.finish()?;
    }
    if args.stage_times {
        eprintln!("{}", in_seconds(&analyzed.times));
    }
    print(&findings.analysis)
}

/// Prints a result on standard output, and ends the process.
fn print(result: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(result).map_err(|error| Failure::Run(error.to_string()))?;
    cli::print(&format!("{text}\n"))?;
    media::exit_now(0)
}

fn write_csv(path: &Path, timeline: &Timeline) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    rows::write(&mut file, &timeline.rows, timeline.has_expressions())?;
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

/// The failure for an error of the overlay of a file with this name.
fn overlay_failure(file: &str, path: &Path, error: OverlayError) -> Failure {
    match error {
        OverlayError::Frames(error) => failure(file, error.into()),
        OverlayError::Write(WriteError::File(error)) => unwritten(path, &error),
        error => Failure::Run(format!("{} was not written: {error}", path.display())),
    }
}

/// The failure for an error of a file with this name.
fn failure(file: &str, error: PipelineError) -> Failure {
    match error {
        // The reason may contain details of this machine. Here it may be shown, unlike in the answer to an upload.
        PipelineError::Video(ProbeError::Unreadable(reason)) => {
            Failure::Input(format!("{file} cannot be read: {reason}"))
        }
        PipelineError::Video(_) => {
            Failure::Input(format!("{file}: {}", report::failure(&error.reason(), Language::EN)))
        }
        PipelineError::Cancelled => Failure::Interrupted("stopped".to_owned()),
        PipelineError::Missing(_) => Failure::Missing(format!("{error}; run `visage doctor` for details")),
        _ => Failure::Run(error.to_string()),
    }
}
