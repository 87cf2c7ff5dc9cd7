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

/// What the owner of a vector knows about its next use and its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// The distance to its next use: how many other vectors the program will make or bring in
    /// before. The vector with the larger distance leaves first.
    NextUse(u64),
    /// Its contents look random, so packing is not worth a try.
    Uniform,
}

/// A vector that may be packed or on disk between two uses, and comes back when somebody reads it.
///
/// Dropping it frees its memory and its place in the spill file, and cancels its queued jobs on the
/// I/O threads.
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
    /// Makes `vector` spillable. It keeps its pool: when it leaves, its memory returns to that
    /// pool, and when it comes back, it takes memory from there. So the pool wipes a vector of
    /// [`Runtime::secret_pool`] whenever it leaves, and the vector is secret when it is back.
    ///
    /// The vector may be of another runtime's pool. This runtime then saves it when this runtime is
    /// short of memory. Its memory stays charged to the ledger of its own pool, and it must fit
    /// under that ledger's limit to come back.
    #[must_use]
    pub fn spillable<T: Lanes>(&self, vector: PoolVec<T>) -> Spillable<T> {
        self.enlist(vector, None)
    }

    /// Makes a vector that the runtime drops instead of saving it. When somebody needs it again,
    /// `recompute` gets a vector of zeros and must write the same contents every time. Changes by
    /// [`Spillable::write`] are lost when the vector is dropped. It keeps its pool, as in
    /// [`Runtime::spillable`].
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

    /// Returns whether the vector is in memory at this moment.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        self.slot.signs.resident_bytes.load(Ordering::Relaxed) > 0 || self.is_empty()
    }

    /// Pins the vector for reading. Brings it in if it is away, and waits for writers.
    ///
    /// A thread that already has a guard of this vector can block itself here for ever: always if
    /// that guard writes; if it reads, whenever another thread waits to write. This includes work
    /// that the thread picks up while it waits inside rayon with the guard in hand.
    /// [`Spillable::try_read`] does not wait.
    ///
    /// # Errors
    ///
    /// The limit, or what the disk says; the vector is then as it was.
    #[inline]
    pub fn read(&self) -> Result<ReadGuard<'_, T>, Error> {
        Ok(ReadGuard { body: waited_for(self.slot.pin(Busy::Wait)?) })
    }

    /// Pins the vector for writing. Brings it in if it is away, and waits for readers and writers:
    /// a thread that already has a guard of this vector blocks itself for ever.
    /// [`Spillable::try_write`] does not wait.
    ///
    /// # Errors
    ///
    /// The limit, or what the disk says; the vector is then as it was.
    pub fn write(&self) -> Result<WriteGuard<'_, T>, Error> {
        Ok(WriteGuard { body: waited_for(self.slot.pin_mut(Busy::Wait)?) })
    }

    /// As [`Spillable::read`], but returns `None` while another thread writes the vector, brings it
    /// in, or saves it. It waits for memory and for the disk, never for other threads.
    ///
    /// # Errors
    ///
    /// As [`Spillable::read`].
    pub fn try_read(&self) -> Result<Option<ReadGuard<'_, T>>, Error> {
        Ok(self.slot.pin(Busy::GiveUp)?.map(|body| ReadGuard { body }))
    }

    /// As [`Spillable::write`], but returns `None` while another thread reads or writes the vector,
    /// brings it in, or saves it. It waits for memory and for the disk, never for other threads.
    ///
    /// # Errors
    ///
    /// As [`Spillable::write`].
    pub fn try_write(&self) -> Result<Option<WriteGuard<'_, T>>, Error> {
        Ok(self.slot.pin_mut(Busy::GiveUp)?.map(|body| WriteGuard { body }))
    }

    /// Takes the vector out of its handle. Brings it in if it is away.
    ///
    /// # Errors
    ///
    /// The limit, or what the disk says.
    pub fn take(self) -> Result<PoolVec<T>, Error> {
        self.slot.take()
    }

    /// Gives the runtime a hint about the vector.
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

    /// Says that nobody needs the vector soon. If room is getting short, an I/O thread starts to
    /// save it and then frees its memory. With enough room this does nothing.
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
