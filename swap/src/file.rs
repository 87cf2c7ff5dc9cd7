//! The spill file: space that is taken when it is reserved, and a file that nobody else can open.
//!
//! ```text
//!   open(folder)     O_TMPFILE | O_EXCL, 0600: no name, cannot be given one, gone with the process
//!      or            0600 under a name that is removed at once        Naming::Unlinked
//!   O_DIRECT         no second copy in the page cache
//!      or            through the page cache                           Access::Buffered
//!   reserve          fallocate: a full disk is an error here, not in the middle of a write
//!      or            zeros are written: the file system has no fallocate      Taking::Zeros
//!   release          a hole is punched
//! ```
//!
//! [`SpillFile::naming`], [`SpillFile::access`] and [`SpillFile::taking`] tell about the fallbacks.
//! Buffered pages count against a cgroup's limit until the kernel drops them. A file system in RAM
//! is an error, because spilling to it frees nothing. One without `fallocate` (ext2, ext3, NFS
//! before 4.2) writes each byte twice, the first time as a zero. Past the process's limit for files
//! (`ulimit -f`) the kernel would end the process by a signal, so nothing is asked for there.
//!
//! Invariants: every request is a multiple of 4 KiB in offset, length and address, in both modes;
//! `len_bytes` never falls.
//!
//! Must never: leave a name behind, follow one that was there, or print a byte.
//!
//! Source: open(2), fallocate(2), statfs(2) of the Linux man-pages.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statfs::fstatfs;
use nix::sys::uio::{preadv, pwritev};

use crate::Error;
use crate::backend::{AlignedBytes, Backend};
use crate::behind::{Buffer, Outcome, Queues};
use crate::extent::{BLOCK_BYTES, Extent};

/// Owner may read and write, nobody else.
const MODE: u32 = 0o600;

/// Names tried where a file needs one for a moment.
const NAMES_MAX: u32 = 64;

/// `f_type` of tmpfs and ramfs, from statfs(2).
const RAM_FILE_SYSTEMS: [(u32, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// Whether requests go around the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `O_DIRECT`.
    Direct,
    /// Through the page cache: the file system refused `O_DIRECT`.
    Buffered,
}

/// How the file came to have no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `O_TMPFILE`: it never had one.
    Nameless,
    /// It had one for a moment: the file system has no `O_TMPFILE`. A process killed in that
    /// moment leaves an empty file.
    Unlinked,
}

/// How disk space is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// `fallocate`: at once, and nothing is written.
    Fallocate,
    /// By writing zeros: the file system has no `fallocate`.
    Zeros,
}

/// Zeros for a request that must be aligned.
#[repr(align(4096))]
struct Zeros([u8; ZEROS_BYTES]);

/// Bytes of [`Zeros`]: they are in the program's file.
const ZEROS_BYTES: usize = 16 << 10;

/// The zeros once more in a request: 1 MiB.
const ZEROS_AT_ONCE: usize = 64;

static ZEROS: Zeros = Zeros([0; ZEROS_BYTES]);

/// What to do with a folder whose files are in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RamDisk {
    /// An error: spilling there frees nothing.
    #[default]
    Refuse,
    /// Taken: for tests, or where the RAM is accounted elsewhere.
    Accept,
}

/// An open spill file. Drop closes it, and its space is the disk's again.
#[derive(Debug)]
pub struct SpillFile {
    file: File,
    access: Access,
    naming: Naming,
    /// Whether the file system has refused `fallocate`.
    takes_zeros: AtomicBool,
    len_bytes: AtomicU64,
    queues: Queues,
}

impl SpillFile {
    /// A new, empty file on the disk of `folder`.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] if the folder is missing, read-only or not writable for this user;
    /// [`Error::RamDisk`] if it is in RAM and that is refused.
    pub fn open(folder: &Path, ram_disk: RamDisk) -> Result<Self, Error> {
        check_file_limit(BLOCK_BYTES)?;
        let opened = Self::open_for(folder, Access::Direct).and_then(|opened| {
            // Some file systems take the flag and refuse the request.
            opened.file.write_all_at(&AlignedBytes::zeroed(BLOCK_BYTES as usize), 0)?;
            opened.file.set_len(0)?;
            Ok(opened)
        });
        let opened = match opened {
            Err(why) if is_one_of(&why, &[Errno::EINVAL]) => {
                Self::open_for(folder, Access::Buffered)
            }
            opened => opened,
        };
        opened.map_err(|why| open_error(folder, &why))?.accepted(folder, ram_disk)
    }

    /// As [`SpillFile::open`], and every request goes through the page cache.
    ///
    /// # Errors
    ///
    /// As [`SpillFile::open`].
    pub(crate) fn open_buffered(folder: &Path, ram_disk: RamDisk) -> Result<Self, Error> {
        check_file_limit(BLOCK_BYTES)?;
        let opened = Self::open_for(folder, Access::Buffered);
        opened.map_err(|why| open_error(folder, &why))?.accepted(folder, ram_disk)
    }

