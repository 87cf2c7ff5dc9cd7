//! The circom readers against files that snarkjs made, and against its verdict on proofs.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
use ark_ff::{FftField, Field, One, PrimeField, Zero};
use ark_groth16::{Groth16, Proof, VerifyingKey, prepare_verifying_key};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};

use super::json::{proof_to_json, public_to_json, read_proof, read_public, write_proof_and_public};
use super::vkey::read_verifying_key;
use super::wtns::WitnessFile;
use crate::files::staged::StagedFile;
use crate::groth16::file_error::{Fault, FileError};
use crate::groth16::key::{Coefficient, Factor, KeyFile, Query};

const CIRCUITS: [&str; 2] = ["multiplier", "publics"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/circom").join(name)
}

fn open(circuit: &str) -> (KeyFile, WitnessFile) {
    let key = KeyFile::open_zkey(&fixture(&format!("{circuit}.zkey"))).unwrap();
    let witness = WitnessFile::open(&fixture(&format!("{circuit}.wtns"))).unwrap();
    (key, witness)
}

fn values(witness: &WitnessFile) -> Vec<Fr> {
    let mut values = vec![Fr::zero(); witness.len()];
    witness.read(0, &mut values).unwrap();
    values
}

fn points_g1(key: &KeyFile, query: Query) -> Vec<G1Affine> {
    let mut points = vec![G1Affine::zero(); key.len(query)];
    key.read_g1(query, 0, &mut points).unwrap();
    points
}

fn verify(key: &VerifyingKey<Bn254>, inputs: &[Fr], proof: &Proof<Bn254>) -> bool {
    Groth16::<Bn254>::verify_proof(&prepare_verifying_key(key), proof, inputs).unwrap()
}

/// The verifying key that snarkjs exported.
fn exported_key(circuit: &str) -> VerifyingKey<Bn254> {
    read_verifying_key(&fixture(&format!("{circuit}.vkey.json"))).unwrap()
}

/// `A w`, `B w` and their product, each on the odd coset of twice the domain.
fn quotient_on_coset(key: &KeyFile, witness: &[Fr]) -> Vec<Fr> {
    let domain = Radix2EvaluationDomain::<Fr>::new(key.domain_size()).unwrap();
    let shift = Fr::get_root_of_unity(2 * key.domain_size() as u64).unwrap();
    let (mut a, mut b) = (vec![Fr::zero(); domain.size()], vec![Fr::zero(); domain.size()]);
    let visit = |chunk: &[Coefficient]| {
        for entry in chunk {
            let row = if entry.matrix == Factor::A { &mut a } else { &mut b };
            row[entry.row as usize] += entry.value * witness[entry.signal as usize];
        }
        Ok::<(), FileError>(())
    };
    key.coefficients().unwrap().for_each_chunk(7, visit).unwrap();
    let mut c: Vec<Fr> = a.iter().zip(&b).map(|(a, b)| *a * b).collect();
    for column in [&mut a, &mut b, &mut c] {
        domain.ifft_in_place(column);
        let mut power = Fr::one();
        for value in column.iter_mut() {
            *value *= power;
            power *= shift;
        }
        domain.fft_in_place(column);
    }
    a.iter().zip(&b).zip(&c).map(|((a, b), c)| *a * b - c).collect()
}

/// Groth16's proof with r = s = 0, as simply as it can be said.
fn naive_proof(key: &KeyFile, witness: &[Fr]) -> Proof<Bn254> {
    let mut b2 = vec![G2Affine::zero(); key.len(Query::B2)];
    key.read_g2(Query::B2, 0, &mut b2).unwrap();
    let quotient = quotient_on_coset(key, witness);
    let private = &witness[key.public_inputs() + 1..];
    let a = G1Projective::msm(&points_g1(key, Query::A), witness).unwrap() + key.alpha_g1();
    let b = G2Projective::msm(&b2, witness).unwrap() + key.beta_g2();
    let c = G1Projective::msm(&points_g1(key, Query::L), private).unwrap()
        + G1Projective::msm(&points_g1(key, Query::H), &quotient).unwrap();
    Proof { a: a.into_affine(), b: b.into_affine(), c: c.into_affine() }
}

