//! Seeded programs of alloc, zeroed alloc, realloc and dealloc against the global allocator as an
//! ordinary value, with every block's contents and addresses checked, on the kernel's pages and on
//! a fake source that fails.

#![expect(clippy::multiple_unsafe_ops_per_block, reason = "short programs of allocator calls")]

mod common;
mod global_common;

use common::{InUse, Rng, run_programs, unless_miri};
use global_common::{FakePages, out_of_memory};
#[cfg(not(miri))]
use plimsoll_arena::PlainPages;
use plimsoll_arena::global::{BLOCK_BYTES_MIN, Global, Hooked};
use plimsoll_arena::os::OsError;
#[cfg(not(miri))]
use plimsoll_arena::process::AccountRef;
use plimsoll_arena::{Moved, PageSource, Pages};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
#[cfg(not(miri))]
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Blocks from 1 byte to this many.
const BYTES_MAX: usize = unless_miri(12 << 20, 3 << 20);
const STEPS: usize = unless_miri(400, 25);
const RESERVE_BYTES: usize = unless_miri(512 << 20, 64 << 20);

fn no_purge() {}

type Tested<P> = Global<Hooked<System>, P>;

fn global<P: PageSource>(pages: P) -> Tested<P> {
    Global::with_reserve(Hooked::new(System, no_purge), pages, RESERVE_BYTES)
}

/// An allocation and what it was filled with.
struct Owned {
    start: NonNull<u8>,
    layout: Layout,
    id: u64,
}

impl Owned {
    fn marks(bytes: usize) -> impl Iterator<Item = usize> {
        let step = if bytes <= 1 << 16 { 8 } else { 4096 };
        let (end, middle) = (bytes / 8 * 8, bytes / 16 * 8);
        (0..end).step_by(step).chain(middle.checked_sub(8)).chain(end.checked_sub(8))
    }

    fn fill(&self) {
        for at in Self::marks(self.layout.size()) {
            // SAFETY: the offset and eight bytes more lie inside the allocation.
            let mark = unsafe { self.start.as_ptr().add(at) }.cast::<u64>();
            // SAFETY: as above; unaligned writes need no alignment.
            unsafe { mark.write_unaligned(self.id) };
        }
    }

    /// Checks the first `bytes` against what was filled in over `filled` bytes.
    fn verify(&self, bytes: usize, filled: usize) {
        let start = self.start.as_ptr();
        assert_eq!(start as usize % self.layout.align(), 0, "aligned to {}", self.layout.align());
        for at in Self::marks(filled).filter(|at| at + 8 <= bytes) {
            // SAFETY: inside the allocation.
            let mark = unsafe { start.add(at) }.cast::<u64>();
            // SAFETY: as above; the mark was written.
            assert_eq!(unsafe { mark.read_unaligned() }, self.id, "at {at} of {filled}");
        }
    }

    fn verify_zero(&self) {
        let bytes = self.layout.size();
        for at in (0..bytes).step_by(if bytes < 4096 { 1 } else { 512 }).chain([bytes - 1]) {
            // SAFETY: inside the allocation.
            let byte = unsafe { self.start.as_ptr().add(at) };
            // SAFETY: a zeroed allocation is initialised.
            assert_eq!(unsafe { byte.read() }, 0, "byte {at} of {bytes} is zero");
        }
    }

    fn range(&self) -> std::ops::Range<usize> {
        let start = self.start.as_ptr() as usize;
        start..start + self.layout.size()
    }
}

fn layout(rng: &mut Rng) -> Layout {
    let bytes = match rng.below(4) {
        // Often around the two thresholds and whole huge pages.
        0 => [64 << 10, 2 << 20, 4 << 20, (6 << 20) + 4096][rng.below(4)] + rng.below(3) - 1,
        _ => rng.size(BYTES_MAX),
    };
    let align = if rng.one_in(3) { 1 << rng.below(23) } else { 8 };
    Layout::from_size_align(bytes.clamp(1, BYTES_MAX), align).expect("a sound layout")
}

/// Whether a program is the only one of its allocator.
#[derive(Clone, Copy, PartialEq)]
enum Alone {
    Yes,
    No,
}

/// The bound of the policy, which holds after each call of a single thread. `shared` is the most
/// that was seen of it; inside a call that copies there may be two huge pages more.
fn assert_held<P: PageSource>(tested: &Tested<P>, shared: &mut usize) {
    let stats = tested.stats();
    *shared = (*shared).max(stats.shared_bytes);
    let ceiling = stats.live_peak_bytes + (stats.live_peak_bytes / 64).max(1 << 20);
    assert!(stats.held_bytes <= ceiling + *shared + (4 << 20), "{shared} {stats:?}");
    assert_eq!(stats.held_bytes, stats.live_bytes + stats.cached_bytes + stats.shared_bytes);
}

