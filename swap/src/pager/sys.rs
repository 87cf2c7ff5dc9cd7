//! The pager's room for system calls other than userfaultfd: threads, clocks, the last word.
//!
//! Nothing here allocates, so that a fault can be served while a thread is inside `malloc`.
//!
//! ```text
//!   Uffd    open -> register -> read messages -> move pages, wake
//!   die     one line to file descriptor 2, then abort
//! ```
//!
//! Rules: a call that fails is reported with its error number; `die` is for what would otherwise
//! give wrong bytes.
//!
//! Source: eventfd(2), poll(2), pthread_sigmask(3), pthread_create(3).

use std::ffi::c_void;
use std::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;
pub(crate) use plimsoll_arena::process::say;

/// The nice value of the pager's threads.
const PRIORITY: libc::c_int = -10;

/// Stack of a thread of the pager, whatever `ulimit -s` says: some 20 KiB are used.
const STACK_BYTES: usize = 512 << 10;

/// Stack that making a pager may take.
const STACK_LEFT_MIN: usize = 256 << 10;

/// The number of the last failed call of this thread.
pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The descriptor that a call gave, or why it gave none.
pub(crate) fn owned(fd: i32) -> Result<OwnedFd, i32> {
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: a descriptor that the kernel has just given, owned by nobody else.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // Where a program runs without standard error, what it writes there must not reach this one.
    let standard = fd <= libc::STDERR_FILENO;
    if standard {
        owned.try_clone().map_err(|why| why.raw_os_error().unwrap_or(0))
    } else {
        Ok(owned)
    }
}

/// An eventfd: readable after [`ring`].
pub(crate) fn bell() -> Result<OwnedFd, i32> {
    // SAFETY: the call takes its arguments by value.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })
}

/// Makes the eventfd readable for good.
pub(crate) fn ring(bell: &OwnedFd) {
    let one = 1u64;
    // SAFETY: eight bytes are read from a u64.
    unsafe { libc::write(bell.as_raw_fd(), (&raw const one).cast(), 8) };
}

/// Waits until the eventfd has been rung, or the time is over. Returns whether it has.
pub(crate) fn has_rung(bell: &OwnedFd, time: Duration) -> bool {
    let mut poll = libc::pollfd { fd: bell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which outlives the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, time.as_millis() as libc::c_int) };
    if ready < 0 && errno() != libc::EINTR {
        die(format_args!("poll of an eventfd failed with OS error {}", errno()));
    }
    ready > 0
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Nanoseconds that a clock of processors' time says; none where it cannot be read.
fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds that the threads of this process have run.
pub(crate) fn process_ran_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Nanoseconds that one of them has run.
pub(crate) fn thread_ran_ns(thread: i32) -> u64 {
    // As the kernel numbers the clocks of threads: clock_getres(2).
    clock_ns(!thread << 3 | 6)
}

/// This thread's id.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: the call has no preconditions.
    unsafe { libc::gettid() }
}

/// Lets this thread go before others that want a processor, where that is allowed: threads wait
/// for it, and it waits for the disk most of the time.
pub(crate) fn go_first() {
    // SAFETY: the call takes its arguments by value; refusal is harmless.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, thread_id() as libc::id_t, PRIORITY) };
}

/// Ends this thread without a trace.
#[cfg(test)]
pub(crate) fn vanish() {
    // SAFETY: the thread never runs again; what it holds is lost, which is the point.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// Whether a thread of this process still runs.
pub(crate) fn is_alive(thread: i32) -> bool {
    let process = std::process::id() as i32;
    // SAFETY: signal 0 is sent to nobody; the call only looks.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) == 0 }
}

/// Random bits from the kernel.
pub(crate) fn random_u64() -> u64 {
    let mut bits = now_ns();
    // SAFETY: eight bytes are written to a u64; without them the clock must do.
    unsafe { libc::getrandom((&raw mut bits).cast(), 8, libc::GRND_NONBLOCK) };
    bits
}

/// Ends the process: a page that cannot be brought back must never read as zero.
#[cold]
pub(crate) fn die(why: fmt::Arguments<'_>) -> ! {
    say(format_args!("the pager cannot go on, so the process ends: {why}"));
    std::process::abort()
}

/// This thread takes no signals, but those that its own instructions raise, until it is dropped.
pub(crate) struct Quiet {
    before: libc::sigset_t,
}

impl Quiet {
    pub(crate) fn new() -> Self {
        // SAFETY: sigset_t is plain bits, and filled by the next call.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above, for the old mask.
        let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: writes one set.
        unsafe { libc::sigfillset(&raw mut set) };
        for own in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP] {
            // SAFETY: changes one set.
            unsafe { libc::sigdelset(&raw mut set, own) };
        }
        // SAFETY: both sets outlive the call.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
        Self { before }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: the mask that was there before.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut())
        };
    }
}

