//! One process of one allocator: makes proofs, then prints one line about them.
//!
//! ```text
//!   input --> proof 1 --> proof 2 ... --> reclaim point --> the line
//!             seconds[0]  seconds[1]      resident_bytes
//! ```
//!
//! `in_use_bytes` is what the allocator has handed out, and the anonymous memory that the program
//! had at its start beside that: stacks and variables. `anonymous_bytes` is what is resident of
//! both.
//!
//! Seconds are of the proofs alone, and so is `cpu_seconds`: what all threads of this process took
//! of processors, in the program and in the kernel. `peak_bytes` is VmHWM: of the whole process,
//! input and key included, which is what a limit has to hold. Verifying comes after the line's
//! figures were read.

use crate::provers::{Prover, Task};
use std::path::Path;
use std::time::Instant;

/// What an allocator wants to be told.
#[derive(Debug)]
pub struct Hooks {
    /// Runs the making of one proof.
    pub phase: fn(&mut dyn FnMut()),
    /// The reclaim point behind the last proof, where the allocator has one.
    pub reclaim: Option<fn()>,
    /// Bytes of blocks in use, where the allocator knows.
    pub in_use: Option<fn() -> u64>,
    /// More fields of the line, each with a blank before it.
    pub more: Option<fn() -> String>,
}

impl Hooks {
    /// For an allocator that wants to be told nothing.
    pub const NONE: Self = Self { phase: |work| work(), reclaim: None, in_use: None, more: None };
}

/// The value of `name` in /proc/self/status, in bytes; 0 where the kernel does not say.
fn status_bytes(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

/// Minor and major faults of this process so far.
fn faults() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields behind the name, which may hold blanks: state is the first of them.
    let rest = text.rsplit(')').next().unwrap_or_default();
    let field = |at: usize| rest.split_whitespace().nth(at).and_then(|word| word.parse().ok());
    (field(7).unwrap_or(0), field(9).unwrap_or(0))
}

/// Seconds of processors that all threads of this process took so far.
fn cpu_seconds() -> f64 {
    // SAFETY: zeros are a valid rusage, which getrusage fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Does what the command line says: `PROVER LOG_SIZE PROOFS FOLDER`, or with 0 proofs only makes
/// the files that the prover reads.
///
/// # Panics
///
/// On a wrong command line and where a proof does not verify: there is no figure then.
pub fn child(hooks: &Hooks) {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [prover, log_size, proofs, folder] = words.as_slice() else {
        panic!("usage: PROVER LOG_SIZE PROOFS FOLDER, not {words:?}");
    };
    let prover = Prover::named(prover).expect("a prover's name: see provers.rs");
    let log_size: u32 = log_size.parse().expect("LOG_SIZE is a number");
    let proofs: usize = proofs.parse().expect("PROOFS is a number");
    // The pool's threads live longer than a phase: they come first.
    rayon::broadcast(|_| ());
    let in_use = || hooks.in_use.map_or(0, |count| count());
    let own_bytes = status_bytes("RssAnon").saturating_sub(in_use());
    if proofs == 0 {
        return prover.prepare(log_size, Path::new(folder));
    }
    let mut task = Task::load(prover, log_size, Path::new(folder));
    let mut seconds = Vec::with_capacity(proofs);
    let cpu_before = cpu_seconds();
    for _ in 0..proofs {
        let started = Instant::now();
        (hooks.phase)(&mut || task.prove());
        seconds.push(format!("{:.4}", started.elapsed().as_secs_f64()));
    }
    let cpu_seconds = cpu_seconds() - cpu_before;
    let peak_bytes = status_bytes("VmHWM");
    let (minor, major) = faults();
    if let Some(reclaim) = hooks.reclaim {
        reclaim();
    }
    let resident_bytes = status_bytes("VmRSS");
    let anonymous_bytes = status_bytes("RssAnon");
    let in_use_bytes = own_bytes + in_use();
    let more = hooks.more.map_or_else(String::new, |more| more());
    let hash = task.verified_hash();
    println!(
        "seconds={} cpu_seconds={cpu_seconds:.3} peak_bytes={peak_bytes} \
         resident_bytes={resident_bytes} anonymous_bytes={anonymous_bytes} \
         in_use_bytes={in_use_bytes} minor_faults={minor} major_faults={major} hash={hash}{more}",
        seconds.join(","),
    );
}