    fn open_for(folder: &Path, access: Access) -> io::Result<Self> {
        let (file, naming) = match nameless(folder, access) {
            Ok(file) => (file, Naming::Nameless),
            // EISDIR: a kernel or file system that does not know O_TMPFILE opens the folder.
            Err(why) if is_one_of(&why, &[Errno::EOPNOTSUPP, Errno::EISDIR]) => {
                (unlinked(folder, access)?, Naming::Unlinked)
            }
            Err(why) => return Err(why),
        };
        // By another number than the first three: what a program writes to standard error, where
        // that is closed, must not end up in here.
        let file = file.try_clone()?;
        let (takes_zeros, len_bytes) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok(Self { file, access, naming, takes_zeros, len_bytes, queues: Queues::default() })
    }

    /// The file, unless it is in RAM and that is refused.
    fn accepted(self, folder: &Path, ram_disk: RamDisk) -> Result<Self, Error> {
        if ram_disk == RamDisk::Refuse {
            let found = fstatfs(&self.file).map_err(|why| open_error(folder, &why.into()))?;
            let kind = found.filesystem_type().0 as u32;
            if let Some(&(_, name)) = RAM_FILE_SYSTEMS.iter().find(|ram| ram.0 == kind) {
                return Err(Error::RamDisk { folder: shown(folder), file_system: name });
            }
        }
        Ok(self)
    }

    pub(crate) fn as_file(&self) -> &File {
        &self.file
    }

    /// Whether requests go around the page cache.
    pub fn access(&self) -> Access {
        self.access
    }

    /// How the file came to have no name.
    pub fn naming(&self) -> Naming {
        self.naming
    }

    /// How disk space is taken, as of the last reservation.
    pub fn taking(&self) -> Taking {
        if self.takes_zeros.load(Relaxed) { Taking::Zeros } else { Taking::Fallocate }
    }

    /// Takes the space of an extent by `fallocate`, or by zeros where there is none.
    fn take(&self, extent: Extent) -> Result<(), Error> {
        check_file_limit(extent.end_bytes())?;
        if self.taking() == Taking::Fallocate {
            match self.fallocate(FallocateFlags::empty(), extent) {
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.takes_zeros.store(true, Relaxed),
                taken => return taken.map_err(|why| reserve_error(extent, &why.into())),
            }
        }
        let (mut at, parts) = (extent.offset_bytes(), [IoSlice::new(&ZEROS.0); ZEROS_AT_ONCE]);
        while at < extent.end_bytes() {
            let count = (extent.end_bytes() - at).div_ceil(ZEROS_BYTES as u64);
            let count = count.min(ZEROS_AT_ONCE as u64) as usize;
            match pwritev(&self.file, &parts[..count], at as i64) {
                Ok(0) => return Err(reserve_error(extent, &ErrorKind::WriteZero.into())),
                Ok(written) => at += written as u64 / BLOCK_BYTES * BLOCK_BYTES,
                Err(Errno::EINTR) => {}
                Err(why) => return Err(reserve_error(extent, &why.into())),
            }
        }
        Ok(())
    }

    fn fallocate(&self, flags: FallocateFlags, extent: Extent) -> Result<(), Errno> {
        // An extent ends at i64::MAX at most, so both fit.
        let (offset, bytes) = (extent.offset_bytes() as i64, extent.bytes() as i64);
        loop {
            match fallocate(&self.file, flags, offset, bytes) {
                Err(Errno::EINTR) => {}
                outcome => return outcome,
            }
        }
    }
}

impl Backend for SpillFile {
    fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), Error> {
        check_aligned(offset_bytes, out)?;
        let read = self.file.read_exact_at(out, offset_bytes);
        read.map_err(|why| io_error("read", offset_bytes, out.len() as u64, &why))
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), Error> {
        check_aligned(offset_bytes, bytes)?;
        let written = self.file.write_all_at(bytes, offset_bytes);
        written.map_err(|why| io_error("write", offset_bytes, bytes.len() as u64, &why))
    }

    fn read_both_at(
        &self,
        offset_bytes: u64,
        head: &mut [u8],
        out: &mut [u8],
    ) -> Result<(), Error> {
        check_aligned(offset_bytes, head)?;
        check_aligned(offset_bytes, out)?;
        let whole = head.len() + out.len();
        let both = &mut [IoSliceMut::new(head), IoSliceMut::new(out)];
        match preadv(&self.file, both, offset_bytes as i64) {
            Ok(read) if read == whole => Ok(()),
            // Interrupted or in part: one after the other says what is wrong.
            _ => {
                self.read_at(offset_bytes, head)?;
                self.read_at(offset_bytes + head.len() as u64, out)
            }
        }
    }

    fn write_both_at(&self, offset_bytes: u64, head: &[u8], bytes: &[u8]) -> Result<(), Error> {
        check_aligned(offset_bytes, head)?;
        check_aligned(offset_bytes, bytes)?;
        let both = &[IoSlice::new(head), IoSlice::new(bytes)];
        match pwritev(&self.file, both, offset_bytes as i64) {
            Ok(written) if written == head.len() + bytes.len() => Ok(()),
            _ => {
                self.write_at(offset_bytes, head)?;
                self.write_at(offset_bytes + head.len() as u64, bytes)
            }
        }
    }

    fn read_while(
        &self,
        offset_bytes: u64,
        out: &mut [u8],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        check_aligned(offset_bytes, out)?;
        match self.queues.run(&self.file, offset_bytes, Buffer::Read(out), meanwhile) {
            Outcome::Done => return Ok(()),
            Outcome::Refused => meanwhile(),
            Outcome::Failed => {}
        }
        // As it is done without a queue, and that says what is wrong.
        self.read_at(offset_bytes, out)
    }

    fn write_while(
        &self,
        offset_bytes: u64,
        bytes: &[u8],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        check_aligned(offset_bytes, bytes)?;
        match self.queues.run(&self.file, offset_bytes, Buffer::Write(bytes), meanwhile) {
            Outcome::Done => return Ok(()),
            Outcome::Refused => meanwhile(),
            Outcome::Failed => {}
        }
        self.write_at(offset_bytes, bytes)
    }

    fn reserve(&self, extent: Extent) -> Result<(), Error> {
        self.take(extent).inspect_err(|_| {
            // A full disk may have given a part; without it the extent is as before.
            if self.release(extent).is_err() && extent.offset_bytes() >= self.len_bytes() {
                let _ = self.file.set_len(self.len_bytes());
            }
        })?;
        self.len_bytes.fetch_max(extent.end_bytes(), Relaxed);
        Ok(())
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let punched = self.fallocate(flags, extent);
        punched
            .map_err(|why| io_error("release", extent.offset_bytes(), extent.bytes(), &why.into()))
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes.load(Relaxed)
    }
}

