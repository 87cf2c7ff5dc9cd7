//! Spillable vectors against a plain copy of each: random programs under limits that bind.
//!
//! The limit counts the whole process, so one test runs at a time.

#[path = "spill/graph.rs"]
mod graph;
#[path = "../swap/tests/common/tiers.rs"]
mod tiers;

use plimsoll::Runtime;
use plimsoll::spill::{Hint, SpillOptions, SpillStats, SpillTier, Spillable};
use plimsoll_swap::backend::{FaultPlan, Faulty};
use plimsoll_swap::file::{RamDisk, SpillFile};
use plimsoll_test_support::settled;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tiers::tiers;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

const LEN: usize = 1 << 15;
const MIB: usize = 1 << 20;

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).collect(),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").expect("a folder on a disk")
}

/// A runtime whose vectors have `room` bytes above what the test program uses already.
fn runtime(room: usize, options: SpillOptions) -> Runtime {
    let runtime = Runtime::builder().own_limit().spill(options).build().expect("a runtime");
    limit_to(&runtime, room);
    runtime
}

/// Leaves `room` bytes: what earlier tests left in the heap goes first, or it would be found later.
fn limit_to(runtime: &Runtime, room: usize) {
    runtime.reclaim_all();
    runtime.set_limit_bytes(Some(runtime.counted_bytes() + room as u64));
}

/// What a vector should hold. Not a copy: the limit counts the test's own memory too.
struct Model {
    seed: u64,
    written: Vec<(usize, u64)>,
}

impl Model {
    fn values(&self) -> Vec<u64> {
        let mut rng = ChaCha20Rng::seed_from_u64(self.seed);
        let mask = [u64::MAX, 1, 0xffff, 0][self.seed as usize % 4];
        let mut values: Vec<u64> = (0..LEN).map(|_| rng.r#gen::<u64>() & mask).collect();
        for (index, value) in &self.written {
            values[*index] = *value;
        }
        values
    }
}

fn vector(runtime: &Runtime, seed: u64) -> (Spillable<u64>, Model) {
    let model = Model { seed, written: Vec::new() };
    let vector = runtime.pool().try_copied(&model.values()).expect("room for one");
    (runtime.spillable(vector), model)
}

fn program(seed: u64, tier: SpillTier) -> SpillStats {
    let folder = folder();
    let options = SpillOptions::new(folder.path()).tier(tier).packed_limit_bytes(MIB);
    let runtime = runtime(24 * MIB, options);
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut live: Vec<(Spillable<u64>, Model)> = Vec::new();
    let mut packed_max = 0;
    for step in 0..400 {
        packed_max = packed_max.max(runtime.spill_stats().packed_bytes);
        let at = rng.gen_range(0..live.len().max(1));
        match rng.gen_range(0..10) {
            0..=3 if live.len() < 200 => live.push(vector(&runtime, seed * 1000 + step)),
            _ if live.is_empty() => {}
            4 => {
                let (handle, model) = live.swap_remove(at);
                assert_eq!(
                    *handle.take().expect("taken"),
                    model.values(),
                    "seed {seed} step {step}"
                );
            }
            5 => {
                let (handle, model) = &mut live[at];
                let index = rng.gen_range(0..LEN);
                handle.write().expect("pinned")[index] = step;
                model.written.push((index, step));
            }
            6 => live[at].0.prefetch(),
            7 => live[at].0.write_back(),
            8 => live[at].0.hint(Hint::NextUse(rng.gen_range(0..100))),
            _ => {
                let (handle, model) = &live[at];
                assert_eq!(
                    *handle.read().expect("pinned"),
                    *model.values(),
                    "seed {seed} step {step}"
                );
            }
        }
    }
    for (handle, model) in live {
        assert_eq!(*handle.read().expect("pinned"), *model.values(), "seed {seed} at the end");
    }
    let stats = settled(&runtime);
    assert!(packed_max <= MIB as u64, "seed {seed}: {packed_max} bytes packed at once");
    assert_eq!(stats.resident_bytes, 0, "seed {seed}: all were dropped");
    assert_eq!((stats.packed_bytes, stats.file_bytes), (0, 0), "seed {seed}: nothing is kept");
    assert!(runtime.pool().check());
    stats
}

#[test]
fn programs_agree_with_plain_copies() {
    let _alone = alone();
    for tier in tiers() {
        programs_of(tier);
    }
}

fn programs_of(tier: SpillTier) {
    let mut sum = SpillStats::default();
    for seed in seeds(12) {
        println!("SEED={seed} {tier:?}");
        let stats = program(seed, tier);
        sum.packed_total += stats.packed_total;
        sum.spilled_total += stats.spilled_total;
        sum.evicted += stats.evicted;
        sum.stalls += stats.stalls;
    }
    assert!(sum.packed_total > 0 && sum.spilled_total > 0, "both tiers were reached: {sum:?}");
    assert!(sum.evicted > 0 && sum.stalls > 0, "the ladder evicted: {sum:?}");
}

/// Eight threads use more vectors than fit, which are a hundred: what one frees another takes.
fn threads_share_vectors(count: u64, options: SpillOptions) {
    let runtime = runtime(24 * MIB, options);
    let vectors: Vec<_> = (0..count).map(|seed| vector(&runtime, seed)).collect();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let vectors = &vectors;
            scope.spawn(move || {
                let mut rng = ChaCha20Rng::seed_from_u64(thread);
                for _ in 0..200 {
                    let (handle, model) = &vectors[rng.gen_range(0..vectors.len())];
                    match rng.gen_range(0..4) {
                        0 => handle.prefetch(),
                        1 => handle.write_back(),
                        _ => assert_eq!(*handle.read().expect("pinned"), *model.values()),
                    }
                }
            });
        }
    });
    let stats = runtime.spill_stats();
    assert!(stats.stalls > 0 && stats.evicted > 0, "vectors were away: {stats:?}");
    // What an I/O thread has in hand would be given back in the middle of the next test.
    let ledger = Arc::downgrade(runtime.pool().ledger());
    drop((vectors, runtime));
    let until = Instant::now() + Duration::from_secs(20);
    while ledger.strong_count() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ledger.strong_count(), 0, "something keeps the runtime");
}

