//! The provers on plimsoll's allocator; PLIMSOLL_LIMIT and PLIMSOLL_SPILL_DIR set it.

use plimsoll_peers::run::{Hooks, child};

#[global_allocator]
static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();

fn reclaim() {
    ALLOC.reclaim(usize::MAX);
}

/// Of large blocks, and of what the system's allocator has for the small ones.
fn in_use() -> u64 {
    // SAFETY: mallinfo2 takes nothing and only counts.
    let small = unsafe { libc::mallinfo2() };
    (ALLOC.stats().live_bytes + small.uordblks + small.hblkhd) as u64
}

fn more() -> String {
    let Some(pager) = ALLOC.pages().pager() else { return String::new() };
    let (stats, thrash) = (pager.stats(), pager.thrash());
    format!(
        " written_bytes={} read_bytes={} pager_faults={} stalled_seconds={:.3} refault_share={:.3}",
        stats.written_bytes,
        stats.read_bytes,
        stats.faults,
        thrash.stalled.as_secs_f64(),
        thrash.refault_share(),
    )
}

fn main() {
    let (in_use, more) = (Some(in_use as fn() -> u64), Some(more as fn() -> String));
    child(&Hooks { reclaim: Some(reclaim), in_use, more, ..Hooks::NONE });
}
