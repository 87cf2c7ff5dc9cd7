//! No call into the allocator from inside the allocator or from a thread of the pager: every call
//! of the process goes through two watchers, one above and one below the global allocator.
//!
//! ```text
//!   program -> Above -> Global<Below, Paged> -> Below -> System
//!                abort if entered from inside     abort on a thread of the pager
//! ```
//!
//! A thread of the pager is known by its signals, which are all blocked; no other thread of this
//! binary blocks any. While the pager is made it may take small blocks, so Above lets one call
//! in until it is there, and none inside of that.
//!
//! A call is seen where the program gets to, so the program is to get everywhere: it is run with
//! encryption, and with a plan that is learnt, used, left and removed; each part of it says which
//! paths it is for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::Command;
use std::time::Duration;

use nix::libc;
use plimsoll_arena::global::{Global, InnerPurge};
use plimsoll_arena::process::skipped;
use plimsoll_swap::pager::{FailFast, Paged, Pager, cold, probe, will_need};

const CHILD: &str = "PLIMSOLL_REENTRANCY_CHILD";
const PLAN: &str = "PLIMSOLL_PLAN";
const MIB: usize = 1 << 20;
const THREADS: usize = 4;

/// A child that hangs, since what it called waits for itself, is killed after this.
const SECONDS_MAX: u32 = 120;

thread_local! {
    /// Calls under way on this thread.
    static ABOVE: Cell<u32> = const { Cell::new(0) };
}

fn abort(why: &str) -> ! {
    // SAFETY: pointer and length of one slice.
    unsafe { libc::write(2, why.as_ptr().cast(), why.len()) };
    std::process::abort();
}

/// Whether all signals are blocked on this thread.
fn is_pagers() -> bool {
    // SAFETY: a set is plain bits, and filled by the next call.
    let mut blocked: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: only asks; writes one set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked) };
    // SAFETY: the set was filled above.
    unsafe { libc::sigismember(&raw const blocked, libc::SIGUSR2) == 1 }
}

struct Below;

impl Below {
    fn watch() {
        if is_pagers() {
            abort("a thread of the pager called the allocator\n");
        }
    }
}

// SAFETY: passes every call on as it came.
unsafe impl GlobalAlloc for Below {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::watch();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        Self::watch();
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(start, layout) };
    }
}

impl InnerPurge for Below {
    fn prepare(&self, limit_bytes: usize) {
        System.prepare(limit_bytes);
    }
    fn purge(&self) {
        Self::watch();
        System.purge();
    }
}

struct Above(Global<Below, Paged>);

impl Above {
    fn watched<R>(&self, act: impl FnOnce() -> R) -> R {
        ABOVE.set(ABOVE.get() + 1);
        let most = if self.0.pages().pager().is_some() { 1 } else { 2 };
        if ABOVE.get() > most {
            abort("the allocator was entered from inside the allocator\n");
        }
        if is_pagers() {
            abort("a thread of the pager called the allocator\n");
        }
        let result = act();
        ABOVE.set(ABOVE.get() - 1);
        result
    }
}

// SAFETY: passes every call on as it came.
unsafe impl GlobalAlloc for Above {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        self.watched(|| unsafe { self.0.alloc(layout) })
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        self.watched(|| unsafe { self.0.alloc_zeroed(layout) })
    }
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        self.watched(|| unsafe { self.0.dealloc(start, layout) });
    }
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as the caller promised.
        self.watched(|| unsafe { self.0.realloc(start, layout, bytes) })
    }
}

#[global_allocator]
static ALLOC: Above = Above(Global::new(Below, Paged::new()));

/// The contents of a word: its place, and what tells its block from others.
fn word(place: usize, block: usize) -> usize {
    place * 3 + block
}

fn check(block: &[usize], number: usize) {
    for (place, found) in block.iter().enumerate().step_by(77) {
        assert_eq!(*found, word(place, number));
    }
}

/// Grows, shrinks and reads back, with hints: faults, evicting, writing, reading, `realloc`.
fn grow_and_spill(thread: usize) -> Vec<Vec<usize>> {
    let mut kept: Vec<Vec<usize>> = Vec::new();
    for round in 0..12 {
        let mut block = vec![0usize; 0];
        for place in 0..MIB / 2 {
            block.push(word(place, thread + round));
        }
        // A hint takes the locks that the allocator takes, and must not call it either.
        ALLOC.watched(|| cold(&block));
        kept.push(block);
        ALLOC.watched(|| will_need(&kept[round / 2]));
        kept[round / 3].truncate(MIB / 4 + 77);
        kept[round / 3].shrink_to_fit();
    }
    for (round, block) in kept.iter().enumerate() {
        check(block, thread + round);
    }
    kept
}

