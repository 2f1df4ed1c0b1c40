//! `visage analyze --out`: analyzes many inputs in one process and writes their results to a folder.
//!
//! Inputs are listed ([`inputs`]) and given names for their results ([`names`]). Those whose finished result is in the
//! folder ([`folder`], [`identity`]) are passed over. Threads analyze the others with the same models ([`work`]). At the
//! end a table is made of all results ([`table`]).

mod failed;
mod folder;
mod identity;
mod inputs;
mod media_names;
mod names;
mod progress;
mod table;
mod work;

use std::path::PathBuf;

use self::folder::ResultFolder;
use self::identity::Setup;
use self::progress::Board;
use self::table::{Entry, Table};
use self::work::{Outcome, Tools, Work};
use super::{interrupt, overlay};
use crate::analysis::Options;
use crate::cli::{Failure, PROGRAM};
use crate::config::Settings;
use crate::isolation::Decoders;
use crate::media;
use crate::pipeline::{Pipeline, PipelineError};

/// What to analyze, and how.
pub struct Batch {
    /// Videos, pictures and folders.
    pub inputs: Vec<PathBuf>,
    /// The folder for the results.
    pub out: PathBuf,
    pub table: Option<PathBuf>,
    /// Whether each video is also written with boxes and labels.
    pub overlays: bool,
    /// Number of inputs to analyze at the same time.
    pub jobs: usize,
    pub options: Options,
}

pub fn run(batch: &Batch, settings: &Settings) -> Result<(), Failure> {
    if batch.inputs.iter().any(|input| input.as_os_str() == "-") {
        return Err(Failure::Settings(
            "standard input has no name for a result: leave out --out, and write standard output to a file".to_owned(),
        ));
    }
    let table = batch.table.as_ref().map(|path| Table::open(path)).transpose()?;
    if batch.overlays {
        overlay::check()?;
    }
    let setup = Setup::of(batch.options, settings)?;
    let inputs = inputs::list(&batch.inputs, &batch.out, &settings.video);
    if inputs.is_empty() {
        return Err(Failure::Input("the folders have no video and no picture".to_owned()));
    }
    let folder = ResultFolder::open(&batch.out)?;

    let is_done = |input: &inputs::Input| {
        input.problem.is_none() && folder.has(&input.result, &input.path, &setup, batch.overlays)
    };
    let outcomes: Vec<Outcome> =
        inputs.iter().map(|input| if is_done(input) { Outcome::DoneBefore } else { Outcome::NotReached }).collect();
    let waiting: Vec<usize> =
        outcomes.iter().enumerate().filter(|(_, outcome)| **outcome == Outcome::NotReached).map(|(at, _)| at).collect();
    let cancel = interrupt::cancel_on_signals()?;
    let board = Board::new(inputs.len(), inputs.len() - waiting.len());
    // A folder whose inputs are all done or missing costs no loading of models.
    let tools = match waiting.iter().any(|at| inputs[*at].problem.is_none()) {
        true => Some(load(settings, batch.options)?),
        false => None,
    };
    let work = Work { inputs: &inputs, folder: &folder, setup: &setup, batch, settings, board: &board };
    let (outcomes, stopped) = work.run(tools.as_ref(), outcomes, waiting, &cancel);
    board.finish();

    let tabulated = table.map_or(Ok(()), |table| {
        let reached = inputs.iter().zip(&outcomes).filter(|(_, outcome)| **outcome != Outcome::NotReached);
        let entries = reached.map(|(input, outcome)| Entry {
            file: &input.path,
            result: &input.result,
            failed: outcome.failed(),
            json: if outcome.failed().is_none() { folder.read(&input.result) } else { None },
        });
        table.write(entries)
    });
    // If the disk is full, the first failure says most.
    if let Some(failure) = stopped {
        return Err(failure);
    }
    tabulated?;
    summarise(&outcomes, cancel.is_cancelled())?;
    media::exit_now(0)
}

/// Starts the decoders and loads the models.
fn load(settings: &Settings, options: Options) -> Result<Tools, Failure> {
    let missing = |error: String| Failure::Missing(format!("{error}; run `visage doctor` for details"));
    let decoders = Decoders::new(&settings.video, PROGRAM.into(), true).map_err(|error| missing(error.to_string()))?;
    let pipeline = Pipeline::load_for(settings, &decoders, options).map_err(|error| match error {
        PipelineError::Missing(_) => missing(error.to_string()),
        error => Failure::Run(error.to_string()),
    })?;
    decoders.check().map_err(|error| missing(error.to_string()))?;
    Ok(Tools { pipeline, decoders })
}

/// Says how many inputs have a result. An input without one is a failure.
fn summarise(outcomes: &[Outcome], is_interrupted: bool) -> Result<(), Failure> {
    let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count();
    let (all, failed) = (outcomes.len(), count(|outcome| outcome.failed().is_some()));
    let before = count(|outcome| *outcome == Outcome::DoneBefore);
    let done = before + count(|outcome| *outcome == Outcome::Done);
    let text = format!("{done} of {all} inputs have a result ({before} had it before)");
    match (is_interrupted && done + failed < all, failed) {
        (true, _) => Err(Failure::Interrupted(format!("stopped; {text}; the same command goes on from here"))),
        (false, 0) => {
            progress::say(&text);
            Ok(())
        }
        (false, _) => Err(Failure::Partly(format!("{text}, {failed} failed"))),
    }
}
