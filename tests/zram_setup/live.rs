//! The script on a real zram device of this machine. One test at a time, in all processes: sysctls
//! are the machine's.

use super::root::{Run, script};
use plimsoll_arena::process::skipped;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Ends of an `up` at random moments, for each signal. Each takes some 0.2 s.
const KILLS: u64 = 20;

/// Longest time in microseconds that an `up` is left before it is killed: it takes about 70 ms.
const KILL_AFTER_US_MAX: u64 = 100_000;

/// The file that tests of the whole machine lock, in the system's temporary folder.
const LOCK: &str = "plimsoll-live-tests.lock";

/// The machine, with a journal in a folder of its own. Drop undoes what a failed test left.
struct Machine {
    folder: TempDir,
    _turn: File,
}

impl Machine {
    /// `None`, with the reason printed, where there is no root or no zram.
    fn new() -> Option<Self> {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0);
        if !is_root || !Path::new("/sys/class/zram-control").exists() {
            skipped("a real device", "needs root and a kernel with zram");
            return None;
        }
        let turn = File::create(std::env::temp_dir().join(LOCK)).expect("a file to lock");
        turn.lock().expect("our turn");
        Some(Self { folder: tempfile::tempdir().expect("a temporary folder"), _turn: turn })
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(script());
        command.args(words).arg("--state").arg(self.state());
        command
    }

    fn run(&self, words: &[&str]) -> Run {
        Run::of(&mut self.command(words))
    }

    fn device(&self) -> String {
        let state = std::fs::read_to_string(self.state()).expect("a journal");
        let line = state.lines().find_map(|line| line.strip_prefix("device "));
        format!("zram{}", line.expect("a device"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.state().exists() {
            println!("clearing up: {}", self.run(&["down"]).text());
        }
    }
}

/// What must be as before: the sysctls, no device or swap of the size that only these tests make,
/// and no more devices without a size. Others may have zram devices and swap of their own.
fn picture() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = Vec::new();
    for name in ["swappiness", "page-cluster", "watermark_boost_factor", "watermark_scale_factor"] {
        lines.push(format!("{name} {}", read(&format!("/proc/sys/vm/{name}")).trim()));
    }
    for (name, size) in devices() {
        if size == SIZE_BYTES {
            let on = read("/proc/swaps").contains(&format!("/dev/{name} "));
            lines.push(format!("{name}, swap {on}"));
        }
    }
    lines
}

/// zram devices and their sizes in bytes.
fn devices() -> Vec<(String, u64)> {
    let entries = std::fs::read_dir("/sys/block").expect("/sys/block");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let size = |name: &str| std::fs::read_to_string(format!("/sys/block/{name}/disksize")).ok();
    let sized = names.filter_map(|name| Some((size(&name)?.trim().parse().ok()?, name)));
    let mut found: Vec<(String, u64)> = sized.map(|(size, name)| (name, size)).collect();
    found.sort();
    found
}

