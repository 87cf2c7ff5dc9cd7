//! What giving memory back costs.
//!
//! ```text
//!   idle-point              a reclaim point that has headroom; ns. Peer: reading the kernel's
//!                           figure (/proc/self/statm), which is how to know without a ledger
//!   free-rate/TOTAL@BLOCK   TOTAL resident bytes in blocks of BLOCK, all given back; B/s
//!   free-rate               the slowest of those for us
//! ```
//!
//! Peers of the free rate are vectors of glibc of the same sizes, dropped: each is a mapping of its
//! own (the threshold is pinned, or glibc would move it), so that a drop is a `munmap`. `glibc` is
//! what its user gets, 4 KiB pages; `glibc-huge` asks for huge pages where a block holds any.
//!
//! Every page is written before it is given back, and what was written is summed up; our pool then
//! asks the kernel whether anything stayed.
//!
//! Run: `cargo bench --bench reclaim`; seconds long, small: `PLIMSOLL_BENCH_SMOKE=1`.

mod common;

use common::{Effort, Figure, Unit};
use plimsoll::{Pool, PoolVec, Runtime};
use std::hint::black_box;
use std::io::{Read, Seek};
use std::time::Instant;

const PAGE_BYTES: usize = 4096;

/// Words from one page to the next.
const PAGE_LEN: usize = PAGE_BYTES / size_of::<u64>();

/// Times `count` calls of `work`, `rounds` times; returns nanoseconds a call, the median round.
fn nanoseconds(rounds: usize, count: usize, mut work: impl FnMut()) -> f64 {
    let mut figures = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..count {
            work();
        }
        figures.push(start.elapsed().as_secs_f64() * 1e9 / count as f64);
    }
    common::median(&figures).expect("at least one round")
}

fn idle_point(effort: Effort) {
    let rounds = if effort == Effort::Full { 301 } else { 11 };
    let runtime = Runtime::builder().limit_bytes(1 << 40).build().expect("a runtime");
    let need_bytes = 64 << 20;
    let (mut calls, mut noted) = (0u64, 0u64);
    let ours = nanoseconds(rounds, 10_000, || {
        let report = black_box(&runtime).reclaim_point("idle", black_box(need_bytes));
        black_box(&report);
        calls += 1;
        noted += report.need_bytes - report.short_bytes - report.freed.total_bytes();
    });
    assert_eq!(noted, calls * need_bytes, "every point had headroom and freed nothing");
    let mut statm = std::fs::File::open("/proc/self/statm").expect("this bench needs /proc");
    let (mut text, mut pages) = (String::new(), 0usize);
    let peer = nanoseconds(rounds, 100, || {
        text.clear();
        statm.rewind().expect("a file of /proc can be read again");
        statm.read_to_string(&mut text).expect("text");
        let word = text.split_whitespace().nth(1).and_then(|word| word.parse::<usize>().ok());
        pages += word.expect("resident pages");
    });
    assert!(pages > 0, "this process has memory");
    let (unit, peer_name) = (Unit::Nanoseconds, "statm");
    Figure { bench: "reclaim", case: "idle-point", ours, peer, unit, peer_name }.print();
}

/// Writes a word a page and returns their sum.
fn touch(words: &mut [u64]) -> u64 {
    words.iter_mut().step_by(PAGE_LEN).zip(1u64..).fold(0, |sum, (word, value)| {
        *word = value;
        sum.wrapping_add(value)
    })
}

fn sum_of_touched(words: &[u64]) -> u64 {
    words.iter().step_by(PAGE_LEN).fold(0, |sum, word| sum.wrapping_add(*word))
}

/// Bytes a second of one reclaim of `total` bytes in blocks of `block`.
fn reclaim_once(pool: &Pool, total: usize, block: usize) -> f64 {
    let zeroed = |len| pool.try_zeroed(len).expect("no limit");
    let mut vectors: Vec<PoolVec<u64>> =
        (0..total / block).map(|_| zeroed(block / size_of::<u64>())).collect();
    for vector in &mut vectors {
        assert_eq!(touch(vector), sum_of_touched(vector), "checksum of what was written");
    }
    drop(vectors);
    let start = Instant::now();
    let freed = pool.reclaim(usize::MAX);
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(freed, total, "all of it was cached");
    assert_eq!(pool.resident_bytes().ok(), Some(0), "nothing stayed");
    total as f64 / seconds
}

