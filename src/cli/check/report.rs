//! What was found: as a table, JSON, JUnit XML and lines for GitHub Actions.
//!
//! The JSON is one object on one line:
//!
//! ```text
//!   verdict        ok or regressed: the exit code is 0 or 1
//!   baseline       the file
//!   command        what it is of
//!   runs           a list of: peak_rss_bytes, rss_at_most, tree_rss_bytes, cgroup_peak_bytes,
//!                  killed_by_cap
//!   peaks          a list of: name, metric, verdict, baseline_bytes, now_bytes, allowed_bytes,
//!                  grown (name, baseline_bytes, now_bytes), says
//! ```
//!
//! Fields may be added; none is renamed or taken away without a new major version.
//!
//! Names come from the program that is checked and may hold anything: each format escapes them in
//! its own way, and a control character is never written as it is.

use super::baseline::Baseline;
use super::compare::{Row, Verdict};
use super::run::Run;
use plimsoll::limit::format_bytes;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// Columns of a stage's name in the table; longer ones are cut.
const NAME_COLUMNS: usize = 28;

pub(super) struct Report<'a> {
    baseline: &'a Path,
    rows: Vec<Row>,
    now: &'a Baseline,
    runs: &'a [Run],
}

#[derive(Serialize)]
struct JsonRun {
    peak_rss_bytes: u64,
    rss_at_most: bool,
    tree_rss_bytes: Option<u64>,
    cgroup_peak_bytes: Option<u64>,
    killed_by_cap: bool,
}

#[derive(Serialize)]
struct JsonPeak<'a> {
    #[serde(flatten)]
    row: &'a Row,
    says: String,
}

#[derive(Serialize)]
struct Json<'a> {
    verdict: &'static str,
    baseline: String,
    command: &'a [String],
    runs: Vec<JsonRun>,
    peaks: Vec<JsonPeak<'a>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        baseline: &'a Path,
        rows: Vec<Row>,
        now: &'a Baseline,
        runs: &'a [Run],
    ) -> Self {
        Self { baseline, rows, now, runs }
    }

    /// Whether a peak rose, or the cap was reached.
    pub(super) fn regressed(&self) -> bool {
        self.cap_reached().is_some() || self.with(Verdict::Regressed).next().is_some()
    }

    fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.verdict == verdict)
    }

    fn cap_reached(&self) -> Option<String> {
        let cap = self.now.cap_bytes?;
        self.runs
            .iter()
            .any(|run| run.killed_by_cap)
            .then(|| format!("the command reached the cap of {} and was killed", format_bytes(cap)))
    }

    /// Everything worth a line of its own: first what fails, then what is to be known.
    fn failures(&self) -> Vec<String> {
        let rows = self.with(Verdict::Regressed).map(Row::says);
        self.cap_reached().into_iter().chain(rows).collect()
    }

    fn notes(&self) -> Vec<String> {
        let kinds = [Verdict::New, Verdict::Vanished, Verdict::Improved];
        kinds.into_iter().flat_map(|kind| self.with(kind).map(Row::says)).collect()
    }

    /// A table for people.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{:<NAME_COLUMNS$} {:<6} {:>12} {:>12} {:>12}  {}\n",
            "peak of", "", "baseline", "now", "allowed", "verdict"
        );
        let size = |bytes: Option<u64>| bytes.map_or("-".into(), |b| format_bytes(b).to_string());
        for row in &self.rows {
            let name: String = at_line_start(&row.name).chars().take(NAME_COLUMNS).collect();
            let verdict = match row.verdict {
                Verdict::Regressed => "REGRESSED",
                Verdict::Ok => "ok",
                Verdict::Improved => "lower",
                Verdict::Shown => "",
                Verdict::New => "new",
                Verdict::Vanished => "vanished",
            };
            let line = format!(
                "{name:<NAME_COLUMNS$} {:<6} {:>12} {:>12} {:>12}  {verdict}",
                row.metric,
                size(row.baseline_bytes),
                size(row.now_bytes),
                size(row.allowed_bytes),
            );
            text += line.trim_end();
            text.push('\n');
        }
        text.push('\n');
        text += &self.how_measured();
        for (word, lines) in [("note", self.notes()), ("REGRESSED", self.failures())] {
            for line in lines {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{word}: {}", plain(&line));
            }
        }
        text
    }

    fn how_measured(&self) -> String {
        let mut text = format!("lowest of {} runs", self.runs.len());
        if self.runs.iter().any(|run| run.rss_at_most) {
            text += "; rss is an upper bound: the command is smaller than plimsoll itself";
        } else {
            text += "; rss is VmHWM of the largest process";
        }
        if let Some(tree) = self.runs.iter().filter_map(|run| run.tree_rss_bytes).min() {
            let tree = format_bytes(tree);
            // Writing to a String cannot fail.
            let _ = write!(text, ", all together {tree} (sampled, not compared)");
        }
        if self.now.stages.is_empty() {
            text += "; no stages";
        } else {
            text += "; stages count the bytes of vectors, exactly";
        }
        text + "\n"
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        let run = |run: &Run| JsonRun {
            peak_rss_bytes: run.peak_rss_bytes,
            rss_at_most: run.rss_at_most,
            tree_rss_bytes: run.tree_rss_bytes,
            cgroup_peak_bytes: run.cgroup_peak_bytes,
            killed_by_cap: run.killed_by_cap,
        };
        let json = Json {
            verdict: if self.regressed() { "regressed" } else { "ok" },
            baseline: self.baseline.display().to_string(),
            command: &self.now.command,
            runs: self.runs.iter().map(run).collect(),
            peaks: self.rows.iter().map(|row| JsonPeak { row, says: row.says() }).collect(),
        };
        // Only numbers and text: nothing in it can fail to be written.
        serde_json::to_string(&json).unwrap_or_default() + "\n"
    }

    /// One test case a peak, for CI systems that read JUnit's XML.
    pub(super) fn junit(&self) -> String {
        let failures = self.with(Verdict::Regressed).count();
        let cap = self.cap_reached();
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let counts = format!(
            "name=\"memory peaks\" tests=\"{}\" failures=\"{}\" errors=\"0\"",
            self.rows.len() + usize::from(cap.is_some()),
            failures + usize::from(cap.is_some()),
        );
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "<testsuites>\n  <testsuite {counts}>");
        let suite = xml(&self.now.command.join(" "));
        let rows = self.rows.iter().map(|row| {
            (row.title(), (row.verdict == Verdict::Regressed).then(|| row.says()), row.says())
        });
        let cap = cap.map(|says| ("cap".to_owned(), Some(says.clone()), says));
        for (title, failure, says) in rows.chain(cap) {
            let title = xml(&title);
            let _ = write!(text, "    <testcase classname=\"{suite}\" name=\"{title}\">");
            let _ = match failure {
                Some(why) => write!(text, "<failure message=\"{}\"/>", xml(&why)),
                None => write!(text, "<system-out>{}</system-out>", xml(&says)),
            };
            text += "</testcase>\n";
        }
        text + "  </testsuite>\n</testsuites>\n"
    }

    /// Lines that GitHub Actions turns into annotations.
    pub(super) fn github(&self) -> String {
        let lines = |kind, lines: Vec<String>| {
            lines.iter().map(|line| annotation(kind, self.baseline, line)).collect::<String>()
        };
        lines("error", self.failures()) + &lines("notice", self.notes())
    }
}

