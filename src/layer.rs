//! The recorder for any program that uses `tracing`: a layer that turns its spans into stages.
//!
//! ```text
//!   span entered ----- clock, CPU time, VmHWM --+
//!   span left    ----- clock, CPU time, VmHWM --+--> Recorder: one stage, with its highest memory
//! ```
//!
//! ```
//! use plimsoll::record::Recorder;
//! use tracing_subscriber::prelude::*;
//!
//! let recorder = Recorder::builder().title("my prover").start()?;
//! let subscriber = tracing_subscriber::registry().with(recorder.layer());
//! tracing::subscriber::with_default(subscriber, || {
//!     let _commit = tracing::info_span!("commit").entered();
//! });
//! let recording = recorder.finish()?;
//! assert_eq!(&*recording.totals[0].name, "commit");
//! recording.report_to(&mut std::io::sink())?; // or `write_report(path)`, `write_timeline(path)`
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Each time a span is entered counts as one stage. A span below the layer's level
//! ([`RecordLayer::level`], INFO) costs one comparison. Any other span costs two readings of the
//! clock and of `getrusage`, about 2 us; if the recorder has the program's global allocator
//! ([`RecorderBuilder::allocator`](crate::record::RecorderBuilder::allocator)), also two readings
//! of the gauges of allocator and pager. If the recorder watches a runtime, the runtime itself
//! reports its stages, with what they freed and spilled, and the layer skips their spans.
//!
//! A span's peak is exact if the process was never as large before: the kernel's high-water mark
//! (VmHWM) has then risen in the span. Otherwise it is the highest sample taken in the span.
//!
//! Invariants: the layer records a stage when a thread leaves the span, on that thread; after the
//! recorder has finished, it records nothing.
//!
//! Must never: look at a span's fields (a witness may be among them). The exception is the name
//! that [`Runtime::stage`](crate::Runtime::stage) gives to its own spans.

use crate::record::{AllocatorReading, DEPTH_MAX, ProcessUse, Recorder, Shared};
use crate::stage::{self, StageReport};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// A `tracing` layer that records spans for a [`Recorder`]. [`Recorder::layer`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a layer hears nothing before it is part of a subscriber"]
pub struct RecordLayer {
    shared: Weak<Shared>,
    level: Level,
    hears_stages: bool,
}

impl Recorder {
    /// Returns a layer that enters spans into this recorder.
    pub fn layer(&self) -> RecordLayer {
        let shared = self.shared();
        let hears_stages = shared.hears_stages();
        RecordLayer { shared: Arc::downgrade(&shared), level: Level::INFO, hears_stages }
    }
}

impl RecordLayer {
    /// Records spans of `level` and above; INFO by default.
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let is_stage = metadata.target() == stage::TARGET;
        metadata.is_span() && *metadata.level() <= self.level && !(is_stage && self.hears_stages)
    }
}

/// What the layer keeps with a span.
struct Heard {
    name: String,
    depth: u16,
    /// The times it was entered and not left, innermost last.
    entered: Vec<Entered>,
}

/// What was read when a span was entered.
struct Entered {
    at: Instant,
    used: ProcessUse,
    allocator: Option<AllocatorReading>,
}

/// The name of a stage of a runtime, from its span.
struct RuntimeStageName(Option<String>);

impl Visit for RuntimeStageName {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}

