//! The plan of one of several ranks.
//!
//! ```text
//!                 whole on every rank     a share of 1 / ranks
//!   vectors       assignment              a, b, c, h
//!   points        -                       of H; of a line of the other four queries
//!   work          witness                 rows of the matrices, passes, sums
//!   beside        roots, stripes, buckets, a chunk, two messages
//! ```
//!
//! All ranks cut the matrix of the transforms in the same way, whatever their limits: the one with
//! the least memory says how. Everything else a rank chooses for itself.
//!
//! The sums over variables are one line of work, and each rank has a piece of it:
//!
//! ```text
//!   L         | A         | B1        | B2                        a point of B2 costs two of G1
//!   rank 3         | rank 2           | rank 1        | rank 0
//! ```
//!
//! The first rank has the last piece, because it shows how the proof gets on. With any other piece
//! it would name the last sum while it only waits for the others.
//!
//! The buckets of a sum are added up once for each part of a query, and a long part has fewer
//! windows to add to. Were every query cut among all ranks, four would compute a seventh more than
//! one does.
//!
//! It must never talk to another rank: numbers of others are given.

use super::needs;
use super::{PlanRoom, ProofPlan, Shape};
use crate::Runtime;
use crate::groth16::error::ProveError;
use crate::groth16::key::Query;
use crate::ntt::{PlanError, Ranks};
use crate::tiles::Share;
use std::ops::Range;

/// The line of work that is cut among ranks, and what a point of each query costs.
const LINE: [(Query, usize); 4] =
    [(Query::L, 1), (Query::A, 1), (Query::B1, 1), (Query::B2, G2_COST)];

/// What a point of G2 costs, of one of G1: 2.0 (`cargo bench --bench ranks`).
const G2_COST: usize = 2;

impl Shape {
    /// The points of `query` that the rank of `share` multiplies: none of H, which goes by the
    /// scalars that a rank has.
    pub(in crate::groth16) fn own_points(&self, query: Query, share: Share) -> Range<usize> {
        let work = |(query, cost): (Query, usize)| self.query_len(query).saturating_mul(cost);
        let mirrored = Share::new(share.ranks() - 1 - share.rank(), share.ranks());
        let own = mirrored.unwrap_or(share).range(LINE.into_iter().map(work).sum());
        let mut first = 0;
        for (part, cost) in LINE {
            let len = self.query_len(part);
            if part == query {
                let point = |at: usize| (at.saturating_sub(first) / cost).min(len);
                return point(own.start)..point(own.end);
            }
            first += work((part, cost));
        }
        0..0
    }
}

