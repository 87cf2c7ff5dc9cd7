//! Every form of a witness gives the same values, and what is none is named for what it is.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use ark_bn254::Fr;
use ark_ff::{BigInt, BigInteger, PrimeField, Zero};

use super::wtns::WitnessFile;
use crate::Runtime;
use crate::groth16::error::ProveError;
use crate::groth16::file_error::{Fault, Oddity};
use crate::groth16::key::KeyFile;
use crate::limit::LimitSpec;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/circom").join(name)
}

fn runtime() -> Runtime {
    Runtime::builder().limit(LimitSpec::None).build().expect("a runtime")
}

fn key() -> KeyFile {
    KeyFile::open_zkey(&fixture("multiplier.zkey")).expect("a key")
}

fn values(witness: &WitnessFile) -> Vec<Fr> {
    let mut values = vec![Fr::zero(); witness.len()];
    witness.read(0, &mut values).expect("values");
    values
}

fn good() -> (Vec<u8>, Vec<Fr>) {
    let path = fixture("multiplier.wtns");
    let witness = WitnessFile::open(&path).expect("a witness");
    (fs::read(path).expect("bytes"), values(&witness))
}

/// The witness that `bytes` are, from a file and from a pipe.
fn both(bytes: &[u8]) -> [Result<WitnessFile, ProveError>; 2] {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("given");
    fs::write(&path, bytes).expect("written");
    let (key, runtime) = (key(), runtime());
    let read = WitnessFile::read_from(&key, Path::new("-"), &mut &bytes[..], &runtime);
    [WitnessFile::open_for(&key, &path, &runtime), read]
}

fn json(values: &[Fr]) -> Vec<u8> {
    let texts: Vec<String> = values.iter().map(|v| v.into_bigint().to_string()).collect();
    serde_json::to_vec_pretty(&texts).expect("JSON")
}

#[test]
fn all_forms_of_a_witness_have_the_same_values() {
    let (container, expected) = good();
    let bare = container[container.len() - 32 * expected.len()..].to_vec();
    let mut older = container.clone();
    older[4] = 1;
    for bytes in [container, older, bare, json(&expected)] {
        for witness in both(&bytes) {
            let witness = witness.expect("a witness");
            assert_eq!(values(&witness), expected);
            assert!(witness.warnings().is_empty());
        }
    }
}

#[test]
fn what_follows_and_what_is_not_reduced_is_used_with_a_warning() {
    let (mut container, expected) = good();
    let last = container.len() - 32;
    let index = expected.len() - 1;
    let mut large = expected[index].into_bigint();
    assert!(!large.add_with_carry(&Fr::MODULUS));
    container[last..].copy_from_slice(&large.to_bytes_le());
    container.extend([0; 5]);
    for witness in both(&container) {
        let witness = witness.expect("a witness");
        assert_eq!(values(&witness), expected);
        let odd: Vec<Oddity> = witness.warnings().iter().map(|w| *w.oddity()).collect();
        assert_eq!(
            odd,
            [Oddity::TrailingBytes { extra: 5 }, Oddity::Unreduced { index: index as u64 }]
        );
    }
}

#[test]
fn what_is_no_witness_is_named_for_what_it_is() {
    let (_, expected) = good();
    let secret = "1234567890123456789";
    let cases: [(Vec<u8>, &str); 10] = [
        (Vec::new(), "empty"),
        (b"{\"a\": 3, \"b\": 11}".to_vec(), "wtns calculate"),
        (fs::read(fixture("multiplier.zkey")).expect("bytes"), "swapped"),
        (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0], "gunzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), "git lfs pull"),
        (vec![7; 32 * expected.len() + 1], "no kind known"),
        (vec![7; 32 * expected.len()], "the constant 1"),
        (format!("[\"1\", \"-{secret}\"]").into_bytes(), "decimal"),
        (format!("[\"1\", \"{secret}\"").into_bytes(), "decimal"),
        (format!("[\"1\", \"{}\"]", "9".repeat(78)).into_bytes(), "decimal"),
    ];
    for (bytes, expected) in cases {
        for witness in both(&bytes) {
            let error = witness.expect_err(expected);
            let text = error.to_string();
            assert!(text.contains(expected), "{expected}: {text}");
            assert!(!format!("{text} {error:?}").contains(secret), "{text}");
        }
    }
    assert_eq!("9".repeat(78).parse::<BigInt<4>>().ok(), None);
}

#[test]
fn a_pipe_is_read_as_far_as_a_witness_of_the_key_can_go() {
    let endless = &mut std::io::repeat(b' ').take(1 << 30);
    let read = WitnessFile::read_from(&key(), Path::new("-"), endless, &runtime());
    let Err(ProveError::File(error)) = read else { panic!("no end: {read:?}") };
    assert!(matches!(error.fault(), Fault::TooLong { .. }), "{error}");
}
