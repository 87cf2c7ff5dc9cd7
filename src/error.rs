//! Everything that can go wrong, and what to do about it.
//!
//! ```
//! use plimsoll::{Error, Runtime};
//!
//! let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build()?;
//! let Err(Error::OverLimit { fits_bytes, .. }) = runtime.stage("commit", 1 << 40) else {
//!     panic!("a TiB does not fit")
//! };
//! assert!(fits_bytes > 1 << 40);
//! # Ok::<(), Error>(())
//! ```

use crate::limit::{LimitError, Misread, format_bytes};
use crate::meter::MeterError;
use crate::permit::shared::SharedError;
use crate::reclaim::Held;

/// An error of the runtime. [`Error::OverLimit`] means that memory does not fit under the limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A stage, or a vector of it, does not fit under the limit.
    #[error(
        "{}",
        over_limit(stage, [*asked_bytes, *short_bytes, *limit_bytes, *fits_bytes], holders)
    )]
    OverLimit {
        /// The stage.
        stage: String,
        /// Bytes it asked for.
        asked_bytes: u64,
        /// Bytes missing.
        short_bytes: u64,
        /// The limit in force.
        limit_bytes: u64,
        /// The smallest limit that would work, as far as is known here.
        fits_bytes: u64,
        /// Who holds memory, largest first.
        holders: Vec<Held>,
    },

    /// A stage, or a vector of it, does not fit in the permit that it runs under.
    #[error(
        "permit \"{permit}\": {}",
        over_permit(stage, [*asked_bytes, *permit_bytes, *fits_bytes], holders)
    )]
    OverPermit {
        /// The permit.
        permit: String,
        /// The stage.
        stage: String,
        /// Bytes it asked for.
        asked_bytes: u64,
        /// The bytes granted.
        permit_bytes: u64,
        /// The smallest permit that would work, as far as is known here.
        fits_bytes: u64,
        /// Who holds memory, largest first.
        holders: Vec<Held>,
    },

    /// The limit's text is wrong, or the machine cannot give it.
    #[error(transparent)]
    Limit(#[from] LimitError),

    /// The kernel's figures could not be read.
    #[error(transparent)]
    Meter(#[from] MeterError),

    /// A limit that processes share cannot be used.
    #[error(transparent)]
    Shared(#[from] SharedError),

    /// A vector could not be saved or brought back.
    #[error(transparent)]
    Spill(#[from] plimsoll_swap::Error),

    /// Memory is short, and nothing can be spilled any more.
    #[error(
        "{} more do not fit under the limit, and spilling has stopped: {why}; mend that, choose \
         another spill folder, or raise the limit",
        format_bytes(*asked_bytes)
    )]
    SpillStopped {
        /// Bytes asked for.
        asked_bytes: u64,
        /// The first failure of the spill tier.
        why: String,
    },

    /// A spillable vector was used after it had been taken out.
    #[error("the vector was taken out of its handle; make a new handle of it")]
    Taken,

    /// Memory could not be had for another reason than the limit.
    #[error(transparent)]
    Arena(plimsoll_arena::Error),
}

impl From<Misread> for Error {
    fn from(misread: Misread) -> Self {
        Self::Limit(LimitError::Misread(misread))
    }
}

impl From<plimsoll_arena::Error> for Error {
    /// A refusal by the limit is [`Error::OverLimit`] with what the arena knows: no stage, and no
    /// holders. Vectors that are made through a runtime or a stage have both.
    fn from(error: plimsoll_arena::Error) -> Self {
        let plimsoll_arena::Error::OverLimit(over) = error else { return Self::Arena(error) };
        let limit_bytes = over.limit_bytes as u64;
        let held = Held { name: "vectors in use and cached".into(), bytes: over.held_bytes as u64 };
        Self::OverLimit {
            stage: String::new(),
            asked_bytes: over.asked_bytes as u64,
            short_bytes: over.short_bytes as u64,
            limit_bytes,
            fits_bytes: limit_bytes.saturating_add(over.short_bytes as u64),
            holders: vec![held],
        }
    }
}

impl Error {
    /// Returns whether the cause is too little memory, or too little room to spill to.
    #[must_use]
    pub fn is_short_of_memory(&self) -> bool {
        matches!(
            self,
            Self::OverLimit { .. }
                | Self::OverPermit { .. }
                | Self::SpillStopped { .. }
                | Self::Arena(_)
        )
    }
}

/// Holders named in an error: three say where the memory is; more is a list.
const HOLDERS_NAMED: usize = 3;

fn who_needs(stage: &str) -> String {
    match stage {
        "" => "a vector".to_owned(),
        stage => format!("stage \"{stage}\""),
    }
}

fn largest_holders(holders: &[Held]) -> String {
    let named = holders.iter().take(HOLDERS_NAMED);
    let list: Vec<String> =
        named.map(|h| format!("{} {}", h.name, format_bytes(h.bytes))).collect();
    match list.is_empty() {
        true => String::new(),
        false => format!("; largest holders: {}", list.join(", ")),
    }
}

/// The text of [`Error::OverPermit`]; `sizes` are asked, granted and fits.
fn over_permit(stage: &str, sizes: [u64; 3], holders: &[Held]) -> String {
    let [asked, granted, fits] = sizes;
    format!(
        "{} needs {}, which does not fit in the {} that were granted{}; ask for a permit of {}MiB",
        who_needs(stage),
        format_bytes(asked),
        format_bytes(granted),
        largest_holders(holders),
        fits.div_ceil(1 << 20),
    )
}

/// The text of [`Error::OverLimit`]; `sizes` are asked, short, limit and fits.
fn over_limit(stage: &str, sizes: [u64; 4], holders: &[Held]) -> String {
    let [asked, short, limit, fits] = sizes;
    // The last figure in whole MiB, rounded up, so that it can be typed back.
    format!(
        "{} needs {} but {} of them do not fit under the limit of {}{}; the smallest limit that \
         would do is {}MiB",
        who_needs(stage),
        format_bytes(asked),
        format_bytes(short),
        format_bytes(limit),
        largest_holders(holders),
        fits.div_ceil(1 << 20),
    )
}
