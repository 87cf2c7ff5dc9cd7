//! What the global allocator counted.
//!
//! Identities, exact when no call is under way: `live + cached + shared = held`, and resident
//! bytes of blocks are at most `held`.

/// Gauges in bytes, and counters since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GlobalStats {
    /// Bytes of blocks in use, in whole units.
    pub live_bytes: usize,
    /// Most bytes of blocks that were ever in use at once.
    pub live_peak_bytes: usize,
    /// Bytes of free pages that may be resident: what the next purge can give back.
    pub cached_bytes: usize,
    /// Bytes in huge pages that are partly in use, without the bytes in use.
    pub shared_bytes: usize,
    /// Bytes of all pages that may be resident.
    pub held_bytes: usize,
    /// The limit in bytes, `usize::MAX` for none.
    pub limit_bytes: usize,
    /// Blocks handed out.
    pub blocks: u64,
    /// Bytes handed out on pages that were resident already, without a page fault.
    pub reused_bytes: u64,
    /// Bytes handed out on fresh pages.
    pub fresh_bytes: u64,
    /// Bytes given back to the kernel.
    pub purged_bytes: u64,
    /// Bytes whose pages were moved by `realloc`.
    pub moved_bytes: u64,
    /// Bytes that `realloc` copied.
    pub copied_bytes: u64,
    /// Bytes of zeroed blocks that did not have to be zeroed.
    pub zero_skipped_bytes: u64,
    /// How often the process was over its limit, so that memory had to be given back.
    pub limit_hits: u64,
}