/// Which pages a peer's vector asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pages {
    Default,
    Huge,
}

/// A vector of the heap, populated in one call as the pool does it (by faulting it would take ten
/// times as long, and the time is not what is measured).
fn heap_vector(bytes: usize, pages: Pages) -> Vec<u64> {
    let mut vector: Vec<u64> = Vec::with_capacity(bytes / size_of::<u64>());
    let start = vector.as_mut_ptr() as usize;
    let (first, end) = (start.next_multiple_of(PAGE_BYTES), (start + bytes) & !(PAGE_BYTES - 1));
    let advise = |advice| {
        let place = std::ptr::without_provenance_mut(first);
        // SAFETY: the pages lie inside the vector's allocation, and neither advice changes what
        // they hold. A refusal changes only how fast they come.
        unsafe { libc::madvise(place, end - first, advice) };
    };
    if pages == Pages::Huge {
        advise(libc::MADV_HUGEPAGE);
    }
    advise(libc::MADV_POPULATE_WRITE);
    vector.resize(bytes / size_of::<u64>(), 0);
    vector
}

/// Bytes a second of dropping `total` bytes in vectors of `block`.
fn drop_once(total: usize, block: usize, pages: Pages) -> f64 {
    let mut vectors: Vec<Vec<u64>> =
        (0..total / block).map(|_| heap_vector(block, pages)).collect();
    for vector in &mut vectors {
        assert_eq!(touch(vector), sum_of_touched(vector), "checksum of what was written");
    }
    let start = Instant::now();
    drop(black_box(vectors));
    total as f64 / start.elapsed().as_secs_f64()
}

/// Measures one cell; ours, glibc, glibc with huge pages take turns. Medians of the rounds.
fn free_rates(total: usize, block: usize, rounds: usize) -> [f64; 3] {
    let pool = Pool::builder().build().expect("addresses for a pool");
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        rates[0].push(reclaim_once(&pool, total, block));
        rates[1].push(drop_once(total, block, Pages::Default));
        rates[2].push(drop_once(total, block, Pages::Huge));
    }
    rates.map(|rates| common::median(&rates).expect("at least one round"))
}

fn print_free_rates(case: &str, [ours, default, huge]: [f64; 3]) {
    for (peer, peer_name) in [(default, "glibc"), (huge, "glibc-huge")] {
        let unit = Unit::BytesPerSecond;
        Figure { bench: "reclaim", case, ours, peer, unit, peer_name }.print();
    }
}

fn free_rate(effort: Effort) {
    // Without this, the first free of a mapping would raise the threshold, and later vectors of
    // that size would come from the heap.
    // SAFETY: mallopt sets a parameter of glibc's allocator; no other thread runs.
    let pinned = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10) };
    assert_eq!(pinned, 1, "glibc takes the threshold");
    let (totals, rounds): (&[usize], usize) = match effort {
        Effort::Full => (&[64 << 20, 256 << 20, 1 << 30], 5),
        Effort::Smoke => (&[64 << 20], 2),
    };
    let mut slowest: Option<[f64; 3]> = None;
    for total in totals {
        for block in [2 << 20, 8 << 20, 64 << 20] {
            let rates = free_rates(*total, block, rounds);
            let (total, block_name) = (common::size_name(*total), common::size_name(block));
            print_free_rates(&format!("free-rate/{total}@{block_name}"), rates);
            if slowest.is_none_or(|slowest| rates[0] < slowest[0]) {
                slowest = Some(rates);
            }
        }
    }
    print_free_rates("free-rate", slowest.expect("at least one cell"));
}

fn main() {
    let effort = common::effort();
    common::print_machine("reclaim", effort);
    println!("# ns and B/s: median of the rounds; free-rate: the slowest cell for us");
    idle_point(effort);
    free_rate(effort);
}
