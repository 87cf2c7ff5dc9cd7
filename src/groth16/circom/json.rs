//! `proof.json` and `public.json`, as snarkjs writes and reads them.
//!
//! ```text
//!   proof.json                                    public.json
//!   { "pi_a": [x, y, "1"],                        [ "33", "11" ]
//!     "pi_b": [[x.c0, x.c1], [y.c0, y.c1], ["1", "0"]],
//!     "pi_c": [x, y, "1"],
//!     "protocol": "groth16", "curve": "bn128" }   numbers are decimal, in quotes
//! ```
//!
//! Layout on disk is that of JavaScript's `JSON.stringify(value, null, 1)`, byte for byte. Points
//! are projective with z = 1; the identity is (0, 1, 0).
//!
//! Invariants:
//!
//! * what is written is read back as the same value, and what is read is canonical: decimal
//!   without sign or leading zero, below its modulus, points on the curve;
//! * an output file is whole or is not there: text goes to a new file in the same folder, is
//!   synced, and takes the final name in one rename. Whatever fails, no part of it stays behind.
//!
//! It must never replace something that is not a regular file, and never follow a link that
//! someone put where the temporary file goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, One, PrimeField, Zero};
use ark_groth16::Proof;
use serde_json::Value;

use crate::groth16::file_error::{Fault, FileError};

/// The most bytes of a JSON file that are read: 2^20 public inputs with room.
const JSON_BYTES_MAX: u64 = 128 << 20;

/// Digits of the largest number below 2^256.
const DIGITS_MAX: usize = 78;

/// Temporary names tried before giving up.
const NAMES_MAX: usize = 16;

const PLACE: &str = "JSON text";

/// The text of `proof.json`.
#[must_use]
pub fn proof_to_json(proof: &Proof<Bn254>) -> String {
    let [a, c] = [&proof.a, &proof.c].map(|p| list(1, &g1_numbers(p).map(|n| quoted(&n))));
    let b = g2_numbers(&proof.b).map(|pair| list(2, &pair.map(|n| quoted(&n))));
    let b = list(1, &b);
    format!(
        "{{\n \"pi_a\": {a},\n \"pi_b\": {b},\n \"pi_c\": {c},\n \
         \"protocol\": \"groth16\",\n \"curve\": \"bn128\"\n}}"
    )
}

/// The text of `public.json`: the public inputs without the leading one, in order.
#[must_use]
pub fn public_to_json(inputs: &[Fr]) -> String {
    let items: Vec<String> = inputs.iter().map(|v| quoted(&v.into_bigint())).collect();
    list(0, &items)
}

fn quoted(number: &BigInt<4>) -> String {
    format!("\"{number}\"")
}

/// A list at `depth`, an item a line, one space deeper.
fn list(depth: usize, items: &[String]) -> String {
    if items.is_empty() {
        return "[]".to_owned();
    }
    let indent = " ".repeat(depth);
    let separator = format!(",\n{indent} ");
    format!("[\n{indent} {}\n{indent}]", items.join(&separator))
}

/// Projective coordinates.
fn g1_numbers(point: &G1Affine) -> [BigInt<4>; 3] {
    let (x, y, z) = match point.xy() {
        Some((x, y)) => (x, y, Fq::one()),
        None => (Fq::zero(), Fq::one(), Fq::zero()),
    };
    [x, y, z].map(Fq::into_bigint)
}

/// Projective coordinates, each as c0 and c1.
fn g2_numbers(point: &G2Affine) -> [[BigInt<4>; 2]; 3] {
    let (x, y, z) = match point.xy() {
        Some((x, y)) => (x, y, Fq2::one()),
        None => (Fq2::zero(), Fq2::one(), Fq2::zero()),
    };
    [x, y, z].map(|v| [v.c0, v.c1].map(Fq::into_bigint))
}

