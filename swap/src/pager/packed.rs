//! Packed memory: between limbo and the file, for granules that pack to half or less.
//!
//! ```text
//!   launder  dirty granule -> packs? -> a shelf has room -> its payload is copied there
//!                               no |               no | -> the file
//!   load     payload -> unpacked into the pages that come, hash compared -> its place is free
//!   clear    oldest shelf -> each granule unpacked, written to the file -> the shelf is given back
//! ```
//!
//! Packing is for want of room, so there is none for shelves just then: some of what a chunk frees
//! that packs is set aside for the next. It counts as held, and is the first to go over the budget.
//!
//! Shelves fill up to an eighth of the budget. What is there when they are full stays, and what
//! comes then goes to the file: a granule that is wanted again gives up its place, and freed blocks
//! theirs, so nothing is kept that the program has done with. A budget that shrinks below four
//! times the shelves has them cleared, and so has one of which nothing else can leave.
//!
//! Only workers pack and clear, since both need scratch. One worker alone packs nothing: it answers
//! faults, and nobody would clear.
//!
//! Invariant: a granule's place is given up after its contents are in data or in the file.
//!
//! Must never: hold the lock while a shelf's pages are made, or while packing.

use super::core::Core;
use super::engine::Engine;
use super::entry::{Contents, Demand};
use super::held::Where;
use super::ids::{ChunkId, Id};
use super::in_hand::{Clearing, Writing};
use super::launder::Found;
use super::press::Press;
use super::shelves::{HEADER_BYTES, ShelfPlace};
use super::space::{CHUNK_BYTES, GRANULE_BYTES, GRANULES, Mask, Space, runs};
use super::state::State;
use super::sync::Guard;
use super::sys::{die, now_ns};
use super::thrash::Count;
use crate::seal::Sealed;

/// Granules that are set aside at most: 1 MiB.
const ASIDE_MAX: u64 = 16;

/// Granules that are cleared in one go, before somebody looks whether that was enough.
const CLEAR_MAX: usize = 16;

impl Engine {
    /// Shelves there may be for packing more.
    fn shelves_max(&self, core: &Core) -> u64 {
        (core.budget() / 8).min(self.shelves_max)
    }

    /// Whether shelves take so much of the budget that some must be cleared.
    pub(crate) fn too_many_shelves(&self, core: &Core) -> bool {
        core.held.at(Where::Shelf) > self.shelves_max(core) * 2
    }

    /// Whether there may be shelves at all.
    pub(crate) fn may_pack(&self, core: &Core) -> bool {
        self.shelves_max(core) > 0
    }

    /// What may be set aside for shelves.
    fn aside_max(core: &Core) -> u64 {
        (core.budget() / 64).min(ASIDE_MAX)
    }

    /// Packs what of a chunk's dirty granules can be and has room; the rest stays dirty.
    pub(crate) fn pack(&self, worker: usize, writing: &mut Writing, found: &mut Found) {
        let chunk = writing.chunk();
        let mut spec = None;
        for granule in runs(found.dirty).flat_map(|(first, count)| first..first + count) {
            let bytes = writing.bytes(&self.space, granule, 1);
            spec = self.press.promising(bytes, spec);
            let Some(spec) = spec else { continue };
            // SAFETY: the scratch of this worker, of which the payload is the only slice.
            let Some(payload) = (unsafe { self.press.pack(worker, spec, bytes) }) else {
                continue;
            };
            found.promising = true;
            let Some(place) = self.shelve(chunk, granule, payload) else {
                // Full: packing more would be in vain.
                return;
            };
            found.dirty &= !(1 << granule);
            found.packed |= 1 << granule;
            found.places[granule] = Some(place);
        }
    }

