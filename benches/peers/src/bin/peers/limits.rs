//! Limits below the peak: ours on the spill tier, glibc on the kernel's swap.
//!
//! ```text
//!   in core     T seconds, P bytes              ours, glibc
//!   L = P/2     ours: seconds / T, VmHWM <= L, samples <= L, the same proof; a second one
//!               ours by the plan of an earlier run, and that run   beside ours without one
//!               glibc in a cgroup of L bytes, swap on disk   lost after 10 times as long
//!                                             swap on zram   total = cgroup + zram's memory
//!               the same with a smaller cgroup, so that the total is L, where there is one
//!   gap         seconds of both proofs of ours, beside the longer of
//!                 2 T + (processor seconds of ours - twice those in core) / processors
//!                 bytes written and read, each at the disk's speed
//! ```
//!
//! The gap is what a run waits for while it is busy with neither. What paging takes of processors
//! is that run's own: a pager that wastes them has a small gap and a long time.

use crate::Work;
use crate::child::{Children, Run};
use crate::in_core::{OURS, median_of, one_proof};
use crate::table::Table;
use plimsoll_peers::disk;
use plimsoll_peers::provers::Prover;
use std::path::Path;

/// A run on the kernel's swap that takes so many times what it took in core is lost.
const KERNEL_LOST_FACTOR: f64 = 10.0;

/// The same for ours, of which no limit is left out: native builds take up to 16 times as long, and
/// longer where they learn a plan.
const LOST_FACTOR: f64 = 40.0;

/// A limit: its name, `bytes = peak * .1 / .2`, and how many times slower than in core ours may be.
const LIMITS: [(&str, u64, u64, Option<f64>); 4] =
    [("2/3", 2, 3, Some(1.6)), ("1/2", 1, 2, Some(3.0)), ("1/3", 1, 3, None), ("1/4", 1, 4, None)];

/// Proofs of a run of ours: a second one shows what was learnt from the first.
const PROOFS: usize = 2;

/// Time of ours, at most so many times that of the kernel's swap. For the limit of this name only:
/// the kernel's runs take long.
const KERNEL: (&str, [(&str, f64); 2]) = ("1/2", [("disk", 0.35), ("zram", 0.8)]);

/// A cgroup below this share of the limit is not tried: the program itself needs some.
const EQUAL_TOTAL_MIN: f64 = 0.1;

const PAGE_BYTES: u64 = 4096;

pub(crate) fn measure(children: &Children, table: &mut Table, work: Work) {
    let Work { prover, size, rounds } = work;
    let name = children.name(prover);
    let what = (prover, size);
    let cores = (one_proof(children, what, OURS, rounds), one_proof(children, what, "glibc", 1));
    let (Some(core), Some(glibc)) = cores else {
        return table.broken(&format!("{name}: no proof in core"));
    };
    let (seconds, bytes) = (core.first_seconds, core.peak_bytes);
    println!(
        "# {name}: in core {seconds:.3} s, {bytes:.0} bytes; glibc {:.3} s",
        glibc.first_seconds
    );
    if core.hash != glibc.hash {
        table.broken(&format!("{name}: not glibc's proof"));
    }
    let disk = disk::bytes_per_second(&children.folder);
    println!("# disk: write {:.3e} B/s, read {:.3e} B/s", disk.write, disk.read);
    for (limit_name, numerator, denominator, target) in LIMITS {
        let bytes = core.peak_bytes as u64 * numerator / denominator / PAGE_BYTES * PAGE_BYTES;
        let mut limit = Limit {
            children,
            table,
            case: format!("{name}/limit-{limit_name}"),
            what,
            bytes,
            // Of the whole process: input and verifying are slower under a limit too.
            wall_seconds: core.wall_seconds.max(glibc.wall_seconds),
        };
        let Some(ours) = limit.ours(&core, rounds, target, disk) else { continue };
        if limit_name == KERNEL.0 {
            limit.kernel(&ours, &glibc);
        }
    }
}

/// One limit.
struct Limit<'a> {
    children: &'a Children,
    table: &'a mut Table,
    case: String,
    what: (Prover, u32),
    bytes: u64,
    /// Of a process that makes one proof in core.
    wall_seconds: f64,
}

