//! One reserved range of addresses, carved into blocks, with a record for each.
//!
//! ```text
//!   base                                   carved              committed              end
//!   | block | block |   block   | (align) |  block  |             |                    |
//!   [-------------- readable and writable ------------------------][-- PROT_NONE ------]
//!
//!   slots (one record each 64 KiB of addresses, in a mapping of its own)
//!   [s0][s1][s2]...   slot index = (block address - base) / GRANULE_BYTES
//! ```
//!
//! One subtraction leads from a block's address to its record, and back. So a block needs no
//! header, and a vector of 2^k elements fits a block of 2^k elements.
//!
//! Invariants: `carved <= committed <= bytes`; a granule always belongs to the same block (blocks
//! are never split or joined; their memory returns to the kernel, their addresses do not); only the
//! holder of a block writes its record.

use crate::error::Error;
use crate::free_list::Links;
use crate::os::Os;
use crate::size::{self, Class, GRANULE_BYTES, HUGE_BYTES, UNIT_BYTES};
use crate::sync::{AtomicU32, unpoisoned};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Rights are changed in steps of 64 MiB: one system call per step instead of one per block.
#[cfg(not(test))]
const COMMIT_STEP_BYTES: usize = 64 << 20;
#[cfg(test)]
const COMMIT_STEP_BYTES: usize = GRANULE_BYTES;

/// No machine has half of all addresses to give: such a reservation fails, and half is tried.
const RESERVE_BYTES_LAST: usize = 1 << (usize::BITS - 1);

/// What a block is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum BlockState {
    /// No block starts here.
    None = 0,
    /// Owned by a vector.
    Live = 1,
    /// On a free list, with its memory.
    Cached = 2,
    /// On a free list, without memory.
    Empty = 3,
}

/// The record of a block. All zeroes is a valid record that says [`BlockState::None`].
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slot {
    link: AtomicU32,
    touched_units: AtomicU32,
    dirty_units: AtomicU32,
    class: AtomicU8,
    state: AtomicU8,
}

const _: () = assert!(cfg!(loom) || size_of::<Slot>() == 16, "the table costs 16 bytes a granule");

// Relaxed throughout: a record is read and written by the holder of the block, and a block changes
// hands through the free list, whose Release and Acquire carry the record along.
impl Slot {
    pub(crate) fn class(&self) -> Class {
        Class(self.class.load(Ordering::Relaxed))
    }
    /// Bytes from the block's start that may be resident.
    pub(crate) fn touched_bytes(&self) -> usize {
        self.touched_units.load(Ordering::Relaxed) as usize * UNIT_BYTES
    }
    pub(crate) fn set_touched_bytes(&self, bytes: usize) {
        debug_assert!(bytes.is_multiple_of(UNIT_BYTES), "touched bytes are whole units");
        self.touched_units.store((bytes / UNIT_BYTES) as u32, Ordering::Relaxed);
    }
    /// Bytes from the block's start that may be other than zero.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_units.load(Ordering::Relaxed) as usize * UNIT_BYTES
    }
    pub(crate) fn set_dirty_bytes(&self, bytes: usize) {
        self.dirty_units.store(bytes.div_ceil(UNIT_BYTES) as u32, Ordering::Relaxed);
    }
    pub(crate) fn state(&self) -> BlockState {
        match self.state.load(Ordering::Relaxed) {
            1 => BlockState::Live,
            2 => BlockState::Cached,
            3 => BlockState::Empty,
            _ => BlockState::None,
        }
    }
    pub(crate) fn set_state(&self, state: BlockState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
}

/// A reservation given back when dropped.
struct Reservation {
    os: Arc<dyn Os>,
    base: NonNull<u8>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: made by `reserve` with these numbers; the region that owned it is going.
        unsafe { self.os.release(self.base, self.bytes) };
    }
}

#[derive(Clone, Copy, Default)]
struct Committed {
    bytes: usize,
    slot_bytes: usize,
}

