//! Giving the pages of a heap back, without holding its lock meanwhile.
//!
//! ```text
//!   lock    take the largest cached extent off the lists (busy)
//!   unlock  decommit its dirty pages, high end first, as many as asked
//!   lock    put it back; it joins its neighbours
//! ```
//!
//! The low end of an extent is handed out first, so its pages are the last to go back. A thread
//! that allocates meanwhile does not see the extent. It may take fresh pages where it would have
//! reused some, but it never waits for the kernel.
//!
//! Invariant: a page is given back only while it lies wholly inside one free extent. A part of a
//! page is given back only under the lock.

use super::extents::Extents;
use super::heap::Heap;
use crate::os::page_bytes;
use crate::page_source::PageSource;

impl Heap {
    /// Gives about `bytes` of cached pages of one extent back, from its high end on. Returns the
    /// bytes freed, which are zero when nothing is cached or the kernel refuses.
    pub(super) fn purge_some<P: PageSource>(&self, source: &P, bytes: usize) -> usize {
        let Some((start, units)) = self.with(Extents::take_cached) else { return 0 };
        let page_log2 = self.page_log2();
        let table = self.table();
        let mut pages = table.inner_pages(start, start + units);
        let want = bytes.div_ceil(1 << page_log2);
        let mut cleaned = 0;
        while cleaned < want && !pages.is_empty() {
            let run = table.last_dirty_run(&mut pages, want - cleaned);
            if run.is_empty() {
                break;
            }
            let run_bytes = run.len() << page_log2;
            // SAFETY: the pages lie inside the busy extent, so no block in use touches them.
            let given = unsafe { source.decommit(self.address(run.start, page_log2), run_bytes) };
            if given.is_err() {
                break;
            }
            cleaned += run.len();
            table.set_clean(run);
        }
        self.with(|extents| extents.put_back(start, units, cleaned as u32));
        cleaned << page_log2
    }

    /// Gives back the free ends of huge pages that are partly live, in whole OS pages. This breaks
    /// huge pages up, so it is for reclaim points only. Returns the bytes passed to the kernel.
    pub(super) fn trim_shared<P: PageSource>(&self, source: &P) -> usize {
        let (unit_log2, page_log2) = (self.unit_log2(), self.page_log2());
        if unit_log2 == page_log2 {
            return 0;
        }
        let ratio = page_log2 - unit_log2;
        let mut trimmed = 0;
        self.with(|extents| {
            let table = &extents.table;
            extents.for_each_free(|start, end| {
                let inner = table.inner_pages(start, end);
                let (low, high) = ((inner.start << ratio).min(end), inner.end << ratio);
                let parts = if inner.is_empty() {
                    [(start, end), (end, end)]
                } else {
                    [(start, low), (high, end)]
                };
                for (from, to) in parts {
                    if from < to && table.is_dirty(from >> ratio) {
                        let bytes = ((to - from) as usize) << unit_log2;
                        // SAFETY: the part is free, and stays so under the lock.
                        let given =
                            unsafe { source.decommit(self.address(from, unit_log2), bytes) };
                        trimmed += if given.is_ok() { bytes } else { 0 };
                    }
                }
            });
        });
        trimmed
    }

    /// Gives back the parts of the table that nobody reads: the entries inside large free extents.
    /// These are 4 KiB for each 16 MiB of huge pages.
    pub(super) fn trim_table<P: PageSource>(&self, source: &P) {
        let page_bytes = page_bytes();
        self.with(|extents| {
            let table = &extents.table;
            extents.for_each_free(|start, end| {
                let Some((at, bytes)) = table.stale(start, end, page_bytes) else { return };
                // SAFETY: units below the top have committed entries, and those inside an extent
                // are read by nobody.
                unsafe { source.decommit_table(at, bytes) };
            });
        });
    }
}
