//! Why there is no pager, and what helps, where that is known.

use nix::libc;
use plimsoll_arena::os::OsError;

use super::planning::{PlanError, PlanUse};
use super::probe::Obstacle;
use super::space::Refused;
use crate::Error;

/// Why there is no pager.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The kernel does not let us.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    /// The kernel refuses memory or addresses.
    #[error(transparent)]
    Os(#[from] OsError),
    /// Another call failed.
    #[error(
        "{call} failed with OS error {errno} while the pager was made; look at the limits \
             of the process (`ulimit -a`) and of its cgroup"
    )]
    Call {
        /// The system call.
        call: &'static str,
        /// Its error number.
        errno: i32,
    },
    /// The spill file cannot be had.
    #[error(transparent)]
    Spill(#[from] Error),
    /// A number that makes no sense.
    #[error("{what} is {bytes} bytes; it must be at least {least_bytes}")]
    TooSmall {
        /// range, budget or quota.
        what: &'static str,
        /// What was asked for.
        bytes: u64,
        /// The least there can be.
        least_bytes: u64,
    },
    /// What the process maps is locked in memory.
    #[error(
        "the process locks what it maps (mlockall with MCL_FUTURE), so nothing of it can leave \
         memory; lock single vectors instead (mlock), or raise the limit above what is needed"
    )]
    Locked,
    /// The plan that is to be followed or made cannot be had.
    #[error("no plan: {}: {why}", wanted.path().display())]
    Plan {
        /// What was asked for.
        wanted: PlanUse,
        /// Why not.
        why: PlanError,
    },
    /// Neither a folder nor a backend was named.
    #[error("the pager has nowhere to write: name a spill folder on a disk")]
    NoFile,
}

impl BuildError {
    /// Whether a smaller range may do: addresses, memory or threads are short.
    pub(super) fn is_lack_of_room(&self) -> bool {
        match self {
            Self::Os(OsError { errno, .. }) | Self::Call { errno, .. } => {
                [libc::ENOMEM, libc::EAGAIN].contains(errno)
            }
            _ => false,
        }
    }
}

impl From<Refused> for BuildError {
    fn from(why: Refused) -> Self {
        match why {
            Refused::Os(why) => Self::Os(why),
            Refused::Call(call, errno) => Self::Call { call, errno },
        }
    }
}
