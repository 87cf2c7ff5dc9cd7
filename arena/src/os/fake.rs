//! A stand-in for the kernel: heap memory that records what was asked and fails on request.
//!
//! It runs under Miri and Valgrind, and it is strict where a kernel is lenient: access rights and
//! residence are tracked a page at a time, and a call outside them panics. Failures come from a
//! seeded generator or from a countdown, so that a failing test can be replayed.

use super::{Os, OsError};
use std::alloc::Layout;
use std::collections::{HashMap, HashSet};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

const PAGE_BYTES: usize = 4096;

/// The calls of the contract that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FakeCall {
    /// [`Os::reserve`].
    Reserve,
    /// [`Os::commit`].
    Commit,
    /// [`Os::populate`].
    Populate,
    /// [`Os::decommit`].
    Decommit,
    /// [`Os::page_out`]. Failing, it reports success and half of the pages stay, as where swap is
    /// full.
    PageOut,
    /// [`Os::page_in`].
    PageIn,
}

/// Whether a call fails whenever it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// It does.
    Always,
    /// It does not.
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    Reserved,
    Committed,
    Resident,
}

struct FakeReservation {
    layout: Layout,
    pages: Vec<Page>,
}

#[derive(Default)]
struct FakeState {
    reservations: HashMap<usize, FakeReservation>,
    fail_after: HashMap<FakeCall, u64>,
    fail_always: HashSet<FakeCall>,
    fail_per_1024: u64,
    random: u64,
    calls: HashMap<FakeCall, u64>,
}

/// A fake operating system. Its reservations are real heap memory: keep them small.
#[derive(Default)]
pub struct Fake {
    state: Mutex<FakeState>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

impl Fake {
    /// Makes a fake that never fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `call` fail once, after `count` more successes.
    pub fn fail_after(&self, call: FakeCall, count: u64) {
        self.lock().fail_after.insert(call, count);
    }

    /// Makes every `call` fail from now on, or none where `fails` is [`Failing::Never`].
    pub fn fail(&self, call: FakeCall, fails: Failing) {
        let mut state = self.lock();
        match fails {
            Failing::Always => state.fail_always.insert(call),
            Failing::Never => state.fail_always.remove(&call),
        };
    }

    /// Makes every call fail with a chance of `per_1024` in 1024, from a generator seeded by
    /// `seed`. Zero switches it off.
    pub fn fail_randomly(&self, seed: u64, per_1024: u64) {
        let mut state = self.lock();
        state.random = seed | 1;
        state.fail_per_1024 = per_1024;
    }

    /// Returns how often `call` was made, failures included.
    #[must_use]
    pub fn calls(&self, call: FakeCall) -> u64 {
        self.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// Returns the bytes of all reservations that are not released.
    #[must_use]
    pub fn reserved_bytes(&self) -> usize {
        self.lock().reservations.values().map(|r| r.pages.len() * PAGE_BYTES).sum()
    }

    fn lock(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().expect("a test panicked inside the fake OS")
    }
}

impl FakeState {
    /// Counts the call and says whether it fails now.
    fn fails(&mut self, call: FakeCall) -> bool {
        *self.calls.entry(call).or_default() += 1;
        if self.fail_always.contains(&call) {
            return true;
        }
        if let Some(left) = self.fail_after.get_mut(&call) {
            if *left == 0 {
                self.fail_after.remove(&call);
                return true;
            }
            *left -= 1;
        }
        // Marsaglia's xorshift64: any generator will do, it must only repeat.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1024 < self.fail_per_1024
    }

    fn pages(&mut self, start: NonNull<u8>, bytes: usize) -> &mut [Page] {
        let address = start.as_ptr() as usize;
        assert_eq!(bytes % PAGE_BYTES, 0, "whole OS pages only");
        let (base, reservation) = self
            .reservations
            .iter_mut()
            .find(|(base, r)| {
                address >= **base && address + bytes <= **base + r.pages.len() * PAGE_BYTES
            })
            .expect("the range lies inside one reservation");
        assert_eq!((address - base) % PAGE_BYTES, 0, "whole OS pages only");
        let first = (address - base) / PAGE_BYTES;
        &mut reservation.pages[first..first + bytes / PAGE_BYTES]
    }
}

fn error(call: &'static str, bytes: usize) -> OsError {
    OsError { call, bytes, errno: libc::ENOMEM }
}

// SAFETY: reservations are separate zeroed heap allocations, freed only by `release`; `decommit`
// writes zeros before it reports success.
unsafe impl Os for Fake {
    fn page_bytes(&self) -> usize {
        PAGE_BYTES
    }

