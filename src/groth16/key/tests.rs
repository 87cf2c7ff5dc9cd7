//! arkworks keys read back against the keys that were written.

use std::fs;
use std::path::PathBuf;

use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInteger, One, PrimeField, Zero};
use ark_groth16::{Groth16, ProvingKey};
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_relations::lc;
use ark_serialize::CanonicalSerialize;
use ark_std::rand::SeedableRng;
use ark_std::rand::rngs::StdRng;

use super::records::{ByteSource, Decode, Records};
use super::{KeyFile, KeyKind, Query, points};
use crate::groth16::file_error::Fault;

/// A chain of squarings with two public inputs. The first has no place in B, so that query B
/// holds identities.
struct Squares(usize);

impl ConstraintSynthesizer<Fr> for Squares {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let first = cs.new_input_variable(|| Ok(Fr::one()))?;
        let second = cs.new_input_variable(|| Ok(Fr::one()))?;
        let mut last = cs.new_witness_variable(|| Ok(Fr::one()))?;
        cs.enforce_r1cs_constraint(|| lc!() + first, || lc!() + second, || lc!() + last)?;
        for _ in 0..self.0 {
            let next = cs.new_witness_variable(|| Ok(Fr::one()))?;
            cs.enforce_r1cs_constraint(|| lc!() + last, || lc!() + last, || lc!() + next)?;
            last = next;
        }
        Ok(())
    }
}

struct Written {
    _folder: tempfile::TempDir,
    path: PathBuf,
    key: ProvingKey<Bn254>,
    bytes: Vec<u8>,
}

fn write_key(squares: usize) -> Written {
    let mut rng = StdRng::seed_from_u64(squares as u64);
    let key =
        Groth16::<Bn254>::generate_random_parameters_with_reduction(Squares(squares), &mut rng)
            .unwrap();
    let mut bytes = Vec::new();
    key.serialize_uncompressed(&mut bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ark.key");
    fs::write(&path, &bytes).unwrap();
    Written { _folder: folder, path, key, bytes }
}

#[test]
fn an_arkworks_key_reads_back_as_it_was_written() {
    // The last is large enough to be decoded in parallel, in chunks that do not come out even.
    for squares in [0, 1, 2, 13, 1900] {
        let Written { path, key, _folder, .. } = write_key(squares);
        let file = KeyFile::open_arkworks(&path).unwrap();
        assert_eq!(file.kind(), KeyKind::Arkworks);
        assert_eq!(*file.verifying_key(), key.vk);
        assert_eq!((file.beta_g1(), file.delta_g1()), (key.beta_g1, key.delta_g1));
        assert_eq!((file.alpha_g1(), file.beta_g2()), (key.vk.alpha_g1, key.vk.beta_g2));
        assert_eq!(file.delta_g2(), key.vk.delta_g2);
        assert_eq!((file.public_inputs(), file.variables()), (2, key.a_query.len()));
        assert_eq!(file.domain_size(), key.h_query.len() + 1);
        assert!(file.coefficients().is_none());
        assert!(key.b_g1_query.iter().any(AffineRepr::is_zero));
        let queries = [
            (Query::A, &key.a_query),
            (Query::B1, &key.b_g1_query),
            (Query::H, &key.h_query),
            (Query::L, &key.l_query),
        ];
        for (query, wanted) in queries {
            let mut points = vec![G1Affine::zero(); file.len(query)];
            file.read_g1(query, 0, &mut points).unwrap();
            assert_eq!(points, *wanted, "{query:?}");
            let start = wanted.len() / 3;
            let part = &mut points[..wanted.len() / 2];
            file.read_g1(query, start, part).unwrap();
            assert_eq!(*part, wanted[start..start + part.len()]);
        }
        let mut points = vec![G2Affine::zero(); file.len(Query::B2)];
        file.read_g2(Query::B2, 0, &mut points).unwrap();
        assert_eq!(points, key.b_g2_query);
    }
}

#[test]
fn the_wrong_group_is_an_error() {
    let written = write_key(1);
    let file = KeyFile::open_arkworks(&written.path).unwrap();
    let error = file.read_g1(Query::B2, 0, &mut []).unwrap_err();
    assert!(matches!(error.fault(), Fault::WrongGroup), "{error}");
    for query in [Query::A, Query::B1, Query::H, Query::L] {
        let error = file.read_g2(query, 0, &mut []).unwrap_err();
        assert!(matches!(error.fault(), Fault::WrongGroup), "{error}");
    }
}

#[test]
fn the_lowest_bad_point_is_reported_at_any_thread_count() {
    let written = write_key(1900);
    let mut bytes = written.bytes;
    // a_query starts behind the verifying key, two points and its own length.
    let start = 64 + 3 * 128 + 8 + 3 * 64 + 2 * 64 + 8;
    for index in [1880, 700, 1200] {
        bytes[start + 64 * index] ^= 1;
    }
    fs::write(&written.path, &bytes).unwrap();
    let file = KeyFile::open_arkworks(&written.path).unwrap();
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for _ in 0..10 {
            let mut points = vec![G1Affine::zero(); file.len(Query::A)];
            let error = pool.install(|| file.read_g1(Query::A, 0, &mut points)).unwrap_err();
            assert!(matches!(error.fault(), Fault::NotOnCurve { index: 700 }), "{error}");
            assert_eq!(error.place(), "a_query");
        }
    }
}

