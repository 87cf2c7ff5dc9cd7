//! Granules that pack: kept in memory, brought back as they were, cleared when memory is short.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ark_bn254::Fr;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::entry::Contents;
use super::ids::{ChunkId, Id};
use super::space::GRANULES;
use super::state::State;
use super::tests::{GRANULE_WORDS, check, packing, seed, words};
use super::*;
use crate::backend::Memory;
use crate::codec::field::BABY_BEAR;
use crate::store::Encryption;

const MIB: usize = 1 << 20;

/// What a granule may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Zero,
    /// Elements of BN254 in Montgomery form, bits and bytes.
    Bn254,
    /// BabyBear elements in Montgomery form, below a hundred.
    BabyBear,
    /// Words that count.
    Counter,
    /// Small words, and a few large ones.
    Sparse,
    /// Half of it packs.
    Half,
    Noise,
}

const KINDS: [Kind; 7] =
    [Kind::Zero, Kind::Bn254, Kind::BabyBear, Kind::Counter, Kind::Sparse, Kind::Half, Kind::Noise];

/// Two BabyBear elements in Montgomery form.
fn baby_bear(rng: &mut ChaCha8Rng) -> u64 {
    let mut element = || (u64::from(rng.gen_range(0..100u32)) << 32) % u64::from(BABY_BEAR);
    element() | element() << 32
}

/// The words of a granule: the same for the same seed.
fn contents(kind: Kind, seed: u64) -> Vec<u64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut granule: Vec<u64> = Vec::with_capacity(GRANULE_WORDS);
    while granule.len() < GRANULE_WORDS {
        let is_late = granule.len() >= GRANULE_WORDS / 2;
        match kind {
            Kind::Zero => granule.push(0),
            Kind::Bn254 => granule.extend(Fr::from(rng.gen_range(0..256u64)).0.0),
            Kind::BabyBear => granule.push(baby_bear(&mut rng)),
            Kind::Counter => granule.push((seed << 32) + granule.len() as u64),
            Kind::Sparse if rng.gen_ratio(1, 200) => granule.push(rng.r#gen()),
            Kind::Half if is_late => granule.push(rng.r#gen()),
            Kind::Sparse | Kind::Half => granule.push(rng.gen_range(0..1000)),
            Kind::Noise => granule.push(rng.r#gen()),
        }
    }
    granule
}

fn write(pager: &Pager, granule: usize, contents: &[u64]) {
    let place = &words(pager)[granule * GRANULE_WORDS..][..GRANULE_WORDS];
    place.iter().zip(contents).for_each(|(word, value)| word.store(*value, Relaxed));
}

fn read(pager: &Pager, granule: usize) -> Vec<u64> {
    let place = &words(pager)[granule * GRANULE_WORDS..][..GRANULE_WORDS];
    place.iter().map(|word| word.load(Relaxed)).collect()
}

fn builder(range_bytes: usize, budget_bytes: usize) -> PagerBuilder {
    let builder = Pager::builder().range_bytes(range_bytes).budget_bytes(budget_bytes);
    builder.backend(Box::new(Memory::new(range_bytes.next_multiple_of(64 * MIB) as u64)))
}

/// Granules of every kind are written, read and changed at random by `threads` threads, while
/// another one sets the budget to one of `budgets` now and then.
fn storm(pager: &Pager, threads: usize, steps: usize, budgets: &[usize], seed: u64) {
    let granules = pager.range_bytes() / GRANULE_BYTES;
    let left = AtomicUsize::new(threads);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let left = &left;
            scope.spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(seed + thread as u64);
                let mine: Vec<usize> = (thread..granules).step_by(threads).collect();
                let mut held = vec![(Kind::Zero, 0); mine.len()];
                for step in 0..steps {
                    let which = rng.gen_range(0..mine.len());
                    let (kind, seed) = held[which];
                    let seen = read(pager, mine[which]);
                    assert!(seen == contents(kind, seed), "{kind:?} {seed}, step {step}");
                    if rng.gen_bool(0.6) {
                        held[which] = (KINDS[rng.gen_range(0..KINDS.len())], rng.gen_range(1..99));
                        write(pager, mine[which], &contents(held[which].0, held[which].1));
                    }
                    if rng.gen_ratio(1, 50) {
                        let at = pager.base().as_ptr().wrapping_add(mine[which] * GRANULE_BYTES);
                        let at = std::ptr::NonNull::new(at).expect("not null");
                        // SAFETY: this thread's granule, of which it holds no reference.
                        unsafe { pager.discard(at, GRANULE_BYTES) };
                        held[which] = (Kind::Zero, 0);
                    }
                }
                left.fetch_sub(1, Relaxed);
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        while left.load(Relaxed) > 0 {
            pager.set_budget(budgets[rng.gen_range(0..budgets.len())]);
            std::thread::sleep(Duration::from_millis(3));
        }
    });
}