/// One thread's program; returns with everything freed.
fn program<P: PageSource>(
    tested: &Tested<P>,
    rng: &mut Rng,
    in_use: &InUse,
    live_max: usize,
    alone: Alone,
) {
    static IDS: AtomicU64 = AtomicU64::new(1);
    let mut owned: Vec<Owned> = Vec::new();
    let mut shared = 0;
    for _ in 0..STEPS {
        if alone == Alone::Yes {
            assert_held(tested, &mut shared);
        }
        let live: usize = owned.iter().map(|o| o.layout.size()).sum();
        let choice = if live > live_max { 9 } else { rng.below(10) };
        if owned.is_empty() || choice < 4 {
            let (layout, zeroed) = (layout(rng), rng.one_in(3));
            // SAFETY: the layout has a size.
            let start =
                unsafe { if zeroed { tested.alloc_zeroed(layout) } else { tested.alloc(layout) } };
            let Some(start) = NonNull::new(start) else { continue };
            let new = Owned { start, layout, id: IDS.fetch_add(1, Relaxed) };
            in_use.enter(new.range());
            if zeroed {
                new.verify_zero();
            }
            new.fill();
            owned.push(new);
        } else if choice < 7 {
            let at = rng.below(owned.len());
            let old = &mut owned[at];
            let bytes = match rng.below(3) {
                0 => (old.layout.size() * 2).min(4 * BYTES_MAX),
                1 => (old.layout.size() / (1 + rng.below(40))).max(1),
                _ => layout(rng).size(),
            };
            old.verify(old.layout.size(), old.layout.size());
            in_use.leave(old.range());
            // SAFETY: the allocation with its layout, and a size above zero.
            let start = unsafe { tested.realloc(old.start.as_ptr(), old.layout, bytes) };
            let Some(start) = NonNull::new(start) else {
                in_use.enter(old.range());
                continue;
            };
            let before = old.layout.size();
            let layout = Layout::from_size_align(bytes, old.layout.align()).expect("sound");
            *old = Owned { start, layout, id: old.id };
            in_use.enter(old.range());
            old.verify(bytes.min(before), before);
            old.fill();
        } else {
            let old = owned.swap_remove(rng.below(owned.len()));
            old.verify(old.layout.size(), old.layout.size());
            in_use.leave(old.range());
            // SAFETY: the allocation with its layout, for the last time.
            unsafe { tested.dealloc(old.start.as_ptr(), old.layout) };
        }
    }
    for old in owned {
        old.verify(old.layout.size(), old.layout.size());
        in_use.leave(old.range());
        // SAFETY: the allocation with its layout, for the last time.
        unsafe { tested.dealloc(old.start.as_ptr(), old.layout) };
    }
}

#[test]
fn programs_on_fake_pages() {
    run_programs("programs_on_fake_pages", 12, |rng| {
        let tested = global(FakePages::default());
        program(&tested, rng, &InUse::default(), 100 << 20, Alone::Yes);
        assert_eq!(tested.check(), Ok(()));
        assert_eq!(tested.stats().live_bytes, 0);
        tested.reclaim(usize::MAX);
        let stats = tested.stats();
        assert_eq!((stats.held_bytes, stats.cached_bytes), (0, 0), "everything goes back");
        assert_eq!(tested.check(), Ok(()));
        let pages = tested.pages();
        let (freed, reused) = (&pages.freed_bytes, &pages.reused_bytes);
        assert_eq!(freed.load(Relaxed), reused.load(Relaxed), "each block is told of twice");
    });
}

#[test]
fn a_table_gives_back_what_lies_inside_large_free_extents() {
    let tested = global(FakePages::default());
    let mib = 1 << 20;
    for (bytes, count) in [(mib, 8), (3 * mib, 14)] {
        let layout = Layout::from_size_align(bytes, 8).expect("sound");
        for round in 0..2 {
            // SAFETY: the size is above zero.
            let blocks: Vec<*mut u8> =
                (0..count).map(|_| unsafe { tested.alloc(layout) }).collect();
            assert_eq!(tested.check(), Ok(()));
            for block in blocks {
                // SAFETY: allocated above with this layout.
                unsafe { tested.dealloc(block, layout) };
            }
            let before = tested.pages().table_stale.load(Relaxed);
            tested.reclaim(usize::MAX);
            let given = tested.pages().table_stale.load(Relaxed) - before;
            // 16 bytes for 4 KiB of small blocks, and for 64 KiB of large ones, but for the ends.
            assert!(given >= 4096, "round {round} of {bytes}: {given}");
            assert_eq!(tested.check(), Ok(()));
        }
    }
}

