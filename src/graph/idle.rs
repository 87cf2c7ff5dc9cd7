//! Core-seconds that nobody used while tasks ran, and which task could have used them.
//!
//! Between two events (a start, a tail, an end) the tasks that run are the same, and so is the
//! first task whose values are all made and that has not started. `threads * wall - cpu` of the
//! interval is counted for that pair of each running task and the one that waits.

use crate::stage::cpu_seconds;
use std::collections::BTreeMap;
use std::time::Instant;

/// Counts idle core-seconds from one event to the next.
#[derive(Debug)]
pub(super) struct Idle {
    threads: usize,
    since: (Instant, f64),
    running: Vec<usize>,
    waiting: Option<usize>,
    /// By the task that ran and the one that could have.
    seconds: BTreeMap<(usize, usize), f64>,
    /// Over the whole run.
    pub(super) total_seconds: f64,
}

impl Idle {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads,
            since: (Instant::now(), cpu_seconds()),
            running: Vec::new(),
            waiting: None,
            seconds: BTreeMap::new(),
            total_seconds: 0.0,
        }
    }

    /// Ends an interval and begins the next, in which `running` run and `waiting` waits.
    pub(super) fn event(&mut self, running: Vec<usize>, waiting: Option<usize>) {
        self.advance(Instant::now(), cpu_seconds());
        (self.running, self.waiting) = (running, waiting);
    }

    fn advance(&mut self, now: Instant, cpu: f64) {
        let wall = now.saturating_duration_since(self.since.0).as_secs_f64();
        let idle = (self.threads as f64 * wall - (cpu - self.since.1)).max(0.0);
        self.since = (now, cpu);
        self.total_seconds += idle;
        for running in self.waiting.iter().flat_map(|_| &self.running) {
            let pair = (*running, self.waiting.unwrap_or_default());
            *self.seconds.entry(pair).or_default() += idle;
        }
    }

    /// The task that could have used most of the core-seconds that were idle while `task` ran.
    pub(super) fn could_have_run(&self, task: usize) -> Option<usize> {
        let of =
            self.seconds.iter().filter(|((running, _), idle)| *running == task && **idle > 0.0);
        of.max_by(|a, b| a.1.total_cmp(b.1)).map(|((_, waiting), _)| *waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn idle_seconds_go_to_the_pair_of_that_interval() {
        let mut idle = Idle::new(4);
        idle.since.1 = 0.0;
        let mut now = idle.since;
        let mut pass = |idle: &mut Idle, wall: u64, busy: f64| {
            now = (now.0 + Duration::from_secs(wall), now.1 + busy);
            idle.advance(now.0, now.1);
        };
        idle.running = vec![0];
        pass(&mut idle, 2, 8.0);
        assert!(idle.total_seconds < 1e-6 && idle.could_have_run(0).is_none(), "{idle:?}");
        idle.waiting = Some(2);
        pass(&mut idle, 3, 3.0);
        (idle.running, idle.waiting) = (vec![0, 1], Some(3));
        pass(&mut idle, 1, 2.0);
        assert!((idle.total_seconds - 11.0).abs() < 1e-6, "{idle:?}");
        assert_eq!(idle.could_have_run(0), Some(2), "9 core-seconds beside 2");
        assert_eq!(idle.could_have_run(1), Some(3));
        // More threads than were counted on: nothing is idle, and nothing is less than that.
        pass(&mut idle, 1, 9.0);
        assert!((idle.total_seconds - 11.0).abs() < 1e-6, "{idle:?}");
    }
}
