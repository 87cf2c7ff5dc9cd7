//! Transforms: in core against ark-poly, and out of core under a limit against everything else
//! that makes a small machine do.
//!
//! ```text
//!   in-core/2^K             Radix2; s, bytes (VmHWM; anonymous memory, which leaves out
//!                           the program's own code). Peer: ark-poly
//!   domain/2^K              Domain through ark-poly's trait, the same figures. Peer: ark-poly
//!                           through the same; table: what making its roots takes of ours
//!   out-of-core/2^K@LIMIT   OutOfCore in a process whose runtime has LIMIT; s, bytes.
//!                           Peers: ark-poly in core, without any limit; limit (the bytes allowed);
//!                           plan (bytes moved); o-direct (the disk by itself, same block size);
//!                           kernel-swap, kernel-zram (the in-core transform under capped.sh LIMIT)
//!   sweep/2^K@LIMIT         the same for each K from 20 to 27, a limit of an eighth of the vector
//! ```
//!
//! One process a measurement, ours and peers in turns; medians. Every process answers a hash of its
//! result, and they must be the same. A peer that the kernel kills, or that is not done within the
//! cap, is printed as such: `peer=killed` or `peer=timeout`, with the ratio as a bound. A limit
//! that was not kept, or bytes moved that are not the plan's, fail the bench; other targets that
//! are missed are lines `# missed:`. The disk's is judged where the disk has longer to do than a
//! transform in core takes: benches/README.md says how to make it so.
//! What zram holds in RAM is no part of its cgroup's peak; its line of bytes adds it.
//!
//! Run: `cargo bench --bench ntt`; `-- in-core`, `-- 2^26`, `-- sweep` for some; `-- --test` is
//! short, `PLIMSOLL_BENCH_CAP_SECONDS` sets another cap. The kernel's peers need root. Spill files
//! and swap go to `PLIMSOLL_BENCH_FOLDER`, default /var/tmp.

mod common;
#[path = "ntt/kernel.rs"]
mod kernel;
#[path = "spill/raw.rs"]
mod raw;
#[path = "ntt/sides.rs"]
mod sides;

use common::{Effort, Figure, Unit};
use kernel::{KernelSwap, Outcome};
use sides::Run;
use std::path::PathBuf;

/// Seconds that a peer on kernel swap may take.
const CAP_SECONDS_FULL: u64 = 300;
const CAP_SECONDS_SMOKE: u64 = 20;

/// What of ark-poly's time a transform may take: in core, and out of core against it in core.
const TARGET_IN_CORE: f64 = 0.9;
const TARGET_OUT_OF_CORE: f64 = 1.1;

/// From this size on a transform in core is judged.
const JUDGED_LOG_N: u32 = 18;

/// What of the disk's speed there must be where the disk is the longer side.
const TARGET_DISK: f64 = 0.8;

/// Bytes of an element.
const ELEMENT_BYTES: usize = 32;

/// A transform out of core.
#[derive(Clone, Copy)]
struct Case {
    log_n: u32,
    limit_bytes: usize,
}

impl Case {
    fn name(&self, kind: &str) -> String {
        format!("{kind}/2^{}@{}", self.log_n, common::size_name(self.limit_bytes))
    }
}

/// Who runs beside a transform out of core.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    ArkPoly,
    None,
}

/// How much is done.
struct Bench {
    rounds: usize,
    cap_seconds: u64,
    in_core: Vec<u32>,
    domain: Vec<u32>,
    out_of_core: Vec<Case>,
    sweep: Vec<Case>,
    folder: PathBuf,
}

impl Bench {
    fn new(effort: Effort) -> Self {
        let folder = common::folder();
        let cap = std::env::var("PLIMSOLL_BENCH_CAP_SECONDS").ok();
        let cap = cap.map(|text| text.parse().expect("PLIMSOLL_BENCH_CAP_SECONDS is a number"));
        let case = |log_n, limit_mib: usize| Case { log_n, limit_bytes: limit_mib << 20 };
        let eighth = |log_n| case(log_n, ((ELEMENT_BYTES << log_n) >> 23).max(24));
        match effort {
            Effort::Full => Self {
                rounds: 3,
                cap_seconds: cap.unwrap_or(CAP_SECONDS_FULL),
                in_core: (18..=24).collect(),
                domain: (18..=22).collect(),
                out_of_core: vec![case(24, 64), case(26, 256)],
                sweep: (20..=27).map(eighth).collect(),
                folder,
            },
            Effort::Smoke => Self {
                rounds: 1,
                cap_seconds: cap.unwrap_or(CAP_SECONDS_SMOKE),
                in_core: vec![12],
                domain: vec![12],
                out_of_core: vec![case(20, 32)],
                sweep: vec![eighth(18)],
                folder,
            },
        }
    }

