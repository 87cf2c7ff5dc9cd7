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

use super::core::Core;
use super::engine::Engine;
use super::entry::{Contents, Filler};
use super::held::Where;
use super::ids::{ChunkId, Id, SlotId};
use super::in_hand::Writing;
use super::policy::{Mode, Policy};
use super::queues::DataQueue;
use super::shelves::ShelfPlace;
use super::slots::{Next, SEGMENT_SLOTS};
use super::space::{ALL, CHUNK_BYTES, GRANULE_BYTES, GRANULES, Mask, runs};
use super::state::{Event, State};
use super::sync::Guard;
use super::sys::{die, now_ns};
use super::thrash::Count;
use crate::seal::Sealed;

/// Bytes of such an extent.
pub(crate) const fn segment_bytes() -> u64 {
    (SEGMENT_SLOTS * CHUNK_BYTES) as u64
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
    pub(crate) places: [Option<ShelfPlace>; GRANULES],
    seals: [Sealed; GRANULES],
}

impl Found {
    /// Where a granule's contents are now.
    fn contents(&self, granule: usize) -> Contents {
        let has = |mask: Mask| mask & 1 << granule != 0;
        let hash = self.hashes[granule];
        match self.places[granule] {
            Some(place) if has(self.packed) => Contents::Packed { hash, place },
            _ if has(self.dirty) => Contents::Written { hash },
            _ if has(self.repeats) => Contents::Repeating(self.lanes[granule]),
            _ => Contents::Same,
        }
    }
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
        chunk: ChunkId,
    ) -> Guard<'a, Core> {
        let entry = core.chunk(chunk);
        let frame = entry.its_frame();
        let ahead = entry.mask(&[State::Ahead]);
        let limbo = entry.mask(&[State::Limbo]);
        let dead = limbo & entry.dead();
        let mask = limbo & !dead;
        entry.step(ahead, Event::Drop);
        entry.step(dead, Event::Discard);
        entry.forget(dead);
        core.counters.add(Count::Dead, u64::from(dead.count_ones()));
        core.limbo.remove(chunk);
        let count = |mask: Mask| u64::from(mask.count_ones());
        core.held.pass(Where::Ahead, Where::Spare, count(ahead));
        core.held.pass(Where::Limbo, Where::Spare, count(dead));
        core.held.pass(Where::Limbo, Where::InFlight, count(mask));
        if mask != 0 && mask != ALL {
            core.cut(frame, mask);
        }
        let (hands, entry) = core.hands(chunk);
        let writing = (mask != 0).then(|| hands.begin_write(chunk, entry, mask));
        core.settle(frame);
        core.free_slot(chunk);
        let Some(mut writing) = writing else {
            self.progress.raise();
            return core;
        };
        let packer = worker.filter(|_| self.may_pack(&core));
        let (copies, hashes) = (core.chunk(chunk).copies(), core.chunk(chunk).whereabouts().hashes);
        drop(core);
        let mut found = self.compare(&mut writing, copies, &hashes);
        if let Some(worker) = packer {
            self.pack(worker, &mut writing, &mut found);
        }
        if found.dirty != 0 {
            self.write(&mut writing, &mut found);
        }
        self.laundered(writing, &found)
    }

    fn compare(&self, writing: &mut Writing, copies: Mask, known: &[u128; GRANULES]) -> Found {
        let mut found = Found {
            zero: 0,
            repeats: 0,
            dirty: 0,
            packed: 0,
            promising: false,
            hashes: [0; GRANULES],
            lanes: [[0; 2]; GRANULES],
            places: [None; GRANULES],
            seals: [Sealed::default(); GRANULES],
        };
        for (granule, known) in known.iter().enumerate() {
            let bit = 1 << granule;
            if writing.mask() & bit == 0 {
                continue;
            }
            let bytes = writing.bytes(&self.space, granule, 1);
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

    fn write(&self, writing: &mut Writing, found: &mut Found) {
        let slot = self.slot_for(writing.chunk(), found.dirty);
        for (first, count) in runs(found.dirty) {
            let bytes = writing.bytes(&self.space, first, count);
            self.write_run(slot, first, bytes, &mut found.seals[first..first + count]);
        }
    }

    /// Seals granules where they lie, if that is asked for, and writes them to a slot.
    pub(crate) fn write_run(
        &self,
        slot: SlotId,
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
        let at = (slot.index() * CHUNK_BYTES) as u64 + (first * GRANULE_BYTES) as u64;
        if let Err(why) = self.backend.write_at(at, bytes) {
            die(format_args!("{why}"));
        }
    }

    /// The slot of a chunk, which gets one; from now on it does not hold `mask`.
    pub(crate) fn slot_for(&self, chunk: ChunkId, mask: Mask) -> SlotId {
        let mut core = self.core.lock();
        loop {
            let entry = core.chunk(chunk);
            if let Some(slot) = entry.whereabouts().slot {
                entry.set_stale(mask);
                return slot;
            }
            match core.slots.take() {
                Next::Slot(slot) => core.chunk(chunk).set_slot(slot),
                Next::Wait => {
                    let seen = self.progress.count();
                    drop(core);
                    self.progress.wait(seen, std::time::Duration::from_millis(2));
                    core = self.core.lock();
                }
                Next::Reserve(segment) => {
                    drop(core);
                    core = self.reserve_segment(segment);
                }
            }
        }
    }

    fn reserve_segment(&self, segment: usize) -> Guard<'_, Core> {
        let Some(extent) = self.segments.get(segment) else {
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
        core.slots.segment_reserved();
        self.progress.raise();
        core
    }

    /// Which granules go back into data because threads wait for them; they are in the clear.
    fn wanted<'a>(&'a self, writing: &mut Writing, found: &Found) -> (Guard<'a, Core>, Mask) {
        let (chunk, frame, mask) = (writing.chunk(), writing.frame(), writing.mask());
        let mut sealed = if self.key.is_some() { found.dirty } else { 0 };
        loop {
            let mut core = self.core.lock();
            let huge = core.frame(frame).is_huge();
            let wanted = core.chunk(chunk).wanted() & mask;
            let wanted = if huge && wanted != 0 { mask } else { wanted };
            if wanted & sealed == 0 {
                return (core, wanted);
            }
            drop(core);
            for (first, count) in runs(wanted & sealed) {
                let bytes = writing.bytes(&self.space, first, count);
                self.open(bytes, &found.seals[first..first + count], chunk);
            }
            sealed &= !wanted;
        }
    }

    /// Ends what [`Engine::launder`] began.
    fn laundered(&self, mut writing: Writing, found: &Found) -> Guard<'_, Core> {
        let (chunk, frame, mask) = (writing.chunk(), writing.frame(), writing.mask());
        let (mut core, wanted) = self.wanted(&mut writing, found);
        core.note(chunk, mask, found);
        let entry = core.chunk(chunk);
        let dead = mask & entry.dead() & !wanted;
        let zero = (found.zero | dead) & !wanted;
        let gone = mask & !wanted;
        let packed = found.packed & gone & !dead;
        entry.forget(dead);
        entry.step(zero, Event::WrittenZero);
        entry.step(packed, Event::WrittenPacked);
        entry.step(gone & !zero & !packed, Event::Written);
        core.gone(chunk, gone, u64::from((gone & !zero).count_ones()));
        if wanted != 0 {
            core.map(&self.space, chunk, frame, wanted, Event::WrittenWanted, now_ns());
            core.held.pass(Where::InFlight, Where::Data, u64::from(wanted.count_ones()));
        }
        core.unshelve(&self.space, chunk, found.packed & !packed);
        let count = |mask: Mask| u64::from(mask.count_ones());
        core.held.pass(Where::InFlight, Where::Spare, count(gone));
        core.counters.add(Count::Written, count(found.dirty));
        core.counters.add(Count::FoundZero, count(found.zero));
        core.counters.add(Count::Repeating, count(found.repeats));
        core.counters.add(Count::Packed, count(found.packed));
        let changed = found.dirty | found.packed | found.zero | found.repeats;
        core.counters.add(Count::Clean, count(mask & !changed));
        core.counters.add(Count::Sealed, if self.key.is_some() { count(found.dirty) } else { 0 });
        let (hands, entry) = core.hands(chunk);
        hands.end_write(writing, entry);
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
    /// Notes where the contents were put of granules that a worker has compared.
    fn note(&mut self, chunk: ChunkId, mask: Mask, found: &Found) {
        let entry = self.chunk(chunk);
        for granule in (0..GRANULES).filter(|granule| mask & 1 << granule != 0) {
            entry.keep(granule, found.contents(granule));
        }
        if let Some(seals) = self.seals.get_mut(chunk.index()) {
            for granule in 0..GRANULES {
                if found.dirty & 1 << granule != 0 {
                    seals.0[granule] = found.seals[granule];
                }
            }
        }
    }

    /// The chunk that is to be evicted next.
    pub(crate) fn victim(&mut self) -> Option<ChunkId> {
        let enough = match self.policy.mode() {
            Mode::Circles => Policy::transit(self.budget()),
            Mode::Queue => 0,
        };
        let (stays, passes) =
            (self.queues.front(DataQueue::Resident), self.queues.front(DataQueue::Passing));
        if self.queues.passing() > enough && self.policy.takes_passing() {
            return passes;
        }
        stays.or(passes)
    }
}
