//! A bump arena: scratch for one stage, freed all at once.
//!
//! ```text
//!   chunk 0 [######]   chunk 1 [###########]   chunk 2 [####..........]
//!                                                           ^ cursor
//!   checkpoint ----------------^        rewind: the cursor goes back, chunk 2 goes home
//! ```
//!
//! Allocating moves the cursor. Slices borrow the arena, and a rewind borrows it mutably. So a
//! rewind that would leave a slice behind does not compile:
//!
//! ```compile_fail,E0502
//! # let pool = plimsoll_arena::Pool::builder().build().unwrap();
//! let mut bump = plimsoll_arena::Bump::new(&pool);
//! let slice = bump.alloc_zeroed::<u64>(8);
//! bump.reset();
//! slice[0] = 1; // the arena was reset underneath
//! ```
//!
//! ```compile_fail,E0597
//! # let pool = plimsoll_arena::Pool::builder().build().unwrap();
//! let mut bump = plimsoll_arena::Bump::new(&pool);
//! let slice;
//! {
//!     let stage = bump.checkpoint();
//!     slice = stage.alloc_zeroed::<u64>(8);
//! } // rewound here
//! slice[0] = 1;
//! ```
//!
//! Chunks are blocks of the pool, so the pool charges, recycles and wipes them like vectors. A
//! rewind returns the chunks above it to the pool at once, where a reclaim point finds them.
//!
//! Source: the region allocators of Hanson, "Fast allocation and deallocation of memory based on
//! object lifetimes", 1990.

use crate::error::Error;
use crate::plain::Plain;
use crate::pool::Pool;
use crate::size::{BLOCK_BYTES_MAX, GRANULE_BYTES};
use crate::vec::PoolVec;
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// First chunk, and the least that a chunk grows by.
const CHUNK_BYTES_MIN: usize = GRANULE_BYTES;

/// Chunks double up to 64 MiB, so that at most that much lies unused behind the cursor.
const CHUNK_BYTES_MAX: usize = 64 << 20;

/// Alignment of a chunk's start: that of an OS page.
const CHUNK_ALIGN: usize = 4096;

/// Slices of a chunk are lent out, so its bytes are reached through `start` alone: a reference to
/// the whole of it, which even `memory.len()` makes, would alias them.
struct Chunk {
    _memory: PoolVec<u8>,
    start: NonNull<u8>,
    bytes: usize,
}

/// A bump arena: scratch memory for one stage, freed all at once.
///
/// It belongs to one thread at a time.
pub struct Bump {
    pool: Pool,
    chunks: RefCell<Vec<Chunk>>,
    /// Bytes used in the last chunk.
    cursor: Cell<usize>,
    /// How far it went back since the innermost checkpoint: to it, or below by a `reset`.
    lowest: Mark,
    limit_bytes: usize,
}

// SAFETY: the arena owns its chunks; cells are not shared between threads (it is not Sync).
unsafe impl Send for Bump {}

impl std::fmt::Debug for Bump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bump").field("held_bytes", &self.held_bytes()).finish_non_exhaustive()
    }
}

/// A place to go back to; the order is that of allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    chunks: usize,
    cursor: usize,
}

impl Mark {
    const EMPTY: Self = Self { chunks: 0, cursor: 0 };
}

impl Bump {
    /// Makes an empty arena on `pool`, with no limit of its own.
    #[must_use]
    pub fn new(pool: &Pool) -> Self {
        Self::with_limit(pool, usize::MAX)
    }

    /// Makes an empty arena on `pool` that holds at most `limit_bytes` of chunks. A chunk has at
    /// least 64 KiB, so a limit below that leaves room for nothing.
    #[must_use]
    pub fn with_limit(pool: &Pool, limit_bytes: usize) -> Self {
        Self {
            pool: pool.clone(),
            chunks: RefCell::new(Vec::new()),
            cursor: Cell::new(0),
            lowest: Mark::EMPTY,
            limit_bytes,
        }
    }

