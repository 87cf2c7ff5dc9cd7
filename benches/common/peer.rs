//! The peers: which allocator serves this process, and how it is set.
//!
//! A Rust program has one global allocator. This one asks an environment variable, once, whose
//! turn it is, so that one binary can be every peer: glibc, jemalloc, mimalloc or zk-alloc. Ours
//! is not a global allocator here: a pool is called by name, and glibc serves the rest.
//!
//! | setting | means |
//! |---|---|
//! | default | as its user gets it |
//! | keep | told to give nothing back, and to use huge pages where it can be told |
//!
//! The choice is made with `getenv`, which allocates nothing, and then kept in an atomic.

use crate::common::PEER_VARIABLE;
use plimsoll_arena::Pool;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU8, Ordering};

/// How a peer treats memory that is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Ours: keeps until a reclaim point.
    Ours,
    /// As its user gets it.
    Default,
    /// Told to keep everything.
    Keep,
}

/// An allocator with its settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Name in the figures; its first word says which allocator.
    pub(crate) name: &'static str,
    /// What it does with freed memory.
    pub(crate) setting: Setting,
    /// Environment that sets it.
    pub(crate) variables: &'static [(&'static str, &'static str)],
}

const fn peer(
    name: &'static str,
    setting: Setting,
    variables: &'static [(&'static str, &'static str)],
) -> Peer {
    Peer { name, setting, variables }
}

/// Ours first, then its peers.
///
/// glibc-keep: no mmap of its own, no trimming, one arena (the others are capped at 64 MiB), huge
/// pages by tunable. jemalloc-decay-1 is the setting its users know; jemalloc-keep adds huge pages.
pub(crate) const PEERS: &[Peer] = &[
    peer("ours", Setting::Ours, &[]),
    peer("glibc", Setting::Default, &[]),
    peer(
        "glibc-keep",
        Setting::Keep,
        &[
            ("MALLOC_MMAP_MAX_", "0"),
            ("MALLOC_TRIM_THRESHOLD_", "1099511627776"),
            ("MALLOC_TOP_PAD_", "67108864"),
            ("MALLOC_ARENA_MAX", "1"),
            ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
        ],
    ),
    peer("jemalloc", Setting::Default, &[]),
    peer(
        "jemalloc-decay-1",
        Setting::Keep,
        &[("_RJEM_MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1")],
    ),
    peer(
        "jemalloc-keep",
        Setting::Keep,
        &[(
            "_RJEM_MALLOC_CONF",
            "dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always,retain:true,metadata_thp:auto",
        )],
    ),
    peer("mimalloc", Setting::Default, &[]),
    peer(
        "mimalloc-keep",
        Setting::Keep,
        &[("MIMALLOC_PURGE_DELAY", "-1"), ("MIMALLOC_ALLOW_LARGE_OS_PAGES", "1")],
    ),
    peer("zk-alloc", Setting::Keep, &[]),
];

/// Which code serves an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Allocator {
    /// glibc's malloc, through std.
    Glibc = 1,
    /// tikv-jemallocator.
    Jemalloc = 2,
    /// mimalloc.
    Mimalloc = 3,
    /// zk-alloc.
    Zk = 4,
}

static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Returns the allocator of this process.
#[inline]
pub(crate) fn allocator() -> Allocator {
    match CHOSEN.load(Ordering::Relaxed) {
        1 => Allocator::Glibc,
        2 => Allocator::Jemalloc,
        3 => Allocator::Mimalloc,
        4 => Allocator::Zk,
        _ => choose(),
    }
}

#[cold]
fn choose() -> Allocator {
    const _: () = assert!(PEER_VARIABLE.len() == 19, "the C string below says the same");
    // SAFETY: the name ends in a zero byte, and nothing in this program changes the environment.
    let value = unsafe { libc::getenv(c"PLIMSOLL_BENCH_PEER".as_ptr()) };
    let name = if value.is_null() {
        c""
    } else {
        // SAFETY: getenv returns a string that ends in a zero byte and lives with the environment.
        unsafe { CStr::from_ptr(value) }
    };
    let chosen = match name.to_bytes() {
        name if name.starts_with(b"jemalloc") => Allocator::Jemalloc,
        name if name.starts_with(b"mimalloc") => Allocator::Mimalloc,
        name if name.starts_with(b"zk-alloc") => Allocator::Zk,
        _ => Allocator::Glibc,
    };
    // Relaxed: two threads that race here store the same number.
    CHOSEN.store(chosen as u8, Ordering::Relaxed);
    chosen
}

/// The global allocator that is every peer.
#[derive(Debug)]
pub(crate) struct Dispatch;

#[inline]
fn chosen() -> &'static dyn GlobalAlloc {
    match allocator() {
        Allocator::Glibc => &System,
        Allocator::Jemalloc => &tikv_jemallocator::Jemalloc,
        Allocator::Mimalloc => &mimalloc::MiMalloc,
        Allocator::Zk => &zk_alloc::ZkAllocator,
    }
}

// SAFETY: every call is passed on unchanged to one allocator, the same for the whole process, which
// keeps the contract itself.
unsafe impl GlobalAlloc for Dispatch {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is the same there.
        unsafe { chosen().alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as above; `start` came from the same allocator, since it never changes.
        unsafe { chosen().dealloc(start, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { chosen().alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as in `dealloc`.
        unsafe { chosen().realloc(start, layout, bytes) }
    }
}

/// Who marks zk-alloc's phases: each use, or the batch around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `around` marks one, where the peer is zk-alloc.
    EachUse,
    /// `around` does nothing: another call marks it.
    Elsewhere,
}

impl Phase {
    /// Does `work`, as one phase if this says so.
    pub(crate) fn around(self, work: impl FnOnce()) {
        if self == Self::EachUse && allocator() == Allocator::Zk {
            zk_alloc::phase(work);
        } else {
            work();
        }
    }
}

unsafe extern "C" {
    safe fn mi_collect(force: bool);
    fn _rjem_mallctl(
        name: *const c_char,
        old: *mut c_void,
        old_bytes: *mut usize,
        new: *mut c_void,
        new_bytes: usize,
    ) -> c_int;
}

/// Gives back what is free, by the call its user has for that; returns that call's name, `None`
/// where there is none.
pub(crate) fn give_back(pool: Option<&Pool>) -> Option<&'static str> {
    if let Some(pool) = pool {
        pool.reclaim(usize::MAX);
        return Some("reclaim");
    }
    match allocator() {
        Allocator::Glibc => {
            // SAFETY: malloc_trim has no preconditions.
            unsafe { libc::malloc_trim(0) };
            Some("malloc_trim")
        }
        Allocator::Jemalloc => {
            let none = std::ptr::null_mut();
            // 4096 stands for all arenas (MALLCTL_ARENAS_ALL in jemalloc.h).
            let name = c"arena.4096.purge".as_ptr();
            // SAFETY: the name ends in a zero byte; this control takes and returns no value.
            let code = unsafe { _rjem_mallctl(name, none, std::ptr::null_mut(), none, 0) };
            assert_eq!(code, 0, "jemalloc's purge of all arenas");
            Some("purge")
        }
        Allocator::Mimalloc => {
            mi_collect(true);
            Some("mi_collect")
        }
        Allocator::Zk => None,
    }
}
