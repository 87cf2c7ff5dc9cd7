//! What the runs took against the baseline, peak by peak.
//!
//! ```text
//!   row          baseline  now  allowed   verdict
//!   process      VmHWM of the largest process                ok | regressed | improved | shown
//!   cgroup       the kernel's peak, under a cap
//!   stage NAME   live: most bytes that vectors asked for at once
//!   pools        held: with what pools cache and packed vectors, over all stages
//! ```
//!
//! A stage that the baseline does not know is new: it may take what the largest stage of the
//! baseline may, for then the peak of the whole does not rise. One that is in the baseline and
//! not in the runs has vanished; that is said, and is no regression.
//!
//! Invariant: `regressed` iff `now > allowed`. Must never: find a regression without a number.

use super::baseline::Baseline;
use super::stages::{HolderPeak, StagePeak};
use super::tolerance::{Tolerance, Tolerances, rise};
use plimsoll::limit::format_bytes;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Regressed,
    /// Lower by more than runs differ.
    Improved,
    /// Not compared.
    Shown,
    New,
    Vanished,
}

/// What the peak RSS of the runs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rss {
    Exact,
    /// An upper bound: what we were ourselves.
    AtMost,
}

/// Holders named for a risen peak of the process: the stages repeat one another.
const GROWN_MAX: usize = 3;

/// A holder grows by this much before it is named: below it is the noise of the heap.
const GROWN_BYTES_MIN: u64 = 64 << 10;

/// A holder at the peak, then and now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Grown {
    pub(super) name: String,
    pub(super) baseline_bytes: u64,
    pub(super) now_bytes: u64,
}

/// One peak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// `process`, `cgroup`, `pools`, or the stage's name.
    pub(super) name: String,
    /// `rss`, `cgroup`, `live` or `held`.
    pub(super) metric: &'static str,
    pub(super) verdict: Verdict,
    pub(super) baseline_bytes: Option<u64>,
    pub(super) now_bytes: Option<u64>,
    pub(super) allowed_bytes: Option<u64>,
    /// Holders that are larger than in the baseline, the most grown first.
    pub(super) grown: Vec<Grown>,
}

impl Row {
    fn of(name: &str, metric: &'static str, tolerance: Tolerance, was: u64, now: u64) -> Self {
        let allowed_bytes = tolerance.allowed_bytes(was);
        let verdict = match allowed_bytes {
            None => Verdict::Shown,
            Some(allowed) if now > allowed => Verdict::Regressed,
            Some(_) if tolerance.improved(was, now) => Verdict::Improved,
            Some(_) => Verdict::Ok,
        };
        Self {
            name: name.to_owned(),
            metric,
            verdict,
            baseline_bytes: Some(was),
            now_bytes: Some(now),
            allowed_bytes,
            grown: Vec::new(),
        }
    }

    /// Whether live bytes of a stage are above what is allowed.
    fn risen(&self) -> bool {
        self.metric == "live" && self.verdict == Verdict::Regressed
    }

    /// What the row is about, in words.
    pub(super) fn title(&self) -> String {
        match self.metric {
            "rss" => "peak RSS of the process".to_owned(),
            "cgroup" => "peak of the cgroup".to_owned(),
            "held" => "bytes held by pools, cached ones included".to_owned(),
            metric => format!("stage \"{}\", {metric} bytes", self.name),
        }
    }

    /// What is wrong or worth knowing, in one line.
    pub(super) fn says(&self) -> String {
        let size = |bytes: Option<u64>| bytes.map_or("-".into(), |b| format_bytes(b).to_string());
        let title = self.title();
        let (was, now) = (size(self.baseline_bytes), size(self.now_bytes));
        let risen = match (self.baseline_bytes, self.now_bytes) {
            (Some(was), Some(now)) => rise(was, now),
            _ => String::new(),
        };
        let allowed = size(self.allowed_bytes);
        match self.verdict {
            Verdict::Regressed if self.baseline_bytes.is_none() => format!(
                "{title}: {now} in a stage that is new, above the largest of the baseline \
                 ({allowed} allowed)"
            ),
            Verdict::Regressed => {
                let mut text = format!("{title}: {was} -> {now}, {risen}; {allowed} allowed");
                let grown = self
                    .grown
                    .iter()
                    .map(|g| format!("{} {}", g.name, rise(g.baseline_bytes, g.now_bytes)));
                let grown: Vec<String> = grown.collect();
                if !grown.is_empty() {
                    text += &format!("; grown: {}", grown.join(", "));
                }
                text
            }
            Verdict::Improved => format!("{title}: {was} -> {now}, {risen}; --bless keeps it so"),
            Verdict::New => format!("{title}: {now}, a new stage; --bless takes it in"),
            Verdict::Vanished => format!("{title}: {was}, gone; --bless takes it out"),
            Verdict::Shown | Verdict::Ok => format!("{title}: {was} -> {now}, {risen}"),
        }
    }
}

