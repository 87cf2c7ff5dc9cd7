//! The budget's words: how a user asks for a limit, and what the limit comes to.
//!
//! A [`LimitSpec`] is what was asked for; a [`Limit`] is the number of bytes it comes to on this
//! machine now, with the reason. Nothing here allocates, charges or reclaims.
//!
//! ```text
//!   "12GiB"   "75%"   "auto"
//!       \       |       /        asked for
//!        LimitSpec::resolve  <-- Meter: cgroup limit, MemTotal, MemAvailable
//!               |
//!     12.00 GiB (asked for)      Limit { bytes, source }
//! ```
//!
//! Invariants:
//!
//! * `bytes = min(asked, cgroup - margin(cgroup), available)`, over those that exist;
//! * `margin(c) = max(CGROUP_MARGIN_BYTES_MIN, c / CGROUP_MARGIN_DIVISOR)`;
//! * a share of `s` is `floor(s * min(cgroup, total))`: of what the machine or container has,
//!   whatever is free just now;
//! * `bytes >= LIMIT_BYTES_MIN`, or it is an error;
//! * `parse(spec.to_string()) = spec`, exactly; `parse_bytes(format_bytes(n))` is within half of
//!   one hundredth of the unit shown.
//!
//! `MemAvailable` does not count what this process already holds, so resolve once, at the start: a
//! later call gives a smaller limit. Siblings in the same cgroup share its limit and are not taken
//! off it; ask for less where there are any.
//!
//! Must never: resolve to more than one of its bounds, or accept words it half understands.
//!
//! Sources: IEC 80000-13 for the prefixes, proc_meminfo(5) for `MemAvailable`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::meter::{CgroupLimit, MachineMemory, Meter, MeterError};

mod size;
#[cfg(test)]
mod tests;

pub use size::{format_bytes, parse_bytes};

/// Smallest limit that is accepted, in bytes: 1 MiB. Below it not one block of the pool fits beside
/// the runtime's own tables, so each allocation would spill.
pub const LIMIT_BYTES_MIN: u64 = 1 << 20;

/// Least distance kept to a cgroup's limit, in bytes: 16 MiB. The kernel charges a cgroup in
/// batches of up to 64 pages for each CPU, 256 KiB, so 64 CPUs can be 16 MiB ahead of the count;
/// nearer than that, the kernel kills while our own count still shows room.
pub const CGROUP_MARGIN_BYTES_MIN: u64 = 16 << 20;

/// The margin's share of a cgroup's limit: one part in 32, some 3 %. It pays for what the kernel
/// charges and the ledger does not see: page tables (one part in 512 of what is mapped), kernel
/// stacks and sockets, and page cache of the file I/O under way. Chosen, not measured.
pub const CGROUP_MARGIN_DIVISOR: u64 = 32;

const _: () = assert!(LIMIT_BYTES_MIN < CGROUP_MARGIN_BYTES_MIN);
const _: () = assert!(CGROUP_MARGIN_DIVISOR > 1 && CGROUP_MARGIN_DIVISOR < 512);

/// Hundredths of a percent in the whole.
const SHARE_WHOLE: u16 = 10_000;

/// Why a size or a limit was refused. Each text quotes what was given, cut to a line's length.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// Nothing, or only spaces.
    #[error("the size is empty; write one such as 12GiB (a limit may be 75% or auto)")]
    Empty,
    /// A minus sign comes first.
    #[error("{text:?} is negative; write a size such as 12GiB")]
    Negative {
        /// What was given.
        text: String,
    },
    /// It does not start with a plain decimal number.
    #[error("{text:?} does not start with a number; write digits and a unit, such as 1.5GiB")]
    NotANumber {
        /// What was given.
        text: String,
    },
    /// The number is followed by something that is no unit here.
    #[error(
        "{text:?} has the unknown unit {unit:?}; write B, KiB, MiB, GiB, TiB or kB, MB, GB, TB, \
         such as 12GiB (a limit may be 75%)"
    )]
    UnknownUnit {
        /// What was given.
        text: String,
        /// The part after the number.
        unit: String,
    },
    /// More digits after the point than the unit can hold.
    #[error(
        "{text:?} is too fine; bytes have no fraction, a share has two digits after the point and \
         a size eighteen, such as 37.25% or 1.5GiB"
    )]
    TooFine {
        /// What was given.
        text: String,
    },
    /// A share of more than everything.
    #[error("{text:?} is over 100%; write a share of this machine such as 75%")]
    OverWhole {
        /// What was given.
        text: String,
    },
    /// It comes to zero bytes.
    #[error("{text:?} comes to zero; write a size such as 12GiB, or auto for no bound of your own")]
    Zero {
        /// What was given.
        text: String,
    },
    /// It is more than 2^64 - 1 bytes.
    #[error("{text:?} is over 16 EiB; write a size such as 12GiB")]
    Overflow {
        /// What was given.
        text: String,
    },
    /// The limit comes to less than the runtime can work in.
    #[error(
        "the limit comes to {limit}, below the least of {}; {}",
        format_bytes(LIMIT_BYTES_MIN),
        limit.source.remedy()
    )]
    BelowFloor {
        /// What it comes to, and why.
        limit: Limit,
    },
    /// The kernel's numbers could not be read.
    #[error(transparent)]
    Meter(#[from] MeterError),
}

/// A part of the machine's memory, in hundredths of a percent: 1 to 10 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u16);

impl Share {
    /// A share of `hundredths` of a percent; `None` unless in 1 ..= 10 000.
    pub fn of_hundredths(hundredths: u16) -> Option<Self> {
        (1..=SHARE_WHOLE).contains(&hundredths).then_some(Self(hundredths))
    }

