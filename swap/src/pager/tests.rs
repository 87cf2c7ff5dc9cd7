//! The pager on a real kernel: patterns survive, the budget holds, huge pages stay huge.
//!
//! Every test says loudly when it cannot run here, and why.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use plimsoll_arena::process::skipped;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::builder::WORKERS;
use super::*;
use crate::backend::{Backend, Memory};

const MIB: usize = 1 << 20;

/// A pager on a file in the temporary folder, or the reason why not.
pub(super) fn pager(range_bytes: usize, budget_bytes: usize) -> Option<Pager> {
    let folder = std::env::temp_dir();
    let builder = Pager::builder().range_bytes(range_bytes).budget_bytes(budget_bytes);
    built(builder.folder(&folder).ram_disk(crate::file::RamDisk::Accept))
}

/// A pager that packs nothing: what these tests write would hardly ever reach the file.
pub(super) fn built(builder: PagerBuilder) -> Option<Pager> {
    packing(builder.packed_limit_bytes(0))
}

pub(super) fn packing(builder: PagerBuilder) -> Option<Pager> {
    match builder.build() {
        Ok(pager) => Some(pager),
        Err(BuildError::Obstacle(why)) => {
            skipped("the pager", why);
            None
        }
        Err(why) => panic!("{why}"),
    }
}

/// The range as words. Each test keeps its threads to words of their own.
pub(super) fn words(pager: &Pager) -> &[AtomicU64] {
    let len = pager.range_bytes() / 8;
    // SAFETY: the range is mapped for the pager's life, zero at first; atomics may be shared.
    unsafe { std::slice::from_raw_parts(pager.base().as_ptr().cast(), len) }
}

pub(super) fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    eprintln!("SEED={seed}");
    seed
}

/// What word `i` holds after `round` rounds of writing.
pub(super) fn pattern(i: usize, round: u64) -> u64 {
    (i as u64 ^ round << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
}

pub(super) const GRANULE_WORDS: usize = GRANULE_BYTES / 8;

/// Reads and writes at random from `threads` threads, each in granules of its own, against a
/// table of what was written.
fn storm(pager: &Pager, threads: usize, steps: usize, seed: u64) {
    let words = words(pager);
    let granules = words.len() / GRANULE_WORDS;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(seed + thread as u64);
                let mine: Vec<usize> = (thread..granules).step_by(threads).collect();
                let mut rounds = vec![0u64; mine.len()];
                for step in 0..steps {
                    let which = rng.gen_range(0..mine.len());
                    let start = mine[which] * GRANULE_WORDS;
                    for i in (start..start + GRANULE_WORDS).step_by(97) {
                        let expected =
                            if rounds[which] == 0 { 0 } else { pattern(i, rounds[which]) };
                        assert_eq!(words[i].load(Relaxed), expected, "word {i}, step {step}");
                    }
                    if rng.gen_bool(0.5) {
                        rounds[which] += 1;
                        for i in (start..start + GRANULE_WORDS).step_by(97) {
                            words[i].store(pattern(i, rounds[which]), Relaxed);
                        }
                    }
                }
            });
        }
    });
}

/// The most that may be held where no system call pins pages: the budget, and for each overdraft
/// what one load brings. That is an eighth of the budget (a granule at least, a chunk at most), and
/// a worker has one load at a time.
fn held_bytes_max(stats: &PagerStats) -> u64 {
    let load = (stats.budget_bytes / 8).clamp(GRANULE_BYTES as u64, CHUNK_BYTES as u64);
    stats.budget_bytes + stats.overdrafts.min(WORKERS as u64) * load
}

pub(super) fn check(pager: &Pager) {
    let stats = pager.stats();
    eprintln!("{stats:?}");
    let most = held_bytes_max(&stats);
    assert!(stats.held_bytes_peak <= most, "{} of {most} bytes", stats.held_bytes_peak);
    pager.engine().check();
}

#[test]
fn an_overdraft_excuses_one_load_and_many_one_for_each_worker() {
    let most = |budget_bytes: usize, overdrafts| {
        let budget_bytes = budget_bytes as u64;
        held_bytes_max(&PagerStats { budget_bytes, overdrafts, ..PagerStats::default() })
    };
    assert_eq!(most(GRANULE_BYTES, 0), GRANULE_BYTES as u64);
    assert_eq!(most(GRANULE_BYTES, 1), 2 * GRANULE_BYTES as u64);
    assert_eq!(most(8 * MIB, 2), 10 * MIB as u64);
    assert_eq!(most(64 * MIB, 1), 66 * MIB as u64);
    assert_eq!(most(64 * MIB, 1 << 40), 76 * MIB as u64);
}

