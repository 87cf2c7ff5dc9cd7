//! Where frames are kept: a few methods, so that memory, a file and a failing disk look the same.
//!
//! ```text
//!   reserve(extent) -> write_at* -> read_at* -> release(extent)
//! ```
//!
//! | | [`Memory`] | `SpillFile` | [`Faulty`] |
//! |---|---|---|---|
//! | keeps bytes | in RAM, up to a capacity | in a file without a name | in another backend |
//! | for | tests | spilling | tests: what goes wrong, by seed |
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
//!   `SpillFile` checks; the others need not.
//! * bytes that were never written, or were released, read as something, or as an error.
//!
//! Must never: panic on a disk's answer, or leave bytes in a log or an error text.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};

use crate::Error;
use crate::extent::{BLOCK_BYTES, Extent};

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
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(range) = range(&bytes, offset_bytes, out.len()) else {
            return Err(Error::Short { what: "read", offset_bytes, bytes: out.len() as u64 });
        };
        out.copy_from_slice(&bytes[range]);
        Ok(())
    }

    fn write_at(&self, offset_bytes: u64, from: &[u8]) -> Result<(), Error> {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        let Some(range) = range(&bytes, offset_bytes, from.len()) else {
            return Err(Error::Short { what: "write", offset_bytes, bytes: from.len() as u64 });
        };
        bytes[range].copy_from_slice(from);
        Ok(())
    }

    fn reserve(&self, extent: Extent) -> Result<(), Error> {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
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
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(range) = range(&bytes, extent.offset_bytes(), extent.bytes() as usize) {
            bytes[range].fill(0);
        }
        Ok(())
    }

    fn len_bytes(&self) -> u64 {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

/// Something that a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A write stops in the middle, and says so.
    ShortWrite,
    /// EIO: nothing is read or written.
    Eio,
    /// ENOSPC on a write or a reservation.
    DiskFull,
    /// One bit of what is read or written changes, and nobody says so.
    BitFlip,
    /// A write stops in the middle, and nobody says so.
    TornWrite,
}

/// All faults, in the order in which a seed draws them.
pub const FAULTS: [Fault; 5] =
    [Fault::ShortWrite, Fault::Eio, Fault::DiskFull, Fault::BitFlip, Fault::TornWrite];

/// When a [`Faulty`] backend fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPlan {
    /// One call in so many, at random; the same seed and calls give the same faults.
    Seeded {
        /// Decides everything.
        seed: u64,
        /// Calls for each fault, on average; 0 for none.
        one_in: u64,
    },
    /// At one call, counted from 0.
    At {
        /// Which call.
        call: u64,
        /// What happens, if that call can have it.
        fault: Fault,
    },
}

/// A backend that fails as planned: for tests of what is above it.
///
/// A fault that the call cannot have (a torn read) does not happen. Which call is which is only
/// reproducible while one thread calls.
#[derive(Debug)]
pub struct Faulty<B> {
    inner: B,
    plan: FaultPlan,
    calls: AtomicU64,
    faults: AtomicU64,
}

impl<B: Backend> Faulty<B> {
    /// `inner` with faults.
    pub fn new(inner: B, plan: FaultPlan) -> Self {
        Self { inner, plan, calls: AtomicU64::new(0), faults: AtomicU64::new(0) }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Faults that happened.
    pub fn faults(&self) -> u64 {
        self.faults.load(Relaxed)
    }

    /// The fault of this call, out of those it can have; and a random word for its details.
    fn draw(&self, possible: &[Fault]) -> (Option<Fault>, u64) {
        let call = self.calls.fetch_add(1, Relaxed);
        let (fault, detail) = match self.plan {
            FaultPlan::At { call: at, fault } => ((call == at).then_some(fault), mix(call)),
            FaultPlan::Seeded { seed, one_in } => {
                let drawn = mix(mix(seed) ^ call);
                let happens = one_in > 0 && drawn.is_multiple_of(one_in);
                let detail = mix(drawn);
                (happens.then_some(FAULTS[detail as usize % FAULTS.len()]), mix(detail))
            }
        };
        let fault = fault.filter(|fault| possible.contains(fault));
        self.faults.fetch_add(u64::from(fault.is_some()), Relaxed);
        (fault, detail)
    }
}

/// One step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn mix(state: u64) -> u64 {
    let mut word = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

fn eio(what: &'static str, offset_bytes: u64, bytes: u64) -> Error {
    Error::Io { what, offset_bytes, bytes, os_error: nix::errno::Errno::EIO as i32 }
}

fn flip(bytes: &mut [u8], detail: u64) {
    if !bytes.is_empty() {
        let bit = detail % (8 * bytes.len() as u64);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

impl<B: Backend> Backend for Faulty<B> {
    fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), Error> {
        match self.draw(&[Fault::Eio, Fault::BitFlip]) {
            (Some(Fault::Eio), _) => Err(eio("read", offset_bytes, out.len() as u64)),
            (fault, detail) => {
                self.inner.read_at(offset_bytes, out)?;
                if fault.is_some() {
                    flip(out, detail);
                }
                Ok(())
            }
        }
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), Error> {
        let asked_bytes = bytes.len() as u64;
        let (fault, detail) = self.draw(&FAULTS);
        // Whole blocks, fewer than all.
        let part = detail % asked_bytes.div_ceil(BLOCK_BYTES).max(1) * BLOCK_BYTES;
        match fault {
            None => self.inner.write_at(offset_bytes, bytes),
            Some(Fault::Eio) => Err(eio("write", offset_bytes, asked_bytes)),
            Some(Fault::DiskFull) => Err(Error::DiskFull { asked_bytes }),
            Some(Fault::ShortWrite) => {
                self.inner.write_at(offset_bytes, &bytes[..part as usize])?;
                Err(Error::Short { what: "write", offset_bytes, bytes: asked_bytes })
            }
            Some(Fault::TornWrite) => self.inner.write_at(offset_bytes, &bytes[..part as usize]),
            Some(Fault::BitFlip) => {
                let mut flipped = AlignedBytes::zeroed(bytes.len());
                flipped.copy_from_slice(bytes);
                flip(&mut flipped, detail);
                self.inner.write_at(offset_bytes, &flipped)
            }
        }
    }

    fn reserve(&self, extent: Extent) -> Result<(), Error> {
        match self.draw(&[Fault::Eio, Fault::DiskFull]).0 {
            None => self.inner.reserve(extent),
            Some(Fault::DiskFull) => Err(Error::DiskFull { asked_bytes: extent.bytes() }),
            Some(_) => Err(eio("reserve", extent.offset_bytes(), extent.bytes())),
        }
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        match self.draw(&[Fault::Eio]).0 {
            None => self.inner.release(extent),
            Some(_) => Err(eio("release", extent.offset_bytes(), extent.bytes())),
        }
    }

    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }
}