/// Devices without a size, after waiting for those that others are about to give one.
fn empty_devices(at_most: usize) -> usize {
    let count = || devices().iter().filter(|device| device.1 == 0).count();
    for _ in 0..20 {
        if count() <= at_most {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    count()
}

/// A size that nothing else on this machine has.
const SIZE_BYTES: u64 = 257 << 20;

const SMALL: [&str; 5] = ["up", "--size", "257MiB", "--mem-limit", "64MiB"];

#[test]
fn live_up_status_down() {
    let Some(machine) = Machine::new() else { return };
    let before = picture();
    let run = machine.run(&SMALL);
    assert_eq!(run.code, 0, "{}", run.text());
    let device = machine.device();
    let up = picture();
    assert!(up.contains(&"swappiness 10".to_owned()) && up.contains(&"page-cluster 0".to_owned()));
    assert!(up.contains(&format!("{device}, swap true")), "{up:?}");
    let run = machine.run(&SMALL);
    assert!(run.code == 0 && run.stdout.contains("nothing to do"), "{}", run.text());
    assert_eq!(picture(), up, "run twice changes nothing");
    let status = machine.run(&["status", "--json"]);
    assert_eq!(status.code, 0, "{}", status.text());
    let report: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    let devices = report["devices"].as_array().expect("devices");
    let ours = devices.iter().find(|row| row["owned"] == true).expect("our device");
    assert_eq!(ours["device"], device.as_str());
    assert_eq!(ours["mem_limit_bytes"], 64 << 20);
    let run = machine.run(&["down"]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert_eq!(picture(), before);
}

#[test]
fn live_selftest() {
    let Some(machine) = Machine::new() else { return };
    let before = picture();
    let run = machine.run(&["selftest"]);
    assert!(run.code == 0 && run.stdout.contains("ok    it is gone"), "{}", run.text());
    assert_eq!(picture(), before);
}

#[test]
fn live_selftest_interrupted_leaves_nothing() {
    use std::os::unix::process::CommandExt;
    let Some(_machine) = Machine::new() else { return };
    let (before, empty) = (picture(), empty_devices(usize::MAX));
    for round in 0..10 {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let mut selftest = Command::new(script());
        selftest.arg("selftest").env("TMPDIR", scratch.path()).process_group(0);
        let mut child =
            selftest.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the script");
        std::thread::sleep(Duration::from_millis(10 + 60 * round));
        // As Ctrl-C does: the script and what it started.
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-s", "INT", "--", &group]).status();
        let code = child.wait().expect("the script's end").code();
        // No code: before the traps are set there is nothing to undo.
        assert!(matches!(code, Some(0 | 130) | None), "{round}: {code:?}");
        assert_eq!(picture(), before, "{round}");
        assert!(empty_devices(empty) <= empty, "{round}: {:?}", devices());
        assert!(devices().iter().all(|device| device.1 != 64 << 20), "{round}: {:?}", devices());
        assert_eq!(std::fs::read_dir(scratch.path()).expect("a folder").count(), 0, "{round}");
    }
}

#[test]
fn live_read_only_sys_makes_no_device() {
    let Some(machine) = Machine::new() else { return };
    let empty = empty_devices(usize::MAX);
    let within = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "mount -o remount,bind,ro /sys && exec \"$@\"", "sh"]);
        Run::of(command.args(words))
    };
    if within(&["true"]).code != 0 {
        skipped("a read-only /sys", "no mount namespace can be made here");
        return;
    }
    let (script, state) = (script(), machine.state());
    let words = ["up", "--state"].map(std::ffi::OsStr::new);
    let words = [&[script.as_os_str()], &words[..], &[state.as_os_str()]].concat();
    let words: Vec<&str> = words.iter().map(|word| word.to_str().expect("UTF-8")).collect();
    let run = within(&words);
    assert!(run.code == 1 && run.is_one_line("cannot write /sys"), "{}", run.text());
    assert!(empty_devices(empty) <= empty && !state.exists());
}

#[test]
fn live_busy_device_is_left_and_removed_later() {
    let Some(machine) = Machine::new() else { return };
    let before = picture();
    assert_eq!(machine.run(&SMALL).code, 0);
    let held = File::open(format!("/dev/{}", machine.device())).expect("the device");
    let run = machine.run(&["down"]);
    assert!(run.code == 1 && run.stderr.contains("open; close it"), "{}", run.text());
    drop(held);
    let run = machine.run(&["down"]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert_eq!(picture(), before);
}

/// Ends an `up` at random moments by `signal`, then undoes it; `after` sees what the signal left.
fn interrupted(signal: &str, after: impl Fn(Option<i32>, &[String], &str)) {
    let Some(machine) = Machine::new() else { return };
    let before = picture();
    let empty = empty_devices(usize::MAX);
    let given = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or(0x5eed);
    let mut state = seed;
    for round in 0..KILLS {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_micros((state >> 33) % KILL_AFTER_US_MAX);
        let told = format!("SEED={seed} round {round}, {signal} after {wait:?}");
        let mut up = machine.command(&[&SMALL[..], &["--primary"]].concat());
        let mut child = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the script");
        std::thread::sleep(wait);
        let number = child.id().to_string();
        let _ = Command::new("kill").args(["-s", signal, &number]).stderr(Stdio::null()).status();
        let code = child.wait().expect("the script's end").code();
        // A program that the script had started may be at work for a moment longer.
        std::thread::sleep(Duration::from_millis(50));
        after(code, &before, &told);
        let until = Instant::now() + Duration::from_secs(20);
        let run = loop {
            let run = machine.run(&["down"]);
            if !run.stderr.contains("another zram-setup is at work") || Instant::now() > until {
                break run;
            }
        };
        assert_eq!(run.code, 0, "{told}: {}", run.text());
        assert_eq!(picture(), before, "{told}");
        assert!(empty_devices(empty) <= empty, "{told}: {:?}", devices());
    }
}

#[test]
fn live_killed_anywhere_then_down_is_as_before() {
    interrupted("KILL", |_, _, _| {});
}

#[test]
fn live_told_to_stop_undoes_it_by_itself() {
    interrupted("TERM", |code, before, told| {
        // Before the traps are set there is nothing to undo; after the last line it goes on.
        if code == Some(143) {
            assert_eq!(picture(), before, "{told}");
        }
    });
}

#[test]
fn live_another_user_may_look_but_not_touch() {
    use std::os::unix::process::CommandExt;
    let Some(machine) = Machine::new() else { return };
    let mut as_nobody = machine.command(&["up"]);
    let output = as_nobody.uid(65534).gid(65534).output();
    let Ok(output) = output else {
        skipped("another user", "the script's folder is closed to other users");
        return;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), error.contains("up needs root")), (Some(4), true), "{error}");
}
