//! `plimsoll check` as a user runs it: what rises is found and named, what does not is not, and
//! trouble is never taken for a pass.
//!
//! The programs that are checked are this test program itself, run with the name of one of the
//! ignored tests of `programs`; what they take more than they should is planted by an environment
//! variable of theirs.

mod programs;

use plimsoll_arena::process::skipped;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A folder for the baseline and reports of one test.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn baseline(&self) -> String {
        self.path("peaks.json").to_str().expect("UTF-8").to_owned()
    }

    /// `plimsoll check --baseline HERE words -- command`, not started.
    fn command(&self, words: &[&str], command: &[&str]) -> Command {
        let mut check = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        check.args(["check", "--baseline", &self.baseline()]).args(words).arg("--").args(command);
        check
    }

    fn check(&self, words: &[&str], command: &[&str]) -> Output {
        self.command(words, command).output().expect("the plimsoll program")
    }

    /// As [`Place::check`], of a program of ours that takes more where `plant` says so.
    fn program(&self, words: &[&str], name: &str, plant: &str) -> Output {
        let exe = std::env::current_exe().expect("this program");
        let exe = exe.to_str().expect("UTF-8");
        let test = format!("programs::{name}");
        let mut check = self.command(words, &[exe, "--exact", &test, "--ignored", "--nocapture"]);
        check.env(programs::PLANT, plant).output().expect("the plimsoll program")
    }

    fn read(&self) -> Value {
        let text = std::fs::read(self.baseline()).expect("a baseline");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Changes the baseline as a person would, with an editor.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut value = self.read();
        change(&mut value);
        std::fs::write(self.baseline(), value.to_string()).expect("written");
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}\n{}", out(output), err(output));
}

#[test]
fn ten_percent_more_in_one_stage_fail_and_are_named() {
    let place = Place::new();
    assert_code(&place.program(&["--bless"], "three_stages", ""), 0);
    let junit = place.path("peaks.xml");
    let junit_path = junit.to_str().expect("UTF-8");
    let words = ["--runs", "1", "--json", "-", "--junit", junit_path, "--github"];
    let more = (programs::STAGES[1].1 / 10).to_string();
    let output = place.program(&words, "three_stages", &format!("fold={more}"));
    assert_code(&output, 1);
    let report: Value = serde_json::from_str(&out(&output)).expect("one JSON object");
    assert_eq!(report["verdict"], "regressed");
    let peaks = report["peaks"].as_array().expect("peaks");
    let risen: Vec<&Value> = peaks.iter().filter(|row| row["verdict"] == "regressed").collect();
    let stages: Vec<&Value> = risen.iter().map(|row| &row["name"]).collect();
    assert!(stages.contains(&&Value::from("fold")), "{report}");
    assert!(stages.iter().all(|name| **name == "fold" || **name == "process"), "{report}");
    let row = risen.iter().find(|row| row["name"] == "fold").expect("fold");
    let rise = row["now_bytes"].as_u64().zip(row["baseline_bytes"].as_u64());
    assert_eq!(rise.map(|(now, was)| now - was), more.parse().ok(), "exact to the byte");
    assert_eq!(row["grown"][0]["name"], "vectors in use");
    let text = err(&output);
    assert!(text.contains("::error file=") && text.contains("stage \"fold\""), "{text}");
    let xml = std::fs::read_to_string(junit).expect("the report");
    assert_eq!(xml.matches("<failure ").count(), risen.len(), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), peaks.len(), "{xml}");
    // In a table, too, and without more it passes.
    let output = place.program(&["--runs", "1"], "three_stages", &format!("fold={more}"));
    assert!(out(&output).contains("grown: vectors in use +"), "{}", out(&output));
    assert_code(&place.program(&["--runs", "1"], "three_stages", ""), 0);
}

#[test]
fn twenty_runs_of_an_unchanged_program_fail_none() {
    let place = Place::new();
    assert_code(&place.program(&["--bless"], "three_stages", ""), 0);
    for _ in 0..20 {
        // Each alone: the lowest of several would hide what one run adds.
        assert_code(&place.program(&["--runs", "1"], "three_stages", ""), 0);
    }
}

