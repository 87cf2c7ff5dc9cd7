//! A whole process on the global allocator: rayon, collections and strings; fork, exec, thread and
//! process exit; the environment's limit; what the kernel says of faults and resident bytes.
//!
//! Cases that end a process run in a child: this program again, with `PLIMSOLL_CASE` set.

#![cfg(all(target_os = "linux", not(miri)))]

use plimsoll_arena::global::{Ask, Global, reclaim_process};
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hint::black_box;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

#[global_allocator]
static ALLOC: Global = Global::system();

/// Tests that look at the process as a whole run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn filled(bytes: usize, byte: u8) -> Vec<u8> {
    // Else one that is dropped unread is never made.
    black_box(vec![byte; bytes])
}

fn is_filled(bytes: &[u8], byte: u8) -> bool {
    bytes.iter().step_by(509).all(|b| *b == byte)
}

/// Blocks of all kinds come, grow, move and go.
fn churn(rounds: usize) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for round in 0..rounds {
        let bytes = [70_000, 300_000, 3 * MIB, 5 * MIB + 1][round % 4];
        let mut block = filled(bytes, round as u8);
        block.resize(bytes + 100_000, round as u8);
        assert!(is_filled(&block, round as u8));
        kept.push(block);
        if kept.len() > 5 {
            kept.swap_remove(round % 5);
        }
    }
}

fn minor_faults() -> i64 {
    // SAFETY: a struct of integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is writable.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    usage.ru_minflt
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim_end_matches("kB").trim().parse::<usize>().expect("a number") << 10
}

fn child(case: &str, variables: &[(&str, &str)]) -> Output {
    let program = std::env::current_exe().expect("a path");
    let mut command = Command::new(program);
    command.args(["--exact", "the_child", "--nocapture", "--include-ignored"]);
    command.env("PLIMSOLL_CASE", case).env_remove("PLIMSOLL_LIMIT");
    command.envs(variables.iter().copied()).output().expect("it starts")
}

fn passed(case: &str, variables: &[(&str, &str)]) -> String {
    let output = child(case, variables);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{case}: {:?}\n{text}", output.status);
    text
}

/// The cases that need a process of their own.
#[test]
#[ignore = "run by the others, in a process of its own"]
fn the_child() {
    match std::env::var("PLIMSOLL_CASE").as_deref() {
        Ok("limit") => limit_case(),
        Ok("lowered") => lowered_case(),
        Ok("faults") => faults_case(),
        Ok("reclaim") => reclaim_case(),
        Ok("atexit") => atexit_case(),
        Ok("before main") => before_main_case(),
        Ok("plain") => churn(10),
        _ => {}
    }
}

#[test]
fn rayon_collections_and_strings() {
    let words: Vec<String> = (0..200_000).into_par_iter().map(|i| format!("word {i}")).collect();
    let counts: HashMap<&str, usize> =
        words.iter().enumerate().map(|(at, word)| (word.as_str(), at)).collect();
    assert!(words.par_iter().enumerate().all(|(at, word)| counts[word.as_str()] == at));
    let mut sorted = words.clone();
    sorted.par_sort();
    let joined = sorted.concat();
    assert_eq!(joined.len(), words.iter().map(String::len).sum::<usize>());
    let columns: Vec<Vec<u64>> =
        (0..64u64).into_par_iter().map(|c| (0..50_000).map(|r| r ^ c).collect()).collect();
    let sums: u64 = columns.par_iter().map(|c| c.iter().sum::<u64>()).sum();
    let expected: u64 = (0..64u64).map(|c| (0..50_000u64).map(|r| r ^ c).sum::<u64>()).sum();
    assert_eq!(sums, expected);
    assert!(ALLOC.stats().blocks > 64);
}

#[test]
fn a_storm_of_threads_that_come_and_go() {
    for _ in 0..8 {
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| churn(30));
            }
        });
    }
}

