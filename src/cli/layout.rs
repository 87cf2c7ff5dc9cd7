//! Which columns `plimsoll pack` makes of a file.
//!
//! ```text
//!   .wtns           head | values, 32 bytes each | tail, if there is one
//!   --width, field  data, elements of a width    | tail: what is left
//!   anything else   data, single bytes
//! ```
//!
//! Invariant: the columns, one after the other, are the bytes of the file.

use super::failure::Failure;
use clap::{Args, ValueEnum};
use plimsoll::columns::field::{BABY_BEAR, BLS12_381_FR, BN254_FR, KOALA_BEAR};
use plimsoll::columns::field::{Field32Spec, FieldSpec};
use plimsoll::columns::{BLOCK_BYTES_MAX, Column, ColumnsFault, LaneSpec, MAGIC};
use plimsoll::groth16::circom::wtns::WitnessFile;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// First bytes of a circom witness.
const WTNS_MAGIC: [u8; 4] = *b"wtns";

/// Bytes of a witness's value.
const VALUE_BYTES: usize = 32;

#[derive(Debug, Args)]
pub(super) struct LayoutArgs {
    /// Bytes of an element. 1, 2, 4, 8 and 32 are packed as integers, others as bytes.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    width: Option<u32>,

    /// The field whose elements these are, in Montgomery form: as arkworks and Plonky3 keep them
    /// in memory.
    #[arg(long, value_name = "NAME")]
    field: Option<Field>,
}

/// A field of the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Field {
    /// 32 bytes.
    Bn254,
    /// 32 bytes.
    #[value(name = "bls12-381")]
    Bls12381,
    /// 4 bytes.
    Babybear,
    /// 4 bytes.
    Koalabear,
}

impl Field {
    fn lanes(self) -> LaneSpec {
        let large = |modulus| FieldSpec::new(modulus).map_or(LaneSpec::U256, LaneSpec::Field256);
        let small = |modulus| Field32Spec::new(modulus).map_or(LaneSpec::U32, LaneSpec::Field32);
        match self {
            Field::Bn254 => large(BN254_FR),
            Field::Bls12381 => large(BLS12_381_FR),
            Field::Babybear => small(BABY_BEAR),
            Field::Koalabear => small(KOALA_BEAR),
        }
    }
}

impl LayoutArgs {
    /// Returns the columns that the file at `path` is packed as, and the bytes of each.
    pub(super) fn columns(&self, path: &Path) -> Result<Vec<(Column, u64)>, Failure> {
        let (bytes, magic) = look(path)?;
        let is_raw = self.width.is_some() || self.field.is_some();
        if magic == MAGIC && !is_raw {
            let shown = path.display();
            return Err(Failure::Input(format!("{shown}: is packed already; give the raw file")));
        }
        let mut columns = Vec::new();
        let mut add = |column: Result<Column, ColumnsFault>, bytes: u64| {
            let column = column.map_err(|why| Failure::Input(format!("--width: {why}")))?;
            columns.push((column, bytes));
            Ok::<(), Failure>(())
        };
        let mut tail = 0;
        if magic == WTNS_MAGIC && !is_raw {
            let values = WitnessFile::open(path)?.values_bytes();
            add(Column::integers("head", 1), values.start)?;
            add(Column::integers("values", VALUE_BYTES), values.end - values.start)?;
            tail = bytes.saturating_sub(values.end);
        } else if is_raw {
            let (width, column) = self.elements()?;
            tail = bytes % width as u64;
            add(column, bytes - tail)?;
        } else {
            add(Column::new("data", 1, LaneSpec::Bytes), bytes)?;
        }
        if tail > 0 {
            add(Column::integers("tail", 1), tail)?;
        }
        Ok(columns)
    }

    /// The bytes of an element, and the column of elements.
    fn elements(&self) -> Result<(usize, Result<Column, ColumnsFault>), Failure> {
        let lanes = self.field.map(Field::lanes);
        let lane_bytes = lanes.map_or(1, |lanes| lanes.lane_bytes());
        let width = self.width.map_or(lane_bytes, |width| width as usize);
        if !width.is_multiple_of(lane_bytes) || width > BLOCK_BYTES_MAX {
            return Err(Failure::Input(format!(
                "--width {width}: must be a multiple of {lane_bytes}, and at most \
                 {BLOCK_BYTES_MAX}; count the bytes of one element"
            )));
        }
        let column = match lanes {
            Some(lanes) => Column::new("data", width, lanes),
            None => Column::integers("data", width),
        };
        Ok((width, column))
    }
}

/// Returns the length of the file at `path`, and its first bytes.
fn look(path: &Path) -> Result<(u64, Vec<u8>), Failure> {
    let cannot = |why: io::Error| cannot_read(path, &why);
    // Before it is opened: a pipe would wait for who writes to it.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        let shown = path.display();
        return Err(Failure::Input(format!("{shown}: is not a regular file; name one")));
    }
    let file = File::open(path).map_err(cannot)?;
    let bytes = file.metadata().map_err(cannot)?.len();
    let mut magic = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(cannot)?;
    Ok((bytes, magic))
}

/// The failure of reading the file at `path`.
pub(super) fn cannot_read(path: &Path, why: &io::Error) -> Failure {
    let shown = path.display();
    Failure::Input(format!(
        "{shown}: cannot be read: {why}; check the path, and that nothing rewrites the file"
    ))
}
