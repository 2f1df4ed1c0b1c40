//! Removes from this process all rights that decoding does not need. This cannot be undone.
//!
//! - `no_new_privs`, and no core dumps or tracing by other processes of the user.
//! - Resource limits: memory, CPU time, open files, and the size of files, which is that of the shared pictures.
//! - landlock: no path of the file system, no TCP port, no signals to other processes.
//! - seccomp: only the system calls that decoding makes. A call that an exploit would make (to start a program, to open
//!   a socket, to send a signal, to trace a process) ends the process. Any other call fails with EPERM.

use std::collections::BTreeMap;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::{Deserialize, Serialize};

use super::memory::share_of_memory;
use super::slots::{SLOTS, slot_bytes};
use crate::config::Video;

/// Memory for everything but the frames of the decoders: packets, the index of the container, sound, pictures.
const MEMORY_BESIDE_FRAMES: u64 = 1 << 30;
/// Address space beside that memory, for libraries and for reservations of the allocator.
const ADDRESS_SPACE: u64 = 8 << 30;
/// The CPU time limit is this many times `video.max_cpu_s`, and some seconds more. It stops a decoder that does not
/// return. `media::Budget` refuses other videos earlier, when they reach `video.max_cpu_s`.
const CPU_FACTOR: u64 = 2;
const CPU_BESIDE_S: u64 = 60;
const MAX_OPEN_FILES: u64 = 64;

/// The barriers that confine a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    pub seccomp: bool,
    pub landlock: bool,
}

impl Confinement {
    pub const fn is_complete(self) -> bool {
        self.seccomp && self.landlock
    }
}

impl std::fmt::Display for Confinement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.seccomp, self.landlock) {
            (true, true) => "seccomp and landlock",
            (true, false) => "seccomp, but not landlock",
            (false, true) => "landlock, but not seccomp",
            (false, false) => "neither seccomp nor landlock",
        })
    }
}

/// Confines this process, which must have one thread. Returns the barriers that the kernel supports.
pub fn confine(limits: &Video, with_landlock: bool) -> Confinement {
    // Their errors are ignored, because they only add to the other barriers.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // If the system runs out of memory, it should end this process first.
    let _ = std::fs::write("/proc/self/oom_score_adj", "900");
    limit_resources(limits);
    Confinement { landlock: with_landlock && restrict_paths().unwrap_or(false), seccomp: filter_calls().is_ok() }
}

fn limit_resources(limits: &Video) {
    // This limit must be reached before the kernel ends the process for lack of memory: an end by the kernel does not
    // count against the video.
    let memory = limits.max_decoder_memory.0.saturating_add(MEMORY_BESIDE_FRAMES);
    let memory = share_of_memory().map_or(memory, |share| share.min(memory));
    let cpu = limits.max_cpu_s.saturating_mul(CPU_FACTOR).saturating_add(CPU_BESIDE_S);
    for (resource, most) in [
        (Resource::Data, memory),
        (Resource::As, memory.saturating_add(ADDRESS_SPACE)),
        (Resource::Cpu, cpu),
        (Resource::Fsize, slot_bytes(limits).saturating_mul(SLOTS as u64)),
        (Resource::Nofile, MAX_OPEN_FILES),
        (Resource::Core, 0),
    ] {
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
}

/// Forbids all paths, TCP ports and signals to other processes. Returns whether the kernel forbids paths at least.
fn restrict_paths() -> Result<bool, RulesetError> {
    let newest = ABI::V6;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("this processor architecture is not supported")]
    Architecture,
    #[error(transparent)]
    Backend(#[from] seccompiler::BackendError),
    #[error(transparent)]
    Apply(#[from] seccompiler::Error),
}

/// Installs the filters of system calls.
fn filter_calls() -> Result<(), FilterError> {
    let architecture = std::env::consts::ARCH.try_into().map_err(|_| FilterError::Architecture)?;
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let compile = |rules, mismatch, action| -> Result<BpfProgram, FilterError> {
        Ok(SeccompFilter::new(rules, mismatch, action, architecture)?.try_into()?)
    };
    let any = |calls: &[i64]| calls.iter().map(|call| (*call, Vec::new())).collect::<BTreeMap<_, _>>();
    // glibc then starts threads by clone, whose flags a filter can see.
    let no_clone3 = compile(any(&[libc::SYS_clone3]), SeccompAction::Allow, errno(libc::ENOSYS))?;
    let hostile = compile(any(HOSTILE), SeccompAction::Allow, SeccompAction::KillProcess)?;
    let mut allowed = any(ALLOWED);
    allowed.extend(conditional()?);
    let allowed = compile(allowed, errno(libc::EPERM), SeccompAction::Allow)?;
    // The last filter forbids to install further filters.
    for filter in [no_clone3, hostile, allowed] {
        seccompiler::apply_filter(&filter)?;
    }
    Ok(())
}

/// System calls that are allowed with certain arguments only.
fn conditional() -> Result<BTreeMap<i64, Vec<SeccompRule>>, FilterError> {
    use SeccompCmpArgLen::{Dword, Qword};
    let rule = |argument, length, operator, value| -> Result<Vec<SeccompRule>, FilterError> {
        Ok(vec![SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])?])
    };
    let bits = |bits: i32| u64::from(bits.unsigned_abs());
    let thread = bits(libc::CLONE_THREAD | libc::CLONE_VM);
    let executable = bits(libc::PROT_EXEC);
    Ok([
        // Threads, but no processes.
        (libc::SYS_clone, rule(0, Qword, SeccompCmpOp::MaskedEq(thread), thread)?),
        // Memory, but none that can be executed.
        (libc::SYS_mmap, rule(2, Dword, SeccompCmpOp::MaskedEq(executable), 0)?),
        (libc::SYS_mprotect, rule(2, Dword, SeccompCmpOp::MaskedEq(executable), 0)?),
        // Signals to this process, as abort() sends.
        (libc::SYS_tgkill, rule(0, Dword, SeccompCmpOp::Eq, std::process::id().into())?),
        // Names of threads.
        (libc::SYS_prctl, rule(0, Dword, SeccompCmpOp::Eq, bits(libc::PR_SET_NAME))?),
        // Reading of resource limits.
        (libc::SYS_prlimit64, rule(2, Qword, SeccompCmpOp::Eq, 0)?),
    ]
    .into_iter()
    .collect())
}

/// System calls of exploits. No decoder makes them.
const HOSTILE: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_perf_event_open,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// System calls that are allowed.
const ALLOWED: &[i64] = &[
    // Open files.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ppoll,
    // Open sockets.
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_membarrier,
    // Threads. clone3 is answered by a filter of its own.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_getcpu,
    // Signals of this process.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and random numbers.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];
