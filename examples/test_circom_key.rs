//! A snarkjs key for tests and benches, in minutes: of a circuit that circom compiled, or of a long
//! chain of squarings, with its witness.
//!
//!     cargo run --release --example test_circom_key -- r1cs CIRCUIT.r1cs FOLDER
//!     cargo run --release --example test_circom_key -- squares POWER FOLDER
//!
//! The first writes `CIRCUIT.zkey` and `CIRCUIT.vkey.json`. The second writes `squares.zkey`,
//! `squares.wtns` and `squares.vkey.json` of `x <- x^2 + i` over 2^POWER rows. A setup by snarkjs
//! takes hours at 2^22, because nobody may know its secrets; here anybody does (iden3/key.rs).
//!
//! ```text
//!   signals   1 | last (public) | x_0 .. x_(k-1)           k = 2^POWER - 2 constraints
//!   row i     x_i * x_i = x_(i+1) - i                      x_k is `last`
//! ```

#[path = "iden3/mod.rs"]
mod iden3;
#[path = "iden3/key.rs"]
mod key;

use ark_bn254::Fr;
use ark_ff::{BigInteger, Field, One, PrimeField};
use iden3::section;
use key::{Circuit, write_key};
use plimsoll::groth16::circom::r1cs::{R1csFile, Term};
use plimsoll::groth16::circom::vkey::write_verifying_key;
use plimsoll::groth16::r1cs::Matrix;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The largest chain: 2^24 rows are 6 GB.
const POWER_MAX: u32 = 24;

/// A chain of squarings.
struct Squares {
    rows: usize,
}

impl Squares {
    /// The signal of `x_i`.
    fn signal(&self, i: usize) -> usize {
        if i == self.rows { 1 } else { 2 + i }
    }
}

impl Circuit for Squares {
    fn signals(&self) -> usize {
        self.rows + 2
    }

    fn public(&self) -> usize {
        1
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn visit(&self, each: &mut dyn FnMut(Term)) -> Result<(), Box<dyn Error>> {
        for row in 0..self.rows {
            let mut term = |matrix, wire, value| each(Term { row, matrix, wire, value });
            term(Matrix::A, self.signal(row), Fr::one());
            term(Matrix::B, self.signal(row), Fr::one());
            term(Matrix::C, self.signal(row + 1), Fr::one());
            term(Matrix::C, 0, -Fr::from(row as u64));
        }
        Ok(())
    }
}

fn write_witness(path: &Path, squares: &Squares) -> std::io::Result<()> {
    let mut values = vec![Fr::one(); squares.signals()];
    let mut x = Fr::from(3u64);
    for i in 0..squares.rows {
        values[squares.signal(i)] = x;
        x = x.square() + Fr::from(i as u64);
    }
    values[1] = x;
    let mut file = BufWriter::new(File::create(path)?);
    let out = &mut file;
    out.write_all(b"wtns")?;
    [2u32, 2].iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
    section(out, 1, |out| {
        out.write_all(&32u32.to_le_bytes())?;
        out.write_all(&Fr::MODULUS.to_bytes_le())?;
        out.write_all(&(values.len() as u32).to_le_bytes())
    })?;
    section(out, 2, |out| {
        values.iter().try_for_each(|value| out.write_all(&value.into_bigint().to_bytes_le()))
    })?;
    out.flush()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let usage = || {
        let kinds = "r1cs CIRCUIT.r1cs FOLDER, or squares POWER FOLDER";
        format!("usage: test_circom_key {kinds}, POWER 3 to {POWER_MAX}")
    };
    let [kind, what, folder] = words[..] else { return Err(usage().into()) };
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder)?;
    let (stem, circuit): (String, Box<dyn Circuit>) = match (kind, what.parse::<u32>()) {
        ("squares", Ok(power @ 3..=POWER_MAX)) => {
            let squares = Squares { rows: (1 << power) - 2 };
            write_witness(&folder.join("squares.wtns"), &squares)?;
            ("squares".to_owned(), Box::new(squares))
        }
        ("r1cs", _) => {
            let path = Path::new(what);
            let stem = path.file_stem().ok_or_else(usage)?.to_string_lossy().into_owned();
            (stem, Box::new(R1csFile::open(path)?))
        }
        _ => return Err(usage().into()),
    };
    let key = write_key(&folder.join(format!("{stem}.zkey")), &*circuit)?;
    write_verifying_key(&folder.join(format!("{stem}.vkey.json")), &key)?;
    Ok(())
}
