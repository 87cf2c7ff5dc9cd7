//! What the kernel says about memory: this process, this machine, this cgroup.
//!
//! A [`Meter`] reads and never decides. The budget above it ([`crate::limit`]) turns these numbers
//! into a limit, and the ledger uses them to correct its own count; neither of them opens a file.
//!
//! ```text
//!                  root (/ or a fixture tree)
//!   proc/self/statm ------> resident bytes       (kept open, one read, no heap)
//!   proc/self/status -----> peak resident bytes
//!   proc/meminfo ---------> machine: total, available, swap
//!   proc/self/cgroup   -+
//!   proc/self/mountinfo +-> cgroup directory -> walk up -> tightest limit
//! ```
//!
//! Invariants, for one reading:
//!
//! * `anon_bytes + shared_bytes = resident_bytes`, where shared is file pages plus shared memory;
//! * every number is in bytes; pages and kB are multiplied out here and nowhere else;
//! * a file is either read whole and understood, or the error names it and the text in it.
//!
//! Accuracy: `statm` is a sum of per-CPU counters. Since Linux 6.2 it may lag by a batch for each
//! CPU (before that, by 64 pages for each thread), so it corrects a ledger and must not define one.
//! `smaps` is exact, walks the page tables under a lock, and is never read here.
//!
//! Must never: keep a number from an earlier call, guess one that cannot be read, or panic on what
//! a file holds.
//!
//! Sources: proc(5), proc_pid_statm(5), proc_meminfo(5), cgroups(7), and the kernel's
//! admin-guide/cgroup-v2 and cgroup-v1/memory pages.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::unistd::{SysconfVar, sysconf};

mod cgroup;
#[cfg(test)]
mod tests;

#[cfg(feature = "cli")]
pub(crate) use cgroup::own_directory as own_cgroup;
pub use cgroup::{CgroupLimit, CgroupVersion};

/// Longest `statm` in bytes that is understood: seven 20-digit numbers and their separators are
/// 147. A longer one is an error, not a truncated reading.
const STATM_BYTES_MAX: usize = 160;
const _: () = assert!(STATM_BYTES_MAX > 7 * (20 + 1));

/// Longest other file in bytes that is read: 16 MiB, some 100 000 lines of `mountinfo`, which is
/// the kernel's default bound on mounts. Keeps a wrong path from filling memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Longest piece of a file, in characters, that an error repeats: about one line of a terminal.
const EXCERPT_CHARS_MAX: usize = 80;

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
    /// A file is longer than this module is willing to read.
    #[error("{}: over {bytes_max} bytes; check that it is the kernel's file", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        bytes_max: u64,
    },
    /// The system does not tell the size of a page.
    #[error("sysconf(PAGE_SIZE) gave no size ({reason}); this needs a POSIX system")]
    PageSize {
        /// What the system said.
        reason: String,
    },
}

/// One reading of this process's resident memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// All resident pages, in bytes (`RSS`).
    pub resident_bytes: u64,
    /// Of these, pages of files and of shared memory, in bytes (`RssFile + RssShmem`).
    pub shared_bytes: u64,
}

impl Resident {
    /// Resident anonymous memory in bytes: `resident_bytes - shared_bytes`, at least 0, for the two
    /// counters are not read at one instant.
    pub fn anon_bytes(&self) -> u64 {
        self.resident_bytes.saturating_sub(self.shared_bytes)
    }
}

/// One reading of the machine's memory, from one read of `/proc/meminfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineMemory {
    /// Usable memory, in bytes (`MemTotal`).
    pub mem_total_bytes: u64,
    /// What can be taken without swapping, in bytes (`MemAvailable`); the kernel's own estimate.
    pub mem_available_bytes: u64,
    /// Size of all swap areas, in bytes (`SwapTotal`); 0 where the kernel has no swap.
    pub swap_total_bytes: u64,
    /// Unused part of the swap areas, in bytes (`SwapFree`).
    pub swap_free_bytes: u64,
}

/// Reads the kernel's memory numbers below one root directory.
///
/// Holding one proves that `proc/self/statm` was there to open and that the page size is known. It
/// reports on the process that made it: after a `fork` the child must make its own.
#[derive(Debug)]
pub struct Meter {
    root: PathBuf,
    statm: File,
    page_bytes: u64,
}

