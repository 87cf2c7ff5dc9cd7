//! From limbo to packed memory or the file: what has changed is written, what has not is dropped.
//!
//! ```text
//!   take the oldest chunk of limbo
//!     read ahead and never touched     -> dropped, the file has it
//!     32 bytes over and over           -> dropped, the table keeps these; nothing if they are zero
//!     hash = that of the file's copy   -> dropped, it is clean
//!     packs, and a shelf has room      -> packed; see packed.rs
//!     otherwise                        -> sealed if asked for, written to the chunk's slot
//!   a thread faulted on it meanwhile   -> back into data, with a copy in the file
//! ```
//!
//! Clean is found by hash and not by write protection: a checksum of what is in the file is needed
//! anyway, to refuse a flipped bit on reading; a write-protected huge page would be split by the
//! first write to it; and 128 bits of xxh3 take 0.15 ms a chunk against 1.1 ms to write one. The
//! seed is random, so nobody can prepare two contents with one hash.
//!
//! A granule is sealed where it lies, since a copy would take memory outside of the budget; the few
//! that a thread wants back meanwhile are opened again. Nonces count up under one key; nonce and
//! tag stay in memory beside the hash.
//!
//! A write that fails ends the process: the contents have no other place within the budget.
//!
//! Must never: let go of contents that neither the file nor a frame has.

use crate::checksum::seeded_hash;
use crate::file::file_limit_bytes;

use super::core::{Core, PASSING, RESIDENT};
use super::engine::Engine;
use super::entry::Filler;
use super::held::Where;
use super::policy::{Mode, Policy};
use super::space::{ALL, CHUNK_BYTES, GRANULE_BYTES, GRANULES, Mask, runs};
use super::state::{Event, State};
use super::sync::Guard;
use super::sys::{die, now_ns};
use crate::seal::Sealed;

/// Slots of an extent that is reserved at once: 64 MiB.
pub(crate) const SEGMENT_SLOTS: u32 = 32;

/// Bytes of such an extent.
pub(crate) const fn segment_bytes() -> u64 {
    SEGMENT_SLOTS as u64 * CHUNK_BYTES as u64
}

/// What looking at granules found, and how the dirty ones were sealed.
pub(crate) struct Found {
    zero: Mask,
    repeats: Mask,
    pub(crate) dirty: Mask,
    /// They were dirty, and have one of the places now.
    pub(crate) packed: Mask,
    /// Some of them would pack, if there was room.
    pub(crate) promising: bool,
    hashes: [u128; GRANULES],
    lanes: [Filler; GRANULES],
    pub(crate) places: [u32; GRANULES],
    seals: [Sealed; GRANULES],
}

/// What fills a granule, if it is the same 32 bytes over and over. Looks no further than the first
/// difference.
fn repeated(granule: &[u8]) -> Option<Filler> {
    let (lanes, _) = granule.as_chunks::<32>();
    let (first, rest) = lanes.split_first()?;
    rest.iter().all(|lane| lane == first).then(|| {
        let (halves, _) = first.as_chunks::<16>();
        [u128::from_ne_bytes(halves[0]), u128::from_ne_bytes(halves[1])]
    })
}

impl Engine {
    pub(crate) fn hash(&self, granule: &[u8]) -> u128 {
        seeded_hash(self.hash_seed, granule)
    }

