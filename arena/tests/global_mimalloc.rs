//! The global allocator over mimalloc: what that keeps of freed small blocks goes when it is asked.

#![cfg(all(target_os = "linux", feature = "mimalloc"))]

mod global_inner;

use mimalloc::MiMalloc;
use plimsoll_arena::PlainPages;
use plimsoll_arena::global::Global;

#[global_allocator]
static ALLOC: Global<MiMalloc> = Global::new(MiMalloc, PlainPages);

#[test]
fn a_reclaim_purges_mimalloc() {
    global_inner::a_reclaim_lowers_what_is_resident(|| ALLOC.reclaim(usize::MAX));
}
