//! From limbo to the file: what has changed is written, what has not is dropped.
//!
//! ```text
//!   take the oldest chunk of limbo
//!     read ahead and never touched     -> dropped, the file has it
//!     hash of a granule = zero's       -> dropped, it is zero
//!     hash = that of the file's copy   -> dropped, it is clean
//!     otherwise                        -> written to the chunk's slot
//!   a thread faulted on it meanwhile   -> back into data, with a copy in the file
//! ```
//!
//! Clean is found by hash and not by write protection: a checksum of what is in the file is needed
//! anyway, to refuse a flipped bit on reading; a write-protected huge page would be split by the
//! first write to it; and 128 bits of xxh3 take 0.15 ms a chunk against 1.1 ms to write one. The
//! seed is random, so nobody can prepare two contents with one hash.
//!
//! A write that fails ends the process: the contents have no other place within the budget.
//!
//! Must never: let go of contents that neither the file nor a frame has.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::core::{CHUNK, Core, PASSING, RESIDENT};
use super::engine::Engine;
use super::policy::{Mode, Policy};
use super::space::{ALL, CHUNK_BYTES, GRANULE_BYTES, GRANULES, Mask, runs};
use super::state::{Event, State};
use super::sync::Guard;
use super::sys::{die, now_ns};

/// Slots of an extent that is reserved at once: 64 MiB.
pub(crate) const SEGMENT_SLOTS: u32 = 32;

/// What hashing found.
struct Found {
    zero: Mask,
    dirty: Mask,
    hashes: [u128; GRANULES],
}

impl Engine {
    pub(crate) fn hash(&self, granule: &[u8]) -> u128 {
        xxh3_128_with_seed(granule, self.hash_seed)
    }

    /// Empties a chunk's frame: drops or writes what is in it.
    pub(crate) fn launder<'a>(&'a self, mut core: Guard<'a, Core>, chunk: u32) -> Guard<'a, Core> {
        let entry = core.chunk(chunk);
        let (frame, ahead) = (entry.frame - 1, entry.mask(&[State::Ahead]));
        let limbo = entry.mask(&[State::Limbo]);
        let dead = limbo & entry.dead;
        let mask = limbo & !dead;
        entry.step(ahead, Event::Drop);
        entry.step(dead, Event::Discard);
        entry.copies &= !dead;
        entry.step(mask, Event::Write);
        core.counters.dead += u64::from(dead.count_ones());
        core.limbo.remove(chunk);
        core.in_limbo -= u64::from((ahead | limbo).count_ones());
        core.in_ahead -= u64::from(ahead.count_ones());
        core.spare += u64::from((ahead | dead).count_ones());
        if mask != 0 && mask != ALL {
            core.cut(frame, mask);
        }
        core.settle(frame);
        core.free_slot(chunk);
        if mask == 0 {
            self.progress.raise();
            return core;
        }
        core.writing += 1;
        let (copies, hashes) = (core.chunk(chunk).copies, core.chunk(chunk).hashes);
        drop(core);
        let found = self.compare(frame, mask, copies, &hashes);
        if found.dirty != 0 {
            self.write(chunk, frame, found.dirty);
        }
        self.laundered(chunk, frame, mask, &found)
    }

    fn compare(&self, frame: u32, mask: Mask, copies: Mask, known: &[u128; GRANULES]) -> Found {
        let mut found = Found { zero: 0, dirty: 0, hashes: [0; GRANULES] };
        for (granule, known) in known.iter().enumerate() {
            let bit = 1 << granule;
            if mask & bit == 0 {
                continue;
            }
            // SAFETY: the granule is Writing, so this worker owns its pages.
            let bytes = unsafe { self.space.frame_bytes(frame, granule, 1) };
            let hash = self.hash(bytes);
            found.hashes[granule] = hash;
            if hash == self.zero_hash {
                found.zero |= bit;
            } else if copies & bit == 0 || hash != *known {
                found.dirty |= bit;
            }
        }
        found
    }

