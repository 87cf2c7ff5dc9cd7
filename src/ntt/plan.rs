//! The plan of a transform out of core: how the vector is cut, and what that costs.
//!
//! Pure arithmetic: no memory, no field, no runtime. The transform takes its numbers from here, so
//! what is printed beforehand is what happens.
//!
//! ```text
//!   N = 2^log_n = R * C elements of E bytes       R = 2^ceil(log_n/2), C = 2^floor(log_n/2)
//!   a stripe  L elements = R * w = h * C          w = L/R columns, or h = L/C rows
//!   a block   h * w = L^2 / N elements            one read or write
//!
//!   resident = tables + scratch + in flight + kept
//!     tables    (max(R/2, 1) + max(C/2, 1)) * E   roots of both sizes; one table when R = C
//!     scratch   V * L * E                         V vectors are visited at once
//!     in flight 2 * V * L * E                     stripes coming in, stripes on their way out;
//!               or V * N * E, if that is less     everything
//!     kept      what the budget leaves            blocks that stay from pass to pass
//! ```
//!
//! L is the largest that the budget and two caps allow. Blocks past [`BLOCK_BYTES_MAX`] gain no
//! disk speed; a stripe of fewer than [`STRIPE_BLOCKS`] blocks leaves cores without work. The rest
//! of the budget keeps blocks in memory: each pass uses every block once, so each block kept saves
//! its read and its write whichever it is. When all are kept nothing is written.
//!
//! A size too small for the budget is refused with the smallest budget that does, where blocks are
//! [`BLOCK_BYTES_MIN`]. Only vectors below 4 MiB have smaller ones, for the sake of the second cap.

use super::twiddle_len;
use crate::tiles::Layout;
use std::fmt;

/// Blocks at most: 4 MiB. The disk's speed is reached at 2 MiB (docs/ntt.md).
pub const BLOCK_BYTES_MAX: usize = 4 << 20;

/// Blocks at least: 64 KiB. Several such reads at a time still come to most of a disk's speed.
pub const BLOCK_BYTES_MIN: usize = 64 << 10;

/// Blocks of a stripe at least, where the vector is long enough: they are copied side by side.
pub const STRIPE_BLOCKS: usize = 8;

/// Blocks that go from rank to rank at most: 2 MiB. A message is a block.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// Stripes of a rank at least, where the vector is long enough: with fewer, the shares of ranks
/// that do not divide them differ by much.
const RANK_STRIPES: usize = 2;

/// Who shares the vectors of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    /// How many they are.
    pub count: usize,
    /// Elements of a stripe at most: of all ranks, the one with the least memory says how all cut.
    /// Stripes that are all longer are as short as there are.
    pub stripe_len_max: usize,
}

impl Ranks {
    /// One rank, which has everything.
    pub const ALONE: Ranks = Ranks { count: 1, stripe_len_max: usize::MAX };
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The vectors do not fit the address space, or there are none.
    #[error(
        "{vectors} vectors of 2^{log_n} elements of {element_bytes} bytes cannot be addressed; \
         give each number at least 1, and split the circuit"
    )]
    Size {
        /// The size asked for, as a power of two.
        log_n: u32,
        /// Bytes of an element.
        element_bytes: usize,
        /// Vectors visited at once.
        vectors: usize,
    },
    /// The budget is below what the smallest blocks need.
    #[error(
        "a transform of 2^{log_n} elements needs at least {smallest_bytes} bytes, the budget is \
         {budget_bytes}; raise the budget to that"
    )]
    Budget {
        /// The size asked for, as a power of two.
        log_n: u32,
        /// The budget given.
        budget_bytes: usize,
        /// The smallest that will do.
        smallest_bytes: usize,
    },
    /// There are more ranks than stripes to share out.
    #[error(
        "a transform of 2^{log_n} elements cannot be shared out to {ranks} ranks; start {most} at \
         most"
    )]
    Ranks {
        /// The size asked for, as a power of two.
        log_n: u32,
        /// Ranks asked for.
        ranks: usize,
        /// The most that find a row and a column each.
        most: usize,
    },
    /// A matrix whose sides are not powers of two cannot be transformed.
    #[error("a matrix of {rows} x {columns} cannot be transformed; both must be powers of two")]
    Sides {
        /// Rows given.
        rows: usize,
        /// Columns given.
        columns: usize,
    },
}

