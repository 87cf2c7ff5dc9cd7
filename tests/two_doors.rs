//! Two doors in one process: a global allocator with a pager under it, and a runtime, under the one
//! limit of the process, whichever of them set it.
//!
//! ```text
//!   test -> this binary again with PLIMSOLL_SPILL_DIR -> the program, with a seed
//!           limit by PLIMSOLL_LIMIT | by Runtime | by Allocator
//!   program: vectors of pools, spillable ones, ordinary vectors, small blocks, in any order
//! ```
//!
//! Every value is checked when it is read, and the most that was ever resident (VmHWM) is at or
//! under the limit. `SEED=` replays one; each test says loudly when it cannot run here.

use plimsoll::spill::SpillOptions;
use plimsoll::{Allocator, PoolVec, Runtime, Spillable};
use plimsoll_arena::process::{LIMIT_VARIABLE, skipped};
use plimsoll_swap::pager::probe;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::process::Command;

#[global_allocator]
static ALLOC: Allocator = Allocator::system();

const PROGRAM: &str = "PLIMSOLL_TWO_DOORS";
const MIB: usize = 1 << 20;
const LIMIT: usize = 128 * MIB;

fn word(at: usize, salt: u64) -> u64 {
    (at as u64 ^ salt << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) ^ salt
}

fn check(values: &[u64], salt: u64) {
    for at in (0..values.len()).step_by(97) {
        assert_eq!(values[at], word(at, salt), "word {at} of {salt}");
    }
}

/// What the program has of each kind, with the salt of its words.
#[derive(Default)]
struct Kept {
    pooled: Vec<(u64, PoolVec<u64>)>,
    spillable: Vec<(u64, Spillable<u64>)>,
    blocks: Vec<(u64, Vec<u64>)>,
    small: Vec<Vec<u8>>,
}

impl Kept {
    /// One step: something is made, read, or dropped.
    fn step(&mut self, runtime: &Runtime, rng: &mut ChaCha8Rng, salt: u64) {
        let len = MIB / 8 * rng.gen_range(1..6);
        match rng.gen_range(0..8) {
            0 => {
                // A hard charge may be refused: the rest of the process may hold it all.
                let made = runtime.zeroed::<u64>(len);
                if let Ok(mut vector) = made {
                    (0..len).for_each(|at| vector[at] = word(at, salt));
                    self.pooled.push((salt, vector));
                }
                self.pooled.drain(..self.pooled.len().saturating_sub(4));
            }
            1 | 2 => {
                if let Ok(mut vector) = runtime.zeroed::<u64>(len) {
                    (0..len).for_each(|at| vector[at] = word(at, salt));
                    self.spillable.push((salt, runtime.spillable(vector)));
                }
            }
            3 | 4 => self.blocks.push((salt, (0..len).map(|at| word(at, salt)).collect())),
            5 => self.small.extend((0..40).map(|at| vec![at as u8; 10_000])),
            6 => {
                self.small.clear();
                self.blocks.drain(..self.blocks.len() / 3);
                self.spillable.drain(..self.spillable.len() / 3);
            }
            _ => self.read(rng),
        }
    }

    fn read(&self, rng: &mut ChaCha8Rng) {
        for (salt, vector) in &self.pooled {
            check(vector, *salt);
        }
        for (salt, block) in self.blocks.iter().filter(|_| rng.gen_range(0..3) == 0) {
            check(block, *salt);
        }
        for (salt, vector) in self.spillable.iter().filter(|_| rng.gen_range(0..3) == 0) {
            if let Ok(values) = vector.read() {
                check(&values, *salt);
            }
        }
    }
}

fn status(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    let number = line.trim_start_matches(':').trim_end_matches("kB").trim();
    number.parse::<usize>().expect("a number") << 10
}

fn runtime(door: &str) -> Runtime {
    let builder = Runtime::builder().spill(SpillOptions::new("/var/tmp"));
    match door {
        "runtime" => {
            // Before the first large block, so that there is a pager.
            let runtime = builder.limit_bytes(LIMIT as u64).build().expect("a runtime");
            assert_eq!(ALLOC.limit_bytes(), LIMIT, "the allocator has the same limit");
            runtime
        }
        "allocator" => {
            ALLOC.set_limit(LIMIT);
            builder.build().expect("a runtime")
        }
        _ => builder.build().expect("a runtime"),
    }
}

/// The program. Does nothing in an ordinary run.
#[test]
fn program() {
    let Ok(door) = std::env::var(PROGRAM) else { return };
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).expect("a seed");
    let runtime = runtime(&door);
    assert_eq!(runtime.limit_bytes(), Some(LIMIT as u64), "{door}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut kept = Kept::default();
    for step in 0..150 {
        kept.step(&runtime, &mut rng, step);
    }
    kept.read(&mut rng);
    let stats = ALLOC.pages().pager().expect("the test asked for one").stats();
    let peak = status("VmHWM");
    eprintln!("peak {peak}, paged {}, {:?}", stats.written_bytes, runtime.over_limit());
    assert!(peak <= LIMIT, "VmHWM {peak} is over {LIMIT}");
    lowered(&door, &runtime, &kept);
}

/// Lowering the limit in one door reclaims from both.
fn lowered(door: &str, runtime: &Runtime, kept: &Kept) {
    let cached = runtime.pool().stats().cached_bytes;
    let lower = status("VmRSS") - cached - 24 * MIB;
    if door == "runtime" {
        ALLOC.set_limit(lower);
    } else {
        runtime.set_limit_bytes(Some(lower as u64));
    }
    assert_eq!((ALLOC.limit_bytes(), runtime.limit_bytes()), (lower, Some(lower as u64)));
    // What the allocator had cached goes first where it is the one that is asked.
    let left = runtime.pool().stats().cached_bytes;
    assert!(left < cached.max(1), "{left} of {cached} cached bytes are left");
    let resident = status("VmRSS");
    assert!(resident <= lower, "{resident} resident over {lower}: {:?}", runtime.parts());
    kept.read(&mut ChaCha8Rng::seed_from_u64(1));
    assert!(status("VmRSS") <= lower, "{} resident over {lower}", status("VmRSS"));
}

fn run(door: &str, seed: u64) {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "program", "--nocapture"]).env(PROGRAM, door);
    command.env("SEED", seed.to_string()).env("PLIMSOLL_SPILL_DIR", "/var/tmp");
    command.env_remove(LIMIT_VARIABLE);
    if door == "environment" {
        command.env(LIMIT_VARIABLE, LIMIT.to_string());
    }
    let output = command.output().expect("a child");
    let (out, err) = (output.stdout, output.stderr);
    let text = String::from_utf8_lossy(&out) + String::from_utf8_lossy(&err);
    assert!(output.status.success(), "{door}, SEED={seed}: {text}");
    assert!(text.contains("1 passed") && text.contains("paged"), "{door}: {text}");
}

fn over_seeds(door: &str) {
    if let Err(why) = probe().door {
        skipped("two_doors", why);
        return;
    }
    let replay = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in replay.map_or(0..20, |seed| seed..seed + 1) {
        run(door, seed);
    }
}

#[test]
fn the_environments_limit_is_kept_by_both_doors() {
    over_seeds("environment");
}

#[test]
fn a_runtimes_limit_is_kept_by_both_doors() {
    over_seeds("runtime");
}

#[test]
fn the_allocators_limit_is_kept_by_both_doors() {
    over_seeds("allocator");
}
