//! What the heap asks of the extents, and what they hand out.
//!
//! A [`Placement`] says where a block may start. [`Prefer`] says which free extents are looked at
//! first. A [`PageGrant`] is a block, with the number of its pages that were resident already.
//! [`Runs`] says which pages these are, so that only they are filled with zeroes for a zeroed
//! block.
//!
//! Invariant: every page that may be other than zero lies in a run. A run may cover more.

use std::ops::Range;

/// Runs that are kept apart. A block with more runs is rare, and zeroes a little too much.
const RUNS_MAX: usize = 16;

/// Where a block must start: `start % align == phase`, in units; `align` is a power of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) align: u32,
    pub(super) phase: u32,
}

impl Placement {
    /// The first start at or after `unit`.
    pub(super) fn from(self, unit: u32) -> u32 {
        unit + (self.phase.wrapping_sub(unit) & (self.align - 1))
    }
}

/// Which free extents are looked at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefer {
    /// Those with resident pages.
    Cached,
    /// Those without: pages will be moved there.
    Clean,
}

/// A block that was handed out, and the pages it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageGrant {
    pub(super) start: u32,
    pub(super) fresh_pages: u32,
    pub(super) reused_pages: u32,
}

/// Pages that may be other than zero, as a few runs. When there are more runs, the last one covers
/// the rest, with what lies between.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: [(u32, u32); RUNS_MAX],
    len: usize,
}

impl Runs {
    pub(super) fn push(&mut self, page: u32) {
        let last = self.runs[..self.len].last_mut();
        match last {
            Some((_, end)) if *end == page || self.len == RUNS_MAX => *end = page + 1,
            _ => {
                self.runs[self.len] = (page, page + 1);
                self.len += 1;
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u32>> {
        self.runs[..self.len].iter().map(|(start, end)| *start..*end)
    }
}