/// All threads look at the same blocks: one finds there what another has just asked for.
fn look_together(all: &[Vec<usize>], thread: usize) {
    let mut at = thread;
    for _ in 0..300 {
        // A generator of full period, for steps that no stream of reads is seen in.
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let block = &all[(at >> 32) % all.len()];
        std::hint::black_box(block[(at >> 40) % block.len()]);
    }
    for _ in 0..2 {
        for block in all {
            ALLOC.watched(|| cold(block));
            std::hint::black_box(block.iter().step_by(512).sum::<usize>());
        }
    }
}

/// Blocks that are made zero, that the file need not hold, and that are long enough to move.
fn odd_contents() {
    let mut zeroed = Vec::new();
    for round in 0..16 {
        let mut block = vec![0usize; MIB / 2];
        block[round] = round;
        zeroed.push(block);
    }
    let repeating: Vec<_> = (0..24).map(|round| vec![round + 1usize; MIB / 2]).collect();
    let mut long = Vec::new();
    for place in 0..5 * MIB {
        long.push(word(place, 0));
    }
    assert!(zeroed.iter().enumerate().all(|(round, block)| block[round] == round));
    for (round, block) in repeating.iter().enumerate() {
        assert!(block.iter().step_by(77).all(|found| *found == round + 1));
    }
    check(&long, 0);
}

/// A word that has half of its bits, by its place: it packs, and not well.
fn half(place: usize) -> usize {
    place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40
}

/// Shelves fill up, and are cleared when the limit is far lower.
fn shelves_and_a_lower_limit() {
    let blocks: Vec<Vec<usize>> = (0..12).map(|_| (0..MIB).map(half).collect()).collect();
    let limit = ALLOC.watched(|| ALLOC.0.set_limit(20 * MIB));
    for block in &blocks {
        assert!(block.iter().enumerate().step_by(77).all(|(place, found)| *found == half(place)));
    }
    ALLOC.watched(|| ALLOC.0.set_limit(limit));
}

/// Rows of a long array, in the order in which a transform leaves them.
fn rows_in_bit_reversed_order() {
    const ROW_WORDS: usize = 1 << 10;
    const ROWS: usize = 1 << 14;
    // Noise: what packs is not in the file, and not read ahead.
    let noise = |place: usize| half(place) ^ place.wrapping_mul(0xD1B5_4A32_D192_ED03) << 8;
    let array: Vec<usize> = (0..ROWS * ROW_WORDS).map(noise).collect();
    for time in 0..ROWS {
        let row = time.reverse_bits() >> (usize::BITS - ROWS.ilog2());
        let start = row * ROW_WORDS;
        for place in (start..start + ROW_WORDS).step_by(77) {
            assert_eq!(array[place], noise(place));
        }
    }
}

/// Small blocks take all that the limit leaves: the allocator asks the one below and the pager.
fn over_the_limit() {
    let crowd: Vec<Vec<u8>> = (0..3000).map(|_| vec![1u8; 32 << 10]).collect();
    for round in 0..8 {
        check(&(0..MIB / 4).map(|place| word(place, round)).collect::<Vec<_>>(), round);
    }
    drop(crowd);
    ALLOC.watched(|| ALLOC.0.reclaim(usize::MAX));
    let limit = ALLOC.watched(|| ALLOC.0.set_limit(48 * MIB));
    ALLOC.watched(|| ALLOC.0.set_limit(limit));
}

/// A pager with the least budget, which is looked at for thrashing all the time. It stays for
/// good: at its end a thread frees what it was started with.
fn least_budget() {
    let pager = Pager::builder()
        .range_bytes(64 * MIB)
        .budget_bytes(2 * MIB)
        .folder(std::path::Path::new("/var/tmp"))
        .fail_fast(FailFast { window: Duration::from_millis(1), stalled_percent: u32::MAX })
        .build()
        .expect("a second pager");
    let pager: &'static Pager = Box::leak(Box::new(pager));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                // Nearly twice around: the second time what left is wanted again.
                for page in 0..4096 {
                    // SAFETY: inside the range; each thread has bytes of its own.
                    let place = unsafe { pager.base().add(page * 4096 * 7 % (64 * MIB) + thread) };
                    // SAFETY: as above.
                    unsafe { place.write_volatile(page as u8) };
                }
            });
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    let (stats, thrash) = (pager.stats(), pager.thrash());
    assert!(stats.faults > 0 && stats.written_bytes + stats.packed_bytes > 0, "{stats:?}");
    assert!(thrash.refaulted_bytes > 0 && !thrash.stalled.is_zero(), "{thrash:?}");
}

