//! The account: how much memory each owner in this process holds, against one limit.
//!
//! ```text
//!              limit_bytes
//!   |<------------------------------------------------------->|
//!   | vectors held | blocks held | pager held |   foreign     |  headroom
//!      exact, each owner counts its own          by the kernel
//!
//!   at a look:   foreign = resident - sum over owners (there)       there = held, with its pages
//!   any time:    counted = foreign + sum over owners (held)
//! ```
//!
//! Three owners hold memory: the pools, through their ledgers; the global allocator's blocks; and
//! the pager under it, which then counts the pages of those blocks itself. Each owner reports what
//! it holds, and how much of that has its pages. The account counts held bytes before their pages
//! come, so it never underestimates the foreign bytes.
//!
//! The global allocator counts its blocks by whole pages, touched or not. Pages that nobody ever
//! touched make `foreign` smaller, even negative. The sum is still right.
//!
//! The kernel can drop pages of files. They count up to twice the code of the program and its
//! libraries (twice, for their constants). Pages beyond that, such as a mapped key, do not count
//! against vectors. They are still resident: if they lift the process over its limit, the account
//! says so.
//!
//! Pages that somebody advised out to the kernel's swap leave the RSS. What zram takes of the RAM
//! for them is foreign, too: it is nobody's resident memory, and it is there.
//!
//! Invariants:
//!
//! * `held(owner)` is the sum of what the owner added less what it took off;
//! * with hard charges only, `counted <= limit` after every charge, for the foreign bytes known at
//!   that moment: the test and the addition are one step, for all ledgers together;
//! * an older look never overwrites what a younger look found (`foreign`).
//!
//! Must never: allocate, lock or log, but for registering, setting a limit, and the one line of
//! `over`.
//!
//! Here is what owners add and take off; `set` has the limit, and `look` what the kernel says.

mod look;
mod set;

use super::foreign::Foreign;
use super::kernel::Kernel;
use super::limit::Limit;
use super::over::Over;
use super::thrash::Thrash;
use crate::sync::{AtomicUsize, Ordering, const_fn};
use std::ops::Deref;
use std::sync::{Arc, Mutex, Weak};

/// What the heap, stacks and code pages may grow by after the last vector was charged, when nobody
/// looks. Transforms of 2^23 in blocks of 64 KiB, under 32 MiB, grew by 0.6 MB (`cargo bench
/// --bench ntt -- sweep`). One for every limit: lowering the limit by a byte is short by a byte.
const MARGIN_BYTES: usize = 1 << 20;

/// An owner of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Pools of vectors, and what is packed of them, through their ledgers.
    Pools,
    /// Blocks of the global allocator whose pages are ordinary ones.
    Blocks,
    /// The pager under the global allocator.
    Pager,
}

const OWNERS: [Owner; 3] = [Owner::Pools, Owner::Blocks, Owner::Pager];

/// What one owner holds.
struct Cell {
    held: AtomicUsize,
    /// Of these, what has its pages.
    there: AtomicUsize,
}

impl Cell {
    const_fn! {
        fn new() -> Self {
            Self { held: AtomicUsize::new(0), there: AtomicUsize::new(0) }
        }
    }
}

/// Something that makes room when the limit asks for it: a runtime's ladder, or a pager.
pub trait Pressure: Send + Sync {
    /// Returns whether this one hears of a changed limit after all others. This is so for a pager,
    /// which is the last rung of every ladder and frees what the others leave missing.
    fn is_last(&self) -> bool {
        false
    }

    /// Frees at least `short_bytes` if it can, the cheapest first. Returns what it freed, even if
    /// other threads have taken it since; fewer bytes than asked for mean that there is no more.
    /// Freed blocks may stay cached. A caller that is still short asks again, and then they go.
    fn relieve(&self, short_bytes: usize) -> usize;

    /// The limit has changed, and is exceeded by `excess_bytes` now, which may be zero.
    fn limit_changed(&self, excess_bytes: usize);
}