/// The bytes of a vector of one point, as arkworks writes it, read by our decoder.
fn read_g1(bytes: &[u8; 64]) -> Result<G1Affine, Fault> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("point");
    fs::write(&path, bytes).unwrap();
    let source = ByteSource::open(&path).unwrap();
    let records = Records::new(&source, "point", 0, 1, 64).unwrap();
    let mut point = [G1Affine::zero()];
    match points::read_g1(KeyKind::Arkworks, &records, &source, 0, &mut point) {
        Ok(()) => Ok(point[0]),
        Err(error) if matches!(error.fault(), Fault::PointFlags { .. }) => {
            Err(Fault::PointFlags { index: 0 })
        }
        Err(error) if matches!(error.fault(), Fault::Coordinate { .. }) => {
            Err(Fault::Coordinate { index: 0 })
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_point_of_arkworks_has_one_spelling() {
    for point in [G1Affine::generator(), -G1Affine::generator(), G1Affine::zero()] {
        let mut bytes = [0; 64];
        point.serialize_uncompressed(&mut bytes[..]).unwrap();
        assert_eq!(read_g1(&bytes).unwrap(), point);
        for flags in 1..4_u8 {
            let mut other = bytes;
            other[63] ^= flags << 6;
            let result = read_g1(&other);
            assert!(matches!(result, Err(Fault::PointFlags { .. })), "{point} {flags}");
        }
    }
    let mut bytes = [0; 64];
    let x = Fq::one().into_bigint();
    let mut larger = x;
    assert!(!larger.add_with_carry(&Fq::MODULUS), "q + 1 has 254 bits");
    G1Affine::generator().serialize_uncompressed(&mut bytes[..]).unwrap();
    bytes[..32].copy_from_slice(&larger.to_bytes_le());
    assert!(matches!(read_g1(&bytes), Err(Fault::Coordinate { .. })));
}

#[test]
fn a_header_point_outside_the_subgroup_is_refused() {
    // The first point of the twist, counting x = 0, 1, 2, ..., is outside the subgroup: its
    // cofactor has 254 bits.
    let point = (0_u64..)
        .find_map(|x| G2Affine::get_point_from_x_unchecked(Fq2::new(x.into(), Fq::zero()), false))
        .unwrap();
    assert!(point.is_on_curve() && !point.is_in_correct_subgroup_assuming_on_curve());
    let mut written = write_key(1);
    for (at, place) in [(64, "beta_g2"), (192, "gamma_g2"), (320, "delta_g2")] {
        let kept = written.bytes[at..at + 128].to_vec();
        point.serialize_uncompressed(&mut written.bytes[at..at + 128]).unwrap();
        fs::write(&written.path, &written.bytes).unwrap();
        let error = KeyFile::open_arkworks(&written.path).unwrap_err();
        assert!(matches!(error.fault(), Fault::NotInSubgroup), "{error}");
        assert_eq!(error.place(), place);
        G2Affine::zero().serialize_uncompressed(&mut written.bytes[at..at + 128]).unwrap();
        fs::write(&written.path, &written.bytes).unwrap();
        let error = KeyFile::open_arkworks(&written.path).unwrap_err();
        assert!(matches!(error.fault(), Fault::Identity), "{error}");
        written.bytes[at..at + 128].copy_from_slice(&kept);
    }
}

#[test]
fn a_huge_length_is_an_error_before_memory_is_sized_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short");
    fs::write(&path, [0; 100]).unwrap();
    let source = ByteSource::open(&path).unwrap();
    for (offset, len) in [(0, 2), (40, 1), (0, u64::MAX), (1, u64::MAX / 64), (u64::MAX, 1)] {
        let error = Records::new(&source, "points", offset, len, 64).unwrap_err();
        assert!(matches!(error.fault(), Fault::Truncated { .. }), "{error}");
    }
}

/// Counts how a decoder is called.
struct Index;

impl Decode<64> for Index {
    type Item = u64;

    fn decode(&self, bytes: &[u8; 64], index: u64) -> Result<u64, Fault> {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[..8]);
        assert_eq!(u64::from_le_bytes(number), index);
        Ok(index)
    }
}

#[test]
fn every_record_is_decoded_under_its_own_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("numbers");
    let mut bytes = vec![0_u8; 3000 * 64 + 5];
    for (i, record) in bytes[5..].chunks_exact_mut(64).enumerate() {
        record[..8].copy_from_slice(&(i as u64).to_le_bytes());
    }
    fs::write(&path, &bytes).unwrap();
    let source = ByteSource::open(&path).unwrap();
    let records = Records::new(&source, "numbers", 5, 3000, 64).unwrap();
    for (start, len) in [(0, 3000), (1, 2999), (17, 128), (2999, 1), (3000, 0), (5, 513)] {
        let mut out = vec![u64::MAX; len];
        records.read(&source, start, &mut out, &Index).unwrap();
        assert!(out.iter().enumerate().all(|(i, value)| *value == (start + i) as u64));
    }
}
