//! The lines that are printed, and what they were to be.

use std::process::ExitCode;

/// Counts figures with a target, those that missed it, and promises that were broken.
#[derive(Debug)]
pub(crate) struct Table {
    /// Whether the sizes are those that the targets were set for.
    judges: bool,
    judged: usize,
    missed: usize,
    broken: usize,
}

impl Table {
    pub(crate) fn new(judges: bool) -> Self {
        Self { judges, judged: 0, missed: 0, broken: 0 }
    }

    /// Prints ours beside a peer's, where less is better.
    pub(crate) fn figure(&self, case: &str, unit: &str, ours: f64, peer: f64, peer_name: &str) {
        self.explained(case, unit, (ours, peer, peer_name), "");
    }

    /// The same, with more fields behind, each with a blank before it.
    pub(crate) fn explained(
        &self,
        case: &str,
        unit: &str,
        (ours, peer, peer_name): (f64, f64, &str),
        more: &str,
    ) {
        let digits = if unit == "s" { 3 } else { 0 };
        let ratio = ours / peer;
        println!(
            "bench=peers case={case} ours={ours:.digits$} peer={peer:.digits$} ratio={ratio:.3} \
             unit={unit} peer_name={peer_name}{more}"
        );
    }

    /// Prints ours beside a peer's, and whether the ratio is at most `target`.
    pub(crate) fn judged(
        &mut self,
        case: &str,
        unit: &str,
        (ours, peer, peer_name): (f64, f64, &str),
        target: f64,
    ) {
        self.figure(case, unit, ours, peer, peer_name);
        if !self.judges {
            return;
        }
        self.judged += 1;
        let ratio = ours / peer;
        // What is no number has missed.
        if ratio > target || ratio.is_nan() {
            self.missed += 1;
            println!("# missed: {case} of {peer_name}: {ratio:.3}, not {target}");
        }
    }

    /// Prints that the peer has no figure, and why; what it would have been is above any of ours.
    pub(crate) fn lost(&self, case: &str, ours: f64, peer_name: &str, why: &str) {
        println!(
            "bench=peers case={case} ours={ours:.3} peer=lost ratio=none unit=s \
             peer_name={peer_name}"
        );
        println!("# {case}: {peer_name} is lost: {why}");
    }

    /// Prints that something is not as promised, whatever the machine: the run fails.
    pub(crate) fn broken(&mut self, what: &str) {
        self.broken += 1;
        println!("# broken: {what}");
    }

    /// The last line and the exit code.
    pub(crate) fn finish(self) -> ExitCode {
        let Self { judged, missed, broken, .. } = self;
        println!("# targets missed: {missed} of {judged}; promises broken: {broken}");
        if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