/// The account of a process: what each owner holds, what is foreign, and the limit over both.
///
/// [`process`](super::process) returns the process's own.
pub struct Account {
    limit: Limit,
    owners: [Cell; 3],
    foreign: Foreign,
    /// The rest of the process is taken to hold at least this many bytes, because it will.
    expected: AtomicUsize,
    margin: usize,
    kernel: Option<Kernel>,
    over: Over,
    thrash: Thrash,
    pressures: Mutex<Vec<Weak<dyn Pressure>>>,
}

#[cfg(not(loom))]
static PROCESS: Account = Account::with(Some(Kernel::new(true)), MARGIN_BYTES);

/// The account of this process. Its limit is the process's own: a `Runtime`, the global allocator
/// and `PLIMSOLL_LIMIT` set the same one, and the last writer wins.
#[cfg(not(loom))]
#[must_use]
pub fn process() -> &'static Account {
    &PROCESS
}

/// An account that is shared: the process's, or one of somebody's own.
#[derive(Clone, Debug, Default)]
pub struct AccountRef(Option<Arc<Account>>);

impl AccountRef {
    /// The account of this process.
    pub const PROCESS: Self = Self(None);

    /// Makes a separate account: nobody else changes its limit, and no cgroup lowers it. It still
    /// sees the resident memory of this process.
    #[must_use]
    pub fn alone() -> Self {
        Self(Some(Arc::new(Account::with(Some(Kernel::new(false)), MARGIN_BYTES))))
    }

    /// Says whether the limit is nobody else's.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.0.is_some()
    }

    /// Makes an account that asks no kernel. Its caller tells it the foreign bytes. For models and
    /// tests.
    #[must_use]
    pub fn told() -> Self {
        Self(Some(Arc::new(Account::with(None, 0))))
    }
}

impl Deref for AccountRef {
    type Target = Account;

    #[inline]
    fn deref(&self) -> &Account {
        match &self.0 {
            Some(own) => own,
            #[cfg(not(loom))]
            None => &PROCESS,
            #[cfg(loom)]
            None => unreachable!("under loom an account is made in the model"),
        }
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("limit_bytes", &self.limit_bytes())
            .field("counted_bytes", &self.counted_bytes())
            .finish_non_exhaustive()
    }
}

impl Account {
    const_fn! {
        fn with(kernel: Option<Kernel>, margin: usize) -> Self {
            Self {
                limit: Limit::new(),
                owners: [Cell::new(), Cell::new(), Cell::new()],
                foreign: Foreign::new(),
                expected: AtomicUsize::new(0),
                margin,
                kernel,
                over: Over::new(),
                thrash: Thrash::new(),
                pressures: Mutex::new(Vec::new()),
            }
        }
    }

    fn cell(&self, owner: Owner) -> &Cell {
        &self.owners[owner as usize]
    }

    /// Returns the limit in bytes, `usize::MAX` for none.
    #[inline]
    #[must_use]
    pub fn limit_bytes(&self) -> usize {
        self.limit.bytes()
    }

