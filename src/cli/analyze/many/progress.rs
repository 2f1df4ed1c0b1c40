//! Shows the progress of all inputs: a bar on a terminal, otherwise a line for each input.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::failed::{Failed, shown};

/// The length of the bar for each input. Inputs that are being analyzed count in part.
const STEPS: u64 = 1000;

/// The progress of all inputs.
pub struct Board {
    bar: ProgressBar,
    all: usize,
    /// Inputs that had a result before. The bar is about the others, because these say nothing about the time left.
    before: usize,
    state: Mutex<State>,
}

struct State {
    /// Inputs with a result or a failure.
    finished: usize,
    failed: usize,
    /// The steps of the inputs that are being analyzed, by thread.
    running: Vec<u64>,
}

impl Board {
    pub fn new(all: usize, before: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some((all - before) as u64 * STEPS), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %, {msg}, {eta} left") {
            bar.set_style(style);
        }
        let board =
            Self { bar, all, before, state: Mutex::new(State { finished: before, failed: 0, running: Vec::new() }) };
        if before > 0 {
            say(&format!("{before} of {all} inputs had a result before"));
        }
        board.show(&board.state.lock());
        board
    }

    fn show(&self, state: &State) {
        let failed = if state.failed > 0 { format!(", {} failed", state.failed) } else { String::new() };
        self.bar.set_message(format!("{} of {} inputs{failed}", state.finished, self.all));
        let done = (state.finished - self.before) as u64 * STEPS;
        self.bar.set_position(done + state.running.iter().sum::<u64>());
    }

    /// Shows how far the input of this thread is. A total of 0 means that it is unknown.
    pub fn advance(&self, thread: usize, done: u64, total: u64) {
        let mut state = self.state.lock();
        if state.running.len() <= thread {
            state.running.resize(thread + 1, 0);
        }
        // The end of an input is counted when its result is written.
        state.running[thread] = (done * STEPS).checked_div(total).unwrap_or(0).min(STEPS - 1);
        self.show(&state);
    }

    /// Shows that the input of this thread has a result or failed.
    pub fn finished(&self, thread: usize, path: &Path, failed: Option<&Failed>, took: Duration) {
        let mut state = self.state.lock();
        state.finished += 1;
        state.failed += usize::from(failed.is_some());
        if let Some(steps) = state.running.get_mut(thread) {
            *steps = 0;
        }
        let place = format!("[{}/{}] {}", state.finished, self.all, shown(path));
        match failed {
            Some(Failed { text, .. }) => self.line(&format!("{place}: {text}")),
            // On a terminal the bar says enough.
            None if self.bar.is_hidden() => say(&format!("{place} ({:.1} s)", took.as_secs_f64())),
            None => {}
        }
        self.show(&state);
    }

    /// Says something about an input that does not fail.
    pub fn note(&self, path: &Path, text: &str) {
        self.line(&format!("{}: {text}", shown(path)));
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Writes a line to standard error. Unlike `eprintln`, it does not panic if standard error is closed.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "visage: {text}");
}
