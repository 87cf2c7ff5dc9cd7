//! The limit of a process: one cell, what was asked for, and what the machine makes of it.
//!
//! ```text
//!   PLIMSOLL_LIMIT, Runtime, Allocator -> asked (a LimitSpec) --resolve--> bytes in force
//!                                            ^                  ^
//!                                     last writer wins     the cgroup, looked at again
//! ```
//!
//! A new limit replaces the earlier one. The first user of a limit reads the environment, once; its
//! value counts as older than any limit that code sets.
//!
//! While the program runs, the cgroup's limit can change, the process can move to another cgroup,
//! and other processes of the cgroup can grow. So the limit is resolved again a few times a second,
//! and whenever the process has grown by a share of its limit. The memory that the machine had
//! available counts once, when the limit was set, because that number does not include what this
//! process holds.
//!
//! Invariants: bytes in force are at most what was asked for; `usize::MAX` stands for no limit.
//!
//! Must never: allocate, or wait for another thread. If one thread is looking at the cgroup, others
//! do not look as well.

use super::allowance::{Allowance, Bound, LIMIT_BYTES_MIN, Resolved};
use super::cgroup::Scratch;
use super::env::{LIMIT_VARIABLE, variable};
use super::file::Tree;
use super::resident::Resident;
use super::say::{Shown, say};
use super::words::{LimitSpec, Share};
use crate::sync::{AtomicUsize, const_fn};
use std::cell::UnsafeCell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize as StdUsize};
use std::time::Duration;

/// How long what the cgroup said is good for.
const FRESH: Duration = Duration::from_millis(100);

/// The process may grow by this share of its limit before the cgroup is looked at again.
const GROWTH_DIVISOR: usize = 64;

/// And by this many bytes: a look is a dozen small reads.
const GROWTH_BYTES_MIN: usize = 4 << 20;

/// Who set the limit that is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nobody: there is none.
    #[default]
    Nobody,
    /// `PLIMSOLL_LIMIT`.
    Environment,
    /// The program, through a runtime.
    Runtime,
    /// The program, through its global allocator.
    Allocator,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::Environment => LIMIT_VARIABLE,
            Self::Runtime => "the program's runtime",
            Self::Allocator => "the program's allocator",
        })
    }
}

const SOURCES: [Source; 4] =
    [Source::Nobody, Source::Environment, Source::Runtime, Source::Allocator];

/// Two bits say which kind, the others how much.
const KIND_SHIFT: u32 = 62;

fn encode(spec: LimitSpec) -> u64 {
    let (kind, value) = match spec {
        LimitSpec::None => (0, 0),
        LimitSpec::Auto => (1, 0),
        LimitSpec::Share(share) => (2, u64::from(share.hundredths())),
        LimitSpec::Bytes(bytes) => (3, bytes.min((1 << KIND_SHIFT) - 1)),
    };
    kind << KIND_SHIFT | value
}

fn decode(word: u64) -> LimitSpec {
    let value = word & ((1 << KIND_SHIFT) - 1);
    match word >> KIND_SHIFT {
        1 => LimitSpec::Auto,
        2 => Share::of_hundredths(value as u16).map_or(LimitSpec::Auto, LimitSpec::Share),
        3 => LimitSpec::Bytes(value),
        _ => LimitSpec::None,
    }
}

/// The limit in force, what somebody asked for, and who did.
pub(super) struct Limit {
    in_force: AtomicUsize,
    /// The encoded [`LimitSpec`].
    asked: AtomicU64,
    source: AtomicU8,
    /// What the machine had available when the limit was set, in bytes.
    available: AtomicU64,
    /// When the cgroup was last looked at, and what was resident then.
    looked_ns: AtomicU64,
    looked_bytes: StdUsize,
    environment_read: AtomicBool,
    scratch: Guarded,
}

