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
//! The last process that leaves removes the table. One that is killed cannot: its table stays until
//! another process has joined and left, or somebody removes the file. Who opened a table that was
//! removed meanwhile opens the next one.
//!
//! Invariants: the grants of live processes are at most the limit, except for what programs use by
//! themselves; each record is written in one call, so that no kill leaves half of it.
//!
//! Must never: open a file of another user, or wait for anybody but for a holder of record 0.

mod error;
mod table;

pub use error::SharedError;

use error::NAME_LEN_MAX;
use nix::libc;
use plimsoll_arena::sync::unpoisoned;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use table::{RECORD_BYTES, RECORDS, Record, Table};

/// How often a process opens a table that others remove as it does.
const ROUNDS_MAX: u32 = 1000;

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
        for _round in 0..ROUNDS_MAX {
            let file = open(path)?;
            let table = Table { path, file: &file, own: 0 };
            // Nobody joins a table that the last one has removed since it was opened.
            let joined = table.locked(|table| match table.is_linked()? {
                true => join_table(table, limit_bytes).map(Some),
                false => Ok(None),
            })?;
            if let Some(index) = joined {
                let path = path.to_owned();
                let place = Place { path, limit: limit_bytes, index, file: file.into() };
                return Ok(Self(Arc::new(place)));
            }
        }
        let why = std::io::ErrorKind::ResourceBusy.into();
        Err(SharedError::Io { path: path.to_owned(), doing: "kept for long enough to join", why })
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
    pub(super) fn failed(&self, doing: &'static str, why: std::io::Error) -> SharedError {
        SharedError::Io { path: self.0.path.clone(), doing, why }
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
                return Err(table.damaged());
            };
            let sum = |of: fn(&Record) -> u64| {
                records().fold(0u64, |sum, (_, record)| sum.saturating_add(of(&record)))
            };
            let (programs, granted) = (sum(|r| r.program), sum(|r| r.granted));
            if own.ticket == 0 {
                let Some((limit, ticket)) = table.header()? else { return Err(table.damaged()) };
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

/// Opens the table, or makes it, and checks that it is this user's alone.
fn open(path: &Path) -> Result<File, SharedError> {
    let failed = |doing| move |why| SharedError::Io { path: path.to_owned(), doing, why };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path).map_err(failed("opened"))?;
    let about = file.metadata().map_err(failed("read"))?;
    let ours = about.uid() == nix::unistd::geteuid().as_raw();
    if !ours || !about.is_file() || about.mode() & 0o077 != 0 {
        return Err(SharedError::NotOurs { path: path.to_owned() });
    }
    Ok(file)
}

/// Takes a record for this process, and returns its index.
fn join_table(table: &Table<'_>, limit_bytes: u64) -> Result<usize, SharedError> {
    let path = || table.path.to_owned();
    let live = table.live()?;
    match table.header()? {
        Some((limit, _)) if limit == limit_bytes => {}
        Some((other, _)) if live.iter().any(|(_, record)| record.is_some()) => {
            return Err(SharedError::OtherLimit {
                path: path(),
                limit_bytes: other,
                asked_bytes: limit_bytes,
            });
        }
        _ => table.write_header(limit_bytes, 1)?,
    }
    let free = live.iter().find(|(_, record)| record.is_none());
    let Some((index, _)) = free else {
        return Err(SharedError::Full { path: path(), processes: RECORDS - 1 });
    };
    table.own(*index)?;
    let process = u64::from(std::process::id());
    table.write(*index, Record { process, ..Record::default() })?;
    Ok(*index)
}

impl Place {
    /// Runs `work` while this thread alone has the table.
    fn locked<R>(
        &self,
        work: impl FnOnce(&Table<'_>) -> Result<R, SharedError>,
    ) -> Result<R, SharedError> {
        let file = unpoisoned(self.file.lock());
        Table { path: &self.path, file: &file, own: self.index }.locked(work)
    }

    /// Changes the record of this process.
    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), SharedError> {
        self.locked(|table| {
            let bytes = table.read::<RECORD_BYTES>(self.index)?;
            let mut record = table.record(self.index, &bytes)?.ok_or_else(|| table.damaged())?;
            change(&mut record);
            table.write(self.index, record)
        })
    }
}

impl Drop for Place {
    /// Leaves, and removes the table if nobody else is there.
    fn drop(&mut self) {
        let index = self.index;
        // Whatever fails, the kernel drops the locks with the file, and the table may stay.
        let _ = self.locked(|table| {
            let is_alone =
                table.live()?.iter().all(|(at, record)| *at == index || record.is_none());
            if is_alone && table.is_linked()? {
                fs::remove_file(table.path).map_err(|why| table.failed("removed", why))?;
            }
            Ok(())
        });
    }
}
