//! A program that knows nothing of paging, under a limit that its data do not fit.
//!
//! ```text
//!   test -> this binary again with PLIMSOLL_LIMIT and PLIMSOLL_SPILL_DIR -> the program
//! ```
//!
//! The program checks what it reads, and that the most it ever had resident (`VmHWM`) is at or
//! under the limit (but for the storms, whose stacks and small blocks are not paged). Each test
//! says loudly when it cannot run here. `PLIMSOLL_STRESS=1` makes the storms eight times as long.

#[path = "common/disk.rs"]
mod disk;
#[path = "common/group.rs"]
mod group;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use plimsoll_arena::global::Global;
use plimsoll_arena::process::skipped;
use plimsoll_swap::backend::Backend;
use plimsoll_swap::extent::ExtentMap;
use plimsoll_swap::file::{RamDisk, SpillFile, Taking};
use plimsoll_swap::pager::{Paged, probe};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use disk::SmallDisk;
use group::Group;

#[global_allocator]
static ALLOC: Global<std::alloc::System, Paged> = Global::new(std::alloc::System, Paged::new());

const PROGRAM: &str = "PLIMSOLL_PAGED_PROGRAM";
const MIB: usize = 1 << 20;

fn word(i: usize, salt: u64) -> u64 {
    (i as u64 ^ salt << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Vectors of 64 MiB that are filled, changed in order, cloned and checked.
fn columns(count: usize) {
    let fill = |salt: u64| (0..8 * MIB).map(|i| word(i, salt)).collect::<Vec<u64>>();
    let mut columns: Vec<Vec<u64>> = (0..count as u64).map(fill).collect();
    for pass in 1..3u64 {
        std::thread::scope(|scope| {
            for half in columns.chunks_mut(count.div_ceil(2)) {
                scope.spawn(move || {
                    for column in half {
                        column.iter_mut().step_by(8).for_each(|x| *x = x.wrapping_add(pass));
                        let copy = column.clone();
                        assert_eq!(copy[MIB], column[MIB]);
                    }
                });
            }
        });
    }
    for (salt, column) in columns.iter().enumerate() {
        for (i, x) in column.iter().enumerate() {
            let added = if i % 8 == 0 { 3 } else { 0 };
            assert_eq!(*x, word(i, salt as u64).wrapping_add(added), "column {salt}, word {i}");
        }
    }
}

/// So many zeros, and words behind them.
type Block = (usize, Vec<u64>);

/// One step of a thread of [`storm`] on one of its nine blocks. They are large ones: what sixteen
/// threads free of small ones stays in the C library's heaps, up to the limit and beyond.
fn change(rng: &mut ChaCha8Rng, blocks: &mut HashMap<u64, Block>, which: u64) {
    let len = 1usize << rng.gen_range(15..20);
    match rng.gen_range(0..4) {
        0 => drop(blocks.insert(which, (len, vec![0; len]))),
        1 => drop(blocks.remove(&rng.gen_range(0..9))),
        2 => {
            let (_, block) = blocks.entry(which).or_default();
            let from = block.len();
            block.extend((from..from + len / 4).map(|i| word(i, which)));
        }
        _ => {
            if let Some((zeros, block)) = blocks.get_mut(&rng.gen_range(0..9)) {
                *zeros = len.min(*zeros);
                block.truncate(len);
                block.shrink_to_fit();
            }
        }
    }
}

/// Sixteen threads that allocate, grow, shrink and free blocks with known contents.
fn storm(seed: u64) {
    // The first block sets the C library's heaps up for the limit; threads that start before it
    // have heaps of their own already.
    drop(std::hint::black_box(vec![1u8; MIB]));
    let together = std::sync::Barrier::new(16);
    std::thread::scope(|scope| {
        for thread in 0..16u64 {
            let together = &together;
            scope.spawn(move || {
                together.wait();
                let mut rng = ChaCha8Rng::seed_from_u64(seed ^ thread);
                let mut blocks = HashMap::new();
                for step in 0..steps(150) as u64 {
                    change(&mut rng, &mut blocks, step % 9);
                    for (salt, (zeros, block)) in &blocks {
                        for i in (0..block.len()).step_by(501) {
                            let expected = if i < *zeros { 0 } else { word(i, *salt) };
                            assert_eq!(block[i], expected, "{step}: {i}");
                        }
                    }
                }
            });
        }
    });
}

/// Steps of a thread, more where time is given.
fn steps(few: usize) -> usize {
    if std::env::var_os("PLIMSOLL_STRESS").is_some() { few * 8 } else { few }
}

/// One chain of `realloc`: a vector grows and shrinks through all sizes, and keeps its words.
fn chain(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut block: Vec<u64> = Vec::new();
    for step in 0..steps(40) {
        let len = 1usize << rng.gen_range(9..22);
        let len = len + rng.gen_range(0..len);
        if len > block.len() {
            block.reserve_exact(len - block.len());
            block.extend((block.len()..len).map(|i| word(i, seed)));
        } else {
            block.truncate(len);
            block.shrink_to_fit();
        }
        for (i, x) in block.iter().enumerate().step_by(101) {
            assert_eq!(*x, word(i, seed), "step {step}, word {i} of {len}");
        }
    }
}

/// Four chains at a time, 130 MiB at most.
fn chains(seed: u64) {
    drop(std::hint::black_box(vec![1u8; MIB]));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || chain(seed ^ thread));
        }
    });
}

