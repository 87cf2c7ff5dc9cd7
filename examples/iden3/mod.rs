//! What the examples that write snarkjs's files share: sections, numbers and points.
//!
//! Points are affine, coordinates little-endian in Montgomery form, infinity is zeroes.

use ark_bn254::{Fq, Fq2, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInteger, Field, PrimeField};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

/// A file that is written.
pub(crate) type Out = BufWriter<File>;

fn write_fq(out: &mut Out, x: &Fq) -> std::io::Result<()> {
    // The Montgomery form is the number times 2^256, as an integer.
    let montgomery = *x * Fq::from(2u64).pow([256]);
    out.write_all(&montgomery.into_bigint().to_bytes_le())
}

fn write_fq2(out: &mut Out, x: &Fq2) -> std::io::Result<()> {
    write_fq(out, &x.c0)?;
    write_fq(out, &x.c1)
}

/// Writes a point of G1.
pub(crate) fn write_g1(out: &mut Out, point: &G1Affine) -> std::io::Result<()> {
    let (x, y) = point.xy().unwrap_or_default();
    write_fq(out, &x)?;
    write_fq(out, &y)
}

/// Writes a point of G2.
pub(crate) fn write_g2(out: &mut Out, point: &G2Affine) -> std::io::Result<()> {
    let (x, y) = point.xy().unwrap_or_default();
    write_fq2(out, &x)?;
    write_fq2(out, &y)
}

/// Writes a section: its number, its length, and what `body` writes.
pub(crate) fn section(
    out: &mut Out,
    number: u32,
    body: impl FnOnce(&mut Out) -> std::io::Result<()>,
) -> std::io::Result<()> {
    out.write_all(&number.to_le_bytes())?;
    let length_at = out.stream_position()?;
    out.write_all(&0u64.to_le_bytes())?;
    body(out)?;
    let end = out.stream_position()?;
    out.seek(SeekFrom::Start(length_at))?;
    out.write_all(&(end - length_at - 8).to_le_bytes())?;
    out.seek(SeekFrom::Start(end)).map(drop)
}