#[test]
fn one_granule_of_budget_makes_progress() {
    let Some(pager) = pager(4 * MIB, GRANULE_BYTES) else { return };
    storm(&pager, 1, 400, seed());
    check(&pager);
    assert_eq!(pager.stats().held_bytes_peak, GRANULE_BYTES as u64);
    storm_from_zero(4, 120, GRANULE_BYTES);
}

fn storm_from_zero(threads: usize, steps: usize, budget: usize) {
    let Some(pager) = pager(8 * MIB, budget) else { return };
    storm(&pager, threads, steps, seed());
    check(&pager);
}

#[test]
fn random_access_from_many_threads_is_what_was_written() {
    for (threads, budget) in [(1, 3 * GRANULE_BYTES), (4, 2 * MIB), (16, 40 * MIB)] {
        let Some(pager) = pager(96 * MIB, budget) else { return };
        storm(&pager, threads, 6000 / threads, seed());
        check(&pager);
        assert!(pager.stats().written_bytes > 0);
    }
}

#[test]
fn a_working_set_of_sixteen_budgets_streams_through() {
    let heavy = std::env::var_os("PLIMSOLL_STRESS").is_some();
    let range = if heavy { 4096 * MIB } else { 1024 * MIB };
    let Some(pager) = pager(range, 64 * MIB) else { return };
    let words = words(&pager);
    for round in 1..3 {
        std::thread::scope(|scope| {
            for part in 0..2 {
                let half = words.len() / 2;
                scope.spawn(move || {
                    for i in (part * half..(part + 1) * half).step_by(512) {
                        let before = if round == 1 { 0 } else { pattern(i, round - 1) };
                        assert_eq!(words[i].load(Relaxed), before, "word {i}");
                        words[i].store(pattern(i, round), Relaxed);
                    }
                });
            }
        });
    }
    check(&pager);
}

#[test]
fn what_did_not_change_is_not_written_again() {
    let Some(pager) = pager(128 * MIB, 48 * MIB) else { return };
    let words = words(&pager);
    for i in (0..words.len()).step_by(512) {
        words[i].store(pattern(i, 1), Relaxed);
    }
    let pass = || {
        for i in (0..words.len()).step_by(512) {
            assert_eq!(words[i].load(Relaxed), pattern(i, 1));
        }
    };
    pager.reclaim(128 * MIB);
    let before = pager.stats();
    pass();
    pass();
    let after = pager.stats();
    assert_eq!(after.written_bytes, before.written_bytes);
    assert!(after.read_bytes > before.read_bytes + 100 * MIB as u64);
    check(&pager);
}

#[test]
fn dead_contents_are_not_written_and_discarded_ones_are_zero() {
    let Some(pager) = pager(256 * MIB, 32 * MIB) else { return };
    let words = words(&pager);
    let chunk_words = CHUNK_BYTES / 8;
    for chunk in 0..128 {
        let start = chunk * chunk_words;
        for i in (start..start + chunk_words).step_by(512) {
            words[i].store(7, Relaxed);
        }
        let base = pager.base().as_ptr().wrapping_add(chunk * CHUNK_BYTES);
        let base = std::ptr::NonNull::new(base).expect("not null");
        // SAFETY: this test does not look at the contents again.
        unsafe { pager.dead(base, CHUNK_BYTES) };
    }
    let stats = pager.stats();
    assert_eq!(stats.written_bytes, 0, "{stats:?}");
    pager.live(pager.base(), 256 * MIB);
    words[5].store(1, Relaxed);
    // SAFETY: as above.
    unsafe { pager.discard(pager.base(), 256 * MIB) };
    assert_eq!(pager.stats().data_bytes, 0);
    for i in (0..words.len()).step_by(4096) {
        assert_eq!(words[i].load(Relaxed), 0);
    }
    check(&pager);
}

