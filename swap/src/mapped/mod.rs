//! The spill file without `O_DIRECT`: written by calls, read through short mappings.
//!
//! ```text
//!   write   pwrite -> page cache -> fadvise(DONTNEED): the disk begins at once
//!   read    fadvise(WILLNEED) -> for each window: map, copy, unmap -> fadvise(DONTNEED)
//!
//!   file    | window | window | ..          at most WINDOW_BYTES of it mapped by a request
//! ```
//!
//! For file systems that refuse `O_DIRECT`, and for persistent memory (DAX), where a window is the
//! memory itself and no page cache is between.
//!
//! **Why windows, and not one mapping that stays.** A mapped page counts in the process's RSS,
//! which the limit is about. Pages of a lasting mapping would stay there until each request dropped
//! them, and a file that grows would have to be mapped anew under its readers. A window is the
//! reader's own, and unmapping it takes its pages out of the RSS.
//!
//! **Why writes are calls.** Through a mapping the kernel first reads what a page held from the
//! disk, then traps once for each 4 KiB. Where the file system copies on write, it also takes
//! space for a block that was written before, and a mapping learns of a full disk by a signal.
//! `pwrite` returns it.
//!
//! Invariants: no window outlives its request; the file never shrinks, and no window ends past
//! `len_bytes`. Pages that were read leave the page cache; those that were written stay there until
//! the disk has them and the kernel wants them, and a cgroup counts them until then.
//!
//! An error of the disk under a window is SIGBUS: the process ends, and no wrong byte is used.
//! [`SpillFile`] returns it instead.
//!
//! Must never: make a reference to mapped memory, or map more than a window for a request.
//!
//! Source: mmap(2), posix_fadvise(2) of the Linux man-pages.

#![allow(unsafe_code, reason = "one copy out of a mapping")]

use std::path::Path;
use std::ptr;

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::Error;
use crate::backend::Backend;
use crate::extent::{BLOCK_BYTES, Extent};
use crate::file::{RamDisk, SpillFile, check_aligned, shown};

/// Bytes that a request maps at once. They count in the RSS while they are copied, once for each
/// thread that reads; smaller ones cost more calls for the same bytes.
const WINDOW_BYTES: usize = 256 << 10;

const _: () =
    assert!((WINDOW_BYTES as u64).is_multiple_of(BLOCK_BYTES), "a window is made of blocks");

/// An open spill file that is read through mappings. Drop closes it, and its space is the disk's
/// again.
#[derive(Debug)]
pub struct MappedFile {
    file: SpillFile,
}

impl MappedFile {
    /// A new, empty file on the disk of `folder`.
    ///
    /// # Errors
    ///
    /// As [`SpillFile::open`]; [`Error::NoMapping`] if the file system maps no files.
    pub fn open(folder: &Path, ram_disk: RamDisk) -> Result<Self, Error> {
        let opened = Self { file: SpillFile::open_buffered(folder, ram_disk)? };
        // A hole: it takes no space.
        let mapped = opened.file.as_file().set_len(BLOCK_BYTES).and_then(|()| {
            opened.window(0, BLOCK_BYTES as usize)?;
            opened.file.as_file().set_len(0)
        });
        mapped.map(|()| opened).map_err(|why| Error::NoMapping {
            folder: shown(folder),
            os_error: why.raw_os_error().unwrap_or(0),
        })
    }

    /// Maps `bytes` of the file, its pages with them. Drop unmaps them.
    fn window(&self, offset_bytes: u64, bytes: usize) -> std::io::Result<MmapRaw> {
        let mut options = MmapOptions::new();
        options.offset(offset_bytes).len(bytes).populate();
        options.map_raw_read_only(self.file.as_file())
    }

    /// Fills `out`, a window at most.
    fn copy_out(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), Error> {
        let window = self.window(offset_bytes, out.len()).map_err(|why| Error::Map {
            offset_bytes,
            bytes: out.len() as u64,
            os_error: why.raw_os_error().unwrap_or(0),
        })?;
        // SAFETY: the window has `out.len()` bytes, which may be read until it is dropped, and is
        // no part of `out`, which is borrowed to write. The file has these bytes: `read_at` looked,
        // and it never shrinks. It was never anybody else's: it has no name, is 0600, and its
        // descriptor is ours. Another process of the same user can open it through /proc/PID/fd all
        // the same. If that one writes, other bytes are copied, to which no reference was made, and
        // the frame's checksum or seal judges them, as it does a disk's. If it truncates the file,
        // SIGBUS ends this process.
        unsafe { ptr::copy_nonoverlapping(window.as_ptr(), out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Tells the kernel what becomes of the range. It is advice: an error changes nothing.
    fn advise(&self, advice: PosixFadviseAdvice, offset_bytes: u64, bytes: usize) {
        // No bytes would mean all that follow.
        if bytes == 0 {
            return;
        }
        // A range that does not fit has no bytes of the file, and the kernel refuses it.
        let _ = posix_fadvise(self.file.as_file(), offset_bytes as i64, bytes as i64, advice);
    }

    /// Has the disk begin to read.
    fn ahead(&self, offset_bytes: u64, bytes: usize) {
        self.advise(PosixFadviseAdvice::POSIX_FADV_WILLNEED, offset_bytes, bytes);
    }

    /// Has the disk begin to write, and drops pages that it has.
    fn done_with(&self, offset_bytes: u64, bytes: usize) {
        self.advise(PosixFadviseAdvice::POSIX_FADV_DONTNEED, offset_bytes, bytes);
    }
}

impl Backend for MappedFile {
    fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), Error> {
        check_aligned(offset_bytes, out)?;
        let bytes = out.len();
        // Past the end a window is there, and touching it is SIGBUS.
        if offset_bytes.saturating_add(bytes as u64) > self.len_bytes() {
            return Err(Error::Short { what: "read", offset_bytes, bytes: bytes as u64 });
        }
        self.ahead(offset_bytes, bytes);
        let mut at = offset_bytes;
        for part in out.chunks_mut(WINDOW_BYTES) {
            self.copy_out(at, part)?;
            at += part.len() as u64;
        }
        self.done_with(offset_bytes, bytes);
        Ok(())
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_at(offset_bytes, bytes)?;
        self.done_with(offset_bytes, bytes.len());
        Ok(())
    }

    fn read_both_at(
        &self,
        offset_bytes: u64,
        head: &mut [u8],
        out: &mut [u8],
    ) -> Result<(), Error> {
        self.ahead(offset_bytes, head.len() + out.len());
        self.read_at(offset_bytes, head)?;
        self.read_at(offset_bytes.saturating_add(head.len() as u64), out)
    }

    fn write_both_at(&self, offset_bytes: u64, head: &[u8], bytes: &[u8]) -> Result<(), Error> {
        self.file.write_both_at(offset_bytes, head, bytes)?;
        self.done_with(offset_bytes, head.len() + bytes.len());
        Ok(())
    }

    fn read_while(
        &self,
        offset_bytes: u64,
        out: &mut [u8],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        self.ahead(offset_bytes, out.len());
        meanwhile();
        self.read_at(offset_bytes, out)
    }

    fn reserve(&self, extent: Extent) -> Result<(), Error> {
        self.file.reserve(extent)
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        self.file.release(extent)
    }

    fn len_bytes(&self) -> u64 {
        self.file.len_bytes()
    }
}

#[cfg(test)]
mod tests;
