//! The transform of a vector that does not fit in memory: two passes over tiles.
//!
//! `N = R*C`, the vector a matrix of R rows and C columns in row-major order, `w` of order N.
//! With `j = n2 + C*n1` in and `k = k1 + R*k2` out, `w^(j*k)` falls apart into a transform of each
//! column, a power, and a transform of each row:
//!
//! ```text
//!   X[k1 + R*k2] = sum_n2 w_C^(n2*k2) * w^(n2*k1) * ( sum_n1 w_R^(n1*k1) * x[n2 + C*n1] )
//!                  '------- row k1 ------------'   '----------- column n2 -----------'
//! ```
//!
//! Row `k1` of the result, position `k2`, is entry `k1 + R*k2`: the row-major order of the
//! *transposed* matrix. So the row pass stores each row stripe as a column stripe of the transposed
//! layout, and natural order goes in and comes out. The power is an offset: `sum w_C^(n2*k2) *
//! (w^k1)^n2 * y` is a coset transform of the row. So every pass is a kernel of `radix2.rs`:
//!
//! ```text
//!                  column n2                       row k1
//!   forward, g     coset_fft(g^C)                  coset_fft(g * w^k1)         transposed
//!   inverse, g     coset_ifft(g * w^n2)            coset_ifft(g^R)             transposed
//!   shift, g       down, times (g * w^-n2)^k1 / R  shift_to_coset(g^R)         in place
//!                  .. and then column m1: times (w^m1)^k1, up
//! ```
//!
//! The shift needs no transposition and, since `down` leaves k1 bit-reversed where `up` wants it,
//! no reordering at all. Column passes are open (`visit.rs`): stripes of several vectors can be
//! combined there, and the result can start its way back in the same visit. What is between two
//! passes is a value of its own (`pending.rs`, where the row passes are).
//!
//! Each pass, stripe by stripe: the next stripe is read while this one is transformed, what was
//! stored before is written meanwhile. Where several ranks share the vector, a rank does the
//! columns and the rows that it has; who moves blocks between two passes stands above (`ranks`).
//!
//! It must never hold more than the plan's scratch and tables, and a vector whose pass failed is
//! lost, not mixed: reading it is an error.
//!
//! Source: D. H. Bailey, "FFTs in external or hierarchical memory" (J. Supercomputing 1990).

