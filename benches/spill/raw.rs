//! The disk by itself: `O_DIRECT` in blocks, by a number of threads. The yardstick of all that
//! spills.
//!
//! ```text
//!   block  0   1   2   3   4   5  ..     of one file, whose space was taken beforehand
//!   thread 0   1   0   1   0   1  ..     each writes, and then reads, its own
//! ```
//!
//! The file is what the store writes to, [`SpillFile`], used as a bare file: same folder, same
//! flags. What is read is compared at one place of each block: a disk that gives back other bytes
//! is no yardstick.

#![allow(dead_code, reason = "each bench uses its part of what is shared")]

use plimsoll_swap::backend::{AlignedBytes, Backend};
use plimsoll_swap::extent::{Extent, ExtentMap};
use plimsoll_swap::file::{Access, RamDisk, SpillFile};
use std::path::Path;
use std::time::Instant;

/// Bytes a second of the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskRates {
    /// Written.
    pub(crate) write: f64,
    /// Read.
    pub(crate) read: f64,
}

/// A file of blocks whose space is taken.
pub(crate) struct RawFile {
    file: SpillFile,
    extents: Vec<Extent>,
    block_bytes: usize,
}

impl RawFile {
    /// Makes one of `blocks` blocks.
    pub(crate) fn new(folder: &Path, block_bytes: usize, blocks: usize) -> Self {
        let file = SpillFile::open(folder, RamDisk::Accept).expect("a folder to spill to");
        if file.access() == Access::Buffered {
            println!("# WARNING: this file system refuses O_DIRECT: these are figures of RAM");
        }
        let mut map = ExtentMap::new(u64::MAX >> 1);
        let extents: Vec<Extent> =
            (0..blocks).map(|_| map.alloc(block_bytes as u64).expect("room")).collect();
        for extent in &extents {
            file.reserve(*extent).expect("room on the disk");
        }
        Self { file, extents, block_bytes }
    }

    /// Writes all blocks and reads them back, on `threads` threads.
    pub(crate) fn measure(&self, threads: usize) -> DiskRates {
        DiskRates {
            write: self.rate(threads, |index, extent, buffer| {
                buffer[0] = index as u8;
                self.file.write_at(extent.offset_bytes(), buffer).expect("a write");
            }),
            read: self.rate(threads, |index, extent, buffer| {
                self.file.read_at(extent.offset_bytes(), buffer).expect("a read");
                assert_eq!(buffer[0], index as u8, "what was written to block {index}");
            }),
        }
    }

    fn rate(&self, threads: usize, work: impl Fn(usize, &Extent, &mut [u8]) + Sync) -> f64 {
        let mut buffers: Vec<AlignedBytes> =
            (0..threads).map(|_| AlignedBytes::zeroed(self.block_bytes)).collect();
        // Touched before the clock starts.
        buffers.iter_mut().for_each(|buffer| buffer.fill(0xa5));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (thread, buffer) in buffers.iter_mut().enumerate() {
                let own = self.extents.iter().enumerate().skip(thread).step_by(threads);
                let work = &work;
                scope.spawn(move || own.for_each(|(index, extent)| work(index, extent, buffer)));
            }
        });
        (self.extents.len() * self.block_bytes) as f64 / start.elapsed().as_secs_f64()
    }
}
