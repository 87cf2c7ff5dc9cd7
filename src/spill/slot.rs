//! One spillable vector: where it is, and every move it may make.
//!
//! ```text
//!             evict, copy is current                        evict, no copy: save first
//!   Resident ------------------------> Away <--------------------------------- Resident
//!      ^  |                             |
//!      |  +-- write(): the copy is void |  fault or read-ahead: load
//!      +--------------------------------+
//!   Resident or Away --take()--> Taken
//! ```
//!
//! The lock of the body is the pin: a reader or writer holds it for as long as its guard lives, and
//! eviction only ever tries it. A vector is saved under the lock too, shared with readers when an
//! I/O thread does it, so what was saved is what is there.
//!
//! Invariants:
//!
//! * `body = Away` implies a copy in the store, or a way to make the vector again;
//! * a copy, where there is one, equals the body: whoever gets to write voids it first;
//! * lock order: body, then copy; neither is waited for inside the reclaim ladder.

use super::Spill;
use super::evict::{Evict, Signs};
use super::lanes::Lanes;
use crate::error::Error;
use plimsoll_arena::sync::unpoisoned;
use plimsoll_arena::{Pool, PoolVec, Secrecy, bytes_of, bytes_of_mut};
use plimsoll_swap::store::{Content, Hands, Saved, Store, Tier, Tiers};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError, TryLockResult};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

/// A copy in the store is kept beside a resident vector if what it takes in memory is at least this
/// many times smaller than the vector.
const COPY_WORTH_KEEPING: usize = 8;

/// Makes a vector again that was dropped: it gets a vector of zeroes of the old length.
pub(super) type Recompute<T> = Box<dyn Fn(&mut [T]) + Send + Sync>;

pub(super) enum Body<T: Lanes> {
    Resident(PoolVec<T>),
    Away,
    Taken,
}

impl<T: Lanes> std::fmt::Debug for Body<T> {
    /// Leaves the elements out: they may be a witness.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Body::Resident(_) => "Resident",
            Body::Away => "Away",
            Body::Taken => "Taken",
        })
    }
}

impl<T: Lanes> Body<T> {
    /// Returns the vector of a body that a guard holds: its lock was handed out resident.
    #[inline]
    pub(super) fn vector(&self) -> &[T] {
        match self {
            Body::Resident(vector) => vector,
            Body::Away | Body::Taken => unreachable!("a guard is made of a resident vector only"),
        }
    }

    pub(super) fn vector_mut(&mut self) -> &mut [T] {
        match self {
            Body::Resident(vector) => vector,
            Body::Away | Body::Taken => unreachable!("a guard is made of a resident vector only"),
        }
    }
}

/// What to do when a vector is pinned the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    Wait,
    GiveUp,
}

pub(super) struct Slot<T: Lanes> {
    pub(super) signs: Signs,
    pub(super) len: usize,
    body: RwLock<Body<T>>,
    copy: Mutex<Option<Saved>>,
    recompute: Option<Recompute<T>>,
    /// Where the vector was made and comes back to: its secrecy is the pool's.
    pool: Pool,
    pub(super) spill: Arc<Spill>,
}

