//! What a process takes besides the vectors of a proof: its program, its threads, and out of core
//! the buffers and books of the store.

use crate::Runtime;
use crate::error::Error;
use ark_bn254::Fr;
use plimsoll_swap::store::SCRATCH_BYTES;

/// What the program comes to use besides, at least: its code pages, the C library, the heap's
/// slack. The command was measured at 5.9 to 6.4 MiB with one thread or two. Code that is not
/// optimised is larger, and so are its stacks.
pub const PROGRAM_BYTES: usize = if cfg!(debug_assertions) { 8 << 20 } else { 27 << 18 };

/// What a program that is larger already grows by while it proves, beyond what the plan counts:
/// measured as 1.2 MiB, code that is used for the first time.
pub const GROWTH_BYTES: usize = if cfg!(debug_assertions) { 5 << 19 } else { 1280 << 10 };

/// What a program grows by that knew what it comes to, and has come to more: from one proof of a
/// batch to the next.
const KNOWN_GROWTH_BYTES: usize = 256 << 10;

/// What a thread takes: the touched part of its stack, and a heap arena of its own. Measured as 75
/// KiB where 64 threads prove.
pub const THREAD_BYTES: usize = if cfg!(debug_assertions) { 128 << 10 } else { 80 << 10 };

/// What a thread has of that before it works.
const IDLE_THREAD_BYTES: usize = 16 << 10;

/// Sets of buffers of the usual two I/O threads and of who waits for them.
const SCRATCH_SETS: usize = 3;

/// What a set takes for the heads of frames.
const HEADS_BYTES: usize = 16 << 10;

/// What is used out of core besides: stacks, and books of what is away.
const SPILL_BYTES: usize = if cfg!(debug_assertions) { 3 << 18 } else { 3 << 17 };

/// What a heap arena keeps out of core, and the most arenas that the C library makes for two cores.
const SPILL_ARENA_BYTES: usize = 64 << 10;
const ARENAS_MAX: usize = 16;

/// Of two guesses the larger one: one from what the process uses by now, and one for programs like
/// the command, which does not depend on when it was asked. Out of core, where the longest vectors
/// that leave are segments of `segment_len` variables, a set of buffers is used for as much: what a
/// segment packs to, and its frame, together at most.
pub(super) fn base_bytes(used_bytes: usize, threads: usize, segment_len: Option<usize>) -> usize {
    let of_threads = |bytes: usize| threads.saturating_mul(bytes);
    let grown = used_bytes
        .saturating_add(GROWTH_BYTES)
        .saturating_add(of_threads(THREAD_BYTES - IDLE_THREAD_BYTES));
    let program = PROGRAM_BYTES.saturating_add(of_threads(THREAD_BYTES));
    let spill = |segment_len: usize| {
        let buffers = segment_len.saturating_mul(size_of::<Fr>()).saturating_add(HEADS_BYTES);
        SCRATCH_SETS * buffers.min(SCRATCH_BYTES)
            + SPILL_BYTES
            + threads.min(ARENAS_MAX) * SPILL_ARENA_BYTES
    };
    grown.max(program).saturating_add(segment_len.map_or(0, spill))
}

/// Returns what a plan for `runtime` takes as used before the first stage, for `threads` threads:
/// what the process uses now and cannot give back, and what more I/O threads than usual come to
/// use. A program that [knows what it comes to](crate::runtime::RuntimeBuilder::program_bytes) does
/// not grow by a guess beyond that.
///
/// # Errors
///
/// [`Error::Meter`] when the kernel's figures cannot be read.
pub fn used_bytes(runtime: &Runtime, threads: usize) -> Result<usize, Error> {
    let rss = usize::try_from(runtime.meter().rss_bytes()?).unwrap_or(usize::MAX);
    let pools = [runtime.pool(), runtime.secret_pool()];
    let cached: usize = pools.iter().map(|pool| pool.stats().cached_bytes).sum();
    let live = live_bytes(runtime);
    let now = rss.saturating_sub(cached);
    let said = runtime.program_bytes().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let used = match said.map(|bytes| bytes.saturating_add(live)) {
        // It will not grow far beyond that.
        Some(most) => {
            let growth = GROWTH_BYTES.saturating_sub(threads.saturating_mul(IDLE_THREAD_BYTES));
            most.max(now.saturating_add(KNOWN_GROWTH_BYTES)).saturating_sub(growth)
        }
        None => now,
    };
    Ok(used.saturating_add(runtime.spill().extra_scratch_bytes()))
}

/// Returns the bytes of vectors that live in the pools of `runtime`.
pub(super) fn live_bytes(runtime: &Runtime) -> usize {
    [runtime.pool(), runtime.secret_pool()].iter().map(|pool| pool.stats().live_bytes).sum()
}