    fn reserve(&self, bytes: usize, align: usize) -> Result<NonNull<u8>, OsError> {
        let mut state = self.lock();
        if state.fails(FakeCall::Reserve) {
            return Err(error("fake reserve", bytes));
        }
        let layout = Layout::from_size_align(bytes, align).ok().filter(|_| bytes > 0);
        let layout = layout.ok_or(error("fake reserve", bytes))?;
        // SAFETY: the layout has a size, as the line above checks.
        let raw = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(raw).ok_or(error("fake reserve", bytes))?;
        let pages = vec![Page::Reserved; bytes.div_ceil(PAGE_BYTES)];
        state.reservations.insert(raw as usize, FakeReservation { layout, pages });
        Ok(base)
    }

    unsafe fn release(&self, base: NonNull<u8>, bytes: usize) {
        let removed = self.lock().reservations.remove(&(base.as_ptr() as usize));
        let reservation = removed.expect("released exactly once");
        assert_eq!(reservation.layout.size(), bytes, "released as reserved");
        // SAFETY: allocated by `reserve` with this layout, and just taken out of the table.
        unsafe { std::alloc::dealloc(base.as_ptr(), reservation.layout) };
    }

    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        let mut state = self.lock();
        if state.fails(FakeCall::Commit) {
            return Err(error("fake commit", bytes));
        }
        for page in state.pages(start, bytes) {
            if *page == Page::Reserved {
                *page = Page::Committed;
            }
        }
        Ok(())
    }

    unsafe fn populate(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        let mut state = self.lock();
        let fails = state.fails(FakeCall::Populate);
        let pages = state.pages(start, bytes);
        // A kernel that runs out of memory has made a part of the range resident.
        let coming = if fails { pages.len().div_ceil(2) } else { pages.len() };
        for page in &mut pages[..coming] {
            assert!(*page != Page::Reserved, "populate of memory that was never committed");
            *page = Page::Resident;
        }
        if fails { Err(error("fake populate", bytes)) } else { Ok(()) }
    }

    unsafe fn decommit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        let mut state = self.lock();
        if state.fails(FakeCall::Decommit) {
            return Err(error("fake decommit", bytes));
        }
        for page in state.pages(start, bytes) {
            assert!(*page != Page::Reserved, "decommit of memory that was never committed");
            *page = Page::Committed;
        }
        // SAFETY: the range lies inside one reservation (checked above) and the caller says that
        // nothing needs its contents.
        unsafe { start.as_ptr().write_bytes(0, bytes) };
        Ok(())
    }

    unsafe fn advise_huge(&self, start: NonNull<u8>, bytes: usize) {
        let mut state = self.lock();
        let committed = state.pages(start, bytes).iter().all(|page| *page != Page::Reserved);
        assert!(committed, "advice on memory that was never committed");
    }

    unsafe fn page_out(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        let mut state = self.lock();
        let fails = state.fails(FakeCall::PageOut);
        let pages = state.pages(start, bytes);
        let going = if fails { pages.len() / 2 } else { pages.len() };
        for page in &mut pages[..going] {
            assert!(*page != Page::Reserved, "page-out of memory that was never committed");
            // The bytes stay where they are: a touch finds them, as after a kernel's.
            *page = Page::Committed;
        }
        Ok(())
    }

    unsafe fn page_in(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        let mut state = self.lock();
        if state.fails(FakeCall::PageIn) {
            return Err(OsError { errno: libc::EFAULT, ..error("fake page-in", bytes) });
        }
        for page in state.pages(start, bytes) {
            assert!(*page != Page::Reserved, "page-in of memory that was never committed");
            *page = Page::Resident;
        }
        Ok(())
    }

    unsafe fn mapped_bytes(&self, start: NonNull<u8>, bytes: usize) -> Result<usize, OsError> {
        // SAFETY: as the caller promised. It has no swap cache: the two counts are one.
        unsafe { self.resident_bytes(start, bytes) }
    }

    unsafe fn resident_bytes(&self, start: NonNull<u8>, bytes: usize) -> Result<usize, OsError> {
        let mut state = self.lock();
        let resident = state.pages(start, bytes).iter().filter(|p| **p == Page::Resident);
        Ok(resident.count() * PAGE_BYTES)
    }
}
