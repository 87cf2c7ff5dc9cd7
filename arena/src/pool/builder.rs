//! Making a pool: whose memory, how much of the address space, and what happens to dropped blocks.

use super::settings::{OverLimitRelease, Prefault, Secrecy};
use super::{Inner, Pool};
use crate::error::Error;
use crate::free_list::FreeList;
use crate::ledger::Ledger;
use crate::os::{Linux, Os, physical_bytes};
use crate::process::addresses_left;
use crate::region::Region;
use crate::size::CLASS_COUNT;
use crate::stats::Gauges;
use std::sync::Arc;

/// Settings of a [`Pool`].
#[derive(Debug)]
pub struct PoolBuilder {
    ledger: Arc<Ledger>,
    os: Arc<dyn Os>,
    /// `None`: [`default_reserve_bytes`], which asks the machine.
    reserve_bytes: Option<usize>,
    reserve_bytes_most: usize,
    secrecy: Secrecy,
    prefault: Prefault,
    over_limit_release: OverLimitRelease,
}

impl Pool {
    /// Returns the settings of a pool: own ledger, no limit, no wiping.
    #[must_use]
    pub fn builder() -> PoolBuilder {
        PoolBuilder {
            ledger: Arc::new(Ledger::new()),
            os: Arc::new(Linux),
            reserve_bytes: None,
            reserve_bytes_most: usize::MAX,
            secrecy: Secrecy::default(),
            prefault: Prefault::default(),
            over_limit_release: OverLimitRelease::default(),
        }
    }
}

impl PoolBuilder {
    /// Charges `ledger`, which other pools may share. By default the pool has one of its own,
    /// without a limit.
    #[must_use]
    pub fn ledger(mut self, ledger: Arc<Ledger>) -> Self {
        self.ledger = ledger;
        self
    }

    /// Takes memory from `os`; by default from Linux.
    #[must_use]
    pub fn os(mut self, os: Arc<dyn Os>) -> Self {
        self.os = os;
        self
    }

    /// Reserves `bytes` of addresses (no memory). The default is 64 times the machine's memory, at
    /// most 8 TiB, and at most a quarter of what `ulimit -v` leaves. Half is tried, and half of
    /// that, where the machine allows less.
    #[must_use]
    pub fn reserve_bytes(mut self, bytes: usize) -> Self {
        self.reserve_bytes = Some(bytes);
        self
    }

    /// Reserves no more than `bytes` of addresses, for a pool of which there may be hundreds.
    #[must_use]
    pub fn reserve_bytes_most(mut self, bytes: usize) -> Self {
        self.reserve_bytes_most = bytes;
        self
    }

    /// Sets whether dropped vectors are overwritten.
    #[must_use]
    pub fn secrecy(mut self, secrecy: Secrecy) -> Self {
        self.secrecy = secrecy;
        self
    }

    /// Sets when fresh pages come.
    #[must_use]
    pub fn prefault(mut self, prefault: Prefault) -> Self {
        self.prefault = prefault;
        self
    }

    /// Sets what happens to a block dropped while the limit is exceeded.
    #[must_use]
    pub fn over_limit_release(mut self, policy: OverLimitRelease) -> Self {
        self.over_limit_release = policy;
        self
    }

    /// Makes the pool.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the machine refuses even a small reservation.
    pub fn build(self) -> Result<Pool, Error> {
        let reserve_bytes = self.reserve_bytes.unwrap_or_else(default_reserve_bytes);
        let reserve_bytes = reserve_bytes.min(self.reserve_bytes_most);
        let reserve_min = reserve_bytes.min(RESERVE_BYTES_MIN);
        let region = Region::new(self.os, reserve_bytes, reserve_min)?;
        let lists = || (0..CLASS_COUNT).map(|_| FreeList::new()).collect();
        let inner = Inner {
            region,
            ledger: self.ledger,
            cached: lists(),
            empty: lists(),
            gauges: Gauges::default(),
            secrecy: self.secrecy,
            prefault: self.prefault,
            over_limit_release: self.over_limit_release,
        };
        Ok(Pool { inner: Arc::new(inner) })
    }
}

/// A reservation below 64 MiB would not hold one proof; better to say so.
const RESERVE_BYTES_MIN: usize = 64 << 20;

/// Half of what 47 bits of user addresses leave is plenty for several pools.
const RESERVE_BYTES_MAX: usize = 8 << 40;

/// Of the addresses that the process may still map, a pool takes this part: stacks, the heap and
/// other pools need some, too.
const ADDRESSES_LEFT_DIVISOR: usize = 4;

fn default_reserve_bytes() -> usize {
    let of_machine = physical_bytes().saturating_mul(64).clamp(64 << 30, RESERVE_BYTES_MAX);
    let left = addresses_left().map_or(usize::MAX, |left| left / ADDRESSES_LEFT_DIVISOR);
    of_machine.min(left.max(RESERVE_BYTES_MIN))
}