    /// Adds bytes to what an owner holds. They have no pages yet.
    #[inline]
    pub fn add(&self, owner: Owner, bytes: usize) {
        self.cell(owner).held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes off what an owner held.
    ///
    /// # Panics
    ///
    /// In debug builds, when more is taken off than was added.
    #[inline]
    pub fn sub(&self, owner: Owner, bytes: usize) {
        let before = self.cell(owner).held.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{bytes} bytes given back, only {before} were held");
    }

    /// Adds `bytes` to what an owner holds if they fit under the limit; returns what it holds then.
    #[inline]
    pub fn try_add(&self, owner: Owner, bytes: usize) -> Option<usize> {
        let room = self.limit_bytes().saturating_sub(self.others_bytes(owner));
        let cell = &self.cell(owner).held;
        let mut held = cell.load(Ordering::Relaxed);
        loop {
            let new = held.checked_add(bytes).filter(|new| *new <= room)?;
            // Relaxed: the number itself is all that is shared; no other memory hangs on it.
            match cell.compare_exchange_weak(held, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(new),
                Err(now) => held = now,
            }
        }
    }

    /// Adds `bytes` whether they fit or not; `None` when the sum is beyond any number of bytes.
    pub fn add_over(&self, owner: Owner, bytes: usize) -> Option<usize> {
        let sum = |held: usize| held.checked_add(bytes);
        // Relaxed: as in `try_add`.
        let before = self.cell(owner).held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
        before.map(|held| held + bytes).ok()
    }

    /// Notes that `bytes` of what an owner holds have their pages now.
    #[inline]
    pub fn arrived(&self, owner: Owner, bytes: usize) {
        self.cell(owner).there.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes, before they are given back, that `bytes` will lose their pages.
    ///
    /// # Panics
    ///
    /// In debug builds, when more leave than arrived.
    #[inline]
    pub fn leaving(&self, owner: Owner, bytes: usize) {
        let before = self.cell(owner).there.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{bytes} bytes leave, only {before} arrived");
    }

    /// Changes what an owner holds by differences, which threads may tell in any order: it may be
    /// below zero for a moment.
    #[inline]
    pub fn change_held(&self, owner: Owner, by: isize) {
        if by != 0 {
            self.cell(owner).held.fetch_add(by as usize, Ordering::Relaxed);
        }
    }

    /// Changes what of it has its pages, as [`Account::change_held`] does.
    #[inline]
    pub fn change_there(&self, owner: Owner, by: isize) {
        if by != 0 {
            self.cell(owner).there.fetch_add(by as usize, Ordering::Relaxed);
        }
    }

    /// Returns what an owner holds.
    #[inline]
    #[must_use]
    pub fn held_bytes(&self, owner: Owner) -> usize {
        self.cell(owner).held.load(Ordering::Relaxed)
    }

    /// Returns what of that has its pages.
    #[inline]
    #[must_use]
    pub fn there_bytes(&self, owner: Owner) -> usize {
        self.cell(owner).there.load(Ordering::Relaxed)
    }

    fn sum(&self, of: impl Fn(&Cell) -> &AtomicUsize) -> i64 {
        self.owners.iter().map(|cell| of(cell).load(Ordering::Relaxed) as i64).sum()
    }

    /// Returns the foreign bytes, as last seen.
    #[must_use]
    pub fn foreign_bytes(&self) -> usize {
        self.foreign.bytes().max(0) as usize
    }

    /// Returns what the process holds: what its owners hold now, and what was foreign at the last
    /// look.
    #[inline]
    #[must_use]
    pub fn counted_bytes(&self) -> usize {
        let foreign = self.foreign.bytes();
        foreign.saturating_add(self.sum(|cell| &cell.held)).max(0) as usize
    }

    /// Returns what everybody but an owner holds, without a margin.
    #[inline]
    #[must_use]
    pub fn rest_bytes(&self, owner: Owner) -> usize {
        let mut rest = self.foreign.bytes();
        for other in OWNERS {
            rest += if other == owner { 0 } else { self.held_bytes(other) as i64 };
        }
        rest.max(0) as usize
    }

    /// Returns what everybody but an owner holds, or as expected if that is more. What grows unseen
    /// is part of an expectation; of what nobody expected there may be as much again, up to the
    /// margin.
    #[inline]
    #[must_use]
    pub fn others_bytes(&self, owner: Owner) -> usize {
        let (rest, expected) = (self.rest_bytes(owner), self.expected.load(Ordering::Relaxed));
        let unseen = rest.saturating_sub(expected).min(self.margin);
        rest.max(expected).saturating_add(unseen)
    }

    /// Returns by how many bytes the process exceeds the limit, as far as is known.
    #[inline]
    #[must_use]
    pub fn excess_bytes(&self) -> usize {
        let pools = self.held_bytes(Owner::Pools);
        let counted = self.others_bytes(Owner::Pools).saturating_add(pools);
        counted.saturating_sub(self.limit_bytes())
    }

    /// Announces that the rest of the process will hold `bytes`. The account counts no fewer
    /// foreign bytes for as long as the returned guard lives. Several announcements add up.
    #[must_use = "nothing is expected any more once this is dropped"]
    pub fn expect(account: &AccountRef, bytes: usize) -> Expected {
        account.expected.fetch_add(bytes, Ordering::Relaxed);
        Expected { account: account.clone(), bytes }
    }
}

/// Bytes that the rest of the process is expected to hold; dropping it ends the expectation.
#[derive(Debug)]
pub struct Expected {
    account: AccountRef,
    bytes: usize,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.account.expected.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
