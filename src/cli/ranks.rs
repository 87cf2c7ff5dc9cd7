//! This process among the ranks of a job: `mpirun -n 4 plimsoll prove ...`.
//!
//! ```text
//!   launched alone            one rank, nothing of MPI is started
//!   launched as one of many   built with feature `mpi`: a rank of one proof
//!                             built without: an error, not as many proofs as there are processes
//! ```
//!
//! Whatever may fail on one rank only, such as a file or a folder of its machine, goes through
//! [`RankOf::all`]: all ranks end with the one error, which names the rank. Rank 0 tells it.
//!
//! Must never: start MPI in a process that no launcher of MPI started.

use super::failure::Failure;
use plimsoll::groth16::error::ProveError;
use plimsoll::ranks::{Alone, Exchange, ExchangeError, Refusal, RefusalKind};
use plimsoll_arena::process::variable;

/// What launchers call the number of processes of a job: Open MPI, MPICH and Intel's, MVAPICH2, and
/// Slurm's `srun`.
const SIZES: [&str; 4] =
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"];

/// What a library of MPI comes to use in a process, its buffers and two messages included: 12 MiB
/// were measured when it has started, and some 5 more for messages (Open MPI 4.1, shared memory).
pub(super) const MPI_BYTES: u64 = 20 << 20;

/// The processes that a launcher started together with this one; one without a launcher.
fn launched() -> usize {
    let number = |name| std::str::from_utf8(variable(name)?).ok()?.trim().parse().ok();
    SIZES.into_iter().filter_map(number).max().unwrap_or(1)
}

/// This process's way to the others.
pub(super) struct RankOf(Box<dyn Exchange>);

impl RankOf {
    /// Joins the job that this process was launched in.
    pub(super) fn join() -> Result<Self, Failure> {
        match launched() {
            0 | 1 => Ok(Self::alone()),
            count => many(count),
        }
    }

    /// The only rank, whoever launched it.
    pub(super) fn alone() -> Self {
        Self(Box::new(Alone))
    }

    /// Fails where this process is one of many: `what` is made by one process.
    pub(super) fn refuse(what: &str) -> Result<(), Failure> {
        match launched() {
            0 | 1 => Ok(()),
            count => Err(Failure::Input(format!(
                "this is one of {count} processes of a job, and {what} is made by one: start it \
                 without `mpirun` or `srun`"
            ))),
        }
    }

    pub(super) fn exchange(&mut self) -> &mut dyn Exchange {
        &mut *self.0
    }

    pub(super) fn is_first(&self) -> bool {
        self.0.rank() == 0
    }

    /// How many ranks there are.
    pub(super) fn count(&self) -> usize {
        self.0.ranks()
    }

    /// How many of them are on this machine.
    pub(super) fn local_count(&self) -> usize {
        self.0.local().ranks.max(1)
    }

    /// Bytes that talking to the others takes.
    pub(super) fn library_bytes(&self) -> u64 {
        if self.count() > 1 { MPI_BYTES } else { 0 }
    }

    /// Returns `mine` if no rank has a failure, and the failure of the lowest that has one
    /// otherwise.
    pub(super) fn all<T>(&mut self, mine: Result<T, Failure>) -> Result<T, Failure> {
        if self.count() == 1 {
            return mine;
        }
        let told = match &mine {
            Ok(_) => Ok(()),
            // All have it.
            Err(Failure::Prove(ProveError::Ranks(_))) => return mine,
            Err(failure) => Err(failure.refusal(self.0.rank())),
        };
        match self.0.agree(told) {
            Ok(()) => mine,
            Err(error) => Err(ProveError::from(error).into()),
        }
    }

    /// Gives all ranks the bytes of rank 0.
    pub(super) fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<(), Failure> {
        Ok(self.0.broadcast(bytes).map_err(ProveError::from)?)
    }

    /// Brings the bytes of all ranks to rank 0, in order.
    pub(super) fn gather(&mut self, bytes: &[u8]) -> Result<Option<Vec<Vec<u8>>>, Failure> {
        Ok(self.0.gather(bytes).map_err(ProveError::from)?)
    }
}

#[cfg(feature = "mpi")]
fn many(count: usize) -> Result<RankOf, Failure> {
    let mpi = plimsoll::ranks::Mpi::start().map_err(ProveError::from)?;
    let found = mpi.ranks();
    if found == count {
        return Ok(RankOf(Box::new(mpi)));
    }
    Err(Failure::Input(format!(
        "the launcher started {count} processes, and this program's MPI sees {found}: start it \
         with the launcher of the library that it was built with; `srun --mpi=list` says which \
         srun knows"
    )))
}

#[cfg(not(feature = "mpi"))]
fn many(count: usize) -> Result<RankOf, Failure> {
    Err(Failure::Input(format!(
        "this is one of {count} processes of a job, and this `plimsoll` was built without MPI, so \
         each would make the whole proof: build it with `cargo install plimsoll-cli --features \
         mpi`, or start it without `mpirun` or `srun`"
    )))
}

impl Failure {
    /// What a rank tells the others of it.
    fn refusal(&self, rank: usize) -> Refusal {
        let kind = match self {
            Self::Prove(error) if error.is_short_of_memory() => RefusalKind::Memory,
            Self::NoProof(_) => RefusalKind::Memory,
            _ if self.exit_code() == super::failure::EXIT_NO_PROOF => RefusalKind::Witness,
            _ => RefusalKind::Input,
        };
        Refusal { rank, kind, why: self.to_string() }
    }

    /// Says whether every rank has this failure, so that one tells it.
    pub(super) fn is_of_all(&self) -> bool {
        matches!(self, Self::Prove(ProveError::Ranks(ExchangeError::Refused(_))))
    }
}
