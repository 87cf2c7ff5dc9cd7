//! A program that uses the global allocator and a tracing layer, and nothing else of ours: what its
//! spans had of the allocator and of the pager is in its record, in the page and in the timeline.
//!
//! ```text
//!   test -> this binary again: spans "grow" and "read again" over more than the limit
//!             no limit                              live bytes, their peak, nothing paged
//!             PLIMSOLL_LIMIT, PLIMSOLL_SPILL_DIR    and what was spilled, packed, brought back
//!           or spans that no sample falls into      their peaks are the kernel's
//! ```
#![cfg(feature = "layer")]

use plimsoll::Runtime;
use plimsoll::record::{Recorder, Recording, StageTotal};
use plimsoll_arena::process::skipped;
use plimsoll_swap::pager::probe;
use std::hint::black_box;
use std::process::Command;
use std::time::Duration;
use tracing_subscriber::prelude::*;

#[global_allocator]
static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();

/// Set for the program.
const PROGRAM: &str = "PLIMSOLL_TEST_PROGRAM";

const MIB: u64 = 1 << 20;
const COLUMNS: u64 = 12;
const COLUMN_WORDS: u64 = 2 * MIB;
const COLUMN_BYTES: u64 = COLUMN_WORDS * 8;

/// A column that does not pack, or, every third, one that does.
fn column(number: u64) -> Vec<u64> {
    let noise = |i: u64| (i + number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) ^ i << 40;
    let word = |i: u64| if number.is_multiple_of(3) { noise(i) >> 63 } else { noise(i) };
    (0..COLUMN_WORDS).map(word).collect()
}

fn prove() {
    let _prove = tracing::info_span!("prove").entered();
    let columns: Vec<Vec<u64>> =
        tracing::info_span!("grow").in_scope(|| (0..COLUMNS).map(column).collect());
    let again = tracing::info_span!("read again").entered();
    for column in &columns {
        black_box(column.iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
    }
    // Long enough for samples, also where something else has the processors.
    std::thread::sleep(Duration::from_secs(1));
    drop(again);
    drop(columns);
    // A stage of a runtime that is watched is accounted as a span is.
    let runtime = Runtime::builder().build().expect("a runtime");
    let recorder = Recorder::builder().watch(&runtime).allocator(&ALLOC).start();
    let recorder = recorder.expect("a recorder");
    let stage = runtime.stage("of a runtime", 0).expect("room");
    let block = black_box(vec![1u8; MIB as usize]);
    drop(stage);
    drop(block);
    let recording = recorder.finish().expect("a recording");
    let had = recording.totals[0].allocator.expect("it was recorded");
    assert!((MIB..8 * MIB).contains(&had.live_bytes), "{had:?}");
}

/// Spans that touch 16, 64 and 16 MiB, and give them back before they end.
fn rise_and_fall() {
    let touch = |bytes: u64| {
        drop(black_box(vec![1u8; bytes as usize]));
        ALLOC.reclaim(usize::MAX);
    };
    let _prove = tracing::info_span!("prove").entered();
    tracing::info_span!("low").in_scope(|| touch(16 * MIB));
    tracing::info_span!("high").in_scope(|| touch(64 * MIB));
    tracing::info_span!("low").in_scope(|| touch(16 * MIB));
}

/// The program: prints its recording. Does nothing in an ordinary run.
#[test]
fn program() {
    let Ok(program) = std::env::var(PROGRAM) else { return };
    let recorder = Recorder::builder().title("program").allocator(&ALLOC);
    let (recorder, spans): (_, fn()) = match program.as_str() {
        // One sample at the start, and one at the end.
        "rise and fall" => (recorder.interval(Duration::from_secs(3600)), rise_and_fall),
        _ => (recorder, prove),
    };
    let recorder = recorder.start().expect("a recorder");
    let subscriber = tracing_subscriber::registry().with(recorder.layer());
    tracing::subscriber::with_default(subscriber, spans);
    let recording = recorder.finish().expect("a recording");
    println!("\nresult {}", serde_json::to_string(&recording).expect("JSON"));
}

fn run(program: &str, limit: Option<&str>) -> Recording {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "program", "--nocapture", "--test-threads=1"]).env(PROGRAM, program);
    command.env_remove("PLIMSOLL_LIMIT").env_remove("PLIMSOLL_SPILL_DIR");
    if let Some(limit) = limit {
        command.env("PLIMSOLL_LIMIT", limit).env("PLIMSOLL_SPILL_DIR", "/var/tmp");
    }
    let output = command.output().expect("a child");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), output.stderr);
    assert!(output.status.success(), "{limit:?}: {out}{}", String::from_utf8_lossy(&err));
    let line = out.lines().find_map(|line| line.strip_prefix("result ")).expect("a result");
    serde_json::from_str(line).expect("a recording")
}

