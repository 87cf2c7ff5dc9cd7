//! What a large vector costs when its memory was used before: ours against allocators.
//!
//! ```text
//!   reuse/SIZE/THREADSt    acquire a vector, write every byte, release it; seconds a use
//!   after-reclaim/SIZE     one vector live, three dropped, then a reclaim point; bytes resident
//! ```
//!
//! The write is the same everywhere: copies of one 16 KiB pattern (which stays in the first cache)
//! appended until the vector is full. What differs is where the pages come from. An allocator that
//! gave them back pays for them again, a page at a time; one that kept them does not, and then the
//! ratio tends to 1: the write is all that is left.
//!
//! A thread has its own vector, and times each use. A round is a batch of uses of 128 MiB in all
//! (one use, if larger) between two barriers, after uses of 256 MiB that are not timed; its time is
//! the median use, averaged over the threads, so that being preempted once shows little. Peers take
//! turns, round by round, and whose turn it is finds the caches full of another's lines: a set that
//! just fits them needs three uses until it is back (two vectors of 32 MiB here: 3.4, 3.3, 2.1, 1.3
//! ms a use, of every peer), and timing those would say who was before whom. The figure is the
//! median round of a process, and of several processes their median: a page's place in memory is
//! luck, and up to 128 MiB it shows. (The fastest round would say who met a moment when nobody else
//! used the memory bus.)
//!
//! zk-alloc frees only between phases: with one thread each use is a phase of its own; with two,
//! who must stop together for it, each batch is one.
//!
//! Run: `cargo bench --bench pool`, or some of it: `cargo bench --bench pool -- 512MiB/2t`; small
//! and seconds long: `PLIMSOLL_BENCH_SMOKE=1`; longer where others use the machine too:
//! `PLIMSOLL_BENCH_SECONDS=30` (a case).

mod common;
#[path = "common/peer.rs"]
mod peer;

use common::{Effort, Figure, Helper, PATTERN_LEN, Pattern, Unit};
use peer::{Dispatch, PEERS, Peer, Phase, Setting};
use plimsoll_arena::{Pool, PoolVec};
use std::hint::black_box;
use std::ops::Deref;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[global_allocator]
static GLOBAL: Dispatch = Dispatch;

/// Bytes a thread writes between two barriers, at least: 5 ms and more, above a time slice.
const BATCH_BYTES: usize = 128 << 20;

/// Bytes a thread writes before the first barrier, at least, so that its lines are the caches'.
const WARM_BYTES: usize = 256 << 20;

/// Up to here the place of a vector's pages in the caches decides more than the allocator: several
/// processes are measured.
const PLACEMENT_BYTES_MAX: usize = 128 << 20;

/// Where others use the machine too, more seconds for each process find more quiet moments.
const SECONDS_VARIABLE: &str = "PLIMSOLL_BENCH_SECONDS";

/// A peer this many times slower than ours needs no more rounds: decimals would change nothing.
const CLEARLY_SLOWER: f64 = 3.0;

/// Steps through the peers: each is coprime to their number, so that a round meets all of them.
const STRIDES: [usize; 6] = [1, 2, 4, 5, 7, 8];
const _: () = assert!(PEERS.len() == 9, "the strides fit this number");

const DEFAULT_RATIO_MAX: f64 = 0.2;
const KEEP_RATIO_MAX: f64 = 1.05;

/// A vector of ours or of the global allocator's.
enum Vector {
    Ours(PoolVec<u64>),
    Peer(Vec<u64>),
}

impl Deref for Vector {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        match self {
            Self::Ours(vector) => vector,
            Self::Peer(vector) => vector,
        }
    }
}

/// Where vectors come from: our pool, or the global allocator.
struct Source {
    pool: Option<Pool>,
    pattern: Pattern,
}

impl Source {
    fn new() -> Self {
        let ours = std::env::var(common::PEER_VARIABLE).is_ok_and(|name| name == "ours");
        let pool = ours.then(|| Pool::builder().build().expect("addresses for a pool"));
        Self { pool, pattern: Pattern::new() }
    }

    /// Acquires a vector of `bytes` and writes all of it.
    fn vector(&self, bytes: usize) -> Vector {
        let len = bytes / size_of::<u64>();
        match &self.pool {
            Some(pool) => {
                let mut vector = pool.try_with_capacity(len).expect("no limit");
                for _ in 0..len / PATTERN_LEN {
                    vector.try_extend_from_slice(self.pattern.words()).expect("no limit");
                }
                Vector::Ours(black_box(vector))
            }
            None => {
                let mut vector = Vec::with_capacity(len);
                for _ in 0..len / PATTERN_LEN {
                    vector.extend_from_slice(self.pattern.words());
                }
                Vector::Peer(black_box(vector))
            }
        }
    }

    /// Acquires, writes and releases once for each place in `seconds`, where the time goes.
    fn uses(&self, bytes: usize, seconds: &mut [f64], phase: Phase) {
        for seconds in seconds {
            let start = Instant::now();
            phase.around(|| self.pattern.check_some(&self.vector(bytes)));
            *seconds = start.elapsed().as_secs_f64();
        }
    }
}