/// Every peak of the baseline and of the runs.
pub(super) fn compare(
    was: &Baseline,
    now: &Baseline,
    tolerances: &Tolerances,
    rss: Rss,
) -> Vec<Row> {
    let mut rows = vec![process(was, now, tolerances.rss(), rss)];
    if let (Some(was), Some(now)) = (was.cgroup_peak_bytes, now.cgroup_peak_bytes) {
        rows.push(Row::of("cgroup", "cgroup", tolerances.cgroup(), was, now));
    }
    for stage in &now.stages {
        match was.stages.iter().find(|old| old.name == stage.name) {
            Some(old) => rows.push(known(old, stage, tolerances.stage(&stage.name))),
            None => rows.push(new(was, stage, tolerances)),
        }
    }
    rows.extend(pools(was, now, tolerances.stages(), &rows));
    let gone = was.stages.iter().filter(|old| now.stages.iter().all(|new| new.name != old.name));
    rows.extend(gone.map(|old| Row {
        name: old.name.clone(),
        metric: "live",
        verdict: Verdict::Vanished,
        baseline_bytes: Some(old.live_peak_bytes),
        now_bytes: None,
        allowed_bytes: None,
        grown: Vec::new(),
    }));
    rows
}

fn process(was: &Baseline, now: &Baseline, tolerance: Tolerance, rss: Rss) -> Row {
    let (was_bytes, now_bytes) = (was.peak_rss_bytes, now.peak_rss_bytes);
    let mut row = Row::of("process", "rss", tolerance, was_bytes, now_bytes);
    if row.verdict != Verdict::Regressed {
        return row;
    }
    if rss == Rss::AtMost {
        // We have grown, not the command.
        row.verdict = Verdict::Shown;
        row.allowed_bytes = None;
        return row;
    }
    let in_stages = now.stages.iter().flat_map(|stage| {
        let old = was.stages.iter().find(|old| old.name == stage.name);
        let grown = grown(old.map_or(&[], |old| &old.holders), &stage.holders);
        grown.into_iter().map(|grown| Grown {
            name: format!("{} in stage \"{}\"", grown.name, stage.name),
            ..grown
        })
    });
    row.grown = in_stages.collect();
    row.grown.sort_by_key(|grown| std::cmp::Reverse(grown.now_bytes - grown.baseline_bytes));
    row.grown.truncate(GROWN_MAX);
    row
}

fn known(old: &StagePeak, new: &StagePeak, tolerance: Tolerance) -> Row {
    let mut row = Row::of(&new.name, "live", tolerance, old.live_peak_bytes, new.live_peak_bytes);
    if row.verdict == Verdict::Regressed {
        row.grown = grown(&old.holders, &new.holders);
        // What is cached and what is on the heap are no live bytes of vectors.
        row.grown.retain(|grown| grown.name.ends_with(" in use"));
    }
    row
}

/// What pools and packed vectors held at most, over all stages. Caches pass from stage to stage, so
/// it is one figure; and it is told only where no live bytes rose, which it contains.
fn pools(was: &Baseline, now: &Baseline, tolerance: Tolerance, live: &[Row]) -> Option<Row> {
    let highest = |of: &[StagePeak]| of.iter().max_by_key(|stage| stage.held_peak_bytes).cloned();
    let (was, now) = (highest(&was.stages)?, highest(&now.stages)?);
    let mut row = Row::of("pools", "held", tolerance, was.held_peak_bytes, now.held_peak_bytes);
    if row.verdict == Verdict::Regressed && live.iter().any(Row::risen) {
        row.verdict = Verdict::Shown;
        row.allowed_bytes = None;
    } else if row.verdict == Verdict::Regressed {
        row.grown = grown(&was.holders, &now.holders);
    }
    Some(row)
}

fn new(was: &Baseline, stage: &StagePeak, tolerances: &Tolerances) -> Row {
    let largest = was.stages.iter().map(|old| old.live_peak_bytes).max();
    // A baseline without stages says nothing of what one may take.
    let allowed = largest.and_then(|bytes| tolerances.stage(&stage.name).allowed_bytes(bytes));
    let above = allowed.is_some_and(|allowed| stage.live_peak_bytes > allowed);
    Row {
        name: stage.name.clone(),
        metric: "live",
        verdict: if above { Verdict::Regressed } else { Verdict::New },
        baseline_bytes: None,
        now_bytes: Some(stage.live_peak_bytes),
        allowed_bytes: allowed,
        grown: grown(&[], &stage.holders),
    }
}

/// Holders that are larger now, the most grown first.
fn grown(was: &[HolderPeak], now: &[HolderPeak]) -> Vec<Grown> {
    let of = |name: &str| was.iter().find(|old| old.name == name).map_or(0, |old| old.bytes);
    let mut grown: Vec<Grown> = now
        .iter()
        .map(|new| Grown {
            name: new.name.clone(),
            baseline_bytes: of(&new.name),
            now_bytes: new.bytes,
        })
        .filter(|grown| grown.now_bytes > grown.baseline_bytes + GROWN_BYTES_MIN)
        .collect();
    grown.sort_by_key(|grown| std::cmp::Reverse(grown.now_bytes - grown.baseline_bytes));
    grown
}
