//! A file mapped for reading, without a view of it: bytes are copied out.
//!
//! A `&[u8]` into a mapped file is a promise that nobody else changes the file, which no library
//! can make. So this type never hands one out: it copies ranges into memory of the caller, who
//! checks what was copied and uses that. A file that changes underneath then gives wrong bytes,
//! which the checks find, and never undefined behaviour. A file that is cut short underneath still
//! ends the process with SIGBUS, as it does for every program that maps files.
//!
//! `drop_behind` takes pages that were read out of our residence, so that a key of many gigabytes
//! streams through a few megabytes.
//!
//! Source: mmap(2), madvise(2) `MADV_DONTNEED` on a shared file mapping: the pages leave the
//! process and stay in the page cache.

use crate::os::{Linux, Os};
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

/// A fault on a file maps the pages around it too, in a window of this size and alignment
/// (`fault_around_bytes` of the kernel).
const FAULT_AROUND_BYTES: usize = 64 << 10;

/// See the module's header.
#[derive(Debug)]
pub struct FileMap {
    map: Option<MmapRaw>,
    len: u64,
}

impl FileMap {
    /// Opens and maps the file at `path`, read-only.
    ///
    /// # Errors
    ///
    /// What the system says of opening, measuring or mapping it; a directory or a pipe is refused.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let len = metadata.len();
        if len == 0 {
            return Ok(Self { map: None, len });
        }
        let map = MmapOptions::new().map_raw_read_only(&file)?;
        // A hint only: readers go through it once, front to back.
        let _ = map.advise(Advice::Sequential);
        Ok(Self { map: Some(map), len })
    }

    /// Returns the file's length in bytes when it was opened.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Says whether the file was empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn inside(&self, range: Range<u64>) -> Option<(&MmapRaw, usize, usize)> {
        let ordered = range.start <= range.end && range.end <= self.len;
        let map = self.map.as_ref().filter(|_| ordered)?;
        Some((map, usize::try_from(range.start).ok()?, (range.end - range.start) as usize))
    }

    /// Copies bytes from `offset` on into `out`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the range is not inside the file; `out` is then unchanged.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if out.is_empty() && offset <= self.len {
            return Ok(());
        }
        let end = offset.checked_add(out.len() as u64);
        let (map, start, len) = end
            .and_then(|end| self.inside(offset..end))
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        // SAFETY: the range lies inside the mapping, as `inside` checked.
        let source = unsafe { map.as_ptr().add(start) };
        // SAFETY: `source` has `len` mapped bytes, `out` is `len` bytes of the caller's own; bytes
        // have no invalid values, whatever another process writes into the file meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(source, out.as_mut_ptr(), len) };
        Ok(())
    }

    /// Lets the pages of `range` leave this process: they will not be read again soon. A range
    /// outside the file is ignored.
    pub fn drop_behind(&self, range: Range<u64>) {
        let Some((map, start, len)) = self.inside(range) else { return };
        // Outwards to all that reading the range has mapped: pages of the neighbours, dropped
        // before, would stay otherwise, up to a window for each range. A neighbour that is being
        // read takes them from the file again.
        let window = FAULT_AROUND_BYTES.max(Linux.page_bytes());
        let first = start / window * window;
        let last = (start + len).next_multiple_of(window).min(self.len as usize);
        if len > 0 {
            // SAFETY: the pages are a read-only file mapping; dropping them loses nothing, the
            // next read takes them from the file again.
            let _ = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, first, last - first)
            };
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn ranges_inside_are_copied_and_ranges_outside_are_errors() {
        let mut file = tempfile::NamedTempFile::new().expect("temp file");
        let bytes: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
        file.write_all(&bytes).expect("write");
        let map = FileMap::open(file.path()).expect("open");
        assert_eq!(map.len(), 20_000);
        let mut out = [0; 300];
        map.read_at(4000, &mut out).expect("inside");
        assert_eq!(out, bytes[4000..4300]);
        map.drop_behind(0..20_000);
        map.drop_behind(19_000..90_000);
        map.read_at(19_700, &mut out).expect("the last bytes");
        assert_eq!(out, bytes[19_700..]);
        for offset in [19_701, 20_000, 20_001, u64::MAX] {
            let error = map.read_at(offset, &mut out).expect_err("outside");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        map.read_at(20_000, &mut []).expect("nothing, at the end");
    }

    /// Resident bytes of the mapping at `address`.
    fn resident_bytes(address: usize) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
        let ours = maps.split_once(&format!("{address:x}-")).expect("the mapping").1;
        let line = ours.lines().find(|line| line.starts_with("Rss:")).expect("its Rss");
        let kib = line.split_whitespace().nth(1).expect("a figure");
        kib.parse::<usize>().expect("a number") << 10
    }

    #[test]
    fn nothing_stays_of_ranges_that_were_dropped() {
        let mut file = tempfile::NamedTempFile::new().expect("temp file");
        let bytes = vec![7; 24 << 20];
        file.write_all(&bytes).expect("write");
        for block in [5_000, 70_000, 100_001, 1 << 20] {
            let map = FileMap::open(file.path()).expect("open");
            let address = map.map.as_ref().expect("a mapping").as_ptr() as usize;
            let mut out = vec![0; block];
            for start in (0..bytes.len() - block).step_by(block) {
                map.read_at(start as u64, &mut out).expect("inside");
                map.drop_behind(start as u64..(start + block) as u64);
            }
            let left = resident_bytes(address);
            assert!(left <= 2 * FAULT_AROUND_BYTES, "blocks of {block}: {left} bytes stay");
            // Backwards, the windows overlap the other way round.
            for start in (0..bytes.len() - block).step_by(block).rev() {
                map.read_at(start as u64, &mut out).expect("inside");
                map.drop_behind(start as u64..(start + block) as u64);
            }
            let left = resident_bytes(address);
            assert!(left <= 2 * FAULT_AROUND_BYTES, "blocks of {block}: {left} bytes stay");
        }
    }

    #[test]
    fn an_empty_file_and_a_folder() {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        let map = FileMap::open(file.path()).expect("open");
        assert!(map.is_empty());
        assert!(map.read_at(0, &mut [0]).is_err());
        assert!(FileMap::open(Path::new("/")).is_err());
    }
}