/// Churns until it is killed; says when most of it is away.
fn forever() -> ! {
    let mut data: Vec<u64> = (0..64 * MIB / 8).map(|i| word(i, 1)).collect();
    println!("most is away");
    loop {
        data.iter_mut().step_by(512).for_each(|x| *x = x.wrapping_add(1));
    }
}

/// Threads that read at random, four times as much as the limit leaves.
fn thrashing(seconds: u64, threads: u64) {
    let data: Vec<u64> = (0..128 * MIB / 8).map(|i| word(i, 1)).collect();
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let data = &data;
            scope.spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(seed() ^ thread);
                while started.elapsed().as_secs() < seconds {
                    let at = rng.gen_range(0..data.len());
                    assert_eq!(data[at], word(at, 1));
                }
            });
        }
    });
}

fn processors() -> u64 {
    std::thread::available_parallelism().map_or(2, |n| n.get() as u64)
}

/// Small numbers, which pack to a fraction, and noise, which must be written.
fn counters() {
    let small: Vec<u64> = (0..64 * MIB as u64 / 8).map(|i| i % 1000).collect();
    let noise: Vec<u64> = (0..64 * MIB / 8).map(|i| word(i, 1)).collect();
    assert!(small.iter().enumerate().all(|(i, x)| *x == i as u64 % 1000));
    assert!(noise.iter().enumerate().all(|(i, x)| *x == word(i, 1)));
}

/// Half of it in a vector that a thread-local's destructor reads and copies, half in one that is
/// read and copied at exit.
fn last_words() {
    static AT_EXIT: OnceLock<Vec<u64>> = OnceLock::new();
    struct Last(Vec<u64>);
    impl Drop for Last {
        fn drop(&mut self) {
            let copy = std::hint::black_box(self.0.clone());
            assert!(copy.iter().enumerate().all(|(i, x)| *x == word(i, 2)));
        }
    }
    thread_local!(static LAST: RefCell<Option<Last>> = const { RefCell::new(None) });
    extern "C" fn at_exit() {
        let copy = std::hint::black_box(AT_EXIT.get().cloned().unwrap_or_default());
        if copy.is_empty() || copy.iter().enumerate().any(|(i, x)| *x != word(i, 3)) {
            std::process::abort();
        }
        eprintln!("read at exit");
    }
    let fill = |salt| (0..32 * MIB / 8).map(|i| word(i, salt)).collect::<Vec<u64>>();
    AT_EXIT.set(fill(3)).expect("set once");
    // SAFETY: the function is sound at any time.
    assert_eq!(unsafe { nix::libc::atexit(at_exit) }, 0);
    for _ in 0..4 {
        let thread = std::thread::spawn(move || {
            LAST.with_borrow_mut(|last| *last = Some(Last(fill(2))));
        });
        thread.join().expect("its destructors, too");
    }
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim_end_matches("kB").trim().parse::<usize>().expect("a number") << 10
}

/// A limit that code lowers and raises while most is resident.
fn moving_limit() {
    let data: Vec<u64> = (0..128 * MIB / 8).map(|i| word(i, 1)).collect();
    let budget = || ALLOC.pages().pager().expect("the test asked for one").stats().budget_bytes;
    let all_there = || data.iter().enumerate().step_by(501).all(|(i, x)| *x == word(i, 1));
    assert!(resident_bytes() > 128 * MIB && budget() > 128 << 20);
    assert_eq!(ALLOC.set_limit(64 * MIB), 256 * MIB);
    let (resident, lowered) = (resident_bytes(), budget());
    assert!(resident <= 64 * MIB && lowered < 64 << 20, "{resident} resident, {lowered} allowed");
    assert!(all_there() && resident_bytes() <= 64 * MIB);
    assert_eq!(ALLOC.set_limit(400 * MIB), 64 * MIB);
    assert!(budget() > 300 << 20, "{} allowed", budget());
    assert!(all_there() && resident_bytes() > 128 * MIB, "{} resident", resident_bytes());
}

