//! `plimsoll prove --batch FILE`: many proofs with one key, as many at a time as fit.
//!
//! ```text
//!   FILE      a line a proof: WTNS DIR, or WTNS PROOF PUBLIC, with spaces or tabs between them;
//!             a line with a tab is cut at tabs only, so that names may have spaces
//!             empty lines and lines that begin with # are passed over
//!   output    a row a proof, in the order of the lines; with --json one object a line
//! ```
//!
//! A proof that fails, fails alone; the command then ends with the exit code of the first.

use super::args::ProveArgs;
use super::failure::Failure;
use super::files::{Outputs, open_witness};
use super::pictures::Pictures;
use super::proved::{Proved, finish, over_the_limit};
use super::random::Random;
use super::report::{BatchReport, BatchRow, print};
use plimsoll::Runtime;
use plimsoll::groth16::batch::{Batch, BatchJob};
use plimsoll::groth16::circom::json::write_proof_and_public;
use plimsoll::groth16::key::KeyFile;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

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
    let text = std::fs::read_to_string(path).map_err(|why| {
        Failure::Input(format!("{shown}: cannot be read: {why}; check the path and what it holds"))
    })?;
    let lines = text.lines().zip(1..).filter(|(line, _)| {
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
    let mut files: Vec<&Path> = lines.iter().flat_map(|line| line.out.paths()).collect();
    files.sort_unstable();
    if let Some(twice) = files.windows(2).find(|pair| pair[0] == pair[1]) {
        let twice = twice[0].display();
        return Err(Failure::Input(format!("{shown}: two proofs would be written to {twice}")));
    }
    Ok(lines)
}

pub(super) fn run(args: &ProveArgs, zkey: &Path, batch: &Path) -> Result<(), Failure> {
    let lines = read_lines(batch)?;
    Pictures::check(args)?;
    // Proofs run beside each other on threads of their own, which share rayon's global pool.
    super::needs::global_threads(args.threads.map(|n| n as usize))?;
    let runtime = args.runtime()?;
    let started = Instant::now();
    let mut pictures = Pictures::start(args, &runtime)?;
    let key = KeyFile::open_zkey(zkey)?;
    key.warnings().iter().for_each(|odd| eprintln!("warning: {odd}"));
    let mut made = Batch::new(&runtime, &key, None)?;
    if let Some(most) = args.at_once {
        made = made.at_most(most as usize);
    }
    let tell = !args.is_quiet();
    let made = made.run(&lines, |job, line: &BatchLine| {
        let begun = Instant::now();
        let index = job.index;
        let made = prove_one(&runtime, job, &key, line, args.seed, begun);
        if tell {
            let text = match &made {
                Ok(_) => format!("proved in {:.1} s", begun.elapsed().as_secs_f64()),
                Err(why) => format!("failed: {why}"),
            };
            let text = format!("{}/{} {}: {text}\n", index + 1, lines.len(), line.wtns.display());
            // Not `eprintln!`, which would panic where the reader has left.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        made
    });
    pictures.stop();
    runtime.reclaim_all();
    let peak_rss_bytes = runtime.meter().peak_rss_bytes().map_err(plimsoll::Error::from)?;
    pictures.write_or_warn(peak_rss_bytes);
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
        None => Ok(()),
    }
}

fn prove_one(
    runtime: &Runtime,
    job: BatchJob<'_>,
    key: &KeyFile,
    line: &BatchLine,
    seed: Option<u64>,
    begun: Instant,
) -> Result<Made, Failure> {
    let BatchJob { prover, permit, .. } = job;
    let witness = open_witness(key, &line.wtns, permit.runtime())?;
    let assignment = prover.assign_witness(&witness)?;
    witness.warnings().iter().for_each(|odd| eprintln!("warning: {odd}"));
    // As if it were made alone: the same seed gives the same proof.
    let mut random = Random::new(seed);
    let Proved { proof, public, domain_size } = finish(&prover, key, assignment, random.rng())?;
    random.wipe();
    let limit = runtime.limit_bytes().unwrap_or(u64::MAX);
    let peak = runtime.meter().peak_rss_bytes().map_err(plimsoll::Error::from)?;
    if peak > limit {
        return Err(over_the_limit(peak, limit));
    }
    write_proof_and_public(&line.out.proof, &proof, &line.out.public, &public)?;
    let row = BatchRow::made(&line.wtns, &line.out, begun.elapsed(), permit.report());
    Ok(Made { domain_size, row })
}
