//! `visage analyze-confined`: one analysis for a worker that keeps it apart from the others, see
//! [`crate::worker::Confined`]. Nobody else calls it.

use std::io::{BufRead, Write};

use super::Failure;
use crate::config::{Device, Settings};
use crate::fault::{Fault, Part};
use crate::pipeline::{Cancel, Pipeline, Progress};
use crate::worker::{Analyzer, Line, Order, Trouble};

/// Of the memory that there is, this share may be taken.
const SHARE: (u64, u64) = (3, 4);

pub fn run(settings: &Settings) -> Result<(), Failure> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().lock();
    let failed = |error: &dyn std::fmt::Display| Failure::Run(error.to_string());
    stdin.read_line(&mut text).map_err(|error| failed(&error))?;
    let order: Order = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    drop(stdin);
    // The worker closes the pipe when it dies or wants no answer any more.
    std::thread::spawn(|| {
        let mut rest = String::new();
        while std::io::stdin().lock().read_line(&mut rest).is_ok_and(|read| read > 0) {
            rest.clear();
        }
        super::leave();
    });
    // When memory runs out, this process is ended before its worker.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "500") {
        tracing::debug!(%error, "the system does not say whom to end first");
    }
    let analysis = Pipeline::load(settings).map_err(Trouble::from).and_then(|pipeline| {
        if settings.engine.device == Device::Cpu {
            bound_memory();
        }
        let progress = |Progress { frames_done, frames_total }| tell(&Line::Progress { frames_done, frames_total });
        Analyzer::analyze(&pipeline, &order.source(), order.options, &progress, &Cancel::default())
    });
    match analysis {
        Ok(findings) => tell(&Line::Findings(Box::new(findings))),
        // Memory is bounded here: what went beyond that is the video's.
        Err(trouble) if trouble.fault == Fault::Ours(Part::Memory) => {
            tell(&Line::Trouble(Trouble { fault: Fault::Unclear, ..trouble }));
        }
        Err(trouble) => tell(&Line::Trouble(trouble)),
    }
    super::leave()
}

/// Writes a line. A worker that reads no more ends this process by itself.
fn tell(line: &Line) {
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
    }
}

/// Allows this process a share of the machine's or its control group's memory: an analysis that needs more breaks off here
/// instead of taking the memory of others.
fn bound_memory() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let limits = [of_machine(&read("/proc/meminfo")), read("/sys/fs/cgroup/memory.max").trim().parse().ok()];
    let Some(all) = limits.into_iter().flatten().min() else { return };
    let most = all / SHARE.1 * SHARE.0;
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the structure is read during the call, and nothing else.
    if unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::warn!(%error, "the memory of an analysis cannot be bounded");
    }
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn of_machine(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
