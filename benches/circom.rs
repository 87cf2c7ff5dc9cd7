//! Proofs of circom circuits, from snarkjs's keys, in core and under limits, against what a user
//! would run instead.
//!
//! ```text
//!   in-core/KIND-2^K          Prover without a limit; s, bytes (VmHWM). Peers: snarkjs; rapidsnark
//!                             where PLIMSOLL_RAPIDSNARK names its program
//!   limit-P/D/KIND-2^K        under a half, a quarter and an eighth of rapidsnark's peak P, where
//!                             the plan takes such a limit; s, bytes. Peer: as above
//!   smallest/KIND-2^K         under the smallest limit of the plan
//! ```
//!
//! Each proof is made in a process of its own, from files, and by the same r and s: its bytes must
//! be the same under every limit, and snarkjs must accept them. Rounds alternate; medians are
//! printed. A line `#` after each case of ours says what else was seen: the anonymous peak, the
//! bytes read from files, and what was spilled.
//!
//! rapidsnark is built from C++ and is no package. Without it, its time and peak are taken as
//! shares of snarkjs's ([`RAPIDSNARK_SECONDS`], [`RAPIDSNARK_PEAK`]), and the figures say so. The
//! shares were measured on one circuit, of SHA-256: for squarings they are a rough guess.
//!
//! Keys are made by `scripts/circom-fixtures.sh bench` in the folder PLIMSOLL_CIRCOM, default
//! `plimsoll/circom-bench` in the user's cache directory, once: 2^16 takes a minute, 2^20 four.
//! SHA-256 needs node and npm; squares are made without them.
//!
//! Run: `cargo bench --bench circom` for 2^16 and 2^18; `-- 20` for another size, `-- squares` for
//! one kind. `--test` or PLIMSOLL_BENCH_SMOKE=1 proves a tiny circuit of the tests, without peers.

#[path = "circom/peers.rs"]
mod peers;
#[path = "circom/sides.rs"]
mod sides;

mod common;

use common::{Effort, Figure, Unit, median};
use peers::Peer;
use sides::{Case, Run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rounds of ours and peers, alternating.
const ROUNDS: usize = 3;

/// What rapidsnark takes of snarkjs's seconds and of its peak: 250 thousand rows of SHA-256, two
/// processors, both in turns.
const RAPIDSNARK_SECONDS: f64 = 0.145;
const RAPIDSNARK_PEAK: f64 = 0.26;

/// What of rapidsnark's time a proof may take: in core, under a quarter of its peak, and under the
/// smallest limit.
const TARGET_IN_CORE: f64 = 0.7;
const TARGET_QUARTER: f64 = 0.75;
const TARGET_SMALLEST: f64 = 0.9;

/// A limit of ours, and what of the peer's time is allowed under it.
struct Limit {
    name: String,
    bytes: Option<u64>,
    ratio_max: Option<f64>,
}

fn main() {
    if sides::child() {
        return;
    }
    let effort = common::effort();
    common::print_machine("circom", effort);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let sizes: Vec<u32> = arguments.iter().filter_map(|word| word.parse().ok()).collect();
    if effort == Effort::Smoke {
        return smoke();
    }
    for log_n in if sizes.is_empty() { vec![16, 18] } else { sizes } {
        for kind in ["sha256", "squares"] {
            let other = |word: &String| ["sha256", "squares"].contains(&word.as_str());
            if arguments.iter().any(other) && !arguments.iter().any(|word| word == kind) {
                continue;
            }
            match fixture(kind, log_n) {
                Ok(case) => compare(&case, log_n),
                Err(why) => println!("# SKIPPED: {kind}-2^{log_n}: {why}"),
            }
        }
    }
}

/// A tiny circuit, in core and under the smallest limit: that the bench works.
fn smoke() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/circom");
    let case = Case { name: "multiplier".into(), folder };
    let smallest = case.smallest();
    let runs = [None, Some(smallest)].map(|limit| case.prove(limit));
    assert_eq!(runs[0].proof, runs[1].proof, "the proofs differ");
    println!("# smoke: smallest limit {smallest} bytes, same proof");
}

