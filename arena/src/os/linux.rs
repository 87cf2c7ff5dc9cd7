//! The Linux backend: mmap, mprotect, madvise and mincore, one call each.
//!
//! Beside the contract it has what the allocator and the pager use of Linux alone: moving pages,
//! what a child of `fork` finds, which pages are in memory. No method allocates.

use super::{Moved, Os, OsError, page_bytes};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};

/// The Linux kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

/// What a child process of fork(2) finds in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InChild {
    /// Nothing: a touch ends the child.
    Absent,
    /// Zeros (since Linux 4.14).
    Zero,
}

/// Pages that one call counts: their marks are on the stack.
const COUNTED_PAGES: usize = 512;

/// `/proc/self/pagemap`: a word for each page, whose highest bit says that it is mapped.
const PAGEMAP_MAPPED: u64 = 1 << 63;

fn failed(call: &'static str, bytes: usize) -> OsError {
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    OsError { call, bytes, errno }
}

fn ok(returned: i32, call: &'static str, bytes: usize) -> Result<(), OsError> {
    if returned == 0 { Ok(()) } else { Err(failed(call, bytes)) }
}

impl Linux {
    /// `MADV_DONTNEED_LOCKED`, Linux 5.18: drops locked pages, too.
    pub const DONTNEED_LOCKED: i32 = 24;

    /// madvise(2), by number: a program may have a function of that name.
    ///
    /// # Safety
    ///
    /// As madvise(2).
    pub unsafe fn advise(&self, start: *mut u8, bytes: usize, advice: i32) -> i32 {
        // SAFETY: as the caller promised.
        unsafe { libc::syscall(libc::SYS_madvise, start, bytes, advice) as i32 }
    }

    /// mlockall(2), by number, as above.
    ///
    /// # Safety
    ///
    /// As mlockall(2).
    pub unsafe fn lock_all(&self, flags: i32) -> i32 {
        // SAFETY: as the caller promised.
        unsafe { libc::syscall(libc::SYS_mlockall, flags) as i32 }
    }

    /// Says what a child process finds in a range; nothing changes in this one.
    ///
    /// # Errors
    ///
    /// When the kernel does not know the advice, or has no room for another mapping.
    ///
    /// # Safety
    ///
    /// The range is committed, in whole OS pages.
    pub unsafe fn advise_fork(
        &self,
        start: NonNull<u8>,
        bytes: usize,
        in_child: InChild,
    ) -> Result<(), OsError> {
        let (advice, call) = match in_child {
            InChild::Absent => (libc::MADV_DONTFORK, "madvise(MADV_DONTFORK)"),
            InChild::Zero => (libc::MADV_WIPEONFORK, "madvise(MADV_WIPEONFORK)"),
        };
        // SAFETY: both advices leave the contents as they are in this process.
        let returned = unsafe { self.advise(start.as_ptr(), bytes, advice) };
        ok(returned, call, bytes)
    }

    /// Asks for no huge pages in a range, from the next touch on; refusal is harmless.
    ///
    /// # Safety
    ///
    /// The range is committed, in whole OS pages.
    pub unsafe fn advise_small(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: advice on a committed range changes no contents.
        unsafe { self.advise(start.as_ptr(), bytes, libc::MADV_NOHUGEPAGE) };
    }

