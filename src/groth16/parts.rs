//! Which parts of the assignment a stretch of a matrix reads.
//!
//! ```text
//!   assignment   | part 0 | part 1 | ...                      | part 63 |     equal lengths
//!   a stretch       1        0        0  1  0 ...                 0           one bit a part
//! ```
//!
//! The matrices are read again for every window of the assignment. A stretch of a file whose parts
//! the window does not meet has nothing for it and is passed over. A bit a part, not a lowest and a
//! highest variable: most stretches read the constant one, which is variable 0, and their own
//! neighbourhood.
//!
//! Must never: say that a stretch does not read a variable that it reads.

use std::ops::Range;

/// A set of parts of the assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts(u64);

impl Parts {
    /// What a stretch may read that nobody looked at yet.
    pub(super) const ALL: Parts = Parts(u64::MAX);

    /// The set as a number, to keep in an atomic.
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// The set that [`Parts::bits`] gave.
    pub(super) fn from_bits(bits: u64) -> Self {
        Parts(bits)
    }

    pub(super) fn meets(self, other: Parts) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn add(&mut self, other: Parts) {
        self.0 |= other.0;
    }
}

/// How an assignment is cut into parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    part_len_log2: u32,
}

impl Cut {
    /// The cut of an assignment of `variables`: parts of the shortest power of two of which 64
    /// cover it.
    pub(super) fn of(variables: usize) -> Self {
        let part_len = variables.div_ceil(64).max(1).next_power_of_two();
        Self { part_len_log2: part_len.ilog2() }
    }

    /// The part that a variable below `variables` lies in.
    #[inline]
    pub(super) fn part(self, variable: usize) -> Parts {
        Parts(1 << (variable >> self.part_len_log2).min(63))
    }

    /// The parts that a range of variables meets.
    pub(super) fn parts(self, variables: Range<usize>) -> Parts {
        let Some(last) = variables.end.checked_sub(1).filter(|last| *last >= variables.start)
        else {
            return Parts::default();
        };
        let (first, last) = (self.part(variables.start).0, self.part(last).0);
        // All bits from the first to the last, both included.
        Parts((last - first) | last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_meets_exactly_the_parts_of_its_variables() {
        for variables in [1, 2, 63, 64, 65, 1000, 4096, 10_007] {
            let cut = Cut::of(variables);
            for start in (0..variables).step_by(variables.div_ceil(50)) {
                for len in [0, 1, 2, variables / 7, variables - start] {
                    let range = start..(start + len).min(variables);
                    let mut expected = Parts::default();
                    range.clone().for_each(|variable| expected.add(cut.part(variable)));
                    assert_eq!(cut.parts(range.clone()), expected, "{variables} {range:?}");
                }
            }
            assert!(Parts::ALL.meets(cut.part(variables - 1)));
        }
    }
}
