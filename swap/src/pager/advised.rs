//! What a program says to the kernel of its vectors, where the kernel knows only half of it.
//!
//! ```text
//!   madvise(DONTNEED)   the kernel drops what is in data; what is away is dropped here
//!   mlockall(CURRENT)   would lock, and so make, all addresses of the pager: refused
//! ```
//!
//! Code that is linked with the pager finds these two functions under the C library's names. They
//! are hidden: other shared libraries call the C library's own, and so does what calls the kernel
//! by itself. What such a call drops reads as zero if it was in data, and as before if it was away.
//!
//! Must never: allocate, or hold the lock over a wait.
//!
//! Source: madvise(2), mlockall(2).

use std::ffi::{c_int, c_void};

use nix::errno::Errno;
use nix::libc;
use plimsoll_arena::os::Linux;

use super::core::Core;
use super::entry::Demand;
use super::face::Pager;
use super::hints::process;
use super::space::{GRANULE_BYTES, GRANULES, run};
use super::state::State;
use super::sys::{Quiet, die, now_ns, say};

/// How long a thread waits for a worker before it looks again.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(2);

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
std::arch::global_asm!(
    ".pushsection .text.plimsoll_advised,\"ax\",@progbits",
    ".weak madvise",
    ".hidden madvise",
    ".type madvise,@function",
    "madvise: jmp {advise}",
    ".weak mlockall",
    ".hidden mlockall",
    ".type mlockall,@function",
    "mlockall: jmp {lock}",
    ".popsection",
    advise = sym advise,
    lock = sym lock_all,
);

#[cfg(all(target_arch = "aarch64", target_os = "linux", not(miri)))]
std::arch::global_asm!(
    ".pushsection .text.plimsoll_advised,\"ax\",%progbits",
    ".weak madvise",
    ".hidden madvise",
    ".type madvise,%function",
    "madvise: b {advise}",
    ".weak mlockall",
    ".hidden mlockall",
    ".type mlockall,%function",
    "mlockall: b {lock}",
    ".popsection",
    advise = sym advise,
    lock = sym lock_all,
);

/// madvise(2), for a range that may be the pager's in part.
///
/// # Safety
///
/// As madvise(2).
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "reached by its C name"))]
unsafe extern "C" fn advise(start: *mut c_void, bytes: usize, advice: c_int) -> c_int {
    // SAFETY: as the caller promised.
    let returned = unsafe { Linux.advise(start.cast(), bytes, advice) };
    // With ENOMEM, all has been dropped that is mapped.
    let done = returned == 0 || Errno::last() == Errno::ENOMEM;
    if done
        && matches!(advice, libc::MADV_DONTNEED | Linux::DONTNEED_LOCKED)
        && let Some(pager) = process()
    {
        let errno = Errno::last();
        pager.dropped(start.addr(), bytes);
        errno.set();
    }
    returned
}

/// mlockall(2). The frames, the tables and what is away would all be made resident at once.
///
/// # Safety
///
/// As mlockall(2).
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "reached by its C name"))]
unsafe extern "C" fn lock_all(flags: c_int) -> c_int {
    if flags & libc::MCL_CURRENT != 0 && process().is_some_and(Pager::is_here) {
        say(format_args!(
            "mlockall is refused (ENOMEM): it would lock all that is paged; call it before the \
             first large block, or run without a spill folder, and nothing is paged"
        ));
        Errno::ENOMEM.set();
        return -1;
    }
    // SAFETY: as the caller promised.
    unsafe { Linux.lock_all(flags) }
}

impl Pager {
    /// The program has dropped whole pages of a range, of which the kernel had those in data: the
    /// others read as zero from now on, too.
    fn dropped(&self, start: usize, bytes: usize) {
        let base = self.base().as_ptr().addr();
        let (first, past) = (start.max(base), start.saturating_add(bytes));
        let past = past.next_multiple_of(plimsoll_arena::os::page_bytes());
        let past = past.min(base + self.range_bytes());
        if !self.is_here() || first >= past {
            return;
        }
        let (first, past) = (first - base, past - base);
        let (inside, end) = (first.next_multiple_of(GRANULE_BYTES), past / GRANULE_BYTES);
        let end = end * GRANULE_BYTES;
        if inside < end {
            // SAFETY: inside the range.
            let start = unsafe { self.base().add(inside) };
            // SAFETY: the program has dropped these pages.
            unsafe { self.discard(start, end - inside) };
        }
        if first < inside {
            self.drop_part(first, inside.min(past));
        }
        if end < past && end >= inside {
            self.drop_part(end, past);
        }
    }

    /// Drops some pages of one granule, which is brought for that.
    fn drop_part(&self, first: usize, past: usize) {
        let engine = self.engine();
        let (chunk, granule) = Core::place(first);
        let bit = run(granule, 1);
        debug_assert!(granule < GRANULES && past - first < GRANULE_BYTES);
        loop {
            let seen = engine.progress.count();
            let quiet = Quiet::new();
            let mut core = engine.core.lock();
            let state = core.chunk(chunk).state(granule);
            match state {
                State::Zero => return,
                State::Resident => return engine.space.drop_part(first, past - first),
                State::Limbo | State::Ahead => {
                    core.rescue(&engine.space, chunk, bit, now_ns());
                    continue;
                }
                State::Writing | State::Loading | State::Clearing => {}
                State::Disk | State::Packed if core.chunk(chunk).queued() & bit != 0 => {}
                State::Disk | State::Packed => {
                    core.chunk(chunk).queue(granule);
                    if !core.demands.push(Demand { offset: first, since_ns: now_ns(), write: 0 }) {
                        die(format_args!("more than 65536 threads wait for pages"));
                    }
                    engine.work.raise_one();
                }
            }
            drop(core);
            drop(quiet);
            engine.progress.wait(seen, PATIENCE);
        }
    }
}
