//! One transform in a process of its own: ours in core, ours out of core, or ark-poly's; ours
//! through ark-poly's trait, and its table alone.
//!
//! ```text
//!   parent -- `--child SIDE LOG_N LIMIT FOLDER` --> child: fill, transform (timed), VmHWM, hash
//!          <-- "seconds peak anonymous moved planned spilled block hash" --
//! ```
//!
//! The input is the same on all sides, element by element, and looks random: nothing packs it. The
//! hash takes all values in natural order, after the clock and VmHWM were read.

use crate::common;
use ark_bn254::Fr;
use ark_ff::BigInt;
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use plimsoll::ntt::{Domain, OutOfCore, Passes, Plan, Radix2, Transform, twiddle_len};
use plimsoll::spill::SpillOptions;
use plimsoll::tiles::{Outlook, Texture, Tiles, Walk};
use plimsoll::{Runtime, Secrecy};
use rayon::prelude::*;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What the runtime needs beside the plan, in bytes: buffers of its I/O, and blocks that are made
/// while others leave.
const BESIDE_BYTES: usize = 8 << 20;

/// What a process answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    /// Of the transform alone.
    pub(crate) seconds: f64,
    /// VmHWM, and on kernel swap what that took.
    pub(crate) peak_bytes: f64,
    /// The same without the program's own files, which differ between the sides.
    pub(crate) anonymous_bytes: f64,
    /// What the passes loaded and stored.
    pub(crate) moved_bytes: f64,
    /// What the plan says of that.
    pub(crate) planned_bytes: f64,
    /// What of it went to the spill file and came from there.
    pub(crate) spilled_bytes: f64,
    /// Of a block.
    pub(crate) block_bytes: f64,
    /// Of the result.
    pub(crate) hash: f64,
}

impl Run {
    fn send(&self) {
        common::send(&[
            self.seconds,
            self.peak_bytes,
            self.anonymous_bytes,
            self.moved_bytes,
            self.planned_bytes,
            self.spilled_bytes,
            self.block_bytes,
            self.hash,
        ]);
    }

    /// Reads the line that a child sent.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let numbers = text.split_whitespace().map(|word| word.parse().ok());
        let numbers: Vec<f64> = numbers.collect::<Option<_>>()?;
        let [seconds, peak_bytes, anonymous_bytes, moved_bytes, rest @ ..]: [f64; 8] =
            numbers.try_into().ok()?;
        let [planned_bytes, spilled_bytes, block_bytes, hash] = rest;
        Some(Self {
            seconds,
            peak_bytes,
            anonymous_bytes,
            moved_bytes,
            planned_bytes,
            spilled_bytes,
            block_bytes,
            hash,
        })
    }
}

/// The words that make a process of this program one side.
pub(crate) fn words(side: &str, log_n: u32, limit_bytes: usize, folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("a folder of plain letters");
    ["--child", side, &log_n.to_string(), &limit_bytes.to_string(), folder]
        .map(str::to_owned)
        .to_vec()
}

/// Runs one side in a process of its own.
pub(crate) fn run(side: &str, log_n: u32, limit_bytes: usize, folder: &Path) -> Run {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new(program)
        .args(words(side, log_n, limit_bytes, folder))
        .stderr(Stdio::inherit())
        .output()
        .expect("this program can start itself");
    assert!(output.status.success(), "{side} at 2^{log_n} failed: its words are above");
    Run::parse(&String::from_utf8_lossy(&output.stdout)).expect("a line of numbers")
}

/// In a child: does what the words say.
pub(crate) fn child(words: &[String]) {
    let [side, log_n, limit_bytes, folder] = words else { panic!("four words after --child") };
    let log_n = log_n.parse().expect("a size");
    let run = match side.as_str() {
        "in-core" => in_core(log_n),
        "out-of-core" => out_of_core(log_n, limit_bytes.parse().expect("bytes"), folder.as_ref()),
        "domain" => through_the_trait::<Domain<Fr>>(log_n),
        "table" => table(log_n),
        _ => through_the_trait::<Radix2EvaluationDomain<Fr>>(log_n),
    };
    run.send();
}

