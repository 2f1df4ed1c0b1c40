//! Starts decoder processes, and finds out how they ended.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::confine::Confinement;
use super::link::{Link, Received};
use super::message::{Handed, Operation, Ready, Setup, Start};
use crate::analysis::Resource;
use crate::config::Video;
use crate::media::ProbeError;
use crate::telemetry::metrics;

/// The name of the subcommand that runs a child.
pub const SUBCOMMAND: &str = "decode-child";
/// The time limit for the end of a child that closed its socket.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the CPU time of a child that does not answer is read.
const CPU_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Times after which a child counts as hung.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From its start until it is ready.
    pub start: Duration,
    /// Time without use of the CPU while an answer is expected.
    pub hang: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        // A read from a server may take 60 s.
        Self { start: Duration::from_secs(30), hang: Duration::from_secs(120) }
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// The parent ended it, because it was no longer needed.
    Done,
    /// It crashed or panicked.
    Crashed,
    /// It made a system call that no decoder makes.
    ForbiddenCall,
    CpuLimit,
    Hung,
    /// Something else ended it, such as the kernel when memory ran out.
    Killed,
}

impl EndCause {
    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Crashed => "crashed",
            Self::ForbiddenCall => "forbidden_call",
            Self::CpuLimit => "cpu_limit",
            Self::Hung => "hung",
            Self::Killed => "killed",
        }
    }

    /// Classifies the end of a process that the parent did not end.
    fn of(status: ExitStatus) -> Self {
        match status.signal() {
            Some(libc::SIGSYS) => Self::ForbiddenCall,
            Some(libc::SIGXCPU) => Self::CpuLimit,
            Some(libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP) => Self::Killed,
            _ => Self::Crashed,
        }
    }
}

/// Returns the command that runs a child. Its environment is empty except for `LD_LIBRARY_PATH`, and its output is
/// discarded.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(SUBCOMMAND).env_clear().stdout(Stdio::null()).stderr(Stdio::null());
    command.envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)));
    command
}

/// How to start children.
#[derive(Debug)]
pub struct Launcher {
    pub program: PathBuf,
    pub limits: Video,
    pub timeouts: Timeouts,
}

/// A child: a process that decodes one video. It is killed on drop.
#[derive(Debug)]
pub struct Child {
    control: Link,
    process: Mutex<Process>,
    id: u32,
    limits: Video,
    timeouts: Timeouts,
}

#[derive(Debug)]
struct Process {
    child: std::process::Child,
    /// How it ended, once that is known: the cause, and a text for the log.
    end: Option<(EndCause, String)>,
}

impl Launcher {
    /// Starts a child. It loads its libraries and confines itself while this process goes on.
    pub fn start(&self) -> std::io::Result<Child> {
        let (control, theirs) = Link::pair()?;
        let mut command = command(&self.program);
        command.stdin(theirs.into_socket());
        // Keeps signals of the terminal from the child: the parent handles them.
        let child = command.process_group(0).spawn()?;
        // Ignores the error of a child that has ended already: the next message to it finds that.
        let _ = control.send(&Setup { limits: self.limits.clone() }, &[]);
        let id = child.id();
        let process = Mutex::new(Process { child, end: None });
        Ok(Child { control, process, id, limits: self.limits.clone(), timeouts: self.timeouts })
    }
}

impl Child {
    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        let mut process = self.process.lock();
        process.end.is_none() && wait(&mut process.child, Duration::ZERO).is_none()
    }

    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Waits until the child accepts operations. Returns its barriers.
    pub fn wait_until_ready(&self) -> Result<Confinement, ProbeError> {
        match self.control.receive::<Ready>(Some(self.timeouts.start)) {
            Ok(Received::Message(ready, _)) => Ok(ready.confinement),
            Ok(Received::TimedOut) => Err(self.kill_hung()),
            Ok(Received::Closed) | Err(_) => Err(self.ended()),
        }
    }

    /// Starts an operation. Returns the socket for its messages.
    pub fn run(
        &self,
        operation: Operation,
        handed: Handed,
        video: BorrowedFd<'_>,
        pictures: Option<BorrowedFd<'_>>,
    ) -> Result<Link, ProbeError> {
        let unavailable = |error: std::io::Error| ProbeError::Unreadable(format!("a socket: {error}"));
        let (ours, theirs) = Link::pair().map_err(unavailable)?;
        let files: Vec<BorrowedFd<'_>> = [theirs.as_fd(), video].into_iter().chain(pictures).collect();
        self.control.send(&Start { operation, handed }, &files).map_err(|_| self.ended())?;
        Ok(ours)
    }

    /// Returns the error for a child that ended or broke the protocol, with the cause. Kills the child if it still
    /// runs.
    pub fn ended(&self) -> ProbeError {
        self.end(EndCause::Crashed, "it broke the protocol")
    }

    fn kill_hung(&self) -> ProbeError {
        self.end(EndCause::Hung, "it hung")
    }

    /// Waits for the end of the process, and kills it after a timeout, with this cause and reason.
    fn end(&self, cause: EndCause, reason: &str) -> ProbeError {
        let mut process = self.process.lock();
        if process.end.is_none() {
            let timeout = if cause == EndCause::Hung { Duration::ZERO } else { END_TIMEOUT };
            let (found, reason) = match wait(&mut process.child, timeout) {
                Some(status) => (EndCause::of(status), status.to_string()),
                None => {
                    kill(&mut process.child);
                    (cause, reason.to_owned())
                }
            };
            tracing::warn!(cause = found.name(), reason, "a decoder process ended");
            metrics().decoder_ended(found.name());
            process.end = Some((found, reason));
        }
        let (cause, reason) = process.end.clone().unwrap_or_else(|| (cause, reason.to_owned()));
        match cause {
            EndCause::CpuLimit => {
                let limit = self.limits.max_cpu_s;
                ProbeError::TooCostly { resource: Resource::CpuTime, needed: limit.saturating_add(1), limit }
            }
            EndCause::Killed => ProbeError::DecoderKilled(reason),
            _ => ProbeError::DecoderEnded(reason),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let process = self.process.get_mut();
        if process.end.is_none() {
            let ended = wait(&mut process.child, Duration::ZERO);
            kill(&mut process.child);
            metrics().decoder_ended(ended.map_or(EndCause::Done, EndCause::of).name());
        }
    }
}

