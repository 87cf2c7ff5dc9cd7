//! Memory cgroups that are real: limits that change, processes that are moved, several of them with
//! `auto` in one, and a container that sees its own group only.
//!
//! ```text
//!   test -> this binary again, inside a cgroup, with PLIMSOLL_LIMIT -> the program
//!   "fill"     fills and checks 96 MiB
//!   "follow"   prints the limit again and again, until its input ends
//! ```
//!
//! They need root and cgroup v1; each says loudly when it cannot run here. Layouts that this
//! machine has not (v2, hybrid, namespaces) are trees of files in `src/meter/tests`.

#![cfg(target_os = "linux")]

use plimsoll::Allocator;
use plimsoll_arena::process::{LIMIT_VARIABLE, SPILL_DIR_VARIABLE, skipped};
use plimsoll_swap::pager::probe;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[global_allocator]
static ALLOC: Allocator = Allocator::system();

const PROGRAM: &str = "PLIMSOLL_CGROUP_PROGRAM";
const MIB: usize = 1 << 20;

fn word(at: usize, salt: u64) -> u64 {
    (at as u64 ^ salt << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) ^ salt
}

/// Twelve vectors of 8 MiB, filled and checked.
fn fill() {
    let make = |salt: u64| (0..MIB).map(|at| word(at, salt)).collect::<Vec<u64>>();
    let all: Vec<Vec<u64>> = (0..12).map(make).collect();
    for (salt, values) in all.iter().enumerate() {
        assert!(values.iter().enumerate().all(|(at, value)| *value == word(at, salt as u64)));
    }
}

/// Says what the limit is, fifty times a second, until the input ends.
fn follow() {
    let ended = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let kept = std::hint::black_box(vec![1u8; 4 * MIB]);
    println!("\nbegun");
    while !ended.is_finished() {
        // The pager looks by itself; without one, whoever allocates does.
        drop(std::hint::black_box(vec![1u8; 8 * MIB]));
        ALLOC.reclaim(usize::MAX);
        println!("limit {}", ALLOC.limit_bytes());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(kept[77], 1);
}

/// The program. Does nothing in an ordinary run.
#[test]
fn program() {
    match std::env::var(PROGRAM).as_deref() {
        Ok("fill") => fill(),
        Ok("follow") => follow(),
        _ => {}
    }
}

/// A memory cgroup (v1) of a test's own; drop removes it.
struct Group(PathBuf);

impl Group {
    /// `None` where the machine does not let us, which is said.
    fn new(name: &str, limit_bytes: usize) -> Option<Self> {
        let name = format!("plimsoll-test-{name}-{}", std::process::id());
        Self::make(Path::new("/sys/fs/cgroup/memory").join(name), limit_bytes)
            .inspect_err(|why| {
                skipped("a memory cgroup", format_args!("none can be made here: {why}"));
            })
            .ok()
    }

    fn make(folder: PathBuf, limit_bytes: usize) -> std::io::Result<Self> {
        std::fs::create_dir(&folder)?;
        let group = Self(folder);
        std::fs::write(group.0.join("memory.limit_in_bytes"), limit_bytes.to_string())?;
        Ok(group)
    }

    fn below(&self, name: &str, limit_bytes: usize) -> Self {
        Self::make(self.0.join(name), limit_bytes).expect("a group below one of our own")
    }

    fn limit(&self, bytes: usize) {
        let file = self.0.join("memory.limit_in_bytes");
        std::fs::write(file, bytes.to_string()).expect("more than is used");
    }

    fn kills(&self) -> usize {
        let text = std::fs::read_to_string(self.0.join("memory.oom_control")).expect("a file");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.parse().ok()).expect("since Linux 4.13")
    }

    /// This binary as a program, inside the group.
    fn start(&self, program: &str, limit: &str) -> Child {
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.0.display());
        self.run(&["sh", "-c", &enter, "sh"], program, limit)
    }

    fn run(&self, wrapped: &[&str], program: &str, limit: &str) -> Child {
        let mut command = Command::new(wrapped[0]);
        command.args(&wrapped[1..]).arg(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "program", "--nocapture", "--test-threads=1"]);
        command.env(PROGRAM, program).env(LIMIT_VARIABLE, limit);
        command.env(SPILL_DIR_VARIABLE, "/var/tmp");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("a shell")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(why) = std::fs::remove_dir(&self.0) {
            eprintln!("{} stays: {why}", self.0.display());
        }
    }
}

