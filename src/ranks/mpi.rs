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
use super::exchange::{Exchange, Local, MESSAGE_BYTES_MAX, TOLD_BYTES_MAX};
use ::mpi::environment::Threading;
use ::mpi::point_to_point::Status;
use ::mpi::request::WaitGuard;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, Destination, Equivalence, Source};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use zeroize::Zeroizing;

/// What the thread that talks is to do.
#[derive(Clone, Copy)]
enum Ask {
    /// Send to a rank and receive from one; either may be left out.
    Pass { to: Option<usize>, from: Option<usize> },
    /// Send to every other rank and receive from every other.
    TellAll,
    /// See whether a message of more than so many bytes waits.
    Look(usize),
}

/// What is asked for, with the buffers of both directions.
struct Errand {
    ask: Ask,
    out: Zeroizing<Vec<u8>>,
    back: Zeroizing<Vec<u8>>,
    /// Bytes received; of a look, whether there was a message.
    received: usize,
    /// What the other ranks told, with their numbers.
    heard: Vec<(usize, Vec<u8>)>,
}

impl Default for Errand {
    fn default() -> Self {
        let ask = Ask::Pass { to: None, from: None };
        let (out, back) = Default::default();
        Self { ask, out, back, received: 0, heard: Vec::new() }
    }
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

    /// Has the thread that talks run an errand.
    fn send(&self, errand: Errand) -> Result<Errand, ExchangeError> {
        let ended = || ExchangeError::Start { why: "the thread that talks has ended".to_owned() };
        let errands = self.errands.as_ref().ok_or_else(ended)?;
        errands.send(errand).map_err(|_| ended())?;
        self.done.recv().map_err(|_| ended())
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
        errand.ask = Ask::Pass { to: to.map(|to| to.0), from: from.as_ref().map(|from| from.0) };
        errand.out.clear();
        errand.out.extend_from_slice(message);
        errand.back.resize(room, 0);
        let errand = self.send(errand)?;
        self.sent_bytes += message.len() as u64;
        let received = errand.received;
        if let Some((_, buffer)) = from {
            buffer[..received].copy_from_slice(&errand.back[..received]);
        }
        self.idle = errand;
        Ok(received)
    }

    fn tell_all(
        &mut self,
        told: &[u8],
        hear: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), ExchangeError> {
        let (rank, expected, found) = (self.world.rank, TOLD_BYTES_MAX, told.len());
        if found > expected {
            return Err(ExchangeError::Length { rank, expected, found });
        }
        let mut errand = std::mem::take(&mut self.idle);
        errand.ask = Ask::TellAll;
        errand.out.clear();
        errand.out.extend_from_slice(told);
        let errand = self.send(errand)?;
        self.sent_bytes += (found * (self.world.ranks - 1)) as u64;
        errand.heard.iter().for_each(|(from, heard)| hear(*from, heard));
        self.idle = errand;
        Ok(())
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    fn has_longer_than(&mut self, len: usize) -> bool {
        let mut errand = std::mem::take(&mut self.idle);
        errand.ask = Ask::Look(len);
        // A thread that has ended shows at the next pass.
        let Ok(errand) = self.send(errand) else { return false };
        let found = errand.received > 0;
        self.idle = errand;
        found
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

/// Runs an errand; returns the bytes received, or whether a look found something.
fn run(world: &SimpleCommunicator, errand: &mut Errand) -> usize {
    let Errand { ask, out, back, heard, .. } = errand;
    // Ranks of MPI are `i32`: those of a job fit.
    let process = |rank: usize| world.process_at_rank(i32::try_from(rank).unwrap_or(i32::MAX));
    let status = match *ask {
        Ask::Pass { to: Some(to), from: Some(from) } => ::mpi::point_to_point::send_receive_into(
            &out[..],
            &process(to),
            &mut back[..],
            &process(from),
        ),
        Ask::Pass { to: None, from: Some(from) } => process(from).receive_into(&mut back[..]),
        Ask::Pass { to: Some(to), from: None } => {
            process(to).send(&out[..]);
            return 0;
        }
        Ask::Pass { to: None, from: None } => return 0,
        Ask::TellAll => {
            *heard = tell_all(world, out);
            return 0;
        }
        Ask::Look(len) => {
            let waits = |rank| {
                let found = world.process_at_rank(rank).immediate_probe();
                found.is_some_and(|found| byte_count(found) > len)
            };
            return usize::from((0..world.size()).any(waits));
        }
    };
    byte_count(status).min(back.len())
}

/// Sends to all others at once, and receives what each of them sends. No send waits for a receive
/// of another rank, so all ranks come to their receives.
fn tell_all(world: &SimpleCommunicator, told: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let others = || (0..world.size()).filter(|rank| *rank != world.rank());
    ::mpi::request::scope(|scope| {
        let send = |to| world.process_at_rank(to).immediate_send(scope, told);
        // They are waited for when they are dropped.
        let _sends: Vec<_> = others().map(|to| WaitGuard::from(send(to))).collect();
        let mut heard = [0; TOLD_BYTES_MAX];
        let receive = |from| {
            let status = world.process_at_rank(from).receive_into(&mut heard[..]);
            let len = byte_count(status).min(heard.len());
            (usize::try_from(from).unwrap_or(0), heard[..len].to_vec())
        };
        others().map(receive).collect()
    })
}

fn byte_count(status: Status) -> usize {
    usize::try_from(status.count(u8::equivalent_datatype())).unwrap_or(0)
}
