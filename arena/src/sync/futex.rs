//! futex(2): threads that sleep until a word changes.
//!
//! Neither call allocates or fails: a wait may end for no reason, and whoever waits looks again.
//!
//! Source: futex(2).

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps until a wake of the word, unless the word is no longer `seen`, or the time is over, or
/// for no reason.
pub(super) fn wait(word: &AtomicU32, seen: u32, time: Option<Duration>) {
    let time = time.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos() as _,
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word and the time outlive the call; a wait has no other precondition, and after
    // an error (the word changed, a signal came) the caller looks again.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, seen, time) };
}

/// Wakes as many as `count` who wait for the word.
pub(super) fn wake(word: &AtomicU32, count: u32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word outlives the call; a wake has no other precondition.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, count) };
}
