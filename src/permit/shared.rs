//! One limit for several processes: a table in shared memory, of who was granted how much.
//!
//! ```text
//!   /dev/shm/plimsoll-UID-NAME, mode 0600, 64 bytes a record, little-endian
//!     record 0        "plimshr1" | limit | next ticket | check
//!     record 1..255   program | granted | waits for | ticket | process | check   one a process
//! ```
//!
//! Who reads or writes the table holds a lock on record 0. Each process holds a lock on its own
//! record for as long as it lives. The kernel drops both when the process ends, however it ends:
//! a record without a lock is free, and its bytes are nobody's.
//!
//! The first who waits in each process takes a ticket. Nobody is granted bytes while a process
//! with an earlier ticket waits.
//!
//! Invariants: the grants of live processes are at most the limit, except for what programs use by
//! themselves; each record is written in one call, so that no kill leaves half of it.
//!
//! Must never: open a file of another user, or wait for anybody but for a holder of record 0.

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use plimsoll_arena::sync::unpoisoned;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const MAGIC: u64 = u64::from_le_bytes(*b"plimshr1");
const RECORD_BYTES: usize = 64;
const RECORDS: usize = 256;

/// The longest name.
const NAME_LEN_MAX: usize = 64;

/// Why processes cannot share a limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// The name makes no file name.
    #[error(
        "\"{name}\" cannot name a shared limit; use up to {NAME_LEN_MAX} letters, digits, '.', \
         '_' and '-'"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The table cannot be opened, locked, read or written.
    #[error("{}: cannot be {doing}: {why}; check the path and its permissions", path.display())]
    Io {
        /// The table.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        why: io::Error,
    },
    /// The table is not this user's alone.
    #[error("{}: belongs to another user, or others may open it; remove it", path.display())]
    NotOurs {
        /// The table.
        path: PathBuf,
    },
    /// The table holds something else.
    #[error("{}: is no table of a shared limit, or damaged; remove it", path.display())]
    Damaged {
        /// The table.
        path: PathBuf,
    },
    /// Live processes share another limit by this name.
    #[error(
        "{}: {limit_bytes} bytes are shared by that name, not {asked_bytes}; give all processes \
         the same limit",
        path.display()
    )]
    OtherLimit {
        /// The table.
        path: PathBuf,
        /// The limit in force, bytes.
        limit_bytes: u64,
        /// The limit asked for, bytes.
        asked_bytes: u64,
    },
    /// As many processes as there are records share the limit.
    #[error("{}: {} processes share it already; use another name", path.display(), RECORDS - 1)]
    Full {
        /// The table.
        path: PathBuf,
    },
}

/// What a process has of a shared limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its process id.
    pub process: u32,
    /// The bytes of its program and its permits.
    pub granted_bytes: u64,
    /// The bytes that it waits for, at least; zero when it does not wait.
    pub waits_for_bytes: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Record {
    /// Bytes that the program uses by itself.
    program: u64,
    /// Bytes of its permits.
    granted: u64,
    /// Bytes it waits for, zero when it does not.
    least: u64,
    /// Its turn, zero when it does not wait.
    ticket: u64,
    process: u64,
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

/// A place in a table that several processes share. Clones are one place.
#[derive(Clone)]
pub struct SharedLimit(Arc<Place>);

struct Place {
    path: PathBuf,
    limit: u64,
    /// The record of this process.
    index: usize,
    /// Its lock tells threads of this process apart, which locks of the file do not.
    file: Mutex<File>,
}

impl std::fmt::Debug for SharedLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedLimit")
            .field("path", &self.0.path)
            .field("limit_bytes", &self.0.limit)
            .finish_non_exhaustive()
    }
}

/// What came of asking for bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// So many were granted.
    Granted(u64),
    /// Other processes have them, or come first, if `others`; else permits of this one.
    Wait {
        /// Whether another process has any, or waits.
        others: bool,
    },
    /// So many are missing even when no permit is in force.
    Never(u64),
}

