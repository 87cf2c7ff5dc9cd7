//! The driver: runs every allocator on every prover, in turns, and prints one line a figure.
//!
//! `cargo run --release --bin peers -- [PROVER...] [--quick] [--limits]`
//!
//! | variable | default | |
//! |---|---|---|
//! | PLIMSOLL_BENCH_FOLDER | /var/tmp | keys, spill files |
//! | PLIMSOLL_BENCH_ROUNDS | 3, quick 1 | runs of each allocator, of which the median counts |
//!
//! `--limits` runs ours under 2/3, 1/2 and 1/3 of its own peak in core instead, and glibc in a
//! memory cgroup of that size with swap on disk and on zram (scripts/capped.sh; root). A run that
//! takes ten times what it took in core is killed and printed as lost.
//!
//! Never: call a limit kept that VmHWM says was not.

use plimsoll_peers::provers::Prover;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// A run that is this many times slower than in core is lost.
const LOST_FACTOR: f64 = 10.0;

/// Seconds that any run may take when nothing is known of it yet.
const SECONDS_MAX: f64 = 600.0;

/// Proofs of one process, where it makes more than one.
const REPEATS: usize = 5;

/// Denominators and names of the limits: bytes = peak * numerator / denominator.
const LIMITS: [(&str, u64, u64); 3] = [("2/3", 2, 3), ("1/2", 1, 2), ("1/3", 1, 3)];

const OURS: &str = "plimsoll";

/// Name, binary and environment of each allocator, ours first.
const ALLOCATORS: [(&str, &str, &[(&str, &str)]); 6] = [
    (OURS, "plimsoll", &[]),
    ("glibc", "glibc", &[]),
    ("jemalloc", "jemalloc", &[]),
    (
        "jemalloc-keep",
        "jemalloc",
        &[("_RJEM_MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always")],
    ),
    ("mimalloc", "mimalloc", &[]),
    ("zk-alloc", "zk_alloc", &[]),
];

/// What a child printed.
#[derive(Clone, Debug)]
struct Run {
    first_seconds: f64,
    last_seconds: f64,
    total_seconds: f64,
    peak_bytes: f64,
    resident_bytes: f64,
    minor_faults: f64,
    hash: String,
}

impl Run {
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find(|line| line.starts_with("seconds="))?;
        let fields: BTreeMap<_, _> =
            line.split_whitespace().filter_map(|field| field.split_once('=')).collect();
        let number = |name: &str| fields.get(name)?.parse().ok();
        let seconds: Vec<f64> = fields
            .get("seconds")?
            .split(',')
            .map(|word| word.parse().ok())
            .collect::<Option<_>>()?;
        Some(Self {
            first_seconds: *seconds.first()?,
            last_seconds: *seconds.last()?,
            total_seconds: seconds.iter().sum(),
            peak_bytes: number("peak_bytes")?,
            resident_bytes: number("resident_bytes")?,
            minor_faults: number("minor_faults")?,
            hash: (*fields.get("hash")?).to_owned(),
        })
    }
}

struct Bench {
    bins: PathBuf,
    folder: PathBuf,
    rounds: usize,
    failed: bool,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(case: &str, unit: &str, ours: f64, peer: f64, peer_name: &str) {
    let ratio = ours / peer;
    println!(
        "bench=peers case={case} ours={ours:.3} peer={peer:.3} ratio={ratio:.3} unit={unit} \
         peer_name={peer_name}"
    );
}

impl Bench {
    /// The command that runs a binary for `seconds` at most, then kills it.
    fn timed(
        &self,
        seconds: f64,
        binary: &str,
        prover: Prover,
        size: u32,
        proofs: usize,
    ) -> Vec<String> {
        let mut words = vec!["timeout".to_owned(), "-s".to_owned(), "KILL".to_owned()];
        words.push(format!("{seconds:.0}"));
        words.push(self.bins.join(binary).display().to_string());
        words.extend([prover.name().to_owned(), size.to_string(), proofs.to_string()]);
        words.push(self.folder.display().to_string());
        words
    }

