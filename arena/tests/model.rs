//! Seeded programs of pool operations against plain vectors.
//!
//! After every step: no two vectors share a byte, every vector equals its twin where it was looked
//! at, the gauges obey their identities, and a hard charge never crossed the limit. At the end all
//! of it went home. Over the fake OS, calls of the kernel fail at random; over Linux, the pages are
//! real.

mod common;

use common::{Element, InUse, Padded, Rng, run_programs, unless_miri};
use plimsoll_arena::os::{Fake, Os};
use plimsoll_arena::{Error, OverLimitRelease, Plain, Pool, PoolVec, Prefault, Secrecy};
use std::ops::Range;
use std::sync::{Arc, Mutex};

const STEPS: usize = unless_miri(200, 40);
const VECTOR_BYTES_MAX: usize = unless_miri(3 << 20, 200_000);
const VECTORS_MAX: usize = 12;

/// A vector and the twin it must equal.
struct Pair<T: Element> {
    vector: PoolVec<T>,
    twin: Vec<T>,
}

/// A pair whose element type is forgotten. `Send`: it may be dropped on another thread.
trait Tenant: Send {
    fn assert_intact(&self);
    /// Does one random thing that may move the vector; returns whether it succeeded.
    fn change(&mut self, rng: &mut Rng, gentle: bool) -> bool;
    fn range(&self) -> Range<usize>;
}

impl<T: Element> Tenant for Pair<T> {
    fn assert_intact(&self) {
        assert!(self.vector.as_slice() == self.twin.as_slice(), "contents changed");
    }

    fn change(&mut self, rng: &mut Rng, gentle: bool) -> bool {
        let len = self.twin.len();
        let more = rng.size(VECTOR_BYTES_MAX) / size_of::<T>();
        let more = more.min((2 * VECTOR_BYTES_MAX / size_of::<T>()).saturating_sub(len));
        let value = T::make(rng.next());
        match rng.below(8) {
            0 => self.vector.try_reserve(more).is_ok(),
            1 => {
                let added: Vec<T> = (0..more as u64).map(|i| T::make(i + rng.next() % 9)).collect();
                let done = self.vector.try_extend_from_slice(&added).is_ok();
                self.twin.extend(added.iter().filter(|_| done));
                done
            }
            2 => {
                let len = if rng.one_in(2) { len + more } else { rng.below(len + 1) };
                let done = self.vector.try_resize(len, value).is_ok();
                if done {
                    self.twin.resize(len, value);
                }
                done
            }
            3 => {
                let len = rng.below(len + 2);
                self.vector.truncate(len);
                self.twin.truncate(len);
                true
            }
            4 => {
                for index in (0..len).step_by(1 + rng.below(len.max(1))) {
                    self.vector[index] = value;
                    self.twin[index] = value;
                }
                true
            }
            5 => {
                assert_eq!(self.vector.pop(), self.twin.pop());
                true
            }
            6 if gentle => {
                self.vector.reserve_over_limit(more);
                assert!(self.vector.capacity() >= len + more);
                self.vector.extend([value]);
                self.twin.push(value);
                true
            }
            _ => (0..rng.below(20)).all(|_| {
                let done = self.vector.try_push(value).is_ok();
                self.twin.extend(done.then_some(value));
                done
            }),
        }
    }

    fn range(&self) -> Range<usize> {
        let start = self.vector.as_ptr() as usize;
        start..start + self.vector.capacity() * size_of::<T>()
    }
}

fn zeroed<T: Element + Plain>(pool: &Pool, len: usize, gentle: bool) -> Option<Box<dyn Tenant>> {
    let vector =
        if gentle { pool.zeroed_over_limit::<T>(len) } else { pool.try_zeroed::<T>(len).ok()? };
    // SAFETY: zeroes are a value of every Plain type.
    let twin = vec![unsafe { std::mem::zeroed::<T>() }; len];
    let pair = Pair { vector, twin };
    pair.assert_intact();
    Some(Box::new(pair))
}

fn overwritten<T: Element + Plain>(pool: &Pool, len: usize, id: u64) -> Option<Box<dyn Tenant>> {
    let mut vector = pool.try_for_overwrite::<T>(len).ok()?;
    let twin: Vec<T> = (0..len as u64).map(|index| T::make(id ^ index)).collect();
    vector.copy_from_slice(&twin);
    let pair = Pair { vector, twin };
    pair.assert_intact();
    Some(Box::new(pair))
}

