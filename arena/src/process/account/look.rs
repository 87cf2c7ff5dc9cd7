//! What the kernel says of the process, as far as an account asks it: the foreign bytes, what stays
//! over the limit, and what is resident by kind.

use super::{Account, Owner};
use crate::process::kernel::Kernel;
use crate::process::over::{Parts, tell};
use crate::process::resident::Resident;
use crate::process::thrash::Thrash;
use crate::sync::Ordering;

/// Over the limit by this share of it or less is not said: the kernel counts late, and a thread may
/// be about to give back.
const TOLERATED_DIVISOR: usize = 64;

impl Account {
    /// Looks at what is resident, and returns it; `None` where the kernel will not say, or is not
    /// asked.
    pub fn look(&self) -> Option<Resident> {
        let kernel = self.kernel.as_ref()?;
        let number = self.foreign.begin();
        // Pages that came or went meanwhile are not taken for the owners'.
        let there = || self.owners.each_ref().map(|cell| cell.there.load(Ordering::Relaxed));
        let before = there();
        let resident = kernel.read()?;
        let after = there();
        let ours: i64 = before.iter().zip(after).map(|(b, a)| (*b as i64).min(a as i64)).sum();
        let counted = kernel.counted_bytes(resident, &self.limit);
        let zram = kernel.look_at_zram(&self.limit);
        self.foreign.note(number, counted.saturating_add(zram) as i64 - ours);
        if kernel.follows {
            self.limit.follow(resident);
        }
        if counted < resident.resident_bytes
            && resident.resident_bytes as usize > self.limit_bytes()
        {
            self.still_over();
        } else if resident.resident_bytes.saturating_add(zram) as usize <= self.limit_bytes() {
            self.over.ended();
        }
        Some(resident)
    }

    /// Returns what is resident now; `None` where the kernel will not say, or is not asked. Unlike
    /// a look it changes nothing.
    #[must_use]
    pub fn resident(&self) -> Option<Resident> {
        self.kernel.as_ref()?.read()
    }

    /// Notes that pages of this process went to the kernel's swap, or came back. From then on what
    /// zram takes for this process counts as foreign.
    pub fn note_swap(&self) {
        if let Some(kernel) = &self.kernel {
            kernel.note_swap();
        }
    }

    /// Returns the RAM that zram took for this process at the last look, in bytes: none of it until
    /// somebody has noted that pages went to swap.
    #[must_use]
    pub fn zram_bytes(&self) -> usize {
        self.kernel.as_ref().map_or(0, |kernel| kernel.zram_bytes().0)
    }

    /// Returns the most that zram took for this process at any look, in bytes.
    #[must_use]
    pub fn zram_bytes_max(&self) -> usize {
        self.kernel.as_ref().map_or(0, |kernel| kernel.zram_bytes().1)
    }

    /// Sets the foreign bytes, for an account that asks no kernel.
    pub fn note_foreign(&self, bytes: usize) {
        self.foreign.note(self.foreign.begin(), bytes as i64);
    }

    /// Notes that the process is over its limit although the caller has freed all that it could and
    /// has looked again. Counts this if it is by more than a 64th, and prints it the first time.
    pub fn still_over(&self) {
        let limit = self.limit_bytes();
        let resident = self.kernel.as_ref().map_or(0, Kernel::last_bytes);
        let taken = resident.saturating_add(self.zram_bytes());
        let tolerated = limit.saturating_add(limit / TOLERATED_DIVISOR);
        if taken > tolerated && self.over.began(taken - limit) {
            tell(&self.parts(), limit, self.limit.source());
        }
    }

    /// Returns how often the process was over its limit with nothing more to give back, and by how
    /// many bytes at most.
    #[must_use]
    pub fn over_limit(&self) -> (u64, usize) {
        (self.over.times(), self.over.most_bytes())
    }

    /// Returns the guard that collects the time lost to this account's limit.
    #[must_use]
    pub fn thrash(&self) -> &Thrash {
        &self.thrash
    }

    /// Returns what is resident now, by kind. Of what the kernel will not say, or another thread is
    /// asking it just now, all that is resident is as of the last look, and the kinds are zero.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let names = ["VmRSS", "RssFile", "VmLck"];
        let tree = crate::process::Tree::MACHINE;
        let found = self.limit.with_scratch(|scratch| scratch.status(tree, names));
        let [resident, file, locked] = found.and_then(Result::ok).unwrap_or_default();
        let last = self.kernel.as_ref().map_or(0, Kernel::last_bytes) as u64;
        let resident = resident.unwrap_or(last);
        let held = |owner| {
            let held = (self.held_bytes(owner) as i64).min(self.there_bytes(owner) as i64);
            held.max(0) as u64
        };
        let mut parts = Parts {
            resident_bytes: resident,
            vector_bytes: held(Owner::Pools),
            block_bytes: held(Owner::Blocks),
            pager_bytes: held(Owner::Pager),
            heap_bytes: 0,
            file_bytes: file.unwrap_or(0),
            // Addresses without memory count there, too.
            locked_bytes: locked.unwrap_or(0).min(resident),
            zram_bytes: self.zram_bytes() as u64,
        };
        let known = parts.vector_bytes + parts.block_bytes + parts.pager_bytes + parts.file_bytes;
        parts.heap_bytes = parts.resident_bytes.saturating_sub(known);
        parts
    }
}