use super::plan::{Moved, Plan};
use super::{NttError, Radix2, twiddle_len};
use crate::runtime::Runtime;
use crate::spill::Lanes;
use crate::tiles::{Layout, LayoutError, Share, Tiles, TilesError};
use ark_ff::FftField;
use plimsoll_arena::{PoolVec, Secrecy};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a transform out of core failed. The vectors of the failed pass are then lost: each block of
/// theirs reads as [`TilesError::Taken`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutOfCoreError {
    /// The field has no such subgroup, or the offset is zero.
    #[error(transparent)]
    Ntt(#[from] NttError),
    /// A block could not be had, saved or brought back.
    #[error(transparent)]
    Tiles(#[from] TilesError),
    /// Memory for a stripe or a table could not be had.
    #[error(transparent)]
    Runtime(#[from] crate::Error),
    /// The plan is for elements of another size.
    #[error("the plan is for elements of {planned} bytes, these have {found}; plan for {found}")]
    ElementBytes {
        /// The plan's.
        planned: usize,
        /// The field's.
        found: usize,
    },
    /// There are more ranks than stripes to share out.
    #[error("the vector cannot be shared out: {0}")]
    Shares(#[from] LayoutError),
    /// The vector is cut in another way than the plan says.
    #[error(
        "the vector is {found}, the plan is for {planned}, transposed or not; make vectors with \
         OutOfCore::vector, and do not mix the two in one visit"
    )]
    Layout {
        /// The plan's.
        planned: Layout,
        /// The vector's.
        found: Layout,
    },
}

/// Transforms of vectors of `2^log_n` elements within a [`Plan`]. See the module's header.
///
/// Holding one proves that the tables of both sides are complete.
///
/// ```
/// use ark_bn254::Fr;
/// use plimsoll::ntt::{OutOfCore, Plan, Transform};
/// use plimsoll::{Runtime, Secrecy};
///
/// let runtime = Runtime::builder().build()?;
/// let plan = Plan::new(12, size_of::<Fr>(), 256 << 10)?;
/// assert!(plan.resident_bytes() <= 256 << 10);
/// let transform = OutOfCore::<Fr>::new(&runtime, plan)?;
/// let mut vector = transform.vector(Secrecy::Secret); // zeroes, no memory yet
/// vector.write_range(0, &[Fr::from(1), Fr::from(2), Fr::from(3)])?;
/// transform.fft(&mut vector)?;
/// let mut first = [Fr::from(0)];
/// vector.read_range(0, &mut first)?;
/// assert_eq!(first[0], Fr::from(6)); // at the point 1: the sum
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OutOfCore<F: FftField + Lanes> {
    runtime: Runtime,
    plan: Plan,
    share: Share,
    pub(super) root: F,
    /// Of the size of the plan's columns, and of its rows unless they are as long.
    first: Radix2<F, PoolVec<F>>,
    second: Option<Radix2<F, PoolVec<F>>>,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl<F: FftField + Lanes> std::fmt::Debug for OutOfCore<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutOfCore").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl<F: FftField + Lanes> OutOfCore<F> {
    /// Makes the tables of `plan`, from [`Runtime::pool`].
    ///
    /// # Errors
    /// [`OutOfCoreError`]: another element size than the plan's, no such subgroup, no memory.
    pub fn new(runtime: &Runtime, plan: Plan) -> Result<Self, OutOfCoreError> {
        Self::of_share(runtime, plan, Share::WHOLE)
    }

    /// Makes the tables of `plan` for a rank that has `share` of each vector: some whole columns in
    /// column passes, some whole rows in row passes. Between two passes the blocks go to the ranks
    /// that have them next; that is not done here.
    ///
    /// # Errors
    /// As [`OutOfCore::new`], and [`OutOfCoreError::Shares`] when there are more ranks than
    /// stripes.
    pub fn of_share(runtime: &Runtime, plan: Plan, share: Share) -> Result<Self, OutOfCoreError> {
        share.rows(plan.layout())?;
        share.columns(plan.layout())?;
        let (planned, found) = (plan.element_bytes(), size_of::<F>());
        if planned != found {
            return Err(OutOfCoreError::ElementBytes { planned, found });
        }
        let log_n = plan.log_n();
        let too_large = NttError::LogSize { log_n, log_n_max: F::TWO_ADICITY };
        let root = F::get_root_of_unity(1 << log_n).ok_or(too_large)?;
        let table = |side: usize| -> Result<_, OutOfCoreError> {
            let log_side = side.ilog2();
            let storage = zeroed(runtime, Secrecy::Public, twiddle_len(log_side))?;
            Ok(Radix2::new(log_side, storage)?)
        };
        let (rows, columns) = (plan.layout().rows(), plan.layout().columns());
        let second = if rows == columns { None } else { Some(table(columns)?) };
        Ok(Self {
            runtime: runtime.clone(),
            plan,
            share,
            root,
            first: table(rows)?,
            second,
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The part of each vector that is here.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }

    /// A vector of zeroes in the plan's layout, of which a rank has its rows; it takes no memory
    /// until it is written, and keeps as many blocks there as the plan says.
    #[must_use]
    pub fn vector(&self, secrecy: Secrecy) -> Tiles<F> {
        self.zeroes(self.share.rows(self.plan.layout()), secrecy)
    }

    /// The same, of which a rank has its columns.
    #[must_use]
    pub fn columns_vector(&self, secrecy: Secrecy) -> Tiles<F> {
        self.zeroes(self.share.columns(self.plan.layout()), secrecy)
    }

    fn zeroes(&self, layout: Result<Layout, LayoutError>, secrecy: Secrecy) -> Tiles<F> {
        // `of_share` has looked: every rank has rows and columns.
        let layout = layout.unwrap_or(self.plan.layout());
        let mut tiles = Tiles::zeroed(&self.runtime, layout, secrecy);
        tiles.keep(self.plan.kept_blocks());
        tiles
    }

    /// Bytes that the passes loaded and stored so far, to hold against [`Plan::walked`].
    #[must_use]
    pub fn moved(&self) -> Moved {
        Moved {
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
        }
    }

    pub(super) fn kernel(&self, len: usize) -> &Radix2<F, PoolVec<F>> {
        match &self.second {
            Some(second) if second.size() == len => second,
            _ => &self.first,
        }
    }

    /// The whole matrix of which `found` are this rank's columns, and the first of them.
    pub(super) fn whole_of_columns(
        &self,
        found: Layout,
    ) -> Result<(Layout, usize), OutOfCoreError> {
        let whole = self.whole(found, |whole| self.share.columns(whole))?;
        Ok((whole, self.share.first_column(whole)))
    }

    /// The whole matrix of which `found` are this rank's rows, and the first of them.
    pub(super) fn whole_of_rows(&self, found: Layout) -> Result<(Layout, usize), OutOfCoreError> {
        let whole = self.whole(found, |whole| self.share.rows(whole))?;
        Ok((whole, self.share.first_row(whole)))
    }

    fn whole(
        &self,
        found: Layout,
        part: impl Fn(Layout) -> Result<Layout, LayoutError>,
    ) -> Result<Layout, OutOfCoreError> {
        let planned = self.plan.layout();
        let mut wholes = [planned, planned.transposed()].into_iter();
        wholes
            .find(|whole| part(*whole) == Ok(found))
            .ok_or(OutOfCoreError::Layout { planned, found })
    }

    pub(super) fn scratch(
        &self,
        secrecy: Secrecy,
        len: usize,
    ) -> Result<PoolVec<F>, OutOfCoreError> {
        Ok(zeroed(&self.runtime, secrecy, len)?)
    }

    pub(super) fn count_read(&self, stripe: &[F]) {
        self.read_bytes.fetch_add(size_of_val(stripe) as u64, Ordering::Relaxed);
    }

    pub(super) fn count_written(&self, stripe: &[F]) {
        self.written_bytes.fetch_add(size_of_val(stripe) as u64, Ordering::Relaxed);
    }
}

pub(super) fn for_each_lane<F: FftField>(
    stripe: &mut [F],
    lane_len: usize,
    transform: impl Fn(usize, &mut [F]) -> Result<(), NttError> + Sync,
) -> Result<(), NttError> {
    stripe
        .par_chunks_exact_mut(lane_len)
        .enumerate()
        .try_for_each(|(lane, values)| transform(lane, values))
}

fn zeroed<F: Lanes>(
    runtime: &Runtime,
    secrecy: Secrecy,
    len: usize,
) -> Result<PoolVec<F>, crate::Error> {
    let vector = runtime.pool_of(secrecy).try_zeroed(len);
    vector.map_err(|error| runtime.explain("transform", error))
}