    fn write(&self, chunk: u32, frame: u32, mask: Mask) {
        let slot = self.slot_for(chunk, mask);
        for (first, count) in runs(mask) {
            // SAFETY: the granules are Writing, so this worker owns their pages.
            let bytes = unsafe { self.space.frame_bytes(frame, first, count) };
            let at = u64::from(slot) * CHUNK_BYTES as u64 + (first * GRANULE_BYTES) as u64;
            if let Err(why) = self.backend.write_at(at, bytes) {
                die(format_args!("{why}"));
            }
        }
    }

    /// The slot of a chunk, which gets one; from now on it does not hold `mask`.
    fn slot_for(&self, chunk: u32, mask: Mask) -> u32 {
        let mut core = self.core.lock();
        loop {
            let entry = core.chunk(chunk);
            if let Some(slot) = entry.slot.checked_sub(1) {
                entry.copies &= !mask;
                return slot;
            }
            if let Some(slot) = core.free_slots.pop() {
                core.chunk(chunk).slot = slot + 1;
            } else if core.slots_used < core.slots_reserved {
                core.slots_used += 1;
                let used = core.slots_used;
                core.chunk(chunk).slot = used;
            } else if core.reserving {
                let seen = self.progress.count();
                drop(core);
                self.progress.wait(seen, std::time::Duration::from_millis(2));
                core = self.core.lock();
            } else {
                core = self.reserve_segment(core);
            }
        }
    }

    fn reserve_segment<'a>(&'a self, mut core: Guard<'a, Core>) -> Guard<'a, Core> {
        core.reserving = true;
        let segment = core.slots_reserved / SEGMENT_SLOTS;
        drop(core);
        let Some(extent) = self.segments.get(segment as usize) else {
            die(format_args!(
                "the spill quota of {} bytes is used up; raise it, or raise the limit",
                self.segments.iter().map(|extent| extent.bytes()).sum::<u64>()
            ));
        };
        if let Err(why) = self.backend.reserve(*extent) {
            die(format_args!("{why}"));
        }
        let mut core = self.core.lock();
        core.reserving = false;
        core.slots_reserved += SEGMENT_SLOTS;
        self.progress.raise();
        core
    }

    /// Ends what [`Engine::launder`] began.
    fn laundered<'a>(
        &'a self,
        chunk: u32,
        frame: u32,
        mask: Mask,
        found: &Found,
    ) -> Guard<'a, Core> {
        let mut core = self.core.lock();
        let huge = core.frame(frame).huge == 1;
        let evictions = core.evictions;
        let entry = core.chunk(chunk);
        for (granule, hash) in found.hashes.iter().enumerate() {
            if found.dirty & 1 << granule != 0 {
                entry.hashes[granule] = *hash;
            }
        }
        entry.copies |= found.dirty;
        let wanted = if huge && entry.wanted & mask != 0 { mask } else { entry.wanted & mask };
        let dead = mask & entry.dead & !wanted;
        let zero = (found.zero | dead) & !wanted;
        let gone = mask & !wanted;
        entry.copies &= !dead;
        entry.step(zero, Event::WrittenZero);
        entry.step(gone & !zero, Event::Written);
        entry.left_at = evictions;
        if wanted != 0 {
            core.map(&self.space, chunk, frame, wanted, Event::WrittenWanted, now_ns());
        }
        let count = |mask: Mask| u64::from(mask.count_ones());
        core.spare += count(gone);
        core.evictions += count(gone & !zero);
        core.counters.written += count(found.dirty);
        core.counters.found_zero += count(found.zero);
        core.counters.clean += count(mask & !found.dirty & !found.zero);
        core.writing -= 1;
        core.settle(frame);
        core.free_slot(chunk);
        self.progress.raise();
        core
    }
}

impl Core {
    /// The chunk that is to be evicted next.
    pub(crate) fn victim(&mut self) -> Option<u32> {
        let passing = u64::from(self.resident.len(PASSING)) * CHUNK;
        let enough = match self.policy.mode() {
            Mode::Circles => Policy::transit(self.budget),
            Mode::Queue => 0,
        };
        let (stays, passes) = (self.resident.front(RESIDENT), self.resident.front(PASSING));
        if passing > enough && self.policy.takes_passing() {
            return passes;
        }
        stays.or(passes)
    }
}
