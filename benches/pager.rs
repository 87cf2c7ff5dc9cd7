//! What a fault of the pager costs, and how near it comes to the disk under it.
//!
//! ```text
//!   limbo/2MiB       a touch that brings a chunk back from limbo; ns. Peer: hand-over, a byte to a
//!                    thread that sleeps on another processor, and back: what two wakes cost
//!   seq-reread/Tt    spilled data read again in order by T threads; B/s. Peer: o-direct, blocks
//!                    of 2 MiB, two at a time, each into one block over and over, which caches
//!                    keep; o-direct-memory, into as much memory as the pager has
//!   rows-10KiB/Tt    10 KiB rows of spilled data in random order, by T threads; B/s of the
//!                    granules they cause to be read. Peer: o-direct, 64 KiB at random, as many
//!                    threads
//!   packed-*, noise-*  bits that pack, and what does not: filled in by one thread, read by two
//!                    again; B/s. Peer: the same pager with the file alone
//!   sealed-*         noise under encryption. Peer: the plain file
//!   cost/*           blocks of a program under a limit that is far away: the first, one filled,
//!                    and reused; s, ns a pair of calls. Peer: no-pager, the same allocator
//! ```
//!
//! Rounds of ours and of the peer take turns, and medians are printed: the disk of a shared machine
//! wanders. Data is spilled, and clean, before it is read: writing is not in these figures. Words
//! are compared with what was written; a wrong one ends the bench.
//!
//! Run: `cargo bench --bench pager`; `-- limbo`, `-- seq`, `-- rows`, `-- packed`, `-- sealed`,
//! `-- cost` for a part; short and small: `-- --test`. The file goes to `PLIMSOLL_BENCH_FOLDER`,
//! default /var/tmp.

mod common;
#[path = "pager/cost.rs"]
mod cost;
#[path = "pager/sides.rs"]
mod sides;
#[path = "pager/wakes.rs"]
mod wakes;

use common::{Effort, Figure, Unit};
use plimsoll_swap::file::RamDisk;
use plimsoll_swap::pager::{CHUNK_BYTES, Pager, PagerBuilder, PagerStats, probe};
use plimsoll_swap::store::Encryption;
use sides::{Data, RawFile, bits, noise};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use wakes::hand_over;

/// For `cost` alone: without a limit in the environment it has no pager.
#[global_allocator]
static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();

/// What a touch of a chunk in limbo may take, in nanoseconds.
const TARGET_LIMBO_NANOSECONDS: f64 = 25_000.0;

/// How much of the disk's speed there must be, in order and at random.
const TARGET_SEQUENTIAL_SHARE: f64 = 0.8;
const TARGET_ROWS_SHARE: f64 = 0.6;

struct Bench {
    rounds: usize,
    /// Bytes of data; a quarter of them is the budget where data is spilled.
    range_bytes: usize,
    /// Rows of one round.
    rows: usize,
    folder: PathBuf,
}

impl Bench {
    fn new(effort: Effort) -> Self {
        let (rounds, range_bytes, rows) = match effort {
            Effort::Full => (9, 1 << 30, 4000),
            Effort::Smoke => (2, 64 << 20, 100),
        };
        Self { rounds, range_bytes, rows, folder: common::folder() }
    }

    fn builder(&self) -> PagerBuilder {
        let budget = self.range_bytes / 4;
        Pager::builder()
            .range_bytes(self.range_bytes)
            .budget_bytes(budget)
            .folder(&self.folder)
            .ram_disk(RamDisk::Accept)
    }