#[test]
fn blocks_cross_threads() {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<u8>>(4);
    let thread = std::thread::spawn(move || {
        receiver.into_iter().all(|block| is_filled(&block, block.len() as u8))
    });
    for round in 0..500 {
        let bytes = 65_536 + round * 7_919;
        sender.send(filled(bytes, bytes as u8)).expect("the thread listens");
    }
    drop(sender);
    assert!(thread.join().expect("it ends"));
}

#[test]
fn thread_locals_allocate_while_they_are_destroyed() {
    struct Last(Vec<u8>);
    impl Drop for Last {
        fn drop(&mut self) {
            let block = black_box(filled(self.0.len() * 2, 3));
            assert!(is_filled(&block, 3) && is_filled(&self.0, 9));
        }
    }
    thread_local!(static LAST: RefCell<Option<Last>> = const { RefCell::new(None) });
    for _ in 0..20 {
        let thread = std::thread::spawn(|| {
            LAST.with_borrow_mut(|last| *last = Some(Last(filled(3 * MIB, 9))));
        });
        thread.join().expect("it ends");
    }
}

/// Forks, runs `act` in the child, and waits. The child is killed if it hangs.
fn fork(act: impl FnOnce() -> bool) {
    // SAFETY: the child does nothing but allocate, check and leave.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "a child");
    if pid == 0 {
        // SAFETY: alarm has no preconditions.
        unsafe { libc::alarm(60) };
        let code = i32::from(!act());
        // SAFETY: leaves without running anything of the parent's.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the child was made above.
    let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!((waited, status), (pid, 0), "the child ended well (a status of 14: it hung)");
}

#[test]
fn children_of_fork_allocate_while_other_threads_of_the_parent_did() {
    let _alone = alone();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    churn(20);
                }
            });
        }
        for round in 0..150u8 {
            let mine = filled(3 * MIB, round);
            fork(|| {
                let block = filled(4 * MIB, round);
                let sound = is_filled(&mine, round) && is_filled(&block, round);
                let mut longer = mine;
                longer.resize(9 * MIB, round);
                drop(block);
                sound && is_filled(&longer, round) && filled(100_000, 1).len() == 100_000
            });
        }
        stop.store(true, Relaxed);
    });
}

#[test]
fn programs_are_started_under_pressure() {
    std::thread::scope(|scope| {
        scope.spawn(|| churn(300));
        for _ in 0..20 {
            assert!(Command::new("true").status().expect("it starts").success());
        }
    });
}

#[test]
fn the_error_number_survives() {
    // SAFETY: each thread has one.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { errno.write(77) };
    for round in 0..50 {
        drop(black_box(filled((round + 1) * MIB, 1)));
    }
    // SAFETY: as above.
    assert_eq!(unsafe { errno.read() }, 77);
}

/// What was allocated before `main`, `None` if it was not as written.
static BEFORE_MAIN: OnceLock<Option<Vec<u8>>> = OnceLock::new();

extern "C" fn before_main() {
    if std::env::var_os("PLIMSOLL_CASE").is_none_or(|case| case != "before main") {
        return;
    }
    let mut block = filled(3 * MIB, 8);
    block.resize(5 * MIB, 8);
    _ = BEFORE_MAIN.set(Some(block).filter(|block| is_filled(block, 8)));
}

// SAFETY: the loader calls what is in this section once, before `main`, with the C library set up;
// the function allocates, and takes no arguments where the loader passes some.
#[unsafe(link_section = ".init_array")]
#[used]
static INIT: extern "C" fn() = before_main;

#[test]
fn blocks_are_allocated_before_main() {
    passed("before main", &[]);
    passed("before main", &[("PLIMSOLL_LIMIT", "64MiB")]);
}

fn before_main_case() {
    let block = BEFORE_MAIN.get().and_then(Option::as_ref).expect("called, and as it was written");
    assert!(block.len() == 5 * MIB && is_filled(block, 8) && ALLOC.owns(block.as_ptr()));
}

#[test]
fn blocks_are_allocated_at_exit() {
    passed("atexit", &[]);
}