/// Waits for the end of a process. Returns `None` if it still runs after the timeout.
fn wait(child: &mut std::process::Child, timeout: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if started.elapsed() >= timeout {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(child: &mut std::process::Child) {
    // Ignores the error of a process that ended before.
    let _ = child.kill();
    let _ = child.wait();
}

/// Detects a child that hangs: it neither answers nor uses the CPU.
#[derive(Debug)]
pub struct Watch {
    checked: Instant,
    worked: Instant,
    cpu_ticks: u64,
}

impl Watch {
    /// Begins when an answer of the child is expected.
    pub fn start() -> Self {
        Self { checked: Instant::now(), worked: Instant::now(), cpu_ticks: 0 }
    }

    /// Call this from time to time while no answer comes. Kills a child that hangs, and returns the error.
    pub fn check(&mut self, child: &Child) -> Result<(), ProbeError> {
        if self.checked.elapsed() < CPU_CHECK_INTERVAL {
            return Ok(());
        }
        self.checked = Instant::now();
        let ticks = cpu_ticks(child.id);
        if ticks != self.cpu_ticks {
            (self.cpu_ticks, self.worked) = (ticks, Instant::now());
        }
        if self.worked.elapsed() > child.timeouts.hang { Err(child.kill_hung()) } else { Ok(()) }
    }
}

/// The CPU time of a process in ticks of the kernel, from /proc. 0 if it ended.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name of the program, in parentheses, may contain anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    // utime and stime are fields 14 and 15 of proc_pid_stat(5); the state after the name is field 3.
    fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_classified_by_signal() {
        for (raw, cause) in [
            (libc::SIGSEGV, EndCause::Crashed),
            (libc::SIGABRT, EndCause::Crashed),
            (101 << 8, EndCause::Crashed),
            (0, EndCause::Crashed),
            (libc::SIGSYS, EndCause::ForbiddenCall),
            (libc::SIGXCPU, EndCause::CpuLimit),
            (libc::SIGKILL, EndCause::Killed),
        ] {
            assert_eq!(EndCause::of(ExitStatus::from_raw(raw)), cause, "{raw}");
        }
    }

    /// A child that runs a shell script instead of visage.
    fn child(script: &str, timeouts: Timeouts) -> (tempfile::TempDir, Child) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let limits = crate::config::Settings::defaults().unwrap().video;
        let child = Launcher { program, limits, timeouts }.start().unwrap();
        (folder, child)
    }

    fn is_alive(process: u32) -> bool {
        std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
    }

    #[test]
    fn the_end_of_a_child_is_the_error_of_its_video() {
        let ended = |script: &str| child(script, Timeouts::default()).1.wait_until_ready().unwrap_err();
        assert!(matches!(ended("kill -SEGV $$"), ProbeError::DecoderEnded(_)));
        assert!(matches!(ended("exit 101"), ProbeError::DecoderEnded(_)));
        assert!(matches!(ended("kill -SYS $$"), ProbeError::DecoderEnded(_)));
        assert!(matches!(ended("kill -KILL $$"), ProbeError::DecoderKilled(_)));
        assert!(matches!(ended("kill -XCPU $$"), ProbeError::TooCostly { resource: Resource::CpuTime, .. }));
    }

    #[test]
    fn a_child_that_does_nothing_is_killed() {
        let short = Timeouts { start: Duration::from_millis(50), hang: Duration::from_millis(50) };
        let (_folder, silent) = child("exec sleep 600", short);
        let error = silent.wait_until_ready().unwrap_err();
        assert!(matches!(error, ProbeError::DecoderEnded(reason) if reason == "it hung"));
        assert!(!is_alive(silent.id()));
        let (_folder, silent) = child("exec sleep 600", short);
        let mut watch = Watch::start();
        let error = loop {
            if let Err(error) = watch.check(&silent) {
                break error;
            }
            std::thread::yield_now();
        };
        assert!(matches!(error, ProbeError::DecoderEnded(reason) if reason == "it hung"));
        assert!(!is_alive(silent.id()));
    }

    #[test]
    fn a_child_ends_with_its_owner_and_sees_no_environment() {
        let (folder, child) = child("env > $0.env; exec sleep 600", Timeouts::default());
        let written = folder.path().join("program.env");
        while !std::fs::read_to_string(&written).is_ok_and(|text| text.contains("PWD=")) {
            std::thread::yield_now();
        }
        let environment = std::fs::read_to_string(&written).unwrap();
        let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
        // The shell adds these itself.
        assert!(
            names.iter().all(|name| ["PWD", "SHLVL", "_", "OLDPWD", "LD_LIBRARY_PATH"].contains(name)),
            "{names:?}"
        );
        let id = child.id();
        assert!(is_alive(id));
        drop(child);
        assert!(!is_alive(id));
    }

    #[test]
    fn the_cpu_time_of_a_process_is_read() {
        let mut sum = 0_u64;
        while cpu_ticks(std::process::id()) < 2 {
            sum = std::hint::black_box((0..1_000_000).fold(sum, u64::wrapping_add));
        }
        assert_eq!(cpu_ticks(u32::MAX), 0);
    }
}
