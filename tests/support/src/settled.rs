//! Waits for the I/O threads: a vector lives until the one that reads or writes it lets it go.

use plimsoll::Runtime;
use plimsoll::spill::SpillStats;
use std::time::{Duration, Instant};

/// Returns what is left of vectors that were all dropped, once no I/O thread has one in hand.
#[must_use]
pub fn settled(runtime: &Runtime) -> SpillStats {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let stats = runtime.spill_stats();
        let left = stats.resident_bytes + stats.packed_bytes + stats.file_bytes;
        if left == 0 || Instant::now() > until {
            return stats;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