/// The transforms a plan knows the passes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// Evaluate or interpolate, on the subgroup or a coset: columns, rows.
    Single,
    /// From values on the subgroup to values on a coset: columns, rows, columns.
    Shift,
}

impl Passes {
    /// Passes over the vector.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Passes::Single => 2,
            Passes::Shift => 3,
        }
    }
}

/// Bytes that passes load into the scratch and store out of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes loaded.
    pub read_bytes: u64,
    /// Bytes stored.
    pub written_bytes: u64,
}

/// How a vector of `2^log_n` elements is transformed within a budget. See the module's header.
///
/// Holding one proves that its sizes fit `usize` and that `resident_bytes <= budget_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    layout: Layout,
    element_bytes: usize,
    vectors: usize,
    ranks: usize,
    budget_bytes: usize,
}

impl Plan {
    /// The plan for one vector of `2^log_n` elements of `element_bytes` within `budget_bytes`.
    ///
    /// # Errors
    /// [`PlanError::Size`], [`PlanError::Budget`] with the smallest budget that will do.
    pub fn new(log_n: u32, element_bytes: usize, budget_bytes: usize) -> Result<Self, PlanError> {
        Self::for_vectors(log_n, element_bytes, 1, budget_bytes)
    }

    /// As [`Plan::new`], where up to `vectors` vectors are visited at once.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn for_vectors(
        log_n: u32,
        element_bytes: usize,
        vectors: usize,
        budget_bytes: usize,
    ) -> Result<Self, PlanError> {
        Self::for_ranks(log_n, [element_bytes, vectors], Ranks::ALONE, budget_bytes)
    }

    /// As [`Plan::for_vectors`], for `vectors` vectors of elements of `element_bytes`, of which
    /// each of several ranks has a share.
    ///
    /// # Errors
    /// As [`Plan::new`], and [`PlanError::Ranks`].
    pub fn for_ranks(
        log_n: u32,
        [element_bytes, vectors]: [usize; 2],
        ranks: Ranks,
        budget_bytes: usize,
    ) -> Result<Self, PlanError> {
        check_size(log_n, element_bytes, vectors)?;
        let most = 1 << (log_n / 2);
        let Ranks { count: ranks, stripe_len_max } = ranks;
        if ranks == 0 || ranks > most {
            return Err(PlanError::Ranks { log_n, ranks, most });
        }
        let mut smallest_bytes = usize::MAX;
        let mut logs = stripe_logs(log_n, element_bytes, ranks).peekable();
        while let Some(stripe_log) = logs.next() {
            // Of stripes that are all too long, the shortest.
            if 1 << stripe_log > stripe_len_max && logs.peek().is_some() {
                continue;
            }
            let layout = square_layout(log_n, stripe_log, element_bytes, vectors)?;
            let plan = Self { layout, element_bytes, vectors, ranks, budget_bytes };
            if plan.fits() {
                return Ok(plan);
            }
            smallest_bytes = plan.smallest_bytes();
        }
        Err(PlanError::Budget { log_n, budget_bytes, smallest_bytes })
    }

    /// The plan for a matrix that is already cut, of powers of two, whatever its blocks.
    ///
    /// # Errors
    /// As [`Plan::new`], and [`PlanError::Sides`].
    pub fn for_layout(
        layout: Layout,
        element_bytes: usize,
        vectors: usize,
        budget_bytes: usize,
    ) -> Result<Self, PlanError> {
        let (rows, columns) = (layout.rows(), layout.columns());
        if !rows.is_power_of_two() || !columns.is_power_of_two() {
            return Err(PlanError::Sides { rows, columns });
        }
        let log_n = rows.ilog2() + columns.ilog2();
        check_size(log_n, element_bytes, vectors)?;
        let plan = Self { layout, element_bytes, vectors, ranks: 1, budget_bytes };
        let smallest_bytes = plan.smallest_bytes();
        match plan.fits() {
            true => Ok(plan),
            false => Err(PlanError::Budget { log_n, budget_bytes, smallest_bytes }),
        }
    }

    fn fits(&self) -> bool {
        self.smallest_bytes() <= self.budget_bytes
    }

    /// `log2` of the elements of a vector.
    #[must_use]
    pub fn log_n(&self) -> u32 {
        self.layout.rows().ilog2() + self.layout.columns().ilog2()
    }

    /// The matrix and its blocks. A transform may hand the vector back in the transposed layout.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Vectors visited at once.
    #[must_use]
    pub fn vectors(&self) -> usize {
        self.vectors
    }

    /// Bytes of an element.
    #[must_use]
    pub fn element_bytes(&self) -> usize {
        self.element_bytes
    }

    /// Bytes of a vector.
    #[must_use]
    pub fn vector_bytes(&self) -> usize {
        self.layout.len() * self.element_bytes
    }

    /// Ranks that share each vector.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Bytes of the largest share of a vector.
    #[must_use]
    pub fn share_bytes(&self) -> usize {
        self.share_blocks() * self.block_bytes()
    }

    /// Blocks of the largest share of a vector: of its rows or of its columns.
    fn share_blocks(&self) -> usize {
        let (down, across) = (self.layout.row_stripes(), self.layout.column_stripes());
        (down.div_ceil(self.ranks) * across).max(across.div_ceil(self.ranks) * down)
    }

    /// Elements of the larger kind of stripe.
    #[must_use]
    pub fn stripe_len(&self) -> usize {
        self.layout.row_stripe_len().max(self.layout.column_stripe_len())
    }

    /// Bytes of a block, one read or write.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.layout.block_len() * self.element_bytes
    }

    /// Bytes of the larger kind of stripe.
    #[must_use]
    pub fn stripe_bytes(&self) -> usize {
        self.stripe_len() * self.element_bytes
    }

    /// Bytes of the stripes that are being transformed.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        self.vectors * self.stripe_bytes()
    }

    /// Bytes of the tables of roots.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        let (rows, columns) = (self.layout.rows().ilog2(), self.layout.columns().ilog2());
        let second = if rows == columns { 0 } else { twiddle_len(columns) };
        (twiddle_len(rows) + second) * self.element_bytes
    }

    /// Whether the vectors stay in memory as a whole: then nothing is written.
    #[must_use]
    pub fn stays_in_memory(&self) -> bool {
        let whole = self.fixed_bytes().saturating_add(self.vectors * self.share_bytes());
        whole <= self.budget_bytes
    }

    /// Blocks of each vector that stay in memory from pass to pass.
    #[must_use]
    pub fn kept_blocks(&self) -> usize {
        let spare = self.budget_bytes.saturating_sub(self.smallest_bytes());
        match self.stays_in_memory() {
            true => self.share_blocks(),
            false => spare / (self.vectors * self.block_bytes()),
        }
    }

    /// Bytes in memory at once, at most.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        match self.stays_in_memory() {
            true => self.fixed_bytes() + self.vectors * self.share_bytes(),
            false => self.smallest_bytes() + self.vectors * self.kept_blocks() * self.block_bytes(),
        }
    }

    /// The smallest budget for this layout.
    #[must_use]
    pub fn smallest_bytes(&self) -> usize {
        let whole = self.vectors * self.share_bytes();
        let in_flight = self.scratch_bytes().saturating_mul(2).min(whole);
        self.fixed_bytes().saturating_add(in_flight)
    }

    fn fixed_bytes(&self) -> usize {
        self.table_bytes().saturating_add(self.scratch_bytes())
    }

    /// The budget.
    #[must_use]
    pub fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    /// What the passes of one vector, or of a rank's share, load and store, wherever the blocks
    /// are.
    #[must_use]
    pub fn walked(&self, passes: Passes) -> Moved {
        let bytes = (passes.count() * self.share_bytes()) as u64;
        Moved { read_bytes: bytes, written_bytes: bytes }
    }

    /// What of it goes through the spill file or the packed copies: blocks that are not kept.
    #[must_use]
    pub fn spilled(&self, passes: Passes) -> Moved {
        let away = self.share_blocks().saturating_sub(self.kept_blocks());
        let bytes = (passes.count() * away * self.block_bytes()) as u64;
        Moved { read_bytes: bytes, written_bytes: bytes }
    }
}

