//! Space in the spill file: extents, and the disk blocks behind them.
//!
//! The store takes disk space in steps, ahead of use, so that a full disk is an error before any
//! byte is lost. It keeps the space of freed extents for the next ones, and returns it when nothing
//! is live.
//!
//! Invariant: every live extent lies below `reserved_end`, and everything below that is reserved.

use crate::Error;
use crate::backend::Backend;
use crate::extent::{Extent, ExtentMap};

/// How far ahead of use disk space is taken.
const STEP_BYTES: u64 = 64 << 20;

pub(crate) struct FileSpace {
    map: ExtentMap,
    reserved_end: u64,
}

impl FileSpace {
    pub(crate) fn new(quota_bytes: u64) -> Self {
        Self { map: ExtentMap::new(quota_bytes), reserved_end: 0 }
    }

    /// Bytes in live extents.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.map.live_bytes()
    }

    /// An extent of at least `bytes` whose disk space is taken.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`], [`Error::DiskFull`], [`Error::SwapFull`], [`Error::Io`] or
    /// [`Error::Swap`]; nothing has changed.
    pub(crate) fn take(&mut self, backend: &dyn Backend, bytes: u64) -> Result<Extent, Error> {
        let extent = self.map.alloc(bytes)?;
        if extent.end_bytes() <= self.reserved_end {
            return Ok(extent);
        }
        let ahead = self.reserved_end.saturating_add(STEP_BYTES).min(self.map.quota_bytes());
        let ends = [ahead.max(extent.end_bytes()), extent.end_bytes()];
        let mut taken = Ok(());
        for end in ends {
            taken = backend.reserve(Extent::between(self.reserved_end, end));
            match taken {
                Ok(()) => {
                    self.reserved_end = end;
                    return Ok(extent);
                }
                // Nearly full: perhaps there is room for just this one.
                Err(Error::DiskFull { .. } | Error::SwapFull { .. }) => {}
                Err(_) => break,
            }
        }
        // It was live a moment ago.
        let _ = self.map.free(extent);
        taken.map(|()| extent)
    }

    /// Frees an extent. Freeing the last one returns the disk space.
    pub(crate) fn give_back(&mut self, backend: &dyn Backend, extent: Extent) {
        let freed = self.map.free(extent);
        debug_assert!(freed.is_ok(), "an extent is given back once");
        if self.map.live_bytes() == 0 && self.reserved_end > 0 {
            // Refused, the space stays taken until the file goes, and is used again.
            if backend.release(Extent::between(0, self.reserved_end)).is_ok() {
                self.reserved_end = 0;
            }
        }
    }
}