#[test]
fn packed_granules_come_back_as_they_were_plain_and_sealed() {
    for encryption in [Encryption::Off, Encryption::On] {
        let builder = builder(64 * MIB, 16 * MIB).encryption(encryption);
        let Some(pager) = packing(builder) else { return };
        for round in 0..3 {
            for granule in 0..1024 {
                if round > 0 {
                    let kind = KINDS[(granule + round - 1) % KINDS.len()];
                    assert!(read(&pager, granule) == contents(kind, granule as u64), "{kind:?}");
                }
                let kind = KINDS[(granule + round) % KINDS.len()];
                write(&pager, granule, &contents(kind, granule as u64));
            }
        }
        check(&pager);
        let stats = pager.stats();
        assert!(stats.packed_bytes > 16 * MIB as u64 && stats.unpacked_bytes > 0);
        assert!(stats.written_bytes > 0 && stats.read_bytes > 0);
        assert!(stats.shelf_bytes <= 2 * MIB as u64);
    }
}

#[test]
fn what_packs_needs_hardly_any_file() {
    let Some(pager) = packing(builder(64 * MIB, 16 * MIB)) else { return };
    for round in 0..2 {
        for granule in 0..1024 {
            let bits = contents(Kind::Bn254, granule as u64);
            if round == 0 {
                write(&pager, granule, &bits);
            } else {
                assert!(read(&pager, granule) == bits);
            }
        }
    }
    check(&pager);
    // The first chunks that went found nothing set aside for shelves.
    let stats = pager.stats();
    assert!(stats.written_bytes <= 10 * CHUNK_BYTES as u64, "{stats:?}");
    assert!(stats.packed_bytes > 32 * MIB as u64, "{stats:?}");
}

#[test]
fn with_a_packed_limit_of_nothing_everything_goes_to_the_file() {
    let Some(pager) = packing(builder(64 * MIB, 16 * MIB).packed_limit_bytes(0)) else { return };
    (0..1024).for_each(|granule| write(&pager, granule, &contents(Kind::Bn254, granule as u64)));
    let stats = pager.stats();
    assert_eq!((stats.packed_bytes, stats.shelf_bytes), (0, 0));
    assert!(stats.written_bytes > 0);
}

#[test]
fn a_budget_that_shrinks_has_shelves_cleared() {
    for encryption in [Encryption::Off, Encryption::On] {
        let builder = builder(128 * MIB, 32 * MIB).encryption(encryption);
        let Some(pager) = packing(builder) else { return };
        // Not well: shelves of 4 MiB hold a fraction of it.
        let kind = |granule| if granule % 2 == 0 { Kind::BabyBear } else { Kind::Sparse };
        for granule in 0..2048 {
            write(&pager, granule, &contents(kind(granule), granule as u64));
        }
        let full = pager.stats().shelf_bytes;
        assert!(full > MIB as u64);
        pager.set_budget(2 * MIB);
        for granule in 0..2048 {
            assert!(read(&pager, granule) == contents(kind(granule), granule as u64));
        }
        pager.engine().check();
        let stats = pager.stats();
        assert!(stats.cleared_bytes > 0 && stats.shelf_bytes <= MIB as u64 / 2, "{stats:?}");
    }
}

#[test]
fn storms_of_all_kinds_keep_their_contents_while_the_budget_changes() {
    let seed = seed();
    for (threads, encryption) in [(1, Encryption::Off), (8, Encryption::Off), (4, Encryption::On)] {
        let builder = builder(32 * MIB, 8 * MIB).encryption(encryption);
        let Some(pager) = packing(builder) else { return };
        let budgets = [2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB];
        storm(&pager, threads, 6000 / threads, &budgets, seed);
        pager.engine().check();
        let stats = pager.stats();
        eprintln!("{stats:?}");
        assert!(stats.packed_bytes > 0 && stats.cleared_bytes > 0 && stats.unpacked_bytes > 0);
        // SAFETY: nobody looks at the contents again.
        unsafe { pager.discard(pager.base(), pager.range_bytes()) };
        let stats = pager.stats();
        assert_eq!((stats.shelf_bytes, stats.packed_now_bytes), (0, 0));
    }
}

#[test]
fn freed_blocks_give_up_their_places() {
    let Some(pager) = packing(builder(64 * MIB, 16 * MIB)) else { return };
    (0..1024).for_each(|granule| write(&pager, granule, &contents(Kind::Bn254, granule as u64)));
    assert!(pager.stats().packed_now_bytes > 0);
    // SAFETY: nobody looks at the contents again.
    unsafe { pager.dead(pager.base(), pager.range_bytes()) };
    // One may be in a worker's hands at the moment.
    pager.live(pager.base(), pager.range_bytes());
    check(&pager);
    assert!(pager.stats().packed_now_bytes <= 6 * CHUNK_BYTES as u64);
}