/// Bits of a length below which three times the bytes of any plan fit `usize`.
const SIZE_LOG_MAX: u32 = usize::BITS - 4;

fn check_size(log_n: u32, element_bytes: usize, vectors: usize) -> Result<(), PlanError> {
    let bytes = element_bytes.checked_mul(vectors).filter(|bytes| *bytes > 0);
    let log_bytes = bytes.map(|bytes| log_n.saturating_add(bytes.ilog2() + 1));
    match log_bytes {
        Some(log_bytes) if log_bytes <= SIZE_LOG_MAX => Ok(()),
        _ => Err(PlanError::Size { log_n, element_bytes, vectors }),
    }
}

/// The stripe lengths to try, as powers of two, the largest first; never empty. Each rank gets at
/// least one stripe: there must be `log_n / 2` bits of ranks at most.
fn stripe_logs(log_n: u32, element_bytes: usize, ranks: usize) -> impl Iterator<Item = u32> {
    let rows_log = log_n.div_ceil(2);
    let block_bytes = move |stripe_log: u32| element_bytes << (2 * stripe_log - log_n);
    let (stripes, bytes_max) = match ranks {
        1 => (STRIPE_BLOCKS, BLOCK_BYTES_MAX),
        _ => (STRIPE_BLOCKS.max(ranks * RANK_STRIPES), MESSAGE_BYTES_MAX),
    };
    let most_log = log_n.saturating_sub(stripes.next_power_of_two().ilog2());
    let largest =
        (rows_log..=most_log).rev().find(|log| block_bytes(*log) <= bytes_max).unwrap_or(rows_log);
    let smallest =
        (rows_log..largest).find(|log| block_bytes(*log) >= BLOCK_BYTES_MIN).unwrap_or(largest);
    (smallest..=largest).rev()
}

