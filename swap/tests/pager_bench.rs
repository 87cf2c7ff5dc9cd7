//! What a fault costs, and how near the pager comes to the disk under it.
//!
//! ```text
//!   limbo     a touch that brings 2 MiB back from limbo               ns each
//!   seq       spilled data read again in order, per disk bandwidth    B/s, peer raw O_DIRECT
//!   sealed    the same from an encrypted file, and filling it         B/s, peer the plain file
//!   packed    bits of BabyBear filled in and read again        B/s, peer without packing
//!   noise     the same of what does not pack: what deciding costs
//!   rows      10 KiB rows of spilled data in random order             B/s of 64 KiB reads
//! ```
//!
//! `cargo test --release -p plimsoll-swap --test pager_bench -- --ignored --nocapture`
//!
//! The peer of `seq` and `rows` is a file of the same size on the same disk, read with the same
//! number of threads just before: the disk of this machine is shared and its speed wanders.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use plimsoll_swap::backend::{AlignedBytes, Backend};
use plimsoll_swap::extent::ExtentMap;
use plimsoll_swap::file::{RamDisk, SpillFile};
use plimsoll_swap::pager::{CHUNK_BYTES, Pager, PagerBuilder, probe};
use plimsoll_swap::store::Encryption;

const MIB: usize = 1 << 20;
const RANGE: usize = 1024 * MIB;
const ROW_BYTES: usize = 10 << 10;

fn folder() -> std::path::PathBuf {
    std::env::var_os("PLIMSOLL_SPILL_DIR").map_or_else(std::env::temp_dir, Into::into)
}

fn builder(budget: usize) -> PagerBuilder {
    Pager::builder().range_bytes(RANGE).budget_bytes(budget).folder(&folder())
}

fn pager(budget: usize) -> Pager {
    built(builder(budget))
}

fn built(builder: PagerBuilder) -> Pager {
    builder.build().unwrap_or_else(|why| panic!("SKIPPED: {why}"))
}

fn words(pager: &Pager) -> &[AtomicU64] {
    // SAFETY: mapped for the pager's life, zero at first; atomics may be shared.
    unsafe { std::slice::from_raw_parts(pager.base().as_ptr().cast(), RANGE / 8) }
}

fn line(case: &str, ours: f64, peer: f64, unit: &str, peer_name: &str) {
    let ratio = ours / peer;
    println!(
        "bench=pager case={case} ours={ours:.4} peer={peer:.4} ratio={ratio:.3} unit={unit} \
         peer_name={peer_name}"
    );
}

/// A word of noise.
fn noise(i: usize) -> u64 {
    (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Two bits as elements of BabyBear in Montgomery form.
fn bits(i: usize) -> u64 {
    const ONE: u64 = 0x0FFF_FFFE;
    let bit = |at: u32| noise(i) >> at & 1;
    (bit(40) * ONE) | ((bit(50) * ONE) << 32)
}

/// Fills everything with what does not repeat.
fn fill(words: &[AtomicU64]) {
    fill_with(words, noise);
}

fn fill_with(words: &[AtomicU64], word: fn(usize) -> u64) {
    words.iter().enumerate().for_each(|(i, at)| at.store(word(i), Relaxed));
}

fn limbo() {
    let pager = pager(RANGE + RANGE / 8);
    let words = words(&pager);
    fill(words);
    let mut times = Vec::new();
    for _ in 0..4 {
        pager.cold(pager.base(), RANGE / 8);
        for chunk in 0..RANGE / 8 / CHUNK_BYTES {
            let start = Instant::now();
            words[chunk * CHUNK_BYTES / 8 + 77].fetch_add(1, Relaxed);
            times.push(start.elapsed().as_nanos() as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    line("limbo-hit/2MiB/median", times[times.len() / 2], 25_000.0, "ns", "bound");
    line("limbo-hit/2MiB/p99", times[times.len() * 99 / 100], 25_000.0, "ns", "bound");
}

/// Bytes a second of reads of `bytes` at `threads` places at a time.
fn raw(file: &SpillFile, bytes: usize, threads: usize, total: usize, random: bool) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut buffer = AlignedBytes::zeroed(bytes);
                let mut state = 77 + thread as u64;
                for i in 0..total / bytes / threads {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                    let place = i * threads + thread;
                    let place = if random { (state >> 33) as usize } else { place };
                    let at = place % (RANGE / bytes) * bytes;
                    file.read_at(at as u64, &mut buffer).expect("a read");
                }
            });
        }
    });
    total as f64 / start.elapsed().as_secs_f64()
}

fn raw_file(folder: &Path) -> SpillFile {
    let file = SpillFile::open(folder, RamDisk::Refuse).expect("a disk");
    let mut map = ExtentMap::new(RANGE as u64);
    file.reserve(map.alloc(RANGE as u64).expect("room")).expect("space");
    let mut buffer = AlignedBytes::zeroed(4 * MIB);
    for at in (0..RANGE).step_by(4 * MIB) {
        buffer[0] = at as u8;
        file.write_at(at as u64, &buffer).expect("a write");
    }
    file
}