    /// The side called `side` against ark-poly; answers the medians of ours.
    fn in_core(&self, side: &str, log_n: u32) -> Run {
        let case = format!("{side}/2^{log_n}");
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        // Small transforms are over within one bad moment of the machine: more of them.
        let rounds = if log_n < 22 { 3 * self.rounds } else { self.rounds };
        for _ in 0..rounds {
            ours.push(sides::run(side, log_n, 0, &self.folder));
            peer.push(sides::run("ark-poly", log_n, 0, &self.folder));
        }
        same_result(&case, ours.iter().chain(&peer));
        let (ours, peer) = (median(&ours), median(&peer));
        print(&case, "s", Unit::Seconds, (ours.seconds, peer.seconds), "ark-poly");
        print(&case, "peak", Unit::Bytes, (ours.peak_bytes, peer.peak_bytes), "ark-poly");
        let anonymous = (ours.anonymous_bytes, peer.anonymous_bytes);
        print(&case, "anonymous", Unit::Bytes, anonymous, "ark-poly");
        if log_n >= JUDGED_LOG_N {
            judge(&format!("{case} time"), ours.seconds / peer.seconds, TARGET_IN_CORE);
            let ratio_max = 1.0 + counter_slack_bytes() / anonymous.1;
            judge(&format!("{case} memory"), anonymous.0 / anonymous.1, ratio_max);
        }
        ours
    }

    fn domain(&self, log_n: u32) {
        let ours = self.in_core("domain", log_n);
        let tables: Vec<Run> =
            (0..self.rounds).map(|_| sides::run("table", log_n, 0, &self.folder)).collect();
        let case = format!("domain/2^{log_n}");
        let seconds = (median(&tables).seconds, ours.seconds);
        print(&case, "table", Unit::Seconds, seconds, "transform");
    }

    /// Measures ours, and ark-poly in core where that is asked for, in turns.
    fn out_of_core(&self, kind: &str, case: Case, peer: Peer) -> (Run, Option<Run>) {
        let name = case.name(kind);
        let run = |side, limit| sides::run(side, case.log_n, limit, &self.folder);
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            ours.push(run("out-of-core", case.limit_bytes));
            if peer == Peer::ArkPoly {
                peers.push(run("ark-poly", 0));
            }
        }
        same_result(&name, ours.iter().chain(&peers));
        let ours = median(&ours);
        self.against_plan_and_disk(&name, case, &ours);
        (ours, (!peers.is_empty()).then(|| median(&peers)))
    }

    /// Prints ours against limit, plan and disk.
    fn against_plan_and_disk(&self, name: &str, case: Case, ours: &Run) {
        let limit = case.limit_bytes as f64;
        print(name, "peak", Unit::Bytes, (ours.peak_bytes, limit), "limit");
        assert!(ours.peak_bytes <= limit, "{name}: the limit was not kept");
        let moved = (ours.moved_bytes, ours.planned_bytes);
        assert!(moved.0 == moved.1, "{name}: moved {} bytes, planned {}", moved.0, moved.1);
        print(name, "moved", Unit::Bytes, moved, "plan");
        let elements = (1u64 << case.log_n) as f64;
        println!(
            "# case={name} ns_per_element={:.1} spilled_bytes_per_element={:.1} block={}",
            ours.seconds * 1e9 / elements,
            ours.spilled_bytes / elements,
            common::size_name(ours.block_bytes as usize),
        );
        if ours.spilled_bytes == 0.0 {
            return;
        }
        let raw = self.disk(ours.block_bytes as usize);
        let rate = ours.spilled_bytes / ours.seconds;
        print(name, "disk", Unit::BytesPerSecond, (rate, raw), "o-direct");
        let in_core = sides::run("in-core", case.log_n, 0, &self.folder).seconds;
        let disk = ours.spilled_bytes / raw;
        let longer = if disk > in_core { "disk" } else { "cores" };
        println!("# case={name} disk_s={disk:.3} in_core_s={in_core:.3} longer={longer}");
        if disk > in_core {
            // At least, not at most.
            judge(&format!("{name} disk, time over ours"), raw / rate, 1.0 / TARGET_DISK);
        }
    }

    /// Bytes a second of the disk: as much written as read.
    fn disk(&self, block_bytes: usize) -> f64 {
        let blocks = ((256 << 20) / block_bytes).max(8);
        let rates =
            raw::RawFile::new(&self.folder, block_bytes, blocks, raw::Memory::OneBlock).measure(2);
        2.0 / (1.0 / rates.write + 1.0 / rates.read)
    }

    fn against_peers(&self, case: Case) {
        let name = case.name("out-of-core");
        let (ours, peer) = self.out_of_core("out-of-core", case, Peer::ArkPoly);
        if let Some(peer) = peer {
            print(&name, "s", Unit::Seconds, (ours.seconds, peer.seconds), "ark-poly");
            print(&name, "peak", Unit::Bytes, (ours.peak_bytes, peer.peak_bytes), "ark-poly");
            judge(&format!("{name} time"), ours.seconds / peer.seconds, TARGET_OUT_OF_CORE);
        }
        for swap in [KernelSwap::Disk, KernelSwap::Zram] {
            let outcome = kernel::run(swap, case, self.cap_seconds, &self.folder);
            self.print_kernel(&name, &ours, swap, &outcome);
        }
    }

    fn print_kernel(&self, name: &str, ours: &Run, swap: KernelSwap, outcome: &Outcome) {
        let peer_name = swap.peer_name();
        let without = |peer: &str, ratio: &str| {
            let ours = format!("{:.3e}", ours.seconds);
            println!(
                "bench=ntt case={name} what=s ours={ours} peer={peer} ratio={ratio} unit=s \
                 peer_name={peer_name}"
            );
        };
        match outcome {
            Outcome::Done(peer) => {
                same_result(name, [ours, peer]);
                print(name, "s", Unit::Seconds, (ours.seconds, peer.seconds), peer_name);
                print(name, "peak", Unit::Bytes, (ours.peak_bytes, peer.peak_bytes), peer_name);
            }
            Outcome::TimedOut => {
                let bound = ours.seconds / self.cap_seconds as f64;
                without(&format!("timeout@{}s", self.cap_seconds), &format!("<{bound:.3}"));
            }
            Outcome::Killed => without("killed", "none"),
            Outcome::Skipped(why) => println!("# SKIPPED: {name} peer {peer_name}: {why}"),
        }
    }
}

