//! What the recorder's handle, its thread and those who report to it share: it samples, and hears
//! of stages.
//!
//! Invariants: no lock is held while a runtime or an allocator is asked; samples are in the order
//! of their times.
//!
//! Must never: fail or slow a stage.

use super::allocator::{Account, AllocatorReader, AllocatorReading, Open};
use super::log::{Log, Mark};
use super::nest;
use super::sample::Sample;
use super::span::SpanPlace;
use crate::Runtime;
use crate::meter::Meter;
use crate::reclaim::ReclaimReport;
use crate::runtime::Observer;
use crate::stage::StageReport;
use crate::stage::planned::Planned;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use plimsoll_arena::sync::unpoisoned;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Samples may take this part of the time: half a percent of one core.
const SPARE: u32 = 200;

/// Time the sampler has in advance: the first samples fault in its stack and ask for holders.
const CREDIT: Duration = Duration::from_secs(1);

/// Most times the interval is stretched by.
const STRETCH_MAX: u32 = 16;

/// What the recorder's handle, its thread and those who report to it share.
pub(crate) struct Shared {
    pub(super) origin: Instant,
    pub(super) meter: Meter,
    pub(super) title: String,
    pub(super) interval: Duration,
    pub(super) threads: usize,
    pub(super) outer_limit: Option<u64>,
    pub(super) runtime: Option<Runtime>,
    pub(super) allocator: Option<AllocatorReader>,
    pub(super) open: Mutex<Open>,
    pub(super) peak_at_start: u64,
    #[cfg(feature = "layer")]
    pub(super) inherited_peak: u64,
    pub(super) log: Mutex<Log>,
    pub(super) stopped: Mutex<bool>,
    pub(super) wake: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("title", &self.title).finish_non_exhaustive()
    }
}

/// CPU time in microseconds.
fn cpu_us_in(usage: &Usage) -> u64 {
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    u64::try_from(us).unwrap_or(0)
}

/// CPU time of `who` in microseconds; 0 where the kernel does not say.
fn cpu_us(who: UsageWho) -> u64 {
    getrusage(who).map_or(0, |usage| cpu_us_in(&usage))
}

/// What the kernel says of the whole process at one end of a span; zeros where it does not say.
#[cfg(feature = "layer")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessUse {
    /// CPU time of all threads in microseconds.
    pub(crate) cpu_us: u64,
    /// The highest resident memory so far in bytes (VmHWM).
    pub(crate) peak_bytes: u64,
}

/// The highest resident memory in bytes that `getrusage` tells of this process. Beyond VmHWM, it
/// knows what ran in the process before the last exec.
#[cfg(feature = "layer")]
fn peak_bytes_in(usage: &Usage) -> u64 {
    // The kernel gives units of 1024 bytes.
    u64::try_from(usage.max_rss()).unwrap_or(0) << 10
}

/// What of [`peak_bytes_in`] is from before the last exec: 0 if VmHWM, `peak_bytes`, is as high.
#[cfg(feature = "layer")]
pub(super) fn inherited_peak_bytes(peak_bytes: u64) -> u64 {
    let known = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| peak_bytes_in(&usage));
    if known > peak_bytes { known } else { 0 }
}

