//! What the kernels are given, and whether the processor has them.

/// Elements that are worked on together.
pub const GROUP: usize = 8;

/// Sixteen elements: a block that [`crate::Butterflies::blocks`] has in one lane.
pub const BLOCK: usize = 16;

/// The processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ifma(());

impl Ifma {
    pub(crate) fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma") {
            return Some(Self(()));
        }
        None
    }
}

/// A point of a curve by its two coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Point<F> {
    /// The abscissa.
    pub x: F,
    /// The ordinate.
    pub y: F,
}

/// How two points are added that the kernel leaves to its caller.
#[derive(Clone, Copy, Debug)]
pub enum Sum<F> {
    /// By the line of slope `rise / run` through both; `run` is not zero.
    Slope {
        /// Difference of the ordinates, or what stands for it.
        rise: F,
        /// Difference of the abscissas, or what stands for it.
        run: F,
    },
    /// To this point.
    Point(Point<F>),
}

impl<F> Sum<F> {
    /// Rise and run.
    pub(crate) fn slope(&self) -> Option<(&F, &F)> {
        match self {
            Self::Slope { rise, run } => Some((rise, run)),
            Self::Point(_) => None,
        }
    }
}

/// Which way a layer of butterflies goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `(low, high) <- (low + c*high, low - c*high)`.
    Down,
    /// `(low, high) <- (low + high, (low - high)*c)`.
    Up,
}

/// The factors of a transform's blocks: that of block `j`, of any layer, is `table[slot(j)]`.
#[derive(Clone, Copy, Debug)]
pub struct Factors<'a, F, S> {
    /// Factors, or what they are up to sign.
    pub table: &'a [F],
    /// The table has them with the other sign.
    pub is_negative: bool,
    /// Where in the table a block's factor is.
    pub slot: S,
}
