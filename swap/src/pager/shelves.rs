//! Packed granules in memory: which place is whose, and how much of the budget they take.
//!
//! ```text
//!   shelf   64 KiB of memory, cut in equal places: 128 of 512 bytes ... 2 of 32 KiB
//!   place   header of 8 bytes (whose, how long) | payload of the codec
//!
//!   put:    a shelf of that size with a free place -> else a new shelf, if there may be one more
//!   take:   the place is free; a shelf without any is given back
//! ```
//!
//! A granule is kept in half of its size or less, or not here. A place is larger than the next
//! smaller one by 512 bytes or by half at most.
//!
//! Invariants: a place is taken from when a worker is about to fill it until its granule is in data
//! again, in the file, or dead. Shelves that are open are resident. Who opens one charges for a
//! granule, and who gives one back takes it off.
//! What lies at a place that is not taken means nothing.
//!
//! Must never: make pages; who opens a shelf has made them before.

use std::num::NonZeroU32;

use plimsoll_arena::os::OsError;

use super::ids::{Id, ShelfId};
use super::space::GRANULE_BYTES;
use super::tables::{Lists, Table, ZeroValid};

/// The unit of a place's address and length.
const UNIT_BYTES: usize = 512;

/// Units of a shelf.
const UNITS: usize = GRANULE_BYTES / UNIT_BYTES;

/// Units of a place, by class.
const CLASSES: [u8; 15] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 21, 25, 32, 42, 64];

/// The list of shelves that are not resident, and those of shelves without a free place.
const FREE: usize = CLASSES.len();
const FULL: usize = CLASSES.len() + 1;

/// Bytes of a place before its payload.
pub(crate) const HEADER_BYTES: usize = 8;

/// The largest payload that is kept.
pub(crate) const PAYLOAD_BYTES_MAX: usize = GRANULE_BYTES / 2 - HEADER_BYTES;

/// Shelves there may be at most: a place's address in units is a `u32`.
const SHELVES_MAX: usize = u32::MAX as usize / UNITS;

/// What is known of a shelf.
#[derive(Clone, Copy)]
struct Shelf {
    class: u32,
    /// Its places that are taken.
    taken: u128,
}

// SAFETY: integers.
unsafe impl ZeroValid for Shelf {}

/// Where a payload is: its address among all shelves in units, and one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(transparent)]
pub(crate) struct ShelfPlace(NonZeroU32);

impl ShelfPlace {
    /// Bytes from the start of all shelves.
    pub(crate) fn offset(self) -> usize {
        (self.0.get() as usize - 1) * UNIT_BYTES
    }

    /// The place of an item of a shelf.
    fn of(shelf: ShelfId, class: usize, item: u32) -> Self {
        let unit = shelf.index() * UNITS + item as usize * usize::from(CLASSES[class]);
        Self(NonZeroU32::MIN.saturating_add(unit as u32))
    }

    /// The shelf, and the unit within it.
    fn at(self) -> (ShelfId, usize) {
        let unit = self.0.get() as usize - 1;
        (ShelfId::of(unit / UNITS), unit % UNITS)
    }
}

// SAFETY: all zero bits are `None`, as the standard library promises for `NonZeroU32`.
unsafe impl ZeroValid for Option<ShelfPlace> {}

/// Which granule lies where on the shelves.
pub(crate) struct Shelves {
    shelves: Table<Shelf>,
    /// By class, those with room; then [`FREE`] and [`FULL`].
    lists: Lists<ShelfId, usize, { CLASSES.len() + 2 }>,
    /// All that are resident, oldest first.
    age: Lists<ShelfId, usize, 1>,
    /// Shelves that were ever used; the rest is free too.
    used: usize,
    /// Granules that are kept packed.
    pub(crate) granules: u64,
}

/// The class whose places hold `bytes`.
fn class_of(bytes: usize) -> usize {
    CLASSES.partition_point(|units| usize::from(*units) * UNIT_BYTES < bytes + HEADER_BYTES)
}

/// All places of a shelf of a class.
fn places(class: usize) -> u128 {
    u128::MAX >> (128 - UNITS / usize::from(CLASSES[class]))
}

impl Shelves {
    /// Shelves for a range of `granules`; none of them resident.
    pub(crate) fn new(granules: usize) -> Result<Self, OsError> {
        let shelves = Self::most(granules);
        Ok(Self {
            shelves: Table::new(shelves)?,
            lists: Lists::new(shelves)?,
            age: Lists::new(shelves)?,
            used: 0,
            granules: 0,
        })
    }

    /// Shelves that a range of `granules` may have at most.
    pub(crate) fn most(granules: usize) -> usize {
        granules.div_ceil(8).min(SHELVES_MAX)
    }