impl SharedLimit {
    /// Joins the processes of this user that share `limit_bytes` by this name, or begins.
    ///
    /// # Errors
    ///
    /// A [`SharedError`]: a bad name, a table that is not ours, or another limit.
    pub fn join(name: &str, limit_bytes: u64) -> Result<Self, SharedError> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(known) {
            return Err(SharedError::Name { name: name.to_owned() });
        }
        let user = nix::unistd::geteuid();
        Self::join_file(Path::new(&format!("/dev/shm/plimsoll-{user}-{name}")), limit_bytes)
    }

    /// As [`SharedLimit::join`], with the table at `path`, on any file system of this machine that
    /// has locks.
    ///
    /// # Errors
    ///
    /// Those of [`SharedLimit::join`].
    pub fn join_file(path: &Path, limit_bytes: u64) -> Result<Self, SharedError> {
        let failed = |doing| move |why| SharedError::Io { path: path.to_owned(), doing, why };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW).open(path).map_err(failed("opened"))?;
        let about = file.metadata().map_err(failed("read"))?;
        let ours = about.uid() == nix::unistd::geteuid().as_raw();
        if !ours || !about.is_file() || about.mode() & 0o077 != 0 {
            return Err(SharedError::NotOurs { path: path.to_owned() });
        }
        let mut place =
            Place { path: path.to_owned(), limit: limit_bytes, index: 0, file: file.into() };
        place.index = place.locked(|table| {
            let live = table.live()?;
            match table.header()? {
                Some((limit, _)) if limit == limit_bytes => {}
                Some((other, _)) if live.iter().any(|(_, record)| record.is_some()) => {
                    return Err(SharedError::OtherLimit {
                        path: path.to_owned(),
                        limit_bytes: other,
                        asked_bytes: limit_bytes,
                    });
                }
                _ => table.write_header(limit_bytes, 1)?,
            }
            let free = live.iter().find(|(_, record)| record.is_none());
            let Some((index, _)) = free else {
                return Err(SharedError::Full { path: path.to_owned() });
            };
            table.own(*index)?;
            let process = u64::from(std::process::id());
            table.write(*index, Record { process, ..Record::default() })?;
            Ok(*index)
        })?;
        Ok(Self(Arc::new(place)))
    }

    /// Returns the limit that is shared, in bytes.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.0.limit
    }

    /// Returns what each live process has of it.
    ///
    /// # Errors
    ///
    /// [`SharedError::Io`] or [`SharedError::Damaged`].
    pub fn members(&self) -> Result<Vec<Member>, SharedError> {
        let live = self.0.locked(|table| table.live())?;
        let member = |record: Record| Member {
            process: record.process as u32,
            granted_bytes: record.program.saturating_add(record.granted),
            waits_for_bytes: record.least,
        };
        Ok(live.into_iter().filter_map(|(_, record)| record.map(member)).collect())
    }

    /// Makes an error of this table.
    pub(super) fn failed(&self, doing: &'static str, why: io::Error) -> SharedError {
        self.0.failed(doing, why)
    }

    /// Counts what the program uses by itself, whether it fits or not.
    pub(crate) fn note_program(&self, bytes: u64) -> Result<(), SharedError> {
        self.0.change(|record| record.program = bytes)
    }

    /// Takes up to `best` bytes if at least `least` are free and nobody waits who asked before. If
    /// not, this process waits from now on.
    pub(crate) fn ask(&self, least: u64, best: u64) -> Result<Asked, SharedError> {
        let place = &self.0;
        place.locked(|table| {
            let live = table.live()?;
            let records = || live.iter().filter_map(|(index, record)| Some((*index, (*record)?)));
            let others = || records().filter(|(index, _)| *index != place.index);
            let Some((_, mut own)) = records().find(|(index, _)| *index == place.index) else {
                return Err(place.damaged());
            };
            let sum = |of: fn(&Record) -> u64| {
                records().fold(0u64, |sum, (_, record)| sum.saturating_add(of(&record)))
            };
            let (programs, granted) = (sum(|r| r.program), sum(|r| r.granted));
            if own.ticket == 0 {
                let Some((limit, ticket)) = table.header()? else { return Err(place.damaged()) };
                table.write_header(limit, ticket + 1)?;
                own.ticket = ticket;
            }
            let earlier = others().any(|(_, r)| r.least > 0 && r.ticket < own.ticket);
            let room = place.limit.saturating_sub(programs.saturating_add(granted));
            // Where nobody works, nothing will come back but by the end of a program.
            let missing = programs.saturating_add(least).saturating_sub(place.limit);
            if missing > 0 && !earlier && granted == 0 {
                return Ok(Asked::Never(missing));
            }
            if earlier || room < least {
                own.least = least.max(1);
                table.write(place.index, own)?;
                return Ok(Asked::Wait { others: others().next().is_some() });
            }
            let some = best.min(room);
            let granted = own.granted.saturating_add(some);
            table.write(place.index, Record { granted, least: 0, ticket: 0, ..own })?;
            Ok(Asked::Granted(some))
        })
    }

    /// Waits no more.
    pub(crate) fn leave(&self) -> Result<(), SharedError> {
        self.0.change(|record| (record.least, record.ticket) = (0, 0))
    }

    /// Gives `bytes` back.
    pub(crate) fn give_back(&self, bytes: u64) -> Result<(), SharedError> {
        self.0.change(|record| record.granted = record.granted.saturating_sub(bytes))
    }
}

