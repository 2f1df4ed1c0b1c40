//! Stops an analysis of many inputs on a signal.

use std::convert::Infallible;
use std::io::Write;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Failure, INTERRUPTED};
use crate::media;
use crate::pipeline::Cancel;

/// Returns a switch that the first SIGINT or SIGTERM turns. A second signal ends the process at once.
pub fn cancel_on_signals() -> Result<Cancel, Failure> {
    let failed = |error: std::io::Error| Failure::Run(format!("cannot handle signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (interrupt, terminate) = runtime
        .block_on(async {
            Ok::<_, std::io::Error>((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
        })
        .map_err(failed)?;
    let cancel = Cancel::default();
    let waiting = wait(interrupt, terminate, cancel.clone());
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || runtime.block_on(waiting)).map_err(failed)?;
    Ok(cancel)
}

/// Waits for signals as long as the process runs.
async fn wait(mut interrupt: Signal, mut terminate: Signal, cancel: Cancel) -> Infallible {
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if cancel.is_cancelled() {
            media::exit_now(INTERRUPTED);
        }
        // Not `eprintln`, which panics if standard error is closed.
        let _ = writeln!(std::io::stderr(), "visage: stopping; a second signal ends the process at once");
        cancel.cancel();
    }
}
