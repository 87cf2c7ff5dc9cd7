//! The message for a process that is over its limit when nothing more can be freed.
//!
//! ```text
//!   plimsoll: over the limit of 67108864 bytes (PLIMSOLL_LIMIT) by 12582912, and nothing more can
//!   be given back: vectors 0, blocks 0, pager 2097152, heap and C code 70000000, files 7594624
//!   bytes, of these locked 0; raise the limit: 76 MiB are in use by now
//! ```
//!
//! The process prints it once and counts each time. Before it calls, the caller has freed
//! everything that it can and has looked again, so memory that another thread frees, or that the
//! kernel counts late, causes no message.
//!
//! Must never: allocate.

use super::env::{SPILL_DIR_VARIABLE, variable};
use super::limit::Source;
use super::say::say;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// Up to this many bytes, pages of files probably belong to the program itself.
const FILES_BYTES_NAMED: u64 = 32 << 20;

/// The memory of the process, by kind, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parts {
    /// All that is resident.
    pub resident_bytes: u64,
    /// Vectors of pools, live and cached, and packed ones.
    pub vector_bytes: u64,
    /// Blocks of the global allocator.
    pub block_bytes: u64,
    /// The pager.
    pub pager_bytes: u64,
    /// Small blocks, stacks, C code: anonymous memory that is nobody's above.
    pub heap_bytes: u64,
    /// Pages of mapped files, the program's own among them.
    pub file_bytes: u64,
    /// Of all of these, what is locked in memory.
    pub locked_bytes: u64,
    /// RAM beside it that zram takes for pages that were advised out.
    pub zram_bytes: u64,
}

impl Parts {
    /// All that the process takes of the machine's memory.
    fn taken_bytes(&self) -> u64 {
        self.resident_bytes.saturating_add(self.zram_bytes)
    }
}

/// How often the process was over its limit, and by how much at most.
#[derive(Debug)]
pub(super) struct Over {
    times: AtomicU64,
    most: AtomicUsize,
    is_over: AtomicBool,
    said: AtomicBool,
}

impl Over {
    pub(super) const fn new() -> Self {
        Self {
            times: AtomicU64::new(0),
            most: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            said: AtomicBool::new(false),
        }
    }

    pub(super) fn times(&self) -> u64 {
        self.times.load(Relaxed)
    }

    pub(super) fn most_bytes(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// The process is within its limit again.
    #[inline]
    pub(super) fn ended(&self) {
        if self.is_over.load(Relaxed) {
            self.is_over.store(false, Relaxed);
        }
    }

    /// Counts a time, and returns whether it is to be said.
    pub(super) fn began(&self, bytes: usize) -> bool {
        self.most.fetch_max(bytes, Relaxed);
        if !self.is_over.swap(true, Relaxed) {
            self.times.fetch_add(1, Relaxed);
        }
        !self.said.load(Relaxed) && !self.said.swap(true, Relaxed)
    }
}

/// Says what holds the memory, and what helps.
#[cold]
pub(super) fn tell(parts: &Parts, limit_bytes: usize, source: Source) {
    say(format_args!(
        "over the limit of {limit_bytes} bytes ({source}) by {}, and nothing more can be given \
         back: {parts}; {}",
        parts.taken_bytes().saturating_sub(limit_bytes as u64),
        Help(parts),
    ));
}

/// What helps.
struct Help<'a>(&'a Parts);

impl fmt::Display for Help<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0;
        if parts.file_bytes > FILES_BYTES_NAMED.max(parts.resident_bytes / 4) {
            f.write_str("map less of the files, whose pages the kernel may drop, or ")?;
        }
        if parts.locked_bytes > 0 {
            f.write_str("lock less memory, or ")?;
        }
        if parts.block_bytes > 0 && parts.pager_bytes == 0 && variable(SPILL_DIR_VARIABLE).is_none()
        {
            write!(f, "set {SPILL_DIR_VARIABLE} to a folder on a disk, or ")?;
        }
        let used = parts.taken_bytes().div_ceil(1 << 20);
        write!(f, "raise the limit: {used} MiB are in use by now")
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "vectors {}, blocks {}, pager {}, heap and C code {}, files {} bytes, of these \
             locked {}",
            self.vector_bytes,
            self.block_bytes,
            self.pager_bytes,
            self.heap_bytes,
            self.file_bytes,
            self.locked_bytes,
        )?;
        match self.zram_bytes {
            0 => Ok(()),
            bytes => write!(f, ", and {bytes} in zram"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_zram_takes_is_said_where_it_takes_any() {
        let mut parts = Parts { resident_bytes: 3 << 20, ..Parts::default() };
        assert!(!parts.to_string().contains("zram"), "{parts}");
        assert!(Help(&parts).to_string().contains(" 3 MiB are in use"), "{}", Help(&parts));
        parts.zram_bytes = 2 << 20;
        assert!(parts.to_string().ends_with("locked 0, and 2097152 in zram"), "{parts}");
        assert!(Help(&parts).to_string().contains(" 5 MiB are in use"), "{}", Help(&parts));
    }
}
