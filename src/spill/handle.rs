//! The handle and its guards.

use super::evict::Evict;
use super::lanes::Lanes;
use super::slot::{Body, Busy, Recompute, Slot};
use crate::Runtime;
use crate::error::Error;
use plimsoll_arena::PoolVec;
use plimsoll_swap::workers::Class;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard, Weak};

/// What its owner knows of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// How far off its next use is, in vectors that will be made or brought in before: of two, the
    /// one that is farther leaves first.
    NextUse(u64),
    /// It looks random: do not try to pack it.
    Uniform,
}

/// A vector that may be packed or on disk between two uses, and comes back when somebody reads it.
///
/// Dropping it frees its memory and its place in the spill file; what the I/O threads had queued
/// for it is cancelled.
pub struct Spillable<T: Lanes> {
    slot: Arc<Slot<T>>,
}

impl<T: Lanes> std::fmt::Debug for Spillable<T> {
    /// Leaves the elements out: they may be a witness.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spillable").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Makes `vector` spillable. It keeps its pool: its memory goes home there when it leaves, and
    /// comes from there when it is needed again. So a vector of [`Runtime::secret_pool`] is wiped
    /// whenever it leaves, and secret when it is back.
    ///
    /// A vector of another pool is taken too. It is saved in this runtime's store when this runtime
    /// is short of memory, and its memory stays charged to the ledger of its own pool, whose limit
    /// it must fit under to come back.
    #[must_use]
    pub fn spillable<T: Lanes>(&self, vector: PoolVec<T>) -> Spillable<T> {
        self.enlist(vector, None)
    }

    /// Makes a vector that is dropped instead of saved, and made again by `recompute`, which gets
    /// zeroes and must always write the same. What [`Spillable::write`] changes is lost with it.
    /// It keeps its pool, as in [`Runtime::spillable`].
    #[must_use]
    pub fn recomputable<T: Lanes>(
        &self,
        vector: PoolVec<T>,
        recompute: impl Fn(&mut [T]) + Send + Sync + 'static,
    ) -> Spillable<T> {
        self.enlist(vector, Some(Box::new(recompute)))
    }

    fn enlist<T: Lanes>(
        &self,
        vector: PoolVec<T>,
        recompute: Option<Recompute<T>>,
    ) -> Spillable<T> {
        let spill = self.spill();
        let slot = Arc::new(Slot::new(Arc::clone(spill), vector, recompute));
        let weak: Weak<dyn Evict> = Arc::downgrade(&(Arc::clone(&slot) as Arc<dyn Evict>));
        spill.enlist(slot.signs.id, weak);
        Spillable { slot }
    }
}

impl<T: Lanes> Spillable<T> {
    /// Returns the number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slot.len
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the vector is in memory just now.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        self.slot.signs.resident_bytes.load(Ordering::Relaxed) > 0 || self.is_empty()
    }

    /// Pins the vector for reading, bringing it in if it must. Waits for whoever writes.
    ///
    /// A thread that has a guard of this vector already can block itself here for good: always if
    /// it writes, and if it reads, when another thread waits to write meanwhile. That includes work
    /// which the thread takes on while it waits in rayon with the guard in hand.
    /// [`Spillable::try_read`] does not wait.
    ///
    /// # Errors
    ///
    /// The limit, or what the disk says; the vector is then as it was.
    #[inline]
    pub fn read(&self) -> Result<ReadGuard<'_, T>, Error> {
        Ok(ReadGuard { body: waited_for(self.slot.pin(Busy::Wait)?) })
    }

    /// Pins the vector for writing, bringing it in if it must. Waits for whoever reads or writes: a
    /// thread that has a guard of this vector already blocks itself for good.
    /// [`Spillable::try_write`] does not wait.
    ///
    /// # Errors
    ///
    /// The limit, or what the disk says; the vector is then as it was.
    pub fn write(&self) -> Result<WriteGuard<'_, T>, Error> {
        Ok(WriteGuard { body: waited_for(self.slot.pin_mut(Busy::Wait)?) })
    }

    /// As [`Spillable::read`], but `None` when somebody writes, or is bringing the vector in or
    /// letting it leave. Its memory and the disk are waited for, other threads are not.
    ///
    /// # Errors
    ///
    /// As [`Spillable::read`].
    pub fn try_read(&self) -> Result<Option<ReadGuard<'_, T>>, Error> {
        Ok(self.slot.pin(Busy::GiveUp)?.map(|body| ReadGuard { body }))
    }

    /// As [`Spillable::write`], but `None` when somebody reads or writes, or is bringing the vector
    /// in or letting it leave. Its memory and the disk are waited for, other threads are not.
    ///
    /// # Errors
    ///
    /// As [`Spillable::write`].
    pub fn try_write(&self) -> Result<Option<WriteGuard<'_, T>>, Error> {
        Ok(self.slot.pin_mut(Busy::GiveUp)?.map(|body| WriteGuard { body }))
    }

    /// Takes the vector out, bringing it in if it must.
    ///
    /// # Errors
    ///
    /// The limit, or what the disk says.
    pub fn take(self) -> Result<PoolVec<T>, Error> {
        self.slot.take()
    }

    /// Tells the runtime what is known of the vector.
    pub fn hint(&self, hint: Hint) {
        match hint {
            Hint::NextUse(distance) => {
                let time = self.slot.spill.now().saturating_add(distance).min(u64::MAX - 1);
                self.slot.signs.next_use.store(time, Ordering::Relaxed);
            }
            Hint::Uniform => self.slot.set_uniform(),
        }
    }

    /// Starts to read the vector in, if it is away and there is room for it.
    pub fn prefetch(&self) {
        if self.is_resident() {
            return;
        }
        let slot = Arc::downgrade(&self.slot);
        // Refused when the queue is full: whoever needs the vector then reads it.
        let _taken = self.slot.spill.submit(Class::ReadAhead, move || {
            if let Some(slot) = slot.upgrade() {
                slot.read_ahead();
            }
        });
    }

    /// Says that the vector is not needed soon: if room is getting short, an I/O thread starts to
    /// save it and lets it leave memory. With enough room this does nothing.
    pub fn write_back(&self) {
        let spill = &self.slot.spill;
        if !self.is_resident() || spill.roomy(self.slot.signs.raw_bytes) {
            return;
        }
        let slot = Arc::downgrade(&self.slot);
        // Refused when the queue is full: the ladder writes it when there is need.
        let _taken = self.slot.spill.submit_leaving(move || {
            if let Some(slot) = slot.upgrade() {
                slot.write_back();
            }
        });
    }
}

fn waited_for<G>(guard: Option<G>) -> G {
    guard.unwrap_or_else(|| unreachable!("only who gives up gets none"))
}

/// A pinned vector, for reading.
#[derive(Debug)]
pub struct ReadGuard<'a, T: Lanes> {
    body: RwLockReadGuard<'a, Body<T>>,
}

/// A pinned vector, for reading and writing.
#[derive(Debug)]
pub struct WriteGuard<'a, T: Lanes> {
    body: RwLockWriteGuard<'a, Body<T>>,
}

impl<T: Lanes> Deref for ReadGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.body.vector()
    }
}

impl<T: Lanes> Deref for WriteGuard<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.body.vector()
    }
}

impl<T: Lanes> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.body.vector_mut()
    }
}