impl Limit<'_> {
    /// Ours under the limit, `rounds` times: the run with the median time. `None` if one is lost.
    fn ours(
        &mut self,
        core: &Run,
        rounds: usize,
        target: Option<f64>,
        disk: disk::Rate,
    ) -> Option<Run> {
        let (case, limit) = (self.case.clone(), self.bytes as f64);
        let run = self.median_run(core, rounds, PROOFS, None)?;
        let time = (run.first_seconds, core.first_seconds, "in-core");
        match target {
            Some(target) => self.table.judged(&format!("{case} what=time"), "s", time, target),
            None => self.table.figure(&format!("{case} what=time"), "s", time.0, time.1, time.2),
        }
        let second = (run.last_seconds, core.first_seconds, "in-core");
        self.table.figure(&format!("{case} what=time-2nd"), "s", second.0, second.1, second.2);
        self.table.judged(
            &format!("{case} what=peak"),
            "bytes",
            (run.peak_bytes, limit, "limit"),
            1.0,
        );
        self.gap(&run, core, disk);
        self.planned(core, &run, rounds);
        Some(run)
    }

    /// The same by the plan of an earlier run under this limit, beside the run without one.
    fn planned(&mut self, core: &Run, free: &Run, rounds: usize) -> Option<()> {
        let path = self.children.folder.join("peers.plan").display().to_string();
        let learnt = self.median_run(core, 1, 1, Some(&format!("learn:{path}")))?;
        let run = self.median_run(core, rounds, PROOFS, Some(&path))?;
        let _ = std::fs::remove_file(&path);
        let read = |run: &Run| run.number("read_bytes").unwrap_or(f64::NAN);
        for (what, unit, ours, peer) in [
            ("time-learning", "s", learnt.first_seconds, free.first_seconds),
            ("time-planned", "s", run.first_seconds, free.first_seconds),
            ("time-2nd-planned", "s", run.last_seconds, free.last_seconds),
            ("read-planned", "bytes", read(&run), read(free)),
        ] {
            let case = format!("{} what={what}", self.case);
            self.table.figure(&case, unit, ours, peer, "no-plan");
        }
        Some(())
    }

    /// Runs of ours under the limit, which they have to keep, with the proof that is right: the one
    /// with the median time. `None` if one is lost.
    fn median_run(
        &mut self,
        core: &Run,
        rounds: usize,
        proofs: usize,
        plan: Option<&str>,
    ) -> Option<Run> {
        let (case, limit) = (self.case.clone(), self.bytes as f64);
        let (bytes, spill) = (self.bytes.to_string(), self.children.folder.display().to_string());
        let limits = [("PLIMSOLL_LIMIT", bytes.as_str()), ("PLIMSOLL_SPILL_DIR", &spill)];
        let mut variables = limits.to_vec();
        variables.extend(plan.map(|plan| ("PLIMSOLL_PLAN", plan)));
        let words = self.children.words(OURS, self.what.0, self.what.1, proofs);
        let deadline = self.wall_seconds * LOST_FACTOR * proofs as f64;
        let mut runs = Vec::new();
        for _ in 0..rounds {
            let Some(run) = self.children.run(&words, &variables, deadline) else {
                self.table.broken(&format!("{case}: ours is lost"));
                return None;
            };
            for (what, bytes) in [("VmHWM", run.peak_bytes), ("a sample", run.sampled_bytes)] {
                if bytes > limit {
                    self.table.broken(&format!("{case}: {what} of {bytes} is over {limit}"));
                }
            }
            if run.hash != core.hash {
                self.table.broken(&format!("{case}: another proof than in core"));
            }
            runs.push(run);
        }
        median_of(runs)
    }

    /// What it took beside what bounds it; see the head of this file.
    fn gap(&self, run: &Run, core: &Run, disk: disk::Rate) {
        let number = |name| run.number(name).unwrap_or(f64::NAN);
        let (written, read) = (number("written_bytes"), number("read_bytes"));
        let moving = written / disk.write + read / disk.read;
        let proofs = PROOFS as f64;
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let computing = core.first_seconds * proofs;
        let cpu = |run: &Run| run.number("cpu_seconds").unwrap_or(f64::NAN);
        let paging = (cpu(run) - cpu(core) * proofs) / processors;
        let busy = computing + paging;
        // Not `max`, which leaves out what is no number.
        let bound = if busy.is_nan() || moving <= busy { busy } else { moving };
        self.table.explained(
            &format!("{} what=gap", self.case),
            "s",
            (run.total_seconds, bound, "bound"),
            &format!(" computing={computing:.3} paging={paging:.3} disk={moving:.3}"),
        );
        println!(
            "# {}: written {written:.3e} B, read {read:.3e} B; stalled {:.2} s of threads in {:.0} \
             faults; wanted again {:.2} of what left",
            self.case,
            number("stalled_seconds"),
            number("pager_faults"),
            number("refault_share"),
        );
    }

    /// glibc on the kernel's swap under the same limit, and on zram with the same total.
    fn kernel(&mut self, ours: &Run, glibc: &Run) {
        for (swap, target) in KERNEL.1 {
            let peer = format!("kernel-{swap}");
            let (run, report) = self.capped(self.bytes, swap, glibc);
            let time = format!("{} what=time", self.case);
            match &run {
                None => self.table.lost(&time, ours.first_seconds, &peer, &report.text),
                Some(run) => {
                    let time_of = (ours.first_seconds, run.first_seconds, peer.as_str());
                    self.table.judged(&time, "s", time_of, target);
                }
            }
            let device = if swap == "zram" { report.number(ZRAM_BYTES) } else { 0.0 };
            let total = report.number("peak_bytes=") + device;
            let case = format!("{} what=total", self.case);
            self.table.figure(&case, "bytes", ours.peak_bytes, total, &peer);
            if swap == "zram" && run.is_some() {
                self.equal_total(ours, glibc, &report);
            }
        }
    }

    /// zram again, with a cgroup so small that it and zram's memory together are the limit.
    fn equal_total(&mut self, ours: &Run, glibc: &Run, report: &Report) {
        let (case, peer) = (format!("{} what=time-equal-total", self.case), "kernel-zram");
        let (whole, limit) = (glibc.peak_bytes, self.bytes as f64);
        let stored = report.number("zram_orig_peak_bytes=");
        let packing = stored / report.number(ZRAM_BYTES).max(1.0);
        // cap + (whole - cap) / packing = limit
        let cap = (limit - whole / packing) / (1.0 - 1.0 / packing);
        if !(packing > 1.0 && cap >= limit * EQUAL_TOTAL_MIN) {
            let why = format!("{whole:.0} bytes packed {packing:.2} to 1 do not fit in {limit:.0}");
            return self.table.lost(&case, ours.first_seconds, peer, &why);
        }
        let (run, report) = self.capped(cap as u64 / PAGE_BYTES * PAGE_BYTES, "zram", glibc);
        match run {
            None => self.table.lost(&case, ours.first_seconds, peer, &report.text),
            Some(run) => {
                self.table.figure(&case, "s", ours.first_seconds, run.first_seconds, peer);
                let total = report.number("peak_bytes=") + report.number(ZRAM_BYTES);
                let case = format!("{} what=total-equal-total", self.case);
                self.table.figure(&case, "bytes", ours.peak_bytes, total, peer);
            }
        }
    }

    /// glibc in a cgroup of `bytes` with the kernel's swap.
    fn capped(&mut self, bytes: u64, swap: &str, glibc: &Run) -> (Option<Run>, Report) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/capped.sh");
        let path = self.children.folder.join("peers-capped.report");
        // What is left of a run before must not be read as this one's.
        let _ = std::fs::remove_file(&path);
        let folder = self.children.folder.display().to_string();
        let (script, report) = (script.display().to_string(), path.display().to_string());
        let (bytes, seconds) =
            (bytes.to_string(), format!("{:.0}", self.wall_seconds * KERNEL_LOST_FACTOR));
        let mut words: Vec<String> = ["sh", &script, &bytes, "--swap", swap, "--swap-dir", &folder]
            .into_iter()
            .chain(["--report", &report, "--", "timeout", "-s", "KILL", &seconds])
            .map(str::to_owned)
            .collect();
        words.extend(self.children.words("glibc", self.what.0, self.what.1, 1));
        // The deadline is inside: to kill the script would leave its swap behind.
        let run = self.children.run(&words, &[], f64::INFINITY);
        let text = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
        let _ = std::fs::remove_file(&path);
        println!("# {}: glibc on kernel-{swap}: {text}", self.case);
        if run.as_ref().is_some_and(|run| run.hash != glibc.hash) {
            self.table.broken(&format!("{}: glibc's proof differs on {swap}", self.case));
        }
        (run, Report { text })
    }
}

/// What a zram device took, in that line.
const ZRAM_BYTES: &str = "zram_mem_used_max_bytes=";

/// The line that capped.sh writes.
struct Report {
    text: String,
}

impl Report {
    /// The number behind `name`; none where it is missing or unknown.
    fn number(&self, name: &str) -> f64 {
        let found = self.text.split_whitespace().find_map(|word| word.strip_prefix(name));
        found.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
    }
}
