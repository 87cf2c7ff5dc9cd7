//! A pool that wipes leaves no byte of a dropped secret, neither in its blocks nor on the heap.
//!
//! Blocks are looked at from below: the OS the pool was built on remembers the ranges it gave, and
//! reads them while no vector lives. The heap is looked at by the process's global allocator, at
//! the moment memory is freed. A pool that does not wipe shows that both looks see what they
//! should.

use plimsoll_arena::os::{Fake, Os, OsError};
use plimsoll_arena::{Bump, Pool, Secrecy};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A secret of eight equal bytes is found at any offset.
const SECRET: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// No other allocation of this test has an odd size in this range.
const HEAP_BYTES: usize = 7_919;

/// Pages of the secret in memory of `HEAP_BYTES` as it was freed.
static FREED_SECRETS: AtomicUsize = AtomicUsize::new(0);

/// Frees of memory of `HEAP_BYTES`.
static FREED: AtomicUsize = AtomicUsize::new(0);

struct Spy;

// SAFETY: all memory is the system's; a free of the watched size is read before it goes.
unsafe impl GlobalAlloc for Spy {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        if layout.size() == HEAP_BYTES {
            FREED.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the tests below write all of every allocation of this size.
            let bytes = unsafe { std::slice::from_raw_parts(start, HEAP_BYTES) };
            FREED_SECRETS.fetch_add(secrets(bytes), Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is the system's.
        unsafe { System.dealloc(start, layout) };
    }
}

#[global_allocator]
static SPY: Spy = Spy;

/// Counts the pages with a byte of the secret in them.
fn secrets(bytes: &[u8]) -> usize {
    const ZEROES: &[u8] = &[0; 4096];
    // Most pages are zero, and two slices are compared at once, which Miri is glad of.
    let dirty = bytes.chunks(4096).filter(|page| *page != ZEROES);
    dirty.filter(|page| page.contains(&(SECRET as u8))).count()
}

/// The fake OS, with a memory of what it reserved. Addresses are kept as pointers with the rights
/// the reservation gave.
#[derive(Debug, Default)]
struct Watched {
    fake: Fake,
    ranges: Mutex<Vec<(NonNull<u8>, usize)>>,
}

// SAFETY: the pointers are to memory that any thread may read while no vector lives.
unsafe impl Send for Watched {}
// SAFETY: as above.
unsafe impl Sync for Watched {}

impl Watched {
    /// Counts the pages with a byte of the secret, in all reservations.
    ///
    /// # Safety
    ///
    /// No vector of the pool lives, and no other thread uses the pool.
    unsafe fn secrets(&self) -> usize {
        let ranges = self.ranges.lock().expect("one thread");
        let count = |(start, bytes): &(NonNull<u8>, usize)| {
            // SAFETY: the fake's reservations are heap memory, all of it initialised, which nobody
            // writes during this call, as the caller says.
            secrets(unsafe { std::slice::from_raw_parts(start.as_ptr(), *bytes) })
        };
        ranges.iter().map(count).sum()
    }
}

// SAFETY: every call is the fake's.
unsafe impl Os for Watched {
    fn page_bytes(&self) -> usize {
        self.fake.page_bytes()
    }
    fn reserve(&self, bytes: usize, align: usize) -> Result<NonNull<u8>, OsError> {
        let start = self.fake.reserve(bytes, align)?;
        // The table of records, which is small, is not for secrets.
        if bytes >= RESERVE_BYTES {
            self.ranges.lock().expect("one thread").push((start, bytes));
        }
        Ok(start)
    }
    unsafe fn release(&self, base: NonNull<u8>, bytes: usize) {
        self.ranges.lock().expect("one thread").retain(|range| range.0 != base);
        // SAFETY: the caller's promise is the fake's.
        unsafe { self.fake.release(base, bytes) };
    }
    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the fake's.
        unsafe { self.fake.commit(start, bytes) }
    }
    unsafe fn populate(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the fake's.
        unsafe { self.fake.populate(start, bytes) }
    }
    unsafe fn decommit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the fake's.
        unsafe { self.fake.decommit(start, bytes) }
    }
    unsafe fn advise_huge(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise is the fake's.
        unsafe { self.fake.advise_huge(start, bytes) };
    }
    unsafe fn page_out(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the fake's.
        unsafe { self.fake.page_out(start, bytes) }
    }
    unsafe fn page_in(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the fake's.
        unsafe { self.fake.page_in(start, bytes) }
    }
    unsafe fn mapped_bytes(&self, start: NonNull<u8>, bytes: usize) -> Result<usize, OsError> {
        // SAFETY: the caller's promise is the fake's.
        unsafe { self.fake.mapped_bytes(start, bytes) }
    }
    unsafe fn resident_bytes(&self, start: NonNull<u8>, bytes: usize) -> Result<usize, OsError> {
        // SAFETY: the caller's promise is the fake's.
        unsafe { self.fake.resident_bytes(start, bytes) }
    }
}

