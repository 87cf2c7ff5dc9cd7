//! `plimsoll report A.json [B.json]`: a recorded run as a table, or two side by side.
//!
//! ```text
//!   A.json   what `prove --json` printed, or what `prove --timeline` wrote
//!
//!   stage            time A     time B   change      peak A      peak B   change
//!   msm A            1.20 s     1.08 s  -10.0 %    84.2 MiB    84.2 MiB    0.0 %
//! ```
//!
//! Stages of one name are one row: their times added, the highest of their peaks. A stage that only
//! one run has is shown with `-`.
//!
//! Must never: compare what it could not read whole: a damaged file is an error that names it.

use super::failure::Failure;
use super::report::print;
use clap::Args;
use plimsoll::limit::format_bytes;
use plimsoll::record::Recording;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Largest file read: timelines are bounded far below.
const FILE_BYTES_MAX: u64 = 64 << 20;

pub(super) const HELP: &str = "\
A file is what `plimsoll prove --json` printed or what `--timeline` wrote.
Exit codes: 0 shown; 2 a file that cannot be read.

Examples:
  plimsoll report before.json after.json
  plimsoll report run.json --html run.html";

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// The run, or the one before a change.
    #[arg(value_name = "A.json")]
    before: PathBuf,

    /// The run after a change.
    #[arg(value_name = "B.json", conflicts_with = "html")]
    after: Option<PathBuf>,

    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,

    /// Write the report page of a timeline.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
}

/// The sums over all stages of one name.
#[derive(Clone, Debug, PartialEq)]
struct Stage {
    name: String,
    wall_seconds: f64,
    peak_bytes: u64,
}

/// What a file says of a run.
#[derive(Debug)]
struct RecordedRun {
    wall_seconds: f64,
    peak_bytes: u64,
    limit_bytes: Option<u64>,
    stages: Vec<Stage>,
    recording: Option<Recording>,
}

pub(super) fn run(args: &CompareArgs) -> Result<(), Failure> {
    let before = RecordedRun::read(&args.before)?;
    if let Some(html) = &args.html {
        let Some(recording) = &before.recording else {
            return Err(Failure::Input(format!(
                "{}: has stages but no samples over time; a page needs what `plimsoll prove \
                 --timeline FILE` writes",
                args.before.display()
            )));
        };
        recording.write_report(html)?;
        return print(&format!("wrote {}\n", html.display()));
    }
    let after = args.after.as_deref().map(RecordedRun::read).transpose()?;
    let rows = rows(&before, after.as_ref());
    if args.json {
        let rows: Vec<Value> = rows.iter().map(ComparedStage::json).collect();
        return print(&format!("{}\n", json!({ "rows": rows })));
    }
    match &after {
        Some(_) => print(&table_of_two(&rows)),
        None => print(&table_of_one(&rows, before.limit_bytes)),
    }
}

impl RecordedRun {
    fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let input = |what: String| Failure::Input(format!("{shown}: {what}"));
        let length = std::fs::metadata(path).map_err(|why| input(why.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            let most = format_bytes(FILE_BYTES_MAX);
            return Err(input(format!("is larger than any timeline (over {most}); wrong file?")));
        }
        let text = std::fs::read(path).map_err(|why| input(why.to_string()))?;
        let value: Value = serde_json::from_slice(&text).map_err(|why| {
            input(format!("is not JSON ({why}); give what `prove --json` or `--timeline` wrote"))
        })?;
        let recording = Recording::of_timeline(&value).map_err(input)?;
        match recording {
            Some(recording) => Ok(Self::of_recording(recording)),
            None => Self::of_proof(&value).ok_or_else(|| {
                input("is neither of `plimsoll prove --json` nor of `--timeline`".to_owned())
            }),
        }
    }

    fn of_recording(recording: Recording) -> Self {
        let stage = |total: &plimsoll::record::StageTotal| Stage {
            name: total.name.to_string(),
            wall_seconds: total.wall_seconds,
            peak_bytes: total.peak_bytes,
        };
        Self {
            wall_seconds: recording.duration_us as f64 / 1e6,
            peak_bytes: recording.peak_bytes,
            limit_bytes: recording.limit_bytes,
            stages: recording.totals.iter().map(stage).collect(),
            recording: Some(recording),
        }
    }

    fn of_proof(value: &Value) -> Option<Self> {
        let mut stages: Vec<Stage> = Vec::new();
        for stage in value.get("stages")?.as_array()? {
            let name = stage.get("name")?.as_str()?;
            let wall_seconds = stage.get("wall_seconds")?.as_f64()?;
            let peak_bytes = stage.get("peak_bytes")?.as_u64()?;
            match stages.iter_mut().find(|known| known.name == name) {
                Some(known) => {
                    known.wall_seconds += wall_seconds;
                    known.peak_bytes = known.peak_bytes.max(peak_bytes);
                }
                None => stages.push(Stage { name: name.to_owned(), wall_seconds, peak_bytes }),
            }
        }
        Some(Self {
            wall_seconds: value.get("wall_seconds")?.as_f64()?,
            peak_bytes: value.get("peak_rss_bytes")?.as_u64()?,
            limit_bytes: value.get("limit_bytes").and_then(Value::as_u64),
            stages,
            recording: None,
        })
    }

    fn whole(&self) -> Stage {
        let name = "whole run".to_owned();
        Stage { name, wall_seconds: self.wall_seconds, peak_bytes: self.peak_bytes }
    }
}

/// A stage in either run.
#[derive(Debug)]
struct ComparedStage {
    before: Option<Stage>,
    after: Option<Stage>,
}

