//! Pictures of runs, as a user makes them: the command's files, their schema, their sizes.
//!
//! `scripts/ci.sh pictures` opens the same pages in a browser (tests/cli/browser.mjs).

use plimsoll::Runtime;
use plimsoll::record::{Recorder, Recording};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// Pages are at most this large, whatever the run.
const PAGE_BYTES_MAX: usize = 5 << 20;

/// The peak is the whole process's: tests that record it, or read whole pages, run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn plimsoll(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.args(arguments).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/circom").join(name);
    path.to_str().expect("UTF-8").to_owned()
}

/// Proves the small circuit, its files in `out`.
fn prove(out: &Path, more: &[&str]) -> Output {
    let (zkey, wtns) = (fixture("multiplier.zkey"), fixture("multiplier.wtns"));
    let out = out.to_str().expect("UTF-8");
    let words = ["prove", "--zkey", &zkey, "--wtns", &wtns, "--out", out];
    plimsoll(&words.into_iter().chain(more.iter().copied()).collect::<Vec<&str>>())
}

fn page_of(recording: &Recording) -> String {
    let mut page = Vec::new();
    recording.report_to(&mut page).expect("a Vec takes everything");
    text(&page)
}

fn timeline_of(recording: &Recording) -> Value {
    let mut timeline = Vec::new();
    recording.timeline_to(&mut timeline).expect("a Vec takes everything");
    serde_json::from_slice(&timeline).expect("JSON")
}

/// What the page's script draws from.
fn data_of(page: &str) -> Value {
    let start = "<script type=\"application/json\" id=\"run\">";
    let from = page.find(start).expect("the data") + start.len();
    let end = page[from..].find("</script>").expect("its end");
    serde_json::from_str(&page[from..from + end]).expect("JSON")
}

/// The rules of the Trace Event Format's JSON object form, as far as these events use it.
fn check_schema(timeline: &Value) {
    let events = timeline["traceEvents"].as_array().expect("traceEvents");
    let mut last_of_counter: BTreeMap<String, u64> = BTreeMap::new();
    let mut lanes: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for event in events {
        let name = event["name"].as_str().expect("a name").to_owned();
        let at = event["ts"].as_u64().expect("a time in whole microseconds");
        assert!(event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
        match event["ph"].as_str().expect("a phase") {
            "M" => assert!(event["args"]["name"].is_string(), "{event}"),
            "X" => {
                let end = at + event["dur"].as_u64().expect("a length");
                let open = lanes.entry(event["tid"].as_u64().expect("a lane")).or_default();
                while open.last().is_some_and(|(_, last)| *last <= at) {
                    open.pop();
                }
                if let Some((start, last)) = open.last() {
                    assert!(*start <= at && end <= *last, "complete events cross: {event}");
                }
                open.push((at, end));
            }
            "C" => {
                let series = event["args"].as_object().expect("series");
                assert!(!series.is_empty() && series.values().all(Value::is_number), "{event}");
                let last = last_of_counter.insert(name, at);
                assert!(last.is_none_or(|last| last < at), "a counter goes back: {event}");
            }
            "i" => assert_eq!(event["s"], "p", "{event}"),
            other => panic!("phase {other}: {event}"),
        }
    }
    for counter in ["memory (bytes)", "rss (bytes)", "cpu (cores)"] {
        assert!(last_of_counter.contains_key(counter), "{counter}");
    }
}

#[test]
fn prove_writes_both_and_they_say_what_its_json_says() {
    let _alone = alone();
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (timeline, page) = (path("t.json"), path("r.html"));
    let output = prove(
        folder.path(),
        &["--json", "--limit", "2GiB", "--timeline", &timeline, "--report", &page],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "--json shows no progress");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let timeline: Value =
        serde_json::from_slice(&std::fs::read(&timeline).expect("a timeline")).expect("JSON");
    check_schema(&timeline);
    let page = std::fs::read_to_string(&page).expect("a page");
    let data = data_of(&page);
    assert_eq!(data, timeline["plimsoll"], "both carry the same recording");
    assert_eq!(data["peak_bytes"], report["peak_rss_bytes"], "the drawn peak is the JSON's");
    assert_eq!(data["limit_bytes"], report["limit_bytes"]);
    let names = |value: &Value, list: &str| -> Vec<String> {
        let rows = value[list].as_array().expect("a list");
        rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&data, "totals"), names(&report, "stages"));
}

