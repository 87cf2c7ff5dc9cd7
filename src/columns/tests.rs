//! Every byte comes back, in any order of writes and reads; damage has a name.

use super::format::{END_BYTES, ENTRY_BYTES, HEAD_START_BYTES, LENGTH_BYTES, number};
use super::*;
use crate::files::random::ReadAt;
use crate::limit::LimitSpec;
use crate::{Error, Runtime, Secrecy};
use plimsoll_swap::checksum::checksum;
use plimsoll_swap::codec::field::{BABY_BEAR, BN254_FR, Field32Spec, FieldSpec};
use proptest::prelude::*;
use std::io;
use std::path::Path;

const NAME: &str = "w.packed";

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = start..start.saturating_add(out.len());
        out.copy_from_slice(self.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn runtime() -> Runtime {
    Runtime::builder().limit(LimitSpec::None).build().expect("a runtime")
}

/// A file of `columns`, written as `parts` say: a column, and elements of it.
fn written(columns: &[Column], parts: &[(usize, &[u8])], runtime: &Runtime) -> Vec<u8> {
    let path = Path::new(NAME);
    let writer = Writer::new(Vec::new(), path, columns.to_vec(), runtime, Secrecy::Secret);
    let mut writer = writer.expect("columns");
    parts.iter().for_each(|(column, bytes)| writer.write(*column, bytes).expect("elements"));
    writer.finish().expect("memory")
}

fn open(bytes: &[u8], runtime: &Runtime) -> Result<Reader, ColumnsError> {
    Reader::of(Box::new(bytes.to_vec()), Path::new(NAME), runtime, Secrecy::Secret)
}

/// All columns of a file, each whole.
fn read_all(bytes: &[u8], runtime: &Runtime) -> Result<Vec<Vec<u8>>, ColumnsError> {
    let reader = open(bytes, runtime)?;
    let read = |(number, column): (usize, &Column)| {
        let mut out = vec![0x5a; reader.elements(number) as usize * column.element_bytes()];
        reader.read(number, 0, &mut out).map(|()| out)
    };
    reader.columns().iter().enumerate().map(read).collect()
}

fn bits(elements: usize, element_bytes: usize) -> Vec<u8> {
    let bit = |at: usize| {
        let is_low = at.is_multiple_of(element_bytes);
        u8::from(is_low && (at / element_bytes).count_ones() & 1 == 1)
    };
    (0..elements * element_bytes).map(bit).collect()
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Three columns and a few blocks of each, of every codec, in a few KiB: blocks are cut by columns
/// that alternate.
fn small() -> (Vec<u8>, Vec<Vec<u8>>) {
    let columns = vec![
        Column::integers("values", 32).unwrap(),
        Column::new("text", 1, LaneSpec::Bytes).unwrap(),
        Column::integers("clock", 8).unwrap(),
    ];
    let (values, text) = (bits(90, 32), b"packed and ".repeat(30));
    let (clock, noise) = (bits(40, 8), noise(96));
    let parts: [(usize, &[u8]); 7] = [
        (0, &values[..1600]),
        (1, &text),
        (0, &values[1600..]),
        (2, &clock[..160]),
        (0, &noise),
        (2, &[0; 80]),
        (2, &clock[160..]),
    ];
    let bytes = written(&columns, &parts, &runtime());
    let all = [values, noise].concat();
    (bytes, vec![all, text, [&clock[..160], &[0; 80], &clock[160..]].concat()])
}

#[test]
fn columns_that_alternate_come_back_and_so_does_every_range() {
    let (bytes, expected) = small();
    let runtime = runtime();
    assert_eq!(read_all(&bytes, &runtime).unwrap(), expected);
    let reader = open(&bytes, &runtime).unwrap();
    assert_eq!((reader.find("clock"), reader.find("cloc")), (Some(2), None));
    assert_eq!(reader.stored(0).0, 3);
    for (number, column) in expected.iter().enumerate() {
        let width = reader.columns()[number].element_bytes();
        let len = column.len() / width;
        for start in 0..=len {
            for end in [start, start + 1, start + 7, len] {
                let end = end.clamp(start, len);
                let mut out = vec![0; (end - start) * width];
                reader.read(number, start as u64, &mut out).unwrap();
                assert_eq!(out, column[start * width..end * width], "{number}: {start}..{end}");
            }
        }
        let error = reader.read(number, len as u64, &mut vec![0; width]).unwrap_err();
        assert!(matches!(error.fault(), ColumnsFault::Range { .. }), "{error}");
    }
    let error = reader.read(3, 0, &mut [0]).unwrap_err();
    assert!(matches!(error.fault(), ColumnsFault::NoColumn { column: 3, columns: 3 }), "{error}");
    let error = reader.read(0, 0, &mut [0; 33]).unwrap_err();
    assert!(matches!(error.fault(), ColumnsFault::Width { bytes: 33, .. }), "{error}");
}

#[test]
fn a_file_is_the_same_on_any_number_of_threads() {
    let columns = [Column::integers("values", 32).unwrap()];
    let values = [bits(30_000, 32), noise(2 << 20), bits(5000, 32)].concat();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let parts: Vec<(usize, &[u8])> = values.chunks(96_000).map(|part| (0, part)).collect();
            let bytes = written(&columns, &parts, &runtime());
            assert!(read_all(&bytes, &runtime()).unwrap() == [&values[..]]);
            bytes
        })
    };
    let one = on(1);
    assert!(one == on(5));
    assert!(one.len() < (2 << 20) + 40_000, "{} bytes", one.len());
}

