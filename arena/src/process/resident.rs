//! Resident bytes of this process, from `/proc/self/statm`, without allocating.
//!
//! ```text
//!   size  resident  shared  text  lib  data  dirty       in OS pages
//!            |         +- pages of files and of shared memory
//!            +----------- all pages; less `shared`: anonymous memory
//! ```
//!
//! The process keeps its own file open, because opening costs four times as much as reading. It
//! does not trust the descriptor: a child of `fork` opens its own file, and a program may have
//! closed all of its files. If the text behind the descriptor is no `statm`, the file is opened
//! again.
//!
//! Accuracy: `statm` is a sum of per-CPU counters. Since Linux 6.2 it may lag by a batch for each
//! CPU (before that, by 64 pages for each thread), so it corrects an account and must not define
//! one. `smaps` is exact, walks the page tables under a lock, and is never read here.
//!
//! Must never: allocate, lock, or take a damaged text for a number.
//!
//! Source: proc_pid_statm(5).

use super::cgroup::Scratch;
use super::file::{Found, Tree, Unread, decimal};
use crate::os::page_bytes;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Longest `statm` in bytes that is understood: seven 20-digit numbers and their separators are
/// 147.
const STATM_BYTES_MAX: usize = 160;
const _: () = assert!(STATM_BYTES_MAX > 7 * (20 + 1));

/// One reading of this process's resident memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// All resident pages, in bytes (`RSS`).
    pub resident_bytes: u64,
    /// Of these, pages of files and of shared memory, in bytes (`RssFile + RssShmem`).
    pub shared_bytes: u64,
}

impl Resident {
    /// Returns the resident anonymous memory in bytes: `resident_bytes - shared_bytes`, at least 0,
    /// for the two counters are not read at one instant.
    #[must_use]
    pub fn anon_bytes(&self) -> u64 {
        self.resident_bytes.saturating_sub(self.shared_bytes)
    }
}

impl Scratch {
    /// Reads the resident bytes of this process from the tree.
    ///
    /// # Errors
    ///
    /// [`Unread`], naming `statm`.
    pub fn resident(&mut self, tree: Tree<'_>) -> Result<Resident, Unread> {
        let parts: [&[u8]; 2] = [tree.0, b"/proc/self/statm"];
        let malformed = Unread::Malformed("seven counts of pages");
        let found = self.reader.find_line(&parts, |line| parse(line).map(Some).ok_or(malformed))?;
        match found {
            Found::Line(resident) => Ok(resident),
            Found::Nothing => Err(malformed),
            Found::NoFile => Err(Unread::Call(libc::ENOENT)),
        }
    }
}

/// The counts of `statm` that are used, in bytes.
fn parse(text: &[u8]) -> Option<Resident> {
    let mut counts = text.split(u8::is_ascii_whitespace).filter(|count| !count.is_empty());
    counts.next().and_then(decimal)?;
    let page = page_bytes() as u64;
    let mut bytes = || counts.next().and_then(decimal)?.checked_mul(page);
    Some(Resident { resident_bytes: bytes()?, shared_bytes: bytes()? })
}

/// The process's own `statm`, kept open.
#[derive(Debug)]
pub(super) struct Statm {
    /// The process that opened it, and its number, one more; 0 before.
    opened: AtomicU64,
}

impl Statm {
    pub(super) const fn new() -> Self {
        Self { opened: AtomicU64::new(0) }
    }

    /// Reads the resident bytes; `None` where the kernel will not say.
    pub(super) fn read(&self) -> Option<Resident> {
        // SAFETY: no preconditions.
        let process = u64::from(unsafe { libc::getpid() }.unsigned_abs());
        let opened = self.opened.load(Relaxed);
        if opened >> 32 == process
            && let Some(resident) = read_at_start((opened as u32).wrapping_sub(1).cast_signed())
        {
            return Some(resident);
        }
        self.open(process, opened)
    }

    /// Opens the file, for this process and the first time, or again.
    #[cold]
    fn open(&self, process: u64, before: u64) -> Option<Resident> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: the path is a C string.
        let file = unsafe { libc::open(c"/proc/self/statm".as_ptr(), flags) };
        let number = u32::try_from(file).ok()?;
        let resident = read_at_start(file);
        let opened = (process << 32) | u64::from(number + 1);
        // Relaxed: a number that stands for nothing but itself. What it was before may be somebody
        // else's file by now, and is left alone.
        let kept = resident.is_some()
            && self.opened.compare_exchange(before, opened, Relaxed, Relaxed).is_ok();
        if !kept {
            // SAFETY: opened above, and known to nobody else.
            unsafe { libc::close(file) };
        }
        resident
    }
}

/// Addresses that the process may still map, in bytes; `None` where nothing bounds them
/// (`ulimit -v`), or the kernel will not say.
#[must_use]
pub fn addresses_left() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes one rlimit.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } != 0;
    if failed || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    let (mut text, flags) = ([0u8; STATM_BYTES_MAX], libc::O_RDONLY | libc::O_CLOEXEC);
    // SAFETY: the path is a C string.
    let file = unsafe { libc::open(c"/proc/self/statm".as_ptr(), flags) };
    // SAFETY: the buffer has that many bytes; where nothing was opened the call fails.
    let read = unsafe { libc::read(file, text.as_mut_ptr().cast(), text.len()) };
    if file >= 0 {
        // SAFETY: opened above, and known to nobody else.
        unsafe { libc::close(file) };
    }
    let text = text.get(..usize::try_from(read).ok()?)?;
    let pages = text.split(u8::is_ascii_whitespace).next().and_then(decimal)?;
    let mapped = pages.checked_mul(page_bytes() as u64)?;
    usize::try_from(limit.rlim_cur.saturating_sub(mapped)).ok()
}

fn read_at_start(file: i32) -> Option<Resident> {
    let mut text = [0u8; STATM_BYTES_MAX];
    // SAFETY: the buffer has that many bytes.
    let read = unsafe { libc::pread(file, text.as_mut_ptr().cast(), text.len(), 0) };
    let text = text.get(..usize::try_from(read).ok()?)?;
    // Another file under the same number has another shape.
    let shape = text.split(u8::is_ascii_whitespace).filter(|count| !count.is_empty());
    (shape.count() == 7 && text.ends_with(b"\n")).then(|| parse(text)).flatten()
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_is_resident_in_bytes() {
        let statm = Statm::new();
        let both = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("status");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
            let said = line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
            (said.expect("a number") << 10, statm.read().expect("pages").resident_bytes)
        };
        // Other tests run beside this one; a wrong page size is wrong by four at least, each time.
        let agree = (0..10).map(|_| both()).any(|(said, ours)| ours > said / 2 && ours < said * 2);
        assert!(agree, "{:?}", both());
    }

    #[test]
    fn a_number_that_is_another_file_by_now_is_not_believed() {
        let statm = Statm::new();
        let other = std::fs::File::open("/proc/self/stat").expect("a file of the kernel's");
        let number = std::os::fd::AsRawFd::as_raw_fd(&other);
        let fake = (u64::from(std::process::id()) << 32) | (u64::from(number.unsigned_abs()) + 1);
        statm.opened.store(fake, Relaxed);
        assert!(statm.read().is_some_and(|resident| resident.resident_bytes > 1 << 16));
        assert_ne!(statm.opened.load(Relaxed), fake, "the right file is kept");
    }
}