fn sequential(file: &SpillFile) {
    for threads in [1, 2] {
        let pager = pager(RANGE / 4);
        let words = words(&pager);
        fill(words);
        let pass = || {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for part in words.chunks(words.len() / threads) {
                    scope.spawn(move || {
                        let sum =
                            part.iter().step_by(8).fold(0, |sum, word| sum ^ word.load(Relaxed));
                        std::hint::black_box(sum);
                    });
                }
            });
            start.elapsed().as_secs_f64()
        };
        pass();
        for _ in 0..3 {
            let peer = raw(file, 2 * MIB, 2, RANGE, false);
            let before = pager.stats();
            let seconds = pass();
            let after = pager.stats();
            // What was still in memory was not read.
            let read = (after.read_bytes - before.read_bytes) as f64;
            line(&format!("seq-reread/{threads}t"), read / seconds, peer, "B/s", "raw-2MiB-qd2");
            println!(
                "  passes at {:.2} GB/s, read {:.0} MiB, written {:.0} MiB, {} faults, {} loads",
                RANGE as f64 / seconds / 1e9,
                read / MIB as f64,
                (after.written_bytes - before.written_bytes) / MIB as u64,
                after.faults - before.faults,
                after.loads - before.loads,
            );
        }
    }
}

/// Bytes a second of filling everything with `word`, and of reading it again, by two threads.
fn fill_and_read(pager: &Pager, word: fn(usize) -> u64) -> [f64; 2] {
    let words = words(pager);
    let start = Instant::now();
    fill_with(words, word);
    let filled = start.elapsed().as_secs_f64();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for part in words.chunks(words.len() / 2) {
            scope.spawn(move || {
                let sum = part.iter().step_by(8).fold(0, |sum, word| sum ^ word.load(Relaxed));
                std::hint::black_box(sum);
            });
        }
    });
    [filled, start.elapsed().as_secs_f64()].map(|seconds| RANGE as f64 / seconds)
}

fn packed() {
    for _ in 0..3 {
        for (case, word) in [("packed", bits as fn(usize) -> u64), ("noise", noise)] {
            let file = fill_and_read(&built(builder(RANGE / 4).packed_limit_bytes(0)), word);
            let pager = pager(RANGE / 4);
            let ours = fill_and_read(&pager, word);
            for (part, index) in [("fill/1t", 0), ("reread/2t", 1)] {
                line(&format!("{case}-{part}"), ours[index], file[index], "B/s", "file-alone");
            }
            let stats = pager.stats();
            let mib = |bytes: u64| bytes / MIB as u64;
            println!(
                "  packed {} MiB, now {} MiB in {} MiB, written {} MiB, read {} MiB",
                mib(stats.packed_bytes),
                mib(stats.packed_now_bytes),
                mib(stats.shelf_bytes),
                mib(stats.written_bytes),
                mib(stats.read_bytes)
            );
        }
    }
}

fn sealed() {
    for _ in 0..3 {
        let plain = fill_and_read(&pager(RANGE / 4), noise);
        let sealed = built(builder(RANGE / 4).encryption(Encryption::On));
        let sealed = fill_and_read(&sealed, noise);
        line("sealed-fill/1t", sealed[0], plain[0], "B/s", "plain-file");
        line("sealed-reread/2t", sealed[1], plain[1], "B/s", "plain-file");
    }
}

fn rows(file: &SpillFile) {
    for threads in [1, 2, 4] {
        let pager = pager(RANGE / 4);
        let words = words(&pager);
        fill(words);
        for round in 0..2u64 {
            let peer = raw(file, 64 << 10, threads, RANGE / 4, true);
            let before = pager.stats();
            let start = Instant::now();
            std::thread::scope(|scope| {
                for thread in 0..threads as u64 {
                    scope.spawn(move || {
                        let mut state = 7 + thread + 100 * round;
                        let mut sum = 0;
                        for _ in 0..6000 / threads {
                            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                            let row = (state >> 33) as usize % (RANGE / ROW_BYTES);
                            let first = row * ROW_BYTES / 8;
                            for word in &words[first..first + ROW_BYTES / 8] {
                                sum ^= word.load(Relaxed);
                            }
                        }
                        std::hint::black_box(sum);
                    });
                }
            });
            let seconds = start.elapsed().as_secs_f64();
            let after = pager.stats();
            let read = (after.read_bytes - before.read_bytes) as f64;
            line(&format!("rows-10KiB/{threads}t"), read / seconds, peer, "B/s", "raw-64KiB");
            println!(
                "  {:.0} rows/s, written {} MiB",
                6000.0 / seconds,
                (after.written_bytes - before.written_bytes) / MIB as u64
            );
        }
    }
}

/// All five; `PAGER_BENCH=limbo` (or `seq`, `sealed`, `packed`, `rows`) runs one.
#[test]
#[ignore = "a benchmark: run it in release mode, on a quiet machine, with a disk"]
fn bench() {
    if let Err(why) = probe().door {
        eprintln!("SKIPPED, nothing was measured: {why}");
        return;
    }
    let only = std::env::var("PAGER_BENCH").ok();
    let wanted = |case: &str| only.as_deref().is_none_or(|only| only == case);
    if wanted("limbo") {
        limbo();
    }
    if wanted("seq") {
        sequential(&raw_file(&folder()));
    }
    if wanted("sealed") {
        sealed();
    }
    if wanted("packed") {
        packed();
    }
    if wanted("rows") {
        rows(&raw_file(&folder()));
    }
}