/// What a count of resident memory may be wrong by: the kernel (since Linux 6.2) adds it up from 32
/// pages at a time of each processor.
fn counter_slack_bytes() -> f64 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (32 * processors * 4096) as f64
}

/// Says that a target was missed, if it was.
fn judge(what: &str, ratio: f64, ratio_max: f64) {
    if ratio > ratio_max {
        println!("# missed: {what}: {ratio:.3}, not {ratio_max:.3}");
    }
}

/// Asserts that all came to the same values.
fn same_result<'a>(case: &str, runs: impl IntoIterator<Item = &'a Run>) {
    let mut hashes = runs.into_iter().map(|run| run.hash);
    if let Some(first) = hashes.next() {
        assert!(hashes.all(|hash| hash == first), "{case}: the results differ");
    }
}

/// Medians of seconds and bytes; the rest is the same in all runs.
fn median(runs: &[Run]) -> Run {
    let of = |figure: fn(&Run) -> f64| {
        common::median(&runs.iter().map(figure).collect::<Vec<_>>()).expect("at least one run")
    };
    Run {
        seconds: of(|run| run.seconds),
        peak_bytes: of(|run| run.peak_bytes),
        spilled_bytes: of(|run| run.spilled_bytes),
        ..runs[0]
    }
}

fn print(case: &str, what: &str, unit: Unit, (ours, peer): (f64, f64), peer_name: &str) {
    let case = format!("{case} what={what}");
    Figure { bench: "ntt", case: &case, ours, peer, unit, peer_name }.print();
}

fn main() {
    if let Some(words) = common::child_words() {
        return sides::child(&words);
    }
    let effort = common::effort();
    common::print_machine("ntt", effort);
    let bench = Bench::new(effort);
    println!(
        "# rounds={} cap={}s folder={}",
        bench.rounds,
        bench.cap_seconds,
        bench.folder.display()
    );
    for log_n in &bench.in_core {
        if common::wanted(&format!("in-core/2^{log_n}")) {
            bench.in_core("in-core", *log_n);
        }
    }
    for log_n in &bench.domain {
        if common::wanted(&format!("domain/2^{log_n}")) {
            bench.domain(*log_n);
        }
    }
    for case in &bench.out_of_core {
        if common::wanted(&case.name("out-of-core")) {
            bench.against_peers(*case);
        }
    }
    let asked = std::env::args().any(|argument| argument.starts_with("sweep"));
    for case in bench.sweep.iter().filter(|_| asked || effort == Effort::Smoke) {
        if common::wanted(&case.name("sweep")) {
            bench.out_of_core("sweep", *case, Peer::None);
        }
    }
}
