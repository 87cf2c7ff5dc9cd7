//! What a pager costs while nothing is paged: threads, descriptors, addresses, memory. (What it
//! costs in time: `cargo bench --bench pager -- cost`.)
//!
//! ```text
//!   test -> this binary again, with the global allocator: plain, paged, sealed
//!             the first large block      what it made
//!             a block filled             memory beyond the block's
//! ```
//!
//! `cargo test -p plimsoll-swap --test pager_cost -- --nocapture` prints the figures of
//! docs/pager.md.

use std::hint::black_box;
use std::process::Command;

use plimsoll_arena::global::Global;
use plimsoll_arena::process::skipped;
use plimsoll_swap::pager::{Paged, probe};

#[global_allocator]
static ALLOC: Global<std::alloc::System, Paged> = Global::new(std::alloc::System, Paged::new());

const CHILD: &str = "PLIMSOLL_COST_CHILD";
const GIB: f64 = (1u64 << 30) as f64;

/// Bytes of the block that is filled.
const FILLED_BYTES: usize = 512 << 20;
const PAGE_WORDS: usize = 4096 / 8;

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

/// The program: one line of numbers. Does nothing in an ordinary run.
#[test]
fn program() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let before = figures();
    black_box(Vec::<u8>::with_capacity(64 << 10));
    let after = figures();
    let mut block = vec![0u64; FILLED_BYTES / 8];
    block.iter_mut().step_by(PAGE_WORDS).for_each(|word| *word = 1);
    let full = figures();
    black_box(block);
    let stats = ALLOC.pages().pager().map(|pager| pager.stats()).unwrap_or_default();
    assert_eq!((stats.written_bytes, stats.read_bytes, stats.packed_bytes), (0, 0, 0), "{stats:?}");
    let [threads, open, addresses, resident] = [0, 1, 2, 3].map(|i| after[i] - before[i]);
    let beyond = full[3] - after[3] - FILLED_BYTES as f64;
    println!("\nresult {threads} {open} {addresses} {resident} {beyond} {}", stats.faults);
}

/// What the program prints under `variables`.
fn run(variables: &[(&str, &str)]) -> [f64; 6] {
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
    numbers.try_into().expect("six numbers")
}

#[test]
fn a_pager_that_has_nothing_to_do_costs_little() {
    if let Err(why) = probe().door {
        skipped("pager_cost", why);
        return;
    }
    let limit = [("PLIMSOLL_LIMIT", "64GiB"), ("PLIMSOLL_SPILL_DIR", "/var/tmp")];
    let sealed = [limit[0], limit[1], ("PLIMSOLL_ENCRYPT_SPILL", "1")];
    let cases: [(&str, &[(&str, &str)]); 3] =
        [("plain", &[]), ("paged", &limit), ("sealed", &sealed)];
    for (case, variables) in cases {
        let [threads, open, addresses, resident, beyond, faults] = run(variables);
        println!(
            "cost case={case} threads={threads} descriptors={open} addresses_GiB={:.0} \
             resident_KiB={:.0} beyond_KiB_per_GiB={:.0} faults={faults}",
            addresses / GIB,
            resident / 1024.0,
            beyond / FILLED_BYTES as f64 * GIB / 1024.0,
        );
        let paged = case != "plain";
        assert_eq!((threads, faults > 0.0), (if paged { 7.0 } else { 0.0 }, paged), "{case}");
        assert!(open <= if paged { 6.0 } else { 0.0 }, "{case}: {open} descriptors");
        assert!(resident < (4u64 << 20) as f64, "{case}: {resident} bytes at the start");
        assert!(beyond < FILLED_BYTES as f64 / 64.0, "{case}: {beyond} bytes beyond the block");
    }
}