#[test]
fn a_proof_of_snarkjs_verifies_under_the_key_read_and_round_trips() {
    let (key, witness) = open("multiplier");
    let path = fixture("multiplier.proof.json");
    let proof = read_proof(&path).unwrap();
    let inputs = read_public(&fixture("multiplier.public.json")).unwrap();
    assert!(verify(key.verifying_key(), &inputs, &proof));
    assert!(!verify(key.verifying_key(), &[inputs[0] + Fr::one()], &proof));
    assert_eq!(inputs[..], values(&witness)[1..=key.public_inputs()]);
    assert_eq!(proof_to_json(&proof), fs::read_to_string(path).unwrap());
    let public = fs::read_to_string(fixture("multiplier.public.json")).unwrap();
    assert_eq!(public_to_json(&inputs), public);
}

#[test]
fn a_proof_from_what_was_read_is_accepted() {
    for circuit in CIRCUITS {
        let (key, witness) = open(circuit);
        witness.check_is_of(&key).unwrap();
        let mut witness = values(&witness);
        let inputs = witness[1..=key.public_inputs()].to_vec();
        let proof = naive_proof(&key, &witness);
        assert!(verify(&exported_key(circuit), &inputs, &proof), "{circuit}");
        let last = witness.len() - 1;
        witness[last] += Fr::one();
        assert!(!verify(&exported_key(circuit), &inputs, &naive_proof(&key, &witness)));
    }
}

#[test]
fn chunks_of_any_length_give_the_same_coefficients() {
    let (key, _) = open("publics");
    let coefficients = key.coefficients().unwrap();
    let mut whole = vec![Coefficient::ZERO; coefficients.len()];
    coefficients.read(0, &mut whole).unwrap();
    for chunk_len in [0, 1, 2, 5, whole.len() - 1, whole.len(), usize::MAX] {
        let mut seen = Vec::new();
        let visit = |chunk: &[Coefficient]| {
            seen.extend_from_slice(chunk);
            Ok::<(), FileError>(())
        };
        coefficients.for_each_chunk(chunk_len, visit).unwrap();
        assert_eq!(seen, whole, "chunks of {chunk_len}");
    }
}

#[test]
fn swapped_and_foreign_files_are_told_apart() {
    let zkey = fixture("multiplier.zkey");
    let wtns = fixture("multiplier.wtns");
    let errors = [
        KeyFile::open_zkey(&wtns).unwrap_err(),
        WitnessFile::open(&zkey).unwrap_err(),
        KeyFile::open_arkworks(&zkey).unwrap_err(),
        KeyFile::open_arkworks(&wtns).unwrap_err(),
        KeyFile::open_zkey(&fixture("multiplier.vkey.json")).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error.fault(), Fault::WrongKind { .. }), "{error}");
    }
    let (key, _) = open("multiplier");
    let (_, other) = open("publics");
    let error = other.check_is_of(&key).unwrap_err();
    assert!(matches!(error.fault(), Fault::WitnessCount { .. }), "{error}");
    assert!(error.to_string().contains("different circuits"), "{error}");
    let error = KeyFile::open_zkey(Path::new("/no/such/file")).unwrap_err();
    assert!(matches!(error.fault(), Fault::Open(_)), "{error}");
}

#[test]
fn reads_past_the_end_are_errors() {
    let (key, witness) = open("multiplier");
    let mut values = vec![Fr::zero(); witness.len() + 1];
    for start in [0, 1, witness.len(), usize::MAX] {
        let error = witness.read(start, &mut values).unwrap_err();
        assert!(matches!(error.fault(), Fault::Range { .. }), "{error}");
    }
    let mut point = [G1Affine::zero()];
    let error = key.read_g1(Query::H, key.domain_size(), &mut point).unwrap_err();
    assert!(matches!(error.fault(), Fault::Range { .. }), "{error}");
}