#[test]
fn threads_share_vectors_under_pressure() {
    let _alone = alone();
    for tier in tiers() {
        // Where the swap is zram, what does not pack takes as much of it, and counts.
        let count = if tier == SpillTier::Kernel { 200 } else { 400 };
        threads_share_vectors(count, SpillOptions::new(folder().path()).tier(tier));
    }
}

#[test]
fn threads_share_vectors_on_a_disk_that_is_late() {
    let _alone = alone();
    let folder = folder();
    let file = SpillFile::open(folder.path(), RamDisk::Refuse).expect("a folder on a disk");
    let disk = Faulty::new(file, FaultPlan::NEVER).delayed(1, 4, 500);
    let disk = Arc::new(disk);
    threads_share_vectors(400, SpillOptions::packed_only().backend(disk.clone()));
    assert!(disk.delays() > 0);
}

#[test]
fn a_pinned_vector_stays() {
    let _alone = alone();
    let folder = folder();
    let runtime = runtime(8 * MIB, SpillOptions::new(folder.path()));
    let (first, model) = vector(&runtime, 0);
    let pinned = first.read().expect("pinned");
    let others: Vec<_> = (4..200).step_by(4).map(|seed| vector(&runtime, seed)).collect();
    assert!(first.is_resident() && runtime.spill_stats().evicted > 0);
    assert_eq!(*pinned, *model.values());
    drop(pinned);
    for (handle, model) in &others {
        assert_eq!(*handle.read().expect("pinned"), *model.values());
    }
}

