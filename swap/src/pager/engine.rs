//! What all threads of a pager share, and how memory is had for a granule that comes.
//!
//! ```text
//!   leader  fault  -> rescue at once, or a demand
//!   worker  demand -> gain memory -> read or clear -> enter data
//!           ahead  -> the same, but it stays in its frame until touched
//!           room   -> evict the oldest to limbo, pack or write the oldest of limbo
//!
//!   gain:   spare pages -> room under the budget -> make room (evict, write) -> wait
//! ```
//!
//! Invariants: pages are charged before they are made, and given back before they are uncharged,
//! so `held` is never below what is resident. A worker that waits for memory holds none, or less
//! than an eighth of the budget.
//!
//! Must never: hold the lock over a read, a write, or the making of pages.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::core::{CHUNK, Core};
use super::crew::{Crew, Lead};
use super::following::Following;
use super::held::Where;
use super::ids::{ChunkId, FrameId};
use super::planning::Planning;
use super::press::Press;
use super::queues::{Framed, Waiting};
use super::space::{ALL, Mask, Space};
use super::sync::{Guard, Lock, Signal};
use super::tables::Table;
use super::thrash::{Count, FailFast};
use crate::backend::Backend;
use crate::extent::Extent;
use crate::seal::Key;

/// How long pages stay at least once they entered data: what a thread that was just woken needs to
/// get at them, so that the smallest budget makes progress too.
pub(crate) const GRACE_NS: u64 = 100_000;

/// How long a worker waits for others to give memory back before it looks again.
const PATIENCE: Duration = Duration::from_millis(2);

/// Fruitless looks before a fault is served over the budget: all pages are in the hands of system
/// calls, one of which may be waiting for this very fault.
const LOOKS: u32 = 5;

/// Chunks a budget must have for whole chunks to be brought at once.
const HUGE_BUDGET: u64 = 16 * CHUNK;

/// What all threads share.
pub(crate) struct Engine {
    pub(crate) core: Lock<Core>,
    pub(crate) space: Space,
    pub(crate) backend: Box<dyn Backend>,
    /// The file's extents of `SEGMENT_SLOTS` slots, all there may ever be.
    pub(crate) segments: Table<Extent>,
    pub(crate) press: Press,
    /// Shelves there may be whatever the budget is; none, and nothing is packed.
    pub(crate) shelves_max: u64,
    /// The account whose limit the budget follows, if it is to.
    pub(crate) following: Option<Following>,
    /// Something to do for a worker.
    pub(crate) work: Signal,
    /// Memory or a granule has come free.
    pub(crate) progress: Signal,
    pub(crate) stop: AtomicBool,
    /// Ends the leader's wait, and the watcher's.
    pub(crate) bell: OwnedFd,
    pub(crate) lead: Lead,
    pub(crate) crew: Crew,
    /// What the file's contents are sealed with, if they are.
    pub(crate) key: Option<Key>,
    pub(crate) hash_seed: u64,
    pub(crate) fail_fast: Option<FailFast>,
    /// What is done about a plan, if one is wanted.
    pub(crate) planning: Option<Planning>,
}

/// What came of an attempt to evict.
pub(crate) enum Evicted {
    Some,
    /// The oldest has just come.
    TooYoung,
    /// Nothing can be moved.
    Nothing,
}

