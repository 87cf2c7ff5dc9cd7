//! Everything that was heard so far: samples, spans, reclaim marks, the holders at the peak.
//!
//! One lock guards all of it, held for as long as an entry takes. Marks are bounded like samples:
//! when there are [`MARKS_MAX`], neighbours become one that counts both.
//!
//! Invariants: `marks <= MARKS_MAX`; the counts of all marks add up to what was marked; the
//! holders are those of a sample at least 63/64 as high as the highest.
//!
//! Must never: call out (the runtime, the kernel) while the lock is held.

use super::sample::{Sample, SampleLog};
use super::span::{NAME_BYTES_MAX, SpanLog};
use crate::reclaim::{EnforcementCounts, Held};
use crate::stage::planned::Planned;
use serde::{Deserialize, Serialize};

/// Reclaim marks kept.
pub const MARKS_MAX: usize = 512;
const _: () = assert!(MARKS_MAX.is_multiple_of(2));

/// Different schedules kept: the first ones.
pub(super) const SCHEDULES_MAX: usize = 4;

/// Starts kept of each.
pub(super) const STEPS_MAX: usize = 256;

/// The holders are asked again when memory is this part higher: asking allocates.
const HIGHER_PART: u64 = 64;

/// A time at which memory was reclaimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mark {
    /// Microseconds since the recording began.
    pub at_us: u64,
    /// The reclaim point's name, or `charge` where a charge did not fit.
    pub name: String,
    /// The freed bytes; 0 for charges, which do not report theirs.
    pub freed_bytes: u64,
    /// Bytes that were still missing.
    pub short_bytes: u64,
    /// Times, where several are marked as one.
    pub count: u64,
}

impl Mark {
    pub(super) fn new(at_us: u64, name: &str, freed_bytes: u64, short_bytes: u64) -> Self {
        let name = name.chars().take(NAME_BYTES_MAX / 4).collect();
        Self { at_us, name, freed_bytes, short_bytes, count: 1 }
    }

    fn join(&mut self, next: &Self) {
        self.freed_bytes = self.freed_bytes.saturating_add(next.freed_bytes);
        self.short_bytes = self.short_bytes.max(next.short_bytes);
        self.count += next.count;
    }
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) samples: SampleLog,
    pub(super) spans: SpanLog,
    pub(super) marks: Vec<Mark>,
    pub(super) schedules: Vec<Planned>,
    pub(super) held: Vec<Held>,
    pub(super) held_at: Sample,
    counts: Option<EnforcementCounts>,
    pub(super) sampler_cpu_us: u64,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            samples: SampleLog::new(),
            spans: SpanLog::new(),
            marks: Vec::with_capacity(MARKS_MAX),
            schedules: Vec::new(),
            held: Vec::new(),
            held_at: Sample::default(),
            counts: None,
            sampler_cpu_us: 0,
        }
    }

    /// Keeps a schedule, if it is not there yet, and there is room.
    pub(super) fn note_schedule(&mut self, mut planned: Planned) {
        planned.steps.truncate(STEPS_MAX);
        if self.schedules.len() < SCHEDULES_MAX && !self.schedules.contains(&planned) {
            self.schedules.push(planned);
        }
    }

    /// Enters a sample. Returns whether it is so high that the holders should be asked.
    pub(super) fn note_sample(
        &mut self,
        sample: Sample,
        counts: Option<EnforcementCounts>,
    ) -> bool {
        self.samples.push(sample);
        if let (Some(was), Some(now)) = (self.counts, counts) {
            let climbed = now.at_charge.saturating_sub(was.at_charge);
            if climbed > 0 {
                let mark = Mark::new(sample.at_us, "charge", 0, 0);
                self.mark(Mark { count: climbed, ..mark });
            }
        }
        self.counts = counts;
        self.says_more(&sample)
    }

    /// Whether the holders at `sample` say more of the peak than those that are known: it is
    /// higher, or as high and more of it is vectors, whose pages come before they are counted.
    fn says_more(&self, sample: &Sample) -> bool {
        let height = self.held_at.rss_bytes;
        let step = height / HIGHER_PART;
        let is_as_high = sample.rss_bytes >= height.saturating_sub(step);
        let is_known = sample.vector_bytes() > self.held_at.vector_bytes().saturating_add(step);
        sample.rss_bytes > height.saturating_add(step) || (is_as_high && is_known)
    }

    /// Enters who held how much at `sample`, unless a higher one was entered meanwhile.
    pub(super) fn note_holders(&mut self, sample: Sample, held: Vec<Held>) {
        if self.says_more(&sample) {
            self.held = held;
            self.held_at = sample;
        }
    }

    pub(super) fn note_sampler(&mut self, cpu_us: u64) {
        self.sampler_cpu_us = cpu_us;
    }

    pub(super) fn mark(&mut self, mark: Mark) {
        if self.marks.len() == MARKS_MAX {
            for i in 0..MARKS_MAX / 2 {
                let next = self.marks[2 * i + 1].clone();
                self.marks.swap(i, 2 * i);
                self.marks[i].join(&next);
            }
            self.marks.truncate(MARKS_MAX / 2);
        }
        self.marks.push(mark);
    }

    pub(super) fn reserved_bytes(&self) -> usize {
        let marks = self.marks.capacity() * (size_of::<Mark>() + NAME_BYTES_MAX);
        self.samples.reserved_bytes() + self.spans.reserved_bytes() + marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_bounded_and_none_is_forgotten() {
        let mut log = Log::new();
        for i in 0..100_000u64 {
            log.mark(Mark::new(i, "point", 2, i));
        }
        assert!(log.marks.len() <= MARKS_MAX);
        assert_eq!(log.marks.iter().map(|mark| mark.count).sum::<u64>(), 100_000);
        assert_eq!(log.marks.iter().map(|mark| mark.freed_bytes).sum::<u64>(), 200_000);
        assert_eq!(log.marks.iter().map(|mark| mark.short_bytes).max(), Some(99_999));
        assert!(log.marks.windows(2).all(|pair| pair[0].at_us < pair[1].at_us));
    }
}