#[test]
fn the_farthest_next_use_leaves_first() {
    let _alone = alone();
    let folder = folder();
    let runtime = runtime(64 * MIB, SpillOptions::new(folder.path()));
    let vectors: Vec<_> = (0..32).map(|i| vector(&runtime, 4 * i).0).collect();
    let order = |i: usize| (i * 11 + 5) % 32;
    for (i, vector) in vectors.iter().enumerate() {
        vector.hint(Hint::NextUse(100 + order(i) as u64));
    }
    runtime.set_limit_bytes(Some(runtime.counted_bytes() - MIB as u64));
    let resident: Vec<bool> = vectors.iter().map(Spillable::is_resident).collect();
    let gone = resident.iter().filter(|resident| !**resident).count();
    assert!((4..32).contains(&gone), "four vectors of 256 KiB and the slack: {resident:?}");
    for i in 0..32 {
        assert_eq!(resident[i], order(i) < 32 - gone, "vector {i}: {resident:?}");
    }
}

#[test]
fn a_vector_that_comes_takes_the_pages_of_one_that_leaves() {
    let _alone = alone();
    let folder = folder();
    let runtime = runtime(1 << 30, SpillOptions::new(folder.path()));
    // Uniform ones: they go to the file.
    let vectors: Vec<_> = (0..8).map(|i| vector(&runtime, 4 * i)).collect();
    vectors.iter().for_each(|(vector, _)| vector.hint(Hint::Uniform));
    let room = 8 * LEN * 8 / 2 + LEN * 4;
    runtime.set_limit_bytes(Some(runtime.counted_bytes() + room as u64 - (8 * LEN * 8) as u64));
    let pass = || {
        for (vector, model) in &vectors {
            assert!(vector.read().expect("it comes")[..] == model.values()[..]);
        }
    };
    pass();
    let (before, pool) = (runtime.spill_stats().loaded_total, runtime.pool().stats());
    pass();
    pass();
    let loaded = runtime.spill_stats().loaded_total - before;
    let committed = runtime.pool().stats().committed_total_bytes - pool.committed_total_bytes;
    assert!(loaded >= 8 * LEN as u64 * 8, "{loaded}");
    // What other parts of the process take from the limit may cost a vector its block.
    assert!(committed * 4 <= loaded, "{committed} of {loaded} bytes came from the kernel");
}

#[test]
fn the_least_recently_used_leaves_first_without_hints() {
    let _alone = alone();
    let folder = folder();
    let runtime = runtime(64 * MIB, SpillOptions::new(folder.path()));
    let vectors: Vec<_> = (0..32).map(|i| vector(&runtime, 4 * i).0).collect();
    // Time passes only as vectors are made.
    drop(vectors[0].read().expect("pinned"));
    let _later = vector(&runtime, 400);
    runtime.set_limit_bytes(Some(runtime.counted_bytes() - MIB as u64));
    assert!(vectors[0].is_resident() && !vectors[1].is_resident());
}

