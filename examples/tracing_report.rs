//! A report and a timeline of a program that knows plimsoll as its global allocator and as a
//! `tracing` layer, and is otherwise as it was.
//!
//!     cargo run --release --example tracing_report -- [FOLDER]
//!     PLIMSOLL_LIMIT=96MiB PLIMSOLL_SPILL_DIR=/var/tmp cargo run ...     the same, paged
//!
//! Writes report.html (open it) and timeline.json (for ui.perfetto.dev) into FOLDER, else here, and
//! prints what each stage had of the allocator.

use plimsoll::record::Recorder;
use std::path::PathBuf;
use tracing_subscriber::prelude::*;

#[global_allocator]
static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();

/// Stands for a prover: its spans are all that the layer knows of it.
#[allow(clippy::cast_precision_loss, reason = "a made-up figure")]
fn prove() -> f64 {
    let _prove = tracing::info_span!("prove").entered();
    let trace: Vec<u64> = tracing::info_span!("trace").in_scope(|| (0..4 << 20).collect());
    let extended: Vec<u64> =
        tracing::info_span!("extend").in_scope(|| trace.iter().flat_map(|x| [*x; 4]).collect());
    let mut sum = 0.0;
    for _round in 0..3 {
        let _fold = tracing::info_span!("fold").entered();
        sum += extended.iter().map(|x| (*x as f64).sqrt()).sum::<f64>();
    }
    sum
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    let recorder = Recorder::builder().title("tracing_report").allocator(&ALLOC).start()?;
    tracing_subscriber::registry().with(recorder.layer()).init();

    println!("sum {:.0}", prove());

    let recording = recorder.finish()?;
    for advice in recording.advice() {
        println!("{}: {}", advice.kind.word(), advice.text);
    }
    println!("MiB of      live at most   packed  spilled  brought back");
    for total in &recording.totals {
        let live = total.allocator.map_or(0, |had| had.live_peak_bytes);
        let bytes = [live, total.packed_bytes, total.spilled_bytes, total.loaded_bytes];
        let [live, packed, spilled, back] = bytes.map(|bytes| bytes >> 20);
        println!("{:<12}{live:>12} {packed:>8} {spilled:>8} {back:>13}", &*total.name);
    }
    recording.write_report(&folder.join("report.html"))?;
    recording.write_timeline(&folder.join("timeline.json"))?;
    println!("wrote report.html and timeline.json to {}", folder.display());
    Ok(())
}