/// A limit that comes from code alone, before anything large.
fn limit_from_code() {
    assert_eq!(ALLOC.set_limit(64 * MIB), usize::MAX);
    commands();
}

fn commands() {
    let data: Vec<u64> = (0..64 * MIB / 8).map(|i| word(i, 1)).collect();
    for round in 0..20 {
        let mut command = Command::new("echo");
        if round % 2 == 0 {
            // SAFETY: the function does nothing. With one, a program is started by fork and exec.
            unsafe { command.pre_exec(|| Ok(())) };
        }
        let output = command.arg(round.to_string()).output();
        assert_eq!(output.expect("a program").stdout, format!("{round}\n").into_bytes());
        let at = round * 100_003;
        assert_eq!(data[at], word(at, 1));
    }
}

/// Says what the limit came to, and that there is a pager under it.
fn limited() {
    assert_eq!(std::hint::black_box(vec![1u8; MIB])[77], 1);
    assert!(ALLOC.pages().pager().is_some());
    eprintln!("limit {}", ALLOC.limit_bytes());
}

/// The program. Does nothing in an ordinary run.
#[test]
fn program() {
    let Ok(program) = std::env::var(PROGRAM) else { return };
    match program.as_str() {
        "columns" => columns(8),
        "commands" => commands(),
        "limit" => return limited(),
        "forever" => forever(),
        "last words" => last_words(),
        "moving limit" => moving_limit(),
        "limit from code" => limit_from_code(),
        "counters" => counters(),
        "thrashing" => thrashing(15, 4 * processors()),
        "thrashing alone" => thrashing(15, 1),
        "thrashing for long" => thrashing(90, 4 * processors()),
        "chains" => chains(seed()),
        "storm" => storm(seed()),
        other => panic!("no program {other}"),
    }
    let pager = ALLOC.pages().pager().expect("the test asked for one");
    let stats = pager.stats();
    eprintln!("{stats:?}");
    assert!(stats.written_bytes > 0, "nothing was evicted");
    if std::env::var_os("PLIMSOLL_ENCRYPT_SPILL").is_some() {
        assert!(stats.sealed_bytes > 0 && stats.sealed_bytes == stats.written_bytes);
    }
    ALLOC.check().expect("the allocator's books");
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    let number = line.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok());
    let (kilobytes, limit) = (number.expect("a number"), ALLOC.limit_bytes());
    eprintln!("{line}, {} kB allowed", limit / 1024);
    assert!(kilobytes * 1024 <= limit, "{line} over {limit} bytes");
}

/// What a program of this run is seeded with, and says.
fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    eprintln!("SEED={seed}");
    seed
}

/// A command that runs a program under a limit; `wrapped` in a shell's words if there are any.
fn command(program: &str, limit: &str, wrapped: &[&str]) -> Option<Command> {
    if let Err(why) = probe().door {
        skipped("pager_global", why);
        return None;
    }
    let this = std::env::current_exe().expect("this binary");
    let mut command = match wrapped {
        [] => Command::new(this),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(this);
            command
        }
    };
    command.args(["--exact", "program", "--nocapture"]).env(PROGRAM, program);
    command.env("PLIMSOLL_LIMIT", limit).env("PLIMSOLL_SPILL_DIR", "/var/tmp");
    Some(command)
}

