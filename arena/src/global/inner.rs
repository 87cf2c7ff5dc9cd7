//! The inner allocator, which serves everything that is not a block: how it is set up, and how it
//! is asked to give back what it caches.
//!
//! Under a limit, memory that the inner allocator caches counts like any other. It is asked last,
//! because giving back takes its locks. The hook is called between allocations, never from inside
//! one of the inner allocator's own calls, and with no lock of the global allocator held.

use std::alloc::{GlobalAlloc, Layout, System};

/// An inner allocator that can be asked to give cached memory back.
pub trait InnerPurge {
    /// Prepares the allocator for a process whose large blocks are elsewhere, and whose limit is
    /// `limit_bytes` (`usize::MAX` for none). Called once, at the first block.
    fn prepare(&self, limit_bytes: usize) {
        let _ = limit_bytes;
    }

    /// Gives cached memory back to the kernel. It must not call the process's global allocator.
    fn purge(&self);
}

/// glibc's `malloc` adapts two thresholds to the largest block that it has seen freed. It never
/// sees the large blocks of a program here, so it would return the top of its heap to the kernel at
/// each 128 KiB freed, and fault it in again. So the trim threshold is set to what it would have
/// come to.
///
/// glibc has eight heaps for each core, and each of them keeps that much. Under a limit it gets one
/// heap for each core, and together they keep a 64th of the limit.
#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
const TRIM_BYTES: usize = 64 << 20;

/// The trim threshold is at least this: giving back less is not worth a system call.
#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
const TRIM_BYTES_MIN: usize = 128 << 10;

impl InnerPurge for System {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    fn prepare(&self, limit_bytes: usize) {
        let set = |what: libc::c_int, value: usize| {
            // At most 64 Mi or the number of cores.
            let value = value as libc::c_int;
            // SAFETY: mallopt has no preconditions and is thread-safe (mallopt(3)).
            unsafe { libc::mallopt(what, value) };
        };
        if limit_bytes == usize::MAX {
            return set(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
        }
        // SAFETY: no preconditions; the C library asks the kernel and allocates nothing.
        let cores = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }.clamp(1, 1024) as usize;
        set(libc::M_ARENA_MAX, cores);
        set(libc::M_TRIM_THRESHOLD, (limit_bytes / 64 / cores).clamp(TRIM_BYTES_MIN, TRIM_BYTES));
    }

    fn purge(&self) {
        crate::os::trim_heap();
    }
}

#[cfg(feature = "mimalloc")]
impl InnerPurge for mimalloc::MiMalloc {
    fn purge(&self) {
        unsafe extern "C" {
            fn mi_collect(force: bool);
        }
        // SAFETY: no preconditions; it collects the calling thread's heap and the shared arenas.
        unsafe { mi_collect(true) };
    }
}

#[cfg(feature = "jemalloc")]
impl InnerPurge for tikv_jemallocator::Jemalloc {
    fn purge(&self) {
        // 4096 stands for all arenas (MALLCTL_ARENAS_ALL).
        let name = c"arena.4096.purge".as_ptr();
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the name is a C string; this control neither reads nor writes a value.
        unsafe { tikv_jemalloc_sys::mallctl(name, none, std::ptr::null_mut(), none, 0) };
    }
}

/// Any allocator, with a function that makes it give memory back.
///
/// ```
/// use plimsoll_arena::global::{Global, Hooked};
/// use plimsoll_arena::PlainPages;
/// use std::alloc::System;
///
/// fn give_back() { /* mi_collect(true), mallctl("arena.4096.purge"), ... */ }
///
/// static ALLOC: Global<Hooked<System>> =
///     Global::new(Hooked::new(System, give_back), PlainPages);
/// # let _ = &ALLOC;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Hooked<A> {
    inner: A,
    purge: fn(),
}

impl<A> Hooked<A> {
    /// Pairs `inner` with `purge`, which must not call the process's global allocator.
    #[must_use]
    pub const fn new(inner: A, purge: fn()) -> Self {
        Self { inner, purge }
    }
}

impl<A> InnerPurge for Hooked<A> {
    fn purge(&self) {
        (self.purge)();
    }
}

// SAFETY: every call is passed on as it came.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Hooked<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        unsafe { self.inner.alloc(layout) }
    }
    #[inline]
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { self.inner.dealloc(start, layout) }
    }
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        unsafe { self.inner.alloc_zeroed(layout) }
    }
    #[inline]
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as the caller promised.
        unsafe { self.inner.realloc(start, layout, bytes) }
    }
}
