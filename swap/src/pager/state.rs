//! What a granule can be, and every legal move between these, in one `match`.
//!
//! ```text
//!              Evict              Write                 Written, wanted
//!   Resident --------> Limbo --------------> Writing --------------------> Resident
//!    ^   ^               |                    |    \
//!    |   +--- Rescue ----+            Written |     \ Written, all zero or dead
//!    |   |                                    v      v
//!    |   +--- Rescue --- Ahead --- Drop --> Disk    Zero <--- Discard (any at rest)
//!    |                     ^                  |      |
//!    |   Loaded            | LoadedAhead      |Load  |Load
//!    +---------------- Loading <--------------+------+
//!                          ^                  ^
//!                          | Load             | Cleared
//!   Writing ----------> Packed ----------> Clearing
//!          WrittenPacked         Clear
//! ```
//!
//! | state | its pages are | its contents are |
//! |---|---|---|
//! | Zero | nowhere | zero |
//! | Resident | in the data range, mapped | there |
//! | Limbo | in a frame | there |
//! | Writing | in a frame, one worker has it | there |
//! | Disk | nowhere | in the spill file |
//! | Packed | nowhere | in packed memory |
//! | Clearing | nowhere | in packed memory, from where one worker writes them to the file |
//! | Loading | in a frame or coming, one worker has it | packed, in the spill file, or zero |
//! | Ahead | in a frame, nobody has written to them | there and in the spill file |
//!
//! Invariants: a granule has one owner: the mutators (Resident), a worker (Writing, Loading,
//! Clearing), or whoever holds the lock (the rest). Zero, Disk, Packed and Clearing have no pages,
//! the others have. `Disk` is only reached when the file holds the contents.
//!
//! `state_model.rs` walks through every interleaving of a small pager built on these functions.

/// Where a granule is; see the module's table.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Zero = 0,
    Resident = 1,
    Limbo = 2,
    Writing = 3,
    Disk = 4,
    Loading = 5,
    Ahead = 6,
    Packed = 7,
    Clearing = 8,
}

/// What happens to a granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// Its pages were moved out of the data range.
    Evict,
    /// Its pages were moved back.
    Rescue,
    /// A worker begins to compare and write it.
    Write,
    /// The file has its contents, and nobody waits.
    Written,
    /// It turned out to be zero, or its contents are dead.
    WrittenZero,
    /// Packed memory has its contents, and nobody waits.
    WrittenPacked,
    /// The file has its contents, and somebody waits: its pages were moved back.
    WrittenWanted,
    /// A worker begins to bring it.
    Load,
    /// Its pages were moved into the data range.
    Loaded,
    /// It waits in its frame for a first touch.
    LoadedAhead,
    /// The room is needed, and the file has it.
    Drop,
    /// A worker begins to write what is packed to the file.
    Clear,
    /// The file has it.
    Cleared,
    /// Its contents are dead.
    Discard,
}

/// What a fault on a granule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is mapped already: let the thread try again.
    Wake,
    /// Move the pages back.
    Rescue,
    /// A worker has it: note that it is wanted; the worker will see to it.
    Wait,
    /// A worker must bring it.
    Load,
}

/// The state after `event`, or `None` if the move is not legal.
pub(crate) const fn next(state: State, event: Event) -> Option<State> {
    use State::{Ahead, Clearing, Disk, Limbo, Loading, Packed, Resident, Writing, Zero};
    Some(match (state, event) {
        (Resident, Event::Evict) => Limbo,
        (Limbo | Ahead, Event::Rescue) => Resident,
        (Limbo, Event::Write) => Writing,
        (Writing, Event::Written) => Disk,
        (Writing, Event::WrittenZero) => Zero,
        (Writing, Event::WrittenPacked) => Packed,
        (Writing, Event::WrittenWanted) => Resident,
        (Disk | Zero | Packed, Event::Load) => Loading,
        (Loading, Event::Loaded) => Resident,
        (Loading, Event::LoadedAhead) => Ahead,
        (Ahead, Event::Drop) => Disk,
        (Packed, Event::Clear) => Clearing,
        (Clearing, Event::Cleared) => Disk,
        (Zero | Resident | Limbo | Disk | Ahead | Packed, Event::Discard) => Zero,
        _ => return None,
    })
}

/// What to do for a thread that faulted on a granule in `state`.
pub(crate) const fn answer(state: State) -> Answer {
    match state {
        State::Resident => Answer::Wake,
        State::Limbo | State::Ahead => Answer::Rescue,
        State::Writing | State::Loading | State::Clearing => Answer::Wait,
        State::Zero | State::Disk | State::Packed => Answer::Load,
    }
}

#[cfg(test)]
#[path = "state_model.rs"]
mod model;
