//! A program that does to its vectors what it may do to any memory: the same comes of it.
//!
//! ```text
//!   test -> this binary again with PLIMSOLL_LIMIT and PLIMSOLL_SPILL_DIR -> the program
//! ```
//!
//! A program fills a vector, lets it be evicted or not, asks the kernel for something, goes on
//! under its limit, and compares every word. Each test says loudly when it cannot run here.

#![cfg(target_os = "linux")]

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use plimsoll_arena::global::Global;
use plimsoll_arena::process::skipped;
use plimsoll_swap::pager::{Paged, PagerStats, cold, probe};

#[global_allocator]
static ALLOC: Global<std::alloc::System, Paged> = Global::new(std::alloc::System, Paged::new());

const PROGRAM: &str = "PLIMSOLL_PAGED_PROGRAM";
const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
const LIMIT: &str = "24MiB";

/// Vectors of 8 MiB that come to twice the limit.
const OTHERS: u64 = 6;

/// Words that do not pack.
fn word(i: usize, salt: u64) -> u64 {
    let x = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt << 17;
    (x ^ x >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

fn noise(bytes: usize, salt: u64) -> Vec<u64> {
    (0..bytes / 8).map(|i| word(i, salt)).collect()
}

fn stats() -> PagerStats {
    ALLOC.pages().pager().expect("the test asked for one").stats()
}

/// A vector of 8 MiB, and what pushes it out.
struct Vector {
    words: Vec<u64>,
    others: Vec<Vec<u64>>,
}

impl Vector {
    fn new() -> Self {
        Self { words: noise(8 * MIB, 7), others: Vec::new() }
    }

    /// Fills and reads twice the limit.
    fn churn(&mut self) {
        self.others = (0..OTHERS).map(|salt| noise(8 * MIB, salt)).collect();
        for (salt, other) in self.others.iter().enumerate() {
            assert!(other.iter().enumerate().all(|(i, x)| *x == word(i, salt as u64)));
        }
    }

    /// A page `pages` into the vector's whole chunks.
    fn page(&self, pages: usize) -> *mut u8 {
        let start = self.words.as_ptr().cast::<u8>();
        let skipped = start.align_offset(2 * MIB);
        assert!(skipped + pages * PAGE < 8 * MIB);
        start.wrapping_add(skipped + pages * PAGE).cast_mut()
    }

    fn index(&self, pages: usize) -> usize {
        (self.page(pages).addr() - self.words.as_ptr().addr()) / 8
    }

    /// All words are what was written, but for those of `pages` from `first` on, which `holds`
    /// judges.
    fn check(&self, first: usize, pages: usize, holds: impl Fn(usize, u64) -> bool) {
        let part = self.index(first)..self.index(first) + pages * PAGE / 8;
        for (i, x) in self.words.iter().enumerate() {
            let right = if part.contains(&i) { holds(i, *x) } else { *x == word(i, 7) };
            assert!(right, "word {i} of {part:?}: {x:x}");
        }
    }
}

/// Ranges of pages: whole chunks, granules, and parts of both.
const RANGES: [(usize, usize); 6] = [(0, 1024), (16, 16), (3, 2), (17, 40), (500, 30), (31, 481)];

fn advise(vector: &Vector, first: usize, pages: usize, advice: i32) -> i32 {
    // SAFETY: advice on memory of this program's own, whose contents it expects to change.
    unsafe { libc::madvise(vector.page(first).cast(), pages * PAGE, advice) }
}

/// What was dropped reads zero, and is as good as new.
fn dropped(evicted: bool) {
    for (first, pages) in RANGES {
        let mut vector = Vector::new();
        if evicted {
            vector.churn();
        }
        assert_eq!(advise(&vector, first, pages, libc::MADV_DONTNEED), 0);
        vector.check(first, pages, |_, x| x == 0);
        vector.churn();
        vector.check(first, pages, |_, x| x == 0);
        let part = vector.index(first)..vector.index(first) + pages * PAGE / 8;
        part.for_each(|i| vector.words[i] = word(i, 9));
        vector.churn();
        vector.check(first, pages, |i, x| x == word(i, 9));
    }
}

/// Two threads drop and write one granule's pages in turns, while another pushes all of it out.
fn dropped_beside_others() {
    let mut vector = Vector::new();
    let start = vector.words.as_mut_ptr().addr();
    let pages = [vector.page(5).addr(), vector.page(9).addr()];
    std::thread::scope(|scope| {
        for (salt, page) in pages.into_iter().enumerate() {
            scope.spawn(move || {
                for round in 0..400u64 {
                    let words = std::ptr::with_exposed_provenance_mut::<u64>(page);
                    // SAFETY: this thread's page alone.
                    let words = unsafe { std::slice::from_raw_parts_mut(words, PAGE / 8) };
                    words.fill(round << 1 | salt as u64);
                    std::thread::yield_now();
                    assert!(words.iter().all(|x| *x == round << 1 | salt as u64));
                    let start = words.as_mut_ptr().cast();
                    // SAFETY: this thread's page alone, of which it expects nothing.
                    assert_eq!(unsafe { libc::madvise(start, PAGE, libc::MADV_DONTNEED) }, 0);
                    assert!(words.iter().all(|x| *x == 0), "round {round}");
                }
            });
        }
        scope.spawn(|| (0..4).for_each(|_| Vector { words: Vec::new(), others: vec![] }.churn()));
    });
    assert_eq!(vector.words.as_mut_ptr().addr(), start);
    vector.check(5, 5, |i, x| {
        let page = (i * 8 + start - vector.page(0).addr()) / PAGE;
        if page == 5 || page == 9 { x == 0 } else { x == word(i, 7) }
    });
}

/// Advice that changes no contents, and what may.
fn advised(evicted: bool) {
    let keep = [
        libc::MADV_COLD,
        libc::MADV_PAGEOUT,
        libc::MADV_WILLNEED,
        libc::MADV_SEQUENTIAL,
        libc::MADV_RANDOM,
        libc::MADV_NORMAL,
        libc::MADV_HUGEPAGE,
        libc::MADV_NOHUGEPAGE,
        libc::MADV_DONTFORK,
        libc::MADV_WIPEONFORK,
        libc::MADV_KEEPONFORK,
        libc::MADV_DONTDUMP,
        libc::MADV_POPULATE_READ,
        libc::MADV_POPULATE_WRITE,
    ];
    for advice in keep {
        let mut vector = Vector::new();
        if evicted {
            vector.churn();
        }
        for (first, pages) in RANGES {
            assert_eq!(advise(&vector, first, pages, advice), 0, "advice {advice}");
        }
        vector.check(0, 0, |_, _| false);
        vector.churn();
        vector.check(0, 0, |_, _| false);
    }
    let mut vector = Vector::new();
    if evicted {
        vector.churn();
    }
    assert_eq!(advise(&vector, 3, 40, libc::MADV_REMOVE), -1, "anonymous memory has no file");
    assert_eq!(advise(&vector, 3, 40, libc::MADV_FREE), 0);
    vector.churn();
    vector.check(3, 40, |i, x| x == 0 || x == word(i, 7));
}

/// Pages that may not be written or touched for a while.
fn protected(evicted: bool) {
    for (first, pages) in RANGES {
        for access in [libc::PROT_READ, libc::PROT_NONE] {
            let mut vector = Vector::new();
            if evicted {
                vector.churn();
            }
            let (start, bytes) = (vector.page(first), pages * PAGE);
            // SAFETY: memory of this program's own, which it does not write to meanwhile.
            assert_eq!(unsafe { libc::mprotect(start.cast(), bytes, access) }, 0);
            vector.churn();
            if access == libc::PROT_READ {
                vector.check(0, 0, |_, _| false);
            }
            let all = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: as it was before.
            assert_eq!(unsafe { libc::mprotect(start.cast(), bytes, all) }, 0);
            vector.churn();
            vector.check(0, 0, |_, _| false);
        }
    }
}

/// Pages that are locked stay, and go once they are not.
fn locked(evicted: bool) {
    for (first, pages) in RANGES {
        let mut vector = Vector::new();
        if evicted {
            vector.churn();
        }
        let (start, bytes) = (vector.page(first), pages * PAGE);
        // SAFETY: memory of this program's own.
        assert_eq!(unsafe { libc::mlock(start.cast(), bytes) }, 0);
        vector.churn();
        // Whatever is thought of it, it is to leave now.
        cold(&vector.words);
        assert!(stats().fixed_bytes >= bytes as u64, "{:?}", stats());
        assert_eq!(resident_of(start.cast(), bytes), bytes, "what is locked is in memory");
        vector.check(0, 0, |_, _| false);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::munlock(start.cast(), bytes) }, 0);
        for _ in 0..200 {
            vector.churn();
            if stats().fixed_bytes == 0 {
                break;
            }
        }
        assert_eq!(stats().fixed_bytes, 0, "what is not locked any more leaves");
        vector.check(0, 0, |_, _| false);
    }
}

