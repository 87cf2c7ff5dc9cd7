//! The recorder: what a run held and did, over time, in memory of fixed size.
//!
//! ```text
//!   sampler thread --- every 10 ms ---> samples  \
//!   Runtime --- stages, reclaim points -> spans    } one lock, bounded logs --> Recording
//!   tracing layer --- spans ------------> spans   /                           |-- timeline
//!   Allocator --- read at the ends of spans, and by the sampler               `-- report
//! ```
//!
//! Invariants: every log has a bound and its room is taken when the recorder starts; a peak that
//! was sampled is never thinned away; `peak_bytes >= rss_bytes` of every sample; where the kernel's
//! high-water mark (VmHWM) rose during the recording, the peak is that mark, exact between two
//! samples.
//!
//! A sample is two system calls and some atomic loads. Where samples took more than 1/200 of the
//! time so far, the interval is stretched, up to 16 times: the sampler's use stays about half a
//! percent of one core, and [`Recording::sampler_cpu_seconds`] says what it was.
//!
//! ```
//! use plimsoll::{Runtime, record::Recorder};
//!
//! let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build()?;
//! let recorder = Recorder::builder().title("demo").watch(&runtime).start()?;
//! drop(runtime.stage("commit", 1 << 20)?);
//! let recording = recorder.finish()?;
//! assert_eq!(&*recording.totals[0].name, "commit");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Must never: keep what a span's fields hold (a witness may be among them), fail or slow a stage,
//! or end a program.

mod allocator;
mod log;
mod nest;
mod recording;
mod sample;
mod span;

use crate::Runtime;
use crate::meter::{Meter, MeterError};
use crate::reclaim::ReclaimReport;
use crate::runtime::Observer;
use crate::stage::StageReport;
#[cfg(feature = "layer")]
pub(crate) use allocator::Reading;
use allocator::{Account, Open, Source};
use log::Log;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use plimsoll_arena::sync::unpoisoned;
use span::Place;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use allocator::AllocatorUse;
pub use log::{MARKS_MAX, Mark};
pub use recording::{HeldAtPeak, Recording};
pub use sample::{SAMPLES_MAX, Sample};
pub use span::{DEPTH_MAX, MORE_NAMES, NAME_BYTES_MAX, NAMES_MAX, SPANS_MAX, Span, StageTotal};

/// Time between two samples unless the builder says otherwise.
pub const INTERVAL: Duration = Duration::from_millis(10);

/// Shortest time between two samples: below it the recorder would be what is measured.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Samples may take this part of the time: half a percent of one core.
const SPARE: u32 = 200;

/// Time the sampler has in advance: the first samples fault in its stack and ask for holders.
const CREDIT: Duration = Duration::from_secs(1);

/// Most times the interval is stretched by.
const STRETCH_MAX: u32 = 16;

/// Stack of the sampler in bytes: it calls no user code and keeps nothing large.
const STACK_BYTES: usize = 256 << 10;

/// Why nothing is recorded, or a picture could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The kernel's figures could not be read.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The sampler could not be started.
    #[error("no thread for the recorder: {0}; raise `ulimit -u`, or record nothing")]
    Thread(std::io::Error),
    /// A file could not be written.
    #[error("{}: cannot be written: {source}; choose another file", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Settings of a [`Recorder`].
#[derive(Debug)]
#[must_use = "nothing is recorded before `start`"]
pub struct RecorderBuilder {
    title: String,
    interval: Duration,
    threads: Option<usize>,
    runtime: Option<Runtime>,
    allocator: Option<Source>,
}

impl RecorderBuilder {
    /// Names the run; the report shows it.
    pub fn title(mut self, title: &str) -> Self {
        title.clone_into(&mut self.title);
        self
    }

    /// Sets the time between two samples, at least [`INTERVAL_MIN`].
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(INTERVAL_MIN);
        self
    }

    /// Sets the number of threads that could be busy; all cores by default.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// Records this runtime's vectors, stages and reclaim points too. A runtime has one observer:
    /// the recorder that was started last.
    pub fn watch(mut self, runtime: &Runtime) -> Self {
        self.runtime = Some(runtime.clone());
        self
    }

    /// Starts to record.
    ///
    /// # Errors
    ///
    /// [`RecordError::Meter`] where `/proc` cannot be read, [`RecordError::Thread`] where there is
    /// no thread for the sampler.
    pub fn start(self) -> Result<Recorder, RecordError> {
        let meter = Meter::live()?;
        let peak_at_start = meter.peak_rss_bytes()?;
        meter.rss_bytes()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let outer_limit = match self.runtime {
            Some(_) => None,
            None => meter.cgroup()?.and_then(|cgroup| cgroup.tightest_bytes()),
        };
        let shared = Arc::new(Shared {
            origin: Instant::now(),
            meter,
            title: self.title,
            interval: self.interval,
            threads: self.threads.unwrap_or(cores),
            outer_limit,
            runtime: self.runtime,
            allocator: self.allocator,
            open: Mutex::new(Open::default()),
            peak_at_start,
            log: Mutex::new(Log::new()),
            stopped: Mutex::new(false),
            wake: Condvar::new(),
        });
        if let Some(runtime) = &shared.runtime {
            let of_observer: Weak<Shared> = Arc::downgrade(&shared);
            runtime.observe(of_observer);
        }
        shared.sample();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("plimsoll-record".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || of_thread.run())
            .map_err(RecordError::Thread)?;
        Ok(Recorder { shared, thread: Some(thread) })
    }
}