    /// Empties a chunk's frame: drops, packs or writes what is in it. Only a worker packs.
    pub(crate) fn launder<'a>(
        &'a self,
        mut core: Guard<'a, Core>,
        worker: Option<usize>,
        chunk: u32,
    ) -> Guard<'a, Core> {
        let entry = core.chunk(chunk);
        let (frame, ahead) = (entry.frame - 1, entry.mask(&[State::Ahead]));
        let limbo = entry.mask(&[State::Limbo]);
        let dead = limbo & entry.dead;
        let mask = limbo & !dead;
        entry.step(ahead, Event::Drop);
        entry.step(dead, Event::Discard);
        entry.copies &= !dead;
        entry.repeats &= !dead;
        entry.step(mask, Event::Write);
        core.counters.dead += u64::from(dead.count_ones());
        core.limbo.remove(chunk);
        let count = |mask: Mask| u64::from(mask.count_ones());
        core.held.pass(Where::Ahead, Where::Spare, count(ahead));
        core.held.pass(Where::Limbo, Where::Spare, count(dead));
        core.held.pass(Where::Limbo, Where::InFlight, count(mask));
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
        let packer = worker.filter(|_| self.may_pack(&core));
        let (copies, hashes) = (core.chunk(chunk).copies, core.chunk(chunk).hashes);
        drop(core);
        let mut found = self.compare(frame, mask, copies, &hashes);
        if let Some(worker) = packer {
            self.pack(worker, chunk, frame, &mut found);
        }
        if found.dirty != 0 {
            self.write(chunk, frame, &mut found);
        }
        self.laundered(chunk, frame, mask, &found)
    }

    fn compare(&self, frame: u32, mask: Mask, copies: Mask, known: &[u128; GRANULES]) -> Found {
        let mut found = Found {
            zero: 0,
            repeats: 0,
            dirty: 0,
            packed: 0,
            promising: false,
            hashes: [0; GRANULES],
            lanes: [[0; 2]; GRANULES],
            places: [0; GRANULES],
            seals: [Sealed::default(); GRANULES],
        };
        for (granule, known) in known.iter().enumerate() {
            let bit = 1 << granule;
            if mask & bit == 0 {
                continue;
            }
            // SAFETY: the granule is Writing, so this worker owns its pages.
            let bytes = unsafe { self.space.frame_bytes(frame, granule, 1) };
            if let Some(lane) = repeated(bytes) {
                let mask = if lane == [0; 2] { &mut found.zero } else { &mut found.repeats };
                *mask |= bit;
                found.lanes[granule] = lane;
                continue;
            }
            let hash = self.hash(bytes);
            found.hashes[granule] = hash;
            if copies & bit == 0 || hash != *known {
                found.dirty |= bit;
            }
        }
        found
    }

    fn write(&self, chunk: u32, frame: u32, found: &mut Found) {
        let slot = self.slot_for(chunk, found.dirty);
        for (first, count) in runs(found.dirty) {
            // SAFETY: the granules are Writing, so this worker owns their pages.
            let bytes = unsafe { self.space.frame_bytes(frame, first, count) };
            self.write_run(slot, first, bytes, &mut found.seals[first..first + count]);
        }
    }

    /// Seals granules where they lie, if that is asked for, and writes them to a slot.
    pub(crate) fn write_run(
        &self,
        slot: u32,
        first: usize,
        bytes: &mut [u8],
        seals: &mut [Sealed],
    ) {
        if let Some(key) = &self.key {
            for (granule, sealed) in bytes.chunks_exact_mut(GRANULE_BYTES).zip(seals) {
                match key.seal(granule) {
                    Ok(fresh) => *sealed = fresh,
                    Err(why) => die(format_args!("{why}")),
                }
            }
        }
        let at = u64::from(slot) * CHUNK_BYTES as u64 + (first * GRANULE_BYTES) as u64;
        if let Err(why) = self.backend.write_at(at, bytes) {
            die(format_args!("{why}"));
        }
    }

    /// The slot of a chunk, which gets one; from now on it does not hold `mask`.
    pub(crate) fn slot_for(&self, chunk: u32, mask: Mask) -> u32 {
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
            let bytes = self.segments.iter().map(|extent| extent.bytes()).sum::<u64>();
            let raise = match file_limit_bytes() {
                Some(limit) if limit < bytes + segment_bytes() => "`ulimit -f` for files",
                _ => "it",
            };
            die(format_args!(
                "the spill quota of {bytes} bytes is used up; raise {raise}, or raise the limit"
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

    /// Which granules go back into data because threads wait for them; they are in the clear.
    fn wanted<'a>(
        &'a self,
        chunk: u32,
        frame: u32,
        mask: Mask,
        found: &Found,
    ) -> (Guard<'a, Core>, Mask) {
        let mut sealed = if self.key.is_some() { found.dirty } else { 0 };
        loop {
            let mut core = self.core.lock();
            let huge = core.frame(frame).huge == 1;
            let wanted = core.chunk(chunk).wanted & mask;
            let wanted = if huge && wanted != 0 { mask } else { wanted };
            if wanted & sealed == 0 {
                return (core, wanted);
            }
            drop(core);
            for (first, count) in runs(wanted & sealed) {
                // SAFETY: the granules are Writing, so this worker owns their pages.
                let bytes = unsafe { self.space.frame_bytes(frame, first, count) };
                self.open(bytes, &found.seals[first..first + count], chunk);
            }
            sealed &= !wanted;
        }
    }

    /// Ends what [`Engine::launder`] began.
    fn laundered<'a>(
        &'a self,
        chunk: u32,
        frame: u32,
        mask: Mask,
        found: &Found,
    ) -> Guard<'a, Core> {
        let (mut core, wanted) = self.wanted(chunk, frame, mask, found);
        core.note(chunk, mask, found);
        let evictions = core.evictions;
        let entry = core.chunk(chunk);
        let dead = mask & entry.dead & !wanted;
        let zero = (found.zero | dead) & !wanted;
        let gone = mask & !wanted;
        let packed = found.packed & gone & !dead;
        entry.copies &= !dead;
        entry.repeats &= !dead;
        entry.step(zero, Event::WrittenZero);
        entry.step(packed, Event::WrittenPacked);
        entry.step(gone & !zero & !packed, Event::Written);
        for (first, count) in runs(gone) {
            entry.left_at[first..first + count].fill(evictions as u32);
        }
        if wanted != 0 {
            core.map(&self.space, chunk, frame, wanted, Event::WrittenWanted, now_ns());
            core.held.pass(Where::InFlight, Where::Data, u64::from(wanted.count_ones()));
        }
        core.unshelve(&self.space, chunk, found.packed & !packed);
        let count = |mask: Mask| u64::from(mask.count_ones());
        core.held.pass(Where::InFlight, Where::Spare, count(gone));
        core.evictions += count(gone & !zero);
        core.counters.written += count(found.dirty);
        core.counters.found_zero += count(found.zero);
        core.counters.repeating += count(found.repeats);
        core.counters.packed += count(found.packed);
        let changed = found.dirty | found.packed | found.zero | found.repeats;
        core.counters.clean += count(mask & !changed);
        core.counters.sealed += if self.key.is_some() { count(found.dirty) } else { 0 };
        core.writing -= 1;
        core.settle(frame);
        core.free_slot(chunk);
        if found.promising {
            self.provide(&mut core);
        }
        self.progress.raise();
        core
    }
}

