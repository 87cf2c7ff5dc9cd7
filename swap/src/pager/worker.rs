//! The threads: a few alike, of which one leads.
//!
//! ```text
//!   leader   message -> Rescue: moved back at once, 8 us
//!                    -> Wait: noted
//!                    -> Load: the leader gives the lead to another and serves it itself
//!   others   1. a demand              somebody waits
//!            2. the lead, if nobody has it
//!            3. room, if it is short  else the next demand would wait for a write
//!            4. a chunk ahead         somebody will soon ask
//!            5. room, up to the reserve
//! ```
//!
//! A fault therefore crosses from thread to thread once, not twice: on a machine whose processors
//! sleep between faults, waking one takes as long as half a read. At least half of the workers
//! keep away from write-back, so a demand waits for no write. Workers look around twenty times a
//! second, under a limit a hundred times: whether all still live, since a touch of what another was
//! to bring would never end, and how long threads have waited for pages; idle ones also see what
//! the process holds.
//!
//! Must never: take a signal, unwind, or allocate.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;
use plimsoll_arena::process::ShareMeter;

use super::core::Core;
use super::crew::WATCHER;
use super::engine::Engine;
use super::entry::Demand;
use super::space::{GRANULE_BYTES, GRANULES, Mask, run};
use super::state::{Answer, State, answer};
use super::streams::Streams;
use super::sys::{self, die, now_ns};
use super::thrash::{Advice, Count, FailFast, Spent};
use super::trace::Seen;
use super::uffd::Intent;

/// How often a worker looks around.
const TICK: Duration = Duration::from_millis(50);

/// The same where the process has a limit: nothing else says that small blocks come. With 50 ms
/// ark-groth16 was over by some MB (`scripts/ci.sh peers`, groth16 under a third of its peak).
const TICK_UNDER_LIMIT: Duration = Duration::from_millis(10);

/// What a thread is started with.
pub(crate) struct Start {
    pub(crate) engine: Arc<Engine>,
    /// The worker's, or [`WATCHER`].
    pub(crate) number: usize,
    pub(crate) workers: usize,
    /// Asked of the kernel before the thread starts: asking allocates.
    pub(crate) processors: u64,
}

impl Start {
    /// Starts a thread that works on this.
    pub(crate) fn launch(self) -> Result<libc::pthread_t, i32> {
        let raw = Box::into_raw(Box::new(self));
        // SAFETY: `work` takes the box of a `Start`, which nobody else has a pointer to any more.
        unsafe { sys::start_thread(work, raw.cast()) }.inspect_err(|_| {
            // SAFETY: no thread has been started, so the box is still ours.
            drop(unsafe { Box::from_raw(raw) });
        })
    }
}

/// Works until the pager stops. For [`Start::launch`] alone, which knows what `raw` must be.
extern "C" fn work(raw: *mut c_void) -> *mut c_void {
    // SAFETY: `launch` gave this pointer from a box, to this thread alone.
    let start: Box<Start> = unsafe { Box::from_raw(raw.cast()) };
    let engine = &*start.engine;
    sys::go_first();
    engine.crew.join(start.number);
    if start.number == WATCHER {
        engine.keep_watch();
    } else {
        engine.work_on(&start);
    }
    engine.crew.leave(start.number);
    std::ptr::null_mut()
}

impl Engine {
    /// Does what there is to do until the pager stops.
    fn work_on(&self, start: &Start) {
        let tick = if self.following.is_some() { TICK_UNDER_LIMIT } else { TICK };
        let mut watch = Watch::new(self, start, tick);
        while !self.stopping() {
            let seen = self.work.count();
            if self.queued_demand(start.number) {
            } else if self.lead.take() {
                self.lead_on(start.number);
            } else if !self.background(start.number, start.workers) {
                self.work.wait(seen, tick);
                self.follow_limit_closely(start.number);
                self.tend_plan();
            }
            // Whoever serves one demand after the other is never idle, which is when it matters.
            watch.look(self);
        }
    }