fn options(access: Access, more: OFlag) -> OpenOptions {
    let direct = if access == Access::Direct { OFlag::O_DIRECT } else { OFlag::empty() };
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE).custom_flags((direct | more).bits());
    options
}

fn nameless(folder: &Path, access: Access) -> io::Result<File> {
    options(access, OFlag::O_TMPFILE | OFlag::O_EXCL).open(folder)
}

/// `create_new` never follows a link or opens what is there.
fn unlinked(folder: &Path, access: Access) -> io::Result<File> {
    static NAMED: AtomicU64 = AtomicU64::new(0);
    let mut outcome = Err(ErrorKind::AlreadyExists.into());
    for _ in 0..NAMES_MAX {
        let number = NAMED.fetch_add(1, Relaxed);
        let path: PathBuf = folder.join(format!(".plimsoll-{}-{number}", std::process::id()));
        outcome = options(access, OFlag::empty()).create_new(true).open(&path);
        match &outcome {
            Ok(_) => {
                std::fs::remove_file(&path)?;
                break;
            }
            Err(why) if why.kind() == ErrorKind::AlreadyExists => {}
            // Some file systems create the file and then refuse O_DIRECT.
            Err(why) if is_one_of(why, &[Errno::EINVAL]) => {
                let _ = std::fs::remove_file(&path);
                break;
            }
            Err(_) => break,
        }
    }
    outcome
}

fn is_one_of(why: &io::Error, errors: &[Errno]) -> bool {
    errors.iter().any(|&error| why.raw_os_error() == Some(error as i32))
}

pub(crate) fn shown(folder: &Path) -> String {
    folder.display().to_string()
}

fn open_error(folder: &Path, why: &io::Error) -> Error {
    Error::Open { folder: shown(folder), os_error: why.raw_os_error().unwrap_or(0) }
}

fn reserve_error(extent: Extent, why: &io::Error) -> Error {
    io_error("reserve", extent.offset_bytes(), extent.bytes(), why)
}

/// The longest file that the process may write, in bytes (`ulimit -f`).
pub fn file_limit_bytes() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_FSIZE).ok()?;
    Some(soft).filter(|bytes| *bytes != RLIM_INFINITY)
}

fn check_file_limit(end_bytes: u64) -> Result<(), Error> {
    match file_limit_bytes() {
        Some(limit_bytes) if end_bytes > limit_bytes => Err(Error::FileLimit { limit_bytes }),
        _ => Ok(()),
    }
}

fn io_error(what: &'static str, offset_bytes: u64, bytes: u64, why: &io::Error) -> Error {
    match why.raw_os_error() {
        None => Error::Short { what, offset_bytes, bytes },
        Some(_) if is_one_of(why, &[Errno::ENOSPC, Errno::EDQUOT]) => {
            Error::DiskFull { asked_bytes: bytes }
        }
        Some(os_error) => Error::Io { what, offset_bytes, bytes, os_error },
    }
}

pub(crate) fn check_aligned(offset_bytes: u64, bytes: &[u8]) -> Result<(), Error> {
    let parts = [
        ("offset", offset_bytes),
        ("length", bytes.len() as u64),
        ("buffer's address", bytes.as_ptr().addr() as u64),
    ];
    match parts.iter().find(|part| !part.1.is_multiple_of(BLOCK_BYTES)) {
        None => Ok(()),
        Some(&(what, value)) => Err(Error::Unaligned { what, rest_bytes: value % BLOCK_BYTES }),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
pub(crate) mod tests;
