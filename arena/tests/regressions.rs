//! One test for each fault that was found in the arena by review, so that it stays found.

use plimsoll_arena::os::{Fake, FakeCall};
use plimsoll_arena::{Bump, Charge, Error, Ledger, Pool};
use std::sync::Arc;

fn small_pool(fake: &Arc<Fake>) -> Pool {
    Pool::builder().reserve_bytes(8 << 20).os(fake.clone()).build().expect("8 MiB")
}

/// Sizes near the end of the address space wrapped to a small chunk when rounded up, and the arena
/// then gave out a slice of that many bytes.
#[test]
fn a_bump_slice_larger_than_any_block_is_an_error() {
    let pool = small_pool(&Arc::new(Fake::new()));
    let bump = Bump::new(&pool);
    for len in [usize::MAX, usize::MAX - 4094, usize::MAX / 2, (1 << 42) + 1] {
        assert!(matches!(bump.try_alloc_zeroed::<u8>(len), Err(Error::TooLarge { .. })));
    }
    assert!(matches!(bump.try_alloc_zeroed::<u64>(usize::MAX / 8), Err(Error::TooLarge { .. })));
    assert!(bump.try_alloc_zeroed::<u64>(usize::MAX).is_err());
    assert_eq!(bump.held_bytes(), 0);
    assert_eq!(bump.alloc_zeroed::<u8>(5), [0; 5]);
}

/// A chunk was rounded up to a granule, over the limit.
#[test]
fn a_bump_arena_never_holds_more_than_its_limit() {
    let pool = small_pool(&Arc::new(Fake::new()));
    for limit_bytes in [0, 1000, (64 << 10) - 1, 64 << 10, 100_000, 200_000] {
        let bump = Bump::with_limit(&pool, limit_bytes);
        for len in [100, 10_000, 70_000, 30_000, 1] {
            let refused = bump.try_alloc_zeroed::<u8>(len).is_err();
            assert!(bump.held_bytes() <= limit_bytes, "{} held", bump.held_bytes());
            assert!(!refused || bump.held_bytes() + len.max(64 << 10) + 4096 > limit_bytes);
        }
    }
}

/// Asking a chunk for its length made a shared slice of bytes that were lent out. Miri saw it.
#[test]
fn bump_slices_stay_valid_while_the_arena_works() {
    let pool = small_pool(&Arc::new(Fake::new()));
    let bump = Bump::new(&pool);
    let first = bump.alloc_copy(&[1u64, 2, 3]);
    let second = bump.alloc_copy(&[4u64]);
    first[0] += bump.held_bytes() as u64;
    let third = bump.alloc_zeroed::<u64>(20_000);
    first[1] = 9;
    second[0] = 8;
    third[19_999] = 7;
    assert_eq!((first[1], second[0], third[19_999]), (9, 8, 7));
}

/// After a reset through a guard, the guard kept what was allocated after the reset.
#[test]
fn a_guard_that_was_reset_through_leaves_nothing_behind() {
    let pool = small_pool(&Arc::new(Fake::new()));
    let mut bump = Bump::new(&pool);
    bump.alloc_zeroed::<u8>(60_000);
    let outer = bump.held_bytes();
    {
        let mut stage = bump.checkpoint();
        stage.reset();
        stage.alloc_zeroed::<u8>(300_000);
    }
    assert_eq!(bump.held_bytes(), 0);
    bump.alloc_zeroed::<u8>(60_000);
    {
        let mut stage = bump.checkpoint();
        stage.alloc_zeroed::<u8>(300_000);
        drop(stage.checkpoint());
    }
    assert_eq!(bump.held_bytes(), outer, "and without a reset it stops at the checkpoint");
}

/// A reservation of nothing reached the OS, and one of everything wrapped to nothing.
#[test]
fn nonsense_reservations_make_a_pool_or_an_error() {
    for reserve_bytes in [0, 1, usize::MAX] {
        let os = Arc::new(Fake::new());
        if reserve_bytes == usize::MAX {
            // The fake's memory is real: only the first try may be this large.
            os.fail_randomly(1, 1024);
            assert!(Pool::builder().reserve_bytes(reserve_bytes).os(os).build().is_err());
            continue;
        }
        let pool = Pool::builder().reserve_bytes(reserve_bytes).os(os).build().expect("a pool");
        assert!(pool.stats().reserved_bytes > 0);
        drop(pool.try_zeroed::<u8>(64 << 10).expect("one block"));
        assert!(pool.check());
    }
}

/// Vectors on the ordinary heap were counted as allocated from blocks.
#[test]
fn small_vectors_are_not_bytes_of_blocks() {
    let pool = small_pool(&Arc::new(Fake::new()));
    let mut vector = pool.try_zeroed::<u64>(100).expect("heap");
    assert_eq!((pool.stats().allocated_bytes, pool.stats().held_bytes), (0, 0));
    vector.try_resize(20_000, 7).expect("a block");
    assert_eq!(pool.stats().allocated_bytes, vector.capacity() * 8);
    drop(vector);
    assert_eq!(pool.stats().allocated_bytes, 0);
}

/// A populate that failed halfway, and a decommit that failed after it, left memory that nobody
/// was charged for.
#[test]
fn memory_that_could_not_be_given_back_stays_charged() {
    let fake = Arc::new(Fake::new());
    let pool = small_pool(&fake);
    for bytes in [100_000, 150_000, 200_000] {
        fake.fail_after(FakeCall::Populate, 0);
        fake.fail_after(FakeCall::Decommit, 0);
        pool.try_zeroed::<u8>(bytes).expect_err("populate failed");
        let resident = pool.resident_bytes().expect("the fake knows");
        assert!(resident > 0 && resident <= pool.ledger().held_bytes());
        assert!(pool.check());
    }
    let mut vector = pool.try_zeroed::<u8>(200_000).expect("reused: no system call");
    fake.fail_after(FakeCall::Populate, 0);
    fake.fail_after(FakeCall::Decommit, 0);
    vector.try_reserve(12_000).expect_err("populate failed");
    assert!(pool.resident_bytes().expect("the fake knows") <= pool.ledger().held_bytes());
    assert!(pool.check());
    drop(vector);
    pool.reclaim(usize::MAX);
    assert_eq!(pool.ledger().held_bytes(), 0);
    assert_eq!(pool.resident_bytes().expect("the fake knows"), 0);
}

/// A soft charge of an impossible size wrapped the ledger.
#[test]
fn a_soft_charge_that_does_not_fit_a_number_is_refused() {
    let ledger = Ledger::with_limit(100);
    ledger.charge(1, Charge::Soft).expect("fits");
    ledger.charge(usize::MAX, Charge::Soft).expect_err("no such amount of memory");
    assert_eq!(ledger.held_bytes(), 1);
    assert_eq!((ledger.stats().missed, ledger.stats().refused), (0, 1));
}

/// A recount next to working threads says "cannot tell", and never "broken".
#[test]
fn a_check_beside_other_threads_never_cries_wolf() {
    let pool = small_pool(&Arc::new(Fake::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..if cfg!(miri) { 10 } else { 2000 } {
                    drop(pool.try_with_capacity::<u8>(64 << 10));
                }
            });
        }
        for _ in 0..if cfg!(miri) { 40 } else { 2000 } {
            pool.check();
        }
    });
    assert!(pool.check());
}