/// The guard of a lock that was free, poisoned or not.
fn if_free<G>(tried: TryLockResult<G>) -> Option<G> {
    match tried {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl<T: Lanes> Slot<T> {
    pub(super) fn new(
        spill: Arc<Spill>,
        vector: PoolVec<T>,
        recompute: Option<Recompute<T>>,
    ) -> Self {
        let raw_bytes = size_of_val(vector.as_slice());
        let signs = Signs {
            id: spill.next_id(),
            raw_bytes,
            resident_bytes: AtomicUsize::new(raw_bytes),
            used: AtomicU64::new(spill.tick()),
            next_use: AtomicU64::new(u64::MAX),
            uniform: AtomicBool::new(false),
            ahead: AtomicBool::new(false),
        };
        spill.note_resident(raw_bytes);
        let (len, pool) = (vector.len(), vector.pool());
        let (body, copy) = (RwLock::new(Body::Resident(vector)), Mutex::new(None));
        Self { signs, len, body, copy, recompute, pool, spill }
    }

    pub(super) fn set_uniform(&self) {
        self.signs.uniform.store(true, Ordering::Relaxed);
    }

    #[inline]
    fn shared(&self, busy: Busy) -> Option<RwLockReadGuard<'_, Body<T>>> {
        match busy {
            Busy::Wait => Some(unpoisoned(self.body.read())),
            Busy::GiveUp => if_free(self.body.try_read()),
        }
    }

    fn exclusive(&self, busy: Busy) -> Option<RwLockWriteGuard<'_, Body<T>>> {
        match busy {
            Busy::Wait => Some(unpoisoned(self.body.write())),
            Busy::GiveUp => if_free(self.body.try_write()),
        }
    }

    #[inline]
    fn touch(&self) {
        self.signs.used.store(self.spill.now(), Ordering::Relaxed);
        if self.signs.ahead.load(Ordering::Relaxed)
            && self.signs.ahead.swap(false, Ordering::Relaxed)
        {
            self.spill.counters.read_ahead_hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Pins for reading; the vector is resident while the guard lives. `None` is for who gives up.
    #[inline]
    pub(super) fn pin(&self, busy: Busy) -> Result<Option<RwLockReadGuard<'_, Body<T>>>, Error> {
        let Some(body) = self.shared(busy) else { return Ok(None) };
        if matches!(*body, Body::Resident(_)) {
            self.touch();
            return Ok(Some(body));
        }
        drop(body);
        Ok(self.resident(busy)?.map(RwLockWriteGuard::downgrade))
    }

    /// Pins for writing, and voids the copy. `None` is for who gives up.
    pub(super) fn pin_mut(
        &self,
        busy: Busy,
    ) -> Result<Option<RwLockWriteGuard<'_, Body<T>>>, Error> {
        let Some(body) = self.resident(busy)? else { return Ok(None) };
        *unpoisoned(self.copy.lock()) = None;
        Ok(Some(body))
    }

    /// Takes the vector out for good.
    pub(super) fn take(&self) -> Result<PoolVec<T>, Error> {
        let Some(mut body) = self.pin_mut(Busy::Wait)? else { return Err(Error::Taken) };
        match std::mem::replace(&mut *body, Body::Taken) {
            Body::Resident(vector) => {
                self.note_gone();
                Ok(vector)
            }
            Body::Away | Body::Taken => Err(Error::Taken),
        }
    }

    /// Locks the body with the vector in memory, brought in on this thread if it must.
    ///
    /// Memory is taken, and a vector made again, before the lock: both may run other work of the
    /// thread pool on this thread, which may want this vector too.
    fn resident(&self, busy: Busy) -> Result<Option<RwLockWriteGuard<'_, Body<T>>>, Error> {
        let away = |body: &Body<T>| match body {
            Body::Resident(_) => Ok(false),
            Body::Away => Ok(true),
            Body::Taken => Err(Error::Taken),
        };
        let Some(body) = self.exclusive(busy) else { return Ok(None) };
        self.touch();
        if !away(&body)? {
            return Ok(Some(body));
        }
        drop(body);
        let started = Instant::now();
        let vector = self.spare()?;
        let Some(mut body) = self.exclusive(busy) else { return Ok(None) };
        if away(&body)? {
            self.fill(&mut body, vector, Hands::Two)?;
            let counters = &self.spill.counters;
            let nanos = started.elapsed().as_nanos() as u64;
            counters.stalls.fetch_add(1, Ordering::Relaxed);
            counters.stalled_nanos.fetch_add(nanos, Ordering::Relaxed);
        }
        Ok(Some(body))
    }

    /// Makes a vector to bring this one in with: of zeroes, or made again.
    fn spare(&self) -> Result<PoolVec<T>, Error> {
        let explain = |error| self.spill.explain(error);
        let Some(recompute) = &self.recompute else {
            return self.pool.try_for_overwrite(self.len).map_err(explain);
        };
        let mut vector = self.pool.try_zeroed::<T>(self.len).map_err(explain)?;
        recompute(&mut vector);
        Ok(vector)
    }

    /// Reads the copy into `vector`, if it was not made again, and makes it the body.
    fn fill(&self, body: &mut Body<T>, mut vector: PoolVec<T>, hands: Hands) -> Result<(), Error> {
        let mut copy = unpoisoned(self.copy.lock());
        let counters = &self.spill.counters;
        match (copy.as_ref(), &self.recompute, self.spill.store()) {
            (_, Some(_), _) => {
                counters.recomputed.fetch_add(1, Ordering::Relaxed);
            }
            (Some(saved), None, Some(store)) => {
                store.load_by(hands, saved, bytes_of_mut(&mut vector))?;
                counters.loaded_bytes.fetch_add(self.signs.raw_bytes as u64, Ordering::Relaxed);
                if saved.memory_bytes() > self.signs.raw_bytes / COPY_WORTH_KEEPING {
                    *copy = None;
                }
            }
            _ => return Err(Error::Taken),
        }
        *body = Body::Resident(vector);
        self.signs.resident_bytes.store(self.signs.raw_bytes, Ordering::Relaxed);
        self.spill.note_resident(self.signs.raw_bytes);
        Ok(())
    }

    /// Reads the vector in behind its owner's back, if there is room without making any.
    pub(super) fn read_ahead(&self) {
        let Some(mut body) = self.exclusive(Busy::GiveUp) else { return };
        if !matches!(*body, Body::Away) || self.recompute.is_some() {
            return;
        }
        let counters = &self.spill.counters;
        let Ok(vector) = self.pool.try_for_overwrite::<T>(self.len) else {
            counters.read_ahead_skipped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        // An error shows when the vector is needed: the read is then made again.
        if self.fill(&mut body, vector, Hands::One).is_ok() {
            counters.read_ahead.fetch_add(1, Ordering::Relaxed);
            self.signs.ahead.store(true, Ordering::Relaxed);
        }
    }

    /// Saves the vector while readers may look at it, then lets it leave memory. For I/O threads.
    pub(super) fn write_back(&self) {
        if self.spill.roomy(self.signs.raw_bytes) {
            return;
        }
        {
            // Not waited for: its writer may be waiting for this thread, in the ladder.
            let Some(body) = self.shared(Busy::GiveUp) else { return };
            let Body::Resident(vector) = &*body else { return };
            let mut copy = unpoisoned(self.copy.lock());
            if copy.is_none() && !self.save(vector, &mut copy, Hands::One) {
                return;
            }
        }
        if let Some(mut body) = self.exclusive(Busy::GiveUp) {
            let freed = self.leave(&mut body);
            self.spill.note_departed(freed);
        }
    }

    /// Says whether the store may write the vector to what it spills to: a secret stays in memory
    /// rather than in the clear on a swap disk.
    fn may_spill(&self, store: &Store) -> Result<(), plimsoll_swap::Error> {
        match self.pool.secrecy() {
            Secrecy::Public => Ok(()),
            Secrecy::Secret => store.takes_secrets(),
        }
    }

    /// Saves `vector` if it cannot be made again; says whether it may now leave memory.
    fn save(&self, vector: &PoolVec<T>, copy: &mut Option<Saved>, hands: Hands) -> bool {
        if self.recompute.is_some() {
            return true;
        }
        let Some(store) = self.spill.store() else { return false };
        if let Err(why) = self.may_spill(store) {
            self.spill.note_failure(self.signs.raw_bytes, why);
            return false;
        }
        let content = match self.signs.uniform.load(Ordering::Relaxed) {
            true => Content::Uniform,
            false => Content::Unknown,
        };
        match store.save_by(hands, T::lanes(), bytes_of(vector), content, Tiers::Any) {
            Ok(saved) => {
                self.spill.note_saved(&saved);
                *copy = Some(saved);
                true
            }
            Err(error) => {
                self.spill.note_failure(self.signs.raw_bytes, error);
                false
            }
        }
    }

    /// Lets a vector whose copy is current leave memory; returns the bytes freed.
    fn leave(&self, body: &mut Body<T>) -> usize {
        let has_copy = unpoisoned(self.copy.lock()).is_some() || self.recompute.is_some();
        if !has_copy || !matches!(body, Body::Resident(_)) {
            return 0;
        }
        *body = Body::Away;
        self.note_gone();
        self.signs.raw_bytes
    }

    fn note_gone(&self) {
        let bytes = self.signs.resident_bytes.swap(0, Ordering::Relaxed);
        self.signs.ahead.store(false, Ordering::Relaxed);
        self.spill.note_gone(bytes);
    }
}