/// A cgroup's limit less the margin.
fn allowed(limit_bytes: usize) -> usize {
    limit_bytes - (16 * MIB).max(limit_bytes / 32)
}

/// Waits until a program says that its limit is `expected`, give or take what a count of the
/// group's may be late by.
fn until(lines: &mut impl Iterator<Item = std::io::Result<String>>, expected: usize) {
    let mut said = 0;
    // Twenty seconds of lines, and more where others have the processors.
    for line in lines.take(1000) {
        let line = line.expect("UTF-8");
        if let Some(limit) = line.strip_prefix("limit ").and_then(|text| text.parse().ok()) {
            said = limit;
            if expected.abs_diff(limit) <= 2 * MIB {
                return;
            }
        }
    }
    panic!("{expected} was never the limit, last it was {said}");
}

/// Runs `act` on a program that follows its limit, whose lines it gets.
fn following(
    mut child: Child,
    act: impl FnOnce(&Child, &mut dyn Iterator<Item = std::io::Result<String>>),
) {
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    act(&child, &mut lines);
    // Its input ends, and so does it; what it says last is read, so that it can.
    drop(child.stdin.take());
    lines.for_each(drop);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_limit_that_changes_and_a_process_that_moves_are_followed() {
    let Some(group) = Group::new("follow", 300 * MIB) else { return };
    let inner = group.below("inner", 120 * MIB);
    following(group.start("follow", "auto"), |child, mut lines| {
        until(&mut lines, allowed(300 * MIB));
        group.limit(200 * MIB);
        until(&mut lines, allowed(200 * MIB));
        group.limit(600 * MIB);
        until(&mut lines, allowed(600 * MIB));
        std::fs::write(inner.0.join("cgroup.procs"), child.id().to_string()).expect("moved");
        until(&mut lines, allowed(120 * MIB));
        inner.limit(100 * MIB);
        until(&mut lines, allowed(100 * MIB));
    });
    // A size is followed as far down as the group goes, and no further up than it was asked for.
    following(group.start("follow", "150Mi"), |_, mut lines| {
        until(&mut lines, 150 * MIB);
        group.limit(140 * MIB);
        until(&mut lines, allowed(140 * MIB));
        group.limit(400 * MIB);
        until(&mut lines, 150 * MIB);
    });
}

#[test]
fn several_processes_with_auto_share_one_group() {
    if let Err(why) = probe().door {
        skipped("cgroups", why);
        return;
    }
    let Some(group) = Group::new("several", 200 * MIB) else { return };
    let children: Vec<Child> = (0..4).map(|_| group.start("fill", "auto")).collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {text}", output.status);
    }
    assert_eq!(group.kills(), 0);
}

/// Without `/proc` nobody can say what `auto` comes to: that is said, and the program runs.
#[test]
fn an_auto_that_nobody_can_resolve_is_said() {
    let Some(group) = Group::new("blind", 300 * MIB) else { return };
    let blind = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"];
    for (limit, is_said) in [("auto", true), ("50%", true), ("64MiB", false), ("none", false)] {
        let output = group.run(&blind, "fill", limit).wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{limit}: {}: {text}", output.status);
        let said = text.contains("/proc does not say what there is: there is no limit");
        assert_eq!(said, is_said, "{limit}: {text}");
    }
}

/// The limit is the pod's; the container's own group, which is all that can be seen, has none.
#[test]
fn a_limit_above_what_a_container_sees_is_kept_to() {
    if let Err(why) = probe().door {
        skipped("cgroups", why);
        return;
    }
    let Some(pod) = Group::new("pod", 100 * MIB) else { return };
    let container = pod.below("container", 8 << 40);
    let enter = format!(
        "echo $$ > {0}/cgroup.procs; mount --bind {0} /sys/fs/cgroup/memory && exec \"$@\"",
        container.0.display()
    );
    for limit in ["auto", "75%", "400MiB"] {
        let wrapped = ["unshare", "-m", "sh", "-c", &enter, "sh"];
        let child = container.run(&wrapped, "fill", limit);
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{limit}: {}: {text}", output.status);
        let lowered = text.contains("but the cgroup allows 104857600");
        assert_eq!(lowered, limit == "400MiB", "{limit}: {text}");
    }
    assert_eq!(container.kills(), 0);
}