#[test]
fn programs_on_pages_that_fail() {
    run_programs("programs_on_pages_that_fail", 12, |rng| {
        let moves = [Moved::Refused, Moved::OriginLost, Moved::DestinationLost];
        let mut pages = FakePages::default();
        pages.commits_left = rng.one_in(2).then(|| AtomicU64::new(rng.next() % 4));
        pages.decommits_fail = rng.one_in(2);
        pages.moves_become = Some(moves[rng.below(3)]);
        let tested = global(pages);
        program(&tested, rng, &InUse::default(), 60 << 20, Alone::No);
        assert_eq!(tested.check(), Ok(()));
        assert_eq!(tested.stats().live_bytes, 0);
    });
}

#[test]
fn programs_on_fake_pages_by_threads() {
    run_programs("programs_on_fake_pages_by_threads", 4, |rng| {
        let (tested, in_use) = (global(FakePages::default()), InUse::default());
        let threads = unless_miri(4, 2);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (mut rng, tested, in_use) = (Rng::new(rng.next()), &tested, &in_use);
                scope.spawn(move || program(tested, &mut rng, in_use, 20 << 20, Alone::No));
            }
            // Reclaim points run beside them.
            for _ in 0..threads {
                tested.reclaim(3 << 20);
                std::thread::yield_now();
            }
        });
        assert!(in_use.is_empty());
        assert_eq!(tested.check(), Ok(()));
        assert_eq!(tested.stats().live_bytes, 0);
    });
}

#[test]
#[cfg(not(miri))]
fn programs_on_the_kernels_pages_by_many_threads() {
    run_programs("programs_on_the_kernels_pages_by_many_threads", 6, |rng| {
        let tested = global(PlainPages).on(AccountRef::alone());
        let in_use = InUse::default();
        let threads = [1, 2, 4, 16][rng.below(4)];
        let live_max = (200 << 20) / threads;
        if rng.one_in(2) {
            tested.set_limit((20 << 20) * (1 + rng.below(20)));
        }
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (mut rng, tested, in_use) = (Rng::new(rng.next()), &tested, &in_use);
                scope.spawn(move || program(tested, &mut rng, in_use, live_max, Alone::No));
            }
        });
        assert!(in_use.is_empty());
        assert_eq!(tested.check(), Ok(()));
        assert_eq!(tested.stats().live_bytes, 0);
        tested.reclaim(usize::MAX);
        assert_eq!(tested.stats().held_bytes, 0);
    });
}

#[test]
fn a_freed_block_serves_smaller_ones_without_fresh_pages() {
    let tested = global(FakePages::default());
    let (mib, layout) = (1 << 20, |bytes| Layout::from_size_align(bytes, 8).expect("sound"));
    // SAFETY: sizes are above zero, and each pointer is freed once with its layout.
    unsafe {
        let big = tested.alloc(layout(16 * mib));
        tested.dealloc(big, layout(16 * mib));
        let fresh = tested.stats().fresh_bytes;
        let parts = [tested.alloc(layout(12 * mib)), tested.alloc(layout(4 * mib))];
        assert_eq!(parts[0], big);
        assert_eq!(tested.stats().fresh_bytes, fresh, "12 and 4 fit where 16 was");
        tested.dealloc(parts[1], layout(4 * mib));
        tested.dealloc(parts[0], layout(12 * mib));
        assert_eq!(tested.alloc(layout(16 * mib)), big, "and 16 again");
        tested.dealloc(big, layout(16 * mib));
    }
    assert_eq!(tested.stats().held_bytes, 16 << 20);
}

#[test]
fn cached_pages_never_raise_the_peak() {
    let tested = global(FakePages::default());
    let layout = |bytes| Layout::from_size_align(bytes, 8).expect("sound");
    let mib = 1 << 20;
    // SAFETY: sizes are above zero, and each pointer is freed once with its layout.
    unsafe {
        // Two holes of 6 MiB between blocks in use: 8 MiB fit in neither.
        let blocks: Vec<_> = (0..5).map(|_| tested.alloc(layout(6 * mib))).collect();
        tested.dealloc(blocks[1], layout(6 * mib));
        tested.dealloc(blocks[3], layout(6 * mib));
        let wide = tested.alloc(layout(8 * mib));
        assert_held(&tested, &mut 0);
        assert!(tested.pages().decommits.load(Relaxed) > 0, "cached pages paid for the fresh");
        tested.dealloc(wide, layout(8 * mib));
        for at in [0, 2, 4] {
            tested.dealloc(blocks[at], layout(6 * mib));
        }
    }
    assert_eq!(tested.check(), Ok(()));
}

