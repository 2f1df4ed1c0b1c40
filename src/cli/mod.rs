//! The command line: one file a subcommand. Parses, prints and chooses the exit code; the work is done by the other
//! modules.

mod analyze;
mod confined;
mod doctor;
mod eval;
mod keys;
mod models;
mod openapi;
mod serve;
mod storage;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{ConfigError, Settings};
use crate::{media, telemetry};

/// Upload a video, get back what the faces in it showed: emotion, calmness, eye contact, per person and over time.
///
/// Try it:   visage analyze clip.mp4          a video on disk, the result as JSON
///           visage serve                     the service on http://127.0.0.1:8000
///           visage doctor                    what is missing here, and the cure
///
/// Exit codes: 0 done, 1 failed while running, 2 wrong usage or settings, 3 the input was refused (not a video, too
/// long, ...), 4 something needed is missing (a library, a model, the database, ...).
#[derive(Debug, Parser)]
#[command(name = "visage", version, verbatim_doc_comment, arg_required_else_help = true)]
struct Cli {
    /// Settings file to read instead of config/*.toml. config/default.toml documents every key.
    #[arg(long, global = true, env = "VISAGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the HTTP service and, unless --no-workers is given, workers in the same process.
    Serve(serve::ServeArgs),
    /// Run workers alone: any number of processes on any machines share one Postgres and one bucket.
    Work,
    /// Analyze a video on disk and print the result as JSON.
    Analyze(analyze::Args),
    /// Fetch the model files, or list them.
    Models(models::Args),
    /// Show which storage belongs to the database, or join another to it on purpose.
    Storage(storage::Args),
    /// One analysis for a worker that keeps it apart from the others.
    #[command(hide = true)]
    AnalyzeConfined,
    /// Measure a classifier of the settings on pictures of your own whose labels you know.
    Eval(eval::Args),
    /// Make, list and revoke keys for the service.
    Keys(keys::Args),
    /// Print the description of the service in OpenAPI 3.1.
    Openapi,
    /// Say what is there and what is missing, each with the cure.
    Doctor(doctor::Args),
}

/// Why a command ended without success.
#[derive(Debug)]
pub enum Failure {
    /// Exit code 1.
    Run(String),
    /// Exit code 2.
    Settings(String),
    /// Exit code 3.
    Input(String),
    /// Exit code 4.
    Missing(String),
}

impl Failure {
    const fn code(&self) -> u8 {
        match self {
            Self::Run(_) => 1,
            Self::Settings(_) => 2,
            Self::Input(_) => 3,
            Self::Missing(_) => 4,
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Run(text) | Self::Settings(text) | Self::Input(text) | Self::Missing(text) => text,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Settings(error.to_string())
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("visage: {}", failure.message());
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let vars =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let settings = Settings::load(cli.config.as_deref(), vars)?;
    // The doctor's findings are its log.
    if !matches!(cli.command, Command::Doctor(_)) {
        telemetry::start(&settings.log).map_err(Failure::Settings)?;
    }
    // Before any thread is started: these set what holds for the whole process.
    bound_free_memory();
    keep_to_ourselves();
    media::prepare();
    match cli.command {
        Command::Serve(args) => serve::serve(args, settings, cli.config.as_deref()),
        Command::Work => serve::work(settings, cli.config.as_deref()),
        Command::Storage(args) => storage::run(args, settings),
        Command::AnalyzeConfined => confined::run(&settings),
        Command::Analyze(args) => analyze::run(args, settings),
        Command::Models(args) => models::run(args, settings),
        Command::Eval(args) => eval::run(args, settings),
        Command::Keys(args) => keys::run(args, settings),
        Command::Openapi => openapi::run(&settings),
        Command::Doctor(args) => doctor::run(args, settings, cli.config.as_deref()),
    }
}

/// Finds out before the work whether its result has a place to go.
fn writable(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    Err(Failure::Settings(format!("{} cannot be written: give a file in a folder that exists", path.display())))
}

/// Ends the process at once, after all is written: the system takes memory back sooner than models can be taken down.
fn leave() -> ! {
    // SAFETY: nothing of the process is used any more, whatever its threads are at.
    unsafe { libc::_exit(0) }
}

/// Writes on standard output. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Run(error.to_string())),
        _ => Ok(()),
    }
}

/// Some builds of ONNX Runtime keep a database of what runs in the user's cache folder, and send it to Microsoft. Its own switch
/// in the interface comes too late: by then the database is there.
fn keep_to_ourselves() {
    // SAFETY: no other thread runs yet that could read the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}

/// Sets how glibc gives memory back. Blocks of this size and more go back to the system when they are freed; left alone, it
/// raises that size to that of the largest block freed, and a process keeps what the index of one long video took. Frames and
/// the inputs of models are smaller: each would cost a sixth of an analysis in pages that the system clears and takes again.
/// What stays instead is bounded: so much of free memory, in so many places.
fn bound_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets numbers in the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