/// One reserved range of addresses, carved into blocks, with a record for each block.
pub(crate) struct Region {
    os: Arc<dyn Os>,
    blocks: Reservation,
    slots: Reservation,
    carved: AtomicUsize,
    committed: Mutex<Committed>,
}

// SAFETY: the pointers are to mappings the region owns; records are atomics, and blocks are handed
// to one holder at a time.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

fn reserve(os: &Arc<dyn Os>, bytes: usize) -> Result<Reservation, Error> {
    let base = os.reserve(bytes, HUGE_BYTES)?;
    Ok(Reservation { os: Arc::clone(os), base, bytes })
}

impl Region {
    /// Reserves `bytes` of addresses, or half, or a quarter and so on down to `bytes_min`, where
    /// the machine allows no more (`ulimit -v`).
    pub(crate) fn new(os: Arc<dyn Os>, bytes: usize, bytes_min: usize) -> Result<Self, Error> {
        // At least one huge page, and nothing that wraps when padded or rounded up.
        let bytes = bytes.max(bytes_min).clamp(HUGE_BYTES, RESERVE_BYTES_LAST);
        let mut bytes = bytes.next_multiple_of(HUGE_BYTES);
        let blocks = loop {
            match reserve(&os, bytes) {
                Err(_) if bytes / 2 >= bytes_min.max(HUGE_BYTES) => {
                    bytes = (bytes / 2).next_multiple_of(HUGE_BYTES);
                }
                result => break result?,
            }
        };
        let slots_bytes = (bytes / GRANULE_BYTES * size_of::<Slot>()).next_multiple_of(HUGE_BYTES);
        let slots = reserve(&os, slots_bytes)?;
        let committed = Mutex::new(Committed::default());
        Ok(Self { os, blocks, slots, carved: AtomicUsize::new(0), committed })
    }

