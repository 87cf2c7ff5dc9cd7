//! The provers on plimsoll's allocator; PLIMSOLL_LIMIT and PLIMSOLL_SPILL_DIR set it.

use plimsoll_peers::anatomy::{self, Counts};
use plimsoll_peers::run::{Hooks, child};

#[global_allocator]
static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();

fn reclaim() {
    ALLOC.reclaim(usize::MAX);
}

/// What the system's allocator has handed out: blocks below 64 KiB.
fn small_in_use() -> u64 {
    // SAFETY: mallinfo2 takes nothing and only counts.
    let small = unsafe { libc::mallinfo2() };
    (small.uordblks + small.hblkhd) as u64
}

fn in_use() -> u64 {
    ALLOC.stats().live_bytes as u64 + small_in_use()
}

fn counts() -> Counts {
    let small = small_in_use();
    let Some(pager) = ALLOC.pages().pager() else { return Counts { small, ..Counts::default() } };
    let stats = pager.stats();
    Counts { small, held: stats.held_bytes, budget: stats.budget_bytes }
}

fn more() -> String {
    let Some(pager) = ALLOC.pages().pager() else { return String::new() };
    let (stats, thrash) = (pager.stats(), pager.thrash());
    format!(
        " written_bytes={} read_bytes={} pager_faults={} stalled_seconds={:.3} refault_share={:.3} \
         rescued_bytes={} clean_bytes={} rows_ahead_bytes={} read_ahead_bytes={} \
         read_ahead_used_bytes={} planned_bytes={} unplanned_bytes={} plan_waste_bytes={} \
         loads={} pinned={} overdrafts={}{}",
        stats.written_bytes,
        stats.read_bytes,
        stats.faults,
        thrash.stalled.as_secs_f64(),
        thrash.refault_share(),
        stats.rescued_bytes,
        stats.clean_bytes,
        stats.rows_ahead_bytes,
        stats.read_ahead_bytes,
        stats.read_ahead_used_bytes,
        stats.planned_bytes,
        stats.unplanned_bytes,
        stats.plan_waste_bytes,
        stats.loads,
        stats.pinned,
        stats.overdrafts,
        anatomy::fields(),
    )
}

fn main() {
    anatomy::watch(counts);
    let (in_use, more) = (Some(in_use as fn() -> u64), Some(more as fn() -> String));
    child(&Hooks { reclaim: Some(reclaim), in_use, more, ..Hooks::NONE });
}