/// What the threads of a child share.
struct Laps {
    source: Source,
    barrier: Barrier,
    bytes: usize,
    each: Phase,
    /// The threads' median uses of the last lap, in nanoseconds, summed.
    nanoseconds: AtomicU64,
}

impl Laps {
    /// What every thread does together: as many uses as `seconds` has places.
    fn lap(&self, seconds: &mut [f64]) {
        self.barrier.wait();
        self.source.uses(self.bytes, seconds, self.each);
        // Relaxed: the barrier below orders it.
        let nanoseconds = (common::median(seconds).unwrap_or(0.0) * 1e9) as u64;
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        self.barrier.wait();
    }

    fn checked_use(&self) {
        self.source.pattern.check(&self.source.vector(self.bytes));
    }
}

/// The child of `reuse`: `threads` threads, each with a vector of `bytes`.
fn reuse_child(bytes: usize, threads: usize) {
    let count = (BATCH_BYTES / bytes).max(1);
    let warm = (WARM_BYTES / bytes).max(1);
    let (each, batch) = match threads {
        1 => (Phase::EachUse, Phase::Elsewhere),
        _ => (Phase::Elsewhere, Phase::EachUse),
    };
    let (source, barrier) = (Source::new(), Barrier::new(threads));
    let laps = Laps { source, barrier, bytes, each, nanoseconds: AtomicU64::new(0) };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| {
                let mut seconds = vec![0.0; warm];
                laps.checked_use();
                loop {
                    laps.lap(&mut seconds);
                    laps.lap(&mut seconds[..count]);
                }
            });
        }
        let mut seconds = vec![0.0; warm];
        Phase::EachUse.around(|| laps.checked_use());
        common::send(&[0.0]);
        while common::asked() {
            batch.around(|| laps.lap(&mut seconds));
            laps.nanoseconds.store(0, Ordering::Relaxed);
            let faults = common::minor_faults();
            batch.around(|| laps.lap(&mut seconds[..count]));
            let faults = common::minor_faults() - faults;
            let nanoseconds = laps.nanoseconds.load(Ordering::Relaxed);
            let a_use = nanoseconds as f64 / 1e9 / threads as f64;
            common::send(&[a_use, faults as f64 / (count * threads) as f64]);
        }
        std::process::exit(0); // the others wait at a barrier
    });
}

/// The child of `after-reclaim`: one vector live, three dropped, then what its user can call.
fn after_reclaim_child(bytes: usize) {
    let source = Source::new();
    Phase::EachUse.around(|| {
        let mut vectors: Vec<Vector> = (0..4).map(|_| source.vector(bytes)).collect();
        let live = vectors.swap_remove(1); // not the last: nothing may hang on being on top
        drop(vectors);
        let before = common::anonymous_bytes();
        let call = peer::give_back(source.pool.as_ref());
        let after = common::anonymous_bytes();
        source.pattern.check(&live);
        common::send(&[before as f64, after as f64, f64::from(u8::from(call.is_some()))]);
    });
}

/// What the rounds of one peer gave.
#[derive(Clone, Debug, Default)]
struct Samples {
    /// The median round of each process, in seconds a use.
    seconds: Vec<f64>,
    /// Page faults a use, of the last round.
    faults: f64,
}

/// How much is measured: at least `rounds`, and at least `time`, of each of `processes`.
struct Plan {
    processes: usize,
    rounds: usize,
    time: Duration,
}

impl Plan {
    fn of(bytes: usize, effort: Effort) -> Self {
        let (processes, rounds, seconds) = match effort {
            Effort::Smoke => (1, 2, 0),
            Effort::Full if bytes <= PLACEMENT_BYTES_MAX / 16 => (5, 15, 0),
            Effort::Full if bytes <= PLACEMENT_BYTES_MAX => (3, 15, 2),
            Effort::Full => (1, 7, 5),
        };
        let asked = std::env::var(SECONDS_VARIABLE).ok().and_then(|text| text.parse().ok());
        let seconds = asked.unwrap_or(seconds);
        Self { processes, rounds, time: Duration::from_secs(seconds) }
    }
}

/// Measures one process of each peer; the peers take turns. Another begins each round, and who
/// follows whom changes: a peer that streams leaves its lines in the caches to the next. Peer
/// `first` is started first.
fn take_turns(bytes: usize, threads: usize, plan: &Plan, first: usize, all: &mut [Samples]) {
    let words = ["reuse".to_owned(), bytes.to_string(), threads.to_string()];
    let started = PEERS.iter().cycle().skip(first).take(PEERS.len()).map(|peer| {
        let mut helper = Helper::spawn(peer.name, peer.variables, &words);
        helper.answer();
        helper
    });
    let mut helpers: Vec<Helper> = started.collect();
    helpers.rotate_right(first);
    let mut rounds = vec![Vec::new(); PEERS.len()];
    let (start, mut round) = (Instant::now(), 0);
    while round < plan.rounds || start.elapsed() < plan.time {
        for turn in 0..PEERS.len() {
            let index = (turn * STRIDES[round % STRIDES.len()] + round) % PEERS.len();
            if round > 0 && common::least(&rounds[index]) > CLEARLY_SLOWER * rounds[0][0] {
                continue;
            }
            let answer = helpers[index].round();
            rounds[index].push(answer[0]);
            all[index].faults = answer[1];
        }
        round += 1;
    }
    for (samples, rounds) in all.iter_mut().zip(rounds) {
        samples.seconds.extend(common::median(&rounds));
    }
}

