//! A prover that knows nothing of us, under a limit that its memory does not fit: the same proof.
//!
//! ```text
//!   test -> this binary again: ark-groth16, with plimsoll::Allocator under it
//!             without a limit         proof, peak P
//!             PLIMSOLL_LIMIT = 2/3 P  the same proof, VmHWM at or under the limit
//! ```
//!
//! Where the kernel refuses userfaultfd it says so and tests the rest: that the program runs as it
//! does without a limit.
#![cfg(feature = "groth16")]

use ark_bn254::Fr;
use ark_ff::UniformRand;
use plimsoll::groth16::circuit::SquaringChain;
use plimsoll_arena::process::skipped;
use plimsoll_swap::pager::probe;
use plimsoll_test_support::{ark_key, ark_proof};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::process::Command;

#[global_allocator]
static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();

/// Set for the program.
const PROGRAM: &str = "PLIMSOLL_TEST_PROGRAM";

const CONSTRAINTS: usize = 1 << 15;

fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    let kilobytes = line.split_whitespace().nth(1).and_then(|word| word.parse::<usize>().ok());
    kilobytes.expect("a number") * 1024
}

/// The program: key and proof by ark-groth16. Does nothing in an ordinary run.
#[test]
fn program() {
    if std::env::var_os(PROGRAM).is_none() {
        return;
    }
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let circuit = SquaringChain::new(Fr::rand(&mut rng), CONSTRAINTS);
    let key = ark_key(circuit.clone(), &mut rng);
    let (r, s) = (Fr::rand(&mut rng), Fr::rand(&mut rng));
    let bytes = ark_proof(&key, circuit, r, s);
    let written = ALLOC.pages().pager().map_or(0, |pager| pager.stats().written_bytes);
    ALLOC.check().expect("the allocator's books");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("result {hex} {} {written}", peak_bytes());
}

/// What the program prints: the proof, its peak in bytes, bytes written by the pager.
fn run(limit: Option<usize>) -> (String, usize, u64) {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "program", "--nocapture", "--test-threads=1"]).env(PROGRAM, "1");
    command.env_remove("PLIMSOLL_LIMIT").env_remove("PLIMSOLL_SPILL_DIR");
    if let Some(limit) = limit {
        command.env("PLIMSOLL_LIMIT", limit.to_string()).env("PLIMSOLL_SPILL_DIR", "/var/tmp");
    }
    let output = command.output().expect("a child");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), output.stderr);
    assert!(output.status.success(), "{limit:?}: {out}{}", String::from_utf8_lossy(&err));
    let words: Vec<&str> = out.split_whitespace().skip_while(|word| *word != "result").collect();
    let number = |index: usize| words[index].parse::<u64>().expect("a number");
    (words[1].to_owned(), number(2) as usize, number(3))
}

#[test]
fn ark_groth16_makes_the_same_proof_under_two_thirds_of_its_peak() {
    let (expected, peak, written) = run(None);
    assert_eq!(written, 0, "nothing is paged without a limit");
    let limit = peak / 3 * 2;
    let (proof, limited_peak, written) = run(Some(limit));
    assert!(proof == expected, "another proof");
    if let Err(why) = probe().door {
        skipped("the limit of paged_prover", why);
        return;
    }
    assert!(written > 0, "nothing was paged");
    assert!(limited_peak <= limit, "VmHWM {limited_peak} over the limit {limit}");
}

/// Hints and a stage's reclaim point, in a program whose limit is far away.
#[test]
fn hinted() {
    if std::env::var_os(PROGRAM).is_none() {
        return;
    }
    let column: Vec<u64> = (0..8 << 20).collect();
    let pager = ALLOC.pages().pager().expect("the test asked for one");
    let resident = || pager.stats().data_bytes;
    let full = resident();
    plimsoll::cold(&column);
    assert!(resident() < full / 2, "{} of {full} left", full - resident());
    plimsoll::will_need(&column);
    plimsoll::cold(&[1u8; 3]);
    assert!(column.iter().enumerate().all(|(i, word)| *word == i as u64));
    // A runtime of the program's own, whose limit this column is in the way of.
    let runtime = plimsoll::Runtime::builder().build().expect("a runtime");
    runtime.set_limit_bytes(Some(runtime.counted_bytes() + (8 << 20)));
    let report = runtime.reclaim_point("heavy", 40 << 20);
    assert!(report.freed.by("paged blocks") > 0, "{report:?}");
    assert!(column.iter().enumerate().all(|(i, word)| *word == i as u64));
    println!("result paged");
}

#[test]
fn hints_and_reclaim_points_reach_the_pager() {
    if let Err(why) = probe().door {
        skipped("hints to the pager", why);
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "hinted", "--nocapture"]).env(PROGRAM, "1");
    command.env("PLIMSOLL_LIMIT", "1GiB").env("PLIMSOLL_SPILL_DIR", "/var/tmp");
    let output = command.output().expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("result paged"), "{text}{error}");
}

#[test]
fn what_cannot_be_had_is_said_once_and_changes_nothing() {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "nothing", "--nocapture"]);
    for (limit, folder, word) in [
        ("lots", "/var/tmp", "PLIMSOLL_LIMIT"),
        ("1GiB", "/nowhere", "no paging"),
        ("1GiB", "/dev/shm", "no paging"),
    ] {
        command.env("PLIMSOLL_LIMIT", limit).env("PLIMSOLL_SPILL_DIR", folder);
        let output = command.env(PROGRAM, "1").output().expect("a child");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{limit} {folder}: {text}");
        assert_eq!(text.matches(word).count(), 1, "{limit} {folder}: {text}");
    }
}

/// Allocates a large block, for the test above.
#[test]
fn nothing() {
    assert_eq!(std::hint::black_box(vec![1u8; 1 << 20])[77], 1);
}
