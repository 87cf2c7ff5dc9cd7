//! Seeded programs of bump arenas: slices of several types and alignments, nested checkpoints,
//! resets, limits, and an OS that fails.
//!
//! Slices live side by side and are written in turns; each must keep its own contents, be aligned,
//! start as zeroes where zeroes were asked for, and share no byte with another.

mod common;

use common::{Element, InUse, Padded, PageAligned, Rng, run_programs, unless_miri};
use plimsoll_arena::os::{Fake, Os};
use plimsoll_arena::{Bump, Plain, Pool, Secrecy};
use std::ops::Range;
use std::sync::Arc;

const SLICE_BYTES_MAX: usize = unless_miri(300_000, 70_000);
const SLICES_MAX: usize = unless_miri(30, 10);
const DEPTH_MAX: usize = 4;

/// A slice on loan from the arena, and what it must hold.
struct Loan<'a, T: Element> {
    slice: &'a mut [T],
    twin: Vec<T>,
}

trait Lent {
    fn rewrite(&mut self, rng: &mut Rng);
    fn assert_intact(&self);
    fn range(&self) -> Range<usize>;
}

impl<T: Element> Lent for Loan<'_, T> {
    fn rewrite(&mut self, rng: &mut Rng) {
        let value = T::make(rng.next());
        for index in (0..self.twin.len()).step_by(1 + rng.below(self.twin.len().max(1))) {
            self.slice[index] = value;
            self.twin[index] = value;
        }
    }

    fn assert_intact(&self) {
        assert!(*self.slice == self.twin[..], "a slice changed under its owner");
    }

    fn range(&self) -> Range<usize> {
        let range = self.slice.as_ptr_range();
        range.start as usize..range.end as usize
    }
}

fn lend<'a, T: Element>(slice: &'a mut [T], twin: Vec<T>) -> Box<dyn Lent + 'a> {
    assert_eq!(slice.as_ptr() as usize % align_of::<T>(), 0);
    let loan = Loan { slice, twin };
    loan.assert_intact();
    Box::new(loan)
}

fn zeroed<'a, T: Element + Plain>(bump: &'a Bump, bytes: usize) -> Option<Box<dyn Lent + 'a>> {
    let len = bytes / size_of::<T>();
    let slice = bump.try_alloc_zeroed::<T>(len).ok()?;
    // SAFETY: zeroes are a value of every Plain type.
    Some(lend(slice, vec![unsafe { std::mem::zeroed() }; len]))
}

fn copied<'a, T: Element>(bump: &'a Bump, bytes: usize, id: u64) -> Option<Box<dyn Lent + 'a>> {
    let len = (bytes / size_of::<T>()) as u64;
    let twin: Vec<T> = (0..len).map(|i| T::make(id.wrapping_add(i))).collect();
    Some(lend(bump.try_alloc_copy(&twin).ok()?, twin))
}

fn borrow_some<'a>(bump: &'a Bump, rng: &mut Rng) -> Option<Box<dyn Lent + 'a>> {
    let bytes_max = if rng.one_in(4) { SLICE_BYTES_MAX } else { 5000 };
    let bytes = rng.size(bytes_max);
    match rng.below(7) {
        0 => zeroed::<u8>(bump, bytes),
        1 => zeroed::<u64>(bump, bytes),
        2 => zeroed::<[u64; 4]>(bump, bytes),
        3 => copied::<u8>(bump, bytes, rng.next()),
        4 => copied::<u64>(bump, bytes, rng.next()),
        5 => copied::<Padded>(bump, bytes, rng.next()),
        _ => copied::<PageAligned>(bump, bytes, rng.next()),
    }
}

/// Fills the arena's present stage with slices that live together.
fn slices(bump: &Bump, rng: &mut Rng, limit_bytes: usize) {
    let in_use = InUse::default();
    let mut lent: Vec<Box<dyn Lent + '_>> = Vec::new();
    for _ in 0..rng.below(SLICES_MAX) {
        if let Some(loan) = borrow_some(bump, rng) {
            in_use.enter(loan.range());
            lent.push(loan);
        }
        assert!(bump.held_bytes() <= limit_bytes);
        if !lent.is_empty() {
            let index = rng.below(lent.len());
            lent[index].rewrite(rng);
        }
    }
    lent.iter().for_each(|loan| loan.assert_intact());
}

fn stage(bump: &mut Bump, rng: &mut Rng, limit_bytes: usize, depth: usize) {
    slices(bump, rng, limit_bytes);
    for _ in 0..rng.below(3) {
        if depth == DEPTH_MAX {
            break;
        }
        let before = bump.held_bytes();
        {
            let mut inner = bump.checkpoint();
            stage(&mut inner, rng, limit_bytes, depth + 1);
            if rng.one_in(10) {
                inner.reset();
                slices(&inner, rng, limit_bytes);
            }
        }
        assert!(bump.held_bytes() <= before, "what came after the checkpoint went home");
        slices(bump, rng, limit_bytes);
    }
    if rng.one_in(8) {
        bump.reset();
        assert_eq!(bump.held_bytes(), 0);
    }
}

fn build(os: Arc<dyn Os>, secrecy: Secrecy) -> Pool {
    let builder = Pool::builder().os(os).reserve_bytes(unless_miri(24 << 20, 8 << 20));
    builder.secrecy(secrecy).build().expect("a small pool")
}

fn program(rng: &mut Rng, pool: Pool) {
    let limit_bytes = if rng.one_in(2) { usize::MAX } else { rng.size(4 << 20) };
    if rng.one_in(3) {
        pool.ledger().set_limit(rng.size(8 << 20));
    }
    let mut bump = Bump::with_limit(&pool, limit_bytes);
    for _ in 0..rng.below(6) {
        stage(&mut bump, rng, limit_bytes, 0);
        assert_eq!(pool.stats().allocated_bytes, bump.held_bytes());
        if rng.one_in(3) {
            pool.reclaim(rng.size(4 << 20));
        }
        if rng.one_in(unless_miri(20, 3)) {
            let moved = std::thread::spawn(move || {
                let slice = bump.alloc_copy(&[0u8; 0]);
                assert!(slice.is_empty());
                bump
            });
            bump = moved.join().expect("the arena moved to a thread and back");
        }
    }
    drop(bump);
    assert!(pool.check());
    assert_eq!(pool.stats().live_bytes, 0);
    let ledger = Arc::clone(pool.ledger());
    drop(pool);
    assert_eq!(ledger.held_bytes(), 0);
}

#[test]
fn programs_over_the_fake_os() {
    run_programs("bump programs_over_the_fake_os", 150, |rng| {
        let fake = Arc::new(Fake::new());
        let pool = build(fake.clone(), [Secrecy::Public, Secrecy::Secret][rng.below(2)]);
        fake.fail_randomly(rng.next(), if rng.one_in(2) { 0 } else { rng.size(200) as u64 });
        program(rng, pool);
        assert_eq!(fake.reserved_bytes(), 0);
    });
}

#[cfg(not(miri))]
#[test]
fn programs_over_linux() {
    run_programs("bump programs_over_linux", 100, |rng| {
        program(rng, build(Arc::new(plimsoll_arena::os::Linux), Secrecy::Public));
    });
}
