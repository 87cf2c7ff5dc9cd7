//! From data to limbo: what is evicted, and what stays because the kernel does not move it.
//!
//! ```text
//!   oldest of data -> moved to its frame           limbo
//!                  -> in use by a system call      pinned: the last of its queue
//!                  -> locked, protected            fixed: a queue of its own, tried now and then
//! ```
//!
//! Invariant: `Core::fixed` counts the fixed granules of all chunks: those in data that the kernel
//! refused to move when they were last to leave.

use super::core::Core;
use super::engine::{Engine, Evicted, GRACE_NS};
use super::held::Where;
use super::ids::{ChunkId, Id};
use super::queues::{DataQueue, End, Waiting};
use super::space::{ALL, GRANULE_BYTES, Mask};
use super::state::{Event, State};
use super::sys::{now_ns, say};
use super::thrash::Count;

/// Chunks passed over in one look, pinned or wanted soon.
const PINNED_MAX: u32 = 32;

/// Chunks of limbo that are kept in one look for room, at most.
const KEPT_MAX: u32 = 4;

/// Fixed chunks that are tried again at a time, each with 33 system calls.
const FIXED_TRIES: u32 = 8;

impl Engine {
    /// Moves what is resident of `mask` of a chunk to its frame. Returns whether anything was.
    pub(crate) fn evict(&self, core: &mut Core, chunk: ChunkId, mask: Mask) -> bool {
        let resident = core.chunk(chunk).mask(&[State::Resident]) & mask;
        if resident == 0 {
            return false;
        }
        let frame = core.own_frame(&self.space, chunk);
        let stale = core.frame(frame).present() & resident;
        if stale != 0 {
            core.release_spare(&self.space, frame, stale);
        }
        let left = self.space.leave(chunk, frame, resident);
        core.note_fixed(chunk, left.refused);
        let (left, refused) = (left.moved, left.refused);
        let huge = core.chunk(chunk).is_huge() && left == ALL;
        core.frame(frame).receive(left, huge);
        if left != 0 {
            core.chunk(chunk).set_huge(false);
            core.chunk(chunk).step(left, Event::Evict);
            let count = u64::from(left.count_ones());
            core.held.pass(Where::Data, Where::Limbo, count);
            core.relist(chunk);
            core.left(chunk, count);
            let dead = left & core.chunk(chunk).dead();
            if dead != 0 {
                // Their pages are of use to others as they are.
                core.counters.add(Count::Dead, u64::from(dead.count_ones()));
                core.discard(&self.space, chunk, dead);
            }
        }
        if left != resident {
            // The rest is pinned, or fixed: later.
            core.counters.add(Count::Pinned, u64::from(left | refused != resident));
            let all_fixed = core.chunk(chunk).mask(&[State::Resident]) == refused;
            core.enlist(
                if all_fixed { DataQueue::Fixed } else { DataQueue::Resident },
                chunk,
                End::Last,
            );
        }
        core.settle(frame);
        left != 0
    }

    /// Evicts the oldest that can be.
    pub(crate) fn evict_oldest(&self, core: &mut Core) -> Evicted {
        core.look_at_fixed();
        for passed in 0..PINNED_MAX {
            let Some(chunk) = core.victim() else { return Evicted::Nothing };
            let entry = core.chunk(chunk);
            let live = entry.mask(&[State::Resident]) & !entry.dead() != 0;
            if live && now_ns() < entry.entered_ns() + GRACE_NS {
                return Evicted::TooYoung;
            }
            let resident = entry.mask(&[State::Resident]);
            let leaving = core.leaving(chunk, resident, passed);
            let some = self.evict(core, chunk, leaving);
            let is_queued = !matches!(core.queues.queue_of(chunk), None | Some(DataQueue::Fixed));
            if leaving != resident && is_queued {
                // The rest is wanted soon.
                core.enlist(DataQueue::Resident, chunk, End::Last);
            }
            if some {
                return Evicted::Some;
            }
        }
        Evicted::Nothing
    }

    /// Says once that something is fixed.
    pub(crate) fn tell_fixed(&self) {
        let granules = {
            let mut core = self.core.lock();
            match core.fixed.untold() {
                Some(granules) => granules,
                None => return,
            }
        };
        say(format_args!(
            "{} bytes of paged memory, or more, are locked or protected (mlock, mprotect) or \
             mapped anew: they stay in memory and count against the limit; if the program waits \
             for pages, raise the limit by as much",
            granules * GRANULE_BYTES as u64,
        ));
    }
}

impl Core {
    /// Which granules of a chunk in data may leave, after so many chunks were passed over.
    fn leaving(&mut self, chunk: ChunkId, resident: Mask, passed: u32) -> Mask {
        let entry = &self.chunks[chunk.index()];
        if entry.fixed() != 0 {
            // All of it is tried, to see what still is.
            return resident;
        }
        let (whole, dead) = (entry.is_huge(), resident & entry.dead());
        let leaving = self.replay.leaving(chunk.index(), resident, whole, passed);
        if whole && dead != resident { leaving } else { leaving | dead }
    }

    /// Sends to the end of limbo what the plan wants soon, so that it is written last.
    pub(crate) fn keep_soon_wanted(&mut self) {
        if !self.replay.is_on() {
            return;
        }
        for _ in 0..KEPT_MAX {
            let Some(chunk) = self.limbo.front(Waiting::Limbo) else { return };
            let mask = self.chunk(chunk).mask(&[State::Limbo]);
            if !self.replay.is_soon(chunk.index(), mask) {
                return;
            }
            self.limbo.push_back(Waiting::Limbo, chunk);
        }
    }

    /// Granules that may be held: the budget, and more where what is fixed leaves too little of it.
    fn allowed(&self) -> u64 {
        self.fixed.allowed(self.budget())
    }

    /// Granules that may be made resident.
    pub(crate) fn room(&self) -> u64 {
        self.allowed().saturating_sub(self.held.total())
    }

    /// Granules that are held over what may be.
    pub(crate) fn over(&self) -> u64 {
        self.held.total().saturating_sub(self.allowed())
    }

    /// Whether other workers may make memory free.
    pub(crate) fn others_work(&self) -> bool {
        self.in_hand.is_anybody_at_work()
    }

    /// Whether waiting for memory is in vain: what cannot leave is fixed, and nobody is at work.
    pub(crate) fn is_stuck(&self) -> bool {
        self.fixed.granules() > 0 && !self.others_work()
    }

    /// Notes which granules of a chunk the kernel has refused to move, of all that are in data.
    fn note_fixed(&mut self, chunk: ChunkId, refused: Mask) {
        let before = self.chunk(chunk).replace_fixed(refused);
        self.fixed.recount(before, refused);
    }

    /// Granules have left data, whatever they were.
    pub(crate) fn unfix(&mut self, chunk: ChunkId, mask: Mask) {
        let fixed = self.chunk(chunk).fixed();
        self.note_fixed(chunk, fixed & !mask);
    }

    /// Lets the fixed chunks that were tried longest ago be tried again.
    fn look_at_fixed(&mut self) {
        if !self.fixed.take_turn(now_ns()) {
            return;
        }
        for _ in 0..FIXED_TRIES {
            let Some(chunk) = self.queues.front(DataQueue::Fixed) else { return };
            self.enlist(DataQueue::Resident, chunk, End::First);
        }
    }
}
