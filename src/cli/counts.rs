//! Counts on the command line: `8`, `1_000_000`, `1e6`, `2^20`, `64k`, `1M`.

use clap::builder::{TypedValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Most threads that can be asked for: more is a typing error.
const THREADS_MAX: u64 = 1024;

/// Most compressions: 2^27 points of domain at 2^15 constraints each.
const COMPRESSIONS_MAX: u64 = 1 << 12;

/// Most constraints: BN254's scalar field has domains of up to 2^28 points, circom uses half.
const CONSTRAINTS_MAX: u64 = 1 << 27;

/// Reads a number of threads.
pub(super) fn threads() -> ValueParser {
    Count { most: THREADS_MAX }.into()
}

/// Reads a number of compressions.
pub(super) fn compressions() -> ValueParser {
    Count { most: COMPRESSIONS_MAX }.into()
}

/// Reads a number of constraints.
pub(super) fn constraints() -> ValueParser {
    Count { most: CONSTRAINTS_MAX }.into()
}

/// Reads a count of at least one and at most `most`.
#[derive(Clone, Copy, Debug)]
struct Count {
    most: u64,
}

impl TypedValueParser for Count {
    type Value = u64;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<u64, clap::Error> {
        let text = value.to_string_lossy();
        let wrong = |why: String| {
            let mut error = clap::Error::new(ErrorKind::ValueValidation).with_cmd(command);
            let name = argument.map_or_else(String::new, ToString::to_string);
            error.insert(ContextKind::InvalidArg, ContextValue::String(name));
            error.insert(ContextKind::InvalidValue, ContextValue::String(text.to_string()));
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![why.into()]));
            error
        };
        match parse_count(&text) {
            Some(count) if (1..=self.most).contains(&count) => Ok(count),
            Some(_) => Err(wrong(format!("it must be 1 to {}", self.most))),
            None => Err(wrong("write a whole number such as 8, 1_000_000, 1e6, 2^20 or 1M".into())),
        }
    }
}

/// Returns the whole number that `text` spells, if it is one that fits.
fn parse_count(text: &str) -> Option<u64> {
    let digits = |text: &str| -> Option<u64> {
        let is_plain = text.starts_with(|c: char| c.is_ascii_digit()) && !text.ends_with('_');
        is_plain.then(|| text.replace('_', "").parse().ok()).flatten()
    };
    if let Some((base, exponent)) = text.split_once('^') {
        return digits(base)?.checked_pow(digits(exponent)?.try_into().ok()?);
    }
    if let Some((factor, exponent)) = text.split_once(['e', 'E']) {
        let power = 10u64.checked_pow(digits(exponent)?.try_into().ok()?)?;
        return digits(factor)?.checked_mul(power);
    }
    let (factor, scale) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1_000),
        b'M' => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    digits(factor)?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_people_write_them() {
        let cases = [
            ("8", Some(8)),
            ("1_000_000", Some(1_000_000)),
            ("1e6", Some(1_000_000)),
            ("3E2", Some(300)),
            ("2^20", Some(1 << 20)),
            ("64k", Some(64_000)),
            ("1M", Some(1_000_000)),
            ("18446744073709551615", Some(u64::MAX)),
        ];
        for (text, count) in cases {
            assert_eq!(parse_count(text), count, "{text}");
        }
        let wrong =
            ["", "-1", "+1", "1.5", "1e", "e6", "2^", "^2", "2^64", "1e20", "k", "_1", "1_"];
        for text in wrong.into_iter().chain(["1 ", "0x10", "1m", "18446744073709551616", "\u{663}"])
        {
            assert_eq!(parse_count(text), None, "{text}");
        }
    }
}
