//! Gauges of a runtime through the `metrics` facade, for exporters to Prometheus and others.
//!
//! ```text
//!   your exporter <-- metrics facade <-- publish(&runtime), before each scrape or on a timer
//! ```
//!
//! ```
//! let runtime = plimsoll::Runtime::builder().build()?;
//! plimsoll::metrics::describe(); // once, after your exporter is installed
//! plimsoll::metrics::publish(&runtime); // before each scrape
//! # Ok::<(), plimsoll::Error>(())
//! ```
//!
//! | name | kind | meaning |
//! |---|---|---|
//! | `plimsoll_limit_bytes` | gauge | the limit; absent when there is none |
//! | `plimsoll_live_bytes` | gauge | vectors in use |
//! | `plimsoll_cached_bytes` | gauge | free blocks that keep their pages |
//! | `plimsoll_packed_bytes` | gauge | packed copies of vectors, in memory |
//! | `plimsoll_spill_file_bytes` | gauge | the spill file, or the kernel's swap, in use |
//! | `plimsoll_zram_bytes` | gauge | RAM that zram takes for what was spilled to it |
//! | `plimsoll_resident_bytes` | gauge | resident memory of the process |
//! | `plimsoll_peak_resident_bytes` | gauge | its high-water mark (VmHWM) |
//! | `plimsoll_spilled_bytes_total` | counter | bytes written to the spill file |
//! | `plimsoll_loaded_bytes_total` | counter | bytes of vectors brought back |
//! | `plimsoll_stalls_total` | counter | times a vector was needed and not there |
//! | `plimsoll_stalled_seconds` | gauge | seconds waited for that so far, over all threads |
//! | `plimsoll_reclaims_total` | counter | charges that had to reclaim first |
//! | `plimsoll_over_limit_total` | counter | times over the limit with nothing more to give back |
//!
//! Invariants: names are not renamed without a new major version; with no exporter installed
//! `publish` costs some atomic loads and two reads of `/proc`.
//!
//! Must never: install an exporter or start a thread: that is the program's choice.

use crate::Runtime;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// Tells the exporter what each name means. Once, after the exporter is installed.
pub fn describe() {
    let gauges = [
        ("plimsoll_limit_bytes", "memory limit in force"),
        ("plimsoll_live_bytes", "vectors in use"),
        ("plimsoll_cached_bytes", "free blocks that keep their pages"),
        ("plimsoll_packed_bytes", "packed copies of vectors, in memory"),
        ("plimsoll_spill_file_bytes", "spill file or kernel's swap in use"),
        ("plimsoll_zram_bytes", "RAM that zram takes for what was spilled to it"),
        ("plimsoll_resident_bytes", "resident memory of the process"),
        ("plimsoll_peak_resident_bytes", "highest resident memory of the process"),
    ];
    for (name, what) in gauges {
        describe_gauge!(name, Unit::Bytes, what);
    }
    describe_gauge!("plimsoll_stalled_seconds", Unit::Seconds, "waited for vectors not there");
    describe_counter!("plimsoll_spilled_bytes_total", Unit::Bytes, "written to the spill file");
    describe_counter!("plimsoll_loaded_bytes_total", Unit::Bytes, "vectors brought back");
    describe_counter!("plimsoll_stalls_total", Unit::Count, "vectors needed and not there");
    describe_counter!("plimsoll_reclaims_total", Unit::Count, "charges that reclaimed first");
    let over = "times over the limit with nothing more to give back";
    describe_counter!("plimsoll_over_limit_total", Unit::Count, over);
}

/// Sets every gauge and counter to what `runtime` and the process hold now. A figure of the kernel
/// that cannot be read keeps its last value.
pub fn publish(runtime: &Runtime) {
    let pools = [runtime.pool().stats(), runtime.secret_pool().stats()];
    let live: usize = pools.iter().map(|pool| pool.live_bytes).sum();
    let cached: usize = pools.iter().map(|pool| pool.cached_bytes).sum();
    let spill = runtime.spill_stats();
    if let Some(limit) = runtime.limit_bytes() {
        gauge!("plimsoll_limit_bytes").set(limit as f64);
    }
    gauge!("plimsoll_live_bytes").set(live as f64);
    gauge!("plimsoll_cached_bytes").set(cached as f64);
    gauge!("plimsoll_packed_bytes").set(spill.packed_bytes as f64);
    gauge!("plimsoll_spill_file_bytes").set(spill.file_bytes as f64);
    gauge!("plimsoll_zram_bytes").set(spill.zram_bytes as f64);
    if let Ok(bytes) = runtime.meter().rss_bytes() {
        gauge!("plimsoll_resident_bytes").set(bytes as f64);
    }
    if let Ok(bytes) = runtime.meter().peak_rss_bytes() {
        gauge!("plimsoll_peak_resident_bytes").set(bytes as f64);
    }
    gauge!("plimsoll_stalled_seconds").set(spill.stalled_nanos as f64 / 1e9);
    counter!("plimsoll_spilled_bytes_total").absolute(spill.spilled_total);
    counter!("plimsoll_loaded_bytes_total").absolute(spill.loaded_total);
    counter!("plimsoll_stalls_total").absolute(spill.stalls);
    let counts = runtime.enforcement_counts();
    counter!("plimsoll_reclaims_total").absolute(counts.at_charge);
    counter!("plimsoll_over_limit_total").absolute(counts.over_limit);
}
