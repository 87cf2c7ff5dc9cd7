//! Every path that enforces the limit, alone, with the others switched off: each must act.
//!
//! The limit is over the memory of the whole process, so these tests have a process of their own
//! and run one at a time.

use plimsoll::reclaim::{Enforcement, Holder};
use plimsoll::{Error, Runtime};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MIB: usize = 1 << 20;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn none() -> Enforcement {
    Enforcement {
        at_charge: false,
        at_release: false,
        at_reclaim_point: false,
        when_lowered: false,
    }
}

/// A runtime without a limit yet, with `cached` MiB on its free lists.
fn with_cached(enforcement: Enforcement, cached: usize) -> Runtime {
    let runtime = Runtime::builder().own_limit().enforcement(enforcement).build().expect("runtime");
    drop(runtime.pool().try_filled::<u8>(cached * MIB, 7).expect("memory"));
    assert_eq!(runtime.pool().stats().cached_bytes, cached * MIB);
    runtime
}

/// Sets the limit so that `headroom` MiB are left, without reclaiming through the setter.
fn leave(runtime: &Runtime, headroom: usize) {
    runtime.look();
    let limit = runtime.counted_bytes() as usize + headroom * MIB;
    runtime.pool().ledger().set_limit(limit);
}

#[test]
fn a_charge_alone_makes_room() {
    let _alone = alone();
    let runtime = with_cached(Enforcement { at_charge: true, ..none() }, 64);
    leave(&runtime, 8);
    let vector = runtime.pool().try_filled::<u8>(48 * MIB, 1).expect("cached blocks make room");
    assert!(runtime.enforcement_counts().at_charge > 0);
    assert!(runtime.pool().stats().reclaimed_total_bytes > 0);
    drop(vector);
}

#[test]
fn without_the_charge_path_the_same_charge_is_refused() {
    let _alone = alone();
    let runtime = with_cached(none(), 64);
    leave(&runtime, 8);
    let refused = runtime.pool().try_filled::<u8>(48 * MIB, 1).expect_err("nobody makes room");
    assert!(matches!(refused, plimsoll_arena::Error::OverLimit(_)), "{refused:?}");
    assert_eq!(runtime.enforcement_counts().at_charge, 0);
    assert!(runtime.stats().refused > 0);
}

#[test]
fn a_reclaim_point_alone_makes_room() {
    let _alone = alone();
    let runtime = with_cached(Enforcement { at_reclaim_point: true, ..none() }, 64);
    leave(&runtime, 8);
    let report = runtime.reclaim_point("heavy", 48 << 20);
    assert!(report.freed.by("cached blocks") >= 40 << 20, "{report:?}");
    assert_eq!(report.short_bytes, 0, "{report:?}");
    assert!(runtime.enforcement_counts().at_reclaim_point > 0);
    // The same point again has headroom and does nothing.
    assert_eq!(runtime.reclaim_point("heavy", 48 << 20).freed.total_bytes(), 0);
    assert_eq!(runtime.enforcement_counts().at_reclaim_point, 1);
}

#[test]
fn a_reclaim_point_that_is_off_reports_what_is_short() {
    let _alone = alone();
    let runtime = with_cached(none(), 64);
    leave(&runtime, 8);
    let report = runtime.reclaim_point("heavy", 48 << 20);
    assert!(report.short_bytes > 0 && report.freed.total_bytes() == 0, "{report:?}");
    assert!(report.blocked.iter().any(|held| held.name == "vectors cached"), "{report:?}");
    let refused = runtime.stage("heavy", 48 << 20).expect_err("short");
    let text = refused.to_string();
    assert!(matches!(refused, Error::OverLimit { .. }));
    assert!(text.contains("heavy") && text.contains("vectors cached"), "{text}");
}

#[test]
fn lowering_the_limit_alone_gives_memory_back_at_once() {
    let _alone = alone();
    let runtime = with_cached(Enforcement { when_lowered: true, ..none() }, 64);
    let old = runtime.set_limit_bytes(Some(runtime.counted_bytes() - (32 << 20)));
    assert_eq!(old, None);
    assert!(runtime.enforcement_counts().when_lowered > 0);
    assert!(runtime.pool().stats().cached_bytes <= 32 * MIB);
    assert_eq!(runtime.pool().ledger().excess_bytes(), 0);
}

