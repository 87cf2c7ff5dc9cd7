//! No call into an allocator from inside an allocator: every call of the process goes through two
//! watchers, one above and one below the global allocator. A call is seen where the program gets
//! to, so the gauges are asked at the end whether it got everywhere.

#![cfg(all(target_os = "linux", not(miri)))]

use plimsoll_arena::PlainPages;
use plimsoll_arena::global::{BLOCK_BYTES_MIN, Global, InnerPurge};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Calls under way on this thread: above, below.
    static ABOVE: Cell<u32> = const { Cell::new(0) };
    static BELOW: Cell<u32> = const { Cell::new(0) };
}

fn watched<R>(depth: &'static std::thread::LocalKey<Cell<u32>>, act: impl FnOnce() -> R) -> R {
    depth.set(depth.get() + 1);
    if depth.get() > 1 || BELOW.get() > 1 {
        let text = b"an allocator was entered from inside an allocator\n";
        // SAFETY: pointer and length of one slice.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        std::process::abort();
    }
    let result = act();
    depth.set(depth.get() - 1);
    result
}

struct Below;

// SAFETY: passes every call on as it came.
unsafe impl GlobalAlloc for Below {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= BLOCK_BYTES_MIN {
            std::process::abort(); // every large request is a block here
        }
        // SAFETY: as the caller promised.
        watched(&BELOW, || unsafe { System.alloc(layout) })
    }
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        watched(&BELOW, || unsafe { System.dealloc(start, layout) });
    }
}

impl InnerPurge for Below {
    fn prepare(&self, limit_bytes: usize) {
        watched(&BELOW, || System.prepare(limit_bytes));
    }
    fn purge(&self) {
        watched(&BELOW, || System.purge());
    }
}

struct Above(Global<Below, PlainPages>);

// SAFETY: passes every call on as it came.
unsafe impl GlobalAlloc for Above {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        watched(&ABOVE, || unsafe { self.0.alloc(layout) })
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        watched(&ABOVE, || unsafe { self.0.alloc_zeroed(layout) })
    }
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        watched(&ABOVE, || unsafe { self.0.dealloc(start, layout) });
    }
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as the caller promised.
        watched(&ABOVE, || unsafe { self.0.realloc(start, layout, bytes) })
    }
}

#[global_allocator]
static ALLOC: Above = Above(Global::new(Below, PlainPages));

/// A block that is long enough for its pages to be moved, and cannot grow where it is.
fn grow_by_moving() {
    let mut block = vec![1u64; 4 << 20];
    let neighbours: Vec<_> = (0..8).map(|_| vec![2u64; 4 << 20]).collect();
    block.reserve_exact(8 << 20);
    drop(neighbours);
    assert!(block.iter().all(|word| *word == 1));
}

/// Free ends of huge pages are given back when more is asked for than is cached.
fn leave_pages_partly_used() {
    let mut blocks: Vec<_> = (0..16).map(|_| vec![1u8; 3 << 20]).collect();
    let mut keep = [false, true].into_iter().cycle();
    blocks.retain(|_| keep.next().expect("no end"));
    watched(&ABOVE, || ALLOC.0.reclaim(usize::MAX));
    let stats = ALLOC.0.stats();
    assert!(stats.cached_bytes == 0 && stats.shared_bytes > stats.live_bytes / 32, "{stats:?}");
    assert!(blocks.iter().flatten().all(|byte| *byte == 1));
}

#[test]
fn no_allocator_is_entered_twice() {
    // The first use, which sets the heap up; and the purge of the inner allocator is reached too.
    watched(&ABOVE, || ALLOC.0.set_limit(64 << 20));
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            scope.spawn(move || {
                let mut kept: Vec<Vec<u64>> = Vec::new();
                for round in 0..200 {
                    let mut block: Vec<u64> = Vec::new();
                    for word in 0..(20_000 * (1 + (round + thread) % 40)) {
                        block.push(word as u64);
                    }
                    kept.push(block);
                    let mut zeroed = vec![0; 200_000];
                    zeroed.truncate(100_000); // its tail comes home
                    zeroed.shrink_to_fit();
                    kept.push(zeroed);
                    if kept.len() > 8 {
                        kept.drain(..5);
                    }
                }
                assert!(kept.iter().all(|block| block[0] == 0));
            });
        }
    });
    grow_by_moving();
    leave_pages_partly_used();
    let stats = ALLOC.0.stats();
    assert!(stats.moved_bytes > 0 && stats.copied_bytes > 0, "{stats:?}");
    assert!(stats.limit_hits > 0 && stats.purged_bytes > 0 && stats.reused_bytes > 0, "{stats:?}");
    assert_eq!(ALLOC.0.check(), Ok(()));
}