    /// Looks which pages of a range are in memory: says so in the lowest bit of a byte for each,
    /// for as many as `out` has room for. The range is looked at from its start, a page's.
    ///
    /// # Errors
    ///
    /// When a part of the range is not mapped.
    pub fn resident_pages<'a>(
        &self,
        start: *const u8,
        bytes: usize,
        out: &'a mut [u8],
    ) -> Result<&'a [u8], OsError> {
        let pages = bytes.div_ceil(page_bytes()).min(out.len());
        let (out, bytes) = (&mut out[..pages], bytes.min(pages * page_bytes()));
        // SAFETY: one byte is written for each OS page of the range, and `out` has as many; the
        // range itself is not touched.
        let returned = unsafe { libc::mincore(start.cast_mut().cast(), bytes, out.as_mut_ptr()) };
        ok(returned, "mincore", bytes)?;
        Ok(out)
    }

    /// Moves pages to `to`, which becomes one mapping of `to_bytes`, and maps the origin anew.
    ///
    /// A failed or half-made move may leave a hole that another thread's mapping falls into; a
    /// range is therefore mapped only where nothing is, and given up where something is.
    ///
    /// # Safety
    ///
    /// Both are committed ranges of whole huge pages inside reservations, which do not overlap and
    /// belong to the caller; nothing needs what is at `to`; `from_bytes <= to_bytes`.
    pub(crate) unsafe fn move_pages(
        &self,
        from: NonNull<u8>,
        from_bytes: usize,
        to: NonNull<u8>,
        to_bytes: usize,
    ) -> Moved {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let (from, to) = (from.as_ptr(), to.as_ptr());
        // SAFETY: the origin is the caller's.
        if !unsafe { is_one_mapping(from, from_bytes) } {
            return Moved::Refused;
        }
        // SAFETY: both ranges are the caller's, who needs nothing at `to`.
        let moved =
            unsafe { libc::mremap(from.cast(), from_bytes, to_bytes, flags, to.cast::<u8>()) };
        if moved == libc::MAP_FAILED {
            // The kernel may have unmapped the destination before it looked at the origin.
            return if map_where_nothing_is(to, to_bytes) {
                Moved::Refused
            } else {
                Moved::DestinationLost
            };
        }
        let mapped = map_where_nothing_is(from, from_bytes);
        if mapped { Moved::Done } else { Moved::OriginLost }
    }
}

/// Says whether a range lies in one mapping, as a move needs (before Linux 6.17). To grow it where
/// it is fails one way when it does and another when it does not.
///
/// # Safety
///
/// The range belongs to the caller.
unsafe fn is_one_mapping(start: *mut u8, bytes: usize) -> bool {
    let more = crate::size::HUGE_BYTES;
    // SAFETY: without MREMAP_MAYMOVE the contents stay where they are.
    let grown = unsafe { libc::mremap(start.cast(), bytes, bytes + more, 0) };
    if grown == libc::MAP_FAILED {
        return std::io::Error::last_os_error().raw_os_error() != Some(libc::EFAULT);
    }
    // SAFETY: nothing was mapped there, or the call would have failed: it is ours to take away.
    unsafe { libc::munmap(start.wrapping_add(bytes).cast(), more) };
    true
}

