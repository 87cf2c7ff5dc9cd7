//! What to do next: sentences that follow from a recording's numbers.
//!
//! Each rule looks at one thing, has a threshold, and says nothing below it:
//!
//! ```text
//!   peak      always: the stage that sets it, and the largest holder there
//!   limit     peak above 97 % of it, or below half of it; or no limit at all
//!   choice    in place of that where the program knows the limits there are: which they are, and
//!             what spilling cost under this one
//!   cores     a stage with a twentieth of the time that keeps less than 60 % of the cores busy
//!   stalls    a stage that waits for vectors more than a tenth of its core time
//!   cache     more than a quarter of the peak was cached blocks
//!   reclaims  charges that had to climb the ladder in the middle of a stage
//! ```
//!
//! Where the limits are known, the reader is the person who runs a finished program: what only its
//! author could do (cores, reclaims) is then left out.
//!
//! Must never: advise what the numbers do not show, or what the reader cannot do.

use crate::limit::format_bytes;
use crate::record::{KnownLimits, Recording, StageTotal};

/// A stage shorter than this share of the run gets no sentence.
const TIME_PART_MIN: f64 = 0.05;

/// The share of busy cores below which the advice calls a stage idle.
const BUSY_PART_MIN: f64 = 0.6;

/// The share of waiting in core time above which the advice says that a stage waits.
const STALLED_PART_MAX: f64 = 0.1;

/// Idle stages named.
const IDLE_STAGES_MAX: usize = 3;

/// What a sentence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The stage that sets the peak.
    Peak,
    /// The limit is near, far or missing.
    Limit,
    /// Cores that nobody uses.
    Cores,
    /// Waiting for vectors that are not in memory.
    Stalls,
    /// Cached blocks at the peak.
    Cache,
    /// Reclaiming in the middle of stages.
    Reclaims,
}

impl Kind {
    /// Returns its word on the page.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Peak => "peak",
            Self::Limit => "limit",
            Self::Cores => "cores",
            Self::Stalls => "waiting",
            Self::Cache => "cache",
            Self::Reclaims => "reclaim",
        }
    }
}

/// One sentence, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What it is about.
    pub kind: Kind,
    /// The sentence. It may hold names as they were given: escape it.
    pub text: String,
}

pub(super) fn of(run: &Recording) -> Vec<Advice> {
    let mut advice = vec![Advice { kind: Kind::Peak, text: peak(run) }];
    let mut say =
        |kind, text: Option<String>| advice.extend(text.map(|text| Advice { kind, text }));
    if let Some(known) = run.known_limits {
        say(Kind::Limit, Some(choice(run, known)));
        run.totals.iter().for_each(|total| say(Kind::Stalls, stalls(run, total)));
        say(Kind::Cache, cache(run));
        return advice;
    }
    say(Kind::Limit, limit(run));
    let mut idle: Vec<&StageTotal> = leaves(run).filter(|total| is_idle(run, total)).collect();
    idle.sort_by(|a, b| run.idle_core_seconds(b).total_cmp(&run.idle_core_seconds(a)));
    for total in idle.into_iter().take(IDLE_STAGES_MAX) {
        say(Kind::Cores, Some(cores(run, total)));
    }
    for total in &run.totals {
        say(Kind::Stalls, stalls(run, total));
    }
    say(Kind::Cache, cache(run));
    say(Kind::Reclaims, reclaims(run));
    advice
}

fn seconds(run: &Recording) -> f64 {
    run.duration_us as f64 / 1e6
}

/// Stages that are not around others: an outer stage is idle where its inner ones are.
fn leaves(run: &Recording) -> impl Iterator<Item = &StageTotal> {
    let deepest = |total: &&StageTotal| {
        let around = |outer: &crate::record::Span| {
            outer.name == total.name
                && run.spans.iter().any(|inner| {
                    inner.track == outer.track
                        && inner.depth > outer.depth
                        && inner.start_us >= outer.start_us
                        && inner.end_us() <= outer.end_us()
                })
        };
        !run.spans.iter().take(OUTER_LOOKED_AT_MAX).any(around)
    };
    run.totals.iter().filter(|total| total.cpu_seconds > 0.0).filter(deepest)
}

/// Spans looked at to learn which stages are around others; all of a usual prover's.
const OUTER_LOOKED_AT_MAX: usize = 256;

fn is_idle(run: &Recording, total: &StageTotal) -> bool {
    let busy = run.cores_busy_in(total) / run.threads.max(1) as f64;
    run.threads > 1 && total.wall_seconds >= TIME_PART_MIN * seconds(run) && busy < BUSY_PART_MIN
}

