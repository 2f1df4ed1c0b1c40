//! Analyzes a video in a process of its own: `visage analyze-confined`, which loads the models, does one analysis and
//! ends. A worker gives it the jobs during whose run a process died, so that the next death ends the child alone, and
//! its exit status tells why: a crash counts against the video, a kill from outside (such as for the memory that others
//! took) does not.
//!
//! The two speak JSON, a line each: the worker writes one [`Order`] and keeps the pipe open for as long as it wants the
//! answer; the child writes [`Line`]s.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::analyzer::{Analyzer, Trouble};
use crate::analysis::{FailureReason, Findings, Options};
use crate::fault::{Fault, Part};
use crate::media::Source;
use crate::pipeline::{Cancel, Progress};

/// How often it is asked whether the analysis is still wanted.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Exit code of a Rust program whose main thread panicked.
const PANICKED: i32 = 101;

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    source: Place,
    pub options: Options,
}

/// A [`Source`] on its way to the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    File(PathBuf),
    Url(String),
}

impl Order {
    fn new(source: &Source, options: Options) -> Self {
        let source = match source {
            Source::File(path) => Place::File(path.clone()),
            Source::Url(url) => Place::Url(url.clone()),
        };
        Self { source, options }
    }

    pub fn source(&self) -> Source {
        match &self.source {
            Place::File(path) => Source::File(path.clone()),
            Place::Url(url) => Source::Url(url.clone()),
        }
    }
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    Progress { frames_done: u64, frames_total: u64 },
    Findings(Box<Findings>),
    Trouble(Trouble),
}

/// Starts a child for every analysis.
#[derive(Debug, Clone)]
pub struct Confined {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Confined {
    /// `program` with these arguments is `visage analyze-confined` with the settings of this process.
    pub const fn new(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { program, arguments }
    }

    fn start(&self, order: &Order) -> std::io::Result<Running> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A signal from the terminal is for the worker, which lets running jobs finish.
            .process_group(0)
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut running = Running { child, lines: None, _wanted: None };
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(std::io::Error::other("the child has no pipes"));
        };
        let mut text = serde_json::to_vec(order).map_err(std::io::Error::other)?;
        text.push(b'\n');
        // A child that is dead already says more by its exit status.
        let _ = stdin.write_all(&text);
        let (to, lines) = channel();
        std::thread::Builder::new().name("confined".to_owned()).spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if to.send(line).is_err() {
                    return;
                }
            }
        })?;
        (running.lines, running._wanted) = (Some(lines), Some(stdin));
        Ok(running)
    }
}

/// A child that is ended when nobody waits for it any more.
struct Running {
    child: Child,
    lines: Option<Receiver<String>>,
    /// The child ends when this is closed.
    _wanted: Option<std::process::ChildStdin>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Analyzer for Confined {
    fn analyze(
        &self,
        source: &Source,
        options: Options,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, Trouble> {
        let mut running = self.start(&Order::new(source, options)).map_err(|error| not_started(&error))?;
        let Some(lines) = running.lines.take() else { return Err(not_started(&"no pipes")) };
        loop {
            if cancel.is_cancelled() {
                return Err(Trouble::cancelled());
            }
            let line = match lines.recv_timeout(ASK_EVERY) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match serde_json::from_str(&line) {
                Ok(Line::Progress { frames_done, frames_total }) => progress(Progress { frames_done, frames_total }),
                Ok(Line::Findings(findings)) => return Ok(*findings),
                Ok(Line::Trouble(trouble)) => return Err(trouble),
                Err(error) => tracing::warn!(%error, "a confined analysis says something that is not understood"),
            }
        }
        Err(running.child.wait().map_or_else(|error| not_started(&error), ended))
    }
}

fn not_started(error: &dyn std::fmt::Display) -> Trouble {
    Trouble::new(Fault::Ours(Part::Memory), FailureReason::AnalysisCrashed, error)
}

/// Why a child ended without an answer.
fn ended(status: ExitStatus) -> Trouble {
    Trouble::new(
        fault(status.signal(), status.code()),
        FailureReason::AnalysisCrashed,
        format!("the process ended: {status}"),
    )
}

/// A process that crashed did so over its video. One that was killed was killed by somebody else: its own memory is
/// bounded, and going beyond that ends in a crash.
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

    fn analyze(script: &str, cancel: &Cancel) -> Result<Findings, Trouble> {
        let arguments = ["-c", script].map(OsString::from).to_vec();
        let source = Source::File("/videos/it's \"quoted\"".into());
        Confined::new("/bin/sh".into(), arguments).analyze(&source, Options::new(5, 10), &|_| {}, cancel)
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
            let trouble = analyze(script, &Cancel::default()).unwrap_err();
            assert_eq!((trouble.fault, trouble.reason.code()), (expected, "analysis_crashed"), "{script}");
        }
    }

    #[test]
    fn a_child_gets_its_order_and_its_trouble_comes_back() {
        // The shell gives the order back as the cause of its trouble.
        let script = r#"read -r order; quoted=$(printf %s "$order" | sed 's/\\/\\\\/g; s/"/\\"/g')
            echo '{"progress":{"frames_done":1,"frames_total":2}}'
            printf '{"trouble":{"fault":"video","reason":{"code":"codec_unknown","codec":"c"},"cause":"%s"}}\n' "$quoted""#;
        let trouble = analyze(script, &Cancel::default()).unwrap_err();
        assert_eq!(
            (trouble.fault, trouble.reason),
            (Fault::Video, FailureReason::CodecUnknown { codec: "c".to_owned() })
        );
        let order: Order = serde_json::from_str(&trouble.cause).unwrap();
        assert_eq!(order.source(), Source::File("/videos/it's \"quoted\"".into()));
        assert_eq!(order.options, Options::new(5, 10));
    }

    #[test]
    fn a_child_is_ended_when_its_answer_is_not_wanted() {
        let cancel = Cancel::default();
        cancel.cancel();
        let started = std::time::Instant::now();
        let trouble = analyze("sleep 600", &cancel).unwrap_err();
        assert_eq!(trouble.fault, Fault::Client);
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_program_that_is_not_there_is_no_fault_of_the_video() {
        let confined = Confined::new("/nowhere/visage".into(), Vec::new());
        let source = Source::File("/video".into());
        let trouble = confined.analyze(&source, Options::new(5, 10), &|_| {}, &Cancel::default()).unwrap_err();
        assert_eq!(trouble.fault, Fault::Ours(Part::Memory));
    }
}
