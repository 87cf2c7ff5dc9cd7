//! `plimsoll trace FILE --limit SIZE`: what policies of eviction would move for a recorded run.
//!
//! ```text
//!   learn:FILE --touches--> queue, present, best --of each--> bytes read and written
//!              --and the touches of an earlier run--> planned
//! ```
//!
//! Must never: print a figure of a trace that is damaged without saying so.

use super::failure::Failure;
use super::report::{print, tell};
use clap::Args;
use plimsoll::limit::format_bytes;
use plimsoll_swap::pager::{Eviction, GRANULE_BYTES, Moves, Played, Trace};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Largest file read: eight bytes a touch, a hundred million touches.
const FILE_BYTES_MAX: u64 = 1 << 30;

pub(super) const HELP: &str = "\
A trace is what a run under a limit writes with PLIMSOLL_PLAN=learn:FILE. The limit here is what the
pager may hold: the limit of the process without what is not paged.
Exit codes: 0 shown; 2 a file that cannot be read.

Examples:
  PLIMSOLL_PLAN=learn:run.trace PLIMSOLL_LIMIT=8GiB PLIMSOLL_SPILL_DIR=/nvme ./prover
  plimsoll trace run.trace --limit 8GiB
  plimsoll trace second.trace --limit 8GiB --plan first.trace";

#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    /// The trace.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What the pager may hold.
    #[arg(long, value_name = "SIZE", value_parser = plimsoll::limit::parse_bytes)]
    limit: u64,

    /// The trace of an earlier run: what it wanted next is taken for what this one wants next.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,

    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(super) json: bool,
}

/// Reads a file, and says on standard error what it lacks.
fn read(path: &Path) -> Result<Trace, Failure> {
    let bad = |why: &dyn std::fmt::Display| Failure::Input(format!("{}: {why}", path.display()));
    let bytes = std::fs::metadata(path).map_err(|why| bad(&why))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(bad(&format_args!("{} are too many for a trace", format_bytes(bytes))));
    }
    let bytes = std::fs::read(path).map_err(|why| bad(&why))?;
    let trace = Trace::parse(&bytes).map_err(|why| bad(&why))?;
    let shown = path.display();
    if trace.cut {
        tell(format_args!("warning: {shown} is cut or damaged; figures are of its beginning"));
    }
    if trace.lost > 0 {
        let lost = trace.lost;
        tell(format_args!("warning: {shown} lacks {lost} words that came too fast"));
    }
    Ok(trace)
}

/// Plays a trace and prints what would move.
pub(super) fn run(args: &TraceArgs) -> Result<(), Failure> {
    let trace = read(&args.file)?;
    let budget = args.limit / GRANULE_BYTES as u64;
    let played = Played::new(&trace);
    let short = |why| Failure::Input(format!("{why}"));
    let mut rows = Vec::new();
    let all =
        [("queue", Eviction::Queue), ("present", Eviction::Present), ("best", Eviction::Best)];
    for (name, eviction) in all {
        rows.push((name, played.moves(budget, eviction).map_err(short)?));
    }
    if let Some(plan) = &args.plan {
        rows.push(("planned", played.moves_planned(budget, &read(plan)?).map_err(short)?));
    }
    let bytes = |granules: u64| granules * GRANULE_BYTES as u64;
    if args.json {
        let rows = rows.iter().map(|(name, Moves { read, written })| {
            let moved = json!({ "read_bytes": bytes(*read), "written_bytes": bytes(*written) });
            ((*name).to_owned(), moved)
        });
        let object: serde_json::Map<_, _> = rows.collect();
        return print(&format!("{}\n", serde_json::Value::Object(object)));
    }
    let mut table = format!("{:<10} {:>12} {:>12}\n", "eviction", "read", "written");
    for (name, Moves { read, written }) in rows {
        let (read, written) = (format_bytes(bytes(read)), format_bytes(bytes(written)));
        table.push_str(&format!("{name:<10} {read:>12} {written:>12}\n"));
    }
    print(&table)
}
