//! The sums of a proof: the quotient, and five queries of the key that stream by.
//!
//! Alone a prover has all points; of several ranks each has a piece of the line of those that go
//! with variables (`plan/ranks.rs`), and of H those whose scalars its quotient left here. Queries
//! are read at the place where they are needed: nobody reads another rank's points.
//!
//! Must never: hold more of a query than a chunk.

use super::{Prover, fingerprint};
use crate::groth16::assignment::Assignment;
use crate::groth16::error::ProveError;
use crate::groth16::file_error::FileError;
use crate::groth16::key::{KeyKind, Query};
use crate::groth16::partial::Sums;
use crate::groth16::plan::{Shape, StageName};
use crate::groth16::quotient::{self, Source};
use crate::groth16::scalars::{PointSpan, Scalars};
use crate::groth16::shard::{self, Shard};
use crate::msm::{Msm, MsmError};
use crate::ntt::Plan;
use crate::tiles::Share;
use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ff::Zero;
use ark_groth16::Proof;
use std::ops::Range;
use zeroize::Zeroize;

/// Scalars, how many of them are another's before, and the points that go with the rest.
type Part<'s, 'a> = (&'s mut Scalars<'a>, usize, PointSpan);

impl Prover<'_> {
    /// This rank's part of the five sums.
    pub(super) fn sums(&self, assignment: &Assignment) -> Result<Sums, ProveError> {
        let h = self.quotient(assignment)?;
        self.together.all(self.own_sums(h, assignment))
    }

    /// Ranks have parts of different queries, so none waits for another before it has all of its
    /// own; each looks between chunks whether another has failed.
    fn own_sums(
        &self,
        (mut h, span): (Scalars<'static>, PointSpan),
        assignment: &Assignment,
    ) -> Result<Sums, ProveError> {
        let h_sum = self.multiply_g1(Query::H, (&mut h, 0, span))?;
        drop(h);
        let shape = Shape::of(self.key, self.matrices);
        let own = |query| shape.own_points(query, self.together.share());
        let g1 = |query| self.sum_g1(assignment, query, own(query));
        let (l, a, b1) = (g1(Query::L)?, g1(Query::A)?, g1(Query::B1)?);
        Ok(Sums { h: h_sum, l, a, b1, b2: self.sum_g2(assignment, own(Query::B2))? })
    }

    /// Makes one part of one of the five sums: part `share.rank()` of `share.ranks()`.
    ///
    /// A part of H makes the whole quotient before: cut H into few parts, or into one.
    ///
    /// # Errors
    ///
    /// As [`Prover::prove`]. That a witness is no solution shows when shards are joined, for all
    /// queries but H.
    pub fn shard(
        &self,
        assignment: &Assignment,
        query: Query,
        share: Share,
    ) -> Result<Shard, ProveError> {
        if self.together.share().ranks() > 1 {
            return Err(ProveError::Shard("it is made by one process, not by a rank".to_owned()));
        }
        self.check_assignment(assignment)?;
        let of = [fingerprint(self.key), assignment.hash()?];
        let own = share.range(self.key.len(query));
        if query == Query::B2 {
            return Ok(Shard::g2(query, share, of, self.sum_g2(assignment, own)?));
        }
        let sum = match query {
            Query::H => {
                let (mut h, _) = self.quotient(assignment)?;
                self.multiply_g1(query, (&mut h, own.start, PointSpan::range(own)))?
            }
            _ => self.sum_g1(assignment, query, own)?,
        };
        Ok(Shard::g1(query, share, of, sum))
    }

    /// Makes and verifies the proof whose sums are in `shards`: each part of each query once.
    ///
    /// # Errors
    ///
    /// [`ProveError::Shard`] for shards that are missing or of another key or witness;
    /// [`ProveError::NotVerified`].
    pub fn join(
        &self,
        shards: &[Shard],
        public: &[Fr],
        mut r: Fr,
        mut s: Fr,
    ) -> Result<Proof<Bn254>, ProveError> {
        let sums = shard::add_up(shards, fingerprint(self.key))?;
        let proof = self.finish(&sums, public, [&r, &s]);
        r.zeroize();
        s.zeroize();
        proof
    }

    fn sum_g1(
        &self,
        assignment: &Assignment,
        query: Query,
        own: Range<usize>,
    ) -> Result<G1Projective, ProveError> {
        let skipped = if query == Query::L { self.key.public_inputs() + 1 } else { 0 };
        let mut scalars = Scalars::Assignment(assignment, skipped);
        self.multiply_g1(query, (&mut scalars, own.start, PointSpan::range(own)))
    }

    fn sum_g2(
        &self,
        assignment: &Assignment,
        own: Range<usize>,
    ) -> Result<G2Projective, ProveError> {
        let mut scalars = Scalars::Assignment(assignment, 0);
        let read = |start, out: &mut [G2Affine]| self.key.read_g2(Query::B2, start, out);
        self.multiply(Query::B2, (&mut scalars, own.start, PointSpan::range(own)), read)
    }

    /// The scalars of H that are here, and which of its points go with them.
    fn quotient(
        &self,
        assignment: &Assignment,
    ) -> Result<(Scalars<'static>, PointSpan), ProveError> {
        let _stage = self.together.all(self.stage(StageName::Quotient))?;
        let n = self.key.domain_size();
        let points = self.key.len(Query::H);
        let source = match self.matrices.filter(|_| self.key.kind() == KeyKind::Arkworks) {
            Some(matrices) => Source::Matrices(matrices),
            None => Source::Zkey(self.key),
        };
        let advance = |done, total| self.progress.advance(done, total);
        if let (None, Some(whole)) = (self.plan.split(), assignment.single()) {
            let whole = whole.read().map_err(ProveError::from)?;
            let h = quotient::in_core(self.runtime, source, n, &whole, &advance)?;
            return Ok((Scalars::Vector(h), PointSpan::range(0..points)));
        }
        // An assignment in segments, made by another plan, is not brought together.
        let split = match self.plan.split() {
            Some(split) => *split,
            None => whole_domain(n)?,
        };
        let told = (&self.together, &advance as quotient::Advance<'_>);
        let h = quotient::out_of_core(self.runtime, source, split, assignment, told)?;
        // Where the coefficients are in natural order, there is one rank.
        let whole = match source {
            Source::Matrices(_) => split.layout().transposed(),
            Source::Zkey(_) => split.layout(),
        };
        Ok((Scalars::Tiles(h), PointSpan::columns(self.together.share(), whole, points)))
    }

    fn multiply_g1(&self, query: Query, part: Part<'_, '_>) -> Result<G1Projective, ProveError> {
        let read = |start, out: &mut [G1Affine]| self.key.read_g1(query, start, out);
        self.multiply(query, part, read)
    }

    /// Streams the points of a part from the file, a chunk at a time, and multiplies them with
    /// their scalars.
    fn multiply<P: SWCurveConfig<ScalarField = Fr>>(
        &self,
        query: Query,
        (scalars, skipped, span): Part<'_, '_>,
        read: impl Fn(usize, &mut [Affine<P>]) -> Result<(), FileError>,
    ) -> Result<Projective<P>, ProveError> {
        let stage = StageName::of(query);
        let _stage = self.stage(stage)?;
        // The quotient's last coefficient is zero, and arkworks' H query leaves it out.
        let len = span.len();
        if len == 0 {
            return Ok(Projective::zero());
        }
        if skipped + len > scalars.len() {
            let what = "a query of the key and its scalars differ in length";
            return Err(ProveError::Mismatch { what, one: len, other: scalars.len() });
        }
        let explain = |error| self.runtime.explain(stage.text(), error);
        let plan = self.plan.msm::<P>(len);
        let mut sum = Msm::<P>::new(plan, self.runtime.secret_pool()).map_err(|e| match e {
            MsmError::Memory(error) => explain(error).into(),
            other => ProveError::Msm(other),
        })?;
        let chunk_len = self.plan.chunk_len().min(len.max(1));
        let points = self.runtime.pool().try_filled(chunk_len, Affine::<P>::identity());
        let mut points = points.map_err(explain)?;
        scalars.for_each_chunk(self.runtime, (skipped, len), chunk_len, |start, scalars| {
            self.together.go_on()?;
            let points = &mut points[..scalars.len()];
            span.for_each_run(start, points.len(), |first, places| {
                read(first, &mut points[places])
            })?;
            sum.add(points, scalars)?;
            self.progress.advance(start + scalars.len(), len);
            Ok(())
        })?;
        Ok(sum.finish())
    }
}

/// The split for a domain of n points that is held in memory.
fn whole_domain(n: usize) -> Result<Plan, ProveError> {
    let plan = Plan::for_vectors(n.max(2).ilog2(), size_of::<Fr>(), 3, usize::MAX);
    plan.map_err(|_| ProveError::Domain { size: n })
}
