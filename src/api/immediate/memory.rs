//! Reads how much memory is free for this process on Linux: on the machine, and in the control group of the process.

use tokio::fs::read_to_string;

const MACHINE: &str = "/proc/meminfo";
/// The folder of control groups (version 2), as a container sees it.
const GROUP: &str = "/sys/fs/cgroup";

/// Free memory in bytes. `None` if it cannot be read.
pub async fn free() -> Option<u64> {
    let machine = read_to_string(MACHINE).await.ok().and_then(|text| of_machine(&text));
    let of = async |name: &str| read_to_string(format!("{GROUP}/{name}")).await.unwrap_or_default();
    let (most, used, stat) = (of("memory.max").await, of("memory.current").await, of("memory.stat").await);
    machine.into_iter().chain(of_group(&most, &used, &stat)).min()
}

/// Reads `MemAvailable` of /proc/meminfo, which is in units of 1024 bytes.
fn of_machine(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limit of the group minus its used memory. Cached files count as used, but the kernel can drop them, so they are
/// not subtracted.
fn of_group(most: &str, used: &str, stat: &str) -> Option<u64> {
    let most: u64 = most.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    let cached = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse().ok()).unwrap_or(0);
    Some(most.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_available_memory_of_the_machine_is_read() {
        let text = "MemTotal:       16303428 kB\nMemFree:          203428 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(of_machine(text), Some(1 << 20));
        assert_eq!(of_machine("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn the_free_memory_of_a_group_includes_cached_files() {
        assert_eq!(of_group("1000\n", "700\n", "anon 5\ninactive_file 200\n"), Some(500));
        assert_eq!(of_group("1000\n", "1200\n", ""), Some(0));
        assert_eq!(of_group("max\n", "700\n", "inactive_file 200\n"), None);
    }
}
