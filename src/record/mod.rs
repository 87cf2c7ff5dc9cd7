//! The recorder: what a run holds and does over time, kept in memory of fixed size.
//!
//! ```text
//!   sampler thread --- every 10 ms ---> samples  \
//!   Runtime --- stages, reclaim points -> spans    } one lock, bounded logs --> Recording
//!   tracing layer --- spans ------------> spans   /                           |-- timeline
//!   Allocator --- read at the ends of spans, and by the sampler               `-- report
//! ```
//!
//! Invariants: every log has a bound, and the recorder takes its memory at the start; thinning
//! never removes a sampled peak; `peak_bytes >= rss_bytes` of every sample; if the kernel's
//! high-water mark (VmHWM) rose during the recording, the peak is that mark, which is exact also
//! between two samples.
//!
//! A sample takes two system calls and some atomic loads. If samples have taken more than 1/200 of
//! the time so far, the recorder lengthens the interval, up to 16 times. The sampler so uses about
//! half a percent of one core; [`Recording::sampler_cpu_seconds`] has the figure.
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
//! Must never: keep the fields of a span (a witness may be among them), fail or slow a stage, or
//! end a program.

mod allocator;
mod error;
mod log;
mod nest;
mod recording;
mod sample;
mod shared;
mod span;

use crate::Runtime;
use crate::alloc::{Allocator, InnerPurge};
use crate::meter::Meter;
#[cfg(feature = "layer")]
pub(crate) use allocator::AllocatorReading;
use allocator::{AllocatorReader, Open};
use log::Log;
#[cfg(feature = "layer")]
pub(crate) use shared::ProcessUse;
pub(crate) use shared::Shared;
#[cfg(feature = "layer")]
use shared::inherited_peak_bytes;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use allocator::AllocatorUse;
pub use error::RecordError;
pub use log::{MARKS_MAX, Mark};
pub use recording::{HeldAtPeak, KnownLimits, Recording};
pub use sample::{SAMPLES_MAX, Sample};
pub use span::{DEPTH_MAX, MORE_NAMES, NAME_BYTES_MAX, NAMES_MAX, SPANS_MAX, Span, StageTotal};

/// Time between two samples unless the builder says otherwise.
pub const INTERVAL: Duration = Duration::from_millis(10);

/// Shortest time between two samples: below it the recorder would be what is measured.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Stack of the sampler in bytes: it calls no user code and keeps nothing large.
const STACK_BYTES: usize = 256 << 10;

/// Settings of a [`Recorder`].
#[derive(Debug)]
#[must_use = "nothing is recorded before `start`"]
pub struct RecorderBuilder {
    title: String,
    interval: Duration,
    threads: Option<usize>,
    runtime: Option<Runtime>,
    allocator: Option<AllocatorReader>,
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

    /// Also records the vectors, stages and reclaim points of this runtime. A runtime has one
    /// observer: the recorder that started last.
    pub fn watch(mut self, runtime: &Runtime) -> Self {
        self.runtime = Some(runtime.clone());
        self
    }

    /// Also records the program's global allocator and its pager: over time, for every span, and
    /// for every stage of a watched runtime.
    ///
    /// ```
    /// use plimsoll::record::Recorder;
    ///
    /// #[global_allocator]
    /// static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();
    ///
    /// let recorder = Recorder::builder().allocator(&ALLOC).start()?;
    /// let column = vec![1u64; 1 << 20];
    /// let recording = recorder.finish()?;
    /// assert!(recording.samples.iter().any(|sample| sample.allocated_bytes >= 8 << 20));
    /// # drop(column);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allocator<A>(mut self, allocator: &'static Allocator<A>) -> Self
    where
        A: InnerPurge + Sync,
    {
        self.allocator = Some(AllocatorReader::of(allocator));
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
            #[cfg(feature = "layer")]
            inherited_peak: inherited_peak_bytes(peak_at_start),
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

    /// Returns the bytes that the recorder's logs take. Only names make them grow, up to a bound.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.shared.log().reserved_bytes()
    }

    /// Stops recording and returns the recording.
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
        self.shared.stop();
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

#[cfg(test)]
mod tests;
