//! One request of a file that runs while its thread does something else.
//!
//! ```text
//!   run(request, meanwhile):   io_submit  ->  meanwhile()  ->  io_getevents  ->  Ok
//!                              `- refused: nothing was submitted, nothing was done
//! ```
//!
//! Linux's own asynchronous I/O, not io_uring, which the default profile of Docker refuses. With
//! `O_DIRECT` the disk works meanwhile; through the page cache the kernel does the request in
//! `io_submit`, and nothing is gained or lost.
//!
//! Invariants:
//!
//! * a request ends before [`Queues::run`] returns, also when `meanwhile` panics.
//! * a queue has one request at most. A process has [`QUEUES_MAX`] of them idle at most, each of a
//!   page or a few; more are opened and closed as they are needed.
//! * a child of `fork` has no queue of its parent's: the kernel refuses it there.
//!
//! Never: allocate, or report what is wrong with a request. The caller repeats a failed request in
//! the ordinary way, and that call returns the error.
//!
//! Source: io_setup(2), io_submit(2), io_getevents(2) of the Linux man-pages.

#![allow(unsafe_code, reason = "system calls that no crate of ours has")]

use crossbeam_queue::ArrayQueue;
use nix::errno::Errno;
use nix::libc::{SYS_io_destroy, SYS_io_getevents, SYS_io_setup, SYS_io_submit, c_long, syscall};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;

/// Queues that are kept for the next request: one for each I/O thread, and one for a thread that
/// waits.
const QUEUES_MAX: usize = 4;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Read = 0,
    Write = 1,
}

/// Bytes to read into or write from.
pub(crate) enum Buffer<'a> {
    Read(&'a mut [u8]),
    Write(&'a [u8]),
}

/// Why a request was not done, or not to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `meanwhile` has run and all bytes were transferred.
    Done,
    /// `meanwhile` has run, and the request failed or stopped early.
    Failed,
    /// Neither happened.
    Refused,
}

/// `struct iocb` of linux/aio_abi.h, on a little-endian machine.
#[repr(C)]
struct Control {
    data: u64,
    key: u32,
    flags_of_request: i32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_file: u32,
}

/// `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Default)]
struct IoEvent {
    data: u64,
    control: u64,
    result: i64,
    result_2: i64,
}

/// Queues for requests of one file.
#[derive(Debug)]
pub(crate) struct Queues {
    idle: ArrayQueue<Queue>,
}

impl Default for Queues {
    fn default() -> Self {
        Self { idle: ArrayQueue::new(QUEUES_MAX) }
    }
}

impl Queues {
    /// Reads or writes `buffer` at `offset_bytes` of `file`, and runs `meanwhile` once unless the
    /// outcome is [`Outcome::Refused`].
    pub(crate) fn run(
        &self,
        file: &File,
        offset_bytes: u64,
        buffer: Buffer<'_>,
        meanwhile: &mut dyn FnMut(),
    ) -> Outcome {
        if cfg!(target_endian = "big") {
            return Outcome::Refused;
        }
        let Some(queue) = self.idle.pop().or_else(Queue::open) else { return Outcome::Refused };
        let (what, address, bytes) = match buffer {
            Buffer::Read(bytes) => (What::Read, bytes.as_mut_ptr().cast_const(), bytes.len()),
            Buffer::Write(bytes) => (What::Write, bytes.as_ptr(), bytes.len()),
        };
        let mut control = Control {
            data: 0,
            key: 0,
            flags_of_request: 0,
            opcode: what as u16,
            priority: 0,
            // A file's number is not negative.
            file: file.as_raw_fd() as u32,
            buffer: address.expose_provenance() as u64,
            bytes: bytes as u64,
            offset: offset_bytes as i64,
            reserved: 0,
            flags: 0,
            event_file: 0,
        };
        // SAFETY: `buffer` is borrowed for this call, to write where the kernel writes. The request
        // ends before the call does: `wait` waits for it, and so does closing the queue after a
        // panic.
        if !unsafe { queue.submit(&mut control) } {
            // Not kept: in a child of `fork` it is of no use.
            return Outcome::Refused;
        }
        meanwhile();
        let Some(result) = queue.wait() else { return Outcome::Failed };
        // One too many is closed.
        let _ = self.idle.push(queue);
        if result == bytes as i64 { Outcome::Done } else { Outcome::Failed }
    }
}

/// An `aio_context_t` for one request.
#[derive(Debug)]
struct Queue(u64);

impl Queue {
    fn open() -> Option<Self> {
        let mut context = 0u64;
        // SAFETY: the kernel writes the context's number to where the pointer says.
        let failed = unsafe { syscall(SYS_io_setup, 1 as c_long, &raw mut context) };
        (failed == 0).then_some(Self(context))
    }

    /// Hands `control` to the kernel; false when it does not take it.
    ///
    /// # Safety
    ///
    /// The buffer it names stays borrowed until [`Queue::wait`] has returned or the queue is gone.
    unsafe fn submit(&self, control: &mut Control) -> bool {
        let mut list = [ptr::from_mut(control)];
        // SAFETY: one pointer to one request, both alive; the kernel copies what it says.
        unsafe { syscall(SYS_io_submit, self.0, 1 as c_long, list.as_mut_ptr()) == 1 }
    }

