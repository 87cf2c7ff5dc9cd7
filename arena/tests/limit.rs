//! The limit, path by path: each test has the other paths switched off and finds its counter above
//! zero, so that a path which no longer works cannot hide behind another.

use plimsoll_arena::os::Fake;
use plimsoll_arena::process::{Account, AccountRef, Owner, Source};
use plimsoll_arena::{Charge, Error, Ledger, OverLimitRelease, Pool, PoolVec, Pressure};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

const MIB: usize = 1 << 20;

fn pool_on(ledger: &Arc<Ledger>, policy: OverLimitRelease) -> Pool {
    let builder = Pool::builder().os(Arc::new(Fake::new())).reserve_bytes(32 * MIB);
    builder.ledger(Arc::clone(ledger)).over_limit_release(policy).build().expect("32 MiB")
}

/// A hook that reclaims from one pool.
#[derive(Default)]
struct Reclaimer {
    pool: Mutex<Option<Pool>>,
    calls: AtomicUsize,
    asked_bytes: AtomicUsize,
    freed_bytes: AtomicUsize,
}

impl Pressure for Reclaimer {
    fn relieve(&self, short_bytes: usize) -> usize {
        let pool = self.pool.lock().expect("no panic under this lock").clone();
        let freed = pool.map_or(0, |pool| pool.reclaim(short_bytes));
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.asked_bytes.fetch_add(short_bytes, Ordering::Relaxed);
        self.freed_bytes.fetch_add(freed, Ordering::Relaxed);
        freed
    }

    fn limit_changed(&self, excess_bytes: usize) {
        self.relieve(excess_bytes);
    }
}

/// Takes the pool out of its own hook when dropped: pool, ledger and hook hold each other.
struct Parted(Arc<Reclaimer>);

impl Drop for Parted {
    fn drop(&mut self) {
        self.0.pool.lock().expect("no panic under this lock").take();
    }
}

impl std::ops::Deref for Parted {
    type Target = Reclaimer;
    fn deref(&self) -> &Reclaimer {
        &self.0
    }
}

fn connected(limit_bytes: usize) -> (Arc<Ledger>, Pool, Parted) {
    let ledger = Arc::new(Ledger::with_limit(limit_bytes));
    let pool = pool_on(&ledger, OverLimitRelease::Keep);
    let hook = Arc::new(Reclaimer::default());
    *hook.pool.lock().expect("no panic under this lock") = Some(pool.clone());
    assert!(ledger.connect(hook.clone()));
    (ledger, pool, Parted(hook))
}

/// A hook that gives cached blocks back, and where there are none lets a vector leave, whose block
/// is cached then: as the ladder does with spillable vectors.
#[derive(Default)]
struct Evictor {
    pool: Mutex<Option<Pool>>,
    resident: Mutex<Vec<PoolVec<u8>>>,
    calls: AtomicUsize,
}

impl Pressure for Evictor {
    fn relieve(&self, short_bytes: usize) -> usize {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let pool = self.pool.lock().expect("no panic under this lock").clone();
        let freed = pool.map_or(0, |pool| pool.reclaim(short_bytes));
        if freed > 0 {
            return freed;
        }
        let mut resident = self.resident.lock().expect("no panic under this lock");
        let stay = resident.len() - short_bytes.div_ceil(MIB).min(resident.len());
        resident.drain(stay..).map(|vector| vector.len()).sum()
    }

    fn limit_changed(&self, excess_bytes: usize) {
        self.relieve(excess_bytes);
    }
}

#[test]
fn a_vector_that_leaves_hands_its_pages_to_one_that_comes() {
    let ledger = Arc::new(Ledger::with_limit(4 * MIB));
    let pool = pool_on(&ledger, OverLimitRelease::GiveBack);
    let hook = Arc::new(Evictor::default());
    *hook.pool.lock().expect("no panic under this lock") = Some(pool.clone());
    assert!(ledger.connect(hook.clone()));
    let vectors = (0..4).map(|_| pool.try_zeroed::<u8>(MIB).expect("fits")).collect();
    *hook.resident.lock().expect("no panic under this lock") = vectors;
    let before = pool.stats();
    let same = pool.try_zeroed::<u8>(MIB).expect("in place of another");
    let after = pool.stats();
    assert_eq!(hook.calls.load(Ordering::Relaxed), 1);
    assert_eq!(after.committed_total_bytes, before.committed_total_bytes);
    assert_eq!(after.reclaimed_total_bytes, before.reclaimed_total_bytes);
    assert_eq!(after.reused, before.reused + 1);
    // A block of another class has no use for what came free: it asks again, and that goes.
    let larger = pool.try_zeroed::<u8>(2 * MIB).expect("in place of two");
    assert_eq!(pool.stats().committed_total_bytes, before.committed_total_bytes + 2 * MIB as u64);
    assert_eq!(ledger.held_bytes(), 4 * MIB);
    assert!(pool.check());
    drop((same, larger));
    hook.resident.lock().expect("no panic under this lock").clear();
    hook.pool.lock().expect("no panic under this lock").take();
}

