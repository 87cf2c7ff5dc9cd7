//! Stages: named parts of a proof, each with a report of what it needed, took and left.
//!
//! ```
//! use plimsoll::Runtime;
//!
//! let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build()?;
//! let stage = runtime.stage("commit", 8 << 20)?; // a reclaim point for 8 MiB
//! let column = stage.zeroed::<u64>(1 << 20)?;
//! let report = stage.finish();
//! assert_eq!(report.live_peak_bytes, 8 << 20);
//! # drop(column);
//! # Ok::<(), plimsoll::Error>(())
//! ```
//!
//! A stage begins with a reclaim point for the bytes that it needs, and ends when its guard is
//! finished or dropped. In between it is a `tracing` span. Its report goes to the runtime's log,
//! which keeps the last [`STAGE_LOG_LEN`] reports.
//!
//! The peak is the largest `held + foreign` that the ledger saw during the stage. If the process's
//! high-water mark (VmHWM) rose during the stage, the peak is that mark, which is exact. Stages may
//! nest, and overlap on several threads: each has its own peaks. `live_peak_bytes` and
//! `held_peak_bytes` count our own vectors and are exact. CPU time, faults and what was spilled are
//! the process's: stages that overlap both report what they share. With [`log::VARIABLE`] set, the
//! runtime also writes the peaks to a file ([`log`]).

pub(crate) mod laps;
pub mod log;
pub mod planned;
pub(crate) mod report;

pub(crate) use report::Begun;
pub use report::{STAGE_LOG_LEN, StageReport};

use crate::error::Error;
use crate::runtime::Runtime;
use crate::spill::SpillStats;
use crate::vectors::Vectors;
use laps::Marks;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use plimsoll_arena::{Plain, Pool, PoolVec, Secrecy};
use std::cell::Cell;
use std::time::Instant;

/// The target of the stages' spans.
pub(crate) const TARGET: &str = "plimsoll::stage";

thread_local! {
    static DEPTH: Cell<u16> = const { Cell::new(0) };
}

/// A running stage of a proof. Finishing or dropping it ends the stage and files its report.
///
/// If a vector that is made through the stage does not fit, the error names the stage and the
/// largest holders, and `?` keeps both.
///
/// ```
/// use plimsoll::Runtime;
///
/// let runtime = Runtime::builder().limit_bytes(1 << 30).build()?;
/// let stage = runtime.stage("commit", 16 << 20)?;
/// let column = stage.zeroed::<u64>(1 << 20)?;
/// drop(column);
/// let report = stage.finish();
/// assert_eq!(report.live_peak_bytes, 8 << 20);
/// println!("{report}");
/// # Ok::<(), plimsoll::Error>(())
/// ```
#[must_use = "a stage ends when its guard is dropped"]
pub struct Stage {
    runtime: Runtime,
    report: StageReport,
    started: Instant,
    usage: Option<Usage>,
    peak_rss_at_start: u64,
    spill_at_start: SpillStats,
    over_at_start: u64,
    threads: usize,
    /// Its number among the open stages, until it has ended.
    lap: Option<u64>,
    _span: tracing::span::EnteredSpan,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("name", &self.report.name).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Begins the stage `name`, which needs `need_bytes` beyond what is held now. A reclaim point
    /// comes first, then the span and the clock start.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] when the bytes cannot be made free. The stage then fails at its start
    /// and not half-way.
    pub fn stage(&self, name: &str, need_bytes: u64) -> Result<Stage, Error> {
        let started = Instant::now();
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        self.tell_begun(started);
        self.ledger().sample();
        let reclaimed = self.reclaim_point(name, need_bytes);
        if reclaimed.short_bytes > 0 {
            return Err(self.does_not_fit(name, need_bytes, reclaimed.short_bytes));
        }
        let lap = {
            let mut laps = self.laps();
            laps.begin(restart(self))
        };
        let span = tracing::info_span!(target: TARGET, "stage", name, need_bytes).entered();
        Ok(Stage {
            runtime: self.clone(),
            report: StageReport {
                name: name.to_owned(),
                need_bytes,
                freed_bytes: reclaimed.freed.total_bytes(),
                begun: Some(Begun { at: started, depth: DEPTH.replace(DEPTH.get() + 1) }),
                ..StageReport::default()
            },
            started,
            usage,
            spill_at_start: self.spill_stats(),
            over_at_start: self.account().over_limit().0,
            threads: rayon::current_num_threads(),
            lap: Some(lap),
            peak_rss_at_start: self.meter().peak_rss_bytes().unwrap_or(0),
            _span: span,
        })
    }
}

/// Restarts the laps of all gauges, and returns what they were.
fn restart(runtime: &Runtime) -> Marks {
    let ledger = runtime.ledger();
    let [public, secret] = pools(runtime).map(|pool| pool.asked().restart());
    [ledger.restart_peak(), ledger.asked().restart(), ledger.held().restart(), public, secret]
}