impl<S> Layer<S> for RecordLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id).filter(|span| self.wants(span.metadata())) else {
            return;
        };
        let around = span.scope().skip(1).filter(|outer| self.wants(outer.metadata())).count();
        let mut name = RuntimeStageName(None);
        if span.metadata().target() == stage::TARGET {
            attributes.record(&mut name);
        }
        let heard = Heard {
            name: name.0.unwrap_or_else(|| span.name().to_owned()),
            depth: u16::try_from(around).unwrap_or(u16::MAX),
            entered: Vec::new(),
        };
        span.extensions_mut().insert(heard);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let depth = span.extensions().get::<Heard>().map(|heard| heard.depth);
        let Some(depth) = depth else { return };
        // Read before the span's own lock is taken: what lets the recorder go must not hold it.
        let shared = self.shared.upgrade().filter(|_| depth < DEPTH_MAX);
        let used = shared.as_ref().map(|shared| shared.process_use()).unwrap_or_default();
        let allocator = shared.and_then(|shared| shared.reading());
        if let Some(heard) = span.extensions_mut().get_mut::<Heard>() {
            heard.entered.push(Entered { at: Instant::now(), used, allocator });
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let Some((name, depth, entered)) = left(&span) else { return };
        // Upgraded only here, and after the span's own lock: a recorder that is finished is gone.
        let Some(shared) = self.shared.upgrade() else { return };
        let (before, began) = (entered.used, entered.at);
        // A span that is nested deeper is counted and not recorded.
        let after = if depth < DEPTH_MAX { shared.process_use() } else { before };
        let report = StageReport {
            name,
            wall_seconds: began.elapsed().as_secs_f64(),
            cpu_seconds: after.cpu_us.saturating_sub(before.cpu_us) as f64 / 1e6,
            peak_bytes: shared.peak_since(began, before.peak_bytes, after.peak_bytes),
            ..StageReport::default()
        };
        let account = shared.account(entered.allocator.as_ref(), began);
        shared.span_ended(&report, account.as_ref(), began, depth);
    }
}

/// Takes the innermost time at which `span` was entered.
fn left<'a, S>(
    span: &tracing_subscriber::registry::SpanRef<'a, S>,
) -> Option<(String, u16, Entered)>
where
    S: LookupSpan<'a>,
{
    let mut extensions = span.extensions_mut();
    let heard = extensions.get_mut::<Heard>()?;
    let entered = heard.entered.pop()?;
    Some((heard.name.clone(), heard.depth, entered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Runtime;
    use tracing_subscriber::prelude::*;

    #[test]
    fn spans_are_stages_and_their_fields_are_not_kept() {
        let recorder = Recorder::builder().start().expect("a recorder");
        let subscriber = tracing_subscriber::registry().with(recorder.layer());
        tracing::subscriber::with_default(subscriber, || {
            let witness = "41414141";
            let _outer = tracing::info_span!("prove", witness).entered();
            for _ in 0..3 {
                let _inner = tracing::info_span!("commit", name = witness).entered();
                tracing::debug_span!("detail").in_scope(|| ());
            }
        });
        let recording = recorder.finish().expect("a recording");
        let totals: Vec<(&str, u64, u16)> =
            recording.totals.iter().map(|total| (&*total.name, total.count, total.depth)).collect();
        assert_eq!(totals, [("commit", 3, 1), ("prove", 1, 0)]);
        assert!(recording.totals.iter().all(|total| total.peak_bytes > 0));
        let mut page = Vec::new();
        recording.report_to(&mut page).expect("a Vec takes everything");
        recording.timeline_to(&mut page).expect("a Vec takes everything");
        assert!(!String::from_utf8_lossy(&page).contains("41414141"), "a field was kept");
    }

    #[test]
    fn stages_of_a_watched_runtime_are_counted_once_and_others_by_their_name() {
        for watched in [false, true] {
            let runtime =
                Runtime::builder().own_limit().limit_bytes(8 << 30).build().expect("a runtime");
            let builder = Recorder::builder();
            let builder = if watched { builder.watch(&runtime) } else { builder };
            let recorder = builder.start().expect("a recorder");
            let subscriber = tracing_subscriber::registry().with(recorder.layer());
            tracing::subscriber::with_default(subscriber, || {
                drop(runtime.stage("open", 0).expect("room"));
            });
            let recording = recorder.finish().expect("a recording");
            let totals: Vec<_> =
                recording.totals.iter().map(|total| (&*total.name, total.count)).collect();
            assert_eq!(totals, [("open", 1)], "watched: {watched}");
        }
    }

    #[test]
    fn a_layer_outlives_its_recorder() {
        let recorder = Recorder::builder().start().expect("a recorder");
        let subscriber = tracing_subscriber::registry().with(recorder.layer());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("late").entered();
            let recording = recorder.finish().expect("a recording");
            assert!(recording.totals.is_empty());
            drop(span);
            tracing::info_span!("later").in_scope(|| ());
        });
    }
}
