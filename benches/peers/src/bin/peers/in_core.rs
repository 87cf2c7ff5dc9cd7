//! No limit: one proof, and five in one process, by every allocator.

use crate::Work;
use crate::child::{Children, Run, SECONDS_MAX};
use crate::table::Table;
use plimsoll_peers::provers::Prover;

/// Proofs of one process, where it makes more than one.
const REPEATS: usize = 5;

/// Runs of one proof in a round: it differs by 2 % from run to run, as much as may be between
/// allocators.
const ONCE: usize = 3;

pub(crate) const OURS: &str = "plimsoll";

/// Name, binary and environment.
type Allocator = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Ours first.
const ALLOCATORS: [Allocator; 6] = [
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

/// Time and peak of ours, at most so many times the best peer's.
const BEST: f64 = 1.02;
/// The fifth proof, at most so many times that of these peers.
const FIFTH: [(&str, f64); 2] = [("glibc", 0.9), ("zk-alloc", 1.05)];
/// What stays behind a reclaim point, at most so many times what is in use.
const AFTER_RECLAIM: f64 = 1.05;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One proof in core: the run with the median time. One run comes first and is not counted: on a
/// virtual machine it waits for memory that the host has yet to give.
pub(crate) fn one_proof(
    children: &Children,
    (prover, size): (Prover, u32),
    binary: &str,
    rounds: usize,
) -> Option<Run> {
    let words = children.words(binary, prover, size, 1);
    let run = || children.run(&words, &[], SECONDS_MAX);
    let _ = run();
    median_of((0..rounds).filter_map(|_| run()).collect())
}

/// The run with the median time, if there is one.
pub(crate) fn median_of(mut runs: Vec<Run>) -> Option<Run> {
    runs.sort_by(|a, b| a.first_seconds.total_cmp(&b.first_seconds));
    (!runs.is_empty()).then(|| runs.swap_remove(runs.len() / 2))
}

/// The runs of one case: those of each allocator, in the order of [`ALLOCATORS`].
struct Runs<'a> {
    case: String,
    table: &'a mut Table,
    runs: Vec<Vec<Run>>,
}

impl<'a> Runs<'a> {
    /// Runs all allocators in turns, and compares their proofs.
    fn make(
        children: &Children,
        table: &'a mut Table,
        case: String,
        (prover, size, proofs): (Prover, u32, usize),
        rounds: usize,
    ) -> Self {
        let mut runs = vec![Vec::new(); ALLOCATORS.len()];
        for _ in 0..rounds {
            for (at, (name, binary, variables)) in ALLOCATORS.iter().enumerate() {
                let words = children.words(binary, prover, size, proofs);
                let run = children.run(&words, variables, SECONDS_MAX);
                if run.is_none() && *name == OURS {
                    table.broken(&format!("{case}: ours did not end well"));
                }
                runs[at].extend(run);
            }
        }
        let mut hashes: Vec<&str> = runs.iter().flatten().map(|run| run.hash.as_str()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.len() != 1 {
            table.broken(&format!("{case}: proofs differ: {hashes:?}"));
        }
        Self { case, table, runs }
    }

    fn value(&self, name: &str, of: fn(&Run) -> f64) -> Option<f64> {
        let at = ALLOCATORS.iter().position(|(own, ..)| *own == name)?;
        (!self.runs[at].is_empty()).then(|| median(self.runs[at].iter().map(of).collect()))
    }

    /// Prints a figure of ours beside every peer's.
    fn beside_all(&self, what: &str, unit: &str, of: fn(&Run) -> f64) {
        let Some(ours) = self.value(OURS, of) else { return };
        for (name, ..) in &ALLOCATORS[1..] {
            if let Some(peer) = self.value(name, of) {
                self.table.figure(&format!("{} what={what}", self.case), unit, ours, peer, name);
            }
        }
    }

    /// The same, and judges it against the best of them.
    fn beside_best(&mut self, what: &str, unit: &str, of: fn(&Run) -> f64) {
        self.beside_all(what, unit, of);
        let peers =
            ALLOCATORS[1..].iter().filter_map(|(name, ..)| Some((self.value(name, of)?, name)));
        let best = peers.min_by(|a, b| a.0.total_cmp(&b.0));
        if let (Some(ours), Some((peer, name))) = (self.value(OURS, of), best) {
            let (case, name) = (format!("{} what={what}", self.case), format!("best:{name}"));
            self.table.judged(&case, unit, (ours, peer, &name), BEST);
        }
    }

    /// Prints the last proof beside every peer's, and judges it against those of [`FIFTH`].
    fn beside_fifth(&mut self) {
        let fifth = |runs: &Self, name| runs.value(name, |run| run.last_seconds);
        let Some(ours) = fifth(self, OURS) else { return };
        let case = format!("{} what=5th", self.case);
        for (name, ..) in &ALLOCATORS[1..] {
            let Some(peer) = fifth(self, name) else { continue };
            match FIFTH.iter().find(|(judged, _)| judged == name) {
                Some((_, target)) => self.table.judged(&case, "s", (ours, peer, name), *target),
                None => self.table.figure(&case, "s", ours, peer, name),
            }
        }
    }
}

/// One proof and five: time, peak, faults, and what is left of it behind a reclaim point.
pub(crate) fn measure(children: &Children, table: &mut Table, work: Work) {
    let Work { prover, size, rounds } = work;
    let name = children.name(prover);
    let case = format!("{name}/in-core");
    let mut once = Runs::make(children, table, case, (prover, size, 1), ONCE * rounds);
    once.beside_best("time", "s", |run| run.first_seconds);
    once.beside_best("peak", "bytes", |run| run.peak_bytes);

    let case = format!("{name}/repeat-{REPEATS}");
    let mut many = Runs::make(children, table, case, (prover, size, REPEATS), rounds);
    many.beside_best("time", "s", |run| run.total_seconds);
    many.beside_best("peak", "bytes", |run| run.peak_bytes);
    many.beside_all("faults", "count", |run| run.number("minor_faults").unwrap_or(f64::NAN));
    many.beside_all("resident", "bytes", |run| run.number("resident_bytes").unwrap_or(f64::NAN));
    many.beside_fifth();
    let resident = many.value(OURS, |run| run.number("anonymous_bytes").unwrap_or(f64::NAN));
    let in_use = many.value(OURS, |run| run.number("in_use_bytes").unwrap_or(f64::NAN));
    if let (Some(ours), Some(peer)) = (resident, in_use) {
        let case = format!("{}/reclaimed", many.case);
        many.table.judged(&case, "bytes", (ours, peer, "in-use"), AFTER_RECLAIM);
    }
}
