//! Seeded programs through the `Allocator` of allocator-api2: allocate, grow, shrink, free, with
//! sizes from zero up and alignments up to huge pages, against twins.

#![cfg(feature = "allocator-api2-02")]

mod common;

use allocator_api2::alloc::{Allocator, Layout};
use common::{InUse, Rng, run_programs, unless_miri};
use plimsoll_arena::os::{Fake, Os};
use plimsoll_arena::{Pool, Secrecy};
use std::ptr::NonNull;
use std::sync::Arc;

const STEPS: usize = unless_miri(150, 40);
const BYTES_MAX: usize = unless_miri(1 << 20, 150_000);

struct Piece {
    start: NonNull<u8>,
    layout: Layout,
    twin: Vec<u8>,
}

fn layout(rng: &mut Rng) -> Layout {
    // Up to a huge page, and past the 4 KiB that blocks promise.
    let align = 1 << if rng.one_in(4) { rng.below(22) } else { rng.below(8) };
    Layout::from_size_align(rng.size(BYTES_MAX), align).expect("small")
}

impl Piece {
    fn new(memory: NonNull<[u8]>, layout: Layout) -> Self {
        assert!(memory.len() >= layout.size());
        let start = memory.cast::<u8>();
        assert_eq!(start.as_ptr() as usize % layout.align(), 0, "aligned as asked");
        Self { start, layout, twin: Vec::new() }
    }

    fn range(&self) -> std::ops::Range<usize> {
        let start = self.start.as_ptr() as usize;
        start..start + self.layout.size()
    }

    /// Writes all of it.
    fn fill(&mut self, rng: &mut Rng) {
        let id = rng.next();
        self.twin = (0..self.layout.size()).map(|i| (i ^ (i >> 8)) as u8 ^ id as u8).collect();
        // SAFETY: the piece has as many bytes, which this test owns.
        unsafe { self.start.as_ptr().copy_from_nonoverlapping(self.twin.as_ptr(), self.twin.len()) }
    }

    /// Looks at what was written; the rest may be anything.
    fn assert_intact(&self) {
        // SAFETY: that many bytes of the piece were written.
        let bytes = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.twin.len()) };
        assert!(bytes == self.twin, "contents changed");
    }
}

fn allocate(pool: &Pool, rng: &mut Rng) -> Option<Piece> {
    let layout = layout(rng);
    let mut piece = if rng.one_in(2) {
        let mut piece = Piece::new(pool.allocate_zeroed(layout).ok()?, layout);
        piece.twin = vec![0; layout.size()];
        piece.assert_intact();
        piece
    } else {
        Piece::new(pool.allocate(layout).ok()?, layout)
    };
    if rng.one_in(4) {
        piece.twin.clear()
    } else {
        piece.fill(rng)
    }
    Some(piece)
}

/// Grows or shrinks; the alignment may change with it.
fn change(pool: &Pool, rng: &mut Rng, piece: &mut Piece) {
    let other = layout(rng);
    let (start, old) = (piece.start, piece.layout);
    let memory = if other.size() < old.size() {
        // SAFETY: the piece was allocated here with its layout, the new size is smaller, and on
        // success the old pointer is not used again.
        unsafe { pool.shrink(start, old, other) }
    } else if rng.one_in(2) {
        // SAFETY: as above, but for the size, which is at least the old one.
        unsafe { pool.grow(start, old, other) }
    } else {
        // SAFETY: as above.
        let memory = unsafe { pool.grow_zeroed(start, old, other) };
        if memory.is_ok() && piece.twin.len() == old.size() {
            piece.twin.resize(other.size(), 0);
        }
        memory
    };
    if let Ok(memory) = memory {
        let mut twin = std::mem::take(&mut piece.twin);
        twin.truncate(other.size());
        *piece = Piece { twin, ..Piece::new(memory, other) };
    }
    piece.assert_intact();
}

fn free(pool: &Pool, in_use: &InUse, piece: &Piece) {
    piece.assert_intact();
    in_use.leave(piece.range());
    // SAFETY: allocated in this pool with this layout, and forgotten after.
    unsafe { pool.deallocate(piece.start, piece.layout) };
}

fn program(rng: &mut Rng, pool: &Pool) {
    let in_use = InUse::default();
    let mut pieces = Vec::<Piece>::new();
    for _ in 0..STEPS {
        match rng.below(10) {
            0..4 if pieces.len() < 16 => {
                if let Some(piece) = allocate(pool, rng) {
                    in_use.enter(piece.range());
                    pieces.push(piece);
                }
            }
            0..6 if !pieces.is_empty() => {
                let index = rng.below(pieces.len());
                in_use.leave(pieces[index].range());
                change(pool, rng, &mut pieces[index]);
                in_use.enter(pieces[index].range());
            }
            6..8 if !pieces.is_empty() => {
                let index = rng.below(pieces.len());
                free(pool, &in_use, &pieces.swap_remove(index));
            }
            8 => {
                pool.reclaim(rng.size(4 * BYTES_MAX));
                pool.ledger().set_limit(rng.size(8 * BYTES_MAX));
            }
            _ => assert!(pool.check()),
        }
        let stats = pool.stats();
        assert_eq!(pool.ledger().held_bytes(), stats.held_bytes);
        assert!(stats.allocated_bytes <= stats.live_bytes);
    }
    pieces.iter().for_each(|piece| free(pool, &in_use, piece));
    assert!(pool.check() && in_use.is_empty());
    assert_eq!((pool.stats().live_bytes, pool.stats().allocated_bytes), (0, 0));
}

fn build(rng: &mut Rng, os: Arc<dyn Os>) -> Pool {
    let secrecy = [Secrecy::Public, Secrecy::Secret][rng.below(2)];
    let builder = Pool::builder().os(os).secrecy(secrecy);
    builder.reserve_bytes(unless_miri(24 << 20, 8 << 20)).build().expect("a small pool")
}

#[test]
fn programs_over_the_fake_os() {
    run_programs("allocator programs_over_the_fake_os", 100, |rng| {
        let fake = Arc::new(Fake::new());
        let pool = build(rng, fake.clone());
        fake.fail_randomly(rng.next(), if rng.one_in(2) { 0 } else { rng.size(200) as u64 });
        program(rng, &pool);
        let ledger = Arc::clone(pool.ledger());
        drop(pool);
        assert_eq!((fake.reserved_bytes(), ledger.held_bytes()), (0, 0));
    });
}

#[cfg(not(miri))]
#[test]
fn programs_over_linux() {
    run_programs("allocator programs_over_linux", 100, |rng| {
        let pool = build(rng, Arc::new(plimsoll_arena::os::Linux));
        program(rng, &pool);
    });
}
