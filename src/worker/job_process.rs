//! Analyzes a video in a child process: `visage run-job` loads the models, does one analysis and exits. A
//! worker uses it for jobs during which a process died before. If it dies again, only the child dies, and its exit
//! status gives the reason. A crash counts against the video. A kill from outside, such as by the kernel when memory
//! runs out, does not.
//!
//! The two processes exchange lines of JSON. The worker writes one [`AnalysisRequest`]. If it closes the pipe, the
//! analysis is cancelled. The child writes [`ChildMessage`]s.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::analyzer::{AnalysisError, Analyzer};
use crate::analysis::{FailureReason, Findings, Options};
use crate::fault::{Fault, Part};
use crate::media::Source;
use crate::pipeline::{AnalysisPart, AnalysisParts, Cancel, Progress};
use crate::telemetry::trace::TraceContext;

/// How often the worker checks whether the analysis was cancelled.
const CANCEL_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Exit code of a Rust program whose main thread panicked.
const PANICKED: i32 = 101;

/// The request to a child: one video to analyze.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnalysisRequest {
    source: RequestSource,
    pub options: Options,
    /// The parts that earlier runs have kept.
    #[serde(default)]
    pub earlier: Vec<AnalysisPart>,
    /// The time in seconds between the parts to keep, if any are kept.
    #[serde(default)]
    pub keep_every_s: Option<u64>,
    /// The span of the run in the worker, as text.
    #[serde(default)]
    pub trace: Option<String>,
}

/// A [`Source`] in serialized form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RequestSource {
    File(PathBuf),
    Url(String),
}

impl AnalysisRequest {
    fn new(source: &Source, options: Options, parts: &mut AnalysisParts<'_>) -> std::io::Result<Self> {
        let source = match source {
            Source::File(path) => RequestSource::File(path.clone()),
            Source::Url(url) => RequestSource::Url(url.clone()),
            Source::Opened(_) => return Err(std::io::Error::other("an open file cannot be handed to a child")),
        };
        let earlier = std::mem::take(&mut parts.earlier);
        let keep_every_s = parts.keep.map(|_| parts.every.as_secs());
        Ok(Self {
            source,
            options,
            earlier,
            keep_every_s,
            trace: TraceContext::current().map(|context| context.to_string()),
        })
    }

    pub fn source(&self) -> Source {
        match &self.source {
            RequestSource::File(path) => Source::File(path.clone()),
            RequestSource::Url(url) => Source::Url(url.clone()),
        }
    }
}

/// A message from a child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChildMessage {
    Progress {
        frames_done: u64,
        frames_total: u64,
    },
    /// A part to keep.
    Part(Box<AnalysisPart>),
    Findings(Box<Findings>),
    #[serde(rename = "trouble")]
    Error(AnalysisError),
}

/// Starts a child process for each analysis.
#[derive(Debug, Clone)]
pub struct JobProcess {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl JobProcess {
    /// `program` and `arguments` must run `visage run-job` with the settings of this process.
    pub const fn new(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { program, arguments }
    }

    fn start(&self, request: &AnalysisRequest) -> std::io::Result<Running> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Keeps signals of the terminal from the child: the worker handles them and lets running jobs finish.
            .process_group(0)
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut running = Running { child, lines: None, _stdin: None };
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(std::io::Error::other("the child has no pipes"));
        };
        let mut text = serde_json::to_vec(request).map_err(std::io::Error::other)?;
        text.push(b'\n');
        // Ignores the error of a child that is dead already: its exit status gives the reason.
        let _ = stdin.write_all(&text);
        let (to, lines) = channel();
        std::thread::Builder::new().name("job-process".to_owned()).spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if to.send(line).is_err() {
                    return;
                }
            }
        })?;
        (running.lines, running._stdin) = (Some(lines), Some(stdin));
        Ok(running)
    }
}

