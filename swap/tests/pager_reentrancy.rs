//! No call into the allocator from inside the allocator or from a thread of the pager: every call
//! of the process goes through two watchers, one above and one below the global allocator.
//!
//! ```text
//!   program -> Above -> Global<Below, Paged> -> Below -> System
//!                abort if entered from inside     abort on a thread of the pager
//! ```
//!
//! A thread of the pager is known by its signals, which are all blocked; no other thread of this
//! binary blocks any. While the pager is made it may take small blocks, so Above looks away until
//! it is there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::Command;

use nix::libc;
use plimsoll_arena::global::{Global, InnerPurge};
use plimsoll_swap::pager::{Paged, probe};

const CHILD: &str = "PLIMSOLL_REENTRANCY_CHILD";
const MIB: usize = 1 << 20;

thread_local! {
    /// Calls under way on this thread.
    static ABOVE: Cell<u32> = const { Cell::new(0) };
}

fn abort(why: &str) -> ! {
    // SAFETY: pointer and length of one slice.
    unsafe { libc::write(2, why.as_ptr().cast(), why.len()) };
    std::process::abort();
}

/// Whether all signals are blocked on this thread.
fn is_pagers() -> bool {
    // SAFETY: a set is plain bits, and filled by the next call.
    let mut blocked: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: only asks; writes one set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked) };
    // SAFETY: the set was filled above.
    unsafe { libc::sigismember(&raw const blocked, libc::SIGUSR2) == 1 }
}

struct Below;

impl Below {
    fn watch() {
        if is_pagers() {
            abort("a thread of the pager called the allocator\n");
        }
    }
}

// SAFETY: passes every call on as it came.
unsafe impl GlobalAlloc for Below {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::watch();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        Self::watch();
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(start, layout) };
    }
}

impl InnerPurge for Below {
    fn prepare(&self, limit_bytes: usize) {
        System.prepare(limit_bytes);
    }
    fn purge(&self) {
        Self::watch();
        System.purge();
    }
}

struct Above(Global<Below, Paged>);

impl Above {
    fn watched<R>(&self, act: impl FnOnce() -> R) -> R {
        ABOVE.set(ABOVE.get() + 1);
        if ABOVE.get() > 1 && self.0.pages().pager().is_some() {
            abort("the allocator was entered from inside the allocator\n");
        }
        if is_pagers() {
            abort("a thread of the pager called the allocator\n");
        }
        let result = act();
        ABOVE.set(ABOVE.get() - 1);
        result
    }
}

// SAFETY: passes every call on as it came.
unsafe impl GlobalAlloc for Above {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        self.watched(|| unsafe { self.0.alloc(layout) })
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        self.watched(|| unsafe { self.0.alloc_zeroed(layout) })
    }
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        self.watched(|| unsafe { self.0.dealloc(start, layout) });
    }
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as the caller promised.
        self.watched(|| unsafe { self.0.realloc(start, layout, bytes) })
    }
}

#[global_allocator]
static ALLOC: Above = Above(Global::new(Below, Paged::new()));

/// Allocates, grows, spills and frees, with hints. Does nothing in an ordinary run.
#[test]
fn program() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            scope.spawn(move || {
                let mut kept: Vec<Vec<usize>> = Vec::new();
                for round in 0..12 {
                    let mut block = vec![0usize; 0];
                    for i in 0..MIB / 2 {
                        block.push(i * 3 + thread + round);
                    }
                    plimsoll_swap::pager::cold(&block);
                    kept.push(block);
                    plimsoll_swap::pager::will_need(&kept[round / 2]);
                    kept[round / 3].shrink_to_fit();
                }
                for (round, block) in kept.iter().enumerate() {
                    for (i, word) in block.iter().enumerate().step_by(77) {
                        assert_eq!(*word, i * 3 + thread + round);
                    }
                }
            });
        }
    });
    let stats = ALLOC.0.pages().pager().expect("the test asked for one").stats();
    assert!(stats.written_bytes > 0 && stats.read_bytes > 0, "{stats:?}");
    println!("went through");
}

#[test]
fn neither_the_allocator_nor_a_pagers_thread_calls_the_allocator() {
    if let Err(why) = probe().door {
        eprintln!("SKIPPED, nothing was tested: {why}");
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "program", "--nocapture"]).env(CHILD, "1");
    command.env("PLIMSOLL_LIMIT", "64MiB").env("PLIMSOLL_SPILL_DIR", std::env::temp_dir());
    command.env("PLIMSOLL_ENCRYPT_SPILL", "1");
    let output = command.output().expect("a child");
    let text = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("went through"), "{said}{text}");
}