/// The program under a limit, and under what else is set; what it said.
fn output(program: &str, limit: &str, variables: &[(&str, &str)]) -> Option<(bool, String)> {
    let mut command = command(program, limit, &[])?;
    command.envs(variables.iter().copied());
    let output = command.output().expect("a child");
    Some((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn run(program: &str, limit: usize) {
    let Some((success, text)) = output(program, &limit.to_string(), &[]) else { return };
    assert!(success, "{program} under {limit}: {text}");
    eprintln!("{text}");
}

#[test]
fn half_a_gigabyte_of_columns_under_a_third_of_it() {
    run("columns", 180 * MIB);
}

#[test]
fn a_storm_of_sixteen_threads_under_a_small_limit() {
    run("storm", 96 * MIB);
}

#[test]
fn chains_of_realloc_keep_their_words_while_most_is_spilled() {
    run("chains", 40 * MIB);
}

#[test]
fn a_killed_program_leaves_no_file_and_no_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut command) = command("forever", "32MiB", &[]) else { return };
    command.env("PLIMSOLL_SPILL_DIR", folder.path()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let away = lines.any(|line| line.is_ok_and(|line| line.contains("most is away")));
    child.kill().expect("a child to kill");
    let status = child.wait().expect("an end");
    assert!(away && status.signal() == Some(nix::libc::SIGKILL), "{status}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn programs_are_started_while_most_is_spilled() {
    run("commands", 32 * MIB);
}

#[test]
fn a_share_and_auto_are_limits_too() {
    let limit = |text: &str| -> Option<usize> {
        let (success, said) = output("limit", text, &[])?;
        assert!(success, "{text}: {said}");
        let line = said.lines().find_map(|line| line.strip_prefix("limit "));
        Some(line.expect("a line").parse().expect("a number"))
    };
    // Shares that are there whatever else the machine is used for.
    let (Some(large), Some(small), Some(auto)) = (limit("4%"), limit("2%"), limit("auto")) else {
        return;
    };
    assert!(large.abs_diff(2 * small) <= 2 && auto < usize::MAX, "{large} {small} {auto}");
}

#[test]
fn what_a_program_spills_is_encrypted_where_the_environment_says_so() {
    let sealed = [("PLIMSOLL_ENCRYPT_SPILL", "1")];
    let Some((success, text)) = output("commands", "33554432", &sealed) else { return };
    assert!(success, "{text}");
}

#[test]
fn a_full_quota_ends_the_process_and_is_named() {
    let quota = [("PLIMSOLL_SPILL_QUOTA", "64MiB")];
    let Some((success, text)) = output("columns", "180MiB", &quota) else { return };
    assert!(!success && text.contains("the spill quota of 67108864 bytes is used up"), "{text}");
}

#[test]
fn a_quota_that_is_not_understood_is_said_once_and_changes_nothing() {
    let quota = [("PLIMSOLL_SPILL_QUOTA", "lots")];
    let Some((success, text)) = output("commands", "33554432", &quota) else { return };
    assert!(success, "{text}");
    assert_eq!(text.matches("PLIMSOLL_SPILL_QUOTA is not understood").count(), 1, "{text}");
}

/// Four programs that mostly wait for pages, side by side: each is told, for as long as that takes.
#[test]
fn a_limit_that_is_too_small_is_said_once_and_fail_fast_ends_the_process() {
    let fail_fast: &[_] = &[("PLIMSOLL_FAIL_FAST", "1")];
    std::thread::scope(|scope| {
        scope.spawn(|| told_with_a_larger_one(output("thrashing", "48MiB", &[])));
        for limit in ["24MiB", "2MiB"] {
            scope.spawn(move || told_once(limit, output("thrashing alone", limit, &[])));
        }
        scope.spawn(|| ended_by_fail_fast(output("thrashing for long", "48MiB", fail_fast)));
    });
}

/// Whether a program ended well, and what it said.
type Told = Option<(bool, String)>;

fn told_with_a_larger_one(told: Told) {
    let Some((success, text)) = told else { return };
    assert!(success, "{text}");
    let said: Vec<_> = text.lines().filter(|line| line.contains("threads wait for")).collect();
    let [line] = said[..] else { panic!("said {} times: {text}", said.len()) };
    let number = |line: &str| line.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    let limit = line.split("with a limit of ").nth(1).and_then(number).expect("a number");
    assert!(limit > 48 && line.contains("MiB instead of 48;"), "{line}");
    assert!(line.contains("% of what left memory") && line.contains("PLIMSOLL_FAIL_FAST=1"));
}

/// One thread that waits is told, too, and under the smallest limit.
fn told_once(limit: &str, told: Told) {
    let Some((_, text)) = told else { return };
    assert_eq!(text.matches("threads wait for pages").count(), 1, "{limit}: {text}");
}

fn ended_by_fail_fast(told: Told) {
    let Some((success, text)) = told else { return };
    assert!(!success && text.contains("fail-fast is on"), "{text}");
    assert!(text.contains("MiB instead of 48"), "{text}");
}

#[test]
fn destructors_of_thread_locals_and_functions_at_exit_see_what_was_spilled() {
    let Some((success, text)) = output("last words", "48MiB", &[]) else { return };
    assert!(success && text.contains("read at exit"), "{text}");
}

#[test]
fn a_limit_set_from_code_reaches_the_pager() {
    run("moving limit", 256 * MIB);
}

#[test]
fn a_limit_set_from_code_before_the_first_block_makes_a_pager() {
    let Some(mut command) = command("limit from code", "", &[]) else { return };
    let output = command.env_remove("PLIMSOLL_LIMIT").output().expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_environment_bounds_packed_memory() {
    let packed = |limit: &str| -> Option<u64> {
        let variables = [("PLIMSOLL_PACKED_LIMIT", limit)];
        let (success, text) = output("counters", "64MiB", &variables)?;
        assert!(success, "{limit}: {text}");
        let number = text.split("packed_bytes: ").nth(1).and_then(|rest| rest.split(',').next());
        Some(number.expect("a counter").parse().expect("a number"))
    };
    assert!(packed("").is_none_or(|bytes| bytes > 0));
    assert!(packed("0").is_none_or(|bytes| bytes == 0));
}

#[test]
fn with_few_addresses_the_range_is_smaller_and_paged() {
    let capped = format!("ulimit -v {} && exec \"$@\"", 2 << 20);
    let capped = ["sh", "-c", &capped, "sh"];
    let Some(mut command) = command("commands", "64MiB", &capped) else { return };
    let output = command.output().expect("a child");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !text.contains("no paging"), "{text}");
}

#[test]
fn auto_keeps_a_program_inside_its_memory_cgroup() {
    let Some(group) = Group::new("auto", 200 * MIB) else { return };
    let joined = group.joined("");
    let Some(mut command) = command("columns", "auto", &["sh", "-c", &joined, "sh"]) else {
        return;
    };
    let output = command.output().expect("a child");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
    let peak = group.read("memory.max_usage_in_bytes");
    eprintln!("{text}cgroup's peak: {peak} of {} bytes", 200 * MIB);
}

/// The group's files in memory fill it; the kernel has to take them away for each page of ours.
#[test]
fn a_memory_cgroup_that_is_full_of_cached_files_gives_way() {
    let Some(group) = Group::new("full", 200 * MIB) else { return };
    let folder = tempfile::Builder::new().tempdir_in("/var/tmp").expect("a folder");
    let file = folder.path().join("cached");
    // What counts is how often the program alone was refused.
    let joined = group.joined(&format!(
        "dd if=/dev/zero of={} bs=1M count=300 conv=fsync 2> /dev/null; \
         echo 0 > {}/memory.failcnt;",
        file.display(),
        group.0.display()
    ));
    let Some(mut command) = command("columns", "184MiB", &["sh", "-c", &joined, "sh"]) else {
        return;
    };
    let output = command.output().expect("a child");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
    let (refused, peak) = (group.read("memory.failcnt"), group.read("memory.max_usage_in_bytes"));
    eprintln!("{text}at the cgroup's limit {refused} times, peak {peak}");
    assert!(refused > 0 && peak > 199 * MIB, "{refused} times, {peak} bytes");
}

#[test]
fn a_disk_that_fills_up_ends_the_process_and_is_named() {
    let Some(disk) = SmallDisk::new(150, "ext4") else { return };
    let Some(mut command) = command("columns", "180MiB", &[]) else { return };
    let output = command.env("PLIMSOLL_SPILL_DIR", disk.folder()).output().expect("a child");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(nix::libc::SIGABRT), "{text}");
    assert!(text.contains("the pager cannot go on") && text.contains("disk is full"), "{text}");
}

#[test]
fn a_file_system_without_fallocate_is_spilled_to() {
    let Some(disk) = SmallDisk::new(300, "ext2") else { return };
    let Some(mut command) = command("commands", "32MiB", &[]) else { return };
    let output = command.env("PLIMSOLL_SPILL_DIR", disk.folder()).output().expect("a child");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let file = SpillFile::open(&disk.folder(), RamDisk::Refuse).expect("a file");
    let extent = ExtentMap::new(1 << 20).alloc(1 << 20).expect("an extent");
    file.reserve(extent).expect("space");
    assert_eq!((file.taking(), file.len_bytes()), (Taking::Zeros, 1 << 20));
}

#[test]
fn a_disk_without_room_for_the_first_extent_is_known_when_the_pager_starts() {
    for kind in ["ext4", "ext2"] {
        let Some(disk) = SmallDisk::new(40, kind) else { return };
        let Some(mut command) = command("limit", "32MiB", &[]) else { return };
        let output = command.env("PLIMSOLL_SPILL_DIR", disk.folder()).output().expect("a child");
        let text = String::from_utf8_lossy(&output.stderr);
        // The program looks for a pager, and there is none.
        assert!(!output.status.success(), "{kind}: {text}");
        assert_eq!(text.matches("no paging").count(), 1, "{kind}: {text}");
        assert!(text.contains("the disk is full"), "{kind}: {text}");
        assert!(!text.contains("the pager cannot go on"), "{kind}: {text}");
    }
}
