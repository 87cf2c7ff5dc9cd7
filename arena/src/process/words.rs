//! The grammar of sizes and limits: strict in, without allocating.
//!
//! ```text
//!   limit  = "auto" | "none" | number [spaces] "%" | size
//!   size   = number [spaces] [unit]           number = digits [ "." digits ]
//!   unit   = "B" | prefix | prefix "i" | prefix "iB" | prefix "B"      any case
//!
//!   prefix          K      M      G      T      P      E
//!   K, Ki, KiB   1024^1 1024^2 1024^3 1024^4 1024^5 1024^6     a bare prefix is binary
//!   kB           1000^1 1000^2 1000^3 1000^4 1000^5 1000^6     with a plain B it is decimal
//! ```
//!
//! `Ki` to `Ei` are Kubernetes' binary suffixes. There a bare `G` is decimal; here it is binary, as
//! in most programs that take a size. A limit of zero bytes is an error: what computes one has
//! failed, as likely as not. No limit is `none`.
//!
//! No sign, no exponent, no digit separator, no float: a number is an integer and a fraction of at
//! most eighteen digits, and `value = floor(number * unit)` is computed in 128 bits without error.
//! A lower-case `b` is a byte too; nobody gives a memory limit in bits.
//!
//! This is our own code because it must be strict and must not allocate. A library that reads
//! through `f64`, or takes `G` for decimal, returns a number of bytes that nobody wrote.
//!
//! Must never: round up on the way in, allocate but for `Display` and `FromStr`, or panic on any
//! text.

use std::fmt;
use std::str::FromStr;

/// Most digits after the point: `10^18 < 2^60`, so the fraction fits 64 bits, and times the largest
/// unit, 2^60, it fits 128.
const FRACTION_DIGITS_MAX: usize = 18;

/// Longest piece of a given text, in characters, that an error repeats.
const EXCERPT_CHARS_MAX: usize = 40;

/// Prefixes from the smallest: the n-th is `1024^n` or `1000^n`.
const PREFIXES: [u8; 6] = *b"KMGTPE";
const _: () = assert!(1024_u128.pow(PREFIXES.len() as u32) == 1 << 60);

/// Hundredths of a percent in the whole.
const SHARE_WHOLE: u16 = 10_000;

/// Why a text is no size or no limit. Its text says what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MisreadKind {
    /// Nothing, or only spaces.
    #[error("is empty; write a size such as 12GiB (a limit may be 75% or auto)")]
    Empty,
    /// A minus sign comes first.
    #[error("is negative; write a size such as 12GiB")]
    Negative,
    /// It does not start with a plain decimal number.
    #[error("does not start with a number; write digits and a unit, such as 1.5GiB")]
    NotANumber,
    /// The number is followed by something that is no unit here.
    #[error(
        "has an unknown unit; write B, KiB, MiB, GiB, TiB (or Ki, Mi, Gi, Ti) or kB, MB, GB, TB, \
         such as 12GiB (a limit may be 75%)"
    )]
    UnknownUnit,
    /// More digits after the point than the unit can hold.
    #[error(
        "is too fine; bytes have no fraction, a share has two digits after the point and a size \
         eighteen, such as 37.25% or 1.5GiB"
    )]
    TooFine,
    /// A share of more than everything.
    #[error("is over 100%; write a share of this machine such as 75%")]
    OverWhole,
    /// A limit that comes to zero bytes.
    #[error("comes to zero; write a size such as 12GiB, auto, or none for no limit")]
    Zero,
    /// It is more than 2^64 - 1 bytes.
    #[error("is over 16 EiB; write a size such as 12GiB")]
    Overflow,
}

/// A text that is no size or no limit, and why. It quotes the text, cut to a line's length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {kind}")]
pub struct Misread {
    /// What was given, or the start of it.
    pub text: String,
    /// What is wrong with it.
    pub kind: MisreadKind,
}

