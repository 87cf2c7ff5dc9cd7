//! userfaultfd: opening one, registering ranges, faults as messages, pages on the move.
//!
//! ```text
//!   open -> register -> serve: a message for each thread that touched an absent page
//!                    -> move_pages: wakes who waits at the destination
//!                    -> wake: for who waits at a page that is there
//! ```
//!
//! The structures and numbers are those of linux/userfaultfd.h, checked below. No event features
//! are asked for, so nothing but page faults is ever reported and no call waits for us to read.
//!
//! Must never: allocate. A message that cannot be read ends the process.
//!
//! Source: userfaultfd(2), ioctl_userfaultfd(2), `UFFDIO_MOVE`(2const), Linux 6.8.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use plimsoll_arena::os::page_bytes;

use super::sys::{die, errno, owned};

/// `UFFD_API`.
const API: u64 = 0xAA;

/// `UFFD_FEATURE_MOVE`, Linux 6.8.
pub(crate) const FEATURE_MOVE: u64 = 1 << 16;

/// `UFFDIO_REGISTER_MODE_MISSING`: a touch of an absent page is a message.
pub(crate) const MODE_MISSING: u64 = 1;

/// `UFFDIO_REGISTER_MODE_WP`: for ranges that are only a destination of moves. Nothing in them is
/// ever write-protected, so they give no messages.
pub(crate) const MODE_DESTINATION: u64 = 2;

/// `UFFD_USER_MODE_ONLY`: faults inside system calls are errors, not messages.
const USER_MODE_ONLY: libc::c_int = 1;

/// `UFFD_EVENT_PAGEFAULT`.
const EVENT_PAGEFAULT: u8 = 0x12;

/// `UFFD_PAGEFAULT_FLAG_WRITE`.
const FAULT_WRITE: u64 = 1;

/// What a thread was about to do to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Read,
    Write,
}

/// Bytes of a message.
const MESSAGE_BYTES: usize = 32;

/// Messages taken at once.
pub(crate) const MESSAGES: usize = 16;

#[repr(C)]
struct ApiArgs {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RegisterArgs {
    start: u64,
    bytes: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct RangeArgs {
    start: u64,
    bytes: u64,
}

/// `uffdio_move` and `uffdio_copy`, which are laid out alike.
#[repr(C)]
struct MoveArgs {
    to: u64,
    from: u64,
    bytes: u64,
    mode: u64,
    moved: i64,
}

/// `UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`: a page that the origin has not got counts as moved, and is
/// none at the destination. Only the program drops pages (`MADV_DONTNEED`), and then it reads zero.
const ALLOW_HOLES: u64 = 2;

/// `_IOC(direction, 0xAA, number, bytes)` of the kernel's ioctl.h.
const fn ioctl_number(direction: u64, number: u64, bytes: usize) -> u64 {
    direction << 30 | (bytes as u64) << 16 | API << 8 | number
}

const UFFDIO_API: u64 = ioctl_number(3, 0x3F, size_of::<ApiArgs>());
const UFFDIO_REGISTER: u64 = ioctl_number(3, 0x00, size_of::<RegisterArgs>());
const UFFDIO_WAKE: u64 = ioctl_number(2, 0x02, size_of::<RangeArgs>());
const UFFDIO_COPY: u64 = ioctl_number(3, 0x03, size_of::<MoveArgs>());
const UFFDIO_MOVE: u64 = ioctl_number(3, 0x05, size_of::<MoveArgs>());
const USERFAULTFD_IOC_NEW: u64 = ioctl_number(0, 0x00, 0);

// As linux/userfaultfd.h gives them on x86-64 and arm64.
const _: () = assert!(UFFDIO_API == 0xC018_AA3F && UFFDIO_MOVE == 0xC028_AA05);
const _: () = assert!(UFFDIO_COPY == 0xC028_AA03);
const _: () = assert!(UFFDIO_REGISTER == 0xC020_AA00 && UFFDIO_WAKE == 0x8010_AA02);

/// How a userfaultfd was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `/dev/userfaultfd`: faults inside system calls are served too.
    Device,
    /// The system call: faults inside system calls are served too.
    Syscall,
    /// The system call for user mode: read(2) into an evicted buffer fails with `EFAULT`.
    UserModeOnly,
}

/// An open userfaultfd; drop closes it.
#[derive(Debug)]
pub(crate) struct Uffd {
    fd: OwnedFd,
    pub(crate) door: Door,
    pub(crate) features: u64,
}

/// Why each door is closed: the error numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) device: i32,
    pub(crate) syscall: i32,
    pub(crate) user_mode: i32,
}

fn from_device() -> Result<OwnedFd, i32> {
    let path = c"/dev/userfaultfd";
    // SAFETY: the path is a C string.
    let device = owned(unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) })?;
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: the request takes its flags by value.
    owned(unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW as _, flags) })
}

fn from_syscall(more: libc::c_int) -> Result<OwnedFd, i32> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | more;
    // SAFETY: the call takes its flags by value.
    owned(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) } as i32)
}

impl Uffd {
    /// Opens one by the first door that opens, without a handshake.
    fn knock() -> Result<(OwnedFd, Door), Closed> {
        let device = match from_device() {
            Ok(fd) => return Ok((fd, Door::Device)),
            Err(errno) => errno,
        };
        let syscall = match from_syscall(0) {
            Ok(fd) => return Ok((fd, Door::Syscall)),
            Err(errno) => errno,
        };
        match from_syscall(USER_MODE_ONLY) {
            Ok(fd) => Ok((fd, Door::UserModeOnly)),
            Err(user_mode) => Err(Closed { device, syscall, user_mode }),
        }
    }