#[test]
fn a_proof_with_ten_percent_more_in_one_stage_fails_and_it_is_named() {
    let place = Place::new();
    assert_code(&place.program(&["--bless"], "proof", ""), 0);
    let baseline = place.read();
    let stages = baseline["stages"].as_array().expect("stages");
    let stage = stages.iter().find(|stage| stage["name"] == "msm L").expect("msm L");
    let more = stage["live_peak_bytes"].as_u64().expect("bytes") / 10;
    assert_code(&place.program(&["--runs", "1"], "proof", ""), 0);
    let words = ["--runs", "1", "--tolerance", "rss=off"];
    let output = place.program(&words, "proof", &format!("msm L={more}"));
    assert_code(&output, 1);
    let text = out(&output);
    let failures = text.lines().filter(|line| line.starts_with("REGRESSED")).collect::<Vec<_>>();
    assert_eq!(failures.len(), 1, "{text}");
    assert!(failures[0].contains("stage \"msm L\"") && failures[0].contains("vectors in use"));
}

#[test]
fn a_program_without_plimsoll_is_checked_by_its_process() {
    let place = Place::new();
    assert_code(&place.check(&["--bless"], &["/bin/true"]), 0);
    let output = place.check(&["--runs", "2"], &["/bin/true"]);
    assert_code(&output, 0);
    assert!(out(&output).contains("upper bound"), "{}", out(&output));
    // 64 MiB in a shell variable of a second command: a rise, and of the largest process.
    let place = Place::new();
    let line = |bytes: u32| format!("x=$(head -c {bytes} /dev/zero | tr '\\0' x); echo ${{#x}}");
    let name = ["--name", "a shell", "--runs", "1"];
    let blessed = place.check(&[&name[..], &["--bless"]].concat(), &["sh", "-c", &line(1 << 24)]);
    assert_code(&blessed, 0);
    assert_code(&place.check(&name, &["sh", "-c", &line(1 << 24)]), 0);
    let output = place.check(&name, &["sh", "-c", &line(1 << 26)]);
    assert_code(&output, 1);
    assert!(out(&output).contains("REGRESSED: peak RSS of the process"), "{}", out(&output));
    // What it prints is not in the report.
    assert!(err(&output).contains("67108864") && !out(&output).contains("67108864"));
}

#[test]
fn a_missing_or_damaged_baseline_is_trouble_and_says_what_to_do() {
    let place = Place::new();
    let marker = place.path("ran");
    let touch = ["touch", marker.to_str().expect("UTF-8")];
    let trouble = |says: &[&str]| {
        let output = place.check(&["--runs", "1"], &touch);
        assert_code(&output, 2);
        let text = err(&output);
        assert!(says.iter().all(|word| text.contains(word)), "{says:?}: {text}");
        assert!(!marker.exists(), "nothing is run before the baseline is read");
    };
    trouble(&["peaks.json", "there is no baseline yet", "--bless"]);
    for damaged in ["", "{", "[]", "{\"format\":\"plimsoll-peaks\",\"version\":1}", "\u{0}"] {
        std::fs::write(place.baseline(), damaged).expect("written");
        trouble(&["damaged", "--bless"]);
    }
    assert_code(&place.check(&["--bless", "--runs", "1"], &["/bin/true"]), 0);
    trouble(&["another command: true", "this is: touch"]);
    place.edit(|value| value["version"] = Value::from(2));
    trouble(&["version 2"]);
    place.edit(|value| value["format"] = Value::from("other"));
    trouble(&["\"other\""]);
    std::fs::remove_file(place.baseline()).expect("removed");
    std::fs::create_dir(place.baseline()).expect("a folder in its place");
    trouble(&["cannot be read"]);
}

#[test]
fn a_command_that_fails_or_is_not_there_is_trouble() {
    let place = Place::new();
    let failed = |command: &[&str], says: &str| {
        let output = place.check(&["--bless", "--github"], command);
        assert_code(&output, 2);
        assert!(err(&output).contains(says), "{}", err(&output));
        assert!(out(&output).starts_with("::error "), "{}", out(&output));
        assert!(!Path::new(&place.baseline()).exists(), "nothing is blessed");
    };
    failed(&["sh", "-c", "exit 7"], "run 1 of 3: sh: the command failed (exit code 7)");
    failed(&["sh", "-c", "kill -SEGV $$"], "SIGSEGV");
    failed(&["sh", "-c", "/nonexistent/prover"], "no such program");
    failed(&["/nonexistent/prover"], "cannot be started");
}

/// Names that a format could stumble over.
const ODD_NAMES: [&str; 9] = [
    "a\"b'c<d>&amp;]]>",
    "line\r\nbreak\ttab",
    "100%0A",
    "::stop-commands::x",
    "##[error]x",
    "\u{1b}[31m\u{0}\u{85}",
    "\u{fffe}\u{ffff}\u{2028}\u{1f600}",
    "",
    "comma, colon: \\",
];

