//! What the kernel says about memory: this process, this machine, this cgroup.
//!
//! A [`Meter`] reads and never decides. The arena (`process`) does the reading, without allocation;
//! this module adds paths and words to its numbers and errors.
//!
//! ```text
//!                  root (/ or a fixture tree)
//!   proc/self/statm ------> resident bytes
//!   proc/self/status -----> peak resident bytes
//!   proc/meminfo ---------> machine: total, available, swap
//!   proc/self/cgroup   -+
//!   proc/self/mountinfo +-> cgroup directory -> walk up -> tightest limit
//! ```
//!
//! ```
//! use plimsoll::meter::Meter;
//!
//! let meter = Meter::live()?;
//! assert!(meter.rss_bytes()? <= meter.mem_total_bytes()?);
//! # Ok::<(), plimsoll::meter::MeterError>(())
//! ```
//!
//! Invariants, for one reading:
//!
//! * `anon_bytes + shared_bytes = resident_bytes`, where shared is file pages plus shared memory;
//! * a file is either read whole and understood, or the error names it and the text in it.
//!
//! Must never: keep a number from an earlier call, guess one that cannot be read, or panic on what
//! a file holds.
//!
//! Sources: proc(5), and those of the arena's room.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use plimsoll_arena::process::{Allowance, Scratch, Tree, Unread};
pub use plimsoll_arena::process::{CgroupVersion, MachineMemory, Resident};

#[cfg(test)]
mod tests;

/// Why a number could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// A file that must exist could not be read.
    #[error("cannot read {}: {source}; check that it is mounted here", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds text that is not in the kernel's format.
    #[error(
        "{}: expected {expected}, found {text:?}; check that it is the kernel's file",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should have been there.
        expected: &'static str,
        /// What was there, cut to one line's length.
        text: String,
    },
    /// A file lacks a field that every supported kernel writes.
    #[error("{}: no field {field}; it needs Linux 3.14 with a full /proc", path.display())]
    MissingField {
        /// The file.
        path: PathBuf,
        /// The field's name as the kernel spells it.
        field: &'static str,
    },
    /// A file, or a line of it, is longer than any of the kernel's.
    #[error("{}: too long; check that it is the kernel's file", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

impl MeterError {
    /// What the scratch says of a file that could not be read.
    fn of(unread: Unread, scratch: &Scratch) -> Self {
        let (path, text) = scratch.unread();
        let path = PathBuf::from(OsStr::from_bytes(path));
        match unread {
            Unread::Call(errno) => Self::Read { path, source: io::Error::from_raw_os_error(errno) },
            Unread::Malformed(expected) => {
                let text = String::from_utf8_lossy(text).into_owned();
                Self::Malformed { path, expected, text }
            }
            Unread::Missing(field) => Self::MissingField { path, field },
            Unread::TooLong => Self::TooLong { path },
        }
    }
}

/// The tightest limit on this process's memory cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupLimit {
    /// The interface it was read from.
    pub version: CgroupVersion,
    /// The cgroup that sets [`tightest_bytes`](Self::tightest_bytes), named as in
    /// `/proc/self/cgroup`; our own where nothing sets it, or a parent that cannot be seen does.
    pub path: PathBuf,
    /// The tightest hard limit in bytes, above which the kernel kills; `None` for no limit.
    pub limit_bytes: Option<u64>,
    /// The tightest `memory.high` in bytes, above which the kernel slows the process down to a
    /// crawl; `None` for no limit, and always on v1.
    pub high_bytes: Option<u64>,
    /// Bytes charged to `path` and all below it, page cache included; `None` where not shown.
    pub usage_bytes: Option<u64>,
    /// Of these, anonymous memory (`anon`, or `total_rss` on v1); `None` where not shown.
    pub anon_bytes: Option<u64>,
}

impl CgroupLimit {
    /// The smaller of the hard limit and `memory.high`, in bytes; `None` for no limit.
    pub fn tightest_bytes(&self) -> Option<u64> {
        self.limit_bytes.into_iter().chain(self.high_bytes).min()
    }
}

/// Reads the kernel's memory numbers below one root directory.
///
/// Holding one proves that `proc/self/statm` was there to open.
#[derive(Debug)]
pub struct Meter {
    root: PathBuf,
}

impl Meter {
    /// A meter of this process on this machine.
    ///
    /// # Errors
    ///
    /// [`MeterError::Read`] when `/proc` is not mounted.
    ///
    /// ```
    /// let meter = plimsoll::meter::Meter::live()?;
    /// assert!(meter.rss_bytes()? > 0);
    /// # Ok::<(), plimsoll::meter::MeterError>(())
    /// ```
    pub fn live() -> Result<Self, MeterError> {
        Self::at(Path::new("/"))
    }

    /// A meter that takes `root` for `/`: `root/proc/meminfo`, `root/sys/fs/cgroup`, and so on.
    /// The page size is always this machine's.
    ///
    /// # Errors
    ///
    /// As [`Meter::live`].
    pub fn at(root: &Path) -> Result<Self, MeterError> {
        let meter = Self { root: root.to_path_buf() };
        match meter.resident() {
            Err(error @ MeterError::Read { .. }) => Err(error),
            _ => Ok(meter),
        }
    }