    /// Opens one and asks for `features`; zero asks which there are.
    pub(crate) fn open(features: u64) -> Result<Result<Self, i32>, Closed> {
        let (fd, door) = Self::knock()?;
        let mut args = ApiArgs { api: API, features, ioctls: 0 };
        // SAFETY: the request reads and writes one ApiArgs, which outlives the call.
        let failed = unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API as _, &raw mut args) } != 0;
        Ok(if failed { Err(errno()) } else { Ok(Self { fd, door, features: args.features }) })
    }

    /// Registers a range of whole pages that one mapping covers.
    pub(crate) fn register(&self, start: usize, bytes: usize, mode: u64) -> Result<(), i32> {
        let mut args = RegisterArgs { start: start as u64, bytes: bytes as u64, mode, ioctls: 0 };
        let fd = self.fd.as_raw_fd();
        // SAFETY: the request reads and writes one RegisterArgs, which outlives the call.
        let failed = unsafe { libc::ioctl(fd, UFFDIO_REGISTER as _, &raw mut args) } != 0;
        if failed { Err(errno()) } else { Ok(()) }
    }

    /// Wakes the threads that wait for a page of the range.
    pub(crate) fn wake(&self, start: usize, bytes: usize) {
        let args = RangeArgs { start: start as u64, bytes: bytes as u64 };
        // SAFETY: the request reads one RangeArgs, which outlives the call.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_WAKE as _, &raw const args) };
    }

    /// Moves pages, and wakes who waits for them at `to`. Returns how many bytes were moved, and
    /// the error that stopped it, if one did.
    ///
    /// # Safety
    ///
    /// Both ranges lie in private anonymous mappings of the caller; no reference to memory at
    /// `from` is alive, or it is of a thread that will fault there and be served.
    pub(crate) unsafe fn move_pages(
        &self,
        to: usize,
        from: usize,
        bytes: usize,
    ) -> (usize, Option<i32>) {
        let (to, from, bytes) = (to as u64, from as u64, bytes as u64);
        let mut args = MoveArgs { to, from, bytes, mode: ALLOW_HOLES, moved: 0 };
        // SAFETY: the request reads and writes one MoveArgs; the caller owns the ranges.
        let failed =
            unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_MOVE as _, &raw mut args) } != 0;
        let error = failed.then(errno);
        (usize::try_from(args.moved).unwrap_or(0), error)
    }

    /// Makes one page at `to`, where none is, with the contents of the one at `from`, and wakes who
    /// waits for it. The error number says why not: `EEXIST` where there is one, `ENOENT` or
    /// `EINVAL` where the address is not registered here.
    ///
    /// # Safety
    ///
    /// The page at `from` is readable, and nobody writes to it meanwhile; `to` lies in a range
    /// that the caller registered.
    pub(crate) unsafe fn copy_page(&self, to: usize, from: usize) -> Result<(), i32> {
        let (to, from, bytes) = (to as u64, from as u64, page_bytes() as u64);
        let mut args = MoveArgs { to, from, bytes, mode: 0, moved: 0 };
        // SAFETY: the request reads and writes one MoveArgs; the caller owns the page.
        let failed =
            unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_COPY as _, &raw mut args) } != 0;
        if failed { Err(errno()) } else { Ok(()) }
    }

    /// Waits for messages and calls `each` with the faulting address of each, and what the thread
    /// was about to do there; returns false when `stop` was written to.
    pub(crate) fn serve(&self, stop: &OwnedFd, mut each: impl FnMut(usize, Intent)) -> bool {
        let poll =
            |fd: &OwnedFd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut fds = [poll(&self.fd), poll(stop)];
        // SAFETY: two pollfd, which outlive the call.
        if unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) } < 0 && errno() != libc::EINTR {
            die(format_args!("poll of the userfaultfd failed with OS error {}", errno()));
        }
        if fds[0].revents & (libc::POLLERR | libc::POLLNVAL) != 0 {
            die(format_args!("the userfaultfd is closed or broken"));
        }
        let mut buffer = [[0u8; MESSAGE_BYTES]; MESSAGES];
        let room = MESSAGES * MESSAGE_BYTES;
        let to = buffer.as_mut_ptr().cast();
        // SAFETY: the buffer has `room` bytes.
        let read = unsafe { libc::read(self.fd.as_raw_fd(), to, room) };
        match usize::try_from(read) {
            Ok(0) => die(format_args!("the userfaultfd has ended")),
            Ok(read) => {
                for message in buffer.iter().take(read / MESSAGE_BYTES) {
                    if message[0] == EVENT_PAGEFAULT {
                        // struct uffd_msg: u8 event, 7 bytes, u64 flags, u64 address.
                        let (words, _) = message.as_chunks::<8>();
                        let intent = match u64::from_ne_bytes(words[1]) & FAULT_WRITE {
                            0 => Intent::Read,
                            _ => Intent::Write,
                        };
                        each(u64::from_ne_bytes(words[2]) as usize, intent);
                    }
                }
            }
            Err(_) if matches!(errno(), libc::EAGAIN | libc::EINTR) => {}
            Err(_) => die(format_args!("reading faults failed with OS error {}", errno())),
        }
        fds[1].revents == 0
    }
}
