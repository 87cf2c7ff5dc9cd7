//! Extents: how a range of addresses is cut into blocks, joined again, and which pages it costs.
//!
//! ```text
//!   0                                             top          committed          units
//!   | live | free | live |   free   | live | free |  untouched |                    |
//!                                                 allocate: best fit, cached pages first, low end
//! ```
//!
//! A free extent is *cached* when a page wholly inside it may be resident. Reusing that page costs
//! no page fault. Free neighbours join whatever their pages are, so 64 MiB that were freed serve 48
//! MiB and then 16. Where a page is larger than a unit (huge pages of 2 MiB, units of 64 KiB),
//! blocks lie side by side inside a huge page, so no huge page is spent on a short tail. A page
//! that is partly live is neither cached nor purged.
//!
//! Invariants (recounted by [`Extents::check`]):
//!
//! * free, live and busy extents tile `0..top`, which is a whole number of pages, and no two free
//!   ones are neighbours;
//! * `dirty_pages` = pages whose flag is set; it is set for every page of a live extent;
//! * `cached_pages` = the sum, over free extents, of set pages wholly inside.
//!
//! This is arithmetic on the table. It takes no lock, since the caller holds the heap's, and makes
//! no system call but the `commit` that the caller passes in.
//!
//! Must never: read or write the memory that it hands out.

use super::bins::{Bins, bin_of};
use super::grant::{PageGrant, Placement, Prefer, Runs};
use super::table::{ExtentState, Table, UNITS_MAX};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// How many entries of one list are compared for the best fit.
const LOOK_AT_MAX: usize = 16;

/// The free and live stretches of one heap's addresses, and the pages that they cost.
#[derive(Debug)]
pub(super) struct Extents {
    pub(super) table: Table,
    clean: Bins,
    cached: Bins,
    top: u32,
    committed: u32,
    pub(super) live_units: u32,
    pub(super) dirty_pages: u32,
    pub(super) cached_pages: u32,
}

impl Extents {
    pub(super) const fn empty() -> Self {
        Self {
            table: Table::empty(),
            clean: Bins::new(),
            cached: Bins::new(),
            top: 0,
            committed: 0,
            live_units: 0,
            dirty_pages: 0,
            cached_pages: 0,
        }
    }

    pub(super) fn set_table(&mut self, table: Table) {
        self.table = table;
    }

    /// Units that extents cover.
    pub(super) fn top(&self) -> u32 {
        self.top
    }

    fn page_units(&self) -> u32 {
        1 << self.table.page_units_log2()
    }

    /// Length of the live extent at `start`, or `None` where none starts.
    #[inline]
    pub(super) fn live_units_at(&self, start: u32) -> Option<u32> {
        if start >= self.top {
            return None;
        }
        let (state, units) = self.table.tag(start);
        (state == ExtentState::Live).then_some(units)
    }

    fn bins(&mut self, cached: u32) -> &mut Bins {
        if cached > 0 { &mut self.cached } else { &mut self.clean }
    }

    /// Puts the free extent `start..end` on its list, unless it is empty.
    fn link(&mut self, start: u32, end: u32, cached: u32) {
        if start == end {
            return;
        }
        let units = end - start;
        self.table.set_tag(start, units, ExtentState::Free);
        let bin = bin_of(units);
        let head = self.bins(cached).heads[bin];
        let entry = self.table.entry(start);
        entry.next.store(head, Relaxed);
        entry.prev.store(0, Relaxed);
        entry.cached.store(cached, Relaxed);
        if head > 0 {
            self.table.entry(head - 1).prev.store(start + 1, Relaxed);
        }
        self.bins(cached).set_head(bin, start + 1);
        self.cached_pages += cached;
    }

    /// Takes the free extent of `units` at `start` off its list and returns its cached pages.
    fn unlink(&mut self, start: u32, units: u32) -> u32 {
        let entry = self.table.entry(start);
        let (next, prev) = (entry.next.load(Relaxed), entry.prev.load(Relaxed));
        let cached = entry.cached.load(Relaxed);
        if next > 0 {
            self.table.entry(next - 1).prev.store(prev, Relaxed);
        }
        if prev > 0 {
            self.table.entry(prev - 1).next.store(next, Relaxed);
        } else {
            self.bins(cached).set_head(bin_of(units), next);
        }
        self.cached_pages -= cached;
        cached
    }

    /// Makes `start..end` free and joins it with free neighbours; returns the joined extent.
    fn insert_free(&mut self, start: u32, end: u32) -> (u32, u32) {
        let (mut first, mut last) = (start, end);
        let mut cached = 0;
        let (mut before, mut after) = (0..0, 0..0);
        if let Some((at, units)) = self.table.free_before(start) {
            before = self.table.inner_pages(at, start);
            cached += self.unlink(at, units);
            first = at;
        }
        if end < self.top
            && let (ExtentState::Free, units) = self.table.tag(end)
        {
            after = self.table.inner_pages(end, end + units);
            cached += self.unlink(end, units);
            last = end + units;
        }
        cached += self.count_between(first, last, &before, &after);
        self.link(first, last, cached);
        (first, last)
    }