/// A running child. Dropping it kills the child.
struct Running {
    child: Child,
    lines: Option<Receiver<String>>,
    /// The child exits when its standard input is closed.
    _stdin: Option<std::process::ChildStdin>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ignores the error of a child that has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Analyzer for JobProcess {
    fn analyze(
        &self,
        source: &Source,
        options: Options,
        mut parts: AnalysisParts<'_>,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, AnalysisError> {
        let mut running = AnalysisRequest::new(source, options, &mut parts)
            .and_then(|request| self.start(&request))
            .map_err(|error| not_started(&error))?;
        let Some(lines) = running.lines.take() else { return Err(not_started(&"no pipes")) };
        loop {
            if cancel.is_cancelled() {
                return Err(AnalysisError::cancelled());
            }
            let line = match lines.recv_timeout(CANCEL_CHECK_INTERVAL) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match serde_json::from_str(&line) {
                Ok(ChildMessage::Progress { frames_done, frames_total }) => {
                    progress(Progress { frames_done, frames_total });
                }
                Ok(ChildMessage::Part(part)) => {
                    if let Some(keep) = parts.keep {
                        keep(*part);
                    }
                }
                Ok(ChildMessage::Findings(findings)) => return Ok(*findings),
                Ok(ChildMessage::Error(error)) => return Err(error),
                Err(error) => tracing::warn!(%error, "cannot read a message of the child process"),
            }
        }
        Err(running.child.wait().map_or_else(|error| not_started(&error), ended))
    }
}

fn not_started(error: &dyn std::fmt::Display) -> AnalysisError {
    AnalysisError::new(Fault::Ours(Part::Memory), FailureReason::AnalysisCrashed, error)
}

/// Returns the error for a child that exited without an answer.
fn ended(status: ExitStatus) -> AnalysisError {
    AnalysisError::new(
        fault(status.signal(), status.code()),
        FailureReason::AnalysisCrashed,
        format!("the process ended: {status}"),
    )
}

/// Classifies the end of a child. A crash is attributed to the video. Any other end, such as SIGKILL, is not: the
/// child's memory is limited, and exceeding the limit is a crash.
fn fault(signal: Option<i32>, code: Option<i32>) -> Fault {
    let crashes = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGSYS, libc::SIGTRAP];
    if signal.is_some_and(|signal| crashes.contains(&signal)) || code == Some(PANICKED) {
        Fault::Unclear
    } else {
        Fault::Ours(Part::Memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analyze(script: &str, cancel: &Cancel) -> Result<Findings, AnalysisError> {
        let arguments = ["-c", script].map(OsString::from).to_vec();
        let source = Source::File("/videos/it's \"quoted\"".into());
        JobProcess::new("/bin/sh".into(), arguments).analyze(
            &source,
            Options::new(5, 10),
            AnalysisParts::none(),
            &|_| {},
            cancel,
        )
    }

    #[test]
    fn a_crash_counts_against_the_video_and_a_kill_from_outside_does_not() {
        for (script, expected) in [
            ("kill -SEGV $$", Fault::Unclear),
            ("kill -ABRT $$", Fault::Unclear),
            ("exit 101", Fault::Unclear),
            ("kill -KILL $$", Fault::Ours(Part::Memory)),
            ("kill -TERM $$", Fault::Ours(Part::Memory)),
            ("exit 4", Fault::Ours(Part::Memory)),
        ] {
            let error = analyze(script, &Cancel::default()).unwrap_err();
            assert_eq!((error.fault, error.reason.code()), (expected, "analysis_crashed"), "{script}");
        }
    }

    #[test]
    fn a_child_gets_its_request_and_its_error_is_returned() {
        // The shell returns the request as the cause of its error.
        let script = r#"read -r order; quoted=$(printf %s "$order" | sed 's/\\/\\\\/g; s/"/\\"/g')
            echo '{"progress":{"frames_done":1,"frames_total":2}}'
            reason='{"code":"codec_unknown","codec":"c"}'
            printf '{"trouble":{"fault":"video","reason":%s,"cause":"%s"}}\n' "$reason" "$quoted""#;
        let error = analyze(script, &Cancel::default()).unwrap_err();
        assert_eq!((error.fault, error.reason), (Fault::Video, FailureReason::CodecUnknown { codec: "c".to_owned() }));
        let request: AnalysisRequest = serde_json::from_str(&error.cause).unwrap();
        assert_eq!(request.source(), Source::File("/videos/it's \"quoted\"".into()));
        assert_eq!(request.options, Options::new(5, 10));
    }

    #[test]
    fn cancelling_an_analysis_kills_the_child() {
        let cancel = Cancel::default();
        cancel.cancel();
        let started = std::time::Instant::now();
        let error = analyze("exec sleep 600", &cancel).unwrap_err();
        assert_eq!(error.fault, Fault::Client);
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_missing_program_does_not_count_against_the_video() {
        let process = JobProcess::new("/nowhere/visage".into(), Vec::new());
        let source = Source::File("/video".into());
        let error = process
            .analyze(&source, Options::new(5, 10), AnalysisParts::none(), &|_| {}, &Cancel::default())
            .unwrap_err();
        assert_eq!(error.fault, Fault::Ours(Part::Memory));
    }
}
