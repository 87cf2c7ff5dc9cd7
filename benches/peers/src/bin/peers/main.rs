//! The driver: runs every allocator on every prover, in turns, and prints one line a figure.
//!
//! `cargo run --release --bin peers -- [PROVER...] [--quick] [--limits | --floors]`
//!
//! | variable | default | |
//! |---|---|---|
//! | PLIMSOLL_BENCH_FOLDER | /var/tmp | keys, spill files |
//! | PLIMSOLL_BENCH_ROUNDS | 3, quick 1 | runs whose median counts; of one proof in core, thrice |
//!
//! `--limits` runs two proofs of ours in one process under 2/3, 1/2, 1/3 and 1/4 of its own peak in
//! core instead, and at 1/2 glibc in a memory cgroup of that size with swap on disk and on zram
//! (scripts/capped.sh; root). `--floors` looks for the smallest limit that ours keeps to and makes
//! its proof under.
//!
//! Every prover is measured twice: as it is built for any processor, and for this one
//! (`-C target-cpu=native`, in the target folder `native`; figures of that build are named
//! `keccak-native`). `--portable` and `--native` leave the other out.
//!
//! A time or a peak that misses its target is a line `# missed:`. What fails the run: a limit not
//! kept, by VmHWM or in one of the samples; a proof that is not the one of the other allocators; a
//! run of ours that does not end.

mod child;
mod floors;
mod in_core;
mod limits;
mod table;

use child::{Build, Children};
use plimsoll_peers::provers::Prover;
use std::process::ExitCode;
use table::Table;

/// How long it may take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Less than a second a run.
    Quick,
    /// Seconds a run.
    InCore,
    /// A peak of gigabytes.
    Limits,
}

/// log2 of the sizes.
fn log_size(prover: Prover, effort: Effort) -> u32 {
    match (prover, effort) {
        (_, Effort::Quick) => 10,
        (Prover::Groth16, Effort::InCore) => 17,
        (Prover::Groth16, Effort::Limits) => 18,
        (Prover::Keccak, Effort::InCore) => 15,
        (Prover::Keccak, Effort::Limits) => 17,
        (Prover::Blake3, Effort::InCore) => 12,
        (Prover::Blake3, Effort::Limits) => 13,
        (Prover::Cubes, Effort::InCore) => 17,
        (Prover::Cubes, Effort::Limits) => 18,
        (Prover::Spartan, _) => 16,
    }
}

/// What is measured: a prover, the logarithm of its size, and how many runs a median is of.
#[derive(Clone, Copy)]
struct Work {
    prover: Prover,
    size: u32,
    rounds: usize,
}

const FLAGS: [&str; 5] = ["--quick", "--limits", "--floors", "--portable", "--native"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| words.iter().any(|word| word == flag);
    let known = |word: &str| FLAGS.contains(&word) || Prover::named(word).is_some();
    if let Some(word) = words.iter().find(|word| !known(word)) {
        let names = Prover::ALL.map(Prover::name).join(", ");
        eprintln!("peers: '{word}' is none of {names}, {}", FLAGS.join(", "));
        return ExitCode::from(2);
    }
    let effort = match (has("--quick"), has("--limits") || has("--floors")) {
        (true, _) => Effort::Quick,
        (false, true) => Effort::Limits,
        (false, false) => Effort::InCore,
    };
    let variable = |name: &str| std::env::var(name).ok();
    let rounds = variable("PLIMSOLL_BENCH_ROUNDS").and_then(|text| text.parse().ok());
    let usual = if effort == Effort::Quick { 1 } else { 3 };
    let rounds: usize = rounds.unwrap_or(usual).max(1);
    let folder = variable("PLIMSOLL_BENCH_FOLDER").unwrap_or("/var/tmp".into());
    let mut table = Table::new(effort != Effort::Quick);
    child::print_machine();
    let named: Vec<_> = words.iter().filter_map(|word| Prover::named(word)).collect();
    let provers = if named.is_empty() { Prover::ALL.to_vec() } else { named };
    let left_out = if has("--native") { Build::Portable } else { Build::Native };
    let leaves_out = has("--native") || has("--portable");
    let builds = Build::ALL.into_iter().filter(|build| !(leaves_out && *build == left_out));
    for (prover, build) in
        provers.iter().flat_map(|prover| builds.clone().map(move |build| (*prover, build)))
    {
        let Some(children) = Children::new(&folder, build) else {
            println!(
                "# no figures for this processor: cargo build with --target-dir TARGET/native"
            );
            continue;
        };
        let size = log_size(prover, effort);
        println!("# {}: 2^{size}, {rounds} rounds", children.name(prover));
        children.prepare(prover, size);
        let work = Work { prover, size, rounds };
        if has("--floors") {
            floors::measure(&children, &mut table, work);
        } else if has("--limits") {
            limits::measure(&children, &mut table, work);
        } else {
            in_core::measure(&children, &mut table, work);
        }
    }
    table.finish()
}
