//! The OS contract: every call that maps, touches or gives back memory, and what they need to know
//! of the machine.
//!
//! ```text
//!            reserve          commit            populate
//!   nothing --------> PROT_NONE -----> zero, absent -------> zero, resident
//!      ^                                 ^    | first touch        |
//!      |  release                        |    v                    v
//!      +---------------- any             +--- resident, in use <---+
//!                                   decommit
//! ```
//!
//! Two backends: [`Linux`] for real, [`Fake`] for tests, Miri and fault injection. The rest of the
//! crate sees only the trait, so that both run the same pool.
//!
//! Rules every backend keeps:
//!
//! * committed memory that was never written, or was decommitted, reads as zero;
//! * decommit is advice on the existing mapping, never a new mapping over it, so that attributes
//!   (huge pages, no core dump) survive;
//! * `advise_huge` may do nothing; it never fails;
//! * `page_out` and `page_in` move pages to the kernel's swap and back: the contents stay, and a
//!   touch brings a page back as well.
//!
//! Two counts say where pages are. `mapped_bytes` are those that the process's RSS has. A page on
//! its way to swap or back is in the kernel's swap cache: in memory, in no RSS, and part of
//! `resident_bytes`.
//!
//! Source: mmap(2), madvise(2), mincore(2), and the kernel's admin-guide/mm/pagemap;
//! `MADV_PAGEOUT` since Linux 5.4, `MADV_POPULATE_WRITE` since 5.14.

mod errno;
mod fake;
mod linux;
mod machine;

pub(crate) use errno::Errno;
pub use fake::{Failing, Fake, FakeCall};
pub use linux::{InChild, Linux};
pub use machine::{page_bytes, physical_bytes};

use std::fmt::Debug;
use std::ptr::NonNull;

/// A call to the operating system that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} of {bytes} bytes failed with OS error {errno}{}", advice(*errno))]
pub struct OsError {
    /// Name of the system call.
    pub call: &'static str,
    /// The bytes the call was about.
    pub bytes: usize,
    /// The error number the kernel gave.
    pub errno: i32,
}

fn advice(errno: i32) -> &'static str {
    match errno {
        libc::ENOMEM => {
            " (out of memory or address space: raise `ulimit -v` or vm.max_map_count, \
             or set vm.overcommit_memory to 0 or 1)"
        }
        libc::EPERM | libc::EACCES => " (not permitted: look at the seccomp profile)",
        _ => "",
    }
}

/// What became of a request to move pages instead of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The contents are at the destination, whose rest reads as zero; the origin reads as zero.
    Done,
    /// As `Done`, but the origin's addresses are not the source's any more and must not be used.
    OriginLost,
    /// Nothing was moved, both ranges are as before: copy.
    Refused,
    /// The contents are where they were, but the destination's addresses must not be used.
    DestinationLost,
}

/// What the arena asks of an operating system.
///
/// # Safety
///
/// An implementation gives ranges that overlap nothing else, keeps them until `release`, and keeps
/// the rules in the module's header: the pool skips zeroing on the strength of them.
pub unsafe trait Os: Debug + Send + Sync {
    /// Size of an OS page in bytes, a power of two.
    fn page_bytes(&self) -> usize;

    /// Reserves `bytes` of addresses aligned to `align`, without access and without memory.
    ///
    /// # Errors
    ///
    /// When the kernel refuses that much address space.
    fn reserve(&self, bytes: usize, align: usize) -> Result<NonNull<u8>, OsError>;

    /// Gives a reservation back.
    ///
    /// # Safety
    ///
    /// `base` and `bytes` are those of one `reserve`; nothing uses the range any more.
    unsafe fn release(&self, base: NonNull<u8>, bytes: usize);

    /// Allows access to a part of a reservation; it reads as zero and takes no memory yet.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to account for it.
    ///
    /// # Safety
    ///
    /// The range lies inside one live reservation, in whole OS pages.
    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError>;

    /// Makes committed memory resident now; what was written before stays.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory for it.
    ///
    /// # Safety
    ///
    /// The range is committed, in whole OS pages.
    unsafe fn populate(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError>;

    /// Gives the memory behind a committed range back; it reads as zero afterwards.
    ///
    /// # Errors
    ///
    /// When the kernel refuses (locked pages); the bytes then stay resident and unspecified.
    ///
    /// # Safety
    ///
    /// The range is committed, in whole OS pages, and nothing needs its contents.
    unsafe fn decommit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError>;

    /// Asks for huge pages on a committed range.
    ///
    /// # Safety
    ///
    /// The range is committed, in whole huge pages.
    unsafe fn advise_huge(&self, start: NonNull<u8>, bytes: usize);

    /// Asks the kernel to move a range's pages to its swap; the contents stay. Pages may stay in
    /// memory: where there is no swap, or it is full.
    ///
    /// # Errors
    ///
    /// When the kernel does not know the advice, or refuses it (locked pages).
    ///
    /// # Safety
    ///
    /// The range is committed, in whole OS pages.
    unsafe fn page_out(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError>;

    /// Brings a range's pages back from the kernel's swap, to be read. Their copies in the swap
    /// stay, where it has room for them, until the pages are written to.
    ///
    /// # Errors
    ///
    /// When a page cannot be read, or the kernel has no memory for it. To touch the range would
    /// then end the process.
    ///
    /// # Safety
    ///
    /// The range is committed, in whole OS pages.
    unsafe fn page_in(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError>;

    /// Counts the bytes of a range that the process's RSS has now.
    ///
    /// # Errors
    ///
    /// When the kernel cannot say.
    ///
    /// # Safety
    ///
    /// The range lies inside one live reservation, in whole OS pages.
    unsafe fn mapped_bytes(&self, start: NonNull<u8>, bytes: usize) -> Result<usize, OsError>;

    /// Counts the bytes of a range that are in memory now, in the kernel's swap cache among them.
    /// It walks the range.
    ///
    /// # Errors
    ///
    /// When the kernel cannot say.
    ///
    /// # Safety
    ///
    /// The range lies inside one live reservation, in whole OS pages.
    unsafe fn resident_bytes(&self, start: NonNull<u8>, bytes: usize) -> Result<usize, OsError>;
}

/// Asks the C library to give its free heap pages back to the kernel.
///
/// This is the last rung of the reclaim ladder: memory that ordinary `Vec`s left behind. It takes
/// the heap's locks, so it is called at reclaim points, never inside an allocation. Does nothing
/// where the C library is not glibc.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: malloc_trim has no preconditions and is thread-safe (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
