//! `plimsoll check`: fails when a change raises the memory peak, and says where.
//!
//! ```text
//!   run x N  ->  stages  ->  the lowest run  ->  compare with peaks.json  ->  report
//!    |-- watch (/proc, signals)                     |-- tolerance
//!    `-- group (cgroup, with --cap)                 `-- baseline (--bless writes it)
//! ```
//!
//! Exit codes: 0 no peak rose; 1 one did, or the cap was reached; 2 trouble: the command failed,
//! there is no baseline, or it is damaged or another command's. Trouble is never taken for a pass.
//!
//! What the command prints goes to standard error; standard output has the report alone.
//!
//! Must never: write the baseline without `--bless`.

mod baseline;
mod compare;
mod group;
mod report;
mod run;
mod stages;
mod tolerance;
mod trouble;
mod watch;

use baseline::Baseline;
use clap::Args;
use compare::{Rss, Verdict, compare};
use plimsoll::limit::parse_bytes;
use report::Report;
use run::Run;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tolerance::{Setting, Tolerances, parse_setting};
use trouble::Trouble;
use watch::Interrupts;

/// Exit code when a peak rose.
const EXIT_REGRESSED: u8 = 1;

/// Exit code when nothing could be compared.
const EXIT_TROUBLE: u8 = 2;

/// Most runs: more is a typing error.
const RUNS_MAX: u64 = 1000;

/// Smallest cap: below it the kernel cannot even start a program.
const CAP_BYTES_MIN: u64 = 1 << 20;

fn cap(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text).map_err(|why| why.to_string())?;
    if bytes < CAP_BYTES_MIN {
        return Err(format!("{text}: a cap below 1 MiB lets no program start"));
    }
    Ok(bytes)
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The peaks to compare with; checked in beside the code.
    #[arg(long, value_name = "FILE")]
    baseline: PathBuf,

    /// Write the baseline from these runs instead of comparing with it.
    #[arg(long)]
    bless: bool,

    /// Runs of the command; the lowest peak of them counts.
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=RUNS_MAX))]
    runs: u64,

    /// Run it in a memory cgroup of its own with this limit, without swap, and compare the peak of
    /// that too. Needs root, or a cgroup that may be divided.
    #[arg(long, value_name = "SIZE", value_parser = cap)]
    cap: Option<u64>,

    /// How much a peak may rise: WHAT is stages, stage:NAME, rss or cgroup; HOW MUCH is 3%, 64MiB,
    /// 0 or off. May be given several times. With --bless it is kept in the baseline.
    #[arg(long = "tolerance", value_name = "WHAT=HOW MUCH", value_parser = parse_setting)]
    tolerances: Vec<Setting>,

    /// What the baseline is of, instead of the command's words: where these hold a folder that
    /// differs from machine to machine.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Write the report as JSON to FILE; - is standard output, and the table then goes to standard
    /// error.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the report as JUnit XML to FILE.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// Print what GitHub Actions shows at the change: ::error and ::notice lines.
    #[arg(long)]
    github: bool,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) const HELP: &str = "\
Exit codes: 0 no peak rose; 1 one rose, or the cap was reached; 2 the command failed, or there is no
baseline to compare with.

Defaults: stages 1% or 64KiB, rss 5% or 2MiB, cgroup 10% or 8MiB, whichever is more.

Examples:
  plimsoll check --baseline peaks.json --bless -- ./prover --threads 1
  plimsoll check --baseline peaks.json --github --junit peaks.xml -- ./prover --threads 1
  plimsoll check --baseline peaks.json --tolerance rss=off --tolerance 'stage:msm A=3%' -- ./p";

pub(super) fn run(args: &CheckArgs) -> ExitCode {
    match check(args) {
        Ok(code) => code,
        Err(trouble) => {
            eprintln!("error: {trouble}");
            if args.github {
                print_all(&report::annotation("error", &args.baseline, &trouble.to_string()));
            }
            ExitCode::from(EXIT_TROUBLE)
        }
    }
}

fn check(args: &CheckArgs) -> Result<ExitCode, Trouble> {
    let now = Baseline::new(words(args), args.runs, args.cap);
    // Before the runs: a missing baseline must not cost their time.
    let was = if args.bless { old_tolerances(&args.baseline) } else { read(args, &now)? };
    let tolerances = Tolerances::of(&was.tolerances, &args.tolerances)
        .map_err(|why| Trouble(format!("{}: {why}", args.baseline.display())))?;
    let runs = all_runs(args)?;
    let now = of_runs(now, &runs, &tolerances);
    if args.bless {
        return bless(args, &now, &runs, &tolerances);
    }
    if now.stages.is_empty() && !was.stages.is_empty() {
        return Err(Trouble(format!(
            "the baseline has {} stages, the command told of none: {} is not handed on to the \
             program, or it no longer makes a plimsoll::Runtime; if that is right, --bless",
            was.stages.len(),
            plimsoll::stage::log::VARIABLE,
        )));
    }
    let rows = compare(&was, &now, &tolerances, rss(&runs));
    let report = Report::new(&args.baseline, rows, &now, &runs);
    publish(args, &report)?;
    Ok(ExitCode::from(if report.regressed() { EXIT_REGRESSED } else { 0 }))
}

