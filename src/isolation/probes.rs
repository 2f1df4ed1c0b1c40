//! Makes harmless attempts in a confined process at what an exploit would do. With them, `visage doctor` and the tests
//! check the barriers on this machine.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::confine::{Confinement, confine};
use super::process::{SUBCOMMAND, command};
use crate::config::Video;

/// Something that a child must not be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    ReadFile,
    WriteFile,
    Connect,
    Execute,
    Signal,
}

impl Attempt {
    pub const ALL: [Self; 5] = [Self::ReadFile, Self::WriteFile, Self::Connect, Self::Execute, Self::Signal];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadFile => "read-file",
            Self::WriteFile => "write-file",
            Self::Connect => "connect",
            Self::Execute => "execute",
            Self::Signal => "signal",
        }
    }

    /// Makes the attempt. Returns whether it succeeded. `port` is an open TCP port of this machine.
    fn succeeds(self, port: u16) -> bool {
        match self {
            Self::ReadFile => ["/proc/self/exe", "/etc/passwd"].into_iter().any(|path| File::open(path).is_ok()),
            Self::WriteFile => tempfile::tempfile().is_ok(),
            Self::Connect => TcpStream::connect(("127.0.0.1", port)).is_ok(),
            // Returns only if it fails.
            Self::Execute => {
                let _ = Command::new("/proc/self/exe").args([SUBCOMMAND, EXECUTED]).exec();
                false
            }
            // Signal 0 is sent to nobody: it only asks whether one could be sent.
            Self::Signal => {
                rustix::process::getppid().is_some_and(|parent| rustix::process::test_kill_process(parent).is_ok())
            }
        }
    }
}

/// The argument of the program that an attempt executes.
const EXECUTED: &str = "executed";
/// The exit code of a process whose attempt succeeded.
const SUCCEEDED: u8 = 10;
/// The exit code of a process whose attempt failed.
const FAILED: u8 = 11;
/// The exit code of a process that was confined less than it should be.
const NOT_CONFINED: u8 = 12;

/// The sets of barriers, by the name in the arguments.
const BARRIERS: [(&str, Confinement); 3] = [
    ("none", Confinement { seccomp: false, landlock: false }),
    ("seccomp", Confinement { seccomp: true, landlock: false }),
    ("both", Confinement { seccomp: true, landlock: true }),
];

/// Confines this process and makes an attempt, as the arguments say: its name, the barriers, a port.
pub fn run_attempt(limits: &Video, arguments: &[String]) -> ExitCode {
    if arguments == [EXECUTED] {
        return ExitCode::from(SUCCEEDED);
    }
    let [name, barriers, port] = arguments else { return ExitCode::FAILURE };
    let attempt = Attempt::ALL.into_iter().find(|attempt| attempt.name() == name);
    let wanted = BARRIERS.into_iter().find(|(name, _)| name == barriers).map(|(_, wanted)| wanted);
    let (Some(attempt), Some(wanted), Ok(port)) = (attempt, wanted, port.parse()) else { return ExitCode::FAILURE };
    if wanted.seccomp && confine(limits, wanted.landlock) != wanted {
        return ExitCode::from(NOT_CONFINED);
    }
    ExitCode::from(if attempt.succeeds(port) { SUCCEEDED } else { FAILED })
}

/// Makes each attempt in a child with these barriers. Returns whether each one succeeded, or `None` if the kernel does
/// not have these barriers.
///
/// # Errors
/// An error if a child could not be started, or ended in another way.
pub fn try_attempts(program: &Path, barriers: Confinement) -> std::io::Result<Vec<(Attempt, Option<bool>)>> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    let barriers = BARRIERS.into_iter().find(|(_, it)| *it == barriers).map_or("both", |(name, _)| name);
    Attempt::ALL
        .into_iter()
        .map(|attempt| {
            let mut command = command(program);
            let status = command.args([attempt.name(), barriers, &port]).stdin(Stdio::null()).status()?;
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            match (code, status.signal()) {
                (Some(SUCCEEDED), _) => Ok((attempt, Some(true))),
                (Some(FAILED), _) | (_, Some(libc::SIGSYS)) => Ok((attempt, Some(false))),
                (Some(NOT_CONFINED), _) => Ok((attempt, None)),
                _ => Err(std::io::Error::other(format!("the attempt {} ended: {status}", attempt.name()))),
            }
        })
        .collect()
}