fn total<'a>(recording: &'a Recording, name: &str) -> &'a StageTotal {
    let found = recording.totals.iter().find(|total| &*total.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", recording.totals))
}

#[test]
fn spans_say_what_was_live_and_nothing_is_paged_without_a_limit() {
    let recording = run("prove", None);
    let all = COLUMNS * COLUMN_BYTES;
    for (name, left) in [("grow", all), ("read again", all), ("prove", 0)] {
        let stage = total(&recording, name);
        let had = stage.allocator.expect("it was recorded");
        // The table of columns, the recorder's logs and little else are blocks, too.
        assert!((all..all + 8 * MIB).contains(&had.live_peak_bytes), "{name}: {had:?}");
        assert!((left..left + 8 * MIB).contains(&had.live_bytes), "{name}: {had:?}");
        assert!(had.held_bytes >= had.live_bytes && had.faults == 0, "{name}: {had:?}");
        let moved = stage.packed_bytes + stage.spilled_bytes + stage.loaded_bytes;
        assert_eq!((moved, stage.stalled_seconds), (0, 0.0), "{name}");
    }
    assert!(total(&recording, "prove").allocator.expect("as above").cached_bytes > all / 2);
    assert!(recording.samples.iter().any(|sample| sample.allocated_bytes >= all));
    assert_eq!(recording.limit_source, recording.limit_bytes.map_or("", |_| "the cgroup's limit"));
}

#[test]
fn spans_say_what_the_pager_packed_spilled_and_brought_back() {
    if let Err(why) = probe().door {
        skipped("spans of the pager", why);
        return;
    }
    let recording = run("prove", Some("96MiB"));
    let all = COLUMNS * COLUMN_BYTES;
    let (grow, again) = (total(&recording, "grow"), total(&recording, "read again"));
    let prove = total(&recording, "prove");
    for stage in [grow, again, prove] {
        let had = stage.allocator.expect("it was recorded");
        assert!((all..all + 8 * MIB).contains(&had.live_peak_bytes), "{stage:?}");
        assert!(had.held_bytes <= 96 * MIB && had.faults > 0, "{stage:?}");
    }
    // Two thirds do not pack, of which what the limit leaves may stay.
    assert!(grow.spilled_bytes >= all / 3 - 16 * MIB && grow.packed_bytes >= 4 * MIB, "{grow:?}");
    assert!(again.loaded_bytes >= all / 2 && again.stalled_seconds > 0.0, "{again:?}");
    let sum = grow.loaded_bytes + again.loaded_bytes;
    assert!(prove.loaded_bytes >= sum && prove.spilled_bytes >= grow.spilled_bytes);
    assert_eq!(recording.limit_bytes, Some(96 * MIB));
    let last = recording.samples.last().expect("samples");
    assert!(last.spilled_total_bytes >= prove.spilled_bytes);
    for sample in &recording.samples {
        assert!(sample.live_bytes <= sample.allocated_bytes, "{sample:?}");
        assert!(sample.vector_bytes() <= 96 * MIB, "{sample:?}");
    }
    let (mut page, mut timeline) = (Vec::new(), Vec::new());
    recording.report_to(&mut page).expect("a Vec takes everything");
    recording.timeline_to(&mut timeline).expect("a Vec takes everything");
    let page = String::from_utf8(page).expect("UTF-8");
    assert!(page.contains("<h3>Global allocator and pager</h3>") && page.contains("read again"));
    let timeline = String::from_utf8(timeline).expect("UTF-8");
    assert!(timeline.contains("allocated (bytes)") && timeline.contains("\"live_peak_bytes\""));
}

/// The process is never larger than in the first two spans: the kernel's mark says by how much, and
/// that the second one set the peak.
#[test]
fn a_span_that_no_sample_falls_into_has_the_peak_of_the_kernel() {
    let recording = run("rise and fall", None);
    let (low, high) = (total(&recording, "low"), total(&recording, "high"));
    assert_eq!((low.count, high.count), (2, 1));
    let more = high.peak_bytes.saturating_sub(low.peak_bytes);
    assert!((44 * MIB..56 * MIB).contains(&more), "{high:?} {low:?}");
    assert!(recording.peak_is_exact && recording.peak_bytes >= high.peak_bytes);
    let at_peak = recording.stage_at_peak().map(|span| &*span.name);
    assert_eq!(at_peak, Some("high"), "{:?}", recording.spans);
}
