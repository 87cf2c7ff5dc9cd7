//! How a user writes a limit, and how many bytes it comes to on this machine.
//!
//! A [`LimitSpec`] is what the user asked for. A [`Limit`] is the number of bytes that it comes to
//! on this machine now, with the reason. The arena (`process`) parses and resolves both, because
//! the global allocator reads the same forms; this module adds errors, paths and text.
//!
//! ```text
//!   "12GiB"   "12Gi"   "75%"   "auto"   "none"
//!       \        |       |       |      /      asked for
//!          LimitSpec::resolve  <-- Meter: cgroup limit, MemTotal, MemAvailable
//!                  |
//!        12.00 GiB (asked for)      Limit { bytes, source }
//! ```
//!
//! ```
//! use plimsoll::limit::{LimitSpec, format_bytes, parse_bytes};
//!
//! let spec: LimitSpec = "12Gi".parse()?;
//! assert_eq!(spec, "12GiB".parse()?);
//! assert_eq!(parse_bytes("1.5MiB")?, 3 << 19);
//! assert_eq!(format_bytes(3 << 19).to_string(), "1.50 MiB");
//! # Ok::<(), plimsoll::limit::Misread>(())
//! ```
//!
//! Invariants:
//!
//! * `bytes = min(asked, cgroup - margin(cgroup), available)`, over those that exist;
//! * `auto` also leaves what other processes of the cgroup hold;
//! * `margin(c) = max(CGROUP_MARGIN_BYTES_MIN, c / CGROUP_MARGIN_DIVISOR)`;
//! * `bytes >= LIMIT_BYTES_MIN`, or it is an error;
//! * `parse(spec.to_string()) = spec`, exactly; `parse_bytes(format_bytes(n))` is within half of
//!   one hundredth of the unit shown.
//!
//! `MemAvailable` does not count what this process already holds, so it counts once, when somebody
//! sets the limit. The process looks at the cgroup again while it runs.
//!
//! Must never: exceed one of its bounds, or accept text that it half understands.
//!
//! Source: IEC 80000-13 for the prefixes.

use std::fmt;
use std::path::PathBuf;

use crate::meter::{Meter, MeterError};
use plimsoll_arena::process::{Bound, Resolved, Source};

#[cfg(test)]
mod tests;

pub use plimsoll_arena::process::{
    CGROUP_MARGIN_BYTES_MIN, CGROUP_MARGIN_DIVISOR, LIMIT_BYTES_MIN, LimitSpec, Misread,
    MisreadKind, Share, cgroup_margin_bytes,
};

/// Prefixes from the smallest: the n-th is `1024^n`.
const PREFIXES: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];

/// Why a limit was refused.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The text is no size or no limit.
    #[error(transparent)]
    Misread(#[from] Misread),
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

/// Reads a size in bytes, as [`plimsoll_arena::process::parse_size`] does.
///
/// # Errors
///
/// [`Misread`], which quotes the text.
///
/// ```
/// use plimsoll::limit::parse_bytes;
///
/// assert_eq!(parse_bytes("1.5GiB")?, 1_610_612_736);
/// assert_eq!(parse_bytes("8Gi")?, 8 << 30);
/// assert_eq!(parse_bytes("800MB")?, 800_000_000);
/// assert_eq!(parse_bytes("4k")?, 4096);
/// # Ok::<(), plimsoll::limit::Misread>(())
/// ```
pub fn parse_bytes(text: &str) -> Result<u64, Misread> {
    plimsoll_arena::process::parse_size(text.as_bytes()).map_err(|kind| Misread::new(text, kind))
}

/// A limit in bytes, and what set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The limit, in bytes.
    pub bytes: u64,
    /// The bound that was the least.
    pub source: LimitSource,
}

