//! The recorder as a whole, on this process.

use super::*;
use plimsoll_arena::sync::unpoisoned;

/// Process-wide figures: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn stages_samples_and_the_peak_of_a_runtime_are_recorded() {
    let _alone = unpoisoned(ALONE.lock());
    let runtime = Runtime::builder().own_limit().limit_bytes(8 << 30).build().expect("a runtime");
    let recorder = Recorder::builder().watch(&runtime).threads(2).start().expect("a recorder");
    let reserved = recorder.held_bytes();
    {
        let _outer = runtime.stage("outer", 0).expect("room");
        let _inner = runtime.stage("inner", 1 << 20).expect("room");
        let column = runtime.pool().try_zeroed::<u64>(4 << 20).expect("room");
        recorder.shared.sample();
        assert_eq!(column.len(), 4 << 20);
    }
    assert!(reserved < 4 << 20, "{reserved} bytes");
    let recording = recorder.finish().expect("a recording");
    let names: Vec<&str> = recording.totals.iter().map(|total| &*total.name).collect();
    assert_eq!(names, ["inner", "outer"]);
    let depths: Vec<(&str, u16)> =
        recording.spans.iter().map(|span| (&*span.name, span.depth)).collect();
    assert_eq!(depths, [("outer", 0), ("inner", 1)]);
    assert!(recording.samples.iter().any(|sample| sample.live_bytes >= 32 << 20));
    assert!(recording.samples.iter().all(|sample| sample.rss_bytes <= recording.peak_bytes));
    assert_eq!(recording.limit_bytes, Some(8 << 30));
    assert!(recording.spans.iter().all(|span| span.end_us() <= recording.duration_us));
}

#[test]
fn a_runtime_that_is_watched_is_let_go() {
    let _alone = unpoisoned(ALONE.lock());
    let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build().expect("a runtime");
    drop(Recorder::builder().watch(&runtime).start().expect("a recorder"));
    drop(runtime.stage("after", 0).expect("room"));
    let again = Recorder::builder().watch(&runtime).start().expect("a recorder");
    drop(runtime.stage("again", 0).expect("room"));
    let recording = again.finish().expect("a recording");
    assert_eq!(recording.totals.len(), 1, "the first recorder is not written to any more");
}

#[test]
fn reclaim_points_that_act_are_marked() {
    let _alone = unpoisoned(ALONE.lock());
    let runtime = Runtime::builder().own_limit().build().expect("a runtime");
    let recorder = Recorder::builder().watch(&runtime).start().expect("a recorder");
    // Much more than what other tests of this process take and give back meanwhile.
    drop(runtime.pool().try_zeroed::<u64>(32 << 20).expect("room"));
    let counted = runtime.ledger().counted_bytes();
    runtime.set_limit_bytes(Some(counted as u64 + (64 << 20)));
    let report = runtime.reclaim_point("tight", 128 << 20);
    assert!(report.freed.total_bytes() > 0, "{report:?}");
    let recording = recorder.finish().expect("a recording");
    let mark = recording.marks.iter().find(|mark| mark.name == "tight").expect("a mark");
    assert_eq!(mark.freed_bytes, report.freed.total_bytes());
}

#[test]
fn vectors_under_permits_are_the_runtimes() {
    let _alone = unpoisoned(ALONE.lock());
    let runtime = Runtime::builder().own_limit().limit_bytes(8 << 30).build().expect("a runtime");
    let recorder = Recorder::builder().watch(&runtime).threads(2).start().expect("a recorder");
    let permit = runtime.permit("job", 64 << 20).expect("granted");
    let column = permit.runtime().zeroed::<u64>(4 << 20).expect("room");
    recorder.shared.sample();
    drop((column, permit));
    let recording = recorder.finish().expect("a recording");
    assert!(recording.samples.iter().any(|sample| sample.live_bytes >= 32 << 20));
}
