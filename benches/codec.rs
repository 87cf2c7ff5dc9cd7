//! What packing cold vectors gains and costs, on one core.
//!
//! ```text
//!   column (2^18 lanes) --> ours         codec::encode, codec::decode, the field known
//!                       --> lz4_flex     the whole column as one block, safe code, as we use it
//!                       --> zstd-1       the whole column, level 1
//!                       --> kernel-zram  a device of our own, lz4, written with O_DIRECT
//! ```
//!
//! For each column and peer three lines: `what=stored` in bytes, `what=pack` and `what=unpack` in
//! raw bytes a second; medians of rounds in which all take turns. Seconds are those of the thread
//! on its core, so that what else the machine does changes them little; zram packs in the thread
//! that writes. Every column is compared after each round trip.
//!
//! A zram device stores page by page and its time includes the block layer, as a page fault's does;
//! its bytes are `compr_data_size`, which leaves out what its allocator wastes. It needs root, and
//! is left out, loudly, without.
//!
//! `uniform` has a fourth line: the seconds of deciding not to pack, beside those of writing the
//! column to the spill file, in vectors of 4 MiB as the store does both. The last lines say which
//! targets were missed.
//!
//! Run: `cargo bench --bench codec`, `-- bits u16` for some columns; short and small: `--test`.

#[path = "codec/columns.rs"]
mod columns;
mod common;
#[path = "codec/peers.rs"]
mod peers;
#[path = "codec/zram.rs"]
mod zram;

use columns::Column;
use common::{Effort, Figure, Unit};
use peers::{Lz4, Packer, Zstd};
use plimsoll_swap::backend::{AlignedBytes, Backend};
use plimsoll_swap::codec::{CodecId, LaneSpec, decode, encode, is_uniform};
use plimsoll_swap::extent::ExtentMap;
use plimsoll_swap::file::{RamDisk, SpillFile};
use std::time::Instant;
use zram::ZramDevice;

/// Lanes of a column: 8 MiB of BN254.
const LANES_FULL: usize = 1 << 18;
const LANES_SMOKE: usize = 1 << 12;

/// Rounds in which all take turns.
const ROUNDS_FULL: usize = 15;
const ROUNDS_SMOKE: usize = 2;

/// What a core must do each way, in raw bytes a second.
const TARGET_BYTES_PER_SECOND: f64 = 1.5e9;

/// How many times smaller a column must become.
const TARGET_RATIOS: [(&str, f64); 2] = [("bits", 100.0), ("u16", 12.0)];

/// The largest share of the writing time that deciding may take.
const TARGET_DECIDE_SHARE: f64 = 0.01;

/// Bytes of a vector that is decided on and written.
const VECTOR_BYTES: usize = 4 << 20;

/// Our codec.
struct Ours {
    spec: LaneSpec,
    scratch: Vec<u8>,
    codec: CodecId,
    stored_bytes: usize,
}

impl Ours {
    fn new(spec: LaneSpec) -> Self {
        Self { spec, scratch: Vec::new(), codec: CodecId::Raw, stored_bytes: 0 }
    }
}

impl Packer for Ours {
    fn name(&self) -> &'static str {
        "plimsoll"
    }

    fn pack(&mut self, column: &[u8]) {
        let encoded = encode(self.spec, column, &mut self.scratch);
        self.codec = encoded.codec();
        self.stored_bytes = encoded.payload().len();
    }

    fn stored_bytes(&self) -> usize {
        self.stored_bytes
    }

    fn unpack(&mut self, column: &[u8], out: &mut [u8]) {
        let payload: &[u8] = match self.codec {
            CodecId::Raw => column,
            // The period, a prefix of the column; nothing for zero.
            CodecId::Constant => &column[..self.stored_bytes],
            CodecId::Packed | CodecId::Lz4 => &self.scratch,
        };
        decode(self.codec, payload, out).expect("our own payload");
    }
}

/// The medians of one packer on one column.
#[derive(Clone, Copy)]
struct Rates {
    stored: f64,
    pack: f64,
    unpack: f64,
}

/// Seconds that this thread was on a core so far, in the kernel too.
fn core_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of our own, which the call fills.
    let returned = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(returned, 0, "the clock of this thread");
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Measures all packers on `column`, in turns.
fn measure(packers: &mut [&mut dyn Packer], column: &[u8], rounds: usize) -> Vec<Rates> {
    let mut out = AlignedBytes::zeroed(column.len());
    let mut seconds = vec![(Vec::new(), Vec::new()); packers.len()];
    for _ in 0..=rounds {
        for (index, packer) in packers.iter_mut().enumerate() {
            out.fill(0x5a);
            let start = core_seconds();
            packer.pack(column);
            let between = core_seconds();
            packer.unpack(column, &mut out);
            let end = core_seconds();
            assert!(out[..] == *column, "{}: the column came back changed", packer.name());
            seconds[index].0.push(between - start);
            seconds[index].1.push(end - between);
        }
    }
    // The first round fills caches and tables.
    let rate = |all: &[f64]| column.len() as f64 / common::median(&all[1..]).expect("a round");
    let rates = seconds.iter().zip(packers).map(|((packed, unpacked), packer)| Rates {
        stored: packer.stored_bytes() as f64,
        pack: rate(packed),
        unpack: rate(unpacked),
    });
    rates.collect()
}