/// Maps fresh memory for huge pages at `start`, if there is no mapping (since Linux 4.17).
fn map_where_nothing_is(start: *mut u8, bytes: usize) -> bool {
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the flags let the kernel map nothing over anything.
    let mapped = unsafe { libc::mmap(start.cast(), bytes, access, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    if mapped.cast::<u8>() != start {
        // A kernel that does not know the flag took the address for a hint.
        // SAFETY: the mapping was made by the call above and nobody knows it.
        unsafe { libc::munmap(mapped, bytes) };
        return false;
    }
    for advice in [libc::MADV_HUGEPAGE, libc::MADV_DONTDUMP] {
        // SAFETY: advice on the mapping just made; refusal is harmless.
        unsafe { Linux.advise(mapped.cast(), bytes, advice) };
    }
    true
}

// SAFETY: mmap without MAP_FIXED gives ranges that overlap nothing; anonymous private memory reads
// as zero before the first write and again after MADV_DONTNEED (madvise(2)).
unsafe impl Os for Linux {
    fn page_bytes(&self) -> usize {
        page_bytes()
    }

    fn reserve(&self, bytes: usize, align: usize) -> Result<NonNull<u8>, OsError> {
        let padded =
            bytes.checked_add(align).ok_or(OsError { call: "mmap", bytes, errno: libc::ENOMEM })?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let raw = unsafe { libc::mmap(ptr::null_mut(), padded, libc::PROT_NONE, flags, -1, 0) };
        if raw == libc::MAP_FAILED {
            return Err(failed("mmap", bytes));
        }
        let raw = raw.cast::<u8>();
        let front = raw.align_offset(align);
        let back = padded - front - bytes;
        if front > 0 {
            // SAFETY: the first `front` bytes of the mapping just made, below the aligned start.
            unsafe { libc::munmap(raw.cast(), front) };
        }
        let start = raw.wrapping_add(front);
        if back > 0 {
            // SAFETY: the last `back` bytes of the mapping just made, above the aligned end.
            unsafe { libc::munmap(start.wrapping_add(bytes).cast(), back) };
        }
        // Where THP is "always", a small block must not become a huge page; blocks that want one
        // ask for it. Failure is harmless.
        // SAFETY: the range is the mapping just made; the advice changes no contents.
        unsafe { self.advise(start, bytes, libc::MADV_NOHUGEPAGE) };
        // Witness data and hundreds of gigabytes have no place in a core dump. Failure is harmless.
        // SAFETY: the range is the mapping just made; the advice changes no contents.
        unsafe { self.advise(start, bytes, libc::MADV_DONTDUMP) };
        NonNull::new(start).ok_or(OsError { call: "mmap", bytes, errno: libc::ENOMEM })
    }

    unsafe fn release(&self, base: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller says that the range is one reservation and that nothing uses it.
        unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
    }

    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the caller says that the range lies inside a live reservation.
        let returned = unsafe { libc::mprotect(start.as_ptr().cast(), bytes, access) };
        ok(returned, "mprotect", bytes)
    }

    unsafe fn populate(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        loop {
            // SAFETY: the caller says that the range is committed; populating keeps contents.
            let returned = unsafe { self.advise(start.as_ptr(), bytes, libc::MADV_POPULATE_WRITE) };
            match ok(returned, "madvise(MADV_POPULATE_WRITE)", bytes) {
                Err(e) if e.errno == libc::EINTR || e.errno == libc::EAGAIN => {}
                // Before Linux 5.14: the pages come with the first touch instead.
                Err(e) if e.errno == libc::EINVAL => return Ok(()),
                other => return other,
            }
        }
    }

    unsafe fn decommit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller says that the range is committed and that its contents may go.
        let returned = unsafe { self.advise(start.as_ptr(), bytes, libc::MADV_DONTNEED) };
        let dropped = ok(returned, "madvise(MADV_DONTNEED)", bytes);
        if !dropped.is_err_and(|why| why.errno == libc::EINVAL) {
            return dropped;
        }
        // SAFETY: as above; the program has locked some of it.
        let returned = unsafe { self.advise(start.as_ptr(), bytes, Self::DONTNEED_LOCKED) };
        if returned == 0 { Ok(()) } else { dropped }
    }

    unsafe fn advise_huge(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: advice on a committed range changes no contents; refusal is harmless.
        unsafe { self.advise(start.as_ptr(), bytes, libc::MADV_HUGEPAGE) };
    }

    unsafe fn page_out(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the advice moves pages, and changes no contents.
        let returned = unsafe { self.advise(start.as_ptr(), bytes, libc::MADV_PAGEOUT) };
        ok(returned, "madvise(MADV_PAGEOUT)", bytes)
    }

    unsafe fn page_in(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // To the swap cache first: the populating alone would wait for one page after another, and
        // take each out of a swap in RAM. Refused, the pages come with what follows.
        // SAFETY: the advice brings pages, and changes no contents.
        unsafe { self.advise(start.as_ptr(), bytes, libc::MADV_WILLNEED) };
        loop {
            // SAFETY: as above.
            let returned = unsafe { self.advise(start.as_ptr(), bytes, libc::MADV_POPULATE_READ) };
            match ok(returned, "madvise(MADV_POPULATE_READ)", bytes) {
                Err(e) if e.errno == libc::EINTR || e.errno == libc::EAGAIN => {}
                // Before Linux 5.14: the pages come with the first touch instead.
                Err(e) if e.errno == libc::EINVAL => return Ok(()),
                other => return other,
            }
        }
    }

    unsafe fn mapped_bytes(&self, start: NonNull<u8>, bytes: usize) -> Result<usize, OsError> {
        const CALL: &str = "reading /proc/self/pagemap";
        let malformed = OsError { call: CALL, bytes, errno: libc::EIO };
        let map = File::open("/proc/self/pagemap");
        let why =
            |why: std::io::Error| OsError { errno: why.raw_os_error().unwrap_or(0), ..malformed };
        let map = map.map_err(why)?;
        let (mut words, mut mapped) = ([0u8; COUNTED_PAGES * size_of::<u64>()], 0);
        let (first, pages) = (start.as_ptr().addr() / page_bytes(), bytes.div_ceil(page_bytes()));
        for done in (0..pages).step_by(COUNTED_PAGES) {
            let words = &mut words[..(pages - done).min(COUNTED_PAGES) * size_of::<u64>()];
            map.read_exact_at(words, ((first + done) * size_of::<u64>()) as u64).map_err(why)?;
            let (words, _) = words.as_chunks();
            let is_mapped = |word: &&[u8; 8]| u64::from_ne_bytes(**word) & PAGEMAP_MAPPED != 0;
            mapped += words.iter().filter(is_mapped).count();
        }
        Ok(mapped * page_bytes())
    }

    unsafe fn resident_bytes(&self, start: NonNull<u8>, bytes: usize) -> Result<usize, OsError> {
        let (mut marks, mut resident) = ([0u8; COUNTED_PAGES], 0);
        for done in (0..bytes).step_by(COUNTED_PAGES * page_bytes()) {
            let part = start.as_ptr().wrapping_add(done);
            let pages = self.resident_pages(part, bytes - done, &mut marks)?;
            resident += pages.iter().filter(|page| *page & 1 == 1).count();
        }
        Ok(resident * page_bytes())
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one reservation, one argument")]
    fn a_reservation_is_aligned_zero_and_forgets_on_decommit() {
        let os = Linux;
        let bytes = 4 << 20;
        let base = os.reserve(bytes, 2 << 20).expect("4 MiB of addresses");
        assert_eq!(base.as_ptr() as usize % (2 << 20), 0);
        // SAFETY: the range is the reservation above, in whole pages, used by this test only.
        unsafe {
            os.commit(base, bytes).expect("commit");
            assert_eq!(os.resident_bytes(base, bytes), Ok(0));
            os.populate(base, bytes / 2).expect("populate");
            assert_eq!(os.resident_bytes(base, bytes), Ok(bytes / 2));
            assert_eq!(os.mapped_bytes(base, bytes), Ok(bytes / 2));
            // Without swap they stay; with it, this reads them back.
            os.page_out(base, bytes).expect("advice");
            os.page_in(base, bytes / 2).expect("advice");
            assert_eq!(os.mapped_bytes(base, bytes / 2), Ok(bytes / 2));
            let (middle, mut pages) = (base.add(bytes / 2 - 2 * os.page_bytes()), [9; 3]);
            assert_eq!(
                os.resident_pages(middle.as_ptr(), bytes / 2, &mut pages),
                Ok(&[1, 1, 0][..])
            );
            base.as_ptr().write(7);
            os.decommit(base, bytes).expect("decommit");
            assert_eq!(base.as_ptr().read(), 0);
            os.release(base, bytes);
        }
    }

    #[test]
    fn an_impossible_reservation_is_a_typed_error() {
        let error = Linux.reserve(1 << 60, 4096).expect_err("an exbibyte");
        // Valgrind, which answers in the kernel's place, says EINVAL.
        if error.errno != libc::EINVAL {
            assert_eq!(error.errno, libc::ENOMEM);
            assert!(error.to_string().contains("address space"));
        }
        assert_eq!((error.call, error.bytes), ("mmap", 1 << 60));
    }
}
