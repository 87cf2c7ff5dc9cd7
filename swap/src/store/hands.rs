//! One vector's pieces, shared out between the caller and a helper.
//!
//! A disk is fastest with two requests at a time, and encoding and page faults need a core of their
//! own. There are two I/O threads already; a thread that waits for one vector has only this helper.
//!
//! Invariant: every piece is worked on once, by one of the two, whether the helper starts or not.

use plimsoll_arena::sync::unpoisoned;
use std::sync::Mutex;

use crate::Error;

/// Threads that work on the pieces of one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hands {
    /// The caller's.
    #[default]
    One,
    /// The caller's and a helper's: where somebody waits.
    Two,
}

/// Below this many bytes of a vector starting a helper takes longer than it saves.
const SHARED_BYTES_MIN: usize = 2 << 20;

impl Hands {
    /// Two hands where the vector is long enough to pay for starting a helper, else one.
    pub(super) fn of(self, bytes: usize, pieces: usize) -> Self {
        if bytes < SHARED_BYTES_MIN || pieces < 2 { Self::One } else { self }
    }
}

/// Does `work` on every piece, or stops after an error and returns the first.
pub(super) fn share<T: Send>(
    hands: Hands,
    mut pieces: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    if hands == Hands::One {
        return pieces.try_for_each(work);
    }
    let pieces = Mutex::new((pieces, None));
    let next = || {
        let mut left = unpoisoned(pieces.lock());
        if left.1.is_some() { None } else { left.0.next() }
    };
    let serve = || {
        while let Some(piece) = next() {
            if let Err(why) = work(piece) {
                let mut left = unpoisoned(pieces.lock());
                left.1.get_or_insert(why);
            }
        }
    };
    std::thread::scope(|scope| {
        // Without a helper the caller does it all.
        let _started = std::thread::Builder::new().spawn_scoped(scope, serve);
        serve();
    });
    let (_, failed) = unpoisoned(pieces.into_inner());
    failed.map_or(Ok(()), Err)
}
