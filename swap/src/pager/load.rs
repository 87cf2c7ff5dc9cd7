//! Bringing granules: for a thread that waits, or ahead of one that reads on.
//!
//! ```text
//!   demand   whole chunk   if it was never touched, or if a stream reads it
//!            the window    otherwise: one granule, more for a stream that begins
//!   ahead    whole chunk, or what of it is in the file; stays in its frame until touched
//! ```
//!
//! What comes from the file is compared with its hash before anyone sees it, or opened with its
//! tag: a flipped bit ends the process, never a proof with wrong bytes. What repeats is made from
//! the table.
//!
//! Invariant: while a granule is Loading its pages are the worker's alone; it is mapped by one
//! move, after which it is complete.

use super::core::{CHUNK, Core, PASSING};
use super::engine::Engine;
use super::entry::{Demand, Lane};
use super::space::{ALL, CHUNK_BYTES, GRANULE_BYTES, GRANULES, Mask, run, runs};
use super::state::{Answer, Event, State, answer};
use super::sync::Guard;
use super::sys::{die, now_ns};
use crate::seal::Sealed;

/// What one load brings.
struct Plan {
    mask: Mask,
    /// Of these, what the file has.
    from_file: Mask,
    /// Of these, what repeats 32 bytes; the rest is zero.
    repeats: Mask,
    whole: bool,
}

/// How the contents of a chunk are had: from its slot, known by hash or tag, or from their lanes.
struct Source {
    slot: u32,
    hashes: [u128; GRANULES],
    seals: Option<[Sealed; GRANULES]>,
    lanes: [Lane; GRANULES],
}

impl Engine {
    /// Brings what a fault asked for, if nobody else has.
    pub(crate) fn serve(&self, worker: usize, demand: Demand) {
        let mut core = self.core.lock();
        let (chunk, granule) = (demand.chunk, demand.granule as usize);
        let entry = core.chunk(chunk);
        entry.queued &= !(1 << granule);
        match answer(entry.states[granule]) {
            Answer::Load => {}
            Answer::Rescue => {
                core.rescue(&self.space, chunk, 1 << granule, now_ns());
                return;
            }
            Answer::Wait => {
                entry.wanted |= 1 << granule;
                return;
            }
            Answer::Wake => {
                drop(core);
                self.wake(chunk, granule);
                return;
            }
        }
        let plan = self.plan(&mut core, chunk, granule);
        let mut core = self.bring(core, worker, chunk, &plan, Event::Loaded);
        core.counters.stalled_ns += now_ns().saturating_sub(demand.since_ns);
        drop(core);
        self.follow_limit_closely();
    }

    /// Wakes who waits for a granule that is there.
    pub(crate) fn wake(&self, chunk: u32, granule: usize) {
        let offset = chunk as usize * CHUNK_BYTES + granule * GRANULE_BYTES;
        self.space.uffd().wake(self.space.data().start() + offset, GRANULE_BYTES);
    }

    /// What to bring for a fault at a granule that is in no memory.
    fn plan(&self, core: &mut Core, chunk: u32, granule: usize) -> Plan {
        let entry = core.chunk(chunk);
        let absent = entry.mask(&[State::Zero, State::Disk]);
        let away = entry.mask(&[State::Disk]);
        let (repeats, on_disk) = (away & entry.repeats, away & !entry.repeats);
        let may_be_whole = absent == ALL && entry.small == 0 && entry.frame == 0;
        let may_be_whole = may_be_whole && Self::may_be_huge(core);
        if on_disk == 0 && may_be_whole {
            return Plan { mask: ALL, from_file: 0, repeats, whole: true };
        }
        let at = u64::from(chunk) * CHUNK + granule as u64;
        let window = core.streams.fault(at);
        let widest = (core.budget / 8).max(1);
        let granules = u64::from(window.granules).min(widest);
        let plan = if may_be_whole && granules >= CHUNK {
            Plan { mask: ALL, from_file: on_disk, repeats, whole: true }
        } else {
            let open = (absent >> granule).trailing_ones() as u64;
            let mask = run(granule, granules.min(open) as usize);
            Plan { mask, from_file: mask & on_disk, repeats: mask & repeats, whole: false }
        };
        let end = (GRANULES as u32 - plan.mask.leading_zeros()) as u64;
        let end = u64::from(chunk) * CHUNK + end;
        let wide = granules >= CHUNK && end.is_multiple_of(CHUNK);
        let read_to = if wide { self.queue_ahead(core, end, at + granules) } else { end };
        core.streams.brought(window, read_to);
        plan
    }