#[test]
fn a_drop_over_the_limit_alone_gives_its_block_back() {
    let _alone = alone();
    let only = Enforcement { at_release: true, ..none() };
    let runtime = Runtime::builder().own_limit().enforcement(only).build().expect("runtime");
    let vector = runtime.pool().try_filled::<u8>(32 * MIB, 7).expect("memory");
    runtime.set_limit_bytes(Some(1 << 20));
    drop(vector);
    let stats = runtime.pool().stats();
    assert_eq!((stats.cached_bytes, stats.live_bytes), (0, 0));
    assert_eq!(stats.released_over_limit_bytes, 32 * MIB as u64);
    assert_eq!(runtime.pool().resident_bytes().expect("mincore"), 0);
}

#[test]
fn soft_charges_over_the_limit_are_counted() {
    let _alone = alone();
    let runtime = Runtime::builder().own_limit().limit_bytes(1 << 20).build().expect("runtime");
    let vector = runtime.pool().zeroed_over_limit::<u8>(8 * MIB);
    assert_eq!(runtime.stats().missed, 1);
    drop(vector);
}

struct Cache {
    bytes: AtomicUsize,
}

impl Holder for Cache {
    fn name(&self) -> &str {
        "a cache"
    }
    fn held_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
    fn reclaim(&self, target: usize) -> usize {
        let freed = self.held_bytes().min(target);
        self.bytes.fetch_sub(freed, Ordering::Relaxed);
        freed
    }
}

#[test]
fn holders_come_after_cached_blocks_and_leave_by_being_dropped() {
    let _alone = alone();
    let runtime = with_cached(Enforcement::default(), 16);
    let cache = Arc::new(Cache { bytes: AtomicUsize::new(100 * MIB) });
    let holder: Arc<dyn Holder> = cache.clone();
    runtime.register(&holder);
    runtime.look();
    // 24 MiB short: 16 from the cached block, the rest from the holder.
    let limit = runtime.counted_bytes() as usize;
    runtime.pool().ledger().set_limit(limit);
    let report = runtime.reclaim_point("heavy", 24 << 20);
    assert_eq!(report.freed.by("cached blocks"), 16 << 20);
    assert!(report.freed.by("holders") >= 8 << 20, "{report:?}");
    assert!(runtime.held().iter().any(|held| held.name == "a cache"));
    drop((holder, cache));
    assert!(!runtime.held().iter().any(|held| held.name == "a cache"));
}

/// Vectors of which one goes at a time, to the pool's free list.
struct Spare(Mutex<Vec<plimsoll_arena::PoolVec<u8>>>);

impl Holder for Spare {
    fn name(&self) -> &str {
        "spare vectors"
    }
    fn held_bytes(&self) -> usize {
        self.0.try_lock().map_or(0, |spare| spare.iter().map(|vector| vector.len()).sum())
    }
    fn reclaim(&self, _target: usize) -> usize {
        self.0.try_lock().map_or(0, |mut spare| spare.pop().map_or(0, |vector| vector.len()))
    }
}

#[test]
fn a_reclaim_point_climbs_again_for_what_the_last_climb_left() {
    let _alone = alone();
    let runtime = Runtime::builder().own_limit().build().expect("runtime");
    let vector = || runtime.pool().try_filled::<u8>(16 * MIB, 7).expect("memory");
    let spare: Arc<dyn Holder> = Arc::new(Spare(Mutex::new(vec![vector(), vector(), vector()])));
    runtime.register(&spare);
    leave(&runtime, 0);
    // A vector that goes is on the free list afterwards, which was climbed before it went.
    let report = runtime.reclaim_point("heavy", 24 << 20);
    assert_eq!(report.short_bytes, 0, "{report:?}");
    assert_eq!(report.freed.by("cached blocks"), 32 << 20, "{report:?}");
    assert_eq!(report.freed.rungs().filter(|(name, _)| *name == "holders").count(), 1);
    // It ends where nothing is left.
    let report = runtime.reclaim_point("heavier", 256 << 20);
    assert!(report.short_bytes > 0 && spare.held_bytes() == 0, "{report:?}");
}

#[test]
fn the_same_calls_give_the_same_actions() {
    let _alone = alone();
    // By the ledger alone: the samples of the rest of the process are the kernel's to choose.
    let run = || {
        let runtime = with_cached(Enforcement::default(), 48);
        drop(runtime.pool().try_filled::<u8>(5 * MIB, 1).expect("memory"));
        drop(runtime.pool().try_filled::<u8>(96 * MIB, 1).expect("memory"));
        leave(&runtime, 4);
        let first = runtime.reclaim_point("heavy", 32 << 20).freed.by("cached blocks");
        let left = runtime.pool().stats().cached_bytes;
        let second = runtime.reclaim_point("heavier", 256 << 20).freed.by("cached blocks");
        (first, left, second, runtime.enforcement_counts().at_reclaim_point)
    };
    assert_eq!(run(), run());
}