#[test]
fn relief_alone_makes_room_out_of_cached_blocks() {
    let (ledger, pool, hook) = connected(4 * MIB);
    // 3 MiB cached in one class, then 2 MiB asked for in another: 1 MiB short.
    let cached: Vec<_> = (0..3).map(|_| pool.try_zeroed::<u8>(MIB).expect("fits")).collect();
    drop(cached);
    let vector = pool.try_zeroed::<u8>(2 * MIB).expect("after relief");
    assert_eq!(hook.calls.load(Ordering::Relaxed), 1);
    assert_eq!(hook.asked_bytes.load(Ordering::Relaxed), MIB);
    assert_eq!(hook.freed_bytes.load(Ordering::Relaxed), MIB);
    assert_eq!(ledger.held_bytes(), 4 * MIB);
    let stats = ledger.stats();
    assert_eq!((stats.relief_calls, stats.refused, stats.missed), (1, 0, 0));
    assert_eq!(pool.stats().released_over_limit_bytes, 0);
    assert_eq!(pool.stats().reclaimed_total_bytes, MIB as u64);
    drop(vector);
    assert!(pool.check());
}

#[test]
fn without_need_nothing_is_relieved_or_given_back() {
    let (ledger, pool, hook) = connected(4 * MIB);
    for _ in 0..100 {
        drop(pool.try_zeroed::<u8>(4 * MIB).expect("exactly fits, and is reused"));
    }
    assert_eq!(hook.calls.load(Ordering::Relaxed), 0);
    assert_eq!(pool.stats().reclaimed_total_bytes, 0);
    assert_eq!((pool.stats().acquired, pool.stats().reused), (100, 99));
    assert_eq!(ledger.stats().peak_bytes, 4 * MIB);
}

#[test]
fn refusal_alone_names_its_numbers_and_changes_nothing() {
    let ledger = Arc::new(Ledger::with_limit(2 * MIB));
    let pool = pool_on(&ledger, OverLimitRelease::Keep);
    let held = pool.try_zeroed::<u8>(MIB).expect("fits");
    let before = pool.stats();
    let error = pool.try_with_capacity::<u64>(MIB / 4).expect_err("2 MiB more is 1 MiB too many");
    let Error::OverLimit(refused) = error else { panic!("{error}") };
    assert_eq!((refused.asked_bytes, refused.short_bytes), (2 * MIB, MIB));
    assert_eq!((refused.held_bytes, refused.limit_bytes), (MIB, 2 * MIB));
    assert!(Error::OverLimit(refused).to_string().contains("raise the limit"));
    let stats = ledger.stats();
    assert_eq!((stats.refused, stats.missed, stats.relief_calls), (1, 0, 0));
    assert_eq!(pool.stats().held_bytes, before.held_bytes);
    assert_eq!(pool.stats().acquired, before.acquired);
    drop(held);
    assert!(pool.check());
}

#[test]
fn a_refused_vector_is_unchanged() {
    let ledger = Arc::new(Ledger::with_limit(MIB));
    let pool = pool_on(&ledger, OverLimitRelease::Keep);
    let mut vector = pool.try_filled(MIB / 8, 7u64).expect("exactly fits");
    assert!(matches!(vector.try_push(1), Err(Error::OverLimit(_))));
    assert!(matches!(vector.try_resize(MIB, 1), Err(Error::OverLimit(_))));
    assert!(vector.try_extend_from_slice(&[1; 10]).is_err());
    assert_eq!((vector.len(), ledger.held_bytes()), (MIB / 8, MIB));
    assert!(vector.iter().all(|element| *element == 7));
    assert!(ledger.stats().refused >= 3);
}

#[test]
fn misses_alone_let_soft_charges_through_and_count_them() {
    let ledger = Arc::new(Ledger::with_limit(MIB));
    let pool = pool_on(&ledger, OverLimitRelease::Keep);
    let vector = pool.zeroed_over_limit::<u8>(3 * MIB);
    assert_eq!((ledger.held_bytes(), ledger.excess_bytes()), (3 * MIB, 2 * MIB));
    let stats = ledger.stats();
    assert_eq!((stats.missed, stats.refused, stats.relief_calls), (1, 0, 0));
    assert_eq!((stats.peak_bytes, ledger.headroom_bytes()), (3 * MIB, 0));
    drop(vector);
    assert_eq!(ledger.held_bytes(), 3 * MIB, "kept, as the policy says");
    assert_eq!(pool.stats().released_over_limit_bytes, 0);
}