/// A line for GitHub Actions: `::error file=F,title=T::text`.
pub(super) fn annotation(kind: &str, file: &Path, text: &str) -> String {
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let file = escape(&file.display().to_string()).replace(':', "%3A").replace(',', "%2C");
    format!("::{kind} file={file},title=memory peak::{}\n", escape(text))
}

/// Text for a terminal or a log: control characters become blanks.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A name at the start of a line, which GitHub Actions must not take for a command of its own: a
/// stage named `::stop-commands::x` would hide every annotation after it.
fn at_line_start(name: &str) -> String {
    let name = plain(name);
    let is_command = ["::", "##["].iter().any(|start| name.trim_start().starts_with(start));
    if is_command { format!("\"{name}\"") } else { name }
}

/// Text inside XML, in an attribute or between tags. XML 1.0 has no way to write most control
/// characters, so they become blanks.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            '\u{fffe}' | '\u{ffff}' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_escapes_what_a_name_holds() {
        let name = "a<b>&\"c'%\n::error::x\u{1}";
        let row = Row {
            name: name.to_owned(),
            metric: "live",
            verdict: Verdict::Regressed,
            baseline_bytes: Some(10),
            now_bytes: Some(20),
            allowed_bytes: Some(11),
            grown: Vec::new(),
        };
        let now = Baseline::new(vec!["a & b".to_owned()], 1, None);
        let runs = [Run::default()];
        let report = Report::new(Path::new("p,q:r.json"), vec![row], &now, &runs);
        let annotations = report.github();
        assert_eq!(annotations.lines().count(), 1, "{annotations}");
        assert!(annotations.starts_with("::error file=p%2Cq%3Ar.json,title="), "{annotations}");
        let junit = report.junit();
        assert!(junit.contains("a&lt;b&gt;&amp;&quot;c&apos;%"), "{junit}");
        assert!(!junit.contains('\u{1}') && junit.contains("failures=\"1\""), "{junit}");
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["peaks"][0]["name"], name);
        assert!(report.table().lines().all(|line| !line.contains('\u{1}')));
    }

    #[test]
    fn no_name_is_a_command_for_github() {
        for (name, shown) in [
            ("::stop-commands::x", "\"::stop-commands::x\""),
            ("\n ##[error]x", "\"  ##[error]x\""),
            ("msm A::b", "msm A::b"),
        ] {
            assert_eq!(at_line_start(name), shown);
        }
    }
}