/// Element `index` of the input: limbs that look random, below the modulus.
fn element(index: usize) -> Fr {
    // SplitMix64.
    let limb = |salt: u64| {
        let mut word = (index as u64 * 4 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    };
    // Below 2^253, and the modulus is above.
    Fr::new_unchecked(BigInt([limb(0), limb(1), limb(2), limb(3) >> 3]))
}

fn fill(start: usize, values: &mut [Fr]) {
    values.par_iter_mut().enumerate().for_each(|(index, value)| *value = element(start + index));
}

/// Continues a hash over all limbs, in order.
fn hash(state: u64, values: &[Fr]) -> u64 {
    let limbs = values.iter().flat_map(|value| value.0.0);
    limbs.fold(state, |state, limb| (state ^ limb).wrapping_mul(0x0000_0100_0000_01B3))
}

/// A hash as a number that the line of numbers carries whole.
fn short(hash: u64) -> f64 {
    (hash >> 12) as f64
}

/// VmHWM, and what of it is no page of a file: those stay where they are once they came.
fn peaks() -> (f64, f64) {
    let peak = common::peak_rss_bytes();
    (peak as f64, peak.saturating_sub(common::file_rss_bytes()) as f64)
}

fn in_core(log_n: u32) -> Run {
    let runtime = Runtime::builder().build().expect("a runtime");
    let zeroed = |len| runtime.pool().try_zeroed::<Fr>(len).expect("memory");
    let mut values = zeroed(1 << log_n);
    fill(0, &mut values);
    // As ark-poly makes its roots at each call, the table is part of the time.
    let start = Instant::now();
    let kernel = Radix2::new(log_n, zeroed(twiddle_len(log_n))).expect("a domain");
    kernel.fft(&mut values).expect("a slice of the domain's size");
    let seconds = start.elapsed().as_secs_f64();
    let (peak_bytes, anonymous_bytes) = peaks();
    Run { seconds, peak_bytes, anonymous_bytes, hash: short(hash(0, &values)), ..Run::default() }
}

fn through_the_trait<D: EvaluationDomain<Fr>>(log_n: u32) -> Run {
    let mut values = vec![Fr::default(); 1 << log_n];
    fill(0, &mut values);
    let start = Instant::now();
    let domain = D::new(1 << log_n).expect("a domain");
    domain.fft_in_place(&mut values);
    let seconds = start.elapsed().as_secs_f64();
    let (peak_bytes, anonymous_bytes) = peaks();
    Run { seconds, peak_bytes, anonymous_bytes, hash: short(hash(0, &values)), ..Run::default() }
}

/// What a transform of a domain that owns no table makes first.
fn table(log_n: u32) -> Run {
    let start = Instant::now();
    let roots = vec![Fr::default(); twiddle_len(log_n)];
    let kernel = Radix2::new(log_n, roots).expect("a domain");
    let seconds = start.elapsed().as_secs_f64();
    let roots = kernel.into_twiddles();
    Run { seconds, hash: short(hash(0, &roots)), ..Run::default() }
}

fn out_of_core(log_n: u32, limit_bytes: usize, folder: &Path) -> Run {
    let runtime = Runtime::builder()
        .limit_bytes(limit_bytes as u64)
        .spill(SpillOptions::new(folder))
        .build()
        .expect("a runtime with somewhere to spill");
    let taken = runtime.counted_bytes() as usize + BESIDE_BYTES;
    let budget = limit_bytes.saturating_sub(taken);
    let plan = Plan::new(log_n, size_of::<Fr>(), budget).unwrap_or_else(|why| panic!("{why}"));
    let transform = OutOfCore::<Fr>::new(&runtime, plan).expect("tables");
    let mut tiles = transform.vector(Secrecy::Public);
    fill_tiles(&runtime, &mut tiles);
    let before = runtime.spill_stats();
    let start = Instant::now();
    transform.fft(&mut tiles).unwrap_or_else(|why| panic!("{why}"));
    let seconds = start.elapsed().as_secs_f64();
    let (peak_bytes, anonymous_bytes) = peaks();
    let after = runtime.spill_stats();
    let spilled =
        (after.spilled_total - before.spilled_total) + (after.loaded_total - before.loaded_total);
    let (moved, planned) = (transform.moved(), plan.walked(Passes::Single));
    Run {
        seconds,
        peak_bytes,
        anonymous_bytes,
        moved_bytes: (moved.read_bytes + moved.written_bytes) as f64,
        planned_bytes: (planned.read_bytes + planned.written_bytes) as f64,
        spilled_bytes: spilled as f64,
        block_bytes: plan.block_bytes() as f64,
        hash: short(hash_tiles(&runtime, &tiles)),
    }
}

/// Scratch for a row stripe.
fn stripe(runtime: &Runtime, tiles: &Tiles<Fr>) -> plimsoll::PoolVec<Fr> {
    runtime.pool().try_zeroed(tiles.layout().row_stripe_len()).expect("room for a stripe")
}

fn fill_tiles(runtime: &Runtime, tiles: &mut Tiles<Fr>) {
    let mut scratch = stripe(runtime, tiles);
    for index in 0..tiles.layout().row_stripes() {
        fill(index * scratch.len(), &mut scratch);
        let outlook = Outlook { next: Walk::Columns, texture: Texture::Uniform };
        tiles.store_rows(index, &scratch, outlook).unwrap_or_else(|why| panic!("{why}"));
    }
}

fn hash_tiles(runtime: &Runtime, tiles: &Tiles<Fr>) -> u64 {
    let mut scratch = stripe(runtime, tiles);
    (0..tiles.layout().row_stripes()).fold(0, |state, index| {
        tiles.load_rows(index, &mut scratch).unwrap_or_else(|why| panic!("{why}"));
        hash(state, &scratch)
    })
}