    /// Counts pages wholly in `first..last` whose flag is set, without those of `before`, a part at
    /// its start, and of `after`, a part at its end.
    fn count_between(&self, first: u32, last: u32, before: &Range<u32>, after: &Range<u32>) -> u32 {
        let whole = self.table.inner_pages(first, last);
        let from = if before.is_empty() { whole.start } else { before.end };
        let to = if after.is_empty() { whole.end } else { after.start };
        self.table.count_dirty(from..to.max(from))
    }

    /// Finds a free extent of at least `units` that fits best, or nearly so.
    fn find(&self, kind: Prefer, units: u32) -> Option<u32> {
        let bins = if kind == Prefer::Cached { &self.cached } else { &self.clean };
        let bin = bin_of(units);
        self.best_of(bins.heads[bin], units)
            .or_else(|| self.best_of(bins.heads[bins.first_from(bin + 1)?], units))
    }

    fn best_of(&self, head: u32, units: u32) -> Option<u32> {
        let mut best: Option<(u32, u32)> = None;
        let mut link = head;
        for _ in 0..LOOK_AT_MAX {
            let Some(start) = link.checked_sub(1) else { break };
            let found = self.table.tag(start).1;
            if found >= units && best.is_none_or(|best| (found, start) < best) {
                best = Some((found, start));
            }
            link = self.table.entry(start).next.load(Relaxed);
        }
        best.map(|(_, start)| start)
    }

    /// Makes the free extent that ends at the top at least `units` long and returns its start.
    fn grow_top(
        &mut self,
        units: u32,
        commit: impl FnOnce(u32, u32) -> Option<u32>,
    ) -> Option<u32> {
        let (start, have) = self.table.free_before(self.top).unwrap_or((self.top, 0));
        if have >= units {
            return Some(start);
        }
        // The top is a whole number of pages, so that the last one can be given back like any
        // other.
        let top =
            self.top.checked_add(units - have)?.checked_next_multiple_of(self.page_units())?;
        if top > self.table.units() {
            return None;
        }
        if top > self.committed {
            self.committed = commit(self.committed, top)?;
        }
        let old = std::mem::replace(&mut self.top, top);
        Some(self.insert_free(old, top).0)
    }

    /// Hands out `units`, or `None` when no addresses are left or `commit` refuses.
    ///
    /// `commit(from, to)` makes at least the units `from..to` accessible and returns the end of
    /// what is accessible then. Pages of the block that may be other than zero are added to
    /// `dirty`.
    pub(super) fn allocate(
        &mut self,
        units: u32,
        place: Placement,
        prefer: Prefer,
        commit: impl FnOnce(u32, u32) -> Option<u32>,
        dirty: &mut Runs,
    ) -> Option<PageGrant> {
        let room = units.checked_add(place.align - 1).filter(|room| *room <= UNITS_MAX)?;
        let last_is_cached = || {
            let last = self.table.free_before(self.top);
            last.is_some_and(|(at, _)| self.table.entry(at).cached.load(Relaxed) > 0)
        };
        let first = self.find(prefer, room);
        // Growing at the top reuses the pages of the last extent, while a clean hole has none.
        let second = match prefer {
            Prefer::Cached if first.is_none() && !last_is_cached() => {
                self.find(Prefer::Clean, room)
            }
            _ => None,
        };
        let start = first
            .or(second)
            .or_else(|| self.grow_top(room, commit))
            .or_else(|| self.find(Prefer::Clean, room))
            .or_else(|| self.find(Prefer::Cached, room))?;
        Some(self.carve(start, place.from(start), units, dirty))
    }

    /// Cuts the block `at..at + units` out of the free extent at `start`.
    fn carve(&mut self, start: u32, at: u32, units: u32, dirty: &mut Runs) -> PageGrant {
        let length = self.table.tag(start).1;
        let (end, block_end) = (start + length, at + units);
        debug_assert!(start <= at && block_end <= end, "the block lies inside the extent");
        let cached = self.unlink(start, length);
        let before = self.table.inner_pages(start, at);
        let after = self.table.inner_pages(block_end, end);
        let lost = self.count_between(start, end, &before, &after);
        let kept_before = self.table.count_dirty(before);
        self.link(start, at, kept_before);
        self.link(block_end, end, cached - lost - kept_before);
        self.table.set_tag(at, units, ExtentState::Live);
        self.live_units += units;
        let (mut fresh_pages, mut reused_pages) = (0, 0);
        for page in self.table.outer_pages(at, block_end) {
            if self.table.is_dirty(page) {
                reused_pages += 1;
                dirty.push(page);
            } else {
                fresh_pages += 1;
                self.table.set_dirty(page);
            }
        }
        self.dirty_pages += fresh_pages;
        PageGrant { start: at, fresh_pages, reused_pages }
    }

