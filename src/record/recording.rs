//! A recording: what a recorder heard, ready to be drawn or compared.
//!
//! Its JSON is what the report embeds and the timeline carries under `plimsoll`; a field may be
//! added, none is renamed or taken away without raising [`Recording::FORMAT`].
//!
//! Invariants: `peak_bytes >= rss_bytes` of every sample; `peak_at_us <= duration_us`; every span
//! ends at `duration_us` or before; spans of a lane nest.

use super::error::RecordError;
use super::log::{Log, Mark};
use super::nest::into_lanes;
use super::sample::Sample;
use super::shared::Shared;
use super::span::{Span, StageTotal};
use crate::stage::planned::Planned;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A stage whose peak is within this part of the run's is the one that sets it.
const NEAR_PEAK_PART: u64 = 64;

/// Holders kept: the largest.
const HOLDERS_MAX: usize = 12;

/// Who held how much when memory was highest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAtPeak {
    /// The holder's name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
}

/// Limits that a run can choose from, as its program planned them. They make the advice of a report
/// one for the person who sets the limit, and not for the author of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLimits {
    /// The smallest limit in bytes under which nothing leaves memory.
    pub in_core_bytes: u64,
    /// The smallest limit in bytes under which the run ends well.
    pub smallest_bytes: u64,
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recording {
    /// Version of this structure: [`Recording::FORMAT`].
    pub format: u32,
    /// The run's name.
    pub title: String,
    /// Threads that could be busy.
    pub threads: usize,
    /// Length of the recording in microseconds.
    pub duration_us: u64,
    /// Microseconds between two samples, where sampling was cheap enough.
    pub interval_us: u64,
    /// Samples taken for each one kept, the highest of them.
    pub fold: u32,
    /// The limit at the end, in bytes; `None` when there is none.
    pub limit_bytes: Option<u64>,
    /// Where the limit comes from, in words; empty when not known.
    pub limit_source: String,
    /// The limits there are to choose from, where the program knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_limits: Option<KnownLimits>,
    /// Highest memory of the process, in bytes.
    pub peak_bytes: u64,
    /// When that was; the highest sample, where the kernel tells the height only.
    pub peak_at_us: u64,
    /// Whether the peak is the kernel's high-water mark (VmHWM), which no sample can miss.
    pub peak_is_exact: bool,
    /// What was held over time.
    pub samples: Vec<Sample>,
    /// The stages, by start; `track` is the lane they nest in.
    pub spans: Vec<Span>,
    /// Sums by stage name, in the order in which the stages first ended.
    pub totals: Vec<StageTotal>,
    /// How graphs were about to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<Planned>,
    /// When memory was reclaimed.
    pub marks: Vec<Mark>,
    /// The largest holders at the highest sample, largest first; empty without a runtime.
    pub holders: Vec<HeldAtPeak>,
    /// When the holders were asked, in microseconds.
    pub holders_at_us: u64,
    /// Spans shorter than this may have been merged, in microseconds; 0 where all are whole.
    pub merged_below_us: u64,
    /// Spans left out because they were nested too deep.
    pub too_deep: u64,
    /// CPU time of the sampler in seconds.
    pub sampler_cpu_seconds: f64,
    /// Bytes that the recorder's logs took.
    pub recorder_bytes: u64,
}

impl Recording {
    /// Version of the structure. Readers refuse another one.
    pub const FORMAT: u32 = 1;

    /// Cores busy on average between two samples, one for each sample; the first is 0.
    #[must_use]
    pub fn cores_busy(&self) -> Vec<f64> {
        let of = |pair: &[Sample]| {
            let cpu = pair[1].cpu_us.saturating_sub(pair[0].cpu_us) as f64;
            let wall = pair[1].at_us.saturating_sub(pair[0].at_us) as f64;
            if wall > 0.0 { cpu / wall } else { 0.0 }
        };
        let rest = self.samples.windows(2).map(of);
        std::iter::once(0.0).take(self.samples.len()).chain(rest).collect()
    }

    /// Cores busy on average in the stages of `total`; at most [`Recording::threads`].
    #[must_use]
    pub fn cores_busy_in(&self, total: &StageTotal) -> f64 {
        if total.wall_seconds <= 0.0 {
            return 0.0;
        }
        (total.cpu_seconds / total.wall_seconds).min(self.threads as f64)
    }

    /// Core-seconds that nobody used in the stages of `total`.
    #[must_use]
    pub fn idle_core_seconds(&self, total: &StageTotal) -> f64 {
        (self.threads as f64 - self.cores_busy_in(total)) * total.wall_seconds
    }

