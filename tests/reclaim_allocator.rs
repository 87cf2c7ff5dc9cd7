//! Reclaim points and the global allocator without a pager: what it caches goes first, then what
//! the allocator inside it keeps, which is not asked for more often than that.

#![cfg(target_os = "linux")]

use std::alloc::System;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use plimsoll::alloc::Hooked;
use plimsoll::{Allocator, Runtime};

static PURGES: AtomicU64 = AtomicU64::new(0);

fn purge() {
    PURGES.fetch_add(1, Relaxed);
}

#[global_allocator]
static ALLOC: Allocator<Hooked<System>> = Allocator::over(Hooked::new(System, purge));

const MIB: usize = 1 << 20;

#[test]
fn a_reclaim_point_takes_what_the_allocator_caches_and_then_asks_what_is_inside_it() {
    let runtime = Runtime::builder().build().expect("a runtime");
    let kept = vec![1u8; 16 * MIB];
    // Else it is never made, since nobody reads it.
    drop(std::hint::black_box(vec![2u8; 64 * MIB]));
    assert!(ALLOC.stats().cached_bytes >= 60 * MIB && ALLOC.pages().pager().is_none());

    // As much as is used now, so that a stage that needs 24 MiB is short of as much.
    runtime.look();
    runtime.pool().ledger().set_limit(runtime.counted_bytes() as usize);
    let report = runtime.reclaim_point("commit", 24 << 20);
    let cached = ALLOC.stats().cached_bytes;
    assert_eq!(report.short_bytes, 0, "{report:?}");
    assert!(report.freed.by("allocator cache") >= 24 << 20, "{report:?}");
    assert!((1..44 * MIB).contains(&cached), "{cached} cached: no more than needed went");
    assert_eq!(PURGES.load(Relaxed), 0, "the cached pages were enough");

    // Nothing is: all rungs are climbed.
    let report = runtime.reclaim_point("open", 1 << 30);
    assert!(report.short_bytes > 0 && report.freed.by("allocator cache") >= 32 << 20, "{report:?}");
    assert!(PURGES.load(Relaxed) > 0, "the allocator inside was asked");
    assert!(ALLOC.stats().cached_bytes < MIB && kept.iter().all(|byte| *byte == 1));
}