/// Proofs in a vector that comes and goes, until one goes by what was learnt from the first. What
/// comes after them is not as planned, so the plan is left, too.
fn proofs_by_a_plan() {
    if std::env::var_os(PLAN).is_none() {
        return;
    }
    let pager = ALLOC.0.pages().pager();
    for proof in 0.. {
        let vector: Vec<usize> = (0..12 * MIB).map(|place| word(place, proof)).collect();
        for round in 0..4 {
            check(&vector, proof);
            for at in 0..1000 {
                let place = (at * 7919 + round) * 8192 % vector.len();
                assert_eq!(vector[place], word(place, proof));
            }
        }
        let stats = pager.or_else(|| ALLOC.0.pages().pager()).expect("a pager").stats();
        if stats.planned_bytes + stats.unplanned_bytes > 0 {
            return;
        }
        assert!(proof < 50, "no plan: {stats:?}");
    }
}

/// Goes everywhere. Does nothing in an ordinary run.
#[test]
fn program() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    // SAFETY: no preconditions; nobody handles the signal, so it ends the process.
    unsafe { libc::alarm(SECONDS_MAX) };
    proofs_by_a_plan();
    let all: Vec<Vec<usize>> = std::thread::scope(|scope| {
        let grow = |thread| scope.spawn(move || grow_and_spill(thread));
        let threads: Vec<_> = (0..THREADS).map(grow).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let all = &all;
            scope.spawn(move || look_together(all, thread));
        }
    });
    drop(all);
    odd_contents();
    rows_in_bit_reversed_order();
    shelves_and_a_lower_limit();
    over_the_limit();
    least_budget();
    let pager = ALLOC.0.pages().pager().expect("the test asked for one").stats();
    assert!(pager.written_bytes > 0 && pager.read_bytes > 0, "{pager:?}");
    assert!(pager.rescued_bytes > 0 && pager.read_ahead_used_bytes > 0, "{pager:?}");
    assert!(pager.repeating_bytes > 0 && pager.found_zero_bytes > 0, "{pager:?}");
    assert!(pager.packed_bytes > 0 && pager.unpacked_bytes > 0, "{pager:?}");
    assert!(pager.cleared_bytes > 0, "{pager:?}");
    assert!(pager.read_ahead_bytes > 0 && pager.rows_ahead_bytes > 0, "{pager:?}");
    assert!(pager.clean_bytes > 0 && pager.dead_bytes > 0, "{pager:?}");
    let sealed = std::env::var_os("PLIMSOLL_ENCRYPT_SPILL").is_some_and(|value| value == "1");
    assert_eq!(pager.sealed_bytes > 0, sealed, "{pager:?}");
    let stats = ALLOC.0.stats();
    assert!(stats.limit_hits > 0 && stats.copied_bytes > 0 && stats.purged_bytes > 0, "{stats:?}");
    println!("went through");
}

/// Runs the program. Returns what it said on standard error, if there can be a pager.
fn goes_through(variable: (&str, &str)) -> Option<String> {
    if let Err(why) = probe().door {
        skipped("pager_reentrancy", why);
        return None;
    }
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "program", "--nocapture"]).env(CHILD, "1");
    command.env("PLIMSOLL_LIMIT", "64MiB").env("PLIMSOLL_SPILL_DIR", "/var/tmp");
    command.env(variable.0, variable.1);
    let output = command.output().expect("a child");
    let text = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && said.contains("went through");
    // It is killed by SIGALRM when it hangs.
    assert!(passed, "the program ended with {}:\n{said}{text}", output.status);
    Some(text.into_owned())
}

#[test]
fn neither_the_allocator_nor_a_pagers_thread_calls_the_allocator() {
    let folder = tempfile::tempdir().expect("a folder");
    let auto = format!("auto:{}", folder.path().display());
    let Some(said) = goes_through((PLAN, &auto)) else { return };
    assert!(said.contains("does not do what its plan says"), "{said}");
    assert_eq!(folder.path().read_dir().expect("the folder").count(), 0, "a plan that is left");
}

#[test]
fn nor_where_the_file_is_encrypted() {
    _ = goes_through(("PLIMSOLL_ENCRYPT_SPILL", "1"));
}