    /// Each round has a pager of its own: whether its leader and who touches share a processor is
    /// the kernel's choice, and stays.
    fn limbo(&self) {
        let [mut times, mut peers, mut near] = [const { Vec::new() }; 3];
        for _ in 0..self.rounds {
            peers.push(median(&hand_over(self.rows / 4, [0, 1])));
            near.push(median(&hand_over(self.rows / 4, [0, 0])));
            let data = Data::new(self.builder().budget_bytes(self.range_bytes * 9 / 8));
            data.fill(noise);
            data.pager.cold(data.pager.base(), self.range_bytes / 8);
            let touch = |chunk: usize| {
                let at = chunk * CHUNK_BYTES / 8 + 77;
                let start = Instant::now();
                let found = data.words()[at].fetch_add(0, Relaxed);
                let nanoseconds = start.elapsed().as_secs_f64() * 1e9;
                assert_eq!(found, noise(at), "word {at}");
                nanoseconds
            };
            let all: Vec<f64> = (0..self.range_bytes / 8 / CHUNK_BYTES).map(touch).collect();
            assert!(data.pager.stats().rescued_bytes > 0, "no touch found its chunk in limbo");
            times.push(median(&all));
        }
        let ours = median(&times);
        print("limbo/2MiB", Unit::Nanoseconds, (ours, median(&peers)), "hand-over");
        println!("# rounds in us: {}", in_order(&times));
        println!(
            "# hand-over between processors: {}; on one: {}",
            in_order(&peers),
            in_order(&near)
        );
        if ours >= TARGET_LIMBO_NANOSECONDS {
            println!(
                "# missed: limbo takes {ours:.0} ns, {TARGET_LIMBO_NANOSECONDS} are the target"
            );
        }
    }

    fn sequential(&self, file: &RawFile) {
        for threads in [1, 2] {
            let data = Data::new(self.builder());
            data.fill(noise);
            data.read(threads);
            let [mut ours, mut raws, mut roomy] = [const { Vec::new() }; 3];
            let mut sums = Sums::default();
            for _ in 0..self.rounds {
                raws.push(file.rate(2, CHUNK_BYTES, self.range_bytes, false));
                roomy.push(file.rate_into(self.range_bytes / 4, CHUNK_BYTES, self.range_bytes));
                let before = data.pager.stats();
                let seconds = data.read(threads);
                // What was still in memory was not read.
                let read = sums.add(&before, &data.pager.stats(), seconds);
                ours.push(read as f64 / seconds);
            }
            let case = format!("seq-reread/{threads}t");
            print_against_disk(&case, &ours, &raws, TARGET_SEQUENTIAL_SHARE);
            let pair = (median(&ours), median(&roomy));
            print(&case, Unit::BytesPerSecond, pair, "o-direct-memory");
            sums.print();
        }
    }

    fn rows(&self, file: &RawFile) {
        for threads in [1, 2, 4] {
            let data = Data::new(self.builder());
            data.fill(noise);
            data.read(2);
            let (mut ours, mut raws) = (Vec::new(), Vec::new());
            let mut sums = Sums::default();
            for round in 0..self.rounds {
                raws.push(file.rate(threads, 64 << 10, self.rows << 16, true));
                let before = data.pager.stats();
                let seconds = data.read_rows(threads, self.rows, round as u64);
                let read = sums.add(&before, &data.pager.stats(), seconds);
                ours.push(read as f64 / seconds);
            }
            let case = format!("rows-10KiB/{threads}t");
            print_against_disk(&case, &ours, &raws, TARGET_ROWS_SHARE);
            let each = sums.seconds * 1e6 * threads as f64 / (self.rows * self.rounds) as f64;
            println!("# {each:.0} us a row and thread");
            sums.print();
        }
    }

    /// Fills with `word`, reads again; bytes a second of both.
    fn fill_and_read(
        &self,
        builder: PagerBuilder,
        word: fn(usize) -> u64,
    ) -> ([f64; 2], PagerStats) {
        let data = Data::new(builder);
        let bytes = self.range_bytes as f64;
        let rates = [data.fill(word), data.read(2)].map(|seconds| bytes / seconds);
        (rates, data.pager.stats())
    }