impl Engine {
    pub(crate) fn stopping(&self) -> bool {
        // Acquire: pairs with the release in the pager's drop.
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn may_be_huge(core: &Core) -> bool {
        core.budget() >= HUGE_BUDGET
    }

    /// Limbo is an eighth of the budget: long enough that what is in use comes back by itself,
    /// short enough that few touches pay for it.
    ///
    /// A run that is recorded keeps most in limbo: what is in data is touched unseen.
    pub(crate) fn limbo_target(core: &Core) -> u64 {
        if core.record.is_on() { core.budget() / 4 * 3 } else { core.budget() / 8 }
    }

    /// Writes what was recorded, and sees to the plan.
    pub(crate) fn tend_plan(&self) {
        if let Some(planning) = &self.planning {
            planning.tend(&self.core);
        }
    }

    /// Granules that should be ready for use, so that a fault need not wait for a write.
    pub(crate) fn reserve_target(core: &Core) -> u64 {
        (core.budget() / 32).min(16 * CHUNK)
    }

    /// Does one step towards more free pages, as a worker or for a thread of the program. Returns
    /// whether there was one to do.
    pub(crate) fn make_room<'a>(
        &'a self,
        mut core: Guard<'a, Core>,
        worker: Option<usize>,
    ) -> (Guard<'a, Core>, bool) {
        if core.nothing_aside() {
            return (core, true);
        }
        if let Some(worker) = worker
            && self.too_many_shelves(&core)
        {
            let done;
            (core, done) = self.clear_shelf(core, worker);
            if done {
                return (core, true);
            }
        }
        let target = Self::limbo_target(&core);
        core.keep_soon_wanted();
        let limbo = core.limbo.front(Waiting::Limbo);
        let ahead = core.limbo.front(Waiting::Ahead);
        let due = if core.held.at(Where::Limbo) > target {
            limbo
        } else if core.held.at(Where::Ahead) > target {
            ahead
        } else {
            None
        };
        if let Some(chunk) = due {
            return (self.launder(core, worker, chunk), true);
        }
        let oldest = limbo.or(ahead);
        match (self.evict_oldest(&mut core), oldest) {
            (Evicted::Some, _) => (core, true),
            (_, Some(chunk)) => (self.launder(core, worker, chunk), true),
            (Evicted::TooYoung, None) => {
                drop(core);
                std::thread::sleep(Duration::from_nanos(GRACE_NS / 2));
                (self.core.lock(), true)
            }
            (Evicted::Nothing, None) => match worker {
                Some(worker) => self.clear_shelf(core, worker),
                None => (core, false),
            },
        }
    }

