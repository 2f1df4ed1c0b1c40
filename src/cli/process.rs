//! Settings of the whole process that Rust offers no safe function for, and its end.

/// Sets the settings of the process. Call it before any thread is started.
pub(super) fn prepare() {
    limit_free_memory();
    disable_runtime_telemetry();
}

/// Ends the process at once. Call it when all output is written: it is faster than unloading the models first.
pub(super) fn exit_now() -> ! {
    // SAFETY: all output is written, so other threads may be stopped at any point.
    unsafe { libc::_exit(0) }
}

/// Switches off the telemetry of ONNX Runtime. Some builds record usage in a database in the user's cache folder and
/// send it to Microsoft. The switch in its API is too late: the database is created when the library is loaded.
fn disable_runtime_telemetry() {
    // SAFETY: no other thread runs yet that could read the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}

/// Limits the free memory that glibc keeps instead of returning it to the system.
///
/// Blocks of 8 MiB and more are returned when they are freed. By default, glibc raises this threshold to the size of
/// the largest freed block, so that a process would keep the memory of one long video's index. Frames and model inputs
/// are smaller than the threshold and are reused: returning them would cost a sixth of the time of an analysis.
///
/// For smaller blocks, glibc keeps at most 16 MiB at the end of the heap, in at most two arenas.
pub(super) fn limit_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: only sets parameters of the allocator. No other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
