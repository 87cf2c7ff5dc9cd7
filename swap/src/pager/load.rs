//! Bringing granules: for a thread that waits, or ahead of one that reads on.
//!
//! ```text
//!   demand   whole chunk   if it was never touched, or if a stream reads it
//!            the window    otherwise: one granule, more for a stream that begins
//!   ahead    whole chunk, or what of it is in the file; stays in its frame until touched
//!            rows that are read in bit-reversed order; they go on into data, but for markers
//! ```
//!
//! What comes from the file is compared with its hash before anyone sees it, or opened with its
//! tag: a flipped bit ends the process, never a proof with wrong bytes. So does one of what is
//! packed in memory, which is unpacked and compared. What repeats is made from the table.
//!
//! Invariant: while a granule is Loading its pages are the worker's alone; it is mapped by one
//! move, after which it is complete. A single granule that goes into data is read into spare pages
//! where they lie: every move of pages interrupts the other processors.

use super::core::{CHUNK, Core};
use super::engine::Engine;
use super::entry::{Ahead, Demand, Whereabouts};
use super::held::Where;
use super::ids::{ChunkId, Id};
use super::in_hand::{Loading, Pages};
use super::reversed::Batch;
use super::space::{ALL, CHUNK_BYTES, GRANULE_BYTES, GRANULES, Mask, run, runs};
use super::state::{Answer, Event, State, answer};
use super::streams::Streams;
use super::sync::Guard;
use super::sys::{die, now_ns};
use super::thrash::Count;
use super::trace::Seen;
use crate::seal::Sealed;

/// What of a row is brought ahead of one who reads rows in bit-reversed order. How long they are is
/// not known; of what reaches into the next granule that is brought too.
const ROW_BYTES: usize = 8 << 10;

/// What one load brings.
struct Fetch {
    mask: Mask,
    /// Of these, what the file has.
    from_file: Mask,
    /// Of these, what repeats 32 bytes.
    repeats: Mask,
    /// Of these, what is packed; the rest is zero.
    packed: Mask,
    whole: bool,
}

/// How the contents of a chunk are had: from its slot or their places, known by hash or tag, or
/// from their lanes.
struct Source {
    whereabouts: Whereabouts,
    seals: Option<[Sealed; GRANULES]>,
}

impl Engine {
    /// Brings what a fault asked for, if nobody else has.
    pub(crate) fn serve(&self, worker: usize, demand: Demand) {
        let mut core = self.core.lock();
        let (chunk, granule) = Core::place(demand.offset);
        let entry = core.chunk(chunk);
        entry.unqueue(granule);
        match answer(entry.state(granule)) {
            Answer::Load => {}
            Answer::Rescue => {
                core.rescue(&self.space, chunk, 1 << granule, now_ns());
                return;
            }
            Answer::Wait => {
                entry.want(granule);
                return;
            }
            Answer::Wake => {
                drop(core);
                self.wake(chunk, granule);
                return;
            }
        }
        if self.too_many_shelves(&core) && core.chunk(chunk).state(granule) == State::Packed {
            // Else its own shelf might be what there is no room beside.
            core = self.clear(core, worker, chunk, granule);
            let entry = core.chunk(chunk);
            if entry.queued() & 1 << granule != 0 || answer(entry.state(granule)) != Answer::Load {
                return;
            }
        }
        let fetch = self.fetch_for(&mut core, demand.offset);
        core.touched(chunk, fetch.mask, Seen::Demand, demand.write == 1);
        let mut core = self.bring(core, worker, chunk, &fetch, Event::Loaded);
        core.counters.add(Count::StalledNs, now_ns().saturating_sub(demand.since_ns));
        drop(core);
        self.follow_limit_closely(worker);
    }

    /// Wakes who waits for a granule that is there.
    pub(crate) fn wake(&self, chunk: ChunkId, granule: usize) {
        let offset = chunk.index() * CHUNK_BYTES + granule * GRANULE_BYTES;
        self.space.uffd().wake(self.space.data().start() + offset, GRANULE_BYTES);
    }

