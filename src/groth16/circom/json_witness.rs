//! Witnesses in JSON: a list of decimal strings, as `snarkjs wtns export json` writes it.
//!
//! The list is read as a stream: each number becomes 32 little-endian bytes in the secret pool,
//! and its text is wiped. What the JSON parser keeps in its own buffer is not.
//!
//! It must never hold the text of the list, or name a value in an error.

use std::fmt;
use std::io::{self, Read};

use ark_ff::{BigInt, BigInteger};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use zeroize::{Zeroize, Zeroizing};

use super::json::{DIGITS_MAX, is_decimal};
use crate::groth16::error::ProveError;
use crate::groth16::file_error::Fault;
use crate::groth16::key::records::ByteSource;
use crate::groth16::piped::Piped;
use crate::{Error, Runtime};

const PLACE: &str = "JSON text";

/// Bytes of text that are read at a time.
const STEP_BYTES: usize = 1 << 14;

/// Reads the list of `source` into a source of 32 bytes a value.
///
/// # Errors
///
/// [`Fault::Json`] when it is no list of decimal numbers below 2^256; what reading or the limit
/// says.
pub(super) fn read(source: &ByteSource, runtime: &Runtime) -> Result<ByteSource, ProveError> {
    let mut values = Values { piped: Piped::new(runtime), over_limit: None };
    let text = Text { source, at: 0, buffer: Zeroizing::new([0; STEP_BYTES]), used: 0..0 };
    let mut parser = serde_json::Deserializer::from_reader(text);
    let read = (&mut values).deserialize(&mut parser).and_then(|()| parser.end());
    if let Some(error) = values.over_limit {
        return Err(error.into());
    }
    match read {
        Ok(()) => Ok(ByteSource::piped(source.path(), values.piped)),
        Err(error) if error.is_io() => Err(source.error(PLACE, Fault::Read(error.into())).into()),
        Err(_) => {
            let reason = "a witness is a list of decimal strings, each below 2^256";
            Err(source.error(PLACE, Fault::Json { reason }).into())
        }
    }
}

/// What was read so far.
struct Values {
    piped: Piped,
    over_limit: Option<Error>,
}

impl<'de> DeserializeSeed<'de> for &mut Values {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Values {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of decimal strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        use serde::de::Error as _;
        while let Some(number) = list.next_element_seed(Number)? {
            let mut bytes = number.to_bytes_le();
            let pushed = self.piped.push(&bytes);
            bytes.zeroize();
            if let Err(error) = pushed {
                self.over_limit = Some(error);
                return Err(A::Error::custom("over the limit"));
            }
        }
        Ok(())
    }
}

/// One number: a decimal string, or a small plain number.
struct Number;

impl<'de> DeserializeSeed<'de> for Number {
    type Value = BigInt<4>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<BigInt<4>, D::Error> {
        parser.deserialize_any(self)
    }
}

impl Visitor<'_> for Number {
    type Value = BigInt<4>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a decimal number of at most {DIGITS_MAX} digits")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<BigInt<4>, E> {
        Ok(number.into())
    }

    fn visit_str<E: serde::de::Error>(self, digits: &str) -> Result<BigInt<4>, E> {
        // The text is not repeated in the error: it is secret.
        let number = is_decimal(digits).then(|| digits.parse().ok()).flatten();
        number.ok_or_else(|| E::custom("not a decimal number below 2^256"))
    }
}

/// The text of a source, from its start.
struct Text<'a> {
    source: &'a ByteSource,
    at: u64,
    buffer: Zeroizing<[u8; STEP_BYTES]>,
    used: std::ops::Range<usize>,
}

impl Read for Text<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used.is_empty() {
            let count = (self.source.len() - self.at).min(STEP_BYTES as u64) as usize;
            let read = self.source.read(PLACE, self.at, &mut self.buffer[..count]);
            read.map_err(io::Error::other)?;
            (self.at, self.used) = (self.at + count as u64, 0..count);
        }
        let count = out.len().min(self.used.len());
        out[..count].copy_from_slice(&self.buffer[self.used.start..][..count]);
        self.used.start += count;
        Ok(count)
    }
}
