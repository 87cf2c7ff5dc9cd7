//! Stages: a named part of a proof, with what it needed, took and left.
//!
//! A stage begins with a reclaim point for the bytes it needs and ends when its guard is dropped.
//! In between it is a `tracing` span. Its report goes to the runtime's log, which keeps the last
//! [`STAGE_LOG_LEN`] of them.
//!
//! The peak is the largest `held + foreign` the ledger saw during the stage; where the process's
//! own high-water mark (VmHWM) rose during the stage, it is that mark, which is then exact. Stages
//! follow one another: the peak of a nested stage is also its parent's, but the parent's peak
//! before it is not seen again. `live_peak_bytes` and `held_peak_bytes` count our own vectors and
//! are exact, nested or not; with [`stage_log::VARIABLE`] set they are written to a file
//! ([`crate::stage_log`]).

use crate::error::Error;
use crate::reclaim::{Freed, Held};
use crate::runtime::Runtime;
use crate::spill::SpillStats;
use crate::stage_log;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use plimsoll_arena::Pool;
use std::cell::Cell;
use std::time::Instant;

/// The target of the stages' spans.
pub(crate) const TARGET: &str = "plimsoll::stage";

/// Reports kept: a run of thousands of proofs must not grow by its own log.
pub const STAGE_LOG_LEN: usize = 1024;

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

thread_local! {
    static DEPTH: Cell<u16> = const { Cell::new(0) };
}

/// Ends the stage when dropped, and files its report.
#[must_use = "a stage ends when its guard is dropped"]
pub struct Stage {
    runtime: Runtime,
    report: StageReport,
    started: Instant,
    usage: Option<Usage>,
    peak_rss_at_start: u64,
    spill_at_start: SpillStats,
    laps: Laps,
    _span: tracing::span::EnteredSpan,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("name", &self.report.name).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Begins the stage `name`, which needs `need_bytes` beyond what is held now: a reclaim point
    /// first, then the span and the clock.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] when the bytes cannot be made free: better now than half-way.
    pub fn stage(&self, name: &str, need_bytes: usize) -> Result<Stage, Error> {
        let started = Instant::now();
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        self.tell_begun(started);
        self.ledger().sample();
        let reclaimed = self.reclaim_point(name, need_bytes);
        if reclaimed.short_bytes > 0 {
            return Err(self.over_limit(name, need_bytes, reclaimed.short_bytes));
        }
        self.ledger().restart_peak();
        let laps = Laps::restart(self);
        let span = tracing::info_span!(target: TARGET, "stage", name, need_bytes).entered();
        Ok(Stage {
            runtime: self.clone(),
            report: StageReport {
                name: name.to_owned(),
                need_bytes: need_bytes as u64,
                freed_bytes: freed(&reclaimed.freed),
                begun: Some(Begun { at: started, depth: DEPTH.replace(DEPTH.get() + 1) }),
                ..StageReport::default()
            },
            started,
            usage,
            spill_at_start: self.spill_stats(),
            laps,
            peak_rss_at_start: self.meter().peak_rss_bytes().unwrap_or(0),
            _span: span,
        })
    }
}

/// The laps of an outer stage, which go on when this one ends.
struct Laps {
    asked: usize,
    held: usize,
    pools: [usize; 2],
}

impl Laps {
    fn restart(runtime: &Runtime) -> Self {
        Self {
            asked: runtime.ledger().asked().restart(),
            held: runtime.ledger().restart_held_lap(),
            pools: pools(runtime).map(|pool| pool.asked().restart()),
        }
    }

    fn resume(&self, runtime: &Runtime) {
        runtime.ledger().asked().resume(self.asked);
        runtime.ledger().resume_held_lap(self.held);
        for (pool, lap) in pools(runtime).into_iter().zip(self.pools) {
            pool.asked().resume(lap);
        }
    }
}

fn pools(runtime: &Runtime) -> [&Pool; 2] {
    [runtime.pool(), runtime.secret_pool()]
}

/// Who held how much, largest first: the vectors of each pool at their own peak in the stage,
/// which is exact; everyone else now, at its end.
fn holders(runtime: &Runtime) -> Vec<Held> {
    let names = ["vectors in use", "secret vectors in use"];
    let mut held = runtime.held();
    held.retain(|held| !names.contains(&held.name.as_str()));
    for (name, pool) in names.into_iter().zip(pools(runtime)) {
        held.push(Held { name: name.to_owned(), bytes: pool.asked().lap_bytes() });
    }
    held.retain(|held| held.bytes > 0);
    held.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    held
}

fn freed(freed: &Freed) -> u64 {
    freed.total_bytes() as u64
}

impl StageReport {
    /// Enters what the spill tier did between two readings.
    fn note_spill(&mut self, before: &SpillStats, after: &SpillStats) {
        self.packed_bytes = after.packed_total - before.packed_total;
        self.spilled_bytes = after.spilled_total - before.spilled_total;
        self.loaded_bytes = after.loaded_total - before.loaded_total;
        self.read_ahead_hits = after.read_ahead_hits - before.read_ahead_hits;
        self.stalls = after.stalls - before.stalls;
        self.stalled_seconds = (after.stalled_nanos - before.stalled_nanos) as f64 / 1e9;
    }
}

/// CPU seconds and faults between two readings.
fn usage_between(before: &Usage, after: &Usage) -> (f64, u64, u64) {
    let micros = |usage: &Usage| {
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    };
    let faults = |after: i64, before: i64| u64::try_from(after - before).unwrap_or(0);
    (
        (micros(after) - micros(before)) as f64 / 1e6,
        faults(after.minor_page_faults(), before.minor_page_faults()),
        faults(after.major_page_faults(), before.major_page_faults()),
    )
}

impl Drop for Stage {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
        let ledger = self.runtime.ledger();
        ledger.sample();
        let report = &mut self.report;
        let stats = ledger.stats();
        report.exit_bytes = (stats.held_bytes + stats.foreign_bytes) as u64;
        report.peak_bytes = stats.peak_bytes as u64;
        let peak_rss = self.runtime.meter().peak_rss_bytes().unwrap_or(0);
        if peak_rss > self.peak_rss_at_start {
            report.peak_bytes = peak_rss;
        }
        report.live_peak_bytes = ledger.asked().lap_bytes() as u64;
        report.held_peak_bytes = ledger.held_lap_bytes() as u64;
        report.note_spill(&self.spill_at_start, &self.runtime.spill_stats());
        report.wall_seconds = self.started.elapsed().as_secs_f64();
        let after = getrusage(UsageWho::RUSAGE_SELF).ok();
        if let (Some(before), Some(after)) = (&self.usage, &after) {
            let (cpu, minor, major) = usage_between(before, after);
            report.cpu_seconds = cpu;
            report.minor_faults = minor;
            report.major_faults = major;
            let capacity = report.wall_seconds * rayon::current_num_threads() as f64;
            report.cpu_use = if capacity > 0.0 { cpu / capacity } else { 0.0 };
        }
        stage_log::write(report, || holders(&self.runtime));
        self.laps.resume(&self.runtime);
        self.runtime.file_report(std::mem::take(report));
    }
}