    fn run(&self, words: &[String], variables: &[(&str, &str)]) -> Option<Run> {
        let output = Command::new(&words[0])
            .args(&words[1..])
            .envs(variables.iter().copied())
            .output()
            .expect("timeout and the binaries beside this one");
        let run = Run::parse(&String::from_utf8_lossy(&output.stdout));
        if run.is_none() {
            let why = String::from_utf8_lossy(&output.stderr);
            println!("# lost: {} ({})", words.join(" "), why.lines().last().unwrap_or("killed"));
        }
        run.filter(|_| output.status.success())
    }

    /// All allocators, in turns; the runs of each, in the order of [`ALLOCATORS`].
    fn in_turns(&mut self, prover: Prover, size: u32, proofs: usize) -> Vec<Vec<Run>> {
        let mut runs = vec![Vec::new(); ALLOCATORS.len()];
        for _ in 0..self.rounds {
            for (at, (_, binary, variables)) in ALLOCATORS.iter().enumerate() {
                let words = self.timed(SECONDS_MAX, binary, prover, size, proofs);
                runs[at].extend(self.run(&words, variables));
            }
        }
        let mut hashes: Vec<&str> = runs.iter().flatten().map(|run| run.hash.as_str()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.len() != 1 {
            println!("# missed: {} proofs differ: {hashes:?}", prover.name());
            self.failed = true;
        }
        runs
    }

    /// Prints a figure of ours beside every peer's, and beside the best of them.
    fn figure(&self, case: &str, unit: &str, runs: &[Vec<Run>], of: fn(&Run) -> f64) {
        let value =
            |at: usize| (!runs[at].is_empty()).then(|| median(runs[at].iter().map(of).collect()));
        let Some(ours) = value(0) else { return println!("# missed: {case}: ours did not finish") };
        let mut best = (f64::INFINITY, "none");
        for (at, (name, ..)) in ALLOCATORS.iter().enumerate().skip(1) {
            let Some(peer) = value(at) else { continue };
            print(case, unit, ours, peer, name);
            if peer < best.0 {
                best = (peer, name);
            }
        }
        print(case, unit, ours, best.0, &format!("best:{}", best.1));
    }

    /// One proof in core: our run, and glibc's seconds.
    fn once(&self, prover: Prover, size: u32) -> Option<(Run, f64)> {
        let run = |binary| self.run(&self.timed(SECONDS_MAX, binary, prover, size, 1), &[]);
        let (ours, glibc) = (run(OURS)?, run("glibc")?);
        let name = prover.name();
        println!("# {name}: in core {:.3} s, {} bytes", ours.first_seconds, ours.peak_bytes);
        Some((ours, glibc.first_seconds))
    }

    /// One proof and five: time, peak, faults.
    fn in_core(&mut self, prover: Prover, size: u32) {
        let name = prover.name();
        let once = self.in_turns(prover, size, 1);
        self.figure(&format!("{name}/in-core/time"), "s", &once, |run| run.first_seconds);
        self.figure(&format!("{name}/in-core/peak"), "bytes", &once, |run| run.peak_bytes);
        let many = self.in_turns(prover, size, REPEATS);
        let case = format!("{name}/repeat-{REPEATS}");
        self.figure(&format!("{case}/5th"), "s", &many, |run| run.last_seconds);
        self.figure(&format!("{case}/time"), "s", &many, |run| run.total_seconds);
        self.figure(&format!("{case}/peak"), "bytes", &many, |run| run.peak_bytes);
        self.figure(&format!("{case}/faults"), "count", &many, |run| run.minor_faults);
        self.figure(&format!("{case}/resident"), "bytes", &many, |run| run.resident_bytes);
    }

    fn limits(&mut self, prover: Prover, size: u32, core: &Run, glibc_seconds: f64) {
        let spill = self.folder.display().to_string();
        let seconds = (core.first_seconds.max(glibc_seconds) * LOST_FACTOR).max(10.0);
        for (name, numerator, denominator) in LIMITS {
            let case = format!("{}/limit-{name}", prover.name());
            let limit = core.peak_bytes as u64 * numerator / denominator / 4096 * 4096;
            let text = limit.to_string();
            let words = self.timed(seconds, OURS, prover, size, 1);
            let variables = [("PLIMSOLL_LIMIT", text.as_str()), ("PLIMSOLL_SPILL_DIR", &spill)];
            let ours = self.run(&words, &variables);
            if let Some(run) = &ours {
                let kept = if run.peak_bytes <= limit as f64 { "kept" } else { "NOT kept" };
                println!("# {case}: limit {limit} bytes, VmHWM {}: {kept}", run.peak_bytes);
                if run.hash != core.hash {
                    println!("# missed: {case}: another proof than in core");
                    self.failed = true;
                }
                print(
                    &format!("{case}/time"),
                    "s",
                    run.first_seconds,
                    core.first_seconds,
                    "in-core",
                );
                print(&format!("{case}/peak"), "bytes", run.peak_bytes, limit as f64, "limit");
            }
            // A run that took more than the limit is compared with nobody.
            let kept = ours.as_ref().filter(|run| run.peak_bytes <= limit as f64);
            for swap in ["disk", "zram"] {
                self.kernel(prover, size, &case, limit, swap, seconds, kept);
            }
        }
    }

    /// glibc in a cgroup of `limit` bytes with the kernel's swap.
    #[allow(clippy::too_many_arguments, reason = "one case of the table, spelled out")]
    fn kernel(
        &self,
        prover: Prover,
        size: u32,
        case: &str,
        limit: u64,
        swap: &str,
        seconds: f64,
        ours: Option<&Run>,
    ) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/capped.sh");
        let report = self.folder.join("peers-capped.report");
        // What is left of a run before must not be read as this one's.
        let _ = std::fs::remove_file(&report);
        let mut words: Vec<String> =
            ["sh", &script.display().to_string(), &limit.to_string()].map(str::to_owned).to_vec();
        words.extend(
            ["--swap", swap, "--swap-dir", &self.folder.display().to_string()].map(String::from),
        );
        words.extend(["--report".into(), report.display().to_string(), "--".into()]);
        words.extend(self.timed(seconds, "glibc", prover, size, 1));
        let run = self.run(&words, &[]);
        let text = std::fs::read_to_string(&report).unwrap_or_default();
        println!("# {case}: glibc under kernel-{swap}: {}", text.trim());
        let field = |name: &str| {
            let found = text.split_whitespace().find_map(|word| word.strip_prefix(name));
            found.and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let peer = format!("kernel-{swap}");
        let Some(ours) = ours else { return };
        let Some(run) = run else {
            let seconds = ours.first_seconds;
            println!(
                "bench=peers case={case}/time ours={seconds:.3} peer=lost unit=s peer_name={peer}"
            );
            return;
        };
        print(&format!("{case}/time"), "s", ours.first_seconds, run.first_seconds, &peer);
        let total = field("peak_bytes=") + field("zram_mem_used_max_bytes=");
        print(&format!("{case}/total"), "bytes", ours.peak_bytes, total, &peer);
    }
}

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
        (Prover::Spartan, _) => 16,
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| words.iter().any(|word| word == flag);
    let effort = match (has("--quick"), has("--limits")) {
        (true, _) => Effort::Quick,
        (false, true) => Effort::Limits,
        (false, false) => Effort::InCore,
    };
    let variable = |name: &str| std::env::var(name).ok();
    let rounds = variable("PLIMSOLL_BENCH_ROUNDS").and_then(|text| text.parse().ok());
    let own = std::env::current_exe().expect("a path of this program");
    let mut bench = Bench {
        bins: own.parent().expect("a folder").to_owned(),
        folder: variable("PLIMSOLL_BENCH_FOLDER").unwrap_or("/var/tmp".into()).into(),
        rounds: rounds.unwrap_or(if effort == Effort::Quick { 1 } else { 3 }).max(1),
        failed: false,
    };
    let named: Vec<_> = words.iter().filter_map(|word| Prover::named(word)).collect();
    for prover in if named.is_empty() { Prover::ALL.to_vec() } else { named } {
        let size = log_size(prover, effort);
        println!("# {}: 2^{size}, {} rounds", prover.name(), bench.rounds);
        let words = bench.timed(SECONDS_MAX, "glibc", prover, size, 0);
        let made = Command::new(&words[0]).args(&words[1..]).status();
        assert!(made.is_ok_and(|status| status.success()), "{} has no input", prover.name());
        if !has("--limits") {
            bench.in_core(prover, size);
        } else if let Some((core, glibc_seconds)) = bench.once(prover, size) {
            bench.limits(prover, size, &core, glibc_seconds);
        }
    }
    if bench.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