    /// Bytes of addresses reserved for blocks.
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.blocks.bytes
    }

    /// Bytes of addresses that belong to blocks.
    pub(crate) fn carved_bytes(&self) -> usize {
        // Acquire: pairs with the Release in `carve`, so that the records below it can be read.
        self.carved.load(Ordering::Acquire)
    }

    /// Bytes of the table that may be resident.
    pub(crate) fn metadata_bytes(&self) -> usize {
        unpoisoned(self.committed.lock()).slot_bytes
    }

    /// Size of an OS page in bytes.
    pub(crate) fn page_bytes(&self) -> usize {
        self.os.page_bytes()
    }

    /// Carves a new block and returns its index; its record says live, untouched, zero.
    pub(crate) fn carve(&self, class: Class) -> Result<u32, Error> {
        let stride = size::stride_bytes(class);
        let mut committed = unpoisoned(self.committed.lock());
        let align = if stride >= HUGE_BYTES { HUGE_BYTES } else { GRANULE_BYTES };
        let start = self.carved.load(Ordering::Relaxed).next_multiple_of(align);
        let end = start
            .checked_add(stride)
            .filter(|end| *end <= self.blocks.bytes)
            .ok_or(Error::AddressSpace { bytes: stride, reserved_bytes: self.blocks.bytes })?;
        if end > committed.bytes {
            let target = end.next_multiple_of(COMMIT_STEP_BYTES).min(self.blocks.bytes);
            self.commit(&self.blocks, committed.bytes, target)?;
            committed.bytes = target;
        }
        let slot_end = (end / GRANULE_BYTES * size_of::<Slot>())
            .next_multiple_of(self.page_bytes())
            .min(self.slots.bytes);
        if slot_end > committed.slot_bytes {
            self.commit(&self.slots, committed.slot_bytes, slot_end)?;
            committed.slot_bytes = slot_end;
        }
        let index = (start / GRANULE_BYTES) as u32;
        let huge = size::huge_bytes(class);
        if huge > 0 {
            // SAFETY: the block was committed above and starts on a huge page.
            unsafe { self.os.advise_huge(self.block(index), huge) };
        }
        let slot = self.slot(index);
        slot.class.store(class.0, Ordering::Relaxed);
        slot.set_state(BlockState::Live);
        // Release: pairs with the Acquire in `carved_bytes`.
        self.carved.store(end, Ordering::Release);
        Ok(index)
    }

    fn commit(&self, range: &Reservation, from: usize, to: usize) -> Result<(), Error> {
        debug_assert!(from < to && to <= range.bytes, "commit stays inside the reservation");
        // SAFETY: `from` is inside the reservation, which is one allocation of the OS.
        let start = unsafe { range.base.add(from) };
        // SAFETY: from..to lies inside the reservation, in whole pages (steps are).
        unsafe { self.os.commit(start, to - from)? };
        Ok(())
    }

    /// Returns the record of block `index`, which must have been carved (or lie below a carved
    /// one).
    #[inline]
    pub(crate) fn slot(&self, index: u32) -> &Slot {
        debug_assert!((index as usize) < self.blocks.bytes / GRANULE_BYTES);
        let slots = self.slots.base.as_ptr().cast::<Slot>();
        // SAFETY: the index is below the table's length, as the line above asserts.
        let slot = unsafe { slots.add(index as usize) };
        // SAFETY: the table is committed up to every carved block, zeroes are a valid record, and
        // records are atomics, so a shared reference is enough.
        unsafe { &*slot }
    }

    /// Returns the first byte of block `index`.
    #[inline]
    pub(crate) fn block(&self, index: u32) -> NonNull<u8> {
        let offset = index as usize * GRANULE_BYTES;
        debug_assert!(offset < self.blocks.bytes);
        // SAFETY: the offset is inside the reservation, as the line above asserts.
        unsafe { self.blocks.base.add(offset) }
    }

    /// Returns the index of the block that starts at `start`, or `None` for an address that is not
    /// ours.
    #[cfg_attr(not(feature = "allocator-api2-02"), allow(dead_code, reason = "one caller"))]
    pub(crate) fn index_of(&self, start: NonNull<u8>) -> Option<u32> {
        let offset = (start.as_ptr() as usize).checked_sub(self.blocks.base.as_ptr() as usize)?;
        let ours = offset < self.carved_bytes() && offset.is_multiple_of(GRANULE_BYTES);
        ours.then_some((offset / GRANULE_BYTES) as u32)
    }

    /// Makes bytes `from..to` of a block resident.
    ///
    /// # Safety
    ///
    /// The caller holds the block; the range lies inside it, in whole OS pages.
    pub(crate) unsafe fn populate(&self, index: u32, from: usize, to: usize) -> Result<(), Error> {
        // SAFETY: the caller says that the range lies inside the block.
        let start = unsafe { self.block(index).add(from) };
        // SAFETY: blocks are committed when carved.
        Ok(unsafe { self.os.populate(start, to - from) }?)
    }

    /// Gives bytes `from..to` of a block back; they read as zero afterwards.
    ///
    /// # Safety
    ///
    /// The caller holds the block and needs nothing in the range, which lies inside it, in whole
    /// OS pages.
    pub(crate) unsafe fn decommit(&self, index: u32, from: usize, to: usize) -> Result<(), Error> {
        // SAFETY: the caller says that the range lies inside the block.
        let start = unsafe { self.block(index).add(from) };
        // SAFETY: blocks are committed when carved, and nobody needs the contents.
        Ok(unsafe { self.os.decommit(start, to - from) }?)
    }

    /// Counts the bytes of all blocks that are in memory, by asking the kernel. It walks them all.
    pub(crate) fn resident_bytes(&self) -> Result<usize, Error> {
        let carved = self.carved_bytes();
        if carved == 0 {
            return Ok(0);
        }
        // SAFETY: the range up to the last carved block lies inside the reservation.
        Ok(unsafe { self.os.resident_bytes(self.blocks.base, carved) }?)
    }
}

impl Links for Region {
    #[inline]
    fn link(&self, index: u32) -> &AtomicU32 {
        &self.slot(index).link
    }
}