    /// Returns the bytes of the chunks held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.chunks.borrow().iter().map(|chunk| chunk.bytes).sum()
    }

    /// Allocates `len` zeroes.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the arena's or the ledger's limit, too large, or refused by the OS.
    #[expect(clippy::mut_from_ref, reason = "every call gives out other memory")]
    pub fn try_alloc_zeroed<T: Plain>(&self, len: usize) -> Result<&mut [T], Error> {
        let start = self.take::<T>(len)?;
        // SAFETY: `take` gives room for `len` elements that no other slice has.
        unsafe { start.as_ptr().write_bytes(0, len) };
        // SAFETY: just zeroed, which is a value of a Plain type; the arena is borrowed as long.
        Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// Allocates a copy of `slice`.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the arena's or the ledger's limit, too large, or refused by the OS.
    #[expect(clippy::mut_from_ref, reason = "every call gives out other memory")]
    pub fn try_alloc_copy<T: Copy>(&self, slice: &[T]) -> Result<&mut [T], Error> {
        let start = self.take::<T>(slice.len())?;
        // SAFETY: `take` gives room for as many elements, which no other slice has.
        unsafe { std::ptr::copy_nonoverlapping(slice.as_ptr(), start.as_ptr(), slice.len()) };
        // SAFETY: just initialised; the arena is borrowed as long.
        Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), slice.len()) })
    }

    /// Allocates `len` zeroes.
    ///
    /// # Panics
    ///
    /// Where [`Bump::try_alloc_zeroed`] fails.
    pub fn alloc_zeroed<T: Plain>(&self, len: usize) -> &mut [T] {
        self.try_alloc_zeroed(len).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Allocates a copy of `slice`.
    ///
    /// # Panics
    ///
    /// Where [`Bump::try_alloc_copy`] fails.
    pub fn alloc_copy<T: Copy>(&self, slice: &[T]) -> &mut [T] {
        self.try_alloc_copy(slice).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns a guard through which to allocate. Dropping it frees what was allocated since.
    pub fn checkpoint(&mut self) -> Rewind<'_> {
        let mark = self.mark();
        let outer = std::mem::replace(&mut self.lowest, mark);
        Rewind { bump: self, outer }
    }

    /// Frees everything and returns all chunks to the pool.
    pub fn reset(&mut self) {
        self.rewind(Mark::EMPTY);
    }

    fn mark(&self) -> Mark {
        Mark { chunks: self.chunks.borrow().len(), cursor: self.cursor.get() }
    }

    fn rewind(&mut self, mark: Mark) {
        self.chunks.get_mut().truncate(mark.chunks);
        self.cursor.set(mark.cursor);
        self.lowest = self.lowest.min(mark);
    }

    /// Gives out room for `len` elements, aligned, that no other call has.
    fn take<T: Copy>(&self, len: usize) -> Result<NonNull<T>, Error> {
        const { assert!(align_of::<T>() <= CHUNK_ALIGN, "a chunk is aligned to an OS page") };
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= BLOCK_BYTES_MAX);
        let bytes = bytes.ok_or(Error::TooLarge {
            len,
            element_bytes: size_of::<T>(),
            max_bytes: BLOCK_BYTES_MAX,
        })?;
        if bytes == 0 {
            return Ok(NonNull::dangling());
        }
        let aligned = self.cursor.get().next_multiple_of(align_of::<T>());
        let chunks = self.chunks.borrow();
        let room = chunks.last().map_or(0, |c| c.bytes.saturating_sub(aligned));
        let offset = if bytes <= room {
            aligned
        } else {
            drop(chunks);
            self.add_chunk(bytes)?;
            0
        };
        self.cursor.set(offset + bytes);
        let start = self.chunks.borrow().last().expect("a chunk with room").start;
        // SAFETY: offset + bytes is at most the chunk's length.
        Ok(unsafe { start.add(offset) }.cast())
    }

    #[cold]
    fn add_chunk(&self, bytes: usize) -> Result<(), Error> {
        let held = self.held_bytes();
        let room = self.limit_bytes.saturating_sub(held);
        // A short chunk would come from the heap, without a page's alignment.
        let needed = bytes.next_multiple_of(CHUNK_ALIGN).max(CHUNK_BYTES_MIN);
        if needed > room {
            return Err(Error::BumpLimit { asked_bytes: bytes, limit_bytes: self.limit_bytes });
        }
        let doubled = held.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX).min(room).max(needed);
        let mut memory = match self.pool.try_zeroed::<u8>(doubled) {
            Err(_) if doubled > needed => self.pool.try_zeroed::<u8>(needed)?,
            result => result?,
        };
        let bytes = memory.len();
        let start = NonNull::from(memory.as_mut_slice()).cast::<u8>();
        self.chunks.borrow_mut().push(Chunk { _memory: memory, start, bytes });
        Ok(())
    }
}

/// Goes back to the checkpoint when dropped, or to nothing after a `reset` through it.
///
/// Allocate through it; slices cannot outlive it.
#[derive(Debug)]
pub struct Rewind<'a> {
    bump: &'a mut Bump,
    /// `lowest` of the checkpoint around this one.
    outer: Mark,
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "chunk {} at {}", self.chunks, self.cursor)
    }
}

impl Deref for Rewind<'_> {
    type Target = Bump;
    fn deref(&self) -> &Bump {
        self.bump
    }
}

impl DerefMut for Rewind<'_> {
    fn deref_mut(&mut self) -> &mut Bump {
        self.bump
    }
}

impl Drop for Rewind<'_> {
    fn drop(&mut self) {
        let mark = self.bump.lowest;
        self.bump.rewind(mark);
        self.bump.lowest = self.outer.min(mark);
    }
}