#[test]
fn reclaim_and_a_lower_budget_give_memory_back() {
    let Some(pager) = pager(64 * MIB, 64 * MIB) else { return };
    let words = words(&pager);
    for i in (0..words.len()).step_by(512) {
        words[i].store(pattern(i, 3), Relaxed);
    }
    assert_eq!(pager.stats().held_bytes, 64 * MIB as u64);
    assert!(pager.reclaim(16 * MIB) >= 16 * MIB);
    assert!(pager.stats().held_bytes <= 48 * MIB as u64);
    assert_eq!(pager.set_budget(8 * MIB), 64 * MIB);
    assert!(pager.stats().held_bytes <= 8 * MIB as u64);
    for i in (0..words.len()).step_by(512) {
        assert_eq!(words[i].load(Relaxed), pattern(i, 3));
    }
    pager.engine().check();
}

#[test]
fn hints_move_and_change_nothing() {
    let Some(pager) = pager(64 * MIB, 96 * MIB) else { return };
    let words = words(&pager);
    for i in (0..words.len()).step_by(512) {
        words[i].store(pattern(i, 3), Relaxed);
    }
    pager.cold(pager.base(), 32 * MIB);
    // What a worker has in hand just then is not in limbo.
    let limbo_bytes = pager.stats().limbo_bytes;
    assert!((28 * MIB..=32 * MIB).contains(&(limbo_bytes as usize)), "{limbo_bytes}");
    pager.reclaim(32 * MIB);
    pager.will_need(pager.base(), 64 * MIB);
    for _ in 0..6000 {
        if pager.stats().read_ahead_bytes >= 12 * MIB as u64 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let before = pager.stats();
    assert!(before.read_ahead_bytes >= 12 * MIB as u64);
    for i in (0..words.len()).step_by(512) {
        assert_eq!(words[i].load(Relaxed), pattern(i, 3));
    }
    assert!(pager.stats().read_ahead_used_bytes >= 12 * MIB as u64);
    check(&pager);
}

#[test]
fn hints_and_faults_from_all_sides_lose_nothing() {
    let Some(pager) = pager(64 * MIB, 24 * MIB) else { return };
    let done = AtomicBool::new(false);
    let seed = seed();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
            while !done.load(Relaxed) {
                let at = rng.gen_range(0..64) * MIB;
                let start = pager.base().as_ptr().wrapping_add(at);
                let start = std::ptr::NonNull::new(start).expect("not null");
                match rng.gen_range(0..5) {
                    0 => pager.cold(start, 4 * MIB),
                    1 => pager.will_need(start, 8 * MIB),
                    2 => drop(pager.reclaim(2 * MIB)),
                    3 => drop(pager.set_budget(rng.gen_range(4..40) * MIB)),
                    _ => std::thread::yield_now(),
                }
            }
        });
        storm(&pager, 6, 1500, seed);
        done.store(true, Relaxed);
    });
    pager.engine().check();
}

#[test]
fn a_backend_in_memory_will_do() {
    let backend: Box<dyn Backend> = Box::new(Memory::new(64 * MIB as u64));
    let builder = Pager::builder().range_bytes(32 * MIB).budget_bytes(2 * MIB).backend(backend);
    let Some(pager) = built(builder) else { return };
    storm(&pager, 3, 800, seed());
    check(&pager);
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let refused = Pager::builder().budget_bytes(100).build().expect_err("100 bytes");
    assert!(matches!(refused, BuildError::TooSmall { what: "budget", .. }), "{refused}");
    let refused = Pager::builder().range_bytes(0).build().expect_err("nothing");
    assert!(refused.to_string().contains("range"));
}

#[test]
fn going_in_circles_keeps_a_part() {
    let Some(pager) = pager(256 * MIB, 96 * MIB) else { return };
    let words = words(&pager);
    for i in (0..words.len()).step_by(64) {
        words[i].store(pattern(i, 1), Relaxed);
    }
    let mut read = Vec::new();
    for _ in 0..5 {
        let before = pager.stats().read_bytes;
        for i in (0..words.len()).step_by(64) {
            assert_eq!(words[i].load(Relaxed), pattern(i, 1));
        }
        read.push((pager.stats().read_bytes - before) / MIB as u64);
    }
    eprintln!("MiB read in each of five passes over 256: {read:?}");
    // The first pass finds out; a queue would read 256 each time. Other tests slow this one down,
    // so that some of what is read ahead comes too early.
    assert!(read[1..].iter().min() < Some(&240));
    check(&pager);
}