fn reuse(bytes: usize, threads: usize, effort: Effort, missed: &mut Vec<String>) {
    let case = format!("reuse/{}/{threads}t", common::size_name(bytes));
    if !common::wanted(&case) {
        return;
    }
    let needed = bytes * threads * (PEERS.len() + 2);
    if common::available_bytes() < needed {
        println!("# case={case} left out: {} free memory needed", common::size_name(needed));
        return;
    }
    let plan = Plan::of(bytes * threads, effort);
    let mut all = vec![Samples::default(); PEERS.len()];
    for process in 0..plan.processes {
        let first = process * PEERS.len() / plan.processes;
        take_turns(bytes, threads, &plan, first, &mut all);
    }
    let seconds: Vec<f64> = all
        .iter()
        .map(|samples| common::median(&samples.seconds).expect("at least one process"))
        .collect();
    for (peer, theirs) in PEERS.iter().zip(&seconds).skip(1) {
        let (ours, unit, peer_name) = (seconds[0], Unit::Seconds, peer.name);
        Figure { bench: "pool", case: &case, ours, peer: *theirs, unit, peer_name }.print();
        if peer.setting == Setting::Default && ours > DEFAULT_RATIO_MAX * theirs {
            missed.push(format!("{case} {peer_name} ratio={:.3}", ours / theirs));
        }
    }
    let faults: Vec<String> = PEERS
        .iter()
        .zip(&all)
        .map(|(peer, samples)| format!("{}={:.1}", peer.name, samples.faults))
        .collect();
    println!("# case={case} faults a use: {}", faults.join(" "));
    let kept = PEERS.iter().zip(&seconds).filter(|(peer, _)| peer.setting == Setting::Keep);
    let best = kept.min_by(|a, b| a.1.total_cmp(b.1)).expect("there are some");
    let ratio = seconds[0] / best.1;
    println!("# case={case} best that keeps: {} ratio={ratio:.3}", best.0.name);
    if ratio > KEEP_RATIO_MAX {
        missed.push(format!("{case} best-keep={} ratio={ratio:.3}", best.0.name));
    }
}

/// Asks a child how much is resident before and after what its user can call.
fn residents(peer: &Peer, bytes: usize) -> (f64, Option<f64>) {
    let words = ["after-reclaim".to_owned(), bytes.to_string()];
    let answer = Helper::spawn(peer.name, peer.variables, &words).answer();
    (answer[0], (answer[2] > 0.0).then_some(answer[1]))
}

fn after_reclaim(bytes: usize) {
    let case = format!("after-reclaim/{}", common::size_name(bytes));
    if !common::wanted(&case) {
        return;
    }
    let (held, ours) = residents(&PEERS[0], bytes);
    let ours = ours.expect("ours has a reclaim point");
    println!("# case={case} live={bytes} ours before the reclaim point={held}");
    assert!(ours <= (2 * bytes) as f64, "{case}: {ours} bytes, over live and one block");
    let print = |peer: f64, peer_name: &str| {
        Figure { bench: "pool", case: &case, ours, peer, unit: Unit::Bytes, peer_name }.print();
    };
    for peer in &PEERS[1..] {
        let (nothing_called, called) = residents(peer, bytes);
        print(nothing_called, peer.name);
        if let Some(called) = called {
            print(called, &format!("{}+call", peer.name));
        }
    }
}

fn child(words: &[String]) {
    let number = |index: usize| words[index].parse().expect("a number");
    match words[0].as_str() {
        "reuse" => reuse_child(number(1), number(2)),
        "after-reclaim" => after_reclaim_child(number(1)),
        other => panic!("no such case: {other}"),
    }
}

fn main() {
    if let Some(words) = common::child_words() {
        return child(&words);
    }
    let effort = common::effort();
    common::print_machine("pool", effort);
    println!("# seconds: median round of a process, median of the processes");
    println!("# NAME+call: after malloc_trim, purge of all arenas, or mi_collect");
    let (reuse_sizes, reclaim_sizes) = match effort {
        Effort::Full => (20..=29, vec![20, 22, 24, 26, 28, 29]),
        Effort::Smoke => (20..=21, vec![20]),
    };
    let mut missed = Vec::new();
    for threads in [1, 2] {
        for log2 in reuse_sizes.clone() {
            reuse(1 << log2, threads, effort, &mut missed);
        }
    }
    for log2 in reclaim_sizes {
        after_reclaim(1 << log2);
    }
    println!(
        "# targets: {DEFAULT_RATIO_MAX} of a default, {KEEP_RATIO_MAX} of the best that keeps"
    );
    for line in missed {
        println!("# over target: {line}");
    }
}
