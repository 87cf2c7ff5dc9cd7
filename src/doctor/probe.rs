//! The spill folder: opened as the runtime opens it, and timed if asked to.
//!
//! ```text
//!   folder -> SpillFile::open -> O_DIRECT or not, O_TMPFILE or not
//!          -> fallocate       -> space at once, or by zeros
//!          -> statvfs         -> bytes free
//!          -> mountinfo       -> file system, by the longest mount point above it
//!   Probe::On: blocks of 2 MiB, two threads, written, then read
//! ```
//!
//! No file tells what a file system does, so this is the one place that does something to find out.
//! The file has no name and is gone with the reading; its bytes are noise, so that a disk that
//! compresses gives no better figure than a witness would.
//!
//! Must never: write more than a quarter of what is free, or leave a name behind.
//!
//! Sources: open(2), statvfs(3), proc_pid_mountinfo(5).

use super::reading::{Reading, text};
use plimsoll_swap::Error;
use plimsoll_swap::backend::{AlignedBytes, Backend};
use plimsoll_swap::extent::ExtentMap;
use plimsoll_swap::file::{Access, Naming, RamDisk, SpillFile, Taking};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One request of the probe, as of a spill: 2 MiB.
const BLOCK_BYTES: usize = 2 << 20;

/// Bytes that the probe writes and reads at most: 256 MiB, past what a disk's own cache hides.
const PROBE_BYTES_MAX: u64 = 256 << 20;

/// Time after which either half of the probe ends early.
const PROBE_TIME_MAX: Duration = Duration::from_secs(4);

/// Requests under way at once in the probe: as many as a spill has I/O threads.
const PROBE_THREADS: u64 = 2;

/// Bytes of space that are tried: 1 MiB.
const TAKEN_BYTES: u64 = 1 << 20;

/// Whether the spill folder is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Probe {
    /// It is opened, 1 MiB of space is taken, and nothing else is written beyond one block.
    #[default]
    Off,
    /// Up to 256 MiB are written and read, for at most some eight seconds.
    On,
}

/// What the probe measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillSpeed {
    /// Bytes a second written.
    pub write_bytes_per_second: u64,
    /// Bytes a second read.
    pub read_bytes_per_second: u64,
    /// Bytes that were written and then read.
    pub measured_bytes: u64,
}

/// The folder a spill file would go to.
#[derive(Clone, Debug)]
pub struct SpillFolder {
    /// The folder, links followed where it exists.
    pub path: PathBuf,
    /// Its file system, as `mountinfo` names it; `None` where that does not tell.
    pub file_system: Option<String>,
    /// Bytes free for this user.
    pub free_bytes: Reading<u64>,
    /// How a spill file opened there, or why it did not.
    pub opened: Result<(Access, Naming), Error>,
    /// How the file system takes space for a file, tried with 1 MiB; `None` without a file.
    pub taking: Option<Result<Taking, Error>>,
    /// What the probe measured; `None` without one.
    pub speed: Option<Result<SpillSpeed, Error>>,
}

pub(super) fn spill(root: &Path, folder: &Path, probe: Probe) -> SpillFolder {
    let below = folder.strip_prefix("/").unwrap_or(folder);
    let real = if root == Path::new("/") { folder.to_path_buf() } else { root.join(below) };
    let real = std::fs::canonicalize(&real).unwrap_or(real);
    let path = if root == Path::new("/") { real.clone() } else { Path::new("/").join(below) };
    let file = SpillFile::open(&real, RamDisk::Accept);
    let free_bytes = free_bytes(&real);
    let taking = file.as_ref().ok().map(take);
    let speed = match (&file, probe) {
        (Ok(file), Probe::On) => {
            Some(measure(file, free_bytes.clone().ok().flatten().unwrap_or(0)))
        }
        _ => None,
    };
    let file_system = text(root, "proc/self/mountinfo").ok().flatten();
    SpillFolder {
        file_system: file_system.and_then(|mounts| file_system_of(&mounts, &path)),
        path,
        free_bytes,
        taking,
        opened: file.map(|file| (file.access(), file.naming())),
        speed,
    }
}