/// What the laps of all gauges are now.
fn laps_now(runtime: &Runtime) -> Marks {
    let ledger = runtime.ledger();
    let [public, secret] = pools(runtime).map(|pool| pool.asked().lap_bytes());
    let peak = ledger.stats().peak_bytes;
    [peak, ledger.asked().lap_bytes(), ledger.held().lap_bytes(), public, secret]
}

/// Raises the laps of all gauges.
fn resume(runtime: &Runtime, [peak, asked, held, public, secret]: Marks) {
    let ledger = runtime.ledger();
    ledger.resume_peak(peak);
    ledger.asked().resume(asked);
    ledger.held().resume(held);
    for (pool, lap) in pools(runtime).into_iter().zip([public, secret]) {
        pool.asked().resume(lap);
    }
}

fn pools(runtime: &Runtime) -> [&Pool; 2] {
    [runtime.pool(), runtime.secret_pool()]
}

/// CPU seconds of all threads, user and system.
fn cpu_seconds_of(usage: &Usage) -> f64 {
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    micros as f64 / 1e6
}

/// CPU seconds of all threads of the process so far; 0 where the kernel does not say.
pub(crate) fn cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| cpu_seconds_of(&usage))
}

/// CPU seconds and faults between two readings.
fn usage_between(before: &Usage, after: &Usage) -> (f64, u64, u64) {
    let faults = |after: i64, before: i64| u64::try_from(after - before).unwrap_or(0);
    (
        cpu_seconds_of(after) - cpu_seconds_of(before),
        faults(after.minor_page_faults(), before.minor_page_faults()),
        faults(after.major_page_faults(), before.major_page_faults()),
    )
}

impl Stage {
    /// Returns the stage's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.report.name
    }

    /// Returns what makes vectors of this secrecy for this stage. It has more constructors than
    /// [`Stage::zeroed`].
    #[must_use]
    pub fn vectors(&self, secrecy: Secrecy) -> Vectors<'_> {
        Vectors::new(&self.runtime, &self.report.name, secrecy)
    }

    /// Makes a vector of `len` zeroes.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] with this stage and the largest holders, or why memory cannot be had.
    pub fn zeroed<T: Plain>(&self, len: usize) -> Result<PoolVec<T>, Error> {
        self.vectors(Secrecy::Public).zeroed(len)
    }

    /// Counts on `threads` busy threads, where the stage is not on one of their pool.
    pub(crate) fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Notes the task that could have used the idle cores.
    pub(crate) fn could_have_run(&mut self, task: &str) {
        self.report.could_have_run = Some(task.to_owned());
    }

    /// Ends the stage and returns its report. [`Runtime::take_stages`] returns it, too.
    pub fn finish(mut self) -> StageReport {
        self.end()
    }

    /// Ends the stage, once.
    fn end(&mut self) -> StageReport {
        let Some(lap) = self.lap.take() else { return StageReport::default() };
        DEPTH.set(DEPTH.get().saturating_sub(1));
        let ledger = self.runtime.ledger();
        ledger.sample();
        let [peak, live, held, public, secret] = {
            let mut laps = self.runtime.laps();
            let ended = laps.end(lap, laps_now(&self.runtime));
            resume(&self.runtime, ended.resume);
            ended.peak
        };
        let report = &mut self.report;
        let stats = ledger.stats();
        report.exit_bytes = (stats.held_bytes + stats.foreign_bytes) as u64;
        report.peak_bytes = peak as u64;
        let peak_rss = self.runtime.meter().peak_rss_bytes().unwrap_or(0);
        if peak_rss > self.peak_rss_at_start {
            report.peak_bytes = peak_rss;
        }
        report.live_peak_bytes = live as u64;
        report.held_peak_bytes = held as u64;
        report.note_spill(&self.spill_at_start, &self.runtime.spill_stats());
        report.over_limit = self.runtime.account().over_limit().0 - self.over_at_start;
        report.wall_seconds = self.started.elapsed().as_secs_f64();
        let after = getrusage(UsageWho::RUSAGE_SELF).ok();
        if let (Some(before), Some(after)) = (&self.usage, &after) {
            let (cpu, minor, major) = usage_between(before, after);
            report.cpu_seconds = cpu;
            report.minor_faults = minor;
            report.major_faults = major;
            let capacity = report.wall_seconds * self.threads as f64;
            report.cpu_use = if capacity > 0.0 { cpu / capacity } else { 0.0 };
            report.idle_core_seconds = (capacity - cpu).max(0.0);
        }
        log::write(report, || self.runtime.held_in_stage([public, secret]));
        self.runtime.file_report(report.clone());
        report.clone()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end();
    }
}