impl Misread {
    /// Pairs a text with what is wrong with it. Allocates.
    #[must_use]
    pub fn new(text: &str, kind: MisreadKind) -> Self {
        let mut shown: String = text.trim().chars().take(EXCERPT_CHARS_MAX).collect();
        if shown.len() < text.trim().len() {
            shown.push_str("...");
        }
        Self { text: shown, kind }
    }
}

/// A part of the machine's memory, in hundredths of a percent: 1 to 10 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u16);

impl Share {
    /// A share of `hundredths` of a percent; `None` unless in 1 ..= 10 000.
    #[must_use]
    pub fn of_hundredths(hundredths: u16) -> Option<Self> {
        (1..=SHARE_WHOLE).contains(&hundredths).then_some(Self(hundredths))
    }

    /// Returns the hundredths of a percent: 7500 for `75%`.
    #[must_use]
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// Returns this share of `bytes`, in bytes, rounded down.
    #[must_use]
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

/// What a user asks for: `--limit`, `PLIMSOLL_LIMIT`, and code say it in the same words.
///
/// In text: a size as [`parse_size`] reads it (`12GiB`, `12Gi`, `800MB`, `4096`), a share of the
/// machine (`75%`, `37.25%`), `auto`, or `none`. Its `Display` reads back as the same value.
///
/// ```
/// use plimsoll_arena::process::LimitSpec;
///
/// assert_eq!("1.5GiB".parse::<LimitSpec>()?, LimitSpec::Bytes(3 << 29));
/// assert_eq!("1.5Gi".parse::<LimitSpec>()?.to_string(), "1536MiB");
/// assert_eq!("75.0 %".parse::<LimitSpec>()?.to_string(), "75%");
/// assert_eq!("none".parse::<LimitSpec>()?, LimitSpec::None);
/// assert!("175%".parse::<LimitSpec>().is_err() && "0".parse::<LimitSpec>().is_err());
/// # Ok::<(), plimsoll_arena::process::Misread>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitSpec {
    /// No limit at all.
    None,
    /// No bound of the user's: only what the cgroup and the machine allow.
    #[default]
    Auto,
    /// So many bytes, at least one.
    Bytes(u64),
    /// A share of the machine, or of the cgroup's limit where that is smaller.
    Share(Share),
}

impl LimitSpec {
    /// Reads a limit without allocating.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn parse(text: &[u8]) -> Result<Self, MisreadKind> {
        let text = text.trim_ascii();
        if text.eq_ignore_ascii_case(b"auto") {
            return Ok(Self::Auto);
        }
        if text.eq_ignore_ascii_case(b"none") {
            return Ok(Self::None);
        }
        if let Some(percent) = text.strip_suffix(b"%") {
            return parse_share(percent.trim_ascii()).map(Self::Share);
        }
        let (number, unit) = split(text)?;
        match sized(&number, unit)? {
            0 => Err(MisreadKind::Zero),
            bytes => Ok(Self::Bytes(bytes)),
        }
    }
}

impl FromStr for LimitSpec {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Self, Misread> {
        Self::parse(text.as_bytes()).map_err(|kind| Misread::new(text, kind))
    }
}