fn square_layout(
    log_n: u32,
    stripe_log: u32,
    element_bytes: usize,
    vectors: usize,
) -> Result<Layout, PlanError> {
    let (rows_log, columns_log) = (log_n.div_ceil(2), log_n / 2);
    let block = (1 << (stripe_log - columns_log), 1 << (stripe_log - rows_log));
    Layout::new(1 << rows_log, 1 << columns_log, block.0, block.1).map_err(|_| PlanError::Size {
        log_n,
        element_bytes,
        vectors,
    })
}

impl fmt::Display for Plan {
    /// Eight lines: sizes, memory, bytes moved.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| format!("{} KiB", bytes.div_ceil(1 << 10));
        let moved = |passes: Passes| {
            let Moved { read_bytes, written_bytes } = self.spilled(passes);
            let [read, written] = [read_bytes, written_bytes].map(|bytes| bytes.div_ceil(1 << 10));
            format!("{} passes; {read} KiB read, {written} KiB written", passes.count())
        };
        let log_n = self.log_n();
        writeln!(f, "vectors   {} of 2^{log_n}, {} each", self.vectors, kib(self.vector_bytes()))?;
        writeln!(f, "matrix    {}", self.layout)?;
        writeln!(f, "blocks    {} of {}", self.layout.blocks(), kib(self.block_bytes()))?;
        writeln!(f, "scratch   {}", kib(self.scratch_bytes()))?;
        writeln!(f, "tables    {}", kib(self.table_bytes()))?;
        writeln!(f, "resident  {} of {}", kib(self.resident_bytes()), kib(self.budget_bytes))?;
        writeln!(f, "transform {}", moved(Passes::Single))?;
        write!(f, "shift     {}", moved(Passes::Shift))
    }
}