    /// Ours and the peer in turns, each made anew.
    fn compare(
        &self,
        name: &str,
        peer_name: &str,
        word: fn(usize) -> u64,
        builders: [&dyn Fn() -> PagerBuilder; 2],
    ) {
        let mut all = [const { Vec::new() }; 4];
        let mut last = PagerStats::default();
        for _ in 0..self.rounds.div_ceil(3) {
            let (peer, _) = self.fill_and_read(builders[1](), word);
            let (ours, stats) = self.fill_and_read(builders[0](), word);
            last = stats;
            let round = [ours[0], peer[0], ours[1], peer[1]];
            all.iter_mut().zip(round).for_each(|(all, rate)| all.push(rate));
        }
        let median = |index: usize| median(&all[index]);
        for (part, at) in [("fill/1t", 0), ("reread/2t", 2)] {
            let case = format!("{name}-{part}");
            print(&case, Unit::BytesPerSecond, (median(at), median(at + 1)), peer_name);
        }
        println!(
            "# packed {} MiB, now {} MiB in {} MiB, written {} MiB, read {} MiB",
            last.packed_bytes >> 20,
            last.packed_now_bytes >> 20,
            last.shelf_bytes >> 20,
            last.written_bytes >> 20,
            last.read_bytes >> 20
        );
    }
}

/// What the rounds of a case add up to.
#[derive(Default)]
struct Sums {
    seconds: f64,
    read: u64,
    written: u64,
    faults: u64,
    loads: u64,
}

impl Sums {
    /// Adds a round. Returns what it read.
    fn add(&mut self, before: &PagerStats, after: &PagerStats, seconds: f64) -> u64 {
        let read = after.read_bytes - before.read_bytes;
        self.seconds += seconds;
        self.read += read;
        self.written += after.written_bytes - before.written_bytes;
        self.faults += after.faults - before.faults;
        self.loads += after.loads - before.loads;
        read
    }

    fn print(&self) {
        println!(
            "# read {} MiB, written {} MiB, {} faults, {} loads in {:.2} s",
            self.read >> 20,
            self.written >> 20,
            self.faults,
            self.loads,
            self.seconds
        );
    }
}

fn median(values: &[f64]) -> f64 {
    common::median(values).expect("a round")
}

/// Nanoseconds as microseconds, the least first.
fn in_order(nanoseconds: &[f64]) -> String {
    let mut sorted = nanoseconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let words: Vec<String> = sorted.iter().map(|time| format!("{:.1}", time / 1e3)).collect();
    words.join(" ")
}

fn print(case: &str, unit: Unit, (ours, peer): (f64, f64), peer_name: &str) {
    Figure { bench: "pager", case, ours, peer, unit, peer_name }.print();
}

fn print_against_disk(case: &str, ours: &[f64], raws: &[f64], target: f64) {
    let (ours, disk) = (median(ours), median(raws));
    print(case, Unit::BytesPerSecond, (ours, disk), "o-direct");
    if ours < target * disk {
        println!("# missed: {case} is {:.2} of the disk's speed, not {target}", ours / disk);
    }
}

fn main() {
    if let Some(words) = common::child_words() {
        return cost::child(&words);
    }
    let effort = common::effort();
    common::print_machine("pager", effort);
    if let Err(why) = probe().door {
        println!("# SKIPPED: nothing was measured: {why}");
        return;
    }
    let bench = Bench::new(effort);
    println!(
        "# data={} budget={} rounds={} folder={}",
        common::size_name(bench.range_bytes),
        common::size_name(bench.range_bytes / 4),
        bench.rounds,
        bench.folder.display()
    );
    if common::wanted("limbo") {
        bench.limbo();
    }
    if common::wanted("seq") {
        bench.sequential(&RawFile::new(&bench.folder, bench.range_bytes));
    }
    if common::wanted("rows") {
        bench.rows(&RawFile::new(&bench.folder, bench.range_bytes));
    }
    let plain = || bench.builder();
    if common::wanted("packed") {
        let file_alone = || bench.builder().packed_limit_bytes(0);
        bench.compare("packed", "file-alone", bits, [&plain, &file_alone]);
        bench.compare("noise", "file-alone", noise, [&plain, &file_alone]);
    }
    if common::wanted("sealed") {
        let sealed = || bench.builder().encryption(Encryption::On);
        bench.compare("sealed", "plain-file", noise, [&sealed, &plain]);
    }
    if common::wanted("cost") {
        cost::measure(&bench.folder, bench.range_bytes / 2, bench.rounds.div_ceil(3));
    }
}
