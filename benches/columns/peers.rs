//! Who keeps a table in a file: ours and the peers.
//!
//! Invariant: `unpack` after `pack` fills `out` with the table's bytes; the caller compares. The
//! file is not synced: what is measured is packing, and the page cache.

use super::tables::Table;
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use plimsoll::columns::{Reader, Writer};
use plimsoll::{Runtime, Secrecy};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Level of the zstd peer: its default.
const ZSTD_LEVEL: i32 = 3;

/// Bytes of a raw file that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// Something that keeps a table in a file.
pub(crate) trait Keeper {
    /// The name in the lines.
    fn name(&self) -> &'static str;

    /// Its file.
    fn path(&self) -> &Path;

    /// Writes the file.
    fn pack(&mut self, table: &Table);

    /// Reads the file into `out`.
    fn unpack(&mut self, table: &Table, out: &mut [u8]);

    /// Both; returns the seconds of each.
    fn round(&mut self, table: &Table, out: &mut [u8]) -> (f64, f64) {
        let start = Instant::now();
        self.pack(table);
        let between = Instant::now();
        self.unpack(table, out);
        ((between - start).as_secs_f64(), between.elapsed().as_secs_f64())
    }

    /// Bytes of the file.
    fn stored_bytes(&self) -> u64 {
        fs::metadata(self.path()).expect("it was packed").len()
    }
}

/// Has the kernel forget the pages of a file.
pub(crate) fn forget(path: &Path) {
    let file = File::open(path).expect("a file");
    file.sync_all().expect("a disk");
    let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    nix::fcntl::posix_fadvise(&file, 0, 0, advice).expect("advice is taken");
}

/// Our packed file.
pub(crate) struct Ours {
    path: PathBuf,
    runtime: Runtime,
    pool: rayon::ThreadPool,
    name: &'static str,
}

impl Ours {
    /// On so many threads; 0 is all.
    pub(crate) fn new(folder: &Path, runtime: &Runtime, threads: usize) -> Self {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let name = if threads == 1 { "plimsoll" } else { "plimsoll-all-threads" };
        Self { path: folder.join(name), runtime: runtime.clone(), pool, name }
    }
}

impl Keeper for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn pack(&mut self, table: &Table) {
        self.pool.install(|| {
            let file = File::create(&self.path).expect("a file");
            let columns = table.columns();
            let writer = Writer::new(file, &self.path, columns, &self.runtime, Secrecy::Public);
            let mut writer = writer.expect("columns");
            for (column, bytes) in table.parts().enumerate() {
                writer.write(column, bytes).expect("room on the disk");
            }
            writer.finish().expect("room on the disk");
        });
    }

    fn unpack(&mut self, table: &Table, out: &mut [u8]) {
        self.pool.install(|| {
            let reader = Reader::open(&self.path, &self.runtime, Secrecy::Public);
            let reader = reader.expect("our own file");
            for (column, out) in out.chunks_mut(table.column_bytes()).enumerate() {
                reader.read(column, 0, out).expect("our own blocks");
            }
        });
    }
}

/// The raw file, read with pread(2).
pub(crate) struct Raw {
    path: PathBuf,
}

impl Raw {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { path: folder.join("raw") }
    }
}

impl Keeper for Raw {
    fn name(&self) -> &'static str {
        "raw-file"
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn pack(&mut self, table: &Table) {
        fs::write(&self.path, &table.bytes).expect("room on the disk");
    }

    fn unpack(&mut self, _table: &Table, out: &mut [u8]) {
        let file = File::open(&self.path).expect("a file");
        for (number, part) in out.chunks_mut(READ_BYTES).enumerate() {
            file.read_exact_at(part, (number * READ_BYTES) as u64).expect("bytes");
        }
    }
}

/// zstd, one frame.
pub(crate) struct Zstd {
    path: PathBuf,
    packed: Vec<u8>,
}

impl Zstd {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { path: folder.join("zstd"), packed: Vec::new() }
    }
}

impl Keeper for Zstd {
    fn name(&self) -> &'static str {
        "zstd-3"
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn pack(&mut self, table: &Table) {
        self.packed.resize(zstd::zstd_safe::compress_bound(table.bytes.len()), 0);
        let packed = &mut self.packed[..];
        let bytes = zstd::bulk::compress_to_buffer(&table.bytes, packed, ZSTD_LEVEL);
        let bytes = bytes.expect("room for the worst case");
        fs::write(&self.path, &self.packed[..bytes]).expect("room on the disk");
    }

    fn unpack(&mut self, _table: &Table, out: &mut [u8]) {
        let packed = fs::read(&self.path).expect("a file");
        zstd::bulk::decompress_to_buffer(&packed, out).expect("its own frame");
    }
}

/// LZ4, one block, by lz4_flex.
pub(crate) struct Lz4 {
    path: PathBuf,
    packed: Vec<u8>,
}

impl Lz4 {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { path: folder.join("lz4"), packed: Vec::new() }
    }
}

impl Keeper for Lz4 {
    fn name(&self) -> &'static str {
        "lz4"
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn pack(&mut self, table: &Table) {
        self.packed.resize(get_maximum_output_size(table.bytes.len()), 0);
        let bytes = compress_into(&table.bytes, &mut self.packed).expect("room for the worst case");
        fs::write(&self.path, &self.packed[..bytes]).expect("room on the disk");
    }

    fn unpack(&mut self, _table: &Table, out: &mut [u8]) {
        let packed = fs::read(&self.path).expect("a file");
        decompress_into(&packed, out).expect("its own block");
    }
}

/// Parquet with zstd, in the program of benches/parquet. It times itself: starting it is not its
/// work.
pub(crate) struct Parquet {
    program: PathBuf,
    raw: PathBuf,
    path: PathBuf,
    back: PathBuf,
}

impl Parquet {
    /// # Errors
    ///
    /// Where the program is not built, or the table is a text.
    pub(crate) fn new(folder: &Path, table: &Table) -> Result<Self, String> {
        if table.element_bytes == 1 {
            return Err("a text is no column of numbers".to_owned());
        }
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("parquet");
        let program = package.join("target/release/plimsoll-parquet");
        if !program.is_file() {
            let manifest = "benches/parquet/Cargo.toml";
            return Err(format!("cargo build --release --manifest-path {manifest} makes it"));
        }
        let raw = folder.join("parquet-raw");
        fs::write(&raw, &table.bytes).expect("room on the disk");
        let (path, back) = (folder.join("parquet"), folder.join("parquet-back"));
        Ok(Self { program, raw, path, back })
    }
}

impl Keeper for Parquet {
    fn name(&self) -> &'static str {
        "parquet-zstd"
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn pack(&mut self, table: &Table) {
        self.round(table, &mut vec![0; table.bytes.len()]);
    }

    fn unpack(&mut self, _table: &Table, out: &mut [u8]) {
        out.copy_from_slice(&fs::read(&self.back).expect("what it read"));
    }

    fn round(&mut self, table: &Table, out: &mut [u8]) -> (f64, f64) {
        let output = Command::new(&self.program)
            .args([&self.raw, &self.path, &self.back])
            .args([table.element_bytes.to_string(), table.columns_count.to_string()])
            .output()
            .expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut seconds = text.split_whitespace().map(|word| word.parse().expect("seconds"));
        let mut next = || seconds.next().expect("two figures");
        let seconds = (next(), next());
        self.unpack(table, out);
        seconds
    }
}