#[test]
fn odd_stage_names_break_no_format() {
    let place = Place::new();
    let log = place.path("log");
    let write = |bytes: u64| {
        let line = |name: &&str| {
            let line = serde_json::json!({ "plimsoll_stage": 1, "name": name, "need_bytes": 1,
                "live_peak_bytes": bytes, "held_peak_bytes": bytes, "holders": [] });
            line.to_string() + "\n"
        };
        std::fs::write(&log, ODD_NAMES.iter().map(line).collect::<String>()).expect("written");
    };
    let command = ["sh", "-c", "cp \"$0\" \"$PLIMSOLL_STAGE_LOG\"", log.to_str().expect("UTF-8")];
    write(10 << 20);
    assert_code(&place.check(&["--bless", "--runs", "1"], &command), 0);
    write(20 << 20);
    let [junit, json] = ["junit.xml", "report.json"].map(|name| place.path(name));
    let [junit, json] = [&junit, &json].map(|path| path.to_str().expect("UTF-8"));
    let words = ["--runs", "1", "--github", "--junit", junit, "--json", json];
    let output = place.check(&words, &command);
    assert_code(&output, 1);
    let text = out(&output);
    let commands: Vec<&str> = text
        .lines()
        .filter(|line| ["::", "##["].iter().any(|word| line.trim_start().starts_with(word)))
        .collect();
    assert_eq!(commands.len(), ODD_NAMES.len(), "{text}");
    assert!(commands.iter().all(|line| line.starts_with("::error file=")), "{text}");
    let report = std::fs::read(json).expect("the report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    for name in ODD_NAMES {
        let peaks = report["peaks"].as_array().expect("peaks");
        assert!(peaks.iter().any(|peak| peak["name"] == name), "{name:?}");
    }
    match Command::new("xmllint").args(["--noout", junit]).status() {
        Ok(status) => assert!(status.success(), "{}", std::fs::read_to_string(junit).expect("XML")),
        Err(_) => skipped("the XML of JUnit", "no xmllint here"),
    }
}

#[test]
fn new_and_vanished_stages_are_named() {
    let place = Place::new();
    assert_code(&place.program(&["--bless", "--runs", "1"], "three_stages", ""), 0);
    place.edit(|value| value["stages"][0]["name"] = Value::from("of old"));
    let output = place.program(&["--runs", "1"], "three_stages", "");
    assert_code(&output, 0);
    let text = out(&output);
    assert!(text.contains("note: stage \"load\"") && text.contains("a new stage"), "{text}");
    assert!(text.contains("note: stage \"of old\"") && text.contains("gone"), "{text}");
    // A new one that takes more than any before is a regression.
    place.edit(|value| {
        value["stages"].as_array_mut().expect("stages").remove(1);
    });
    let output = place.program(&["--runs", "1"], "three_stages", "");
    assert_code(&output, 1);
    assert!(out(&output).contains("REGRESSED: stage \"fold\""), "{}", out(&output));
    // A baseline with stages and a run with none cannot be compared.
    assert_code(&place.program(&["--bless", "--runs", "1", "--name", "x"], "three_stages", ""), 0);
    let output = place.check(&["--runs", "1", "--name", "x"], &["/bin/true"]);
    assert_code(&output, 2);
    assert!(err(&output).contains("PLIMSOLL_STAGE_LOG"), "{}", err(&output));
}

