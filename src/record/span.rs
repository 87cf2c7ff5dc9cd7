//! Spans: the stages of a run, in a log of fixed size.
//!
//! ```text
//!   time  ------------------------------------------->
//!   lane  |  prove                                  |     depth 0
//!         |  commit   |aaaaa|  open                 |     depth 1; "aaaaa" is 412 small ones
//! ```
//!
//! When the log is full, neighbours on one thread and of one depth that are both shorter than a
//! threshold become one span that counts them; the threshold doubles until the log is half empty.
//! Sums by name ([`StageTotal`]) are kept beside the log and stay exact.
//!
//! Invariants: `len <= SPANS_MAX`; the counts of all spans add up to the spans pushed; no span is
//! longer than from the first start to the last end of those in it; names are at most
//! [`NAMES_MAX`], each at most [`NAME_BYTES_MAX`] bytes.
//!
//! Must never: keep anything of a span but its name and its numbers.

use super::allocator::{Account, AllocatorUse};
use crate::stage::StageReport;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Spans kept.
pub const SPANS_MAX: usize = 4096;

/// Different names kept; further ones are counted under [`MORE_NAMES`].
pub const NAMES_MAX: usize = 512;

/// Bytes of a name kept; longer ones end with `...`.
pub const NAME_BYTES_MAX: usize = 96;

/// The name that stands for all names beyond [`NAMES_MAX`].
pub const MORE_NAMES: &str = "(other names)";

/// Deepest nesting kept: beyond it spans are not recorded.
pub const DEPTH_MAX: u16 = 8;

/// Threads told apart; the next one shares the first one's number.
pub(super) const TRACKS_MAX: u32 = 64;
// After merging all that can be merged, one span for each track and depth is left.
const _: () = assert!((TRACKS_MAX as usize) * (DEPTH_MAX as usize) <= SPANS_MAX / 2);

/// A stage, or several small ones in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Span {
    /// Its name; of several, the first one's.
    pub name: Arc<str>,
    /// Start in microseconds since the recording began.
    pub start_us: u64,
    /// Length in microseconds.
    pub duration_us: u64,
    /// Number of the thread it began on.
    pub track: u32,
    /// Spans around it.
    pub depth: u16,
    /// Spans in it: more than 1 where small ones were merged.
    pub count: u64,
    /// Highest memory of the process meanwhile, in bytes.
    pub peak_bytes: u64,
}

impl Span {
    /// Returns the end in microseconds since the recording began.
    #[must_use]
    pub fn end_us(&self) -> u64 {
        self.start_us.saturating_add(self.duration_us)
    }
}

/// The sums over all spans of one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageTotal {
    /// The name.
    pub name: Arc<str>,
    /// Spans around the first of them.
    pub depth: u16,
    /// Spans of this name.
    pub count: u64,
    /// Wall time in seconds.
    pub wall_seconds: f64,
    /// CPU time of all threads of the process meanwhile, in seconds.
    pub cpu_seconds: f64,
    /// Highest memory of the process, in bytes.
    pub peak_bytes: u64,
    /// Most bytes one of them said it needs.
    pub need_bytes: u64,
    /// Bytes their reclaim points gave back.
    pub freed_bytes: u64,
    /// Bytes of vectors packed in RAM.
    pub packed_bytes: u64,
    /// Bytes of vectors written to the spill file.
    pub spilled_bytes: u64,
    /// Bytes of vectors brought back.
    pub loaded_bytes: u64,
    /// Seconds waited for vectors that were not there, over all threads.
    pub stalled_seconds: f64,
    /// The global allocator's part, where it was recorded; what its pager packed, wrote, brought
    /// back and made wait for is in the sums above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocator: Option<AllocatorUse>,
}

impl StageTotal {
    fn new(name: Arc<str>, depth: u16) -> Self {
        Self {
            name,
            depth,
            count: 0,
            wall_seconds: 0.0,
            cpu_seconds: 0.0,
            peak_bytes: 0,
            need_bytes: 0,
            freed_bytes: 0,
            packed_bytes: 0,
            spilled_bytes: 0,
            loaded_bytes: 0,
            stalled_seconds: 0.0,
            allocator: None,
        }
    }

    fn add(&mut self, report: &StageReport) {
        self.count += 1;
        self.wall_seconds += report.wall_seconds;
        self.cpu_seconds += report.cpu_seconds;
        self.peak_bytes = self.peak_bytes.max(report.peak_bytes);
        self.need_bytes = self.need_bytes.max(report.need_bytes);
        self.freed_bytes = self.freed_bytes.saturating_add(report.freed_bytes);
        self.packed_bytes = self.packed_bytes.saturating_add(report.packed_bytes);
        self.spilled_bytes = self.spilled_bytes.saturating_add(report.spilled_bytes);
        self.loaded_bytes = self.loaded_bytes.saturating_add(report.loaded_bytes);
        self.stalled_seconds += report.stalled_seconds;
    }