const RESERVE_BYTES: usize = 4 << 20;

fn pool(secrecy: Secrecy) -> (Pool, Arc<Watched>) {
    let os = Arc::new(Watched::default());
    let builder = Pool::builder().os(os.clone()).reserve_bytes(RESERVE_BYTES).secrecy(secrecy);
    (builder.build().expect("4 MiB"), os)
}

/// Writes secrets in every way a vector can be written, shortened, moved and dropped.
fn work_with_secrets(pool: &Pool) {
    drop(pool.try_filled(20_000, SECRET).expect("filled"));

    let mut shortened = pool.try_copied(&vec![SECRET; 50_000]).expect("copied");
    shortened.truncate(3);
    drop(shortened);

    let mut cleared = pool.try_zeroed::<u64>(30_001).expect("zeroed");
    cleared.fill(SECRET);
    cleared.clear();
    cleared.try_push(1).expect("room");
    drop(cleared);

    // Moves from the heap through blocks: each home it leaves is wiped.
    let mut moving = pool.try_with_capacity(1).expect("one");
    for _ in 0..40_000 {
        moving.try_push(SECRET).expect("pushed");
    }
    assert_eq!(moving.pop(), Some(SECRET));
    drop(moving);

    let bump = Bump::new(pool);
    bump.alloc_copy(&[SECRET; 1000]);
    bump.alloc_zeroed::<u64>(10_000).fill(SECRET);
    drop(bump);
}

#[test]
fn blocks_hold_no_byte_of_a_dropped_secret() {
    for (secrecy, expected) in [(Secrecy::Public, true), (Secrecy::Secret, false)] {
        let (pool, os) = pool(secrecy);
        work_with_secrets(&pool);
        assert!(pool.stats().cached_bytes > 0, "the blocks are still there");
        // SAFETY: all vectors were dropped, and the pool is this thread's.
        let found = unsafe { os.secrets() };
        assert_eq!(found > 0, expected, "{secrecy:?}: {found} pages of the secret");
        assert!(pool.check());
    }
}

#[test]
fn a_block_that_cannot_be_given_back_is_wiped_all_the_same() {
    let (pool, os) = pool(Secrecy::Secret);
    let vector = pool.try_filled(20_000, SECRET).expect("filled");
    pool.ledger().set_limit(1);
    os.fake.fail_after(plimsoll_arena::os::FakeCall::Decommit, 0);
    drop(vector);
    assert_eq!(pool.stats().released_over_limit_bytes, 0, "the decommit failed");
    // SAFETY: the vector was dropped, and the pool is this thread's.
    assert_eq!(unsafe { os.secrets() }, 0);
}

#[test]
fn heap_memory_holds_no_byte_of_a_dropped_secret() {
    let mut seen = 0;
    for (secrecy, expected) in [(Secrecy::Public, true), (Secrecy::Secret, false)] {
        let (pool, _os) = pool(secrecy);
        let before = FREED_SECRETS.load(Ordering::Relaxed);
        let mut vector = pool.try_filled(HEAP_BYTES, SECRET as u8).expect("filled");
        vector.truncate(5);
        drop(vector);
        #[cfg(feature = "allocator-api2-02")]
        {
            use allocator_api2::vec::Vec as ApiVec;
            let mut vector = ApiVec::with_capacity_in(HEAP_BYTES, pool.clone());
            vector.resize(HEAP_BYTES, SECRET as u8);
            drop(vector);
            seen += 1;
        }
        seen += 1;
        assert_eq!(FREED.load(Ordering::Relaxed), seen, "the spy looked");
        let found = FREED_SECRETS.load(Ordering::Relaxed) - before;
        assert_eq!(found > 0, expected, "{secrecy:?}: {found} pages of the secret");
    }
}