#[test]
fn a_run_that_fails_is_drawn_too() {
    let _alone = alone();
    let folder = folder();
    let page = folder.path().join("r.html");
    let shown = page.to_str().expect("UTF-8");
    let (zkey, wtns) = (fixture("multiplier.zkey"), folder.path().join("none.wtns"));
    let wtns = wtns.to_str().expect("UTF-8");
    let output = plimsoll(&["prove", "--zkey", &zkey, "--wtns", wtns, "--report", shown]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(data_of(&std::fs::read_to_string(&page).expect("a page"))["samples"].is_array());
}

#[test]
fn a_file_that_cannot_be_written_is_named_before_any_work() {
    let folder = folder();
    for (option, path) in [("--timeline", "/nowhere/t.json"), ("--report", "/tmp")] {
        let output = prove(folder.path(), &[option, path]);
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(error.contains(option) && error.contains(path.trim_end_matches("/t.json")));
        assert!(!error.contains("1/"), "no stage began: {error}");
    }
}

#[test]
fn progress_is_lines_where_nobody_sees_a_bar() {
    let folder = folder();
    let lines = text(&prove(folder.path(), &["--limit", "1GiB"]).stderr);
    let first = lines.lines().next().expect("a line");
    assert!(first.starts_with("1/") && first.contains(" of 1024.0 MiB"), "{lines}");
    assert!(!lines.contains('\u{1b}') && !lines.contains('\r'), "no terminal's codes: {lines:?}");
    assert_eq!(text(&prove(folder.path(), &["--quiet"]).stderr), "");
}

#[test]
fn two_runs_are_compared_whichever_files_they_left() {
    let _alone = alone();
    let folder = folder();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let (timeline, json) = (path("t.json"), path("p.json"));
    let (timeline, json) = (timeline.to_str().expect("UTF-8"), json.to_str().expect("UTF-8"));
    let output = prove(folder.path(), &["--json", "--timeline", timeline]);
    std::fs::write(json, &output.stdout).expect("a file");
    let table = text(&plimsoll(&["report", json, timeline]).stdout);
    let whole = table.lines().last().expect("a row");
    assert!(whole.starts_with("whole run") && whole.ends_with("+0.0 %"), "equal peaks: {table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "80 columns: {table}");
    let rows: Value =
        serde_json::from_slice(&plimsoll(&["report", json, timeline, "--json"]).stdout)
            .expect("JSON");
    assert!(rows["rows"].as_array().expect("rows").len() > 3);
    let page = path("again.html");
    let page = page.to_str().expect("UTF-8");
    assert!(plimsoll(&["report", timeline, "--html", page]).status.success());
    assert!(std::fs::read_to_string(page).expect("a page").contains("id=\"run\""));
    let refused = plimsoll(&["report", json, "--html", page]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--timeline"), "{}", text(&refused.stderr));
}

#[test]
fn ten_thousand_stages_are_a_small_page_and_none_is_forgotten() {
    let _alone = alone();
    let runtime = Runtime::builder().limit_bytes(8 << 30).build().expect("a runtime");
    let recorder = Recorder::builder().watch(&runtime).start().expect("a recorder");
    let before = recorder.held_bytes();
    for i in 0..10_000 {
        let _outer = runtime.stage(&format!("round {i} of a prover with long names"), 0);
        let _inner = runtime.stage("fold", 0).expect("room");
    }
    let after = recorder.held_bytes();
    assert!(after - before < 256 << 10, "only names are added: {before} to {after}");
    let recording = recorder.finish().expect("a recording");
    let count: u64 = recording.totals.iter().map(|total| total.count).sum();
    assert_eq!(count, 20_000);
    assert_eq!(recording.spans.iter().map(|span| span.count).sum::<u64>(), 20_000);
    let page = page_of(&recording);
    assert!(page.len() < PAGE_BYTES_MAX, "{} bytes", page.len());
    check_schema(&timeline_of(&recording));
    if let Some(folder) = std::env::var_os("PLIMSOLL_PICTURES") {
        recording.write_report(&PathBuf::from(folder).join("large.html")).expect("a page");
    }
}

#[test]
fn the_holders_at_the_peak_are_named() {
    let _alone = alone();
    let runtime = Runtime::builder().limit_bytes(8 << 30).build().expect("a runtime");
    let recorder = Recorder::builder().watch(&runtime).start().expect("a recorder");
    let stage = runtime.stage("fill", 256 << 20).expect("room");
    let mut column = runtime.pool().try_zeroed::<u64>(32 << 20).expect("room");
    column.fill(7);
    drop(stage);
    // The last sample is taken here, with the vector alive, however late the others were.
    let recording = recorder.finish().expect("a recording");
    drop(column);
    let largest = recording.holders.first().expect("a holder");
    assert_eq!(largest.name, "vectors in use", "{:?}", recording.holders);
    // The holders are asked at a sample within 1/64 of the highest.
    assert!((240 << 20..=256 << 20).contains(&largest.bytes), "{largest:?}");
    assert_eq!(recording.stage_at_peak().map(|span| &*span.name), Some("fill"));
}