/// Reads a `proof.json`.
///
/// # Errors
///
/// [`Fault::Json`] that names the field, when it is not the text of a proof over bn128 with
/// points on the curve (and, for `pi_b`, in the subgroup).
pub fn read_proof(path: &Path) -> Result<Proof<Bn254>, FileError> {
    proof_of(&read_json(path)?).map_err(|fault| FileError::new(path, PLACE, fault))
}

/// Reads a `public.json`.
///
/// # Errors
///
/// [`Fault::Json`] when it is not a list of decimal strings below r.
pub fn read_public(path: &Path) -> Result<Vec<Fr>, FileError> {
    let value = read_json(path)?;
    let reason = "public.json is a list of decimal strings, each below r";
    let inputs = value.as_array().and_then(|items| items.iter().map(number::<Fr>).collect());
    inputs.ok_or_else(|| FileError::new(path, PLACE, Fault::Json { reason }))
}

fn read_json(path: &Path) -> Result<Value, FileError> {
    let fail = |fault| FileError::new(path, "file", fault);
    let file = File::open(path).map_err(|error| fail(Fault::Open(error)))?;
    let mut text = Vec::new();
    let read = file.take(JSON_BYTES_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| fail(Fault::Read(error)))?;
    if text.len() as u64 > JSON_BYTES_MAX {
        return Err(fail(Fault::Json { reason: "the file has at most 128 MiB" }));
    }
    let reason = "the file is JSON";
    serde_json::from_slice(&text).map_err(|_| FileError::new(path, PLACE, Fault::Json { reason }))
}

fn proof_of(value: &Value) -> Result<Proof<Bn254>, Fault> {
    let is = |field: &str, text: &str| value.get(field).and_then(Value::as_str) == Some(text);
    if !is("protocol", "groth16") || !is("curve", "bn128") {
        return Err(Fault::Json { reason: "the protocol is groth16, the curve bn128" });
    }
    let point = |field: &str| value.get(field).unwrap_or(&Value::Null);
    let fault = |reason| Fault::Json { reason };
    Ok(Proof {
        a: g1(point("pi_a")).ok_or(fault("pi_a is a point of G1"))?,
        b: g2(point("pi_b")).ok_or(fault("pi_b is a point of G2"))?,
        c: g1(point("pi_c")).ok_or(fault("pi_c is a point of G1"))?,
    })
}

/// The point of G1 that three decimal strings spell, if it is one.
pub(super) fn g1(value: &Value) -> Option<G1Affine> {
    let [x, y, z] = value.as_array()?.as_slice() else { return None };
    let (x, y, z) = (number::<Fq>(x)?, number::<Fq>(y)?, number::<Fq>(z)?);
    if x.is_zero() && y.is_one() && z.is_zero() {
        return Some(G1Affine::zero());
    }
    let point = G1Affine::new_unchecked(x, y);
    (z.is_one() && !point.is_zero() && point.is_on_curve()).then_some(point)
}

/// The point of G2 that three pairs of decimal strings spell, if it is one of order r.
pub(super) fn g2(value: &Value) -> Option<G2Affine> {
    let pair = |value: &Value| {
        let [c0, c1] = value.as_array()?.as_slice() else { return None };
        Some(Fq2::new(number(c0)?, number(c1)?))
    };
    let [x, y, z] = value.as_array()?.as_slice() else { return None };
    let (x, y, z) = (pair(x)?, pair(y)?, pair(z)?);
    if x.is_zero() && y.is_one() && z.is_zero() {
        return Some(G2Affine::zero());
    }
    let point = G2Affine::new_unchecked(x, y);
    let is_valid = z.is_one()
        && !point.is_zero()
        && point.is_on_curve()
        && point.is_in_correct_subgroup_assuming_on_curve();
    is_valid.then_some(point)
}

