//! System calls that touch evicted memory, and programs started while pages come and go.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::libc;
use plimsoll_arena::process::skipped;

use super::tests::{pager, pattern, words};
use super::*;

const MIB: usize = 1 << 20;
const LEN: usize = 8 * MIB;

/// The first [`LEN`] bytes of the range.
#[expect(clippy::mut_from_ref, reason = "one thread, one slice at a time")]
fn bytes(pager: &Pager) -> &mut [u8] {
    // SAFETY: mapped for the pager's life; the caller holds no other reference into it.
    unsafe { std::slice::from_raw_parts_mut(pager.base().as_ptr(), LEN) }
}

fn evict(pager: &Pager) {
    // The kernel may let go of what it has pinned a moment after the call.
    let until = Instant::now() + Duration::from_secs(20);
    while pager.stats().held_bytes > 0 && Instant::now() < until {
        pager.cold(pager.base(), LEN);
        pager.reclaim(64 * MIB);
    }
    assert_eq!(pager.stats().held_bytes, 0);
}

fn file(direct: bool) -> File {
    let flags = libc::O_TMPFILE | if direct { libc::O_DIRECT } else { 0 };
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    options.open("/var/tmp").expect("a file without a name")
}

fn round_trip(pager: &Pager, mut file: File) {
    for (i, word) in words(pager)[..LEN / 8].iter().enumerate() {
        word.store(pattern(i, 1), Relaxed);
    }
    evict(pager);
    file.write_all(bytes(pager)).expect("a write from evicted pages");
    for word in &words(pager)[..LEN / 8] {
        word.store(0, Relaxed);
    }
    evict(pager);
    file.rewind().expect("the start");
    file.read_exact(bytes(pager)).expect("a read into evicted pages");
    evict(pager);
    for (i, word) in words(pager)[..LEN / 8].iter().enumerate() {
        assert_eq!(word.load(Relaxed), pattern(i, 1), "word {i}");
    }
}

#[test]
fn read_and_write_of_evicted_buffers_see_the_contents() {
    let Some(pager) = pager(16 * MIB, 4 * MIB) else { return };
    if pager.door() == Door::UserModeOnly {
        skipped("system calls on evicted buffers", "faults in them are not served here");
        return;
    }
    round_trip(&pager, file(false));
    pager.engine().check();
}

#[test]
fn direct_io_on_evicted_buffers_sees_the_contents() {
    // Larger than the request, and smaller: its pages are then pinned and cannot be evicted.
    for budget in [32 * MIB, MIB, GRANULE_BYTES] {
        let Some(pager) = pager(16 * MIB, budget) else { return };
        if pager.door() == Door::UserModeOnly {
            skipped("system calls on evicted buffers", "faults in them are not served here");
            return;
        }
        round_trip(&pager, file(true));
        let stats = pager.stats();
        eprintln!("budget {budget}: {stats:?}");
        // Over the budget is what the request pins, and it is given back.
        assert!(stats.held_bytes_peak <= (budget + LEN) as u64, "{stats:?}");
        assert!(stats.overdrafts > 0 || stats.held_bytes_peak <= budget as u64, "{stats:?}");
        pager.engine().check();
    }
}

#[test]
fn direct_io_beside_eviction_is_never_torn() {
    let Some(pager) = pager(64 * MIB, 4 * MIB) else { return };
    if pager.door() == Door::UserModeOnly {
        return;
    }
    let file = file(true);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The second half of the range, again and again: everything is always evicted.
            let words = words(&pager);
            while !done.load(Relaxed) {
                for i in (words.len() / 2..words.len()).step_by(512) {
                    words[i].fetch_add(1, Relaxed);
                }
            }
        });
        for round in 1..30 {
            for (i, word) in words(&pager)[..LEN / 8].iter().enumerate().step_by(64) {
                word.store(pattern(i, round), Relaxed);
            }
            file.write_all_at(bytes(&pager), 0).expect("a write");
            bytes(&pager).fill(0);
            file.read_exact_at(bytes(&pager), 0).expect("a read");
            for (i, word) in words(&pager)[..LEN / 8].iter().enumerate().step_by(64) {
                assert_eq!(word.load(Relaxed), pattern(i, round), "word {i} of round {round}");
            }
        }
        done.store(true, Relaxed);
    });
    eprintln!("{:?}", pager.stats());
    pager.engine().check();
}

#[test]
fn programs_start_while_pages_come_and_go() {
    let Some(pager) = pager(64 * MIB, 4 * MIB) else { return };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for part in 0..2 {
            let (pager, done) = (&pager, &done);
            scope.spawn(move || {
                let words = words(pager);
                let half = words.len() / 2;
                let mut round = 0;
                while !done.load(Relaxed) {
                    for i in (part * half..(part + 1) * half).step_by(512) {
                        let before = if round == 0 { 0 } else { pattern(i, round) };
                        assert_eq!(words[i].swap(pattern(i, round + 1), Relaxed), before);
                    }
                    round += 1;
                }
            });
        }
        for _ in 0..40 {
            let output = Command::new("true").output().expect("a program");
            assert!(output.status.success());
        }
        done.store(true, Relaxed);
    });
    pager.engine().check();
}

/// Where [`touch_one`] reads, and how often it did.
static START: AtomicUsize = AtomicUsize::new(0);
static TOUCHED: AtomicUsize = AtomicUsize::new(0);

/// A handler that reads memory of the program's, as a profiler's does.
extern "C" fn touch_one(_: libc::c_int) {
    let number = TOUCHED.fetch_add(1, Relaxed);
    let offset = number * 7919 % (LEN / GRANULE_BYTES) * GRANULE_BYTES;
    let word = std::ptr::with_exposed_provenance::<u8>(START.load(Relaxed) + offset);
    // SAFETY: mapped while the signals come.
    std::hint::black_box(unsafe { word.read_volatile() });
}

#[test]
fn signals_that_touch_evicted_pages_never_meet_a_held_lock() {
    let Some(pager) = pager(32 * MIB, MIB) else { return };
    START.store(pager.base().as_ptr().expose_provenance(), Relaxed);
    for word in &words(&pager)[..LEN / 8] {
        word.store(7, Relaxed);
    }
    // SAFETY: the handler reads mapped memory and atomics only.
    unsafe { libc::signal(libc::SIGUSR2, touch_one as *const () as libc::sighandler_t) };
    let (ready, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let called = scope.spawn(|| {
            // SAFETY: no preconditions.
            ready.store(unsafe { libc::pthread_self() } as usize, Relaxed);
            let behind = NonNull::new(pager.base().as_ptr().wrapping_add(LEN)).expect("inside");
            let mut calls = 0;
            while calls < 20_000 || TOUCHED.load(Relaxed) < 500 {
                calls += 1;
                pager.array(behind, 2 * LEN);
                pager.live(behind, 2 * LEN);
                pager.stats();
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            let thread = ready.load(Relaxed);
            if thread != 0 {
                // SAFETY: the thread is joined below, so its id is one.
                unsafe { libc::pthread_kill(thread as libc::pthread_t, libc::SIGUSR2) };
            }
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        called.join().expect("no panic");
    });
    eprintln!("{} signals", TOUCHED.load(Relaxed));
    pager.engine().check();
}
