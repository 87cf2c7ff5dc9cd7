//! What a stage needed, took and left: the leaf that the runtime, the log and recordings share.

use crate::limit::format_bytes;
use crate::spill::SpillStats;
use std::fmt;
use std::time::Instant;

/// Reports kept: a run of thousands of proofs must not grow by its own log.
pub const STAGE_LOG_LEN: usize = 1024;

/// Core-seconds from which on a line says that cores were idle: as short as it prints.
const IDLE_SAID: f64 = 0.005;

/// What a stage needed, took and left.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StageReport {
    /// The stage's name.
    pub name: String,
    /// Bytes it said it needs beyond what was held.
    pub need_bytes: u64,
    /// Largest memory of the process during the stage.
    pub peak_bytes: u64,
    /// Most bytes that vectors asked for at once during the stage; exact, on any number of
    /// threads, and the same whatever was cached or given back.
    pub live_peak_bytes: u64,
    /// Most bytes that pools and packed vectors held at once during the stage; exact.
    pub held_peak_bytes: u64,
    /// Bytes its reclaim point gave back.
    pub freed_bytes: u64,
    /// Memory of the process at its end.
    pub exit_bytes: u64,
    /// Wall time in seconds.
    pub wall_seconds: f64,
    /// CPU time in seconds, all threads, user and system.
    pub cpu_seconds: f64,
    /// CPU time over wall time and threads: 1.0 is every core busy.
    pub cpu_use: f64,
    /// Core-seconds that nobody used: wall time times threads, less the CPU time. Where stages
    /// overlap, both have those of the time that they share.
    pub idle_core_seconds: f64,
    /// The task of a graph that could have used most of these, if it had been started: all that it
    /// uses was made. `None` outside of graphs, and where no task was ready.
    pub could_have_run: Option<String>,
    /// Page faults served without I/O.
    pub minor_faults: u64,
    /// Page faults that read from a disk.
    pub major_faults: u64,
    /// Bytes of vectors that were packed in RAM.
    pub packed_bytes: u64,
    /// Bytes of vectors that were written to the spill file.
    pub spilled_bytes: u64,
    /// Bytes of vectors that were brought back.
    pub loaded_bytes: u64,
    /// Vectors that were read ahead and then used.
    pub read_ahead_hits: u64,
    /// Times a vector was needed and not there.
    pub stalls: u64,
    /// Seconds waited for that, over all threads.
    pub stalled_seconds: f64,
    /// Times the process was over its limit with nothing more to give back.
    pub over_limit: u64,
    /// When it began; for whoever records the run.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) begun: Option<Begun>,
}

/// When a stage began, and how many stages of this thread were around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) at: Instant,
    pub(crate) depth: u16,
}

impl StageReport {
    /// Enters what the spill tier did between two readings.
    pub(super) fn note_spill(&mut self, before: &SpillStats, after: &SpillStats) {
        self.packed_bytes = after.packed_total - before.packed_total;
        self.spilled_bytes = after.spilled_total - before.spilled_total;
        self.loaded_bytes = after.loaded_total - before.loaded_total;
        self.read_ahead_hits = after.read_ahead_hits - before.read_ahead_hits;
        self.stalls = after.stalls - before.stalls;
        self.stalled_seconds = (after.stalled_nanos - before.stalled_nanos) as f64 / 1e9;
    }
}

impl fmt::Display for StageReport {
    /// One line: the name, the time, what it needed, its peak, and the cores that were idle.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {:.2} s, {:.0} % of the processors, needed {}, peak {}",
            self.name,
            self.wall_seconds,
            self.cpu_use * 100.0,
            format_bytes(self.need_bytes),
            format_bytes(self.peak_bytes),
        )?;
        if self.spilled_bytes + self.packed_bytes > 0 {
            let (packed, spilled) =
                (format_bytes(self.packed_bytes), format_bytes(self.spilled_bytes));
            write!(f, ", packed {packed}, spilled {spilled}")?;
        }
        if self.idle_core_seconds >= IDLE_SAID {
            write!(f, ", {:.2} core-seconds idle", self.idle_core_seconds)?;
            if let Some(task) = &self.could_have_run {
                write!(f, " ({task} could have run)")?;
            }
        }
        if self.over_limit > 0 {
            write!(f, ", over the limit {} times", self.over_limit)?;
        }
        Ok(())
    }
}