#[test]
fn a_file_without_columns_or_elements_is_a_file() {
    let runtime = runtime();
    assert_eq!(read_all(&written(&[], &[], &runtime), &runtime).unwrap(), Vec::<Vec<u8>>::new());
    let columns = [Column::integers("a", 3).unwrap(), Column::integers("b", 8).unwrap()];
    let read = read_all(&written(&columns, &[(1, &[])], &runtime), &runtime).unwrap();
    assert_eq!(read, [[], []] as [[u8; 0]; 2]);
}

#[test]
fn what_the_format_cannot_keep_is_refused() {
    let wrong = [("", 1), ("a\nb", 1), ("a", 0), ("a", BLOCK_BYTES_MAX + 1)];
    for (name, element_bytes) in wrong {
        let error = Column::integers(name, element_bytes).unwrap_err();
        assert!(matches!(error, ColumnsFault::Columns { .. }), "{error}");
    }
    assert!(Column::integers("n".repeat(256), 1).is_err());
    let twice = vec![Column::integers("a", 1).unwrap(), Column::integers("a", 2).unwrap()];
    let path = Path::new(NAME);
    let error = Writer::new(Vec::new(), path, twice, &runtime(), Secrecy::Public).unwrap_err();
    assert!(matches!(error.fault(), ColumnsFault::Columns { .. }), "{error}");
    let columns = vec![Column::integers("a", 4).unwrap()];
    let mut writer =
        Writer::new(Vec::new(), path, columns, &runtime(), Secrecy::Public).expect("columns");
    for (column, bytes) in [(0, 3), (1, 4)] {
        assert!(writer.write(column, &vec![0; bytes]).is_err(), "{bytes} bytes of {column}");
    }
    writer.write(0, &[7; 4]).unwrap();
    assert_eq!(read_all(&writer.finish().unwrap(), &runtime()).unwrap(), [[7; 4]]);
}

/// Cut to any length, the file does not open; with any bit flipped, it does not open or the part is
/// named when it is read.
#[test]
fn a_cut_or_a_flipped_bit_anywhere_is_found() {
    let (bytes, expected) = small();
    let runtime = runtime();
    for len in 0..bytes.len() {
        let error = open(&bytes[..len], &runtime).expect_err("cut short");
        let is_named =
            matches!(error.fault(), ColumnsFault::Truncated { .. } | ColumnsFault::Damaged { .. });
        assert!(is_named, "cut to {len}: {error}");
    }
    let mut named = 0;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let error = read_all(&flipped, &runtime).expect_err("a bit was flipped");
            let text = error.to_string();
            assert!(text.starts_with("w.packed: ") && text.contains(';'), "{text}");
            match error.fault() {
                ColumnsFault::Block { column, elements, .. } => {
                    assert!(["values", "text", "clock"].contains(&column.as_str()));
                    assert!(!elements.is_empty());
                    named += 1;
                }
                ColumnsFault::NotColumns
                | ColumnsFault::Version { .. }
                | ColumnsFault::Truncated { .. }
                | ColumnsFault::Damaged { .. } => {}
                other => panic!("bit {bit} of {at}: {other}"),
            }
        }
    }
    assert!(named > 8 * 7 * 64, "{named} in blocks");
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(open(&longer, &runtime).is_err());
    assert_eq!(read_all(&bytes, &runtime).unwrap(), expected);
}

