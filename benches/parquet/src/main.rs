//! Parquet with zstd, as a peer of packed files: writes a table, reads it back, prints the seconds.
//!
//! ```text
//!   plimsoll-parquet RAW FILE BACK ELEMENT_BYTES COLUMNS   ->   packing unpacking
//! ```
//!
//! RAW has the columns one after the other; so has BACK, which is what was read from FILE. Elements
//! of 4 and 8 bytes are INT32 and INT64, others FIXED_LEN_BYTE_ARRAY. zstd has level 3; encodings,
//! pages and row groups are the crate's defaults. Reading RAW and writing BACK are not timed.

use parquet::basic::{Compression, Repetition, Type as Physical, ZstdLevel};
use parquet::column::reader::ColumnReader;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use std::error::Error;
use std::fs::{self, File};
use std::sync::Arc;
use std::time::Instant;

/// Level of zstd: its default.
const ZSTD_LEVEL: i32 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [raw, path, back, element_bytes, columns] = words.as_slice() else {
        return Err("RAW FILE BACK ELEMENT_BYTES COLUMNS".into());
    };
    let (element_bytes, columns): (usize, usize) = (element_bytes.parse()?, columns.parse()?);
    let table = fs::read(raw)?;
    let start = Instant::now();
    pack(path, &table, element_bytes, columns)?;
    let packing = start.elapsed().as_secs_f64();
    let mut out = vec![0; table.len()];
    let start = Instant::now();
    unpack(path, &mut out, element_bytes, columns)?;
    println!("{packing:e} {:e}", start.elapsed().as_secs_f64());
    fs::write(back, out)?;
    Ok(())
}

fn schema(element_bytes: usize, columns: usize) -> Result<Type, Box<dyn Error>> {
    let physical = match element_bytes {
        4 => Physical::INT32,
        8 => Physical::INT64,
        _ => Physical::FIXED_LEN_BYTE_ARRAY,
    };
    let column = |at: usize| {
        let name = format!("c{at}");
        let builder = Type::primitive_type_builder(&name, physical)
            .with_repetition(Repetition::REQUIRED)
            .with_length(element_bytes as i32);
        builder.build().map(Arc::new)
    };
    let fields = (0..columns).map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Type::group_type_builder("table").with_fields(fields).build()?)
}

fn pack(
    path: &str,
    table: &[u8],
    element_bytes: usize,
    columns: usize,
) -> Result<(), Box<dyn Error>> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let schema = Arc::new(schema(element_bytes, columns)?);
    let mut file = SerializedFileWriter::new(File::create(path)?, schema, Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    for bytes in table.chunks(table.len() / columns) {
        let mut column = group.next_column()?.ok_or("a column is missing")?;
        match column.untyped() {
            ColumnWriter::Int32ColumnWriter(writer) => {
                let values = bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes));
                writer.write_batch(&values.collect::<Vec<_>>(), None, None)?;
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let values = bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
                writer.write_batch(&values.collect::<Vec<_>>(), None, None)?;
            }
            ColumnWriter::FixedLenByteArrayColumnWriter(writer) => {
                let values = bytes.chunks(element_bytes);
                let values: Vec<FixedLenByteArray> =
                    values.map(|bytes| ByteArray::from(bytes.to_vec()).into()).collect();
                writer.write_batch(&values, None, None)?;
            }
            _ => return Err("a column of another kind".into()),
        }
        column.close()?;
    }
    group.close()?;
    file.close()?;
    Ok(())
}

fn unpack(
    path: &str,
    out: &mut [u8],
    element_bytes: usize,
    columns: usize,
) -> Result<(), Box<dyn Error>> {
    let file = SerializedFileReader::new(File::open(path)?)?;
    let column_bytes = out.len() / columns;
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group)?;
        for (column, out) in out.chunks_mut(column_bytes).enumerate() {
            let rows = out.len() / element_bytes;
            match group.get_column_reader(column)? {
                ColumnReader::Int32ColumnReader(mut reader) => {
                    let mut values = Vec::with_capacity(rows);
                    reader.read_records(rows, None, None, &mut values)?;
                    let slots = out.as_chunks_mut().0.iter_mut();
                    slots.zip(&values).for_each(|(slot, value)| *slot = value.to_le_bytes());
                }
                ColumnReader::Int64ColumnReader(mut reader) => {
                    let mut values = Vec::with_capacity(rows);
                    reader.read_records(rows, None, None, &mut values)?;
                    let slots = out.as_chunks_mut().0.iter_mut();
                    slots.zip(&values).for_each(|(slot, value)| *slot = value.to_le_bytes());
                }
                ColumnReader::FixedLenByteArrayColumnReader(mut reader) => {
                    let mut values = Vec::with_capacity(rows);
                    reader.read_records(rows, None, None, &mut values)?;
                    let slots = out.chunks_mut(element_bytes);
                    slots.zip(&values).for_each(|(slot, value)| slot.copy_from_slice(value.data()));
                }
                _ => return Err("a column of another kind".into()),
            }
        }
    }
    Ok(())
}
