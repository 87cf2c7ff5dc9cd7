//! What it costs to let cold vectors leave memory, and to bring them back.
//!
//! ```text
//!   write/Tt, read/Tt     uniform vectors, T threads, through the store; B/s
//!   write-unhinted/Tt, .. the same, and nobody told the store that they are uniform
//!   write-mapped/Tt, ..   the same in the mapped tier, whose pages the kernel may still have: read
//!                         figures are of RAM unless a cap leaves none; no target
//!   write-kernel/Tt, ..   the same in the kernel tier, by the swap that is set up, which a line
//!                         before it names; SKIPPED without; no target
//!   write-sealed/Tt, ..   the same, encrypted: what that costs; no target
//!                         peer of all: o-direct, the same bytes in blocks of one frame's size, by
//!                         as many threads, in the same rounds
//!   write-back,           the same through Spillable, by its I/O threads: all are asked to leave,
//!   read-ahead            all are read ahead and then pinned. Peer: o-direct, as many threads, in
//!                         blocks of a vector, from and to as much memory
//!   evict, fault-in-fresh through Spillable with nobody helping: the ladder lets all leave, their
//!                         memory is given back, and each is pinned again. Peers: o-direct, one
//!                         thread, in blocks of a vector; o-direct-no-pages, into fresh memory
//!   fault-in              the same where a quarter of the vectors fit, as a limit has it: each
//!                         that comes takes the memory of one that leaves, unchanged. Peer:
//!                         o-direct, one thread
//!   pack, fault-in-packed a column of bits that stays in RAM, packed. Peer: lz4_flex
//!   pin                   a read guard of a vector that is in memory; ns. Peer: a std RwLock's
//! ```
//!
//! Bytes are those of the vectors; the store's headers, checksums and reserving of space are its
//! cost. It checksums all that it loads; the bench compares the last vector of each thread.
//!
//! Run: `cargo bench --bench spill`; `-- disk`, `-- spillable`, `-- packed`, `-- pin` for a part;
//! short and small: `-- --test`. The file goes to `PLIMSOLL_BENCH_FOLDER`, default /var/tmp.

mod common;
#[path = "spill/raw.rs"]
mod raw;

use common::{Effort, Figure, Unit};
use plimsoll::spill::{Hint, SpillOptions, Spillable, StoreError};
use plimsoll::{Pool, PoolVec, Runtime};
use plimsoll_swap::codec::LaneSpec;
use plimsoll_swap::store::{Content, Encryption, Saved, SpillTier, Store, Tier, Tiers};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use raw::{DiskRates, Memory, RawFile};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::{Duration, Instant};

const SEED: u64 = 2026;

/// Bytes of a vector: a block of a transform out of core.
const VECTOR_BYTES: usize = 4 << 20;

/// I/O threads of a runtime, the default.
const IO_THREADS: usize = 2;

/// How much of the raw disk's speed there must be.
const TARGET_DISK_SHARE: f64 = 0.85;

/// What a pin may cost, in nanoseconds.
const TARGET_PIN_NANOSECONDS: f64 = 50.0;

/// How vectors go through the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Known to be uniform.
    Hinted,
    /// The store finds out.
    Unhinted,
    /// Known to be uniform, and encrypted.
    Sealed,
    /// Known to be uniform, in the mapped tier.
    Mapped,
    /// Known to be uniform, in the kernel tier.
    Kernel,
}

impl Way {
    fn suffix(self) -> &'static str {
        match self {
            Self::Hinted => "",
            Self::Unhinted => "-unhinted",
            Self::Sealed => "-sealed",
            Self::Mapped => "-mapped",
            Self::Kernel => "-kernel",
        }
    }

    fn content(self) -> Content {
        if self == Self::Unhinted { Content::Unknown } else { Content::Uniform }
    }

    fn encryption(self) -> Encryption {
        if self == Self::Sealed { Encryption::On } else { Encryption::Off }
    }

    fn tier(self) -> SpillTier {
        match self {
            Self::Hinted | Self::Unhinted | Self::Sealed => SpillTier::File,
            Self::Mapped => SpillTier::Mapped,
            Self::Kernel => SpillTier::Kernel,
        }
    }
}

