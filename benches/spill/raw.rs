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

use plimsoll::{Pool, PoolVec};
use plimsoll_swap::backend::Backend;
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

/// The memory that blocks are written from and read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// A block for each thread, used again and again: it stays in the processor's cache, as a
    /// vector does that is saved over and over.
    OneBlock,
    /// A block of memory for each block of the file, as many vectors are.
    AllBlocks,
    /// The same, without pages: reading brings them, as where all memory was given back before.
    NoPages,
}

/// A file of blocks whose space is taken.
pub(crate) struct RawFile {
    file: SpillFile,
    extents: Vec<Extent>,
    block_bytes: usize,
    memory: Memory,
}

impl RawFile {
    /// Makes one of `blocks` blocks.
    pub(crate) fn new(folder: &Path, block_bytes: usize, blocks: usize, memory: Memory) -> Self {
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
        Self { file, extents, block_bytes, memory }
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
        let count = match self.memory {
            Memory::OneBlock => threads,
            Memory::AllBlocks | Memory::NoPages => self.extents.len().max(threads),
        };
        // Of a pool, as what is spilled: the same pages, huge where they pay.
        let pool = Pool::builder().build().expect("addresses for a pool");
        let block = |_| pool.try_for_overwrite::<u8>(self.block_bytes).expect("memory");
        let mut buffers: Vec<PoolVec<u8>> = (0..count).map(block).collect();
        if self.memory != Memory::NoPages {
            // Touched before the clock starts.
            buffers.iter_mut().for_each(|buffer| buffer.fill(0xa5));
        }
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (thread, buffers) in buffers.chunks_mut(count.div_ceil(threads)).enumerate() {
                let own = self.extents.iter().enumerate().skip(thread).step_by(threads);
                let work = &work;
                scope.spawn(move || {
                    for (turn, (index, extent)) in own.enumerate() {
                        work(index, extent, &mut buffers[turn % buffers.len()]);
                    }
                });
            }
        });
        (self.extents.len() * self.block_bytes) as f64 / start.elapsed().as_secs_f64()
    }
}