/// What the baseline is of.
fn words(args: &CheckArgs) -> Vec<String> {
    if let Some(name) = &args.name {
        return vec![name.clone()];
    }
    let mut words: Vec<String> =
        args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    // target/debug/prover and /usr/bin/prover are one program.
    if let Some(name) = args.command.first().map(Path::new).and_then(Path::file_name) {
        words[0] = name.to_string_lossy().into_owned();
    }
    words
}

fn read(args: &CheckArgs, now: &Baseline) -> Result<Baseline, Trouble> {
    let was = Baseline::read(&args.baseline)?;
    was.check_is_of(now, &args.baseline)?;
    Ok(was)
}

/// The baseline that is written anew: its tolerances stay. A damaged one has none that could.
fn old_tolerances(path: &Path) -> Baseline {
    Baseline::read(path).unwrap_or_else(|why| {
        if path.exists() {
            eprintln!("note: {why}; its tolerances, if any, are lost");
        }
        Baseline::new(Vec::new(), 0, None)
    })
}

fn all_runs(args: &CheckArgs) -> Result<Vec<Run>, Trouble> {
    let mut interrupts =
        Interrupts::catch().map_err(|why| Trouble(format!("signals cannot be handled: {why}")))?;
    let mut runs = Vec::new();
    for index in 1..=args.runs {
        let run = run::run(&args.command, args.cap, &mut interrupts).map_err(|Trouble(why)| {
            Trouble(if args.runs > 1 {
                format!("run {index} of {}: {why}", args.runs)
            } else {
                why
            })
        })?;
        let killed = run.killed_by_cap;
        runs.push(run);
        if killed {
            // The others would be too.
            break;
        }
    }
    Ok(runs)
}

fn rss(runs: &[Run]) -> Rss {
    if runs.iter().all(|run| run.rss_at_most) { Rss::AtMost } else { Rss::Exact }
}

/// The lowest of all runs.
fn of_runs(mut now: Baseline, runs: &[Run], tolerances: &Tolerances) -> Baseline {
    now.peak_rss_bytes = runs.iter().map(|run| run.peak_rss_bytes).min().unwrap_or(0);
    now.cgroup_peak_bytes = runs.iter().filter_map(|run| run.cgroup_peak_bytes).min();
    now.stages = stages::of_all(runs.iter().map(|run| run.stages.as_slice()));
    now.tolerances.clone_from(tolerances.settings());
    now
}

fn bless(
    args: &CheckArgs,
    now: &Baseline,
    runs: &[Run],
    tolerances: &Tolerances,
) -> Result<ExitCode, Trouble> {
    if runs.iter().any(|run| run.killed_by_cap) {
        return Err(Trouble(
            "the command reached the cap and was killed: there is no peak to bless; raise --cap"
                .to_owned(),
        ));
    }
    now.write(&args.baseline)?;
    let mut rows = compare(now, now, tolerances, rss(runs));
    rows.iter_mut().for_each(|row| row.verdict = Verdict::Shown);
    let report = Report::new(&args.baseline, rows, now, runs);
    publish(args, &report)?;
    eprintln!("blessed: {}", args.baseline.display());
    Ok(ExitCode::SUCCESS)
}

fn publish(args: &CheckArgs, report: &Report<'_>) -> Result<(), Trouble> {
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if to_stdout {
        eprint!("{}", report.table());
        print_all(&report.json());
    } else {
        print_all(&report.table());
    }
    if args.github {
        // Beside JSON they would spoil it; GitHub reads both streams.
        let text = report.github();
        if to_stdout { eprint!("{text}") } else { print_all(&text) }
    }
    let files = [
        (args.json.as_ref().filter(|_| !to_stdout), report.json()),
        (args.junit.as_ref(), report.junit()),
    ];
    for (path, text) in files {
        let Some(path) = path else { continue };
        std::fs::write(path, text).map_err(|why| {
            Trouble(format!("{}: the report cannot be written: {why}", path.display()))
        })?;
    }
    Ok(())
}

/// A reader that has seen enough (`check | head -1`) is no error.
fn print_all(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
