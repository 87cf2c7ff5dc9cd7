//! Packed files beside what else keeps columns: size, and the speed of writing and reading.
//!
//! ```text
//!   witness    SHA-256's, as circom keeps it: 32-byte integers, mostly bits
//!   keccak     the trace of Keccak-f, 24 rows each time: 2632 columns of BabyBear, Montgomery
//!   counters   2^40, 2^40 + 1, ... in 8 bytes
//!   json       the witness as text, as snarkjs exports it: what no lanes pack
//!
//!   --> ours            columns::Writer, columns::Reader; on one thread, and on all
//!   --> zstd-3, lz4     one frame of all columns, one after the other
//!   --> parquet-zstd    zstd level 3, the crate's own defaults else: a program of its own
//! ```
//!
//! Each writes a file and reads it back: `what=stored` is its length, `what=pack` and `what=unpack`
//! raw bytes a second with the page cache warm; medians of rounds in which all take turns. What was
//! read is compared each time. `what=cold` are the seconds of reading after the kernel was told to
//! forget the file, ours packed beside the raw file. A raw file is read with pread(2) in 1 MiB.
//!
//! The Parquet peer is slow to build, so it is a package outside of the workspace: `cargo
//! build --release --manifest-path benches/parquet/Cargo.toml`. Without it its lines are left out,
//! loudly. `PLIMSOLL_BENCH_WTNS=FILE` takes the values of a real .wtns for the case `witness`.
//!
//! Run: `cargo bench --bench columns`, `-- keccak` for some cases; short and small: `--test`.

mod common;
#[path = "columns/peers.rs"]
mod peers;
#[path = "columns/tables.rs"]
mod tables;

use common::{Effort, Figure, Unit};
use peers::{Keeper, Lz4, Ours, Parquet, Raw, Zstd};
use plimsoll::Runtime;
use plimsoll::limit::LimitSpec;
use std::path::Path;
use std::time::Instant;
use tables::Table;

const ROUNDS_FULL: usize = 11;
const ROUNDS_SMOKE: usize = 2;

/// The largest share of its raw bytes that the witness may take.
const TARGET_WITNESS_RATIO: f64 = 12.0;

/// The medians of one keeper on one table.
#[derive(Clone, Copy)]
struct Rates {
    stored: f64,
    pack: f64,
    unpack: f64,
}

/// Measures all keepers on a table, in turns.
fn measure(keepers: &mut [Box<dyn Keeper>], table: &Table, rounds: usize) -> Vec<Rates> {
    let mut out = vec![0; table.bytes.len()];
    let mut seconds = vec![(Vec::new(), Vec::new()); keepers.len()];
    for _ in 0..=rounds {
        for (keeper, seconds) in keepers.iter_mut().zip(&mut seconds) {
            out.fill(0x5a);
            let (packing, unpacking) = keeper.round(table, &mut out);
            assert!(out == table.bytes, "{}: the table came back changed", keeper.name());
            seconds.0.push(packing);
            seconds.1.push(unpacking);
        }
    }
    // The first round fills caches and makes files.
    let rate = |all: &[f64]| table.bytes.len() as f64 / common::median(&all[1..]).expect("a round");
    let rates = seconds.iter().zip(keepers).map(|((packed, unpacked), keeper)| Rates {
        stored: keeper.stored_bytes() as f64,
        pack: rate(packed),
        unpack: rate(unpacked),
    });
    rates.collect()
}

fn print(case: &str, what: &str, unit: Unit, (ours, peer): (f64, f64), peer_name: &str) {
    let case = format!("{case} what={what}");
    Figure { bench: "columns", case: &case, ours, peer, unit, peer_name }.print();
}

/// Measures and prints one table; returns how many times smaller ours is.
fn compare(table: &Table, folder: &Path, runtime: &Runtime, rounds: usize) -> f64 {
    let mut keepers: Vec<Box<dyn Keeper>> = vec![
        Box::new(Ours::new(folder, runtime, 1)),
        Box::new(Zstd::new(folder)),
        Box::new(Lz4::new(folder)),
        Box::new(Ours::new(folder, runtime, 0)),
    ];
    match Parquet::new(folder, table) {
        Ok(parquet) => keepers.push(Box::new(parquet)),
        Err(why) => println!("# SKIPPED: {} peer parquet-zstd: {why}", table.name),
    }
    let rates = measure(&mut keepers, table, rounds);
    let (case, raw) = (table.name, table.bytes.len() as f64);
    print(case, "stored", Unit::Bytes, (rates[0].stored, raw), "raw");
    for (keeper, peer) in keepers.iter().zip(&rates).skip(1) {
        let (ours, name) = (rates[0], keeper.name());
        print(case, "stored", Unit::Bytes, (ours.stored, peer.stored), name);
        print(case, "pack", Unit::BytesPerSecond, (ours.pack, peer.pack), name);
        print(case, "unpack", Unit::BytesPerSecond, (ours.unpack, peer.unpack), name);
    }
    raw / rates[0].stored
}

/// Seconds of reading the table, ours packed and the raw file, when no page of it is in memory.
fn cold(table: &Table, folder: &Path, runtime: &Runtime, rounds: usize) -> (f64, f64) {
    let (mut ours, mut raw) = (Ours::new(folder, runtime, 0), Raw::new(folder));
    let mut out = vec![0; table.bytes.len()];
    let (mut ours_seconds, mut raw_seconds) = (Vec::new(), Vec::new());
    ours.round(table, &mut out);
    raw.round(table, &mut out);
    for _ in 0..=rounds {
        for (keeper, seconds) in [
            (&mut ours as &mut dyn Keeper, &mut ours_seconds),
            (&mut raw as &mut dyn Keeper, &mut raw_seconds),
        ] {
            peers::forget(keeper.path());
            out.fill(0x5a);
            let start = Instant::now();
            keeper.unpack(table, &mut out);
            seconds.push(start.elapsed().as_secs_f64());
            assert!(out == table.bytes, "{}: the table came back changed", keeper.name());
        }
    }
    let median = |all: &[f64]| common::median(&all[1..]).expect("a round");
    (median(&ours_seconds), median(&raw_seconds))
}

fn main() {
    let effort = common::effort();
    common::print_machine("columns", effort);
    let rounds = if effort == Effort::Full { ROUNDS_FULL } else { ROUNDS_SMOKE };
    let runtime = Runtime::builder().limit(LimitSpec::None).build().expect("a runtime");
    let folder = tempfile::tempdir_in(common::folder()).expect("a folder on a disk");
    println!(
        "# rounds={rounds}; ours on one thread beside each peer, but for plimsoll-all-threads"
    );
    let mut missed = 0;
    for name in tables::NAMES.into_iter().filter(|name| common::wanted(name)) {
        let table = tables::make(name, effort);
        let ratio = compare(&table, folder.path(), &runtime, rounds);
        let (ours, raw) = cold(&table, folder.path(), &runtime, rounds);
        print(name, "cold", Unit::Seconds, (ours, raw), "raw-file");
        if name == "witness" && ratio < TARGET_WITNESS_RATIO {
            missed += 1;
            println!("# missed: the witness is {ratio:.1} times smaller, not 12");
        }
        if name == "witness" && ours >= raw {
            missed += 1;
            println!("# missed: reading the packed witness takes {:.2} of the raw one", ours / raw);
        }
    }
    println!("# targets missed: {missed}");
}