impl Shared {
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        unpoisoned(self.log.lock())
    }

    pub(super) fn at_us(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    pub(super) fn run(&self) {
        let mut stopped = unpoisoned(self.stopped.lock());
        while !*stopped {
            drop(stopped);
            self.sample();
            // CPU time, not the clock: on a busy machine a sample waits, and costs no more for it.
            let spent_us = cpu_us(UsageWho::RUSAGE_THREAD);
            self.log().note_sampler(spent_us);
            let due = Duration::from_micros(spent_us) * SPARE;
            let behind = due.saturating_sub(self.origin.elapsed() + CREDIT);
            let pause = behind.clamp(self.interval, self.interval * STRETCH_MAX);
            stopped = unpoisoned(self.stopped.lock());
            if !*stopped {
                let waited = self.wake.wait_timeout(stopped, pause);
                stopped = unpoisoned(waited).0;
            }
        }
    }

    /// Ends the sampler's loop.
    pub(super) fn stop(&self) {
        *unpoisoned(self.stopped.lock()) = true;
        self.wake.notify_all();
    }

    /// Takes one sample. A figure that cannot be read leaves the sample out.
    pub(super) fn sample(&self) {
        let Ok(rss_bytes) = self.meter.rss_bytes() else { return };
        let mut sample = Sample { rss_bytes, limit_bytes: self.outer_limit, ..Sample::default() };
        sample.cpu_us = cpu_us(UsageWho::RUSAGE_SELF);
        let mut counts = None;
        if let Some(runtime) = &self.runtime {
            // Vectors under permits are the runtime's, too.
            for runtime in std::iter::once(runtime.clone()).chain(runtime.beneath()) {
                let pools = [runtime.pool().stats(), runtime.secret_pool().stats()];
                let spill = runtime.spill_stats();
                sample.live_bytes += pools.iter().map(|pool| pool.live_bytes as u64).sum::<u64>();
                sample.cached_bytes +=
                    pools.iter().map(|pool| pool.cached_bytes as u64).sum::<u64>();
                sample.packed_bytes += spill.packed_bytes;
                sample.spilled_bytes += spill.file_bytes;
            }
            let spill = runtime.spill_stats();
            sample.zram_bytes = spill.zram_bytes;
            sample.limit_bytes = runtime.limit_bytes();
            sample.spilled_total_bytes = spill.spilled_total;
            sample.loaded_total_bytes = spill.loaded_total;
            counts = Some(runtime.enforcement_counts());
        }
        if let Some(reading) = self.reading() {
            reading.note(&mut sample);
        }
        let mut log = self.log();
        // Under the lock: whoever enters first must not be the later one.
        sample.at_us = self.at_us(Instant::now());
        let is_new_height = log.note_sample(sample, counts);
        drop(log);
        if let (true, Some(runtime)) = (is_new_height, &self.runtime) {
            let held = runtime.held();
            self.log().note_holders(sample, held);
        }
    }

    /// Enters a span that ends now on this thread.
    pub(crate) fn span_ended(
        &self,
        report: &StageReport,
        account: Option<&Account>,
        began: Instant,
        depth: u16,
    ) {
        let (start_us, end_us) = (self.at_us(began), self.at_us(Instant::now()));
        let track = nest::track_of_this_thread();
        let place = SpanPlace { start_us, end_us, track, depth };
        self.log().spans.push(report, account, place);
    }

    /// Reads what the process has used: by one system call, and from a file of `/proc`, too, while
    /// the process is smaller than what ran in it before.
    #[cfg(feature = "layer")]
    pub(crate) fn process_use(&self) -> ProcessUse {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return ProcessUse::default() };
        let peak_bytes = match peak_bytes_in(&usage) {
            known if known > self.inherited_peak => known,
            _ => self.meter.peak_rss_bytes().unwrap_or(0),
        };
        ProcessUse { cpu_us: cpu_us_in(&usage), peak_bytes }
    }

    /// Highest memory since `began`, when the kernel's high-water mark was `before`. If the mark
    /// has risen to `after` since, it is the peak, exactly. If not, the peak is below the mark, and
    /// the highest sample stands for it.
    #[cfg(feature = "layer")]
    pub(crate) fn peak_since(&self, began: Instant, before: u64, after: u64) -> u64 {
        if after > before && before > 0 {
            return after;
        }
        self.log().samples.highest_since(self.at_us(began))
    }

    /// Whether stages of a runtime are heard by other means than the tracing layer.
    #[cfg(feature = "layer")]
    pub(crate) fn hears_stages(&self) -> bool {
        self.runtime.is_some()
    }
}

impl Shared {
    /// What the allocator says now, where one is recorded.
    pub(crate) fn reading(&self) -> Option<AllocatorReading> {
        self.allocator.as_ref().map(AllocatorReader::read)
    }

    /// The account of a stage that began at `began`, with the reading of that time, and ends now.
    pub(crate) fn account(
        &self,
        before: Option<&AllocatorReading>,
        began: Instant,
    ) -> Option<Account> {
        let (before, after) = (before?, self.reading()?);
        let sampled = self.log().samples.most_allocated_since(self.at_us(began));
        Some(Account::between(before, &after, sampled))
    }

    pub(super) fn note_begun(&self, began: Instant) {
        if let Some(reading) = self.reading() {
            unpoisoned(self.open.lock()).begin(began, reading);
        }
    }

    /// The reading of a stage of a runtime that began at `began`.
    pub(super) fn begun(&self, began: Instant) -> Option<AllocatorReading> {
        unpoisoned(self.open.lock()).end(began)
    }
}

impl Observer for Shared {
    fn stage_begins(&self, began: Instant) {
        self.note_begun(began);
    }

    fn stage_ended(&self, report: &StageReport, began: Instant, depth: u16) {
        let account = self.account(self.begun(began).as_ref(), began);
        self.span_ended(report, account.as_ref(), began, depth);
    }

    fn planned(&self, planned: &Planned) {
        self.log().note_schedule(planned.clone());
    }

    fn reclaimed(&self, name: &str, report: &ReclaimReport) {
        let at_us = self.at_us(Instant::now());
        let freed = report.freed.total_bytes();
        self.log().mark(Mark::new(at_us, name, freed, report.short_bytes));
    }
}