impl Meter {
    /// A meter of this process on this machine.
    ///
    /// # Errors
    ///
    /// [`MeterError::Read`] when `/proc` is not mounted, [`MeterError::PageSize`] off POSIX.
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
        let path = statm_path(root);
        let statm = File::open(&path).map_err(|source| MeterError::Read { path, source })?;
        Ok(Self { root: root.to_path_buf(), statm, page_bytes: page_bytes_of_system()? })
    }

    /// Bytes in one page of the operating system.
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Resident bytes of this process, all kinds of page. One system call, no heap allocation.
    ///
    /// # Errors
    ///
    /// As [`Meter::resident`].
    pub fn rss_bytes(&self) -> Result<u64, MeterError> {
        self.resident().map(|reading| reading.resident_bytes)
    }

    /// Resident bytes of this process, split by kind. One system call, no heap allocation.
    ///
    /// # Errors
    ///
    /// [`MeterError::Read`] and [`MeterError::Malformed`], naming `statm`.
    pub fn resident(&self) -> Result<Resident, MeterError> {
        let mut buffer = [0_u8; STATM_BYTES_MAX];
        let length = self.read_statm(&mut buffer)?;
        let text = &buffer[..length];
        // Columns, in pages: size, resident, shared (files and shared memory), and four more.
        let mut columns = text.split(u8::is_ascii_whitespace).filter(|c| !c.is_empty());
        let (Some(_), resident, shared) = (columns.next(), columns.next(), columns.next()) else {
            return Err(self.malformed_statm(text));
        };
        let bytes = |column: Option<&[u8]>| {
            column
                .and_then(decimal)
                .and_then(|pages| pages.checked_mul(self.page_bytes))
                .ok_or_else(|| self.malformed_statm(text))
        };
        Ok(Resident { resident_bytes: bytes(resident)?, shared_bytes: bytes(shared)? })
    }

    /// Highest resident bytes of this process so far (`VmHWM`), all kinds of page.
    ///
    /// # Errors
    ///
    /// [`MeterError`], naming `/proc/self/status`.
    pub fn peak_rss_bytes(&self) -> Result<u64, MeterError> {
        const FIELD: &str = "VmHWM";
        let path = self.root.join("proc/self/status");
        let text = read_required(&path)?;
        kib_field(&path, &text, FIELD)?.ok_or(MeterError::MissingField { path, field: FIELD })
    }

    /// The machine's memory, all fields from one read.
    ///
    /// # Errors
    ///
    /// [`MeterError`], naming `/proc/meminfo`.
    pub fn machine_memory(&self) -> Result<MachineMemory, MeterError> {
        let path = self.root.join("proc/meminfo");
        let text = read_required(&path)?;
        let required = |field: &'static str| {
            kib_field(&path, &text, field)?
                .ok_or_else(|| MeterError::MissingField { path: path.clone(), field })
        };
        let swap = |field| kib_field(&path, &text, field).map(Option::unwrap_or_default);
        Ok(MachineMemory {
            mem_total_bytes: required("MemTotal")?,
            mem_available_bytes: required("MemAvailable")?,
            swap_total_bytes: swap("SwapTotal")?,
            swap_free_bytes: swap("SwapFree")?,
        })
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

    /// The memory cgroup of this process and the tightest limit on it, or `None` where there is no
    /// memory cgroup, or none that this mount namespace shows.
    ///
    /// Looks the cgroup up anew each time, for a process can be moved: a dozen small reads and
    /// a few hundred heap allocations. Call it at a stage's edge, not at each charge.
    ///
    /// # Errors
    ///
    /// [`MeterError`], naming the file: a damaged one is never taken for "no limit".
    pub fn cgroup(&self) -> Result<Option<CgroupLimit>, MeterError> {
        cgroup::tightest(&self.root)
    }

    fn read_statm(&self, buffer: &mut [u8; STATM_BYTES_MAX]) -> Result<usize, MeterError> {
        loop {
            match self.statm.read_at(buffer, 0) {
                Ok(length) if length < STATM_BYTES_MAX => return Ok(length),
                Ok(_) => return Err(self.malformed_statm(buffer)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(MeterError::Read { path: statm_path(&self.root), source });
                }
            }
        }
    }

    #[cold]
    fn malformed_statm(&self, text: &[u8]) -> MeterError {
        malformed(&statm_path(&self.root), "seven counts of pages", text)
    }
}

fn statm_path(root: &Path) -> PathBuf {
    root.join("proc/self/statm")
}

fn page_bytes_of_system() -> Result<u64, MeterError> {
    let reason = match sysconf(SysconfVar::PAGE_SIZE) {
        Ok(Some(bytes)) if bytes > 0 => return Ok(bytes.unsigned_abs()),
        Ok(bytes) => format!("{bytes:?}"),
        Err(errno) => errno.to_string(),
    };
    Err(MeterError::PageSize { reason })
}

/// The whole of `path`, or `None` where there is no such file: also when the cgroup it belonged to
/// was removed after it was opened (`ENODEV`).
fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, MeterError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) if text.len() as u64 > FILE_BYTES_MAX => {
            Err(MeterError::TooLong { path: path.to_path_buf(), bytes_max: FILE_BYTES_MAX })
        }
        Ok(text) => Ok(Some(text)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(source) => Err(MeterError::Read { path: path.to_path_buf(), source }),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

fn read_required(path: &Path) -> Result<Vec<u8>, MeterError> {
    read_optional(path)?.ok_or_else(|| MeterError::Read {
        path: path.to_path_buf(),
        source: io::ErrorKind::NotFound.into(),
    })
}

/// Bytes of the line `field:   <count> kB`, or `None` where no line has that name.
fn kib_field(path: &Path, text: &[u8], field: &str) -> Result<Option<u64>, MeterError> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let Some((line, value)) = lines
        .find_map(|line| Some((line, line.strip_prefix(field.as_bytes())?.strip_prefix(b":")?)))
    else {
        return Ok(None);
    };
    value
        .trim_ascii()
        .strip_suffix(b" kB")
        .and_then(|count| decimal(count.trim_ascii()))
        .and_then(|kib| kib.checked_mul(1024))
        .map(Some)
        .ok_or_else(|| malformed(path, "a count of kB", line))
}

/// A number of decimal digits and nothing else, if it fits.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cold]
fn malformed(path: &Path, expected: &'static str, text: &[u8]) -> MeterError {
    let text = String::from_utf8_lossy(text.trim_ascii_end());
    let text = text.chars().take(EXCERPT_CHARS_MAX).collect();
    MeterError::Malformed { path: path.to_path_buf(), expected, text }
}
