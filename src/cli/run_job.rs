//! `visage run-job`: runs one analysis in a process of its own, see [`crate::worker::JobProcess`]. Only workers
//! call it.

use std::io::{BufRead, Write};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tracing::field::Empty;

use super::{Failure, PROGRAM};
use crate::config::{Device, Settings};
use crate::fault::{Fault, Part};
use crate::isolation::{self, Decoders};
use crate::pipeline::{AnalysisPart, AnalysisParts, Cancel, Pipeline, Progress};
use crate::telemetry::{Telemetry, step, trace};
use crate::worker::{AnalysisError, AnalysisRequest, Analyzer, ChildMessage};

/// Time in which the spans of the analysis are sent before its result. The worker ends this process when it has that.
const LAST_SPANS_TIMEOUT: Duration = Duration::from_secs(1);

pub fn run(settings: &Settings, telemetry: Telemetry) -> Result<(), Failure> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().lock();
    let failed = |error: &dyn std::fmt::Display| Failure::Run(error.to_string());
    stdin.read_line(&mut text).map_err(|error| failed(&error))?;
    let mut request: AnalysisRequest = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    drop(stdin);
    // The worker closes the pipe when it ends or no longer needs the result.
    std::thread::spawn(|| {
        let mut rest = String::new();
        while std::io::stdin().lock().read_line(&mut rest).is_ok_and(|read| read > 0) {
            rest.clear();
        }
        crate::media::exit_now(0);
    });
    // If the system runs out of memory, it should kill this process before its worker.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "500") {
        tracing::debug!(%error, "cannot raise the OOM score of this process");
    }
    let span = tracing::info_span!("run-job", trace_id = Empty);
    trace::join(&span, request.trace.as_ref().and_then(|trace| trace.parse().ok()).as_ref());
    let in_span = span.entered();
    let decoders = Decoders::new(&settings.video, PROGRAM.into(), false).map_err(|error| failed(&error))?;
    let pipeline = step!("load models").in_scope(|| Pipeline::load(settings, &decoders));
    let analysis = pipeline.map_err(AnalysisError::from).and_then(|pipeline| {
        if settings.engine.device == Device::Cpu {
            limit_memory();
        }
        let progress =
            |Progress { frames_done, frames_total }| send(&ChildMessage::Progress { frames_done, frames_total });
        let keep = |part: AnalysisPart| send(&ChildMessage::Part(Box::new(part)));
        let parts = AnalysisParts {
            earlier: std::mem::take(&mut request.earlier),
            every: Duration::from_secs(request.keep_every_s.unwrap_or(u64::MAX)),
            keep: request.keep_every_s.is_some().then_some(&keep),
        };
        Analyzer::analyze(&pipeline, &request.source(), request.options, parts, &progress, &Cancel::default())
    });
    drop(in_span);
    telemetry.end(LAST_SPANS_TIMEOUT);
    match analysis {
        Ok(findings) => send(&ChildMessage::Findings(Box::new(findings))),
        // This process has a memory limit, so exceeding it may be caused by the video.
        Err(error) if error.fault == Fault::Ours(Part::Memory) => {
            send(&ChildMessage::Error(AnalysisError { fault: Fault::Unclear, ..error }));
        }
        Err(error) => send(&ChildMessage::Error(error)),
    }
    crate::media::exit_now(0)
}

/// Writes a message to the worker. Errors are ignored: a worker that no longer reads ends this process anyway.
fn send(line: &ChildMessage) {
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
    }
}

/// Limits the memory of this process to a share of the memory of the machine or its control group. An analysis that
/// needs more fails without taking memory from other processes.
fn limit_memory() {
    let Some(max) = isolation::share_of_memory() else { return };
    if let Err(error) = setrlimit(Resource::Data, Rlimit { current: Some(max), maximum: Some(max) }) {
        tracing::warn!(%error, "cannot limit the memory of an analysis");
    }
}
