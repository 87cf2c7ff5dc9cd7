//! A runtime's gauges in the text format of Prometheus.
//!
//!     cargo run --release --example prometheus --features metrics
//!
//! A service would call `publish` before it answers a scrape, or on a timer.

use metrics_exporter_prometheus::PrometheusBuilder;
use plimsoll::Runtime;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exporter = PrometheusBuilder::new().install_recorder()?;
    plimsoll::metrics::describe();

    let runtime = Runtime::builder().limit_bytes(1 << 30).build()?;
    let column = runtime.pool().try_zeroed::<u64>(4 << 20)?;
    plimsoll::metrics::publish(&runtime);

    let text = exporter.render();
    assert!(text.contains("plimsoll_live_bytes 33554432"), "32 MiB are in use:\n{text}");
    drop(column);
    print!("{text}");
    Ok(())
}
