//! Where frames are kept: a few methods, so that memory, a file and a failing disk look the same.
//!
//! ```text
//!   reserve(extent) -> write_at* -> read_at* -> release(extent)
//! ```
//!
//! | | [`Memory`] | `SpillFile`, `MappedFile` | `KernelSwap` | [`Faulty`] |
//! |---|---|---|---|---|
//! | keeps bytes | in RAM, bounded | in a nameless file | in the kernel's swap | in another one |
//! | for | tests | spilling | spilling | tests: what goes wrong, by seed |
//!
//! Contract (what the store above relies on):
//!
//! * calls may come from several threads; those on extents that do not overlap do not disturb
//!   each other.
//! * `reserve` takes the space or fails; a `write_at` inside reserved extents then has its space.
//! * `Ok` from `write_at` and no other write: `read_at` gives these bytes, on an honest disk. A
//!   disk that is not honest is what frames have checksums for.
//! * after an error from `write_at` the range holds anything.
//! * offsets, lengths and buffers are multiples of 4 KiB in length and address: [`AlignedBytes`].
//!   The files check; the others need not.
//! * bytes that were never written, or were released, read as something, or as an error.
//!
//! Must never: panic on a disk's answer, or leave bytes in a log or an error text.

mod faulty;

pub use faulty::{FAULTS, Fault, FaultPlan, Faulty};

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::RwLock;

use plimsoll_arena::sync::unpoisoned;

use crate::Error;
use crate::extent::{BLOCK_BYTES, Extent};

/// What has the bytes of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A file without a name, which goes with its process.
    File,
    /// The kernel's swap, on a disk or in part: what was there can be read after the process.
    SwapDisk,
    /// The kernel's swap, in zram alone: RAM of this machine.
    Zram,
}

/// Keeps frames in extents; see the module's contract.
pub trait Backend: Send + Sync {
    /// Fills `out` from `offset_bytes` on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Short`]; `out` is then unspecified.
    fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), Error>;

    /// Writes all of `bytes` from `offset_bytes` on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Short`] or [`Error::DiskFull`]; the range then holds anything.
    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), Error>;

    /// Fills `head` and then `out` from `offset_bytes` on, in one request where it can be one.
    ///
    /// # Errors
    ///
    /// As [`Backend::read_at`].
    fn read_both_at(
        &self,
        offset_bytes: u64,
        head: &mut [u8],
        out: &mut [u8],
    ) -> Result<(), Error> {
        self.read_at(offset_bytes, head)?;
        self.read_at(offset_bytes.saturating_add(head.len() as u64), out)
    }

    /// Writes `head` and then `bytes` from `offset_bytes` on, in one request where it can be one.
    ///
    /// # Errors
    ///
    /// As [`Backend::write_at`].
    fn write_both_at(&self, offset_bytes: u64, head: &[u8], bytes: &[u8]) -> Result<(), Error> {
        self.write_at(offset_bytes, head)?;
        self.write_at(offset_bytes.saturating_add(head.len() as u64), bytes)
    }

    /// As [`Backend::read_at`], and runs `meanwhile` once, during the request where the disk can
    /// do without this thread. After an error it may not have run.
    ///
    /// # Errors
    ///
    /// As [`Backend::read_at`].
    fn read_while(
        &self,
        offset_bytes: u64,
        out: &mut [u8],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        self.read_at(offset_bytes, out)?;
        meanwhile();
        Ok(())
    }

    /// As [`Backend::write_at`], and runs `meanwhile` once, during the request where the disk can
    /// do without this thread. After an error it may not have run.
    ///
    /// # Errors
    ///
    /// As [`Backend::write_at`].
    fn write_while(
        &self,
        offset_bytes: u64,
        bytes: &[u8],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        self.write_at(offset_bytes, bytes)?;
        meanwhile();
        Ok(())
    }

    /// Takes the space of `extent`. Doing it twice does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`], before any byte is lost, or [`Error::Io`].
    fn reserve(&self, extent: Extent) -> Result<(), Error>;

    /// Gives the space of `extent` back; it must be reserved again before it is written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the space is then still taken.
    fn release(&self, extent: Extent) -> Result<(), Error>;

    /// Nobody needs the bytes of `extent` any more; its space stays taken.
    fn forget(&self, extent: Extent) {
        let _ = extent;
    }

    /// What has the bytes now.
    fn kept(&self) -> Kept {
        Kept::File
    }

    /// About how many bytes of this machine's memory are taken for `stored_bytes`.
    fn memory_bytes(&self, stored_bytes: u64) -> u64 {
        let _ = stored_bytes;
        0
    }

    /// The end of the highest extent that was ever reserved.
    fn len_bytes(&self) -> u64;
}

