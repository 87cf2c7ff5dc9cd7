//! How many granules are held, and where they are.
//!
//! ```text
//!             charge                    pass                     uncharge
//!   kernel  ---------->  a place  ------------->  another place  ---------->  kernel
//!             (born: its pages are made)     (leaving: they are about to be given back)
//! ```
//!
//! A granule that is held is at one place. The figures are private and change by these moves
//! alone, so `data + limbo + ahead + in flight + spare + aside + shelves = held` cannot be broken
//! from outside; builds with debug assertions compare the two sides after each move, and what
//! leaves a place must have been there. `tests_check.rs` counts the tables anew.
//!
//! The account of the process knows of granules that are charged, and of these those that have
//! their pages.
//!
//! Must never: allocate.

use plimsoll_arena::process::{AccountRef, Owner};

use super::space::GRANULE_BYTES;

/// Where a granule is that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In the data range.
    Data,
    /// In a frame, evicted a short while ago.
    Limbo,
    /// In a frame, read ahead.
    Ahead,
    /// In the hands of a worker that brings it or sends it away.
    InFlight,
    /// In a frame, and nobody's.
    Spare,
    /// Set aside for a shelf, and not made yet.
    Aside,
    /// A shelf, or about to be one.
    Shelf,
}

/// Places there are.
const PLACES: usize = Where::Shelf as usize + 1;

/// The granules that a pager holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    at: [u64; PLACES],
    total: u64,
    peak: u64,
    /// Of all, the ones that are charged and may have no pages yet.
    unborn: u64,
    /// The account that is told, if the pager follows its limit.
    account: Option<AccountRef>,
}

impl Held {
    /// Nothing, told to `account`.
    pub(crate) fn told_to(account: Option<AccountRef>) -> Self {
        Self { account, ..Self::default() }
    }

    /// All that is held.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The most that was held at a time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// What is at a place.
    pub(crate) fn at(&self, place: Where) -> u64 {
        self.at[place as usize]
    }

    /// What is charged and not made.
    #[cfg(test)]
    pub(crate) fn unborn(&self) -> u64 {
        self.unborn
    }

    /// Counts granules whose pages are about to be made; [`Held::born`] says when they are there.
    pub(crate) fn charge(&mut self, place: Where, granules: u64) {
        self.at[place as usize] += granules;
        self.total += granules;
        self.unborn += granules;
        self.peak = self.peak.max(self.total);
        if let Some(account) = &self.account {
            account.add(Owner::Pager, bytes(granules));
        }
        self.compare();
    }

    /// The pages of charged granules have been made.
    pub(crate) fn born(&mut self, granules: u64) {
        debug_assert!(granules <= self.unborn, "{granules} granules are born: {self:?}");
        self.unborn -= granules;
        if let Some(account) = &self.account {
            account.arrived(Owner::Pager, bytes(granules));
        }
    }

    /// Granules are at another place from now on.
    pub(crate) fn pass(&mut self, from: Where, to: Where, granules: u64) {
        self.take(from, granules);
        self.at[to as usize] += granules;
        self.compare();
    }

    /// The pages of granules are about to be given back; [`Held::uncharge`] says when they are.
    pub(crate) fn leaving(&self, granules: u64) {
        if let Some(account) = &self.account {
            account.leaving(Owner::Pager, bytes(granules));
        }
    }

    /// Takes off granules whose pages have been given back.
    pub(crate) fn uncharge(&mut self, place: Where, granules: u64) {
        self.take(place, granules);
        self.total -= granules;
        if let Some(account) = &self.account {
            account.sub(Owner::Pager, bytes(granules));
        }
        self.compare();
    }

    fn take(&mut self, place: Where, granules: u64) {
        debug_assert!(granules <= self.at(place), "{granules} granules leave {place:?}: {self:?}");
        self.at[place as usize] -= granules;
    }

    fn compare(&self) {
        debug_assert_eq!(self.at.iter().sum::<u64>(), self.total, "held is not what is somewhere");
    }
}

impl Drop for Held {
    /// What a pager held goes with it.
    fn drop(&mut self) {
        self.leaving(self.total - self.unborn);
        if let Some(account) = &self.account {
            account.sub(Owner::Pager, bytes(self.total));
        }
    }
}

fn bytes(granules: u64) -> usize {
    granules as usize * GRANULE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_granule_is_at_one_place_from_its_charge_to_its_end() {
        let mut held = Held::default();
        held.charge(Where::InFlight, 3);
        assert_eq!((held.total(), held.unborn()), (3, 3));
        held.born(3);
        held.pass(Where::InFlight, Where::Data, 2);
        held.pass(Where::InFlight, Where::Ahead, 1);
        held.uncharge(Where::Data, 1);
        assert_eq!((held.total(), held.peak(), held.unborn()), (2, 3, 0));
        assert_eq!((held.at(Where::Data), held.at(Where::Ahead)), (1, 1));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "2 granules leave Limbo")]
    fn what_is_not_there_cannot_leave() {
        let mut held = Held::default();
        held.charge(Where::Limbo, 1);
        held.pass(Where::Limbo, Where::Spare, 2);
    }

    #[test]
    fn the_account_knows_what_is_charged_and_what_has_pages() {
        let account = AccountRef::told();
        let mut held = Held::told_to(Some(account.clone()));
        held.charge(Where::Aside, 4);
        assert_eq!(account.held_bytes(Owner::Pager), 4 * GRANULE_BYTES);
        held.born(4);
        held.leaving(1);
        held.uncharge(Where::Aside, 1);
        assert_eq!(account.held_bytes(Owner::Pager), 3 * GRANULE_BYTES);
        drop(held);
        assert_eq!(account.held_bytes(Owner::Pager), 0);
    }
}