impl Place {
    fn damaged(&self) -> SharedError {
        SharedError::Damaged { path: self.path.clone() }
    }

    fn failed(&self, doing: &'static str, why: impl Into<io::Error>) -> SharedError {
        SharedError::Io { path: self.path.clone(), doing, why: why.into() }
    }

    /// Runs `work` while this thread alone has the table.
    fn locked<R>(
        &self,
        work: impl FnOnce(&Table<'_>) -> Result<R, SharedError>,
    ) -> Result<R, SharedError> {
        let file = unpoisoned(self.file.lock());
        let table = Table { place: self, file: &file };
        table.lock(0, libc::F_WRLCK, true)?;
        let done = work(&table);
        table.lock(0, libc::F_UNLCK, false)?;
        done
    }

    /// Changes the record of this process.
    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), SharedError> {
        self.locked(|table| {
            let bytes = table.read::<RECORD_BYTES>(self.index)?;
            let mut record = table.record(self.index, &bytes)?.ok_or_else(|| self.damaged())?;
            change(&mut record);
            table.write(self.index, record)
        })
    }
}

/// The table, in the hands of the one thread that has it.
struct Table<'a> {
    place: &'a Place,
    file: &'a File,
}

impl Table<'_> {
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
                done => return done.map(drop).map_err(|why| self.place.failed("locked", why)),
            }
        }
    }

    /// Takes a free record for this process, for as long as the file is open.
    fn own(&self, index: usize) -> Result<(), SharedError> {
        self.lock(index, libc::F_WRLCK, false)
    }

    /// Returns whether a process holds the record.
    fn is_held(&self, index: usize) -> Result<bool, SharedError> {
        // One's own locks do not show.
        if index == self.place.index {
            return Ok(true);
        }
        let mut range = Self::range(index, libc::F_WRLCK);
        let asked = fcntl(self.file, FcntlArg::F_OFD_GETLK(&mut range));
        asked.map_err(|why| self.place.failed("locked", why))?;
        Ok(i32::from(range.l_type) != libc::F_UNLCK)
    }

    /// Reads `N` bytes; what the file does not have yet is zero.
    fn read<const N: usize>(&self, index: usize) -> Result<[u8; N], SharedError> {
        let (mut bytes, mut filled) = ([0; N], 0);
        while filled < N {
            let at = (index * RECORD_BYTES + filled) as u64;
            match self.file.read_at(&mut bytes[filled..], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(self.place.failed("read", why)),
            }
        }
        Ok(bytes)
    }

    /// Returns the limit and the next ticket; `None` in a new table.
    fn header(&self) -> Result<Option<(u64, u64)>, SharedError> {
        let bytes = self.read::<RECORD_BYTES>(0)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        match decode(&bytes) {
            Some([MAGIC, limit, ticket, 0, 0]) => Ok(Some((limit, ticket))),
            _ => Err(self.place.damaged()),
        }
    }

    fn write_header(&self, limit: u64, ticket: u64) -> Result<(), SharedError> {
        self.write_words(0, [MAGIC, limit, ticket, 0, 0])
    }

    /// Returns every index with its record, if a live process has it.
    fn live(&self) -> Result<Vec<(usize, Option<Record>)>, SharedError> {
        let bytes = self.read::<{ RECORDS * RECORD_BYTES }>(0)?;
        let records = bytes.chunks(RECORD_BYTES).enumerate().skip(1);
        records.map(|(index, bytes)| Ok((index, self.record(index, bytes)?))).collect()
    }

    /// Returns the record in `bytes` if a live process has it.
    fn record(&self, index: usize, bytes: &[u8]) -> Result<Option<Record>, SharedError> {
        if bytes.iter().all(|byte| *byte == 0) || !self.is_held(index)? {
            return Ok(None);
        }
        let words = decode(bytes).ok_or_else(|| self.place.damaged())?;
        let [program, granted, least, ticket, process] = words;
        Ok(Some(Record { program, granted, least, ticket, process }))
    }

    fn write(&self, index: usize, record: Record) -> Result<(), SharedError> {
        self.write_words(index, record.words())
    }

    fn write_words(&self, index: usize, words: Words) -> Result<(), SharedError> {
        let at = (index * RECORD_BYTES) as u64;
        let written = self.file.write_all_at(&encode(words), at);
        written.map_err(|why| self.place.failed("written", why))
    }
}