#[test]
fn a_bless_keeps_tolerances_and_is_a_file_that_all_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let words = ["--bless", "--runs", "1", "--tolerance", "rss=off", "--tolerance", "stages=50%"];
    assert_code(&place.program(&words, "three_stages", ""), 0);
    assert_code(&place.program(&["--bless", "--runs", "1"], "three_stages", ""), 0);
    let value = place.read();
    assert_eq!(value["tolerances"].to_string(), r#"{"rss":"off","stages":"50%"}"#);
    let names = value["stages"].as_array().expect("stages").iter().map(|stage| &stage["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["load", "fold", "open"]);
    let mode = std::fs::metadata(place.baseline()).expect("written").permissions().mode();
    assert_eq!(mode & 0o400, 0o400);
    assert_eq!(std::fs::read_dir(place.folder.path()).expect("a folder").count(), 1);
    let text = std::fs::read_to_string(place.baseline()).expect("text");
    assert!(text.lines().count() > 40 && text.ends_with("}\n"), "one field a line: {text}");
    let more = (programs::STAGES[1].1 / 10).to_string();
    assert_code(&place.program(&["--runs", "1"], "three_stages", &format!("fold={more}")), 0);
    let strict = ["--runs", "1", "--tolerance", "stage:fold=0"];
    assert_code(&place.program(&strict, "three_stages", &format!("fold={more}")), 1);
}

#[test]
fn under_a_cap_the_cgroup_counts_and_who_reaches_it_fails() {
    let place = Place::new();
    let shell = |bytes: u32| format!("x=$(head -c {bytes} /dev/zero | tr '\\0' x); echo ${{#x}}");
    let small = shell(1 << 20);
    let words = ["--cap", "48MiB", "--runs", "1", "--name", "a shell"];
    let output = place.check(&[&words[..], &["--bless"]].concat(), &["sh", "-c", &small]);
    if output.status.code() == Some(2) && err(&output).contains("--cap: ") {
        skipped("a cap", err(&output).trim());
        return;
    }
    assert_code(&output, 0);
    assert!(place.read()["cgroup_peak_bytes"].as_u64() > Some(1 << 20));
    let output = place.check(&words, &["sh", "-c", &small]);
    assert_code(&output, 0);
    assert!(out(&output).contains("cgroup"), "{}", out(&output));
    let output = place.check(&words, &["sh", "-c", &shell(1 << 27)]);
    assert_code(&output, 1);
    assert!(out(&output).contains("reached the cap of 48.00 MiB"), "{}", out(&output));
    // Another cap is another measurement.
    let output = place.check(&["--runs", "1", "--name", "a shell"], &["sh", "-c", &small]);
    assert_code(&output, 2);
    assert!(err(&output).contains("a cap of 50331648 bytes"), "{}", err(&output));
}

/// Cgroups below `folder` that the process `pid` made.
fn cgroups_of(folder: &Path, pid: u32) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    let name = format!("plimsoll-check-{pid}");
    folders
        .map(|entry| usize::from(entry.file_name() == *name) + cgroups_of(&entry.path(), pid))
        .sum()
}

#[test]
fn an_interrupt_ends_the_command_and_is_trouble() {
    for words in [&["--bless"][..], &["--bless", "--cap", "64MiB"]] {
        let place = Place::new();
        let ready = place.path("ready");
        // No process between the shell and its end: a signal that comes while a shell makes one is
        // lost on both.
        let script = format!("echo $$ > '{}'; exec sleep 600", ready.display());
        let is_ready = || std::fs::read_to_string(&ready).is_ok_and(|text| text.ends_with('\n'));
        let mut check = place.command(words, &["sh", "-c", &script]);
        let mut child =
            check.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("started");
        while !is_ready() && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let id = child.id();
        if is_ready() {
            let interrupt = Command::new("kill").args(["-INT", &id.to_string()]).status();
            assert!(interrupt.expect("kill").success());
        }
        let output = child.wait_with_output().expect("ended");
        assert_code(&output, 2);
        if err(&output).contains("--cap: ") {
            skipped("a cap", err(&output).trim());
            continue;
        }
        assert!(err(&output).contains("interrupted by SIGINT"), "{}", err(&output));
        let pid = std::fs::read_to_string(&ready).expect("written");
        assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists(), "the shell has ended");
        assert_eq!(cgroups_of(Path::new("/sys/fs/cgroup"), id), 0);
    }
}

#[test]
fn what_a_command_leaves_running_is_ended() {
    let place = Place::new();
    let file = place.path("pid");
    let script = format!("sleep 600 >/dev/null 2>&1 & echo $! > '{}'", file.display());
    assert_code(&place.check(&["--bless", "--runs", "1"], &["sh", "-c", &script]), 0);
    let pid = std::fs::read_to_string(file).expect("written");
    let status = format!("/proc/{}/status", pid.trim());
    let alive = || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        text.contains("sleep") && !text.contains("State:\tZ")
    };
    // Killed it is; the kernel takes its time.
    for _ in 0..2000 {
        if !alive() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{} is still there", pid.trim());
}

#[test]
fn a_stage_log_that_cannot_be_written_is_told_once_and_changes_nothing() {
    let exe = std::env::current_exe().expect("this program");
    let words = ["--exact", "programs::three_stages", "--ignored", "--nocapture"];
    let run = |log: &str| {
        let mut program = Command::new(&exe);
        program.args(words).env("PLIMSOLL_STAGE_LOG", log).output().expect("this program")
    };
    for log in ["/nonexistent/log", "/dev/full"] {
        let output = run(log);
        assert!(output.status.success(), "{}", err(&output));
        assert_eq!(err(&output).matches(log).count(), 1, "{}", err(&output));
    }
    let output = run("");
    assert!(output.status.success() && !err(&output).contains("plimsoll:"), "{}", err(&output));
}