fn print(case: &str, what: &str, unit: Unit, (ours, peer): (f64, f64), peer_name: &str) {
    let case = format!("{case} what={what}");
    Figure { bench: "codec", case: &case, ours, peer, unit, peer_name }.print();
}

/// Measures and prints one column; returns our rates.
fn compare(column: &Column, rounds: usize) -> Rates {
    let mut ours = Ours::new(column.spec);
    let (mut lz4, mut zstd) = (Lz4::default(), Zstd::new());
    let mut packers: Vec<&mut dyn Packer> = vec![&mut ours, &mut lz4, &mut zstd];
    let mut zram = ZramDevice::new(column.bytes.len());
    match &mut zram {
        Ok(device) => packers.push(device),
        Err(why) => println!("# SKIPPED: {} peer kernel-zram: {why}", column.name),
    }
    let rates = measure(&mut packers, &column.bytes, rounds);
    for (packer, peer) in packers.iter().zip(&rates).skip(1) {
        let case = column.name;
        // An empty payload is a constant zero: its one byte is the codec's number.
        let stored = (rates[0].stored.max(1.0), peer.stored.max(1.0));
        print(case, "stored", Unit::Bytes, stored, packer.name());
        print(case, "pack", Unit::BytesPerSecond, (rates[0].pack, peer.pack), packer.name());
        print(case, "unpack", Unit::BytesPerSecond, (rates[0].unpack, peer.unpack), packer.name());
    }
    rates[0]
}

/// Seconds of deciding not to pack, and of writing the column to a spill file: in vectors of 4 MiB,
/// which the store looks at as a whole and writes as one frame.
fn decide(column: &Column, rounds: usize) -> (f64, f64) {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder on a disk");
    let file = SpillFile::open(folder.path(), RamDisk::Accept).expect("a spill file");
    let mut map = ExtentMap::new(1 << 30);
    let extent = map.alloc(column.bytes.len() as u64).expect("room");
    file.reserve(extent).expect("room on the disk");
    let (mut deciding, mut writing) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        let start = Instant::now();
        let is_uniform = |vector| is_uniform(column.spec, std::hint::black_box(vector));
        let uniform = column.bytes.chunks(VECTOR_BYTES).all(is_uniform);
        deciding.push(start.elapsed().as_secs_f64());
        assert!(uniform, "uniform data are not packed");
        let start = Instant::now();
        for (index, vector) in column.bytes.chunks(VECTOR_BYTES).enumerate() {
            let at = extent.offset_bytes() + (index * VECTOR_BYTES) as u64;
            file.write_at(at, vector).expect("a write");
        }
        writing.push(start.elapsed().as_secs_f64());
    }
    let median = |all: &[f64]| common::median(&all[1..]).expect("a round");
    (median(&deciding), median(&writing))
}

/// Prints which targets were missed.
fn judge(all: &[(&Column, Rates)]) {
    let mut missed = 0;
    let mut miss = |line: String| {
        missed += 1;
        println!("# missed: {line}");
    };
    for (column, rates) in all {
        for (way, rate) in [("pack", rates.pack), ("unpack", rates.unpack)] {
            if rate < TARGET_BYTES_PER_SECOND {
                miss(format!(
                    "{} {way}: {rate:.3e} of {TARGET_BYTES_PER_SECOND:.1e} B/s",
                    column.name
                ));
            }
        }
        let ratio = column.bytes.len() as f64 / rates.stored.max(1.0);
        for (name, least) in TARGET_RATIOS {
            if column.name == name && ratio < least {
                miss(format!("{name}: {ratio:.1} times smaller, {least} are asked for"));
            }
        }
    }
    println!("# targets missed: {missed} of {} columns", all.len());
}

fn main() {
    let effort = common::effort();
    common::print_machine("codec", effort);
    let (lanes, rounds) = match effort {
        Effort::Full => (LANES_FULL, ROUNDS_FULL),
        Effort::Smoke => (LANES_SMOKE, ROUNDS_SMOKE),
    };
    println!("# lanes={lanes} rounds={rounds}; one core; stored: ours without frame headers");
    let columns: Vec<Column> = columns::names()
        .filter(|name| common::wanted(name))
        .map(|name| columns::make(name, lanes))
        .collect();
    let mut all = Vec::new();
    for column in &columns {
        all.push((column, compare(column, rounds)));
        if column.name == "uniform" {
            let (deciding, writing) = decide(column, rounds);
            print("uniform", "decide", Unit::Seconds, (deciding, writing), "spill-write");
            if deciding > TARGET_DECIDE_SHARE * writing {
                println!("# missed: deciding takes {:.2} % of writing", 100.0 * deciding / writing);
            }
        }
    }
    judge(&all);
}