/// Where the parts of a file are: the end, the index, the head's length.
fn parts_of(bytes: &[u8]) -> (usize, usize, usize) {
    let end = bytes.len() - END_BYTES;
    (end, number(&bytes[end + 8..end + 16]) as usize, number(&bytes[8..12]) as usize)
}

/// Makes all checksums right again, as somebody would who wrote a file by hand.
fn sealed(bytes: &mut [u8], head_bytes: usize, index: usize, end: usize) {
    let sum = checksum(&bytes[..head_bytes - 8]).to_le_bytes();
    bytes[head_bytes - 8..head_bytes].copy_from_slice(&sum);
    bytes[end + 32..end + 40].copy_from_slice(&sum);
    let sum = checksum(&bytes[index..end]).to_le_bytes();
    bytes[end + 40..end + 48].copy_from_slice(&sum);
    let sum = checksum(&bytes[end..end + 56]).to_le_bytes();
    bytes[end + 56..].copy_from_slice(&sum);
}

/// Every number of head, index and end in turn is made one that a reader must not believe, with
/// checksums that are right.
#[test]
fn numbers_that_lie_are_found_without_a_checksum() {
    let (bytes, _) = small();
    let runtime = runtime();
    let (end, index, head_bytes) = parts_of(&bytes);
    let head = (12..HEAD_START_BYTES).step_by(4).chain([HEAD_START_BYTES]).map(|at| (at, 4));
    let lengths = (0..3).map(|column| (index + column * LENGTH_BYTES, 8));
    let entries = (index + 3 * LENGTH_BYTES..end).step_by(ENTRY_BYTES);
    let entries = entries.flat_map(|at| [(at, 4), (at + 4, 4), (at + 8, 4), (at + 12, 4)]);
    let ends = [4, 8, 16, 24, 48].map(|at| (end + at, if at == 4 { 4 } else { 8 }));
    let mut refused = 0;
    for (at, width) in head.chain(lengths).chain(entries).chain(ends) {
        let now = number(&bytes[at..at + width]);
        for odd in [0, 1, now + 1, now.wrapping_sub(1), now * 2, 1 << 31, u64::MAX, u64::MAX / 24] {
            let mut lying = bytes.clone();
            lying[at..at + width].copy_from_slice(&odd.to_le_bytes()[..width]);
            if lying == bytes {
                continue;
            }
            sealed(&mut lying, head_bytes, index, end);
            match read_all(&lying, &runtime) {
                Ok(read) => {
                    // The largest block may be said to be larger, and nothing else may.
                    assert_eq!((at, read.len()), (16, 3), "{odd} at {at} is believed");
                }
                Err(error) => {
                    let is_typed = !matches!(error.fault(), ColumnsFault::Memory(_));
                    assert!(is_typed, "{odd} at {at}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn the_first_damaged_block_is_named_on_any_number_of_threads() {
    let columns = [Column::integers("values", 32).unwrap()];
    let mut bytes = written(&columns, &[(0, &noise(BLOCK_BYTES * 8))], &runtime());
    let (_, _, head_bytes) = parts_of(&bytes);
    for block in [6, 2, 4] {
        bytes[head_bytes + block * (BLOCK_BYTES + 64) + 100] ^= 1;
    }
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let error = pool.install(|| read_all(&bytes, &runtime())).expect_err("damaged");
        let elements = BLOCK_BYTES as u64 / 32;
        let expected = format!(
            "w.packed: column \"values\", block 2 (elements {} to {}): the payload's checksum \
             differs; copy the file again, or pack it anew",
            2 * elements,
            3 * elements,
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_block_of_another_file_in_its_place_is_found() {
    let columns = [Column::integers("values", 4).unwrap()];
    let (one, two) = (noise(8192), noise(16_384).split_off(8192));
    let mut file = written(&columns, &[(0, &one)], &runtime());
    let other = written(&columns, &[(0, &two)], &runtime());
    let (end, index, head_bytes) = parts_of(&file);
    assert_eq!((file.len(), (end, index, head_bytes)), (other.len(), parts_of(&other)));
    file[head_bytes..index].copy_from_slice(&other[head_bytes..index]);
    let error = read_all(&file, &runtime()).expect_err("another's block");
    assert!(error.to_string().contains("a whole block of another file"), "{error}");
}

/// The buffers that opening took are enough for any number of threads.
#[test]
fn threads_share_one_set_of_buffers_where_no_more_fit() {
    let runtime = Runtime::builder().own_limit().limit_bytes(1 << 40).build().expect("a runtime");
    let columns = [Column::integers("values", 32).unwrap()];
    let values = [bits(1 << 16, 32), noise(1 << 21)].concat();
    let bytes = written(&columns, &[(0, &values)], &runtime);
    let reader = open(&bytes, &runtime).expect("there is room");
    // Less than this process has resident already.
    runtime.set_limit_bytes(Some(1 << 20));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
    let mut out = vec![0; values.len()];
    pool.install(|| reader.read(0, 0, &mut out)).expect("one set is enough");
    assert!(out == values);
    let error = open(&bytes, &runtime).expect_err("no room for another reader");
    assert!(matches!(error.fault(), ColumnsFault::Memory(Error::OverLimit { .. })), "{error}");
}

fn lanes() -> impl Strategy<Value = (usize, LaneSpec)> {
    let bn254 = FieldSpec::new(BN254_FR).unwrap();
    let baby = Field32Spec::new(BABY_BEAR).unwrap();
    prop_oneof![
        (1usize..70).prop_map(|width| (width, LaneSpec::Bytes)),
        Just((1, LaneSpec::U8)),
        Just((2, LaneSpec::U16)),
        Just((12, LaneSpec::U32)),
        Just((8, LaneSpec::U64)),
        Just((32, LaneSpec::U256)),
        Just((64, LaneSpec::Field256(bn254))),
        Just((4, LaneSpec::Field32(baby))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_come_back(
        specs in prop::collection::vec(lanes(), 1..5),
        parts in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..400), 1usize..999),
            0..24,
        ),
        from in any::<prop::sample::Index>(),
    ) {
        let runtime = runtime();
        let column = |(at, (width, lanes)): (usize, &(usize, LaneSpec))| {
            Column::new(format!("column {at}"), *width, *lanes).unwrap()
        };
        let columns: Vec<Column> = specs.iter().enumerate().map(column).collect();
        let mut expected = vec![Vec::new(); columns.len()];
        let parts: Vec<(usize, Vec<u8>)> = parts.into_iter().map(|(column, seed, repeats)| {
            let column = column.index(columns.len());
            let mut bytes = seed.repeat(repeats);
            bytes.truncate(bytes.len().min(300_000) / specs[column].0 * specs[column].0);
            expected[column].extend_from_slice(&bytes);
            (column, bytes)
        }).collect();
        let parts: Vec<(usize, &[u8])> = parts.iter().map(|(at, part)| (*at, &part[..])).collect();
        let bytes = written(&columns, &parts, &runtime);
        prop_assert!(read_all(&bytes, &runtime).unwrap() == expected);
        let reader = open(&bytes, &runtime).unwrap();
        prop_assert_eq!(reader.columns(), &columns[..]);
        for (number, column) in expected.iter().enumerate() {
            let width = specs[number].0;
            let start = from.index(column.len() / width + 1);
            let mut out = vec![0; column.len() - start * width];
            reader.read(number, start as u64, &mut out).unwrap();
            prop_assert!(out == column[start * width..]);
        }
    }

    #[test]
    fn arbitrary_files_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(open(&bytes, &runtime()).is_err());
        let front = bytes.len().min(6);
        bytes[..front].copy_from_slice(&b"PLCF\x01\0"[..front]);
        prop_assert!(open(&bytes, &runtime()).is_err());
    }
}
