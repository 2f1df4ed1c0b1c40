//! The memory that one process may take.

/// The share of the memory of the machine that one process may take, as numerator and denominator.
const SHARE: (u64, u64) = (3, 4);

/// A share of the memory of this machine, or of its control group, in bytes. A process with this limit fails before the
/// system runs out of memory. `None` if the system does not tell.
pub fn share_of_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let limits = [total_memory(&read("/proc/meminfo")), read("/sys/fs/cgroup/memory.max").trim().parse().ok()];
    limits.into_iter().flatten().min().map(|all| all / SHARE.1 * SHARE.0)
}

/// Reads `MemTotal` from the text of /proc/meminfo, in bytes.
fn total_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(total_memory("MemTotal:       24602052 kB\nMemFree:  1 kB\n"), Some(24_602_052 << 10));
        assert_eq!(total_memory("MemFree:  1 kB\n"), None);
        assert!(share_of_memory().is_some_and(|bytes| bytes > 1 << 28));
    }
}
