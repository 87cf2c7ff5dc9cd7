//! The spill file: space that is taken when it is reserved, and a file that nobody else can open.
//!
//! ```text
//!   open(folder)     O_TMPFILE | O_EXCL, 0600: no name, cannot be given one, gone with the process
//!      or            0600 under a name that is removed at once        Naming::Unlinked
//!   O_DIRECT         no second copy in the page cache
//!      or            through the page cache                           Access::Buffered
//!   reserve          fallocate: a full disk is an error here, not in the middle of a write
//!   release          a hole is punched
//! ```
//!
//! [`SpillFile::naming`] and [`SpillFile::access`] tell about the two fallbacks. Buffered pages
//! count against a cgroup's limit until the kernel drops them. A file system in RAM is an error,
//! because spilling to it frees nothing. A file system without `fallocate` fails at the first
//! reservation.
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
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
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
        let open = |access| match nameless(folder, access) {
            Ok(file) => Ok((file, Naming::Nameless)),
            // EISDIR: a kernel or file system that does not know O_TMPFILE opens the folder.
            Err(why) if is_one_of(&why, &[Errno::EOPNOTSUPP, Errno::EISDIR]) => {
                unlinked(folder, access).map(|file| (file, Naming::Unlinked))
            }
            Err(why) => Err(why),
        };
        let failed = |why: io::Error| open_error(folder, &why);
        let direct = open(Access::Direct).and_then(|(file, naming)| {
            // Some file systems take the flag and refuse the request.
            file.write_all_at(&AlignedBytes::zeroed(BLOCK_BYTES as usize), 0)?;
            file.set_len(0)?;
            Ok((file, naming))
        });
        let ((file, naming), access) = match direct {
            Ok(opened) => (opened, Access::Direct),
            Err(why) if is_one_of(&why, &[Errno::EINVAL]) => {
                (open(Access::Buffered).map_err(failed)?, Access::Buffered)
            }
            Err(why) => return Err(failed(why)),
        };
        if ram_disk == RamDisk::Refuse {
            let kind = fstatfs(&file).map_err(|why| failed(why.into()))?.filesystem_type().0;
            if let Some(&(_, name)) = RAM_FILE_SYSTEMS.iter().find(|ram| ram.0 == kind as u32) {
                return Err(Error::RamDisk { folder: shown(folder), file_system: name });
            }
        }
        Ok(Self { file, access, naming, len_bytes: AtomicU64::new(0), queues: Queues::default() })
    }

    /// Whether requests go around the page cache.
    pub fn access(&self) -> Access {
        self.access
    }

    /// How the file came to have no name.
    pub fn naming(&self) -> Naming {
        self.naming
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
        if let Err(why) = self.fallocate(FallocateFlags::empty(), extent) {
            // A full disk may have given a part; without it the extent is as before.
            let _ = self.release(extent);
            return Err(io_error("reserve", extent.offset_bytes(), extent.bytes(), &why.into()));
        }
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

fn shown(folder: &Path) -> String {
    folder.display().to_string()
}

fn open_error(folder: &Path, why: &io::Error) -> Error {
    Error::Open { folder: shown(folder), os_error: why.raw_os_error().unwrap_or(0) }
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

fn check_aligned(offset_bytes: u64, bytes: &[u8]) -> Result<(), Error> {
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
mod tests;