/// Makes a vector of one of the kinds there are, with a length of up to `bytes_max` bytes.
fn make<T: Element>(pool: &Pool, rng: &mut Rng, gentle: bool) -> Option<Box<dyn Tenant>> {
    let len = rng.size(VECTOR_BYTES_MAX) / size_of::<T>();
    let id = rng.next();
    let pair = match rng.below(4) {
        0 if gentle => {
            let mut vector = pool.try_with_capacity(0).ok()?;
            vector.reserve_over_limit(len);
            Pair { vector, twin: Vec::new() }
        }
        0 | 1 => Pair { vector: pool.try_with_capacity(len).ok()?, twin: Vec::new() },
        2 => {
            let twin = vec![T::make(id); len];
            Pair { vector: pool.try_filled(len, twin.first().copied()?).ok()?, twin }
        }
        _ => {
            let twin: Vec<T> = (0..len as u64).map(|i| T::make(id.wrapping_add(i))).collect();
            Pair { vector: pool.try_copied(&twin).ok()?, twin }
        }
    };
    assert_eq!(pair.vector.as_ptr() as usize % align_of::<T>(), 0);
    Some(Box::new(pair))
}

fn make_any(pool: &Pool, rng: &mut Rng, gentle: bool) -> Option<Box<dyn Tenant>> {
    let len = rng.size(VECTOR_BYTES_MAX);
    match rng.below(8) {
        0 => zeroed::<u8>(pool, len, gentle),
        1 => zeroed::<u64>(pool, len / 8, gentle),
        2 => zeroed::<[u64; 4]>(pool, len / 32, gentle),
        3 => make::<u8>(pool, rng, gentle),
        4 => make::<u64>(pool, rng, gentle),
        5 => make::<[u64; 4]>(pool, rng, gentle),
        6 => overwritten::<u64>(pool, 2 * len / 8, rng.next()),
        _ => make::<Padded>(pool, rng, gentle),
    }
}

fn build(rng: &mut Rng, os: Arc<dyn Os>, reserve_bytes: usize) -> Pool {
    let builder = Pool::builder().os(os).reserve_bytes(reserve_bytes);
    let builder = builder.secrecy([Secrecy::Public, Secrecy::Secret][rng.below(2)]);
    let builder = builder.prefault([Prefault::AtAcquire, Prefault::OnTouch][rng.below(2)]);
    let policies = [OverLimitRelease::GiveBack, OverLimitRelease::Keep];
    builder.over_limit_release(policies[rng.below(2)]).build().expect("a small pool")
}

/// True when a soft call, which aborts where memory or addresses end, cannot fail.
fn has_room(pool: &Pool) -> bool {
    let stats = pool.stats();
    stats.reserved_bytes - stats.mapped_bytes > 8 * VECTOR_BYTES_MAX
}

/// What holds whenever no call is under way.
fn assert_identities(pool: &Pool, tenants: &[Box<dyn Tenant>]) {
    let stats = pool.stats();
    let asked: usize = tenants.iter().map(|t| t.range().len()).filter(|b| *b >= 8 << 10).sum();
    assert_eq!(stats.allocated_bytes, asked);
    assert_eq!(stats.live_bytes + stats.cached_bytes, stats.held_bytes);
    assert_eq!(pool.ledger().held_bytes(), stats.held_bytes);
    assert!(stats.allocated_bytes <= stats.live_bytes);
    assert!(stats.held_bytes <= stats.mapped_bytes);
    assert!(stats.mapped_bytes <= stats.reserved_bytes);
    assert!(stats.reused <= stats.acquired);
    assert_eq!(
        stats.committed_total_bytes - stats.reclaimed_total_bytes,
        stats.held_bytes as u64,
        "what came and did not go is held"
    );
}

fn random_limit(rng: &mut Rng) -> usize {
    if rng.one_in(3) { usize::MAX } else { rng.size(8 * VECTOR_BYTES_MAX) }
}