/// More is locked than the limit has.
fn all_locked() {
    let all: Vec<Vec<u64>> = (0..OTHERS).map(|salt| noise(8 * MIB, salt)).collect();
    for vector in &all {
        // SAFETY: memory of this program's own.
        assert_eq!(unsafe { libc::mlock(vector.as_ptr().cast(), 8 * MIB) }, 0);
    }
    let mut vector = Vector::new();
    vector.churn();
    vector.check(0, 0, |_, _| false);
    for (salt, vector) in all.iter().enumerate() {
        assert!(vector.iter().enumerate().all(|(i, x)| *x == word(i, salt as u64)));
    }
}

/// Something else is mapped over a part, or nothing.
fn mapped_over(evicted: bool) {
    for (first, pages) in RANGES {
        let mut vector = Vector::new();
        if evicted {
            vector.churn();
        }
        let (start, bytes) = (vector.page(first), pages * PAGE);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: over memory of this program's own, of which nobody needs the contents.
        let new = unsafe { libc::mmap(start.cast(), bytes, access, flags, -1, 0) };
        assert_eq!(new.cast(), start);
        vector.check(first, pages, |_, x| x == 0);
        let part = vector.index(first)..vector.index(first) + pages * PAGE / 8;
        part.for_each(|i| vector.words[i] = word(i, 9));
        for _ in 0..3 {
            vector.churn();
            vector.check(first, pages, |i, x| x == word(i, 9));
        }
        // SAFETY: nobody touches it any more.
        assert_eq!(unsafe { libc::munmap(start.cast(), bytes) }, 0);
        vector.churn();
        // It has a hole now, so nobody may have it.
        std::mem::forget(vector.words);
    }
}

