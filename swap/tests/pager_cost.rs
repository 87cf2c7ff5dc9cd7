//! What a pager costs while nothing is paged: threads, descriptors, addresses, memory, time.
//!
//! ```text
//!   test -> this binary again, with the global allocator: plain, paged, sealed
//!             the first large block      its time, and what it made
//!             a block filled, and again  seconds, and memory beyond the block's
//! ```
//!
//! `cargo test --release -p plimsoll-swap --test pager_cost -- --nocapture` prints the figures of
//! docs/pager.md. What is counted is held to bounds; times are printed alone.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::libc;
use plimsoll_arena::global::Global;
use plimsoll_swap::pager::{Paged, probe};

#[global_allocator]
static ALLOC: Global<std::alloc::System, Paged> = Global::new(std::alloc::System, Paged::new());

const CHILD: &str = "PLIMSOLL_COST_CHILD";
const GIB: f64 = (1u64 << 30) as f64;

/// Bytes of the block that is filled.
const FILLED_BYTES: usize = 512 << 20;
const PAGE_WORDS: usize = 4096 / 8;
const PAIRS: u32 = 20_000;

/// Threads, descriptors, bytes of addresses, resident bytes.
fn figures() -> [f64; 4] {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        let word = line.split_whitespace().next().expect("a number");
        word.parse::<f64>().expect("a number")
    };
    let open = std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
    [of("Threads:"), open as f64, of("VmSize:") * 1024.0, of("VmRSS:") * 1024.0]
}

/// Writes a word in each page; seconds.
fn fill(block: &mut [u64], value: u64) -> f64 {
    let started = Instant::now();
    for word in block.iter_mut().step_by(PAGE_WORDS) {
        *word = value;
    }
    started.elapsed().as_secs_f64()
}

/// Nanoseconds to take and to give back a block of 1 MiB that nobody touches.
fn pair_ns() -> f64 {
    let started = Instant::now();
    for _ in 0..PAIRS {
        drop(black_box(Vec::<u8>::with_capacity(1 << 20)));
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(PAIRS)
}

/// Milliseconds of processor time that the process takes in a second in which it does nothing.
fn idle_ms() -> f64 {
    let cpu_ms = || {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one timespec.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
        now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
    };
    let before = cpu_ms();
    std::thread::sleep(Duration::from_secs(1));
    cpu_ms() - before
}

/// The program: one line of numbers. Does nothing in an ordinary run.
#[test]
fn program() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let before = figures();
    let started = Instant::now();
    let first: Vec<u8> = Vec::with_capacity(64 << 10);
    let made = started.elapsed().as_secs_f64();
    black_box(&first);
    let after = figures();
    let mut block = vec![0u64; FILLED_BYTES / 8];
    let (fresh, again) = (fill(&mut block, 1), fill(&mut block, 2));
    let full = figures();
    drop(block);
    let mut block = vec![0u64; FILLED_BYTES / 8];
    let (reused, pair, idle) = (fill(&mut block, 3), pair_ns(), idle_ms());
    let stats = ALLOC.pages().pager().map(|pager| pager.stats()).unwrap_or_default();
    assert_eq!((stats.written_bytes, stats.read_bytes, stats.packed_bytes), (0, 0, 0), "{stats:?}");
    let [threads, open, addresses, resident] = [0, 1, 2, 3].map(|i| after[i] - before[i]);
    let beyond = full[3] - after[3] - FILLED_BYTES as f64;
    let numbers = [
        made,
        threads,
        open,
        addresses,
        resident,
        beyond,
        fresh,
        again,
        reused,
        pair,
        idle,
        stats.faults as f64,
    ];
    let words = numbers.map(|number| number.to_string());
    println!("\nresult {}", words.join(" "));
}

/// What the program prints under `variables`.
fn run(variables: &[(&str, &str)]) -> [f64; 12] {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "program", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    for name in ["PLIMSOLL_LIMIT", "PLIMSOLL_SPILL_DIR", "PLIMSOLL_ENCRYPT_SPILL"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    let output = command.output().expect("a child");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), output.stderr);
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&err));
    let line = out.lines().find_map(|line| line.strip_prefix("result ")).expect("a result");
    let numbers: Vec<f64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
    numbers.try_into().expect("twelve numbers")
}

#[test]
fn a_pager_that_has_nothing_to_do_costs_little() {
    if let Err(why) = probe().door {
        eprintln!("SKIPPED, nothing was tested: {why}");
        return;
    }
    let limit = [("PLIMSOLL_LIMIT", "64GiB"), ("PLIMSOLL_SPILL_DIR", "/var/tmp")];
    let sealed = [limit[0], limit[1], ("PLIMSOLL_ENCRYPT_SPILL", "1")];
    let cases: [(&str, &[(&str, &str)]); 3] =
        [("plain", &[]), ("paged", &limit), ("sealed", &sealed)];
    for (case, variables) in cases {
        let [
            made,
            threads,
            open,
            addresses,
            resident,
            beyond,
            fresh,
            again,
            reused,
            pair,
            idle,
            faults,
        ] = run(variables);
        let per_gib = beyond / FILLED_BYTES as f64 * GIB / 1024.0;
        println!(
            "cost case={case} first_block_ms={:.2} threads={threads} descriptors={open} \
             addresses_GiB={:.0} resident_KiB={:.0} beyond_KiB_per_GiB={per_gib:.0} \
             fill_s_per_GiB={:.3} again={:.3} reused={:.3} pair_ns={pair:.0} \
             idle_ms_per_s={idle:.1} faults={faults}",
            made * 1e3,
            addresses / GIB,
            resident / 1024.0,
            fresh * GIB / FILLED_BYTES as f64,
            again * GIB / FILLED_BYTES as f64,
            reused * GIB / FILLED_BYTES as f64,
        );
        let paged = case != "plain";
        assert_eq!((threads, faults > 0.0), (if paged { 7.0 } else { 0.0 }, paged), "{case}");
        assert!(open <= if paged { 6.0 } else { 0.0 }, "{case}: {open} descriptors");
        assert!(resident < (4u64 << 20) as f64, "{case}: {resident} bytes at the start");
        assert!(beyond < FILLED_BYTES as f64 / 64.0, "{case}: {beyond} bytes beyond the block");
    }
}
