//! A backend that fails by plan: every fault that a disk is known for, by seed or at one call.
//!
//! ```text
//!   store -> Faulty -> another backend
//!              |- fault    out of FAULTS: an error, or wrong bytes and no error
//!              |- delay    sleep before the call: nothing is wrong, only late
//!              `- gate     while it is shut, writes wait
//! ```
//!
//! Invariants:
//!
//! * `faults() == sum of count(fault) over FAULTS`; a delay is no fault and draws none.
//! * one thread, one seed, the same calls: the same faults. Delays do not change which.
//!
//! Must never: be what a store uses unless it was handed one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use plimsoll_arena::sync::unpoisoned;

use super::{AlignedBytes, Backend, Kept};
use crate::Error;
use crate::extent::{BLOCK_BYTES, Extent};

/// Something that a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A write stops in the middle, and says so.
    ShortWrite,
    /// EIO: nothing is read or written.
    Eio,
    /// ENOSPC on a write or a reservation.
    DiskFull,
    /// One bit of the data changes on its way, and no error reports it.
    BitFlip,
    /// A write stops in the middle, and nobody says so.
    TornWrite,
}

/// All faults, in the order in which a seed draws them.
pub const FAULTS: [Fault; 5] =
    [Fault::ShortWrite, Fault::Eio, Fault::DiskFull, Fault::BitFlip, Fault::TornWrite];

const _: () = {
    let mut at = 0;
    while at < FAULTS.len() {
        assert!(FAULTS[at] as usize == at, "a fault's number is its place");
        at += 1;
    }
};

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

impl FaultPlan {
    /// Never.
    pub const NEVER: Self = Self::Seeded { seed: 0, one_in: 0 };
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
    /// Faults that happened, as [`FAULTS`] has them.
    faults: [AtomicU64; FAULTS.len()],
    delays: Delays,
    gate: Gate,
}

/// Holds writes back while it is shut.
#[derive(Debug, Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
    /// Writes that found it shut since it was shut last.
    held: AtomicU64,
}

/// How often calls are late, and by how much.
#[derive(Debug, Default)]
struct Delays {
    seed: u64,
    one_in: u64,
    micros_max: u64,
    happened: AtomicU64,
}

impl<B: Backend> Faulty<B> {
    /// `inner` with faults.
    pub fn new(inner: B, plan: FaultPlan) -> Self {
        Self {
            inner,
            plan,
            calls: AtomicU64::new(0),
            faults: Default::default(),
            delays: Delays::default(),
            gate: Gate::default(),
        }
    }

    /// Lets writes that come from now on wait until [`Faulty::open`]. Reads do not wait.
    pub fn shut(&self) {
        self.gate.held.store(0, Relaxed);
        *unpoisoned(self.gate.is_shut.lock()) = true;
    }

    /// Lets the writes go on that wait, and those that come.
    pub fn open(&self) {
        *unpoisoned(self.gate.is_shut.lock()) = false;
        self.gate.opened.notify_all();
    }

    /// Writes that have had to wait since [`Faulty::shut`].
    pub fn held(&self) -> u64 {
        self.gate.held.load(Relaxed)
    }

    fn wait_at_gate(&self) {
        let is_shut = unpoisoned(self.gate.is_shut.lock());
        self.gate.held.fetch_add(u64::from(*is_shut), Relaxed);
        drop(unpoisoned(self.gate.opened.wait_while(is_shut, |is_shut| *is_shut)));
    }

    /// Lets one call in `one_in`, by `seed`, sleep for 1 to `micros_max` microseconds before it is
    /// done or fails; none if either is 0.
    #[must_use]
    pub fn delayed(mut self, seed: u64, one_in: u64, micros_max: u64) -> Self {
        self.delays = Delays { seed, one_in, micros_max, happened: AtomicU64::new(0) };
        self
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Faults that happened.
    pub fn faults(&self) -> u64 {
        self.faults.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Faults of one kind that happened.
    pub fn count(&self, fault: Fault) -> u64 {
        self.faults[fault as usize].load(Relaxed)
    }

    /// Calls that were late.
    pub fn delays(&self) -> u64 {
        self.delays.happened.load(Relaxed)
    }

    fn delay(&self, call: u64) {
        let Delays { seed, one_in, micros_max, happened } = &self.delays;
        let drawn = mix(mix(!seed) ^ call);
        if *one_in > 0 && *micros_max > 0 && drawn.is_multiple_of(*one_in) {
            happened.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_micros(1 + mix(drawn) % micros_max));
        }
    }

    /// The fault of this call, out of those it can have; and a random word for its details.
    fn draw(&self, possible: &[Fault]) -> (Option<Fault>, u64) {
        let call = self.calls.fetch_add(1, Relaxed);
        self.delay(call);
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
        if let Some(fault) = fault {
            self.faults[fault as usize].fetch_add(1, Relaxed);
        }
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
        self.wait_at_gate();
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

    fn forget(&self, extent: Extent) {
        self.inner.forget(extent);
    }

    fn kept(&self) -> Kept {
        self.inner.kept()
    }

    fn memory_bytes(&self, stored_bytes: u64) -> u64 {
        self.inner.memory_bytes(stored_bytes)
    }

    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }
}
