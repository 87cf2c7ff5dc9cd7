//! A file of a known length, read at offsets: every byte is copied into memory of the caller.
//!
//! ```text
//!   file   |----------------------------------|
//!                     ^ offset
//!   out               |--------|                the caller's memory; nothing else becomes resident
//! ```
//!
//! It was a mapping once, whose pages were dropped behind the reader. A fault on a mapped file maps
//! the pages around it too: since Linux 6.18 all of the page cache's folio, up to 2 MiB on either
//! side. What that maps of ranges that were dropped before stays, and counts as resident: a proof
//! that streamed a key came to 3 to 5 MB over its limit. pread(2) has no pages of its own, takes no
//! fault, and a file that is cut short underneath is an error instead of SIGBUS.
//!
//! Invariants: reading makes nothing resident but `out`; what is copied is what the file held at
//! that moment, so who needs it unchanged copies it, checks the copy and uses that.
//!
//! Must never: hand out a view of the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file of a known length that is read at offsets, always by copy.
#[derive(Debug)]
pub(crate) struct RandomFile {
    file: File,
    len: u64,
}

impl RandomFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// What the system says of opening or measuring it; a directory or a pipe is refused.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self { file, len: metadata.len() })
    }

    /// Returns the file's length in bytes when it was opened.
    #[cfg(feature = "groth16")]
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the file's length in bytes as it is now, or as it was if the system does not say.
    #[cfg(feature = "groth16")]
    #[must_use]
    pub(crate) fn len_now(&self) -> u64 {
        self.file.metadata().map_or(self.len, |metadata| metadata.len())
    }

    /// Copies bytes from `offset` on into `out`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the range was not inside the file as it was opened, and `out` is then
    /// unchanged, or is not inside it any more; what the system says of reading.
    pub(crate) fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(out, offset)
    }
}

/// Bytes of a known length that are read at offsets, by copy.
pub(crate) trait ReadAt: Send + Sync {
    /// Returns the number of bytes.
    fn len(&self) -> u64;

    /// Copies bytes from `offset` on into `out`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the range is not all there; what the system says of reading.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for RandomFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        RandomFile::read_at(self, offset, out)
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
        let opened = RandomFile::open(file.path()).expect("open");
        assert_eq!(opened.len, 20_000);
        let mut out = [0; 300];
        opened.read_at(4000, &mut out).expect("inside");
        assert_eq!(out, bytes[4000..4300]);
        opened.read_at(19_700, &mut out).expect("the last bytes");
        assert_eq!(out, bytes[19_700..]);
        for offset in [19_701, 20_000, 20_001, u64::MAX] {
            let error = opened.read_at(offset, &mut out).expect_err("outside");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        opened.read_at(20_000, &mut []).expect("nothing, at the end");
    }

    #[test]
    fn a_file_that_is_cut_short_underneath_is_an_error() {
        let mut file = tempfile::NamedTempFile::new().expect("temp file");
        file.write_all(&[7; 20_000]).expect("write");
        let opened = RandomFile::open(file.path()).expect("open");
        file.as_file().set_len(100).expect("cut");
        let error = opened.read_at(0, &mut [0; 200]).expect_err("not there any more");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_empty_file_and_a_folder() {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        let opened = RandomFile::open(file.path()).expect("open");
        assert_eq!(opened.len, 0);
        assert!(opened.read_at(0, &mut [0]).is_err());
        assert!(RandomFile::open(Path::new("/")).is_err());
    }
}
