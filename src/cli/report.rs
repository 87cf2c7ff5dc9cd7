//! Tables and JSON.
//!
//! The JSON of `prove --json` is one object on one line:
//!
//! ```text
//!   verified           true (a run that fails prints no object and exits with 1 or 2)
//!   limit_bytes        the limit in force
//!   limit_source       where it comes from, in words
//!   peak_rss_bytes     VmHWM of the process at the end
//!   wall_seconds       from start to verified proof, key making included
//!   domain_size        points of the evaluation domain
//!   stages             a list of: name, need_bytes, peak_bytes, freed_bytes, exit_bytes,
//!                      wall_seconds, cpu_seconds, cpu_use, minor_faults, major_faults
//! ```
//!
//! Fields may be added; none is renamed or taken away without a new major version.

use crate::groth16::plan::ProofPlan;
use crate::limit::format_bytes;
use crate::stage::StageReport;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;

/// The result of a proof.
#[derive(Debug, Serialize)]
pub(super) struct ProofReport {
    pub(super) verified: bool,
    pub(super) limit_bytes: u64,
    pub(super) limit_source: String,
    pub(super) peak_rss_bytes: u64,
    pub(super) wall_seconds: f64,
    pub(super) domain_size: usize,
    pub(super) stages: Vec<StageReport>,
}

impl ProofReport {
    pub(super) fn print_json(&self) {
        match serde_json::to_string(self) {
            Ok(text) => println!("{text}"),
            // Only numbers and names: nothing in it can fail to be written.
            Err(error) => eprintln!("error: the report cannot be written: {error}"),
        }
    }

    pub(super) fn print_table(&self) {
        println!(
            "{:<10} {:>12} {:>12} {:>12} {:>8} {:>10}",
            "stage", "need", "peak", "freed", "CPU use", "wall"
        );
        for stage in &self.stages {
            println!(
                "{:<10} {:>12} {:>12} {:>12} {:>7.0}% {:>8.3} s",
                stage.name,
                format_bytes(stage.need_bytes).to_string(),
                format_bytes(stage.peak_bytes).to_string(),
                format_bytes(stage.freed_bytes).to_string(),
                stage.cpu_use * 100.0,
                stage.wall_seconds,
            );
        }
        println!();
        println!("proof verified in {:.1} s", self.wall_seconds);
        println!(
            "peak {} under a limit of {}",
            format_bytes(self.peak_rss_bytes),
            self.limit_source
        );
    }
}

/// One planned stage, as JSON.
#[derive(Debug, Serialize)]
struct StageRow {
    name: &'static str,
    before_bytes: usize,
    need_bytes: usize,
    peak_bytes: usize,
}

/// A plan, as JSON.
#[derive(Debug, Serialize)]
struct PlanRow {
    domain_size: usize,
    threads: usize,
    chunk_points: usize,
    base_bytes: usize,
    peak_bytes: usize,
    smallest_limit_bytes: usize,
    stages: Vec<StageRow>,
}

/// Prints a plan with comfortable chunks, and the smallest limit, which is that of `smallest`.
pub(super) fn print_plan(
    domain_size: usize,
    threads: usize,
    plan: &ProofPlan,
    smallest: &ProofPlan,
    json: bool,
) {
    let stages: Vec<StageRow> = plan
        .stages()
        .iter()
        .map(|stage| StageRow {
            name: stage.name.text(),
            before_bytes: stage.before_bytes,
            need_bytes: stage.need_bytes,
            peak_bytes: plan.peak_bytes(stage),
        })
        .collect();
    let row = PlanRow {
        domain_size,
        threads,
        chunk_points: plan.chunk_len(),
        base_bytes: plan.base_bytes(),
        peak_bytes: plan.minimum_bytes(),
        smallest_limit_bytes: smallest.minimum_bytes(),
        stages,
    };
    if json {
        match serde_json::to_string(&row) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("error: the plan cannot be written: {error}"),
        }
        return;
    }
    let size = |bytes: usize| format_bytes(bytes as u64).to_string();
    println!("domain of {domain_size} points, {threads} threads");
    println!();
    println!("{:<10} {:>12} {:>12} {:>12}", "stage", "held before", "need", "peak");
    for stage in &row.stages {
        println!(
            "{:<10} {:>12} {:>12} {:>12}",
            stage.name,
            size(stage.before_bytes),
            size(stage.need_bytes),
            size(stage.peak_bytes),
        );
    }
    println!();
    println!("the program itself: {}", size(row.base_bytes));
    println!("predicted peak:     {}", size(row.peak_bytes));
    let mib = row.smallest_limit_bytes.div_ceil(1 << 20);
    println!("smallest limit:     {mib}MiB");
}

/// A progress bar on standard error when that is a terminal; nothing otherwise.
pub(super) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub(super) fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        // The template is a constant and has been seen to parse; without it the bar is plain.
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:>5} {msg:<9} [{bar:30}] {percent:>3}%")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl crate::groth16::prover::Progress for Bar {
    fn stage(&self, name: &str, index: usize, count: usize) {
        self.bar.set_prefix(format!("{}/{count}", index + 1));
        self.bar.set_message(name.to_owned());
        self.bar.set_length(1);
        self.bar.set_position(0);
        self.bar.tick();
    }

    fn advance(&self, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
    }
}