struct Bench {
    rounds: usize,
    vectors: usize,
    pins: usize,
    folder: PathBuf,
    pool: Pool,
}

impl Bench {
    fn new(effort: Effort) -> Self {
        let (rounds, vectors, pins) = match effort {
            Effort::Full => (15, 64, 1_000_000),
            Effort::Smoke => (2, 4, 10_000),
        };
        Self {
            rounds,
            vectors,
            pins,
            folder: common::folder(),
            pool: Pool::builder().build().expect("addresses for a pool"),
        }
    }

    /// A vector that looks random.
    fn uniform(&self, seed: u64) -> PoolVec<u8> {
        let mut vector = self.pool.try_zeroed(VECTOR_BYTES).expect("memory");
        ChaCha8Rng::seed_from_u64(SEED + seed).fill_bytes(&mut vector);
        vector
    }

    /// A runtime whose limit binds nobody yet.
    fn runtime(&self) -> Runtime {
        let builder = Runtime::builder().limit_bytes(1 << 40);
        builder.spill(SpillOptions::new(&self.folder)).build().expect("a runtime")
    }

    fn bytes(&self) -> f64 {
        (self.vectors * VECTOR_BYTES) as f64
    }

    /// The store against the bare disk, on `threads` threads.
    fn disk(&self, threads: usize, way: Way) {
        let store = match store(&self.folder, way) {
            Ok(store) => store,
            Err(why) if way == Way::Kernel => {
                return println!("# SKIPPED: write-kernel, read-kernel: {why}");
            }
            Err(why) => panic!("a folder on a disk: {why}"),
        };
        if way == Way::Kernel {
            let on = if store.takes_secrets().is_ok() { "zram alone" } else { "a disk" };
            println!("# the kernel's swap is on {on}");
        }
        let content = way.content();
        let frame_bytes = self.frame_bytes(&store, content);
        let raw = RawFile::new(
            &self.folder,
            frame_bytes,
            self.bytes() as usize / frame_bytes,
            Memory::OneBlock,
        );
        let sources: Vec<_> = (0..threads as u64).map(|thread| self.uniform(thread)).collect();
        // A file with nothing in it gives its blocks back to the disk; one in use keeps them.
        let kept = save(&store, &sources[0], content);
        let mut all = [const { Vec::new() }; 4];
        for _ in 0..=self.rounds {
            let rates = raw.measure(threads);
            let ours = self.store_once(&store, &sources, content);
            let round = [ours.write, rates.write, ours.read, rates.read];
            all.iter_mut().zip(round).for_each(|(all, rate)| all.push(rate));
        }
        drop(kept);
        // The first round takes the space on the disk.
        let median = |index: usize| common::median(&all[index][1..]).expect("a round");
        for (verb, at) in [("write", 0), ("read", 2)] {
            let case = format!("{verb}{}/{threads}t", way.suffix());
            let figures = (median(at), median(at + 1));
            match way {
                Way::Sealed | Way::Mapped | Way::Kernel => {
                    print(&case, Unit::BytesPerSecond, figures, "o-direct")
                }
                Way::Hinted | Way::Unhinted => print_against_disk(&case, figures.0, figures.1),
            }
        }
    }

    /// What a vector takes in the file, for each frame of it.
    fn frame_bytes(&self, store: &Store, content: Content) -> usize {
        let vector = self.uniform(0);
        let saved = save(store, &vector, content);
        let stats = store.stats();
        drop(saved);
        let raw = VECTOR_BYTES / stats.file_saves.max(1) as usize;
        println!("# frames of {}", common::size_name(raw));
        raw
    }

