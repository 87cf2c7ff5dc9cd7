//! `plimsoll doctor` as a user runs it: exit codes, JSON, lines that can be read and copied.

use plimsoll_arena::process::skipped;
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn doctor(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .arg("doctor")
        .args(words)
        .output()
        .expect("the plimsoll program")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The report, and the level that the exit code stands for.
fn report(words: &[&str]) -> (Value, &'static str) {
    let output = doctor(&[words, &["--json"]].concat());
    let report = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let level = match output.status.code() {
        Some(0) => "ok",
        Some(1) => "warn",
        Some(2) => "fail",
        other => panic!("exit code {other:?}: {}", String::from_utf8_lossy(&output.stderr)),
    };
    (report, level)
}

#[test]
fn the_exit_code_is_the_worst_finding() {
    let folder = std::env::temp_dir();
    let (report, level) = report(&["--spill-dir", folder.to_str().expect("UTF-8")]);
    assert_eq!(report["worst"], level);
    let findings = report["findings"].as_array().expect("findings");
    let rank = |level: &Value| ["ok", "warn", "fail"].iter().position(|word| level == word);
    let worst = findings.iter().map(|finding| rank(&finding["level"]).expect("a level")).max();
    assert_eq!(worst, rank(&report["worst"]));
    for finding in findings {
        assert!(finding["name"].is_string() && finding["says"].is_string(), "{finding}");
        assert_eq!(finding["mend"].is_null(), finding["level"] == "ok", "{finding}");
    }
}

#[test]
fn a_missing_spill_folder_fails_and_says_what_to_do() {
    let (report, level) = report(&["--spill-dir", "/nonexistent/spill"]);
    assert_eq!(level, "fail");
    let findings = report["findings"].as_array().expect("findings");
    let found = findings.iter().find(|row| row["name"] == "spill folder").expect("a finding");
    assert_eq!(found["mend"], "mkdir -p /nonexistent/spill");
}

#[test]
fn a_folder_in_ram_fails() {
    if !Path::new("/dev/shm").is_dir() {
        skipped("a folder in RAM", "no /dev/shm here");
        return;
    }
    let output = doctor(&["--spill-dir", "/dev/shm"]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(stdout(&output).contains("which is RAM"), "{}", stdout(&output));
}

#[test]
fn the_probe_measures_the_folder_and_leaves_it_empty() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_str().expect("UTF-8");
    let (report, _) = report(&["--probe", "--spill-dir", path]);
    let findings = report["findings"].as_array().expect("findings");
    let speed = findings.iter().find(|row| row["name"] == "spill speed").expect("a finding");
    assert!(speed["says"].as_str().is_some_and(|text| text.contains("GB/s")), "{speed}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn lines_are_plain_and_whole_without_a_terminal() {
    let output = doctor(&[]);
    let text = stdout(&output);
    assert!(!text.contains('\x1b'), "no colours in a pipe");
    let (body, summary) = text.trim_end().rsplit_once("\n\n").expect("a summary");
    assert!(summary.ends_with("failing") && !summary.contains('\n'), "{summary}");
    for line in body.lines() {
        let known = ["ok    ", "warn  ", "fail  ", "      -> "];
        assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
    }
}

#[test]
fn a_tree_of_files_is_read_instead_of_the_machine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cgroup-damaged");
    let (report, level) = report(&["--root", root.to_str().expect("UTF-8")]);
    assert_eq!(level, "fail");
    let findings = report["findings"].as_array().expect("findings");
    let cgroup = findings.iter().find(|row| row["name"] == "cgroup").expect("a finding");
    assert_eq!(cgroup["level"], "fail");
}

/// Sets files of the kernel; drop sets them back.
struct Set {
    before: Vec<(PathBuf, String)>,
}

impl Set {
    fn to(wanted: &[(PathBuf, &str)]) -> Self {
        let mut set = Self { before: Vec::new() };
        for (path, text) in wanted {
            set.before.push((path.clone(), std::fs::read_to_string(path).expect("a setting")));
            std::fs::write(path, text).expect("a setting that may be written");
        }
        set
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        for (path, text) in &self.before {
            if let Err(why) = std::fs::write(path, text) {
                println!("{} is not set back to {text}: {why}", path.display());
            }
        }
    }
}

/// The swappiness that counts for this process: its cgroup's with v1, else the machine's.
fn swappiness_file() -> PathBuf {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").expect("/proc");
    let own = cgroups.lines().find_map(|line| line.split_once(":memory:"));
    let file = own.map(|(_, own)| {
        Path::new("/sys/fs/cgroup/memory")
            .join(own.trim_start_matches('/'))
            .join("memory.swappiness")
    });
    file.filter(|file| file.exists()).unwrap_or_else(|| "/proc/sys/vm/swappiness".into())
}

/// Removes the device that a test made.
struct Zram {
    state: PathBuf,
}

impl Zram {
    fn script(command: &str, state: &Path) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/zram-setup.sh");
        let words = [command, "--size", "64MiB", "--mem-limit", "64MiB", "--state"];
        Command::new(script).args(words).arg(state).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        println!("down: {}", Self::script("down", &self.state));
    }
}

#[test]
fn the_commands_that_mend_do_mend() {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0);
    if !is_root || !Path::new("/sys/class/zram-control").exists() {
        skipped("commands that mend", "need root and a kernel with zram");
        return;
    }
    // One test of the whole machine at a time; zram_setup takes the same lock.
    let turn = File::create(std::env::temp_dir().join("plimsoll-live-tests.lock")).expect("a file");
    turn.lock().expect("our turn");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let zram = Zram { state: folder.path().join("state") };
    assert!(Zram::script("up", &zram.state), "zram-setup.sh up");
    let cluster = PathBuf::from("/proc/sys/vm/page-cluster");
    let _set = Set::to(&[(swappiness_file(), "60"), (cluster, "3")]);
    let bad = || -> Vec<(String, String)> {
        let (report, _) = report(&["--spill-dir", "/var/tmp"]);
        let findings = report["findings"].as_array().expect("findings").clone();
        let bad = findings.into_iter().filter(|row| row["level"] != "ok");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        bad.map(|row| (text(&row["name"]), text(&row["mend"]))).collect()
    };
    let ours = ["swappiness", "page-cluster"];
    let found = bad();
    for name in ours {
        let (_, mend) = found.iter().find(|row| row.0 == name).expect("a finding");
        let ran = Command::new("sh").args(["-c", mend]).status().expect("a shell");
        assert!(ran.success(), "{mend}");
    }
    let left = bad();
    assert!(left.iter().all(|row| !ours.contains(&row.0.as_str())), "{left:?}");
}