    /// Hundredths of a percent: 7500 for `75%`.
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// This share of `bytes`, in bytes, rounded down.
    pub fn of_bytes(self, bytes: u64) -> u64 {
        let part = u128::from(bytes) * u128::from(self.0) / u128::from(SHARE_WHOLE);
        u64::try_from(part).unwrap_or(bytes) // the share is at most one: it always fits
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}%"),
        }
    }
}

/// What a user asks for.
///
/// In text: a size as [`parse_bytes`] reads it (`12GiB`, `800MB`, `4096`), a share of the machine
/// (`75%`, `37.25%`), or `auto`. Its `Display` reads back as the same value.
///
/// ```
/// use plimsoll::limit::LimitSpec;
///
/// assert_eq!("1.5GiB".parse::<LimitSpec>()?, LimitSpec::Bytes(3 << 29));
/// assert_eq!("1.5GiB".parse::<LimitSpec>()?.to_string(), "1536MiB");
/// assert_eq!("75.0 %".parse::<LimitSpec>()?.to_string(), "75%");
/// assert!("175%".parse::<LimitSpec>().is_err());
/// # Ok::<(), plimsoll::limit::LimitError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitSpec {
    /// No bound of the user's: only what the cgroup and the machine allow.
    #[default]
    Auto,
    /// So many bytes.
    Bytes(u64),
    /// A share of the machine, or of the cgroup's limit where that is smaller.
    Share(Share),
}

impl LimitSpec {
    /// What this comes to now: the least of what was asked for, the cgroup's limit less a margin,
    /// and `MemAvailable`. Among equals the first of the three is named.
    ///
    /// # Errors
    ///
    /// [`LimitError::BelowFloor`] below [`LIMIT_BYTES_MIN`], and [`LimitError::Meter`].
    pub fn resolve(&self, meter: &Meter) -> Result<Limit, LimitError> {
        self.resolve_on(&meter.machine_memory()?, meter.cgroup()?.as_ref())
    }

    fn resolve_on(
        &self,
        machine: &MachineMemory,
        cgroup: Option<&CgroupLimit>,
    ) -> Result<Limit, LimitError> {
        let bound = cgroup.and_then(|cgroup| Some((cgroup, cgroup.tightest_bytes()?)));
        let total = machine.mem_total_bytes;
        let whole = bound.map_or(total, |(_, bytes)| bytes.min(total));
        let asked = match self {
            Self::Auto => None,
            Self::Bytes(bytes) => Some(*bytes),
            Self::Share(share) => Some(share.of_bytes(whole)),
        };
        let asked = asked.map(|bytes| Limit { bytes, source: LimitSource::User });
        let allowed = bound.map(|(cgroup, limit_bytes)| Limit {
            bytes: limit_bytes.saturating_sub(cgroup_margin_bytes(limit_bytes)),
            source: LimitSource::Cgroup { path: cgroup.path.clone(), limit_bytes },
        });
        let available =
            Limit { bytes: machine.mem_available_bytes, source: LimitSource::Available };
        // `min_by_key` keeps the first of equals, which is the order that the contract names.
        let bounds = asked.into_iter().chain(allowed);
        let least = bounds.min_by_key(|limit| limit.bytes);
        let limit = least.filter(|least| least.bytes <= available.bytes).unwrap_or(available);
        if limit.bytes < LIMIT_BYTES_MIN {
            return Err(LimitError::BelowFloor { limit });
        }
        Ok(limit)
    }
}

impl FromStr for LimitSpec {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        let zero = || LimitError::Zero { text: size::excerpt(text) };
        if let Some(percent) = text.strip_suffix('%') {
            let over = || LimitError::OverWhole { text: size::excerpt(text) };
            let hundredths = size::parse_hundredths(percent, text)?;
            let hundredths = u16::try_from(hundredths).map_err(|_| over())?;
            return match hundredths {
                0 => Err(zero()),
                _ => Share::of_hundredths(hundredths).map(Self::Share).ok_or_else(over),
            };
        }
        match parse_bytes(text)? {
            0 => Err(zero()),
            bytes => Ok(Self::Bytes(bytes)),
        }
    }
}

impl fmt::Display for LimitSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => size::write_exact(*bytes, f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

/// A limit in bytes, and what set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The limit, in bytes.
    pub bytes: u64,
    /// The bound that was the least.
    pub source: LimitSource,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", format_bytes(self.bytes), self.source)
    }
}

/// What set a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitSource {
    /// The user asked for it.
    User,
    /// A cgroup allows no more.
    Cgroup {
        /// The cgroup, named as in `/proc/self/cgroup`.
        path: PathBuf,
        /// What it allows, in bytes, before the margin is taken off.
        limit_bytes: u64,
    },
    /// The machine has no more just now.
    Available,
}

impl LimitSource {
    /// What to do when the limit it set is too small.
    fn remedy(&self) -> &'static str {
        match self {
            Self::User => "ask for more, such as 12GiB",
            Self::Cgroup { .. } => "give the cgroup or container more memory",
            Self::Available => "stop other programs or use a machine with more memory",
        }
    }
}

impl fmt::Display for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("asked for"),
            Self::Cgroup { path, limit_bytes } => {
                let allowed = format_bytes(*limit_bytes);
                write!(f, "cgroup {} allows {allowed}, less a margin", path.display())
            }
            Self::Available => f.write_str("memory available now"),
        }
    }
}

/// Distance in bytes kept to a cgroup's limit of `limit_bytes`:
/// `max(CGROUP_MARGIN_BYTES_MIN, limit_bytes / CGROUP_MARGIN_DIVISOR)`.
pub fn cgroup_margin_bytes(limit_bytes: u64) -> u64 {
    CGROUP_MARGIN_BYTES_MIN.max(limit_bytes / CGROUP_MARGIN_DIVISOR)
}