#[test]
fn threads_that_open_shelves_at_once_leave_none_empty() {
    let Some(pager) = packing(builder(64 * MIB, 32 * MIB)) else { return };
    let engine = pager.engine();
    for _ in 0..1000 {
        let ready = AtomicUsize::new(0);
        let shelve = &|granule| {
            ready.fetch_add(1, Relaxed);
            while ready.load(Relaxed) < 2 {
                std::hint::spin_loop();
            }
            engine.shelve(ChunkId::of(0), granule, &[7; 500])
        };
        let places = std::thread::scope(|scope| {
            let threads = [0, 1].map(|granule| scope.spawn(move || shelve(granule)));
            threads.map(|thread| thread.join().expect("a thread"))
        });
        // As if they came back.
        let mut core = engine.core.lock();
        for place in places.into_iter().flatten() {
            core.chunk(ChunkId::of(0)).keep(0, Contents::Packed { hash: 0, place });
            core.unshelve(&engine.space, ChunkId::of(0), 1);
        }
        assert_eq!((core.shelves.count(), core.shelves.granules), (0, 0));
    }
}

/// Moves a word from one granule to another by one instruction, which needs both at once.
#[cfg(target_arch = "x86_64")]
fn moves_a_word(pager: &Pager) -> bool {
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let base = pager.base().as_ptr().addr();
            let (from, to) = (base + 5 * GRANULE_BYTES, base + 3 * CHUNK_BYTES + GRANULE_BYTES);
            // SAFETY: inside the range, which this test alone uses.
            unsafe { std::arch::asm!("movsq", inout("rsi") from => _, inout("rdi") to => _) };
            done.store(1, Relaxed);
        });
        let until = Instant::now() + Duration::from_secs(10);
        while done.load(Relaxed) == 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let in_time = done.load(Relaxed) == 1;
        // So that the thread ends in any case.
        pager.set_budget(32 * MIB);
        in_time
    })
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_was_set_aside_under_a_large_budget_is_not_missing_in_a_small_one() {
    for (budget, granules) in [(64 * MIB, 17), (64 * MIB, 16), (4 * MIB, 2)] {
        let Some(pager) = packing(builder(256 * MIB, budget)) else { return };
        for granule in 0..budget / GRANULE_BYTES * 2 {
            write(&pager, granule, &contents(Kind::BabyBear, 1 + granule as u64 % 3));
        }
        // SAFETY: nobody looks at the contents again.
        unsafe { pager.discard(pager.base(), pager.range_bytes()) };
        pager.reclaim(usize::MAX / 2);
        pager.set_budget(granules * GRANULE_BYTES);
        assert!(moves_a_word(&pager), "{granules} granules: {:?}", pager.stats());
        assert_eq!(pager.stats().overdrafts, 0);
    }
}

#[test]
fn a_lowered_budget_is_kept_when_little_but_shelves_is_left() {
    for workers in [1, 2, 6] {
        let builder = builder(128 * MIB, 32 * MIB).workers(workers);
        let Some(pager) = packing(builder) else { return };
        (0..2048).for_each(|granule| write(&pager, granule, &contents(Kind::Sparse, 7)));
        assert_eq!(pager.stats().shelf_bytes > 0, workers > 1);
        pager.set_budget(MIB);
        let until = Instant::now() + Duration::from_secs(60);
        while pager.stats().held_bytes > MIB as u64 {
            assert!(Instant::now() < until, "{workers} workers: {:?}", pager.stats());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_granule_that_comes_from_the_last_shelf_needs_no_overdraft() {
    let Some(pager) = packing(builder(128 * MIB, 32 * MIB)) else { return };
    let is_packed = || pager.engine().core.lock().chunk(ChunkId::of(0)).state(0) == State::Packed;
    // Pushed out by zeros; the first to go may find no shelf.
    let mut bits = Vec::new();
    for round in 0..20 {
        if !is_packed() {
            bits = contents(Kind::BabyBear, round);
            write(&pager, 0, &bits);
            (GRANULES..2048).for_each(|granule| assert_eq!(read(&pager, granule)[0], 0));
        }
    }
    assert!(is_packed(), "{:?}", pager.stats());
    let rest = pager.base().as_ptr().wrapping_add(CHUNK_BYTES);
    // SAFETY: nobody looks at the contents again.
    unsafe { pager.discard(std::ptr::NonNull::new(rest).expect("not null"), 126 * MIB) };
    pager.set_budget(GRANULE_BYTES);
    assert!(is_packed());
    assert!(read(&pager, 0) == bits);
    assert_eq!(pager.stats().overdrafts, 0);
}