    /// Queues the chunks between two granules to be read ahead. Returns where that ends.
    pub(crate) fn queue_ahead(&self, core: &mut Core, from: u64, to: u64) -> u64 {
        let first = from / CHUNK;
        let past = to.div_ceil(CHUNK).min(core.chunks.len() as u64).max(first);
        for chunk in first..past {
            if core.chunk(chunk as u32).mask(&[State::Disk]) != 0 {
                // A full ring forgets the rest: faults will ask for it.
                core.aheads.push(chunk as u32);
            }
        }
        self.work.raise();
        past * CHUNK
    }

    /// Brings what of a chunk is in the file into its frame, if memory is at hand.
    pub(crate) fn read_ahead(&self, mut core: Guard<'_, Core>, worker: usize, chunk: u32) {
        let entry = core.chunk(chunk);
        let mask = entry.mask(&[State::Disk]);
        let repeats = mask & entry.repeats;
        let whole = mask == ALL && entry.frame == 0 && entry.small == 0;
        let whole = whole && Self::may_be_huge(&core);
        let fits = if whole {
            Self::has_chunk(&core)
        } else {
            core.available() >= u64::from(mask.count_ones())
        };
        if mask == 0 {
            return;
        }
        if !fits || core.in_ahead > Self::limbo_target(&core) {
            // Room first, and what was read ahead longest ago and nobody came for; then again.
            let (mut core, done) = self.make_room(core);
            if done {
                core.aheads.push(chunk);
            }
            return;
        }
        let plan = Plan { mask, from_file: mask & !repeats, repeats, whole };
        let mut core = self.bring(core, worker, chunk, &plan, Event::LoadedAhead);
        core.counters.read_ahead += u64::from(plan.from_file.count_ones());
    }