    /// Waits until another thread has made progress. Returns whether there is one that may.
    fn wait_for_others<'a>(&'a self, core: Guard<'a, Core>) -> (Guard<'a, Core>, bool) {
        let others = core.others_work();
        let seen = self.progress.count();
        drop(core);
        self.progress.wait(seen, PATIENCE);
        (self.core.lock(), others)
    }

    /// One look for memory: makes some room, or waits for it. True when it is time to go over the
    /// budget.
    fn look<'a>(
        &'a self,
        core: Guard<'a, Core>,
        worker: usize,
        looks: &mut u32,
    ) -> (Guard<'a, Core>, bool) {
        let (core, done) = self.make_room(core, Some(worker));
        if done {
            return (core, false);
        }
        let (mut core, others) = if core.is_stuck() {
            // What is fixed stays whoever waits for it.
            *looks = LOOKS;
            (core, false)
        } else {
            self.wait_for_others(core)
        };
        *looks += u32::from(!others);
        let overdraw = *looks > LOOKS;
        core.counters.add(Count::Overdrafts, u64::from(overdraw));
        (core, overdraw)
    }

    /// Gets pages for a whole chunk that is Loading: one huge page in a frame of its own. Returns
    /// which granules are new, and therefore zero.
    pub(crate) fn gain_huge<'a>(
        &'a self,
        mut core: Guard<'a, Core>,
        worker: usize,
        chunk: ChunkId,
    ) -> (Guard<'a, Core>, Mask) {
        let (mut looks, mut overdraw, mut newborn) = (0, false, 0);
        core.in_hand.begin_to_gain();
        loop {
            if let Some(frame) = core.framed.front(Framed::Blank) {
                core.own(chunk, frame);
                core.held.pass(Where::Spare, Where::InFlight, CHUNK);
                break;
            }
            if core.room() >= CHUNK || overdraw {
                let frame = core.own_frame(&self.space, chunk);
                core.held.charge(Where::InFlight, CHUNK);
                drop(core);
                self.space.bear_huge(worker);
                core = self.core.lock();
                core.held.born(CHUNK);
                self.space.adopt_huge(frame, worker);
                core.frame(frame).receive(ALL, true);
                newborn = ALL;
                break;
            }
            if core.available() >= CHUNK {
                let short = CHUNK - core.room();
                core.release_spares(&self.space, short);
                continue;
            }
            (core, overdraw) = self.look(core, worker, &mut looks);
        }
        core.in_hand.gained();
        (core, newborn)
    }

    /// Gets pages for granules of a chunk that are Loading, at their places in its frame. Returns
    /// which of them are new, and therefore zero.
    pub(crate) fn gain_small<'a>(
        &'a self,
        mut core: Guard<'a, Core>,
        worker: usize,
        chunk: ChunkId,
        mask: Mask,
    ) -> (Guard<'a, Core>, Mask) {
        let frame = core.own_frame(&self.space, chunk);
        // Pages that lay there unused are used from now on.
        let found = core.frame(frame).present() & mask;
        core.held.pass(Where::Spare, Where::InFlight, u64::from(found.count_ones()));
        if found != 0 {
            core.take_apart(&self.space, frame, found);
        }
        core.settle(frame);
        let (mut looks, mut overdraw, mut newborn) = (0, false, 0);
        core.in_hand.begin_to_gain();
        loop {
            let missing = mask & !core.frame(frame).present();
            if missing == 0 {
                break;
            }
            let place = missing.trailing_zeros() as usize;
            if let Some(from) = core.framed.front(Framed::Spare) {
                let granule = core.spare_of(from).trailing_zeros() as usize;
                core.take_apart(&self.space, from, 0);
                self.space.shift((frame, place), (from, granule));
                core.frame(from).lose(1 << granule);
                core.frame(frame).gain(1 << place);
                core.held.pass(Where::Spare, Where::InFlight, 1);
                core.settle(from);
            } else if core.room() > 0 || overdraw {
                let count = core.room().max(1).min(u64::from(missing.count_ones())) as u32;
                let born = first_of(missing, count);
                core = self.bear_into(core, worker, frame, born);
                newborn |= born;
            } else if let Some(blank) = core.framed.front(Framed::Blank) {
                core.frame(blank).split();
                core.settle(blank);
            } else {
                (core, overdraw) = self.look(core, worker, &mut looks);
            }
        }
        core.in_hand.gained();
        (core, newborn)
    }

    /// Makes new pages for granules of a frame.
    fn bear_into<'a>(
        &'a self,
        mut core: Guard<'a, Core>,
        worker: usize,
        frame: FrameId,
        mask: Mask,
    ) -> Guard<'a, Core> {
        let granules = u64::from(mask.count_ones());
        core.held.charge(Where::InFlight, granules);
        drop(core);
        self.space.bear_small(worker, granules as usize);
        let mut core = self.core.lock();
        core.held.born(granules);
        self.space.adopt_small(frame, mask, worker);
        core.frame(frame).gain(mask);
        core
    }

    /// Says whether a whole chunk of memory can be had without making room.
    pub(crate) fn has_chunk(core: &Core) -> bool {
        core.framed.len(Framed::Blank) > 0 || core.available() >= CHUNK
    }

    /// Gives back at least `granules` to the kernel, if there is as much.
    pub(crate) fn reclaim(&self, granules: u64) -> u64 {
        self.give_back(None, |_, freed| granules.saturating_sub(freed))
    }

    /// Gives back what is held over the budget; threads that do so at once share it.
    pub(crate) fn keep_to_budget(&self, worker: Option<usize>) -> u64 {
        self.give_back(worker, |core, _| core.over())
    }

    /// Gives back to the kernel while `short`, of what was given back so far, says how much more.
    fn give_back(&self, worker: Option<usize>, short: impl Fn(&Core, u64) -> u64) -> u64 {
        let mut core = self.core.lock();
        let mut freed = 0;
        let mut patience = LOOKS;
        loop {
            let more = short(&core, freed);
            freed += core.release_spares(&self.space, more);
            if short(&core, freed) == 0 || patience == 0 {
                return freed;
            }
            let done;
            (core, done) = self.make_room(core, worker);
            if !done {
                if core.is_stuck() {
                    return freed;
                }
                // What is left is packed, which workers clear.
                self.work.raise();
                let others;
                (core, others) = self.wait_for_others(core);
                patience -= u32::from(!others);
            }
        }
    }
}

/// The lowest `count` bits of a mask.
fn first_of(mask: Mask, count: u32) -> Mask {
    let (mut rest, mut taken) = (mask, 0);
    for _ in 0..count {
        let bit = rest & rest.wrapping_neg();
        rest &= !bit;
        taken |= bit;
    }
    taken
}