/// Takes a little space, as a pager takes more when it starts.
fn take(file: &SpillFile) -> Result<Taking, Error> {
    file.reserve(ExtentMap::new(TAKEN_BYTES).alloc(TAKEN_BYTES)?)?;
    Ok(file.taking())
}

fn free_bytes(folder: &Path) -> Reading<u64> {
    match nix::sys::statvfs::statvfs(folder) {
        Ok(stat) => Ok(stat.blocks_available().checked_mul(stat.fragment_size())),
        Err(nix::errno::Errno::ENOENT) => Ok(None),
        Err(why) => Err(format!("{}: {}", folder.display(), why.desc())),
    }
}

/// The file system type of the longest mount point that `path` is below; among equals the last,
/// which covers the others.
fn file_system_of(mountinfo: &str, path: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        let depth = Path::new(&point).components().count();
        path.starts_with(&point).then_some((depth, source.split(' ').next()?))
    });
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, system)| system.to_owned())
}

/// Writes and reads a part of `free_bytes`, at most [`PROBE_BYTES_MAX`].
fn measure(file: &SpillFile, free_bytes: u64) -> Result<SpillSpeed, Error> {
    let block = BLOCK_BYTES as u64;
    let bytes = PROBE_BYTES_MAX.min(free_bytes / 4 / block * block).max(block);
    file.reserve(ExtentMap::new(bytes).alloc(bytes)?)?;
    let (written, write_bytes_per_second) =
        timed(bytes / block, |offset, buffer| file.write_at(offset, buffer))?;
    let (_, read_bytes_per_second) =
        timed(written / block, |offset, buffer| file.read_at(offset, buffer))?;
    Ok(SpillSpeed { write_bytes_per_second, read_bytes_per_second, measured_bytes: written })
}

/// Does `request` for each of `count` blocks from several threads; bytes done from the start on
/// without a gap, and bytes a second.
fn timed(
    count: u64,
    request: impl Fn(u64, &mut [u8]) -> Result<(), Error> + Sync,
) -> Result<(u64, u64), Error> {
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let work = |seed: u64| -> Result<(), Error> {
        let mut buffer = AlignedBytes::zeroed(BLOCK_BYTES);
        noise(seed, &mut buffer);
        while start.elapsed() < PROBE_TIME_MAX {
            let index = next.fetch_add(1, Relaxed);
            if index >= count {
                break;
            }
            request(index * BLOCK_BYTES as u64, &mut buffer)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PROBE_THREADS).map(|n| scope.spawn(move || work(n))).collect();
        // A thread that panicked has no result to give: its panic goes on here.
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let bytes = next.into_inner().min(count) * BLOCK_BYTES as u64;
    let seconds = start.elapsed().as_secs_f64().max(1e-6);
    Ok((bytes, (bytes as f64 / seconds) as u64))
}

/// Bytes that no disk compresses: splitmix64 of a counter.
fn noise(seed: u64, bytes: &mut [u8]) {
    let mut state = seed;
    for word in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:30 / /var/tmp rw - xfs /dev/vdb rw
25 22 0:31 / /var/tmp rw - nfs4 host:/x rw
26 22 0:32 / /mnt/with\\040blank rw master:1 - tmpfs tmpfs rw";

    #[test]
    fn the_longest_and_last_mount_point_names_the_file_system() {
        let system = |path: &str| file_system_of(MOUNTS, Path::new(path));
        assert_eq!(system("/home").as_deref(), Some("ext4"));
        assert_eq!(system("/var/tmp/x").as_deref(), Some("nfs4"));
        assert_eq!(system("/var/tmpest").as_deref(), Some("ext4"));
        assert_eq!(system("/mnt/with blank/y").as_deref(), Some("tmpfs"));
        assert_eq!(file_system_of("damaged", Path::new("/")), None);
    }

    #[test]
    fn the_probe_measures_what_it_wrote_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = SpillFile::open(folder.path(), RamDisk::Accept).expect("a spill file");
        let speed = measure(&file, 64 << 20).expect("a disk that works");
        assert!(speed.measured_bytes > 0 && speed.measured_bytes <= 16 << 20, "{speed:?}");
        assert!(speed.write_bytes_per_second > 0 && speed.read_bytes_per_second > 0, "{speed:?}");
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
