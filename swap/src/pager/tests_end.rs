//! Ways to end: each in a child process, which must end with a message and never go on.
//!
//! ```text
//!   this test -> the same binary again, with a scenario in the environment -> abort, and why
//! ```

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::libc;
use plimsoll_arena::process::skipped;

use super::tests::{built, packing, pattern, words};
use super::*;
use crate::Error;
use crate::backend::{Backend, Fault, FaultPlan, Faulty, Memory};
use crate::extent::Extent;
use crate::store::Encryption;

const SCENARIO: &str = "PLIMSOLL_PAGER_SCENARIO";
const MIB: usize = 1 << 20;

/// Writes and reads 64 MiB under a budget of 4, `rounds` times.
fn churn(pager: &Pager, rounds: u64) {
    let words = words(pager);
    for round in 1..=rounds {
        for i in (0..words.len()).step_by(512) {
            let before = if round == 1 { 0 } else { pattern(i, round - 1) };
            assert_eq!(words[i].load(Relaxed), before);
            words[i].store(pattern(i, round), Relaxed);
        }
    }
}

fn on(backend: impl Backend + 'static) -> Option<Pager> {
    let builder = Pager::builder().range_bytes(64 * MIB).budget_bytes(4 * MIB);
    built(builder.backend(Box::new(backend)))
}

/// Who vanishes, in [`Lead::vanish`](super::crew::Lead::vanish); 0 is nobody.
const LEADER: u8 = 1;
const LEADER_WITH_TABLES: u8 = 2;
const WATCHER: u8 = 3;

impl super::engine::Engine {
    /// Ends the calling thread, if the leader is to vanish.
    pub(crate) fn leader_may_vanish(&self) {
        let who = self.lead.vanish.load(Relaxed);
        if who == LEADER_WITH_TABLES {
            std::mem::forget(self.core.lock());
        }
        if matches!(who, LEADER | LEADER_WITH_TABLES) {
            sys::vanish();
        }
    }

    /// Ends the calling thread, if the watcher is to vanish.
    pub(crate) fn watcher_may_vanish(&self) {
        if self.lead.vanish.load(Relaxed) == WATCHER {
            sys::vanish();
        }
    }
}

/// A pager of which one thread is to vanish.
fn vanishing(who: u8, workers: usize) -> Option<Pager> {
    let builder = Pager::builder().range_bytes(64 * MIB).budget_bytes(4 * MIB);
    let backend = Box::new(Memory::new(64 * MIB as u64));
    let pager = built(builder.backend(backend).workers(workers))?;
    pager.engine().lead.vanish.store(who, Relaxed);
    Some(pager)
}

/// What goes wrong, once the disk has been read or written ten times.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// EIO.
    ReadFails,
    WriteFails,
    /// One bit changes on its way, and nobody says so.
    ReadFlips,
    WriteFlips,
    /// The second half is not written, and nobody says so.
    WriteTears,
    ReaderVanishes,
    WriterVanishes,
}

/// Memory for a disk on which one thing goes wrong.
struct Troubled {
    memory: Memory,
    trouble: Trouble,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Troubled {
    fn pager(trouble: Trouble) -> Option<Pager> {
        let memory = Memory::new(64 * MIB as u64);
        on(Self { memory, trouble, reads: AtomicU64::new(0), writes: AtomicU64::new(0) })
    }
}

fn eio(what: &'static str, offset_bytes: u64, bytes: usize) -> Error {
    Error::Io { what, offset_bytes, bytes: bytes as u64, os_error: libc::EIO }
}

impl Backend for Troubled {
    fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), Error> {
        let now = self.reads.fetch_add(1, Relaxed) == 10;
        match self.trouble {
            Trouble::ReaderVanishes if now => sys::vanish(),
            Trouble::ReadFails if now => return Err(eio("read", offset_bytes, out.len())),
            _ => {}
        }
        self.memory.read_at(offset_bytes, out)?;
        if now && self.trouble == Trouble::ReadFlips {
            out[out.len() / 2] ^= 4;
        }
        Ok(())
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), Error> {
        let now = self.writes.fetch_add(1, Relaxed) == 10;
        match self.trouble {
            Trouble::WriterVanishes if now => sys::vanish(),
            Trouble::WriteFails if now => return Err(eio("write", offset_bytes, bytes.len())),
            Trouble::WriteTears if now => {
                return self.memory.write_at(offset_bytes, &bytes[..bytes.len() / 2]);
            }
            Trouble::WriteFlips if now => {
                let mut bytes = bytes.to_vec();
                bytes[0] ^= 4;
                return self.memory.write_at(offset_bytes, &bytes);
            }
            _ => {}
        }
        self.memory.write_at(offset_bytes, bytes)
    }

    fn reserve(&self, extent: Extent) -> Result<(), Error> {
        self.memory.reserve(extent)
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        self.memory.release(extent)
    }

    fn len_bytes(&self) -> u64 {
        self.memory.len_bytes()
    }
}