    /// The innermost stage around the peak, if it was in one.
    #[must_use]
    pub fn stage_at_peak(&self) -> Option<&Span> {
        let around = self
            .spans
            .iter()
            .filter(|span| (span.start_us..=span.end_us()).contains(&self.peak_at_us));
        around.max_by_key(|span| span.depth)
    }
}

impl Shared {
    /// Takes everything out of the logs.
    pub(super) fn recording(&self) -> Result<Recording, RecordError> {
        let peak_now = self.meter.peak_rss_bytes()?;
        let duration_us = self.at_us(Instant::now());
        let log = std::mem::replace(&mut *self.log(), Log::new());
        let mut recording = Recording {
            format: Recording::FORMAT,
            title: self.title.clone(),
            threads: self.threads,
            duration_us,
            interval_us: u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX),
            fold: log.samples.fold(),
            limit_bytes: log.samples.kept().last().and_then(|last| last.limit_bytes),
            limit_source: self.limit_source(),
            holders: log.held.iter().take(HOLDERS_MAX).map(held).collect(),
            holders_at_us: log.held_at.at_us,
            merged_below_us: log.spans.merged_below_us(),
            too_deep: log.spans.too_deep(),
            sampler_cpu_seconds: log.sampler_cpu_us as f64 / 1e6,
            recorder_bytes: log.reserved_bytes() as u64,
            samples: log.samples.kept().to_vec(),
            marks: log.marks,
            schedules: log.schedules,
            ..Recording::default()
        };
        (recording.spans, recording.totals) = log.spans.into_parts();
        for span in &mut recording.spans {
            // A span whose end was heard while the clock above was read.
            span.start_us = span.start_us.min(duration_us.saturating_sub(1));
            span.duration_us = span.duration_us.min(duration_us - span.start_us);
        }
        into_lanes(&mut recording.spans);
        recording.set_peak(self.peak_at_start, peak_now);
        Ok(recording)
    }

    fn limit_source(&self) -> String {
        match &self.runtime {
            Some(runtime) => runtime.limit().map_or_else(String::new, |limit| limit.to_string()),
            None if self.outer_limit.is_some() => "the cgroup's limit".to_owned(),
            None if self.reading().is_some_and(|reading| reading.has_limit()) => {
                "PLIMSOLL_LIMIT, or the program's own".to_owned()
            }
            None => String::new(),
        }
    }
}

fn held(held: &crate::reclaim::Held) -> HeldAtPeak {
    HeldAtPeak { name: held.name.clone(), bytes: held.bytes }
}

impl Recording {
    /// Sets the peak from the samples and the kernel's marks before and after.
    pub(super) fn set_peak(&mut self, mark_before: u64, mark_after: u64) {
        if mark_after > mark_before {
            return self.settle_peak(mark_after);
        }
        let highest = self.samples.iter().max_by_key(|sample| sample.rss_bytes);
        self.peak_bytes = highest.map_or(0, |sample| sample.rss_bytes);
        self.peak_at_us = highest.map_or(0, |sample| sample.at_us).min(self.duration_us);
    }

    /// Makes `mark_bytes`, a high-water mark of the kernel (VmHWM) read after the run, the peak.
    pub fn settle_peak(&mut self, mark_bytes: u64) {
        self.peak_is_exact = true;
        self.peak_bytes = mark_bytes;
        for sample in &mut self.samples {
            // The kernel sums its counters at other times for the one than for the other: a sample
            // may be some pages above the mark.
            sample.rss_bytes = sample.rss_bytes.min(mark_bytes);
        }
        // The kernel says how high, not when. Its mark only rises: it was set in the first stage
        // that came near to it; what is done later (verifying, writing) adds a page or two.
        let least = mark_bytes - mark_bytes / NEAR_PEAK_PART;
        let near = self.spans.iter().filter(|span| span.peak_bytes >= least);
        let stage = near.min_by_key(|span| (span.end_us(), std::cmp::Reverse(span.depth)));
        let around = stage.map_or(0..=u64::MAX, |span| span.start_us..=span.end_us());
        let inside = self.samples.iter().filter(|sample| around.contains(&sample.at_us));
        let highest = inside.max_by_key(|sample| sample.rss_bytes).map(|sample| sample.at_us);
        // A stage too short for a sample: its end, where it read the mark.
        let at_us = highest.or(stage.map(Span::end_us)).unwrap_or(0);
        self.peak_at_us = at_us.min(self.duration_us);
    }
}