impl Limit {
    const_fn! {
        pub(super) fn new() -> Self {
            Self {
                in_force: AtomicUsize::new(usize::MAX),
                asked: AtomicU64::new(0),
                source: AtomicU8::new(0),
                available: AtomicU64::new(u64::MAX),
                looked_ns: AtomicU64::new(0),
                looked_bytes: StdUsize::new(0),
                environment_read: AtomicBool::new(false),
                scratch: Guarded::new(),
            }
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.in_force.load(Relaxed)
    }

    pub(super) fn asked(&self) -> LimitSpec {
        decode(self.asked.load(Relaxed))
    }

    pub(super) fn source(&self) -> Source {
        SOURCES[usize::from(self.source.load(Relaxed)) % SOURCES.len()]
    }

    /// Sets exactly so many bytes, whatever the machine has.
    pub(super) fn set_exactly(&self, bytes: usize, source: Source) -> usize {
        self.environment_read.store(true, Relaxed);
        let spec =
            if bytes == usize::MAX { LimitSpec::None } else { LimitSpec::Bytes(bytes as u64) };
        self.note(spec, source, u64::MAX);
        self.in_force.swap(bytes, Relaxed)
    }

    /// Sets what was asked for, resolved on this machine, and returns the old limit with what
    /// `spec` came to. Where nobody says what the machine has, bytes must do as they are, and
    /// anything else is no limit.
    pub(super) fn set(&self, spec: LimitSpec, source: Source) -> (usize, Option<Resolved>) {
        let allowance = self.scratch.patiently(|scratch| scratch.allowance(Tree::MACHINE).ok());
        match (allowance.flatten(), spec) {
            (Some(allowance), _) => self.set_under(spec, &allowance, source),
            (None, LimitSpec::Bytes(bytes)) => {
                let resolved = Some(Resolved { bytes, bound: Bound::Asked });
                (self.set_exactly(in_force(resolved), source), resolved)
            }
            (None, _) => (self.set_exactly(usize::MAX, source), None),
        }
    }

    /// Sets what was asked for, resolved under `allowance`.
    pub(super) fn set_under(
        &self,
        spec: LimitSpec,
        allowance: &Allowance,
        source: Source,
    ) -> (usize, Option<Resolved>) {
        self.environment_read.store(true, Relaxed);
        let resolved = spec.resolve(allowance);
        self.note(spec, source, allowance.available_bytes);
        (self.in_force.swap(in_force(resolved), Relaxed), resolved)
    }

    fn note(&self, spec: LimitSpec, source: Source, available: u64) {
        self.asked.store(encode(spec), Relaxed);
        self.source.store(source as u8, Relaxed);
        self.available.store(available, Relaxed);
        self.looked_ns.store(now_ns(), Relaxed);
    }

    /// Takes over what the environment asks for, if nobody has looked at it. A value that is not
    /// understood, or is more than the cgroup allows, is reported on standard error.
    pub(super) fn read_environment(&self) {
        if self.environment_read.load(Relaxed) || self.environment_read.swap(true, Relaxed) {
            return;
        }
        let Some(text) = variable(LIMIT_VARIABLE) else { return };
        let spec = match LimitSpec::parse(text) {
            Ok(spec) => spec,
            Err(why) => {
                let text = Shown(text.trim_ascii());
                return say(format_args!(
                    "{LIMIT_VARIABLE} is not understood and ignored: \"{text}\" {why}"
                ));
            }
        };
        let (_, resolved) = self.set(spec, Source::Environment);
        tell_lowered(LIMIT_VARIABLE, spec, resolved);
    }

    /// Resolves what was asked for anew, if it is time to: `now` is what the process holds.
    #[inline]
    pub(super) fn follow(&self, now: Resident) {
        if self.asked.load(Relaxed) >> KIND_SHIFT == 0 {
            return;
        }
        let resident = now.resident_bytes as usize;
        let step = (self.bytes() / GROWTH_DIVISOR).max(GROWTH_BYTES_MIN);
        let grown = resident.saturating_sub(self.looked_bytes.load(Relaxed)) >= step;
        let stale =
            now_ns().saturating_sub(self.looked_ns.load(Relaxed)) >= FRESH.as_nanos() as u64;
        if grown || stale {
            self.follow_now(now);
        }
    }

    #[cold]
    fn follow_now(&self, now: Resident) {
        let (word, before) = (self.asked.load(Relaxed), self.bytes());
        let available = self.available.load(Relaxed);
        // What was set exactly is followed nowhere.
        if available == u64::MAX {
            return;
        }
        let group = self.scratch.attempt(|scratch| scratch.group(Tree::MACHINE));
        // Another thread is at it, or a file cannot be read: what was in force stays.
        let Some(Ok(group)) = group else { return };
        self.looked_ns.store(now_ns(), Relaxed);
        self.looked_bytes.store(now.resident_bytes as usize, Relaxed);
        let total_bytes = crate::os::physical_bytes() as u64;
        let own_bytes = now.anon_bytes();
        let allowance = Allowance { total_bytes, available_bytes: available, group, own_bytes };
        let bytes = in_force(decode(word).resolve(&allowance));
        if bytes != before && self.asked.load(Relaxed) == word {
            // A limit that was set meanwhile stays.
            let _ = self.in_force.compare_exchange(before, bytes, Relaxed, Relaxed);
        }
    }

    /// Runs `look` with the scratch, unless another thread has it.
    pub(super) fn with_scratch<R>(&self, look: impl FnOnce(&mut Scratch) -> R) -> Option<R> {
        self.scratch.attempt(look)
    }
}

fn in_force(resolved: Option<Resolved>) -> usize {
    resolved.map_or(usize::MAX, |resolved| {
        let bytes = resolved.bytes.max(LIMIT_BYTES_MIN);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    })
}

/// Says that a limit is another than what was asked for.
#[cold]
pub(super) fn tell_lowered(who: &str, spec: LimitSpec, resolved: Option<Resolved>) {
    let Some(resolved) = resolved else {
        if spec != LimitSpec::None {
            say(format_args!(
                "{who} asks for a part of what there is, but /proc does not say what there is: \
                 there is no limit; ask for bytes, such as 8GiB"
            ));
        }
        return;
    };
    let least = LIMIT_BYTES_MIN;
    let bytes = resolved.bytes.max(least);
    match (spec, resolved.bound) {
        (LimitSpec::Bytes(asked), Bound::Group { limit_bytes, .. }) => say(format_args!(
            "{who} asks for {asked} bytes, but the cgroup allows {limit_bytes}: the limit is \
             {bytes} bytes"
        )),
        (LimitSpec::Bytes(asked), Bound::Available) => say(format_args!(
            "{who} asks for {asked} bytes, more than is available: the limit is {bytes} bytes"
        )),
        _ if resolved.bytes < least => say(format_args!(
            "{who} comes to {} bytes; the least is {least}, which is the limit now",
            resolved.bytes,
        )),
        _ => {}
    }
}

fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A scratch that one thread uses at a time; the others do without.
struct Guarded {
    taken: AtomicBool,
    scratch: UnsafeCell<Scratch>,
}

// SAFETY: the scratch is reached by the thread that took it only.
unsafe impl Sync for Guarded {}

/// How often a thread that must have the scratch tries: each try lets others run first. A child of
/// `fork` may wait for a thread that it has not got, and goes on without.
const TRIES: u32 = 1000;

impl Guarded {
    const fn new() -> Self {
        Self { taken: AtomicBool::new(false), scratch: UnsafeCell::new(Scratch::new()) }
    }

