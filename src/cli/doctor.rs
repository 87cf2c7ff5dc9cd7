//! `plimsoll doctor`.
//!
//! The JSON of `--json` is one object on one line:
//!
//! ```text
//!   worst       ok, warn or fail: the exit code is 0, 1 or 2
//!   findings    a list of: name, level, says, mend (null where the level is ok)
//! ```
//!
//! Fields and findings may be added; none is renamed or taken away without a new major version.

use super::spill::default_folder;
use clap::Args;
use plimsoll::doctor::{Finding, Level, Machine, Probe, examine, worst};
use plimsoll_arena::process::variable;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Columns of a line on a terminal: what the narrowest in use have.
const COLUMNS: usize = 80;

/// Columns before the text of a finding: level, name and the blanks after them.
const INDENT: usize = 20;

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Folder that a spill file would go to. Default: $PLIMSOLL_SPILL_DIR, $TMPDIR, or /var/tmp.
    #[arg(long, value_name = "DIR")]
    spill_dir: Option<PathBuf>,

    /// Time the spill folder: write and read up to 256 MiB there, in a file without a name.
    #[arg(long)]
    probe: bool,

    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,

    /// Read DIR/proc, DIR/sys and DIR/dev instead of this machine's: a tree of files from another.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

#[derive(Serialize)]
struct DoctorReport<'a> {
    worst: Level,
    findings: &'a [Finding],
}

pub(super) fn run(args: &DoctorArgs) -> ExitCode {
    let folder = args.spill_dir.clone().unwrap_or_else(default_folder);
    let probe = if args.probe { Probe::On } else { Probe::Off };
    let findings = examine(&Machine::at(&args.root, &folder, probe));
    let worst = worst(&findings);
    let text = if args.json {
        // Only words and text: nothing in it can fail to be written.
        serde_json::to_string(&DoctorReport { worst, findings: &findings })
            .map_or_else(|why| format!("error: {why}\n"), |text| text + "\n")
    } else {
        let terminal = std::io::stdout().is_terminal();
        let plain = variable("NO_COLOR").is_some();
        let paint = if terminal && !plain { Paint::Colour } else { Paint::Plain };
        lines(&findings, if terminal { COLUMNS } else { usize::MAX }, paint)
    };
    print_all(&text);
    ExitCode::from(match worst {
        Level::Ok => 0,
        Level::Warn => 1,
        Level::Fail => 2,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Paint {
    Plain,
    Colour,
}

/// One paragraph a finding, wrapped before `columns`; commands are never wrapped, so that they can
/// be copied.
fn lines(findings: &[Finding], columns: usize, paint: Paint) -> String {
    let mut text = String::new();
    for finding in findings {
        let (word, colour) = match finding.level {
            Level::Ok => ("ok", 32),
            Level::Warn => ("warn", 33),
            Level::Fail => ("fail", 31),
        };
        let level = match paint {
            Paint::Plain => format!("{word:<4}"),
            Paint::Colour => format!("\x1b[{colour}m{word:<4}\x1b[0m"),
        };
        let says = wrap(&finding.says, columns.saturating_sub(INDENT));
        let says = says.join(&format!("\n{:INDENT$}", ""));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{level}  {:<14}{says}", finding.name);
        if let Some(mend) = &finding.mend {
            let _ = writeln!(text, "      -> {mend}");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let [ok, warn, fail] = [Level::Ok, Level::Warn, Level::Fail].map(count);
    let _ = writeln!(text, "\n{ok} ok, {warn} to look at, {fail} failing");
    text
}

/// Lines of at most `columns`, broken at blanks; a longer word has a line of its own.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A reader that has seen enough (`doctor | head -1`) is no error.
fn print_all(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
