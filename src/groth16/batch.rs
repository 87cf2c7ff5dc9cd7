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
//! the limit has no room for one proof in core, proofs are made out of core, one after the other,
//! each with all of the room: two of them would move more bytes than one after the other.
//!
//! Each job runs on a thread of its own, which works on rayon's global pool: while one proof is in
//! a part that only one thread can do, the others keep the pool busy.

use crate::Runtime;
use crate::groth16::error::ProveError;
use crate::groth16::key::KeyFile;
use crate::groth16::plan::{CHUNK_LEN_MAX, CHUNK_LEN_MIN, ProofPlan, Shape, THREAD_BYTES};
use crate::groth16::prover::Prover;
use crate::groth16::r1cs::MatrixFile;
use crate::permit::{Permit, Waiting};
use plimsoll_arena::process::Expected;
use plimsoll_arena::sync::unpoisoned;
use std::sync::Mutex;
use std::thread;

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
    _expected: Expected,
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
    /// Makes the proof, in the permit's runtime.
    pub prover: Prover<'a>,
    /// What it may hold, and what it held so far.
    pub permit: &'a Permit,
}

impl<'a> Batch<'a> {
    /// Plans proofs with `key`: with `matrices` for a key of arkworks, without for a zkey.
    ///
    /// # Errors
    ///
    /// Those of [`Prover::new`]: also one proof alone must fit.
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
        let (least, best) = match alone.split() {
            None => (in_core(CHUNK_LEN_MIN).vector_bytes(), in_core(CHUNK_LEN_MAX).vector_bytes()),
            Some(_) => (alone.vector_bytes(), usize::MAX >> 1),
        };
        let program = alone.base_bytes() + at_most.saturating_mul(THREAD_BYTES);
        Ok(Self {
            runtime,
            key,
            matrices,
            least_bytes: least as u64,
            best_bytes: best as u64,
            at_most,
            _expected: runtime.expect_foreign(program),
        })
    }

    /// Makes at most `proofs` at a time, at least one. As many as there are threads is the default:
    /// more would not end sooner.
    #[must_use]
    pub fn at_most(mut self, proofs: usize) -> Self {
        self.at_most = proofs.max(1);
        self
    }

    /// Takes a place among those who wait for a permit that is worth a proof.
    pub fn permit(&self, name: &str) -> Waiting {
        self.runtime.permit_async(name, self.least_bytes, self.best_bytes)
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
                done.push((index, self.one(index, waiting, &jobs[index], &prove)));
            }
            done
        };
        let mut done = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..self.at_most.min(jobs.len())).map(|_| scope.spawn(work)).collect();
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

    fn one<J, T, E: From<ProveError>>(
        &self,
        index: usize,
        waiting: Waiting,
        job: &J,
        prove: &impl Fn(BatchJob<'_>, &J) -> Result<T, E>,
    ) -> Result<T, E> {
        let permit = waiting.wait().map_err(ProveError::from)?;
        let prover = Prover::new(permit.runtime(), self.key, self.matrices)?;
        prove(BatchJob { index, prover, permit: &permit }, job)
    }
}