    /// What to bring for a fault at a granule that is in no memory.
    fn fetch_for(&self, core: &mut Core, offset: usize) -> Fetch {
        let (chunk, granule) = Core::place(offset);
        let entry = core.chunk(chunk);
        let absent = entry.mask(&[State::Zero, State::Disk, State::Packed]);
        let (away, packed) = (entry.mask(&[State::Disk]), entry.mask(&[State::Packed]));
        let (repeats, on_disk) = (away & entry.repeats(), away & !entry.repeats());
        let part = |mask: Mask, whole: bool| {
            let (repeats, packed) = (mask & repeats, mask & packed);
            Fetch { mask, from_file: mask & on_disk, repeats, packed, whole }
        };
        let may_be_whole = absent == ALL && !entry.is_small() && entry.frame().is_none();
        let may_be_whole = may_be_whole && Self::may_be_huge(core);
        if on_disk | packed == 0 && may_be_whole {
            return part(ALL, true);
        }
        let missing = core.chunk(chunk).coming() & 1 << granule == 0;
        let in_order = self.read_rows_on(core, offset, missing);
        let at = chunk.index() as u64 * CHUNK + granule as u64;
        let most = Streams::widest(core.budget());
        let window = core.streams.fault(at, most);
        if in_order && window.granules < GRANULES as u32 / 2 {
            // Two neighbours may be a row that reaches into the second; more are a stream.
            return part(1 << granule, false);
        }
        let widest = (core.budget() / 8).max(1);
        let granules = u64::from(window.granules).min(widest);
        let fetch = if may_be_whole && granules >= CHUNK {
            part(ALL, true)
        } else {
            let open = (absent >> granule).trailing_ones() as u64;
            part(run(granule, granules.min(open) as usize), false)
        };
        let end = (GRANULES as u32 - fetch.mask.leading_zeros()) as u64;
        let end = chunk.index() as u64 * CHUNK + end;
        let wide = granules >= CHUNK && end.is_multiple_of(CHUNK);
        let read_to = if wide { self.queue_ahead(core, end, at + granules) } else { end };
        core.streams.brought(window, read_to);
        fetch
    }

    /// Queues the chunks between two granules to be read ahead. Returns where that ends.
    pub(crate) fn queue_ahead(&self, core: &mut Core, from: u64, to: u64) -> u64 {
        let first = from / CHUNK;
        let past = to.div_ceil(CHUNK).min(core.chunks.len() as u64).max(first);
        for chunk in (first..past).map(|chunk| ChunkId::of(chunk as usize)) {
            if core.chunk(chunk).mask(&[State::Disk]) != 0 {
                core.expect(Ahead { chunk: Some(chunk), mask: ALL, enters: 0 });
            }
        }
        self.work.raise();
        past * CHUNK
    }

    /// Queues rows of an array that is read in bit-reversed order: an eighth of the budget at most
    /// for all readers, and a 32nd for one.
    pub(crate) fn queue_rows(&self, core: &mut Core, batch: Batch) {
        let (mut queued, mut stays) = (0, false);
        for (offset, marker) in batch.rows() {
            stays |= marker;
            let (chunk, granule) = Core::place(offset as usize);
            let past = (offset as usize % GRANULE_BYTES + ROW_BYTES).div_ceil(GRANULE_BYTES);
            let mask = run(granule, past.min(GRANULES - granule));
            let away = core.chunk(chunk).mask(&[State::Disk, State::Limbo]) & mask;
            queued += u64::from(away.count_ones());
            if away == 0 {
                continue;
            }
            if queued > core.budget() / 32 || core.rows_coming() > core.budget() / 8 {
                break;
            }
            core.expect(Ahead { chunk: Some(chunk), mask, enters: u32::from(!stays) });
            stays = false;
        }
        self.work.raise();
    }

