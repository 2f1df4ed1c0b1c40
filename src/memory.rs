//! Settings and calls of the memory allocator of glibc. Other allocators are left as they are.

/// Limits the free memory that the allocator keeps instead of returning it to the system.
///
/// Blocks of 8 MiB and more are returned when they are freed. By default, glibc raises this threshold to the size of
/// the largest freed block, so that a process would keep the memory of one long video's index. Frames and model inputs
/// are smaller than the threshold and are reused: returning them would cost a sixth of the time of an analysis.
///
/// For smaller blocks, glibc keeps at most 16 MiB at the end of the heap, in at most two arenas.
pub fn limit_free() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: only sets parameters of the allocator. No other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Returns all free memory to the system. It walks the whole heap, so call it only where much has been freed.
pub fn return_free() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the allocator takes its own locks. Memory in use stays.
    unsafe {
        libc::malloc_trim(0);
    }
}