/// mlockall is refused once there is a pager, and the program goes on.
fn lock_all() {
    let mut vector = Vector::new();
    // SAFETY: no preconditions.
    assert_eq!(unsafe { libc::mlockall(libc::MCL_CURRENT) }, -1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOMEM));
    vector.churn();
    vector.check(0, 0, |_, _| false);
}

/// mlockall before the first block: nothing is paged.
fn lock_all_first(flags: i32) {
    // SAFETY: no preconditions.
    if unsafe { libc::mlockall(flags) } != 0 {
        skipped("pages that are locked first", "mlockall is not allowed here");
        return;
    }
    let mut vector = Vector::new();
    vector.churn();
    vector.check(0, 0, |_, _| false);
    assert!(ALLOC.pages().pager().is_none());
}

/// A thread with the least stack there is makes the first block.
fn small_stack() {
    let thread = std::thread::Builder::new().stack_size(16 << 10).spawn(|| {
        let block = vec![1u8; MIB];
        assert!(std::hint::black_box(&block)[77] == 1 && ALLOC.pages().pager().is_some());
    });
    thread.expect("a thread").join().expect("the first block");
    let mut vector = Vector::new();
    vector.churn();
    vector.check(0, 0, |_, _| false);
}

/// Words far apart: what is not touched is not there.
fn sparse() {
    let mut words = vec![0u64; 256 * MIB];
    let before = resident_bytes();
    for i in (0..words.len()).step_by(MIB) {
        words[i] = word(i, 5);
    }
    let grown = resident_bytes() - before;
    eprintln!("{} pages touched, {} KiB came", words.len() / MIB, grown >> 10);
    assert!(grown <= 2 * (words.len() / MIB) * PAGE + MIB, "{grown} bytes");
    for i in (0..words.len()).step_by(MIB) {
        assert_eq!(words[i], word(i, 5));
    }
}

/// A block of any alignment is paged, and one that is zeroed is not written.
///
/// The first block of a process is of fresh pages: one that is there was written. A later one may
/// be of pages that were there before.
fn aligned(shift: u32) {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    let layout = Layout::from_size_align(32 * MIB, 1 << shift).expect("sound");
    for round in 0..2 {
        // SAFETY: the layout has a size.
        let start = unsafe { alloc_zeroed(layout) };
        assert!(!start.is_null() && start.addr().is_multiple_of(1 << shift));
        assert!(ALLOC.owns(start), "aligned to 2^{shift}: paged");
        let resident = resident_of(start, layout.size());
        assert!(round > 0 || resident == 0, "aligned to 2^{shift}: {resident} bytes came");
        // SAFETY: the block is this program's, and zero.
        let words = unsafe { std::slice::from_raw_parts_mut(start.cast::<u64>(), 4 * MIB) };
        assert!(words.iter().step_by(512).all(|x| *x == 0));
        (0..words.len()).step_by(64).for_each(|i| words[i] = word(i, shift.into()));
        Vector { words: Vec::new(), others: Vec::new() }.churn();
        assert!((0..words.len()).step_by(64).all(|i| words[i] == word(i, shift.into())));
        // SAFETY: allocated above with this layout.
        unsafe { dealloc(start, layout) };
    }
}

