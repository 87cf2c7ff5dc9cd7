//! What the runs said of their stages, and what stands for all runs.
//!
//! ```text
//!   log of a run   lines, in order     a stage may come several times (several proofs)
//!     one run      by name             the highest of its lines
//!     all runs     by name             the lowest run
//! ```
//!
//! Why the lowest: what differs between runs of one program (threads that overlap, pages of
//! libraries, huge pages) adds to the peak and never takes from it, so the lowest of a few runs is
//! the nearest to what the program needs, and moves least. A change that needs more raises every
//! run, and so the lowest too.
//!
//! Invariant: stages keep the order in which they first ended.
//!
//! Must never: take a damaged line for no line.

use plimsoll::stage::log::VERSION;
use serde::{Deserialize, Serialize};

/// Who held how much at a stage's peak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HolderPeak {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// A stage's peaks, over one run or all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StagePeak {
    pub(super) name: String,
    /// Times it ended in a run.
    pub(super) count: u64,
    pub(super) need_bytes: u64,
    pub(super) live_peak_bytes: u64,
    pub(super) held_peak_bytes: u64,
    pub(super) holders: Vec<HolderPeak>,
}

/// A line of the log; fields that it may have besides are not looked at.
#[derive(Deserialize)]
struct Line {
    plimsoll_stage: u32,
    name: String,
    need_bytes: u64,
    live_peak_bytes: u64,
    held_peak_bytes: u64,
    holders: Vec<HolderPeak>,
}

/// The stages of one run, from the text of its log.
///
/// # Errors
///
/// In words, naming the line, when it is damaged or of another version.
pub(super) fn of_run(log: &str) -> Result<Vec<StagePeak>, String> {
    let mut stages: Vec<StagePeak> = Vec::new();
    for (i, text) in log.lines().enumerate() {
        let line: Line = serde_json::from_str(text)
            .map_err(|why| format!("line {} of the stage log is damaged: {why}", i + 1))?;
        if line.plimsoll_stage != VERSION {
            return Err(format!(
                "line {} of the stage log has version {}, this plimsoll reads {VERSION}: use the \
                 same version on both sides",
                i + 1,
                line.plimsoll_stage
            ));
        }
        let new = StagePeak {
            name: line.name,
            count: 1,
            need_bytes: line.need_bytes,
            live_peak_bytes: line.live_peak_bytes,
            held_peak_bytes: line.held_peak_bytes,
            holders: line.holders,
        };
        match stages.iter_mut().find(|stage| stage.name == new.name) {
            Some(old) => raise(old, new),
            None => stages.push(new),
        }
    }
    Ok(stages)
}

fn raise(old: &mut StagePeak, new: StagePeak) {
    old.count += 1;
    old.need_bytes = old.need_bytes.max(new.need_bytes);
    old.held_peak_bytes = old.held_peak_bytes.max(new.held_peak_bytes);
    if new.live_peak_bytes > old.live_peak_bytes {
        old.live_peak_bytes = new.live_peak_bytes;
        old.holders = new.holders;
    }
}

/// What stands for all runs: the lowest, stage by stage and peak by peak.
pub(super) fn of_all<'a>(runs: impl Iterator<Item = &'a [StagePeak]>) -> Vec<StagePeak> {
    let mut stages: Vec<StagePeak> = Vec::new();
    for new in runs.flatten() {
        match stages.iter_mut().find(|stage| stage.name == new.name) {
            Some(old) => lower(old, new),
            None => stages.push(new.clone()),
        }
    }
    stages
}

fn lower(old: &mut StagePeak, new: &StagePeak) {
    old.count = old.count.min(new.count);
    old.need_bytes = old.need_bytes.min(new.need_bytes);
    old.held_peak_bytes = old.held_peak_bytes.min(new.held_peak_bytes);
    if new.live_peak_bytes < old.live_peak_bytes {
        old.live_peak_bytes = new.live_peak_bytes;
        old.holders.clone_from(&new.holders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, live: u64, held: u64) -> String {
        format!(
            "{{\"plimsoll_stage\":1,\"pid\":1,\"name\":\"{name}\",\"need_bytes\":{live},\
             \"live_peak_bytes\":{live},\"held_peak_bytes\":{held},\"peak_bytes\":0,\
             \"holders\":[{{\"name\":\"h\",\"bytes\":{live}}}]}}\n"
        )
    }

    #[test]
    fn the_highest_line_of_a_run_and_the_lowest_run() {
        let first = line("a", 10, 90) + &line("b", 5, 5) + &line("a", 30, 40);
        let second = line("a", 20, 50) + &line("b", 6, 4) + &line("c", 1, 1);
        let runs = [first, second].map(|log| of_run(&log).expect("a log"));
        let first = &runs[0][0];
        assert_eq!((first.count, first.live_peak_bytes, first.held_peak_bytes), (2, 30, 90));
        assert_eq!(first.holders[0].bytes, 30);
        let all = of_all(runs.iter().map(Vec::as_slice));
        let seen: Vec<_> = all.iter().map(|s| (s.name.as_str(), s.live_peak_bytes)).collect();
        assert_eq!(seen, [("a", 20), ("b", 5), ("c", 1)]);
        assert_eq!((all[0].held_peak_bytes, all[0].holders[0].bytes), (50, 20));
    }

    #[test]
    fn damaged_lines_and_other_versions_are_named() {
        let cut = line("a", 1, 1) + "{\"plimsoll_stage\":1,\"na";
        assert!(of_run(&cut).expect_err("cut").contains("line 2"));
        let other = line("a", 1, 1).replace("stage\":1", "stage\":2");
        assert!(of_run(&other).expect_err("other").contains("version 2"));
        assert!(of_run("").expect("no stages").is_empty());
    }
}
