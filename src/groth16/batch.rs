//! Many proofs with one key: as many at a time as the limit allows, each under a permit.
//!
//! ```text
//!   jobs   0 1 2 3 4 ...        handed out in order
//!   time   |-- 0 --|-- 2 --|
//!          |-- 1 ----|- 3 -|-   a permit ends, the next job begins
//! ```
//!
//! Key and matrices are open once, and shared. A proof that fails, fails alone: its permit goes
//! back, and the others go on.
//!
//! A permit is worth the vectors of a proof in core, with chunks as large as there is room for. If
//! the limit has no room for two proofs in core, they are made one after the other without permits,
//! each with all of the room, out of core where it must: two would move more bytes than one. Where
//! processes share a limit that has no room for one in core, a permit is worth what a proof takes
//! out of core, up to all that there is.
//!
//! Each job runs on a thread of its own, which works on rayon's global pool: while one proof is in
//! a part that only one thread can do, the others keep the pool busy.

use crate::Runtime;
use crate::error::Error;
use crate::groth16::error::ProveError;
use crate::groth16::key::KeyFile;
use crate::groth16::plan::{CHUNK_LEN_MAX, CHUNK_LEN_MIN, ProofPlan, Shape, used_bytes};
use crate::groth16::prover::Prover;
use crate::groth16::r1cs::MatrixFile;
use crate::permit::{Permit, SharedLimit, Waiting};
use plimsoll_arena::process::Expected;
use plimsoll_arena::sync::unpoisoned;
use std::sync::Mutex;
use std::thread;

/// What a proof under a permit takes besides: a thread, its heap arena, the tables of a runtime.
/// Measured as 0.15 to 0.2 MiB for a small circuit, of which the permit has half, with 2 threads
/// and with 4. Where 8 share 2 cores, foreign bytes are seen late: 0.25 MiB for each were too few.
/// Code that is not optimised has larger stacks.
const JOB_BYTES: usize = if cfg!(debug_assertions) { 768 << 10 } else { 512 << 10 };

/// Proofs made at a time for each thread, at most: they share rayon's threads, so that more would
/// only hold memory. What leaves cores idle is serial, and four hide it.
const PROOFS_A_THREAD_MAX: usize = 4;

/// Proofs of one key under one runtime's limit.
pub struct Batch<'a> {
    runtime: &'a Runtime,
    key: &'a KeyFile,
    matrices: Option<&'a MatrixFile>,
    /// Bytes of a permit, at least and at best.
    least_bytes: u64,
    best_bytes: u64,
    at_most: usize,
    /// What the plan allows the program itself, once for all proofs.
    program_bytes: usize,
    /// A permit is for a proof out of core: one has all of the room.
    is_out_of_core: bool,
    /// Hears of a proof that waits.
    waits: Option<&'a (dyn Fn(usize) + Sync)>,
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("least_bytes", &self.least_bytes)
            .field("best_bytes", &self.best_bytes)
            .field("at_most", &self.at_most)
            .finish_non_exhaustive()
    }
}

/// A proof of a batch, in the hands of whoever makes it.
#[derive(Debug)]
pub struct BatchJob<'a> {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// What it may hold, and what it held so far, if it is not made alone.
    pub permit: Option<&'a Permit>,
    batch: &'a Batch<'a>,
}

impl<'a> BatchJob<'a> {
    /// Returns the runtime that the proof is made in: the permit's, or that of the batch.
    #[must_use]
    pub fn runtime(&self) -> &'a Runtime {
        self.permit.map_or(self.batch.runtime, Permit::runtime)
    }

    /// Plans the proof in its runtime, beside what is held there by now.
    ///
    /// # Errors
    ///
    /// Those of [`Prover::new`].
    pub fn prover(&self) -> Result<Prover<'a>, ProveError> {
        Prover::new(self.runtime(), self.batch.key, self.batch.matrices)
    }
}

impl<'a> Batch<'a> {
    /// Plans proofs with `key`: with `matrices` for a key of arkworks, without for a zkey.
    ///
    /// # Errors
    ///
    /// Those of [`Prover::new`]: also one proof alone must fit, and where a limit is shared with
    /// other processes it must fit beside nothing else.
    pub fn new(
        runtime: &'a Runtime,
        key: &'a KeyFile,
        matrices: Option<&'a MatrixFile>,
    ) -> Result<Self, ProveError> {
        // One alone says what is wrong with the files, and whether it fits.
        let alone = Prover::new(runtime, key, matrices)?.plan().clone();
        let at_most = rayon::current_num_threads();
        let shape = Shape::of(key, matrices);
        let in_core = |chunk_len| ProofPlan::in_core(&shape, 0, chunk_len, alone.threads());
        let (mut least, mut best) =
            (in_core(CHUNK_LEN_MIN).vector_bytes(), in_core(CHUNK_LEN_MAX).vector_bytes());
        let shared = runtime.shared_limit().map_or(u64::MAX, SharedLimit::limit_bytes);
        let limit = runtime.limit_bytes().unwrap_or(u64::MAX).min(shared);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let needed = |base: usize, least: usize| base.saturating_add(JOB_BYTES + least);
        let (mut base, mut is_out_of_core) = (alone.base_bytes(), false);
        if runtime.shared_limit().is_some() && needed(base, least) > limit {
            let used = used_bytes(runtime, alone.threads())?;
            let spilling = ProofPlan::smallest(&shape, used, alone.threads(), runtime.can_spill());
            is_out_of_core = spilling.split().is_some();
            (base, least) = (spilling.base_bytes(), spilling.vector_bytes());
            best = limit.saturating_sub(needed(base, 0)).max(least);
            // Over what processes share, the permit is refused, which names that limit.
            let own = runtime.limit_bytes().unwrap_or(u64::MAX);
            let missing = (needed(base, least) as u64).saturating_sub(own);
            if missing > 0 {
                return Err(runtime.does_not_fit("proof", least as u64, missing).into());
            }
        }
        Ok(Self {
            runtime,
            key,
            matrices,
            least_bytes: least as u64,
            best_bytes: best as u64,
            at_most,
            program_bytes: base,
            is_out_of_core,
            waits: None,
        })
    }