    fn add_account(&mut self, account: &Account) {
        self.packed_bytes = self.packed_bytes.saturating_add(account.packed_bytes);
        self.spilled_bytes = self.spilled_bytes.saturating_add(account.spilled_bytes);
        self.loaded_bytes = self.loaded_bytes.saturating_add(account.loaded_bytes);
        self.stalled_seconds += account.stalled_seconds;
        self.allocator.get_or_insert_default().add(&account.gauges);
    }
}

/// Where a span was, for [`SpanLog::push`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanPlace {
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    pub(super) track: u32,
    pub(super) depth: u16,
}

/// The bounded log and the sums by name.
#[derive(Debug)]
pub(super) struct SpanLog {
    spans: Vec<Span>,
    totals: Vec<StageTotal>,
    by_name: HashMap<Arc<str>, usize>,
    merged_below_us: u64,
    too_deep: u64,
}

impl SpanLog {
    pub(super) fn new() -> Self {
        let unused = Span {
            name: Arc::from(""),
            start_us: 1,
            duration_us: 0,
            track: 0,
            depth: 0,
            count: 0,
            peak_bytes: 0,
        };
        // Written once, as the samples are.
        let mut spans = vec![unused; SPANS_MAX];
        spans.clear();
        Self {
            spans,
            totals: Vec::with_capacity(NAMES_MAX + 1),
            by_name: HashMap::with_capacity(NAMES_MAX + 1),
            merged_below_us: 0,
            too_deep: 0,
        }
    }

    /// Adds the span that `report` is of, and `account` where the allocator is recorded.
    pub(super) fn push(
        &mut self,
        report: &StageReport,
        account: Option<&Account>,
        place: SpanPlace,
    ) {
        if place.depth >= DEPTH_MAX {
            self.too_deep += 1;
            return;
        }
        let index = self.index_of(&report.name, place.depth);
        self.totals[index].add(report);
        if let Some(account) = account {
            self.totals[index].add_account(account);
        }
        if self.spans.len() == SPANS_MAX {
            self.merge_small();
        }
        self.spans.push(Span {
            name: Arc::clone(&self.totals[index].name),
            start_us: place.start_us,
            duration_us: place.end_us.saturating_sub(place.start_us),
            track: place.track % TRACKS_MAX,
            depth: place.depth,
            count: 1,
            peak_bytes: report.peak_bytes,
        });
    }

    fn index_of(&mut self, name: &str, depth: u16) -> usize {
        let mut name = shortened(name);
        if self.by_name.len() >= NAMES_MAX && !self.by_name.contains_key(&name) {
            name = Arc::from(MORE_NAMES);
        }
        if let Some(index) = self.by_name.get(&name) {
            return *index;
        }
        self.by_name.insert(Arc::clone(&name), self.totals.len());
        self.totals.push(StageTotal::new(name, depth));
        self.totals.len() - 1
    }

    fn merge_small(&mut self) {
        self.spans.sort_by_key(|span| (span.track, span.depth, span.start_us));
        let mut below_us = self.merged_below_us.max(1);
        while self.spans.len() > SPANS_MAX / 2 {
            below_us = below_us.saturating_mul(2);
            self.spans.dedup_by(|next, last| joined(last, next, below_us));
        }
        self.merged_below_us = below_us;
    }

    /// Spans shorter than this may be merged, in microseconds; 0 while all are whole.
    pub(super) fn merged_below_us(&self) -> u64 {
        self.merged_below_us
    }

    /// Spans that were not recorded for their depth.
    pub(super) fn too_deep(&self) -> u64 {
        self.too_deep
    }

    /// Returns the spans by start, the outer before the inner, and the sums by first appearance.
    pub(super) fn into_parts(mut self) -> (Vec<Span>, Vec<StageTotal>) {
        self.spans.sort_by_key(|span| (span.start_us, span.depth, span.track));
        (self.spans, self.totals)
    }

    pub(super) fn reserved_bytes(&self) -> usize {
        let names = self.totals.len() * (NAME_BYTES_MAX + 2 * size_of::<usize>());
        let entry = size_of::<(Arc<str>, usize)>() + 1;
        self.spans.capacity() * size_of::<Span>()
            + self.totals.capacity() * size_of::<StageTotal>()
            + self.by_name.capacity() * entry
            + names
    }
}

/// Joins `next` to `last` where both are small and nothing long is between them.
fn joined(last: &mut Span, next: &mut Span, below_us: u64) -> bool {
    let gap_us = next.start_us.saturating_sub(last.end_us());
    let alike = (last.track, last.depth) == (next.track, next.depth);
    if !alike || last.duration_us.max(next.duration_us).max(gap_us) >= below_us {
        return false;
    }
    last.duration_us = last.end_us().max(next.end_us()) - last.start_us;
    last.count += next.count;
    last.peak_bytes = last.peak_bytes.max(next.peak_bytes);
    true
}

/// `name` in at most [`NAME_BYTES_MAX`] bytes.
fn shortened(name: &str) -> Arc<str> {
    if name.len() <= NAME_BYTES_MAX {
        return Arc::from(name);
    }
    let mut end = NAME_BYTES_MAX - 3;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    Arc::from(format!("{}...", &name[..end]))
}

#[cfg(test)]
#[path = "span_tests.rs"]
mod tests;
