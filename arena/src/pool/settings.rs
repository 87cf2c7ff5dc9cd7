//! What a pool does with the blocks of its vectors: words for its settings.

/// Whether what a pool's vectors hold is a secret. Every vector has the secrecy of its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secrecy {
    /// The contents of a dropped vector stay in its block until the block is reused or freed.
    #[default]
    Public,
    /// Contents are overwritten with zeroes when a vector is dropped or moves: for witness data.
    Secret,
}

/// When the pages of a fresh block come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefault {
    /// When the block is acquired, in one call: several times faster than one fault a page.
    #[default]
    AtAcquire,
    /// At the first touch of each page: for vectors that may stay mostly unused.
    OnTouch,
}

/// What a pool does with a block that is dropped while the limit is exceeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverLimitRelease {
    /// Gives its memory back at once.
    #[default]
    GiveBack,
    /// Keeps it for reuse; the next charge or reclaim point will ask for it.
    Keep,
}
