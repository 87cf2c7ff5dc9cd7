//! Gauges of a pool, and what it counted.
//!
//! Identities, exact whenever no call is under way: `live + cached = held`, and
//! `allocated <= held <= mapped <= reserved`. Resident bytes are at most `held`, plus the table.

use crate::watermark::Watermark;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// A pool's gauges in bytes, and its counters since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Bytes that vectors asked for.
    pub allocated_bytes: usize,
    /// Bytes of blocks owned by vectors that may be resident.
    pub live_bytes: usize,
    /// Bytes of blocks on the free lists that may be resident.
    pub cached_bytes: usize,
    /// `live_bytes + cached_bytes`: what the ledger was charged.
    pub held_bytes: usize,
    /// Bytes of addresses that belong to blocks.
    pub mapped_bytes: usize,
    /// Bytes of addresses reserved.
    pub reserved_bytes: usize,
    /// Bytes of the address table that may be resident; not part of `held_bytes`.
    pub metadata_bytes: usize,
    /// Blocks handed out.
    pub acquired: u64,
    /// Of these, blocks that came with their memory: no page fault.
    pub reused: u64,
    /// Bytes made resident.
    pub committed_total_bytes: u64,
    /// Bytes given back to the kernel.
    pub reclaimed_total_bytes: u64,
    /// Bytes given back because a vector was dropped while over the limit.
    pub released_over_limit_bytes: u64,
    /// Bytes of zero fill that a fresh block made unnecessary.
    pub zero_fill_skipped_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) allocated: Watermark,
    pub(crate) live: AtomicUsize,
    pub(crate) cached: AtomicUsize,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) finished: AtomicU64,
    pub(crate) acquired: AtomicU64,
    pub(crate) reused: AtomicU64,
    pub(crate) committed_total: AtomicU64,
    pub(crate) reclaimed_total: AtomicU64,
    pub(crate) released_over_limit: AtomicU64,
    pub(crate) zero_fill_skipped: AtomicU64,
}

pub(crate) fn add(gauge: &AtomicUsize, bytes: usize) {
    gauge.fetch_add(bytes, Ordering::Relaxed);
}

pub(crate) fn sub(gauge: &AtomicUsize, bytes: usize) {
    let before = gauge.fetch_sub(bytes, Ordering::Relaxed);
    debug_assert!(before >= bytes, "a gauge went below zero: {before} - {bytes}");
}

pub(crate) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// Marks a call as under way until dropped; see [`Gauges::quiet_since`].
pub(crate) struct InFlight<'a>(&'a Gauges);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.finished.fetch_add(1, Ordering::Relaxed);
        // Release: pairs with the Acquire in `quiet`, which then sees all that the call changed.
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}

impl Gauges {
    pub(crate) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        // Release: pairs with the fence in `quiet_since`. Who read anything this call will have
        // written sees the mark.
        fence(Ordering::Release);
        InFlight(self)
    }

    /// Returns the number of finished calls when none is under way.
    pub(crate) fn quiet(&self) -> Option<u64> {
        // Acquire: pairs with the Release in `InFlight::drop`.
        let busy = self.in_flight.load(Ordering::Acquire);
        (busy == 0).then(|| self.finished.load(Ordering::Relaxed))
    }

    /// Says whether no call ran since `quiet` returned `mark`.
    pub(crate) fn quiet_since(&self, mark: u64) -> bool {
        // Acquire: pairs with the fence in `begin`, for every gauge and record read so far.
        fence(Ordering::Acquire);
        self.quiet() == Some(mark)
    }
}