/// The key and witness of a kind and size, made now if nobody did before.
fn fixture(kind: &str, log_n: u32) -> Result<Case, String> {
    let folder = std::env::var_os("PLIMSOLL_CIRCOM")
        .map_or_else(|| peers::cache().join("circom-bench"), PathBuf::from);
    let folder = folder.join(format!("{kind}-{log_n}"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/circom-fixtures.sh");
    let made = Command::new(script)
        .args(["bench", kind, &log_n.to_string()])
        .arg(&folder)
        .status()
        .map_err(|error| error.to_string())?;
    match made.success() {
        true => Ok(Case { name: kind.to_owned(), folder }),
        false => Err("scripts/circom-fixtures.sh could not make the key, see above".to_owned()),
    }
}

fn compare(case: &Case, log_n: u32) {
    let title = format!("{}-2^{log_n}", case.name);
    let peers = Peer::all();
    let mut theirs = vec![Vec::new(); peers.len()];
    let take_turns = |theirs: &mut Vec<Vec<Run>>| {
        for (peer, runs) in peers.iter().zip(theirs) {
            runs.push(peer.prove(case));
        }
    };
    take_turns(&mut theirs);
    // The limits are shares of one number, so of the first round.
    let peak = match peers.last() {
        Some(Peer::Rapidsnark(_)) => theirs.last().map_or(0.0, |runs| runs[0].peak),
        _ => theirs[0][0].peak * RAPIDSNARK_PEAK,
    };
    let limits = limits(case.smallest(), peak);
    let mut ours = vec![Vec::new(); limits.len()];
    for round in 0..ROUNDS {
        if round > 0 {
            take_turns(&mut theirs);
        }
        for (limit, runs) in limits.iter().zip(&mut ours) {
            let run = case.prove(limit.bytes);
            if let Some(bytes) = limit.bytes {
                assert!(run.peak <= bytes as f64, "{} bytes under {}", run.peak, limit.name);
            }
            runs.push(run);
        }
    }
    let proof = &ours[0][0].proof;
    assert!(ours.iter().flatten().all(|run| run.proof == *proof), "the proofs differ");
    peers::verify(case);
    println!("# snarkjs accepts {title}; the proof has the same bytes under every limit");
    for (limit, runs) in limits.iter().zip(&ours) {
        let case = format!("{}/{title}", limit.name);
        for (peer, theirs) in peers.iter().zip(&theirs) {
            print(&case, runs, theirs, peer.name());
        }
        judge(&case, limit, runs, &peers, &theirs);
    }
}

/// The limits for a peak of rapidsnark's, the largest first; one that the plan refuses is left out.
fn limits(smallest: u64, peak: f64) -> Vec<Limit> {
    let in_core = Limit { name: "in-core".into(), bytes: None, ratio_max: Some(TARGET_IN_CORE) };
    let share = |part: u64| Limit {
        name: format!("limit-P/{part}"),
        bytes: Some((peak / part as f64) as u64),
        ratio_max: (part == 4).then_some(TARGET_QUARTER),
    };
    let least =
        Limit { name: "smallest".into(), bytes: Some(smallest), ratio_max: Some(TARGET_SMALLEST) };
    let (fits, refused): (Vec<_>, Vec<_>) =
        [2, 4, 8].map(share).into_iter().partition(|limit| limit.bytes >= Some(smallest));
    for limit in refused {
        println!("# {} is {:?} bytes, below the smallest limit", limit.name, limit.bytes);
    }
    std::iter::once(in_core).chain(fits).chain([least]).collect()
}

fn of(runs: &[Run], value: impl Fn(&Run) -> f64) -> f64 {
    let values: Vec<f64> = runs.iter().map(value).collect();
    median(&values).expect("a round at least")
}

fn print(case: &str, ours: &[Run], theirs: &[Run], peer_name: &str) {
    for (unit, value) in
        [(Unit::Seconds, (|run| run.seconds) as fn(&Run) -> f64), (Unit::Bytes, |run| run.peak)]
    {
        let (ours, peer) = (of(ours, value), of(theirs, value));
        Figure { bench: "circom", case, ours, peer, unit, peer_name }.print();
    }
}

/// Prints what else was seen, and whether a target was missed.
fn judge(case: &str, limit: &Limit, ours: &[Run], peers: &[Peer], theirs: &[Vec<Run>]) {
    let figures = [|run: &Run| run.anonymous, |run: &Run| run.read, |run: &Run| run.spilled];
    let [anonymous, read, spilled] = figures.map(|value| of(ours, value));
    println!(
        "# {case}: anonymous peak {anonymous:.0} bytes, {read:.0} read from files, {spilled:.0} \
         spilled; limit {}",
        limit.bytes.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string()),
    );
    let seconds = |runs: &Vec<Run>| of(runs, |run| run.seconds);
    let (bar, how) = match peers.last() {
        Some(Peer::Rapidsnark(_)) => (theirs.last().map_or(0.0, seconds), "measured"),
        _ => (seconds(&theirs[0]) * RAPIDSNARK_SECONDS, "a share of snarkjs's time"),
    };
    let ratio = of(ours, |run| run.seconds) / bar;
    println!("# {case}: {ratio:.3} of rapidsnark's time ({how})");
    if let Some(ratio_max) = limit.ratio_max.filter(|max| ratio > *max) {
        println!("# missed: {case} is {ratio:.3} of rapidsnark's time, not {ratio_max}");
    }
}