    /// Frees a block and returns its length.
    pub(super) fn release(&mut self, start: u32) -> u32 {
        let (state, units) = self.table.tag(start);
        debug_assert_eq!(state, ExtentState::Live, "released a block that is not live");
        self.live_units -= units;
        self.insert_free(start, start + units);
        units
    }

    /// Makes the block at `start` longer without moving it, when what follows is free.
    pub(super) fn extend(
        &mut self,
        start: u32,
        units: u32,
        commit: impl FnOnce(u32, u32) -> Option<u32>,
    ) -> Option<PageGrant> {
        let length = self.table.tag(start).1;
        let (end, more) = (start + length, units - length);
        let free = match end < self.top {
            true => self.table.tag(end),
            false => (ExtentState::Free, 0),
        };
        if free.0 != ExtentState::Free {
            return None;
        }
        if free.1 < more && (end + free.1 < self.top || self.grow_top(more, commit).is_none()) {
            return None;
        }
        let grant = self.carve(end, end, more, &mut Runs::default());
        self.table.set_tag(start, units, ExtentState::Live);
        Some(PageGrant { start, ..grant })
    }

    /// Makes the block at `start` shorter; its tail becomes free.
    pub(super) fn shrink(&mut self, start: u32, units: u32) {
        let length = self.table.tag(start).1;
        debug_assert!(0 < units && units < length, "a shorter block, but still one");
        self.table.set_tag(start, units, ExtentState::Live);
        self.live_units -= length - units;
        self.insert_free(start + units, start + length);
    }

    /// Takes the largest extent with cached pages off the lists: `(start, units)`. Until
    /// [`Extents::put_back`], the caller owns its inner pages and their flags.
    pub(super) fn take_cached(&mut self) -> Option<(u32, u32)> {
        let start = self.cached.heads[self.cached.last()?] - 1;
        let units = self.table.tag(start).1;
        self.unlink(start, units);
        self.table.set_tag(start, units, ExtentState::Busy);
        Some((start, units))
    }

    /// Puts back an extent that was taken, of which `cleaned` pages are clean now.
    pub(super) fn put_back(&mut self, start: u32, units: u32, cleaned: u32) {
        self.dirty_pages -= cleaned;
        self.insert_free(start, start + units);
    }

    /// Notes that `pages` pages of a live block lost their memory; their flags are clear.
    pub(super) fn note_cleaned(&mut self, pages: u32) {
        self.dirty_pages -= pages;
    }

    /// Gives the addresses of a live block up for good.
    pub(super) fn forfeit(&mut self, start: u32) {
        let units = self.table.tag(start).1;
        let inner = self.table.inner_pages(start, start + units);
        self.dirty_pages -= self.table.count_dirty(inner.clone());
        self.table.set_clean(inner);
        self.live_units -= units;
        self.table.set_tag(start, units, ExtentState::Busy);
    }

    /// Calls `visit` with each free extent, from low addresses to high.
    pub(super) fn for_each_free(&self, mut visit: impl FnMut(u32, u32)) {
        let mut unit = 0;
        while unit < self.top {
            let (state, units) = self.table.tag(unit);
            if state == ExtentState::Free {
                visit(unit, unit + units);
            }
            unit += units.max(1);
        }
    }

    /// Recounts everything; `None` when it agrees, otherwise what does not.
    pub(super) fn check(&self) -> Option<&'static str> {
        let (mut unit, mut live, mut cached, mut was_free) = (0u32, 0, 0, false);
        while unit < self.top {
            let (state, units) = self.table.tag(unit);
            if units == 0 || state == ExtentState::None || units > self.top - unit {
                return Some("an extent's first tag is broken");
            }
            if self.table.tag(unit + units - 1) != (state, units) {
                return Some("an extent's tags differ");
            }
            let is_free = state == ExtentState::Free;
            if is_free && was_free {
                return Some("two free extents are neighbours");
            }
            was_free = is_free;
            let inner = self.table.count_dirty(self.table.inner_pages(unit, unit + units));
            match state {
                ExtentState::Live => {
                    live += units;
                    let outer = self.table.outer_pages(unit, unit + units);
                    if self.table.count_dirty(outer.clone()) as usize != outer.len() {
                        return Some("a live block has a page that is thought clean");
                    }
                }
                ExtentState::Free if self.table.entry(unit).cached.load(Relaxed) != inner => {
                    return Some("a free extent's cached pages recounted");
                }
                ExtentState::Free => cached += inner,
                ExtentState::Busy | ExtentState::None => {}
            }
            unit += units;
        }
        let dirty = self.table.count_dirty(self.table.outer_pages(0, self.top));
        match () {
            () if live != self.live_units => Some("live units recounted"),
            () if cached != self.cached_pages => Some("cached pages recounted"),
            () if dirty != self.dirty_pages => Some("dirty pages recounted"),
            () => None,
        }
    }
}