#[test]
fn release_over_the_limit_alone_gives_back_at_drop() {
    let ledger = Arc::new(Ledger::new());
    let pool = pool_on(&ledger, OverLimitRelease::GiveBack);
    let vectors: Vec<_> = (0..4).map(|_| pool.try_zeroed::<u8>(MIB).expect("no limit")).collect();
    assert_eq!(ledger.set_limit(5 * MIB / 2), usize::MAX);
    assert_eq!(ledger.held_bytes(), 4 * MIB, "a lower limit gives nothing back by itself");
    drop(vectors);
    // The first two drops found 4 and 3 MiB held; the third found 2 and kept its block.
    assert_eq!(pool.stats().released_over_limit_bytes, 2 * MIB as u64);
    assert_eq!((pool.stats().cached_bytes, ledger.held_bytes()), (2 * MIB, 2 * MIB));
    let stats = ledger.stats();
    assert_eq!((stats.missed, stats.refused, stats.relief_calls), (0, 0, 0));
    assert!(pool.check());
}

#[test]
fn bytes_of_others_count_against_the_limit() {
    let (ledger, pool, _hook) = connected(4 * MIB);
    ledger.account().note_foreign(3 * MIB);
    assert!(pool.try_zeroed::<u8>(2 * MIB).is_err());
    ledger.account().note_foreign(2 * MIB);
    let vector = pool.try_zeroed::<u8>(2 * MIB).expect("the others shrank");
    assert_eq!((ledger.counted_bytes(), ledger.headroom_bytes()), (4 * MIB, 0));
    assert_eq!(ledger.stats().refused, 1);
    drop(vector);
}

#[test]
fn two_ledgers_on_one_account_never_cross_its_limit_together() {
    let account = AccountRef::told();
    account.set_limit(3 * MIB, Source::Runtime);
    let ledgers = [(); 2].map(|()| Arc::new(Ledger::on(account.clone())));
    let pools = ledgers.each_ref().map(|ledger| pool_on(ledger, OverLimitRelease::Keep));
    let first = pools[0].try_zeroed::<u8>(2 * MIB).expect("fits");
    let Err(Error::OverLimit(refused)) = pools[1].try_zeroed::<u8>(2 * MIB) else {
        panic!("4 MiB under a limit of 3");
    };
    // What another ledger holds is foreign to this one.
    assert_eq!((refused.held_bytes, refused.foreign_bytes), (0, 2 * MIB));
    assert_eq!(account.held_bytes(Owner::Pools), 2 * MIB);
    drop(first);
    assert_eq!(pools[0].reclaim(usize::MAX), 2 * MIB);
    let second = pools[1].try_zeroed::<u8>(2 * MIB).expect("the other gave back");
    assert_eq!((ledgers[0].held_bytes(), ledgers[1].held_bytes()), (0, 2 * MIB));
    drop(second);
}

#[test]
fn a_limit_that_changes_is_told_to_all_that_are_connected() {
    let account = AccountRef::told();
    let ledger = Arc::new(Ledger::on(account.clone()));
    let pool = pool_on(&ledger, OverLimitRelease::Keep);
    let hook = Arc::new(Reclaimer::default());
    *hook.pool.lock().expect("no panic under this lock") = Some(pool.clone());
    let hook = Parted(hook);
    let pressure: Arc<dyn Pressure> = hook.0.clone();
    account.register(Arc::downgrade(&pressure));
    drop(pool.try_zeroed::<u8>(4 * MIB).expect("no limit"));
    account.set_limit(MIB, Source::Allocator);
    assert_eq!(ledger.held_bytes(), 4 * MIB, "setting it gives nothing back by itself");
    account.tell_changed();
    assert_eq!((ledger.held_bytes(), hook.calls.load(Ordering::Relaxed)), (0, 1));
}

#[test]
fn expectations_add_up_and_end_in_any_order() {
    let ledger = Arc::new(Ledger::with_limit(10 * MIB));
    let account = ledger.account_ref();
    let first = Account::expect(account, 3 * MIB);
    let second = Account::expect(account, 4 * MIB);
    assert_eq!(ledger.headroom_bytes(), 3 * MIB);
    drop(first);
    assert_eq!(ledger.headroom_bytes(), 6 * MIB);
    account.note_foreign(5 * MIB);
    assert_eq!(ledger.headroom_bytes(), 5 * MIB, "there is more than was expected");
    drop(second);
    account.note_foreign(0);
    assert_eq!(ledger.headroom_bytes(), 10 * MIB);
}

