//! What a permit takes besides its bytes: batches and limits count on its being little.

use crate::children::{child, hear};
use plimsoll::Runtime;
use plimsoll::spill::SpillOptions;
use std::io::BufReader;

const FOLDER: &str = "PLIMSOLL_TEST_FOLDER";
const PERMITS: u64 = 64;

/// A runtime has tables of its pools, a ladder and a spill file. Buffers of its own for the spill
/// file would be 3.3 MiB.
const COST_BYTES_MAX: u64 = 64 << 10;

#[test]
#[ignore = "a part of a_permit_takes_little_besides_its_bytes"]
fn makes_and_drops_permits() {
    let folder = std::env::var_os(FOLDER).expect("a parent");
    let runtime = Runtime::builder().own_limit().spill(SpillOptions::new(folder));
    let runtime = runtime.build().expect("a runtime");
    let permits = |count| -> Vec<_> {
        (0..count).map(|_| runtime.permit("job", 1 << 20).expect("granted")).collect()
    };
    let resident = || runtime.meter().rss_bytes().expect("the kernel's figures");
    // What the first one brings into memory, the others find there.
    drop(permits(1));
    let before = resident();
    let held = permits(PERMITS);
    let in_force = resident();
    drop(held);
    let each = |after: u64| after.saturating_sub(before) / PERMITS;
    println!("cost {} {} bytes", each(in_force), each(resident()));
}

#[test]
fn a_permit_takes_little_besides_its_bytes() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let mut child = child("permit_cost::makes_and_drops_permits", (FOLDER, folder.path()));
    // Kept: a child whose pipe is gone fails.
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let line = hear(&mut lines, "cost ");
    assert!(child.wait().expect("ended").success());
    let said = &line[line.find("cost ").expect("the word")..];
    let costs: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(costs.len(), 2, "{line}");
    assert!(costs.iter().all(|bytes| *bytes <= COST_BYTES_MAX), "{line}");
}