impl<T: Lanes> Evict for Slot<T> {
    fn signs(&self) -> &Signs {
        &self.signs
    }

    fn evict(&self) -> usize {
        let Some(mut body) = self.exclusive(Busy::GiveUp) else { return 0 };
        let Body::Resident(vector) = &*body else { return 0 };
        let mut copy_bytes = 0;
        {
            let Ok(mut copy) = self.copy.try_lock() else { return 0 };
            if copy.is_none() {
                if !self.save(vector, &mut copy, Hands::Two) {
                    return 0;
                }
                copy_bytes = copy.as_ref().map_or(0, Saved::memory_bytes);
            }
        }
        self.leave(&mut body).saturating_sub(copy_bytes)
    }

    fn demote(&self) -> usize {
        let Some(body) = self.exclusive(Busy::GiveUp) else { return 0 };
        let Ok(mut copy) = self.copy.try_lock() else { return 0 };
        let (Some(saved), Some(store)) = (copy.take(), self.spill.store()) else { return 0 };
        if saved.tier() == Tier::Spilled {
            *copy = Some(saved);
            return 0;
        }
        if matches!(*body, Body::Resident(_)) {
            // The vector itself is here: its copy is a luxury.
            return saved.packed_bytes();
        }
        if let Err(why) = self.may_spill(store) {
            self.spill.note_failure(self.signs.raw_bytes, why);
            *copy = Some(saved);
            return 0;
        }
        let bytes = saved.packed_bytes();
        match store.demote(saved) {
            Ok(saved) => {
                *copy = Some(saved);
                self.spill.note_written(self.signs.raw_bytes);
                bytes
            }
            Err((saved, error)) => {
                *copy = Some(saved);
                self.spill.note_failure(self.signs.raw_bytes, error);
                0
            }
        }
    }
}

impl<T: Lanes> Drop for Slot<T> {
    fn drop(&mut self) {
        self.note_gone();
        self.spill.forget(self.signs.id);
    }
}