    /// Brings what of a chunk is in the file, if memory is at hand: into its frame, or into data.
    pub(crate) fn read_ahead(
        &self,
        mut core: Guard<'_, Core>,
        worker: usize,
        (chunk, ahead): (ChunkId, Ahead),
    ) {
        let enters = ahead.enters;
        let limbo = core.chunk(chunk).mask(&[State::Limbo]) & ahead.mask;
        if enters == 1 && limbo != 0 {
            core.rescue(&self.space, chunk, limbo, now_ns());
            core.touched(chunk, limbo, Seen::Row, false);
        }
        let entry = core.chunk(chunk);
        let mask = entry.mask(&[State::Disk]) & ahead.mask;
        let repeats = mask & entry.repeats();
        let whole = mask == ALL && entry.frame().is_none() && !entry.is_small();
        let whole = whole && Self::may_be_huge(&core);
        let fits = if whole {
            Self::has_chunk(&core)
        } else {
            core.available() >= u64::from(mask.count_ones())
        };
        if mask == 0 {
            return;
        }
        if !fits || enters == 0 && core.held.at(Where::Ahead) > Self::limbo_target(&core) {
            // Room first, and what was read ahead longest ago and nobody came for; then again.
            let (mut core, done) = self.make_room(core, Some(worker));
            if done {
                core.expect(ahead);
            }
            return;
        }
        let fetch = Fetch { mask, from_file: mask & !repeats, repeats, packed: 0, whole };
        if enters == 1 {
            core.touched(chunk, mask, Seen::Row, false);
            let mut core = self.bring(core, worker, chunk, &fetch, Event::Loaded);
            core.counters.add(Count::RowsAhead, u64::from(fetch.from_file.count_ones()));
            return;
        }
        let mut core = self.bring(core, worker, chunk, &fetch, Event::LoadedAhead);
        core.counters.add(Count::ReadAhead, u64::from(fetch.from_file.count_ones()));
    }

