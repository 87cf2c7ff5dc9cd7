//! What the global allocator tells its source of pages: where blocks are, what the limit is, and
//! that small blocks of the inner allocator grew under one.

#![expect(clippy::multiple_unsafe_ops_per_block, reason = "short programs of allocator calls")]

mod global_common;

use global_common::FakePages;
use plimsoll_arena::global::{Global, Hooked};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::Ordering::Relaxed;

type Tested = Global<Hooked<System>, FakePages>;

fn global() -> Tested {
    Global::with_reserve(Hooked::new(System, || {}), FakePages::default(), 64 << 20)
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).expect("sound")
}

fn allocate(tested: &Tested, bytes: usize) -> *mut u8 {
    // SAFETY: the size is above zero.
    let start = unsafe { tested.alloc(layout(bytes)) };
    assert!(!start.is_null());
    start
}

fn free(tested: &Tested, start: *mut u8, bytes: usize) {
    // SAFETY: of `allocate`, with the same size, once.
    unsafe { tested.dealloc(start, layout(bytes)) };
}

#[test]
fn where_a_block_is_and_what_it_grows_and_shrinks_to() {
    let (tested, mib) = (global(), 1 << 20);
    let mut start = allocate(&tested, 3 * mib);
    let first = start as usize;
    for (before, after) in [(3, 9), (9, 4)] {
        // SAFETY: the allocation with its layout, and a size above zero.
        start = unsafe { tested.realloc(start, layout(before * mib), after * mib) };
    }
    let placed = tested.pages().placed.lock().expect("no panic under this lock").clone();
    // Nothing follows the block, so it stays where it is.
    assert_eq!(placed, [(first, 3 * mib), (first, 9 * mib), (first, 4 * mib)]);
    free(&tested, start, 4 * mib);
}

#[test]
fn small_blocks_that_grow_under_a_limit_are_told_and_others_are_not() {
    let tested = global();
    let looks = || tested.pages().looks.load(Relaxed);
    let bytes = 16 << 10;
    let take =
        |count: usize| -> Vec<*mut u8> { (0..count).map(|_| allocate(&tested, bytes)).collect() };
    let give = |blocks: Vec<*mut u8>| {
        blocks.into_iter().for_each(|start| free(&tested, start, bytes));
    };
    // The first large block starts the allocator.
    let large = allocate(&tested, 1 << 20);
    give(take(1000));
    assert_eq!(looks(), 0, "there is no limit");
    let limit = 1 << 34;
    assert_eq!(tested.set_limit(limit), usize::MAX);
    // It is the process's: another allocator has it before it reserves addresses.
    let other = global();
    free(&other, allocate(&other, 1 << 20), 1 << 20);
    assert_eq!((other.limit_bytes(), other.pages().limit.load(Relaxed)), (limit, limit));
    // 256 KiB are sixteen of them.
    let kept = take(160);
    assert_eq!(looks(), 10);
    for _ in 0..1000 {
        give(take(1));
    }
    assert_eq!(looks(), 10, "nothing grew");
    // One that grows in place of being asked for anew.
    let mut start = allocate(&tested, 8);
    for log in 3..15 {
        // SAFETY: the allocation with its layout, and a size above zero.
        start = unsafe { tested.realloc(start, layout(1 << log), 2 << log) };
    }
    give(take(15));
    free(&tested, start, 1 << 15);
    assert_eq!(looks(), 11, "32 KiB and fifteen times 16 are more than 256");
    give(kept);
    free(&tested, large, 1 << 20);
    assert_eq!(other.set_limit(usize::MAX), limit);
    assert_eq!(tested.limit_bytes(), usize::MAX);
}

#[test]
fn a_large_block_that_no_heap_has_starts_the_allocator_too() {
    let tested = global();
    let layout = Layout::from_size_align(8 << 20, 4 << 20).expect("sound");
    // SAFETY: the size is above zero.
    let start = unsafe { tested.alloc_zeroed(layout) };
    assert!(!start.is_null());
    assert_ne!(tested.pages().limit.load(Relaxed), 0, "the limit was looked at");
    // SAFETY: of the call above, with its layout, once.
    unsafe { tested.dealloc(start, layout) };
}