    /// Answers faults until one needs a worker, and then serves that one.
    fn lead_on(&self, worker: usize) {
        let base = self.space.data().start();
        let (mut mine, mut left) = (None, 0);
        let mut go_on = true;
        while go_on && mine.is_none() {
            #[cfg(test)]
            self.leader_may_vanish();
            go_on = self.space.uffd().serve(&self.bell, |address, intent| {
                let demand = self.fault(address.wrapping_sub(base), intent);
                let Some(demand) = demand else { return };
                if mine.is_none() {
                    mine = Some(demand);
                    return;
                }
                left += 1;
                if !self.core.lock().demands.push(demand) {
                    die(format_args!("more than 65536 threads wait for pages"));
                }
            });
        }
        self.lead.give_up();
        // One for the lead, and one for each demand: who serves one does not lead meanwhile.
        for _ in 0..=left {
            self.work.raise_one();
        }
        if let Some(demand) = mine {
            self.serve(worker, demand);
        }
    }

    /// Answers one fault at an offset into the data range, or says what it needs.
    fn fault(&self, offset: usize, intent: Intent) -> Option<Demand> {
        if offset >= self.space.data().bytes() {
            die(format_args!("a fault outside of the paged range"));
        }
        let (chunk, granule) = Core::place(offset);
        let mut core = self.core.lock();
        core.counters.add(Count::Faults, 1);
        let state = core.chunk(chunk).state(granule);
        match answer(state) {
            Answer::Wake => {
                self.give_hole(&mut core, offset);
                drop(core);
                self.wake(chunk, granule);
            }
            Answer::Wait => {
                core.chunk(chunk).want(granule);
                if !self.read_rows_on(&mut core, offset, false) {
                    self.read_on(&mut core, offset);
                }
            }
            Answer::Rescue => self.rescue(&mut core, offset, intent),
            Answer::Load if core.chunk(chunk).queued() & 1 << granule != 0 => {}
            Answer::Load if self.give_page(&mut core, offset) => {}
            Answer::Load => {
                core.chunk(chunk).queue(granule);
                let write = u32::from(intent == Intent::Write);
                return Some(Demand { offset, since_ns: now_ns(), write });
            }
        }
        None
    }

    /// Moves a granule back from its frame, and its neighbours that are there for the same reason.
    fn rescue(&self, core: &mut Core, offset: usize, intent: Intent) {
        let (chunk, granule) = Core::place(offset);
        let scattered = self.read_rows_on(core, offset, false);
        let entry = core.chunk(chunk);
        let state = entry.state(granule);
        let alike = if scattered { 1 } else { entry.mask(&[state]) >> granule };
        let mask: Mask = run(granule, (alike.trailing_ones() as usize).min(GRANULES - granule));
        core.rescue(&self.space, chunk, mask, now_ns());
        let count = u64::from(mask.count_ones());
        if state == State::Limbo {
            core.counters.add(Count::Rescued, count);
            core.touched(chunk, mask, Seen::Limbo, intent == Intent::Write);
            return;
        }
        core.came_ahead(chunk, mask);
        if !scattered {
            self.read_on(core, offset);
        }
    }

    /// Reads on for a stream that has come to an offset.
    fn read_on(&self, core: &mut Core, offset: usize) {
        let widest = Streams::widest(core.budget());
        if let Some((from, to)) = core.streams.advance((offset / GRANULE_BYTES) as u64, widest) {
            self.queue_ahead(core, from, to);
        }
    }

    /// Reads on for one who reads rows in bit-reversed order, if it is one who is at an offset.
    pub(crate) fn read_rows_on(&self, core: &mut Core, offset: usize, missing: bool) -> bool {
        let (is_one, batch) = core.reversed.touched(offset as u64, missing);
        if let Some(batch) = batch {
            self.queue_rows(core, batch);
        }
        is_one
    }

