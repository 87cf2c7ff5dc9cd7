//! How fast the disk is by itself: what moving bytes must cost.

use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

/// Bytes written, then read.
const FILE_BYTES: usize = 1 << 30;
const BLOCK_BYTES: usize = 4 << 20;

/// Bytes a second.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Sequential, `O_DIRECT`, blocks of 4 MiB, one after the other.
    pub write: f64,
    /// The same.
    pub read: f64,
}

/// Writes and reads a file of 1 GiB in `folder`, past the page cache.
///
/// # Panics
///
/// Where the folder takes no `O_DIRECT` file, or has no room for it.
#[must_use]
pub fn bytes_per_second(folder: &Path) -> Rate {
    let path = folder.join("peers.disk");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .expect("a disk that takes O_DIRECT");
    // The name goes at once: a run that is killed leaves nothing.
    std::fs::remove_file(&path).expect("our own file");
    // Twice the size, so that an aligned block is inside.
    let mut room = vec![0x5au8; 2 * BLOCK_BYTES];
    let start = room.as_ptr().align_offset(4096);
    let block = &mut room[start..start + BLOCK_BYTES];
    let write = rate(|| for_each_block(|| file.write_all(block)));
    file.rewind().expect("a file");
    let read = rate(|| for_each_block(|| file.read_exact(block)));
    Rate { write, read }
}

fn for_each_block(mut step: impl FnMut() -> std::io::Result<()>) {
    for _ in 0..FILE_BYTES / BLOCK_BYTES {
        step().expect("a disk with room for 1 GiB");
    }
}

fn rate(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    FILE_BYTES as f64 / started.elapsed().as_secs_f64()
}
