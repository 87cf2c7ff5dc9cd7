//! `plimsoll prove --batch FILE`: many proofs with one key, as many at a time as fit.
//!
//! ```text
//!   FILE      a line a proof: WTNS DIR, or WTNS PROOF PUBLIC, with spaces or tabs between them;
//!             a line with a tab is cut at tabs only, so that names may have spaces
//!             empty lines and lines that begin with # are passed over
//!   output    a row a proof, in the order of the lines; with --json one object
//! ```
//!
//! A proof that fails, fails alone; the command then ends with the exit code of the first.

use super::args::ProveArgs;
use super::failure::Failure;
use super::files::{Outputs, keep_apart, open_witness};
use super::pictures::Pictures;
use super::proved::{Proved, finish, over_the_limit};
use super::random::Random;
use super::ranks::RankOf;
use super::report::{BatchReport, BatchRow, print, tell};
use ark_bn254::Fr;
use plimsoll::groth16::batch::{Batch, BatchJob};
use plimsoll::groth16::circom::json::write_proof_and_public;
use plimsoll::groth16::key::KeyFile;
use plimsoll::permit::Permit;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What reading a packed witness, one in JSON or a pipe takes besides its values.
const UNPACKING_BYTES: u64 = 4 << 20;

/// A proof of the batch.
struct BatchLine {
    wtns: PathBuf,
    out: Outputs,
}

/// What came of one.
struct Made {
    domain_size: usize,
    row: BatchRow,
}

/// Reads the lines of a batch, and makes sure that each has somewhere to write to.
fn read_lines(path: &Path) -> Result<Vec<BatchLine>, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|why| {
        Failure::Input(format!("{shown}: cannot be read: {why}; check the path and what it holds"))
    })?;
    let lines = text.trim_start_matches('\u{feff}').lines().zip(1..).filter(|(line, _)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    let lines: Vec<BatchLine> = lines
        .map(|(line, number)| {
            let words: Vec<&str> = match line.contains('\t') {
                true => line.split('\t').map(str::trim).filter(|word| !word.is_empty()).collect(),
                false => line.split_whitespace().collect(),
            };
            let (wtns, out) = match words[..] {
                [wtns, folder] => (wtns, Outputs::in_folder(Path::new(folder))?),
                [wtns, proof, public] => (wtns, Outputs::named(proof.into(), public.into())?),
                _ => {
                    return Err(Failure::Input(format!(
                        "{shown}: line {number} has {} words; write WTNS DIR or WTNS PROOF PUBLIC, \
                         with tabs between names that have spaces",
                        words.len()
                    )));
                }
            };
            Ok(BatchLine { wtns: wtns.into(), out })
        })
        .collect::<Result<_, _>>()?;
    if lines.is_empty() {
        return Err(Failure::Input(format!("{shown}: names no proof; write a line for each")));
    }
    Ok(lines)
}