    /// Shelves that are open.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        u64::from(self.age.len(0))
    }

    /// Takes a place for `bytes` of payload, if a shelf has one.
    pub(crate) fn put(&mut self, bytes: usize) -> Option<ShelfPlace> {
        let class = class_of(bytes);
        let shelf = self.lists.front(class)?;
        let entry = &mut self.shelves[shelf.index()];
        let item = entry.taken.trailing_ones();
        entry.taken |= 1 << item;
        if entry.taken == places(class) {
            self.lists.push_back(FULL, shelf);
        }
        self.granules += 1;
        Some(ShelfPlace::of(shelf, class, item))
    }

    /// A shelf that is to be made resident, and then opened.
    pub(crate) fn next_free(&mut self) -> Option<ShelfId> {
        let shelf = match self.lists.front(FREE) {
            Some(shelf) => {
                self.lists.remove(shelf);
                shelf
            }
            None if self.used < self.shelves.len() => {
                self.used += 1;
                ShelfId::of(self.used - 1)
            }
            None => return None,
        };
        Some(shelf)
    }

    /// The pages of a shelf are there: it has places for payloads of `bytes`.
    pub(crate) fn open(&mut self, shelf: ShelfId, bytes: usize) {
        let class = class_of(bytes);
        self.shelves[shelf.index()] = Shelf { class: class as u32, taken: 0 };
        // In front: who opened it takes one of its places, so that none is left empty for ever.
        self.lists.push_front(class, shelf);
        self.age.push_back(0, shelf);
    }

    /// The place is free again. Returns its shelf if that was the last one: its pages go back to
    /// the kernel, and it counts no more.
    pub(crate) fn take(&mut self, place: ShelfPlace) -> Option<ShelfId> {
        let (shelf, unit) = place.at();
        let entry = &mut self.shelves[shelf.index()];
        let class = entry.class as usize;
        let was_full = entry.taken == places(class);
        entry.taken &= !(1 << (unit / usize::from(CLASSES[class])));
        let is_empty = entry.taken == 0;
        self.granules -= 1;
        if is_empty {
            self.lists.push_back(FREE, shelf);
            self.age.remove(shelf);
            return Some(shelf);
        }
        if was_full {
            self.lists.push_back(class, shelf);
        }
        None
    }

    /// The shelf that was opened first.
    pub(crate) fn oldest(&self) -> Option<ShelfId> {
        self.age.front(0)
    }

    /// Nothing can leave this shelf at the moment: another is asked for next.
    pub(crate) fn not_now(&mut self, shelf: ShelfId) {
        self.age.push_back(0, shelf);
    }

    /// The places of a shelf that are taken at the moment.
    pub(crate) fn taken(&self, shelf: ShelfId) -> impl Iterator<Item = ShelfPlace> + use<> {
        let Shelf { class, mut taken } = self.shelves[shelf.index()];
        std::iter::from_fn(move || {
            let item = (taken != 0).then(|| taken.trailing_zeros())?;
            taken &= taken - 1;
            Some(ShelfPlace::of(shelf, class as usize, item))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn classes_waste_little_and_fit_the_largest_payload() {
        assert_eq!(class_of(PAYLOAD_BYTES_MAX), CLASSES.len() - 1);
        for bytes in 1..=PAYLOAD_BYTES_MAX {
            let place = usize::from(CLASSES[class_of(bytes)]) * UNIT_BYTES;
            assert!(place >= bytes + HEADER_BYTES);
            let shelf_share = GRANULE_BYTES / (UNITS / usize::from(CLASSES[class_of(bytes)]));
            let least = bytes + HEADER_BYTES + UNIT_BYTES;
            assert!(shelf_share * 3 <= least * 5, "{bytes} bytes take {shelf_share}");
        }
    }

    #[test]
    fn places_never_overlap_and_all_shelves_are_given_back() {
        let seed = super::super::tests::seed();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut shelves = Shelves::new(64 * 8).expect("tables");
        // Start of each taken place -> its bytes.
        let mut taken = BTreeMap::<usize, (ShelfPlace, usize)>::new();
        for _ in 0..100_000 {
            let grows = rng.gen_bool(if taken.len() > 400 { 0.4 } else { 0.6 });
            if !grows {
                let at = rng.gen_range(0..UNITS * UNIT_BYTES * 64);
                let Some((&start, &(place, _))) = taken.range(at..).next() else { continue };
                taken.remove(&start);
                shelves.take(place);
            } else {
                let shift = rng.gen_range(0..7);
                let bytes = rng.gen_range(1..=PAYLOAD_BYTES_MAX >> shift);
                let place = shelves.put(bytes).or_else(|| {
                    let shelf = shelves.next_free()?;
                    shelves.open(shelf, bytes);
                    shelves.put(bytes)
                });
                let Some(place) = place else { continue };
                let (start, whole) = (place.offset(), bytes + HEADER_BYTES);
                let before = taken.range(..=start).next_back();
                assert!(before.is_none_or(|(at, (_, whole))| at + whole <= start));
                let after = taken.range(start..).next();
                assert!(after.is_none_or(|(at, _)| start + whole <= *at));
                assert_eq!(start / GRANULE_BYTES, (start + whole - 1) / GRANULE_BYTES);
                taken.insert(start, (place, whole));
            }
            assert_eq!(shelves.granules, taken.len() as u64);
            let resident = (0..shelves.used)
                .map(ShelfId::of)
                .filter(|shelf| shelves.taken(*shelf).count() > 0);
            assert_eq!(resident.count() as u64, shelves.count());
        }
        for (place, _) in taken.into_values() {
            shelves.take(place);
        }
        assert_eq!((shelves.count(), shelves.granules, shelves.oldest()), (0, 0, None));
    }
}