    fn attempt<R>(&self, look: impl FnOnce(&mut Scratch) -> R) -> Option<R> {
        // Acquire: pairs with the release below.
        if self.taken.swap(true, Acquire) {
            return None;
        }
        // SAFETY: taken by this thread just now.
        let found = look(unsafe { &mut *self.scratch.get() });
        // Release: pairs with the acquire above.
        self.taken.store(false, Release);
        Some(found)
    }

    fn patiently<R>(&self, look: impl FnOnce(&mut Scratch) -> R) -> Option<R> {
        let mut look = Some(look);
        for _ in 0..TRIES {
            if !self.taken.load(Relaxed) {
                let found = self.attempt(|scratch| look.take().map(|look| look(scratch)));
                if let Some(found) = found {
                    return found;
                }
            }
            std::thread::yield_now();
        }
        None
    }
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_one_word() {
        let share = Share::of_hundredths(3725).expect("37.25 %");
        for spec in [
            LimitSpec::None,
            LimitSpec::Auto,
            LimitSpec::Share(share),
            LimitSpec::Bytes(1),
            LimitSpec::Bytes(1 << 61),
        ] {
            assert_eq!(decode(encode(spec)), spec);
        }
    }

    #[test]
    fn the_last_writer_wins_and_its_name_is_kept() {
        let limit = Limit::new();
        assert_eq!((limit.bytes(), limit.source()), (usize::MAX, Source::Nobody));
        assert_eq!(limit.set_exactly(64 << 20, Source::Allocator), usize::MAX);
        let (old, resolved) = limit.set(LimitSpec::Bytes(8 << 20), Source::Runtime);
        assert_eq!((old, limit.source()), (64 << 20, Source::Runtime));
        assert_eq!(resolved.map(|resolved| resolved.bytes), Some(8 << 20));
        limit.follow_now(Resident::default());
        assert_eq!(limit.bytes(), 8 << 20, "nothing of the machine is below it");
        assert_eq!(limit.set(LimitSpec::None, Source::Runtime), (8 << 20, None));
        assert_eq!(limit.bytes(), usize::MAX);
    }
}