#[test]
fn no_text_shows_a_value_of_the_witness() {
    let secret = Fr::from(0x5ec2_e700_u64);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.wtns");
    let mut bytes = fs::read(fixture("multiplier.wtns")).unwrap();
    let at = bytes.len() - 32;
    bytes[at..].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let witness = WitnessFile::open(&path).unwrap();
    let mut out = vec![secret; witness.len()];
    witness.read(0, &mut out).unwrap();
    let error = witness.read(1, &mut out).unwrap_err();
    let warnings: Vec<String> = witness.warnings().iter().map(ToString::to_string).collect();
    let expected = format!("value {} ", out.len() - 1);
    assert!(warnings.len() == 1 && warnings[0].contains(&expected), "{warnings:?}");
    let texts = format!("{witness:?} {error} {error:?} {warnings:?}");
    let largest = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    assert!(!texts.contains(largest) && !texts.contains("255"), "{texts}");
}

#[test]
fn the_identity_and_edges_survive_json() {
    let proof = Proof { a: G1Affine::zero(), b: G2Affine::zero(), c: G1Affine::generator() };
    let folder = tempfile::tempdir().unwrap();
    let (proof_path, public_path) = (folder.path().join("p.json"), folder.path().join("i.json"));
    let inputs = [Fr::zero(), -Fr::one(), Fr::from(u64::MAX).square()];
    write_proof_and_public(&proof_path, &proof, &public_path, &inputs).unwrap();
    assert_eq!(read_proof(&proof_path).unwrap(), proof);
    assert_eq!(read_public(&public_path).unwrap(), inputs);
    assert_eq!(public_to_json(&[]), "[]");
    for text in ["\"01\"", "\"-1\"", "\"\"", "\"+1\"", "\"1e3\"", "1", "[]", "\"1 \""] {
        fs::write(&public_path, format!("[{text}]")).unwrap();
        assert!(read_public(&public_path).is_err(), "{text}");
    }
    fs::write(&public_path, format!("[\"{}\"]", Fr::MODULUS)).unwrap();
    assert!(read_public(&public_path).is_err(), "r itself");
    fs::write(&public_path, "[\"1\"").unwrap();
    assert!(matches!(read_public(&public_path).unwrap_err().fault(), Fault::Json { .. }));
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_failed_write_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("taken")).unwrap();
    fs::write(at("old.json"), "old").unwrap();
    let proof = Proof::<Bn254>::default();
    // The second place is a folder, then one that is not there: the first file must not stay.
    for bad in [at("taken"), at("missing/public.json"), at("..")] {
        let result = write_proof_and_public(&at("proof.json"), &proof, &bad, &[]);
        assert!(result.is_err(), "{}", bad.display());
        assert_eq!(names(folder.path()), ["old.json", "taken"]);
        let result = write_proof_and_public(&at("old.json"), &proof, &bad, &[]);
        assert!(result.is_err());
        assert_eq!(fs::read_to_string(at("old.json")).unwrap(), "old");
    }
    let write = |path: &Path, text: &str| -> Result<(), FileError> {
        StagedFile::write(path, 0o640, |out| out.write_all(text.as_bytes()))?.commit()?;
        Ok(())
    };
    let error = write(Path::new("/dev/null"), "text").unwrap_err();
    assert!(matches!(error.fault(), Fault::NotRegular), "{error}");
    let error = write(Path::new(""), "text").unwrap_err();
    assert!(matches!(error.fault(), Fault::Write(_)), "{error}");
    let full = |_: &mut BufWriter<&mut fs::File>| Err(io::ErrorKind::StorageFull.into());
    assert!(StagedFile::write(&at("old.json"), 0o640, full).is_err());
    write(&at("old.json"), "new").unwrap();
    assert_eq!(fs::read_to_string(at("old.json")).unwrap(), "new");
    std::os::unix::fs::symlink(at("old.json"), at("link.json")).unwrap();
    write(&at("link.json"), "through").unwrap();
    assert_eq!(fs::read_to_string(at("old.json")).unwrap(), "through");
    let mode = fs::metadata(at("old.json")).unwrap().permissions().mode();
    assert!(mode & 0o600 == 0o600 && mode & 0o137 == 0, "{mode:o}");
    assert_eq!(names(folder.path()), ["link.json", "old.json", "taken"]);
}