/// The account's own margin, 1 MiB, is for what nobody expected.
#[test]
fn what_grows_unseen_is_part_of_an_expectation() {
    let account = AccountRef::alone();
    let others = |foreign: usize, expected: usize| {
        let _expected = Account::expect(&account, expected);
        account.note_foreign(foreign);
        account.others_bytes(Owner::Pools)
    };
    assert_eq!(others(5 * MIB, 0), 6 * MIB, "nothing was expected: the margin");
    assert_eq!(others(5 * MIB, 8 * MIB), 8 * MIB);
    assert_eq!(others(5 * MIB, 5 * MIB), 5 * MIB, "as expected");
    assert_eq!(
        others(5 * MIB, 9 * MIB / 2),
        11 * MIB / 2,
        "half a MiB beyond it, and as much again"
    );
    assert_eq!(others(8 * MIB, 5 * MIB), 9 * MIB, "far beyond it: the margin");
    assert_eq!(others(MIB / 2, 0), MIB, "the margin is never more than what is there");
}

#[test]
fn two_pools_share_one_limit() {
    let ledger = Arc::new(Ledger::with_limit(3 * MIB));
    let pools = [(); 2].map(|()| pool_on(&ledger, OverLimitRelease::Keep));
    let first = pools[0].try_zeroed::<u8>(2 * MIB).expect("fits");
    assert!(pools[1].try_zeroed::<u8>(2 * MIB).is_err());
    drop(first);
    assert!(pools[1].try_zeroed::<u8>(2 * MIB).is_err(), "cached bytes are held");
    let [one, other] = pools;
    drop(one);
    assert_eq!(ledger.held_bytes(), 0, "a pool that goes takes its charges along");
    drop(other.try_zeroed::<u8>(3 * MIB).expect("all of it"));
    drop(other);
    assert_eq!(ledger.held_bytes(), 0);
}

const THREADS: usize = 8;
const ROUNDS: usize = if cfg!(miri) { 30 } else { 2000 };

#[test]
fn eight_threads_of_hard_charges_never_exceed_the_limit() {
    let ledger = Ledger::with_limit(1000);
    let start = Barrier::new(THREADS);
    let (granted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ledger, start, granted, refused) = (&ledger, &start, &granted, &refused);
            scope.spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    let bytes = 1 + (thread * 131 + round * 17) % 400;
                    if ledger.charge(bytes, Charge::Hard).is_ok() {
                        assert!(ledger.held_bytes() <= 1000);
                        std::thread::yield_now();
                        ledger.uncharge(bytes);
                        granted.fetch_add(1, Ordering::Relaxed);
                    } else {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(ledger.held_bytes() <= 1000);
                }
            });
        }
    });
    let stats = ledger.stats();
    assert_eq!(stats.held_bytes, 0);
    assert!(stats.peak_bytes <= 1000);
    assert_eq!(stats.refused, refused.into_inner() as u64);
    assert!(granted.into_inner() > 0);
}

#[test]
fn eight_threads_of_vectors_never_exceed_the_limit() {
    let (ledger, pool, hook) = connected(4 * MIB);
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ledger, pool, start) = (&ledger, &pool, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..ROUNDS / 10 {
                    let bytes = (1 + (thread + round) % 16) * 100_000;
                    let vector = pool.try_zeroed::<u8>(bytes);
                    assert!(ledger.held_bytes() <= 4 * MIB);
                    if let Ok(vector) = vector {
                        assert!(vector.iter().step_by(4096).all(|byte| *byte == 0));
                    }
                }
            });
        }
    });
    assert!(ledger.stats().peak_bytes <= 4 * MIB);
    assert!(hook.calls.load(Ordering::Relaxed) > 0, "the limit was met");
    assert_eq!(ledger.stats().missed, 0);
    assert!(pool.check());
}

#[cfg(not(miri))]
#[test]
fn what_is_overwritten_is_charged_at_once_filled_once_and_populated_by_its_filler() {
    // The real kernel: the fake brings pages in one way only.
    let pool = Pool::builder().reserve_bytes(64 * MIB).build().expect("addresses");
    let (held, resident) =
        (|| pool.ledger().held_bytes(), || pool.resident_bytes().expect("the kernel says"));
    let mut vector = pool.try_for_overwrite::<u64>(MIB / 2).expect("fits");
    assert_eq!((held(), resident()), (4 * MIB, 0));
    vector.fill(7);
    assert_eq!(resident(), 4 * MIB);
    drop(vector);
    // Recycled: neither zeroed nor charged again.
    let vector = pool.try_for_overwrite::<u64>(MIB / 2).expect("fits");
    assert!(vector.iter().all(|word| *word == 7));
    assert_eq!((held(), pool.stats().reused), (4 * MIB, 1));
    drop(vector);
    // What was overwritten is not taken for zeroes.
    let vector = pool.try_zeroed::<u64>(MIB / 2).expect("fits");
    assert!(vector.iter().all(|word| *word == 0));
    // Pages that are not huge come in one call, as ever.
    let small = pool.try_for_overwrite::<u8>(MIB).expect("fits");
    assert_eq!((held(), resident()), (5 * MIB, 5 * MIB));
    drop((vector, small));
    assert!(pool.check());
}
