//! What waking a thread costs on this machine: a fault of the pager takes two wakes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Nanoseconds of writing a byte to a thread that sleeps and reading its answer, `count` times, by
/// threads on these two processors.
pub(crate) fn hand_over(count: usize, [here, there]: [usize; 2]) -> Vec<f64> {
    let (mut near, mut far) = UnixStream::pair().expect("two sockets");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            stay_on(there);
            let mut byte = [0];
            while far.read_exact(&mut byte).is_ok() {
                far.write_all(&byte).expect("it waits");
            }
        });
        let asking = scope.spawn(move || {
            stay_on(here);
            let mut once = |_| {
                let start = Instant::now();
                near.write_all(&[1]).expect("it listens");
                near.read_exact(&mut [0]).expect("it answers");
                start.elapsed().as_secs_f64() * 1e9
            };
            (0..count).map(&mut once).collect()
        });
        asking.join().expect("it ends")
    })
}

/// Keeps this thread on one processor, if the machine has it and lets it.
fn stay_on(processor: usize) {
    // SAFETY: a set of bits of our own; zero is an empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: a small number; the set is ours.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the set outlives the call; a processor that is not there is refused.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}