    fn store_once(&self, store: &Store, sources: &[PoolVec<u8>], content: Content) -> DiskRates {
        let each = self.vectors / sources.len();
        let start = Instant::now();
        let saved: Vec<Vec<Saved>> = std::thread::scope(|scope| {
            let work = |source| move || (0..each).map(|_| save(store, source, content)).collect();
            let threads: Vec<_> = sources.iter().map(|source| scope.spawn(work(source))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it saves")).collect()
        });
        let write = self.bytes() / start.elapsed().as_secs_f64();
        let mut outs: Vec<_> = sources.iter().map(|_| self.uniform(99)).collect();
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (saved, out) in saved.iter().zip(&mut outs) {
                let load = |saved: &Saved, out: &mut [u8]| store.load(saved, out).expect("a load");
                scope.spawn(move || saved.iter().for_each(|saved| load(saved, out)));
            }
        });
        let read = self.bytes() / start.elapsed().as_secs_f64();
        let same = outs.iter().zip(sources).all(|(out, source)| out[..] == source[..]);
        assert!(same, "a vector came back changed");
        DiskRates { write, read }
    }

    /// Copies of `model` that may leave. One more leaves in the first round and stays away, so that
    /// the file keeps its blocks.
    fn spillables(&self, runtime: &Runtime, model: &[u8]) -> (Spillable<u8>, Vec<Spillable<u8>>) {
        let spillable = |_| {
            let vector = runtime.spillable(runtime.pool().try_copied(model).expect("memory"));
            vector.hint(Hint::Uniform);
            vector
        };
        (spillable(0), (0..self.vectors).map(spillable).collect())
    }

    /// Vectors of a runtime: all leave, all come back.
    fn spillable(&self) {
        let raw = |memory| RawFile::new(&self.folder, VECTOR_BYTES, self.vectors, memory);
        let (raw, no_pages) = (raw(Memory::AllBlocks), raw(Memory::NoPages));
        let runtime = self.runtime();
        let model = self.uniform(1);
        let (kept, vectors) = self.spillables(&runtime, &model);
        let mut all = [const { Vec::new() }; 4];
        let mut fresh = Vec::new();
        for round in 0..=self.rounds {
            let rates = raw.measure(1);
            fresh.push(no_pages.measure(1).read);
            write_to(&vectors, round);
            let leaving = runtime.spill_stats().resident_bytes as usize - VECTOR_BYTES / 2;
            let start = Instant::now();
            let limit = runtime.set_limit_bytes(Some(runtime.counted_bytes() - leaving as u64));
            let write = self.bytes() / start.elapsed().as_secs_f64();
            runtime.set_limit_bytes(limit);
            assert!(vectors.iter().all(|vector| !vector.is_resident()), "all left");
            let start = Instant::now();
            let read = self.bytes() / seconds_to_read(start, &vectors);
            let figures = [write, rates.write, read, rates.read];
            all.iter_mut().zip(figures).for_each(|(all, rate)| all.push(rate));
        }
        assert!(!kept.is_resident(), "it stayed away");
        let last = vectors.last().expect("at least one").read().expect("in memory");
        assert!(last[1..] == model[1..], "it came back changed");
        let median = |all: &[f64]| common::median(&all[1..]).expect("a round");
        print_against_disk("evict", median(&all[0]), median(&all[1]));
        let (read, unit) = (median(&all[2]), Unit::BytesPerSecond);
        print("fault-in-fresh", unit, (read, median(&all[3])), "o-direct");
        print("fault-in-fresh", unit, (read, median(&fresh)), "o-direct-no-pages");
    }

    /// Vectors of which a quarter fit, read in turn: each read is a fault.
    fn under_limit(&self) {
        let raw = RawFile::new(&self.folder, VECTOR_BYTES, self.vectors, Memory::AllBlocks);
        let runtime = self.runtime();
        let model = self.uniform(1);
        let (_kept, vectors) = self.spillables(&runtime, &model);
        // A half more: what else the process holds may grow.
        let fits = self.vectors / 4 * VECTOR_BYTES + VECTOR_BYTES / 2;
        let resident = runtime.spill_stats().resident_bytes as usize;
        runtime.set_limit_bytes(Some(runtime.counted_bytes() + fits as u64 - resident as u64));
        let mut all = [const { Vec::new() }; 2];
        for _ in 0..=self.rounds {
            let rates = raw.measure(1);
            let before = runtime.spill_stats().loaded_total;
            let start = Instant::now();
            let seconds = seconds_to_read(start, &vectors);
            let loaded = runtime.spill_stats().loaded_total - before;
            all[0].push(loaded as f64 / seconds);
            all[1].push(rates.read);
        }
        let last = vectors.last().expect("at least one").read().expect("in memory");
        assert!(last[1..] == model[1..], "it came back changed");
        let median = |index: usize| common::median(&all[index][1..]).expect("a round");
        print_against_disk("fault-in", median(0), median(1));
    }

    /// Vectors that leave and come back behind their owner's back.
    fn behind(&self) {
        let raw = RawFile::new(&self.folder, VECTOR_BYTES, self.vectors, Memory::AllBlocks);
        let options = SpillOptions::new(&self.folder).io_threads(IO_THREADS);
        let runtime = Runtime::builder().spill(options).build().expect("a runtime");
        let model = self.uniform(1);
        let (kept, vectors) = self.spillables(&runtime, &model);
        let mut all = [const { Vec::new() }; 4];
        for round in 0..=self.rounds {
            let rates = raw.measure(IO_THREADS);
            write_to(&vectors, round);
            // No headroom: whoever may leave does.
            let limit = runtime.set_limit_bytes(Some(runtime.counted_bytes()));
            let start = Instant::now();
            kept.write_back();
            while vectors.iter().any(Spillable::is_resident) {
                vectors
                    .iter()
                    .filter(|vector| vector.is_resident())
                    .for_each(Spillable::write_back);
                std::thread::sleep(Duration::from_millis(1));
            }
            let write = self.bytes() / start.elapsed().as_secs_f64();
            runtime.set_limit_bytes(limit);
            let start = Instant::now();
            vectors.iter().for_each(Spillable::prefetch);
            let read = self.bytes() / seconds_to_read(start, &vectors);
            let figures = [write, rates.write, read, rates.read];
            all.iter_mut().zip(figures).for_each(|(all, rate)| all.push(rate));
        }
        print_both_ways(["write-back", "read-ahead"], &all, &vectors, &model);
    }

    /// A column that packs: it never reaches the file.
    fn packed(&self) {
        let store = store(&self.folder, Way::Unhinted).expect("a folder on a disk");
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let mut column = self.pool.try_zeroed::<u8>(VECTOR_BYTES).expect("memory");
        for lane in column.chunks_exact_mut(8) {
            lane[0] = rng.next_u32() as u8 & 1;
        }
        let mut out = self.pool.try_zeroed::<u8>(VECTOR_BYTES).expect("memory");
        let mut peer = vec![0; lz4_flex::block::get_maximum_output_size(VECTOR_BYTES)];
        let mut all = [const { Vec::new() }; 4];
        let mut note = |index: usize, start: Instant| {
            all[index].push(VECTOR_BYTES as f64 / start.elapsed().as_secs_f64());
        };
        for _ in 0..=4 * self.rounds {
            let start = Instant::now();
            let saved = store.save(LaneSpec::U64, &column, Content::Unknown, Tiers::Any);
            note(0, start);
            let saved = saved.expect("room for packed bytes");
            assert_eq!(saved.tier(), Tier::Packed, "bits are packed in RAM");
            let start = Instant::now();
            let bytes = lz4_flex::block::compress_into(&column, &mut peer).expect("room");
            note(1, start);
            let start = Instant::now();
            store.load(&saved, &mut out).expect("our own payload");
            note(2, start);
            assert!(out[..] == column[..], "the column came back changed");
            let start = Instant::now();
            lz4_flex::block::decompress_into(&peer[..bytes], &mut out).expect("its own block");
            note(3, start);
        }
        let median = |index: usize| common::median(&all[index][1..]).expect("a round");
        let rates = |ours, peer| (median(ours), median(peer));
        print("pack", Unit::BytesPerSecond, rates(0, 1), "lz4_flex");
        print("fault-in-packed", Unit::BytesPerSecond, rates(2, 3), "lz4_flex");
    }

    fn pin(&self) {
        let runtime = self.runtime();
        let vector = runtime.pool().try_zeroed::<u64>(1 << 17).expect("memory");
        let handle = runtime.spillable(vector);
        let peer = RwLock::new(vec![0u64; 1 << 17]);
        let nanoseconds = |start: Instant| start.elapsed().as_secs_f64() * 1e9 / self.pins as f64;
        let mut all = [Vec::new(), Vec::new()];
        for _ in 0..self.rounds {
            let start = Instant::now();
            for index in 0..self.pins {
                black_box(black_box(&handle).read().expect("in memory")[index & 0xffff]);
            }
            all[0].push(nanoseconds(start));
            let start = Instant::now();
            for index in 0..self.pins {
                black_box(black_box(&peer).read().expect("no panic")[index & 0xffff]);
            }
            all[1].push(nanoseconds(start));
        }
        let [ours, peer] = all.map(|all| common::median(&all).expect("a round"));
        print("pin", Unit::Nanoseconds, (ours, peer), "std-rwlock");
        if ours >= TARGET_PIN_NANOSECONDS {
            println!("# missed: pin takes {ours:.1} ns, {TARGET_PIN_NANOSECONDS} are the target");
        }
    }
}