/// Records until it is finished or dropped.
#[must_use = "a recorder that is dropped has recorded for nothing"]
pub struct Recorder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("title", &self.shared.title).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Returns the settings of a recorder: every 10 ms, all cores, no runtime.
    pub fn builder() -> RecorderBuilder {
        RecorderBuilder {
            title: "run".to_owned(),
            interval: INTERVAL,
            threads: None,
            runtime: None,
            allocator: None,
        }
    }

    /// Bytes that the recorder's logs take. They do not grow but for names, which are bounded.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.shared.log().reserved_bytes()
    }

    /// Stops, and returns what was recorded.
    ///
    /// # Errors
    ///
    /// [`RecordError::Meter`] when the kernel's figures cannot be read any more.
    pub fn finish(mut self) -> Result<Recording, RecordError> {
        self.stop();
        self.shared.sample();
        self.shared.recording()
    }

    fn stop(&mut self) {
        *unpoisoned(self.shared.stopped.lock()) = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A sampler that panicked has left what it had taken; that is still worth having.
            let _ = thread.join();
        }
    }

    #[cfg(feature = "layer")]
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("title", &self.title).finish_non_exhaustive()
    }
}

/// What the recorder's handle, its thread and those who report to it share.
pub(crate) struct Shared {
    origin: Instant,
    meter: Meter,
    title: String,
    interval: Duration,
    threads: usize,
    outer_limit: Option<u64>,
    runtime: Option<Runtime>,
    allocator: Option<Source>,
    open: Mutex<Open>,
    peak_at_start: u64,
    log: Mutex<Log>,
    stopped: Mutex<bool>,
    wake: Condvar,
}

/// CPU time of `who` in microseconds; 0 where the kernel does not say.
fn cpu_us(who: UsageWho) -> u64 {
    let of = |usage: Usage| {
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    };
    getrusage(who).map_or(0, |usage| u64::try_from(of(usage)).unwrap_or(0))
}

/// CPU time of all threads of the process in microseconds.
#[cfg(feature = "layer")]
pub(crate) fn cpu_us_of_process() -> u64 {
    cpu_us(UsageWho::RUSAGE_SELF)
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        unpoisoned(self.log.lock())
    }

    fn at_us(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn run(&self) {
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

    /// Takes one sample. A figure that cannot be read leaves the sample out.
    fn sample(&self) {
        let Ok(rss_bytes) = self.meter.rss_bytes() else { return };
        let mut sample = Sample { rss_bytes, limit_bytes: self.outer_limit, ..Sample::default() };
        sample.cpu_us = cpu_us(UsageWho::RUSAGE_SELF);
        let mut counts = None;
        if let Some(runtime) = &self.runtime {
            let pools = [runtime.pool().stats(), runtime.secret_pool().stats()];
            let spill = runtime.spill_stats();
            sample.live_bytes = pools.iter().map(|pool| pool.live_bytes as u64).sum();
            sample.cached_bytes = pools.iter().map(|pool| pool.cached_bytes as u64).sum();
            sample.packed_bytes = spill.packed_bytes;
            sample.spilled_bytes = spill.file_bytes;
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
        let place = Place { start_us, end_us, track, depth };
        self.log().spans.push(report, account, place);
    }

    /// Highest memory sampled since `began`.
    #[cfg(feature = "layer")]
    pub(crate) fn peak_since(&self, began: Instant) -> u64 {
        self.log().samples.highest_since(self.at_us(began))
    }

    /// Whether stages of a runtime are heard by other means than the tracing layer.
    #[cfg(feature = "layer")]
    pub(crate) fn hears_stages(&self) -> bool {
        self.runtime.is_some()
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

    fn reclaimed(&self, name: &str, report: &ReclaimReport) {
        let at_us = self.at_us(Instant::now());
        let freed = report.freed.total_bytes();
        self.log().mark(Mark::new(at_us, name, freed, report.short_bytes));
    }
}

#[cfg(test)]
mod tests;