/// What happens in the child. Does nothing in an ordinary run.
#[test]
fn scenario() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    // SAFETY: no preconditions; a child that hangs is ended.
    unsafe { libc::alarm(60) };
    let pager = match scenario.as_str() {
        "read-fails" => Troubled::pager(Trouble::ReadFails),
        "write-fails" => Troubled::pager(Trouble::WriteFails),
        "read-flips" => Troubled::pager(Trouble::ReadFlips),
        "write-flips" => Troubled::pager(Trouble::WriteFlips),
        "write-tears" => Troubled::pager(Trouble::WriteTears),
        "sealed-flip" => {
            let plan = FaultPlan::At { call: 40, fault: Fault::BitFlip };
            let backend = Faulty::new(Memory::new(64 * MIB as u64), plan);
            let builder = Pager::builder().range_bytes(64 * MIB).budget_bytes(4 * MIB);
            built(builder.backend(Box::new(backend)).encryption(Encryption::On))
        }
        "packed-flip" => {
            packed_flip();
            return;
        }
        "disk-full" => on(Memory::new(32 * MIB as u64)),
        "leader" => vanishing(LEADER, 6),
        "leader-with-tables" => vanishing(LEADER_WITH_TABLES, 6),
        "lone" => vanishing(LEADER, 1),
        "lone-with-tables" => vanishing(LEADER_WITH_TABLES, 1),
        "watcher" => vanishing(WATCHER, 6),
        "reader" => Troubled::pager(Trouble::ReaderVanishes),
        "writer" => Troubled::pager(Trouble::WriterVanishes),
        "fail-fast" => {
            // Any stall is too much, once all was filled and some of it came back.
            let fail_fast = FailFast { window: Duration::from_secs(2), stalled_percent: 0 };
            let builder = Pager::builder().range_bytes(64 * MIB).budget_bytes(4 * MIB);
            let memory = Box::new(Memory::new(64 * MIB as u64));
            built(builder.backend(memory).fail_fast(fail_fast))
        }
        "fork" => {
            let pager = on(Memory::new(64 * MIB as u64)).expect("built a moment ago");
            words(&pager)[0].store(7, Relaxed);
            fork(&pager);
            return;
        }
        other => panic!("no scenario {other}"),
    };
    let Some(pager) = pager else { return };
    churn(&pager, 10_000);
}

/// Small numbers of which one is changed where it is packed.
fn packed_flip() {
    let builder = Pager::builder().range_bytes(64 * MIB).budget_bytes(4 * MIB);
    let backend = Box::new(Memory::new(64 * MIB as u64));
    let pager = packing(builder.backend(backend)).expect("built a moment ago");
    let words = words(&pager);
    words.iter().enumerate().for_each(|(i, word)| word.store(i as u64 % 1000, Relaxed));
    assert!(pager.engine().flip_a_packed_bit());
    for (i, word) in words.iter().enumerate() {
        assert_eq!(word.load(Relaxed), i as u64 % 1000);
    }
}

/// A child that touches paged memory is ended by the kernel; its calls of the pager return.
fn fork(pager: &Pager) {
    // SAFETY: the child calls async-signal-safe functions, and methods that do nothing there.
    let child = unsafe { libc::fork() };
    if child == 0 {
        pager.reclaim(1);
        pager.cold(pager.base(), MIB);
        // As if another thread had been in the tables.
        let none = pager.stats() == PagerStats::default() && pager.thrash() == Thrash::default();
        if !none {
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(1) };
        }
        let word = words(pager)[0].load(Relaxed);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(word as i32) };
    }
    let mut status = 0;
    // SAFETY: waits for the child just made.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(libc::WIFSIGNALED(status), "the child saw {status:#x}");
    assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
    assert_eq!(words(pager)[0].load(Relaxed), 7);
    words(pager)[0].store(0, Relaxed);
    churn(pager, 2);
}

fn child(scenario: &str) -> Option<Output> {
    if let Err(why) = probe().door {
        skipped("the pager at a program's end", why);
        return None;
    }
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "pager::tests_end::scenario", "--nocapture"]);
    Some(command.env(SCENARIO, scenario).output().expect("a child"))
}

fn aborts(scenario: &str, because: &str) {
    let Some(output) = child(scenario) else { return };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{scenario}: {text}");
    assert!(text.contains("the pager cannot go on") && text.contains(because), "{text}");
}

#[test]
fn a_failing_disk_ends_the_process() {
    aborts("read-fails", "cannot read ");
    aborts("write-fails", "cannot write ");
}

#[test]
fn a_full_disk_ends_the_process() {
    aborts("disk-full", "the disk is full");
}

#[test]
fn bytes_of_a_plain_file_that_are_not_what_was_written_are_never_seen() {
    for scenario in ["read-flips", "write-flips", "write-tears"] {
        aborts(scenario, "not what was written there");
    }
}

#[test]
fn a_flipped_bit_of_a_sealed_file_ends_the_process() {
    aborts("sealed-flip", "not what was written there");
}

#[test]
fn a_flipped_bit_of_packed_memory_ends_the_process() {
    aborts("packed-flip", "not what was packed");
}

#[test]
fn without_a_leader_the_process_ends() {
    aborts("leader", "answers faults was killed");
}

#[test]
fn a_leader_that_is_killed_with_the_tables_locked_ends_the_process() {
    aborts("leader-with-tables", "answers faults was killed");
}

#[test]
fn a_killed_leader_of_whom_there_is_no_other_ends_the_process() {
    aborts("lone", "answers faults was killed");
    aborts("lone-with-tables", "answers faults was killed");
}

#[test]
fn without_a_watcher_the_process_ends() {
    aborts("watcher", "watches the others was killed");
}

#[test]
fn without_a_thread_that_reads_or_writes_the_process_ends() {
    aborts("reader", "brings and writes pages was killed");
    aborts("writer", "brings and writes pages was killed");
}

#[test]
fn fail_fast_ends_the_process_and_says_what_would_help() {
    aborts("fail-fast", "would have stayed with a budget of");
}

#[test]
fn a_forked_child_neither_hangs_nor_sees_zeros() {
    let Some(output) = child("fork") else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