fn store(folder: &Path, way: Way) -> Result<Store, StoreError> {
    let builder = Store::builder().folder(folder).spill_tier(way.tier());
    builder.encryption(way.encryption()).build()
}

fn save(store: &Store, vector: &[u8], content: Content) -> Saved {
    store.save(LaneSpec::Bytes, vector, content, Tiers::SpilledOnly).expect("room on the disk")
}

/// A vector that was not written since it was saved leaves without being written.
fn write_to(vectors: &[Spillable<u8>], round: usize) {
    for vector in vectors {
        vector.write().expect("in memory")[0] = round as u8;
    }
}

/// Seconds from `start` until all were pinned.
fn seconds_to_read(start: Instant, vectors: &[Spillable<u8>]) -> f64 {
    for vector in vectors {
        black_box(vector.read().expect("it comes back")[VECTOR_BYTES - 1]);
    }
    start.elapsed().as_secs_f64()
}

/// Prints the medians of `[write, its peer, read, its peer]`. The first round takes the space.
fn print_both_ways(cases: [&str; 2], all: &[Vec<f64>; 4], vectors: &[Spillable<u8>], model: &[u8]) {
    let last = vectors.last().expect("at least one").read().expect("in memory");
    assert!(last[1..] == model[1..], "it came back changed");
    let median = |index: usize| common::median(&all[index][1..]).expect("a round");
    print_against_disk(cases[0], median(0), median(1));
    print_against_disk(cases[1], median(2), median(3));
}

