//! `plimsoll pack` and `plimsoll unpack`.
//!
//! ```text
//!   w.wtns --pack--> w.wtns.packed     head, values of 32 bytes, tail: columns of one file
//!   w.wtns <-unpack- w.wtns.packed     the columns, one after the other: the same bytes
//! ```
//!
//! What is packed may be a witness: buffers are wiped, and only the owner can read the outputs. An
//! output appears whole or not at all, and replaces nothing unless `--force` says so.

use super::counts::threads;
use super::failure::Failure;
use super::layout::{LayoutArgs, cannot_read};
use super::live::{Live, ProgressKind};
use super::needs::on_threads;
use super::report::print;
use super::spill::auto_unless_set;
use clap::Args;
use plimsoll::columns::{Column, Reader, Writer};
use plimsoll::files::staged::StagedFile;
use plimsoll::groth16::file_error::FileError;
use plimsoll::groth16::prover::Progress;
use plimsoll::limit::{LimitSpec, format_bytes};
use plimsoll::{Error, Runtime, Secrecy};
use serde::Serialize;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) const PACK_HELP: &str = "\
A .wtns is told by its first bytes. Other files are columns of elements: say how many bytes an
element has, and the field if the elements are in its Montgomery form. Wrong answers cost size and
nothing else. `plimsoll prove --wtns` reads packed witnesses as they are.

Exit codes: 0 done; 1 over the limit; 2 bad input.

Examples:
  plimsoll pack witness.wtns
  plimsoll pack trace.bin trace.packed --width 4 --field babybear";

pub(super) const UNPACK_HELP: &str = "\
Exit codes: 0 done; 1 over the limit; 2 bad input, or the file is damaged: the block is named.

Example:
  plimsoll unpack witness.wtns.packed";

/// What is added to the name of a packed file.
const SUFFIX: &str = "packed";

/// A packed file tells as much as what was packed: only the owner may read either.
const MODE: u32 = 0o600;

/// Bytes that are read or written at a time.
const STEP_BYTES: usize = 2 << 20;

#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// Replace the output if it is there.
    #[arg(long, short)]
    force: bool,

    /// Memory limit of the whole process, as for `plimsoll prove`.
    #[arg(long, value_name = "SIZE")]
    limit: Option<LimitSpec>,

    /// Threads; as many as there are cores by default.
    #[arg(long, value_name = "N", value_parser = threads())]
    threads: Option<u64>,

    /// Print one JSON object instead of a sentence.
    #[arg(long)]
    pub(super) json: bool,

    /// Show no progress; the same as --progress none.
    #[arg(long, short)]
    quiet: bool,

    /// How progress is shown, on standard error. By default: bars on a terminal, else lines, and
    /// nothing with --json.
    #[arg(long, value_name = "KIND", conflicts_with = "quiet")]
    progress: Option<ProgressKind>,
}

#[derive(Debug, Args)]
pub(super) struct PackArgs {
    /// File to pack.
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// Packed file; IN.packed by default.
    #[arg(value_name = "OUT")]
    output: Option<PathBuf>,

    #[command(flatten)]
    layout: LayoutArgs,

    #[command(flatten)]
    pub(super) files: FileArgs,
}

#[derive(Debug, Args)]
pub(super) struct UnpackArgs {
    /// Packed file.
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// File to write; IN without .packed by default.
    #[arg(value_name = "OUT")]
    output: Option<PathBuf>,

    #[command(flatten)]
    pub(super) files: FileArgs,
}

/// A column of the result.
#[derive(Serialize)]
struct ColumnRow {
    name: String,
    element_bytes: usize,
    elements: u64,
    blocks: usize,
    stored_bytes: u64,
}

/// What was done.
#[derive(Serialize)]
struct PackRow<'a> {
    output: &'a Path,
    raw_bytes: u64,
    packed_bytes: u64,
    seconds: f64,
    peak_rss_bytes: u64,
    columns: Vec<ColumnRow>,
}

impl FileArgs {
    /// Makes the runtime that the command runs under.
    fn runtime(&self) -> Result<Runtime, Failure> {
        let builder = Runtime::builder();
        Ok(match self.limit.or_else(auto_unless_set) {
            Some(limit) => builder.limit(limit).build()?,
            None => builder.build()?,
        })
    }

    fn start(&self, runtime: &Runtime, name: &str) -> Live {
        let is_none = self.quiet || (self.json && self.progress.is_none());
        let kind = if is_none { Some(ProgressKind::None) } else { self.progress };
        let live = Live::start(kind, runtime);
        live.stage(name, 0, 1);
        live
    }

    /// Checks that nothing has the output's name, before any work is done.
    fn check_free(&self, output: &Path) -> Result<(), Failure> {
        if self.force || std::fs::symlink_metadata(output).is_err() {
            return Ok(());
        }
        let shown = output.display();
        let text = format!("{shown}: is there already; name another file, or pass --force");
        Err(Failure::Input(text))
    }

    fn commit(&self, staged: StagedFile) -> Result<(), Failure> {
        let committed = if self.force { staged.commit() } else { staged.commit_new() };
        Ok(committed.map_err(FileError::from)?)
    }

