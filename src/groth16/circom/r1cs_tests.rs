//! A constraint that a witness breaks is found; a damaged file is named.

use std::fs;
use std::path::{Path, PathBuf};

use ark_bn254::Fr;
use ark_ff::{BigInteger, One, PrimeField};

use super::r1cs::R1csFile;
use super::wtns::WitnessFile;
use crate::Runtime;
use crate::groth16::error::ProveError;
use crate::groth16::file_error::{Fault, FileError};
use crate::groth16::r1cs::Matrix;
use crate::limit::LimitSpec;

/// A combination: wires and coefficients.
type Terms<'a> = &'a [(u32, Fr)];

/// The bytes of a constraint system with these rows.
fn r1cs(wires: u32, rows: &[[Terms<'_>; 3]]) -> Vec<u8> {
    let mut header = 32u32.to_le_bytes().to_vec();
    header.extend(Fr::MODULUS.to_bytes_le());
    for count in [wires, 1, 0, 4] {
        header.extend(count.to_le_bytes());
    }
    header.extend(u64::from(wires).to_le_bytes());
    header.extend((rows.len() as u32).to_le_bytes());
    let mut constraints = Vec::new();
    for terms in rows.iter().flatten() {
        constraints.extend((terms.len() as u32).to_le_bytes());
        for (wire, coefficient) in *terms {
            constraints.extend(wire.to_le_bytes());
            constraints.extend(coefficient.into_bigint().to_bytes_le());
        }
    }
    let mut bytes = b"r1cs\x01\0\0\0\x02\0\0\0".to_vec();
    for (id, section) in [(2u32, constraints), (1, header)] {
        bytes.extend(id.to_le_bytes());
        bytes.extend((section.len() as u64).to_le_bytes());
        bytes.extend(section);
    }
    bytes
}

/// `w6 = w2 w3`, `w7 = w6 w4`, `w1 = w7 w5`: the circuit of the fixture `multiplier`.
fn multiplier(factor: Fr) -> Vec<u8> {
    let one = Fr::one();
    r1cs(
        8,
        &[
            [&[(2, one)], &[(3, one)], &[(6, one)]],
            [&[(6, factor)], &[(4, one), (0, Fr::from(0u8))], &[(7, one)]],
            [&[(7, -one)], &[(5, one)], &[(1, -one)]],
        ],
    )
}

fn folder_with(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("circuit.r1cs");
    fs::write(&path, bytes).expect("written");
    (folder, path)
}

fn look(bytes: &[u8], witness: &str) -> Result<Option<usize>, ProveError> {
    let (_folder, path) = folder_with(bytes);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/circom").join(witness);
    let witness = WitnessFile::open(&fixture).expect("a witness");
    let runtime = Runtime::builder().limit(LimitSpec::None).build().expect("a runtime");
    R1csFile::open(&path)?.first_unsatisfied(&witness, &runtime)
}

#[test]
fn circoms_own_files_hold_for_their_witnesses() {
    for circuit in ["multiplier", "publics"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/circom");
        let bytes = fs::read(folder.join(format!("{circuit}.r1cs"))).expect("a fixture");
        let found = look(&bytes, &format!("{circuit}.wtns"));
        assert!(matches!(found, Ok(None)), "{circuit}: {found:?}");
    }
}

#[test]
fn the_first_constraint_that_fails_is_found() {
    assert!(matches!(look(&multiplier(Fr::one()), "multiplier.wtns"), Ok(None)));
    assert!(matches!(look(&multiplier(Fr::from(2u8)), "multiplier.wtns"), Ok(Some(1))));
    let many: Vec<[Terms<'_>; 3]> = vec![[&[], &[], &[]]; 5000];
    assert!(matches!(look(&r1cs(8, &many), "multiplier.wtns"), Ok(None)));
}

#[test]
fn what_is_wrong_with_the_file_is_said() {
    let fault_of = |bytes: &[u8]| -> FileError {
        match look(bytes, "multiplier.wtns") {
            Err(ProveError::File(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let good = multiplier(Fr::one());
    let error = fault_of(&r1cs(9, &[]));
    assert!(matches!(error.fault(), Fault::WireCount { wires: 9, values: 8 }), "{error}");
    let error = fault_of(&r1cs(8, &[[&[(8, Fr::one())], &[], &[]]]));
    assert!(matches!(error.fault(), Fault::Coefficient { found: 8, .. }), "{error}");
    let mut large = good.clone();
    large[12 + 12 + 8..][..32].fill(0xff);
    let error = fault_of(&large);
    assert!(matches!(error.fault(), Fault::CoefficientValue { index: 0 }), "{error}");
    let mut huge = good.clone();
    huge[12 + 12..][..4].fill(0xff);
    let error = fault_of(&huge);
    assert!(matches!(error.fault(), Fault::Coefficient { .. } | Fault::CoefficientValue { .. }));
    let mut more_rows = good.clone();
    let last = more_rows.len() - 4;
    more_rows[last..].copy_from_slice(&9u32.to_le_bytes());
    let error = fault_of(&more_rows);
    assert!(matches!(error.fault(), Fault::Truncated { .. }), "{error}");
    for cut in 0..good.len() {
        assert!(look(&good[..cut], "multiplier.wtns").is_err(), "cut at {cut}");
    }
}

#[test]
fn terms_come_in_the_order_of_the_file() {
    let (_folder, path) = folder_with(&multiplier(Fr::from(2u8)));
    let file = R1csFile::open(&path).expect("a constraint system");
    assert_eq!((file.wires(), file.public_inputs(), file.constraints()), (8, 1, 3));
    let mut terms = Vec::new();
    file.for_each_term(|term| terms.push(term)).expect("terms");
    let places: Vec<_> = terms.iter().map(|term| (term.row, term.matrix, term.wire)).collect();
    let (a, b, c) = (Matrix::A, Matrix::B, Matrix::C);
    let expected = [
        [(0, a, 2), (0, b, 3), (0, c, 6)],
        [(1, a, 6), (1, b, 4), (1, b, 0)],
        [(1, c, 7), (2, a, 7), (2, b, 5)],
    ];
    assert_eq!(places[..9], expected.concat());
    assert_eq!((places[9], places.len()), ((2, c, 1), 10));
    assert_eq!((terms[3].value, terms[9].value), (Fr::from(2u8), -Fr::one()));
}

#[test]
fn more_public_signals_than_wires_are_refused() {
    let (_folder, path) = folder_with(&r1cs(1, &[]));
    let error = R1csFile::open(&path).expect_err("one wire cannot be one and an output");
    assert!(matches!(error.fault(), Fault::Count { found: 1, .. }), "{error}");
}
