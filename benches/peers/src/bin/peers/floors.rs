//! The smallest limit that ours keeps to and makes its proof under, and what holds it up.
//!
//! ```text
//!   0 ........ not kept, not ended | the same proof, VmHWM <= limit ........ peak in core
//!                            floor ^  halved until it is known to 1/50 of the peak or 4 MiB
//!   at the floor, watched: file + small blocks + tables + stacks | pages of the pager
//!                          most of what never leaves memory      | what is left for what does
//! ```
//!
//! Not ended is a run that takes 20 times its time in core. PLIMSOLL_FAIL_FAST is off: it would
//! end a run that waits for pages nearly all the time, and a run at the smallest limit does that.
//! A limit that the allocator cannot keep is exceeded, not refused: VmHWM and samples say so, and
//! the run is killed.
//!
//! What is watched is looked at once more in a run of its own, since watching takes time.

use crate::Work;
use crate::child::{Bounds, Children, Ended, Lost, Run};
use crate::in_core::{OURS, one_proof};
use crate::table::Table;
use plimsoll_peers::anatomy::WATCH_VARIABLE;
use plimsoll_peers::provers::Prover;

/// A run that takes so many times what it took in core has not ended.
const LOST_FACTOR: f64 = 20.0;
/// Seconds below which no run is given up.
const LOST_SECONDS_MIN: f64 = 5.0;

/// The floor is known to this share of the peak, or to so many bytes.
const STEP_DIVISOR: u64 = 50;
const STEP_BYTES_MIN: u64 = 4 << 20;

/// What the watched run prints of the moment at which most could not be paged.
const PARTS: [&str; 8] =
    ["small_most", "small", "small_free", "tables", "stacks", "file", "pages", "pages_budget"];

/// Looks for the floor between nothing and the peak in core, and prints it.
pub(crate) fn measure(children: &Children, table: &mut Table, work: Work) {
    let Work { prover, size, .. } = work;
    let name = children.name(prover);
    let Some(core) = one_proof(children, (prover, size), OURS, 1) else {
        return table.broken(&format!("{name}: no proof in core"));
    };
    let peak = core.peak_bytes as u64;
    println!("# {name}: in core {:.3} s, {peak} bytes", core.first_seconds);
    let search = Search { children, what: (prover, size), core: &core };
    let floor = search.floor(peak);
    let mut more = format!(
        " seconds={:.3} of_in_core={:.2} twice={} below={} below_is={}",
        floor.run.first_seconds,
        floor.run.first_seconds / core.first_seconds,
        floor.twice,
        floor.below,
        floor.below_is
    );
    match search.probe(floor.limit, Watch::On) {
        Ok(run) => more.push_str(&parts(&run)),
        Err(lost) => println!("# {name}: no parts, the watched run was {}", word(lost.ended)),
    }
    let figures = (floor.limit as f64, peak as f64, "in-core");
    table.explained(&format!("floor/{name}"), "bytes", figures, &more);
    if floor.run.hash != core.hash {
        table.broken(&format!("floor/{name}: another proof than in core"));
    }
}

/// What the search came to.
struct Floor {
    limit: u64,
    run: Run,
    /// The lowest limit of those tried under which it took at most twice the time in core.
    twice: u64,
    /// The highest of those tried that is too low, and why it is.
    below: u64,
    below_is: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    On,
    Off,
}

/// One prover, and what it is in core.
struct Search<'a> {
    children: &'a Children,
    what: (Prover, u32),
    core: &'a Run,
}

impl Search<'_> {
    /// Halves what is between no memory and the peak.
    fn floor(&self, peak: u64) -> Floor {
        let step = (peak / STEP_DIVISOR).max(STEP_BYTES_MIN);
        let run = self.core.clone();
        let mut floor = Floor { limit: peak, run, twice: peak, below: 0, below_is: "nothing" };
        while floor.limit - floor.below > step {
            let limit = floor.below + (floor.limit - floor.below) / 2;
            match self.probe(limit, Watch::Off) {
                Ok(run) => {
                    if run.first_seconds <= 2.0 * self.core.first_seconds {
                        floor.twice = limit;
                    }
                    (floor.limit, floor.run) = (limit, run);
                }
                Err(lost) => (floor.below, floor.below_is) = (limit, word(lost.ended)),
            }
        }
        floor
    }

    /// One proof under a limit, and a line about it.
    fn probe(&self, limit: u64, watch: Watch) -> Result<Run, Lost> {
        let watched = watch == Watch::On;
        let (bytes, spill) = (limit.to_string(), self.children.folder.display().to_string());
        let mut variables =
            vec![("PLIMSOLL_LIMIT", bytes.as_str()), ("PLIMSOLL_SPILL_DIR", &spill)];
        if watched {
            variables.push((WATCH_VARIABLE, "1"));
        }
        let bounds = Bounds {
            seconds: (self.core.wall_seconds * LOST_FACTOR).max(LOST_SECONDS_MIN),
            // Who watches takes memory as well.
            bytes: if watched { f64::INFINITY } else { limit as f64 },
        };
        let (prover, size) = self.what;
        let words = self.children.words(OURS, prover, size, 1);
        let over = |run: &Run| Lost {
            ended: Ended::OverTheLimit,
            seconds: run.wall_seconds,
            said: format!("VmHWM of {:.0}", run.peak_bytes),
        };
        let run = self.children.run_within(&words, &variables, bounds);
        let run = run.and_then(|run| match run.peak_bytes > bounds.bytes {
            true => Err(over(&run)),
            false => Ok(run),
        });
        let (name, watched) = (prover.name(), if watched { ", watched" } else { "" });
        match &run {
            Ok(run) => println!(
                "# {name}: limit {limit}{watched}: kept, {:.3} s, VmHWM {:.0}, read {:.3e}, \
                 written {:.3e}, stalled {:.2} s",
                run.first_seconds,
                run.peak_bytes,
                run.number("read_bytes").unwrap_or(0.0),
                run.number("written_bytes").unwrap_or(0.0),
                run.number("stalled_seconds").unwrap_or(0.0),
            ),
            Err(Lost { ended, seconds, said }) => println!(
                "# {name}: limit {limit}{watched}: {} after {seconds:.1} s ({said})",
                word(*ended)
            ),
        }
        run
    }
}

/// The end of a run as a field has it.
fn word(ended: Ended) -> &'static str {
    match ended {
        Ended::Well => "wrong",
        Ended::Failed => "ended-by-itself",
        Ended::AtTheDeadline => "slow",
        Ended::OverTheLimit => "over",
    }
}

fn parts(run: &Run) -> String {
    let number = |name: &str| run.number(name).unwrap_or(f64::NAN);
    let part = |name: &&str| format!(" {name}={:.0}", number(&format!("watched_{name}_bytes")));
    let mut text: String = PARTS.iter().map(part).collect();
    for name in ["pinned", "overdrafts"] {
        text.push_str(&format!(" {name}={:.0}", number(name)));
    }
    text
}
