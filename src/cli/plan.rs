//! `plimsoll plan`.

use super::args::PlanArgs;
use super::failure::Failure;
use super::keys::KeyPaths;
use super::needs::on_threads;
use super::ranks::MPI_BYTES;
use super::report::{PlanReport, print};
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::plan::{ProofPlan, Shape, used_bytes};
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::ntt::Ranks;

/// The size planned for when none is named.
const DEFAULT_CONSTRAINTS: u64 = 1 << 20;

pub(super) fn run(args: &PlanArgs) -> Result<(), Failure> {
    let (shape, what) = shape(args)?;
    let ranks = Ranks { count: args.ranks as usize, ..Ranks::ALONE };
    let library_bytes = if ranks.count > 1 { MPI_BYTES } else { 0 };
    let runtime = args.spill.runtime(args.limit, None, library_bytes)?;
    on_threads(args.threads.map(|n| n as usize), || {
        let threads = rayon::current_num_threads();
        let used = used_bytes(&runtime, threads)?;
        let can_spill = runtime.can_spill();
        let smallest = ProofPlan::smallest_of_ranks(&shape, [used, threads], can_spill, ranks);
        let smallest = smallest.map_err(ProveError::from)?;
        let fitted = ProofPlan::for_ranks(&shape, &runtime, ranks);
        let report = PlanReport {
            what,
            shape: &shape,
            plan: fitted.as_ref().unwrap_or(&smallest),
            smallest_limit_bytes: smallest.fits_bytes(can_spill) as u64,
            limit_bytes: runtime.limit_bytes().map(|bytes| bytes as usize),
            can_pack: args.spill.can_pack(),
        };
        print(&if args.json { report.json()? } else { report.table() })?;
        fitted.map(|_| ()).map_err(Failure::from)
    })?
}

/// The sizes to plan for, and what they are of.
fn shape(args: &PlanArgs) -> Result<(Shape, String), Failure> {
    if let Some(zkey) = &args.target.zkey {
        let what = format!("the circom key {}", zkey.display());
        return Ok((Shape::of(&KeyFile::open_zkey(zkey)?, None), what));
    }
    if let Some(compressions) = args.target.compressions {
        let paths = KeyPaths::of(compressions, args.key_dir.as_deref())?;
        if !paths.exist() {
            return Err(Failure::Input(format!(
                "no key for {compressions} compressions; make it with `plimsoll setup \
                 --compressions {compressions}`"
            )));
        }
        let key = KeyFile::open_arkworks(&paths.key)?;
        let matrices = MatrixFile::open(&paths.matrices).map_err(ProveError::from)?;
        let what = format!("the built-in circuit, {compressions} SHA-256 compressions");
        return Ok((Shape::of(&key, Some(&matrices)), what));
    }
    let what = match args.target.constraints {
        Some(constraints) => format!("an arkworks circuit of {constraints} constraints"),
        None => format!(
            "an arkworks circuit of {DEFAULT_CONSTRAINTS} constraints; name yours with \
             --constraints, --zkey or --compressions"
        ),
    };
    let constraints = args.target.constraints.unwrap_or(DEFAULT_CONSTRAINTS);
    Ok((Shape::of_constraints(constraints as usize), what))
}