/// Zeroed bytes that start on a multiple of 4 KiB, as `O_DIRECT` asks.
pub struct AlignedBytes {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// `len` bytes of zero. Allocates a block more than that; aborts as `Vec` does if it cannot.
    pub fn zeroed(len: usize) -> Self {
        let block = BLOCK_BYTES as usize;
        // Never grown or shrunk, so the address stays.
        let bytes = vec![0; len.saturating_add(block)];
        let start = (block - bytes.as_ptr().addr() % block) % block;
        Self { bytes, start, len }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBytes").field("len", &self.len).finish_non_exhaustive()
    }
}

/// A backend in RAM, for tests: as large as its highest reserved extent, up to a capacity.
pub struct Memory {
    bytes: RwLock<Vec<u8>>,
    capacity_bytes: u64,
}

impl Memory {
    /// Empty; reserving past `capacity_bytes` is a full disk.
    pub fn new(capacity_bytes: u64) -> Self {
        Self { bytes: RwLock::default(), capacity_bytes }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("len_bytes", &self.len_bytes()).finish_non_exhaustive()
    }
}

/// The range as indices, if `bytes` has it.
fn range(bytes: &[u8], offset_bytes: u64, len: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(offset_bytes).ok()?;
    let end = start.checked_add(len)?;
    (end <= bytes.len()).then_some(start..end)
}

impl Backend for Memory {
    fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), Error> {
        let bytes = unpoisoned(self.bytes.read());
        let Some(range) = range(&bytes, offset_bytes, out.len()) else {
            return Err(Error::Short { what: "read", offset_bytes, bytes: out.len() as u64 });
        };
        out.copy_from_slice(&bytes[range]);
        Ok(())
    }

    fn write_at(&self, offset_bytes: u64, from: &[u8]) -> Result<(), Error> {
        let mut bytes = unpoisoned(self.bytes.write());
        let Some(range) = range(&bytes, offset_bytes, from.len()) else {
            return Err(Error::Short { what: "write", offset_bytes, bytes: from.len() as u64 });
        };
        bytes[range].copy_from_slice(from);
        Ok(())
    }

    fn reserve(&self, extent: Extent) -> Result<(), Error> {
        let mut bytes = unpoisoned(self.bytes.write());
        let full = Error::DiskFull { asked_bytes: extent.bytes() };
        if extent.end_bytes() > self.capacity_bytes {
            return Err(full);
        }
        let Ok(end) = usize::try_from(extent.end_bytes()) else { return Err(full) };
        let more = end.saturating_sub(bytes.len());
        if bytes.try_reserve(more).is_err() {
            return Err(full);
        }
        let len = bytes.len() + more;
        bytes.resize(len, 0);
        Ok(())
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        let mut bytes = unpoisoned(self.bytes.write());
        if let Some(range) = range(&bytes, extent.offset_bytes(), extent.bytes() as usize) {
            bytes[range].fill(0);
        }
        Ok(())
    }

    fn len_bytes(&self) -> u64 {
        unpoisoned(self.bytes.read()).len() as u64
    }
}
