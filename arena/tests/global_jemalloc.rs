//! The global allocator over jemalloc: what that keeps of freed small blocks goes when it is asked.

#![cfg(all(target_os = "linux", feature = "jemalloc"))]

mod global_inner;

use plimsoll_arena::PlainPages;
use plimsoll_arena::global::Global;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOC: Global<Jemalloc> = Global::new(Jemalloc, PlainPages);

#[test]
fn a_reclaim_purges_jemalloc() {
    global_inner::a_reclaim_lowers_what_is_resident(|| ALLOC.reclaim(usize::MAX));
}