impl Core {
    /// Notes where the contents of granules that leave memory are.
    fn note(&mut self, chunk: u32, mask: Mask, found: &Found) {
        let entry = self.chunk(chunk);
        for granule in 0..GRANULES {
            if (found.dirty | found.packed) & 1 << granule != 0 {
                entry.hashes[granule] = found.hashes[granule];
            }
            if found.packed & 1 << granule != 0 {
                entry.places[granule] = found.places[granule];
            }
            if found.repeats & 1 << granule != 0 {
                entry.lanes[granule] = found.lanes[granule];
            }
        }
        // The file's copy of what repeats or is packed is an old one.
        entry.copies = (entry.copies | found.dirty) & !(found.repeats | found.packed);
        entry.repeats = entry.repeats & !mask | found.repeats;
        if let Some(seals) = self.seals.get_mut(chunk as usize) {
            for granule in 0..GRANULES {
                if found.dirty & 1 << granule != 0 {
                    seals.0[granule] = found.seals[granule];
                }
            }
        }
    }

    /// The chunk that is to be evicted next.
    pub(crate) fn victim(&mut self) -> Option<u32> {
        let enough = match self.policy.mode() {
            Mode::Circles => Policy::transit(self.budget),
            Mode::Queue => 0,
        };
        let (stays, passes) = (self.resident.front(RESIDENT), self.resident.front(PASSING));
        if self.in_passing > enough && self.policy.takes_passing() {
            return passes;
        }
        stays.or(passes)
    }
}
