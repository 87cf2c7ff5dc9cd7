//! What an account asks the kernel: how much is resident, and how much of that counts.
//!
//! Pages of files count up to twice the code of the program and its libraries (twice, for their
//! constants). Shared and locked memory counts, too. The kernel drops pages beyond that, such as a
//! mapped key, when it must. Telling these apart takes a read of `status`, so the account does it
//! again only when they have changed by a MiB.
//!
//! What zram holds of the process is in RAM as well, and no RSS has it. The account adds it from
//! the first time that somebody says that pages went to swap; it is read again when they say so.
//!
//! Must never: allocate, lock, or wait.

use super::file::Tree;
use super::limit::Limit;
use super::resident::{Resident, Statm};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// Pages of files may change by so many bytes before they are told apart again.
const FILES_STEP_BYTES: u64 = 1 << 20;

/// What the kernel tells an account: the resident bytes, and how many of them count.
pub(super) struct Kernel {
    statm: Statm,
    /// Pages of files, and shared memory, when they were last told apart; and then: how many of
    /// them count. In bytes.
    shared: AtomicU64,
    counting: AtomicU64,
    /// Whether the limit is the process's own, which follows the machine.
    pub(super) follows: bool,
    /// What was resident at the last look, in bytes.
    last: AtomicUsize,
    /// Whether pages went to swap, or came back, since zram was last looked at.
    swap_changed: AtomicBool,
    /// What zram took for this process at the last look, and at most so far, in bytes.
    zram: AtomicUsize,
    zram_most: AtomicUsize,
}

impl Kernel {
    pub(super) const fn new(follows: bool) -> Self {
        Self {
            statm: Statm::new(),
            shared: AtomicU64::new(0),
            counting: AtomicU64::new(u64::MAX),
            follows,
            last: AtomicUsize::new(0),
            swap_changed: AtomicBool::new(false),
            zram: AtomicUsize::new(0),
            zram_most: AtomicUsize::new(0),
        }
    }

    /// Returns what is resident now; `None` where the kernel will not say.
    pub(super) fn read(&self) -> Option<Resident> {
        self.statm.read()
    }

    /// Returns what was resident at the last look, in bytes.
    pub(super) fn last_bytes(&self) -> usize {
        self.last.load(Relaxed)
    }

    /// Notes that pages went to swap, or came back: the next look looks at zram, too.
    pub(super) fn note_swap(&self) {
        self.swap_changed.store(true, Relaxed);
    }

    /// Returns what zram took for this process at the last look, in bytes, and at most so far.
    pub(super) fn zram_bytes(&self) -> (usize, usize) {
        (self.zram.load(Relaxed), self.zram_most.load(Relaxed))
    }

    /// Looks at zram if that may have changed; returns what it takes for this process, in bytes.
    #[inline]
    pub(super) fn look_at_zram(&self, limit: &Limit) -> u64 {
        if self.swap_changed.load(Relaxed) {
            self.look_at_zram_anew(limit);
        }
        self.zram.load(Relaxed) as u64
    }

    #[cold]
    fn look_at_zram_anew(&self, limit: &Limit) {
        // Before the reading: what changes during it is looked at once more.
        self.swap_changed.store(false, Relaxed);
        let found = limit.with_scratch(|scratch| scratch.zram_share(Tree::MACHINE));
        // Another thread has the scratch, or the kernel does not say: the last figure stays.
        let Some(Ok(bytes)) = found else {
            self.swap_changed.store(found.is_none(), Relaxed);
            return;
        };
        self.zram.store(bytes as usize, Relaxed);
        self.zram_most.fetch_max(bytes as usize, Relaxed);
    }

    /// Returns what of a look counts against the limit, in bytes, and remembers the look.
    #[inline]
    pub(super) fn counted_bytes(&self, resident: Resident, limit: &Limit) -> u64 {
        let (all, shared) = (resident.resident_bytes, resident.shared_bytes);
        // Relaxed, everywhere: numbers that stand for nothing but themselves.
        self.last.store(all as usize, Relaxed);
        if shared.abs_diff(self.shared.load(Relaxed)) >= FILES_STEP_BYTES {
            self.tell_files_apart(shared, limit);
        }
        all.saturating_sub(shared.saturating_sub(self.counting.load(Relaxed)))
    }

    #[cold]
    fn tell_files_apart(&self, shared: u64, limit: &Limit) {
        let names = ["VmExe", "VmLib", "RssShmem", "VmLck"];
        let fields = limit.with_scratch(|scratch| scratch.status(Tree::MACHINE, names));
        // Another thread is at it: what it finds counts from the next look on.
        let Some(Ok([Some(program), libraries, shmem, locked])) = fields else { return };
        let code = program.saturating_add(libraries.unwrap_or(0));
        let kept = shmem.unwrap_or(0).saturating_add(locked.unwrap_or(0));
        self.counting.store(code.saturating_mul(2).saturating_add(kept), Relaxed);
        self.shared.store(shared, Relaxed);
    }
}
