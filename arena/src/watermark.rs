//! A gauge that remembers how high it rose.
//!
//! ```text
//!   now    __/\__/\/\___      add, sub
//!   lap        ^               highest since `restart`
//!   peak       ^               highest ever
//! ```
//!
//! Every addition is one fetch-and-add, and its result is a value that the gauge really had. The
//! highest of these values is the peak, exactly, on any number of threads. The gauge counts what
//! callers asked for, not what the kernel provided, so the same program in the same order gives the
//! same number.
//!
//! Laps nest. Whoever restarts a lap keeps the old one and returns it with [`Watermark::resume`];
//! the outer lap is then as high as if nobody had restarted it.
//!
//! Invariant: `now <= lap <= peak` whenever no call is under way.
//!
//! Must never: allocate, lock, or decide anything; it is a statistic.

use crate::sync::{AtomicUsize, Ordering};

/// A gauge that remembers its highest value, ever and since the last restart.
#[derive(Debug)]
pub struct Watermark {
    now: AtomicUsize,
    lap: AtomicUsize,
    peak: AtomicUsize,
}

impl Default for Watermark {
    fn default() -> Self {
        let zero = || AtomicUsize::new(0);
        Self { now: zero(), lap: zero(), peak: zero() }
    }
}

impl Watermark {
    /// Adds `bytes` and returns the sum.
    #[inline]
    pub fn add(&self, bytes: usize) -> usize {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
        self.raise(now);
        now
    }

    /// Adds `bytes` if the sum is at most `most`, and returns it.
    #[inline]
    pub fn try_add(&self, bytes: usize, most: usize) -> Option<usize> {
        let sum = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= most);
        let before = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
        let now = before.ok()? + bytes;
        self.raise(now);
        Some(now)
    }

    fn raise(&self, now: usize) {
        raise(&self.lap, now);
        raise(&self.peak, now);
    }

    /// Takes `bytes` off and returns what is left.
    ///
    /// # Panics
    ///
    /// In debug builds, when more is taken off than was added.
    #[inline]
    pub fn sub(&self, bytes: usize) -> usize {
        let before = self.now.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "a gauge went below zero: {before} - {bytes}");
        before.wrapping_sub(bytes)
    }

    /// Returns the bytes now.
    #[must_use]
    pub fn now_bytes(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Returns the most bytes there ever were at once.
    #[must_use]
    pub fn peak_bytes(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Returns the most bytes there were at once since [`Watermark::restart`].
    #[must_use]
    pub fn lap_bytes(&self) -> usize {
        self.lap.load(Ordering::Relaxed)
    }

    /// Begins a lap at what there is now, and returns the old one for [`Watermark::resume`].
    pub fn restart(&self) -> usize {
        self.lap.swap(self.now_bytes(), Ordering::Relaxed)
    }

    /// Goes on with the lap that [`Watermark::restart`] ended.
    pub fn resume(&self, lap_bytes: usize) {
        self.lap.fetch_max(lap_bytes, Ordering::Relaxed);
    }
}

#[inline]
fn raise(mark: &AtomicUsize, bytes: usize) {
    // Looked at first: it is written at a new peak only, and else shared between the cores.
    if mark.load(Ordering::Relaxed) < bytes {
        mark.fetch_max(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_nest_and_the_peak_stays() {
        let mark = Watermark::default();
        mark.add(10);
        mark.sub(4);
        let outer = mark.restart();
        assert_eq!((outer, mark.lap_bytes()), (10, 6));
        mark.add(2);
        let inner = mark.restart();
        mark.sub(5);
        mark.add(1);
        assert_eq!((mark.lap_bytes(), mark.now_bytes()), (8, 4));
        mark.resume(inner);
        assert_eq!(mark.lap_bytes(), 8);
        mark.resume(outer);
        assert_eq!((mark.lap_bytes(), mark.peak_bytes()), (10, 10));
    }

    #[test]
    fn threads_that_overlap_leave_the_highest_sum() {
        let mark = Watermark::default();
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    mark.add(1);
                    barrier.wait();
                    mark.sub(1);
                });
            }
        });
        assert_eq!((mark.now_bytes(), mark.peak_bytes()), (0, 4));
    }
}
