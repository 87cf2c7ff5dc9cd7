//! What a pager costs while nothing is paged, beside the same allocator without one.
//!
//! ```text
//!   bench --- spawns ---> itself: no limit | a limit far away and a folder
//!     |<-- seconds -------- the first block, a large block filled, again, reused; pairs of calls
//! ```
//!
//! A process has its first block once, so each round has two of its own.

use crate::common::{self, Figure, Helper, Unit, median};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const PAGED: &str = "paged";
const PAGE_WORDS: usize = 4096 / 8;

/// Blocks of 1 MiB that are taken and given back.
const PAIRS: u32 = 20_000;

/// What is measured, in the order in which it is sent.
const CASES: [(&str, Unit); 5] = [
    ("first-block", Unit::Seconds),
    ("fill", Unit::Seconds),
    ("fill-again", Unit::Seconds),
    ("fill-reused", Unit::Seconds),
    ("take-and-give/1MiB", Unit::Nanoseconds),
];

/// Runs `rounds` pairs of processes that fill `bytes`, and prints the medians.
pub(crate) fn measure(folder: &Path, bytes: usize, rounds: usize) {
    let folder = folder.to_str().expect("a folder in UTF-8");
    let paged = [("PLIMSOLL_LIMIT", "64GiB"), ("PLIMSOLL_SPILL_DIR", folder)];
    // Empty is none, whatever this process was given.
    let plain = [("PLIMSOLL_LIMIT", ""), ("PLIMSOLL_SPILL_DIR", "")];
    let mut all = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        for (all, (name, variables)) in all.iter_mut().zip([(PAGED, paged), ("no-pager", plain)]) {
            let words = [name.to_owned(), bytes.to_string()];
            all.push(Helper::spawn(name, &variables, &words).answer());
        }
    }
    let of = |at: usize| {
        all.each_ref().map(|runs: &Vec<Vec<f64>>| {
            let values: Vec<f64> = runs.iter().map(|run| run[at]).collect();
            median(&values).expect("a round")
        })
    };
    for (at, (case, unit)) in CASES.iter().enumerate() {
        let ([ours, peer], case) = (of(at), &format!("cost/{case}"));
        Figure { bench: "pager", case, ours, peer, unit: *unit, peer_name: "no-pager" }.print();
    }
    let [ours, peer] = of(CASES.len());
    println!("# processor time in an idle second: {ours:.1} ms; {peer:.1} without a pager");
}

/// The process: its name, and the bytes to fill.
pub(crate) fn child(words: &[String]) {
    let [name, bytes] = words else { panic!("a name and bytes, not {words:?}") };
    let bytes: usize = bytes.parse().expect("bytes to fill");
    let started = Instant::now();
    black_box(Vec::<u8>::with_capacity(64 << 10));
    let first = started.elapsed().as_secs_f64();
    assert_eq!(crate::ALLOC.pages().pager().is_some(), name == PAGED, "{name}");
    let mut block = vec![0u64; bytes / 8];
    let (fresh, again) = (fill(&mut block, 1), fill(&mut block, 2));
    drop(block);
    let reused = fill(&mut vec![0u64; bytes / 8], 3);
    let started = Instant::now();
    for _ in 0..PAIRS {
        drop(black_box(Vec::<u8>::with_capacity(1 << 20)));
    }
    let pair = started.elapsed().as_secs_f64() * 1e9 / f64::from(PAIRS);
    let before = processor_ms();
    std::thread::sleep(Duration::from_secs(1));
    common::send(&[first, fresh, again, reused, pair, processor_ms() - before]);
}

/// Writes a word in each page; seconds.
fn fill(block: &mut [u64], value: u64) -> f64 {
    let started = Instant::now();
    for word in block.iter_mut().step_by(PAGE_WORDS) {
        *word = value;
    }
    black_box(block);
    started.elapsed().as_secs_f64()
}

/// Milliseconds of processor time that this process has had.
fn processor_ms() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}
