//! Spillable vectors where the disk is late, full or broken: who waits, what stays, what is said.
//!
//! The limit counts the whole process, so one test runs at a time.

use plimsoll::Runtime;
use plimsoll::spill::{Hint, SpillOptions, Spillable};
use plimsoll_swap::backend::{Fault, FaultPlan, Faulty, Memory};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

const LEN: usize = 1 << 15;
const MIB: usize = 1 << 20;

/// Past this a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

fn words(seed: u64) -> Vec<u64> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    (0..LEN).map(|_| rng.r#gen()).collect()
}

/// A vector of 256 KiB of random words: it goes to the file.
fn vector(runtime: &Runtime, seed: u64) -> Spillable<u64> {
    let vector = runtime.pool().try_copied(&words(seed)).expect("room for one");
    let vector = runtime.spillable(vector);
    vector.hint(Hint::Uniform);
    vector
}

fn runtime(options: SpillOptions) -> Runtime {
    Runtime::builder().own_limit().spill(options).build().expect("a runtime")
}

/// Leaves `room` bytes beside what is counted now.
fn leave_room(runtime: &Runtime, room: usize) {
    runtime.set_limit_bytes(Some(runtime.counted_bytes() + room as u64));
}

/// Makes all vectors leave that can, and gives the room back.
fn squeeze(runtime: &Runtime, bytes: usize) {
    let limit = runtime.set_limit_bytes(Some(runtime.counted_bytes() - bytes as u64));
    runtime.set_limit_bytes(limit);
}

/// What the runtime says to somebody who asks for `bytes`.
fn refused(runtime: &Runtime, bytes: usize) -> String {
    let asked = runtime.pool().try_zeroed::<u8>(bytes);
    runtime.explain("test", asked.expect_err("more than the limit")).to_string()
}

/// A disk in memory, without a fault until it is shut.
fn disk() -> Arc<Faulty<Memory>> {
    Arc::new(Faulty::new(Memory::new(64 << 20), FaultPlan::NEVER))
}

#[test]
fn written_back_vectors_leave_without_the_ladder() {
    let _alone = alone();
    let runtime = runtime(SpillOptions::packed_only().backend(disk()));
    let vectors: Vec<_> = (0..8).map(|seed| vector(&runtime, seed)).collect();
    vectors.iter().for_each(Spillable::write_back);
    assert!(vectors.iter().all(Spillable::is_resident), "with room nothing leaves");
    leave_room(&runtime, 2 * MIB);
    vectors.iter().for_each(Spillable::write_back);
    let gone = || vectors.iter().filter(|vector| !vector.is_resident()).count();
    wait_until("a vector was written back", || gone() > 0);
    let stats = runtime.spill_stats();
    assert!(stats.spilled_total > 0, "{stats:?}");
    assert_eq!(stats.evicted, 0, "{stats:?}");
    for (seed, vector) in vectors.iter().enumerate() {
        assert!(vector.read().expect("it comes")[..] == words(seed as u64)[..]);
    }
}

#[test]
fn a_vector_that_is_dropped_is_not_read_ahead() {
    let _alone = alone();
    let disk = disk();
    let options = SpillOptions::packed_only().backend(disk.clone()).io_threads(1);
    let runtime = runtime(options);
    let away = [vector(&runtime, 0), vector(&runtime, 1)];
    squeeze(&runtime, MIB);
    assert!(away.iter().all(|vector| !vector.is_resident()));
    let busy = vector(&runtime, 2);
    leave_room(&runtime, 2 * MIB);
    disk.shut();
    busy.write_back();
    wait_until("the I/O thread writes", || disk.held() > 0);
    let [dropped, kept] = away;
    dropped.prefetch();
    kept.prefetch();
    drop(dropped);
    disk.open();
    // One thread, one after the other: the one that was dropped had its turn before.
    wait_until("the other is read", || kept.is_resident());
    wait_until("it is counted", || runtime.spill_stats().read_ahead > 0);
    let stats = runtime.spill_stats();
    assert_eq!((stats.read_ahead, stats.read_ahead_skipped), (1, 0), "{stats:?}");
    assert_eq!(stats.loaded_total, LEN as u64 * 8, "{stats:?}");
}

#[test]
fn a_vector_that_is_needed_does_not_wait_for_write_backs() {
    let _alone = alone();
    const IO_THREADS: usize = 4;
    let disk = disk();
    let options = SpillOptions::packed_only().backend(disk.clone()).io_threads(IO_THREADS);
    let runtime = runtime(options);
    let needed = vector(&runtime, 0);
    squeeze(&runtime, MIB);
    assert!(!needed.is_resident());
    let others: Vec<_> = (1..9).map(|seed| vector(&runtime, seed)).collect();
    leave_room(&runtime, 2 * MIB);
    disk.shut();
    others.iter().for_each(Spillable::write_back);
    wait_until("all I/O threads write", || disk.held() >= IO_THREADS as u64);
    let came = std::thread::scope(|scope| {
        let (sender, came) = std::sync::mpsc::channel();
        let needed = &needed;
        scope.spawn(move || {
            let same = needed.read().is_ok_and(|read| read[..] == words(0)[..]);
            // Nobody listens after the time is up.
            let _ = sender.send(same);
        });
        let came = came.recv_timeout(PATIENCE);
        disk.open();
        came
    });
    assert_eq!(came, Ok(true), "it waits for a write");
}

#[test]
fn a_failed_write_leaves_the_vector_as_it_is_and_is_said() {
    let _alone = alone();
    // Space is call 0; the write is the next.
    let plan = FaultPlan::At { call: 1, fault: Fault::Eio };
    let disk = Arc::new(Faulty::new(Memory::new(64 << 20), plan));
    let runtime = runtime(SpillOptions::packed_only().backend(disk.clone()));
    let vectors = [vector(&runtime, 0), vector(&runtime, 1)];
    leave_room(&runtime, MIB);
    for _ in 0..2 {
        let text = refused(&runtime, 64 * MIB);
        assert!(text.contains("spilling has stopped") && text.contains("error 5"), "{text}");
    }
    assert_eq!(
        (disk.faults(), disk.calls()),
        (1, 3),
        "after a failed write the file takes no more"
    );
    for (seed, vector) in vectors.iter().enumerate() {
        assert!(vector.is_resident(), "nothing was saved");
        assert!(vector.read().expect("it is here")[..] == words(seed as u64)[..]);
    }
    assert_eq!(runtime.spill_stats().spilled_total, 0);
}

#[test]
fn a_quota_that_was_reached_is_not_the_reason_once_there_is_room_again() {
    let _alone = alone();
    let quota = 300 << 10;
    let options = SpillOptions::packed_only().backend(disk()).quota_bytes(quota);
    let runtime = runtime(options);
    let vectors = [vector(&runtime, 0), vector(&runtime, 1)];
    leave_room(&runtime, MIB);
    let text = refused(&runtime, 64 * MIB);
    assert!(text.contains("spilling has stopped") && text.contains("quota"), "{text}");
    let gone = vectors.iter().filter(|vector| !vector.is_resident()).count();
    assert_eq!(gone, 1, "the quota is for one of them");
    drop(vectors);
    let last = vector(&runtime, 2);
    squeeze(&runtime, MIB);
    assert!(!last.is_resident(), "there is room for it");
    let text = refused(&runtime, 1 << 40);
    assert!(!text.contains("spilling has stopped"), "{text}");
    assert!(last.read().expect("it comes")[..] == words(2)[..]);
}