impl fmt::Display for LimitSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => write_exact(*bytes, f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

/// Reads a size in bytes without allocating: `12GiB`, `12Gi`, `1.5 GiB`, `800MB`, `4096`. A bare
/// `K`, `M`, `G`, `T`, `P` or `E` is binary, as is one with `i` or `iB`; one with `B` is decimal;
/// case does not matter. Zero is a size. A fraction of a byte is dropped, but not written: `1.5` is
/// an error, `0.0015kB` is 1.
///
/// # Errors
///
/// What is wrong with the text.
pub fn parse_size(text: &[u8]) -> Result<u64, MisreadKind> {
    let (number, unit) = split(text.trim_ascii())?;
    sized(&number, unit)
}

fn sized(number: &Number, unit: &[u8]) -> Result<u64, MisreadKind> {
    let unit_bytes = unit_bytes(unit).ok_or(MisreadKind::UnknownUnit)?;
    if unit_bytes == 1 && number.fraction != 0 {
        return Err(MisreadKind::TooFine);
    }
    number.times(unit_bytes).ok_or(MisreadKind::Overflow)
}

fn parse_share(percent: &[u8]) -> Result<Share, MisreadKind> {
    let (number, rest) = split(percent).map_err(|why| match why {
        MisreadKind::Overflow => MisreadKind::OverWhole,
        MisreadKind::Empty => MisreadKind::NotANumber,
        other => other,
    })?;
    if !rest.is_empty() {
        return Err(MisreadKind::NotANumber);
    }
    if !(u128::from(number.fraction) * 100).is_multiple_of(u128::from(number.scale)) {
        return Err(MisreadKind::TooFine);
    }
    match number.times(100).unwrap_or(u64::MAX) {
        0 => Err(MisreadKind::Zero),
        hundredths => u16::try_from(hundredths)
            .ok()
            .and_then(Share::of_hundredths)
            .ok_or(MisreadKind::OverWhole),
    }
}

/// A decimal number, exactly: `whole + fraction / scale`, where `scale` is a power of ten.
struct Number {
    whole: u64,
    fraction: u64,
    scale: u64,
}

impl Number {
    /// `floor(self * unit)`, or `None` when it does not fit 64 bits.
    fn times(&self, unit: u64) -> Option<u64> {
        let part = u128::from(self.fraction) * u128::from(unit) / u128::from(self.scale);
        u64::try_from(u128::from(self.whole) * u128::from(unit) + part).ok()
    }
}

/// The number at the start of a text, and the rest without spaces.
fn split(text: &[u8]) -> Result<(Number, &[u8]), MisreadKind> {
    match text.first() {
        None => return Err(MisreadKind::Empty),
        Some(b'-') => return Err(MisreadKind::Negative),
        Some(_) => {}
    }
    let (whole, rest) = split_digits(text).ok_or(MisreadKind::NotANumber)?;
    let (fraction, rest) = match rest.strip_prefix(b".") {
        Some(rest) => split_digits(rest).ok_or(MisreadKind::NotANumber)?,
        None => (&[][..], rest),
    };
    let unit = rest.trim_ascii_start();
    if unit.first().is_some_and(|c| c.is_ascii_digit() || b".,_+-".contains(c)) {
        return Err(MisreadKind::NotANumber);
    }
    let zeros = fraction.iter().rev().take_while(|c| **c == b'0').count();
    let fraction = &fraction[..fraction.len() - zeros];
    if fraction.len() > FRACTION_DIGITS_MAX {
        return Err(MisreadKind::TooFine);
    }
    let number = Number {
        whole: super::file::decimal(whole).ok_or(MisreadKind::Overflow)?,
        fraction: super::file::decimal(fraction).unwrap_or(0), // empty, or 18 digits: both fit
        scale: fraction.iter().fold(1, |scale, _| scale * 10),
    };
    Ok((number, unit))
}

/// The digits at the start and the rest; `None` without a digit.
fn split_digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn unit_bytes(unit: &[u8]) -> Option<u64> {
    let Some((prefix, rest)) = unit.split_first() else { return Some(1) };
    if unit.eq_ignore_ascii_case(b"B") {
        return Some(1);
    }
    let power = PREFIXES.iter().position(|known| *known == prefix.to_ascii_uppercase())? + 1;
    let binary = rest.is_empty() || rest.eq_ignore_ascii_case(b"i");
    if binary || rest.eq_ignore_ascii_case(b"iB") {
        Some(1024_u64.pow(power as u32))
    } else if rest.eq_ignore_ascii_case(b"B") {
        Some(1000_u64.pow(power as u32))
    } else {
        None
    }
}

/// Writes a size in the largest binary unit that divides it, with no rounding: `1536MiB`, `4097`.
fn write_exact(bytes: u64, f: &mut impl fmt::Write) -> fmt::Result {
    for (at, prefix) in PREFIXES.iter().enumerate().rev() {
        let unit = 1024_u64.pow(at as u32 + 1);
        if bytes > 0 && bytes.is_multiple_of(unit) {
            return write!(f, "{}{}iB", bytes / unit, char::from(*prefix));
        }
    }
    write!(f, "{bytes}")
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
