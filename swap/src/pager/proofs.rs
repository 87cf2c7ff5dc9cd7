//! When a proof is over and when the next one begins, as far as large blocks tell.
//!
//! ```text
//!   first large block                            the run has a shape: the block's size
//!   large blocks fall below half of their peak   the proof is over, or nearly
//!   a size comes that came before, while what
//!   is live is what was live then, and less
//!   than half of the peak                        the next proof has begun
//! ```
//!
//! A key that stays loaded is live before and after. Vectors that come and go within a proof come
//! beside more than half of what the proof takes; if they do not, a proof is taken for several, and
//! the plan is one of a part.
//!
//! Pure.

/// The least bytes of a large block.
pub(crate) const LARGE_BYTES: u64 = 64 << 20;

/// Comings of large blocks that are remembered.
const COMINGS_MAX: usize = 64;

/// A large block that came, and what was live before it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Coming {
    bytes: u64,
    beside: u64,
}

/// What large blocks have told so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proofs {
    comings: [Coming; COMINGS_MAX],
    count: usize,
    peak: u64,
    is_over: bool,
    has_next: bool,
}

impl Proofs {
    pub(crate) const fn new() -> Self {
        let none = Coming { bytes: 0, beside: 0 };
        Self { comings: [none; COMINGS_MAX], count: 0, peak: 0, is_over: false, has_next: false }
    }

    /// The size of the first large block.
    pub(crate) fn shape(&self) -> Option<u64> {
        self.comings[..self.count].first().map(|first| first.bytes)
    }

    /// The first proof is over, or nearly.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Another proof has begun.
    pub(crate) fn has_next(&self) -> bool {
        self.has_next
    }

    /// A block came beside so many bytes of large ones.
    pub(crate) fn came(&mut self, bytes: u64, beside: u64) {
        if bytes < LARGE_BYTES {
            return;
        }
        let coming = Coming { bytes, beside };
        if self.comings[..self.count].contains(&coming) {
            self.has_next |= beside < self.peak / 2;
        } else if let Some(place) = self.comings.get_mut(self.count) {
            *place = coming;
            self.count += 1;
        }
        self.peak = self.peak.max(beside.saturating_add(bytes));
    }

    /// A block is gone; so many bytes of large ones are left.
    pub(crate) fn went(&mut self, left: u64) {
        self.is_over |= left < self.peak / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks come (above zero) and go; what is known after each step.
    fn told(steps: &[i64]) -> Vec<(bool, bool)> {
        let (mut proofs, mut live) = (Proofs::new(), 0);
        let step = |step: &i64| {
            let bytes = step.unsigned_abs() << 20;
            if *step > 0 {
                proofs.came(bytes, live);
                live += bytes;
            } else {
                live -= bytes;
                proofs.went(live);
            }
            (proofs.is_over(), proofs.has_next())
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn proofs_are_told_apart_by_what_they_leave() {
        let (n, o, a) = ((false, false), (true, false), (true, true));
        assert_eq!(told(&[658, -658, 658]), [n, o, a], "one vector");
        // A key of 500 stays; 600 and 300 come twice.
        assert_eq!(told(&[500, 600, 300, -300, -600, 600]), [n, n, n, n, o, a]);
        // The last vector comes and goes within the proof.
        assert_eq!(told(&[500, 600, 100, -100, 100, -100, 100]), [n; 7]);
    }

    #[test]
    fn more_comings_than_are_remembered_change_nothing() {
        let mut proofs = Proofs::new();
        for i in 0..1000 {
            proofs.came(LARGE_BYTES + i, 0);
        }
        assert_eq!((proofs.shape(), proofs.has_next()), (Some(LARGE_BYTES), false));
        proofs.came(LARGE_BYTES + 3, 0);
        assert!(proofs.has_next());
    }
}