/// What of a block is in memory, by the kernel's own word.
fn resident_of(start: *mut u8, bytes: usize) -> usize {
    let mut pages = vec![0u8; bytes.div_ceil(PAGE)];
    // SAFETY: the block is mapped, and there is a byte for each of its pages.
    let rc = unsafe { libc::mincore(start.cast(), bytes, pages.as_mut_ptr()) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
    pages.iter().filter(|page| **page & 1 == 1).count() * PAGE
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim_end_matches("kB").trim().parse::<usize>().expect("a number") << 10
}

/// The program. Does nothing in an ordinary run.
#[test]
fn program() {
    let Ok(program) = std::env::var(PROGRAM) else { return };
    match program.as_str() {
        "dropped" => [false, true].into_iter().for_each(dropped),
        "dropped beside others" => dropped_beside_others(),
        "advised" => [false, true].into_iter().for_each(advised),
        "protected" => [false, true].into_iter().for_each(protected),
        "locked" => [false, true].into_iter().for_each(locked),
        "all locked" => all_locked(),
        "mapped over" => [false, true].into_iter().for_each(mapped_over),
        "lock all" => lock_all(),
        "lock all later" => return lock_all_first(libc::MCL_FUTURE),
        "lock all first" => return lock_all_first(libc::MCL_CURRENT | libc::MCL_FUTURE),
        "lock all on fault" => {
            return lock_all_first(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT);
        }
        program if program.starts_with("aligned to ") => {
            aligned(program["aligned to ".len()..].parse().expect("a power of two"))
        }
        "small stack" => small_stack(),
        "sparse" => return sparse(),
        other => panic!("no program {other}"),
    }
    let stats = stats();
    assert!(stats.written_bytes > 0, "nothing was evicted: {stats:?}");
    ALLOC.check().expect("the allocator's books");
}

/// A command that runs the program under a limit.
fn command(program: &str, limit: &str) -> Option<Command> {
    if let Err(why) = probe().door {
        skipped("pager_asked", why);
        return None;
    }
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "program", "--nocapture"]).env(PROGRAM, program);
    command.env("PLIMSOLL_LIMIT", limit).env("PLIMSOLL_SPILL_DIR", "/var/tmp");
    Some(command)
}

/// What the program said; it must end well.
fn said(program: &str, limit: &str) -> Option<String> {
    let output = command(program, limit)?.output().expect("a child");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program}: {}: {text}", output.status);
    Some(text)
}

/// How often a part of a line was said.
fn times(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn what_a_program_drops_reads_zero_whether_it_was_there_or_away() {
    said("dropped", LIMIT);
    said("dropped beside others", LIMIT);
}

#[test]
fn advice_keeps_contents() {
    said("advised", LIMIT);
}

#[test]
fn what_is_protected_stays_and_comes_back_as_it_was() {
    let Some(text) = said("protected", LIMIT) else { return };
    assert_eq!(times(&text, "are locked or protected"), 1, "{text}");
}

#[test]
fn what_is_locked_stays_is_counted_and_said_once() {
    let Some(text) = said("locked", LIMIT) else { return };
    assert_eq!(times(&text, "are locked or protected"), 1, "{text}");
}

#[test]
fn a_program_that_locks_more_than_its_limit_goes_on() {
    let Some(text) = said("all locked", LIMIT) else { return };
    assert_eq!(times(&text, "are locked or protected"), 1, "{text}");
}

#[test]
fn what_is_mapped_over_a_vector_stays_and_so_does_the_rest() {
    said("mapped over", LIMIT);
}

#[test]
fn mlockall_is_refused_beside_a_pager_and_before_it_there_is_none() {
    let Some(text) = said("lock all", LIMIT) else { return };
    assert_eq!(times(&text, "mlockall is refused"), 1, "{text}");
    for program in ["lock all first", "lock all later", "lock all on fault"] {
        let Some(text) = said(program, LIMIT) else { return };
        // What a child says is ours to hand on.
        if text.contains("SKIPPED: ") {
            skipped(program, "mlockall is not allowed here");
            continue;
        }
        assert!(times(&text, "no paging") == 1 && text.contains("mlockall"), "{text}");
    }
}

#[test]
fn blocks_of_any_alignment_are_paged_and_not_written() {
    for shift in [12, 20, 21, 22, 25, 30] {
        said(&format!("aligned to {shift}"), LIMIT);
    }
}

#[test]
fn the_first_block_may_be_of_a_thread_with_a_small_stack() {
    said("small stack", LIMIT);
}

#[test]
fn without_standard_descriptors_nothing_else_is_written_to() {
    let Some(mut command) = command("all locked", LIMIT) else { return };
    let close = || {
        for descriptor in 0..3 {
            // SAFETY: the new program is to run without.
            unsafe { libc::close(descriptor) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec the function makes three system calls.
    unsafe { command.pre_exec(close) };
    assert!(command.status().expect("a child").success());
}

#[test]
fn what_is_not_touched_is_not_there() {
    said("sparse", "16GiB");
    let mut unlimited = Command::new(std::env::current_exe().expect("this binary"));
    unlimited.args(["--exact", "program", "--nocapture"]).env(PROGRAM, "sparse");
    let output = unlimited.env_remove("PLIMSOLL_LIMIT").output().expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