    /// Makes at most `proofs` at a time, at least one, and never more than four for each thread. As
    /// many as there are threads is the default: more would not end sooner.
    #[must_use]
    pub fn at_most(mut self, proofs: usize) -> Self {
        let most = rayon::current_num_threads().saturating_mul(PROOFS_A_THREAD_MAX);
        self.at_most = proofs.clamp(1, most);
        self
    }

    /// Gives each proof `bytes` besides, for a witness that is in memory before the proof is
    /// planned, in [the job's runtime](BatchJob::runtime).
    #[must_use]
    pub fn with_room(mut self, bytes: u64) -> Self {
        self.least_bytes = self.least_bytes.saturating_add(bytes);
        self.best_bytes = self.best_bytes.saturating_add(bytes);
        self
    }

    /// Calls `waits` with the place of a proof in the batch when it must wait for its permit.
    #[must_use]
    pub fn on_wait(mut self, waits: &'a (dyn Fn(usize) + Sync)) -> Self {
        self.waits = Some(waits);
        self
    }

    /// Returns how many proofs of `jobs` are made at a time: as many as fit with a thread each.
    fn workers(&self, jobs: usize) -> usize {
        if self.is_out_of_core {
            return 1;
        }
        let shared = self.runtime.shared_limit().map_or(u64::MAX, SharedLimit::limit_bytes);
        let limit = self.runtime.limit_bytes().unwrap_or(u64::MAX).min(shared);
        let room = limit.saturating_sub(self.program_bytes as u64);
        let fit = room / self.least_bytes.saturating_add(JOB_BYTES as u64);
        self.at_most.min(jobs).min(usize::try_from(fit).unwrap_or(usize::MAX).max(1))
    }

    /// Announces what the program and the jobs at work will hold besides vectors.
    fn expect_program(&self, workers: usize) -> Expected {
        let jobs = workers.saturating_mul(JOB_BYTES);
        self.runtime.expect_foreign(self.program_bytes.saturating_add(jobs))
    }

    /// Makes one proof: waits for a permit that is worth it, and calls `prove` with it on this
    /// thread. Calls `waits` before it waits.
    ///
    /// # Errors
    ///
    /// What the permit or `prove` says.
    pub fn one<T, E: From<ProveError>>(
        &self,
        waits: impl FnOnce(),
        prove: impl FnOnce(BatchJob<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _expected = self.expect_program(1);
        let permit = granted(self.permit("proof"), waits).map_err(ProveError::from)?;
        prove(BatchJob { index: 0, permit: Some(&permit), batch: self })
    }

    /// Takes a place among those who wait for a permit that is worth a proof.
    fn permit(&self, name: &str) -> Waiting {
        self.runtime.permit_async(name, self.least_bytes, self.best_bytes).line_up()
    }

    /// Runs `prove` for each of `jobs`, and returns what came of them, in their order. `prove` is
    /// called in order, too, as soon as a permit is granted, on several threads.
    ///
    /// # Panics
    ///
    /// When `prove` does, after the other proofs have ended.
    pub fn run<J, T, E>(
        &self,
        jobs: &[J],
        prove: impl Fn(BatchJob<'_>, &J) -> Result<T, E> + Sync,
    ) -> Vec<Result<T, E>>
    where
        J: Sync,
        T: Send,
        E: From<ProveError> + Send,
    {
        let workers = self.workers(jobs.len());
        if workers <= 1 && self.runtime.shared_limit().is_none() {
            let alone = |index| BatchJob { index, permit: None, batch: self };
            return jobs.iter().enumerate().map(|(index, job)| prove(alone(index), job)).collect();
        }
        let _expected = self.expect_program(workers);
        let next = Mutex::new(0..jobs.len());
        // The place in the queue is taken with the job, so that permits come in the jobs' order.
        let take = || -> Option<(usize, Waiting)> {
            let mut next = unpoisoned(next.lock());
            let index = next.next()?;
            Some((index, self.permit(&format!("proof {index}"))))
        };
        let work = || {
            let mut done = Vec::new();
            while let Some((index, waiting)) = take() {
                let waits = || self.waits.iter().for_each(|tell| tell(index));
                let permit = granted(waiting, waits).map_err(ProveError::from);
                let made = permit.map_err(E::from).and_then(|permit| {
                    prove(BatchJob { index, permit: Some(&permit), batch: self }, &jobs[index])
                });
                done.push((index, made));
            }
            done
        };
        let mut done = thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(|worker| worker.join());
            // All have ended before a panic goes on.
            let joined: Vec<_> = joined.collect();
            let mut done = Vec::with_capacity(jobs.len());
            for ended in joined {
                done.extend(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        });
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

/// Waits for a permit, and calls `waits` first if it is not to be had at once.
fn granted(mut waiting: Waiting, waits: impl FnOnce()) -> Result<Permit, Error> {
    if let Some(permit) = waiting.try_now() {
        return permit;
    }
    waits();
    waiting.wait()
}
