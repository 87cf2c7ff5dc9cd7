//! Numbers of chunks, frames, slots and shelves, none of which can be taken for another.
//!
//! A number is kept as one more, so that an `Option` of it takes four bytes and all zero bits are
//! `None`: tables begin as zero pages.
//!
//! Must never: be made from a number of another kind.

use std::num::NonZeroU32;

pub(crate) use super::tables::Id;
use super::tables::ZeroValid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(transparent)]
        pub(crate) struct $name(NonZeroU32);

        impl Id for $name {
            fn of(index: usize) -> Self {
                Self(NonZeroU32::MIN.saturating_add(u32::try_from(index).unwrap_or(u32::MAX)))
            }

            fn index(self) -> usize {
                self.0.get() as usize - 1
            }
        }

        // SAFETY: all zero bits are `None`, as the standard library promises for `NonZeroU32`.
        unsafe impl ZeroValid for Option<$name> {}
    };
}

id! {
    /// A chunk: 2 MiB of the data range.
    ChunkId
}

id! {
    /// A frame: 2 MiB of addresses for pages that are not in data.
    FrameId
}

id! {
    /// A slot: 2 MiB of the spill file.
    SlotId
}

id! {
    /// A shelf: 64 KiB of memory for packed granules.
    ShelfId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_and_none_is_zero() {
        for index in [0, 1, u32::MAX as usize - 1] {
            assert_eq!(ChunkId::of(index).index(), index);
        }
        assert_eq!(size_of::<Option<FrameId>>(), 4);
        assert_eq!(ChunkId::of(usize::MAX), ChunkId::of(u32::MAX as usize - 1));
    }
}