    /// Serves a demand that the leader left. Returns whether there was one.
    fn queued_demand(&self, worker: usize) -> bool {
        let mut core = self.core.lock();
        let Some(demand) = core.demands.pop() else { return false };
        let more = core.demands.len() > 0;
        drop(core);
        if more {
            self.work.raise_one();
        }
        self.serve(worker, demand);
        true
    }

    /// Does what nobody waits for yet. Returns whether there was anything.
    fn background(&self, worker: usize, workers: usize) -> bool {
        let mut core = self.core.lock();
        let over = core.over();
        core.release_spares(&self.space, over);
        let may_write = core.in_hand.writing() < (workers / 2).max(1);
        let (available, target) = (core.available(), Self::reserve_target(&core));
        let over = core.over() > 0;
        if (over || available < target / 2) && may_write {
            return self.make_room(core, Some(worker)).1;
        }
        if let Some(ahead) = core.next_expected() {
            if core.aheads.len() > 0 {
                self.work.raise_one();
            }
            self.read_ahead(core, worker, ahead);
            return true;
        }
        available < target && may_write && self.make_room(core, Some(worker)).1
    }
}

/// Looks after the other workers, and after a limit that is too small.
struct Watch {
    tick: Duration,
    looked_ns: u64,
    processors: u64,
    /// When to end the process, and what finds that out.
    end: Option<(FailFast, ShareMeter)>,
    /// What was spent when this one last looked.
    before: Spent,
}

impl Watch {
    fn new(engine: &Engine, start: &Start, tick: Duration) -> Self {
        let end = engine.fail_fast.map(|limit| (limit, ShareMeter::new(limit.stalled_percent)));
        Self {
            tick,
            looked_ns: now_ns(),
            processors: start.processors,
            end,
            before: Spent::default(),
        }
    }

    fn look(&mut self, engine: &Engine) {
        let now = now_ns();
        if now - self.looked_ns < self.tick.as_nanos() as u64 {
            return;
        }
        self.looked_ns = now;
        engine.look_after_crew();
        engine.tell_fixed();
        engine.tend_plan();
        if self.end.is_some() || engine.following.is_some() {
            self.look_at_stalls(engine);
        }
    }

    /// Notes how long threads have waited, and acts where that is too long.
    fn look_at_stalls(&mut self, engine: &Engine) {
        let (stalled_ns, refaulted) = {
            let core = engine.core.lock();
            (core.counters.of(Count::StalledNs), core.counters.of(Count::Refaulted))
        };
        let (now, processors) = (Instant::now(), self.processors);
        let spent = Spent::now(engine, stalled_ns);
        if let Some((limit, meter)) = &mut self.end
            && let Some(lost) = meter.note(Duration::ZERO, spent.lost(self.before, processors), now)
            && lost.elapsed >= limit.window
        {
            die(format_args!("{lost}, and fail-fast is on; {}", engine.advice()));
        }
        self.before = spent;
        let Some(following) = &engine.following else { return };
        let Some(told) = following.told.replace(spent) else { return };
        let guard = following.account.thrash();
        // A limit under which nothing is wanted again is not too small.
        if refaulted > 0
            && let Some(lost) = guard.waited(spent.lost(told, processors), now)
        {
            let advice = engine.advice();
            let helps = "PLIMSOLL_FAIL_FAST=1 ends a process that does little else";
            guard.tell(&lost, format_args!("{advice}; {helps}"));
        }
    }
}

impl Spent {
    fn now(engine: &Engine, stalled_ns: u64) -> Self {
        let worked_ns = sys::process_ran_ns().saturating_sub(engine.crew.ran_ns());
        Self { stalled_ns, worked_ns, at_ns: now_ns() }
    }
}

impl Engine {
    /// What would help where threads wait for too long.
    fn advice(&self) -> Advice {
        let limit = self.following.as_ref().map(|f| f.account.limit_bytes() as u64);
        let core = self.core.lock();
        let thrash = core.counters.report(core.evictions(), core.budget());
        let budget_bytes = core.budget() * GRANULE_BYTES as u64;
        Advice { thrash, budget_bytes, limit_bytes: limit }
    }
}