#[test]
fn zeroed_blocks_skip_what_is_zero_and_fill_what_is_not() {
    let tested = global(FakePages::default());
    let layout = Layout::from_size_align(BLOCK_BYTES_MIN, 8).expect("sound");
    // SAFETY: the size is above zero, and each pointer is freed once with its layout.
    unsafe {
        let fresh = tested.alloc_zeroed(layout);
        assert_eq!(tested.stats().zero_skipped_bytes, BLOCK_BYTES_MIN as u64);
        fresh.write_bytes(7, BLOCK_BYTES_MIN);
        tested.dealloc(fresh, layout);
        let recycled = tested.alloc_zeroed(layout);
        assert_eq!(recycled, fresh);
        assert!((0..BLOCK_BYTES_MIN).all(|at| recycled.add(at).read() == 0));
        assert_eq!(tested.stats().zero_skipped_bytes, BLOCK_BYTES_MIN as u64);
        tested.dealloc(recycled, layout);
    }
}

#[test]
fn a_machine_without_addresses_is_served_by_the_inner_allocator() {
    struct Nothing;
    // SAFETY: it never gives anything.
    unsafe impl PageSource for Nothing {
        fn reserve(&self, bytes: usize, _: usize) -> Result<(NonNull<u8>, usize), OsError> {
            Err(out_of_memory(bytes))
        }
        unsafe fn commit(&self, _: NonNull<u8>, n: usize, _: Pages) -> Result<(), OsError> {
            Err(out_of_memory(n))
        }
        unsafe fn decommit(&self, _: NonNull<u8>, n: usize) -> Result<(), OsError> {
            Err(out_of_memory(n))
        }
    }
    let tested = global(Nothing);
    program(&tested, &mut Rng::new(1), &InUse::default(), 40 << 20, Alone::No);
    assert_eq!(tested.stats().blocks, 0);
    assert_eq!(tested.reclaim(usize::MAX), 0);
}

#[test]
#[cfg(not(miri))]
fn the_inner_allocator_is_purged_when_the_pages_are_not_enough() {
    static PURGES: AtomicUsize = AtomicUsize::new(0);
    fn count() {
        PURGES.fetch_add(1, Relaxed);
    }
    let tested = Global::with_reserve(Hooked::new(System, count), PlainPages, RESERVE_BYTES);
    let layout = Layout::from_size_align(4 << 20, 8).expect("sound");
    // SAFETY: the size is above zero; the block is freed with its layout.
    unsafe {
        let start = tested.alloc_zeroed(layout);
        assert!(!start.is_null());
        start.write_bytes(1, layout.size());
        tested.dealloc(start, layout);
    }
    assert!(tested.reclaim(1 << 20) >= 1 << 20, "{:?}", tested.stats());
    assert_eq!(PURGES.load(Relaxed), 0, "the cached pages are enough");
    tested.reclaim(usize::MAX);
    assert_eq!(PURGES.load(Relaxed), 1);
}

#[test]
#[cfg(not(miri))]
fn a_long_vector_grows_by_moving_its_pages() {
    let tested = global(PlainPages);
    let layout = |bytes| Layout::from_size_align(bytes, 8).expect("sound");
    let mib = 1 << 20;
    let mut owned = Vec::new();
    for id in 1..=3u64 {
        // SAFETY: the size is above zero.
        let start = NonNull::new(unsafe { tested.alloc(layout(17 * mib)) }).expect("17 MiB");
        owned.push(Owned { start, layout: layout(17 * mib), id });
        owned[owned.len() - 1].fill();
    }
    // Each is followed by another, so none can grow where it is.
    for step in 1..5 {
        for old in &mut owned {
            let (before, bytes) = (old.layout.size(), (17 + 9 * step) * mib);
            // SAFETY: the allocation with its layout, and a size above zero.
            let start = unsafe { tested.realloc(old.start.as_ptr(), old.layout, bytes) };
            old.start = NonNull::new(start).expect("room");
            old.layout = layout(bytes);
            old.verify(before, before);
            old.fill();
            assert_eq!(tested.check(), Ok(()));
        }
    }
    let stats = tested.stats();
    assert!(stats.moved_bytes > 100 << 20, "{stats:?}");
    assert!(stats.copied_bytes < stats.moved_bytes, "{stats:?}");
    for old in owned {
        old.verify(old.layout.size(), old.layout.size());
        // SAFETY: the allocation with its layout, for the last time.
        unsafe { tested.dealloc(old.start.as_ptr(), old.layout) };
    }
    tested.reclaim(usize::MAX);
    assert_eq!(tested.stats().held_bytes, 0, "{:?}", tested.stats());
}
