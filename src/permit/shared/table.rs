//! The table: records of 64 bytes, and the locks that say who lives.

use super::error::SharedError;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const MAGIC: u64 = u64::from_le_bytes(*b"plimshr1");
pub(super) const RECORD_BYTES: usize = 64;
pub(super) const RECORDS: usize = 256;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Bytes that the program uses by itself.
    pub(super) program: u64,
    /// Bytes of its permits.
    pub(super) granted: u64,
    /// Bytes it waits for, zero when it does not.
    pub(super) least: u64,
    /// Its turn, zero when it does not wait.
    pub(super) ticket: u64,
    pub(super) process: u64,
}

impl Record {
    fn words(self) -> Words {
        [self.program, self.granted, self.least, self.ticket, self.process]
    }
}

type Words = [u64; 5];

/// Tells a record from other bytes; it need not withstand malice.
fn check(words: Words) -> u64 {
    words.into_iter().fold(MAGIC, |sum, word| (sum ^ word).rotate_left(23).wrapping_mul(MAGIC | 1))
}

fn encode(words: Words) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    for (slot, word) in bytes.chunks_mut(8).zip(words.into_iter().chain([check(words)])) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Words> {
    let mut all = bytes.chunks_exact(8).map(|word| word.try_into().map(u64::from_le_bytes));
    let mut words = Words::default();
    for word in &mut words {
        *word = all.next()?.ok()?;
    }
    (all.next()?.ok()? == check(words)).then_some(words)
}

/// The table, in the hands of the one thread that has it.
pub(super) struct Table<'a> {
    pub(super) path: &'a Path,
    pub(super) file: &'a File,
    /// The record of this process; 0 before it has one.
    pub(super) own: usize,
}

impl Table<'_> {
    pub(super) fn damaged(&self) -> SharedError {
        SharedError::Damaged { path: self.path.to_owned() }
    }

    pub(super) fn failed(&self, doing: &'static str, why: impl Into<io::Error>) -> SharedError {
        SharedError::Io { path: self.path.to_owned(), doing, why: why.into() }
    }

    /// Runs `work` while this thread alone has the table.
    pub(super) fn locked<R>(
        &self,
        work: impl FnOnce(&Self) -> Result<R, SharedError>,
    ) -> Result<R, SharedError> {
        self.lock(0, libc::F_WRLCK, true)?;
        let done = work(self);
        self.lock(0, libc::F_UNLCK, false)?;
        done
    }

    /// Says whether the path still leads to this file: who leaves last removes it.
    pub(super) fn is_linked(&self) -> Result<bool, SharedError> {
        let own = self.file.metadata().map_err(|why| self.failed("read", why))?;
        match self.path.symlink_metadata() {
            Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(why) => Err(self.failed("read", why)),
        }
    }

    fn range(index: usize, kind: i32) -> libc::flock {
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: (index * RECORD_BYTES) as libc::off_t,
            l_len: 1,
            l_pid: 0,
        }
    }

    fn lock(&self, index: usize, kind: i32, wait: bool) -> Result<(), SharedError> {
        let range = Self::range(index, kind);
        loop {
            let done = match wait {
                true => fcntl(self.file, FcntlArg::F_OFD_SETLKW(&range)),
                false => fcntl(self.file, FcntlArg::F_OFD_SETLK(&range)),
            };
            match done {
                Err(nix::errno::Errno::EINTR) => {}
                done => return done.map(drop).map_err(|why| self.failed("locked", why)),
            }
        }
    }

    /// Takes a free record for this process, for as long as the file is open.
    pub(super) fn own(&self, index: usize) -> Result<(), SharedError> {
        self.lock(index, libc::F_WRLCK, false)
    }

    /// Returns whether a process holds the record.
    fn is_held(&self, index: usize) -> Result<bool, SharedError> {
        // One's own locks do not show.
        if index == self.own {
            return Ok(true);
        }
        let mut range = Self::range(index, libc::F_WRLCK);
        let asked = fcntl(self.file, FcntlArg::F_OFD_GETLK(&mut range));
        asked.map_err(|why| self.failed("locked", why))?;
        Ok(i32::from(range.l_type) != libc::F_UNLCK)
    }

    /// Reads `N` bytes; what the file does not have yet is zero.
    pub(super) fn read<const N: usize>(&self, index: usize) -> Result<[u8; N], SharedError> {
        let (mut bytes, mut filled) = ([0; N], 0);
        while filled < N {
            let at = (index * RECORD_BYTES + filled) as u64;
            match self.file.read_at(&mut bytes[filled..], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(self.failed("read", why)),
            }
        }
        Ok(bytes)
    }

    /// Returns the limit and the next ticket; `None` in a new table.
    pub(super) fn header(&self) -> Result<Option<(u64, u64)>, SharedError> {
        let bytes = self.read::<RECORD_BYTES>(0)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        match decode(&bytes) {
            Some([MAGIC, limit, ticket, 0, 0]) => Ok(Some((limit, ticket))),
            _ => Err(self.damaged()),
        }
    }

    pub(super) fn write_header(&self, limit: u64, ticket: u64) -> Result<(), SharedError> {
        self.write_words(0, [MAGIC, limit, ticket, 0, 0])
    }

    /// Returns every index with its record, if a live process has it.
    pub(super) fn live(&self) -> Result<Vec<(usize, Option<Record>)>, SharedError> {
        let bytes = self.read::<{ RECORDS * RECORD_BYTES }>(0)?;
        let records = bytes.chunks(RECORD_BYTES).enumerate().skip(1);
        records.map(|(index, bytes)| Ok((index, self.record(index, bytes)?))).collect()
    }

    /// Returns the record in `bytes` if a live process has it.
    pub(super) fn record(&self, index: usize, bytes: &[u8]) -> Result<Option<Record>, SharedError> {
        if bytes.iter().all(|byte| *byte == 0) || !self.is_held(index)? {
            return Ok(None);
        }
        let words = decode(bytes).ok_or_else(|| self.damaged())?;
        let [program, granted, least, ticket, process] = words;
        Ok(Some(Record { program, granted, least, ticket, process }))
    }

    pub(super) fn write(&self, index: usize, record: Record) -> Result<(), SharedError> {
        self.write_words(index, record.words())
    }

    fn write_words(&self, index: usize, words: Words) -> Result<(), SharedError> {
        let at = (index * RECORD_BYTES) as u64;
        let written = self.file.write_all_at(&encode(words), at);
        written.map_err(|why| self.failed("written", why))
    }
}
