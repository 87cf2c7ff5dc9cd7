//! Samples: what a run held at an instant, in a log of fixed size.
//!
//! ```text
//!   fold 1   s s s s s s s s      full: neighbours become one, the higher of the two stays
//!   fold 2   s . s . s . s .      from here on two samples taken make one that is kept
//! ```
//!
//! Invariants: `len <= SAMPLES_MAX`; times rise strictly; the highest resident bytes ever pushed
//! are in the log; a kept sample is one that was taken, never a mean of several.
//!
//! Must never: grow beyond what was reserved when the log was made.

use serde::{Deserialize, Serialize};

/// Samples kept. At 10 ms the first 40 s are kept whole; an hour is kept at 1.3 s a sample.
pub const SAMPLES_MAX: usize = 4096;
const _: () = assert!(SAMPLES_MAX.is_multiple_of(2) && SAMPLES_MAX >= 4);

/// What a run held at an instant. Bytes, but for the first and the CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sample {
    /// Microseconds since the recording began.
    pub at_us: u64,
    /// Vectors in use; of the global allocator's blocks, where they are recorded, those in memory.
    pub live_bytes: u64,
    /// Free blocks that keep their pages.
    pub cached_bytes: u64,
    /// Packed copies of vectors, in memory.
    pub packed_bytes: u64,
    /// The spill file in use, on disk.
    pub spilled_bytes: u64,
    /// Resident memory of the process, as the kernel says.
    pub rss_bytes: u64,
    /// The limit in force; `None` when there is none.
    pub limit_bytes: Option<u64>,
    /// CPU time of all threads since the process began, in microseconds.
    pub cpu_us: u64,
    /// Bytes written to the spill file so far.
    pub spilled_total_bytes: u64,
    /// Bytes of vectors brought back so far.
    pub loaded_total_bytes: u64,
    /// Blocks of the global allocator in use, in memory or not; 0 where it is not recorded.
    #[serde(default)]
    pub allocated_bytes: u64,
    /// RAM beside the resident memory that zram takes for what was spilled to it.
    #[serde(default)]
    pub zram_bytes: u64,
}

impl Sample {
    /// Bytes of vectors in memory: in use, cached or packed.
    #[must_use]
    pub fn vector_bytes(&self) -> u64 {
        self.live_bytes.saturating_add(self.cached_bytes).saturating_add(self.packed_bytes)
    }
}

/// The bounded log.
#[derive(Debug)]
pub(super) struct SampleLog {
    kept: Vec<Sample>,
    fold: u32,
    folded: u32,
}

impl SampleLog {
    pub(super) fn new() -> Self {
        // Written once: the pages are there from the start, and nobody's plan meets them later.
        let mut kept = vec![Sample { at_us: 1, ..Sample::default() }; SAMPLES_MAX];
        kept.clear();
        Self { kept, fold: 1, folded: 0 }
    }

    /// Adds a sample. One that is not later than the last is left out: the clock has microseconds.
    pub(super) fn push(&mut self, sample: Sample) {
        if self.kept.last().is_some_and(|last| last.at_us >= sample.at_us) {
            return;
        }
        self.folded += 1;
        match self.kept.last_mut() {
            // The last kept one is not full yet: the higher of the two stands for both.
            Some(last) if self.folded > 1 => *last = higher(*last, sample),
            _ => {
                if self.kept.len() == SAMPLES_MAX {
                    self.halve();
                }
                self.kept.push(sample);
            }
        }
        if self.folded >= self.fold {
            self.folded = 0;
        }
    }

    fn halve(&mut self) {
        for i in 0..SAMPLES_MAX / 2 {
            self.kept[i] = higher(self.kept[2 * i], self.kept[2 * i + 1]);
        }
        self.kept.truncate(SAMPLES_MAX / 2);
        self.fold = self.fold.saturating_mul(2);
    }

    /// Samples taken for each one kept.
    pub(super) fn fold(&self) -> u32 {
        self.fold
    }

    pub(super) fn kept(&self) -> &[Sample] {
        &self.kept
    }

    /// Highest resident bytes since `from_us`; of the last sample where none is as late as that.
    #[cfg(any(test, feature = "layer"))]
    pub(super) fn highest_since(&self, from_us: u64) -> u64 {
        let recent = self.kept.iter().rev().take_while(|sample| sample.at_us >= from_us);
        let last = self.kept.last().map_or(0, |last| last.rss_bytes);
        recent.map(|sample| sample.rss_bytes).max().unwrap_or(last)
    }

    /// Most bytes of the global allocator's blocks in use since `from_us`; 0 without a sample.
    pub(super) fn most_allocated_since(&self, from_us: u64) -> u64 {
        let recent = self.kept.iter().rev().take_while(|sample| sample.at_us >= from_us);
        recent.map(|sample| sample.allocated_bytes).max().unwrap_or(0)
    }

    pub(super) fn reserved_bytes(&self) -> usize {
        self.kept.capacity() * size_of::<Sample>()
    }
}

fn higher(a: Sample, b: Sample) -> Sample {
    if b.rss_bytes > a.rss_bytes { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_us: u64, rss_bytes: u64) -> Sample {
        Sample { at_us, rss_bytes, ..Sample::default() }
    }

    #[test]
    fn an_hour_keeps_its_peak_its_order_and_its_room() {
        for peak_at in [0, 1, 2, 4095, 4096, 4097, 123_456, 359_998, 359_999] {
            let mut log = SampleLog::new();
            let reserved = log.reserved_bytes();
            for i in 0..360_000u64 {
                log.push(sample(i * 10_000 + 1, if i == peak_at { 1 << 40 } else { i % 1000 }));
            }
            let kept = log.kept();
            assert!(kept.len() <= SAMPLES_MAX && kept.len() >= SAMPLES_MAX / 2);
            assert!(kept.windows(2).all(|pair| pair[0].at_us < pair[1].at_us), "times rise");
            let peak = kept.iter().max_by_key(|sample| sample.rss_bytes).expect("samples");
            assert_eq!((peak.rss_bytes, peak.at_us), (1 << 40, peak_at * 10_000 + 1));
            assert_eq!(log.reserved_bytes(), reserved, "no growth");
        }
    }

    #[test]
    fn a_clock_that_stands_still_adds_nothing() {
        let mut log = SampleLog::new();
        log.push(sample(5, 1));
        log.push(sample(5, 2));
        log.push(sample(4, 3));
        assert_eq!(log.kept(), [sample(5, 1)]);
        assert_eq!(log.highest_since(0), 1);
        assert_eq!(log.highest_since(6), 1, "the last one, where none is late enough");
    }
}
