//! No call into an allocator from inside an allocator: every call of the process goes through two
//! watchers, one above and one below the global allocator.

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

#[test]
fn no_allocator_is_entered_twice() {
    ALLOC.0.set_limit(64 << 20); // the purge of the inner allocator is reached too
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
                    kept.push(vec![0; 200_000]);
                    if kept.len() > 8 {
                        kept.drain(..5);
                    }
                }
                assert!(kept.iter().all(|block| block[0] == 0));
            });
        }
    });
    let stats = ALLOC.0.stats();
    assert!(stats.limit_hits > 0 && stats.purged_bytes > 0 && stats.reused_bytes > 0, "{stats:?}");
    assert_eq!(ALLOC.0.check(), Ok(()));
}