/// One program on one thread. `failing`: the OS may refuse, so soft calls, which abort, are out.
fn program(rng: &mut Rng, pool: &Pool, failing: bool) {
    let in_use = InUse::default();
    let mut tenants: Vec<Box<dyn Tenant>> = Vec::new();
    for _ in 0..STEPS {
        let (held, missed) = (pool.ledger().held_bytes(), pool.ledger().stats().missed);
        let gentle = !failing && has_room(pool);
        match rng.below(16) {
            0..6 if tenants.len() < VECTORS_MAX => {
                if let Some(tenant) = make_any(pool, rng, gentle) {
                    in_use.enter(tenant.range());
                    tenants.push(tenant);
                }
            }
            0..4 => {}
            4..9 if !tenants.is_empty() => {
                let index = rng.below(tenants.len());
                let tenant = &mut tenants[index];
                in_use.leave(tenant.range());
                tenant.change(rng, gentle);
                in_use.enter(tenant.range());
                tenant.assert_intact();
            }
            9..12 if !tenants.is_empty() => {
                let tenant = tenants.swap_remove(rng.below(tenants.len()));
                tenant.assert_intact();
                in_use.leave(tenant.range());
                if rng.one_in(unless_miri(40, 8)) {
                    std::thread::spawn(move || tenant.assert_intact()).join().expect("intact");
                }
            }
            12 => {
                let target = rng.size(4 * VECTOR_BYTES_MAX);
                let cached = pool.stats().cached_bytes;
                let freed = pool.reclaim(target);
                assert_eq!(pool.stats().cached_bytes, cached - freed);
                assert!(failing || freed >= target.min(cached), "{freed} of {target}");
            }
            13 => {
                pool.ledger().set_limit(random_limit(rng));
            }
            14 => assert!(pool.check()),
            _ => tenants.iter().for_each(|tenant| tenant.assert_intact()),
        }
        assert_identities(pool, &tenants);
        if pool.ledger().stats().missed == missed {
            assert!(pool.ledger().held_bytes() <= held.max(pool.ledger().limit_bytes()));
        }
    }
    tenants.iter().for_each(|tenant| tenant.assert_intact());
    tenants.truncate(rng.below(VECTORS_MAX));
    tenants.iter().for_each(|tenant| tenant.assert_intact());
    drop(tenants);
    assert!(pool.check());
    assert_eq!((pool.stats().live_bytes, pool.stats().allocated_bytes), (0, 0));
}

fn assert_all_returned(rng: &mut Rng, pool: Pool) {
    if rng.one_in(2) {
        pool.reclaim(usize::MAX);
        assert_eq!(pool.ledger().held_bytes(), 0);
        assert_eq!(pool.resident_bytes().expect("the OS knows"), 0);
    }
    let ledger = Arc::clone(pool.ledger());
    drop(pool);
    assert_eq!(ledger.held_bytes(), 0);
}

#[test]
fn programs_over_the_fake_os() {
    run_programs("programs_over_the_fake_os", 160, |rng| {
        let fake = Arc::new(Fake::new());
        let pool = build(rng, fake.clone(), unless_miri(24 << 20, 8 << 20));
        let chance = if rng.one_in(3) { 0 } else { rng.size(300) as u64 };
        fake.fail_randomly(rng.next(), chance);
        program(rng, &pool, chance > 0);
        let resident = pool.resident_bytes().expect("the fake knows");
        assert!(resident <= pool.stats().held_bytes, "{resident} bytes are resident");
        fake.fail_randomly(0, 0);
        assert_all_returned(rng, pool);
        assert_eq!(fake.reserved_bytes(), 0);
    });
}

#[cfg(not(miri))]
#[test]
fn programs_over_linux() {
    run_programs("programs_over_linux", 120, |rng| {
        let pool = build(rng, Arc::new(plimsoll_arena::os::Linux), 4 << 30);
        program(rng, &pool, false);
        let resident = pool.resident_bytes().expect("the kernel knows");
        assert!(resident <= pool.stats().held_bytes, "{resident} bytes are resident");
        assert_all_returned(rng, pool);
    });
}

/// What the threads of one program share: a place to leave a vector for another thread to find.
struct Shared {
    pool: Pool,
    in_use: InUse,
    exchange: Mutex<Vec<Box<dyn Tenant>>>,
}

