//! A report and a timeline of a program that knows plimsoll only as a `tracing` layer.
//!
//!     cargo run --release --example tracing_report --features layer -- [FOLDER]
//!
//! Writes report.html (open it) and timeline.json (for ui.perfetto.dev) into FOLDER, else here.

use plimsoll::record::Recorder;
use std::path::PathBuf;
use tracing_subscriber::prelude::*;

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
    let recorder = Recorder::builder().title("tracing_report").start()?;
    tracing_subscriber::registry().with(recorder.layer()).init();

    println!("sum {:.0}", prove());

    let recording = recorder.finish()?;
    for advice in recording.advice() {
        println!("{}: {}", advice.kind.word(), advice.text);
    }
    recording.write_report(&folder.join("report.html"))?;
    recording.write_timeline(&folder.join("timeline.json"))?;
    println!("wrote report.html and timeline.json to {}", folder.display());
    Ok(())
}