/// The field element that a decimal string spells: digits only, no leading zero, below the modulus.
fn number<F: PrimeField<BigInt = BigInt<4>>>(value: &Value) -> Option<F> {
    let digits = value.as_str()?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (1..=DIGITS_MAX).contains(&digits.len())
        && (digits == "0" || !digits.starts_with('0'));
    if !is_plain {
        return None;
    }
    F::from_bigint(digits.parse::<BigInt<4>>().ok()?)
}

/// Writes `proof.json` and `public.json`: both texts are on disk under temporary names before
/// either takes its final name.
///
/// # Errors
///
/// [`Fault::Write`] or [`Fault::NotRegular`]. No part of either file is left behind. A file of an
/// earlier run stays as it was, unless the second rename fails after the first succeeded: then
/// the first is removed.
pub fn write_proof_and_public(
    proof_path: &Path,
    proof: &Proof<Bn254>,
    public_path: &Path,
    inputs: &[Fr],
) -> Result<(), FileError> {
    let proof_file = StagedFile::write(proof_path, proof_to_json(proof).as_bytes())?;
    let public_file = StagedFile::write(public_path, public_to_json(inputs).as_bytes())?;
    let proof_final = proof_file.commit()?;
    public_file.commit().map(|_| ()).inspect_err(|_| {
        // The error that matters is already on its way; a proof without its inputs is no use.
        let _ = fs::remove_file(&proof_final);
    })
}

/// Writes `text` to `path` whole or not at all.
///
/// # Errors
///
/// [`Fault::Write`] or [`Fault::NotRegular`]; a file that was there before is then unchanged.
pub fn write_whole(path: &Path, text: &[u8]) -> Result<(), FileError> {
    StagedFile::write(path, text)?.commit().map(|_| ())
}

/// Drop removes the temporary file, unless [`StagedFile::commit`] gave it its final name.
struct StagedFile {
    /// The path as the caller gave it, for errors.
    path: PathBuf,
    /// Links resolved, so that the file behind one is replaced and not the link.
    target: PathBuf,
    temporary: Option<PathBuf>,
}

impl StagedFile {
    /// Writes `text` under a temporary name beside `path`, and syncs it.
    fn write(path: &Path, text: &[u8]) -> Result<StagedFile, FileError> {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&target).is_ok_and(|meta| !meta.is_file()) {
            return Err(FileError::new(path, "file", Fault::NotRegular));
        }
        let mut staged = StagedFile { path: path.to_owned(), target, temporary: None };
        let (mut file, temporary) =
            staged.create_temporary().map_err(|error| staged.error(error))?;
        staged.temporary = Some(temporary);
        let written = file.write_all(text).and_then(|()| file.sync_all());
        written.map_err(|error| staged.error(error))?;
        Ok(staged)
    }

    /// A new file beside the target. Both outputs are public, so the mode is 0644 less the umask.
    fn create_temporary(&self) -> io::Result<(File, PathBuf)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let Some(name) = self.target.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
        };
        let mut result = Err(io::ErrorKind::AlreadyExists.into());
        for _ in 0..NAMES_MAX {
            // Relaxed: only that each value is given out once matters.
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut temporary = std::ffi::OsString::from(".");
            temporary.push(name);
            temporary.push(format!(".{}-{number}.part", std::process::id()));
            let temporary = self.target.with_file_name(temporary);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary);
            match file {
                Ok(file) => return Ok((file, temporary)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    result = Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        result
    }

    /// Gives the file its final name, which it returns, and syncs the folder.
    fn commit(mut self) -> Result<PathBuf, FileError> {
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.target).map_err(|error| self.error(error))?;
            self.temporary = None;
        }
        let folder = match self.target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // The file is whole under its name by now. A folder that cannot be synced (some network
        // file systems) only means that a power cut may bring back what was there before.
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
        Ok(self.target.clone())
    }

    fn error(&self, error: io::Error) -> FileError {
        FileError::new(&self.path, "file", Fault::Write(error))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing can be done about a file that does not go away, and drop must not fail.
            let _ = fs::remove_file(temporary);
        }
    }
}
