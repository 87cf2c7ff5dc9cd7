//! Ranks that are processes of MPI: `mpirun`, `srun`, an `MPIJob`.
//!
//! ```text
//!   the prover's threads --- a pass, with its buffers ---> the thread that talks --> the library
//!                        <-- the buffers, and a length ---
//! ```
//!
//! MPI is told that one thread talks (`MPI_THREAD_FUNNELED`): the one that started the library,
//! which does nothing else. A message is copied into a buffer that goes to that thread and comes
//! back; the buffers are kept, and wiped when the rank is dropped. What the library and the
//! network's drivers keep of a message is theirs, and memory that is counted as the program's own.
//!
//! A rank that dies takes the job with it: that is what the launcher does. A message that is longer
//! than was expected is an error of the library, which ends the job, too.
//!
//! It must never call the library from another thread, nor start it twice.

use super::error::ExchangeError;
use super::exchange::{Exchange, Local, MESSAGE_BYTES_MAX};
use ::mpi::environment::Threading;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, Destination, Equivalence, Source};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use zeroize::Zeroizing;

/// A pass, with the buffers of both directions.
#[derive(Default)]
struct Errand {
    to: Option<usize>,
    from: Option<usize>,
    out: Zeroizing<Vec<u8>>,
    back: Zeroizing<Vec<u8>>,
    received: usize,
}

/// What the library says when it has started: this rank, all of them, and those of this machine.
type Places = (Local, Local);

/// A rank that is a process of MPI.
pub struct Mpi {
    world: Local,
    local: Local,
    errands: Option<SyncSender<Errand>>,
    done: Receiver<Errand>,
    talker: Option<JoinHandle<()>>,
    /// The buffers, between two passes.
    idle: Errand,
    sent_bytes: u64,
}

impl std::fmt::Debug for Mpi {
    /// Leaves the messages out: they may be a witness.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mpi").field("world", &self.world).finish_non_exhaustive()
    }
}

impl Mpi {
    /// Starts the library. All ranks of the job must do so, once.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Start`] when it was started before, or a thread cannot be had.
    pub fn start() -> Result<Self, ExchangeError> {
        let (errands, asked) = sync_channel(1);
        let (answers, done) = sync_channel(1);
        let (places, started) = sync_channel(1);
        let spawned = std::thread::Builder::new()
            .name("ranks".to_owned())
            .spawn(move || talk(&places, &asked, &answers));
        let not_started = |why: String| ExchangeError::Start { why };
        let talker = spawned.map_err(|why| not_started(why.to_string()))?;
        let Ok((world, local)) = started.recv() else {
            return Err(not_started("MPI is started already in this process".to_owned()));
        };
        let (errands, talker) = (Some(errands), Some(talker));
        let mut idle = Errand::default();
        // A buffer that grew would leave a copy behind.
        idle.out.reserve_exact(MESSAGE_BYTES_MAX);
        idle.back.reserve_exact(MESSAGE_BYTES_MAX);
        Ok(Self { world, local, errands, done, talker, idle, sent_bytes: 0 })
    }

    fn check(&self, rank: Option<usize>) -> Result<(), ExchangeError> {
        let ranks = self.world.ranks;
        match rank.filter(|rank| *rank >= ranks) {
            Some(rank) => Err(ExchangeError::NoSuchRank { rank, ranks }),
            None => Ok(()),
        }
    }
}

impl Exchange for Mpi {
    fn rank(&self) -> usize {
        self.world.rank
    }

    fn ranks(&self) -> usize {
        self.world.ranks
    }

    fn local(&self) -> Local {
        self.local
    }

    fn pass(
        &mut self,
        to: Option<(usize, &[u8])>,
        from: Option<(usize, &mut [u8])>,
    ) -> Result<usize, ExchangeError> {
        self.check(to.map(|to| to.0))?;
        self.check(from.as_ref().map(|from| from.0))?;
        let message = to.map_or(&[][..], |to| to.1);
        let room = from.as_ref().map_or(0, |from| from.1.len());
        let (rank, expected, found) = (self.world.rank, MESSAGE_BYTES_MAX, message.len().max(room));
        if found > expected {
            return Err(ExchangeError::Length { rank, expected, found });
        }
        let mut errand = std::mem::take(&mut self.idle);
        (errand.to, errand.from) = (to.map(|to| to.0), from.as_ref().map(|from| from.0));
        errand.out.clear();
        errand.out.extend_from_slice(message);
        errand.back.resize(room, 0);
        let ended = || ExchangeError::Start { why: "the thread that talks has ended".to_owned() };
        let errands = self.errands.as_ref().ok_or_else(ended)?;
        errands.send(errand).map_err(|_| ended())?;
        let errand = self.done.recv().map_err(|_| ended())?;
        self.sent_bytes += message.len() as u64;
        let received = errand.received;
        if let Some((_, buffer)) = from {
            buffer[..received].copy_from_slice(&errand.back[..received]);
        }
        self.idle = errand;
        Ok(received)
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }
}

impl Drop for Mpi {
    /// Ends the library, which waits for the other ranks to do so.
    fn drop(&mut self) {
        self.errands = None;
        if let Some(talker) = self.talker.take() {
            let _ = talker.join();
        }
    }
}

/// The life of the thread that talks: from the start of the library to its end.
fn talk(places: &SyncSender<Places>, asked: &Receiver<Errand>, answers: &SyncSender<Errand>) {
    let Some((universe, _)) = ::mpi::initialize_with_threading(Threading::Funneled) else {
        return;
    };
    let world = universe.world();
    let near = world.split_shared(world.rank());
    let place = |of: &SimpleCommunicator| Local {
        rank: usize::try_from(of.rank()).unwrap_or(0),
        ranks: usize::try_from(of.size()).unwrap_or(1),
    };
    if places.send((place(&world), place(&near))).is_err() {
        return;
    }
    drop(near);
    for mut errand in asked {
        errand.received = run(&world, &mut errand);
        if answers.send(errand).is_err() {
            break;
        }
    }
}

/// Sends and receives; returns the bytes received.
fn run(world: &SimpleCommunicator, errand: &mut Errand) -> usize {
    let Errand { to, from, out, back, .. } = errand;
    // Ranks of MPI are `i32`: those of a job fit.
    let process = |rank: usize| world.process_at_rank(i32::try_from(rank).unwrap_or(i32::MAX));
    let status = match (*to, *from) {
        (Some(to), Some(from)) => ::mpi::point_to_point::send_receive_into(
            &out[..],
            &process(to),
            &mut back[..],
            &process(from),
        ),
        (None, Some(from)) => process(from).receive_into(&mut back[..]),
        (Some(to), None) => {
            process(to).send(&out[..]);
            return 0;
        }
        (None, None) => return 0,
    };
    usize::try_from(status.count(u8::equivalent_datatype())).unwrap_or(0).min(back.len())
}