fn peak(run: &Recording) -> String {
    let mut text = match run.stage_at_peak() {
        Some(span) => format!(
            "Stage \"{}\" sets the peak of {}.",
            run.shown_name(span),
            format_bytes(run.peak_bytes)
        ),
        None => format!(
            "The peak of {} lies outside all stages: name that part of the program with a stage.",
            format_bytes(run.peak_bytes)
        ),
    };
    if let Some(first) = run.holders.first() {
        let held = format_bytes(first.bytes);
        text += &format!(" Its largest holder is {} with {held}", first.name);
        text += match run.known_limits {
            Some(_) => ".",
            None => ": less of that lowers the peak.",
        };
    }
    text
}

/// The limits there are to choose from, and what this one cost.
fn choice(run: &Recording, known: KnownLimits) -> String {
    let sum = |part: fn(&StageTotal) -> u64| run.totals.iter().map(part).sum::<u64>();
    let (packed, spilled) = (sum(|total| total.packed_bytes), sum(|total| total.spilled_bytes));
    let stalled: f64 = run.totals.iter().map(|total| total.stalled_seconds).sum();
    let in_core = as_limit(known.in_core_bytes);
    let cost = match packed + spilled {
        0 => format!("Nothing left memory: a limit of {in_core} is enough for that."),
        _ => format!(
            "Under this limit {} were packed and {} spilled, and threads waited {stalled:.2} s in \
             all for what was away. From a limit of {in_core} on, nothing leaves memory.",
            format_bytes(packed),
            format_bytes(spilled),
        ),
    };
    format!("{cost} The smallest limit that works is {}.", as_limit(known.smallest_bytes))
}

/// `bytes` as an option takes them, in whole MiB and not less.
fn as_limit(bytes: u64) -> String {
    format!("{}MiB", bytes.div_ceil(1 << 20))
}

fn limit(run: &Recording) -> Option<String> {
    let Some(limit) = run.limit_bytes.filter(|limit| *limit > 0) else {
        return Some(
            "No limit is set: nothing is given back until the machine is full.".to_owned(),
        );
    };
    let part = run.peak_bytes as f64 / limit as f64;
    let shown = (format_bytes(run.peak_bytes), format_bytes(limit));
    if part > 1.0 {
        let over = format_bytes(run.peak_bytes - limit);
        return Some(format!(
            "The peak is {over} over the limit of {}: raise it, or let \
            vectors spill.",
            shown.1
        ));
    }
    if part > 0.97 {
        return Some(format!(
            "The run uses all of its limit of {}. Where it waits, a higher limit \
            makes it faster.",
            shown.1
        ));
    }
    (part < 0.5).then(|| {
        format!(
            "The peak of {} is {:.0} % of the limit of {}: a smaller machine, or a second run \
            beside this one, would do.",
            shown.0,
            part * 100.0,
            shown.1
        )
    })
}

fn cores(run: &Recording, total: &StageTotal) -> String {
    format!(
        "Stage \"{}\" keeps {:.1} of {} cores busy for {:.2} s: {:.2} core-seconds are idle. Split \
         its work, or run another stage beside it.",
        total.name,
        run.cores_busy_in(total),
        run.threads,
        total.wall_seconds,
        run.idle_core_seconds(total),
    )
}

fn stalls(run: &Recording, total: &StageTotal) -> Option<String> {
    let core_seconds = total.wall_seconds * run.threads as f64;
    (total.stalled_seconds > STALLED_PART_MAX * core_seconds && core_seconds > 0.0).then(|| {
        format!(
            "Stage \"{}\" waits {:.2} s for vectors that are on disk or packed: {}use a faster \
             disk, or raise the limit.",
            total.name,
            total.stalled_seconds,
            if run.known_limits.is_some() { "" } else { "prefetch them earlier, " },
        )
    })
}

fn cache(run: &Recording) -> Option<String> {
    let cached = run.holders.iter().filter(|held| held.name.ends_with(" cached"));
    let cached: u64 = cached.map(|held| held.bytes).sum();
    (cached > run.peak_bytes / 4).then(|| {
        format!(
            "{} of the peak are cached blocks that nobody uses: a lower limit gives them back \
             before anything spills.",
            format_bytes(cached)
        )
    })
}

fn reclaims(run: &Recording) -> Option<String> {
    let charges: u64 =
        run.marks.iter().filter(|mark| mark.name == "charge").map(|mark| mark.count).sum();
    (charges > 0).then(|| {
        format!(
            "{charges} charges had to reclaim in the middle of a stage: stages that say how many \
             bytes they need reclaim once, before they begin."
        )
    })
}