    /// Reads or clears what `fetch` says, and ends with `event`.
    fn bring<'a>(
        &'a self,
        mut core: Guard<'a, Core>,
        worker: usize,
        chunk: ChunkId,
        fetch: &Fetch,
        event: Event,
    ) -> Guard<'a, Core> {
        let (hands, entry) = core.hands(chunk);
        let mut loading = hands.begin_load(chunk, entry, fetch.mask);
        let goes_on = event == Event::Loaded && fetch.mask.is_power_of_two();
        let lent = if goes_on { core.lend_for(&self.space, chunk, fetch.mask) } else { None };
        let (mut core, newborn) = match lent {
            Some(_) => (core, 0),
            None if fetch.whole => self.gain_huge(core, worker, chunk),
            None => self.gain_small(core, worker, chunk, fetch.mask),
        };
        let seals = core.seals.get(chunk.index()).map(|seals| seals.0);
        let entry = core.chunk(chunk);
        loading.got_pages(entry, lent);
        let source = Source { whereabouts: *entry.whereabouts(), seals };
        drop(core);
        self.fill(&mut loading, fetch, newborn, &source);
        let pages = loading.take_pages();
        let tries = match (event, lent) {
            (Event::Loaded, Some(lent)) => self.space.enter_one(&loading, lent),
            (Event::Loaded, None) => self.space.enter(chunk, pages.frame(), fetch.mask),
            _ => 0,
        };
        let mut core = self.loaded(loading, pages, fetch, event);
        core.counters.add(Count::BusyRetries, tries);
        core
    }

    fn fill(&self, loading: &mut Loading, fetch: &Fetch, newborn: Mask, source: &Source) {
        let chunk = loading.chunk();
        let elsewhere = fetch.from_file | fetch.repeats | fetch.packed;
        for (first, count) in runs(fetch.mask & !elsewhere & !newborn) {
            loading.bytes(&self.space, first, count).fill(0);
        }
        for (first, count) in runs(fetch.repeats) {
            let bytes = loading.bytes(&self.space, first, count);
            let lanes = &source.whereabouts.lanes[first..first + count];
            for (bytes, [low, high]) in bytes.chunks_exact_mut(GRANULE_BYTES).zip(lanes) {
                for lane in bytes.as_chunks_mut::<32>().0 {
                    lane[..16].copy_from_slice(&low.to_ne_bytes());
                    lane[16..].copy_from_slice(&high.to_ne_bytes());
                }
            }
        }
        for granule in runs(fetch.packed).flat_map(|(first, count)| first..first + count) {
            let bytes = loading.bytes(&self.space, granule, 1);
            let Some(place) = source.whereabouts.places[granule] else {
                die(format_args!("a packed granule has no place"))
            };
            self.unpack(place, bytes, source.whereabouts.hashes[granule]);
        }
        for (first, count) in runs(fetch.from_file) {
            let bytes = loading.bytes(&self.space, first, count);
            let Some(slot) = source.whereabouts.slot else {
                die(format_args!("what is read has no slot"))
            };
            let at = (slot.index() * CHUNK_BYTES + first * GRANULE_BYTES) as u64;
            if let Err(why) = self.backend.read_at(at, bytes) {
                die(format_args!("{why}"));
            }
            if let Some(seals) = &source.seals {
                self.open(bytes, &seals[first..first + count], chunk);
                continue;
            }
            let hashes = &source.whereabouts.hashes[first..first + count];
            for (bytes, hash) in bytes.chunks_exact(GRANULE_BYTES).zip(hashes) {
                if self.hash(bytes) != *hash {
                    changed(chunk);
                }
            }
        }
    }

    /// Decrypts granules where they lie, and ends the process if they are not what was sealed.
    pub(crate) fn open(&self, bytes: &mut [u8], seals: &[Sealed], chunk: ChunkId) {
        let Some(key) = &self.key else { return };
        for (granule, sealed) in bytes.chunks_exact_mut(GRANULE_BYTES).zip(seals) {
            if key.open(sealed, granule).is_err() {
                changed(chunk);
            }
        }
    }

    /// Ends what [`Engine::bring`] began.
    fn loaded<'a>(
        &'a self,
        loading: Loading,
        pages: Pages,
        fetch: &Fetch,
        event: Event,
    ) -> Guard<'a, Core> {
        let count = |mask: Mask| u64::from(mask.count_ones());
        let chunk = loading.chunk();
        let mut core = self.core.lock();
        let (hands, entry) = core.hands(chunk);
        hands.end_load(loading, entry, event);
        core.unshelve(&self.space, chunk, fetch.packed);
        let elsewhere = fetch.from_file | fetch.repeats | fetch.packed;
        core.counters.add(Count::ZeroFilled, count(fetch.mask & !elsewhere));
        core.counters.add(Count::Unpacked, count(fetch.packed));
        core.counters.add(Count::Loaded, count(fetch.from_file));
        core.counters.add(Count::Loads, 1);
        if event == Event::Loaded {
            let is_new = core.queues.queue_of(chunk).is_none();
            match pages.lent() {
                Some(lent) => core.take_back(lent),
                None => core.vacated(pages.frame(), fetch.mask),
            }
            let entry = core.chunk(chunk);
            entry.set_huge(fetch.whole);
            entry.served(fetch.mask);
            core.held.pass(Where::InFlight, Where::Data, count(fetch.mask));
            core.entered(chunk, count(fetch.mask), now_ns());
            core.note_refault(chunk, fetch.from_file);
            if fetch.whole || is_new && fetch.from_file != 0 {
                core.streamed(chunk);
            }
        } else {
            core.held.pass(Where::InFlight, Where::Ahead, count(fetch.mask));
            core.relist(chunk);
            let wanted = core.chunk(chunk).wanted() & fetch.mask;
            if wanted != 0 {
                let before = core.chunk(chunk).mask(&[State::Ahead]);
                core.rescue(&self.space, chunk, wanted, now_ns());
                let rescued = before & !core.chunk(chunk).mask(&[State::Ahead]);
                core.came_ahead(chunk, rescued);
            }
        }
        if let Some(frame) = core.chunk(chunk).frame() {
            core.settle(frame);
        }
        self.progress.raise();
        core
    }
}

/// What was read is not what was written.
#[cold]
fn changed(chunk: ChunkId) -> ! {
    die(format_args!(
        "64 KiB of the spill file are not what was written there (chunk {}); test the disk and \
         the memory of this machine",
        chunk.index()
    ))
}