#[test]
fn a_vector_that_can_be_made_again_is_never_written() {
    let _alone = alone();
    let folder = folder();
    let runtime = runtime(8 * MIB, SpillOptions::new(folder.path()));
    let make = |values: &mut [u64]| {
        for (i, value) in values.iter_mut().enumerate() {
            *value = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    };
    let mut vector = runtime.pool().try_zeroed(LEN).expect("room");
    make(&mut vector);
    let model = vector.to_vec();
    let vector = runtime.recomputable(vector, make);
    let limit = runtime.set_limit_bytes(Some(1));
    runtime.set_limit_bytes(limit);
    assert!(!vector.is_resident());
    assert_eq!(*vector.read().expect("made again"), *model);
    let stats = runtime.spill_stats();
    assert_eq!((stats.recomputed, stats.spilled_total, stats.packed_total), (1, 0, 0));
}

#[test]
fn a_vector_that_is_said_to_be_uniform_is_not_packed_though_it_could_be() {
    let _alone = alone();
    for hint in [None, Some(Hint::Uniform)] {
        let folder = folder();
        let runtime = runtime(8 * MIB, SpillOptions::new(folder.path()));
        // Seed 1 is of bits.
        let (handle, model) = vector(&runtime, 1);
        hint.into_iter().for_each(|hint| handle.hint(hint));
        let limit = runtime.set_limit_bytes(Some(1));
        runtime.set_limit_bytes(limit);
        assert!(!handle.is_resident());
        let stats = runtime.spill_stats();
        let moved = (stats.packed_total > 0, stats.spilled_total > 0);
        assert_eq!(moved, (hint.is_none(), hint.is_some()), "{hint:?}: {stats:?}");
        assert_eq!(*handle.read().expect("it comes"), *model.values());
    }
}

#[test]
fn without_a_store_nothing_leaves() {
    let _alone = alone();
    let runtime = Runtime::builder().own_limit().build().expect("a runtime");
    limit_to(&runtime, 4 * MIB);
    let (handle, _) = vector(&runtime, 0);
    let refused = runtime.pool().try_zeroed::<u64>(MIB);
    assert!(refused.is_err() && handle.is_resident());
}

#[test]
fn read_ahead_is_used() {
    let _alone = alone();
    let folder = folder();
    let runtime = runtime(64 * MIB, SpillOptions::new(folder.path()));
    let vectors: Vec<_> = (0..8).map(|i| vector(&runtime, 4 * i)).collect();
    let limit = runtime.set_limit_bytes(Some(1));
    runtime.set_limit_bytes(limit);
    assert!(vectors.iter().all(|(handle, _)| !handle.is_resident()));
    for (handle, _) in &vectors {
        handle.prefetch();
    }
    while runtime.spill_stats().read_ahead < 8 {
        std::thread::yield_now();
    }
    for (handle, model) in &vectors {
        assert_eq!(*handle.read().expect("pinned"), *model.values());
    }
    let stats = runtime.spill_stats();
    assert_eq!((stats.read_ahead_hits, stats.stalls), (8, 0));
}

/// Every core waits for a vector that an I/O thread is reading: it must need no core of theirs.
#[test]
fn readers_on_every_core_wait_for_vectors_read_ahead() {
    const LARGE: usize = 32 * MIB / size_of::<u64>();
    let _alone = alone();
    let folder = folder();
    let runtime = runtime(512 * MIB, SpillOptions::new(folder.path()));
    let made = |i: u64| {
        let mut vector = runtime.pool().try_zeroed::<u64>(LARGE).expect("room");
        vector.iter_mut().enumerate().for_each(|(at, word)| *word = i << 32 | at as u64 & 0xff);
        vector
    };
    let vectors: Vec<_> = (0..4).map(|i| runtime.spillable(made(i))).collect();
    for round in 0..12 {
        let limit = runtime.set_limit_bytes(Some(runtime.counted_bytes() - 128 * MIB as u64));
        runtime.set_limit_bytes(limit);
        // What is read ahead gets blocks that were used, which are filled first.
        drop((0..4).map(made).collect::<Vec<_>>());
        vectors.iter().for_each(Spillable::prefetch);
        rayon::broadcast(|_| {
            for (i, handle) in vectors.iter().enumerate() {
                let read = handle.read().expect("pinned");
                assert_eq!(read[LARGE - 1] >> 32, i as u64, "round {round}");
            }
        });
    }
    assert!(runtime.spill_stats().read_ahead > 0, "{:?}", runtime.spill_stats());
}

#[test]
fn a_quota_that_is_too_small_is_an_error_that_says_so() {
    let _alone = alone();
    let folder = folder();
    let options = SpillOptions::new(folder.path()).quota_bytes(1 << 20);
    let runtime = runtime(8 * MIB, options);
    let mut kept: Vec<(Spillable<u64>, Model)> = Vec::new();
    let refused = loop {
        assert!(kept.len() < 400, "100 MiB found room in 8 and a quota of 1");
        // Every fourth seed is random words: nothing of them packs.
        let model = Model { seed: 4 * kept.len() as u64, written: Vec::new() };
        match runtime.pool().try_copied(&model.values()) {
            Ok(vector) => kept.push((runtime.spillable(vector), model)),
            Err(error) => break runtime.explain("test", error),
        }
    };
    let text = refused.to_string();
    assert!(text.contains("spilling has stopped") && text.contains("quota"), "{text}");
    assert!(runtime.spill_stats().spilled_total > 0, "the quota was used first");
    drop(kept.split_off(kept.len() - 4));
    for (handle, model) in &kept {
        assert_eq!(*handle.read().expect("nothing is lost"), *model.values());
    }
}
