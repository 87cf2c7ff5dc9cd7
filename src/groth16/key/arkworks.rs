//! The layout of arkworks' proving keys, and what must hold of one.
//!
//! The bytes are those of ark-groth16 0.6's `ProvingKey::<Bn254>::serialize_uncompressed`: no
//! magic, no table, each vector behind its own length.
//!
//! ```text
//!   alpha_g1  beta_g2  gamma_g2  delta_g2
//!   u64 n, n points   gamma_abc_g1          the end of the verifying key
//!   beta_g1  delta_g1
//!   u64 n, n points   a_query
//!   u64 n, n points   b_g1_query
//!   u64 n, n points   b_g2_query            the one in G2
//!   u64 n, n points   h_query
//!   u64 n, n points   l_query               the end of the file
//! ```
//!
//! Invariants: each offset follows from the lengths before it, each length is held against the
//! file's before it is used, and the last vector ends where the file does.
//!
//! It must never look for a length that the layout does not give: a key of another version of
//! arkworks is refused, not guessed at.

use std::path::Path;

use ark_bn254::{Fr, G1Affine, G2Affine};
use ark_ff::FftField;
use ark_groth16::VerifyingKey;

use super::records::{ByteSource, Records};
use super::{
    G1_BYTES, G2_BYTES, KeyFile, KeyKind, check_subgroups, read_g1_at, read_g2_at, read_gamma_abc,
};
use crate::groth16::file_error::{Fault, FileError, FileKind, KeyError, WrongKind};

impl KeyFile {
    /// Opens the bytes of ark-groth16 0.6's `ProvingKey::<Bn254>::serialize_uncompressed`.
    ///
    /// Reads the verifying key (checked fully) and the length of each query.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] that says which length or point is wrong, or that the file is of another
    /// kind.
    pub fn open_arkworks(path: &Path) -> Result<KeyFile, KeyError> {
        let source = ByteSource::open(path)?;
        let found = source.kind();
        // A random coordinate may look like a short magic: what compresses has one.
        if !matches!(found, FileKind::Unknown | FileKind::Gzip | FileKind::Zip | FileKind::Zstd) {
            let wanted = "an arkworks key";
            let fault = Fault::WrongKind(WrongKind { wanted, found });
            return Err(source.error("first bytes", fault));
        }
        let mut cursor = Cursor { source: &source, offset: 0 };
        let alpha_g1 = cursor.g1("alpha_g1")?;
        let beta_g2 = cursor.g2("beta_g2")?;
        let gamma_g2 = cursor.g2("gamma_g2")?;
        let delta_g2 = cursor.g2("delta_g2")?;
        let gamma_abc = cursor.vector("gamma_abc_g1", G1_BYTES)?;
        let beta_g1 = cursor.g1("beta_g1")?;
        let delta_g1 = cursor.g1("delta_g1")?;
        let a = cursor.vector("a_query", G1_BYTES)?;
        let b1 = cursor.vector("b_g1_query", G1_BYTES)?;
        let b2 = cursor.vector("b_g2_query", G2_BYTES)?;
        let h = cursor.vector("h_query", G1_BYTES)?;
        let l = cursor.vector("l_query", G1_BYTES)?;
        if cursor.offset < source.len() {
            let extra = source.len() - cursor.offset;
            return Err(source.error("end of file", Fault::TrailingBytes { extra }));
        }
        let queries = [a, b1, b2, h, l];
        let domain_size = check_arkworks_lengths(&source, &gamma_abc, &queries)?;
        let gamma_abc_g1 = read_gamma_abc(&source, KeyKind::Arkworks, &gamma_abc)?;
        let verifying_key = VerifyingKey { alpha_g1, beta_g2, gamma_g2, delta_g2, gamma_abc_g1 };
        check_subgroups(&source, ["beta_g2", "gamma_g2", "delta_g2"], &verifying_key)?;
        Ok(KeyFile {
            source,
            extra_bytes: 0,
            kind: KeyKind::Arkworks,
            verifying_key,
            beta_g1,
            delta_g1,
            domain_size,
            queries,
            coefficients: None,
        })
    }
}

/// Reads an arkworks key from front to back.
struct Cursor<'a> {
    source: &'a ByteSource,
    offset: u64,
}

impl Cursor<'_> {
    fn g1(&mut self, place: &'static str) -> Result<G1Affine, FileError> {
        let point = read_g1_at(self.source, KeyKind::Arkworks, place, self.offset)?;
        self.offset += u64::from(G1_BYTES);
        Ok(point)
    }

    fn g2(&mut self, place: &'static str) -> Result<G2Affine, FileError> {
        let point = read_g2_at(self.source, KeyKind::Arkworks, place, self.offset)?;
        self.offset += u64::from(G2_BYTES);
        Ok(point)
    }

    fn vector(&mut self, place: &'static str, point_bytes: u32) -> Result<Records, FileError> {
        let len = self.source.u64(place, self.offset)?;
        let records = Records::new(self.source, place, self.offset + 8, len, point_bytes)?;
        self.offset = records.end();
        Ok(records)
    }
}

/// Checks the lengths of an arkworks key against each other; returns the size of the domain.
fn check_arkworks_lengths(
    source: &ByteSource,
    gamma_abc: &Records,
    queries: &[Records; 5],
) -> Result<usize, FileError> {
    let [a, b1, b2, h, l] = queries;
    let reject = |records: &Records, rule| {
        let found = records.len() as u64;
        Err(source.error(records.place(), Fault::Count { name: "its length", found, rule }))
    };
    let inputs = gamma_abc.len();
    if inputs == 0 {
        return reject(gamma_abc, "the constant one always has a point");
    }
    if a.len() < inputs {
        return reject(a, "it cannot be shorter than gamma_abc_g1");
    }
    if b1.len() != a.len() || b2.len() != a.len() {
        let records = if b1.len() == a.len() { b2 } else { b1 };
        return reject(records, "it must be that of a_query");
    }
    if l.len() != a.len() - inputs {
        return reject(l, "it must be that of a_query less that of gamma_abc_g1");
    }
    let domain_size = h.len() + 1;
    if !domain_size.is_power_of_two() || domain_size < inputs {
        return reject(h, "it must be a power of two less one, with a row for each public input");
    }
    if domain_size.trailing_zeros() > Fr::TWO_ADICITY {
        return reject(h, "BN254 has no domain larger than 2^28");
    }
    Ok(domain_size)
}