impl Limit {
    /// Returns what `spec` comes to on this machine now: the least of what the user asked for, what
    /// the cgroup leaves, and `MemAvailable`; `None` for no limit. If two are equal, it names the
    /// first of these three.
    ///
    /// # Errors
    ///
    /// [`LimitError::BelowFloor`] below [`LIMIT_BYTES_MIN`], and [`LimitError::Meter`].
    pub fn resolve(spec: LimitSpec, meter: &Meter) -> Result<Option<Self>, LimitError> {
        let (allowance, path) = meter.allowance()?;
        Self::of(spec.resolve(&allowance), path)
    }

    /// Gives a resolved limit the name of its cgroup, unless it is below the least.
    pub(crate) fn of(
        resolved: Option<Resolved>,
        path: PathBuf,
    ) -> Result<Option<Self>, LimitError> {
        let Some(resolved) = resolved else { return Ok(None) };
        let source = match resolved.bound {
            Bound::Asked => LimitSource::User,
            Bound::Available => LimitSource::Available,
            Bound::Group { limit_bytes, others_bytes } => {
                LimitSource::Cgroup { path, limit_bytes, others_bytes }
            }
        };
        let limit = Self { bytes: resolved.bytes, source };
        if limit.bytes < LIMIT_BYTES_MIN {
            return Err(LimitError::BelowFloor { limit });
        }
        Ok(Some(limit))
    }
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
        /// What it allows, in bytes, before the margin and others are taken off.
        limit_bytes: u64,
        /// What other processes of it held, in bytes, where that was taken off.
        others_bytes: u64,
    },
    /// The machine has no more just now.
    Available,
    /// Another door of the process set it.
    Elsewhere(Source),
    /// A permit of this name was granted.
    Permit(String),
}

impl LimitSource {
    /// What to do when the limit it set is too small.
    fn remedy(&self) -> &'static str {
        match self {
            Self::User => "ask for more, such as 12GiB; a number without a unit is bytes",
            Self::Cgroup { .. } => "give the cgroup or container more memory",
            Self::Available => "stop other programs or use a machine with more memory",
            Self::Elsewhere(_) => "raise it there",
            Self::Permit(_) => "ask for a larger permit",
        }
    }
}

impl fmt::Display for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("asked for"),
            Self::Cgroup { path, limit_bytes, others_bytes } => {
                let allowed = format_bytes(*limit_bytes);
                write!(f, "cgroup {} allows {allowed}, less a margin", path.display())?;
                match others_bytes {
                    0 => Ok(()),
                    others => write!(f, " and {} of others", format_bytes(*others)),
                }
            }
            Self::Available => f.write_str("memory available now"),
            Self::Elsewhere(source) => write!(f, "set by {source}"),
            Self::Permit(name) => write!(f, "permit \"{name}\""),
        }
    }
}

/// Shows a size in the largest binary unit that it fills, with two decimals, rounded to nearest:
/// `1.25 GiB`; below 1 KiB the count itself, `512 B`. Takes a width: `{:>12}`.
///
/// ```
/// use plimsoll::limit::format_bytes;
///
/// assert_eq!(format_bytes(5 << 28).to_string(), "1.25 GiB");
/// assert_eq!(format!("[{:>8}]", format_bytes(512)), "[   512 B]");
/// ```
pub fn format_bytes(bytes: u64) -> impl fmt::Display {
    Shown(bytes)
}

struct Shown(u64);

impl Shown {
    fn write(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        for (exponent, prefix) in (1..).zip(PREFIXES) {
            let unit = 1024_u128.pow(exponent);
            let hundredths = (u128::from(self.0) * 100 + unit / 2) / unit;
            // 1023.995 KiB rounds to 1024.00 KiB, which is 1.00 MiB.
            if hundredths < 1024 * 100 {
                return write!(f, "{}.{:02} {prefix}iB", hundredths / 100, hundredths % 100);
            }
        }
        // 2^64 is 16 EiB: the last prefix has taken every u64.
        Ok(())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.width().is_none() {
            return self.write(f);
        }
        let mut text = String::new();
        self.write(&mut text)?;
        f.pad(&text)
    }
}