    /// Copies a payload to a place of its own, if there is room for one.
    pub(crate) fn shelve(
        &self,
        chunk: ChunkId,
        granule: usize,
        payload: &[u8],
    ) -> Option<ShelfPlace> {
        let mut core = self.core.lock();
        let place = match core.shelves.put(payload.len()) {
            Some(place) => place,
            None => {
                core = self.open_shelf(core, payload.len())?;
                core.shelves.put(payload.len())?
            }
        };
        // SAFETY: the place is this granule's, and its shelf is resident.
        let header = unsafe { self.space.shelf_bytes_mut(place.offset(), HEADER_BYTES) };
        let owner = (chunk.index() * GRANULES + granule) as u32;
        header[..4].copy_from_slice(&owner.to_ne_bytes());
        header[4..].copy_from_slice(&(payload.len() as u32).to_ne_bytes());
        drop(core);
        let start = place.offset() + HEADER_BYTES;
        // SAFETY: as above; nobody reads it before this worker says that the granule is Packed.
        unsafe { self.space.shelf_bytes_mut(start, payload.len()) }.copy_from_slice(payload);
        Some(place)
    }

    /// Makes a shelf with places for payloads of `bytes`, if there may be one more.
    fn open_shelf<'a>(
        &'a self,
        mut core: Guard<'a, Core>,
        bytes: usize,
    ) -> Option<Guard<'a, Core>> {
        if core.held.at(Where::Shelf) >= self.shelves_max(&core) {
            return None;
        }
        if core.held.at(Where::Aside) + core.room() == 0 && core.release_spares(&self.space, 1) == 0
        {
            return None;
        }
        if core.held.at(Where::Aside) + core.room() == 0 {
            // All of it was over the budget.
            return None;
        }
        let shelf = core.shelves.next_free()?;
        if core.held.at(Where::Aside) == 0 {
            core.held.charge(Where::Aside, 1);
        }
        core.held.pass(Where::Aside, Where::Shelf, 1);
        drop(core);
        self.space.bear_shelf(shelf);
        let mut core = self.core.lock();
        core.held.born(1);
        core.shelves.open(shelf, bytes);
        Some(core)
    }

    /// Sets some of what was just freed aside for shelves.
    pub(crate) fn provide(&self, core: &mut Core) {
        let most = self.shelves_max(core).saturating_sub(core.held.at(Where::Shelf));
        let short = Self::aside_max(core).min(most).saturating_sub(core.held.at(Where::Aside));
        let room = core.room();
        core.release_spares(&self.space, short.saturating_sub(room));
        let aside = short.min(core.room());
        core.held.charge(Where::Aside, aside);
    }

    /// Fills a granule from its place, and ends the process if that is not what was put there.
    pub(crate) fn unpack(&self, place: ShelfPlace, granule: &mut [u8], hash: u128) {
        // SAFETY: the place is this granule's, which the caller has: nobody writes to it.
        let header = unsafe { self.space.shelf_bytes(place.offset(), HEADER_BYTES) };
        let bytes = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        // SAFETY: as above.
        let payload =
            unsafe { self.space.shelf_bytes(place.offset() + HEADER_BYTES, bytes as usize) };
        if Press::unpack(payload, granule).is_err() || self.hash(granule) != hash {
            die(format_args!(
                "64 KiB that were packed in memory are not what was packed; test the memory of \
                 this machine"
            ));
        }
    }

    /// Takes granules of the oldest shelf to the file. Returns whether there were any to take.
    pub(crate) fn clear_shelf<'a>(
        &'a self,
        mut core: Guard<'a, Core>,
        worker: usize,
    ) -> (Guard<'a, Core>, bool) {
        let Some(shelf) = core.shelves.oldest() else { return (core, false) };
        let (mut after, mut done) = (None, 0);
        // Places come and go meanwhile, so they are looked at one by one.
        while done < CLEAR_MAX
            && let Some(place) = core.shelves.taken(shelf).find(|place| Some(*place) > after)
        {
            after = Some(place);
            if let Some((chunk, granule)) = core.packed_at(&self.space, place) {
                core = self.clear(core, worker, chunk, granule);
                done += 1;
            }
        }
        if done == 0 {
            core.shelves.not_now(shelf);
        }
        self.progress.raise();
        (core, done > 0)
    }

    /// Takes a packed granule to the file.
    pub(crate) fn clear<'a>(
        &'a self,
        mut core: Guard<'a, Core>,
        worker: usize,
        chunk: ChunkId,
        granule: usize,
    ) -> Guard<'a, Core> {
        let bit: Mask = 1 << granule;
        let (hands, entry) = core.hands(chunk);
        let clearing = hands.begin_clear(chunk, entry, granule);
        let (hash, place) =
            (entry.whereabouts().hashes[granule], entry.whereabouts().places[granule]);
        let Some(place) = place else { die(format_args!("a packed granule has no place")) };
        drop(core);
        // SAFETY: this worker's scratch, of which this is the only slice.
        let bytes = unsafe { self.press.granule(worker) };
        self.unpack(place, bytes, hash);
        let slot = self.slot_for(chunk, bit);
        let mut sealed = [Sealed::default()];
        self.write_run(slot, granule, bytes, &mut sealed);
        self.cleared(clearing, hash, sealed[0])
    }

    /// Ends what [`Engine::clear`] began.
    fn cleared(&self, clearing: Clearing, hash: u128, sealed: Sealed) -> Guard<'_, Core> {
        let (chunk, granule) = clearing.place();
        let bit: Mask = 1 << granule;
        let mut core = self.core.lock();
        core.counters.add(Count::Written, 1);
        core.counters.add(Count::Cleared, 1);
        core.counters.add(Count::Sealed, u64::from(self.key.is_some()));
        if let Some(seals) = core.seals.get_mut(chunk.index()) {
            seals.0[granule] = sealed;
        }
        let (hands, entry) = core.hands(chunk);
        hands.end_clear(clearing, entry);
        entry.keep(granule, Contents::Written { hash });
        let (wanted, dead) = (entry.wanted() & bit != 0, entry.dead() & bit != 0);
        entry.served(bit);
        let asks = wanted && entry.queue(granule);
        core.unshelve(&self.space, chunk, bit);
        if dead {
            core.discard(&self.space, chunk, bit);
        }
        if asks {
            let offset = chunk.index() * CHUNK_BYTES + granule * GRANULE_BYTES;
            if !core.demands.push(Demand { offset, since_ns: now_ns(), write: 0 }) {
                die(format_args!("more than 65536 threads wait for pages"));
            }
            self.work.raise_one();
        }
        core
    }
}

