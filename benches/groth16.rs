//! A Groth16 proof, in core and under limits, against ark-groth16 in core: same circuit, same key
//! file, same r and s.
//!
//! Each proof is made in a process of its own, from files: the key is loaded the way each side
//! loads it (ours streams it, the peer deserializes it, unchecked, which is its fastest way), the
//! circuit is run, the proof is made. Runs alternate, and the median of each side is printed:
//! seconds from start to proof, and VmHWM. The bytes of the two proofs must be the same.
//!
//! `limit-P/8` and `limit-P/16` give ours an eighth and a sixteenth of the peer's peak of the same
//! run; `-- sweep` gives it 100 to 6 % of that, and `-- sweep --svg FILE` draws the curve. The
//! circuit's witness is full-size field elements: nothing of it packs, what does not fit goes to
//! the spill file, in PLIMSOLL_BENCH_SPILL, default /var/tmp.
//!
//! `-- sweep-sha256` does the same with a chain of SHA-256, whose witness is bits, under shares of
//! *ours* in core, down to the smallest limit of its plan where that is more: what is packed,
//! spilled and read ahead is printed at each limit, and each must have happened by the last.
//!
//! `-- batch` makes eight proofs, at once and one after the other, under a limit that fits two and
//! a half; 2^18 unless another size is named.
//!
//! `cargo bench --bench groth16` runs 2^18 in core and 2^20 with limits; `-- 16 18` runs other
//! sizes; `--test` or PLIMSOLL_BENCH_SMOKE=1 runs 2^12 once, and a small sweep of SHA-256.

#[path = "groth16/sides.rs"]
mod sides;
#[path = "groth16/sweep.rs"]
mod sweep;

use sides::{BATCH, Case, Kind, Run};
use std::path::PathBuf;

/// Rounds of ours and peer, alternating.
const ROUNDS: usize = 3;

/// Domains from this one on are also proved under limits: smaller ones are mostly the program.
const LIMITED_LOG_N: u32 = 20;

/// Parts of the peer's peak that are limits, and what of its time a proof may take then.
const LIMITS: [(u64, f64); 2] = [(8, 1.1), (16, 1.25)];

/// What of the peer's time and peak a proof in core may take.
const TARGET_TIME: f64 = 1.0;
const TARGET_PEAK: f64 = 0.6;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn line(case: &str, unit: &str, ours: f64, peer: f64) {
    let ratio = ours / peer;
    println!(
        "bench=groth16 case={case} ours={ours:.3} peer={peer:.3} ratio={ratio:.3} unit={unit} \
         peer_name=ark-groth16"
    );
}

/// Prints a figure that has a target, and whether it was missed.
fn judged(case: &str, unit: &str, (ours, peer): (f64, f64), ratio_max: f64) {
    line(case, unit, ours, peer);
    if ours > ratio_max * peer {
        println!("# missed: {case} is {:.3} of the peer's, not {ratio_max}", ours / peer);
    }
}

fn seconds(runs: &[Run]) -> f64 {
    median(runs.iter().map(|run| run.seconds).collect())
}

fn peak(runs: &[Run]) -> f64 {
    median(runs.iter().map(|run| run.peak).collect())
}

fn check_same(runs: &[Run], proof: &str) {
    assert!(runs.iter().all(|run| run.proof == proof), "the proofs differ");
}

fn compare(case: &Case, rounds: usize) {
    case.run("setup", None);
    let log_n = case.log_n;
    let limits = if log_n < LIMITED_LOG_N { &[][..] } else { &LIMITS[..] };
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    let mut limited = vec![Vec::new(); limits.len()];
    for _ in 0..rounds {
        ours.push(case.run("ours", None).expect("a result"));
        peers.push(case.run("peer", None).expect("a result"));
        for ((part, _), runs) in limits.iter().zip(&mut limited) {
            // Of the first peak: a limit is one number.
            let limit = peers[0].peak as u64 / part;
            let run = case.run("ours", Some(limit)).expect("a result");
            assert!(run.peak <= limit as f64, "{} bytes under a limit of {limit}", run.peak);
            runs.push(run);
        }
    }
    check_same(&ours, &peers[0].proof);
    let name = format!("in-core/2^{log_n}");
    judged(&name, "s", (seconds(&ours), seconds(&peers)), TARGET_TIME);
    judged(&name, "bytes", (peak(&ours), peak(&peers)), TARGET_PEAK);
    for ((part, ratio_max), runs) in limits.iter().zip(&limited) {
        check_same(runs, &peers[0].proof);
        let name = format!("limit-P/{part}/2^{log_n}");
        judged(&name, "s", (seconds(runs), seconds(&peers)), *ratio_max);
        line(&name, "bytes", peak(runs), peak(&peers));
        println!("# limit {} bytes, kept in every run", peers[0].peak as u64 / part);
    }
}

/// Eight proofs at once, as the limit allows, against one after the other under the same limit.
fn batch(case: &Case, rounds: usize) {
    case.run("setup", None);
    let limit = case.run("limit-of-a-batch", None).expect("a limit").peak;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (side, runs) in [("batch", &mut ours), ("one-by-one", &mut peers)] {
            let run = case.run(side, Some(limit as u64)).expect("a result");
            assert!(run.peak <= limit, "{} bytes under a limit of {limit}", run.peak);
            runs.push(run);
        }
    }
    check_same(&ours, &peers[0].proof);
    for (unit, ours, peer) in
        [("s", seconds(&ours), seconds(&peers)), ("bytes", peak(&ours), peak(&peers))]
    {
        println!(
            "bench=groth16 case=batch-of-{BATCH}/2^{} ours={ours:.3} peer={peer:.3} \
             ratio={:.3} unit={unit} peer_name=one-by-one",
            case.log_n,
            ours / peer
        );
    }
    println!("# limit {limit} bytes, kept in every run");
}

fn main() {
    if sides::child() {
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let smoke = std::env::var_os("PLIMSOLL_BENCH_SMOKE").is_some() || has("--test");
    let mut sizes: Vec<u32> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let asked_log_n = sizes.first().copied().unwrap_or(LIMITED_LOG_N);
    if smoke {
        sizes = vec![12];
    } else if sizes.is_empty() {
        sizes = vec![18, 20];
    }
    println!("# threads={}", rayon::current_num_threads());
    let folder = tempfile::tempdir().expect("a folder for keys");
    let case = |kind, log_n| Case { kind, log_n, folder: folder.path().to_owned() };
    if has("sweep") {
        let at = arguments.iter().position(|argument| argument == "--svg");
        let picture = at.and_then(|at| arguments.get(at + 1)).map(PathBuf::from);
        return sweep::of_peer(&case(Kind::Chain, asked_log_n), picture.as_deref());
    }
    if has("sweep-sha256") {
        return sweep::of_ours(&case(Kind::Sha256, asked_log_n));
    }
    if has("batch") {
        let log_n = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(18);
        return batch(&case(Kind::Chain, log_n), if smoke { 1 } else { ROUNDS });
    }
    for log_n in sizes {
        compare(&case(Kind::Chain, log_n), if smoke { 1 } else { ROUNDS });
    }
    if smoke {
        sweep::of_ours(&case(Kind::Sha256, 16));
        batch(&case(Kind::Chain, 12), 1);
    }
}