fn thread_program(rng: &mut Rng, shared: &Shared) {
    let mut tenants: Vec<Box<dyn Tenant>> = Vec::new();
    for _ in 0..STEPS / 2 {
        match rng.below(12) {
            0..3 if tenants.len() < VECTORS_MAX / 2 => {
                if let Some(tenant) = make_any(&shared.pool, rng, false) {
                    shared.in_use.enter(tenant.range());
                    tenants.push(tenant);
                }
            }
            0..5 if !tenants.is_empty() => {
                let index = rng.below(tenants.len());
                let tenant = &mut tenants[index];
                // Left before the call: when the vector moves, its old block may be another
                // thread's before this one could say so.
                shared.in_use.leave(tenant.range());
                tenant.change(rng, false);
                shared.in_use.enter(tenant.range());
                tenant.assert_intact();
            }
            5..8 if !tenants.is_empty() => {
                let tenant = tenants.swap_remove(rng.below(tenants.len()));
                tenant.assert_intact();
                shared.in_use.leave(tenant.range());
            }
            8 if !tenants.is_empty() => {
                let tenant = tenants.swap_remove(rng.below(tenants.len()));
                shared.exchange.lock().expect("no panic yet").push(tenant);
            }
            9 => {
                let found = shared.exchange.lock().expect("no panic yet").pop();
                found.iter().for_each(|tenant| tenant.assert_intact());
                tenants.extend(found);
            }
            10 => {
                shared.pool.reclaim(rng.size(2 * VECTOR_BYTES_MAX));
                shared.pool.check();
            }
            _ if rng.one_in(4) => {
                shared.pool.ledger().set_limit(random_limit(rng));
            }
            _ => tenants.iter().for_each(|tenant| tenant.assert_intact()),
        }
    }
    for tenant in tenants {
        tenant.assert_intact();
        shared.in_use.leave(tenant.range());
    }
}

fn four_threads(rng: &mut Rng, os: Arc<dyn Os>, reserve_bytes: usize) -> Pool {
    let pool = build(rng, os, reserve_bytes);
    let exchange = Mutex::new(Vec::new());
    let shared = Shared { pool, in_use: InUse::default(), exchange };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut rng = Rng::new(rng.next());
            let shared = &shared;
            scope.spawn(move || thread_program(&mut rng, shared));
        }
    });
    let left = shared.exchange.into_inner().expect("no panic in a thread");
    left.iter().for_each(|tenant| tenant.assert_intact());
    left.iter().for_each(|tenant| shared.in_use.leave(tenant.range()));
    assert!(shared.in_use.is_empty());
    assert_identities(&shared.pool, &left);
    drop(left);
    assert!(shared.pool.check());
    shared.pool
}

#[test]
fn four_threads_on_one_pool() {
    run_programs("four_threads_on_one_pool", 50, |rng| {
        let fake = Arc::new(Fake::new());
        let pool = four_threads(rng, fake.clone(), unless_miri(24 << 20, 8 << 20));
        fake.fail_randomly(rng.next(), rng.size(200) as u64);
        drop(pool.try_zeroed::<u8>(100_000));
        fake.fail_randomly(0, 0);
        assert_all_returned(rng, pool);
        assert_eq!(fake.reserved_bytes(), 0);
    });
}

#[cfg(not(miri))]
#[test]
fn four_threads_over_linux() {
    run_programs("four_threads_over_linux", 50, |rng| {
        let pool = four_threads(rng, Arc::new(plimsoll_arena::os::Linux), 8 << 30);
        assert_all_returned(rng, pool);
    });
}

#[test]
fn sizes_beyond_any_block_are_errors_and_change_nothing() {
    let pool = Pool::builder().os(Arc::new(Fake::new())).reserve_bytes(4 << 20).build();
    let pool = pool.expect("4 MiB");
    for len in [usize::MAX, usize::MAX / 8, (1 << 39) + 1] {
        assert!(matches!(pool.try_with_capacity::<u64>(len), Err(Error::TooLarge { .. })));
        assert!(matches!(pool.try_zeroed::<u64>(len), Err(Error::TooLarge { .. })));
        let mut vector = pool.try_filled(10_000, 3u64).expect("10 000 elements");
        let before = (vector.as_ptr(), vector.capacity());
        assert!(matches!(vector.try_reserve(len), Err(Error::TooLarge { .. })));
        assert!(vector.try_resize(len, 0).is_err());
        assert_eq!((vector.as_ptr(), vector.capacity()), before);
        assert!(vector.iter().all(|element| *element == 3));
    }
    assert!(matches!(pool.try_zeroed::<u8>(8 << 20), Err(Error::AddressSpace { .. })));
    assert!(pool.check());
}
