//! Timelines: a recording in the Trace Event Format, for ui.perfetto.dev and chrome://tracing.
//!
//! ```text
//!   { "displayTimeUnit": "ms",
//!     "traceEvents": [ M process and lane names, X stages, C counters, i reclaim marks ],
//!     "plimsoll": the whole recording; viewers pass over it, `plimsoll report` reads it }
//! ```
//!
//! ```
//! use plimsoll::record::Recorder;
//!
//! let recording = Recorder::builder().title("demo").start()?.finish()?;
//! let mut trace = Vec::new();
//! recording.timeline_to(&mut trace)?; // or `write_timeline(path)`
//! assert_eq!(trace.first(), Some(&b'{'));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | counter | series |
//! |---|---|
//! | `memory (bytes)` | live, cached, packed, other: they add up to the resident memory |
//! | `rss (bytes)`, `limit (bytes)`, `spilled on disk (bytes)`, `allocated (bytes)` | value |
//! | `cpu (cores)` | busy, since the sample before |
//!
//! Invariants: times are microseconds and rise within each counter; complete events of one lane
//! nest; every number is finite; one event a line.
//!
//! Must never: hold the file in memory; it is written event by event.
//!
//! Source: the Trace Event Format (Google, 2016), "JSON Object Format", and Perfetto's page on the
//! formats it opens.

use crate::record::{RecordError, Recording, Sample};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The property that holds the recording.
pub const PROPERTY: &str = "plimsoll";

/// Bytes of resident memory that are neither vectors nor their caches: heap, program, mapped files.
#[must_use]
pub fn other_bytes(sample: &Sample) -> u64 {
    sample.rss_bytes.saturating_sub(sample.vector_bytes())
}

impl Recording {
    /// Writes the timeline to `path`.
    ///
    /// # Errors
    ///
    /// [`RecordError::Write`], naming the file.
    pub fn write_timeline(&self, path: &Path) -> Result<(), RecordError> {
        let write = || -> io::Result<()> {
            let mut out = BufWriter::new(File::create(path)?);
            self.timeline_to(&mut out)?;
            out.flush()
        };
        write().map_err(|source| RecordError::Write { path: path.to_path_buf(), source })
    }

    /// Writes the timeline to `out`.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn timeline_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
        let process = json!({"name": self.title});
        serde_json::to_writer(&mut *out, &event("M", "process_name", 0, 0, process))?;
        let lanes = self.spans.iter().map(|span| span.track + 1).max().unwrap_or(1);
        for lane in 0..lanes {
            let name = json!({"name": format!("stages {}", lane + 1)});
            next(out, &event("M", "thread_name", 0, lane, name))?;
        }
        self.write_spans(out)?;
        self.write_counters(out)?;
        for mark in &self.marks {
            let args = json!({"freed_bytes": mark.freed_bytes, "short_bytes": mark.short_bytes,
                "count": mark.count});
            let mut event = event("i", &format!("reclaim: {}", mark.name), mark.at_us, 0, args);
            event["s"] = json!("p");
            next(out, &event)?;
        }
        write!(out, "\n],\"{PROPERTY}\":")?;
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"}\n")
    }

    fn write_spans(&self, out: &mut impl Write) -> io::Result<()> {
        for span in &self.spans {
            let args = json!({"peak_bytes": span.peak_bytes, "count": span.count});
            let name = self.shown_name(span);
            let mut event = event("X", &name, span.start_us, span.track, args);
            event["dur"] = json!(span.duration_us);
            event["cat"] = json!("stage");
            next(out, &event)?;
        }
        Ok(())
    }

    fn write_counters(&self, out: &mut impl Write) -> io::Result<()> {
        for (sample, busy) in self.samples.iter().zip(self.cores_busy()) {
            let mut counter =
                |name: &str, args: Value| next(out, &event("C", name, sample.at_us, 0, args));
            let tiers = json!({"live": sample.live_bytes, "cached": sample.cached_bytes,
                "packed": sample.packed_bytes, "other": other_bytes(sample)});
            counter("memory (bytes)", tiers)?;
            counter("rss (bytes)", json!({"value": sample.rss_bytes}))?;
            if let Some(limit) = sample.limit_bytes {
                counter("limit (bytes)", json!({"value": limit}))?;
            }
            counter("spilled on disk (bytes)", json!({"value": sample.spilled_bytes}))?;
            if sample.allocated_bytes > 0 {
                counter("allocated (bytes)", json!({"value": sample.allocated_bytes}))?;
            }
            counter("cpu (cores)", json!({"busy": (busy * 1000.0).round() / 1000.0}))?;
        }
        Ok(())
    }

    /// Returns the name of a span as it is shown: of several in one, with their number.
    #[must_use]
    pub fn shown_name(&self, span: &crate::record::Span) -> String {
        match span.count {
            1 => span.name.to_string(),
            n => format!("{} and {} more", span.name, n - 1),
        }
    }

    /// Reads the recording that a timeline carries, or `None` where it carries none.
    ///
    /// # Errors
    ///
    /// What is wrong with it, when it carries one that cannot be read.
    pub fn of_timeline(timeline: &Value) -> Result<Option<Self>, String> {
        let Some(value) = timeline.get(PROPERTY) else { return Ok(None) };
        let format = value.get("format").and_then(Value::as_u64);
        if format != Some(u64::from(Self::FORMAT)) {
            return Err(format!(
                "its recording has format {}, this program reads {}; use the plimsoll of that run",
                format.map_or_else(|| "?".to_owned(), |n| n.to_string()),
                Self::FORMAT,
            ));
        }
        serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|why| format!("its recording is damaged ({why}); record the run again"))
    }
}

fn event(phase: &str, name: &str, at_us: u64, lane: u32, args: Value) -> Value {
    // Number 1 for the process: its real one would make two equal runs differ.
    json!({"ph": phase, "name": name, "ts": at_us, "pid": 1, "tid": lane, "args": args})
}

fn next(out: &mut impl Write, event: &Value) -> io::Result<()> {
    out.write_all(b",\n")?;
    Ok(serde_json::to_writer(out, event)?)
}
