//! Buffers of a reader: for a block as it is stored, and for the same block unpacked.
//!
//! The first set is made when the file is opened, so a read never fails for want of memory. Threads
//! make more of them while the limit allows it; a thread for which no more fits waits for one of
//! the others. Who has a set reads and unpacks one block and gives the set back, and waits for
//! nobody meanwhile, so no threads wait in a circle.
//!
//! Invariant: there are at most as many sets as threads that ever read at once, and at least one.

use crate::error::Error;
use crate::runtime::Runtime;
use plimsoll_arena::sync::unpoisoned;
use plimsoll_arena::{PoolVec, Secrecy};
use plimsoll_swap::frame::HEADER_BYTES;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex};

/// A set of buffers.
pub(super) struct Scratch {
    memory: PoolVec<u8>,
}

impl Scratch {
    /// The buffer for a stored block, and the one for a block unpacked.
    pub(super) fn parts(&mut self) -> (&mut [u8], &mut [u8]) {
        let raw_bytes = (self.memory.len() - HEADER_BYTES) / 2;
        self.memory.split_at_mut(HEADER_BYTES + raw_bytes)
    }
}

/// The sets of one reader.
pub(super) struct Scratches {
    runtime: Runtime,
    secrecy: Secrecy,
    block_bytes: usize,
    free: Mutex<Vec<Scratch>>,
    returned: Condvar,
}

impl Scratches {
    /// Sets for blocks of up to `block_bytes`; the first one is made now.
    ///
    /// # Errors
    ///
    /// What the limit says.
    pub(super) fn new(
        runtime: &Runtime,
        secrecy: Secrecy,
        block_bytes: usize,
    ) -> Result<Self, Error> {
        let first = Self::make(runtime, secrecy, block_bytes)
            .map_err(|error| runtime.explain("reading a packed file", error))?;
        Ok(Self {
            runtime: runtime.clone(),
            secrecy,
            block_bytes,
            free: Mutex::new(vec![first]),
            returned: Condvar::new(),
        })
    }

    fn make(
        runtime: &Runtime,
        secrecy: Secrecy,
        block_bytes: usize,
    ) -> Result<Scratch, plimsoll_arena::Error> {
        let pool = runtime.pool_of(secrecy);
        Ok(Scratch { memory: pool.try_for_overwrite(HEADER_BYTES + 2 * block_bytes)? })
    }

    /// Borrows a set: a free one, a new one if there is room, or the next that is given back.
    pub(super) fn borrow(&self) -> Borrowed<'_> {
        if let Some(scratch) = unpoisoned(self.free.lock()).pop() {
            return Borrowed { scratches: self, scratch: Some(scratch) };
        }
        // Without the lock: making room may take long.
        if let Ok(scratch) = Self::make(&self.runtime, self.secrecy, self.block_bytes) {
            return Borrowed { scratches: self, scratch: Some(scratch) };
        }
        let mut free = unpoisoned(self.free.lock());
        loop {
            if let Some(scratch) = free.pop() {
                return Borrowed { scratches: self, scratch: Some(scratch) };
            }
            free = unpoisoned(self.returned.wait(free));
        }
    }
}

/// A borrowed set; it goes back when dropped.
pub(super) struct Borrowed<'a> {
    scratches: &'a Scratches,
    scratch: Option<Scratch>,
}

impl Deref for Borrowed<'_> {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        self.scratch.as_ref().unwrap_or_else(|| unreachable!("taken only when dropped"))
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Scratch {
        self.scratch.as_mut().unwrap_or_else(|| unreachable!("taken only when dropped"))
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take() {
            unpoisoned(self.scratches.free.lock()).push(scratch);
            self.scratches.returned.notify_one();
        }
    }
}
