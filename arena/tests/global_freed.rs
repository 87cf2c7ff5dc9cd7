//! Small blocks that are freed near the limit: the allocator below gives their pages back.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use plimsoll_arena::PlainPages;
use plimsoll_arena::global::{Global, InnerPurge};
use plimsoll_arena::process::skipped;

const MIB: usize = 1 << 20;
const SMALL_BYTES: usize = 20 << 10;

/// The system's, and how often it was asked.
struct Counted;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(start, layout) }
    }
}

impl InnerPurge for Counted {
    fn prepare(&self, limit_bytes: usize) {
        InnerPurge::prepare(&System, limit_bytes);
    }

    fn purge(&self) {
        ASKED.fetch_add(1, Relaxed);
        InnerPurge::purge(&System);
    }
}

#[global_allocator]
static ALLOC: Global<Counted, PlainPages> = Global::new(Counted, PlainPages);

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let word = line.split_whitespace().next().and_then(|word| word.parse::<usize>().ok());
    word.expect("a number") << 10
}

/// Fills 60 MiB with small blocks, and frees all but every eighth, so that the heap's end stays.
/// Returns what is resident less for it.
fn fill_and_free() -> usize {
    let blocks: Vec<Vec<u8>> = (0..60 * MIB / SMALL_BYTES).map(|_| vec![1; SMALL_BYTES]).collect();
    let full = resident_bytes();
    let kept: Vec<Vec<u8>> = blocks.into_iter().step_by(8).collect();
    let less = full.saturating_sub(resident_bytes());
    assert!(kept.iter().all(|block| block.iter().all(|byte| *byte == 1)));
    less
}

#[test]
fn near_the_limit_their_pages_come_back_and_far_from_it_they_stay() {
    // The first block: the allocator begins.
    drop(std::hint::black_box(vec![0u8; MIB]));
    // SAFETY: mallinfo2 takes nothing, and only counts.
    if unsafe { libc::mallinfo2() }.arena == 0 {
        let why = "malloc is not the C library's here; Valgrind puts its own in its place";
        skipped("pages of freed blocks", why);
        return;
    }
    ALLOC.set_limit(1 << 34);
    let less = fill_and_free();
    assert_eq!(ASKED.load(Relaxed), 0, "far from the limit nobody asks");
    assert!(less < 20 * MIB, "{less} bytes went by themselves: the test shows nothing");
    ALLOC.set_limit(resident_bytes() + 8 * MIB);
    let less = fill_and_free();
    assert!(ASKED.load(Relaxed) > 0, "near it somebody does");
    assert!(less > 20 * MIB, "of 52 MiB freed, {less} bytes came back");
    // Few small blocks that come and go are not worth it.
    let asked = ASKED.load(Relaxed);
    for _ in 0..1000 {
        let blocks: Vec<Vec<u8>> = (0..50).map(|_| vec![1; SMALL_BYTES]).collect();
        std::hint::black_box(blocks);
    }
    assert_eq!(ASKED.load(Relaxed), asked);
}