impl ComparedStage {
    fn name(&self) -> &str {
        self.before.as_ref().or(self.after.as_ref()).map_or("", |stage| &stage.name)
    }

    fn json(&self) -> Value {
        let of = |stage: &Option<Stage>| match stage {
            Some(stage) => {
                json!({"wall_seconds": stage.wall_seconds, "peak_bytes": stage.peak_bytes})
            }
            None => Value::Null,
        };
        json!({"stage": self.name(), "before": of(&self.before), "after": of(&self.after)})
    }
}

/// The stages of both runs in the order of the first, what only the second has after that, and the
/// runs as a whole.
fn rows(before: &RecordedRun, after: Option<&RecordedRun>) -> Vec<ComparedStage> {
    let others: &[Stage] = after.map_or(&[], |after| &after.stages);
    let in_both = |stage: &Stage| others.iter().find(|other| other.name == stage.name).cloned();
    let known = |stage: &&Stage| before.stages.iter().any(|other| other.name == stage.name);
    let mut rows: Vec<ComparedStage> = (before.stages.iter())
        .map(|stage| ComparedStage { before: Some(stage.clone()), after: in_both(stage) })
        .collect();
    rows.extend(
        (others.iter().filter(|stage| !known(stage)))
            .map(|stage| ComparedStage { before: None, after: Some(stage.clone()) }),
    );
    rows.push(ComparedStage { before: Some(before.whole()), after: after.map(RecordedRun::whole) });
    rows
}

fn time(stage: Option<&Stage>) -> String {
    stage.map_or_else(|| "-".to_owned(), |stage| format!("{:.3} s", stage.wall_seconds))
}

fn peak(stage: Option<&Stage>) -> String {
    stage.map_or_else(|| "-".to_owned(), |stage| format_bytes(stage.peak_bytes).to_string())
}

/// How much larger `after` is than `before`, in per cent.
fn change(before: Option<f64>, after: Option<f64>) -> String {
    match (before, after) {
        (Some(before), Some(after)) if before > 0.0 => {
            format!("{:+.1} %", (after / before - 1.0) * 100.0)
        }
        _ => "-".to_owned(),
    }
}

/// Columns of the longest name, within reason.
fn width(rows: &[ComparedStage]) -> usize {
    rows.iter().map(|row| row.name().chars().count()).max().unwrap_or(0).clamp(9, 32)
}

fn table_of_one(rows: &[ComparedStage], limit_bytes: Option<u64>) -> String {
    let width = width(rows);
    let mut text = format!("{:<width$} {:>11} {:>12}\n", "stage", "time", "peak");
    for row in rows {
        let stage = row.before.as_ref();
        text += &format!("{:<width$} {:>11} {:>12}\n", row.name(), time(stage), peak(stage));
    }
    if let Some(limit) = limit_bytes.filter(|limit| *limit < u64::MAX) {
        text += &format!("limit {}\n", format_bytes(limit));
    }
    text
}

fn table_of_two(rows: &[ComparedStage]) -> String {
    let width = width(rows);
    let mut text = format!(
        "{:<width$} {:>10} {:>10} {:>9} {:>11} {:>11} {:>9}\n",
        "stage", "time A", "time B", "change", "peak A", "peak B", "change"
    );
    for row in rows {
        let (before, after) = (row.before.as_ref(), row.after.as_ref());
        let seconds = |stage: &Stage| stage.wall_seconds;
        let bytes = |stage: &Stage| stage.peak_bytes as f64;
        text += &format!(
            "{:<width$} {:>10} {:>10} {:>9} {:>11} {:>11} {:>9}\n",
            row.name(),
            time(before),
            time(after),
            change(before.map(seconds), after.map(seconds)),
            peak(before),
            peak(after),
            change(before.map(bytes), after.map(bytes)),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stages: &[(&str, f64, u64)]) -> RecordedRun {
        let mut rows = Vec::new();
        for (name, wall, peak) in stages {
            rows.push(json!({"name": name, "wall_seconds": wall, "peak_bytes": peak}));
        }
        let value = json!({"wall_seconds": 4.0, "peak_rss_bytes": 1 << 20, "stages": rows});
        RecordedRun::of_proof(&value).expect("what prove prints")
    }

    #[test]
    fn stages_meet_by_name_and_none_is_lost() {
        let before = run(&[("a", 1.0, 10), ("gone", 1.0, 5), ("a", 1.0, 30)]);
        let after = run(&[("new", 3.0, 7), ("a", 1.0, 60)]);
        let rows = rows(&before, Some(&after));
        let names: Vec<&str> = rows.iter().map(ComparedStage::name).collect();
        assert_eq!(names, ["a", "gone", "new", "whole run"]);
        let text = table_of_two(&rows);
        let a = text.lines().nth(1).expect("a row");
        assert!(a.contains("2.000 s") && a.contains("-50.0 %") && a.contains("+100.0 %"), "{a}");
        assert!(text.lines().nth(2).expect("gone").ends_with('-'));
    }

    #[test]
    fn what_is_no_run_is_refused_with_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.json");
        for (text, word) in [
            ("{", "not JSON"),
            ("{}", "neither"),
            ("{\"plimsoll\":{\"format\":99}}", "format 99"),
            ("{\"plimsoll\":{\"format\":1}}", "damaged"),
            ("{\"stages\":[{\"name\":3}],\"wall_seconds\":1}", "neither"),
        ] {
            std::fs::write(&file, text).expect("a file");
            let error = RecordedRun::read(&file).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains("x.json"), "{error}");
        }
        let error =
            RecordedRun::read(Path::new("/nowhere/y.json")).expect_err("no file").to_string();
        assert!(error.contains("/nowhere/y.json"), "{error}");
    }
}