pub(super) fn run(args: &ProveArgs, zkey: &Path, batch: &Path) -> Result<(), Failure> {
    let lines = read_lines(batch)?;
    let inputs = lines.iter().map(|line| &*line.wtns).chain([zkey, batch]);
    keep_apart(lines.iter().flat_map(|line| line.out.paths()), inputs)?;
    Pictures::check(args)?;
    // Proofs run beside each other on threads of their own, which share rayon's global pool.
    super::needs::global_threads(args.threads.map(|n| n as usize))?;
    let runtime = args.runtime(&RankOf::alone())?;
    let started = Instant::now();
    let mut pictures = Pictures::start(args, &runtime)?;
    let key = KeyFile::open_zkey(zkey)?;
    key.warnings().iter().for_each(|odd| tell(format_args!("warning: {odd}")));
    let is_told = !args.is_quiet();
    let waits = |index: usize| {
        if is_told {
            let shown = lines[index].wtns.display();
            tell(format_args!("{}/{} {shown}: waits for memory", index + 1, lines.len()));
        }
    };
    let made = Batch::new(&runtime, &key, None)?.on_wait(&waits);
    let mut made = made.with_room(room_for_witnesses(&lines, &key));
    if let Some(most) = args.at_once {
        made = made.at_most(most as usize);
    }
    let made = made.run(&lines, |job, line: &BatchLine| {
        let begun = Instant::now();
        let index = job.index;
        let made = prove_one(&job, &key, line, args.seed, begun);
        if is_told {
            let text = match &made {
                Ok(_) => format!("proved in {:.1} s", begun.elapsed().as_secs_f64()),
                Err(why) => format!("failed: {why}"),
            };
            tell(format_args!("{}/{} {}: {text}", index + 1, lines.len(), line.wtns.display()));
        }
        made
    });
    pictures.stop();
    runtime.reclaim_all();
    let peak_rss_bytes = runtime.meter().peak_rss_bytes().map_err(plimsoll::Error::from)?;
    pictures.write_or_warn(peak_rss_bytes, None);
    let mut first = None;
    let mut domain_size = 0;
    let rows: Vec<BatchRow> = made
        .into_iter()
        .zip(&lines)
        .map(|(made, line)| match made {
            Ok(made) => {
                domain_size = made.domain_size;
                made.row
            }
            Err(failure) => {
                let row = BatchRow::failed(&line.wtns, &failure);
                first.get_or_insert(failure);
                row
            }
        })
        .collect();
    let report = BatchReport {
        proofs: rows,
        limit_bytes: runtime.limit_bytes().unwrap_or(u64::MAX),
        limit_source: runtime.limit().map_or_else(String::new, |limit| limit.to_string()),
        peak_rss_bytes,
        over_limit: runtime.over_limit().0,
        wall_seconds: started.elapsed().as_secs_f64(),
        domain_size,
    };
    print(&if args.json { report.json()? } else { report.table() + &pictures.said() })?;
    match first {
        Some(failure) => Err(report.failure(&failure)),
        // The proofs are good, and the limit was not kept.
        None if peak_rss_bytes > report.limit_bytes => {
            Err(report.over_limit(&over_the_limit(peak_rss_bytes, report.limit_bytes)))
        }
        None => Ok(()),
    }
}

/// Returns the bytes that a witness of these takes before its proof is planned: nothing for a .wtns
/// file, which is read where it is; else all of it, and the buffers that it is unpacked with.
fn room_for_witnesses(lines: &[BatchLine], key: &KeyFile) -> u64 {
    let is_raw = |line: &BatchLine| {
        let mut magic = [0; 4];
        let is_file = std::fs::metadata(&line.wtns).is_ok_and(|about| about.is_file());
        let mut read = || File::open(&line.wtns)?.read_exact(&mut magic);
        is_file && read().is_ok() && &magic == b"wtns"
    };
    match lines.iter().all(is_raw) {
        true => 0,
        false => (key.variables() * size_of::<Fr>()) as u64 + UNPACKING_BYTES,
    }
}

fn prove_one(
    job: &BatchJob<'_>,
    key: &KeyFile,
    line: &BatchLine,
    seed: Option<u64>,
    begun: Instant,
) -> Result<Made, Failure> {
    let witness = open_witness(key, &line.wtns, job.runtime())?;
    let prover = job.prover()?;
    let assignment = prover.assign_witness(&witness)?;
    witness.warnings().iter().for_each(|odd| tell(format_args!("warning: {odd}")));
    drop(witness);
    // As if it were made alone: the same seed gives the same proof.
    let mut random = Random::new(seed);
    let Proved { proof, public, domain_size, .. } = finish(&prover, key, assignment, random.rng())?;
    random.wipe();
    write_proof_and_public(&line.out.proof, &proof, &line.out.public, &public)?;
    let row =
        BatchRow::made(&line.wtns, &line.out, begun.elapsed(), job.permit.map(Permit::report));
    Ok(Made { domain_size, row })
}