impl Core {
    /// Gives up what is set aside for shelves, if that is too much.
    pub(crate) fn nothing_aside(&mut self) -> bool {
        let aside = self.held.at(Where::Aside);
        if self.over() == 0 && aside <= Engine::aside_max(self) {
            return false;
        }
        self.held.born(aside);
        self.held.leaving(aside);
        self.held.uncharge(Where::Aside, aside);
        aside > 0
    }

    /// The granule that is packed at a place, if it is at rest there.
    fn packed_at(&mut self, space: &Space, place: ShelfPlace) -> Option<(ChunkId, usize)> {
        // SAFETY: the place is taken, so its shelf is resident; headers are written under the lock
        // alone.
        let header = unsafe { space.shelf_bytes(place.offset(), HEADER_BYTES) };
        let owner = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let (chunk, granule) = (ChunkId::of(owner as usize / GRANULES), owner as usize % GRANULES);
        let entry = self.chunk(chunk);
        let is_there = entry.whereabouts().places[granule] == Some(place);
        (is_there && entry.state(granule) == State::Packed).then_some((chunk, granule))
    }

    /// Gives up the places of granules, if they have any.
    pub(crate) fn unshelve(&mut self, space: &Space, chunk: ChunkId, mask: Mask) {
        for granule in runs(mask).flat_map(|(first, count)| first..first + count) {
            let Some(place) = self.chunk(chunk).take_place(granule) else { continue };
            if let Some(shelf) = self.shelves.take(place) {
                self.held.leaving(1);
                space.release_shelf(shelf);
                self.held.uncharge(Where::Shelf, 1);
            }
        }
    }
}

#[cfg(test)]
impl Engine {
    /// Flips a bit of what is packed, if anything is.
    pub(crate) fn flip_a_packed_bit(&self) -> bool {
        let mut core = self.core.lock();
        let Some(shelf) = core.shelves.oldest() else { return false };
        let Some(place) = core.shelves.taken(shelf).next() else { return false };
        if core.packed_at(&self.space, place).is_none() {
            return false;
        }
        let offset = place.offset() + HEADER_BYTES + 40;
        // SAFETY: the granule is at rest, and the lock is held.
        let bytes = unsafe { self.space.shelf_bytes_mut(offset, 1) };
        bytes[0] ^= 4;
        true
    }
}
