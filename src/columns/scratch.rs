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
use plimsoll_arena::sync::{Borrowed, Stock};
use plimsoll_arena::{PoolVec, Secrecy};
use plimsoll_swap::frame::HEADER_BYTES;

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
    sets: Stock<Scratch>,
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
        Ok(Self { runtime: runtime.clone(), secrecy, block_bytes, sets: Stock::new(vec![first]) })
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
    pub(super) fn borrow(&self) -> Borrowed<'_, Scratch> {
        if let Some(scratch) = self.sets.try_borrow() {
            return scratch;
        }
        match Self::make(&self.runtime, self.secrecy, self.block_bytes) {
            Ok(scratch) => self.sets.lend(scratch),
            Err(_) => self.sets.borrow(),
        }
    }
}