fn atexit_case() {
    extern "C" fn last() {
        let block = filled(4 * MIB, 5);
        if !is_filled(&block, 5) {
            std::process::abort();
        }
    }
    drop(filled(3 * MIB, 1));
    // SAFETY: the function is sound at any time.
    assert_eq!(unsafe { libc::atexit(last) }, 0);
}

#[test]
fn a_limit_that_is_not_understood_is_said_once_and_ignored() {
    let said = passed("plain", &[("PLIMSOLL_LIMIT", "8 gigs")]);
    assert_eq!(said.matches("PLIMSOLL_LIMIT").count(), 1, "{said}");
    assert!(said.contains("\"8 gigs\""), "{said}");
    assert!(!passed("plain", &[("PLIMSOLL_LIMIT", "8GiB")]).contains("PLIMSOLL_LIMIT"));
}

#[test]
fn over_the_limit_nothing_is_cached_and_nothing_refused() {
    passed("limit", &[("PLIMSOLL_LIMIT", "100MiB")]);
}

fn limit_case() {
    assert_eq!(ALLOC.limit_bytes(), usize::MAX, "not read before the first block");
    drop(filled(90 * MIB, 1));
    assert!(ALLOC.stats().cached_bytes >= 88 * MIB, "under the limit pages stay");
    let kept = filled(60 * MIB, 2);
    let more = filled(70 * MIB, 3);
    let stats = ALLOC.stats();
    assert_eq!(stats.limit_bytes, 100 * MIB);
    assert!(stats.limit_hits > 0 && stats.cached_bytes < 3 * MIB, "{stats:?}");
    drop(more);
    assert!(resident_bytes() <= 100 * MIB, "{} resident", resident_bytes());
    assert!(is_filled(&kept, 2));
}

#[test]
fn a_lowered_limit_gives_back_at_once() {
    passed("lowered", &[]);
}

fn lowered_case() {
    let kept = filled(20 * MIB, 2);
    drop(filled(90 * MIB, 1));
    assert!(resident_bytes() > 100 * MIB);
    assert_eq!(ALLOC.set_limit(50 * MIB), usize::MAX);
    assert!(resident_bytes() <= 50 * MIB, "{} resident", resident_bytes());
    assert_eq!(ALLOC.set_limit(usize::MAX), 50 * MIB);
    assert!(is_filled(&kept, 2));
}

#[test]
fn recycled_blocks_cost_no_page_fault() {
    passed("faults", &[]);
}

fn faults_case() {
    let sizes = [70_000, 500_000, 3 * MIB, 64 * MIB];
    let once = || {
        let blocks: Vec<_> = sizes.iter().map(|bytes| filled(*bytes, 1)).collect();
        black_box(&blocks);
    };
    once();
    let before = minor_faults();
    for _ in 0..20 {
        once();
    }
    let faults = minor_faults() - before;
    assert!(faults < 40, "{faults} page faults in 20 rounds of {} MiB", sizes[3] / MIB);
}

#[test]
fn after_a_reclaim_what_is_resident_is_live() {
    passed("reclaim", &[]);
}

fn reclaim_case() {
    let before = resident_bytes();
    let mut kept = Vec::new();
    for round in 0..400 {
        let bytes = [70_000, 300_000, 3 * MIB, 5 * MIB + 1][round % 4];
        let block = filled(bytes, round as u8);
        if round % 7 == 0 {
            kept.push(block);
        }
    }
    drop(filled(200 * MIB, 1));
    ALLOC.reclaim(usize::MAX);
    let live: usize = kept.iter().map(Vec::len).sum();
    let resident = resident_bytes() - before;
    assert!(resident * 20 <= live * 21 + 20 * MIB, "{resident} resident for {live} live");
    // Who has no reference to it asks through the door.
    drop(filled(32 * MIB, 1));
    let freed = reclaim_process(Ask::Cached(8 * MIB)).expect("this allocator");
    assert!((8 * MIB..32 * MIB).contains(&freed), "{freed}");
    let rest = reclaim_process(Ask::Everything).expect("this allocator");
    assert!(rest > 0 && ALLOC.stats().cached_bytes == 0, "{rest}");
    assert_eq!(ALLOC.check(), Ok(()));
}
