//! Sizes in text: strict in, short out.
//!
//! ```text
//!   size  = number [spaces] [unit]        number = digits [ "." digits ]
//!   unit  = "B" | prefix | prefix "iB" | prefix "B"        any case
//!
//!   prefix      K      M      G      T      P      E
//!   K, KiB   1024^1 1024^2 1024^3 1024^4 1024^5 1024^6     a bare prefix is binary
//!   kB       1000^1 1000^2 1000^3 1000^4 1000^5 1000^6     with a plain B it is decimal
//! ```
//!
//! No sign, no exponent, no digit separator, no float: a number is an integer and a fraction of at
//! most eighteen digits, and `value = floor(number * unit)` is computed in 128 bits without error.
//! A lower-case `b` is a byte too; nobody gives a memory limit in bits.
//!
//! Own code, since what is asked for is strictness: a library that reads through `f64`, or takes
//! `G` for decimal, gives a number of bytes that nobody wrote.
//!
//! Must never: round up on the way in, or panic on any text.

use std::fmt;

use super::LimitError;

/// Most digits after the point: `10^18 < 2^60`, so the fraction fits 64 bits, and times the largest
/// unit, 2^60, it fits 128.
const FRACTION_DIGITS_MAX: usize = 18;

/// Longest piece of a given text, in characters, that an error repeats.
const EXCERPT_CHARS_MAX: usize = 40;

/// Prefixes from the smallest, each with `n` in `1024^n` and `1000^n`.
const PREFIXES: [(char, u32); 6] = [('K', 1), ('M', 2), ('G', 3), ('T', 4), ('P', 5), ('E', 6)];
const _: () = assert!(1024_u128.pow(PREFIXES[5].1) == 1 << 60);

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

/// Reads a size in bytes: `12GiB`, `1.5 GiB`, `800MB`, `4096`. A bare `K`, `M`, `G`, `T`, `P` or
/// `E` is binary, as is one with `iB`; one with `B` is decimal; case does not matter. Zero is a
/// size. A fraction of a byte is dropped, but not written: `1.5` is an error, `0.0015kB` is 1.
///
/// # Errors
///
/// [`LimitError`]: `Empty`, `Negative`, `NotANumber`, `UnknownUnit`, `TooFine`, `Overflow`.
///
/// ```
/// use plimsoll::limit::parse_bytes;
///
/// assert_eq!(parse_bytes("1.5GiB")?, 1_610_612_736);
/// assert_eq!(parse_bytes("800MB")?, 800_000_000);
/// assert_eq!(parse_bytes("4k")?, 4096);
/// # Ok::<(), plimsoll::limit::LimitError>(())
/// ```
pub fn parse_bytes(text: &str) -> Result<u64, LimitError> {
    let text = text.trim();
    let (number, unit) = split(text, text)?;
    let Some(unit_bytes) = unit_bytes(unit) else {
        return Err(LimitError::UnknownUnit { text: excerpt(text), unit: excerpt(unit) });
    };
    if unit_bytes == 1 && number.fraction != 0 {
        return Err(LimitError::TooFine { text: excerpt(text) });
    }
    number.times(unit_bytes).ok_or_else(|| LimitError::Overflow { text: excerpt(text) })
}

/// Reads a plain number as hundredths of one; `text` is what errors quote. Saturates.
pub(super) fn parse_hundredths(number: &str, text: &str) -> Result<u64, LimitError> {
    let (number, rest) = split(number.trim(), text).map_err(|error| match error {
        LimitError::Overflow { text } => LimitError::OverWhole { text },
        other => other,
    })?;
    if !rest.is_empty() {
        return Err(LimitError::NotANumber { text: excerpt(text) });
    }
    if !(u128::from(number.fraction) * 100).is_multiple_of(u128::from(number.scale)) {
        return Err(LimitError::TooFine { text: excerpt(text) });
    }
    Ok(number.times(100).unwrap_or(u64::MAX))
}

/// The number at the start of `given`, and the rest without spaces; `text` is what errors quote.
fn split<'a>(given: &'a str, text: &str) -> Result<(Number, &'a str), LimitError> {
    let not_a_number = || LimitError::NotANumber { text: excerpt(text) };
    if text.is_empty() {
        return Err(LimitError::Empty);
    }
    if given.starts_with('-') {
        return Err(LimitError::Negative { text: excerpt(text) });
    }
    let (whole, rest) = split_digits(given).ok_or_else(not_a_number)?;
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest).ok_or_else(not_a_number)?,
        None => ("", rest),
    };
    let unit = rest.trim_start();
    if unit.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '_' | '+' | '-')) {
        return Err(not_a_number());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > FRACTION_DIGITS_MAX {
        return Err(LimitError::TooFine { text: excerpt(text) });
    }
    let number = Number {
        // Digits only, so the one thing that can go wrong is the size.
        whole: whole.parse().map_err(|_| LimitError::Overflow { text: excerpt(text) })?,
        fraction: fraction.parse().unwrap_or(0), // empty, or up to 18 digits: both fit
        scale: fraction.bytes().fold(1, |scale, _| scale * 10),
    };
    Ok((number, unit))
}

/// The digits at the start and the rest; `None` without a digit.
fn split_digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let upper = unit.to_ascii_uppercase();
    if upper.is_empty() || upper == "B" {
        return Some(1);
    }
    let mut letters = upper.chars();
    let prefix = letters.next()?;
    let (_, exponent) = PREFIXES.iter().find(|(known, _)| *known == prefix)?;
    match letters.as_str() {
        "" | "IB" => Some(1024_u64.pow(*exponent)),
        "B" => Some(1000_u64.pow(*exponent)),
        _ => None,
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
        for (prefix, exponent) in PREFIXES {
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

/// Writes a size in the largest binary unit that divides it, with no rounding: `1536MiB`, `4097`.
pub(super) fn write_exact(bytes: u64, f: &mut impl fmt::Write) -> fmt::Result {
    for (prefix, exponent) in PREFIXES.iter().rev() {
        let unit = 1024_u64.pow(*exponent);
        if bytes > 0 && bytes.is_multiple_of(unit) {
            return write!(f, "{}{prefix}iB", bytes / unit);
        }
    }
    write!(f, "{bytes}")
}

/// The start of a text, as much as an error repeats.
pub(super) fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}