    /// Says what was done.
    fn report(
        &self,
        runtime: &Runtime,
        reader: &Reader,
        (output, packed): (&Path, &Path),
        started: Instant,
    ) -> Result<(), Failure> {
        let row = |(at, column): (usize, &Column)| {
            let (blocks, stored_bytes) = reader.stored(at);
            let (name, element_bytes) = (column.name().to_owned(), column.element_bytes());
            ColumnRow { name, element_bytes, elements: reader.elements(at), blocks, stored_bytes }
        };
        let columns = reader.columns().iter().enumerate().map(row).collect();
        let packed_bytes = std::fs::metadata(packed).map_or(0, |metadata| metadata.len());
        let row = PackRow {
            output,
            raw_bytes: raw_bytes(reader),
            packed_bytes,
            seconds: started.elapsed().as_secs_f64(),
            peak_rss_bytes: runtime.meter().peak_rss_bytes().map_err(Error::from)?,
            columns,
        };
        if self.json {
            let text = serde_json::to_string(&row).map_err(|why| {
                Failure::Input(format!("the report cannot be written as JSON: {why}"))
            })?;
            return print(&(text + "\n"));
        }
        let times = row.raw_bytes as f64 / row.packed_bytes.max(1) as f64;
        let ratio = match times {
            1.05.. => format!("{times:.1} times smaller"),
            _ => "no smaller: it does not pack, or is very small".to_owned(),
        };
        print(&format!(
            "wrote {}: {} raw, {} packed, {ratio}, in {:.2} s\n",
            output.display(),
            format_bytes(row.raw_bytes),
            format_bytes(row.packed_bytes),
            row.seconds,
        ))
    }
}

pub(super) fn run(args: &PackArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let output = args.output.clone().unwrap_or_else(|| {
        let mut name = args.input.clone().into_os_string();
        name.push(format!(".{SUFFIX}"));
        PathBuf::from(name)
    });
    args.files.check_free(&output)?;
    let columns = args.layout.columns(&args.input)?;
    let runtime = args.files.runtime()?;
    let live = args.files.start(&runtime, "pack");
    let packed = on_threads(args.files.threads.map(|n| n as usize), || {
        pack(&args.input, &output, columns, &runtime, &live)
    });
    live.finish();
    args.files.commit(packed??)?;
    let reader = Reader::open(&output, &runtime, Secrecy::Secret)?;
    args.files.report(&runtime, &reader, (&output, &output), started)
}

/// Packs the columns of `input`, one after the other.
fn pack(
    input: &Path,
    output: &Path,
    columns: Vec<(Column, u64)>,
    runtime: &Runtime,
    live: &Live,
) -> Result<StagedFile, Failure> {
    let mut file = File::open(input).map_err(|why| cannot_read(input, &why))?;
    let (columns, lengths): (Vec<Column>, Vec<u64>) = columns.into_iter().unzip();
    let total: u64 = lengths.iter().sum();
    let widths: Vec<usize> = columns.iter().map(Column::element_bytes).collect();
    let step = |width: usize| STEP_BYTES.max(width) / width * width;
    let longest = widths.iter().map(|width| step(*width)).max().unwrap_or(STEP_BYTES);
    let mut buffer = runtime.vectors(Secrecy::Secret).zeroed::<u8>(longest)?;
    let mut writer = Writer::create(output, MODE, columns, runtime, Secrecy::Secret)?;
    let mut done = 0;
    for (number, (length, width)) in lengths.into_iter().zip(widths).enumerate() {
        let mut left = length;
        while left > 0 {
            let part = &mut buffer[..left.min(step(width) as u64) as usize];
            file.read_exact(part).map_err(|why| cannot_read(input, &why))?;
            writer.write(number, part)?;
            (left, done) = (left - part.len() as u64, done + part.len() as u64);
            live.advance(done as usize, total as usize);
        }
    }
    Ok(writer.finish()?)
}

pub(super) fn run_unpack(args: &UnpackArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let output = match &args.output {
        Some(output) => output.clone(),
        None if args.input.extension().is_some_and(|suffix| suffix == SUFFIX) => {
            args.input.with_extension("")
        }
        None => {
            let shown = args.input.display();
            let text = format!("{shown}: does not end in .{SUFFIX}; name the output too");
            return Err(Failure::Input(text));
        }
    };
    args.files.check_free(&output)?;
    let runtime = args.files.runtime()?;
    let reader = Reader::open(&args.input, &runtime, Secrecy::Secret)?;
    let live = args.files.start(&runtime, "unpack");
    let unpacked = on_threads(args.files.threads.map(|n| n as usize), || {
        unpack(&reader, &output, &runtime, &live)
    });
    live.finish();
    args.files.commit(unpacked??)?;
    args.files.report(&runtime, &reader, (&output, &args.input), started)
}

/// Bytes of all columns together, as far as 64 bits count them.
fn raw_bytes(reader: &Reader) -> u64 {
    let bytes = |(at, column): (usize, &Column)| {
        reader.elements(at).saturating_mul(column.element_bytes() as u64)
    };
    reader.columns().iter().enumerate().map(bytes).fold(0, u64::saturating_add)
}

/// Writes the columns of a packed file, one after the other.
fn unpack(
    reader: &Reader,
    output: &Path,
    runtime: &Runtime,
    live: &Live,
) -> Result<StagedFile, Failure> {
    let mut staged = StagedFile::begin(output, MODE).map_err(FileError::from)?;
    let widths: Vec<usize> = reader.columns().iter().map(Column::element_bytes).collect();
    let step = |width: usize| STEP_BYTES.max(width) / width;
    let longest = widths.iter().map(|width| step(*width) * width).max().unwrap_or(0);
    let mut buffer = runtime.vectors(Secrecy::Secret).zeroed::<u8>(longest)?;
    let total = raw_bytes(reader);
    let mut done = 0;
    for (number, width) in widths.into_iter().enumerate() {
        let elements = reader.elements(number);
        for start in (0..elements).step_by(step(width)) {
            let part = &mut buffer[..(elements - start).min(step(width) as u64) as usize * width];
            reader.read(number, start, part)?;
            staged.write_all(part).map_err(|why| {
                let shown = output.display();
                Failure::Input(format!("{shown}: cannot be written: {why}; choose another place"))
            })?;
            done += part.len();
            live.advance(done, total as usize);
        }
    }
    Ok(staged)
}