    /// Bytes in one page of the operating system.
    pub fn page_bytes(&self) -> u64 {
        plimsoll_arena::os::page_bytes() as u64
    }

    fn read<R>(
        &self,
        what: impl FnOnce(&mut Scratch, Tree<'_>) -> Result<R, Unread>,
    ) -> Result<R, MeterError> {
        let mut scratch = Box::new(Scratch::new());
        let found = what(&mut scratch, Tree::at(self.root.as_os_str().as_bytes()));
        found.map_err(|unread| MeterError::of(unread, &scratch))
    }

    /// Resident bytes of this process, all kinds of page.
    ///
    /// # Errors
    ///
    /// As [`Meter::resident`].
    pub fn rss_bytes(&self) -> Result<u64, MeterError> {
        self.resident().map(|reading| reading.resident_bytes)
    }

    /// Resident bytes of this process, split by kind.
    ///
    /// # Errors
    ///
    /// [`MeterError::Read`] and [`MeterError::Malformed`], naming `statm`.
    pub fn resident(&self) -> Result<Resident, MeterError> {
        if self.root == Path::new("/")
            && let Some(resident) = plimsoll_arena::process::process().resident()
        {
            // One system call: the account keeps the file open.
            return Ok(resident);
        }
        self.read(Scratch::resident)
    }

    /// Highest resident bytes of this process so far (`VmHWM`), all kinds of page.
    ///
    /// # Errors
    ///
    /// [`MeterError`], naming `/proc/self/status`.
    pub fn peak_rss_bytes(&self) -> Result<u64, MeterError> {
        const FIELD: &str = "VmHWM";
        let path = || self.root.join("proc/self/status");
        let [peak] = self.read(|scratch, tree| scratch.status(tree, [FIELD]))?;
        peak.ok_or_else(|| MeterError::MissingField { path: path(), field: FIELD })
    }

    /// The machine's memory, all fields from one read.
    ///
    /// # Errors
    ///
    /// [`MeterError`], naming `/proc/meminfo`.
    pub fn machine_memory(&self) -> Result<MachineMemory, MeterError> {
        self.read(Scratch::machine)
    }

    /// `CommitLimit` and `Committed_AS` of the machine, in bytes; `None` where the kernel does not
    /// say.
    ///
    /// # Errors
    ///
    /// [`MeterError`], naming `/proc/meminfo`.
    pub fn commit_bytes(&self) -> Result<Option<(u64, u64)>, MeterError> {
        let names = ["CommitLimit", "Committed_AS"];
        let [limit, committed] = self.read(|scratch, tree| scratch.meminfo(tree, names))?;
        Ok(limit.zip(committed))
    }

    /// Bytes that can be taken on this machine now without swapping (`MemAvailable`).
    ///
    /// # Errors
    ///
    /// As [`Meter::machine_memory`].
    pub fn mem_available_bytes(&self) -> Result<u64, MeterError> {
        self.machine_memory().map(|memory| memory.mem_available_bytes)
    }

    /// Usable bytes of this machine (`MemTotal`).
    ///
    /// # Errors
    ///
    /// As [`Meter::machine_memory`].
    pub fn mem_total_bytes(&self) -> Result<u64, MeterError> {
        self.machine_memory().map(|memory| memory.mem_total_bytes)
    }

    /// Returns the memory cgroup of this process and the tightest limit on it. `None` means that
    /// there is no memory cgroup, or that this mount namespace shows none.
    ///
    /// Looks the cgroup up again each time, because a process can move: a dozen small reads. Call
    /// it at the start or end of a stage, not at each charge.
    ///
    /// # Errors
    ///
    /// [`MeterError`], naming the file: a damaged one is never taken for "no limit".
    pub fn cgroup(&self) -> Result<Option<CgroupLimit>, MeterError> {
        self.read(|scratch, tree| {
            let group = scratch.group(tree)?;
            let path = PathBuf::from(OsStr::from_bytes(scratch.group_name()));
            Ok(group.map(|group| CgroupLimit {
                version: group.version,
                path,
                limit_bytes: group.limit_bytes,
                high_bytes: group.high_bytes,
                usage_bytes: group.usage_bytes,
                anon_bytes: group.anon_bytes,
            }))
        })
    }

    /// The directory of this process's memory cgroup; `None` where no mount shows it.
    ///
    /// # Errors
    ///
    /// As [`Meter::cgroup`].
    pub fn own_cgroup(&self) -> Result<Option<(CgroupVersion, PathBuf)>, MeterError> {
        self.read(|scratch, tree| {
            let own = scratch.own_directory(tree)?;
            Ok(own.map(|(version, path)| (version, PathBuf::from(OsStr::from_bytes(path)))))
        })
    }

    /// What there is for this process, and the name of the cgroup that bounds it.
    ///
    /// # Errors
    ///
    /// As [`Meter::machine_memory`] and [`Meter::cgroup`].
    pub(crate) fn allowance(&self) -> Result<(Allowance, PathBuf), MeterError> {
        self.read(|scratch, tree| {
            let allowance = scratch.allowance(tree)?;
            Ok((allowance, PathBuf::from(OsStr::from_bytes(scratch.group_name()))))
        })
    }
}
