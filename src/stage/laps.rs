//! Peaks of stages that nest, or overlap on several threads: each has its own, exactly.
//!
//! ```text
//!   time     ----a1-----b1-------a2------c1----b2--->      a1: stage a begins; a2: it ends
//!   segments  s0 |  s1  |        s2      | s3
//!   peak of a        s1    s2                              every segment since it began
//! ```
//!
//! A gauge has one lap. Each stage that begins restarts it, and keeps what it was: the segment
//! before itself. The peak of a stage is the highest of the segments that later stages keep and of
//! the lap that runs. When a stage ends, its border goes: the segment before it joins the one
//! behind it.
//!
//! Invariant: the segments and the lap that runs are as high, together, as a lap that nobody had
//! restarted.

/// Gauges that stages read: the process, vectors asked for, held, and asked for in each pool.
pub(crate) const GAUGES: usize = 5;

/// One figure for each gauge, in bytes.
pub(crate) type Marks = [usize; GAUGES];

fn highest(one: Marks, other: Marks) -> Marks {
    std::array::from_fn(|gauge| one[gauge].max(other[gauge]))
}

/// The stages of one runtime that are open, in the order of their starts.
#[derive(Debug, Default)]
pub(crate) struct Laps {
    begun: u64,
    /// A stage's number, and the segment before it.
    open: Vec<(u64, Marks)>,
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The highest since it began.
    pub(crate) peak: Marks,
    /// What the laps that run must be raised to.
    pub(crate) resume: Marks,
}

impl Laps {
    /// Begins a stage: the laps were restarted, and were as high as `before`. Returns its number.
    pub(crate) fn begin(&mut self, before: Marks) -> u64 {
        self.begun += 1;
        self.open.push((self.begun, before));
        self.begun
    }

    /// Ends stage `number` while the laps that run are as high as `now`.
    pub(crate) fn end(&mut self, number: u64, now: Marks) -> Ended {
        let none = [0; GAUGES];
        let Some(at) = self.open.iter().position(|(other, _)| *other == number) else {
            return Ended { peak: now, resume: none };
        };
        let (_, before) = self.open.remove(at);
        let later = self.open[at..].iter().map(|(_, segment)| *segment);
        let peak = later.fold(now, highest);
        let resume = match self.open.get_mut(at) {
            Some((_, segment)) => {
                *segment = highest(*segment, before);
                none
            }
            None => before,
        };
        Ended { peak, resume }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_arena::Watermark;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    /// Stages that begin and end in any order, against one that remembers every value.
    #[test]
    fn each_stage_has_the_highest_value_since_it_began() {
        for seed in 0..200 {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let (gauge, mut laps) = (Watermark::default(), Laps::default());
            let mut history = vec![0];
            let mut open: Vec<(u64, usize)> = Vec::new();
            for _ in 0..100 {
                match rng.gen_range(0..4) {
                    0 => {
                        let before = [gauge.restart(); GAUGES];
                        open.push((laps.begin(before), history.len() - 1));
                    }
                    1 if !open.is_empty() => {
                        let (number, since) = open.swap_remove(rng.gen_range(0..open.len()));
                        let ended = laps.end(number, [gauge.lap_bytes(); GAUGES]);
                        let highest = history[since..].iter().max().copied();
                        assert_eq!(highest, Some(ended.peak[0]), "seed {seed}");
                        gauge.resume(ended.resume[0]);
                    }
                    2 => {
                        gauge.add(rng.gen_range(0..1000));
                    }
                    _ => {
                        gauge.sub(rng.gen_range(0..=gauge.now_bytes()));
                    }
                }
                history.push(gauge.now_bytes());
            }
            for (number, _) in open {
                let ended = laps.end(number, [gauge.lap_bytes(); GAUGES]);
                gauge.resume(ended.resume[0]);
            }
            let highest = history.iter().max().copied();
            assert_eq!(highest, Some(gauge.lap_bytes()), "seed {seed}: the outer lap is whole");
        }
    }
}