impl ProofPlan {
    /// Plans the part of one of several ranks under the limit of `runtime`. One rank is planned as
    /// by [`ProofPlan::for_runtime`].
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`](crate::Error::OverLimit) with the smallest limit of a rank that would
    /// do; [`PlanError::Ranks`] for more ranks than there are stripes.
    pub fn for_ranks(shape: &Shape, runtime: &Runtime, ranks: Ranks) -> Result<Self, ProveError> {
        if ranks.count == 1 {
            return Ok(Self::for_runtime(shape, runtime)?);
        }
        let PlanRoom { threads, used, limit, is_permit } = PlanRoom::of(runtime)?;
        let can_spill = runtime.can_spill();
        let smallest = Self::smallest_of_ranks(shape, [used, threads], can_spill, ranks)?;
        let beside = if is_permit { smallest.base_bytes() } else { 0 };
        let needs = smallest.fits_bytes(can_spill).saturating_sub(beside);
        if needs > limit {
            return Err(smallest.does_not_fit(runtime, needs).into());
        }
        let within = limit.saturating_add(beside);
        // Vectors that cannot leave are not for stripes and chunks.
        let kept = if can_spill { 0 } else { smallest.vectors_bytes() };
        let plan = Self::shared_out(shape, [used, within.saturating_sub(kept), threads], ranks)?;
        match plan.fits_bytes(can_spill) <= within {
            true => Ok(plan),
            false => Ok(smallest),
        }
    }

    /// Plans the part of one of several ranks with the smallest limit that will do, for a process
    /// that uses `used` bytes before the first stage and has `threads` threads.
    ///
    /// # Errors
    ///
    /// [`PlanError::Ranks`] for more ranks than there are stripes; [`PlanError::Size`].
    pub fn smallest_of_ranks(
        shape: &Shape,
        [used, threads]: [usize; 2],
        can_spill: bool,
        ranks: Ranks,
    ) -> Result<Self, PlanError> {
        match ranks.count {
            1 => Ok(Self::smallest(shape, used, threads, can_spill)),
            _ => Self::shared_out(shape, [used, 0, threads], ranks),
        }
    }

    /// Returns the smallest limit under which this plan keeps, where vectors may leave memory or
    /// not.
    #[must_use]
    pub fn fits_bytes(&self, can_spill: bool) -> usize {
        match can_spill {
            true => self.minimum_bytes(),
            false => self.stages().iter().map(|stage| self.peak_bytes(stage)).max().unwrap_or(0),
        }
    }

    /// The most bytes of vectors that are alive and made at once.
    fn vectors_bytes(&self) -> usize {
        let bytes = self.stages().iter().map(|stage| stage.before_bytes + stage.made_bytes);
        bytes.max().unwrap_or(0)
    }

    /// Returns the bytes of tiles that the rank of `share` sends in a proof of `shape`.
    #[must_use]
    pub fn sent_bytes(&self, shape: &Shape, share: Share) -> u64 {
        self.split().map_or(0, |split| needs::sent_by(shape, split, share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groth16::plan::StageName;

    #[test]
    fn pieces_of_the_line_cover_every_query_once_and_cost_the_same() {
        let shapes = [1, 2, 61, 4097].map(Shape::of_constraints);
        let no_secret = |shape: Shape| Shape { public_inputs: shape.variables - 1, ..shape };
        for shape in shapes.into_iter().chain(shapes.map(no_secret)) {
            for ranks in 1..=9 {
                let all = || Share::first_of(ranks).all();
                for (query, _) in LINE {
                    let own = all().map(|share| shape.own_points(query, share));
                    let mut own: Vec<_> = own.collect();
                    own.reverse();
                    assert_eq!((own[0].start, own[ranks - 1].end), (0, shape.query_len(query)));
                    assert!(own.windows(2).all(|two| two[0].end == two[1].start), "{own:?}");
                }
                let cost = |share| {
                    let cost = |(query, cost)| shape.own_points(query, share).len() * cost;
                    LINE.into_iter().map(cost).sum::<usize>()
                };
                let costs = || all().map(cost);
                let spread = costs().max().unwrap() - costs().min().unwrap();
                assert!(spread < 2 * G2_COST, "{shape:?} on {ranks}: {spread}");
                assert!(all().all(|share| shape.own_points(Query::H, share).is_empty()));
            }
        }
    }

    #[test]
    fn no_piece_of_the_line_needs_more_than_the_plan_says() {
        // Pieces differ in length by far, and shorter sums have narrower windows.
        let mut pieces = 0;
        for constraints in [1, 4097, 40_000, 100_000, 300_000, 1 << 20, 5 << 20] {
            let shape = Shape::of_constraints(constraints);
            let given =
                [1, 2, 16].map(|threads| [0, 64 << 20, usize::MAX].map(|m| [0, m, threads]));
            for (count, given) in
                (2..=9).flat_map(|count| given.iter().flatten().map(move |g| (count, *g)))
            {
                let ranks = Ranks { count, ..Ranks::ALONE };
                let Ok(plan) = ProofPlan::shared_out(&shape, given, ranks) else { continue };
                for (query, _) in LINE {
                    let planned = plan.need_bytes(StageName::of(query));
                    for share in Share::first_of(count).all() {
                        let len = shape.own_points(query, share).len();
                        let need = needs::sum(query, len, &plan.sizes);
                        assert!(
                            need <= planned,
                            "{len} of {query:?}, {given:?}: {need} > {planned}"
                        );
                        pieces += 1;
                    }
                }
            }
        }
        assert!(pieces > 1000, "{pieces}");
    }
}