    /// Reads or clears what `plan` says, and ends with `event`.
    fn bring<'a>(
        &'a self,
        mut core: Guard<'a, Core>,
        worker: usize,
        chunk: u32,
        plan: &Plan,
        event: Event,
    ) -> Guard<'a, Core> {
        core.loading += 1;
        core.chunk(chunk).step(plan.mask, Event::Load);
        let (mut core, newborn) = if plan.whole {
            self.gain_huge(core, worker, chunk)
        } else {
            self.gain_small(core, worker, chunk, plan.mask)
        };
        let seals = core.seals.get(chunk as usize).map(|seals| seals.0);
        let entry = core.chunk(chunk);
        let frame = entry.frame - 1;
        let (slot, hashes, lanes) = (entry.slot, entry.hashes, entry.lanes);
        drop(core);
        self.fill(chunk, frame, plan, newborn, &Source { slot, hashes, seals, lanes });
        if event == Event::Loaded {
            let tries = self.space.enter(chunk, frame, plan.mask);
            let core = self.loaded(chunk, frame, plan, event);
            return self.count_retries(core, tries);
        }
        self.loaded(chunk, frame, plan, event)
    }

    fn count_retries<'a>(&self, mut core: Guard<'a, Core>, tries: u64) -> Guard<'a, Core> {
        core.counters.busy_retries += tries;
        core
    }

    fn fill(&self, chunk: u32, frame: u32, plan: &Plan, newborn: Mask, source: &Source) {
        let elsewhere = plan.from_file | plan.repeats;
        for (first, count) in runs(plan.mask & !elsewhere & !newborn) {
            // SAFETY: the granules are Loading, so this worker owns their pages.
            unsafe { self.space.frame_bytes(frame, first, count) }.fill(0);
        }
        for (first, count) in runs(plan.repeats) {
            // SAFETY: as above.
            let bytes = unsafe { self.space.frame_bytes(frame, first, count) };
            let lanes = &source.lanes[first..first + count];
            for (bytes, [low, high]) in bytes.chunks_exact_mut(GRANULE_BYTES).zip(lanes) {
                for lane in bytes.as_chunks_mut::<32>().0 {
                    lane[..16].copy_from_slice(&low.to_ne_bytes());
                    lane[16..].copy_from_slice(&high.to_ne_bytes());
                }
            }
        }
        for (first, count) in runs(plan.from_file) {
            // SAFETY: as above.
            let bytes = unsafe { self.space.frame_bytes(frame, first, count) };
            let slot_bytes = (u64::from(source.slot) - 1) * CHUNK_BYTES as u64;
            let at = slot_bytes + (first * GRANULE_BYTES) as u64;
            if let Err(why) = self.backend.read_at(at, bytes) {
                die(format_args!("{why}"));
            }
            if let Some(seals) = &source.seals {
                self.open(bytes, &seals[first..first + count], chunk);
                continue;
            }
            let hashes = &source.hashes[first..first + count];
            for (bytes, hash) in bytes.chunks_exact(GRANULE_BYTES).zip(hashes) {
                if self.hash(bytes) != *hash {
                    changed(chunk);
                }
            }
        }
    }

    /// Decrypts granules where they lie, and ends the process if they are not what was sealed.
    pub(crate) fn open(&self, bytes: &mut [u8], seals: &[Sealed], chunk: u32) {
        let Some(key) = &self.key else { return };
        for (granule, sealed) in bytes.chunks_exact_mut(GRANULE_BYTES).zip(seals) {
            if key.open(sealed, granule).is_err() {
                changed(chunk);
            }
        }
    }

    /// Ends what [`Engine::bring`] began.
    fn loaded<'a>(&'a self, chunk: u32, frame: u32, plan: &Plan, event: Event) -> Guard<'a, Core> {
        let count = |mask: Mask| u64::from(mask.count_ones());
        let mut core = self.core.lock();
        core.loading -= 1;
        core.chunk(chunk).step(plan.mask, event);
        core.counters.zero_filled += count(plan.mask & !plan.from_file & !plan.repeats);
        core.counters.loaded += count(plan.from_file);
        core.counters.loads += 1;
        if event == Event::Loaded {
            core.mapped(chunk, frame, plan.mask, plan.whole);
            core.entered(chunk, count(plan.mask), now_ns());
            core.note_refault(chunk, count(plan.from_file));
            if plan.whole {
                core.streamed(chunk);
            }
        } else {
            core.in_limbo += count(plan.mask);
            core.in_ahead += count(plan.mask);
            core.relist(chunk);
            let wanted = core.chunk(chunk).wanted & plan.mask;
            if wanted != 0 {
                let before = core.in_ahead;
                core.rescue(&self.space, chunk, wanted, now_ns());
                let rescued = before - core.in_ahead;
                core.came_ahead(chunk, rescued);
            }
        }
        core.settle(frame);
        self.progress.raise();
        core
    }
}

/// What was read is not what was written.
#[cold]
fn changed(chunk: u32) -> ! {
    die(format_args!(
        "64 KiB of the spill file are not what was written there (chunk {chunk}); test the disk \
         and the memory of this machine"
    ))
}

impl Core {
    /// Notes that granules that were in the file are wanted again.
    pub(crate) fn note_refault(&mut self, chunk: u32, granules: u64) {
        if granules > 0 {
            let distance = self.evictions.saturating_sub(self.chunk(chunk).left_at);
            self.counters.refault(granules, distance);
            self.policy.refault(granules, distance, self.budget);
        }
    }

    /// Notes that somebody came for what was read ahead, which is in data now.
    pub(crate) fn came_ahead(&mut self, chunk: u32, granules: u64) {
        self.counters.read_ahead_used += granules;
        self.note_refault(chunk, granules);
        self.streamed(chunk);
    }

    /// Lets a chunk that was streamed in pass through, if that is the policy.
    pub(crate) fn streamed(&mut self, chunk: u32) {
        if self.policy.passes_through() {
            self.resident.push_back(PASSING, chunk);
        }
    }
}
