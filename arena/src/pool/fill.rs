//! Zeroes over a large block, by several threads where that pays.

#[cfg(feature = "parallel")]
use crate::sync::unpoisoned;
use std::mem::MaybeUninit;
#[cfg(feature = "parallel")]
use std::sync::Mutex;

/// What a thread has to fill at least, to be worth its start: 8 MiB are 0.8 ms of one core.
#[cfg(feature = "parallel")]
const FILL_BYTES_PER_THREAD: usize = 8 << 20;

/// More threads than this do not fill faster: memory's bandwidth is all in use.
#[cfg(feature = "parallel")]
const FILL_THREADS_MAX: usize = 8;

/// Writes zeros, with threads of its own where that pays.
///
/// It does not use rayon's threads. A thread that waits for those may run any other job of theirs,
/// and that job may want a lock that the caller holds.
pub(crate) fn fill_zero(bytes: &mut [MaybeUninit<u8>]) {
    let fill = |part: &mut [MaybeUninit<u8>]| {
        // SAFETY: these are the bytes of `part`, borrowed to write.
        unsafe { part.as_mut_ptr().write_bytes(0, part.len()) };
    };
    #[cfg(feature = "parallel")]
    {
        let threads = rayon::current_num_threads().min(FILL_THREADS_MAX);
        let threads = threads.min(bytes.len() / FILL_BYTES_PER_THREAD);
        if threads > 1 {
            let parts = Mutex::new(bytes.chunks_mut(FILL_BYTES_PER_THREAD / 4));
            let next = || unpoisoned(parts.lock()).next();
            let work = || {
                while let Some(part) = next() {
                    fill(part);
                }
            };
            std::thread::scope(|scope| {
                for _ in 1..threads {
                    // A thread that does not start leaves its share to the others.
                    let _started = std::thread::Builder::new().spawn_scoped(scope, work);
                }
                work();
            });
            return;
        }
    }
    fill(bytes);
}