/// Keeps the library that this code is in, if it is one, loaded for as long as the process lives:
/// threads run in it, and memory of others lies in its hands. dlclose(3) then does nothing.
pub(crate) fn stay_loaded() {
    // SAFETY: the call takes its argument by value.
    let program = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    if (&raw const __ehdr_start).addr().abs_diff(program) < HEADER_BYTES {
        // It is in the program itself. To ask the loader could wait for a thread that it runs.
        return;
    }
    let here: extern "C" fn() = here;
    // SAFETY: plain pointers, filled by the next call.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: writes one Dl_info.
    if unsafe { libc::dladdr(here as *const c_void, &raw mut found) } == 0 {
        return;
    }
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: the name of a library that is loaded, of which nothing is run.
    unsafe { libc::dlopen(found.dli_fname, flags) };
}

/// An address in this library.
extern "C" fn here() {}

/// The headers of a program follow the first by so many bytes at most.
const HEADER_BYTES: usize = 4096;

unsafe extern "C" {
    /// The first byte of the program or library that this code is in; the linker makes it.
    static __ehdr_start: u8;
}

/// Starts a thread that takes no signals. `main` runs with `argument`.
///
/// # Errors
///
/// The error number of pthread_create(3).
///
/// # Safety
///
/// `main` may be called with `argument`, once and from another thread.
pub(crate) unsafe fn start_thread(
    main: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> Result<libc::pthread_t, i32> {
    // SAFETY: sigset_t is plain bits, and filled by the next call.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above, for the old mask.
    let mut old: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes one set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both sets outlive the call; a new thread inherits the mask.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old) };
    let mut thread = 0;
    // SAFETY: plain bits, filled by the next call.
    let mut how: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes one set of attributes.
    unsafe { libc::pthread_attr_init(&raw mut how) };
    // SAFETY: the attributes were made by the line above; a size that is refused leaves the usual.
    unsafe { libc::pthread_attr_setstacksize(&raw mut how, STACK_BYTES) };
    // SAFETY: the thread's id is written to `thread`; `main` fits the argument, says the caller.
    let error = unsafe { libc::pthread_create(&raw mut thread, &raw const how, main, argument) };
    // SAFETY: made above, and used by nobody any more.
    unsafe { libc::pthread_attr_destroy(&raw mut how) };
    // SAFETY: the mask that was there before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, std::ptr::null_mut()) };
    if error == 0 { Ok(thread) } else { Err(error) }
}

/// Bytes of this thread's stack that are left, as far as that is known.
fn stack_left() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    if thread_id() == std::process::id() as i32 {
        // SAFETY: writes one rlimit.
        let failed = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) } != 0;
        return (!failed).then_some(limit.rlim_cur as usize);
    }
    // SAFETY: plain bits, filled by the next call.
    let mut how: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
    // SAFETY: no preconditions.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: writes one set of attributes.
    if unsafe { libc::pthread_getattr_np(this, &raw mut how) } != 0 {
        return None;
    }
    let (mut start, mut bytes) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes were made above; writes an address and a size.
    unsafe { libc::pthread_attr_getstack(&raw const how, &raw mut start, &raw mut bytes) };
    // SAFETY: made above, and used by nobody any more.
    unsafe { libc::pthread_attr_destroy(&raw mut how) };
    Some((&raw const limit).addr().saturating_sub(start.addr()))
}

/// Runs `act`: here, or where little of this thread's stack is left, on a thread of its own, which
/// is waited for.
pub(crate) fn with_stack<R: Send>(act: impl FnOnce() -> R + Send) -> R {
    struct Task<F, R>(Option<F>, Option<R>);
    extern "C" fn run<F: FnOnce() -> R, R>(raw: *mut c_void) -> *mut c_void {
        // SAFETY: the task of the thread that waits, which touches it only afterwards.
        let task = unsafe { &mut *raw.cast::<Task<F, R>>() };
        task.1 = task.0.take().map(|act| act());
        std::ptr::null_mut()
    }
    fn main_of<F: FnOnce() -> R, R>(_: &Task<F, R>) -> extern "C" fn(*mut c_void) -> *mut c_void {
        run::<F, R>
    }
    let mut task = Task(Some(act), None);
    if stack_left().is_some_and(|left| left < STACK_LEFT_MIN) {
        let main = main_of(&task);
        // SAFETY: `main` is for such a task, which outlives the thread: it is joined below.
        if let Ok(thread) = unsafe { start_thread(main, (&raw mut task).cast()) } {
            // SAFETY: of the line above, and joined once.
            unsafe { join_thread(thread) };
        }
    }
    match task {
        Task(_, Some(result)) => result,
        // There is stack enough, or no thread to be had.
        Task(Some(act), None) => act(),
        Task(None, None) => die(format_args!("a thread that was to make the pager is gone")),
    }
}

/// Waits until a thread of [`start_thread`] has ended.
///
/// # Safety
///
/// The thread is one of [`start_thread`], and is joined once.
pub(crate) unsafe fn join_thread(thread: libc::pthread_t) {
    // SAFETY: the caller says so.
    unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
}