fn print(case: &str, unit: Unit, (ours, peer): (f64, f64), peer_name: &str) {
    Figure { bench: "spill", case, ours, peer, unit, peer_name }.print();
}

fn print_against_disk(case: &str, ours: f64, disk: f64) {
    print(case, Unit::BytesPerSecond, (ours, disk), "o-direct");
    if ours < TARGET_DISK_SHARE * disk {
        let share = ours / disk;
        println!("# missed: {case} is {share:.2} of the disk's speed, not {TARGET_DISK_SHARE}");
    }
}

fn main() {
    let effort = common::effort();
    common::print_machine("spill", effort);
    let bench = Bench::new(effort);
    println!(
        "# vectors={} of {} rounds={} folder={}",
        bench.vectors,
        common::size_name(VECTOR_BYTES),
        bench.rounds,
        bench.folder.display()
    );
    for threads in [1, 2] {
        for way in [Way::Hinted, Way::Mapped, Way::Kernel, Way::Unhinted, Way::Sealed] {
            if common::wanted(&format!("disk{}", way.suffix())) {
                bench.disk(threads, way);
            }
        }
    }
    if common::wanted("spillable") {
        bench.behind();
        bench.spillable();
        bench.under_limit();
    }
    if common::wanted("packed") {
        bench.packed();
    }
    if common::wanted("pin") {
        bench.pin();
    }
}