    /// Waits for the request's end: bytes, or minus an error's number. `None` if that cannot be
    /// waited for, which is not a thing that the kernel does to a queue of ours.
    fn wait(&self) -> Option<i64> {
        let (mut event, one, no_timeout) = (IoEvent::default(), 1 as c_long, ptr::null_mut::<u8>());
        loop {
            // SAFETY: room for the one event that is asked for.
            let ended =
                unsafe { syscall(SYS_io_getevents, self.0, one, one, &raw mut event, no_timeout) };
            match ended {
                1 => return Some(event.result),
                _ if Errno::last() == Errno::EINTR => {}
                _ => return None,
            }
        }
    }
}

impl Drop for Queue {
    /// Closes it, which waits for a request that still runs.
    fn drop(&mut self) {
        // SAFETY: the number is not used again.
        unsafe { syscall(SYS_io_destroy, self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{AlignedBytes, Backend};
    use crate::file::{RamDisk, SpillFile};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    use plimsoll_arena::process::skipped;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    const BYTES: usize = 16 << 20;

    /// A file of one extent, and what is written there.
    fn written() -> (tempfile::TempDir, SpillFile, AlignedBytes) {
        let folder = tempfile::tempdir().unwrap();
        let file = SpillFile::open(folder.path(), RamDisk::Accept).unwrap();
        let extent = crate::extent::ExtentMap::new(1 << 30).alloc(BYTES as u64).unwrap();
        file.reserve(extent).unwrap();
        let mut bytes = AlignedBytes::zeroed(BYTES);
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = ((at * at) >> 9) as u8;
        }
        let mut runs = 0;
        file.write_while(0, &bytes, &mut || runs += 1).unwrap();
        assert_eq!(runs, 1);
        (folder, file, bytes)
    }

    #[test]
    fn bytes_are_there_and_the_other_work_was_done_once() {
        let (_folder, file, bytes) = written();
        for _ in 0..3 {
            let mut out = AlignedBytes::zeroed(BYTES);
            let mut runs = 0;
            file.read_while(0, &mut out, &mut || runs += 1).unwrap();
            assert!(out[..] == bytes[..]);
            assert_eq!(runs, 1);
        }
    }

    #[test]
    fn a_queue_is_used_again_and_no_more_are_kept_than_is_said() {
        let (queues, file) = (Queues::default(), tempfile::tempfile().unwrap());
        file.set_len(BYTES as u64).unwrap();
        fn deep(queues: &Queues, file: &File, depth: usize) -> usize {
            let (mut bytes, mut refused) = ([1; 512], 0);
            let mut meanwhile = || {
                if depth > 0 {
                    refused = deep(queues, file, depth - 1);
                }
            };
            let outcome = queues.run(file, 0, Buffer::Read(&mut bytes), &mut meanwhile);
            refused + usize::from(outcome == Outcome::Refused)
        }
        for _ in 0..2 {
            if deep(&queues, &file, 2 * QUEUES_MAX) > 0 {
                skipped("queues", "this machine refuses asynchronous I/O");
                return;
            }
            assert_eq!(queues.idle.len(), QUEUES_MAX);
        }
    }

    #[test]
    fn what_failed_is_done_again_and_told() {
        let (_folder, file, _) = written();
        let mut out = AlignedBytes::zeroed(BYTES);
        let past = file.read_while(BYTES as u64 / 2, &mut out, &mut || ());
        assert!(matches!(past, Err(crate::Error::Short { what: "read", .. })), "{past:?}");
        let unaligned = file.read_while(7, &mut out, &mut || unreachable!("nothing was asked"));
        assert!(matches!(unaligned, Err(crate::Error::Unaligned { .. })), "{unaligned:?}");
    }

    #[test]
    fn a_panic_meanwhile_waits_for_the_request() {
        let (_folder, file, bytes) = written();
        let mut out = AlignedBytes::zeroed(BYTES);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            // Without the hook, which takes longer than the request.
            file.read_while(0, &mut out, &mut || resume_unwind(Box::new("meanwhile")))
        }));
        assert!(panicked.is_err());
        // All came before the buffer was anybody else's, or, where it was refused, nothing did.
        let came = out[..] == bytes[..];
        assert!(came || out.iter().all(|byte| *byte == 0), "a part of it came");
        assert!(file.read_while(0, &mut out, &mut || ()).is_ok());
        assert!(out[..] == bytes[..]);
    }

    #[test]
    fn a_child_of_fork_does_one_after_the_other() {
        let (_folder, file, bytes) = written();
        let mut out = AlignedBytes::zeroed(BYTES);
        // SAFETY: the child calls what neither allocates nor locks, and ends.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let mut runs = 0;
                let read = file.read_while(0, &mut out, &mut || runs += 1).is_ok();
                let right = read && runs == 1 && out[..] == bytes[..];
                // SAFETY: nothing of the parent's is dropped.
                unsafe { nix::libc::_exit(if right { 0 } else { 1 }) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            }
        }
        assert!(file.read_while(0, &mut out, &mut || ()).is_ok(), "the parent's goes on");
    }
}
