//! Peaks for tests: how many bytes of vectors a piece of code holds at once.
//!
//! ```text
//!   peak(|| {                          counted: vectors of every runtime that is built
//!       let runtime = Runtime::..;       in the closure, on this thread
//!       prove(&runtime);               whoever allocates them: rayon's threads too
//!   })
//!   peak_in(&runtime, || ...)          counted: vectors of this runtime, built before
//! ```
//!
//! ```
//! use plimsoll::{Runtime, testing};
//!
//! let peak = testing::peak(|| {
//!     let runtime = Runtime::builder().build().expect("a runtime");
//!     let column = runtime.pool().try_zeroed::<u64>(1 << 17).expect("1 MiB");
//!     column.len()
//! });
//! assert_eq!((peak.bytes, peak.value), (1 << 20, 1 << 17));
//! ```
//!
//! The count is what vectors asked for, to the byte: [`crate::PoolVec`] and spillable vectors in
//! memory, secret ones included. It leaves out what the pool rounds up or caches, and the kernel's
//! pages. Each addition is one atomic step, so the peak is exact on any number of threads. On one
//! thread it is also the same in every run, so a test may compare for equality. On several threads
//! it depends on how they overlap.
//!
//! The count leaves out: vectors below 64 KiB, which live on the heap; the heap itself (`Vec`,
//! `Box`), also under [`crate::Allocator`], whose peak is of the whole process and cannot be reset;
//! packed and spilled vectors; vectors of runtimes that are built outside of the closure. For all
//! of these, `plimsoll check` measures the process from outside.
//!
//! Tests of one process may run at the same time, because other tests allocate in other runtimes.
//! Peaks nest: the outer one also counts what the inner one counts.
//!
//! Must never: change what a runtime does.

pub(crate) mod scope;

use crate::limit::{format_bytes, parse_bytes};
use crate::runtime::Runtime;
use plimsoll_arena::Watermark;
use scope::Scope;

/// The memory that a closure took, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peak<R> {
    /// The most bytes that vectors had asked for at once.
    pub bytes: u64,
    /// Bytes of vectors that existed when the closure began. Only [`peak_in`] can find any.
    pub start_bytes: u64,
    /// Bytes of vectors that still existed when the closure ended: it returned or leaked them.
    pub end_bytes: u64,
    /// What the closure returned.
    pub value: R,
}

/// Runs `work` and returns the most bytes that vectors held at once, over all runtimes that `work`
/// builds on this thread. A [`peak`] inside another counts for both.
///
/// ```
/// use plimsoll::Runtime;
/// use plimsoll::testing::peak;
///
/// let peak = peak(|| {
///     let runtime = Runtime::builder().build()?;
///     let a = runtime.pool().try_zeroed::<u64>(1 << 17)?;
///     drop(a);
///     let _b = runtime.pool().try_zeroed::<u64>(1 << 16)?;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// });
/// peak.value?;
/// assert_eq!(peak.bytes, 1 << 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn peak<R>(work: impl FnOnce() -> R) -> Peak<R> {
    let (_scope, mark) = Scope::begin();
    lap(&mark, work)
}

/// Runs `work` and returns the most bytes that vectors of `runtime` held at once in that time,
/// including vectors that existed before.
///
/// Nested calls must end in order, as they do on one thread. If two threads call it for one runtime
/// at the same time, each call may report a part of the other's.
pub fn peak_in<R>(runtime: &Runtime, work: impl FnOnce() -> R) -> Peak<R> {
    lap(runtime.ledger().asked(), work)
}

/// Resumes the outer lap when dropped, also by a panic.
struct Outer<'a> {
    mark: &'a Watermark,
    lap_bytes: usize,
}

impl Drop for Outer<'_> {
    fn drop(&mut self) {
        self.mark.resume(self.lap_bytes);
    }
}

fn lap<R>(mark: &Watermark, work: impl FnOnce() -> R) -> Peak<R> {
    let start_bytes = mark.now_bytes() as u64;
    let _outer = Outer { mark, lap_bytes: mark.restart() };
    let value = work();
    Peak { bytes: mark.lap_bytes() as u64, start_bytes, end_bytes: mark.now_bytes() as u64, value }
}

/// Checks a peak against `limit` in words; what [`crate::peak_below!`] calls.
///
/// # Panics
///
/// When the peak is above the limit, saying both, or the limit is no size.
#[track_caller]
pub fn assert_below<R>(limit: &str, peak: Peak<R>) -> R {
    let limit_bytes = match parse_bytes(limit) {
        Ok(bytes) => bytes,
        Err(why) => panic!("peak_below!: {why}"),
    };
    assert!(
        peak.bytes <= limit_bytes,
        "vectors took {} ({} bytes) at their peak, {} bytes above {limit}; {} bytes were left at \
         the end",
        format_bytes(peak.bytes),
        peak.bytes,
        peak.bytes - limit_bytes,
        peak.end_bytes,
    );
    peak.value
}

/// Fails a test whose vectors take more than a size at once. Its value is the value of the block.
/// The module [`testing`](crate::testing) lists what counts.
///
/// ```
/// use plimsoll::{Runtime, peak_below};
///
/// let sum = peak_below!("2MiB", {
///     let runtime = Runtime::builder().build().expect("a runtime");
///     let column = runtime.pool().try_zeroed::<u64>(1 << 18).expect("2 MiB");
///     column.iter().sum::<u64>()
/// });
/// assert_eq!(sum, 0);
/// ```
///
/// ```should_panic
/// plimsoll::peak_below!("1MiB", {
///     let runtime = plimsoll::Runtime::builder().build().expect("a runtime");
///     runtime.pool().try_zeroed::<u64>((1 << 17) + 1).expect("8 bytes more").len()
/// });
/// ```
///
/// For vectors of a runtime that was built before: `peak_below!("2MiB", in &runtime, { ... })`.
#[macro_export]
macro_rules! peak_below {
    ($limit:expr, in $runtime:expr, $work:expr $(,)?) => {
        $crate::testing::assert_below($limit, $crate::testing::peak_in($runtime, || $work))
    };
    ($limit:expr, $work:expr $(,)?) => {
        $crate::testing::assert_below($limit, $crate::testing::peak(|| $work))
    };
}

#[cfg(test)]
mod tests;
