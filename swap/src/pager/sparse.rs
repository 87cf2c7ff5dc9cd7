//! First touches far apart: a page each, not a granule or a chunk.
//!
//! ```text
//!   first touch    of a chunk's granule, by no stream      one page; the rest are holes, zero
//!   further touch  of a hole, no page just before it       one page
//!                  of a hole behind pages that are there   as many again as there are
//!   then           32 single pages of a chunk              granules and chunks, as everywhere
//! ```
//!
//! A table by hash, or a matrix of which little is filled, is touched here and there: with a chunk
//! at each first touch it would be resident as a whole. Who fills memory in order has a stream
//! after two granules, and whole chunks after four more faults.
//!
//! A granule of which one page is there counts as held as a whole: what is resident is less.
//!
//! Must never: leave a granule in data without the page that was touched.

use plimsoll_arena::os::{Linux, page_bytes};
use plimsoll_arena::size::UNIT_BYTES;

use super::core::{CHUNK, Core};
use super::engine::Engine;
use super::held::Where;
use super::ids::Id;
use super::space::{CHUNK_BYTES, GRANULE_BYTES, Space, run};
use super::state::{Event, State};
use super::streams::Streams;
use super::sys::now_ns;
use super::thrash::Count;
use super::trace::Seen;

/// Single pages of a chunk before it is taken for dense: one in each granule.
const TOUCHES_MAX: u32 = (CHUNK_BYTES / GRANULE_BYTES) as u32;

/// Pages of a granule, at most.
const PAGES_MAX: usize = GRANULE_BYTES / UNIT_BYTES;

impl Engine {
    /// Gives one page of a granule that was never touched, if that will do. A leader's.
    pub(crate) fn give_page(&self, core: &mut Core, offset: usize) -> bool {
        let (chunk, granule) = Core::place(offset);
        let entry = core.chunk(chunk);
        let new = entry.state(granule) == State::Zero && !entry.is_small();
        if !new || entry.touches() >= TOUCHES_MAX || !Self::may_be_huge(core) || core.room() == 0 {
            return false;
        }
        let at = chunk.index() as u64 * CHUNK + granule as u64;
        let widest = Streams::widest(core.budget());
        if core.streams.continues(at, widest) {
            return false;
        }
        let window = core.streams.fault(at, widest);
        core.streams.brought(window, at + 1);
        let mask = run(granule, 1);
        core.chunk(chunk).touch();
        core.held.charge(Where::Data, 1);
        core.chunk(chunk).step(mask, Event::Load);
        self.space.fill_hole(offset, 1);
        core.held.born(1);
        core.chunk(chunk).step(mask, Event::Loaded);
        core.chunk(chunk).set_huge(false);
        core.chunk(chunk).served(mask);
        core.counters.add(Count::ZeroFilled, 1);
        core.touched(chunk, mask, Seen::Demand, false);
        core.entered(chunk, 1, now_ns());
        true
    }

    /// A thread waits at a page of a granule that is in data: gives it one, if the page is a hole.
    pub(crate) fn give_hole(&self, core: &mut Core, offset: usize) {
        let (chunk, _) = Core::place(offset);
        let entry = core.chunk(chunk);
        let pages = if entry.touches() >= TOUCHES_MAX || entry.touches() == 0 {
            PAGES_MAX
        } else {
            self.space.pages_before(offset)
        };
        if self.space.fill_hole(offset, pages.max(1)) && pages == 0 {
            core.chunk(chunk).touch();
        }
    }
}

impl Space {
    /// Pages of the granule that are there just before the one at an offset.
    fn pages_before(&self, offset: usize) -> usize {
        let page = offset - offset % page_bytes();
        let first = offset - offset % GRANULE_BYTES;
        let mut pages = [0; PAGES_MAX];
        let start = std::ptr::without_provenance(self.data().start() + first);
        if page == first {
            return 0;
        }
        match Linux.resident_pages(start, page - first, &mut pages) {
            Ok(pages) => pages.iter().rev().take_while(|page| **page & 1 == 1).count(),
            // A part of it is the program's no more.
            Err(_) => 0,
        }
    }
}
