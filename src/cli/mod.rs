//! The command line, with one file or folder per subcommand. It parses arguments, prints results and chooses the exit code. Other
//! modules do the work.

mod analyze;
mod compare;
mod doctor;
mod eval;
mod keys;
mod migrate;
mod models;
mod openapi;
mod run_job;
mod serve;
mod storage;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{ConfigError, Settings};
use crate::engine::library;
use crate::telemetry::{self, Telemetry};
use crate::{isolation, media, memory};

/// Analyze the faces in a video: emotion, calmness and eye contact, per person and over time.
///
/// Try it:   visage analyze clip.mp4          analyze a video on disk and print the result as JSON
///           visage serve                     run the service on http://127.0.0.1:8000
///           visage doctor                    check what is missing on this machine, and how to fix it
///
/// Exit codes: 0 success, 1 failed while running, 2 wrong usage or settings, 3 the input was refused (not a video, too
/// long, ...), 4 a requirement is missing (a library, a model, the database, ...), 5 some of many inputs failed, 130
/// stopped by a signal.
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
    /// Run only workers. Any number of processes on any machines can share one Postgres database and one bucket.
    Work,
    /// Analyze a video or a picture on disk and print the result as JSON, or analyze many.
    Analyze(analyze::Args),
    /// Compare one person in several results, or groups of results, and mark the differences beyond chance.
    Compare(compare::Args),
    /// Fetch the model files, or list them.
    Models(models::Args),
    /// Update the tables of the database. `visage serve` does it at start if the setting database.migrate is true.
    Migrate(migrate::Args),
    /// Show which storage belongs to the database, or assign another one to it.
    Storage(storage::Args),
    /// Run one analysis in a process of its own, for a worker.
    #[command(hide = true)]
    RunJob,
    /// Measure the configured classifier on your own labelled pictures.
    Eval(eval::Args),
    /// Create, list and revoke keys for the service.
    Keys(keys::Args),
    /// Print the OpenAPI 3.1 description of the service.
    Openapi,
    /// Check everything that the service needs, and print how to fix problems.
    Doctor(doctor::Args),
}

/// The failure of a command. Its kind decides the exit code.
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
    /// Exit code 5: some of many inputs failed.
    Partly(String),
    /// Exit code 130: a signal stopped the command.
    Interrupted(String),
}

/// The exit code after a signal, as a shell gives it for SIGINT.
const INTERRUPTED: u8 = 130;

impl Failure {
    const fn code(&self) -> u8 {
        match self {
            Self::Run(_) => 1,
            Self::Settings(_) => 2,
            Self::Input(_) => 3,
            Self::Missing(_) => 4,
            Self::Partly(_) => 5,
            Self::Interrupted(_) => INTERRUPTED,
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Run(text)
            | Self::Settings(text)
            | Self::Input(text)
            | Self::Missing(text)
            | Self::Partly(text)
            | Self::Interrupted(text) => text,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Settings(error.to_string())
    }
}

/// The program of this process, even if its file has been replaced or deleted.
const PROGRAM: &str = "/proc/self/exe";

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == isolation::SUBCOMMAND) {
        return decode_child();
    }
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("visage: {}", failure.message());
            ExitCode::from(failure.code())
        }
    }
}

/// `visage decode-child`: decodes a video for another process of visage. It reads no settings and writes no log.
fn decode_child() -> ExitCode {
    media::close_inherited_files();
    memory::limit_free();
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    if arguments.is_empty() {
        return isolation::run_child();
    }
    Settings::defaults().map_or(ExitCode::FAILURE, |settings| isolation::run_attempt(&settings.video, &arguments))
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let vars =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let settings = Settings::load(cli.config.as_deref(), vars)?;
    let has_traces = matches!(cli.command, Command::Serve(_) | Command::Work | Command::RunJob);
    let tracing = has_traces.then_some(&settings.tracing);
    // `visage doctor` prints findings instead of a log.
    let telemetry = match cli.command {
        Command::Doctor(_) => Telemetry::default(),
        _ => telemetry::start(&settings.log, tracing).map_err(Failure::Settings)?,
    };
    memory::limit_free();
    library::disable_telemetry();
    media::prepare();
    match cli.command {
        Command::Serve(args) => serve::serve(args, settings, cli.config.as_deref()),
        Command::Work => serve::work(settings, cli.config.as_deref()),
        Command::Migrate(args) => migrate::run(args, settings),
        Command::Storage(args) => storage::run(args, settings),
        Command::RunJob => run_job::run(&settings, telemetry),
        Command::Analyze(args) => analyze::run(args, settings),
        Command::Compare(args) => compare::run(&args),
        Command::Models(args) => models::run(args, settings),
        Command::Eval(args) => eval::run(args, settings),
        Command::Keys(args) => keys::run(args, settings),
        Command::Openapi => openapi::run(&settings),
        Command::Doctor(args) => doctor::run(args, settings, cli.config.as_deref()),
    }
}

/// Checks before the work whether its result can be written to this path.
fn writable(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    Err(Failure::Settings(format!("{} cannot be written: give a file in a folder that exists", path.display())))
}

/// Writes to standard output. A reader that closes the pipe early (`| head`) is not an error.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Run(error.to_string())),
        _ => Ok(()),
    }
}
